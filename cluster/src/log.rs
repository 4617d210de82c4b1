//! The log of all groups: one file sequence, one sync for what all groups append at once.
//!
//! [`GroupLog`] is what the store needs of a log whose leader is this node: with one voter an entry is committed when
//! it is synced. Each entry keeps the term it was proposed in and each group its vote, so that a consensus of several
//! voters can take the same log over.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use protobuf::well_known_types::BytesValue;
use raft_engine::env::{DefaultFileSystem, FileSystem};
use raft_engine::{Config, Engine, LogBatch, MessageExt, ReadableSize, RecoveryMode};

use crate::dir::patiently;
use crate::error::Error;
use crate::watched::{Trouble, Watched};

/// Bytes before an entry's content: index (8) and term (4), little endian.
pub(crate) const HEAD: usize = 12;

/// The term of a node that is the only voter.
pub(crate) const TERM: u32 = 1;

const META_REGION: u64 = 1;
const SESSION_REGIONS: u64 = 0x1000;
const RETAINED_REGIONS: u64 = 0x2000;

/// The groups of a node, numbered: sessions first, then retained, then meta.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Groups {
    pub sessions: u16,
    pub retained: u16,
}

impl Groups {
    pub const fn count(self) -> usize {
        self.sessions as usize + self.retained as usize + 1
    }

    pub const fn retained(self, number: u16) -> u16 {
        self.sessions + number
    }

    pub const fn meta(self) -> u16 {
        self.sessions + self.retained
    }

    pub fn region(self, group: u16) -> u64 {
        if group < self.sessions {
            SESSION_REGIONS + u64::from(group)
        } else if group < self.meta() {
            RETAINED_REGIONS + u64::from(group - self.sessions)
        } else {
            META_REGION
        }
    }

    /// The group of a region.
    pub fn of_region(self, region: u64) -> Option<u16> {
        let (first, count, base) = match region {
            META_REGION => return Some(self.meta()),
            _ if is_retained_region(region) => (RETAINED_REGIONS, self.retained, self.sessions),
            _ => (SESSION_REGIONS, self.sessions, 0),
        };
        let number = u16::try_from(region.checked_sub(first)?).ok()?;
        (number < count).then_some(base + number)
    }

    /// The group in words.
    pub fn name(self, group: u16) -> String {
        name_of_region(self.region(group))
    }
}

pub(crate) fn name_of_region(region: u64) -> String {
    match region {
        META_REGION => "the meta group".to_owned(),
        _ if region >= RETAINED_REGIONS => format!("retained group {}", region - RETAINED_REGIONS),
        _ => format!("session group {}", region.saturating_sub(SESSION_REGIONS)),
    }
}

pub(crate) const fn is_session_region(region: u64) -> bool {
    region >= SESSION_REGIONS && region < RETAINED_REGIONS
}

pub(crate) const fn is_retained_region(region: u64) -> bool {
    region >= RETAINED_REGIONS
}

/// One entry of one group. `bytes` begins with 12 bytes (index and term) that the log fills in.
#[derive(Debug)]
pub struct GroupEntry {
    /// Number of the group.
    pub group: u16,
    /// Index: one more than the group's last.
    pub index: u64,
    /// The entry.
    pub bytes: Vec<u8>,
}

/// Takes the index and the content of an entry.
pub type EachEntry<'a> = dyn FnMut(u64, &[u8]) -> Result<(), Error> + 'a;

/// A log of numbered groups.
pub trait GroupLog: Send + Sync {
    /// Appends entries of several groups as one batch, found again whole or not at all; with `sync`, they and all
    /// before them are on the disk when this returns.
    ///
    /// # Errors
    /// [`Error::Full`] and other refusals of a write: nothing of the batch is kept. [`Error::Failed`]: a sync failed,
    /// and nothing more is taken.
    fn append(&self, entries: Vec<GroupEntry>, sync: bool) -> Result<(), Error>;

    /// Syncs everything appended so far.
    ///
    /// # Errors
    /// As [`Self::append`].
    fn sync(&self) -> Result<(), Error>;

    /// First and last index of a group that the log still holds.
    fn span(&self, group: u16) -> Option<(u64, u64)>;

