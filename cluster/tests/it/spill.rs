//! Queues larger than memory: bodies leave for the disk, stand there once for each group, come back in order, and
//! their files go when nothing needs them. Damage in them is named, and costs what it hit.

use std::collections::VecDeque;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::task::Waker;
use std::time::{Duration, Instant};

use nightjar_broker::access::{ClientInfo, Protocol};
use nightjar_broker::shard::{Ack, AckKind, Close, CloseKind, Effect, SessionEntry};
use nightjar_broker::{
    DropReason, DurableStore, Progress, SessionHandle, SubOptions, Subscription, Timestamp,
};
use nightjar_cluster::{NodeStore, RestoreOptions, StoreConfig, check, restore};
use nightjar_mqtt::{ProtocolVersion, QoS, TopicFilter};

use crate::kit::*;

/// So little that a few hundred messages leave.
const MEMORY: usize = 64 << 10;

fn settings(dir: &Path) -> StoreConfig {
    StoreConfig {
        queue_memory: MEMORY,
        file_size: 1 << 20,
        ..config(dir)
    }
}

fn offline(store: &NodeStore, client_id: &str, epoch: u64) {
    let entry = SessionEntry::Close(Close {
        client_id: client_id.into(),
        epoch,
        kind: CloseKind::Normal,
        expiry: None,
        now: Timestamp::now(),
    });
    let ticket = store
        .submit(store.shard_of(client_id), vec![entry], None)
        .ticket;
    assert_eq!(wait(&ticket), Progress::Done);
}

fn name(number: usize) -> String {
    format!("sub-{number}")
}

fn payload(number: usize) -> String {
    format!("{number:06}{}", "b".repeat(200 + number % 300))
}

/// Offline sessions, each subscribed to a topic of its own name.
fn sessions(store: &NodeStore, count: usize) {
    for number in 0..count {
        let epoch = subscriber(store, &name(number), &name(number));
        offline(store, &name(number), epoch);
    }
}

/// Message `n` goes to session `n % sessions`.
fn publish_all(store: &NodeStore, sessions: usize, messages: std::ops::Range<usize>) {
    let tickets: Vec<_> = messages
        .map(|number| {
            let to = name(number % sessions);
            publish(store, &to, &to, &payload(number))
        })
        .collect();
    for ticket in tickets {
        assert_eq!(wait(&ticket), Progress::Done);
    }
}

fn expected(session: usize, sessions: usize, messages: usize) -> Vec<String> {
    (session..messages).step_by(sessions).map(payload).collect()
}

/// Connects and takes `count` messages through a delivery stream, acknowledging each, a window at a time.
fn receive(store: &NodeStore, client_id: &str, count: usize) -> Vec<String> {
    let mut wish = open_of(client_id, 3600);
    wish.window = 16;
    let opened = open(store, wish);
    assert!(opened.present);
    let info = Arc::new(ClientInfo::new(
        client_id,
        "127.0.0.1:1".parse().unwrap(),
        "tcp",
        Protocol::Mqtt(ProtocolVersion::V5),
    ));
    let handle = SessionHandle::new(info, true, opened.epoch, Arc::default());
    store.stream(client_id, opened.epoch, opened.before, &handle);
    store.grant(client_id, opened.epoch, 16, Timestamp::now());
    let mut found = Vec::new();
    let begun = Instant::now();
    while found.len() < count {
        let mut out = VecDeque::new();
        handle.drain(opened.epoch, &mut out, 100, 100, Waker::noop());
        if out.is_empty() {
            assert!(
                begun.elapsed() < Duration::from_secs(30),
                "only {} of {count} came to {client_id}",
                found.len()
            );
            std::thread::sleep(Duration::from_millis(1));
            continue;
        }
        let credit = out.len() as u32;
        let acks = out
            .into_iter()
            .map(|delivery| {
                found.push(String::from_utf8(delivery.message.payload().to_vec()).unwrap());
                let slot = delivery.extra.unwrap().durable.unwrap();
                Ack {
                    seq: slot.seq,
                    kind: AckKind::Done,
                }
            })
            .collect();
        let entry = SessionEntry::Acks {
            client_id: client_id.into(),
            epoch: opened.epoch,
            acks,
        };
        store.submit(store.shard_of(client_id), vec![entry], None);
        store.grant(client_id, opened.epoch, credit, Timestamp::now());
    }
    offline(store, client_id, opened.epoch);
    found
}

