//! Named listeners: sockets that wait for clients, and all that happens to a connection before MQTT speaks on it.
//!
//! [`Listeners::bind`] checks and binds every listener or none, [`BoundListeners::start`] begins to accept. A
//! connection is first judged by the limits of its listener, then goes through PROXY header, TLS and WebSocket
//! handshake as its listener asks, in a task of its own that ends with the handshake, and is at last handed to the
//! caller's function as [`Accepted`]. The task of the connection is that function's future and nothing else.

mod accept;
mod bind;
mod counters;
mod handshake;
mod registry;
mod settings;
mod state;

use std::net::SocketAddr;
use std::time::Instant;

pub use counters::{ListenerCounters, Refused};
pub use registry::{BoundListeners, ListenerStatus, Listeners};
pub use settings::{ListenerKind, ListenerSettings, ProxyMode, ProxySettings, resolve_bind};
pub use state::{HandshakeSlot, ListenerRef, ListenerState};

use crate::proxy_protocol::ProxyHeader;
use crate::tls::PeerIdentity;
use crate::transport::Transport;
use crate::websocket::HttpInfo;

/// A connection on which MQTT may begin.
///
/// Its connection keeps [`Accepted::listener`] as long as it lives, for the listener's count of connections, and drops
/// [`Accepted::slot`] when CONNECT is done or refused. The rest it takes apart as it likes.
#[derive(Debug)]
pub struct Accepted<M = ()> {
    /// The stream.
    pub transport: Transport,
    /// The client's address: the socket's peer, or what a trusted proxy said. IPv4 is never written as IPv6.
    pub peer: SocketAddr,
    /// The address the listener is bound to, or the one that the client addressed by the PROXY header.
    /// [`Transport::local_addr`] asks the socket itself.
    pub local: SocketAddr,
    /// True if the socket's peer is a loopback address and no proxy is known or said to stand between: no
    /// `proxy_protocol` on the listener, no forwarding header in the request.
    pub loopback: bool,
    /// True if [`Accepted::peer`] comes from a PROXY or forwarding header.
    pub proxied: bool,
    /// A PROXY LOCAL header came: a balancer's health check, which may close without a word; nothing to warn of.
    pub health_check: bool,
    /// The listener, and this connection's place in its count.
    pub listener: ListenerRef<M>,
    /// This connection's place in `max_handshakes`.
    pub slot: HandshakeSlot<M>,
    /// Who the client is by its verified certificate.
    pub identity: Option<Box<PeerIdentity>>,
    /// What the HTTP request said; WebSocket only.
    pub http: Option<Box<HttpInfo>>,
    /// The PROXY header, if one came.
    pub proxy: Option<Box<ProxyHeader>>,
    /// When the system gave the connection: `connect_timeout` counts from here.
    pub accepted_at: Instant,
}

impl<M> Accepted<M> {
    /// A connection over a pipe within the process, as if `settings` had accepted it from loopback: for benches and
    /// tests of what stands behind listeners.
    ///
    /// # Errors
    /// [`crate::GatewayError::Setting`] for settings that do not hold together.
    pub fn in_memory(
        pipe: tokio::io::DuplexStream,
        settings: ListenerSettings<M>,
    ) -> Result<Self, crate::GatewayError> {
        let status: crate::websocket::StatusSource =
            std::sync::Arc::new(|| crate::websocket::StatusAnswer {
                healthy: true,
                text: String::new(),
            });
        let state = std::sync::Arc::new(ListenerState::new(settings, status)?);
        let peer = SocketAddr::from(([127, 0, 0, 1], 0));
        Ok(Self {
            transport: Transport::Memory(Box::new(pipe)),
            peer,
            local: peer,
            loopback: true,
            proxied: false,
            health_check: false,
            listener: ListenerRef::new(&state),
            slot: HandshakeSlot::new(&state),
            identity: None,
            http: None,
            proxy: None,
            accepted_at: Instant::now(),
        })
    }
}
