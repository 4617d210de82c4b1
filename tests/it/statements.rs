//! `tests/statements.toml` and `tests/statements-mqttsn.toml` against the standards: no normative statement is missing, and
//! each named test exists.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

use serde::Deserialize;

/// How many numbered statements each section of MQTT 3.1.1 has (its Appendix B, 141 in all).
const MQTT_311: &[(&str, u32)] = &[
    ("1.5.3", 3),
    ("2.2.2", 2),
    ("2.3.1", 7),
    ("3.1.0", 2),
    ("3.1.2", 24),
    ("3.1.3", 11),
    ("3.1.4", 5),
    ("3.2.0", 1),
    ("3.2.2", 6),
    ("3.3.1", 12),
    ("3.3.2", 3),
    ("3.3.4", 1),
    ("3.3.5", 2),
    ("3.6.1", 1),
    ("3.8.1", 1),
    ("3.8.3", 4),
    ("3.8.4", 6),
    ("3.9.3", 2),
    ("3.10.1", 1),
    ("3.10.3", 2),
    ("3.10.4", 6),
    ("3.12.4", 1),
    ("3.14.1", 1),
    ("3.14.4", 3),
    ("4.1.0", 2),
    ("4.3.1", 1),
    ("4.3.2", 2),
    ("4.3.3", 2),
    ("4.4.0", 1),
    ("4.5.0", 2),
    ("4.6.0", 6),
    ("4.7.1", 3),
    ("4.7.2", 1),
    ("4.7.3", 4),
    ("4.8.0", 2),
    ("6.0.0", 4),
    ("7.0.0", 2),
    ("7.1.1", 1),
    ("7.1.2", 1),
];

