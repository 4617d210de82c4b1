//! The state machine: committed entries go to the groups of this node, in the order of the log.

use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use futures_util::{Stream, StreamExt};
use openraft::storage::{EntryResponder, RaftSnapshotBuilder, RaftStateMachine};
use openraft::{EntryPayload, OptionalSend};
use parking_lot::Mutex;

use super::snapshot::FrozenState;
use super::{LogId, Membership, Snapshot, SnapshotMeta, Types, snapshot};
use crate::files::Files;
use crate::inner::Core;
use crate::leisure;

/// A disk without room is tried again after so long.
const FULL: Duration = Duration::from_secs(2);

/// A build that found no room is done again after so long: each takes the state anew.
const FULL_AGAIN: Duration = Duration::from_secs(10);

/// The state machine of a node.
pub(crate) struct Machine {
    core: Arc<Core>,
    /// Directory of the snapshot.
    dir: PathBuf,
    files: Arc<dyn Files>,
    applied: Option<LogId>,
    membership: Membership,
    writing: Arc<Writing>,
}

/// Who writes the snapshot. One that is built takes its time; one that comes from another node is newer, and does not wait
/// for it.
#[derive(Default)]
struct Writing {
    /// Whoever writes has it.
    turn: Mutex<()>,
    /// How many builds were overtaken, or lost their node.
    overtaken: AtomicU64,
}

impl Drop for Machine {
    fn drop(&mut self) {
        // Whoever has this directory next has it alone.
        self.writing.overtaken.fetch_add(1, Ordering::AcqRel);
    }
}

impl Machine {
    /// The state machine in front of groups that hold what the snapshot (`meta`) has, or what stood there before the
    /// node became one of a cluster.
    pub fn new(
        core: Arc<Core>,
        dir: PathBuf,
        files: Arc<dyn Files>,
        meta: Option<SnapshotMeta>,
    ) -> Self {
        let meta = meta.unwrap_or_default();
        Self {
            core,
            dir,
            files,
            applied: meta.last_log_id,
            membership: meta.last_membership,
            writing: Arc::default(),
        }
    }
}

/// Writes a snapshot that was taken.
pub(crate) struct Builder {
    core: Arc<Core>,
    dir: PathBuf,
    files: Arc<dyn Files>,
    meta: SnapshotMeta,
    /// Encoded while it is written.
    state: Option<io::Result<FrozenState>>,
    writing: Arc<Writing>,
    /// What [`Writing::overtaken`] was when it was taken.
    overtaken: u64,
}

impl Builder {
    /// Writes it, on a thread that gives way to all others; false: it is given up.
    async fn write(&mut self) -> io::Result<bool> {
        let nothing = || Err(io::Error::other("a builder builds once"));
        let state = self.state.take().unwrap_or_else(nothing)?;
        let (dir, files, meta) = (self.dir.clone(), self.files.clone(), self.meta.clone());
        let (writing, overtaken) = (self.writing.clone(), self.overtaken);
        let write = move || {
            let _turn = writing.turn.lock();
            let is_overtaken = || writing.overtaken.load(Ordering::Acquire) != overtaken;
            let goes_on = || match is_overtaken() {
                true => Err(io::Error::other("there is a newer one")),
                false => Ok(()),
            };
            match snapshot::write_frozen(&dir, &*files, &meta, state, &goes_on) {
                Err(_) if is_overtaken() => Ok(None),
                written => written.map(Some),
            }
        };
        let written = match leisure::run(write).await? {
            Err(error) if error.kind() == io::ErrorKind::StorageFull => {
                tracing::error!(%error, "no snapshot can be written until there is room on the disk");
                tokio::time::sleep(FULL_AGAIN).await;
                if let Some(member) = &self.core.member {
                    member.snapshot_failed.store(true, Ordering::Release);
                }
                None
            }
            written => written?,
        };
        if let (Some(written), Some(member)) = (written, &self.core.member) {
            member.snapshot_bytes.store(written, Ordering::Release);
        }
        Ok(written.is_some())
    }
}

