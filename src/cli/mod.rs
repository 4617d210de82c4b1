//! The command line: `nightjar serve`, `check`, `config`, `certs`, `store`, `ctl`, and the client commands.
//!
//! Each subcommand is a file here; what they have in common is [`exit`] (codes, errors) and [`output`] (tables, JSON).

mod acl;
mod certs;
pub mod check;
mod config;
mod ctl;
mod doctor;
pub mod exit;
mod import;
mod init;
mod output;
mod store;
pub mod version;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{CommandFactory, Parser, Subcommand};

use crate::config::Options;
use crate::start::Role;

/// Multi-protocol MQTT broker: MQTT 3.1, 3.1.1 and 5.0 over TCP, TLS and WebSocket; MQTT-SN over UDP.
#[derive(Debug, Parser)]
#[command(name = "nightjar", version, max_term_width = 100)]
struct Cli {
    #[command(flatten)]
    config: ConfigArgs,
    #[command(subcommand)]
    command: Option<Command>,
}

/// Where the configuration comes from.
#[derive(Debug, Clone, Default, clap::Args)]
pub struct ConfigArgs {
    /// Configuration file [default: etc/nightjar.toml or /etc/nightjar/nightjar.toml, if there is one]
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Set a key, over file and environment: --set mqtt.max_qos=1
    #[arg(long, value_name = "KEY=VALUE")]
    set: Vec<String>,
}

impl ConfigArgs {
    /// The options for reading; `before` are those written before the subcommand.
    fn options(&self, before: &Self) -> Options {
        Options {
            file: self.config.clone().or_else(|| before.config.clone()),
            set: before.set.iter().chain(&self.set).cloned().collect(),
            environment: Vec::new(),
        }
        .with_environment()
    }
}

/// What `serve` takes.
#[derive(Debug, clap::Args)]
struct ServeArgs {
    #[command(flatten)]
    config: ConfigArgs,
    /// What the node is for; a witness votes in its cluster and takes no clients
    #[arg(long, value_enum, default_value_t)]
    role: Role,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run the broker
    Serve(ServeArgs),
    /// Check configuration, ports, certificates, limits and ACL file without starting
    Check(ConfigArgs),
    /// Show the configuration and explain its keys
    Config(config::Args),
    /// Write nightjar.toml with every key and its default, and acl.conf
    Init(init::Args),
    /// Read a configuration of Mosquitto or EMQ X and write one of Nightjar
    Import(import::Args),
    /// Say what this host, or a load balancer in front of it, lacks for so many clients
    Doctor(doctor::Args),
    /// Say what a client may do by the configuration
    #[command(subcommand)]
    Acl(acl::Command),
    /// Make and show certificates
    #[command(subcommand)]
    Certs(certs::Command),
    /// Look into a data directory or a backup: what it holds, whether it is whole
    #[command(subcommand)]
    Store(store::Command),
    /// Ask and steer a running node
    Ctl(ctl::Args),
    /// Ask a running node whether it is well: exit code 0 or 6
    Healthcheck(ctl::HealthArgs),
    /// Publish messages, with mosquitto_pub's flags (-h is the host)
    #[command(disable_help_flag = true, disable_version_flag = true)]
    Pub(Box<nightjar_client::PubArgs>),
    /// Subscribe and print messages, with mosquitto_sub's flags (-h is the host)
    #[command(disable_help_flag = true, disable_version_flag = true)]
    Sub(Box<nightjar_client::SubArgs>),
    /// Measure a broker, with emqtt_bench's flags (-h is the host)
    #[command(disable_help_flag = true, disable_version_flag = true)]
    Bench(Box<nightjar_client::BenchArgs>),
    /// Show the version and what this program was built with
    Version,
    /// Write completions for a shell
    Completions {
        /// Shell
        shell: clap_complete::Shell,
    },
}

/// Runs the program: reads the command line, does it, says how it went.
pub fn run() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => {
            // Help and version are errors to clap, but go to standard output with code 0.
            let code = if error.use_stderr() { exit::USAGE } else { 0 };
            let _ = error.print();
            return ExitCode::from(code);
        }
    };
    let before = cli.config;
    let Some(command) = cli.command else {
        return exit::print(&Cli::command().render_long_help().to_string());
    };
    match command {
        Command::Serve(args) => serve(&args.config.options(&before), args.role),
        Command::Check(args) => check::run(&args.options(&before)),
        Command::Config(args) => config::run(&args, &before),
        Command::Init(args) => init::run(&args),
        Command::Import(args) => import::run(&args),
        Command::Doctor(args) => doctor::run(&args, &before),
        Command::Acl(command) => acl::run(&command, &before),
        Command::Certs(command) => certs::run(&command),
        Command::Store(command) => store::run(&command),
        Command::Ctl(args) => ctl::run(&args, &before),
        Command::Healthcheck(args) => ctl::health(&args, &before),
        Command::Pub(args) => nightjar_client::run_pub(&args),
        Command::Sub(args) => nightjar_client::run_sub(&args),
        Command::Bench(args) => nightjar_client::run_bench(&args),
        Command::Version => exit::print(&version::text()),
        Command::Completions { shell } => {
            let mut out = Vec::new();
            clap_complete::generate(shell, &mut Cli::command(), "nightjar", &mut out);
            exit::print(&String::from_utf8_lossy(&out))
        }
    }
}

/// `nightjar serve`: nothing starts unless the whole configuration is right.
fn serve(options: &Options, role: Role) -> ExitCode {
    let loaded = match crate::config::load(options) {
        Ok(loaded) => loaded,
        Err(errors) => return exit::fail(exit::USAGE, errors),
    };
    for warning in version::warnings(&loaded) {
        exit::warning(warning);
    }
    crate::start::serve(loaded, role)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }
}
