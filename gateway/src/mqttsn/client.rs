//! One client: its states and what moves it between them (MQTT-SN section 6.14 and figure 4).

use std::sync::Arc;
use std::task::Waker;

use nightjar_broker::shard::{CloseKind, SessionEntry};
use nightjar_broker::{Counter, DropReason, Progress, Ticket, Timestamp};
use nightjar_mqtt::ReasonCode;
use nightjar_mqttsn::Message;

use super::arrive::LastConnect;
use super::connect::{Connected, Connecting, HANDSHAKE_MS, Purpose, Waking, tolerance_secs};
use super::counters::Counted;
use super::gateway::Cx;
use super::link::Link;
use super::live::{Air, Live, Over};
use super::path::Path;
use super::settings::Settings;

/// The states of a client.
pub(super) enum Phase {
    /// Not connected: it is forgotten.
    Gone,
    Connecting(Box<Connecting>),
    Live(Box<Live>),
    /// Its session is parked in its record.
    Asleep {
        seconds: u32,
        lost_at: Timestamp,
    },
    Waking(Box<Waking>),
}

/// One client of a listener.
pub(super) struct Client {
    pub id: Arc<str>,
    pub link: Link,
    /// Its id was assigned: it sent none.
    pub assigned: bool,
    pub(super) phase: Phase,
    pub(super) last_connect: Option<LastConnect>,
    /// Nothing else was heard since the last CONNECT.
    pub(super) alone: bool,
    /// Another node heard its CONNECT from where it is here: it is not told when that node has it.
    pub(super) moving: bool,
    /// Keep alive and CleanSession of a CONNECT while it slept that may be a copy.
    pub(super) claimed: Option<(u16, bool)>,
    /// What was on the air when it fell asleep.
    pub(super) air: Air,
    /// QoS 2 messages taken before the connection that is there now.
    pub(super) taken: Option<Box<super::taken::Taken>>,
    /// Its sleep is on the way to its record.
    parking: Option<Ticket>,
    /// Epoch of its last connection here: after another one `air` and `taken` say nothing.
    last: u64,
    /// Topic ids it had when it fell asleep.
    asleep_ids: Option<u16>,
    /// DISCONNECT is owed when the sleep is kept.
    pub(super) parting: Option<Ticket>,
    pub waker: Option<Waker>,
    /// The entry in the wheel that counts; 0 if there is none.
    pub timer: u64,
}

impl Client {
    /// A client that begins to connect, or whose parked session is found.
    pub fn new(id: Arc<str>, link: Link) -> Self {
        Self {
            id,
            link,
            assigned: false,
            phase: Phase::Gone,
            last_connect: None,
            alone: false,
            moving: false,
            claimed: None,
            air: Air::Unknown,
            taken: None,
            parking: None,
            last: 0,
            asleep_ids: None,
            parting: None,
            waker: None,
            timer: 0,
        }
    }

    /// Is there nothing left to keep?
    pub const fn is_gone(&self) -> bool {
        matches!(self.phase, Phase::Gone) && self.parting.is_none()
    }

    /// Does it sleep, so that no waker is needed?
    pub const fn is_quiet(&self) -> bool {
        matches!(self.phase, Phase::Asleep { .. })
            && self.parting.is_none()
            && self.parking.is_none()
    }

    /// The state, for lists.
    pub const fn state(&self) -> super::State {
        match &self.phase {
            Phase::Gone => super::State::Disconnected,
            Phase::Connecting(_) => super::State::Connecting,
            Phase::Live(live) if live.awake.is_none() => super::State::Active,
            Phase::Live(_) | Phase::Waking(_) => super::State::Awake,
            Phase::Asleep { .. } => super::State::Asleep,
        }
    }

    /// Its sleep, for lists.
    pub const fn sleep(&self) -> Option<super::Sleep> {
        match &self.phase {
            Phase::Asleep { seconds, lost_at } => Some(super::Sleep {
                seconds: *seconds,
                lost_at: *lost_at,
            }),
            _ => None,
        }
    }

