//! [`NodeStore`] as the broker sees it.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use nightjar_broker::meta::{MetaStore, MetaWatcher, page};
use nightjar_broker::shard::{Open, Opened, Parked, RetainedEntry, SessionEntry};
use nightjar_broker::{
    Batches, Completion, DurableStore, Message, OpenReply, RetainedCursor, SessionHandle,
    Submitted, Ticket, Timestamp,
};
use nightjar_mqtt::ReasonCode;
use parking_lot::MutexGuard;

use crate::member::Member;
use crate::meta::MetaEntry;
use crate::pending::{Pending, Submission, Work};
use crate::store::NodeStore;

impl DurableStore for NodeStore {
    fn shards(&self) -> u16 {
        self.core.groups.sessions
    }

    fn submit(
        &self,
        shard: u16,
        entries: Vec<SessionEntry>,
        stall: Option<&Arc<Completion>>,
    ) -> Submitted {
        let stalled = self.core.weigh(shard, &entries, stall);
        let done = Completion::new(1);
        let work = Work::Session(entries);
        let keep = work.must_be_kept();
        self.core.push(
            shard,
            Submission {
                work,
                done: Some(done.clone()),
                open: None,
                keep,
                late: Vec::new(),
            },
        );
        Submitted {
            ticket: Ticket::on(done),
            stalled,
        }
    }

    fn submit_all(
        &self,
        batches: Batches,
        stall: &Arc<Completion>,
        stalled: &mut dyn FnMut(u16),
    ) -> Ticket {
        let done = Completion::new(batches.len() as u32);
        let mut encoded = Vec::with_capacity(batches.len());
        let mut keep = false;
        let by = match batches.first().and_then(|(_, entries)| entries.first()) {
            Some(SessionEntry::By {
                client_id, epoch, ..
            }) => Some((client_id.clone(), *epoch)),
            _ => None,
        };
        for (shard, entries) in batches {
            if self.core.weigh(shard, &entries, Some(stall)) {
                stalled(shard);
            }
            let work = Work::Session(entries);
            keep |= work.must_be_kept();
            let mut bytes = Vec::new();
            work.encode(&mut bytes);
            encoded.push((shard, bytes, work));
        }
        let submissions = encoded.into_iter().map(|(shard, bytes, work)| {
            let submission = Submission {
                work,
                done: Some(done.clone()),
                open: None,
                keep,
                late: Vec::new(),
            };
            (shard, bytes, submission)
        });
        // One lock for all of them: the writer takes them together, into one batch of the log.
        let lock = match &by {
            Some((client_id, epoch)) => self.lock_for(client_id, *epoch),
            None => Some(self.core.pending.lock()),
        };
        let refused = match &lock {
            None => Some(ReasonCode::SessionTakenOver),
            Some(pending) => pending.refuses().then_some(ReasonCode::ServerUnavailable),
        };
        let Some(mut pending) = lock.filter(|_| refused.is_none()) else {
            for (shard, _, submission) in submissions {
                self.core.refused(shard, &submission);
                submission.refuse(refused.unwrap_or(ReasonCode::ServerUnavailable));
            }
            return Ticket::on(done);
        };
        let mut wake = false;
        for (shard, bytes, submission) in submissions {
            wake |= pending.push(shard, &bytes, submission);
        }
        drop(pending);
        if wake {
            self.core.wake.notify_one();
        }
        Ticket::on(done)
    }

    fn is_full(&self, shard: u16, entry: &SessionEntry, ahead: usize) -> bool {
        let group = &self.core.sessions[usize::from(shard)];
        let ahead = ahead + group.unapplied.load(Ordering::Acquire);
        group.state.lock().shard.would_reject(entry, ahead)
    }

    fn is_serving(&self) -> bool {
        self.core.member.as_ref().is_none_or(Member::serves)
    }

    fn interruptions(&self) -> u32 {
        let member = self.core.member.as_ref();
        member.map_or(0, |member| member.interruptions.load(Ordering::Acquire))
    }

    fn owes(&self, shard: u16, duty: u64) -> bool {
        let group = &self.core.sessions[usize::from(shard)];
        self.core.leads() && group.state.lock().shard.duty(duty).is_some()
    }

    fn is_owner(&self, client_id: &str, epoch: u64) -> bool {
        let Some(member) = &self.core.member else {
            return true; // The broker compares the epochs of one node itself.
        };
        self.connection(client_id) == Some((epoch, member.number()))
    }

