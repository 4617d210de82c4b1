//! Rules in JSON: the `acl` claim of a token, the `acl` of an HTTP answer.
//!
//! Either `{"pub": [..], "sub": [..], "all": [..]}` (also `publish`, `subscribe`, `pubsub`) with topics that are
//! allowed, or a list of `{"permission": "allow", "action": "publish", "topic": "a/#", "qos": [0, 1], "retain": false}`.
//! A topic that begins with `eq ` is literal. Placeholders stand in topics as in `acl.conf`.

use nightjar_broker::acl::{Permission, Rule, RuleAction, RuleSet, TopicPattern, Who};
use serde_json::{Map, Value};

/// More rules than this are nonsense for one client, and each costs memory for as long as it is connected.
const MAX_RULES: usize = 1000;

/// Reads the rules.
pub(crate) fn rules(acl: &Value) -> Result<RuleSet, String> {
    let rules = match acl {
        Value::Object(lists) => allowed(lists)?,
        Value::Array(rules) => rules.iter().map(rule).collect::<Result<_, _>>()?,
        _ => return Err("expected an object or a list of rules".to_owned()),
    };
    if rules.len() > MAX_RULES {
        return Err(format!(
            "expected at most {MAX_RULES} rules, got {}",
            rules.len()
        ));
    }
    Ok(RuleSet::from_rules(rules))
}

/// A truth value as people write it: true, 1, "true", "1".
pub(crate) fn truth(value: &Value) -> Option<bool> {
    match value {
        Value::Null => Some(false),
        Value::Bool(truth) => Some(*truth),
        Value::Number(number) => match number.as_u64()? {
            0 => Some(false),
            1 => Some(true),
            _ => None,
        },
        Value::String(text) => match text.as_str() {
            "true" | "1" => Some(true),
            "false" | "0" | "" => Some(false),
            _ => None,
        },
        _ => None,
    }
}

fn allowed(lists: &Map<String, Value>) -> Result<Vec<Rule>, String> {
    lists
        .iter()
        .map(|(name, list)| {
            Ok(Rule {
                permission: Permission::Allow,
                who: Who::All,
                action: action(name)?,
                topics: Some(topics(list)?),
                line: 0,
            })
        })
        .collect()
}

fn rule(value: &Value) -> Result<Rule, String> {
    let Value::Object(fields) = value else {
        return Err("expected a rule as an object".to_owned());
    };
    let mut permission = None;
    let mut what = RuleAction::ALL;
    let (mut qos, mut retain, mut found) = (None, None, None);
    for (name, value) in fields {
        match (name.as_str(), value) {
            ("permission", Value::String(text)) => {
                permission = Some(match text.as_str() {
                    "allow" => Permission::Allow,
                    "deny" => Permission::Deny,
                    _ => return Err("expected permission allow or deny".to_owned()),
                });
            }
            ("action", Value::String(text)) => what = action(text)?,
            ("topic" | "topics", value) => found = Some(topics(value)?),
            ("qos", value) => qos = Some(qos_set(value)?),
            ("retain", Value::String(all)) if all == "all" => {}
            ("retain", value) => {
                retain = Some(truth(value).ok_or("expected retain true or false")?);
            }
            _ => {
                return Err(format!(
                    "expected permission, action, topic, qos or retain, got {name:?}"
                ));
            }
        }
    }
    Ok(Rule {
        permission: permission.ok_or("expected a permission")?,
        who: Who::All,
        action: RuleAction {
            qos: qos.unwrap_or(what.qos),
            retain,
            ..what
        },
        // A rule that forgot its topic must not be about all of them.
        topics: Some(found.ok_or("expected a topic")?),
        line: 0,
    })
}

fn action(name: &str) -> Result<RuleAction, String> {
    match name {
        "pub" | "publish" => Ok(RuleAction::PUBLISH),
        "sub" | "subscribe" => Ok(RuleAction::SUBSCRIBE),
        "all" | "pubsub" => Ok(RuleAction::ALL),
        _ => Err(format!("expected publish, subscribe or all, got {name:?}")),
    }
}

