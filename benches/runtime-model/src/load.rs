//! The load generator: one thread over epoll, windowed so that the server never has to drop.

use mio::net::TcpStream;
use mio::{Events, Interest, Poll, Token};
use std::io::{self, Read, Write};
use std::net::SocketAddr;
use std::time::{Duration, Instant};

const PAYLOAD: usize = 100;
const FRAME: usize = PAYLOAD + 4;

/// How the publishers are driven.
#[derive(Clone, Copy)]
pub enum Drive {
    /// Each channel keeps `window` publications under way and refills `batch` at a time: many messages per read.
    Saturate { window: usize, batch: usize },
    /// This many publications a second over all publishers in turn, each its own write: one message per read.
    Pace { per_second: u64 },
}

/// One traffic pattern.
#[derive(Clone, Copy)]
pub struct Workload {
    /// Name in the table.
    pub name: &'static str,
    /// Channels; each has `publishers` and `subscribers`.
    pub channels: usize,
    /// Publishers per channel.
    pub publishers: usize,
    /// Subscribers per channel.
    pub subscribers: usize,
    /// How it is driven.
    pub drive: Drive,
}

/// What one run gave.
pub struct Outcome {
    /// Messages delivered in the measured time.
    pub delivered: u64,
    /// Measured time.
    pub wall: Duration,
    /// CPU time of the server in it.
    pub cpu: Duration,
    /// 99th percentile of the delivery time, microseconds.
    pub p99_us: f64,
}

struct Client {
    stream: TcpStream,
    channel: usize,
    partial: Vec<u8>,
    unsent: Vec<u8>,
}

struct Channel {
    publishers: Vec<usize>,
    next: usize,
    published: u64,
    received: u64,
}

/// CPU time of all threads of a process, from the scheduler's nanosecond counters.
pub fn cpu_of(pid: u32) -> io::Result<Duration> {
    let mut nanos = 0;
    for task in std::fs::read_dir(format!("/proc/{pid}/task"))? {
        let text = std::fs::read_to_string(task?.path().join("schedstat"))?;
        nanos += text
            .split_whitespace()
            .next()
            .and_then(|n| n.parse::<u64>().ok())
            .unwrap_or(0);
    }
    Ok(Duration::from_nanos(nanos))
}

/// Connects the clients of a workload and drives them for `warm + measured`.
pub fn run(
    port: u16,
    pid: u32,
    workload: &Workload,
    warm: Duration,
    measured: Duration,
) -> io::Result<Outcome> {
    let mut load = Load::connect(port, workload)?;
    load.drive(workload, warm)?;
    load.latencies.clear();
    let (cpu, begin, delivered) = (cpu_of(pid)?, Instant::now(), load.delivered);
    load.drive(workload, measured)?;
    let (cpu, wall) = (cpu_of(pid)?.saturating_sub(cpu), begin.elapsed());
    load.latencies.sort_unstable();
    let p99 = load
        .latencies
        .get(load.latencies.len() * 99 / 100)
        .copied()
        .unwrap_or(0);
    Ok(Outcome {
        delivered: load.delivered - delivered,
        wall,
        cpu,
        p99_us: f64::from(p99) / 1e3,
    })
}

struct Load {
    poll: Poll,
    clients: Vec<Client>,
    channels: Vec<Channel>,
    origin: Instant,
    delivered: u64,
    latencies: Vec<u32>,
    turn: usize,
    due: Duration,
    buffer: Box<[u8]>,
}

