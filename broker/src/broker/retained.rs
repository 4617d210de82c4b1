//! The broker's retained messages: `$SYS` in memory, all others in the store, within `[retained]`.

use nightjar_mqtt::TopicName;

use super::Broker;
use crate::message::{Message, MessageHead};
use crate::shard::RetainedEntry;
use crate::store::RetainedCursor;
use crate::ticket::Ticket;
use crate::time::Timestamp;

impl Broker {
    /// The entry that keeps a message, for the store; one of `$SYS` is kept here, at once.
    pub(crate) fn keep_retained(&self, message: &Message) -> Option<RetainedEntry> {
        let entry = RetainedEntry::Set(self.as_retained(message));
        if message.topic().starts_with("$SYS/") {
            self.sys.lock().apply(entry);
            return None;
        }
        Some(entry)
    }

    /// Forgets the retained message of a topic; the ticket is done when that is committed.
    pub fn forget_retained(&self, topic: &TopicName) -> Ticket {
        let entry = RetainedEntry::Remove(topic.clone());
        if topic.starts_with("$SYS/") {
            self.sys.lock().apply(entry);
            return Ticket::DONE;
        }
        self.store.retain(entry)
    }

    /// Reads the retained messages that a filter matches, `$SYS` messages of this node among them.
    pub fn read_retained(&self, filter: &str, now: Timestamp, each: &mut dyn FnMut(&Message)) {
        self.store.read_retained(filter, now, each);
        if filter.starts_with("$SYS/") {
            self.sys.lock().read(filter, now, each);
        }
    }

    /// Reads on in what [`Self::read_retained`] reads, looking at about `budget` topics; true if that was all.
    pub(crate) fn read_retained_part(
        &self,
        filter: &str,
        cursor: &mut RetainedCursor,
        budget: usize,
        now: Timestamp,
        each: &mut dyn FnMut(&Message),
    ) -> bool {
        let over = self
            .store
            .read_retained_part(filter, cursor, budget, now, each);
        if over && filter.starts_with("$SYS/") {
            self.sys.lock().read(filter, now, each);
        }
        over
    }

    /// Do the limits of the retained store admit this message?
    pub(crate) fn may_retain(&self, message: &Message) -> bool {
        let settings = self.retained.load();
        if message.payload().is_empty() {
            return true;
        }
        if settings
            .max_payload
            .is_some_and(|max| message.payload().len() > max)
        {
            return false;
        }
        settings.max_messages.is_none_or(|max| {
            let mut known = false;
            self.store.retained_size().0 < max || {
                self.store
                    .read_retained(message.topic(), message.head().received_at, &mut |_| {
                        known = true
                    });
                known
            }
        })
    }

    /// The message as it is retained: its life capped by the setting.
    pub(crate) fn as_retained(&self, message: &Message) -> Message {
        let Some(cap) = self.retained.load().expiry else {
            return message.clone();
        };
        let cap = message.head().received_at.plus_secs(u64::from(cap));
        if message.head().expires_at.is_some_and(|at| at <= cap) {
            return message.clone();
        }
        let head = MessageHead {
            expires_at: Some(cap),
            ..message.head().clone()
        };
        Message::new(head, message.payload())
    }
}
