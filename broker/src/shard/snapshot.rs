//! Shards from their snapshots, and what a node asks of a shard that it begins with.

use std::sync::Arc;

use nightjar_mqtt::{QoS, TopicFilter};
use triomphe::Arc as Shared;

use super::codec::{CodecError, Decoder};
use super::entry::SessionEntry;
use super::queued::{Body, Place, Queued};
use super::record::Record;
use super::retained::{RetainedEntry, RetainedShard};
use super::session::{Duty, SessionShard};
use crate::auth::Owner;
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
pub(super) const WITH_PLACES: u8 = 2;

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

pub(super) const CONNECTED: u8 = 1;
pub(super) const TRANSIENT: u8 = 2;
pub(super) const DISARMED: u8 = 4;
pub(super) const KEEPS_WILL: u8 = 8;
pub(super) const SUPERVISED: u8 = 16;
pub(super) const FRONT: u8 = 32;
pub(super) const NODE: u8 = 64;
pub(super) const OWNER: u8 = 128;
/// Beside the seconds of supervision.
pub(super) const CUT: u8 = 32;

pub(super) const RETAIN: u8 = 4;
pub(super) const CHECKED: u8 = 8;
pub(super) const BODY: u8 = 16;

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
        let supervision = from.u64("supervision")?;
        record.cut = supervision >> CUT & 1 != 0;
        record.supervision = u32::try_from(supervision & !(1 << CUT))
            .map_err(|_| CodecError::Invalid("supervision"))?;
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
            shard.duties.insert(number, Shared::new(duty));
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

    /// The latest time of any entry.
    #[must_use]
    pub const fn clock(&self) -> Timestamp {
        self.clock
    }

    /// What the node still owes, with its numbers, oldest first.
    pub fn duties(&self) -> impl Iterator<Item = (u64, &Duty)> {
        self.duties.iter().map(|(number, duty)| (*number, &**duty))
    }

    /// What the node still owes under this number.
    #[must_use]
    pub fn duty(&self, number: u64) -> Option<&Duty> {
        self.duties.get(&number).map(|duty| &**duty)
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
