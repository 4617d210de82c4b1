//! Any bytes as a PROXY header: a header of at most what was given, more to come, or an error; no panic; the same with more
//! bytes behind it.
#![no_main]

use libfuzzer_sys::fuzz_target;
use nightjar_gateway::proxy_protocol::parse::{Parsed, parse};

fuzz_target!(|bytes: &[u8]| {
    if let Ok(Parsed::Header(header, length)) = parse(bytes) {
        assert!(length <= bytes.len());
        let alone = parse(&bytes[..length]);
        assert_eq!(alone, Ok(Parsed::Header(header, length)));
    }
});
