//! The text format.

use std::fmt::Write as _;

use nightjar_broker::auth::Refusal;
use nightjar_broker::observe::{BUCKETS_MS, HistogramView};
use nightjar_broker::{Counter, Direction, DropReason, MemoryLevel, Timestamp};
use nightjar_mqtt::PacketType;

use super::{DISCONNECTS, emqx};
use crate::shared::Shared;

/// Writes metrics.
pub struct Writer {
    /// The text so far.
    pub out: String,
}

impl Writer {
    /// Begins a metric: help and type come once, its samples after them.
    pub fn family(&mut self, name: &str, kind: &str, help: &str) {
        let _ = writeln!(self.out, "# HELP {name} {help}\n# TYPE {name} {kind}");
    }

    /// A metric of one sample.
    pub fn single(&mut self, name: &str, kind: &str, help: &str, value: impl std::fmt::Display) {
        self.family(name, kind, help);
        let _ = writeln!(self.out, "{name} {value}");
    }

    /// A sample with one label.
    pub fn labelled(&mut self, name: &str, label: &str, is: &str, value: impl std::fmt::Display) {
        let _ = writeln!(self.out, "{name}{{{label}=\"{}\"}} {value}", escaped(is));
    }

    /// A histogram of seconds.
    fn histogram(&mut self, name: &str, help: &str, view: &HistogramView) {
        self.family(name, "histogram", help);
        let mut below = 0;
        for (bound, count) in BUCKETS_MS.iter().zip(&view.buckets) {
            below += count;
            let _ = writeln!(
                self.out,
                "{name}_bucket{{le=\"{}\"}} {below}",
                *bound as f64 / 1000.0
            );
        }
        let count = view.count();
        let _ = writeln!(
            self.out,
            "{name}_bucket{{le=\"+Inf\"}} {count}\n{name}_sum {}\n{name}_count {count}",
            view.sum_ms as f64 / 1000.0
        );
    }
}

/// A label's value as the format wants it.
pub fn escaped(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '\\' => out.push_str("\\\\"),
            '"' => out.push_str("\\\""),
            '\n' => out.push_str("\\n"),
            c => out.push(c),
        }
    }
    out
}

/// All metrics of a node. Walks over nothing that grows with clients but the gauges of [`Shared::stats`], which are at
/// most a second old.
pub fn render(shared: &Shared) -> String {
    let mut w = Writer {
        out: String::with_capacity(32 * 1024),
    };
    node(&mut w, shared);
    traffic(&mut w, shared);
    clients(&mut w, shared);
    access(&mut w, shared);
    listeners(&mut w, shared);
    shared.host.extra_metrics(&mut w.out);
    if shared.host.settings().emqx_names {
        emqx::render(&mut w, shared);
    }
    w.out
}

fn node(w: &mut Writer, shared: &Shared) {
    let broker = &shared.broker;
    let now = Timestamp::now();
    w.family("nightjar_info", "gauge", "Name and version of the node.");
    let _ = writeln!(
        w.out,
        "nightjar_info{{node=\"{}\",version=\"{}\",durability=\"{}\"}} 1",
        escaped(broker.node()),
        escaped(shared.host.version()),
        escaped(&shared.host.durability())
    );
    w.single(
        "nightjar_up",
        "gauge",
        "1 while the node serves, 0 while it stops.",
        u8::from(!shared.host.is_stopping()),
    );
    w.single(
        "nightjar_uptime_seconds",
        "gauge",
        "Seconds since the start.",
        now.since(broker.started()) / 1000,
    );
    let stats = shared.stats();
    for (name, help, value) in [
        (
            "nightjar_connections",
            "Connected clients.",
            stats.connections,
        ),
        (
            "nightjar_sessions",
            "Sessions on this node, connected or not.",
            stats.sessions,
        ),
        (
            "nightjar_durable_sessions",
            "Sessions kept by the durable store.",
            stats.durable_sessions,
        ),
        (
            "nightjar_subscriptions",
            "Subscriptions.",
            stats.subscriptions,
        ),
        ("nightjar_topics", "Distinct topic filters.", stats.topics),
        (
            "nightjar_retained_messages",
            "Retained messages.",
            stats.retained,
        ),
        (
            "nightjar_retained_bytes",
            "Bytes of retained messages.",
            stats.retained_bytes,
        ),
        (
            "nightjar_alarms_active",
            "Alarms that are raised.",
            broker.alarms().active_count() as u64,
        ),
    ] {
        w.single(name, "gauge", help, value);
    }
    w.single(
        "nightjar_memory_level",
        "gauge",
        "0 normal, 1 high (connections are refused), 2 critical (publishers wait).",
        match broker.memory() {
            MemoryLevel::Normal => 0,
            MemoryLevel::High => 1,
            MemoryLevel::Critical => 2,
        },
    );
    let figures = shared.process.figures();
    w.single(
        "process_resident_memory_bytes",
        "gauge",
        "Resident bytes of the process.",
        figures.resident,
    );
    w.single(
        "process_cpu_seconds_total",
        "counter",
        "Processor time of the process.",
        figures.cpu_seconds,
    );
    w.single(
        "process_threads",
        "gauge",
        "Threads of the process.",
        figures.threads,
    );
    if let Some(open) = figures.open_fds {
        w.single("process_open_fds", "gauge", "Open file descriptors.", open);
    }
    if let Some(max) = figures.max_fds {
        w.single("process_max_fds", "gauge", "Most file descriptors.", max);
    }
    w.single(
        "process_start_time_seconds",
        "gauge",
        "Start, seconds since the epoch.",
        broker.started().0 as f64 / 1000.0,
    );
    w.single(
        "nightjar_memory_limit_bytes",
        "gauge",
        "Memory the process may use.",
        figures.total,
    );
}

