//! What a run of sensors found out, as text and as JSON.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::net::SocketAddr;
use std::sync::atomic::Ordering;
use std::time::Duration;

use serde::Serialize;

use crate::bench::histogram::Histogram;
use crate::bench::report::{Latency, Usage, percentiles, whole};
use crate::bench::sn::args::SnBench;
use crate::bench::sn::stats::{Shared, Totals, WorkerStats};

/// Counts and times the leader took.
pub(super) struct Measured {
    /// The gateway.
    pub address: SocketAddr,
    /// From the first CONNECT to the last answer.
    pub connect_time: Duration,
    /// Time in which messages were begun.
    pub publish_time: Duration,
    /// Counters of that time, with the answers that came later.
    pub published: Totals,
    /// `None` without a watcher; inside, what went wrong with it.
    pub watched: Option<Option<String>>,
    /// Wakings.
    pub cycles: Vec<Cycle>,
    /// The server before the first CONNECT.
    pub before: Usage,
    /// The server with all sensors connected.
    pub connected: Usage,
    /// The server with all sensors asleep.
    pub asleep: Usage,
    /// Processor time of the server while messages were published.
    pub server_cpu: Duration,
}

/// The result of a run. Serialized it is the JSON output.
#[derive(Debug, Clone, Serialize)]
pub struct SnReport {
    /// sn.
    pub command: &'static str,
    /// Where to.
    pub gateway: String,
    /// Sensors asked for.
    pub sensors: u32,
    /// QoS of the messages.
    pub qos: i8,
    /// Payload bytes.
    pub payload: u32,
    /// Connections.
    pub connections: Connections,
    /// Messages sent by sensors.
    pub published: Published,
    /// What an MQTT subscriber got of them, with `--mqtt-port`.
    pub arrived: Option<Arrived>,
    /// Wakings, with `--sleep`.
    pub cycles: Vec<Cycle>,
    /// From PINGREQ to PINGRESP.
    pub wake_latency: Option<Latency>,
    /// Messages received by sensors, repeats included.
    pub received: u64,
    /// Of those, repeats.
    pub repeated: u64,
    /// Requests that sensors sent again.
    pub repeats: u64,
    /// The gateway's process, with `--pid`.
    pub server: Option<Server>,
    /// Errors by their text.
    pub errors: BTreeMap<String, u64>,
}

/// Connections of a run.
#[derive(Debug, Clone, Serialize)]
pub struct Connections {
    /// Accepted.
    pub connected: u64,
    /// Refused, or without an answer, or their topic was.
    pub failed: u64,
    /// Lost later.
    pub lost: u64,
    /// Connects, with REGISTER, each second.
    pub per_second: f64,
    /// From CONNECT to CONNACK.
    pub latency: Option<Latency>,
}

/// Messages sent in a run.
#[derive(Debug, Clone, Serialize)]
pub struct Published {
    /// All.
    pub messages: u64,
    /// Each second.
    pub per_second: f64,
    /// QoS 1 and 2: acknowledged.
    pub acknowledged: u64,
    /// Refused.
    pub refused: u64,
    /// Not sent when due, because the one before had no answer.
    pub late: u64,
    /// Not taken by the local socket.
    pub unsent: u64,
    /// From PUBLISH to PUBACK or PUBCOMP.
    pub latency: Option<Latency>,
}

/// Messages that arrived at a subscriber.
#[derive(Debug, Clone, Serialize)]
pub struct Arrived {
    /// All but repeats.
    pub messages: u64,
    /// Published, not refused, and not here.
    pub lost: u64,
    /// Came again.
    pub repeated: u64,
    /// Without a stamp of this run.
    pub foreign: u64,
    /// From the sensor to here.
    pub latency: Option<Latency>,
}

/// One waking of all sensors.
#[derive(Debug, Clone, Serialize)]
pub struct Cycle {
    /// Messages that were waiting for them.
    pub sent: u64,
    /// Messages they got.
    pub received: u64,
    /// Sensors that got their PINGRESP.
    pub woken: u64,
    /// From the first PINGREQ to the last PINGRESP.
    pub seconds: f64,
}

/// What the gateway's process used.
#[derive(Debug, Clone, Serialize)]
pub struct Server {
    /// Resident bytes that each connected sensor added.
    pub bytes_per_connected: Option<u64>,
    /// Resident bytes that each sleeping sensor stands for, compared with the time before all.
    pub bytes_per_asleep: Option<u64>,
    /// Processor time for each message published, microseconds.
    pub cpu_us_per_message: Option<f64>,
}