    fn open(&self, mut open: Open) -> (Ticket, OpenReply) {
        open.node = self.core.number();
        let reply = OpenReply::default();
        let shard = self.shard_of(&open.client_id);
        let group = &self.core.sessions[usize::from(shard)];
        let needed =
            self.is_opening(shard, &open.client_id) || group.state.lock().shard.needs_entry(&open);
        if !needed {
            reply.set(Opened::default());
            return (Ticket::DONE, reply);
        }
        *group
            .opening
            .lock()
            .entry(open.client_id.clone())
            .or_insert(0) += 1;
        group.opens.fetch_add(1, Ordering::AcqRel);
        let done = Completion::new(1);
        self.core.push(
            shard,
            Submission {
                work: Work::Session(vec![SessionEntry::Open(Box::new(open))]),
                done: Some(done.clone()),
                open: Some(reply.clone()),
                keep: false,
                late: Vec::new(),
            },
        );
        (Ticket::on(done), reply)
    }

    fn stream(&self, client_id: &str, epoch: u64, before: u64, handle: &Arc<SessionHandle>) {
        let group = &self.core.sessions[usize::from(self.shard_of(client_id))];
        let mut state = group.state.lock();
        let state = &mut *state;
        // Another connection may have taken the session meanwhile: the older one must not take its stream.
        let current = state.shard.slot(client_id).filter(|slot| {
            state
                .shard
                .owner(*slot)
                .is_some_and(|(_, have)| have == epoch)
        });
        if let Some(slot) = current {
            let maybe_sent = state.shard.maybe_sent(slot);
            state
                .streams
                .open(slot, (before, epoch), handle.clone(), maybe_sent);
        }
    }

    fn grant(&self, client_id: &str, epoch: u64, credit: u32, now: Timestamp) {
        let shard = self.shard_of(client_id);
        let group = &self.core.sessions[usize::from(shard)];
        let mut wakers = Vec::new();
        let mut expired = None;
        {
            let mut state = group.state.lock();
            let state = &mut *state;
            if let Some(slot) = state.shard.slot(client_id) {
                state.streams.grant(slot, epoch, credit);
                let acks = state.streams.pump(&state.shard, slot, now, &mut wakers);
                if !acks.is_empty()
                    && let Some((client_id, epoch)) = state.shard.owner(slot)
                {
                    expired = Some(SessionEntry::Acks {
                        client_id: client_id.clone(),
                        epoch,
                        acks,
                    });
                }
                self.core.send_wanted(shard, state);
            }
        }
        wakers.into_iter().for_each(std::task::Waker::wake);
        if let Some(expired) = expired {
            self.core.submit_own(shard, vec![expired]);
        }
    }

    fn give_up(&self, shard: u16, completion: &Arc<Completion>) {
        let group = &self.core.sessions[usize::from(shard)];
        group.state.lock().streams.give_up(completion);
        group
            .waiting
            .lock()
            .retain(|waiting| !Arc::ptr_eq(waiting, completion));
    }

    fn retain(&self, entry: RetainedEntry) -> Ticket {
        // Of a cluster, the proposal is looked at when it is applied.
        let (entry, by) = match entry {
            RetainedEntry::SetBy {
                client_id,
                epoch,
                message,
            } if self.core.member.is_none() => {
                (RetainedEntry::Set(message), Some((client_id, epoch)))
            }
            entry => (entry, None),
        };
        let number = match &entry {
            RetainedEntry::Set(message)
            | RetainedEntry::SetBy { message, .. }
            | RetainedEntry::SetDue { message, .. } => self.core.retained_group(message.topic()),
            RetainedEntry::Remove(topic) => self.core.retained_group(topic),
            RetainedEntry::Tick { now } => {
                self.tick_retained(*now, true);
                return Ticket::DONE;
            }
        };
        let done = Completion::new(1);
        self.core.retained[usize::from(number)]
            .unapplied
            .fetch_add(1, Ordering::AcqRel);
        let work = Work::Retained(entry);
        let submission = Submission {
            done: Some(done.clone()),
            keep: work.must_be_kept(),
            ..Submission::of(work)
        };
        let group = self.core.groups.retained(number);
        self.core.push_under(group, submission, || match &by {
            Some((client_id, epoch)) => self.lock_for(client_id, *epoch),
            None => Some(self.core.pending.lock()),
        });
        Ticket::on(done)
    }

    fn retained_barrier(&self) -> Ticket {
        if self.core.member.is_some() {
            // An entry of its own: applied here after everything that was acknowledged anywhere.
            return self.core.barrier();
        }
        let busy: Vec<u16> = (0..self.core.groups.retained)
            .filter(|number| {
                let group = &self.core.retained[usize::from(*number)];
                group.unapplied.load(Ordering::Acquire) > 0
            })
            .collect();
        if busy.is_empty() {
            return Ticket::DONE;
        }
        let done = Completion::new(busy.len() as u32);
        for number in busy {
            self.core.push(
                self.core.groups.retained(number),
                Submission {
                    work: Work::Barrier,
                    done: Some(done.clone()),
                    open: None,
                    keep: false,
                    late: Vec::new(),
                },
            );
        }
        Ticket::on(done)
    }

