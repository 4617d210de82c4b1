//! The keeper: one thread that writes the durable mark each second and, when the log has grown enough, a snapshot of
//! every group, after which the log before them goes.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::time::Duration;

use nightjar_broker::Timestamp;

use crate::config::Durability;
use crate::error::Error;
use crate::files::Files;
use crate::inner::Core;
use crate::log::{GroupLog, Groups};
use crate::mark::Mark;
use crate::snapshot;

/// What the keeper is asked.
pub(crate) enum Order {
    /// Snapshot of every group now; the answer goes back.
    Snapshot(std::sync::mpsc::SyncSender<Result<(), Error>>),
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
    pub snapshots: PathBuf,
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

    fn snapshot_all(&mut self) -> Result<(), Error> {
        let before = self.core.written.load(Ordering::Relaxed);
        let groups = self.core.groups;
        let mut bytes = Vec::new();
        let mut written = 0;
        for group in 0..groups.count() as u16 {
            bytes.clear();
            let index = self.core.encode_group(group, &mut bytes);
            written += bytes.len() as u64;
            if index == 0
                || index <= self.core.snapshots[usize::from(group)].load(Ordering::Acquire)
            {
                continue;
            }
            if self.core.durability == Durability::Async {
                // A snapshot must not know more than the log.
                self.log.sync()?;
            }
            snapshot::write(&self.snapshots, &*self.files, groups, group, index, &bytes)?;
            self.core.snapshots[usize::from(group)].store(index, Ordering::Release);
            self.log.compact(group, index + 1)?;
        }
        self.log.purge()?;
        self.core.written.fetch_sub(before, Ordering::Relaxed);
        self.state_bytes = written;
        Ok(())
    }
}

impl Core {
    /// Encodes the state of a group; the index of the last entry in it.
    pub fn encode_group(&self, group: u16, out: &mut Vec<u8>) -> u64 {
        let Groups { sessions, .. } = self.groups;
        if group < sessions {
            let state = self.sessions[usize::from(group)].state.lock();
            state.shard.encode(out);
            state.applied
        } else if group < self.groups.meta() {
            let state = self.retained[usize::from(group - sessions)].state.read();
            state.0.encode(out);
            state.1
        } else {
            let state = self.meta.read();
            state.0.encode(out);
            state.1
        }
    }
}
