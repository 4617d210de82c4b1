//! What each node wants, as streams with one writer each, and the messages that go to who wants them.
//!
//! A node tells every other node each filter its subscribers want, once, whatever their number; a link begins with all
//! of them, changes follow in order, and each is acknowledged by version: SUBACK waits for that.

mod forward;

use std::collections::{HashMap, VecDeque};
use std::hash::BuildHasher;
use std::sync::Arc;

use foldhash::fast::FixedState;
use nightjar_broker::{Broker, Completion, Interest, Ticket};
use nightjar_mqtt::{ReasonCode, TopicFilter};
use parking_lot::Mutex;
use serde::{Deserialize, Serialize};

pub(crate) use forward::Forwards;

use crate::links::{Answers, Link, Links, kind};
use crate::member::Nodes;

/// Filters in one frame of a whole table.
const PIECE: usize = 1000;

#[derive(Serialize, Deserialize)]
struct Row {
    filter: String,
    members: u32,
    acknowledged: u32,
}

#[derive(Serialize, Deserialize)]
enum Frame {
    /// A piece of the whole table.
    All {
        incarnation: u64,
        version: u64,
        /// The incarnation of the node that is told, as its teller knows it.
        to: u64,
        /// Pieces with one number belong together.
        number: u64,
        first: bool,
        last: bool,
        rows: Vec<Row>,
    },
    /// One filter changed.
    One {
        incarnation: u64,
        version: u64,
        row: Row,
    },
}

#[derive(Serialize, Deserialize)]
struct Ack {
    incarnation: u64,
    version: u64,
}

#[derive(Default)]
struct Own {
    /// 0 while the node is not up: nothing is told then.
    incarnation: u64,
    version: u64,
    /// How often a whole table was told.
    told: u64,
    table: HashMap<TopicFilter, Interest>,
    /// What each node acknowledged of this incarnation.
    acked: HashMap<u64, u64>,
    /// In the order of their versions.
    waiting: VecDeque<(u64, Arc<Completion>)>,
}

#[derive(Default)]
struct Other {
    incarnation: u64,
    /// The last version seen of it: what comes later by an older link counts no more.
    version: u64,
    /// All of it came once.
    known: bool,
    table: HashMap<TopicFilter, Interest>,
    building: HashMap<TopicFilter, Interest>,
    /// Number of the table that is being told.
    number: u64,
    /// It told all of it to this incarnation of this node, and knew that it is up: what it told one before may lack what
    /// others subscribed to while nobody waited for this node.
    told: u64,
    /// Incarnations up to this one have ended.
    dead: u64,
}

/// What is known of one node's routes, for `cluster status`.
#[derive(Debug, Clone, Serialize)]
pub struct RouteStatus {
    /// Number of the node.
    pub node: u64,
    /// Filters it wants.
    pub filters: usize,
    /// A digest of them, the same on every node that knows the same.
    pub digest: String,
}

/// The routes of this node and of all others.
#[derive(Default)]
pub(crate) struct Routes {
    own: Mutex<Own>,
    others: Mutex<HashMap<u64, Other>>,
}

fn row(filter: &TopicFilter, interest: Interest) -> Row {
    Row {
        filter: filter.to_string(),
        members: interest.members,
        acknowledged: interest.acknowledged,
    }
}

fn encode(frame: &Frame) -> bytes::Bytes {
    postcard::to_allocvec(frame)
        .expect("plain data is always encoded")
        .into()
}

impl Own {
    fn send_all(&mut self, link: &Link, to: u64) {
        link.catch_up();
        self.told += 1;
        let mut rows: Vec<Row> = self
            .table
            .iter()
            .map(|(filter, interest)| row(filter, *interest))
            .collect();
        let mut first = true;
        loop {
            let rest = rows.split_off(rows.len().min(PIECE));
            let last = rest.is_empty();
            let frame = Frame::All {
                incarnation: self.incarnation,
                version: self.version,
                to,
                number: self.told,
                first,
                last,
                rows,
            };
            link.send(kind::ROUTES, encode(&frame));
            if last {
                return;
            }
            (rows, first) = (rest, false);
        }
    }

    /// Completions whose version every node that is up knows.
    fn settle(&mut self, here: u64, nodes: &Nodes) -> Vec<Arc<Completion>> {
        let reached = nodes
            .up()
            .filter(|node| *node != here)
            .map(|node| self.acked.get(&node).copied().unwrap_or(0))
            .min()
            .unwrap_or(u64::MAX);
        let mut done = Vec::new();
        while let Some((version, _)) = self.waiting.front()
            && *version <= reached
        {
            done.extend(self.waiting.pop_front().map(|(_, completion)| completion));
        }
        done
    }
}

