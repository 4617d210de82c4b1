//! Token buckets of clients, users and addresses: connections, messages, bytes; and who connects too often.
//!
//! A bucket holds what its rate gives in its time (`100/10s`: a hundred at once, then ten a second). Connections beyond
//! it are refused; messages and bytes beyond it make their connection pause its reading, so that nothing is lost. Of
//! IPv6 an address is its /64 network: that is what one subscriber has.

use std::hash::{BuildHasher, Hash};
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use arc_swap::ArcSwap;
use dashmap::DashMap;
use foldhash::fast::RandomState;
use hashbrown::HashMap;
use parking_lot::Mutex;
use smallvec::SmallVec;

use crate::access::ClientInfo;

/// Clients, users or addresses with buckets of their own; what comes beyond shares one.
const MAX_KEYS: usize = 1 << 18;
/// Client identifiers whose connections are counted at a time.
const MAX_FLAPPING: usize = 1 << 16;

/// So much in so much time.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct BucketRate {
    /// What may come at once.
    pub burst: f64,
    /// In this time the bucket is full again.
    pub per: Duration,
}

/// Rates of one client, user or address; `None` is no limit.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Rates {
    /// Messages published.
    pub messages: Option<BucketRate>,
    /// Bytes received.
    pub bytes: Option<BucketRate>,
    /// Connections.
    pub connects: Option<BucketRate>,
}

/// `[limits.flapping]`: so many connections in a window make a ban.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Flapping {
    /// Accepted connections that make a ban.
    pub connects: u32,
    /// In this time.
    pub window: Duration,
    /// Length of the ban.
    pub ban: Duration,
}

/// `[limits]` of clients, users and addresses.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct LimitSettings {
    /// Of each client identifier.
    pub client: Rates,
    /// Of each user name, all its clients together.
    pub user: Rates,
    /// Of each address, all its clients together.
    pub address: Rates,
    /// Bans for connecting too often; `None` is off.
    pub flapping: Option<Flapping>,
}

/// A token bucket.
#[derive(Debug)]
struct Bucket {
    rate: BucketRate,
    /// Tokens, negative while in debt, and when they were counted.
    state: Mutex<(f64, Instant)>,
}

impl Bucket {
    fn new(rate: BucketRate, now: Instant) -> Self {
        Self {
            rate,
            state: Mutex::new((rate.burst, now)),
        }
    }

    fn refill(&self, state: &mut (f64, Instant), now: Instant) {
        let passed = now.saturating_duration_since(state.1).as_secs_f64();
        let gained = passed * self.rate.burst / self.rate.per.as_secs_f64();
        *state = ((state.0 + gained).min(self.rate.burst), now);
    }

    /// Takes one token if there is one.
    fn try_one(&self, now: Instant) -> bool {
        let mut state = self.state.lock();
        self.refill(&mut state, now);
        let has = state.0 >= 1.0;
        if has {
            state.0 -= 1.0;
        }
        has
    }

    /// Takes tokens that were used already; the time until the debt is paid, if there is one.
    fn charge(&self, tokens: f64, now: Instant) -> Option<Duration> {
        let mut state = self.state.lock();
        self.refill(&mut state, now);
        state.0 -= tokens;
        if state.0 >= 0.0 {
            return None;
        }
        let wait = -state.0 * self.rate.per.as_secs_f64() / self.rate.burst;
        Some(Duration::from_secs_f64(wait.min(3600.0)))
    }

    /// Is there one token at least?
    fn has_some(&self, now: Instant) -> bool {
        let mut state = self.state.lock();
        self.refill(&mut state, now);
        state.0 >= 1.0
    }

    fn is_full(&self, now: Instant) -> bool {
        let mut state = self.state.lock();
        self.refill(&mut state, now);
        state.0 >= self.rate.burst
    }
}

/// The buckets of one client, user or address.
#[derive(Debug)]
struct Share {
    messages: Option<Bucket>,
    bytes: Option<Bucket>,
    connects: Option<Bucket>,
}

