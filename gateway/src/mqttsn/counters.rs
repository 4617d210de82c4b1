//! Counters of one MQTT-SN listener.

use std::sync::atomic::{AtomicU64, Ordering};

use nightjar_mqttsn::Error;

macro_rules! counted {
    ($($(#[$doc:meta])* $name:ident = $text:literal,)*) => {
        /// What is counted.
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        #[repr(usize)]
        pub enum Counted { $($(#[$doc])* $name,)* }

        impl Counted {
            /// All of them.
            pub const ALL: &'static [Self] = &[$(Self::$name,)*];

            /// The name in metrics, behind `nightjar_mqttsn_`.
            #[must_use]
            pub const fn name(self) -> &'static str {
                match self { $(Self::$name => $text,)* }
            }
        }
    };
}

counted! {
    /// Datagrams received.
    Received = "datagrams_received",
    /// Octets received.
    ReceivedBytes = "bytes_received",
    /// Datagrams sent.
    Sent = "datagrams_sent",
    /// Octets sent.
    SentBytes = "bytes_sent",
    /// Datagrams that the system did not take.
    SendErrors = "send_errors",
    /// Messages that only a gateway sends.
    FromGateway = "ignored_from_gateway",
    /// Messages that mean nothing in the state of their client.
    OutOfState = "ignored_out_of_state",
    /// Messages behind one that waits for a verdict, more than are held.
    Busy = "dropped_busy",
    /// Requests answered with congestion: faster than `[limits]` allow.
    OverRate = "over_rate",
    /// DISCONNECT to an unknown sender.
    StrangersAnswered = "strangers_answered",
    /// Unknown senders not answered: too many.
    StrangersLimited = "strangers_limited",
    /// CONNECT taken as new connections.
    Connects = "connects",
    /// CONNECT taken as repeats.
    ConnectsRepeated = "connects_repeated",
    /// CONNECT refused: authentication or authorization.
    ConnectsDenied = "connects_denied",
    /// CONNECT refused for congestion: too many sessions, of this source or in all, memory, a backend that is down.
    ConnectsCongested = "connects_congested",
    /// CONNECT refused: client id or protocol id.
    ConnectsInvalid = "connects_invalid",
    /// Handshakes not finished in time.
    ConnectsAbandoned = "connects_abandoned",
    /// Clients lost by keep alive.
    LostKeepAlive = "lost_keep_alive",
    /// Clients lost in their sleep.
    LostAsleep = "lost_asleep",
    /// Clients lost for not answering.
    LostRetries = "lost_retries",
    /// Sleeps begun by DISCONNECT with duration.
    Sleeps = "sleeps",
    /// Wakes by PINGREQ.
    Wakes = "wakes",
    /// Wakes that ended without an answer of the client; its messages stay.
    WakesGivenUp = "wakes_given_up",
    /// PUBLISH from sleepers.
    PublishesAsleep = "publishes_asleep",
    /// Messages sent again.
    Retransmissions = "retransmissions",
    /// Messages and topic names longer than `max_datagram`.
    TooLarge = "too_large",
    /// Topic ids refused: `max_topics`.
    RegistryFull = "registry_full",
    /// Topic ids registered again in another's place: `max_topics`.
    TopicsReused = "topics_reused",
    /// REGISTER refused by a client: its topic is muted.
    RegistersRefused = "registers_refused",
    /// Clients that came from another address.
    AddressChanges = "address_changes",
    /// Clients that came from another address and were refused by `address_change`.
    AddressChangesRefused = "address_changes_refused",
    /// Addresses validated by an answer.
    AddressesValidated = "addresses_validated",
    /// Times a message waited because its address was not validated.
    Unvalidated = "held_unvalidated",
    /// PUBLISH with QoS -1 taken.
    MinusOne = "qos_minus_one",
    /// PUBLISH with QoS -1 not taken: switched off, topic, rule or rate.
    MinusOneRefused = "qos_minus_one_refused",
    /// PUBLISH refused with an unknown topic id.
    UnknownTopics = "unknown_topics",
    /// SEARCHGW answered.
    Searches = "searches",
    /// ADVERTISE sent.
    Advertises = "advertises",
    /// Datagrams of unknown senders that other nodes were asked about.
    Relayed = "relayed",
    /// Datagrams taken that another node heard.
    RelayedHere = "relayed_here",
    /// Datagrams between nodes that were dropped: too many waited, or no link.
    RelayDropped = "relay_dropped",
}

/// Counters of one listener, since the process began.
#[derive(Debug)]
pub struct Counters {
    counts: [AtomicU64; Counted::ALL.len()],
    malformed: [AtomicU64; Error::REASONS.len()],
}

impl Default for Counters {
    fn default() -> Self {
        Self {
            counts: std::array::from_fn(|_| AtomicU64::new(0)),
            malformed: std::array::from_fn(|_| AtomicU64::new(0)),
        }
    }
}

impl Counters {
    /// Adds one.
    #[inline]
    pub fn count(&self, what: Counted) {
        self.add(what, 1);
    }

    /// Adds to a counter.
    #[inline]
    pub fn add(&self, what: Counted, amount: u64) {
        self.counts[what as usize].fetch_add(amount, Ordering::Relaxed);
    }

    /// A counter.
    #[must_use]
    pub fn get(&self, what: Counted) -> u64 {
        self.counts[what as usize].load(Ordering::Relaxed)
    }

    pub(super) fn malformed_by(&self, error: &Error) {
        let reason = error.reason();
        if let Some(at) = Error::REASONS.iter().position(|known| *known == reason) {
            self.malformed[at].fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Malformed datagrams by reason.
    pub fn malformed(&self) -> impl Iterator<Item = (&'static str, u64)> + '_ {
        Error::REASONS
            .iter()
            .zip(&self.malformed)
            .map(|(reason, count)| (*reason, count.load(Ordering::Relaxed)))
    }
}
