//! `ctl backup` and `ctl restore`: everything durable of a node in one file, and back.
//!
//! A backup is made by the running node. A restore needs the node stopped: it makes the data directory anew.

use std::path::PathBuf;
use std::process::ExitCode;

use nightjar_cluster::{self as cluster, Error, RestoreOptions};
use serde_json::json;

use super::{Ask, ConfigArgs, NodeArgs};
use crate::cli::exit;
use crate::cli::output::{Format, Output};
use crate::config;

/// Verbs about backups.
#[derive(Debug, clap::Subcommand)]
pub enum Command {
    /// Write sessions, queues, retained messages, users and bans into one file, while the node serves
    Backup {
        /// File to make; nothing is overwritten
        file: PathBuf,
    },
}

/// Make the data directory of a stopped node from a backup.
#[derive(Debug, clap::Args)]
pub struct RestoreArgs {
    /// File that `ctl backup` made
    file: PathBuf,
    /// Take the backup of a node of another name
    #[arg(long)]
    rename: bool,
}

impl Command {
    /// What it asks of the node.
    pub fn ask(&self) -> Ask {
        match self {
            Self::Backup { file } => {
                // The node has another working directory.
                let file = std::path::absolute(file).unwrap_or_else(|_| file.clone());
                Ask::new("backup", json!({ "file": file })).hides_rows()
            }
        }
    }
}

/// Restores; everything that speaks against it is found before anybody is asked.
pub(super) fn restore(
    args: &RestoreArgs,
    node: &NodeArgs,
    format: Format,
    yes: bool,
    before: &ConfigArgs,
) -> ExitCode {
    let mut arguments = ConfigArgs {
        config: node.config.clone(),
        set: Vec::new(),
    };
    if let Some(dir) = &node.data_dir {
        arguments
            .set
            .push(format!("node.data_dir={}", dir.display()));
    }
    let loaded = match config::load(&arguments.options(before)) {
        Ok(loaded) => loaded,
        Err(errors) => return exit::fail(exit::USAGE, errors),
    };
    let node = &loaded.config.node;
    let dir = node.data_dir.join("store");
    let mut options = RestoreOptions {
        node: node.name.as_str().to_owned(),
        rename: args.rename,
        replace: false,
    };
    let mut result = cluster::restore(&args.file, &dir, &options);
    if let Err(Error::Occupied { dir, node }) = &result {
        let what = format!(
            "the data of node {node:?} in {} (it is moved aside, and not used any more)",
            dir.display()
        );
        let ask = Ask::new("restore", json!({})).destroys(what);
        if let Err(refusal) = ask.allowed(yes) {
            return exit::fail(exit::REFUSED, refusal);
        }
        options.replace = true;
        result = cluster::restore(&args.file, dir, &options);
    }
    let done = match result {
        Ok(done) => done,
        Err(error) => return refused(&error),
    };
    let end = json!({
        "restored": args.file,
        "into": dir,
        "sessions": done.backup.sessions,
        "queued": done.backup.queued,
        "retained": done.backup.retained,
        "values": done.backup.values,
        "aside": done.aside,
    });
    exit::print(&Output::new(format).end(end))
}

fn refused(error: &Error) -> ExitCode {
    let (code, help) = match error {
        Error::InUse { .. } => (exit::REFUSED, "stop the node first"),
        Error::Foreign { what: "node", .. } => (
            exit::REFUSED,
            "set node.name to that name, or say --rename to give the data this node's name",
        ),
        Error::Foreign { .. } => (
            exit::REFUSED,
            "name another data directory, or move this one away yourself",
        ),
        Error::NotOurs { .. } | Error::Occupied { .. } => {
            (exit::REFUSED, "name an empty directory as node.data_dir")
        }
        Error::Io { source, .. } if source.kind() == std::io::ErrorKind::NotFound => {
            (exit::NOT_FOUND, "name a file that `ctl backup` made")
        }
        Error::Backup { .. } => (exit::FAILED, "take an older backup"),
        _ => (exit::FAILED, "nothing was replaced"),
    };
    exit::fail(code, format!("{error}\n  help: {help}"))
}
