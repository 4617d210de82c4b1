//! From CONNECT to CONNACK, and from PINGREQ to a session that is open again (MQTT-SN sections 6.2, 6.3 and 6.14).

use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::Instant;

use nightjar_broker::access::{AuthRequest, BoxFuture, ClientInfo, Protocol, Secret};
use nightjar_broker::acl::{AccessCache, Check, Judged};
use nightjar_broker::shard::{Supervision, Will, WillRule};
use nightjar_broker::{Counter, MemoryLevel, OpenRequest, Session, Timestamp};
use nightjar_mqtt::ReasonCode;
use nightjar_mqttsn::{Connect, Message, ReturnCode, WillTopic};

use super::counters::Counted;
use super::gateway::Cx;
use super::link::Link;
use super::live::{Live, return_code};
use super::path::Path;
use super::settings::{Auth, Settings};
use super::uplink::refusal;
use super::will::{make_will, will_action};

/// A handshake that makes no progress is forgotten after so many milliseconds.
pub(super) const HANDSHAKE_MS: u64 = 60_000;

/// What a CONNECT asks for.
#[derive(Debug, Clone, Copy)]
pub(super) struct Asked {
    pub will: bool,
    pub clean: bool,
    /// Keep alive in seconds, never 0.
    pub keep_alive: u16,
}

impl From<&Connect<'_>> for Asked {
    fn from(connect: &Connect<'_>) -> Self {
        Self {
            will: connect.will,
            clean: connect.clean_session,
            // 0 would never end: the longest there is.
            keep_alive: match connect.duration {
                0 => u16::MAX,
                seconds => seconds,
            },
        }
    }
}

/// Seconds with the tolerance of section 7.2: a tenth more, of a minute and less half as much more.
pub(super) const fn tolerance_ms(seconds: u16) -> u64 {
    if seconds > 60 {
        seconds as u64 * 1100
    } else {
        seconds as u64 * 1500
    }
}

/// The same in whole seconds, for the record.
pub(super) fn tolerance_secs(seconds: u16) -> u32 {
    u32::try_from(tolerance_ms(seconds).div_ceil(1000)).expect("at most 72,089 seconds")
}

type Authenticating = BoxFuture<'static, Result<ClientInfo, ReasonCode>>;
pub(super) type Opening = BoxFuture<'static, Result<(Session, bool), ReasonCode>>;

