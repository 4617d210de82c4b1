//! `tests/statements-mqttsn.toml` names tests; those of this binary must exist.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

/// Names of this binary's tests, from its sources.
fn tests() -> BTreeSet<String> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/codec");
    let mut names = BTreeSet::new();
    for entry in fs::read_dir(folder).expect("this folder") {
        let path = entry.expect("readable").path();
        let module = path
            .file_stem()
            .expect("a file")
            .to_string_lossy()
            .into_owned();
        let source = fs::read_to_string(&path).expect("text");
        let mut lines = source.lines().map(str::trim);
        while let Some(line) = lines.next() {
            if line == "#[test]" {
                let signature = lines.next().expect("a function follows");
                let name = signature
                    .strip_prefix("fn ")
                    .and_then(|s| s.split('(').next());
                names.insert(format!(
                    "nightjar-mqttsn::codec::{module}::{}",
                    name.expect("a function")
                ));
            }
        }
    }
    names
}

#[test]
fn the_tests_that_statements_name_exist() {
    let tests = tests();
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/statements-mqttsn.toml");
    let text = fs::read_to_string(file).expect("the list of statements");
    let named: Vec<&str> = text
        .split('"')
        .filter(|word| word.starts_with("nightjar-mqttsn::codec::"))
        .collect();
    assert!(named.len() > 60, "{} names", named.len());
    for name in named {
        assert!(tests.contains(name), "{name} is no test");
    }
}
