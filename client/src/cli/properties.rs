//! `-D COMMAND PROPERTY VALUE [VALUE]`: properties of 5.0 packets.

use std::ffi::OsString;

use bytes::Bytes;
use clap::{Arg, ArgAction, ArgMatches, Command};
use nightjar_mqtt::packet::PayloadFormat;

use crate::error::{Error, Result};
use crate::message::MessageProperties;
use crate::options::ConnectionProperties;

const ID: &str = "property";

/// The raw values of every `-D`, one list for each time the flag was given.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct PropertyArgs(pub Vec<Vec<String>>);

impl clap::FromArgMatches for PropertyArgs {
    fn from_arg_matches(matches: &ArgMatches) -> std::result::Result<Self, clap::Error> {
        let given = matches
            .get_occurrences::<OsString>(ID)
            .into_iter()
            .flatten();
        let texts = given.map(|values| values.map(|v| v.to_string_lossy().into_owned()).collect());
        Ok(Self(texts.collect()))
    }

    fn update_from_arg_matches(
        &mut self,
        matches: &ArgMatches,
    ) -> std::result::Result<(), clap::Error> {
        *self = <Self as clap::FromArgMatches>::from_arg_matches(matches)?;
        Ok(())
    }
}

impl clap::Args for PropertyArgs {
    fn augment_args(command: Command) -> Command {
        command.arg(
            Arg::new(ID)
                .short('D')
                .long(ID)
                .num_args(3..=4)
                .value_names(["COMMAND", "PROPERTY", "VALUE"])
                .value_parser(clap::value_parser!(OsString))
                .action(ArgAction::Append)
                .help("A property of 5.0: -D PUBLISH content-type text/plain, -D CONNECT user-property NAME VALUE"),
        )
    }

    fn augment_args_for_update(command: Command) -> Command {
        Self::augment_args(command)
    }
}

/// Properties by the packet they go into.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Properties {
    /// CONNECT.
    pub connect: ConnectionProperties,
    /// The will in CONNECT.
    pub will: MessageProperties,
    /// PUBLISH.
    pub publish: MessageProperties,
    /// SUBSCRIBE: the subscription identifier.
    pub subscription_identifier: Option<u32>,
    /// SUBSCRIBE: user properties.
    pub subscribe: Vec<(String, String)>,
    /// UNSUBSCRIBE: user properties.
    pub unsubscribe: Vec<(String, String)>,
    /// DISCONNECT: the session expiry interval.
    pub disconnect_expiry: Option<u32>,
    /// DISCONNECT: user properties.
    pub disconnect: Vec<(String, String)>,
}

impl PropertyArgs {
    /// True where the flag was not given.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Sorts the values into their packets.
    ///
    /// # Errors
    /// [`Error::Usage`] naming the command, property or value that is wrong.
    pub fn parse(&self) -> Result<Properties> {
        let mut properties = Properties::default();
        for values in &self.0 {
            properties.add(values)?;
        }
        Ok(properties)
    }
}

