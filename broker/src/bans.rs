//! Bans: clients, users and addresses that may not connect, for a time or for good.
//!
//! They are named values of the durable backend (`ban/clientid/<id>`, `ban/username/<name>`, `ban/address/<network>`), so
//! they survive a restart and hold on every node. CONNECT asks [`Bans::find`] before any authenticator; a ban that begins
//! ends the connections it speaks of.

use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use foldhash::fast::RandomState;
use parking_lot::{Mutex, RwLock};
use serde::{Deserialize, Serialize};

use crate::access::ClientInfo;
use crate::acl::Cidr;
use crate::kept::Place;
use crate::meta::MetaWatcher;
use crate::ticket::Ticket;
use crate::time::Timestamp;

const PREFIX: &str = "ban/";
/// More bans than this are refused: each is looked at when it is over.
const MAX_BANS: usize = 1 << 20;
/// Longest name: an MQTT string.
const MAX_NAME: usize = 65_535;

/// What a ban speaks of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum BanKind {
    /// A client identifier.
    ClientId,
    /// A user name.
    Username,
    /// An address or a network.
    Address,
}

impl BanKind {
    /// The word in names and answers.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::ClientId => "clientid",
            Self::Username => "username",
            Self::Address => "address",
        }
    }
}

impl fmt::Display for BanKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A ban.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ban {
    /// What it speaks of.
    pub kind: BanKind,
    /// Client identifier, user name, address or network.
    pub who: String,
    /// Why, for people.
    pub reason: String,
    /// Who made it: `ctl`, `api`, `flapping`.
    pub by: String,
    /// When it was made.
    pub at: Timestamp,
    /// When it is over; [`Timestamp::NEVER`] for good.
    pub until: Timestamp,
}

/// What is written of a ban beside its name.
#[derive(Serialize, Deserialize)]
struct Written {
    reason: String,
    by: String,
    at: u64,
    /// `None` for good.
    until: Option<u64>,
}

/// Why a ban is not taken.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum BanError {
    /// The name is empty, too long, or no address.
    #[error("{0}")]
    Who(String),
    /// There are as many as there may be.
    #[error("expected at most {MAX_BANS} bans")]
    TooMany,
    /// The backend cannot commit now; a retry may help.
    #[error("the bans' store cannot write now: {0}")]
    Unavailable(String),
}

#[derive(Default)]
struct Table {
    clients: HashMap<Box<str>, Arc<Ban>, RandomState>,
    users: HashMap<Box<str>, Arc<Ban>, RandomState>,
    networks: HashMap<Cidr, Arc<Ban>, RandomState>,
    /// How many networks there are of each prefix length, IPv4 or not: what an address is looked up by.
    prefixes: BTreeMap<(bool, u8), usize>,
}

impl Table {
    fn get(&self, kind: BanKind, who: &str) -> Option<&Arc<Ban>> {
        match kind {
            BanKind::ClientId => self.clients.get(who),
            BanKind::Username => self.users.get(who),
            BanKind::Address => self.networks.get(&Cidr::parse(who)?.network()),
        }
    }

    fn remove(&mut self, kind: BanKind, who: &str) -> Option<Arc<Ban>> {
        match kind {
            BanKind::ClientId => self.clients.remove(who),
            BanKind::Username => self.users.remove(who),
            BanKind::Address => {
                let network = Cidr::parse(who)?.network();
                let removed = self.networks.remove(&network)?;
                let key = (network.is_v4(), network.prefix());
                if let Some(count) = self.prefixes.get_mut(&key) {
                    *count -= 1;
                    if *count == 0 {
                        self.prefixes.remove(&key);
                    }
                }
                Some(removed)
            }
        }
    }

    fn insert(&mut self, ban: Arc<Ban>) {
        self.remove(ban.kind, &ban.who);
        match ban.kind {
            BanKind::ClientId => {
                self.clients.insert(ban.who.as_str().into(), ban);
            }
            BanKind::Username => {
                self.users.insert(ban.who.as_str().into(), ban);
            }
            BanKind::Address => {
                let Some(network) = Cidr::parse(&ban.who) else {
                    return;
                };
                let network = network.network();
                *self
                    .prefixes
                    .entry((network.is_v4(), network.prefix()))
                    .or_default() += 1;
                self.networks.insert(network, ban);
            }
        }
    }

