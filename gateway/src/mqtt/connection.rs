//! A connected client: one task that reads, lets the session work, and writes.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::{Context, Poll};
use std::time::Duration;

use nightjar_broker::access::{BoxFuture, ClientInfo, Exchange, ExchangeStep};
use nightjar_broker::acl::AccessCache;
use nightjar_broker::limits::Allowance;
use nightjar_broker::observe::Event;
use nightjar_broker::settings::MqttSettings;
use nightjar_broker::shard::CloseKind;
use nightjar_broker::{
    AckPacket, Counter, Direction, MemoryLevel, PacketTally, Session, Signal, Timestamp,
    TopicCache, Transmit,
};
use nightjar_mqtt::packet::{Disconnect, DisconnectProperties};
use nightjar_mqtt::{Decoder, Packet, PacketType, ProtocolVersion, ReasonCode};
use tokio::time::{Instant, Sleep};

use super::ListenerMqtt;
use super::alias::Aliases;
use super::end::End;
use super::handshake::CLOSE_TIME;
use super::incoming::Waiting;
use super::input::Leftover;
use super::scratch::{WRITE_BYTES, with_read, with_write};
use crate::listener::ListenerRef;
use crate::transport::Transport;

/// Reads and writes in one poll before other tasks get their turn.
const TURNS: usize = 4;
/// Unsent bytes at which reading stops: only answers that wait for nothing can pile up there.
const OUTPUT_MAX: usize = 64 * 1024;

/// How often a publisher that waits for memory looks again.
const MEMORY_PAUSE: Duration = Duration::from_millis(250);

/// What CONNECT and CONNACK agreed on.
#[derive(Debug)]
pub struct Terms {
    pub version: ProtocolVersion,
    pub client_id: Arc<str>,
    pub info: Arc<ClientInfo>,
    /// Silence after which the client is gone: keep alive times the multiplier; zero is never.
    pub keep_alive: Duration,
    /// The client's Maximum Packet Size.
    pub max_packet_out: u32,
    /// The client's Topic Alias Maximum.
    pub alias_max_out: u16,
    /// The client's Request Problem Information.
    pub problem_information: bool,
    /// Session Expiry Interval in force.
    pub expiry: u32,
    /// Authentication Method of CONNECT.
    pub auth_method: Option<Box<str>>,
    /// Prefix of all its topics.
    pub mountpoint: Option<Arc<str>>,
    pub acl: AccessCache,
    pub settings: Arc<MqttSettings>,
    /// Rates of what it sends; `None` where nothing limits it.
    pub throttle: Option<Box<Throttle>>,
}

/// What a client may send, and until when its reading pauses because it sent more.
#[derive(Debug)]
pub struct Throttle {
    allowance: Box<Allowance>,
    until: Option<Instant>,
}

impl Throttle {
    /// Nothing was sent yet.
    pub fn new(allowance: Box<Allowance>) -> Box<Self> {
        Box::new(Self {
            allowance,
            until: None,
        })
    }

    /// Counts what was received; true if a pause begins.
    pub fn charge(&mut self, messages: u64, bytes: u64) -> bool {
        let now = Instant::now();
        let wait = self.allowance.charge(messages, bytes, now.into_std());
        self.until = wait.map(|wait| now + wait);
        wait.is_some()
    }

    fn ends(&self) -> Option<Instant> {
        self.until.filter(|until| *until > Instant::now())
    }
}

