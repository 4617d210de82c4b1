//! `DurableStore`: the seam between the broker and the durable backend.
//!
//! The broker submits entries for a shard and gets a [`Ticket`]; the store applies them (at once here, behind a log
//! in the cluster crate), carries out what is the shard's own business (delivery streams) and hands every other
//! effect to the broker's [`EffectSink`].

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};

use parking_lot::{Mutex, RwLock};
use smallvec::SmallVec;

use crate::handle::SessionHandle;
use crate::message::Message;
use crate::shard::{
    Effect, Opened, Parked, Reply, Restored, RetainedEntry, RetainedShard, SessionEntry,
    SessionShard, Streams, slot_of,
};
use crate::ticket::{Completion, Ticket};
use crate::time::Timestamp;

/// Takes effects on the node. Called while the shard is locked, in the order of the log: it must not call the store.
/// What has to (publishing a will) is queued by the sink and done after.
pub trait EffectSink: Send + Sync {
    /// One effect of `shard`.
    fn effect(&self, shard: u16, effect: Effect);

    /// The shard is unlocked again: what the effects asked for may be done now.
    fn settled(&self);

    /// A session that was found when the node started: its subscriptions must lead to it before a client can
    /// connect.
    fn restore(&self, session: Restored);

    /// A session belongs to another node now, or to nobody here: this node keeps nothing of it up to this epoch. May
    /// be called while the shard is locked.
    fn moved(&self, client_id: &Arc<str>, epoch: u64) {
        let _ = (client_id, epoch);
    }
}

/// Entries for several shards, committed together.
pub type Batches = SmallVec<[(u16, Vec<SessionEntry>); 2]>;

/// What a submission gave.
#[derive(Debug, Default)]
pub struct Submitted {
    /// Done when the entries are committed.
    pub ticket: Ticket,
    /// The completion given as `stall` now waits for a queue to empty.
    pub stalled: bool,
}

/// The durable backend as the broker sees it.
pub trait DurableStore: Send + Sync {
    /// Number of session shards; a client id belongs to `slot_of(client_id) % shards`.
    fn shards(&self) -> u16;

    /// Shard of a client id.
    fn shard_of(&self, client_id: &str) -> u16 {
        (slot_of(client_id) % u32::from(self.shards())) as u16
    }

    /// Submits entries in order. With `stall`, a queue of a connected session that is more than half full makes that
    /// completion wait.
    fn submit(
        &self,
        shard: u16,
        entries: Vec<SessionEntry>,
        stall: Option<&Arc<Completion>>,
    ) -> Submitted;

    /// Submits entries for several shards; on one node they are committed together or not at all. `stalled` hears of
    /// each shard whose queues make `stall` wait.
    fn submit_all(
        &self,
        batches: Batches,
        stall: &Arc<Completion>,
        stalled: &mut dyn FnMut(u16),
    ) -> Ticket {
        Ticket::all(batches.into_iter().map(|(shard, entries)| {
            let submitted = self.submit(shard, entries, Some(stall));
            if submitted.stalled {
                stalled(shard);
            }
            submitted.ticket
        }))
    }

    /// Would a queue under the policy `reject` refuse this entry, if `ahead` more came before it? Errs towards yes
    /// while entries are on their way: what is promised is queued.
    fn is_full(&self, shard: u16, entry: &SessionEntry, ahead: usize) -> bool;

    /// Submits an Open; when the ticket is done, [`OpenReply::take`] has the answer. An Open that changes nothing
    /// (see [`SessionShard::needs_entry`]) is not logged.
    fn open(&self, open: crate::shard::Open) -> (Ticket, OpenReply);

    /// May clients connect? Not while this node has no majority of its cluster.
    fn is_serving(&self) -> bool {
        true
    }

    /// Counts how often this node stopped serving: what was begun before and ends after was interrupted.
    fn interruptions(&self) -> u32 {
        0
    }

    /// Is this duty of a shard still to be done, and by this node?
    fn owes(&self, shard: u16, duty: u64) -> bool {
        let _ = (shard, duty);
        true
    }

    /// Is this connection still the one that owns the client's session? Another node may have taken it since.
    fn is_owner(&self, client_id: &str, epoch: u64) -> bool {
        let _ = (client_id, epoch);
        true
    }