    /// Calls `each` with the index and the content (without the head) of every entry from `from` on.
    ///
    /// # Errors
    /// What cannot be read, and what `each` returns.
    fn read(&self, group: u16, from: u64, each: &mut EachEntry<'_>) -> Result<(), Error>;

    /// Entries of a group before `index` are not needed any more.
    ///
    /// # Errors
    /// A refused write.
    fn compact(&self, group: u16, index: u64) -> Result<(), Error>;

    /// Removes files that nothing needs.
    ///
    /// # Errors
    /// Those of the disk.
    fn purge(&self) -> Result<(), Error>;
}

/// [`GroupLog`] on raft-engine.
pub struct RaftLog<F: FileSystem = DefaultFileSystem> {
    /// `None` only while it is dropped.
    engine: Option<Engine<Watched<F>>>,
    trouble: Trouble,
    groups: Groups,
    syncs: AtomicU64,
    failed: AtomicBool,
}

impl<F: FileSystem> std::fmt::Debug for RaftLog<F> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("RaftLog")
            .field("groups", &self.groups)
            .finish_non_exhaustive()
    }
}

struct RawEntry;

impl MessageExt for RawEntry {
    type Entry = BytesValue;

    fn index(entry: &BytesValue) -> u64 {
        entry
            .value
            .get(..8)
            .and_then(|bytes| bytes.try_into().ok())
            .map_or(0, u64::from_le_bytes)
    }
}

const HARD_STATE: &[u8] = b"hard-state";
const SYNCED: &[u8] = b"synced";

/// Entries are read in pieces of this size.
const READ: usize = 8 << 20;

impl<F: FileSystem> RaftLog<F> {
    /// Opens or makes the log. Damage must have been looked for before: what the engine takes for a torn end it cuts
    /// off.
    pub(crate) fn open(
        dir: &Path,
        groups: Groups,
        file_size: u64,
        fs: Arc<F>,
    ) -> Result<Self, Error> {
        let config = Config {
            dir: dir
                .to_str()
                .ok_or_else(|| Error::Log(format!("{} is not UTF-8", dir.display())))?
                .to_owned(),
            recovery_mode: RecoveryMode::TolerateTailCorruption,
            recovery_threads: 2,
            batch_compression_threshold: ReadableSize(0),
            target_file_size: ReadableSize(file_size),
            // The store says when to purge, after its snapshots: then everything before them goes.
            purge_threshold: ReadableSize(file_size),
            purge_rewrite_threshold: Some(ReadableSize(file_size)),
            ..Config::default()
        };
        let fs = Arc::new(Watched::new(fs));
        let trouble = fs.trouble.clone();
        // The engine has a lock of its own, which may outlive a process that was started or killed by a moment; that
        // nobody else uses the directory is known by then.
        let open = || {
            catch_unwind(AssertUnwindSafe(|| {
                Engine::open_with_file_system(config.clone(), fs.clone())
            }))
        };
        let locked = |opened: &std::thread::Result<Result<Engine<_>, raft_engine::Error>>| matches!(opened, Ok(Err(error)) if error.to_string().contains("Failed to lock file"));
        let engine = patiently(open, locked).map_err(|_| {
            Error::Log("it cannot be put together: entries are missing".to_owned())
        })??;
        let log = Self {
            engine: Some(engine),
            trouble,
            groups,
            syncs: AtomicU64::new(0),
            failed: AtomicBool::new(false),
        };
        log.vote()?;
        Ok(log)
    }

    /// Writes the vote of each group where it is missing: this node for itself.
    fn vote(&self) -> Result<(), Error> {
        let mut batch = LogBatch::default();
        let engine = self.engine();
        for group in 0..self.groups.count() as u16 {
            let region = self.groups.region(group);
            if engine.get(region, HARD_STATE).is_none() {
                batch.put(region, HARD_STATE.to_vec(), TERM.to_le_bytes().to_vec())?;
            }
        }
        if batch.is_empty() {
            return Ok(());
        }
        self.write(&mut batch, true)
    }

    fn engine(&self) -> &Engine<Watched<F>> {
        self.engine
            .as_ref()
            .expect("the engine is there until the log is dropped")
    }

    fn write(&self, batch: &mut LogBatch, sync: bool) -> Result<(), Error> {
        if self.failed.load(Ordering::Acquire) {
            return Err(Error::Failed);
        }
        let written = catch_unwind(AssertUnwindSafe(|| self.engine().write(batch, sync)));
        self.judge(written.map(|written| written.map(drop)))
    }