/// The same for MQTT 5.0 (251 in all). Section 2.2.1 begins with number 2.
const MQTT_5: &[(&str, u32)] = &[
    ("1.5.4", 3),
    ("1.5.5", 1),
    ("1.5.7", 1),
    ("2.1.3", 1),
    ("2.2.1", 6),
    ("2.2.2", 1),
    ("3.1.0", 2),
    ("3.1.2", 30),
    ("3.1.3", 12),
    ("3.1.4", 6),
    ("3.2.0", 2),
    ("3.2.2", 22),
    ("3.3.1", 13),
    ("3.3.2", 20),
    ("3.3.4", 10),
    ("3.4.2", 3),
    ("3.5.2", 3),
    ("3.6.1", 1),
    ("3.6.2", 3),
    ("3.7.2", 3),
    ("3.8.1", 1),
    ("3.8.3", 5),
    ("3.8.4", 8),
    ("3.9.2", 2),
    ("3.9.3", 2),
    ("3.10.1", 1),
    ("3.10.3", 2),
    ("3.10.4", 6),
    ("3.11.2", 2),
    ("3.11.3", 2),
    ("3.12.4", 1),
    ("3.14.0", 1),
    ("3.14.1", 1),
    ("3.14.2", 4),
    ("3.14.4", 3),
    ("3.15.1", 1),
    ("3.15.2", 3),
    ("4.1.0", 2),
    ("4.2.0", 1),
    ("4.3.1", 1),
    ("4.3.2", 5),
    ("4.3.3", 13),
    ("4.4.0", 2),
    ("4.5.0", 2),
    ("4.6.0", 6),
    ("4.7.0", 1),
    ("4.7.1", 2),
    ("4.7.2", 1),
    ("4.7.3", 4),
    ("4.8.2", 6),
    ("4.9.0", 3),
    ("4.12.0", 7),
    ("4.12.1", 2),
    ("4.13.1", 1),
    ("4.13.2", 1),
    ("6.0.0", 4),
];

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Statement {
    id: String,
    says: String,
    #[serde(default)]
    tests: Vec<String>,
    none: Option<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Statements {
    mqtt311: Vec<Statement>,
    mqtt5: Vec<Statement>,
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn statements() -> Statements {
    let text = fs::read_to_string(root().join("tests/statements.toml"))
        .expect("tests/statements.toml is readable");
    toml::from_str(&text).expect("tests/statements.toml keeps to its form")
}

/// The ids of a version, from the counts of its sections.
fn ids(sections: &[(&str, u32)], absent: &[&str]) -> BTreeSet<String> {
    sections
        .iter()
        .flat_map(|(section, count)| (1..=*count).map(move |n| format!("MQTT-{section}-{n}")))
        .filter(|id| !absent.contains(&id.as_str()))
        .collect()
}

fn assert_complete(found: &[Statement], expected: &BTreeSet<String>) {
    let mut seen = BTreeSet::new();
    for statement in found {
        assert!(
            seen.insert(statement.id.clone()),
            "{} is listed twice",
            statement.id
        );
    }
    let missing: Vec<_> = expected.difference(&seen).collect();
    let unknown: Vec<_> = seen.difference(expected).collect();
    assert!(
        missing.is_empty(),
        "statements that are not listed: {missing:?}"
    );
    assert!(
        unknown.is_empty(),
        "the standard has no such statements: {unknown:?}"
    );
}

#[test]
fn every_statement_of_mqtt_3_1_1_is_listed() {
    let expected = ids(MQTT_311, &[]);
    assert_eq!(expected.len(), 141);
    assert_complete(&statements().mqtt311, &expected);
}

#[test]
fn every_statement_of_mqtt_5_is_listed() {
    let expected = ids(MQTT_5, &["MQTT-2.2.1-1"]);
    assert_eq!(expected.len(), 251);
    assert_complete(&statements().mqtt5, &expected);
}

#[test]
fn every_statement_has_a_test_or_a_reason() {
    let all = statements();
    for statement in all.mqtt311.iter().chain(&all.mqtt5) {
        assert!(
            !statement.says.is_empty(),
            "{} does not say what it asks for",
            statement.id
        );
        match &statement.none {
            Some(reason) => {
                assert!(!reason.is_empty(), "{}: an empty reason", statement.id);
                assert!(
                    statement.tests.is_empty(),
                    "{} has tests and a reason for none",
                    statement.id
                );
            }
            None => assert!(
                !statement.tests.is_empty(),
                "{} has neither a test nor a reason",
                statement.id
            ),
        }
    }
}

/// Whether `source` defines the test `name`: a Rust or Python function, or a case of one of the tables of
/// tests/outside/raw, whose name is the table's and the case's, both string literals there.
fn defines(source: &str, name: &str) -> bool {
    let function = |keyword: &str| source.contains(&format!("{keyword} {name}("));
    let literal = |part: &str| source.contains(&format!("\"{part}\""));
    let mut splits = name.match_indices('_');
    function("fn")
        || function("def")
        || literal(name)
        || splits.any(|(at, _)| literal(&name[..at]) && literal(&name[at + 1..]))
}

#[test]
fn every_named_test_exists() {
    let all = statements();
    let mut sources = BTreeMap::new();
    for statement in all.mqtt311.iter().chain(&all.mqtt5) {
        for test in &statement.tests {
            let (file, name) = test.split_once("::").expect("a test is named file::test");
            let source = sources
                .entry(file.to_owned())
                .or_insert_with(|| fs::read_to_string(root().join(file)).unwrap_or_default());
            assert!(
                defines(source, name),
                "{}: no test {name} in {file}",
                statement.id
            );
        }
    }
}

#[test]
fn a_name_that_no_source_defines_is_found_out() {
    let source = "fn delivered_once() {}\nasync def retained(t):\ntable(__file__, \"refused\", [(\"flag\", 1)])\n";
    for name in ["delivered_once", "retained", "refused_flag"] {
        assert!(defines(source, name), "{name}");
    }
    for name in ["delivered", "once", "refused_qos", "refused_flags", "kept"] {
        assert!(!defines(source, name), "{name}");
    }
}

/// The sections of MQTT-SN 1.2 with the number of their subsections at the next level, which are numbered from 1.
const MQTT_SN: &[(&str, u32)] = &[
    ("", 7),
    ("4", 2),
    ("5", 5),
    ("5.2", 2),
    ("5.3", 14),
    ("5.4", 25),
    ("6", 14),
    ("7", 4),
];

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct SnFile {
    section: Vec<SnSection>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct SnSection {
    number: String,
    title: String,
    none: Option<String>,
    #[serde(default)]
    statement: Vec<Statement>,
}

fn sn_sections() -> Vec<SnSection> {
    let text = fs::read_to_string(root().join("tests/statements-mqttsn.toml"))
        .expect("tests/statements-mqttsn.toml is readable");
    let file: SnFile =
        toml::from_str(&text).expect("tests/statements-mqttsn.toml keeps to its form");
    file.section
}

#[test]
fn every_section_of_mqtt_sn_is_listed_and_says_what_it_asks_for_or_why_nothing() {
    let expected: BTreeSet<String> = MQTT_SN
        .iter()
        .flat_map(|(section, count)| {
            (1..=*count).map(move |n| {
                if section.is_empty() {
                    n.to_string()
                } else {
                    format!("{section}.{n}")
                }
            })
        })
        .collect();
    let sections = sn_sections();
    let listed: BTreeSet<String> = sections.iter().map(|s| s.number.clone()).collect();
    assert_eq!(listed, expected);
    assert_eq!(sections.len(), expected.len(), "a section is listed twice");
    for section in &sections {
        assert!(!section.title.is_empty(), "{} has no title", section.number);
        assert_eq!(
            section
                .none
                .as_ref()
                .is_some_and(|reason| !reason.is_empty()),
            section.statement.is_empty(),
            "{}: statements, or a reason for none",
            section.number
        );
    }
}

#[test]
fn every_statement_of_mqtt_sn_has_a_test_or_a_reason() {
    let mut seen = BTreeSet::new();
    for section in sn_sections() {
        for statement in section.statement {
            let number = statement
                .id
                .strip_prefix(&format!("{}-", section.number))
                .and_then(|number| number.parse::<u32>().ok());
            assert!(
                number.is_some(),
                "{} does not belong to section {}",
                statement.id,
                section.number
            );
            assert!(!statement.says.is_empty(), "{}", statement.id);
            assert!(
                seen.insert(statement.id.clone()),
                "{} is listed twice",
                statement.id
            );
            match &statement.none {
                Some(reason) => assert!(
                    !reason.is_empty() && statement.tests.is_empty(),
                    "{}: a reason for none, and tests",
                    statement.id
                ),
                None => assert!(
                    !statement.tests.is_empty(),
                    "{} has neither a test nor a reason",
                    statement.id
                ),
            }
        }
    }
    assert_eq!(seen.len(), 149, "statements");
}

/// The file and the function of a test: `folder/file.py::function`, or `package::test binary::module::function`.
fn test_file(test: &str) -> (String, &str) {
    let (path, name) = test
        .rsplit_once("::")
        .expect("a test has a file and a name");
    if path.ends_with(".py") {
        return (path.to_owned(), name);
    }
    let mut words = path.split("::");
    let folder = match words.next() {
        Some("nightjar-mqttsn") => "protocols/mqttsn",
        Some("nightjar-gateway") => "gateway",
        Some("nightjar-client") => "client",
        other => panic!("{test}: no package {other:?} has tests of MQTT-SN"),
    };
    let modules: Vec<_> = words.collect();
    (format!("{folder}/tests/{}.rs", modules.join("/")), name)
}

/// Whether `source` has a test of this name: a Rust function below `#[test]`, or a Python function below `@case(...)`.
fn has_test(source: &str, name: &str) -> bool {
    let mut marked = false;
    for line in source.lines().map(str::trim) {
        let defined = line.strip_prefix("async ").unwrap_or(line);
        let function = ["fn ", "def "]
            .iter()
            .find_map(|keyword| defined.strip_prefix(keyword));
        if let Some(rest) = function {
            if marked
                && rest
                    .strip_prefix(name)
                    .is_some_and(|rest| rest.starts_with('('))
            {
                return true;
            }
            marked = false;
        }
        marked |=
            line == "#[test]" || line.starts_with("#[tokio::test") || line.starts_with("@case(");
    }
    false
}

#[test]
fn every_named_test_of_mqtt_sn_exists() {
    let mut sources = BTreeMap::new();
    for statement in sn_sections().iter().flat_map(|section| &section.statement) {
        for test in &statement.tests {
            let (file, name) = test_file(test);
            let source = sources
                .entry(file.clone())
                .or_insert_with(|| fs::read_to_string(root().join(&file)).unwrap_or_default());
            assert!(
                has_test(source, name),
                "{}: no test {name} in {file}",
                statement.id
            );
        }
    }
}

#[test]
fn a_function_that_is_no_test_is_found_out() {
    let source =
        "#[test]\nfn one() {}\nfn helper() {}\n@case(\"6.1-1\")\ndef two(t):\n    def inner(x):\n";
    assert!(has_test(source, "one") && has_test(source, "two"));
    for name in ["helper", "inner", "on", "tw", "three"] {
        assert!(!has_test(source, name), "{name}");
    }
}
