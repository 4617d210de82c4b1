//! What the store's threads share: the groups' states, what waits for the log, and how submissions get there.

use std::collections::{HashMap, HashSet, VecDeque};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::mpsc::Sender;

use nightjar_broker::meta::MetaWatcher;
use nightjar_broker::shard::{
    RetainedEntry, RetainedShard, SessionEntry, SessionShard, Streams, slot_of,
};
use nightjar_broker::{Completion, EffectSink};
use nightjar_mqtt::ReasonCode;
use parking_lot::{Condvar, Mutex, MutexGuard, RwLock};

use crate::backup::Cut;
use crate::bodies::Bodies;
use crate::config::Durability;
use crate::error::Error;
use crate::log::Groups;
use crate::member::Member;
use crate::meta::Meta;
use crate::pending::{Pending, Submission, Work};
use crate::spill::Load;

/// Messages of one group on their way through the log before publishers are asked to wait: what a queue may take
/// in before anybody sees how full it is.
pub(crate) const LOG_WINDOW: usize = 256;

pub(crate) struct SessionState {
    pub shard: SessionShard,
    pub streams: Streams,
    /// Index of the last entry applied.
    pub applied: u64,
    /// Connected sessions whose queue is more than half full.
    pub pressed: HashSet<u32>,
    /// What left memory.
    pub bodies: Bodies,
    /// Bytes that the last sweep left in memory.
    pub kept: usize,
    /// Duties to hand back what is on the disk, one after the other: memory holds one of them at a time.
    pub backlog: VecDeque<u64>,
    /// The one of them that is on its way.
    pub handing: Option<u64>,
}

impl SessionState {
    pub fn note_pressure(&mut self, slot: u32) {
        if self.shard.is_pressed(slot) {
            self.pressed.insert(slot);
        } else if !self.pressed.is_empty() {
            self.pressed.remove(&slot);
        }
    }
}

pub(crate) struct SessionGroup {
    pub state: Mutex<SessionState>,
    /// Messages submitted and not yet applied.
    pub unapplied: AtomicUsize,
    /// Bytes of messages in memory.
    pub held: AtomicUsize,
    /// Size of [`SessionState::pressed`].
    pub pressed: AtomicUsize,
    /// Wills are due that will be retained.
    pub due_wills: AtomicBool,
    /// Publishers that wait until less is unapplied.
    pub waiting: Mutex<Vec<Arc<Completion>>>,
    pub ticking: AtomicBool,
    /// Clients with an Open on its way.
    pub opening: Mutex<HashMap<Arc<str>, u32>>,
    /// Opens submitted so far.
    pub opens: AtomicU64,
}

impl SessionGroup {
    /// The group of a shard whose last applied entry is `applied`, with the files its bodies wait in.
    pub fn new(shard: SessionShard, applied: u64, bodies: Bodies) -> Self {
        Self {
            held: AtomicUsize::new(shard.held()),
            due_wills: AtomicBool::new(shard.owes_retained_wills()),
            state: Mutex::new(SessionState {
                shard,
                streams: Streams::default(),
                applied,
                pressed: HashSet::new(),
                bodies,
                kept: 0,
                backlog: VecDeque::new(),
                handing: None,
            }),
            unapplied: AtomicUsize::new(0),
            pressed: AtomicUsize::new(0),
            waiting: Mutex::new(Vec::new()),
            ticking: AtomicBool::new(false),
            opening: Mutex::new(HashMap::new()),
            opens: AtomicU64::new(0),
        }
    }
}

pub(crate) struct RetainedGroup {
    /// The shard and the index of the last entry applied.
    pub state: RwLock<(RetainedShard, u64)>,
    pub unapplied: AtomicUsize,
    pub ticking: AtomicBool,
}

impl RetainedGroup {
    /// The group of a shard whose last applied entry is `applied`.
    pub fn new(shard: RetainedShard, applied: u64) -> Self {
        Self {
            state: RwLock::new((shard, applied)),
            unapplied: AtomicUsize::new(0),
            ticking: AtomicBool::new(false),
        }
    }
}

/// What the store's threads share.
///
/// Lock order: a group's state before the broker's own locks; `pending` is taken alone.
pub(crate) struct Core {
    pub groups: Groups,
    pub durability: Durability,
    /// Bytes of queued messages that memory may hold.
    pub memory: usize,
    /// To the thread that reads bodies; taken away at the end.
    pub loader: Mutex<Option<Sender<Load>>>,
    pub sessions: Vec<SessionGroup>,
    pub retained: Vec<RetainedGroup>,
    pub meta: RwLock<(Meta, u64)>,
    /// Told of each change of a named value, after it can be read.
    pub watchers: RwLock<Vec<Arc<dyn MetaWatcher>>>,
    pub pending: Mutex<Pending>,
    pub wake: Condvar,
    /// Set by `start`, taken away by `close`: the sink holds the store.
    pub sink: RwLock<Option<Arc<dyn EffectSink>>>,
    /// Last index of each group that is on the disk.
    pub synced: Vec<AtomicU64>,
    /// Index of each group's snapshot.
    pub snapshots: Vec<AtomicU64>,
    /// Bytes appended since the last snapshots.
    pub written: AtomicU64,
    /// This node is one of a cluster.
    pub member: Option<Member>,
}

impl Core {
    /// Submits to one group; refused if the store takes nothing any more.
    pub fn push(&self, group: u16, submission: Submission) {
        self.push_under(group, submission, || Some(self.pending.lock()));
    }

