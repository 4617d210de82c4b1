//! MQTT-SN over UDP: what stands behind `pub --sn` and `sub --sn`.
//!
//! The protocol is [`nightjar_mqttsn::client::Client`], which has neither socket nor clock. [`link`] gives it both;
//! [`args`] turns flags into what it is told, [`publish`] and [`subscribe`] are the two commands.

pub mod args;
mod debug;
pub mod link;
pub mod publish;
pub mod subscribe;

pub use args::{SnArgs, SnTarget};
pub use link::Link;

/// The UDP port when none is given.
pub const DEFAULT_PORT: u16 = 1884;
