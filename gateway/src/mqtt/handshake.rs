//! From the first byte to CONNACK.

mod exchange;
mod identity;

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use nightjar_broker::access::{Action, AuthRequest, ClientInfo, Secret};
use nightjar_broker::acl::{AccessCache, Check};
use nightjar_broker::observe::Event;
use nightjar_broker::settings::{Leniency, MqttSettings};
use nightjar_broker::{
    Counter, Direction, MemoryLevel, OpenRequest, PacketTally, Session, Timestamp,
};
use nightjar_mqtt::packet::{Connack, Connect, peek_connect_version};
use nightjar_mqtt::{
    Decoded, Decoder, Packet, PacketType, ProtocolVersion, QoS, ReasonCode, TopicName,
};
use tokio::time::timeout_at;

use super::connection::{Connection, Terms, Throttle};
use super::message;
use super::scratch::with_read;
use super::{ListenerMqtt, Shared};
use crate::listener::Accepted;
use crate::sniff::Spoken;
use crate::transport::Transport;
use exchange::exchange_until_done;
use identity::{client_id, client_info, mountpoint, response_topic};

/// A CONNECT that is refused: the code of CONNACK and the words of the debug line.
struct Refusal {
    code: ReasonCode,
    why: String,
}

impl Refusal {
    fn new(code: ReasonCode, why: impl Into<String>) -> Self {
        Self {
            code,
            why: why.into(),
        }
    }
}

/// Bytes counted against the budget of connections without CONNECT, returned when dropped.
struct Budget<'a> {
    shared: &'a Shared,
    held: usize,
}

impl Budget<'_> {
    fn take(&mut self, bytes: usize) -> bool {
        if self.shared.unconnected.fetch_add(bytes, Ordering::Relaxed) + bytes
            > self.shared.limits.memory
        {
            self.shared.unconnected.fetch_sub(bytes, Ordering::Relaxed);
            return false;
        }
        self.held += bytes;
        true
    }
}

impl Drop for Budget<'_> {
    fn drop(&mut self) {
        self.shared
            .unconnected
            .fetch_sub(self.held, Ordering::Relaxed);
    }
}

/// Brings a connection to its session; `None` if it ended before.
pub async fn run(
    shared: Arc<Shared>,
    mut accepted: Accepted<ListenerMqtt>,
) -> Option<Box<Connection>> {
    let settings = accepted.listener.settings().mqtt.settings.load_full();
    let metrics = shared.broker.metrics();
    let deadline = tokio::time::Instant::from_std(
        accepted.accepted_at + Duration::from_millis(settings.connect_timeout_ms),
    );
    let mut input = Vec::new();
    let read = timeout_at(
        deadline,
        read_connect(&shared, &mut accepted, &settings, &mut input),
    )
    .await;
    let consumed = match read {
        Ok(Ok(consumed)) => consumed,
        Ok(Err(refused)) => {
            if let Some(refusal) = refused {
                metrics.count(Counter::ConnectsRefused);
                log(&accepted, None, &refusal);
                if let Some(version) = peek_connect_version(&input) {
                    tell(&mut accepted.transport, version, u32::MAX, &refusal, None).await;
                }
                close(&mut accepted.transport).await;
            }
            return None;
        }
        Err(_) => {
            metrics.count(Counter::ConnectTimeouts);
            log(
                &accepted,
                None,
                &Refusal::new(ReasonCode::KeepAliveTimeout, "no whole CONNECT in time"),
            );
            close(&mut accepted.transport).await;
            return None;
        }
    };
    metrics.count(Counter::Connects);
    metrics.count(Counter::PacketsReceived);
    let mut tally = PacketTally::default();
    tally.count(PacketType::Connect);
    metrics.add_packets(Direction::Received, &tally);
    let rest = input.split_off(consumed);
    let decoder = Decoder::server(settings.max_packet_size.min(shared.limits.packet));
    let Ok(Decoded::Packet {
        packet: Packet::Connect(connect),
        ..
    }) = decoder.decode(&input)
    else {
        return None; // It was decoded a moment ago.
    };
    let version = connect.version;
    let opened = timeout_at(
        deadline.max(tokio::time::Instant::now() + AUTH_GRACE),
        open(&shared, &mut accepted, &settings, &connect, rest),
    )
    .await;
    let opened = opened.unwrap_or_else(|_| {
        Err(Refusal::new(
            ReasonCode::ServerUnavailable,
            "CONNECT took too long",
        ))
    });
    match opened {
        Ok(connection) => {
            metrics.count(Counter::ConnectsAccepted);
            let mut tally = PacketTally::default();
            tally.count(PacketType::Connack);
            metrics.add_packets(Direction::Sent, &tally);
            let took = accepted.accepted_at.elapsed().as_millis();
            let took = u64::try_from(took).unwrap_or(u64::MAX);
            shared.broker.latencies().connect.observe(took);
            // The place among unfinished handshakes is free again when `accepted` is taken apart here.
            let (session, terms, output, rest) = connection;
            Some(Box::new(Connection::new(
                accepted.transport,
                accepted.listener,
                session,
                terms,
                output,
                rest,
            )))
        }
        Err(refusal) => {
            let denied = matches!(
                refusal.code,
                ReasonCode::BadUserNameOrPassword | ReasonCode::NotAuthorized | ReasonCode::Banned
            );
            metrics.count(if denied {
                Counter::ConnectsDenied
            } else {
                Counter::ConnectsRefused
            });
            log(&accepted, Some(connect.client_id), &refusal);
            observe_refused(&shared, &accepted, connect.client_id, &refusal);
            let max = connect.properties.maximum_packet_size.unwrap_or(u32::MAX);
            let reference = shared.broker.server_reference(refusal.code);
            let reference = reference.as_deref();
            tell(&mut accepted.transport, version, max, &refusal, reference).await;
            close(&mut accepted.transport).await;
            None
        }
    }
}

