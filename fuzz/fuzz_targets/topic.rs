//! Validation and matching of topics agree with definitions of their own.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    nightjar_mqtt::fuzzing::topic(data);
});
