//! The subscribing half of a bench client: latency, gaps and repeats of what arrives.

use nightjar_mqtt::packet::Publish;

use crate::bench::clock::{Source, read_stamp};
use crate::bench::publisher::Flow;
use crate::bench::stats::WorkerStats;

/// Publishers one subscriber tells apart; messages of more are counted, their gaps are not.
const MAX_PUBLISHERS: usize = 4096;
/// Without knowledge of the publisher's clock: stamps may be this old.
const OLDEST: u64 = 24 * 3600 * 1_000_000_000;
/// Clocks of two machines may differ by this much before a stamp counts as none.
const SKEW: u64 = 60 * 1_000_000_000;

#[derive(Debug, Clone, Copy)]
struct Tracked {
    publisher: u32,
    /// The sequence expected next.
    next: u64,
}

/// One subscriber.
pub struct Subscriber {
    tracked: Vec<Tracked>,
    /// Where the last publisher was found: the next message is often of it or its neighbour.
    hint: usize,
    /// Credit not yet told: publisher and deliveries.
    credit: (u32, u64),
    /// Sequences of this subscription are complete: not shared with others.
    gaps: bool,
}

/// What all subscribers of a run have in common.
pub struct Receive<'a> {
    /// The worker's counters.
    pub stats: &'a WorkerStats,
    /// Publishers of this process that wait for deliveries; empty where there are none.
    pub flows: &'a [Flow],
    /// When the run began: older stamps are of another run. `None`: any stamp counts.
    pub since: Option<u64>,
    /// The time.
    pub now: u64,
}

impl Subscriber {
    /// A subscriber; `gaps` is false where other subscribers get a part of the messages.
    pub fn new(gaps: bool) -> Self {
        Self {
            tracked: Vec::new(),
            hint: 0,
            credit: (0, 0),
            gaps,
        }
    }

    /// Counts a message.
    pub fn receive(&mut self, publish: &Publish<'_>, receive: &Receive<'_>) {
        let stats = receive.stats;
        stats.received.add(1);
        stats.received_bytes.add(publish.payload.len() as u64);
        let oldest = receive
            .since
            .unwrap_or_else(|| receive.now.saturating_sub(OLDEST));
        let stamp = read_stamp(publish.payload)
            .filter(|stamp| stamp.time >= oldest && stamp.time <= receive.now + SKEW);
        let Some(stamp) = stamp else {
            stats.foreign.add(1);
            return;
        };
        if stats.is_recording() {
            stats.latency.record(receive.now.saturating_sub(stamp.time));
        }
        let Some(source) = stamp.source else {
            return;
        };
        let credit = self.track(source, stats);
        if !receive.flows.is_empty() && credit > 0 {
            if self.credit.0 != source.publisher {
                self.settle(receive.flows);
                self.credit.0 = source.publisher;
            }
            self.credit.1 += credit;
        }
    }

    /// Tells publishers of this process about deliveries. To be called after each batch.
    pub fn settle(&mut self, flows: &[Flow]) {
        let (publisher, count) = self.credit;
        if count > 0 {
            if let Some(flow) = flows.get(publisher as usize) {
                flow.deliver(count);
            }
            self.credit.1 = 0;
        }
    }

    /// Returns how many messages of the publisher are behind us now: this one and those it skipped.
    fn track(&mut self, source: Source, stats: &WorkerStats) -> u64 {
        let Source {
            publisher,
            sequence,
        } = source;
        let Some(tracked) = self.find(publisher) else {
            if self.tracked.len() < MAX_PUBLISHERS {
                self.hint = self.tracked.len();
                let next = sequence + 1;
                self.tracked.push(Tracked { publisher, next });
            }
            // What came before the first is not known to be missing; in a run of our own it is, and
            // the total of lost messages has it.
            return sequence + 1;
        };
        if sequence < tracked.next {
            stats.repeated.add(1);
            return 0;
        }
        let gap = sequence - tracked.next;
        tracked.next = sequence + 1;
        if self.gaps && gap > 0 {
            stats.gaps.add(gap);
        }
        gap + 1
    }

