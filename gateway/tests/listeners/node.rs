//! A node whose connections echo what they read, and the small things all tests need.

use std::future::poll_fn;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use nightjar_gateway::listener::{ListenerState, Refused};
use nightjar_gateway::tls::PeerIdentity;
use nightjar_gateway::websocket::{HttpInfo, StatusAnswer, StatusSource};
use nightjar_gateway::{
    Accepted, GatewayError, ListenerKind, ListenerSettings, Listeners, Transport, Workers,
};
use tokio::sync::mpsc;

/// What a test may ask of an accepted connection.
#[derive(Debug)]
pub struct Seen {
    pub peer: SocketAddr,
    pub local: SocketAddr,
    pub loopback: bool,
    pub proxied: bool,
    pub health_check: bool,
    pub identity: Option<PeerIdentity>,
    pub http: Option<HttpInfo>,
    pub unique_id: Option<Vec<u8>>,
    pub nodelay: bool,
}

pub struct Node {
    pub listeners: Arc<Listeners>,
    pub addresses: Vec<SocketAddr>,
    pub seen: mpsc::UnboundedReceiver<Seen>,
    dir: TempDir,
}

impl Node {
    /// Starts listeners whose connections read with a buffer of `scratch` bytes and write back what they read.
    pub fn with_scratch(
        settings: Vec<ListenerSettings>,
        scratch: usize,
    ) -> Result<Self, GatewayError> {
        let dir = TempDir::new();
        let mut settings = settings;
        for listener in &mut settings {
            if listener.tls.cert_file.is_none() {
                listener.tls.data_dir = dir.path().to_owned();
            }
        }
        let bound = Listeners::bind(settings, &status())?;
        let addresses = bound
            .addresses()
            .into_iter()
            .map(|(_, address)| address)
            .collect();
        let (send, seen) = mpsc::unbounded_channel();
        let listeners = bound.start(&Workers::current(), move |accepted| {
            let send = send.clone();
            async move {
                let _ = send.send(look(&accepted));
                let Accepted {
                    mut transport,
                    listener,
                    slot,
                    ..
                } = accepted;
                drop(slot);
                echo(&mut transport, scratch).await;
                drop(listener);
            }
        });
        Ok(Self {
            listeners: Arc::new(listeners),
            addresses,
            seen,
            dir,
        })
    }

    pub fn start(settings: ListenerSettings) -> Self {
        Self::with_scratch(vec![settings], 4096).unwrap()
    }

    pub fn address(&self) -> SocketAddr {
        self.addresses[0]
    }

    pub fn state(&self) -> Arc<ListenerState> {
        self.listeners.status()[0].state.clone()
    }

    /// The CA of the certificate that the node made for itself.
    pub fn ca_file(&self) -> PathBuf {
        self.dir.path().join("certs/ca.crt")
    }

    pub async fn next(&mut self) -> Seen {
        tokio::time::timeout(Duration::from_secs(10), self.seen.recv())
            .await
            .expect("no connection came")
            .unwrap()
    }

    pub fn refused(&self, reason: Refused) -> u64 {
        self.state().counters().refused(reason)
    }

    /// Waits for a reason to be counted this often; counting happens after the client sees its end.
    pub async fn wait_refused(&self, reason: Refused, count: u64) {
        until(
            || self.refused(reason) == count,
            || format!("{reason:?} is {}", self.refused(reason)),
        )
        .await;
    }

    pub async fn wait_connections(&self, count: usize) {
        let state = self.state();
        until(
            || state.counters().connections() == count,
            || format!("{:?}", state.counters()),
        )
        .await;
    }
}

pub async fn until(done: impl Fn() -> bool, otherwise: impl Fn() -> String) {
    let begun = Instant::now();
    while !done() {
        assert!(begun.elapsed() < Duration::from_secs(10), "{}", otherwise());
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

fn look(accepted: &Accepted) -> Seen {
    Seen {
        peer: accepted.peer,
        local: accepted.local,
        loopback: accepted.loopback,
        proxied: accepted.proxied,
        health_check: accepted.health_check,
        identity: accepted.identity.as_deref().cloned(),
        http: accepted.http.as_deref().cloned(),
        unique_id: accepted
            .proxy
            .as_ref()
            .and_then(|proxy| proxy.unique_id.clone()),
        nodelay: accepted.transport.socket().unwrap().nodelay().unwrap(),
    }
}

async fn echo(transport: &mut Transport, scratch: usize) {
    let mut buf = vec![0; scratch];
    loop {
        let n = match poll_fn(|cx| transport.poll_read(cx, &mut buf)).await {
            Ok(n) if n > 0 => n,
            _ => break,
        };
        let mut from = 0;
        while from < n {
            match poll_fn(|cx| transport.poll_write(cx, &buf[from..n])).await {
                Ok(taken) => from += taken,
                Err(_) => return,
            }
        }
        if poll_fn(|cx| transport.poll_flush(cx)).await.is_err() {
            return;
        }
    }
    let _ = transport.shutdown().await;
}

pub fn status() -> StatusSource {
    Arc::new(|| StatusAnswer {
        healthy: true,
        text: "Node test is started\nnightjar is running\n".into(),
    })
}

/// Settings on a free loopback port.
pub fn settings(kind: ListenerKind) -> ListenerSettings {
    let mut settings = ListenerSettings::new(kind, "default");
    settings.bind = vec!["127.0.0.1:0".parse().unwrap()];
    settings
}

/// A directory that goes with its owner.
pub struct TempDir(PathBuf);

impl TempDir {
    pub fn new() -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let name = format!(
            "nightjar-listeners-{}-{}",
            std::process::id(),
            NEXT.fetch_add(1, Ordering::Relaxed)
        );
        let path = std::env::temp_dir().join(name);
        std::fs::create_dir_all(&path).unwrap();
        Self(path)
    }

    pub fn path(&self) -> &Path {
        &self.0
    }

    pub fn file(&self, name: &str, content: &str) -> PathBuf {
        let path = self.0.join(name);
        std::fs::write(&path, content).unwrap();
        path
    }
}

impl Drop for TempDir {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}
