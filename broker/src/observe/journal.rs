//! The timeline of clients: what happened to each, kept in rings that all clients share.

use std::cell::Cell;
use std::fmt::{self, Write as _};
use std::sync::Arc;

use super::ring::{Heap, Part, Rings};
use crate::time::Timestamp;

/// Events kept for all clients together.
const KEPT: usize = 8192;
/// Bytes of their texts and client identifiers.
const TEXTS: usize = 5 << 18;
/// Bytes of an entry's text; longer ones are cut.
const TEXT_MAX: usize = 200;

/// Room that a thread's buffer of texts keeps.
const TEXT_KEPT: usize = 1024;

thread_local! {
    static TEXT: Cell<String> = const { Cell::new(String::new()) };
}

/// What happened.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Event {
    /// CONNECT was accepted.
    Connected,
    /// The connection ended.
    Disconnected,
    /// CONNECT was refused.
    Refused,
    /// Another connection took the client identifier.
    TakenOver,
    /// An operator asked the connection to leave.
    Kicked,
    /// A topic filter was granted.
    Subscribed,
    /// A topic filter was given up.
    Unsubscribed,
    /// A publish or a topic filter was not authorized.
    Denied,
    /// The session ended.
    SessionEnded,
}

impl Event {
    /// The event as lists name it.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Connected => "connected",
            Self::Disconnected => "disconnected",
            Self::Refused => "refused",
            Self::TakenOver => "taken_over",
            Self::Kicked => "kicked",
            Self::Subscribed => "subscribed",
            Self::Unsubscribed => "unsubscribed",
            Self::Denied => "denied",
            Self::SessionEnded => "session_ended",
        }
    }
}

/// One event of one client.
#[derive(Debug, Clone)]
pub struct JournalEntry {
    /// When.
    pub at: Timestamp,
    /// To whom.
    pub client_id: Arc<str>,
    /// What.
    pub event: Event,
    /// The particulars, for people.
    pub text: Box<str>,
    /// How often in a row; `at` is the last time.
    pub count: u32,
}

impl Heap for JournalEntry {
    fn heap(&self) -> usize {
        // Two counts stand before a shared text.
        self.client_id.len() + 16 + self.text.len()
    }
}

/// The last events of all clients, in about 1.6 MiB when full.
#[derive(Debug)]
pub struct Journal {
    rings: Rings<JournalEntry>,
}

impl Default for Journal {
    fn default() -> Self {
        Self {
            rings: Rings::new(KEPT, TEXTS),
        }
    }
}

impl Journal {
    /// Notes an event. The same event in a row is counted, so that one client that does the same again and again
    /// pushes nothing of others out.
    pub fn record(&self, client_id: &str, event: Event, text: impl fmt::Display, now: Timestamp) {
        // One buffer for all texts of a thread: a text of many parts would grow one of its own step by step.
        let mut buffer = TEXT.take();
        buffer.clear();
        // Writing to a String does not fail; a text that refuses to be written stays as short as it got.
        let _ = write!(buffer, "{text}");
        self.keep(client_id, event, &mut buffer, now);
        if buffer.capacity() <= TEXT_KEPT {
            TEXT.set(buffer);
        }
    }

    fn keep(&self, client_id: &str, event: Event, text: &mut String, now: Timestamp) {
        if text.len() > TEXT_MAX {
            let end = (0..=TEXT_MAX)
                .rev()
                .find(|at| text.is_char_boundary(*at))
                .unwrap_or(0);
            text.truncate(end);
        }
        self.rings.with(client_id, |ring| {
            let last = last_of(ring, client_id);
            let client_id = match last {
                Some(last) if last.event == event && *last.text == *text => {
                    last.count = last.count.saturating_add(1);
                    last.at = now;
                    return;
                }
                Some(last) => last.client_id.clone(),
                None => client_id.into(),
            };
            ring.push(JournalEntry {
                at: now,
                client_id,
                event,
                text: text.as_str().into(),
                count: 1,
            });
        });
    }

    /// The last events of a client, newest first.
    #[must_use]
    pub fn of(&self, client_id: &str, limit: usize) -> Vec<JournalEntry> {
        self.rings.with(client_id, |ring| {
            ring.iter()
                .rev()
                .filter(|entry| *entry.client_id == *client_id)
                .take(limit)
                .cloned()
                .collect()
        })
    }

    /// The connects and disconnects of all clients since a time, for lists that follow them; at most `limit`.
    #[must_use]
    pub fn since(&self, from: Timestamp, limit: usize) -> Vec<JournalEntry> {
        let mut found = Vec::new();
        self.rings.each(|ring| {
            let news = ring
                .iter()
                .rev()
                .take_while(|entry| entry.at >= from)
                .filter(|entry| matches!(entry.event, Event::Connected | Event::Disconnected));
            found.extend(news.take(limit).cloned());
        });
        found.sort_by_key(|entry| entry.at);
        found.truncate(limit);
        found
    }
}

/// The client's own last entry, looked for among the last few only.
fn last_of<'r>(ring: &'r mut Part<JournalEntry>, client_id: &str) -> Option<&'r mut JournalEntry> {
    ring.iter_mut()
        .rev()
        .take(16)
        .find(|entry| *entry.client_id == *client_id)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_client_that_repeats_itself_pushes_nobody_out() {
        let journal = Journal::default();
        journal.record("quiet", Event::Connected, "once", Timestamp(1));
        for n in 0..100_000_u64 {
            journal.record("noisy", Event::Denied, "publish to a", Timestamp(n));
        }
        assert_eq!(journal.of("quiet", 10).len(), 1);
        let noisy = journal.of("noisy", 10);
        assert_eq!((noisy.len(), noisy[0].count), (1, 100_000));
        assert_eq!(noisy[0].at, Timestamp(99_999));
    }

    #[test]
    fn events_are_kept_in_bounds_newest_first() {
        let journal = Journal::default();
        for n in 0..3 * KEPT as u64 {
            journal.record("one", Event::Connected, n, Timestamp(n));
        }
        let all = journal.of("one", usize::MAX);
        assert!(all.len() <= KEPT);
        assert_eq!(*all[0].text, *(3 * KEPT as u64 - 1).to_string());
        assert!(journal.rings.bytes() < 2 << 20);
        journal.record("one", Event::Refused, "ä".repeat(200), Timestamp(0));
        assert!(journal.of("one", 1)[0].text.len() <= TEXT_MAX);
    }

    #[test]
    fn long_client_identifiers_take_no_more_memory_than_short_ones() {
        let journal = Journal::default();
        for n in 0..1000 {
            let id = format!("{n:0>65535}");
            journal.record(&id, Event::Connected, "x".repeat(TEXT_MAX), Timestamp(n));
            assert!(!journal.of(&id, 1).is_empty());
        }
        let bytes = journal.rings.bytes();
        assert!((900_000..2 << 20).contains(&bytes), "{bytes}");
    }
}
