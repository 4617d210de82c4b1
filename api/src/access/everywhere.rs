//! What a cluster's nodes know together of accounts, API keys and tokens: values of the durable store, each under a name
//! of its own, so that changes on two nodes at a time do not undo each other.

use std::sync::Arc;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use nightjar_broker::Ticket;
use nightjar_broker::meta::MetaStore;
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::AccessError;

/// Time for a majority to take a change.
const PATIENCE: Duration = Duration::from_secs(5);
/// More than there can be of one kind.
const ALL: usize = 10_000;

/// Values of one kind; without a store (a node alone) there are none, and none can be set.
#[derive(Clone)]
pub struct Values {
    meta: Option<Arc<dyn MetaStore>>,
    prefix: &'static str,
}

impl std::fmt::Debug for Values {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Values({})", self.prefix)
    }
}

impl Values {
    /// The values whose names begin with `prefix`.
    pub const fn new(meta: Option<Arc<dyn MetaStore>>, prefix: &'static str) -> Self {
        Self { meta, prefix }
    }

    /// Is this node one of a cluster?
    pub const fn is_shared(&self) -> bool {
        self.meta.is_some()
    }

    fn path(&self, name: &str) -> String {
        format!("{}{name}", self.prefix)
    }

    /// One of them. What another version wrote and this one cannot read counts as not there.
    pub fn get<T: DeserializeOwned>(&self, name: &str) -> Option<T> {
        let value = self.meta.as_ref()?.value(&self.path(name))?;
        serde_json::from_slice(&value).ok()
    }

    /// All of them, by name.
    pub fn all<T: DeserializeOwned>(&self) -> Vec<(String, T)> {
        let Some(meta) = &self.meta else {
            return Vec::new();
        };
        let rows = meta.values(self.prefix, None, ALL).into_iter();
        rows.filter_map(|(path, value)| {
            let name = path.strip_prefix(self.prefix)?.to_owned();
            Some((name, serde_json::from_slice(&value).ok()?))
        })
        .collect()
    }

    /// Sets one; done when a majority has it.
    pub fn set(&self, name: &str, value: &impl Serialize) -> Ticket {
        match (&self.meta, serde_json::to_vec(value)) {
            (Some(meta), Ok(value)) => meta.set_value(&self.path(name), value),
            _ => Ticket::DONE,
        }
    }

    /// Removes one.
    pub fn remove(&self, name: &str) -> Ticket {
        self.meta
            .as_ref()
            .map_or(Ticket::DONE, |meta| meta.remove_value(&self.path(name)))
    }
}

/// Waits for a change.
///
/// # Errors
/// [`AccessError::NoMajority`]: it may still come about.
pub async fn committed(ticket: Ticket) -> Result<(), AccessError> {
    match tokio::time::timeout(PATIENCE, ticket.wait()).await {
        Ok(Ok(())) => Ok(()),
        _ => Err(AccessError::NoMajority),
    }
}

/// As [`committed`], off the workers.
///
/// # Errors
/// As there.
pub fn commit(ticket: Ticket) -> Result<(), AccessError> {
    if ticket.poll(None) == nightjar_broker::Progress::Done {
        return Ok(());
    }
    match tokio::runtime::Handle::try_current() {
        Ok(runtime) => runtime.block_on(committed(ticket)),
        Err(_) => Err(AccessError::NoMajority),
    }
}

/// A digest as the name of a value.
pub fn name_of(digest: &[u8; 32]) -> String {
    URL_SAFE_NO_PAD.encode(digest)
}