/// Time that authentication may take at least, however late CONNECT came: its own limits end it.
const AUTH_GRACE: Duration = Duration::from_secs(30);

/// Notes a refused CONNECT for the client's timeline and for traces.
fn observe_refused(
    shared: &Shared,
    accepted: &Accepted<ListenerMqtt>,
    client_id: &str,
    refusal: &Refusal,
) {
    let now = Timestamp::now();
    let code = refusal.code.code();
    let text = format!("CONNECT refused: {} (0x{code:02X})", refusal.why);
    let broker = &shared.broker;
    if !client_id.is_empty() {
        let whole = format_args!("{text}, from {}", accepted.peer);
        broker
            .journal()
            .record(client_id, Event::Refused, whole, now);
    }
    if broker.tracer().is_active() {
        let peer = Some(accepted.peer);
        broker
            .tracer()
            .line(client_id, peer, None, format_args!("{text}"), now);
    }
}

fn log(accepted: &Accepted<ListenerMqtt>, client_id: Option<&str>, refusal: &Refusal) {
    tracing::debug!(
        listener = &**accepted.listener.name(),
        peer = %accepted.peer,
        client_id,
        code = format_args!("0x{:02X}", refusal.code.code()),
        "CONNECT refused: {}",
        refusal.why
    );
}

