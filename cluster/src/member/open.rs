//! Opening a data directory as one of a cluster.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::sync::mpsc::sync_channel;

use nightjar_broker::shard::{RetainedShard, SessionShard};
use nightjar_broker::{EffectSink, Timestamp};
use parking_lot::{Condvar, Mutex, RwLock};
use raft_engine::env::FileSystem;
use serde::{Deserialize, Serialize};
use tokio::sync::mpsc;

use super::{Event, Member, Nodes, flight};
use crate::bodies::Bodies;
use crate::config::{Disk, StoreConfig};
use crate::dir::{DataDir, Identity as DirIdentity};
use crate::error::Error;
use crate::files::Files;
use crate::ground::Ground;
use crate::inner::{Core, RetainedGroup, SessionGroup};
use crate::links::VERSIONS;
use crate::log::Groups;
use crate::meta::Meta;
use crate::pending::Pending;
use crate::raft::{self, LogStore, SnapshotMeta};
use crate::recover::{self, Recovered};
use crate::store::{NodeStore, Threads};

/// Directory of what only nodes of a cluster have, below the data directory.
pub(crate) const RAFT_DIR: &str = "raft";
const IDENTITY: &str = "member";
const MARK: &str = "mark";
const VERSION: &str = "protocol";

/// Who this node is in its cluster, in `raft/member`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Identity {
    /// Id of the cluster.
    pub cluster: String,
    /// Number of this node there.
    pub number: u64,
    /// It left for good.
    pub left: bool,
}

impl Identity {
    /// Reads it; `None` if the node is in no cluster.
    pub fn read(dir: &Path) -> Result<Option<Self>, Error> {
        let path = dir.join(RAFT_DIR).join(IDENTITY);
        let bytes = match fs::read(&path) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(Error::io(path, "cannot be read")(error)),
        };
        let found = checked(&bytes).and_then(|bytes| postcard::from_bytes(bytes).ok());
        found.map(Some).ok_or_else(|| Error::Damaged {
            path,
            offset: 0,
            what: "this is not the number of a node in a cluster".to_owned(),
        })
    }

    /// Writes it, synced.
    pub fn write(&self, dir: &Path, files: &dyn Files) -> Result<(), Error> {
        let path = dir.join(RAFT_DIR).join(IDENTITY);
        let mut bytes =
            postcard::to_allocvec(self).map_err(|error| Error::Log(error.to_string()))?;
        let sum = crc32fast::hash(&bytes);
        bytes.extend_from_slice(&sum.to_le_bytes());
        files
            .replace(&path, &bytes)
            .map_err(Error::io(path, "cannot be written"))
    }
}

fn checked(bytes: &[u8]) -> Option<&[u8]> {
    let (body, sum) = bytes.split_last_chunk::<4>()?;
    (crc32fast::hash(body).to_le_bytes() == *sum).then_some(body)
}

/// How far the log of consensus reached when this was written. A log that ends before it has lost its end: such a
/// node must not vote.
pub(crate) fn write_mark(dir: &Path, end: u64, files: &dyn Files) -> Result<(), Error> {
    let path = dir.join(RAFT_DIR).join(MARK);
    let mut bytes = end.to_le_bytes().to_vec();
    let sum = crc32fast::hash(&bytes);
    bytes.extend_from_slice(&sum.to_le_bytes());
    files
        .overwrite(&path, 0, &bytes, true)
        .map_err(Error::io(path, "the durable mark cannot be written"))
}

/// What [`write_mark`] wrote last; 0: nothing.
pub(crate) fn read_mark(dir: &Path) -> Result<u64, Error> {
    let path = dir.join(RAFT_DIR).join(MARK);
    match fs::read(&path) {
        Ok(bytes) => Ok(checked(&bytes)
            .and_then(|bytes| bytes.try_into().ok())
            .map_or(0, u64::from_le_bytes)),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(0),
        Err(error) => Err(Error::io(path, "cannot be read")(error)),
    }
}

/// Notes the version of the protocol that the cluster uses.
pub(crate) fn write_version(dir: &Path, version: u16, files: &dyn Files) -> Result<(), Error> {
    let path = dir.join(RAFT_DIR).join(VERSION);
    let mut bytes = version.to_le_bytes().to_vec();
    let sum = crc32fast::hash(&bytes);
    bytes.extend_from_slice(&sum.to_le_bytes());
    files
        .replace(&path, &bytes)
        .map_err(Error::io(path, "cannot be written"))
}

