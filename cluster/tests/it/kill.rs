//! A real process, killed with SIGKILL again and again on one directory.

use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use nightjar_broker::Progress;
use nightjar_cluster::NodeStore;

use crate::disk::Dice;
use crate::kit::*;

const DIR: &str = "NIGHTJAR_KILL_DIR";
const FIRST: &str = "NIGHTJAR_KILL_FIRST";
const NAME: &str = "kill::nothing_acknowledged_is_lost_by_kill_9";

/// The process that is killed: publishes numbers, and says of each on its output when it was acknowledged.
fn publish_for_ever(dir: &Path) {
    let mut settings = config(dir);
    settings.log_limit = 100_000;
    let store = NodeStore::open(&settings).unwrap();
    started(&store);
    let mut next: usize = std::env::var(FIRST).unwrap().parse().unwrap();
    if next == 0 {
        subscriber(&store, "sub", "a");
    }
    let mut open = std::collections::VecDeque::new();
    let mut out = std::io::stdout();
    loop {
        while open.len() < 50 {
            let ticket = publish(
                &store,
                "sub",
                "a",
                &format!("{next:07}{}", "k".repeat(next % 200)),
            );
            open.push_back((next, ticket));
            next += 1;
        }
        while let Some((number, ticket)) = open.front() {
            match ticket.poll(None) {
                Progress::Pending => break,
                Progress::Done => writeln!(out, "acknowledged {number}").unwrap(),
                Progress::Failed(code) => panic!("{code:?}"),
            }
            open.pop_front();
        }
        out.flush().unwrap();
        std::thread::sleep(Duration::from_micros(100));
    }
}

#[test]
fn nothing_acknowledged_is_lost_by_kill_9() {
    if let Some(dir) = std::env::var_os(DIR) {
        publish_for_ever(Path::new(&dir));
    }
    let dir = Dir::new("kill");
    let mut dice = Dice::new(9);
    let rounds = std::env::var("NIGHTJAR_KILLS").map_or(20, |count| count.parse().unwrap());
    let mut acknowledged: Vec<usize> = Vec::new();
    let mut next = 0;
    for round in 0..rounds {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", NAME, "--nocapture"])
            .env(DIR, &*dir)
            .env(FIRST, next.to_string())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let output = BufReader::new(child.stdout.take().unwrap());
        let before = acknowledged.len();
        let enough = 20 + dice.below(400) as usize;
        for line in output.lines() {
            let line = line.unwrap();
            let Some(number) = line.strip_prefix("acknowledged ") else {
                continue;
            };
            acknowledged.push(number.parse().unwrap());
            if acknowledged.len() - before == enough {
                // What it still wrote into the pipe was acknowledged too, and is read below.
                child.kill().unwrap();
            }
        }
        child.wait().unwrap();
        assert!(
            acknowledged.len() - before >= enough,
            "round {round}: it ended by itself"
        );
        let store = NodeStore::open(&config(&dir)).unwrap();
        let found: Vec<usize> = queue(&store, "sub")
            .iter()
            .map(|payload| {
                let number: usize = payload[..7].parse().unwrap();
                assert_eq!(payload.len(), 7 + number % 200);
                number
            })
            .collect();
        assert!(found.is_sorted_by(|a, b| a < b), "round {round}");
        let lost = acknowledged
            .iter()
            .find(|number| found.binary_search(number).is_err());
        assert_eq!(lost, None, "round {round}");
        next = found.last().unwrap() + 100;
    }
}
