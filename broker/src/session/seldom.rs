//! A collection that most sessions never use: one word until it holds something, and again when it is empty.

use std::collections::VecDeque;

/// A queue of which an idle session keeps no more than a null pointer.
#[derive(Debug)]
#[expect(
    clippy::box_collection,
    reason = "one word in place of four is what it is for"
)]
pub(super) struct Seldom<T>(Option<Box<VecDeque<T>>>);

impl<T> Default for Seldom<T> {
    fn default() -> Self {
        Self(None)
    }
}

impl<T> Seldom<T> {
    pub const fn is_empty(&self) -> bool {
        self.0.is_none()
    }

    pub fn len(&self) -> usize {
        self.0.as_ref().map_or(0, |queue| queue.len())
    }

    pub fn push_back(&mut self, item: T) {
        self.0.get_or_insert_default().push_back(item);
    }

    pub fn front(&self) -> Option<&T> {
        self.0.as_ref()?.front()
    }

    pub fn pop_front(&mut self) -> Option<T> {
        let item = self.0.as_mut()?.pop_front();
        self.shrink();
        item
    }

    pub fn iter_mut(&mut self) -> impl DoubleEndedIterator<Item = &mut T> {
        self.0.iter_mut().flat_map(|queue| queue.iter_mut())
    }

    /// All that it holds; it is empty then.
    pub fn take(&mut self) -> impl Iterator<Item = T> {
        self.0.take().into_iter().flat_map(|queue| *queue)
    }

    fn shrink(&mut self) {
        if self.0.as_ref().is_some_and(|queue| queue.is_empty()) {
            self.0 = None;
        }
    }
}

impl<T: Ord> Seldom<T> {
    /// Keeps what it holds ascending: `Err` with the place where an item would go if it is not there.
    pub fn binary_search(&self, item: &T) -> Result<usize, usize> {
        self.0
            .as_ref()
            .map_or(Err(0), |queue| queue.binary_search(item))
    }

    pub fn contains(&self, item: &T) -> bool {
        self.0.as_ref().is_some_and(|queue| queue.contains(item))
    }

    pub fn insert(&mut self, at: usize, item: T) {
        self.0.get_or_insert_default().insert(at, item);
    }

    pub fn remove(&mut self, at: usize) {
        if let Some(queue) = &mut self.0 {
            queue.remove(at);
        }
        self.shrink();
    }
}

impl<T> FromIterator<T> for Seldom<T> {
    fn from_iter<I: IntoIterator<Item = T>>(items: I) -> Self {
        let queue: VecDeque<T> = items.into_iter().collect();
        Self((!queue.is_empty()).then(|| Box::new(queue)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_one_word_when_empty_and_a_queue_when_not() {
        assert_eq!(size_of::<Seldom<[u64; 8]>>(), size_of::<usize>());
        let mut queue = Seldom::default();
        assert!(queue.is_empty() && queue.front().is_none() && queue.pop_front().is_none());
        queue.push_back(2);
        queue.push_back(4);
        assert_eq!(queue.binary_search(&4), Ok(1));
        assert_eq!(queue.binary_search(&3), Err(1));
        queue.insert(1, 3);
        assert!(queue.contains(&3) && queue.len() == 3);
        queue.remove(0);
        assert_eq!(queue.iter_mut().next_back(), Some(&mut 4));
        assert_eq!(queue.pop_front(), Some(3));
        assert_eq!(queue.take().collect::<Vec<_>>(), [4]);
        assert!(queue.is_empty() && queue.0.is_none());
        let full: Seldom<u8> = [1].into_iter().collect();
        let empty: Seldom<u8> = [].into_iter().collect();
        assert!(!full.is_empty() && empty.0.is_none());
    }
}
