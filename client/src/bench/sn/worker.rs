//! A thread that drives many sensors: one poll over all sockets, one heap of timers.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, VecDeque};
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use mio::net::UdpSocket;
use mio::{Events, Interest, Poll, Token};
use nightjar_mqttsn::{Frame, QoS};

use crate::bench::sn::sensor::Sensor;
use crate::bench::sn::stats::{Phase, Shared, WorkerStats};
use crate::error::{Error, Result};

/// CONNECTs of a worker without an answer.
const CONNECTING: usize = 128;
/// PINGREQs of a worker begun in one round; the rounds follow one another at once.
const ROUND: usize = 256;
/// Messages of QoS 0 of a sensor in one round.
const BURST: usize = 16;
/// Longest sleep of the thread: how soon it hears of a new phase.
const TICK: Duration = Duration::from_millis(2);
/// What is asked of the system for each socket's receive buffer; it gives what it allows.
const RECEIVE_BUFFER: usize = 4 << 20;

/// See the module.
pub(super) struct Worker {
    shared: Arc<Shared>,
    index: usize,
    poll: Poll,
    sockets: Vec<UdpSocket>,
    sensors: Vec<Sensor>,
    /// Sensors by the time of their client's next timeout, or earlier.
    timers: BinaryHeap<Reverse<(Instant, u32)>>,
    /// Sensors by the time of their next message.
    due: BinaryHeap<Reverse<(u64, u32)>>,
    /// Sensors that have not begun the phase.
    waiting: VecDeque<u32>,
    phase: Phase,
    /// When the next CONNECT may go.
    next_connect: u64,
    buffer: Vec<u8>,
}

impl Worker {
    /// Opens the sockets.
    ///
    /// # Errors
    /// [`Error::Io`] where the system has no more of them.
    pub fn new(shared: Arc<Shared>, index: usize) -> Result<Self> {
        let failed = |source| Error::Io {
            what: "cannot open a UDP socket",
            source,
        };
        let poll = Poll::new().map_err(failed)?;
        let threads = shared.workers.len() as u32;
        let forwarders = shared.bench.forwarders;
        let own: Vec<u32> = (0..shared.bench.count)
            .filter(|sensor| sensor % threads == index as u32)
            .collect();
        let count = if forwarders == 0 {
            own.len()
        } else {
            (forwarders as usize).div_ceil(threads as usize)
        };
        let mut sockets = Vec::with_capacity(count);
        for number in 0..count {
            let mut socket = open(&shared, number).map_err(failed)?;
            poll.registry()
                .register(&mut socket, Token(number), Interest::READABLE)
                .map_err(failed)?;
            sockets.push(socket);
        }
        let sensors: Vec<Sensor> = own
            .iter()
            .enumerate()
            .map(|(local, sensor)| {
                let node = (forwarders > 0).then(|| (local as u32).to_be_bytes().to_vec());
                Sensor::new(&shared, *sensor, (local % count) as u32, node)
            })
            .collect();
        let stats = &shared.workers[index];
        stats.sensors.store(sensors.len() as u64, Ordering::Release);
        Ok(Self {
            index,
            poll,
            sockets,
            sensors,
            timers: BinaryHeap::new(),
            due: BinaryHeap::new(),
            waiting: VecDeque::new(),
            phase: Phase::Idle,
            next_connect: 0,
            buffer: vec![0; 65_536],
            shared,
        })
    }

    fn stats(&self) -> &WorkerStats {
        &self.shared.workers[self.index]
    }

    /// Until the last phase.
    pub fn run(&mut self) {
        let mut events = Events::with_capacity(1024);
        loop {
            let phase = self.shared.phase();
            if phase != self.phase {
                self.enter(phase);
            }
            if phase == Phase::End {
                let repeats: u64 = self
                    .sensors
                    .iter()
                    .map(|sensor| sensor.client.counters().repeats)
                    .sum();
                self.stats().repeats.add(repeats);
                return;
            }
            let busy = match phase {
                Phase::Connect => self.connect(),
                Phase::Publish => self.publish(),
                _ => self.begin(),
            };
            let timeout = if busy { Duration::ZERO } else { self.pause() };
            match self.poll.poll(&mut events, Some(timeout)) {
                Ok(()) => {}
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => {
                    self.stats().error(format!("poll: {error}"));
                    return;
                }
            }
            for event in &events {
                self.read(event.token().0);
            }
            self.fire();
        }
    }

