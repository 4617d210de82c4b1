//! Directories that are damaged, someone else's, or in use; disks that are full or fail.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::Ordering;

use nightjar_broker::{DurableStore, Progress};
use nightjar_cluster::{Error, NodeStore, Recovery, StoreConfig};
use nightjar_mqtt::ReasonCode;

use crate::disk::SimDisk;
use crate::kit::*;

/// A directory with a session and so many messages, closed.
fn filled(dir: &Path, count: usize) {
    let store = NodeStore::open(&config(dir)).unwrap();
    started(&store);
    subscriber(&store, "sub", "a");
    for number in 0..count {
        let ticket = publish(
            &store,
            "sub",
            "a",
            &format!("{number:04} {}", "z".repeat(150)),
        );
        assert_eq!(wait(&ticket), Progress::Done);
    }
}

fn log_files(dir: &Path) -> Vec<PathBuf> {
    let mut files: Vec<PathBuf> = fs::read_dir(dir.join("log"))
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|kind| kind == "raftlog"))
        .collect();
    files.sort();
    files
}

fn flip(path: &Path, at: usize) {
    let mut bytes = fs::read(path).unwrap();
    bytes[at] ^= 0x20;
    fs::write(path, bytes).unwrap();
}

fn zero(path: &Path, from: usize, len: usize) {
    let mut bytes = fs::read(path).unwrap();
    let end = (from + len).min(bytes.len());
    bytes[from..end].fill(0);
    fs::write(path, bytes).unwrap();
}

#[test]
fn a_damaged_block_is_named_refused_and_recovered_only_on_request() {
    let whole = Dir::new("damage");
    filled(&whole, 1200);
    let files = log_files(&whole);
    assert!(files.len() >= 3, "{files:?}");
    for (file, at, zeros) in [
        (0, 20_000, 0),
        (0, 4_096, 4_096),
        (1, 30_000, 0),
        (1, 0, 64),
        (2, 5_000, 0),
    ] {
        let dir = Dir::new("damaged");
        copy(&whole, &dir);
        let path = log_files(&dir)[file].clone();
        if zeros > 0 {
            zero(&path, at, zeros);
        } else {
            flip(&path, at);
        }
        let before = fs::read(&path).unwrap();
        let error = NodeStore::open(&config(&dir)).unwrap_err();
        let Error::Damaged {
            path: named,
            offset,
            ..
        } = &error
        else {
            panic!("file {file} at {at}: {error}");
        };
        assert_eq!(*named, path, "{error}");
        assert!(
            *offset <= at as u64 && *offset + 4_096 > at as u64 || at == 0,
            "{error}"
        );
        assert_eq!(fs::read(&path).unwrap(), before, "nothing was changed");
        let report = nightjar_cluster::check(&dir).unwrap();
        assert!(!report.problems.is_empty(), "{}", report.text);
        assert!(
            report.text.contains(path.to_str().unwrap()),
            "{}",
            report.text
        );

        let mut settings = config(&dir);
        settings.recovery = Recovery::AcceptLoss;
        let store = NodeStore::open(&settings).unwrap();
        assert!(!store.recovered().losses.is_empty());
        let left = queue(&store, "sub");
        assert!(left.len() < 1200);
        for (at, payload) in left.iter().enumerate() {
            assert!(
                payload.starts_with(&format!("{at:04}")),
                "{payload} at {at}"
            );
        }
        drop(store);
        assert!(dir.join("lost").read_dir().unwrap().next().is_some());
        NodeStore::open(&config(&dir)).unwrap();
    }
}

/// The last batch destroyed looks like a torn write; the mark knows better.
#[test]
fn a_log_that_ends_below_the_durable_mark_is_refused() {
    let dir = Dir::new("mark");
    filled(&dir, 40);
    let last = log_files(&dir).pop().unwrap();
    let len = fs::metadata(&last).unwrap().len() as usize;
    zero(&last, len - 300, 300);
    let error = NodeStore::open(&config(&dir)).unwrap_err();
    assert!(matches!(error, Error::BelowMark { .. }), "{error}");
    assert!(error.to_string().contains("session group"), "{error}");
    let report = nightjar_cluster::check(&dir).unwrap();
    assert!(!report.problems.is_empty(), "{}", report.text);
    let mut settings = config(&dir);
    settings.recovery = Recovery::AcceptLoss;
    let store = NodeStore::open(&settings).unwrap();
    let losses = &store.recovered().losses;
    assert!(
        losses.iter().any(|loss| loss.contains("session group")),
        "{losses:?}"
    );
    assert!(queue(&store, "sub").len() < 40);
}

