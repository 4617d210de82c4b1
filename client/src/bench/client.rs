//! One client of a bench: a small task that holds a socket and counters, and no buffer while idle.
//!
//! Reading, encoding and stamping happen in buffers shared by all clients of a thread; a client owns
//! bytes only while a packet is half read or the socket takes no more. That keeps an idle client near
//! a kilobyte.

use std::cell::RefCell;
use std::future::poll_fn;
use std::io;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use nightjar_mqtt::packet::{
    AckKind, Connect, ConnectProperties, Disconnect, Subscribe, SubscribeProperties, Subscription,
    SubscriptionOptions, encode_ack, encode_pingreq,
};
use nightjar_mqtt::{DecodeError, Decoded, Decoder, Packet, ReasonCode};
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt, ReadBuf};
use tokio::sync::OwnedSemaphorePermit;
use tokio::time::{Instant, Sleep, sleep_until, timeout};

use crate::bench::plan::{Phase, Role, Run, Worker};
use crate::bench::publisher::{Next, Publisher, Round};
use crate::bench::subscriber::{Receive, Subscriber};
use crate::transport::Transport;

/// From the first SYN to the last SUBACK.
const START_TIMEOUT: Duration = Duration::from_secs(30);
/// For the DISCONNECT and the end of TLS or WebSocket.
const STOP_TIMEOUT: Duration = Duration::from_secs(3);
/// Bytes read at once.
const READ: usize = 64 * 1024;
/// Bytes of packets made before they are written.
const WRITE: usize = 32 * 1024;
/// Unsent bytes of acknowledgements after which nothing more is read.
const UNSENT: usize = 64 * 1024;
/// Publishers without QoS 1 or 2 window of their own have at most this many in flight.
const MAX_WINDOW: u16 = 4096;
/// Timers fire at most this often.
const NEVER: u64 = u64::MAX;

struct Scratch {
    read: Vec<u8>,
    write: Vec<u8>,
    payload: Vec<u8>,
}

thread_local! {
    static SCRATCH: RefCell<Scratch> = const {
        RefCell::new(Scratch { read: Vec::new(), write: Vec::new(), payload: Vec::new() })
    };
}

/// Runs one client from its connect to the end of the run. The permit is given back once it is
/// connected.
pub async fn run(
    run: Arc<Run>,
    worker: Arc<Worker>,
    number: u32,
    permit: Option<OwnedSemaphorePermit>,
) {
    let stats = &worker.stats;
    let started = run.clock.now();
    let role = run.plan.role(number);
    // Boxed: the handshakes are far larger than what remains afterwards.
    let start = Box::pin(Client::start(&run, &worker, number, role));
    let client = match timeout(START_TIMEOUT, start).await {
        Ok(Ok(client)) => Some(client),
        Ok(Err(error)) => {
            stats.error(error);
            None
        }
        Err(_) => {
            stats.error(format!("no connection within {START_TIMEOUT:?}"));
            None
        }
    };
    drop(permit);
    let Some(mut client) = client else {
        stats.connect_failed.add(1);
        stats.settled.add(1);
        return;
    };
    stats
        .connect_latency
        .record(client.connected_at.saturating_sub(started));
    stats.settled.add(1);
    let mut sleep = pin!(sleep_until(Instant::now()));
    if let Err(error) = poll_fn(|cx| client.poll(cx, sleep.as_mut())).await {
        stats.disconnected.add(1);
        stats.error(error);
        stats.ended.add(1);
        return;
    }
    let _ = timeout(STOP_TIMEOUT, Box::pin(client.stop())).await;
    stats.ended.add(1);
}

/// An answer the start waits for.
#[derive(Debug)]
enum Answer {
    Connack {
        reason: ReasonCode,
        receive_maximum: u16,
        keep_alive: Option<u16>,
    },
    Suback(Vec<ReasonCode>),
}

