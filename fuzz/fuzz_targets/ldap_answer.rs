//! Any bytes as a message of a directory: an answer or an error, never more than was sent.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| nightjar_connectors::fuzzing::ldap_answer(bytes));
