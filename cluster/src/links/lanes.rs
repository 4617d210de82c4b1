//! What waits to be written to a link, in lanes: control goes first, whatever waits in the others.
//!
//! Leases, votes, heartbeats and acknowledgements are small and must not wait. The log of consensus and the bulk (routes,
//! messages, snapshots) have a portion each turn, and a frame larger than that is cut into pieces. Of the bulk no more is
//! on its way than the other side has room for: it reads all of it at once and applies it in a task of its own, so what
//! comes behind is read whether that keeps up or not. The order within a lane is kept, between lanes there is none: an
//! acknowledgement that goes first is made when what it acknowledges is done.

use std::collections::VecDeque;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use bytes::Bytes;
use parking_lot::Mutex;
use tokio::io::{AsyncWrite, AsyncWriteExt};
use tokio::sync::Notify;
use tokio::time::{Instant, timeout};

use super::frame::{MAX, Seal};
use super::kind;

/// Bytes of one lane in one turn.
pub(super) const PORTION: usize = 64 << 10;
/// Bytes of bulk on their way which the other side has not applied.
pub(super) const WINDOW: u64 = 2 << 20;
/// What a frame costs beside its content.
const OVERHEAD: usize = 16;
/// So often a silent link says something.
const PING: Duration = Duration::from_secs(1);

/// How urgent a frame is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Lane {
    /// Before everything else; small.
    Control,
    /// Entries of the log, and what makes them.
    Log,
    /// What may take its time.
    Bulk,
}

impl Lane {
    /// The lane of a kind of frame; that of a request depends on what it asks.
    pub(super) const fn of(kind: u8) -> Self {
        match kind {
            kind::PROPOSE => Self::Log,
            kind::ROUTES | kind::FORWARD | kind::FORWARD_QOS0 | kind::GATEWAY => Self::Bulk,
            _ => Self::Control,
        }
    }
}

/// Frames of which a later one says all that an earlier one did: one that still waits is replaced.
const NEWEST: [u8; 4] = [
    kind::CREDIT,
    kind::APPLIED,
    kind::ROUTES_ACK,
    kind::FORWARD_ACK,
];

/// One frame as it is written.
#[derive(Debug)]
struct Wire {
    kind: u8,
    /// Kind and end of what was put into a lane.
    head: [u8; 2],
    headed: bool,
    body: Bytes,
}

#[derive(Default)]
struct State {
    newest: [Option<Bytes>; NEWEST.len()],
    control: VecDeque<(u8, Bytes)>,
    log: VecDeque<(u8, Bytes)>,
    bulk: VecDeque<(u8, Bytes)>,
    /// Bytes of bulk that were written, and that the other side has applied.
    sent: u64,
    credited: u64,
    closed: bool,
}

/// What waits to be written to one end of a link.
#[derive(Default)]
pub(super) struct Lanes {
    state: Mutex<State>,
    wake: Notify,
    queued: AtomicUsize,
}

impl std::fmt::Debug for Lanes {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Lanes").finish_non_exhaustive()
    }
}

fn number(body: &[u8]) -> Option<u64> {
    body.first_chunk::<8>().map(|it| u64::from_le_bytes(*it))
}

/// Takes a portion of a queue; its cost.
fn portion(queue: &mut VecDeque<(u8, Bytes)>, lane: u8, out: &mut Vec<Wire>) -> u64 {
    let mut taken = 0;
    while let Some((kind, body)) = queue.front_mut() {
        let rest = body.len() > PORTION;
        let cost = body.len().min(PORTION) + OVERHEAD;
        if taken > 0 && taken + cost > PORTION {
            break;
        }
        let (kind, body) = if rest {
            (*kind, body.split_to(PORTION))
        } else {
            let whole = (*kind, std::mem::take(body));
            queue.pop_front();
            whole
        };
        out.push(Wire {
            kind: lane,
            head: [kind, u8::from(!rest)],
            headed: true,
            body,
        });
        taken += cost;
    }
    taken as u64
}

impl Lanes {
    pub fn new() -> Arc<Self> {
        Arc::default()
    }

    /// Bytes that wait.
    pub fn queued(&self) -> usize {
        self.queued.load(Ordering::Relaxed)
    }

