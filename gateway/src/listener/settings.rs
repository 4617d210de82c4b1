//! The settings of one listener, as the configuration gives them.

use std::fmt;
use std::net::{SocketAddr, ToSocketAddrs};
use std::time::Duration;

use crate::cidr::Cidr;
use crate::error::GatewayError;
use crate::tls::TlsSettings;
use crate::websocket::WsSettings;

/// What a listener speaks below MQTT.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum ListenerKind {
    /// `listeners.tcp`: MQTT on TCP.
    Tcp,
    /// `listeners.tls`: MQTT over TLS.
    Tls,
    /// `listeners.ws`: MQTT over WebSocket.
    Ws,
    /// `listeners.wss`: MQTT over secure WebSocket.
    Wss,
}

impl ListenerKind {
    /// The table's name in the configuration: `tcp`, `tls`, `ws`, `wss`.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Tcp => "tcp",
            Self::Tls => "tls",
            Self::Ws => "ws",
            Self::Wss => "wss",
        }
    }

    /// True if the listener ends TLS.
    #[must_use]
    pub fn is_tls(self) -> bool {
        matches!(self, Self::Tls | Self::Wss)
    }

    /// True if the listener speaks HTTP and WebSocket.
    #[must_use]
    pub fn is_websocket(self) -> bool {
        matches!(self, Self::Ws | Self::Wss)
    }
}

impl fmt::Display for ListenerKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// `proxy_protocol` of a listener.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum ProxyMode {
    /// No header is looked for.
    #[default]
    Off,
    /// Every connection must begin with a header and come from a trusted proxy.
    Required,
    /// A header is taken from trusted proxies; a connection without one is served as a direct client.
    Optional,
}

/// What stands between clients and a listener.
#[derive(Debug, Clone)]
pub struct ProxySettings {
    /// `proxy_protocol`.
    pub mode: ProxyMode,
    /// `trusted_proxies`: whose PROXY headers, and whose forwarding headers on WebSocket, are believed.
    pub trusted: Vec<Cidr>,
    /// Time for the header to be complete; 3 s.
    pub timeout: Duration,
}

impl Default for ProxySettings {
    fn default() -> Self {
        Self {
            mode: ProxyMode::Off,
            trusted: Vec::new(),
            timeout: Duration::from_secs(3),
        }
    }
}

impl ProxySettings {
    /// True if this address is one of the trusted proxies.
    #[must_use]
    pub fn trusts(&self, address: std::net::IpAddr) -> bool {
        self.trusted.iter().any(|range| range.contains(address))
    }
}

/// One listener. `M` is what the connection wants to find again in it, such as the listener's overrides of `[mqtt]`.
#[derive(Debug, Clone)]
pub struct ListenerSettings<M = ()> {
    /// What it speaks.
    pub kind: ListenerKind,
    /// Its name within its kind, `default`.
    pub name: String,
    /// Addresses to listen on; port 0 takes a free one.
    pub bind: Vec<SocketAddr>,
    /// Connections the system holds for us until they are accepted, capped by it (`net.core.somaxconn`). One above it
    /// costs that client a second.
    pub backlog: u32,
    /// Most connections at a time; further ones are closed at once and counted.
    pub max_connections: Option<usize>,
    /// Most new connections in a second, with a burst of one second's worth; further ones are closed and counted.
    pub max_connect_rate: Option<u32>,
    /// Most connections that have not yet finished their handshake (PROXY, TLS, WebSocket, and CONNECT as long as the
    /// connection keeps its [`super::HandshakeSlot`]); further ones are closed and counted.
    pub max_handshakes: usize,
    /// Time for PROXY header, TLS and WebSocket together, from accept.
    pub handshake_timeout: Duration,
    /// Proxies before the listener.
    pub proxy: ProxySettings,
    /// Certificates; read for the kinds tls and wss.
    pub tls: TlsSettings,
    /// Path and checks; read for the kinds ws and wss.
    pub websocket: WsSettings,
    /// Prefix of all topics of its clients.
    pub mountpoint: Option<String>,
    /// Passed through.
    pub mqtt: M,
}

