//! Rules in rows.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use nightjar_broker::access::{Action, Answer, Authorizer, BoxFuture, ClientInfo, Verdict};
use nightjar_broker::acl::{
    Cidr, MAX_RULES, Permission, Rule, RuleAction, RuleSet, TopicPattern, Who,
};
use nightjar_mqtt::QoS;
use parking_lot::Mutex;

use super::Guard;

/// Rules fetched for a client serve its other topics for this long; the verdicts themselves are cached by the broker.
const FRESH: Duration = Duration::from_secs(2);
/// Clients whose rules are kept, in each of two halves.
const KEPT: usize = 16_384;

/// A row of `mqtt_acl`, as far as it is filled.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct AclRow {
    /// `allow`: 0 deny, 1 allow.
    pub allow: bool,
    /// `ipaddr`: an address or network.
    pub ipaddr: Option<String>,
    /// `username`; `$all` is everyone.
    pub username: Option<String>,
    /// `clientid`.
    pub clientid: Option<String>,
    /// `access`: 1 subscribe, 2 publish, 3 both.
    pub access: u8,
    /// `topic`, literal behind `eq `.
    pub topic: String,
}

impl AclRow {
    /// The rule of this row. Columns that are empty say nothing; of several filled ones all must match.
    ///
    /// # Errors
    /// Expected and got.
    pub fn rule(&self) -> Result<Rule, String> {
        let mut who = Vec::new();
        let filled = |column: &Option<String>| column.clone().filter(|text| !text.is_empty());
        if let Some(ip) = filled(&self.ipaddr) {
            let network = Cidr::parse(&ip);
            let network = network.ok_or_else(|| format!("expected an address, got {ip:?}"))?;
            who.push(Who::Addresses(vec![network]));
        }
        match filled(&self.username) {
            Some(name) if name != "$all" => who.push(Who::User(name.into())),
            _ => {}
        }
        if let Some(id) = filled(&self.clientid) {
            who.push(Who::Client(id.into()));
        }
        let who = match who.len() {
            0 => Who::All,
            1 => who.remove(0),
            _ => Who::And(who),
        };
        Ok(Rule {
            permission: match self.allow {
                true => Permission::Allow,
                false => Permission::Deny,
            },
            who,
            action: access(self.access)?,
            topics: Some(vec![topic(&self.topic)?]),
            line: 0,
        })
    }
}

/// 1 subscribe, 2 publish, 3 both.
pub(crate) fn access(number: u8) -> Result<RuleAction, String> {
    match number {
        1 => Ok(RuleAction::SUBSCRIBE),
        2 => Ok(RuleAction::PUBLISH),
        3 => Ok(RuleAction::ALL),
        other => Err(format!("expected access 1, 2 or 3, got {other}")),
    }
}

/// A topic of a table: `eq ` in front makes it literal.
pub(crate) fn topic(text: &str) -> Result<TopicPattern, String> {
    match text.strip_prefix("eq ") {
        Some(literal) => TopicPattern::literal(literal),
        None => TopicPattern::filter(text),
    }
    .map_err(|error| format!("topic {text:?}: {error}"))
}

/// Where rules are looked up.
pub trait RuleRows: Send + Sync {
    /// Kind and place: `mysql 127.0.0.1:3306/mqtt`.
    fn name(&self) -> &str;
    /// Looks a client's rules up, in the order they are tried. `Err` is the text for the log; a row that is not
    /// understood is one too, because it may deny.
    fn rules<'a>(&'a self, client: &'a ClientInfo) -> BoxFuture<'a, Result<Vec<Rule>, String>>;
}

/// Authorizes by rules of a database.
pub struct RowsAcl<S> {
    rows: S,
    guard: Guard,
    recent: Mutex<Recent>,
}

/// The questions' values that rules depend on.
type Key = (Arc<str>, Option<Arc<str>>, IpAddr);

/// Rules of the clients that asked last. When the young half is full it becomes the old one.
#[derive(Default)]
struct Recent {
    young: HashMap<Key, (Arc<RuleSet>, Instant)>,
    old: HashMap<Key, (Arc<RuleSet>, Instant)>,
}

