//! What comes late: of connections that are not their clients' any more, and wills that something newer was retained before.

use std::collections::HashMap;
use std::sync::Arc;

use nightjar_broker::shard::{RetainedEntry, SessionEntry, slot_of};

use crate::inner::Core;
use crate::pending::{Submission, Work};

impl Core {
    /// Marks what connections left on their way that are not their clients' any more: a client that came to another node
    /// is ahead of what its old node still sends. Two connections would mix, and a message of QoS 2 whose packet id is
    /// refused as stale would be taken twice. Found before anything of the proposal is applied, for all groups alike: a
    /// read batch is taken whole or not at all. With the client's next connection in the same proposal it is taken: its
    /// node submits none behind that (`NodeStore::lock_for`). So what a client said before it came back is not lost, nor
    /// does it get again what it acknowledged. What is retained may stand behind it, too: the next connection publishes
    /// behind that proposal, so that nothing newer is replaced.
    pub(super) fn find_late(&self, round: &mut [(u16, Vec<Submission>)]) {
        fn entries_of(submission: &Submission) -> &[SessionEntry] {
            match &submission.work {
                Work::Session(entries) => entries,
                _ => &[],
            }
        }
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
                if !is_current(client_id, *epoch) {
                    let count = usize::try_from(*count).unwrap_or(usize::MAX);
                    late.push(at + 1..(at + 1).saturating_add(count));
                }
            }
            submission.late = late;
        }
    }

    /// Marks wills that are retained later than something else for their topics, so that a client that is back is not said to
    /// be gone for good. What this proposal retains supersedes those that were due before it.
    pub(super) fn settle_wills(&self, round: &mut [(u16, Vec<Submission>)]) {
        let submissions = round
            .iter_mut()
            .flat_map(|(_, submissions)| submissions.iter_mut());
        let newer = self.find_late_wills(submissions);
        self.supersede_wills(&newer);
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use nightjar_broker::shard::{Close, CloseKind, Encoder, FORMAT, SessionShard, Will};
    use nightjar_broker::{
        Completion, DurableStore, Message, MessageHead, Progress, SubOptions, Subscription,
        Timestamp,
    };
    use nightjar_mqtt::{QoS, ReasonCode, TopicFilter, TopicName};

    use super::*;
    use crate::apply::Scratch;
    use crate::member::kit::{on_member, open};
    use crate::member::{NodeEntry, parts};
    use crate::raft::Proposal;

    const GROUPS: u16 = 2;

    fn group_of(client_id: &str) -> u16 {
        slot_of(client_id) as u16 % GROUPS
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
            let done = Completion::new(1);
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
                Progress::Failed(ReasonCode::SessionTakenOver)
            );
            assert_eq!(found(), Some(b"newer".to_vec()));
        });
    }

    /// A session that publishes, and a subscriber of another group.
    fn two_groups() -> (u16, u16, String) {
        let subscriber = (0..)
            .map(|n| format!("sub{n}"))
            .find(|id| group_of(id) != group_of("pub"))
            .expect("some name falls into the other group");
        (group_of("pub"), group_of(&subscriber), subscriber)
    }

    /// What a read batch of an overtaken connection published is taken whole or not at all, whatever the order of groups. What
    /// stands beside its client's next connection in one proposal came before it.
    #[test]
    fn a_read_batch_of_an_overtaken_connection_is_refused_in_all_groups() {
        let (of_pub, of_sub, subscriber) = two_groups();
        for pub_first in [true, false] {
            let name = format!("late-{pub_first}");
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
                let both = |epoch: u64, payload: &str, then: Option<SessionEntry>| {
                    let mut own = vec![by(epoch), received(epoch)];
                    own.extend(then);
                    let mut round =
                        vec![(of_pub, own), (of_sub, vec![by(epoch), publish(payload)])];
                    if !pub_first {
                        round.reverse();
                    }
                    round
                };
                apply(&proposal(3, both(1, "before", Some(open("pub")))));
                apply(&proposal(4, both(1, "overtaken", None)));
                apply(&proposal(5, both(2, "behind", None)));
                apply(&proposal(
                    6,
                    vec![(of_sub, vec![by(1), publish("overtaken")])],
                ));
                let queue: Vec<_> = store
                    .queue(&subscriber)
                    .into_iter()
                    .map(|(_, message)| message.payload().to_vec())
                    .collect();
                let taken = [b"before".to_vec(), b"behind".to_vec()];
                assert_eq!(queue, taken, "{pub_first}");
            });
        }
    }

    /// Of one node's proposal: what a connection sent before its client came back stands before the Open, and nothing behind it.
    #[test]
    fn a_node_submits_nothing_of_a_connection_behind_its_clients_next_one() {
        let (of_pub, of_sub, _) = two_groups();
        on_member("late-submitted", GROUPS, |store, _| {
            let core = &store.core;
            let first = vec![Submission::of(Work::Session(vec![open("pub")]))];
            core.apply_group(1, of_pub, first, false, &mut Scratch::default());
            core.pending.lock().fenced = false;
            let submit = |payload: &str| {
                let done = Completion::new(1);
                let batches = vec![
                    (of_sub, vec![by(1), publish(payload)]),
                    (of_pub, vec![by(1), received(1)]),
                ];
                store
                    .submit_all(batches.into(), &done, &mut |_| {})
                    .poll(None)
            };
            let SessionEntry::Open(again) = open("pub") else {
                unreachable!("it makes an Open");
            };
            assert_eq!(submit("before"), Progress::Pending);
            let (opens, _) = store.open(*again);
            let overtaken = Progress::Failed(ReasonCode::SessionTakenOver);
            assert_eq!(submit("behind"), overtaken);
            assert_eq!(opens.poll(None), Progress::Pending);
            let kinds: Vec<_> = core
                .pending
                .lock()
                .take()
                .into_iter()
                .map(|(group, pending)| {
                    let works = pending.submissions.into_iter().map(|it| match it.work {
                        Work::Session(entries) => match &entries[..] {
                            [SessionEntry::Open(_)] => "open",
                            _ => "batch",
                        },
                        _ => "other",
                    });
                    (group, works.collect::<Vec<_>>())
                })
                .collect();
            assert_eq!(
                kinds,
                [(of_sub, vec!["batch"]), (of_pub, vec!["batch", "open"])]
            );
        });
    }

    const TOPIC: &str = "presence/pub";

    fn says(topic: &str, payload: &str) -> Message {
        let head = MessageHead {
            topic: TopicName::new(topic).expect("a topic"),
            qos: QoS::AtLeastOnce,
            retain: true,
            publisher: Some("pub".into()),
            received_at: Timestamp(1),
            expires_at: None,
            properties: None,
        };
        Message::new(head, payload.as_bytes())
    }

    fn set(topic: &str, payload: &str) -> Work {
        Work::Retained(RetainedEntry::Set(says(topic, payload)))
    }

    fn set_by(epoch: u64, payload: &str) -> Work {
        Work::Retained(RetainedEntry::SetBy {
            client_id: "pub".into(),
            epoch,
            message: says(TOPIC, payload),
        })
    }

    fn due(duty: u64) -> Work {
        Work::Retained(RetainedEntry::SetDue {
            shard: group_of("pub"),
            duty,
            message: says(TOPIC, "offline"),
        })
    }

    fn opens() -> Work {
        let SessionEntry::Open(mut open) = open("pub") else {
            unreachable!("it makes an Open");
        };
        open.will = Some(Box::new(Will {
            message: says(TOPIC, "offline"),
            delay: 0,
            expiry: None,
        }));
        Work::Session(vec![SessionEntry::Open(open)])
    }

    fn is_lost(epoch: u64) -> Work {
        Work::Session(vec![SessionEntry::Close(Close {
            client_id: "pub".into(),
            epoch,
            kind: CloseKind::Abnormal,
            expiry: None,
            now: Timestamp(2),
        })])
    }

    fn done(duty: u64) -> Work {
        Work::Session(vec![SessionEntry::Fulfilled { duties: vec![duty] }])
    }

    /// Applies proposals, one after the other.
    fn apply(core: &Core, proposals: Vec<Vec<Work>>) {
        for works in proposals {
            let mut round: Vec<(u16, Vec<Submission>)> = Vec::new();
            for work in works {
                let group = match work {
                    Work::Session(_) => group_of("pub"),
                    _ => GROUPS,
                };
                let submission = Submission::of(work);
                match round.iter_mut().find(|(have, _)| *have == group) {
                    Some((_, submissions)) => submissions.push(submission),
                    None => round.push((group, vec![submission])),
                }
            }
            core.find_late(&mut round);
            core.settle_wills(&mut round);
            for (group, submissions) in round {
                core.apply_group(1, group, submissions, false, &mut Scratch::default());
            }
        }
    }

    fn kept(core: &Core) -> String {
        let state = core.retained[0].state.read();
        let message = state.0.get(TOPIC, Timestamp(3));
        message.map_or_else(String::new, |message| {
            String::from_utf8_lossy(message.payload()).into_owned()
        })
    }

    /// The client spoke, and its connection was lost: duty 0. What is retained when these proposals came behind.
    fn after(name: &str, proposals: Vec<Vec<Work>>) -> String {
        on_member(&format!("will-{name}"), GROUPS, |store, _| {
            let core = &store.core;
            let before = vec![vec![opens()], vec![set_by(1, "online 1")], vec![is_lost(1)]];
            apply(core, before);
            let state = core.sessions[usize::from(group_of("pub"))].state.lock();
            assert_eq!(state.shard.duties().map(|(duty, _)| duty).next(), Some(0));
            drop(state);
            apply(core, proposals);
            kept(core)
        })
    }

    #[test]
    fn a_late_will_does_not_replace_what_its_client_retained_since_it_was_back() {
        let back = || vec![vec![opens()], vec![set_by(2, "online 2")]];
        let mut late = back();
        late.push(vec![due(0), done(0)]);
        assert_eq!(after("late", late), "online 2");
        // Published by two leaders, in time and late.
        let mut twice = vec![vec![due(0)]];
        twice.extend(back());
        twice.push(vec![due(0), done(0)]);
        assert_eq!(after("twice", twice), "online 2");
        // And when it is done already.
        let mut again = vec![vec![due(0), done(0)]];
        again.extend(back());
        again.push(vec![due(0)]);
        assert_eq!(after("again", again), "online 2");
    }

    #[test]
    fn a_will_is_retained_when_nothing_came_since_it_was_due() {
        assert_eq!(after("in-time", vec![vec![due(0), done(0)]]), "offline");
        let back = vec![vec![opens()], vec![due(0), done(0)]];
        assert_eq!(after("silent", back), "offline");
        // The next connection is lost too: its own will is newer than what it said.
        let lost = vec![
            vec![opens()],
            vec![set_by(2, "online 2")],
            vec![is_lost(2)],
            vec![due(0), done(0)],
            vec![due(1), done(1)],
        ];
        assert_eq!(after("lost-again", lost), "offline");
    }

    #[test]
    fn a_late_will_does_not_bring_back_what_was_removed() {
        let cleared = vec![vec![set(TOPIC, "")], vec![due(0), done(0)]];
        assert_eq!(after("cleared", cleared), "");
        let topic = TopicName::new(TOPIC).expect("a topic");
        let removed = vec![
            vec![Work::Retained(RetainedEntry::Remove(topic))],
            vec![due(0), done(0)],
        ];
        assert_eq!(after("removed", removed), "");
    }

    #[test]
    fn what_is_retained_for_other_topics_or_refused_supersedes_no_will() {
        let other = vec![vec![set("presence/other", "x")], vec![due(0), done(0)]];
        assert_eq!(after("other-topic", other), "offline");
        let overtaken = vec![
            vec![opens()],
            vec![set_by(1, "online 1")],
            vec![due(0), done(0)],
        ];
        assert_eq!(after("overtaken", overtaken), "offline");
        let tick = Work::Retained(RetainedEntry::Tick { now: Timestamp(2) });
        assert_eq!(after("time", vec![vec![tick], vec![due(0)]]), "offline");
    }

    #[test]
    fn within_one_proposal_order_decides_and_a_will_that_becomes_due_in_it_is_newer() {
        let before = vec![vec![opens()], vec![set(TOPIC, "newer"), due(0), done(0)]];
        assert_eq!(after("before", before), "newer");
        let behind = vec![vec![opens()], vec![due(0), set(TOPIC, "newer"), done(0)]];
        assert_eq!(after("behind", behind), "newer");
        let with = vec![
            vec![opens()],
            vec![done(0), set_by(2, "online 2"), is_lost(2)],
            vec![due(1), done(1)],
        ];
        assert_eq!(after("with", with), "offline");
    }

    #[test]
    fn a_snapshot_says_which_wills_are_superseded() {
        on_member("will-snapshot", GROUPS, |store, _| {
            let core = &store.core;
            let group = &core.sessions[usize::from(group_of("pub"))];
            apply(core, vec![vec![opens()], vec![is_lost(1)]]);
            let encoded = |group: &crate::inner::SessionGroup| {
                let mut bytes = Vec::new();
                group.state.lock().shard.encode(&mut bytes);
                bytes
            };
            let owed = SessionShard::decode(&encoded(group)).expect("a snapshot");
            assert!(owed.retains_will(0) && owed.owes_retained_wills());
            apply(core, vec![vec![opens()], vec![set_by(2, "online")]]);
            let mut superseded = SessionShard::decode(&encoded(group)).expect("a snapshot");
            assert!(!superseded.retains_will(0) && !superseded.owes_retained_wills());
            assert!(superseded.duty(0).is_some());
            assert_eq!(superseded.digest(), group.state.lock().shard.digest());
            // Superseded or not, it is done when it is done.
            superseded.apply(SessionEntry::Fulfilled { duties: vec![0] }, &mut Vec::new());
            assert!(superseded.duty(0).is_none());
            group.state.lock().shard = superseded;
            apply(core, vec![vec![due(0)]]);
            assert_eq!(kept(core), "online");
        });
    }
}
