//! Channel number to subscribers, with a version so that publishers may cache a lookup.

use crate::outbox::Outbox;
use parking_lot::RwLock;
use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// The subscribers of one channel.
pub type Targets = Arc<Vec<Arc<Outbox>>>;

/// All channels.
#[derive(Default)]
pub struct Router {
    version: AtomicU64,
    channels: RwLock<HashMap<u32, Targets>>,
}

/// A publisher's last lookup, valid while the router's version stands.
#[derive(Default)]
pub struct Cached {
    version: u64,
    channel: u32,
    targets: Option<Targets>,
}

impl Router {
    /// Adds a subscriber.
    pub fn subscribe(&self, channel: u32, outbox: Arc<Outbox>) {
        let mut channels = self.channels.write();
        Arc::make_mut(channels.entry(channel).or_default()).push(outbox);
        self.version.fetch_add(1, Ordering::Release);
    }

    /// Removes a subscriber.
    pub fn unsubscribe(&self, channel: u32, outbox: &Arc<Outbox>) {
        let mut channels = self.channels.write();
        if let Some(targets) = channels.get_mut(&channel) {
            Arc::make_mut(targets).retain(|other| !Arc::ptr_eq(other, outbox));
        }
        self.version.fetch_add(1, Ordering::Release);
    }

    /// The targets of a channel, from the publisher's cache where it still holds.
    pub fn targets<'c>(&self, channel: u32, cache: &'c mut Cached) -> &'c [Arc<Outbox>] {
        let version = self.version.load(Ordering::Acquire);
        if cache.targets.is_none() || cache.version != version || cache.channel != channel {
            let targets = self
                .channels
                .read()
                .get(&channel)
                .cloned()
                .unwrap_or_default();
            *cache = Cached {
                version,
                channel,
                targets: Some(targets),
            };
        }
        cache.targets.as_deref().map_or(&[], Vec::as_slice)
    }
}
