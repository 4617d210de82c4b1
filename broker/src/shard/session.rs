//! A shard of durable sessions: who owns them, their subscriptions, queues, QoS 2 ids, wills and expiry.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use foldhash::fast::RandomState;
use hashbrown::HashMap;
use nightjar_mqtt::{QoS, TopicFilter};
use triomphe::Arc as Shared;

use super::entry::{
    Ack, Close, CloseKind, Open, Opened, Parked, Reply, SessionEntry, Will, WillRule,
};
use super::queued::Queued;
use super::record::{AWAKE, Record, change};
use super::subscribers::Subscribers;
use super::wills::DueWills;
use crate::filter_index::FilterIndex;
use crate::handle::DropReason;
use crate::message::Message;
use crate::time::Timestamp;

/// What an entry makes the node do.
#[derive(Debug, Clone, PartialEq)]
pub enum Effect {
    /// The shard's first subscription of QoS 1/2 on this filter.
    RouteAdded(TopicFilter),
    /// Its last one went.
    RouteRemoved(TopicFilter),
    /// A will is due: publish it.
    Will {
        /// Whose.
        client_id: Arc<str>,
        /// The message, its times set.
        message: Message,
        /// Number of the [`Duty`] that the shard keeps until it is fulfilled.
        duty: u64,
    },
    /// A session ended.
    Ended {
        /// Client identifier.
        client_id: Arc<str>,
        /// Last epoch.
        epoch: u64,
        /// Slot it had.
        slot: u32,
        /// Messages that end with it.
        undelivered: u64,
    },
    /// Part of what an ended session held from shared subscriptions and had not sent completely goes to other members.
    HandBack {
        /// The session that ended.
        client_id: Arc<str>,
        /// What it held.
        shared: Vec<Queued>,
        /// Number of the [`Duty`] that the shard keeps until it is fulfilled.
        duty: u64,
    },
    /// A session's queue has something new.
    Ready {
        /// Slot of the session.
        slot: u32,
    },
    /// Messages were removed undelivered.
    Dropped {
        /// Client identifier.
        client_id: Arc<str>,
        /// Why.
        reason: DropReason,
        /// How many.
        count: u64,
    },
}

/// What a node owes to others because of an entry. The shard keeps it until [`SessionEntry::Fulfilled`], committed
/// together with what fulfils it, takes it away: a node that dies between the two finds it again.
#[derive(Debug, Clone, PartialEq)]
pub enum Duty {
    /// A will is to be published.
    Will {
        /// Whose.
        client_id: Arc<str>,
        /// The message, its times set.
        message: Message,
    },
    /// What an ended session held from shared subscriptions goes to other members.
    HandBack {
        /// The session that ended.
        client_id: Arc<str>,
        /// What it held.
        shared: Vec<Queued>,
    },
}

impl Duty {
    /// Is something of it on the disk?
    #[must_use]
    pub fn is_on_disk(&self) -> bool {
        match self {
            Self::Will { .. } => false,
            Self::HandBack { shared, .. } => shared.iter().any(Queued::is_on_disk),
        }
    }
}

/// The state machine of one shard.
#[derive(Debug, Default)]
pub struct SessionShard {
    pub(super) slots: Vec<Option<Shared<Record>>>,
    free: Vec<u32>,
    by_client: HashMap<Arc<str>, u32, RandomState>,
    pub(super) index: FilterIndex<Subscribers>,
    /// Shared subscriptions (`$share/...` in full), and how many sessions have each with QoS 1 or 2.
    pub(super) shared: HashMap<TopicFilter, usize, RandomState>,
    timers: BTreeSet<(Timestamp, u32)>,
    /// The latest time of any entry: time never goes back here.
    pub(super) clock: Timestamp,
    pub(super) duties: BTreeMap<u64, Shared<Duty>>,
    pub(super) due_wills: DueWills,
    pub(super) next_duty: u64,
    /// The last epoch given to a connection of a cluster's node: in a shard none is given twice.
    pub(super) epochs: u64,
    /// Sum of what the records hold in memory.
    pub(super) held: usize,
}

