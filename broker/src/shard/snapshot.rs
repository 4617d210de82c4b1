//! Snapshots of shards: the whole state in bytes, each message once however many queues hold it.

use std::hash::BuildHasher;
use std::sync::Arc;

use foldhash::fast::{FixedState, RandomState};
use hashbrown::HashMap;
use nightjar_mqtt::{QoS, TopicFilter};

use super::codec::{CodecError, Decoder, Encoder, FORMAT};
use super::entry::SessionEntry;
use super::queued::{Body, Place, Queued};
use super::record::Record;
use super::retained::{RetainedEntry, RetainedShard};
use super::session::{Duty, SessionShard};
use crate::auth::Owner;
use crate::message::Message;
use crate::settings::QueueLimits;
use crate::subscription::Subscription;
use crate::time::Timestamp;

/// A session that a node finds in its shards when it starts.
#[derive(Debug, Clone, PartialEq)]
pub struct Restored {
    /// Client identifier.
    pub client_id: Arc<str>,
    /// Epoch of its last connection.
    pub epoch: u64,
    /// That connection's end is not recorded: the node died first.
    pub connected: bool,
    /// The node that has, or had last, the connection; 0: there is one node only.
    pub node: u64,
    /// The record keeps queue and subscriptions (else only a will).
    pub durable: bool,
    /// Seconds of silence after which its client is lost, if its front-end supervises it; else 0.
    pub supervision: u32,
    /// Its client sleeps.
    pub parked: bool,
    /// To whom it belongs.
    pub owner: Owner,
    /// Limits of its queue.
    pub limits: QueueLimits,
    /// Its subscriptions.
    pub subs: Vec<(TopicFilter, Subscription)>,
}

/// Version of a snapshot that refers to bodies on the disk: each body says which kind it is. Without such bodies the
/// first version is written.
const WITH_PLACES: u8 = 2;

/// What two queues share: a message in memory by its address, one on the disk by its place.
#[derive(PartialEq, Eq, Hash)]
enum Key {
    Memory(usize),
    Disk(Place),
}

/// The messages of a snapshot, each with its number.
#[derive(Default)]
struct Bodies {
    numbers: HashMap<Key, usize, RandomState>,
    bytes: Vec<u8>,
    places: bool,
    /// Each message is written where it is used: for [`SessionShard::digest`], which compares contents.
    repeats: bool,
}

impl Bodies {
    fn number(&mut self, message: &Message) -> usize {
        if self.repeats {
            Encoder(&mut self.bytes).message(message);
            return 0;
        }
        let next = self.numbers.len();
        let key = Key::Memory(message.address());
        *self.numbers.entry(key).or_insert_with(|| {
            let mut out = Encoder(&mut self.bytes);
            if self.places {
                out.u8(0);
            }
            out.message(message);
            next
        })
    }

    fn number_of_place(&mut self, place: Place, cost: u32) -> usize {
        let next = self.numbers.len();
        *self.numbers.entry(Key::Disk(place)).or_insert_with(|| {
            let mut out = Encoder(&mut self.bytes);
            out.u8(1);
            out.u64(u64::from(place.file));
            out.u64(u64::from(place.offset));
            out.u64(u64::from(cost));
            next
        })
    }
}

fn decode_body(from: &mut Decoder<'_>, places: bool) -> Result<Body, CodecError> {
    if !places {
        return Ok(Body::Memory(from.message()?));
    }
    match from.u8("body")? {
        0 => Ok(Body::Memory(from.message()?)),
        1 => Ok(Body::Disk {
            place: Place {
                file: from.number("file of a body")?,
                offset: from.number("offset of a body")?,
            },
            cost: from.number("size of a body")?,
        }),
        _ => Err(CodecError::Invalid("body")),
    }
}

const CONNECTED: u8 = 1;
const TRANSIENT: u8 = 2;
const DISARMED: u8 = 4;
const KEEPS_WILL: u8 = 8;
const SUPERVISED: u8 = 16;
const FRONT: u8 = 32;
const NODE: u8 = 64;
const OWNER: u8 = 128;