    /// Puts a frame behind those of its lane; false if the link has ended.
    pub fn push(&self, lane: Lane, kind: u8, body: Bytes) -> bool {
        {
            let mut state = self.state.lock();
            if state.closed {
                return false;
            }
            let len = body.len();
            if let Some(slot) = NEWEST.iter().position(|newest| *newest == kind) {
                let slot = &mut state.newest[slot];
                let numbers = matches!(kind, kind::CREDIT | kind::APPLIED);
                // What is told now and then may be older than what an event told.
                let older = numbers && slot.as_deref().and_then(number) > number(&body);
                if !older {
                    *slot = Some(body);
                }
            } else {
                self.queued.fetch_add(len, Ordering::Relaxed);
                match lane {
                    Lane::Control if len <= PORTION => state.control.push_back((kind, body)),
                    Lane::Control | Lane::Log => state.log.push_back((kind, body)),
                    Lane::Bulk => state.bulk.push_back((kind, body)),
                }
            }
        }
        self.wake.notify_one();
        true
    }

    /// The other side has applied so many bytes of bulk since the link began.
    pub fn credit(&self, body: &[u8]) {
        let Some(total) = number(body) else { return };
        {
            let mut state = self.state.lock();
            state.credited = state.credited.max(total.min(state.sent));
        }
        self.wake.notify_one();
    }

    /// The link has ended: nothing waits any more, nothing is taken.
    pub fn close(&self) {
        let mut state = self.state.lock();
        *state = State {
            closed: true,
            ..State::default()
        };
        self.queued.store(0, Ordering::Relaxed);
        drop(state);
        self.wake.notify_one();
    }

    /// What goes in one turn: control first, then a portion of each other lane. False when the link has ended.
    fn turn(&self, out: &mut Vec<Wire>) -> bool {
        let mut state = self.state.lock();
        let state = &mut *state;
        let begin = out.len();
        for (slot, kind) in state.newest.iter_mut().zip(NEWEST) {
            out.extend(slot.take().map(|body| Wire::plain(kind, body)));
        }
        let acks = out.len();
        let mut room = PORTION;
        while room > 0
            && let Some((kind, body)) = state.control.pop_front()
        {
            room = room.saturating_sub(body.len() + OVERHEAD);
            out.push(Wire::plain(kind, body));
        }
        portion(&mut state.log, kind::LOG, out);
        if state.sent - state.credited < WINDOW {
            state.sent += portion(&mut state.bulk, kind::BULK, out);
        }
        let bytes: usize = out[begin.max(acks)..].iter().map(|it| it.body.len()).sum();
        self.queued.fetch_sub(bytes, Ordering::Relaxed);
        !state.closed
    }

    /// Writes what waits until the link ends. `pings`: a silent link says something.
    pub async fn write(
        &self,
        mut sealing: Seal,
        mut writing: impl AsyncWrite + Unpin,
        pings: bool,
    ) -> io::Result<()> {
        let (mut frames, mut buffer) = (Vec::new(), Vec::new());
        let mut pinged = Instant::now();
        loop {
            buffer.clear();
            if pings && pinged.elapsed() >= PING {
                // Also between frames that nobody answers.
                pinged = Instant::now();
                sealing.put(&mut buffer, kind::PING, &[], &[]);
            }
            if !self.turn(&mut frames) {
                return Ok(());
            }
            for Wire {
                kind,
                head,
                headed,
                body,
            } in frames.drain(..)
            {
                sealing.put(&mut buffer, kind, if headed { &head } else { &[] }, &body);
            }
            if !buffer.is_empty() {
                writing.write_all(&buffer).await?;
                writing.flush().await?;
            } else if pings {
                // Either it is time for the next one, or there is something.
                let _ = timeout(PING.saturating_sub(pinged.elapsed()), self.wake.notified()).await;
            } else {
                self.wake.notified().await;
            }
        }
    }
}

impl Wire {
    const fn plain(kind: u8, body: Bytes) -> Self {
        Self {
            kind,
            head: [0; 2],
            headed: false,
            body,
        }
    }
}

/// Bytes that a frame of the bulk counts as, on both sides.
pub(super) const fn cost(wire: &Bytes) -> u64 {
    (wire.len().saturating_sub(2) + OVERHEAD) as u64
}

/// Frames that come in pieces, put together.
#[derive(Default)]
pub(super) struct Pieces {
    log: Vec<u8>,
    bulk: Vec<u8>,
}

