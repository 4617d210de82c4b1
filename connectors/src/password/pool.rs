//! The threads that check passwords.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use parking_lot::{Condvar, Mutex};
use tokio::sync::oneshot;

use super::hash::PasswordHash;
use super::verified::Verified;

/// Why a password was not checked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum PoolError {
    /// More logins wait than are allowed to.
    #[error("too many logins wait for password hashing")]
    Full,
    /// A thread could not be started, or died.
    #[error("password hashing has no thread")]
    NoThread,
}

/// A few threads of low priority that check passwords, in the order they are asked, with a bounded queue.
///
/// One for the process: it is the limit. Threads start with the first check and end with the pool.
pub struct HashPool {
    shared: Arc<Shared>,
    max_threads: usize,
    max_waiting: usize,
    verified: Option<Mutex<Verified>>,
    remembered: AtomicU64,
}

struct Shared {
    state: Mutex<State>,
    wake: Condvar,
    checked: AtomicU64,
}

#[derive(Default)]
struct State {
    jobs: VecDeque<Job>,
    threads: usize,
    idle: usize,
    closed: bool,
}

struct Job {
    hash: Arc<PasswordHash>,
    password: Box<[u8]>,
    reply: oneshot::Sender<bool>,
}

impl HashPool {
    /// A pool of at most `threads` threads and `waiting` checks in the queue, that remembers what it verified for at most
    /// `remember` (`auth.cache_ttl`).
    pub fn new(threads: usize, waiting: usize, remember: Duration) -> Self {
        Self {
            shared: Arc::new(Shared {
                state: Mutex::default(),
                wake: Condvar::new(),
                checked: AtomicU64::new(0),
            }),
            max_threads: threads.max(1),
            max_waiting: waiting,
            verified: Verified::new(remember, Instant::now()).map(Mutex::new),
            remembered: AtomicU64::new(0),
        }
    }

    /// Half the cores, at least one thread, and 1,024 logins in the queue.
    pub fn for_this_machine(remember: Duration) -> Self {
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        Self::new(cores / 2, 1024, remember)
    }

    /// Checks a password: from memory if this one was verified in the last minutes, else by hashing.
    ///
    /// # Errors
    /// [`PoolError`] if the queue is full or no thread can be had; the client is told Server unavailable.
    pub async fn verify(
        &self,
        hash: &Arc<PasswordHash>,
        password: &[u8],
    ) -> Result<bool, PoolError> {
        if hash.is_cheap() {
            return Ok(hash.verify(password));
        }
        let tag = self.verified.as_ref().map(|verified| {
            let mut verified = verified.lock();
            let tag = verified.tag(hash.text(), password);
            let known = verified.holds(&tag, Instant::now());
            (tag, known)
        });
        if let Some((_, true)) = tag {
            self.remembered.fetch_add(1, Ordering::Relaxed);
            return Ok(true);
        }
        let verdict = self.submit(hash, password)?;
        let good = verdict.await.map_err(|_| PoolError::NoThread)?;
        if let (true, Some(verified), Some((tag, _))) = (good, &self.verified, tag) {
            verified.lock().remember(tag, Instant::now());
        }
        Ok(good)
    }

    /// Forgets what was verified.
    pub fn forget(&self) {
        if let Some(verified) = &self.verified {
            verified.lock().clear();
        }
    }

    /// Passwords hashed so far.
    pub fn checked(&self) -> u64 {
        self.shared.checked.load(Ordering::Relaxed)
    }

    /// Logins answered from memory so far.
    pub fn remembered(&self) -> u64 {
        self.remembered.load(Ordering::Relaxed)
    }

    /// Logins in the queue now.
    pub fn waiting(&self) -> usize {
        self.shared.state.lock().jobs.len()
    }