/// An exchange of AUTH packets in a live connection.
pub enum Reauthentication {
    /// It waits for the client's next AUTH.
    Exchange(Box<dyn Exchange>),
    /// A step of it is under way.
    Step(BoxFuture<'static, (ExchangeStep, Box<dyn Exchange>)>),
}

/// A connected client.
pub struct Connection {
    pub(super) transport: Transport,
    pub(super) session: Session,
    pub(super) terms: Box<Terms>,
    pub(super) topics: TopicCache,
    pub(super) aliases: Option<Box<Aliases>>,
    pub(super) waiting: Option<Box<Waiting>>,
    pub(super) reauthentication: Option<Box<Reauthentication>>,
    pub(super) input: Leftover,
    /// Bytes the socket did not take yet.
    pub(super) output: Vec<u8>,
    pub(super) tolerated: bool,
    flush: bool,
    last_received: Instant,
    timer: Option<Pin<Box<Sleep>>>,
    _listener: ListenerRef<ListenerMqtt>,
}

impl Connection {
    /// The connection of a session just opened; `output` holds CONNACK, `rest` what came behind CONNECT.
    pub fn new(
        transport: Transport,
        listener: ListenerRef<ListenerMqtt>,
        session: Session,
        terms: Terms,
        output: Vec<u8>,
        rest: Vec<u8>,
    ) -> Self {
        Self {
            transport,
            session,
            terms: Box::new(terms),
            topics: TopicCache::default(),
            aliases: None,
            waiting: None,
            reauthentication: None,
            input: Leftover::behind_connect(rest),
            output,
            tolerated: false,
            flush: false,
            last_received: Instant::now(),
            timer: None,
            _listener: listener,
        }
    }

    /// Serves the client to its end.
    pub async fn run(mut self: Box<Self>) {
        let end = std::future::poll_fn(|cx| self.poll(cx)).await;
        // Boxed: this part is short, the part above long.
        Box::pin(self.finish(end)).await;
    }

    async fn finish(mut self: Box<Self>, end: End) {
        let broker = self.session.broker();
        broker.metrics().count(end.counter);
        let (id, now) = (&self.terms.client_id, Timestamp::now());
        let code = end
            .tell
            .map_or_else(String::new, |code| format!(" (0x{:02X})", code.code()));
        broker.journal().record(
            id,
            Event::Disconnected,
            format_args!("{}{code}", end.why),
            now,
        );
        if broker.tracer().is_active() {
            let peer = Some(self.terms.info.peer);
            let text = format_args!("connection ended: {}{code}", end.why);
            broker.tracer().line(id, peer, None, text, now);
        }
        tracing::debug!(
            client_id = &*self.terms.client_id,
            peer = %self.terms.info.peer,
            code = end.tell.map(|code| format!("0x{:02X}", code.code())),
            "connection ended: {}",
            end.why
        );
        let ticket = self.session.close(end.kind, end.expiry, Timestamp::now());
        drop(ticket); // The close is committed with or without this connection.
        if end.broken {
            return; // TLS must not be spoken to after its own fatal alert.
        }
        let mut output = std::mem::take(&mut self.output);
        if let Some(code) = end.tell
            && self.terms.version.is_v5()
        {
            self.encode_disconnect(code, &end.why, &mut output);
        }
        let mut transport = self.transport;
        let last = async {
            let mut at = 0;
            while at < output.len() {
                at += std::future::poll_fn(|cx| transport.poll_write(cx, &output[at..])).await?;
            }
            std::future::poll_fn(|cx| transport.poll_flush(cx)).await?;
            if end.tell.is_none() && matches!(transport, Transport::Tcp(_)) {
                // The client is through: closing the socket right below says the same with one system call less. Of a client
                // that is turned out there may be more to read, and then closing alone would be a reset.
                return Ok(());
            }
            transport.shutdown().await
        };
        let _ = tokio::time::timeout(CLOSE_TIME, last).await;
    }

    /// Appends DISCONNECT; without a reason string if the client takes no packet that large [MQTT-3.14.2-3].
    fn encode_disconnect(&self, code: ReasonCode, why: &str, output: &mut Vec<u8>) {
        let reference = self.session.broker().server_reference(code);
        for reason_string in [self.terms.problem_information.then_some(why), None] {
            let properties = DisconnectProperties {
                reason_string,
                server_reference: reference.as_deref(),
                ..DisconnectProperties::default()
            };
            let disconnect = Packet::Disconnect(Disconnect {
                reason: code,
                properties,
            });
            let max = self.terms.max_packet_out as usize;
            if disconnect
                .encoded_len(self.terms.version)
                .is_ok_and(|len| len <= max)
                && disconnect.encode(self.terms.version, output).is_ok()
            {
                return;
            }
        }
    }

    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<End> {
        match self.step(cx) {
            Ok(()) => Poll::Pending,
            Err(end) => Poll::Ready(end),
        }
    }