impl Routes {
    /// What this node wants of a filter has changed.
    pub fn announce(&self, links: &Links, filter: &TopicFilter, interest: Interest) {
        let mut own = self.own.lock();
        own.version += 1;
        if interest.members == 0 {
            own.table.remove(filter);
        } else {
            own.table.insert(filter.clone(), interest);
        }
        if own.incarnation == 0 {
            return;
        }
        let frame = encode(&Frame::One {
            incarnation: own.incarnation,
            version: own.version,
            row: row(filter, interest),
        });
        for link in links.all() {
            // What does not keep up is told everything once, instead of each change.
            if link.is_behind() {
                continue;
            }
            if link.is_crowded() {
                link.leave_behind();
            } else {
                link.send(kind::ROUTES, frame.clone());
            }
        }
    }

    /// Done when every node that is up knows what was announced before.
    pub fn announced(&self, here: u64, nodes: &Nodes) -> Ticket {
        let mut own = self.own.lock();
        let completion = Completion::new(1);
        let version = own.version;
        own.waiting.push_back((version, completion.clone()));
        let done = own.settle(here, nodes);
        drop(own);
        complete(done);
        Ticket::on(completion)
    }

    /// A new incarnation of this node tells everything anew.
    pub fn begin(&self, links: &Links, incarnation: u64, nodes: &Nodes) {
        let mut own = self.own.lock();
        own.incarnation = incarnation;
        own.acked.clear();
        for link in links.all() {
            own.send_all(&link, incarnation_at(&link, nodes));
        }
    }

    /// This node is out of the cluster for now: whoever waits is told.
    pub fn fence(&self) {
        let waiting = {
            let mut own = self.own.lock();
            own.incarnation = 0;
            std::mem::take(&mut own.waiting)
        };
        for (_, completion) in waiting {
            completion.complete(Err(ReasonCode::ServerUnavailable));
        }
    }

    /// A link came up, or the node at its other end.
    pub fn connected(&self, link: &Link, nodes: &Nodes) {
        let mut own = self.own.lock();
        if own.incarnation != 0 {
            own.send_all(link, incarnation_at(link, nodes));
        }
    }

    /// Tells links all routes that were left behind and have room again.
    pub fn catch_up(&self, links: &Links, nodes: &Nodes) {
        for link in links.all().iter().filter(|link| link.may_catch_up()) {
            self.connected(link, nodes);
        }
    }

    /// A node acknowledged.
    pub fn acked(&self, here: u64, node: u64, body: &[u8], nodes: &Nodes) {
        let Ok(ack) = postcard::from_bytes::<Ack>(body) else {
            return;
        };
        let done = {
            let mut own = self.own.lock();
            if ack.incarnation != own.incarnation {
                return;
            }
            let have = own.acked.entry(node).or_default();
            *have = (*have).max(ack.version);
            own.settle(here, nodes)
        };
        complete(done);
    }

    /// The nodes changed: nobody waits for one that is gone.
    pub fn settle(&self, here: u64, nodes: &Nodes) {
        let done = self.own.lock().settle(here, nodes);
        complete(done);
    }

    /// Another node told something. False if it cannot be read.
    pub fn received(&self, broker: &Broker, node: u64, body: &[u8], answers: &Answers) -> bool {
        let Ok(frame) = postcard::from_bytes::<Frame>(body) else {
            return false;
        };
        let mut others = self.others.lock();
        let other = others.entry(node).or_default();
        let (incarnation, version) = match frame {
            Frame::All {
                incarnation,
                version,
                to,
                number,
                first,
                last,
                rows,
            } => {
                let old = (incarnation, version) < (other.incarnation, other.version);
                if incarnation <= other.dead || old {
                    return true;
                }
                if first {
                    other.building.clear();
                    other.number = number;
                }
                if number != other.number {
                    return true; // Pieces by an older link, behind the first one by a newer.
                }
                for row in rows {
                    let Ok(filter) = TopicFilter::new(row.filter) else {
                        return false;
                    };
                    let interest = Interest {
                        members: row.members,
                        acknowledged: row.acknowledged,
                    };
                    // Piece by piece, so that no piece takes long: what is wanted may be known early.
                    if other.table.get(&filter) != Some(&interest) {
                        broker.set_interest(node, &filter, interest);
                        other.table.insert(filter.clone(), interest);
                    }
                    other.building.insert(filter, interest);
                }
                if !last {
                    return true;
                }
                let new = std::mem::take(&mut other.building);
                for filter in other.table.keys() {
                    if !new.contains_key(filter) {
                        broker.set_interest(node, filter, Interest::default());
                    }
                }
                for (filter, interest) in &new {
                    if other.table.get(filter) != Some(interest) {
                        broker.set_interest(node, filter, *interest);
                    }
                }
                other.table = new;
                other.incarnation = incarnation;
                other.version = version;
                other.known = true;
                other.told = to;
                (incarnation, version)
            }
            Frame::One {
                incarnation,
                version,
                row,
            } => {
                if incarnation != other.incarnation || incarnation <= other.dead {
                    return true; // All of it comes, or is on its way.
                }
                if version <= other.version {
                    return true;
                }
                other.version = version;
                let Ok(filter) = TopicFilter::new(row.filter) else {
                    return false;
                };
                let interest = Interest {
                    members: row.members,
                    acknowledged: row.acknowledged,
                };
                broker.set_interest(node, &filter, interest);
                if interest.members == 0 {
                    other.table.remove(&filter);
                } else {
                    other.table.insert(filter, interest);
                }
                (incarnation, version)
            }
        };
        let ack = Ack {
            incarnation,
            version,
        };
        let body = postcard::to_allocvec(&ack).expect("plain data is always encoded");
        answers.send(kind::ROUTES_ACK, body);
        true
    }