fn traffic(w: &mut Writer, shared: &Shared) {
    let broker = &shared.broker;
    let get = |counter| broker.metrics().get(counter);
    for (name, help, counter) in [
        (
            "nightjar_bytes_received_total",
            "Bytes read from clients, below TLS and WebSocket.",
            Counter::BytesReceived,
        ),
        (
            "nightjar_bytes_sent_total",
            "Bytes written to clients.",
            Counter::BytesSent,
        ),
        (
            "nightjar_messages_received_total",
            "PUBLISH packets taken from clients.",
            Counter::MessagesReceived,
        ),
        (
            "nightjar_messages_sent_total",
            "PUBLISH packets sent to clients.",
            Counter::MessagesSent,
        ),
        (
            "nightjar_messages_unmatched_total",
            "Messages that matched no subscription.",
            Counter::MessagesUnmatched,
        ),
        (
            "nightjar_publisher_stalls_total",
            "Publishers that waited for a slow receiver.",
            Counter::Stalls,
        ),
        (
            "nightjar_retained_refused_total",
            "Retained messages refused by a limit.",
            Counter::RetainedRefused,
        ),
        (
            "nightjar_wills_published_total",
            "Wills published.",
            Counter::WillsPublished,
        ),
        (
            "nightjar_tolerated_quirks_total",
            "Harmless illegal behaviour that was served.",
            Counter::Tolerated,
        ),
        (
            "nightjar_duplicates_received_total",
            "QoS 2 messages received again.",
            Counter::DuplicatesReceived,
        ),
    ] {
        w.single(name, "counter", help, get(counter));
    }
    for (name, help, direction) in [
        (
            "nightjar_packets_received_total",
            "Packets read from clients, by type.",
            Direction::Received,
        ),
        (
            "nightjar_packets_sent_total",
            "Packets written to clients, by type.",
            Direction::Sent,
        ),
    ] {
        w.family(name, "counter", help);
        for packet in (1..=15).filter_map(PacketType::from_bits) {
            if super::goes(direction, packet) {
                let count = broker.metrics().packets(direction, packet);
                w.labelled(name, "type", &packet.as_str().to_ascii_lowercase(), count);
            }
        }
    }
    w.family(
        "nightjar_deliveries_dropped_total",
        "counter",
        "Deliveries dropped, by reason.",
    );
    for reason in DropReason::ALL {
        w.labelled(
            "nightjar_deliveries_dropped_total",
            "reason",
            reason.as_str(),
            get(reason.counter()),
        );
    }
    w.family(
        "nightjar_publish_refused_total",
        "counter",
        "Messages refused, by reason.",
    );
    w.labelled(
        "nightjar_publish_refused_total",
        "reason",
        "denied",
        get(Counter::PublishDenied),
    );
    w.labelled(
        "nightjar_publish_refused_total",
        "reason",
        "sys_topic",
        get(Counter::PublishSysRefused),
    );
    let latencies = broker.latencies();
    w.histogram(
        "nightjar_delivery_latency_seconds",
        "From taking a message until it is in a subscriber's write buffer; the first message of each write is measured.",
        &latencies.delivery.view(),
    );
    w.histogram(
        "nightjar_connect_latency_seconds",
        "From accepting a connection until CONNACK.",
        &latencies.connect.view(),
    );
    w.histogram(
        "nightjar_http_latency_seconds",
        "Answers of the HTTP API.",
        &latencies.http.view(),
    );
}

