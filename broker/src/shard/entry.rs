//! What the session shards are told: plain data that a log can keep.

use std::sync::Arc;

use nightjar_mqtt::{QoS, TopicFilter};

use crate::auth::Owner;
use crate::handle::DropReason;
use crate::message::Message;
use crate::settings::QueueLimits;
use crate::subscription::Subscription;
use crate::time::Timestamp;

/// A will and its Will Delay Interval.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Will {
    /// The message as it will be published; its times are set when it is.
    pub message: Message,
    /// Will Delay Interval in seconds [MQTT-3.1.3-9].
    pub delay: u32,
    /// Message Expiry Interval in seconds, counted from publication.
    pub expiry: Option<u32>,
}

/// What an Open of a supervised client does to the will that the session has. MQTT-SN keeps a will over DISCONNECT and
/// over connections (section 6.3), and a new CONNECT is no loss of the old connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WillRule {
    /// It stays, and is armed again.
    Keep,
    /// The one of this Open takes its place, if it is none too; the old one is not published.
    Replace,
    /// A parked session is looked into: will and countdown stay as they are.
    Wake,
}

/// A front-end that itself watches whether its client is there, beyond the life of one connection: the client may be
/// asleep for hours, and lost only after that.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Supervision {
    /// What becomes of the will there is.
    pub will: WillRule,
    /// Seconds of silence, tolerance included, after which the client is lost; what the session is parked with if the
    /// node dies meanwhile.
    pub seconds: u32,
}

/// A connection takes a session.
#[derive(Debug, Clone, PartialEq)]
pub struct Open {
    /// Client identifier.
    pub client_id: Arc<str>,
    /// Clean Start (3.x: clean session).
    pub clean_start: bool,
    /// Session Expiry Interval in seconds; `u32::MAX` never expires. 0 is a transient session.
    pub expiry: u32,
    /// Will.
    pub will: Option<Box<Will>>,
    /// Queue limits of this session until the next Open.
    pub limits: QueueLimits,
    /// In-flight window towards the client: min(max_inflight, receive maximum).
    pub window: u16,
    /// Of a client that its front-end supervises (MQTT-SN).
    pub supervision: Option<Supervision>,
    /// Number of the node that has the connection, in a cluster: then every connection is recorded, so that no client
    /// id is connected twice. 0: there is one node only.
    pub node: u64,
    /// To whom the session belongs from now on.
    pub owner: Option<Box<Owner>>,
    /// Time of the leader.
    pub now: Timestamp,
}

/// How a connection ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CloseKind {
    /// DISCONNECT 0x00: the will is deleted, not published [MQTT-3.14.4-3].
    Normal,
    /// DISCONNECT 0x04, or anything but a DISCONNECT: the will is published [MQTT-3.1.2-8].
    Abnormal,
    /// This node stops: a will waits so long (seconds) for the client to come back.
    Restart(u32),
    /// DISCONNECT of MQTT-SN: the will is kept for the next connection and not due (MQTT-SN section 6.3).
    Disarmed,
    /// The client sleeps. It is lost, and its will due, after so many seconds without [`SessionEntry::Touch`] or Open.
    Park(u32),
}

/// The owner's connection ended.
#[derive(Debug, Clone, PartialEq)]
pub struct Close {
    /// Client identifier.
    pub client_id: Arc<str>,
    /// Epoch of the connection.
    pub epoch: u64,
    /// How.
    pub kind: CloseKind,
    /// Session Expiry Interval of DISCONNECT, if it had one.
    pub expiry: Option<u32>,
    /// Time of the leader.
    pub now: Timestamp,
}

/// What became of a delivery.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AckKind {
    /// PUBACK, PUBCOMP, or a PUBREC with an error: done.
    Done,
    /// PUBREC: the body may go, PUBREL is owed.
    Received,
    /// Removed undelivered by a named limit.
    Discarded(DropReason),
}

/// What became of one delivery of a session.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ack {
    /// Delivery sequence.
    pub seq: u64,
    /// What became of it.
    pub kind: AckKind,
}

/// A message for one session, chosen outside (shared subscription, retained message).
#[derive(Debug, Clone, PartialEq)]
pub struct Enqueue {
    /// Client identifier.
    pub client_id: Arc<str>,
    /// The message.
    pub message: Message,
    /// QoS of the delivery, 1 or 2.
    pub qos: QoS,
    /// Retain flag of the delivery.
    pub retain: bool,
    /// Subscription Identifier; 0: none.
    pub sub_id: u32,
    /// Check each delivery against deny rules.
    pub checked: bool,
    /// Share name and filter, if it came through a shared subscription.
    pub group: Option<(Box<str>, TopicFilter)>,
}

