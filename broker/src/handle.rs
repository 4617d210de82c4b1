//! The node-local, shared part of a session: its outbox, its subscriptions, and who is connected.
//!
//! The router's targets point here. One task (the connection) drains it; any thread may push.
//! Lock order: a router lock is never held when `outbox` is taken; `subs` is taken before the router's locks.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::task::Waker;

use crate::sync::Mutex;
use nightjar_mqtt::{QoS, ReasonCode, TopicFilter, TopicName};

use crate::access::ClientInfo;
use crate::delivery::Delivery;
use crate::lazy::Lazy;
use crate::message::Message;
use crate::metrics::Counter;
use crate::settings::{QueueLimits, QueuePolicy};
use crate::subs::SubTable;
use crate::subscription::Subscription;
use crate::ticket::Completion;
use crate::time::Timestamp;

/// Why a message was not delivered: each has a counter.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum DropReason {
    /// The session's queue was full.
    QueueFull,
    /// A QoS 0 message met a full queue.
    QueueFullQoS0,
    /// The message expiry interval passed while it waited.
    Expired,
    /// Larger than the client's Maximum Packet Size.
    TooLarge,
    /// The session ended with the message in its queue.
    SessionEnded,
    /// A QoS 0 message for a client that is offline, with `queue_qos0` off.
    Offline,
    /// A deny rule that overlaps the subscription.
    Denied,
    /// The file that held it while it waited does not check any more.
    Damaged,
}

impl DropReason {
    /// All reasons.
    pub const ALL: [Self; 8] = [
        Self::QueueFull,
        Self::QueueFullQoS0,
        Self::Expired,
        Self::TooLarge,
        Self::SessionEnded,
        Self::Offline,
        Self::Denied,
        Self::Damaged,
    ];

    /// Its counter.
    #[must_use]
    pub const fn counter(self) -> Counter {
        match self {
            Self::QueueFull => Counter::DroppedQueueFull,
            Self::QueueFullQoS0 => Counter::DroppedQueueFullQoS0,
            Self::Expired => Counter::DroppedExpired,
            Self::TooLarge => Counter::DroppedTooLarge,
            Self::SessionEnded => Counter::DroppedSessionEnded,
            Self::Offline => Counter::DroppedOffline,
            Self::Denied => Counter::DroppedDenied,
            Self::Damaged => Counter::DroppedDamaged,
        }
    }

    /// The reason as metrics and lists name it.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::QueueFull => "queue_full",
            Self::QueueFullQoS0 => "qos0_queue_full",
            Self::Expired => "expired",
            Self::TooLarge => "too_large",
            Self::SessionEnded => "session_ended",
            Self::Offline => "offline",
            Self::Denied => "denied",
            Self::Damaged => "damaged",
        }
    }
}

/// What another part of the broker asks of the connection.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Signal {
    /// Another connection took this client id: 0x8E.
    TakenOver,
    /// Close with this code: kick, ban, shutdown, drain.
    Close(ReasonCode),
}

/// A signal, or who waits for one and for nothing else.
#[derive(Debug)]
enum Call {
    Signal(Signal),
    Waiter(Waker),
}

/// The outcome of [`SessionHandle::push`].
#[derive(Debug)]
pub struct Pushed {
    /// To be woken when the publisher's batch ends.
    pub waker: Option<Waker>,
    /// What became of the queue.
    pub outcome: PushOutcome,
    /// The topic of the older message that had to go.
    pub victim: Option<TopicName>,
}

impl Pushed {
    const fn not(outcome: PushOutcome) -> Self {
        Self {
            waker: None,
            outcome,
            victim: None,
        }
    }
}

/// What became of a push.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PushOutcome {
    /// Queued.
    Queued,
    /// Queued, and the queue of a connected receiver is more than half full: QoS 1/2 publishers should wait.
    Pressed,
    /// Queued, and an older message had to go.
    DroppedOldest(DropReason),
    /// Not queued.
    Dropped(DropReason),
    /// Not queued, and the publisher is to be told (queue_policy = "reject").
    Rejected,
    /// The session is gone.
    Closed,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Connected,
    Offline,
    Closed,
}

