//! Any bytes as a key set: keys or an error, and no secret among them.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| nightjar_connectors::fuzzing::jwks(bytes));
