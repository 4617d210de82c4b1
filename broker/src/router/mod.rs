//! The router: which subscribers of this node, which shards of the durable backend and which shared groups want a
//! message. Synchronous; no admin queries, no I/O.
//!
//! Exact filters live in 256 hash tables by topic hash, filters with wildcards in 64 tries by first level and one
//! for a leading wildcard. Each has a version, so that a publisher can keep what it found for its last topics.

mod group;
mod targets;

use std::hash::{BuildHasher, Hasher};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use foldhash::fast::RandomState;
use hashbrown::HashMap;
use nightjar_mqtt::TopicFilter;
use parking_lot::RwLock;
use smallvec::SmallVec;

use crate::filter_index::{WildTrie, is_wild};
use crate::handle::SessionHandle;
use crate::mesh::Interest;
use crate::settings::SharedStrategy;
use crate::subscription::Subscription;

pub use group::{Group, Member, Turn};
pub use targets::{Target, Targets};

const EXACT_SHARDS: usize = 256;
const WILD_SHARDS: usize = 64;

#[derive(Debug)]
#[repr(align(64))]
struct Versioned<T> {
    version: AtomicU64,
    table: RwLock<T>,
}

impl<T: Default> Default for Versioned<T> {
    fn default() -> Self {
        Self {
            version: AtomicU64::new(0),
            table: RwLock::default(),
        }
    }
}

type Exact = HashMap<TopicFilter, Targets, RandomState>;

/// What a topic name leads to, with the versions it was found at.
#[derive(Debug, Clone, Default)]
pub struct Route {
    lists: SmallVec<[Targets; 2]>,
    versions: [u64; 3],
    shards: (u16, u16),
}

impl Route {
    /// A route to these targets, of no topic: never current.
    #[must_use]
    pub(crate) fn of(lists: impl Iterator<Item = Vec<Target>>) -> Self {
        Self {
            lists: lists.map(|list| Targets::Many(Arc::new(list))).collect(),
            ..Self::default()
        }
    }

    /// The target lists, one for each filter that matches.
    #[must_use]
    #[inline]
    pub fn lists(&self) -> &[Targets] {
        &self.lists
    }

    /// Number of targets, overlapping subscriptions counted each.
    #[must_use]
    pub fn len(&self) -> usize {
        self.lists.iter().map(|list| list.as_slice().len()).sum()
    }

    /// True if nobody wants the topic.
    #[must_use]
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.lists.is_empty()
    }
}

/// The routing table of one node.
#[derive(Debug)]
pub struct Router {
    exact: Box<[Versioned<Exact>]>,
    wild: Box<[Versioned<WildTrie<Targets>>]>,
    leading: Versioned<WildTrie<Targets>>,
    hasher: RandomState,
}

impl Default for Router {
    fn default() -> Self {
        Self::new()
    }
}

impl Router {
    /// An empty router.
    #[must_use]
    pub fn new() -> Self {
        Self {
            exact: (0..EXACT_SHARDS).map(|_| Versioned::default()).collect(),
            wild: (0..WILD_SHARDS).map(|_| Versioned::default()).collect(),
            leading: Versioned::default(),
            hasher: RandomState::default(),
        }
    }

    fn hash(&self, text: &str) -> u64 {
        let mut state = self.hasher.build_hasher();
        state.write(text.as_bytes());
        state.finish()
    }

    fn exact_shard(&self, topic: &str) -> usize {
        (self.hash(topic) >> 32) as usize % EXACT_SHARDS
    }

    fn wild_shard(&self, topic: &str) -> usize {
        let first = topic.split('/').next().unwrap_or_default();
        (self.hash(first) >> 32) as usize % WILD_SHARDS
    }

    /// Runs `f` on the targets of a filter, made if missing, removed if left empty; raises the shard's version.
    fn update<T>(&self, filter: &TopicFilter, f: impl FnOnce(&mut Targets) -> T) -> T {
        if !is_wild(filter) {
            let shard = &self.exact[self.exact_shard(filter)];
            let mut table = shard.table.write();
            let targets = table.entry_ref(filter).or_default();
            let result = f(targets);
            if targets.is_empty() {
                table.remove(filter.as_str());
                if table.is_empty() || table.capacity() > 1024 && table.len() * 8 < table.capacity()
                {
                    table.shrink_to_fit();
                }
            }
            shard.version.fetch_add(1, Ordering::Release);
            return result;
        }
        let shard = if filter.starts_with(['+', '#']) {
            &self.leading
        } else {
            &self.wild[self.wild_shard(filter)]
        };
        let mut trie = shard.table.write();
        let targets = trie.get_or_insert_with(filter, Targets::default);
        let result = f(targets);
        if targets.is_empty() {
            trie.remove(filter);
        }
        shard.version.fetch_add(1, Ordering::Release);
        result
    }