const RETAIN: u8 = 4;
const CHECKED: u8 = 8;
const BODY: u8 = 16;

fn encode_item(out: &mut Encoder<'_>, bodies: &mut Bodies, item: &Queued) {
    out.u64(item.seq());
    out.u8(item.qos() as u8
        | if item.retain() { RETAIN } else { 0 }
        | if item.checked() { CHECKED } else { 0 }
        | if item.has_body() { BODY } else { 0 });
    match item.body() {
        Body::Gone => {}
        Body::Memory(message) => out.len(bodies.number(message)),
        Body::Disk { place, cost } => out.len(bodies.number_of_place(*place, *cost)),
    }
    out.len(item.sub_ids().len());
    item.sub_ids().iter().for_each(|id| out.u64(u64::from(*id)));
    out.group(item.group());
}

fn decode_item(from: &mut Decoder<'_>, bodies: &[Body]) -> Result<Queued, CodecError> {
    let seq = from.u64("delivery sequence")?;
    if seq >> 56 != 0 {
        return Err(CodecError::Invalid("delivery sequence"));
    }
    let bits = from.u8("delivery")?;
    if bits & !(3 | RETAIN | CHECKED | BODY) != 0 {
        return Err(CodecError::Invalid("delivery"));
    }
    let body = if bits & BODY != 0 {
        let number: usize = from.number("message number")?;
        bodies
            .get(number)
            .ok_or(CodecError::Invalid("message number"))?
            .clone()
    } else {
        Body::Gone
    };
    let sub_ids = (0..from.count("subscription identifiers")?)
        .map(|_| from.number("subscription identifier"))
        .collect::<Result<_, _>>()?;
    let mut item = Queued::new(body, Decoder::qos(bits & 3)?)
        .with_retain(bits & RETAIN != 0)
        .with_checked(bits & CHECKED != 0)
        .with_sub_ids(sub_ids)
        .with_group(from.group()?);
    item.set_seq(seq);
    Ok(item)
}

fn encode_record(out: &mut Encoder<'_>, bodies: &mut Bodies, record: &Record) {
    out.text(&record.client_id);
    out.u64(record.epoch);
    let bit = |on: bool, bit: u8| if on { bit } else { 0 };
    out.u8(bit(record.connected, CONNECTED)
        | bit(record.transient, TRANSIENT)
        | bit(record.disarmed, DISARMED)
        | bit(record.keeps_will, KEEPS_WILL)
        | bit(record.supervision > 0, SUPERVISED)
        | bit(!record.front.is_empty(), FRONT)
        | bit(record.node != 0, NODE)
        | bit(record.owner.is_some(), OWNER));
    if record.node != 0 {
        out.u64(record.node);
    }
    out.u64(u64::from(record.expiry));
    out.time(record.expires_at);
    out.will(record.will.as_deref());
    out.time(record.will_at);
    out.limits(&record.limits);
    out.u64(u64::from(record.window));
    out.u64(record.dropped);
    out.u64(record.next_seq);
    out.u64(record.maybe_sent);
    out.len(record.received.len());
    record
        .received
        .iter()
        .for_each(|id| out.u64(u64::from(*id)));
    out.len(record.subs.len());
    for (filter, sub) in record.subs.iter() {
        out.sub(filter, *sub);
    }
    out.len(record.queue.len());
    for item in record.queue.iter() {
        encode_item(out, bodies, item);
    }
    if record.supervision > 0 {
        out.u64(u64::from(record.supervision));
        out.time(record.park_at);
    }
    if !record.front.is_empty() {
        out.bytes(&record.front);
    }
    if let Some(owner) = &record.owner {
        out.owner(owner);
    }
}

