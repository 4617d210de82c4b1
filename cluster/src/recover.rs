//! Opening a data directory: whose it is, whether the log is whole, and the state of every group from its snapshot
//! and the log behind it. The shards' effects are dropped here: what they led to stands in the log itself, and what
//! did not is kept as a duty of the shard.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Instant;

use nightjar_broker::Timestamp;
use nightjar_broker::shard::{
    CodecError, Decoder, Effect, RetainedEntry, RetainedShard, SessionEntry, SessionShard,
};
use raft_engine::env::FileSystem;

use crate::bodies::Bodies;
use crate::config::{Disk, Durability, Recovery, StoreConfig};
use crate::dir::{DataDir, Identity};
use crate::error::Error;
use crate::files::{Files, sync_dir};
use crate::log::{GroupLog, Groups, HEAD, RaftLog, lost_dir};
use crate::mark::Mark;
use crate::meta::{Meta, MetaEntry};
use crate::scan::{self, Item, LogFile};
use crate::snapshot;

/// What was found when a directory was opened.
#[derive(Debug, Clone, Default)]
pub struct Recovered {
    /// Nothing was there: the directory is new.
    pub fresh: bool,
    /// Id of the cluster.
    pub cluster: String,
    /// Durable sessions.
    pub sessions: usize,
    /// Messages in their queues.
    pub queued: usize,
    /// Retained messages.
    pub retained: usize,
    /// Log entries applied behind the snapshots.
    pub replayed: u64,
    /// Bytes of log.
    pub log_bytes: u64,
    /// How long it took, in milliseconds.
    pub millis: u64,
    /// When the last run was known to live.
    pub alive: Timestamp,
    /// What was lost, in words: only with [`Recovery::AcceptLoss`], or of what `async` may lose.
    pub losses: Vec<String>,
}

/// Everything that was put together.
pub(crate) struct State {
    pub dir: DataDir,
    pub groups: Groups,
    pub log: Box<dyn GroupLog>,
    pub sessions: Vec<(SessionShard, u64, Bodies)>,
    pub retained: Vec<(RetainedShard, u64)>,
    pub meta: (Meta, u64),
    /// Last index of each group.
    pub last: Vec<u64>,
    pub snapshots: Vec<u64>,
    pub mark: Mark,
    pub recovered: Recovered,
}

pub(crate) fn open<F: FileSystem + 'static>(
    config: &StoreConfig,
    disk: &Disk<F>,
) -> Result<State, Error> {
    let started = Instant::now();
    let wanted = Identity::new(
        &config.node,
        config.session_groups.clamp(1, 1024),
        config.retained_groups.clamp(1, 1024),
    );
    let dir = DataDir::open(
        &config.dir,
        &wanted,
        config.cluster.as_deref(),
        &*disk.files,
    )?;
    let groups = Groups {
        sessions: dir.identity.session_groups,
        retained: dir.identity.retained_groups,
    };
    let accept = config.recovery == Recovery::AcceptLoss;
    let mut losses = Vec::new();
    let mark = match Mark::read(&dir.mark()) {
        Ok(mark) => mark,
        Err(error) if accept => {
            losses.push(format!("the durable mark: {error}"));
            None
        }
        Err(error) => return Err(error),
    };
    let relaxed = mark.as_ref().is_some_and(|mark| mark.relaxed);
    let log_bytes = look_over(&dir.log(), relaxed, accept, &*disk.files, &mut losses)?;
    for sub in [dir.log(), dir.snapshots()] {
        fs::create_dir_all(&sub).map_err(Error::io(sub, "cannot be created"))?;
    }
    let log = RaftLog::open(&dir.log(), groups, config.file_size, disk.log.clone())?;
    for path in [dir.log(), dir.path.clone()] {
        sync_dir(&path).map_err(Error::io(path, "cannot be synced"))?;
    }

    let mut state = State {
        groups,
        log: Box::new(log),
        sessions: Vec::new(),
        retained: Vec::new(),
        meta: Default::default(),
        last: Vec::with_capacity(groups.count()),
        snapshots: Vec::with_capacity(groups.count()),
        mark: Mark::default(),
        recovered: Recovered {
            fresh: dir.fresh,
            cluster: dir.identity.cluster.clone(),
            log_bytes,
            ..Recovered::default()
        },
        dir,
    };
    let ground = Ground {
        dir: &state.dir,
        groups,
        log: &*state.log,
        files: &scan::files(&state.dir.log())?,
        part: config.queue_memory / usize::from(groups.sessions),
        accept,
    };
    for loading in ground.load_all()? {
        state.take(loading)?;
    }
    state.check_mark(mark.as_ref(), accept, &mut losses)?;
    let mut mark = mark.unwrap_or_default();
    mark.indexes.clone_from(&state.last);
    state.recovered.alive = mark.alive;
    mark.alive = mark.alive.max(Timestamp::now());
    mark.relaxed |= config.durability == Durability::Async;
    mark.write(&state.dir.mark(), &*disk.files, true)?;
    state.mark = mark;
    for loss in &losses {
        tracing::warn!("lost: {loss}");
    }
    state.recovered.losses = losses;
    state.recovered.sessions = state.sessions.iter().map(|(s, ..)| s.sessions()).sum();
    state.recovered.queued = state.sessions.iter().map(|(s, ..)| s.queued()).sum();
    state.recovered.retained = state.retained.iter().map(|(s, _)| s.len()).sum();
    state.recovered.millis = u64::try_from(started.elapsed().as_millis()).unwrap_or(u64::MAX);
    Ok(state)
}