struct Client {
    run: Arc<Run>,
    worker: Arc<Worker>,
    transport: Transport,
    /// Start of a packet whose rest has not come.
    unread: Vec<u8>,
    /// What the socket did not take.
    unsent: Vec<u8>,
    /// The transport holds bytes of its own.
    unflushed: bool,
    connected_at: u64,
    state: State,
}

/// All but the bytes.
struct State {
    decoder: Decoder,
    publisher: Option<Box<Publisher>>,
    subscriber: Option<Box<Subscriber>>,
    answer: Option<Answer>,
    keep_alive: u64,
    last_sent: u64,
    pinged: bool,
    /// The phase in which the waker was left with the worker.
    registered: Option<Phase>,
}

type Result<T> = std::result::Result<T, String>;

impl Client {
    async fn start(run: &Arc<Run>, worker: &Arc<Worker>, number: u32, role: Role) -> Result<Self> {
        let plan = &run.plan;
        let (dialer, address) = plan.target(number);
        let transport = dialer
            .dial_address(address, plan.source(number))
            .await
            .map_err(|error| error.to_string())?;
        let mut client = Self {
            run: Arc::clone(run),
            worker: Arc::clone(worker),
            transport,
            unread: Vec::new(),
            unsent: Vec::new(),
            unflushed: false,
            connected_at: 0,
            state: State {
                decoder: Decoder::client(plan.version, u32::MAX),
                publisher: None,
                subscriber: None,
                answer: None,
                keep_alive: 0,
                last_sent: run.clock.now(),
                pinged: false,
                registered: None,
            },
        };
        let receive_maximum = client.connect(&role).await?;
        if let Some((index, topics)) = role.publish {
            let window = plan
                .publish
                .as_ref()
                .map_or(0, |publish| publish.inflight(MAX_WINDOW));
            let publisher = Publisher::new(index, topics, window.min(receive_maximum));
            client.state.publisher = Some(Box::new(publisher));
        }
        if !role.subscribe.is_empty() {
            client.subscribe(&role.subscribe).await?;
            if let Some(flow) = role.receives {
                run.flows[flow as usize]
                    .ready
                    .store(true, Ordering::Release);
            }
        }
        Ok(client)
    }

    /// CONNECT and CONNACK; returns the broker's receive maximum.
    async fn connect(&mut self, role: &Role) -> Result<u16> {
        let plan = &self.run.plan;
        let mut connect = Connect::new(plan.version, &role.client_id);
        connect.clean_start = plan.clean;
        connect.keep_alive = plan.keep_alive;
        connect.username = role.username.as_deref();
        connect.password = plan.password.as_deref().map(str::as_bytes);
        connect.properties = ConnectProperties {
            session_expiry_interval: (plan.expiry > 0).then_some(plan.expiry),
            ..ConnectProperties::default()
        };
        let packet = Packet::Connect(Box::new(connect));
        packet
            .encode(plan.version, &mut self.unsent)
            .map_err(|error| error.to_string())?;
        match self.answer().await? {
            Answer::Connack {
                reason,
                receive_maximum,
                keep_alive,
            } => {
                if reason.is_error() {
                    return Err(format!("refused: {reason}"));
                }
                let seconds = keep_alive.unwrap_or(self.run.plan.keep_alive);
                self.state.keep_alive = u64::from(seconds) * 1_000_000_000;
                self.connected_at = self.run.clock.now();
                self.worker.stats.connected.add(1);
                Ok(receive_maximum)
            }
            Answer::Suback(_) => Err("SUBACK before CONNACK".to_owned()),
        }
    }

