//! A ring of the last so many entries, split by a hash so that writers seldom meet.

use std::collections::VecDeque;
use std::hash::BuildHasher;

use foldhash::fast::RandomState;
use parking_lot::Mutex;

/// Parts of a ring, each behind its own lock.
const PARTS: usize = 16;

/// Keeps the last entries of each of its parts.
#[derive(Debug)]
pub(super) struct Rings<T> {
    parts: Box<[Mutex<VecDeque<T>>]>,
    each: usize,
    hasher: RandomState,
}

impl<T> Rings<T> {
    /// Rings that keep about `total` entries.
    pub fn new(total: usize) -> Self {
        Self {
            parts: (0..PARTS).map(|_| Mutex::new(VecDeque::new())).collect(),
            each: total / PARTS,
            hasher: RandomState::default(),
        }
    }

    /// Runs `f` on the part of a client: the newest entry is at the back, and [`Self::bound`] keeps it short.
    pub fn with<R>(&self, client_id: &str, f: impl FnOnce(&mut VecDeque<T>) -> R) -> R {
        let part = self.hasher.hash_one(client_id) as usize % PARTS;
        let mut ring = self.parts[part].lock();
        let result = f(&mut ring);
        while ring.len() > self.each {
            ring.pop_front();
        }
        result
    }

    /// Runs `f` on each part in turn.
    pub fn each(&self, mut f: impl FnMut(&VecDeque<T>)) {
        for part in &self.parts {
            f(&part.lock());
        }
    }
}
