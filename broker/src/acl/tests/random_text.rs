//! Random and mutated files: the parser answers with rules or errors, whatever it is given.

use std::time::{Duration, Instant};

use crate::acl::RuleSet;

/// SplitMix64: a fixed sequence, so that a failure comes again.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    fn below(&mut self, n: usize) -> usize {
        (self.next() % n as u64) as usize
    }
}

const PIECES: [&str; 48] = [
    "{",
    "}",
    "[",
    "]",
    ",",
    ".",
    "\"",
    "'",
    "%",
    "\n",
    " ",
    "\\",
    "<<",
    ">>",
    "\"a\"",
    "\"a/+\"",
    "\"#\"",
    "allow",
    "deny",
    "all",
    "user",
    "username",
    "client",
    "clientid",
    "re",
    "ipaddr",
    "ipaddrs",
    "and",
    "'or'",
    "listener",
    "publish",
    "subscribe",
    "pubsub",
    "qos",
    "retain",
    "true",
    "0",
    "-1",
    "eq",
    "${username}",
    "%u",
    "{allow, all}.\n",
    "{deny, {user, \"x\"}, publish, [\"a/#\"]}.\n",
    "\u{1F980}",
    "\0",
    "\"10.0.0.0/8\"",
    "\\x{41}",
    "{eq, \"#\"}",
];

/// What must hold of any text; shared in spirit with the fuzz target `acl`.
fn check(text: &str) {
    match RuleSet::parse(text, "f") {
        Ok(set) => {
            let written: String = set.rules().iter().map(|r| format!("{r}\n")).collect();
            let again = RuleSet::parse(&written, "f").expect("what Display writes is valid");
            assert_eq!(again.len(), set.len());
        }
        Err(errors) => {
            assert!((1..=20).contains(&errors.0.len()));
            for error in &errors.0 {
                let lines = text.lines().count().max(1) as u32 + 1;
                assert!((1..=lines).contains(&error.line), "{error}\n{text}");
                assert!(error.column >= 1);
            }
        }
    }
}

#[test]
fn any_text_gives_rules_or_errors() {
    let mut random = Random(0x5EED);
    let valid = include_str!("../../../../etc/acl.conf");
    let end = Instant::now() + Duration::from_secs(30);
    for round in 0..1_000_000_u32 {
        if round % 1024 == 0 && Instant::now() > end {
            break;
        }
        if round % 64 == 0 {
            // The shipped file with bytes changed, cut or doubled.
            let mut bytes = valid.as_bytes().to_vec();
            for _ in 0..=random.below(4) {
                let at = random.below(bytes.len());
                match random.below(3) {
                    0 => bytes[at] = random.next() as u8,
                    1 => drop(bytes.drain(at..(at + random.below(9)).min(bytes.len()))),
                    _ => bytes.insert(at, b"{}[]\"'.,%\\"[random.below(10)]),
                }
            }
            check(&String::from_utf8_lossy(&bytes));
        } else {
            let text: String = (0..random.below(24))
                .map(|_| PIECES[random.below(PIECES.len())])
                .collect();
            check(&text);
        }
    }
}