/// Reads until a whole CONNECT is in `input`; its length. `Err(None)` ends silently.
async fn read_connect(
    shared: &Shared,
    accepted: &mut Accepted<ListenerMqtt>,
    settings: &MqttSettings,
    input: &mut Vec<u8>,
) -> Result<usize, Option<Refusal>> {
    let mut decoder = Decoder::server(settings.max_packet_size.min(shared.limits.packet));
    decoder.lenient = settings.leniency == Leniency::Lenient;
    let mut budget = Budget { shared, held: 0 };
    loop {
        let got = std::future::poll_fn(|cx| {
            with_read(|scratch| {
                accepted.transport.poll_read(cx, scratch).map(|result| {
                    result.map(|n| {
                        if budget.take(n) {
                            input.extend_from_slice(&scratch[..n]);
                            (n, true)
                        } else {
                            (n, false)
                        }
                    })
                })
            })
        })
        .await;
        match got {
            Ok((0, _)) => return Err(None),
            Err(error) => {
                tracing::debug!("closed before CONNECT: {error}");
                return Err(None);
            }
            Ok((_, false)) => {
                return Err(Some(Refusal::new(
                    ReasonCode::ServerBusy,
                    "the budget for connections without CONNECT is used up",
                )));
            }
            Ok((n, true)) => shared
                .broker
                .metrics()
                .add(Counter::BytesReceived, n as u64),
        }
        match decoder.decode(input) {
            Ok(Decoded::Packet { consumed, .. }) => return Ok(consumed),
            Ok(Decoded::Incomplete { .. }) => {}
            Err(nightjar_mqtt::DecodeError::ExpectedConnect(first)) => {
                tracing::trace!("first packet is not CONNECT (0x{first:02X})");
                accepted
                    .listener
                    .wrong_protocol(accepted.peer, Spoken::guess(input));
                shared.broker.metrics().count(Counter::ConnectsRefused);
                close(&mut accepted.transport).await;
                return Err(None);
            }
            Err(error) => {
                // The first byte of TLS reads as a CONNECT with impossible flags.
                match Spoken::guess(input) {
                    None | Some(Spoken::Mqtt) => {}
                    spoken => {
                        accepted.listener.wrong_protocol(accepted.peer, spoken);
                        shared.broker.metrics().count(Counter::ConnectsRefused);
                        close(&mut accepted.transport).await;
                        return Err(None);
                    }
                }
                return Err(Some(Refusal::new(error.reason_code(), error.to_string())));
            }
        }
    }
}

type Opened = (Session, Terms, Vec<u8>, Vec<u8>);