    fn enter(&mut self, phase: Phase) {
        self.phase = phase;
        self.due.clear();
        self.waiting.clear();
        let stats = &self.shared.workers[self.index];
        stats.through.store(0, Ordering::Release);
        stats.entered.store(phase as u8, Ordering::Release);
        let now = self.shared.clock.now();
        let count = self.sensors.len().max(1) as u64;
        for local in 0..self.sensors.len() as u32 {
            self.sensors[local as usize].leave();
            match phase {
                Phase::Publish => {
                    // Spread over the first interval, so that sensors do not beat in time.
                    let due = now + self.shared.interval * u64::from(local) / count;
                    self.sensors[local as usize].due = due;
                    self.due.push(Reverse((due, local)));
                }
                _ => self.waiting.push_back(local),
            }
        }
        self.next_connect = now;
    }

    /// How long nothing is to be done.
    fn pause(&self) -> Duration {
        let timer = self
            .timers
            .peek()
            .map(|Reverse((at, _))| at.saturating_duration_since(Instant::now()));
        let due = self.due.peek().map(|Reverse((at, _))| {
            Duration::from_nanos(at.saturating_sub(self.shared.clock.now()))
        });
        [timer, due].into_iter().flatten().fold(TICK, Duration::min)
    }

    /// Begins CONNECTs within rate and window; true where more may go at once.
    fn connect(&mut self) -> bool {
        let open = self.sensors.len() - self.waiting.len();
        let through = self.stats().through.load(Ordering::Relaxed) as usize;
        let mut window = CONNECTING.saturating_sub(open.saturating_sub(through));
        while window > 0 && !self.waiting.is_empty() {
            let now = self.shared.clock.now();
            if let Some(rate) = self.shared.bench.connrate {
                if now < self.next_connect {
                    return false;
                }
                self.next_connect += 1_000_000_000 * self.shared.workers.len() as u64 / rate;
            }
            let Some(local) = self.waiting.pop_front() else {
                break;
            };
            let shared = Arc::clone(&self.shared);
            let sensor = &mut self.sensors[local as usize];
            sensor.enter(&shared, &shared.workers[self.index], Phase::Connect);
            if !Sensor::is_sessionless(&shared) {
                sensor.connect(&shared);
            }
            self.after(local);
            window -= 1;
        }
        false
    }

    /// Begins any other phase, a round at a time; true where more may go at once.
    fn begin(&mut self) -> bool {
        let shared = Arc::clone(&self.shared);
        for _ in 0..ROUND {
            let Some(local) = self.waiting.pop_front() else {
                return false;
            };
            self.sensors[local as usize].enter(&shared, &shared.workers[self.index], self.phase);
            self.after(local);
        }
        true
    }

    /// Publishes what is due; true where more may go at once.
    fn publish(&mut self) -> bool {
        let shared = Arc::clone(&self.shared);
        let stats = &shared.workers[self.index];
        let qos = shared.bench.qos.to_sn();
        let (interval, rounds) = (shared.interval, self.due.len());
        let now = shared.clock.now();
        let mut sent = false;
        for _ in 0..rounds {
            match self.due.peek() {
                Some(Reverse((at, _))) if *at <= now => {}
                _ => break,
            }
            let Some(Reverse((at, local))) = self.due.pop() else {
                break;
            };
            let sensor = &mut self.sensors[local as usize];
            if !sensor.may_publish(qos) {
                // Its acknowledgement brings it back.
                if interval > 0 {
                    stats.late.add(1);
                }
                sensor.due = 0;
                continue;
            }
            let burst = if interval == 0 && qos <= QoS::AtMostOnce {
                BURST
            } else {
                1
            };
            for _ in 0..burst {
                if !shared.claim() {
                    return false;
                }
                self.sensors[local as usize].publish(&shared, stats, qos);
                self.after(local);
                sent = true;
            }
            let next = if interval == 0 { now } else { at + interval };
            self.sensors[local as usize].due = next;
            if interval > 0 || qos <= QoS::AtMostOnce {
                self.due.push(Reverse((next, local)));
            } else {
                self.sensors[local as usize].due = 0;
            }
        }
        sent && interval == 0
    }

