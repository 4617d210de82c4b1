//! Datagrams that come to another node than their client's, as behind a balancer that spreads UDP: the node that has the
//! client is found and takes them, and its answers leave by the node that was asked.
//!
//! A node that does not know a sender asks the others, all of them or the one that had the sender last; the datagram goes
//! with the question, so that one way is enough. Who has a client at exactly this address takes it. If nobody does, the
//! node that heard it serves it as if there were no others: a client that came from elsewhere is adopted by its id, a
//! stranger is told to connect. A client that connects is the node's that heard it, so that only the death of that node is
//! of any concern to it.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;
use foldhash::fast::RandomState;
use hashbrown::HashMap;
use nightjar_broker::Timestamp;
use nightjar_mqttsn::{Frame, Message, QoS};
use parking_lot::Mutex;
use tokio::sync::mpsc;

use super::bucket::Bucket;
use super::counters::Counted;
use super::gateway::{Gateway, Turn};
use super::path::{Key, Path};

/// The way to the gateways of other nodes.
pub trait Relay: Send + Sync {
    /// Sends octets to the gateways of one node, or of all others; to how many nodes they went. What gets lost on the way
    /// is as a datagram that got lost.
    fn send(&self, to: Option<u64>, octets: Bytes) -> usize;

    /// Number of this node.
    fn node(&self) -> u64;
}

/// Datagrams that wait for the word of other nodes.
const PENDING: usize = 1024;
/// So long, in milliseconds: a node that is busy is not waited for.
pub(super) const PATIENCE_MS: u64 = 1000;
/// Senders of which it is remembered who has them.
const KNOWN: usize = 65_536;
/// Questions to all nodes in a second; strangers beyond are answered at once.
const QUESTIONS: f64 = 1000.0;
/// Octets of other nodes that wait for this listener.
const WAITING: usize = 4096;

/// A datagram with a question: is this yours?
const ASK: u8 = 1;
/// It is.
const TAKEN: u8 = 2;
/// It is not.
const UNKNOWN: u8 = 3;
/// An answer, to be sent from here.
const SEND: u8 = 4;

struct Pending {
    path: Path,
    datagram: Box<[u8]>,
    shard: usize,
    /// Nodes that have not said anything.
    open: usize,
    /// Only the one that had the sender last was asked.
    one: bool,
    at: Timestamp,
}

/// What a listener keeps for this.
pub(super) struct Relayed {
    relay: Arc<dyn Relay>,
    next: AtomicU64,
    pending: Mutex<HashMap<u64, Pending, RandomState>>,
    known: Mutex<HashMap<Key, u64, RandomState>>,
    questions: Mutex<Bucket>,
    inbox: mpsc::Sender<(u64, Bytes)>,
    /// Taken from by the listener's first task alone.
    waiting: tokio::sync::Mutex<mpsc::Receiver<(u64, Bytes)>>,
}

impl Relayed {
    pub fn new(relay: Arc<dyn Relay>) -> Self {
        let (inbox, waiting) = mpsc::channel(WAITING);
        Self {
            relay,
            next: AtomicU64::new(1),
            pending: Mutex::default(),
            known: Mutex::default(),
            questions: Mutex::new(Bucket::full(QUESTIONS, Timestamp(0))),
            inbox,
            waiting: tokio::sync::Mutex::new(waiting),
        }
    }
}

/// Octets of a question or an answer: what, which, the listener, the two ends, the datagram.
fn encode(kind: u8, id: u64, name: &str, path: &Path, datagram: &[u8]) -> Bytes {
    let mut out = Vec::with_capacity(64 + datagram.len());
    out.push(kind);
    out.extend_from_slice(&id.to_be_bytes());
    let name = &name.as_bytes()[..name.len().min(255)];
    out.push(u8::try_from(name.len()).expect("at most 255"));
    out.extend_from_slice(name);
    address(&mut out, Some(path.peer.ip()));
    out.extend_from_slice(&path.peer.port().to_be_bytes());
    address(&mut out, path.local);
    out.extend_from_slice(datagram);
    Bytes::from(out)
}

fn address(out: &mut Vec<u8>, address: Option<IpAddr>) {
    match address {
        None => out.push(0),
        Some(IpAddr::V4(address)) => {
            out.push(4);
            out.extend_from_slice(&address.octets());
        }
        Some(IpAddr::V6(address)) => {
            out.push(6);
            out.extend_from_slice(&address.octets());
        }
    }
}

struct Parcel<'a> {
    kind: u8,
    id: u64,
    name: &'a [u8],
    peer: SocketAddr,
    local: Option<IpAddr>,
    datagram: &'a [u8],
}

