//! Which messages `sub` prints, and how: the same for MQTT and MQTT-SN.

use std::io::Write;

use jiff::Zoned;
use nightjar_mqtt::topic::matches;

use crate::cli::args::random_number;
use crate::cli::format::{Fields, Format};
use crate::cli::subscribe::SubArgs;
use crate::error::{Error, Result};
use crate::message::Message;

/// Output is collected up to this size while more messages are there already.
const OUTPUT_CHUNK: usize = 64 * 1024;

/// What a message means for the loop.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Next {
    GoOn,
    Stop,
}

/// Prints messages as the flags say.
pub(crate) struct Printer<'a, W> {
    args: &'a SubArgs,
    stdout: W,
    format: Format,
    /// Messages printed.
    seen: u64,
    random: u64,
    output: Vec<u8>,
}

impl<'a, W: Write> Printer<'a, W> {
    /// # Errors
    /// [`Error::Usage`] for a format that makes no sense.
    pub fn new(args: &'a SubArgs, stdout: W) -> Result<Self> {
        let format = match &args.format {
            Some(format) => {
                Format::parse(format).map_err(|error| Error::Usage(format!("-F: {error}")))?
            }
            None => Format::plain(args.verbose),
        };
        Ok(Self {
            args,
            stdout,
            format,
            seen: 0,
            random: random_number() | 1,
            output: Vec::new(),
        })
    }

    /// What to do with a message that is not even looked at: before it would be cleared.
    pub fn judge(&self, message: &Message) -> Option<Next> {
        if self.args.retained_only && !message.retain {
            return Some(Next::Stop);
        }
        let hidden = |filter: &String| matches(filter, &message.topic);
        self.args
            .filter_out
            .iter()
            .any(hidden)
            .then_some(Next::GoOn)
    }

    /// Whether `--remove-retained` clears it. An empty payload is what clearing looks like to other subscribers: not to be
    /// repeated.
    pub fn is_to_clear(&self, message: &Message) -> bool {
        self.args.remove_retained && message.retain && !message.payload.is_empty()
    }

    /// Prints a message that passed [`Printer::judge`], if no other flag hides it.
    pub fn show(&mut self, message: &Message) -> Next {
        let args = self.args;
        if args.no_retained && message.retain {
            return Next::GoOn;
        }
        if args.random_filter < 100.0 && self.percent() >= args.random_filter {
            return Next::GoOn;
        }
        self.print(message);
        self.seen += 1;
        if args.count.is_some_and(|count| self.seen >= count) {
            Next::Stop
        } else {
            Next::GoOn
        }
    }

    /// A number from 0 to 100, by xorshift.
    fn percent(&mut self) -> f64 {
        self.random ^= self.random << 13;
        self.random ^= self.random >> 7;
        self.random ^= self.random << 17;
        (self.random >> 11) as f64 / (1u64 << 53) as f64 * 100.0
    }

    fn print(&mut self, message: &Message) {
        let properties = &message.properties;
        let fields = Fields {
            topic: &message.topic,
            payload: &message.payload,
            qos: message.qos.bits(),
            retain: message.retain,
            packet_id: message.packet_id.unwrap_or(0),
            topic_alias: properties.topic_alias,
            content_type: properties.content_type.as_deref(),
            correlation_data: properties.correlation_data.as_deref(),
            message_expiry: properties.message_expiry,
            payload_format: properties.payload_format.map(|format| format as u8),
            response_topic: properties.response_topic.as_deref(),
            subscription_ids: &properties.subscription_ids,
            user_properties: &properties.user_properties,
        };
        let start = self.output.len();
        match self
            .format
            .write(&mut self.output, &fields, &Zoned::now(), self.args.pretty)
        {
            Ok(()) if self.args.no_newline => {}
            Ok(()) => self.output.push(b'\n'),
            Err(error) => {
                self.output.truncate(start);
                if !self.args.connect.quiet {
                    eprintln!("Error: {error} on topic {}", message.topic);
                }
            }
        }
    }

    /// True where so much is collected that it has to be written first.
    pub fn is_full(&self) -> bool {
        self.output.len() >= OUTPUT_CHUNK
    }

    /// Writes the output; false where nobody reads it any more.
    pub fn flush(&mut self) -> bool {
        if self.output.is_empty() {
            return true;
        }
        let written = self
            .stdout
            .write_all(&self.output)
            .and_then(|()| self.stdout.flush());
        self.output.clear();
        written.is_ok()
    }
}
