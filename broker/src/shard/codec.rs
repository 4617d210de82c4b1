//! The bytes in which a log and its snapshots keep entries and state.
//!
//! Numbers are LEB128, texts and payloads are a length and bytes, and every unit that is stored on its own (a log
//! entry, a snapshot) begins with [`FORMAT`]. A new kind of entry gets a new number; numbers are never used twice.
//! Whoever stores these bytes adds the checksum; damage that gets past it is a [`CodecError`], never a panic.

use std::sync::Arc;

use nightjar_mqtt::{QoS, TopicFilter, TopicName};

use super::entry::{CloseKind, Will};
use crate::auth::Owner;
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

mod entry;
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