    /// Takes all datagrams of a socket.
    fn read(&mut self, number: usize) {
        loop {
            let length = match self.sockets[number].recv(&mut self.buffer) {
                Ok(length) => length,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return,
                Err(error) => {
                    self.stats().error(format!("receive: {error}"));
                    continue;
                }
            };
            self.stats().heard.add(1);
            let Some(local) = self.owner(number, length) else {
                self.stats().error("a datagram for no sensor".to_owned());
                continue;
            };
            let sensor = &mut self.sensors[local as usize];
            let datagram = &self.buffer[..length];
            if let Err(error) = sensor.client.handle_datagram(Instant::now(), datagram) {
                self.stats().error(format!("malformed: {error}"));
            }
            self.after(local);
        }
    }

    /// Whose datagram it is: the socket's only sensor, or the node's.
    fn owner(&self, socket: usize, length: usize) -> Option<u32> {
        if self.shared.bench.forwarders == 0 {
            return Some(socket as u32);
        }
        let frame = Frame::decode(&self.buffer[..length]).ok()?;
        let node = frame.encapsulation?.node_id;
        let local = u32::from_be_bytes(node.try_into().ok()?);
        ((local as usize) < self.sensors.len()).then_some(local)
    }

    /// Sends and counts what a sensor's client has, and keeps its timer.
    fn after(&mut self, local: u32) {
        let shared = Arc::clone(&self.shared);
        let stats = &shared.workers[self.index];
        let sensor = &mut self.sensors[local as usize];
        sensor.events(&shared, stats, self.phase);
        while let Some(datagram) = sensor.client.poll_transmit() {
            if let Err(error) = self.sockets[sensor.socket as usize].send(&datagram) {
                stats.unsent.add(1);
                if error.kind() != io::ErrorKind::WouldBlock {
                    stats.error(format!("send: {error}"));
                }
            }
        }
        if let Some(at) = sensor.client.poll_timeout()
            && sensor.timer.is_none_or(|timer| at < timer)
        {
            sensor.timer = Some(at);
            self.timers.push(Reverse((at, local)));
        }
        // Acknowledged while its next message was due.
        let qos = shared.bench.qos.to_sn();
        if self.phase == Phase::Publish && sensor.due == 0 && sensor.may_publish(qos) {
            sensor.due = shared.clock.now();
            self.due.push(Reverse((sensor.due, local)));
        }
    }

    /// Does what is due by the clock.
    fn fire(&mut self) {
        let now = Instant::now();
        while let Some(Reverse((at, local))) = self.timers.peek().copied() {
            if at > now {
                return;
            }
            self.timers.pop();
            let sensor = &mut self.sensors[local as usize];
            // An entry that an earlier one replaced.
            if sensor.timer != Some(at) {
                continue;
            }
            sensor.timer = None;
            if sensor.client.poll_timeout().is_some_and(|due| due <= now) {
                sensor.client.handle_timeout(now);
            }
            self.after(local);
        }
    }
}

/// A socket towards the gateway, with as large a receive buffer as the system allows.
fn open(shared: &Shared, number: usize) -> io::Result<UdpSocket> {
    let gateway = shared.address;
    let any = if gateway.is_ipv4() {
        IpAddr::V4(Ipv4Addr::UNSPECIFIED)
    } else {
        IpAddr::V6(Ipv6Addr::UNSPECIFIED)
    };
    let sources = &shared.bench.ifaddr;
    let source = sources
        .get(number % sources.len().max(1))
        .copied()
        .unwrap_or(any);
    let socket = socket2::Socket::new(
        socket2::Domain::for_address(gateway),
        socket2::Type::DGRAM,
        Some(socket2::Protocol::UDP),
    )?;
    if shared.bench.forwarders > 0 {
        // A refusal leaves the system's default.
        let _ = socket.set_recv_buffer_size(RECEIVE_BUFFER);
    }
    socket.set_nonblocking(true)?;
    socket.bind(&SocketAddr::new(source, 0).into())?;
    socket.connect(&gateway.into())?;
    Ok(UdpSocket::from_std(socket.into()))
}
