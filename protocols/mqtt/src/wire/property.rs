//! Properties of 5.0 (section 2.2.2): identifier, type and range of each, the same in every packet that has it.

use super::read::{self, Parsed, fail, unwrap_error};
use super::write::{self, Count, Sink};
use crate::packet::PayloadFormat;
use crate::{DecodeError, EncodeError, PacketType, QoS};

/// One property with its value.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Property<'a> {
    PayloadFormatIndicator(PayloadFormat),
    MessageExpiryInterval(u32),
    ContentType(&'a str),
    ResponseTopic(&'a str),
    CorrelationData(&'a [u8]),
    SubscriptionIdentifier(u32),
    SessionExpiryInterval(u32),
    AssignedClientIdentifier(&'a str),
    ServerKeepAlive(u16),
    AuthenticationMethod(&'a str),
    AuthenticationData(&'a [u8]),
    RequestProblemInformation(bool),
    WillDelayInterval(u32),
    RequestResponseInformation(bool),
    ResponseInformation(&'a str),
    ServerReference(&'a str),
    ReasonString(&'a str),
    ReceiveMaximum(u16),
    TopicAliasMaximum(u16),
    TopicAlias(u16),
    MaximumQoS(QoS),
    RetainAvailable(bool),
    User((&'a str, &'a str)),
    MaximumPacketSize(u32),
    WildcardSubscriptionAvailable(bool),
    SubscriptionIdentifiersAvailable(bool),
    SharedSubscriptionAvailable(bool),
}

/// What became of a property that was offered to a packet.
pub(crate) enum Slot {
    Stored,
    Duplicate,
    Unexpected,
}

/// Stores a property that may come once.
#[inline]
pub(crate) fn once<T>(slot: &mut Option<T>, value: T) -> Slot {
    if slot.replace(value).is_some() {
        Slot::Duplicate
    } else {
        Slot::Stored
    }
}

/// Stores a property that may come often.
#[inline]
pub(crate) fn many<T>(values: &mut Vec<T>, value: T) -> Slot {
    values.push(value);
    Slot::Stored
}

/// Reads a property section and offers each property to `store`.
#[inline]
pub(crate) fn collect<'a>(
    packet: PacketType,
    mut section: &'a [u8],
    mut store: impl FnMut(Property<'a>) -> Slot,
) -> Result<(), DecodeError> {
    while !section.is_empty() {
        let (rest, id) = read::variable(section, "property identifier").map_err(unwrap_error)?;
        let (rest, property) = property(packet, id, rest).map_err(unwrap_error)?;
        section = rest;
        match store(property) {
            Slot::Stored => {}
            Slot::Duplicate => return Err(DecodeError::DuplicateProperty { property: name(id) }),
            Slot::Unexpected => return Err(DecodeError::UnexpectedProperty { packet, id }),
        }
    }
    Ok(())
}

/// Reads the value of the property with this identifier.
fn property<'a>(packet: PacketType, id: u32, input: &'a [u8]) -> Parsed<'a, Property<'a>> {
    use Property::*;
    let field = name(id);
    match id {
        0x01 => {
            let (rest, utf8) = flag(input, field)?;
            let format = if utf8 {
                PayloadFormat::Utf8
            } else {
                PayloadFormat::Unspecified
            };
            Ok((rest, PayloadFormatIndicator(format)))
        }
        0x02 => read::four_bytes(input, field).map(|(rest, v)| (rest, MessageExpiryInterval(v))),
        0x03 => read::string(input, field).map(|(rest, v)| (rest, ContentType(v))),
        0x08 => read::string(input, field).map(|(rest, v)| (rest, ResponseTopic(v))),
        0x09 => read::binary(input, field).map(|(rest, v)| (rest, CorrelationData(v))),
        0x0B => {
            let (rest, value) = read::variable(input, field)?;
            Ok((rest, SubscriptionIdentifier(not_zero(value, field)?)))
        }
        0x11 => read::four_bytes(input, field).map(|(rest, v)| (rest, SessionExpiryInterval(v))),
        0x12 => read::string(input, field).map(|(rest, v)| (rest, AssignedClientIdentifier(v))),
        0x13 => read::two_bytes(input, field).map(|(rest, v)| (rest, ServerKeepAlive(v))),
        0x15 => read::string(input, field).map(|(rest, v)| (rest, AuthenticationMethod(v))),
        0x16 => read::binary(input, field).map(|(rest, v)| (rest, AuthenticationData(v))),
        0x17 => flag(input, field).map(|(rest, v)| (rest, RequestProblemInformation(v))),
        0x18 => read::four_bytes(input, field).map(|(rest, v)| (rest, WillDelayInterval(v))),
        0x19 => flag(input, field).map(|(rest, v)| (rest, RequestResponseInformation(v))),
        0x1A => read::string(input, field).map(|(rest, v)| (rest, ResponseInformation(v))),
        0x1C => read::string(input, field).map(|(rest, v)| (rest, ServerReference(v))),
        0x1F => read::string(input, field).map(|(rest, v)| (rest, ReasonString(v))),
        0x21 => {
            let (rest, value) = read::two_bytes(input, field)?;
            Ok((rest, ReceiveMaximum(not_zero(value, field)?)))
        }
        0x22 => read::two_bytes(input, field).map(|(rest, v)| (rest, TopicAliasMaximum(v))),
        0x23 => match read::two_bytes(input, field)? {
            (_, 0) => Err(fail(DecodeError::TopicAliasZero)),
            (rest, value) => Ok((rest, TopicAlias(value))),
        },
        0x24 => {
            // QoS 2 is told by leaving the property out (section 3.2.2.3.4).
            let (rest, one) = flag(input, field)?;
            Ok((
                rest,
                MaximumQoS(if one {
                    QoS::AtLeastOnce
                } else {
                    QoS::AtMostOnce
                }),
            ))
        }
        0x25 => flag(input, field).map(|(rest, v)| (rest, RetainAvailable(v))),
        0x26 => read::pair(input, field).map(|(rest, v)| (rest, User(v))),
        0x27 => {
            let (rest, value) = read::four_bytes(input, field)?;
            Ok((rest, MaximumPacketSize(not_zero(value, field)?)))
        }
        0x28 => flag(input, field).map(|(rest, v)| (rest, WildcardSubscriptionAvailable(v))),
        0x29 => flag(input, field).map(|(rest, v)| (rest, SubscriptionIdentifiersAvailable(v))),
        0x2A => flag(input, field).map(|(rest, v)| (rest, SharedSubscriptionAvailable(v))),
        _ => Err(fail(DecodeError::UnexpectedProperty { packet, id })),
    }
}

/// A byte that is 0 or 1.
fn flag<'a>(input: &'a [u8], field: &'static str) -> Parsed<'a, bool> {
    match read::byte(input, field)? {
        (rest, value @ (0 | 1)) => Ok((rest, value == 1)),
        (_, got) => Err(fail(DecodeError::PropertyValue {
            property: field,
            expected: "0 or 1",
            got: u32::from(got),
        })),
    }
}

/// Refuses 0.
fn not_zero<T: Copy + Default + PartialEq>(
    value: T,
    property: &'static str,
) -> Result<T, nom::Err<DecodeError>> {
    if value == T::default() {
        return Err(fail(DecodeError::PropertyValue {
            property,
            expected: "a value above 0",
            got: 0,
        }));
    }
    Ok(value)
}

/// The standard's name of a property identifier.
const fn name(id: u32) -> &'static str {
    match id {
        0x01 => "Payload Format Indicator",
        0x02 => "Message Expiry Interval",
        0x03 => "Content Type",
        0x08 => "Response Topic",
        0x09 => "Correlation Data",
        0x0B => "Subscription Identifier",
        0x11 => "Session Expiry Interval",
        0x12 => "Assigned Client Identifier",
        0x13 => "Server Keep Alive",
        0x15 => "Authentication Method",
        0x16 => "Authentication Data",
        0x17 => "Request Problem Information",
        0x18 => "Will Delay Interval",
        0x19 => "Request Response Information",
        0x1A => "Response Information",
        0x1C => "Server Reference",
        0x1F => "Reason String",
        0x21 => "Receive Maximum",
        0x22 => "Topic Alias Maximum",
        0x23 => "Topic Alias",
        0x24 => "Maximum QoS",
        0x25 => "Retain Available",
        0x26 => "User Property",
        0x27 => "Maximum Packet Size",
        0x28 => "Wildcard Subscription Available",
        0x29 => "Subscription Identifier Available",
        0x2A => "Shared Subscription Available",
        _ => "property",
    }
}

impl Property<'_> {
    /// Writes identifier and value.
    pub(crate) fn write(self, sink: &mut impl Sink) {
        match self {
            Self::PayloadFormatIndicator(v) => sink.put(&[0x01, v as u8]),
            Self::MessageExpiryInterval(v) => put_four(sink, 0x02, v),
            Self::ContentType(v) => put_string(sink, 0x03, v),
            Self::ResponseTopic(v) => put_string(sink, 0x08, v),
            Self::CorrelationData(v) => put_binary(sink, 0x09, v),
            Self::SubscriptionIdentifier(v) => {
                refuse_zero(sink, 0x0B, v);
                sink.put(&[0x0B]);
                write::variable(sink, name(0x0B), usize::try_from(v).unwrap_or(usize::MAX));
            }
            Self::SessionExpiryInterval(v) => put_four(sink, 0x11, v),
            Self::AssignedClientIdentifier(v) => put_string(sink, 0x12, v),
            Self::ServerKeepAlive(v) => put_two(sink, 0x13, v),
            Self::AuthenticationMethod(v) => put_string(sink, 0x15, v),
            Self::AuthenticationData(v) => put_binary(sink, 0x16, v),
            Self::RequestProblemInformation(v) => sink.put(&[0x17, u8::from(v)]),
            Self::WillDelayInterval(v) => put_four(sink, 0x18, v),
            Self::RequestResponseInformation(v) => sink.put(&[0x19, u8::from(v)]),
            Self::ResponseInformation(v) => put_string(sink, 0x1A, v),
            Self::ServerReference(v) => put_string(sink, 0x1C, v),
            Self::ReasonString(v) => put_string(sink, 0x1F, v),
            Self::ReceiveMaximum(v) => {
                refuse_zero(sink, 0x21, u32::from(v));
                put_two(sink, 0x21, v);
            }
            Self::TopicAliasMaximum(v) => put_two(sink, 0x22, v),
            Self::TopicAlias(v) => {
                refuse_zero(sink, 0x23, u32::from(v));
                put_two(sink, 0x23, v);
            }
            Self::MaximumQoS(v) => {
                if v == QoS::ExactlyOnce {
                    sink.fail(EncodeError::Value {
                        field: name(0x24),
                        expected: "0 or 1",
                        got: 2,
                    });
                }
                sink.put(&[0x24, v.bits()]);
            }
            Self::RetainAvailable(v) => sink.put(&[0x25, u8::from(v)]),
            Self::User((key, value)) => {
                put_string(sink, 0x26, key);
                write::string(sink, name(0x26), value);
            }
            Self::MaximumPacketSize(v) => {
                refuse_zero(sink, 0x27, v);
                put_four(sink, 0x27, v);
            }
            Self::WildcardSubscriptionAvailable(v) => sink.put(&[0x28, u8::from(v)]),
            Self::SubscriptionIdentifiersAvailable(v) => sink.put(&[0x29, u8::from(v)]),
            Self::SharedSubscriptionAvailable(v) => sink.put(&[0x2A, u8::from(v)]),
        }
    }
}

fn refuse_zero(sink: &mut impl Sink, id: u8, value: u32) {
    if value == 0 {
        sink.fail(EncodeError::Value {
            field: name(u32::from(id)),
            expected: "a value above 0",
            got: 0,
        });
    }
}

fn put_two(sink: &mut impl Sink, id: u8, value: u16) {
    sink.put(&[id]);
    write::two_bytes(sink, value);
}

fn put_four(sink: &mut impl Sink, id: u8, value: u32) {
    sink.put(&[id]);
    write::four_bytes(sink, value);
}

fn put_string(sink: &mut impl Sink, id: u8, value: &str) {
    put_binary(sink, id, value.as_bytes());
}

fn put_binary(sink: &mut impl Sink, id: u8, value: &[u8]) {
    sink.put(&[id]);
    write::binary(sink, name(u32::from(id)), value);
}

/// A packet's set of properties, as it is written.
pub(crate) trait WriteProperties {
    /// Hands each property that is there to `write`, user properties in their order.
    fn each<'s>(&'s self, write: impl FnMut(Property<'s>));

    /// The length of the properties without the length field.
    fn len(&self) -> Result<usize, EncodeError> {
        Count::of(|count| self.each(|property| property.write(count)))
    }

    /// Writes length field and properties.
    fn write(&self, sink: &mut impl Sink) {
        match self.len() {
            Ok(length) => write::variable(sink, "property length", length),
            Err(error) => sink.fail(error),
        }
        self.each(|property| property.write(sink));
    }
}
