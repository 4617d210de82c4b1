//! `[listeners.*]`: where clients connect.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::MqttOverrides;
use crate::config::units::{BindAddr, ByteSize, Cidr, Duration, OffOr, Rate, Secret};

/// All listeners by kind and name. The one called `default` of each kind exists unless switched off.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Listeners {
    /// MQTT over TCP.
    pub tcp: BTreeMap<String, TcpListener>,
    /// MQTT over TLS.
    pub tls: BTreeMap<String, TlsListener>,
    /// MQTT over WebSocket.
    pub ws: BTreeMap<String, WsListener>,
    /// MQTT over secure WebSocket.
    pub wss: BTreeMap<String, WssListener>,
    /// MQTT-SN over UDP.
    pub mqttsn: BTreeMap<String, MqttSnListener>,
}

impl Listeners {
    /// No client gets in.
    pub fn clear(&mut self) {
        *self = Self {
            tcp: BTreeMap::new(),
            tls: BTreeMap::new(),
            ws: BTreeMap::new(),
            wss: BTreeMap::new(),
            mqttsn: BTreeMap::new(),
        };
    }
}

/// `[listeners.tcp.<name>]`.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct TcpListener {
    /// Keys of every stream listener.
    #[serde(flatten)]
    pub stream: Stream,
}

/// `[listeners.tls.<name>]`.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct TlsListener {
    /// Keys of every stream listener.
    #[serde(flatten)]
    pub stream: Stream,
    /// Keys of TLS.
    #[serde(flatten)]
    pub tls: Tls,
}

/// `[listeners.ws.<name>]`.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct WsListener {
    /// Keys of every stream listener.
    #[serde(flatten)]
    pub stream: Stream,
    /// Keys of WebSocket.
    #[serde(flatten)]
    pub ws: Ws,
}

/// `[listeners.wss.<name>]`.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct WssListener {
    /// Keys of every stream listener.
    #[serde(flatten)]
    pub stream: Stream,
    /// Keys of TLS.
    #[serde(flatten)]
    pub tls: Tls,
    /// Keys of WebSocket.
    #[serde(flatten)]
    pub ws: Ws,
}

/// Keys that every stream listener has.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Stream {
    /// Address.
    pub bind: BindAddr,
    /// Switch.
    pub enable: bool,
    /// Clients at once.
    pub max_connections: OffOr<u32>,
    /// Connections accepted in a time.
    pub max_connect_rate: OffOr<Rate>,
    /// Connections before CONNECT at once.
    pub max_handshakes: u32,
    /// Time of the TLS and WebSocket handshake.
    pub handshake_timeout: Duration,
    /// Backlog of the listening socket.
    pub backlog: u16,
    /// PROXY protocol.
    pub proxy_protocol: ProxyProtocol,
    /// Time of the PROXY header.
    pub proxy_timeout: Duration,
    /// Proxies whose headers are believed.
    pub trusted_proxies: Vec<Cidr>,
    /// User name from the client certificate.
    pub cert_as_username: CertAsUsername,
    /// Prefix of all topics.
    pub mountpoint: String,
    /// Overrides of `[mqtt]`.
    pub mqtt: MqttOverrides,
}

/// PROXY protocol on a listener.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ProxyProtocol {
    /// Not spoken.
    Off,
    /// Every connection begins with it.
    Required,
    /// With or without.
    Optional,
}

/// Part of the client certificate that becomes the user name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum CertAsUsername {
    /// None.
    Off,
    /// Common name.
    Cn,
    /// Whole subject.
    Dn,
}

/// Keys of TLS.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Tls {
    /// Certificate chain; generated if unset.
    pub cert_file: Option<PathBuf>,
    /// Private key.
    pub key_file: Option<PathBuf>,
    /// Signers of client certificates.
    pub ca_file: Option<PathBuf>,
    /// Whether client certificates are asked for.
    pub verify: Verify,
    /// Refuse clients without one.
    pub fail_if_no_peer_cert: bool,
    /// Revoked client certificates.
    pub crl_file: Option<PathBuf>,
    /// More certificates by name.
    pub sni: Vec<SniCertificate>,
}

/// Whether client certificates are asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Verify {
    /// No.
    None,
    /// Yes, and checked.
    Peer,
}

/// One certificate chosen by SNI.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SniCertificate {
    /// Certificate chain.
    pub cert_file: PathBuf,
    /// Private key.
    pub key_file: PathBuf,
}

/// Keys of WebSocket.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Ws {
    /// Exact path; unset: `/mqtt`, and leniently `/` and `/ws`.
    pub path: Option<String>,
    /// Origins admitted; empty: any.
    pub allowed_origins: Vec<String>,
    /// Serve clients without an Origin even so.
    pub allow_origin_absence: bool,
}

