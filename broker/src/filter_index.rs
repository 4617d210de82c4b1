//! An index from topic filters to values: a hash table for exact filters, a flat trie for those with wildcards.
//!
//! The router keeps many of each behind locks; the durable shards and the retained store have instances of their own.

use std::hash::{BuildHasher, Hasher};

use foldhash::fast::RandomState;
use hashbrown::{HashMap, HashTable};
use nightjar_mqtt::TopicFilter;
use smallvec::SmallVec;

const ROOT: u32 = 0;
const NONE: u32 = u32::MAX;

/// A trie for filters that hold `+` or `#`. Nodes live in one vector, edges in one hash table keyed by
/// (parent, level), so that a node costs no map of its own.
#[derive(Debug)]
pub struct WildTrie<V> {
    nodes: Vec<Node<V>>,
    free: Vec<u32>,
    edges: HashTable<Edge>,
    hasher: RandomState,
    len: usize,
}

#[derive(Debug)]
struct Node<V> {
    /// Child for the level `+`.
    plus: u32,
    /// Number of children, `+` included.
    children: u32,
    /// Value of the filter that ends here.
    here: Option<V>,
    /// Value of the filter that ends in `#` below here.
    hash: Option<V>,
}

#[derive(Debug)]
struct Edge {
    parent: u32,
    child: u32,
    level: Box<str>,
}

impl<V> Default for WildTrie<V> {
    fn default() -> Self {
        Self {
            nodes: Vec::new(),
            free: Vec::new(),
            edges: HashTable::new(),
            hasher: RandomState::default(),
            len: 0,
        }
    }
}

impl<V> Node<V> {
    const fn new() -> Self {
        Self {
            plus: NONE,
            children: 0,
            here: None,
            hash: None,
        }
    }
}

impl<V> WildTrie<V> {
    /// Number of filters with a value.
    #[must_use]
    pub const fn len(&self) -> usize {
        self.len
    }

