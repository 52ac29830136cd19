//! The first bytes of TLS clients: a verdict is final, nothing beyond 16 KiB is waited
//! for, and a server name is one that the document could have.
#![no_main]

use libfuzzer_sys::fuzz_target;
use tidegate_core::client_hello::{MAX, Read, read};
use tidegate_core::document::ServerName;

fuzz_target!(|bytes: &[u8]| {
    let mut ends = 0..=bytes.len();
    let Some(at) = ends.find(|end| read(&bytes[..*end]) != Ok(Read::Partial)) else {
        assert!(bytes.len() < MAX, "waits for ever");
        return;
    };
    let verdict = read(&bytes[..at]);
    assert_eq!(read(bytes), verdict);
    if let Ok(Read::Whole {
        server_name: Some(name),
    }) = verdict
    {
        let name = name.as_str();
        assert_eq!(
            name.parse::<ServerName>().map(|name| name.to_string()),
            Ok(name.to_owned())
        );
    }
});
