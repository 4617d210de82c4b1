//! Messages for subscribers of other nodes. Those of QoS 1 and 2 are kept until the other node has queued them, and
//! sent again on a new link; the receiver passes over repeats.
//!
//! Each is for one incarnation of its node. Another one does not take it, for the subscribers it was meant for are
//! elsewhere or not back yet: what was for a shared subscription goes to another member when the sender hears of that.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;
use nightjar_broker::shard::{CodecError, Decoder, Encoder};
use nightjar_broker::{Broker, Completion, Forward, Ticket};
use nightjar_mqtt::{QoS, ReasonCode};
use parking_lot::Mutex;
use tokio::sync::mpsc;

use crate::links::{Answers, Links, kind};

struct Sent {
    sequence: u64,
    frame: Bytes,
    /// What another member of a shared subscription gets if the node dies.
    groups: Vec<Forward>,
    done: Arc<Completion>,
}

/// What goes to one node.
#[derive(Default)]
struct Queue {
    stream: u64,
    last: u64,
    unacked: VecDeque<Sent>,
}

/// What goes to all nodes.
#[derive(Default)]
struct To {
    queues: HashMap<u64, Queue>,
    /// Incarnations of nodes up to which all is given up.
    ended: HashMap<u64, u64>,
}

/// What comes from one node.
struct Source {
    /// Instance of the node's process and stream of it.
    stream: (u64, u64),
    last: u64,
    acks: mpsc::UnboundedSender<Taken>,
}

/// Messages to and from other nodes.
#[derive(Default)]
pub(crate) struct Forwards {
    to: Mutex<To>,
    from: Mutex<HashMap<u64, Source>>,
    streams: AtomicU64,
    /// Messages of QoS 0 that had no link, or one that was full.
    pub dropped: AtomicU64,
}

/// What stands before the messages: instance and stream of the sender, sequence, incarnation of the receiver.
const HEAD: usize = 32;
/// What a message without properties takes beside its topic, publisher and payload, or a little less.
const ROOM: usize = 24;

fn encode(head: [u64; 4], forwards: &[Forward]) -> Bytes {
    let room = |forward: &Forward| {
        let publisher = forward.message.head().publisher.as_ref();
        ROOM + forward.message.topic().len()
            + publisher.map_or(0, |it| it.len())
            + forward.message.payload().len()
    };
    let mut out = Vec::with_capacity(HEAD + forwards.iter().map(room).sum::<usize>());
    for number in head {
        out.extend_from_slice(&number.to_le_bytes());
    }
    let mut enc = Encoder(&mut out);
    for forward in forwards {
        enc.u8(u8::from(forward.group.is_some()) | forward.hops << 1);
        if let Some((name, filter)) = &forward.group {
            enc.text(name);
            enc.text(filter);
        }
        enc.message(&forward.message);
    }
    Bytes::from(out)
}

fn decode(body: &[u8]) -> Result<([u64; 4], Vec<Forward>), CodecError> {
    let (head, rest) = body
        .split_at_checked(HEAD)
        .ok_or(CodecError::Truncated("messages"))?;
    let mut numbers = [0; 4];
    for (number, bytes) in numbers.iter_mut().zip(head.chunks_exact(8)) {
        *number = bytes
            .iter()
            .rev()
            .fold(0, |n, byte| n << 8 | u64::from(*byte));
    }
    let mut from = Decoder(rest);
    let mut forwards: Vec<Forward> = Vec::new();
    while !from.is_empty() {
        let bits = from.u8("message")?;
        let group = if bits & 1 != 0 {
            Some((from.text("share name")?.into(), from.filter()?))
        } else {
            None
        };
        forwards.push(Forward {
            message: from.message_like(forwards.last().map(|it| &it.message))?,
            group,
            hops: bits >> 1,
        });
    }
    Ok((numbers, forwards))
}

impl Forwards {
    /// Sends messages to an incarnation of a node. Back if that has ended.
    pub fn send(
        &self,
        links: &Links,
        instance: u64,
        (node, incarnation): (u64, u64),
        forwards: Vec<Forward>,
    ) -> Result<Ticket, Vec<Forward>> {
        let acknowledged = forwards
            .iter()
            .any(|forward| forward.message.qos() != QoS::AtMostOnce);
        if !acknowledged {
            let link = links.to(node).filter(|link| !link.is_crowded());
            let frame = encode([instance, 0, 0, incarnation], &forwards);
            let sent = link.is_some_and(|link| link.send(kind::FORWARD_QOS0, frame));
            if !sent {
                self.dropped
                    .fetch_add(forwards.len() as u64, Ordering::Relaxed);
            }
            return Ok(Ticket::DONE);
        }
        let done = Completion::new(1);
        let mut to = self.to.lock();
        if to
            .ended
            .get(&node)
            .is_some_and(|ended| incarnation <= *ended)
        {
            return Err(forwards);
        }
        let queue = to.queues.entry(node).or_default();
        if queue.stream == 0 {
            queue.stream = self.streams.fetch_add(1, Ordering::Relaxed) + 1;
        }
        queue.last += 1;
        let frame = encode([instance, queue.stream, queue.last, incarnation], &forwards);
        queue.unacked.push_back(Sent {
            sequence: queue.last,
            frame: frame.clone(),
            groups: forwards
                .into_iter()
                .filter(|forward| forward.group.is_some())
                .collect(),
            done: done.clone(),
        });
        if let Some(link) = links.to(node) {
            link.send(kind::FORWARD, frame);
        }
        Ok(Ticket::on(done))
    }

