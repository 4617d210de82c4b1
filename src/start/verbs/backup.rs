//! `backup`: everything durable of this node in one file.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use nightjar_cluster::Error;
use serde_json::{Value, json};

use crate::ctl::{CtlError, ErrorCode};
use crate::ctl::{CtlVerb, Registry, Rows, VerbFuture};
use crate::start::Node;
use crate::start::store::Store;

/// So often whoever asked hears that it goes on: a large backup takes longer than patience lasts.
const SIGN_OF_LIFE: Duration = Duration::from_secs(5);

/// Adds `backup`.
pub fn add(registry: &mut Registry, node: &Arc<Node>) {
    let about = "write sessions, queues, retained messages, users and bans into one file";
    registry.add("backup", about, Backup(node.store.clone()));
}

struct Backup(Arc<Store>);

impl CtlVerb for Backup {
    fn run<'a>(&'a self, args: Value, rows: &'a mut Rows<'_>) -> VerbFuture<'a> {
        Box::pin(async move {
            let file = args["file"].as_str().map(PathBuf::from);
            let Some(file) = file.filter(|file| file.is_absolute()) else {
                return Err(CtlError::new(
                    ErrorCode::Usage,
                    "file must be an absolute path",
                ));
            };
            let mut work = match &*self.0 {
                Store::Log(store) => {
                    let store = store.clone();
                    tokio::task::spawn_blocking(move || store.backup(&file))
                }
                Store::Cluster(_, node) => {
                    let node = node.clone();
                    tokio::spawn(async move { node.backup(file).await })
                }
                Store::Memory(_) => {
                    let why = "durability is \"memory\": there is nothing to back up";
                    return Err(CtlError::new(ErrorCode::Refused, why)
                        .help("set durability to \"sync\" or \"async\" and restart"));
                }
            };
            let done = loop {
                match tokio::time::timeout(SIGN_OF_LIFE, &mut work).await {
                    Ok(done) => break done,
                    Err(_) => {
                        rows.row(&json!({ "state": "writing" })).await?;
                        rows.flush().await?;
                    }
                }
            };
            let backup = done
                .map_err(|error| CtlError::new(ErrorCode::Failed, error.to_string()))?
                .map_err(|error| refused(&error))?;
            Ok(json!({
                "file": backup.path,
                "bytes": backup.bytes,
                "sessions": backup.sessions,
                "queued": backup.queued,
                "retained": backup.retained,
                "values": backup.values,
            }))
        })
    }
}

fn refused(error: &Error) -> CtlError {
    match error {
        Error::Io { source, .. } if source.kind() == std::io::ErrorKind::AlreadyExists => {
            CtlError::new(ErrorCode::Refused, error.to_string())
                .help("name a file that does not exist")
        }
        Error::Io { .. } => CtlError::new(ErrorCode::Failed, error.to_string())
            .help("the node writes the file: it must be allowed to, and have room there"),
        _ => CtlError::new(ErrorCode::Failed, error.to_string())
            .help("try again; the node's log says more"),
    }
}
