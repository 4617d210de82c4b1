//! A store that is one node of a cluster: what connections submit becomes proposals of this node, and what the
//! cluster committed, whoever proposed it, is applied here.
//!
//! The state of every group is on every node, in the order of one log. So a session's queue is pumped by the node its
//! client is connected to, from its own copy; retained messages are read where they are asked for; and a proposal's
//! answers are made by the node that proposed it, when it applies it.

mod apply;
mod flight;
mod install;
#[cfg(test)]
pub(crate) mod kit;
mod late;
mod nodes;
mod open;
pub(crate) mod parts;

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::time::Duration;

use nightjar_broker::{Completion, Ticket};
use nightjar_mqtt::ReasonCode;
use parking_lot::{Mutex, RwLock};
use tokio::sync::{Notify, mpsc};
use tokio::time::Instant;

pub(crate) use flight::Flight;
#[cfg(test)]
pub(crate) use nodes::NodeState;
pub(crate) use nodes::{Change, NodeEntry, Nodes};
pub(crate) use open::{
    Identity as MemberIdentity, Opened, raft_dir, read_mark, write_mark, write_version,
};

use crate::inner::Core;
use crate::node::Digests;
use crate::pending::{Submission, Work};

/// What the node's tasks are told of.
#[derive(Debug)]
pub(crate) enum Event {
    /// The nodes changed.
    Nodes(Change),
    /// A subscription of another node's client is applied here.
    Subscribed { origin: u64, index: u64 },
    /// This node may not serve: its incarnation ended, or it was too far behind.
    Fenced,
}

/// A SUBACK that waits until every node has applied its subscription.
struct Held {
    index: u64,
    done: Arc<Completion>,
}

/// What a store has more when its node is one of a cluster.
pub(crate) struct Member {
    /// Number of this node; 0 until it has one.
    pub number: AtomicU64,
    /// It leads consensus.
    pub leading: AtomicBool,
    /// Clients may connect: it is up and knows what the others want.
    pub serving: AtomicBool,
    /// How often it stopped serving.
    pub interruptions: AtomicU32,
    /// How long the lease of this node goes, in ms after [`Self::born`]; 0: it has none.
    until: AtomicU64,
    born: Instant,
    pub nodes: RwLock<Nodes>,
    /// The incarnation that this process asked for, by its nonce: what the log says of earlier ones is history.
    pub nonce: AtomicU64,
    pub flight: Mutex<Flight>,
    /// Proposals wait to be sent.
    pub ready: Notify,
    /// Index of the last entry applied.
    pub applied: AtomicU64,
    /// What other nodes said they applied.
    others: Mutex<BTreeMap<u64, u64>>,
    held: Mutex<Vec<Held>>,
    /// Duties that this node, leading, has begun.
    doing: Mutex<HashSet<(u16, u64)>>,
    /// Entries of the kind for tests that were applied.
    #[cfg(feature = "next-protocol")]
    pub marks: AtomicU64,
    /// Digests at the last entry that asked for them.
    pub digests: Arc<Mutex<Option<Digests>>>,
    /// The last entry that asked for them: its nonce and index. They are made behind it.
    pub asked: Mutex<Option<(u64, u64)>>,
    /// Bytes of the last snapshot.
    pub snapshot_bytes: AtomicU64,
    /// The last one found no room: there is none of what it was to be of.
    pub snapshot_failed: AtomicBool,
    events: mpsc::UnboundedSender<Event>,
}

impl Member {
    pub fn new(nodes: Nodes, number: u64, events: mpsc::UnboundedSender<Event>) -> Self {
        Self {
            number: AtomicU64::new(number),
            leading: AtomicBool::new(false),
            serving: AtomicBool::new(false),
            interruptions: AtomicU32::new(0),
            until: AtomicU64::new(0),
            born: Instant::now(),
            nodes: RwLock::new(nodes),
            nonce: AtomicU64::new(0),
            flight: Mutex::default(),
            ready: Notify::new(),
            applied: AtomicU64::new(0),
            others: Mutex::default(),
            held: Mutex::default(),
            doing: Mutex::default(),
            #[cfg(feature = "next-protocol")]
            marks: AtomicU64::new(0),
            digests: Arc::default(),
            asked: Mutex::default(),
            snapshot_bytes: AtomicU64::new(0),
            snapshot_failed: AtomicBool::new(false),
            events,
        }
    }

    pub fn number(&self) -> u64 {
        self.number.load(Ordering::Acquire)
    }

    pub fn leads(&self) -> bool {
        self.leading.load(Ordering::Acquire)
    }

    /// Does this node serve, and does its lease hold at this moment? A process that was stopped asks this before anything
    /// has told it that its lease is over.
    pub fn serves(&self) -> bool {
        let until = Duration::from_millis(self.until.load(Ordering::Acquire));
        self.serving.load(Ordering::Acquire) && self.born.elapsed() < until
    }

