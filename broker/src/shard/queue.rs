//! The queue of a session: a deque in pieces, so that a copy of a long one costs its pointers and a change of it one
//! piece.

use std::collections::VecDeque;
use std::ops::Index;

use triomphe::Arc;

/// A deque of which copies share what lies behind the first piece. A short one is a plain deque and nothing more.
#[derive(Debug, Clone)]
pub(crate) struct Queue<T, const PIECE: usize = 256> {
    /// The first items, at most a piece of them. Not empty if anything lies behind it.
    head: VecDeque<T>,
    rest: Option<Box<Rest<T>>>,
}

/// What lies behind the head.
#[derive(Debug, Clone)]
struct Rest<T> {
    /// None of them is empty.
    pieces: VecDeque<Arc<VecDeque<T>>>,
    /// Items in all of them.
    len: usize,
}

impl<T, const PIECE: usize> Default for Queue<T, PIECE> {
    fn default() -> Self {
        Self::new()
    }
}

impl<T, const PIECE: usize> Queue<T, PIECE> {
    /// Nothing.
    pub const fn new() -> Self {
        Self {
            head: VecDeque::new(),
            rest: None,
        }
    }

    /// Number of items.
    pub fn len(&self) -> usize {
        self.head.len() + self.rest.as_ref().map_or(0, |rest| rest.len)
    }

    /// Is there nothing?
    pub fn is_empty(&self) -> bool {
        self.head.is_empty()
    }

    /// Items that its first part has room for.
    pub fn capacity(&self) -> usize {
        self.head.capacity()
    }

    fn pieces(&self) -> impl Iterator<Item = &VecDeque<T>> {
        self.rest
            .iter()
            .flat_map(|rest| rest.pieces.iter().map(|piece| &**piece))
    }

    /// The item at a place.
    pub fn get(&self, at: usize) -> Option<&T> {
        let Some(mut at) = at.checked_sub(self.head.len()) else {
            return self.head.get(at);
        };
        for piece in self.pieces() {
            match at.checked_sub(piece.len()) {
                Some(left) => at = left,
                None => return piece.get(at),
            }
        }
        None
    }

    /// The last one.
    pub fn back(&self) -> Option<&T> {
        match &self.rest {
            Some(rest) => rest.pieces.back()?.back(),
            None => self.head.back(),
        }
    }

    /// All from this place on.
    pub fn from(&self, at: usize) -> impl Iterator<Item = &T> {
        let first = at.min(self.head.len());
        let mut left = at - first;
        let behind = self.pieces().flat_map(move |piece| {
            let skipped = left.min(piece.len());
            left -= skipped;
            piece.range(skipped..)
        });
        self.head.range(first..).chain(behind)
    }

    /// All of them.
    pub fn iter(&self) -> impl Iterator<Item = &T> {
        self.from(0)
    }

    /// The place of the first item of which `is_before` is not true; it is true of all before that one. What is asked for
    /// is the first one or lies in the first pieces nearly always, so they are looked through from the front.
    pub fn partition_point(&self, mut is_before: impl FnMut(&T) -> bool) -> usize {
        if !self.head.front().is_some_and(&mut is_before) {
            return 0;
        }
        if self.rest.is_none() {
            return self.head.partition_point(is_before);
        }
        let mut passed = 0;
        for piece in std::iter::once(&self.head).chain(self.pieces()) {
            if !piece.back().is_some_and(&mut is_before) {
                return passed + piece.partition_point(is_before);
            }
            passed += piece.len();
        }
        passed
    }
}

impl<T: Clone, const PIECE: usize> Queue<T, PIECE> {
    /// Puts an item at the end.
    pub fn push_back(&mut self, item: T) {
        if self.rest.is_none() && self.head.len() < PIECE {
            self.head.push_back(item);
            return;
        }
        let rest = self.rest.get_or_insert_with(|| {
            Box::new(Rest {
                pieces: VecDeque::new(),
                len: 0,
            })
        });
        rest.len += 1;
        match rest.pieces.back_mut() {
            Some(last) if last.len() < PIECE => Arc::make_mut(last).push_back(item),
            _ => {
                let mut piece = VecDeque::with_capacity(PIECE);
                piece.push_back(item);
                rest.pieces.push_back(Arc::new(piece));
            }
        }
    }

    /// Takes the item at a place out.
    pub fn remove(&mut self, at: usize) -> Option<T> {
        let Some(mut at) = at.checked_sub(self.head.len()) else {
            let item = match at {
                0 => self.head.pop_front(),
                at => self.head.remove(at),
            };
            if self.head.is_empty() {
                self.refill();
            }
            return item;
        };
        let rest = self.rest.as_deref_mut()?;
        for (number, piece) in rest.pieces.iter_mut().enumerate() {
            if let Some(left) = at.checked_sub(piece.len()) {
                at = left;
                continue;
            }
            let item = Arc::make_mut(piece).remove(at);
            rest.len -= 1;
            if piece.is_empty() {
                rest.pieces.remove(number);
            }
            if rest.len == 0 {
                self.rest = None;
            }
            return item;
        }
        None
    }

    /// The first piece of the rest becomes the head.
    fn refill(&mut self) {
        let Some(rest) = &mut self.rest else { return };
        if let Some(piece) = rest.pieces.pop_front() {
            rest.len -= piece.len();
            self.head = Arc::unwrap_or_clone(piece);
        }
        if rest.len == 0 {
            self.rest = None;
        }
    }

