//! Packets from bytes: any input becomes a legal packet of the wished type, version and direction.

use crate::packet::*;
use crate::{
    Decoded, Decoder, Packet, ProtocolVersion, QoS, ReasonCode, Role, validate_topic_filter,
    validate_topic_name,
};

/// Bytes that are read as whatever is asked for; zeros when they have run out.
struct Source<'a>(&'a [u8]);

impl<'a> Source<'a> {
    fn byte(&mut self) -> u8 {
        match *self.0 {
            [first, ref rest @ ..] => {
                self.0 = rest;
                first
            }
            [] => 0,
        }
    }

    fn flag(&mut self) -> bool {
        self.byte() & 1 == 1
    }

    fn two(&mut self) -> u16 {
        u16::from_be_bytes([self.byte(), self.byte()])
    }

    fn four(&mut self) -> u32 {
        u32::from(self.two()) << 16 | u32::from(self.two())
    }

    fn bytes(&mut self) -> &'a [u8] {
        let length = usize::from(self.byte() % 24).min(self.0.len());
        let (bytes, rest) = self.0.split_at(length);
        self.0 = rest;
        bytes
    }

    /// The valid beginning of some bytes.
    fn text(&mut self) -> &'a str {
        let bytes = self.bytes();
        let valid = match str::from_utf8(bytes) {
            Ok(text) => text,
            Err(error) => str::from_utf8(&bytes[..error.valid_up_to()]).expect("valid up to here"),
        };
        valid.split('\0').next().unwrap_or_default()
    }

    fn name(&mut self) -> &'a str {
        let text = self.text();
        if validate_topic_name(text).is_ok() {
            text
        } else {
            "sport/tennis"
        }
    }

    fn filter(&mut self) -> &'a str {
        const FILTERS: [&str; 6] = ["#", "+/a", "a/+/b/#", "$share/g/a/+", "$SYS/#", "/"];
        let text = self.text();
        if validate_topic_filter(text).is_ok() {
            text
        } else {
            self.pick(&FILTERS)
        }
    }

    fn pick<T: Copy>(&mut self, from: &[T]) -> T {
        from[usize::from(self.byte()) % from.len()]
    }

    fn id(&mut self) -> u16 {
        self.two().max(1)
    }

    fn qos(&mut self) -> QoS {
        self.pick(&[QoS::AtMostOnce, QoS::AtLeastOnce, QoS::ExactlyOnce])
    }

    fn format(&mut self) -> PayloadFormat {
        self.pick(&[PayloadFormat::Unspecified, PayloadFormat::Utf8])
    }

    fn maybe<T>(&mut self, make: impl FnOnce(&mut Self) -> T) -> Option<T> {
        self.flag().then(|| make(self))
    }

    fn some<T>(&mut self, least: u8, mut make: impl FnMut(&mut Self) -> T) -> Vec<T> {
        (0..least + self.byte() % 3).map(|_| make(self)).collect()
    }

    fn pairs(&mut self) -> UserProperties<'a> {
        self.some(0, |s| (s.text(), s.text()))
    }

    /// `make` in 5.0, nothing in 3.x, which has no properties.
    fn v5<T: Default>(&mut self, version: ProtocolVersion, make: impl FnOnce(&mut Self) -> T) -> T {
        if version.is_v5() && self.flag() {
            make(self)
        } else {
            T::default()
        }
    }

    /// A subscription identifier: of every length on the wire.
    fn subscription_identifier(&mut self) -> u32 {
        let shift = self.pick(&[4, 12, 20, 27]);
        (self.four() >> shift).clamp(1, 268_435_455)
    }
}

