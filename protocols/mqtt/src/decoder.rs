//! From bytes to packets: the fixed header, the rules that need no body, and the way to each packet's decoder.

use crate::packet::{
    Ack, Auth, Connack, Connect, Disconnect, Publish, Suback, Subscribe, Unsuback, Unsubscribe,
};
use crate::wire::write::variable_len;
use crate::{DecodeError, Packet, PacketType, ProtocolVersion, ReasonCode};

/// The side that reads.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Role {
    /// We are the server and read what a client sends.
    Server,
    /// We are the client and read what a server sends.
    Client,
}

/// How to read a byte stream. It holds settings only and no bytes: the caller keeps the buffer.
///
/// ```
/// use nightjar_mqtt::{Decoded, Decoder, Packet, ProtocolVersion};
/// let decoder = Decoder::server(1024 * 1024).with_version(ProtocolVersion::V311);
/// let stream = b"\x30\x07\0\x03a/bhi\xC0\0";
/// let Decoded::Packet { packet: Packet::Publish(publish), consumed } = decoder.decode(stream)? else { panic!() };
/// assert_eq!((publish.topic, publish.payload, consumed), ("a/b", &b"hi"[..], 9));
/// // The first byte alone does not tell how long the packet is.
/// assert_eq!(decoder.decode(&stream[..1])?, Decoded::Incomplete { needed: 2 });
/// assert_eq!(decoder.decode(&stream[..5])?, Decoded::Incomplete { needed: 9 });
/// # Ok::<(), nightjar_mqtt::DecodeError>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Decoder {
    /// The side that reads.
    pub role: Role,
    /// The version of the connection; `None` before CONNECT, when nothing but CONNECT is legal.
    pub version: Option<ProtocolVersion>,
    /// The largest packet accepted in bytes, fixed header included. Checked as soon as the fixed header is there.
    pub max_packet_size: u32,
    /// Take what clients of 3.x are known to do against the letter: DUP with QoS 0, and in 3.1 any flags where that
    /// version calls them unused. Never changes what 5.0 is held to.
    pub lenient: bool,
}

/// What [`Decoder::decode`] found at the start of a buffer.
#[derive(Debug, Clone, PartialEq)]
pub enum Decoded<'a> {
    /// The packet is not there yet.
    Incomplete {
        /// At least this many bytes from the start of the packet are needed; always more than there are. Exact once the
        /// fixed header is there, and never above the decoder's limit.
        needed: usize,
    },
    /// A packet.
    Packet {
        /// The packet, borrowing from the buffer.
        packet: Packet<'a>,
        /// Its length: where the next one begins.
        consumed: usize,
    },
}

/// What a packet's decoder needs to know of the connection.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Context {
    pub(crate) role: Role,
    pub(crate) version: ProtocolVersion,
}

impl Decoder {
    /// A lenient decoder of what a client sends, before its CONNECT.
    pub const fn server(max_packet_size: u32) -> Self {
        Self {
            role: Role::Server,
            version: None,
            max_packet_size,
            lenient: true,
        }
    }

    /// A lenient decoder of what a server sends to a client of this version.
    pub const fn client(version: ProtocolVersion, max_packet_size: u32) -> Self {
        Self {
            role: Role::Client,
            version: Some(version),
            max_packet_size,
            lenient: true,
        }
    }

    /// The same decoder for a connection whose version is known.
    #[must_use]
    pub const fn with_version(mut self, version: ProtocolVersion) -> Self {
        self.version = Some(version);
        self
    }