impl Recent {
    fn get(&mut self, key: &Key) -> Option<(Arc<RuleSet>, Instant)> {
        if let Some(found) = self.young.get(key) {
            return Some(found.clone());
        }
        let (key, found) = self.old.remove_entry(key)?;
        self.put(key, found.clone());
        Some(found)
    }

    fn put(&mut self, key: Key, found: (Arc<RuleSet>, Instant)) {
        if self.young.len() >= KEPT {
            self.old = std::mem::take(&mut self.young);
        }
        self.young.insert(key, found);
    }
}

fn key(client: &ClientInfo) -> Key {
    (
        Arc::clone(&client.client_id),
        client.username.clone(),
        client.peer.ip(),
    )
}

impl<S: RuleRows> RowsAcl<S> {
    /// Rules of these rows; `limit` is the time for one question.
    pub fn new(rows: S, limit: Duration) -> Self {
        Self {
            rows,
            guard: Guard::new(limit),
            recent: Mutex::default(),
        }
    }

    async fn fetch(&self, client: &ClientInfo) -> Result<Arc<RuleSet>, String> {
        let rules = self.guard.wait(self.rows.rules(client)).await?;
        if rules.len() > MAX_RULES {
            return Err(format!(
                "expected at most {MAX_RULES} rows, got {}",
                rules.len()
            ));
        }
        let rules = Arc::new(RuleSet::from_rules(rules));
        let found = (Arc::clone(&rules), Instant::now());
        self.recent.lock().put(key(client), found);
        Ok(rules)
    }

    fn known(&self, client: &ClientInfo) -> Option<(Arc<RuleSet>, Instant)> {
        self.recent.lock().get(&key(client))
    }
}

impl<S: RuleRows> Authorizer for RowsAcl<S> {
    fn name(&self) -> &str {
        self.rows.name()
    }