/// The packet with this number (0 to 15 sent by a client, 16 to 31 by a server) and the side that reads it; `None` if this
/// version or side has no such packet.
pub fn build_packet<'a>(
    kind: u8,
    version: ProtocolVersion,
    data: &'a [u8],
) -> Option<(Role, Packet<'a>)> {
    let mut s = Source(data);
    let s = &mut s;
    let role = if kind & 16 == 0 {
        Role::Server
    } else {
        Role::Client
    };
    let server = role == Role::Server;
    let packet = match kind & 15 {
        1 if server => Packet::Connect(Box::new(connect(s, version))),
        2 if !server => Packet::Connack(Box::new(connack(s, version))),
        3 => Packet::Publish(publish(s, version, role)),
        4 => Packet::Puback(ack(s, version, &PUBLISH_CODES)),
        5 => Packet::Pubrec(ack(s, version, &PUBLISH_CODES)),
        6 => Packet::Pubrel(ack(s, version, &RELEASE_CODES)),
        7 => Packet::Pubcomp(ack(s, version, &RELEASE_CODES)),
        8 if server => Packet::Subscribe(subscribe(s, version)),
        9 if !server => {
            let codes: &[ReasonCode] = if version.is_v5() {
                &SUBACK_CODES
            } else {
                &SUBACK_CODES[..4]
            };
            Packet::Suback(Suback {
                packet_id: s.id(),
                reasons: s.some(1, |s| s.pick(codes)),
                properties: ack_properties(s, version),
            })
        }
        10 if server => Packet::Unsubscribe(Unsubscribe {
            packet_id: s.id(),
            filters: s.some(1, Source::filter),
            properties: s.v5(version, |s| UnsubscribeProperties {
                user_properties: s.pairs(),
            }),
        }),
        11 if !server => Packet::Unsuback(Unsuback {
            packet_id: s.id(),
            reasons: if version.is_v5() {
                s.some(1, |s| s.pick(&UNSUBACK_CODES))
            } else {
                Vec::new()
            },
            properties: ack_properties(s, version),
        }),
        12 if server => Packet::Pingreq,
        13 if !server => Packet::Pingresp,
        14 if server || version.is_v5() => Packet::Disconnect(disconnect(s, version, role)),
        15 if version.is_v5() => Packet::Auth(auth(s, role)),
        _ => return None,
    };
    Some((role, packet))
}

fn connect<'a>(s: &mut Source<'a>, version: ProtocolVersion) -> Connect<'a> {
    let username = s.maybe(Source::text);
    let mut properties = s.v5(version, |s| ConnectProperties {
        session_expiry_interval: s.maybe(Source::four),
        receive_maximum: s.maybe(Source::id),
        maximum_packet_size: s.maybe(|s| s.four().max(1)),
        topic_alias_maximum: s.maybe(Source::two),
        request_response_information: s.maybe(Source::flag),
        request_problem_information: s.maybe(Source::flag),
        user_properties: s.pairs(),
        authentication_method: s.maybe(Source::text),
        authentication_data: None,
    });
    if properties.authentication_method.is_some() {
        properties.authentication_data = s.maybe(Source::bytes);
    }
    Connect {
        version,
        bridge: !version.is_v5() && s.flag(),
        clean_start: s.flag(),
        keep_alive: s.two(),
        client_id: s.text(),
        will: s.maybe(|s| Will {
            topic: s.name(),
            payload: s.bytes(),
            qos: s.qos(),
            retain: s.flag(),
            properties: s.v5(version, |s| WillProperties {
                will_delay_interval: s.maybe(Source::four),
                payload_format_indicator: s.maybe(Source::format),
                message_expiry_interval: s.maybe(Source::four),
                content_type: s.maybe(Source::text),
                response_topic: s.maybe(Source::name),
                correlation_data: s.maybe(Source::bytes),
                user_properties: s.pairs(),
            }),
        }),
        username,
        password: if username.is_some() || version.is_v5() {
            s.maybe(Source::bytes)
        } else {
            None
        },
        properties,
    }
}

fn connack<'a>(s: &mut Source<'a>, version: ProtocolVersion) -> Connack<'a> {
    use ReasonCode::*;
    const CODES: [ReasonCode; 22] = [
        Success,
        UnsupportedProtocolVersion,
        ClientIdentifierNotValid,
        ServerUnavailable,
        BadUserNameOrPassword,
        NotAuthorized,
        UnspecifiedError,
        MalformedPacket,
        ProtocolError,
        ImplementationSpecificError,
        ServerBusy,
        Banned,
        BadAuthenticationMethod,
        TopicNameInvalid,
        PacketTooLarge,
        QuotaExceeded,
        PayloadFormatInvalid,
        RetainNotSupported,
        QoSNotSupported,
        UseAnotherServer,
        ServerMoved,
        ConnectionRateExceeded,
    ];
    let reason = s.pick(if version.is_v5() { &CODES } else { &CODES[..6] });
    let mut properties = s.v5(version, |s| ConnackProperties {
        session_expiry_interval: s.maybe(Source::four),
        receive_maximum: s.maybe(Source::id),
        maximum_qos: s.maybe(|s| s.pick(&[QoS::AtMostOnce, QoS::AtLeastOnce])),
        retain_available: s.maybe(Source::flag),
        maximum_packet_size: s.maybe(|s| s.four().max(1)),
        assigned_client_identifier: s.maybe(Source::text),
        topic_alias_maximum: s.maybe(Source::two),
        reason_string: s.maybe(Source::text),
        user_properties: s.pairs(),
        wildcard_subscription_available: s.maybe(Source::flag),
        subscription_identifiers_available: s.maybe(Source::flag),
        shared_subscription_available: s.maybe(Source::flag),
        server_keep_alive: s.maybe(Source::two),
        response_information: s.maybe(Source::text),
        server_reference: s.maybe(Source::text),
        authentication_method: s.maybe(Source::text),
        authentication_data: None,
    });
    if properties.authentication_method.is_some() {
        properties.authentication_data = s.maybe(Source::bytes);
    }
    let session_present = s.flag() && !reason.is_error() && version != ProtocolVersion::V31;
    Connack {
        session_present,
        reason,
        properties,
    }
}

