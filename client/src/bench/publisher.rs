//! The publishing half of a bench client: when the next message is due, and whether it may go.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use futures_util::task::AtomicWaker;
use nightjar_mqtt::packet::PublishHead;
use nightjar_mqtt::{ProtocolVersion, QoS};

use crate::bench::clock::write_stamp;
use crate::bench::stats::WorkerStats;

/// An end-to-end window that sees no delivery for this long is taken as lost and emptied.
const STALL: u64 = 1_000_000_000;

/// Deliveries of one publisher, counted by its subscribers, perhaps on other threads.
#[derive(Default)]
pub struct Flow {
    /// A subscriber is there.
    pub ready: AtomicBool,
    delivered: AtomicU64,
    waker: AtomicWaker,
}

impl Flow {
    /// Subscribers got `count` more.
    pub fn deliver(&self, count: u64) {
        self.delivered.fetch_add(count, Ordering::Release);
        self.waker.wake();
    }
}

/// What all publishers of a run have in common.
#[derive(Debug, Clone)]
pub struct PublishPlan {
    /// Protocol version.
    pub version: ProtocolVersion,
    /// QoS.
    pub qos: QoS,
    /// Retain flag.
    pub retain: bool,
    /// Nanoseconds between two messages of a publisher; 0: no pace.
    pub interval: f64,
    /// Messages of a publisher on their way at most; 0: no limit.
    pub window: u64,
    /// The subscribers are in this process too.
    pub in_process: bool,
    /// The payload has room for a stamp; false for a payload given by the user.
    pub stamped: bool,
    /// Messages of all publishers together; 0: no limit.
    pub limit: u64,
    /// How many publishers there are.
    pub publishers: u32,
}

impl PublishPlan {
    /// Deliveries count against the window.
    pub fn end_to_end(&self) -> bool {
        self.in_process && self.window > 0
    }

    /// QoS 1 and 2 messages of a publisher without acknowledgement, at most `most`; none with QoS 0.
    pub fn inflight(&self, most: u16) -> u16 {
        match (self.qos, self.window) {
            (QoS::AtMostOnce, _) => 0,
            (_, 0) => most,
            (_, window) => u16::try_from(window).unwrap_or(u16::MAX),
        }
    }
}

/// What became of a wish to publish.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Next {
    /// There is more to send at once: the buffer is full.
    More,
    /// Nothing before this time.
    At(u64),
    /// Nothing until a packet or a delivery arrives.
    Wait,
    /// All sent.
    Done,
}

#[derive(Debug, Clone, Copy, Default)]
struct Slot {
    /// 0: free.
    id: u16,
    time: u64,
}

/// One publisher.
pub struct Publisher {
    index: u32,
    topics: Box<[Box<str>]>,
    /// When the first message is due.
    first: u64,
    sequence: u64,
    last_id: u16,
    /// By packet identifier modulo length.
    slots: Box<[Slot]>,
    inflight: u64,
    /// Deliveries taken as lost.
    forgiven: u64,
    /// Deliveries seen when the window was found closed, and when that was.
    closed: Option<(u64, u64)>,
    /// A message was due and could not go.
    held: bool,
}

/// Everything a publisher needs for one round.
pub struct Round<'a> {
    /// The plan.
    pub plan: &'a PublishPlan,
    /// The worker's counters.
    pub stats: &'a WorkerStats,
    /// This publisher's deliveries.
    pub flow: &'a Flow,
    /// Subscribers of each message.
    pub fan: u64,
    /// Messages given out to all publishers, where there is a limit.
    pub issued: &'a AtomicU64,
    /// The time.
    pub now: u64,
    /// The payload; its start is overwritten.
    pub payload: &'a mut [u8],
    /// Packets go here.
    pub out: &'a mut Vec<u8>,
    /// Stop when `out` is this long.
    pub room: usize,
    /// Woken by deliveries.
    pub waker: &'a std::task::Waker,
}

impl Publisher {
    /// A publisher that may have `inflight` unacknowledged messages (0 with QoS 0).
    pub fn new(index: u32, topics: Box<[Box<str>]>, inflight: u16) -> Self {
        Self {
            index,
            topics,
            first: 0,
            sequence: 0,
            last_id: 0,
            slots: vec![Slot::default(); usize::from(inflight)].into_boxed_slice(),
            inflight: 0,
            forgiven: 0,
            closed: None,
            held: false,
        }
    }

    /// The publisher's index.
    pub fn index(&self) -> u32 {
        self.index
    }

    /// Messages without an acknowledgement.
    pub fn inflight(&self) -> u64 {
        self.inflight
    }

    /// Sets when the first message is due.
    pub fn start(&mut self, first: u64) {
        self.first = first;
    }

    /// True once [`Publisher::start`] was called.
    pub fn is_started(&self) -> bool {
        self.first != 0
    }

