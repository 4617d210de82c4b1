//! One client identifier on two nodes, messages of both connections on their way, leaders that take proposals again.
//!
//! Shipped as they are: the shard of sessions (`broker/src/shard`), the nodes of the log and the turns of proposals
//! (`cluster/src/member/nodes.rs`). Mirrored: the answers of `cluster/src/apply.rs`, `Flight` of
//! `member/flight.rs`, `find_late`, `apply_proposal` and `apply_nodes` of `member/apply.rs`. What a node sent may be committed in any
//! order and again, as with leaders that change.

use std::collections::BTreeSet;

use nightjar_broker::settings::QueueLimits;
use nightjar_broker::shard::{
    Ack, AckKind, CloseKind, Enqueue, Open, Reply, SessionEntry, SessionShard,
};
use nightjar_broker::{Message, MessageHead, SubOptions, Subscription, Timestamp};
use nightjar_mqtt::{QoS, TopicFilter, TopicName};
use stateright::{Model, Property};

use super::check;
use super::nodes::{NodeEntry, Nodes};

/// What is left out to see that it is missed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Broken {
    Nothing,
    /// Nobody looks whose connection a message is of.
    NoFence,
    /// Proposals are taken in any order, and again.
    NoTurns,
    /// A message is acknowledged when it is sent to the leader.
    AckedEarly,
    /// Acknowledgements of a connection count as those of the client's present one.
    AnyEpoch,
}

#[derive(Debug, Clone)]
struct Takeover {
    broken: Broken,
    /// The client's session stays without a connection.
    durable: bool,
    connects: usize,
    /// Messages of each connection.
    messages: u8,
    /// Entries that are committed a second time.
    repeats: u8,
    /// A node may be put down.
    down: bool,
    /// Entries of the log looked at.
    length: usize,
}

