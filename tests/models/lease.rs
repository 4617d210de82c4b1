//! The lease of one node, two leaders in turn, clocks that differ, answers in any order.
//!
//! Shipped as they are: `Lease` and `Leases` (`cluster/src/node/lease.rs`) and the nodes of the log
//! (`cluster/src/member/nodes.rs`). Mirrored: `keep_lease`, `watch_leader` and `fence` of `cluster/src/node/driver.rs`,
//! `end_silent` of `lead.rs`, `part_the_unreached` of `reach.rs` (at any time, for whatever reason), `renew_lease` and
//! `Register` of `requests.rs`.
//! Consensus is what openraft promises: one leader commits in a term; the read index is given to whoever leads then.

use std::collections::BTreeSet;
use std::sync::OnceLock;
use std::time::Duration;

use stateright::{Model, Property};
use tokio::time::Instant;

use super::check;
use super::nodes::{NodeEntry, Nodes};
use super::shipped_lease::{Lease, Leases};

/// The node whose lease it is about; nodes 0 and 1 may lead.
const NODE: u64 = 9;

/// What is left out to see that it is missed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Broken {
    Nothing,
    /// A leader does not wait longer than a lease.
    NoWait,
    /// A leader that was deposed grants leases.
    NoReadIndex,
    /// What was decided in one term is committed in another.
    AnyTerm,
    /// What was asked in one term is granted in another.
    GrantedInAnyTerm,
    /// A late answer to an early question takes back what was heard later.
    HeardGoesBack,
    /// A node that registers is noted as heard of only when it is up.
    NotedLate,
    /// A process that was stopped does not look at the clock before it acts.
    NoLook,
    /// A node that others do not reach is put down at once, while its lease goes on.
    PutDownAtOnce,
    /// Clocks differ by more than the margin in the time of a lease.
    Drift,
}

#[derive(Debug, Clone)]
struct Leasing {
    broken: Broken,
    /// Length of a step of the clock.
    step: Duration,
    /// Steps looked at.
    horizon: u32,
    /// Questions the node asks.
    asks: u8,
    terms: u8,
    /// Steps that the node's clock may miss.
    slow: u8,
    /// The node begins outside and registers.
    registers: bool,
    /// A leader may put the node out because others do not reach it.
    parts: bool,
}

impl Leasing {
    fn of(broken: Broken) -> Self {
        Self {
            broken,
            step: Duration::from_secs(1),
            horizon: 8,
            asks: 2,
            terms: 1,
            slow: 0,
            registers: false,
            parts: false,
        }
    }
}

/// A question of the node, on its way.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
struct Question {
    /// By the node's clock.
    asked: u32,
    registers: bool,
    at: Stage,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
enum Stage {
    Sent,
    /// A leader has it, since then.
    Received {
        leader: usize,
        at: u32,
        term: u64,
    },
    /// A majority confirmed that it leads; the log is applied there.
    Confirmed {
        leader: usize,
        at: u32,
        term: u64,
    },
    /// Of a registration: it is committed.
    Up {
        leader: usize,
        at: u32,
    },
    /// The answer is on its way.
    Granted,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
enum Logged {
    Up,
    Down(u64),
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, Default)]
struct Leader {
    leases: Leases,
    led: bool,
    /// Since when, for the broken variants.
    since: u32,
    /// Entries of the log applied here.
    applied: usize,
    /// Incarnations whose end is decided, and in which term.
    decided: BTreeSet<(u64, u64)>,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct State {
    now: u32,
    /// Steps that the node's clock missed.
    missed: u8,
    term: u64,
    leads: usize,
    log: Vec<Logged>,
    leaders: [Leader; 2],
    lease: Lease,
    /// Incarnation of the node as it knows it; 0: it is out.
    up: u64,
    applied: usize,
    /// It says that it serves, whatever the clock says.
    serving: bool,
    questions: BTreeSet<Question>,
    asks: u8,
}

#[derive(Debug, Clone, PartialEq)]
enum Action {
    /// A step of the clock; the node's may miss it.
    Tick {
        missed: bool,
    },
    /// This one is elected.
    Elect(usize),
    /// This one sees who leads.
    Follow(usize),
    Ask,
    Receive(Question, usize),
    /// The read index, or the commit of a registration.
    Confirm(Question),
    /// Of a registration: the commit is seen.
    See(Question),
    Answer(Question),
    Take(Question),
    /// The leader looks for silent nodes.
    Look(usize),
    Commit(usize, (u64, u64)),
    /// The leader puts the node out: others do not reach it.
    Part(usize),
    /// The node applies the next entry.
    Apply,
    /// Another node applies what there is.
    Learn(usize),
    /// The node looks at its lease.
    Pulse,
}

impl Leasing {
    fn at(&self, step: u32) -> Instant {
        static BEGIN: OnceLock<Instant> = OnceLock::new();
        *BEGIN.get_or_init(Instant::now) + self.step * step
    }

