//! Links between nodes: TCP, authenticated with the cluster's cookie, each frame with a code that only holders of the
//! cookie can make; or mutual TLS, with or without a cookie on top.
//!
//! Each node dials every other one. What a node asks and sends goes over the link it dialed; answers and
//! acknowledgements come back on it. Leases do not wait behind routes or messages: see [`lanes`].

mod apart;
mod frame;
mod handshake;
mod lanes;
mod link;
mod listen;
mod tls;

use std::collections::HashMap;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;
use parking_lot::Mutex;
use serde::{Deserialize, Serialize};
use tokio::sync::watch;

pub(crate) use frame::same;
pub(crate) use handshake::Cookie;
pub(crate) use lanes::Lane;
pub(crate) use link::{Link, LinkError};
pub(crate) use listen::{Answers, listen};
pub(crate) use tls::Tls;
pub use tls::TlsFiles;

use crate::ground::Ground;

/// Versions of the protocol between nodes, and of the entries in their log, that this program speaks, oldest and newest.
/// The feature `next-protocol` is for tests of rolling upgrades.
pub(crate) const VERSIONS: (u16, u16) = (
    1,
    if cfg!(feature = "next-protocol") {
        2
    } else {
        1
    },
);

/// Kinds of frames.
pub(crate) mod kind {
    /// A request with its id; answered with [`RESPONSE`].
    pub const REQUEST: u8 = 1;
    /// A proposal for the leader.
    pub const PROPOSE: u8 = 2;
    /// What a node wants.
    pub const ROUTES: u8 = 3;
    /// Messages, with a sequence: acknowledged, sent again after a break.
    pub const FORWARD: u8 = 4;
    /// Messages of QoS 0.
    pub const FORWARD_QOS0: u8 = 5;
    /// How far a node has applied the log.
    pub const APPLIED: u8 = 6;
    /// What the gateways of nodes tell each other; may be lost.
    pub const GATEWAY: u8 = 8;
    /// Nothing, to be heard.
    pub const PING: u8 = 7;
    /// A frame of the log's lane, or a piece of one: its kind, whether it ends here, content.
    pub const LOG: u8 = 9;
    /// A frame of the bulk, or a piece of one.
    pub const BULK: u8 = 10;
    /// Answer to a request.
    pub const RESPONSE: u8 = 65;
    /// Up to which version routes are known.
    pub const ROUTES_ACK: u8 = 66;
    /// Up to which sequence messages are queued.
    pub const FORWARD_ACK: u8 = 67;
    /// Answer to [`PING`].
    pub const PONG: u8 = 68;
    /// How many bytes of the bulk are applied.
    pub const CREDIT: u8 = 69;
}

/// Who a node says it is when a link begins.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Hello {
    /// `cluster.name`.
    pub cluster: String,
    /// `node.name`.
    pub node: String,
    /// Differs for each start of a process.
    pub instance: u64,
    /// Number in the cluster; 0: in none yet.
    pub number: u64,
    /// Id of the cluster; empty: in none yet.
    pub cluster_id: String,
    /// Where its links are.
    pub address: String,
    /// `cluster.expect`; 0: unset.
    pub expect: u16,
    /// Sessions or retained messages of its own stand in its directory.
    pub has_data: bool,
    /// Session groups and retained groups.
    pub groups: (u16, u16),
    /// Its clock, ms since 1970.
    pub time: u64,
    /// Random: no handshake is like another.
    pub nonce: [u8; 32],
}

pub(crate) type Answer = Pin<Box<dyn Future<Output = Vec<u8>> + Send>>;

/// What links ask of their node.
pub(crate) trait Local: Send + Sync + 'static {
    /// Who this node is now; the nonce is filled in by the handshake.
    fn hello(&self) -> Hello;

    /// The oldest and the newest version that this node speaks now: nothing older than what its cluster uses.
    fn versions(&self) -> (u16, u16) {
        VERSIONS
    }

    /// A link that this node dialed is up.
    fn connected(&self, link: &Arc<Link>, remote: &Hello);

    /// Another node dialed.
    fn accepted(&self, remote: &Hello);

    /// Something came back on a link that this node dialed.
    fn replied(&self, remote: &Hello, kind: u8, body: &[u8]);

    /// A request of another node.
    fn request(self: Arc<Self>, from: Hello, body: Bytes) -> Answer;

    /// Something that another node sent, in the order of its lane; what is bulk comes from a task of its own. False if
    /// it cannot be read: the link ends.
    fn received(&self, from: &Hello, kind: u8, body: Bytes, answers: &Answers) -> bool;
}

/// The links of a node.
pub(crate) struct Links {
    local: Arc<dyn Local>,
    ground: Arc<dyn Ground>,
    cookie: Cookie,
    tls: Option<Tls>,
    by_address: Mutex<HashMap<String, Arc<Link>>>,
    /// Raised when this node is somebody else: links that others dialed end.
    identity: watch::Sender<u64>,
    /// Handshakes that failed, and frames that were not what they should be.
    pub refused: AtomicU64,
}

impl Links {
    pub fn new(
        local: Arc<dyn Local>,
        ground: Arc<dyn Ground>,
        cookie: Cookie,
        tls: Option<Tls>,
    ) -> Arc<Self> {
        Arc::new(Self {
            local,
            ground,
            cookie,
            tls,
            by_address: Mutex::default(),
            identity: watch::Sender::new(0),
            refused: AtomicU64::new(0),
        })
    }

    /// Keeps a link to this address from now on.
    pub fn dial(self: &Arc<Self>, address: &str) {
        let mut links = self.by_address.lock();
        if links.contains_key(address) {
            return;
        }
        let link = Link::new(address);
        links.insert(address.to_owned(), link.clone());
        drop(links);
        tokio::spawn(link.run(self.clone()));
    }

    /// Keeps no link to addresses for which `keep` says no.
    pub fn retain(&self, keep: impl Fn(&str) -> bool) {
        self.by_address.lock().retain(|address, link| {
            let kept = keep(address);
            if !kept {
                link.stop();
            }
            kept
        });
    }

    /// All links.
    pub fn all(&self) -> Vec<Arc<Link>> {
        self.by_address.lock().values().cloned().collect()
    }

    /// The link that is up to a node.
    pub fn to(&self, number: u64) -> Option<Arc<Link>> {
        let links = self.by_address.lock();
        links.values().find(|link| link.is_to(number)).cloned()
    }

    /// Begins all links anew: this node is somebody else now.
    pub fn renew(&self) {
        self.identity.send_modify(|version| *version += 1);
        for link in self.all() {
            link.renew();
        }
    }

    /// Ends all links.
    pub fn stop(&self) {
        self.identity.send_modify(|version| *version += 1);
        self.retain(|_| false);
    }

    fn count_refused(&self) {
        self.refused.fetch_add(1, Ordering::Relaxed);
    }
}
