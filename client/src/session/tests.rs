//! Scripts of packets against [`Session`]: no socket, no clock.

use nightjar_mqtt::PacketType;
use nightjar_mqtt::packet::{AckProperties, Connack, ConnackProperties, PublishProperties, Suback};

use super::*;

fn options(version: ProtocolVersion) -> ConnectOptions {
    ConnectOptions::new("c").version(version)
}

/// A connected session that has written nothing yet.
fn session(options: &ConnectOptions, properties: ConnackProperties<'_>) -> Session {
    let mut session = Session::new(options);
    let mut out = Vec::new();
    session.connect(options, &mut out).unwrap();
    assert_eq!(out[0], 0x10);
    let mut connack = Connack::new(false, ReasonCode::Success);
    connack.properties = properties;
    let event = session
        .handle(Packet::Connack(Box::new(connack)), &mut out)
        .unwrap();
    assert!(matches!(event, Some(Event::Connected(_))));
    session
}

fn plain(version: ProtocolVersion) -> Session {
    session(&options(version), ConnackProperties::default())
}

fn publish(id: u16, qos: QoS, dup: bool) -> Packet<'static> {
    Packet::Publish(Publish {
        dup,
        qos,
        topic: "t",
        packet_id: Some(id),
        payload: b"p",
        ..Publish::default()
    })
}

fn qos(level: u8) -> QoS {
    QoS::from_bits(level).unwrap()
}

#[test]
fn qos_1_and_2_are_acknowledged_and_qos_2_is_delivered_once() {
    let mut session = plain(ProtocolVersion::V311);
    let mut out = Vec::new();
    let first = session.handle(publish(1, qos(1), false), &mut out).unwrap();
    assert!(matches!(first, Some(Event::Message(_))));
    assert_eq!(out, [0x40, 2, 0, 1]);

    out.clear();
    let second = session.handle(publish(2, qos(2), false), &mut out).unwrap();
    assert!(matches!(second, Some(Event::Message(_))));
    assert_eq!(out, [0x50, 2, 0, 2]);
    out.clear();
    assert_eq!(
        session.handle(publish(2, qos(2), true), &mut out).unwrap(),
        None
    );
    assert_eq!(out, [0x50, 2, 0, 2]);
    out.clear();
    session
        .handle(Packet::Pubrel(Ack::new(2, ReasonCode::Success)), &mut out)
        .unwrap();
    assert_eq!(out, [0x70, 2, 0, 2]);
    // After PUBREL the identifier is free for a new message.
    let again = session.handle(publish(2, qos(2), false), &mut out).unwrap();
    assert!(matches!(again, Some(Event::Message(_))));
}

#[test]
fn a_pubrel_of_an_unknown_id_is_answered_with_0x92() {
    let mut session = plain(ProtocolVersion::V5);
    let mut out = Vec::new();
    session
        .handle(Packet::Pubrel(Ack::new(9, ReasonCode::Success)), &mut out)
        .unwrap();
    assert_eq!(out, [0x70, 3, 0, 9, 0x92]);
}

#[test]
fn the_window_is_the_smaller_of_options_and_receive_maximum() {
    let properties = ConnackProperties {
        receive_maximum: Some(2),
        ..ConnackProperties::default()
    };
    let mut session = session(&options(ProtocolVersion::V5), properties);
    let mut out = Vec::new();
    let message = Message::new("t", "p").qos(qos(1));
    let first = session.publish(message.clone(), &mut out).unwrap().unwrap();
    session.publish(message.clone(), &mut out).unwrap();
    let before = out.len();
    assert_eq!(
        session.publish(message.clone(), &mut out),
        Err(SessionError::WindowFull(2))
    );
    assert_eq!(out.len(), before);
    // QoS 0 needs no room.
    session.publish(Message::new("t", "p"), &mut out).unwrap();
    let done = session.handle(
        Packet::Puback(Ack::new(first, ReasonCode::NotAuthorized)),
        &mut out,
    );
    let reason = ReasonCode::NotAuthorized;
    assert_eq!(
        done.unwrap(),
        Some(Event::Published {
            packet_id: first,
            reason
        })
    );
    session.publish(message, &mut out).unwrap();
}

