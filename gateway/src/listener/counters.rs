//! What a listener counts.

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

/// Why a connection was ended before it was handed to MQTT.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Refused {
    /// `max_connections` were there.
    MaxConnections,
    /// More than `max_connect_rate` in a second.
    ConnectRate,
    /// `max_handshakes` were going on.
    MaxHandshakes,
    /// The handshake was not complete in time.
    HandshakeTimeout,
    /// The socket failed, or the peer closed in the middle of the handshake.
    HandshakeClosed,
    /// A PROXY header from, or a connection that needs one and comes from, an address that is no trusted proxy.
    ProxyUntrusted,
    /// A trusted proxy sent no header where one is required, a malformed one, or none in time.
    ProxyHeader,
    /// TLS failed: no common version, certificate refused, ...
    Tls,
    /// The HTTP request was answered with an error.
    Http,
    /// The client speaks another protocol than the port.
    WrongProtocol,
}

impl Refused {
    /// All reasons, in the order of their counters.
    pub const ALL: [Self; 10] = [
        Self::MaxConnections,
        Self::ConnectRate,
        Self::MaxHandshakes,
        Self::HandshakeTimeout,
        Self::HandshakeClosed,
        Self::ProxyUntrusted,
        Self::ProxyHeader,
        Self::Tls,
        Self::Http,
        Self::WrongProtocol,
    ];

    /// The reason as metrics and logs name it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::MaxConnections => "max_connections",
            Self::ConnectRate => "connect_rate",
            Self::MaxHandshakes => "max_handshakes",
            Self::HandshakeTimeout => "handshake_timeout",
            Self::HandshakeClosed => "handshake_closed",
            Self::ProxyUntrusted => "proxy_untrusted",
            Self::ProxyHeader => "proxy_header",
            Self::Tls => "tls",
            Self::Http => "http",
            Self::WrongProtocol => "wrong_protocol",
        }
    }
}

/// Counters of one listener, since the process began or the listener was made.
#[derive(Debug, Default)]
pub struct ListenerCounters {
    pub(super) connections: AtomicUsize,
    pub(super) handshakes: AtomicUsize,
    pub(super) accepted: AtomicU64,
    pub(super) health_checks: AtomicU64,
    pub(super) accept_errors: AtomicU64,
    refused: [AtomicU64; Refused::ALL.len()],
}

impl ListenerCounters {
    /// Connections there are, those in their handshake included.
    #[must_use]
    pub fn connections(&self) -> usize {
        self.connections.load(Ordering::Relaxed)
    }

    /// Connections whose handshake is not complete.
    #[must_use]
    pub fn handshakes(&self) -> usize {
        self.handshakes.load(Ordering::Relaxed)
    }

    /// All connections ever accepted from the system, refused ones included.
    #[must_use]
    pub fn accepted(&self) -> u64 {
        self.accepted.load(Ordering::Relaxed)
    }

    /// Health checks of balancers: `GET /status`, PROXY LOCAL, and connections that close without a byte.
    #[must_use]
    pub fn health_checks(&self) -> u64 {
        self.health_checks.load(Ordering::Relaxed)
    }

    /// Times the system could not give a connection, as when file descriptors are used up.
    #[must_use]
    pub fn accept_errors(&self) -> u64 {
        self.accept_errors.load(Ordering::Relaxed)
    }

    /// Connections refused for one reason.
    #[must_use]
    pub fn refused(&self, reason: Refused) -> u64 {
        self.refused[reason as usize].load(Ordering::Relaxed)
    }

    pub(super) fn refuse(&self, reason: Refused) {
        self.refused[reason as usize].fetch_add(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_reason_has_its_own_counter() {
        let counters = ListenerCounters::default();
        for (index, reason) in Refused::ALL.into_iter().enumerate() {
            assert_eq!(reason as usize, index);
            for _ in 0..=index {
                counters.refuse(reason);
            }
        }
        for (index, reason) in Refused::ALL.into_iter().enumerate() {
            assert_eq!(
                counters.refused(reason),
                index as u64 + 1,
                "{}",
                reason.as_str()
            );
        }
    }
}
