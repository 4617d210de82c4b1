//! One message on its way to one session.

use std::sync::Arc;

use nightjar_mqtt::QoS;

use crate::message::Message;
use crate::router::Group;

/// One message on its way to one session: kept at 32 bytes, because queues hold many.
#[derive(Debug, Clone)]
pub struct Delivery {
    /// The message.
    pub message: Message,
    /// Rarely needed parts.
    pub extra: Option<Box<DeliveryExtra>>,
    /// Subscription Identifier; 0: none. More of them are in `extra`.
    pub sub_id: u32,
    /// Order among both queues of the outbox.
    pub(crate) stamp: u32,
    /// QoS of this delivery: the lower of the publish and the granted one.
    pub qos: QoS,
    /// Retain flag of this delivery.
    pub retain: bool,
    /// To be checked against deny rules that overlap the filter.
    pub checked: bool,
}

/// The rarely needed parts of a [`Delivery`].
#[derive(Debug, Clone, Default)]
pub struct DeliveryExtra {
    /// Further Subscription Identifiers [MQTT-3.3.4-4].
    pub more_ids: Vec<u32>,
    /// Delivery of a durable session: its place in the shard's queue.
    pub durable: Option<DurableSlot>,
    /// Came through this shared subscription: goes to another member if this one's session ends.
    pub group: Option<Arc<Group>>,
}

/// The place of a delivery in a durable session's queue.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DurableSlot {
    /// Delivery sequence of the session, from 0; the packet id is 1 + (sequence mod 65,535).
    pub seq: u64,
    /// Sent before, perhaps: DUP is set [MQTT-3.3.1-1].
    pub dup: bool,
}

impl Delivery {
    /// A delivery with nothing rare about it.
    #[must_use]
    pub const fn new(message: Message, qos: QoS, retain: bool, sub_id: u32) -> Self {
        Self {
            message,
            extra: None,
            sub_id,
            stamp: 0,
            qos,
            retain,
            checked: false,
        }
    }

    /// All Subscription Identifiers.
    pub fn subscription_ids(&self) -> impl Iterator<Item = u32> + '_ {
        let more = self.extra.as_ref().map_or(&[][..], |extra| &extra.more_ids);
        (self.sub_id != 0)
            .then_some(self.sub_id)
            .into_iter()
            .chain(more.iter().copied())
    }

    /// The place in the durable queue, if it came from there.
    #[must_use]
    pub fn durable(&self) -> Option<DurableSlot> {
        self.extra.as_ref().and_then(|extra| extra.durable)
    }

    /// The shared subscription it came through.
    #[must_use]
    pub fn group(&self) -> Option<&Arc<Group>> {
        self.extra.as_ref().and_then(|extra| extra.group.as_ref())
    }

    /// The rare parts, made if missing.
    pub fn extra_mut(&mut self) -> &mut DeliveryExtra {
        self.extra.get_or_insert_default()
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn a_delivery_stays_small() {
        assert!(size_of::<super::Delivery>() <= 32);
    }
}