    async fn subscribe(&mut self, filters: &[String]) -> Result<()> {
        let plan = &self.run.plan;
        let options = SubscriptionOptions {
            qos: plan.subscribe_qos,
            ..SubscriptionOptions::default()
        };
        let packet = Packet::Subscribe(Subscribe {
            packet_id: 1,
            subscriptions: filters
                .iter()
                .map(|filter| Subscription { filter, options })
                .collect(),
            properties: SubscribeProperties::default(),
        });
        packet
            .encode(plan.version, &mut self.unsent)
            .map_err(|error| error.to_string())?;
        let gaps = !filters.iter().any(|filter| filter.starts_with("$share/"));
        // Before SUBACK: retained messages may come ahead of it.
        self.state.subscriber = Some(Box::new(Subscriber::new(gaps)));
        let Answer::Suback(reasons) = self.answer().await? else {
            return Err("CONNACK came twice".to_owned());
        };
        let stats = &self.worker.stats;
        let refused = reasons.iter().filter(|reason| reason.is_error()).count();
        stats.subscribe_refused.add(refused as u64);
        stats.subscribed.add((reasons.len() - refused) as u64);
        match reasons.iter().find(|reason| reason.is_error()) {
            Some(reason) => Err(format!("subscription refused: {reason}")),
            None => Ok(()),
        }
    }

    /// Writes and reads until an answer of the start is there.
    async fn answer(&mut self) -> Result<Answer> {
        poll_fn(|cx| {
            SCRATCH.with_borrow_mut(|scratch| {
                loop {
                    if let Some(answer) = self.state.answer.take() {
                        return Poll::Ready(Ok(answer));
                    }
                    scratch.write.clear();
                    if !self.poll_round(cx, scratch)? {
                        return Poll::Pending;
                    }
                }
            })
        })
        .await
    }

    /// The steady state. Ready at the end of the run, or with the reason why the connection ended.
    fn poll(&mut self, cx: &mut Context<'_>, mut sleep: Pin<&mut Sleep>) -> Poll<Result<()>> {
        SCRATCH.with_borrow_mut(|scratch| {
            loop {
                let phase = self.run.phase();
                if phase == Phase::Stopping {
                    return Poll::Ready(Ok(()));
                }
                if self.state.registered != Some(phase) {
                    self.worker.register(cx.waker());
                    self.state.registered = Some(phase);
                    // The phase may have changed in between: look again.
                    continue;
                }
                scratch.write.clear();
                let (more, timer) = self.generate(cx, phase, scratch)?;
                if self.poll_round(cx, scratch)? || more {
                    // Other tasks of this thread get their turn through tokio's budget.
                    continue;
                }
                if timer == NEVER {
                    return Poll::Pending;
                }
                sleep.as_mut().reset(self.run.clock.instant(timer));
                ready!(sleep.as_mut().poll(cx));
            }
        })
    }

    /// Makes packets that are due. Returns whether there are more at once, and when to come back.
    fn generate(
        &mut self,
        cx: &mut Context<'_>,
        phase: Phase,
        scratch: &mut Scratch,
    ) -> Result<(bool, u64)> {
        let run = &self.run;
        let state = &mut self.state;
        if !self.unsent.is_empty() || self.unflushed {
            return Ok((false, NEVER));
        }
        let now = run.clock.now();
        let mut timer = NEVER;
        let mut more = false;
        if phase == Phase::Running
            && let (Some(publisher), Some(plan)) = (&mut state.publisher, &run.plan.publish)
            && let Some(flow) = run.flows.get(publisher.index() as usize)
            && (!run.plan.paired() || flow.ready.load(Ordering::Acquire))
        {
            if !publisher.is_started() {
                publisher.start(run.first_due(publisher.index(), now));
            }
            if scratch.payload.is_empty() {
                scratch.payload.clone_from(&run.plan.payload);
            }
            let next = publisher.round(&mut Round {
                plan,
                stats: &self.worker.stats,
                flow,
                fan: run.fan(),
                issued: &run.issued,
                now,
                payload: &mut scratch.payload,
                out: &mut scratch.write,
                room: WRITE,
                waker: cx.waker(),
            });
            match next {
                Next::More => more = true,
                Next::At(at) => timer = at,
                Next::Wait | Next::Done => {}
            }
        }
        if state.keep_alive > 0 {
            if now >= state.last_sent + state.keep_alive {
                if state.pinged {
                    return Err("no answer to PINGREQ".to_owned());
                }
                encode_pingreq(&mut scratch.write);
                state.pinged = true;
            } else {
                timer = timer.min(state.last_sent + state.keep_alive);
            }
        }
        Ok((more, timer))
    }

