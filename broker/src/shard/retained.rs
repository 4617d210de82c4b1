//! A shard of retained messages: ordered by topic name, so that a filter reads only what it can match.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Bound;
use std::sync::Arc;

use nightjar_mqtt::TopicName;

use super::codec::{CodecError, Decoder, Encoder};
use crate::message::Message;
use crate::time::Timestamp;

/// An entry of a retained shard.
#[derive(Debug, Clone, PartialEq)]
pub enum RetainedEntry {
    /// A PUBLISH with Retain 1: replaces what the topic had; an empty payload removes it [MQTT-3.3.1-5, -6].
    Set(Message),
    /// As [`Self::Set`], by a connection of this client: refused if it was taken over before, because what the client
    /// published since would be replaced by something older.
    SetBy {
        /// Client identifier.
        client_id: Arc<str>,
        /// Epoch of the connection.
        epoch: u64,
        /// The message.
        message: Message,
    },
    /// As [`Self::Set`], for a will that a session shard owes: changes nothing if something else was retained for the topic
    /// since that will was due, or removed, or if the duty is done.
    SetDue {
        /// The session shard.
        shard: u16,
        /// Number of its duty.
        duty: u64,
        /// The will.
        message: Message,
    },
    /// Removes a topic's message (an operator, a limit).
    Remove(TopicName),
    /// Time passed: expired messages go.
    Tick {
        /// Time of the leader.
        now: Timestamp,
    },
}

impl RetainedEntry {
    /// The topic that it is about; `None`: about all.
    #[must_use]
    pub fn topic(&self) -> Option<&TopicName> {
        match self {
            Self::Set(message) | Self::SetBy { message, .. } | Self::SetDue { message, .. } => {
                Some(message.topic())
            }
            Self::Remove(topic) => Some(topic),
            Self::Tick { .. } => None,
        }
    }

    /// Appends the encoding, without a version byte of its own.
    pub fn encode(&self, out: &mut Vec<u8>) {
        let mut out = Encoder(out);
        match self {
            Self::Set(message) => {
                out.u8(1);
                out.message(message);
            }
            Self::SetBy {
                client_id,
                epoch,
                message,
            } => {
                out.u8(4);
                out.text(client_id);
                out.u64(*epoch);
                out.message(message);
            }
            Self::SetDue {
                shard,
                duty,
                message,
            } => {
                out.u8(5);
                out.u64(u64::from(*shard));
                out.u64(*duty);
                out.message(message);
            }
            Self::Remove(topic) => {
                out.u8(2);
                out.text(topic);
            }
            Self::Tick { now } => {
                out.u8(3);
                out.time(*now);
            }
        }
    }

    /// Reads one entry.
    ///
    /// # Errors
    /// [`CodecError`].
    pub fn decode(from: &mut Decoder<'_>) -> Result<Self, CodecError> {
        Ok(match from.u8("entry")? {
            1 => Self::Set(from.message()?),
            2 => Self::Remove(from.topic()?),
            3 => Self::Tick {
                now: from.time("time")?,
            },
            4 => Self::SetBy {
                client_id: from.client_id()?,
                epoch: from.u64("epoch")?,
                message: from.message()?,
            },
            5 => Self::SetDue {
                shard: from.number("shard")?,
                duty: from.u64("duty")?,
                message: from.message()?,
            },
            _ => return Err(CodecError::Invalid("kind of entry")),
        })
    }
}

/// The state machine of one retained shard.
#[derive(Debug, Default)]
pub struct RetainedShard {
    topics: BTreeMap<TopicName, Message>,
    expiry: BTreeSet<(Timestamp, TopicName)>,
    bytes: usize,
}

impl RetainedShard {
    /// Applies one entry.
    pub fn apply(&mut self, entry: RetainedEntry) {
        match entry {
            // Whether it is late the store finds out, which knows the sessions.
            RetainedEntry::Set(message)
            | RetainedEntry::SetBy { message, .. }
            | RetainedEntry::SetDue { message, .. } => {
                self.remove(message.topic());
                if message.payload().is_empty() {
                    return;
                }
                if let Some(at) = message.head().expires_at {
                    self.expiry.insert((at, message.topic().clone()));
                }
                self.bytes += message.cost();
                self.topics.insert(message.topic().clone(), message);
            }
            RetainedEntry::Remove(topic) => self.remove(&topic),
            RetainedEntry::Tick { now } => {
                while let Some((at, topic)) = self.expiry.first().cloned() {
                    if at > now {
                        break;
                    }
                    self.remove(&topic);
                }
            }
        }
    }

