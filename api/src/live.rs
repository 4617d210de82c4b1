//! `GET /api/v1/live`: figures pushed over a WebSocket. What nobody asks for is not computed.

use std::collections::BTreeSet;
use std::convert::Infallible;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use axum::body::Body;
use axum::extract::{Request, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use futures_util::{SinkExt, StreamExt};
use hyper_util::rt::TokioIo;
use nightjar_broker::Timestamp;
use nightjar_broker::observe::{Event, HistogramView};
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::time::{Instant, MissedTickBehavior, interval, timeout};
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;
use tokio_tungstenite::tungstenite::protocol::frame::CloseFrame;
use tokio_tungstenite::tungstenite::protocol::frame::coding::CloseCode;
use tokio_tungstenite::tungstenite::protocol::{Role, WebSocketConfig};

use crate::error::ApiError;
use crate::history::{Counts, rates};
use crate::routes::App;
use crate::shared::Shared;

/// Open pages at a time.
const MAX: usize = 100;
/// Time for the token, and for a reader to take what is written.
const PATIENCE: Duration = Duration::from_secs(5);
/// How often figures are pushed.
const EVERY: Duration = Duration::from_secs(1);
/// How often the other side is asked whether it is there.
const PING: Duration = Duration::from_secs(20);
/// Topics of one page.
const MAX_TOPICS: usize = 16;
/// Client identifiers in one message.
const MAX_CLIENTS: usize = 100;

static OPEN: AtomicUsize = AtomicUsize::new(0);

/// Counts an open page until dropped.
struct Place;

impl Place {
    fn take() -> Option<Self> {
        if OPEN.fetch_add(1, Ordering::Relaxed) >= MAX {
            OPEN.fetch_sub(1, Ordering::Relaxed);
            return None;
        }
        Some(Self)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        OPEN.fetch_sub(1, Ordering::Relaxed);
    }
}

/// What a page says.
#[derive(Deserialize)]
#[serde(tag = "type", rename_all = "lowercase", deny_unknown_fields)]
enum Said {
    Auth { token: String },
    Subscribe { topics: BTreeSet<String> },
}

/// Takes the upgrade and begins to push.
pub async fn connect(State(shared): App, mut request: Request) -> Response {
    let headers = request.headers();
    let Some(key) = upgrade_key(headers) else {
        return ApiError::bad_request("expected a WebSocket upgrade of version 13").into_response();
    };
    if !same_origin(headers) {
        return ApiError::forbidden("the page that asks is of another origin").into_response();
    }
    let Some(place) = Place::take() else {
        return ApiError::unavailable("too many open pages").into_response();
    };
    let accept = derive_accept_key(key.as_bytes());
    let upgrade = hyper::upgrade::on(&mut request);
    tokio::spawn(async move {
        if let Ok(upgraded) = upgrade.await {
            let config = WebSocketConfig::default()
                .max_message_size(Some(16 * 1024))
                .max_frame_size(Some(16 * 1024));
            let stream = WebSocketStream::from_raw_socket(
                TokioIo::new(upgraded),
                Role::Server,
                Some(config),
            )
            .await;
            Page::new(shared, stream).run().await;
        }
        drop(place);
    });
    Response::builder()
        .status(StatusCode::SWITCHING_PROTOCOLS)
        .header(header::CONNECTION, "Upgrade")
        .header(header::UPGRADE, "websocket")
        .header(header::SEC_WEBSOCKET_ACCEPT, accept)
        .body(Body::empty())
        .unwrap_or_else(|error| ApiError::internal(error.to_string()).into_response())
}

fn upgrade_key(headers: &HeaderMap) -> Option<String> {
    let has = |name: header::HeaderName, wanted: &str| {
        headers
            .get_all(name)
            .iter()
            .filter_map(|value| value.to_str().ok())
            .flat_map(|value| value.split(','))
            .any(|part| part.trim().eq_ignore_ascii_case(wanted))
    };
    let key = headers.get(header::SEC_WEBSOCKET_KEY)?.to_str().ok()?;
    (has(header::CONNECTION, "upgrade")
        && has(header::UPGRADE, "websocket")
        && has(header::SEC_WEBSOCKET_VERSION, "13")
        && key.len() == 24)
        .then(|| key.to_owned())
}

/// Is the page of this host? A program that is no browser sends no origin.
fn same_origin(headers: &HeaderMap) -> bool {
    let text = |name| headers.get(name).map(|value| value.to_str().unwrap_or(""));
    match (text(header::ORIGIN), text(header::HOST)) {
        (None, _) => true,
        (Some(origin), Some(host)) => origin
            .split_once("://")
            .is_some_and(|(_, rest)| rest.eq_ignore_ascii_case(host)),
        (Some(_), None) => false,
    }
}

type Stream = WebSocketStream<TokioIo<hyper::upgrade::Upgraded>>;

/// Why a page's connection ends.
enum End {
    /// The other side left, or does not read.
    Gone,
    /// It is told this code.
    Close(u16, &'static str),
}

/// One open page.
struct Page {
    shared: Arc<Shared>,
    stream: Stream,
    token: Option<String>,
    topics: BTreeSet<String>,
    counts: Option<Counts>,
    delivery: HistogramView,
    /// Until when changes of clients were told.
    seen: Timestamp,
    /// Bytes of each trace that were told.
    positions: std::collections::BTreeMap<String, u64>,
}

impl Page {
    fn new(shared: Arc<Shared>, stream: Stream) -> Self {
        Self {
            counts: shared.history.counts(),
            delivery: shared.broker.latencies().delivery.view(),
            seen: Timestamp::now(),
            shared,
            stream,
            token: None,
            topics: BTreeSet::new(),
            positions: Default::default(),
        }
    }

    async fn run(mut self) {
        let end = match self.serve().await {
            Ok(never) => match never {},
            Err(end) => end,
        };
        if let End::Close(code, reason) = end {
            let frame = CloseFrame {
                code: CloseCode::from(code),
                reason: reason.into(),
            };
            let _ = timeout(PATIENCE, self.stream.close(Some(frame))).await;
        }
    }

    async fn serve(&mut self) -> Result<Infallible, End> {
        let first = timeout(PATIENCE, self.said())
            .await
            .map_err(|_| End::Close(4401, "no token came in time"))?;
        let Some(Said::Auth { token }) = first? else {
            return Err(End::Close(
                4400,
                "expected {\"type\":\"auth\",\"token\":\"...\"}",
            ));
        };
        // The node that gave it out may be another one.
        let _ = self.shared.tokens.find_soon(&token, Timestamp::now()).await;
        self.token = Some(token);
        self.check_token()?;
        let ready = json!({
            "type": "ready",
            "node": &**self.shared.broker.node(),
            "version": self.shared.host.version(),
            "server_time": Timestamp::now().to_rfc3339(),
        });
        self.send(&ready).await?;
        let mut every = interval(EVERY);
        every.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut pinged = Instant::now();
        loop {
            tokio::select! {
                said = Self::next(&mut self.stream) => match said? {
                    None => {}
                    Some(Said::Subscribe { topics }) => {
                        if topics.len() > MAX_TOPICS {
                            return Err(End::Close(4400, "too many topics"));
                        }
                        self.topics = topics;
                        self.push().await?;
                        every.reset();
                    }
                    Some(Said::Auth { token }) => {
                        self.token = Some(token);
                        self.check_token()?;
                    }
                },
                _ = every.tick() => {
                    if !self.topics.is_empty() {
                        self.check_token()?;
                        self.push().await?;
                    }
                    if pinged.elapsed() >= PING {
                        pinged = Instant::now();
                        self.put(Message::Ping(Default::default())).await?;
                    }
                }
            }
        }
    }

    fn check_token(&self) -> Result<(), End> {
        let token = self.token.as_deref().unwrap_or("");
        match self.shared.tokens.find(token, Timestamp::now()) {
            Some(_) => Ok(()),
            None => Err(End::Close(4401, "the token is unknown or has expired")),
        }
    }

    async fn said(&mut self) -> Result<Option<Said>, End> {
        loop {
            if let Some(said) = Self::next(&mut self.stream).await? {
                return Ok(Some(said));
            }
        }
    }

    async fn next(stream: &mut Stream) -> Result<Option<Said>, End> {
        match stream.next().await {
            Some(Ok(Message::Text(text))) => serde_json::from_str(&text)
                .map(Some)
                .map_err(|_| End::Close(4400, "this message is not understood")),
            Some(Ok(Message::Ping(_) | Message::Pong(_))) => Ok(None),
            Some(Ok(Message::Binary(_))) => Err(End::Close(4400, "expected text")),
            _ => Err(End::Gone),
        }
    }

    async fn put(&mut self, message: Message) -> Result<(), End> {
        match timeout(PATIENCE, self.stream.send(message)).await {
            Ok(Ok(())) => Ok(()),
            _ => Err(End::Gone),
        }
    }

    async fn send(&mut self, value: &Value) -> Result<(), End> {
        self.put(Message::Text(value.to_string().into())).await
    }

    /// Sends what the page asked for.
    async fn push(&mut self) -> Result<(), End> {
        for topic in self.topics.clone() {
            let message = match topic.as_str() {
                "overview" => Some(self.overview()),
                "nodes" => Some(json!({
                    "type": "nodes",
                    "at": Timestamp::now().0,
                    "data": self.shared.all_nodes().await,
                })),
                "alarms" => Some(self.alarms()),
                "clients" => self.clients(),
                other => match other.strip_prefix("trace:") {
                    Some(name) => self.trace(name).await,
                    None => {
                        self.topics.remove(other);
                        Some(json!({
                            "type": "error",
                            "code": "BAD_REQUEST",
                            "message": format!("there is no topic {other:?}"),
                        }))
                    }
                },
            };
            if let Some(message) = message {
                self.send(&message).await?;
            }
        }
        Ok(())
    }

    fn overview(&mut self) -> Value {
        let now = Timestamp::now();
        let counts = self.shared.counts(now);
        let per_second = match &self.counts {
            Some(before) if now.since(before.at) >= 200 => rates(before, &counts),
            _ => [0.0; 7],
        };
        if self.counts.is_none_or(|before| now.since(before.at) >= 200) {
            self.counts = Some(counts);
        }
        let view = self.shared.broker.latencies().delivery.view();
        let lately = view.since(&self.delivery);
        self.delivery = view;
        let [
            received,
            sent,
            dropped,
            bytes_in,
            bytes_out,
            connects,
            disconnects,
        ] = per_second.map(|rate| (rate * 10.0).round() / 10.0);
        json!({
            "type": "overview",
            "at": now.0,
            "node": self.shared.node_view(),
            "stats": self.shared.stats(),
            "rates": {
                "received_msg": received,
                "sent_msg": sent,
                "dropped_msg": dropped,
                "bytes_in": bytes_in,
                "bytes_out": bytes_out,
                "connects": connects,
                "disconnects": disconnects,
            },
            "latency": {
                "deliver_p50_ms": lately.quantile(0.5),
                "deliver_p99_ms": lately.quantile(0.99),
            },
            "alarms": self.shared.broker.alarms().active_count(),
        })
    }

    fn alarms(&self) -> Value {
        let active = self.shared.broker.alarms().active();
        let data: Vec<_> = active
            .into_iter()
            .map(|alarm| self.shared.alarm_view(alarm))
            .collect();
        json!({ "type": "alarms", "at": Timestamp::now().0, "data": data })
    }

    /// Who came and went; nothing if nobody did.
    fn clients(&mut self) -> Option<Value> {
        let now = Timestamp::now();
        let news = self
            .shared
            .broker
            .journal()
            .since(self.seen, 2 * MAX_CLIENTS + 1);
        self.seen = now;
        if news.is_empty() {
            return None;
        }
        let of = |event: Event| -> Vec<&str> {
            news.iter()
                .filter(|entry| entry.event == event)
                .map(|entry| &*entry.client_id)
                .take(MAX_CLIENTS)
                .collect()
        };
        let (connected, disconnected) = (of(Event::Connected), of(Event::Disconnected));
        Some(json!({
            "type": "clients",
            "at": now.0,
            "more": connected.len() + disconnected.len() < news.len(),
            "connected": connected,
            "disconnected": disconnected,
        }))
    }

    async fn trace(&mut self, name: &str) -> Option<Value> {
        let Some(trace) = self.shared.broker.tracer().find(name) else {
            self.topics.remove(&format!("trace:{name}"));
            return Some(json!({
                "type": "error",
                "code": "NOT_FOUND",
                "message": format!("there is no trace {name:?}"),
            }));
        };
        let from = self.positions.get(name).copied().unwrap_or(0);
        let bytes = self
            .shared
            .blocking(move |shared| shared.read_trace(&trace, from, 256 * 1024))
            .await
            .ok()?
            .ok()?;
        if bytes.is_empty() {
            return None;
        }
        self.positions
            .insert(name.to_owned(), from + bytes.len() as u64);
        Some(json!({
            "type": "trace",
            "name": name,
            "text": String::from_utf8_lossy(&bytes),
        }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_of_another_origin_is_known() {
        let with = |origin: Option<&str>, host: &str| {
            let mut headers = HeaderMap::new();
            if let Some(origin) = origin {
                headers.insert(header::ORIGIN, origin.parse().unwrap());
            }
            headers.insert(header::HOST, host.parse().unwrap());
            same_origin(&headers)
        };
        assert!(with(None, "a:1"));
        assert!(with(Some("http://a:1"), "a:1") && with(Some("https://A"), "a"));
        assert!(!with(Some("http://b:1"), "a:1") && !with(Some("null"), "a:1"));
    }
}