    fn due(&self, interval: f64) -> u64 {
        // In f64, exact to a microsecond for a month of messages; no error adds up.
        self.first + (self.sequence as f64 * interval) as u64
    }

    /// The packet identifier for the next message; `None` while its slot is taken.
    fn free_id(&self) -> Option<u16> {
        let id = self.last_id.checked_add(1).unwrap_or(1);
        let slot = &self.slots[usize::from(id) % self.slots.len()];
        (slot.id == 0).then_some(id)
    }

    /// Appends what is due and allowed.
    pub fn round(&mut self, round: &mut Round<'_>) -> Next {
        let plan = round.plan;
        loop {
            if round.out.len() >= round.room {
                return Next::More;
            }
            let paced = plan.interval > 0.0;
            let due = if paced {
                self.due(plan.interval)
            } else {
                round.now
            };
            if due > round.now {
                return Next::At(due);
            }
            let id = if plan.qos == QoS::AtMostOnce {
                None
            } else {
                match self.free_id() {
                    None => {
                        self.held = true;
                        return Next::Wait;
                    }
                    id => id,
                }
            };
            if plan.end_to_end()
                && let Some(wait) = self.window_closed(round)
            {
                self.held = true;
                return wait;
            }
            if plan.limit > 0 && round.issued.fetch_add(1, Ordering::Relaxed) >= plan.limit {
                return Next::Done;
            }
            // What the broker held up counts from when it was due, not from when it could go.
            let time = if paced && self.held { due } else { round.now };
            if paced && self.held {
                round.stats.late.add(1);
            }
            self.held = false;
            self.append(round, id, time);
        }
    }

    fn append(&mut self, round: &mut Round<'_>, id: Option<u16>, time: u64) {
        let plan = round.plan;
        if plan.stamped {
            write_stamp(round.payload, time, self.index, self.sequence);
        }
        let turn = (self.sequence % self.topics.len() as u64) as usize;
        let head = PublishHead {
            qos: plan.qos,
            retain: plan.retain,
            topic: &self.topics[turn],
            packet_id: id,
            ..PublishHead::default()
        };
        head.encode_with(plan.version, round.payload, round.out)
            .expect("topic and payload sizes were checked with the flags");
        if let Some(id) = id {
            self.last_id = id;
            let slot = usize::from(id) % self.slots.len();
            self.slots[slot] = Slot { id, time };
            self.inflight += 1;
        }
        self.sequence += 1;
        round.stats.published.add(1);
    }

    /// `None` where the end-to-end window has room.
    fn window_closed(&mut self, round: &Round<'_>) -> Option<Next> {
        let room = round.plan.window * round.fan;
        let sent = self.sequence * round.fan;
        let outstanding = |delivered: u64, forgiven: u64| sent.saturating_sub(delivered + forgiven);
        let mut delivered = round.flow.delivered.load(Ordering::Acquire);
        if outstanding(delivered, self.forgiven) < room {
            self.closed = None;
            return None;
        }
        // Registered first: a delivery between the two looks would be missed otherwise.
        round.flow.waker.register(round.waker);
        delivered = round.flow.delivered.load(Ordering::Acquire);
        if outstanding(delivered, self.forgiven) < room {
            self.closed = None;
            return None;
        }
        let since = match self.closed {
            Some((seen, since)) if seen == delivered => since,
            _ => round.now,
        };
        if round.now >= since + STALL {
            self.forgiven = sent.saturating_sub(delivered);
            self.closed = None;
            round.stats.stalls.add(1);
            return None;
        }
        self.closed = Some((delivered, since));
        Some(Next::At(since + STALL))
    }

    /// PUBACK or PUBCOMP, or a refusing PUBREC, came: frees the slot and returns when the message was
    /// sent. `None` for an identifier that is not in flight.
    pub fn acknowledge(&mut self, id: u16) -> Option<u64> {
        if self.slots.is_empty() {
            return None;
        }
        let slot = usize::from(id) % self.slots.len();
        let slot = &mut self.slots[slot];
        if id == 0 || slot.id != id {
            return None;
        }
        slot.id = 0;
        self.inflight -= 1;
        Some(slot.time)
    }
}

#[cfg(test)]
mod tests {
    use nightjar_mqtt::{Decoded, Decoder, Packet, Role};

    use super::*;
    use crate::bench::clock::read_stamp;

    struct Fixture {
        plan: PublishPlan,
        stats: WorkerStats,
        flow: Flow,
        issued: AtomicU64,
        out: Vec<u8>,
        publisher: Publisher,
    }

    impl Fixture {
        fn new(qos: u8, interval: f64, window: u16, end_to_end: bool) -> Self {
            let qos = QoS::from_bits(qos).unwrap();
            let inflight = if qos == QoS::AtMostOnce { 0 } else { window };
            let mut publisher = Publisher::new(3, [Box::from("t")].into(), inflight);
            publisher.start(1000);
            Self {
                plan: PublishPlan {
                    version: ProtocolVersion::V5,
                    qos,
                    retain: false,
                    interval,
                    window: window.into(),
                    in_process: end_to_end,
                    stamped: true,
                    limit: 0,
                    publishers: 1,
                },
                stats: WorkerStats::default(),
                flow: Flow::default(),
                issued: AtomicU64::new(0),
                out: Vec::new(),
                publisher,
            }
        }

