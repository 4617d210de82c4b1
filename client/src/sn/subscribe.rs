//! `sub --sn`, awake all the time or sleeping between deliveries.

use std::collections::HashMap;
use std::io::Write;
use std::pin::pin;
use std::time::{Duration, Instant};

use bytes::Bytes;
use nightjar_mqtt::QoS;
use nightjar_mqtt::topic::validate_topic_filter;
use nightjar_mqttsn::ReturnCode;
use nightjar_mqttsn::client::{Event, Received, State, Token, Topic};
use tokio::time::{sleep_until, timeout};

use crate::cli::interrupted;
use crate::cli::printer::{Next, Printer};
use crate::cli::publish::RECONNECT_DELAY;
use crate::cli::subscribe::SubArgs;
use crate::error::{EXIT_TIMEOUT, Error, Result};
use crate::message::Message;
use crate::sn::args::{SnTarget, topic_text};
use crate::sn::link::Link;

/// Time for DISCONNECT to be answered at the end.
const GOODBYE: Duration = Duration::from_secs(2);

/// `sub --sn` with any output in place of stdout, to its exit code: 0, 27 after `-W`, or the return code with which all
/// subscriptions were refused.
///
/// # Errors
/// What ended it.
pub async fn subscribe(args: &SubArgs, stdout: impl Write) -> Result<u8> {
    let target = args.sn.target(&args.connect)?;
    for (given, flag) in [
        (args.retain_as_published, "--retain-as-published"),
        (args.no_local, "--no-local"),
        (args.retain_handling != 0, "--retain-handling"),
    ] {
        if given {
            return Err(Error::Usage(format!("{flag} is of MQTT 5, --sn is not")));
        }
    }
    let topics = topics(args)?;
    let deadline = args
        .timeout
        .map(|seconds| tokio::time::Instant::now() + Duration::from_secs(seconds));
    let mut listener = Listener {
        args,
        topics,
        printer: Printer::new(args, stdout)?,
        link: Link::open(&target).await?,
        target,
        asked: HashMap::new(),
        refused: Vec::new(),
        connecting: None,
        alarm: None,
    };
    let ended = tokio::select! {
        ended = listener.listen() => ended,
        () = pin!(interrupted()) => Ok(0),
        () = sleep_until(deadline.unwrap_or_else(tokio::time::Instant::now)), if deadline.is_some() => {
            if !args.connect.quiet {
                eprintln!("Timed out");
            }
            Ok(EXIT_TIMEOUT)
        }
    };
    listener.printer.flush();
    let code = ended?;
    listener.close().await;
    Ok(code)
}

fn topics(args: &SubArgs) -> Result<Vec<Topic>> {
    let names = args.topic.iter().cloned().map(Topic::Name);
    let topics: Vec<Topic> = names.chain(args.sn.topics()).collect();
    if topics.is_empty() && args.unsubscribe.is_empty() {
        return Err(Error::Usage(
            "a topic is needed (-t, --topic-id, --short-topic or -U)".to_owned(),
        ));
    }
    for filter in args
        .topic
        .iter()
        .chain(&args.unsubscribe)
        .chain(&args.filter_out)
    {
        validate_topic_filter(filter)
            .map_err(|error| Error::Usage(format!("invalid topic filter '{filter}': {error}")))?;
    }
    Ok(topics)
}

/// What is to be done at a time.
#[derive(Debug, Clone, Copy)]
enum Alarm {
    Connect(Instant),
    Wake(Instant),
}

impl Alarm {
    fn at(self) -> Instant {
        match self {
            Self::Connect(at) | Self::Wake(at) => at,
        }
    }
}

struct Listener<'a, W> {
    args: &'a SubArgs,
    topics: Vec<Topic>,
    printer: Printer<'a, W>,
    link: Link,
    target: SnTarget,
    /// SUBSCRIBE and UNSUBSCRIBE without an answer; the topic is `None` for the latter.
    asked: HashMap<Token, Option<Topic>>,
    /// Topics that the gateway refused.
    refused: Vec<(Topic, ReturnCode)>,
    connecting: Option<Token>,
    alarm: Option<Alarm>,
}