impl SessionShard {
    /// Applies one entry.
    pub fn apply(&mut self, entry: SessionEntry, effects: &mut Vec<Effect>) -> Reply {
        match entry {
            SessionEntry::Open(mut open) => {
                open.now = self.advance(open.now);
                Reply::Opened(Box::new(self.open(*open, effects)))
            }
            SessionEntry::Close(mut close) => {
                close.now = self.advance(close.now);
                self.close(&close, effects)
            }
            SessionEntry::Subscribe {
                client_id,
                epoch,
                subs,
            } => self.subscribe(&client_id, epoch, subs, effects),
            SessionEntry::Unsubscribe {
                client_id,
                epoch,
                filters,
            } => self.unsubscribe(&client_id, epoch, &filters, effects),
            SessionEntry::Publish(message) => self.publish(&message, effects),
            SessionEntry::Enqueue(enqueue) => self.enqueue(*enqueue, effects),
            SessionEntry::Acks {
                client_id,
                epoch,
                acks,
            } => self.acks(&client_id, epoch, &acks, effects),
            SessionEntry::Received {
                client_id,
                epoch,
                ids,
            } => self.with(&client_id, epoch, |record| {
                for id in ids {
                    if !record.received.contains(&id) {
                        record.received.push(id);
                    }
                }
            }),
            SessionEntry::Released {
                client_id,
                epoch,
                ids,
            } => self.with(&client_id, epoch, |record| {
                record.received.retain(|id| !ids.contains(id));
                record.received.shrink();
            }),
            SessionEntry::End { client_id } => {
                if let Some(slot) = self.slot(&client_id) {
                    self.end(slot, Timestamp::NEVER, effects);
                }
                Reply::None
            }
            SessionEntry::Tick { now } => {
                let now = self.advance(now);
                self.tick(now, effects);
                Reply::None
            }
            SessionEntry::Touch {
                client_id,
                epoch,
                now,
            } => {
                let now = self.advance(now);
                self.touch(&client_id, epoch, now)
            }
            SessionEntry::Front {
                client_id,
                epoch,
                append,
                octets,
            } => self.with(&client_id, epoch, |record| {
                record.front = if append {
                    [&*record.front, &*octets].concat().into()
                } else {
                    octets
                };
            }),
            SessionEntry::SetWill {
                client_id,
                epoch,
                will,
            } => self.with(&client_id, epoch, |record| record.will = will),
            SessionEntry::NodeGone { node, kind, now } => {
                let now = self.advance(now);
                self.node_gone(node, kind, now, effects);
                Reply::None
            }
            // Whoever applies the entries behind it looks at it.
            SessionEntry::By { .. } => Reply::None,
            SessionEntry::Fulfilled { duties } => {
                for number in duties {
                    if let Some(duty) = self.duties.remove(&number) {
                        self.due_wills.forget(number, &duty);
                    }
                }
                Reply::None
            }
        }
    }

    fn advance(&mut self, now: Timestamp) -> Timestamp {
        self.clock = self.clock.max(now);
        self.clock
    }

    fn owe(&mut self, duty: Duty) -> u64 {
        let number = self.next_duty;
        self.next_duty += 1;
        self.due_wills.note(number, &duty);
        self.duties.insert(number, Shared::new(duty));
        number
    }

    fn fire(
        &mut self,
        client_id: Arc<str>,
        will: &Will,
        now: Timestamp,
        effects: &mut Vec<Effect>,
    ) {
        let mut head = will.message.head().clone();
        head.received_at = now;
        head.expires_at = will.expiry.map(|seconds| now.plus_secs(u64::from(seconds)));
        let message = Message::new(head, will.message.payload());
        let duty = self.owe(Duty::Will {
            client_id: client_id.clone(),
            message: message.clone(),
        });
        effects.push(Effect::Will {
            client_id,
            message,
            duty,
        });
    }

    /// Must this Open be an entry? A transient session without a will that finds no record changes nothing.
    #[must_use]
    pub fn needs_entry(&self, open: &Open) -> bool {
        open.expiry > 0
            || open.will.is_some()
            || open.node != 0
            || self.by_client.contains_key(&open.client_id)
    }

    /// Slot of a client.
    #[must_use]
    pub fn slot(&self, client_id: &str) -> Option<u32> {
        self.by_client.get(client_id).copied()
    }

    /// Is something due at `now`?
    #[must_use]
    pub fn is_due(&self, now: Timestamp) -> bool {
        self.timers.first().is_some_and(|(at, _)| *at <= now)
    }

