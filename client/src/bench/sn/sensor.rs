//! One sensor: what it asked for and when.

use std::time::Instant;

use nightjar_mqttsn::client::{Client, Config, ConnectOptions, Event, State, Token, Topic};
use nightjar_mqttsn::{QoS, ReturnCode};

use crate::bench::clock::{read_stamp, write_stamp};
use crate::bench::sn::stats::{Phase, Shared, WorkerStats};

/// What a command was for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Purpose {
    Connect,
    Prepare,
    Subscribe,
    Publish,
    Sleep,
    Wake,
    Stop,
}

/// A sensor.
pub(super) struct Sensor {
    pub client: Client,
    /// Its number in the run, from 0.
    pub index: u32,
    /// Which of the worker's sockets is its own.
    pub socket: u32,
    /// When the heap of timers has it next.
    pub timer: Option<Instant>,
    /// When the next message is due.
    pub due: u64,
    topic: Topic,
    /// Commands without an end, with the time of their begin.
    open: Vec<(Token, Purpose, u64)>,
    sequence: u64,
    /// What the next message from the watcher should be.
    expected: u64,
    /// It has begun the phase.
    entered: bool,
    through: bool,
}

impl Sensor {
    pub fn new(shared: &Shared, index: u32, socket: u32, node_id: Option<Vec<u8>>) -> Self {
        let bench = &shared.bench;
        let mut config = Config::new(shared.client_id(index));
        config.t_retry = bench.retry;
        config.n_retry = bench.retries;
        config.node_id = node_id;
        let topic = match (bench.topic_id, bench.short_topic) {
            (Some(id), _) => Topic::Predefined(id),
            (None, Some(name)) => Topic::Short(name.0),
            (None, None) => Topic::Name(shared.topic(&bench.topic, index)),
        };
        Self {
            client: Client::new(config),
            index,
            socket,
            timer: None,
            due: 0,
            topic,
            open: Vec::new(),
            sequence: 0,
            expected: 0,
            entered: false,
            through: false,
        }
    }

    /// Whether it never connects: QoS -1 alone.
    pub fn is_sessionless(shared: &Shared) -> bool {
        shared.bench.qos.to_sn() == QoS::MinusOne && shared.bench.sleep.is_none()
    }

    /// A phase begins for its worker; what ends before [`Sensor::enter`] is of the phase before.
    pub fn leave(&mut self) {
        self.entered = false;
        self.through = false;
    }

    /// Begins a phase. Connecting and publishing begin at their own times.
    pub fn enter(&mut self, shared: &Shared, stats: &WorkerStats, phase: Phase) {
        self.entered = true;
        let now = Instant::now();
        match phase {
            Phase::Connect if Self::is_sessionless(shared) => self.end_of_phase(stats),
            Phase::Connect | Phase::Publish | Phase::End => {}
            Phase::Idle => self.end_of_phase(stats),
            Phase::Drain => {
                if self.open.is_empty() {
                    self.end_of_phase(stats);
                }
            }
            _ if self.client.state() == State::Disconnected => self.end_of_phase(stats),
            // It did so when it was connected.
            Phase::Subscribe | Phase::Sleep if shared.bench.drowsy => self.end_of_phase(stats),
            Phase::Subscribe => self.subscribe(shared),
            Phase::Sleep => self.sleep(shared),
            Phase::Wake => {
                let token = self.client.wake(now);
                self.open.push((token, Purpose::Wake, shared.clock.now()));
            }
            Phase::Stop => {
                let token = self.client.disconnect(now);
                self.open.push((token, Purpose::Stop, 0));
            }
        }
    }

    fn subscribe(&mut self, shared: &Shared) {
        let topic = Topic::Name(shared.topic(&shared.bench.down_topic, self.index));
        let qos = shared.bench.down_qos.into();
        let token = self.client.subscribe(Instant::now(), topic, qos);
        self.open.push((token, Purpose::Subscribe, 0));
    }

    fn sleep(&mut self, shared: &Shared) {
        let seconds = shared.bench.sleep.unwrap_or(1);
        let token = self.client.sleep(Instant::now(), seconds);
        self.open.push((token, Purpose::Sleep, 0));
    }

    /// It is connected, and its topic registered.
    fn prepared(&mut self, shared: &Shared, stats: &WorkerStats) {
        if shared.bench.drowsy {
            self.subscribe(shared);
        } else {
            self.end_of_phase(stats);
        }
    }

    fn end_of_phase(&mut self, stats: &WorkerStats) {
        if self.entered && !self.through {
            self.through = true;
            stats
                .through
                .fetch_add(1, std::sync::atomic::Ordering::AcqRel);
        }
    }

