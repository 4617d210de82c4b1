//! A backup of the cluster, made on any of its nodes.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use nightjar_broker::Timestamp;
use openraft::async_runtime::watch::WatchReceiver;

use super::requests::{Reply, Request};
use super::{ClusterNode, random};
use crate::backup::{Backup, Part, Writer};
use crate::dir::Identity;
use crate::error::Error;
use crate::log::Groups;
use crate::member::raft_dir;
use crate::raft;
use tokio::time::Instant;

/// How long what was committed before may take to be applied here.
const CATCH_UP: Duration = Duration::from_secs(30);
/// How long a snapshot may take.
const SNAPSHOT: Duration = Duration::from_secs(600);
/// It is asked for so often.
const AGAIN: Duration = Duration::from_secs(1);

impl ClusterNode {
    /// Writes a backup of everything durable into a file: what was acknowledged anywhere in the cluster before is in it.
    /// [`crate::restore`] makes the directory of a node alone from it, from which a cluster can be formed.
    ///
    /// # Errors
    /// The file cannot be written or exists already; there is no majority; the disk fails.
    pub async fn backup(self: &Arc<Self>, path: PathBuf) -> Result<Backup, Error> {
        let no = |what: &str| Error::Log(what.to_owned());
        let raft = self
            .raft()
            .ok_or_else(|| no("this node is in no cluster yet"))?;
        let wanted = self.committed_here().await.map_err(Error::Log)?;
        let taken = |snapshot: Option<u64>| snapshot.is_some_and(|index| index >= wanted);
        let until = Instant::now() + SNAPSHOT;
        let mut asked: Option<Instant> = None;
        while !taken(raft.metrics().borrow_watched().snapshot.map(|id| id.index)) {
            if Instant::now() > until {
                return Err(no(
                    "no snapshot was written in time; see the log of this node",
                ));
            }
            // One that is being written may be of an earlier entry, and while it is another one is not begun.
            if asked.is_none_or(|asked| asked.elapsed() > AGAIN) {
                raft.trigger()
                    .snapshot()
                    .await
                    .map_err(|error| Error::Log(error.to_string()))?;
                asked = Some(Instant::now());
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        let dir = self.store.dir().to_owned();
        let cluster = self.identity.read().as_ref().map(|it| it.cluster.clone());
        let written = tokio::task::spawn_blocking(move || write(&dir, cluster, &path));
        written
            .await
            .map_err(|error| Error::Log(error.to_string()))?
    }

    /// Waits until this node has applied what the cluster has committed by now; the index of that.
    async fn committed_here(self: &Arc<Self>) -> Result<u64, String> {
        self.all_who_know_digests().await?;
        let nonce = random();
        match self.ask_leader(Request::Verify { nonce }, CATCH_UP).await? {
            Reply::Ok => {}
            Reply::Later(what) | Reply::Refused(what) => return Err(what),
            other => return Err(format!("not now: {other:?}")),
        }
        let until = Instant::now() + CATCH_UP;
        while Instant::now() < until {
            let asked = *self.member().asked.lock();
            if let Some((_, index)) = asked.filter(|(asked, _)| *asked == nonce) {
                return Ok(index);
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        Err("this node is behind the cluster; back up another one".to_owned())
    }
}

/// Writes what the cluster's snapshot in this directory holds.
fn write(dir: &Path, cluster: Option<String>, path: &Path) -> Result<Backup, Error> {
    let state = raft::load(&raft_dir(dir))?;
    let (meta, state) = state.ok_or_else(|| Error::Log("there is no snapshot".to_owned()))?;
    let found = Identity::read(dir)?;
    let mut identity = found.ok_or_else(|| Error::Log("there is no identity".to_owned()))?;
    if let Some(cluster) = cluster {
        identity.cluster = cluster;
    }
    let groups = Groups {
        sessions: state.sessions.len() as u16,
        retained: state.retained.len() as u16,
    };
    let index = meta.last_log_id.map_or(1, |id| id.index.max(1));
    let mut writer = Writer::create(path, &identity, groups, Timestamp::now())?;
    for group in 0..groups.count() as u16 {
        let mut bytes = Vec::new();
        let at = usize::from(group);
        if group < groups.sessions {
            state.sessions[at].encode(&mut bytes);
        } else if group < groups.meta() {
            state.retained[at - usize::from(groups.sessions)].encode(&mut bytes);
        } else {
            state.meta.encode(&mut bytes);
        }
        writer.part(&Part {
            group,
            index,
            bytes,
            bodies: Vec::new(),
        })?;
    }
    writer.finish()
}