fn decode_record(from: &mut Decoder<'_>, bodies: &[Body]) -> Result<Record, CodecError> {
    let client_id: Arc<str> = from.text("client id")?.into();
    let epoch = from.u64("epoch")?;
    let bits = from.u8("session")?;
    let node = if bits & NODE != 0 {
        from.u64("node")?
    } else {
        0
    };
    let expiry = from.number("session expiry")?;
    let expires_at = from.time("session expiry")?;
    let will = from.will()?;
    let will_at = from.time("will delay")?;
    let limits = from.limits()?;
    let window = from.number("window")?;
    let mut record = Record::new(client_id, limits, window);
    record.epoch = epoch;
    record.node = node;
    record.connected = bits & CONNECTED != 0;
    record.transient = bits & TRANSIENT != 0;
    record.disarmed = bits & DISARMED != 0;
    record.keeps_will = bits & KEEPS_WILL != 0;
    record.expiry = expiry;
    record.expires_at = expires_at;
    record.will = will;
    record.will_at = will_at;
    record.dropped = from.u64("drops")?;
    record.next_seq = from.u64("delivery sequence")?;
    record.maybe_sent = from.u64("delivery sequence")?;
    for _ in 0..from.count("packet ids")? {
        record.received.push(from.number("packet id")?);
    }
    for _ in 0..from.count("subscriptions")? {
        let (filter, sub) = from.sub()?;
        record.subs.insert(filter, sub);
    }
    for _ in 0..from.count("queue")? {
        let item = decode_item(from, bodies)?;
        let last = record.queue.back().map(Queued::seq);
        if last.is_some_and(|last| last >= item.seq()) || item.seq() >= record.next_seq {
            return Err(CodecError::Invalid("delivery sequence"));
        }
        record.bytes += item.cost();
        record.held += item.held();
        record.queue.push_back(item);
    }
    if bits & SUPERVISED != 0 {
        record.supervision = from.number("supervision")?;
        record.park_at = from.time("supervision")?;
    }
    if bits & FRONT != 0 {
        record.front = from.bytes("front-end state")?.into();
    }
    if bits & OWNER != 0 {
        record.owner = Some(Box::new(from.owner()?));
    }
    Ok(record)
}

impl SessionShard {
    /// Appends a snapshot of the whole shard.
    pub fn encode(&self, out: &mut Vec<u8>) {
        let mut bodies = Bodies {
            places: self
                .slots
                .iter()
                .flatten()
                .any(|record| record.bytes > record.held)
                || self.duties.values().any(Duty::is_on_disk),
            ..Bodies::default()
        };
        let mut rest = Vec::new();
        let mut enc = Encoder(&mut rest);
        enc.time(self.clock);
        enc.len(self.slots.iter().flatten().count());
        for record in self.slots.iter().flatten() {
            encode_record(&mut enc, &mut bodies, record);
        }
        enc.u64(self.next_duty);
        enc.len(self.duties.len());
        for (number, duty) in &self.duties {
            enc.u64(*number);
            match duty {
                Duty::Will { client_id, message } => {
                    enc.u8(if self.is_superseded(*number, duty) {
                        3
                    } else {
                        1
                    });
                    enc.text(client_id);
                    enc.len(bodies.number(message));
                }
                Duty::HandBack { client_id, shared } => {
                    enc.u8(2);
                    enc.text(client_id);
                    enc.len(shared.len());
                    for item in shared {
                        encode_item(&mut enc, &mut bodies, item);
                    }
                }
            }
        }
        if self.epochs > 0 {
            enc.u64(self.epochs);
        }
        let mut out = Encoder(out);
        out.u8(if bodies.places { WITH_PLACES } else { FORMAT });
        out.len(bodies.numbers.len());
        out.0.extend_from_slice(&bodies.bytes);
        out.0.extend_from_slice(&rest);
    }