#[derive(Debug)]
struct Outbox {
    state: State,
    /// The session cannot take QoS 1/2 now (window full): pushes of those need no wake.
    blocked: bool,
    /// A publisher waited in vain for room: until the queue is below half again, the policy applies at once.
    gave_up: bool,
    /// Room in the window of QoS 1/2 messages when the connection last looked; `u16::MAX`: it has not.
    free: u16,
    stamp: u32,
    bytes: usize,
    qos0: VecDeque<Delivery>,
    qos12: VecDeque<Delivery>,
    waker: Option<Waker>,
    call: Option<Box<Call>>,
    /// Publishers that wait for room.
    stalled: Lazy<Vec<Arc<Completion>>>,
    limits: Arc<QueueLimits>,
}

/// Counts of one session, for its list entry. Its connection adds once for each read and each write, not for each
/// packet.
#[derive(Debug, Default)]
pub struct SessionCounts {
    /// PUBLISH packets taken from the client.
    pub received: AtomicU64,
    /// PUBLISH packets sent to the client.
    pub sent: AtomicU64,
    /// Packets taken from the client.
    pub packets_received: AtomicU64,
    /// Packets sent to the client.
    pub packets_sent: AtomicU64,
    /// Bytes read from the client.
    pub bytes_received: AtomicU64,
    /// Bytes written to the client.
    pub bytes_sent: AtomicU64,
}

/// What a list says of a session's connection beyond [`ClientInfo`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Facts {
    /// When the session came to be on this node; 0: not known.
    pub created_at: Timestamp,
    /// When its last connection was opened; 0: not known.
    pub connected_at: Timestamp,
    /// When its last connection ended; 0: never.
    pub disconnected_at: Timestamp,
    /// Session Expiry Interval, seconds; `u32::MAX` never expires.
    pub expiry: u32,
    /// Keep Alive in force, seconds; 0: none.
    pub keep_alive: u16,
    /// QoS 1/2 messages that may be unacknowledged at a time.
    pub window: u16,
    /// Clean Start of the last CONNECT.
    pub clean_start: bool,
}

/// The queue of a session at one moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct QueueState {
    /// Is a connection attached?
    pub connected: bool,
    /// Messages that wait on this node.
    pub len: usize,
    /// Bytes they are counted with.
    pub bytes: usize,
    /// Most messages that may wait.
    pub max_len: usize,
    /// Most bytes.
    pub max_bytes: usize,
    /// QoS 1/2 messages that were sent and not acknowledged when the queue was last looked at.
    pub inflight: usize,
}

/// The shared part of one session on this node.
#[derive(Debug)]
pub struct SessionHandle {
    client_id: Arc<str>,
    durable: bool,
    /// Raised with each connection that owns the session.
    epoch: AtomicU64,
    outbox: Mutex<Outbox>,
    subs: Mutex<SubTable>,
    attached: Mutex<(Arc<ClientInfo>, Facts)>,
    /// Counts of this session.
    pub counts: SessionCounts,
    /// Messages dropped, all reasons. Not among the other counts, where it would take twice the room.
    pub dropped: AtomicU32,
}

impl SessionHandle {
    /// A handle for a session that a connection is about to own.
    #[must_use]
    pub fn new(
        info: Arc<ClientInfo>,
        durable: bool,
        epoch: u64,
        limits: Arc<QueueLimits>,
    ) -> Arc<Self> {
        Arc::new(Self {
            client_id: info.client_id.clone(),
            durable,
            epoch: AtomicU64::new(epoch),
            outbox: Mutex::new(Outbox {
                state: State::Connected,
                blocked: false,
                gave_up: false,
                free: u16::MAX,
                stamp: 0,
                bytes: 0,
                qos0: VecDeque::new(),
                qos12: VecDeque::new(),
                waker: None,
                call: None,
                stalled: Lazy::default(),
                limits,
            }),
            subs: Mutex::new(SubTable::default()),
            attached: Mutex::new((info, Facts::default())),
            counts: SessionCounts::default(),
            dropped: AtomicU32::new(0),
        })
    }

    /// Client identifier.
    #[must_use]
    pub const fn client_id(&self) -> &Arc<str> {
        &self.client_id
    }

    /// Is the session's queue of QoS 1/2 messages kept by a durable shard?
    #[must_use]
    #[inline]
    pub const fn is_durable(&self) -> bool {
        self.durable
    }

    /// Epoch of the connection that owns it.
    #[must_use]
    pub fn epoch(&self) -> u64 {
        self.epoch.load(Ordering::Acquire)
    }

    /// Who is, or was last, connected.
    #[must_use]
    pub fn info(&self) -> Arc<ClientInfo> {
        self.attached.lock().0.clone()
    }

