//! What an MQTT-SN listener is told, as plain values.

use std::net::IpAddr;
use std::sync::Arc;

use arc_swap::ArcSwap;
use nightjar_broker::settings::{MqttSettings, QueueLimits};

use super::predefined::Predefined;
use crate::cidr::Cidr;

/// Who may connect (`auth`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Auth {
    /// Whom the authentication chain lets in, with the listener's user name and password.
    #[default]
    Chain,
    /// `trusted_sources` only.
    Trusted,
    /// Everyone.
    Off,
}

/// When a session follows its client to another address (`address_change`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum AddressChange {
    /// Never: neither to another address nor to another port.
    Never,
    /// To another port of the same address.
    SameIp,
    /// Within the same /24, of IPv6 /56.
    SamePrefix,
    /// Anywhere, with little sent there before the client has answered from it.
    #[default]
    Validated,
}

/// Settings of one MQTT-SN listener. What can change while it runs stands in an [`ArcSwap`].
#[derive(Debug)]
pub struct Settings {
    /// Full name, as `mqttsn:default`.
    pub name: Arc<str>,
    /// GwId of ADVERTISE and GWINFO.
    pub gateway_id: u8,
    /// Prefix of all topics of its clients; `${clientid}` is replaced.
    pub mountpoint: Option<String>,
    /// Sessions at once, sleeping ones included.
    pub max_sessions: Option<usize>,
    /// Largest datagram sent, forwarder encapsulation included.
    pub max_datagram: usize,
    /// First wait before an unanswered message is sent again, in milliseconds; it doubles up to a minute.
    pub retry_interval_ms: u64,
    /// Repeats before a client counts as lost.
    pub max_retries: u8,
    /// Seconds that the session of a lost or disconnected client is kept (CleanSession 0).
    pub session_expiry: u32,
    /// Topic ids of a client.
    pub max_topics: usize,
    /// Messages sent at one wake of a sleeper; 0: all.
    pub wake_limit: u32,
    /// PUBLISH of a sleeper is taken without a CONNECT before it.
    pub publish_asleep: bool,
    /// Client ids of more than 23 characters are refused.
    pub strict_client_id: bool,
    /// PUBLISH with QoS -1 is taken.
    pub qos_minus_one: bool,
    /// QoS -1 messages a second.
    pub qos_minus_one_rate: Option<f64>,
    /// Who may connect.
    pub auth: Auth,
    /// User name for the chain; `${clientid}` and `${peerhost}` are replaced.
    pub username: Option<String>,
    /// Password for the chain, as the user name.
    pub password: Option<String>,
    /// Balancers and NATs: never limited by address alone, and taken as validated.
    pub trusted_sources: Vec<Cidr>,
    /// When a session follows its client.
    pub address_change: AddressChange,
    /// New sessions of one address in a second.
    pub new_sessions_per_source: Option<f64>,
    /// Answers in a second to one address that belongs to no session.
    pub replies_to_strangers_per_source: Option<f64>,
    /// Limits of what is kept for a sleeper (`buffer_messages`, `buffer_bytes`).
    pub queue: Arc<QueueLimits>,
    /// Topic ids known without REGISTER.
    pub predefined: ArcSwap<Predefined>,
    /// `[mqtt]` with the listener's overrides.
    pub mqtt: ArcSwap<MqttSettings>,
}

impl Settings {
    /// The defaults, for a listener of this name.
    #[must_use]
    pub fn new(name: &str) -> Self {
        Self {
            name: format!("mqttsn:{name}").into(),
            gateway_id: 1,
            mountpoint: None,
            max_sessions: None,
            max_datagram: 1200,
            retry_interval_ms: 10_000,
            max_retries: 4,
            session_expiry: 7 * 86_400,
            max_topics: 4096,
            wake_limit: 0,
            publish_asleep: true,
            strict_client_id: false,
            qos_minus_one: false,
            qos_minus_one_rate: Some(1000.0),
            auth: Auth::Chain,
            username: None,
            password: None,
            trusted_sources: Vec::new(),
            address_change: AddressChange::Validated,
            new_sessions_per_source: Some(1000.0),
            replies_to_strangers_per_source: Some(10.0),
            queue: Arc::new(QueueLimits {
                max_len: 1000,
                max_bytes: 256 << 10,
                ..QueueLimits::default()
            }),
            predefined: ArcSwap::default(),
            mqtt: ArcSwap::default(),
        }
    }

    /// Does this address belong to a balancer or a NAT that is known?
    #[must_use]
    pub fn trusts(&self, address: IpAddr) -> bool {
        self.trusted_sources
            .iter()
            .any(|range| range.contains(address))
    }
}
