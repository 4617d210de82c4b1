//! The durable half of the backend as pure state machines: `apply(entry) -> reply` with effects.
//!
//! They read no clock, no randomness and no configuration: each entry carries the time and the limits it needs, so
//! that the same entries give the same state on every replica and after every restart.

mod codec;
mod entry;
mod frozen;
mod queue;
mod queued;
mod record;
mod retained;
mod session;
mod snapshot;
mod spill;
mod streams;
mod subscribers;
#[cfg(test)]
mod supervised_tests;
mod wants;
mod wills;

pub use codec::{CodecError, Decoder, Encoder, FORMAT};
pub use entry::{
    Ack, AckKind, Close, CloseKind, Enqueue, Open, Opened, Parked, Reply, SessionEntry,
    Supervision, Will, WillRule,
};
pub use frozen::{Frozen, FrozenRetained};
pub(crate) use queue::Queue;
pub use queued::{Body, Place, Queued};
pub use retained::{RetainedEntry, RetainedShard};
pub use session::{Duty, Effect, SessionShard};
pub use snapshot::Restored;
pub use spill::Holder;
pub use streams::Streams;

#[cfg(test)]
mod cluster_tests;
#[cfg(test)]
mod codec_tests;
#[cfg(test)]
mod model_tests;

use std::hash::BuildHasher;

use foldhash::fast::FixedState;

/// Fixed number of slots that keys hash into; slots map to groups, so that groups can be split later.
pub const SLOTS: u32 = 1024;

/// The slot of a key (client id, topic name, share name with filter).
#[must_use]
pub fn slot_of(key: &str) -> u32 {
    // The seed is fixed: every node and every restart must agree.
    (FixedState::with_seed(0x6e69_6768_746a_6172).hash_one(key.as_bytes()) % u64::from(SLOTS))
        as u32
}
