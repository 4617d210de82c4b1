//! Starting and ending brokers, each in its own temporary folder and on a free port of 127.0.0.1.

mod config;

use crate::options::Options;
use crate::packet;
use crate::process;
use crate::workload::Transport;
use rustix::process::{Pid, Signal, kill_process};
use std::collections::BTreeSet;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// The longest start: RabbitMQ needs many seconds on two busy cores.
const START: Duration = Duration::from_secs(90);
/// How long a broker may take to end by itself.
const STOP: Duration = Duration::from_secs(20);
/// What is said of a broker that does not come up.
const AT_START: &str = "ended at its start";

/// What can be started.
#[derive(Clone, PartialEq, Eq)]
pub enum Kind {
    /// This project.
    Nightjar,
    /// This project with one worker thread: what the second core costs.
    NightjarOneWorker,
    /// Eclipse Mosquitto.
    Mosquitto,
    /// Eclipse Mosquitto with persistence as it is shipped: for kept sessions.
    MosquittoKept,
    /// nats-server with JetStream and its MQTT listener.
    Nats,
    /// RabbitMQ with the rabbitmq_mqtt plugin.
    RabbitMq,
    /// rumqttd.
    Rumqttd,
    /// rmqttd.
    Rmqtt,
    /// Three nodes of this project: publishers at the first, subscribers at the second.
    NightjarCluster,
    /// A floor: no broker, an epoll loop of this program that echoes.
    Echo,
    /// The other floor: the loop copies from publishers to subscribers.
    Relay,
    /// Name and command from the command line.
    Peer(String, String),
}

impl Kind {
    /// One of the two floors, which are no brokers and speak no MQTT.
    pub const fn is_floor(&self) -> bool {
        matches!(self, Self::Echo | Self::Relay)
    }

    /// What an acknowledgement for a kept session means as this program starts the broker.
    pub const fn promise(&self) -> &'static str {
        match self {
            Self::Nightjar | Self::NightjarOneWorker => "synced before it is acknowledged",
            Self::NightjarCluster => "synced by two of three nodes before it is acknowledged",
            Self::MosquittoKept => "NOT SYNCED: in memory, a file each 30 minutes and at the end",
            Self::Mosquitto => "NOT SYNCED: in memory",
            Self::Nats => "NOT SYNCED: JetStream syncs each 2 minutes",
            Self::Rumqttd => "NOT SYNCED: in memory",
            Self::Rmqtt => "NOT SYNCED: in memory, as started here",
            Self::RabbitMq | Self::Peer(..) => "not known to be synced",
            Self::Echo | Self::Relay => "",
        }
    }

    /// Name in tables and options.
    pub fn name(&self) -> &str {
        match self {
            Self::Nightjar => "nightjar",
            Self::NightjarOneWorker => "nightjar-1w",
            Self::Mosquitto => "mosquitto",
            Self::MosquittoKept => "mosquitto-p",
            Self::Nats => "nats",
            Self::RabbitMq => "rabbitmq",
            Self::Rumqttd => "rumqttd",
            Self::Rmqtt => "rmqtt",
            Self::NightjarCluster => "nightjar-3n",
            Self::Echo => "echo",
            Self::Relay => "relay",
            Self::Peer(name, _) => name,
        }
    }
}

/// A running broker; dropping it ends all its processes and removes its folder.
pub struct Broker {
    /// Which one.
    pub kind: Kind,
    /// Where it listens.
    pub address: SocketAddr,
    /// Where its subscribers go: another node, where there is one.
    pub subscribers: SocketAddr,
    /// Where it takes TLS and WebSocket, if it was set up for them.
    pub other: Others,
    /// What it says of its version.
    pub version: String,
    /// Its processes.
    pub pids: BTreeSet<u32>,
    child: Child,
    others: Vec<Child>,
    folder: PathBuf,
    after: Option<Command>,
}

/// Ports beside that of plain TCP.
#[derive(Debug, Clone, Copy, Default)]
pub struct Others {
    /// TLS.
    pub tls: Option<u16>,
    /// WebSocket at /mqtt.
    pub ws: Option<u16>,
    /// MQTT-SN.
    pub mqttsn: Option<u16>,
}

/// How one kind is started.
struct Plan {
    command: Command,
    /// Its other nodes with the ports of their clients; the first of them has the subscribers.
    nodes: Vec<(Command, u16)>,
    version: String,
    other: Others,
    /// Runs after the end, for what the broker leaves behind.
    after: Option<Command>,
}

impl Broker {
    /// Starts a broker and waits until it accepts a CONNECT. A port that was free a moment ago may be taken by now:
    /// a broker that ends at its start is started again on others.
    pub fn start(kind: &Kind, options: &Options) -> io::Result<Self> {
        let mut tries = 1;
        loop {
            match Self::try_start(kind, options) {
                Err(error) if tries < 3 && error.to_string().contains(AT_START) => tries += 1,
                done => return done,
            }
        }
    }

