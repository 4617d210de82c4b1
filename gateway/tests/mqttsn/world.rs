//! Simulated time, a wire, clients at one end and the gateway at the other.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, Instant};

use nightjar_broker::access::BoxFuture;
use nightjar_broker::{Broker, MemoryStore, Parts, Timestamp, acl, auth, settings};
use nightjar_gateway::mqttsn::{Auth, Gateway, Path, Settings, Turn};
use nightjar_mqttsn::client::{Client, Config, Event};

/// The broker's time when a world begins.
const BEGIN: u64 = 1_000_000;
/// How often the broker looks at wills and expiry, milliseconds.
const TICK: u64 = 500;

/// Numbers by seed: SplitMix64.
#[derive(Debug, Clone)]
pub struct Dice(u64);

impl Dice {
    pub fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) ^ 0x5851_F42D_4C95_7F2D)
    }

    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ z >> 30).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ z >> 27).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ z >> 31
    }

    /// From `low` to `high`, both included.
    pub fn between(&mut self, low: u64, high: u64) -> u64 {
        low + self.next() % (high - low + 1)
    }

    pub fn chance(&mut self, percent: u64) -> bool {
        self.next() % 100 < percent
    }
}

/// What happens to one datagram.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fate {
    Lost,
    Doubled,
    /// So many milliseconds later than the others.
    Late(u64),
}

/// What the wire does to datagrams of lossy ends.
#[derive(Debug, Clone)]
pub struct Wire {
    pub lost_percent: u64,
    pub doubled_percent: u64,
    /// Milliseconds on the way; different ones are what reorders.
    pub delay: (u64, u64),
    /// The fate of the datagram with this number.
    pub fate: Option<(usize, Fate)>,
}

impl Wire {
    pub const GOOD: Self = Self {
        lost_percent: 0,
        doubled_percent: 0,
        delay: (20, 20),
        fate: None,
    };
}

/// Another end: a client and its address.
pub struct End {
    pub client: Client,
    pub peer: SocketAddr,
    /// The wire's faults are for it.
    pub lossy: bool,
    /// Out of reach: nothing is heard and nothing leaves.
    pub muted: bool,
    /// What happened and was not looked at.
    pub events: Vec<Event>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Way {
    Up(SocketAddr),
    Down(SocketAddr),
}

/// A datagram on its way: when it arrives, in which order it was sent, where it goes.
type Flying = (u64, u64, Way, Vec<u8>);

struct NoTimer;

impl auth::Timer for NoTimer {
    fn sleep(&self, _: Duration) -> BoxFuture<'static, ()> {
        Box::pin(std::future::pending())
    }
}

/// All of it.
pub struct World {
    /// Milliseconds since the beginning.
    pub now: u64,
    base: Instant,
    pub gateway: Arc<Gateway>,
    pub broker: Arc<Broker>,
    turn: Turn,
    pub wire: Wire,
    dice: Dice,
    /// Datagrams on their way: when they arrive, in which order they were sent.
    flying: BinaryHeap<Reverse<Flying>>,
    sent: u64,
    /// Datagrams of lossy ends so far.
    pub counted: usize,
    pub ends: Vec<End>,
    next_tick: u64,
    next_port: u16,
    /// What went over the wire, for a failed run.
    pub trace: Vec<String>,
}

impl World {
    pub fn new(seed: u64, wire: Wire, change: impl FnOnce(&mut Settings)) -> Self {
        let store = Arc::new(MemoryStore::new(2));
        let broker = Broker::new(Parts {
            node: "pair".into(),
            store: store.clone(),
            settings: settings::MqttSettings::default(),
            retained: settings::RetainedSettings::default(),
            acl: Arc::new(acl::AclSources::new(
                acl::AclSettings {
                    no_match: acl::NoMatch::Allow,
                    ..acl::AclSettings::default()
                },
                Vec::new(),
            )),
            auth: auth::AuthChain::new(
                auth::AuthSettings::default(),
                Vec::new(),
                Vec::new(),
                Arc::new(NoTimer),
            ),
            kept: nightjar_broker::Kept::default(),
        });
        store.set_sink(broker.clone());
        let mut settings = Settings::new("pair");
        settings.auth = Auth::Off;
        change(&mut settings);
        Self {
            now: 0,
            base: Instant::now(),
            gateway: Gateway::seeded(broker.clone(), settings, seed),
            broker,
            turn: Turn::default(),
            wire,
            dice: Dice::new(seed ^ 0xD1CE),
            flying: BinaryHeap::new(),
            sent: 0,
            counted: 0,
            ends: Vec::new(),
            next_tick: 0,
            next_port: 1000,
            trace: Vec::new(),
        }
    }

    /// One more client, on an address of its own; its number.
    pub fn add(&mut self, config: Config, lossy: bool) -> usize {
        let peer = self.address();
        self.ends.push(End {
            client: Client::new(config),
            peer,
            lossy,
            muted: false,
            events: Vec::new(),
        });
        self.ends.len() - 1
    }

