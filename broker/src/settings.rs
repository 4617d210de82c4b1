//! The limits and policies of the backend, as plain values: where they come from is the configuration's business.

use std::sync::Arc;

use nightjar_mqtt::QoS;

/// What a full queue does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum QueuePolicy {
    /// The oldest message goes, QoS 0 first.
    #[default]
    DropOldest,
    /// The new message is not queued.
    DropNewest,
    /// The new message is not queued and the publisher is told (5.0: 0x97).
    Reject,
}

/// Limits of one session's queue.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct QueueLimits {
    /// Messages.
    pub max_len: usize,
    /// Bytes, as [`crate::Message::cost`] counts them.
    pub max_bytes: usize,
    /// What happens beyond.
    pub policy: QueuePolicy,
    /// Are QoS 0 messages queued while the client is offline?
    pub queue_qos0: bool,
}

impl Default for QueueLimits {
    fn default() -> Self {
        Self {
            max_len: 1000,
            max_bytes: 8 << 20,
            policy: QueuePolicy::DropOldest,
            queue_qos0: true,
        }
    }
}

/// How a member of a shared subscription is chosen.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum SharedStrategy {
    /// Each in turn.
    #[default]
    RoundRobin,
    /// Any.
    Random,
    /// The same one as long as it is there.
    Sticky,
    /// A member on the publisher's node first, each in turn.
    Local,
    /// By hash of the publisher's client id.
    HashClientId,
    /// By hash of the topic name.
    HashTopic,
}

/// Client behaviour that is not legal but harmless: served or refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Leniency {
    /// Serve what real clients do (never against a MUST for 5.0 clients).
    #[default]
    Lenient,
    /// Refuse it.
    Strict,
}

/// Settings of MQTT (`[mqtt]`), after a listener's overrides.
#[derive(Debug, Clone)]
pub struct MqttSettings {
    /// Largest packet taken, in bytes; announced in CONNACK.
    pub max_packet_size: u32,
    /// Longest client identifier, in bytes.
    pub max_client_id_len: usize,
    /// Most levels of a topic name or filter.
    pub max_topic_levels: usize,
    /// Topic Alias Maximum announced.
    pub max_topic_alias: u16,
    /// Highest QoS served.
    pub max_qos: QoS,
    /// Are retained messages served?
    pub retain_available: bool,
    /// Are wildcard subscriptions served?
    pub wildcard_subscription: bool,
    /// Are shared subscriptions served?
    pub shared_subscription: bool,
    /// Are Subscription Identifiers served?
    pub subscription_identifiers: bool,
    /// From accept to a whole CONNECT, in milliseconds.
    pub connect_timeout_ms: u64,
    /// Keep alive times this is the limit, in percent (150 = 1.5).
    pub keep_alive_percent: u32,
    /// Cap of keep alive for 5.0 clients, in seconds.
    pub server_keep_alive: Option<u16>,
    /// Unacknowledged QoS 1/2 messages towards a client.
    pub max_inflight: u16,
    /// Receive Maximum announced.
    pub receive_maximum: u16,
    /// Resend interval in a live 3.x connection, in milliseconds; `None` is off.
    pub retry_interval_ms: Option<u64>,
    /// QoS 2 messages of a client whose PUBREL has not come.
    pub max_awaiting_rel: usize,
    /// Session expiry of clean session 0 in 3.x, in seconds.
    pub session_expiry_3x: u32,
    /// Cap of the 5.0 session expiry interval, in seconds.
    pub max_session_expiry: u32,
    /// Queue of each session.
    pub queue: Arc<QueueLimits>,
    /// Most subscriptions of a session.
    pub max_subscriptions: Option<usize>,
    /// Cap of the message expiry interval, in seconds.
    pub message_expiry: Option<u32>,
    /// Harmless illegal behaviour.
    pub leniency: Leniency,
    /// Shared subscriptions.
    pub shared_strategy: SharedStrategy,
    /// Longest wait of a publisher for a slow receiver, in milliseconds.
    pub backpressure_timeout_ms: u64,
    /// Seconds a will waits for its client when this node stops (`node.will_restart_grace`).
    pub will_restart_grace: u32,
}

impl Default for MqttSettings {
    fn default() -> Self {
        Self {
            max_packet_size: 1 << 20,
            max_client_id_len: 65_535,
            max_topic_levels: 128,
            max_topic_alias: 32,
            max_qos: QoS::ExactlyOnce,
            retain_available: true,
            wildcard_subscription: true,
            shared_subscription: true,
            subscription_identifiers: true,
            connect_timeout_ms: 15_000,
            keep_alive_percent: 150,
            server_keep_alive: None,
            max_inflight: 32,
            receive_maximum: 100,
            retry_interval_ms: None,
            max_awaiting_rel: 100,
            session_expiry_3x: 2 * 3600,
            max_session_expiry: 30 * 86_400,
            queue: Arc::new(QueueLimits::default()),
            max_subscriptions: None,
            message_expiry: None,
            leniency: Leniency::Lenient,
            shared_strategy: SharedStrategy::RoundRobin,
            backpressure_timeout_ms: 5_000,
            will_restart_grace: 10,
        }
    }
}

/// Settings of the retained store (`[retained]`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct RetainedSettings {
    /// Most retained messages; `None` is no limit.
    pub max_messages: Option<usize>,
    /// Largest payload, in bytes.
    pub max_payload: Option<usize>,
    /// Cap of a retained message's life, in seconds.
    pub expiry: Option<u32>,
}