    /// Starts the delivery stream of an opened session to this handle.
    ///
    /// `before` is the epoch of the connection before: what that one was sent is known if it was here.
    fn stream(&self, client_id: &str, epoch: u64, before: u64, handle: &Arc<SessionHandle>);

    /// The connection can take so many more deliveries.
    fn grant(&self, client_id: &str, epoch: u64, credit: u32, now: Timestamp);

    /// A publisher waited too long on this completion.
    fn give_up(&self, shard: u16, completion: &Arc<Completion>);

    /// Submits a retained entry. The ticket of a [`RetainedEntry::SetBy`] fails if a later connection of its client is
    /// ahead of it. A [`RetainedEntry::SetDue`] before which something newer was retained changes nothing, and its ticket
    /// is done all the same.
    fn retain(&self, entry: RetainedEntry) -> Ticket;

    /// Done when everything submitted to the retained shards before is applied here.
    fn retained_barrier(&self) -> Ticket;

    /// Reads retained messages that a filter matches from `cursor` on, until about `budget` topics were looked at,
    /// matching or not; `cursor` is where to go on. True if there is nothing more. Between two calls other messages may
    /// come and go; each is read as it is then.
    fn read_retained_part(
        &self,
        filter: &str,
        cursor: &mut RetainedCursor,
        budget: usize,
        now: Timestamp,
        each: &mut dyn FnMut(&Message),
    ) -> bool;

    /// Reads all retained messages that a filter matches: for threads that may take their time.
    fn read_retained(&self, filter: &str, now: Timestamp, each: &mut dyn FnMut(&Message)) {
        let mut cursor = RetainedCursor::default();
        while !self.read_retained_part(filter, &mut cursor, RETAINED_PART, now, each) {}
    }

    /// Messages and bytes retained.
    fn retained_size(&self) -> (usize, usize);

    /// Number of durable sessions.
    fn sessions(&self) -> usize;

    /// Queue length and drops of a durable session.
    fn queue_len(&self, client_id: &str) -> Option<(usize, u64)>;

    /// The session of a client, if it is parked. What is on its way is not seen.
    fn parked(&self, client_id: &str) -> Option<Parked>;

    /// The node that has a client's connection, or had it last; `None` if the client has no record, or where there are no
    /// nodes.
    fn node_of(&self, _client_id: &str) -> Option<u64> {
        None
    }

    /// Time passed: submits what is due.
    fn tick(&self, now: Timestamp);
}

/// Topics that [`DurableStore::read_retained`] looks at without letting anybody else write.
const RETAINED_PART: usize = 4096;

/// Where a read of retained messages goes on.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RetainedCursor {
    /// Number of the shard.
    shard: usize,
    /// The first topic of it that was not looked at.
    from: String,
}

impl RetainedCursor {
    /// Reads on in shards that are visited one after the other: `part` reads from a topic on in the shard of this
    /// number and says whether it came to its end.
    pub fn read(
        &mut self,
        shards: usize,
        budget: usize,
        mut part: impl FnMut(usize, &mut String, &mut usize) -> bool,
    ) -> bool {
        let mut budget = budget.max(1);
        while self.shard < shards {
            if budget == 0 || !part(self.shard, &mut self.from, &mut budget) {
                return false;
            }
            self.shard += 1;
            self.from.clear();
        }
        true
    }
}

/// Where the answer to an Open arrives.
#[derive(Debug, Clone, Default)]
pub struct OpenReply(Arc<OnceLock<Opened>>);

impl OpenReply {
    /// Sets the answer; the first one counts.
    pub fn set(&self, opened: Opened) {
        let _ = self.0.set(opened);
    }

    /// The answer, when the ticket is done.
    #[must_use]
    pub fn take(&self) -> Option<Opened> {
        self.0.get().cloned()
    }
}

const RETAINED_SHARDS: usize = 16;

struct MemoryShard {
    state: SessionShard,
    streams: Streams,
}