    fn len(&self) -> usize {
        self.clients.len() + self.users.len() + self.networks.len()
    }

    fn all(&self) -> impl Iterator<Item = &Arc<Ban>> {
        let named = self.clients.values().chain(self.users.values());
        named.chain(self.networks.values())
    }

    fn by_address(&self, address: IpAddr, now: Timestamp) -> Option<&Arc<Ban>> {
        let address = address.to_canonical();
        let lengths = self.prefixes.keys();
        lengths
            .filter(|(v4, _)| *v4 == address.is_ipv4())
            .filter_map(|(_, prefix)| self.networks.get(&Cidr::new(address, *prefix)?.network()))
            .find(|ban| ban.until > now)
    }
}

/// What is told of a ban that begins.
type Tell = Box<dyn Fn(&Ban) + Send + Sync>;

/// The bans of a node.
pub struct Bans {
    place: Place,
    table: RwLock<Table>,
    /// Size of the table: nobody is banned on most nodes, and then nothing is locked.
    count: AtomicUsize,
    on_ban: Mutex<Option<Tell>>,
}

impl Ban {
    /// Does it speak of this client?
    #[must_use]
    pub fn speaks_of(&self, client: &ClientInfo) -> bool {
        match self.kind {
            BanKind::ClientId => *client.client_id == *self.who,
            BanKind::Username => client.username.as_deref() == Some(&*self.who),
            BanKind::Address => {
                Cidr::parse(&self.who).is_some_and(|network| network.contains(client.peer.ip()))
            }
        }
    }

    fn key(&self) -> String {
        key(self.kind, &self.who)
    }

    fn write(&self) -> Result<Vec<u8>, BanError> {
        let written = Written {
            reason: self.reason.clone(),
            by: self.by.clone(),
            at: self.at.0,
            until: (self.until != Timestamp::NEVER).then_some(self.until.0),
        };
        serde_json::to_vec(&written).map_err(|error| BanError::Unavailable(error.to_string()))
    }

    fn read(kind: BanKind, who: &str, value: &[u8]) -> Option<Self> {
        let written: Written = serde_json::from_slice(value).ok()?;
        Some(Self {
            kind,
            who: who.to_owned(),
            reason: written.reason,
            by: written.by,
            at: Timestamp(written.at),
            until: written.until.map_or(Timestamp::NEVER, Timestamp),
        })
    }
}

fn key(kind: BanKind, who: &str) -> String {
    format!("{PREFIX}{kind}/{who}")
}

/// Kind and name of a value's name.
fn named(key: &str) -> Option<(BanKind, &str)> {
    let (kind, who) = key.strip_prefix(PREFIX)?.split_once('/')?;
    let kinds = [BanKind::ClientId, BanKind::Username, BanKind::Address];
    let kind = kinds.into_iter().find(|known| known.as_str() == kind)?;
    Some((kind, who))
}

/// The form a name is kept in: of addresses the network.
fn checked(kind: BanKind, who: &str) -> Result<String, BanError> {
    match kind {
        BanKind::Address => match Cidr::parse(who) {
            Some(network) => Ok(network.network().to_string()),
            None => Err(BanError::Who(format!(
                "expected an address or a network such as 10.0.0.0/8, got {who:?}"
            ))),
        },
        _ if who.is_empty() || who.len() > MAX_NAME => Err(BanError::Who(format!(
            "expected a {kind} of 1 to {MAX_NAME} bytes, got {}",
            who.len()
        ))),
        _ => Ok(who.to_owned()),
    }
}

impl Bans {
    pub(crate) fn new(place: Place) -> Self {
        Self {
            place,
            table: RwLock::default(),
            count: AtomicUsize::new(0),
            on_ban: Mutex::default(),
        }
    }

    /// Says whom to tell of bans that begin.
    pub fn on_ban(&self, tell: impl Fn(&Ban) + Send + Sync + 'static) {
        *self.on_ban.lock() = Some(Box::new(tell));
    }

    pub(crate) fn read_all(&self) {
        let Some(meta) = self.place.get() else { return };
        for (key, value) in meta.values(PREFIX, None, MAX_BANS) {
            self.take(&key, Some(&value));
        }
    }

