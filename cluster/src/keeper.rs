//! The keeper: one thread that writes the durable mark each second and, when the log has grown enough, a snapshot of
//! every group, after which the log before them goes.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::time::Duration;

use nightjar_broker::Timestamp;
use nightjar_broker::shard::{Holder, Place, SessionShard};

use crate::backup::Writer;
use crate::bodies::{self, Bodies, Source};
use crate::config::Durability;
use crate::dir::Identity;
use crate::error::Error;
use crate::files::Files;
use crate::frozen::FrozenGroup;
use crate::inner::Core;
use crate::leisure;
use crate::log::{GroupLog, Groups};
use crate::mark::Mark;
use crate::snapshot;

/// A smaller file of bodies is not worth emptying.
const SMALL: u64 = 4 << 20;
/// A file with fewer messages than one in so many bytes is emptied.
const RARE: u64 = 16 << 10;

/// What the keeper is asked.
pub(crate) enum Order {
    /// Snapshot of every group now; the answer goes back.
    Snapshot(std::sync::mpsc::SyncSender<Result<(), Error>>),
    /// A backup into this file; what it holds goes back.
    Backup(
        PathBuf,
        std::sync::mpsc::SyncSender<Result<crate::Backup, Error>>,
    ),
    /// The store closes.
    Stop,
}

/// The mark is written so often if something was acknowledged since.
const MARK: Duration = Duration::from_secs(1);
/// While nothing happens, the time of life is noted every so many of those, unsynced.
const ALIVE: u32 = 5;

pub(crate) struct Keeper {
    pub core: Arc<Core>,
    pub log: Arc<dyn GroupLog>,
    pub files: Arc<dyn Files>,
    pub mark: Mark,
    pub mark_path: PathBuf,
    pub identity: Identity,
    pub snapshots: PathBuf,
    pub bodies: PathBuf,
    /// Log bytes after which snapshots are written, unless the state itself is larger: then they wait for as much
    /// log, so that snapshots never write more than the log does.
    pub log_limit: u64,
    /// Size of the last snapshots.
    pub state_bytes: u64,
}

impl Keeper {
    pub fn run(mut self, orders: &Receiver<Order>) {
        let mut idle = 0;
        loop {
            let order = orders.recv_timeout(MARK);
            match order {
                Ok(Order::Stop) | Err(RecvTimeoutError::Disconnected) => break,
                Ok(Order::Snapshot(answer)) => {
                    // Whoever asked may have gone.
                    let _ = answer.send(self.snapshot_all());
                    continue;
                }
                Ok(Order::Backup(path, answer)) => {
                    let _ = answer.send(self.backup(&path));
                    continue;
                }
                Err(RecvTimeoutError::Timeout) => {}
            }
            idle += 1;
            if self.is_behind() || idle >= ALIVE {
                idle = 0;
                self.note();
            }
            if self.core.written.load(Ordering::Relaxed) >= self.log_limit.max(self.state_bytes)
                && let Err(error) = self.snapshot_all()
            {
                tracing::error!(%error, "snapshots failed; the log grows on");
            }
        }
        // The writer has ended: this is the last word on how far the log reaches.
        self.note();
    }

    fn is_behind(&self) -> bool {
        let synced = self.core.synced.iter();
        synced
            .zip(&self.mark.indexes)
            .any(|(synced, marked)| synced.load(Ordering::Acquire) > *marked)
    }

    fn note(&mut self) {
        let behind = self.is_behind();
        self.mark.alive = self.mark.alive.max(Timestamp::now());
        self.mark.relaxed = self.core.durability == Durability::Async;
        for (marked, synced) in self.mark.indexes.iter_mut().zip(&self.core.synced) {
            *marked = (*marked).max(synced.load(Ordering::Acquire));
        }
        if let Err(error) = self.mark.write(&self.mark_path, &*self.files, behind) {
            tracing::error!(%error, "damage to the end of the log may go unnoticed");
        }
    }

    /// Writes the state of all groups at one point into one file. Other snapshots wait meanwhile.
    fn backup(&self, path: &Path) -> Result<crate::Backup, Error> {
        let (to, parts) = std::sync::mpsc::channel();
        self.core.cut(&to)?;
        drop(to);
        let groups = self.core.groups;
        let mut out = Writer::create(path, &self.identity, groups, Timestamp::now())?;
        for _ in 0..groups.count() {
            // A refused batch takes its cuts along.
            let part = parts.recv().map_err(|_| Error::Full)?;
            leisure::run_here(|| out.part(&part.into_part()))
                .map_err(Error::io(path, "no thread can be started"))??;
        }
        out.finish()
    }

