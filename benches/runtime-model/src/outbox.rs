//! The bounded queue of one subscriber with its wake protocol.

use parking_lot::Mutex;
use std::collections::VecDeque;
use std::sync::Arc;
use std::task::Waker;

/// Queue limit in messages; the load generator's windows stay below it, so a drop is a bug of the generator.
const LIMIT: usize = 20_000;

/// Deliveries waiting for one subscriber's task.
#[derive(Default)]
pub struct Outbox {
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    queue: VecDeque<Arc<[u8]>>,
    waker: Option<Waker>,
    /// The task found the queue empty and waits: the next push must wake it, later ones need not.
    armed: bool,
    dropped: u64,
}

impl Outbox {
    /// Queues a message; returns the waker when the task must be woken.
    pub fn push(&self, message: Arc<[u8]>) -> Option<Waker> {
        let mut state = self.state.lock();
        if state.queue.len() >= LIMIT {
            state.dropped += 1;
            return None;
        }
        state.queue.push_back(message);
        if state.armed {
            state.armed = false;
            state.waker.clone()
        } else {
            None
        }
    }

    /// Queues a run of messages under one lock; returns the waker when the task must be woken.
    pub fn push_all(&self, messages: &[Arc<[u8]>]) -> Option<Waker> {
        let mut state = self.state.lock();
        let fit = messages.len().min(LIMIT.saturating_sub(state.queue.len()));
        state.queue.extend(messages[..fit].iter().cloned());
        state.dropped += (messages.len() - fit) as u64;
        if state.armed && fit > 0 {
            state.armed = false;
            state.waker.clone()
        } else {
            None
        }
    }

    /// Encodes up to `limit` bytes of queued messages into `out`. When the queue is empty afterwards the outbox is
    /// armed with `waker` and the result is `true`.
    pub fn drain(
        &self,
        out: &mut Vec<u8>,
        limit: usize,
        taken: &mut Vec<Arc<[u8]>>,
        waker: &Waker,
    ) -> bool {
        let empty = {
            let mut state = self.state.lock();
            let mut bytes = 0;
            while bytes < limit {
                let Some(message) = state.queue.pop_front() else {
                    break;
                };
                bytes += message.len() + 4;
                taken.push(message);
            }
            let empty = state.queue.is_empty();
            if empty {
                if state.queue.capacity() > 64 {
                    state.queue.shrink_to(64);
                }
                if !state.waker.as_ref().is_some_and(|w| w.will_wake(waker)) {
                    state.waker = Some(waker.clone());
                }
                state.armed = true;
            }
            empty
        };
        // Copying happens outside of the lock: a publisher must not wait for it.
        for message in taken.drain(..) {
            out.extend_from_slice(&(message.len() as u32).to_be_bytes());
            out.extend_from_slice(&message);
        }
        empty
    }
}