    /// The node's own clock.
    fn clock(&self, state: &State) -> u32 {
        state.now - u32::from(state.missed)
    }

    fn nodes(&self, log: &[Logged]) -> Nodes {
        let mut nodes = Nodes {
            last: NODE - 1,
            ..Nodes::default()
        };
        nodes.apply(NodeEntry::Add {
            name: String::new(),
            address: String::new(),
            nonce: 1,
        });
        for (nonce, entry) in (2..).zip(log) {
            nodes.apply(match entry {
                Logged::Up => NodeEntry::Up {
                    number: NODE,
                    nonce,
                    address: String::new(),
                    grace: 0,
                    now: 0,
                },
                Logged::Down(incarnation) => NodeEntry::Down {
                    number: NODE,
                    incarnation: *incarnation,
                    now: 0,
                },
            });
        }
        nodes
    }

    /// The incarnation that is up behind so many entries.
    fn up(&self, log: &[Logged]) -> Option<u64> {
        let nodes = self.nodes(log);
        let node = nodes.nodes.get(&NODE)?;
        node.up.then_some(node.incarnation)
    }

    fn serves(&self, state: &State) -> bool {
        let holds = state.lease.holds(self.at(self.clock(state)));
        state.up != 0 && state.serving && (holds || self.broken == Broken::NoLook)
    }
}

impl Model for Leasing {
    type State = State;
    type Action = Action;

    fn init_states(&self) -> Vec<State> {
        let mut state = State {
            now: 0,
            missed: 0,
            term: 1,
            leads: 0,
            log: Vec::new(),
            leaders: Default::default(),
            lease: Lease::default(),
            up: 0,
            applied: 0,
            serving: false,
            questions: BTreeSet::new(),
            asks: 0,
        };
        state.leaders[0].leases.follow(true, false, 1, self.at(0));
        state.leaders[0].led = true;
        if !self.registers {
            state.log.push(Logged::Up);
            (state.up, state.applied) = (1, 1);
            state.leaders.iter_mut().for_each(|it| it.applied = 1);
        }
        vec![state]
    }

    fn actions(&self, state: &State, actions: &mut Vec<Action>) {
        if state.now < self.horizon {
            actions.push(Action::Tick { missed: false });
            if state.missed < self.slow {
                actions.push(Action::Tick { missed: true });
            }
        }
        if state.asks < self.asks && (state.up != 0 || (self.registers && state.asks == 0)) {
            actions.push(Action::Ask);
        }
        for who in 0..2 {
            if state.term < u64::from(self.terms) && who != state.leads {
                actions.push(Action::Elect(who));
            }
            let leader = &state.leaders[who];
            let leads = state.leads == who;
            if leader.led != leads || (leads && leader.leases.term() != Some(state.term)) {
                actions.push(Action::Follow(who));
            }
            if leader.leases.term().is_some() {
                actions.push(Action::Look(who));
                if self.parts {
                    actions.push(Action::Part(who));
                }
            }
            if leader.applied < state.log.len() {
                actions.push(Action::Learn(who));
            }
            for decided in &leader.decided {
                actions.push(Action::Commit(who, *decided));
            }
        }
        if state.applied < state.log.len() {
            actions.push(Action::Apply);
        }
        if state.up != 0 {
            actions.push(Action::Pulse);
        }
        for question in &state.questions {
            match question.at {
                Stage::Sent => {
                    let leads = |who: &usize| state.leaders[*who].leases.term().is_some();
                    let who = (0..2).filter(leads);
                    actions.extend(who.map(|who| Action::Receive(question.clone(), who)));
                }
                Stage::Received { .. } => actions.push(Action::Confirm(question.clone())),
                Stage::Up { .. } => actions.push(Action::See(question.clone())),
                Stage::Confirmed { .. } => actions.push(Action::Answer(question.clone())),
                Stage::Granted => actions.push(Action::Take(question.clone())),
            }
        }
    }