fn decode(octets: &[u8]) -> Option<Parcel<'_>> {
    let (&kind, rest) = octets.split_first()?;
    let (id, rest) = rest.split_first_chunk::<8>()?;
    let (&len, rest) = rest.split_first()?;
    let (name, rest) = rest.split_at_checked(usize::from(len))?;
    let (peer, rest) = ip(rest)?;
    let (port, rest) = rest.split_first_chunk::<2>()?;
    let (local, datagram) = ip(rest)?;
    Some(Parcel {
        kind,
        id: u64::from_be_bytes(*id),
        name,
        peer: SocketAddr::new(peer?, u16::from_be_bytes(*port)),
        local,
        datagram,
    })
}

fn ip(octets: &[u8]) -> Option<(Option<IpAddr>, &[u8])> {
    let (&family, rest) = octets.split_first()?;
    Some(match family {
        0 => (None, rest),
        4 => {
            let (address, rest) = rest.split_first_chunk::<4>()?;
            (Some(IpAddr::from(*address)), rest)
        }
        6 => {
            let (address, rest) = rest.split_first_chunk::<16>()?;
            (Some(IpAddr::from(*address)), rest)
        }
        _ => return None,
    })
}

/// The client that a datagram names, if it names one.
fn named<'a>(message: &Message<'a>) -> Option<&'a str> {
    match message {
        Message::Connect(connect) if !connect.client_id.is_empty() => Some(connect.client_id),
        Message::PingReq { client_id } => *client_id,
        _ => None,
    }
}

impl Gateway {
    /// Takes part in a cluster. Once; later calls change nothing.
    pub fn join(&self, relay: Arc<dyn Relay>) {
        let _ = self.relay.set(Relayed::new(relay));
    }

    fn relay(&self) -> Option<&Relayed> {
        self.relay.get()
    }

    /// The client at this address, or this one if it is there, and whether it does something here at this moment.
    fn client_at(&self, client_id: Option<&str>, end: &Path) -> Option<(Arc<str>, bool)> {
        let home = match client_id {
            Some(id) => self.by_client.get(id).map(|home| *home),
            None => self
                .by_address
                .get(&end.key(&self.addresses))
                .map(|home| *home),
        }?;
        let shard = self.shards[home.shard as usize].lock();
        let client = shard.slots.get(home.slot as usize)?.client.as_deref()?;
        let same = client.link.path.same_end(end) && client_id.is_none_or(|id| *id == *client.id);
        same.then(|| (client.id.clone(), client.is_busy()))
    }

    /// The other node that has, or had last, this client's connection.
    fn other_node_of(&self, relayed: &Relayed, client_id: &str) -> Option<u64> {
        let node = self.broker().store().node_of(client_id)?;
        (node != relayed.relay.node()).then_some(node)
    }

    /// Is this client at this address, or any if none is named? Not one that slept here and went to another node since.
    fn has_at(&self, relayed: &Relayed, client_id: Option<&str>, end: &Path) -> bool {
        self.client_at(client_id, end)
            .is_some_and(|(id, busy)| busy || self.other_node_of(relayed, &id).is_none())
    }

    /// Another node heard a CONNECT of a client that is at this address here. It is let go to that node, unless it is a copy
    /// of the CONNECT that it came here with.
    fn keeps(&self, now: Timestamp, client_id: &str, end: &Path, raw: &[u8]) -> bool {
        let Some(home) = self.by_client.get(client_id).map(|home| *home) else {
            return false;
        };
        let mut shard = self.shards[home.shard as usize].lock();
        let client = shard.slots.get_mut(home.slot as usize);
        let Some(client) = client.and_then(|slot| slot.client.as_deref_mut()) else {
            return false;
        };
        let here = *client_id == *client.id && client.link.path.same_end(end) && client.is_busy();
        if !here {
            return false;
        }
        let copy = client.is_copy(end, now, self.hash(raw));
        client.moving = !copy;
        copy
    }

    /// Takes what the gateway of another node sent. Not for this listener: nothing happens.
    pub fn relayed(&self, node: u64, octets: Bytes) {
        let Some(relayed) = self.relay() else { return };
        let ours =
            decode(&octets).is_some_and(|parcel| parcel.name == self.settings().name.as_bytes());
        if ours && relayed.inbox.try_send((node, octets)).is_err() {
            self.counters().count(Counted::RelayDropped);
        }
    }

