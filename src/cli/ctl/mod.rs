//! `nightjar ctl` and `nightjar healthcheck`: questions to a running node.
//!
//! A group of verbs is a module with a clap enum whose `ask` says what it wants of the node; the node's side of it
//! stands under the same name in `src/start/verbs`.

mod acl;
mod backup;
mod ban;
mod cluster;
mod node;
mod observe;
mod users;

pub use acl::Question;

use std::io::{BufRead, IsTerminal, Write};
use std::path::PathBuf;
use std::process::ExitCode;

use serde_json::{Value, json};

use super::output::{Format, Output};
use super::{ConfigArgs, exit};
use crate::config;
use crate::ctl::protocol::Reply;
use crate::ctl::{Client, CtlError, Remote, SOCKET};

/// Ask and steer a running node.
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(flatten)]
    node: NodeArgs,
    #[command(flatten)]
    url: UrlArgs,
    /// Form of the answer
    #[arg(long, value_enum, default_value = "table", global = true)]
    output: Format,
    /// Do not ask before something is destroyed
    #[arg(long, global = true)]
    yes: bool,
    #[command(subcommand)]
    command: Command,
}

/// Which node is meant.
#[derive(Debug, Clone, Default, clap::Args)]
struct NodeArgs {
    /// Configuration file of the node
    #[arg(long, value_name = "FILE", global = true)]
    config: Option<PathBuf>,
    /// Data directory of the node
    #[arg(long, value_name = "DIR", global = true)]
    data_dir: Option<PathBuf>,
    /// Control socket of the node [default: ctl.sock in its data directory]
    #[arg(long, value_name = "PATH", global = true)]
    socket: Option<PathBuf>,
}

/// A node by its HTTP API.
#[derive(Debug, Clone, Default, clap::Args)]
struct UrlArgs {
    /// HTTP API of the node, http://HOST:PORT, instead of its socket
    #[arg(long, value_name = "URL", global = true)]
    url: Option<String>,
    /// Token of an admin, or KEY:SECRET of an API key
    #[arg(long, value_name = "TOKEN", global = true)]
    token: Option<String>,
}

#[derive(Debug, clap::Subcommand)]
enum Command {
    #[command(flatten)]
    Node(node::Command),
    #[command(flatten)]
    Users(users::Command),
    #[command(flatten)]
    Acl(acl::Command),
    #[command(flatten)]
    Ban(ban::Command),
    #[command(flatten)]
    Backup(backup::Command),
    /// Make the data directory of a stopped node from a backup
    Restore(backup::RestoreArgs),
    #[command(flatten)]
    Observe(observe::Command),
    #[command(flatten)]
    Cluster(cluster::Command),
}

impl Command {
    fn ask(&self) -> Result<Ask, String> {
        Ok(match self {
            Self::Node(command) => command.ask(),
            Self::Users(command) => command.ask()?,
            Self::Acl(command) => command.ask(),
            Self::Ban(command) => command.ask(),
            Self::Backup(command) => command.ask(),
            // No node is asked: it must be stopped.
            Self::Restore(_) => return Err("a restore needs no node".to_owned()),
            Self::Observe(command) => command.ask()?,
            Self::Cluster(command) => command.ask(),
        })
    }
}

/// A question to the node.
#[derive(Debug)]
pub struct Ask {
    verb: &'static str,
    args: Value,
    /// What would be destroyed; asked about first.
    destroys: Option<String>,
    /// Rows only say that it goes on.
    hides_rows: bool,
    /// Its answer goes on.
    follows: bool,
}

impl Ask {
    /// Asks for this verb with these arguments, an object.
    pub fn new(verb: &'static str, args: Value) -> Self {
        Self {
            verb,
            args,
            destroys: None,
            hides_rows: false,
            follows: false,
        }
    }

    /// Says that the answer goes on, line by line.
    pub const fn follows(mut self, follows: bool) -> Self {
        self.follows = follows;
        self
    }

    /// Says what would be destroyed, as a question's end: "the retained message of a/b". A terminal is asked first;
    /// elsewhere `--yes` is needed.
    pub fn destroys(mut self, what: impl Into<String>) -> Self {
        self.destroys = Some(what.into());
        self
    }

    /// Its rows are signs of life, not the answer.
    pub fn hides_rows(mut self) -> Self {
        self.hides_rows = true;
        self
    }

    /// Whether it may go on.
    fn allowed(&self, yes: bool) -> Result<(), String> {
        let Some(what) = self.destroys.as_ref().filter(|_| !yes) else {
            return Ok(());
        };
        let stdin = std::io::stdin();
        if !stdin.is_terminal() {
            return Err(format!(
                "this destroys {what}\n  help: say --yes where nobody can be asked"
            ));
        }
        let mut stderr = std::io::stderr();
        let _ = write!(stderr, "destroy {what}? [y/N] ").and_then(|()| stderr.flush());
        let mut answer = String::new();
        match stdin.lock().read_line(&mut answer) {
            Ok(_) if matches!(answer.trim(), "y" | "Y" | "yes") => Ok(()),
            _ => Err("nothing was done".to_owned()),
        }
    }
}

