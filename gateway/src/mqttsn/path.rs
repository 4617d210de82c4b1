//! Where a client is, and the datagrams that go there.

use std::hash::{BuildHasher, RandomState};
use std::net::{IpAddr, SocketAddr};
use std::num::NonZeroU64;
use std::ops::Range;

use nightjar_mqttsn::{Encapsulation, Frame, Message};

/// Where datagrams come from and go to.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Path {
    /// The other end: the client, or the forwarder it is behind.
    pub peer: SocketAddr,
    /// Our address that it sent to, from which answers leave; `None` leaves the choice to the system.
    pub local: Option<IpAddr>,
    /// WirelessNodeId, behind a forwarder (MQTT-SN section 5.5).
    pub node: Option<Box<[u8]>>,
    /// The node of the cluster that hears it, from whose address answers leave; `None`: this one.
    pub via: Option<u64>,
}

/// What names a client's address, of which each node of one forwarder is another: a hash that nobody else can foresee.
/// 64 bits of it hold apart as many clients as fit in memory; who is meant is looked at where it matters.
pub(super) type Key = NonZeroU64;

impl Path {
    /// A path without a forwarder.
    #[must_use]
    pub const fn direct(peer: SocketAddr, local: Option<IpAddr>) -> Self {
        Self {
            peer,
            local,
            node: None,
            via: None,
        }
    }

    pub(super) fn key(&self, hasher: &RandomState) -> Key {
        Key::new(hasher.hash_one((self.peer, &self.node))).unwrap_or(Key::MIN)
    }

    /// Is the other end the same, whichever of our addresses it sent to?
    pub(super) fn same_end(&self, other: &Self) -> bool {
        self.peer == other.peer && self.node == other.node
    }

    /// The other end was heard again, perhaps by another of our addresses.
    pub(super) fn heard_by(&mut self, again: &Self) {
        self.local = again.local;
        self.via = again.via;
    }

    fn frame<'a>(&'a self, message: Message<'a>) -> Frame<'a> {
        Frame {
            encapsulation: self
                .node
                .as_deref()
                .map(|node_id| Encapsulation { radius: 0, node_id }),
            message,
        }
    }

    /// Octets of the datagram that would carry this message.
    pub(super) fn datagram_len(&self, message: Message<'_>) -> usize {
        self.frame(message).encoded_len()
    }
}

/// Datagrams to send, in order.
#[derive(Debug, Default)]
pub struct Output {
    bytes: Vec<u8>,
    items: Vec<(Path, Range<usize>)>,
}

impl Output {
    /// Appends a message; the octets of its datagram, 0 if it cannot be encoded.
    pub(super) fn push(&mut self, path: &Path, message: Message<'_>) -> usize {
        let start = self.bytes.len();
        if path.frame(message).encode(&mut self.bytes).is_err() {
            return 0;
        }
        let range = start..self.bytes.len();
        let len = range.len();
        self.items.push((path.clone(), range));
        len
    }

    /// Appends a datagram as it is.
    pub(super) fn push_raw(&mut self, path: &Path, datagram: &[u8]) {
        let start = self.bytes.len();
        self.bytes.extend_from_slice(datagram);
        self.items.push((path.clone(), start..self.bytes.len()));
    }

    /// The datagrams and where they go.
    pub fn iter(&self) -> impl Iterator<Item = (&Path, &[u8])> {
        self.items
            .iter()
            .map(|(path, range)| (path, &self.bytes[range.clone()]))
    }

    /// Nothing to send?
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.items.is_empty()
    }

    /// Number of datagrams.
    #[must_use]
    pub const fn len(&self) -> usize {
        self.items.len()
    }

    /// Forgets what was sent, keeping some of the room.
    pub fn clear(&mut self) {
        self.items.clear();
        self.bytes.clear();
        self.items.shrink_to(1024);
        self.bytes.shrink_to(256 << 10);
    }
}
