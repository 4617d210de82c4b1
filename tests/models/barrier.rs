//! SUBACK and the routes of two nodes: clients subscribe at one, the other goes out, with its process or without, and
//! comes back.
//!
//! Mirrored: tables, versions, `told`, `settle` and `knows_all` of `cluster/src/routes/mod.rs`; `changed`, `fence` and
//! `keep_lease` of `cluster/src/node/driver.rs`. A node that serves has its lease: `Down` is committed when it does not
//! (`lease.rs` shows that). Frames of one link keep their order; a link that breaks loses them and begins with all.

use stateright::{Model, Property};

use super::check;

/// What is left out to see that it is missed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Broken {
    Nothing,
    /// SUBACK waits for nobody.
    NotAwaited,
    /// A node that comes back serves with the routes it knew.
    OldRoutes,
    /// A node is put out while it serves.
    NotFenced,
    /// A link that comes up again begins with what comes next.
    NotAll,
}

#[derive(Debug, Clone)]
struct Barrier {
    broken: Broken,
    /// Clients that subscribe.
    subscriptions: u8,
    /// How often the other node may go out, and its link break.
    outs: u8,
    breaks: u8,
}

/// Entries of the log about the other node.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Entry {
    Up(u8),
    Down,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Frame {
    /// All subscriptions, told to an incarnation.
    All {
        version: u8,
        to: u8,
    },
    One {
        version: u8,
    },
}

/// The node at which clients subscribe. The n-th subscription is its version n.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
struct Teller {
    applied: usize,
    version: u8,
    acked: u8,
    /// Incarnation of the other node, and whether it is up, as far as it was applied here.
    other: (u8, bool),
    /// Subscriptions whose SUBACK was given.
    subacked: u8,
}

