//! Applying committed entries: shards in the order of the log, effects to the broker, then the tickets.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::sync::mpsc::{Receiver, Sender};
use std::task::Waker;

use nightjar_broker::shard::{Effect, Queued, Reply, SessionEntry};
use nightjar_broker::{Completion, EffectSink, Timestamp};
use nightjar_mqtt::ReasonCode;

use crate::backup::Cut;
use crate::bodies::Source;
use crate::frozen::FrozenGroup;
use crate::inner::{Core, LOG_WINDOW, SessionState};
use crate::meta::MetaEntry;
use crate::pending::{Submission, Work};
use crate::writer::Batch;

/// One worker: the groups whose batches it is sent.
pub(crate) fn run(core: &Arc<Core>, batches: &Receiver<Batch>) {
    let mut scratch = Scratch::default();
    while let Ok(batch) = batches.recv() {
        for (completion, _) in apply_batch(core, batch, &mut scratch) {
            completion.complete(Ok(()));
        }
    }
}

/// Completions, and whether a subscription waits on each.
type Done = Vec<(Arc<Completion>, bool)>;

/// Applies the committed entries of one group; whoever waits for them is still to be told.
pub(crate) fn apply_batch(core: &Core, batch: Batch, scratch: &mut Scratch) -> Done {
    if batch.group < core.groups.sessions {
        sessions(core, batch, scratch)
    } else {
        others(core, batch)
    }
}

#[derive(Default)]
pub(crate) struct Scratch {
    effects: Vec<Effect>,
    ready: Vec<u32>,
    wakers: Vec<Waker>,
}

fn sessions(core: &Core, batch: Batch, scratch: &mut Scratch) -> Done {
    let group = &core.sessions[usize::from(batch.group)];
    let now = Timestamp::now();
    let sink = core.sink.read().clone();
    let mut done = Vec::with_capacity(batch.submissions.len());
    let mut messages = 0;
    let mut expired = Vec::new();
    let here = core.number();
    {
        let mut guard = group.state.lock();
        let state = &mut *guard;
        // Asked under the lock: who begins to lead takes what it finds owed under it, and all that comes after is taken here.
        let leads = core.leads();
        for mut submission in batch.submissions {
            let late = std::mem::take(&mut submission.late);
            if batch.own {
                messages += submission.work.messages();
            }
            let subscribes = submission.work.subscribes();
            let entries = match &mut submission.work {
                Work::Session(entries) => std::mem::take(entries),
                Work::Cut(to) => {
                    let index = batch.index.unwrap_or(state.applied);
                    let mut files = BTreeSet::new();
                    state
                        .shard
                        .places(&mut |_, _, place| _ = files.insert(place.file));
                    let bodies = files
                        .into_iter()
                        .filter_map(|number| Some((number, state.bodies.source(number).ok()?)))
                        .collect();
                    cut(
                        to,
                        batch.group,
                        index,
                        bodies,
                        FrozenGroup::Sessions(state.shard.freeze()),
                    );
                    Vec::new()
                }
                _ => Vec::new(),
            };
            for (at, entry) in entries.into_iter().enumerate() {
                if late.iter().any(|of| of.contains(&at)) {
                    continue;
                }
                if batch.own {
                    core.forget_opening(batch.group, &entry);
                }
                core.note_entry(batch.group, &entry);
                let elsewhere = match &entry {
                    SessionEntry::Open(open) if open.node != here => Some(open.client_id.clone()),
                    _ => None,
                };
                if matches!(entry, SessionEntry::Tick { .. }) {
                    group.ticking.store(false, Ordering::Release);
                }
                let reply = state.shard.apply(entry, &mut scratch.effects);
                if let Reply::Opened(opened) = reply {
                    if let (Some(client_id), Some(sink)) = (&elsewhere, &sink) {
                        sink.moved(client_id, opened.epoch);
                    }
                    submission.answer(*opened);
                }
                let mut share = |effect| core.share_of(batch.group, leads, effect);
                carry_out(sink.as_deref(), batch.group, state, scratch, &mut share);
            }
            match submission.done {
                // Never acknowledged: it was not taken.
                Some(waits) if !late.is_empty() => {
                    waits.complete(Err(ReasonCode::SessionTakenOver));
                }
                waits => done.extend(waits.map(|waits| (waits, subscribes))),
            }
        }
        if let Some(index) = batch.index {
            state.applied = index;
        }
        scratch.ready.sort_unstable();
        scratch.ready.dedup();
        for slot in scratch.ready.drain(..) {
            let acks = state
                .streams
                .pump(&state.shard, slot, now, &mut scratch.wakers);
            if !acks.is_empty()
                && let Some((client_id, epoch)) = state.shard.owner(slot)
            {
                expired.push(SessionEntry::Acks {
                    client_id: client_id.clone(),
                    epoch,
                    acks,
                });
            }
            state.note_pressure(slot);
        }
        group.note_wills(state);
        core.send_wanted(batch.group, state);
        core.hand_on(batch.group, state);
        core.relieve(batch.group, state);
        group.pressed.store(state.pressed.len(), Ordering::Release);
    }
    if messages > 0 {
        let left = group.unapplied.fetch_sub(messages, Ordering::AcqRel) - messages;
        if left < LOG_WINDOW / 2 {
            for completion in group.waiting.lock().drain(..) {
                completion.finish();
            }
        }
    }
    scratch.wakers.drain(..).for_each(Waker::wake);
    if !expired.is_empty() {
        core.submit_own(batch.group, expired);
    }
    if let Some(sink) = sink {
        sink.settled();
    }
    done
}