    fn submit(
        &self,
        hash: &Arc<PasswordHash>,
        password: &[u8],
    ) -> Result<oneshot::Receiver<bool>, PoolError> {
        let (reply, verdict) = oneshot::channel();
        let mut state = self.shared.state.lock();
        if state.jobs.len() >= self.max_waiting {
            // Clients that left meanwhile hold their place no longer.
            state.jobs.retain(|job| !job.reply.is_closed());
            if state.jobs.len() >= self.max_waiting {
                return Err(PoolError::Full);
            }
        }
        if state.idle <= state.jobs.len() && state.threads < self.max_threads {
            match self.spawn() {
                Ok(()) => state.threads += 1,
                Err(error) if state.threads == 0 => {
                    tracing::error!(%error, "cannot start a thread for password hashing");
                    return Err(PoolError::NoThread);
                }
                // The threads there are will do.
                Err(_) => {}
            }
        }
        state.jobs.push_back(Job {
            hash: Arc::clone(hash),
            password: password.into(),
            reply,
        });
        drop(state);
        self.shared.wake.notify_one();
        Ok(verdict)
    }

    fn spawn(&self) -> std::io::Result<()> {
        let shared = Arc::clone(&self.shared);
        std::thread::Builder::new()
            .name("password-hash".to_owned())
            .spawn(move || shared.run())
            .map(drop)
    }
}

impl Drop for HashPool {
    fn drop(&mut self) {
        self.shared.state.lock().closed = true;
        self.shared.wake.notify_all();
    }
}

impl Shared {
    fn run(&self) {
        lower_priority();
        let mut state = self.state.lock();
        while !state.closed {
            match state.jobs.pop_front() {
                Some(job) if job.reply.is_closed() => {}
                Some(job) => {
                    parking_lot::MutexGuard::unlocked(&mut state, || {
                        let verdict = job.hash.verify(&job.password);
                        self.checked.fetch_add(1, Ordering::Relaxed);
                        // The client may have left: then nobody wants to know.
                        let _ = job.reply.send(verdict);
                    });
                }
                None => {
                    state.idle += 1;
                    self.wake.wait(&mut state);
                    state.idle -= 1;
                }
            }
        }
    }
}

/// Lets everything else on the machine go first. On Linux a nice value belongs to the thread; elsewhere it would slow
/// the whole process, and the bound on threads has to do.
fn lower_priority() {
    #[cfg(target_os = "linux")]
    if let Err(error) = rustix::process::nice(10) {
        tracing::debug!(%error, "password hashing runs at ordinary priority");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Some milliseconds to check.
    fn slow() -> Arc<PasswordHash> {
        let text = format!("$7$200000$AAAA${}", "A".repeat(86));
        Arc::new(PasswordHash::parse(&text).expect("valid"))
    }

    fn right(password: &str) -> Arc<PasswordHash> {
        Arc::new(super::super::hash_password(password.as_bytes()).expect("hashed"))
    }

    #[tokio::test]
    async fn verified_passwords_are_not_hashed_again_and_wrong_ones_are() {
        let pool = HashPool::new(1, 8, Duration::from_secs(600));
        let hash = right("secret");
        for _ in 0..5 {
            assert_eq!(pool.verify(&hash, b"secret").await, Ok(true));
        }
        assert_eq!((pool.checked(), pool.remembered()), (1, 4));
        for _ in 0..3 {
            assert_eq!(pool.verify(&hash, b"wrong").await, Ok(false));
        }
        assert_eq!(pool.checked(), 4);
        // A changed password is not remembered under the old one.
        assert_eq!(pool.verify(&right("other"), b"secret").await, Ok(false));
        pool.forget();
        assert_eq!(pool.verify(&hash, b"secret").await, Ok(true));
        assert_eq!(pool.checked(), 6);
    }

    #[tokio::test]
    async fn the_queue_is_bounded_and_clients_that_left_leave_it() {
        let pool = HashPool::new(1, 4, Duration::ZERO);
        let hash = slow();
        let mut waiting = Vec::new();
        let full = loop {
            match pool.submit(&hash, b"x") {
                Ok(verdict) => waiting.push(verdict),
                Err(error) => break error,
            }
            assert!(waiting.len() <= 64, "the queue takes more than it may");
        };
        assert_eq!(full, PoolError::Full);
        // All leave: the next one finds room, and nobody's password is hashed for nothing.
        drop(waiting);
        assert_eq!(pool.verify(&hash, b"y").await, Ok(false));
        assert!(pool.checked() <= 64);
        assert_eq!(pool.waiting(), 0);
    }
}
