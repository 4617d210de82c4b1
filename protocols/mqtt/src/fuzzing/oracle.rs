//! A second decoder of PUBLISH, made with nom from the standard's text and not from the first: the two must agree.

use nom::bytes::complete::take;
use nom::combinator::{cond, rest, verify};
use nom::number::complete::{be_u8, be_u16};
use nom::{IResult, Parser};

use crate::packet::{Publish, PublishProperties};
use crate::topic::{TopicError, validate_topic_name};
use crate::{DecodeError, Decoded, Decoder, Packet, PacketType, ProtocolVersion, QoS};

type Step<'a, T> = IResult<&'a [u8], T, ()>;

/// Decodes a PUBLISH as [`Decoder::decode`] does. The decoder must know its version and the first byte be PUBLISH's.
///
/// # Errors
/// The same as the decoder's.
pub fn decode_publish<'a>(decoder: &Decoder, buf: &'a [u8]) -> Result<Decoded<'a>, DecodeError> {
    let version = decoder
        .version
        .expect("the oracle is asked for connections with a version");
    let (input, flags) = flags(buf).expect("the oracle is asked for PUBLISH");
    let qos = QoS::try_from(flags.qos).map_err(|_| DecodeError::PublishQoS)?;
    if flags.dup && qos == QoS::AtMostOnce && (version == ProtocolVersion::V5 || !decoder.lenient) {
        return Err(DecodeError::DupWithQoS0);
    }
    let Ok((input, remaining)) = length(input) else {
        if buf.len() >= 5 {
            return Err(DecodeError::RemainingLength);
        }
        return Ok(Decoded::Incomplete {
            needed: buf.len() + 1,
        });
    };
    if version == ProtocolVersion::V5 && !is_shortest(buf.len() - 1 - input.len(), remaining) {
        return Err(DecodeError::VariableByteInteger {
            field: "remaining length",
        });
    }
    let consumed = buf.len() - input.len() + remaining;
    if consumed as u64 > u64::from(decoder.max_packet_size) {
        return Err(DecodeError::PacketTooLarge {
            max: decoder.max_packet_size,
            got: consumed as u32,
        });
    }
    let Ok((_, body)) = take::<_, _, ()>(remaining)(input) else {
        return Ok(Decoded::Incomplete { needed: consumed });
    };
    let publish = body_of(decoder, version, &flags, qos, body)?;
    Ok(Decoded::Packet {
        packet: Packet::Publish(publish),
        consumed,
    })
}

fn body_of<'a>(
    decoder: &Decoder,
    version: ProtocolVersion,
    flags: &Flags,
    qos: QoS,
    body: &'a [u8],
) -> Result<Publish<'a>, DecodeError> {
    let truncated = |field| DecodeError::Truncated { field };
    let (input, topic) = topic(body).map_err(|_| truncated("topic name"))?;
    let topic = str::from_utf8(topic).map_err(|error| DecodeError::InvalidUtf8 {
        field: "topic name",
        at: error.valid_up_to() as u32,
    })?;
    match validate_topic_name(topic) {
        Err(TopicError::Null(_)) => {
            return Err(DecodeError::NullCharacter {
                field: "topic name",
            });
        }
        Err(error) if version != ProtocolVersion::V5 || error != TopicError::Empty => {
            return Err(DecodeError::TopicName(error));
        }
        Ok(()) | Err(_) => {}
    }
    let (input, packet_id) = identifier(qos, input).map_err(|_| truncated("packet identifier"))?;
    if packet_id == Some(0) {
        return Err(DecodeError::ZeroPacketId {
            packet: PacketType::Publish,
        });
    }
    let (input, properties) = if version == ProtocolVersion::V5 {
        let field = "property length";
        let (rest, length) = length(input).map_err(|_| match input.len() {
            0..=3 => truncated(field),
            _ => DecodeError::VariableByteInteger { field },
        })?;
        if !is_shortest(input.len() - rest.len(), length) {
            return Err(DecodeError::VariableByteInteger { field });
        }
        let (rest, section) =
            take::<_, _, ()>(length)(rest).map_err(|_| truncated("properties"))?;
        (rest, PublishProperties::parse(decoder.role, section)?)
    } else {
        (input, PublishProperties::default())
    };
    if topic.is_empty() && properties.topic_alias.is_none() {
        return Err(DecodeError::NoTopic);
    }
    let (_, payload) = rest::<_, ()>
        .parse(input)
        .expect("the rest is always there");
    Ok(Publish {
        dup: flags.dup,
        qos,
        retain: flags.retain,
        topic,
        packet_id,
        properties,
        payload,
    })
}

/// The low half of the first byte.
struct Flags {
    dup: bool,
    qos: u8,
    retain: bool,
}

fn flags(input: &[u8]) -> Step<'_, Flags> {
    verify(be_u8, |first| first >> 4 == PacketType::Publish.bits())
        .map(|first| Flags {
            dup: first & 8 != 0,
            qos: (first & 6) / 2,
            retain: first & 1 != 0,
        })
        .parse(input)
}

/// A variable byte integer, by the standard's own algorithm (section 1.5.5).
fn length(input: &[u8]) -> Step<'_, usize> {
    let (mut input, mut multiplier, mut value) = (input, 1, 0);
    loop {
        let (rest, byte) = be_u8(input)?;
        value += usize::from(byte % 128) * multiplier;
        if byte < 128 {
            return Ok((rest, value));
        }
        if multiplier == 128 * 128 * 128 {
            return Err(nom::Err::Error(()));
        }
        (input, multiplier) = (rest, multiplier * 128);
    }
}

/// Is this the fewest bytes for the value [MQTT-1.5.5-1]?
fn is_shortest(bytes: usize, value: usize) -> bool {
    bytes == 1 || value >= 128_usize.pow(bytes as u32 - 1)
}

fn topic(input: &[u8]) -> Step<'_, &[u8]> {
    be_u16.flat_map(take).parse(input)
}

fn identifier(qos: QoS, input: &[u8]) -> Step<'_, Option<u16>> {
    cond(qos != QoS::AtMostOnce, be_u16).parse(input)
}