fn publish<'a>(s: &mut Source<'a>, version: ProtocolVersion, reader: Role) -> Publish<'a> {
    let qos = s.qos();
    let properties = s.v5(version, |s| PublishProperties {
        payload_format_indicator: s.maybe(Source::format),
        message_expiry_interval: s.maybe(Source::four),
        topic_alias: s.maybe(Source::id),
        response_topic: s.maybe(Source::name),
        correlation_data: s.maybe(Source::bytes),
        user_properties: s.pairs(),
        subscription_identifiers: if reader == Role::Client {
            s.some(0, Source::subscription_identifier)
        } else {
            Vec::new()
        },
        content_type: s.maybe(Source::text),
    });
    Publish {
        // Lenient decoding of 3.x takes DUP with QoS 0.
        dup: s.flag() && (qos != QoS::AtMostOnce || !version.is_v5()),
        qos,
        retain: s.flag(),
        topic: if properties.topic_alias.is_some() && s.flag() {
            ""
        } else {
            s.name()
        },
        packet_id: (qos != QoS::AtMostOnce).then(|| s.id()),
        properties,
        payload: if s.flag() { s.bytes() } else { s.0 },
    }
}

const PUBLISH_CODES: [ReasonCode; 9] = [
    ReasonCode::Success,
    ReasonCode::NoMatchingSubscribers,
    ReasonCode::UnspecifiedError,
    ReasonCode::ImplementationSpecificError,
    ReasonCode::NotAuthorized,
    ReasonCode::TopicNameInvalid,
    ReasonCode::PacketIdentifierInUse,
    ReasonCode::QuotaExceeded,
    ReasonCode::PayloadFormatInvalid,
];

const RELEASE_CODES: [ReasonCode; 2] = [ReasonCode::Success, ReasonCode::PacketIdentifierNotFound];

/// The first four are those of 3.x.
const SUBACK_CODES: [ReasonCode; 12] = [
    ReasonCode::Success,
    ReasonCode::GrantedQoS1,
    ReasonCode::GrantedQoS2,
    ReasonCode::UnspecifiedError,
    ReasonCode::ImplementationSpecificError,
    ReasonCode::NotAuthorized,
    ReasonCode::TopicFilterInvalid,
    ReasonCode::PacketIdentifierInUse,
    ReasonCode::QuotaExceeded,
    ReasonCode::SharedSubscriptionsNotSupported,
    ReasonCode::SubscriptionIdentifiersNotSupported,
    ReasonCode::WildcardSubscriptionsNotSupported,
];

const UNSUBACK_CODES: [ReasonCode; 7] = [
    ReasonCode::Success,
    ReasonCode::NoSubscriptionExisted,
    ReasonCode::UnspecifiedError,
    ReasonCode::ImplementationSpecificError,
    ReasonCode::NotAuthorized,
    ReasonCode::TopicFilterInvalid,
    ReasonCode::PacketIdentifierInUse,
];

fn ack<'a>(s: &mut Source<'a>, version: ProtocolVersion, codes: &[ReasonCode]) -> Ack<'a> {
    let reason = if version.is_v5() {
        s.pick(codes)
    } else {
        ReasonCode::Success
    };
    Ack {
        packet_id: s.id(),
        reason,
        properties: ack_properties(s, version),
    }
}

fn ack_properties<'a>(s: &mut Source<'a>, version: ProtocolVersion) -> AckProperties<'a> {
    s.v5(version, |s| AckProperties {
        reason_string: s.maybe(Source::text),
        user_properties: s.pairs(),
    })
}

