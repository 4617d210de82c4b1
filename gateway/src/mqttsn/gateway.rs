//! All clients of one listener, without its sockets and without a clock: datagrams and the time go in, datagrams come out.

use std::hash::BuildHasher;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};
use std::task::Waker;

use dashmap::DashMap;
use foldhash::fast::RandomState;
use nightjar_broker::shard::SessionEntry;
use nightjar_broker::{Broker, Counter, PublishBatch, Timestamp};
use nightjar_mqtt::TopicName;
use nightjar_mqttsn::{Connect, Frame, Message, PROTOCOL_ID, QoS, ReturnCode};
use parking_lot::Mutex;

use super::bucket::{Bucket, Buckets};
use super::client::Client;
use super::counters::{Counted, Counters};
use super::link::Link;
use super::path::{Key, Output, Path};
use super::random::Random;
use super::ready::{ClientWaker, Ready};
use super::relay::Relayed;
use super::settings::Settings;
use super::stray::Strays;
use super::wheel::Wheel;
use crate::mqtt::ClientIds;

/// Longest client id that is taken, in octets; the standard has 23 characters.
const MAX_CLIENT_ID: usize = 255;

/// Where a client's state is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Home {
    pub shard: u32,
    pub slot: u32,
}

/// What one go leaves to do: messages to publish, datagrams to send. Give it to [`Gateway::finish`] before anything
/// waits, then send [`Turn::output`].
#[derive(Debug, Default)]
pub struct Turn {
    /// The time of the last call.
    now: Timestamp,
    pub(super) batch: PublishBatch,
    pub(super) out: Output,
    /// Countdowns of sleepers that begin anew, by shard of the store.
    touches: Vec<(u16, SessionEntry)>,
    /// Clients whose address another one has now.
    displaced: Vec<(Home, Key)>,
}

impl Turn {
    /// The datagrams to send, in order.
    pub const fn output(&mut self) -> &mut Output {
        &mut self.out
    }
}

#[derive(Default)]
pub(super) struct Slot {
    generation: u32,
    pub client: Option<Box<Client>>,
    key: Option<Key>,
}

pub(super) struct Shard {
    pub slots: Vec<Slot>,
    free: Vec<u32>,
    wheel: Wheel,
    random: Random,
}

/// What a client's state machine works with.
pub(super) struct Cx<'a> {
    pub gateway: &'a Gateway,
    pub now: Timestamp,
    pub turn: &'a mut Turn,
    /// The client's identifier, while anything is traced.
    pub traced: Option<Arc<str>>,
    /// The topic of what is sent next, while anything is traced.
    pub about: Option<TopicName>,
    home: Home,
    generation: u32,
    random: &'a mut Random,
}

impl Cx<'_> {
    pub fn settings(&self) -> &Settings {
        &self.gateway.settings
    }

    pub fn count(&self, what: Counted) {
        self.gateway.counters.count(what);
        let summed = match what {
            Counted::Retransmissions => Counter::MqttSnRetransmissions,
            Counted::LostKeepAlive | Counted::LostAsleep | Counted::LostRetries => {
                Counter::MqttSnLost
            }
            _ => return,
        };
        self.gateway.broker.metrics().count(summed);
    }

    pub fn random(&mut self) -> u64 {
        self.random.next()
    }

    /// A countdown begins anew, at the end of this go: nobody waits for it.
    pub fn touch(&mut self, shard: u16, touch: SessionEntry) {
        self.turn.touches.push((shard, touch));
    }

    /// Sends a message; the octets of its datagram.
    pub fn send(&mut self, path: &Path, message: Message<'_>) -> usize {
        if self.traced.is_some() {
            self.trace_sent(path, &message);
        }
        self.turn.out.push(path, message)
    }

    /// Wakes this client.
    pub fn waker(&self) -> Waker {
        let ready = &self.gateway.ready[self.home.shard as usize];
        ClientWaker::waker(ready, self.home.slot, self.generation)
    }
}

