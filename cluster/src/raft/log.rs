//! The log of consensus on raft-engine: one thread appends what waits as one batch, with one sync.

use std::collections::VecDeque;
use std::fmt::Debug;
use std::io;
use std::ops::{Bound, RangeBounds};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use openraft::storage::{IOFlushed, RaftLogStorage};
use openraft::{LogState, OptionalSend, RaftLogReader};
use parking_lot::Mutex;
use protobuf::well_known_types::BytesValue;
use raft_engine::env::FileSystem;
use raft_engine::{Command, Config, Engine, LogBatch, MessageExt, ReadableSize, RecoveryMode};
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio::sync::oneshot;

use super::{Entry, LogId, Types, Vote};
use crate::config::Disk;
use crate::error::Error;
use crate::files::Files;
use crate::ground::Ground;
use crate::member::write_mark;
use crate::watched::{Trouble, Watched};

const REGION: u64 = 1;
const VOTE: &[u8] = b"vote";
const COMMITTED: &[u8] = b"committed";
const PURGED: &[u8] = b"purged";

/// Bytes of an entry's index before it.
pub(crate) const HEAD: usize = 8;
/// Entries that are kept in memory for followers that keep up, in bytes.
const CACHE: usize = 16 << 20;
/// A disk without room is tried again after so long.
const FULL: Duration = Duration::from_millis(500);
/// Entries handed out at once, in bytes: what fits one message to a follower well.
const PIECE: usize = 2 << 20;

struct RawEntry;

impl MessageExt for RawEntry {
    type Entry = BytesValue;

    fn index(entry: &BytesValue) -> u64 {
        entry
            .value
            .get(..HEAD)
            .and_then(|bytes| bytes.try_into().ok())
            .map_or(0, u64::from_le_bytes)
    }
}

enum Order {
    Append(Vec<BytesValue>, IOFlushed<Types>),
    Put(
        &'static [u8],
        Vec<u8>,
        Option<oneshot::Sender<io::Result<()>>>,
    ),
    Purge(u64, Vec<u8>),
}

/// The end of the log, which followers and the state machine ask for most.
#[derive(Default)]
struct Tail {
    entries: VecDeque<(Entry, usize)>,
    bytes: usize,
    /// Last entry; `None` if everything is purged.
    last: Option<LogId>,
    purged: Option<LogId>,
}

impl Tail {
    fn cut_after(&mut self, index: Option<u64>) {
        while let Some((entry, size)) = self.entries.back() {
            if index.is_some_and(|index| entry.log_id.index <= index) {
                break;
            }
            self.bytes -= size;
            self.entries.pop_back();
        }
    }

    fn first(&self) -> Option<u64> {
        self.entries.front().map(|(entry, _)| entry.log_id.index)
    }
}

/// The engine, on whatever disk.
trait Store: Send + Sync {
    fn write(&self, batch: &mut LogBatch, sync: bool) -> Result<usize, raft_engine::Error>;
    fn get(&self, key: &[u8]) -> Option<Vec<u8>>;
    fn last_index(&self) -> Option<u64>;
    /// Entries `[from, to)` as the engine counts, as many as fit a piece.
    fn fetch(&self, from: u64, to: u64) -> Result<Vec<BytesValue>, raft_engine::Error>;
    fn purge(&self) -> Result<(), raft_engine::Error>;
}

impl<F: FileSystem + 'static> Store for Engine<F> {
    fn write(&self, batch: &mut LogBatch, sync: bool) -> Result<usize, raft_engine::Error> {
        Self::write(self, batch, sync)
    }

    fn get(&self, key: &[u8]) -> Option<Vec<u8>> {
        Self::get(self, REGION, key)
    }

    fn last_index(&self) -> Option<u64> {
        Self::last_index(self, REGION)
    }

    fn fetch(&self, from: u64, to: u64) -> Result<Vec<BytesValue>, raft_engine::Error> {
        let mut raw = Vec::new();
        self.fetch_entries_to::<RawEntry>(REGION, from, to, Some(PIECE), &mut raw)?;
        Ok(raw)
    }

    fn purge(&self) -> Result<(), raft_engine::Error> {
        self.purge_expired_files().map(drop)
    }
}

