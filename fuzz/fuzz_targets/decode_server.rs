//! What a client sends: never panics, never reads past the frame, comes back the same when encoded.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    nightjar_mqtt::fuzzing::decode_server(data);
});
