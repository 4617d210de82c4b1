//! Late copies of QoS 2 messages, which the session knows no more.

use nightjar_broker::Timestamp;
use nightjar_mqttsn::Publish;

/// QoS 2 messages that were taken last: a copy that comes after its PUBREL, because the network reorders, is no new message.
/// A client may use the MsgId again at once, so only the same data counts, and without DUP only for a moment.
#[derive(Debug, Default)]
pub(super) struct Taken {
    last: [(u16, u64, Option<Timestamp>); 4],
    next: usize,
}

impl Taken {
    /// One more is taken.
    pub fn put(&mut self, msg_id: u16, hash: u64) {
        if self.last.contains(&(msg_id, hash, None)) {
            return;
        }
        self.last[self.next % self.last.len()] = (msg_id, hash, None);
        self.next = self.next.wrapping_add(1);
    }

    /// Its PUBREL came.
    pub fn release(&mut self, msg_id: u16, now: Timestamp) {
        for (taken, _, released) in &mut self.last {
            if *taken == msg_id {
                released.get_or_insert(now);
            }
        }
    }

    /// Is this a copy that comes after its PUBREL?
    pub fn is_late_copy(&self, publish: &Publish<'_>, hash: u64, now: Timestamp) -> bool {
        let age = if publish.dup { 10_000 } else { 2_000 };
        self.last.iter().any(|(taken, data, released)| {
            (*taken, *data) == (publish.msg_id, hash)
                && released.is_some_and(|at| now < at.plus_millis(age))
        })
    }
}
