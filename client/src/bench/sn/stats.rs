//! What workers, watcher and leader share: the phase, counters, histograms.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, Ordering};

use parking_lot::Mutex;

use crate::bench::clock::Clock;
use crate::bench::histogram::Histogram;
use crate::bench::sn::args::SnBench;
use crate::bench::stats::Counter;

/// What all sensors do now.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
pub enum Phase {
    /// Nothing but keep alive.
    Idle,
    /// CONNECT, and REGISTER of the topic.
    Connect,
    /// PUBLISH.
    Publish,
    /// Waiting for acknowledgements.
    Drain,
    /// SUBSCRIBE, for what sleepers are to get.
    Subscribe,
    /// DISCONNECT with a duration.
    Sleep,
    /// PINGREQ with the client id, until PINGRESP.
    Wake,
    /// DISCONNECT.
    Stop,
    /// Threads end.
    End,
}

impl Phase {
    fn of(number: u8) -> Self {
        [
            Self::Idle,
            Self::Connect,
            Self::Publish,
            Self::Drain,
            Self::Subscribe,
            Self::Sleep,
            Self::Wake,
            Self::Stop,
        ]
        .into_iter()
        .find(|phase| *phase as u8 == number)
        .unwrap_or(Self::End)
    }
}

macro_rules! counters {
    ($($(#[$doc:meta])* $name:ident,)*) => {
        /// What one worker counted.
        #[derive(Default)]
        #[repr(align(128))]
        pub struct WorkerStats {
            $($(#[$doc])* pub $name: Counter,)*
            /// From CONNECT to CONNACK.
            pub connect_latency: Histogram,
            /// From PUBLISH to PUBACK or PUBCOMP.
            pub ack_latency: Histogram,
            /// From PINGREQ to PINGRESP.
            pub wake_latency: Histogram,
            /// From the stamp in the payload to its arrival at a sensor.
            pub down_latency: Histogram,
            /// The phase this worker is in.
            pub entered: AtomicU8,
            /// Sensors that are through it.
            pub through: AtomicU64,
            /// Sensors that this worker drives.
            pub sensors: AtomicU64,
            /// What went wrong, by its text.
            pub errors: Mutex<BTreeMap<String, u64>>,
        }

        /// Sums over all workers.
        #[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
        pub struct Totals {
            $($(#[$doc])* pub $name: u64,)*
        }

        impl Totals {
            fn of<'a>(workers: impl IntoIterator<Item = &'a WorkerStats>) -> Self {
                let mut totals = Self::default();
                for worker in workers {
                    $(totals.$name += worker.$name.get();)*
                }
                totals
            }

            /// What was added since.
            pub fn since(&self, before: &Self) -> Self {
                Self { $($name: self.$name - before.$name,)* }
            }
        }
    };
}

counters! {
    /// Sensors with an accepted CONNECT.
    connected,
    /// Sensors whose CONNECT, REGISTER or SUBSCRIBE was refused or had no answer.
    failed,
    /// Times that a sensor lost its connection later.
    lost,
    /// PUBLISH messages sent, repeats not counted.
    published,
    /// QoS 1 and 2: acknowledged.
    acknowledged,
    /// Refused with a return code, of any QoS.
    refused,
    /// Not sent when due, because the one before had no answer.
    late,
    /// Datagrams that the local socket did not take.
    unsent,
    /// Messages received by sensors.
    received,
    /// Of those, repeats or out of order.
    repeated,
    /// DISCONNECT with duration, answered.
    asleep,
    /// PINGRESP, counted once for each waking.
    woken,
    /// Requests sent again.
    repeats,
    /// Datagrams heard.
    heard,
}

impl WorkerStats {
    /// Counts an error by its text; workers have a few kinds only.
    pub fn error(&self, text: String) {
        *self.errors.lock().entry(text).or_insert(0) += 1;
    }
}

/// What the watcher counted.
#[derive(Default)]
pub struct Watched {
    /// Messages of this run.
    pub received: AtomicU64,
    /// Of those, repeats or out of order.
    pub repeated: AtomicU64,
    /// Messages without a stamp of this run.
    pub foreign: AtomicU64,
    /// From the stamp to the arrival.
    pub latency: Histogram,
}

/// Everything that threads share.
pub struct Shared {
    /// The flags.
    pub bench: SnBench,
    /// The gateway.
    pub address: SocketAddr,
    /// Time.
    pub clock: Clock,
    /// One for each worker.
    pub workers: Vec<WorkerStats>,
    /// Of the watcher.
    pub watched: Watched,
    /// Nanoseconds between two messages of a sensor.
    pub interval: u64,
    phase: AtomicU8,
    claimed: AtomicU64,
    full: AtomicBool,
}

impl Shared {
    /// Before the first phase.
    pub fn new(bench: SnBench, address: SocketAddr, threads: usize) -> Self {
        let milliseconds = bench.rate.map_or(bench.interval_of_msg, |rate| {
            1000.0 * f64::from(bench.count) / rate
        });
        Self {
            address,
            clock: Clock::default(),
            workers: (0..threads).map(|_| WorkerStats::default()).collect(),
            watched: Watched::default(),
            interval: (milliseconds * 1e6) as u64,
            phase: AtomicU8::new(Phase::Idle as u8),
            claimed: AtomicU64::new(0),
            full: AtomicBool::new(false),
            bench,
        }
    }

    /// The phase now.
    pub fn phase(&self) -> Phase {
        Phase::of(self.phase.load(Ordering::Acquire))
    }

    /// Begins a phase.
    pub fn enter(&self, phase: Phase) {
        self.phase.store(phase as u8, Ordering::Release);
    }

    /// Whether all workers are in the phase and all their sensors through it.
    pub fn is_through(&self) -> bool {
        let phase = self.phase.load(Ordering::Acquire);
        self.workers.iter().all(|worker| {
            worker.entered.load(Ordering::Acquire) == phase
                && worker.through.load(Ordering::Acquire) >= worker.sensors.load(Ordering::Acquire)
        })
    }

    /// True where one more message is within `--limit`.
    pub fn claim(&self) -> bool {
        let limit = self.bench.limit;
        if limit == 0 {
            return true;
        }
        let one_more = self.claimed.fetch_add(1, Ordering::Relaxed) < limit;
        if !one_more {
            self.full.store(true, Ordering::Relaxed);
        }
        one_more
    }

    /// Whether a message was refused by the limit.
    pub fn limit_reached(&self) -> bool {
        self.full.load(Ordering::Relaxed)
    }

    /// Sums now.
    pub fn totals(&self) -> Totals {
        Totals::of(&self.workers)
    }

    /// A topic with `%i` and `%c` filled in for a sensor.
    pub fn topic(&self, template: &str, index: u32) -> String {
        template
            .replace("%c", &self.client_id(index))
            .replace("%i", &self.number(index).to_string())
    }

    /// The client identifier of a sensor.
    pub fn client_id(&self, index: u32) -> String {
        format!("{}-{}", self.bench.prefix, self.number(index))
    }

    fn number(&self, index: u32) -> u64 {
        u64::from(self.bench.startnumber) + u64::from(index)
    }
}
