//! `MetaStore`: small named values that all nodes agree on and that survive a restart: users, rules, bans.

use std::collections::BTreeMap;
use std::ops::Bound;
use std::sync::Arc;

use parking_lot::{Mutex, RwLock};

use crate::ticket::Ticket;

/// Hears of each change of a named value, in the order of the log, when the change can be read. Called without a lock of
/// the store; a store that takes a whole new state at once tells of each value that differs.
pub trait MetaWatcher: Send + Sync {
    /// A value was set, or removed (`None`).
    fn changed(&self, key: &str, value: Option<&[u8]>);
}

/// Named values of the durable backend. Reads are local and fast, writes are committed when their ticket is done.
pub trait MetaStore: Send + Sync {
    /// Sets a value.
    fn set_value(&self, key: &str, value: Vec<u8>) -> Ticket;

    /// Removes a value, if there is one.
    fn remove_value(&self, key: &str) -> Ticket;

    /// A value.
    fn value(&self, key: &str) -> Option<Vec<u8>>;

    /// Up to `limit` values whose names begin with `prefix` and stand behind `after`, in the order of names.
    fn values(&self, prefix: &str, after: Option<&str>, limit: usize) -> Vec<(String, Vec<u8>)>;

    /// Tells this watcher of every change from now on. It is never let go.
    fn watch(&self, watcher: Arc<dyn MetaWatcher>);

    /// False if the values end with the process (`durability = "memory"`).
    fn survives(&self) -> bool;
}

/// The names in a sorted map that begin with `prefix` and stand behind `after`.
pub fn page(
    values: &BTreeMap<String, Vec<u8>>,
    prefix: &str,
    after: Option<&str>,
    limit: usize,
) -> Vec<(String, Vec<u8>)> {
    let from = match after {
        Some(after) if after >= prefix => Bound::Excluded(after),
        _ => Bound::Included(prefix),
    };
    values
        .range::<str, _>((from, Bound::Unbounded))
        .take_while(|(key, _)| key.starts_with(prefix))
        .take(limit)
        .map(|(key, value)| (key.clone(), value.clone()))
        .collect()
}

/// Values in memory only: `durability = "memory"`, and tests.
#[derive(Default)]
pub struct MemoryMeta {
    values: RwLock<BTreeMap<String, Vec<u8>>>,
    watchers: RwLock<Vec<Arc<dyn MetaWatcher>>>,
    /// Held over a change and the telling of it, so that watchers hear in the order of changes.
    order: Mutex<()>,
}

impl MemoryMeta {
    fn tell(&self, key: &str, value: Option<&[u8]>) {
        for watcher in &*self.watchers.read() {
            watcher.changed(key, value);
        }
    }
}

impl MetaStore for MemoryMeta {
    fn set_value(&self, key: &str, value: Vec<u8>) -> Ticket {
        let _order = self.order.lock();
        self.values.write().insert(key.to_owned(), value.clone());
        self.tell(key, Some(&value));
        Ticket::DONE
    }

    fn remove_value(&self, key: &str) -> Ticket {
        let _order = self.order.lock();
        let removed = self.values.write().remove(key).is_some();
        if removed {
            self.tell(key, None);
        }
        Ticket::DONE
    }

    fn value(&self, key: &str) -> Option<Vec<u8>> {
        self.values.read().get(key).cloned()
    }

    fn values(&self, prefix: &str, after: Option<&str>, limit: usize) -> Vec<(String, Vec<u8>)> {
        page(&self.values.read(), prefix, after, limit)
    }

    fn watch(&self, watcher: Arc<dyn MetaWatcher>) {
        self.watchers.write().push(watcher);
    }

    fn survives(&self) -> bool {
        false
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pages_hold_what_begins_with_the_prefix_and_stands_behind_the_cursor() {
        let meta = MemoryMeta::default();
        for key in ["a/1", "b/1", "b/2", "b/3", "c/1"] {
            let _ = meta.set_value(key, key.as_bytes().to_vec());
        }
        let names = |after, limit| -> Vec<String> {
            let page = meta.values("b/", after, limit);
            page.into_iter().map(|(key, _)| key).collect()
        };
        assert_eq!(names(None, 9), ["b/1", "b/2", "b/3"]);
        assert_eq!(names(None, 2), ["b/1", "b/2"]);
        assert_eq!(names(Some("b/1"), 9), ["b/2", "b/3"]);
        assert_eq!(names(Some("a/9"), 1), ["b/1"]);
        assert!(names(Some("b/3"), 9).is_empty());
    }
}
