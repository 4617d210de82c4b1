//! `pub`: publishes one message, a file, standard input, or its lines.

use std::path::PathBuf;
use std::pin::pin;
use std::time::Duration;

use bytes::Bytes;
use nightjar_mqtt::ReasonCode;
use nightjar_mqtt::topic::validate_topic_name;
use tokio::io::{AsyncBufRead, AsyncRead, BufReader};
use tokio::time::{Instant, sleep, sleep_until};

use crate::cli::args::{ConnectArgs, PublishQos, Target, parse_publish_qos};
use crate::cli::properties::Properties;
use crate::cli::stdin::{Lines, read_all, read_file};
use crate::cli::{debug, interrupted};
use crate::connection::Connection;
use crate::error::{Error, Result};
use crate::message::Message;
use crate::options::ConnectOptions;
use crate::session::{Event, Session};
use crate::sn::SnArgs;
use crate::transport::Dialer;

/// Wait between attempts to reach a broker again.
pub(crate) const RECONNECT_DELAY: Duration = Duration::from_secs(1);

/// Publish messages (flags of mosquitto_pub)
#[derive(Debug, Clone, clap::Args)]
#[command(disable_help_flag = true)]
pub struct PubArgs {
    /// Print help
    #[arg(long, action = clap::ArgAction::HelpLong)]
    help: Option<bool>,
    /// The broker and the session
    #[command(flatten)]
    pub connect: ConnectArgs,
    /// Topic to publish to
    #[arg(short, long)]
    pub topic: Option<String>,
    /// QoS: 0, 1 or 2; with --sn also -1, which needs no connection
    #[arg(short, long, value_parser = parse_publish_qos, default_value = "0", allow_negative_numbers = true)]
    pub qos: PublishQos,
    /// Retain the message
    #[arg(short, long)]
    pub retain: bool,
    /// What to publish
    #[command(flatten)]
    pub payload: PayloadArgs,
    /// Publish the message this many times
    #[arg(long, value_name = "COUNT", default_value_t = 1, value_parser = clap::value_parser!(u64).range(1..))]
    pub repeat: u64,
    /// Seconds between repeated messages, as in 0.5
    #[arg(long, value_name = "SECONDS", default_value = "0", value_parser = parse_seconds)]
    pub repeat_delay: Duration,
    /// MQTT-SN
    #[command(flatten)]
    pub sn: SnArgs,
}

/// Exactly one of these.
#[derive(Debug, Clone, clap::Args)]
#[group(required = true, multiple = false)]
pub struct PayloadArgs {
    /// Payload
    #[arg(short, long, allow_hyphen_values = true)]
    pub message: Option<String>,
    /// Publish the contents of a file
    #[arg(short, long)]
    pub file: Option<PathBuf>,
    /// Publish each line of standard input as a message
    #[arg(short = 'l', long)]
    pub stdin_line: bool,
    /// Publish all of standard input as one message
    #[arg(short = 's', long)]
    pub stdin_file: bool,
    /// Publish an empty payload
    #[arg(short, long)]
    pub null_message: bool,
}

fn parse_seconds(text: &str) -> std::result::Result<Duration, String> {
    let seconds = text.parse::<f64>().ok();
    seconds
        .and_then(|seconds| Duration::try_from_secs_f64(seconds).ok())
        .ok_or_else(|| "expected seconds, 0 or more".to_owned())
}

