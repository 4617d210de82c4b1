//! What stands around a node: the variables in images, manifests and pages are keys that exist, and systemd is told.

use std::collections::BTreeSet;
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use crate::process::{Dir, FREE_PORTS, command, run, sets};

/// Variables of compose files, builds and tests, which are no keys.
const OTHERS: [&str; 5] = [
    "NIGHTJAR_COOKIE",
    "NIGHTJAR_HOST",
    "NIGHTJAR_IMAGE",
    "NIGHTJAR_NET",
    "NIGHTJAR_UI",
];

fn files(folder: &Path, out: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(folder).expect("the folder is there") {
        let path = entry.expect("it can be listed").path();
        if path.is_dir() {
            files(&path, out);
        } else {
            out.push(path);
        }
    }
}

/// Names that begin with `NIGHTJAR_` and hold the two underscores of a key, or stand for one whole.
fn variables(text: &str) -> BTreeSet<String> {
    text.match_indices("NIGHTJAR_")
        .map(|(at, _)| {
            let name = &text[at..];
            let end =
                name.find(|c: char| !c.is_ascii_uppercase() && !c.is_ascii_digit() && c != '_');
            name[..end.unwrap_or(name.len())].to_owned()
        })
        .filter(|name| name.contains("__") && !OTHERS.contains(&name.as_str()))
        .collect()
}

#[test]
fn every_variable_of_images_manifests_and_pages_is_a_key() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut all = vec![root.join("README.md")];
    for folder in ["docker", "docs/deploy", "etc/kubernetes"] {
        files(&root.join(folder), &mut all);
    }
    let dir = Dir::new();
    let mut known = 0;
    for file in all {
        let text = std::fs::read_to_string(&file).expect("it is a text");
        for name in variables(&text) {
            let key = name["NIGHTJAR_".len()..].to_lowercase().replace("__", ".");
            let whole = run(&dir, &["config", "explain", &key]);
            let cut = key
                .strip_suffix("_file")
                .map(|key| run(&dir, &["config", "explain", key]));
            assert!(
                whole.code == 0 || cut.is_some_and(|done| done.code == 0),
                "{}: {name}: {}",
                file.display(),
                whole.err
            );
            known += 1;
        }
    }
    assert!(known > 15, "only {known} names were found");
}

/// The manager's side of sd_notify(3).
#[test]
fn a_service_manager_is_told_of_the_start_of_life_and_of_the_end() {
    let dir = Dir::new();
    let path = dir.path().join("notify");
    let manager = UnixDatagram::bind(&path).expect("the path is free");
    let patience = Some(Duration::from_secs(30));
    manager
        .set_read_timeout(patience)
        .expect("a time limit can be set");
    let told = || {
        let mut buffer = [0; 256];
        let length = manager
            .recv(&mut buffer)
            .expect("something is told in time");
        String::from_utf8_lossy(&buffer[..length]).into_owned()
    };
    let mut child = command(&dir, &sets("serve", &FREE_PORTS))
        .env("NOTIFY_SOCKET", &path)
        .env("WATCHDOG_USEC", "400000")
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .expect("the program can be started");
    let mut seen = Vec::new();
    while seen
        .iter()
        .filter(|it: &&String| *it == "WATCHDOG=1")
        .count()
        < 3
    {
        seen.push(told());
        assert!(seen.len() < 20, "{seen:?}");
    }
    assert!(seen.iter().any(|it| it.starts_with("READY=1")), "{seen:?}");
    assert!(dir.path().join("data/listeners.json").exists());
    let killed = Command::new("kill").arg(child.id().to_string()).status();
    assert!(killed.expect("kill can be started").success());
    while !told().starts_with("STOPPING=1") {}
    assert!(child.wait().expect("it is our child").success());
}
