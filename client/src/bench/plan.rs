//! A bench as decided from its flags, and what its clients share while it runs.

use std::net::{IpAddr, SocketAddr};
use std::sync::atomic::{AtomicU8, AtomicU64, Ordering};
use std::task::Waker;

use nightjar_mqtt::{ProtocolVersion, QoS};
use parking_lot::Mutex;

use crate::bench::args::{BenchCommand, CommonArgs, PublishArgs};
use crate::bench::clock::{Clock, SEQUENCED};
use crate::bench::publisher::{Flow, PublishPlan};
use crate::bench::stats::WorkerStats;
use crate::cli::args::random_text;
use crate::endpoint::{Endpoint, Scheme};
use crate::error::{Error, Result};
use crate::transport::Dialer;

/// The index of a publisher has 24 bits in a stamp.
const MAX_PUBLISHERS: u32 = 1 << 24;

/// Which load.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Kind {
    /// Connections that do nothing.
    Conn,
    /// Publishers with topic templates.
    Pub(Vec<String>),
    /// Subscribers with filter templates.
    Sub(Vec<String>),
    /// Pairs with a topic template.
    Pair(String),
    /// This many subscribers, the rest publishers, on one topic.
    Fanout {
        /// The topic.
        topic: String,
        /// How many of the clients subscribe.
        subscribers: u32,
    },
}

/// What one client does.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Role {
    /// Client identifier.
    pub client_id: String,
    /// User name.
    pub username: Option<String>,
    /// Publisher's index and topics.
    pub publish: Option<(u32, Box<[Box<str>]>)>,
    /// Topic filters.
    pub subscribe: Vec<String>,
    /// The publisher that waits for this subscriber.
    pub receives: Option<u32>,
}

/// Everything decided before the first connection.
pub struct Plan {
    /// Which load.
    pub kind: Kind,
    /// Connections in all.
    pub clients: u32,
    /// Where to: resolved, clients take turns.
    pub targets: Vec<(Dialer, SocketAddr)>,
    /// From where: clients take turns; empty: the system chooses.
    pub sources: Vec<IpAddr>,
    /// Protocol version.
    pub version: ProtocolVersion,
    /// Clean start.
    pub clean: bool,
    /// Session expiry in seconds.
    pub expiry: u32,
    /// Keep alive in seconds.
    pub keep_alive: u16,
    /// User name template.
    pub username: Option<String>,
    /// Password.
    pub password: Option<String>,
    /// Client identifier without its number.
    pub prefix: String,
    /// Number of the first client.
    pub first_number: u32,
    /// Nanoseconds between two connects.
    pub connect_interval: u64,
    /// QoS of subscriptions.
    pub subscribe_qos: QoS,
    /// What publishers do.
    pub publish: Option<PublishPlan>,
    /// The payload.
    pub payload: Vec<u8>,
    /// Publish only once every client is there.
    pub wait: bool,
}