/// An entry of a session shard.
#[derive(Debug, Clone, PartialEq)]
pub enum SessionEntry {
    /// CONNECT.
    Open(Box<Open>),
    /// The end of a connection.
    Close(Close),
    /// SUBSCRIBE: what was granted.
    Subscribe {
        /// Client identifier.
        client_id: Arc<str>,
        /// Epoch of the connection.
        epoch: u64,
        /// Granted subscriptions.
        subs: Vec<(TopicFilter, Subscription)>,
    },
    /// UNSUBSCRIBE.
    Unsubscribe {
        /// Client identifier.
        client_id: Arc<str>,
        /// Epoch of the connection.
        epoch: u64,
        /// Topic filters.
        filters: Vec<TopicFilter>,
    },
    /// A message of QoS 1/2 that subscriptions of this shard may want.
    Publish(Message),
    /// A message for one session.
    Enqueue(Box<Enqueue>),
    /// Acknowledgements of the client.
    Acks {
        /// Client identifier.
        client_id: Arc<str>,
        /// Epoch of the connection.
        epoch: u64,
        /// In the order in which they came.
        acks: Vec<Ack>,
    },
    /// Inbound QoS 2: these packet ids were taken [MQTT-4.3.3-10].
    Received {
        /// Client identifier.
        client_id: Arc<str>,
        /// Epoch of the connection.
        epoch: u64,
        /// Packet ids.
        ids: Vec<u16>,
    },
    /// Inbound QoS 2: PUBREL came, these packet ids are free.
    Released {
        /// Client identifier.
        client_id: Arc<str>,
        /// Epoch of the connection.
        epoch: u64,
        /// Packet ids.
        ids: Vec<u16>,
    },
    /// An operator or a ban ends the session.
    End {
        /// Client identifier.
        client_id: Arc<str>,
    },
    /// Time passed: wills and expiry that are due.
    Tick {
        /// Time of the leader.
        now: Timestamp,
    },
    /// A parked client was heard: its countdown begins anew.
    Touch {
        /// Client identifier.
        client_id: Arc<str>,
        /// Epoch of the connection that parked it.
        epoch: u64,
        /// Time of the leader.
        now: Timestamp,
    },
    /// What the front-end wants to find again with the session; the shard does not look into it.
    Front {
        /// Client identifier.
        client_id: Arc<str>,
        /// Epoch of the connection.
        epoch: u64,
        /// Behind what is there, or in its place.
        append: bool,
        /// The octets.
        octets: Box<[u8]>,
    },
    /// The client changed its will.
    SetWill {
        /// Client identifier.
        client_id: Arc<str>,
        /// Epoch of the connection.
        epoch: u64,
        /// The will from now on.
        will: Option<Box<Will>>,
    },
    /// A node is gone: its connections ended with it.
    NodeGone {
        /// Number of the node.
        node: u64,
        /// How they ended.
        kind: CloseKind,
        /// Time of the leader.
        now: Timestamp,
    },
    /// The next `count` entries are of this connection. In a cluster messages of a connection that was taken over may
    /// come behind the CONNECT that took it over: they are refused.
    By {
        /// Client identifier.
        client_id: Arc<str>,
        /// Epoch of the connection.
        epoch: u64,
        /// So many entries.
        count: u64,
    },
    /// These duties of the shard are done; committed together with what did them.
    Fulfilled {
        /// Numbers of duties.
        duties: Vec<u64>,
    },
}

/// What an Open found.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Opened {
    /// Session Present [MQTT-3.2.2-2, -3].
    pub present: bool,
    /// The session has a record here (it is durable, or has a will to keep).
    pub recorded: bool,
    /// The record keeps queue and subscriptions.
    pub durable: bool,
    /// Epoch of this connection.
    pub epoch: u64,
    /// Epoch of the connection before; 0: there was none.
    pub before: u64,
    /// The subscriptions it has.
    pub subs: Vec<(TopicFilter, Subscription)>,
    /// Inbound QoS 2 packet ids not yet released.
    pub received: Vec<u16>,
    /// Outbound deliveries whose PUBREL is owed, in order.
    pub released: Vec<u64>,
    /// What the front-end left with the session.
    pub front: Box<[u8]>,
    /// Of a supervised Open: the will that is now in force.
    pub will: Option<Box<Will>>,
    /// Of a supervised Open: the session was parked, for so many seconds; 0 if not, or if its client was lost.
    pub parked: u32,
    /// The connection before ended with its node, or did not end: its front-end could leave nothing.
    pub cut: bool,
}

/// A session whose client sleeps.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Parked {
    /// Epoch of the connection that parked it.
    pub epoch: u64,
    /// Seconds it is parked for.
    pub seconds: u32,
    /// When it is lost. A time that is over: it is, or its countdown begins anew after a restart; its next Open says.
    pub lost_at: Timestamp,
    /// Messages and PUBRELs that wait in its queue.
    pub waiting: usize,
    /// Bytes of those messages.
    pub bytes: usize,
}

/// The answer to one entry.
#[derive(Debug, Clone, Default, PartialEq)]
pub enum Reply {
    /// Nothing to say.
    #[default]
    None,
    /// To an Open.
    Opened(Box<Opened>),
    /// A queue was full under the policy `reject`.
    Rejected,
    /// The epoch is over: another connection owns the session.
    Stale,
}