    /// How it went, unless a sync failed meanwhile: pages that could not be written may be dropped by the kernel, so that
    /// no later sync means anything.
    fn judge(
        &self,
        done: std::thread::Result<Result<(), raft_engine::Error>>,
    ) -> Result<(), Error> {
        let trouble = self.trouble.get();
        match done {
            Ok(done) if trouble.is_none() => done.map_err(Error::from),
            _ => {
                if !self.failed.swap(true, Ordering::AcqRel) {
                    let what =
                        trouble.unwrap_or_else(|| "the engine of the log gave up".to_owned());
                    tracing::error!(
                        "the disk failed: {what}; nothing is acknowledged until a restart"
                    );
                }
                Err(Error::Failed)
            }
        }
    }
}

impl<F: FileSystem> Drop for RaftLog<F> {
    fn drop(&mut self) {
        if let Some(engine) = self.engine.take()
            && self.failed.load(Ordering::Acquire)
        {
            // What it does at its end might panic again.
            std::mem::forget(engine);
        }
    }
}

impl<F: FileSystem> GroupLog for RaftLog<F> {
    fn append(&self, entries: Vec<GroupEntry>, sync: bool) -> Result<(), Error> {
        let size: usize = entries.iter().map(|entry| entry.bytes.len() + 8).sum();
        let mut batch = LogBatch::with_capacity(entries.len());
        if size > i32::MAX as usize {
            return Err(Error::Log("a batch is larger than 2 GiB".to_owned()));
        }
        for mut entry in entries {
            entry.bytes[..8].copy_from_slice(&entry.index.to_le_bytes());
            entry.bytes[8..HEAD].copy_from_slice(&TERM.to_le_bytes());
            let mut raw = BytesValue::new();
            raw.value = entry.bytes;
            batch.add_entries::<RawEntry>(self.groups.region(entry.group), &[raw])?;
        }
        self.write(&mut batch, sync)
    }

    fn sync(&self) -> Result<(), Error> {
        // The engine syncs only with something to write.
        let count = self.syncs.fetch_add(1, Ordering::Relaxed);
        let mut batch = LogBatch::default();
        let region = self.groups.region(self.groups.meta());
        batch.put(region, SYNCED.to_vec(), count.to_le_bytes().to_vec())?;
        self.write(&mut batch, true)
    }

    fn span(&self, group: u16) -> Option<(u64, u64)> {
        let region = self.groups.region(group);
        Some((
            self.engine().first_index(region)?,
            self.engine().last_index(region)?,
        ))
    }

    fn read(&self, group: u16, from: u64, each: &mut EachEntry<'_>) -> Result<(), Error> {
        let Some((first, last)) = self.span(group) else {
            return Ok(());
        };
        let region = self.groups.region(group);
        let mut next = from.max(first);
        let mut entries: Vec<BytesValue> = Vec::new();
        while next <= last {
            entries.clear();
            self.engine().fetch_entries_to::<RawEntry>(
                region,
                next,
                last + 1,
                Some(READ),
                &mut entries,
            )?;
            for entry in &entries {
                let index = RawEntry::index(entry);
                let content = entry.value.get(HEAD..).filter(|_| index == next);
                let Some(content) = content else {
                    let name = self.groups.name(group);
                    return Err(Error::Log(format!("entry {next} of {name} is missing")));
                };
                each(index, content)?;
                next += 1;
            }
            if entries.is_empty() {
                let name = self.groups.name(group);
                return Err(Error::Log(format!("entry {next} of {name} is missing")));
            }
        }
        Ok(())
    }

    fn compact(&self, group: u16, index: u64) -> Result<(), Error> {
        let mut batch = LogBatch::default();
        batch.add_command(
            self.groups.region(group),
            raft_engine::Command::Compact { index },
        );
        self.write(&mut batch, false)
    }

    fn purge(&self) -> Result<(), Error> {
        if self.failed.load(Ordering::Acquire) {
            return Err(Error::Failed);
        }
        let purged = catch_unwind(AssertUnwindSafe(|| self.engine().purge_expired_files()));
        self.judge(purged.map(|purged| purged.map(drop)))
    }
}

/// Where the log's damaged or later files go when a loss is accepted.
pub(crate) fn lost_dir(log: &Path) -> PathBuf {
    log.with_file_name("lost")
}