    /// True if no filter has a value.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.len == 0
    }

    fn edge_hash(hasher: &RandomState, parent: u32, level: &str) -> u64 {
        let mut state = hasher.build_hasher();
        state.write_u32(parent);
        state.write(level.as_bytes());
        state.finish()
    }

    fn child(&self, parent: u32, level: &str) -> Option<u32> {
        let hash = Self::edge_hash(&self.hasher, parent, level);
        self.edges
            .find(hash, |edge| edge.parent == parent && *edge.level == *level)
            .map(|edge| edge.child)
    }

    fn new_node(&mut self) -> u32 {
        if let Some(index) = self.free.pop() {
            self.nodes[index as usize] = Node::new();
            return index;
        }
        self.nodes.push(Node::new());
        u32::try_from(self.nodes.len() - 1).expect("fewer than 2^32 trie nodes fit in memory")
    }

    fn child_or_insert(&mut self, parent: u32, level: &str) -> u32 {
        if level == "+" {
            let plus = self.nodes[parent as usize].plus;
            if plus != NONE {
                return plus;
            }
            let child = self.new_node();
            let node = &mut self.nodes[parent as usize];
            node.plus = child;
            node.children += 1;
            return child;
        }
        if let Some(child) = self.child(parent, level) {
            return child;
        }
        let child = self.new_node();
        let hash = Self::edge_hash(&self.hasher, parent, level);
        let hasher = &self.hasher;
        self.edges.insert_unique(
            hash,
            Edge {
                parent,
                child,
                level: level.into(),
            },
            |edge| Self::edge_hash(hasher, edge.parent, &edge.level),
        );
        self.nodes[parent as usize].children += 1;
        child
    }

    /// The value slot of a filter, made if missing. The caller fills it: an empty slot counts as a filter.
    pub fn get_or_insert_with(&mut self, filter: &str, make: impl FnOnce() -> V) -> &mut V {
        if self.nodes.is_empty() {
            self.new_node();
        }
        let mut node = ROOT;
        let mut hash = false;
        for level in filter.split('/') {
            if level == "#" {
                hash = true;
                break;
            }
            node = self.child_or_insert(node, level);
        }
        let node = &mut self.nodes[node as usize];
        let slot = if hash { &mut node.hash } else { &mut node.here };
        if slot.is_none() {
            self.len += 1;
        }
        slot.get_or_insert_with(make)
    }

    /// Walks to the node of a filter; `true` if the filter ends in `#`.
    fn walk(&self, filter: &str, path: &mut SmallVec<[u32; 16]>) -> Option<bool> {
        if self.nodes.is_empty() {
            return None;
        }
        let mut node = ROOT;
        path.push(node);
        for level in filter.split('/') {
            if level == "#" {
                return Some(true);
            }
            node = if level == "+" {
                let plus = self.nodes[node as usize].plus;
                (plus != NONE).then_some(plus)?
            } else {
                self.child(node, level)?
            };
            path.push(node);
        }
        Some(false)
    }

    /// The value of exactly this filter.
    pub fn get_mut(&mut self, filter: &str) -> Option<&mut V> {
        let mut path = SmallVec::new();
        let hash = self.walk(filter, &mut path)?;
        let node = &mut self.nodes[*path.last()? as usize];
        if hash {
            node.hash.as_mut()
        } else {
            node.here.as_mut()
        }
    }

    /// Removes the value of exactly this filter and the nodes that only it needed.
    pub fn remove(&mut self, filter: &str) -> Option<V> {
        let mut path = SmallVec::new();
        let hash = self.walk(filter, &mut path)?;
        let node = &mut self.nodes[*path.last()? as usize];
        let value = if hash {
            node.hash.take()
        } else {
            node.here.take()
        }?;
        self.len -= 1;
        let levels: SmallVec<[&str; 16]> = filter.split('/').collect();
        for depth in (1..path.len()).rev() {
            let index = path[depth];
            let node = &self.nodes[index as usize];
            if node.children > 0 || node.here.is_some() || node.hash.is_some() {
                break;
            }
            let parent = path[depth - 1];
            let level = levels[depth - 1];
            if level == "+" {
                self.nodes[parent as usize].plus = NONE;
            } else {
                let key = Self::edge_hash(&self.hasher, parent, level);
                if let Ok(entry) = self
                    .edges
                    .find_entry(key, |edge| edge.parent == parent && *edge.level == *level)
                {
                    entry.remove();
                }
            }
            self.nodes[parent as usize].children -= 1;
            self.free.push(index);
        }
        if self.len == 0 {
            *self = Self {
                hasher: self.hasher.clone(),
                ..Self::default()
            };
        }
        Some(value)
    }

    /// Calls `each` with the value of every filter that matches the topic name
    /// ([MQTT-4.7.1-1..-3]; a leading wildcard does not match a `$` topic, [MQTT-4.7.2-1]).
    pub fn matches<'a>(&'a self, topic: &str, mut each: impl FnMut(&'a V)) {
        if self.len == 0 {
            return;
        }
        let dollar = topic.starts_with('$');
        let mut open: SmallVec<[(u32, Option<usize>); 16]> = SmallVec::new();
        open.push((ROOT, Some(0)));
        while let Some((index, rest)) = open.pop() {
            let node = &self.nodes[index as usize];
            let wild = !(dollar && index == ROOT);
            if wild && let Some(value) = &node.hash {
                each(value);
            }
            let Some(start) = rest else {
                if let Some(value) = &node.here {
                    each(value);
                }
                continue;
            };
            if node.children == 0 {
                continue;
            }
            let tail = &topic[start..];
            let (level, next) = match memchr_slash(tail) {
                Some(at) => (&tail[..at], Some(start + at + 1)),
                None => (tail, None),
            };
            if wild && node.plus != NONE {
                open.push((node.plus, next));
            }
            if node.children > u32::from(node.plus != NONE)
                && let Some(child) = self.child(index, level)
            {
                open.push((child, next));
            }
        }
    }
}

fn memchr_slash(text: &str) -> Option<usize> {
    text.as_bytes().iter().position(|&byte| byte == b'/')
}

/// Does a filter hold a wildcard?
#[must_use]
pub fn is_wild(filter: &str) -> bool {
    filter.bytes().any(|byte| byte == b'+' || byte == b'#')
}