impl Load {
    fn connect(port: u16, workload: &Workload) -> io::Result<Self> {
        let mut plan: Vec<(usize, bool)> = Vec::new();
        for channel in 0..workload.channels {
            plan.extend((0..workload.publishers).map(|_| (channel, false)));
            plan.extend((0..workload.subscribers).map(|_| (channel, true)));
        }
        // Clients connect in no particular order: with pinned workers half of all pairs then cross a thread, as in life.
        let mut seed = 0x9e37_79b9_7f4a_7c15_u64;
        for i in (1..plan.len()).rev() {
            seed = seed
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1_442_695_040_888_963_407);
            plan.swap(i, (seed >> 33) as usize % (i + 1));
        }
        let poll = Poll::new()?;
        let new = || Channel {
            publishers: Vec::new(),
            next: 0,
            published: 0,
            received: 0,
        };
        let mut channels: Vec<Channel> = (0..workload.channels).map(|_| new()).collect();
        let mut clients = Vec::new();
        for (channel, subscribes) in plan {
            let mut stream =
                std::net::TcpStream::connect(SocketAddr::from(([127, 0, 0, 1], port)))?;
            stream.set_nodelay(true)?;
            let mut hello = vec![0, 0, 0, 5, if subscribes { b'S' } else { b'P' }];
            hello.extend_from_slice(&(channel as u32).to_be_bytes());
            stream.write_all(&hello)?;
            stream.set_nonblocking(true)?;
            let mut stream = TcpStream::from_std(stream);
            let id = clients.len();
            if subscribes {
                poll.registry()
                    .register(&mut stream, Token(id), Interest::READABLE)?;
            } else {
                channels[channel].publishers.push(id);
            }
            clients.push(Client {
                stream,
                channel,
                partial: Vec::new(),
                unsent: Vec::new(),
            });
        }
        pause(Duration::from_millis(100));
        let buffer = vec![0; 256 * 1024].into_boxed_slice();
        let (origin, latencies) = (Instant::now(), Vec::new());
        let due = Duration::ZERO;
        Ok(Self {
            poll,
            clients,
            channels,
            origin,
            delivered: 0,
            latencies,
            turn: 0,
            due,
            buffer,
        })
    }

    fn drive(&mut self, workload: &Workload, time: Duration) -> io::Result<()> {
        let end = Instant::now() + time;
        let mut events = Events::with_capacity(1024);
        if self.due.is_zero() {
            self.due = self.origin.elapsed();
        }
        while Instant::now() < end {
            let timeout = match workload.drive {
                Drive::Saturate { window, batch } => {
                    self.refill(window, batch, workload.subscribers as u64)?;
                    Duration::from_millis(20)
                }
                Drive::Pace { per_second } => {
                    let step = Duration::from_nanos(1_000_000_000 / per_second);
                    let now = self.origin.elapsed();
                    // A generator that fell behind must not catch up in a burst: that would be another workload.
                    self.due = self.due.max(now.saturating_sub(step * 20));
                    while self.due <= now {
                        self.publish_one()?;
                        self.due += step;
                    }
                    // epoll waits in milliseconds only, so the pace is kept by a sleep and the sockets are polled.
                    let left = self.due.saturating_sub(self.origin.elapsed());
                    if left < Duration::from_millis(2) {
                        pause(left);
                        Duration::ZERO
                    } else {
                        left
                    }
                }
            };
            if let Err(error) = self.poll.poll(&mut events, Some(timeout))
                && error.kind() != io::ErrorKind::Interrupted
            {
                return Err(error);
            }
            let now = self.origin.elapsed();
            for event in &events {
                self.receive(event.token().0, now)?;
            }
        }
        Ok(())
    }

    fn refill(&mut self, window: usize, batch: usize, subscribers: u64) -> io::Result<()> {
        let stamp = self.origin.elapsed();
        for channel in &mut self.channels {
            loop {
                let underway = channel.published - channel.received / subscribers;
                let id = channel.publishers[channel.next % channel.publishers.len()];
                let client = &mut self.clients[id];
                client.flush()?;
                if !client.unsent.is_empty() || underway + batch as u64 > window as u64 {
                    break;
                }
                channel.next += 1;
                for _ in 0..batch {
                    frame(&mut client.unsent, stamp);
                }
                channel.published += batch as u64;
                client.flush()?;
            }
        }
        Ok(())
    }

    fn publish_one(&mut self) -> io::Result<()> {
        let publishers = self.channels.len();
        let channel = &mut self.channels[self.turn % publishers];
        self.turn += 1;
        let id = channel.publishers[channel.next % channel.publishers.len()];
        channel.next += 1;
        channel.published += 1;
        let client = &mut self.clients[id];
        frame(&mut client.unsent, self.origin.elapsed());
        client.flush()
    }

    fn receive(&mut self, id: usize, now: Duration) -> io::Result<()> {
        let client = &mut self.clients[id];
        loop {
            let start = client.partial.len();
            self.buffer[..start].copy_from_slice(&client.partial);
            let read = match client.stream.read(&mut self.buffer[start..]) {
                Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
                Ok(read) => read,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
                Err(error) => return Err(error),
            };
            let filled = start + read;
            let whole = filled / FRAME;
            for at in 0..whole {
                if let Some(stamp) = self.buffer[at * FRAME + 4..].first_chunk::<8>()
                    && self.latencies.len() < 1_000_000
                {
                    let taken = (now.as_nanos() as u64).saturating_sub(u64::from_be_bytes(*stamp));
                    self.latencies
                        .push(u32::try_from(taken).unwrap_or(u32::MAX));
                }
            }
            client.partial.clear();
            client
                .partial
                .extend_from_slice(&self.buffer[whole * FRAME..filled]);
            self.delivered += whole as u64;
            self.channels[client.channel].received += whole as u64;
            if filled < self.buffer.len() {
                return Ok(());
            }
        }
    }
}

impl Client {
    fn flush(&mut self) -> io::Result<()> {
        while !self.unsent.is_empty() {
            match self.stream.write(&self.unsent) {
                Ok(written) => drop(self.unsent.drain(..written)),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }
}

fn frame(out: &mut Vec<u8>, stamp: Duration) {
    out.extend_from_slice(&(PAYLOAD as u32).to_be_bytes());
    out.extend_from_slice(&(stamp.as_nanos() as u64).to_be_bytes());
    out.resize(out.len() + PAYLOAD - 8, 0x5a);
}

/// Sleeps; the generator is a plain thread, not a runtime's worker.
#[allow(clippy::disallowed_methods)]
pub fn pause(time: Duration) {
    if !time.is_zero() {
        std::thread::sleep(time);
    }
}
