//! Applying what the cluster committed to the groups of this node.

use std::collections::{HashMap, HashSet};
use std::hash::BuildHasher;
use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use foldhash::fast::FixedState;
use nightjar_broker::shard::{CloseKind, Decoder, Effect, RetainedEntry, SessionEntry, slot_of};

use super::{Change, Event, Member, NodeEntry, parts};
use crate::apply::{Scratch, apply_batch};
use crate::inner::Core;
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

    /// Marks what connections left on their way that are not their clients' any more: a client that came to another node
    /// is ahead of what its old node still sends. Two connections would mix, and a message of QoS 2 whose packet id is
    /// refused as stale would be taken twice. Found before anything of the proposal is applied, for all groups alike: a
    /// read batch is taken whole or not at all. With the client's next connection in the same proposal it is not taken,
    /// whichever stands first. But what it keeps retained is: the next connection publishes behind that proposal, so that
    /// nothing newer is replaced.
    fn find_late(&self, round: &mut [(u16, Vec<Submission>)]) {
        fn entries_of(submission: &Submission) -> &[SessionEntry] {
            match &submission.work {
                Work::Session(entries) => entries,
                _ => &[],
            }
        }
        let opened: HashSet<Arc<str>> = round
            .iter()
            .flat_map(|(_, submissions)| submissions)
            .flat_map(entries_of)
            .filter_map(|entry| match entry {
                SessionEntry::Open(open) => Some(open.client_id.clone()),
                _ => None,
            })
            .collect();
        // A client's batches have entries in several groups.
        let mut known: HashMap<(Arc<str>, u64), bool> = HashMap::new();
        let mut is_current = |client_id: &Arc<str>, epoch: u64| {
            *known.entry((client_id.clone(), epoch)).or_insert_with(|| {
                let group = slot_of(client_id) as usize % self.sessions.len();
                let state = self.sessions[group].state.lock();
                state.shard.is_current(client_id, epoch)
            })
        };
        for submission in round.iter_mut().flat_map(|(_, submissions)| submissions) {
            let mut late = Vec::new();
            if let Work::Retained(RetainedEntry::SetBy {
                client_id, epoch, ..
            }) = &submission.work
                && !is_current(client_id, *epoch)
            {
                late.push(0..1);
            }
            for (at, entry) in entries_of(submission).iter().enumerate() {
                let SessionEntry::By {
                    client_id,
                    epoch,
                    count,
                } = entry
                else {
                    continue;
                };
                if opened.contains(client_id) || !is_current(client_id, *epoch) {
                    let count = usize::try_from(*count).unwrap_or(usize::MAX);
                    late.push(at + 1..(at + 1).saturating_add(count));
                }
            }
            submission.late = late;
        }
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

    fn apply_group(
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
            let groups = self.digests(member);
            *member.digests.lock() = Some(Digests {
                nonce,
                index,
                groups,
            });
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

    /// A digest of each group, of the named values, and of the nodes.
    fn digests(&self, member: &Member) -> Vec<u64> {
        let sessions = self.sessions.iter();
        let retained = self.retained.iter();
        let of = |bytes: &[u8]| FixedState::default().hash_one(bytes);
        let mut meta = Vec::new();
        self.encode_group(self.groups.meta(), &mut meta);
        let nodes = postcard::to_allocvec(&*member.nodes.read());
        sessions
            .map(|group| group.state.lock().shard.digest())
            .chain(retained.map(|group| group.state.read().0.digest()))
            .chain([of(&meta), of(&nodes.unwrap_or_default())])
            .collect()
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

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use nightjar_broker::settings::QueueLimits;
    use nightjar_broker::shard::{Encoder, FORMAT, Open};
    use nightjar_broker::{Message, MessageHead, SubOptions, Subscription, Timestamp};
    use nightjar_mqtt::{QoS, TopicFilter, TopicName};

    use super::*;
    use crate::member::kit::on_member;

    const GROUPS: u16 = 2;

    fn group_of(client_id: &str) -> u16 {
        slot_of(client_id) as u16 % GROUPS
    }

    fn open(client_id: &str) -> SessionEntry {
        SessionEntry::Open(Box::new(Open {
            owner: None,
            client_id: client_id.into(),
            clean_start: false,
            expiry: 3600,
            will: None,
            limits: QueueLimits::default(),
            window: 10,
            supervision: None,
            node: 1,
            now: Timestamp(1),
        }))
    }

    fn publish(payload: &str) -> SessionEntry {
        let head = MessageHead {
            topic: TopicName::new("a").expect("a topic"),
            qos: QoS::ExactlyOnce,
            retain: false,
            publisher: Some("pub".into()),
            received_at: Timestamp(1),
            expires_at: None,
            properties: None,
        };
        SessionEntry::Publish(Message::new(head, payload.as_bytes()))
    }

    fn by(epoch: u64) -> SessionEntry {
        SessionEntry::By {
            client_id: "pub".into(),
            epoch,
            count: 1,
        }
    }

    fn received(epoch: u64) -> SessionEntry {
        SessionEntry::Received {
            client_id: "pub".into(),
            epoch,
            ids: vec![7],
        }
    }

    fn proposal(sequence: u64, round: Vec<(u16, Vec<SessionEntry>)>) -> Proposal {
        let mut body = Vec::new();
        for (group, entries) in round {
            let mut bytes = Vec::new();
            Encoder(&mut bytes).u8(FORMAT);
            entries.iter().for_each(|entry| entry.encode(&mut bytes));
            parts::put(&mut body, group, &bytes);
        }
        Proposal {
            origin: 1,
            incarnation: 1,
            sequence,
            body: Bytes::from(body),
        }
    }

    /// What an overtaken connection left on its way does not replace what its client retained since, and is refused; what
    /// stands in the proposal of the next CONNECT is taken, because all that is newer comes behind it.
    #[test]
    fn a_retained_message_of_an_overtaken_connection_replaces_nothing_newer() {
        on_member("late-kept", GROUPS, |store, _| {
            let kept = |epoch: u64, payload: &str| {
                let SessionEntry::Publish(message) = publish(payload) else {
                    unreachable!("it makes a message");
                };
                Work::Retained(RetainedEntry::SetBy {
                    client_id: "pub".into(),
                    epoch,
                    message,
                })
            };
            let is_late = |works: Vec<Work>| -> Vec<bool> {
                let submissions = works.into_iter().map(Submission::of).collect();
                let mut round = vec![(GROUPS, submissions)];
                store.core.find_late(&mut round);
                let late: Vec<bool> = round[0].1.iter().map(|it| !it.late.is_empty()).collect();
                let (group, submissions) = round.remove(0);
                let mut scratch = Scratch::default();
                store
                    .core
                    .apply_group(1, group, submissions, false, &mut scratch);
                late
            };
            let found = || {
                let state = store.core.retained[0].state.read();
                let message = state.0.get("a", Timestamp(1));
                message.map(|message| message.payload().to_vec())
            };
            let opens = || {
                let work = Work::Session(vec![open("pub")]);
                let mut scratch = Scratch::default();
                let submissions = vec![Submission::of(work)];
                store
                    .core
                    .apply_group(1, group_of("pub"), submissions, false, &mut scratch);
            };
            opens();
            assert_eq!(is_late(vec![kept(1, "first")]), [false]);
            assert_eq!(found(), Some(b"first".to_vec()));
            // With the next CONNECT in the same proposal.
            let mut round = vec![
                (
                    group_of("pub"),
                    vec![Submission::of(Work::Session(vec![open("pub")]))],
                ),
                (GROUPS, vec![Submission::of(kept(1, "second"))]),
            ];
            store.core.find_late(&mut round);
            assert!(round[1].1[0].late.is_empty());
            opens();
            assert_eq!(
                is_late(vec![kept(2, "newer"), kept(1, "older")]),
                [false, true]
            );
            assert_eq!(found(), Some(b"newer".to_vec()));
            let done = nightjar_broker::Completion::new(1);
            let submission = Submission {
                done: Some(done.clone()),
                ..Submission::of(kept(1, "older"))
            };
            let mut round = vec![(GROUPS, vec![submission])];
            store.core.find_late(&mut round);
            let (group, submissions) = round.remove(0);
            let mut scratch = Scratch::default();
            store
                .core
                .apply_group(1, group, submissions, false, &mut scratch);
            assert_eq!(
                nightjar_broker::Ticket::on(done).poll(None),
                nightjar_broker::Progress::Failed(nightjar_mqtt::ReasonCode::SessionTakenOver)
            );
            assert_eq!(found(), Some(b"newer".to_vec()));
        });
    }

    /// What a read batch of an overtaken connection published is taken whole or not at all, whatever the order of groups
    /// and of its client's next connection in one proposal.
    #[test]
    fn a_read_batch_of_an_overtaken_connection_is_refused_in_all_groups() {
        let subscriber = (0..)
            .map(|n| format!("sub{n}"))
            .find(|id| group_of(id) != group_of("pub"))
            .expect("some name falls into the other group");
        let (of_pub, of_sub) = (group_of("pub"), group_of(&subscriber));
        for pub_first in [true, false] {
            for open_first in [true, false] {
                let name = format!("late-{pub_first}-{open_first}");
                on_member(&name, GROUPS, |store, _| {
                    let core = &store.core;
                    let mut index = 0;
                    let mut apply = |proposal: &Proposal| {
                        index += 1;
                        core.apply_proposal(index, proposal).expect("it is whole");
                    };
                    for entry in [
                        NodeEntry::Add {
                            name: "other".to_owned(),
                            address: "127.0.0.1:1".to_owned(),
                            nonce: 1,
                        },
                        NodeEntry::Up {
                            number: 1,
                            nonce: 2,
                            address: "127.0.0.1:1".to_owned(),
                            grace: 0,
                            now: 1,
                        },
                    ] {
                        apply(&Proposal {
                            origin: 0,
                            incarnation: 0,
                            sequence: 0,
                            body: parts::of_nodes(&entry),
                        });
                    }
                    apply(&proposal(
                        1,
                        vec![
                            (of_pub, vec![open("pub")]),
                            (of_sub, vec![open(&subscriber)]),
                        ],
                    ));
                    let sub = Subscription {
                        options: SubOptions::new(QoS::ExactlyOnce),
                        id: 0,
                    };
                    apply(&proposal(
                        2,
                        vec![(
                            of_sub,
                            vec![SessionEntry::Subscribe {
                                client_id: subscriber.as_str().into(),
                                epoch: 1,
                                subs: vec![(TopicFilter::new("a").expect("a filter"), sub)],
                            }],
                        )],
                    ));
                    let mut own = vec![by(1), received(1)];
                    own.insert(if open_first { 0 } else { 2 }, open("pub"));
                    let mut round = vec![
                        (of_pub, own),
                        (of_sub, vec![by(1), publish("of the overtaken connection")]),
                    ];
                    if !pub_first {
                        round.reverse();
                    }
                    apply(&proposal(3, round));
                    assert!(store.queue(&subscriber).is_empty());
                    // The client sends it again.
                    apply(&proposal(
                        4,
                        vec![
                            (of_sub, vec![by(2), publish("again")]),
                            (of_pub, vec![by(2), received(2)]),
                        ],
                    ));
                    // And what came late, by another proposal.
                    apply(&proposal(
                        5,
                        vec![(of_sub, vec![by(1), publish("of the overtaken connection")])],
                    ));
                    let queue: Vec<_> = store
                        .queue(&subscriber)
                        .into_iter()
                        .map(|(_, message)| message.payload().to_vec())
                        .collect();
                    assert_eq!(queue, [b"again".to_vec()], "{pub_first} {open_first}");
                });
            }
        }
    }
}