/// Hands the state of a group to a backup.
fn cut(to: &Sender<Cut>, group: u16, index: u64, bodies: Vec<(u32, Source)>, state: FrozenGroup) {
    // Whoever asked may have given up.
    let _ = to.send(Cut {
        group,
        index,
        state,
        bodies,
    });
}

fn carry_out(
    sink: Option<&dyn EffectSink>,
    group: u16,
    state: &mut SessionState,
    scratch: &mut Scratch,
    share: &mut dyn FnMut(Effect) -> Option<Effect>,
) {
    for effect in scratch.effects.drain(..) {
        match effect {
            Effect::Ready { slot } => {
                if scratch.ready.last() != Some(&slot) {
                    scratch.ready.push(slot);
                }
            }
            effect => {
                if let Effect::Ended { slot, .. } = &effect {
                    state.streams.end(*slot);
                    state.pressed.remove(slot);
                }
                let (Some(sink), Some(effect)) = (sink, share(effect)) else {
                    continue;
                };
                match effect {
                    Effect::HandBack { duty, shared, .. }
                        if shared.iter().any(Queued::is_on_disk) =>
                    {
                        state.backlog.push_back(duty);
                    }
                    effect => sink.effect(group, effect),
                }
            }
        }
    }
}

fn others(core: &Core, batch: Batch) -> Done {
    let mut done = Vec::with_capacity(batch.submissions.len());
    let take = |submissions: Vec<Submission>, mut one: Box<dyn FnMut(Work, bool) + '_>| {
        let mut done = Vec::with_capacity(submissions.len());
        for submission in submissions {
            let is_late = !submission.late.is_empty();
            let overtaken = is_late && !submission.work.is_will();
            one(submission.work, is_late);
            match submission.done {
                // Never acknowledged: it was not taken.
                Some(waits) if overtaken => waits.complete(Err(ReasonCode::SessionTakenOver)),
                waits => done.extend(waits.map(|waits| (waits, false))),
            }
        }
        done
    };
    if batch.group == core.groups.meta() {
        let watchers = core.watchers.read().clone();
        let mut changes = Vec::new();
        {
            let mut meta = core.meta.write();
            let state = &mut *meta;
            done.extend(take(
                batch.submissions,
                Box::new(|work, _| match work {
                    Work::Meta(entry) => {
                        if !watchers.is_empty() {
                            changes.push(entry.clone());
                        }
                        state.0.apply(entry);
                    }
                    Work::Cut(to) => {
                        let index = batch.index.unwrap_or(state.1);
                        cut(
                            &to,
                            batch.group,
                            index,
                            Vec::new(),
                            FrozenGroup::of_meta(&state.0),
                        );
                    }
                    _ => {}
                }),
            ));
            if let Some(index) = batch.index {
                state.1 = index;
            }
        }
        // Without the lock: a watcher may read values.
        for change in &changes {
            let (key, value) = match change {
                MetaEntry::Put { key, value } => (key, Some(&**value)),
                MetaEntry::Delete { key } => (key, None),
            };
            for watcher in &watchers {
                watcher.changed(key, value);
            }
        }
    } else {
        let group = &core.retained[usize::from(batch.group - core.groups.sessions)];
        let mut retained = group.state.write();
        let state = &mut *retained;
        done.extend(take(
            batch.submissions,
            Box::new(|work, is_late| match work {
                Work::Retained(entry) => {
                    if matches!(entry, nightjar_broker::shard::RetainedEntry::Tick { .. }) {
                        group.ticking.store(false, Ordering::Release);
                    }
                    if !is_late {
                        state.0.apply(entry);
                    }
                    if batch.own {
                        group.unapplied.fetch_sub(1, Ordering::AcqRel);
                    }
                }
                Work::Cut(to) => {
                    let index = batch.index.unwrap_or(state.1);
                    cut(
                        &to,
                        batch.group,
                        index,
                        Vec::new(),
                        FrozenGroup::Retained(state.0.freeze()),
                    );
                }
                _ => {}
            }),
        ));
        if let Some(index) = batch.index {
            state.1 = index;
        }
    }
    done
}