        fn round(&mut self, now: u64) -> Next {
            self.publisher.round(&mut Round {
                plan: &self.plan,
                stats: &self.stats,
                flow: &self.flow,
                fan: 2,
                issued: &self.issued,
                now,
                payload: &mut [0; 16],
                out: &mut self.out,
                room: 10_000,
                waker: std::task::Waker::noop(),
            })
        }

        /// Times and sequences of the packets written.
        fn sent(&self) -> Vec<(u64, u64)> {
            let mut decoder = Decoder::client(ProtocolVersion::V5, u32::MAX);
            decoder.role = Role::Server;
            let mut rest = &self.out[..];
            let mut sent = Vec::new();
            while let Decoded::Packet { packet, consumed } = decoder.decode(rest).unwrap() {
                let Packet::Publish(publish) = packet else {
                    panic!("{packet:?}")
                };
                let stamp = read_stamp(publish.payload).unwrap();
                let source = stamp.source.unwrap();
                assert_eq!(source.publisher, 3);
                sent.push((stamp.time, source.sequence));
                rest = &rest[consumed..];
            }
            sent
        }
    }

    #[test]
    fn a_pace_is_kept_and_made_up_for() {
        let mut fixture = Fixture::new(0, 100.0, 0, false);
        assert_eq!(fixture.round(999), Next::At(1000));
        assert_eq!(fixture.round(1000), Next::At(1100));
        assert_eq!(fixture.round(1350), Next::At(1400));
        assert_eq!(fixture.sent(), [(1000, 0), (1350, 1), (1350, 2), (1350, 3)]);
        assert_eq!(fixture.stats.late.get(), 0);
    }

    #[test]
    fn a_full_window_holds_messages_and_their_wait_counts() {
        let mut fixture = Fixture::new(1, 100.0, 2, false);
        assert_eq!(fixture.round(1150), Next::At(1200));
        assert_eq!(fixture.round(1200), Next::Wait);
        assert_eq!(fixture.publisher.acknowledge(1), Some(1150));
        assert_eq!(fixture.publisher.acknowledge(1), None);
        assert_eq!(fixture.publisher.acknowledge(9), None);
        assert_eq!(fixture.round(5000), Next::Wait);
        // The third was due at 1200 and could go at 5000.
        assert_eq!(fixture.sent().last(), Some(&(1200, 2)));
        assert_eq!(fixture.stats.late.get(), 1);
        assert_eq!(fixture.publisher.inflight(), 2);
    }

    #[test]
    fn the_end_to_end_window_counts_every_subscriber() {
        let mut fixture = Fixture::new(0, 0.0, 3, true);
        assert_eq!(fixture.round(2000), Next::At(2000 + STALL));
        assert_eq!(fixture.sent().len(), 3);
        // One of two subscribers has one message.
        fixture.flow.deliver(1);
        fixture.round(2001);
        assert_eq!(fixture.sent().len(), 4);
        fixture.flow.deliver(5);
        fixture.round(2002);
        assert_eq!(fixture.sent().len(), 6);
    }

    #[test]
    fn lost_deliveries_do_not_close_the_window_for_ever() {
        let mut fixture = Fixture::new(0, 0.0, 3, true);
        fixture.round(2000);
        assert_eq!(fixture.round(1999 + STALL), Next::At(2000 + STALL));
        fixture.round(2000 + STALL);
        assert_eq!(fixture.sent().len(), 6);
        assert_eq!(fixture.stats.stalls.get(), 1);
    }

    #[test]
    fn the_limit_is_shared() {
        let mut fixture = Fixture::new(0, 0.0, 0, false);
        fixture.plan.limit = 10;
        fixture.issued.store(7, Ordering::Relaxed);
        assert_eq!(fixture.round(2000), Next::Done);
        assert_eq!(fixture.sent().len(), 3);
    }

    #[test]
    fn packet_identifiers_wrap_past_zero() {
        let mut fixture = Fixture::new(1, 0.0, 10, false);
        for _ in 0..70_000 / 10 {
            assert_eq!(fixture.round(2000), Next::Wait);
            let ids: Vec<u16> = fixture.publisher.slots.iter().map(|slot| slot.id).collect();
            for id in ids.into_iter().filter(|id| *id > 0) {
                fixture.publisher.acknowledge(id).unwrap();
            }
            fixture.out.clear();
        }
        // The slot of 65535 and that of 1 differ in a window of 10, and none is lost.
        assert_eq!(fixture.publisher.inflight(), 0);
        assert!(fixture.stats.published.get() > 69_000);
    }
}