/// A store that applies at once and keeps everything in memory: `durability = "memory"`.
pub struct MemoryStore {
    shards: Box<[Mutex<MemoryShard>]>,
    retained: Box<[RwLock<RetainedShard>]>,
    /// Shards that owe wills which are to be retained.
    due_wills: AtomicUsize,
    sink: OnceLock<Arc<dyn EffectSink>>,
}

impl std::fmt::Debug for MemoryStore {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("MemoryStore")
            .field("shards", &self.shards.len())
            .finish_non_exhaustive()
    }
}

impl MemoryStore {
    /// An empty store with so many session shards.
    #[must_use]
    pub fn new(shards: u16) -> Self {
        let shard = || {
            Mutex::new(MemoryShard {
                state: SessionShard::default(),
                streams: Streams::default(),
            })
        };
        Self {
            shards: (0..shards.max(1)).map(|_| shard()).collect(),
            retained: (0..RETAINED_SHARDS).map(|_| RwLock::default()).collect(),
            due_wills: AtomicUsize::new(0),
            sink: OnceLock::new(),
        }
    }

    /// Says where effects go. Before that they are dropped; set once.
    pub fn set_sink(&self, sink: Arc<dyn EffectSink>) {
        let _ = self.sink.set(sink);
    }

    fn run(
        &self,
        shard: u16,
        entries: Vec<SessionEntry>,
        stall: Option<&Arc<Completion>>,
        now: Timestamp,
    ) -> (Vec<Reply>, Submitted) {
        let mut replies = Vec::with_capacity(entries.len());
        let mut submitted = Submitted::default();
        let mut wakers = Vec::new();
        {
            let mut guard = self.shards[usize::from(shard)].lock();
            let MemoryShard { state, streams } = &mut *guard;
            let mut effects = Vec::new();
            let mut ready = Vec::new();
            let owed = state.owes_retained_wills();
            for entry in entries {
                let reply = state.apply(entry, &mut effects);
                replies.push(reply);
                for effect in effects.drain(..) {
                    match effect {
                        Effect::Ready { slot } => {
                            if ready.last() != Some(&slot) {
                                ready.push(slot);
                            }
                        }
                        effect => {
                            if let Effect::Ended { slot, .. } = &effect {
                                streams.end(*slot);
                            }
                            if let Some(sink) = self.sink.get() {
                                sink.effect(shard, effect);
                            }
                        }
                    }
                }
            }
            self.note_wills(owed, state);
            ready.sort_unstable();
            ready.dedup();
            for slot in ready {
                self.pump(shard, state, streams, slot, now, &mut wakers);
                if let Some(completion) = stall {
                    submitted.stalled |= streams.stall(state, slot, completion);
                }
            }
        }
        wakers.into_iter().for_each(std::task::Waker::wake);
        if let Some(sink) = self.sink.get() {
            sink.settled();
        }
        (replies, submitted)
    }

    fn pump(
        &self,
        shard: u16,
        state: &mut SessionShard,
        streams: &mut Streams,
        slot: u32,
        now: Timestamp,
        wakers: &mut Vec<std::task::Waker>,
    ) {
        let expired = streams.pump(state, slot, now, wakers);
        if expired.is_empty() {
            return;
        }
        let Some((client_id, epoch)) = state.owner(slot) else {
            return;
        };
        let entry = SessionEntry::Acks {
            client_id: client_id.clone(),
            epoch,
            acks: expired,
        };
        let mut effects = Vec::new();
        state.apply(entry, &mut effects);
        for effect in effects {
            if let (Effect::Dropped { .. }, Some(sink)) = (&effect, self.sink.get()) {
                sink.effect(shard, effect);
            }
        }
    }

    /// Counts a shard that owed wills to be retained before, or did not.
    fn note_wills(&self, owed: bool, state: &SessionShard) {
        match (owed, state.owes_retained_wills()) {
            (false, true) => _ = self.due_wills.fetch_add(1, Ordering::AcqRel),
            (true, false) => _ = self.due_wills.fetch_sub(1, Ordering::AcqRel),
            _ => {}
        }
    }

    fn retained_shard(&self, topic: &str) -> &RwLock<RetainedShard> {
        &self.retained[slot_of(topic) as usize % RETAINED_SHARDS]
    }
}

impl DurableStore for MemoryStore {
    fn shards(&self) -> u16 {
        self.shards.len() as u16
    }

