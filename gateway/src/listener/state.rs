//! What a running listener and its connections share.

use std::net::SocketAddr;
use std::ops::Deref;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use parking_lot::Mutex;

use super::counters::{ListenerCounters, Refused};
use super::settings::{ListenerKind, ListenerSettings};
use crate::error::GatewayError;
use crate::log_limit::LogLimit;
use crate::sniff::Spoken;
use crate::tls::{ALPN_HTTP, ALPN_MQTT, TlsServer};
use crate::websocket::StatusSource;

/// How often one listener writes a warning that its peers cause.
const WARN_PERIOD: Duration = Duration::from_secs(10);

/// One listener: settings, certificates, counters.
pub struct ListenerState<M = ()> {
    settings: ListenerSettings<M>,
    name: Arc<str>,
    tls: Option<TlsServer>,
    pub(super) status: StatusSource,
    pub(super) counters: ListenerCounters,
    bucket: Mutex<Bucket>,
    pub(super) warn: LogLimit,
    /// One for each wrong protocol: a client of one does not hide the line on another.
    wrong: [LogLimit; Spoken::COUNT],
}

impl<M> std::fmt::Debug for ListenerState<M> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ListenerState")
            .field("name", &self.name)
            .field("counters", &self.counters)
            .finish()
    }
}

/// Tokens for new connections.
#[derive(Debug)]
struct Bucket {
    tokens: f64,
    filled: Instant,
}

impl<M> ListenerState<M> {
    /// Checks the settings and loads certificates.
    pub(super) fn new(
        settings: ListenerSettings<M>,
        status: StatusSource,
    ) -> Result<Self, GatewayError> {
        settings.validate()?;
        let tls = if settings.kind.is_tls() {
            let alpn = if settings.kind.is_websocket() {
                ALPN_HTTP
            } else {
                ALPN_MQTT
            };
            let key = format!("listeners.{}.{}", settings.kind, settings.name);
            Some(TlsServer::load(&key, &settings.tls, alpn)?)
        } else {
            None
        };
        let burst = f64::from(settings.max_connect_rate.unwrap_or(0));
        Ok(Self {
            name: settings.full_name().into(),
            settings,
            tls,
            status,
            counters: ListenerCounters::default(),
            bucket: Mutex::new(Bucket {
                tokens: burst,
                filled: Instant::now(),
            }),
            warn: LogLimit::new(WARN_PERIOD),
            wrong: std::array::from_fn(|_| LogLimit::new(WARN_PERIOD)),
        })
    }

    /// `tcp:default`.
    #[must_use]
    pub fn name(&self) -> &Arc<str> {
        &self.name
    }

    /// The settings it was made from.
    #[must_use]
    pub fn settings(&self) -> &ListenerSettings<M> {
        &self.settings
    }

    /// What it counted.
    #[must_use]
    pub fn counters(&self) -> &ListenerCounters {
        &self.counters
    }

    /// Its certificates, if it ends TLS.
    #[must_use]
    pub fn tls(&self) -> Option<&TlsServer> {
        self.tls.as_ref()
    }

    /// Judges a new connection by the listener's limits and counts it.
    pub(super) fn admit(
        self: &Arc<Self>,
        now: Instant,
    ) -> Result<(ListenerRef<M>, HandshakeSlot<M>), Refused> {
        let counters = &self.counters;
        counters.accepted.fetch_add(1, Ordering::Relaxed);
        if let Some(rate) = self.settings.max_connect_rate
            && !self.bucket.lock().take(rate, now)
        {
            return Err(Refused::ConnectRate);
        }
        // Counted first and judged after, so that several accept loops of one listener never exceed the limit.
        let listener = ListenerRef::new(self);
        if self
            .settings
            .max_connections
            .is_some_and(|max| counters.connections() > max)
        {
            return Err(Refused::MaxConnections);
        }
        let slot = HandshakeSlot::new(self);
        if counters.handshakes() > self.settings.max_handshakes {
            return Err(Refused::MaxHandshakes);
        }
        Ok((listener, slot))
    }

