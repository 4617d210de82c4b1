//! Applying what the cluster committed to the groups of this node.

use std::hash::BuildHasher;
use std::io;
use std::sync::atomic::Ordering;

use foldhash::fast::FixedState;
use nightjar_broker::shard::{CloseKind, Decoder, Effect, RetainedEntry, SessionEntry};

use super::{Change, Event, Member, NodeEntry, parts};
use crate::apply::{Scratch, apply_batch};
use crate::inner::Core;
use crate::leisure;
use crate::links::VERSIONS;
use crate::meta::MetaEntry;
use crate::node::Digests;
use crate::pending::{Submission, Work};
use crate::raft::Proposal;
use crate::store::owed;
use crate::writer::Batch;

pub(super) fn bad(error: impl std::fmt::Display) -> io::Error {
    io::Error::new(
        io::ErrorKind::InvalidData,
        format!("an entry of the cluster's log cannot be read: {error}"),
    )
}

impl Core {
    /// Applies one proposal that is committed at `index`.
    pub fn apply_proposal(&self, index: u64, proposal: &Proposal) -> io::Result<()> {
        let Some(member) = &self.member else {
            return Ok(());
        };
        let mut scratch = Scratch::default();
        if proposal.origin == 0 {
            for part in parts::parts(&proposal.body) {
                let (group, bytes) = part.ok_or_else(|| bad("cut off"))?;
                if group == parts::NODES {
                    let entry = postcard::from_bytes(bytes).map_err(bad)?;
                    if let NodeEntry::Raise { version } = entry
                        && version > VERSIONS.1
                    {
                        return Err(bad(format!(
                            "the cluster uses version {version} of its protocol from there on, and this build speaks up to {}",
                            VERSIONS.1
                        )));
                    }
                    self.apply_nodes(member, index, entry, &mut scratch);
                }
            }
            return Ok(());
        }
        let turn = member.nodes.write().take_turn(
            proposal.origin,
            proposal.incarnation,
            proposal.sequence,
        );
        if !turn {
            return Ok(());
        }
        let own = if proposal.origin == member.number() {
            member.flight.lock().take(proposal)
        } else {
            None
        };
        let is_own = own.is_some();
        let mut round = match own {
            Some(round) => round,
            None => parts::parts(&proposal.body)
                .map(|part| {
                    let (group, bytes) = part.ok_or_else(|| bad("cut off"))?;
                    Ok((group, self.decode_part(group, bytes)?))
                })
                .collect::<io::Result<Vec<_>>>()?,
        };
        self.find_late(&mut round);
        self.settle_wills(&mut round);
        let mut subscribed = false;
        for (group, submissions) in round {
            subscribed |= !is_own && submissions.iter().any(|it| it.work.subscribes());
            self.apply_group(index, group, submissions, is_own, &mut scratch);
        }
        if is_own {
            self.wake.notify_one();
        }
        if subscribed {
            let origin = proposal.origin;
            member.tell(Event::Subscribed { origin, index });
        }
        Ok(())
    }

    fn decode_part(&self, group: u16, bytes: &[u8]) -> io::Result<Vec<Submission>> {
        let mut from = Decoder(bytes);
        from.format().map_err(bad)?;
        let mut works = Vec::new();
        if group < self.groups.sessions {
            let mut entries = Vec::new();
            while !from.is_empty() {
                entries.push(SessionEntry::decode(&mut from).map_err(bad)?);
            }
            works.push(Work::Session(entries));
        } else if group < self.groups.meta() {
            while !from.is_empty() {
                works.push(Work::Retained(
                    RetainedEntry::decode(&mut from).map_err(bad)?,
                ));
            }
        } else if group == self.groups.meta() {
            while !from.is_empty() {
                works.push(Work::Meta(MetaEntry::decode(&mut from).map_err(bad)?));
            }
        } else {
            return Err(bad(format!("there is no group {group}")));
        }
        Ok(works.into_iter().map(Submission::of).collect())
    }

    pub(super) fn apply_group(
        &self,
        index: u64,
        group: u16,
        submissions: Vec<Submission>,
        own: bool,
        scratch: &mut Scratch,
    ) {
        let batch = Batch {
            group,
            index: Some(index),
            submissions,
            own,
        };
        for (done, subscribes) in apply_batch(self, batch, scratch) {
            match &self.member {
                // SUBACK waits for the other nodes.
                Some(member) if subscribes => member.hold(index, done),
                _ => done.complete(Ok(())),
            }
        }
    }