fn body_files(dir: &Path) -> Vec<(PathBuf, u64)> {
    let mut found: Vec<_> = std::fs::read_dir(dir.join("bodies"))
        .map(|entries| {
            entries
                .map(|entry| entry.unwrap())
                .map(|entry| (entry.path(), entry.metadata().unwrap().len()))
                .collect()
        })
        .unwrap_or_default();
    found.sort();
    found
}

#[test]
fn bodies_leave_memory_beyond_the_budget_and_come_back_in_order() {
    let (dir, after) = (Dir::new("spill"), Dir::new("spill-after"));
    let store = NodeStore::open(&settings(&dir)).unwrap();
    started(&store);
    sessions(&store, 20);
    publish_all(&store, 20, 0..2000);
    let (memory, disk) = store.queue_bytes();
    assert!(memory < MEMORY * 2, "{memory} bytes are in memory");
    assert!(disk > 600_000, "{disk} bytes are on the disk");
    for number in 0..20 {
        assert_eq!(queue(&store, &name(number)), expected(number, 20, 2000));
    }
    // As kill -9 leaves it: nothing of the bodies was synced, and no snapshot knows them.
    copy(&dir, &after);
    for (path, len) in body_files(&after) {
        let file = std::fs::OpenOptions::new().write(true).open(path).unwrap();
        file.set_len(len / 3).unwrap();
    }
    let killed = NodeStore::open(&settings(&after)).unwrap();
    assert!(killed.queue_bytes().0 < MEMORY * 2);
    assert_eq!(queue(&killed, &name(7)), expected(7, 20, 2000));
    started(&killed);
    assert_eq!(
        receive(&killed, &name(7), 100),
        expected(7, 20, 2000),
        "through a stream"
    );
    drop(killed);

    // With snapshots the log goes, and the bodies stand in their files alone.
    store.snapshot().unwrap();
    publish_all(&store, 20, 2000..2400);
    store.close();
    let report = check(&dir).unwrap();
    assert!(report.problems.is_empty(), "{}", report.text);
    assert!(
        report.text.contains("messages of queues"),
        "{}",
        report.text
    );
    let store = NodeStore::open(&settings(&dir)).unwrap();
    assert!(store.queue_bytes().0 < MEMORY * 2);
    started(&store);
    for number in 0..20 {
        assert_eq!(queue(&store, &name(number)), expected(number, 20, 2400));
    }
    for number in 0..20 {
        assert_eq!(
            receive(&store, &name(number), 120),
            expected(number, 20, 2400)
        );
        assert_eq!(store.queue_len(&name(number)), Some((0, 0)));
    }
    // Nothing refers to them any more: the file that was written to goes too, and what comes next has a new one.
    store.snapshot().unwrap();
    assert_eq!(body_files(&dir), []);
    publish_all(&store, 20, 0..600);
    assert!(!body_files(&dir).is_empty());
    assert_eq!(receive(&store, &name(3), 30), expected(3, 20, 600));
    for number in (0..20).filter(|number| *number != 3) {
        receive(&store, &name(number), 30);
    }
    store.snapshot().unwrap();
    assert_eq!(body_files(&dir), []);
    store.close();
    let store = NodeStore::open(&settings(&dir)).unwrap();
    assert_eq!(body_files(&dir), []);
    assert_eq!(store.queue_bytes(), (0, 0));
}