    /// One poll: reads, works, writes, until nothing is left to do or others should have their turn.
    fn step(&mut self, cx: &mut Context<'_>) -> Result<(), End> {
        if let Some(signal) = self.session.take_signal() {
            return Err(by_signal(&signal, self.terms.settings.will_restart_grace));
        }
        let now = Timestamp::now();
        self.session.poll_stall(cx.waker());
        self.poll_timer(cx, now)?;
        let mut more = false;
        for turn in 0..TURNS {
            let was_paused = !self.may_read();
            let read = self.read(cx, now)?;
            let wrote = self.write(cx, now)?;
            // Acknowledgements that left may have ended a pause: nothing else would wake this task to read on.
            more = read || wrote || was_paused && self.may_read();
            if !more {
                break;
            }
            if turn + 1 == TURNS {
                cx.waker().wake_by_ref();
            }
        }
        if !more
            && (self.timer.is_none()
                || self.session.poll_timeout().is_some()
                || self.waits_for_memory()
                || self.throttled_until().is_some())
        {
            self.arm(cx, now);
        }
        Ok(())
    }

    /// May more be taken from the client now?
    fn may_read(&self) -> bool {
        self.waiting.is_none()
            && !self.is_stepping()
            && !self.session.is_paused()
            && self.output.len() < OUTPUT_MAX
            && !self.waits_for_memory()
            && self.throttled_until().is_none()
    }

    /// Is a step of a re-authentication under way?
    pub(super) fn is_stepping(&self) -> bool {
        matches!(
            self.reauthentication.as_deref(),
            Some(Reauthentication::Step(_))
        )
    }

    /// The end of the pause that its rates ask for, if there is one now.
    pub(super) fn throttled_until(&self) -> Option<Instant> {
        self.terms.throttle.as_ref()?.ends()
    }

    /// Memory is critical and this client publishes.
    fn waits_for_memory(&self) -> bool {
        !self.topics.is_empty() && self.session.broker().memory() == MemoryLevel::Critical
    }

    /// Reads once and handles what came. True if there may be more.
    fn read(&mut self, cx: &mut Context<'_>, now: Timestamp) -> Result<bool, End> {
        self.poll_waiting(cx, now)?;
        if self.input.is_paused() && self.may_read() {
            self.take_leftover(now)?;
        }
        if !self.may_read() {
            // Paused for others' sake: the keep alive clock stands still.
            self.last_received = Instant::now();
            return Ok(false);
        }
        with_read(|scratch| {
            let n = match self.transport.poll_read(cx, scratch) {
                Poll::Pending => return Ok(false),
                Poll::Ready(Ok(0)) => {
                    return Err(End::abrupt("closed by the client without DISCONNECT"));
                }
                Poll::Ready(Err(error)) => return Err(End::broken(&error)),
                Poll::Ready(Ok(n)) => n,
            };
            self.last_received = Instant::now();
            self.session
                .broker()
                .metrics()
                .add(Counter::BytesReceived, n as u64);
            self.session
                .handle()
                .counts
                .bytes_received
                .fetch_add(n as u64, Ordering::Relaxed);
            self.take(&scratch[..n], now)?;
            Ok(true)
        })
    }

    fn take_leftover(&mut self, now: Timestamp) -> Result<(), End> {
        let buffer = self.input.take();
        let consumed = self.process(&buffer, now)?;
        let paused = !self.may_read();
        self.input.put_back(buffer, consumed, paused);
        Ok(())
    }

    fn take(&mut self, bytes: &[u8], now: Timestamp) -> Result<(), End> {
        if self.input.is_empty() {
            let consumed = self.process(bytes, now)?;
            let paused = !self.may_read();
            self.input.keep_rest(&bytes[consumed..], paused);
            return Ok(());
        }
        let mut buffer = self.input.take();
        buffer.extend_from_slice(bytes);
        let consumed = self.process(&buffer, now)?;
        let paused = !self.may_read();
        self.input.put_back(buffer, consumed, paused);
        Ok(())
    }