    fn try_start(kind: &Kind, options: &Options) -> io::Result<Self> {
        let port = if kind.is_floor() { 0 } else { free_port()? };
        let folder = std::env::temp_dir().join(format!(
            "nightjar-compare-{}-{}-{port}",
            std::process::id(),
            kind.name()
        ));
        std::fs::create_dir_all(&folder)?;
        let started = config::plan(kind, options, &folder, port).and_then(|mut plan| {
            let output = if kind.is_floor() {
                Stdio::piped()
            } else {
                Stdio::null()
            };
            plan.command
                .stdin(Stdio::null())
                .stdout(output)
                .stderr(Stdio::null());
            let child = plan
                .command
                .spawn()
                .map_err(|error| config::cannot_start(&plan.command, &error))?;
            Ok((plan, child))
        });
        let (plan, child) = started.inspect_err(|_| {
            // Best effort: an empty folder in /tmp harms nobody.
            let _removed = std::fs::remove_dir_all(&folder);
        })?;
        let local = |port| SocketAddr::from(([127, 0, 0, 1], port));
        let mut broker = Self {
            kind: kind.clone(),
            address: local(port),
            subscribers: local(plan.nodes.first().map_or(port, |(_, port)| *port)),
            other: plan.other,
            version: plan.version,
            pids: BTreeSet::new(),
            child,
            others: Vec::new(),
            folder,
            after: plan.after,
        };
        let mut nodes = plan.nodes;
        for (command, _) in &mut nodes {
            command
                .stdin(Stdio::null())
                .stdout(Stdio::null())
                .stderr(Stdio::null());
            broker.others.push(command.spawn()?);
        }
        broker.wait()?;
        for (_, port) in &nodes {
            broker.wait_for(local(*port))?;
        }
        if kind.is_floor() {
            broker.subscribers = broker.address;
        }
        if *kind == Kind::Relay {
            // It tells by the first bytes what is spoken.
            broker.other.ws = Some(broker.address.port());
        }
        broker.pids = process::tree(broker.child.id())?;
        broker.pids.extend(broker.others.iter().map(Child::id));
        Ok(broker)
    }

    /// Where it takes connections of a transport.
    pub fn port(&self, transport: Transport) -> Option<u16> {
        match transport {
            Transport::Tcp => Some(self.address.port()),
            Transport::Tls => self.other.tls,
            Transport::Ws => self.other.ws,
        }
    }

    fn wait(&mut self) -> io::Result<()> {
        if self.kind.is_floor() {
            let mut line = String::new();
            let out = self
                .child
                .stdout
                .take()
                .ok_or_else(|| io::Error::other("the floor has no stdout"))?;
            BufReader::new(out).read_line(&mut line)?;
            self.address
                .set_port(line.trim().parse().map_err(io::Error::other)?);
            return Ok(());
        }
        self.wait_for(self.address)
    }

    fn wait_for(&mut self, address: SocketAddr) -> io::Result<()> {
        let begin = Instant::now();
        loop {
            match accepts_connect(address) {
                Ok(()) => return Ok(()),
                Err(error) if begin.elapsed() > START => return Err(error),
                Err(_) => {}
            }
            if let Some(status) = self.child.try_wait()? {
                return Err(io::Error::other(format!(
                    "{} {AT_START}: {status}",
                    self.kind.name()
                )));
            }
            pause(Duration::from_millis(50));
        }
    }
}

fn accepts_connect(address: SocketAddr) -> io::Result<()> {
    let mut stream = TcpStream::connect(address)?;
    stream.set_read_timeout(Some(Duration::from_secs(2)))?;
    stream.write_all(&packet::connect("compare-probe"))?;
    let mut answer = [0; 4];
    stream.read_exact(&mut answer)?;
    stream.write_all(&packet::DISCONNECT)?;
    if answer == [packet::CONNACK << 4, 2, 0, 0] {
        Ok(())
    } else {
        Err(io::Error::other(format!(
            "CONNECT was answered with {answer:?}"
        )))
    }
}

impl Drop for Broker {
    fn drop(&mut self) {
        let pids = process::tree(self.child.id()).unwrap_or_default();
        for child in &self.others {
            signal(child.id(), Signal::TERM);
        }
        // Politely first: RabbitMQ's start script ends the node it started. Errors mean that a process is gone already.
        signal(self.child.id(), Signal::TERM);
        let begin = Instant::now();
        while begin.elapsed() < STOP && matches!(self.child.try_wait(), Ok(None)) {
            pause(Duration::from_millis(20));
        }
        let _killed = self.child.kill();
        for pid in pids.into_iter().filter(|pid| *pid != self.child.id()) {
            signal(pid, Signal::KILL);
        }
        let _status = self.child.wait();
        for mut child in self.others.drain(..) {
            while begin.elapsed() < STOP && matches!(child.try_wait(), Ok(None)) {
                pause(Duration::from_millis(20));
            }
            let _killed = child.kill();
            let _status = child.wait();
        }
        if let Some(after) = &mut self.after {
            let _status = after
                .stdin(Stdio::null())
                .stdout(Stdio::null())
                .stderr(Stdio::null())
                .status();
        }
        let _removed = std::fs::remove_dir_all(&self.folder);
    }
}

fn signal(pid: u32, signal: Signal) {
    if let Some(pid) = i32::try_from(pid).ok().and_then(Pid::from_raw) {
        let _sent = kill_process(pid, signal);
    }
}

/// A port nobody listens on now.
fn free_port() -> io::Result<u16> {
    Ok(TcpListener::bind(("127.0.0.1", 0))?.local_addr()?.port())
}

/// Sleeps; this program is a plain thread, no runtime's worker.
#[allow(clippy::disallowed_methods)]
pub fn pause(time: Duration) {
    std::thread::sleep(time);
}