    /// Decodes the packet at the start of `buf`. Bytes behind it are not looked at.
    ///
    /// A packet of lists (filters, user properties) takes up to about 13 times its bytes while it lives, others next to
    /// nothing: the limit bounds both.
    ///
    /// What the fixed header tells is checked before the body is there: a packet that is too large or not allowed is refused
    /// before anything has to be buffered for it.
    ///
    /// # Errors
    /// [`DecodeError`]: the connection has to end, for where the next packet begins is not to be trusted.
    #[inline]
    pub fn decode<'a>(&self, buf: &'a [u8]) -> Result<Decoded<'a>, DecodeError> {
        let Some(&first) = buf.first() else {
            return Ok(Decoded::Incomplete { needed: 2 });
        };
        match self.version {
            Some(version) if first >> 4 == PacketType::Publish.bits() => self.decode_publish(
                Context {
                    role: self.role,
                    version,
                },
                first,
                buf,
            ),
            Some(version) => self.decode_other(
                Context {
                    role: self.role,
                    version,
                },
                first,
                buf,
            ),
            None => self.decode_first(first, buf),
        }
    }

    /// Decodes a PUBLISH: inlined whole, so that the packet is built where the caller wants it.
    #[inline(always)]
    fn decode_publish<'a>(
        &self,
        context: Context,
        first: u8,
        buf: &'a [u8],
    ) -> Result<Decoded<'a>, DecodeError> {
        let flags = first & 0x0F;
        Publish::check_flags(flags, context.version, self.lenient)?;
        match self.frame(buf)? {
            Frame::Incomplete { needed } => Ok(Decoded::Incomplete { needed }),
            Frame::Complete { body, consumed } => Publish::decode(context, flags, body, consumed),
        }
    }

    /// Decodes any other packet of a connection whose version is known.
    #[inline(never)]
    fn decode_other<'a>(
        &self,
        context: Context,
        first: u8,
        buf: &'a [u8],
    ) -> Result<Decoded<'a>, DecodeError> {
        if let &[_, 2, high, low, ..] = buf
            && let Some(packet) = short_ack(first, u16::from_be_bytes([high, low]))
            && self.max_packet_size >= 4
        {
            return Ok(Decoded::Packet {
                packet,
                consumed: 4,
            });
        }
        let packet_type = self.check_first_byte(context, first)?;
        let length = |remaining| check_length(packet_type, context.version, remaining);
        match self.frame_checked(buf, length)? {
            Frame::Incomplete { needed } => Ok(Decoded::Incomplete { needed }),
            Frame::Complete { body, consumed } => {
                let packet = decode_body(context, packet_type, body)?;
                Ok(Decoded::Packet { packet, consumed })
            }
        }
    }

    /// Decodes the first packet of a connection, which must be CONNECT [MQTT-3.1.0-1].
    #[inline(never)]
    fn decode_first<'a>(&self, first: u8, buf: &'a [u8]) -> Result<Decoded<'a>, DecodeError> {
        if self.role == Role::Client || first >> 4 != PacketType::Connect.bits() {
            return Err(DecodeError::ExpectedConnect(first));
        }
        check_flags(PacketType::Connect, 0, first & 0x0F)?;
        match self.frame(buf)? {
            Frame::Incomplete { needed } => Ok(Decoded::Incomplete { needed }),
            Frame::Complete { body, consumed } => {
                let connect = Connect::decode(body)?;
                // Only now it is known whether the rule of 5.0 counts [MQTT-1.5.5-1].
                if connect.version.is_v5() && consumed != 1 + variable_len(body.len()) + body.len()
                {
                    return Err(DecodeError::VariableByteInteger {
                        field: "remaining length",
                    });
                }
                let packet = Packet::Connect(Box::new(connect));
                Ok(Decoded::Packet { packet, consumed })
            }
        }
    }

    /// Finds the body of the packet at the start of `buf` and checks the packet's size.
    #[inline(always)]
    fn frame<'a>(&self, buf: &'a [u8]) -> Result<Frame<'a>, DecodeError> {
        self.frame_checked(buf, |_| Ok(()))
    }

    /// As [`frame`](Self::frame), with one more check of the remaining length before the body has to be there.
    #[inline(always)]
    fn frame_checked<'a>(
        &self,
        buf: &'a [u8],
        check: impl FnOnce(u32) -> Result<(), DecodeError>,
    ) -> Result<Frame<'a>, DecodeError> {
        let mut remaining = 0;
        for at in 1..=4 {
            let Some(&byte) = buf.get(at) else {
                return Ok(Frame::Incomplete {
                    needed: buf.len() + 1,
                });
            };
            if byte == 0 && at > 1 && self.version.is_some_and(ProtocolVersion::is_v5) {
                return Err(DecodeError::VariableByteInteger {
                    field: "remaining length",
                });
            }
            remaining |= u32::from(byte & 0x7F) << (7 * (at - 1));
            if byte & 0x80 == 0 {
                let header_len = at + 1;
                // At most 5 + 268,435,455.
                let got = remaining + header_len as u32;
                if got > self.max_packet_size {
                    return Err(DecodeError::PacketTooLarge {
                        max: self.max_packet_size,
                        got,
                    });
                }
                check(remaining)?;
                let consumed = got as usize;
                return Ok(match buf.get(header_len..consumed) {
                    Some(body) => Frame::Complete { body, consumed },
                    None => Frame::Incomplete { needed: consumed },
                });
            }
        }
        Err(DecodeError::RemainingLength)
    }

    /// Checks type, direction and flags of a packet that is not PUBLISH.
    fn check_first_byte(&self, context: Context, first: u8) -> Result<PacketType, DecodeError> {
        let packet = match PacketType::from_bits(first >> 4) {
            Some(PacketType::Auth) if !context.version.is_v5() => None,
            packet => packet,
        };
        let Some(packet) = packet else {
            return Err(DecodeError::ReservedPacketType(first >> 4));
        };
        match (packet, context.role) {
            (PacketType::Connect, Role::Server) => return Err(DecodeError::SecondConnect),
            (
                PacketType::Connack
                | PacketType::Suback
                | PacketType::Unsuback
                | PacketType::Pingresp,
                Role::Server,
            )
            | (
                PacketType::Connect
                | PacketType::Subscribe
                | PacketType::Unsubscribe
                | PacketType::Pingreq,
                Role::Client,
            ) => return Err(DecodeError::WrongDirection(packet)),
            (PacketType::Disconnect, Role::Client) if !context.version.is_v5() => {
                return Err(DecodeError::WrongDirection(packet));
            }
            _ => {}
        }
        let flags = first & 0x0F;
        let expected = match packet {
            PacketType::Pubrel | PacketType::Subscribe | PacketType::Unsubscribe => 0b0010,
            _ => 0,
        };
        if context.version == ProtocolVersion::V31 {
            if self.lenient {
                return Ok(packet);
            }
            // These three have a QoS of 1 in 3.1, and so a DUP flag.
            if expected != 0 && flags == 0b1010 {
                return Ok(packet);
            }
        }
        check_flags(packet, expected, flags)?;
        Ok(packet)
    }
}

