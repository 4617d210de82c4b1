//! What the session shards are told: plain data that a log can keep.

use std::sync::Arc;

use nightjar_mqtt::{QoS, TopicFilter};

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
    /// The subscriptions it has.
    pub subs: Vec<(TopicFilter, Subscription)>,
    /// Inbound QoS 2 packet ids not yet released.
    pub received: Vec<u16>,
    /// Outbound deliveries whose PUBREL is owed, in order.
    pub released: Vec<u64>,
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