    fn authorize<'a>(&'a self, client: &'a ClientInfo, action: Action<'a>) -> Answer<'a> {
        match self.known(client) {
            Some((rules, since)) if since.elapsed() < FRESH => {
                Answer::Now(rules.judge(client, action))
            }
            _ => Answer::Later(Box::pin(async move {
                let rules = self.fetch(client).await?;
                Ok(rules.judge(client, action))
            })),
        }
    }

    fn may_deliver(&self, client: &ClientInfo, filter: &str, qos: QoS, topic: &str) -> Verdict {
        match self.known(client) {
            Some((rules, _)) => rules.may_deliver(client, filter, qos, topic),
            None => Verdict::Deny,
        }
    }

    fn explain(&self, client: &ClientInfo, action: Action<'_>) -> Option<String> {
        let (rules, _) = self.known(client)?;
        let decision = rules.decide(client, action);
        let rule = decision.rule.or(decision.overlap)?;
        Some(format!("{}: {rule}", self.rows.name()))
    }

    /// Forgets what was fetched, so that a reload asks anew.
    fn reload(&self) -> Result<(), String> {
        *self.recent.lock() = Recent::default();
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;
    use crate::testing::client;

    fn row(allow: bool, columns: [Option<&str>; 3], access: u8, topic: &str) -> AclRow {
        let [ipaddr, username, clientid] = columns.map(|c| c.map(str::to_owned));
        AclRow {
            allow,
            ipaddr,
            username,
            clientid,
            access,
            topic: topic.to_owned(),
        }
    }

    #[test]
    fn rows_become_rules() {
        let table = [
            (
                row(true, [None, None, None], 1, "a/#"),
                "{allow, all, subscribe, [\"a/#\"]}.",
            ),
            (
                row(false, [Some(""), Some(""), Some("")], 2, "a"),
                "{deny, all, publish, [\"a\"]}.",
            ),
            (
                row(false, [None, Some("$all"), None], 3, "a"),
                "{deny, all, all, [\"a\"]}.",
            ),
            (
                row(
                    true,
                    [Some("10.0.0.0/8"), Some("ann"), Some("dev1")],
                    3,
                    "eq a/#",
                ),
                "{allow, {'and', [{ipaddr, \"10.0.0.0/8\"}, {user, \"ann\"}, {client, \"dev1\"}]}, all, [{eq, \"a/#\"}]}.",
            ),
            (
                row(true, [None, Some("$all"), Some("dev1")], 2, "c/%c/x"),
                "{allow, {client, \"dev1\"}, publish, [\"c/%c/x\"]}.",
            ),
        ];
        for (row, expected) in table {
            assert_eq!(row.rule().expect(expected).to_string(), expected);
        }
        for bad in [
            row(true, [Some("host"), None, None], 1, "a"),
            row(true, [None, None, None], 0, "a"),
            row(true, [None, None, None], 4, "a"),
            row(true, [None, None, None], 1, ""),
            row(true, [None, None, None], 1, "a/#/b"),
        ] {
            assert!(bad.rule().is_err(), "{bad:?}");
        }
    }

    struct Table {
        asked: AtomicUsize,
        rows: Mutex<Result<Vec<AclRow>, String>>,
    }

    impl RuleRows for Table {
        fn name(&self) -> &str {
            "table"
        }

        fn rules<'a>(&'a self, _: &'a ClientInfo) -> BoxFuture<'a, Result<Vec<Rule>, String>> {
            self.asked.fetch_add(1, Ordering::Relaxed);
            let rows = self.rows.lock().clone();
            let rules = rows.and_then(|rows| rows.iter().map(AclRow::rule).collect());
            Box::pin(std::future::ready(rules))
        }
    }

    #[tokio::test]
    async fn rules_are_fetched_once_for_the_topics_of_a_moment() {
        let rows = vec![
            row(false, [None, None, None], 1, "s/#"),
            row(true, [None, None, None], 3, "#"),
        ];
        let table = Table {
            asked: AtomicUsize::new(0),
            rows: Mutex::new(Ok(rows)),
        };
        let acl = RowsAcl::new(table, Duration::from_secs(1));
        let client = client();
        let qos = QoS::AtMostOnce;
        assert_eq!(acl.may_deliver(&client, "#", qos, "a"), Verdict::Deny);
        let judge = async |action| match acl.authorize(&client, action) {
            Answer::Now(verdict) => Ok(verdict),
            Answer::Later(later) => later.await,
        };
        let subscribe = |filter| Action::Subscribe { filter, qos };
        assert_eq!(judge(subscribe("#")).await, Ok(Verdict::AllowChecked));
        assert_eq!(judge(subscribe("s/a")).await, Ok(Verdict::Deny));
        assert_eq!(judge(subscribe("a")).await, Ok(Verdict::Allow));
        assert_eq!(acl.rows.asked.load(Ordering::Relaxed), 1);
        assert_eq!(acl.may_deliver(&client, "#", qos, "s/a"), Verdict::Deny);
        assert_eq!(acl.may_deliver(&client, "#", qos, "a"), Verdict::Allow);
        let words = acl.explain(&client, subscribe("s/a")).expect("a rule");
        assert_eq!(words, "table: {deny, all, subscribe, [\"s/#\"]}.");
        // A row that cannot be understood might deny: nothing is allowed by the others.
        acl.reload().expect("nothing to read");
        let mut rows = acl.rows.rows.lock().clone().expect("rows");
        rows.insert(0, row(false, [None, None, None], 9, "a"));
        *acl.rows.rows.lock() = Ok(rows);
        assert!(judge(subscribe("a")).await.is_err());
    }

    #[test]
    fn what_is_kept_is_bounded() {
        let mut recent = Recent::default();
        let key = |i: usize| -> Key { (i.to_string().into(), None, [10, 0, 0, 1].into()) };
        let rules: Arc<RuleSet> = Arc::default();
        for i in 0..100_000 {
            recent.put(key(i), (Arc::clone(&rules), Instant::now()));
            // One client that is there all the time stays.
            assert!(recent.get(&key(0)).is_some(), "{i}");
        }
        assert!(recent.young.len() + recent.old.len() <= 2 * KEPT + 1);
        assert!(recent.get(&key(1)).is_none());
    }
}