    /// Who is, or was last, connected, and what is known of that connection.
    #[must_use]
    pub fn about(&self) -> (Arc<ClientInfo>, Facts) {
        let attached = self.attached.lock();
        (attached.0.clone(), attached.1)
    }

    /// Changes what is known of the connection.
    pub fn update_facts(&self, change: impl FnOnce(&mut Facts)) {
        change(&mut self.attached.lock().1);
    }

    /// The queue as it is now.
    #[must_use]
    pub fn queue_state(&self) -> QueueState {
        let window = usize::from(self.attached.lock().1.window);
        let outbox = self.outbox.lock();
        QueueState {
            connected: outbox.state == State::Connected,
            len: outbox.qos0.len() + outbox.qos12.len(),
            bytes: outbox.bytes,
            max_len: outbox.limits.max_len,
            max_bytes: outbox.limits.max_bytes,
            inflight: match outbox.free {
                u16::MAX => 0,
                free => window.saturating_sub(usize::from(free)),
            },
        }
    }

    /// Is a connection attached?
    #[must_use]
    pub fn is_connected(&self) -> bool {
        self.outbox.lock().state == State::Connected
    }

    /// Attaches a new connection to a durable session's handle. What durable deliveries the old connection had not
    /// taken are forgotten here: the shard sends them again. False if a newer connection has it already.
    pub fn attach(&self, info: Arc<ClientInfo>, epoch: u64, limits: Arc<QueueLimits>) -> bool {
        let (waker, waiter) = {
            let mut outbox = self.outbox.lock();
            if self.epoch() >= epoch {
                return false;
            }
            self.epoch.store(epoch, Ordering::Release);
            self.attached.lock().0 = info;
            outbox.state = State::Connected;
            let call = outbox.call.take();
            outbox.blocked = false;
            outbox.free = u16::MAX;
            outbox.limits = limits;
            outbox.clear_qos12();
            (outbox.waker.take(), call)
        };
        if let Some(waker) = waker {
            waker.wake();
        }
        if let Some(Call::Waiter(waker)) = waiter.map(|call| *call) {
            waker.wake();
        }
        true
    }

    /// The connection of `epoch` left; the session stays. False if another connection owns it meanwhile.
    pub fn detach(&self, epoch: u64) -> bool {
        let mut outbox = self.outbox.lock();
        if self.epoch() != epoch || outbox.state != State::Connected {
            return false;
        }
        outbox.state = State::Offline;
        outbox.waker = None;
        outbox.call = None;
        outbox.clear_qos12();
        outbox.release_stalled();
        true
    }

    /// The session ended: returns what was queued. Later pushes are answered with [`PushOutcome::Closed`].
    pub fn close(&self) -> Vec<Delivery> {
        let mut outbox = self.outbox.lock();
        outbox.state = State::Closed;
        outbox.bytes = 0;
        outbox.release_stalled();
        let mut left: Vec<Delivery> = std::mem::take(&mut outbox.qos12).into();
        left.extend(std::mem::take(&mut outbox.qos0));
        left
    }

    /// Queues a delivery. Never blocks for long, never allocates beyond the queue's own growth.
    #[inline]
    pub fn push(&self, delivery: Delivery) -> Pushed {
        let mut outbox = self.outbox.lock();
        let connected = match outbox.state {
            State::Connected => true,
            State::Offline => false,
            State::Closed => return Pushed::not(PushOutcome::Closed),
        };
        outbox.put(delivery, connected)
    }