impl Share {
    fn new(rates: Rates, now: Instant) -> Self {
        let bucket = |rate: Option<BucketRate>| rate.map(|rate| Bucket::new(rate, now));
        Self {
            messages: bucket(rates.messages),
            bytes: bucket(rates.bytes),
            connects: bucket(rates.connects),
        }
    }

    fn is_full(&self, now: Instant) -> bool {
        let buckets = [&self.messages, &self.bytes, &self.connects];
        buckets
            .into_iter()
            .flatten()
            .all(|bucket| bucket.is_full(now))
    }
}

/// The shares of one kind.
struct Shares<K> {
    rates: Rates,
    known: DashMap<K, Arc<Share>, RandomState>,
    /// Of all that found no place among the known.
    others: Arc<Share>,
}

impl<K: Eq + Hash> Shares<K> {
    fn new(rates: Rates, now: Instant) -> Self {
        Self {
            rates,
            known: DashMap::with_hasher(RandomState::default()),
            others: Arc::new(Share::new(rates, now)),
        }
    }

    fn is_off(&self) -> bool {
        self.rates == Rates::default()
    }

    fn get(&self, key: K, now: Instant) -> Arc<Share> {
        if let Some(share) = self.known.get(&key) {
            return share.clone();
        }
        if self.known.len() >= MAX_KEYS {
            return self.others.clone();
        }
        let new = || Arc::new(Share::new(self.rates, now));
        self.known.entry(key).or_insert_with(new).clone()
    }

    /// Forgets those that nobody uses and that have nothing to remember.
    fn sweep(&self, now: Instant) {
        self.known
            .retain(|_, share| Arc::strong_count(share) > 1 || !share.is_full(now));
    }
}

struct State {
    settings: LimitSettings,
    clients: Shares<Arc<str>>,
    users: Shares<Arc<str>>,
    addresses: Shares<IpAddr>,
}

impl State {
    fn new(settings: LimitSettings, now: Instant) -> Self {
        Self {
            settings,
            clients: Shares::new(settings.client, now),
            users: Shares::new(settings.user, now),
            addresses: Shares::new(settings.address, now),
        }
    }
}

/// The limits of a node.
pub struct Limits {
    state: ArcSwap<State>,
    /// Connections of a client identifier in its window, by the hash of the identifier.
    flapping: Mutex<HashMap<u64, (u32, Instant), RandomState>>,
    hasher: RandomState,
    started: Instant,
    /// Second of the last sweep.
    swept: AtomicU64,
}

/// The buckets that a connection draws from: those of its client, its user, its address.
#[derive(Debug, Default)]
pub struct Allowance(SmallVec<[Arc<Share>; 3]>);

impl Allowance {
    /// Takes what was received; how long reading must pause.
    pub fn charge(&self, messages: u64, bytes: u64, now: Instant) -> Option<Duration> {
        let charge = |bucket: &Option<Bucket>, tokens: u64| match bucket {
            Some(bucket) if tokens > 0 => bucket.charge(tokens as f64, now),
            _ => None,
        };
        let waits = self.0.iter().flat_map(|share| {
            [
                charge(&share.messages, messages),
                charge(&share.bytes, bytes),
            ]
        });
        waits.flatten().max()
    }

    /// Takes what was received if each bucket has something left; where one has not, nothing is taken. For peers that
    /// cannot be made to wait: what they send beyond their rate is refused.
    pub fn admit(&self, messages: u64, bytes: u64, now: Instant) -> bool {
        let empty = |bucket: &Option<Bucket>, tokens: u64| match bucket {
            Some(bucket) if tokens > 0 => !bucket.has_some(now),
            _ => false,
        };
        let over =
            |share: &Arc<Share>| empty(&share.messages, messages) || empty(&share.bytes, bytes);
        if self.0.iter().any(over) {
            return false;
        }
        let _ = self.charge(messages, bytes, now);
        true
    }
}

