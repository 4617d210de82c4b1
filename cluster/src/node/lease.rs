//! Leases as pure state machines: a node's own, and what the leader knows of all. Time is an argument, so that
//! `tests/models` can look into every order of events.
//!
//! What must hold: while a node takes its lease for good, no leader has committed its end. A node counts from when it
//! asked, a leader from when it heard, and waits [`MARGIN`] longer; so it holds as long as in the time of a lease the
//! clocks of two nodes differ by less than [`MARGIN`].

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use tokio::time::Instant;

/// A node's lease, counted from when it asked for it.
pub(crate) const LEASE: Duration = Duration::from_secs(5);
/// So much later the leader declares it over.
pub(crate) const MARGIN: Duration = Duration::from_millis(500);
/// So often a lease is renewed.
pub(crate) const RENEW: Duration = Duration::from_secs(1);
/// Questions about a lease that may wait for their answers at once: as many as are asked in the time of a lease.
pub(crate) const ASKING: usize = 6;

/// A node's own lease.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
pub(crate) struct Lease {
    /// To when it goes; `None`: there is none.
    pub until: Option<Instant>,
    /// Nonce of the incarnation that is asked for.
    pub nonce: u64,
    /// When that was asked for.
    pub asked: Option<Instant>,
    /// When it was asked to go on, and which leader was asked; `None`: it is to be asked at once.
    pub renewed: Option<(Instant, Option<u64>)>,
    /// Questions that have no answer yet.
    pub asking: usize,
}

impl Lease {
    /// Is it time to ask that the lease goes on? Another leader is asked at once; one that does not answer gets no more
    /// than [`ASKING`] questions.
    pub fn is_due(&self, now: Instant, leader: Option<u64>) -> bool {
        let due = match self.renewed {
            None => true,
            Some((at, whom)) => whom != leader || at + RENEW <= now,
        };
        due && self.asking < ASKING
    }

    /// The leader granted what was asked for at that time. Answers come in any order.
    pub fn granted(&mut self, asked: Instant) {
        self.until = self.until.max(Some(asked + LEASE));
    }

    /// There was a lease, and it is over.
    pub fn is_over(&self, now: Instant) -> bool {
        self.until.is_some_and(|until| until <= now)
    }

    /// May the node act for the cluster?
    pub fn holds(&self, now: Instant) -> bool {
        self.until.is_some_and(|until| until > now)
    }

    /// The incarnation is over, and its lease with it; the next one has another nonce.
    pub fn end(&mut self) {
        self.until = None;
        self.nonce = 0;
        self.renewed = None;
    }
}

/// What the leader knows of leases.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
pub(crate) struct Leases {
    /// Since when this node leads; `None`: it does not. What earlier leaders granted before, they alone know.
    since: Option<Instant>,
    /// In which term.
    term: u64,
    heard: BTreeMap<u64, Instant>,
    /// Nodes and incarnations whose end is decided: their lease does not go on.
    ending: BTreeSet<(u64, u64)>,
}

impl Leases {
    /// Follows who leads: `leads` now, `led` the last time it was looked. True if a term of this node begins.
    pub fn follow(&mut self, leads: bool, led: bool, term: u64, now: Instant) -> bool {
        let begins = leads && (!led || self.term != term);
        if begins || !leads {
            // Also between two terms of this node others may have led, and granted leases.
            *self = Self {
                since: leads.then_some(now),
                term,
                ..Self::default()
            };
        }
        begins
    }

    /// The term in which this node leads, as far as it knows.
    pub fn term(&self) -> Option<u64> {
        self.since.map(|_| self.term)
    }

    /// A node was heard of at this time. Questions are answered in any order: time does not go back here.
    pub fn note(&mut self, node: u64, received: Instant) {
        let heard = self.heard.entry(node).or_insert(received);
        *heard = (*heard).max(received);
    }

    /// When a node was heard of last, as far as it counts for this term; `None`: this node does not lead.
    pub fn heard(&self, node: u64) -> Option<Instant> {
        let since = self.since?;
        let heard = self.heard.get(&node);
        Some(heard.map_or(since, |heard| since.max(*heard)))
    }

