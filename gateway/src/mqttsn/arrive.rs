//! How a client comes: its CONNECT and its wake, and what becomes of one that fails.

use std::num::NonZeroU64;
use std::sync::Arc;

use nightjar_broker::shard::CloseKind;
use nightjar_broker::{Counter, Timestamp};
use nightjar_mqttsn::{Connect, Message, ReturnCode};

use super::client::{Client, Phase};
use super::connect::{Asked, Connecting, Previous, Purpose, mountpoint, tolerance_ms};
use super::counters::Counted;
use super::gateway::Cx;
use super::link::Link;
use super::live::{Awake, Begin, Live, Over};
use super::path::Path;

/// A copy of a CONNECT that comes so much later at most is one that the network made, in milliseconds.
const COPY_MS: u64 = 2_000;

/// The last CONNECT, to know it again.
#[derive(Debug, Clone, Copy)]
pub(super) struct LastConnect {
    /// Of all its octets.
    hash: NonZeroU64,
    at: Timestamp,
}

impl Client {
    /// May a CONNECT be the last one once more?
    pub(super) fn is_copy(&self, path: &Path, now: Timestamp, hash: u64) -> bool {
        let hash = NonZeroU64::new(hash).unwrap_or(NonZeroU64::MIN);
        self.last_connect.as_ref().is_some_and(|last| {
            last.hash == hash
                && self.link.path.same_end(path)
                && (self.alone || now < last.at.plus_millis(COPY_MS))
        })
    }

    /// CONNECT came, from this path.
    pub fn on_connect(&mut self, cx: &mut Cx<'_>, path: &Path, connect: &Connect<'_>, raw: &[u8]) {
        if cx.traced.is_some() {
            cx.trace_received(path, &Message::Connect(*connect), None);
        }
        let hash = cx.gateway.hash(raw);
        let copy = self.is_copy(path, cx.now, hash);
        let this = LastConnect {
            hash: NonZeroU64::new(hash).unwrap_or(NonZeroU64::MIN),
            at: cx.now,
        };
        let asked = Asked::from(connect);
        let asleep = matches!(self.phase, Phase::Asleep { .. } | Phase::Waking(_));
        // A sleeper's may be one that the network made, or a new one. With a will the handshake shows it; a session that stays
        // is opened, and put to sleep again if nothing follows; but a session is not ended for a copy.
        if copy && (!asleep || asked.clean && !asked.will) {
            self.link.path.heard_by(path);
            self.link.heard(raw.len());
            cx.count(Counted::ConnectsRepeated);
            match &mut self.phase {
                Phase::Connecting(connecting) => connecting.ask_again(&self.link, cx),
                Phase::Live(_) | Phase::Asleep { .. } | Phase::Waking(_) => {
                    if let Phase::Live(live) = &mut self.phase {
                        live.last_heard = cx.now;
                    } else {
                        self.claimed = Some((asked.keep_alive, asked.clean));
                    }
                    connack(&self.link, cx, ReturnCode::ACCEPTED);
                }
                Phase::Gone => {}
            }
            return;
        }
        if !matches!(self.phase, Phase::Gone) && !self.link.admits(cx.settings(), path) {
            cx.count(Counted::AddressChangesRefused);
            refuse(path, cx, ReturnCode::NOT_SUPPORTED);
            return;
        }
        let address = path.peer.ip();
        let admitted = cx.gateway.admits_session(path, cx.now)
            && (cx.settings().trusts(address)
                || cx.gateway.broker().count_address(address).is_ok());
        if !admitted {
            cx.count(Counted::ConnectsCongested);
            refuse(path, cx, ReturnCode::CONGESTION);
            return;
        }
        self.last_connect = Some(this);
        self.link.move_to(cx, path);
        self.link.heard(raw.len());
        self.begin(cx, path, asked, copy && asleep && !asked.will, None);
        self.drive(cx);
    }

    /// A sleeper whose CONNECT was taken for a copy does what only a connected client does: it was none.
    pub(super) fn believe(&mut self, cx: &mut Cx<'_>, raw: &[u8]) {
        let Some((keep_alive, clean)) = self.claimed else {
            return;
        };
        let asked = Asked {
            will: false,
            clean,
            keep_alive,
        };
        let path = self.link.path.clone();
        self.begin(cx, &path, asked, false, Some(raw.into()));
    }

    /// Opens a session, or begins to. `held` came behind the CONNECT, which has its CONNACK.
    fn begin(
        &mut self,
        cx: &mut Cx<'_>,
        path: &Path,
        asked: Asked,
        doubtful: bool,
        held: Option<Box<[u8]>>,
    ) {
        cx.count(Counted::Connects);
        cx.gateway.broker().metrics().count(Counter::Connects);
        self.alone = held.is_none();
        self.moving = false;
        self.claimed = doubtful.then_some((asked.keep_alive, asked.clean));
        self.parting = None;
        let previous = match std::mem::replace(&mut self.phase, Phase::Gone) {
            Phase::Gone => Previous::Nothing,
            Phase::Live(mut live) => {
                self.taken = live.taken.take();
                Previous::Live(live)
            }
            Phase::Asleep { lost_at, .. } if lost_at <= cx.now => {
                cx.count(Counted::LostAsleep);
                Previous::Nothing
            }
            Phase::Asleep { seconds, lost_at } => Previous::Asleep { seconds, lost_at },
            Phase::Waking(waking) => Previous::Asleep {
                seconds: waking.seconds,
                lost_at: waking.lost_at,
            },
            // It starts over.
            Phase::Connecting(connecting) => connecting.previous,
        };
        let connecting = Connecting {
            doubtful,
            held,
            ..Connecting::new(cx, &self.id, path, asked, previous)
        };
        self.phase = Phase::Connecting(Box::new(connecting));
    }