/// What [`write_version`] noted; 0: nothing.
fn read_version(dir: &Path) -> Result<u16, Error> {
    let path = dir.join(RAFT_DIR).join(VERSION);
    match fs::read(&path) {
        Ok(bytes) => checked(&bytes)
            .and_then(|bytes| bytes.try_into().ok())
            .map(u16::from_le_bytes)
            .ok_or_else(|| Error::Damaged {
                path,
                offset: 0,
                what: "this is not the version of a protocol".to_owned(),
            }),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(0),
        Err(error) => Err(Error::io(path, "cannot be read")(error)),
    }
}

/// What a node of a cluster needs beside its store.
pub(crate) struct Opened {
    pub log: LogStore,
    pub snapshot: Option<SnapshotMeta>,
    pub identity: Option<Identity>,
    /// The directory held something before this node came to a cluster.
    pub has_data: bool,
    pub events: mpsc::UnboundedReceiver<Event>,
    /// The version of the protocol that its cluster used last; 0: that is not known.
    pub used: u16,
}

struct Found {
    dir: DataDir,
    groups: Groups,
    sessions: Vec<(SessionShard, Bodies)>,
    retained: Vec<RetainedShard>,
    meta: Meta,
    nodes: Nodes,
    snapshot: Option<SnapshotMeta>,
    recovered: Recovered,
}

impl NodeStore {
    /// Opens or makes a data directory for a node of a cluster. What a node alone left in it is what the cluster begins
    /// with, if this node forms it.
    pub(crate) fn open_member<F: FileSystem + 'static>(
        config: &StoreConfig,
        ground: &Arc<dyn Ground>,
        disk: &Disk<F>,
    ) -> Result<(Self, Opened), Error> {
        let identity = Identity::read(&config.dir)?;
        if let Some(identity) = identity.as_ref().filter(|it| it.left) {
            return Err(Error::Left {
                dir: config.dir.clone(),
                cluster: identity.cluster.clone(),
            });
        }
        let used = read_version(&config.dir)?;
        if used > VERSIONS.1 {
            return Err(Error::Newer {
                dir: config.dir.clone(),
                used,
                speaks: VERSIONS.1,
            });
        }
        let found = find(config, disk)?;
        let raft_dir = config.dir.join(RAFT_DIR);
        let log_dir = raft_dir.join("log");
        fs::create_dir_all(&log_dir).map_err(Error::io(&log_dir, "cannot be created"))?;
        let accept = config.recovery == crate::config::Recovery::AcceptLoss;
        let mut losses = Vec::new();
        recover::look_over(&log_dir, false, accept, &*disk.files, &mut losses)?;
        let marked = read_mark(&config.dir)?;
        let log = LogStore::open(
            &log_dir,
            config.file_size,
            (&config.dir, marked),
            ground,
            disk,
        )?;
        if log.end() < marked || !losses.is_empty() {
            return Err(Error::BelowMark {
                dir: log_dir,
                group: "the cluster".to_owned(),
                found: log.end(),
                marked,
            });
        }
        let number = identity.as_ref().map_or(0, |it| it.number);
        let (events, received) = mpsc::unbounded_channel();
        let groups = found.groups;
        let has_data = !found.recovered.fresh
            && (found.recovered.sessions > 0
                || found.recovered.retained > 0
                || !found.meta.0.is_empty());
        let mut pending = Pending::new(groups.count());
        pending.fenced = true;
        let applied = found
            .snapshot
            .as_ref()
            .and_then(|it| it.last_log_id)
            .map_or(0, |id| id.index);
        let mut member = Member::new(found.nodes, number, events);
        member.snapshot_bytes = AtomicU64::new(raft::size(&raft_dir));
        let core = Arc::new(Core {
            groups,
            durability: config.durability,
            // Every node keeps every queue in memory: a snapshot for another node needs them whole.
            memory: usize::MAX,
            loader: Mutex::new(None),
            sessions: found
                .sessions
                .into_iter()
                .map(|(shard, bodies)| SessionGroup::new(shard, applied, bodies))
                .collect(),
            retained: found
                .retained
                .into_iter()
                .map(|shard| RetainedGroup::new(shard, applied))
                .collect(),
            meta: RwLock::new((found.meta, applied)),
            pending: Mutex::new(pending),
            wake: Condvar::new(),
            sink: RwLock::new(None),
            watchers: RwLock::default(),
            synced: (0..groups.count()).map(|_| AtomicU64::new(0)).collect(),
            snapshots: (0..groups.count()).map(|_| AtomicU64::new(0)).collect(),
            written: AtomicU64::new(0),
            member: Some(member),
        });
        let it = core.clone();
        let writer = if ground.write_takes().is_some() {
            ground.run(Box::pin(flight::run_as_task(it)));
            None
        } else {
            let thread = std::thread::Builder::new()
                .name("proposals".to_owned())
                .spawn(move || flight::run(&it))
                .map_err(Error::io(&config.dir, "a thread cannot be started"))?;
            Some(thread)
        };
        // Snapshots are consensus' own: nobody takes these orders.
        let (orders, _) = sync_channel(1);
        let store = Self {
            core,
            recovered: found.recovered,
            grace: config.will_restart_grace,
            dir: config.dir.clone(),
            orders,
            threads: Mutex::new(Threads {
                writer,
                ..Threads::default()
            }),
            lock: Mutex::new(Some(found.dir)),
        };
        let opened = Opened {
            log,
            snapshot: found.snapshot,
            identity,
            has_data,
            events: received,
            used,
        };
        Ok((store, opened))
    }

    /// As [`Self::start`], for a node of a cluster: what consensus commits goes to this sink from here on.
    pub(crate) fn start_member(&self, sink: Arc<dyn EffectSink>) {
        *self.core.sink.write() = Some(sink.clone());
        for (number, group) in self.core.sessions.iter().enumerate() {
            for filter in group.state.lock().shard.routes() {
                sink.effect(
                    number as u16,
                    nightjar_broker::shard::Effect::RouteAdded(filter),
                );
            }
        }
        sink.settled();
    }
}

