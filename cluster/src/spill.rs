//! When memory holds more messages than its budget, bodies go to the disk; when a client comes for them, they are
//! read again by a thread of their own, so that neither a connection nor the log waits for a read.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::sync::mpsc::Receiver;

use nightjar_broker::shard::{
    Ack, AckKind, Body, Duty, Effect, Holder, Place, SessionEntry, SessionShard,
};
use nightjar_broker::{DropReason, Message, Timestamp};

use crate::bodies::{Bodies, Source};
use crate::error::Error;
use crate::inner::Core;

/// Bytes that are read for one session at a time.
const READ: usize = 1 << 20;

/// So many times what a client can take at once is read for it at a time: what a sweep leaves to a connected session.
const WINDOWS: usize = 2;

/// Moves every body of a group that may go to the disk there; the bytes that left memory.
pub(crate) fn sweep(shard: &mut SessionShard, bodies: &mut Bodies) -> Result<usize, Error> {
    let mut places: HashMap<usize, Place> = HashMap::new();
    {
        // Each once, however many queues hold it. They live as long as the shard is locked.
        let mut messages: Vec<Message> = Vec::new();
        shard.spillable(&mut |message| {
            let place = Place { file: 0, offset: 0 };
            if places.insert(message.address(), place).is_none() {
                messages.push(message.clone());
            }
        });
        let all: Vec<&Message> = messages.iter().collect();
        for (message, place) in messages.iter().zip(bodies.append(&all)?) {
            places.insert(message.address(), place);
        }
    }
    let before = shard.held();
    shard.spill(&mut |message| places.get(&message.address()).copied());
    Ok(before - shard.held())
}

impl Core {
    /// After something was queued in a group: lets bodies go if memory holds too many, and this group its part.
    pub(crate) fn relieve(&self, group: u16, state: &mut crate::inner::SessionState) {
        let own = &self.sessions[usize::from(group)].held;
        own.store(state.shard.held(), Ordering::Relaxed);
        let part = self.memory / self.sessions.len().max(1);
        // What could not go then may have gone since.
        state.kept = state.kept.min(state.shard.held());
        if state.shard.held() < (part / 2).max(state.kept + part / 4).max(1) {
            return;
        }
        let all: usize = self
            .sessions
            .iter()
            .map(|group| group.held.load(Ordering::Relaxed))
            .sum();
        if all <= self.memory {
            return;
        }
        match sweep(&mut state.shard, &mut state.bodies) {
            Ok(_) => {}
            Err(error) => {
                if state.bodies.complains() {
                    tracing::error!(%error, "queued messages cannot leave memory");
                }
            }
        }
        // What could not go is not tried again at once.
        state.kept = state.shard.held();
        own.store(state.kept, Ordering::Relaxed);
    }
}

/// What the thread that reads bodies is asked for.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Load {
    /// The stream of this group's session needs its next messages.
    Stream(u16, u32),
    /// What this duty of a group is to hand back.
    HandBack(u16, u64),
}

/// The thread that reads bodies for sessions that want them.
pub(crate) fn load(core: &Arc<Core>, wanted: &Receiver<Load>) {
    while let Ok(load) = wanted.recv() {
        match load {
            Load::Stream(group, slot) => stream(core, group, slot),
            Load::HandBack(group, duty) => hand_back(core, group, duty),
        }
    }
}

/// Bodies in one file: sequences, places, costs.
struct Run {
    source: Result<Source, Error>,
    items: Vec<(u64, Place, u32)>,
}

/// What came of reading.
#[derive(Default)]
struct Read {
    found: Vec<(u64, Place, Message)>,
    lost: Vec<u64>,
}

/// Where to read these bodies, neighbours together.
fn runs(bodies: &Bodies, mut items: Vec<(u64, Place, u32)>) -> Vec<Run> {
    let mut runs: Vec<Run> = Vec::new();
    items.sort_by_key(|(_, place, _)| *place);
    for item in items {
        match runs.last_mut() {
            Some(run) if run.items[0].1.file == item.1.file => run.items.push(item),
            _ => runs.push(Run {
                source: bodies.source(item.1.file),
                items: vec![item],
            }),
        }
    }
    runs
}