    fn apply_nodes(&self, member: &Member, index: u64, entry: NodeEntry, scratch: &mut Scratch) {
        let here = member.number();
        if let NodeEntry::Verify { nonce } = entry {
            self.begin_digests(member, nonce, index);
            return;
        }
        #[cfg(feature = "next-protocol")]
        if let NodeEntry::Mark { .. } = entry {
            member.marks.fetch_add(1, Ordering::Relaxed);
        }
        let before = member.nodes.read().clone();
        let change = member.nodes.write().apply(entry);
        let (gone, kind, now) = match &change {
            Change::None => return,
            Change::Added | Change::Raised { .. } => (None, CloseKind::Abnormal, None),
            Change::Up {
                number,
                ended,
                grace,
                now,
                ..
            } => (
                ended.then_some(*number),
                CloseKind::Restart(*grace),
                Some(*now),
            ),
            Change::Down { number, now, .. } => (Some(*number), CloseKind::Abnormal, Some(*now)),
            Change::Removed { number, ended } => {
                (ended.then_some(*number), CloseKind::Abnormal, None)
            }
        };
        if let Some(node) = gone {
            member.forget_other(node);
            if node == here && member.flight.lock().incarnation != 0 {
                self.fence();
                member.tell(Event::Fenced);
            }
            for group in 0..self.groups.sessions {
                let now = now.unwrap_or_else(|| {
                    // The time of the shard itself, which all replicas agree on.
                    self.sessions[usize::from(group)].state.lock().shard.clock()
                });
                let work = Work::Session(vec![SessionEntry::NodeGone { node, kind, now }]);
                self.apply_group(index, group, vec![Submission::of(work)], false, scratch);
            }
        }
        match change {
            Change::Up { number, nonce, .. }
                if number == here && nonce == member.nonce.load(Ordering::Acquire) =>
            {
                let incarnation = member
                    .nodes
                    .read()
                    .nodes
                    .get(&here)
                    .map_or(0, |node| node.incarnation);
                self.settle_sessions(member, None);
                self.admit(incarnation);
            }
            _ => self.settle_sessions(member, Some(&before)),
        }
        member.release_held();
        member.tell(Event::Nodes(change));
    }

    /// Makes a digest of each group, of the named values, and of the nodes, as they are now. It takes its time.
    fn begin_digests(&self, member: &Member, nonce: u64, index: u64) {
        let groups = self.freeze();
        let nodes = postcard::to_allocvec(&*member.nodes.read()).unwrap_or_default();
        let digests = member.digests.clone();
        *member.asked.lock() = Some((nonce, index));
        let begun = leisure::begin(move || {
            let groups = groups
                .into_iter()
                .map(|group| group.digest())
                .chain([FixedState::default().hash_one(&nodes[..])])
                .collect();
            let mut last = digests.lock();
            if last.as_ref().is_none_or(|last| last.index < index) {
                *last = Some(Digests {
                    nonce,
                    index,
                    groups,
                });
            }
        });
        if let Err(error) = begun {
            tracing::error!(%error, "no digests of what this node holds");
        }
    }

    /// Sees to it that sessions without a connection are routed on one node. With `before`, only where that changed.
    pub(super) fn settle_sessions(&self, member: &Member, before: Option<&super::Nodes>) {
        let Some(sink) = self.sink.read().clone() else {
            return;
        };
        let here = member.number();
        let nodes = member.nodes.read().clone();
        for group in &self.sessions {
            let restored: Vec<_> = group.state.lock().shard.restored().collect();
            for session in restored {
                let home = nodes.home(session.node);
                if before.is_some_and(|before| before.home(session.node) == home) {
                    continue;
                }
                if session.connected {
                    if session.node != here {
                        sink.moved(&session.client_id, session.epoch);
                    }
                } else if home == here {
                    sink.restore(session);
                } else {
                    sink.moved(&session.client_id, session.epoch);
                }
            }
        }
        sink.settled();
    }

    /// This node leads, or does no more. What earlier leaders began is done again.
    pub fn lead(&self, leads: bool) {
        let Some(member) = &self.member else { return };
        if member.leading.swap(leads, Ordering::AcqRel) == leads {
            return;
        }
        member.doing.lock().clear();
        if leads {
            self.take_duties();
        }
    }

    /// Begins what shards still owe.
    pub fn take_duties(&self) {
        let (Some(member), Some(sink)) = (&self.member, self.sink.read().clone()) else {
            return;
        };
        for (number, group) in self.sessions.iter().enumerate() {
            let number = number as u16;
            let state = group.state.lock();
            for (duty, what) in state.shard.duties() {
                if member.begin_duty(number, duty) {
                    sink.effect(number, owed(duty, what));
                }
            }
        }
        sink.settled();
    }

    /// What an effect means on this node; `None`: nothing. One node does what is to be done once.
    pub fn share_of(&self, group: u16, leads: bool, effect: Effect) -> Option<Effect> {
        let Some(member) = &self.member else {
            return Some(effect);
        };
        match effect {
            Effect::Will { duty, .. } | Effect::HandBack { duty, .. } => {
                (leads && member.begin_duty(group, duty)).then_some(effect)
            }
            Effect::Dropped { .. } => leads.then_some(effect),
            Effect::Ended {
                client_id,
                epoch,
                slot,
                undelivered,
            } => Some(Effect::Ended {
                client_id,
                epoch,
                slot,
                undelivered: if leads { undelivered } else { 0 },
            }),
            effect => Some(effect),
        }
    }

    /// Looks at an entry before it is applied: what ends begun duties.
    pub fn note_entry(&self, group: u16, entry: &SessionEntry) {
        if let (Some(member), SessionEntry::Fulfilled { duties }) = (&self.member, entry) {
            member.end_duties(group, duties);
        }
    }
}