    /// The number of its topic ids, for lists.
    pub fn topic_ids(&self) -> Option<usize> {
        match &self.phase {
            Phase::Live(live) => Some(live.topics.iter().count()),
            Phase::Asleep { .. } | Phase::Waking(_) => self.asleep_ids.map(usize::from),
            Phase::Gone | Phase::Connecting(_) => None,
        }
    }

    /// Looks at its topic ids while it is connected.
    pub fn each_topic(&self, mut look: impl FnMut(u16, &str)) {
        if let Phase::Live(live) = &self.phase {
            for (id, name) in live.topics.iter() {
                look(id, name.as_str());
            }
        }
    }

    /// Is it connected, or about to be?
    pub const fn is_busy(&self) -> bool {
        matches!(
            self.phase,
            Phase::Live(_) | Phase::Connecting(_) | Phase::Waking(_)
        )
    }

    /// Is it connected?
    pub const fn is_connected(&self) -> bool {
        matches!(self.phase, Phase::Live(_))
    }

    /// When something is due.
    pub fn deadline(&self, settings: &Settings) -> Timestamp {
        match &self.phase {
            Phase::Gone => Timestamp::NEVER,
            Phase::Connecting(connecting) => connecting.since.plus_millis(HANDSHAKE_MS),
            Phase::Live(live) => live.deadline(settings.retry_interval_ms),
            Phase::Asleep { lost_at, .. } => *lost_at,
            // What it waits for ends by itself.
            Phase::Waking(_) => Timestamp::NEVER,
        }
    }

    /// PINGREQ with the client id came, from this path.
    pub fn on_wake(&mut self, cx: &mut Cx<'_>, path: &Path, raw: &[u8]) {
        if cx.traced.is_some() {
            let message = Message::PingReq {
                client_id: Some(&self.id),
            };
            cx.trace_received(path, &message, None);
        }
        if !self.link.admits(cx.settings(), path) {
            cx.count(Counted::AddressChangesRefused);
            cx.gateway.stranger(cx.now, cx.turn, path);
            return;
        }
        let alone = std::mem::replace(&mut self.alone, false);
        let moved = !self.link.path.same_end(path);
        self.link.move_to(cx, path);
        self.link.heard(raw.len());
        match &mut self.phase {
            Phase::Live(live) => {
                live.last_heard = cx.now;
                if moved {
                    live.resend_now(&mut self.link, cx);
                }
                match &mut live.awake {
                    Some(awake) => awake.flush = true,
                    // It sleeps: its CONNECT was a copy.
                    None if live.doubted > 0 && alone => {
                        live.sleeps_on();
                        live.resend_now(&mut self.link, cx);
                    }
                    None => self.link.answer(cx, Message::PingResp),
                }
            }
            Phase::Asleep { .. } => self.wake(cx),
            // The flush it asked for begins when the session is there.
            Phase::Waking(_) => {}
            Phase::Connecting(_) => cx.count(Counted::OutOfState),
            Phase::Gone => {}
        }
        self.drive(cx);
    }

    /// A parked session that this listener does not know yet (after a restart, or from another listener) is its own now.
    pub fn adopt(&mut self, now: Timestamp, seconds: u32) {
        self.phase = Phase::Asleep {
            seconds,
            lost_at: now.plus_secs(u64::from(seconds)),
        };
    }

    const fn heard(&mut self) {
        self.alone = false;
    }