/// Where the handshake stands.
pub(super) enum Step {
    Authenticating(Authenticating),
    WillTopic,
    WillMsg(WillParts),
    JudgingWill(Box<Will>, BoxFuture<'static, Judged>),
    Opening(Opening),
}

/// The will topic, waiting for its message.
#[derive(Debug, Clone)]
pub(super) struct WillParts {
    qos: nightjar_mqttsn::QoS,
    retain: bool,
    topic: Box<str>,
}

/// What was there before a CONNECT; it stays if that comes to nothing.
pub(super) enum Previous {
    Nothing,
    Live(Box<Live>),
    Asleep { seconds: u32, lost_at: Timestamp },
}

/// A CONNECT under way.
pub(super) struct Connecting {
    pub asked: Asked,
    pub step: Step,
    pub previous: Previous,
    /// Its last progress.
    pub since: Timestamp,
    pub acl: AccessCache,
    pub info: Option<Arc<ClientInfo>>,
    /// The CONNECT may be a copy that the network made.
    pub doubtful: bool,
    /// It has its CONNACK, and this came behind it.
    pub held: Option<Box<[u8]>>,
}

/// What a handshake came to.
pub(super) enum Connected {
    /// Nothing yet.
    Pending,
    /// The session, whether it was there before, and who has it.
    Open(Box<Session>, bool, Arc<ClientInfo>),
    Refused(ReturnCode),
}

/// Asks who the client is.
pub(super) fn authenticate(cx: &Cx<'_>, client_id: &Arc<str>, path: &Path) -> Authenticating {
    let settings = cx.settings();
    let peer = path.peer;
    let fill = |template: &str| {
        template
            .replace("${clientid}", client_id)
            .replace("${peerhost}", &peer.ip().to_canonical().to_string())
    };
    let info = ClientInfo {
        username: settings.username.as_deref().map(|name| fill(name).into()),
        ..ClientInfo::new(
            client_id.clone(),
            peer,
            settings.name.clone(),
            Protocol::MqttSn,
        )
    };
    match settings.auth {
        Auth::Off => Box::pin(std::future::ready(Ok(info))),
        Auth::Trusted if settings.trusts(peer.ip()) => Box::pin(std::future::ready(Ok(info))),
        Auth::Trusted => Box::pin(std::future::ready(Err(ReasonCode::NotAuthorized))),
        Auth::Chain => {
            let password = settings.password.as_deref();
            let password = password.map(|text| Secret(fill(text).into_bytes().into()));
            let broker = cx.gateway.broker().clone();
            Box::pin(async move {
                let request = AuthRequest {
                    client: info,
                    password,
                };
                let judged = broker.auth().authenticate(request).await;
                judged.map_err(|refused| refused.code)
            })
        }
    }
}

/// May this client have the session there is, as far as its user and its bans say?
fn may_have(cx: &Cx<'_>, info: &ClientInfo) -> bool {
    cx.gateway.broker().hold_client_id(info).is_ok() && !is_banned(cx, info)
}

/// Is this client banned, by its id, user name or address? A trusted balancer or NAT is never banned by its address.
fn is_banned(cx: &Cx<'_>, info: &ClientInfo) -> bool {
    let address = info.peer.ip();
    let address = if cx.settings().trusts(address) {
        IpAddr::V4(Ipv4Addr::UNSPECIFIED)
    } else {
        address
    };
    let broker = cx.gateway.broker();
    let bans = broker.kept().bans();
    let banned = bans
        .find(&info.client_id, info.username.as_deref(), address, cx.now)
        .is_some();
    if banned {
        broker.metrics().count(Counter::ConnectsBanned);
    }
    banned
}

/// Opens the session of a CONNECT, by the CleanSession x Will table of section 6.3.
fn open(cx: &Cx<'_>, info: &Arc<ClientInfo>, asked: Asked, will: Option<Box<Will>>) -> Opening {
    let seconds = tolerance_secs(asked.keep_alive);
    let rule = if asked.will || asked.clean {
        WillRule::Replace
    } else {
        WillRule::Keep
    };
    let expiry = if asked.clean {
        seconds
    } else {
        cx.settings().session_expiry.max(seconds)
    };
    let supervision = Supervision {
        will: rule,
        seconds,
    };
    open_session(cx, info, asked.clean, expiry, will, supervision)
}

/// Opens a session; the client has one message open at a time.
pub(super) fn open_session(
    cx: &Cx<'_>,
    info: &Arc<ClientInfo>,
    clean_start: bool,
    expiry: u32,
    will: Option<Box<Will>>,
    supervision: Supervision,
) -> Opening {
    let request = OpenRequest {
        info: info.clone(),
        clean_start,
        expiry,
        will,
        queue: cx.settings().queue.clone(),
        window: 1,
        max_awaiting_rel: usize::from(u16::MAX),
        receive_maximum: None,
        retry_interval_ms: None,
        supervision: Some(supervision),
    };
    let broker = cx.gateway.broker().clone();
    let (info, now) = (info.clone(), cx.now);
    Box::pin(async move {
        let held = broker
            .hold_client_id(&info)
            .map_err(|refused| refused.code)?;
        let opened = broker.open(request, now).await?;
        if held.is_some() {
            broker.bind_client_id(&info, opened.1).wait().await?;
        }
        Ok(opened)
    })
}

/// The listener's mountpoint for a client; a client id that would break a topic is left out.
pub(super) fn mountpoint(settings: &Settings, info: &ClientInfo) -> Option<Arc<str>> {
    let template = settings.mountpoint.as_deref()?;
    let safe = |value: &str| !value.contains(['+', '#', '/', '\0']);
    let client_id = if safe(&info.client_id) {
        &*info.client_id
    } else {
        ""
    };
    let username = info.username.as_deref().filter(|name| safe(name));
    Some(
        template
            .replace("${clientid}", client_id)
            .replace("${username}", username.unwrap_or_default())
            .into(),
    )
}

impl Connecting {
    pub fn new(
        cx: &Cx<'_>,
        client_id: &Arc<str>,
        path: &Path,
        asked: Asked,
        previous: Previous,
    ) -> Self {
        let full = cx.gateway.broker().memory() != MemoryLevel::Normal;
        let step = if full {
            Step::Authenticating(Box::pin(std::future::ready(Err(ReasonCode::ServerBusy))))
        } else {
            Step::Authenticating(authenticate(cx, client_id, path))
        };
        Self {
            asked,
            step,
            previous,
            since: cx.now,
            acl: AccessCache::new(),
            info: None,
            doubtful: false,
            held: None,
        }
    }

