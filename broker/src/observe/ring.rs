//! A ring of the last so many entries, split by a hash so that writers seldom meet.

use std::collections::VecDeque;
use std::hash::BuildHasher;
use std::ops::Deref;

use foldhash::fast::RandomState;
use parking_lot::Mutex;

/// Parts of a ring, each behind its own lock.
const PARTS: usize = 16;

/// What an entry holds beside itself.
pub(super) trait Heap {
    /// Bytes of the texts it refers to, shared ones too.
    fn heap(&self) -> usize;
}

/// One part: the newest entry is at the back.
#[derive(Debug)]
pub(super) struct Part<T> {
    ring: VecDeque<T>,
    /// Of all entries together.
    heap: usize,
    entries_max: usize,
    heap_max: usize,
}

impl<T: Heap> Part<T> {
    /// Adds an entry; the oldest make room for it. One that is larger than all that a part may hold is not kept.
    pub fn push(&mut self, entry: T) {
        let heap = entry.heap();
        if heap > self.heap_max {
            return;
        }
        // Before it is added: the room that a ring takes never grows beyond what it keeps.
        while self.ring.len() >= self.entries_max || self.heap + heap > self.heap_max {
            let Some(old) = self.ring.pop_front() else {
                break;
            };
            self.heap -= old.heap();
        }
        self.heap += heap;
        self.ring.push_back(entry);
    }

    /// The entries, to change what takes no room.
    pub fn iter_mut(&mut self) -> std::collections::vec_deque::IterMut<'_, T> {
        self.ring.iter_mut()
    }
}

impl<T> Deref for Part<T> {
    type Target = VecDeque<T>;

    fn deref(&self) -> &VecDeque<T> {
        &self.ring
    }
}

/// Keeps the last entries of each of its parts.
#[derive(Debug)]
pub(super) struct Rings<T> {
    parts: Box<[Mutex<Part<T>>]>,
    hasher: RandomState,
}

impl<T: Heap> Rings<T> {
    /// Rings that keep at most about `total` entries with `heap` bytes of texts.
    pub fn new(total: usize, heap: usize) -> Self {
        let part = || Part {
            ring: VecDeque::new(),
            heap: 0,
            entries_max: total / PARTS,
            heap_max: heap / PARTS,
        };
        Self {
            parts: (0..PARTS).map(|_| Mutex::new(part())).collect(),
            hasher: RandomState::default(),
        }
    }

    /// Runs `f` on the part of a client.
    pub fn with<R>(&self, client_id: &str, f: impl FnOnce(&mut Part<T>) -> R) -> R {
        let part = self.hasher.hash_one(client_id) as usize % PARTS;
        f(&mut self.parts[part].lock())
    }

    /// Runs `f` on each part in turn.
    pub fn each(&self, mut f: impl FnMut(&VecDeque<T>)) {
        for part in &self.parts {
            f(&part.lock());
        }
    }

    /// Bytes of the entries and of their texts.
    #[cfg(test)]
    pub fn bytes(&self) -> usize {
        let part = |part: &Mutex<Part<T>>| {
            let part = part.lock();
            let heap: usize = part.ring.iter().map(Heap::heap).sum();
            assert_eq!(heap, part.heap, "the sum that is kept is the sum");
            heap + part.ring.capacity() * size_of::<T>()
        };
        self.parts.iter().map(part).sum()
    }
}
