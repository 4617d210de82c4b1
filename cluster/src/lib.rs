//! The durable half of Nightjar's backend: [`NodeStore`] is a [`nightjar_broker::DurableStore`] whose entries stand
//! in a synced log before anything is acknowledged, and are found again after kill -9 and power loss.
//!
//! The way of an entry: submitted by a connection and encoded on its thread (`pending`), written with everything
//! else that waits as one batch and synced once (`writer`), applied to its shard in log order by a worker (`apply`),
//! which completes the ticket on which the acknowledgement waits. `keeper` writes snapshots and the durable mark;
//! `recover` puts state together again from both.
#![forbid(unsafe_code)]

mod apply;
mod backup;
mod bodies;
mod check;
mod config;
mod dir;
mod discovery;
mod durable;
mod error;
mod files;
mod frozen;
mod ground;
mod inner;
mod keeper;
mod leisure;
mod links;
mod log;
mod mark;
mod member;
mod meta;
mod node;
mod pending;
mod raft;
mod recover;
mod routes;
mod scan;
mod snapshot;
mod spill;
mod store;
mod watched;
mod wills;
mod writer;

pub use backup::{Backup, RestoreOptions, Restored, inspect, restore};
pub use check::{Report, check, dump};
pub use config::{Disk, Durability, Recovery, StoreConfig};
pub use dir::Identity;
pub use discovery::{Discovery, Dns, DnsRecord, Finding, Mcast};
pub use error::Error;
pub use files::{DiskFiles, Files};
pub use ground::{Ground, Halves, Later, Listener, Stream, System};
pub use links::TlsFiles;
pub use log::{EachEntry, GroupEntry, GroupLog, RaftLog};
pub use meta::MetaEntry;
pub use node::{ClusterNode, ClusterSettings, Move, NodeStatus, Phase, Status, Verdict};
pub use raft_engine::env as log_env;
pub use recover::Recovered;
pub use routes::RouteStatus;
pub use store::NodeStore;
