//! The state machine: committed entries go to the groups of this node, in the order of the log.

use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::{Stream, StreamExt};
use openraft::storage::{EntryResponder, RaftSnapshotBuilder, RaftStateMachine};
use openraft::{EntryPayload, OptionalSend};

use super::{LogId, Membership, Snapshot, SnapshotMeta, Types, snapshot};
use crate::files::Files;
use crate::inner::Core;

/// A disk without room is tried again after so long.
const FULL: Duration = Duration::from_secs(2);

/// The state machine of a node.
pub(crate) struct Machine {
    core: Arc<Core>,
    /// Directory of the snapshot.
    dir: PathBuf,
    files: Arc<dyn Files>,
    applied: Option<LogId>,
    membership: Membership,
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
        }
    }
}

/// Writes a snapshot that was taken.
pub(crate) struct Builder {
    dir: PathBuf,
    files: Arc<dyn Files>,
    meta: SnapshotMeta,
    data: io::Result<Bytes>,
}

/// Writes a snapshot; a disk without room is waited for, as by the log.
async fn write(
    dir: PathBuf,
    files: Arc<dyn Files>,
    meta: SnapshotMeta,
    data: Bytes,
) -> io::Result<()> {
    loop {
        let (dir, files) = (dir.clone(), files.clone());
        let (meta, data) = (meta.clone(), data.clone());
        let write = move || snapshot::write(&dir, &*files, &meta, &data);
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
        let data = std::mem::replace(&mut self.data, Ok(Bytes::new()))?;
        let (dir, meta, bytes) = (self.dir.clone(), self.meta.clone(), data.clone());
        let files = self.files.clone();
        write(dir, files, meta, bytes).await?;
        Ok(Snapshot {
            meta: self.meta.clone(),
            snapshot: data,
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
        // Taken here, between two entries; written by the builder while entries are applied again.
        let data = match &self.core.member {
            Some(member) => snapshot::encode(&self.core, &member.nodes.read()),
            None => Err(io::Error::other("not a member of a cluster")),
        };
        Builder {
            dir: self.dir.clone(),
            files: self.files.clone(),
            meta: SnapshotMeta {
                last_log_id: self.applied,
                last_membership: self.membership.clone(),
            },
            data,
        }
    }

    async fn install_snapshot(
        &mut self,
        meta: &SnapshotMeta,
        data: Bytes,
    ) -> Result<(), io::Error> {
        let state = snapshot::decode(&data)?;
        let (dir, copy) = (self.dir.clone(), meta.clone());
        let files = self.files.clone();
        write(dir, files, copy, data).await?;
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
