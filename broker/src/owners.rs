//! To whom sessions belong, for `auth.bind_client_id`: named values `owner/<client id>` of durable sessions, and the
//! connections that are on their way.
//!
//! A transient session needs no value: it ends with its connection, whose client is known.

use std::collections::HashMap;
use std::sync::Arc;

use foldhash::fast::RandomState;
use parking_lot::Mutex;
use serde::{Deserialize, Serialize};

use crate::auth::Owner;
use crate::kept::Place;
use crate::ticket::Ticket;

/// Owners of the durable sessions of a node.
pub struct Owners {
    place: Place,
    /// Client identifiers that a connection is opening now, by whom, and how many such connections.
    opening: Mutex<HashMap<Arc<str>, (Owner, usize), RandomState>>,
}

#[derive(Serialize, Deserialize)]
struct Written {
    username: Option<String>,
    certificate: Option<String>,
}

fn key(client_id: &str) -> String {
    format!("owner/{client_id}")
}

/// Holds a client identifier for its owner while a session is opened: nobody else opens it meanwhile.
pub struct OwnerGuard<'a> {
    owners: &'a Owners,
    client_id: Arc<str>,
}

impl Drop for OwnerGuard<'_> {
    fn drop(&mut self) {
        let mut opening = self.owners.opening.lock();
        if let Some((_, count)) = opening.get_mut(&self.client_id) {
            *count -= 1;
            if *count == 0 {
                opening.remove(&self.client_id);
            }
        }
    }
}

impl Owners {
    pub(crate) fn new(place: Place) -> Self {
        Self {
            place,
            opening: Mutex::default(),
        }
    }

    /// Holds a client identifier for an owner. The owner that holds it now, if that is another one.
    pub fn hold(&self, client_id: &Arc<str>, owner: &Owner) -> Result<OwnerGuard<'_>, Owner> {
        let mut opening = self.opening.lock();
        match opening.get_mut(client_id) {
            Some((holder, _)) if holder != owner => return Err(holder.clone()),
            Some((_, count)) => *count += 1,
            None => {
                opening.insert(client_id.clone(), (owner.clone(), 1));
            }
        }
        Ok(OwnerGuard {
            owners: self,
            client_id: client_id.clone(),
        })
    }

    /// The owner of a durable session, if it was made while client identifiers were bound.
    #[must_use]
    pub fn find(&self, client_id: &str) -> Option<Owner> {
        let value = self.place.get()?.value(&key(client_id))?;
        let written: Written = serde_json::from_slice(&value).ok()?;
        Some(Owner {
            username: written.username.map(Into::into),
            certificate: written.certificate.map(Into::into),
        })
    }

    /// Writes down the owner of a durable session, unless it is known. Of a fresh session it is always written: the end of
    /// the one before may be on its way to remove it.
    #[must_use]
    pub fn set(&self, client_id: &str, owner: &Owner, fresh: bool) -> Ticket {
        let written = Written {
            username: owner.username.as_deref().map(Into::into),
            certificate: owner.certificate.as_deref().map(Into::into),
        };
        match (self.place.get(), serde_json::to_vec(&written)) {
            (Some(meta), Ok(value)) if fresh || self.find(client_id).as_ref() != Some(owner) => {
                meta.set_value(&key(client_id), value)
            }
            _ => Ticket::DONE,
        }
    }

    /// A session ended: it belongs to nobody.
    pub fn ended(&self, client_id: &str) {
        if let Some(meta) = self.place.get() {
            let key = key(client_id);
            if meta.value(&key).is_some() {
                // Nobody waits for it: a value that stays is overwritten or removed the next time.
                drop(meta.remove_value(&key));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kept::Kept;
    use crate::meta::MemoryMeta;

    fn owner(name: &str) -> Owner {
        Owner {
            username: Some(name.into()),
            certificate: None,
        }
    }

    #[test]
    fn a_client_identifier_is_held_by_one_owner_and_its_session_stays_with_it() {
        let kept = Kept::default();
        kept.open(Arc::new(MemoryMeta::default()));
        let owners = kept.owners();
        let id: Arc<str> = "meter".into();
        let first = owners.hold(&id, &owner("ann"));
        let again = owners.hold(&id, &owner("ann"));
        assert!(first.is_ok() && again.is_ok());
        drop(first);
        assert_eq!(owners.hold(&id, &owner("eve")).err(), Some(owner("ann")));
        drop(again);
        assert!(owners.hold(&id, &owner("eve")).is_ok());
        assert!(owners.opening.lock().is_empty());
        drop(owners.set(&id, &owner("ann"), true));
        assert_eq!(owners.find(&id), Some(owner("ann")));
        owners.ended(&id);
        assert_eq!(owners.find(&id), None);
    }
}