    fn remove(&mut self, topic: &TopicName) {
        if let Some(old) = self.topics.remove(topic) {
            self.bytes = self.bytes.saturating_sub(old.cost());
            if let Some(at) = old.head().expires_at {
                self.expiry.remove(&(at, topic.clone()));
            }
        }
    }

    /// All messages, in the order of their topics.
    pub fn messages(&self) -> impl Iterator<Item = &Message> {
        self.topics.values()
    }

    /// Is something expired at `now`?
    #[must_use]
    pub fn is_due(&self, now: Timestamp) -> bool {
        self.expiry.first().is_some_and(|(at, _)| *at <= now)
    }

    /// Number of messages.
    #[must_use]
    pub fn len(&self) -> usize {
        self.topics.len()
    }

    /// True if there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.topics.is_empty()
    }

    /// Bytes of all messages, as [`Message::cost`] counts them.
    #[must_use]
    pub const fn bytes(&self) -> usize {
        self.bytes
    }

    /// The retained message of a topic, if it has not expired.
    #[must_use]
    pub fn get(&self, topic: &str, now: Timestamp) -> Option<&Message> {
        self.topics
            .get(topic)
            .filter(|message| !message.is_expired(now))
    }

    /// Calls `each` with every live message whose topic the filter matches, in the order of topics.
    pub fn read(&self, filter: &str, now: Timestamp, each: &mut dyn FnMut(&Message)) {
        let mut budget = usize::MAX;
        self.read_part(filter, &mut String::new(), &mut budget, now, each);
    }

    /// As [`Self::read`], but only from topic `from` on and until `budget` topics were looked at, whether they matched
    /// or not; `from` is where to go on. True if there is nothing more.
    pub fn read_part(
        &self,
        filter: &str,
        from: &mut String,
        budget: &mut usize,
        now: Timestamp,
        each: &mut dyn FnMut(&Message),
    ) -> bool {
        let behind = |from: &str| {
            self.topics
                .range::<str, _>((Bound::Included(from), Bound::Unbounded))
        };
        let mut range = behind(from);
        let mut last: Option<&TopicName> = None;
        while *budget > 0 {
            let Some((topic, message)) = range.next() else {
                return true;
            };
            *budget -= 1;
            last = Some(topic);
            match look(filter, topic, from) {
                Look::Matches => {
                    if !message.is_expired(now) {
                        each(message);
                    }
                }
                Look::Next => {}
                Look::Seek => {
                    range = behind(from);
                    last = None;
                }
                Look::Over => return true,
            }
        }
        if let Some(topic) = last {
            from.clear();
            from.push_str(topic);
            from.push('\0'); // In no topic: the least that lies behind this one.
        }
        false
    }
}

/// What a topic means for a filter, when topics are met in order.
enum Look {
    Matches,
    /// The next topic may match.
    Next,
    /// No topic before the one that was written to `to` matches.
    Seek,
    /// No later topic matches.
    Over,
}

/// Compares level by level. Topics are ordered by their bytes: below `a` lies what begins with `a/`, and behind all of
/// that `a0`, because `0` follows `/`.
fn look(filter: &str, topic: &str, to: &mut String) -> Look {
    let mut seek = |parts: [&str; 2]| {
        to.clear();
        parts.iter().for_each(|part| to.push_str(part));
        Look::Seek
    };
    let (mut filter, mut at) = (filter, 0);
    // Where the last level ends that a `+` stands for: the next one has another level there.
    let mut plus = None;
    loop {
        let (level, rest) = match filter.split_once('/') {
            Some((level, rest)) => (level, Some(rest)),
            None => (filter, None),
        };
        let tail = &topic[at..];
        if at == 0 && matches!(level, "#" | "+") && topic.starts_with('$') {
            return seek(["%", ""]); // Behind every `$` topic, which a wildcard does not match [MQTT-4.7.2-1].
        }
        if level == "#" {
            return Look::Matches;
        }
        if level == "+" {
            match (tail.find('/'), rest) {
                (None, None | Some("#")) => return Look::Matches,
                (None, Some(_)) => return Look::Next,
                (Some(end), None) => return seek([&topic[..at + end], "0"]),
                (Some(end), Some(rest)) => {
                    plus = Some(at + end);
                    at += end + 1;
                    filter = rest;
                    continue;
                }
            }
        }
        let behind_plus = |seek: &mut dyn FnMut([&str; 2]) -> Look| match plus {
            Some(end) => seek([&topic[..end], "0"]),
            None => Look::Over,
        };
        let Some(more) = tail.strip_prefix(level) else {
            if tail < level {
                return seek([&topic[..at], level]);
            }
            return behind_plus(&mut seek);
        };
        match (more.as_bytes().first(), rest) {
            (None, None | Some("#")) => return Look::Matches,
            (Some(b'/'), Some(rest)) => {
                at += level.len() + 1;
                filter = rest;
            }
            (first, Some(_)) if first.is_none_or(|first| *first < b'/') => {
                return seek([&topic[..at + level.len()], "/"]);
            }
            _ => return behind_plus(&mut seek),
        }
    }
}

