//! `sub`: subscribes and prints what arrives.

use std::io::Write;
use std::pin::pin;
use std::time::Duration;

use bytes::Bytes;
use nightjar_mqtt::packet::SubscriptionOptions;
use nightjar_mqtt::topic::validate_topic_filter;
use nightjar_mqtt::{QoS, ReasonCode};
use tokio::time::{Instant, sleep_until};

use crate::cli::args::{ConnectArgs, Target, parse_qos};
use crate::cli::printer::{Next, Printer};
use crate::cli::properties::Properties;
use crate::cli::publish::reconnect;
use crate::cli::{debug, interrupted};
use crate::connection::Connection;
use crate::error::{EXIT_TIMEOUT, Error, Result};
use crate::message::Message;
use crate::session::Event;
use crate::sn::SnArgs;

/// Subscribe and print messages (flags of mosquitto_sub)
#[derive(Debug, Clone, clap::Args)]
#[command(disable_help_flag = true)]
pub struct SubArgs {
    /// Print help
    #[arg(long, action = clap::ArgAction::HelpLong)]
    help: Option<bool>,
    /// The broker and the session
    #[command(flatten)]
    pub connect: ConnectArgs,
    /// Topic filter to subscribe to; may be repeated
    #[arg(short, long)]
    pub topic: Vec<String>,
    /// Topic filter to unsubscribe from; may be repeated
    #[arg(short = 'U', long)]
    pub unsubscribe: Vec<String>,
    /// Do not print messages whose topic matches this filter; may be repeated
    #[arg(short = 'T', long)]
    pub filter_out: Vec<String>,
    /// Highest QoS of deliveries
    #[arg(short, long, value_parser = parse_qos, default_value = "0")]
    pub qos: QoS,
    /// Exit after this many messages
    #[arg(short = 'C', value_name = "COUNT", value_parser = clap::value_parser!(u64).range(1..))]
    pub count: Option<u64>,
    /// Exit after this many seconds, with exit code 27
    #[arg(short = 'W', value_name = "SECONDS", value_parser = clap::value_parser!(u64).range(1..))]
    pub timeout: Option<u64>,
    /// Exit once the subscriptions are acknowledged
    #[arg(short = 'E')]
    pub exit_after_subscribe: bool,
    /// Print topic and payload
    #[arg(short, long)]
    pub verbose: bool,
    /// Output format: %t topic, %p payload, %x hex, %q QoS, %r retain, %l length, %m packet id,
    /// %j JSON, %J JSON with JSON payload, %I ISO time, %U Unix time, %A %C %D %E %F %P %R %S
    /// properties, @X time by strftime, \n \t \e ... characters
    #[arg(short = 'F', value_name = "FORMAT")]
    pub format: Option<String>,
    /// Print JSON over several lines
    #[arg(long)]
    pub pretty: bool,
    /// No end of line after each message
    #[arg(short = 'N')]
    pub no_newline: bool,
    /// Do not print retained messages
    #[arg(short = 'R')]
    pub no_retained: bool,
    /// Print retained messages only, exit at the first other one
    #[arg(long)]
    pub retained_only: bool,
    /// Clear each retained message that arrives
    #[arg(long)]
    pub remove_retained: bool,
    /// Keep the retain flag as the publisher set it (5.0)
    #[arg(long)]
    pub retain_as_published: bool,
    /// Do not deliver what this client itself publishes (5.0)
    #[arg(long)]
    pub no_local: bool,
    /// When to get retained messages (5.0): 0 always, 1 with a new subscription, 2 never
    #[arg(long, value_name = "HANDLING", value_parser = clap::value_parser!(u8).range(0..=2), default_value_t = 0)]
    pub retain_handling: u8,
    /// Print this percentage of messages, chosen at random
    #[arg(long, value_name = "PERCENT", value_parser = parse_percent, default_value = "100")]
    pub random_filter: f64,
    /// MQTT-SN
    #[command(flatten)]
    pub sn: SnArgs,
    /// Sleep between deliveries: DISCONNECT with this duration, and PINGREQ for what is buffered when four fifths of it are over
    #[arg(long, value_name = "SECONDS", requires = "sn", value_parser = clap::value_parser!(u16).range(1..), help_heading = "MQTT-SN")]
    pub sleep: Option<u16>,
}

fn parse_percent(text: &str) -> std::result::Result<f64, String> {
    let percent = text
        .parse()
        .ok()
        .filter(|percent| (0.1..=100.0).contains(percent));
    percent.ok_or_else(|| "expected 0.1 to 100".to_owned())
}

