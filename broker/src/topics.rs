//! What a publisher keeps of its last topics, so that a repeated topic costs no search and no authorization.

use nightjar_mqtt::{QoS, TopicName};

use crate::broker::Broker;
use crate::router::Route;
use crate::time::Timestamp;

/// What a publisher keeps of its last topics, so that a repeated topic costs no search and no authorization.
#[derive(Debug, Default)]
pub struct TopicCache {
    slots: Vec<CachedTopic>,
    next: usize,
}

/// One topic a publisher used.
#[derive(Debug)]
pub struct CachedTopic {
    /// The name, validated.
    pub name: TopicName,
    /// Who wants it.
    pub route: Route,
    /// Under what publishing was allowed.
    pub allowed: Option<Allowed>,
}

/// A permission to publish that holds as long as the rules do, and a second at most: then the client's cache is
/// asked again, which knows how long a verdict of a database holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Allowed {
    /// Generation of the access rules.
    pub generation: u64,
    /// QoS asked for.
    pub qos: QoS,
    /// Retain flag asked for.
    pub retain: bool,
    /// Its end.
    pub until: Timestamp,
}

const CACHED_TOPICS: usize = 8;
/// A route to more than this is found anew each time rather than kept alive by every publisher.
const CACHED_TARGETS: usize = 1024;

impl TopicCache {
    /// Nothing published yet?
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.slots.is_empty()
    }

    /// The entry of a topic that was used before, its route brought up to date.
    #[inline]
    pub fn find(&mut self, broker: &Broker, topic: &str) -> Option<usize> {
        let at = self
            .slots
            .iter()
            .position(|slot| slot.name.as_str() == topic)?;
        let slot = &mut self.slots[at];
        if !broker.router().is_current(&slot.route) {
            slot.route = broker.router().route(topic);
        }
        Some(at)
    }

    /// Takes in a topic (already validated), in place of the oldest one.
    pub fn insert(&mut self, broker: &Broker, name: TopicName) -> usize {
        let route = broker.router().route(&name);
        let slot = CachedTopic {
            name,
            route,
            allowed: None,
        };
        if self.slots.len() < CACHED_TOPICS {
            self.slots.push(slot);
            return self.slots.len() - 1;
        }
        self.next = (self.next + 1) % CACHED_TOPICS;
        self.slots[self.next] = slot;
        self.next
    }

    /// An entry found by [`Self::find`] or made by [`Self::insert`].
    #[must_use]
    pub fn get(&mut self, at: usize) -> &mut CachedTopic {
        &mut self.slots[at]
    }

    /// Lets go of routes that keep many receivers alive; called when a read batch ends.
    pub fn trim(&mut self) {
        self.slots.retain(|slot| slot.route.len() <= CACHED_TARGETS);
        if self.next >= self.slots.len() {
            self.next = 0;
        }
    }
}
