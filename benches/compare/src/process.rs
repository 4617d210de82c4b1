//! What the kernel says about a broker's processes.

use crate::broker::pause;
use std::collections::BTreeSet;
use std::io::{self, Read};
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

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

/// What a program said until it ended. One that takes longer than `longest` is killed, and that is an error.
pub fn output(command: &mut Command, longest: Duration) -> io::Result<Output> {
    let mut child = command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()?;
    // Read beside: a pipe that is full stops who writes.
    let (stdout, stderr) = (read(child.stdout.take()), read(child.stderr.take()));
    let begin = Instant::now();
    let status = loop {
        if let Some(status) = child.try_wait()? {
            break status;
        }
        if begin.elapsed() > longest {
            child.kill()?;
            child.wait()?;
            let why = format!("took more than {longest:?}");
            return Err(io::Error::new(io::ErrorKind::TimedOut, why));
        }
        pause(Duration::from_millis(5));
    };
    let whole = |reader: Reader| {
        let failed = |_| io::Error::other("the reader of a pipe panicked");
        reader.join().map_err(failed)?
    };
    Ok(Output {
        status,
        stdout: whole(stdout)?,
        stderr: whole(stderr)?,
    })
}

type Reader = std::thread::JoinHandle<io::Result<Vec<u8>>>;

fn read(pipe: Option<impl Read + Send + 'static>) -> Reader {
    std::thread::spawn(move || {
        let mut bytes = Vec::new();
        if let Some(mut pipe) = pipe {
            pipe.read_to_end(&mut bytes)?;
        }
        Ok(bytes)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shell(script: &str) -> Command {
        let mut command = Command::new("sh");
        command.args(["-c", script]);
        command
    }

    #[test]
    fn output_is_read_to_its_end() {
        let script = "head -c 300000 /dev/zero; echo no >&2; exit 3";
        let output = output(&mut shell(script), Duration::from_secs(20)).expect("it ends");
        assert_eq!(output.stdout.len(), 300_000);
        assert_eq!(
            (output.status.code(), &*output.stderr),
            (Some(3), &b"no\n"[..])
        );
    }

    #[test]
    fn a_program_that_hangs_is_killed() {
        let begin = Instant::now();
        let error = output(&mut shell("exec sleep 60"), Duration::from_millis(100));
        let error = error.expect_err("it takes longer");
        assert_eq!(error.kind(), io::ErrorKind::TimedOut);
        assert!(begin.elapsed() < Duration::from_secs(20));
    }
}