#[test]
fn qos_2_frees_its_place_with_pubcomp_or_a_refusing_pubrec() {
    let mut session = plain(ProtocolVersion::V5);
    let mut out = Vec::new();
    let message = Message::new("t", "p").qos(qos(2));
    let id = session.publish(message.clone(), &mut out).unwrap().unwrap();
    out.clear();
    let received = Packet::Pubrec(Ack::new(id, ReasonCode::Success));
    assert_eq!(session.handle(received, &mut out).unwrap(), None);
    assert_eq!(out, [0x62, 2, 0, 1]);
    assert_eq!(session.inflight(), 1);
    let complete = Packet::Pubcomp(Ack::new(id, ReasonCode::Success));
    let reason = ReasonCode::Success;
    let event = session.handle(complete, &mut out).unwrap();
    assert_eq!(
        event,
        Some(Event::Published {
            packet_id: id,
            reason
        })
    );
    assert_eq!(session.inflight(), 0);

    let id = session.publish(message, &mut out).unwrap().unwrap();
    let refused = Packet::Pubrec(Ack::new(id, ReasonCode::QuotaExceeded));
    let event = session.handle(refused, &mut out).unwrap();
    let reason = ReasonCode::QuotaExceeded;
    assert_eq!(
        event,
        Some(Event::Published {
            packet_id: id,
            reason
        })
    );
    assert_eq!(session.inflight(), 0);
}

#[test]
fn a_resumed_session_sends_again_in_order_with_dup() {
    let mut options = options(ProtocolVersion::V311);
    options.clean_start = false;
    let mut session = session(&options, ConnackProperties::default());
    let mut out = Vec::new();
    for level in [2, 1, 1] {
        session
            .publish(Message::new("t", "p").qos(qos(level)), &mut out)
            .unwrap();
    }
    session
        .handle(Packet::Pubrec(Ack::new(1, ReasonCode::Success)), &mut out)
        .unwrap();
    session
        .handle(Packet::Puback(Ack::new(2, ReasonCode::Success)), &mut out)
        .unwrap();
    session.connect(&options, &mut out).unwrap();
    out.clear();
    let connack = Packet::Connack(Box::new(Connack::new(true, ReasonCode::Success)));
    session.handle(connack, &mut out).unwrap();
    session.resend(&mut out).unwrap();
    assert_eq!(out, [0x3A, 6, 0, 1, b't', 0, 3, b'p', 0x62, 2, 0, 1]);
    assert!(session.take_orphans().is_empty());
}

#[test]
fn a_session_the_broker_forgot_leaves_its_messages_as_orphans() {
    let options = options(ProtocolVersion::V311);
    let mut session = session(&options, ConnackProperties::default());
    let mut out = Vec::new();
    for payload in ["one", "two", "three"] {
        session
            .publish(Message::new("t", payload).qos(qos(2)), &mut out)
            .unwrap();
    }
    // "two" is with the broker already.
    session
        .handle(Packet::Pubrec(Ack::new(2, ReasonCode::Success)), &mut out)
        .unwrap();
    session.connect(&options, &mut out).unwrap();
    let connack = Packet::Connack(Box::new(Connack::new(false, ReasonCode::Success)));
    session.handle(connack, &mut out).unwrap();
    assert_eq!(session.inflight(), 0);
    let orphans = session.take_orphans();
    let payloads: Vec<_> = orphans.iter().map(|message| &message.payload[..]).collect();
    assert_eq!(payloads, [&b"one"[..], b"three"]);
}

#[test]
fn what_the_broker_does_not_take_is_not_sent() {
    let properties = ConnackProperties {
        maximum_qos: Some(QoS::AtLeastOnce),
        retain_available: Some(false),
        maximum_packet_size: Some(20),
        topic_alias_maximum: Some(1),
        ..ConnackProperties::default()
    };
    let mut session = session(&options(ProtocolVersion::V5), properties);
    let mut out = Vec::new();
    let mut refuse = |message: Message| {
        let error = session.publish(message, &mut out).unwrap_err();
        assert!(out.is_empty(), "{error} and bytes");
        error
    };
    let message = Message::new("t", "p");
    assert!(matches!(
        refuse(message.clone().qos(qos(2))),
        SessionError::QosNotSupported { .. }
    ));
    assert_eq!(
        refuse(message.clone().retain(true)),
        SessionError::RetainNotSupported
    );
    assert!(matches!(
        refuse(Message::new("t", vec![0; 20])),
        SessionError::TooLarge { max: 20, .. }
    ));
    let mut alias = message;
    alias.properties.topic_alias = Some(2);
    assert_eq!(refuse(alias), SessionError::AliasTooHigh { max: 1, got: 2 });
}