    /// Is the client the one that is waited for?
    pub const fn is_asking(&self) -> bool {
        matches!(self.step, Step::WillTopic | Step::WillMsg(_))
    }

    /// The question of the current step once more.
    pub fn ask_again(&self, link: &Link, cx: &mut Cx<'_>) {
        match self.step {
            Step::WillTopic => link.answer(cx, Message::WillTopicReq),
            Step::WillMsg(_) => link.answer(cx, Message::WillMsgReq),
            _ => {}
        }
    }

    /// WILLTOPIC or WILLMSG came.
    pub fn receive(
        &mut self,
        link: &Link,
        cx: &mut Cx<'_>,
        message: Message<'_>,
    ) -> Option<ReturnCode> {
        let Some(info) = &self.info else {
            cx.count(Counted::OutOfState);
            return None;
        };
        match (&self.step, message) {
            // Empty: there is to be no will, and an old one goes.
            (Step::WillTopic, Message::WillTopic(None)) => {
                self.since = cx.now;
                self.step = Step::Opening(open(cx, info, self.asked, None));
            }
            (Step::WillTopic | Step::WillMsg(_), Message::WillTopic(Some(will))) => {
                self.since = cx.now;
                self.step = Step::WillMsg(WillParts {
                    qos: will.qos,
                    retain: will.retain,
                    topic: will.topic.into(),
                });
                link.answer(cx, Message::WillMsgReq);
            }
            (Step::WillMsg(parts), Message::WillMsg { will_msg }) => {
                self.since = cx.now;
                let parts = parts.clone();
                let asked = WillTopic {
                    qos: parts.qos,
                    retain: parts.retain,
                    topic: &parts.topic,
                };
                let settings = cx.settings().mqtt.load_full();
                let mountpoint = mountpoint(cx.settings(), info);
                let id = &info.client_id;
                let Some(will) =
                    make_will(cx, &settings, mountpoint.as_deref(), id, &asked, will_msg)
                else {
                    return Some(ReturnCode::NOT_SUPPORTED);
                };
                let will = Box::new(will);
                let acl = cx.gateway.broker().acl();
                match acl.check(info, &mut self.acl, will_action(&will), Instant::now()) {
                    Check::Now(verdict) if !verdict.allowed() => {
                        return Some(ReturnCode::NOT_SUPPORTED);
                    }
                    Check::Now(_) => {
                        self.step = Step::Opening(open(cx, info, self.asked, Some(will)));
                    }
                    Check::Later(judged) => self.step = Step::JudgingWill(will, judged),
                }
            }
            _ => cx.count(Counted::OutOfState),
        }
        None
    }