    /// An address that nobody had.
    pub fn address(&mut self) -> SocketAddr {
        self.next_port += 1;
        SocketAddr::new(IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1)), self.next_port)
    }

    /// The clients' clock.
    pub fn instant(&self) -> Instant {
        self.base + Duration::from_millis(self.now)
    }

    fn timestamp(&self) -> Timestamp {
        Timestamp(BEGIN + self.now)
    }

    /// Puts a datagram on the wire. Only those of lossy ends take numbers from the dice, so that the order in which the
    /// broker serves its subscribers, which no seed decides, changes nothing for the others.
    fn fly(&mut self, lossy: bool, way: Way, datagram: Vec<u8>) {
        if !lossy {
            self.note(&way, &datagram, "");
            self.launch(Wire::GOOD.delay.0, way, datagram);
            return;
        }
        let wire = self.wire.clone();
        let fate = wire
            .fate
            .and_then(|(number, fate)| (number == self.counted).then_some(fate));
        self.counted += 1;
        let lost = self.dice.chance(wire.lost_percent);
        if fate == Some(Fate::Lost) || lost {
            self.note(&way, &datagram, "lost");
            return;
        }
        let doubled = self.dice.chance(wire.doubled_percent);
        let (low, high) = wire.delay;
        let mut delay = self.dice.between(low, high);
        if let Some(Fate::Late(more)) = fate {
            delay += more;
        }
        self.note(&way, &datagram, "");
        if fate == Some(Fate::Doubled) || doubled {
            let other = self.dice.between(low, high);
            self.note(&way, &datagram, "again");
            self.launch(other, way, datagram.clone());
        }
        self.launch(delay, way, datagram);
    }

    fn launch(&mut self, delay: u64, way: Way, datagram: Vec<u8>) {
        self.sent += 1;
        let arrives = self.now + delay;
        self.flying
            .push(Reverse((arrives, self.sent, way, datagram)));
    }

    fn note(&mut self, way: &Way, datagram: &[u8], what: &str) {
        if self.trace.len() < 20_000 {
            let message = nightjar_mqttsn::Frame::decode(datagram).map(|frame| frame.message);
            self.trace
                .push(format!("{:>8} {way:?} {what} {message:?}", self.now));
        }
    }

    /// Writes down what is done, for a failed run.
    pub fn note_act(&mut self, act: &dyn std::fmt::Debug) {
        self.trace.push(format!("{:>8} {act:?}", self.now));
    }

    /// Takes what a client has to send and to tell.
    pub fn after(&mut self, end: usize) {
        while let Some(datagram) = self.ends[end].client.poll_transmit() {
            let (peer, lossy) = (self.ends[end].peer, self.ends[end].lossy);
            if !self.ends[end].muted {
                self.fly(lossy, Way::Up(peer), datagram);
            }
        }
        while let Some(event) = self.ends[end].client.poll_event() {
            if self.trace.len() < 20_000 {
                self.trace.push(format!("{:>8} {end} {event:?}", self.now));
            }
            self.ends[end].events.push(event);
        }
    }

    /// Sends what the gateway has to send, and lets it go on where it was woken.
    fn gateway_done(&mut self) {
        loop {
            self.gateway.finish(&mut self.turn);
            let output: Vec<(SocketAddr, Vec<u8>)> = self
                .turn
                .output()
                .iter()
                .map(|(path, datagram)| (path.peer, datagram.to_vec()))
                .collect();
            self.turn.output().clear();
            for (peer, datagram) in output {
                let lossy = self.ends.iter().any(|end| end.peer == peer && end.lossy);
                self.fly(lossy, Way::Down(peer), datagram);
            }
            if !self.gateway.is_woken(0) {
                return;
            }
            self.gateway.wake(self.timestamp(), 0, &mut self.turn);
        }
    }

    /// When something happens next, at `limit` at the latest.
    fn next(&self, limit: u64) -> u64 {
        let flying = self.flying.peek().map(|Reverse((at, ..))| *at);
        let gateway = self
            .gateway
            .next_timeout(0)
            .map(|at| at.0.saturating_sub(BEGIN));
        let clients = self
            .ends
            .iter()
            .filter_map(|end| end.client.poll_timeout())
            .map(|at| u64::try_from((at - self.base).as_millis()).unwrap_or(0) + 1);
        clients
            .chain(flying)
            .chain(gateway)
            .chain([self.next_tick, limit])
            .min()
            .unwrap_or(limit)
            .max(self.now)
    }

    /// Lets time pass up to a moment, or until some client has an event.
    pub fn run_until(&mut self, limit: u64) {
        while self.now < limit && self.ends.iter().all(|end| end.events.is_empty()) {
            let before = self.now;
            self.now = self.next(limit);
            self.step();
            // A timer that stays due must not hold time up.
            if self.now == before && self.next(limit) == before {
                self.now += 1;
            }
        }
    }

    fn step(&mut self) {
        while let Some(Reverse((at, ..))) = self.flying.peek()
            && *at <= self.now
        {
            let Some(Reverse((_, _, way, datagram))) = self.flying.pop() else {
                break;
            };
            match way {
                Way::Up(peer) => {
                    let now = self.timestamp();
                    let path = Path::direct(peer, None);
                    self.gateway
                        .receive(now, 0, &mut self.turn, path, None, &datagram);
                    self.gateway_done();
                }
                Way::Down(peer) => {
                    let now = self.instant();
                    let end = self
                        .ends
                        .iter()
                        .position(|end| end.peer == peer && !end.muted);
                    if let Some(end) = end {
                        self.ends[end]
                            .client
                            .handle_datagram(now, &datagram)
                            .unwrap();
                        self.after(end);
                    }
                }
            }
        }
        let now = self.instant();
        for end in 0..self.ends.len() {
            if self.ends[end]
                .client
                .poll_timeout()
                .is_some_and(|at| at <= now)
            {
                self.ends[end].client.handle_timeout(now);
                self.after(end);
            }
        }
        if self
            .gateway
            .next_timeout(0)
            .is_some_and(|at| at <= self.timestamp())
        {
            self.gateway.timeout(self.timestamp(), 0, &mut self.turn);
            self.gateway_done();
        }
        if self.now >= self.next_tick {
            self.next_tick = self.now + TICK;
            self.broker.tick(self.timestamp());
            self.gateway_done();
        }
        if self.gateway.is_woken(0) {
            self.gateway.wake(self.timestamp(), 0, &mut self.turn);
            self.gateway_done();
        }
    }
}