impl Plan {
    /// Builds the plan. Names are not resolved yet: `targets` is empty.
    ///
    /// # Errors
    /// [`Error::Usage`] for flags that contradict each other.
    pub fn new(command: &BenchCommand) -> Result<Self> {
        let usage = |text: &str| Err(Error::Usage(text.to_owned()));
        let (kind, name, publish, qos) = match command {
            BenchCommand::Conn(_) => (Kind::Conn, "conn", None, QoS::AtMostOnce),
            BenchCommand::Pub(bench) => (
                Kind::Pub(bench.topic.clone()),
                "pub",
                Some(&bench.publish),
                QoS::AtMostOnce,
            ),
            BenchCommand::Sub(bench) => (Kind::Sub(bench.topic.clone()), "sub", None, bench.qos),
            BenchCommand::Pair(bench) => {
                if !bench.topic.contains("%i") {
                    return usage("pair: the topic needs %i, each pair has its own");
                }
                (
                    Kind::Pair(bench.topic.clone()),
                    "pair",
                    Some(&bench.publish),
                    bench.publish.qos,
                )
            }
            BenchCommand::Fanout(bench) => {
                if bench.topic.contains('%') {
                    return usage("fanout: all clients share one topic, it cannot have % in it");
                }
                let kind = Kind::Fanout {
                    topic: bench.topic.clone(),
                    subscribers: bench.common.count,
                };
                (kind, "fanout", Some(&bench.publish), bench.publish.qos)
            }
        };
        let common = command.common();
        let clients = match (&kind, command) {
            (Kind::Pair(_), _) => common.count.checked_mul(2),
            (_, BenchCommand::Fanout(bench)) => common.count.checked_add(bench.publishers),
            _ => Some(common.count),
        };
        let Some(clients) =
            clients.filter(|clients| clients.checked_add(common.startnumber).is_some())
        else {
            return usage("too many clients");
        };
        let publishers = match &kind {
            Kind::Conn | Kind::Sub(_) => 0,
            Kind::Pub(_) | Kind::Pair(_) => common.count,
            Kind::Fanout { subscribers, .. } => clients - subscribers,
        };
        if publishers > MAX_PUBLISHERS {
            return usage("more than 16777216 publishers");
        }
        let in_process = matches!(kind, Kind::Pair(_) | Kind::Fanout { .. });
        if in_process && publish.is_some_and(|publish| (publish.size as usize) < SEQUENCED) {
            return usage(
                "pair and fanout need --size 16 or more: time and sequence are in the payload",
            );
        }
        if common.password.is_some() && common.username.is_none() && !common.version.is_v5() {
            return usage("before MQTT 5 there is no password without a user name (-u)");
        }
        let message = match command {
            BenchCommand::Pub(bench) => bench.message.clone(),
            _ => None,
        };
        let wait = match command {
            BenchCommand::Pub(bench) => bench.wait_before_publishing,
            _ => true,
        };
        let plan = publish.map(|publish| {
            publish_plan(publish, common, publishers, in_process, message.is_some())
        });
        let payload = match (message, publish) {
            (Some(message), _) => message.into_bytes(),
            (None, Some(publish)) => vec![b'n'; publish.size as usize],
            (None, None) => Vec::new(),
        };
        Ok(Self {
            kind,
            clients,
            targets: Vec::new(),
            sources: common.ifaddr.clone(),
            version: common.version,
            clean: common.clean,
            expiry: common.expiry,
            keep_alive: common.keepalive,
            username: common.username.clone(),
            password: common.password.clone(),
            prefix: prefix(common, name),
            first_number: common.startnumber,
            connect_interval: match common.connrate {
                Some(rate) => 1_000_000_000 / rate,
                None => common.interval * 1_000_000,
            },
            subscribe_qos: qos,
            publish: plan,
            payload,
            wait,
        })
    }

    /// True where each publisher has one subscriber to wait for.
    pub fn paired(&self) -> bool {
        matches!(self.kind, Kind::Pair(_))
    }

    /// The endpoints of the flags.
    pub fn endpoints(common: &CommonArgs) -> Vec<Endpoint> {
        let scheme = Scheme::from_parts(common.ssl || common.tls.is_set(), common.ws);
        let endpoint = |host: &String| {
            let mut endpoint = Endpoint::new(scheme, host.trim());
            endpoint.port = common.port.unwrap_or(endpoint.port);
            endpoint.path.clone_from(&common.ws_path);
            endpoint
        };
        common.host.iter().map(endpoint).collect()
    }

    /// Where a client connects to.
    pub fn target(&self, number: u32) -> (&Dialer, SocketAddr) {
        let (dialer, address) = &self.targets[number as usize % self.targets.len()];
        (dialer, *address)
    }

    /// Where a client connects from.
    pub fn source(&self, number: u32) -> Option<IpAddr> {
        let count = self.sources.len().max(1);
        self.sources.get(number as usize % count).copied()
    }

    /// The worker that drives a client. Both halves of a pair go to the same one.
    pub fn worker(&self, number: u32, workers: usize) -> usize {
        let unit = if self.paired() { number / 2 } else { number };
        unit as usize % workers
    }

    /// What client `number` (from 0) does.
    pub fn role(&self, number: u32) -> Role {
        // A pair shares its number; its halves differ in their client identifier.
        let (shown, half) = match &self.kind {
            Kind::Pair(_) if number.is_multiple_of(2) => (number / 2, "s"),
            Kind::Pair(_) => (number / 2, "p"),
            _ => (number, ""),
        };
        let shown = shown + self.first_number;
        let client_id = format!("{}{half}{shown}", self.prefix);
        let index = shown.to_string();
        let username = self
            .username
            .as_ref()
            .map(|name| name.replace("%i", &index));
        let fill = |template: &String| {
            template
                .replace("%c", &client_id)
                .replace("%u", username.as_deref().unwrap_or_default())
                .replace("%i", &index)
        };
        let names =
            |templates: &[String]| templates.iter().map(|t| fill(t).into_boxed_str()).collect();
        let (publish, subscribe, receives) = match &self.kind {
            Kind::Conn => (None, Vec::new(), None),
            Kind::Pub(topics) => (Some((number, names(topics))), Vec::new(), None),
            Kind::Sub(filters) => (None, filters.iter().map(fill).collect(), None),
            Kind::Pair(topic) if half == "s" => (None, vec![fill(topic)], Some(number / 2)),
            Kind::Pair(topic) => (
                Some((number / 2, names(std::slice::from_ref(topic)))),
                Vec::new(),
                None,
            ),
            Kind::Fanout { topic, subscribers } if number < *subscribers => {
                (None, vec![topic.clone()], None)
            }
            Kind::Fanout { topic, subscribers } => (
                Some((number - subscribers, names(std::slice::from_ref(topic)))),
                Vec::new(),
                None,
            ),
        };
        Role {
            client_id,
            username,
            publish,
            subscribe,
            receives,
        }
    }
}

