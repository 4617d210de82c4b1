//! The nodes as all of them know them: replicated state, changed by entries alone.

use std::collections::BTreeMap;

use nightjar_broker::Timestamp;
use serde::{Deserialize, Serialize};

/// An entry about nodes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum NodeEntry {
    /// A node gets a number, never used before and never again.
    Add {
        name: String,
        address: String,
        /// Made by the node: a question asked twice gets the same number.
        nonce: u64,
    },
    /// A node starts, or comes back: it gets a new incarnation. Connections of an earlier one have ended; their wills
    /// wait so many seconds.
    Up {
        number: u64,
        nonce: u64,
        address: String,
        grace: u32,
        now: u64,
    },
    /// The lease of an incarnation ended, or its node said goodbye.
    Down {
        number: u64,
        incarnation: u64,
        now: u64,
    },
    /// A node left for good.
    Remove { number: u64 },
    /// Changes nothing: every node notes digests of what it holds here.
    Verify { nonce: u64 },
    /// The cluster uses this version from here on; it only rises.
    Raise { version: u16 },
    /// Changes nothing: an entry of a kind that comes with the next version, for tests of that.
    #[cfg(feature = "next-protocol")]
    Mark { nonce: u64 },
}

impl NodeEntry {
    /// The version of the protocol that this kind of entry came with. A cluster that uses an older one has nodes that
    /// could not read it, or may get them back: it must not be written there.
    pub const fn since(&self) -> u16 {
        match self {
            #[cfg(feature = "next-protocol")]
            Self::Mark { .. } => 2,
            _ => 1,
        }
    }
}

/// One node.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct NodeState {
    pub name: String,
    pub address: String,
    pub nonce: u64,
    /// Rises with each start.
    pub incarnation: u64,
    pub up: bool,
    /// The last proposal of this incarnation that was applied.
    pub sequence: u64,
    /// When it went up or down, in ms since 1970.
    pub since: u64,
}

/// All nodes.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Nodes {
    /// The last number given.
    pub last: u64,
    pub nodes: BTreeMap<u64, NodeState>,
    /// The version of the protocol that the cluster uses; 0 stands for the first one.
    pub version: u16,
}

/// What an entry changed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Change {
    None,
    Added,
    /// A node came; `ended`: an earlier incarnation of it had not been ended.
    Up {
        number: u64,
        nonce: u64,
        ended: bool,
        grace: u32,
        now: Timestamp,
    },
    Down {
        number: u64,
        incarnation: u64,
        now: Timestamp,
    },
    Removed {
        number: u64,
        /// It was up.
        ended: bool,
    },
    /// The cluster uses a newer version.
    Raised {
        version: u16,
    },
}

impl Nodes {
    /// The version of the protocol that the cluster uses.
    pub fn version(&self) -> u16 {
        self.version.max(1)
    }

    /// What leads from here to a later state, as the entries in between would have said it: ends before beginnings.
    pub fn changes_to(&self, later: &Self) -> Vec<Change> {
        let mut changes = Vec::new();
        for (&number, old) in &self.nodes {
            match later.nodes.get(&number) {
                None => changes.push(Change::Removed {
                    number,
                    ended: old.up,
                }),
                Some(new) if old.up && !(new.up && new.incarnation == old.incarnation) => {
                    changes.push(Change::Down {
                        number,
                        incarnation: old.incarnation,
                        now: Timestamp(new.since),
                    });
                }
                Some(_) => {}
            }
        }
        for (&number, new) in &later.nodes {
            let old = self.nodes.get(&number);
            if new.up && !old.is_some_and(|old| old.up && old.incarnation == new.incarnation) {
                changes.push(Change::Up {
                    number,
                    nonce: new.nonce,
                    ended: false,
                    grace: 0,
                    now: Timestamp(new.since),
                });
            }
        }
        if later.version() > self.version() {
            changes.push(Change::Raised {
                version: later.version(),
            });
        }
        changes
    }