    /// The first message of a slot's queue at or behind `seq` that still has a body, wherever that is.
    #[must_use]
    pub fn next_from(&self, slot: u32, seq: u64) -> Option<&Queued> {
        let record = self.record(slot)?;
        let at = record.queue.partition_point(|item| item.seq() < seq);
        let first = record.queue.get(at)?;
        if first.has_body() {
            return Some(first);
        }
        record.queue.from(at + 1).find(|item| item.has_body())
    }

    /// Is a connected session's queue more than half full?
    #[must_use]
    pub fn is_pressed(&self, slot: u32) -> bool {
        self.record(slot).is_some_and(Record::is_pressed)
    }

    /// Client id and epoch of a slot.
    #[must_use]
    pub fn owner(&self, slot: u32) -> Option<(&Arc<str>, u64)> {
        self.record(slot)
            .map(|record| (&record.client_id, record.epoch))
    }

    /// Queue length and messages dropped so far, of a client.
    #[must_use]
    pub fn queue_len(&self, client_id: &str) -> Option<(usize, u64)> {
        let record = self.record(self.slot(client_id)?)?;
        Some((record.queue.len(), record.dropped))
    }

    /// The node that has a client's connection, or had it last.
    #[must_use]
    pub fn node_of(&self, client_id: &str) -> Option<u64> {
        let record = self.slot(client_id).and_then(|slot| self.record(slot));
        record.map(|record| record.node)
    }

    /// Is this the client's connection? Not if a later one took it over, or its session has ended.
    #[must_use]
    pub fn is_current(&self, client_id: &str, epoch: u64) -> bool {
        let record = self.slot(client_id).and_then(|slot| self.record(slot));
        record.is_some_and(|record| record.epoch == epoch)
    }

    /// The session of a client that sleeps.
    #[must_use]
    pub fn parked(&self, client_id: &str) -> Option<Parked> {
        let record = self.record(self.slot(client_id)?)?;
        (!record.connected && record.park_at != Timestamp::NEVER).then_some(Parked {
            epoch: record.epoch,
            seconds: record.supervision,
            lost_at: record.park_at,
            waiting: record.queue.len(),
            bytes: record.bytes,
        })
    }

    fn touch(&mut self, client_id: &str, epoch: u64, now: Timestamp) -> Reply {
        let slot = self.slot(client_id);
        let Some((slot, record)) =
            slot.and_then(|slot| Some((slot, change(&mut self.slots[slot as usize])?)))
        else {
            return Reply::Stale;
        };
        if record.epoch != epoch || record.connected || record.park_at == Timestamp::NEVER {
            return Reply::Stale;
        }
        record.park_at = now.plus_secs(u64::from(record.supervision));
        if record.expires_at != Timestamp::NEVER {
            record.expires_at = now.plus_secs(u64::from(record.expiry));
        }
        self.arm(slot);
        Reply::None
    }

    /// Number of sessions that stay without a connection.
    #[must_use]
    pub fn sessions(&self) -> usize {
        self.slots
            .iter()
            .flatten()
            .filter(|record| !record.transient)
            .count()
    }

    pub(super) fn record(&self, slot: u32) -> Option<&Record> {
        self.slots.get(slot as usize)?.as_deref()
    }

    fn with(&mut self, client_id: &str, epoch: u64, f: impl FnOnce(&mut Record)) -> Reply {
        match self.current(client_id, epoch) {
            Some((_, record)) => {
                f(record);
                Reply::None
            }
            None => Reply::Stale,
        }
    }

    pub(super) fn current(&mut self, client_id: &str, epoch: u64) -> Option<(u32, &mut Record)> {
        let slot = self.slot(client_id)?;
        let record = self.record(slot)?;
        if record.epoch != epoch || !record.connected {
            return None;
        }
        Some((slot, change(&mut self.slots[slot as usize])?))
    }