    /// The ban that keeps this client from connecting, if there is one.
    #[must_use]
    pub fn find(
        &self,
        client_id: &str,
        username: Option<&str>,
        address: IpAddr,
        now: Timestamp,
    ) -> Option<Arc<Ban>> {
        if self.count.load(Ordering::Acquire) == 0 {
            return None;
        }
        let table = self.table.read();
        let named = [
            table.clients.get(client_id),
            username.and_then(|name| table.users.get(name)),
        ];
        let mut named = named.into_iter().flatten();
        let found = named.find(|ban| ban.until > now);
        let by_address = || table.by_address(address, now);
        found.or_else(by_address).cloned()
    }

    /// A ban by its name.
    #[must_use]
    pub fn get(&self, kind: BanKind, who: &str) -> Option<Arc<Ban>> {
        self.table.read().get(kind, who).cloned()
    }

    /// Bans in force behind a cursor, in the order of kind and name.
    #[must_use]
    pub fn list(
        &self,
        after: Option<(BanKind, &str)>,
        limit: usize,
        now: Timestamp,
    ) -> Vec<Arc<Ban>> {
        let Some(meta) = self.place.get() else {
            return Vec::new();
        };
        let after = after.map(|(kind, who)| key(kind, who));
        let mut found = Vec::new();
        let mut from = after;
        // Those that are over and not yet swept away leave gaps in a page.
        while found.len() < limit {
            let page = meta.values(PREFIX, from.as_deref(), limit);
            let Some((last, _)) = page.last() else { break };
            from = Some(last.clone());
            let bans = page.iter().filter_map(|(key, value)| {
                let (kind, who) = named(key)?;
                Ban::read(kind, who, value)
            });
            let room = limit - found.len();
            found.extend(bans.filter(|ban| ban.until > now).take(room).map(Arc::new));
        }
        found
    }

    /// Bans; one of the same kind and name is replaced. Connections it speaks of end. Done when committed.
    ///
    /// # Errors
    /// [`BanError`].
    pub async fn add(&self, ban: Ban) -> Result<(), BanError> {
        let ticket = self.submit(ban)?;
        let failed =
            |code: nightjar_mqtt::ReasonCode| BanError::Unavailable(code.as_str().to_owned());
        ticket.wait().await.map_err(failed)
    }

    /// As [`Self::add`], without waiting.
    ///
    /// # Errors
    /// As [`Self::add`].
    pub fn submit(&self, mut ban: Ban) -> Result<Ticket, BanError> {
        let meta = self.place.get().ok_or_else(closed)?;
        ban.who = checked(ban.kind, &ban.who)?;
        if self.count.load(Ordering::Acquire) >= MAX_BANS {
            return Err(BanError::TooMany);
        }
        let (key, value) = (ban.key(), ban.write()?);
        // In force here at once; connections end, and other nodes hear of it, when it is committed.
        self.take(&key, Some(&value));
        Ok(meta.set_value(&key, value))
    }

    /// Lifts a ban; false if there is none.
    ///
    /// # Errors
    /// [`BanError`].
    pub async fn remove(&self, kind: BanKind, who: &str) -> Result<bool, BanError> {
        let meta = self.place.get().ok_or_else(closed)?;
        let who = checked(kind, who)?;
        let key = key(kind, &who);
        if meta.value(&key).is_none() {
            return Ok(false);
        }
        let failed =
            |code: nightjar_mqtt::ReasonCode| BanError::Unavailable(code.as_str().to_owned());
        meta.remove_value(&key).wait().await.map_err(failed)?;
        Ok(true)
    }

    /// Sweeps away the bans that are over.
    pub fn tick(&self, now: Timestamp) {
        if self.count.load(Ordering::Acquire) == 0 {
            return;
        }
        let over: Vec<String> = {
            let table = self.table.read();
            let bans = table.all().filter(|ban| ban.until <= now);
            bans.map(|ban| ban.key()).collect()
        };
        if let Some(meta) = self.place.get() {
            for key in over {
                drop(meta.remove_value(&key));
            }
        }
    }

