//! [`NodeStore`]: the durable backend of one node.

use std::collections::{HashMap, HashSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::mpsc::{Sender, SyncSender, channel, sync_channel};
use std::thread::JoinHandle;

use nightjar_broker::shard::{
    Close, CloseKind, Duty, Effect, Open, Opened, Restored, RetainedEntry, RetainedShard,
    SessionEntry, SessionShard, Streams, slot_of,
};
use nightjar_broker::{
    Batches, Completion, DurableStore, EffectSink, Message, OpenReply, SessionHandle, Submitted,
    Ticket, Timestamp,
};
use nightjar_mqtt::ReasonCode;
use parking_lot::{Condvar, Mutex, RwLock};
use raft_engine::env::{DefaultFileSystem, FileSystem};

use crate::error::Error;
use crate::files::{DiskFiles, Files};
use crate::keeper::{Keeper, Order};
use crate::log::{GroupLog, Groups};
use crate::meta::{Meta, MetaEntry};
use crate::pending::{Pending, Submission, Work};
use crate::recover::{self, Recovered};
use crate::writer::Writer;

/// When an acknowledgement may be sent. (`durability = "memory"` is [`nightjar_broker::MemoryStore`].)
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Durability {
    /// After the disk has it: nothing acknowledged is lost by kill -9 or power loss.
    #[default]
    Sync,
    /// After the system has it: kill -9 loses nothing, power loss up to the last 100 ms.
    Async,
}

/// What to do with a damaged log.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Recovery {
    /// Refuse to start, naming file and offset.
    #[default]
    Strict,
    /// Keep what stands before the damage, put the rest aside, say what is lost.
    AcceptLoss,
}

/// Settings of a [`NodeStore`].
#[derive(Debug, Clone)]
pub struct StoreConfig {
    /// Data directory.
    pub dir: PathBuf,
    /// Name of this node; a directory of another one is refused.
    pub node: String,
    /// Id of the cluster, if it is configured: a directory of another one is refused.
    pub cluster: Option<String>,
    /// When an acknowledgement may be sent.
    pub durability: Durability,
    /// What to do with a damaged log.
    pub recovery: Recovery,
    /// Bytes of log after which snapshots are written and old files go.
    pub log_limit: u64,
    /// Size of a log file in bytes.
    pub file_size: u64,
    /// How long a will of a connection that the node's death cut waits for the client, in seconds.
    pub will_restart_grace: u32,
    /// Groups of sessions in a new directory.
    pub session_groups: u16,
    /// Groups of retained messages in a new directory.
    pub retained_groups: u16,
}

impl StoreConfig {
    /// The defaults for a directory and a node name.
    #[must_use]
    pub fn new(dir: impl Into<PathBuf>, node: impl Into<String>) -> Self {
        Self {
            dir: dir.into(),
            node: node.into(),
            cluster: None,
            durability: Durability::default(),
            recovery: Recovery::default(),
            log_limit: 256 << 20,
            file_size: 32 << 20,
            will_restart_grace: 10,
            session_groups: 16,
            retained_groups: 4,
        }
    }
}

/// What the store writes to: the real disk, or in tests one that loses what was not synced.
pub struct Disk<F: FileSystem> {
    /// For the log.
    pub log: Arc<F>,
    /// For the files beside it.
    pub files: Arc<dyn Files>,
}

impl Default for Disk<DefaultFileSystem> {
    fn default() -> Self {
        Self {
            log: Arc::new(DefaultFileSystem),
            files: Arc::new(DiskFiles),
        }
    }
}

impl<F: FileSystem> std::fmt::Debug for Disk<F> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Disk")
    }
}

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
    /// Size of [`SessionState::pressed`].
    pub pressed: AtomicUsize,
    /// Publishers that wait until less is unapplied.
    pub waiting: Mutex<Vec<Arc<Completion>>>,
    pub ticking: AtomicBool,
    /// Clients with an Open on its way.
    pub opening: Mutex<HashMap<Arc<str>, u32>>,
}

