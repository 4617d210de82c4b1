//! Round trips, damaged bytes and the bytes of this format.

use nightjar_mqtt::{QoS, TopicFilter, TopicName};
use proptest::prelude::*;

use super::*;
use crate::auth::Owner;
use crate::settings::{QueueLimits, QueuePolicy};
use crate::subscription::{SubOptions, Subscription};
use crate::{DropReason, Message, MessageHead, MessageProperties, Timestamp};

fn text() -> impl Strategy<Value = String> {
    "[a-zA-Z0-9 äß€-]{0,12}"
}

fn topic() -> impl Strategy<Value = TopicName> {
    "[a-c]{1,2}(/[a-c]{0,2}){0,2}".prop_map(|text| TopicName::new(text).unwrap())
}

fn filter() -> impl Strategy<Value = TopicFilter> {
    prop_oneof![
        "([a-c]{1,2}|\\+)(/([a-c]{1,2}|\\+)){0,2}(/#)?",
        "\\$share/[gh]/([a-c]|\\+)(/[a-c])?",
    ]
    .prop_map(|text| TopicFilter::new(text).unwrap())
}

fn qos() -> impl Strategy<Value = QoS> {
    prop_oneof![
        Just(QoS::AtMostOnce),
        Just(QoS::AtLeastOnce),
        Just(QoS::ExactlyOnce)
    ]
}

fn time() -> impl Strategy<Value = Timestamp> {
    prop_oneof![any::<u64>().prop_map(Timestamp), Just(Timestamp::NEVER)]
}

fn properties() -> impl Strategy<Value = Option<Box<MessageProperties>>> {
    let some = (
        proptest::option::of(0u8..2),
        proptest::option::of(text()),
        proptest::option::of(text()),
        proptest::option::of(prop::collection::vec(any::<u8>(), 0..8)),
        prop::collection::vec((text(), text()), 0..3),
    )
        .prop_map(|(format, content, response, data, user)| {
            Box::new(MessageProperties {
                payload_format: format,
                content_type: content.map(Into::into),
                response_topic: response.map(Into::into),
                correlation_data: data.map(Into::into),
                user_properties: user
                    .into_iter()
                    .map(|(name, value)| (name.into(), value.into()))
                    .collect(),
            })
        });
    proptest::option::of(some)
}

fn message() -> impl Strategy<Value = Message> {
    (
        topic(),
        qos(),
        any::<bool>(),
        proptest::option::of(text()),
        time(),
        proptest::option::of(time()),
        properties(),
        prop::collection::vec(any::<u8>(), 0..40),
    )
        .prop_map(
            |(topic, qos, retain, publisher, received_at, expires_at, properties, payload)| {
                let head = MessageHead {
                    topic,
                    qos,
                    retain,
                    publisher: publisher.map(Into::into),
                    received_at,
                    expires_at,
                    properties,
                };
                Message::new(head, &payload)
            },
        )
}

fn sub() -> impl Strategy<Value = (TopicFilter, Subscription)> {
    (filter(), any::<u8>(), any::<u32>()).prop_map(|(filter, bits, id)| {
        let options = SubOptions::from_bits(bits);
        (filter, Subscription { options, id })
    })
}

fn limits() -> impl Strategy<Value = QueueLimits> {
    let policy = prop_oneof![
        Just(QueuePolicy::DropOldest),
        Just(QueuePolicy::DropNewest),
        Just(QueuePolicy::Reject)
    ];
    (1usize..9, 0usize..4096, policy, any::<bool>()).prop_map(
        |(max_len, max_bytes, policy, queue_qos0)| QueueLimits {
            max_len,
            max_bytes,
            policy,
            queue_qos0,
        },
    )
}

fn will() -> impl Strategy<Value = Option<Box<Will>>> {
    let some =
        (message(), 0u32..4, proptest::option::of(0u32..9)).prop_map(|(message, delay, expiry)| {
            Box::new(Will {
                message,
                delay,
                expiry,
            })
        });
    proptest::option::of(some)
}

fn client() -> impl Strategy<Value = std::sync::Arc<str>> {
    "[xyz]".prop_map(Into::into)
}

