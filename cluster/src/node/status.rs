//! What `cluster status` shows, and the commands of an operator.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use nightjar_mqtt::ReasonCode;
use openraft::async_runtime::watch::WatchReceiver;
use serde::Serialize;

use super::requests::{Reply, Request};
use super::{ClusterNode, LEASE, Phase};
use crate::routes::RouteStatus;
use tokio::time::Instant;

/// Clients that a node which leaves sends away each second, and how long it does so before it closes the rest.
const LEAVE_RATE: u32 = 500;
const LEAVE_DRAIN: Duration = Duration::from_secs(30);

/// One node of the cluster as this node sees it.
#[derive(Debug, Clone, Serialize)]
pub struct NodeStatus {
    /// Its number.
    pub number: u64,
    /// `node.name`.
    pub name: String,
    /// Where its links are.
    pub address: String,
    /// Its lease holds.
    pub up: bool,
    /// How often it came up.
    pub incarnation: u64,
    /// Since when it is up or down, ms since 1970.
    pub since: u64,
    /// leader, voter, learner, or none.
    pub role: &'static str,
    /// Its version, if it said so.
    pub version: Option<String>,
    /// Its connections, as last heard.
    pub clients: Option<u64>,
    /// It takes no clients: it drains, or is a witness.
    pub closed: Option<bool>,
    /// What clients are told that are sent there.
    pub reference: Option<String>,
    /// Milliseconds until its lease ends if it is not heard again; known to the leader alone.
    pub lease: Option<u64>,
    /// This node's link to it: self, up, or why not.
    pub link: String,
    /// The oldest and the newest version of the protocol that it speaks; `None`: there is no link to it.
    pub speaks: Option<(u16, u16)>,
    /// Bytes that wait for it.
    pub queued: usize,
    /// Entries of the log it lacks; known to the leader alone.
    pub lag: Option<u64>,
}

/// The cluster as this node sees it.
#[derive(Debug, Clone, Serialize)]
pub struct Status {
    /// `cluster.name`.
    pub name: String,
    /// Id of the cluster, if this node is in one.
    pub id: Option<String>,
    /// `node.name`.
    pub node: String,
    /// Number of this node; 0: none yet.
    pub number: u64,
    /// forming, starting, serving or left.
    pub state: &'static str,
    /// Why it is not serving.
    pub problem: Option<String>,
    /// Number of the leader.
    pub leader: Option<u64>,
    /// A majority of the voters is up and can be reached from here.
    pub quorum: bool,
    /// Term of consensus.
    pub term: u64,
    /// Last entry of the log, and the last applied here.
    pub last: u64,
    /// The last entry applied here.
    pub applied: u64,
    /// Milliseconds until the lease of this node ends.
    pub lease: Option<u64>,
    /// The nodes.
    pub nodes: Vec<NodeStatus>,
    /// What each node wants, as known here.
    pub routes: Vec<RouteStatus>,
    /// SUBACKs that wait for other nodes.
    pub waiting: usize,
    /// Frames of messages that other nodes have not acknowledged.
    pub unacknowledged: usize,
    /// Messages of QoS 0 that had no link to their node, or one that was full.
    pub dropped: u64,
    /// Links that were refused, and frames that were not what they should be.
    pub refused: u64,
    /// Its clients go elsewhere.
    pub draining: bool,
    /// Why discovery finds no nodes.
    pub discovery: Option<String>,
    /// The version of the protocol that the cluster uses.
    pub protocol: u16,
    /// The oldest and the newest version that this node speaks.
    pub speaks: (u16, u16),
    /// Entries of the kind for tests that were applied since the start.
    #[cfg(feature = "next-protocol")]
    pub marks: u64,
}

