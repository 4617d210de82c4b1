//! Data directories from outside: what `store check` and `dump` say of them, backups and restores, and directories
//! that are refused.

use std::fs;
use std::path::{Path, PathBuf};

use crate::process::{Broker, Dir, Done, FREE_PORTS, run, sets};

fn text(path: &Path) -> &str {
    path.to_str().expect("test paths are UTF-8")
}

/// A broker whose data stands in `name` below the directory.
fn broker(dir: &Dir, name: &str) -> Broker {
    Broker::start(dir, &[&format!("node.data_dir={name}")])
}

fn port(broker: &Broker) -> String {
    let address = broker.address("tcp:default");
    address
        .rsplit(':')
        .next()
        .expect("an address has a port")
        .to_owned()
}

fn stop(broker: Broker) {
    broker.signal("TERM");
    let (code, err) = broker.wait();
    assert_eq!(code, 0, "{err}");
}

fn ok(done: Done) -> Done {
    assert_eq!(done.code, 0, "{} {}", done.out, done.err);
    done
}

fn publish(dir: &Dir, port: &str, more: &[&str]) {
    let mut words = vec!["pub", "-h", "127.0.0.1", "-p", port, "-q", "1"];
    words.extend(more);
    ok(run(dir, &words));
}

/// A persistent session `sub` on `t/#`, three messages in its queue, one retained message.
fn fill(dir: &Dir, port: &str) {
    let words = [
        "sub",
        "-h",
        "127.0.0.1",
        "-p",
        port,
        "-i",
        "sub",
        "-c",
        "-q",
        "1",
        "-E",
        "-t",
        "t/#",
    ];
    ok(run(dir, &words));
    for text in ["one", "two", "three"] {
        publish(dir, port, &["-t", "t/a", "-m", text]);
    }
    publish(dir, port, &["-t", "r/a", "-m", "kept", "-r"]);
}

/// What waits for `sub`, with the retained message behind it.
fn queue(dir: &Dir, port: &str, count: &str) -> String {
    let words = [
        "sub",
        "-h",
        "127.0.0.1",
        "-p",
        port,
        "-i",
        "sub",
        "-c",
        "-q",
        "1",
        "-t",
        "t/#",
        "-C",
        count,
        "-W",
        "10",
    ];
    ok(run(dir, &words)).out
}

#[test]
fn check_and_dump_say_in_words_what_a_directory_holds() {
    let dir = Dir::new();
    let running = broker(&dir, "data");
    fill(&dir, &port(&running));
    let live = ok(run(&dir, &["store", "check", "data"]));
    assert!(live.out.contains("in use by a running process"), "{live:?}");
    stop(running);
    let done = ok(run(&dir, &["store", "check", "data"]));
    assert!(done.out.contains("verdict: whole"), "{done:?}");
    assert!(!done.out.contains("in use"), "{done:?}");
    assert!(done.out.contains("format 1"), "{done:?}");
    let dumped = ok(run(&dir, &["store", "dump", "data/store"]));
    for word in ["Open", "\"sub\"", "t/a", "Set(", "payload_len: 5"] {
        assert!(dumped.out.contains(word), "no {word} in {}", dumped.out);
    }

    // One flipped byte in the middle of the log is found and named.
    let log = fs::read_dir(dir.path().join("data/store/log"))
        .expect("there is a log")
        .map(|entry| entry.expect("it can be listed").path())
        .find(|path| path.extension().is_some_and(|kind| kind == "raftlog"))
        .expect("there is a log file");
    let mut bytes = fs::read(&log).expect("it can be read");
    let at = bytes
        .windows(3)
        .position(|window| window == b"one")
        .expect("the payload stands in the log");
    bytes[at] ^= 1;
    fs::write(&log, bytes).expect("it can be written");
    let damaged = run(&dir, &["store", "check", "data"]);
    assert_eq!(damaged.code, 1, "{damaged:?}");
    assert!(damaged.out.contains("DAMAGED"), "{damaged:?}");
    assert!(damaged.err.contains("accept_loss"), "{damaged:?}");
    let refused = refused_start(&dir, &[], "data");
    assert!(refused.contains("is damaged at byte"), "{refused}");

    let nothing = run(&dir, &["store", "check", "no-such"]);
    assert_eq!(nothing.code, 3, "{nothing:?}");
    fs::create_dir(dir.path().join("empty")).expect("can be made");
    assert_eq!(run(&dir, &["store", "dump", "empty"]).code, 3);
}

