//! `ctl status` and `ctl reload`: the node as a whole.

use serde_json::json;

use super::Ask;

/// Verbs about the node as a whole.
#[derive(Debug, clap::Subcommand)]
pub enum Command {
    /// Show how the node is: listeners, connections, sessions, uptime
    Status,
    /// Read the configuration again; lists what was applied and what needs a restart
    Reload,
}

impl Command {
    /// What it asks of the node.
    pub fn ask(&self) -> Ask {
        match self {
            Self::Status => Ask::new("status", json!({})),
            Self::Reload => Ask::new("reload", json!({})),
        }
    }
}
