//! The `$SYS` topics: what this node says of itself, under the names that tools know.

use nightjar_broker::{Broker, Counter, Timestamp};

const COUNTERS: [(&str, Counter); 14] = [
    ("metrics/bytes/received", Counter::BytesReceived),
    ("metrics/bytes/sent", Counter::BytesSent),
    ("metrics/packets/received", Counter::PacketsReceived),
    ("metrics/packets/sent", Counter::PacketsSent),
    ("metrics/packets/connect/received", Counter::Connects),
    ("metrics/messages/received", Counter::MessagesReceived),
    ("metrics/messages/sent", Counter::MessagesSent),
    (
        "metrics/messages/dropped/no_subscribers",
        Counter::MessagesUnmatched,
    ),
    (
        "metrics/delivery/dropped/queue_full",
        Counter::DroppedQueueFull,
    ),
    (
        "metrics/delivery/dropped/qos0_msg",
        Counter::DroppedQueueFullQoS0,
    ),
    ("metrics/delivery/dropped/expired", Counter::DroppedExpired),
    (
        "metrics/delivery/dropped/too_large",
        Counter::DroppedTooLarge,
    ),
    ("metrics/session/created", Counter::SessionsCreated),
    ("metrics/session/resumed", Counter::SessionsResumed),
];

/// Publishes all `$SYS` topics once, retained, so that a new reader need not wait for the next time.
pub fn publish(broker: &Broker, now: Timestamp) {
    let node = broker.node().clone();
    let tell = |topic: &str, value: &str| {
        broker.publish_own(
            &format!("$SYS/brokers/{node}/{topic}"),
            value.as_bytes(),
            true,
            now,
        );
    };
    broker.publish_own("$SYS/brokers", node.as_bytes(), true, now);
    tell("version", env!("CARGO_PKG_VERSION"));
    tell("sysdescr", "Nightjar");
    tell("uptime", &(now.since(broker.started()) / 1000).to_string());
    tell("stats/connections/count", &broker.connected().to_string());
    tell("stats/sessions/count", &broker.sessions().to_string());
    tell("stats/topics/count", &broker.router().filters().to_string());
    let subscriptions: usize = broker
        .clients()
        .iter()
        .map(|client| client.with_subs(|subs| subs.len()))
        .sum();
    tell("stats/subscriptions/count", &subscriptions.to_string());
    tell(
        "stats/retained/count",
        &broker.store().retained_size().0.to_string(),
    );
    for (topic, counter) in COUNTERS {
        tell(topic, &broker.metrics().get(counter).to_string());
    }
    // The names that readers of Mosquitto's tree look for.
    let also = |topic: &str, value: String| {
        broker.publish_own(&format!("$SYS/broker/{topic}"), value.as_bytes(), true, now);
    };
    also(
        "version",
        format!("nightjar version {}", env!("CARGO_PKG_VERSION")),
    );
    also(
        "uptime",
        format!("{} seconds", now.since(broker.started()) / 1000),
    );
    also("clients/connected", broker.connected().to_string());
    also("clients/total", broker.sessions().to_string());
    also("subscriptions/count", subscriptions.to_string());
    also(
        "retained messages/count",
        broker.store().retained_size().0.to_string(),
    );
    for (topic, counter) in COUNTERS
        .iter()
        .filter_map(|(topic, counter)| Some((topic.strip_prefix("metrics/")?, counter)))
    {
        if matches!(
            topic,
            "bytes/received" | "bytes/sent" | "messages/received" | "messages/sent"
        ) {
            also(topic, broker.metrics().get(*counter).to_string());
        }
    }
}
