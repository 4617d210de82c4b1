//! The traffic patterns.

use crate::broker::{Broker, Kind};

/// How clients reach a broker.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Transport {
    /// Plain TCP.
    Tcp,
    /// TLS.
    Tls,
    /// WebSocket.
    Ws,
}

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
    /// So many clients connect as fast as they are answered; a delivery is a CONNACK.
    Connect(Transport, usize),
    /// So many retained messages stand there, and one client subscribes to all.
    Retained(usize),
}

/// One traffic pattern.
#[derive(Clone, PartialEq, Eq)]
pub struct Workload {
    /// Name in the table.
    pub name: String,
    /// Topics, each with its own publishers and subscribers.
    pub topics: usize,
    /// Publishers of each topic.
    pub publishers: usize,
    /// Subscribers of each topic.
    pub subscribers: usize,
    /// QoS of publications and subscriptions.
    pub qos: u8,
    /// Bytes of a payload, at least 8.
    pub payload: usize,
    /// The subscribers of a topic are one shared group: each message goes to one of them.
    pub shared: bool,
    /// Subscriptions of other clients that the topics pass by.
    pub filters: usize,
    /// Other clients that do nothing, each with one subscription.
    pub idle: usize,
    /// The subscribers' sessions are kept by the broker (clean session 0).
    pub kept: bool,
    /// Publishers are at one node, subscribers at another.
    pub spread: bool,
    /// How it is driven.
    pub drive: Drive,
}

impl Workload {
    /// Whether it can be run with a broker; the error says why not, empty where the broker has no part in it.
    pub fn suits(&self, broker: &Broker) -> Result<(), &'static str> {
        let plain = self.publishers == 1 && !self.shared && self.filters + self.idle == 0;
        let traffic = matches!(self.drive, Drive::Saturate { .. } | Drive::Pace { .. });
        let when = |fits: bool, why| if fits { Ok(()) } else { Err(why) };
        match (&broker.kind, self.drive) {
            // Where sessions are kept, it runs as mosquitto-p.
            (Kind::Mosquitto, _) if self.kept => Err(""),
            (Kind::MosquittoKept, _) => when(self.kept && !self.spread, ""),
            (Kind::NightjarCluster, _) => when(self.spread, ""),
            (Kind::Nightjar, _) if self.spread => Ok(()),
            (Kind::Echo | Kind::Relay | Kind::NightjarOneWorker, _) if self.spread => Err(""),
            (_, _) if self.spread => Err("no cluster of it is set up here"),
            (Kind::Echo, _) => when(
                traffic && plain && self.subscribers == 1 && self.qos == 0,
                "",
            ),
            (Kind::Relay, Drive::Connect(transport, _)) => {
                when(broker.port(transport).is_some(), "")
            }
            // Publishers' bytes would be mixed within a packet if one read ends inside of it; it acknowledges for one.
            (Kind::Relay, _) => when(traffic && plain && self.qos < 2 && !self.kept, ""),
            (_, Drive::Connect(transport, _)) => when(
                broker.port(transport).is_some(),
                "it is set up without this transport",
            ),
            (Kind::Nats, _) if self.qos == 2 => Err("nats-server 2.9 knows no QoS 2"),
            (Kind::Nats, _) if self.shared => Err("it knows no shared subscriptions of MQTT"),
            (Kind::RabbitMq, _) if self.qos == 2 => {
                Err("RabbitMQ gives QoS 1 to who asks for QoS 2")
            }
            (Kind::RabbitMq, _) if self.shared => {
                Err("RabbitMQ 3.10 knows no shared subscriptions")
            }
            _ => Ok(()),
        }
    }

    /// Whether so many subscriptions stand beside it that a broker is busy with them after its last SUBACK.
    pub const fn must_settle(&self) -> bool {
        self.filters + self.idle >= 100_000
    }

    /// Deliveries of one publication.
    pub const fn copies(&self) -> u64 {
        if self.shared {
            1
        } else {
            self.subscribers as u64
        }
    }
}

fn base(name: &str, drive: Drive) -> Workload {
    Workload {
        name: name.to_owned(),
        topics: 1,
        publishers: 1,
        subscribers: 1,
        qos: 0,
        payload: 256,
        shared: false,
        filters: 0,
        idle: 0,
        kept: false,
        spread: false,
        drive,
    }
}

const WIDE: Drive = Drive::Saturate {
    window: 160,
    batch: 20,
};

