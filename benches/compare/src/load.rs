//! The generator: all clients on one thread over epoll, windowed so that a broker need not drop anything.

use crate::broker::{Broker, Kind};
use crate::clients::{beside, filter, forget, join, join_kept, kept, plan};
use crate::floor;
use crate::packet::{self, Template};
use crate::process;
use crate::workload::{Drive, Workload};
use mio::net::TcpStream;
use mio::unix::SourceFd;
use mio::{Events, Interest, Poll, Token};
use rustix::time::{Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, Timespec};
use std::io::{self, Read, Write};
use std::os::fd::{AsRawFd, OwnedFd};
use std::time::{Duration, Instant};

/// After the measured time, how long without a delivery until what is missing counts as lost.
const PATIENCE: Duration = Duration::from_secs(2);
/// The longest that is waited for what is still under way, also where it goes on coming.
const LONGEST: Duration = Duration::from_secs(15);
/// Time for a broker to end what it does for very many subscriptions: that is no cost of messages.
const SETTLE: Duration = Duration::from_secs(2);
/// Latencies kept of one run.
const SAMPLES: usize = 4_000_000;
const TIMER: Token = Token(usize::MAX);
/// Ticks of the timer in a second; at higher rates a tick publishes more than once.
const MAX_TICKS: u64 = 10_000;

/// What one run gave.
pub struct Outcome {
    /// Messages that reached subscribers in the measured time.
    pub delivered: u64,
    /// Measured time.
    pub wall: Duration,
    /// CPU time of the broker in it.
    pub cpu: Duration,
    /// Median of the time from write to read, microseconds.
    pub p50: f64,
    /// 99th percentile of it.
    pub p99: f64,
    /// 99.9th percentile of it.
    pub p999: f64,
    /// Median, 99th and 99.9th percentile at half the rate, of a run that saturates.
    pub half: Option<[f64; 3]>,
    /// Resident bytes of the broker at the end of the measured time.
    pub resident: u64,
    /// Deliveries that never came, warm-up included.
    pub lost: u64,
}

struct Client {
    stream: TcpStream,
    topic: usize,
    /// A packet of which a part was read.
    partial: Vec<u8>,
    unsent: Vec<u8>,
    packet_id: u16,
}

struct Topic {
    template: Template,
    publishers: Vec<usize>,
    next: usize,
    published: u64,
    received: u64,
    acknowledged: u64,
}

struct Load<'w> {
    workload: &'w Workload,
    drive: Drive,
    poll: Poll,
    timer: Option<OwnedFd>,
    /// Publications for one tick of the timer, and the part of one that was left over.
    per_tick: f64,
    due: f64,
    /// Clients that only hold subscriptions.
    _beside: Vec<std::net::TcpStream>,
    clients: Vec<Client>,
    topics: Vec<Topic>,
    /// Clients whose socket did not take all they had.
    blocked: Vec<usize>,
    origin: Instant,
    delivered: u64,
    latencies: Vec<u32>,
    turn: usize,
    buffer: Box<[u8]>,
    /// No publications any more, deliveries are still read.
    draining: bool,
}

/// Connects the clients of a workload, drives them for `warm + measured`, waits for what is under way, disconnects.
pub fn run(
    broker: &Broker,
    workload: &Workload,
    warm: Duration,
    measured: Duration,
    halved: bool,
) -> io::Result<Outcome> {
    let mut load = Load::connect(broker, workload)?;
    load.drive(warm)?;
    load.latencies.clear();
    let (cpu, begin, delivered) = (process::cpu(&broker.pids)?, Instant::now(), load.delivered);
    load.drive(measured)?;
    let (cpu, wall) = (
        process::cpu(&broker.pids)?.saturating_sub(cpu),
        begin.elapsed(),
    );
    let delivered = load.delivered - delivered;
    let resident = process::resident(&broker.pids)?;
    let [p50, p99, p999] = load.percentiles();
    load.drain()?;
    let mut half = None;
    if halved && matches!(workload.drive, Drive::Saturate { .. }) && load.missing() == 0 {
        let rate = delivered as f64 / wall.as_secs_f64() / workload.copies() as f64 / 2.0;
        load.pace(rate.max(1.0) as u64)?;
        load.drive(warm)?;
        load.latencies.clear();
        load.drive(measured)?;
        half = Some(load.percentiles());
        load.drain()?;
    }
    let lost = load.missing();
    let clients = load.clients.len();
    load.disconnect();
    if workload.kept {
        for number in 0..clients {
            forget(broker, &kept(number))?;
        }
    }
    Ok(Outcome {
        delivered,
        wall,
        cpu,
        p50,
        p99,
        p999,
        half,
        resident,
        lost,
    })
}