    fn next_state(&self, last: &State, action: Action) -> Option<State> {
        let mut state = last.clone();
        let to = |state: &mut State, mut question: Question, at: Option<Stage>| {
            state.questions.remove(&question);
            if let Some(at) = at {
                question.at = at;
                state.questions.insert(question);
            }
        };
        match action {
            Action::Tick { missed } => {
                state.now += 1;
                state.missed += u8::from(missed);
            }
            Action::Elect(who) => (state.term, state.leads) = (state.term + 1, who),
            Action::Follow(who) => {
                let leads = state.leads == who;
                let (term, now) = (state.term, state.now);
                let leader = &mut state.leaders[who];
                if leader.leases.follow(leads, leader.led, term, self.at(now)) {
                    leader.since = now;
                }
                leader.led = leads;
            }
            Action::Ask => {
                state.asks += 1;
                let question = Question {
                    asked: self.clock(&state),
                    registers: state.up == 0,
                    at: Stage::Sent,
                };
                state.questions.insert(question);
            }
            Action::Receive(question, leader) => {
                let at = state.now;
                let term = state.leaders[leader].leases.term()?;
                if question.registers && self.broken != Broken::NotedLate {
                    state.leaders[leader].leases.note(NODE, self.at(at));
                }
                to(
                    &mut state,
                    question,
                    Some(Stage::Received { leader, at, term }),
                );
            }
            Action::Confirm(question) => {
                let Stage::Received { leader, at, term } = question.at else {
                    return None;
                };
                if state.leads != leader {
                    if self.broken != Broken::NoReadIndex {
                        to(&mut state, question, None);
                        return Some(state);
                    }
                } else {
                    if question.registers {
                        state.log.push(Logged::Up);
                    }
                    state.leaders[leader].applied = state.log.len();
                }
                let next = if question.registers {
                    Stage::Up { leader, at }
                } else {
                    Stage::Confirmed { leader, at, term }
                };
                to(&mut state, question, Some(next));
            }
            Action::See(question) => {
                let Stage::Up { leader, at } = question.at else {
                    return None;
                };
                if self.broken == Broken::NotedLate {
                    state.leaders[leader].leases.note(NODE, self.at(at));
                }
                to(&mut state, question, Some(Stage::Granted));
            }
            Action::Answer(question) => {
                let Stage::Confirmed { leader, at, term } = question.at else {
                    return None;
                };
                let is_up = self.up(&state.log[..state.leaders[leader].applied]) == Some(1);
                let received = self.at(at);
                let knows = &mut state.leaders[leader];
                let term = match self.broken {
                    Broken::GrantedInAnyTerm => knows.leases.term()?,
                    _ => term,
                };
                let granted = knows.leases.grant(term, (NODE, 1), received, is_up);
                if granted == Some(true) && self.broken == Broken::HeardGoesBack {
                    let term = knows.leases.term().unwrap_or_default();
                    knows.leases = Leases::default();
                    knows.leases.follow(true, false, term, self.at(knows.since));
                    knows.leases.note(NODE, received);
                }
                let next = match granted {
                    Some(true) => Some(Stage::Granted),
                    Some(false) => {
                        // Expired: the node stops, and says so.
                        if state.up == 1 {
                            state.fence();
                            state.log.push(Logged::Down(1));
                        }
                        None
                    }
                    None => None,
                };
                to(&mut state, question, next);
            }
            Action::Take(question) => {
                if state.up != 0 || question.registers {
                    state.lease.granted(self.at(question.asked));
                }
                to(&mut state, question, None);
            }
            Action::Look(who) => {
                let now = self.at(state.now);
                let leader = &mut state.leaders[who];
                let up = self.up(&state.log[..leader.applied]);
                let term = leader.leases.term()?;
                let up = up.map(|incarnation| (NODE, incarnation));
                let now = if self.broken == Broken::NoWait {
                    now + Duration::from_secs(2)
                } else {
                    now
                };
                for (_, incarnation) in leader.leases.silent(now, up.into_iter()) {
                    leader.decided.insert((incarnation, term));
                }
            }
            Action::Commit(who, (incarnation, term)) => {
                state.leaders[who].decided.remove(&(incarnation, term));
                let same = state.term == term || self.broken == Broken::AnyTerm;
                if state.leads == who && same && !state.log.contains(&Logged::Down(incarnation)) {
                    state.log.push(Logged::Down(incarnation));
                }
            }
            Action::Part(who) => {
                let leader = &mut state.leaders[who];
                let incarnation = self.up(&state.log[..leader.applied])?;
                let term = leader.leases.term()?;
                leader.leases.refuse(NODE, incarnation);
                if self.broken == Broken::PutDownAtOnce {
                    leader.decided.insert((incarnation, term));
                }
            }
            Action::Apply => {
                state.applied += 1;
                let up = self.up(&state.log[..state.applied]);
                match state.log[state.applied - 1] {
                    Logged::Up => state.up = up?,
                    Logged::Down(_) => state.fence(),
                }
            }
            Action::Learn(who) => state.leaders[who].applied = state.log.len(),
            Action::Pulse => {
                let now = self.at(self.clock(&state));
                if state.lease.is_over(now) {
                    state.fence();
                } else {
                    state.serving |= state.lease.holds(now);
                }
            }
        }
        (state != *last).then_some(state)
    }