/// Judges a CONNECT, opens its session and writes CONNACK into the output.
async fn open(
    shared: &Arc<Shared>,
    accepted: &mut Accepted<ListenerMqtt>,
    settings: &Arc<MqttSettings>,
    connect: &Connect<'_>,
    mut rest: Vec<u8>,
) -> Result<Opened, Refusal> {
    let broker = &shared.broker;
    let now = Timestamp::now();
    if broker.memory() != MemoryLevel::Normal {
        return Err(Refusal::new(
            ReasonCode::ServerBusy,
            "memory is above limits.memory_high",
        ));
    }
    let v5 = connect.version.is_v5();
    let (client_id, assigned) = client_id(shared, settings, connect)?;
    let mut info = client_info(accepted, connect, client_id.clone());
    broker
        .check_ban(&info, now)
        .and_then(|()| broker.count_address(info.peer.ip()))
        .map_err(|refused| Refusal::new(refused.code(), refused.to_string()))?;
    let said = info.username.clone();
    let password = connect.password.map(|password| Secret(password.into()));
    let mut data = None;
    info = match connect.properties.authentication_method {
        Some(method) => {
            let mut exchange = broker
                .auth()
                .exchange(method, &info)
                .map_err(|refused| Refusal::new(refused.code, refused.to_string()))?;
            let first = connect.properties.authentication_data.unwrap_or_default();
            let grant = exchange_until_done(
                shared,
                accepted,
                settings,
                &mut *exchange,
                method,
                first,
                &mut rest,
                &mut data,
            )
            .await?;
            broker.auth().accept(info, grant)
        }
        None => broker
            .auth()
            .authenticate(AuthRequest {
                client: info,
                password,
            })
            .await
            .map_err(|refused| Refusal::new(refused.code, refused.to_string()))?,
    };
    if info.username != said {
        broker
            .check_ban(&info, now)
            .map_err(|refused| Refusal::new(refused.code(), refused.to_string()))?;
    }
    let info = Arc::new(info);
    broker
        .count_client(&info)
        .map_err(|refused| Refusal::new(refused.code(), refused.to_string()))?;
    let held = broker
        .hold_client_id(&info)
        .map_err(|refused| Refusal::new(refused.code, refused.to_string()))?;
    let mountpoint = mountpoint(accepted, &info);
    let mut acl = AccessCache::new();
    let will = match &connect.will {
        Some(will) => Some(Box::new(
            judge_will(
                shared,
                settings,
                &info,
                &mut acl,
                mountpoint.as_deref(),
                will,
                now,
            )
            .await?,
        )),
        None => None,
    };
    let properties = &connect.properties;
    let expiry = match (v5, connect.clean_start) {
        (true, _) => properties
            .session_expiry_interval
            .unwrap_or(0)
            .min(settings.max_session_expiry),
        (false, true) => 0,
        (false, false) => settings.session_expiry_3x,
    };
    let receive_maximum = properties.receive_maximum.unwrap_or(u16::MAX);
    let request = OpenRequest {
        info: info.clone(),
        clean_start: connect.clean_start,
        expiry,
        will,
        queue: settings.queue.clone(),
        window: settings.max_inflight.min(receive_maximum),
        max_awaiting_rel: settings.max_awaiting_rel,
        receive_maximum: v5.then_some(settings.receive_maximum),
        retry_interval_ms: settings.retry_interval_ms.filter(|_| !v5),
        supervision: None,
    };
    let (session, present) = broker.open(request, now).await.map_err(|code| match code {
        // No code of CONNACK [MQTT-3.2.2-8]; for the client it is as if this one had lost the race.
        ReasonCode::SessionTakenOver => Refusal::new(
            ReasonCode::ServerBusy,
            "another connection took the client identifier at the same time",
        ),
        code => Refusal::new(code, "the session could not be opened"),
    })?;
    if held.is_some() && expiry > 0 {
        broker
            .bind_client_id(&info, present)
            .wait()
            .await
            .map_err(|code| Refusal::new(code, "the session's owner could not be kept"))?;
    }
    drop(held);
    let throttle = broker.limits().allowance(&info, Instant::now());
    let keep_alive = match settings.server_keep_alive {
        Some(cap) if v5 && (connect.keep_alive == 0 || connect.keep_alive > cap) => cap,
        _ => connect.keep_alive,
    };
    session
        .handle()
        .update_facts(|facts| facts.keep_alive = keep_alive);
    if broker.tracer().is_active() {
        let text = format_args!(
            "CONNECT accepted: version {:?}, clean start {}, keep alive {keep_alive} s, session present {present}",
            connect.version, connect.clean_start
        );
        broker
            .tracer()
            .line(&client_id, Some(info.peer), None, text, now);
    }
    let terms = Terms {
        version: connect.version,
        client_id: client_id.clone(),
        info,
        keep_alive: Duration::from_millis(
            u64::from(keep_alive) * 10 * u64::from(settings.keep_alive_percent),
        ),
        max_packet_out: properties.maximum_packet_size.unwrap_or(u32::MAX),
        alias_max_out: properties.topic_alias_maximum.unwrap_or(0),
        problem_information: properties.request_problem_information.unwrap_or(true),
        expiry,
        auth_method: properties.authentication_method.map(Into::into),
        mountpoint,
        acl,
        settings: settings.clone(),
        throttle: throttle.map(Throttle::new),
    };
    let response;
    let mut connack = Connack::new(present, ReasonCode::Success);
    if v5 {
        let answer = &mut connack.properties;
        answer.session_expiry_interval =
            (properties.session_expiry_interval.unwrap_or(0) != expiry).then_some(expiry);
        answer.receive_maximum = Some(settings.receive_maximum);
        answer.maximum_qos = (settings.max_qos != QoS::ExactlyOnce).then_some(settings.max_qos);
        answer.retain_available = (!settings.retain_available).then_some(false);
        answer.maximum_packet_size = Some(settings.max_packet_size);
        answer.assigned_client_identifier = assigned.then_some(&*client_id);
        answer.topic_alias_maximum =
            (settings.max_topic_alias > 0).then_some(settings.max_topic_alias);
        answer.wildcard_subscription_available = (!settings.wildcard_subscription).then_some(false);
        answer.subscription_identifiers_available =
            (!settings.subscription_identifiers).then_some(false);
        answer.shared_subscription_available = (!settings.shared_subscription).then_some(false);
        answer.server_keep_alive = (keep_alive != connect.keep_alive).then_some(keep_alive);
        response = properties
            .request_response_information
            .unwrap_or(false)
            .then(|| response_topic(&client_id));
        answer.response_information = response.as_deref();
        answer.authentication_method = properties.authentication_method;
        answer.authentication_data = data.as_deref();
    }
    let mut output = Vec::new();
    Packet::Connack(Box::new(connack))
        .encode(connect.version, &mut output)
        .map_err(|error| Refusal::new(ReasonCode::UnspecifiedError, error.to_string()))?;
    Ok((session, terms, output, rest))
}

