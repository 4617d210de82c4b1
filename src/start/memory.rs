//! How full memory is: what this process holds, against what the machine or its container grants.

use std::path::Path;

use nightjar_broker::MemoryLevel;

/// The memory this process may use, in bytes: the container's limit or the machine's memory.
pub fn total() -> Option<u64> {
    let machine = std::fs::read_to_string("/proc/meminfo")
        .ok()
        .and_then(|text| {
            let line = text.lines().find(|line| line.starts_with("MemTotal:"))?;
            let kib: u64 = line.split_whitespace().nth(1)?.parse().ok()?;
            Some(kib * 1024)
        });
    let read = |path: &str| {
        std::fs::read_to_string(Path::new(path))
            .ok()?
            .trim()
            .parse::<u64>()
            .ok()
    };
    let container = read("/sys/fs/cgroup/memory.max")
        .or_else(|| read("/sys/fs/cgroup/memory/memory.limit_in_bytes"));
    match (machine, container) {
        (Some(machine), Some(container)) => Some(machine.min(container)),
        (machine, container) => machine.or(container),
    }
}

/// Resident bytes of this process.
pub fn resident() -> Option<u64> {
    let text = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = text.lines().find(|line| line.starts_with("VmRSS:"))?;
    let kib: u64 = line.split_whitespace().nth(1)?.parse().ok()?;
    Some(kib * 1024)
}

/// The level of `resident` bytes out of `total`, with the configured fractions.
pub fn level(resident: u64, total: u64, high: f64, critical: f64) -> MemoryLevel {
    let share = resident as f64 / total.max(1) as f64;
    if share >= critical {
        MemoryLevel::Critical
    } else if share >= high {
        MemoryLevel::High
    } else {
        MemoryLevel::Normal
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn levels_follow_the_two_marks() {
        let at = |resident| level(resident, 100, 0.7, 0.85);
        assert_eq!(at(69), MemoryLevel::Normal);
        assert_eq!(at(70), MemoryLevel::High);
        assert_eq!(at(85), MemoryLevel::Critical);
        assert!(
            resident().is_some_and(|bytes| bytes > 0) && total().is_some_and(|bytes| bytes > 0)
        );
    }
}
