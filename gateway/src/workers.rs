//! The runtime that listeners and connections run on.
//!
//! One multi-thread runtime with a worker for each core and a task for each connection, chosen by measurement
//! (docs/decisions/0001-runtime-model.md): a wake that stays on one worker costs half of one that crosses pinned
//! runtimes. [`Workers`] hides the choice from listeners and connections.

use std::future::Future;
use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use tokio::runtime::{Builder, Handle, Runtime};
use tokio::task::JoinHandle;

use crate::error::GatewayError;

/// Threads for calls that block: files, name look-ups, password hashes.
const MAX_BLOCKING: usize = 64;

/// The running workers. Clones are handles of the same workers; [`Workers::stop`] ends them.
#[derive(Debug, Clone)]
pub struct Workers {
    handle: Handle,
    count: usize,
    runtime: Arc<Mutex<Option<Runtime>>>,
}

impl Workers {
    /// Starts `count` workers (0: one for each core).
    ///
    /// # Errors
    /// [`GatewayError::Workers`] if a thread or its poller cannot be made.
    pub fn start(count: usize) -> Result<Self, GatewayError> {
        let count = match count {
            0 => std::thread::available_parallelism().map_or(1, usize::from),
            n => n,
        };
        let runtime = Builder::new_multi_thread()
            .worker_threads(count)
            .max_blocking_threads(MAX_BLOCKING)
            .thread_name("worker")
            .enable_all()
            .build()
            .map_err(GatewayError::Workers)?;
        let handle = runtime.handle().clone();
        Ok(Self {
            handle,
            count,
            runtime: Arc::new(Mutex::new(Some(runtime))),
        })
    }

    /// The workers of the runtime this is called in, which somebody else owns: [`Workers::stop`] does not end it.
    ///
    /// # Panics
    /// Outside of a runtime.
    #[must_use]
    pub fn current() -> Self {
        let handle = Handle::current();
        let count = handle.metrics().num_workers();
        Self {
            handle,
            count,
            runtime: Arc::new(Mutex::new(None)),
        }
    }

    /// How many workers there are; at least one.
    #[must_use]
    pub fn count(&self) -> usize {
        self.count
    }

    /// Runs a future on the workers. After [`Workers::stop`] it is dropped without being polled.
    pub fn spawn<F>(&self, future: F) -> JoinHandle<F::Output>
    where
        F: Future + Send + 'static,
        F::Output: Send + 'static,
    {
        self.handle.spawn(future)
    }

    /// Runs a future on the workers and waits for it on this thread, which must not be a worker.
    pub fn block_on<F: Future>(&self, future: F) -> F::Output {
        self.handle.block_on(future)
    }

    /// The tokio handle, for timers and blocking calls.
    #[must_use]
    pub fn handle(&self) -> &Handle {
        &self.handle
    }

    /// Ends the workers and waits for their threads, at most `limit`. Tasks that still run are dropped at their next
    /// await: end listeners and connections first. Blocks: not to be called on a worker. True if all threads ended in
    /// time; a second call does nothing.
    pub fn stop(&self, limit: Duration) -> bool {
        let Some(runtime) = self.runtime.lock().take() else {
            return true;
        };
        let begun = Instant::now();
        runtime.shutdown_timeout(limit);
        begun.elapsed() < limit
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn futures_run_on_worker_threads_and_stop_drops_what_still_runs() {
        let workers = Workers::start(2).unwrap();
        assert_eq!(workers.count(), 2);
        let name = workers.spawn(async { std::thread::current().name().map(str::to_owned) });
        assert_eq!(workers.block_on(name).unwrap().as_deref(), Some("worker"));
        let forever = workers.spawn(std::future::pending::<()>());
        assert!(workers.stop(Duration::from_secs(5)));
        assert!(workers.stop(Duration::ZERO));
        let outside = Builder::new_current_thread().build().unwrap();
        assert!(outside.block_on(forever).unwrap_err().is_cancelled());
    }
}
