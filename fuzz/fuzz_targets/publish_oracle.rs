//! The hand-written decoder of PUBLISH and the one made with nom agree, error by error.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    nightjar_mqtt::fuzzing::publish_oracle(data);
});