pub(crate) struct RetainedGroup {
    /// The shard and the index of the last entry applied.
    pub state: RwLock<(RetainedShard, u64)>,
    pub unapplied: AtomicUsize,
    pub ticking: AtomicBool,
}

/// What the store's threads share.
///
/// Lock order: a group's state before the broker's own locks; `pending` is taken alone.
pub(crate) struct Core {
    pub groups: Groups,
    pub durability: Durability,
    pub sessions: Vec<SessionGroup>,
    pub retained: Vec<RetainedGroup>,
    pub meta: RwLock<(Meta, u64)>,
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
}

impl Core {
    /// Submits to one group; false if the store takes nothing any more.
    fn push(&self, group: u16, submission: Submission) {
        let mut bytes = Vec::new();
        submission.work.encode(&mut bytes);
        let wake = {
            let mut pending = self.pending.lock();
            if pending.failed || pending.stop {
                drop(pending);
                self.refused(group, &submission);
                submission.refuse(ReasonCode::ServerUnavailable);
                return;
            }
            pending.push(group, &bytes, submission)
        };
        if wake {
            self.wake.notify_one();
        }
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
    fn weigh(&self, shard: u16, entries: &[SessionEntry], stall: Option<&Arc<Completion>>) -> bool {
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

    fn retained_group(&self, topic: &str) -> u16 {
        (slot_of(topic) % u32::from(self.groups.retained)) as u16
    }
}

/// The durable backend of one node: a [`DurableStore`] in front of a synced log.
///
/// Open it, build the broker on it, then [`Self::start`] it with that broker as the sink, before the first listener
/// opens, and [`Self::close`] it at the end: the broker holds the store and the store the broker.
pub struct NodeStore {
    core: Arc<Core>,
    recovered: Recovered,
    grace: u32,
    dir: PathBuf,
    orders: SyncSender<Order>,
    threads: Mutex<Threads>,
    lock: Mutex<Option<crate::dir::DataDir>>,
}

#[derive(Default)]
struct Threads {
    writer: Option<JoinHandle<()>>,
    appliers: Vec<JoinHandle<()>>,
    keeper: Option<JoinHandle<()>>,
}

impl std::fmt::Debug for NodeStore {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("NodeStore")
            .field("dir", &self.dir)
            .finish_non_exhaustive()
    }
}

impl NodeStore {
    /// Opens or makes a data directory and puts its state together.
    ///
    /// # Errors
    /// A directory that is not this node's, in use, of a newer format or damaged; nothing is changed then.
    pub fn open(config: &StoreConfig) -> Result<Self, Error> {
        Self::open_on(config, &Disk::default())
    }

