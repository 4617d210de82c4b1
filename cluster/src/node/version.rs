//! The version of the protocol between nodes, and of the entries in their log.
//!
//! A build speaks from an oldest to a newest one. The cluster uses one of them, which stands in its log and only rises:
//! when an operator says so and all nodes have a build that speaks it. Until then every node can go back to the build it
//! had, because nothing newer was written. From then on a node whose build does not speak it has no link, and its
//! directory does not open.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use super::ClusterNode;
use super::requests::{Reply, Request};
use crate::links::VERSIONS;
use crate::member::{NodeEntry, write_version};

/// How long the new version may take to be known here once it is committed.
const PATIENCE: Duration = Duration::from_secs(10);

impl ClusterNode {
    /// The oldest and the newest version that this node speaks now.
    pub(super) fn versions_now(&self) -> (u16, u16) {
        (self.version().max(VERSIONS.0), VERSIONS.1)
    }

    /// The version that the cluster uses, as far as this node knows.
    pub(super) fn version(&self) -> u16 {
        let told = self.member().nodes.read().version();
        told.max(self.used.load(Ordering::Acquire))
    }

    /// The cluster uses this version: it must be known before links begin after a restart.
    pub(super) fn note_version(&self, version: u16) {
        self.used.fetch_max(version, Ordering::AcqRel);
        if let Err(error) = write_version(self.store.dir(), version, &*self.files) {
            tracing::error!(%error, version, "the version that the cluster uses will not be remembered");
        }
    }

    /// Does the cluster use a version that has this kind of entry?
    pub(super) fn may_write(&self, entry: &NodeEntry) -> Result<(), String> {
        let (needed, used) = (entry.since(), self.member().nodes.read().version());
        if needed <= used {
            return Ok(());
        }
        Err(format!(
            "that needs version {needed} of the protocol and the cluster uses {used}: `nightjar ctl cluster upgrade` raises \
             it when all nodes have the build"
        ))
    }

    /// As the leader: the newest version that all nodes speak is used from now on.
    pub(super) async fn raise(&self) -> Reply {
        let nodes = self.member().nodes.read().clone();
        let Some(links) = self.links() else {
            return Reply::NotLeader;
        };
        let here = self.member().number();
        let (mut newest, mut whose) = (VERSIONS.1, self.settings.node.clone());
        for (number, node) in nodes.nodes.iter().filter(|(number, _)| **number != here) {
            let Some((_, speaks)) = links.to(*number).and_then(|link| link.speaks()) else {
                return Reply::Refused(format!(
                    "nobody knows what the build of node {:?} speaks, for there is no link to it: start it, or remove it \
                     (`nightjar ctl cluster force-leave {}`)",
                    node.name, node.name
                ));
            };
            if speaks < newest {
                (newest, whose) = (speaks, node.name.clone());
            }
        }
        if newest <= nodes.version() {
            return Reply::Refused(format!(
                "the cluster uses version {} already, and the build of node {whose:?} speaks no newer one",
                nodes.version()
            ));
        }
        match self.commit(&NodeEntry::Raise { version: newest }).await {
            Ok(()) => Reply::Ok,
            Err(what) => Reply::Later(what),
        }
    }

    /// Lets the cluster use the newest version that the builds of all its nodes speak; the version. Older builds cannot
    /// come back from then on.
    ///
    /// # Errors
    /// In words: in no cluster, a node that cannot be asked or speaks no newer version, or no majority.
    pub async fn upgrade(self: &Arc<Self>) -> Result<u16, String> {
        if self.member().number() == 0 {
            return Err("this node is in no cluster".to_owned());
        }
        let before = self.version();
        self.ask_until(&Request::Raise).await?;
        let until = Instant::now() + PATIENCE;
        while self.version() == before && Instant::now() < until {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        Ok(self.version())
    }

    /// Commits an entry of the kind that only builds for tests know.
    ///
    /// # Errors
    /// In words: the cluster does not use the version yet that has it, or no majority.
    #[cfg(feature = "next-protocol")]
    pub async fn mark(self: &Arc<Self>) -> Result<(), String> {
        let nonce = super::random();
        // A leader of the build before could not even read the question.
        self.may_write(&NodeEntry::Mark { nonce })?;
        self.ask_until(&Request::Mark { nonce }).await
    }
}
