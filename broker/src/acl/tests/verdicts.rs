//! The table of (rules, client, action) and verdict: every form of the grammar, every rule of matching.

use super::{action, described};
use crate::access::Verdict::{self, Allow, AllowChecked, Deny, NoMatch, NoMatchChecked};
use crate::acl::RuleSet;

/// Rules; client in words; action in words; verdict.
type Row = (&'static str, &'static str, &'static str, Verdict);

fn check(table: &[Row]) {
    for (rules, client, asked, expected) in table {
        let set = RuleSet::parse(rules, "acl.conf").unwrap_or_else(|e| panic!("{rules}: {e}"));
        let got = set.judge(&described(client), action(asked));
        assert_eq!(got, *expected, "{rules} for {client:?}, {asked:?}");
    }
}

#[test]
fn who() {
    check(&[
        ("{allow, all}.", "", "pub a", Allow),
        ("{deny, all}.", "", "sub a", Deny),
        ("", "", "pub a", NoMatch),
        ("{allow, {user, \"ann\"}}.", "", "pub a", Allow),
        ("{allow, {user, \"ann\"}}.", "user=anna", "pub a", NoMatch),
        ("{allow, {user, \"ann\"}}.", "user", "pub a", NoMatch),
        ("{allow, {username, \"ann\"}}.", "", "pub a", Allow),
        ("{allow, {username, <<\"ann\">>}}.", "", "pub a", Allow),
        ("{allow, {user, all}}.", "user", "pub a", Allow),
        ("{allow, {username, {re, \"^a\"}}}.", "", "pub a", Allow),
        ("{allow, {username, {re, \"n\"}}}.", "", "pub a", Allow),
        ("{allow, {username, {re, \"^n\"}}}.", "", "pub a", NoMatch),
        (
            "{allow, {username, {re, \".*\"}}}.",
            "user",
            "pub a",
            NoMatch,
        ),
        ("{allow, {client, \"dev1\"}}.", "", "pub a", Allow),
        (
            "{allow, {clientid, \"dev1\"}}.",
            "client=dev2",
            "pub a",
            NoMatch,
        ),
        (
            "{allow, {clientid, {re, \"^dev[0-9]+$\"}}}.",
            "",
            "pub a",
            Allow,
        ),
        (
            "{allow, {clientid, {re, \"^dev[0-9]+$\"}}}.",
            "client=dev1x",
            "pub a",
            NoMatch,
        ),
        ("{allow, {ipaddr, \"10.0.0.7\"}}.", "", "pub a", Allow),
        ("{allow, {ipaddr, \"10.0.0.0/24\"}}.", "", "pub a", Allow),
        ("{allow, {ipaddr, \"10.0.1.0/24\"}}.", "", "pub a", NoMatch),
        (
            "{allow, {ipaddr, \"10.0.0.0/24\"}}.",
            "ip=::ffff:10.0.0.9",
            "pub a",
            Allow,
        ),
        (
            "{allow, {ipaddr, \"2001:db8::/32\"}}.",
            "ip=2001:db8::5",
            "pub a",
            Allow,
        ),
        (
            "{allow, {ipaddrs, [\"127.0.0.1\", \"::1\"]}}.",
            "ip=::1",
            "pub a",
            Allow,
        ),
        (
            "{allow, {ipaddrs, [\"127.0.0.1\", \"::1\"]}}.",
            "",
            "pub a",
            NoMatch,
        ),
        ("{allow, {listener, \"tcp:default\"}}.", "", "pub a", Allow),
        (
            "{allow, {listener, \"tcp:default\"}}.",
            "listener=tls:default",
            "pub a",
            NoMatch,
        ),
        (
            "{allow, {'and', [{user, \"ann\"}, {client, \"dev1\"}]}}.",
            "",
            "pub a",
            Allow,
        ),
        (
            "{allow, {'and', [{user, \"ann\"}, {client, \"dev1\"}]}}.",
            "client=x",
            "pub a",
            NoMatch,
        ),
        (
            "{allow, {'and', [{user, \"ann\"}, {client, \"dev1\"}]}}.",
            "user=x",
            "pub a",
            NoMatch,
        ),
        (
            "{allow, {'or', [{user, \"ann\"}, {client, \"dev1\"}]}}.",
            "client=x",
            "pub a",
            Allow,
        ),
        (
            "{allow, {'or', [{user, \"ann\"}, {client, \"dev1\"}]}}.",
            "user=x",
            "pub a",
            Allow,
        ),
        (
            "{allow, {'or', [{user, \"ann\"}, {client, \"dev1\"}]}}.",
            "user=x client=x",
            "pub a",
            NoMatch,
        ),
        (
            "{allow, {'or', [{user, \"x\"}, {'and', [{ipaddr, \"10.0.0.0/8\"}, {clientid, {re, \"1$\"}}]}]}}.",
            "",
            "pub a",
            Allow,
        ),
    ]);
}

#[test]
fn actions() {
    let publish = "{allow, all, {publish, [{qos, 1}, {retain, false}]}, [\"a\"]}.";
    let subscribe = "{allow, all, {subscribe, [{qos, [0, 1]}]}, [\"a\"]}.";
    check(&[
        ("{allow, all, publish}.", "", "pub a", Allow),
        ("{allow, all, publish}.", "", "sub a", NoMatch),
        ("{allow, all, subscribe}.", "", "sub a", Allow),
        ("{allow, all, subscribe}.", "", "pub a", NoMatch),
        ("{allow, all, pubsub}.", "", "pub a", Allow),
        ("{allow, all, pubsub}.", "", "sub a", Allow),
        ("{allow, all, all}.", "", "pub2r a", Allow),
        (publish, "", "pub1 a", Allow),
        (publish, "", "pub a", NoMatch),
        (publish, "", "pub2 a", NoMatch),
        (publish, "", "pub1r a", NoMatch),
        (publish, "", "sub1 a", NoMatch),
        (subscribe, "", "sub a", Allow),
        (subscribe, "", "sub1 a", Allow),
        (subscribe, "", "sub2 a", NoMatch),
        (
            "{deny, all, {publish, {retain, true}}}.",
            "",
            "pub1r a",
            Deny,
        ),
        (
            "{deny, all, {publish, {retain, true}}}.",
            "",
            "pub1 a",
            NoMatch,
        ),
        ("{deny, all, {all, [{qos, 2}]}}.", "", "sub2 a", Deny),
        ("{deny, all, {all, [{retain, true}]}}.", "", "sub2 a", Deny),
        (
            "{deny, all, {publish, [{qos, all}, {retain, all}]}}.",
            "",
            "pub2r a",
            Deny,
        ),
    ]);
}

#[test]
fn topics() {
    check(&[
        ("{allow, all, publish, [\"a/b\"]}.", "", "pub a/b", Allow),
        ("{allow, all, publish, \"a/b\"}.", "", "pub a/b", Allow),
        (
            "{allow, all, publish, [\"a/b\"]}.",
            "",
            "pub a/b/c",
            NoMatch,
        ),
        (
            "{allow, all, publish, [\"x\", \"a/+\"]}.",
            "",
            "pub a/b",
            Allow,
        ),
        ("{allow, all, publish, [\"a/#\"]}.", "", "pub a", Allow),
        ("{allow, all, publish, [\"#\"]}.", "", "pub $SYS/x", NoMatch),
        (
            "{allow, all, publish, [\"+/x\"]}.",
            "",
            "pub $SYS/x",
            NoMatch,
        ),
        (
            "{allow, all, publish, [\"$SYS/#\"]}.",
            "",
            "pub $SYS/x",
            Allow,
        ),
        ("{allow, all}.", "", "pub $SYS/x", Allow),
        // A subscription: the whole of it must be allowed.
        ("{allow, all, subscribe, [\"t/+\"]}.", "", "sub t/+", Allow),
        ("{allow, all, subscribe, [\"t/+\"]}.", "", "sub t/a", Allow),
        (
            "{allow, all, subscribe, [\"t/+\"]}.",
            "",
            "sub t/#",
            NoMatch,
        ),
        (
            "{allow, all, subscribe, [\"t/#\"]}.",
            "",
            "sub t/+/x",
            Allow,
        ),
        (
            "{allow, all, subscribe, [\"#\"]}.",
            "",
            "sub $SYS/#",
            NoMatch,
        ),
        // Two rules that cover it only together do not allow it.
        (
            "{allow, all, subscribe, [\"t\", \"t/+/#\"]}.",
            "",
            "sub t/#",
            NoMatch,
        ),
        // A deny rule that covers, overlaps, or does neither.
        (
            "{deny, all, subscribe, [\"s/#\"]}. {allow, all}.",
            "",
            "sub s/a",
            Deny,
        ),
        (
            "{deny, all, subscribe, [\"s/#\"]}. {allow, all}.",
            "",
            "sub #",
            AllowChecked,
        ),
        (
            "{deny, all, subscribe, [\"s/#\"]}. {allow, all}.",
            "",
            "sub +/a",
            AllowChecked,
        ),
        (
            "{deny, all, subscribe, [\"s/#\"]}. {allow, all}.",
            "",
            "sub t/#",
            Allow,
        ),
        (
            "{deny, all, subscribe, [\"$SYS/#\"]}. {allow, all}.",
            "",
            "sub #",
            Allow,
        ),
        (
            "{deny, all, subscribe, [\"s/#\"]}.",
            "",
            "sub #",
            NoMatchChecked,
        ),
        (
            "{deny, all, subscribe, [\"s/a\"]}. {deny, all}.",
            "",
            "sub #",
            Deny,
        ),
        (
            "{allow, all}. {deny, all, subscribe, [\"s/#\"]}.",
            "",
            "sub #",
            Allow,
        ),
        (
            "{deny, {user, \"x\"}, subscribe, [\"s/#\"]}. {allow, all}.",
            "",
            "sub #",
            Allow,
        ),
        (
            "{deny, all, publish, [\"s/#\"]}. {allow, all}.",
            "",
            "sub #",
            Allow,
        ),
    ]);
}

#[test]
fn literal_filters() {
    let deny = "{deny, all, subscribe, [\"$SYS/#\", {eq, \"#\"}]}. {allow, all}.";
    check(&[
        (deny, "", "sub #", Deny),
        (deny, "", "sub $SYS/x", Deny),
        (deny, "", "sub +/#", Allow),
        (deny, "", "sub a/#", Allow),
        (deny, "", "sub a", Allow),
        (
            "{allow, all, subscribe, [{eq, \"a/+\"}]}.",
            "",
            "sub a/+",
            Allow,
        ),
        (
            "{allow, all, subscribe, [{eq, \"a/+\"}]}.",
            "",
            "sub a/b",
            NoMatch,
        ),
        (
            "{allow, all, publish, [{eq, \"a/+\"}]}.",
            "",
            "pub a/b",
            NoMatch,
        ),
        (
            "{allow, all, publish, [{eq, \"a/b\"}]}.",
            "",
            "pub a/b",
            Allow,
        ),
        // Without wildcards it is the topic itself, and must not leak through a wider filter.
        (
            "{deny, all, subscribe, [{eq, \"s/a\"}]}. {allow, all}.",
            "",
            "sub s/#",
            AllowChecked,
        ),
        (
            "{deny, all, subscribe, [{eq, \"s/${username}/#\"}]}. {allow, all}.",
            "",
            "sub s/ann/#",
            Deny,
        ),
        (
            "{deny, all, subscribe, [{eq, \"s/${username}/#\"}]}. {allow, all}.",
            "",
            "sub s/ann/x",
            Allow,
        ),
    ]);
}

#[test]
fn placeholders() {
    let user = "{allow, all, pubsub, [\"u/${username}/#\"]}.";
    check(&[
        (user, "", "pub u/ann/x", Allow),
        (user, "", "sub u/ann/#", Allow),
        (user, "", "pub u/bob/x", NoMatch),
        (user, "", "sub u/+/x", NoMatch),
        (user, "user", "pub u//x", NoMatch),
        ("{allow, all, publish, [\"u/%u\"]}.", "", "pub u/ann", Allow),
        (
            "{allow, all, publish, [\"u/%u\"]}.",
            "",
            "pub u/%u",
            NoMatch,
        ),
        (
            "{allow, all, publish, [\"u/x%u\"]}.",
            "",
            "pub u/x%u",
            Allow,
        ),
        (
            "{allow, all, publish, [\"c/%c\"]}.",
            "",
            "pub c/dev1",
            Allow,
        ),
        (
            "{allow, all, publish, [\"${clientid}/${username}\"]}.",
            "",
            "pub dev1/ann",
            Allow,
        ),
        (
            "{allow, all, publish, [\"x-${clientid}-y\"]}.",
            "",
            "pub x-dev1-y",
            Allow,
        ),
        (
            "{allow, all, publish, [\"x-${clientid}-y\"]}.",
            "",
            "pub x-dev1-z",
            NoMatch,
        ),
        (
            "{allow, all, publish, [\"a/%a\"]}.",
            "",
            "pub a/10.0.0.7",
            Allow,
        ),
        (
            "{allow, all, publish, [\"a/${peerhost}\"]}.",
            "ip=::ffff:10.1.1.1",
            "pub a/10.1.1.1",
            Allow,
        ),
        (
            "{allow, all, publish, [\"n/%C\"]}.",
            "cn=box",
            "pub n/box",
            Allow,
        ),
        (
            "{allow, all, publish, [\"n/${cert_cn}\"]}.",
            "cn=box",
            "pub n/box",
            Allow,
        ),
        (
            "{allow, all, publish, [\"n/${cert_cn}\"]}.",
            "",
            "pub n/",
            NoMatch,
        ),
        (
            "{allow, all, publish, [\"d/%d\"]}.",
            "dn=CN=box",
            "pub d/CN=box",
            Allow,
        ),
        (
            "{allow, all, publish, [\"d/${cert_dn}\"]}.",
            "dn=CN=box",
            "pub d/CN=box",
            Allow,
        ),
        // Overlap goes by the client's own value.
        (
            "{deny, all, subscribe, [\"u/${username}/s\"]}. {allow, all}.",
            "",
            "sub u/#",
            AllowChecked,
        ),
        (
            "{deny, all, subscribe, [\"u/${username}/s\"]}. {allow, all}.",
            "",
            "sub u/bob/#",
            Allow,
        ),
        (
            "{deny, all, subscribe, [\"u/${username}/s\"]}. {allow, all}.",
            "",
            "sub u/ann/#",
            AllowChecked,
        ),
    ]);
}

/// A client that chooses its own name must not widen a rule by it.
#[test]
fn placeholder_values_cannot_widen_a_rule() {
    let rules = "{allow, all, pubsub, [\"u/${username}\", \"u/${username}/#\", \"ok\"]}.";
    let set = RuleSet::parse(rules, "acl.conf").expect("valid");
    for bad in ["+", "#", "a/b", "ann/#", "a+b", "x\0y", "/"] {
        let mut client = described("");
        client.username = Some(bad.into());
        for filter in ["u/+", "u/#", "u/a/b", "u/ann/#", "u/a", "u/+/#", "#"] {
            let topic = format!("sub {filter}");
            assert_eq!(
                set.judge(&client, action(&topic)),
                NoMatch,
                "{bad:?} {filter}"
            );
        }
        assert_eq!(set.judge(&client, action("pub ok")), Allow, "{bad:?}");
    }
    let own = RuleSet::parse("{allow, all, all, [\"${clientid}/#\"]}.", "acl.conf").expect("valid");
    for bad in ["$SYS", "$share", "$"] {
        let topic = format!("sub {bad}/#");
        let client = described(&format!("client={bad}"));
        assert_eq!(own.judge(&client, action(&topic)), NoMatch, "{bad}");
    }
    assert_eq!(own.judge(&described(""), action("sub dev1/#")), Allow);
}

#[test]
fn the_first_rule_that_matches_decides() {
    check(&[
        ("{allow, all}. {deny, all}.", "", "pub a", Allow),
        ("{deny, {user, \"ann\"}}. {allow, all}.", "", "pub a", Deny),
        (
            "{allow, all, publish, [\"a\"]}. {deny, {user, \"ann\"}}. {allow, all}.",
            "",
            "pub a",
            Allow,
        ),
        (
            "{allow, {client, \"dev1\"}, publish, [\"a\"]}. {deny, {user, \"ann\"}}.",
            "",
            "pub a",
            Allow,
        ),
        (
            "{deny, {ipaddr, \"10.0.0.0/8\"}}. {allow, {user, \"ann\"}}.",
            "",
            "pub a",
            Deny,
        ),
        (
            "{allow, {user, \"ann\"}}. {deny, {ipaddr, \"10.0.0.0/8\"}}.",
            "",
            "pub a",
            Allow,
        ),
    ]);
}

#[test]
fn deliveries_are_judged_by_the_rules_up_to_the_one_that_granted() {
    let table = [
        (
            "{deny, all, subscribe, [\"s/#\"]}. {allow, all}.",
            "#",
            "s/a",
            Deny,
        ),
        (
            "{deny, all, subscribe, [\"s/#\"]}. {allow, all}.",
            "#",
            "s",
            Deny,
        ),
        (
            "{deny, all, subscribe, [\"s/#\"]}. {allow, all}.",
            "#",
            "t/a",
            Allow,
        ),
        (
            "{allow, all, subscribe, [\"s/public\"]}. {deny, all, subscribe, [\"s/#\"]}. {allow, all}.",
            "#",
            "s/public",
            Allow,
        ),
        (
            "{allow, all, subscribe, [\"s/public\"]}. {deny, all, subscribe, [\"s/#\"]}. {allow, all}.",
            "#",
            "s/x",
            Deny,
        ),
        // The rule that granted the filter as a text stands before one that would deny its topics.
        (
            "{deny, all, subscribe, [\"s/a\"]}. {allow, all, subscribe, [{eq, \"#\"}]}. {deny, all}.",
            "#",
            "t",
            Allow,
        ),
        (
            "{deny, all, subscribe, [\"s/a\"]}. {allow, all, subscribe, [{eq, \"#\"}]}. {deny, all}.",
            "#",
            "s/a",
            Deny,
        ),
        (
            "{deny, {user, \"bob\"}, subscribe, [\"s/a\"]}. {allow, all}.",
            "#",
            "s/a",
            Allow,
        ),
        (
            "{deny, all, subscribe, [\"u/${username}/x\"]}. {allow, all}.",
            "u/#",
            "u/ann/x",
            Deny,
        ),
        (
            "{deny, all, subscribe, [\"u/${username}/x\"]}. {allow, all}.",
            "u/#",
            "u/bob/x",
            Allow,
        ),
        ("{deny, all, subscribe, [\"s/a\"]}.", "#", "s/a", Deny),
        ("{deny, all, subscribe, [\"s/a\"]}.", "#", "t", NoMatch),
        (
            "{deny, all, publish, [\"s/a\"]}. {allow, all}.",
            "#",
            "s/a",
            Allow,
        ),
        (
            "{deny, all, {subscribe, [{qos, 0}]}, [\"s/a\"]}. {allow, all}.",
            "#",
            "s/a",
            Allow,
        ),
    ];
    for (rules, filter, topic, expected) in table {
        let set = RuleSet::parse(rules, "acl.conf").expect(rules);
        let got = set.may_deliver(
            &described(""),
            filter,
            nightjar_mqtt::QoS::AtLeastOnce,
            topic,
        );
        assert_eq!(got, expected, "{rules} {filter} {topic}");
    }
}

/// More rules than a bucket keeps flat, so that tries answer.
#[test]
fn large_sets_answer_like_small_ones() {
    let mut rules = String::new();
    for i in 0..500 {
        rules.push_str(&format!(
            "{{allow, all, subscribe, [\"g/{i}/+\", {{eq, \"w/{i}/#\"}}]}}.\n"
        ));
        rules.push_str(&format!(
            "{{deny, {{user, \"u{i}\"}}, publish, [\"n/#\"]}}.\n"
        ));
        rules.push_str(&format!(
            "{{allow, {{ipaddr, \"10.9.{}.{}\"}}, publish, [\"n/{i}\"]}}.\n",
            i / 256,
            i % 256
        ));
    }
    rules.push_str("{deny, all, all, [\"secret/#\", \"${username}/own\"]}.\n{allow, all}.\n");
    let set = RuleSet::parse(&rules, "acl.conf").expect("valid");
    assert_eq!(set.len(), 1502);
    let table = [
        ("", "sub g/77/x", Allow, 77 * 3 + 1),
        ("", "sub w/77/#", Allow, 77 * 3 + 1),
        ("", "sub w/77/x", Allow, 1502),
        ("user=u400", "pub n/1", Deny, 400 * 3 + 2),
        ("user=u400 ip=10.9.0.9", "pub n/9", Allow, 9 * 3 + 3),
        ("user=u4 ip=10.9.0.9", "pub n/9", Deny, 4 * 3 + 2),
        ("", "pub secret/x", Deny, 1501),
        ("", "pub ann/own", Deny, 1501),
        ("", "pub bob/own", Allow, 1502),
        ("", "sub #", AllowChecked, 1502),
        ("", "sub g/#", Allow, 1502),
    ];
    for (client, asked, verdict, line) in table {
        let client = described(client);
        let decision = set.decide(&client, action(asked));
        assert_eq!(decision.verdict, verdict, "{asked}");
        assert_eq!(decision.rule.expect("decided").line, line, "{asked}");
    }
}
