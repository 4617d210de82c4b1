//! What a run found out, as text and as JSON.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::sync::Arc;
use std::time::Duration;

use serde::Serialize;

use crate::bench::args::BenchCommand;
use crate::bench::histogram::Snapshot;
use crate::bench::plan::{Kind, Run, Worker};
use crate::bench::stats::{Totals, errors, merged};

/// What this process used.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Usage {
    /// Resident memory in bytes; 0 where the system does not tell.
    pub memory: u64,
    /// Time on a processor, user and system.
    pub cpu: Duration,
}

impl Usage {
    /// Reads it from /proc; zeros on other systems.
    pub fn now() -> Self {
        Self::of("self")
    }

    /// The same of another process of this machine; zeros where it is none.
    pub fn of(pid: &str) -> Self {
        let read =
            |file| std::fs::read_to_string(format!("/proc/{pid}/{file}")).unwrap_or_default();
        let (status, stat) = (read("status"), read("stat"));
        Self {
            memory: parse_resident(&status).unwrap_or(0),
            cpu: parse_cpu(&stat).unwrap_or_default(),
        }
    }
}

fn parse_resident(status: &str) -> Option<u64> {
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("VmRSS:"))?;
    let kilobytes: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kilobytes * 1024)
}

fn parse_cpu(stat: &str) -> Option<Duration> {
    // The name in brackets may hold blanks; user and system time are the 12th and 13th after it.
    let mut fields = stat.rsplit_once(')')?.1.split_whitespace().skip(11);
    let ticks: u64 = fields.next()?.parse::<u64>().ok()? + fields.next()?.parse::<u64>().ok()?;
    // USER_HZ is 100 on every Linux this runs on.
    Some(Duration::from_millis(ticks * 10))
}

/// Counts and times the runner took.
#[derive(Debug, Clone, Copy)]
pub struct Measured {
    /// From the first connect to the last answer.
    pub connect_time: Duration,
    /// The time rates are about.
    pub measured: Duration,
    /// Counters when it began.
    pub begin: Totals,
    /// Counters when it ended.
    pub end: Totals,
    /// Counters after all.
    pub totals: Totals,
    /// Resident bytes all clients added.
    pub memory: u64,
    /// Processor time of the generator in the measured time.
    pub cpu: Duration,
}

/// The result of a run. Serialized it is the JSON output.
#[derive(Debug, Clone, Serialize)]
pub struct Report {
    /// conn, pub, sub, pair or fanout.
    pub command: &'static str,
    /// Where to.
    pub brokers: Vec<String>,
    /// 3.1, 3.1.1 or 5.0.
    pub mqtt: String,
    /// Connections asked for.
    pub clients: u32,
    /// QoS of messages and subscriptions.
    pub qos: u8,
    /// Payload bytes sent in each message.
    pub payload: usize,
    /// Seconds the rates are about.
    pub seconds: f64,
    /// Connections.
    pub connections: Connections,
    /// Messages sent.
    pub published: Published,
    /// Messages received.
    pub received: Received,
    /// From the stamp in the payload to its arrival.
    pub latency: Option<Latency>,
    /// From PUBLISH to PUBACK or PUBCOMP.
    pub ack_latency: Option<Latency>,
    /// Errors by their text.
    pub errors: BTreeMap<String, u64>,
    /// What the generator itself used.
    pub generator: Generator,
}

/// Connections of a run.
#[derive(Debug, Clone, Serialize)]
pub struct Connections {
    /// Accepted by the broker.
    pub connected: u64,
    /// Not established, or refused, or their subscription was.
    pub failed: u64,
    /// Lost before the end.
    pub lost: u64,
    /// Connects each second until the last was answered.
    pub per_second: f64,
    /// From the first SYN to CONNACK.
    pub latency: Option<Latency>,
}

/// Messages sent in a run.
#[derive(Debug, Clone, Serialize)]
pub struct Published {
    /// All.
    pub messages: u64,
    /// Each second of the measured time.
    pub per_second: f64,
    /// QoS 1 and 2: acknowledged.
    pub acknowledged: u64,
    /// QoS 1 and 2: refused by a reason code.
    pub refused: u64,
    /// QoS 1 and 2: no answer at the end.
    pub unacknowledged: u64,
    /// Not sent when due, because window or socket were full.
    pub late: u64,
}

/// Messages received in a run.
#[derive(Debug, Clone, Serialize)]
pub struct Received {
    /// All.
    pub messages: u64,
    /// Each second of the measured time.
    pub per_second: f64,
    /// Payload bytes each second of the measured time.
    pub bytes_per_second: f64,
    /// pair and fanout: what all subscribers together should have got.
    pub expected: Option<u64>,
    /// pair and fanout: expected and not received; sub: missing in between.
    pub lost: u64,
    /// Received again or out of order.
    pub repeated: u64,
    /// Without a stamp of this run.
    pub foreign: u64,
    /// Times the end-to-end window was emptied by force.
    pub stalls: u64,
}

