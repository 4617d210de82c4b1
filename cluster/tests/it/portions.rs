//! What may be larger than memory goes in portions: what an ended session hands back to its shared subscriptions, and
//! the retained messages of a filter that matches many.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Wake, Waker};
use std::time::{Duration, Instant};

use nightjar_broker::shard::{CloseKind, Enqueue, RetainedEntry, SessionEntry};
use nightjar_broker::{
    DurableStore, Message, MessageHead, Progress, PublishBatch, RetainedCursor, Session, Timestamp,
    Transmit,
};
use nightjar_cluster::{StoreConfig, check};
use nightjar_mqtt::{QoS, ReasonCode};

use crate::kit::*;
use crate::node::*;

const MEMORY: usize = 64 << 10;
/// So many messages that a session hands them back in more than one piece.
const MESSAGES: usize = 900;

fn settings(dir: &std::path::Path) -> StoreConfig {
    StoreConfig {
        queue_memory: MEMORY,
        ..config(dir)
    }
}

fn text(number: usize) -> String {
    format!("{number:05}{}", "s".repeat(400))
}

/// A member of the shared subscription, offline again.
fn member(node: &Node, client_id: &str) {
    let (mut session, _) = node.connect(client_id, 3600, None);
    let filter = "$share/workers/jobs/#";
    session.subscribe(1, vec![qos1(filter)], vec![ReasonCode::GrantedQoS1]);
    let sent = drain(&mut session);
    assert!(matches!(sent[..], [Transmit::Suback { .. }]), "{sent:?}");
    session.close(CloseKind::Normal, None, Timestamp::now());
}

/// Gives a member messages of the shared subscription, as the broker does that chose it.
fn give(node: &Node, client_id: &str, messages: std::ops::Range<usize>) {
    let (filter, _) = qos1("jobs/#");
    let tickets: Vec<_> = messages
        .map(|number| {
            let entry = SessionEntry::Enqueue(Box::new(Enqueue {
                client_id: client_id.into(),
                message: message("jobs/one", &text(number)),
                qos: QoS::AtLeastOnce,
                retain: false,
                sub_id: 0,
                checked: false,
                group: Some(("workers".into(), filter.clone())),
            }));
            let shard = node.store.shard_of(client_id);
            node.store.submit(shard, vec![entry], None).ticket
        })
        .collect();
    for ticket in tickets {
        assert_eq!(wait(&ticket), Progress::Done);
    }
}

fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let begun = Instant::now();
    while !holds() {
        assert!(begun.elapsed() < Duration::from_secs(60), "not yet: {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

fn end(node: &Node, client_id: &str) {
    let entry = SessionEntry::End {
        client_id: client_id.into(),
    };
    let shard = node.store.shard_of(client_id);
    let ticket = node.store.submit(shard, vec![entry], None).ticket;
    assert_eq!(wait(&ticket), Progress::Done);
}

#[test]
fn what_waits_for_a_shared_subscription_leaves_memory_and_goes_to_another_member() {
    let (dir, after) = (Dir::new("shared"), Dir::new("shared-after"));
    let node = Node::start_with(&settings(&dir));
    member(&node, "first");
    member(&node, "second");
    give(&node, "first", 0..MESSAGES);
    let all: Vec<String> = (0..MESSAGES).map(text).collect();
    let (memory, disk) = node.store.queue_bytes();
    assert!(memory < MEMORY * 2, "{memory} bytes are in memory");
    assert!(disk > 300_000, "{disk} bytes are on the disk");
    assert_eq!(queue(&node.store, "first"), all);

    // With a snapshot that refers to bodies, and after a kill.
    node.store.snapshot().unwrap();
    killed(&node, &after);
    drop(node.broker);
    node.store.close();
    let node = Node::start_with(&settings(&after));
    assert!(node.store.queue_bytes().0 < MEMORY * 2);
    assert_eq!(queue(&node.store, "first"), all);

    // The session ends: piece by piece another member gets what is on the disk, in order.
    end(&node, "first");
    until("the second member has everything", || {
        node.store.queue_len("second") == Some((MESSAGES, 0))
    });
    assert_eq!(queue(&node.store, "second"), all);
    assert!(node.store.queue_bytes().0 < MEMORY * 4);
    let again = Dir::new("shared-again");
    killed(&node, &again);
    let node = Node::start_with(&settings(&again));
    assert_eq!(queue(&node.store, "second"), all);
}

#[test]
fn a_node_that_dies_before_it_handed_everything_back_goes_on_after_the_start() {
    let (dir, after) = (Dir::new("owing"), Dir::new("owing-after"));
    let node = Node::start_with(&settings(&dir));
    member(&node, "first");
    give(&node, "first", 0..MESSAGES);
    node.store.snapshot().unwrap();
    // With nobody else in the group yet, and a sink that does nothing: the duty stays.
    drop(node.broker);
    node.store.close();
    let store = nightjar_cluster::NodeStore::open(&settings(&dir)).unwrap();
    started(&store);
    let end = SessionEntry::End {
        client_id: "first".into(),
    };
    let ticket = store
        .submit(store.shard_of("first"), vec![end], None)
        .ticket;
    assert_eq!(wait(&ticket), Progress::Done);
    // A snapshot of what is owed refers to the bodies too.
    store.snapshot().unwrap();
    copy(&dir, &after);
    store.close();
    let report = check(&after).unwrap();
    assert!(report.problems.is_empty(), "{}", report.text);

    // A member that stands in the directory before the start: only a member known by then can get it.
    let store = nightjar_cluster::NodeStore::open(&settings(&after)).unwrap();
    let epoch = subscriber(&store, "second", "$share/workers/jobs/#");
    assert!(epoch > 0);
    store.close();
    drop(store);
    let node = Node::start_with(&settings(&after));
    until("the member has everything", || {
        node.store.queue_len("second") == Some((MESSAGES, 0))
    });
    let all: Vec<String> = (0..MESSAGES).map(text).collect();
    assert_eq!(queue(&node.store, "second"), all);
    // Nothing is owed any more.
    node.store.snapshot().unwrap();
    node.store.close();
    let report = check(&after).unwrap();
    assert!(report.problems.is_empty(), "{}", report.text);
}

struct Wakes(AtomicUsize);

impl Wake for Wakes {
    fn wake(self: Arc<Self>) {
        self.0.fetch_add(1, Ordering::SeqCst);
    }
}

fn retain(node: &Node, topics: impl Iterator<Item = String>) {
    let tickets: Vec<_> = topics
        .map(|topic| {
            let kept = message(&topic, &topic);
            let head = MessageHead {
                retain: true,
                ..kept.head().clone()
            };
            let entry = RetainedEntry::Set(Message::new(head, kept.payload()));
            node.store.retain(entry)
        })
        .collect();
    for ticket in tickets {
        assert_eq!(wait(&ticket), Progress::Done);
    }
}

fn qos0(filter: &str) -> (nightjar_mqtt::TopicFilter, nightjar_broker::Subscription) {
    let (filter, mut sub) = qos1(filter);
    sub.options = nightjar_broker::SubOptions::new(QoS::AtMostOnce);
    (filter, sub)
}

/// What comes, with the number of times in between that the session gave way to others.
fn read(session: &mut Session, count: usize) -> (Vec<String>, usize) {
    let wakes = Arc::new(Wakes(AtomicUsize::new(0)));
    let waker = Waker::from(wakes.clone());
    let (mut found, mut gave_way) = (Vec::new(), 0);
    let begun = Instant::now();
    while found.len() < count {
        let before = wakes.0.load(Ordering::SeqCst);
        match session.next_transmit(Timestamp::now(), &waker).unwrap() {
            Some(Transmit::Publish { delivery, id, .. }) => {
                assert!(delivery.retain);
                found.push(String::from_utf8(delivery.message.payload().to_vec()).unwrap());
                if id != 0 {
                    assert!(session.puback(id));
                    session.finish_batch(&mut PublishBatch::default(), Timestamp::now());
                }
            }
            Some(_) => {}
            None => {
                assert!(
                    begun.elapsed() < Duration::from_secs(60),
                    "only {} of {count} came",
                    found.len()
                );
                gave_way += 1;
                if wakes.0.load(Ordering::SeqCst) == before {
                    std::thread::sleep(Duration::from_millis(1));
                }
            }
        }
    }
    (found, gave_way)
}

#[test]
fn retained_messages_are_read_in_portions() {
    let dir = Dir::new("portions");
    let node = Node::start(&dir);
    let count = 5000;
    retain(&node, (0..count).map(|number| format!("r/{number:05}/x")));
    let mut all: Vec<String> = (0..count)
        .map(|number| format!("r/{number:05}/x"))
        .collect();

    // One call looks at no more topics than it was told to, also when none of them matches.
    for (filter, matches) in [("#", true), ("r/+/x", true), ("+/+/+/+", false)] {
        let mut cursor = RetainedCursor::default();
        let (mut calls, mut found) = (0, 0);
        loop {
            let mut here = 0;
            let over = node.store.read_retained_part(
                filter,
                &mut cursor,
                100,
                Timestamp::now(),
                &mut |_| here += 1,
            );
            assert!(here <= 100, "{here} in one portion");
            found += here;
            calls += 1;
            if over {
                break;
            }
        }
        assert_eq!(found, if matches { count } else { 0 }, "{filter}");
        assert!(calls >= count / 100, "{filter}: only {calls} portions");
    }

    let (mut session, _) = node.connect("reader", 0, None);
    session.subscribe(1, vec![qos0("#")], vec![ReasonCode::Success]);
    let (mut found, _) = read(&mut session, count);
    found.sort();
    assert_eq!(found, all);
    // A filter that matches nothing: the session gives way and asks to come again.
    session.subscribe(
        2,
        vec![qos0("+/+/nothing/#"), qos0("r/04999/x")],
        vec![ReasonCode::Success; 2],
    );
    let (found, gave_way) = read(&mut session, 1);
    assert_eq!(found, ["r/04999/x"]);
    assert!(
        gave_way >= 1,
        "one topic and thousands were looked at in one go"
    );

    // QoS 1 of a durable session: through its queue, which holds 1000, and nothing is driven out of it.
    let (mut session, _) = node.connect("keeper", 3600, None);
    session.subscribe(1, vec![qos1("r/#")], vec![ReasonCode::GrantedQoS1]);
    let (mut found, _) = read(&mut session, count);
    found.sort();
    all.sort();
    assert_eq!(found, all);
    until("every acknowledgement is committed", || {
        node.store.queue_len("keeper") == Some((0, 0))
    });
}
