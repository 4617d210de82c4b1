//! Lists for operators: clients, subscriptions, topics, by cursor.
//!
//! Nothing here touches the router or a queue that messages pass: a list is made from a copy of the client table and
//! each session's own table of subscriptions, which only SUBSCRIBE and UNSUBSCRIBE of that client use otherwise. A page
//! costs one walk over all clients, whatever its cursor; walks are CPU-bound, so callers do them off the workers and a
//! few at a time.

mod access;
mod clients;
mod explain;
mod topics;

pub use access::{AccessAdmin, AccessQuestion, AdminError, UserChange, UserView};
pub use clients::SubscriptionRow;
pub use explain::{ExplainStep, Explained};
pub use topics::{TopicRow, TreeRow};

/// A page of a list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Page<T> {
    /// Its entries, in order.
    pub rows: Vec<T>,
    /// Is there more behind them?
    pub more: bool,
}

impl<T> Page<T> {
    /// Cuts a list that holds one more than was asked for.
    fn cut(mut rows: Vec<T>, limit: usize) -> Self {
        let more = rows.len() > limit;
        rows.truncate(limit);
        Self { rows, more }
    }
}