    /// Writes what is there, reads once, writes the answers. True where anything moved.
    fn poll_round(&mut self, cx: &mut Context<'_>, scratch: &mut Scratch) -> Result<bool> {
        let mut moved = self.poll_write(cx, scratch)?;
        if self.unsent.len() < UNSENT {
            moved |= self.poll_read(cx, scratch)?;
            moved |= self.poll_write(cx, scratch)?;
        }
        Ok(moved)
    }

    /// Writes `unsent`, then `scratch.write`; what the socket does not take becomes `unsent`.
    fn poll_write(&mut self, cx: &mut Context<'_>, scratch: &mut Scratch) -> Result<bool> {
        let mut moved = false;
        let mut transport = Pin::new(&mut self.transport);
        if !self.unsent.is_empty() {
            let written = write_all(transport.as_mut(), cx, &self.unsent)?;
            moved |= written > 0;
            self.unsent.drain(..written);
            if self.unsent.is_empty() {
                self.unsent = Vec::new();
            }
        }
        if !scratch.write.is_empty() {
            let mut written = 0;
            if self.unsent.is_empty() {
                written = write_all(transport.as_mut(), cx, &scratch.write)?;
                moved |= written > 0;
            }
            self.unsent.extend_from_slice(&scratch.write[written..]);
            scratch.write.clear();
        }
        if moved {
            self.state.last_sent = self.run.clock.now();
        }
        if moved || self.unflushed {
            self.unflushed = match transport.poll_flush(cx) {
                Poll::Ready(result) => {
                    result.map_err(|error| lost(&error))?;
                    false
                }
                Poll::Pending => true,
            };
        }
        Ok(moved)
    }

    /// Reads once and handles what came; answers go to `scratch.write`.
    fn poll_read(&mut self, cx: &mut Context<'_>, scratch: &mut Scratch) -> Result<bool> {
        let Scratch { read, write, .. } = scratch;
        let held = self.unread.len();
        if read.len() < held + READ {
            read.resize(held + READ, 0);
        }
        let mut buffer = ReadBuf::new(&mut read[held..held + READ]);
        match Pin::new(&mut self.transport).poll_read(cx, &mut buffer) {
            Poll::Pending => return Ok(false),
            Poll::Ready(Err(error)) => return Err(lost(&error)),
            Poll::Ready(Ok(())) => {}
        }
        let count = buffer.filled().len();
        if count == 0 {
            return Err("connection closed by the broker".to_owned());
        }
        read[..held].copy_from_slice(&self.unread);
        let bytes = &read[..held + count];
        let used = self.state.handle(&self.run, &self.worker, bytes, write)?;
        let rest = &bytes[used..];
        if rest.is_empty() {
            self.unread = Vec::new();
        } else {
            self.unread.clear();
            self.unread.extend_from_slice(rest);
        }
        Ok(true)
    }

    /// DISCONNECT and the end of the transport.
    async fn stop(mut self) -> io::Result<()> {
        let packet = Packet::Disconnect(Disconnect::new(ReasonCode::NORMAL_DISCONNECTION));
        if packet
            .encode(self.run.plan.version, &mut self.unsent)
            .is_ok()
        {
            self.transport.write_all(&self.unsent).await?;
            self.transport.flush().await?;
        }
        self.transport.shutdown().await
    }
}

/// Writes until the transport takes no more; how much it took.
fn write_all(
    mut transport: Pin<&mut Transport>,
    cx: &mut Context<'_>,
    bytes: &[u8],
) -> Result<usize> {
    let mut written = 0;
    while written < bytes.len() {
        match transport.as_mut().poll_write(cx, &bytes[written..]) {
            Poll::Pending => break,
            Poll::Ready(Ok(0)) => return Err("connection closed by the broker".to_owned()),
            Poll::Ready(Ok(count)) => written += count,
            Poll::Ready(Err(error)) => return Err(lost(&error)),
        }
    }
    Ok(written)
}