    /// Writes what is left over, then what the session has. True if there may be more.
    fn write(&mut self, cx: &mut Context<'_>, now: Timestamp) -> Result<bool, End> {
        if !self.output.is_empty() {
            let mut output = std::mem::take(&mut self.output);
            let result = self.send(cx, &output);
            let sent = result?;
            output.drain(..sent);
            if !output.is_empty() {
                output.append(&mut self.output);
                self.output = output;
                return Ok(false);
            }
        }
        let more = with_write(|buffer| -> Result<bool, End> {
            let more = self.fill(cx, buffer, now)?;
            if !buffer.is_empty() {
                let sent = self.send(cx, buffer)?;
                if sent < buffer.len() {
                    self.output.extend_from_slice(&buffer[sent..]);
                    return Ok(false);
                }
            }
            Ok(more)
        })?;
        if self.session.has_unsubmitted() {
            // A message that could not be sent counts as acknowledged: its record goes.
            self.session.finish_batch(&mut Session::new_batch(), now);
        }
        if self.flush {
            match self.transport.poll_flush(cx) {
                Poll::Ready(Ok(())) => self.flush = false,
                Poll::Ready(Err(error)) => return Err(End::broken(&error)),
                Poll::Pending => {}
            }
        }
        Ok(more)
    }

    fn send(&mut self, cx: &mut Context<'_>, bytes: &[u8]) -> Result<usize, End> {
        let mut at = 0;
        while at < bytes.len() {
            match self.transport.poll_write(cx, &bytes[at..]) {
                Poll::Pending => break,
                Poll::Ready(Ok(0)) => return Err(End::abrupt("the stream takes no more bytes")),
                Poll::Ready(Ok(n)) => at += n,
                Poll::Ready(Err(error)) => return Err(End::broken(&error)),
            }
        }
        self.flush |= at > 0 && !matches!(self.transport, Transport::Tcp(_));
        self.session
            .broker()
            .metrics()
            .add(Counter::BytesSent, at as u64);
        let counts = &self.session.handle().counts;
        counts.bytes_sent.fetch_add(at as u64, Ordering::Relaxed);
        Ok(at)
    }

    /// Fills a write buffer with all that may go to the client. True if it stopped because the buffer is full.
    fn fill(
        &mut self,
        cx: &mut Context<'_>,
        buffer: &mut Vec<u8>,
        now: Timestamp,
    ) -> Result<bool, End> {
        let mut packets = 0;
        let mut messages = 0;
        let mut tally = PacketTally::default();
        let traced = self.session.broker().tracer().is_active();
        let mut full = true;
        while buffer.len() < WRITE_BYTES {
            let Some(transmit) = self.session.next_transmit(now, cx.waker())? else {
                full = false;
                break;
            };
            tally.count(packet_type(&transmit));
            if let Transmit::Publish { delivery, .. } = &transmit
                && messages == 0
                && !delivery.retain
            {
                let waited = now.since(delivery.message.head().received_at);
                self.session.broker().latencies().delivery.observe(waited);
            }
            if traced {
                self.trace_sent(&transmit, now);
            }
            messages += u64::from(self.encode(transmit, buffer, now)?);
            packets += 1;
        }
        if packets > 0 {
            let metrics = self.session.broker().metrics();
            metrics.add(Counter::PacketsSent, packets);
            metrics.add(Counter::MessagesSent, messages);
            metrics.add_packets(Direction::Sent, &tally);
            let counts = &self.session.handle().counts;
            counts.packets_sent.fetch_add(packets, Ordering::Relaxed);
            if messages > 0 {
                counts.sent.fetch_add(messages, Ordering::Relaxed);
            }
        }
        Ok(full)
    }

