//! What Nightjar asks outside itself to know who may do what: users files, certificates, SCRAM-SHA-256, tokens, HTTP
//! services. Each external system is a cargo feature.
//!
//! Everything here implements the traits of `nightjar_broker::access` and is put together by the executable. The
//! kinds that compare passwords themselves share one [`password::HashPool`].
#![forbid(unsafe_code)]

#[cfg(feature = "rows")]
mod address;
#[cfg(any(feature = "http", feature = "rows"))]
mod breaker;
#[cfg(feature = "builtin")]
pub mod builtin;
#[cfg(feature = "http")]
pub mod discovery;
mod encoding;
mod error;
#[cfg(any(test, feature = "fuzzing"))]
#[doc(hidden)]
pub mod fuzzing;
#[cfg(feature = "http")]
pub mod http;
#[cfg(feature = "jwt")]
pub mod jwt;
#[cfg(feature = "ldap")]
pub mod ldap;
#[cfg(feature = "mongodb")]
pub mod mongodb;
#[cfg(feature = "password")]
pub mod password;
#[cfg(feature = "redis")]
pub mod redis;
#[cfg(feature = "rows")]
pub mod rows;
#[cfg(any(feature = "http", feature = "jwt"))]
mod rules_json;
pub mod scram;
#[cfg(feature = "sql")]
pub mod sql;
#[cfg(any(
    feature = "http",
    feature = "jwt",
    feature = "redis",
    feature = "mongodb",
    feature = "ldap"
))]
mod template;
#[cfg(test)]
mod testing;
#[cfg(any(feature = "tls", feature = "sql"))]
pub mod tls;
#[cfg(feature = "password")]
mod users;
#[cfg(feature = "file")]
pub mod users_file;
pub mod x509;

pub use error::ConnectorError;

/// Every kind of `[[auth.chain]]` and `[[acl.sources]]` that this crate knows, and whether it is compiled in. The
/// feature has the kind's name.
pub const KINDS: &[(&str, bool)] = &[
    ("file", cfg!(feature = "file")),
    ("builtin", cfg!(feature = "builtin")),
    ("http", cfg!(feature = "http")),
    ("jwt", cfg!(feature = "jwt")),
    ("mysql", cfg!(feature = "mysql")),
    ("postgres", cfg!(feature = "postgres")),
    ("redis", cfg!(feature = "redis")),
    ("mongodb", cfg!(feature = "mongodb")),
    ("ldap", cfg!(feature = "ldap")),
    ("x509", true),
    ("scram", true),
];