impl Pieces {
    /// A frame of a lane came; kind and content if it is whole now.
    pub fn take(&mut self, lane: u8, wire: &Bytes) -> io::Result<Option<(u8, Bytes)>> {
        let bad = |what| Err(io::Error::new(io::ErrorKind::InvalidData, what));
        let begun = if lane == kind::LOG {
            &mut self.log
        } else {
            &mut self.bulk
        };
        let (&[kind, last], rest) = match wire.split_first_chunk::<2>() {
            Some((head, _)) => (head, wire.slice(2..)),
            None => return bad("a piece of a frame without its kind"),
        };
        match last {
            1 if begun.is_empty() => return Ok(Some((kind, rest))),
            0 | 1 if begun.len() + rest.len() <= MAX => begun.extend_from_slice(&rest),
            0 | 1 => return bad("a frame that is too large"),
            _ => return bad("a piece of a frame that is neither the last nor another"),
        }
        Ok((last == 1).then(|| (kind, Bytes::from(std::mem::take(begun)))))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn turn(lanes: &Lanes) -> Vec<Wire> {
        let mut out = Vec::new();
        assert!(lanes.turn(&mut out));
        out
    }

    #[test]
    fn control_goes_next_however_much_bulk_waits_and_bulk_goes_in_portions() {
        let lanes = Lanes::new();
        for _ in 0..1000 {
            lanes.push(Lane::Bulk, kind::ROUTES, Bytes::from(vec![1; 10_000]));
        }
        lanes.push(Lane::Log, kind::PROPOSE, Bytes::from(vec![2; 3 * PORTION]));
        turn(&lanes);
        lanes.push(Lane::Control, kind::REQUEST, Bytes::from_static(b"lease"));
        let out = turn(&lanes);
        assert_eq!(
            (out[0].kind, &out[0].body[..]),
            (kind::REQUEST, &b"lease"[..])
        );
        let behind: usize = out[1..].iter().map(|it| it.body.len()).sum();
        assert!(
            behind <= 2 * PORTION,
            "{behind} bytes go with one turn of control"
        );
        assert!(out.iter().any(|it| it.kind == kind::BULK), "the bulk waits");
        assert!(out.iter().any(|it| it.kind == kind::LOG), "the log waits");
    }

    #[test]
    fn no_more_bulk_is_on_its_way_than_there_is_room_for() {
        let lanes = Lanes::new();
        for _ in 0..1000 {
            lanes.push(Lane::Bulk, kind::FORWARD, Bytes::from(vec![1; 10_000]));
        }
        let mut sent = 0;
        loop {
            let out = turn(&lanes);
            if out.is_empty() {
                break;
            }
            sent += out.iter().map(|it| it.body.len() as u64).sum::<u64>();
        }
        assert!(sent <= WINDOW + PORTION as u64, "{sent} bytes");
        lanes.credit(&(WINDOW / 2).to_le_bytes());
        assert!(!turn(&lanes).is_empty(), "there is room again");
        assert_eq!(lanes.queued() % 10_000, 0);
    }

    #[test]
    fn pieces_come_together_and_order_within_a_lane_is_kept() {
        let lanes = Lanes::new();
        let large: Vec<u8> = (0..3 * PORTION + 5).map(|at| at as u8).collect();
        lanes.push(Lane::Bulk, kind::FORWARD, Bytes::from(large.clone()));
        lanes.push(Lane::Bulk, kind::ROUTES, Bytes::from_static(b"behind"));
        lanes.push(Lane::Bulk, kind::FORWARD, Bytes::new());
        let mut pieces = Pieces::default();
        let mut found = Vec::new();
        loop {
            let out = turn(&lanes);
            if out.is_empty() {
                break;
            }
            for it in out {
                assert!(it.body.len() <= PORTION);
                let wire = Bytes::from([&it.head[..], &it.body].concat());
                found.extend(pieces.take(it.kind, &wire).unwrap());
            }
        }
        let kinds: Vec<u8> = found.iter().map(|(kind, _)| *kind).collect();
        assert_eq!(kinds, [kind::FORWARD, kind::ROUTES, kind::FORWARD]);
        assert_eq!(found[0].1, large);
        assert_eq!(&found[1].1[..], b"behind");
        for bad in [&b"\x03"[..], b"\x03\x02x"] {
            let bad = Bytes::copy_from_slice(bad);
            assert!(pieces.take(kind::BULK, &bad).is_err());
        }
    }

    #[test]
    fn a_later_acknowledgement_takes_the_place_of_one_that_waits_and_never_an_earlier_one() {
        let lanes = Lanes::new();
        for index in [7u64, 9, 8] {
            let body = Bytes::copy_from_slice(&index.to_le_bytes());
            lanes.push(Lane::Control, kind::APPLIED, body);
        }
        for body in [&b"1"[..], b"2"] {
            lanes.push(Lane::Control, kind::ROUTES_ACK, Bytes::from_static(body));
        }
        let out = turn(&lanes);
        let told: Vec<(u8, &[u8])> = out.iter().map(|it| (it.kind, &it.body[..])).collect();
        let nine = 9u64.to_le_bytes();
        assert_eq!(
            told,
            [(kind::APPLIED, &nine[..]), (kind::ROUTES_ACK, &b"2"[..])]
        );
        lanes.close();
        assert!(!lanes.push(Lane::Control, kind::APPLIED, Bytes::new()));
        assert!(!lanes.turn(&mut Vec::new()));
    }
}
