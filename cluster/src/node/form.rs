//! Forming a cluster, and joining one.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use std::collections::BTreeMap;

use super::requests::{Reply, Request, ask};
use super::{ClusterNode, Phase};
use crate::error::Error;
use crate::member::{MemberIdentity, raft_dir};
use crate::raft::{Machine, Network, Peer, Raft, config};

/// A node that dialed and was not heard of again is not dialed for longer.
const FORGET: Duration = Duration::from_secs(60);

impl ClusterNode {
    /// In no cluster: one that is found is joined; else one is formed if it was asked for, or if as many nodes as
    /// expected have found each other and this one is the first of them.
    pub(super) async fn form_or_join(self: &Arc<Self>) {
        let Some(links) = self.links() else { return };
        let all: Vec<_> = links
            .all()
            .into_iter()
            .filter_map(|link| Some((link.remote()?, link)))
            .collect();
        let formed: Vec<_> = all.iter().filter(|(it, _)| it.number != 0).collect();
        if !formed.is_empty() {
            if self.has_data {
                self.set_problem(
                    "this node has sessions, retained messages or settings of its own and cannot join a cluster: form the \
                     cluster from this node, or join with an empty data directory",
                );
                return;
            }
            for (_, link) in formed {
                if self.try_join(link).await {
                    return;
                }
            }
            return;
        }
        if self.init.load(Ordering::Acquire) {
            self.found().await;
            return;
        }
        let Some(expect) = self.settings.expect else {
            self.set_problem(
                "in no cluster: `nightjar ctl cluster init` forms one, `nightjar ctl cluster join HOST:PORT` joins one",
            );
            return;
        };
        let mut peers: BTreeMap<String, bool> = all
            .iter()
            .filter(|(it, _)| it.expect == expect)
            .map(|(it, _)| (it.node.clone(), it.has_data))
            .collect();
        peers.insert(self.settings.node.clone(), self.has_data);
        if peers.len() < usize::from(expect) {
            let names: Vec<&str> = peers.keys().map(String::as_str).collect();
            let lost = self.lost.lock().clone();
            self.set_problem(format!(
                "waits for {expect} nodes (cluster.expect); found {}: {}{}",
                peers.len(),
                names.join(", "),
                lost.map_or_else(String::new, |lost| format!("; discovery: {lost}"))
            ));
            return;
        }
        let with_data: Vec<&String> = peers
            .iter()
            .filter(|(_, has_data)| **has_data)
            .map(|(name, _)| name)
            .collect();
        if let [first, second, ..] = &with_data[..] {
            self.set_problem(format!(
                "nodes {first:?} and {second:?} both have data of their own: one cluster begins with the data of one node"
            ));
            return;
        }
        let first = with_data.first().copied().or_else(|| peers.keys().next());
        if first == Some(&self.settings.node) {
            self.found().await;
        } else if let Some(first) = first {
            self.set_problem(format!("waits for node {first:?} to form the cluster"));
        }
    }

    /// Begins a cluster of this node.
    async fn found(self: &Arc<Self>) {
        let identity = MemberIdentity {
            cluster: self.store.recovered().cluster.clone(),
            number: 1,
            left: false,
        };
        tracing::info!(cluster = %identity.cluster, "this node forms a cluster");
        if let Err(error) = self.become_member(identity).await {
            self.set_problem(format!("cannot form a cluster: {error}"));
        }
    }

    async fn become_member(self: &Arc<Self>, identity: MemberIdentity) -> Result<(), Error> {
        identity.write(self.store.dir(), &*self.files)?;
        let number = identity.number;
        *self.identity.write() = Some(identity);
        self.member().number.store(number, Ordering::Release);
        self.start_raft(number).await?;
        self.set_phase(Phase::Starting);
        if let Some(links) = self.links() {
            // They learn the number in a new greeting.
            links.renew();
        }
        Ok(())
    }

    async fn try_join(self: &Arc<Self>, link: &crate::links::Link) -> bool {
        let nonce = {
            let mut lease = self.lease.lock();
            if lease.nonce == 0 {
                lease.nonce = super::random();
            }
            lease.nonce
        };
        let request = Request::Join {
            name: self.settings.node.clone(),
            address: self.own_address(),
            nonce,
            groups: (self.core().groups.sessions, self.core().groups.retained),
        };
        match ask(link, &request, Duration::from_secs(10)).await {
            Ok(Reply::Joined { number, cluster }) => {
                tracing::info!(%cluster, number, "joined");
                self.lease.lock().nonce = 0;
                let identity = MemberIdentity {
                    cluster,
                    number,
                    left: false,
                };
                if let Err(error) = self.become_member(identity).await {
                    self.set_problem(format!("cannot join: {error}"));
                }
                return true;
            }
            Ok(Reply::NotLeader) => {}
            Ok(Reply::Refused(what)) => self.set_problem(format!("may not join: {what}")),
            Ok(Reply::Later(what)) => self.set_problem(format!("cannot join yet: {what}")),
            Ok(_) => {}
            Err(what) => self.set_problem(format!("cannot join yet: {what}")),
        }
        false
    }

    /// Starts consensus on what stands in the data directory.
    pub(super) async fn start_raft(self: &Arc<Self>, number: u64) -> Result<(), Error> {
        let Some(links) = self.links() else {
            return Ok(());
        };
        let Some(opened) = self.opened.lock().take() else {
            return Ok(());
        };
        let words = |error: &dyn std::fmt::Display| Error::Log(format!("consensus: {error}"));
        let machine = Machine::new(
            self.store.core.clone(),
            raft_dir(self.store.dir()),
            self.files.clone(),
            opened.snapshot,
        );
        let config = config(&self.settings.name)
            .validate()
            .map_err(|error| words(&error))?;
        let raft = Raft::new(
            number,
            Arc::new(config),
            Network::new(links.clone()),
            opened.log,
            machine,
        )
        .await
        .map_err(|error| words(&error))?;
        if number == 1 {
            let initialized = raft.is_initialized().await.map_err(|error| words(&error))?;
            if !initialized {
                let peer = Peer {
                    name: self.settings.node.clone(),
                    address: self.own_address(),
                };
                raft.initialize(BTreeMap::from([(1, peer)]))
                    .await
                    .map_err(|error| words(&error))?;
            }
        }
        *self.raft.write() = Some(raft);
        Ok(())
    }

    /// Addresses of nodes that dialed this one lately.
    pub(super) fn heard_of(&self) -> Vec<String> {
        let mut heard = self.heard.lock();
        heard.retain(|address, at| !address.is_empty() && at.elapsed() < FORGET);
        heard.keys().cloned().collect()
    }

    /// This node left for good.
    pub(super) fn left(&self) {
        let identity = self.identity.read().clone();
        if let Some(identity) = identity {
            let left = MemberIdentity {
                left: true,
                ..identity
            };
            if let Err(error) = left.write(self.store.dir(), &*self.files) {
                tracing::error!(%error, "it will not be remembered that this node left");
            }
        }
        self.fence();
        self.set_phase(Phase::Left);
        self.set_problem("this node left its cluster; stop it");
    }
}