    /// As [`Self::open`], on another disk.
    ///
    /// # Errors
    /// As [`Self::open`].
    pub fn open_on<F: FileSystem + 'static>(
        config: &StoreConfig,
        disk: &Disk<F>,
    ) -> Result<Self, Error> {
        let state = recover::open(config, disk)?;
        let groups = state.groups;
        let last = state.last.clone();
        // Only the threads hold the log: their end closes it.
        let log: Arc<dyn GroupLog> = Arc::from(state.log);
        let core = Arc::new(Core {
            groups,
            durability: config.durability,
            sessions: state
                .sessions
                .into_iter()
                .map(|(shard, applied)| SessionGroup {
                    state: Mutex::new(SessionState {
                        shard,
                        streams: Streams::default(),
                        applied,
                        pressed: HashSet::new(),
                    }),
                    unapplied: AtomicUsize::new(0),
                    pressed: AtomicUsize::new(0),
                    waiting: Mutex::new(Vec::new()),
                    ticking: AtomicBool::new(false),
                    opening: Mutex::new(HashMap::new()),
                })
                .collect(),
            retained: state
                .retained
                .into_iter()
                .map(|state| RetainedGroup {
                    state: RwLock::new(state),
                    unapplied: AtomicUsize::new(0),
                    ticking: AtomicBool::new(false),
                })
                .collect(),
            meta: RwLock::new(state.meta),
            pending: Mutex::new(Pending::new(groups.count())),
            wake: Condvar::new(),
            sink: RwLock::new(None),
            synced: last.iter().map(|last| AtomicU64::new(*last)).collect(),
            snapshots: state.snapshots.into_iter().map(AtomicU64::new).collect(),
            written: AtomicU64::new(state.recovered.log_bytes),
        });
        let mut threads = Threads::default();
        let spawn = |name: String, run: Box<dyn FnOnce() + Send>| {
            std::thread::Builder::new()
                .name(name)
                .spawn(run)
                .map_err(Error::io(&config.dir, "a thread cannot be started"))
        };
        let workers = std::thread::available_parallelism().map_or(1, usize::from);
        let mut appliers: Vec<Sender<_>> = Vec::new();
        for number in 0..workers.clamp(1, 4) {
            let (sender, receiver) = channel();
            appliers.push(sender);
            let core = core.clone();
            threads.appliers.push(spawn(
                format!("apply-{number}"),
                Box::new(move || crate::apply::run(&core, &receiver)),
            )?);
        }
        let writer = Writer {
            core: core.clone(),
            log: log.clone(),
            appliers,
            last,
        };
        threads.writer = Some(spawn("log".to_owned(), Box::new(move || writer.run()))?);
        let (orders, received) = sync_channel(4);
        let keeper = Keeper {
            core: core.clone(),
            log,
            files: disk.files.clone(),
            mark: state.mark,
            mark_path: state.dir.mark(),
            snapshots: state.dir.snapshots(),
            log_limit: config.log_limit,
            state_bytes: 0,
        };
        threads.keeper = Some(spawn(
            "keeper".to_owned(),
            Box::new(move || keeper.run(&received)),
        )?);
        Ok(Self {
            core,
            recovered: state.recovered,
            grace: config.will_restart_grace,
            dir: config.dir.clone(),
            orders,
            threads: Mutex::new(threads),
            lock: Mutex::new(Some(state.dir)),
        })
    }

    /// What was found when the directory was opened.
    #[must_use]
    pub const fn recovered(&self) -> &Recovered {
        &self.recovered
    }

    /// The data directory.
    #[must_use]
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// Says where effects go, and tells it what stands in the directory: routes, sessions, duties that were not
    /// done. Connections that the end of the last run cut are closed as of the time it was last alive. Call it once,
    /// before the first listener opens.
    pub fn start(&self, sink: Arc<dyn EffectSink>) {
        let now = Timestamp::now();
        *self.core.sink.write() = Some(sink.clone());
        for (number, group) in self.core.sessions.iter().enumerate() {
            let number = number as u16;
            let mut closes = Vec::new();
            {
                let state = group.state.lock();
                for filter in state.shard.routes() {
                    sink.effect(number, Effect::RouteAdded(filter));
                }
                let down = self.recovered.alive.max(state.shard.clock()).min(now);
                let grace = u32::try_from(now.since(down) / 1000).unwrap_or(u32::MAX);
                for session in state.shard.restored() {
                    if session.connected {
                        closes.push(SessionEntry::Close(Close {
                            client_id: session.client_id.clone(),
                            epoch: session.epoch,
                            kind: CloseKind::Restart(grace.saturating_add(self.grace)),
                            expiry: None,
                            now: down,
                        }));
                    }
                    sink.restore(session);
                }
                for (duty, what) in state.shard.duties() {
                    sink.effect(number, owed(duty, what));
                }
            }
            if !closes.is_empty() {
                self.core.submit_own(number, closes);
            }
        }
        sink.settled();
        self.tick(now);
    }

    /// The sessions that stand in the directory.
    #[must_use]
    pub fn restored(&self) -> Vec<Restored> {
        let groups = self.core.sessions.iter();
        groups
            .flat_map(|group| group.state.lock().shard.restored().collect::<Vec<_>>())
            .collect()
    }