#[cfg(test)]
mod tests {
    use nightjar_mqtt::QoS;
    use proptest::prelude::*;

    use super::*;
    use crate::message::MessageHead;

    fn message(topic: &str, expires_at: Option<Timestamp>) -> Message {
        let head = MessageHead {
            topic: TopicName::new(topic).unwrap(),
            qos: QoS::AtMostOnce,
            retain: true,
            publisher: None,
            received_at: Timestamp(0),
            expires_at,
            properties: None,
        };
        Message::new(head, b"x")
    }

    fn read(shard: &RetainedShard, filter: &str) -> Vec<String> {
        let mut found = Vec::new();
        shard.read(filter, Timestamp(5), &mut |message| {
            found.push(message.topic().to_string())
        });
        found
    }

    proptest! {
        #[test]
        fn a_read_finds_what_the_naive_matcher_finds(
            topics in prop::collection::btree_set("[ab$!]?(/[ab0!]{0,2}){0,3}", 0..40),
            filters in prop::collection::vec("([ab$!]|\\+|)(/([ab0!]{0,2}|\\+)){0,3}(/#)?", 1..20),
        ) {
            let mut shard = RetainedShard::default();
            let topics: Vec<&String> = topics.iter().filter(|topic| !topic.is_empty()).collect();
            for topic in &topics {
                shard.apply(RetainedEntry::Set(message(topic, None)));
            }
            for filter in filters.iter().map(String::as_str).chain(["#", "+", "+/#", "+/+"]) {
                if nightjar_mqtt::topic::validate_topic_filter(filter).is_err() { continue; }
                let expected: Vec<String> = topics
                    .iter()
                    .filter(|topic| nightjar_mqtt::topic::matches(filter, topic))
                    .map(|topic| (*topic).clone())
                    .collect();
                let mut found = read(&shard, filter);
                found.sort();
                prop_assert_eq!(&found, &expected, "filter {}", filter);
                // In portions of any size, even one topic at a time: the same, in the same order.
                for portion in [1, 2, 7] {
                    let (mut parts, mut from) = (Vec::new(), String::new());
                    loop {
                        let mut budget = portion;
                        let before = from.clone();
                        let over = shard.read_part(filter, &mut from, &mut budget, Timestamp(5), &mut |message| {
                            parts.push(message.topic().to_string());
                        });
                        if over { break; }
                        prop_assert_eq!(budget, 0, "filter {}", filter);
                        prop_assert!(from > before, "filter {}: {:?} then {:?}", filter, before, from);
                    }
                    prop_assert_eq!(&parts, &expected, "filter {} by {}", filter, portion);
                }
            }
        }
    }

    #[test]
    fn expired_messages_are_not_read_and_go_at_the_tick() {
        let mut shard = RetainedShard::default();
        shard.apply(RetainedEntry::Set(message("a", Some(Timestamp(5)))));
        shard.apply(RetainedEntry::Set(message("b", Some(Timestamp(6)))));
        assert_eq!(read(&shard, "#"), ["b"]);
        assert_eq!(shard.len(), 2);
        shard.apply(RetainedEntry::Tick { now: Timestamp(5) });
        assert_eq!(shard.len(), 1);
        shard.apply(RetainedEntry::Remove(TopicName::new("b").unwrap()));
        assert!(shard.is_empty() && shard.bytes() == 0 && shard.expiry.is_empty());
    }
}
