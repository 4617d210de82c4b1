//! `[mqtt]` and its overrides in a listener.

use serde::{Deserialize, Serialize};

use crate::config::units::{ByteSize, Duration, OffOr};

/// Makes `Mqtt` and `MqttOverrides` from one list of keys.
macro_rules! mqtt {
    ($($(#[$doc:meta])* $name:ident: $ty:ty,)*) => {
        /// `[mqtt]`: defaults and limits of MQTT 3.1, 3.1.1 and 5.0.
        #[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
        #[serde(deny_unknown_fields)]
        pub struct Mqtt {
            $($(#[$doc])* pub $name: $ty,)*
        }

        /// The same keys in a listener; what is unset follows `[mqtt]`.
        #[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
        #[serde(deny_unknown_fields)]
        pub struct MqttOverrides {
            $($(#[$doc])* #[serde(skip_serializing_if = "Option::is_none")] pub $name: Option<$ty>,)*
        }

        impl Mqtt {
            /// These settings with a listener's overrides in their place.
            pub fn with(&self, over: &MqttOverrides) -> Self {
                Self { $($name: over.$name.unwrap_or(self.$name),)* }
            }
        }
    };
}

mqtt! {
    /// Largest packet accepted, bytes.
    max_packet_size: ByteSize,
    /// Longest client id, bytes.
    max_client_id_len: usize,
    /// Levels of a topic.
    max_topic_levels: usize,
    /// Topic aliases accepted.
    max_topic_alias: u16,
    /// Highest QoS, 0 to 2.
    max_qos: u8,
    /// Retained messages accepted.
    retain_available: bool,
    /// `+` and `#` accepted.
    wildcard_subscription: bool,
    /// `$share/` accepted.
    shared_subscription: bool,
    /// Subscription identifiers accepted.
    subscription_identifiers: bool,
    /// From accept to CONNECT.
    connect_timeout: Duration,
    /// Keep alive times without a packet until close.
    keep_alive_multiplier: f64,
    /// Cap of a 5.0 client's keep alive.
    server_keep_alive: OffOr<Duration>,
    /// In-flight messages towards the client.
    max_inflight: u16,
    /// In-flight messages towards us.
    receive_maximum: u16,
    /// Resend in a live connection, 3.x only.
    retry_interval: OffOr<Duration>,
    /// QoS 2 messages waiting for PUBREL.
    max_awaiting_rel: u16,
    /// Session expiry of 3.x clients.
    session_expiry_3x: Duration,
    /// Cap of a 5.0 client's session expiry.
    max_session_expiry: Duration,
    /// Messages queued for a session.
    max_queue_len: usize,
    /// Bytes queued for a session.
    max_queue_bytes: ByteSize,
    /// What a full queue does.
    queue_policy: QueuePolicy,
    /// QoS 0 kept for offline sessions.
    queue_qos0: bool,
    /// Subscriptions of a session.
    max_subscriptions: OffOr<u32>,
    /// Cap of message expiry.
    message_expiry: OffOr<Duration>,
    /// Tolerance of client deviations.
    client_leniency: Leniency,
    /// Choice in a shared subscription.
    shared_strategy: SharedStrategy,
    /// Longest stall of a publisher.
    backpressure_timeout: Duration,
}

/// What a full queue does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum QueuePolicy {
    /// Drops the oldest, QoS 0 first.
    DropOldest,
    /// Drops what comes.
    DropNewest,
    /// Refuses the publisher.
    Reject,
}

/// Tolerance of deviations that hurt nobody.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Leniency {
    /// Serve them.
    Lenient,
    /// Close the connection.
    Strict,
}

/// Which member of a shared subscription gets a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SharedStrategy {
    /// Each in turn.
    RoundRobin,
    /// Any.
    Random,
    /// The same until it leaves.
    Sticky,
    /// One on this node, if there is one.
    Local,
    /// By the publisher's client id.
    HashClientId,
    /// By the topic.
    HashTopic,
}
