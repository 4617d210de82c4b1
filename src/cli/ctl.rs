//! `nightjar ctl` and `nightjar healthcheck`: questions to a running node.

use std::path::PathBuf;
use std::process::ExitCode;

use serde_json::{Value, json};

use super::output::{Format, Output};
use super::{ConfigArgs, exit};
use crate::config;
use crate::ctl::protocol::Reply;
use crate::ctl::{Client, CtlError, SOCKET};

/// Ask and steer a running node.
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(flatten)]
    node: NodeArgs,
    /// Form of the answer
    #[arg(long, value_enum, default_value = "table", global = true)]
    output: Format,
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

#[derive(Debug, clap::Subcommand)]
enum Command {
    /// Show how the node is: listeners, connections, sessions, uptime
    Status,
    /// Read the configuration again; lists what was applied and what needs a restart
    Reload,
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
    let (verb, arguments) = match &args.command {
        Command::Status => ("status", json!({})),
        Command::Reload => ("reload", json!({})),
    };
    let mut output = Output::new(args.output);
    let result = Client::connect(&socket).and_then(|mut client| {
        client.call(verb, arguments, |reply| match reply {
            Reply::Columns(columns) => output.columns(columns),
            Reply::Row(row) => {
                if let Some(line) = output.row(row) {
                    exit::print(&line);
                }
            }
            Reply::End(_) | Reply::Error(_) => {}
        })
    });
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
