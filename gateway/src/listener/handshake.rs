//! From an accepted socket to a connection that MQTT may use: PROXY header, TLS, WebSocket.

use std::fmt;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Instant;

use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::time::timeout_at;

use super::Accepted;
use super::counters::Refused;
use super::settings::{ListenerKind, ProxyMode};
use super::state::{HandshakeSlot, ListenerRef, ListenerState};
use crate::proxy_protocol::ProxyHeader;
use crate::proxy_protocol::read::{Outcome, ReadError, begins_as_header, read_header};
use crate::sniff::Spoken;
use crate::tls::{PeerIdentity, TlsStream};
use crate::transport::Transport;
use crate::websocket::WsStream;
use crate::websocket::handshake::{self as ws, Upgraded, WsFailure};

/// A socket that passed the listener's limits.
pub(super) struct Admitted<M> {
    pub socket: TcpStream,
    /// The socket's peer, canonical.
    pub peer: SocketAddr,
    /// The address listened on.
    pub local: SocketAddr,
    pub accepted_at: Instant,
    pub listener: ListenerRef<M>,
    pub slot: HandshakeSlot<M>,
}

/// Why there is no connection.
pub(super) enum Failure {
    /// A balancer looked whether the port is open, or got its health answer.
    HealthCheck,
    /// Refused for a reason that is counted.
    Refused(Refused, String),
    /// Another protocol than the port's.
    Spoken(Option<Spoken>),
}

impl Failure {
    fn because(reason: Refused, detail: impl fmt::Display) -> Self {
        Self::Refused(reason, detail.to_string())
    }
}

impl<M> ListenerState<M> {
    /// True if a connection needs no handshake at all.
    pub(super) fn is_direct(&self) -> bool {
        self.settings().kind == ListenerKind::Tcp && self.settings().proxy.mode == ProxyMode::Off
    }
}

/// Runs the whole handshake within its time and reports its failure.
pub(super) async fn run<M>(admitted: Admitted<M>) -> Option<Accepted<M>> {
    let state = Arc::clone(&admitted.listener);
    let peer = admitted.peer;
    let deadline = admitted.accepted_at + state.settings().handshake_timeout;
    let result = timeout_at(deadline.into(), shake(&state, admitted)).await;
    let failure = match result {
        Ok(Ok(accepted)) => return Some(accepted),
        Ok(Err(failure)) => failure,
        Err(_) => Failure::because(Refused::HandshakeTimeout, "handshake not complete in time"),
    };
    report(&state, peer, failure);
    None
}

fn report<M>(state: &ListenerState<M>, peer: SocketAddr, failure: Failure) {
    match failure {
        Failure::HealthCheck => state.health_check(),
        Failure::Refused(reason, detail) => {
            state.refuse(reason, peer, &detail);
            if reason == Refused::ProxyUntrusted
                && let Some(more) = state.warn.allow()
            {
                tracing::warn!(listener = &**state.name(), %peer, more, "{detail}; see trusted_proxies");
            }
        }
        Failure::Spoken(spoken) => state.wrong_protocol(peer, spoken),
    }
}

async fn shake<M>(state: &ListenerState<M>, admitted: Admitted<M>) -> Result<Accepted<M>, Failure> {
    let Admitted {
        mut socket,
        peer: socket_peer,
        local,
        accepted_at,
        listener,
        slot,
    } = admitted;
    let settings = state.settings();
    let mut peer = socket_peer;
    let mut local = local;
    let mut identity = None;
    let proxy = read_proxy(state, &mut socket, socket_peer).await?;
    if let Some(header) = &proxy {
        peer = header.source.unwrap_or(peer);
        local = header.destination.unwrap_or(local);
        identity = proxy_identity(header);
        if let Some(id) = &header.unique_id {
            // By it a line of the proxy's log finds this client's.
            tracing::debug!(
                listener = settings.name.as_str(),
                %peer,
                unique_id = %String::from_utf8_lossy(id).escape_debug(),
                "a proxy's connection"
            );
        }
    }
    let mut proxied = proxy.as_ref().is_some_and(|header| header.source.is_some());
    let health_check = proxy.as_ref().is_some_and(|header| header.local);
    let mut http = None;
    let transport = match settings.kind {
        ListenerKind::Tcp => Transport::Tcp(socket),
        ListenerKind::Tls => {
            let tls = accept_tls(state, socket).await?;
            identity = tls_identity(&tls).or(identity);
            Transport::Tls(tls)
        }
        ListenerKind::Ws => {
            let upgraded = upgrade(state, &mut socket, peer).await?;
            (peer, proxied) = forwarded(&upgraded, peer, proxied);
            http = Some(Box::new(upgraded.info));
            Transport::Ws(Box::new(WsStream::new(
                socket,
                upgraded.rest,
                settings.websocket.max_message,
            )))
        }
        ListenerKind::Wss => {
            let mut tls = accept_tls(state, socket).await?;
            identity = tls_identity(&tls).or(identity);
            let upgraded = upgrade(state, &mut *tls, peer).await?;
            (peer, proxied) = forwarded(&upgraded, peer, proxied);
            http = Some(Box::new(upgraded.info));
            Transport::Wss(Box::new(WsStream::new(
                *tls,
                upgraded.rest,
                settings.websocket.max_message,
            )))
        }
    };
    let hidden =
        settings.proxy.mode != ProxyMode::Off || http.as_ref().is_some_and(|http| http.forwarded);
    Ok(Accepted {
        transport,
        peer,
        local,
        loopback: socket_peer.ip().is_loopback() && !hidden,
        proxied,
        health_check,
        listener,
        slot,
        identity,
        http,
        proxy,
        accepted_at,
    })
}