/// The key of an address: of IPv6 its /64 network.
fn address_key(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(v6) => IpAddr::V6(std::net::Ipv6Addr::from_bits(
            v6.to_bits() & (u128::MAX << 64),
        )),
        v4 => v4,
    }
}

/// What limits a connection by its rate.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OverRate {
    /// `limits.client.connects`.
    Client,
    /// `limits.user.connects`.
    User,
    /// `limits.address.connects`.
    Address,
}

impl OverRate {
    /// The key of the configuration.
    #[must_use]
    pub const fn key(self) -> &'static str {
        match self {
            Self::Client => "limits.client.connects",
            Self::User => "limits.user.connects",
            Self::Address => "limits.address.connects",
        }
    }
}

impl Default for Limits {
    fn default() -> Self {
        let now = Instant::now();
        Self {
            state: ArcSwap::from_pointee(State::new(LimitSettings::default(), now)),
            flapping: Mutex::default(),
            hasher: RandomState::default(),
            started: now,
            swept: AtomicU64::new(0),
        }
    }
}

impl Limits {
    /// Puts settings in force for connections to come; equal ones change nothing.
    pub fn set(&self, settings: LimitSettings) {
        if self.state.load().settings != settings {
            let state = State::new(settings, Instant::now());
            self.state.store(Arc::new(state));
        }
    }

    /// Counts a connection of an address, before anything else is known of it.
    ///
    /// # Errors
    /// [`OverRate::Address`].
    pub fn connect_from(&self, address: IpAddr, now: Instant) -> Result<(), OverRate> {
        let state = self.state.load();
        if state.settings.address.connects.is_none() {
            return Ok(());
        }
        let share = state.addresses.get(address_key(address), now);
        take_one(&share, OverRate::Address, now)
    }

    /// Counts an authenticated connection of its user and client identifier. Others cannot use up what is theirs: who
    /// fails to authenticate is counted by address only.
    ///
    /// # Errors
    /// [`OverRate::User`], [`OverRate::Client`].
    pub fn connect(&self, info: &ClientInfo, now: Instant) -> Result<(), OverRate> {
        let state = self.state.load();
        if let Some(username) = &info.username
            && state.settings.user.connects.is_some()
        {
            let share = state.users.get(username.clone(), now);
            take_one(&share, OverRate::User, now)?;
        }
        if state.settings.client.connects.is_some() {
            let share = state.clients.get(info.client_id.clone(), now);
            take_one(&share, OverRate::Client, now)?;
        }
        Ok(())
    }

    /// The buckets of a connection's messages and bytes; `None` where nothing limits them.
    #[must_use]
    pub fn allowance(&self, info: &ClientInfo, now: Instant) -> Option<Box<Allowance>> {
        self.shares(Some(info), Some(info.peer.ip()), now)
    }

    /// As [`Self::allowance`], of a client whose address is that of a NAT or balancer and says nothing of it.
    #[must_use]
    pub fn allowance_without_address(
        &self,
        info: &ClientInfo,
        now: Instant,
    ) -> Option<Box<Allowance>> {
        self.shares(Some(info), None, now)
    }

    /// The buckets of an address, for messages that come without a connection.
    #[must_use]
    pub fn address_allowance(&self, address: IpAddr, now: Instant) -> Option<Box<Allowance>> {
        self.shares(None, Some(address), now)
    }

    fn shares(
        &self,
        info: Option<&ClientInfo>,
        address: Option<IpAddr>,
        now: Instant,
    ) -> Option<Box<Allowance>> {
        let state = self.state.load();
        let limited = |rates: &Rates| rates.messages.is_some() || rates.bytes.is_some();
        let mut shares = SmallVec::new();
        if let Some(info) = info {
            if limited(&state.settings.client) {
                shares.push(state.clients.get(info.client_id.clone(), now));
            }
            if let Some(username) = &info.username
                && limited(&state.settings.user)
            {
                shares.push(state.users.get(username.clone(), now));
            }
        }
        if let Some(address) = address
            && limited(&state.settings.address)
        {
            shares.push(state.addresses.get(address_key(address), now));
        }
        (!shares.is_empty()).then(|| Box::new(Allowance(shares)))
    }

