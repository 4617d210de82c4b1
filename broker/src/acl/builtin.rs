//! `kind = "builtin"`: rules that Nightjar keeps itself, as values named `acl/<number>`, tried by their numbers.
//!
//! Numbers are like those of lines in old programs: a rule added without one gets the last one plus ten, so that there is
//! room between rules.

use std::collections::BTreeMap;
use std::sync::Arc;

use arc_swap::ArcSwap;
use nightjar_mqtt::QoS;
use parking_lot::Mutex;

use super::file::words;
use super::rule::Rule;
use super::set::{MAX_RULES, RuleSet};
use crate::access::{Action, Answer, Authorizer, ClientInfo, Verdict};
use crate::kept::Place;
use crate::meta::MetaWatcher;
use crate::ticket::Ticket;

const PREFIX: &str = "acl/";
const STEP: u32 = 10;
const NAME: &str = "builtin rules";

/// Why a rule is not taken.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum RuleError {
    /// Not one rule of the grammar.
    #[error("{0}")]
    Syntax(String),
    /// Another rule has the number.
    #[error("expected a number that no rule has, got {0}")]
    Taken(u32),
    /// There are as many as there may be.
    #[error("expected at most {MAX_RULES} rules")]
    TooMany,
    /// The backend cannot commit now; a retry may help.
    #[error("the rules' store cannot write now: {0}")]
    Unavailable(String),
}

/// The builtin rules of a node.
pub struct BuiltinRules {
    place: Place,
    by_number: Mutex<BTreeMap<u32, Rule>>,
    compiled: ArcSwap<RuleSet>,
    /// Told when the rules changed: caches of verdicts are void.
    on_change: Mutex<Option<Box<dyn Fn() + Send + Sync>>>,
}

fn key(number: u32) -> String {
    format!("{PREFIX}{number:010}")
}

/// One rule of the grammar of `acl.conf`.
fn parse(text: &str, number: u32) -> Result<Rule, RuleError> {
    let text = text.trim();
    // The full stop may be left out where there is one rule only.
    let dotted = if text.ends_with('.') {
        text.to_owned()
    } else {
        format!("{text}.")
    };
    let set = RuleSet::parse(&dotted, "rule").map_err(|errors| {
        let first = errors.0.first().map(ToString::to_string);
        RuleError::Syntax(first.unwrap_or_default())
    })?;
    match set.rules() {
        [rule] => Ok(Rule {
            line: number,
            ..rule.clone()
        }),
        rules => Err(RuleError::Syntax(format!(
            "expected one rule, got {}",
            rules.len()
        ))),
    }
}

impl BuiltinRules {
    pub(crate) fn new(place: Place) -> Self {
        Self {
            place,
            by_number: Mutex::default(),
            compiled: ArcSwap::default(),
            on_change: Mutex::default(),
        }
    }

    /// Says whom to tell when the rules changed.
    pub fn on_change(&self, tell: impl Fn() + Send + Sync + 'static) {
        *self.on_change.lock() = Some(Box::new(tell));
    }

    pub(crate) fn read_all(&self) {
        let Some(meta) = self.place.get() else { return };
        for (key, value) in meta.values(PREFIX, None, MAX_RULES) {
            self.take(&key, Some(&value));
        }
        self.compile();
    }

    /// Rules with their numbers, in order, behind a number.
    #[must_use]
    pub fn list(&self, after: Option<u32>, limit: usize) -> Vec<(u32, String)> {
        let rules = self.by_number.lock();
        let from = after.map_or(0, |number| number.saturating_add(1));
        let behind = rules.range(from..).take(limit);
        behind
            .map(|(number, rule)| (*number, rule.to_string()))
            .collect()
    }

    /// Adds a rule at a number, or behind the last one. Done when committed; the number is returned.
    ///
    /// # Errors
    /// [`RuleError`].
    pub async fn add(&self, text: &str, at: Option<u32>) -> Result<u32, RuleError> {
        let meta = self.place.get().ok_or_else(closed)?;
        let (ticket, number) = {
            // Two callers must not take one number: the second sees what the first put there.
            let mut rules = self.by_number.lock();
            if rules.len() >= MAX_RULES {
                return Err(RuleError::TooMany);
            }
            let last = rules.last_key_value().map_or(0, |(number, _)| *number);
            let number = at.unwrap_or_else(|| last.saturating_add(STEP));
            let rule = parse(text, number)?;
            if rules.contains_key(&number) {
                return Err(RuleError::Taken(number));
            }
            let value = rule.to_string().into_bytes();
            rules.insert(number, rule);
            drop(rules);
            (meta.set_value(&key(number), value), number)
        };
        match committed(ticket).await {
            Ok(()) => Ok(number),
            Err(error) => {
                self.by_number.lock().remove(&number);
                self.compile();
                Err(error)
            }
        }
    }

    /// Removes the rule of a number; false if there is none.
    ///
    /// # Errors
    /// [`RuleError::Unavailable`].
    pub async fn remove(&self, number: u32) -> Result<bool, RuleError> {
        let meta = self.place.get().ok_or_else(closed)?;
        if !self.by_number.lock().contains_key(&number) {
            return Ok(false);
        }
        committed(meta.remove_value(&key(number))).await?;
        Ok(true)
    }

