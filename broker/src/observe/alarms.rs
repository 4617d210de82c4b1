//! Alarms: what is wrong now, and what was wrong lately.

use std::collections::{BTreeMap, VecDeque};

use parking_lot::Mutex;

use crate::time::Timestamp;

/// Alarms that are over and still shown.
const HISTORY: usize = 1000;
/// Alarms at a time; a source that names them by what clients choose would else fill memory.
const ACTIVE: usize = 1000;

/// Something that needs an operator's attention.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Alarm {
    /// Its name: `high_memory`, `certificate_expiry/tls:default`.
    pub name: String,
    /// What is wrong, and what to do.
    pub message: String,
    /// Figures.
    pub details: Vec<(String, String)>,
    /// Since when.
    pub activated_at: Timestamp,
    /// Until when, if it is over.
    pub deactivated_at: Option<Timestamp>,
}

/// All alarms of a node.
#[derive(Debug, Default)]
pub struct Alarms {
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    active: BTreeMap<String, Alarm>,
    history: VecDeque<Alarm>,
    /// Changes that nobody has taken yet.
    changes: VecDeque<Alarm>,
}

impl Alarms {
    /// Raises an alarm, or brings the figures of one that is raised up to date. Returns whether it is new.
    pub fn raise(
        &self,
        name: &str,
        message: impl Into<String>,
        details: Vec<(String, String)>,
        now: Timestamp,
    ) -> bool {
        let mut state = self.state.lock();
        if let Some(alarm) = state.active.get_mut(name) {
            alarm.message = message.into();
            alarm.details = details;
            return false;
        }
        if state.active.len() >= ACTIVE {
            return false;
        }
        let alarm = Alarm {
            name: name.to_owned(),
            message: message.into(),
            details,
            activated_at: now,
            deactivated_at: None,
        };
        tracing::warn!(alarm = name, "{}", alarm.message);
        state.note(alarm.clone());
        state.active.insert(name.to_owned(), alarm);
        true
    }

    /// What an alarm was about is well again. Returns whether it was raised.
    pub fn clear(&self, name: &str, now: Timestamp) -> bool {
        let mut state = self.state.lock();
        let Some(mut alarm) = state.active.remove(name) else {
            return false;
        };
        alarm.deactivated_at = Some(now);
        tracing::info!(
            alarm = name,
            "over after {} s: {}",
            now.since(alarm.activated_at) / 1000,
            alarm.message
        );
        state.note(alarm.clone());
        state.history.push_back(alarm);
        if state.history.len() > HISTORY {
            state.history.pop_front();
        }
        true
    }

    /// Raises or clears by a condition.
    pub fn set(
        &self,
        raised: bool,
        name: &str,
        message: impl FnOnce() -> (String, Vec<(String, String)>),
        now: Timestamp,
    ) {
        if raised {
            let (message, details) = message();
            self.raise(name, message, details, now);
        } else {
            self.clear(name, now);
        }
    }

    /// Alarms that are raised, by name.
    #[must_use]
    pub fn active(&self) -> Vec<Alarm> {
        self.state.lock().active.values().cloned().collect()
    }

    /// Number of alarms that are raised.
    #[must_use]
    pub fn active_count(&self) -> usize {
        self.state.lock().active.len()
    }

    /// Alarms that are over, newest first.
    #[must_use]
    pub fn history(&self) -> Vec<Alarm> {
        self.state.lock().history.iter().rev().cloned().collect()
    }

    /// Forgets the alarms that are over.
    pub fn forget_history(&self) {
        self.state.lock().history.clear();
    }

    /// Takes what changed since the last call, oldest first: each alarm as it was raised or cleared.
    #[must_use]
    pub fn take_changes(&self) -> Vec<Alarm> {
        std::mem::take(&mut self.state.lock().changes).into()
    }
}

impl State {
    fn note(&mut self, alarm: Alarm) {
        self.changes.push_back(alarm);
        if self.changes.len() > ACTIVE {
            self.changes.pop_front();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_alarm_is_raised_once_and_goes_into_the_history() {
        let alarms = Alarms::default();
        assert!(alarms.raise("high_memory", "m", vec![], Timestamp(1)));
        assert!(!alarms.raise("high_memory", "more", vec![], Timestamp(2)));
        assert_eq!(alarms.active()[0].message, "more");
        assert_eq!(alarms.active()[0].activated_at, Timestamp(1));
        assert!(alarms.clear("high_memory", Timestamp(3)));
        assert!(!alarms.clear("high_memory", Timestamp(4)));
        assert_eq!(alarms.history()[0].deactivated_at, Some(Timestamp(3)));
        assert_eq!(alarms.take_changes().len(), 2);
        assert!(alarms.take_changes().is_empty());
        for n in 0..5000_u64 {
            alarms.raise(&n.to_string(), "x", vec![], Timestamp(n));
            alarms.clear(&n.to_string(), Timestamp(n));
        }
        assert_eq!(alarms.history().len(), HISTORY);
    }
}
