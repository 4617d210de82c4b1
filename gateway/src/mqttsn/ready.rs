//! Which clients of a shard were woken: somebody published, a verdict is there, something is kept.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Wake, Waker};

use parking_lot::Mutex;
use tokio::sync::Notify;

/// Clients of one shard that have something to do.
#[derive(Default)]
pub(super) struct Ready {
    pub list: Mutex<Vec<Arc<ClientWaker>>>,
    pub notify: Notify,
}

/// Puts a client on the list of its shard, once.
pub(super) struct ClientWaker {
    /// `u32::MAX`: the messages without a client.
    pub slot: u32,
    pub generation: u32,
    pub queued: AtomicBool,
    ready: Arc<Ready>,
}

impl ClientWaker {
    /// Of one client of the shard.
    pub fn waker(ready: &Arc<Ready>, slot: u32, generation: u32) -> Waker {
        Waker::from(Arc::new(Self {
            slot,
            generation,
            queued: AtomicBool::new(false),
            ready: ready.clone(),
        }))
    }
}

impl Wake for ClientWaker {
    fn wake(self: Arc<Self>) {
        if self.queued.swap(true, Ordering::AcqRel) {
            return;
        }
        let ready = self.ready.clone();
        let first = {
            let mut list = ready.list.lock();
            list.push(self);
            list.len() == 1
        };
        if first {
            ready.notify.notify_one();
        }
    }
}