/// Percentiles in microseconds.
#[derive(Debug, Clone, Copy, Serialize)]
pub struct Latency {
    /// How many.
    pub count: u64,
    /// Arithmetic mean.
    pub mean_us: f64,
    /// Median.
    pub p50_us: f64,
    /// 90 % are not above.
    pub p90_us: f64,
    /// 99 % are not above.
    pub p99_us: f64,
    /// 99.9 % are not above.
    pub p999_us: f64,
    /// The longest.
    pub max_us: f64,
}

/// What the generator used.
#[derive(Debug, Clone, Copy, Serialize)]
pub struct Generator {
    /// Threads that drove clients.
    pub threads: usize,
    /// Processor seconds in the measured time.
    pub cpu_seconds: f64,
    /// Resident bytes each connection added.
    pub bytes_per_client: u64,
}

impl Latency {
    pub(crate) fn of(snapshot: &Snapshot) -> Option<Self> {
        let micros = |time: Duration| time.as_nanos() as f64 / 1000.0;
        (snapshot.count() > 0).then(|| Self {
            count: snapshot.count(),
            mean_us: micros(snapshot.mean()),
            p50_us: micros(snapshot.percentile(50.0)),
            p90_us: micros(snapshot.percentile(90.0)),
            p99_us: micros(snapshot.percentile(99.0)),
            p999_us: micros(snapshot.percentile(99.9)),
            max_us: micros(snapshot.max()),
        })
    }
}

impl Report {
    /// Puts the report together.
    pub fn new(
        command: &BenchCommand,
        run: &Run,
        workers: &[Arc<Worker>],
        measured: Measured,
    ) -> Self {
        let Measured {
            begin, end, totals, ..
        } = measured;
        let plan = &run.plan;
        let stats = || workers.iter().map(|worker| &worker.stats);
        let seconds = measured.measured.as_secs_f64();
        let rate = |end: u64, begin: u64| {
            if seconds > 0.0 {
                end.saturating_sub(begin) as f64 / seconds
            } else {
                0.0
            }
        };
        let qos = plan
            .publish
            .as_ref()
            .map_or(plan.subscribe_qos, |publish| publish.qos);
        let expected = expected(run, &totals);
        let latency = merged(stats(), |stats| &stats.latency);
        let ack_latency = merged(stats(), |stats| &stats.ack_latency);
        let connect_latency = merged(stats(), |stats| &stats.connect_latency);
        Self {
            command: command.name(),
            brokers: plan
                .targets
                .iter()
                .map(|(dialer, _)| dialer.endpoint().to_string())
                .collect(),
            mqtt: plan.version.to_string(),
            clients: plan.clients,
            qos: qos.bits(),
            payload: plan.payload.len(),
            seconds,
            connections: Connections {
                connected: totals.connected,
                failed: totals.connect_failed,
                lost: totals.disconnected,
                per_second: totals.connected as f64 / measured.connect_time.as_secs_f64().max(1e-9),
                latency: Latency::of(&connect_latency),
            },
            published: Published {
                messages: totals.published,
                per_second: rate(end.published, begin.published),
                acknowledged: totals.acknowledged,
                refused: totals.refused,
                unacknowledged: unacknowledged(run, &totals),
                late: totals.late,
            },
            received: Received {
                messages: totals.received,
                per_second: rate(end.received, begin.received),
                bytes_per_second: rate(end.received_bytes, begin.received_bytes),
                expected,
                lost: match expected {
                    Some(expected) => expected.saturating_sub(unique(&totals)),
                    None => totals.gaps,
                },
                repeated: totals.repeated,
                foreign: totals.foreign,
                stalls: totals.stalls,
            },
            latency: Latency::of(&latency),
            ack_latency: Latency::of(&ack_latency),
            errors: errors(stats()),
            generator: Generator {
                threads: workers.len(),
                cpu_seconds: measured.cpu.as_secs_f64(),
                bytes_per_client: measured.memory.checked_div(totals.connected).unwrap_or(0),
            },
        }
    }

    /// True while acknowledgements or deliveries of this process are on their way.
    pub fn is_missing(run: &Run, totals: &Totals) -> bool {
        unacknowledged(run, totals) > 0
            || expected(run, totals).is_some_and(|expected| unique(totals) < expected)
    }

    /// True where something went wrong that a user has to know about: connections that failed or were
    /// lost, refusals, and messages lost although QoS 1 or 2 was asked for.
    pub fn has_failed(&self) -> bool {
        self.connections.failed > 0
            || self.connections.lost > 0
            || self.connections.connected == 0
            || self.published.refused > 0
            || self.published.unacknowledged > 0
            || (self.qos > 0 && self.received.lost > 0)
    }