fn read(runs: Vec<Run>) -> Read {
    let mut done = Read::default();
    for run in runs {
        let offsets: Vec<(u32, u32)> = run
            .items
            .iter()
            .map(|(_, place, cost)| (place.offset, *cost))
            .collect();
        let read = match &run.source {
            Ok(source) => source.read(&offsets),
            Err(error) => {
                tracing::error!(%error, "{} queued messages are lost", run.items.len());
                done.lost.extend(run.items.iter().map(|(seq, _, _)| *seq));
                continue;
            }
        };
        for ((seq, place, _), result) in run.items.into_iter().zip(read) {
            match result {
                Ok(message) => done.found.push((seq, place, message)),
                Err(error) => {
                    tracing::error!(%error, "a queued message is lost");
                    done.lost.push(seq);
                }
            }
        }
    }
    done
}

fn stream(core: &Core, number: u16, slot: u32) {
    let group = &core.sessions[usize::from(number)];
    let wanted = {
        let state = group.state.lock();
        state.streams.wants(slot).map(|(cursor, credit)| {
            let items = state
                .shard
                .on_disk(slot, cursor, credit as usize * WINDOWS, READ);
            runs(&state.bodies, items)
        })
    };
    let Read { found, mut lost } = read(wanted.unwrap_or_default());
    let mut wakers = Vec::new();
    let mut entry = None;
    {
        let mut state = group.state.lock();
        let state = &mut *state;
        for (seq, place, message) in found {
            let holder = Holder::Session(slot);
            state.shard.bring_back(holder, seq, place, message);
        }
        state.streams.loaded(slot);
        let mut acks = Vec::new();
        // What is lost would only be asked for again: its removal comes with the log, and starts the stream anew.
        if lost.is_empty() {
            acks = state
                .streams
                .pump(&state.shard, slot, Timestamp::now(), &mut wakers);
        }
        lost.sort_unstable();
        acks.extend(lost.into_iter().map(|seq| Ack {
            seq,
            kind: AckKind::Discarded(DropReason::Damaged),
        }));
        if !acks.is_empty()
            && let Some((client_id, epoch)) = state.shard.owner(slot)
        {
            entry = Some(SessionEntry::Acks {
                client_id: client_id.clone(),
                epoch,
                acks,
            });
        }
        core.send_wanted(number, state);
    }
    wakers.into_iter().for_each(std::task::Waker::wake);
    if let Some(entry) = entry {
        core.submit_own(number, vec![entry]);
    }
}

/// Reads what an ended session hands back to its shared subscriptions, and lets the broker do it.
fn hand_back(core: &Core, number: u16, duty: u64) {
    let group = &core.sessions[usize::from(number)];
    let wanted = {
        let state = group.state.lock();
        let Some(Duty::HandBack { shared, .. }) = state.shard.duty(duty) else {
            return;
        };
        let items = shared.iter().filter_map(|item| match item.body() {
            Body::Disk { place, cost } => Some((item.seq(), *place, *cost)),
            _ => None,
        });
        runs(&state.bodies, items.collect())
    };
    let Read { found, lost } = read(wanted);
    let (client_id, shared) = {
        let mut state = group.state.lock();
        for (seq, place, message) in found {
            let holder = Holder::Duty(duty);
            state.shard.bring_back(holder, seq, place, message);
        }
        let Some(Duty::HandBack { client_id, shared }) = state.shard.duty(duty) else {
            return;
        };
        let shared = shared.iter().filter(|item| item.message().is_some());
        (client_id.clone(), shared.cloned().collect())
    };
    let Some(sink) = core.sink.read().clone() else {
        return; // The store closes; the duty stays for the next start.
    };
    if !lost.is_empty() {
        let dropped = Effect::Dropped {
            client_id: client_id.clone(),
            reason: DropReason::Damaged,
            count: lost.len() as u64,
        };
        sink.effect(number, dropped);
    }
    let effect = Effect::HandBack {
        client_id,
        shared,
        duty,
    };
    sink.effect(number, effect);
    sink.settled();
}
