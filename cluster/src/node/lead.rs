//! What the leader does beside consensus: it ends the incarnations of silent nodes, admits and removes nodes, and keeps
//! as many voters as there should be.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use nightjar_broker::Timestamp;
use openraft::ChangeMembers;
use openraft::async_runtime::watch::WatchReceiver;

use super::ClusterNode;
use super::requests::Reply;
use crate::member::NodeEntry;
use crate::raft::{Peer, Raft};
use tokio::time::Instant;

/// A learner that lacks fewer entries than this may vote.
const CLOSE: u64 = 500;
/// How long a change of the voters may take before something else is tried.
const PATIENCE: Duration = Duration::from_secs(10);

impl ClusterNode {
    /// One step of leading, in a task of its own.
    pub(super) fn lead(self: &Arc<Self>) {
        if self.busy.swap(true, Ordering::AcqRel) {
            return;
        }
        let node = self.clone();
        tokio::spawn(async move {
            if node.member().leads() {
                let step = async {
                    node.begin_state().await;
                    node.end_silent().await;
                    node.part_the_unreached();
                    node.keep_voters().await;
                };
                // What hangs for want of a majority is tried again.
                let _ = tokio::time::timeout(PATIENCE, step).await;
            }
            node.keep_log_short().await;
            node.busy.store(false, Ordering::Release);
        });
    }

    /// The first node gets its number, and its state stands in a snapshot before anybody else learns from the log.
    async fn begin_state(&self) {
        let Some(raft) = self.raft() else { return };
        if self.member().nodes.read().nodes.is_empty() && self.member().number() == 1 {
            let entry = NodeEntry::Add {
                name: self.settings.node.clone(),
                address: self.own_address(),
                nonce: super::random(),
            };
            if let Err(what) = self.commit(&entry).await {
                self.set_problem(what);
                return;
            }
        }
        let (snapshot, purged) = {
            let metrics = raft.metrics();
            let metrics = metrics.borrow_watched();
            (metrics.snapshot, metrics.purged)
        };
        match (snapshot, purged) {
            (None, _) => drop(raft.trigger().snapshot().await),
            (Some(snapshot), None) => drop(raft.trigger().purge_log(snapshot.index).await),
            _ => {}
        }
    }

    /// May others learn from here?
    fn has_begun(&self) -> bool {
        self.raft()
            .is_some_and(|raft| raft.metrics().borrow_watched().purged.is_some())
    }

    async fn end_silent(&self) {
        let (term, silent) = {
            let mut leases = self.leases.lock();
            let Some(term) = leases.term() else { return };
            let nodes = self.member().nodes.read();
            let up = nodes.nodes.iter().filter(|(_, node)| node.up);
            let up = up.map(|(number, node)| (*number, node.incarnation));
            (term, leases.silent(Instant::now(), up))
        };
        {
            // A leader that is cut off finds the same ones each time, and cannot commit their end.
            let mut said = self.silent.lock();
            said.retain(|one| silent.contains(one));
            for (number, incarnation) in &silent {
                if said.insert((*number, *incarnation)) {
                    tracing::warn!(number, "a node is silent: its lease is over");
                }
            }
        }
        for (number, incarnation) in silent {
            let entry = NodeEntry::Down {
                number,
                incarnation,
                now: Timestamp::now().0,
            };
            // Decided by what this term knows: in a later one others may have let the lease go on meanwhile.
            if let Err(what) = self.commit_in(term, &entry).await {
                self.set_problem(what);
            }
        }
    }

    /// As many voters as `cluster.replicas`, of nodes that are up; one that is down for long is replaced.
    async fn keep_voters(&self) {
        let Some(raft) = self.raft() else { return };
        let (voters, learners, last, matched, joint) = {
            let metrics = raft.metrics();
            let metrics = metrics.borrow_watched();
            let membership = metrics.membership_config.membership();
            let voters: BTreeSet<u64> = membership.voter_ids().collect();
            let learners: BTreeSet<u64> = membership.learner_ids().collect();
            let matched: BTreeMap<u64, u64> = metrics
                .replication
                .iter()
                .flatten()
                .map(|(node, id)| (*node, id.as_ref().map_or(0, |id| id.index)))
                .collect();
            let joint = membership.get_joint_config().len() > 1;
            (
                voters,
                learners,
                metrics.last_log_index.unwrap_or(0),
                matched,
                joint,
            )
        };
        if joint {
            return;
        }
        let nodes = self.member().nodes.read().clone();
        let ready = learners.iter().copied().find(|number| {
            let close = matched
                .get(number)
                .is_some_and(|matched| matched + CLOSE >= last && *matched > 0);
            nodes.is_up(*number) && close
        });
        let Some(ready) = ready else { return };
        if voters.len() < self.settings.replicas {
            let change = ChangeMembers::AddVoterIds(BTreeSet::from([ready]));
            self.change(&raft, change, true, "a node votes").await;
            return;
        }
        let Some(autoclean) = self.settings.autoclean else {
            return;
        };
        let limit = Timestamp::now()
            .0
            .saturating_sub(autoclean.as_millis() as u64);
        let long_down = voters.iter().copied().find(|number| {
            nodes
                .nodes
                .get(number)
                .is_none_or(|node| !node.up && node.since < limit)
        });
        if let Some(gone) = long_down {
            let mut wanted = voters.clone();
            wanted.remove(&gone);
            wanted.insert(ready);
            let change = ChangeMembers::ReplaceAllVoters(wanted);
            self.change(
                &raft,
                change,
                true,
                "a node votes in the place of one that is down",
            )
            .await;
        }
    }