    /// Lets the lease of an incarnation go on that asked at this time, if that may be: a majority confirmed since that
    /// this node leads, and `is_up` was read after that. `term` is [`Self::term`] of when the question came: in another one
    /// it is forgotten whose end was decided. `None`: this node does not lead, or anew.
    pub fn grant(
        &mut self,
        term: u64,
        (node, incarnation): (u64, u64),
        received: Instant,
        is_up: bool,
    ) -> Option<bool> {
        if self.term()? != term {
            return None;
        }
        let granted = is_up && !self.ends(node, incarnation);
        if granted {
            self.note(node, received);
        }
        Some(granted)
    }

    /// The lease of this incarnation does not go on from here. It is not put down by that: what it was granted lasts its time.
    pub fn refuse(&mut self, node: u64, incarnation: u64) {
        if self.since.is_some() {
            self.ending.insert((node, incarnation));
        }
    }

    /// Is it decided that the lease of this incarnation does not go on?
    pub fn ends(&self, node: u64, incarnation: u64) -> bool {
        self.ending.contains(&(node, incarnation))
    }

    /// Of the nodes that are up, with their incarnations, those whose lease is over. From here on it does not go on, whether
    /// their end is committed at once or late; it must be committed in the term [`Self::term`] says.
    pub fn silent(
        &mut self,
        now: Instant,
        up: impl Iterator<Item = (u64, u64)>,
    ) -> Vec<(u64, u64)> {
        let silent: Vec<_> = up
            .filter(|(node, _)| {
                self.heard(*node)
                    .is_some_and(|heard| now > heard + LEASE + MARGIN)
            })
            .collect();
        self.ending.extend(silent.iter().copied());
        silent
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn a_leader_that_is_silent_gets_few_questions_and_the_next_one_is_asked_at_once() {
        let now = Instant::now();
        let mut lease = Lease::default();
        assert!(lease.is_due(now, Some(1)));
        lease.renewed = Some((now, Some(1)));
        lease.asking = 1;
        assert!(!lease.is_due(now, Some(1)), "asked just now");
        assert!(lease.is_due(now, Some(2)), "another one leads");
        assert!(lease.is_due(now + RENEW, Some(1)));
        lease.asking = ASKING;
        assert!(!lease.is_due(now + RENEW * 10, Some(1)), "enough are asked");
    }

    #[test]
    fn a_late_answer_to_an_early_question_does_not_make_a_node_silent_earlier() {
        let begin = Instant::now();
        let mut leases = Leases::default();
        assert!(leases.follow(true, false, 1, begin));
        assert_eq!(
            leases.grant(1, (2, 1), begin + SECOND * 2, true),
            Some(true)
        );
        assert_eq!(leases.grant(1, (2, 1), begin + SECOND, true), Some(true));
        let up = || [(2, 1)].into_iter();
        let end = begin + SECOND * 2 + LEASE + MARGIN;
        assert_eq!(leases.silent(end, up()), []);
        assert_eq!(leases.silent(end + SECOND, up()), [(2, 1)]);
        let late = leases.grant(1, (2, 1), end + SECOND, true);
        assert_eq!(late, Some(false), "its end is decided");
    }

    #[test]
    fn a_new_term_of_the_same_leader_begins_anew() {
        let begin = Instant::now();
        let mut leases = Leases::default();
        leases.follow(true, false, 1, begin);
        leases.note(2, begin);
        assert_eq!(
            leases.silent(begin + SECOND * 9, [(2, 1)].into_iter()),
            [(2, 1)]
        );
        let later = begin + SECOND * 10;
        assert!(leases.follow(true, true, 3, later));
        assert_eq!(leases.term(), Some(3));
        assert_eq!(leases.silent(later + SECOND, [(2, 1)].into_iter()), []);
        assert_eq!(
            leases.grant(1, (2, 1), later, true),
            None,
            "of the last term"
        );
        assert_eq!(leases.grant(3, (2, 1), later, true), Some(true));
        assert!(!leases.follow(false, true, 4, later));
        assert_eq!(
            (leases.term(), leases.grant(3, (2, 1), later, true)),
            (None, None)
        );
    }
}
