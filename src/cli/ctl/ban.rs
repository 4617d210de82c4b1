//! `ctl ban`: clients, users and addresses that may not connect.

use serde_json::{Value, json};

use super::Ask;
use crate::config::units::Duration;

/// Verbs about bans.
#[derive(Debug, clap::Subcommand)]
pub enum Command {
    /// Bans of clients, users and addresses
    #[command(subcommand)]
    Ban(Ban),
}

/// Verbs about bans.
#[derive(Debug, clap::Subcommand)]
pub enum Ban {
    /// Ban, and end the connections the ban speaks of
    Add {
        #[command(flatten)]
        whom: Whom,
        /// Time, such as 30s, 5m, 1h, 7d [default: for good]
        #[arg(long = "for", value_name = "TIME")]
        time: Option<Duration>,
        /// Why, for whoever reads the list
        #[arg(long, value_name = "TEXT", default_value = "")]
        reason: String,
    },
    /// Lift a ban
    Rm {
        #[command(flatten)]
        whom: Whom,
    },
    /// List the bans in force
    List,
}

/// Whom a ban speaks of.
#[derive(Debug, clap::Args)]
#[group(required = true, multiple = false)]
pub struct Whom {
    /// A client identifier
    #[arg(long, value_name = "ID")]
    client: Option<String>,
    /// A user name
    #[arg(long, value_name = "U")]
    user: Option<String>,
    /// An address, or a network such as 10.0.0.0/8
    #[arg(long, value_name = "A")]
    address: Option<String>,
}

impl Whom {
    fn json(&self) -> Value {
        let (kind, who) = match (&self.client, &self.user, &self.address) {
            (Some(who), _, _) => ("clientid", who),
            (_, Some(who), _) => ("username", who),
            (_, _, who) => ("address", who.as_ref().expect("clap asks for one of three")),
        };
        json!({ "kind": kind, "who": who })
    }
}

impl Command {
    /// What it asks of the node.
    pub fn ask(&self) -> Ask {
        let Self::Ban(command) = self;
        match command {
            Ban::Add { whom, time, reason } => {
                let mut args = whom.json();
                args["reason"] = json!(reason);
                args["seconds"] = json!(time.map(|time| time.get().as_secs()));
                Ask::new("ban add", args)
            }
            Ban::Rm { whom } => Ask::new("ban rm", whom.json()),
            Ban::List => Ask::new("ban list", json!({})),
        }
    }
}
