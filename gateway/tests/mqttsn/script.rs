//! What a sensor does, and what must be true of it at the end.
//!
//! Beside the sensor, whose wire is bad, stand two clients on a good wire: the watcher sees everything that is published,
//! the feeder publishes to the sensor. Each message says its number and its topic.

use std::collections::BTreeMap;

use nightjar_gateway::mqttsn::{Counted, State as GatewayState};
use nightjar_mqttsn::QoS;
use nightjar_mqttsn::client::{Config, ConnectOptions, Event, State, Token, Topic, Will};

use crate::world::{Dice, Wire, World};

/// Topics in each direction.
const TOPICS: u64 = 4;
/// Time in which everything that is on its way comes to its end, milliseconds.
const SETTLE: u64 = 400_000;

/// One thing to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Act {
    /// The sensor publishes.
    Up(QoS),
    /// The feeder publishes to the sensor.
    Down(QoS),
    /// DISCONNECT with this duration, seconds.
    Sleep(u16),
    /// PINGREQ with client id, or CONNECT where it is not asleep.
    Wake,
    /// CONNECT.
    Connect,
    /// DISCONNECT.
    Leave,
    /// PINGREQ.
    Ping,
    /// Another port, as behind a NAT.
    Move,
    /// Out of reach for so many seconds.
    Mute(u64),
    /// REGISTER.
    Register,
}

/// What became of a message.
#[derive(Debug, Default, Clone)]
struct Fate {
    qos: i8,
    /// Uplink: the client says that it is done.
    done: bool,
    /// Times that it arrived.
    arrived: u32,
}

/// A sensor, its companions, and the books about them.
pub struct Run {
    pub world: World,
    dice: Dice,
    sensor: usize,
    watcher: usize,
    feeder: usize,
    tokens: BTreeMap<Token, u32>,
    up: BTreeMap<u32, Fate>,
    down: BTreeMap<u32, Fate>,
    number: u32,
    /// Highest number that arrived first, by direction: order.
    last_up: u32,
    last_down: u32,
    /// When each will came.
    wills: BTreeMap<String, Vec<u64>>,
    connects: u32,
    /// Every CONNECT brings a will of its own.
    always_will: bool,
    reconnect_at: Option<u64>,
    unmute_at: Option<u64>,
    subscribed: bool,
}

impl Run {
    /// Both companions are connected, the sensor is connected and subscribed, over a good wire.
    pub fn new(seed: u64, wire: Wire) -> Self {
        let mut dice = Dice::new(seed);
        let mut world = World::new(seed, Wire::GOOD, |settings| {
            settings.replies_to_strangers_per_source = None;
            settings.new_sessions_per_source = None;
        });
        let mut config = Config::new("sensor");
        config.n_retry = 8;
        config.publish_asleep = dice.chance(50);
        config.first_msg_id = dice.between(1, 65_535) as u16;
        let sensor = world.add(config, true);
        let watcher = world.add(Config::new("watcher"), false);
        let feeder = world.add(Config::new("feeder"), false);
        let now = world.instant();
        for end in [watcher, feeder] {
            let options = ConnectOptions {
                duration: 0,
                ..ConnectOptions::default()
            };
            world.ends[end].client.connect(now, options);
        }
        let all = Topic::Name("#".to_owned());
        world.ends[watcher]
            .client
            .subscribe(now, all, QoS::ExactlyOnce);
        for end in [watcher, feeder] {
            world.after(end);
        }
        let always_will = dice.chance(50);
        let mut run = Self {
            world,
            dice,
            sensor,
            watcher,
            feeder,
            tokens: BTreeMap::new(),
            up: BTreeMap::new(),
            down: BTreeMap::new(),
            number: 0,
            last_up: 0,
            last_down: 0,
            wills: BTreeMap::new(),
            connects: 0,
            always_will,
            reconnect_at: None,
            unmute_at: None,
            subscribed: false,
        };
        run.connect();
        let now = run.world.instant();
        let filter = Topic::Name("down/+".to_owned());
        run.client().subscribe(now, filter, QoS::ExactlyOnce);
        run.world.after(run.sensor);
        run.pass(2_000);
        assert!(run.world.ends[run.sensor].client.is_idle());
        run.subscribed = true;
        run.world.wire = wire;
        run.world.counted = 0;
        run
    }

    fn client(&mut self) -> &mut nightjar_mqttsn::client::Client {
        &mut self.world.ends[self.sensor].client
    }

    fn connect(&mut self) {
        self.connects += 1;
        let will = Will {
            topic: "will".to_owned(),
            qos: QoS::AtLeastOnce,
            retain: false,
            message: format!("will {}", self.connects).into_bytes(),
        };
        let kind = self.dice.between(0, 2);
        let options = ConnectOptions {
            clean_session: false,
            duration: 60,
            prompt_will: self.always_will || kind > 0,
            will: (self.always_will || kind == 1).then_some(will),
        };
        let now = self.world.instant();
        self.client().connect(now, options);
        self.reconnect_at = None;
        self.world.after(self.sensor);
    }

