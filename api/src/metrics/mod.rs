//! `/metrics` in Prometheus' text format, and the same counters as JSON.
//!
//! Labels are of sets that are fixed or configured (packet types, reasons, listeners), never of what clients choose: the
//! cost of a scrape does not grow with clients.

mod emqx;
mod text;

pub use text::render;

use nightjar_broker::{Broker, Counter};

/// Deliveries dropped, all reasons, and messages that nobody wanted.
pub fn dropped(broker: &Broker) -> u64 {
    let deliveries = nightjar_broker::DropReason::ALL
        .into_iter()
        .map(|reason| broker.metrics().get(reason.counter()))
        .sum::<u64>();
    deliveries + broker.metrics().get(Counter::MessagesUnmatched)
}

/// Connections of clients that ended, all reasons.
pub fn disconnects(broker: &Broker) -> u64 {
    DISCONNECTS
        .iter()
        .map(|(_, counter)| broker.metrics().get(*counter))
        .sum()
}

/// Why connections ended.
pub const DISCONNECTS: [(&str, Counter); 6] = [
    ("normal", Counter::DisconnectsNormal),
    ("keep_alive", Counter::DisconnectsKeepAlive),
    ("protocol_error", Counter::DisconnectsProtocol),
    ("abrupt", Counter::DisconnectsAbrupt),
    ("taken_over", Counter::DisconnectsTakenOver),
    ("server", Counter::DisconnectsServer),
];