    /// What waits in the queue of a session, in order: delivery sequence and message. What only awaits its PUBCOMP is
    /// not among it.
    #[must_use]
    pub fn queue(&self, client_id: &str) -> Vec<(u64, Message)> {
        let group = &self.core.sessions[usize::from(self.shard_of(client_id))];
        let state = group.state.lock();
        let mut found = Vec::new();
        let mut from = 0;
        if let Some(slot) = state.shard.slot(client_id) {
            while let Some(item) = state.shard.next_from(slot, from) {
                from = item.seq + 1;
                if let Some(message) = &item.message {
                    found.push((item.seq, message.clone()));
                }
            }
        }
        found
    }

    /// Writes a snapshot of every group and lets go of the log before it.
    ///
    /// # Errors
    /// Those of the disk.
    pub fn snapshot(&self) -> Result<(), Error> {
        let (answer, answered) = sync_channel(1);
        if self.orders.send(Order::Snapshot(answer)).is_err() {
            return Err(Error::Failed);
        }
        answered.recv().unwrap_or(Err(Error::Failed))
    }

    /// Sets or removes a named value of the meta group (users, bans, keys).
    pub fn put_meta(&self, entry: MetaEntry) -> Ticket {
        let done = Completion::new(1);
        self.core.push(
            self.core.groups.meta(),
            Submission {
                work: Work::Meta(entry),
                done: Some(done.clone()),
                open: None,
                keep: false,
            },
        );
        Ticket::on(done)
    }

    /// A named value of the meta group.
    #[must_use]
    pub fn meta(&self, key: &str) -> Option<Vec<u8>> {
        self.core.meta.read().0.0.get(key).cloned()
    }

    /// All named values whose name begins so.
    #[must_use]
    pub fn meta_under(&self, prefix: &str) -> Vec<(String, Vec<u8>)> {
        let meta = self.core.meta.read();
        meta.0
            .0
            .range(prefix.to_owned()..)
            .take_while(|(key, _)| key.starts_with(prefix))
            .map(|(key, value)| (key.clone(), value.clone()))
            .collect()
    }

    /// Did a sync fail? Then nothing is acknowledged until a restart.
    #[must_use]
    pub fn has_failed(&self) -> bool {
        self.core.pending.lock().failed
    }

    fn is_opening(&self, group: u16, client_id: &str) -> bool {
        self.core.sessions[usize::from(group)]
            .opening
            .lock()
            .contains_key(client_id)
    }

    /// Ends the store: what was submitted is written, applied and marked, the sink is let go, the directory is free
    /// for another process. Later submissions are refused.
    pub fn close(&self) {
        self.core.pending.lock().stop = true;
        self.core.wake.notify_all();
        let mut threads = self.threads.lock();
        // The writer's end closes the workers' channels.
        for thread in threads
            .writer
            .take()
            .into_iter()
            .chain(threads.appliers.drain(..))
        {
            if thread.join().is_err() {
                tracing::error!("a thread of the durable backend panicked");
            }
        }
        if let Some(keeper) = threads.keeper.take() {
            // It may have ended already.
            let _ = self.orders.send(Order::Stop);
            if keeper.join().is_err() {
                tracing::error!("a thread of the durable backend panicked");
            }
        }
        drop(threads);
        let sink = self.core.sink.write().take();
        drop(sink);
        self.lock.lock().take();
    }
}

impl Drop for NodeStore {
    fn drop(&mut self) {
        self.close();
    }
}

fn owed(duty: u64, what: &Duty) -> Effect {
    match what {
        Duty::Will { client_id, message } => Effect::Will {
            client_id: client_id.clone(),
            message: message.clone(),
            duty,
        },
        Duty::HandBack { client_id, shared } => Effect::Ended {
            client_id: client_id.clone(),
            // No connection of this node has it.
            epoch: u64::MAX,
            slot: u32::MAX,
            shared: shared.clone(),
            duty: Some(duty),
            undelivered: 0,
        },
    }
}

impl DurableStore for NodeStore {
    fn shards(&self) -> u16 {
        self.core.groups.sessions
    }

    fn submit(
        &self,
        shard: u16,
        entries: Vec<SessionEntry>,
        stall: Option<&Arc<Completion>>,
    ) -> Submitted {
        let stalled = self.core.weigh(shard, &entries, stall);
        let done = Completion::new(1);
        let work = Work::Session(entries);
        let keep = work.must_be_kept();
        self.core.push(
            shard,
            Submission {
                work,
                done: Some(done.clone()),
                open: None,
                keep,
            },
        );
        Submitted {
            ticket: Ticket::on(done),
            stalled,
        }
    }