struct Shared {
    engine: Box<dyn Store>,
    tail: Mutex<Tail>,
    /// Index + 1 of the last entry that is on the disk.
    flushed: AtomicU64,
    /// Bytes appended since the last purge.
    written: AtomicU64,
    /// The durable mark beside the log, and what it says.
    mark: (PathBuf, Mutex<u64>),
    /// Why the mark could not be written last.
    unmarked: Mutex<Option<String>>,
    files: Arc<dyn Files>,
    /// Since when the disk has no room.
    full: Mutex<Option<Instant>>,
    /// The first sync of the engine that failed.
    trouble: Trouble,
    /// What failed first: nothing is written any more.
    failed: Mutex<Option<String>>,
}

impl Shared {
    /// Something could not be read or written: what it was, in words for an operator.
    fn fail(&self, what: &str) {
        let mut failed = self.failed.lock();
        if failed.is_none() {
            tracing::error!(
                "the disk failed: {what}; this node acknowledges nothing more until a restart"
            );
            *failed = Some(what.to_owned());
        }
    }

    /// Entries `[from, to)`, from the disk.
    fn read(&self, from: u64, to: u64) -> io::Result<Vec<Entry>> {
        read(&*self.engine, from, to).inspect_err(|error| {
            // What else the engine says consensus judges.
            let engine = error
                .get_ref()
                .is_some_and(|it| it.is::<raft_engine::Error>());
            if !engine {
                self.fail(&error.to_string());
            }
        })
    }
}

/// The log.
#[derive(Clone)]
pub(crate) struct LogStore {
    shared: Arc<Shared>,
    orders: UnboundedSender<Order>,
}

fn encode(value: &impl Serialize) -> io::Result<Vec<u8>> {
    postcard::to_allocvec(value).map_err(io::Error::other)
}

fn decode<T: DeserializeOwned>(bytes: &[u8], what: &str) -> io::Result<T> {
    postcard::from_bytes(bytes)
        .map_err(|error| io::Error::other(format!("{what} in the log of the cluster: {error}")))
}