    /// Does one thing, if this is a time for it.
    pub fn act(&mut self, act: Act) {
        let now = self.world.instant();
        let state = self.world.ends[self.sensor].client.state();
        let idle = self.world.ends[self.sensor].client.is_idle();
        match act {
            Act::Up(qos) => {
                self.number += 1;
                let topic = format!("up/{}", u64::from(self.number) % TOPICS);
                let payload = format!("{} {topic}", self.number);
                let name = Topic::Name(topic);
                let token = self.client().publish(now, name, qos, false, payload);
                self.tokens.insert(token, self.number);
                let fate = Fate {
                    qos: qos.level(),
                    ..Fate::default()
                };
                self.up.insert(self.number, fate);
            }
            Act::Down(qos) => {
                self.number += 1;
                let topic = format!("down/{}", u64::from(self.number) % TOPICS);
                let payload = format!("{} {topic}", self.number);
                let feeder = &mut self.world.ends[self.feeder].client;
                feeder.publish(now, Topic::Name(topic), qos, false, payload);
                self.world.after(self.feeder);
                let fate = Fate {
                    qos: qos.level(),
                    ..Fate::default()
                };
                self.down.insert(self.number, fate);
            }
            Act::Sleep(seconds) if state == State::Active => {
                self.client().sleep(now, seconds);
            }
            Act::Wake if state == State::Asleep => {
                self.client().wake(now);
            }
            Act::Connect if idle || state == State::Asleep => self.connect(),
            Act::Leave if state == State::Active => {
                self.client().disconnect(now);
                self.reconnect_at = Some(self.world.now + self.dice.between(1_000, 60_000));
            }
            Act::Ping if state == State::Active => {
                self.client().ping(now);
            }
            Act::Move => {
                let peer = self.world.address();
                self.world.ends[self.sensor].peer = peer;
            }
            Act::Mute(seconds) => {
                self.world.ends[self.sensor].muted = true;
                self.unmute_at = Some(self.world.now + seconds * 1000);
            }
            Act::Register if state == State::Active => {
                let name = format!("up/{}", self.dice.between(0, TOPICS - 1));
                self.client().register(now, name);
            }
            _ => {}
        }
        self.world.after(self.sensor);
    }

    /// Lets so many milliseconds pass.
    pub fn pass(&mut self, time: u64) {
        let until = self.world.now + time;
        while self.world.now < until {
            let stop = [Some(until), self.reconnect_at, self.unmute_at];
            let stop = stop.into_iter().flatten().min().unwrap_or(until);
            self.world.run_until(stop.max(self.world.now + 1));
            self.look();
            if self.unmute_at.is_some_and(|at| at <= self.world.now) {
                self.unmute_at = None;
                self.world.ends[self.sensor].muted = false;
            }
            if self.reconnect_at.is_some_and(|at| at <= self.world.now) {
                self.connect();
            }
        }
    }

    /// Enters what happened into the books.
    fn look(&mut self) {
        for event in std::mem::take(&mut self.world.ends[self.sensor].events) {
            match event {
                Event::Done { token, .. } => {
                    if let Some(number) = self.tokens.get(&token) {
                        self.up.get_mut(number).unwrap().done = true;
                    }
                }
                Event::Message(message) => {
                    let (number, topic) = parse(&message.data);
                    assert_eq!(
                        message.topic,
                        Topic::Name(topic),
                        "message {number} came by another topic's id"
                    );
                    let fate = self.down.get_mut(&number).unwrap();
                    fate.arrived += 1;
                    if fate.qos > 0 && fate.arrived == 1 {
                        assert!(self.last_down < number, "{number} after {}", self.last_down);
                        self.last_down = number;
                    }
                }
                Event::Disconnected { .. } => {
                    let wait = self.dice.between(500, 20_000);
                    self.reconnect_at = Some(self.world.now + wait);
                }
                Event::Refused { code, .. } => panic!("refused: {code}"),
                Event::PublishRefused { code, .. } => panic!("PUBLISH refused: {code}"),
            }
        }
        for event in std::mem::take(&mut self.world.ends[self.watcher].events) {
            match event {
                Event::Message(message) if message.topic == Topic::Name("will".to_owned()) => {
                    let text = String::from_utf8(message.data).unwrap();
                    self.wills.entry(text).or_default().push(self.world.now);
                }
                Event::Message(message) => {
                    let (number, topic) = parse(&message.data);
                    assert_eq!(
                        message.topic,
                        Topic::Name(topic),
                        "message {number} went to another topic"
                    );
                    if let Some(fate) = self.up.get_mut(&number) {
                        fate.arrived += 1;
                        if fate.qos > 0 && fate.arrived == 1 {
                            assert!(self.last_up < number, "{number} after {}", self.last_up);
                            self.last_up = number;
                        }
                    }
                }
                Event::Disconnected { .. } => panic!("the watcher was disconnected"),
                _ => {}
            }
        }
        for event in std::mem::take(&mut self.world.ends[self.feeder].events) {
            assert!(
                !matches!(event, Event::Disconnected { .. } | Event::Refused { .. }),
                "feeder: {event:?}"
            );
        }
    }

