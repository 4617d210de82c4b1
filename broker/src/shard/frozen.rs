//! Snapshots of shards: the whole state in bytes, each message once however many queues hold it.
//!
//! A shard is frozen first, which copies pointers, and encoded later, while it goes on: whoever changes what a frozen
//! shard holds changes a copy.

use std::collections::BTreeMap;
use std::hash::BuildHasher;

use foldhash::fast::{FixedState, RandomState};
use hashbrown::HashMap;
use triomphe::Arc as Shared;

use super::codec::{Encoder, FORMAT};
use super::queued::{Body, Place, Queued};
use super::record::Record;
use super::retained::RetainedShard;
use super::session::{Duty, SessionShard};
use super::snapshot::{
    BODY, CHECKED, CONNECTED, CUT, DISARMED, FRONT, KEEPS_WILL, NODE, OWNER, RETAIN, SUPERVISED,
    TRANSIENT, WITH_PLACES,
};
use super::wills::DueWills;
use crate::message::Message;
use crate::time::Timestamp;

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
    /// Each message is written where it is used: for [`Frozen::digest`], which compares contents.
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
        out.u64(u64::from(record.supervision) | u64::from(record.cut) << CUT);
        out.time(record.park_at);
    }
    if !record.front.is_empty() {
        out.bytes(&record.front);
    }
    if let Some(owner) = &record.owner {
        out.owner(owner);
    }
}

/// A session shard as it was at one moment.
#[derive(Debug)]
pub struct Frozen {
    clock: Timestamp,
    records: Vec<Shared<Record>>,
    duties: BTreeMap<u64, Shared<Duty>>,
    due_wills: DueWills,
    next_duty: u64,
    epochs: u64,
}

impl Frozen {
    /// Appends a snapshot of the whole shard.
    pub fn encode(&self, out: &mut Vec<u8>) {
        self.parts()
            .iter()
            .for_each(|part| out.extend_from_slice(part));
    }

    /// The snapshot that [`Self::encode`] appends, in the parts that it is made of: a large one need not be copied
    /// together.
    #[must_use]
    pub fn parts(&self) -> [Vec<u8>; 3] {
        let is_on_disk = |duty: &Shared<Duty>| duty.is_on_disk();
        let mut bodies = Bodies {
            places: self.records.iter().any(|it| it.bytes > it.held)
                || self.duties.values().any(is_on_disk),
            ..Bodies::default()
        };
        let mut rest = Vec::new();
        let mut enc = Encoder(&mut rest);
        enc.time(self.clock);
        enc.len(self.records.len());
        for record in &self.records {
            encode_record(&mut enc, &mut bodies, record);
        }
        enc.u64(self.next_duty);
        enc.len(self.duties.len());
        for (number, duty) in &self.duties {
            enc.u64(*number);
            match &**duty {
                Duty::Will { client_id, message } => {
                    let is_superseded = self.due_wills.is_superseded(*number, duty);
                    enc.u8(if is_superseded { 3 } else { 1 });
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
        let mut head = Vec::new();
        let mut out = Encoder(&mut head);
        out.u8(if bodies.places { WITH_PLACES } else { FORMAT });
        out.len(bodies.numbers.len());
        [head, bodies.bytes, rest]
    }

    /// A digest of the whole shard, the same on all replicas that applied the same entries, in whatever order each keeps
    /// its sessions. Queues must be in memory, as those of a cluster are.
    #[must_use]
    pub fn digest(&self) -> u64 {
        let hasher = FixedState::default();
        let mut sum = hasher.hash_one((self.clock.0, self.next_duty, self.epochs));
        let mut bytes = Vec::new();
        let mut bodies = Bodies {
            repeats: true,
            ..Bodies::default()
        };
        for record in &self.records {
            bodies.bytes.clear();
            bytes.clear();
            encode_record(&mut Encoder(&mut bytes), &mut bodies, record);
            sum = sum.wrapping_add(hasher.hash_one((&bytes, &bodies.bytes)));
        }
        for (number, duty) in &self.duties {
            let client_id = match &**duty {
                Duty::Will { client_id, .. } | Duty::HandBack { client_id, .. } => client_id,
            };
            let is_superseded = self.due_wills.is_superseded(*number, duty);
            sum = sum.wrapping_add(hasher.hash_one((*number, &**client_id, is_superseded)));
        }
        sum
    }
}

impl SessionShard {
    /// The shard as it is now: a copy of pointers.
    #[must_use]
    pub fn freeze(&self) -> Frozen {
        Frozen {
            clock: self.clock,
            records: self.slots.iter().flatten().cloned().collect(),
            duties: self.duties.clone(),
            due_wills: self.due_wills.clone(),
            next_duty: self.next_duty,
            epochs: self.epochs,
        }
    }

    /// Appends a snapshot of the whole shard.
    pub fn encode(&self, out: &mut Vec<u8>) {
        self.freeze().encode(out);
    }

    /// A digest of the whole shard, see [`Frozen::digest`].
    #[must_use]
    pub fn digest(&self) -> u64 {
        self.freeze().digest()
    }
}

/// A retained shard as it was at one moment: its messages in the order of their topics.
#[derive(Debug)]
pub struct FrozenRetained(Vec<Message>);

impl FrozenRetained {
    /// Appends a snapshot of the whole shard.
    pub fn encode(&self, out: &mut Vec<u8>) {
        let mut out = Encoder(out);
        out.u8(FORMAT);
        out.len(self.0.len());
        for message in &self.0 {
            out.message(message);
        }
    }

    /// A digest of the whole shard, the same on all replicas that applied the same entries.
    #[must_use]
    pub fn digest(&self) -> u64 {
        let hasher = FixedState::default();
        let mut bytes = Vec::new();
        let digests = self.0.iter().map(|message| {
            bytes.clear();
            Encoder(&mut bytes).message(message);
            hasher.hash_one(&bytes)
        });
        digests.fold(0, u64::wrapping_add)
    }
}

impl RetainedShard {
    /// The shard as it is now: a copy of pointers.
    #[must_use]
    pub fn freeze(&self) -> FrozenRetained {
        FrozenRetained(self.messages().cloned().collect())
    }

    /// Appends a snapshot of the whole shard.
    pub fn encode(&self, out: &mut Vec<u8>) {
        self.freeze().encode(out);
    }

    /// A digest of the whole shard, see [`FrozenRetained::digest`].
    #[must_use]
    pub fn digest(&self) -> u64 {
        self.freeze().digest()
    }
}