impl<'w> Load<'w> {
    fn connect(broker: &Broker, workload: &'w Workload) -> io::Result<Self> {
        let poll = Poll::new()?;
        let mut topics: Vec<Topic> = (0..workload.topics)
            .map(|number| Topic {
                template: Template::new(
                    &packet::topic(number),
                    workload.qos,
                    false,
                    workload.payload,
                ),
                publishers: Vec::new(),
                next: 0,
                published: 0,
                received: 0,
                acknowledged: 0,
            })
            .collect();
        let mut clients = Vec::new();
        for (topic, subscribes) in plan(workload) {
            let echo = broker.kind == Kind::Echo;
            if echo && subscribes {
                // The echo answers the publisher itself.
                continue;
            }
            let stream = if broker.kind.is_floor() {
                let mut stream = std::net::TcpStream::connect(broker.address)?;
                if broker.kind == Kind::Relay {
                    let length = topics[topic].template.len() as u32;
                    let acknowledged = if workload.qos > 0 { length } else { 0 };
                    stream.write_all(&floor::hello(topic, subscribes, acknowledged))?;
                }
                stream
            } else if workload.kept && subscribes {
                let filter = filter(workload, topic);
                join_kept(broker, clients.len(), &filter, workload.qos)?
            } else {
                join(
                    broker,
                    clients.len(),
                    subscribes.then(|| filter(workload, topic)).as_deref(),
                    workload.qos,
                )?
            };
            stream.set_nodelay(true)?;
            stream.set_nonblocking(true)?;
            let mut stream = TcpStream::from_std(stream);
            poll.registry()
                .register(&mut stream, Token(clients.len()), Interest::READABLE)?;
            if !subscribes {
                topics[topic].publishers.push(clients.len());
            }
            clients.push(Client {
                stream,
                topic,
                partial: Vec::new(),
                unsent: Vec::new(),
                packet_id: 0,
            });
        }
        // Every broker answered its clients by now; a relay does not.
        crate::broker::pause(Duration::from_millis(50));
        let beside = beside(broker, workload)?;
        if workload.must_settle() {
            crate::broker::pause(SETTLE);
        }
        let mut load = Self {
            workload,
            drive: workload.drive,
            poll,
            timer: None,
            per_tick: 0.0,
            due: 0.0,
            _beside: beside,
            clients,
            topics,
            blocked: Vec::new(),
            origin: Instant::now(),
            delivered: 0,
            latencies: Vec::new(),
            turn: 0,
            buffer: vec![0; 256 * 1024].into_boxed_slice(),
            draining: false,
        };
        if let Drive::Pace { per_second } = workload.drive {
            load.pace(per_second)?;
        }
        Ok(load)
    }

    /// From now on so many publications a second.
    fn pace(&mut self, per_second: u64) -> io::Result<()> {
        let ticks = per_second.clamp(1, MAX_TICKS);
        self.drive = Drive::Pace { per_second };
        self.per_tick = per_second as f64 / ticks as f64;
        self.timer = Some(timer(&self.poll, ticks)?);
        self.draining = false;
        Ok(())
    }

