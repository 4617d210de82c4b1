//! Which rules of a large set can speak of a question at all.
//!
//! Rules that name users, clients or addresses are found by them in hash tables, the rest in one bucket for everyone;
//! within a bucket a trie over the topics narrows the choice. What comes out is a superset, in the order of the rules:
//! the rule itself is then asked whether it really matches, so an index can be slow, but not wrong by being generous.

use std::net::IpAddr;

use foldhash::fast::RandomState;
use hashbrown::HashMap;
use smallvec::SmallVec;

use super::pattern::{Level, Subject, TopicPattern};
use super::rule::{Cidr, Rule, Who, mask};

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

    /// Lists that hold every rule that could match a subscription or topic name `asked`, or overlap it.
    pub fn candidates<'a>(&'a self, subject: &Subject<'_>, asked: &str, lists: &mut Lists<'a>) {
        self.buckets(subject, |bucket| bucket.candidates(asked, lists));
    }

    /// Lists that, with those of [`Self::candidates`] for any topic, hold every rule with `{eq, filter}`.
    pub fn literals<'a>(&'a self, subject: &Subject<'_>, filter: &str, lists: &mut Lists<'a>) {
        self.buckets(subject, |bucket| bucket.literals(filter, lists));
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
    trie: Option<Box<Trie>>,
}

impl Bucket {
    fn build(&mut self, rules: &[Rule]) {
        let pending = std::mem::take(&mut self.pending);
        if pending.len() <= FLAT {
            self.always = pending.into();
            return;
        }
        let mut always = Ids::new();
        let mut trie = Trie {
            nodes: vec![Node::default()],
            literals: HashMap::default(),
        };
        for id in pending {
            let rule = &rules[usize::try_from(id).expect("u32 fits usize")];
            match &rule.topics {
                None => always.push(id),
                Some(topics) => {
                    for topic in topics {
                        if topic.is_literal() && topic.has_placeholder() {
                            push(&mut always, id);
                        } else if topic.is_literal() {
                            push(trie.literals.entry(topic.text().into()).or_default(), id);
                        } else {
                            trie.insert(topic, id);
                        }
                    }
                }
            }
        }
        self.always = always.into();
        self.trie = Some(Box::new(trie));
    }

    fn candidates<'a>(&'a self, asked: &str, lists: &mut Lists<'a>) {
        if !self.always.is_empty() {
            lists.push(&self.always);
        }
        self.literals(asked, lists);
        if let Some(trie) = &self.trie {
            trie.walk(0, Some(asked), lists);
        }
    }

    fn literals<'a>(&'a self, filter: &str, lists: &mut Lists<'a>) {
        if let Some(literals) = self.trie.as_ref().and_then(|t| t.literals.get(filter)) {
            lists.push(literals);
        }
    }
}

/// Appends to an ordered list unless it is there: a rule may hold the same topic twice.
fn push(ids: &mut Ids, id: u32) {
    if ids.last() != Some(&id) {
        ids.push(id);
    }
}

/// Rules by the levels of their topics. A level with placeholders is treated as `+`.
#[derive(Debug)]
struct Trie {
    nodes: Vec<Node>,
    /// Literal filters with wildcards, by their text.
    literals: HashMap<Box<str>, Ids, RandomState>,
}

#[derive(Debug, Default)]
struct Node {
    children: HashMap<Box<str>, u32, RandomState>,
    /// The node of `+`; 0, the root, where there is none.
    plus: u32,
    /// Rules whose topic ends here.
    here: Ids,
    /// Rules whose topic ends with `#` here.
    below: Ids,
}

impl Trie {
    fn insert(&mut self, topic: &TopicPattern, id: u32) {
        let mut at = 0;
        for level in topic.levels() {
            match level {
                Level::Hash => {
                    push(&mut self.nodes[at].below, id);
                    return;
                }
                Level::Plus | Level::Template(_) => {
                    if self.nodes[at].plus == 0 {
                        let new = self.add();
                        self.nodes[at].plus = new;
                    }
                    at = index(self.nodes[at].plus);
                }
                Level::Text(text) => {
                    let child = match self.nodes[at].children.get(text) {
                        Some(child) => *child,
                        None => {
                            let new = self.add();
                            self.nodes[at].children.insert(text.clone(), new);
                            new
                        }
                    };
                    at = index(child);
                }
            }
        }
        push(&mut self.nodes[at].here, id);
    }

    fn add(&mut self) -> u32 {
        self.nodes.push(Node::default());
        u32::try_from(self.nodes.len() - 1).expect("RuleSet::from_rules bounds the levels")
    }

    /// Collects what overlaps the levels left of an asked filter; `None` when it has ended.
    ///
    /// Recursion is as deep as the rules' longest topic, never as the asked one.
    fn walk<'a>(&'a self, at: u32, asked: Option<&str>, lists: &mut Lists<'a>) {
        let node = &self.nodes[index(at)];
        if !node.below.is_empty() {
            lists.push(&node.below);
        }
        let Some(asked) = asked else {
            if !node.here.is_empty() {
                lists.push(&node.here);
            }
            return;
        };
        let (level, rest) = match asked.split_once('/') {
            Some((level, rest)) => (level, Some(rest)),
            None => (asked, None),
        };
        match level {
            "#" => return self.all(at, lists),
            "+" => {
                for child in node.children.values() {
                    self.walk(*child, rest, lists);
                }
            }
            level => {
                if let Some(child) = node.children.get(level) {
                    self.walk(*child, rest, lists);
                }
            }
        }
        if node.plus != 0 {
            self.walk(node.plus, rest, lists);
        }
    }

    /// Collects everything from a node on, but the node's own `below`, which the walk has taken.
    fn all<'a>(&'a self, at: u32, lists: &mut Lists<'a>) {
        let node = &self.nodes[index(at)];
        if !node.here.is_empty() {
            lists.push(&node.here);
        }
        let plus = (node.plus != 0).then_some(node.plus);
        for child in node.children.values().copied().chain(plus) {
            let below = &self.nodes[index(child)].below;
            if !below.is_empty() {
                lists.push(below);
            }
            self.all(child, lists);
        }
    }
}

fn index(node: u32) -> usize {
    usize::try_from(node).expect("u32 fits usize")
}