    /// The report for people.
    pub fn text(&self) -> String {
        let mut text = String::new();
        let mut line = |name: &str, value: String| {
            // Writing to a String does not fail.
            let _ = writeln!(text, "{name:<12} {value}");
        };
        line(
            self.command,
            format!(
                "{} clients, MQTT {}, QoS {}, {} B, {}",
                self.clients,
                self.mqtt,
                self.qos,
                self.payload,
                self.brokers.join(", ")
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
        let mut latency = |name: &str, latency: &Option<Latency>| {
            if let Some(latency) = latency {
                let _ = writeln!(text, "{name:<12} {}", percentiles(latency));
            }
        };
        latency("connect", &connections.latency);
        let published = &self.published;
        if published.messages > 0 {
            let mut value = format!("{} ({}/s)", published.messages, whole(published.per_second));
            if self.qos > 0 {
                value += &format!(
                    ", {} acknowledged, {} refused, {} without answer",
                    published.acknowledged, published.refused, published.unacknowledged
                );
            }
            if published.late > 0 {
                value += &format!(", {} sent late", published.late);
            }
            let _ = writeln!(text, "{:<12} {value}", "published");
        }
        let received = &self.received;
        if received.messages > 0 || received.expected.is_some_and(|expected| expected > 0) {
            let mut value = format!("{} ({}/s)", received.messages, whole(received.per_second));
            if let Some(expected) = received.expected {
                value += &format!(" of {expected}");
            }
            value += &format!(", {} lost, {} repeated", received.lost, received.repeated);
            if received.foreign > 0 {
                value += &format!(", {} without a stamp of this run", received.foreign);
            }
            if received.stalls > 0 {
                value += &format!(", {} stalls", received.stalls);
            }
            let _ = writeln!(text, "{:<12} {value}", "received");
        }
        for (name, latency) in [("latency", &self.latency), ("acks", &self.ack_latency)] {
            if let Some(latency) = latency {
                let _ = writeln!(text, "{name:<12} {}", percentiles(latency));
            }
        }
        let generator = &self.generator;
        let _ = writeln!(
            text,
            "{:<12} {} thread(s), {:.2} s CPU in {:.1} s, {:.1} KB for each client",
            "generator",
            generator.threads,
            generator.cpu_seconds,
            self.seconds,
            generator.bytes_per_client as f64 / 1024.0
        );
        for (error, count) in &self.errors {
            let _ = writeln!(text, "{:<12} {count} x {error}", "error");
        }
        text
    }
}

/// Deliveries that are not repeats and are of this run.
fn unique(totals: &Totals) -> u64 {
    totals
        .received
        .saturating_sub(totals.repeated + totals.foreign)
}

/// What all subscribers of this process together should have got.
fn expected(run: &Run, totals: &Totals) -> Option<u64> {
    match run.plan.kind {
        Kind::Pair(_) => Some(totals.published - totals.refused),
        Kind::Fanout { .. } => Some((totals.published - totals.refused) * totals.subscribed),
        _ => None,
    }
}

fn unacknowledged(run: &Run, totals: &Totals) -> u64 {
    let acknowledged = run
        .plan
        .publish
        .as_ref()
        .is_some_and(|publish| publish.qos.bits() > 0);
    if acknowledged {
        totals
            .published
            .saturating_sub(totals.acknowledged + totals.refused)
    } else {
        0
    }
}

pub(crate) fn whole(rate: f64) -> u64 {
    rate.round() as u64
}

pub(crate) fn percentiles(latency: &Latency) -> String {
    let time = |micros: f64| {
        if micros < 1000.0 {
            format!("{micros:.0} us")
        } else if micros < 1_000_000.0 {
            format!("{:.2} ms", micros / 1000.0)
        } else {
            format!("{:.2} s", micros / 1e6)
        }
    };
    format!(
        "p50 {}, p90 {}, p99 {}, p99.9 {}, max {}, mean {}",
        time(latency.p50_us),
        time(latency.p90_us),
        time(latency.p99_us),
        time(latency.p999_us),
        time(latency.max_us),
        time(latency.mean_us)
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_and_cpu_are_read_from_proc() {
        assert_eq!(
            parse_resident("VmPeak:\t 9 kB\nVmRSS:\t  1234 kB\n"),
            Some(1234 * 1024)
        );
        let stat = "7 (a) b) S 1 2 3 4 5 6 7 8 9 10 250 150 0 0";
        assert_eq!(parse_cpu(stat), Some(Duration::from_secs(4)));
        let here = Usage::now();
        assert!(here.memory > 100_000, "{here:?}");
    }

    #[test]
    fn times_are_shown_in_a_fitting_unit() {
        let latency = Latency {
            count: 1,
            mean_us: 1.0,
            p50_us: 999.0,
            p90_us: 1000.0,
            p99_us: 12_345.0,
            p999_us: 1_500_000.0,
            max_us: 2_000_000.0,
        };
        assert_eq!(
            percentiles(&latency),
            "p50 999 us, p90 1.00 ms, p99 12.35 ms, p99.9 1.50 s, max 2.00 s, mean 1 us"
        );
    }
}
