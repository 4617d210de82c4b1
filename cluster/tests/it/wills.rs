//! Retained wills of a node alone: late, and on a disk that is full.

use std::sync::atomic::Ordering;
use std::time::Duration;

use nightjar_broker::shard::{Close, CloseKind, Open, RetainedEntry, SessionEntry, Will};
use nightjar_broker::{DurableStore, Message, MessageHead, Progress, Ticket, Timestamp};
use nightjar_cluster::NodeStore;

use crate::disk::SimDisk;
use crate::kit::{Dir, config, message, open, open_of, started, wait};

const TOPIC: &str = "presence";

fn says(payload: &str) -> Message {
    let head = MessageHead {
        retain: true,
        ..message(TOPIC, "").head().clone()
    };
    Message::new(head, payload.as_bytes())
}

fn with_will() -> Open {
    let mut open = open_of("client", 0);
    open.will = Some(Box::new(Will {
        message: says("offline"),
        delay: 0,
        expiry: None,
    }));
    open
}

/// A client says that it is there and is lost: duty 0 of its shard.
fn lost(store: &NodeStore) {
    let epoch = open(store, with_will()).epoch;
    let word = store.retain(RetainedEntry::SetBy {
        client_id: "client".into(),
        epoch,
        message: says("online 1"),
    });
    assert_eq!(wait(&word), Progress::Done);
    let close = SessionEntry::Close(Close {
        client_id: "client".into(),
        epoch,
        kind: CloseKind::Abnormal,
        expiry: None,
        now: Timestamp::now(),
    });
    let shard = store.shard_of("client");
    wait(&store.submit(shard, vec![close], None).ticket);
}

/// Its will is published: the ticket of what is retained, and of the duty's end.
fn published(store: &NodeStore) -> (Ticket, Ticket) {
    let shard = store.shard_of("client");
    let will = store.retain(RetainedEntry::SetDue {
        shard,
        duty: 0,
        message: says("offline"),
    });
    let end = SessionEntry::Fulfilled { duties: vec![0] };
    (will, store.submit(shard, vec![end], None).ticket)
}

fn kept(store: &NodeStore) -> String {
    let mut found = String::new();
    store.read_retained(TOPIC, Timestamp::now(), &mut |message| {
        found = String::from_utf8_lossy(message.payload()).into_owned();
    });
    found
}

#[test]
fn a_late_will_of_a_node_alone_replaces_nothing_newer() {
    for back in [false, true] {
        let dir = Dir::new("late-will");
        let store = NodeStore::open(&config(&dir)).unwrap();
        // Nobody carries out the effect: the test does, when it likes.
        started(&store);
        lost(&store);
        if back {
            open(&store, with_will());
            wait(&store.retain(RetainedEntry::Set(says("online 2"))));
        }
        let (will, end) = published(&store);
        assert_eq!((wait(&will), wait(&end)), (Progress::Done, Progress::Done));
        let want = if back { "online 2" } else { "offline" };
        assert_eq!(kept(&store), want);
        // Nor does it when it is published again.
        wait(&store.retain(RetainedEntry::Set(says("online 3"))));
        let (will, _) = published(&store);
        assert_eq!(wait(&will), Progress::Done);
        assert_eq!(kept(&store), "online 3");
        drop(store);
        let store = NodeStore::open(&config(&dir)).unwrap();
        assert_eq!(kept(&store), "online 3");
    }
}

/// A will that is due, and the end of its duty, are refused by a full disk. Then `meanwhile`, which makes room again; what is
/// retained when both are done, and after a restart.
fn behind_a_full_disk(
    name: &str,
    want: &str,
    meanwhile: impl FnOnce(&NodeStore, &SimDisk, &[&Ticket; 2]),
) {
    let dir = Dir::new(name);
    let sim = SimDisk::new();
    let store = NodeStore::open_on(&config(&dir), &sim.disk()).unwrap();
    started(&store);
    lost(&store);
    sim.0.full.store(true, Ordering::Relaxed);
    let (will, end) = published(&store);
    meanwhile(&store, &sim, &[&will, &end]);
    assert_eq!((wait(&will), wait(&end)), (Progress::Done, Progress::Done));
    assert_eq!(kept(&store), want);
    drop(store);
    let store = NodeStore::open(&config(&dir)).unwrap();
    assert_eq!(kept(&store), want);
}

#[test]
fn a_will_that_a_full_disk_refused_is_retained_when_there_is_room() {
    behind_a_full_disk("will-full", "offline", |store, sim, waiting| {
        // What is refused with it supersedes nothing.
        let refused = store.retain(RetainedEntry::Set(says("never")));
        assert!(matches!(wait(&refused), Progress::Failed(_)));
        std::thread::sleep(Duration::from_millis(50));
        assert!(waiting.iter().all(|ticket| ticket.is_pending()));
        sim.0.full.store(false, Ordering::Relaxed);
    });
}

#[test]
fn what_was_retained_while_a_will_waited_for_room_stays() {
    behind_a_full_disk("will-waits", "online 2", |store, sim, _| {
        std::thread::sleep(Duration::from_millis(50));
        // Before the will is tried again; or it is refused too, and comes behind it.
        let first = store.retain(RetainedEntry::Set(says("online 2")));
        sim.0.full.store(false, Ordering::Relaxed);
        if wait(&first) != Progress::Done {
            let again = store.retain(RetainedEntry::Set(says("online 2")));
            assert_eq!(wait(&again), Progress::Done);
        }
    });
}
