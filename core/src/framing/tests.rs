use super::*;
use proptest::prelude::*;

fn framing() -> Framing {
    Framing::new(8192, 100)
}

fn verdict(bytes: &[u8]) -> Result<Framing, Refused> {
    let mut framing = framing();
    framing.examine(bytes).map(|()| framing)
}

fn head(lines: &str) -> Vec<u8> {
    format!("POST /a HTTP/1.1\r\nHost: h\r\n{lines}\r\n").into_bytes()
}

#[test]
fn a_request_ends_where_it_says() {
    for lines in [
        "",
        "Content-Length: 0\r\n",
        "Content-Length:4\r\n\r\n1234",
        "content-length: \t 4 \t\r\n\r\n1\r\n\r",
        "Transfer-Encoding: Chunked\r\n\r\n4\r\n\r\n\r\n\r\nA;x=\"y\"\r\n0123456789\r\n0\r\nX: y\r\n",
        "Transfer-Encoding: chunked\r\n\r\n000\r\n",
        "X-Empty:\r\nX: \u{e9}\t\r\n",
    ] {
        let mut bytes = head(lines);
        // These have their body, and nothing behind it.
        if lines.to_ascii_lowercase().starts_with("content-length:") && lines.contains("\r\n\r\n") {
            bytes.truncate(bytes.len() - 2);
        }
        let framing = verdict(&bytes).unwrap_or_else(|why| panic!("{lines:?}: {why:?}"));
        assert!(framing.is_between(), "{lines:?}: {framing:?}");
        for cut in 1..bytes.len() {
            let framing = verdict(&bytes[..cut]).unwrap();
            assert!(!framing.is_between(), "{lines:?} is not over after {cut}");
        }
    }
}

#[test]
fn what_has_two_readings_is_refused() {
    for lines in [
        "Content-Length: 4\r\nTransfer-Encoding: chunked\r\n",
        "Transfer-Encoding: chunked\r\nContent-Length: 4\r\n",
        "Content-Length: 4\r\nContent-Length: 5\r\n",
        "Content-Length: 4\r\nContent-Length: 4\r\n",
        "Content-Length: 4, 4\r\n",
        "Content-Length: +4\r\n",
        "Content-Length: -0\r\n",
        "Content-Length: 0x4\r\n",
        "Content-Length: 4 4\r\n",
        "Content-Length:\r\n",
        "Content-Length: 18446744073709551616\r\n",
        "Content-Length: 18446744073709551615\r\n",
        "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n",
        "Transfer-Encoding: gzip, chunked\r\n",
        "Transfer-Encoding: chunked, identity\r\n",
        "Transfer-Encoding: identity\r\n",
        "Transfer-Encoding: xchunked\r\n",
        "Transfer-Encoding: \"chunked\"\r\n",
        "Transfer-Encoding: \u{b}chunked\r\n",
        "Transfer-Encoding: chunked;q=1\r\n",
        "Transfer-Encoding:\r\n",
        "Transfer-Encoding : chunked\r\n",
        "Transfer-Encoding\t: chunked\r\n",
        " Transfer-Encoding: chunked\r\n",
        "X: y\r\n Transfer-Encoding: chunked\r\n",
        "X: y\r\n\tfolded\r\n",
        "X: y\rTransfer-Encoding: chunked\r\n",
        "X: y\nTransfer-Encoding: chunked\r\n",
        "X: y\0\r\n",
        "X: \u{7f}\r\n",
        "Host: other\r\n",
        ": nameless\r\n",
        "no colon\r\n",
        "X[y]: z\r\n",
        "\u{e9}: z\r\n",
        "Transfer-Encoding: chunked\r\n\r\n-1\r\n",
        "Transfer-Encoding: chunked\r\n\r\n0x1\r\n",
        "Transfer-Encoding: chunked\r\n\r\n 1\r\n",
        "Transfer-Encoding: chunked\r\n\r\n1 \r\n",
        "Transfer-Encoding: chunked\r\n\r\n\r\n",
        "Transfer-Encoding: chunked\r\n\r\n1\n",
        "Transfer-Encoding: chunked\r\n\r\n1;x\ny\r\n",
        "Transfer-Encoding: chunked\r\n\r\n1\r\nab\r\n",
        "Transfer-Encoding: chunked\r\n\r\n1\r\na\n0\r\n",
        "Transfer-Encoding: chunked\r\n\r\n10000000000000000\r\n",
        "Transfer-Encoding: chunked\r\n\r\n0\r\nX y\r\n",
        "Transfer-Encoding: chunked\r\n\r\n0\r\n X: y\r\n",
    ] {
        let refused = verdict(&head(lines)).expect_err(lines);
        assert!(matches!(refused.why, Why::Malformed(_)), "{lines:?}");
    }
    for line in [
        "GET / HTTP/1.1\n",
        "GET  / HTTP/1.1\r\n",
        "GET / HTTP/1.1 \r\n",
        "GET /\r\n",
        "GET /a#b HTTP/1.1\r\n",
        "GET /a b HTTP/1.1\r\n",
        "GET\t/ HTTP/1.1\r\n",
        "G(T / HTTP/1.1\r\n",
        "GET / HTTP/1.2\r\n",
        "GET / HTTP/2.0\r\n",
        "PRI * HTTP/2.0\r\n",
        "GET / http/1.1\r\n",
        " GET / HTTP/1.1\r\n",
        "\r\n\r\nGET / HTTP/1.1\r\n",
        "\nGET / HTTP/1.1\r\n",
        "POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n",
    ] {
        assert!(verdict(line.as_bytes()).is_err(), "{line:?}");
    }
}

