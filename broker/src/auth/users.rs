//! Builtin users in the durable backend, as values named `user/name/<name>` and `user/client/<client id>`.

use std::sync::Arc;

use super::store::{StoreError, User, UserKind, UserStore};
use crate::access::BoxFuture;
use crate::kept::Place;

/// The builtin users of a node.
pub struct Users {
    place: Place,
}

/// Longest name: an MQTT string.
const MAX_NAME: usize = 65_535;

const fn prefix(kind: UserKind) -> &'static str {
    match kind {
        UserKind::Username => "user/name/",
        UserKind::ClientId => "user/client/",
    }
}

fn key(kind: UserKind, name: &str) -> String {
    format!("{}{name}", prefix(kind))
}

fn read(value: &[u8]) -> Option<Arc<User>> {
    match serde_json::from_slice(value) {
        Ok(user) => Some(Arc::new(user)),
        Err(error) => {
            tracing::error!("a stored user cannot be read, and is left out: {error}");
            None
        }
    }
}

fn closed() -> StoreError {
    StoreError::Unavailable("the durable backend is not open".to_owned())
}

impl Users {
    pub(crate) const fn new(place: Place) -> Self {
        Self { place }
    }
}

impl UserStore for Users {
    fn find(&self, kind: UserKind, name: &str) -> Option<Arc<User>> {
        let value = self.place.get()?.value(&key(kind, name))?;
        read(&value)
    }

    fn list(&self, kind: UserKind, after: Option<&str>, limit: usize) -> Vec<Arc<User>> {
        let Some(meta) = self.place.get() else {
            return Vec::new();
        };
        let after = after.map(|name| key(kind, name));
        let page = meta.values(prefix(kind), after.as_deref(), limit);
        page.iter().filter_map(|(_, value)| read(value)).collect()
    }

    fn put(&self, user: User) -> BoxFuture<'_, Result<(), StoreError>> {
        Box::pin(async move {
            if user.name.is_empty() || user.name.len() > MAX_NAME {
                return Err(StoreError::Name(user.name.len()));
            }
            let meta = self.place.get().ok_or_else(closed)?;
            let failed = |error: &dyn std::fmt::Display| StoreError::Unavailable(error.to_string());
            let value = serde_json::to_vec(&user).map_err(|error| failed(&error))?;
            let ticket = meta.set_value(&key(user.kind, &user.name), value);
            ticket.wait().await.map_err(|code| failed(&code.as_str()))
        })
    }

    fn remove<'a>(
        &'a self,
        kind: UserKind,
        name: &'a str,
    ) -> BoxFuture<'a, Result<bool, StoreError>> {
        Box::pin(async move {
            let meta = self.place.get().ok_or_else(closed)?;
            let key = key(kind, name);
            if meta.value(&key).is_none() {
                return Ok(false);
            }
            let ticket = meta.remove_value(&key);
            let done = ticket.wait().await;
            done.map_err(|code| StoreError::Unavailable(code.as_str().to_owned()))?;
            Ok(true)
        })
    }
}
