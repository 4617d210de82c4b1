//! The writer: one thread that takes what waits in all groups, appends it as one batch, syncs once and hands it on
//! to be applied. While it syncs, the next batch gathers: the more there is to do, the less a sync costs each.

use std::collections::HashSet;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::sync::mpsc::Sender;
use std::time::{Duration, Instant};

use nightjar_mqtt::{ReasonCode, TopicName};

use crate::config::Durability;
use crate::error::Error;
use crate::inner::Core;
use crate::log::{GroupEntry, GroupLog};
use crate::pending::{GroupPending, Submission};

/// Appended entries of one group, to be applied.
pub(crate) struct Batch {
    pub group: u16,
    /// Index of the entry; `None` if there was nothing to write (barriers).
    pub index: Option<u64>,
    pub submissions: Vec<Submission>,
    /// Submitted on this node, in this life of it: what was counted for it here is taken back.
    pub own: bool,
}

/// With `durability = "async"`: so often the log is synced.
const ASYNC_SYNC: Duration = Duration::from_millis(100);

/// After a refused write (disk full), what must be kept is tried again so often.
const RETRY: Duration = Duration::from_millis(200);

pub(crate) struct Writer {
    pub core: Arc<Core>,
    pub log: Arc<dyn GroupLog>,
    pub appliers: Vec<Sender<Batch>>,
    /// Last index of each group.
    pub last: Vec<u64>,
}

impl Writer {
    pub fn run(mut self) {
        let relaxed = self.core.durability == Durability::Async;
        let mut unsynced: Option<Instant> = None;
        loop {
            let round = {
                let mut pending = self.core.pending.lock();
                loop {
                    if !pending.is_empty() || pending.stop {
                        break;
                    }
                    match unsynced {
                        None => self.core.wake.wait(&mut pending),
                        Some(since) => {
                            let until = since + ASYNC_SYNC;
                            if self.core.wake.wait_until(&mut pending, until).timed_out() {
                                break;
                            }
                        }
                    }
                }
                if pending.stop && pending.is_empty() {
                    break;
                }
                pending.take()
            };
            let due = unsynced.is_some_and(|since| since.elapsed() >= ASYNC_SYNC);
            let sync = !relaxed || due;
            if round.is_empty() {
                match self.log.sync() {
                    Ok(()) => self.synced(),
                    Err(error) => self.fail(&error),
                }
                unsynced = None;
                continue;
            }
            if self.append(round, sync) {
                if sync {
                    unsynced = None;
                    self.synced();
                } else {
                    unsynced.get_or_insert_with(Instant::now);
                }
            }
        }
        if unsynced.is_some() {
            match self.log.sync() {
                Ok(()) => self.synced(),
                Err(error) => self.fail(&error),
            }
        }
    }

    /// Everything appended so far is on the disk.
    fn synced(&self) {
        for (synced, last) in self.core.synced.iter().zip(&self.last) {
            synced.store(*last, Ordering::Release);
        }
    }

    fn append(&mut self, mut round: Vec<(u16, GroupPending)>, sync: bool) -> bool {
        let newer = self.leave_out_late_wills(&mut round);
        let mut size = 0;
        let mut entries = Vec::with_capacity(round.len());
        for (group, pending) in &mut round {
            if pending.bytes.is_empty() {
                continue;
            }
            size += pending.bytes.len() as u64;
            entries.push(GroupEntry {
                group: *group,
                index: self.last[usize::from(*group)] + 1,
                bytes: std::mem::take(&mut pending.bytes),
            });
        }
        let written: Vec<u16> = entries.iter().map(|entry| entry.group).collect();
        if !entries.is_empty()
            && let Err(error) = self.log.append(entries, sync)
        {
            self.refuse(round, &error);
            return false;
        }
        self.core.supersede_wills(&newer);
        self.core.written.fetch_add(size, Ordering::Relaxed);
        for group in &written {
            self.last[usize::from(*group)] += 1;
        }
        for (group, pending) in round {
            let index = written
                .contains(&group)
                .then(|| self.last[usize::from(group)]);
            let batch = Batch {
                group,
                index,
                submissions: pending.submissions,
                own: true,
            };
            let applier = &self.appliers[usize::from(group) % self.appliers.len()];
            if applier.send(batch).is_err() {
                return false; // Workers live longer than the writer, except when one panicked.
            }
        }
        !written.is_empty()
    }

    /// What replaces a will that is due, when this round is written; a will that is replaced already is not.
    fn leave_out_late_wills(&self, round: &mut [(u16, GroupPending)]) -> HashSet<TopicName> {
        let submissions = round.iter_mut().flat_map(|(_, it)| &mut it.submissions);
        let newer = self.core.find_late_wills(submissions);
        for (_, pending) in round {
            if pending.submissions.iter().any(|it| !it.late.is_empty()) {
                pending.leave_out_late();
            }
        }
        newer
    }

    /// The log took nothing of this round: whoever waits is told, what must be kept is tried again.
    fn refuse(&self, round: Vec<(u16, GroupPending)>, error: &Error) {
        if matches!(error, Error::Failed) {
            self.fail(error);
        } else {
            tracing::error!(%error, "the log refused a batch: nothing of it is acknowledged");
        }
        let failed = matches!(error, Error::Failed);
        let code = if failed {
            ReasonCode::ServerUnavailable
        } else {
            ReasonCode::QuotaExceeded
        };
        let mut again = Vec::new();
        for (group, pending) in round {
            for mut submission in pending.submissions {
                // What was newer may have been refused with it.
                submission.late.clear();
                if submission.keep && !failed {
                    again.push((group, submission));
                } else {
                    self.core.refused(group, &submission);
                    submission.refuse(code);
                }
            }
        }
        if again.is_empty() {
            return;
        }
        pause();
        let mut bytes = Vec::new();
        let mut pending = self.core.pending.lock();
        // A stop does not wait for a full disk: what a restart finds open it closes itself. But the last round goes whole or
        // not at all: the end of a duty is not written without what was done for it.
        if pending.stop && pending.is_empty() {
            drop(pending);
            for (group, submission) in again {
                self.core.refused(group, &submission);
                submission.refuse(code);
            }
            return;
        }
        for (group, submission) in again {
            bytes.clear();
            submission.work.encode(&mut bytes);
            pending.push(group, &bytes, submission);
        }
    }

    fn fail(&self, error: &Error) {
        tracing::error!(%error, "the log cannot be synced: nothing more is acknowledged");
        self.core.pending.lock().failed = true;
    }
}

#[allow(
    clippy::disallowed_methods,
    reason = "the writer's own thread: while the disk takes nothing there is nothing else to do"
)]
fn pause() {
    std::thread::sleep(RETRY);
}