    /// Queues messages of QoS 0 under one lock, as [`Self::push`] one after the other would: the same limits, the same
    /// policy. `bytes` is the cost of all of them. What was not simply queued is put into `others`, with its place among
    /// `messages`. The waker is to be woken when the publisher's batch ends.
    pub(crate) fn push_run(
        &self,
        messages: &[Message],
        bytes: usize,
        sub: Subscription,
        others: &mut Vec<(usize, Pushed)>,
    ) -> Option<Waker> {
        let Subscription { options, id } = sub;
        let (checked, keeps_retain) = (options.checked(), options.retain_as_published());
        let delivery = |message: &Message| {
            let retain = keeps_retain && message.retain();
            let mut delivery = Delivery::new(message.clone(), QoS::AtMostOnce, retain, id);
            delivery.checked = checked;
            delivery
        };
        let mut outbox = self.outbox.lock();
        let outbox = &mut *outbox;
        let connected = match outbox.state {
            State::Connected => true,
            State::Offline => false,
            State::Closed => return None,
        };
        let len = outbox.qos0.len() + outbox.qos12.len();
        let limits = &outbox.limits;
        let all_fit = len + messages.len() <= limits.max_len
            && outbox.bytes + bytes <= limits.max_bytes
            && (connected || limits.queue_qos0);
        if all_fit && !options.no_local() {
            let mut stamp = outbox.stamp;
            outbox.qos0.extend(messages.iter().map(|message| {
                stamp = stamp.wrapping_add(1);
                let mut delivery = delivery(message);
                delivery.stamp = stamp;
                delivery
            }));
            outbox.stamp = stamp;
            outbox.bytes += bytes;
            return outbox.waker.take();
        }
        let mut waker = None;
        for (at, message) in messages.iter().enumerate() {
            if options.no_local() && message.is_from(&self.client_id) {
                continue;
            }
            let mut pushed = outbox.put(delivery(message), connected);
            waker = waker.or(pushed.waker.take());
            if pushed.outcome != PushOutcome::Queued {
                others.push((at, pushed));
            }
        }
        waker
    }

    /// Queues a delivery of the durable shard; its credit bounds these, so no limit applies.
    /// False if that connection is gone.
    pub fn push_durable(&self, epoch: u64, mut delivery: Delivery) -> (bool, Option<Waker>) {
        let mut outbox = self.outbox.lock();
        if outbox.state != State::Connected || self.epoch() != epoch {
            return (false, None);
        }
        outbox.stamp = outbox.stamp.wrapping_add(1);
        delivery.stamp = outbox.stamp;
        outbox.bytes += delivery.message.cost();
        outbox.qos12.push_back(delivery);
        (
            true,
            if outbox.blocked {
                None
            } else {
                outbox.waker.take()
            },
        )
    }

    /// Puts QoS 0 deliveries that were taken and not sent back to the front, in their order: a client that falls asleep
    /// again gets them when it wakes.
    pub fn put_back(&self, deliveries: Vec<Delivery>) {
        let mut outbox = self.outbox.lock();
        if outbox.state == State::Closed {
            return;
        }
        for delivery in deliveries.into_iter().rev() {
            outbox.bytes += delivery.message.cost();
            outbox.qos0.push_front(delivery);
        }
    }

    /// Drops the oldest QoS 0 messages until the limits hold for them and for so many others of so many bytes that wait
    /// elsewhere. Returns how many went.
    pub fn trim_qos0(&self, others: usize, bytes: usize) -> u64 {
        let mut outbox = self.outbox.lock();
        let mut dropped = 0;
        while outbox.qos0.len() + others > outbox.limits.max_len
            || outbox.bytes + bytes > outbox.limits.max_bytes
        {
            let Some(old) = outbox.qos0.pop_front() else {
                break;
            };
            outbox.bytes = outbox.bytes.saturating_sub(old.message.cost());
            dropped += 1;
        }
        dropped
    }

    /// Makes a publisher wait until this queue is below half. `false`: there is room already.
    pub fn stall(&self, completion: &Arc<Completion>) -> bool {
        let mut outbox = self.outbox.lock();
        let len = outbox.qos0.len() + outbox.qos12.len();
        if outbox.state == State::Connected && !outbox.gave_up && outbox.is_pressed(len) {
            outbox.stalled.push(completion.clone());
            return true;
        }
        false
    }

    /// A stall lasted for `backpressure_timeout`: nobody waits for this queue again before it is below half.
    pub fn give_up(&self) {
        let mut outbox = self.outbox.lock();
        let len = outbox.qos0.len() + outbox.qos12.len();
        if outbox.is_pressed(len) {
            outbox.gave_up = true;
            outbox.release_stalled();
        }
    }