    /// An incarnation of a node ended: nothing goes there any more.
    pub fn forget(&self, broker: &Broker, node: u64, incarnation: u64) {
        let mut others = self.others.lock();
        let other = others.entry(node).or_default();
        other.dead = other.dead.max(incarnation);
        if other.incarnation > incarnation {
            return;
        }
        for (filter, _) in other.table.drain() {
            broker.set_interest(node, &filter, Interest::default());
        }
        other.known = false;
    }

    /// The incarnation of a node whose routes are known here.
    pub fn incarnation_of(&self, node: u64) -> u64 {
        let others = self.others.lock();
        others.get(&node).map_or(0, |other| other.incarnation)
    }

    /// Are the routes of all nodes that are up known here, as each told them when it knew that this incarnation is up?
    pub fn knows_all(&self, here: u64, nodes: &Nodes) -> bool {
        let others = self.others.lock();
        let own = nodes.nodes.get(&here).map_or(0, |node| node.incarnation);
        nodes
            .nodes
            .iter()
            .filter(|(number, node)| node.up && **number != here)
            .all(|(number, node)| {
                others.get(number).is_some_and(|other| {
                    other.known && other.told >= own && other.incarnation >= node.incarnation
                })
            })
    }

    /// What is known, this node's own first.
    pub fn status(&self, here: u64) -> Vec<RouteStatus> {
        let mut all = vec![status(here, &self.own.lock().table)];
        let others = self.others.lock();
        let mut rest: Vec<_> = others
            .iter()
            .map(|(node, other)| status(*node, &other.table))
            .collect();
        rest.sort_by_key(|status| status.node);
        all.append(&mut rest);
        all
    }
}

/// The incarnation of the node at the other end of a link.
fn incarnation_at(link: &Link, nodes: &Nodes) -> u64 {
    let number = link.remote().map_or(0, |remote| remote.number);
    nodes.nodes.get(&number).map_or(0, |node| node.incarnation)
}

fn complete(done: Vec<Arc<Completion>>) {
    for completion in done {
        completion.complete(Ok(()));
    }
}

fn status(node: u64, table: &HashMap<TopicFilter, Interest>) -> RouteStatus {
    // The same whatever the order.
    let hasher = FixedState::default();
    let digest = table.iter().fold(0u64, |sum, (filter, interest)| {
        let of = (
            filter.as_str(),
            interest.members > 0,
            interest.acknowledged > 0,
        );
        sum.wrapping_add(hasher.hash_one(of))
    });
    RouteStatus {
        node,
        filters: table.len(),
        digest: format!("{digest:016x}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::member::NodeState;

    #[test]
    fn a_node_knows_all_when_each_other_told_it_in_this_incarnation() {
        let node = |incarnation| NodeState {
            name: String::new(),
            address: String::new(),
            nonce: 0,
            incarnation,
            up: true,
            sequence: 0,
            since: 0,
        };
        let mut nodes = Nodes::default();
        nodes.nodes.insert(1, node(2));
        nodes.nodes.insert(2, node(5));
        let routes = Routes::default();
        let tell = |incarnation, told| {
            let other = Other {
                incarnation,
                told,
                known: true,
                ..Other::default()
            };
            routes.others.lock().insert(2, other);
        };
        assert!(!routes.knows_all(1, &nodes));
        tell(5, 1);
        // It told the incarnation before, and nobody waited for this node since.
        assert!(!routes.knows_all(1, &nodes));
        tell(4, 2);
        assert!(!routes.knows_all(1, &nodes));
        tell(5, 2);
        assert!(routes.knows_all(1, &nodes));
    }
}
