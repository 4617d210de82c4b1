//! `/metrics` in Prometheus' text format, and the same counters as JSON.
//!
//! Labels are of sets that are fixed or configured (packet types, reasons, listeners), never of what clients choose: the
//! cost of a scrape does not grow with clients.

mod emqx;
mod text;

pub use text::render;

use nightjar_broker::{Broker, Counter, Direction};
use nightjar_mqtt::PacketType;

/// Deliveries dropped, all reasons, and messages that nobody wanted.
pub fn dropped(broker: &Broker) -> u64 {
    let deliveries = nightjar_broker::DropReason::ALL
        .into_iter()
        .map(|reason| broker.metrics().get(reason.counter()))
        .sum::<u64>();
    deliveries + broker.metrics().get(Counter::MessagesUnmatched)
}

/// Do packets of this type go this way?
pub const fn goes(direction: Direction, packet: PacketType) -> bool {
    use PacketType::{
        Connack, Connect, Pingreq, Pingresp, Suback, Subscribe, Unsuback, Unsubscribe,
    };
    match direction {
        Direction::Received => !matches!(packet, Connack | Suback | Unsuback | Pingresp),
        Direction::Sent => !matches!(packet, Connect | Subscribe | Unsubscribe | Pingreq),
    }
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
