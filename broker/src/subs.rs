//! The subscriptions of one session: a short list for most clients, a table for those with many.

use foldhash::fast::RandomState;
use hashbrown::HashMap;
use nightjar_mqtt::TopicFilter;
use triomphe::Arc;

use crate::subscription::Subscription;

const LIST_MAX: usize = 12;

/// Topic filters (`$share/...` in full) with their subscription.
#[derive(Debug, Clone)]
pub enum SubTable {
    /// Few of them.
    List(Vec<(TopicFilter, Subscription)>),
    /// Many of them. A copy shares them until one of both is changed.
    Table(Arc<HashMap<TopicFilter, Subscription, RandomState>>),
}

impl Default for SubTable {
    fn default() -> Self {
        Self::List(Vec::new())
    }
}

impl SubTable {
    /// Adds or replaces a subscription; returns the one that existed.
    pub fn insert(&mut self, filter: TopicFilter, sub: Subscription) -> Option<Subscription> {
        match self {
            Self::List(list) => {
                if let Some((_, old)) = list.iter_mut().find(|(have, _)| *have == filter) {
                    return Some(std::mem::replace(old, sub));
                }
                if list.len() < LIST_MAX {
                    list.reserve_exact(1);
                    list.push((filter, sub));
                    return None;
                }
                let mut table: HashMap<_, _, _> = list.drain(..).collect();
                table.insert(filter, sub);
                *self = Self::Table(Arc::new(table));
                None
            }
            Self::Table(table) => Arc::make_mut(table).insert(filter, sub),
        }
    }

    /// Removes a subscription.
    pub fn remove(&mut self, filter: &str) -> Option<Subscription> {
        match self {
            Self::List(list) => {
                let at = list.iter().position(|(have, _)| have.as_str() == filter)?;
                Some(list.swap_remove(at).1)
            }
            Self::Table(table) => {
                let old = Arc::make_mut(table).remove(filter);
                if table.is_empty() {
                    *self = Self::default();
                }
                old
            }
        }
    }

    /// The subscription of a filter.
    #[must_use]
    pub fn get(&self, filter: &str) -> Option<&Subscription> {
        match self {
            Self::List(list) => list
                .iter()
                .find(|(have, _)| have.as_str() == filter)
                .map(|(_, sub)| sub),
            Self::Table(table) => table.get(filter),
        }
    }

    /// Number of subscriptions.
    #[must_use]
    pub fn len(&self) -> usize {
        match self {
            Self::List(list) => list.len(),
            Self::Table(table) => table.len(),
        }
    }

    /// True if there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// All of them, in no order.
    pub fn iter(&self) -> Box<dyn Iterator<Item = (&TopicFilter, &Subscription)> + '_> {
        match self {
            Self::List(list) => Box::new(list.iter().map(|(filter, sub)| (filter, sub))),
            Self::Table(table) => Box::new(table.iter()),
        }
    }

    /// Takes all of them out.
    pub fn take(&mut self) -> Vec<(TopicFilter, Subscription)> {
        match std::mem::take(self) {
            Self::List(list) => list,
            Self::Table(table) => Arc::unwrap_or_clone(table).into_iter().collect(),
        }
    }
}
