//! The same figures under the names that boards and exporters for EMQX look for (`metrics.emqx_names`).

use std::fmt::Write as _;

use nightjar_broker::{Counter, Direction};
use nightjar_mqtt::PacketType;

use super::text::{Writer, escaped};
use super::{disconnects, dropped};
use crate::shared::Shared;

/// Writes the `emqx_*` names with the label `node`.
pub fn render(w: &mut Writer, shared: &Shared) {
    let broker = &shared.broker;
    let node = escaped(broker.node());
    let get = |counter| broker.metrics().get(counter);
    let mut write = |name: &str, kind: &str, value: u64| {
        let _ = writeln!(
            w.out,
            "# TYPE emqx_{name} {kind}\nemqx_{name}{{node=\"{node}\"}} {value}"
        );
    };
    let stats = shared.stats();
    for (name, value) in [
        ("connections_count", stats.connections),
        ("connections_max", stats.connections_max),
        ("live_connections_count", stats.connections),
        ("live_connections_max", stats.connections_max),
        ("sessions_count", stats.sessions),
        ("sessions_max", stats.sessions_max),
        ("channels_count", stats.sessions),
        ("channels_max", stats.sessions_max),
        ("topics_count", stats.topics),
        ("topics_max", stats.topics_max),
        ("routes_count", stats.topics),
        ("routes_max", stats.topics_max),
        ("suboptions_count", stats.subscriptions),
        ("suboptions_max", stats.subscriptions_max),
        ("subscribers_count", stats.subscriptions),
        ("subscribers_max", stats.subscriptions_max),
        ("subscriptions_count", stats.subscriptions),
        ("subscriptions_max", stats.subscriptions_max),
        ("subscriptions_shared_count", stats.shared),
        ("retained_count", stats.retained),
        ("retained_max", stats.retained_max),
        (
            "cluster_nodes_running",
            shared
                .host
                .nodes()
                .iter()
                .filter(|it| it.status == "running")
                .count() as u64,
        ),
        (
            "cluster_nodes_stopped",
            shared
                .host
                .nodes()
                .iter()
                .filter(|it| it.status != "running")
                .count() as u64,
        ),
    ] {
        write(name, "gauge", value);
    }
    for (name, value) in [
        ("bytes_received", get(Counter::BytesReceived)),
        ("bytes_sent", get(Counter::BytesSent)),
        ("packets_received", get(Counter::PacketsReceived)),
        ("packets_sent", get(Counter::PacketsSent)),
        ("packets_publish_auth_error", get(Counter::PublishDenied)),
        (
            "packets_subscribe_auth_error",
            get(Counter::SubscribeDenied),
        ),
        ("packets_connack_auth_error", get(Counter::ConnectsDenied)),
        ("messages_received", get(Counter::MessagesReceived)),
        ("messages_publish", get(Counter::MessagesReceived)),
        ("messages_sent", get(Counter::MessagesSent)),
        ("messages_delivered", get(Counter::MessagesSent)),
        ("messages_dropped", dropped(broker)),
        (
            "messages_dropped_no_subscribers",
            get(Counter::MessagesUnmatched),
        ),
        ("messages_dropped_expired", get(Counter::DroppedExpired)),
        (
            "delivery_dropped",
            dropped(broker) - get(Counter::MessagesUnmatched),
        ),
        ("delivery_dropped_too_large", get(Counter::DroppedTooLarge)),
        (
            "delivery_dropped_qos0_msg",
            get(Counter::DroppedQueueFullQoS0),
        ),
        (
            "delivery_dropped_queue_full",
            get(Counter::DroppedQueueFull),
        ),
        ("delivery_dropped_expired", get(Counter::DroppedExpired)),
        ("client_connect", get(Counter::Connects)),
        (
            "client_connack",
            get(Counter::ConnectsAccepted) + get(Counter::ConnectsDenied),
        ),
        ("client_connected", get(Counter::ConnectsAccepted)),
        ("client_disconnected", disconnects(broker)),
        ("client_authenticate", get(Counter::Connects)),
        (
            "client_auth_anonymous",
            broker.auth().counters().anonymous(),
        ),
        ("session_created", get(Counter::SessionsCreated)),
        ("session_resumed", get(Counter::SessionsResumed)),
        ("session_takenover", get(Counter::DisconnectsTakenOver)),
        ("session_terminated", get(Counter::SessionsEnded)),
        (
            "authentication_success",
            broker.auth().counters().authenticated(),
        ),
        (
            "authentication_success_anonymous",
            broker.auth().counters().anonymous(),
        ),
        ("authentication_failure", get(Counter::ConnectsDenied)),
        (
            "authorization_deny",
            get(Counter::PublishDenied) + get(Counter::SubscribeDenied),
        ),
    ] {
        write(name, "counter", value);
    }
    for direction in [Direction::Received, Direction::Sent] {
        let way = match direction {
            Direction::Received => "received",
            Direction::Sent => "sent",
        };
        for packet in (1..=15).filter_map(PacketType::from_bits) {
            if super::goes(direction, packet) {
                let kind = packet.as_str().to_ascii_lowercase();
                let count = broker.metrics().packets(direction, packet);
                write(&format!("packets_{kind}_{way}"), "counter", count);
            }
        }
    }
    let figures = shared.process.figures();
    write("vm_used_memory", "gauge", figures.resident);
    write("vm_total_memory", "gauge", figures.total);
    write("vm_cpu_use", "gauge", figures.cpu_percent as u64);
}