    pub fn connect(&mut self, shared: &Shared) {
        let now = Instant::now();
        let options = ConnectOptions {
            clean_session: shared.bench.clean,
            duration: shared.bench.keepalive,
            ..ConnectOptions::default()
        };
        let token = self.client.connect(now, options);
        self.open
            .push((token, Purpose::Connect, shared.clock.now()));
    }

    /// Whether the message before has its end.
    pub fn may_publish(&self, qos: QoS) -> bool {
        match qos {
            QoS::MinusOne => true,
            QoS::AtMostOnce => self.client.state() == State::Active,
            _ => self.client.state() == State::Active && self.open.is_empty(),
        }
    }

    pub fn publish(&mut self, shared: &Shared, stats: &WorkerStats, qos: QoS) {
        let time = shared.clock.now();
        let mut payload = vec![0; shared.bench.size as usize];
        write_stamp(&mut payload, time, self.index, self.sequence);
        self.sequence += 1;
        let topic = self.topic.clone();
        let token = self
            .client
            .publish(Instant::now(), topic, qos, false, payload);
        stats.published.add(1);
        if qos > QoS::AtMostOnce {
            self.open.push((token, Purpose::Publish, time));
        }
    }

    /// Takes the events of the client.
    pub fn events(&mut self, shared: &Shared, stats: &WorkerStats, phase: Phase) {
        while let Some(event) = self.client.poll_event() {
            match event {
                Event::Done { token, .. } => self.done(shared, stats, token),
                Event::Refused { token, code } => self.refused(stats, token, code),
                Event::PublishRefused { code, .. } => {
                    stats.refused.add(1);
                    stats.error(format!("PUBLISH {code}"));
                }
                Event::Message(message) => {
                    stats.received.add(1);
                    if let Some(stamp) = read_stamp(&message.data) {
                        let elapsed = shared.clock.now().saturating_sub(stamp.time);
                        stats.down_latency.record(elapsed);
                        if let Some(source) = stamp.source {
                            if source.sequence < self.expected {
                                stats.repeated.add(1);
                            }
                            self.expected = self.expected.max(source.sequence + 1);
                        }
                    }
                }
                Event::Disconnected { no_answer } => {
                    stats.lost.add(1);
                    stats.error(
                        if no_answer {
                            "no answer"
                        } else {
                            "DISCONNECT of the gateway"
                        }
                        .to_owned(),
                    );
                    if matches!(phase, Phase::Connect | Phase::Subscribe) {
                        stats.failed.add(1);
                    }
                    self.open.clear();
                    self.end_of_phase(stats);
                }
            }
        }
    }

    fn done(&mut self, shared: &Shared, stats: &WorkerStats, token: Token) {
        let Some(at) = self.open.iter().position(|(open, ..)| *open == token) else {
            return;
        };
        let (_, purpose, begun) = self.open.remove(at);
        let elapsed = shared.clock.now().saturating_sub(begun);
        match purpose {
            Purpose::Connect => {
                stats.connected.add(1);
                stats.connect_latency.record(elapsed);
                if let Topic::Name(name) = &self.topic
                    && shared.bench.qos.to_sn() >= QoS::AtMostOnce
                {
                    let token = self.client.register(Instant::now(), name.clone());
                    self.open.push((token, Purpose::Prepare, 0));
                } else {
                    self.prepared(shared, stats);
                }
            }
            Purpose::Prepare => self.prepared(shared, stats),
            Purpose::Subscribe if shared.bench.drowsy => self.sleep(shared),
            Purpose::Subscribe | Purpose::Stop => self.end_of_phase(stats),
            Purpose::Publish => {
                stats.acknowledged.add(1);
                stats.ack_latency.record(elapsed);
                if self.open.is_empty() && shared.phase() == Phase::Drain {
                    self.end_of_phase(stats);
                }
            }
            Purpose::Sleep => {
                stats.asleep.add(1);
                self.end_of_phase(stats);
            }
            Purpose::Wake => {
                stats.woken.add(1);
                stats.wake_latency.record(elapsed);
                self.end_of_phase(stats);
            }
        }
    }

    fn refused(&mut self, stats: &WorkerStats, token: Token, code: ReturnCode) {
        let Some(at) = self.open.iter().position(|(open, ..)| *open == token) else {
            return;
        };
        let (_, purpose, _) = self.open.remove(at);
        stats.error(format!("{purpose:?} {code}"));
        if purpose == Purpose::Publish {
            stats.refused.add(1);
        } else {
            stats.failed.add(1);
        }
        if purpose != Purpose::Publish || self.open.is_empty() {
            self.end_of_phase(stats);
        }
    }
}
