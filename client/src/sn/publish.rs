//! `pub --sn`.

use std::pin::pin;
use std::time::Instant;

use bytes::Bytes;
use nightjar_mqtt::topic::validate_topic_name;
use nightjar_mqttsn::QoS;
use nightjar_mqttsn::client::{Event, Topic};
use tokio::io::{AsyncRead, BufReader};
use tokio::time::sleep;

use crate::cli::interrupted;
use crate::cli::publish::{PubArgs, RECONNECT_DELAY};
use crate::cli::stdin::{Lines, read_all, read_file};
use crate::error::{Error, Result};
use crate::sn::args::{SnTarget, topic_text};
use crate::sn::link::Link;

/// `pub --sn` with any input in place of stdin; the exit code is 0, or the last return code with which the gateway
/// refused a message.
///
/// # Errors
/// What ended it before all was published.
pub async fn publish(args: &PubArgs, stdin: impl AsyncRead + Unpin) -> Result<u8> {
    let target = args.sn.target(&args.connect)?;
    let mut publisher = Publisher {
        topic: topic(args)?,
        qos: args.qos.to_sn(),
        retain: args.retain,
        quiet: args.connect.quiet,
        refused: 0,
        link: Link::open(&target).await?,
        target,
    };
    if publisher.qos == QoS::MinusOne && matches!(publisher.topic, Topic::Name(_)) {
        return Err(Error::Usage(
            "QoS -1 has no connection that could register a name: give --topic-id or --short-topic"
                .to_owned(),
        ));
    }
    let payload = &args.payload;
    if payload.stdin_line {
        let mut lines = Lines::new(BufReader::new(stdin));
        publisher.connect().await?;
        let mut stop = pin!(interrupted());
        loop {
            let line = tokio::select! {
                biased;
                () = &mut stop => break,
                // Keep alive goes on while the next line is waited for.
                event = publisher.link.next_event() => {
                    publisher.idle(event?).await?;
                    continue;
                }
                line = lines.next() => line?,
            };
            let Some(line) = line else { break };
            tokio::select! {
                sent = publisher.publish_for_ever(line) => sent?,
                () = &mut stop => break,
            }
        }
        return publisher.close().await;
    }
    let bytes = if let Some(text) = &payload.message {
        Bytes::from(text.clone())
    } else if let Some(path) = &payload.file {
        read_file(path).await?
    } else if payload.stdin_file {
        read_all(stdin).await?
    } else {
        Bytes::new()
    };
    publisher.connect().await?;
    for round in 0..args.repeat {
        if round > 0 && !args.repeat_delay.is_zero() {
            let mut pause = pin!(sleep(args.repeat_delay));
            loop {
                tokio::select! {
                    () = &mut pause => break,
                    () = interrupted() => return publisher.close().await,
                    event = publisher.link.next_event() => {
                        if let Event::Disconnected { no_answer } = event? {
                            return Err(publisher.link.lost(no_answer));
                        }
                    }
                }
            }
        }
        publisher.publish(bytes.clone()).await?;
    }
    publisher.close().await
}

/// The one topic that the flags name.
fn topic(args: &PubArgs) -> Result<Topic> {
    let name = args.topic.iter().cloned().map(Topic::Name);
    let mut topics = name.chain(args.sn.topics());
    match (topics.next(), topics.next()) {
        (Some(Topic::Name(name)), None) => {
            validate_topic_name(&name).map_err(|error| {
                Error::Usage(format!("invalid publish topic '{name}': {error}"))
            })?;
            Ok(Topic::Name(name))
        }
        (Some(topic), None) => Ok(topic),
        (Some(_), Some(_)) => Err(Error::Usage(
            "one topic only: -t, --topic-id or --short-topic".to_owned(),
        )),
        (None, _) => Err(Error::Usage(
            "a topic is needed (-t, --topic-id or --short-topic)".to_owned(),
        )),
    }
}

struct Publisher {
    link: Link,
    target: SnTarget,
    topic: Topic,
    qos: QoS,
    retain: bool,
    quiet: bool,
    /// The last return code but 0.
    refused: u8,
}

