//! `nightjar doctor`: what this host, and a load balancer in front of it, lack for so many clients.
//!
//! [`host`] reads the system's limits, [`haproxy`] and [`nginx`] read a balancer's configuration and [`balancer`] holds
//! it against keep alive and the listeners. Nothing is changed; `--write` makes the file that would.

mod balancer;
mod haproxy;
mod host;
mod nginx;

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use serde_json::json;

use super::output::{Format, Output};
use super::{ConfigArgs, exit};
use crate::config;
use crate::config::units;

/// Exit code when the file to write is there.
const REFUSED: u8 = 4;

/// Say what this host, or a load balancer in front of it, lacks.
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(flatten)]
    config: ConfigArgs,
    /// Clients at once that the host shall bear [default: what the listeners promise, or 100000]
    #[arg(long, value_name = "N")]
    connections: Option<u64>,
    /// A haproxy.cfg or nginx.conf to hold against the configuration; may be given more than once
    #[arg(long, value_name = "FILE")]
    proxy: Vec<PathBuf>,
    /// Longest keep alive of the clients [default: mqtt.server_keep_alive, or 60s]
    #[arg(long, value_name = "TIME")]
    keep_alive: Option<units::Duration>,
    /// Write the kernel settings as a file for /etc/sysctl.d; `-` is standard output
    #[arg(long, value_name = "FILE")]
    write: Option<PathBuf>,
    /// Replace the file if it exists
    #[arg(long)]
    force: bool,
    /// Form of the table
    #[arg(long, value_enum, default_value = "table")]
    output: Format,
}

/// What one look found.
#[derive(Debug)]
struct Finding {
    /// What was looked at: a kernel setting, or a place in a file.
    what: String,
    /// What is there.
    is: String,
    /// What it should be; empty if it is enough.
    wanted: String,
    /// Why, or what to do.
    note: String,
}

impl Finding {
    fn new(what: impl Into<String>, is: impl Into<String>, note: impl Into<String>) -> Self {
        Self {
            what: what.into(),
            is: is.into(),
            wanted: String::new(),
            note: note.into(),
        }
    }

    fn wants(mut self, wanted: impl Into<String>) -> Self {
        self.wanted = wanted.into();
        self
    }

    fn lacking(&self) -> bool {
        !self.wanted.is_empty()
    }
}

/// Runs the command: 0 if nothing is lacking, else 1.
pub fn run(args: &Args, before: &ConfigArgs) -> ExitCode {
    let loaded = match config::read(&args.config.options(before)) {
        Ok((loaded, _)) => loaded,
        Err(errors) => return exit::fail(exit::USAGE, errors),
    };
    let config = &loaded.config;
    let promised: u64 = config
        .listeners
        .streams()
        .filter_map(|it| it.stream.max_connections.get().map(u64::from))
        .sum();
    let connections = match args.connections {
        Some(count) => count,
        None if promised > 0 => promised,
        None => 100_000,
    };
    let needs = host::needs(config, connections);
    if let Some(path) = &args.write {
        return write(path, &host::sysctl_file(&needs, connections), args.force);
    }
    let mut findings = host::look(Path::new("/proc"), &needs, connections);
    let keep_alive = args
        .keep_alive
        .or_else(|| config.mqtt.server_keep_alive.get())
        .map_or(Duration::from_secs(60), units::Duration::get);
    for path in &args.proxy {
        match balancer::look(path, config, keep_alive, connections) {
            Ok(more) => findings.extend(more),
            Err(why) => return exit::fail(exit::USAGE, why),
        }
    }
    show(&findings, args.output);
    if findings.iter().any(Finding::lacking) {
        if args.output == Format::Table {
            anstream::eprintln!(
                "for {connections} clients; `nightjar doctor --write /etc/sysctl.d/60-nightjar.conf` makes the file of kernel \
                 settings, `sysctl --system` applies it"
            );
        }
        ExitCode::from(exit::FAILED)
    } else {
        ExitCode::SUCCESS
    }
}

fn show(findings: &[Finding], format: Format) {
    let mut output = Output::new(format);
    output.columns(["what", "is", "wanted", "note"].map(str::to_owned).to_vec());
    for it in findings {
        let wanted = if it.lacking() { &it.wanted } else { "ok" };
        let row = json!({ "what": it.what, "is": it.is, "wanted": wanted, "note": it.note });
        if let Some(line) = output.row(row) {
            exit::print(&line);
        }
    }
    exit::print(&output.end(serde_json::Value::Null));
}

fn write(path: &Path, text: &str, force: bool) -> ExitCode {
    if path.as_os_str() == "-" {
        return exit::print(text);
    }
    if path.exists() && !force {
        return exit::fail(
            REFUSED,
            format!("{} exists\n  help: replace it with --force", path.display()),
        );
    }
    match nightjar_gateway::tls::generate::write_public(path, text.as_bytes()) {
        Ok(()) => {
            anstream::eprintln!("wrote {}; `sysctl --system` applies it", path.display());
            ExitCode::SUCCESS
        }
        Err(error) => exit::fail(
            exit::FAILED,
            format!(
                "{}: {error}\n  help: /etc/sysctl.d needs root",
                path.display()
            ),
        ),
    }
}