/// `pub` with any input in place of stdin; the exit code is 0, or the last reason code with which the broker refused a
/// message.
///
/// # Errors
/// What ended it before all was published.
pub async fn publish(args: &PubArgs, stdin: impl AsyncRead + Unpin) -> Result<u8> {
    if args.sn.sn {
        return crate::sn::publish::publish(args, stdin).await;
    }
    let qos = args.qos.to_mqtt()?;
    let Target {
        dialer,
        mut options,
        properties,
        topic,
    } = args.connect.target()?;
    let topic = match (&args.topic, topic) {
        (Some(_), Some(_)) => return Err(Error::Usage("the topic is in -t and in -L".to_owned())),
        (Some(topic), None) => topic.clone(),
        (None, Some(topic)) => topic,
        (None, None) => return Err(Error::Usage("a topic is needed (-t)".to_owned())),
    };
    validate_topic_name(&topic)
        .map_err(|error| Error::Usage(format!("invalid publish topic '{topic}': {error}")))?;
    if args.connect.debug {
        options.tracer = Some(debug::tracer(&options.client_id));
    }
    let message = Message::new(topic, Bytes::new())
        .qos(qos)
        .retain(args.retain)
        .properties(properties.publish.clone());
    let mut publisher = Publisher {
        quiet: args.connect.quiet,
        refused: 0,
    };
    let payload = &args.payload;
    if payload.stdin_line {
        let lines = Lines::new(BufReader::new(stdin));
        let connection = Connection::connect(&dialer, options.clone()).await?;
        let connection = publisher
            .lines(connection, lines, &message, &dialer, &options)
            .await?;
        close(connection, &properties).await?;
        return Ok(publisher.refused);
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
    let message = Message {
        payload: bytes,
        ..message
    };
    let mut connection = Connection::connect(&dialer, options).await?;
    for round in 0..args.repeat {
        if round > 0 && !publisher.pause(&mut connection, args.repeat_delay).await? {
            break;
        }
        let reason = connection.publish(message.clone()).await?;
        publisher.outcome(None, reason);
    }
    close(connection, &properties).await?;
    Ok(publisher.refused)
}

async fn close(connection: Connection, properties: &Properties) -> Result<()> {
    let expiry = properties.disconnect_expiry;
    connection
        .close(
            ReasonCode::NORMAL_DISCONNECTION,
            expiry,
            &properties.disconnect,
        )
        .await
}

struct Publisher {
    quiet: bool,
    /// The last reason code of 0x80 or above.
    refused: u8,
}

impl Publisher {
    fn outcome(&mut self, packet_id: Option<u16>, reason: ReasonCode) {
        if reason.is_error() {
            self.refused = reason.code();
            if !self.quiet {
                let number = packet_id.map(|id| format!(" {id}")).unwrap_or_default();
                eprintln!("Warning: publish{number} failed: {reason}");
            }
        }
    }

    fn event(&mut self, event: Event) -> Result<()> {
        match event {
            Event::Published { packet_id, reason } => self.outcome(Some(packet_id), reason),
            Event::Disconnected { reason, .. } => return Err(Error::Disconnected(reason)),
            _ => {}
        }
        Ok(())
    }

    /// Waits between repeated messages; false when a signal came.
    async fn pause(&mut self, connection: &mut Connection, delay: Duration) -> Result<bool> {
        let until = Instant::now() + delay;
        if delay.is_zero() {
            return Ok(true);
        }
        loop {
            tokio::select! {
                () = sleep_until(until) => return Ok(true),
                () = interrupted() => return Ok(false),
                event = connection.next_event() => self.event(event?)?,
            }
        }
    }

    /// Publishes lines until the end of the input or a signal. A lost connection is made anew, and
    /// what was not acknowledged is sent again, also where the broker forgot the session.
    async fn lines<R: AsyncBufRead + Unpin>(
        &mut self,
        mut connection: Connection,
        mut lines: Lines<R>,
        message: &Message,
        dialer: &Dialer,
        options: &ConnectOptions,
    ) -> Result<Connection> {
        let mut stop = pin!(interrupted());
        let mut again = Vec::new();
        loop {
            let sent = tokio::select! {
                sent = self.lines_connected(&mut connection, &mut lines, message, &mut again) => sent,
                () = &mut stop => {
                    connection.drain().await?;
                    return Ok(connection);
                }
            };
            match sent {
                Ok(()) => return Ok(connection),
                Err(error) if error.is_transient() => {
                    if !self.quiet {
                        eprintln!("Warning: {error}; trying again");
                    }
                    let session = connection.into_session();
                    connection = tokio::select! {
                        connection = reconnect(dialer, options, session) => connection?,
                        () = &mut stop => return Err(error),
                    };
                    // They were handed over before the line that waits, if one does.
                    again.splice(0..0, connection.take_orphans());
                }
                Err(error) => return Err(error),
            }
        }
    }

    async fn lines_connected<R: AsyncBufRead + Unpin>(
        &mut self,
        connection: &mut Connection,
        lines: &mut Lines<R>,
        message: &Message,
        again: &mut Vec<Message>,
    ) -> Result<()> {
        while let Some(orphan) = again.first() {
            connection.send(orphan.clone()).await?;
            again.remove(0);
        }
        loop {
            while connection.has_event() {
                let event = connection.next_event().await?;
                self.event(event)?;
            }
            // Lines go first: many of them then leave in one write.
            tokio::select! {
                biased;
                line = lines.next() => match line? {
                    None => break,
                    Some(payload) => {
                        let next = Message { payload, ..message.clone() };
                        // Kept until it is handed over: the connection may end in between.
                        again.push(next.clone());
                        connection.send(next).await?;
                        again.clear();
                    }
                },
                event = connection.next_event() => self.event(event?)?,
            }
        }
        connection.drain().await?;
        while connection.has_event() {
            let event = connection.next_event().await?;
            self.event(event)?;
        }
        Ok(())
    }
}

/// Tries once a second until the broker is there again.
pub(crate) async fn reconnect(
    dialer: &Dialer,
    options: &ConnectOptions,
    mut session: Session,
) -> Result<Connection> {
    loop {
        sleep(RECONNECT_DELAY).await;
        let transport = match dialer.dial().await {
            Ok(transport) => transport,
            Err(error) if error.is_transient() => continue,
            Err(error) => return Err(error),
        };
        match Connection::resume(transport, options.clone(), session).await {
            Ok(connection) => return Ok(connection),
            Err(failed) if failed.0.is_transient() => session = failed.1,
            Err(failed) => return Err(failed.0),
        }
    }
}