    /// The lease of this node goes so long; `None`: there is none.
    pub fn set_lease(&self, until: Option<Instant>) {
        let until = until.map_or(0, |until| {
            let after = until.saturating_duration_since(self.born).as_millis();
            u64::try_from(after).unwrap_or(u64::MAX)
        });
        self.until.store(until, Ordering::Release);
    }

    pub fn tell(&self, event: Event) {
        // At the end of the process nobody listens.
        let _ = self.events.send(event);
    }

    /// A SUBACK waits until all nodes that are up have applied `index`.
    fn hold(&self, index: u64, done: Arc<Completion>) {
        self.held.lock().push(Held { index, done });
        self.release_held();
    }

    /// Another node has applied up to `index`.
    pub fn note_other(&self, node: u64, index: u64) {
        {
            let mut others = self.others.lock();
            let have = others.entry(node).or_default();
            *have = (*have).max(index);
        }
        self.release_held();
    }

    pub fn release_held(&self) {
        let here = self.number();
        let reached = {
            let nodes = self.nodes.read();
            let others = self.others.lock();
            nodes
                .up()
                .filter(|node| *node != here)
                .map(|node| others.get(&node).copied().unwrap_or(0))
                .min()
                .unwrap_or(u64::MAX)
        };
        let mut done = Vec::new();
        self.held.lock().retain(|held| {
            let wait = held.index > reached;
            if !wait {
                done.push(held.done.clone());
            }
            wait
        });
        for done in done {
            done.complete(Ok(()));
        }
    }

    /// SUBACKs that wait.
    pub fn held(&self) -> usize {
        self.held.lock().len()
    }

    /// A node's earlier word of what it applied means nothing for its next life.
    fn forget_other(&self, node: u64) {
        self.others.lock().remove(&node);
    }

    /// Begins a duty unless it was begun before; true if it is to be done.
    fn begin_duty(&self, group: u16, duty: u64) -> bool {
        self.doing.lock().insert((group, duty))
    }

    fn end_duties(&self, group: u16, duties: &[u64]) {
        let mut doing = self.doing.lock();
        for duty in duties {
            doing.remove(&(group, *duty));
        }
    }
}

impl Core {
    /// Number of this node in its cluster; 0 if it is none of one.
    pub fn number(&self) -> u64 {
        self.member.as_ref().map_or(0, Member::number)
    }

    /// Is what entries ask of a node (publish a will, let time pass) this node's business?
    pub fn leads(&self) -> bool {
        self.member.as_ref().is_none_or(Member::leads)
    }

    /// This node may take no more: everything that waits fails, and nothing new is taken until [`Self::admit`].
    pub fn fence(&self) {
        let Some(member) = &self.member else { return };
        member.interruptions.fetch_add(1, Ordering::AcqRel);
        member.serving.store(false, Ordering::Release);
        let round = {
            let mut pending = self.pending.lock();
            pending.fenced = true;
            pending.take()
        };
        let in_flight = member.flight.lock().clear();
        let waiting = round
            .into_iter()
            .map(|(group, pending)| (group, pending.submissions))
            .chain(in_flight);
        for (group, submissions) in waiting {
            for submission in submissions {
                self.refused(group, &submission);
                submission.refuse(ReasonCode::ServerUnavailable);
            }
        }
        let held = std::mem::take(&mut *member.held.lock());
        for held in held {
            held.done.complete(Err(ReasonCode::ServerUnavailable));
        }
        self.wake.notify_all();
    }

    /// This incarnation of the node is up: what is submitted from here on is proposed.
    fn admit(&self, incarnation: u64) {
        let Some(member) = &self.member else { return };
        member.flight.lock().begin(incarnation);
        self.pending.lock().fenced = false;
        self.wake.notify_all();
        if member.leads() {
            // What it began while it was out was refused, and what it had on its way counts no more.
            member.doing.lock().clear();
            self.take_duties();
        }
    }

    /// Is nothing of this node on its way?
    pub fn is_idle(&self) -> bool {
        let pending = self.pending.lock();
        let flies = self
            .member
            .as_ref()
            .is_some_and(|member| member.flight.lock().first().is_some());
        pending.is_empty() && !pending.launching && !flies
    }

    /// Done when all that was submitted here before is applied.
    pub fn settled(&self) -> Ticket {
        if self.is_idle() {
            return Ticket::DONE;
        }
        self.barrier()
    }

    /// Done when an entry of its own is applied here.
    pub fn barrier(&self) -> Ticket {
        let done = Completion::new(1);
        let submission = Submission {
            done: Some(done.clone()),
            ..Submission::of(Work::Barrier)
        };
        self.push(self.groups.meta(), submission);
        Ticket::on(done)
    }

    /// Everything before and with `index` is applied.
    pub fn note_applied(&self, index: u64) {
        if let Some(member) = &self.member {
            member.applied.store(index, Ordering::Release);
        }
    }
}
