//! `ctl acl`: what clients may do, and the rules that the node keeps itself.

use std::net::IpAddr;

use serde_json::json;

use super::Ask;

/// Verbs about authorization.
#[derive(Debug, clap::Subcommand)]
pub enum Command {
    /// Authorization: test it, read rules again, builtin rules
    #[command(subcommand)]
    Acl(Acl),
}

/// Verbs about authorization.
#[derive(Debug, clap::Subcommand)]
pub enum Acl {
    /// Say whether a client may do something, and which rule decides
    Test(Question),
    /// Read the files of rules again; a broken one leaves the old rules in force
    Reload,
    /// Void the verdicts that clients' caches hold
    CacheClean,
    /// Add a builtin rule, as it would stand in acl.conf
    Add {
        /// The rule, as '{allow, {user, "dashboard"}, subscribe, ["$SYS/#"]}.'
        rule: String,
        /// Its number: rules are tried in the order of numbers [default: the last one plus 10]
        #[arg(long, value_name = "N")]
        at: Option<u32>,
    },
    /// List the builtin rules in the order they are tried
    List,
    /// Remove a builtin rule
    Rm {
        /// Its number
        number: u32,
    },
}

/// "May X do Y?"
#[derive(Debug, clap::Args)]
pub struct Question {
    /// User name
    #[arg(long, value_name = "U")]
    pub user: Option<String>,
    /// Client identifier
    #[arg(long, value_name = "C", default_value = "test")]
    pub client: String,
    /// Address of the client [default: 127.0.0.1]
    #[arg(long, value_name = "A")]
    pub ip: Option<IpAddr>,
    /// Listener it comes by
    #[arg(long, value_name = "NAME", default_value = "tcp:default")]
    pub listener: String,
    /// Quality of service
    #[arg(long, value_name = "QOS", default_value_t = 0, value_parser = clap::value_parser!(u8).range(0..=2))]
    pub qos: u8,
    /// With the retain flag
    #[arg(long)]
    pub retain: bool,
    /// What it does
    #[arg(value_enum)]
    pub action: Action,
    /// Topic name, or topic filter
    pub topic: String,
}

/// What a client does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Action {
    /// PUBLISH
    Publish,
    /// SUBSCRIBE
    Subscribe,
}

impl Question {
    /// Is it about SUBSCRIBE?
    pub fn is_subscribe(&self) -> bool {
        self.action == Action::Subscribe
    }
}

impl Command {
    /// What it asks of the node.
    pub fn ask(&self) -> Ask {
        let Self::Acl(command) = self;
        match command {
            Acl::Test(it) => Ask::new(
                "acl test",
                json!({
                    "username": it.user, "clientid": it.client, "address": it.ip, "listener": it.listener,
                    "qos": it.qos, "retain": it.retain, "subscribe": it.is_subscribe(),
                    "topic": it.topic,
                }),
            ),
            Acl::Reload => Ask::new("acl reload", json!({})),
            Acl::CacheClean => Ask::new("acl cache-clean", json!({})),
            Acl::Add { rule, at } => Ask::new("acl add", json!({ "rule": rule, "at": at })),
            Acl::List => Ask::new("acl list", json!({})),
            Acl::Rm { number } => Ask::new("acl rm", json!({ "number": number }))
                .destroys(format!("the builtin rule {number}")),
        }
    }
}
