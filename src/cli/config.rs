//! `nightjar config print | default | explain | schema`.

use std::process::ExitCode;

use super::{ConfigArgs, exit, version};
use crate::config::{self, ConfigErrors};

/// Show the configuration and explain its keys.
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, clap::Subcommand)]
enum Command {
    /// The effective configuration as TOML, without secrets
    Print {
        #[command(flatten)]
        config: ConfigArgs,
        /// Say behind each value who gave it
        #[arg(long)]
        origin: bool,
    },
    /// The reference file: every key with its meaning and default
    Default,
    /// What a key means, what it is now, and who set it
    Explain {
        /// Key, such as mqtt.max_qos, or a table, such as listeners.tcp.default
        key: String,
        #[command(flatten)]
        config: ConfigArgs,
    },
    /// A JSON schema of the configuration file, for editors
    Schema,
}

/// Runs the command.
pub fn run(args: &Args, before: &ConfigArgs) -> ExitCode {
    match &args.command {
        Command::Print { config, origin } => match config::read(&config.options(before)) {
            Ok((loaded, problems)) => {
                let printed = exit::print(&config::print(&loaded, *origin));
                if problems.is_empty() {
                    printed
                } else {
                    exit::fail(exit::USAGE, ConfigErrors(problems))
                }
            }
            Err(errors) => exit::fail(exit::USAGE, errors),
        },
        Command::Default => exit::print(&config::reference()),
        Command::Explain { key, config } => explain(key, config, before),
        Command::Schema => exit::print(&format!("{:#}\n", config::json_schema())),
    }
}

fn explain(key: &str, config: &ConfigArgs, before: &ConfigArgs) -> ExitCode {
    // Rules that are broken do not matter here; a file that cannot be read does.
    let loaded = match config::read(&config.options(before)) {
        Ok((loaded, _)) => loaded,
        Err(errors) => return exit::fail(exit::USAGE, errors),
    };
    match config::explain(key, &loaded) {
        Ok(text) if version::without_effect(key) => {
            exit::print(&format!("{text}  note     this build does not act on it\n"))
        }
        Ok(text) => exit::print(&text),
        Err(Some(near)) => exit::fail(
            exit::NOT_FOUND,
            format!("{key}: no such key\n  help: did you mean `{near}`?"),
        ),
        Err(None) => exit::fail(
            exit::NOT_FOUND,
            format!("{key}: no such key\n  help: `nightjar config default` lists all keys"),
        ),
    }
}