/// `serve` ends by itself and changes nothing; what it says.
fn refused_start(dir: &Dir, settings: &[&str], data: &str) -> String {
    let before = listing(&dir.path().join(data).join("store"));
    let data_dir = format!("node.data_dir={data}");
    let mut all: Vec<&str> = FREE_PORTS.to_vec();
    all.extend(settings);
    all.push(&data_dir);
    let done = run(dir, &sets("serve", &all));
    assert_ne!(done.code, 0, "{done:?}");
    assert!(!done.out.contains("ready"), "{done:?}");
    let after = listing(&dir.path().join(data).join("store"));
    assert_eq!(before, after, "a refused directory was changed");
    done.err
}

/// Every file below with its bytes.
fn listing(dir: &Path) -> Vec<(PathBuf, Vec<u8>)> {
    let mut found = Vec::new();
    let Ok(entries) = fs::read_dir(dir) else {
        return found;
    };
    for entry in entries {
        let path = entry.expect("it can be listed").path();
        if path.is_dir() {
            found.extend(listing(&path));
        } else {
            let bytes = fs::read(&path).expect("it can be read");
            found.push((path, bytes));
        }
    }
    found.sort();
    found
}

#[test]
fn a_directory_of_another_node_or_format_or_in_use_is_refused_by_name() {
    let dir = Dir::new();
    let running = broker(&dir, "data");
    fill(&dir, &port(&running));
    // A second process on the same directory: its control socket, and the lock if that is away.
    let second = run(
        &dir,
        &sets(
            "serve",
            &[&FREE_PORTS[..], &["node.data_dir=data"]].concat(),
        ),
    );
    assert_ne!(second.code, 0);
    assert!(second.err.contains("data"), "{second:?}");
    fs::remove_file(dir.path().join("data/ctl.sock")).expect("it can be removed");
    let second = run(
        &dir,
        &sets(
            "serve",
            &[&FREE_PORTS[..], &["node.data_dir=data"]].concat(),
        ),
    );
    assert_ne!(second.code, 0);
    assert!(
        second.err.contains("in use by another process"),
        "{second:?}"
    );
    stop(running);

    let said = refused_start(&dir, &["node.name=other@127.0.0.1"], "data");
    assert!(
        said.contains("belongs to node") && said.contains("other@127.0.0.1"),
        "{said}"
    );
    let identity = dir.path().join("data/store/identity");
    let text = fs::read_to_string(&identity).expect("it can be read");
    fs::write(&identity, text.replace("format 1", "format 99")).expect("it can be written");
    let said = refused_start(&dir, &[], "data");
    assert!(said.contains("format 99"), "{said}");

    let strange = dir.write("strange/store/holiday.jpg", "not ours");
    let said = refused_start(&dir, &[], "strange");
    assert!(said.contains("holiday.jpg"), "{said}");
    assert!(strange.exists());
}