/// Entries for three clients over a few seconds, so that they meet.
pub(super) fn entry() -> impl Strategy<Value = SessionEntry> {
    let now = || (0u64..8000).prop_map(Timestamp);
    let epoch = || 0u64..4;
    let ids = || prop::collection::vec(1u16..5, 0..4);
    let reasons = prop_oneof![
        Just(AckKind::Done),
        Just(AckKind::Received),
        Just(AckKind::Discarded(DropReason::Expired)),
        Just(AckKind::Discarded(DropReason::Denied)),
    ];
    let ack = (0u64..12, reasons).prop_map(|(seq, kind)| Ack { seq, kind });
    let expiry = prop_oneof![Just(0u32), 0u32..5, Just(u32::MAX)];
    let kinds = prop_oneof![
        Just(CloseKind::Normal),
        Just(CloseKind::Abnormal),
        (0u32..4).prop_map(CloseKind::Restart),
        Just(CloseKind::Disarmed),
        (0u32..4).prop_map(CloseKind::Park)
    ];
    let rules = prop_oneof![
        Just(WillRule::Keep),
        Just(WillRule::Replace),
        Just(WillRule::Wake)
    ];
    let supervision = proptest::option::of(
        (rules, 0u32..4).prop_map(|(will, seconds)| Supervision { will, seconds }),
    );
    let octets = prop::collection::vec(any::<u8>(), 0..5);
    let group = proptest::option::of(("[gh]", filter()));
    prop_oneof![
        4 => (client(), any::<bool>(), expiry, will(), limits(), 1u16..4, supervision, now()).prop_map(
            |(client_id, clean_start, expiry, will, limits, window, supervision, now)| {
                SessionEntry::Open(Box::new(Open {
                    owner: (window % 2 == 1).then(|| Box::new(Owner {
                        username: (expiry != 0).then(|| "user".into()),
                        certificate: clean_start.then(|| "CN=x".into()),
                    })),
                    client_id, clean_start, expiry, will, limits, window, supervision, now, node: 0,
                }))
            }
        ),
        2 => (client(), epoch(), kinds, proptest::option::of(0u32..4), now()).prop_map(
            |(client_id, epoch, kind, expiry, now)| SessionEntry::Close(Close {
                client_id, epoch, kind, expiry, now,
            })
        ),
        4 => (client(), epoch(), prop::collection::vec(sub(), 0..4)).prop_map(
            |(client_id, epoch, subs)| SessionEntry::Subscribe { client_id, epoch, subs }
        ),
        1 => (client(), epoch(), prop::collection::vec(filter(), 0..3)).prop_map(
            |(client_id, epoch, filters)| SessionEntry::Unsubscribe { client_id, epoch, filters }
        ),
        6 => message().prop_map(SessionEntry::Publish),
        2 => (client(), message(), qos(), any::<(bool, bool)>(), 0u32..3, group).prop_map(
            |(client_id, message, qos, (retain, checked), sub_id, group)| {
                SessionEntry::Enqueue(Box::new(Enqueue {
                    client_id, message, qos, retain, sub_id, checked,
                    group: group.map(|(name, filter)| (name.into(), filter)),
                }))
            }
        ),
        3 => (client(), epoch(), prop::collection::vec(ack, 0..4)).prop_map(
            |(client_id, epoch, acks)| SessionEntry::Acks { client_id, epoch, acks }
        ),
        1 => (client(), epoch(), ids()).prop_map(
            |(client_id, epoch, ids)| SessionEntry::Received { client_id, epoch, ids }
        ),
        1 => (client(), epoch(), ids()).prop_map(
            |(client_id, epoch, ids)| SessionEntry::Released { client_id, epoch, ids }
        ),
        1 => client().prop_map(|client_id| SessionEntry::End { client_id }),
        1 => now().prop_map(|now| SessionEntry::Tick { now }),
        1 => (client(), epoch(), now()).prop_map(
            |(client_id, epoch, now)| SessionEntry::Touch { client_id, epoch, now }
        ),
        1 => (client(), epoch(), any::<bool>(), octets).prop_map(
            |(client_id, epoch, append, octets)| SessionEntry::Front {
                client_id, epoch, append, octets: octets.into(),
            }
        ),
        1 => (client(), epoch(), will()).prop_map(
            |(client_id, epoch, will)| SessionEntry::SetWill { client_id, epoch, will }
        ),
        1 => (client(), epoch(), any::<u64>()).prop_map(
            |(client_id, epoch, count)| SessionEntry::By { client_id, epoch, count }
        ),
        1 => prop::collection::vec(0u64..4, 0..3)
            .prop_map(|duties| SessionEntry::Fulfilled { duties }),
    ]
}

fn encode(entry: &SessionEntry) -> Vec<u8> {
    let mut bytes = Vec::new();
    entry.encode(&mut bytes);
    bytes
}

fn snapshot(shard: &SessionShard) -> Vec<u8> {
    let mut bytes = Vec::new();
    shard.encode(&mut bytes);
    bytes
}

