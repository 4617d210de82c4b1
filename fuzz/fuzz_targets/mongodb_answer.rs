//! Any bytes as an answer of MongoDB: users and rules, or an error.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    nightjar_connectors::fuzzing::mongodb_answer(bytes);
});