impl Publisher {
    /// CONNECT, unless the QoS needs none.
    async fn connect(&mut self) -> Result<()> {
        if self.qos == QoS::MinusOne {
            return Ok(());
        }
        let options = self.target.connect.clone();
        let token = self.link.client().connect(Instant::now(), options);
        match self.link.finish(token, |_| ()).await? {
            Ok(_) => Ok(()),
            Err(code) => Err(Error::Refused {
                code: code.0,
                text: code.to_string(),
            }),
        }
    }

    /// Publishes and waits for the acknowledgement that the QoS has.
    async fn publish(&mut self, payload: Bytes) -> Result<()> {
        let (topic, qos, retain) = (self.topic.clone(), self.qos, self.retain);
        let now = Instant::now();
        let token = self
            .link
            .client()
            .publish(now, topic, qos, retain, payload.to_vec());
        let mut refused = Vec::new();
        let done = self.link.finish(token, |event| {
            if let Event::PublishRefused { code, .. } = event {
                refused.push(code);
            }
        });
        let done = done.await?;
        for code in refused.into_iter().chain(done.err()) {
            self.outcome(code);
        }
        Ok(())
    }

    /// The same, with a new connection where one is lost.
    async fn publish_for_ever(&mut self, payload: Bytes) -> Result<()> {
        let mut next = self.publish(payload).await;
        loop {
            match next {
                Err(error @ (Error::Timeout { .. } | Error::Lost(_))) => {
                    if !self.quiet {
                        eprintln!("Warning: {error}; trying again");
                    }
                    sleep(RECONNECT_DELAY).await;
                    // The client has kept the message, and takes it up after CONNACK.
                    next = match self.connect().await {
                        Ok(()) => self.until_idle().await,
                        Err(error) => Err(error),
                    };
                }
                other => return other,
            }
        }
    }

    async fn until_idle(&mut self) -> Result<()> {
        while !self.link.client().is_idle() {
            let event = self.link.next_event().await?;
            self.event(event)?;
        }
        Ok(())
    }

    /// What happens between two lines.
    async fn idle(&mut self, event: Event) -> Result<()> {
        match self.event(event) {
            Err(error @ (Error::Timeout { .. } | Error::Lost(_))) => {
                if !self.quiet {
                    eprintln!("Warning: {error}; trying again");
                }
                sleep(RECONNECT_DELAY).await;
                match self.connect().await {
                    // The next line will try again.
                    Err(Error::Timeout { .. } | Error::Lost(_)) => Ok(()),
                    other => other,
                }
            }
            other => other,
        }
    }

    fn event(&mut self, event: Event) -> Result<()> {
        match event {
            Event::PublishRefused { code, .. } | Event::Refused { code, .. } => self.outcome(code),
            Event::Disconnected { no_answer } => return Err(self.link.lost(no_answer)),
            _ => {}
        }
        Ok(())
    }

    fn outcome(&mut self, code: nightjar_mqttsn::ReturnCode) {
        self.refused = code.0;
        if !self.quiet {
            eprintln!(
                "Warning: publish to {} failed: {code}",
                topic_text(&self.topic)
            );
        }
    }

    /// DISCONNECT and its answer, behind which no refusal of a QoS 0 message can come.
    async fn close(mut self) -> Result<u8> {
        if self.qos == QoS::MinusOne {
            self.link.flush_unanswered().await?;
            return Ok(self.refused);
        }
        let token = self.link.client().disconnect(Instant::now());
        let mut refused = Vec::new();
        let done = self.link.finish(token, |event| {
            if let Event::PublishRefused { code, .. } = event {
                refused.push(code);
            }
        });
        let done = done.await;
        for code in refused {
            self.outcome(code);
        }
        match done {
            // QoS 0 promises nothing, and what was acknowledged is there: a lost goodbye fails nothing.
            Ok(_) | Err(Error::Timeout { .. } | Error::Lost(_)) => Ok(self.refused),
            Err(error) => Err(error),
        }
    }
}