    /// The next thing that another node sent; never comes where there are no others.
    pub(super) async fn next_relayed(&self) -> (u64, Bytes) {
        if let Some(relayed) = self.relay()
            && let Some(next) = relayed.waiting.lock().await.recv().await
        {
            return next;
        }
        std::future::pending().await
    }

    /// May a datagram be another node's? Then it is asked for, and this one does nothing with it yet.
    pub(super) fn asks_elsewhere(
        &self,
        now: Timestamp,
        shard: usize,
        from: &Path,
        message: &Message<'_>,
        datagram: &[u8],
    ) -> bool {
        let Some(relayed) = self.relay() else {
            return false;
        };
        if from.via.is_some() || self.has_at(relayed, None, from) {
            return false;
        }
        let of_gateways = matches!(
            message,
            Message::SearchGw { .. }
                | Message::Advertise(_)
                | Message::GwInfo(_)
                | Message::ConnAck { .. }
                | Message::WillTopicReq
                | Message::WillMsgReq
                | Message::SubAck(_)
                | Message::UnsubAck { .. }
                | Message::WillTopicResp { .. }
                | Message::WillMsgResp { .. }
        );
        if of_gateways {
            return false;
        }
        let to = match (named(message), message) {
            // A message without a connection is anybody's, and a client without a name is nobody's.
            (None, Message::Publish(publish)) if publish.qos == QoS::MinusOne => return false,
            (None, Message::Connect(_)) => return false,
            (None, _) => {
                let key = from.key(&self.addresses);
                let known = relayed.known.lock().get(&key).copied();
                known.or_else(|| {
                    let (id, _) = self.client_at(None, from)?;
                    self.other_node_of(relayed, &id)
                })
            }
            (Some(id), _) => {
                let busy = || self.client_at(Some(id), from).is_some_and(|(_, busy)| busy);
                match self.other_node_of(relayed, id) {
                    Some(node) if !busy() => Some(node),
                    _ => return false,
                }
            }
        };
        self.ask(relayed, now, shard, from, to, datagram)
    }

    fn ask(
        &self,
        relayed: &Relayed,
        now: Timestamp,
        shard: usize,
        from: &Path,
        to: Option<u64>,
        datagram: &[u8],
    ) -> bool {
        if to.is_none() && !relayed.questions.lock().take(QUESTIONS, now) {
            return false;
        }
        let id = relayed.next.fetch_add(1, Ordering::Relaxed);
        {
            let mut pending = relayed.pending.lock();
            if pending.len() >= PENDING {
                return false;
            }
            let waits = Pending {
                path: from.clone(),
                datagram: datagram.into(),
                shard,
                open: usize::MAX,
                one: to.is_some(),
                at: now,
            };
            // Before it is sent: the answer may be faster than this thread.
            pending.insert(id, waits);
        }
        let octets = encode(ASK, id, &self.settings().name, from, datagram);
        let asked = relayed.relay.send(to, octets);
        let mut pending = relayed.pending.lock();
        match pending.get_mut(&id) {
            Some(_) if asked == 0 => {
                pending.remove(&id);
                false
            }
            Some(waits) => {
                // What was answered meanwhile is counted from the top.
                let answered = usize::MAX - waits.open;
                waits.open = asked.saturating_sub(answered);
                let over = waits.open == 0;
                if over {
                    pending.remove(&id);
                }
                if !over {
                    self.counters().count(Counted::Relayed);
                    if shard != 0 {
                        // It looks whether this was in vain.
                        self.strays().1.wake_by_ref();
                    }
                }
                !over
            }
            // Taken already.
            None => {
                self.counters().count(Counted::Relayed);
                true
            }
        }
    }

    /// Something of another node, from the listener's own task.
    pub(super) fn take_relayed(&self, now: Timestamp, turn: &mut Turn, node: u64, octets: &[u8]) {
        let (Some(relayed), Some(parcel)) = (self.relay(), decode(octets)) else {
            return;
        };
        match parcel.kind {
            ASK => self.asked(relayed, now, turn, node, &parcel),
            TAKEN => {
                let Some(waits) = relayed.pending.lock().remove(&parcel.id) else {
                    return;
                };
                let mut known = relayed.known.lock();
                if known.len() >= KNOWN {
                    known.clear();
                }
                known.insert(waits.path.key(&self.addresses), node);
            }
            UNKNOWN => {
                let over = {
                    let mut pending = relayed.pending.lock();
                    let Some(waits) = pending.get_mut(&parcel.id) else {
                        return;
                    };
                    waits.open = waits.open.saturating_sub(1);
                    if waits.open > 0 {
                        return;
                    }
                    pending.remove(&parcel.id)
                };
                if let Some(waits) = over {
                    self.nobodys(relayed, now, turn, waits);
                }
            }
            SEND => {
                let path = Path::direct(parcel.peer, parcel.local);
                turn.out.push_raw(&path, parcel.datagram);
            }
            _ => {}
        }
    }