    /// Reads a snapshot, all of it.
    ///
    /// # Errors
    /// [`CodecError`].
    #[allow(
        clippy::field_reassign_with_default,
        reason = "other fields belong to the state machine's own module"
    )]
    pub fn decode(bytes: &[u8]) -> Result<Self, CodecError> {
        let mut from = Decoder(bytes);
        let places = from.0.first() == Some(&WITH_PLACES);
        if places {
            from.u8("format")?;
        } else {
            from.format()?;
        }
        let bodies = (0..from.count("messages")?)
            .map(|_| decode_body(&mut from, places))
            .collect::<Result<Vec<_>, _>>()?;
        let mut shard = Self::default();
        shard.clock = from.time("time")?;
        for _ in 0..from.count("sessions")? {
            let record = decode_record(&mut from, &bodies)?;
            if shard.slot(&record.client_id).is_some() {
                return Err(CodecError::Invalid("client id: it is there twice"));
            }
            let indexed: Vec<_> = record
                .subs
                .iter()
                .filter(|(_, sub)| is_routed(**sub))
                .map(|(filter, sub)| (filter.clone(), *sub))
                .collect();
            shard.held += record.held;
            let slot = shard.insert(record);
            for (filter, sub) in indexed {
                if filter.shared().is_some() {
                    *shard.shared.entry(filter).or_insert(0) += 1;
                } else {
                    shard.index.get_or_insert(&filter).put(slot, sub, true);
                }
            }
            shard.arm(slot);
        }
        shard.next_duty = from.u64("duty")?;
        for _ in 0..from.count("duties")? {
            let number = from.u64("duty")?;
            let kind = from.u8("duty")?;
            let client_id: Arc<str> = from.text("client id")?.into();
            let duty = match kind {
                1 | 3 => {
                    let at: usize = from.number("message number")?;
                    let Some(Body::Memory(message)) = bodies.get(at).cloned() else {
                        return Err(CodecError::Invalid("message number"));
                    };
                    Duty::Will { client_id, message }
                }
                2 => Duty::HandBack {
                    client_id,
                    shared: (0..from.count("deliveries")?)
                        .map(|_| decode_item(&mut from, &bodies))
                        .collect::<Result<_, _>>()?,
                },
                _ => return Err(CodecError::Invalid("duty")),
            };
            if kind != 3 {
                shard.due_wills.note(number, &duty);
            }
            shard.duties.insert(number, duty);
        }
        if !from.is_empty() {
            shard.epochs = from.u64("epoch")?;
        }
        if from.is_empty() {
            Ok(shard)
        } else {
            Err(CodecError::Invalid("end: something follows it"))
        }
    }

    /// A digest of the whole shard, the same on all replicas that applied the same entries, in whatever order each keeps
    /// its sessions. Queues must be in memory, as those of a cluster are.
    #[must_use]
    pub fn digest(&self) -> u64 {
        let hasher = FixedState::default();
        let mut sum = hasher.hash_one((self.clock.0, self.next_duty, self.epochs));
        let mut bytes = Vec::new();
        for record in self.slots.iter().flatten() {
            let mut bodies = Bodies {
                repeats: true,
                ..Bodies::default()
            };
            bytes.clear();
            encode_record(&mut Encoder(&mut bytes), &mut bodies, record);
            sum = sum.wrapping_add(hasher.hash_one((&bytes, &bodies.bytes)));
        }
        for (number, duty) in &self.duties {
            let client_id = match duty {
                Duty::Will { client_id, .. } | Duty::HandBack { client_id, .. } => client_id,
            };
            sum = sum.wrapping_add(hasher.hash_one((
                *number,
                &**client_id,
                self.is_superseded(*number, duty),
            )));
        }
        sum
    }

    /// The latest time of any entry.
    #[must_use]
    pub const fn clock(&self) -> Timestamp {
        self.clock
    }

    /// What the node still owes, with its numbers, oldest first.
    pub fn duties(&self) -> impl Iterator<Item = (u64, &Duty)> {
        self.duties.iter().map(|(number, duty)| (*number, duty))
    }

    /// What the node still owes under this number.
    #[must_use]
    pub fn duty(&self, number: u64) -> Option<&Duty> {
        self.duties.get(&number)
    }

    /// All filters on which the shard wants messages of QoS 1/2, each once; shared subscriptions in full.
    #[must_use]
    pub fn routes(&self) -> Vec<TopicFilter> {
        let mut filters: Vec<_> = self
            .slots
            .iter()
            .flatten()
            .flat_map(|record| record.subs.iter())
            .filter(|(_, sub)| is_routed(**sub))
            .map(|(filter, _)| filter.clone())
            .collect();
        filters.sort_unstable();
        filters.dedup();
        filters
    }

    /// Everything a node must know of the sessions when it starts.
    pub fn restored(&self) -> impl Iterator<Item = Restored> {
        self.slots.iter().flatten().map(|record| Restored {
            client_id: record.client_id.clone(),
            epoch: record.epoch,
            connected: record.connected,
            node: record.node,
            durable: !record.transient,
            supervision: record.supervision,
            parked: !record.connected && record.park_at != Timestamp::NEVER,
            owner: record.owner.as_deref().cloned().unwrap_or_default(),
            limits: record.limits.clone(),
            subs: record
                .subs
                .iter()
                .map(|(filter, sub)| (filter.clone(), *sub))
                .collect(),
        })
    }

    /// One more than the highest sequence that earlier connections of this slot may have sent.
    #[must_use]
    pub fn maybe_sent(&self, slot: u32) -> u64 {
        self.record(slot).map_or(0, |record| record.maybe_sent)
    }

    /// Epoch and node of the connection that owns a client's session; `None` if nobody is connected.
    #[must_use]
    pub fn connection(&self, client_id: &str) -> Option<(u64, u64)> {
        let record = self.record(self.slot(client_id)?)?;
        record.connected.then_some((record.epoch, record.node))
    }

    /// Messages in all queues.
    #[must_use]
    pub fn queued(&self) -> usize {
        self.slots
            .iter()
            .flatten()
            .map(|record| record.queue.len())
            .sum()
    }

    /// Calls `each` with the slots whose queue this entry will lengthen.
    pub fn touches(&self, entry: &SessionEntry, mut each: impl FnMut(u32)) {
        match entry {
            SessionEntry::Publish(message) => self.index.matches(message.topic(), |list| {
                list.iter().for_each(|(slot, _)| each(*slot));
            }),
            SessionEntry::Enqueue(enqueue) => {
                if let Some(slot) = self.slot(&enqueue.client_id) {
                    each(slot);
                }
            }
            _ => {}
        }
    }

    /// Would a queue under the policy `reject` refuse this entry, if `ahead` others came before it?
    #[must_use]
    pub fn would_reject(&self, entry: &SessionEntry, ahead: usize) -> bool {
        let cost = match entry {
            SessionEntry::Publish(message) => message.cost(),
            SessionEntry::Enqueue(enqueue) => enqueue.message.cost(),
            _ => return false,
        };
        let mut full = false;
        self.touches(entry, |slot| {
            full |= self
                .record(slot)
                .is_some_and(|record| record.would_reject(cost, ahead));
        });
        full
    }
}

