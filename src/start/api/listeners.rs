//! Listeners as the API shows them, with their certificates.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use nightjar_api::{HostError, ListenerView, TlsView};
use nightjar_broker::Timestamp;
use nightjar_gateway::GatewayError;
use nightjar_gateway::listener::{ListenerState, ListenerStatus, ProxyMode, Refused};
use nightjar_gateway::mqttsn::{Counted, SnListenerStatus};
use nightjar_gateway::websocket::WsPath;
use parking_lot::Mutex;
use x509_parser::pem::Pem;
use x509_parser::prelude::GeneralName;

use crate::start::Node;

/// How long what a certificate's file said is kept.
const FRESH: Duration = Duration::from_secs(60);

/// What certificates' files said.
#[derive(Debug, Default)]
pub struct Certificates(Mutex<HashMap<PathBuf, (Instant, Option<TlsView>)>>);

impl Certificates {
    fn of(&self, path: &Path) -> Option<TlsView> {
        let mut cache = self.0.lock();
        if let Some((at, view)) = cache.get(path)
            && at.elapsed() < FRESH
        {
            return view.clone().map(brought_up_to_date);
        }
        let view = read(path);
        cache.insert(path.to_owned(), (Instant::now(), view.clone()));
        view
    }
}

/// Time has passed since the file was read.
fn brought_up_to_date(mut view: TlsView) -> TlsView {
    let end = view.not_after.as_deref().and_then(Timestamp::from_rfc3339);
    if let Some(end) = end {
        view.expires_in = Some(seconds_until(end));
    }
    view
}

fn seconds_until(end: Timestamp) -> i64 {
    let now = Timestamp::now();
    let seconds = |ms: u64| i64::try_from(ms / 1000).unwrap_or(i64::MAX);
    if end >= now {
        seconds(end.since(now))
    } else {
        -seconds(now.since(end))
    }
}

fn read(path: &Path) -> Option<TlsView> {
    let bytes = std::fs::read(path).ok()?;
    let pem = Pem::iter_from_buffer(&bytes)
        .filter_map(Result::ok)
        .find(|pem| pem.label == "CERTIFICATE")?;
    let certificate = pem.parse_x509().ok()?;
    let validity = certificate.validity();
    let time = |at: i64| {
        u64::try_from(at)
            .ok()
            .map(|seconds| Timestamp(seconds.saturating_mul(1000)))
    };
    let (begin, end) = (
        time(validity.not_before.timestamp()),
        time(validity.not_after.timestamp()),
    );
    let names = certificate.subject_alternative_name().ok().flatten();
    let names = names.map_or_else(Vec::new, |names| {
        names
            .value
            .general_names
            .iter()
            .filter_map(name)
            .collect::<Vec<_>>()
    });
    Some(TlsView {
        subject: certificate.subject().to_string(),
        issuer: certificate.issuer().to_string(),
        not_before: begin.map(Timestamp::to_rfc3339),
        not_after: end.map(Timestamp::to_rfc3339),
        expires_in: end.map(seconds_until),
        names,
        file: path.display().to_string(),
    })
}

fn name(name: &GeneralName<'_>) -> Option<String> {
    match name {
        GeneralName::DNSName(text) | GeneralName::URI(text) => Some((*text).to_owned()),
        GeneralName::IPAddress(bytes) => match bytes.len() {
            4 => <[u8; 4]>::try_from(*bytes)
                .ok()
                .map(|bytes| std::net::Ipv4Addr::from(bytes).to_string()),
            _ => <[u8; 16]>::try_from(*bytes)
                .ok()
                .map(|bytes| std::net::Ipv6Addr::from(bytes).to_string()),
        },
        _ => None,
    }
}

/// The certificate file of a listener.
fn certificate<M>(state: &ListenerState<M>) -> Option<PathBuf> {
    let settings = state.tls()?.settings();
    Some(
        settings
            .cert_file
            .clone()
            .unwrap_or_else(|| settings.data_dir.join("certs").join("server.crt")),
    )
}

/// All listeners, by name.
pub fn list(node: &Node) -> Vec<ListenerView> {
    let view = |status: ListenerStatus<_>| {
        let state = &status.state;
        let (settings, counters) = (state.settings(), state.counters());
        ListenerView {
            id: status.name.to_string(),
            kind: settings.kind.to_string(),
            bind: status.addresses.iter().map(ToString::to_string).collect(),
            running: status.running,
            enable: true,
            current_connections: counters.connections() as u64,
            max_connections: settings.max_connections.map(|max| max as u64),
            handshakes: counters.handshakes() as u64,
            accepted: counters.accepted(),
            accept_errors: counters.accept_errors(),
            health_checks: counters.health_checks(),
            refused: Refused::ALL
                .into_iter()
                .map(|reason| (reason.as_str().to_owned(), counters.refused(reason)))
                .collect(),
            path: settings
                .kind
                .is_websocket()
                .then(|| match &settings.websocket.path {
                    WsPath::Default => "/mqtt".to_owned(),
                    WsPath::Exact(path) => path.clone(),
                }),
            proxy_protocol: match settings.proxy.mode {
                ProxyMode::Off => "off",
                ProxyMode::Required => "required",
                ProxyMode::Optional => "optional",
            }
            .to_owned(),
            tls: certificate(state).and_then(|path| node.certificates.of(&path)),
        }
    };
    let mut all: Vec<ListenerView> = node.listeners.status().into_iter().map(view).collect();
    all.extend(node.sensors.status().iter().map(sensors));
    all
}

/// An MQTT-SN listener: its connections are the clients it knows.
fn sensors(status: &SnListenerStatus) -> ListenerView {
    let gateway = &status.gateway;
    let counters = gateway.counters();
    ListenerView {
        id: status.name.to_string(),
        kind: "mqttsn".to_owned(),
        bind: vec![status.address.to_string()],
        running: status.running,
        enable: true,
        current_connections: gateway.sessions() as u64,
        max_connections: gateway.settings().max_sessions.map(|max| max as u64),
        handshakes: 0,
        accepted: counters.get(Counted::Connects),
        accept_errors: 0,
        health_checks: 0,
        refused: [
            ("denied", Counted::ConnectsDenied),
            ("congested", Counted::ConnectsCongested),
            ("invalid", Counted::ConnectsInvalid),
            ("abandoned", Counted::ConnectsAbandoned),
        ]
        .into_iter()
        .map(|(reason, counted)| (reason.to_owned(), counters.get(counted)))
        .collect(),
        path: None,
        proxy_protocol: "off".to_owned(),
        tls: None,
    }
}

fn failed(error: GatewayError) -> HostError {
    let text = error.to_string();
    match error {
        GatewayError::UnknownListener(_) => HostError::NotFound(text),
        GatewayError::AlreadyRunning(_) => HostError::Conflict(text),
        _ => HostError::Failed(text),
    }
}

/// Starts a stopped listener, of MQTT or of MQTT-SN.
pub fn start(node: &Node, id: &str) -> Result<(), HostError> {
    match node.sensors.start(id) {
        Err(GatewayError::UnknownListener(_)) => node.listeners.start(id).map(drop),
        started => started.map(drop),
    }
    .map_err(failed)
}

/// Stops a listener, of MQTT or of MQTT-SN.
pub async fn stop(node: &Node, id: &str) -> Result<(), HostError> {
    match node.sensors.stop(id).await {
        Err(GatewayError::UnknownListener(_)) => node.listeners.stop(id).await,
        stopped => stopped,
    }
    .map_err(failed)
}