#[test]
fn nothing_of_a_refused_line_passes() {
    let good = b"GET / HTTP/1.1\r\nHost: h\r\n\r\n";
    let bad = b"GET / HTTP/1.1\r\nX : y\r\n\r\n";
    let refused = verdict(&[good.as_slice(), bad].concat()).unwrap_err();
    assert_eq!(refused.after, good.len() + "GET / HTTP/1.1\r\n".len());
    let mut framing = framing();
    framing.examine(bad).unwrap_err();
    let again = framing.examine(good).unwrap_err();
    assert_eq!(again.after, 0, "it has no second beginning");
}

#[test]
fn heads_and_trailers_have_bounds() {
    let long = |length: usize| format!("X: {}\r\n", "y".repeat(length));
    let most = 8192 - head(&long(0)).len();
    assert!(verdict(&head(&long(most))).is_ok());
    for head in [
        head(&long(most + 1)),
        head(&"X: y\r\n".repeat(100)),
        vec![b'x'; 8193],
        head(&format!(
            "Transfer-Encoding: chunked\r\n\r\n0\r\n{}",
            long(8192)
        )),
    ] {
        assert_eq!(verdict(&head).unwrap_err().why, Why::TooLarge);
    }
    let endless = format!("Transfer-Encoding: chunked\r\n\r\n1;{}", "x".repeat(2000));
    assert!(matches!(
        verdict(&head(&endless)).unwrap_err().why,
        Why::Malformed(_)
    ));
}

#[test]
fn behind_an_upgrade_are_bytes() {
    let bytes = head("Connection: Upgrade\r\nUpgrade: websocket\r\n");
    let mut framing = verdict(&bytes).unwrap();
    assert!(!framing.is_between() && !framing.in_head());
    assert_eq!(framing.examine(b"\0\x01\n"), Ok(()));
}

