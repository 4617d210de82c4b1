//! Wills that are published late: what was retained for their topics since they were due stays.
//!
//! Decided in the order of the log, where all of it has one: by whoever applies the cluster's, and by the writer of a node
//! alone before it writes a round. A round that stands in the log as one is looked at before anything of it is applied, so
//! a will that becomes due in it is newer than what the same round retains.

use std::collections::HashSet;
use std::sync::atomic::Ordering;

use nightjar_broker::shard::RetainedEntry;
use nightjar_mqtt::TopicName;

use crate::inner::{Core, SessionGroup, SessionState};
use crate::pending::{Submission, Work};

impl SessionGroup {
    /// Notes whether wills are due that will be retained.
    pub fn note_wills(&self, state: &SessionState) {
        let owes = state.shard.owes_retained_wills();
        self.due_wills.store(owes, Ordering::Release);
    }
}

impl Core {
    /// Marks wills that come late, and gives the topics for which something else is retained, or removed: for
    /// [`Self::supersede_wills`], when that stands in the log for good.
    pub fn find_late_wills<'a>(
        &self,
        round: impl Iterator<Item = &'a mut Submission>,
    ) -> HashSet<TopicName> {
        let mut newer = HashSet::new();
        let mut owes = None;
        for submission in round {
            let Work::Retained(entry) = &submission.work else {
                continue;
            };
            match entry {
                RetainedEntry::SetDue {
                    shard,
                    duty,
                    message,
                } => {
                    // Asked under the lock: whoever published it may be faster than the note that it is due.
                    let retains = !newer.contains(message.topic())
                        && self
                            .sessions
                            .get(usize::from(*shard))
                            .is_some_and(|group| group.state.lock().shard.retains_will(*duty));
                    if !retains {
                        submission.late.push(0..1);
                    }
                }
                entry if submission.late.is_empty() => {
                    let owes = *owes.get_or_insert_with(|| self.owes_retained_wills());
                    if let (true, Some(topic)) = (owes, entry.topic()) {
                        newer.insert(topic.clone());
                    }
                }
                _ => {}
            }
        }
        newer
    }

    /// All wills that are due on these topics are superseded.
    pub fn supersede_wills(&self, topics: &HashSet<TopicName>) {
        if topics.is_empty() {
            return;
        }
        for group in &self.sessions {
            if group.due_wills.load(Ordering::Acquire) {
                let mut state = group.state.lock();
                for topic in topics {
                    state.shard.supersede_wills(topic);
                }
                group.note_wills(&state);
            }
        }
    }

    fn owes_retained_wills(&self) -> bool {
        let mut groups = self.sessions.iter();
        groups.any(|group| group.due_wills.load(Ordering::Acquire))
    }
}