impl Properties {
    fn add(&mut self, values: &[String]) -> Result<()> {
        let text = values.join(" ");
        let bad = |what: &str| Error::Usage(format!("--property {text}: {what}"));
        let [command, name, rest @ ..] = values else {
            return Err(bad("expected COMMAND PROPERTY VALUE"));
        };
        let command = command.to_ascii_lowercase();
        if name == "user-property" {
            let [key, value] = rest else {
                return Err(bad("a user property has a name and a value"));
            };
            let list = match command.as_str() {
                "connect" => &mut self.connect.user_properties,
                "will" => &mut self.will.user_properties,
                "publish" => &mut self.publish.user_properties,
                "subscribe" => &mut self.subscribe,
                "unsubscribe" => &mut self.unsubscribe,
                "disconnect" => &mut self.disconnect,
                _ => {
                    return Err(bad(
                        "expected CONNECT, PUBLISH, SUBSCRIBE, UNSUBSCRIBE, DISCONNECT or WILL",
                    ));
                }
            };
            list.push((key.clone(), value.clone()));
            return Ok(());
        }
        let [value] = rest else {
            return Err(bad("this property has one value"));
        };
        let number = |max: u32| {
            let parsed = value.parse::<u32>().ok().filter(|number| *number <= max);
            parsed.ok_or_else(|| bad(&format!("expected a number from 0 to {max}")))
        };
        let short = || {
            value
                .parse::<u16>()
                .map_err(|_| bad("expected a number from 0 to 65535"))
        };
        let flag = || match value.as_str() {
            "0" => Ok(false),
            "1" => Ok(true),
            _ => Err(bad("expected 0 or 1")),
        };
        match command.as_str() {
            "connect" => {
                let connect = &mut self.connect;
                match name.as_str() {
                    "session-expiry-interval" => connect.session_expiry = Some(number(u32::MAX)?),
                    "receive-maximum" => connect.receive_maximum = Some(short()?),
                    "maximum-packet-size" => connect.maximum_packet_size = Some(number(u32::MAX)?),
                    "topic-alias-maximum" => connect.topic_alias_maximum = Some(short()?),
                    "request-response-information" => {
                        connect.request_response_information = Some(flag()?);
                    }
                    "request-problem-information" => {
                        connect.request_problem_information = Some(flag()?);
                    }
                    "authentication-method" => connect.authentication_method = Some(value.clone()),
                    "authentication-data" => {
                        connect.authentication_data = Some(value.clone().into_bytes());
                    }
                    _ => return Err(bad("CONNECT has no such property")),
                }
            }
            "publish" | "will" => {
                let will = command == "will";
                let message = if will {
                    &mut self.will
                } else {
                    &mut self.publish
                };
                match name.as_str() {
                    "content-type" => message.content_type = Some(value.clone()),
                    "correlation-data" => {
                        message.correlation_data = Some(Bytes::from(value.clone()));
                    }
                    "message-expiry-interval" => message.message_expiry = Some(number(u32::MAX)?),
                    "payload-format-indicator" => {
                        message.payload_format = Some(if flag()? {
                            PayloadFormat::Utf8
                        } else {
                            PayloadFormat::Unspecified
                        });
                    }
                    "response-topic" => message.response_topic = Some(value.clone()),
                    "topic-alias" if !will => message.topic_alias = Some(short()?),
                    "will-delay-interval" if will => message.will_delay = Some(number(u32::MAX)?),
                    _ => return Err(bad("this packet has no such property")),
                }
            }
            "subscribe" if name == "subscription-identifier" => {
                self.subscription_identifier = Some(number(268_435_455)?);
            }
            "disconnect" if name == "session-expiry-interval" => {
                self.disconnect_expiry = Some(number(u32::MAX)?);
            }
            "subscribe" | "unsubscribe" | "disconnect" => {
                return Err(bad("this packet has no such property"));
            }
            _ => {
                return Err(bad(
                    "expected CONNECT, PUBLISH, SUBSCRIBE, UNSUBSCRIBE, DISCONNECT or WILL",
                ));
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(lines: &[&str]) -> Result<Properties> {
        let values = |line: &&str| line.split(' ').map(str::to_owned).collect();
        PropertyArgs(lines.iter().map(values).collect()).parse()
    }

    #[test]
    fn properties_go_to_their_packets() {
        let properties = parse(&[
            "CONNECT receive-maximum 10",
            "connect user-property a b",
            "publish content-type text/plain",
            "PUBLISH user-property k v",
            "PUBLISH user-property k w",
            "publish payload-format-indicator 1",
            "will will-delay-interval 5",
            "subscribe subscription-identifier 7",
            "disconnect session-expiry-interval 0",
        ])
        .unwrap();
        assert_eq!(properties.connect.receive_maximum, Some(10));
        assert_eq!(
            properties.connect.user_properties,
            [("a".into(), "b".into())]
        );
        assert_eq!(
            properties.publish.content_type.as_deref(),
            Some("text/plain")
        );
        assert_eq!(properties.publish.user_properties.len(), 2);
        assert_eq!(properties.publish.payload_format, Some(PayloadFormat::Utf8));
        assert_eq!(properties.will.will_delay, Some(5));
        assert_eq!(properties.subscription_identifier, Some(7));
        assert_eq!(properties.disconnect_expiry, Some(0));
    }

    #[test]
    fn wrong_properties_are_named() {
        for line in [
            "connect content-type x",
            "publish will-delay-interval 5",
            "will topic-alias 3",
            "publish topic-alias 70000",
            "publish payload-format-indicator 2",
            "publish user-property k",
            "publish content-type a b",
            "puback reason-string x",
            "subscribe subscription-identifier 268435456",
        ] {
            let error = parse(&[line]).unwrap_err().to_string();
            assert!(error.contains(line), "{line}: {error}");
        }
    }
}
