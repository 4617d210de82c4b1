//! Wills that a shard owes and that will be retained: a will that is published late must not replace what was retained for
//! its topic since it was due.

use std::collections::BTreeMap;

use nightjar_mqtt::TopicName;

use super::session::{Duty, SessionShard};

/// Duties whose wills are to be retained, by topic. One that is missing here, though owed, is superseded.
#[derive(Debug, Default, Clone)]
pub(super) struct DueWills(BTreeMap<TopicName, Vec<u64>>);

impl DueWills {
    /// The shard owes this from now on.
    pub fn note(&mut self, number: u64, duty: &Duty) {
        if let Duty::Will { message, .. } = duty
            && message.retain()
        {
            let topic = message.topic().clone();
            self.0.entry(topic).or_default().push(number);
        }
    }

    /// The shard owes it no more.
    pub fn forget(&mut self, number: u64, duty: &Duty) {
        if let Duty::Will { message, .. } = duty
            && let Some(numbers) = self.0.get_mut(message.topic())
        {
            numbers.retain(|have| *have != number);
            if numbers.is_empty() {
                self.0.remove(message.topic());
            }
        }
    }

    /// Is what this duty's will says to be retained, when it is published?
    fn retains(&self, number: u64, duty: &Duty) -> bool {
        matches!(duty, Duty::Will { message, .. }
            if self.0.get(message.topic()).is_some_and(|numbers| numbers.contains(&number)))
    }

    /// Is this a will that would be retained if nothing newer had been?
    pub fn is_superseded(&self, number: u64, duty: &Duty) -> bool {
        matches!(duty, Duty::Will { message, .. } if message.retain())
            && !self.retains(number, duty)
    }
}

impl SessionShard {
    /// Does the shard owe wills that are to be retained?
    #[must_use]
    pub fn owes_retained_wills(&self) -> bool {
        !self.due_wills.0.is_empty()
    }

    /// Is what this duty's will says to be retained, when it is published? Not if something was retained for its topic since
    /// it was due, or if it was published.
    #[must_use]
    pub fn retains_will(&self, duty: u64) -> bool {
        let owed = self.duties.get(&duty);
        owed.is_some_and(|owed| self.due_wills.retains(duty, owed))
    }

    /// Something was retained for this topic, or what it had was removed: that is newer than all wills that are due.
    pub fn supersede_wills(&mut self, topic: &TopicName) {
        self.due_wills.0.remove(topic);
    }
}
