//! Tickets: the promise that something submitted will be committed, on which acknowledgements wait.

use std::sync::Arc;
use std::task::Waker;

use crate::sync::Mutex;
use nightjar_mqtt::ReasonCode;

/// The state that a submitter's [`Ticket`] and the one who completes it share.
#[derive(Debug)]
pub struct Completion {
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    /// Parts still to come.
    pending: u32,
    failed: Option<ReasonCode>,
    waker: Option<Waker>,
    /// Other tickets it waits for.
    others: Vec<Ticket>,
}

impl Completion {
    /// A completion that is done after `parts` calls of [`Self::complete`].
    #[must_use]
    pub fn new(parts: u32) -> Arc<Self> {
        Arc::new(Self {
            state: Mutex::new(State {
                pending: parts,
                failed: None,
                waker: None,
                others: Vec::new(),
            }),
        })
    }

    /// One part is done; the first failure stays. Wakes the waiter after the last part.
    pub fn complete(&self, result: Result<(), ReasonCode>) {
        let waker = {
            let mut state = self.state.lock();
            if let Err(code) = result {
                state.failed.get_or_insert(code);
            }
            state.pending = state.pending.saturating_sub(1);
            if state.pending > 0 {
                None
            } else {
                state.waker.take()
            }
        };
        if let Some(waker) = waker {
            waker.wake();
        }
    }

    /// One part is done when this ticket is, and as it is.
    pub fn follow(&self, ticket: Ticket) {
        let waker = {
            let mut state = self.state.lock();
            state.pending = state.pending.saturating_sub(1);
            state.others.push(ticket);
            state.waker.take()
        };
        // Whoever waits looks again, and waits for the ticket from then on.
        if let Some(waker) = waker {
            waker.wake();
        }
    }

    /// Gives up on all parts still open (a stall that timed out).
    pub fn finish(&self) {
        let waker = {
            let mut state = self.state.lock();
            state.pending = 0;
            state.waker.take()
        };
        if let Some(waker) = waker {
            waker.wake();
        }
    }

    fn of(others: Vec<Ticket>) -> Arc<Self> {
        Arc::new(Self {
            state: Mutex::new(State {
                pending: 0,
                failed: None,
                waker: None,
                others,
            }),
        })
    }

    fn poll(&self, waker: Option<&Waker>) -> Progress {
        let mut state = self.state.lock();
        let mut failed = state.failed;
        state.others.retain(|other| match other.poll(waker) {
            Progress::Pending => true,
            Progress::Done => false,
            Progress::Failed(code) => {
                failed.get_or_insert(code);
                false
            }
        });
        state.failed = failed;
        if state.pending > 0 || !state.others.is_empty() {
            if let Some(waker) = waker
                && !state.waker.as_ref().is_some_and(|old| old.will_wake(waker))
            {
                state.waker = Some(waker.clone());
            }
            return Progress::Pending;
        }
        failed.map_or(Progress::Done, Progress::Failed)
    }
}

/// How far a ticket is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Progress {
    /// Not yet committed.
    Pending,
    /// Committed.
    Done,
    /// Will not be committed: the code for the client.
    Failed(ReasonCode),
}

/// A promise of the durable backend. The default ticket is done: nothing to wait for.
#[derive(Debug, Clone, Default)]
pub struct Ticket(Option<Arc<Completion>>);

impl Ticket {
    /// Nothing to wait for.
    pub const DONE: Self = Self(None);

    /// Something that will not be committed.
    #[must_use]
    pub fn failed(code: ReasonCode) -> Self {
        let completion = Completion::new(1);
        completion.complete(Err(code));
        Self(Some(completion))
    }

    /// A ticket on this completion.
    #[must_use]
    pub const fn on(completion: Arc<Completion>) -> Self {
        Self(Some(completion))
    }

    /// Done when all of these are.
    #[must_use]
    pub fn all(tickets: impl IntoIterator<Item = Self>) -> Self {
        let open: Vec<Self> = tickets
            .into_iter()
            .filter(|ticket| !matches!(ticket.poll(None), Progress::Done))
            .collect();
        match open.len() {
            0 => Self::DONE,
            1 => open.into_iter().next().unwrap_or_default(),
            _ => Self(Some(Completion::of(open))),
        }
    }

    /// How far it is; while pending, `waker` is called when that changes. One waiter at a time.
    #[must_use]
    pub fn poll(&self, waker: Option<&Waker>) -> Progress {
        self.0
            .as_ref()
            .map_or(Progress::Done, |completion| completion.poll(waker))
    }

    /// Is it not decided yet? What is decided may have failed.
    #[must_use]
    pub fn is_pending(&self) -> bool {
        self.poll(None) == Progress::Pending
    }

    /// Waits for it.
    ///
    /// # Errors
    /// The reason code for the client if it will not be committed.
    pub async fn wait(&self) -> Result<(), ReasonCode> {
        std::future::poll_fn(|cx| match self.poll(Some(cx.waker())) {
            Progress::Pending => std::task::Poll::Pending,
            Progress::Done => std::task::Poll::Ready(Ok(())),
            Progress::Failed(code) => std::task::Poll::Ready(Err(code)),
        })
        .await
    }
}
