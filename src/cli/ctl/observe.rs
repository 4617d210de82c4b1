//! `ctl clients | subs | topics | retained | listeners | log | trace | explain | metrics | alarms | admin`: what happens
//! on the node, and why.

use serde_json::json;

use super::{Ask, read_secret};
use crate::config::units::Duration;

/// Verbs that look at the node and its clients.
#[derive(Debug, clap::Subcommand)]
pub enum Command {
    /// Clients and their sessions
    #[command(subcommand)]
    Clients(Clients),
    /// Subscriptions
    #[command(subcommand)]
    Subs(Subs),
    /// Topic filters that somebody subscribes to
    #[command(subcommand)]
    Topics(Topics),
    /// Retained messages
    #[command(subcommand)]
    Retained(Retained),
    /// Listeners
    #[command(subcommand)]
    Listeners(Listeners),
    /// The log
    #[command(subcommand)]
    Log(Log),
    /// Follow the packets of a client, a topic or an address
    #[command(subcommand)]
    Trace(Trace),
    /// Say why a client does, or does not, get a message
    Explain {
        /// Client identifier of the publisher
        #[arg(long, value_name = "ID")]
        from: Option<String>,
        /// Client identifier of the subscriber
        #[arg(long, value_name = "ID")]
        to: String,
        /// Topic name
        #[arg(long, value_name = "T")]
        topic: String,
        /// QoS of the PUBLISH
        #[arg(long, default_value = "0", value_parser = clap::value_parser!(u8).range(0..=2))]
        qos: u8,
    },
    /// Show what is counted
    Metrics {
        /// In Prometheus' text format
        #[arg(long)]
        prometheus: bool,
    },
    /// Alarms
    #[command(subcommand)]
    Alarms(Alarms),
    /// The account `admin` of the HTTP API and the dashboard
    #[command(subcommand)]
    Admin(Admin),
}

/// Verbs about clients.
#[derive(Debug, clap::Subcommand)]
pub enum Clients {
    /// List clients in the order of their identifiers
    List {
        /// Those whose identifier holds this text
        #[arg(long, value_name = "TEXT")]
        like: Option<String>,
        /// Those of this user name
        #[arg(long, value_name = "U")]
        user: Option<String>,
        /// Those that are connected
        #[arg(long)]
        connected: bool,
        /// At most so many
        #[arg(long, value_name = "N")]
        limit: Option<usize>,
    },
    /// Show a client and what happened to it lately
    Show {
        /// Client identifier
        id: String,
    },
    /// Disconnect a client (0x98); its session stays as long as its expiry says
    Kick {
        /// Client identifier
        id: String,
    },
}

/// Verbs about subscriptions.
#[derive(Debug, clap::Subcommand)]
pub enum Subs {
    /// List subscriptions in the order of clients
    List {
        /// Those of this client
        #[arg(long, value_name = "ID")]
        client: Option<String>,
        /// Those with exactly this topic filter
        #[arg(long, value_name = "F")]
        topic: Option<String>,
        /// At most so many
        #[arg(long, value_name = "N")]
        limit: Option<usize>,
    },
}

/// Verbs about topic filters.
#[derive(Debug, clap::Subcommand)]
pub enum Topics {
    /// List topic filters and how many subscribe to each
    List {
        /// At most so many
        #[arg(long, value_name = "N")]
        limit: Option<usize>,
    },
    /// List the subscriptions that match a topic name
    Match {
        /// Topic name
        topic: String,
    },
}

/// Verbs about retained messages.
#[derive(Debug, clap::Subcommand)]
pub enum Retained {
    /// List retained messages
    List {
        /// Those that match this topic filter
        #[arg(long, value_name = "F", default_value = "#")]
        filter: String,
        /// At most so many
        #[arg(long, value_name = "N")]
        limit: Option<usize>,
    },
    /// Show a retained message
    Get {
        /// Topic name
        topic: String,
    },
    /// Forget a retained message
    Rm {
        /// Topic name
        topic: String,
    },
}

/// Verbs about listeners.
#[derive(Debug, clap::Subcommand)]
pub enum Listeners {
    /// List listeners
    List,
    /// Start a stopped listener
    Start {
        /// Its name, such as tcp:default
        name: String,
    },
    /// Stop a listener; its connections live on
    Stop {
        /// Its name, such as tcp:default
        name: String,
    },
}

/// Verbs about the log.
#[derive(Debug, clap::Subcommand)]
pub enum Log {
    /// Show the log filter, or set it until the next reload
    Level {
        /// error, warn, info, debug, trace, or by module: info,nightjar_gateway=debug
        level: Option<String>,
    },
}

