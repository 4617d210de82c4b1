//! The sockets' tasks: one for each socket, each with the shard of clients that it heard first.

use std::io::{self, IoSliceMut};
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use nightjar_broker::{Broker, Counter, Timestamp};
use nightjar_mqttsn::{Advertise, Frame, Message};
use parking_lot::Mutex;
use quinn_udp::{RecvMeta, Transmit, UdpSocketState};
use tokio::io::Interest;
use tokio::net::UdpSocket;
use tokio::sync::watch;
use tokio::task::JoinHandle;

use super::counters::Counted;
use super::gateway::{Gateway, Turn};
use super::path::Path;
use super::relay::Relay;
use super::settings::Settings;
use super::socket::{SocketSettings, bind, groups, kernel_drops};
use crate::error::GatewayError;
use crate::workers::Workers;

/// Datagrams taken in one system call, where the system can.
const BATCH: usize = 32;
/// Bytes for each: the largest datagram, or many small ones that the kernel joined.
const BUFFER: usize = 65_536;
/// So often it is looked whether other nodes were asked in vain.
const RELAY_LOOK: Duration = Duration::from_millis(250);
/// Reads of one socket before its timers and other tasks have their turn.
const TURNS: usize = 16;
/// A listener that is stopped waits so long for what its clients have begun.
const DRAIN: Duration = Duration::from_secs(10);

/// MQTT-SN listeners whose sockets are bound; datagrams wait in their buffers.
#[derive(Debug, Default)]
pub struct BoundSnListeners {
    listeners: Vec<Bound>,
}

#[derive(Debug)]
struct Bound {
    settings: Settings,
    place: SocketSettings,
    sockets: Vec<std::net::UdpSocket>,
    groups: Vec<(SocketAddr, std::net::UdpSocket)>,
    address: SocketAddr,
}

/// The MQTT-SN listeners of a node.
#[derive(Debug)]
pub struct SnListeners {
    workers: Workers,
    entries: Vec<Entry>,
}

#[derive(Debug)]
struct Entry {
    gateway: Arc<Gateway>,
    place: SocketSettings,
    address: SocketAddr,
    running: Mutex<Option<Running>>,
}

#[derive(Debug)]
struct Running {
    stage: watch::Sender<Stage>,
    tasks: Vec<JoinHandle<()>>,
}

/// What the tasks of a listener do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    Serving,
    /// Nothing is read any more; clients are told to go, and what they began comes to its end.
    Leaving,
    Stopped,
}

impl Running {
    async fn end(self) {
        self.stage.send_replace(Stage::Stopped);
        for task in self.tasks {
            // An error means that it was cancelled with its runtime, and so ended as well.
            let _ = task.await;
        }
    }
}

/// What [`SnListeners::status`] tells of one listener.
#[derive(Debug)]
pub struct SnListenerStatus {
    /// `mqttsn:default`.
    pub name: Arc<str>,
    /// Does it serve?
    pub running: bool,
    /// Where it is.
    pub address: SocketAddr,
    /// Its clients and counters.
    pub gateway: Arc<Gateway>,
}

impl SnListenerStatus {
    /// Datagrams that the kernel dropped before they were read.
    #[must_use]
    pub fn kernel_drops(&self) -> u64 {
        kernel_drops(self.address.port())
    }
}

impl SnListeners {
    /// Binds the sockets of all listeners, as many each as there are workers.
    ///
    /// # Errors
    /// The first that cannot be bound; nothing is bound then.
    pub fn bind(
        listeners: Vec<(Settings, SocketSettings)>,
        sockets: usize,
    ) -> Result<BoundSnListeners, GatewayError> {
        let mut bound = Vec::with_capacity(listeners.len());
        for (settings, place) in listeners {
            let sockets = bind(&place, sockets)?;
            let address = sockets[0].local_addr().unwrap_or(place.bind);
            bound.push(Bound {
                settings,
                groups: groups(&place),
                place,
                sockets,
                address,
            });
        }
        Ok(BoundSnListeners { listeners: bound })
    }

    /// All listeners.
    #[must_use]
    pub fn status(&self) -> Vec<SnListenerStatus> {
        let status = |entry: &Entry| SnListenerStatus {
            name: entry.gateway.settings().name.clone(),
            running: entry.running.lock().is_some(),
            address: entry.address,
            gateway: entry.gateway.clone(),
        };
        self.entries.iter().map(status).collect()
    }

    fn entry(&self, name: &str) -> Result<&Entry, GatewayError> {
        let mut entries = self.entries.iter();
        entries
            .find(|entry| *entry.gateway.settings().name == *name)
            .ok_or_else(|| GatewayError::UnknownListener(name.to_owned()))
    }

