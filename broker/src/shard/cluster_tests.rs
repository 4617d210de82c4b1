//! Sessions whose connections are on several nodes.

use std::collections::VecDeque;
use std::sync::Arc;
use std::task::Waker;

use nightjar_mqtt::{QoS, TopicName};

use super::{
    CloseKind, Decoder, Effect, Enqueue, Open, Opened, Reply, SessionEntry, SessionShard, Streams,
    Will,
};
use crate::access::{ClientInfo, Protocol};
use crate::handle::SessionHandle;
use crate::message::{Message, MessageHead};
use crate::settings::QueueLimits;
use crate::time::Timestamp;

fn message(topic: &str, payload: &str) -> Message {
    let head = MessageHead {
        topic: TopicName::new(topic).unwrap(),
        qos: QoS::AtLeastOnce,
        retain: false,
        publisher: None,
        received_at: Timestamp(0),
        expires_at: None,
        properties: None,
    };
    Message::new(head, payload.as_bytes())
}

fn will(delay: u32) -> Option<Box<Will>> {
    Some(Box::new(Will {
        message: message("will", "gone"),
        delay,
        expiry: None,
    }))
}

fn open(client_id: &str, node: u64, expiry: u32, will: Option<Box<Will>>) -> SessionEntry {
    SessionEntry::Open(Box::new(Open {
        owner: None,
        client_id: client_id.into(),
        clean_start: false,
        expiry,
        will,
        limits: QueueLimits::default(),
        window: 10,
        supervision: None,
        node,
        now: Timestamp(1000),
    }))
}

fn apply(shard: &mut SessionShard, entry: SessionEntry) -> (Option<Opened>, Vec<Effect>) {
    let mut bytes = Vec::new();
    entry.encode(&mut bytes);
    assert_eq!(
        SessionEntry::decode(&mut Decoder(&bytes)),
        Ok(entry.clone())
    );
    let mut effects = Vec::new();
    let opened = match shard.apply(entry, &mut effects) {
        Reply::Opened(opened) => Some(*opened),
        _ => None,
    };
    (opened, effects)
}

fn wills(effects: &[Effect]) -> Vec<(Arc<str>, u64)> {
    let found = effects.iter().filter_map(|effect| match effect {
        Effect::Will {
            client_id, duty, ..
        } => Some((client_id.clone(), *duty)),
        _ => None,
    });
    found.collect()
}

#[test]
fn a_transient_connection_is_recorded_with_its_node_and_taken_over_with_a_higher_epoch() {
    let mut shard = SessionShard::default();
    let (first, _) = apply(&mut shard, open("c", 1, 0, None));
    let first = first.unwrap();
    assert!(first.recorded && !first.durable && !first.present);
    assert_eq!(shard.connection("c"), Some((first.epoch, 1)));
    let (second, effects) = apply(&mut shard, open("c", 2, 0, None));
    let second = second.unwrap();
    assert!(second.epoch > first.epoch && !second.present);
    assert_eq!(shard.connection("c"), Some((second.epoch, 2)));
    let ended = effects
        .iter()
        .any(|effect| matches!(effect, Effect::Ended { epoch, .. } if *epoch == first.epoch));
    assert!(ended, "the first connection is told");
}

#[test]
fn a_node_that_is_gone_ends_its_connections_alone_in_an_order_all_replicas_share() {
    let build = |order: &[&str]| {
        let mut shard = SessionShard::default();
        for client_id in order {
            apply(&mut shard, open(client_id, 1, 60, will(0)));
        }
        apply(&mut shard, open("other", 2, 60, will(0)));
        shard
    };
    let gone = SessionEntry::NodeGone {
        node: 1,
        kind: CloseKind::Abnormal,
        now: Timestamp(2000),
    };
    let mut one = build(&["a", "b", "c"]);
    // A replica that was loaded from a snapshot has its sessions in other slots.
    let mut bytes = Vec::new();
    build(&["c", "a", "b"]).encode(&mut bytes);
    let mut two = SessionShard::decode(&bytes).unwrap();
    let first = wills(&apply(&mut one, gone.clone()).1);
    let second = wills(&apply(&mut two, gone).1);
    assert_eq!(first, second);
    assert_eq!(first.len(), 3);
    let node = |shard: &SessionShard| shard.connection("other").map(|(_, node)| node);
    assert!(one.connection("a").is_none() && node(&one) == Some(2));
    assert_eq!(node(&two), Some(2), "the node is in the snapshot");
}