    /// Moves at most `max` deliveries into `out`, of QoS 1/2 at most `window`, in order. With nothing more to take
    /// now, `waker` is kept and called at the next push. Returns true if more could be taken.
    pub fn drain(
        &self,
        epoch: u64,
        out: &mut VecDeque<Delivery>,
        max: usize,
        window: usize,
        waker: &Waker,
    ) -> bool {
        let mut guard = self.outbox.lock();
        if self.epoch() != epoch {
            drop(guard);
            waker.wake_by_ref(); // To learn that it was taken over.
            return false;
        }
        let outbox = &mut *guard;
        let mut window = window;
        let mut freed = 0;
        for _ in 0..max {
            let next = match (outbox.qos0.front(), outbox.qos12.front()) {
                (Some(zero), Some(first)) if window > 0 => {
                    if comes_before(first, zero) {
                        &mut outbox.qos12
                    } else {
                        &mut outbox.qos0
                    }
                }
                (None, Some(_)) if window > 0 => &mut outbox.qos12,
                (Some(_), _) => &mut outbox.qos0,
                _ => break,
            };
            let Some(delivery) = next.pop_front() else {
                break;
            };
            if delivery.qos != QoS::AtMostOnce {
                window -= 1;
            }
            freed += delivery.message.cost();
            out.push_back(delivery);
        }
        outbox.bytes = outbox.bytes.saturating_sub(freed);
        outbox.blocked = window == 0;
        outbox.free = u16::try_from(window).unwrap_or(u16::MAX);
        let more = !outbox.qos0.is_empty() || (!outbox.qos12.is_empty() && window > 0);
        if !more {
            outbox.listen(waker);
            if outbox.qos0.is_empty() && outbox.qos0.capacity() > 64 {
                outbox.qos0 = VecDeque::new();
            }
            if outbox.qos12.is_empty() && outbox.qos12.capacity() > 64 {
                outbox.qos12 = VecDeque::new();
            }
        }
        let len = outbox.qos0.len() + outbox.qos12.len();
        if (outbox.gave_up || !outbox.stalled.is_empty()) && !outbox.is_pressed(len) {
            outbox.gave_up = false;
            outbox.release_stalled();
        }
        more
    }

    /// Keeps `waker` for the next push or signal without taking anything.
    pub fn listen(&self, epoch: u64, waker: &Waker) {
        let mut outbox = self.outbox.lock();
        if self.epoch() == epoch {
            outbox.listen(waker);
        } else {
            drop(outbox);
            waker.wake_by_ref();
        }
    }

    /// Asks the connection of `epoch` to do something and wakes it.
    pub fn signal(&self, epoch: u64, signal: Signal) {
        let (waker, waiter) = {
            let mut outbox = self.outbox.lock();
            if self.epoch() != epoch {
                return;
            }
            let before = outbox.call.replace(Box::new(Call::Signal(signal)));
            (outbox.waker.take(), before)
        };
        if let Some(waker) = waker {
            waker.wake();
        }
        if let Some(Call::Waiter(waker)) = waiter.map(|call| *call) {
            waker.wake();
        }
    }

    /// Takes the signal for the connection of `epoch`. A connection whose epoch is over was taken over.
    pub fn take_signal(&self, epoch: u64) -> Option<Signal> {
        let mut outbox = self.outbox.lock();
        if self.epoch() != epoch {
            return Some(Signal::TakenOver);
        }
        let is_signal = |call: &mut Box<Call>| matches!(**call, Call::Signal(_));
        match outbox.call.take_if(is_signal).map(|call| *call) {
            Some(Call::Signal(signal)) => Some(signal),
            _ => None,
        }
    }

    /// Keeps `waker` for the next signal, and for nothing else: the connection takes no messages now.
    pub fn await_signal(&self, epoch: u64, waker: &Waker) {
        let mut outbox = self.outbox.lock();
        let waits = match outbox.call.as_deref_mut() {
            _ if self.epoch() != epoch => false,
            Some(Call::Signal(_)) => false,
            Some(Call::Waiter(old)) => {
                old.clone_from(waker);
                true
            }
            None => {
                outbox.call = Some(Box::new(Call::Waiter(waker.clone())));
                true
            }
        };
        drop(outbox);
        if !waits {
            waker.wake_by_ref();
        }
    }

    /// Number of queued messages.
    #[must_use]
    pub fn queue_len(&self) -> usize {
        let outbox = self.outbox.lock();
        outbox.qos0.len() + outbox.qos12.len()
    }

    /// Runs `f` on the subscriptions.
    pub fn with_subs<T>(&self, f: impl FnOnce(&mut SubTable) -> T) -> T {
        f(&mut self.subs.lock())
    }

    /// A copy of the subscriptions.
    #[must_use]
    pub fn subscriptions(&self) -> Vec<(TopicFilter, Subscription)> {
        self.subs
            .lock()
            .iter()
            .map(|(filter, sub)| (filter.clone(), *sub))
            .collect()
    }
}

// With the two counts of its `Arc`: one byte more would take 64 of the allocator.
#[cfg(all(not(loom), target_pointer_width = "64"))]
const _: () = assert!(size_of::<SessionHandle>() + 16 <= 320);