    /// Stops one: its connected clients get DISCONNECT and are lost only if they come back by no other way, those that
    /// sleep sleep on. The sockets are closed when this returns, 10 s after the call at the latest. One that is stopped stays so.
    ///
    /// # Errors
    /// [`GatewayError::UnknownListener`].
    pub async fn stop(&self, name: &str) -> Result<(), GatewayError> {
        let entry = self.entry(name)?;
        let running = entry.running.lock().take();
        let Some(mut running) = running else {
            return Ok(());
        };
        running.stage.send_replace(Stage::Leaving);
        let leaving = async {
            for task in &mut running.tasks {
                let _ = task.await;
            }
        };
        let done = tokio::time::timeout(DRAIN, leaving).await;
        if done.is_err() {
            tracing::warn!(
                listener = name,
                "clients were still busy after {DRAIN:?}; it is stopped all the same"
            );
            for task in &running.tasks {
                task.abort();
            }
        }
        tracing::info!(listener = name, "listener stopped");
        Ok(())
    }

    /// Starts a stopped one at its former address. Sleepers are known by their records.
    ///
    /// # Errors
    /// [`GatewayError::UnknownListener`], [`GatewayError::AlreadyRunning`], [`GatewayError::Bind`],
    /// [`GatewayError::Setting`].
    pub fn start(&self, name: &str) -> Result<SocketAddr, GatewayError> {
        let entry = self.entry(name)?;
        let mut running = entry.running.lock();
        if running.is_some() {
            return Err(GatewayError::AlreadyRunning(name.to_owned()));
        }
        let place = SocketSettings {
            bind: entry.address,
            ..entry.place.clone()
        };
        let sockets = bind(&place, entry.gateway.shards())?;
        let groups = groups(&place);
        *running = Some(serve(
            &self.workers,
            &entry.gateway,
            &place,
            sockets,
            groups,
        )?);
        tracing::info!(listener = name, "listener started");
        Ok(entry.address)
    }

    /// Takes what the gateways of another node sent.
    pub fn relayed(&self, node: u64, octets: &bytes::Bytes) {
        for entry in &self.entries {
            entry.gateway.relayed(node, octets.clone());
        }
    }

    /// Stops all: the sockets are closed when this returns.
    pub async fn stop_all(&self) {
        for entry in &self.entries {
            let running = entry.running.lock().take();
            if let Some(running) = running {
                running.end().await;
            }
        }
    }
}

impl BoundSnListeners {
    /// The actual addresses: `("mqttsn:default", 127.0.0.1:41884)`.
    #[must_use]
    pub fn addresses(&self) -> Vec<(Arc<str>, SocketAddr)> {
        let listeners = self.listeners.iter();
        listeners
            .map(|bound| (bound.settings.name.clone(), bound.address))
            .collect()
    }

    /// Begins to serve; in a cluster with a way to the gateways of other nodes.
    ///
    /// # Errors
    /// [`GatewayError::Setting`] if the system does not let a socket be used as it must be.
    pub fn start(
        self,
        workers: &Workers,
        broker: &Arc<Broker>,
        relay: Option<&Arc<dyn Relay>>,
    ) -> Result<SnListeners, GatewayError> {
        let mut entries = Vec::with_capacity(self.listeners.len());
        for bound in self.listeners {
            let gateway = Gateway::new(broker.clone(), bound.settings, bound.sockets.len());
            if let Some(relay) = relay {
                gateway.join(relay.clone());
            }
            let running = serve(workers, &gateway, &bound.place, bound.sockets, bound.groups)?;
            entries.push(Entry {
                gateway,
                place: bound.place,
                address: bound.address,
                running: Mutex::new(Some(running)),
            });
        }
        Ok(SnListeners {
            workers: workers.clone(),
            entries,
        })
    }
}