impl<W: Write> Listener<'_, W> {
    /// Connects, subscribes and prints until there is a reason to stop; the exit code.
    async fn listen(&mut self) -> Result<u8> {
        self.connect();
        loop {
            if !self.printer.flush() {
                return Ok(0);
            }
            let alarm = self.alarm;
            let event = tokio::select! {
                event = self.link.next_event() => Some(event?),
                () = sleep_until(alarm.map_or_else(Instant::now, Alarm::at).into()), if alarm.is_some() => None,
            };
            let Some(event) = event else {
                self.alarm = None;
                match alarm {
                    Some(Alarm::Connect(_)) => self.connect(),
                    Some(Alarm::Wake(_)) => {
                        self.link.client().wake(Instant::now());
                    }
                    None => {}
                }
                continue;
            };
            if let Some(code) = self.event(event)? {
                return Ok(code);
            }
        }
    }

    fn connect(&mut self) {
        let options = self.target.connect.clone();
        self.connecting = Some(self.link.client().connect(Instant::now(), options));
    }

    /// Asks for everything; the answers come as events.
    fn subscribe(&mut self) {
        let now = Instant::now();
        let qos = self.args.qos.into();
        self.asked.clear();
        self.refused.clear();
        for topic in &self.topics {
            let token = self.link.client().subscribe(now, topic.clone(), qos);
            self.asked.insert(token, Some(topic.clone()));
        }
        for filter in &self.args.unsubscribe {
            let topic = Topic::Name(filter.clone());
            let token = self.link.client().unsubscribe(now, topic);
            self.asked.insert(token, None);
        }
    }

    /// Handles an event; an exit code where it is the end.
    fn event(&mut self, event: Event) -> Result<Option<u8>> {
        match event {
            Event::Message(received) => {
                if self.message(&received) == Next::Stop {
                    return Ok(Some(0));
                }
            }
            Event::Done { token, .. } if self.connecting == Some(token) => {
                self.connecting = None;
                self.subscribe();
            }
            Event::Refused { token, code } if self.connecting == Some(token) => {
                return Err(Error::Refused {
                    code: code.0,
                    text: code.to_string(),
                });
            }
            Event::Done { token, .. } => {
                if self.asked.remove(&token).is_some() {
                    return Ok(self.answered());
                }
                if self.link.client().state() == State::Asleep {
                    self.rest();
                }
            }
            Event::Refused { token, code } => {
                if let Some(topic) = self.asked.remove(&token) {
                    self.refused.extend(topic.map(|topic| (topic, code)));
                    return Ok(self.answered());
                }
            }
            Event::PublishRefused { code, .. } => {
                if !self.args.connect.quiet {
                    eprintln!("Warning: publish failed: {code}");
                }
            }
            Event::Disconnected { no_answer } => {
                if !self.args.connect.quiet {
                    eprintln!("Warning: {}; trying again", self.link.lost(no_answer));
                }
                self.alarm = Some(Alarm::Connect(Instant::now() + RECONNECT_DELAY));
            }
        }
        Ok(None)
    }

    /// One more subscription was answered.
    fn answered(&mut self) -> Option<u8> {
        if !self.asked.is_empty() {
            return None;
        }
        let quiet = self.args.connect.quiet;
        if let Some((_, code)) = self.refused.first()
            && self.refused.len() == self.topics.len()
        {
            if !quiet {
                eprintln!("All subscription requests were denied: {code}");
            }
            return Some(code.0);
        }
        for (topic, code) in &self.refused {
            if !quiet {
                eprintln!(
                    "Warning: subscription to '{}' was denied: {code}",
                    topic_text(topic)
                );
            }
        }
        if self.args.exit_after_subscribe || self.topics.is_empty() {
            return Some(0);
        }
        if let Some(seconds) = self.args.sleep {
            self.link.client().sleep(Instant::now(), seconds);
        }
        None
    }

    /// Asleep: wakes when four fifths of the duration are over, which leaves time for a repeat or two.
    fn rest(&mut self) {
        if let Some(seconds) = self.args.sleep {
            let asleep = Duration::from_secs(seconds.into()) * 4 / 5;
            self.alarm = Some(Alarm::Wake(Instant::now() + asleep));
        }
    }

    fn message(&mut self, received: &Received) -> Next {
        let message = Message {
            qos: received.qos.to_mqtt().unwrap_or(QoS::AtMostOnce),
            dup: received.dup,
            ..Message::new(
                topic_text(&received.topic),
                Bytes::copy_from_slice(&received.data),
            )
            .retain(received.retain)
        };
        if let Some(next) = self.printer.judge(&message) {
            return next;
        }
        if self.printer.is_to_clear(&message) {
            let (topic, qos) = (received.topic.clone(), nightjar_mqttsn::QoS::AtLeastOnce);
            self.link
                .client()
                .publish(Instant::now(), topic, qos, true, Vec::new());
        }
        self.printer.show(&message)
    }

    /// DISCONNECT. A command that did its work has succeeded, whatever becomes of its goodbye.
    async fn close(mut self) {
        if self.link.client().state() == State::Disconnected {
            return;
        }
        let token = self.link.client().disconnect(Instant::now());
        let _ = timeout(GOODBYE, self.link.finish(token, |_| ())).await;
    }
}
