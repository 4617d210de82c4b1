//! Where other nodes may be: each way yields addresses to dial and nothing more. Who answers there proves itself by the
//! link.

mod dns;
mod mcast;
mod wire;

use std::fmt::Debug;
use std::future::Future;
use std::pin::Pin;

pub use dns::{Dns, DnsRecord};
pub use mcast::Mcast;

/// What a way of discovery promises.
pub type Finding<'a> = Pin<Box<dyn Future<Output = Result<Vec<String>, String>> + Send + 'a>>;

/// A way to find other nodes.
pub trait Discovery: Debug + Send + Sync + 'static {
    /// Addresses of links, as `host:port`. `own` is that of this node, for ways by which nodes tell of themselves.
    ///
    /// # Errors
    /// In words: who was asked and what came back. What was found before stays.
    fn find<'a>(&'a self, own: &'a str) -> Finding<'a>;

    /// This node stops: what it told of itself is taken back where that is possible.
    fn stop(&self) -> Pin<Box<dyn Future<Output = ()> + Send + '_>> {
        Box::pin(async {})
    }
}
