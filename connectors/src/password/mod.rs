//! Password hashes: their text forms, checking, and the threads it happens on.
//!
//! A check with Argon2id costs some 20 ms of a core on purpose. It never runs on a worker of the broker: [`HashPool`]
//! has at most half the cores at lower priority and a bounded queue, and remembers what was verified.

#[cfg(feature = "rows")]
mod column;
mod hash;
mod pool;
mod verified;

#[cfg(feature = "rows")]
pub(crate) use column::Column;
#[cfg(feature = "ldap")]
pub(crate) use column::directory_hash;
#[cfg(feature = "rows")]
pub use column::{HashKind, HashSettings, Pbkdf2Prf, SaltPlace};
pub use hash::{HashError, PasswordHash, hash_password};
pub use pool::{HashPool, PoolError};
