//! `nightjar version`: the version and what this program was built with.

use std::fmt::Write as _;

/// Authenticators (`auth`) and authorization sources (`acl`) that are compiled in.
pub const KINDS: &[(&str, &str)] = &[("acl", "file")];

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
    let _ = writeln!(out, "transports      tcp, tls, ws, wss");
    let _ = writeln!(out, "authenticators  {}", kinds("auth"));
    let _ = writeln!(out, "acl sources     {}", kinds("acl"));
    out
}