    /// Goes on as far as nothing is waited for.
    pub fn poll(&mut self, link: &Link, cx: &mut Cx<'_>, waker: &Waker) -> Connected {
        let mut task = Context::from_waker(waker);
        loop {
            match &mut self.step {
                Step::Authenticating(future) => {
                    let Poll::Ready(judged) = future.as_mut().poll(&mut task) else {
                        return Connected::Pending;
                    };
                    self.since = cx.now;
                    let info = match judged {
                        Ok(info) if may_have(cx, &info) => Arc::new(info),
                        Ok(_) => return Connected::Refused(ReturnCode::NOT_SUPPORTED),
                        Err(code) => return Connected::Refused(return_code(code)),
                    };
                    if let Err(over) = cx.gateway.broker().count_client(&info) {
                        return Connected::Refused(return_code(over.code()));
                    }
                    self.info = Some(info.clone());
                    if self.asked.will {
                        self.step = Step::WillTopic;
                        link.answer(cx, Message::WillTopicReq);
                    } else {
                        self.step = Step::Opening(open(cx, &info, self.asked, None));
                    }
                }
                Step::JudgingWill(will, judged) => {
                    let Poll::Ready(judged) = judged.as_mut().poll(&mut task) else {
                        return Connected::Pending;
                    };
                    let (Some(info), true) = (&self.info, judged.verdict.allowed()) else {
                        return Connected::Refused(refusal(judged));
                    };
                    self.step = Step::Opening(open(cx, info, self.asked, Some(will.clone())));
                }
                Step::Opening(future) => {
                    let Poll::Ready(opened) = future.as_mut().poll(&mut task) else {
                        return Connected::Pending;
                    };
                    return match (opened, &self.info) {
                        (Ok((session, present)), Some(info)) => {
                            Connected::Open(Box::new(session), present, info.clone())
                        }
                        (Err(code), _) => Connected::Refused(match code {
                            ReasonCode::SessionTakenOver => ReturnCode::NOT_SUPPORTED,
                            code => return_code(code),
                        }),
                        (Ok(_), None) => Connected::Refused(ReturnCode::NOT_SUPPORTED),
                    };
                }
                Step::WillTopic | Step::WillMsg(_) => return Connected::Pending,
            }
        }
    }
}

/// Why a sleeper's session is opened.
pub(super) enum Purpose {
    /// PINGREQ: it wants its messages.
    Flush,
    /// It sent this PUBLISH or PUBREL.
    Publish(Box<[u8]>),
    /// DISCONNECT with another duration.
    Sleep(u16),
    /// DISCONNECT without one.
    Leave,
}

/// A sleeper whose session is being opened.
pub(super) struct Waking {
    pub purpose: Purpose,
    pub seconds: u32,
    pub lost_at: Timestamp,
    pub step: WakeStep,
    pub info: Option<Arc<ClientInfo>>,
}

/// Where that stands.
pub(super) enum WakeStep {
    /// After a restart nothing is known of the client but its session.
    Authenticating(Authenticating),
    Opening(Opening),
}

impl Waking {
    pub fn new(
        cx: &Cx<'_>,
        client_id: &Arc<str>,
        path: &Path,
        purpose: Purpose,
        (seconds, lost_at): (u32, Timestamp),
    ) -> Self {
        let known = cx
            .gateway
            .broker()
            .client(client_id)
            .map(|handle| handle.info())
            // Another listener asks otherwise who its clients are.
            .filter(|info| info.listener == cx.settings().name)
            .filter(|info| info.protocol == Protocol::MqttSn && !info.peer.ip().is_unspecified())
            .map(|info| {
                if info.peer == path.peer {
                    return info;
                }
                Arc::new(ClientInfo {
                    peer: path.peer,
                    loopback: path.peer.ip().to_canonical().is_loopback(),
                    ..ClientInfo::clone(&info)
                })
            });
        let step = match &known {
            Some(info) => WakeStep::Opening(wake(cx, info, seconds)),
            None => WakeStep::Authenticating(authenticate(cx, client_id, path)),
        };
        Self {
            purpose,
            seconds,
            lost_at,
            step,
            info: known,
        }
    }

    pub fn poll(&mut self, cx: &Cx<'_>, waker: &Waker) -> Connected {
        let mut task = Context::from_waker(waker);
        loop {
            match &mut self.step {
                WakeStep::Authenticating(future) => {
                    let Poll::Ready(judged) = future.as_mut().poll(&mut task) else {
                        return Connected::Pending;
                    };
                    match judged {
                        Ok(info) if may_have(cx, &info) => {
                            let info = Arc::new(info);
                            self.step = WakeStep::Opening(wake(cx, &info, self.seconds));
                            self.info = Some(info);
                        }
                        Ok(_) => return Connected::Refused(ReturnCode::NOT_SUPPORTED),
                        Err(code) => return Connected::Refused(return_code(code)),
                    }
                }
                WakeStep::Opening(future) => {
                    let Poll::Ready(opened) = future.as_mut().poll(&mut task) else {
                        return Connected::Pending;
                    };
                    return match (opened, &self.info) {
                        (Ok((session, present)), Some(info)) => {
                            Connected::Open(Box::new(session), present, info.clone())
                        }
                        _ => Connected::Refused(ReturnCode::NOT_SUPPORTED),
                    };
                }
            }
        }
    }
}

fn wake(cx: &Cx<'_>, info: &Arc<ClientInfo>, seconds: u32) -> Opening {
    let supervision = Supervision {
        will: WillRule::Wake,
        seconds,
    };
    let expiry = cx.settings().session_expiry.max(seconds);
    open_session(cx, info, false, expiry, None, supervision)
}
