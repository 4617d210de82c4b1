//! A link that this node dials and keeps.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use parking_lot::Mutex;
use tokio::io::BufReader;
use tokio::sync::{Notify, oneshot};
use tokio::time::timeout;

use super::handshake::{self, HandshakeError};
use super::lanes::{Lane, Lanes, Pieces};
use super::{Hello, Links, kind};
use crate::ground::Halves;

/// Bytes that may wait to be sent before what may be dropped is dropped.
const CROWDED: usize = 16 << 20;
/// A link that hears nothing for so long is broken.
pub(super) const SILENCE: Duration = Duration::from_secs(5);
/// Pauses between attempts, shortest and longest.
const RETRY: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(2));

/// Why a request has no answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum LinkError {
    /// There is no link to the node.
    #[error("no link to the node")]
    Down,
    /// It did not answer in time.
    #[error("no answer in time")]
    Timeout,
}

struct Up {
    remote: Hello,
    /// Oldest and newest version that it speaks.
    speaks: (u16, u16),
    out: Arc<Lanes>,
}

/// Takes the place of an answer back when nobody waits for it any more.
struct Waiting<'a>(&'a Link, u64);

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.waiting.lock().remove(&self.1);
    }
}

/// A link.
pub(crate) struct Link {
    pub address: String,
    up: Mutex<Option<Up>>,
    error: Mutex<Option<String>>,
    /// It has not been told of all routes.
    behind: AtomicBool,
    waiting: Mutex<HashMap<u64, oneshot::Sender<Bytes>>>,
    next: AtomicU64,
    /// How often it came up.
    lives: AtomicU64,
    stopped: AtomicBool,
    wake: Notify,
}

impl Link {
    pub(super) fn new(address: &str) -> Arc<Self> {
        Arc::new(Self {
            address: address.to_owned(),
            up: Mutex::new(None),
            error: Mutex::new(None),
            behind: AtomicBool::new(false),
            waiting: Mutex::default(),
            next: AtomicU64::new(1),
            lives: AtomicU64::new(0),
            stopped: AtomicBool::new(false),
            wake: Notify::new(),
        })
    }

    /// Who is at the other end; `None` while it is down.
    pub fn remote(&self) -> Option<Hello> {
        self.up.lock().as_ref().map(|up| up.remote.clone())
    }

    /// Oldest and newest version that the other end speaks; `None` while it is down.
    pub fn speaks(&self) -> Option<(u16, u16)> {
        self.up.lock().as_ref().map(|up| up.speaks)
    }

    /// Is it up, to this node?
    pub fn is_to(&self, number: u64) -> bool {
        let up = self.up.lock();
        up.as_ref().is_some_and(|up| up.remote.number == number)
    }

    /// How often it came up: what was sent in an earlier life may not have arrived.
    pub fn life(&self) -> u64 {
        self.lives.load(Ordering::Acquire)
    }

    /// Why it is down.
    pub fn error(&self) -> Option<String> {
        self.error.lock().clone()
    }

    /// Bytes that wait to be sent.
    pub fn queued(&self) -> usize {
        self.up.lock().as_ref().map_or(0, |up| up.out.queued())
    }

    /// Does so much wait that what may be dropped should be?
    pub fn is_crowded(&self) -> bool {
        self.queued() > CROWDED
    }

    /// It was not told of a change of routes, because too much waited: it is to be told all of them when that is gone.
    pub fn leave_behind(&self) {
        self.behind.store(true, Ordering::Release);
    }

    /// Is it to be told all routes, and is there room again?
    pub fn may_catch_up(&self) -> bool {
        self.is_behind() && self.queued() < CROWDED / 4
    }

    /// Does it wait for all routes?
    pub fn is_behind(&self) -> bool {
        self.behind.load(Ordering::Acquire)
    }

    /// It is told all of them now.
    pub fn catch_up(&self) {
        self.behind.store(false, Ordering::Release);
    }

    /// Sends a frame; false if the link is down.
    pub fn send(&self, kind: u8, body: Bytes) -> bool {
        self.put(Lane::of(kind), kind, body)
    }

    fn put(&self, lane: Lane, kind: u8, body: Bytes) -> bool {
        let up = self.up.lock();
        up.as_ref().is_some_and(|up| up.out.push(lane, kind, body))
    }

    /// Asks, as urgently as the lane says, and waits for the answer.
    pub async fn request(
        &self,
        lane: Lane,
        body: &[u8],
        patience: Duration,
    ) -> Result<Bytes, LinkError> {
        let id = self.next.fetch_add(1, Ordering::Relaxed);
        let (answer, answered) = oneshot::channel();
        self.waiting.lock().insert(id, answer);
        let _place = Waiting(self, id);
        let mut frame = Vec::with_capacity(8 + body.len());
        frame.extend_from_slice(&id.to_le_bytes());
        frame.extend_from_slice(body);
        if !self.put(lane, kind::REQUEST, Bytes::from(frame)) {
            return Err(LinkError::Down);
        }
        match timeout(patience, answered).await {
            Ok(Ok(answer)) => Ok(answer),
            Ok(Err(_)) => Err(LinkError::Down),
            Err(_) => Err(LinkError::Timeout),
        }
    }

