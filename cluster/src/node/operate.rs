//! Operating a cluster: what nodes say of their load, where clients may go instead, moving them there, and comparing what
//! the nodes hold.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use nightjar_broker::Signal;
use nightjar_mqtt::ReasonCode;
use openraft::async_runtime::watch::WatchReceiver;
use serde::{Deserialize, Serialize};

use super::requests::{Reply, Request, ask};
use super::{ClusterNode, random};
use crate::member::NodeEntry;
use crate::routes::RouteStatus;
use tokio::time::Instant;

/// What a node said is old after so long: clients are not sent there.
const OLD: Duration = Duration::from_secs(10);
/// How long a node may take to say how it is.
const PATIENCE: Duration = Duration::from_secs(2);
/// Clients are closed in portions, so often.
const PORTION: Duration = Duration::from_millis(100);
/// A node may have so many parts in a hundred more clients than the mean before some of them move.
const TOLERANCE: u64 = 5;
/// Digests are compared as long as they differ by what is on its way, at most so long.
const SETTLE: Duration = Duration::from_secs(10);
/// A node may take so much longer to make its digests.
const DIGESTS: Duration = Duration::from_secs(10);

/// What a node says of itself.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Load {
    pub clients: u64,
    pub serving: bool,
    /// It takes no clients: it drains, or is a witness.
    pub closed: bool,
    /// Where its clients connect; empty: that is not known.
    pub reference: String,
    pub version: String,
}

/// What a node holds at one entry of the log.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Digests {
    pub nonce: u64,
    pub index: u64,
    /// Of each group.
    pub groups: Vec<u64>,
}

/// What [`Digests`] a node has, and what it knows of routes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Known {
    pub digests: Option<Digests>,
    /// Node, filters, digest.
    pub routes: Vec<(u64, u64, String)>,
}

/// Another node's load, as last heard.
pub(super) struct Heard {
    pub load: Load,
    at: Instant,
    /// Clients that were sent there since.
    sent: u64,
}

/// What `cluster verify` found.
#[derive(Debug, Clone, Serialize)]
pub struct Verdict {
    /// The entry of the log at which the nodes were compared.
    pub index: u64,
    /// Names of the nodes that were compared.
    pub nodes: Vec<String>,
    /// Groups of state that were compared.
    pub groups: usize,
    /// What differs, in words; empty: nothing.
    pub differences: Vec<String>,
}

/// What `cluster rebalance` does with one node.
#[derive(Debug, Clone, Serialize)]
pub struct Move {
    /// Name of the node.
    pub node: String,
    /// Clients it has.
    pub clients: u64,
    /// Clients it sends away.
    pub moves: u64,
}

impl ClusterNode {
    /// The port on which MQTT clients connect to this node: with the host of its links what other nodes tell clients
    /// that are to go there, unless it is configured.
    pub fn set_client_port(&self, port: u16) {
        self.client_port.store(port, Ordering::Relaxed);
    }

    /// Takes this node no clients, because it drains or is a witness?
    pub fn is_closed(&self) -> bool {
        self.settings.witness || self.draining.load(Ordering::Acquire)
    }

    fn reference(&self) -> String {
        if let Some(reference) = &self.settings.reference {
            return reference.clone();
        }
        let port = self.client_port.load(Ordering::Relaxed);
        match self.own_address().rsplit_once(':') {
            Some((host, _)) if port != 0 => format!("{host}:{port}"),
            _ => String::new(),
        }
    }