    /// Counts a refusal and writes its debug line.
    pub(super) fn refuse(
        &self,
        reason: Refused,
        peer: impl std::fmt::Display,
        detail: &dyn std::fmt::Display,
    ) {
        self.counters.refuse(reason);
        tracing::debug!(listener = &*self.name, %peer, reason = reason.as_str(), "connection refused: {detail}");
    }

    /// Counts a client of another protocol than the port's, and says so in one line, at most one in ten seconds for
    /// each protocol. For the connection too, whose first packet on a plain port is the first that anybody sees
    /// ([`Spoken::guess`] tells what it is).
    pub fn wrong_protocol(&self, peer: SocketAddr, spoken: Option<Spoken>) {
        let port = match self.settings.kind {
            ListenerKind::Tcp => "plain MQTT",
            ListenerKind::Tls => "MQTT over TLS",
            ListenerKind::Ws => "MQTT over WebSocket",
            ListenerKind::Wss => "MQTT over secure WebSocket",
        };
        let Some(spoken) = spoken else {
            self.refuse(Refused::WrongProtocol, peer, &format_args!("not {port}"));
            return;
        };
        self.refuse(
            Refused::WrongProtocol,
            peer,
            &format_args!("client speaks {spoken}"),
        );
        if let Some(more) = self.wrong[spoken as usize].allow() {
            tracing::warn!(listener = &*self.name, %peer, more,
                "client speaks {spoken} on the port for {port}; connection closed");
        }
    }

    /// Counts a balancer's check; nothing is written.
    pub(super) fn health_check(&self) {
        self.counters.health_checks.fetch_add(1, Ordering::Relaxed);
    }
}

impl Bucket {
    fn take(&mut self, rate: u32, now: Instant) -> bool {
        let rate = f64::from(rate);
        let gained = now.saturating_duration_since(self.filled).as_secs_f64() * rate;
        self.tokens = (self.tokens + gained).min(rate);
        self.filled = now;
        if self.tokens < 1.0 {
            return false;
        }
        self.tokens -= 1.0;
        true
    }
}

/// A connection's hold on its listener: gives its settings, and counts the connection until dropped.
#[derive(Debug)]
pub struct ListenerRef<M = ()>(Arc<ListenerState<M>>);

impl<M> ListenerRef<M> {
    pub(super) fn new(state: &Arc<ListenerState<M>>) -> Self {
        state.counters.connections.fetch_add(1, Ordering::Relaxed);
        Self(state.clone())
    }
}

impl<M> Deref for ListenerRef<M> {
    type Target = Arc<ListenerState<M>>;

    fn deref(&self) -> &Arc<ListenerState<M>> {
        &self.0
    }
}

impl<M> Drop for ListenerRef<M> {
    fn drop(&mut self) {
        self.0.counters.connections.fetch_sub(1, Ordering::Relaxed);
    }
}

/// A connection's place among those that `max_handshakes` limits, until dropped.
#[derive(Debug)]
pub struct HandshakeSlot<M = ()>(Arc<ListenerState<M>>);

impl<M> HandshakeSlot<M> {
    pub(super) fn new(state: &Arc<ListenerState<M>>) -> Self {
        state.counters.handshakes.fetch_add(1, Ordering::Relaxed);
        Self(state.clone())
    }
}

impl<M> Drop for HandshakeSlot<M> {
    fn drop(&mut self) {
        self.0.counters.handshakes.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_rate_bucket_gives_one_second_of_burst_and_then_the_rate() {
        let start = Instant::now();
        let mut bucket = Bucket {
            tokens: 10.0,
            filled: start,
        };
        let taken =
            |bucket: &mut Bucket, at: Instant| (0..100).filter(|_| bucket.take(10, at)).count();
        assert_eq!(taken(&mut bucket, start), 10);
        assert_eq!(taken(&mut bucket, start + Duration::from_millis(500)), 5);
        assert_eq!(taken(&mut bucket, start + Duration::from_secs(60)), 10);
        // Time that seems to go back gives nothing.
        assert_eq!(taken(&mut bucket, start), 0);
    }
}