    fn read_retained_part(
        &self,
        filter: &str,
        cursor: &mut RetainedCursor,
        budget: usize,
        now: Timestamp,
        each: &mut dyn FnMut(&Message),
    ) -> bool {
        if !nightjar_broker::filter_index::is_wild(filter) {
            let number = self.core.retained_group(filter);
            let state = self.core.retained[usize::from(number)].state.read();
            if let Some(message) = state.0.get(filter, now) {
                each(message);
            }
            return true;
        }
        let groups = &self.core.retained;
        cursor.read(groups.len(), budget, |group, from, budget| {
            let state = groups[group].state.read();
            state.0.read_part(filter, from, budget, now, each)
        })
    }

    fn retained_size(&self) -> (usize, usize) {
        self.core
            .retained
            .iter()
            .fold((0, 0), |(len, bytes), group| {
                let state = group.state.read();
                (len + state.0.len(), bytes + state.0.bytes())
            })
    }

    fn sessions(&self) -> usize {
        let groups = self.core.sessions.iter();
        groups
            .map(|group| group.state.lock().shard.sessions())
            .sum()
    }

    fn queue_len(&self, client_id: &str) -> Option<(usize, u64)> {
        let group = &self.core.sessions[usize::from(self.shard_of(client_id))];
        group.state.lock().shard.queue_len(client_id)
    }

    fn parked(&self, client_id: &str) -> Option<Parked> {
        let group = &self.core.sessions[usize::from(self.shard_of(client_id))];
        group.state.lock().shard.parked(client_id)
    }

    fn node_of(&self, client_id: &str) -> Option<u64> {
        let group = &self.core.sessions[usize::from(self.shard_of(client_id))];
        group.state.lock().shard.node_of(client_id)
    }

    fn tick(&self, now: Timestamp) {
        if !self.core.leads() {
            return; // Time passes where consensus is led.
        }
        for (number, group) in self.core.sessions.iter().enumerate() {
            let due = group.state.lock().shard.is_due(now);
            if due && !group.ticking.swap(true, Ordering::AcqRel) {
                self.core
                    .submit_own(number as u16, vec![SessionEntry::Tick { now }]);
            }
        }
        self.tick_retained(now, false);
    }
}

impl NodeStore {
    /// The lock that submissions are made under, if this connection is the client's: no later one was submitted before.
    /// What an earlier one left unread in its socket is read when the client is back already; a message of QoS 2 in it
    /// would be taken twice, its packet id being refused as stale. Of a cluster, connections are compared when the
    /// proposal is applied, for the client may be at another node by then: what stands beside an Open in it came before that.
    fn lock_for(&self, client_id: &str, epoch: u64) -> Option<MutexGuard<'_, Pending>> {
        let shard = self.shard_of(client_id);
        let group = &self.core.sessions[usize::from(shard)];
        loop {
            let opens = group.opens.load(Ordering::Acquire);
            let overtaken = || !group.state.lock().shard.is_current(client_id, epoch);
            if self.is_opening(shard, client_id) || self.core.member.is_none() && overtaken() {
                return None;
            }
            let pending = self.core.pending.lock();
            if group.opens.load(Ordering::Acquire) == opens {
                return Some(pending);
            }
        }
    }

    fn tick_retained(&self, now: Timestamp, force: bool) {
        for (number, group) in self.core.retained.iter().enumerate() {
            let due = force || group.state.read().0.is_due(now);
            if due && !group.ticking.swap(true, Ordering::AcqRel) {
                group.unapplied.fetch_add(1, Ordering::AcqRel);
                self.core.push(
                    self.core.groups.retained(number as u16),
                    Submission {
                        work: Work::Retained(RetainedEntry::Tick { now }),
                        done: None,
                        open: None,
                        keep: false,
                        late: Vec::new(),
                    },
                );
            }
        }
    }
}

impl MetaStore for NodeStore {
    fn set_value(&self, key: &str, value: Vec<u8>) -> Ticket {
        let key = key.to_owned();
        self.put_meta(MetaEntry::Put { key, value })
    }

    fn remove_value(&self, key: &str) -> Ticket {
        self.put_meta(MetaEntry::Delete {
            key: key.to_owned(),
        })
    }

    fn value(&self, key: &str) -> Option<Vec<u8>> {
        self.meta(key)
    }

    fn values(&self, prefix: &str, after: Option<&str>, limit: usize) -> Vec<(String, Vec<u8>)> {
        page(&self.core.meta.read().0.0, prefix, after, limit)
    }

    fn watch(&self, watcher: Arc<dyn MetaWatcher>) {
        self.core.watchers.write().push(watcher);
    }

    fn survives(&self) -> bool {
        true
    }
}