impl LogStore {
    /// Opens or makes the log in a directory that was looked over for damage.
    pub fn open<F: FileSystem + 'static>(
        dir: &Path,
        file_size: u64,
        (data_dir, marked): (&Path, u64),
        ground: &Arc<dyn Ground>,
        disk: &Disk<F>,
    ) -> Result<Self, Error> {
        let config = Config {
            dir: dir
                .to_str()
                .ok_or_else(|| Error::Log(format!("{} is not UTF-8", dir.display())))?
                .to_owned(),
            recovery_mode: RecoveryMode::TolerateTailCorruption,
            batch_compression_threshold: ReadableSize(0),
            target_file_size: ReadableSize(file_size),
            purge_threshold: ReadableSize(file_size),
            purge_rewrite_threshold: Some(ReadableSize(file_size)),
            ..Config::default()
        };
        let watched = Arc::new(Watched::new(disk.log.clone()));
        let trouble = watched.trouble.clone();
        let open = || Engine::open_with_file_system(config, watched);
        let engine = catch_unwind(AssertUnwindSafe(open)).map_err(|_| {
            Error::Log("it cannot be put together: entries are missing".to_owned())
        })??;
        let engine: Box<dyn Store> = Box::new(engine);
        let mut tail = Tail::default();
        let log = |error: io::Error| Error::Log(error.to_string());
        if let Some(bytes) = engine.get(PURGED) {
            tail.purged = Some(decode(&bytes, "the purge").map_err(log)?);
        }
        tail.last = tail.purged;
        let mut flushed = 0;
        if let Some(last) = engine.last_index() {
            let entry = read(&*engine, last - 1, last).map_err(log)?;
            if let Some(entry) = entry.into_iter().next() {
                flushed = entry.log_id.index + 1;
                tail.last = Some(entry.log_id);
            }
        }
        let shared = Arc::new(Shared {
            engine,
            tail: Mutex::new(tail),
            flushed: AtomicU64::new(flushed),
            written: AtomicU64::new(0),
            mark: (data_dir.to_owned(), Mutex::new(marked)),
            unmarked: Mutex::new(None),
            files: disk.files.clone(),
            full: Mutex::new(None),
            trouble,
            failed: Mutex::new(None),
        });
        let (orders, received) = unbounded_channel();
        let writer = Writer {
            shared: shared.clone(),
            orders: received,
            carried: None,
        };
        if ground.write_takes().is_some() {
            ground.run(Box::pin(writer.run_as_task(ground.clone())));
        } else {
            std::thread::Builder::new()
                .name("raft-log".to_owned())
                .spawn(move || writer.run())
                .map_err(Error::io(dir, "a thread cannot be started"))?;
        }
        Ok(Self { shared, orders })
    }

    /// Index + 1 of the last entry that is on the disk.
    pub fn flushed(&self) -> u64 {
        self.shared.flushed.load(Ordering::Acquire)
    }

    /// Index + 1 of the last entry, synced or not.
    pub fn end(&self) -> u64 {
        self.shared
            .tail
            .lock()
            .last
            .map_or(0, |last| last.index + 1)
    }

    /// How long the disk has had no room for what is to be written; `None`: it has.
    pub fn full_for(&self) -> Option<Duration> {
        self.shared.full.lock().map(|since| since.elapsed())
    }

    /// What of the log could not be read or written, in words; `None`: all of it could.
    pub fn failed(&self) -> Option<String> {
        self.shared.failed.lock().clone()
    }

    /// Something beside the log failed, so that consensus ended.
    pub fn fail(&self, what: &str) {
        self.shared.fail(what);
    }

    /// Writes the durable mark if the log has grown.
    pub fn note_mark(&self) {
        if self.failed().is_some() {
            return;
        }
        let (dir, marked) = &self.shared.mark;
        let mut marked = marked.lock();
        let end = self.flushed();
        if end > *marked {
            match write_mark(dir, end, &*self.shared.files) {
                Ok(()) => {
                    *marked = end;
                    *self.shared.unmarked.lock() = None;
                }
                Err(error) => {
                    let what = error.to_string();
                    let mut said = self.shared.unmarked.lock();
                    if said.as_ref() != Some(&what) {
                        tracing::error!(%error, "damage to the end of the log may go unnoticed");
                        *said = Some(what);
                    }
                }
            }
        }
    }

    /// Bytes appended since the last purge.
    pub fn written(&self) -> u64 {
        self.shared.written.load(Ordering::Relaxed)
    }

    fn order(&self, order: Order) -> io::Result<()> {
        self.orders
            .send(order)
            .map_err(|_| io::Error::other("the disk failed to sync the log of the cluster"))
    }

    async fn put(&self, key: &'static [u8], value: &impl Serialize) -> io::Result<()> {
        let (answer, answered) = oneshot::channel();
        self.order(Order::Put(key, encode(value)?, Some(answer)))?;
        answered
            .await
            .unwrap_or_else(|_| Err(io::Error::other("the log of the cluster failed")))
    }
}

/// Reads `[from, to)`.
fn read(engine: &dyn Store, from: u64, to: u64) -> io::Result<Vec<Entry>> {
    // The engine counts from 1.
    let raw = engine
        .fetch(from + 1, to + 1)
        .map_err(|error| match error {
            raft_engine::Error::Io(error) => error,
            other => io::Error::other(other),
        })?;
    raw.iter()
        .map(|raw| decode(raw.value.get(HEAD..).unwrap_or_default(), "an entry"))
        .collect()
}