/// What two shards must have in common: slots are their own, so the effects of one entry may come in another order.
fn effects(mut effects: Vec<Effect>) -> Vec<String> {
    effects.retain(|effect| !matches!(effect, Effect::Ready { .. }));
    let mut texts: Vec<String> = effects
        .into_iter()
        .map(|effect| match effect {
            Effect::Ended {
                client_id,
                epoch,
                undelivered,
                ..
            } => format!("{client_id} {epoch} {undelivered}"),
            Effect::HandBack {
                client_id, shared, ..
            } => format!("{client_id} {shared:?}"),
            Effect::Will {
                client_id, message, ..
            } => format!("{client_id} {message:?}"),
            other => format!("{other:?}"),
        })
        .collect();
    texts.sort();
    texts
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, ..ProptestConfig::default() })]

    #[test]
    fn an_entry_is_read_as_it_was_written(entry in entry()) {
        let bytes = encode(&entry);
        let mut from = Decoder(&bytes);
        prop_assert_eq!(SessionEntry::decode(&mut from), Ok(entry));
        prop_assert!(from.is_empty());
    }

    #[test]
    fn a_retained_entry_is_read_as_it_was_written(
        message in message(), topic in topic(), now in time(), client_id in client(), epoch in any::<u64>(),
        shard in any::<u16>(), duty in any::<u64>(),
    ) {
        for entry in [
            RetainedEntry::Set(message.clone()),
            RetainedEntry::SetDue { shard, duty, message: message.clone() },
            RetainedEntry::SetBy { client_id, epoch, message },
            RetainedEntry::Remove(topic),
            RetainedEntry::Tick { now },
        ] {
            let mut bytes = Vec::new();
            entry.encode(&mut bytes);
            let mut from = Decoder(&bytes);
            prop_assert_eq!(RetainedEntry::decode(&mut from), Ok(entry));
            prop_assert!(from.is_empty());
        }
    }

    #[test]
    fn a_cut_entry_is_an_error(entry in entry(), cut in any::<prop::sample::Index>()) {
        let bytes = encode(&entry);
        let at = cut.index(bytes.len());
        prop_assert!(SessionEntry::decode(&mut Decoder(&bytes[..at])).is_err());
    }

    #[test]
    fn damaged_bytes_never_panic(
        entries in prop::collection::vec(entry(), 1..30),
        at in any::<prop::sample::Index>(),
        bits in 1u8..,
        noise in prop::collection::vec(any::<u8>(), 0..60),
    ) {
        let mut shard = SessionShard::default();
        let mut out = Vec::new();
        for entry in &entries {
            let mut bytes = encode(entry);
            let place = at.index(bytes.len());
            bytes[place] ^= bits;
            let _ = SessionEntry::decode(&mut Decoder(&bytes));
            shard.apply(entry.clone(), &mut out);
        }
        let mut bytes = snapshot(&shard);
        let place = at.index(bytes.len());
        bytes[place] ^= bits;
        let _ = SessionShard::decode(&bytes);
        let _ = SessionShard::decode(&noise);
        let _ = RetainedShard::decode(&noise);
        let _ = SessionEntry::decode(&mut Decoder(&noise));
    }

    /// Encoding, restart and time change nothing: a shard that came out of a snapshot goes on as the one that
    /// never stopped.
    #[test]
    fn a_shard_goes_on_from_its_snapshot(
        entries in prop::collection::vec(entry(), 1..60),
        cut in any::<prop::sample::Index>(),
    ) {
        let cut = cut.index(entries.len());
        let mut whole = SessionShard::default();
        let mut out = Vec::new();
        for entry in &entries[..cut] {
            whole.apply(entry.clone(), &mut out);
        }
        let mut again = SessionShard::decode(&snapshot(&whole)).unwrap();
        prop_assert_eq!(again.routes(), whole.routes());
        prop_assert_eq!(again.queued(), whole.queued());
        prop_assert_eq!(again.sessions(), whole.sessions());
        for entry in &entries[cut..] {
            let (mut a, mut b) = (Vec::new(), Vec::new());
            let left = whole.apply(entry.clone(), &mut a);
            let right = again.apply(entry.clone(), &mut b);
            match (left, right) {
                (Reply::Opened(mut left), Reply::Opened(mut right)) => {
                    left.subs.sort_by(|a, b| a.0.cmp(&b.0));
                    right.subs.sort_by(|a, b| a.0.cmp(&b.0));
                    prop_assert_eq!(left, right);
                }
                (left, right) => prop_assert_eq!(left, right),
            }
            prop_assert_eq!(effects(a), effects(b));
            for client in ["x", "y", "z"] {
                prop_assert_eq!(whole.queue_len(client), again.queue_len(client));
                let queue = |shard: &SessionShard| {
                    let slot = shard.slot(client)?;
                    let mut seq = 0;
                    let mut items = Vec::new();
                    while let Some(item) = shard.next_from(slot, seq) {
                        seq = item.seq() + 1;
                        items.push((item.seq(), item.message().cloned(), item.qos(), item.group().cloned()));
                    }
                    Some(items)
                };
                prop_assert_eq!(queue(&whole), queue(&again));
            }
        }
        prop_assert_eq!(
            whole.duties().map(|(number, duty)| (number, format!("{duty:?}"))).count(),
            again.duties().count()
        );
    }
}

