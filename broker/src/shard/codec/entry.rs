//! Entries of a session shard.

use super::{CodecError, Decoder, Encoder, Result};
use crate::handle::DropReason;
use crate::shard::entry::{
    Ack, AckKind, Close, Enqueue, Open, SessionEntry, Supervision, WillRule,
};

const fn reason_number(reason: DropReason) -> u8 {
    match reason {
        DropReason::QueueFull => 0,
        DropReason::QueueFullQoS0 => 1,
        DropReason::Expired => 2,
        DropReason::TooLarge => 3,
        DropReason::SessionEnded => 4,
        DropReason::Offline => 5,
        DropReason::Denied => 6,
        DropReason::Damaged => 7,
    }
}

const REASONS: [DropReason; 8] = [
    DropReason::QueueFull,
    DropReason::QueueFullQoS0,
    DropReason::Expired,
    DropReason::TooLarge,
    DropReason::SessionEnded,
    DropReason::Offline,
    DropReason::Denied,
    DropReason::Damaged,
];

const OPEN: u8 = 1;
const CLOSE: u8 = 2;
const SUBSCRIBE: u8 = 3;
const UNSUBSCRIBE: u8 = 4;
const PUBLISH: u8 = 5;
const ENQUEUE: u8 = 6;
const ACKS: u8 = 7;
const RECEIVED: u8 = 8;
const RELEASED: u8 = 9;
const END: u8 = 10;
const TICK: u8 = 11;
const FULFILLED: u8 = 12;
const OPEN_SUPERVISED: u8 = 13;
const TOUCH: u8 = 14;
const FRONT: u8 = 15;
const SET_WILL: u8 = 16;
const NODE_GONE: u8 = 17;
const BY: u8 = 18;