    fn take(&self, key: &str, value: Option<&[u8]>) -> Option<Arc<Ban>> {
        let (kind, who) = named(key)?;
        let mut table = self.table.write();
        let begun = match value {
            None => {
                table.remove(kind, who);
                None
            }
            Some(value) => match Ban::read(kind, who, value) {
                Some(ban) => {
                    let ban = Arc::new(ban);
                    table.insert(ban.clone());
                    Some(ban)
                }
                None => {
                    tracing::error!(%kind, who, "a stored ban cannot be read, and is left out");
                    None
                }
            },
        };
        self.count.store(table.len(), Ordering::Release);
        begun
    }
}

fn closed() -> BanError {
    BanError::Unavailable("the durable backend is not open".to_owned())
}

impl MetaWatcher for Bans {
    fn changed(&self, key: &str, value: Option<&[u8]>) {
        if let Some(ban) = self.take(key, value)
            && let Some(tell) = &*self.on_ban.lock()
        {
            tell(&ban);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kept::Kept;
    use crate::meta::{MemoryMeta, MetaStore};

    const NOW: Timestamp = Timestamp(1_000_000);

    fn ban(kind: BanKind, who: &str, until: Timestamp) -> Ban {
        Ban {
            kind,
            who: who.to_owned(),
            reason: "test".to_owned(),
            by: "test".to_owned(),
            at: NOW,
            until,
        }
    }

    fn kept(meta: &Arc<MemoryMeta>) -> Kept {
        let kept = Kept::default();
        kept.open(meta.clone());
        kept
    }

    fn hit(bans: &Bans, client: &str, user: &str, address: &str, now: Timestamp) -> bool {
        let address = address.parse().expect("an address");
        bans.find(client, Some(user), address, now).is_some()
    }

    #[test]
    fn client_user_and_network_are_found_until_their_time_is_over_and_after_a_restart() {
        let meta = Arc::new(MemoryMeta::default());
        let first = kept(&meta);
        assert!(!hit(first.bans(), "c", "u", "10.0.0.1", NOW));
        for one in [
            ban(BanKind::ClientId, "bad", NOW.plus_secs(10)),
            ban(BanKind::Username, "eve/../x", Timestamp::NEVER),
            ban(BanKind::Address, "10.1.2.3/16", Timestamp::NEVER),
            ban(BanKind::Address, "2001:db8::1", Timestamp::NEVER),
        ] {
            drop(first.bans().submit(one).expect("taken"));
        }
        for kept in [&first, &kept(&meta)] {
            let bans = kept.bans();
            let later = NOW.plus_secs(10);
            for (client, user, address, now, expected) in [
                ("bad", "u", "192.0.2.1", NOW, true),
                ("bad", "u", "192.0.2.1", later, false),
                ("c", "eve/../x", "192.0.2.1", later, true),
                ("c", "u", "10.1.99.1", later, true),
                ("c", "u", "::ffff:10.1.99.1", later, true),
                ("c", "u", "10.2.0.1", later, false),
                ("c", "u", "2001:db8::1", later, true),
                ("c", "u", "2001:db8::2", later, false),
            ] {
                let found = hit(bans, client, user, address, now);
                assert_eq!(found, expected, "{client} {user} {address}");
            }
            assert_eq!(bans.list(None, 10, NOW).len(), 4);
            assert_eq!(bans.list(None, 2, later).len(), 2);
        }
        first.bans().tick(NOW.plus_secs(10));
        assert_eq!(meta.values(PREFIX, None, 9).len(), 3);
        for address in ["10.1.0.0/16", "2001:db8::1"] {
            let found = first.bans().table.write().remove(BanKind::Address, address);
            assert!(found.is_some(), "{address}");
        }
        assert!(first.bans().table.read().prefixes.is_empty());
    }

    #[test]
    fn what_is_no_address_or_no_name_is_refused() {
        let kept = kept(&Arc::default());
        for (kind, who) in [
            (BanKind::Address, "localhost"),
            (BanKind::Address, "10.0.0.0/33"),
            (BanKind::ClientId, ""),
        ] {
            let refused = kept.bans().submit(ban(kind, who, Timestamp::NEVER));
            assert!(matches!(refused, Err(BanError::Who(_))), "{kind} {who}");
        }
    }
}
