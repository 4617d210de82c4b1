//! An MQTT-SN client without socket and clock: the other end of a gateway in tests, and the state behind command-line
//! clients.
//!
//! The caller hands in datagrams, commands and the time, and takes out datagrams, events and the time of the next
//! timeout. Commands are queued: one request is open at a time, which is what sections 6.5, 6.6 and 6.9 ask of each kind.
//! What a request needs first (a topic id for a name) is done on the way, and refused topic ids are registered again.
//!
//! After every call the caller takes all of [`Client::poll_transmit`] and [`Client::poll_event`]: both queues are bounded
//! only by that.
//!
//! ```
//! use std::time::Instant;
//! use nightjar_mqttsn::client::{Client, Config, ConnectOptions, Event};
//!
//! let now = Instant::now();
//! let mut client = Client::new(Config::new("sensor-1"));
//! let token = client.connect(now, ConnectOptions::default());
//! assert_eq!(client.poll_transmit().as_deref(), Some(&b"\x0E\x04\x04\x01\x00\x3Csensor-1"[..]));
//! client.handle_datagram(now, &[3, 0x05, 0])?;
//! assert_eq!(client.poll_event(), Some(Event::Done { token, topic_id: None }));
//! # Ok::<(), nightjar_mqttsn::Error>(())
//! ```

mod command;
mod incoming;
mod topics;

use std::collections::{HashMap, VecDeque};
use std::time::{Duration, Instant};

use crate::error::Error;
use crate::flags::QoS;
use crate::frame::{Encapsulation, Frame};
use crate::message::Message;
use crate::types::ReturnCode;

use command::{Command, Request, Step};
use topics::Topics;

pub use command::{ConnectOptions, Topic, Will};

/// How a client behaves.
#[derive(Debug, Clone)]
pub struct Config {
    /// ClientId.
    pub client_id: String,
    /// T_retry: time until a request is repeated. Section 7.2 recommends 10 to 15 s.
    pub t_retry: Duration,
    /// N_retry: repeats until the gateway counts as gone. Section 7.2 recommends 3 to 5.
    pub n_retry: u32,
    /// Publishes from sleep without CONNECT, which gateways may or may not take.
    pub publish_asleep: bool,
    /// Behind a forwarder: the WirelessNodeId of all datagrams.
    pub node_id: Option<Vec<u8>>,
    /// First MsgId.
    pub first_msg_id: u16,
    /// What the gateway's REGISTER is answered with.
    pub register_code: ReturnCode,
}

impl Config {
    /// The standard's timers, no forwarder, everything accepted.
    pub fn new(client_id: impl Into<String>) -> Config {
        Config {
            client_id: client_id.into(),
            t_retry: Duration::from_secs(10),
            n_retry: 4,
            publish_asleep: false,
            node_id: None,
            first_msg_id: 1,
            register_code: ReturnCode::ACCEPTED,
        }
    }
}

/// The client's side of figure 4 (section 6.14).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum State {
    /// No connection; also after the gateway was lost.
    Disconnected,
    /// Connected.
    Active,
    /// Connected, the radio off.
    Asleep,
    /// Between PINGREQ with client id and PINGRESP.
    Awake,
}

/// Names a command in its events.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Token(u64);

/// A message of a subscription.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Received {
    /// The topic; ids are resolved to names.
    pub topic: Topic,
    /// QoS it came with.
    pub qos: QoS,
    /// Retain flag.
    pub retain: bool,
    /// DUP flag.
    pub dup: bool,
    /// The data.
    pub data: Vec<u8>,
}

/// What happened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// A command came to its end: the gateway accepted, or there is no answer to wait for.
    Done {
        /// The command.
        token: Token,
        /// The id that REGISTER and SUBSCRIBE got, 0 if it is none.
        topic_id: Option<u16>,
    },
    /// A command was refused.
    Refused {
        /// The command.
        token: Token,
        /// Why.
        code: ReturnCode,
    },
    /// The gateway refused a PUBLISH of QoS 0, which one it does not say.
    PublishRefused {
        /// The 2 octets of its topic.
        topic_id: u16,
        /// Why.
        code: ReturnCode,
    },
    /// A message came. QoS 2 comes once, QoS 1 may come again.
    Message(Received),
    /// The gateway ended the connection, or did not answer N_retry repeats. Unfinished commands wait for the next
    /// [`Client::connect`], but CONNECT, PINGREQ and DISCONNECT: they are forgotten.
    Disconnected {
        /// True if it did not answer.
        no_answer: bool,
    },
}

