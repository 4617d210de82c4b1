//! A circuit breaker: a backend that keeps failing is left alone for a while, and its clients are answered at once.

use std::time::{Duration, Instant};

use parking_lot::Mutex;

/// Failures in a row that open the circuit.
const FAILURES: u32 = 5;
/// How long it stays open before one request may try again.
const PAUSE: Duration = Duration::from_secs(5);

/// The state of one backend.
#[derive(Debug, Default)]
pub(crate) struct Breaker {
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    failures: u32,
    /// Until when requests are refused. Each that is let through while the circuit is open pushes it on, so that only
    /// one tries.
    open_until: Option<Instant>,
}

impl Breaker {
    /// May a request be made now?
    pub fn allows(&self, now: Instant) -> bool {
        let mut state = self.state.lock();
        match state.open_until {
            Some(until) if now < until => false,
            Some(_) => {
                state.open_until = Some(now + PAUSE);
                true
            }
            None => true,
        }
    }

    pub fn succeeded(&self) {
        *self.state.lock() = State::default();
    }

    pub fn failed(&self, now: Instant) {
        let mut state = self.state.lock();
        state.failures = state.failures.saturating_add(1);
        if state.failures >= FAILURES {
            state.open_until = Some(now + PAUSE);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_opens_after_failures_in_a_row_and_lets_one_try_after_the_pause() {
        let start = Instant::now();
        let breaker = Breaker::default();
        for _ in 0..FAILURES - 1 {
            breaker.failed(start);
        }
        breaker.succeeded();
        for _ in 0..FAILURES {
            assert!(breaker.allows(start));
            breaker.failed(start);
        }
        assert!(!breaker.allows(start));
        let later = start + PAUSE;
        assert!(breaker.allows(later));
        assert!(!breaker.allows(later), "only one tries");
        breaker.failed(later);
        assert!(!breaker.allows(later + PAUSE / 2));
        assert!(breaker.allows(later + PAUSE));
        breaker.succeeded();
        assert!(breaker.allows(later + PAUSE) && breaker.allows(later + PAUSE));
    }
}