/// Orders that are written as one.
#[derive(Default)]
struct Round {
    orders: Vec<Order>,
    sync: bool,
    purge: bool,
    /// Index of the last entry.
    last: Option<u64>,
}

impl Round {
    fn add(&mut self, order: Order) {
        match &order {
            Order::Append(entries, _) => {
                self.sync = true;
                self.last = entries.last().map(RawEntry::index).or(self.last);
            }
            Order::Put(_, _, answer) => self.sync |= answer.is_some(),
            Order::Purge(..) => self.purge = true,
        }
        self.orders.push(order);
    }

    /// Would it replace entries of this round? Then it is written behind them.
    fn is_before(&self, order: &Order) -> bool {
        match (order, self.last) {
            (Order::Append(entries, _), Some(last)) => entries
                .first()
                .is_some_and(|first| RawEntry::index(first) <= last),
            _ => false,
        }
    }

    fn batch(&self) -> Result<LogBatch, raft_engine::Error> {
        let mut batch = LogBatch::default();
        for order in &self.orders {
            match order {
                Order::Append(entries, _) => batch.add_entries::<RawEntry>(REGION, entries)?,
                Order::Put(key, value, _) => batch.put(REGION, key.to_vec(), value.clone())?,
                Order::Purge(index, value) => {
                    batch.put(REGION, PURGED.to_vec(), value.clone())?;
                    batch.add_command(REGION, Command::Compact { index: index + 2 });
                }
            }
        }
        Ok(batch)
    }
}

/// Writes what is ordered. A disk without room is waited for: nothing is acknowledged meanwhile, and the node says so.
struct Writer {
    shared: Arc<Shared>,
    orders: UnboundedReceiver<Order>,
    /// The order that did not fit the last batch.
    carried: Option<Order>,
}

#[allow(
    clippy::disallowed_methods,
    reason = "the log's own thread: while the disk takes nothing there is nothing else to do"
)]
fn pause() {
    std::thread::sleep(FULL);
}

impl Writer {
    fn run(mut self) {
        while let Some(first) = self.carried.take().or_else(|| self.orders.blocking_recv()) {
            let round = self.gather(first);
            let written = loop {
                match self.write(&round) {
                    Some(written) => break written,
                    None => pause(),
                }
            };
            self.settle(round, &written);
        }
    }

    /// As [`Self::run`] where there are no threads.
    async fn run_as_task(mut self, ground: Arc<dyn Ground>) {
        loop {
            let first = match self.carried.take() {
                Some(first) => first,
                None => match self.orders.recv().await {
                    Some(first) => first,
                    None => return,
                },
            };
            if let Some(pause) = ground.write_takes() {
                tokio::time::sleep(pause).await;
            }
            let round = self.gather(first);
            let written = loop {
                match self.write(&round) {
                    Some(written) => break written,
                    None => tokio::time::sleep(FULL).await,
                }
            };
            self.settle(round, &written);
        }
    }

    /// This order and what waits behind it.
    fn gather(&mut self, first: Order) -> Round {
        let mut round = Round::default();
        let mut next = Some(first);
        for _ in 0..257 {
            let Some(order) = next.take().or_else(|| self.orders.try_recv().ok()) else {
                break;
            };
            if round.is_before(&order) {
                self.carried = Some(order);
                break;
            }
            round.add(order);
        }
        round
    }

