//! PROXY headers from outside: a verdict is final, a header is whole exactly at its
//! last byte, all extensions are read, and what was read is written and read again as
//! itself.
#![no_main]

use libfuzzer_sys::fuzz_target;
use tidegate_core::proxy_protocol::{Decoded, Extensions, Tlvs, Version, decode, encode_with};

fuzz_target!(|bytes: &[u8]| {
    // Longer than any header: what follows is not looked at.
    let bytes = &bytes[..bytes.len().min(5_000)];
    let first = (0..=bytes.len()).find(|end| decode(&bytes[..*end]) != Ok(Decoded::Partial));
    let Some(at) = first else { return };
    let verdict = decode(&bytes[..at]);
    match verdict {
        Err(_) => assert!(decode(bytes).is_err(), "refused, and then not"),
        Ok(_) => assert_eq!(decode(bytes), verdict),
    }
    let Ok(Decoded::Whole {
        header,
        extensions,
        length,
    }) = verdict
    else {
        return;
    };
    assert_eq!(length, at);
    let came = &bytes[extensions..length];
    let read: usize = Tlvs::new(came)
        .iter()
        .map(|(_, value)| 3 + value.len())
        .sum();
    assert_eq!(read, came.len());

    for version in [Version::V1, Version::V2] {
        let passed = Extensions {
            pass: Tlvs::new(came),
            ..Extensions::default()
        };
        let written = encode_with(version, &header, &passed);
        let again = decode(written.as_bytes());
        let Ok(Decoded::Whole {
            header: read,
            length,
            ..
        }) = again
        else {
            panic!("{again:?} of what was written for {header:?}");
        };
        assert_eq!((read, length), (header, written.as_bytes().len()));
    }
});