    fn snapshot_all(&mut self) -> Result<(), Error> {
        let before = self.core.written.load(Ordering::Relaxed);
        let groups = self.core.groups;
        let mut written = 0;
        for group in 0..groups.count() as u16 {
            let (index, known, state) = self.core.freeze_known(group);
            // Encoded by a thread that gives way; it holds no lock, which others would wait for with it.
            let no_thread = Error::io(&self.snapshots, "no thread can be started");
            let parts = leisure::run_here(|| state.into_parts()).map_err(no_thread)?;
            written += parts.iter().map(|part| part.len() as u64).sum::<u64>();
            if index == 0
                || index <= self.core.snapshots[usize::from(group)].load(Ordering::Acquire)
            {
                continue;
            }
            if self.core.durability == Durability::Async {
                // A snapshot must not know more than the log.
                self.log.sync()?;
            }
            if let Some(known) = &known {
                bodies::sync(&self.bodies, &known.unsynced)?;
            }
            snapshot::write(&self.snapshots, &*self.files, groups, group, index, &parts)?;
            self.core.snapshots[usize::from(group)].store(index, Ordering::Release);
            self.log.compact(group, index + 1)?;
            if let Some(known) = known {
                for path in self.core.forget_bodies(group, &known) {
                    self.files
                        .remove(&path)
                        .map_err(Error::io(&path, "cannot be removed"))?;
                }
            }
        }
        self.log.purge()?;
        self.core.written.fetch_sub(before, Ordering::Relaxed);
        self.state_bytes = written;
        Ok(())
    }
}

/// What a snapshot of a session group knows of files of bodies.
pub(crate) struct KnownBodies {
    /// To be synced first.
    unsynced: Vec<(u32, Source)>,
    /// Those it refers to.
    needed: BTreeSet<u32>,
    /// Later files have this number or a higher one.
    next: u32,
}

impl Core {
    /// The state of a group as it is now; the index of the last entry in it, and what it needs of files of bodies.
    fn freeze_known(&self, group: u16) -> (u64, Option<KnownBodies>, FrozenGroup) {
        let Groups { sessions, .. } = self.groups;
        if group < sessions {
            let mut state = self.sessions[usize::from(group)].state.lock();
            let state = &mut *state;
            let needed = gather(&mut state.shard, &state.bodies);
            state.bodies.retire(&needed);
            let known = KnownBodies {
                unsynced: state.bodies.unsynced(),
                needed,
                next: state.bodies.next(),
            };
            let frozen = FrozenGroup::Sessions(state.shard.freeze());
            (state.applied, Some(known), frozen)
        } else if group < self.groups.meta() {
            let state = self.retained[usize::from(group - sessions)].state.read();
            (state.1, None, FrozenGroup::Retained(state.0.freeze()))
        } else {
            let state = self.meta.read();
            (state.1, None, FrozenGroup::of_meta(&state.0))
        }
    }

    /// After a snapshot stands: files that neither it nor a queue refers to may go.
    fn forget_bodies(&self, group: u16, known: &KnownBodies) -> Vec<PathBuf> {
        let mut state = self.sessions[usize::from(group)].state.lock();
        for (number, source) in &known.unsynced {
            state.bodies.note_synced(*number, source.len);
        }
        state.bodies.forget(known.next, &known.needed)
    }
}

/// The files that a shard refers to. Those of which little is left are emptied: what is left comes back into memory
/// and goes to a new file with the next sweep.
fn gather(shard: &mut SessionShard, bodies: &Bodies) -> BTreeSet<u32> {
    let mut found: BTreeMap<u32, Vec<(Holder, u64, Place)>> = BTreeMap::new();
    shard.places(&mut |holder, seq, place| {
        found
            .entry(place.file)
            .or_default()
            .push((holder, seq, place));
    });
    found.retain(|number, items| {
        let Ok(source) = bodies.source(*number) else {
            return true;
        };
        items.sort_by_key(|(_, _, place)| place.offset);
        let mut offsets: Vec<(u32, u32)> = items
            .iter()
            .map(|(_, _, place)| (place.offset, 0))
            .collect();
        offsets.dedup();
        // Records are of about the same size: so many of so few bytes are little.
        if source.len < SMALL || (offsets.len() as u64) * RARE > source.len {
            return true;
        }
        let read = source.read(&offsets);
        if read.iter().any(Result::is_err) {
            // It stays where it is, to be named when it is asked for.
            return true;
        }
        let mut messages = offsets.iter().zip(read.into_iter().flatten()).peekable();
        for (holder, seq, place) in items {
            while messages
                .peek()
                .is_some_and(|((offset, _), _)| *offset < place.offset)
            {
                messages.next();
            }
            if let Some((_, message)) = messages.peek() {
                shard.bring_back(*holder, *seq, *place, message.clone());
            }
        }
        false
    });
    found.into_keys().collect()
}