    /// When this connection must look at the clock next.
    fn deadline(&self, now: Timestamp) -> Option<Instant> {
        let keep_alive =
            (!self.terms.keep_alive.is_zero()).then(|| self.last_received + self.terms.keep_alive);
        let session = self
            .session
            .poll_timeout()
            .map(|at| Instant::now() + Duration::from_millis(at.since(now)));
        let memory = self
            .waits_for_memory()
            .then(|| Instant::now() + MEMORY_PAUSE);
        // What it came with ends: a token's time.
        let grant = self.terms.info.expires_at;
        let grant = (grant != Timestamp::NEVER)
            .then(|| Instant::now().checked_add(Duration::from_millis(grant.since(now))))
            .flatten();
        let waits = [keep_alive, session, memory, grant, self.throttled_until()];
        waits.into_iter().flatten().min()
    }

    fn poll_timer(&mut self, cx: &mut Context<'_>, now: Timestamp) -> Result<(), End> {
        let Some(timer) = &mut self.timer else {
            return Ok(());
        };
        if timer.as_mut().poll(cx).is_pending() {
            return Ok(());
        }
        if self.terms.info.expires_at <= now {
            return Err(End::by_server(
                ReasonCode::MaximumConnectTime,
                Counter::DisconnectsExpired,
                "the token it came with has expired",
            ));
        }
        self.session.handle_timeout(now);
        let keep_alive = self.terms.keep_alive;
        if !keep_alive.is_zero() && self.may_read() && self.last_received.elapsed() >= keep_alive {
            return Err(End::by_server(
                ReasonCode::KeepAliveTimeout,
                Counter::DisconnectsKeepAlive,
                format!(
                    "nothing from the client for {} s [MQTT-3.1.2-22]",
                    keep_alive.as_secs_f32()
                ),
            ));
        }
        self.timer = None;
        self.arm(cx, now);
        Ok(())
    }

    /// Sets the timer for what is due next, unless it is set for something earlier.
    fn arm(&mut self, cx: &mut Context<'_>, now: Timestamp) {
        let Some(deadline) = self.deadline(now) else {
            return;
        };
        let timer = match &mut self.timer {
            Some(timer) if timer.deadline() <= deadline => return,
            Some(timer) => {
                timer.as_mut().reset(deadline);
                timer
            }
            None => self
                .timer
                .insert(Box::pin(tokio::time::sleep_until(deadline))),
        };
        if timer.as_mut().poll(cx).is_ready() {
            cx.waker().wake_by_ref();
        }
    }

    pub(super) fn decoder(&self) -> Decoder {
        let mut decoder =
            Decoder::server(self.terms.settings.max_packet_size).with_version(self.terms.version);
        decoder.lenient =
            self.terms.settings.leniency == nightjar_broker::settings::Leniency::Lenient;
        decoder
    }
}

const fn packet_type(transmit: &Transmit) -> PacketType {
    match transmit {
        Transmit::Publish { .. } => PacketType::Publish,
        Transmit::Suback { .. } => PacketType::Suback,
        Transmit::Unsuback { .. } => PacketType::Unsuback,
        Transmit::Ack { packet, .. } => match packet {
            AckPacket::Puback => PacketType::Puback,
            AckPacket::Pubrec => PacketType::Pubrec,
            AckPacket::Pubrel => PacketType::Pubrel,
            AckPacket::Pubcomp => PacketType::Pubcomp,
        },
    }
}

fn by_signal(signal: &Signal, will_restart_grace: u32) -> End {
    match signal {
        Signal::TakenOver => End::by_server(
            ReasonCode::SessionTakenOver,
            Counter::DisconnectsTakenOver,
            "another connection uses this client identifier",
        ),
        Signal::Close(code) => {
            let mut end = End::by_server(*code, Counter::DisconnectsServer, code.as_str());
            if matches!(
                code,
                ReasonCode::ServerShuttingDown
                    | ReasonCode::UseAnotherServer
                    | ReasonCode::ServerMoved
            ) {
                end.kind = CloseKind::Restart(will_restart_grace);
            }
            end
        }
    }
}

// An idle client's task is little more than this, and one byte more would take 128 of the allocator.
const _: () = assert!(size_of::<Connection>() <= 512);