/// The MQTT-SN gateway of one listener: every client of it, from SEARCHGW to the end of its session.
///
/// It does no I/O and reads no clock (but for the age of remembered ACL verdicts and the rates of `[limits]`). Call, in any order and from any
/// thread:
/// - [`Gateway::receive`] for each datagram, [`Gateway::finish`] at the end of a read batch;
/// - [`Gateway::wake`] when [`Gateway::woken`] says so: somebody published, or a verdict is there;
/// - [`Gateway::timeout`] at [`Gateway::next_timeout`];
///
/// and send what stands in the [`Turn`] after each [`Gateway::finish`]. Clients are spread over shards, each with a lock
/// and a timer wheel of its own; a shard of which only one thread speaks is never waited for.
pub struct Gateway {
    broker: Arc<Broker>,
    settings: Arc<Settings>,
    counters: Arc<Counters>,
    pub(super) shards: Box<[Mutex<Shard>]>,
    /// Until when the task of each shard sleeps.
    sleeping: Box<[AtomicU64]>,
    ready: Box<[Arc<Ready>]>,
    pub(super) by_address: DashMap<Key, Home, RandomState>,
    pub(super) addresses: std::hash::RandomState,
    pub(super) by_client: DashMap<Arc<str>, Home, RandomState>,
    sessions: AtomicUsize,
    pub(super) new_sessions: Mutex<Buckets>,
    pub(super) replies: Mutex<Buckets>,
    pub(super) minus_one: Mutex<Bucket>,
    pub(super) relay: OnceLock<Relayed>,
    strays: Mutex<Strays>,
    stray_waker: Waker,
    hasher: RandomState,
    client_ids: ClientIds,
}

impl std::fmt::Debug for Gateway {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Gateway")
            .field("name", &self.settings.name)
            .field("sessions", &self.sessions())
            .finish_non_exhaustive()
    }
}

impl Gateway {
    /// A gateway in front of this broker, with so many shards.
    #[must_use]
    pub fn new(broker: Arc<Broker>, settings: Settings, shards: usize) -> Arc<Self> {
        Self::build(broker, settings, shards, None)
    }

    /// One whose random numbers come from a seed: what happens can happen again. For tests only, since a client could
    /// foresee MsgIds.
    #[must_use]
    pub fn seeded(broker: Arc<Broker>, settings: Settings, seed: u64) -> Arc<Self> {
        Self::build(broker, settings, 1, Some(seed))
    }

    fn build(
        broker: Arc<Broker>,
        settings: Settings,
        shards: usize,
        seed: Option<u64>,
    ) -> Arc<Self> {
        let ready: Box<[Arc<Ready>]> = (0..shards.max(1)).map(|_| Arc::default()).collect();
        let shard = |_: &Arc<Ready>| {
            Mutex::new(Shard {
                slots: Vec::new(),
                free: Vec::new(),
                wheel: Wheel::new(),
                random: match seed {
                    Some(seed) => Random::Seeded(seed),
                    None => Random::Keyed {
                        key: std::hash::RandomState::new(),
                        next: 0,
                    },
                },
            })
        };
        let stray_waker = ClientWaker::waker(&ready[0], u32::MAX, 0);
        Arc::new(Self {
            shards: ready.iter().map(shard).collect(),
            sleeping: ready.iter().map(|_| AtomicU64::new(0)).collect(),
            ready,
            broker,
            counters: Arc::default(),
            by_address: DashMap::with_hasher(RandomState::default()),
            addresses: std::hash::RandomState::new(),
            by_client: DashMap::with_hasher(RandomState::default()),
            sessions: AtomicUsize::new(0),
            new_sessions: Mutex::default(),
            replies: Mutex::default(),
            minus_one: Mutex::new(Bucket::full(
                settings.qos_minus_one_rate.unwrap_or(0.0),
                Timestamp(0),
            )),
            relay: OnceLock::new(),
            strays: Mutex::default(),
            stray_waker,
            hasher: RandomState::default(),
            client_ids: ClientIds::default(),
            settings: Arc::new(settings),
        })
    }

    /// The broker behind it.
    #[must_use]
    pub const fn broker(&self) -> &Arc<Broker> {
        &self.broker
    }

    /// Its settings.
    #[must_use]
    pub const fn settings(&self) -> &Arc<Settings> {
        &self.settings
    }

    /// Its counters.
    #[must_use]
    pub const fn counters(&self) -> &Arc<Counters> {
        &self.counters
    }

    /// Number of shards.
    #[must_use]
    pub const fn shards(&self) -> usize {
        self.shards.len()
    }

    /// Clients it knows: connected, connecting and asleep.
    #[must_use]
    pub fn sessions(&self) -> usize {
        self.sessions.load(Ordering::Relaxed)
    }