    fn submit_all(
        &self,
        batches: Batches,
        stall: &Arc<Completion>,
        stalled: &mut dyn FnMut(u16),
    ) -> Ticket {
        let done = Completion::new(batches.len() as u32);
        let mut encoded = Vec::with_capacity(batches.len());
        let mut keep = false;
        for (shard, entries) in batches {
            if self.core.weigh(shard, &entries, Some(stall)) {
                stalled(shard);
            }
            let work = Work::Session(entries);
            keep |= work.must_be_kept();
            let mut bytes = Vec::new();
            work.encode(&mut bytes);
            encoded.push((shard, bytes, work));
        }
        let submissions = encoded.into_iter().map(|(shard, bytes, work)| {
            let submission = Submission {
                work,
                done: Some(done.clone()),
                open: None,
                keep,
            };
            (shard, bytes, submission)
        });
        // One lock for all of them: the writer takes them together, into one batch of the log.
        let mut pending = self.core.pending.lock();
        if pending.failed || pending.stop {
            drop(pending);
            for (shard, _, submission) in submissions {
                self.core.refused(shard, &submission);
                submission.refuse(ReasonCode::ServerUnavailable);
            }
            return Ticket::on(done);
        }
        let mut wake = false;
        for (shard, bytes, submission) in submissions {
            wake |= pending.push(shard, &bytes, submission);
        }
        drop(pending);
        if wake {
            self.core.wake.notify_one();
        }
        Ticket::on(done)
    }

    fn is_full(&self, shard: u16, entry: &SessionEntry, ahead: usize) -> bool {
        let group = &self.core.sessions[usize::from(shard)];
        let ahead = ahead + group.unapplied.load(Ordering::Acquire);
        group.state.lock().shard.would_reject(entry, ahead)
    }

    fn open(&self, open: Open) -> (Ticket, OpenReply) {
        let reply = OpenReply::default();
        let shard = self.shard_of(&open.client_id);
        let group = &self.core.sessions[usize::from(shard)];
        let needed =
            self.is_opening(shard, &open.client_id) || group.state.lock().shard.needs_entry(&open);
        if !needed {
            reply.set(Opened::default());
            return (Ticket::DONE, reply);
        }
        *group
            .opening
            .lock()
            .entry(open.client_id.clone())
            .or_insert(0) += 1;
        let done = Completion::new(1);
        self.core.push(
            shard,
            Submission {
                work: Work::Session(vec![SessionEntry::Open(Box::new(open))]),
                done: Some(done.clone()),
                open: Some(reply.clone()),
                keep: false,
            },
        );
        (Ticket::on(done), reply)
    }

    fn stream(&self, client_id: &str, epoch: u64, handle: &Arc<SessionHandle>) {
        let group = &self.core.sessions[usize::from(self.shard_of(client_id))];
        let mut state = group.state.lock();
        let state = &mut *state;
        if let Some(slot) = state.shard.slot(client_id) {
            let maybe_sent = state.shard.maybe_sent(slot);
            state.streams.open(slot, epoch, handle.clone(), maybe_sent);
        }
    }

    fn grant(&self, client_id: &str, epoch: u64, credit: u32, now: Timestamp) {
        let shard = self.shard_of(client_id);
        let group = &self.core.sessions[usize::from(shard)];
        let mut wakers = Vec::new();
        let mut expired = None;
        {
            let mut state = group.state.lock();
            let state = &mut *state;
            if let Some(slot) = state.shard.slot(client_id) {
                state.streams.grant(slot, epoch, credit);
                let acks = state.streams.pump(&state.shard, slot, now, &mut wakers);
                if !acks.is_empty()
                    && let Some((client_id, epoch)) = state.shard.owner(slot)
                {
                    expired = Some(SessionEntry::Acks {
                        client_id: client_id.clone(),
                        epoch,
                        acks,
                    });
                }
            }
        }
        wakers.into_iter().for_each(std::task::Waker::wake);
        if let Some(expired) = expired {
            self.core.submit_own(shard, vec![expired]);
        }
    }