#[test]
fn a_backup_taken_while_serving_is_restored_and_refuses_what_it_must() {
    let dir = Dir::new();
    let running = broker(&dir, "data");
    let at = port(&running);
    fill(&dir, &at);
    let ctl = |data: &str, words: &[&str]| {
        let mut all = vec!["ctl", "--data-dir", data];
        all.extend(words);
        run(&dir, &all)
    };
    let made = ok(ctl("data", &["backup", "first.bak", "--output", "json"]));
    let made: serde_json::Value = serde_json::from_str(&made.out).expect("it is JSON");
    assert_eq!(
        (&made["sessions"], &made["queued"], &made["retained"]),
        (&1.into(), &3.into(), &1.into())
    );
    let again = ctl("data", &["backup", "first.bak"]);
    assert_eq!(again.code, 4, "{again:?}");
    let checked = ok(run(&dir, &["store", "check", "first.bak"]));
    assert!(checked.out.contains("3 queued messages"), "{checked:?}");
    // After the backup: not part of it.
    publish(&dir, &at, &["-t", "t/a", "-m", "later"]);
    let used = ctl("data", &["restore", "first.bak", "--yes"]);
    assert_eq!(used.code, 4, "{used:?}");
    assert!(used.err.contains("in use"), "{used:?}");
    assert_eq!(queue(&dir, &at, "4"), "one\ntwo\nthree\nlater\n");
    stop(running);

    // Over data only with --yes, and that data is kept aside.
    let asked = ctl("data", &["restore", "first.bak"]);
    assert_eq!(asked.code, 4, "{asked:?}");
    assert!(asked.err.contains("--yes"), "{asked:?}");
    let done = ok(ctl(
        "data",
        &["restore", "first.bak", "--yes", "--output", "json"],
    ));
    let done: serde_json::Value = serde_json::from_str(&done.out).expect("it is JSON");
    assert_eq!(done["queued"], 3);
    let aside = done["aside"]
        .as_str()
        .expect("what stood there is kept")
        .to_owned();
    ok(run(&dir, &["store", "check", &aside]));
    ok(run(&dir, &["store", "check", "data"]));
    let running = broker(&dir, "data");
    let at = port(&running);
    assert_eq!(queue(&dir, &at, "3"), "one\ntwo\nthree\n");
    let words = [
        "sub",
        "-h",
        "127.0.0.1",
        "-p",
        &at,
        "-t",
        "r/#",
        "-C",
        "1",
        "-W",
        "10",
    ];
    assert_eq!(ok(run(&dir, &words)).out, "kept\n");
    stop(running);

    // Into an empty place it asks nothing; of another name or cluster it is refused.
    ok(ctl("fresh", &["restore", "first.bak"]));
    let other = ctl("other", &["restore", "first.bak", "--rename"]);
    ok(other);
    stop(Broker::start(&dir, &["node.data_dir=third"]));
    let foreign = ctl("third", &["restore", "first.bak", "--yes"]);
    assert_eq!(foreign.code, 4, "{foreign:?}");
    assert!(foreign.err.contains("belongs to cluster"), "{foreign:?}");
    let config = dir.write(
        "named.toml",
        "[node]\nname = \"b@127.0.0.1\"\ndata_dir = \"named\"\n",
    );
    let named = run(
        &dir,
        &["ctl", "--config", text(&config), "restore", "first.bak"],
    );
    assert_eq!(named.code, 4, "{named:?}");
    assert!(named.err.contains("--rename"), "{named:?}");
    ok(run(
        &dir,
        &[
            "ctl",
            "--config",
            text(&config),
            "restore",
            "first.bak",
            "--rename",
        ],
    ));
    let renamed = ok(run(&dir, &["store", "check", "named"]));
    assert!(renamed.out.contains("b@127.0.0.1"), "{renamed:?}");

    // A damaged backup changes nothing, wherever the damage is.
    let whole = fs::read(dir.path().join("first.bak")).expect("it can be read");
    for at in [0, 4, 20, whole.len() / 2, whole.len() - 1] {
        let mut bytes = whole.clone();
        bytes[at] ^= 4;
        fs::write(dir.path().join("bad.bak"), bytes).expect("it can be written");
        let bad = ctl("data", &["restore", "bad.bak", "--yes"]);
        assert_eq!(bad.code, 1, "byte {at}: {bad:?}");
        assert!(bad.err.contains("not a whole backup"), "byte {at}: {bad:?}");
    }
    fs::write(dir.path().join("bad.bak"), &whole[..whole.len() - 30]).expect("it can be written");
    assert_eq!(ctl("data", &["restore", "bad.bak", "--yes"]).code, 1);
    assert_eq!(ctl("data", &["restore", "no-such.bak", "--yes"]).code, 3);
    let running = broker(&dir, "data");
    assert!(!running.addresses().is_empty());
    stop(running);
}
