//! One message in a durable queue: 32 bytes, whether its body is in memory or on the disk.

use nightjar_mqtt::{QoS, TopicFilter};
use smallvec::SmallVec;

use crate::message::Message;

/// Where a body lies that is not in memory: a file of bodies and the offset in it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Place {
    /// Number of the file.
    pub file: u32,
    /// Offset in bytes.
    pub offset: u32,
}

/// What is left of a queued message, and where.
#[derive(Debug, Clone, PartialEq)]
pub enum Body {
    /// Nothing: after PUBREC only PUBREL is owed.
    Gone,
    /// In memory.
    Memory(Message),
    /// On the disk. State machines never read it: they only need what it counts.
    Disk {
        /// Where.
        place: Place,
        /// What [`Message::cost`] said.
        cost: u32,
    },
}

/// What few deliveries have.
#[derive(Debug, Clone, PartialEq, Default)]
struct Extra {
    sub_ids: SmallVec<[u32; 2]>,
    group: Option<(Box<str>, TopicFilter)>,
}

/// One message in a durable queue.
#[derive(Debug, Clone, PartialEq)]
pub struct Queued {
    /// Delivery sequence in the upper 56 bits, flags in the lower 8.
    word: u64,
    body: Body,
    extra: Option<Box<Extra>>,
}

const RETAIN: u64 = 4;
const CHECKED: u64 = 8;
const FLAGS: u32 = 8;

impl Queued {
    /// A delivery of this message; its sequence is given when it is queued.
    #[must_use]
    pub fn new(body: Body, qos: QoS) -> Self {
        Self {
            word: qos as u64,
            body,
            extra: None,
        }
    }

    /// With the retain flag of the delivery.
    #[must_use]
    pub const fn with_retain(mut self, retain: bool) -> Self {
        self.word |= if retain { RETAIN } else { 0 };
        self
    }

    /// To be checked against deny rules.
    #[must_use]
    pub const fn with_checked(mut self, checked: bool) -> Self {
        self.word |= if checked { CHECKED } else { 0 };
        self
    }

    /// With the Subscription Identifiers.
    #[must_use]
    pub fn with_sub_ids(mut self, ids: SmallVec<[u32; 2]>) -> Self {
        if !ids.is_empty() {
            self.extra.get_or_insert_default().sub_ids = ids;
        }
        self
    }

    /// With the shared subscription it came through.
    #[must_use]
    pub fn with_group(mut self, group: Option<(Box<str>, TopicFilter)>) -> Self {
        if group.is_some() {
            self.extra.get_or_insert_default().group = group;
        }
        self
    }

    pub(super) const fn set_seq(&mut self, seq: u64) {
        self.word = seq << FLAGS | self.word & ((1 << FLAGS) - 1);
    }

    /// Delivery sequence of the session.
    #[must_use]
    pub const fn seq(&self) -> u64 {
        self.word >> FLAGS
    }

    /// QoS of the delivery.
    #[must_use]
    pub const fn qos(&self) -> QoS {
        match self.word & 3 {
            0 => QoS::AtMostOnce,
            1 => QoS::AtLeastOnce,
            _ => QoS::ExactlyOnce,
        }
    }

    /// Retain flag of the delivery.
    #[must_use]
    pub const fn retain(&self) -> bool {
        self.word & RETAIN != 0
    }

    /// Check against deny rules?
    #[must_use]
    pub const fn checked(&self) -> bool {
        self.word & CHECKED != 0
    }

    /// Subscription Identifiers.
    #[must_use]
    pub fn sub_ids(&self) -> &[u32] {
        self.extra.as_ref().map_or(&[], |extra| &extra.sub_ids)
    }

    /// Shared subscription it came through.
    #[must_use]
    pub fn group(&self) -> Option<&(Box<str>, TopicFilter)> {
        self.extra.as_ref()?.group.as_ref()
    }

    /// Where the message is.
    #[must_use]
    pub const fn body(&self) -> &Body {
        &self.body
    }

    /// The message, if it is in memory.
    #[must_use]
    pub const fn message(&self) -> Option<&Message> {
        match &self.body {
            Body::Memory(message) => Some(message),
            _ => None,
        }
    }

    /// Is there still a message to deliver?
    #[must_use]
    pub const fn has_body(&self) -> bool {
        !matches!(self.body, Body::Gone)
    }

    /// What it counts against the limits of its queue.
    #[must_use]
    pub fn cost(&self) -> usize {
        match &self.body {
            Body::Gone => 0,
            Body::Memory(message) => message.cost(),
            Body::Disk { cost, .. } => *cost as usize,
        }
    }

    /// What of that lies in memory.
    #[must_use]
    pub fn held(&self) -> usize {
        self.message().map_or(0, Message::cost)
    }

    pub(super) fn set_body(&mut self, body: Body) -> Body {
        std::mem::replace(&mut self.body, body)
    }

    /// Is its body on the disk?
    #[must_use]
    pub const fn is_on_disk(&self) -> bool {
        matches!(self.body, Body::Disk { .. })
    }

    /// What a shared subscription gets back. The store reads what is on the disk before it hands an
    /// [`super::Effect::HandBack`] on.
    #[must_use]
    pub fn into_shared(self) -> Option<(Message, (Box<str>, TopicFilter))> {
        match (self.body, self.extra?.group) {
            (Body::Memory(message), Some(group)) => Some((message, group)),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_queued_message_is_32_bytes_and_keeps_what_it_is_given() {
        assert_eq!(size_of::<Queued>(), 32);
        let place = Place {
            file: 7,
            offset: u32::MAX,
        };
        let mut item = Queued::new(Body::Disk { place, cost: 99 }, QoS::ExactlyOnce)
            .with_retain(true)
            .with_sub_ids(SmallVec::from_slice(&[5, 6, 7]));
        item.set_seq((1 << 56) - 1);
        assert_eq!(item.seq(), (1 << 56) - 1);
        assert_eq!(item.qos(), QoS::ExactlyOnce);
        assert!(item.retain() && !item.checked() && item.has_body());
        assert_eq!((item.cost(), item.held()), (99, 0));
        assert_eq!(item.sub_ids(), [5, 6, 7]);
        item.set_body(Body::Gone);
        assert!(!item.has_body() && item.cost() == 0);
    }
}
