//! Writers of the wire's data types.
//!
//! A packet describes its body once, to a [`Sink`]. A [`Count`] adds up the length and finds what cannot be written; only
//! if it found nothing, the same description goes to the buffer. So nothing is ever written in part, and the length
//! is never another than what is written.

use super::MAX_VARIABLE;
use crate::{EncodeError, PacketType};

/// Takes the bytes of a packet body in order.
pub(crate) trait Sink {
    /// Takes bytes.
    fn put(&mut self, bytes: &[u8]);
    /// Notes that the packet cannot be written.
    fn fail(&mut self, error: EncodeError);
}

/// Counts bytes and keeps the first error.
#[derive(Default)]
pub(crate) struct Count {
    length: usize,
    error: Option<EncodeError>,
}

impl Count {
    /// The number of bytes a description puts.
    pub(crate) fn of(describe: impl FnOnce(&mut Self)) -> Result<usize, EncodeError> {
        let mut count = Self::default();
        describe(&mut count);
        match count.error {
            Some(error) => Err(error),
            None => Ok(count.length),
        }
    }
}

impl Sink for Count {
    #[inline]
    fn put(&mut self, bytes: &[u8]) {
        self.length += bytes.len();
    }

    fn fail(&mut self, error: EncodeError) {
        self.error.get_or_insert(error);
    }
}

impl Sink for Vec<u8> {
    #[inline]
    fn put(&mut self, bytes: &[u8]) {
        self.extend_from_slice(bytes);
    }

    /// Not reached for a packet that was counted, and no packet is written otherwise.
    fn fail(&mut self, _: EncodeError) {}
}

/// Two byte integer.
pub(crate) fn two_bytes(sink: &mut impl Sink, value: u16) {
    sink.put(&value.to_be_bytes());
}

/// Four byte integer.
pub(crate) fn four_bytes(sink: &mut impl Sink, value: u32) {
    sink.put(&value.to_be_bytes());
}

/// Binary data with its length.
pub(crate) fn binary(sink: &mut impl Sink, field: &'static str, value: &[u8]) {
    match u16::try_from(value.len()) {
        Ok(length) => {
            two_bytes(sink, length);
            sink.put(value);
        }
        Err(_) => sink.fail(EncodeError::FieldTooLong {
            field,
            got: value.len(),
        }),
    }
}

/// UTF-8 encoded string.
pub(crate) fn string(sink: &mut impl Sink, field: &'static str, value: &str) {
    binary(sink, field, value.as_bytes());
}

/// Variable byte integer in its shortest form [MQTT-1.5.5-1].
pub(crate) fn variable(sink: &mut impl Sink, field: &'static str, value: usize) {
    match u32::try_from(value) {
        Ok(value) if value <= MAX_VARIABLE => {
            let (bytes, length) = variable_bytes(value);
            sink.put(&bytes[..length]);
        }
        _ => sink.fail(EncodeError::Value {
            field,
            expected: "at most 268435455",
            got: u32::try_from(value).unwrap_or(u32::MAX),
        }),
    }
}

/// A variable byte integer and its length. The value must not be above [`MAX_VARIABLE`].
#[inline]
pub(crate) const fn variable_bytes(value: u32) -> ([u8; 4], usize) {
    debug_assert!(value <= MAX_VARIABLE);
    let [a, b, c, d] = [
        value as u8 & 0x7F,
        (value >> 7) as u8 & 0x7F,
        (value >> 14) as u8 & 0x7F,
        (value >> 21) as u8 & 0x7F,
    ];
    match value {
        0..=0x7F => ([a, 0, 0, 0], 1),
        0x80..=0x3FFF => ([a | 0x80, b, 0, 0], 2),
        0x4000..=0x1F_FFFF => ([a | 0x80, b | 0x80, c, 0], 3),
        _ => ([a | 0x80, b | 0x80, c | 0x80, d], 4),
    }
}

/// The length of a variable byte integer.
#[inline]
pub(crate) const fn variable_len(value: usize) -> usize {
    match value {
        0..=0x7F => 1,
        0x80..=0x3FFF => 2,
        0x4000..=0x1F_FFFF => 3,
        _ => 4,
    }
}

/// A packet identifier, which is never 0 [MQTT-2.2.1-3].
pub(crate) fn packet_id(sink: &mut impl Sink, packet: PacketType, id: u16) {
    if id == 0 {
        sink.fail(EncodeError::NoPacketId(packet));
    }
    two_bytes(sink, id);
}

/// The whole length of a packet with this remaining length.
#[inline]
pub(crate) const fn packet_len(remaining: usize) -> Result<usize, EncodeError> {
    if remaining > MAX_VARIABLE as usize {
        return Err(EncodeError::PacketTooLarge(remaining));
    }
    Ok(1 + variable_len(remaining) + remaining)
}

/// Appends a whole packet: first byte, remaining length, body.
pub(crate) fn packet(
    out: &mut Vec<u8>,
    first_byte: u8,
    remaining: usize,
    body: impl FnOnce(&mut Vec<u8>),
) -> Result<(), EncodeError> {
    out.reserve(packet_len(remaining)?);
    let start = out.len();
    out.push(first_byte);
    variable(out, "remaining length", remaining);
    body(out);
    debug_assert_eq!(out.len() - start, 1 + variable_len(remaining) + remaining);
    Ok(())
}
