//! Directories of every format that was ever written must open. `tests/golden/format-1` was written by the first
//! version; it is never written again (`NIGHTJAR_WRITE_GOLDEN=1` makes the directory of a new format).

use std::path::{Path, PathBuf};

use nightjar_broker::shard::{RetainedEntry, SessionEntry, Will};
use nightjar_broker::{DurableStore, Timestamp};
use nightjar_cluster::{MetaEntry, NodeStore, StoreConfig};

use crate::kit::*;

fn golden() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/format-1")
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