    /// Any other message came from its path.
    pub fn receive(&mut self, cx: &mut Cx<'_>, message: Message<'_>, raw: &[u8]) {
        self.heard();
        self.link.heard(raw.len());
        if cx.traced.is_some() {
            let topic = match (&message, &self.phase) {
                (Message::Publish(it), Phase::Live(live)) => live.topic_for_trace(cx, it.topic),
                _ => None,
            };
            cx.trace_received(&self.link.path, &message, topic.as_deref());
        }
        match &mut self.phase {
            Phase::Live(live) => {
                live.last_heard = cx.now;
                let result = live.receive(&mut self.link, cx, message, raw);
                if let Err(over) = result {
                    self.over(cx, over);
                }
            }
            Phase::Connecting(connecting) => match message {
                Message::Disconnect { .. } => {
                    self.link.answer(cx, Message::Disconnect { duration: None });
                    self.give_up_connect(cx);
                }
                message => {
                    let refused = connecting.receive(&self.link, cx, message);
                    if let Some(code) = refused {
                        self.refused(cx, code);
                    }
                }
            },
            Phase::Asleep { .. } if self.claimed.is_some() && speaks_awake(&message) => {
                self.believe(cx, raw);
            }
            Phase::Asleep { seconds, .. } => match message {
                Message::PingReq { .. } => self.wake(cx),
                Message::Disconnect { duration } => match duration {
                    None | Some(0) => self.rouse(cx, Purpose::Leave),
                    // The answer was lost: the same again.
                    Some(duration) if tolerance_secs(duration) == *seconds => {
                        self.claimed = None;
                        self.parting = Some(self.touch(cx));
                    }
                    Some(duration) => self.rouse(cx, Purpose::Sleep(duration)),
                },
                Message::Publish(_) | Message::PubRel { .. } if cx.settings().publish_asleep => {
                    cx.count(Counted::PublishesAsleep);
                    self.rouse(cx, Purpose::Publish(raw.into()));
                }
                Message::PubAck(_)
                | Message::PubRec { .. }
                | Message::PubComp { .. }
                | Message::RegAck(_)
                | Message::PingResp => cx.count(Counted::OutOfState),
                _ => cx.gateway.stranger(cx.now, cx.turn, &self.link.path),
            },
            Phase::Waking(waking) => match message {
                Message::PingReq { .. } => {
                    if let Purpose::Publish(_) = waking.purpose {
                        cx.count(Counted::Busy);
                    }
                }
                _ => cx.count(Counted::Busy),
            },
            Phase::Gone => {}
        }
        self.drive(cx);
    }

    /// A sleeper asks for its messages.
    fn wake(&mut self, cx: &mut Cx<'_>) {
        cx.count(Counted::Wakes);
        if let Some(parking) = self.parking.take()
            && parking.is_pending()
        {
            // Its record does not show it yet: it is opened behind that.
            self.rouse(cx, Purpose::Flush);
            return;
        }
        let broker = cx.gateway.broker();
        let Some(parked) = broker.store().parked(&self.id) else {
            // Lost, or connected elsewhere meanwhile.
            self.phase = Phase::Gone;
            cx.gateway.stranger(cx.now, cx.turn, &self.link.path);
            return;
        };
        if parked.lost_at <= cx.now {
            // Lost, or found at a start: its record knows.
            self.rouse(cx, Purpose::Flush);
            return;
        }
        let queued = broker.client(&self.id).map_or(0, |handle| {
            // Both queues together keep what the sleeper may have; the oldest of QoS 0 goes first.
            let dropped = handle.trim_qos0(parked.waiting, parked.bytes);
            broker.metrics().dropped(DropReason::QueueFullQoS0, dropped);
            handle.queue_len()
        });
        if parked.waiting == 0 && queued == 0 {
            if let Some((shard, touch)) = self.touch_entry(cx) {
                cx.touch(shard, touch);
            }
            self.link.answer(cx, Message::PingResp);
            return;
        }
        self.rouse(cx, Purpose::Flush);
    }

    /// The countdown to its loss begins anew; done when that is kept.
    fn touch(&mut self, cx: &Cx<'_>) -> Ticket {
        let store = cx.gateway.broker().store();
        self.touch_entry(cx).map_or(Ticket::DONE, |(shard, touch)| {
            store.submit(shard, vec![touch], None).ticket
        })
    }

    fn touch_entry(&mut self, cx: &Cx<'_>) -> Option<(u16, SessionEntry)> {
        if let Phase::Asleep { seconds, lost_at } = &mut self.phase {
            *lost_at = cx.now.plus_secs(u64::from(*seconds));
        }
        let store = cx.gateway.broker().store();
        let touch = SessionEntry::Touch {
            client_id: self.id.clone(),
            epoch: store.parked(&self.id)?.epoch,
            now: cx.now,
        };
        Some((store.shard_of(&self.id), touch))
    }

    /// A client that was at another node meanwhile left other things on the air than are remembered here.
    pub(super) fn recall(&mut self, session: &nightjar_broker::Session) {
        if session.before() != self.last {
            self.air = Air::Unknown;
            self.taken = None;
        }
        self.last = session.epoch();
    }