    /// Adds or replaces the subscription of a session on a filter (not a shared one).
    /// `existed` says whether it replaces one, which costs a search among the filter's receivers.
    pub fn subscribe(
        &self,
        filter: &TopicFilter,
        handle: &Arc<SessionHandle>,
        sub: Subscription,
        existed: bool,
    ) {
        self.update(filter, |targets| targets.put_session(handle, sub, existed));
    }

    /// Removes the subscription of a session on a filter.
    pub fn unsubscribe(&self, filter: &TopicFilter, handle: &Arc<SessionHandle>) {
        self.update(filter, |targets| targets.remove_session(handle));
    }

    /// Adds a member to the shared group `name` on `filter`.
    pub fn join_group(
        &self,
        filter: &TopicFilter,
        name: &str,
        strategy: SharedStrategy,
        handle: &Arc<SessionHandle>,
        sub: Subscription,
    ) {
        self.update(filter, |targets| {
            targets
                .group_or_insert(name, filter, strategy)
                .join(handle, sub);
        });
    }

    /// Removes a member from the shared group `name` on `filter`; the group goes with its last member.
    pub fn leave_group(&self, filter: &TopicFilter, name: &str, handle: &Arc<SessionHandle>) {
        self.update(filter, |targets| targets.leave_group(name, handle));
    }

    /// A durable shard has its first subscription of QoS 1/2 on this filter (`$share/...` in full).
    pub fn add_shard(&self, filter: &TopicFilter, strategy: SharedStrategy, shard: u16) {
        match filter.shared() {
            Some(shared) => {
                let inner = TopicFilter::from_validated(shared.filter);
                self.update(&inner, |targets| {
                    targets
                        .group_or_insert(shared.group, &inner, strategy)
                        .add_shard(shard);
                });
            }
            None => self.update(filter, |targets| targets.add_shard(shard)),
        }
    }

    /// A durable shard lost its last subscription of QoS 1/2 on this filter (`$share/...` in full).
    pub fn remove_shard(&self, filter: &TopicFilter, shard: u16) {
        match filter.shared() {
            Some(shared) => {
                let inner = TopicFilter::from_validated(shared.filter);
                self.update(&inner, |targets| {
                    targets.remove_group_shard(shared.group, shard);
                });
            }
            None => self.update(filter, |targets| targets.remove_shard(shard)),
        }
    }

    /// What another node wants of a filter (`$share/...` in full). `here` is the number of this node.
    pub fn set_node(
        &self,
        filter: &TopicFilter,
        strategy: SharedStrategy,
        node: u64,
        here: u64,
        interest: Interest,
    ) {
        match filter.shared() {
            Some(shared) => {
                let inner = TopicFilter::from_validated(shared.filter);
                self.update(&inner, |targets| {
                    targets.set_group_node(
                        shared.group,
                        &inner,
                        strategy,
                        (node, here),
                        interest.members,
                    );
                });
            }
            None => {
                let wanted = (interest.members > 0).then_some(interest.acknowledged > 0);
                self.update(filter, |targets| targets.set_node(node, wanted));
            }
        }
    }

    /// Finds who wants a topic.
    #[must_use]
    pub fn route(&self, topic: &str) -> Route {
        let (exact, wild) = (self.exact_shard(topic), self.wild_shard(topic));
        let mut lists = SmallVec::new();
        let shard = &self.exact[exact];
        let exact_version = {
            let table = shard.table.read();
            if let Some(targets) = table.get(topic) {
                lists.push(targets.clone());
            }
            shard.version.load(Ordering::Acquire)
        };
        let mut search = |shard: &Versioned<WildTrie<Targets>>| {
            let trie = shard.table.read();
            trie.matches(topic, |targets| lists.push(targets.clone()));
            shard.version.load(Ordering::Acquire)
        };
        let wild_version = search(&self.wild[wild]);
        let leading_version = search(&self.leading);
        Route {
            lists,
            versions: [exact_version, wild_version, leading_version],
            shards: (exact as u16, wild as u16),
        }
    }

    /// Is a route found earlier still what [`Self::route`] would find?
    #[must_use]
    #[inline]
    pub fn is_current(&self, route: &Route) -> bool {
        self.exact[route.shards.0 as usize]
            .version
            .load(Ordering::Acquire)
            == route.versions[0]
            && self.wild[route.shards.1 as usize]
                .version
                .load(Ordering::Acquire)
                == route.versions[1]
            && self.leading.version.load(Ordering::Acquire) == route.versions[2]
    }

    /// Number of distinct filters.
    #[must_use]
    pub fn filters(&self) -> usize {
        self.exact
            .iter()
            .map(|shard| shard.table.read().len())
            .sum::<usize>()
            + self
                .wild
                .iter()
                .map(|shard| shard.table.read().len())
                .sum::<usize>()
            + self.leading.table.read().len()
    }
}