    /// Writes it with one sync; `None` if the disk has no room.
    fn write(&self, round: &Round) -> Option<Result<(), String>> {
        if let Some(what) = self.shared.failed.lock().clone() {
            return Some(Err(what));
        }
        let mut batch = match round.batch() {
            Ok(batch) => batch,
            Err(error) => return Some(Err(error.to_string())),
        };
        let write = || self.shared.engine.write(&mut batch, round.sync);
        let written = catch_unwind(AssertUnwindSafe(write));
        if let Some(what) = self.shared.trouble.get() {
            return Some(Err(what));
        }
        let error = match written {
            Ok(Ok(_)) => {
                if self.shared.full.lock().take().is_some() {
                    tracing::info!("there is room on the disk again");
                }
                return Some(Ok(()));
            }
            Ok(Err(error)) => Error::from(error),
            Err(_) => return Some(Err("the engine of the log gave up".to_owned())),
        };
        if !matches!(error, Error::Full) {
            return Some(Err(error.to_string()));
        }
        let mut full = self.shared.full.lock();
        if full.is_none() {
            *full = Some(Instant::now());
            tracing::error!("the disk is full: this node acknowledges nothing until there is room");
        }
        None
    }

    /// Tells everybody how it went.
    fn settle(&mut self, round: Round, written: &Result<(), String>) {
        let shared = &*self.shared;
        if let Err(error) = written {
            shared.fail(error);
        } else if let Some(last) = round.last {
            shared.flushed.store(last, Ordering::Release);
        }
        let result = || written.clone().map_err(io::Error::other);
        for order in round.orders {
            match order {
                Order::Append(_, callback) => callback.io_completed(result()),
                // Whoever asked may have gone.
                Order::Put(_, _, Some(answer)) => drop(answer.send(result())),
                Order::Put(_, _, None) | Order::Purge(..) => {}
            }
        }
        if round.purge && written.is_ok() {
            let purged = catch_unwind(AssertUnwindSafe(|| shared.engine.purge()));
            if let Some(what) = shared.trouble.get() {
                shared.fail(&what);
            } else if !matches!(purged, Ok(Ok(()))) {
                tracing::error!("old files of the log cannot be removed");
            }
        }
    }
}

impl RaftLogReader<Types> for LogStore {
    async fn try_get_log_entries<RB: RangeBounds<u64> + Clone + Debug + OptionalSend>(
        &mut self,
        range: RB,
    ) -> Result<Vec<Entry>, io::Error> {
        let from = match range.start_bound() {
            Bound::Included(at) => *at,
            Bound::Excluded(at) => at + 1,
            Bound::Unbounded => 0,
        };
        let end = self.end();
        let to = match range.end_bound() {
            Bound::Included(at) => (at + 1).min(end),
            Bound::Excluded(at) => (*at).min(end),
            Bound::Unbounded => end,
        };
        let mut found = Vec::new();
        let mut next = from;
        while next < to {
            let piece = self.limited_get_log_entries(next, to).await?;
            let Some(last) = piece.last() else { break };
            next = last.log_id.index + 1;
            found.extend(piece);
        }
        Ok(found)
    }

    async fn limited_get_log_entries(
        &mut self,
        start: u64,
        end: u64,
    ) -> Result<Vec<Entry>, io::Error> {
        let to = {
            let tail = self.shared.tail.lock();
            let last = tail.last.map_or(0, |last| last.index + 1);
            let end = end.min(last);
            match tail.first() {
                Some(first) if start >= first => {
                    let mut bytes = 0;
                    let at = (start - first) as usize;
                    let count = end.saturating_sub(start) as usize;
                    let entries = tail.entries.iter().skip(at).take(count);
                    return Ok(entries
                        .take_while(|(_, size)| {
                            let fits = bytes < PIECE;
                            bytes += size;
                            fits
                        })
                        .map(|(entry, _)| entry.clone())
                        .collect());
                }
                Some(first) => end.min(first),
                None => end,
            }
        };
        if start >= to {
            return Ok(Vec::new());
        }
        self.shared.read(start, to)
    }

    async fn read_vote(&mut self) -> Result<Option<Vote>, io::Error> {
        self.shared
            .engine
            .get(VOTE)
            .map(|bytes| decode(&bytes, "the vote"))
            .transpose()
    }
}

impl RaftLogStorage<Types> for LogStore {
    type LogReader = Self;