    /// The session of a CONNECT is open.
    pub(super) fn connected(
        &mut self,
        cx: &mut Cx<'_>,
        session: nightjar_broker::Session,
        present: bool,
        info: Arc<nightjar_broker::access::ClientInfo>,
    ) {
        let Phase::Connecting(connecting) = std::mem::replace(&mut self.phase, Phase::Gone) else {
            return;
        };
        let connecting = *connecting;
        let doubted = match connecting.previous {
            Previous::Live(live) => {
                self.air = live.air();
                live.session.abandon();
                0
            }
            Previous::Asleep { seconds, .. } if connecting.doubtful => seconds,
            Previous::Asleep { .. } | Previous::Nothing => 0,
        };
        self.recall(&session);
        let asked = connecting.asked;
        let begin = Begin {
            session,
            mountpoint: mountpoint(cx.settings(), &info),
            info,
            settings: cx.settings().mqtt.load_full(),
            clean: asked.clean,
            keep_alive_ms: tolerance_ms(asked.keep_alive),
            awake: None,
            air: self.air,
            acl: connecting.acl,
            present,
        };
        let mut live = Live::new(cx, begin);
        live.after_will = asked.will;
        cx.gateway
            .broker()
            .metrics()
            .count(Counter::ConnectsAccepted);
        live.taken = self.taken.take();
        live.doubted = doubted;
        self.phase = Phase::Live(Box::new(live));
        match connecting.held {
            None => connack(&self.link, cx, ReturnCode::ACCEPTED),
            Some(raw) => self.receive_held(cx, &raw),
        }
    }

    /// A message that waited for the session.
    fn receive_held(&mut self, cx: &mut Cx<'_>, raw: &[u8]) {
        if let Ok(frame) = nightjar_mqttsn::Frame::decode(raw)
            && let Phase::Live(live) = &mut self.phase
        {
            let result = live.receive(&mut self.link, cx, frame.message, raw);
            if let Err(over) = result {
                self.over(cx, over);
            }
        }
    }

    /// The session of a sleeper is open.
    pub(super) fn woken(
        &mut self,
        cx: &mut Cx<'_>,
        session: nightjar_broker::Session,
        present: bool,
        info: Arc<nightjar_broker::access::ClientInfo>,
    ) {
        let Phase::Waking(waking) = std::mem::replace(&mut self.phase, Phase::Gone) else {
            return;
        };
        if !present || !session.was_parked() {
            // It ended meanwhile: nothing of it is left behind. Or it was lost: it stays as it was.
            let mut session = session;
            let expiry = if present {
                cx.settings().session_expiry
            } else {
                0
            };
            let _ = session.close(CloseKind::Disarmed, Some(expiry), cx.now);
            if present && waking.lost_at <= cx.now {
                cx.count(Counted::LostAsleep);
            }
            cx.gateway.stranger(cx.now, cx.turn, &self.link.path);
            return;
        }
        self.recall(&session);
        let begin = Begin {
            session,
            mountpoint: mountpoint(cx.settings(), &info),
            info,
            settings: cx.settings().mqtt.load_full(),
            clean: false,
            keep_alive_ms: u64::from(waking.seconds) * 1000,
            awake: Some(Awake {
                seconds: waking.seconds,
                flush: matches!(waking.purpose, Purpose::Flush),
                sent: 0,
            }),
            air: self.air,
            acl: nightjar_broker::acl::AccessCache::new(),
            present,
        };
        let mut live = Live::new(cx, begin);
        live.taken = self.taken.take();
        self.phase = Phase::Live(Box::new(live));
        match waking.purpose {
            Purpose::Flush => {}
            Purpose::Leave => self.over(cx, Over::Left),
            Purpose::Sleep(duration) => self.over(cx, Over::Sleeps(duration)),
            Purpose::Publish(raw) => self.receive_held(cx, &raw),
        }
    }

    /// CONNECT is refused: what was there before stays.
    pub(super) fn refused(&mut self, cx: &mut Cx<'_>, code: ReturnCode) {
        let congested = code == ReturnCode::CONGESTION;
        cx.count(if congested {
            Counted::ConnectsCongested
        } else {
            Counted::ConnectsDenied
        });
        cx.gateway.broker().metrics().count(if congested {
            Counter::ConnectsRefused
        } else {
            Counter::ConnectsDenied
        });
        connack(&self.link, cx, code);
        self.restore();
    }

    pub(super) fn give_up_connect(&mut self, cx: &mut Cx<'_>) {
        cx.count(Counted::ConnectsAbandoned);
        self.restore();
    }

    fn restore(&mut self) {
        self.last_connect = None;
        let Phase::Connecting(connecting) = std::mem::replace(&mut self.phase, Phase::Gone) else {
            return;
        };
        self.link.fall_back();
        self.phase = match connecting.previous {
            Previous::Nothing => Phase::Gone,
            Previous::Live(live) => Phase::Live(live),
            Previous::Asleep { seconds, lost_at } => Phase::Asleep { seconds, lost_at },
        };
    }
}

fn connack(link: &Link, cx: &mut Cx<'_>, return_code: ReturnCode) {
    link.answer(cx, Message::ConnAck { return_code });
}

/// Answers a CONNECT that changes nothing, where it came from.
pub(super) fn refuse(path: &Path, cx: &mut Cx<'_>, return_code: ReturnCode) {
    cx.send(path, Message::ConnAck { return_code });
}