    /// Counts an accepted connection of a client identifier; the settings if it makes a ban.
    pub fn flaps(&self, client_id: &str, now: Instant) -> Option<Flapping> {
        let settings = self.state.load().settings.flapping?;
        let key = self.hasher.hash_one(client_id);
        let mut counts = self.flapping.lock();
        if counts.len() >= MAX_FLAPPING && !counts.contains_key(&key) {
            counts.retain(|_, (_, since)| now.saturating_duration_since(*since) < settings.window);
            if counts.len() >= MAX_FLAPPING {
                return None;
            }
        }
        let (count, since) = counts.entry(key).or_insert((0, now));
        if now.saturating_duration_since(*since) >= settings.window {
            (*count, *since) = (0, now);
        }
        *count += 1;
        if *count < settings.connects {
            return None;
        }
        counts.remove(&key);
        Some(settings)
    }

    /// Forgets what has nothing to remember, once a second at most.
    pub fn sweep(&self, now: Instant) {
        let second = now.saturating_duration_since(self.started).as_secs();
        if self.swept.swap(second, Ordering::Relaxed) == second {
            return;
        }
        let state = self.state.load();
        if !state.clients.is_off() {
            state.clients.sweep(now);
        }
        if !state.users.is_off() {
            state.users.sweep(now);
        }
        if !state.addresses.is_off() {
            state.addresses.sweep(now);
        }
        if let Some(settings) = state.settings.flapping {
            let mut counts = self.flapping.lock();
            counts.retain(|_, (_, since)| now.saturating_duration_since(*since) < settings.window);
        }
    }
}