    /// Takes over a change without compiling; true if it was one of a rule.
    fn take(&self, key: &str, value: Option<&[u8]>) -> bool {
        let number = key.strip_prefix(PREFIX).and_then(|text| text.parse().ok());
        let Some(number) = number else { return false };
        let rule = value.map(|value| {
            let text = std::str::from_utf8(value).map_err(|e| RuleError::Syntax(e.to_string()))?;
            parse(text, number)
        });
        let mut rules = self.by_number.lock();
        match rule {
            None => {
                rules.remove(&number);
            }
            Some(Ok(rule)) => {
                rules.insert(number, rule);
            }
            Some(Err(error)) => {
                // A rule that cannot be read must not open what it closed.
                tracing::error!(number, %error, "a stored rule cannot be read: it denies everything");
                let mut deny = parse("{deny, all}.", number).expect("a rule of the grammar");
                deny.line = number;
                rules.insert(number, deny);
            }
        }
        true
    }

    fn compile(&self) {
        let rules = self.by_number.lock();
        let set = RuleSet::from_rules(rules.values().cloned().collect());
        // Under the lock, so that the newest rules are stored last.
        self.compiled.store(Arc::new(set));
        drop(rules);
        if let Some(tell) = &*self.on_change.lock() {
            tell();
        }
    }
}

fn closed() -> RuleError {
    RuleError::Unavailable("the durable backend is not open".to_owned())
}

async fn committed(ticket: Ticket) -> Result<(), RuleError> {
    let failed = |code: nightjar_mqtt::ReasonCode| RuleError::Unavailable(code.as_str().to_owned());
    ticket.wait().await.map_err(failed)
}

impl MetaWatcher for BuiltinRules {
    fn changed(&self, key: &str, value: Option<&[u8]>) {
        if self.take(key, value) {
            self.compile();
        }
    }
}

/// The rules as a source of `[[acl.sources]]`.
pub struct BuiltinSource(pub Arc<BuiltinRules>);

impl Authorizer for BuiltinSource {
    fn name(&self) -> &str {
        NAME
    }

    fn authorize<'a>(&'a self, client: &'a ClientInfo, action: Action<'a>) -> Answer<'a> {
        Answer::Now(self.0.compiled.load().judge(client, action))
    }

    fn may_deliver(&self, client: &ClientInfo, filter: &str, qos: QoS, topic: &str) -> Verdict {
        self.0
            .compiled
            .load()
            .may_deliver(client, filter, qos, topic)
    }

    fn explain(&self, client: &ClientInfo, action: Action<'_>) -> Option<String> {
        let rules = self.0.compiled.load();
        words(&rules.decide(client, action), NAME)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::OnceLock;

    use super::*;
    use crate::acl::tests::client;
    use crate::meta::{MemoryMeta, MetaStore};

    fn wait<T>(future: impl Future<Output = T>) -> T {
        let mut future = std::pin::pin!(future);
        let mut cx = std::task::Context::from_waker(std::task::Waker::noop());
        match future.as_mut().poll(&mut cx) {
            std::task::Poll::Ready(value) => value,
            std::task::Poll::Pending => panic!("memory is ready at once"),
        }
    }

    fn kept(meta: &Arc<MemoryMeta>) -> Arc<BuiltinRules> {
        let place: Place = Arc::new(OnceLock::new());
        let rules = Arc::new(BuiltinRules::new(place.clone()));
        let _ = place.set(meta.clone());
        meta.watch(rules.clone());
        rules.read_all();
        rules
    }

    fn verdict(rules: &Arc<BuiltinRules>, topic: &str) -> Verdict {
        let source = BuiltinSource(rules.clone());
        let client = client();
        let action = Action::Publish {
            topic,
            qos: QoS::AtMostOnce,
            retain: false,
        };
        match source.authorize(&client, action) {
            Answer::Now(verdict) => verdict,
            Answer::Later(_) => panic!("rules answer at once"),
        }
    }

    #[test]
    fn rules_are_tried_by_number_and_are_there_after_a_restart() {
        let meta = Arc::new(MemoryMeta::default());
        let rules = kept(&meta);
        assert_eq!(verdict(&rules, "a"), Verdict::NoMatch);
        let add = |text, at| wait(rules.add(text, at));
        assert_eq!(
            add("{allow, {user, \"ann\"}, publish, [\"a/#\"]}.", None),
            Ok(10)
        );
        assert_eq!(add("{deny, all}", None), Ok(20));
        assert_eq!(add("{deny, all, all, [\"a/secret\"]}.", Some(5)), Ok(5));
        assert_eq!(add("{deny, all}.", Some(5)), Err(RuleError::Taken(5)));
        assert!(matches!(
            add("{allow, everyone}.", None),
            Err(RuleError::Syntax(_))
        ));
        assert!(matches!(
            add("{deny, all}. {allow, all}.", None),
            Err(RuleError::Syntax(_))
        ));
        for rules in [&rules, &kept(&meta)] {
            assert_eq!(verdict(rules, "a/b"), Verdict::Allow);
            assert_eq!(verdict(rules, "a/secret"), Verdict::Deny);
            assert_eq!(verdict(rules, "b"), Verdict::Deny);
            let numbers: Vec<u32> = rules.list(None, 9).iter().map(|(n, _)| *n).collect();
            assert_eq!(numbers, [5, 10, 20]);
            assert_eq!(rules.list(Some(5), 1)[0].0, 10);
        }
        assert_eq!(wait(rules.remove(5)), Ok(true));
        assert_eq!(wait(rules.remove(5)), Ok(false));
        assert_eq!(verdict(&rules, "a/secret"), Verdict::Allow);
    }

    #[test]
    fn a_stored_rule_that_cannot_be_read_denies() {
        let meta = Arc::new(MemoryMeta::default());
        let _ = meta.set_value("acl/0000000010", b"{allow, nobody}.".to_vec());
        let _ = meta.set_value("acl/0000000020", b"{allow, all}.".to_vec());
        assert_eq!(verdict(&kept(&meta), "a"), Verdict::Deny);
    }
}