    /// A link to a node came up: what it has not acknowledged goes again.
    pub fn connected(&self, link: &crate::links::Link, node: u64) {
        let to = self.to.lock();
        for sent in to
            .queues
            .get(&node)
            .into_iter()
            .flat_map(|queue| &queue.unacked)
        {
            link.send(kind::FORWARD, sent.frame.clone());
        }
    }

    /// A node acknowledged.
    pub fn acked(&self, node: u64, body: &[u8]) {
        let Some((stream, sequence)) = pair(body) else {
            return;
        };
        let mut done = Vec::new();
        if let Some(queue) = self.to.lock().queues.get_mut(&node)
            && queue.stream == stream
        {
            while queue
                .unacked
                .front()
                .is_some_and(|sent| sent.sequence <= sequence)
            {
                done.extend(queue.unacked.pop_front().map(|sent| sent.done));
            }
        }
        for done in done {
            done.complete(Ok(()));
        }
    }

    /// An incarnation of a node is gone, and its subscribers with it. What was for a shared subscription is to go
    /// elsewhere.
    pub fn forget(&self, node: u64, incarnation: u64) -> (Vec<Forward>, Vec<Arc<Completion>>) {
        let queue = {
            let mut to = self.to.lock();
            let ended = to.ended.entry(node).or_default();
            *ended = incarnation.max(*ended);
            to.queues.remove(&node).unwrap_or_default()
        };
        let mut groups = Vec::new();
        let mut done = Vec::new();
        for sent in queue.unacked {
            groups.extend(sent.groups);
            done.push(sent.done);
        }
        (groups, done)
    }

    /// This node is out of the cluster for now: whoever waits is told.
    pub fn fence(&self) {
        let queues = std::mem::take(&mut self.to.lock().queues);
        for sent in queues.into_values().flat_map(|queue| queue.unacked) {
            sent.done.complete(Err(ReasonCode::ServerUnavailable));
        }
    }

    /// Frames that wait for an acknowledgement.
    pub fn unacked(&self) -> usize {
        self.to
            .lock()
            .queues
            .values()
            .map(|queue| queue.unacked.len())
            .sum()
    }

    /// Messages came to this node's `incarnation`. False if they cannot be read.
    pub fn received(
        &self,
        broker: &Arc<Broker>,
        (node, incarnation): (u64, u64),
        kind: u8,
        body: &[u8],
        answers: &Answers,
    ) -> bool {
        let Ok(([instance, stream, sequence, meant], forwards)) = decode(body) else {
            return false;
        };
        if kind == kind::FORWARD_QOS0 {
            broker.take_forwarded(&forwards);
            return true;
        }
        if meant != incarnation {
            // Not acknowledged: the sender gives it to others when it knows that this node is another one, or none.
            return true;
        }
        let mut from = self.from.lock();
        let source = from.entry(node).or_insert_with(|| Source {
            stream: (0, 0),
            last: 0,
            acks: acker(),
        });
        if source.stream != (instance, stream) && sequence == 1 {
            source.stream = (instance, stream);
            source.last = 0;
        }
        if source.stream != (instance, stream) || sequence > source.last + 1 {
            return true; // Those before it come again first.
        }
        let ticket = if sequence == source.last + 1 {
            source.last = sequence;
            broker.take_forwarded(&forwards)
        } else {
            Ticket::DONE // A repeat: acknowledged behind those that are still under way.
        };
        // The task ends only with the process.
        let _ = source.acks.send(Taken {
            stream: (instance, stream),
            sequence,
            ticket,
            answers: answers.clone(),
        });
        true
    }

    /// Counts what a drop of the link cost.
    pub fn dropped(&self) -> u64 {
        self.dropped.load(Ordering::Relaxed)
    }
}

/// Messages that were taken from another node.
struct Taken {
    stream: (u64, u64),
    sequence: u64,
    /// Done when they are queued.
    ticket: Ticket,
    answers: Answers,
}

/// Acknowledges in order, each when it is queued. An acknowledgement counts for all before it: behind one that could not
/// be queued (this node was put out of the cluster) none is given any more. The sender takes them back when it hears of
/// that, and begins another stream.
fn acker() -> mpsc::UnboundedSender<Taken> {
    let (sender, mut acks) = mpsc::unbounded_channel::<Taken>();
    tokio::spawn(async move {
        let mut broken = None;
        while let Some(taken) = acks.recv().await {
            if broken == Some(taken.stream) {
                continue;
            }
            if taken.ticket.wait().await.is_err() {
                broken = Some(taken.stream);
                continue;
            }
            let mut body = taken.stream.1.to_le_bytes().to_vec();
            body.extend_from_slice(&taken.sequence.to_le_bytes());
            taken.answers.send(kind::FORWARD_ACK, body);
        }
    });
    sender
}

fn pair(body: &[u8]) -> Option<(u64, u64)> {
    let (first, rest) = body.split_first_chunk::<8>()?;
    let second = rest.first_chunk::<8>()?;
    Some((u64::from_le_bytes(*first), u64::from_le_bytes(*second)))
}