    fn submit(
        &self,
        shard: u16,
        entries: Vec<SessionEntry>,
        stall: Option<&Arc<Completion>>,
    ) -> Submitted {
        self.run(shard, entries, stall, Timestamp::now()).1
    }

    fn is_full(&self, shard: u16, entry: &SessionEntry, ahead: usize) -> bool {
        self.shards[usize::from(shard)]
            .lock()
            .state
            .would_reject(entry, ahead)
    }

    fn open(&self, open: crate::shard::Open) -> (Ticket, OpenReply) {
        let reply = OpenReply::default();
        let shard = self.shard_of(&open.client_id);
        if !self.shards[usize::from(shard)]
            .lock()
            .state
            .needs_entry(&open)
        {
            reply.set(Opened::default());
            return (Ticket::DONE, reply);
        }
        let now = open.now;
        let (replies, _) = self.run(shard, vec![SessionEntry::Open(Box::new(open))], None, now);
        for answer in replies {
            if let Reply::Opened(opened) = answer {
                reply.set(*opened);
            }
        }
        (Ticket::DONE, reply)
    }

    fn stream(&self, client_id: &str, epoch: u64, before: u64, handle: &Arc<SessionHandle>) {
        let mut guard = self.shards[usize::from(self.shard_of(client_id))].lock();
        let MemoryShard { state, streams } = &mut *guard;
        // Another connection may have taken the session meanwhile: the older one must not take its stream.
        if let Some(slot) = state.slot(client_id)
            && state.owner(slot).is_some_and(|(_, have)| have == epoch)
        {
            let maybe_sent = state.maybe_sent(slot);
            streams.open(slot, (before, epoch), handle.clone(), maybe_sent);
        }
    }

    fn grant(&self, client_id: &str, epoch: u64, credit: u32, now: Timestamp) {
        let shard = self.shard_of(client_id);
        let mut wakers = Vec::new();
        {
            let mut guard = self.shards[usize::from(shard)].lock();
            let MemoryShard { state, streams } = &mut *guard;
            if let Some(slot) = state.slot(client_id) {
                streams.grant(slot, epoch, credit);
                self.pump(shard, state, streams, slot, now, &mut wakers);
            }
        }
        wakers.into_iter().for_each(std::task::Waker::wake);
    }

    fn give_up(&self, shard: u16, completion: &Arc<Completion>) {
        self.shards[usize::from(shard)]
            .lock()
            .streams
            .give_up(completion);
    }

    fn retain(&self, entry: RetainedEntry) -> Ticket {
        match &entry {
            // Connections of one node are told apart before.
            RetainedEntry::Set(_) | RetainedEntry::SetBy { .. } | RetainedEntry::Remove(_) => {
                let Some(topic) = entry.topic().cloned() else {
                    return Ticket::DONE;
                };
                if self.due_wills.load(Ordering::Acquire) > 0 {
                    for shard in &self.shards {
                        let state = &mut shard.lock().state;
                        let owed = state.owes_retained_wills();
                        state.supersede_wills(&topic);
                        self.note_wills(owed, state);
                    }
                }
                self.retained_shard(&topic).write().apply(entry);
            }
            RetainedEntry::SetDue {
                shard,
                duty,
                message,
            } => {
                // What supersedes it does so before it takes this lock.
                let mut retained = self.retained_shard(message.topic()).write();
                let retains = self
                    .shards
                    .get(usize::from(*shard))
                    .is_some_and(|shard| shard.lock().state.retains_will(*duty));
                if retains {
                    retained.apply(entry);
                }
            }
            RetainedEntry::Tick { .. } => self
                .retained
                .iter()
                .for_each(|shard| shard.write().apply(entry.clone())),
        }
        Ticket::DONE
    }

    fn retained_barrier(&self) -> Ticket {
        Ticket::DONE
    }

    fn read_retained_part(
        &self,
        filter: &str,
        cursor: &mut RetainedCursor,
        budget: usize,
        now: Timestamp,
        each: &mut dyn FnMut(&Message),
    ) -> bool {
        if !crate::filter_index::is_wild(filter) {
            if let Some(message) = self.retained_shard(filter).read().get(filter, now) {
                each(message);
            }
            return true;
        }
        cursor.read(self.retained.len(), budget, |shard, from, budget| {
            let shard = self.retained[shard].read();
            shard.read_part(filter, from, budget, now, each)
        })
    }

