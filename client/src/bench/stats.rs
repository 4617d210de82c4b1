//! Counters of a run: one set for each worker thread, added up by the reporter.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use parking_lot::Mutex;

use crate::bench::histogram::{Histogram, Snapshot};

/// Kinds of errors told apart; more share one line.
const MAX_ERROR_KINDS: usize = 32;

/// A counter with one writer: its worker's thread.
#[derive(Default)]
pub struct Counter(AtomicU64);

impl Counter {
    /// Counts `amount` more. Only for the one writer.
    #[inline]
    pub fn add(&self, amount: u64) {
        self.0
            .store(self.get().wrapping_add(amount), Ordering::Relaxed);
    }

    /// The count; from any thread.
    #[inline]
    pub fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

macro_rules! counters {
    ($($(#[$doc:meta])* $name:ident,)*) => {
        /// What one worker counted. Aligned so that workers do not share cache lines.
        #[derive(Default)]
        #[repr(align(128))]
        pub struct WorkerStats {
            $($(#[$doc])* pub $name: Counter,)*
            /// From the stamp in the payload to its arrival.
            pub latency: Histogram,
            /// From PUBLISH to PUBACK or PUBCOMP.
            pub ack_latency: Histogram,
            /// From the first SYN to CONNACK.
            pub connect_latency: Histogram,
            /// Latencies are recorded: off while warming up.
            pub recording: AtomicBool,
            errors: Mutex<BTreeMap<String, u64>>,
        }

        /// Sums over all workers at one moment.
        #[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
        pub struct Totals {
            $($(#[$doc])* pub $name: u64,)*
        }

        impl Totals {
            /// Adds up.
            pub fn of<'a>(workers: impl IntoIterator<Item = &'a WorkerStats>) -> Self {
                let mut totals = Self::default();
                for worker in workers {
                    $(totals.$name += worker.$name.get();)*
                }
                totals
            }
        }
    };
}

counters! {
    /// Connections that got a positive CONNACK.
    connected,
    /// Connections that did not get that far.
    connect_failed,
    /// Clients whose start is over: connected and, if they subscribe, subscribed; or failed.
    settled,
    /// Filters granted.
    subscribed,
    /// Filters refused.
    subscribe_refused,
    /// Connections lost while the run went on.
    disconnected,
    /// Connections that are over.
    ended,
    /// Messages sent.
    published,
    /// QoS 1 and 2 messages acknowledged.
    acknowledged,
    /// QoS 1 and 2 messages the broker refused.
    refused,
    /// Messages sent later than their time, because window or socket were full.
    late,
    /// Messages received.
    received,
    /// Payload bytes received.
    received_bytes,
    /// Received again, or after a later one of the same publisher.
    repeated,
    /// Missing between two received messages of one publisher.
    gaps,
    /// Received without a stamp of this run.
    foreign,
    /// Times an end-to-end window was emptied because nothing came for a second.
    stalls,
}

impl WorkerStats {
    /// Counts an error by its text.
    pub fn error(&self, text: String) {
        let mut errors = self.errors.lock();
        if errors.len() >= MAX_ERROR_KINDS && !errors.contains_key(&text) {
            *errors.entry("other errors".to_owned()).or_insert(0) += 1;
        } else {
            *errors.entry(text).or_insert(0) += 1;
        }
    }

    /// True where latencies count.
    #[inline]
    pub fn is_recording(&self) -> bool {
        self.recording.load(Ordering::Relaxed)
    }
}

/// Errors of all workers with their counts.
pub fn errors<'a>(workers: impl IntoIterator<Item = &'a WorkerStats>) -> BTreeMap<String, u64> {
    let mut all = BTreeMap::new();
    for worker in workers {
        for (text, count) in worker.errors.lock().iter() {
            *all.entry(text.clone()).or_insert(0) += count;
        }
    }
    all
}

/// One of the histograms, merged.
pub fn merged<'a>(
    workers: impl IntoIterator<Item = &'a WorkerStats>,
    which: impl Fn(&'a WorkerStats) -> &'a Histogram,
) -> Snapshot {
    Histogram::snapshot(workers.into_iter().map(which))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn totals_add_up_over_workers() {
        let workers = [WorkerStats::default(), WorkerStats::default()];
        workers[0].published.add(3);
        workers[1].published.add(4);
        workers[1].received.add(1);
        let totals = Totals::of(&workers);
        assert_eq!(
            (totals.published, totals.received, totals.refused),
            (7, 1, 0)
        );
    }

    #[test]
    fn kinds_of_errors_are_bounded() {
        let worker = WorkerStats::default();
        for number in 0..1000 {
            worker.error(format!("error {number}"));
        }
        worker.error("error 0".to_owned());
        let errors = errors([&worker]);
        assert_eq!(errors.len(), MAX_ERROR_KINDS + 1);
        assert_eq!(errors["error 0"], 2);
        assert_eq!(errors["other errors"], 1000 - MAX_ERROR_KINDS as u64);
    }
}
