//! What the kernel says about a broker's processes.

use std::collections::BTreeSet;
use std::io;
use std::time::Duration;

/// A process and all that descend from it (RabbitMQ has several).
pub fn tree(root: u32) -> io::Result<BTreeSet<u32>> {
    let mut parents = Vec::new();
    for entry in std::fs::read_dir("/proc")? {
        let Some(pid) = entry?
            .file_name()
            .to_str()
            .and_then(|name| name.parse::<u32>().ok())
        else {
            continue;
        };
        // A process may end between the two reads.
        let Ok(stat) = std::fs::read_to_string(format!("/proc/{pid}/stat")) else {
            continue;
        };
        // The command in parentheses may hold spaces; the state and the parent follow the last of them.
        if let Some(parent) = stat
            .rsplit(')')
            .next()
            .and_then(|rest| rest.split_whitespace().nth(1)?.parse().ok())
        {
            parents.push((pid, parent));
        }
    }
    let mut tree = BTreeSet::from([root]);
    loop {
        let before = tree.len();
        tree.extend(
            parents
                .iter()
                .filter(|(_, parent)| tree.contains(parent))
                .map(|(pid, _)| *pid)
                .collect::<Vec<_>>(),
        );
        if tree.len() == before {
            return Ok(tree);
        }
    }
}

/// User and system time of all threads, from the scheduler's nanosecond counters: /proc/PID/stat says the same in
/// steps of 10 ms, too coarse for paced traffic.
pub fn cpu(pids: &BTreeSet<u32>) -> io::Result<Duration> {
    let mut nanos = 0;
    for pid in pids {
        for task in std::fs::read_dir(format!("/proc/{pid}/task"))? {
            // A thread may end meanwhile.
            let Ok(text) = std::fs::read_to_string(task?.path().join("schedstat")) else {
                continue;
            };
            nanos += text
                .split_whitespace()
                .next()
                .and_then(|word| word.parse::<u64>().ok())
                .unwrap_or(0);
        }
    }
    Ok(Duration::from_nanos(nanos))
}

/// Resident bytes, shared pages counted by their share.
pub fn resident(pids: &BTreeSet<u32>) -> io::Result<u64> {
    let mut bytes = 0;
    for pid in pids {
        let text = std::fs::read_to_string(format!("/proc/{pid}/smaps_rollup"))?;
        let line = text
            .lines()
            .find_map(|line| line.strip_prefix("Pss:"))
            .unwrap_or_default();
        bytes += line
            .split_whitespace()
            .next()
            .and_then(|word| word.parse::<u64>().ok())
            .unwrap_or(0)
            * 1024;
    }
    Ok(bytes)
}
