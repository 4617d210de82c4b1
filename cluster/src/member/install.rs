//! A snapshot in the place of what is here: this node was too far behind for the log.

use std::io;
use std::sync::atomic::Ordering;

use nightjar_broker::shard::{Effect, Streams};

use super::apply::bad;
use super::{Change, Event, Member};
use crate::inner::Core;
use crate::raft::State;

impl Core {
    /// Puts the state of a snapshot in the place of what is here: this node was too far behind for the log.
    pub fn install(&self, state: State) -> io::Result<()> {
        let Some(member) = &self.member else {
            return Ok(());
        };
        if state.sessions.len() != self.sessions.len()
            || state.retained.len() != self.retained.len()
        {
            return Err(bad(
                "the snapshot has another number of groups than this node (cluster.shards)",
            ));
        }
        let asked = member.nonce.load(Ordering::Acquire);
        let waits = asked != 0 && member.flight.lock().incarnation == 0;
        // Connections of this node stand on a state that is gone.
        if member.serves() {
            self.fence();
            member.tell(Event::Fenced);
        }
        let sink = self.sink.read().clone();
        for (number, (group, shard)) in self.sessions.iter().zip(state.sessions).enumerate() {
            let number = number as u16;
            let mut now = group.state.lock();
            if let Some(sink) = &sink {
                for filter in now.shard.routes() {
                    sink.effect(number, Effect::RouteRemoved(filter));
                }
                for filter in shard.routes() {
                    sink.effect(number, Effect::RouteAdded(filter));
                }
            }
            now.shard = shard;
            now.streams = Streams::default();
            now.pressed.clear();
            group.note_wills(&now);
            group.pressed.store(0, Ordering::Release);
        }
        for (group, shard) in self.retained.iter().zip(state.retained) {
            group.state.write().0 = shard;
        }
        let told: Vec<(String, Option<Vec<u8>>)> = {
            let mut meta = self.meta.write();
            let (old, new) = (&meta.0.0, &state.meta.0);
            let gone = old.keys().filter(|key| !new.contains_key(*key));
            let told = gone
                .map(|key| (key.clone(), None))
                .chain(
                    new.iter()
                        .filter(|(key, value)| old.get(*key) != Some(*value))
                        .map(|(key, value)| (key.clone(), Some(value.clone()))),
                )
                .collect();
            meta.0 = state.meta;
            told
        };
        for watcher in &*self.watchers.read() {
            for (key, value) in &told {
                watcher.changed(key, value.as_deref());
            }
        }
        let changes = {
            let mut nodes = member.nodes.write();
            let changes = nodes.changes_to(&state.nodes);
            *nodes = state.nodes;
            changes
        };
        self.settle_sessions(member, None);
        member.doing.lock().clear();
        if member.leads() {
            self.take_duties();
        }
        self.note_changes(member, changes, waits.then_some(asked));
        Ok(())
    }

    /// What the entries would have told that the snapshot stands for. `asked`: this node waits for an incarnation with this
    /// nonce, which has not begun here.
    fn note_changes(&self, member: &Member, changes: Vec<Change>, asked: Option<u64>) {
        let here = member.number();
        let own = member.nodes.read().nodes.get(&here).cloned();
        let own = own.filter(|own| Some(own.nonce) == asked);
        match &own {
            Some(own) if own.up => self.admit(own.incarnation),
            // It began and ended while this node heard nothing. The next one must have another nonce.
            Some(_) => member.tell(Event::Fenced),
            None => {}
        }
        let begins = own.is_some_and(|own| own.up);
        for change in changes {
            if let Change::Down { number, .. } | Change::Removed { number, .. } = &change {
                member.forget_other(*number);
            }
            // Of its own incarnations a node is told where they begin and end for it.
            let own = match &change {
                Change::Up { number, .. } => *number == here && !begins,
                Change::Down { number, .. } => *number == here,
                _ => false,
            };
            if !own {
                member.tell(Event::Nodes(change));
            }
        }
        member.release_held();
        member.tell(Event::Nodes(Change::Added));
    }
}

#[cfg(test)]
mod tests {
    use nightjar_broker::shard::{RetainedShard, SessionShard};

    use super::*;
    use crate::member::kit::on_member;
    use crate::member::{NodeEntry, Nodes};
    use crate::meta::Meta;

    fn add(nonce: u64) -> NodeEntry {
        NodeEntry::Add {
            name: format!("node{nonce}"),
            address: "127.0.0.1:1".to_owned(),
            nonce,
        }
    }

    fn up(number: u64, nonce: u64) -> NodeEntry {
        NodeEntry::Up {
            number,
            nonce,
            address: "127.0.0.1:1".to_owned(),
            grace: 0,
            now: 1,
        }
    }

    fn down(number: u64, incarnation: u64) -> NodeEntry {
        NodeEntry::Down {
            number,
            incarnation,
            now: 1,
        }
    }

    /// A node asked for an incarnation with nonce 12, heard nothing for a while, and gets a snapshot. Whether it is admitted,
    /// and what it is told.
    fn install(name: &str, entries: Vec<NodeEntry>) -> (u64, Vec<Event>) {
        on_member(&format!("install-{name}"), 1, |store, opened| {
            let core = &store.core;
            let member = core.member.as_ref().expect("it is a member");
            member.number.store(1, Ordering::Release);
            member.nonce.store(12, Ordering::Release);
            let mut nodes = Nodes::default();
            for entry in [add(10), add(20), up(2, 21)] {
                nodes.apply(entry);
            }
            *member.nodes.write() = nodes.clone();
            for entry in entries {
                nodes.apply(entry);
            }
            let state = State {
                nodes,
                sessions: vec![SessionShard::default()],
                retained: vec![RetainedShard::default()],
                meta: Meta::default(),
            };
            core.install(state).expect("as many groups");
            let admitted = member.flight.lock().incarnation;
            let mut events = Vec::new();
            while let Ok(event) = opened.events.try_recv() {
                events.push(event);
            }
            (admitted, events)
        })
    }

    fn changes(events: &[Event]) -> Vec<(u64, bool)> {
        let change = |event: &Event| match event {
            Event::Nodes(Change::Up { number, .. }) => Some((*number, true)),
            Event::Nodes(Change::Down { number, .. }) => Some((*number, false)),
            _ => None,
        };
        events.iter().filter_map(change).collect()
    }

    #[test]
    fn an_incarnation_that_a_snapshot_brings_begins() {
        let (admitted, events) = install("begins", vec![up(1, 12)]);
        assert_eq!(admitted, 1);
        assert_eq!(changes(&events), [(1, true)]);
    }

    #[test]
    fn an_incarnation_that_began_and_ended_unheard_is_over_and_never_begins() {
        let (admitted, events) = install("over", vec![up(1, 12), down(1, 1)]);
        assert_eq!(admitted, 0);
        assert!(events.iter().any(|event| matches!(event, Event::Fenced)));
        // Of an incarnation with another nonce, an earlier process asked.
        let (admitted, events) = install("other", vec![up(1, 11)]);
        assert_eq!(admitted, 0);
        assert!(changes(&events).is_empty());
    }

    #[test]
    fn nodes_that_came_again_meanwhile_are_told_of() {
        let (_, events) = install("others", vec![down(2, 1), up(2, 22)]);
        assert_eq!(changes(&events), [(2, false), (2, true)]);
    }
}