impl ClusterNode {
    /// The cluster as this node sees it.
    #[must_use]
    pub fn status(&self) -> Status {
        let member = self.member();
        let here = member.number();
        let nodes = member.nodes.read().clone();
        let links = self.links().map(|links| links.all()).unwrap_or_default();
        let mut status = Status {
            name: self.settings.name.clone(),
            id: self.identity.read().as_ref().map(|it| it.cluster.clone()),
            node: self.settings.node.clone(),
            number: here,
            state: self.phase().name(),
            problem: self.problem.lock().clone(),
            leader: None,
            quorum: false,
            term: 0,
            last: 0,
            applied: member.applied.load(Ordering::Acquire),
            lease: self.lease.lock().until.map(|until| {
                u64::try_from(until.saturating_duration_since(Instant::now()).as_millis())
                    .unwrap_or(u64::MAX)
            }),
            nodes: Vec::new(),
            // Those that left are of no interest any more.
            routes: self
                .routes
                .status(here)
                .into_iter()
                .filter(|it| it.node == here || nodes.nodes.contains_key(&it.node))
                .collect(),
            waiting: member.held(),
            unacknowledged: self.forwards.unacked(),
            dropped: self.forwards.dropped(),
            refused: self
                .links()
                .map_or(0, |links| links.refused.load(Ordering::Relaxed)),
            draining: self.draining.load(Ordering::Acquire),
            discovery: self.lost.lock().clone(),
            protocol: self.version(),
            speaks: self.versions_now(),
            #[cfg(feature = "next-protocol")]
            marks: member.marks.load(Ordering::Relaxed),
        };
        let mut loads = self.loads();
        loads.insert(here, self.load());
        let leases: HashMap<u64, Instant> = {
            let leases = self.leases.lock();
            let up = nodes.nodes.iter().filter(|(_, node)| node.up);
            up.filter_map(|(number, _)| Some((*number, leases.heard(*number)?)))
                .collect()
        };
        let raft = self.raft();
        let metrics = raft
            .as_ref()
            .map(|raft| raft.metrics().borrow_watched().clone());
        let mut voters = Vec::new();
        if let Some(metrics) = &metrics {
            status.leader = metrics.current_leader;
            status.term = metrics.current_term;
            status.last = metrics.last_log_index.unwrap_or(0);
            voters = metrics.membership_config.membership().voter_ids().collect();
            // Without a majority nobody can say that a node is down: what counts is who can be reached.
            let reached =
                |voter: &u64| *voter == here || links.iter().any(|link| link.is_to(*voter));
            let up = voters
                .iter()
                .filter(|voter| nodes.is_up(**voter) && reached(voter))
                .count();
            status.quorum = up * 2 > voters.len();
        }
        for (number, node) in &nodes.nodes {
            let member = metrics.as_ref().is_some_and(|metrics| {
                let membership = metrics.membership_config.membership();
                membership.get_node(number).is_some()
            });
            let link = links.iter().find(|link| link.is_to(*number));
            let error = || {
                let down = links.iter().find(|link| link.address == node.address);
                down.and_then(|link| link.error())
                    .unwrap_or_else(|| "down".to_owned())
            };
            let lag = metrics.as_ref().and_then(|metrics| {
                let matched = metrics.replication.as_ref()?.get(number)?.as_ref();
                Some(status.last.saturating_sub(matched.map_or(0, |id| id.index)))
            });
            let load = loads.get(number);
            let lease = leases.get(number).map(|heard| {
                let end = *heard + LEASE;
                end.saturating_duration_since(Instant::now()).as_millis() as u64
            });
            status.nodes.push(NodeStatus {
                number: *number,
                version: load.map(|load| load.version.clone()),
                clients: load.map(|load| load.clients),
                closed: load.map(|load| load.closed),
                reference: load
                    .map(|load| load.reference.clone())
                    .filter(|reference| !reference.is_empty()),
                lease,
                name: node.name.clone(),
                address: node.address.clone(),
                up: node.up,
                incarnation: node.incarnation,
                since: node.since,
                role: if status.leader == Some(*number) {
                    "leader"
                } else if voters.contains(number) {
                    "voter"
                } else if member {
                    "learner"
                } else {
                    "none"
                },
                link: match link {
                    _ if *number == here => "self".to_owned(),
                    Some(_) => "up".to_owned(),
                    None => error(),
                },
                speaks: if *number == here {
                    Some(status.speaks)
                } else {
                    link.and_then(|link| link.speaks())
                },
                queued: link.map_or(0, |link| link.queued()),
                lag,
            });
        }
        status
    }

    /// Leaves the cluster for good: clients go elsewhere, others take this node's part.
    ///
    /// # Errors
    /// In words: in no cluster, the only voter, or no majority.
    pub async fn leave(self: &Arc<Self>) -> Result<(), String> {
        let number = self.member().number();
        if number == 0 {
            return Err("this node is in no cluster".to_owned());
        }
        let nodes = self.member().nodes.read().nodes.len();
        if nodes < 2 {
            return Err("this node is the only one of its cluster".to_owned());
        }
        if let Some(broker) = self.broker() {
            // Clients move at a pace that the others bear, if there is somewhere to go.
            if self.drain(LEAVE_RATE).await.is_ok() {
                let until = Instant::now() + LEAVE_DRAIN;
                while broker.connected() > 0 && Instant::now() < until {
                    tokio::time::sleep(Duration::from_millis(50)).await;
                }
            }
            self.member().serving.store(false, Ordering::Release);
            broker.close_all(ReasonCode::ServerMoved);
        }
        tokio::time::sleep(Duration::from_millis(500)).await;
        self.ask_until(&Request::Leave { number }).await?;
        // The entry that removes it need not reach a node that is removed.
        self.left();
        Ok(())
    }

    /// Removes a node that is down for good.
    ///
    /// # Errors
    /// In words: unknown, up, or no majority.
    pub async fn force_leave_node(self: &Arc<Self>, node: &str) -> Result<(), String> {
        self.ask_until(&Request::ForceLeave {
            node: node.to_owned(),
        })
        .await
    }

    pub(super) async fn ask_until(self: &Arc<Self>, request: &Request) -> Result<(), String> {
        let until = Instant::now() + Duration::from_secs(30);
        loop {
            let what = match self
                .ask_leader(request.clone(), Duration::from_secs(10))
                .await
            {
                Ok(Reply::Ok) => return Ok(()),
                Ok(Reply::Refused(what)) => return Err(what),
                Ok(Reply::Later(what)) | Err(what) => what,
                Ok(other) => format!("{other:?}"),
            };
            if Instant::now() > until || self.phase() == Phase::Left {
                return Err(what);
            }
            tokio::time::sleep(Duration::from_millis(300)).await;
        }
    }
}