impl SessionEntry {
    /// Appends the encoding, without a version byte of its own.
    pub fn encode(&self, out: &mut Vec<u8>) {
        let mut out = Encoder(out);
        let ids = |out: &mut Encoder<'_>, kind, client_id: &str, epoch, ids: &[u16]| {
            out.u8(kind);
            out.text(client_id);
            out.u64(epoch);
            out.len(ids.len());
            ids.iter().for_each(|id| out.u64(u64::from(*id)));
        };
        match self {
            Self::Open(open) => {
                out.u8(match open.supervision {
                    None => OPEN,
                    Some(_) => OPEN_SUPERVISED,
                });
                out.text(&open.client_id);
                out.u8(u8::from(open.clean_start)
                    | u8::from(open.node != 0) << 1
                    | u8::from(open.owner.is_some()) << 2);
                if open.node != 0 {
                    out.u64(open.node);
                }
                out.u64(u64::from(open.expiry));
                out.will(open.will.as_deref());
                out.limits(&open.limits);
                out.u64(u64::from(open.window));
                out.time(open.now);
                if let Some(owner) = &open.owner {
                    out.owner(owner);
                }
                if let Some(supervision) = open.supervision {
                    out.u8(match supervision.will {
                        WillRule::Keep => 0,
                        WillRule::Replace => 1,
                        WillRule::Wake => 2,
                    });
                    out.u64(u64::from(supervision.seconds));
                }
            }
            Self::Close(close) => {
                out.u8(CLOSE);
                out.text(&close.client_id);
                out.u64(close.epoch);
                out.close_kind(close.kind);
                out.u8(u8::from(close.expiry.is_some()));
                if let Some(expiry) = close.expiry {
                    out.u64(u64::from(expiry));
                }
                out.time(close.now);
            }
            Self::Subscribe {
                client_id,
                epoch,
                subs,
            } => {
                out.u8(SUBSCRIBE);
                out.text(client_id);
                out.u64(*epoch);
                out.len(subs.len());
                subs.iter().for_each(|(filter, sub)| out.sub(filter, *sub));
            }
            Self::Unsubscribe {
                client_id,
                epoch,
                filters,
            } => {
                out.u8(UNSUBSCRIBE);
                out.text(client_id);
                out.u64(*epoch);
                out.len(filters.len());
                filters.iter().for_each(|filter| out.text(filter));
            }
            Self::Publish(message) => {
                out.u8(PUBLISH);
                out.message(message);
            }
            Self::Enqueue(enqueue) => {
                out.u8(ENQUEUE);
                out.text(&enqueue.client_id);
                out.message(&enqueue.message);
                out.u8(enqueue.qos as u8
                    | u8::from(enqueue.retain) << 2
                    | u8::from(enqueue.checked) << 3);
                out.u64(u64::from(enqueue.sub_id));
                out.group(enqueue.group.as_ref());
            }
            Self::Acks {
                client_id,
                epoch,
                acks,
            } => {
                out.u8(ACKS);
                out.text(client_id);
                out.u64(*epoch);
                out.len(acks.len());
                for ack in acks {
                    out.u64(ack.seq);
                    out.u8(match ack.kind {
                        AckKind::Done => 0,
                        AckKind::Received => 1,
                        AckKind::Discarded(reason) => 2 + reason_number(reason),
                    });
                }
            }
            Self::Received {
                client_id,
                epoch,
                ids: list,
            } => ids(&mut out, RECEIVED, client_id, *epoch, list),
            Self::Released {
                client_id,
                epoch,
                ids: list,
            } => ids(&mut out, RELEASED, client_id, *epoch, list),
            Self::End { client_id } => {
                out.u8(END);
                out.text(client_id);
            }
            Self::Tick { now } => {
                out.u8(TICK);
                out.time(*now);
            }
            Self::Touch {
                client_id,
                epoch,
                now,
            } => {
                out.u8(TOUCH);
                out.text(client_id);
                out.u64(*epoch);
                out.time(*now);
            }
            Self::Front {
                client_id,
                epoch,
                append,
                octets,
            } => {
                out.u8(FRONT);
                out.text(client_id);
                out.u64(*epoch);
                out.u8(u8::from(*append));
                out.bytes(octets);
            }
            Self::SetWill {
                client_id,
                epoch,
                will,
            } => {
                out.u8(SET_WILL);
                out.text(client_id);
                out.u64(*epoch);
                out.will(will.as_deref());
            }
            Self::NodeGone { node, kind, now } => {
                out.u8(NODE_GONE);
                out.u64(*node);
                out.close_kind(*kind);
                out.time(*now);
            }
            Self::By {
                client_id,
                epoch,
                count,
            } => {
                out.u8(BY);
                out.text(client_id);
                out.u64(*epoch);
                out.u64(*count);
            }
            Self::Fulfilled { duties } => {
                out.u8(FULFILLED);
                out.len(duties.len());
                duties.iter().for_each(|duty| out.u64(*duty));
            }
        }
    }

    /// Reads one entry.
    ///
    /// # Errors
    /// [`CodecError`].
    pub fn decode(from: &mut Decoder<'_>) -> Result<Self> {
        let kind = from.u8("entry")?;
        Ok(match kind {
            OPEN | OPEN_SUPERVISED => {
                let client_id = from.client_id()?;
                let bits = from.u8("clean start")?;
                if bits & !7 != 0 {
                    return Err(CodecError::Invalid("clean start"));
                }
                let node = if bits & 2 != 0 { from.u64("node")? } else { 0 };
                let mut open = Open {
                    client_id,
                    node,
                    clean_start: bits & 1 != 0,
                    expiry: from.number("session expiry")?,
                    will: from.will()?,
                    limits: from.limits()?,
                    window: from.number("window")?,
                    supervision: None,
                    owner: None,
                    now: from.time("time")?,
                };
                if bits & 4 != 0 {
                    open.owner = Some(Box::new(from.owner()?));
                }
                if kind == OPEN_SUPERVISED {
                    let will = match from.u8("will rule")? {
                        0 => WillRule::Keep,
                        1 => WillRule::Replace,
                        2 => WillRule::Wake,
                        _ => return Err(CodecError::Invalid("will rule")),
                    };
                    let seconds = from.number("supervision")?;
                    open.supervision = Some(Supervision { will, seconds });
                }
                Self::Open(Box::new(open))
            }
            TOUCH => Self::Touch {
                client_id: from.client_id()?,
                epoch: from.u64("epoch")?,
                now: from.time("time")?,
            },
            FRONT => Self::Front {
                client_id: from.client_id()?,
                epoch: from.u64("epoch")?,
                append: from.flag("front-end state")?,
                octets: from.bytes("front-end state")?.into(),
            },
            SET_WILL => Self::SetWill {
                client_id: from.client_id()?,
                epoch: from.u64("epoch")?,
                will: from.will()?,
            },
            CLOSE => Self::Close(Close {
                client_id: from.client_id()?,
                epoch: from.u64("epoch")?,
                kind: from.close_kind()?,
                expiry: if from.flag("session expiry")? {
                    Some(from.number("session expiry")?)
                } else {
                    None
                },
                now: from.time("time")?,
            }),
            SUBSCRIBE => Self::Subscribe {
                client_id: from.client_id()?,
                epoch: from.u64("epoch")?,
                subs: from.list("subscriptions", Decoder::sub)?,
            },
            UNSUBSCRIBE => Self::Unsubscribe {
                client_id: from.client_id()?,
                epoch: from.u64("epoch")?,
                filters: from.list("topic filters", Decoder::filter)?,
            },
            PUBLISH => Self::Publish(from.message()?),
            ENQUEUE => {
                let client_id = from.client_id()?;
                let message = from.message()?;
                let bits = from.u8("delivery")?;
                if bits & 0xf0 != 0 {
                    return Err(CodecError::Invalid("delivery"));
                }
                Self::Enqueue(Box::new(Enqueue {
                    client_id,
                    message,
                    qos: Decoder::qos(bits & 3)?,
                    retain: bits & 4 != 0,
                    checked: bits & 8 != 0,
                    sub_id: from.number("subscription identifier")?,
                    group: from.group()?,
                }))
            }
            ACKS => Self::Acks {
                client_id: from.client_id()?,
                epoch: from.u64("epoch")?,
                acks: from.list("acknowledgements", |from| {
                    let seq = from.u64("delivery sequence")?;
                    let kind = match from.u8("acknowledgement")? {
                        0 => AckKind::Done,
                        1 => AckKind::Received,
                        other => AckKind::Discarded(
                            *REASONS
                                .get(usize::from(other) - 2)
                                .ok_or(CodecError::Invalid("acknowledgement"))?,
                        ),
                    };
                    Ok(Ack { seq, kind })
                })?,
            },
            RECEIVED | RELEASED => {
                let client_id = from.client_id()?;
                let epoch = from.u64("epoch")?;
                let ids = from.list("packet ids", |from| from.number("packet id"))?;
                if kind == RECEIVED {
                    Self::Received {
                        client_id,
                        epoch,
                        ids,
                    }
                } else {
                    Self::Released {
                        client_id,
                        epoch,
                        ids,
                    }
                }
            }
            END => Self::End {
                client_id: from.client_id()?,
            },
            TICK => Self::Tick {
                now: from.time("time")?,
            },
            NODE_GONE => Self::NodeGone {
                node: from.u64("node")?,
                kind: from.close_kind()?,
                now: from.time("time")?,
            },
            BY => Self::By {
                client_id: from.client_id()?,
                epoch: from.u64("epoch")?,
                count: from.u64("entries")?,
            },
            FULFILLED => Self::Fulfilled {
                duties: from.list("duties", |from| from.u64("duty"))?,
            },
            _ => return Err(CodecError::Invalid("kind of entry")),
        })
    }
}