    /// Median, 99th and 99.9th percentile of what was kept, microseconds.
    fn percentiles(&mut self) -> [f64; 3] {
        let mut latencies = std::mem::take(&mut self.latencies);
        latencies.sort_unstable();
        [500, 990, 999].map(|permille| {
            let at = latencies.len() * permille / 1000;
            f64::from(latencies.get(at).copied().unwrap_or(0)) / 1e3
        })
    }

    /// Waits for what is under way.
    fn drain(&mut self) -> io::Result<()> {
        self.draining = true;
        let begin = Instant::now();
        while self.missing() > 0 {
            let before = self.delivered;
            self.drive(PATIENCE / 8)?;
            if self.delivered == before {
                self.drive(PATIENCE)?;
            }
            if self.delivered == before || begin.elapsed() > LONGEST {
                break;
            }
        }
        Ok(())
    }

    /// Deliveries that are owed for what was published.
    fn missing(&self) -> u64 {
        let owed = |topic: &Topic| topic.published * self.workload.copies();
        self.topics
            .iter()
            .map(|topic| owed(topic).saturating_sub(topic.received))
            .sum()
    }

    fn drive(&mut self, time: Duration) -> io::Result<()> {
        let end = Instant::now() + time;
        let mut events = Events::with_capacity(1024);
        while Instant::now() < end && !(self.draining && self.missing() == 0) {
            for id in std::mem::take(&mut self.blocked) {
                self.flush(id)?;
            }
            if let (Drive::Saturate { window, batch }, false) = (self.drive, self.draining) {
                self.refill(window, batch)?;
            }
            // Blocked writers are tried again rather than watched: with these windows they are rare.
            let timeout = Duration::from_millis(if self.blocked.is_empty() { 20 } else { 1 });
            if let Err(error) = self.poll.poll(&mut events, Some(timeout))
                && error.kind() != io::ErrorKind::Interrupted
            {
                return Err(error);
            }
            for event in &events {
                if event.token() == TIMER {
                    self.publish_due()?
                } else {
                    self.receive(event.token().0)?
                }
            }
        }
        Ok(())
    }

    /// Tops up every topic's window, its publishers in turn.
    fn refill(&mut self, window: u64, batch: u64) -> io::Result<()> {
        let now = self.origin.elapsed().as_nanos() as u64;
        for number in 0..self.topics.len() {
            loop {
                let topic = &mut self.topics[number];
                let mut finished = topic.received / self.workload.copies();
                if self.workload.qos > 0 {
                    finished = finished.min(topic.acknowledged);
                }
                let id = topic.publishers[topic.next % topic.publishers.len()];
                let client = &mut self.clients[id];
                if topic.published - finished + batch > window || !client.unsent.is_empty() {
                    break;
                }
                topic.next += 1;
                topic.published += batch;
                for _ in 0..batch {
                    client.publish(&topic.template, now);
                }
                self.flush(id)?;
            }
        }
        Ok(())
    }

    /// Publishes what the timer says is due, each publication from another client and in its own write.
    fn publish_due(&mut self) -> io::Result<()> {
        let mut count = [0; 8];
        if let Some(timer) = &self.timer {
            match rustix::io::read(timer, &mut count) {
                Ok(_) => {}
                Err(rustix::io::Errno::AGAIN) => return Ok(()),
                Err(error) => return Err(error.into()),
            }
        }
        if self.draining {
            return Ok(());
        }
        // A generator that fell behind must not catch up in one burst: that would be another workload.
        self.due += u64::from_ne_bytes(count).min(20) as f64 * self.per_tick;
        while self.due >= 1.0 {
            self.due -= 1.0;
            let topics = self.topics.len();
            let topic = &mut self.topics[self.turn % topics];
            self.turn += 1;
            let id = topic.publishers[topic.next % topic.publishers.len()];
            topic.next += 1;
            topic.published += 1;
            let now = self.origin.elapsed().as_nanos() as u64;
            self.clients[id].publish(&topic.template, now);
            self.flush(id)?;
        }
        Ok(())
    }