/// `sub` with any output in place of stdout, to its exit code: 0, 27 after `-W`, or the reason why all subscriptions were
/// refused.
///
/// # Errors
/// What ended it.
pub async fn subscribe(args: &SubArgs, stdout: impl Write) -> Result<u8> {
    if args.sn.sn {
        return crate::sn::subscribe::subscribe(args, stdout).await;
    }
    let Target {
        dialer,
        mut options,
        properties,
        topic,
    } = args.connect.target()?;
    let filters = filters(args, topic)?;
    let printer = Printer::new(args, stdout)?;
    if args.connect.debug {
        options.tracer = Some(debug::tracer(&options.client_id));
    }
    let mut connection = Connection::connect(&dialer, options.clone()).await?;
    let deadline = args
        .timeout
        .map(|seconds| Instant::now() + Duration::from_secs(seconds));
    let mut subscriber = Subscriber {
        args,
        printer,
        filters,
        properties,
    };
    let mut stop = pin!(interrupted());
    loop {
        let ended = tokio::select! {
            ended = subscriber.listen(&mut connection) => ended,
            () = &mut stop => Ok(0),
            () = sleep_until(deadline.unwrap_or_else(Instant::now)), if deadline.is_some() => {
                if !args.connect.quiet {
                    eprintln!("Timed out");
                }
                Ok(EXIT_TIMEOUT)
            }
        };
        subscriber.printer.flush();
        match ended {
            Ok(code) => {
                let properties = &subscriber.properties;
                let (expiry, user) = (properties.disconnect_expiry, &properties.disconnect);
                let closed = connection
                    .close(ReasonCode::NORMAL_DISCONNECTION, expiry, user)
                    .await;
                // A command that did its work has succeeded, whatever becomes of its goodbye.
                return if code == 0 {
                    closed.map(|()| 0).or(Ok(0))
                } else {
                    Ok(code)
                };
            }
            Err(error) if error.is_transient() => {
                if !args.connect.quiet {
                    eprintln!("Warning: {error}; trying again");
                }
                let session = connection.into_session();
                connection = tokio::select! {
                    connection = reconnect(&dialer, &options, session) => connection?,
                    () = &mut stop => return Ok(0),
                    () = sleep_until(deadline.unwrap_or_else(Instant::now)), if deadline.is_some() => {
                        return Ok(EXIT_TIMEOUT);
                    }
                };
            }
            Err(error) => return Err(error),
        }
    }
}

fn filters(args: &SubArgs, topic: Option<String>) -> Result<Vec<String>> {
    let filters: Vec<String> = args.topic.iter().cloned().chain(topic).collect();
    if filters.is_empty() && args.unsubscribe.is_empty() {
        return Err(Error::Usage(
            "a topic filter is needed (-t or -U)".to_owned(),
        ));
    }
    for filter in filters
        .iter()
        .chain(&args.unsubscribe)
        .chain(&args.filter_out)
    {
        validate_topic_filter(filter)
            .map_err(|error| Error::Usage(format!("invalid topic filter '{filter}': {error}")))?;
    }
    Ok(filters)
}

struct Subscriber<'a, W> {
    args: &'a SubArgs,
    printer: Printer<'a, W>,
    filters: Vec<String>,
    properties: Properties,
}

impl<W: Write> Subscriber<'_, W> {
    /// Subscribes and prints until there is a reason to stop; the exit code.
    async fn listen(&mut self, connection: &mut Connection) -> Result<u8> {
        let options = SubscriptionOptions {
            qos: self.args.qos,
            no_local: self.args.no_local,
            retain_as_published: self.args.retain_as_published,
            retain_handling: match self.args.retain_handling {
                1 => nightjar_mqtt::packet::RetainHandling::SendIfNew,
                2 => nightjar_mqtt::packet::RetainHandling::DoNotSend,
                _ => nightjar_mqtt::packet::RetainHandling::Send,
            },
        };
        let properties = &self.properties;
        let mut unanswered = 0;
        if !self.filters.is_empty() {
            let list: Vec<_> = self
                .filters
                .iter()
                .map(|filter| (filter.as_str(), options))
                .collect();
            let identifier = properties.subscription_identifier;
            connection.send_subscribe(&list, identifier, &properties.subscribe)?;
            unanswered += 1;
        }
        if !self.args.unsubscribe.is_empty() {
            let list: Vec<_> = self.args.unsubscribe.iter().map(String::as_str).collect();
            connection.send_unsubscribe(&list, &properties.unsubscribe)?;
            unanswered += 1;
        }
        loop {
            let pause = !connection.has_event() || self.printer.is_full();
            if pause && !self.printer.flush() {
                return Ok(0);
            }
            match connection.next_event().await? {
                Event::Message(message) => match self.message(connection, &message).await? {
                    Next::GoOn => {}
                    Next::Stop => {
                        connection.drain().await?;
                        return Ok(0);
                    }
                },
                Event::Subscribed { reasons, .. } => {
                    unanswered -= 1;
                    if let Some(code) = self.subscribed(&reasons) {
                        return Ok(code);
                    }
                }
                Event::Unsubscribed { .. } => unanswered -= 1,
                Event::Disconnected { reason, .. } => return Err(Error::Disconnected(reason)),
                _ => {}
            }
            if unanswered == 0 && (self.args.exit_after_subscribe || self.filters.is_empty()) {
                return Ok(0);
            }
        }
    }

    /// Reports refusals; an exit code where nothing was granted.
    fn subscribed(&self, reasons: &[ReasonCode]) -> Option<u8> {
        if let Some(first) = reasons.first()
            && reasons.iter().all(|reason| reason.is_error())
        {
            if !self.args.connect.quiet {
                eprintln!("All subscription requests were denied: {first}");
            }
            return Some(first.code());
        }
        for (filter, reason) in self.filters.iter().zip(reasons) {
            if reason.is_error() && !self.args.connect.quiet {
                eprintln!("Warning: subscription to '{filter}' was denied: {reason}");
            }
        }
        None
    }

    async fn message(&mut self, connection: &mut Connection, message: &Message) -> Result<Next> {
        if let Some(next) = self.printer.judge(message) {
            return Ok(next);
        }
        if self.printer.is_to_clear(message) {
            let clear = Message::new(message.topic.clone(), Bytes::new())
                .qos(QoS::AtLeastOnce)
                .retain(true);
            connection.send(clear).await?;
        }
        Ok(self.printer.show(message))
    }
}