    /// Opens the session of a sleeper.
    fn rouse(&mut self, cx: &Cx<'_>, purpose: Purpose) {
        let Phase::Asleep { seconds, lost_at } = self.phase else {
            return;
        };
        let path = &self.link.path;
        let waking = Waking::new(cx, &self.id, path, purpose, (seconds, lost_at));
        self.phase = Phase::Waking(Box::new(waking));
    }

    /// Does everything that can be done now.
    pub fn drive(&mut self, cx: &mut Cx<'_>) {
        let waker = match &self.waker {
            Some(waker) => waker.clone(),
            None => self.waker.insert(cx.waker()).clone(),
        };
        if let Some(ticket) = &self.parting
            && ticket.poll(Some(&waker)) != Progress::Pending
        {
            let kept = ticket.poll(None) == Progress::Done;
            self.parting = None;
            if kept {
                self.link.answer(cx, Message::Disconnect { duration: None });
            }
        }
        if let Some(ticket) = &self.parking
            && ticket.poll(Some(&waker)) != Progress::Pending
        {
            self.parking = None;
        }
        // Each turn ends in another phase; none comes back within one call.
        for _ in 0..4 {
            match &mut self.phase {
                Phase::Connecting(connecting) => match connecting.poll(&self.link, cx, &waker) {
                    Connected::Pending => return,
                    Connected::Refused(code) => self.refused(cx, code),
                    Connected::Open(session, present, info) => {
                        self.connected(cx, *session, present, info);
                    }
                },
                Phase::Waking(waking) => match waking.poll(cx, &waker) {
                    Connected::Pending => return,
                    Connected::Refused(_) => {
                        self.phase = Phase::Gone;
                        cx.gateway.stranger(cx.now, cx.turn, &self.link.path);
                    }
                    Connected::Open(session, present, info) => {
                        self.woken(cx, *session, present, info);
                    }
                },
                Phase::Live(live) => {
                    let Err(over) = live.pump(&mut self.link, cx, &waker) else {
                        return;
                    };
                    self.over(cx, over);
                }
                Phase::Asleep { .. } | Phase::Gone => return,
            }
        }
    }

    /// A connection is over.
    pub(super) fn over(&mut self, cx: &mut Cx<'_>, over: Over) {
        let Phase::Live(live) = std::mem::replace(&mut self.phase, Phase::Gone) else {
            return;
        };
        let mut live = *live;
        self.taken = live.taken.take();
        self.air = live.air();
        let metrics = cx.gateway.broker().metrics();
        match over {
            Over::Lost(_) if live.doubted > 0 && self.alone => {
                let seconds = live.doubted;
                let _ = self.park(cx, &mut live, seconds);
            }
            Over::Lost(why) => {
                cx.count(why);
                metrics.count(Counter::DisconnectsKeepAlive);
                tracing::debug!(
                    client_id = &*self.id,
                    why = why.name(),
                    "MQTT-SN client lost"
                );
                let expiry = live.clean.then_some(0);
                let _ = live.session.close(CloseKind::Abnormal, expiry, cx.now);
                // One that is silent may be asleep in its own way: it hears that it is lost when it speaks.
                if why == Counted::LostRetries {
                    self.link.answer(cx, Message::Disconnect { duration: None });
                }
            }
            Over::Left => {
                metrics.count(Counter::DisconnectsNormal);
                let expiry = if live.clean {
                    0
                } else {
                    cx.settings().session_expiry
                };
                let _ = live
                    .session
                    .close(CloseKind::Disarmed, Some(expiry), cx.now);
                self.link.answer(cx, Message::Disconnect { duration: None });
            }
            Over::Sleeps(duration) => {
                cx.count(Counted::Sleeps);
                self.claimed = None;
                let ticket = self.park(cx, &mut live, tolerance_secs(duration));
                self.parting = Some(ticket);
            }
            Over::Flushed => {
                self.link.answer(cx, Message::PingResp);
                let seconds = live.awake.as_ref().map_or(0, |awake| awake.seconds);
                let _ = self.park(cx, &mut live, seconds);
            }
            Over::GaveUp | Over::Published => {
                if matches!(over, Over::GaveUp) {
                    cx.count(Counted::WakesGivenUp);
                }
                let seconds = live.awake.as_ref().map_or(0, |awake| awake.seconds);
                let _ = self.park(cx, &mut live, seconds);
            }
            Over::Displaced => {
                metrics.count(Counter::DisconnectsTakenOver);
                live.session.abandon();
                if !self.moving {
                    self.link.answer(cx, Message::Disconnect { duration: None });
                }
            }
            Over::Closed(ReasonCode::ServerShuttingDown) => {
                metrics.count(Counter::DisconnectsServer);
                // It comes back to this node or another one; only if it does not is it lost.
                let seconds = match &live.awake {
                    Some(awake) => awake.seconds,
                    None => u32::try_from(live.keep_alive_ms.div_ceil(1000)).unwrap_or(u32::MAX),
                };
                let asleep = live.awake.is_some();
                let _ = self.park(cx, &mut live, seconds);
                if !asleep {
                    self.link.answer(cx, Message::Disconnect { duration: None });
                }
                self.phase = Phase::Gone;
            }
            Over::Closed(_) | Over::Broken => {
                metrics.count(Counter::DisconnectsServer);
                let _ = live.session.close(CloseKind::Abnormal, None, cx.now);
                self.link.answer(cx, Message::Disconnect { duration: None });
            }
        }
    }