/// Figures for tests.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Counters {
    /// Datagrams that came while asleep or disconnected; a radio that is off would not have heard them.
    pub unheard: u64,
    /// Requests sent again.
    pub repeats: u64,
    /// QoS 2 messages that came again and were not delivered again.
    pub duplicates: u64,
    /// Messages with a topic id that stands for nothing.
    pub unknown_topics: u64,
    /// PINGRESP messages taken as the end of a waking.
    pub wakes: u64,
}

/// A client; see the module.
#[derive(Debug)]
pub struct Client {
    config: Config,
    state: State,
    /// Commands not begun.
    queue: VecDeque<(Token, Command)>,
    /// The request under way.
    open: Option<Request>,
    /// A request that a lost connection cut off, to be taken up after CONNACK.
    suspended: Option<Request>,
    topics: Topics,
    /// QoS 2 messages delivered and not yet released: a hash of the data by MsgId.
    unreleased: HashMap<u16, u64>,
    /// Those released last, and until when a copy that the network held up is still one of them. A gateway may use a MsgId
    /// again at once, so only the same data counts.
    released: VecDeque<(u16, u64, Instant)>,
    next_msg_id: u16,
    next_token: u64,
    keep_alive: Duration,
    last_sent: Option<Instant>,
    transmit: VecDeque<Vec<u8>>,
    events: VecDeque<Event>,
    counters: Counters,
}

impl Client {
    /// A client that is not connected.
    pub fn new(config: Config) -> Client {
        let next_msg_id = config.first_msg_id.max(1);
        Client {
            config,
            state: State::Disconnected,
            queue: VecDeque::new(),
            open: None,
            suspended: None,
            topics: Topics::default(),
            unreleased: HashMap::new(),
            released: VecDeque::new(),
            next_msg_id,
            next_token: 1,
            keep_alive: Duration::ZERO,
            last_sent: None,
            transmit: VecDeque::new(),
            events: VecDeque::new(),
            counters: Counters::default(),
        }
    }

    /// CONNECT, with the will handshake if the options have a will (6.2). Goes ahead of everything that waits; what was
    /// under way goes on after an accepted CONNACK, from the start if the session is clean.
    pub fn connect(&mut self, now: Instant, options: ConnectOptions) -> Token {
        if let Some(open) = self
            .open
            .take_if(|open| !matches!(open.command, Command::Connect(_)))
        {
            self.suspend(open);
        }
        let token = self.take_token();
        self.queue.push_front((token, Command::Connect(options)));
        self.advance(now);
        token
    }

    /// REGISTER (6.5).
    pub fn register(&mut self, now: Instant, topic_name: impl Into<String>) -> Token {
        self.push(now, Command::Register(topic_name.into()))
    }

    /// PUBLISH (6.6). A name without id is registered first. QoS -1 is sent in any state.
    pub fn publish(
        &mut self,
        now: Instant,
        topic: Topic,
        qos: QoS,
        retain: bool,
        data: impl Into<Vec<u8>>,
    ) -> Token {
        self.push(
            now,
            Command::Publish {
                topic,
                qos,
                retain,
                data: data.into(),
            },
        )
    }

    /// SUBSCRIBE (6.9).
    pub fn subscribe(&mut self, now: Instant, topic: Topic, qos: QoS) -> Token {
        self.push(now, Command::Subscribe { topic, qos })
    }

    /// UNSUBSCRIBE (6.9).
    pub fn unsubscribe(&mut self, now: Instant, topic: Topic) -> Token {
        self.push(now, Command::Unsubscribe { topic })
    }

    /// WILLTOPICUPD (6.4); `None` deletes the will. The message of the will given here is not sent.
    pub fn update_will_topic(&mut self, now: Instant, will: Option<Will>) -> Token {
        self.push(now, Command::WillTopicUpd(will))
    }