/// Reads every file of the log before the engine does. Its bytes.
pub(crate) fn look_over(
    dir: &Path,
    relaxed: bool,
    accept: bool,
    files: &dyn Files,
    losses: &mut Vec<String>,
) -> Result<u64, Error> {
    let list = match scan::files(dir) {
        Err(Error::Damaged { path, offset, what }) if accept => {
            losses.push(format!("{}: {what}", path.display()));
            put_aside(dir, &path, offset, files)?;
            scan::files(dir)?
        }
        other => other?,
    };
    let mut bytes = 0;
    for (at, file) in list.iter().enumerate() {
        let last = scan::is_last(&list, at);
        let scan = scan::scan(file, last, &mut |_, _, _| {})?;
        bytes += scan.end;
        let Some(what) = scan.damage else { continue };
        if relaxed && last && !file.rewrite {
            // Batches that were never synced may reach the disk in any order. The engine cuts there.
            losses.push(format!(
                "{} from byte {}: {what}; durability was \"async\" and the end of the log not yet synced",
                file.path.display(),
                scan.end
            ));
            continue;
        }
        if !accept {
            return Err(Error::Damaged {
                path: file.path.clone(),
                offset: scan.end,
                what,
            });
        }
        losses.push(format!(
            "{} from byte {}, and everything behind it: {what}",
            file.path.display(),
            scan.end
        ));
        put_aside(dir, &file.path, scan.end, files)?;
        return look_over(dir, relaxed, accept, files, losses);
    }
    for (at, file) in list.iter().enumerate().skip(1) {
        let before = &list[at - 1];
        if file.hollow && before.rewrite == file.rewrite && scan::is_last(&list, at - 1) {
            // The engine would take the file before it for one that was finished.
            files
                .remove(&file.path)
                .map_err(Error::io(&file.path, "cannot be removed"))?;
        }
    }
    Ok(bytes)
}

/// Moves a file of the log from `offset` on and all later files of its queue to `lost`.
fn put_aside(log: &Path, from: &Path, offset: u64, files: &dyn Files) -> Result<(), Error> {
    let lost = lost_dir(log);
    fs::create_dir_all(&lost).map_err(Error::io(&lost, "cannot be created"))?;
    let name = |path: &Path| path.file_name().map(PathBuf::from).unwrap_or_default();
    let mut list: Vec<PathBuf> = fs::read_dir(log)
        .map_err(Error::io(log, "cannot be read"))?
        .filter_map(|entry| entry.ok().map(|entry| entry.path()))
        .filter(|path| path.extension() == from.extension() && name(path) >= name(from))
        .collect();
    list.sort();
    for path in list {
        let bytes = fs::read(&path).map_err(Error::io(&path, "cannot be read"))?;
        let aside = lost.join(name(&path));
        files
            .replace(&aside, &bytes)
            .map_err(Error::io(&aside, "cannot be written"))?;
        if path == from && offset > 0 {
            let whole = &bytes[..bytes.len().min(offset as usize)];
            files
                .replace(&path, whole)
                .map_err(Error::io(&path, "cannot be cut"))?;
        } else {
            files
                .remove(&path)
                .map_err(Error::io(&path, "cannot be removed"))?;
        }
    }
    Ok(())
}

/// What the groups are put together from.
struct Ground<'a> {
    dir: &'a DataDir,
    groups: Groups,
    log: &'a dyn GroupLog,
    files: &'a [LogFile],
    /// Bytes of queued messages that one group may hold in memory.
    part: usize,
    accept: bool,
}