/// Writes a snapshot of another node; a disk without room is waited for, as by the log.
async fn write(
    dir: PathBuf,
    files: Arc<dyn Files>,
    meta: SnapshotMeta,
    data: Bytes,
    writing: Arc<Writing>,
) -> io::Result<()> {
    writing.overtaken.fetch_add(1, Ordering::AcqRel);
    loop {
        let (dir, files, writing) = (dir.clone(), files.clone(), writing.clone());
        let (meta, data) = (meta.clone(), data.clone());
        let write = move || {
            let _turn = writing.turn.lock();
            snapshot::write(&dir, &*files, &meta, &data)
        };
        match tokio::task::spawn_blocking(write)
            .await
            .map_err(io::Error::other)?
        {
            Err(error) if error.kind() == io::ErrorKind::StorageFull => {
                tracing::error!(%error, "no snapshot can be written until there is room on the disk");
                tokio::time::sleep(FULL).await;
            }
            result => return result,
        }
    }
}

impl RaftSnapshotBuilder<Types> for Builder {
    type SnapshotData = Bytes;

    async fn build_snapshot(&mut self) -> Result<Snapshot, io::Error> {
        // One that is given up is of nothing: consensus goes by the one it has. Nobody asks for the content here.
        let meta = match self.write().await? {
            true => self.meta.clone(),
            false => SnapshotMeta::default(),
        };
        Ok(Snapshot {
            meta,
            snapshot: Bytes::new(),
        })
    }
}

impl RaftStateMachine<Types> for Machine {
    type SnapshotData = Bytes;
    type SnapshotBuilder = Builder;

    async fn applied_state(&mut self) -> Result<(Option<LogId>, Membership), io::Error> {
        Ok((self.applied, self.membership.clone()))
    }

    async fn apply<S>(&mut self, mut entries: S) -> Result<(), io::Error>
    where
        S: Stream<Item = Result<EntryResponder<Types>, io::Error>> + Unpin + OptionalSend,
    {
        while let Some(next) = entries.next().await {
            let (entry, responder) = next?;
            match entry.payload {
                EntryPayload::Blank => {}
                EntryPayload::Normal(proposal) => {
                    self.core.apply_proposal(entry.log_id.index, &proposal)?;
                }
                EntryPayload::Membership(membership) => {
                    self.membership = Membership::new(Some(entry.log_id), membership);
                }
            }
            self.applied = Some(entry.log_id);
            self.core.note_applied(entry.log_id.index);
            if let Some(responder) = responder {
                responder.send(());
            }
        }
        Ok(())
    }

    async fn get_snapshot_builder(&mut self) -> Builder {
        // Frozen here, between two entries; encoded and written by the builder while entries are applied again.
        let state = match &self.core.member {
            Some(member) => FrozenState::of(&self.core, &member.nodes.read()),
            None => Err(io::Error::other("not a member of a cluster")),
        };
        Builder {
            core: self.core.clone(),
            dir: self.dir.clone(),
            files: self.files.clone(),
            meta: SnapshotMeta {
                last_log_id: self.applied,
                last_membership: self.membership.clone(),
            },
            state: Some(state),
            writing: self.writing.clone(),
            overtaken: self.writing.overtaken.load(Ordering::Acquire),
        }
    }

    async fn install_snapshot(
        &mut self,
        meta: &SnapshotMeta,
        data: Bytes,
    ) -> Result<(), io::Error> {
        let state = snapshot::decode(&data)?;
        let (dir, copy) = (self.dir.clone(), meta.clone());
        let (files, writing) = (self.files.clone(), self.writing.clone());
        let bytes = data.len() as u64;
        write(dir, files, copy, data, writing).await?;
        if let Some(member) = &self.core.member {
            member.snapshot_bytes.store(bytes, Ordering::Release);
        }
        self.core.install(state)?;
        self.applied = meta.last_log_id;
        self.membership = meta.last_membership.clone();
        if let Some(applied) = self.applied {
            self.core.note_applied(applied.index);
        }
        Ok(())
    }

