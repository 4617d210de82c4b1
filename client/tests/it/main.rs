//! Tests of the client as its users see it: connections, `pub`, `sub` and `bench`.
//!
//! They run against a small broker inside the test process, which can be told to misbehave, and the
//! same ones against Mosquitto where it is installed; where it is not, that is printed.

#![allow(clippy::unwrap_used)]

mod bench;
mod broker;
mod commands;
mod connection;
mod mosquitto;
mod sn;
mod sn_gateway;
mod transports;
