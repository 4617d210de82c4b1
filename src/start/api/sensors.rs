//! The MQTT-SN gateways as the API and `/metrics` show them.

use std::fmt::Write as _;

use nightjar_broker::Timestamp;
use nightjar_gateway::mqttsn::{ClientView, Counted, SnListenerStatus, State};
use serde_json::{Value, json};

use crate::start::Node;
use crate::start::store::Store;

const fn word(state: State) -> &'static str {
    match state {
        State::Disconnected => "disconnected",
        State::Connecting => "connecting",
        State::Active => "active",
        State::Asleep => "asleep",
        State::Awake => "awake",
    }
}

/// What stands under one of the names of the API.
pub fn list(node: &Node, what: &str, client_id: Option<&str>) -> Option<Vec<Value>> {
    match what {
        "gateways" => Some(gateways(node)),
        "sleepers" => Some(sleepers(node, client_id)),
        "topics" => Some(topics(node, client_id)),
        _ => None,
    }
}

fn gateways(node: &Node) -> Vec<Value> {
    let status = node.sensors.status().into_iter();
    let view = |listener: SnListenerStatus| {
        let gateway = &listener.gateway;
        let asleep: Vec<_> = gateway
            .clients()
            .into_iter()
            .filter(|client| client.state == State::Asleep)
            .collect();
        let buffered: usize = asleep.iter().map(|client| kept(node, client)).sum();
        let counters: serde_json::Map<String, Value> = Counted::ALL
            .iter()
            .map(|what| (what.name().to_owned(), gateway.counters().get(*what).into()))
            .collect();
        let malformed: serde_json::Map<String, Value> = gateway
            .counters()
            .malformed()
            .map(|(reason, count)| (reason.to_owned(), count.into()))
            .collect();
        json!({
            "listener": &*listener.name,
            "gateway_id": gateway.settings().gateway_id,
            "bind": listener.address.to_string(),
            "running": listener.running,
            "clients": gateway.sessions(),
            "max_clients": gateway.settings().max_sessions,
            "asleep": asleep.len(),
            "buffered": buffered,
            "kernel_drops": listener.kernel_drops(),
            "counters": counters,
            "malformed": malformed,
        })
    };
    status.map(view).collect()
}

/// Messages that wait in the record of a sleeper.
fn kept(node: &Node, client: &ClientView) -> usize {
    let store = node.broker.store();
    store.queue_len(&client.client_id).map_or(0, |kept| kept.0)
}

fn sleepers(node: &Node, only: Option<&str>) -> Vec<Value> {
    let now = Timestamp::now();
    let mut rows = Vec::new();
    for listener in node.sensors.status() {
        let most = listener.gateway.settings().queue.max_len;
        for client in listener.gateway.clients() {
            let wanted = only.is_none_or(|only| *client.client_id == *only);
            if !wanted || !matches!(client.state, State::Asleep | State::Awake) {
                continue;
            }
            let queue = node.broker.client(&client.client_id);
            let queue = queue.map_or(0, |handle| handle.queue_state().len);
            // Until it is lost; negative when it should be already.
            let wakes_in = client.sleep.map(|sleep| {
                let seconds = |ms: u64| i64::try_from(ms / 1000).unwrap_or(i64::MAX);
                seconds(sleep.lost_at.since(now)) - seconds(now.since(sleep.lost_at))
            });
            rows.push(json!({
                "clientid": &*client.client_id,
                "listener": &*listener.name,
                "state": word(client.state),
                "peer": client.peer.to_string(),
                "asleep_since": client.sleep.map(|sleep| sleep.since().to_rfc3339()),
                "duration": client.sleep.map(|sleep| sleep.seconds),
                "wakes_in": wakes_in,
                "buffered": queue.max(kept(node, &client)),
                "buffer_max": most,
                "topic_ids": client.topic_ids,
            }));
        }
    }
    rows
}

/// Predefined topics, and the ids of connected clients.
fn topics(node: &Node, only: Option<&str>) -> Vec<Value> {
    let mut rows = Vec::new();
    for listener in node.sensors.status() {
        for topic in listener.gateway.topic_ids(only) {
            rows.push(json!({
                "listener": &*listener.name,
                "clientid": topic.client_id.as_deref(),
                "id": topic.id,
                "topic": topic.topic,
                "kind": if topic.predefined { "predefined" } else { "normal" },
            }));
        }
    }
    rows
}

/// What the gateways know of a client.
pub fn client(node: &Node, id: &str) -> Option<Value> {
    node.sensors.status().into_iter().find_map(|listener| {
        let client = listener.gateway.client(id)?;
        Some(json!({
            "state": word(client.state),
            "peer": client.peer.to_string(),
            "gateway_id": listener.gateway.settings().gateway_id,
        }))
    })
}

/// Metrics of the gateways and of the durable store.
pub fn metrics(node: &Node, out: &mut String) {
    // Writing to a String cannot fail.
    let all = node.sensors.status();
    if !all.is_empty() {
        let name = "nightjar_mqttsn_clients";
        let _ = writeln!(
            out,
            "# HELP {name} Clients that a gateway knows.\n# TYPE {name} gauge"
        );
        for it in &all {
            let _ = writeln!(
                out,
                "{name}{{listener=\"{}\"}} {}",
                it.name,
                it.gateway.sessions()
            );
        }
        for what in Counted::ALL {
            let name = format!("nightjar_mqttsn_{}_total", what.name());
            let _ = writeln!(
                out,
                "# HELP {name} MQTT-SN: {}.\n# TYPE {name} counter",
                what.name().replace('_', " ")
            );
            for it in &all {
                let count = it.gateway.counters().get(*what);
                let _ = writeln!(out, "{name}{{listener=\"{}\"}} {count}", it.name);
            }
        }
    }
    if !all.is_empty() {
        let name = "nightjar_mqttsn_malformed_total";
        let _ = writeln!(
            out,
            "# HELP {name} MQTT-SN: datagrams that are no message, by reason.\n# TYPE {name} counter"
        );
        for it in &all {
            for (reason, count) in it.gateway.counters().malformed() {
                let _ = writeln!(
                    out,
                    "{name}{{listener=\"{}\",reason=\"{reason}\"}} {count}",
                    it.name
                );
            }
        }
        let name = "nightjar_mqttsn_kernel_drops";
        let _ = writeln!(
            out,
            "# HELP {name} Datagrams that the system dropped because a socket's buffer was full.\n# TYPE {name} gauge"
        );
        for it in &all {
            let drops = it.kernel_drops();
            let _ = writeln!(out, "{name}{{listener=\"{}\"}} {drops}", it.name);
        }
    }
    if let Store::Log(store) = &*node.store {
        let (memory, disk) = store.queue_bytes();
        for (name, help, value) in [
            (
                "nightjar_store_queue_memory_bytes",
                "Bytes of queued messages in memory.",
                memory as u64,
            ),
            (
                "nightjar_store_queue_disk_bytes",
                "Bytes of the files that hold the other queued messages.",
                disk,
            ),
            (
                "nightjar_store_failed",
                "1 when the log cannot be written any more.",
                u64::from(store.has_failed()),
            ),
        ] {
            let _ = writeln!(
                out,
                "# HELP {name} {help}\n# TYPE {name} gauge\n{name} {value}"
            );
        }
    }
}