#[test]
fn a_target_names_one_host() {
    let ends = "192.0.2.1:443".parse().unwrap();
    for (version, uri, hosts, wanted) in [
        (Version::HTTP_11, "/a?b", vec!["h"], Ok("h")),
        (Version::HTTP_11, "http://x:1/a?b", vec!["h"], Ok("x:1")),
        (Version::HTTP_10, "/a?b", vec![], Ok("192.0.2.1:443")),
        (Version::HTTP_2, "https://h/a?b", vec![], Ok("h")),
        (Version::HTTP_2, "https://h/a?b", vec!["H"], Ok("h")),
        (Version::HTTP_11, "/a?b", vec![], Err("Host is missing")),
        (
            Version::HTTP_11,
            "/a?b",
            vec!["h", "h"],
            Err("there is more than one Host"),
        ),
        (
            Version::HTTP_2,
            "https://h/a?b",
            vec!["h", "h"],
            Err("there is more than one Host"),
        ),
        (
            Version::HTTP_2,
            "https://h/a?b",
            vec!["i"],
            Err("Host is another one than :authority"),
        ),
        (
            Version::HTTP_2,
            "https://u@h/a?b",
            vec![],
            Err("Host has user information in it"),
        ),
    ] {
        let mut request = http::Request::builder().uri(uri).version(version);
        for host in hosts {
            request = request.header(HOST, host);
        }
        let mut head = request.body(()).unwrap().into_parts().0;
        let found = target(&mut head, ends).map(|()| head.headers[HOST].to_str().unwrap());
        assert_eq!(found, wanted, "{version:?} {uri}");
        if found.is_ok() {
            assert_eq!(
                (head.uri.to_string().as_str(), head.version),
                ("/a?b", Version::HTTP_11)
            );
        }
    }
}

fn piece() -> impl Strategy<Value = Vec<u8>> {
    let words = [
        "GET / HTTP/1.1\r\n",
        "POST /a HTTP/1.0\r\n",
        "Host: h\r\n",
        "Content-Length: ",
        "3",
        "Transfer-Encoding: chunked\r\n",
        "\r\n",
        "\r\n\r\n",
        "abc",
        "3\r\nabc\r\n",
        "0\r\n\r\n",
        "Upgrade: websocket\r\n",
        "\r",
        "\n",
        ":",
        " ",
        "\0",
        ";",
    ];
    let known = prop::sample::select(words.to_vec()).prop_map(|word| word.as_bytes().to_vec());
    prop_oneof![8 => known, 1 => proptest::collection::vec(any::<u8>(), 0..4)]
}

proptest! {
    #[test]
    fn how_bytes_are_cut_changes_nothing(
        pieces in proptest::collection::vec(piece(), 0..20),
        size in 1_usize..9,
    ) {
        let bytes = pieces.concat();
        let whole = verdict(&bytes);
        let mut framing = framing();
        let mut passed = 0;
        let mut cut = Ok(());
        for part in bytes.chunks(size) {
            cut = framing.examine(part);
            if cut.is_err() {
                break;
            }
            passed += part.len();
        }
        match (whole, cut) {
            (Ok(whole), Ok(())) => prop_assert_eq!(whole.is_between(), framing.is_between()),
            (Err(whole), Err(cut)) => {
                prop_assert_eq!(whole.why, cut.why);
                // What is cut inside a line has passed before the line was known.
                prop_assert!(passed + cut.after >= whole.after);
            }
            (whole, cut) => prop_assert!(false, "{:?} {:?}", whole, cut),
        }
    }

    #[test]
    fn what_is_sent_well_passes_and_ends(
        bodies in proptest::collection::vec((any::<bool>(), proptest::collection::vec(any::<u8>(), 0..40)), 1..5),
    ) {
        let mut framing = framing();
        for (chunked, body) in bodies {
            let length = body.len();
            let (line, body) = match chunked {
                true => {
                    let mut chunks = Vec::new();
                    for chunk in body.chunks(7) {
                        chunks.extend(format!("{:x}\r\n", chunk.len()).bytes());
                        chunks.extend([chunk, b"\r\n"].concat());
                    }
                    chunks.extend(b"0\r\n\r\n");
                    ("Transfer-Encoding: chunked".to_owned(), chunks)
                }
                false => (format!("Content-Length: {length}"), body),
            };
            let request = format!("PUT / HTTP/1.1\r\nHost: h\r\n{line}\r\n\r\n");
            prop_assert_eq!(framing.examine(request.as_bytes()), Ok(()));
            prop_assert_eq!(framing.examine(&body), Ok(()));
            prop_assert!(framing.is_between());
        }
    }
}