    fn open(&mut self, open: Open, effects: &mut Vec<Effect>) -> Opened {
        let mut last_epoch = 0;
        let mut resumed = None;
        if let Some(slot) = self.slot(&open.client_id) {
            self.lose(slot, open.now, effects);
            let record = self
                .record(slot)
                .expect("a slot in the client table has a record");
            last_epoch = record.epoch;
            let gone = open.clean_start
                || record.transient
                || record.expires_at <= open.now
                || (record.connected && record.expiry == 0);
            if gone {
                if open.clean_start && open.supervision.is_some() {
                    // CleanSession of MQTT-SN wipes the will too (MQTT-SN section 6.3).
                    let record = change(&mut self.slots[slot as usize]);
                    record.expect("the slot was just found").will = None;
                }
                self.end(slot, open.now, effects);
            } else {
                resumed = Some(slot);
            }
        }
        let slot = match resumed {
            Some(slot) => slot,
            None if open.expiry == 0 && open.will.is_none() && open.node == 0 => {
                return Opened {
                    epoch: last_epoch + 1,
                    ..Opened::default()
                };
            }
            None => self.insert(Record::new(
                open.client_id.clone(),
                open.limits.clone(),
                open.window,
            )),
        };
        let epoch = if open.node == 0 {
            last_epoch + 1
        } else {
            // What an ended session's connection left on its way from another node must not meet a later one.
            self.epochs = self.epochs.max(last_epoch) + 1;
            self.epochs
        };
        let record =
            change(&mut self.slots[slot as usize]).expect("the slot was just found or filled");
        let present = resumed.is_some();
        // A will of the old connection: with delay 0 it is due the moment that connection is over; with a delay
        // this resumption cancels it [MQTT-3.1.3-9].
        let fires = present && record.connected && !record.disarmed;
        let parked = if record.park_at == Timestamp::NEVER {
            0
        } else {
            record.supervision
        };
        let mut old_will = None;
        match open.supervision.map(|supervision| supervision.will) {
            None => {
                let will = std::mem::replace(&mut record.will, open.will);
                old_will = will.filter(|will| fires && will.delay == 0);
            }
            Some(WillRule::Keep) => record.disarmed = false,
            Some(WillRule::Wake) => {}
            Some(WillRule::Replace) => record.will = open.will,
        }
        match open.supervision {
            None => record.supervision = 0,
            // Its countdown goes on with the seconds it was parked for.
            Some(supervision) if supervision.will == WillRule::Wake && parked > 0 => {}
            Some(supervision) => record.supervision = supervision.seconds,
        }
        let wakes = open.supervision.is_some_and(|it| it.will == WillRule::Wake);
        if !wakes {
            record.disarmed = false;
        }
        record.keeps_will = open.supervision.is_some();
        record.park_at = if wakes && parked > 0 {
            AWAKE
        } else {
            Timestamp::NEVER
        };
        let cut = present && (record.cut || record.connected);
        record.cut = false;
        if record.connected {
            record.note_sent();
        }
        record.epoch = epoch;
        record.connected = true;
        record.node = open.node;
        record.transient = !present && open.expiry == 0;
        record.expiry = open.expiry;
        record.expires_at = Timestamp::NEVER;
        record.will_at = Timestamp::NEVER;
        record.owner = open.owner;
        record.limits = open.limits;
        record.window = open.window;
        let opened = Opened {
            present,
            recorded: true,
            durable: !record.transient,
            epoch: record.epoch,
            before: last_epoch,
            subs: record
                .subs
                .iter()
                .map(|(filter, sub)| (filter.clone(), *sub))
                .collect(),
            received: record.received.to_vec(),
            released: record
                .queue
                .iter()
                .filter(|item| !item.has_body())
                .map(Queued::seq)
                .collect(),
            front: record.front.clone(),
            will: if record.keeps_will {
                record.will.clone()
            } else {
                None
            },
            parked,
            cut,
        };
        self.arm(slot);
        if let Some(will) = old_will {
            self.fire(open.client_id, &will, open.now, effects);
        }
        opened
    }