    async fn change(
        &self,
        raft: &Raft,
        change: ChangeMembers<u64, Peer>,
        retain: bool,
        what: &str,
    ) {
        tracing::info!(?change, "{what}");
        if let Err(error) = raft.change_membership(change, retain).await {
            tracing::warn!(%error, "the voters stay as they are");
        }
    }

    /// A new node gets its number and learns.
    pub(super) async fn admit_node(
        self: &Arc<Self>,
        name: String,
        address: String,
        nonce: u64,
        groups: (u16, u16),
    ) -> Reply {
        let ours = (self.core().groups.sessions, self.core().groups.retained);
        if groups != ours {
            return Reply::Refused(format!(
                "cluster.shards differs: {} here, {} at {name:?}",
                ours.0, groups.0
            ));
        }
        if !self.has_begun() {
            return Reply::Later("the cluster is still being formed".to_owned());
        }
        let Some(raft) = self.raft() else {
            return Reply::NotLeader;
        };
        let same: Vec<(u64, bool, u64)> = {
            let nodes = self.member().nodes.read();
            let named = nodes.nodes.iter().filter(|(_, node)| node.name == name);
            named
                .map(|(number, node)| (*number, node.up, node.nonce))
                .collect()
        };
        for (number, up, have) in same {
            if have == nonce {
                continue; // It asks again.
            }
            if up {
                return Reply::Refused(format!(
                    "node.name {name:?} is that of node {number}, which is up"
                ));
            }
            // It lost its disk: it comes back under a new number.
            if let Reply::Later(what) | Reply::Refused(what) = self.remove_node(number).await {
                return Reply::Later(what);
            }
        }
        let entry = NodeEntry::Add {
            name: name.clone(),
            address: address.clone(),
            nonce,
        };
        if let Err(what) = self.commit(&entry).await {
            return Reply::Later(what);
        }
        let number = {
            let nodes = self.member().nodes.read();
            let found = nodes.nodes.iter().find(|(_, node)| node.nonce == nonce);
            found.map(|(number, _)| *number)
        };
        let Some(number) = number else {
            return Reply::Later("the node was removed meanwhile".to_owned());
        };
        if let Some(links) = self.links() {
            links.dial(&address);
        }
        let peer = Peer { name, address };
        if let Err(error) = raft.add_learner(number, peer, false).await {
            return Reply::Later(error.to_string());
        }
        let cluster = self.identity.read().as_ref().map(|it| it.cluster.clone());
        Reply::Joined {
            number,
            cluster: cluster.unwrap_or_default(),
        }
    }

    /// Removes a node for good. The leader hands over first.
    pub(super) async fn remove_node(self: &Arc<Self>, number: u64) -> Reply {
        let Some(raft) = self.raft() else {
            return Reply::NotLeader;
        };
        let (voters, known) = {
            let metrics = raft.metrics();
            let metrics = metrics.borrow_watched();
            let membership = metrics.membership_config.membership();
            let voters: BTreeSet<u64> = membership.voter_ids().collect();
            (voters, membership.get_node(&number).is_some())
        };
        if voters.contains(&number) && voters.len() == 1 {
            return Reply::Refused(format!(
                "node {number} is the only voter: add another node first"
            ));
        }
        if number == self.member().number() {
            let up: Vec<u64> = self.member().nodes.read().up().collect();
            let next = voters
                .iter()
                .copied()
                .find(|other| *other != number && up.contains(other));
            let Some(next) = next else {
                return Reply::Refused("no other voter is up to lead".to_owned());
            };
            if let Err(error) = raft.trigger().transfer_leader(next).await {
                return Reply::Later(error.to_string());
            }
            return Reply::Later(format!("node {next} takes the lead first"));
        }
        if voters.contains(&number) {
            let change = ChangeMembers::RemoveVoters(BTreeSet::from([number]));
            if let Err(error) = raft.change_membership(change, false).await {
                return Reply::Later(error.to_string());
            }
        } else if known {
            let change = ChangeMembers::RemoveNodes(BTreeSet::from([number]));
            if let Err(error) = raft.change_membership(change, false).await {
                return Reply::Later(error.to_string());
            }
        }
        match self.commit(&NodeEntry::Remove { number }).await {
            Ok(()) => Reply::Ok,
            Err(what) => Reply::Later(what),
        }
    }

    /// Removes a node that is down for good, by name or number.
    pub(super) async fn force_leave(self: &Arc<Self>, which: &str) -> Reply {
        let found = {
            let nodes = self.member().nodes.read();
            let mut all = nodes.nodes.iter();
            all.find(|(number, node)| node.name == which || number.to_string() == which)
                .map(|(number, node)| (*number, node.up))
        };
        match found {
            None => Reply::Refused(format!("there is no node {which:?}")),
            Some((number, true)) => Reply::Refused(format!(
                "node {number} is up: let it leave by itself (`nightjar ctl cluster leave` there), or stop it first"
            )),
            Some((number, false)) => self.remove_node(number).await,
        }
    }

    /// Takes a snapshot when the log has grown enough; what is before it goes.
    async fn keep_log_short(&self) {
        let Some(raft) = self.raft() else { return };
        let written = self.log.written();
        // A state that is larger than that waits for as much log: snapshots never write more than the log does.
        let member = self.member();
        let last = member.snapshot_bytes.load(Ordering::Acquire);
        let limit = self.settings.log_limit.max(last);
        let due = {
            let mut noted = self.snapshot_at.lock();
            if member.snapshot_failed.swap(false, Ordering::AcqRel) {
                *noted = 0;
            }
            let due = written >= limit && written >= *noted;
            if due {
                // Not again before as much was written once more.
                *noted = written + limit;
            } else if written < limit {
                *noted = 0;
            }
            due
        };
        if due && let Err(error) = raft.trigger().snapshot().await {
            tracing::error!(%error, "no snapshot of the cluster's state");
        }
    }
}
