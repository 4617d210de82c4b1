//! The other nodes of a cluster as the broker of one node sees them: who else wants what, and how messages get there.
//!
//! What subscribers of this node want is counted here, filter by filter, and told to the others when it changes.

use std::sync::{Arc, OnceLock};

use foldhash::fast::RandomState;
use hashbrown::HashMap;
use nightjar_mqtt::{QoS, TopicFilter};
use parking_lot::Mutex;

use crate::message::Message;
use crate::subscription::Subscription;
use crate::ticket::Ticket;

/// What the subscribers of one node want of a topic filter.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Interest {
    /// Sessions that subscribed; none: the filter is not wanted any more.
    pub members: u32,
    /// Those of them that want messages of QoS 1 and 2 by this way. The others are durable: their shard brings those,
    /// and only deliveries of QoS 0 come by this way.
    pub acknowledged: u32,
}

/// A message for another node.
#[derive(Debug, Clone)]
pub struct Forward {
    /// The message.
    pub message: Message,
    /// It is for one member of this shared subscription (share name, filter); else for everybody who wants its topic.
    pub group: Option<(Box<str>, TopicFilter)>,
    /// How often it was handed on because the shared subscription had no member left where it came.
    pub hops: u8,
}

/// The links to the other nodes.
pub trait Mesh: Send + Sync {
    /// Number of this node.
    fn node(&self) -> u64;

    /// What this node wants of a filter (`$share/...` in full) has changed. Called in the order of the changes; must
    /// not call the broker.
    fn announce(&self, filter: &TopicFilter, interest: Interest);

    /// Done when every node that serves knows what was announced before.
    fn announced(&self) -> Ticket;

    /// Sends messages to a node. Done when that node has queued those of QoS 1 and 2.
    fn forward(&self, node: u64, messages: Vec<Forward>) -> Ticket;

    /// Done when what another node still has on its way of this client is kept: acknowledgements, messages, the end of its
    /// last connection. Else its next connection, here, would overtake them. Also done, soon, if that node does not answer.
    fn settled(&self, client_id: &str) -> Ticket {
        let _ = client_id;
        Ticket::DONE
    }

    /// Where a client that this node sends away may go: the server reference of a node that takes clients
    /// [MQTT-4.11].
    fn elsewhere(&self) -> Option<String> {
        None
    }

    /// This node takes no clients, because it drains or is a witness.
    fn is_closed(&self) -> bool {
        false
    }
}

/// The mesh, if there is one, and what this node announced to it.
#[derive(Default)]
pub(crate) struct Meshed {
    mesh: OnceLock<Arc<dyn Mesh>>,
    interests: Mutex<HashMap<TopicFilter, Interest, RandomState>>,
}

impl Meshed {
    pub fn set(&self, mesh: Arc<dyn Mesh>) {
        let _ = self.mesh.set(mesh);
    }

    pub fn get(&self) -> Option<&Arc<dyn Mesh>> {
        self.mesh.get()
    }

    /// A session's subscription on `filter` becomes `new`, from `old`; `None` is none.
    pub fn change(
        &self,
        filter: &TopicFilter,
        durable: bool,
        old: Option<Subscription>,
        new: Option<Subscription>,
    ) {
        let Some(mesh) = self.mesh.get() else { return };
        let shared = filter.shared().is_some();
        let counts = |sub: Option<Subscription>| {
            let acknowledged =
                sub.is_some_and(|sub| shared || !durable || sub.options.qos() == QoS::AtMostOnce);
            (u32::from(sub.is_some()), u32::from(acknowledged))
        };
        let (old, new) = (counts(old), counts(new));
        if old == new {
            return;
        }
        let mut interests = self.interests.lock();
        let before = interests.get(filter).copied().unwrap_or_default();
        let after = Interest {
            members: (before.members + new.0).saturating_sub(old.0),
            acknowledged: (before.acknowledged + new.1).saturating_sub(old.1),
        };
        if after.members == 0 {
            interests.remove(filter);
        } else {
            interests.insert(filter.clone(), after);
        }
        // Others need the number of members of shared subscriptions only.
        let told = if shared {
            before != after
        } else {
            (before.members > 0, before.acknowledged > 0)
                != (after.members > 0, after.acknowledged > 0)
        };
        if told {
            // Under the lock: what is told last is what holds.
            mesh.announce(filter, after);
        }
    }
}
