//! The durable backend of one node, against a disk that forgets, breaks and fills up.
#![allow(
    clippy::disallowed_methods,
    clippy::unwrap_used,
    reason = "no runtime here: threads may sleep; a failed unwrap is a failed test"
)]

mod crash;
mod damage;
mod disk;
mod golden;
mod kill;
mod kit;
mod node;
mod portions;
mod promises;
mod restart;
mod spill;
mod wills;