    /// The item at a place, to be changed.
    pub fn get_mut(&mut self, at: usize) -> Option<&mut T> {
        let Some(mut at) = at.checked_sub(self.head.len()) else {
            return self.head.get_mut(at);
        };
        for piece in &mut self.rest.as_deref_mut()?.pieces {
            match at.checked_sub(piece.len()) {
                Some(left) => at = left,
                None => return Arc::make_mut(piece).get_mut(at),
            }
        }
        None
    }

    /// Changes what `find` finds something for, from this place on. Pieces in which it finds nothing stay shared.
    pub fn change_from<U>(
        &mut self,
        at: usize,
        mut find: impl FnMut(&T) -> Option<U>,
        mut change: impl FnMut(&mut T, U),
    ) {
        let first = at.min(self.head.len());
        let mut left = at - first;
        for item in self.head.range_mut(first..) {
            if let Some(found) = find(item) {
                change(item, found);
            }
        }
        let Some(rest) = &mut self.rest else { return };
        for piece in &mut rest.pieces {
            let skipped = left.min(piece.len());
            left -= skipped;
            for at in skipped..piece.len() {
                if let Some(found) = find(&piece[at]) {
                    change(&mut Arc::make_mut(piece)[at], found);
                }
            }
        }
    }

    /// All of them, taken out.
    pub fn into_items(self) -> impl Iterator<Item = T> {
        let pieces = self.rest.map(|rest| rest.pieces).unwrap_or_default();
        self.head
            .into_iter()
            .chain(pieces.into_iter().flat_map(Arc::unwrap_or_clone))
    }
}

impl<T, const PIECE: usize> Index<usize> for Queue<T, PIECE> {
    type Output = T;

    fn index(&self, at: usize) -> &T {
        self.get(at).expect("the place is within the queue")
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[derive(Debug, Clone)]
    enum Step {
        Push(u8),
        Remove(usize),
        Set(usize),
        ChangeFrom(usize, u64),
        Copy,
        Forget,
    }

    fn step() -> impl Strategy<Value = Step> {
        prop_oneof![
            4 => (1..20u8).prop_map(Step::Push),
            3 => (0..6usize).prop_map(Step::Remove),
            2 => (0..60usize).prop_map(Step::Remove),
            2 => (0..60usize).prop_map(Step::Set),
            1 => (0..60usize, 1..30u64).prop_map(|(at, by)| Step::ChangeFrom(at, by)),
            2 => Just(Step::Copy),
            1 => Just(Step::Forget),
        ]
    }

    fn all<const PIECE: usize>(queue: &Queue<u64, PIECE>) -> Vec<u64> {
        queue.iter().copied().collect()
    }

    proptest! {
        #[test]
        fn it_is_a_deque_and_copies_keep_what_they_had(
            steps in prop::collection::vec(step(), 0..80),
        ) {
            let mut queue = Queue::<u64, 4>::new();
            let mut model = VecDeque::new();
            let mut copies: Vec<(Queue<u64, 4>, Vec<u64>)> = Vec::new();
            let mut next = 0;
            for step in steps {
                match step {
                    Step::Push(count) => for _ in 0..count {
                        // They rise, with gaps, as sequences do.
                        next += 3;
                        queue.push_back(next);
                        model.push_back(next);
                    },
                    Step::Remove(at) => prop_assert_eq!(queue.remove(at), model.remove(at)),
                    Step::Set(at) => {
                        // Still between its neighbours.
                        let change = |item: &mut u64| *item = *item / 3 * 3 + 1;
                        prop_assert_eq!(queue.get_mut(at).map(change), model.get_mut(at).map(change));
                    }
                    Step::ChangeFrom(at, by) => {
                        let find = |item: &u64| (item / 3).is_multiple_of(by).then_some(2);
                        queue.change_from(at, find, |item, to| *item = *item / 3 * 3 + to);
                        for item in model.iter_mut().skip(at).filter(|item| find(item).is_some()) {
                            *item = *item / 3 * 3 + 2;
                        }
                    }
                    Step::Copy => copies.push((queue.clone(), all(&queue))),
                    Step::Forget => drop(copies.pop()),
                }
                prop_assert_eq!(queue.len(), model.len());
                prop_assert_eq!(queue.is_empty(), model.is_empty());
                prop_assert_eq!(queue.back(), model.back());
                prop_assert!(queue.iter().eq(model.iter()));
                for at in 0..model.len() + 2 {
                    prop_assert_eq!(queue.get(at), model.get(at));
                    prop_assert!(queue.from(at).eq(model.iter().skip(at)));
                }
                for than in [0, next / 3, next / 2, next, next + 1] {
                    prop_assert_eq!(
                        queue.partition_point(|item| *item < than),
                        model.partition_point(|item| *item < than)
                    );
                }
                for (copy, had) in &copies {
                    prop_assert_eq!(&all(copy), had);
                }
            }
            for (copy, had) in copies {
                prop_assert_eq!(copy.into_items().collect::<Vec<_>>(), had);
            }
            prop_assert!(queue.into_items().eq(model));
        }
    }

    #[test]
    fn a_copy_shares_all_but_its_head_and_a_change_copies_one_piece() {
        let mut queue = Queue::<u64, 4>::new();
        (0..20).for_each(|item| queue.push_back(item));
        let copy = queue.clone();
        *queue.get_mut(9).expect("it is there") = 99;
        let shared: Vec<bool> = queue
            .pieces()
            .zip(copy.pieces())
            .map(|(one, two)| std::ptr::eq(one, two))
            .collect();
        assert_eq!(shared, [true, false, true, true]);
        assert!(copy.iter().copied().eq(0..20));
    }
}