impl Takeover {
    fn of(broken: Broken) -> Self {
        Self {
            broken,
            durable: true,
            connects: 2,
            messages: 1,
            repeats: 0,
            down: false,
            length: 5,
        }
    }
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
enum Entry {
    /// Of the client, by its n-th connection.
    Open(usize),
    /// The n-th message of a connection.
    Publish(usize, u64, u8),
    /// A connection acknowledges what waits for its client.
    Ack(usize, u64),
    Down,
    Up,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Proposal {
    node: u64,
    incarnation: u64,
    sequence: u64,
    entry: Entry,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Node {
    incarnation: u64,
    last: u64,
    flight: Vec<Proposal>,
    applied: usize,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Connection {
    node: u64,
    incarnation: u64,
    epoch: Option<u64>,
    open: bool,
    sent: u8,
    /// PUBACKs it got.
    acked: BTreeSet<u8>,
    acks: bool,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct State {
    log: Vec<Proposal>,
    /// What the log says.
    seen: Seen,
    nodes: [Node; 2],
    connections: Vec<Connection>,
    repeats: u8,
    downs: u8,
}

#[derive(Debug, Clone, PartialEq)]
enum Action {
    Connect(u64),
    Publish(usize),
    Ack(usize),
    /// A leader takes what a node sent.
    Commit(u64, usize),
    Apply(u64),
    Down(u64),
    Up(u64),
}

/// What became of an entry.
#[derive(Debug, PartialEq)]
enum Outcome {
    /// It was not its turn.
    Passed,
    Opened(u64),
    Taken,
    Refused,
    Other,
}

/// What is to be seen of the state that the log makes.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
struct Seen {
    /// Messages that the subscriber has, in order.
    taken: Vec<(usize, u8)>,
    /// Epochs of the client's connections.
    epochs: Vec<u64>,
    /// Something of a connection was taken behind its successor.
    late: bool,
    refused: bool,
    /// The first node, whose incarnation may end: which one, and is it up?
    first: (u64, bool),
}

/// The state that the log makes on every node.
struct Replica {
    nodes: Nodes,
    shard: SessionShard,
    seen: Seen,
}

const CLIENT: &str = "c";
const SUBSCRIBER: &str = "s";

fn message(payload: &[u8]) -> Message {
    let head = MessageHead {
        topic: TopicName::new("t").expect("a topic"),
        qos: QoS::AtLeastOnce,
        retain: false,
        publisher: None,
        received_at: Timestamp(1),
        expires_at: None,
        properties: None,
    };
    Message::new(head, payload)
}

fn open(client: &str, node: u64, expiry: u32) -> SessionEntry {
    SessionEntry::Open(Box::new(Open {
        client_id: client.into(),
        clean_start: false,
        expiry,
        will: None,
        limits: QueueLimits::default(),
        window: 10,
        supervision: None,
        node,
        owner: None,
        now: Timestamp(1),
    }))
}

impl Replica {
    fn new(durable: bool) -> Self {
        let mut it = Self {
            nodes: Nodes::default(),
            shard: SessionShard::default(),
            seen: Seen::default(),
        };
        for nonce in [1, 2] {
            it.nodes.apply(NodeEntry::Add {
                name: nonce.to_string(),
                address: String::new(),
                nonce,
            });
            it.up(nonce, nonce + 10);
        }
        let filter = TopicFilter::new("t").expect("a filter");
        let sub = Subscription {
            options: SubOptions::new(QoS::AtLeastOnce),
            id: 0,
        };
        let Reply::Opened(opened) = it.shard.apply(open(SUBSCRIBER, 2, 100), &mut Vec::new())
        else {
            panic!("an Open is answered");
        };
        let subscribe = SessionEntry::Subscribe {
            client_id: SUBSCRIBER.into(),
            epoch: opened.epoch,
            subs: vec![(filter, sub)],
        };
        it.shard.apply(subscribe, &mut Vec::new());
        if durable {
            // A message waits for the client.
            it.shard.apply(open(CLIENT, 1, 100), &mut Vec::new());
            let waits = SessionEntry::Enqueue(Box::new(Enqueue {
                client_id: CLIENT.into(),
                message: message(b"w"),
                qos: QoS::AtLeastOnce,
                retain: false,
                sub_id: 0,
                checked: false,
                group: None,
            }));
            it.shard.apply(waits, &mut Vec::new());
        }
        it
    }

    fn up(&mut self, number: u64, nonce: u64) {
        self.nodes.apply(NodeEntry::Up {
            number,
            nonce,
            address: String::new(),
            grace: 0,
            now: 1,
        });
    }

    fn waiting(&self, client: &str) -> usize {
        self.shard.queue_len(client).map_or(0, |(len, _)| len)
    }

    fn apply(&mut self, model: &Takeover, at: usize, proposal: &Proposal) -> Outcome {
        let node = proposal.node;
        match proposal.entry {
            Entry::Down => {
                self.nodes.apply(NodeEntry::Down {
                    number: node,
                    incarnation: proposal.incarnation,
                    now: 1,
                });
                let gone = SessionEntry::NodeGone {
                    node,
                    kind: CloseKind::Abnormal,
                    now: Timestamp(1),
                };
                self.shard.apply(gone, &mut Vec::new());
                return Outcome::Other;
            }
            Entry::Up => {
                self.up(node, 100 + at as u64);
                return Outcome::Other;
            }
            _ => {}
        }
        let turn = self
            .nodes
            .take_turn(node, proposal.incarnation, proposal.sequence);
        if !turn && model.broken != Broken::NoTurns {
            return Outcome::Passed;
        }
        let last = self.seen.epochs.last().copied().unwrap_or(0);
        match proposal.entry {
            Entry::Open(_) => {
                let expiry = if model.durable { 100 } else { 0 };
                match self
                    .shard
                    .apply(open(CLIENT, node, expiry), &mut Vec::new())
                {
                    Reply::Opened(opened) => {
                        self.seen.epochs.push(opened.epoch);
                        Outcome::Opened(opened.epoch)
                    }
                    other => panic!("an Open is answered, not {other:?}"),
                }
            }
            Entry::Publish(connection, epoch, n) => {
                // As `find_late` of cluster/src/member/apply.rs.
                let is_late = !self.shard.is_current(CLIENT, epoch);
                if is_late && model.broken != Broken::NoFence {
                    self.seen.refused = true;
                    return Outcome::Refused;
                }
                let before = self.waiting(SUBSCRIBER);
                let publish = SessionEntry::Publish(message(&[connection as u8, n]));
                self.shard.apply(publish, &mut Vec::new());
                if self.waiting(SUBSCRIBER) > before {
                    self.seen.taken.push((connection, n));
                    self.seen.late |= epoch < last;
                }
                Outcome::Taken
            }
            Entry::Ack(_, epoch) => {
                let before = self.waiting(CLIENT);
                let said = if model.broken == Broken::AnyEpoch {
                    last
                } else {
                    epoch
                };
                let acks = SessionEntry::Acks {
                    client_id: CLIENT.into(),
                    epoch: said,
                    acks: vec![Ack {
                        seq: 0,
                        kind: AckKind::Done,
                    }],
                };
                self.shard.apply(acks, &mut Vec::new());
                self.seen.late |= epoch < last && self.waiting(CLIENT) < before;
                Outcome::Other
            }
            Entry::Down | Entry::Up => Outcome::Other,
        }
    }
}

impl Takeover {
    /// The state behind these entries, and what became of the last.
    fn replay(&self, log: &[Proposal]) -> (Replica, Outcome) {
        let mut replica = Replica::new(self.durable);
        let mut outcome = Outcome::Other;
        for (at, proposal) in log.iter().enumerate() {
            outcome = replica.apply(self, at, proposal);
        }
        let first = replica.nodes.nodes.get(&1);
        replica.seen.first = first.map_or((0, false), |node| (node.incarnation, node.up));
        (replica, outcome)
    }
}

fn index(node: u64) -> usize {
    usize::from(node == 2)
}

impl State {
    fn send(&mut self, number: u64, entry: Entry) {
        let node = &mut self.nodes[index(number)];
        node.last += 1;
        node.flight.push(Proposal {
            node: number,
            incarnation: node.incarnation,
            sequence: node.last,
            entry,
        });
    }

    /// A connection of this incarnation of its node, which still has it.
    fn is_open(&self, connection: &Connection) -> bool {
        let node = &self.nodes[index(connection.node)];
        connection.open && connection.incarnation == node.incarnation
    }
}

impl Model for Takeover {
    type State = State;
    type Action = Action;

    fn init_states(&self) -> Vec<State> {
        let node = Node {
            incarnation: 1,
            last: 0,
            flight: Vec::new(),
            applied: 0,
        };
        vec![State {
            log: Vec::new(),
            seen: self.replay(&[]).0.seen,
            nodes: [node.clone(), node],
            connections: Vec::new(),
            repeats: 0,
            downs: 0,
        }]
    }

    fn actions(&self, state: &State, actions: &mut Vec<Action>) {
        for number in [1, 2] {
            let node = &state.nodes[index(number)];
            let up = node.incarnation != 0;
            if up && state.connections.len() < self.connects {
                actions.push(Action::Connect(number));
            }
            if node.applied < state.log.len() {
                actions.push(Action::Apply(number));
            }
            if state.log.len() == self.length {
                continue;
            }
            for (at, proposal) in node.flight.iter().enumerate() {
                if !state.log.contains(proposal) || state.repeats < self.repeats {
                    actions.push(Action::Commit(number, at));
                }
            }
            if self.down && number == 1 {
                let is_up = state.seen.first.1;
                if is_up && state.downs == 0 {
                    actions.push(Action::Down(number));
                } else if !is_up && !up {
                    actions.push(Action::Up(number));
                }
            }
        }
        for (at, connection) in state.connections.iter().enumerate() {
            if connection.epoch.is_none() || !state.is_open(connection) {
                continue;
            }
            if connection.sent < self.messages {
                actions.push(Action::Publish(at));
            }
            if self.durable && !connection.acks {
                actions.push(Action::Ack(at));
            }
        }
    }

    fn next_state(&self, last: &State, action: Action) -> Option<State> {
        let mut state = last.clone();
        match action {
            Action::Connect(node) => {
                state.connections.push(Connection {
                    node,
                    incarnation: state.nodes[index(node)].incarnation,
                    epoch: None,
                    open: true,
                    sent: 0,
                    acked: BTreeSet::new(),
                    acks: false,
                });
                state.send(node, Entry::Open(state.connections.len() - 1));
            }
            Action::Publish(at) => {
                let connection = &mut state.connections[at];
                let (node, epoch, n) = (connection.node, connection.epoch?, connection.sent);
                connection.sent += 1;
                if self.broken == Broken::AckedEarly {
                    connection.acked.insert(n);
                }
                state.send(node, Entry::Publish(at, epoch, n));
            }
            Action::Ack(at) => {
                let connection = &mut state.connections[at];
                let (node, epoch) = (connection.node, connection.epoch?);
                connection.acks = true;
                state.send(node, Entry::Ack(at, epoch));
            }
            Action::Commit(node, at) => {
                let proposal = state.nodes[index(node)].flight[at].clone();
                state.repeats += u8::from(state.log.contains(&proposal));
                state.log.push(proposal);
            }
            Action::Down(node) | Action::Up(node) => {
                let down = matches!(action, Action::Down(_));
                state.downs += u8::from(down);
                let incarnation = state.seen.first.0;
                state.log.push(Proposal {
                    node,
                    incarnation,
                    sequence: 0,
                    entry: if down { Entry::Down } else { Entry::Up },
                });
            }
            Action::Apply(number) => {
                let node = &mut state.nodes[index(number)];
                let proposal = state.log[node.applied].clone();
                node.applied += 1;
                let (replica, outcome) = self.replay(&state.log[..node.applied]);
                if proposal.node == number {
                    match proposal.entry {
                        Entry::Down => {
                            node.flight.clear();
                            node.incarnation = 0;
                        }
                        Entry::Up => {
                            node.incarnation = replica.nodes.nodes.get(&number)?.incarnation;
                            node.last = 0;
                        }
                        _ if node.incarnation == proposal.incarnation => {
                            node.flight.retain(|it| *it != proposal);
                        }
                        _ => {}
                    }
                }
                let ours = proposal.node == number && node.incarnation == proposal.incarnation;
                match (&proposal.entry, outcome) {
                    (Entry::Open(at), Outcome::Opened(epoch)) => {
                        for (other, connection) in state.connections.iter_mut().enumerate() {
                            if other != *at && connection.node == number {
                                connection.open &= connection.epoch.is_none();
                            }
                        }
                        if ours {
                            state.connections[*at].epoch = Some(epoch);
                        }
                    }
                    (Entry::Publish(at, _, n), Outcome::Taken) if ours => {
                        state.connections[*at].acked.insert(*n);
                    }
                    _ => {}
                }
            }
        }
        if state.log.len() != last.log.len() {
            state.seen = self.replay(&state.log).0.seen;
        }
        (state != *last).then_some(state)
    }

    fn properties(&self) -> Vec<Property<Self>> {
        vec![
            Property::always(
                "nothing of a connection is taken behind its successor",
                |_: &Self, state: &State| !state.seen.late,
            ),
            Property::always(
                "what is acknowledged is taken",
                |_: &Self, state: &State| {
                    let taken = &state.seen.taken;
                    let mut all = state.connections.iter().enumerate();
                    all.all(|(at, it)| it.acked.iter().all(|n| taken.contains(&(at, *n))))
                },
            ),
            Property::always(
                "what a connection sent is taken once and in order",
                |model: &Self, state: &State| {
                    let taken = &state.seen.taken;
                    (0..model.connects).all(|at| {
                        let of = taken.iter().filter(|(connection, _)| *connection == at);
                        of.map(|(_, n)| *n)
                            .collect::<Vec<_>>()
                            .is_sorted_by(|a, b| a < b)
                    })
                },
            ),
            Property::always("epochs rise", |_: &Self, state: &State| {
                state.seen.epochs.is_sorted_by(|a, b| a < b)
            }),
            Property::sometimes(
                "messages of two connections are taken",
                |_: &Self, state: &State| {
                    let taken = &state.seen.taken;
                    taken.iter().any(|it| it.0 == 0) && taken.iter().any(|it| it.0 == 1)
                },
            ),
            Property::sometimes("a late message is refused", |_: &Self, state: &State| {
                state.seen.refused
            }),
        ]
    }
}

const LATE: &str = "nothing of a connection is taken behind its successor";
const ACKED: &str = "what is acknowledged is taken";
const ORDER: &str = "what a connection sent is taken once and in order";

#[test]
fn an_overtaken_connection_neither_takes_nor_is_acknowledged_behind_its_successor() {
    assert!(check(Takeover::of(Broken::Nothing)).is_empty());
}

#[test]
fn nor_does_that_of_a_transient_session() {
    let model = Takeover {
        durable: false,
        repeats: 1,
        ..Takeover::of(Broken::Nothing)
    };
    assert!(check(model).is_empty());
}

#[test]
fn nor_when_its_node_is_put_down_and_comes_back() {
    for durable in [true, false] {
        let model = Takeover {
            durable,
            down: true,
            ..Takeover::of(Broken::Nothing)
        };
        assert!(check(model).is_empty(), "durable: {durable}");
    }
}

#[test]
fn whatever_is_left_out_is_missed() {
    let found = |broken, what| {
        let wrong = check(Takeover {
            durable: broken != Broken::NoTurns,
            messages: 1 + u8::from(broken == Broken::NoTurns),
            repeats: u8::from(broken == Broken::NoTurns),
            down: broken == Broken::AckedEarly,
            ..Takeover::of(broken)
        });
        assert!(wrong.contains(&what), "{broken:?}: {wrong:?}");
    };
    found(Broken::NoFence, LATE);
    found(Broken::NoTurns, ORDER);
    found(Broken::AckedEarly, ACKED);
    found(Broken::AnyEpoch, LATE);
}
