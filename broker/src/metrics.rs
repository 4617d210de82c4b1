//! Counters of the broker: one padded set for each thread, added up when somebody asks.

use std::cell::Cell;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use nightjar_mqtt::PacketType;

use crate::handle::DropReason;

macro_rules! counters {
    ($($(#[$doc:meta])* $name:ident = $text:literal,)*) => {
        /// What is counted.
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        #[repr(usize)]
        pub enum Counter { $($(#[$doc])* $name,)* }

        impl Counter {
            /// All counters.
            pub const ALL: &'static [Self] = &[$(Self::$name,)*];

            /// The name it is shown with, behind `nightjar_`.
            #[must_use]
            pub const fn name(self) -> &'static str {
                match self { $(Self::$name => $text,)* }
            }
        }
    };
}

counters! {
    /// Bytes read from clients, below TLS and WebSocket.
    BytesReceived = "bytes_received",
    /// Bytes written to clients.
    BytesSent = "bytes_sent",
    /// Packets read.
    PacketsReceived = "packets_received",
    /// Packets written.
    PacketsSent = "packets_sent",
    /// PUBLISH packets taken from clients.
    MessagesReceived = "messages_received",
    /// PUBLISH packets sent to clients.
    MessagesSent = "messages_sent",
    /// Messages that matched no subscription.
    MessagesUnmatched = "messages_dropped_no_subscribers",
    /// Deliveries dropped: queue full.
    DroppedQueueFull = "delivery_dropped_queue_full",
    /// Deliveries dropped: QoS 0 and queue full.
    DroppedQueueFullQoS0 = "delivery_dropped_qos0_queue_full",
    /// Deliveries dropped: message expiry.
    DroppedExpired = "delivery_dropped_expired",
    /// Deliveries dropped: larger than the client's Maximum Packet Size.
    DroppedTooLarge = "delivery_dropped_too_large",
    /// Deliveries dropped: the session ended.
    DroppedSessionEnded = "delivery_dropped_session_ended",
    /// Deliveries dropped: QoS 0 to an offline client.
    DroppedOffline = "delivery_dropped_offline",
    /// Deliveries dropped: denied by a rule.
    DroppedDenied = "delivery_dropped_denied",
    /// Deliveries dropped: what waited on the disk did not check.
    DroppedDamaged = "delivery_dropped_damaged",
    /// Messages refused: not authorized.
    PublishDenied = "publish_denied",
    /// Messages to `$SYS/...` refused.
    PublishSysRefused = "publish_sys_refused",
    /// Retained messages refused by a limit.
    RetainedRefused = "retained_refused",
    /// Topic filters refused: not authorized.
    SubscribeDenied = "subscribe_denied",
    /// CONNECT packets taken.
    Connects = "connects_received",
    /// CONNECT accepted.
    ConnectsAccepted = "connects_accepted",
    /// CONNECT refused: not authenticated or not authorized.
    ConnectsDenied = "connects_denied",
    /// CONNECT refused for another reason.
    ConnectsRefused = "connects_refused",
    /// CONNECT refused: client, user or address is banned.
    ConnectsBanned = "connects_refused_banned",
    /// CONNECT refused: more connections than `limits.*.connects` of the address, user or client.
    ConnectsOverRate = "connects_refused_rate",
    /// No CONNECT in time.
    ConnectTimeouts = "connect_timeouts",
    /// Connections ended by DISCONNECT of the client.
    DisconnectsNormal = "disconnects_normal",
    /// Connections ended by keep alive.
    DisconnectsKeepAlive = "disconnects_keep_alive",
    /// Connections ended by a malformed or illegal packet.
    DisconnectsProtocol = "disconnects_protocol_error",
    /// Connections the client or the network closed without DISCONNECT.
    DisconnectsAbrupt = "disconnects_abrupt",
    /// Connections ended by a takeover.
    DisconnectsTakenOver = "disconnects_taken_over",
    /// Connections ended by the server for another reason.
    DisconnectsServer = "disconnects_server",
    /// Connections ended by a ban that began; they count among those ended by the server too.
    DisconnectsBanned = "disconnects_banned",
    /// Connections ended because the token they came with expired; they count among those ended by the server too.
    DisconnectsExpired = "disconnects_token_expired",
    /// Client identifiers banned for connecting too often (`limits.flapping`).
    FlappingBans = "flapping_bans",
    /// Times a publisher was paused for `limits.*.messages` or `limits.*.bytes`.
    RatePauses = "publisher_rate_pauses",
    /// Sessions made.
    SessionsCreated = "sessions_created",
    /// Sessions resumed.
    SessionsResumed = "sessions_resumed",
    /// Sessions ended.
    SessionsEnded = "sessions_ended",
    /// Wills published.
    WillsPublished = "wills_published",
    /// Publishers that waited for a slow receiver.
    Stalls = "publisher_stalls",
    /// Harmless illegal behaviour that was served.
    Tolerated = "tolerated_quirks",
    /// MQTT-SN datagrams read.
    MqttSnReceived = "mqttsn_datagrams_received",
    /// MQTT-SN datagrams written.
    MqttSnSent = "mqttsn_datagrams_sent",
    /// MQTT-SN datagrams that were no message.
    MqttSnMalformed = "mqttsn_datagrams_malformed",
    /// MQTT-SN messages sent again.
    MqttSnRetransmissions = "mqttsn_retransmissions",
    /// MQTT-SN clients lost: keep alive, sleep, no answer.
    MqttSnLost = "mqttsn_clients_lost",
    /// Packets of a 3.x client dropped: expired PUBREL and such.
    DuplicatesReceived = "duplicates_received",
}

const COUNTERS: usize = Counter::ALL.len();
const SETS: usize = 32;

/// Packets of one read or one write, by type, gathered before they are added: one addition for each type, not for each
/// packet.
#[derive(Debug, Default)]
pub struct PacketTally([u32; 16]);

impl PacketTally {
    /// Counts a packet.
    #[inline]
    pub const fn count(&mut self, packet: PacketType) {
        self.0[packet as usize] += 1;
    }
}

/// Which way packets went.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Direction {
    /// From clients.
    Received = 0,
    /// To clients.
    Sent = 1,
}

#[repr(align(128))]
struct Set {
    counters: [AtomicU64; COUNTERS],
    packets: [[AtomicU64; 16]; 2],
}

/// All counters.
pub struct Metrics {
    sets: Box<[Set]>,
}

impl std::fmt::Debug for Metrics {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_map()
            .entries(
                Counter::ALL
                    .iter()
                    .map(|counter| (counter.name(), self.get(*counter))),
            )
            .finish()
    }
}

impl Default for Metrics {
    fn default() -> Self {
        Self {
            sets: (0..SETS)
                .map(|_| Set {
                    counters: std::array::from_fn(|_| AtomicU64::new(0)),
                    packets: Default::default(),
                })
                .collect(),
        }
    }
}

static NEXT: AtomicUsize = AtomicUsize::new(0);

thread_local! {
    static SET: Cell<usize> = const { Cell::new(usize::MAX) };
}

fn set_of_thread() -> usize {
    SET.with(|set| {
        if set.get() == usize::MAX {
            set.set(NEXT.fetch_add(1, Ordering::Relaxed) % SETS);
        }
        set.get()
    })
}

impl Metrics {
    /// Adds to a counter.
    #[inline]
    pub fn add(&self, counter: Counter, amount: u64) {
        if amount > 0 {
            self.sets[set_of_thread()].counters[counter as usize]
                .fetch_add(amount, Ordering::Relaxed);
        }
    }

    /// Adds one.
    #[inline]
    pub fn count(&self, counter: Counter) {
        self.add(counter, 1);
    }

    /// Adds the packets of one read or one write.
    #[inline]
    pub fn add_packets(&self, direction: Direction, tally: &PacketTally) {
        let set = &self.sets[set_of_thread()].packets[direction as usize];
        for (counter, amount) in set.iter().zip(tally.0) {
            if amount > 0 {
                counter.fetch_add(u64::from(amount), Ordering::Relaxed);
            }
        }
    }

    /// Packets of one type, all threads.
    #[must_use]
    pub fn packets(&self, direction: Direction, packet: PacketType) -> u64 {
        self.sets
            .iter()
            .map(|set| set.packets[direction as usize][packet as usize].load(Ordering::Relaxed))
            .sum()
    }

    /// Counts dropped deliveries.
    pub fn dropped(&self, reason: DropReason, amount: u64) {
        self.add(reason.counter(), amount);
    }

    /// The sum over all threads.
    #[must_use]
    pub fn get(&self, counter: Counter) -> u64 {
        self.sets
            .iter()
            .map(|set| set.counters[counter as usize].load(Ordering::Relaxed))
            .sum()
    }
}