/// `[listeners.mqttsn.<name>]`.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MqttSnListener {
    /// Address.
    pub bind: BindAddr,
    /// Switch.
    pub enable: bool,
    /// Sessions at once.
    pub max_connections: OffOr<u32>,
    /// Prefix of all topics.
    pub mountpoint: String,
    /// Gateway id.
    pub gateway_id: u8,
    /// Time between two ADVERTISE.
    pub advertise_interval: OffOr<Duration>,
    /// Groups for discovery.
    pub multicast: Vec<SocketAddr>,
    /// Hops of a multicast message.
    pub multicast_ttl: u8,
    /// Largest datagram sent.
    pub max_datagram: u16,
    /// First wait before a repeat.
    pub retry_interval: Duration,
    /// Repeats.
    pub max_retries: u8,
    /// Session expiry of CleanSession=0 clients.
    pub session_expiry: Duration,
    /// Topic ids of a client.
    pub max_topics: u16,
    /// Messages sent at one wake; 0: all.
    pub wake_limit: u32,
    /// PUBLISH from sleepers.
    pub publish_asleep: bool,
    /// 23 characters at most.
    pub strict_client_id: bool,
    /// QoS -1.
    pub qos_minus_one: bool,
    /// QoS -1 messages in a time.
    pub qos_minus_one_rate: OffOr<Rate>,
    /// Who may connect.
    pub auth: SnAuth,
    /// User name template.
    pub username: Option<String>,
    /// Password template.
    pub password: Option<Secret>,
    /// Balancers and NATs.
    pub trusted_sources: Vec<Cidr>,
    /// When a session follows its client's address.
    pub address_change: AddressChange,
    /// New sessions of one address.
    pub new_sessions_per_source: OffOr<Rate>,
    /// Answers to strangers of one address.
    pub replies_to_strangers_per_source: OffOr<Rate>,
    /// Messages kept for a sleeper.
    pub buffer_messages: usize,
    /// Bytes kept for a sleeper.
    pub buffer_bytes: ByteSize,
    /// Topic ids known without REGISTER.
    pub predefined: Vec<PredefinedTopic>,
    /// Overrides of `[mqtt]`.
    pub mqtt: MqttOverrides,
}

/// Who may connect over MQTT-SN.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SnAuth {
    /// Whom the authentication chain lets in.
    Chain,
    /// `trusted_sources` only.
    Trusted,
    /// Everyone.
    Off,
}

/// When a session follows its client to another address.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum AddressChange {
    /// Never.
    Never,
    /// To another port of the same address.
    SameIp,
    /// Inside /24 or /56.
    SamePrefix,
    /// Anywhere, after an answer from there.
    Validated,
}

/// A topic id known without REGISTER.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PredefinedTopic {
    /// Id.
    pub id: u16,
    /// Topic name.
    pub topic: String,
    /// Pattern of client ids; unset: all.
    pub clients: Option<String>,
}

/// The four stream transports.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum StreamKind {
    /// MQTT over TCP.
    Tcp,
    /// MQTT over TLS.
    Tls,
    /// MQTT over WebSocket.
    Ws,
    /// MQTT over secure WebSocket.
    Wss,
}

impl StreamKind {
    /// The word of the configuration: `tcp`, `tls`, `ws`, `wss`.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Tcp => "tcp",
            Self::Tls => "tls",
            Self::Ws => "ws",
            Self::Wss => "wss",
        }
    }
}

/// One stream listener, of whichever kind.
#[derive(Debug, Clone, Copy)]
pub struct StreamListener<'a> {
    /// Transport.
    pub kind: StreamKind,
    /// Its name in the configuration.
    pub name: &'a str,
    /// Keys of every stream listener.
    pub stream: &'a Stream,
    /// Keys of TLS, on `tls` and `wss`.
    pub tls: Option<&'a Tls>,
    /// Keys of WebSocket, on `ws` and `wss`.
    pub ws: Option<&'a Ws>,
}

impl StreamListener<'_> {
    /// `listeners.tcp.default`, the name in the configuration.
    pub fn key(&self) -> String {
        format!("listeners.{}.{}", self.kind.word(), self.name)
    }
}

impl Listeners {
    /// The stream listeners that are switched on, by kind and name.
    pub fn streams(&self) -> impl Iterator<Item = StreamListener<'_>> {
        let tcp = self
            .tcp
            .iter()
            .map(|(name, it)| (StreamKind::Tcp, name, &it.stream, None, None));
        let tls = self
            .tls
            .iter()
            .map(|(name, it)| (StreamKind::Tls, name, &it.stream, Some(&it.tls), None));
        let ws = self
            .ws
            .iter()
            .map(|(name, it)| (StreamKind::Ws, name, &it.stream, None, Some(&it.ws)));
        let wss = self.wss.iter().map(|(name, it)| {
            (
                StreamKind::Wss,
                name,
                &it.stream,
                Some(&it.tls),
                Some(&it.ws),
            )
        });
        tcp.chain(tls)
            .chain(ws)
            .chain(wss)
            .map(|(kind, name, stream, tls, ws)| StreamListener {
                kind,
                name,
                stream,
                tls,
                ws,
            })
            .filter(|listener| listener.stream.enable)
    }

    /// The MQTT-SN listeners that are switched on, by name.
    pub fn datagrams(&self) -> impl Iterator<Item = (&str, &MqttSnListener)> {
        self.mqttsn
            .iter()
            .filter(|(_, it)| it.enable)
            .map(|(name, it)| (name.as_str(), it))
    }
}
