//! The mutex of what threads share on the message path: parking_lot's, or loom's when the wake protocol is checked
//! (`RUSTFLAGS="--cfg loom" cargo test -p nightjar-broker --test loom --release`).

#[cfg(not(loom))]
pub use parking_lot::Mutex;

#[cfg(loom)]
pub use model::Mutex;

#[cfg(loom)]
mod model {
    /// loom's mutex with parking_lot's way of locking.
    #[derive(Debug, Default)]
    pub struct Mutex<T>(loom::sync::Mutex<T>);

    impl<T> Mutex<T> {
        /// A mutex around `value`.
        pub fn new(value: T) -> Self {
            Self(loom::sync::Mutex::new(value))
        }

        /// Locks it.
        pub fn lock(&self) -> loom::sync::MutexGuard<'_, T> {
            self.0
                .lock()
                .expect("no thread of a model panics while it holds the lock")
        }
    }
}