    pub(super) fn load(&self) -> Load {
        Load {
            clients: self.broker().map_or(0, |broker| broker.connected() as u64),
            serving: self.member().serves(),
            closed: self.is_closed(),
            reference: self.reference(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
        }
    }

    /// Asks all nodes how they are.
    pub(super) async fn ask_loads(&self) {
        let Some(links) = self.links() else { return };
        let here = self.member().number();
        let asked = links.all().into_iter().filter_map(|link| {
            let number = link.remote()?.number;
            (number != 0 && number != here).then_some((number, link))
        });
        let answers = asked.map(|(number, link)| async move {
            (number, ask(&link, &Request::Load, PATIENCE).await)
        });
        let answers = futures_util::future::join_all(answers).await;
        let mut heard = self.loads.lock();
        for (number, answer) in answers {
            if let Ok(Reply::Load(load)) = answer {
                let at = Instant::now();
                heard.insert(number, Heard { load, at, sent: 0 });
            }
        }
        let nodes = self.member().nodes.read();
        heard.retain(|number, _| nodes.nodes.contains_key(number));
    }

    /// Loads as last heard, by number.
    pub(super) fn loads(&self) -> HashMap<u64, Load> {
        let heard = self.loads.lock();
        heard
            .iter()
            .map(|(number, heard)| (*number, heard.load.clone()))
            .collect()
    }

    /// The server reference for a client that this node sends away: of the nodes that take clients the one with the
    /// fewest. `None`: there is no such node.
    pub fn elsewhere(&self) -> Option<String> {
        let links = self.links()?;
        let mut heard = self.loads.lock();
        let next = heard
            .iter_mut()
            .filter(|(number, heard)| {
                let load = &heard.load;
                let takes = load.serving && !load.closed && !load.reference.is_empty();
                takes && heard.at.elapsed() < OLD && links.to(**number).is_some()
            })
            .min_by_key(|(number, heard)| (heard.load.clients + heard.sent, **number));
        next.map(|(_, heard)| {
            heard.sent += 1;
            heard.load.reference.clone()
        })
    }

    /// Takes no more clients and sends those it has elsewhere, so many each second; a leader hands over.
    ///
    /// # Errors
    /// In words: no other node takes clients.
    pub async fn drain(self: &Arc<Self>, rate: u32) -> Result<(), String> {
        self.ask_loads().await;
        if self.elsewhere().is_none() {
            return Err(
                "no other node takes clients now: start one, or see `nightjar ctl cluster status`"
                    .to_owned(),
            );
        }
        let drains = self.draining.swap(true, Ordering::AcqRel);
        self.hand_over().await;
        if !drains {
            let node = self.clone();
            tokio::spawn(async move {
                let goes_on = |node: &Self| node.draining.load(Ordering::Acquire);
                while goes_on(&node) {
                    node.shed(u64::MAX, rate, &goes_on).await;
                    tokio::time::sleep(PORTION).await;
                }
            });
        }
        Ok(())
    }

    /// Takes clients again.
    pub fn end_drain(&self) {
        self.draining.store(false, Ordering::Release);
    }

    /// Lets another voter lead, if this node does.
    async fn hand_over(&self) {
        let number = self.member().number();
        let Some(raft) = self.raft().filter(|_| self.leader() == Some(number)) else {
            return;
        };
        let next = {
            let metrics = raft.metrics();
            let metrics = metrics.borrow_watched();
            let nodes = self.member().nodes.read();
            let closed = self.loads();
            let voters: Vec<u64> = metrics.membership_config.membership().voter_ids().collect();
            voters.into_iter().find(|other| {
                let takes = closed.get(other).is_some_and(|load| !load.closed);
                *other != number && nodes.is_up(*other) && takes
            })
        };
        if let Some(next) = next
            && let Err(error) = raft.trigger().transfer_leader(next).await
        {
            tracing::warn!(%error, next, "the lead stays here");
        }
    }

    /// A node that should not lead lets another one do it.
    pub(super) async fn keep_lead_elsewhere(&self) {
        if (self.is_closed() || self.log_trouble().is_some()) && self.member().leads() {
            self.hand_over().await;
        }
    }

    /// Closes so many connections, `rate` each second, as long as `goes_on`.
    async fn shed(&self, count: u64, rate: u32, goes_on: &(impl Fn(&Self) -> bool + Sync)) {
        let Some(broker) = self.broker() else { return };
        let mut left = count;
        let mut due = 0.0;
        let each = f64::from(rate.max(1)) * PORTION.as_secs_f64();
        let mut clients = broker.clients().into_iter();
        while left > 0 && goes_on(self) {
            due += each;
            while due >= 1.0 && left > 0 {
                let Some(client) = clients.next() else { return };
                if client.is_connected() {
                    let signal = Signal::Close(ReasonCode::UseAnotherServer);
                    client.signal(client.epoch(), signal);
                    left -= 1;
                    due -= 1.0;
                }
            }
            tokio::time::sleep(PORTION).await;
        }
    }

    /// Another node asks this one to send clients away.
    pub(super) fn begin_shed(self: &Arc<Self>, count: u64, rate: u32) {
        let node = self.clone();
        tokio::spawn(async move {
            node.ask_loads().await;
            node.shed(count, rate, &|_: &Self| true).await;
        });
    }

    /// Evens out the clients of all nodes: those with more than the mean send some away, `rate` each second.
    ///
    /// # Errors
    /// In words: no other node takes clients.
    pub async fn rebalance(self: &Arc<Self>, rate: u32) -> Result<Vec<Move>, String> {
        self.ask_loads().await;
        let here = self.member().number();
        let names: BTreeMap<u64, String> = {
            let nodes = self.member().nodes.read();
            let up = nodes.nodes.iter().filter(|(_, node)| node.up);
            up.map(|(number, node)| (*number, node.name.clone()))
                .collect()
        };
        let mut loads = self.loads();
        loads.insert(here, self.load());
        let takers: Vec<(u64, u64)> = names
            .keys()
            .filter_map(|number| Some((*number, loads.get(number)?)))
            .filter(|(_, load)| load.serving && !load.closed)
            .map(|(number, load)| (number, load.clients))
            .collect();
        if takers.len() < 2 {
            return Err("fewer than two nodes take clients".to_owned());
        }
        let mut moves = Vec::new();
        for (number, clients, away) in shares(&takers) {
            if away > 0 && number == here {
                self.begin_shed(away, rate);
            } else if away > 0 {
                let link = self.links().and_then(|links| links.to(number));
                let link = link.ok_or_else(|| format!("there is no link to node {number}"))?;
                let request = Request::Shed { count: away, rate };
                match ask(&link, &request, PATIENCE).await? {
                    Reply::Ok => {}
                    other => return Err(format!("node {number}: {other:?}")),
                }
            }
            moves.push(Move {
                node: names.get(&number).cloned().unwrap_or_default(),
                clients,
                moves: away,
            });
        }
        Ok(moves)
    }

    /// What this node holds and knows.
    pub(super) fn known(&self, nonce: u64) -> Known {
        let digests = self.member().digests.lock().clone();
        Known {
            digests: digests.filter(|digests| digests.nonce == nonce),
            routes: self
                .routes
                .status(self.member().number())
                .into_iter()
                .map(
                    |RouteStatus {
                         node,
                         filters,
                         digest,
                     }| (node, filters as u64, digest),
                )
                .collect(),
        }
    }

    /// The nodes that are up. A node of an older version, which says nothing of its load, could not read the entry at
    /// which digests are made.
    pub(super) async fn all_who_know_digests(&self) -> Result<BTreeMap<u64, String>, String> {
        self.ask_loads().await;
        let loads = self.loads();
        let here = self.member().number();
        let nodes = self.member().nodes.read();
        let up = nodes.nodes.iter().filter(|(_, node)| node.up);
        up.map(|(number, node)| {
            if *number == here || loads.contains_key(number) {
                return Ok((*number, node.name.clone()));
            }
            Err(format!(
                "node {:?} does not say how it is: it is not reachable, or of an older version",
                node.name
            ))
        })
        .collect()
    }

    /// Compares what all nodes hold at one entry of the log, and what they know of each other's routes.
    ///
    /// # Errors
    /// In words: no majority, or a node that does not answer.
    pub async fn verify(self: &Arc<Self>) -> Result<Verdict, String> {
        let names = self.all_who_know_digests().await?;
        let here = self.member().number();
        let nonce = random();
        match self.ask_leader(Request::Verify { nonce }, SETTLE).await? {
            Reply::Ok => {}
            Reply::Later(what) | Reply::Refused(what) => return Err(what),
            other => return Err(format!("not now: {other:?}")),
        }
        let until = Instant::now() + SETTLE;
        loop {
            let mut known = BTreeMap::from([(here, self.known(nonce))]);
            for number in names.keys().filter(|number| **number != here) {
                let link = self.links().and_then(|links| links.to(*number));
                let link = link.ok_or_else(|| format!("there is no link to node {number}"))?;
                if let Reply::Known(it) = ask(&link, &Request::Known { nonce }, SETTLE).await? {
                    known.insert(*number, it);
                }
            }
            let differences = compare(&names, &known);
            // Those of large states take their time.
            let lacks = known.values().any(|known| known.digests.is_none());
            let until = if lacks { until + DIGESTS } else { until };
            if lacks && Instant::now() > until {
                return Err(format!("{}: ask again", differences.join("; ")));
            }
            if differences.is_empty() || Instant::now() > until {
                let digests = known.remove(&here).and_then(|known| known.digests);
                return Ok(Verdict {
                    index: digests.as_ref().map_or(0, |digests| digests.index),
                    groups: digests.map_or(0, |digests| digests.groups.len()),
                    nodes: names.into_values().collect(),
                    differences,
                });
            }
            // Routes change all the time; what is on its way arrives.
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
    }

    /// Commits the entry at which nodes compare what they hold.
    pub(super) async fn mark_for_digests(&self, nonce: u64) -> Result<(), String> {
        self.commit(&NodeEntry::Verify { nonce }).await
    }
}

/// Of each node with its clients: how many go elsewhere, so that all have about the same.
fn shares(takers: &[(u64, u64)]) -> Vec<(u64, u64, u64)> {
    let count = takers.len().max(1) as u64;
    let total: u64 = takers.iter().map(|(_, clients)| clients).sum();
    let mean = total.div_ceil(count);
    takers
        .iter()
        .map(|(number, clients)| {
            let over = clients.saturating_sub(mean);
            let much = over > (mean * TOLERANCE).div_ceil(100);
            (*number, *clients, if much { over } else { 0 })
        })
        .collect()
}

/// What differs between nodes, in words.
fn compare(names: &BTreeMap<u64, String>, known: &BTreeMap<u64, Known>) -> Vec<String> {
    let mut differences = Vec::new();
    let name = |number: &u64| names.get(number).map_or("?", String::as_str);
    let mut first: Option<(&u64, &Digests)> = None;
    for number in names.keys() {
        let Some(digests) = known.get(number).and_then(|known| known.digests.as_ref()) else {
            differences.push(format!("{} has not come to the entry yet", name(number)));
            continue;
        };
        let Some((other, wanted)) = first else {
            first = Some((number, digests));
            continue;
        };
        let groups = digests.groups.iter().zip(&wanted.groups).enumerate();
        let differing: Vec<String> = groups
            .filter(|(_, (one, two))| one != two)
            .map(|(group, _)| group.to_string())
            .collect();
        if !differing.is_empty() || digests.groups.len() != wanted.groups.len() {
            differences.push(format!(
                "{} and {} hold different state at entry {} in groups {}",
                name(other),
                name(number),
                digests.index,
                differing.join(", ")
            ));
        }
    }
    for (subject, own) in known {
        let Some((_, _, digest)) = own.routes.iter().find(|(node, _, _)| node == subject) else {
            continue;
        };
        for (number, other) in known.iter().filter(|(number, _)| *number != subject) {
            let there = other.routes.iter().find(|(node, _, _)| node == subject);
            if there.is_none_or(|(_, _, there)| there != digest) {
                differences.push(format!(
                    "{} knows other routes of {} than that node has",
                    name(number),
                    name(subject)
                ));
            }
        }
    }
    differences
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nodes_above_the_mean_send_clients_away_and_small_differences_stay() {
        let moves = |takers: &[(u64, u64)]| -> Vec<u64> {
            shares(takers)
                .into_iter()
                .map(|(_, _, moves)| moves)
                .collect()
        };
        assert_eq!(moves(&[(1, 300), (2, 0), (3, 0)]), [200, 0, 0]);
        assert_eq!(moves(&[(1, 104), (2, 100), (3, 96)]), [0, 0, 0]);
        assert_eq!(moves(&[(1, 0), (2, 0)]), [0, 0]);
        assert_eq!(
            moves(&[(1, 3), (2, 0)]),
            [0, 0],
            "one more than the mean is not worth it"
        );
        assert_eq!(moves(&[(1, 4), (2, 0)]), [2, 0]);
    }

    #[test]
    fn every_difference_between_nodes_is_named() {
        let names = BTreeMap::from([(1, "a".to_owned()), (2, "b".to_owned())]);
        let known = |groups: &[u64], routes: &[(u64, &str)]| Known {
            digests: Some(Digests {
                nonce: 1,
                index: 9,
                groups: groups.to_vec(),
            }),
            routes: routes
                .iter()
                .map(|(node, digest)| (*node, 1, (*digest).to_owned()))
                .collect(),
        };
        let same = [(1, "x"), (2, "y")];
        let one = known(&[5, 6], &same);
        let all = |two: Known| compare(&names, &BTreeMap::from([(1, one.clone()), (2, two)]));
        assert!(all(one.clone()).is_empty());
        assert_eq!(
            all(known(&[5, 7], &same)),
            ["a and b hold different state at entry 9 in groups 1"]
        );
        let stale = all(known(&[5, 6], &[(1, "old"), (2, "y")]));
        assert_eq!(stale, ["b knows other routes of a than that node has"]);
        let missing = all(known(&[5, 6], &[(2, "y")]));
        assert_eq!(missing, stale);
        let late = Known {
            digests: None,
            ..one.clone()
        };
        assert_eq!(all(late), ["b has not come to the entry yet"]);
    }
}