fn subscribe<'a>(s: &mut Source<'a>, version: ProtocolVersion) -> Subscribe<'a> {
    Subscribe {
        packet_id: s.id(),
        subscriptions: s.some(1, |s| {
            let filter = s.filter();
            let mut options = SubscriptionOptions::from_qos(s.qos());
            if version.is_v5() {
                options.no_local = s.flag() && !filter.starts_with("$share/");
                options.retain_as_published = s.flag();
                options.retain_handling = s.pick(&[
                    RetainHandling::Send,
                    RetainHandling::SendIfNew,
                    RetainHandling::DoNotSend,
                ]);
            }
            Subscription { filter, options }
        }),
        properties: s.v5(version, |s| SubscribeProperties {
            subscription_identifier: s.maybe(Source::subscription_identifier),
            user_properties: s.pairs(),
        }),
    }
}

fn disconnect<'a>(s: &mut Source<'a>, version: ProtocolVersion, reader: Role) -> Disconnect<'a> {
    use ReasonCode::*;
    const CLIENT: [ReasonCode; 6] = [
        Success,
        DisconnectWithWill,
        UnspecifiedError,
        ProtocolError,
        TopicAliasInvalid,
        BadAuthenticationMethod,
    ];
    const SERVER: [ReasonCode; 6] = [
        Success,
        ServerShuttingDown,
        SessionTakenOver,
        MalformedPacket,
        ServerMoved,
        WildcardSubscriptionsNotSupported,
    ];
    let to_server = reader == Role::Server;
    if !version.is_v5() {
        return Disconnect::new(Success);
    }
    Disconnect {
        reason: s.pick(if to_server { &CLIENT } else { &SERVER }),
        properties: s.v5(version, |s| DisconnectProperties {
            session_expiry_interval: if to_server {
                s.maybe(Source::four)
            } else {
                None
            },
            reason_string: s.maybe(Source::text),
            user_properties: s.pairs(),
            server_reference: if to_server {
                None
            } else {
                s.maybe(Source::text)
            },
        }),
    }
}

fn auth<'a>(s: &mut Source<'a>, reader: Role) -> Auth<'a> {
    use ReasonCode::*;
    let other = if reader == Role::Server {
        ReAuthenticate
    } else {
        Success
    };
    let reason = s.pick(&[ContinueAuthentication, other]);
    if reason == Success && s.flag() {
        return Auth {
            reason,
            properties: AuthProperties::default(),
        };
    }
    Auth {
        reason,
        properties: AuthProperties {
            authentication_method: Some(s.text()),
            authentication_data: s.maybe(Source::bytes),
            reason_string: s.maybe(Source::text),
            user_properties: s.pairs(),
        },
    }
}

/// Encodes a packet and decodes it: it must come back, whole and alone. A PUBLISH goes the fast way too.
pub fn roundtrip_packet(reader: Role, version: ProtocolVersion, packet: &Packet<'_>) {
    let mut bytes = vec![0xAA; 3];
    packet.encode(version, &mut bytes).expect("a legal packet");
    let (before, bytes) = bytes.split_at(3);
    assert_eq!(before, [0xAA; 3], "what was in the buffer stays");
    assert_eq!(packet.encoded_len(version), Ok(bytes.len()));
    let first = matches!(packet, Packet::Connect(_));
    let decoder = Decoder {
        role: reader,
        version: (!first).then_some(version),
        max_packet_size: 1 << 20,
        lenient: true,
    };
    let expected = Decoded::Packet {
        packet: packet.clone(),
        consumed: bytes.len(),
    };
    assert_eq!(decoder.decode(bytes), Ok(expected));
    if let Packet::Publish(publish) = packet {
        roundtrip_head(version, publish, bytes);
    }
}

/// The fast encoder writes the same bytes.
fn roundtrip_head(version: ProtocolVersion, publish: &Publish<'_>, expected: &[u8]) {
    let mut forwarded = Vec::new();
    publish
        .properties
        .encode_forwarded(&mut forwarded)
        .expect("legal properties");
    assert_eq!(publish.properties.has_forwarded(), !forwarded.is_empty());
    let head = PublishHead {
        dup: publish.dup,
        qos: publish.qos,
        retain: publish.retain,
        topic: publish.topic,
        packet_id: publish.packet_id,
        topic_alias: publish.properties.topic_alias,
        message_expiry_interval: publish.properties.message_expiry_interval,
        subscription_identifiers: &publish.properties.subscription_identifiers,
        forwarded: &forwarded,
    };
    let mut bytes = Vec::new();
    head.encode_with(version, publish.payload, &mut bytes)
        .expect("a legal packet");
    assert_eq!(bytes, expected);
    assert_eq!(
        head.encoded_len(version, publish.payload.len()),
        Ok(expected.len())
    );
    bytes.clear();
    head.encode(version, publish.payload.len(), &mut bytes)
        .expect("a legal packet");
    bytes.extend_from_slice(publish.payload);
    assert_eq!(bytes, expected);
}