    fn flush(&mut self, id: usize) -> io::Result<()> {
        let client = &mut self.clients[id];
        let mut written = 0;
        while written < client.unsent.len() {
            match client.stream.write(&client.unsent[written..]) {
                Ok(more) => written += more,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    self.blocked.push(id);
                    break;
                }
                Err(error) => return Err(error),
            }
        }
        client.unsent.drain(..written);
        Ok(())
    }

    /// Reads all a socket has: counts deliveries, acknowledges QoS 1 in one write per read.
    fn receive(&mut self, id: usize) -> io::Result<()> {
        loop {
            let client = &mut self.clients[id];
            let start = client.partial.len();
            self.buffer[..start].copy_from_slice(&client.partial);
            let read = match client.stream.read(&mut self.buffer[start..]) {
                Ok(0) => return Err(io::Error::other("the broker closed a connection")),
                Ok(read) => read,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
                Err(error) => return Err(error),
            };
            let now = self.origin.elapsed().as_nanos() as u64;
            let (filled, mut at) = (start + read, 0);
            let topic = &mut self.topics[client.topic];
            let unsent = client.unsent.len();
            while let Some(found) = packet::next(&self.buffer[at..filled]) {
                at += found.length;
                match found.kind {
                    packet::PUBLISH => {
                        let (packet_id, sent) = packet::publish(&found)
                            .ok_or_else(|| io::Error::other("a delivery was malformed"))?;
                        if let Some(id) = packet_id {
                            let kind = if found.qos == 1 {
                                packet::PUBACK
                            } else {
                                packet::PUBREC
                            };
                            client.unsent.extend_from_slice(&packet::ack(kind, id));
                        }
                        topic.received += 1;
                        self.delivered += 1;
                        if self.latencies.len() < SAMPLES {
                            self.latencies
                                .push(u32::try_from(now.saturating_sub(sent)).unwrap_or(u32::MAX));
                        }
                    }
                    packet::PUBACK | packet::PUBCOMP => topic.acknowledged += 1,
                    packet::PUBREC | packet::PUBREL => {
                        let id = packet::id(&found)
                            .ok_or_else(|| io::Error::other("an acknowledgement without an id"))?;
                        let answer = packet::ack(found.kind + 1, id);
                        client.unsent.extend_from_slice(&answer);
                    }
                    kind => return Err(io::Error::other(format!("a packet of type {kind} came"))),
                }
            }
            client.partial.clear();
            client.partial.extend_from_slice(&self.buffer[at..filled]);
            if client.unsent.len() > unsent {
                self.flush(id)?;
            }
            if filled < self.buffer.len() {
                return Ok(());
            }
        }
    }

    fn disconnect(mut self) {
        for client in &mut self.clients {
            // The run is over; a socket that fails here is closed in any case.
            let _written = client.stream.write(&packet::DISCONNECT);
        }
        drop(self);
        crate::broker::pause(Duration::from_millis(200));
    }
}

impl Client {
    fn publish(&mut self, template: &Template, now: u64) {
        self.packet_id = self.packet_id % 0xfffe + 1;
        template.write(&mut self.unsent, self.packet_id, now);
    }
}

/// A timer that ticks `per_second` times: epoll's own timeout counts in milliseconds, too coarse.
fn timer(poll: &Poll, per_second: u64) -> io::Result<OwnedFd> {
    let timer = rustix::time::timerfd_create(
        TimerfdClockId::Monotonic,
        TimerfdFlags::NONBLOCK | TimerfdFlags::CLOEXEC,
    )?;
    let step = Timespec {
        tv_sec: 0,
        tv_nsec: 1_000_000_000 / i64::try_from(per_second).unwrap_or(1).max(2),
    };
    let every = Itimerspec {
        it_interval: step,
        it_value: step,
    };
    rustix::time::timerfd_settime(&timer, TimerfdTimerFlags::empty(), &every)?;
    poll.registry()
        .register(&mut SourceFd(&timer.as_raw_fd()), TIMER, Interest::READABLE)?;
    Ok(timer)
}