    /// Identifiers of the clients it knows, in no order.
    #[must_use]
    pub fn client_ids(&self) -> Vec<Arc<str>> {
        let ids = self.by_client.iter();
        ids.map(|entry| entry.key().clone()).collect()
    }

    /// What the listener knows of a client.
    #[must_use]
    pub fn client(&self, client_id: &str) -> Option<super::ClientStatus> {
        let home = *self.by_client.get(client_id)?.value();
        let shard = self.shards[home.shard as usize].lock();
        let client = shard.slots.get(home.slot as usize)?.client.as_ref()?;
        (&*client.id == client_id).then(|| super::ClientStatus {
            state: client.state(),
            peer: client.link.path.peer,
        })
    }

    pub(super) fn hash(&self, octets: &[u8]) -> u64 {
        self.hasher.hash_one(octets)
    }

    /// A datagram came, by way of the socket that belongs to `shard`. `from` is a path without a node id; `group` is the
    /// multicast or broadcast address it was sent to, if it was.
    pub fn receive(
        &self,
        now: Timestamp,
        shard: usize,
        turn: &mut Turn,
        mut from: Path,
        group: Option<SocketAddr>,
        datagram: &[u8],
    ) {
        let metrics = self.broker.metrics();
        metrics.count(Counter::MqttSnReceived);
        self.counters.count(Counted::Received);
        self.counters
            .add(Counted::ReceivedBytes, datagram.len() as u64);
        let frame = match Frame::decode(datagram) {
            Ok(frame) => frame,
            Err(error) => {
                metrics.count(Counter::MqttSnMalformed);
                self.counters.malformed_by(&error);
                return;
            }
        };
        from.node = frame
            .encapsulation
            .map(|encapsulation| encapsulation.node_id.into());
        let message = frame.message;
        if group.is_none() && self.asks_elsewhere(now, shard, &from, &message, datagram) {
            return;
        }
        self.serve(now, shard, turn, from, group, (message, datagram));
    }

