//! A hashed timer wheel: the deadlines of all clients of a shard. A client has one entry at most that counts; moving its
//! deadline back costs nothing, for an entry that comes too early is put in again.

use nightjar_broker::Timestamp;

/// Milliseconds of one slot.
const TICK: u64 = 50;
/// Slots of one turn: about 200 s.
const SLOTS: usize = 4096;

#[derive(Debug, Clone, Copy)]
struct Entry {
    /// In ticks.
    at: u64,
    slot: u32,
    generation: u32,
}

/// The wheel.
#[derive(Debug)]
pub(super) struct Wheel {
    slots: Vec<Vec<Entry>>,
    /// A bit for each slot that is not empty.
    occupied: Box<[u64]>,
    /// The tick up to which everything was handed out.
    cursor: u64,
    len: usize,
}

impl Wheel {
    pub fn new() -> Self {
        Self {
            slots: (0..SLOTS).map(|_| Vec::new()).collect(),
            occupied: vec![0; SLOTS / 64].into(),
            cursor: 0,
            len: 0,
        }
    }

    /// The number of the entry that a deadline would get now.
    pub fn entry(&self, at: Timestamp) -> u64 {
        at.0.div_ceil(TICK).max(self.cursor + 1)
    }

    /// Has a client handed out at or after this time; the number of the entry.
    pub fn insert(&mut self, now: Timestamp, at: Timestamp, slot: u32, generation: u32) -> u64 {
        if self.len == 0 {
            // Nothing waits: the wheel need not be turned through the past.
            self.cursor = self.cursor.max(now.0 / TICK);
        }
        let at = self.entry(at);
        let place = (at % SLOTS as u64) as usize;
        self.slots[place].push(Entry {
            at,
            slot,
            generation,
        });
        self.occupied[place / 64] |= 1 << (place % 64);
        self.len += 1;
        at
    }

    /// The earliest time at which something may be due.
    pub fn next(&self) -> Option<Timestamp> {
        if self.len == 0 {
            return None;
        }
        let start = (self.cursor + 1) % SLOTS as u64;
        let first = (start / 64) as usize;
        let words = self.occupied.len();
        for step in 0..=words {
            let word = (first + step) % words;
            let mut bits = self.occupied[word];
            if step == 0 {
                bits &= u64::MAX << (start % 64);
            } else if step == words {
                bits &= !(u64::MAX << (start % 64));
            }
            if bits != 0 {
                let place = word as u64 * 64 + u64::from(bits.trailing_zeros());
                let ahead = (place + SLOTS as u64 - start) % SLOTS as u64;
                return Some(Timestamp((self.cursor + 1 + ahead) * TICK));
            }
        }
        None
    }

    /// Moves what is due into `due`: slot, generation, number of the entry.
    pub fn expire(&mut self, now: Timestamp, due: &mut Vec<(u32, u32, u64)>) {
        let target = now.0 / TICK;
        if target <= self.cursor {
            return;
        }
        // One turn sees every slot.
        let from = self.cursor.max(target.saturating_sub(SLOTS as u64));
        for tick in from + 1..=target {
            let place = (tick % SLOTS as u64) as usize;
            if self.occupied[place / 64] & (1 << (place % 64)) == 0 {
                continue;
            }
            let entries = &mut self.slots[place];
            let before = entries.len();
            entries.retain(|entry| {
                let later = entry.at > target;
                if !later {
                    due.push((entry.slot, entry.generation, entry.at));
                }
                later
            });
            self.len -= before - entries.len();
            if entries.is_empty() {
                *entries = Vec::new();
                self.occupied[place / 64] &= !(1 << (place % 64));
            }
        }
        self.cursor = target;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_entry_comes_once_and_never_early() {
        let mut wheel = Wheel::new();
        let mut seed = 7u64;
        let mut random = || {
            seed ^= seed << 13;
            seed ^= seed >> 7;
            seed ^= seed << 17;
            seed
        };
        let start = 1_700_000_000_000;
        let mut expected: Vec<u64> = (0..2000).map(|_| start + random() % 3_000_000).collect();
        for (slot, at) in expected.iter().enumerate() {
            wheel.insert(Timestamp(start), Timestamp(*at), slot as u32, 1);
        }
        let mut now = Timestamp(start);
        let mut due = Vec::new();
        let mut seen = 0;
        while let Some(next) = wheel.next() {
            assert!(next > now, "the time goes on");
            now = next;
            wheel.expire(now, &mut due);
            for (slot, ..) in due.drain(..) {
                let at = std::mem::replace(&mut expected[slot as usize], u64::MAX);
                assert!(at <= now.0 && now.0 < at + 2 * TICK, "{at} {now:?}");
                seen += 1;
            }
        }
        assert_eq!(seen, 2000);
    }

    #[test]
    fn a_long_pause_hands_out_everything_at_once() {
        let mut wheel = Wheel::new();
        let now = Timestamp(500);
        wheel.insert(now, Timestamp(900_000), 2, 1);
        wheel.insert(now, Timestamp(1000), 1, 1);
        assert_eq!(
            wheel.next(),
            Some(Timestamp(1000)),
            "the earlier one is not held up"
        );
        let mut due = Vec::new();
        wheel.expire(Timestamp(10_000_000), &mut due);
        due.sort_unstable();
        let due: Vec<_> = due.iter().map(|(slot, ..)| *slot).collect();
        assert_eq!(due, [1, 2]);
        assert_eq!(wheel.next(), None);
    }
}
