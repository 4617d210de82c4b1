//! [`NodeStore`]: the durable backend of one node.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::sync::mpsc::{Sender, SyncSender, channel, sync_channel};
use std::thread::JoinHandle;

use nightjar_broker::shard::{Body, Close, CloseKind, Duty, Effect, Restored, SessionEntry};
use nightjar_broker::{Completion, DurableStore, EffectSink, Message, Ticket, Timestamp};
use parking_lot::{Condvar, Mutex, RwLock};
use raft_engine::env::FileSystem;

use crate::config::{Disk, StoreConfig};
use crate::error::Error;
use crate::inner::{Core, RetainedGroup, SessionGroup};
use crate::keeper::{Keeper, Order};
use crate::log::GroupLog;
use crate::member::MemberIdentity;
use crate::meta::MetaEntry;
use crate::pending::{Pending, Submission, Work};
use crate::recover::{self, Recovered};
use crate::writer::Writer;

/// The durable backend of one node: a [`DurableStore`] in front of a synced log.
///
/// Open it, build the broker on it, then [`Self::start`] it with that broker as the sink, before the first listener
/// opens, and [`Self::close`] it at the end: the broker holds the store and the store the broker.
pub struct NodeStore {
    pub(crate) core: Arc<Core>,
    pub(crate) recovered: Recovered,
    pub(crate) grace: u32,
    pub(crate) dir: PathBuf,
    pub(crate) orders: SyncSender<Order>,
    pub(crate) threads: Mutex<Threads>,
    pub(crate) lock: Mutex<Option<crate::dir::DataDir>>,
}