#[test]
fn a_body_is_stored_once_for_each_group_however_many_queues_hold_it() {
    let dir = Dir::new("spill-once");
    let store = NodeStore::open(&settings(&dir)).unwrap();
    started(&store);
    for number in 0..100 {
        let epoch = subscriber(&store, &name(number), "all");
        offline(&store, &name(number), epoch);
    }
    let text = "x".repeat(10_000);
    for _ in 0..20 {
        let tickets: Vec<_> = (0..2)
            .map(|shard| {
                let entry = SessionEntry::Publish(message("all", &text));
                store.submit(shard, vec![entry], None).ticket
            })
            .collect();
        for ticket in tickets {
            assert_eq!(wait(&ticket), Progress::Done);
        }
    }
    let (_, disk) = store.queue_bytes();
    assert!(
        disk > 0 && disk < 20 * 2 * 10_200,
        "{disk} bytes for 20 messages in 2 groups"
    );
    for number in 0..100 {
        assert_eq!(queue(&store, &name(number)).len(), 20);
    }
    store.snapshot().unwrap();
    store.close();
    let store = NodeStore::open(&settings(&dir)).unwrap();
    assert_eq!(queue(&store, &name(99)), vec![text; 20]);
}

#[test]
fn files_of_which_little_is_left_are_emptied() {
    let dir = Dir::new("spill-gc");
    let store = NodeStore::open(&StoreConfig {
        queue_memory: 1,
        ..settings(&dir)
    })
    .unwrap();
    started(&store);
    sessions(&store, 2);
    // One message of session 1 among many of session 0, of their own group.
    let same = (2..)
        .map(|number| format!("s-{number}"))
        .find(|other| store.shard_of(other) == store.shard_of(&name(0)))
        .unwrap();
    let epoch = subscriber(&store, &same, &same);
    offline(&store, &same, epoch);
    let big = "z".repeat(50_000);
    wait(&publish(&store, &same, &same, "stays"));
    for _ in 0..900 {
        wait(&publish(&store, &name(0), &name(0), &big));
    }
    let before: u64 = body_files(&dir).iter().map(|(_, len)| len).sum();
    assert!(before > 40 << 20, "{before}");
    let end = SessionEntry::End {
        client_id: name(0).as_str().into(),
    };
    wait(
        &store
            .submit(store.shard_of(&name(0)), vec![end], None)
            .ticket,
    );
    store.snapshot().unwrap();
    // What was left came back into memory and leaves again for a new file.
    let after: u64 = body_files(&dir).iter().map(|(_, len)| len).sum();
    assert!(after < 34 << 20, "{after} of {before} bytes are left");
    assert_eq!(queue(&store, &same), ["stays"]);
    store.close();
    let store = NodeStore::open(&settings(&dir)).unwrap();
    assert_eq!(queue(&store, &same), ["stays"]);
}

#[test]
fn a_damaged_body_is_named_and_costs_no_other() {
    let dir = Dir::new("spill-damage");
    let store = NodeStore::open(&settings(&dir)).unwrap();
    started(&store);
    sessions(&store, 4);
    publish_all(&store, 4, 0..1000);
    store.snapshot().unwrap();
    store.close();
    let wanted = payload(401).into_bytes();
    let mut hit = false;
    for (path, _) in body_files(&dir) {
        let mut bytes = std::fs::read(&path).unwrap();
        if let Some(at) = bytes.windows(wanted.len()).position(|w| w == wanted) {
            bytes[at + 9] ^= 1;
            std::fs::write(path, bytes).unwrap();
            hit = true;
        }
    }
    assert!(hit, "message 401 is not on the disk");
    let report = check(&dir).unwrap();
    assert_eq!(report.problems.len(), 1, "{}", report.text);
    assert!(report.problems[0].contains("checksum"), "{}", report.text);

    let store = NodeStore::open(&settings(&dir)).unwrap();
    let heard = started(&store);
    let mut left = expected(1, 4, 1000);
    left.retain(|text| *text != payload(401));
    assert_eq!(receive(&store, &name(1), 249), left);
    let lost = heard.0.lock().0.iter().any(|effect| {
        matches!(effect, Effect::Dropped { client_id, reason: DropReason::Damaged, count: 1 } if **client_id == *"sub-1")
    });
    assert!(lost, "the loss is not counted");
    assert_eq!(store.queue_len("sub-1"), Some((0, 1)));
    store.close();

    // A file that is gone altogether: refused, and named.
    let (path, _) = body_files(&dir).swap_remove(0);
    std::fs::remove_file(&path).unwrap();
    let refusal = NodeStore::open(&settings(&dir)).unwrap_err().to_string();
    assert!(
        refusal.contains(path.file_name().unwrap().to_str().unwrap()),
        "{refusal}"
    );
    assert!(!check(&dir).unwrap().problems.is_empty());
}

