//! `ctl users`: the users that the node keeps itself (`[[auth.chain]] kind = "builtin"`).

use serde_json::json;

use super::{Ask, read_secret};

/// Verbs about builtin users.
#[derive(Debug, clap::Subcommand)]
pub enum Command {
    /// Builtin users: those of `[[auth.chain]] kind = "builtin"`
    #[command(subcommand)]
    Users(Users),
}

/// Verbs about builtin users.
#[derive(Debug, clap::Subcommand)]
pub enum Users {
    /// Add a user
    Add {
        #[command(flatten)]
        who: Who,
        #[command(flatten)]
        password: Password,
        /// Skips authorization
        #[arg(long)]
        superuser: bool,
    },
    /// Remove a user; its open connections stay
    Rm {
        #[command(flatten)]
        who: Who,
    },
    /// List users
    List {
        /// Those known by client identifier
        #[arg(long)]
        clientid: bool,
    },
    /// Change a user's password, and whether it is a superuser
    Passwd {
        #[command(flatten)]
        who: Who,
        #[command(flatten)]
        password: Password,
        /// Skips authorization: true or false; unset: as it was
        #[arg(long, value_name = "BOOL")]
        superuser: Option<bool>,
    },
}

/// Which user.
#[derive(Debug, clap::Args)]
pub struct Who {
    /// User name
    name: String,
    /// The name is a client identifier
    #[arg(long)]
    clientid: bool,
}

/// Its password.
#[derive(Debug, clap::Args)]
pub struct Password {
    /// Password; other users of this machine may see it in the list of processes. Unset: one line of standard input
    #[arg(long, value_name = "P")]
    password: Option<String>,
}

impl Password {
    fn read(&self) -> Result<String, String> {
        match &self.password {
            Some(password) => Ok(password.clone()),
            None => read_secret("password: "),
        }
    }
}

const fn kind(clientid: bool) -> &'static str {
    if clientid { "clientid" } else { "username" }
}

impl Command {
    /// What it asks of the node.
    ///
    /// # Errors
    /// A password that cannot be read, in words.
    pub fn ask(&self) -> Result<Ask, String> {
        let Self::Users(command) = self;
        Ok(match command {
            Users::Add {
                who,
                password,
                superuser,
            } => Ask::new(
                "users add",
                json!({
                    "kind": kind(who.clientid), "name": who.name, "password": password.read()?,
                    "superuser": superuser,
                }),
            ),
            Users::Rm { who } => Ask::new(
                "users rm",
                json!({ "kind": kind(who.clientid), "name": who.name }),
            )
            .destroys(format!("the user {}", who.name)),
            Users::List { clientid } => Ask::new("users list", json!({ "kind": kind(*clientid) })),
            Users::Passwd {
                who,
                password,
                superuser,
            } => Ask::new(
                "users passwd",
                json!({
                    "kind": kind(who.clientid), "name": who.name, "password": password.read()?,
                    "superuser": superuser,
                }),
            ),
        })
    }
}