/// Starts the tasks of a listener, one for each socket.
fn serve(
    workers: &Workers,
    gateway: &Arc<Gateway>,
    place: &SocketSettings,
    sockets: Vec<std::net::UdpSocket>,
    groups: Vec<(SocketAddr, std::net::UdpSocket)>,
) -> Result<Running, GatewayError> {
    let _runtime = workers.handle().enter();
    let failed = |error: io::Error| GatewayError::Setting {
        key: format!("{}.bind", place.key),
        reason: format!("the system does not let the socket be used: {error}"),
    };
    let (stage, stages) = watch::channel(Stage::Serving);
    let mut all = Vec::with_capacity(sockets.len());
    for (shard, socket) in sockets.into_iter().enumerate() {
        let state = UdpSocketState::new((&socket).into()).map_err(failed)?;
        all.push(Arc::new(Worker {
            gateway: gateway.clone(),
            shard,
            socket: UdpSocket::from_std(socket).map_err(failed)?,
            state,
            place: place.clone(),
        }));
    }
    let mut heard = Vec::with_capacity(groups.len());
    for (group, socket) in groups {
        heard.push((group, UdpSocket::from_std(socket).map_err(failed)?));
    }
    let mut tasks = Vec::with_capacity(heard.len() + all.len());
    for (group, socket) in heard {
        // Answers leave from our address, which is what the client looks for.
        let worker = all[0].clone();
        tasks.push(workers.spawn(worker.hear(group, socket, stages.clone())));
    }
    for worker in all {
        tasks.push(workers.spawn(worker.run(stages.clone())));
    }
    Ok(Running { stage, tasks })
}

struct Worker {
    gateway: Arc<Gateway>,
    shard: usize,
    socket: UdpSocket,
    state: UdpSocketState,
    place: SocketSettings,
}

impl Worker {
    /// Serves a group: SEARCHGW, and nothing else.
    async fn hear(
        self: Arc<Self>,
        group: SocketAddr,
        socket: UdpSocket,
        mut stages: watch::Receiver<Stage>,
    ) {
        let mut buffer = vec![0; BUFFER];
        let mut turn = Turn::default();
        loop {
            let received = tokio::select! {
                _ = stages.wait_for(|stage| *stage != Stage::Serving) => return,
                received = socket.recv_from(&mut buffer) => received,
            };
            match received {
                Ok((len, peer)) => {
                    let from = Path::direct(peer, None);
                    let now = Timestamp::now();
                    let datagram = &buffer[..len];
                    self.gateway
                        .receive(now, self.shard, &mut turn, from, Some(group), datagram);
                    self.flush(&mut turn).await;
                }
                Err(error) => {
                    tracing::debug!(%group, "receive: {error}");
                    tokio::time::sleep(Duration::from_millis(100)).await;
                }
            }
        }
    }

    async fn run(self: Arc<Self>, mut stages: watch::Receiver<Stage>) {
        let mut buffers: Vec<Vec<u8>> = (0..BATCH).map(|_| vec![0; BUFFER]).collect();
        let mut turn = Turn::default();
        // The first is sent at once: who waits for a gateway has found one.
        let mut advertise = match self.place.advertise {
            Some(seconds) if self.shard == 0 && !self.place.groups.is_empty() => {
                let period = Duration::from_secs(u64::from(seconds.max(1)));
                Some(tokio::time::interval(period))
            }
            _ => None,
        };
        loop {
            let next = self.gateway.falls_asleep(self.shard);
            let wait = next.map(|at| Duration::from_millis(at.since(Timestamp::now())));
            let advertising = async {
                match &mut advertise {
                    Some(interval) => {
                        interval.tick().await;
                    }
                    None => std::future::pending().await,
                }
            };
            let timeout = async {
                match wait {
                    Some(wait) => tokio::time::sleep(wait).await,
                    None => std::future::pending().await,
                }
            };
            let asked = self.shard == 0 && self.gateway.awaits_others();
            let mut due = false;
            tokio::select! {
                _ = stages.wait_for(|stage| *stage != Stage::Serving) => break,
                readable = self.socket.readable() => {
                    if let Err(error) = readable {
                        tracing::error!(listener = &*self.gateway.settings().name, "socket failed: {error}");
                        return;
                    }
                    self.read(&mut buffers, &mut turn);
                }
                () = self.gateway.woken(self.shard) => {}
                () = timeout => due = true,
                (node, octets) = self.gateway.next_relayed(), if self.shard == 0 => {
                    self.gateway.take_relayed(Timestamp::now(), &mut turn, node, &octets);
                }
                () = tokio::time::sleep(RELAY_LOOK), if asked => {}
                () = advertising => self.advertise(),
            }
            self.gateway.awake(self.shard);
            let now = Timestamp::now();
            if due || next.is_some_and(|at| at <= now) {
                self.gateway.timeout(now, self.shard, &mut turn);
            }
            if asked {
                self.gateway.expire_relayed(now, &mut turn);
            }
            if self.gateway.is_woken(self.shard) {
                self.gateway.wake(now, self.shard, &mut turn);
            }
            self.flush(&mut turn).await;
        }
        self.gateway.awake(self.shard);
        while *stages.borrow() == Stage::Leaving {
            let now = Timestamp::now();
            let left = self.gateway.leave(now, self.shard, &mut turn);
            self.flush(&mut turn).await;
            if left {
                return;
            }
            tokio::select! {
                _ = stages.wait_for(|stage| *stage == Stage::Stopped) => return,
                () = self.gateway.woken(self.shard) => {}
                () = tokio::time::sleep(Duration::from_millis(50)) => {}
            }
            self.gateway.wake(Timestamp::now(), self.shard, &mut turn);
        }
    }

