//! What the benches of the store share.
#![allow(dead_code, reason = "not every bench needs all of it")]

use std::time::Duration;

use nightjar_broker::settings::QueueLimits;
use nightjar_broker::shard::Open;
use nightjar_broker::{Progress, Ticket, Timestamp};

/// Waits until a ticket is done.
pub fn wait(ticket: &Ticket) {
    loop {
        match ticket.poll(None) {
            Progress::Pending => std::thread::sleep(Duration::from_micros(50)),
            Progress::Done => return,
            Progress::Failed(code) => panic!("refused: {code:?}"),
        }
    }
}

/// Submits so many entries, a few thousand in flight.
pub fn flood(count: usize, mut submit: impl FnMut(usize) -> Ticket) {
    let mut open = std::collections::VecDeque::new();
    for number in 0..count {
        open.push_back(submit(number));
        if open.len() > 4_000 {
            wait(&open.pop_front().expect("there are thousands"));
        }
    }
    open.iter().for_each(wait);
}

/// Bytes of this process in memory.
pub fn resident() -> u64 {
    let text = std::fs::read_to_string("/proc/self/statm").unwrap_or_default();
    let pages = text.split(' ').nth(1).and_then(|pages| pages.parse().ok());
    pages.unwrap_or(0u64) * 4096
}

/// Bytes that this process had written to the disk, as far as the system counts it.
pub fn written() -> u64 {
    let text = std::fs::read_to_string("/proc/self/io").unwrap_or_default();
    let line = text
        .lines()
        .find_map(|line| line.strip_prefix("write_bytes: "));
    line.and_then(|bytes| bytes.parse().ok()).unwrap_or(0)
}

/// Processor time of this process so far.
pub fn cpu() -> Duration {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
    let fields: Vec<&str> = stat
        .rsplit(')')
        .next()
        .unwrap_or_default()
        .split(' ')
        .collect();
    let ticks = |at: usize| {
        fields
            .get(at)
            .and_then(|f| f.parse::<u64>().ok())
            .unwrap_or(0)
    };
    Duration::from_millis((ticks(12) + ticks(13)) * 10)
}

/// An Open of a session that never expires.
pub fn open_of(client_id: &str, window: u16) -> Open {
    Open {
        client_id: client_id.into(),
        clean_start: false,
        expiry: u32::MAX,
        will: None,
        limits: QueueLimits::default(),
        window,
        supervision: None,
        node: 0,
        owner: None,
        now: Timestamp::now(),
    }
}
