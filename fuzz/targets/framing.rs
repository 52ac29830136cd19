//! Requests of HTTP/1.1: where bytes are cut changes no verdict, a verdict is final, and
//! no line is held that is longer than a head may be.
#![no_main]

use libfuzzer_sys::fuzz_target;
use tidegate_core::framing::Framing;

const MOST: usize = 8192;

fuzz_target!(|input: &[u8]| {
    let Some((size, bytes)) = input.split_first() else {
        return;
    };
    let mut whole = Framing::new(MOST, 100);
    let verdict = whole.examine(bytes);
    let mut cut = Framing::new(MOST, 100);
    let parts = bytes.chunks(usize::from(*size).max(1));
    let refused = parts.map(|part| cut.examine(part)).find_map(Result::err);
    assert_eq!(
        verdict.map_err(|r| r.why),
        refused.map_or(Ok(()), |r| Err(r.why))
    );
    assert_eq!(whole.is_between(), cut.is_between());
    if let Err(refused) = verdict {
        assert!(refused.after <= bytes.len());
        // What comes before passes by itself, and nothing after it ever does.
        let before = bytes.get(..refused.after).unwrap_or_default();
        assert_eq!(Framing::new(MOST, 100).examine(before), Ok(()));
        let again = whole.examine(b"GET / HTTP/1.1\r\nHost: h\r\n\r\n");
        assert_eq!(again.map_err(|r| (r.after, r.why)), Err((0, refused.why)));
    }
});
