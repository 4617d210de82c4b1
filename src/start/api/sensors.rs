//! The MQTT-SN gateways as the API and `/metrics` show them.

use std::fmt::Write as _;

use nightjar_gateway::mqttsn::{Counted, State};
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
        "topics" => Some(topics(node)),
        _ => None,
    }
}

fn gateways(node: &Node) -> Vec<Value> {
    let status = node.sensors.status().into_iter();
    let view = |listener: nightjar_gateway::mqttsn::SnListenerStatus| {
        let gateway = &listener.gateway;
        let asleep = gateway
            .client_ids()
            .iter()
            .filter_map(|id| gateway.client(id))
            .filter(|client| client.state == State::Asleep)
            .count();
        let counters: serde_json::Map<String, Value> = Counted::ALL
            .iter()
            .map(|what| (what.name().to_owned(), gateway.counters().get(*what).into()))
            .collect();
        json!({
            "listener": &*listener.name,
            "gateway_id": gateway.settings().gateway_id,
            "bind": listener.address.to_string(),
            "running": listener.running,
            "clients": gateway.sessions(),
            "max_clients": gateway.settings().max_sessions,
            "asleep": asleep,
            "kernel_drops": listener.kernel_drops(),
            "counters": counters,
        })
    };
    status.map(view).collect()
}

fn sleepers(node: &Node, only: Option<&str>) -> Vec<Value> {
    let mut rows = Vec::new();
    for listener in node.sensors.status() {
        for id in listener.gateway.client_ids() {
            if only.is_some_and(|only| only != &*id) {
                continue;
            }
            let Some(client) = listener.gateway.client(&id) else {
                continue;
            };
            if !matches!(client.state, State::Asleep | State::Awake) {
                continue;
            }
            let handle = node.broker.client(&id);
            let facts = handle.as_ref().map(|handle| handle.about().1);
            let queue = handle.as_ref().map(|handle| handle.queue_state());
            let kept = node.broker.store().queue_len(&id).map_or(0, |kept| kept.0);
            rows.push(json!({
                "clientid": &*id,
                "listener": &*listener.name,
                "state": word(client.state),
                "peer": client.peer.to_string(),
                "asleep_since": facts
                    .map(|facts| facts.disconnected_at)
                    .filter(|at| at.0 > 0)
                    .map(nightjar_broker::Timestamp::to_rfc3339),
                "buffered": queue.map_or(0, |queue| queue.len).max(kept),
                "buffer_max": queue.map(|queue| queue.max_len),
            }));
        }
    }
    rows
}

/// Topic ids that are known without REGISTER.
fn topics(node: &Node) -> Vec<Value> {
    let loaded = node.loaded.lock();
    let mut rows = Vec::new();
    for (name, listener) in loaded.config.listeners.datagrams() {
        for entry in &listener.predefined {
            rows.push(json!({
                "listener": format!("mqttsn:{name}"),
                "clientid": entry.clients,
                "id": entry.id,
                "topic": entry.topic,
                "kind": "predefined",
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
