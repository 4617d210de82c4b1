//! What authorization costs: a cached verdict (goal: at most 30 ns), and a verdict of 10,000 rules (goal: under 2 us).
//!
//! `cargo bench -p nightjar-broker --bench acl` prints nanoseconds per question, the best of five rounds.

use std::fmt::Write as _;
use std::hint::black_box;
use std::sync::Arc;
use std::time::Instant;

use nightjar_broker::access::{Action, ClientInfo, Protocol};
use nightjar_broker::acl::{AccessCache, AclSettings, AclSources, RuleSet};
use nightjar_mqtt::{ProtocolVersion, QoS};

fn client() -> ClientInfo {
    ClientInfo {
        username: Some("user-77".into()),
        ..ClientInfo::new(
            "client-77",
            ([10, 0, 0, 77], 50000).into(),
            "tcp:default",
            Protocol::Mqtt(ProtocolVersion::V5),
        )
    }
}

fn publish(topic: &str) -> Action<'_> {
    Action::Publish {
        topic,
        qos: QoS::AtMostOnce,
        retain: false,
    }
}

fn measure(name: &str, rounds: u32, mut question: impl FnMut()) {
    let mut best = f64::MAX;
    for _ in 0..5 {
        let start = Instant::now();
        for _ in 0..rounds {
            question();
        }
        best = best.min(start.elapsed().as_nanos() as f64 / f64::from(rounds));
    }
    println!("{name:<56} {best:>9.1} ns");
}

fn main() {
    let client = Arc::new(client());
    let sources = Arc::new(AclSources::new(AclSettings::default(), Vec::new()));
    let now = Instant::now();

    let topics: Vec<String> = (0..32)
        .map(|i| format!("site/7/building/{i}/room/12/temperature"))
        .collect();
    for used in [1, 4, 32] {
        let mut cache = AccessCache::new();
        let mut at = 0;
        measure(
            &format!("cached, {used} topics in turns"),
            1_000_000,
            || {
                at = (at + 1) % used;
                let action = publish(&topics[at]);
                black_box(sources.check(&client, &mut cache, black_box(action), now));
            },
        );
    }

    let mut by_user = String::new();
    let mut by_topic = String::new();
    let mut by_network = String::new();
    let mut same_topic = String::new();
    for i in 0..9_999 {
        let _ = writeln!(
            by_user,
            "{{allow, {{user, \"user-{i}\"}}, publish, [\"site/{i}/#\"]}}."
        );
        let _ = writeln!(by_topic, "{{allow, all, publish, [\"site/{i}/+/state\"]}}.");
        let (b, c) = (i / 250, i % 250);
        let _ = writeln!(by_network, "{{deny, {{ipaddr, \"172.16.{b}.{c}\"}}}}.");
        let _ = writeln!(
            same_topic,
            "{{deny, {{client, \"other-{i}\"}}, subscribe, [\"site/#\"]}}."
        );
    }
    for (name, mut text) in [
        ("a user each", by_user),
        ("a topic each", by_topic),
        ("an address each", by_network),
        ("one topic, a client each", same_topic),
    ] {
        text.push_str("{allow, all}.\n");
        let start = Instant::now();
        let rules = RuleSet::parse(&text, "acl.conf").expect("valid rules");
        let millis = start.elapsed().as_secs_f64() * 1e3;
        println!("{name}: {} rules compiled in {millis:.0} ms", rules.len());
        for (case, action) in [
            ("publish, own rule", publish("site/77/x/state")),
            ("publish, no rule but the last", publish("site/none/x/y/z")),
            (
                "subscribe to one site",
                Action::Subscribe {
                    filter: "site/77/#",
                    qos: QoS::AtMostOnce,
                },
            ),
            (
                "subscribe to everything",
                Action::Subscribe {
                    filter: "#",
                    qos: QoS::AtMostOnce,
                },
            ),
        ] {
            measure(&format!("{name}: {case}"), 20_000, || {
                black_box(rules.judge(&client, black_box(action)));
            });
        }
    }
}
