//! Encoding of whole packets, and the short ways for the smallest ones.

use super::ack::TypedAck;
use super::{Body, Packet, Publish};
use crate::wire::write::{self, Count};
use crate::{EncodeError, PacketType, ProtocolVersion, ReasonCode};

impl Packet<'_> {
    /// Appends the packet to `out` in this version's form. CONNECT takes its own version.
    ///
    /// What the version does not have is left out: properties and reason codes in 3.x, session present in 3.1. Lengths
    /// and the ranges of numbers are checked; what a string says (a wildcard in a topic name) and whether a reason code
    /// fits the packet is the caller's business.
    ///
    /// # Errors
    /// [`EncodeError`]; then `out` is as it was.
    pub fn encode(&self, version: ProtocolVersion, out: &mut Vec<u8>) -> Result<(), EncodeError> {
        self.visit(Encoder { version, out })
    }

    /// The number of bytes [`encode`](Self::encode) would append: what a peer's maximum packet size is compared with.
    ///
    /// # Errors
    /// As [`encode`](Self::encode).
    pub fn encoded_len(&self, version: ProtocolVersion) -> Result<usize, EncodeError> {
        self.visit(Measure { version })
    }

    /// Hands the body and its flags to `visitor`.
    fn visit<V: Visitor>(&self, visitor: V) -> Result<V::Output, EncodeError> {
        let packet = self.packet_type();
        match self {
            Self::Connect(p) => visitor.body(packet, 0, &**p),
            Self::Connack(p) => visitor.body(packet, 0, &**p),
            Self::Publish(p) => visitor.body(packet, Publish::flags(p.dup, p.qos, p.retain), p),
            Self::Puback(p) | Self::Pubrec(p) | Self::Pubcomp(p) => {
                visitor.body(packet, 0, &TypedAck(packet, p))
            }
            Self::Pubrel(p) => visitor.body(packet, 0b0010, &TypedAck(packet, p)),
            Self::Subscribe(p) => visitor.body(packet, 0b0010, p),
            Self::Suback(p) => visitor.body(packet, 0, p),
            Self::Unsubscribe(p) => visitor.body(packet, 0b0010, p),
            Self::Unsuback(p) => visitor.body(packet, 0, p),
            Self::Pingreq | Self::Pingresp => visitor.body(packet, 0, &Empty),
            Self::Disconnect(p) => visitor.body(packet, 0, p),
            Self::Auth(p) => visitor.body(packet, 0, p),
        }
    }
}

/// What is done with a body: it is measured, or measured and written.
trait Visitor {
    type Output;
    fn body(
        self,
        packet: PacketType,
        flags: u8,
        body: &impl Body,
    ) -> Result<Self::Output, EncodeError>;
}

struct Measure {
    version: ProtocolVersion,
}

impl Visitor for Measure {
    type Output = usize;

    fn body(self, _: PacketType, _: u8, body: &impl Body) -> Result<usize, EncodeError> {
        write::packet_len(Count::of(|count| body.write(self.version, count))?)
    }
}

struct Encoder<'o> {
    version: ProtocolVersion,
    out: &'o mut Vec<u8>,
}

impl Visitor for Encoder<'_> {
    type Output = ();

    fn body(self, packet: PacketType, flags: u8, body: &impl Body) -> Result<(), EncodeError> {
        let remaining = Count::of(|count| body.write(self.version, count))?;
        write::packet(self.out, packet.bits() << 4 | flags, remaining, |out| {
            body.write(self.version, out)
        })
    }
}

/// The body of PINGREQ and PINGRESP.
struct Empty;

impl Body for Empty {
    fn write(&self, _: ProtocolVersion, _: &mut impl write::Sink) {}
}

/// The packets that acknowledge a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum AckKind {
    /// PUBACK.
    Puback,
    /// PUBREC.
    Pubrec,
    /// PUBREL.
    Pubrel,
    /// PUBCOMP.
    Pubcomp,
}

impl AckKind {
    /// The packet type.
    pub const fn packet_type(self) -> PacketType {
        match self {
            Self::Puback => PacketType::Puback,
            Self::Pubrec => PacketType::Pubrec,
            Self::Pubrel => PacketType::Pubrel,
            Self::Pubcomp => PacketType::Pubcomp,
        }
    }
}

/// Appends an acknowledgement without properties: the short way past [`Packet::encode`].
///
/// 3.x has no reason; success is left out in 5.0 too. The packet identifier is one that was received, so not 0.
#[inline]
pub fn encode_ack(
    out: &mut Vec<u8>,
    kind: AckKind,
    version: ProtocolVersion,
    packet_id: u16,
    reason: ReasonCode,
) {
    debug_assert_ne!(packet_id, 0);
    let first = match kind {
        AckKind::Puback => 0x40,
        AckKind::Pubrec => 0x50,
        AckKind::Pubrel => 0x62,
        AckKind::Pubcomp => 0x70,
    };
    let [high, low] = packet_id.to_be_bytes();
    if reason == ReasonCode::Success || !version.is_v5() {
        out.extend_from_slice(&[first, 2, high, low]);
    } else {
        out.extend_from_slice(&[first, 3, high, low, reason.code()]);
    }
}

/// Appends a PINGREQ.
#[inline]
pub fn encode_pingreq(out: &mut Vec<u8>) {
    out.extend_from_slice(&[0xC0, 0]);
}

/// Appends a PINGRESP.
#[inline]
pub fn encode_pingresp(out: &mut Vec<u8>) {
    out.extend_from_slice(&[0xD0, 0]);
}
