//! The users that Nightjar keeps itself, and the trait of what keeps them.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::access::BoxFuture;

/// By what a builtin user is known.
#[derive(
    Debug, Clone, Copy, Default, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize,
)]
#[serde(rename_all = "lowercase")]
pub enum UserKind {
    /// By the user name of CONNECT.
    #[default]
    Username,
    /// By the client identifier.
    ClientId,
}

/// A builtin user. Kept in the durable backend, so that it survives and replicates.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct User {
    /// By what the user is known.
    pub kind: UserKind,
    /// User name or client identifier.
    pub name: String,
    /// The password's hash in PHC form (`$argon2id$...`); never the password.
    pub password_hash: String,
    /// Skips authorization.
    #[serde(default)]
    pub superuser: bool,
    /// Keys for SCRAM-SHA-256; `None` where the user may only log in with a password.
    #[serde(default)]
    pub scram: Option<ScramKeys>,
}

/// Hashes and keys let an attacker try passwords, or log in: they do not go to logs.
impl std::fmt::Debug for User {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("User")
            .field("kind", &self.kind)
            .field("name", &self.name)
            .field("superuser", &self.superuser)
            .finish_non_exhaustive()
    }
}

/// What a server keeps of a password for SCRAM-SHA-256 (RFC 5802 section 3): enough to check, not to log in.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ScramKeys {
    /// Salt, at least 16 bytes.
    pub salt: Vec<u8>,
    /// PBKDF2 iterations, at least 4096 (RFC 7677 section 4).
    pub iterations: u32,
    /// SHA-256 of the client key.
    pub stored_key: [u8; 32],
    /// The key the server proves itself with.
    pub server_key: [u8; 32],
}

impl std::fmt::Debug for ScramKeys {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("ScramKeys(..)")
    }
}

/// Why the store did not do it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum StoreError {
    /// The backend cannot commit now; a retry may help.
    #[error("the users' store cannot write now: {0}")]
    Unavailable(String),
    /// The name is empty or longer than 65,535 bytes.
    #[error("expected a user name of 1 to 65535 bytes, got {0}")]
    Name(usize),
}

/// Where builtin users are kept. Reads are local and fast; writes are committed before they return.
pub trait UserStore: Send + Sync {
    /// The user of this kind and name.
    fn find(&self, kind: UserKind, name: &str) -> Option<Arc<User>>;

    /// Up to `limit` users of a kind behind a name, in the order of names: a cursor for lists.
    fn list(&self, kind: UserKind, after: Option<&str>, limit: usize) -> Vec<Arc<User>>;

    /// Adds a user, or replaces the one of this kind and name.
    ///
    /// # Errors
    /// [`StoreError`] if it was not committed.
    fn put(&self, user: User) -> BoxFuture<'_, Result<(), StoreError>>;

    /// Removes a user; false if there was none.
    ///
    /// # Errors
    /// [`StoreError`] if it was not committed.
    fn remove<'a>(
        &'a self,
        kind: UserKind,
        name: &'a str,
    ) -> BoxFuture<'a, Result<bool, StoreError>>;
}
