//! Figures of the last hour, day and week, for charts, in rings of a fixed size (about 110 KB).

use nightjar_broker::{Counter, Timestamp};
use parking_lot::Mutex;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::shared::Shared;

/// The series, in the order of [`Sample`].
pub const SERIES: [&str; 12] = [
    "connections",
    "sessions",
    "subscriptions",
    "topics",
    "retained",
    "received_msg_rate",
    "sent_msg_rate",
    "dropped_msg_rate",
    "bytes_in_rate",
    "bytes_out_rate",
    "cpu",
    "memory",
];

/// One value of each series.
pub type Sample = [f32; SERIES.len()];

/// Which ring.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum Range {
    /// The last hour, a point every 5 seconds.
    #[default]
    Hour,
    /// The last day, a point every 2 minutes.
    Day,
    /// The last week, a point every 15 minutes.
    Week,
}

/// Seconds between points, and number of points.
const RINGS: [(u64, usize); 3] = [(5, 720), (120, 720), (900, 672)];

#[derive(Debug)]
struct Ring {
    every: u64,
    points: Vec<Sample>,
    /// Where the next point goes.
    next: usize,
    filled: usize,
    /// Time of the last point, seconds, a multiple of `every`.
    last: u64,
    sum: Sample,
    summed: u32,
}

/// The counters at one look, for rates.
#[derive(Debug, Clone, Copy)]
pub struct Counts {
    /// When.
    pub at: Timestamp,
    /// Messages received, sent, dropped; bytes in, out; connects, disconnects.
    pub values: [u64; 7],
}

#[derive(Debug)]
struct State {
    rings: [Ring; 3],
    counts: Option<Counts>,
    /// The highest connections, sessions, subscriptions, topics, retained so far.
    max: [u64; 5],
}

/// The rings.
#[derive(Debug)]
pub struct History {
    state: Mutex<State>,
}

impl History {
    /// Empty rings.
    pub fn new() -> Self {
        let ring = |(every, len): (u64, usize)| Ring {
            every,
            points: vec![[0.0; SERIES.len()]; len],
            next: 0,
            filled: 0,
            last: 0,
            sum: [0.0; SERIES.len()],
            summed: 0,
        };
        Self {
            state: Mutex::new(State {
                rings: RINGS.map(ring),
                counts: None,
                max: [0; 5],
            }),
        }
    }

    /// Is it time for the next point?
    pub fn is_due(&self, now: Timestamp) -> bool {
        let state = self.state.lock();
        state
            .counts
            .is_none_or(|counts| now.since(counts.at) >= RINGS[0].0 * 1000 - 200)
    }

    /// The counters at the last point.
    pub fn counts(&self) -> Option<Counts> {
        self.state.lock().counts
    }

    /// The highest values so far: connections, sessions, subscriptions, topics, retained.
    pub fn max(&self, now: [u64; 5]) -> [u64; 5] {
        let mut state = self.state.lock();
        for (max, now) in state.max.iter_mut().zip(now) {
            *max = (*max).max(now);
        }
        state.max
    }

    /// Adds a point; `rates` of it are computed from the counters before.
    pub fn add(&self, counts: Counts, mut sample: Sample) {
        let mut state = self.state.lock();
        if let Some(before) = state.counts {
            let rates = rates(&before, &counts);
            for (at, rate) in rates.iter().take(5).enumerate() {
                sample[5 + at] = *rate as f32;
            }
        }
        state.counts = Some(counts);
        for ring in &mut state.rings {
            ring.add(counts.at.0 / 1000, &sample);
        }
    }

    /// One ring: seconds between points, milliseconds since the epoch of the first, and the points, oldest first.
    pub fn read(&self, range: Range) -> (u64, u64, Vec<Sample>) {
        let state = self.state.lock();
        let ring = &state.rings[range as usize];
        let len = ring.points.len();
        let first = (ring.next + len - ring.filled) % len;
        let points = (0..ring.filled).map(|n| ring.points[(first + n) % len]);
        let from = (ring.last + ring.every).saturating_sub(ring.filled as u64 * ring.every);
        (ring.every, from * 1000, points.collect())
    }
}

