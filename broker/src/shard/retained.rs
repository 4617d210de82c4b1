//! A shard of retained messages: ordered by topic name, so that a filter reads only what it can match.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Bound;

use nightjar_mqtt::TopicName;

use crate::message::Message;
use crate::time::Timestamp;

/// An entry of a retained shard.
#[derive(Debug, Clone, PartialEq)]
pub enum RetainedEntry {
    /// A PUBLISH with Retain 1: replaces what the topic had; an empty payload removes it [MQTT-3.3.1-5, -6].
    Set(Message),
    /// Removes a topic's message (an operator, a limit).
    Remove(TopicName),
    /// Time passed: expired messages go.
    Tick {
        /// Time of the leader.
        now: Timestamp,
    },
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
            RetainedEntry::Set(message) => {
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
        let mut live = |message: &Message| {
            if !message.is_expired(now) {
                each(message);
            }
        };
        self.search(&mut String::new(), filter, &mut live);
    }

    /// `prefix` is empty or ends in `/`; `filter` is what is left of the filter behind it.
    fn search(&self, prefix: &mut String, filter: &str, each: &mut dyn FnMut(&Message)) {
        let keep = prefix.len();
        let mut filter = filter;
        // Literal levels only lengthen the prefix.
        loop {
            let (level, rest) = match filter.split_once('/') {
                Some((level, rest)) => (level, Some(rest)),
                None => (filter, None),
            };
            match (level, rest) {
                ("#", _) => {
                    self.subtree(prefix, each);
                    break;
                }
                ("+", rest) => {
                    self.plus(prefix, rest, each);
                    break;
                }
                (level, None) => {
                    prefix.push_str(level);
                    if let Some(message) = self.topics.get(prefix.as_str()) {
                        each(message);
                    }
                    break;
                }
                (level, Some(rest)) => {
                    prefix.push_str(level);
                    if rest == "#"
                        && let Some(message) = self.topics.get(prefix.as_str())
                    {
                        each(message);
                    }
                    prefix.push('/');
                    filter = rest;
                }
            }
        }
        prefix.truncate(keep);
    }

    /// Everything below `prefix`; at the root without `$` topics [MQTT-4.7.2-1].
    fn subtree(&self, prefix: &str, each: &mut dyn FnMut(&Message)) {
        let range = self
            .topics
            .range::<str, _>((Bound::Included(prefix), Bound::Unbounded));
        for (topic, message) in range.take_while(|(topic, _)| topic.starts_with(prefix)) {
            if !(prefix.is_empty() && topic.starts_with('$')) {
                each(message);
            }
        }
    }

    /// Every value of the level behind `prefix`, found by seeking from one to the next.
    fn plus(&self, prefix: &mut String, rest: Option<&str>, each: &mut dyn FnMut(&Message)) {
        let keep = prefix.len();
        let mut from = prefix.clone();
        while let Some((topic, message)) = self
            .topics
            .range::<str, _>((Bound::Included(from.as_str()), Bound::Unbounded))
            .next()
        {
            if !topic.starts_with(prefix.as_str()) {
                break;
            }
            let tail = &topic[keep..];
            let hidden = keep == 0 && tail.starts_with('$');
            from.clear();
            match tail.find('/') {
                None => {
                    if !hidden && matches!(rest, None | Some("#")) {
                        each(message);
                    }
                    from.push_str(topic);
                    from.push('\0');
                }
                Some(at) => {
                    if !hidden && let Some(rest) = rest {
                        let level = &topic[..=keep + at];
                        prefix.push_str(&level[keep..]);
                        self.search(prefix, rest, each);
                        prefix.truncate(keep);
                    }
                    // Behind everything that begins with this level and its '/': '0' follows '/'.
                    from.push_str(&topic[..keep + at]);
                    from.push('0');
                }
            }
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
                prop_assert_eq!(found, expected, "filter {}", filter);
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
