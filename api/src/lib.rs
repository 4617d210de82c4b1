//! The HTTP API of one node: resources under `/api/v1` with an OpenAPI description, the calls that scripts for EMQX
//! make under `/api/v5`, `/metrics`, `/status`, `/healthz`, `/readyz`, live figures over a WebSocket, and the
//! dashboard's files.
//!
//! The crate knows the broker. What else a node has (listeners, configuration, users, a cluster) it asks of a [`Host`],
//! which the executable implements.
#![forbid(unsafe_code)]

mod access;
mod assets;
mod error;
mod extract;
mod history;
mod host;
mod live;
mod metrics;
mod process;
mod routes;
mod server;
mod shared;
mod traces;

pub use access::{AccessError, Accounts, Role, random_password};
pub use error::{ApiError, ErrorBody};
pub use host::{
    Ban, BanSubject, ConfigEntry, ConfigView, Host, HostError, HostFuture, ListenerView, NewUser,
    NodeSummary, Policies, Settings, TlsView, UserView,
};
pub use routes::trace_view;
pub use server::{Server, ServerError};
pub use shared::Shared;