    /// The session goes into its record for so many seconds.
    fn park(&mut self, cx: &Cx<'_>, live: &mut Live, seconds: u32) -> Ticket {
        self.air = live.before_sleep();
        self.asleep_ids = u16::try_from(live.topics.iter().count()).ok();
        let expiry = if live.clean {
            seconds
        } else {
            cx.settings().session_expiry.max(seconds)
        };
        let ticket = live
            .session
            .close(CloseKind::Park(seconds), Some(expiry), cx.now);
        self.phase = Phase::Asleep {
            seconds,
            lost_at: cx.now.plus_secs(u64::from(seconds)),
        };
        self.link.fall_back();
        self.parking = ticket.is_pending().then(|| ticket.clone());
        ticket
    }

    /// Its listener stops: a connection ends, a sleep goes on. False while something is under way that must be waited for.
    pub fn leave(&mut self, cx: &mut Cx<'_>) -> bool {
        if let Phase::Connecting(connecting) = &self.phase
            && connecting.is_asking()
        {
            self.give_up_connect(cx);
        }
        match self.phase {
            Phase::Live(_) => self.over(cx, Over::Closed(ReasonCode::ServerShuttingDown)),
            Phase::Connecting(_) | Phase::Waking(_) => {}
            Phase::Asleep { .. } | Phase::Gone if self.parting.is_none() => return true,
            Phase::Asleep { .. } | Phase::Gone => {}
        }
        self.drive(cx);
        self.parting.is_none() && matches!(self.phase, Phase::Asleep { .. } | Phase::Gone)
    }

    /// Time passed.
    pub fn handle_timeout(&mut self, cx: &mut Cx<'_>) {
        match &mut self.phase {
            Phase::Connecting(connecting) => {
                if connecting.since.plus_millis(HANDSHAKE_MS) <= cx.now {
                    self.give_up_connect(cx);
                }
            }
            Phase::Live(live) => {
                if let Err(over) = live.handle_timeout(&mut self.link, cx) {
                    self.over(cx, over);
                }
            }
            Phase::Asleep { lost_at, .. } => {
                if *lost_at <= cx.now {
                    // The record's own deadline publishes the will.
                    cx.count(Counted::LostAsleep);
                    self.phase = Phase::Gone;
                }
            }
            Phase::Waking(_) | Phase::Gone => {}
        }
        self.drive(cx);
    }
}

/// Is this what only a connected client sends?
const fn speaks_awake(message: &Message<'_>) -> bool {
    matches!(
        message,
        Message::PingReq { client_id: None }
            | Message::Register(_)
            | Message::Publish(_)
            | Message::Subscribe(_)
            | Message::Unsubscribe(_)
            | Message::WillTopicUpd(_)
            | Message::WillMsgUpd { .. }
    )
}