    fn give_up(&self, shard: u16, completion: &Arc<Completion>) {
        let group = &self.core.sessions[usize::from(shard)];
        group.state.lock().streams.give_up(completion);
        group
            .waiting
            .lock()
            .retain(|waiting| !Arc::ptr_eq(waiting, completion));
    }

    fn retain(&self, entry: RetainedEntry) -> Ticket {
        let number = match &entry {
            RetainedEntry::Set(message) => self.core.retained_group(message.topic()),
            RetainedEntry::Remove(topic) => self.core.retained_group(topic),
            RetainedEntry::Tick { now } => {
                self.tick_retained(*now, true);
                return Ticket::DONE;
            }
        };
        let done = Completion::new(1);
        self.core.retained[usize::from(number)]
            .unapplied
            .fetch_add(1, Ordering::AcqRel);
        self.core.push(
            self.core.groups.retained(number),
            Submission {
                work: Work::Retained(entry),
                done: Some(done.clone()),
                open: None,
                keep: false,
            },
        );
        Ticket::on(done)
    }

    fn retained_barrier(&self) -> Ticket {
        let busy: Vec<u16> = (0..self.core.groups.retained)
            .filter(|number| {
                let group = &self.core.retained[usize::from(*number)];
                group.unapplied.load(Ordering::Acquire) > 0
            })
            .collect();
        if busy.is_empty() {
            return Ticket::DONE;
        }
        let done = Completion::new(busy.len() as u32);
        for number in busy {
            self.core.push(
                self.core.groups.retained(number),
                Submission {
                    work: Work::Barrier,
                    done: Some(done.clone()),
                    open: None,
                    keep: false,
                },
            );
        }
        Ticket::on(done)
    }

    fn read_retained(&self, filter: &str, now: Timestamp, each: &mut dyn FnMut(&Message)) {
        if !nightjar_broker::filter_index::is_wild(filter) {
            let number = self.core.retained_group(filter);
            let state = self.core.retained[usize::from(number)].state.read();
            if let Some(message) = state.0.get(filter, now) {
                each(message);
            }
            return;
        }
        for group in &self.core.retained {
            group.state.read().0.read(filter, now, each);
        }
    }

    fn retained_size(&self) -> (usize, usize) {
        self.core
            .retained
            .iter()
            .fold((0, 0), |(len, bytes), group| {
                let state = group.state.read();
                (len + state.0.len(), bytes + state.0.bytes())
            })
    }

    fn sessions(&self) -> usize {
        let groups = self.core.sessions.iter();
        groups
            .map(|group| group.state.lock().shard.sessions())
            .sum()
    }

    fn queue_len(&self, client_id: &str) -> Option<(usize, u64)> {
        let group = &self.core.sessions[usize::from(self.shard_of(client_id))];
        group.state.lock().shard.queue_len(client_id)
    }

    fn tick(&self, now: Timestamp) {
        for (number, group) in self.core.sessions.iter().enumerate() {
            let due = group.state.lock().shard.is_due(now);
            if due && !group.ticking.swap(true, Ordering::AcqRel) {
                self.core
                    .submit_own(number as u16, vec![SessionEntry::Tick { now }]);
            }
        }
        self.tick_retained(now, false);
    }
}

impl NodeStore {
    fn tick_retained(&self, now: Timestamp, force: bool) {
        for (number, group) in self.core.retained.iter().enumerate() {
            let due = force || group.state.read().0.is_due(now);
            if due && !group.ticking.swap(true, Ordering::AcqRel) {
                group.unapplied.fetch_add(1, Ordering::AcqRel);
                self.core.push(
                    self.core.groups.retained(number as u16),
                    Submission {
                        work: Work::Retained(RetainedEntry::Tick { now }),
                        done: None,
                        open: None,
                        keep: false,
                    },
                );
            }
        }
    }
}