impl SnReport {
    /// Puts the report together.
    pub(super) fn new(bench: &SnBench, shared: &Shared, measured: Measured) -> Self {
        let totals = shared.totals();
        let merged = |which: fn(&WorkerStats) -> &Histogram| {
            Latency::of(&Histogram::snapshot(shared.workers.iter().map(which)))
        };
        let rate = |count: u64, time: Duration| {
            if time.is_zero() {
                0.0
            } else {
                count as f64 / time.as_secs_f64()
            }
        };
        let mut errors = BTreeMap::new();
        for worker in &shared.workers {
            for (text, count) in worker.errors.lock().iter() {
                *errors.entry(text.clone()).or_insert(0) += count;
            }
        }
        if let Some(Some(text)) = &measured.watched {
            errors.insert(format!("MQTT subscriber: {text}"), 1);
        }
        let published = &measured.published;
        let watched = &shared.watched;
        // Of a predefined id only the gateway knows the name to subscribe to.
        let counted = measured.watched.is_some() && bench.topic_id.is_none();
        let arrived = counted.then(|| {
            let messages = watched.received.load(Ordering::Relaxed);
            Arrived {
                messages,
                lost: published
                    .published
                    .saturating_sub(published.refused + messages),
                repeated: watched.repeated.load(Ordering::Relaxed),
                foreign: watched.foreign.load(Ordering::Relaxed),
                latency: Latency::of(&Histogram::snapshot([&watched.latency])),
            }
        });
        let each = |usage: &Usage, count: u64| {
            let added = usage.memory.saturating_sub(measured.before.memory);
            (usage.memory > 0 && count > 0).then(|| added / count)
        };
        let server = bench.pid.map(|_| Server {
            bytes_per_connected: each(&measured.connected, totals.connected),
            bytes_per_asleep: each(&measured.asleep, totals.asleep),
            cpu_us_per_message: (published.published > 0)
                .then(|| measured.server_cpu.as_secs_f64() * 1e6 / published.published as f64),
        });
        Self {
            command: "sn",
            gateway: format!("udp://{}", measured.address),
            sensors: bench.count,
            qos: bench.qos.to_sn().level(),
            payload: bench.size,
            connections: Connections {
                connected: totals.connected,
                failed: totals.failed,
                lost: totals.lost,
                per_second: rate(totals.connected, measured.connect_time),
                latency: merged(|stats| &stats.connect_latency),
            },
            published: Published {
                messages: published.published,
                per_second: rate(published.published, measured.publish_time),
                acknowledged: published.acknowledged,
                refused: published.refused,
                late: published.late,
                unsent: published.unsent,
                latency: merged(|stats| &stats.ack_latency),
            },
            arrived,
            cycles: measured.cycles,
            wake_latency: merged(|stats| &stats.wake_latency),
            received: totals.received,
            repeated: totals.repeated,
            repeats: totals.repeats,
            server,
            errors,
        }
    }

    /// True where something went wrong that a user has to know about: sensors that were refused or lost, messages of QoS 1
    /// and 2 without an acknowledgement or an arrival, sleepers that did not get what waited for them.
    pub fn has_failed(&self) -> bool {
        let published = &self.published;
        let unanswered = published.messages > published.acknowledged + published.refused;
        self.connections.failed > 0
            || self.connections.lost > 0
            || (self.qos >= 0 && self.connections.connected == 0)
            || published.refused > 0
            || (self.qos > 0
                && (unanswered
                    || self
                        .arrived
                        .as_ref()
                        .is_some_and(|arrived| arrived.lost > 0)))
            || self
                .cycles
                .iter()
                .any(|cycle| cycle.received < cycle.sent || cycle.woken == 0)
    }

    /// The report for people.
    pub fn text(&self) -> String {
        let mut text = String::new();
        // Writing to a String does not fail.
        let mut line = |name: &str, value: String| {
            let _ = writeln!(text, "{name:<12} {value}");
        };
        line(
            "sn",
            format!(
                "{} sensors, QoS {}, {} B, {}",
                self.sensors, self.qos, self.payload, self.gateway
            ),
        );
        let connections = &self.connections;
        line(
            "connections",
            format!(
                "{} connected, {} failed, {} lost, {}/s",
                connections.connected,
                connections.failed,
                connections.lost,
                whole(connections.per_second)
            ),
        );
        let published = &self.published;
        if published.messages > 0 {
            let mut value = format!("{} ({}/s)", published.messages, whole(published.per_second));
            if self.qos > 0 {
                value += &format!(
                    ", {} acknowledged, {} refused",
                    published.acknowledged, published.refused
                );
            }
            for (count, what) in [
                (published.late, "sent late"),
                (published.unsent, "not taken by the socket"),
            ] {
                if count > 0 {
                    value += &format!(", {count} {what}");
                }
            }
            line("published", value);
        }
        if let Some(arrived) = &self.arrived {
            line(
                "arrived",
                format!(
                    "{}, {} lost, {} repeated",
                    arrived.messages, arrived.lost, arrived.repeated
                ),
            );
        }
        for (number, cycle) in self.cycles.iter().enumerate() {
            line(
                "woken",
                format!(
                    "cycle {}: {} in {:.2} s, {} of {} messages",
                    number + 1,
                    cycle.woken,
                    cycle.seconds,
                    cycle.received,
                    cycle.sent
                ),
            );
        }
        let arrival = self.arrived.as_ref().and_then(|arrived| arrived.latency);
        for (name, latency) in [
            ("connect", connections.latency),
            ("acks", published.latency),
            ("latency", arrival),
            ("wakes", self.wake_latency),
        ] {
            if let Some(latency) = latency {
                line(name, percentiles(&latency));
            }
        }
        if self.repeats > 0 {
            line("repeats", format!("{} requests sent again", self.repeats));
        }
        if let Some(server) = &self.server {
            let figures = [
                (server.bytes_per_connected, "connected"),
                (server.bytes_per_asleep, "asleep"),
            ];
            for (bytes, state) in figures {
                if let Some(bytes) = bytes {
                    line("server", format!("{bytes} bytes for each sensor {state}"));
                }
            }
            if let Some(cpu) = server.cpu_us_per_message {
                line("server", format!("{cpu:.2} us CPU for each message"));
            }
        }
        for (error, count) in &self.errors {
            line("error", format!("{count} x {error}"));
        }
        text
    }
}
