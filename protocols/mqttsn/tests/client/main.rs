//! Tests of the client model: scripts of datagrams and times, and random datagrams.

use std::time::{Duration, Instant};

use nightjar_mqttsn::QoS;
use nightjar_mqttsn::client::{Client, Config, ConnectOptions, Event, State, Token, Topic, Will};

mod connection;
mod random;
mod sleep;
mod topics;

/// A client, the time, and what it was last heard to send.
struct Bench {
    client: Client,
    now: Instant,
}

impl Bench {
    fn new() -> Bench {
        Bench::with(|_| {})
    }

    fn with(change: impl FnOnce(&mut Config)) -> Bench {
        let mut config = Config::new("s1");
        config.first_msg_id = 0x10;
        change(&mut config);
        Bench {
            client: Client::new(config),
            now: Instant::now(),
        }
    }

    /// A client with a clean session and keep alive 0, its CONNECT and CONNACK done with.
    fn connected() -> Bench {
        let mut bench = Bench::new();
        bench.connect();
        bench
    }

    fn connect(&mut self) {
        let options = ConnectOptions {
            duration: 0,
            ..ConnectOptions::default()
        };
        let token = self.client.connect(self.now, options);
        self.sends(&["08 04 04 01 0000 7331"]);
        self.hears("03 05 00");
        self.done(token, None);
        assert_eq!(self.client.state(), State::Active);
    }

    /// Exactly these datagrams go out.
    #[track_caller]
    fn sends(&mut self, expected: &[&str]) {
        let sent: Vec<Vec<u8>> = std::iter::from_fn(|| self.client.poll_transmit()).collect();
        let expected: Vec<Vec<u8>> = expected.iter().map(|text| hex(text)).collect();
        assert_eq!(sent, expected, "{sent:02x?}");
    }

    #[track_caller]
    fn hears(&mut self, datagram: &str) {
        self.client
            .handle_datagram(self.now, &hex(datagram))
            .expect("a message");
    }

    /// Lets time pass up to the next timeout, which is due after this many seconds.
    #[track_caller]
    fn waits(&mut self, seconds: u64) {
        let due = self.client.poll_timeout().expect("something is due");
        assert_eq!(due - self.now, Duration::from_secs(seconds));
        self.now = due;
        self.client.handle_timeout(self.now);
    }

    #[track_caller]
    fn events(&mut self, expected: &[Event]) {
        let events: Vec<Event> = std::iter::from_fn(|| self.client.poll_event()).collect();
        assert_eq!(events, expected);
    }

    #[track_caller]
    fn done(&mut self, token: Token, topic_id: Option<u16>) {
        self.events(&[Event::Done { token, topic_id }]);
    }

    fn publish(&mut self, name: &str, qos: QoS, data: &str) -> Token {
        self.client
            .publish(self.now, Topic::Name(name.into()), qos, false, data)
    }
}

fn hex(text: &str) -> Vec<u8> {
    let digits: Vec<char> = text.chars().filter(|c| !c.is_whitespace()).collect();
    digits
        .chunks(2)
        .map(|pair| u8::from_str_radix(&pair.iter().collect::<String>(), 16).expect("hex"))
        .collect()
}

fn will() -> Will {
    Will {
        topic: "w".into(),
        qos: QoS::AtLeastOnce,
        retain: true,
        message: b"by".to_vec(),
    }
}
