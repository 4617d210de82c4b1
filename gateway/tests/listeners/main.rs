//! Listeners from outside: real sockets on loopback, through every handshake, to an echo behind `Transport`.

// Helpers of tests fail as tests do.
#![allow(clippy::unwrap_used)]

mod clients;
mod limits;
mod node;
mod proxy;
mod streams;
mod tls;
mod websocket;