#[test]
fn a_backup_holds_what_has_left_memory() {
    let (dir, other) = (Dir::new("spill-backup"), Dir::new("spill-restored"));
    let store = NodeStore::open(&settings(&dir)).unwrap();
    started(&store);
    sessions(&store, 5);
    publish_all(&store, 5, 0..1500);
    assert!(store.queue_bytes().1 > 0);
    std::fs::create_dir_all(&*other).unwrap();
    let file = other.join("nightjar.backup");
    let made = store.backup(&file).unwrap();
    assert_eq!((made.sessions, made.queued), (5, 1500));
    publish_all(&store, 5, 1500..1600);
    let target = other.join("store");
    let options = RestoreOptions {
        node: "one".to_owned(),
        ..RestoreOptions::default()
    };
    let restored = restore(&file, &target, &options).unwrap();
    assert_eq!(restored.backup.queued, 1500);
    assert_eq!(check(&target).unwrap().problems, Vec::<String>::new());
    let again = NodeStore::open(&settings(&target)).unwrap();
    for number in 0..5 {
        assert_eq!(queue(&again, &name(number)), expected(number, 5, 1500));
    }
}

/// The log goes behind snapshots, and snapshots do not write the bodies again: neither grows with what was written.
#[test]
fn the_log_stays_bounded_while_queues_turn_over() {
    let dir = Dir::new("spill-bounded");
    let limit = 1 << 20;
    let store = NodeStore::open(&StoreConfig {
        log_limit: limit,
        file_size: 256 << 10,
        ..settings(&dir)
    })
    .unwrap();
    started(&store);
    // Full queues: each message drives an older one out.
    for number in 0..10 {
        let mut wish = open_of(&name(number), 3600);
        wish.limits.max_len = 100;
        let epoch = open(&store, wish).epoch;
        let sub = Subscription {
            options: SubOptions::new(QoS::AtLeastOnce),
            id: 0,
        };
        let entry = SessionEntry::Subscribe {
            client_id: name(number).as_str().into(),
            epoch,
            subs: vec![(TopicFilter::new(&*name(number)).unwrap(), sub)],
        };
        let shard = store.shard_of(&name(number));
        wait(&store.submit(shard, vec![entry], None).ticket);
        offline(&store, &name(number), epoch);
    }
    let bytes_below = |sub: &str| -> u64 {
        std::fs::read_dir(dir.join(sub))
            .unwrap()
            .map(|entry| entry.unwrap().metadata().unwrap().len())
            .sum()
    };
    let text = "t".repeat(1000);
    let mut highest = 0;
    for round in 0..24 {
        let tickets: Vec<_> = (0..1000)
            .map(|number| {
                let to = name(number % 10);
                publish(&store, &to, &to, &format!("{round:03} {number:04} {text}"))
            })
            .collect();
        for ticket in tickets {
            assert_eq!(wait(&ticket), Progress::Done);
        }
        highest = highest.max(bytes_below("log"));
        if highest > 4 * limit && bytes_below("log") > 2 * limit {
            // The keeper looks at it each second.
            std::thread::sleep(Duration::from_millis(1200));
        }
    }
    std::thread::sleep(Duration::from_millis(1500));
    // 24 MB went through.
    let log = bytes_below("log");
    assert!(log < 4 * limit, "{log} bytes of log are left");
    let snapshots = bytes_below("snapshots");
    assert!(snapshots < limit, "snapshots hold {snapshots} bytes");
    for number in 0..10 {
        assert_eq!(queue(&store, &name(number)).len(), 100);
    }
    store.close();
    let store = NodeStore::open(&settings(&dir)).unwrap();
    let kept = queue(&store, &name(3));
    assert_eq!(kept.len(), 100);
    assert!(kept[99].starts_with("023 0993"), "{}", &kept[99][..10]);
    assert!(kept[0].starts_with("023 0003"), "{}", &kept[0][..10]);
}