/// The state to begin with: the last snapshot of the cluster, or else what a node alone left.
fn find<F: FileSystem + 'static>(config: &StoreConfig, disk: &Disk<F>) -> Result<Found, Error> {
    let raft_dir = config.dir.join(RAFT_DIR);
    if let Some((meta, state)) = raft::load(&raft_dir)? {
        let groups = Groups {
            sessions: state.sessions.len() as u16,
            retained: state.retained.len() as u16,
        };
        let wanted = DirIdentity::new(&config.node, groups.sessions, groups.retained);
        let dir = DataDir::open(
            &config.dir,
            &wanted,
            config.cluster.as_deref(),
            &*disk.files,
        )?;
        let recovered = Recovered {
            cluster: dir.identity.cluster.clone(),
            sessions: state.sessions.iter().map(SessionShard::sessions).sum(),
            queued: state.sessions.iter().map(SessionShard::queued).sum(),
            retained: state.retained.iter().map(RetainedShard::len).sum(),
            alive: Timestamp::now(),
            ..Recovered::default()
        };
        let sessions = state
            .sessions
            .into_iter()
            .enumerate()
            .map(|(group, shard)| {
                let region = groups.region(group as u16);
                Ok((
                    shard,
                    Bodies::open(&dir.bodies(), region, &BTreeSet::new())?,
                ))
            })
            .collect::<Result<_, Error>>()?;
        return Ok(Found {
            dir,
            groups,
            sessions,
            retained: state.retained,
            meta: state.meta,
            nodes: state.nodes,
            snapshot: Some(meta),
            recovered,
        });
    }
    let state = recover::open(config, disk)?;
    // The log of a node alone is not written any more.
    drop(state.log);
    Ok(Found {
        dir: state.dir,
        groups: state.groups,
        sessions: state
            .sessions
            .into_iter()
            .map(|(mut shard, _, bodies)| {
                bring_back(&mut shard, &bodies)?;
                Ok((shard, bodies))
            })
            .collect::<Result<_, Error>>()?,
        retained: state.retained.into_iter().map(|(shard, _)| shard).collect(),
        meta: state.meta.0,
        nodes: Nodes::default(),
        snapshot: None,
        recovered: state.recovered,
    })
}

/// Reads what a node alone had let go to the disk.
fn bring_back(shard: &mut SessionShard, bodies: &Bodies) -> Result<(), Error> {
    let mut places = Vec::new();
    shard.places(&mut |holder, seq, place| places.push((holder, seq, place)));
    for (holder, seq, place) in places {
        let source = bodies.source(place.file)?;
        for message in source.read(&[(place.offset, 0)]) {
            shard.bring_back(holder, seq, place, message?);
        }
    }
    Ok(())
}

/// Where a member's log of consensus stands, below the data directory.
pub(crate) fn raft_dir(dir: &Path) -> PathBuf {
    dir.join(RAFT_DIR)
}