fn lost(error: &io::Error) -> String {
    format!("connection lost: {error}")
}

fn malformed(error: DecodeError) -> String {
    format!("malformed packet from the broker: {error}")
}

impl State {
    /// Handles every whole packet; returns how many bytes that were.
    fn handle(
        &mut self,
        run: &Run,
        worker: &Worker,
        bytes: &[u8],
        out: &mut Vec<u8>,
    ) -> Result<usize> {
        let receive = Receive {
            stats: &worker.stats,
            flows: run.flows_for_credit(),
            since: run.since(),
            now: run.clock.now(),
        };
        let mut used = 0;
        while let Decoded::Packet { packet, consumed } =
            self.decoder.decode(&bytes[used..]).map_err(malformed)?
        {
            self.packet(run, &receive, packet, out)?;
            used += consumed;
        }
        if let Some(subscriber) = &mut self.subscriber {
            subscriber.settle(receive.flows);
        }
        Ok(used)
    }

    fn packet(
        &mut self,
        run: &Run,
        receive: &Receive<'_>,
        packet: Packet<'_>,
        out: &mut Vec<u8>,
    ) -> Result<()> {
        let version = run.plan.version;
        let ack =
            |out: &mut Vec<u8>, kind, id| encode_ack(out, kind, version, id, ReasonCode::Success);
        match packet {
            Packet::Publish(publish) => {
                if let Some(subscriber) = &mut self.subscriber {
                    subscriber.receive(&publish, receive);
                }
                match (publish.qos.bits(), publish.packet_id) {
                    (1, Some(id)) => ack(out, AckKind::Puback, id),
                    (2, Some(id)) => ack(out, AckKind::Pubrec, id),
                    _ => {}
                }
            }
            Packet::Puback(puback) => self.acknowledged(receive, puback.packet_id, puback.reason),
            Packet::Pubrec(pubrec) if pubrec.reason.is_error() => {
                self.acknowledged(receive, pubrec.packet_id, pubrec.reason);
            }
            Packet::Pubrec(pubrec) => ack(out, AckKind::Pubrel, pubrec.packet_id),
            Packet::Pubcomp(pubcomp) => {
                self.acknowledged(receive, pubcomp.packet_id, pubcomp.reason)
            }
            Packet::Pubrel(pubrel) => ack(out, AckKind::Pubcomp, pubrel.packet_id),
            Packet::Pingresp => self.pinged = false,
            Packet::Connack(connack) => {
                self.answer = Some(Answer::Connack {
                    reason: connack.reason,
                    receive_maximum: connack.properties.receive_maximum.unwrap_or(u16::MAX),
                    keep_alive: connack.properties.server_keep_alive,
                });
            }
            Packet::Suback(suback) => self.answer = Some(Answer::Suback(suback.reasons)),
            Packet::Disconnect(disconnect) => {
                return Err(format!("disconnected by the broker: {}", disconnect.reason));
            }
            other => {
                return Err(format!(
                    "unexpected {} from the broker",
                    other.packet_type()
                ));
            }
        }
        Ok(())
    }

    fn acknowledged(&mut self, receive: &Receive<'_>, packet_id: u16, reason: ReasonCode) {
        let sent = self
            .publisher
            .as_mut()
            .and_then(|publisher| publisher.acknowledge(packet_id));
        let Some(sent) = sent else {
            receive
                .stats
                .error("acknowledgement of a message that is not in flight".to_owned());
            return;
        };
        if reason.is_error() {
            receive.stats.refused.add(1);
            receive.stats.error(format!("publish refused: {reason}"));
            return;
        }
        receive.stats.acknowledged.add(1);
        if receive.stats.is_recording() {
            receive
                .stats
                .ack_latency
                .record(receive.now.saturating_sub(sent));
        }
    }
}
