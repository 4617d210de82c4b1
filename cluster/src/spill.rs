//! When memory holds more messages than its budget, bodies go to the disk; when a client comes for them, they are
//! read again by a thread of their own, so that neither a connection nor the log waits for a read.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::sync::mpsc::Receiver;

use nightjar_broker::shard::{Ack, AckKind, Place, SessionEntry, SessionShard};
use nightjar_broker::{DropReason, Message, Timestamp};

use crate::bodies::{Bodies, Source};
use crate::error::Error;
use crate::inner::Core;

/// Bytes that are read for one session at a time.
const READ: usize = 1 << 20;

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

/// The thread that reads bodies for sessions that want them.
pub(crate) fn load(core: &Arc<Core>, wanted: &Receiver<(u16, u32)>) {
    while let Ok((group, slot)) = wanted.recv() {
        one(core, group, slot);
    }
}

/// A run of bodies in one file: sequences, places, costs.
struct Run {
    source: Result<Source, Error>,
    items: Vec<(u64, Place, u32)>,
}

fn one(core: &Core, number: u16, slot: u32) {
    let group = &core.sessions[usize::from(number)];
    let mut runs: Vec<Run> = Vec::new();
    {
        let state = group.state.lock();
        if let Some((cursor, credit)) = state.streams.wants(slot) {
            let mut items = state.shard.on_disk(slot, cursor, credit as usize, READ);
            items.sort_by_key(|(_, place, _)| *place);
            for item in items {
                match runs.last_mut() {
                    Some(run) if run.items[0].1.file == item.1.file => run.items.push(item),
                    _ => runs.push(Run {
                        source: state.bodies.source(item.1.file),
                        items: vec![item],
                    }),
                }
            }
        }
    }
    let mut found = Vec::new();
    let mut lost = Vec::new();
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
                lost.extend(run.items.iter().map(|(seq, _, _)| *seq));
                continue;
            }
        };
        for ((seq, place, _), result) in run.items.into_iter().zip(read) {
            match result {
                Ok(message) => found.push((seq, place, message)),
                Err(error) => {
                    tracing::error!(%error, "a queued message is lost");
                    lost.push(seq);
                }
            }
        }
    }
    let mut wakers = Vec::new();
    let mut entry = None;
    {
        let mut state = group.state.lock();
        let state = &mut *state;
        for (seq, place, message) in found {
            state.shard.bring_back(slot, seq, place, message);
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