/// One line of standard input that nobody should see: a terminal does not show what is typed.
fn read_secret(prompt: &str) -> Result<String, String> {
    use rustix::termios::{LocalModes, OptionalActions, tcgetattr, tcsetattr};
    let stdin = std::io::stdin();
    let shown = stdin
        .is_terminal()
        .then(|| tcgetattr(&stdin))
        .and_then(Result::ok);
    if let Some(shown) = &shown {
        let mut stderr = std::io::stderr();
        let _ = write!(stderr, "{prompt}").and_then(|()| stderr.flush());
        let mut hidden = shown.clone();
        hidden.local_modes.remove(LocalModes::ECHO);
        let _ = tcsetattr(&stdin, OptionalActions::Flush, &hidden);
    }
    let mut line = String::new();
    let read = stdin.lock().read_line(&mut line);
    if let Some(shown) = &shown {
        let _ = tcsetattr(&stdin, OptionalActions::Flush, shown);
        let _ = writeln!(std::io::stderr());
    }
    match read {
        Ok(0) => Err(
            "expected a password on standard input, got none\n  help: or say --password P"
                .to_owned(),
        ),
        Ok(_) => Ok(line.trim_end_matches(['\r', '\n']).to_owned()),
        Err(error) => Err(format!("standard input: {error}")),
    }
}

/// Ask a running node whether it is well.
#[derive(Debug, clap::Args)]
pub struct HealthArgs {
    #[command(flatten)]
    node: NodeArgs,
}

impl NodeArgs {
    /// The node's socket.
    fn socket(&self, before: &ConfigArgs) -> PathBuf {
        if let Some(path) = &self.socket {
            return path.clone();
        }
        let args = ConfigArgs {
            config: self.config.clone(),
            set: Vec::new(),
        };
        let configured = || config::data_dir(&args.options(before));
        self.data_dir
            .clone()
            .unwrap_or_else(configured)
            .join(SOCKET)
    }
}

/// Runs a verb.
pub fn run(args: &Args, before: &ConfigArgs) -> ExitCode {
    let socket = args.node.socket(before);
    if let Command::Restore(restore) = &args.command {
        return backup::restore(restore, &args.node, args.output, args.yes, before);
    }
    let ask = match args.command.ask() {
        Ok(ask) => ask,
        Err(error) => return exit::fail(exit::USAGE, error),
    };
    if let Err(refusal) = ask.allowed(args.yes) {
        return exit::fail(exit::REFUSED, refusal);
    }
    let mut output = Output::new(args.output);
    // What is followed is shown as it comes: a table of it would never end.
    let text = ask.follows && args.output == Format::Table;
    let each = |reply| match reply {
        Reply::Row(row) if text => {
            let line = row.get("line").and_then(Value::as_str).unwrap_or_default();
            exit::print(&format!("{line}\n"));
        }
        Reply::Columns(_) if text => {}
        Reply::Row(_) if ask.hides_rows => {}
        Reply::Columns(columns) => output.columns(columns),
        Reply::Row(row) => {
            if let Some(line) = output.row(row) {
                exit::print(&line);
            }
        }
        Reply::End(_) | Reply::Error(_) => {}
    };
    let result = match &args.url.url {
        Some(url) => {
            let token = args.url.token.as_deref().unwrap_or_default();
            Remote::new(url, token)
                .and_then(|remote| remote.call(ask.verb, ask.args, ask.follows, each))
        }
        None => Client::connect(&socket).and_then(|mut client| {
            if ask.follows {
                client.wait_for_ever()?;
            }
            client.call(ask.verb, ask.args, each)
        }),
    };
    match result {
        Ok(end) => {
            // A reload applies what it can and names what it could not.
            let partly = end
                .get("errors")
                .and_then(Value::as_array)
                .is_some_and(|errors| !errors.is_empty());
            let printed = exit::print(&output.end(end));
            if partly {
                let help = "what is wrong stays as it was; `nightjar check` says more";
                return exit::fail(
                    exit::FAILED,
                    format!("not everything was applied\n  help: {help}"),
                );
            }
            printed
        }
        Err(error) => exit::fail(error.code.exit_code(), shown(&error)),
    }
}

/// Asks `status` and judges `ready`. Whatever keeps a node from saying that it is ready makes it unhealthy.
pub fn health(args: &HealthArgs, before: &ConfigArgs) -> ExitCode {
    let result = Client::connect(&args.node.socket(before))
        .and_then(|mut client| client.call("status", json!({}), |_| {}));
    match result {
        Ok(status) if status.get("ready") == Some(&Value::Bool(true)) => exit::print("healthy\n"),
        Ok(status) => {
            let state = status
                .get("state")
                .and_then(Value::as_str)
                .unwrap_or("not ready");
            let text = format!("the node is {state}\n  help: `nightjar ctl status` says more");
            exit::fail(exit::UNHEALTHY, text)
        }
        Err(error) => exit::fail(exit::UNHEALTHY, shown(&error)),
    }
}

fn shown(error: &CtlError) -> String {
    if error.help.is_empty() {
        error.message.clone()
    } else {
        format!("{}\n  help: {}", error.message, error.help)
    }
}
