//! Which rules of a large set can speak of a question at all.
//!
//! Rules that name users, clients or addresses are found by them in hash tables, the rest in one bucket for everyone;
//! within a bucket a trie over the topics narrows the choice. What comes out is a superset: the rule itself is then asked
//! whether it really matches, so an index may be generous without being wrong.

use std::net::IpAddr;

use foldhash::fast::RandomState;
use hashbrown::HashMap;
use smallvec::SmallVec;

use super::pattern::{Level, Subject, TopicPattern};
use super::rule::{Cidr, Permission, Rule, Who, mask};

/// Positions of rules, in order. Positions, not references: they are what sorts.
type Ids = Vec<u32>;
/// Sorted lists that together hold the candidates.
pub(super) type Lists<'a> = SmallVec<[&'a [u32]; 16]>;

/// Buckets up to this size are read whole: that is cheaper than a walk over a trie.
const FLAT: usize = 8;

#[derive(Debug, Default)]
pub(super) struct Index {
    users: HashMap<Box<str>, Bucket, RandomState>,
    clients: HashMap<Box<str>, Bucket, RandomState>,
    /// One table for each family and prefix length in use.
    networks: Vec<Networks>,
    everyone: Bucket,
}

#[derive(Debug)]
struct Networks {
    v4: bool,
    prefix: u8,
    buckets: HashMap<u128, Bucket, RandomState>,
}

/// How a rule can be found by who it speaks of.
enum Key<'a> {
    User(&'a str),
    Client(&'a str),
    Network(Cidr),
}

impl Index {
    pub fn new(rules: &[Rule]) -> Self {
        let mut index = Self::default();
        for (id, rule) in rules.iter().enumerate() {
            let id = u32::try_from(id).expect("RuleSet::from_rules bounds the number of rules");
            match keys(&rule.who) {
                None => index.everyone.pending.push(id),
                Some(keys) => {
                    for key in keys {
                        let bucket = index.bucket(&key);
                        // One rule may name the same user twice.
                        if bucket.pending.last() != Some(&id) {
                            bucket.pending.push(id);
                        }
                    }
                }
            }
        }
        index.everyone.build(rules);
        let networks = index
            .networks
            .iter_mut()
            .flat_map(|n| n.buckets.values_mut());
        for bucket in index
            .users
            .values_mut()
            .chain(index.clients.values_mut())
            .chain(networks)
        {
            bucket.build(rules);
        }
        index
    }

    fn bucket(&mut self, key: &Key<'_>) -> &mut Bucket {
        match *key {
            Key::User(name) => self.users.entry(name.into()).or_default(),
            Key::Client(id) => self.clients.entry(id.into()).or_default(),
            Key::Network(network) => {
                let at = self
                    .networks
                    .iter()
                    .position(|n| n.v4 == network.is_v4() && n.prefix == network.prefix())
                    .unwrap_or_else(|| {
                        self.networks.push(Networks {
                            v4: network.is_v4(),
                            prefix: network.prefix(),
                            buckets: HashMap::default(),
                        });
                        self.networks.len() - 1
                    });
                self.networks[at]
                    .buckets
                    .entry(network.masked())
                    .or_default()
            }
        }
    }

    /// Lists that hold every rule that could cover the filter or topic name `asked`.
    pub fn candidates<'a>(&'a self, subject: &Subject<'_>, asked: &str, lists: &mut Lists<'a>) {
        self.buckets(subject, |bucket| bucket.candidates(asked, lists));
    }

    /// Lists that, with those of [`Self::candidates`] for any topic, hold every rule with `{eq, filter}`.
    pub fn literals<'a>(&'a self, subject: &Subject<'_>, filter: &str, lists: &mut Lists<'a>) {
        self.buckets(subject, |bucket| bucket.literals(filter, lists));
    }

    /// True if one of the deny rules that could overlap the filter `asked`, and stand before `before`, is confirmed by
    /// `is`. Asked in no particular order, and no longer than until the first yes.
    pub fn denied_in_part(
        &self,
        subject: &Subject<'_>,
        asked: &str,
        before: u32,
        mut is: impl FnMut(u32) -> bool,
    ) -> bool {
        let mut found = false;
        self.buckets(subject, |bucket| {
            found = found || bucket.denied_in_part(asked, before, &mut is);
        });
        found
    }

    fn buckets<'a>(&'a self, subject: &Subject<'_>, mut each: impl FnMut(&'a Bucket)) {
        let client = subject.client;
        if let Some(bucket) = client
            .username
            .as_deref()
            .and_then(|name| self.users.get(name))
        {
            each(bucket);
        }
        if let Some(bucket) = self.clients.get(&*client.client_id) {
            each(bucket);
        }
        for networks in &self.networks {
            if networks.v4 == matches!(subject.peer, IpAddr::V4(_))
                && let Some(bucket) = networks.buckets.get(&mask(subject.peer, networks.prefix))
            {
                each(bucket);
            }
        }
        each(&self.everyone);
    }
}

