//! Any text as `acl.conf`: rules or errors with a place, no panic; what rules print reads back as the same rules.
#![no_main]

use libfuzzer_sys::fuzz_target;
use nightjar_broker::acl::{Rule, RuleSet};

fuzz_target!(|text: &str| {
    match RuleSet::parse(text, "acl.conf") {
        Ok(set) => {
            let printed: String = set.rules().iter().map(|rule| format!("{rule}\n")).collect();
            let again = RuleSet::parse(&printed, "printed").expect("what a rule prints is a rule");
            assert_eq!(again.len(), set.len());
            for (a, b) in again.rules().iter().zip(set.rules()) {
                assert_eq!(
                    Rule {
                        line: 0,
                        ..a.clone()
                    },
                    Rule {
                        line: 0,
                        ..b.clone()
                    }
                );
            }
        }
        Err(errors) => {
            assert!((1..=20).contains(&errors.0.len()));
            let lines = u32::try_from(text.split('\n').count()).expect("fuzz inputs are small");
            assert!(
                errors
                    .0
                    .iter()
                    .all(|e| (1..=lines).contains(&e.line) && e.column >= 1)
            );
        }
    }
});