#[test]
fn no_epoch_is_given_twice_in_a_cluster_so_that_late_entries_of_ended_sessions_meet_nobody() {
    let mut shard = SessionShard::default();
    let (first, _) = apply(&mut shard, open("c", 1, 0, None));
    let first = first.unwrap().epoch;
    let close = |epoch| {
        SessionEntry::Close(super::Close {
            client_id: "c".into(),
            epoch,
            kind: CloseKind::Normal,
            expiry: None,
            now: Timestamp(1500),
        })
    };
    apply(&mut shard, close(first));
    let mut bytes = Vec::new();
    shard.encode(&mut bytes);
    let mut shard = SessionShard::decode(&bytes).unwrap();
    let (second, _) = apply(&mut shard, open("c", 2, 60, None));
    let second = second.unwrap().epoch;
    assert!(second > first);
    apply(&mut shard, close(first));
    assert_eq!(
        shard.connection("c"),
        Some((second, 2)),
        "a late close of the first"
    );
}

#[test]
fn wills_that_are_due_together_get_the_same_numbers_on_every_replica() {
    let build = |order: &[&str]| {
        let mut shard = SessionShard::default();
        for client_id in order {
            apply(&mut shard, open(client_id, 1, 60, will(5)));
        }
        shard
    };
    let gone = SessionEntry::NodeGone {
        node: 1,
        kind: CloseKind::Abnormal,
        now: Timestamp(2000),
    };
    let tick = SessionEntry::Tick {
        now: Timestamp(9000),
    };
    let due = |mut shard: SessionShard| {
        assert_eq!(wills(&apply(&mut shard, gone.clone()).1), []);
        wills(&apply(&mut shard, tick.clone()).1)
    };
    let (one, two) = (due(build(&["a", "b"])), due(build(&["b", "a"])));
    assert_eq!(one, two);
    assert_eq!(one.len(), 2);
}

#[test]
fn a_connection_is_its_clients_until_a_later_one_comes_wherever_it_is() {
    let mut shard = SessionShard::default();
    let (first, _) = apply(&mut shard, open("c", 1, 100, None));
    let first = first.unwrap().epoch;
    assert!(shard.is_current("c", first));
    assert_eq!(shard.node_of("c"), Some(1));
    let (second, _) = apply(&mut shard, open("c", 2, 100, None));
    assert!(!shard.is_current("c", first));
    assert!(shard.is_current("c", second.unwrap().epoch));
    assert!(!shard.is_current("nobody", first));
    assert_eq!(
        (shard.node_of("c"), shard.node_of("nobody")),
        (Some(2), None)
    );
}

fn waits(client_id: &str, payload: &str) -> SessionEntry {
    SessionEntry::Enqueue(Box::new(Enqueue {
        client_id: client_id.into(),
        message: message("a", payload),
        qos: QoS::AtLeastOnce,
        retain: false,
        sub_id: 0,
        checked: false,
        group: None,
    }))
}

/// What the connection here is sent, with its DUP.
fn stream(
    shard: &SessionShard,
    streams: &mut Streams,
    opened: &Opened,
    credit: u32,
) -> Vec<(Vec<u8>, bool)> {
    let slot = shard.slot("c").unwrap();
    let info = Arc::new(ClientInfo::new(
        Arc::<str>::from("c"),
        ([127, 0, 0, 1], 1).into(),
        "tcp",
        Protocol::Mqtt(nightjar_mqtt::ProtocolVersion::V5),
    ));
    let handle = SessionHandle::new(info, true, opened.epoch, Arc::default());
    let epochs = (opened.before, opened.epoch);
    streams.open(slot, epochs, handle.clone(), shard.maybe_sent(slot));
    streams.grant(slot, opened.epoch, credit);
    streams.pump(shard, slot, Timestamp(2000), &mut Vec::new());
    let mut out = VecDeque::new();
    handle.drain(opened.epoch, &mut out, 100, 100, Waker::noop());
    out.into_iter()
        .map(|delivery| {
            let dup = delivery.durable().unwrap().dup;
            (delivery.message.payload().to_vec(), dup)
        })
        .collect()
}

#[test]
fn what_another_node_sent_is_sent_again_with_dup_here_though_the_client_was_here_before() {
    let mut shard = SessionShard::default();
    let mut here = Streams::default();
    let first = apply(&mut shard, open("c", 1, 100, None)).0.unwrap();
    apply(&mut shard, waits("c", "0"));
    apply(&mut shard, waits("c", "1"));
    let sent = |number: u8, dup| (number.to_string().into_bytes(), dup);
    assert_eq!(
        stream(&shard, &mut here, &first, 1),
        [sent(0, false)],
        "the window is one"
    );
    // Here again: what was sent is known exactly.
    let again = apply(&mut shard, open("c", 1, 100, None)).0.unwrap();
    assert_eq!((again.before, first.before), (first.epoch, 0));
    let all = stream(&shard, &mut here, &again, 9);
    assert_eq!(all, [sent(0, true), sent(1, false)]);
    // The other node may have sent what came meanwhile.
    apply(&mut shard, open("c", 2, 100, None)).0.unwrap();
    apply(&mut shard, waits("c", "2"));
    let back = apply(&mut shard, open("c", 1, 100, None)).0.unwrap();
    let all = stream(&shard, &mut here, &back, 9);
    assert_eq!(all, [sent(0, true), sent(1, true), sent(2, true)]);
}