    pub(super) fn serve(
        &self,
        now: Timestamp,
        shard: usize,
        turn: &mut Turn,
        from: Path,
        group: Option<SocketAddr>,
        (message, datagram): (Message<'_>, &[u8]),
    ) {
        match message {
            Message::SearchGw { .. } => self.search(now, turn, from, group),
            // To a group only questions are asked.
            _ if group.is_some() => self.counters.count(Counted::OutOfState),
            Message::Advertise(_)
            | Message::GwInfo(_)
            | Message::ConnAck { .. }
            | Message::WillTopicReq
            | Message::WillMsgReq
            | Message::SubAck(_)
            | Message::UnsubAck { .. }
            | Message::WillTopicResp { .. }
            | Message::WillMsgResp { .. } => self.counters.count(Counted::FromGateway),
            Message::Connect(connect) => {
                self.connect(now, shard, turn, &from, &connect, datagram);
            }
            Message::PingReq {
                client_id: Some(client_id),
            } => self.ping(now, shard, turn, &from, client_id, datagram),
            message => {
                let minus_one = match &message {
                    Message::Publish(publish) if publish.qos == QoS::MinusOne => Some(publish),
                    _ => None,
                };
                if let Some(publish) = minus_one
                    && !self.admits_minus_one(now)
                {
                    let _ = publish;
                    self.counters.count(Counted::MinusOneRefused);
                    return;
                }
                let home = self
                    .by_address
                    .get(&from.key(&self.addresses))
                    .map(|home| *home);
                let taken = home.and_then(|home| {
                    self.with(home, None, now, turn, |client, cx| {
                        if !client.link.path.same_end(&from) {
                            return Err(None);
                        }
                        if minus_one.is_some() && !client.is_connected() {
                            return Err(Some(client.id.clone()));
                        }
                        client.link.path.heard_by(&from);
                        client.receive(cx, message, datagram);
                        Ok(())
                    })
                });
                match (taken, minus_one) {
                    (Some(Ok(())), _) => {}
                    (Some(Err(id)), Some(publish)) => self.stray(now, &from, id, publish, turn),
                    (None, Some(publish)) => self.stray(now, &from, None, publish, turn),
                    // What only answers asks for nothing.
                    _ => self.stranger(now, turn, &from),
                }
            }
        }
    }

    fn connect(
        &self,
        now: Timestamp,
        shard: usize,
        turn: &mut Turn,
        from: &Path,
        connect: &Connect<'_>,
        datagram: &[u8],
    ) {
        let id = connect.client_id;
        let longest = if self.settings.strict_client_id {
            id.chars().count() <= 23
        } else {
            id.len() <= MAX_CLIENT_ID
        };
        let named = !id.is_empty() || connect.clean_session;
        if connect.protocol_id != PROTOCOL_ID || !longest || !named || id.contains('\0') {
            self.counters.count(Counted::ConnectsInvalid);
            let return_code = ReturnCode::NOT_SUPPORTED;
            turn.out.push(from, Message::ConnAck { return_code });
            return;
        }
        if id.is_empty() {
            // The one that was assigned to this address, if this is the same CONNECT again.
            let home = self
                .by_address
                .get(&from.key(&self.addresses))
                .map(|home| *home);
            let same = home.and_then(|home| {
                self.with(home, None, now, turn, |client, cx| {
                    let known = client.assigned && client.link.path.same_end(from);
                    if known {
                        client.on_connect(cx, from, connect, datagram);
                    }
                    known
                })
            });
            if same != Some(true) {
                let assigned = self.client_ids.assign();
                let id = (assigned, true);
                self.new_client(now, shard, turn, from, id, |client, cx| {
                    client.on_connect(cx, from, connect, datagram);
                });
            }
            return;
        }
        for _ in 0..2 {
            let home = self.by_client.get(id).map(|home| *home);
            let done = match home {
                Some(home) => self
                    .with(home, None, now, turn, |client, cx| {
                        let same = &*client.id == id;
                        if same {
                            client.on_connect(cx, from, connect, datagram);
                        }
                        same
                    })
                    .unwrap_or(false),
                None => {
                    if self.is_full() {
                        self.counters.count(Counted::ConnectsCongested);
                        let return_code = ReturnCode::CONGESTION;
                        turn.out.push(from, Message::ConnAck { return_code });
                        return;
                    }
                    self.new_client(now, shard, turn, from, (id.into(), false), |client, cx| {
                        client.on_connect(cx, from, connect, datagram);
                    })
                }
            };
            if done {
                return;
            }
        }
    }

    fn is_full(&self) -> bool {
        self.settings
            .max_sessions
            .is_some_and(|max| self.sessions() >= max)
    }

    fn ping(
        &self,
        now: Timestamp,
        shard: usize,
        turn: &mut Turn,
        from: &Path,
        client_id: &str,
        datagram: &[u8],
    ) {
        let home = self.by_client.get(client_id).map(|home| *home);
        let known = home.and_then(|home| {
            self.with(home, None, now, turn, |client, cx| {
                let same = &*client.id == client_id;
                if same {
                    client.on_wake(cx, from, datagram);
                }
                same
            })
        });
        if known == Some(true) {
            return;
        }
        let Some(parked) = self.broker.store().parked(client_id) else {
            self.stranger(now, turn, from);
            return;
        };
        if self.is_full() || !self.admits_session(from, now) {
            self.counters.count(Counted::ConnectsCongested);
            return;
        }
        // Its record says that it sleeps: this node was started again, or it slept behind another listener.
        self.new_client(
            now,
            shard,
            turn,
            from,
            (client_id.into(), false),
            |client, cx| {
                client.adopt(now, parked.seconds);
                client.on_wake(cx, from, datagram);
            },
        );
    }

    /// Makes a client and does something with it; false if another thread just made it.
    fn new_client(
        &self,
        now: Timestamp,
        shard: usize,
        turn: &mut Turn,
        from: &Path,
        (id, assigned): (Arc<str>, bool),
        f: impl FnOnce(&mut Client, &mut Cx<'_>),
    ) -> bool {
        turn.now = now;
        let shard = shard % self.shards.len();
        let mut guard = self.shards[shard].lock();
        let place = &mut *guard;
        let slot = match place.free.pop() {
            Some(slot) => slot,
            None => {
                place.slots.push(Slot::default());
                u32::try_from(place.slots.len() - 1).expect("fewer than 2^32 clients fit in memory")
            }
        };
        let home = Home {
            shard: shard as u32,
            slot,
        };
        match self.by_client.entry(id.clone()) {
            dashmap::Entry::Occupied(_) => {
                place.free.push(slot);
                return false;
            }
            dashmap::Entry::Vacant(entry) => entry.insert(home),
        };
        self.sessions.fetch_add(1, Ordering::Relaxed);
        let generation = place.slots[slot as usize].generation;
        let mut cx = Cx {
            gateway: self,
            now,
            turn,
            traced: self.traced(&id),
            about: None,
            home,
            generation,
            random: &mut place.random,
        };
        // Where its session was last seen, if there is one.
        let was_here = self.broker.client(&id).is_some_and(|handle| {
            let info = handle.info();
            info.protocol == nightjar_broker::access::Protocol::MqttSn
                && info.peer.ip() == from.peer.ip()
        });
        let link = Link::new(&cx, from.clone(), was_here);
        let mut client = Box::new(Client::new(id, link));
        client.assigned = assigned;
        f(&mut client, &mut cx);
        self.put_back(place, home, client, turn);
        drop(guard);
        self.displace(turn);
        true
    }

    /// Does something with a client; `None` if it is not there.
    fn with<R>(
        &self,
        home: Home,
        generation: Option<u32>,
        now: Timestamp,
        turn: &mut Turn,
        f: impl FnOnce(&mut Client, &mut Cx<'_>) -> R,
    ) -> Option<R> {
        turn.now = now;
        let mut guard = self.shards[home.shard as usize].lock();
        let shard = &mut *guard;
        let slot = shard.slots.get_mut(home.slot as usize)?;
        if generation.is_some_and(|generation| generation != slot.generation) {
            return None;
        }
        let mut client = slot.client.take()?;
        let mut cx = Cx {
            gateway: self,
            now,
            turn,
            traced: self.traced(&client.id),
            about: None,
            home,
            generation: slot.generation,
            random: &mut shard.random,
        };
        let result = f(&mut client, &mut cx);
        self.put_back(shard, home, client, turn);
        drop(guard);
        self.displace(turn);
        Some(result)
    }

    #[inline]
    fn traced(&self, client_id: &Arc<str>) -> Option<Arc<str>> {
        let active = self.broker.tracer().is_active();
        active.then(|| client_id.clone())
    }

    /// Ends a go with a client: it is forgotten, or found by its address and its deadline again.
    fn put_back(&self, shard: &mut Shard, home: Home, mut client: Box<Client>, turn: &mut Turn) {
        let slot = &mut shard.slots[home.slot as usize];
        if client.is_gone() {
            self.by_client
                .remove_if(&client.id, |_, have| *have == home);
            if let Some(key) = slot.key.take() {
                self.by_address.remove_if(&key, |_, have| *have == home);
            }
            slot.generation = slot.generation.wrapping_add(1);
            shard.free.push(home.slot);
            self.sessions.fetch_sub(1, Ordering::Relaxed);
            return;
        }
        let key = client.link.path.key(&self.addresses);
        if slot.key != Some(key) {
            if let Some(old) = slot.key.take() {
                self.by_address.remove_if(&old, |_, have| *have == home);
            }
            if let Some(other) = self.by_address.insert(key, home)
                && other != home
            {
                turn.displaced.push((other, key));
            }
            slot.key = Some(key);
        } else if std::mem::take(&mut client.link.back) {
            // It is heard again where another one was meanwhile.
            if let Some(other) = self.by_address.insert(key, home)
                && other != home
            {
                turn.displaced.push((other, key));
            }
        }
        if client.is_quiet() {
            client.waker = None;
        }
        let deadline = client.deadline(&self.settings);
        if deadline != Timestamp::NEVER {
            let entry = shard.wheel.entry(deadline);
            if client.timer == 0 || entry < client.timer {
                client.timer = shard
                    .wheel
                    .insert(turn.now, deadline, home.slot, slot.generation);
                let at = home.shard as usize;
                if deadline.0 < self.sleeping[at].load(Ordering::Acquire) {
                    self.ready[at].notify.notify_one();
                }
            }
        }
        slot.client = Some(client);
    }

    /// Two devices have had one address, as behind a NAT: the one that is not heard there any more is sent nothing.
    fn displace(&self, turn: &mut Turn) {
        while let Some((home, key)) = turn.displaced.pop() {
            let mut shard = self.shards[home.shard as usize].lock();
            if let Some(slot) = shard.slots.get_mut(home.slot as usize)
                && let Some(client) = &mut slot.client
                && slot.key == Some(key)
            {
                client.link.reachable = false;
            }
        }
    }

    /// Ends a go: receivers are woken, what was published is submitted. Then the output is to be sent.
    pub fn finish(&self, turn: &mut Turn) {
        self.finish_read(turn);
        let mut touches = std::mem::take(&mut turn.touches);
        touches.sort_by_key(|(shard, _)| *shard);
        let mut touches = touches.into_iter().peekable();
        while let Some((shard, first)) = touches.next() {
            let mut entries = vec![first];
            while let Some((_, touch)) = touches.next_if(|(other, _)| *other == shard) {
                entries.push(touch);
            }
            let _ = self.broker.store().submit(shard, entries, None);
        }
    }

    /// As [`Self::finish`] where more is read at once: what nobody waits for is left for later.
    pub(super) fn finish_read(&self, turn: &mut Turn) {
        if !turn.batch.is_empty() {
            // Nobody can be asked to wait: a datagram comes when it comes. The queue policy decides.
            let _ = self.broker.finish_batch(&mut turn.batch);
        }
        let sent = turn.out.len() as u64;
        self.counters.add(Counted::Sent, sent);
        self.broker.metrics().add(Counter::MqttSnSent, sent);
    }

    /// Waits until a client of the shard has something to do.
    pub async fn woken(&self, shard: usize) {
        self.ready[shard].notify.notified().await;
    }

    /// Is there something for [`Self::wake`] to do?
    #[must_use]
    pub fn is_woken(&self, shard: usize) -> bool {
        !self.ready[shard].list.lock().is_empty()
    }

    /// Lets the clients go on that were woken.
    pub fn wake(&self, now: Timestamp, shard: usize, turn: &mut Turn) {
        let list = std::mem::take(&mut *self.ready[shard].list.lock());
        for woken in list {
            woken.queued.store(false, Ordering::Release);
            if woken.slot == u32::MAX {
                self.poll_strays(turn);
                continue;
            }
            let home = Home {
                shard: shard as u32,
                slot: woken.slot,
            };
            self.with(home, Some(woken.generation), now, turn, |client, cx| {
                client.drive(cx);
            });
        }
    }

    /// As [`Self::next_timeout`], and until [`Self::awake`] a deadline that is earlier wakes [`Self::woken`].
    pub(super) fn falls_asleep(&self, shard: usize) -> Option<Timestamp> {
        self.sleeping[shard].store(u64::MAX, Ordering::Release);
        let next = self.next_timeout(shard);
        if let Some(next) = next {
            self.sleeping[shard].store(next.0, Ordering::Release);
        }
        next
    }

    /// The task of a shard will look at the timers again by itself.
    pub(super) fn awake(&self, shard: usize) {
        self.sleeping[shard].store(0, Ordering::Release);
    }

    /// The time at which a client of the shard may have something due.
    #[must_use]
    pub fn next_timeout(&self, shard: usize) -> Option<Timestamp> {
        self.shards[shard].lock().wheel.next()
    }

    /// Time passed.
    pub fn timeout(&self, now: Timestamp, shard: usize, turn: &mut Turn) {
        let mut due = Vec::new();
        self.shards[shard].lock().wheel.expire(now, &mut due);
        for (slot, generation, entry) in due {
            let home = Home {
                shard: shard as u32,
                slot,
            };
            self.with(home, Some(generation), now, turn, |client, cx| {
                if client.timer == entry {
                    client.timer = 0;
                    if client.deadline(&self.settings) <= now {
                        client.handle_timeout(cx);
                    }
                }
            });
        }
    }

    /// The listener stops: the shard's clients are told to go, those that sleep sleep on. False while one of them has
    /// something under way.
    pub(super) fn leave(&self, now: Timestamp, shard: usize, turn: &mut Turn) -> bool {
        let slots = self.shards[shard].lock().slots.len();
        let mut left = true;
        for slot in 0..slots {
            let home = Home {
                shard: shard as u32,
                slot: slot as u32,
            };
            let done = self.with(home, None, now, turn, |client, cx| client.leave(cx));
            left &= done.unwrap_or(true);
        }
        left
    }

    pub(super) const fn strays(&self) -> (&Mutex<Strays>, &Waker) {
        (&self.strays, &self.stray_waker)
    }
}
