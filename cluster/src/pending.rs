//! What waits for the log: encoded by whoever submits it, taken by the writer in one piece.

use std::ops::Range;
use std::sync::Arc;
use std::sync::mpsc::Sender;

use nightjar_broker::shard::{Encoder, FORMAT, Opened, RetainedEntry, SessionEntry};
use nightjar_broker::{Completion, OpenReply};
use nightjar_mqtt::ReasonCode;

use crate::backup::Cut;
use crate::log::HEAD;
use crate::meta::MetaEntry;

/// What a submission does to its group.
#[derive(Debug)]
pub(crate) enum Work {
    /// Entries of a session group.
    Session(Vec<SessionEntry>),
    /// An entry of a retained group.
    Retained(RetainedEntry),
    /// An entry of the meta group.
    Meta(MetaEntry),
    /// Nothing: done when everything before it is applied.
    Barrier,
    /// Nothing to keep: the state of the group as it stands here goes to a backup.
    Cut(Sender<Cut>),
}

impl Work {
    /// The bytes that the log keeps.
    pub fn encode(&self, out: &mut Vec<u8>) {
        match self {
            Self::Session(entries) => entries.iter().for_each(|entry| entry.encode(out)),
            Self::Retained(entry) => entry.encode(out),
            Self::Meta(entry) => entry.encode(out),
            Self::Barrier | Self::Cut(_) => {}
        }
    }

    /// Does it add subscriptions?
    pub fn subscribes(&self) -> bool {
        match self {
            Self::Session(entries) => entries
                .iter()
                .any(|entry| matches!(entry, SessionEntry::Subscribe { .. })),
            _ => false,
        }
    }

    /// Messages for queues in it.
    pub fn messages(&self) -> usize {
        match self {
            Self::Session(entries) => entries
                .iter()
                .filter(|entry| {
                    matches!(entry, SessionEntry::Publish(_) | SessionEntry::Enqueue(_))
                })
                .count(),
            _ => 0,
        }
    }

    /// Is it a will that is to be retained?
    pub const fn is_will(&self) -> bool {
        matches!(self, Self::Retained(RetainedEntry::SetDue { .. }))
    }

    /// Must it be tried again when the log refuses it? The end of a connection and a fulfilled duty have no client
    /// that would come again, nor has the will that such a duty has retained.
    pub fn must_be_kept(&self) -> bool {
        match self {
            Self::Session(entries) => entries.iter().any(|entry| {
                matches!(
                    entry,
                    SessionEntry::Close(_) | SessionEntry::Fulfilled { .. }
                )
            }),
            _ => self.is_will(),
        }
    }
}

/// One submission to one group.
#[derive(Debug)]
pub(crate) struct Submission {
    pub work: Work,
    /// Completed when it is applied, or refused.
    pub done: Option<Arc<Completion>>,
    /// Where the answer to an Open goes.
    pub open: Option<OpenReply>,
    /// Tried again until the log takes it.
    pub keep: bool,
    /// Which of its entries are not applied: they are of connections that are not their clients' any more, or a will that
    /// is older than what is retained.
    pub late: Vec<Range<usize>>,
}

impl Submission {
    /// Work on which nobody waits.
    pub const fn of(work: Work) -> Self {
        Self {
            work,
            done: None,
            open: None,
            keep: false,
            late: Vec::new(),
        }
    }

    pub fn refuse(self, code: ReasonCode) {
        if let Some(done) = self.done {
            done.complete(Err(code));
        }
    }

    pub fn answer(&self, opened: Opened) {
        if let Some(open) = &self.open {
            open.set(opened);
        }
    }
}

/// What one group waits to append, as one entry of the log.
#[derive(Debug, Default)]
pub(crate) struct GroupPending {
    /// [`HEAD`] bytes for the log, the format, the entries. Empty if there is nothing to write.
    pub bytes: Vec<u8>,
    pub submissions: Vec<Submission>,
}

impl GroupPending {
    fn add(&mut self, bytes: &[u8]) {
        if bytes.is_empty() {
            return;
        }
        if self.bytes.is_empty() {
            self.bytes.reserve(HEAD + 1 + bytes.len());
            self.bytes.resize(HEAD, 0);
            Encoder(&mut self.bytes).u8(FORMAT);
        }
        self.bytes.extend_from_slice(bytes);
    }

    /// Encodes its entries anew, without those that are late.
    pub fn leave_out_late(&mut self) {
        let mut bytes = Vec::new();
        let taken = self.submissions.iter().filter(|it| it.late.is_empty());
        taken.for_each(|it| it.work.encode(&mut bytes));
        self.bytes.clear();
        self.add(&bytes);
    }
}

/// What all groups wait to append.
#[derive(Debug)]
pub(crate) struct Pending {
    groups: Vec<GroupPending>,
    touched: Vec<u16>,
    pub stop: bool,
    /// What was taken last is not among the proposals on their way yet.
    pub launching: bool,
    /// A sync failed: nothing is taken any more.
    pub failed: bool,
    /// This node may not act for its cluster: nothing is taken for now.
    pub fenced: bool,
}

impl Pending {
    pub fn new(groups: usize) -> Self {
        Self {
            groups: (0..groups).map(|_| GroupPending::default()).collect(),
            touched: Vec::new(),
            stop: false,
            launching: false,
            failed: false,
            fenced: false,
        }
    }

    /// Is nothing taken any more, or for now?
    pub const fn refuses(&self) -> bool {
        self.failed || self.stop || self.fenced
    }

    /// Adds a submission whose entries were encoded into `bytes`. True if the writer may have to be woken.
    pub fn push(&mut self, group: u16, bytes: &[u8], submission: Submission) -> bool {
        let idle = self.touched.is_empty();
        let pending = &mut self.groups[usize::from(group)];
        if pending.submissions.is_empty() {
            self.touched.push(group);
        }
        pending.add(bytes);
        pending.submissions.push(submission);
        idle
    }

    pub const fn is_empty(&self) -> bool {
        self.touched.is_empty()
    }

    /// Takes everything.
    pub fn take(&mut self) -> Vec<(u16, GroupPending)> {
        let touched = std::mem::take(&mut self.touched);
        touched
            .into_iter()
            .map(|group| {
                let pending = std::mem::take(&mut self.groups[usize::from(group)]);
                (group, pending)
            })
            .collect()
    }
}