/// The keys of a who, `None` if it can only be found by asking it.
fn keys(who: &Who) -> Option<SmallVec<[Key<'_>; 1]>> {
    let one = |key| Some(SmallVec::from_iter([key]));
    match who {
        Who::User(name) => one(Key::User(name)),
        Who::Client(id) => one(Key::Client(id)),
        Who::Addresses(networks) => Some(networks.iter().map(|n| Key::Network(*n)).collect()),
        // Each of them must hold, so any one's keys will do: the fewest.
        Who::And(all) => all.iter().filter_map(keys).min_by_key(SmallVec::len),
        Who::Or(any) => {
            let mut found = SmallVec::new();
            for who in any {
                found.extend(keys(who)?);
            }
            Some(found)
        }
        Who::All | Who::UserRegex(_) | Who::ClientRegex(_) | Who::Listener(_) => None,
    }
}

#[derive(Debug, Default)]
struct Bucket {
    /// While building: all rules.
    pending: Ids,
    /// Rules tried whatever the topic: those without topics, or all of a small bucket.
    always: Box<[u32]>,
    tries: Option<Box<Tries>>,
}

/// A large bucket.
#[derive(Debug, Default)]
struct Tries {
    /// Every rule with topics, for the walk that finds what covers.
    all: Trie,
    /// Deny rules alone, for the wider walk that finds what overlaps: `#` overlaps nearly everything.
    denies: Trie,
    /// Literal filters with wildcards, by their text.
    literals: HashMap<Box<str>, Ids, RandomState>,
}

impl Bucket {
    fn build(&mut self, rules: &[Rule]) {
        let pending = std::mem::take(&mut self.pending);
        if pending.len() <= FLAT {
            self.always = pending.into();
            return;
        }
        let mut always = Ids::new();
        let mut tries = Tries::default();
        for id in pending {
            let rule = &rules[usize::try_from(id).expect("u32 fits usize")];
            let Some(topics) = &rule.topics else {
                always.push(id);
                continue;
            };
            for topic in topics {
                if topic.is_literal() && topic.has_placeholder() {
                    push(&mut always, id);
                } else if topic.is_literal() {
                    push(tries.literals.entry(topic.text().into()).or_default(), id);
                } else {
                    tries.all.insert(topic, id);
                    if rule.permission == Permission::Deny && rule.action.subscribe {
                        tries.denies.insert(topic, id);
                    }
                }
            }
        }
        self.always = always.into();
        self.tries = Some(Box::new(tries));
    }

    fn candidates<'a>(&'a self, asked: &str, lists: &mut Lists<'a>) {
        if !self.always.is_empty() {
            lists.push(&self.always);
        }
        self.literals(asked, lists);
        if let Some(tries) = &self.tries {
            tries.all.covering(ROOT, Some(asked), lists);
        }
    }

    fn literals<'a>(&'a self, filter: &str, lists: &mut Lists<'a>) {
        if let Some(literals) = self.tries.as_ref().and_then(|t| t.literals.get(filter)) {
            lists.push(literals);
        }
    }

    fn denied_in_part(&self, asked: &str, before: u32, is: &mut impl FnMut(u32) -> bool) -> bool {
        match &self.tries {
            // Those tried whatever the topic have no topics or only a text: they cover, or do not overlap.
            Some(tries) => tries.denies.overlapping(ROOT, Some(asked), before, is),
            None => any(&self.always, before, is),
        }
    }
}

/// Asks the rules of an ordered list that stand before a position.
fn any(ids: &[u32], before: u32, is: &mut impl FnMut(u32) -> bool) -> bool {
    ids.iter().take_while(|id| **id < before).copied().any(is)
}

/// Appends to an ordered list unless it is there: a rule may hold the same topic twice.
fn push(ids: &mut Ids, id: u32) {
    if ids.last() != Some(&id) {
        ids.push(id);
    }
}