#[test]
fn a_missing_log_file_a_missing_mark_and_a_damaged_snapshot_are_seen() {
    let whole = Dir::new("missing");
    filled(&whole, 1200);
    let dir = Dir::new("missing-file");
    copy(&whole, &dir);
    fs::remove_file(&log_files(&dir)[1]).unwrap();
    let error = NodeStore::open(&config(&dir)).unwrap_err();
    assert!(error.to_string().contains("missing"), "{error}");

    let dir = Dir::new("missing-first");
    copy(&whole, &dir);
    fs::remove_file(&log_files(&dir)[0]).unwrap();
    let error = NodeStore::open(&config(&dir)).unwrap_err();
    assert!(error.to_string().contains("missing"), "{error}");

    let dir = Dir::new("missing-mark");
    copy(&whole, &dir);
    fs::remove_file(dir.join("mark")).unwrap();
    let error = NodeStore::open(&config(&dir)).unwrap_err();
    assert!(error.to_string().contains("durable mark"), "{error}");

    let store = NodeStore::open(&config(&whole)).unwrap();
    store.snapshot().unwrap();
    drop(store);
    let snapshots = whole.join("snapshots");
    let path = fs::read_dir(snapshots)
        .unwrap()
        .next()
        .unwrap()
        .unwrap()
        .path();
    flip(&path, 40);
    let error = NodeStore::open(&config(&whole)).unwrap_err();
    assert!(
        matches!(&error, Error::Damaged { path: named, .. } if *named == path),
        "{error}"
    );
}

/// Every file below a directory with its content.
fn everything(dir: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let mut found = BTreeMap::new();
    for entry in fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(everything(&path));
        } else {
            found.insert(path.clone(), fs::read(&path).unwrap());
        }
    }
    found
}

/// The refusal of a directory that is not this node's: it names the directory and changes nothing in it.
fn refusal(config: &StoreConfig) -> Error {
    let before = everything(&config.dir);
    let error = NodeStore::open(config).unwrap_err();
    let said = error.to_string();
    assert!(said.contains(config.dir.to_str().unwrap()), "{said}");
    assert!(
        everything(&config.dir) == before,
        "changed after a refusal: {said}"
    );
    error
}

#[test]
fn directories_of_others_are_refused_and_left_alone() {
    let dir = Dir::new("owner");
    filled(&dir, 3);
    let mut other = config(&dir);
    other.node = "two".to_owned();
    let error = refusal(&other);
    assert!(
        error.to_string().contains("\"one\"") && error.to_string().contains("\"two\""),
        "{error}"
    );
    let mut other = config(&dir);
    other.cluster = Some("0123".to_owned());
    let error = refusal(&other);
    assert!(error.to_string().contains("\"0123\""), "{error}");
    assert!(matches!(
        error,
        Error::Foreign {
            what: "cluster",
            ..
        }
    ));

    let store = NodeStore::open(&config(&dir)).unwrap();
    started(&store);
    // The process that has it writes as it likes, and does not notice.
    let error = NodeStore::open(&config(&dir)).unwrap_err();
    assert!(matches!(&error, Error::InUse { .. }), "{error}");
    assert!(error.to_string().contains(dir.to_str().unwrap()), "{error}");
    assert_eq!(wait(&publish(&store, "sub", "a", "x")), Progress::Done);
    drop(store);

    let path = dir.join("identity");
    let text = fs::read_to_string(&path).unwrap();
    fs::write(&path, text.replace("format 1", "format 2")).unwrap();
    assert!(matches!(
        refusal(&config(&dir)),
        Error::Format { found: 2, .. }
    ));
    fs::write(&path, text.replace("node one", "nod")).unwrap();
    assert!(matches!(refusal(&config(&dir)), Error::Damaged { .. }));
    fs::write(&path, text).unwrap();
    assert_eq!(
        queue(&NodeStore::open(&config(&dir)).unwrap(), "sub").len(),
        4
    );

    let foreign = Dir::new("foreign");
    fs::create_dir_all(&*foreign).unwrap();
    fs::write(foreign.join("letters.txt"), "mine").unwrap();
    let error = refusal(&config(&foreign));
    assert!(error.to_string().contains("letters.txt"), "{error}");
    assert_eq!(fs::read_dir(&*foreign).unwrap().count(), 1);
}