/// Verbs about traces.
#[derive(Debug, clap::Subcommand)]
pub enum Trace {
    /// Start a trace
    Start {
        #[command(flatten)]
        what: Followed,
        /// Its name [default: made of what it follows]
        #[arg(long)]
        name: Option<String>,
        /// For how long, at most a day
        #[arg(long = "for", value_name = "TIME", default_value = "10m")]
        time: Duration,
    },
    /// List traces
    List,
    /// Print what a trace wrote, and go on as it writes
    Tail {
        /// Its name
        name: String,
        /// Do not go on: end with what there is
        #[arg(long)]
        once: bool,
    },
    /// Stop a trace; what it wrote stays
    Stop {
        /// Its name
        name: String,
    },
    /// Remove a trace and what it wrote
    Rm {
        /// Its name
        name: String,
    },
}

/// What a trace follows.
#[derive(Debug, clap::Args)]
#[group(required = true, multiple = false)]
pub struct Followed {
    /// A client identifier
    #[arg(long, value_name = "ID")]
    client: Option<String>,
    /// A topic filter
    #[arg(long, value_name = "F")]
    topic: Option<String>,
    /// An address
    #[arg(long, value_name = "A")]
    address: Option<std::net::IpAddr>,
}

/// Verbs about alarms.
#[derive(Debug, clap::Subcommand)]
pub enum Alarms {
    /// List alarms that are raised, and those that are over
    List,
    /// Forget the alarms that are over
    Clear,
}

/// Verbs about the admin's account.
#[derive(Debug, clap::Subcommand)]
pub enum Admin {
    /// Set the password of `admin`
    Passwd {
        /// The new password; without it, one is read from standard input
        #[arg(long, value_name = "P")]
        password: Option<String>,
    },
}

impl Command {
    /// What it asks of the node.
    ///
    /// # Errors
    /// No password came.
    pub fn ask(&self) -> Result<Ask, String> {
        Ok(match self {
            Self::Clients(command) => command.ask(),
            Self::Subs(Subs::List {
                client,
                topic,
                limit,
            }) => Ask::new(
                "subs list",
                json!({ "client": client, "topic": topic, "limit": limit }),
            ),
            Self::Topics(Topics::List { limit }) => {
                Ask::new("topics list", json!({ "limit": limit }))
            }
            Self::Topics(Topics::Match { topic }) => {
                Ask::new("topics match", json!({ "topic": topic }))
            }
            Self::Retained(command) => command.ask(),
            Self::Listeners(command) => match command {
                Listeners::List => Ask::new("listeners list", json!({})),
                Listeners::Start { name } => Ask::new("listeners start", json!({ "name": name })),
                Listeners::Stop { name } => Ask::new("listeners stop", json!({ "name": name })),
            },
            Self::Log(Log::Level { level }) => Ask::new("log level", json!({ "level": level })),
            Self::Trace(command) => command.ask(),
            Self::Explain {
                from,
                to,
                topic,
                qos,
            } => Ask::new(
                "explain",
                json!({ "from": from, "to": to, "topic": topic, "qos": qos }),
            ),
            Self::Metrics { prometheus: false } => Ask::new("metrics", json!({})),
            Self::Metrics { prometheus: true } => {
                Ask::new("metrics prometheus", json!({})).follows(true)
            }
            Self::Alarms(Alarms::List) => Ask::new("alarms list", json!({})),
            Self::Alarms(Alarms::Clear) => Ask::new("alarms clear", json!({})),
            Self::Admin(Admin::Passwd { password }) => {
                let password = match password {
                    Some(password) => password.clone(),
                    None => read_secret("new password of admin: ")?,
                };
                Ask::new("admin passwd", json!({ "password": password }))
            }
        })
    }
}

impl Clients {
    fn ask(&self) -> Ask {
        match self {
            Self::List {
                like,
                user,
                connected,
                limit,
            } => Ask::new(
                "clients list",
                json!({ "like": like, "user": user, "connected": connected, "limit": limit }),
            ),
            Self::Show { id } => Ask::new("clients show", json!({ "id": id })),
            Self::Kick { id } => Ask::new("clients kick", json!({ "id": id })),
        }
    }
}

impl Retained {
    fn ask(&self) -> Ask {
        match self {
            Self::List { filter, limit } => {
                Ask::new("retained list", json!({ "filter": filter, "limit": limit }))
            }
            Self::Get { topic } => Ask::new("retained get", json!({ "topic": topic })),
            Self::Rm { topic } => Ask::new("retained rm", json!({ "topic": topic }))
                .destroys(format!("the retained message of {topic}")),
        }
    }
}

impl Trace {
    fn ask(&self) -> Ask {
        match self {
            Self::Start { what, name, time } => Ask::new(
                "trace start",
                json!({
                    "client": what.client,
                    "topic": what.topic,
                    "address": what.address,
                    "name": name,
                    "seconds": time.get().as_secs(),
                }),
            ),
            Self::List => Ask::new("trace list", json!({})),
            Self::Tail { name, once } => {
                Ask::new("trace tail", json!({ "name": name, "once": once })).follows(true)
            }
            Self::Stop { name } => Ask::new("trace stop", json!({ "name": name })),
            Self::Rm { name } => Ask::new("trace rm", json!({ "name": name }))
                .destroys(format!("the trace {name} and what it wrote")),
        }
    }
}
