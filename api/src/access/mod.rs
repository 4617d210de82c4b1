//! Who may use the API: accounts with passwords, API keys, tokens, roles, and a limit on wrong passwords. A node alone keeps
//! accounts and keys in a file; the nodes of a cluster keep them, and tokens, together.

mod accounts;
mod audit;
mod everywhere;
mod guard;
mod limiter;
mod secret;
mod tokens;

pub use accounts::{AccessError, Accounts, ApiKey};
pub use audit::{Audit, AuditEntry};
pub use everywhere::Values;
pub use guard::{Peer, guard};
pub use limiter::Limiter;
pub use secret::random_password;
pub use tokens::Tokens;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// What an account or key may do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// Look.
    Viewer,
    /// Look, kick, publish, ban, trace.
    Operator,
    /// Everything.
    Admin,
}

/// Who asks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Principal {
    /// Name of the account or key.
    pub name: String,
    /// What it may do.
    pub role: Role,
    /// An API key, not a person.
    pub is_key: bool,
}