    /// Another node asks whether a datagram is for a client of this one.
    fn asked(
        &self,
        relayed: &Relayed,
        now: Timestamp,
        turn: &mut Turn,
        node: u64,
        parcel: &Parcel<'_>,
    ) {
        let mut path = Path::direct(parcel.peer, parcel.local);
        path.via = Some(node);
        let mine = Frame::decode(parcel.datagram).is_ok_and(|frame| {
            let mut end = path.clone();
            end.node = frame
                .encapsulation
                .map(|encapsulation| encapsulation.node_id.into());
            match frame.message {
                Message::Connect(it) => self.keeps(now, it.client_id, &end, parcel.datagram),
                message => self.has_at(relayed, named(&message), &end),
            }
        });
        let kind = if mine { TAKEN } else { UNKNOWN };
        let name = &self.settings().name;
        relayed
            .relay
            .send(Some(node), encode(kind, parcel.id, name, &path, &[]));
        if mine {
            self.counters().count(Counted::RelayedHere);
            self.receive(now, 0, turn, path, None, parcel.datagram);
        }
    }

    /// No other node has the sender of this datagram.
    fn nobodys(&self, relayed: &Relayed, now: Timestamp, turn: &mut Turn, waits: Pending) {
        let Pending {
            path,
            datagram,
            shard,
            one,
            ..
        } = waits;
        let forgotten = one
            && relayed
                .known
                .lock()
                .remove(&path.key(&self.addresses))
                .is_some();
        // It may have gone from the node that had it to a third one.
        if forgotten && self.ask(relayed, now, shard, &path, None, &datagram) {
            return;
        }
        let mut from = path;
        from.node = None;
        self.receive_here(now, shard, turn, from, &datagram);
    }

    /// As [`Self::receive`], of a datagram that was counted and that is no other node's.
    fn receive_here(
        &self,
        now: Timestamp,
        shard: usize,
        turn: &mut Turn,
        mut from: Path,
        datagram: &[u8],
    ) {
        if let Ok(frame) = Frame::decode(datagram) {
            from.node = frame
                .encapsulation
                .map(|encapsulation| encapsulation.node_id.into());
            self.serve(now, shard, turn, from, None, (frame.message, datagram));
        }
    }

    /// Serves what nobody spoke for in time.
    pub(super) fn expire_relayed(&self, now: Timestamp, turn: &mut Turn) {
        let Some(relayed) = self.relay() else { return };
        let late: Vec<Pending> = {
            let mut pending = relayed.pending.lock();
            let late = pending.extract_if(|_, waits| waits.at.plus_millis(PATIENCE_MS) <= now);
            late.map(|(_, waits)| waits).collect()
        };
        for waits in late {
            let waits = Pending {
                one: false,
                ..waits
            };
            self.nobodys(relayed, now, turn, waits);
        }
    }

    /// Is something asked of other nodes that has no answer yet?
    pub(super) fn awaits_others(&self) -> bool {
        self.relay()
            .is_some_and(|relayed| !relayed.pending.lock().is_empty())
    }

    /// Gives an answer to the node that heard the question.
    pub(super) fn send_via(&self, node: u64, path: &Path, datagram: &[u8]) -> bool {
        let Some(relayed) = self.relay() else {
            return false;
        };
        let octets = encode(SEND, 0, &self.settings().name, path, datagram);
        relayed.relay.send(Some(node), octets) > 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parcels_read_back_and_damage_is_refused() {
        let mut path = Path::direct(
            "[2001:db8::1]:77".parse().unwrap(),
            Some([10, 0, 0, 1].into()),
        );
        path.via = Some(3);
        let octets = encode(SEND, 9, "mqttsn:default", &path, b"datagram");
        let parcel = decode(&octets).unwrap();
        assert_eq!((parcel.kind, parcel.id), (SEND, 9));
        assert_eq!(
            (parcel.name, parcel.datagram),
            (&b"mqttsn:default"[..], &b"datagram"[..])
        );
        assert_eq!((parcel.peer, parcel.local), (path.peer, path.local));
        for end in 0..octets.len() - b"datagram".len() {
            assert!(decode(&octets[..end]).is_none(), "cut at {end}");
        }
    }
}
