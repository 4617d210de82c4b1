//! A value that most owners never need: one word until it is written to.

use std::ops::{Deref, DerefMut};
use std::sync::Arc;

use crate::shard::{Queue, Queued};
use crate::ticket::Completion;

/// What stands for a value that was never written.
pub(crate) trait Empty: Default + 'static {
    fn empty() -> &'static Self;
    fn is_empty(&self) -> bool;
}

macro_rules! empty {
    ($($ty:ty => $new:expr),* $(,)?) => {$(
        impl Empty for $ty {
            fn empty() -> &'static Self {
                static EMPTY: $ty = $new;
                &EMPTY
            }

            fn is_empty(&self) -> bool {
                <$ty>::is_empty(self)
            }
        }
    )*};
}

empty! {
    Vec<u16> => Vec::new(),
    Queue<Queued> => Queue::new(),
    Vec<Arc<Completion>> => Vec::new(),
}

/// A collection of which an owner that has nothing in it keeps a null pointer. Reading never makes it, writing does.
#[derive(Debug, Clone)]
pub(crate) struct Lazy<T>(Option<Box<T>>);

impl<T> Default for Lazy<T> {
    fn default() -> Self {
        Self(None)
    }
}

impl<T: Empty> Lazy<T> {
    /// Takes it out.
    pub fn take(&mut self) -> T {
        self.0.take().map_or_else(T::default, |it| *it)
    }

    /// Gives its room back if there is nothing in it.
    pub fn shrink(&mut self) {
        if self.0.as_ref().is_some_and(|it| it.is_empty()) {
            self.0 = None;
        }
    }
}

impl<T: Empty> Deref for Lazy<T> {
    type Target = T;

    fn deref(&self) -> &T {
        self.0.as_deref().unwrap_or_else(|| T::empty())
    }
}

impl<T: Empty> DerefMut for Lazy<T> {
    fn deref_mut(&mut self) -> &mut T {
        self.0.get_or_insert_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_one_word_until_it_is_written_to() {
        assert_eq!(size_of::<Lazy<Vec<u16>>>(), size_of::<usize>());
        let mut list = Lazy::<Vec<u16>>::default();
        assert!(list.is_empty() && list.iter().next().is_none() && list.0.is_none());
        list.push(7);
        list.shrink();
        assert_eq!(*list, [7]);
        list.clear();
        list.shrink();
        assert!(list.0.is_none() && list.take().is_empty());
    }
}
