//! Nodes that do not reach each other although both reach the leader.
//!
//! Each would wait for the other with every SUBACK for as long as both leases go on. So a node tells the leader whom it
//! has had no link to for a while, and the leader ends the incarnation of one of the two. That one comes back when it
//! has a link to those it was cut off from.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;
use std::time::Duration;

use nightjar_broker::Timestamp;

use super::requests::Request;
use super::{ClusterNode, LEASE, RENEW};
use crate::member::NodeEntry;
use tokio::time::Instant;

/// A link that is down for so long counts; links that begin anew are shorter.
const PATIENCE: Duration = Duration::from_millis(1500);
/// A complaint that is not repeated for so long is over.
const FRESH: Duration = Duration::from_secs(3);
/// A node that the leader has heard of so recently lives: else its lease decides.
const ALIVE: Duration = Duration::from_secs(2);

/// What a node knows of its links, and, when it leads, of those of others.
#[derive(Default)]
pub(super) struct Reach {
    /// Since when there is no link to a node that is up.
    absent: HashMap<u64, Instant>,
    /// Whom this node did not reach when it was put out.
    cut_off: BTreeSet<u64>,
    /// Who complained about whom, and when last.
    complaints: HashMap<(u64, u64), Instant>,
    told: Option<Instant>,
}

/// Who is to go, given who complains about whom: the node with most on its hands, and of equals the youngest. Never the
/// leader.
fn loser(complaints: &BTreeSet<(u64, u64)>, leader: u64) -> Option<u64> {
    let mut partners: BTreeMap<u64, BTreeSet<u64>> = BTreeMap::new();
    for (from, about) in complaints {
        partners.entry(*from).or_default().insert(*about);
        partners.entry(*about).or_default().insert(*from);
    }
    partners
        .into_iter()
        .filter(|(node, _)| *node != leader)
        .max_by_key(|(node, partners)| (partners.len(), *node))
        .map(|(node, _)| node)
}

impl ClusterNode {
    /// Nodes that are up and that this one has had no link to for a while.
    fn unreached(&self) -> Vec<u64> {
        let Some(links) = self.links() else {
            return Vec::new();
        };
        let here = self.member().number();
        let up: BTreeSet<u64> = self.member().nodes.read().up().collect();
        let now = Instant::now();
        let mut reach = self.reach.lock();
        reach
            .absent
            .retain(|node, _| up.contains(node) && links.to(*node).is_none());
        for node in up.into_iter().filter(|node| *node != here) {
            if links.to(node).is_none() {
                reach.absent.entry(node).or_insert(now);
            }
        }
        let long = reach.absent.iter();
        long.filter(|(_, since)| now.duration_since(**since) >= PATIENCE)
            .map(|(node, _)| *node)
            .collect()
    }

    /// Tells the leader whom this node does not reach.
    pub(super) fn look_at_links(self: &Arc<Self>) {
        let nodes = self.unreached();
        let due = {
            let mut reach = self.reach.lock();
            let due = !nodes.is_empty() && reach.told.is_none_or(|told| told.elapsed() >= RENEW);
            if due {
                reach.told = Some(Instant::now());
            }
            due
        };
        if !due || self.member().flight.lock().incarnation == 0 {
            return;
        }
        let request = Request::Unreached {
            number: self.member().number(),
            nodes,
        };
        let node = self.clone();
        tokio::spawn(async move {
            // It is said again as long as it is so.
            let _ = node.ask_leader(request, LEASE).await;
        });
    }

    /// A node says whom it does not reach.
    pub(super) fn note_unreached(&self, number: u64, nodes: &[u64]) {
        let now = Instant::now();
        let known = self.member().nodes.read().nodes.len();
        let mut reach = self.reach.lock();
        for about in nodes.iter().take(known) {
            reach.complaints.insert((number, *about), now);
        }
    }

    /// Of two nodes that do not reach each other one is put out.
    pub(super) async fn part_the_unreached(&self) {
        let now = Instant::now();
        let here = self.member().number();
        let recent: BTreeSet<u64> = {
            let leases = self.leases.lock();
            let Some(time) = now.checked_sub(ALIVE) else {
                return;
            };
            leases.heard_since(time).chain([here]).collect()
        };
        let up: BTreeMap<u64, u64> = {
            let nodes = self.member().nodes.read();
            let up = nodes.nodes.iter().filter(|(_, node)| node.up);
            up.map(|(number, node)| (*number, node.incarnation))
                .collect()
        };
        let complaints: BTreeSet<(u64, u64)> = {
            let mut reach = self.reach.lock();
            reach
                .complaints
                .retain(|_, at| now.saturating_duration_since(*at) <= FRESH);
            let live = |node: &u64| up.contains_key(node) && recent.contains(node);
            reach
                .complaints
                .keys()
                .filter(|(from, about)| live(from) && live(about))
                .copied()
                .collect()
        };
        let Some(number) = loser(&complaints, here) else {
            return;
        };
        let Some(incarnation) = up.get(&number).copied() else {
            return;
        };
        tracing::warn!(
            number,
            ?complaints,
            "nodes do not reach each other: one is put out until they do"
        );
        let entry = NodeEntry::Down {
            number,
            incarnation,
            now: Timestamp::now().0,
        };
        if let Err(what) = self.commit(&entry).await {
            self.set_problem(what);
            return;
        }
        let mut reach = self.reach.lock();
        reach
            .complaints
            .retain(|(from, about), _| *from != number && *about != number);
    }

    /// This node is out: it remembers whom it did not reach.
    pub(super) fn note_cut_off(&self) {
        let nodes = self.unreached();
        self.reach.lock().cut_off = nodes.into_iter().collect();
    }

    /// Whom this node was cut off from, and does not reach yet.
    pub(super) fn still_cut_off(&self) -> Vec<u64> {
        let missing = self.unreached();
        let mut reach = self.reach.lock();
        reach.cut_off.retain(|node| missing.contains(node));
        reach.cut_off.iter().copied().collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_two_that_do_not_reach_each_other_the_younger_goes_and_never_the_leader() {
        let pairs = |pairs: &[(u64, u64)]| pairs.iter().copied().collect::<BTreeSet<_>>();
        assert_eq!(loser(&pairs(&[]), 1), None);
        assert_eq!(loser(&pairs(&[(2, 3)]), 1), Some(3));
        assert_eq!(loser(&pairs(&[(2, 3), (3, 2)]), 1), Some(3));
        assert_eq!(loser(&pairs(&[(2, 3)]), 3), Some(2));
        // One that two others do not reach goes before either of them.
        assert_eq!(loser(&pairs(&[(2, 3), (2, 4)]), 1), Some(2));
    }
}
