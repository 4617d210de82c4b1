//! The bytes in which a log and its snapshots keep entries and state.
//!
//! Numbers are LEB128, texts and payloads are a length and bytes, and every unit that is stored on its own (a log
//! entry, a snapshot) begins with [`FORMAT`]. A new kind of entry gets a new number; numbers are never used twice.
//! Whoever stores these bytes adds the checksum; damage that gets past it is a [`CodecError`], never a panic.

use std::sync::Arc;

use nightjar_mqtt::{QoS, TopicFilter, TopicName};

use super::entry::{
    Ack, AckKind, Close, CloseKind, Enqueue, Open, SessionEntry, Supervision, Will, WillRule,
};
use super::retained::RetainedEntry;
use crate::auth::Owner;
use crate::handle::DropReason;
use crate::settings::{QueueLimits, QueuePolicy};
use crate::subscription::{SubOptions, Subscription};
use crate::time::Timestamp;

/// Version of the encoding.
pub const FORMAT: u8 = 1;

/// Why stored bytes could not be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum CodecError {
    /// The bytes end too early.
    #[error("ends in the middle of {0}")]
    Truncated(&'static str),
    /// A version that this program does not read.
    #[error("is of format {found}; this program reads format {FORMAT}")]
    Version {
        /// The version found.
        found: u8,
    },
    /// A value that nothing writes.
    #[error("has an impossible {0}")]
    Invalid(&'static str),
}

mod message;

type Result<T> = std::result::Result<T, CodecError>;

/// Writes the encoding to the end of a buffer.
#[derive(Debug)]
pub struct Encoder<'a>(pub &'a mut Vec<u8>);

impl Encoder<'_> {
    /// One byte.
    pub fn u8(&mut self, value: u8) {
        self.0.push(value);
    }

    /// A number.
    pub fn u64(&mut self, mut value: u64) {
        while value >= 0x80 {
            self.0.push(value as u8 | 0x80);
            value >>= 7;
        }
        self.0.push(value as u8);
    }

    /// A count or a length.
    pub fn len(&mut self, value: usize) {
        self.u64(value as u64);
    }

    /// Bytes with their length.
    pub fn bytes(&mut self, bytes: &[u8]) {
        self.len(bytes.len());
        self.0.extend_from_slice(bytes);
    }

    /// Text with its length.
    pub fn text(&mut self, text: &str) {
        self.bytes(text.as_bytes());
    }

    /// A time; `NEVER` is the shortest.
    pub fn time(&mut self, time: Timestamp) {
        self.u64(time.0.wrapping_add(1));
    }

    pub(super) fn sub(&mut self, filter: &TopicFilter, sub: Subscription) {
        self.text(filter);
        self.u8(sub.options.bits());
        self.u64(u64::from(sub.id));
    }

    pub(super) fn limits(&mut self, limits: &QueueLimits) {
        self.len(limits.max_len);
        self.len(limits.max_bytes);
        let policy = match limits.policy {
            QueuePolicy::DropOldest => 0,
            QueuePolicy::DropNewest => 1,
            QueuePolicy::Reject => 2,
        };
        self.u8(policy | u8::from(limits.queue_qos0) << 4);
    }

    fn close_kind(&mut self, kind: CloseKind) {
        match kind {
            CloseKind::Normal => self.u8(0),
            CloseKind::Abnormal => self.u8(1),
            CloseKind::Restart(grace) => {
                self.u8(2);
                self.u64(u64::from(grace));
            }
            CloseKind::Disarmed => self.u8(3),
            CloseKind::Park(seconds) => {
                self.u8(4);
                self.u64(u64::from(seconds));
            }
        }
    }

    pub(super) fn will(&mut self, will: Option<&Will>) {
        let Some(will) = will else {
            self.u8(0);
            return;
        };
        self.u8(1 | u8::from(will.expiry.is_some()) << 1);
        self.message(&will.message);
        self.u64(u64::from(will.delay));
        if let Some(expiry) = will.expiry {
            self.u64(u64::from(expiry));
        }
    }

    pub(super) fn owner(&mut self, owner: &Owner) {
        let Owner {
            username,
            certificate,
        } = owner;
        self.u8(u8::from(username.is_some()) | u8::from(certificate.is_some()) << 1);
        for text in [username, certificate].into_iter().flatten() {
            self.text(text);
        }
    }

    pub(super) fn group(&mut self, group: Option<&(Box<str>, TopicFilter)>) {
        match group {
            Some((name, filter)) => {
                self.u8(1);
                self.text(name);
                self.text(filter);
            }
            None => self.u8(0),
        }
    }
}

