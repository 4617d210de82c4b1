//! Any status and body of a web service: allow, deny, ignore or nonsense; only 200 and 204 allow.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|answer: (u16, bool, &[u8])| {
    let (status, json, body) = answer;
    nightjar_connectors::fuzzing::http_answer(100 + status % 500, json, body);
});