fn prefix(common: &CommonArgs, name: &str) -> String {
    match &common.prefix {
        Some(prefix) if common.shortids => prefix.clone(),
        Some(prefix) => format!("{prefix}_bench_{name}_"),
        None if common.shortids => random_text(4),
        // At most 23 bytes with a number of five digits, as 3.1 wants it.
        None => format!("nj{}_{name}_", random_text(4)),
    }
}

fn publish_plan(
    publish: &PublishArgs,
    common: &CommonArgs,
    publishers: u32,
    in_process: bool,
    fixed: bool,
) -> PublishPlan {
    PublishPlan {
        version: common.version,
        qos: publish.qos,
        retain: publish.retain,
        interval: match publish.rate {
            Some(rate) => f64::from(publishers) / rate * 1e9,
            None => publish.interval_of_msg * 1e6,
        },
        window: publish.window.into(),
        in_process,
        stamped: !fixed,
        limit: publish.limit,
        publishers,
    }
}

/// The phases of a run, in order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
pub enum Phase {
    /// Clients connect.
    Starting,
    /// Publishers publish.
    Running,
    /// Publishers are done, messages on their way arrive.
    Draining,
    /// Clients disconnect.
    Stopping,
}

/// One thread's share.
#[derive(Default)]
pub struct Worker {
    /// What it counted.
    pub stats: WorkerStats,
    waiting: Mutex<Vec<Waker>>,
}

impl Worker {
    /// Wakes this task when the phase changes.
    pub fn register(&self, waker: &Waker) {
        self.waiting.lock().push(waker.clone());
    }

    fn wake(&self) {
        let waiting = std::mem::take(&mut *self.waiting.lock());
        waiting.into_iter().for_each(Waker::wake);
    }
}

/// What all clients share.
pub struct Run {
    /// What was decided.
    pub plan: Plan,
    /// The time.
    pub clock: Clock,
    /// Deliveries by publisher.
    pub flows: Box<[Flow]>,
    /// Messages given out, where there is a limit.
    pub issued: AtomicU64,
    phase: AtomicU8,
    /// When publishing began; 0 before.
    began: AtomicU64,
    /// Subscribers of each message.
    fan: AtomicU64,
}

impl Run {
    /// A run of this plan.
    pub fn new(plan: Plan) -> Self {
        let publishers = plan
            .publish
            .as_ref()
            .map_or(0, |publish| publish.publishers);
        Self {
            flows: (0..publishers).map(|_| Flow::default()).collect(),
            plan,
            clock: Clock::default(),
            issued: AtomicU64::new(0),
            phase: AtomicU8::new(Phase::Starting as u8),
            began: AtomicU64::new(0),
            fan: AtomicU64::new(1),
        }
    }

    /// The phase.
    pub fn phase(&self) -> Phase {
        match self.phase.load(Ordering::Acquire) {
            0 => Phase::Starting,
            1 => Phase::Running,
            2 => Phase::Draining,
            _ => Phase::Stopping,
        }
    }

    /// Goes to a phase and wakes every client.
    pub fn enter(&self, phase: Phase, workers: &[std::sync::Arc<Worker>]) {
        if phase == Phase::Running {
            self.began.store(self.clock.now(), Ordering::Release);
        }
        self.phase.store(phase as u8, Ordering::Release);
        for worker in workers {
            worker.wake();
        }
    }

    /// Sets how many subscribers get each message.
    pub fn set_fan(&self, fan: u64) {
        self.fan.store(fan.max(1), Ordering::Release);
    }

    /// How many subscribers get each message.
    pub fn fan(&self) -> u64 {
        self.fan.load(Ordering::Acquire)
    }

    /// When publishing began, where older stamps are of no interest.
    pub fn since(&self) -> Option<u64> {
        let in_process = self
            .plan
            .publish
            .as_ref()
            .is_some_and(|publish| publish.in_process);
        in_process.then(|| self.began.load(Ordering::Acquire))
    }

    /// The flows deliveries are told to.
    pub fn flows_for_credit(&self) -> &[Flow] {
        match &self.plan.publish {
            Some(publish) if publish.end_to_end() => &self.flows,
            _ => &[],
        }
    }