    /// WILLMSGUPD (6.4).
    pub fn update_will_message(&mut self, now: Instant, message: impl Into<Vec<u8>>) -> Token {
        self.push(now, Command::WillMsgUpd(message.into()))
    }

    /// PINGREQ of an active client (6.11). Keep alive sends its own.
    pub fn ping(&mut self, now: Instant) -> Token {
        self.push(now, Command::Ping)
    }

    /// DISCONNECT with a duration in seconds (6.14).
    pub fn sleep(&mut self, now: Instant, duration: u16) -> Token {
        self.push(now, Command::Sleep(duration))
    }

    /// PINGREQ with the client id: takes what the gateway holds, until PINGRESP (6.14).
    pub fn wake(&mut self, now: Instant) -> Token {
        self.push(now, Command::Wake)
    }

    /// DISCONNECT (6.12).
    pub fn disconnect(&mut self, now: Instant) -> Token {
        self.push(now, Command::Disconnect)
    }

    /// Takes a datagram of the gateway.
    ///
    /// # Errors
    /// Those of [`Frame::decode`]; nothing changes then.
    pub fn handle_datagram(&mut self, now: Instant, datagram: &[u8]) -> Result<(), Error> {
        let frame = Frame::decode(datagram)?;
        if frame.encapsulation.map(|e| e.node_id) != self.config.node_id.as_deref() {
            self.counters.unheard += 1;
            return Ok(());
        }
        self.handle_message(now, frame.message);
        self.advance(now);
        Ok(())
    }

    /// Does what is due at this time.
    pub fn handle_timeout(&mut self, now: Instant) {
        if let Some(open) = &mut self.open
            && now >= open.deadline
        {
            if open.repeats >= self.config.n_retry {
                self.lose(true);
            } else {
                open.repeats += 1;
                self.counters.repeats += 1;
                self.send_open(now, true);
            }
        }
        if self
            .keep_alive_deadline()
            .is_some_and(|deadline| now >= deadline)
        {
            self.queue.push_back((Token(0), Command::Ping));
        }
        self.advance(now);
    }

    /// When [`Client::handle_timeout`] is to be called, if nothing else happens before.
    pub fn poll_timeout(&self) -> Option<Instant> {
        self.open
            .as_ref()
            .map(|open| open.deadline)
            .or_else(|| self.keep_alive_deadline())
    }

    /// The next datagram to send.
    pub fn poll_transmit(&mut self) -> Option<Vec<u8>> {
        self.transmit.pop_front()
    }

    /// The next event.
    pub fn poll_event(&mut self) -> Option<Event> {
        self.events.pop_front()
    }

    /// The state.
    pub fn state(&self) -> State {
        self.state
    }

    /// Figures so far.
    pub fn counters(&self) -> Counters {
        self.counters
    }

    /// How long a request goes without any answer until the gateway counts as gone.
    pub fn patience(&self) -> Duration {
        self.config.t_retry * (self.config.n_retry + 1)
    }

    /// True if no command waits or is under way.
    pub fn is_idle(&self) -> bool {
        self.open.is_none() && self.suspended.is_none() && self.queue.is_empty()
    }

    /// The id of a topic name, as far as this client knows it.
    pub fn topic_id(&self, name: &str) -> Option<u16> {
        self.topics.id(name)
    }

    /// Loses the topic map, as a device does that restarts without its memory.
    pub fn forget_topics(&mut self) {
        self.topics = Topics::default();
    }

    fn take_token(&mut self) -> Token {
        let token = Token(self.next_token);
        self.next_token += 1;
        token
    }

    fn push(&mut self, now: Instant, command: Command) -> Token {
        let token = self.take_token();
        self.queue.push_back((token, command));
        self.advance(now);
        token
    }

    /// Begins commands until one waits for an answer: the first of the queue that this state allows.
    fn advance(&mut self, now: Instant) {
        while self.open.is_none() {
            let runnable = |(_, command): &(Token, Command)| {
                command.runs_in(self.state, self.config.publish_asleep)
            };
            let Some(at) = self.queue.iter().position(runnable) else {
                return;
            };
            let (token, command) = self.queue.remove(at).expect("position is in the queue");
            self.begin(now, token, command);
        }
    }