/// One group while it is put together.
struct Loading {
    group: u16,
    name: String,
    /// Index of its snapshot.
    base: u64,
    /// What the log still holds of it: first and last index.
    span: Option<(u64, u64)>,
    /// The next entry to apply.
    next: u64,
    last: u64,
    part: usize,
    content: Content,
}

enum Content {
    Sessions {
        shard: Box<SessionShard>,
        bodies: Bodies,
        kept: usize,
        effects: Vec<Effect>,
    },
    Retained(RetainedShard),
    Meta(Meta),
}

impl Ground<'_> {
    /// Puts all groups together, some on each processor.
    fn load_all(&self) -> Result<Vec<Loading>, Error> {
        let workers = std::thread::available_parallelism().map_or(1, usize::from);
        let workers = workers.clamp(1, 4);
        let mut all = Vec::with_capacity(self.groups.count());
        std::thread::scope(|scope| {
            let threads: Vec<_> = (0..workers)
                .map(|number| scope.spawn(move || self.load(number, workers)))
                .collect();
            for thread in threads {
                let loaded = thread
                    .join()
                    .map_err(|_| Error::Log("a thread that reads the log panicked".to_owned()))?;
                all.extend(loaded?);
            }
            Ok::<_, Error>(())
        })?;
        all.sort_unstable_by_key(|loading| loading.group);
        Ok(all)
    }

    /// Loads the snapshots of every `step`th group and applies the log behind them.
    fn load(&self, first: usize, step: usize) -> Result<Vec<Loading>, Error> {
        let groups = (0..self.groups.count() as u16).skip(first).step_by(step);
        let mut mine = groups
            .map(|group| self.begin(group))
            .collect::<Result<Vec<_>, _>>()?;
        let mut places = vec![None; self.groups.count()];
        for (at, loading) in mine.iter().enumerate() {
            places[usize::from(loading.group)] = Some(at);
        }
        // The engine finds an entry by reading and checking the whole batch in which it stands, once for each group
        // of the batch. Here every batch is read once. What was moved out of purged files comes before the rest.
        let (moved, appended): (Vec<_>, Vec<_>) = self.files.iter().partition(|file| file.rewrite);
        for file in moved.into_iter().chain(appended) {
            if mine.iter().all(|loading| loading.next > loading.last) {
                break;
            }
            scan::batches(file, |entries, footer| {
                for item in scan::items(entries, footer).unwrap_or_default() {
                    let Item::Entry(region, index, bytes) = item else {
                        continue;
                    };
                    let at = self.groups.of_region(region);
                    if let Some(at) = at.and_then(|group| places[usize::from(group)]) {
                        mine[at].offer(index, bytes)?;
                    }
                }
                Ok(())
            })?;
        }
        // The engine has the last word on what belongs to the log.
        for loading in &mut mine {
            if loading.next <= loading.last && loading.span.is_some() {
                self.log
                    .read(loading.group, loading.next, &mut |index, content| {
                        loading.apply(index, content)
                    })?;
            }
        }
        Ok(mine)
    }

    /// The snapshot of a group.
    fn begin(&self, group: u16) -> Result<Loading, Error> {
        let found = snapshot::find(&self.dir.snapshots(), self.groups, group)?;
        let (bytes, base) = match found.first() {
            Some(found) => (
                Some(snapshot::read(found, self.groups, group)?),
                found.index,
            ),
            None => (None, 0),
        };
        let path = found.first().map(|found| found.path.clone());
        let unreadable = |error: CodecError| Error::Damaged {
            path: path.clone().unwrap_or_default(),
            offset: 0,
            what: format!("the snapshot passes its checksum but {error}"),
        };
        let name = self.groups.name(group);
        let span = self.log.span(group);
        if let Some((first, _)) = span
            && first > base + 1
        {
            return Err(Error::Damaged {
                path: self.dir.log(),
                offset: 0,
                what: format!(
                    "the log of {name} begins at entry {first}, its snapshot ends at {base}: entries between them \
                     are missing"
                ),
            });
        }
        let content = if group < self.groups.sessions {
            let shard = match &bytes {
                Some(bytes) => SessionShard::decode(bytes).map_err(unreadable)?,
                None => SessionShard::default(),
            };
            let bodies = self.bodies(group, &shard)?;
            Content::Sessions {
                shard: Box::new(shard),
                bodies,
                kept: 0,
                effects: Vec::new(),
            }
        } else if group < self.groups.meta() {
            Content::Retained(match &bytes {
                Some(bytes) => RetainedShard::decode(bytes).map_err(unreadable)?,
                None => RetainedShard::default(),
            })
        } else {
            Content::Meta(match &bytes {
                Some(bytes) => Meta::decode(bytes).map_err(unreadable)?,
                None => Meta::default(),
            })
        };
        Ok(Loading {
            group,
            name,
            base,
            span,
            next: base + 1,
            last: base.max(span.map_or(0, |(_, last)| last)),
            part: self.part,
            content,
        })
    }

    /// The files of bodies that a snapshot refers to must be there, as long as it needs them.
    fn bodies(&self, group: u16, shard: &SessionShard) -> Result<Bodies, Error> {
        let mut ends: BTreeMap<u32, u32> = BTreeMap::new();
        shard.places(&mut |_, _, place| {
            let end = ends.entry(place.file).or_default();
            *end = (*end).max(place.offset);
        });
        let region = self.groups.region(group);
        let bodies = Bodies::open(&self.dir.bodies(), region, &ends.keys().copied().collect())?;
        // With `accept_loss`, what is missing is counted as lost when a client comes for it.
        if !self.accept {
            for (number, end) in ends {
                let source = bodies.source(number)?;
                source.check_header(region, number)?;
                for last in source.read(&[(end, 0)]) {
                    last?;
                }
            }
        }
        Ok(bodies)
    }
}