    /// When a publisher's first message is due: publishers are spread over the first interval.
    pub fn first_due(&self, index: u32, now: u64) -> u64 {
        let Some(publish) = &self.plan.publish else {
            return now;
        };
        if !self.plan.wait {
            // The connects are spread already.
            return now;
        }
        let spread = publish.interval * f64::from(index) / f64::from(publish.publishers.max(1));
        self.began.load(Ordering::Acquire) + spread as u64
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;
    use crate::bench::BenchArgs;

    #[derive(Parser)]
    struct Command {
        #[command(flatten)]
        bench: BenchArgs,
    }

    fn plan(line: &str) -> Result<Plan> {
        let command =
            Command::try_parse_from(line.split(' ')).unwrap_or_else(|error| panic!("{error}"));
        Plan::new(command.bench.kind.mqtt().unwrap())
    }

    #[test]
    fn templates_are_filled() {
        let plan =
            plan("bench pub -c 3 -n 10 -u user%i -t a/%i/%c/%u --prefix x --shortids").unwrap();
        let role = plan.role(2);
        assert_eq!(role.client_id, "x12");
        assert_eq!(role.username.as_deref(), Some("user12"));
        assert_eq!(
            role.publish,
            Some((2, [Box::from("a/12/x12/user12")].into()))
        );
        assert!(role.subscribe.is_empty());
    }

    #[test]
    fn a_pair_shares_topic_and_worker_and_not_its_client_identifier() {
        let plan = plan("bench pair -c 4 -t p/%i").unwrap();
        assert_eq!(plan.clients, 8);
        let (subscriber, publisher) = (plan.role(6), plan.role(7));
        assert_eq!(subscriber.subscribe, ["p/3"]);
        assert_eq!(subscriber.receives, Some(3));
        assert_eq!(publisher.publish, Some((3, [Box::from("p/3")].into())));
        assert_ne!(subscriber.client_id, publisher.client_id);
        for pair in 0..4 {
            assert_eq!(plan.worker(2 * pair, 3), plan.worker(2 * pair + 1, 3));
        }
    }

    #[test]
    fn fanout_has_subscribers_first() {
        let plan = plan("bench fanout -c 5 --publishers 2").unwrap();
        assert_eq!(plan.clients, 7);
        assert_eq!(plan.role(4).subscribe, ["nightjar/bench/fanout"]);
        assert_eq!(plan.role(5).publish.unwrap().0, 0);
        assert_eq!(plan.role(6).publish.unwrap().0, 1);
    }

    #[test]
    fn a_rate_is_shared_by_all_publishers() {
        let publish = plan("bench pub -c 50 -t x --rate 1000")
            .unwrap()
            .publish
            .unwrap();
        assert_eq!(publish.interval, 50e6);
        let publish = plan("bench pub -c 50 -t x -I 20").unwrap().publish.unwrap();
        assert_eq!(publish.interval, 20e6);
    }

    #[test]
    fn sources_and_brokers_take_turns() {
        let plan = plan("bench conn -c 4 --ifaddr 127.0.0.1,127.0.0.2 -R 500").unwrap();
        assert_eq!(plan.source(0), Some("127.0.0.1".parse().unwrap()));
        assert_eq!(plan.source(3), Some("127.0.0.2".parse().unwrap()));
        assert_eq!(plan.connect_interval, 2_000_000);
        let none = tests::plan("bench conn").unwrap();
        assert_eq!(none.source(7), None);
        assert_eq!(none.connect_interval, 10_000_000);
    }

    #[test]
    fn default_identifiers_fit_mqtt_3_1() {
        for command in ["conn", "pub -t x", "sub -t x", "pair -c 9 -t x%i", "fanout"] {
            let plan = plan(&format!("bench {command} -n 19990")).unwrap();
            let id = plan.role(9).client_id;
            assert!(id.len() <= 23, "{id}");
        }
    }

    #[test]
    fn contradictions_are_refused() {
        for line in [
            "bench pair -t same",
            "bench fanout -t a/%i",
            "bench pair -s 15",
            "bench conn -V 4 -P secret",
            "bench pair -c 4294967295",
        ] {
            assert!(matches!(plan(line), Err(Error::Usage(_))), "{line}");
        }
    }

    #[test]
    fn endpoints_follow_ssl_ws_and_port() {
        for (line, expected) in [
            ("bench conn", "mqtt://localhost:1883"),
            ("bench conn -S", "mqtts://localhost:8883"),
            ("bench conn -S true --ws true -h a", "wss://a:8084/mqtt"),
            ("bench conn --ws -p 80 --ws-path /x", "ws://localhost:80/x"),
            ("bench conn -S false -h a,b", "mqtt://a:1883 mqtt://b:1883"),
        ] {
            let command = Command::try_parse_from(line.split(' ')).unwrap();
            let endpoints = Plan::endpoints(command.bench.kind.mqtt().unwrap().common());
            let shown: Vec<_> = endpoints.iter().map(Endpoint::to_string).collect();
            assert_eq!(shown.join(" "), expected, "{line}");
        }
    }
}