fn clients(w: &mut Writer, shared: &Shared) {
    let broker = &shared.broker;
    let get = |counter| broker.metrics().get(counter);
    w.family(
        "nightjar_connects_total",
        "counter",
        "CONNECT packets, by outcome.",
    );
    for (outcome, counter) in [
        ("accepted", Counter::ConnectsAccepted),
        ("denied", Counter::ConnectsDenied),
        ("refused", Counter::ConnectsRefused),
        ("timeout", Counter::ConnectTimeouts),
    ] {
        w.labelled("nightjar_connects_total", "outcome", outcome, get(counter));
    }
    w.family(
        "nightjar_disconnects_total",
        "counter",
        "Connections that ended, by reason.",
    );
    for (reason, counter) in DISCONNECTS {
        w.labelled("nightjar_disconnects_total", "reason", reason, get(counter));
    }
    w.family(
        "nightjar_sessions_total",
        "counter",
        "What became of sessions.",
    );
    for (what, counter) in [
        ("created", Counter::SessionsCreated),
        ("resumed", Counter::SessionsResumed),
        ("ended", Counter::SessionsEnded),
    ] {
        w.labelled("nightjar_sessions_total", "event", what, get(counter));
    }
}

fn access(w: &mut Writer, shared: &Shared) {
    let broker = &shared.broker;
    let counters = broker.auth().counters();
    w.family(
        "nightjar_authentications_total",
        "counter",
        "Verdicts on CONNECT.",
    );
    let name = "nightjar_authentications_total";
    w.labelled(name, "verdict", "allow", counters.authenticated());
    w.labelled(name, "verdict", "anonymous", counters.anonymous());
    for reason in Refusal::ALL {
        w.labelled(name, "verdict", reason.label(), counters.refused(reason));
    }
    w.single(
        "nightjar_subscribe_denied_total",
        "counter",
        "Topic filters refused: not authorized.",
        broker.metrics().get(Counter::SubscribeDenied),
    );
    w.single(
        "nightjar_authorization_failures_total",
        "counter",
        "Authorization sources that did not answer; each counts as a deny.",
        broker.acl().failures(),
    );
}

fn listeners(w: &mut Writer, shared: &Shared) {
    let all = shared.host.listeners();
    let name = "nightjar_listener_connections";
    w.family(
        name,
        "gauge",
        "Connections of a listener, those in their handshake included.",
    );
    for it in &all {
        w.labelled(name, "listener", &it.id, it.current_connections);
    }
    let name = "nightjar_listener_running";
    w.family(name, "gauge", "1 while the listener accepts.");
    for it in &all {
        w.labelled(name, "listener", &it.id, u8::from(it.running));
    }
    let name = "nightjar_listener_max_connections";
    w.family(
        name,
        "gauge",
        "Most connections of a listener, where it has a limit.",
    );
    for it in &all {
        if let Some(max) = it.max_connections {
            w.labelled(name, "listener", &it.id, max);
        }
    }
    let name = "nightjar_listener_accepted_total";
    w.family(name, "counter", "Connections accepted from the system.");
    for it in &all {
        w.labelled(name, "listener", &it.id, it.accepted);
    }
    let name = "nightjar_listener_accept_errors_total";
    w.family(
        name,
        "counter",
        "Times the system could not give a connection.",
    );
    for it in &all {
        w.labelled(name, "listener", &it.id, it.accept_errors);
    }
    let name = "nightjar_listener_health_checks_total";
    w.family(name, "counter", "Health checks of balancers.");
    for it in &all {
        w.labelled(name, "listener", &it.id, it.health_checks);
    }
    let name = "nightjar_listener_refused_total";
    w.family(
        name,
        "counter",
        "Connections refused before CONNECT, by reason.",
    );
    for it in &all {
        for (reason, count) in &it.refused {
            let _ = writeln!(
                w.out,
                "{name}{{listener=\"{}\",reason=\"{}\"}} {count}",
                escaped(&it.id),
                escaped(reason)
            );
        }
    }
    let name = "nightjar_certificate_expiry_seconds";
    w.family(
        name,
        "gauge",
        "Seconds until a listener's certificate ends; negative when it has.",
    );
    for it in &all {
        if let Some(left) = it.tls.as_ref().and_then(|tls| tls.expires_in) {
            w.labelled(name, "listener", &it.id, left);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn histograms_are_cumulated_and_labels_escaped() {
        let mut w = Writer { out: String::new() };
        let mut view = HistogramView::default();
        view.buckets[0] = 2;
        view.buckets[1] = 1;
        view.buckets[BUCKETS_MS.len()] = 1;
        view.sum_ms = 100_000;
        w.histogram("h", "x", &view);
        assert!(w.out.contains("h_bucket{le=\"0.001\"} 2\n"), "{}", w.out);
        assert!(w.out.contains("h_bucket{le=\"0.002\"} 3\n"));
        assert!(w.out.contains("h_bucket{le=\"60\"} 3\n"));
        assert!(
            w.out
                .contains("h_bucket{le=\"+Inf\"} 4\nh_sum 100\nh_count 4\n")
        );
        assert_eq!(escaped("a\"\\\n"), "a\\\"\\\\\\n");
    }
}