impl Loading {
    /// An entry as the log has it: applied if it is the next one.
    fn offer(&mut self, index: u64, bytes: &[u8]) -> Result<(), Error> {
        if index != self.next || index > self.last {
            return Ok(());
        }
        match bytes.get(HEAD..) {
            Some(content) if bytes[..8] == index.to_le_bytes() => self.apply(index, content),
            _ => Ok(()),
        }
    }

    fn apply(&mut self, index: u64, content: &[u8]) -> Result<(), Error> {
        let bad = |source: CodecError| Error::Entry {
            group: self.name.clone(),
            index,
            source,
        };
        let mut from = Decoder(content);
        from.format().map_err(bad)?;
        match &mut self.content {
            Content::Sessions {
                shard,
                bodies,
                kept,
                effects,
            } => {
                while !from.is_empty() {
                    let entry = SessionEntry::decode(&mut from).map_err(bad)?;
                    shard.apply(entry, effects);
                    effects.clear();
                }
                if shard.held() > self.part.max(*kept + self.part / 4) {
                    crate::spill::sweep(shard, bodies)?;
                    *kept = shard.held();
                }
            }
            Content::Retained(shard) => {
                while !from.is_empty() {
                    shard.apply(RetainedEntry::decode(&mut from).map_err(bad)?);
                }
            }
            Content::Meta(meta) => {
                while !from.is_empty() {
                    meta.apply(MetaEntry::decode(&mut from).map_err(bad)?);
                }
            }
        }
        self.next = index + 1;
        Ok(())
    }
}

impl State {
    /// Takes a group that was put together.
    fn take(&mut self, loading: Loading) -> Result<(), Error> {
        let mut last = loading.last;
        if loading.span.is_some_and(|(_, end)| end < loading.base) {
            // The snapshot outlived the end of a log that was not synced: go on behind it.
            self.log.compact(loading.group, loading.base + 1)?;
            last = loading.base;
        }
        match loading.content {
            Content::Sessions { shard, bodies, .. } => self.sessions.push((*shard, last, bodies)),
            Content::Retained(shard) => self.retained.push((shard, last)),
            Content::Meta(meta) => self.meta = (meta, last),
        }
        self.recovered.replayed += loading.next - loading.base - 1;
        self.last.push(last);
        self.snapshots.push(loading.base);
        Ok(())
    }

    /// The log must reach as far as was acknowledged.
    fn check_mark(
        &self,
        mark: Option<&Mark>,
        accept: bool,
        losses: &mut Vec<String>,
    ) -> Result<(), Error> {
        let Some(mark) = mark else {
            let used = self.last.iter().any(|last| *last > 0);
            if used && !accept {
                return Err(Error::Damaged {
                    path: self.dir.mark(),
                    offset: 0,
                    what: "the durable mark is missing, so that nobody can say whether the log is whole".to_owned(),
                });
            }
            return Ok(());
        };
        for (group, (marked, found)) in mark.indexes.iter().zip(&self.last).enumerate() {
            if found >= marked {
                continue;
            }
            let error = Error::BelowMark {
                dir: self.dir.log(),
                group: self.groups.name(group as u16),
                found: *found,
                marked: *marked,
            };
            if !accept {
                return Err(error);
            }
            losses.push(format!(
                "entries {} to {marked} of {}",
                found + 1,
                self.groups.name(group as u16)
            ));
        }
        Ok(())
    }
}