/// Reads the encoding from the front of a slice.
#[derive(Debug)]
pub struct Decoder<'a>(pub &'a [u8]);

impl<'a> Decoder<'a> {
    /// Is nothing left?
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// One byte.
    ///
    /// # Errors
    /// [`CodecError::Truncated`].
    pub fn u8(&mut self, what: &'static str) -> Result<u8> {
        let (&first, rest) = self.0.split_first().ok_or(CodecError::Truncated(what))?;
        self.0 = rest;
        Ok(first)
    }

    /// A number.
    ///
    /// # Errors
    /// Truncated, or longer than 64 bits.
    pub fn u64(&mut self, what: &'static str) -> Result<u64> {
        let mut value = 0u64;
        for shift in (0..64).step_by(7) {
            let byte = self.u8(what)?;
            if shift == 63 && byte > 1 {
                break;
            }
            value |= u64::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                return Ok(value);
            }
        }
        Err(CodecError::Invalid(what))
    }

    /// A number that fits a smaller type.
    ///
    /// # Errors
    /// As [`Self::u64`], or too large for the type.
    pub fn number<T: TryFrom<u64>>(&mut self, what: &'static str) -> Result<T> {
        T::try_from(self.u64(what)?).map_err(|_| CodecError::Invalid(what))
    }

    /// A count of things that take a byte or more each: never more than bytes are left, so that a damaged count
    /// reserves no memory.
    ///
    /// # Errors
    /// As [`Self::u64`], or more than is left.
    pub fn count(&mut self, what: &'static str) -> Result<usize> {
        let count: usize = self.number(what)?;
        if count > self.0.len() {
            return Err(CodecError::Truncated(what));
        }
        Ok(count)
    }

    /// Bytes with their length.
    ///
    /// # Errors
    /// [`CodecError::Truncated`].
    pub fn bytes(&mut self, what: &'static str) -> Result<&'a [u8]> {
        let len = self.count(what)?;
        let (bytes, rest) = self.0.split_at(len);
        self.0 = rest;
        Ok(bytes)
    }

    /// Text with its length.
    ///
    /// # Errors
    /// Truncated, or not UTF-8.
    pub fn text(&mut self, what: &'static str) -> Result<&'a str> {
        std::str::from_utf8(self.bytes(what)?).map_err(|_| CodecError::Invalid(what))
    }

    /// A time.
    ///
    /// # Errors
    /// As [`Self::u64`].
    pub fn time(&mut self, what: &'static str) -> Result<Timestamp> {
        Ok(Timestamp(self.u64(what)?.wrapping_sub(1)))
    }

    /// Reads the version byte.
    ///
    /// # Errors
    /// [`CodecError::Version`] if it is another one.
    pub fn format(&mut self) -> Result<()> {
        match self.u8("format")? {
            FORMAT => Ok(()),
            found => Err(CodecError::Version { found }),
        }
    }

    pub(super) fn flag(&mut self, what: &'static str) -> Result<bool> {
        match self.u8(what)? {
            0 => Ok(false),
            1 => Ok(true),
            _ => Err(CodecError::Invalid(what)),
        }
    }

    pub(super) fn client_id(&mut self) -> Result<Arc<str>> {
        Ok(self.text("client id")?.into())
    }

    /// A topic filter.
    ///
    /// # Errors
    /// Truncated, or no topic filter.
    pub fn filter(&mut self) -> Result<TopicFilter> {
        TopicFilter::new(self.text("topic filter")?)
            .map_err(|_| CodecError::Invalid("topic filter"))
    }

    pub(super) fn topic(&mut self) -> Result<TopicName> {
        TopicName::new(self.text("topic name")?).map_err(|_| CodecError::Invalid("topic name"))
    }

    pub(super) fn qos(bits: u8) -> Result<QoS> {
        match bits {
            0 => Ok(QoS::AtMostOnce),
            1 => Ok(QoS::AtLeastOnce),
            2 => Ok(QoS::ExactlyOnce),
            _ => Err(CodecError::Invalid("QoS")),
        }
    }

    pub(super) fn sub(&mut self) -> Result<(TopicFilter, Subscription)> {
        let filter = self.filter()?;
        let options = SubOptions::from_bits(self.u8("subscription options")?);
        let id = self.number("subscription identifier")?;
        Ok((filter, Subscription { options, id }))
    }

    pub(super) fn limits(&mut self) -> Result<QueueLimits> {
        let max_len = self.number("queue limit")?;
        let max_bytes = self.number("queue limit")?;
        let bits = self.u8("queue policy")?;
        let policy = match bits & 0xf {
            0 => QueuePolicy::DropOldest,
            1 => QueuePolicy::DropNewest,
            2 => QueuePolicy::Reject,
            _ => return Err(CodecError::Invalid("queue policy")),
        };
        Ok(QueueLimits {
            max_len,
            max_bytes,
            policy,
            queue_qos0: bits & 0x10 != 0,
        })
    }

    fn close_kind(&mut self) -> Result<CloseKind> {
        Ok(match self.u8("close")? {
            0 => CloseKind::Normal,
            1 => CloseKind::Abnormal,
            2 => CloseKind::Restart(self.number("grace")?),
            3 => CloseKind::Disarmed,
            4 => CloseKind::Park(self.number("supervision")?),
            _ => return Err(CodecError::Invalid("close")),
        })
    }

    pub(super) fn will(&mut self) -> Result<Option<Box<Will>>> {
        let bits = self.u8("will")?;
        if bits == 0 {
            return Ok(None);
        }
        if bits & !3 != 0 || bits & 1 == 0 {
            return Err(CodecError::Invalid("will"));
        }
        Ok(Some(Box::new(Will {
            message: self.message()?,
            delay: self.number("will delay")?,
            expiry: if bits & 2 != 0 {
                Some(self.number("will expiry")?)
            } else {
                None
            },
        })))
    }

    pub(super) fn owner(&mut self) -> Result<Owner> {
        let bits = self.u8("owner")?;
        if bits & !3 != 0 {
            return Err(CodecError::Invalid("owner"));
        }
        let mut text = |bit| -> Result<Option<Arc<str>>> {
            Ok(if bits & bit != 0 {
                Some(self.text("owner")?.into())
            } else {
                None
            })
        };
        Ok(Owner {
            username: text(1)?,
            certificate: text(2)?,
        })
    }

    pub(super) fn group(&mut self) -> Result<Option<(Box<str>, TopicFilter)>> {
        if !self.flag("shared subscription")? {
            return Ok(None);
        }
        Ok(Some((self.text("share name")?.into(), self.filter()?)))
    }

    fn list<T>(
        &mut self,
        what: &'static str,
        mut one: impl FnMut(&mut Self) -> Result<T>,
    ) -> Result<Vec<T>> {
        (0..self.count(what)?).map(|_| one(self)).collect()
    }
}

const fn reason_number(reason: DropReason) -> u8 {
    match reason {
        DropReason::QueueFull => 0,
        DropReason::QueueFullQoS0 => 1,
        DropReason::Expired => 2,
        DropReason::TooLarge => 3,
        DropReason::SessionEnded => 4,
        DropReason::Offline => 5,
        DropReason::Denied => 6,
        DropReason::Damaged => 7,
    }
}

const REASONS: [DropReason; 8] = [
    DropReason::QueueFull,
    DropReason::QueueFullQoS0,
    DropReason::Expired,
    DropReason::TooLarge,
    DropReason::SessionEnded,
    DropReason::Offline,
    DropReason::Denied,
    DropReason::Damaged,
];

const OPEN: u8 = 1;
const CLOSE: u8 = 2;
const SUBSCRIBE: u8 = 3;
const UNSUBSCRIBE: u8 = 4;
const PUBLISH: u8 = 5;
const ENQUEUE: u8 = 6;
const ACKS: u8 = 7;
const RECEIVED: u8 = 8;
const RELEASED: u8 = 9;
const END: u8 = 10;
const TICK: u8 = 11;
const FULFILLED: u8 = 12;
const OPEN_SUPERVISED: u8 = 13;
const TOUCH: u8 = 14;
const FRONT: u8 = 15;
const SET_WILL: u8 = 16;
const NODE_GONE: u8 = 17;
const BY: u8 = 18;

impl SessionEntry {
    /// Appends the encoding, without a version byte of its own.
    pub fn encode(&self, out: &mut Vec<u8>) {
        let mut out = Encoder(out);
        let ids = |out: &mut Encoder<'_>, kind, client_id: &str, epoch, ids: &[u16]| {
            out.u8(kind);
            out.text(client_id);
            out.u64(epoch);
            out.len(ids.len());
            ids.iter().for_each(|id| out.u64(u64::from(*id)));
        };
        match self {
            Self::Open(open) => {
                out.u8(match open.supervision {
                    None => OPEN,
                    Some(_) => OPEN_SUPERVISED,
                });
                out.text(&open.client_id);
                out.u8(u8::from(open.clean_start)
                    | u8::from(open.node != 0) << 1
                    | u8::from(open.owner.is_some()) << 2);
                if open.node != 0 {
                    out.u64(open.node);
                }
                out.u64(u64::from(open.expiry));
                out.will(open.will.as_deref());
                out.limits(&open.limits);
                out.u64(u64::from(open.window));
                out.time(open.now);
                if let Some(owner) = &open.owner {
                    out.owner(owner);
                }
                if let Some(supervision) = open.supervision {
                    out.u8(match supervision.will {
                        WillRule::Keep => 0,
                        WillRule::Replace => 1,
                        WillRule::Wake => 2,
                    });
                    out.u64(u64::from(supervision.seconds));
                }
            }
            Self::Close(close) => {
                out.u8(CLOSE);
                out.text(&close.client_id);
                out.u64(close.epoch);
                out.close_kind(close.kind);
                out.u8(u8::from(close.expiry.is_some()));
                if let Some(expiry) = close.expiry {
                    out.u64(u64::from(expiry));
                }
                out.time(close.now);
            }
            Self::Subscribe {
                client_id,
                epoch,
                subs,
            } => {
                out.u8(SUBSCRIBE);
                out.text(client_id);
                out.u64(*epoch);
                out.len(subs.len());
                subs.iter().for_each(|(filter, sub)| out.sub(filter, *sub));
            }
            Self::Unsubscribe {
                client_id,
                epoch,
                filters,
            } => {
                out.u8(UNSUBSCRIBE);
                out.text(client_id);
                out.u64(*epoch);
                out.len(filters.len());
                filters.iter().for_each(|filter| out.text(filter));
            }
            Self::Publish(message) => {
                out.u8(PUBLISH);
                out.message(message);
            }
            Self::Enqueue(enqueue) => {
                out.u8(ENQUEUE);
                out.text(&enqueue.client_id);
                out.message(&enqueue.message);
                out.u8(enqueue.qos as u8
                    | u8::from(enqueue.retain) << 2
                    | u8::from(enqueue.checked) << 3);
                out.u64(u64::from(enqueue.sub_id));
                out.group(enqueue.group.as_ref());
            }
            Self::Acks {
                client_id,
                epoch,
                acks,
            } => {
                out.u8(ACKS);
                out.text(client_id);
                out.u64(*epoch);
                out.len(acks.len());
                for ack in acks {
                    out.u64(ack.seq);
                    out.u8(match ack.kind {
                        AckKind::Done => 0,
                        AckKind::Received => 1,
                        AckKind::Discarded(reason) => 2 + reason_number(reason),
                    });
                }
            }
            Self::Received {
                client_id,
                epoch,
                ids: list,
            } => ids(&mut out, RECEIVED, client_id, *epoch, list),
            Self::Released {
                client_id,
                epoch,
                ids: list,
            } => ids(&mut out, RELEASED, client_id, *epoch, list),
            Self::End { client_id } => {
                out.u8(END);
                out.text(client_id);
            }
            Self::Tick { now } => {
                out.u8(TICK);
                out.time(*now);
            }
            Self::Touch {
                client_id,
                epoch,
                now,
            } => {
                out.u8(TOUCH);
                out.text(client_id);
                out.u64(*epoch);
                out.time(*now);
            }
            Self::Front {
                client_id,
                epoch,
                append,
                octets,
            } => {
                out.u8(FRONT);
                out.text(client_id);
                out.u64(*epoch);
                out.u8(u8::from(*append));
                out.bytes(octets);
            }
            Self::SetWill {
                client_id,
                epoch,
                will,
            } => {
                out.u8(SET_WILL);
                out.text(client_id);
                out.u64(*epoch);
                out.will(will.as_deref());
            }
            Self::NodeGone { node, kind, now } => {
                out.u8(NODE_GONE);
                out.u64(*node);
                out.close_kind(*kind);
                out.time(*now);
            }
            Self::By {
                client_id,
                epoch,
                count,
            } => {
                out.u8(BY);
                out.text(client_id);
                out.u64(*epoch);
                out.u64(*count);
            }
            Self::Fulfilled { duties } => {
                out.u8(FULFILLED);
                out.len(duties.len());
                duties.iter().for_each(|duty| out.u64(*duty));
            }
        }
    }

    /// Reads one entry.
    ///
    /// # Errors
    /// [`CodecError`].
    pub fn decode(from: &mut Decoder<'_>) -> Result<Self> {
        let kind = from.u8("entry")?;
        Ok(match kind {
            OPEN | OPEN_SUPERVISED => {
                let client_id = from.client_id()?;
                let bits = from.u8("clean start")?;
                if bits & !7 != 0 {
                    return Err(CodecError::Invalid("clean start"));
                }
                let node = if bits & 2 != 0 { from.u64("node")? } else { 0 };
                let mut open = Open {
                    client_id,
                    node,
                    clean_start: bits & 1 != 0,
                    expiry: from.number("session expiry")?,
                    will: from.will()?,
                    limits: from.limits()?,
                    window: from.number("window")?,
                    supervision: None,
                    owner: None,
                    now: from.time("time")?,
                };
                if bits & 4 != 0 {
                    open.owner = Some(Box::new(from.owner()?));
                }
                if kind == OPEN_SUPERVISED {
                    let will = match from.u8("will rule")? {
                        0 => WillRule::Keep,
                        1 => WillRule::Replace,
                        2 => WillRule::Wake,
                        _ => return Err(CodecError::Invalid("will rule")),
                    };
                    let seconds = from.number("supervision")?;
                    open.supervision = Some(Supervision { will, seconds });
                }
                Self::Open(Box::new(open))
            }
            TOUCH => Self::Touch {
                client_id: from.client_id()?,
                epoch: from.u64("epoch")?,
                now: from.time("time")?,
            },
            FRONT => Self::Front {
                client_id: from.client_id()?,
                epoch: from.u64("epoch")?,
                append: from.flag("front-end state")?,
                octets: from.bytes("front-end state")?.into(),
            },
            SET_WILL => Self::SetWill {
                client_id: from.client_id()?,
                epoch: from.u64("epoch")?,
                will: from.will()?,
            },
            CLOSE => Self::Close(Close {
                client_id: from.client_id()?,
                epoch: from.u64("epoch")?,
                kind: from.close_kind()?,
                expiry: if from.flag("session expiry")? {
                    Some(from.number("session expiry")?)
                } else {
                    None
                },
                now: from.time("time")?,
            }),
            SUBSCRIBE => Self::Subscribe {
                client_id: from.client_id()?,
                epoch: from.u64("epoch")?,
                subs: from.list("subscriptions", Decoder::sub)?,
            },
            UNSUBSCRIBE => Self::Unsubscribe {
                client_id: from.client_id()?,
                epoch: from.u64("epoch")?,
                filters: from.list("topic filters", Decoder::filter)?,
            },
            PUBLISH => Self::Publish(from.message()?),
            ENQUEUE => {
                let client_id = from.client_id()?;
                let message = from.message()?;
                let bits = from.u8("delivery")?;
                if bits & 0xf0 != 0 {
                    return Err(CodecError::Invalid("delivery"));
                }
                Self::Enqueue(Box::new(Enqueue {
                    client_id,
                    message,
                    qos: Decoder::qos(bits & 3)?,
                    retain: bits & 4 != 0,
                    checked: bits & 8 != 0,
                    sub_id: from.number("subscription identifier")?,
                    group: from.group()?,
                }))
            }
            ACKS => Self::Acks {
                client_id: from.client_id()?,
                epoch: from.u64("epoch")?,
                acks: from.list("acknowledgements", |from| {
                    let seq = from.u64("delivery sequence")?;
                    let kind = match from.u8("acknowledgement")? {
                        0 => AckKind::Done,
                        1 => AckKind::Received,
                        other => AckKind::Discarded(
                            *REASONS
                                .get(usize::from(other) - 2)
                                .ok_or(CodecError::Invalid("acknowledgement"))?,
                        ),
                    };
                    Ok(Ack { seq, kind })
                })?,
            },
            RECEIVED | RELEASED => {
                let client_id = from.client_id()?;
                let epoch = from.u64("epoch")?;
                let ids = from.list("packet ids", |from| from.number("packet id"))?;
                if kind == RECEIVED {
                    Self::Received {
                        client_id,
                        epoch,
                        ids,
                    }
                } else {
                    Self::Released {
                        client_id,
                        epoch,
                        ids,
                    }
                }
            }
            END => Self::End {
                client_id: from.client_id()?,
            },
            TICK => Self::Tick {
                now: from.time("time")?,
            },
            NODE_GONE => Self::NodeGone {
                node: from.u64("node")?,
                kind: from.close_kind()?,
                now: from.time("time")?,
            },
            BY => Self::By {
                client_id: from.client_id()?,
                epoch: from.u64("epoch")?,
                count: from.u64("entries")?,
            },
            FULFILLED => Self::Fulfilled {
                duties: from.list("duties", |from| from.u64("duty"))?,
            },
            _ => return Err(CodecError::Invalid("kind of entry")),
        })
    }
}

impl RetainedEntry {
    /// Appends the encoding, without a version byte of its own.
    pub fn encode(&self, out: &mut Vec<u8>) {
        let mut out = Encoder(out);
        match self {
            Self::Set(message) => {
                out.u8(1);
                out.message(message);
            }
            Self::SetBy {
                client_id,
                epoch,
                message,
            } => {
                out.u8(4);
                out.text(client_id);
                out.u64(*epoch);
                out.message(message);
            }
            Self::Remove(topic) => {
                out.u8(2);
                out.text(topic);
            }
            Self::Tick { now } => {
                out.u8(3);
                out.time(*now);
            }
        }
    }

    /// Reads one entry.
    ///
    /// # Errors
    /// [`CodecError`].
    pub fn decode(from: &mut Decoder<'_>) -> Result<Self> {
        Ok(match from.u8("entry")? {
            1 => Self::Set(from.message()?),
            2 => Self::Remove(from.topic()?),
            3 => Self::Tick {
                now: from.time("time")?,
            },
            4 => Self::SetBy {
                client_id: from.client_id()?,
                epoch: from.u64("epoch")?,
                message: from.message()?,
            },
            _ => return Err(CodecError::Invalid("kind of entry")),
        })
    }
}
