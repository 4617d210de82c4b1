//! The PROXY protocol, versions 1 and 2 (HAProxy's proxy-protocol.txt, 2020/03/05): who a connection that came
//! through a balancer really comes from. [`parse`] is pure; [`read`] takes exactly the header off a socket.

pub mod parse;
pub mod read;

pub use parse::{ProxyError, ProxyHeader, ProxyTls};
