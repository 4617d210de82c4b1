//! A member of a cluster on a directory of its own, for tests of what it applies.

use std::sync::Arc;

use nightjar_broker::Timestamp;
use nightjar_broker::settings::QueueLimits;
use nightjar_broker::shard::{Open, SessionEntry};

use super::open::Opened;
use crate::config::{Disk, StoreConfig};
use crate::ground::{Ground, System};
use crate::store::NodeStore;

/// Runs a test on a new member with so many groups of sessions and one of retained messages.
pub(crate) fn on_member<T>(
    name: &str,
    groups: u16,
    test: impl FnOnce(&NodeStore, &mut Opened) -> T,
) -> T {
    let dir = std::env::temp_dir().join(format!("nightjar-{name}-{}", std::process::id()));
    let _ = std::fs::remove_dir_all(&dir);
    let config = StoreConfig {
        session_groups: groups,
        retained_groups: 1,
        ..StoreConfig::new(&dir, "one")
    };
    let ground: Arc<dyn Ground> = Arc::new(System);
    let (store, mut opened) =
        NodeStore::open_member(&config, &ground, &Disk::default()).expect("a new directory");
    let result = test(&store, &mut opened);
    store.close();
    drop(store);
    let _ = std::fs::remove_dir_all(&dir);
    result
}

/// A client with a kept session and no will connects to node 1.
pub(crate) fn open(client_id: &str) -> SessionEntry {
    SessionEntry::Open(Box::new(Open {
        owner: None,
        client_id: client_id.into(),
        clean_start: false,
        expiry: 3600,
        will: None,
        limits: QueueLimits::default(),
        window: 10,
        supervision: None,
        node: 1,
        now: Timestamp(1),
    }))
}