    async fn get_log_state(&mut self) -> Result<LogState<Types>, io::Error> {
        let tail = self.shared.tail.lock();
        Ok(LogState {
            last_purged_log_id: tail.purged,
            last_log_id: tail.last,
        })
    }

    async fn get_log_reader(&mut self) -> Self {
        self.clone()
    }

    async fn save_vote(&mut self, vote: &Vote) -> Result<(), io::Error> {
        self.put(VOTE, vote).await
    }

    async fn save_committed(&mut self, committed: Option<LogId>) -> Result<(), io::Error> {
        // Only saves a restart some waiting; it need not be synced.
        self.order(Order::Put(COMMITTED, encode(&committed)?, None))
    }

    async fn read_committed(&mut self) -> Result<Option<LogId>, io::Error> {
        let found: Option<LogId> = match self.shared.engine.get(COMMITTED) {
            Some(bytes) => decode(&bytes, "the commit")?,
            None => None,
        };
        // What was not synced may have outlived what it points at.
        let last = self.shared.tail.lock().last;
        Ok(found.filter(|found| last.is_some_and(|last| found.index <= last.index)))
    }

    async fn append<I>(&mut self, entries: I, callback: IOFlushed<Types>) -> Result<(), io::Error>
    where
        I: IntoIterator<Item = Entry> + OptionalSend,
        I::IntoIter: OptionalSend,
    {
        let mut raw = Vec::new();
        {
            let mut tail = self.shared.tail.lock();
            let flushed = self.flushed();
            for entry in entries {
                let mut bytes = (entry.log_id.index + 1).to_le_bytes().to_vec();
                bytes.extend_from_slice(&encode(&entry)?);
                tail.last = Some(entry.log_id);
                tail.bytes += bytes.len();
                tail.entries.push_back((entry, bytes.len()));
                let mut value = BytesValue::new();
                value.value = bytes;
                raw.push(value);
            }
            while tail.bytes > CACHE && tail.first().is_some_and(|first| first + 1 < flushed) {
                if let Some((_, size)) = tail.entries.pop_front() {
                    tail.bytes -= size;
                }
            }
        }
        let size: usize = raw.iter().map(|entry| entry.value.len()).sum();
        self.shared
            .written
            .fetch_add(size as u64, Ordering::Relaxed);
        self.order(Order::Append(raw, callback))
    }

    async fn truncate_after(&mut self, last_log_id: Option<LogId>) -> Result<(), io::Error> {
        // The engine forgets them when the next entry takes the place of the first of them. A node that dies before
        // that finds them again, as if the leader's word had not reached it.
        let mut tail = self.shared.tail.lock();
        tail.cut_after(last_log_id.map(|id| id.index));
        tail.last = last_log_id.max(tail.purged);
        let end = last_log_id.map_or(0, |id| id.index + 1);
        self.shared.flushed.fetch_min(end, Ordering::AcqRel);
        drop(tail);
        let (dir, marked) = &self.shared.mark;
        let mut marked = marked.lock();
        if end < *marked {
            // The leader takes back what was never committed: this end is meant.
            write_mark(dir, end, &*self.shared.files).map_err(io::Error::other)?;
            *marked = end;
        }
        Ok(())
    }

    async fn purge(&mut self, log_id: LogId) -> Result<(), io::Error> {
        {
            let mut tail = self.shared.tail.lock();
            while tail.first().is_some_and(|first| first <= log_id.index) {
                if let Some((_, size)) = tail.entries.pop_front() {
                    tail.bytes -= size;
                }
            }
            tail.purged = Some(log_id);
            if tail.last.is_none_or(|last| last < log_id) {
                tail.last = Some(log_id);
                self.shared
                    .flushed
                    .fetch_max(log_id.index + 1, Ordering::AcqRel);
            }
            self.shared.written.store(0, Ordering::Relaxed);
        }
        self.order(Order::Purge(log_id.index, encode(&log_id)?))
    }
}
