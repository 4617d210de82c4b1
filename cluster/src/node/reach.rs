//! Nodes that do not reach each other although both reach the leader.
//!
//! Each would wait for the other with every SUBACK for as long as both leases go on. So a node tells the leader whom it
//! has had no link to for a while, and the leader lets the lease of one of the two end: it stops, says so, and comes back
//! when it has a link to those it was cut off from. A node that was killed is not reached either; only one that the leader
//! has heard of since the complaint counts.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;
use std::time::Duration;

use super::requests::Request;
use super::{ClusterNode, LEASE};
use tokio::time::Instant;

/// A link that is down for so long is told to the leader.
const SOON: Duration = Duration::from_millis(300);
/// One that is down for so long counts; links that begin anew are shorter.
const PATIENCE: Duration = Duration::from_millis(1500);
/// So often it is told again.
const REPEAT: Duration = Duration::from_millis(500);
/// A complaint that is not repeated for so long is over.
const FRESH: Duration = Duration::from_secs(3);

/// What a node knows of its links, and, when it leads, of those of others.
#[derive(Default)]
pub(super) struct Reach {
    /// Since when there is no link to a node that is up.
    absent: HashMap<u64, Instant>,
    /// Whom this node did not reach when it was put out.
    cut_off: BTreeSet<u64>,
    /// Who complains about whom.
    complaints: HashMap<(u64, u64), Complaint>,
    told: Option<Instant>,
}

/// A complaint that was repeated from then to then.
struct Complaint {
    first: Instant,
    last: Instant,
    /// When the leader heard of whom it is about, since the first time.
    alive: Option<Instant>,
}

impl Reach {
    /// A node says whom it does not reach.
    fn complain(&mut self, from: u64, about: impl Iterator<Item = u64>, now: Instant) {
        self.forget(now);
        for about in about {
            let complaint = self.complaints.entry((from, about));
            let complaint = complaint.or_insert(Complaint {
                first: now,
                last: now,
                alive: None,
            });
            complaint.last = now;
        }
    }

    fn forget(&mut self, now: Instant) {
        self.complaints
            .retain(|_, it| now.saturating_duration_since(it.last) <= FRESH);
    }

    /// Who complains about whom, though the leader heard of that one meanwhile and the complaint went on for long behind it.
    /// `heard` says when it heard of a node last; `None`: that one is not to be looked at.
    fn proven(
        &mut self,
        now: Instant,
        heard: impl Fn(u64) -> Option<Instant>,
    ) -> BTreeSet<(u64, u64)> {
        self.forget(now);
        let mut proven = BTreeSet::new();
        for ((from, about), it) in &mut self.complaints {
            let (Some(_), Some(heard)) = (heard(*from), heard(*about)) else {
                it.alive = None;
                continue;
            };
            if it.alive.is_none() && heard > it.first {
                it.alive = Some(heard);
            }
            if it.alive.is_some_and(|alive| it.last >= alive + PATIENCE) {
                proven.insert((*from, *about));
            }
        }
        proven
    }
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
    fn unreached(&self, patience: Duration) -> Vec<u64> {
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
        long.filter(|(_, since)| now.duration_since(**since) >= patience)
            .map(|(node, _)| *node)
            .collect()
    }

    /// Tells the leader whom this node does not reach.
    pub(super) fn look_at_links(self: &Arc<Self>) {
        let nodes = self.unreached(SOON);
        let due = {
            let mut reach = self.reach.lock();
            let due = !nodes.is_empty() && reach.told.is_none_or(|told| told.elapsed() >= REPEAT);
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
        let known = self.member().nodes.read().nodes.len();
        let about = nodes.iter().take(known).copied();
        self.reach.lock().complain(number, about, Instant::now());
    }

    /// Of two nodes that do not reach each other one is put out: its lease does not go on. It stops when it is told, and says
    /// so; if it is not told its lease ends it. Put down at once it would go on for a while with routes that nobody completes.
    pub(super) fn part_the_unreached(&self) {
        let Some(links) = self.links() else { return };
        let now = Instant::now();
        let here = self.member().number();
        let up: BTreeMap<u64, u64> = {
            let nodes = self.member().nodes.read();
            let up = nodes.nodes.iter().filter(|(_, node)| node.up);
            up.map(|(number, node)| (*number, node.incarnation))
                .collect()
        };
        let mut leases = self.leases.lock();
        let complaints = {
            let heard = |node: u64| {
                if node == here {
                    return Some(now);
                }
                let incarnation = *up.get(&node)?;
                let looked_at = links.to(node).is_some() && !leases.ends(node, incarnation);
                leases.heard(node).filter(|_| looked_at)
            };
            self.reach.lock().proven(now, heard)
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
        leases.refuse(number, incarnation);
    }

    /// This node is out: it remembers whom it did not reach.
    pub(super) fn note_cut_off(&self) {
        let nodes = self.unreached(PATIENCE);
        self.reach.lock().cut_off = nodes.into_iter().collect();
    }

    /// Whom this node was cut off from, and does not reach yet.
    pub(super) fn still_cut_off(&self) -> Vec<u64> {
        let missing = self.unreached(PATIENCE);
        let mut reach = self.reach.lock();
        reach.cut_off.retain(|node| missing.contains(node));
        reach.cut_off.iter().copied().collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_does_not_reach_a_node_that_was_killed_stays() {
        let begin = Instant::now();
        let at = |millis| begin + Duration::from_millis(millis);
        let mut reach = Reach::default();
        let mut look = |now: u64, heard: u64| {
            // Node 3 says each half a second that it does not reach node 2.
            reach.complain(3, [2].into_iter(), at(now));
            let heard = |node| Some(at(if node == 2 { heard } else { now }));
            reach.proven(at(now), heard)
        };
        // Node 2 was heard of just before it was killed.
        for now in (500..5500).step_by(500) {
            assert!(look(now, 200).is_empty());
        }
        // It is up again: the other one has time to find that out.
        for now in (5500..7000).step_by(500) {
            assert!(look(now, 5500).is_empty());
        }
        assert_eq!(look(7000, 6500), BTreeSet::from([(3, 2)]));
        let later = at(20_000);
        assert!(
            reach.proven(later, |_| Some(later)).is_empty(),
            "not repeated"
        );
    }

    #[test]
    fn who_is_not_looked_at_is_not_parted() {
        let begin = Instant::now();
        let at = |seconds| begin + Duration::from_secs(seconds);
        let mut reach = Reach::default();
        for now in 0..5 {
            reach.complain(3, [2].into_iter(), at(now));
            let heard = |node| (node == 3).then_some(at(now));
            assert!(reach.proven(at(now), heard).is_empty());
        }
    }

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