/// What stands at the start of a buffer.
enum Frame<'a> {
    Incomplete { needed: usize },
    Complete { body: &'a [u8], consumed: usize },
}

fn check_flags(packet: PacketType, expected: u8, got: u8) -> Result<(), DecodeError> {
    if got == expected {
        Ok(())
    } else {
        Err(DecodeError::ReservedFlags {
            packet,
            expected,
            got,
        })
    }
}

/// Checks the remaining length of the packets that have but one.
fn check_length(packet: PacketType, version: ProtocolVersion, got: u32) -> Result<(), DecodeError> {
    let expected = match packet {
        PacketType::Pingreq | PacketType::Pingresp => 0,
        _ if version.is_v5() => return Ok(()),
        PacketType::Disconnect => 0,
        PacketType::Connack
        | PacketType::Puback
        | PacketType::Pubrec
        | PacketType::Pubrel
        | PacketType::Pubcomp
        | PacketType::Unsuback => 2,
        _ => return Ok(()),
    };
    if got == expected {
        Ok(())
    } else {
        Err(DecodeError::WrongLength {
            packet,
            expected,
            got,
        })
    }
}

/// An acknowledgement of two bytes: one for each QoS 1 message, so it has a short way. `None`: not one, or not legal.
#[inline(always)]
fn short_ack<'a>(first: u8, packet_id: u16) -> Option<Packet<'a>> {
    if packet_id == 0 {
        return None;
    }
    Some(match first {
        0x40 => Packet::Puback(Ack::new(packet_id, ReasonCode::Success)),
        0x50 => Packet::Pubrec(Ack::new(packet_id, ReasonCode::Success)),
        0x62 => Packet::Pubrel(Ack::new(packet_id, ReasonCode::Success)),
        0x70 => Packet::Pubcomp(Ack::new(packet_id, ReasonCode::Success)),
        _ => return None,
    })
}

/// Decodes the body of any packet but CONNECT and PUBLISH.
#[inline]
fn decode_body<'a>(
    context: Context,
    packet: PacketType,
    body: &'a [u8],
) -> Result<Packet<'a>, DecodeError> {
    Ok(match packet {
        // These two have ways of their own and do not come here.
        PacketType::Connect | PacketType::Publish => {
            return Err(DecodeError::WrongDirection(packet));
        }
        PacketType::Connack => Packet::Connack(Box::new(Connack::decode(context, body)?)),
        PacketType::Puback => Packet::Puback(Ack::decode(context, packet, body)?),
        PacketType::Pubrec => Packet::Pubrec(Ack::decode(context, packet, body)?),
        PacketType::Pubrel => Packet::Pubrel(Ack::decode(context, packet, body)?),
        PacketType::Pubcomp => Packet::Pubcomp(Ack::decode(context, packet, body)?),
        PacketType::Subscribe => Packet::Subscribe(Subscribe::decode(context, body)?),
        PacketType::Suback => Packet::Suback(Suback::decode(context, body)?),
        PacketType::Unsubscribe => Packet::Unsubscribe(Unsubscribe::decode(context, body)?),
        PacketType::Unsuback => Packet::Unsuback(Unsuback::decode(context, body)?),
        PacketType::Pingreq => Packet::Pingreq,
        PacketType::Pingresp => Packet::Pingresp,
        PacketType::Disconnect => Packet::Disconnect(Disconnect::decode(context, body)?),
        PacketType::Auth => Packet::Auth(Auth::decode(context, body)?),
    })
}
