//! What databases share: a user found in a row, rules found in rows, a time limit and a circuit breaker around both.

mod acl;
mod auth;
mod guard;

#[cfg(any(feature = "redis", feature = "mongodb"))]
pub(crate) use acl::topic;
pub use acl::{AclRow, RowsAcl, RuleRows};
pub use auth::{Found, RowsAuth, UserRow, UserRows};
pub use guard::Guard;