async fn judge_will(
    shared: &Shared,
    settings: &MqttSettings,
    info: &Arc<ClientInfo>,
    acl: &mut AccessCache,
    mountpoint: Option<&str>,
    will: &nightjar_mqtt::packet::Will<'_>,
    now: Timestamp,
) -> Result<nightjar_broker::shard::Will, Refusal> {
    let topic = match mountpoint {
        Some(mountpoint) => TopicName::new(format!("{mountpoint}{}", will.topic)),
        None => TopicName::new(will.topic),
    }
    .map_err(|error| Refusal::new(ReasonCode::TopicNameInvalid, format!("will topic: {error}")))?;
    if will.qos > settings.max_qos {
        return Err(Refusal::new(
            ReasonCode::QoSNotSupported,
            "will QoS above mqtt.max_qos [MQTT-3.2.2-12]",
        ));
    }
    if will.retain && !settings.retain_available {
        return Err(Refusal::new(
            ReasonCode::RetainNotSupported,
            "will retain, mqtt.retain_available = false [MQTT-3.2.2-13]",
        ));
    }
    if nightjar_mqtt::topic::levels(&topic) > settings.max_topic_levels {
        return Err(Refusal::new(
            ReasonCode::TopicNameInvalid,
            "will topic has more levels than mqtt.max_topic_levels",
        ));
    }
    let action = Action::Publish {
        topic: &topic,
        qos: will.qos,
        retain: will.retain,
    };
    let verdict = match shared.broker.acl().check(info, acl, action, Instant::now()) {
        Check::Now(verdict) => verdict,
        Check::Later(judged) => judged.await.verdict,
    };
    if !verdict.allowed() || topic.starts_with("$SYS/") {
        return Err(Refusal::new(
            ReasonCode::NotAuthorized,
            format!("not authorized to publish the will to {topic}"),
        ));
    }
    Ok(message::of_will(
        will,
        topic,
        &info.client_id,
        settings.message_expiry,
        now,
    ))
}

/// Answers a refused CONNECT [MQTT-3.2.2-6]; without a reason string if the client takes no packet that large
/// [MQTT-3.2.2-19].
async fn tell(
    transport: &mut Transport,
    version: ProtocolVersion,
    max: u32,
    refusal: &Refusal,
    reference: Option<&str>,
) {
    let mut output = Vec::new();
    if version.is_v5() {
        let hidden = matches!(
            refusal.code,
            ReasonCode::BadUserNameOrPassword | ReasonCode::NotAuthorized | ReasonCode::Banned
        );
        for reason_string in [(!hidden).then_some(&*refusal.why), None] {
            let mut connack = Connack::new(false, refusal.code);
            connack.properties.reason_string = reason_string;
            connack.properties.server_reference = reference;
            let connack = Packet::Connack(Box::new(connack));
            if connack
                .encoded_len(version)
                .is_ok_and(|len| len <= max as usize)
                && connack.encode(version, &mut output).is_ok()
            {
                break;
            }
        }
    } else if !matches!(
        refusal.code,
        ReasonCode::MalformedPacket | ReasonCode::ProtocolError | ReasonCode::PacketTooLarge
    ) {
        // 3.x has codes for five refusals; for others the network connection is closed without a word.
        output.extend_from_slice(&[0x20, 2, 0, refusal.code.connect_return_code().code()]);
    }
    let _ = tokio::time::timeout(CLOSE_TIME, write_all(transport, &output)).await;
}

/// Time for the last bytes of a connection.
pub(super) const CLOSE_TIME: Duration = Duration::from_secs(2);

async fn write_all(transport: &mut Transport, bytes: &[u8]) -> std::io::Result<()> {
    let mut at = 0;
    while at < bytes.len() {
        at += std::future::poll_fn(|cx| transport.poll_write(cx, &bytes[at..])).await?;
    }
    std::future::poll_fn(|cx| transport.poll_flush(cx)).await
}

async fn close(transport: &mut Transport) {
    let _ = tokio::time::timeout(CLOSE_TIME, transport.shutdown()).await;
}
