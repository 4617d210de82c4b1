//! Authentication: the ordered chain of authenticators, the anonymous rule, enhanced authentication by method name,
//! and the trait of the store that builtin users live in.
//!
//! What asks files, databases and services stands in `connectors`; this module has no runtime and no clock of its own.

mod chain;
mod counters;
mod store;
#[cfg(test)]
mod tests;
mod users;

pub use chain::{AuthChain, AuthSettings, Owner, Refusal, Refused, Timer};
pub use counters::AuthCounters;
pub use store::{ScramKeys, StoreError, User, UserKind, UserStore};
pub use users::Users;