#[test]
fn a_full_disk_acknowledges_nothing_and_service_resumes() {
    let dir = Dir::new("full");
    let sim = SimDisk::new();
    let store = NodeStore::open_on(&config(&dir), &sim.disk()).unwrap();
    started(&store);
    let epoch = subscriber(&store, "sub", "a");
    assert_eq!(wait(&publish(&store, "sub", "a", "before")), Progress::Done);
    sim.0.full.store(true, Ordering::Relaxed);
    for _ in 0..5 {
        assert_eq!(
            wait(&publish(&store, "sub", "a", "lost")),
            Progress::Failed(ReasonCode::QuotaExceeded)
        );
    }
    // The end of a connection is not given up.
    let close = nightjar_broker::shard::Close {
        client_id: "sub".into(),
        epoch,
        kind: nightjar_broker::shard::CloseKind::Normal,
        expiry: None,
        now: nightjar_broker::Timestamp::now(),
    };
    let entry = nightjar_broker::shard::SessionEntry::Close(close);
    let closing = store
        .submit(store.shard_of("sub"), vec![entry], None)
        .ticket;
    std::thread::sleep(std::time::Duration::from_millis(50));
    assert!(closing.is_pending());
    sim.0.full.store(false, Ordering::Relaxed);
    assert_eq!(wait(&closing), Progress::Done);
    assert_eq!(wait(&publish(&store, "sub", "a", "after")), Progress::Done);
    assert_eq!(queue(&store, "sub"), ["before", "after"]);
    drop(store);
    let store = NodeStore::open(&config(&dir)).unwrap();
    assert_eq!(queue(&store, "sub"), ["before", "after"]);
    assert!(!store.restored()[0].connected);
}

#[test]
fn after_a_failed_sync_nothing_is_acknowledged() {
    let dir = Dir::new("sync");
    let sim = SimDisk::new();
    let store = NodeStore::open_on(&config(&dir), &sim.disk()).unwrap();
    started(&store);
    subscriber(&store, "sub", "a");
    sim.0.sync_fails.store(true, Ordering::Relaxed);
    let refused = Progress::Failed(ReasonCode::ServerUnavailable);
    assert_eq!(wait(&publish(&store, "sub", "a", "x")), refused);
    sim.0.sync_fails.store(false, Ordering::Relaxed);
    assert_eq!(wait(&publish(&store, "sub", "a", "y")), refused);
    assert!(store.has_failed());
}

/// A kill between making the next log file and writing its header: the engine goes on in that file in an older
/// format, which is no damage.
#[test]
fn a_log_file_cut_off_before_its_header_is_used_and_read_again() {
    for len in [0, 20, 60] {
        let dir = Dir::new("header");
        filled(&dir, 5);
        let first = log_files(&dir)[0].clone();
        let next = dir.join("log/0000000000000002.raftlog");
        fs::write(&next, &fs::read(&first).unwrap()[..len]).unwrap();
        let store = NodeStore::open(&config(&dir)).unwrap();
        started(&store);
        for number in 5..900 {
            let payload = format!("{number:04} {}", "z".repeat(150));
            assert_eq!(wait(&publish(&store, "sub", "a", &payload)), Progress::Done);
        }
        drop(store);
        assert!(
            log_files(&dir).len() > 2,
            "the file is not the last one any more"
        );
        let report = nightjar_cluster::check(&dir).unwrap();
        assert!(report.problems.is_empty(), "{}", report.text);
        let store = NodeStore::open(&config(&dir)).unwrap();
        assert_eq!(queue(&store, "sub").len(), 900);
        drop(store);
        // Damage in it is seen as in any other.
        flip(&next, 3_000);
        let error = NodeStore::open(&config(&dir)).unwrap_err();
        assert!(
            matches!(&error, Error::Damaged { path, .. } if *path == next),
            "{error}"
        );
    }
}

/// A full disk stops the log between two files: the next one is made and stays without a header. If the node dies then,
/// the file before it ends as the last one may, and holds everything.
#[test]
fn a_rotation_that_found_no_room_is_no_damage() {
    let (whole, dir) = (Dir::new("no-room"), Dir::new("no-room-killed"));
    filled(&whole, 20);
    copy(&whole, &dir);
    let last = log_files(&dir).pop().unwrap();
    let mut bytes = fs::read(&last).unwrap();
    // Room that was taken ahead, and a batch of which half was written.
    bytes.extend([7; 100]);
    bytes.extend([0; 5000]);
    fs::write(&last, bytes).unwrap();
    let number: u64 = last.file_stem().unwrap().to_str().unwrap().parse().unwrap();
    let next = last.with_file_name(format!("{:016}.raftlog", number + 1));
    for header in [0, 20] {
        fs::write(&next, &b"RAFT-LOG-FILE-HEADER-9986AB3E47"[..header]).unwrap();
        let store = NodeStore::open(&config(&dir)).unwrap();
        started(&store);
        assert_eq!(queue(&store, "sub").len(), 20, "{header} bytes");
        drop(store);
    }
    // A header is synced before anything stands behind it: with one, the file before it was finished.
    let mut bytes = fs::read(&last).unwrap();
    bytes.extend([7; 100]);
    fs::write(&last, bytes).unwrap();
    let first = fs::read(&log_files(&whole)[0]).unwrap();
    fs::write(&next, &first[..69]).unwrap();
    assert!(matches!(
        NodeStore::open(&config(&dir)),
        Err(Error::Damaged { .. })
    ));
}