    fn close(&mut self, close: &Close, effects: &mut Vec<Effect>) -> Reply {
        let Some((slot, record)) = self.current(&close.client_id, close.epoch) else {
            return Reply::Stale;
        };
        if let Some(expiry) = close.expiry {
            record.expiry = expiry;
        }
        let cut = matches!(close.kind, CloseKind::Abnormal | CloseKind::Restart(_));
        let kind = match close.kind {
            // While the node was down no client could be heard: the countdown of a supervised one begins anew, so that no
            // will is published before its client had its chance.
            CloseKind::Restart(_) if record.supervision > 0 => CloseKind::Park(record.supervision),
            kind => kind,
        };
        record.cut = cut && record.supervision > 0;
        record.park_at = Timestamp::NEVER;
        match kind {
            CloseKind::Normal => record.will = None,
            CloseKind::Disarmed => record.disarmed = true,
            CloseKind::Park(seconds) => {
                // A snapshot tells a parked session by its seconds.
                let seconds = seconds.max(1);
                record.supervision = seconds;
                record.park_at = close.now.plus_secs(u64::from(seconds));
            }
            CloseKind::Abnormal | CloseKind::Restart(_) => {}
        }
        record.note_sent();
        record.connected = false;
        record.queue.shrink();
        let grace = match kind {
            CloseKind::Restart(seconds) => Some(seconds),
            _ => None,
        };
        if record.expiry == 0 && (grace.is_none() || record.will.is_none()) {
            self.end(slot, close.now, effects);
            return Reply::None;
        }
        let expiry = record.expiry;
        let expires_at = if expiry == u32::MAX {
            Timestamp::NEVER
        } else {
            close.now.plus_secs(u64::from(expiry))
        };
        let mut fired = None;
        if let Some(will) = &record.will
            && !record.disarmed
            && record.park_at == Timestamp::NEVER
        {
            let delay = grace.map_or(will.delay.min(expiry), |grace| {
                grace.max(will.delay.min(expiry))
            });
            if delay == 0 {
                fired = record.take_due_will();
            } else {
                record.will_at = close.now.plus_secs(u64::from(delay));
            }
        }
        // A transient session whose will waits for the restart goes with that will.
        record.expires_at = if expiry == 0 {
            record.will_at
        } else {
            expires_at
        };
        self.arm(slot);
        if let Some(will) = fired {
            self.fire(close.client_id.clone(), &will, close.now, effects);
        }
        Reply::None
    }

    fn acks(
        &mut self,
        client_id: &str,
        epoch: u64,
        acks: &[Ack],
        effects: &mut Vec<Effect>,
    ) -> Reply {
        let Some((slot, record)) = self.current(client_id, epoch) else {
            return Reply::Stale;
        };
        let held = record.held;
        for ack in acks {
            if let Some(reason) = record.ack(*ack) {
                effects.push(Effect::Dropped {
                    client_id: record.client_id.clone(),
                    reason,
                    count: 1,
                });
            }
        }
        let freed = held - record.held;
        self.held -= freed;
        effects.push(Effect::Ready { slot });
        Reply::None
    }

    fn tick(&mut self, now: Timestamp, effects: &mut Vec<Effect>) {
        // In the order of client ids, which replicas agree on; slots are each one's own.
        let mut due: Vec<(Timestamp, Arc<str>, u32)> = self
            .timers
            .iter()
            .take_while(|(at, _)| *at <= now)
            .filter_map(|(at, slot)| Some((*at, self.record(*slot)?.client_id.clone(), *slot)))
            .collect();
        due.sort_unstable();
        for (_, _, slot) in due {
            let record =
                change(&mut self.slots[slot as usize]).expect("a slot with a timer has a record");
            let expired = record.expires_at <= now;
            let will_due = record.will_at <= now;
            self.lose(slot, now, effects);
            let record =
                change(&mut self.slots[slot as usize]).expect("a slot with a timer has a record");
            if will_due {
                record.will_at = Timestamp::NEVER;
                if let Some(will) = record.take_due_will() {
                    let client_id = record.client_id.clone();
                    self.fire(client_id, &will, now, effects);
                }
            }
            if expired {
                self.end(slot, now, effects);
            } else {
                self.arm(slot);
            }
        }
    }

    /// A parked client whose time is over is lost, and its will due: also when it comes back before a Tick has seen it.
    fn lose(&mut self, slot: u32, now: Timestamp, effects: &mut Vec<Effect>) {
        let record = self.record(slot).expect("only live slots are looked at");
        if record.park_at > now {
            return;
        }
        let record = change(&mut self.slots[slot as usize]).expect("it was just looked at");
        (record.park_at, record.will_at) = (Timestamp::NEVER, Timestamp::NEVER);
        if let Some(will) = record.take_due_will() {
            let client_id = record.client_id.clone();
            self.fire(client_id, &will, now, effects);
        }
    }