    pub fn apply(&mut self, entry: NodeEntry) -> Change {
        match entry {
            NodeEntry::Add {
                name,
                address,
                nonce,
            } => {
                if self.nodes.values().any(|node| node.nonce == nonce) {
                    return Change::None;
                }
                self.last += 1;
                let node = NodeState {
                    name,
                    address,
                    nonce,
                    incarnation: 0,
                    up: false,
                    sequence: 0,
                    since: 0,
                };
                self.nodes.insert(self.last, node);
                Change::Added
            }
            NodeEntry::Up {
                number,
                nonce,
                address,
                grace,
                now,
            } => {
                let Some(node) = self.nodes.get_mut(&number) else {
                    return Change::None;
                };
                if node.nonce == nonce {
                    return Change::None;
                }
                let ended = node.up;
                node.nonce = nonce;
                node.address = address;
                node.incarnation += 1;
                node.sequence = 0;
                node.up = true;
                node.since = now;
                Change::Up {
                    number,
                    nonce,
                    ended,
                    grace,
                    now: Timestamp(now),
                }
            }
            NodeEntry::Down {
                number,
                incarnation,
                now,
            } => match self.nodes.get_mut(&number) {
                Some(node) if node.up && node.incarnation == incarnation => {
                    node.up = false;
                    node.since = now;
                    Change::Down {
                        number,
                        incarnation,
                        now: Timestamp(now),
                    }
                }
                _ => Change::None,
            },
            NodeEntry::Remove { number } => match self.nodes.remove(&number) {
                Some(node) => Change::Removed {
                    number,
                    ended: node.up,
                },
                None => Change::None,
            },
            NodeEntry::Raise { version } if version > self.version() => {
                self.version = version;
                Change::Raised { version }
            }
            NodeEntry::Verify { .. } | NodeEntry::Raise { .. } => Change::None,
            #[cfg(feature = "next-protocol")]
            NodeEntry::Mark { .. } => Change::None,
        }
    }

    /// Is it the turn of this proposal of a node? Then it is noted.
    pub fn take_turn(&mut self, origin: u64, incarnation: u64, sequence: u64) -> bool {
        match self.nodes.get_mut(&origin) {
            Some(node)
                if node.up && node.incarnation == incarnation && node.sequence + 1 == sequence =>
            {
                node.sequence = sequence;
                true
            }
            _ => false,
        }
    }

    /// The node that keeps what belongs to a session without a connection, which was on `node` last: its
    /// subscriptions in the routes, its part in shared subscriptions. 0: nobody.
    pub fn home(&self, node: u64) -> u64 {
        if self.is_up(node) {
            return node;
        }
        self.up().next().unwrap_or(0)
    }

    pub fn is_up(&self, node: u64) -> bool {
        self.nodes.get(&node).is_some_and(|node| node.up)
    }

    /// Numbers of the nodes that are up.
    pub fn up(&self) -> impl Iterator<Item = u64> + '_ {
        let up = self.nodes.iter().filter(|(_, node)| node.up);
        up.map(|(number, _)| *number)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn up(number: u64, nonce: u64) -> NodeEntry {
        NodeEntry::Up {
            number,
            nonce,
            address: "h:1".to_owned(),
            grace: 10,
            now: 5,
        }
    }

    #[test]
    fn numbers_are_given_once_and_proposals_taken_in_turn() {
        let mut nodes = Nodes::default();
        let add = |nonce| NodeEntry::Add {
            name: "a".to_owned(),
            address: "h:1".to_owned(),
            nonce,
        };
        assert_eq!(nodes.apply(add(7)), Change::Added);
        assert_eq!(nodes.apply(add(7)), Change::None, "asked twice");
        assert!(!nodes.take_turn(1, 0, 1), "not up");
        nodes.apply(up(1, 8));
        assert!(nodes.take_turn(1, 1, 1));
        assert!(!nodes.take_turn(1, 1, 1), "a repeat");
        assert!(!nodes.take_turn(1, 1, 3), "one is missing before it");
        assert!(nodes.take_turn(1, 1, 2));
        let again = nodes.apply(up(1, 9));
        assert!(matches!(again, Change::Up { ended: true, .. }));
        assert!(!nodes.take_turn(1, 1, 3), "of an earlier incarnation");
        assert!(nodes.take_turn(1, 2, 1));
        let down = NodeEntry::Down {
            number: 1,
            incarnation: 1,
            now: 9,
        };
        assert_eq!(nodes.apply(down), Change::None, "another incarnation");
        nodes.apply(NodeEntry::Remove { number: 1 });
        nodes.apply(add(10));
        assert_eq!(nodes.nodes.keys().copied().collect::<Vec<_>>(), [2]);
    }

    #[test]
    fn the_version_in_use_only_rises() {
        let mut nodes = Nodes::default();
        assert_eq!(nodes.version(), 1);
        let raise = |version| NodeEntry::Raise { version };
        assert_eq!(nodes.apply(raise(1)), Change::None);
        assert_eq!(nodes.apply(raise(3)), Change::Raised { version: 3 });
        assert_eq!(nodes.apply(raise(2)), Change::None);
        assert_eq!((nodes.version(), raise(9).since()), (3, 1));
    }

    #[test]
    fn a_session_without_connection_is_at_its_node_or_else_at_the_first() {
        let mut nodes = Nodes::default();
        for nonce in 1..=3 {
            nodes.apply(NodeEntry::Add {
                name: nonce.to_string(),
                address: String::new(),
                nonce,
            });
        }
        assert_eq!(nodes.home(2), 0);
        nodes.apply(up(3, 13));
        assert_eq!(nodes.home(2), 3);
        nodes.apply(up(2, 12));
        assert_eq!((nodes.home(2), nodes.home(1)), (2, 2));
    }
}
