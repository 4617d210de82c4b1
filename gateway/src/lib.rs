//! Protocol front-ends of Nightjar: everything between a client's socket and the routing backend.
//!
//! [`listener`] binds sockets and brings a connection through PROXY header ([`proxy_protocol`]), TLS ([`tls`]) and
//! WebSocket handshake ([`websocket`]) to a [`transport::Transport`]; [`workers`] is the runtime all of it runs on.

pub mod cidr;
pub mod error;
pub mod listener;
pub mod log_limit;
pub mod mqtt;
pub mod mqttsn;
pub mod proxy_protocol;
pub mod sniff;
pub mod tls;
pub mod transport;
pub mod websocket;
pub mod workers;

pub use error::GatewayError;
pub use listener::{Accepted, ListenerKind, ListenerSettings, Listeners};
pub use transport::Transport;
pub use workers::Workers;