/// Rules by the levels of their topics. A level with placeholders is treated as `+`.
///
/// Walks recurse as deep as the rules' longest topic ([`super::MAX_LEVELS`]), never as the asked one.
#[derive(Debug)]
struct Trie {
    nodes: Vec<Node>,
}

const ROOT: u32 = 0;

#[derive(Debug)]
struct Node {
    children: HashMap<Box<str>, u32, RandomState>,
    /// The node of `+`; the root where there is none.
    plus: u32,
    /// The first rule in this node and all below it.
    first: u32,
    /// Rules whose topic ends here.
    here: Ids,
    /// Rules whose topic ends with `#` here.
    below: Ids,
}

impl Node {
    fn new(first: u32) -> Self {
        Self {
            children: HashMap::default(),
            plus: ROOT,
            first,
            here: Ids::new(),
            below: Ids::new(),
        }
    }

    fn plus(&self) -> Option<u32> {
        (self.plus != ROOT).then_some(self.plus)
    }
}

impl Default for Trie {
    fn default() -> Self {
        Self {
            nodes: vec![Node::new(u32::MAX)],
        }
    }
}

impl Trie {
    /// Rules come in order, so a node's first rule is the one it was made for.
    fn insert(&mut self, topic: &TopicPattern, id: u32) {
        let mut at = ROOT;
        let root = self.node_mut(ROOT);
        root.first = root.first.min(id);
        for level in topic.levels() {
            let next = match level {
                Level::Hash => {
                    push(&mut self.node_mut(at).below, id);
                    return;
                }
                Level::Plus | Level::Template(_) => self.node(at).plus(),
                Level::Text(text) => self.node(at).children.get(text).copied(),
            };
            at = match next {
                Some(next) => next,
                None => {
                    let new = u32::try_from(self.nodes.len())
                        .expect("MAX_RULES and the size of a file bound the levels");
                    self.nodes.push(Node::new(id));
                    match level {
                        Level::Text(text) => {
                            self.node_mut(at).children.insert(text.clone(), new);
                        }
                        _ => self.node_mut(at).plus = new,
                    }
                    new
                }
            };
        }
        push(&mut self.node_mut(at).here, id);
    }

    fn node(&self, at: u32) -> &Node {
        &self.nodes[usize::try_from(at).expect("u32 fits usize")]
    }

    fn node_mut(&mut self, at: u32) -> &mut Node {
        &mut self.nodes[usize::try_from(at).expect("u32 fits usize")]
    }

    /// Collects what could cover the levels left of an asked filter; `None` when it has ended.
    fn covering<'a>(&'a self, at: u32, asked: Option<&str>, lists: &mut Lists<'a>) {
        let node = self.node(at);
        if !node.below.is_empty() {
            lists.push(&node.below);
        }
        let Some(asked) = asked else {
            if !node.here.is_empty() {
                lists.push(&node.here);
            }
            return;
        };
        let (level, rest) = split(asked);
        if level == "#" {
            // `+/#` is the same set as `#` at the front, and nothing but `#` covers `#` further down.
            if let Some(plus) = node.plus().filter(|_| at == ROOT) {
                lists.push(&self.node(plus).below);
            }
            return;
        }
        if let Some(child) = node.children.get(level) {
            self.covering(*child, rest, lists);
        }
        if let Some(plus) = node.plus() {
            self.covering(plus, rest, lists);
        }
    }

    /// True if a rule that could overlap the levels left, and stands before `before`, is confirmed.
    fn overlapping(
        &self,
        at: u32,
        asked: Option<&str>,
        before: u32,
        is: &mut impl FnMut(u32) -> bool,
    ) -> bool {
        let node = self.node(at);
        if node.first >= before {
            return false;
        }
        if any(&node.below, before, is) {
            return true;
        }
        let (level, rest) = match asked {
            None => return any(&node.here, before, is),
            Some(asked) => split(asked),
        };
        // Below `#` everything overlaps, this node's own end included.
        let rest = if level == "#" {
            if any(&node.here, before, is) {
                return true;
            }
            asked
        } else {
            rest
        };
        let mut go = |at: u32| self.overlapping(at, rest, before, is);
        let children = match level {
            "#" | "+" => node.children.values().any(|child| go(*child)),
            level => node.children.get(level).is_some_and(|child| go(*child)),
        };
        children || node.plus().is_some_and(go)
    }
}

/// The first level and the rest, `None` behind the last.
fn split(asked: &str) -> (&str, Option<&str>) {
    match asked.split_once('/') {
        Some((level, rest)) => (level, Some(rest)),
        None => (asked, None),
    }
}