impl Ring {
    /// Takes a sample in; points in between that nobody sampled are as the last one.
    fn add(&mut self, seconds: u64, sample: &Sample) {
        let slot = seconds / self.every * self.every;
        if self.last == 0 {
            self.last = slot;
        }
        while self.last < slot {
            let point = self.mean().unwrap_or(*sample);
            self.push(point);
            self.last += self.every;
            // A clock that leapt ahead fills one round at most.
            if (slot - self.last) / self.every > self.points.len() as u64 {
                self.last = slot;
            }
        }
        for (sum, value) in self.sum.iter_mut().zip(sample) {
            *sum += value;
        }
        self.summed += 1;
        if self.filled == 0 {
            // The chart begins with the first sample, not when its slot is over.
            self.push(*sample);
        }
    }

    fn push(&mut self, point: Sample) {
        self.points[self.next] = point;
        self.next = (self.next + 1) % self.points.len();
        self.filled = (self.filled + 1).min(self.points.len());
    }

    fn mean(&mut self) -> Option<Sample> {
        if self.summed == 0 {
            return None;
        }
        let mean = self.sum.map(|sum| sum / self.summed as f32);
        self.sum = [0.0; SERIES.len()];
        self.summed = 0;
        Some(mean)
    }
}

/// Per second, of each counter.
pub fn rates(before: &Counts, now: &Counts) -> [f64; 7] {
    let seconds = (now.at.since(before.at) as f64 / 1000.0).max(0.001);
    std::array::from_fn(|at| now.values[at].saturating_sub(before.values[at]) as f64 / seconds)
}

impl Shared {
    /// The counters that rates are made of.
    pub(crate) fn counts(&self, at: Timestamp) -> Counts {
        let get = |counter| self.broker.metrics().get(counter);
        Counts {
            at,
            values: [
                get(Counter::MessagesReceived),
                get(Counter::MessagesSent),
                crate::metrics::dropped(&self.broker),
                get(Counter::BytesReceived),
                get(Counter::BytesSent),
                get(Counter::ConnectsAccepted),
                crate::metrics::disconnects(&self.broker),
            ],
        }
    }

    /// Takes a point for the charts.
    pub(crate) fn sample(&self, now: Timestamp) {
        let figures = self.process.figures();
        let stats = self.stats();
        let mut sample = [0.0; SERIES.len()];
        for (into, value) in sample.iter_mut().zip([
            stats.connections,
            stats.sessions,
            stats.subscriptions,
            stats.topics,
            stats.retained,
        ]) {
            *into = value as f32;
        }
        sample[10] = figures.cpu_percent as f32;
        sample[11] = figures.resident as f32;
        self.history.add(self.counts(now), sample);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: u64, received: u64) -> Counts {
        Counts {
            at: Timestamp(seconds * 1000),
            values: [received, 0, 0, 0, 0, 0, 0],
        }
    }

    #[test]
    fn rings_keep_means_and_rates_in_order_within_bounds() {
        let history = History::new();
        for n in 0..2000 {
            let mut sample = [0.0; SERIES.len()];
            sample[0] = n as f32;
            history.add(at(1_000_000 + n * 5, n * 50), sample);
        }
        let (every, from, hour) = history.read(Range::Hour);
        assert_eq!((every, hour.len()), (5, 720));
        assert_eq!(hour[719][0], 1998.0);
        assert_eq!(hour[719][5], 10.0);
        assert!(hour.windows(2).all(|pair| pair[0][0] < pair[1][0]));
        assert_eq!(from % 5000, 0);
        let (_, _, day) = history.read(Range::Day);
        assert_eq!(day.len(), 2000 / 24 + 1);
        assert!(!history.is_due(Timestamp(1_009_995_000)));
        assert!(history.is_due(Timestamp(1_010_000_000)));
        // A leap of the clock.
        history.add(at(9_000_000, 1), [0.0; SERIES.len()]);
        assert_eq!(history.read(Range::Hour).2.len(), 720);
    }

    #[test]
    fn the_highest_value_is_remembered() {
        let history = History::new();
        history.max([5, 1, 1, 1, 1]);
        assert_eq!(history.max([3, 2, 0, 1, 1]), [5, 2, 1, 1, 1]);
    }
}