/// Does a message of QoS 1/2 go before one of QoS 0? Those of a durable queue come here when the connection has room, so
/// their place here says nothing: the time at which they were published does.
fn comes_before(first: &Delivery, zero: &Delivery) -> bool {
    if first.durable().is_some() {
        return first.message.head().received_at < zero.message.head().received_at;
    }
    (first.stamp.wrapping_sub(zero.stamp) as i32) < 0
}

impl Outbox {
    /// Queues a delivery as limits and policy have it. Always inline: called, it cost a single push a fifth more.
    #[inline(always)]
    fn put(&mut self, mut delivery: Delivery, connected: bool) -> Pushed {
        let mut outcome = PushOutcome::Queued;
        let mut victim = None;
        let cost = delivery.message.cost();
        let len = self.qos0.len() + self.qos12.len();
        if len >= self.limits.max_len || self.bytes + cost > self.limits.max_bytes {
            match self.make_room(&delivery, connected, cost) {
                Ok((reason, topic)) => {
                    outcome = PushOutcome::DroppedOldest(reason);
                    victim = topic;
                }
                Err(outcome) => return Pushed::not(outcome),
            }
        } else if !connected && delivery.qos == QoS::AtMostOnce && !self.limits.queue_qos0 {
            return Pushed::not(PushOutcome::Dropped(DropReason::Offline));
        } else if delivery.qos != QoS::AtMostOnce
            && connected
            && !self.gave_up
            && self.is_pressed(len + 1)
        {
            outcome = PushOutcome::Pressed;
        }
        self.stamp = self.stamp.wrapping_add(1);
        delivery.stamp = self.stamp;
        self.bytes += cost;
        let quiet = if delivery.qos == QoS::AtMostOnce {
            self.qos0.push_back(delivery);
            false
        } else {
            self.qos12.push_back(delivery);
            self.blocked
        };
        let waker = if quiet { None } else { self.waker.take() };
        Pushed {
            waker,
            outcome,
            victim,
        }
    }

    /// Keeps the waker of the connection; a signal that came before it is not slept through.
    fn listen(&mut self, waker: &Waker) {
        if !self.waker.as_ref().is_some_and(|old| old.will_wake(waker)) {
            self.waker = Some(waker.clone());
        }
        if matches!(self.call.as_deref(), Some(Call::Signal(_))) {
            waker.wake_by_ref();
        }
    }

    fn is_pressed(&self, len: usize) -> bool {
        len * 2 > self.limits.max_len || self.bytes * 2 > self.limits.max_bytes
    }

    fn release_stalled(&mut self) {
        for completion in self.stalled.take() {
            completion.finish();
        }
    }

    fn clear_qos12(&mut self) {
        for delivery in self.qos12.drain(..) {
            self.bytes = self.bytes.saturating_sub(delivery.message.cost());
        }
    }

    /// Applies the queue policy to a full queue. `Ok` if the new message now fits.
    fn make_room(
        &mut self,
        new: &Delivery,
        connected: bool,
        cost: usize,
    ) -> Result<(DropReason, Option<TopicName>), PushOutcome> {
        let qos0 = new.qos == QoS::AtMostOnce;
        if qos0 && (connected || self.limits.policy != QueuePolicy::DropOldest) {
            return Err(PushOutcome::Dropped(DropReason::QueueFullQoS0));
        }
        match self.limits.policy {
            QueuePolicy::DropNewest => return Err(PushOutcome::Dropped(DropReason::QueueFull)),
            QueuePolicy::Reject => return Err(PushOutcome::Rejected),
            QueuePolicy::DropOldest => {}
        }
        if cost > self.limits.max_bytes {
            return Err(PushOutcome::Dropped(DropReason::QueueFull));
        }
        let mut reason = DropReason::QueueFullQoS0;
        let mut victim = None;
        while self.qos0.len() + self.qos12.len() >= self.limits.max_len
            || self.bytes + cost > self.limits.max_bytes
        {
            let old = if let Some(old) = self.qos0.pop_front() {
                old
            } else if let Some(old) = self.qos12.pop_front() {
                reason = DropReason::QueueFull;
                old
            } else {
                return Err(PushOutcome::Dropped(DropReason::QueueFull));
            };
            self.bytes = self.bytes.saturating_sub(old.message.cost());
            victim = Some(old.message.topic().clone());
        }
        Ok((reason, victim))
    }
}