/// Does the shard count this subscription?
fn is_routed(sub: Subscription) -> bool {
    sub.options.qos() != QoS::AtMostOnce
}

impl RetainedShard {
    /// Appends a snapshot of the whole shard.
    pub fn encode(&self, out: &mut Vec<u8>) {
        let mut out = Encoder(out);
        out.u8(FORMAT);
        out.len(self.len());
        for message in self.messages() {
            out.message(message);
        }
    }

    /// A digest of the whole shard, the same on all replicas that applied the same entries.
    #[must_use]
    pub fn digest(&self) -> u64 {
        let hasher = FixedState::default();
        let mut bytes = Vec::new();
        let digests = self.messages().map(|message| {
            bytes.clear();
            Encoder(&mut bytes).message(message);
            hasher.hash_one(&bytes)
        });
        digests.fold(0, u64::wrapping_add)
    }

    /// Reads a snapshot, all of it.
    ///
    /// # Errors
    /// [`CodecError`].
    pub fn decode(bytes: &[u8]) -> Result<Self, CodecError> {
        let mut from = Decoder(bytes);
        from.format()?;
        let mut shard = Self::default();
        for _ in 0..from.count("messages")? {
            let message = from.message()?;
            if message.payload().is_empty() {
                return Err(CodecError::Invalid("retained message: it has no payload"));
            }
            shard.apply(RetainedEntry::Set(message));
        }
        if from.is_empty() {
            Ok(shard)
        } else {
            Err(CodecError::Invalid("end: something follows it"))
        }
    }
}
