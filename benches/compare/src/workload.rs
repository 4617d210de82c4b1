//! The traffic patterns.

use crate::broker::Kind;

/// How the publishers are driven.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Drive {
    /// Each topic keeps up to `window` publications under way, refilled `batch` at a time in one write: many messages
    /// per read of the broker. The window stays below every broker's queue limits, so nothing has to be dropped.
    Saturate {
        /// Publications under way per topic.
        window: u64,
        /// Publications per write.
        batch: u64,
    },
    /// Publications a second over all publishers in turn, each its own write: one message per read.
    Pace {
        /// All publishers together.
        per_second: u64,
    },
}

/// One traffic pattern.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Workload {
    /// Name in the table.
    pub name: &'static str,
    /// Topics, each with its own publishers and subscribers.
    pub topics: usize,
    /// Publishers of each topic.
    pub publishers: usize,
    /// Subscribers of each topic.
    pub subscribers: usize,
    /// QoS of publications and subscriptions: 0 or 1.
    pub qos: u8,
    /// How it is driven.
    pub drive: Drive,
}

impl Workload {
    /// Whether it can be run: the floors know no QoS 1, and the echo's clients get their own bytes back.
    pub fn suits(&self, kind: &Kind) -> bool {
        match kind {
            Kind::Echo => self.qos == 0 && self.publishers == 1 && self.subscribers == 1,
            // Publishers' bytes would be mixed within a packet if one read ends inside of it.
            Kind::Relay => self.qos == 0 && self.publishers == 1,
            _ => true,
        }
    }
}

const fn pairs(name: &'static str, qos: u8, drive: Drive) -> Workload {
    Workload {
        name,
        topics: 50,
        publishers: 1,
        subscribers: 1,
        qos,
        drive,
    }
}

/// All of them, in the order of the tables.
pub const ALL: [Workload; 7] = [
    pairs(
        "pairs-qos0: 50 pairs, saturated",
        0,
        Drive::Saturate {
            window: 160,
            batch: 20,
        },
    ),
    pairs(
        "pairs-qos1: 50 pairs, saturated",
        1,
        Drive::Saturate {
            window: 160,
            batch: 20,
        },
    ),
    Workload {
        name: "fan-in: 100 -> 1, saturated",
        topics: 1,
        publishers: 100,
        subscribers: 1,
        qos: 0,
        drive: Drive::Saturate {
            window: 2000,
            batch: 20,
        },
    },
    Workload {
        name: "fan-out: 1 -> 500, with backlog",
        topics: 1,
        publishers: 1,
        subscribers: 500,
        qos: 0,
        drive: Drive::Saturate {
            window: 160,
            batch: 20,
        },
    },
    pairs(
        "paced-qos0: 50 pairs, 10,000/s, one message per read",
        0,
        Drive::Pace { per_second: 10_000 },
    ),
    pairs(
        "paced-qos1: 50 pairs, 5,000/s, one message per read",
        1,
        Drive::Pace { per_second: 5000 },
    ),
    Workload {
        name: "paced-fan-out: 1 -> 500, 20/s, one message per read",
        topics: 1,
        publishers: 1,
        subscribers: 500,
        qos: 0,
        drive: Drive::Pace { per_second: 20 },
    },
];
