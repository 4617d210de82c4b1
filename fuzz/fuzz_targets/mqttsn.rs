//! Any datagram: no panic; what decodes encodes to no more octets, and back to the same frame.
#![no_main]

use libfuzzer_sys::fuzz_target;
use nightjar_mqttsn::{Error, Frame, classify};

fuzz_target!(|datagram: &[u8]| {
    classify(datagram);
    let frame = match Frame::decode(datagram) {
        Ok(frame) => frame,
        Err(error) => {
            assert!(Error::REASONS.contains(&error.reason()));
            return;
        }
    };
    let mut out = Vec::new();
    // The encoder gives an encapsulation a 1-octet Length, as the standard has it; the decoder takes the longer one too.
    if frame.encapsulation.is_some_and(|e| e.node_id.len() > 252) {
        assert!(frame.encode(&mut out).is_err());
        return;
    }
    frame.encode(&mut out).expect("it came in a datagram");
    assert!(out.len() <= datagram.len());
    assert_eq!(out.len(), frame.encoded_len());
    assert_eq!(Frame::decode(&out), Ok(frame));
});
