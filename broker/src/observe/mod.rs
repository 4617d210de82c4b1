//! What operators look at: each client's last events, what was dropped for whom, alarms, traces, how long things
//! take.
//!
//! All of it is bounded, and costs the message path nothing while nobody asks: events are of connections, not of
//! messages; a drop is noted only as long as the budget of the moment lasts; a trace costs one relaxed load while
//! there is none.

mod alarms;
mod drops;
mod journal;
mod latency;
mod ring;
mod trace;

pub use alarms::{Alarm, Alarms};
pub use drops::{Drop, DropLedger};
pub use journal::{Event, Journal, JournalEntry};
pub use latency::{BUCKETS_MS, Histogram, HistogramView, Latencies};
pub use trace::{Trace, TraceError, TraceSubject, Tracer};

/// Everything of this module that one broker has.
#[derive(Debug, Default)]
pub(crate) struct Observe {
    pub journal: Journal,
    pub drops: DropLedger,
    pub tracer: Tracer,
    pub alarms: Alarms,
    pub latencies: Latencies,
}