/// Both kinds of filters in one index, for owners that need no sharding.
#[derive(Debug)]
pub struct FilterIndex<V> {
    exact: HashMap<TopicFilter, V, RandomState>,
    wild: WildTrie<V>,
}

impl<V> Default for FilterIndex<V> {
    fn default() -> Self {
        Self {
            exact: HashMap::default(),
            wild: WildTrie::default(),
        }
    }
}

impl<V: Default> FilterIndex<V> {
    /// The value slot of a filter, made if missing.
    pub fn get_or_insert(&mut self, filter: &TopicFilter) -> &mut V {
        if is_wild(filter) {
            self.wild.get_or_insert_with(filter, V::default)
        } else {
            self.exact.entry_ref(filter).or_default()
        }
    }

    /// The value of exactly this filter.
    pub fn get_mut(&mut self, filter: &str) -> Option<&mut V> {
        if is_wild(filter) {
            self.wild.get_mut(filter)
        } else {
            self.exact.get_mut(filter)
        }
    }

    /// Removes the value of exactly this filter.
    pub fn remove(&mut self, filter: &str) -> Option<V> {
        if is_wild(filter) {
            self.wild.remove(filter)
        } else {
            self.exact.remove(filter)
        }
    }

    /// Calls `each` with the value of every filter that matches the topic name.
    pub fn matches<'a>(&'a self, topic: &str, mut each: impl FnMut(&'a V)) {
        if let Some(value) = self.exact.get(topic) {
            each(value);
        }
        self.wild.matches(topic, each);
    }

    /// Number of distinct filters.
    #[must_use]
    pub fn len(&self) -> usize {
        self.exact.len() + self.wild.len()
    }

    /// True if it holds no filter.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn found(index: &FilterIndex<Vec<usize>>, topic: &str) -> Vec<usize> {
        let mut out = Vec::new();
        index.matches(topic, |values| out.extend(values));
        out.sort_unstable();
        out
    }

    proptest! {
        #[test]
        fn index_agrees_with_the_naive_matcher(
            filters in prop::collection::vec("([ab$]|\\+|)(/([ab]|\\+|)){0,3}(/#)?", 1..40),
            removed in prop::collection::vec(any::<prop::sample::Index>(), 0..20),
            topics in prop::collection::vec("[ab$]?(/[ab]?){0,4}", 1..20),
        ) {
            let filters: Vec<TopicFilter> = filters.iter().filter_map(|f| TopicFilter::new(f.as_str()).ok()).collect();
            prop_assume!(!filters.is_empty());
            let mut index = FilterIndex::<Vec<usize>>::default();
            let mut live = std::collections::BTreeSet::new();
            for (n, filter) in filters.iter().enumerate() {
                index.get_or_insert(filter).push(n);
                live.insert(n);
            }
            for which in removed {
                let n = which.index(filters.len());
                if !live.remove(&n) { continue; }
                let filter = &filters[n];
                let values = index.get_mut(filter).expect("the filter is in the index");
                values.retain(|&value| value != n);
                if values.is_empty() { index.remove(filter); }
            }
            for topic in topics.iter().filter(|t| !t.is_empty()) {
                let expected: Vec<usize> =
                    live.iter().copied().filter(|&n| nightjar_mqtt::topic::matches(&filters[n], topic)).collect();
                prop_assert_eq!(found(&index, topic), expected, "topic {}", topic);
            }
            for n in live { if let Some(v) = index.get_mut(&filters[n]) { v.clear(); } index.remove(&filters[n]); }
            prop_assert!(index.is_empty());
            prop_assert!(index.wild.nodes.is_empty() && index.wild.edges.is_empty());
        }
    }

    #[test]
    fn parent_level_is_matched_by_hash() {
        let mut index = FilterIndex::<Vec<usize>>::default();
        index
            .get_or_insert(&TopicFilter::new("sport/#").unwrap())
            .push(1);
        index.get_or_insert(&TopicFilter::new("#").unwrap()).push(2);
        assert_eq!(found(&index, "sport"), [1, 2]);
        assert_eq!(found(&index, "sport/a/b"), [1, 2]);
        assert_eq!(found(&index, "$SYS/a"), Vec::<usize>::new());
    }
}
