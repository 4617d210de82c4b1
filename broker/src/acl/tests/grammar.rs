//! What the parser says to mistakes, and what it lets pass.

use crate::acl::{RuleSet, SyntaxErrors};

fn errors(text: &str) -> String {
    match RuleSet::parse(text, "acl.conf") {
        Ok(_) => panic!("no error: {text}"),
        Err(errors) => errors.to_string(),
    }
}

#[test]
fn mistakes_are_named_with_line_column_expected_and_got() {
    let table = [
        (
            "{permit, all}.",
            "1:2: expected allow or deny, got `permit`",
        ),
        (
            "{allow, all}",
            "1:13: expected '.' after the rule, got the end of the file",
        ),
        (
            "{allow, all}\n{deny, all}.",
            "2:1: expected '.' after the rule, got `{`",
        ),
        ("{allow, all.", "1:12: expected ',' or '}', got `.`"),
        (
            "% c\n  {allow, {user, bob}}.",
            "2:18: expected a string or {re, \"expression\"}, got `bob`",
        ),
        (
            "{allow, {zone, \"x\"}}.",
            "1:9: expected all, {user, _}, {username, {re, _}}",
        ),
        (
            "{allow, all, write}.",
            "1:14: expected publish, subscribe, pubsub, all, or one of them with options",
        ),
        (
            "{allow, all, {publish, [{qos, 3}]}}.",
            "1:31: expected QoS 0, 1 or 2, got `3`",
        ),
        (
            "{allow, all, {subscribe, [{retain, true}]}}.",
            "1:27: expected {qos, 0..2}, got `{`",
        ),
        (
            "{allow, all, {publish, [{retain, 1}]}}.",
            "1:34: expected true, false or all, got `1`",
        ),
        (
            "{allow, {ipaddr, \"10.0.0.0/33\"}}.",
            "1:18: expected a prefix length of 0 to 32 for IPv4 or 0 to 128 for IPv6 behind '/', got \"10.0.0.0/33\"",
        ),
        (
            "{allow, {ipaddr, \"localhost\"}}.",
            "1:18: expected an IPv4 or IPv6 address or network, got \"localhost\"",
        ),
        (
            "{allow, {ipaddrs, []}}.",
            "1:19: expected a list of addresses, got `[`",
        ),
        (
            "{allow, {username, {re, \"(\"}}}.",
            "1:25: expected a regular expression, got \"(\"",
        ),
        (
            "{allow, all, publish, []}.",
            "1:23: expected a list of at least one topic, got `[`",
        ),
        (
            "{allow, all, publish, [\"a/#/b\"]}.",
            "1:24: expected a topic filter, got \"a/#/b\" (expected '#' alone in the last level",
        ),
        (
            "{allow, all, publish, [\"a+\"]}.",
            "1:24: expected a topic filter, got \"a+\"",
        ),
        (
            "{allow, all, publish, [\"\"]}.",
            "1:24: expected a topic filter, got \"\"",
        ),
        (
            "{allow, all, publish, [\"${user}\"]}.",
            "1:24: expected a topic filter, got \"${user}\" (expected ${username}, ${clientid}",
        ),
        (
            "{allow, all, publish, [\"${user\"]}.",
            "(expected '}' after '${')",
        ),
        (
            "{allow, all, publish, [{ne, \"a\"}]}.",
            "1:24: expected a topic filter or {eq, \"filter\"}, got `{`",
        ),
        (
            "{allow, all, publish, [\"a\"], 5}.",
            "1:1: expected a rule of 2 to 4 parts",
        ),
        ("{allow}.", "1:1: expected a rule of 2 to 4 parts"),
        (
            "allow.",
            "1:1: expected a rule such as `{allow, all}.`, got `allow`",
        ),
        (
            "{allow, \"\u{e9}\u{e9}\", x y}.",
            "1:17: expected ',' or '}', got `y`",
        ),
        (
            "{allow, all}.{deny, all}.",
            "1:14: expected a new line after '.', got `{`",
        ),
        (
            "{allow, {user, \"x}}.\n",
            "expected a closing '\"', got the end of the file",
        ),
        ("{allow, All}.", "1:9: expected a term, got `All`"),
    ];
    for (text, expected) in table {
        let got = errors(text);
        let first = got.lines().next().expect("one line");
        assert!(first.starts_with("acl.conf:"), "{first}");
        assert!(
            first.contains(expected),
            "{text}\n  got      {first}\n  expected {expected}"
        );
    }
}

#[test]
fn several_mistakes_are_told_at_once() {
    let text = "{allow, nobody}.\n{allow, all}.\n{deny, all, publish, [\"a\"\n\n{allow, {ipaddr, 5}}.\n{allow, all, x}.\n";
    let Err(SyntaxErrors(errors)) = RuleSet::parse(text, "acl.conf") else {
        panic!("no error");
    };
    let lines: Vec<u32> = errors.iter().map(|e| e.line).collect();
    assert_eq!(lines, [1, 5, 6]);
    let many = "{allow, x}.\n".repeat(1000);
    let Err(SyntaxErrors(errors)) = RuleSet::parse(&many, "acl.conf") else {
        panic!("no error");
    };
    assert_eq!(errors.len(), 20);
}

#[test]
fn layout_and_comments_are_free() {
    let text = "\u{feff}%% head\r\n\r\n{ allow , % who\n  {'and', [ {user , \"a%b\"} ,\n\t{ipaddr,\"::1\"} ]} ,\n  pubsub, [ \"x\" , {eq, \"#\"} ] } .\r\n{deny,all}.% end";
    let set = RuleSet::parse(text, "acl.conf").expect("valid");
    let lines: Vec<u32> = set.rules().iter().map(|r| r.line).collect();
    assert_eq!(lines, [3, 7]);
    assert_eq!(
        set.rules()[0].to_string(),
        "{allow, {'and', [{user, \"a%b\"}, {ipaddr, \"::1\"}]}, all, [\"x\", {eq, \"#\"}]}."
    );
    assert!(RuleSet::parse("", "x").expect("valid").is_empty());
    assert!(
        RuleSet::parse("% only this", "x")
            .expect("valid")
            .is_empty()
    );
}

#[test]
fn the_shipped_example_is_valid() {
    let text = include_str!("../../../../etc/acl.conf");
    let set = RuleSet::parse(text, "etc/acl.conf").expect("valid");
    assert!(!set.is_empty());
    // The commented examples are rules too.
    let examples: String = text
        .lines()
        .filter_map(|line| line.trim().strip_prefix("%% "))
        .filter(|line| line.starts_with("{allow") || line.starts_with("{deny"))
        .map(|line| format!("{line}\n"))
        .collect();
    let set = RuleSet::parse(&examples, "examples").expect("valid");
    assert!(set.len() >= 10, "{examples}");
}
