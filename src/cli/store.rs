//! `nightjar store check | dump`: what a data directory or a backup holds, without starting anything.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use nightjar_cluster::{self as cluster, Error};

use super::exit;

/// Look into a data directory or a backup.
#[derive(Debug, clap::Subcommand)]
pub enum Command {
    /// Say what it holds and whether it is whole: exit code 0 if so, 1 if not, 3 if there is nothing
    Check {
        /// Data directory of a node, or the file of a backup
        path: PathBuf,
    },
    /// Write out every session and every entry of the log in words; payloads are given by their length
    Dump {
        /// Data directory of a node
        path: PathBuf,
    },
}

/// Runs it.
pub fn run(command: &Command) -> ExitCode {
    match command {
        Command::Check { path } => check(path),
        Command::Dump { path } => dump(&directory(path)),
    }
}

/// The store below a node's data directory, if that is what is meant.
pub fn directory(path: &Path) -> PathBuf {
    let below = path.join("store");
    if !path.join("identity").exists() && below.is_dir() {
        below
    } else {
        path.to_owned()
    }
}

fn check(path: &Path) -> ExitCode {
    if path.is_file() {
        return match cluster::inspect(path) {
            Ok(backup) => {
                let whose = &backup.identity;
                exit::print(&format!(
                    "{}: backup of node {:?}, cluster {}, made {} s after 1970 began\n\
                     {} sessions, {} queued messages, {} retained messages, {} values, {} bytes\nverdict: whole\n",
                    path.display(),
                    whose.node,
                    whose.cluster,
                    backup.made.0 / 1000,
                    backup.sessions,
                    backup.queued,
                    backup.retained,
                    backup.values,
                    backup.bytes
                ))
            }
            Err(error) => failed(path, &error),
        };
    }
    match cluster::check(&directory(path)) {
        Ok(report) => {
            let printed = exit::print(&report.text);
            if report.problems.is_empty() {
                return printed;
            }
            let help = "restore a backup, or start with node.recovery = \"accept_loss\" to keep what stands before the damage";
            exit::fail(
                exit::FAILED,
                format!("{} is not whole\n  help: {help}", path.display()),
            )
        }
        Err(error) => failed(path, &error),
    }
}

fn dump(dir: &Path) -> ExitCode {
    let mut out = std::io::BufWriter::new(std::io::stdout().lock());
    let mut gone = None;
    let result = cluster::dump(dir, &mut |line| {
        // Topics and client ids are of a client's making.
        let clean: String = line
            .chars()
            .map(|c| if c.is_control() { '\u{fffd}' } else { c })
            .collect();
        if gone.is_none() {
            gone = writeln!(out, "{clean}").err();
        }
    });
    let gone = gone.or_else(|| out.flush().err());
    match (result, gone) {
        (Err(error), _) => failed(dir, &error),
        (Ok(()), Some(error)) if error.kind() != std::io::ErrorKind::BrokenPipe => exit::fail(
            exit::FAILED,
            format!("cannot write to standard output: {error}"),
        ),
        (Ok(()), _) => ExitCode::SUCCESS,
    }
}

fn failed(path: &Path, error: &Error) -> ExitCode {
    if !path.exists() || matches!(error, Error::NotOurs { .. }) {
        let help = "name the data directory of a node (node.data_dir), or the file of a backup";
        return exit::fail(exit::NOT_FOUND, format!("{error}\n  help: {help}"));
    }
    exit::fail(exit::FAILED, error)
}
