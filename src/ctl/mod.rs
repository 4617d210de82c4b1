//! `nightjar ctl`: a conversation with a running node over the Unix socket `data_dir/ctl.sock`.
//!
//! The protocol is lines of JSON, see [`protocol`]. [`server`] answers with the verbs of a [`Registry`]; each part of
//! the broker adds its own. [`client`] asks, without a runtime: a command must end in milliseconds.

pub mod client;
pub mod protocol;
pub mod remote;
pub mod server;

pub use client::Client;
pub use protocol::{CtlError, ErrorCode};
pub use remote::Remote;
pub use server::{CtlServer, CtlVerb, Registry, Rows, VerbFuture};

/// Name of the socket inside `data_dir`.
pub const SOCKET: &str = "ctl.sock";