    fn find(&mut self, publisher: u32) -> Option<&mut Tracked> {
        let length = self.tracked.len();
        for probe in [self.hint, self.hint + 1] {
            if probe < length && self.tracked[probe].publisher == publisher {
                self.hint = probe;
                return Some(&mut self.tracked[probe]);
            }
        }
        let at = self
            .tracked
            .iter()
            .position(|tracked| tracked.publisher == publisher)?;
        self.hint = at;
        Some(&mut self.tracked[at])
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bench::clock::write_stamp;

    fn feed(subscriber: &mut Subscriber, stats: &WorkerStats, messages: &[(u32, u64)]) {
        let now = 2 * OLDEST;
        let receive = Receive {
            stats,
            flows: &[],
            since: None,
            now,
        };
        for &(publisher, sequence) in messages {
            let mut payload = [0; 16];
            write_stamp(&mut payload, now - 1000, publisher, sequence);
            let publish = Publish {
                payload: &payload,
                ..Publish::default()
            };
            subscriber.receive(&publish, &receive);
        }
    }

    #[test]
    fn gaps_and_repeats_are_counted_for_each_publisher() {
        let stats = WorkerStats::default();
        let mut subscriber = Subscriber::new(true);
        feed(
            &mut subscriber,
            &stats,
            &[
                (0, 5),
                (1, 0),
                (0, 6),
                (1, 1),
                (0, 9),
                (1, 1),
                (0, 8),
                (2, 0),
            ],
        );
        assert_eq!(stats.received.get(), 8);
        assert_eq!(stats.gaps.get(), 2);
        assert_eq!(stats.repeated.get(), 2);
        assert_eq!(stats.foreign.get(), 0);
    }

    #[test]
    fn a_shared_subscription_has_no_gaps() {
        let stats = WorkerStats::default();
        feed(
            &mut Subscriber::new(false),
            &stats,
            &[(0, 0), (0, 5), (0, 9)],
        );
        assert_eq!((stats.gaps.get(), stats.repeated.get()), (0, 0));
    }

    #[test]
    fn payloads_without_a_stamp_of_this_run_are_foreign() {
        let stats = WorkerStats::default();
        let mut subscriber = Subscriber::new(true);
        let receive = Receive {
            stats: &stats,
            flows: &[],
            since: Some(5000),
            now: 6000,
        };
        let mut old = [0; 16];
        write_stamp(&mut old, 4999, 0, 0);
        for payload in [&b"short"[..], &old, &[0xFF; 32]] {
            subscriber.receive(
                &Publish {
                    payload,
                    ..Publish::default()
                },
                &receive,
            );
        }
        assert_eq!((stats.received.get(), stats.foreign.get()), (3, 3));
    }

    #[test]
    fn credit_covers_what_was_lost_and_not_what_came_twice() {
        let stats = WorkerStats::default();
        let mut subscriber = Subscriber::new(true);
        let flows = [Flow::default(), Flow::default()];
        let mut credits = Vec::new();
        for sequence in [0, 1, 4, 4, 5] {
            credits.push(subscriber.track(
                Source {
                    publisher: 1,
                    sequence,
                },
                &stats,
            ));
        }
        assert_eq!(credits, [1, 1, 3, 0, 1]);
        subscriber.settle(&flows);
    }

    #[test]
    fn publishers_told_apart_are_bounded() {
        let stats = WorkerStats::default();
        let mut subscriber = Subscriber::new(true);
        let many: Vec<_> = (0..MAX_PUBLISHERS as u32 + 100)
            .map(|publisher| (publisher, 0))
            .collect();
        feed(&mut subscriber, &stats, &many);
        assert_eq!(subscriber.tracked.len(), MAX_PUBLISHERS);
        assert_eq!(stats.received.get(), many.len() as u64);
    }

    #[test]
    fn latency_is_recorded_only_when_asked() {
        let stats = WorkerStats::default();
        let mut subscriber = Subscriber::new(true);
        feed(&mut subscriber, &stats, &[(0, 0)]);
        stats
            .recording
            .store(true, std::sync::atomic::Ordering::Relaxed);
        feed(&mut subscriber, &stats, &[(0, 1)]);
        let latency = crate::bench::histogram::Histogram::snapshot([&stats.latency]);
        assert_eq!(latency.count(), 1);
        assert_eq!(latency.max(), std::time::Duration::from_nanos(1000));
    }
}