    fn properties(&self) -> Vec<Property<Self>> {
        vec![
            Property::always(
                "no node serves behind the end of its lease",
                |model: &Self, state: &State| {
                    !(model.serves(state) && state.log.contains(&Logged::Down(state.up)))
                },
            ),
            Property::sometimes("a node serves", |model: &Self, state: &State| {
                model.serves(state)
            }),
            Property::sometimes("a node is put down", |_, state: &State| {
                state.log.contains(&Logged::Down(1))
            }),
        ]
    }
}

impl State {
    fn fence(&mut self) {
        self.lease.end();
        (self.up, self.serving) = (0, false);
    }
}

const FAILS: [&str; 1] = ["no node serves behind the end of its lease"];

#[test]
fn no_node_serves_while_its_sessions_are_taken() {
    let model = Leasing {
        asks: 1,
        terms: 3,
        horizon: 7,
        ..Leasing::of(Broken::Nothing)
    };
    assert!(check(model).is_empty());
}

#[test]
fn nor_when_questions_are_answered_in_any_order() {
    assert!(check(Leasing::of(Broken::Nothing)).is_empty());
}

#[test]
fn nor_when_it_has_just_registered() {
    let model = Leasing {
        registers: true,
        asks: 1,
        ..Leasing::of(Broken::Nothing)
    };
    assert!(check(model).is_empty());
}

#[test]
fn nor_when_it_is_put_out_because_others_do_not_reach_it() {
    let model = |broken| Leasing {
        terms: 2,
        horizon: 7,
        asks: 1,
        parts: true,
        ..Leasing::of(broken)
    };
    assert!(check(model(Broken::Nothing)).is_empty());
    assert_eq!(check(model(Broken::PutDownAtOnce)), FAILS);
}

fn drift(broken: Broken, slow: u8) -> Leasing {
    Leasing {
        step: Duration::from_millis(500),
        horizon: 16,
        asks: 1,
        slow,
        ..Leasing::of(broken)
    }
}

#[test]
fn clocks_that_differ_by_the_margin_do_no_harm_and_by_more_they_do() {
    assert!(check(drift(Broken::Nothing, 1)).is_empty());
    assert_eq!(check(drift(Broken::Drift, 3)), FAILS);
}

#[test]
fn whatever_is_left_out_is_missed() {
    for (broken, asks, terms) in [
        (Broken::NoWait, 1, 1),
        (Broken::NoReadIndex, 1, 2),
        (Broken::AnyTerm, 1, 3),
        (Broken::GrantedInAnyTerm, 1, 3),
        (Broken::HeardGoesBack, 2, 1),
        (Broken::NotedLate, 1, 1),
        (Broken::NoLook, 1, 1),
    ] {
        let model = Leasing {
            asks,
            terms,
            horizon: if terms == 3 { 7 } else { 8 },
            registers: broken == Broken::NotedLate,
            ..Leasing::of(broken)
        };
        assert_eq!(check(model), FAILS, "{broken:?}");
    }
}