#[derive(Default)]
pub(crate) struct Threads {
    pub writer: Option<JoinHandle<()>>,
    pub appliers: Vec<JoinHandle<()>>,
    pub keeper: Option<JoinHandle<()>>,
    pub loader: Option<JoinHandle<()>>,
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
        if MemberIdentity::read(&config.dir)?.is_some() {
            return Err(Error::Member {
                dir: config.dir.clone(),
            });
        }
        let state = recover::open(config, disk)?;
        let groups = state.groups;
        let last = state.last.clone();
        // Only the threads hold the log: their end closes it.
        let log: Arc<dyn GroupLog> = Arc::from(state.log);
        let (loader, wanted) = channel();
        let core = Arc::new(Core {
            groups,
            durability: config.durability,
            memory: config.queue_memory,
            loader: Mutex::new(Some(loader)),
            sessions: state
                .sessions
                .into_iter()
                .map(|(shard, applied, bodies)| SessionGroup::new(shard, applied, bodies))
                .collect(),
            retained: state
                .retained
                .into_iter()
                .map(|(shard, applied)| RetainedGroup::new(shard, applied))
                .collect(),
            meta: RwLock::new(state.meta),
            watchers: RwLock::default(),
            pending: Mutex::new(Pending::new(groups.count())),
            wake: Condvar::new(),
            sink: RwLock::new(None),
            synced: last.iter().map(|last| AtomicU64::new(*last)).collect(),
            snapshots: state.snapshots.into_iter().map(AtomicU64::new).collect(),
            written: AtomicU64::new(state.recovered.log_bytes),
            member: None,
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
        {
            let core = core.clone();
            threads.loader = Some(spawn(
                "bodies".to_owned(),
                Box::new(move || crate::spill::load(&core, &wanted)),
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
            identity: state.dir.identity.clone(),
            snapshots: state.dir.snapshots(),
            bodies: state.dir.bodies(),
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
                let mut state = group.state.lock();
                for filter in state.shard.routes() {
                    sink.effect(number, Effect::RouteAdded(filter));
                }
                let down = self.recovered.alive.max(state.shard.clock()).min(now);
                let grace = u32::try_from(now.since(down) / 1000).unwrap_or(u32::MAX);
                for session in state.shard.restored() {
                    if session.supervision > 0 && (session.connected || session.parked) {
                        closes.push(park_anew(&session, now));
                    } else if session.connected {
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
                let mut waiting = Vec::new();
                for (duty, what) in state.shard.duties() {
                    if what.is_on_disk() {
                        waiting.push(duty);
                    } else {
                        sink.effect(number, owed(duty, what));
                    }
                }
                state.backlog.extend(waiting);
            }
            if !closes.is_empty() {
                self.core.submit_own(number, closes);
            }
        }
        sink.settled();
        // Not before every member of a shared subscription is known again.
        for (number, group) in self.core.sessions.iter().enumerate() {
            self.core.hand_on(number as u16, &mut group.state.lock());
        }
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
                from = item.seq() + 1;
                let message = match item.body() {
                    Body::Disk { place, cost } => {
                        let source = state.bodies.source(place.file);
                        source
                            .ok()
                            .and_then(|source| source.read(&[(place.offset, *cost)]).pop()?.ok())
                    }
                    _ => item.message().cloned(),
                };
                if let Some(message) = message {
                    found.push((item.seq(), message));
                }
            }
        }
        found
    }

    /// Bytes of queued messages in memory, and of the files that hold the others.
    #[must_use]
    pub fn queue_bytes(&self) -> (usize, u64) {
        self.core.sessions.iter().fold((0, 0), |sum, group| {
            let state = group.state.lock();
            (sum.0 + state.shard.held(), sum.1 + state.bodies.bytes())
        })
    }

    /// Writes a snapshot of every group and lets go of the log before it.
    ///
    /// # Errors
    /// Those of the disk.
    pub fn snapshot(&self) -> Result<(), Error> {
        if self.core.member.is_some() {
            return Err(Error::OfCluster);
        }
        let (answer, answered) = sync_channel(1);
        if self.orders.send(Order::Snapshot(answer)).is_err() {
            return Err(Error::Failed);
        }
        answered.recv().unwrap_or(Err(Error::Failed))
    }

    /// Writes a consistent backup of everything into a file while the store serves: what was submitted before is in
    /// it, nothing that was submitted later. The file appears whole or not at all.
    ///
    /// # Errors
    /// The file cannot be written, exists already, or the log takes nothing at the moment.
    pub fn backup(&self, path: &Path) -> Result<crate::Backup, Error> {
        if self.core.member.is_some() {
            return Err(Error::OfCluster);
        }
        let (answer, answered) = sync_channel(1);
        let order = Order::Backup(path.to_owned(), answer);
        if self.orders.send(order).is_err() {
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
                late: Vec::new(),
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

    /// Entries that all groups applied so far: how often anything had to be written.
    #[must_use]
    pub fn entries(&self) -> u64 {
        let core = &self.core;
        let sessions: u64 = core.sessions.iter().map(|it| it.state.lock().applied).sum();
        let retained: u64 = core.retained.iter().map(|it| it.state.read().1).sum();
        sessions + retained + core.meta.read().1
    }

    /// Did a sync fail? Then nothing is acknowledged until a restart.
    #[must_use]
    pub fn has_failed(&self) -> bool {
        self.core.pending.lock().failed
    }

    pub(crate) fn is_opening(&self, group: u16, client_id: &str) -> bool {
        self.core.sessions[usize::from(group)]
            .opening
            .lock()
            .contains_key(client_id)
    }

    /// Epoch and node of a client's connection, as far as this node knows.
    pub(crate) fn connection(&self, client_id: &str) -> Option<(u64, u64)> {
        let group = &self.core.sessions[usize::from(self.shard_of(client_id))];
        group.state.lock().shard.connection(client_id)
    }

    /// Ends the store: what was submitted is written, applied and marked, the sink is let go, the directory is free
    /// for another process. Later submissions are refused.
    pub fn close(&self) {
        self.core.pending.lock().stop = true;
        self.core.wake.notify_all();
        self.core.loader.lock().take();
        // Held to the end: a second call returns when everything has ended.
        let mut guard = self.threads.lock();
        let threads = std::mem::take(&mut *guard);
        // The writer's end closes the workers' channels.
        for thread in threads
            .writer
            .into_iter()
            .chain(threads.appliers)
            .chain(threads.loader)
        {
            if thread.join().is_err() {
                tracing::error!("a thread of the durable backend panicked");
            }
        }
        if let Some(keeper) = threads.keeper {
            // It may have ended already.
            let _ = self.orders.send(Order::Stop);
            if keeper.join().is_err() {
                tracing::error!("a thread of the durable backend panicked");
            }
        }
        drop(guard);
        let sink = self.core.sink.write().take();
        drop(sink);
        // Watchers hold the store too.
        self.core.watchers.write().clear();
        self.lock.lock().take();
    }
}

impl Drop for NodeStore {
    fn drop(&mut self) {
        self.close();
    }
}

/// While the node was down no client could be heard: the countdown of a supervised one begins anew, so that no will is
/// published before its client had its chance.
fn park_anew(session: &Restored, now: Timestamp) -> SessionEntry {
    let (client_id, epoch) = (session.client_id.clone(), session.epoch);
    if session.parked {
        return SessionEntry::Touch {
            client_id,
            epoch,
            now,
        };
    }
    SessionEntry::Close(Close {
        client_id,
        epoch,
        kind: CloseKind::Restart(0),
        expiry: None,
        now,
    })
}

pub(crate) fn owed(duty: u64, what: &Duty) -> Effect {
    match what {
        Duty::Will { client_id, message } => Effect::Will {
            client_id: client_id.clone(),
            message: message.clone(),
            duty,
        },
        Duty::HandBack { client_id, shared } => Effect::HandBack {
            client_id: client_id.clone(),
            shared: shared.clone(),
            duty,
        },
    }
}