/// The other node.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
struct Other {
    applied: usize,
    /// 0: it is not up.
    incarnation: u8,
    serves: bool,
    known: bool,
    version: u8,
    told: u8,
    /// The subscriptions it knows, a bit each.
    table: u8,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct State {
    log: Vec<Entry>,
    teller: Teller,
    other: Other,
    link: Vec<Frame>,
    acks: Vec<u8>,
    outs: u8,
    breaks: u8,
    /// The last incarnation whose end is decided: its lease is over, though the other node may not have heard yet that it began.
    over: u8,
    /// A SUBACK was given while the other node was out; it served again behind that.
    alone: bool,
    again: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Action {
    Subscribe,
    Receive,
    Acknowledged,
    TellerApplies,
    OtherApplies,
    /// The other node's lease is over; its process goes on.
    Fence,
    /// The other node dies.
    Crash,
    CommitDown,
    CommitUp,
    Serve,
    Break,
}

const fn first(count: u8) -> u8 {
    (1 << count) - 1
}

impl State {
    /// Incarnation and state of the other node at the end of the log.
    fn latest(&self) -> (u8, bool) {
        self.log
            .iter()
            .fold((0, false), |(of, _), entry| match entry {
                Entry::Up(incarnation) => (*incarnation, true),
                Entry::Down => (of, false),
            })
    }

    fn tell_all(&mut self) {
        self.link.push(Frame::All {
            version: self.teller.version,
            to: self.teller.other.0,
        });
    }

    /// Gives the SUBACKs that wait for nobody any more.
    fn settle(&mut self, model: &Barrier) {
        let teller = &mut self.teller;
        let awaited = teller.other.1 && model.broken != Broken::NotAwaited;
        let reached = if awaited {
            teller.acked.min(teller.version)
        } else {
            teller.version
        };
        if reached > teller.subacked {
            self.alone |= !teller.other.1 && self.other.known;
            teller.subacked = reached;
        }
    }

    fn end_of_link(&mut self, model: &Barrier) {
        self.link.clear();
        if model.broken != Broken::NotAll {
            self.tell_all();
        }
    }
}

impl Model for Barrier {
    type State = State;
    type Action = Action;

    fn init_states(&self) -> Vec<State> {
        // The other node is up and knows that there is nothing.
        let other = Other {
            applied: 1,
            incarnation: 1,
            serves: true,
            known: true,
            version: 0,
            told: 1,
            table: 0,
        };
        let teller = Teller {
            applied: 1,
            other: (1, true),
            ..Teller::default()
        };
        vec![State {
            log: vec![Entry::Up(1)],
            teller,
            other,
            link: Vec::new(),
            acks: Vec::new(),
            outs: 0,
            breaks: 0,
            over: 0,
            alone: false,
            again: false,
        }]
    }

    fn actions(&self, state: &State, actions: &mut Vec<Action>) {
        let (teller, other) = (&state.teller, &state.other);
        if teller.version < self.subscriptions {
            actions.push(Action::Subscribe);
        }
        if !state.link.is_empty() {
            actions.push(Action::Receive);
        }
        if !state.acks.is_empty() {
            actions.push(Action::Acknowledged);
        }
        if teller.applied < state.log.len() {
            actions.push(Action::TellerApplies);
        }
        if other.applied < state.log.len() {
            actions.push(Action::OtherApplies);
        }
        let (incarnation, up) = state.latest();
        if other.incarnation != 0 && state.outs < self.outs {
            actions.extend([Action::Fence, Action::Crash]);
        }
        let is_fenced = other.incarnation != incarnation || self.broken == Broken::NotFenced;
        if up && is_fenced && state.outs > 0 || up && self.broken == Broken::NotFenced {
            actions.push(Action::CommitDown);
        }
        // It asks for a new incarnation when it has applied what is known of the last one.
        if other.incarnation == 0 && other.applied == state.log.len() && incarnation <= self.outs {
            actions.push(Action::CommitUp);
        }
        let knows =
            other.known && (other.told >= other.incarnation || self.broken == Broken::OldRoutes);
        if other.incarnation > state.over && !other.serves && knows {
            actions.push(Action::Serve);
        }
        if state.breaks < self.breaks {
            actions.push(Action::Break);
        }
    }

    fn next_state(&self, state: &State, action: Action) -> Option<State> {
        let mut next = state.clone();
        match action {
            Action::Subscribe => {
                next.teller.version += 1;
                let version = next.teller.version;
                next.link.push(Frame::One { version });
                next.settle(self);
            }
            Action::Receive => {
                let frame = next.link.remove(0);
                let other = &mut next.other;
                let taken = match frame {
                    Frame::All { version, to } if version >= other.version => {
                        other.table = first(version);
                        other.known = true;
                        other.told = to;
                        Some(version)
                    }
                    Frame::One { version } if other.known && version > other.version => {
                        other.table |= 1 << (version - 1);
                        Some(version)
                    }
                    _ => None,
                };
                if let Some(version) = taken {
                    other.version = version;
                    next.acks.push(version);
                }
            }
            Action::Acknowledged => {
                let version = next.acks.remove(0);
                next.teller.acked = next.teller.acked.max(version);
                next.settle(self);
            }
            Action::TellerApplies => {
                let entry = next.log[next.teller.applied];
                next.teller.applied += 1;
                match entry {
                    Entry::Up(incarnation) => {
                        next.teller.other = (incarnation, true);
                        next.tell_all();
                    }
                    Entry::Down => next.teller.other.1 = false,
                }
                next.settle(self);
            }
            Action::OtherApplies => {
                let entry = next.log[next.other.applied];
                next.other.applied += 1;
                match entry {
                    Entry::Up(incarnation) => {
                        next.other.incarnation = incarnation;
                        next.other.serves = false;
                    }
                    Entry::Down => {
                        next.other.incarnation = 0;
                        next.other.serves = false;
                    }
                }
            }
            Action::Fence => {
                next.outs += 1;
                next.other.incarnation = 0;
                next.other.serves = false;
            }
            Action::Crash => {
                next.outs += 1;
                next.other = Other {
                    applied: next.other.applied,
                    ..Other::default()
                };
                next.end_of_link(self);
            }
            Action::CommitDown => {
                if self.broken != Broken::NotFenced {
                    next.over = next.latest().0;
                }
                next.log.push(Entry::Down);
            }
            Action::CommitUp => {
                let incarnation = next.latest().0 + 1;
                next.log.push(Entry::Up(incarnation));
            }
            Action::Serve => {
                next.other.serves = true;
                next.again |= next.alone;
            }
            Action::Break => {
                next.breaks += 1;
                next.end_of_link(self);
            }
        }
        Some(next)
    }

    fn properties(&self) -> Vec<Property<Self>> {
        vec![
            Property::always(KNOWN, |_: &Self, state: &State| {
                let wanted = first(state.teller.subacked);
                !state.other.serves || state.other.table & wanted == wanted
            }),
            Property::sometimes(
                "a node serves again behind a SUBACK that it missed",
                |_: &Self, state: &State| state.again,
            ),
            Property::sometimes(
                "all get their SUBACK while the other node serves",
                |model: &Self, state: &State| {
                    state.other.serves && state.teller.subacked == model.subscriptions
                },
            ),
        ]
    }

    fn within_boundary(&self, state: &State) -> bool {
        state.log.len() <= 2 + 2 * usize::from(self.outs)
    }
}

const KNOWN: &str = "a node that serves knows every subscription whose SUBACK was given";

const fn shipped() -> Barrier {
    Barrier {
        broken: Broken::Nothing,
        subscriptions: 2,
        outs: 2,
        breaks: 1,
    }
}

#[test]
fn a_node_that_serves_knows_what_was_subscribed_to() {
    assert!(check(shipped()).is_empty());
}

#[test]
fn whatever_is_left_out_of_the_barrier_is_missed() {
    for broken in [
        Broken::NotAwaited,
        Broken::OldRoutes,
        Broken::NotFenced,
        Broken::NotAll,
    ] {
        let wrong = check(Barrier {
            broken,
            ..shipped()
        });
        assert!(wrong.contains(&KNOWN), "{broken:?}: {wrong:?}");
    }
}