    /// A good wire from now on, time for everything that is on its way; then what must be true is looked at.
    pub fn end(&mut self) {
        self.world.wire = Wire::GOOD;
        // Commands that waited may still put it to sleep, or end its connection.
        for _ in 0..12 {
            self.pass(SETTLE / 4);
            let client = &self.world.ends[self.sensor].client;
            if client.state() == State::Active && client.is_idle() {
                break;
            }
            if client.state() != State::Active {
                self.connect();
            }
        }
        assert!(self.subscribed);
        self.same_end_state();
        for qos in [QoS::AtLeastOnce, QoS::ExactlyOnce] {
            for _ in 0..TOPICS {
                self.act(Act::Up(qos));
                self.act(Act::Down(qos));
            }
        }
        self.pass(SETTLE / 4);
        self.same_end_state();
        self.no_loss_no_duplicate();
        self.wills_exactly_once();
    }

    fn same_end_state(&self) {
        let client = &self.world.ends[self.sensor].client;
        assert_eq!(client.state(), State::Active, "the sensor");
        assert!(client.is_idle(), "the sensor has something open");
        let status = self.world.gateway.client("sensor").unwrap();
        assert_eq!(status.state, GatewayState::Active, "the gateway");
        assert_eq!(
            status.peer, self.world.ends[self.sensor].peer,
            "the address"
        );
    }

    fn no_loss_no_duplicate(&self) {
        for (number, fate) in &self.up {
            assert!(fate.done, "uplink {number} {fate:?} has no end");
        }
        for (way, books) in [("uplink", &self.up), ("downlink", &self.down)] {
            for (number, fate) in books {
                match fate.qos {
                    2 => assert_eq!(fate.arrived, 1, "{way} {number} {fate:?}"),
                    1 => assert!(fate.arrived >= 1, "{way} {number} {fate:?}"),
                    _ => {}
                }
            }
        }
    }

    /// A will for each loss, and none twice. Where a CONNECT may keep or delete the will, not every loss has
    /// one; and a sleep timer that ends while a CONNECT is under way is a loss that no counter tells.
    fn wills_exactly_once(&self) {
        let counters = self.world.gateway.counters();
        let losses: u64 = [
            Counted::LostKeepAlive,
            Counted::LostAsleep,
            Counted::LostRetries,
        ]
        .into_iter()
        .map(|what| counters.get(what))
        .sum();
        let wills: u64 = self.wills.values().map(|times| times.len() as u64).sum();
        assert!(
            wills <= losses + u64::from(self.connects),
            "{:?} for {losses} losses",
            self.wills
        );
        if !self.always_will {
            return;
        }
        assert!(wills >= losses, "{:?} for {losses} losses", self.wills);
        for (will, times) in &self.wills {
            assert_eq!(times.len(), 1, "{will}");
        }
    }

    /// Something that happened in this run: so that seeds do not all prove nothing.
    pub fn losses(&self) -> usize {
        self.wills.len()
    }

    /// Repeats on the sensor's side.
    pub fn repeats(&self) -> u64 {
        self.world.ends[self.sensor].client.counters().repeats
    }

    /// Times that the sensor was woken.
    pub fn wakes(&self) -> u64 {
        self.world.ends[self.sensor].client.counters().wakes
    }

    /// One thing by chance.
    pub fn random_act(&mut self) -> Act {
        let qos = match self.dice.between(0, 4) {
            0 => QoS::AtMostOnce,
            1 | 2 => QoS::AtLeastOnce,
            _ => QoS::ExactlyOnce,
        };
        let asleep = self.client().state() == State::Asleep;
        let number = self.dice.between(0, 99);
        match number {
            0..50 if asleep => Act::Wake,
            50..80 if asleep => Act::Down(qos),
            0..30 => Act::Up(qos),
            30..60 => Act::Down(qos),
            60..70 => Act::Sleep(self.dice.between(30, 300) as u16),
            70..82 => Act::Wake,
            82..88 => Act::Connect,
            88..90 => Act::Leave,
            90..93 => Act::Ping,
            93..95 => Act::Move,
            95..97 => Act::Register,
            _ => Act::Mute(self.dice.between(5, 200)),
        }
    }

    /// A time between two things, milliseconds.
    pub fn random_gap(&mut self) -> u64 {
        match self.dice.between(0, 3) {
            0 => self.dice.between(1, 100),
            1 | 2 => self.dice.between(100, 8_000),
            _ => self.dice.between(8_000, 60_000),
        }
    }
}

fn parse(data: &[u8]) -> (u32, String) {
    let text = std::str::from_utf8(data).unwrap();
    let (number, topic) = text.split_once(' ').unwrap();
    (number.parse().unwrap(), topic.to_owned())
}
