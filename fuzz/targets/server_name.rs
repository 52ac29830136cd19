//! Server names in documents: what is taken is what a ClientHello may carry, is in
//! lower case, and is read again as itself.
#![no_main]

use std::net::IpAddr;

use libfuzzer_sys::fuzz_target;
use tidegate_core::document::{ServerName, ServerPattern};

fuzz_target!(|text: &str| {
    let Ok(pattern) = text.parse::<ServerPattern>() else {
        assert!(text.parse::<ServerName>().is_err());
        return;
    };
    assert_eq!(pattern.as_str(), text.to_ascii_lowercase());
    assert_eq!(pattern.as_str().parse(), Ok(pattern.clone()));
    let name = pattern.as_str().strip_prefix("*.");
    assert_eq!(text.parse::<ServerName>().is_ok(), name.is_none());
    let name = name.unwrap_or(pattern.as_str());
    assert!(name.parse::<ServerName>().is_ok() && name.parse::<IpAddr>().is_err());
    assert!(name.len() <= 253 && !name.contains(['*', ':', ' ']));
});