    /// Ends the connections of a node, in the order of client ids, which replicas agree on.
    fn node_gone(&mut self, node: u64, kind: CloseKind, now: Timestamp, effects: &mut Vec<Effect>) {
        let mut gone: Vec<(Arc<str>, u64, CloseKind)> = self
            .slots
            .iter()
            .flatten()
            .filter(|record| record.connected && record.node == node)
            .map(|record| {
                // Whose node died while it was awake sleeps on, and wakes elsewhere.
                let kind = if record.park_at == AWAKE {
                    CloseKind::Restart(0)
                } else {
                    kind
                };
                (record.client_id.clone(), record.epoch, kind)
            })
            .collect();
        gone.sort_unstable_by(|one, other| one.0.cmp(&other.0));
        for (client_id, epoch, kind) in gone {
            let close = Close {
                client_id,
                epoch,
                kind,
                expiry: None,
                now,
            };
            self.close(&close, effects);
        }
    }

    pub(super) fn insert(&mut self, record: Record) -> u32 {
        let client_id = record.client_id.clone();
        let slot = match self.free.pop() {
            Some(slot) => {
                self.slots[slot as usize] = Some(Shared::new(record));
                slot
            }
            None => {
                self.slots.push(Some(Shared::new(record)));
                u32::try_from(self.slots.len() - 1).expect("fewer than 2^32 sessions fit in memory")
            }
        };
        self.by_client.insert(client_id, slot);
        slot
    }

    /// Ends a session: its will, if it still has one, is due now ([MQTT-3.1.2-8]: at the session's end at the
    /// latest). `now` of `NEVER` means that an operator ended it: no will.
    fn end(&mut self, slot: u32, now: Timestamp, effects: &mut Vec<Effect>) {
        let Some(record) = self.slots[slot as usize].take() else {
            return;
        };
        let mut record = Shared::unwrap_or_clone(record);
        self.held -= record.held;
        self.free.push(slot);
        self.by_client.remove(&record.client_id);
        self.timers.remove(&(record.timer, slot));
        for (filter, sub) in record.subs.take() {
            if sub.options.qos() != QoS::AtMostOnce {
                self.unindex(slot, &filter, effects);
            }
        }
        if now != Timestamp::NEVER
            && let Some(will) = record.take_due_will()
        {
            self.fire(record.client_id.clone(), &will, now, effects);
        }
        let (shared, rest): (Vec<_>, Vec<_>) = record
            .queue
            .take()
            .into_items()
            .filter(Queued::has_body)
            .partition(|item| item.group().is_some());
        effects.push(Effect::Ended {
            client_id: record.client_id.clone(),
            epoch: record.epoch,
            slot,
            undelivered: rest.len() as u64,
        });
        for shared in portions(shared) {
            let client_id = record.client_id.clone();
            let duty = self.owe(Duty::HandBack {
                client_id: client_id.clone(),
                shared: shared.clone(),
            });
            effects.push(Effect::HandBack {
                client_id,
                shared,
                duty,
            });
        }
    }

    pub(super) fn arm(&mut self, slot: u32) {
        let record = self.record(slot).expect("only live slots are armed");
        let deadline = record.deadline();
        if record.timer == deadline {
            return;
        }
        let record = change(&mut self.slots[slot as usize]).expect("it was just looked at");
        self.timers.remove(&(record.timer, slot));
        record.timer = deadline;
        if deadline != Timestamp::NEVER {
            self.timers.insert((deadline, slot));
        }
    }
}

/// What is handed back in one piece: so many messages and, but for a single one, so many bytes. A queue may be larger
/// than memory.
const HAND_BACK: (usize, usize) = (256, 1 << 20);

/// Cuts what a session held from shared subscriptions into such pieces. It looks at nothing but count and cost, which
/// are the same on every replica.
fn portions(shared: Vec<Queued>) -> Vec<Vec<Queued>> {
    let mut portions: Vec<Vec<Queued>> = Vec::new();
    let mut bytes = 0;
    for item in shared {
        let cost = item.cost();
        match portions.last_mut() {
            Some(last) if last.len() < HAND_BACK.0 && bytes + cost <= HAND_BACK.1 => {
                bytes += cost;
                last.push(item);
            }
            _ => {
                bytes = cost;
                portions.push(vec![item]);
            }
        }
    }
    portions
}