    async fn get_current_snapshot(&mut self) -> Result<Option<Snapshot>, io::Error> {
        let dir = self.dir.clone();
        let read = move || {
            snapshot::read(&dir).map_err(|error| {
                let path = snapshot::path(&dir);
                io::Error::other(format!("{} cannot be read: {error}", path.display()))
            })
        };
        let found = tokio::task::spawn_blocking(read)
            .await
            .map_err(io::Error::other)??;
        Ok(found.map(|(meta, data)| Snapshot {
            meta,
            snapshot: data,
        }))
    }
}

#[cfg(test)]
mod tests {
    use nightjar_broker::shard::SessionShard;
    use openraft::vote::RaftLeaderId;

    use super::*;
    use crate::files::DiskFiles;
    use crate::member::kit::{self, on_member};

    fn open(shard: &mut SessionShard, client_id: &str) {
        shard.apply(kit::open(client_id), &mut Vec::new());
    }

    fn at(index: u64) -> SnapshotMeta {
        SnapshotMeta {
            last_log_id: Some(LogId::new(RaftLeaderId::new(1, 1), index)),
            last_membership: Membership::default(),
        }
    }

    /// Runs a test on a machine that has applied up to entry 5, of a member with one group.
    fn on_machine(name: &str, test: impl AsyncFnOnce(&Core, &mut Machine, PathBuf)) {
        on_member(name, 1, |store, _| {
            let dir = crate::member::raft_dir(store.dir());
            let core = &store.core;
            let files = Arc::new(DiskFiles);
            let mut machine = Machine::new(core.clone(), dir.clone(), files, Some(at(5)));
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build();
            runtime
                .expect("a runtime")
                .block_on(test(core, &mut machine, dir));
        });
    }

    fn sessions(dir: &std::path::Path) -> (Option<LogId>, Vec<bool>) {
        let (meta, state) = snapshot::load(dir)
            .expect("it is whole")
            .expect("it is there");
        let has = |client_id: &&str| state.sessions[0].slot(client_id).is_some();
        (
            meta.last_log_id,
            ["early", "late"].iter().map(has).collect(),
        )
    }

    #[test]
    fn a_snapshot_has_what_was_there_when_it_was_taken() {
        on_machine("snapshot-frozen", async |core, machine, dir| {
            open(&mut core.sessions[0].state.lock().shard, "early");
            let mut builder = machine.get_snapshot_builder().await;
            open(&mut core.sessions[0].state.lock().shard, "late");
            let built = builder.build_snapshot().await.expect("it is written");
            assert_eq!(built.meta.last_log_id, at(5).last_log_id);
            assert_eq!(sessions(&dir), (at(5).last_log_id, vec![true, false]));
            let member = core.member.as_ref().expect("it is a member");
            let bytes = member.snapshot_bytes.load(Ordering::Acquire);
            let read = machine.get_current_snapshot().await.expect("it is read");
            assert_eq!(read.map(|it| it.snapshot.len() as u64), Some(bytes));
        });
    }

    #[test]
    fn a_snapshot_of_another_node_overtakes_the_one_that_is_built() {
        on_machine("snapshot-overtaken", async |core, machine, dir| {
            open(&mut core.sessions[0].state.lock().shard, "early");
            let mut first = machine.get_snapshot_builder().await;
            first.build_snapshot().await.expect("it is written");
            let data = machine.get_current_snapshot().await.expect("it is read");
            let data = data.expect("it is there").snapshot;
            open(&mut core.sessions[0].state.lock().shard, "late");
            let mut builder = machine.get_snapshot_builder().await;
            machine
                .install_snapshot(&at(9), data)
                .await
                .expect("it is installed");
            assert!(core.sessions[0].state.lock().shard.slot("late").is_none());
            let built = builder.build_snapshot().await.expect("it is given up");
            assert_eq!(built.meta.last_log_id, None);
            assert_eq!(sessions(&dir), (at(9).last_log_id, vec![true, false]));
            // The next one is built as ever.
            let mut builder = machine.get_snapshot_builder().await;
            let built = builder.build_snapshot().await.expect("it is written");
            assert_eq!(built.meta.last_log_id, at(9).last_log_id);
        });
    }
}
