//! Patience with a database, and its end.

use std::time::{Duration, Instant};

use crate::breaker::Breaker;

/// A time limit for each question, and a circuit breaker over them: a database that is down is asked now and then only.
#[derive(Debug)]
pub struct Guard {
    limit: Duration,
    breaker: Breaker,
}

impl Guard {
    /// With this time for one question, waiting for a connection included.
    pub fn new(limit: Duration) -> Self {
        Self {
            limit,
            breaker: Breaker::default(),
        }
    }

    /// Waits for an answer, not longer than the limit.
    ///
    /// # Errors
    /// What the database says, or that it was too slow or not asked.
    pub async fn wait<T>(
        &self,
        question: impl Future<Output = Result<T, String>>,
    ) -> Result<T, String> {
        if !self.breaker.allows(Instant::now()) {
            return Err("not asked: the database failed several times in a row".to_owned());
        }
        let answer = tokio::time::timeout(self.limit, question).await;
        let answer = answer.unwrap_or_else(|_| Err("no answer in time".to_owned()));
        match &answer {
            Ok(_) => self.breaker.succeeded(),
            Err(_) => self.breaker.failed(Instant::now()),
        }
        answer
    }
}