    /// Reads what waits, up to a bound.
    fn read(&self, buffers: &mut [Vec<u8>], turn: &mut Turn) {
        let mut metas = [RecvMeta::default(); BATCH];
        for _ in 0..TURNS {
            let mut slices: Vec<IoSliceMut<'_>> =
                buffers.iter_mut().map(|it| IoSliceMut::new(it)).collect();
            let read = self.socket.try_io(Interest::READABLE, || {
                self.state
                    .recv((&self.socket).into(), &mut slices, &mut metas)
            });
            let count = match read {
                Ok(count) => count,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return,
                Err(error) => {
                    tracing::debug!(
                        listener = &*self.gateway.settings().name,
                        "receive: {error}"
                    );
                    return;
                }
            };
            let now = Timestamp::now();
            let metrics = self.gateway.broker().metrics();
            for (meta, buffer) in metas.iter().zip(buffers.iter()).take(count) {
                metrics.add(Counter::BytesReceived, meta.len as u64);
                let bytes = &buffer[..meta.len.min(buffer.len())];
                // What goes to a group comes by the group's own socket.
                if meta.dst_ip.is_some_and(|to| self.is_group(to)) {
                    continue;
                }
                // The kernel joins datagrams of one sender that have one size.
                for datagram in bytes.chunks(meta.stride.max(1)) {
                    let from = Path::direct(meta.addr, meta.dst_ip);
                    self.gateway
                        .receive(now, self.shard, turn, from, None, datagram);
                }
            }
            self.gateway.finish_read(turn);
            self.send(turn);
            if count < BATCH {
                return;
            }
        }
    }

    fn is_group(&self, to: IpAddr) -> bool {
        to.is_multicast()
            || to == IpAddr::V4(std::net::Ipv4Addr::BROADCAST)
            || self.place.groups.iter().any(|group| group.ip() == to)
    }

    async fn flush(&self, turn: &mut Turn) {
        self.gateway.finish(turn);
        if turn.output().is_empty() {
            return;
        }
        self.send(turn);
        // A long flush must not keep the runtime's other tasks waiting.
        tokio::task::yield_now().await;
    }

    /// Sends the output. What the system does not take is lost, as it would be on the way; the exchange repeats it.
    fn send(&self, turn: &mut Turn) {
        let counters = self.gateway.counters();
        let mut octets = 0;
        for (path, datagram) in turn.output().iter() {
            if let Some(node) = path.via {
                if !self.gateway.send_via(node, path, datagram) {
                    counters.count(Counted::RelayDropped);
                }
                continue;
            }
            let transmit = Transmit {
                destination: path.peer,
                ecn: None,
                contents: datagram,
                segment_size: None,
                src_ip: path.local,
            };
            let sent = self.state.try_send((&self.socket).into(), &transmit);
            match sent {
                Ok(()) => octets += datagram.len() as u64,
                Err(error) => {
                    counters.count(Counted::SendErrors);
                    tracing::debug!(peer = %path.peer, "send: {error}");
                }
            }
        }
        counters.add(Counted::SentBytes, octets);
        let metrics = self.gateway.broker().metrics();
        metrics.add(Counter::BytesSent, octets);
        turn.output().clear();
    }

    /// ADVERTISE to each group (section 6.1).
    fn advertise(&self) {
        let message = Message::Advertise(Advertise {
            gw_id: self.gateway.settings().gateway_id,
            duration: self.place.advertise.unwrap_or_default(),
        });
        let mut datagram = Vec::new();
        if Frame::from(message).encode(&mut datagram).is_err() {
            return;
        }
        for group in &self.place.groups {
            let transmit = Transmit {
                destination: *group,
                ecn: None,
                contents: &datagram,
                segment_size: None,
                src_ip: None,
            };
            match self.state.try_send((&self.socket).into(), &transmit) {
                Ok(()) => self.gateway.counters().count(Counted::Advertises),
                Err(error) => {
                    self.gateway.counters().count(Counted::SendErrors);
                    tracing::debug!(%group, "ADVERTISE: {error}");
                }
            }
        }
    }
}