    fn begin(&mut self, now: Instant, token: Token, command: Command) {
        let unknown_name = matches!(&command, Command::Publish { topic: Topic::Name(name), .. } if self.topics.id(name).is_none());
        match &command {
            Command::Publish {
                qos: QoS::MinusOne, ..
            } if unknown_name => {
                // Without a connection there is no id for a name: section 6.8.
                self.events.push_back(Event::Refused {
                    token,
                    code: ReturnCode::INVALID_TOPIC_ID,
                });
                return;
            }
            Command::Wake => self.state = State::Awake,
            _ => {}
        }
        let step = if unknown_name {
            Step::Register
        } else {
            Step::First
        };
        let msg_id = self.take_msg_id();
        self.open = Some(Request {
            token,
            command,
            step,
            msg_id,
            repeats: 0,
            registrations: 0,
            deadline: now,
        });
        self.send_open(now, false);
        self.finish_unacknowledged();
    }

    /// Ends an open PUBLISH of QoS 0 or -1, which has no answer.
    fn finish_unacknowledged(&mut self) {
        let unacknowledged = |open: &mut Request| {
            let at_most_once = matches!(
                open.command,
                Command::Publish {
                    qos: QoS::AtMostOnce | QoS::MinusOne,
                    ..
                }
            );
            at_most_once && open.step == Step::First
        };
        if let Some(open) = self.open.take_if(unacknowledged) {
            self.done(open.token, None);
        }
    }

    fn done(&mut self, token: Token, topic_id: Option<u16>) {
        // Token 0 is keep alive's own PINGREQ.
        if token != Token(0) {
            self.events.push_back(Event::Done { token, topic_id });
        }
    }

    /// Sends the open request in the step it is in.
    fn send_open(&mut self, now: Instant, dup: bool) {
        let Some(open) = &mut self.open else {
            return;
        };
        open.deadline = now + self.config.t_retry;
        let message = open.message(&self.config.client_id, &self.topics, dup);
        if let Some(datagram) = encode(&self.config, message) {
            self.transmit.push_back(datagram);
            self.last_sent = Some(now);
        } else if let Some(open) = self.open.take() {
            // Longer than a datagram can say: nobody would take it.
            let code = ReturnCode::NOT_SUPPORTED;
            self.events.push_back(Event::Refused {
                token: open.token,
                code,
            });
        }
    }

    /// Sends an answer; all of them are short.
    fn send(&mut self, now: Instant, message: Message<'_>) {
        if let Some(datagram) = encode(&self.config, message) {
            self.transmit.push_back(datagram);
            self.last_sent = Some(now);
        }
    }

    fn keep_alive_deadline(&self) -> Option<Instant> {
        let quiet =
            self.state == State::Active && self.open.is_none() && !self.keep_alive.is_zero();
        // Four fifths, so that a repeat or two still fit before the gateway's tolerance ends.
        self.last_sent
            .filter(|_| quiet)
            .map(|sent| sent + self.keep_alive * 4 / 5)
    }

    fn take_msg_id(&mut self) -> u16 {
        let msg_id = self.next_msg_id;
        self.next_msg_id = msg_id.checked_add(1).unwrap_or(1);
        msg_id
    }

    /// The connection is gone: what can be taken up later waits.
    fn lose(&mut self, no_answer: bool) {
        self.state = State::Disconnected;
        if let Some(open) = self.open.take() {
            self.suspend(open);
        }
        self.queue
            .retain(|(_, command)| command.outlives_the_connection());
        self.events.push_back(Event::Disconnected { no_answer });
    }

    fn suspend(&mut self, open: Request) {
        if open.command.outlives_the_connection() {
            self.suspended = Some(open);
        }
    }
}

/// The datagram of a message; `None` if it is too long for one.
fn encode(config: &Config, message: Message<'_>) -> Option<Vec<u8>> {
    let encapsulation = config
        .node_id
        .as_deref()
        .map(|node_id| Encapsulation { radius: 0, node_id });
    let mut datagram = Vec::new();
    (Frame {
        encapsulation,
        message,
    })
    .encode(&mut datagram)
    .ok()?;
    Some(datagram)
}
