//! How often CONNECT was accepted or refused, by reason.

use std::sync::atomic::{AtomicU64, Ordering};

use super::chain::Refusal;

/// Counters of an [`super::AuthChain`] since its start; they survive a reload.
#[derive(Debug, Default)]
pub struct AuthCounters {
    /// Let in by an authenticator or an exchange.
    authenticated: AtomicU64,
    /// Let in by the anonymous rule.
    anonymous: AtomicU64,
    refused: [AtomicU64; Refusal::ALL.len()],
}

impl AuthCounters {
    /// CONNECTs let in by an authenticator or an enhanced authentication.
    pub fn authenticated(&self) -> u64 {
        self.authenticated.load(Ordering::Relaxed)
    }

    /// CONNECTs let in by the anonymous rule.
    pub fn anonymous(&self) -> u64 {
        self.anonymous.load(Ordering::Relaxed)
    }

    /// CONNECTs refused for a reason.
    pub fn refused(&self, reason: Refusal) -> u64 {
        self.refused[reason as usize].load(Ordering::Relaxed)
    }

    pub(super) fn count_authenticated(&self) {
        self.authenticated.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn count_anonymous(&self) {
        self.anonymous.fetch_add(1, Ordering::Relaxed);
    }

    /// Counts and returns the number so far, this one included.
    pub(super) fn count_refused(&self, reason: Refusal) -> u64 {
        self.refused[reason as usize].fetch_add(1, Ordering::Relaxed) + 1
    }
}
