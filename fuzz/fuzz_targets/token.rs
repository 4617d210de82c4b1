//! Any text as a token: nobody is let in without the key's signature.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| nightjar_connectors::fuzzing::token(text));