    fn retained_size(&self) -> (usize, usize) {
        self.retained.iter().fold((0, 0), |(len, bytes), shard| {
            let shard = shard.read();
            (len + shard.len(), bytes + shard.bytes())
        })
    }

    fn sessions(&self) -> usize {
        self.shards
            .iter()
            .map(|shard| shard.lock().state.sessions())
            .sum()
    }

    fn queue_len(&self, client_id: &str) -> Option<(usize, u64)> {
        self.shards[usize::from(self.shard_of(client_id))]
            .lock()
            .state
            .queue_len(client_id)
    }

    fn parked(&self, client_id: &str) -> Option<Parked> {
        self.shards[usize::from(self.shard_of(client_id))]
            .lock()
            .state
            .parked(client_id)
    }

    fn tick(&self, now: Timestamp) {
        for shard in 0..self.shards() {
            let due = self.shards[usize::from(shard)].lock().state.is_due(now);
            if due {
                self.run(shard, vec![SessionEntry::Tick { now }], None, now);
            }
        }
        for shard in &self.retained {
            if shard.read().is_due(now) {
                shard.write().apply(RetainedEntry::Tick { now });
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use nightjar_mqtt::{QoS, TopicName};

    use super::*;
    use crate::message::MessageHead;
    use crate::settings::QueueLimits;
    use crate::shard::{Close, CloseKind, Open, Will};

    fn says(topic: &str, payload: &str) -> Message {
        let head = MessageHead {
            topic: TopicName::new(topic).unwrap(),
            qos: QoS::AtLeastOnce,
            retain: true,
            publisher: None,
            received_at: Timestamp(1),
            expires_at: None,
            properties: None,
        };
        Message::new(head, payload.as_bytes())
    }

    /// A client is lost while it had said that it is there; then this is retained, and then its will.
    fn after(entries: Vec<RetainedEntry>) -> Option<Vec<u8>> {
        let store = MemoryStore::new(2);
        let will = Will {
            message: says("a", "offline"),
            delay: 0,
            expiry: None,
        };
        let (_, reply) = store.open(Open {
            client_id: "c".into(),
            clean_start: true,
            expiry: 0,
            will: Some(Box::new(will)),
            limits: QueueLimits::default(),
            window: 10,
            supervision: None,
            node: 0,
            owner: None,
            now: Timestamp(1),
        });
        store.retain(RetainedEntry::Set(says("a", "online 1")));
        let close = SessionEntry::Close(Close {
            client_id: "c".into(),
            epoch: reply.take().unwrap().epoch,
            kind: CloseKind::Abnormal,
            expiry: None,
            now: Timestamp(2),
        });
        let shard = store.shard_of("c");
        store.submit(shard, vec![close], None);
        assert_eq!(store.due_wills.load(Ordering::Relaxed), 1);
        for entry in entries {
            store.retain(entry);
        }
        store.retain(RetainedEntry::SetDue {
            shard,
            duty: 0,
            message: says("a", "offline"),
        });
        let end = SessionEntry::Fulfilled { duties: vec![0] };
        store.submit(shard, vec![end], None);
        assert_eq!(store.due_wills.load(Ordering::Relaxed), 0);
        let mut found = None;
        store.read_retained("a", Timestamp(3), &mut |message| {
            found = Some(message.payload().to_vec());
        });
        found
    }

    #[test]
    fn a_late_will_replaces_nothing_that_was_retained_since_it_was_due() {
        let offline = Some(b"offline".to_vec());
        assert_eq!(after(Vec::new()), offline);
        let other = RetainedEntry::Set(says("b", "x"));
        assert_eq!(after(vec![other]), offline);
        let back = RetainedEntry::Set(says("a", "online 2"));
        assert_eq!(after(vec![back]), Some(b"online 2".to_vec()));
        let gone = RetainedEntry::Remove(TopicName::new("a").unwrap());
        assert_eq!(after(vec![gone]), None);
    }
}