fn take_one(share: &Share, over: OverRate, now: Instant) -> Result<(), OverRate> {
    match &share.connects {
        Some(bucket) if !bucket.try_one(now) => Err(over),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::acl::tests::client;

    const fn rate(burst: u32, secs: u64) -> Option<BucketRate> {
        Some(BucketRate {
            burst: burst as f64,
            per: Duration::from_secs(secs),
        })
    }

    fn limits(settings: LimitSettings) -> (Limits, Instant) {
        let limits = Limits::default();
        limits.set(settings);
        (limits, Instant::now() + Duration::from_secs(1))
    }

    #[test]
    fn connections_beyond_the_rate_are_refused_by_address_then_user_then_client() {
        let (limits, start) = limits(LimitSettings {
            client: Rates {
                connects: rate(1, 10),
                ..Rates::default()
            },
            user: Rates {
                connects: rate(2, 10),
                ..Rates::default()
            },
            address: Rates {
                connects: rate(3, 10),
                ..Rates::default()
            },
            ..LimitSettings::default()
        });
        let ip = "2001:db8::1".parse().expect("an address");
        let neighbour = "2001:db8::ffff:1".parse().expect("an address");
        for _ in 0..3 {
            assert_eq!(limits.connect_from(ip, start), Ok(()));
        }
        assert_eq!(
            limits.connect_from(neighbour, start),
            Err(OverRate::Address)
        );
        let other = "2001:db8:0:1::1".parse().expect("an address");
        assert_eq!(limits.connect_from(other, start), Ok(()));
        // A tenth of the time gives a tenth of the tokens.
        let later = start + Duration::from_secs(4);
        assert_eq!(limits.connect_from(ip, later), Ok(()));
        assert_eq!(limits.connect_from(ip, later), Err(OverRate::Address));
        let mut one = client();
        assert_eq!(limits.connect(&one, start), Ok(()));
        assert_eq!(limits.connect(&one, start), Err(OverRate::Client));
        one.client_id = "other".into();
        assert_eq!(
            limits.connect(&one, start),
            Err(OverRate::User),
            "both were counted"
        );
    }

    #[test]
    fn what_is_received_beyond_the_rate_makes_a_pause_as_long_as_the_debt() {
        let (limits, start) = limits(LimitSettings {
            client: Rates {
                messages: rate(10, 1),
                ..Rates::default()
            },
            user: Rates {
                bytes: rate(1000, 1),
                ..Rates::default()
            },
            ..LimitSettings::default()
        });
        let one = limits.allowance(&client(), start).expect("limited");
        let mut second = client();
        second.client_id = "second".into();
        let second = limits.allowance(&second, start).expect("limited");
        assert_eq!(one.charge(10, 500, start), None);
        assert_eq!(
            second.charge(10, 500, start),
            None,
            "messages are each client's own"
        );
        assert_eq!(
            second.charge(0, 500, start),
            Some(Duration::from_millis(500))
        );
        assert_eq!(one.charge(5, 0, start), Some(Duration::from_millis(500)));
        assert_eq!(one.charge(1, 0, start + Duration::from_secs(2)), None);
        // Coming again does not fill the bucket.
        assert_eq!(
            one.charge(30, 0, start + Duration::from_secs(2)),
            Some(Duration::from_millis(2100))
        );
        drop(one);
        limits.sweep(start + Duration::from_secs(3));
        let again = limits
            .allowance(&client(), start + Duration::from_secs(3))
            .expect("limited");
        assert!(again.charge(1, 0, start + Duration::from_secs(3)).is_some());
        drop(again);
        // What is full and used by nobody is forgotten.
        limits.sweep(start + Duration::from_secs(60));
        assert_eq!(
            limits.state.load().clients.known.len(),
            1,
            "the second is still held"
        );
    }

    #[test]
    fn what_cannot_wait_is_refused_and_takes_nothing_then() {
        let (limits, start) = limits(LimitSettings {
            client: Rates {
                messages: rate(2, 1),
                ..Rates::default()
            },
            address: Rates {
                bytes: rate(1000, 1),
                ..Rates::default()
            },
            ..LimitSettings::default()
        });
        let one = limits.allowance(&client(), start).expect("limited");
        assert!(one.admit(1, 100, start) && one.admit(1, 100, start));
        assert!(!one.admit(1, 100, start));
        assert!(
            one.admit(0, 800, start),
            "nothing was taken by what was refused"
        );
        assert!(!one.admit(0, 1, start));
        let here = client().peer.ip();
        let stray = limits.address_allowance(here, start).expect("limited");
        assert!(
            !stray.admit(1, 1, start),
            "the bytes of an address are shared"
        );
        let behind_nat = limits
            .allowance_without_address(&client(), start + Duration::from_secs(1))
            .expect("limited");
        assert!(behind_nat.admit(1, 5000, start + Duration::from_secs(1)));
    }

    #[test]
    fn no_limits_hold_nothing() {
        let (limits, start) = limits(LimitSettings::default());
        assert!(limits.allowance(&client(), start).is_none());
        assert_eq!(limits.connect(&client(), start), Ok(()));
        assert_eq!(limits.flaps("x", start), None);
        assert!(limits.state.load().clients.known.is_empty());
    }

    #[test]
    fn many_connections_in_the_window_flap_and_spread_ones_do_not() {
        let flapping = Flapping {
            connects: 3,
            window: Duration::from_secs(60),
            ban: Duration::from_secs(300),
        };
        let (limits, start) = limits(LimitSettings {
            flapping: Some(flapping),
            ..LimitSettings::default()
        });
        let at = |secs| start + Duration::from_secs(secs);
        assert_eq!(limits.flaps("a", at(0)), None);
        assert_eq!(limits.flaps("a", at(1)), None);
        assert_eq!(limits.flaps("b", at(1)), None);
        assert_eq!(limits.flaps("a", at(2)), Some(flapping));
        assert_eq!(limits.flaps("a", at(3)), None, "counted anew");
        for n in 1..10 {
            assert_eq!(limits.flaps("c", at(40 * n)), None, "{n}");
        }
    }
}