/// All of them, in the order of the tables.
pub fn all() -> Vec<Workload> {
    let mut all = Vec::new();
    for (topics, drive) in [
        (50, WIDE),
        (
            500,
            Drive::Saturate {
                window: 32,
                batch: 8,
            },
        ),
    ] {
        for qos in 0..=2 {
            for payload in [16, 256, 4096] {
                let name = format!("pairs-{topics}-qos{qos}-{payload}B: saturated");
                all.push(Workload {
                    topics,
                    qos,
                    payload,
                    ..base(&name, drive)
                });
            }
        }
    }
    let many = Drive::Saturate {
        window: 2000,
        batch: 20,
    };
    let paced = |per_second| Drive::Pace { per_second };
    for idle in [0, 1000, 15_000] {
        let name = format!("growth-clients: 10 pairs beside {idle} idle clients, saturated");
        all.push(Workload {
            topics: 10,
            idle,
            ..base(&name, WIDE)
        });
    }
    for filters in [0, 10_000, 1_000_000] {
        let name = format!("growth-filters: 10 pairs beside {filters} subscriptions, saturated");
        all.push(Workload {
            topics: 10,
            filters,
            ..base(&name, WIDE)
        });
    }
    all.extend([
        Workload {
            publishers: 100,
            ..base("fan-in-100: 100 -> 1, saturated", many)
        },
        Workload {
            topics: 5,
            publishers: 200,
            ..base("fan-in-1000: 1000 -> 5, saturated", many)
        },
        Workload {
            subscribers: 500,
            ..base("fan-out-500: 1 -> 500, with backlog", WIDE)
        },
        Workload {
            subscribers: 5000,
            ..base(
                "fan-out-5000: 1 -> 5000, with backlog",
                Drive::Saturate {
                    window: 20,
                    batch: 5,
                },
            )
        },
        Workload {
            topics: 50,
            filters: 100_000,
            ..base(
                "wildcards: 50 pairs beside 100,000 wildcard filters, saturated",
                WIDE,
            )
        },
        Workload {
            publishers: 10,
            subscribers: 100,
            shared: true,
            ..base("shared: 10 -> a shared group of 100, saturated", many)
        },
        Workload {
            publishers: 10,
            subscribers: 100,
            shared: true,
            ..base(
                "paced-shared: 10 -> a shared group of 100, 10,000/s, one message per read",
                paced(10_000),
            )
        },
        Workload {
            topics: 50,
            ..base(
                "paced-qos0: 50 pairs, 10,000/s, one message per read",
                paced(10_000),
            )
        },
        Workload {
            topics: 50,
            qos: 1,
            ..base(
                "paced-qos1: 50 pairs, 5,000/s, one message per read",
                paced(5000),
            )
        },
        Workload {
            subscribers: 500,
            ..base(
                "paced-fan-out: 1 -> 500, 20/s, one message per read",
                paced(20),
            )
        },
        Workload {
            topics: 5000,
            ..base(
                "sparse: 10,000 clients, each sends or gets one message a second",
                paced(5000),
            )
        },
        base(
            "retained: one client subscribes to 100,000 retained messages",
            Drive::Retained(100_000),
        ),
        base(
            "connect-tcp: 3,000 connects, TCP",
            Drive::Connect(Transport::Tcp, 3000),
        ),
        base(
            "connect-tls: 1,000 connects, TLS 1.3 without resumption",
            Drive::Connect(Transport::Tls, 1000),
        ),
        base(
            "connect-ws: 3,000 connects, WebSocket",
            Drive::Connect(Transport::Ws, 3000),
        ),
        Workload {
            topics: 50,
            spread: true,
            ..base(
                "forwarded-qos0: 50 pairs, publisher and subscriber at two nodes of three, saturated",
                WIDE,
            )
        },
        Workload {
            topics: 50,
            qos: 1,
            spread: true,
            ..base(
                "forwarded-qos1: 50 pairs, publisher and subscriber at two nodes of three, saturated",
                WIDE,
            )
        },
        Workload {
            topics: 100,
            qos: 1,
            kept: true,
            spread: true,
            ..base(
                "forwarded-durable: 100 publishers to 100 kept sessions, QoS 1, at two nodes of three",
                Drive::Saturate {
                    window: 20,
                    batch: 5,
                },
            )
        },
        // The last one: what is kept by mistake meets no other row.
        Workload {
            topics: 100,
            qos: 1,
            kept: true,
            ..base(
                "durable: 100 publishers to 100 kept sessions one to one, QoS 1, 2,000 under way",
                Drive::Saturate {
                    window: 20,
                    batch: 5,
                },
            )
        },
    ]);
    all
}
