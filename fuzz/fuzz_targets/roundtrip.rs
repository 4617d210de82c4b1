//! A packet made from the bytes, encoded and decoded, is the same; the fast encoder writes the same bytes.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    nightjar_mqtt::fuzzing::roundtrip(data);
});
