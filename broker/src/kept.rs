//! What the node keeps itself about who may do what: builtin users, builtin rules, bans.

use std::sync::{Arc, OnceLock};

use crate::acl::BuiltinRules;
use crate::auth::Users;
use crate::bans::Bans;
use crate::meta::MetaStore;
use crate::owners::Owners;

/// Where the named values are: empty until the durable backend is open.
pub(crate) type Place = Arc<OnceLock<Arc<dyn MetaStore>>>;

/// Builtin users, builtin rules and bans of a node. Clones share them.
///
/// They can be named by authenticators and sources before the durable backend is open; [`Kept::open`] fills them.
#[derive(Clone)]
pub struct Kept {
    place: Place,
    users: Arc<Users>,
    rules: Arc<BuiltinRules>,
    bans: Arc<Bans>,
    owners: Arc<Owners>,
}

impl Default for Kept {
    fn default() -> Self {
        let place = Place::default();
        Self {
            users: Arc::new(Users::new(place.clone())),
            rules: Arc::new(BuiltinRules::new(place.clone())),
            bans: Arc::new(Bans::new(place.clone())),
            owners: Arc::new(Owners::new(place.clone())),
            place,
        }
    }
}

impl Kept {
    /// Says where the values are, and reads what stands there. The first call counts.
    pub fn open(&self, meta: Arc<dyn MetaStore>) {
        if self.place.set(meta.clone()).is_ok() {
            // Watching before reading: what changes in between is heard of, and setting it twice changes nothing.
            meta.watch(self.rules.clone());
            meta.watch(self.bans.clone());
            self.rules.read_all();
            self.bans.read_all();
        }
    }

    /// Where the values are; `None` before [`Self::open`].
    #[must_use]
    pub fn meta(&self) -> Option<&Arc<dyn MetaStore>> {
        self.place.get()
    }

    /// Builtin users.
    #[must_use]
    pub const fn users(&self) -> &Arc<Users> {
        &self.users
    }

    /// Builtin rules.
    #[must_use]
    pub const fn rules(&self) -> &Arc<BuiltinRules> {
        &self.rules
    }

    /// Bans.
    #[must_use]
    pub const fn bans(&self) -> &Arc<Bans> {
        &self.bans
    }

    /// To whom durable sessions belong.
    #[must_use]
    pub const fn owners(&self) -> &Arc<Owners> {
        &self.owners
    }
}

impl std::fmt::Debug for Kept {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Kept(..)")
    }
}