    /// As [`Self::push`], under a lock that is there only if the connection that submits is its client's still.
    pub fn push_under<'a>(
        &'a self,
        group: u16,
        submission: Submission,
        lock: impl FnOnce() -> Option<MutexGuard<'a, Pending>>,
    ) {
        let mut bytes = Vec::new();
        submission.work.encode(&mut bytes);
        let wake = {
            let lock = lock();
            let refused = match &lock {
                None => Some(ReasonCode::SessionTakenOver),
                Some(pending) => pending.refuses().then_some(ReasonCode::ServerUnavailable),
            };
            let Some(mut pending) = lock.filter(|_| refused.is_none()) else {
                self.refused(group, &submission);
                submission.refuse(refused.unwrap_or(ReasonCode::ServerUnavailable));
                return;
            };
            pending.push(group, &bytes, submission)
        };
        if wake {
            self.wake.notify_one();
        }
    }

    /// Has the bodies read that streams of this group wait for.
    pub fn send_wanted(&self, group: u16, state: &mut SessionState) {
        for slot in state.streams.take_wanted() {
            if let Some(loader) = &*self.loader.lock() {
                // It ends only when the store does.
                let _ = loader.send(Load::Stream(group, slot));
            }
        }
    }

    /// Has the next bodies read that an ended session hands back, when what was read before has been handed back.
    pub fn hand_on(&self, group: u16, state: &mut SessionState) {
        if state
            .handing
            .is_some_and(|duty| state.shard.duty(duty).is_some())
        {
            return;
        }
        state.handing = None;
        while let Some(duty) = state.backlog.pop_front() {
            if state.shard.duty(duty).is_none() {
                continue;
            }
            if let Some(loader) = &*self.loader.lock() {
                state.handing = Some(duty);
                // As above.
                let _ = loader.send(Load::HandBack(group, duty));
            }
            return;
        }
    }

    /// Asks every group for its state at one point: what was submitted before this call is in it, in all groups, and
    /// nothing that was submitted after.
    ///
    /// # Errors
    /// The store takes nothing any more.
    pub fn cut(&self, to: &Sender<Cut>) -> Result<(), Error> {
        let mut pending = self.pending.lock();
        if pending.failed || pending.stop {
            return Err(Error::Failed);
        }
        for group in 0..self.groups.count() as u16 {
            let submission = Submission {
                work: Work::Cut(to.clone()),
                done: None,
                open: None,
                keep: false,
                late: Vec::new(),
            };
            pending.push(group, &[], submission);
        }
        drop(pending);
        self.wake.notify_one();
        Ok(())
    }

    /// Entries of the store itself, on which nobody waits.
    pub fn submit_own(&self, group: u16, entries: Vec<SessionEntry>) {
        let work = Work::Session(entries);
        let keep = work.must_be_kept();
        self.push(
            group,
            Submission {
                work,
                done: None,
                open: None,
                keep,
                late: Vec::new(),
            },
        );
    }

    /// An entry that will not be applied: what was counted for it is taken back.
    pub fn refused(&self, group: u16, submission: &Submission) {
        if group >= self.groups.sessions {
            if let Work::Retained(entry) = &submission.work {
                let group = &self.retained[usize::from(group - self.groups.sessions)];
                group.unapplied.fetch_sub(1, Ordering::AcqRel);
                if matches!(entry, RetainedEntry::Tick { .. }) {
                    group.ticking.store(false, Ordering::Release);
                }
            }
            return;
        }
        let number = group;
        let group = &self.sessions[usize::from(group)];
        group
            .unapplied
            .fetch_sub(submission.work.messages(), Ordering::AcqRel);
        group
            .waiting
            .lock()
            .drain(..)
            .for_each(|completion| completion.finish());
        if let Work::Session(entries) = &submission.work {
            for entry in entries {
                self.forget_opening(number, entry);
                if matches!(entry, SessionEntry::Tick { .. }) {
                    group.ticking.store(false, Ordering::Release);
                }
            }
        }
    }

    pub fn forget_opening(&self, group: u16, entry: &SessionEntry) {
        if let SessionEntry::Open(open) = entry {
            let mut opening = self.sessions[usize::from(group)].opening.lock();
            if let Some(count) = opening.get_mut(&open.client_id) {
                *count -= 1;
                if *count == 0 {
                    opening.remove(&open.client_id);
                }
            }
        }
    }

    /// Counts the messages of a submission that is about to be pushed; true if `stall` must wait.
    pub fn weigh(
        &self,
        shard: u16,
        entries: &[SessionEntry],
        stall: Option<&Arc<Completion>>,
    ) -> bool {
        let group = &self.sessions[usize::from(shard)];
        let messages = entries
            .iter()
            .filter(|entry| matches!(entry, SessionEntry::Publish(_) | SessionEntry::Enqueue(_)))
            .count();
        if messages == 0 {
            return false;
        }
        let ahead = group.unapplied.fetch_add(messages, Ordering::AcqRel) + messages;
        let Some(stall) = stall else { return false };
        if group.pressed.load(Ordering::Acquire) > 0 {
            let mut state = group.state.lock();
            let state = &mut *state;
            let mut slots = Vec::new();
            for entry in entries {
                state.shard.touches(entry, |slot| slots.push(slot));
            }
            slots.retain(|slot| state.pressed.contains(slot));
            slots.sort_unstable();
            slots.dedup();
            let mut stalled = false;
            for slot in slots {
                stalled |= state.streams.stall(&state.shard, slot, stall);
            }
            if stalled {
                return true;
            }
        }
        if ahead >= LOG_WINDOW {
            let mut waiting = group.waiting.lock();
            // Looked at again under the lock: whoever brings it down takes the lock after.
            if group.unapplied.load(Ordering::Acquire) >= LOG_WINDOW {
                waiting.push(stall.clone());
                return true;
            }
        }
        false
    }

    pub fn retained_group(&self, topic: &str) -> u16 {
        (slot_of(topic) % u32::from(self.groups.retained)) as u16
    }
}