fn topics(value: &Value) -> Result<Vec<TopicPattern>, String> {
    let one = |value: &Value| {
        let text = value.as_str().ok_or("expected a topic as a string")?;
        topic(text)
    };
    match value {
        Value::Array(list) => list.iter().map(one).collect(),
        value => one(value).map(|topic| vec![topic]),
    }
}

/// A topic of JSON or a table: `eq ` in front makes it literal.
pub(crate) fn topic(text: &str) -> Result<TopicPattern, String> {
    match text.strip_prefix("eq ") {
        Some(literal) => TopicPattern::literal(literal),
        None => TopicPattern::filter(text),
    }
    .map_err(|error| format!("topic {text:?}: {error}"))
}

fn qos_set(value: &Value) -> Result<[bool; 3], String> {
    let list = match value {
        Value::Array(list) => list.as_slice(),
        one => std::slice::from_ref(one),
    };
    let mut set = [false; 3];
    for value in list {
        let level = match value {
            Value::String(text) => text.parse().ok(),
            value => value.as_u64(),
        };
        match level {
            Some(level @ 0..=2) => set[usize::try_from(level).expect("0 to 2")] = true,
            _ => return Err("expected QoS 0, 1 or 2".to_owned()),
        }
    }
    Ok(set)
}

#[cfg(test)]
mod tests {
    use nightjar_broker::access::{Action, Verdict};
    use nightjar_mqtt::QoS;
    use serde_json::json;

    use super::*;

    #[test]
    fn both_forms_allow_what_they_name() {
        let client = crate::testing::client();
        let publish = |set: &RuleSet, topic: &str, qos, retain| {
            set.judge(&client, Action::Publish { topic, qos, retain })
        };
        let subscribe = |set: &RuleSet, filter: &str| {
            let qos = QoS::AtMostOnce;
            set.judge(&client, Action::Subscribe { filter, qos })
        };
        let lists = rules(&json!({"pub": ["a/${clientid}"], "sub": ["b/#"], "all": "c"}));
        let lists = lists.expect("valid");
        assert_eq!(
            publish(&lists, "a/dev1", QoS::AtMostOnce, false),
            Verdict::Allow
        );
        assert_eq!(
            publish(&lists, "b/x", QoS::AtMostOnce, false),
            Verdict::NoMatch
        );
        assert_eq!(subscribe(&lists, "b/x"), Verdict::Allow);
        assert_eq!(subscribe(&lists, "c"), Verdict::Allow);
        let list = rules(&json!([
            {"permission": "deny", "action": "publish", "topic": "a/x", "qos": [1, "2"], "retain": true},
            {"permission": "allow", "action": "all", "topics": ["a/#", "eq b/#"]},
        ]));
        let list = list.expect("valid");
        assert_eq!(publish(&list, "a/x", QoS::AtLeastOnce, true), Verdict::Deny);
        assert_eq!(publish(&list, "a/x", QoS::AtMostOnce, true), Verdict::Allow);
        assert_eq!(
            publish(&list, "a/x", QoS::AtLeastOnce, false),
            Verdict::Allow
        );
        assert_eq!(subscribe(&list, "b/#"), Verdict::Allow);
        assert_eq!(subscribe(&list, "b/x"), Verdict::NoMatch);
    }

    #[test]
    fn what_is_not_understood_is_an_error() {
        for bad in [
            json!(1),
            json!("all"),
            json!({"publish ": ["a"]}),
            json!({"pub": [1]}),
            json!({"pub": ["a/#/b"]}),
            json!([{"permission": "allow"}]),
            json!([{"action": "publish", "topic": "a"}]),
            json!([{"permission": "maybe", "topic": "a"}]),
            json!([{"permission": "allow", "topic": "a", "clientid": "x"}]),
            json!([{"permission": "allow", "topic": "a", "qos": 3}]),
            json!([{"permission": "allow", "topic": "a", "retain": 2}]),
            json!(vec![
                json!({"permission": "allow", "topic": "a"});
                MAX_RULES + 1
            ]),
        ] {
            assert!(rules(&bad).is_err(), "{bad}");
        }
    }
}