    pub(super) fn stop(&self) {
        self.stopped.store(true, Ordering::Release);
        self.wake.notify_one();
    }

    pub(super) fn renew(&self) {
        self.wake.notify_one();
    }

    /// Dials, keeps the link up, dials again.
    pub(super) async fn run(self: Arc<Self>, links: Arc<Links>) {
        let mut pause = RETRY.0;
        while !self.stopped.load(Ordering::Acquire) {
            match self.once(&links).await {
                Ok(()) => pause = RETRY.0,
                Err(HandshakeError::Myself) => {
                    // It will be so until the process ends.
                    *self.error.lock() = Some(HandshakeError::Myself.to_string());
                    return;
                }
                Err(error) => {
                    let text = error.to_string();
                    if !matches!(error, HandshakeError::Io(_)) {
                        links.count_refused();
                    }
                    let mut last = self.error.lock();
                    if last.as_ref() != Some(&text) {
                        tracing::warn!(address = %self.address, error = %text, "no link to a node");
                    }
                    *last = Some(text);
                    drop(last);
                    pause = (pause * 2).min(RETRY.1);
                }
            }
            tokio::select! {
                () = tokio::time::sleep(pause) => {}
                () = self.wake.notified() => {}
            }
        }
    }

    async fn once(self: &Arc<Self>, links: &Arc<Links>) -> Result<(), HandshakeError> {
        let connect = async {
            let mut stream = links.ground.connect(&self.address).await?;
            let (hello, versions) = (links.local.hello(), links.local.versions());
            match &links.tls {
                None => {
                    let opened =
                        handshake::dial(&mut stream, &links.cookie, hello, versions, false).await?;
                    Ok::<_, HandshakeError>((stream.split(), opened))
                }
                Some(tls) => {
                    let mut stream = tls.connect(stream).await?;
                    let opened =
                        handshake::dial(&mut stream, &links.cookie, hello, versions, true).await?;
                    let (reading, writing) = tokio::io::split(stream);
                    Ok((Halves::new(reading, writing), opened))
                }
            }
        };
        let (halves, opened) = timeout(handshake::TIMEOUT, connect)
            .await
            .map_err(|_| std::io::Error::from(std::io::ErrorKind::TimedOut))??;
        let remote = opened.remote;
        let Halves { reading, writing } = halves;
        let lanes = Lanes::new();
        *self.error.lock() = None;
        self.lives.fetch_add(1, Ordering::AcqRel);
        *self.up.lock() = Some(Up {
            remote: remote.clone(),
            speaks: opened.speaks,
            out: lanes.clone(),
        });
        tracing::info!(node = %remote.node, number = remote.number, address = %self.address, "linked");
        links.local.connected(self, &remote);
        let write = lanes.write(opened.sealing, writing, true);
        let mut opening = opened.opening;
        let read = async {
            let mut reading = BufReader::with_capacity(64 << 10, reading);
            let mut pieces = Pieces::default();
            loop {
                let (kind, body) = timeout(SILENCE, opening.take(&mut reading))
                    .await
                    .map_err(|_| std::io::Error::from(std::io::ErrorKind::TimedOut))??;
                match kind {
                    kind::CREDIT => lanes.credit(&body),
                    kind::LOG => {
                        if let Some((kind, body)) = pieces.take(kind, &body)? {
                            self.take_reply(links, &remote, kind, &body);
                        }
                    }
                    kind => self.take_reply(links, &remote, kind, &body),
                }
            }
        };
        let result: Result<(), std::io::Error> = tokio::select! {
            result = write => result,
            result = read => result,
            () = self.wake.notified() => Ok(()),
        };
        *self.up.lock() = None;
        lanes.close();
        self.waiting.lock().clear();
        if let Err(error) = &result {
            tracing::warn!(node = %remote.node, address = %self.address, %error, "the link is down");
            *self.error.lock() = Some(error.to_string());
            if error.kind() == std::io::ErrorKind::InvalidData {
                links.count_refused();
            }
        }
        Ok(())
    }

    fn take_reply(&self, links: &Links, remote: &Hello, kind: u8, body: &Bytes) {
        match kind {
            kind::PONG => {}
            kind::RESPONSE => {
                let Some(id) = body.first_chunk::<8>().map(|id| u64::from_le_bytes(*id)) else {
                    return;
                };
                let answer = self.waiting.lock().remove(&id);
                if let Some(answer) = answer {
                    // Whoever asked may have given up.
                    let _ = answer.send(body.slice(8..));
                }
            }
            kind => links.local.replied(remote, kind, body),
        }
    }
}