#[test]
fn aliases_of_the_broker_are_resolved_within_our_maximum() {
    let mut options = options(ProtocolVersion::V5);
    options.properties.topic_alias_maximum = Some(2);
    let mut session = session(&options, ConnackProperties::default());
    let aliased = |topic: &'static str, alias| {
        Packet::Publish(Publish {
            topic,
            properties: PublishProperties {
                topic_alias: Some(alias),
                ..PublishProperties::default()
            },
            ..Publish::default()
        })
    };
    let mut out = Vec::new();
    let mut topic = |packet| match session.handle(packet, &mut out)? {
        Some(Event::Message(message)) => Ok(message.topic),
        other => panic!("{other:?}"),
    };
    assert_eq!(topic(aliased("a/b", 2)).unwrap(), "a/b");
    assert_eq!(topic(aliased("", 2)).unwrap(), "a/b");
    assert_eq!(topic(aliased("c", 2)).unwrap(), "c");
    assert_eq!(topic(aliased("", 2)).unwrap(), "c");
    assert_eq!(topic(aliased("", 1)), Err(SessionError::AliasInvalid(1)));
    assert_eq!(topic(aliased("d", 3)), Err(SessionError::AliasInvalid(3)));
}

#[test]
fn manual_acknowledgements_are_counted_against_our_receive_maximum() {
    let mut options = options(ProtocolVersion::V5);
    options.auto_ack = false;
    options.properties.receive_maximum = Some(2);
    let mut session = session(&options, ConnackProperties::default());
    let mut out = Vec::new();
    session.handle(publish(1, qos(1), false), &mut out).unwrap();
    session.handle(publish(2, qos(2), false), &mut out).unwrap();
    assert!(out.is_empty());
    session
        .acknowledge(1, ReasonCode::Success, &mut out)
        .unwrap();
    assert_eq!(out, [0x40, 2, 0, 1]);
    // Twice is once.
    session
        .acknowledge(1, ReasonCode::Success, &mut out)
        .unwrap();
    assert_eq!(out.len(), 4);
    session.handle(publish(3, qos(1), false), &mut out).unwrap();
    let error = session
        .handle(publish(4, qos(1), false), &mut out)
        .unwrap_err();
    assert_eq!(error, SessionError::ReceiveMaximumExceeded(2));
    assert_eq!(
        error.reason_code(),
        Some(ReasonCode::ReceiveMaximumExceeded)
    );
}

#[test]
fn packet_identifiers_in_use_are_skipped() {
    let mut options = options(ProtocolVersion::V311);
    options.max_inflight = u16::MAX;
    let mut session = session(&options, ConnackProperties::default());
    let mut out = Vec::new();
    let message = Message::new("t", "").qos(qos(1));
    for expected in 1..=u16::MAX {
        out.clear();
        assert_eq!(
            session.publish(message.clone(), &mut out).unwrap(),
            Some(expected)
        );
    }
    assert_eq!(
        session.subscribe(&[], None, &[], &mut out),
        Err(SessionError::NoPacketId)
    );
    session
        .handle(Packet::Puback(Ack::new(77, ReasonCode::Success)), &mut out)
        .unwrap();
    assert_eq!(session.publish(message, &mut out).unwrap(), Some(77));
}

#[test]
fn answers_match_their_requests() {
    let mut session = plain(ProtocolVersion::V311);
    let mut out = Vec::new();
    let filters = [("a", SubscriptionOptions::default())];
    let id = session.subscribe(&filters, None, &[], &mut out).unwrap();
    let suback = |packet_id| {
        Packet::Suback(Suback {
            packet_id,
            reasons: vec![ReasonCode::GrantedQoS1],
            properties: AckProperties::default(),
        })
    };
    assert_eq!(session.handle(suback(id + 1), &mut out).unwrap(), None);
    let reasons = vec![ReasonCode::GrantedQoS1];
    let event = session.handle(suback(id), &mut out).unwrap();
    assert_eq!(
        event,
        Some(Event::Subscribed {
            packet_id: id,
            reasons
        })
    );
    assert_eq!(session.handle(suback(id), &mut out).unwrap(), None);
}

#[test]
fn nothing_but_connack_and_auth_may_come_first() {
    let options = options(ProtocolVersion::V5);
    let mut session = Session::new(&options);
    let mut out = Vec::new();
    session.connect(&options, &mut out).unwrap();
    let error = session.handle(Packet::Pingresp, &mut out).unwrap_err();
    assert_eq!(error, SessionError::Unexpected(PacketType::Pingresp));
    let connack = || Packet::Connack(Box::new(Connack::new(false, ReasonCode::Success)));
    session.handle(connack(), &mut out).unwrap();
    assert_eq!(
        session.handle(connack(), &mut out).unwrap_err(),
        SessionError::Unexpected(PacketType::Connack)
    );
}
