//! What the system says of this process: memory, processor time, files.

use std::time::Instant;

use parking_lot::Mutex;
use rustix::process::{Resource, getrlimit};

/// Figures of the process.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Figures {
    /// Resident bytes.
    pub resident: u64,
    /// Bytes the process may use: the container's limit or the machine's memory.
    pub total: u64,
    /// Seconds of processor time since the start.
    pub cpu_seconds: f64,
    /// Percent of one core since the last look.
    pub cpu_percent: f64,
    /// Open file descriptors, where the system counts them cheaply (Linux 6.2 and later).
    pub open_fds: Option<u64>,
    /// Most file descriptors.
    pub max_fds: Option<u64>,
    /// Load averages of the machine.
    pub load: [f64; 3],
    /// Threads.
    pub threads: u64,
}

/// Remembers the last look, for rates.
#[derive(Debug, Default)]
pub struct Process {
    last: Mutex<Option<(Instant, f64, f64)>>,
}

impl Process {
    /// Looks.
    pub fn figures(&self) -> Figures {
        let (cpu_seconds, threads) = cpu();
        let now = Instant::now();
        let mut last = self.last.lock();
        let cpu_percent = match *last {
            Some((at, before, percent)) => {
                let past = now.duration_since(at).as_secs_f64();
                if past < 0.5 {
                    percent
                } else {
                    let percent = (cpu_seconds - before).max(0.0) / past * 100.0;
                    *last = Some((now, cpu_seconds, percent));
                    percent
                }
            }
            None => {
                *last = Some((now, cpu_seconds, 0.0));
                0.0
            }
        };
        drop(last);
        Figures {
            resident: resident().unwrap_or(0),
            total: total().unwrap_or(0),
            cpu_seconds,
            cpu_percent,
            open_fds: std::fs::metadata("/proc/self/fd")
                .ok()
                .map(|meta| meta.len())
                .filter(|len| *len > 0),
            max_fds: getrlimit(Resource::Nofile).current,
            load: load(),
            threads,
        }
    }
}

/// Processor seconds and threads, of `/proc/self/stat`.
fn cpu() -> (f64, u64) {
    let read = || -> Option<(f64, u64)> {
        let text = std::fs::read_to_string("/proc/self/stat").ok()?;
        // The name of the program may hold anything but is followed by the last parenthesis.
        let fields: Vec<&str> = text.rsplit_once(')')?.1.split_whitespace().collect();
        let ticks: u64 =
            fields.get(11)?.parse::<u64>().ok()? + fields.get(12)?.parse::<u64>().ok()?;
        Some((ticks as f64 / 100.0, fields.get(17)?.parse().ok()?))
    };
    read().unwrap_or((0.0, 0))
}

fn resident() -> Option<u64> {
    let text = std::fs::read_to_string("/proc/self/statm").ok()?;
    let pages: u64 = text.split_whitespace().nth(1)?.parse().ok()?;
    Some(pages * rustix::param::page_size() as u64)
}

fn total() -> Option<u64> {
    let read = |path: &str| {
        std::fs::read_to_string(path)
            .ok()?
            .trim()
            .parse::<u64>()
            .ok()
    };
    let machine = std::fs::read_to_string("/proc/meminfo")
        .ok()
        .and_then(|text| {
            let line = text.lines().find(|line| line.starts_with("MemTotal:"))?;
            Some(line.split_whitespace().nth(1)?.parse::<u64>().ok()? * 1024)
        });
    let container = read("/sys/fs/cgroup/memory.max")
        .or_else(|| read("/sys/fs/cgroup/memory/memory.limit_in_bytes"));
    match (machine, container) {
        (Some(machine), Some(container)) => Some(machine.min(container)),
        (machine, container) => machine.or(container),
    }
}

fn load() -> [f64; 3] {
    let text = std::fs::read_to_string("/proc/loadavg").unwrap_or_default();
    let mut numbers = text
        .split_whitespace()
        .map(|part| part.parse().unwrap_or(0.0));
    std::array::from_fn(|_| numbers.next().unwrap_or(0.0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_process_has_memory_threads_and_files() {
        let figures = Process::default().figures();
        assert!(figures.resident > 0 && figures.total > figures.resident);
        assert!(figures.threads > 0);
        assert!(figures.max_fds.is_some_and(|max| max > 0));
    }
}