/// Takes the PROXY header as the listener's mode asks.
async fn read_proxy<M>(
    state: &ListenerState<M>,
    socket: &mut TcpStream,
    peer: SocketAddr,
) -> Result<Option<Box<ProxyHeader>>, Failure> {
    let proxy = &state.settings().proxy;
    if proxy.mode == ProxyMode::Off {
        return Ok(None);
    }
    let trusted = proxy.trusts(peer.ip());
    if proxy.mode == ProxyMode::Required && !trusted {
        return Err(Failure::because(
            Refused::ProxyUntrusted,
            "not a trusted proxy, and proxy_protocol is required",
        ));
    }
    if !trusted {
        // Not waited for longer than the handshake may take: this is a direct client, or one that pretends.
        return match begins_as_header(socket).await {
            Ok(false) => Ok(None),
            Ok(true) => Err(Failure::because(
                Refused::ProxyUntrusted,
                "PROXY header from an address that is no trusted proxy",
            )),
            Err(error) => Err(Failure::because(Refused::HandshakeClosed, error)),
        };
    }
    let read = match tokio::time::timeout(proxy.timeout, read_header(socket)).await {
        Ok(read) => read,
        Err(_) => {
            return Err(Failure::because(
                Refused::ProxyHeader,
                "no PROXY header in time",
            ));
        }
    };
    match read {
        Ok(Outcome::Header(header)) => Ok(Some(header)),
        Ok(Outcome::Closed(true)) => Err(Failure::HealthCheck),
        Ok(Outcome::Closed(false)) => Err(Failure::because(
            Refused::HandshakeClosed,
            "closed within the PROXY header",
        )),
        Ok(Outcome::NotProxy) if proxy.mode == ProxyMode::Optional => Ok(None),
        Ok(Outcome::NotProxy) => Err(Failure::because(
            Refused::ProxyHeader,
            "no PROXY header, and proxy_protocol is required",
        )),
        Err(ReadError::Io(error)) => Err(Failure::because(Refused::HandshakeClosed, error)),
        Err(error) => Err(Failure::because(Refused::ProxyHeader, error)),
    }
}

fn proxy_identity(header: &ProxyHeader) -> Option<Box<PeerIdentity>> {
    let tls = header.tls.as_ref().filter(|tls| tls.verified)?;
    let common_name = tls.common_name.clone()?;
    Some(Box::new(PeerIdentity {
        common_name: Some(common_name),
        via_proxy: true,
        ..PeerIdentity::default()
    }))
}

async fn accept_tls<M>(
    state: &ListenerState<M>,
    socket: TcpStream,
) -> Result<Box<TlsStream<TcpStream>>, Failure> {
    let mut first = [0; 8];
    match socket.peek(&mut first).await {
        Ok(0) => return Err(Failure::HealthCheck),
        // A record of type handshake: what is wrong with it, TLS itself says best.
        Ok(n) if first[0] != 0x16 => return Err(Failure::Spoken(Spoken::guess(&first[..n]))),
        Ok(_) => {}
        Err(error) => return Err(Failure::because(Refused::HandshakeClosed, error)),
    }
    let config = state
        .tls()
        .expect("a listener of kind tls or wss is made with certificates")
        .config();
    match TlsStream::accept(socket, config).await {
        Ok(tls) => Ok(Box::new(tls)),
        Err(error)
            if error
                .get_ref()
                .is_some_and(|inner| inner.is::<rustls::Error>()) =>
        {
            Err(Failure::because(Refused::Tls, error))
        }
        Err(error) => Err(Failure::because(Refused::HandshakeClosed, error)),
    }
}

fn tls_identity(tls: &TlsStream<TcpStream>) -> Option<Box<PeerIdentity>> {
    let certificates = tls.connection().peer_certificates()?;
    PeerIdentity::from_certificate(certificates.first()?).map(Box::new)
}

async fn upgrade<M, S: AsyncRead + AsyncWrite + Unpin>(
    state: &ListenerState<M>,
    io: &mut S,
    peer: SocketAddr,
) -> Result<Upgraded, Failure> {
    let settings = state.settings();
    let trusted = settings
        .proxy
        .trusts(peer.ip())
        .then_some(|address| settings.proxy.trusts(address));
    ws::accept(io, &settings.websocket, &state.status, trusted)
        .await
        .map_err(|failure| match failure {
            WsFailure::Closed(true) | WsFailure::Answered(200) => Failure::HealthCheck,
            WsFailure::Closed(false) | WsFailure::Io(_) => {
                Failure::because(Refused::HandshakeClosed, failure)
            }
            WsFailure::Answered(_) => Failure::because(Refused::Http, failure),
            WsFailure::Spoken(spoken) => Failure::Spoken(Some(spoken)),
            WsFailure::Garbage => Failure::Spoken(None),
        })
}

/// The client's address by a trusted proxy's headers, keeping the known port where they give none.
fn forwarded(upgraded: &Upgraded, peer: SocketAddr, proxied: bool) -> (SocketAddr, bool) {
    upgraded
        .client
        .map_or((peer, proxied), |client| (client, true))
}
