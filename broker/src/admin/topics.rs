//! Topic filters that somebody subscribes to, as a list and as a tree.

use std::collections::BTreeMap;

use nightjar_mqtt::TopicFilter;

use super::Page;
use crate::broker::Broker;

/// A topic filter and how many subscribe to it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TopicRow {
    /// Topic filter, `$share/...` in full.
    pub filter: String,
    /// Subscriptions to exactly this filter.
    pub subscribers: usize,
}

/// One level of the tree of topic filters.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct TreeRow {
    /// Subscriptions to exactly this filter.
    pub subscribers: usize,
    /// Subscriptions to filters at or below this level.
    pub total: usize,
}

/// The first so many keys in order behind a cursor, each with a value: whatever comes in, it holds no more.
struct First<V> {
    map: BTreeMap<Box<str>, V>,
    limit: usize,
}

impl<V: Default> First<V> {
    /// The value of a key, unless it lies behind all that are wanted.
    fn entry(&mut self, key: &str) -> Option<&mut V> {
        let full = self.map.len() > self.limit;
        // Most keys of a long list lie behind a page that is full: one comparison for those.
        if full
            && self
                .map
                .last_key_value()
                .is_some_and(|(last, _)| key > &**last)
        {
            return None;
        }
        if !self.map.contains_key(key) {
            if full {
                self.map.pop_last();
            }
            self.map.insert(key.into(), V::default());
        }
        self.map.get_mut(key)
    }
}

impl Broker {
    /// The first `limit` distinct topic filters behind a filter, in order, with how many subscribe to each.
    #[must_use]
    pub fn page_topics(&self, after: Option<&str>, limit: usize) -> Page<TopicRow> {
        let clients = self.clients();
        let mut first = First::<usize> {
            map: BTreeMap::new(),
            limit,
        };
        let behind = |filter: &TopicFilter| after.is_none_or(|after| filter.as_str() > after);
        for handle in &clients {
            handle.with_subs(|subs| {
                for (filter, _) in subs.iter().filter(|(filter, _)| behind(filter)) {
                    if let Some(count) = first.entry(filter) {
                        *count += 1;
                    }
                }
            });
        }
        // A key that was pushed out never comes back, because the keys only become smaller; one that stayed was there
        // from its first sight on, so its count is whole.
        let rows = first.map.into_iter().map(|(filter, subscribers)| TopicRow {
            filter: filter.into(),
            subscribers,
        });
        Page::cut(rows.collect(), limit)
    }

    /// How many subscribe to exactly this filter.
    #[must_use]
    pub fn subscribers_of(&self, filter: &str) -> usize {
        self.clients()
            .iter()
            .filter(|handle| handle.with_subs(|subs| subs.get(filter).is_some()))
            .count()
    }

    /// The levels right below a prefix (`None`: the first levels), with what is there: the first `limit` of them
    /// behind a level. Shared subscriptions stand in the tree by the filter behind their group.
    #[must_use]
    pub fn page_tree(
        &self,
        prefix: Option<&str>,
        after: Option<&str>,
        limit: usize,
    ) -> Page<(String, TreeRow)> {
        let mut first = First::<TreeRow> {
            map: BTreeMap::new(),
            limit,
        };
        for handle in self.clients() {
            handle.with_subs(|subs| {
                // A client's filters mostly share their first levels: one look-up for those that follow each other.
                let mut same: Option<(&str, TreeRow)> = None;
                let mut put = |level: &str, row: TreeRow| {
                    if let Some(all) = first.entry(level) {
                        all.total += row.total;
                        all.subscribers += row.subscribers;
                    }
                };
                for (filter, _) in subs.iter() {
                    let Some(rest) = below(filter.routing_filter(), prefix) else {
                        continue;
                    };
                    let (level, deeper) = match rest.split_once('/') {
                        Some((level, _)) => (level, true),
                        None => (rest, false),
                    };
                    if after.is_some_and(|after| level <= after) {
                        continue;
                    }
                    if let Some((before, row)) = same.take_if(|(before, _)| *before != level) {
                        put(before, row);
                    }
                    let (_, row) = same.get_or_insert((level, TreeRow::default()));
                    row.total += 1;
                    row.subscribers += usize::from(!deeper);
                }
                if let Some((level, row)) = same {
                    put(level, row);
                }
            });
        }
        let rows = first
            .map
            .into_iter()
            .map(|(level, row)| (level.into(), row));
        Page::cut(rows.collect(), limit)
    }
}

/// What of a filter lies below a prefix of whole levels.
fn below<'f>(filter: &'f str, prefix: Option<&str>) -> Option<&'f str> {
    match prefix {
        None => Some(filter),
        Some(prefix) => filter.strip_prefix(prefix)?.strip_prefix('/'),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_keys_have_whole_counts_whatever_the_order() {
        let keys: Vec<String> = (0..200).map(|n| format!("{:03}", n * 7 % 200)).collect();
        let mut first = First::<usize> {
            map: BTreeMap::new(),
            limit: 10,
        };
        for _ in 0..3 {
            for key in &keys {
                if let Some(count) = first.entry(key) {
                    *count += 1;
                }
            }
        }
        let whole: Vec<_> = first.map.iter().take(10).collect();
        assert_eq!(whole.len(), 10);
        for (at, (key, count)) in whole.into_iter().enumerate() {
            assert_eq!((&**key, *count), (&*format!("{at:03}"), 3));
        }
    }

    #[test]
    fn below_a_prefix_are_whole_levels() {
        assert_eq!(below("a/b/c", Some("a")), Some("b/c"));
        assert_eq!(below("ab/c", Some("a")), None);
        assert_eq!(below("a", Some("a")), None);
        assert_eq!(below("/a", Some("")), Some("a"));
        assert_eq!(below("a", None), Some("a"));
    }
}