impl<M: Default> ListenerSettings<M> {
    /// Default settings for a kind and name, without an address.
    #[must_use]
    pub fn new(kind: ListenerKind, name: impl Into<String>) -> Self {
        Self {
            kind,
            name: name.into(),
            bind: Vec::new(),
            backlog: 4096,
            max_connections: None,
            max_connect_rate: None,
            max_handshakes: 4096,
            handshake_timeout: Duration::from_secs(15),
            proxy: ProxySettings::default(),
            tls: TlsSettings::default(),
            websocket: WsSettings::default(),
            mountpoint: None,
            mqtt: M::default(),
        }
    }
}

impl<M> ListenerSettings<M> {
    /// `tcp:default`, as logs, `ctl listeners` and ACL rules name it.
    #[must_use]
    pub fn full_name(&self) -> String {
        format!("{}:{}", self.kind, self.name)
    }

    /// The configuration key of one setting: `listeners.tcp.default.bind`.
    #[must_use]
    pub fn key(&self, setting: &str) -> String {
        format!("listeners.{}.{}.{setting}", self.kind, self.name)
    }

    /// Checks what can be checked without a socket or a file.
    ///
    /// # Errors
    /// [`GatewayError::Setting`] naming the key.
    pub fn validate(&self) -> Result<(), GatewayError> {
        let wrong = |setting: &str, reason: &str| {
            Err(GatewayError::Setting {
                key: self.key(setting),
                reason: reason.to_owned(),
            })
        };
        if self.bind.is_empty() {
            return wrong(
                "bind",
                "needs at least one address, such as \"0.0.0.0:1883\"",
            );
        }
        if self.proxy.mode != ProxyMode::Off && self.proxy.trusted.is_empty() {
            return wrong(
                "trusted_proxies",
                "is empty while proxy_protocol is on, so no header could be believed; name the proxies, \
                 such as [\"10.0.0.0/8\"]",
            );
        }
        if self.backlog == 0 || i32::try_from(self.backlog).is_err() {
            return wrong("backlog", "must be at least 1 and fit in 31 bits");
        }
        if self.max_connections == Some(0) {
            return wrong(
                "max_connections",
                "must be at least 1; `enable = false` turns a listener off",
            );
        }
        if self.max_connect_rate == Some(0) {
            return wrong("max_connect_rate", "must be at least 1 in a second");
        }
        if self.max_handshakes == 0 {
            return wrong("max_handshakes", "must be at least 1");
        }
        if self.handshake_timeout.is_zero() {
            return wrong("handshake_timeout", "must be above zero");
        }
        if let Err(reason) = self.websocket.path.validate() {
            return wrong("path", &reason);
        }
        Ok(())
    }
}

/// Reads one `bind` value: `0.0.0.0:1883`, `[::]:1883`, `localhost:1883`, `:1883` (all IPv4 addresses) or a bare
/// port. A host name gives all of its addresses; the look-up may block.
///
/// # Errors
/// The reason in words.
pub fn resolve_bind(text: &str) -> Result<Vec<SocketAddr>, String> {
    let text = text.trim();
    let whole = match text.strip_prefix(':').unwrap_or(text).parse::<u16>() {
        Ok(port) => format!("0.0.0.0:{port}"),
        Err(_) => text.to_owned(),
    };
    if let Ok(address) = whole.parse() {
        return Ok(vec![address]);
    }
    match whole.to_socket_addrs() {
        Ok(found) => {
            let found: Vec<_> = found.collect();
            if found.is_empty() {
                Err(format!("`{text}` has no address"))
            } else {
                Ok(found)
            }
        }
        Err(error) => Err(format!("`{text}` is not an address with a port: {error}")),
    }
}
