//! `nightjar version`: the version and what this program was built with.

use std::fmt::Write as _;

use crate::config::{Loaded, Problem, schema};

/// Authenticators (`auth`) and authorization sources (`acl`) that are compiled in.
pub const KINDS: &[(&str, &str)] = &[
    #[cfg(feature = "file")]
    ("auth", "file"),
    #[cfg(feature = "builtin")]
    ("auth", "builtin"),
    #[cfg(feature = "http")]
    ("auth", "http"),
    #[cfg(feature = "jwt")]
    ("auth", "jwt"),
    #[cfg(feature = "mysql")]
    ("auth", "mysql"),
    #[cfg(feature = "postgres")]
    ("auth", "postgres"),
    #[cfg(feature = "redis")]
    ("auth", "redis"),
    #[cfg(feature = "mongodb")]
    ("auth", "mongodb"),
    #[cfg(feature = "ldap")]
    ("auth", "ldap"),
    ("auth", "x509"),
    ("auth", "scram"),
    ("acl", "file"),
    ("acl", "builtin"),
    #[cfg(feature = "http")]
    ("acl", "http"),
    #[cfg(feature = "mysql")]
    ("acl", "mysql"),
    #[cfg(feature = "postgres")]
    ("acl", "postgres"),
    #[cfg(feature = "redis")]
    ("acl", "redis"),
    #[cfg(feature = "mongodb")]
    ("acl", "mongodb"),
];

/// Keys that are read and checked, and that this build does not act on: whoever sets one is told. A key here stands
/// for all below it.
const WITHOUT_EFFECT: &[&str] = &["cluster.gossip_bind"];

/// True if this build does not act on a key.
pub fn without_effect(key: &str) -> bool {
    WITHOUT_EFFECT.iter().any(|above| {
        key.strip_prefix(above)
            .is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
    })
}

/// What an operator should know of keys that are set without effect.
pub fn warnings(loaded: &Loaded) -> Vec<Problem> {
    let set = loaded.set_keys();
    // A table and the keys below it are one thing to say.
    let is_leaf = |key: &str| matches!(schema::find(key), Some(schema::Place::Leaf(_)));
    set.into_iter()
        .filter(|key| without_effect(key) && is_leaf(key))
        .map(|key| {
            Problem::new(
                loaded.origin(key),
                key,
                "is set, and this build does not act on it",
            )
        })
        .collect()
}

/// What the command prints.
pub fn text() -> String {
    let mut out = format!("nightjar {}\n", env!("CARGO_PKG_VERSION"));
    let kinds = |place: &str| {
        let names: Vec<&str> = KINDS
            .iter()
            .filter(|(known, _)| *known == place)
            .map(|(_, kind)| *kind)
            .collect();
        if names.is_empty() {
            "none".to_owned()
        } else {
            names.join(", ")
        }
    };
    // Writing to a String cannot fail.
    let _ = writeln!(
        out,
        "target          {}-{}",
        std::env::consts::ARCH,
        std::env::consts::OS
    );
    let _ = writeln!(
        out,
        "build           {}",
        if cfg!(debug_assertions) {
            "debug"
        } else {
            "release"
        }
    );
    let _ = writeln!(out, "transports      tcp, tls, ws, wss, udp (MQTT-SN)");
    let _ = writeln!(out, "authenticators  {}", kinds("auth"));
    let _ = writeln!(out, "acl sources     {}", kinds("acl"));
    out
}
