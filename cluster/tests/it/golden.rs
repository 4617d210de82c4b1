//! Directories of every format that was ever written must open. `tests/golden/format-1` was written by the first
//! version; it is never written again (`NIGHTJAR_WRITE_GOLDEN=1` makes the directory of a new format).

use std::path::{Path, PathBuf};

use nightjar_broker::auth::Owner;
use nightjar_broker::shard::{Close, CloseKind, RetainedEntry, SessionEntry, Will};
use nightjar_broker::{DurableStore, SubOptions, Subscription, Timestamp};
use nightjar_cluster::{MetaEntry, NodeStore, StoreConfig};
use nightjar_mqtt::{QoS, TopicFilter};

use crate::kit::*;

fn golden() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/format-1")
}

/// The same format with what came to it later: bodies on the disk, and sessions with an owner.
fn golden_bodies() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/format-1-bodies")
}

fn settings(dir: &Path) -> StoreConfig {
    config(dir)
}

fn write(dir: &Path) {
    let store = NodeStore::open(&settings(dir)).unwrap();
    started(&store);
    subscriber(&store, "sub", "a/#");
    wait(&publish(&store, "sub", "a/1", "in the snapshot"));
    let head = nightjar_broker::MessageHead {
        retain: true,
        ..message("r/1", "").head().clone()
    };
    let set = nightjar_broker::Message::new(head, b"kept");
    wait(&store.retain(RetainedEntry::Set(set)));
    let mut open_will = open_of("dying", u32::MAX);
    open_will.will = Some(Box::new(Will {
        message: message("will", "late"),
        delay: 7,
        expiry: Some(9),
    }));
    let epoch = open(&store, open_will).epoch;
    store.snapshot().unwrap();
    wait(&publish(&store, "sub", "a/2", "in the log"));
    let entry = SessionEntry::Received {
        client_id: "dying".into(),
        epoch,
        ids: vec![5, 6],
    };
    wait(
        &store
            .submit(store.shard_of("dying"), vec![entry], None)
            .ticket,
    );
    wait(&store.put_meta(MetaEntry::Put {
        key: "ban/x".to_owned(),
        value: b"1".to_vec(),
    }));
}

#[test]
fn a_directory_of_format_1_opens() {
    if std::env::var_os("NIGHTJAR_WRITE_GOLDEN").is_some() {
        let _ = std::fs::remove_dir_all(golden());
        write(&golden());
        return;
    }
    let report = nightjar_cluster::check(&golden()).unwrap();
    assert!(report.problems.is_empty(), "{}", report.text);
    let mut lines = Vec::new();
    nightjar_cluster::dump(&golden(), &mut |line| lines.push(line.to_owned())).unwrap();
    assert!(
        lines.iter().any(|line| line.contains("Publish")),
        "{lines:?}"
    );
    let dir = Dir::new("golden");
    copy(&golden(), &dir);
    let store = NodeStore::open(&settings(&dir)).unwrap();
    assert_eq!(queue(&store, "sub"), ["in the snapshot", "in the log"]);
    let mut kept = 0;
    store.read_retained("r/1", Timestamp(2), &mut |message| {
        assert_eq!(message.payload(), b"kept");
        kept += 1;
    });
    assert_eq!(kept, 1);
    assert_eq!(store.meta("ban/x"), Some(b"1".to_vec()));
    started(&store);
    let opened = open(&store, open_of("dying", u32::MAX));
    assert!(opened.present);
    assert_eq!(opened.received, [5, 6]);
    assert_eq!(opened.epoch, 2);
}

fn text(number: usize) -> String {
    format!("{number:03} {}", "g".repeat(number))
}

fn write_bodies(dir: &Path) {
    let config = StoreConfig {
        queue_memory: 1,
        ..settings(dir)
    };
    let store = NodeStore::open(&config).unwrap();
    started(&store);
    let mut wish = open_of("sub", u32::MAX);
    wish.owner = Some(Box::new(Owner {
        username: Some("alice".into()),
        certificate: None,
    }));
    let epoch = open(&store, wish).epoch;
    let sub = Subscription {
        options: SubOptions::new(QoS::AtLeastOnce),
        id: 7,
    };
    let subscribe = SessionEntry::Subscribe {
        client_id: "sub".into(),
        epoch,
        subs: vec![(TopicFilter::new("a/#").unwrap(), sub)],
    };
    let close = SessionEntry::Close(Close {
        client_id: "sub".into(),
        epoch,
        kind: CloseKind::Normal,
        expiry: None,
        now: Timestamp::now(),
    });
    let shard = store.shard_of("sub");
    wait(&store.submit(shard, vec![subscribe, close], None).ticket);
    for number in 0..20 {
        wait(&publish(&store, "sub", "a/1", &text(number)));
    }
    store.snapshot().unwrap();
    for number in 20..25 {
        wait(&publish(&store, "sub", "a/1", &text(number)));
    }
    store.backup(&dir.join("nightjar.backup")).unwrap();
}

#[test]
fn a_directory_of_format_1_with_bodies_opens() {
    if std::env::var_os("NIGHTJAR_WRITE_GOLDEN_BODIES").is_some() {
        let _ = std::fs::remove_dir_all(golden_bodies());
        write_bodies(&golden_bodies());
        return;
    }
    let report = nightjar_cluster::check(&golden_bodies()).unwrap();
    assert!(report.problems.is_empty(), "{}", report.text);
    let (dir, restored) = (Dir::new("golden-bodies"), Dir::new("golden-restored"));
    copy(&golden_bodies(), &dir);
    let backup = dir.join("nightjar.backup");
    let options = nightjar_cluster::RestoreOptions {
        node: "one".to_owned(),
        ..Default::default()
    };
    nightjar_cluster::restore(&backup, &restored, &options).unwrap();
    let expected: Vec<String> = (0..25).map(text).collect();
    for dir in [&dir, &restored] {
        let store = NodeStore::open(&settings(dir)).unwrap();
        assert_eq!(queue(&store, "sub"), expected);
        let session = store.restored().swap_remove(0);
        assert_eq!(session.owner.username.as_deref(), Some("alice"));
        assert_eq!(session.subs[0].1.id, 7);
    }
}
