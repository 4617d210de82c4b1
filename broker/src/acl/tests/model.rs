//! Verdicts against a naive evaluator: every rule in order, topics as expanded text, networks bit by bit.

use std::net::IpAddr;

use nightjar_mqtt::QoS;
use nightjar_mqtt::topic::matches;
use proptest::prelude::*;

use super::client;
use crate::access::{Action, ClientInfo, Verdict};
use crate::acl::{
    Cidr, Permission, Rule, RuleAction, RuleSet, TopicPattern, Who, covers, overlaps,
};

#[derive(Debug, Clone)]
enum ModelWho {
    All,
    User(&'static str),
    UserPrefix(&'static str),
    Client(&'static str),
    ClientPrefix(&'static str),
    Networks(Vec<(&'static str, u8)>),
    Listener(&'static str),
    And(Vec<Self>),
    Or(Vec<Self>),
}

#[derive(Debug, Clone)]
struct ModelRule {
    allow: bool,
    who: ModelWho,
    action: RuleAction,
    topics: Option<Vec<(String, bool)>>,
}

const NAMES: [&str; 6] = ["a", "b", "ab", "+", "x/y", "$s"];

fn who() -> impl Strategy<Value = ModelWho> {
    let name = || prop::sample::select(&NAMES[..3]);
    let network = prop_oneof![
        Just(("10.0.0.1", 32)),
        Just(("10.0.0.0", 8)),
        Just(("10.0.0.0", 31)),
        Just(("0.0.0.0", 0)),
        Just(("2001:db8::", 32)),
        Just(("::", 0)),
    ];
    let leaf = prop_oneof![
        2 => Just(ModelWho::All),
        3 => name().prop_map(ModelWho::User),
        1 => name().prop_map(ModelWho::UserPrefix),
        3 => name().prop_map(ModelWho::Client),
        1 => name().prop_map(ModelWho::ClientPrefix),
        2 => prop::collection::vec(network, 1..3).prop_map(ModelWho::Networks),
        1 => prop::sample::select(vec!["tcp:a", "tls:b"]).prop_map(ModelWho::Listener),
    ];
    leaf.prop_recursive(2, 6, 3, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 1..3).prop_map(ModelWho::And),
            prop::collection::vec(inner, 1..3).prop_map(ModelWho::Or),
        ]
    })
}

fn levels(all: &'static [&'static str]) -> impl Strategy<Value = String> {
    let level = prop::sample::select(all);
    (
        prop::collection::vec(level, 1..4),
        prop::bool::weighted(0.3),
    )
        .prop_map(|(mut levels, hash)| {
            if hash {
                levels.pop();
                levels.push("#");
            }
            levels.join("/")
        })
}

fn rule() -> impl Strategy<Value = ModelRule> {
    let topic = levels(&["a", "b", "$s", "+", "${username}", "%c", "x${clientid}"]);
    let topics = prop::collection::vec((topic, prop::bool::weighted(0.2)), 1..3);
    let action = (
        0..3_u8,
        prop::bool::weighted(0.3),
        0..3_usize,
        any::<Option<bool>>(),
    )
        .prop_map(|(kind, narrow, qos, retain)| {
            let mut action = match kind {
                0 => RuleAction::ALL,
                1 => RuleAction::PUBLISH,
                _ => RuleAction::SUBSCRIBE,
            };
            if narrow {
                action.qos = std::array::from_fn(|i| i == qos);
                action.retain = retain.filter(|_| action.publish);
            }
            action
        });
    (
        any::<bool>(),
        who(),
        action,
        prop::option::weighted(0.8, topics),
    )
        .prop_map(|(allow, who, action, topics)| ModelRule {
            allow,
            who,
            action,
            topics,
        })
}

fn a_client() -> impl Strategy<Value = ClientInfo> {
    let name = || prop::sample::select(&NAMES[..]);
    let ip = prop::sample::select(vec![
        "10.0.0.1",
        "10.2.3.4",
        "::ffff:10.0.0.1",
        "2001:db8::1",
        "::1",
    ]);
    (prop::option::of(name()), name(), ip, any::<bool>()).prop_map(|(user, id, ip, tcp)| {
        let ip: IpAddr = ip.parse().expect("an address");
        ClientInfo {
            username: user.map(Into::into),
            client_id: id.into(),
            peer: (ip, 1).into(),
            listener: if tcp { "tcp:a" } else { "tls:b" }.into(),
            ..client()
        }
    })
}

impl ModelWho {
    fn real(&self) -> Who {
        let regex = |prefix: &str| regex_lite::Regex::new(&format!("^{prefix}")).expect("valid");
        match self {
            Self::All => Who::All,
            Self::User(name) => Who::User((*name).into()),
            Self::UserPrefix(name) => Who::UserRegex(regex(name)),
            Self::Client(id) => Who::Client((*id).into()),
            Self::ClientPrefix(id) => Who::ClientRegex(regex(id)),
            Self::Networks(all) => Who::Addresses(
                all.iter()
                    .map(|(ip, n)| Cidr::new(ip.parse().expect("ip"), *n).expect("prefix"))
                    .collect(),
            ),
            Self::Listener(name) => Who::Listener((*name).into()),
            Self::And(all) => Who::And(all.iter().map(Self::real).collect()),
            Self::Or(any) => Who::Or(any.iter().map(Self::real).collect()),
        }
    }

    fn holds(&self, client: &ClientInfo) -> bool {
        let user = client.username.as_deref();
        match self {
            Self::All => true,
            Self::User(name) => user == Some(name),
            Self::UserPrefix(name) => user.is_some_and(|u| u.starts_with(name)),
            Self::Client(id) => &*client.client_id == *id,
            Self::ClientPrefix(id) => client.client_id.starts_with(id),
            Self::Networks(all) => all.iter().any(|(ip, n)| {
                let bits = |ip: IpAddr| -> Vec<bool> {
                    let octets = match ip.to_canonical() {
                        IpAddr::V4(ip) => ip.octets().to_vec(),
                        IpAddr::V6(ip) => ip.octets().to_vec(),
                    };
                    octets
                        .iter()
                        .flat_map(|o| (0..8).map(move |i| o >> (7 - i) & 1 == 1))
                        .collect()
                };
                let (net, peer) = (bits(ip.parse().expect("ip")), bits(client.peer.ip()));
                net.len() == peer.len() && net[..usize::from(*n)] == peer[..usize::from(*n)]
            }),
            Self::Listener(name) => &*client.listener == *name,
            Self::And(all) => all.iter().all(|w| w.holds(client)),
            Self::Or(any) => any.iter().any(|w| w.holds(client)),
        }
    }
}

/// The topic with the client's values in it, `None` if one is missing or would widen it.
fn expanded(topic: &str, client: &ClientInfo) -> Option<String> {
    let value = |v: Option<&str>| {
        v.filter(|v| !v.contains(['+', '#', '/', '\0']))
            .map(str::to_owned)
    };
    let user = || value(client.username.as_deref());
    let id = || value(Some(&client.client_id));
    let mut text = topic.to_owned();
    if text.contains("${username}") {
        text = text.replace("${username}", &user()?);
    }
    if text.contains("${clientid}") {
        text = text.replace("${clientid}", &id()?);
    }
    if text.split('/').any(|level| level == "%c") {
        let id = id()?;
        let levels: Vec<&str> = text
            .split('/')
            .map(|l| if l == "%c" { &id } else { l })
            .collect();
        text = levels.join("/");
    }
    (!text.starts_with('$') || topic.starts_with("$s")).then_some(text)
}

fn applies(rule: &ModelRule, client: &ClientInfo, action: Action<'_>) -> bool {
    let by_action = match action {
        Action::Publish { qos, retain, .. } => {
            rule.action.publish
                && rule.action.qos[qos.bits() as usize]
                && rule.action.retain.is_none_or(|r| r == retain)
        }
        Action::Subscribe { qos, .. } => {
            rule.action.subscribe && rule.action.qos[qos.bits() as usize]
        }
    };
    by_action && rule.who.holds(client)
}

fn whole(rule: &ModelRule, client: &ClientInfo, asked: &str, publish: bool) -> bool {
    rule.topics.as_ref().is_none_or(|topics| {
        topics.iter().any(|(topic, eq)| {
            expanded(topic, client).is_some_and(|topic| match (eq, publish) {
                (true, _) => topic == asked,
                (false, true) => matches(&topic, asked),
                (false, false) => covers(&topic, asked),
            })
        })
    })
}

fn naive(rules: &[ModelRule], client: &ClientInfo, action: Action<'_>) -> Verdict {
    let mut overlap = false;
    let asked = action.topic();
    let publish = matches!(action, Action::Publish { .. });
    for rule in rules.iter().filter(|rule| applies(rule, client, action)) {
        if whole(rule, client, asked, publish) {
            return match (rule.allow, overlap) {
                (true, false) => Verdict::Allow,
                (true, true) => Verdict::AllowChecked,
                (false, _) => Verdict::Deny,
            };
        }
        let part = |topics: &Vec<(String, bool)>| {
            topics.iter().any(|(topic, eq)| {
                let wild = topic.contains(['+', '#']);
                expanded(topic, client).is_some_and(|t| !(*eq && wild) && overlaps(&t, asked))
            })
        };
        overlap |= !publish && !rule.allow && rule.topics.as_ref().is_some_and(part);
    }
    if overlap {
        Verdict::NoMatchChecked
    } else {
        Verdict::NoMatch
    }
}

fn naive_delivery(
    rules: &[ModelRule],
    client: &ClientInfo,
    filter: &str,
    qos: QoS,
    topic: &str,
) -> Verdict {
    let action = Action::Subscribe { filter, qos };
    for rule in rules.iter().filter(|rule| applies(rule, client, action)) {
        if whole(rule, client, topic, false) || whole(rule, client, filter, false) {
            return if rule.allow {
                Verdict::Allow
            } else {
                Verdict::Deny
            };
        }
    }
    Verdict::NoMatch
}

fn real(rules: &[ModelRule]) -> Vec<Rule> {
    let rule = |rule: &ModelRule| Rule {
        permission: if rule.allow {
            Permission::Allow
        } else {
            Permission::Deny
        },
        who: rule.who.real(),
        action: rule.action,
        topics: rule.topics.as_ref().map(|topics| {
            let topic = |(t, eq): &(String, bool)| {
                if *eq {
                    TopicPattern::literal(t)
                } else {
                    TopicPattern::filter(t)
                }
            };
            topics.iter().map(|t| topic(t).expect("valid")).collect()
        }),
        line: 0,
    };
    rules.iter().map(rule).collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn compiled_rules_agree_with_a_naive_evaluator(
        rules in prop::collection::vec(rule(), 0..40),
        clients in prop::collection::vec(a_client(), 3),
        names in prop::collection::vec(levels(&["a", "b", "$s", "xa", "ab"]), 4),
        filters in prop::collection::vec(levels(&["a", "b", "$s", "xa", "+"]), 6),
        qos in 0..3_u8,
        retain in any::<bool>(),
    ) {
        let set = RuleSet::from_rules(real(&rules));
        let qos = QoS::from_bits(qos).expect("0 to 2");
        let names: Vec<String> = names.iter().map(|n| n.replace('#', "b")).collect();
        for client in &clients {
            for topic in &names {
                let action = Action::Publish { topic, qos, retain };
                prop_assert_eq!(set.judge(client, action), naive(&rules, client, action), "{:?}", action);
            }
            for filter in &filters {
                let action = Action::Subscribe { filter, qos };
                prop_assert_eq!(set.judge(client, action), naive(&rules, client, action), "{:?}", action);
                for topic in names.iter().filter(|topic| matches(filter, topic)) {
                    prop_assert_eq!(
                        set.may_deliver(client, filter, qos, topic),
                        naive_delivery(&rules, client, filter, qos, topic),
                        "{} of {}", topic, filter
                    );
                }
            }
        }
    }

    #[test]
    fn a_rule_reads_back_as_it_was_written(rules in prop::collection::vec(rule(), 0..10)) {
        let rules = real(&rules);
        let text: String = rules.iter().map(|rule| format!("{rule}\n")).collect();
        let read = RuleSet::parse(&text, "acl.conf").map_err(|e| TestCaseError::fail(e.to_string()))?;
        prop_assert_eq!(read.len(), rules.len());
        for (read, rule) in read.rules().iter().zip(&rules) {
            prop_assert_eq!(&Rule { line: 0, ..read.clone() }, rule);
        }
    }
}