#[test]
fn a_message_in_many_queues_is_stored_once() {
    let mut shard = SessionShard::default();
    let mut out = Vec::new();
    for client in 0..100 {
        let client_id: std::sync::Arc<str> = format!("c{client}").into();
        shard.apply(
            SessionEntry::Open(Box::new(Open {
                owner: None,
                client_id: client_id.clone(),
                clean_start: false,
                expiry: 100,
                will: None,
                limits: QueueLimits::default(),
                window: 8,
                supervision: None,
                node: 0,
                now: Timestamp(1),
            })),
            &mut out,
        );
        let sub = Subscription {
            options: SubOptions::new(QoS::AtLeastOnce),
            id: 0,
        };
        shard.apply(
            SessionEntry::Subscribe {
                client_id,
                epoch: 1,
                subs: vec![(TopicFilter::new("a").unwrap(), sub)],
            },
            &mut out,
        );
    }
    let before = snapshot(&shard).len();
    let head = MessageHead {
        topic: TopicName::new("a").unwrap(),
        qos: QoS::AtLeastOnce,
        retain: false,
        publisher: None,
        received_at: Timestamp(2),
        expires_at: None,
        properties: None,
    };
    shard.apply(
        SessionEntry::Publish(Message::new(head, &[7; 10_000])),
        &mut out,
    );
    let grown = snapshot(&shard).len() - before;
    assert!((10_000..11_000).contains(&grown), "{grown}");
    assert_eq!(
        SessionShard::decode(&snapshot(&shard)).unwrap().queued(),
        100
    );
}

/// The bytes of format 1. If this fails, old data directories cannot be read: add a format, keep this one.
#[test]
fn the_bytes_of_format_1() {
    let head = MessageHead {
        topic: TopicName::new("a/b").unwrap(),
        qos: QoS::ExactlyOnce,
        retain: true,
        publisher: Some("p".into()),
        received_at: Timestamp(299),
        expires_at: Some(Timestamp::NEVER),
        properties: Some(Box::new(MessageProperties {
            payload_format: Some(1),
            content_type: Some("c".into()),
            response_topic: None,
            correlation_data: Some([9][..].into()),
            user_properties: vec![("k".into(), "v".into())],
        })),
    };
    let message = Message::new(head, b"xyz");
    assert_eq!(
        encode(&SessionEntry::Publish(message)),
        [
            5, 0x3e, 3, b'a', b'/', b'b', 0xac, 2, 1, b'p', 0, 0x0b, 1, 1, b'c', 1, 9, 1, 1, b'k',
            1, b'v', 3, b'x', b'y', b'z'
        ]
    );
    let open = SessionEntry::Open(Box::new(Open {
        owner: None,
        client_id: "c".into(),
        clean_start: true,
        expiry: u32::MAX,
        will: None,
        limits: QueueLimits {
            max_len: 1000,
            max_bytes: 128,
            policy: QueuePolicy::Reject,
            queue_qos0: true,
        },
        window: 32,
        supervision: None,
        node: 0,
        now: Timestamp(0),
    }));
    assert_eq!(
        encode(&open),
        [
            1, 1, b'c', 1, 0xff, 0xff, 0xff, 0xff, 0x0f, 0, 0xe8, 7, 0x80, 1, 0x12, 32, 1
        ]
    );
    let acks = SessionEntry::Acks {
        client_id: "c".into(),
        epoch: 3,
        acks: vec![
            Ack {
                seq: 300,
                kind: AckKind::Received,
            },
            Ack {
                seq: 1,
                kind: AckKind::Discarded(DropReason::Denied),
            },
        ],
    };
    assert_eq!(encode(&acks), [7, 1, b'c', 3, 2, 0xac, 2, 1, 1, 8]);
    let touch = SessionEntry::Touch {
        client_id: "c".into(),
        epoch: 3,
        now: Timestamp(0),
    };
    assert_eq!(encode(&touch), [14, 1, b'c', 3, 1]);
    let front = SessionEntry::Front {
        client_id: "c".into(),
        epoch: 3,
        append: true,
        octets: [8, 9].into(),
    };
    assert_eq!(encode(&front), [15, 1, b'c', 3, 1, 2, 8, 9]);
    let close = SessionEntry::Close(Close {
        client_id: "c".into(),
        epoch: 3,
        kind: CloseKind::Park(60),
        expiry: None,
        now: Timestamp(0),
    });
    assert_eq!(encode(&close), [2, 1, b'c', 3, 4, 60, 0, 1]);
    assert_eq!(snapshot(&SessionShard::default()), [FORMAT, 0, 1, 0, 0, 0]);
}
