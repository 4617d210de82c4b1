//! The flags of MQTT-SN, and how the other flags read with them.

use std::net::IpAddr;
use std::time::Duration;

use nightjar_mqtt::ProtocolVersion;
use nightjar_mqttsn::client::{Config, ConnectOptions, Topic, Will};

use crate::cli::args::ConnectArgs;
use crate::error::{Error, Result};
use crate::sn::DEFAULT_PORT;

/// Flags of `pub` and `sub` for MQTT-SN.
#[derive(Debug, Clone, Default, clap::Args)]
pub struct SnArgs {
    /// Speak MQTT-SN 1.2 over UDP, port 1884
    #[arg(long, help_heading = "MQTT-SN")]
    pub sn: bool,
    /// Predefined topic id, in place of -t; sub: may be repeated
    #[arg(long, value_name = "ID", requires = "sn", help_heading = "MQTT-SN")]
    pub topic_id: Vec<u16>,
    /// Short topic name of two characters, in place of -t; sub: may be repeated
    #[arg(long, value_name = "NAME", requires = "sn", value_parser = parse_short, help_heading = "MQTT-SN")]
    pub short_topic: Vec<ShortTopic>,
    /// Seconds without an answer after which a message is sent again
    #[arg(long, value_name = "SECONDS", requires = "sn", default_value = "10", value_parser = parse_retry, help_heading = "MQTT-SN")]
    pub retry: Duration,
    /// Repeats after which the gateway counts as gone
    #[arg(
        long,
        value_name = "COUNT",
        requires = "sn",
        default_value_t = 4,
        help_heading = "MQTT-SN"
    )]
    pub retries: u32,
    /// Send as a node behind a forwarder, with this node id
    #[arg(long, value_name = "HEX", requires = "sn", value_parser = parse_node, help_heading = "MQTT-SN")]
    pub node: Option<NodeId>,
    /// Delete the will that a kept session (-c) has
    #[arg(
        long,
        requires = "sn",
        conflicts_with = "will_topic",
        help_heading = "MQTT-SN"
    )]
    pub delete_will: bool,
}

/// Two octets of a short topic name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ShortTopic(pub [u8; 2]);

/// A WirelessNodeId.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NodeId(pub Vec<u8>);

pub(crate) fn parse_short(text: &str) -> std::result::Result<ShortTopic, String> {
    <[u8; 2]>::try_from(text.as_bytes())
        .map(ShortTopic)
        .map_err(|_| {
            format!(
                "expected 2 octets, as in `ab`, got {}; longer names go with -t",
                text.len()
            )
        })
}

fn parse_node(text: &str) -> std::result::Result<NodeId, String> {
    let digits: Option<Vec<u8>> = text
        .chars()
        .map(|digit| digit.to_digit(16).map(|digit| digit as u8))
        .collect();
    let digits = digits.filter(|digits| digits.len() % 2 == 0 && digits.len() <= 504);
    digits
        .map(|digits| {
            NodeId(
                digits
                    .chunks(2)
                    .map(|pair| pair[0] << 4 | pair[1])
                    .collect(),
            )
        })
        .ok_or_else(|| "expected hexadecimal digits, two for each of at most 252 octets".to_owned())
}

fn parse_retry(text: &str) -> std::result::Result<Duration, String> {
    let seconds = text.parse::<f64>().ok().filter(|seconds| *seconds >= 0.01);
    seconds
        .and_then(|seconds| Duration::try_from_secs_f64(seconds).ok())
        .ok_or_else(|| "expected seconds, 0.01 or more".to_owned())
}

/// Flags turned into what a [`Link`](crate::sn::Link) takes.
#[derive(Debug, Clone)]
pub struct SnTarget {
    /// Name or address of the gateway.
    pub host: String,
    /// UDP port of the gateway.
    pub port: u16,
    /// Local address to send from.
    pub bind: Option<IpAddr>,
    /// Client id, timers, node id.
    pub config: Config,
    /// What CONNECT says.
    pub connect: ConnectOptions,
    /// Each message is printed.
    pub debug: bool,
}

impl SnArgs {
    /// Checks the flags against each other and builds the target.
    ///
    /// # Errors
    /// [`Error::Usage`] naming a flag that MQTT-SN has no place for.
    pub fn target(&self, connect: &ConnectArgs) -> Result<SnTarget> {
        for (given, flag) in [
            (connect.url.is_some(), "--url"),
            (connect.version.is_some(), "--protocol-version"),
            (connect.username.is_some(), "--username"),
            (connect.password.is_some(), "--pw"),
            (connect.session_expiry.is_some(), "-x"),
            (connect.ws || connect.ws_path.is_some(), "--ws"),
            (connect.tls.is_set(), "TLS"),
            (!connect.properties.is_empty(), "--property"),
        ] {
            if given {
                return Err(Error::Usage(format!(
                    "{flag} and --sn: MQTT-SN 1.2 over UDP has no such thing"
                )));
            }
        }
        let mut config = Config::new(connect.client_id(ProtocolVersion::V311)?);
        config.t_retry = self.retry;
        config.n_retry = self.retries;
        config.node_id = self.node.as_ref().map(|node| node.0.clone());
        let will = connect.will_topic.as_ref().map(|topic| Will {
            topic: topic.clone(),
            qos: connect.will_qos.into(),
            retain: connect.will_retain,
            message: connect.will_payload.clone().unwrap_or_default().into(),
        });
        Ok(SnTarget {
            host: connect.host.clone(),
            port: connect.port.unwrap_or(DEFAULT_PORT),
            bind: connect.bind,
            config,
            connect: ConnectOptions {
                clean_session: !connect.disable_clean_session,
                duration: connect.keepalive,
                prompt_will: will.is_some() || self.delete_will,
                will,
            },
            debug: connect.debug,
        })
    }

    /// The topics of `--topic-id` and `--short-topic`.
    pub fn topics(&self) -> impl Iterator<Item = Topic> + '_ {
        let ids = self.topic_id.iter().map(|id| Topic::Predefined(*id));
        ids.chain(self.short_topic.iter().map(|name| Topic::Short(name.0)))
    }
}

/// A topic as it is printed: `%t` of `sub -F`, and messages to the user. Predefined ids have no name on this side.
pub fn topic_text(topic: &Topic) -> String {
    match topic {
        Topic::Name(name) => name.clone(),
        Topic::Predefined(id) => id.to_string(),
        Topic::Short(name) => String::from_utf8_lossy(name).into_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn short_names_have_two_octets() {
        assert_eq!(parse_short("ab"), Ok(ShortTopic(*b"ab")));
        assert_eq!(
            parse_short("é").map(|name| name.0),
            Ok([0xC3, 0xA9]),
            "octets, not characters"
        );
        for wrong in ["", "a", "abc"] {
            assert!(parse_short(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn node_ids_are_pairs_of_digits() {
        assert_eq!(parse_node("0aFF"), Ok(NodeId(vec![0x0A, 0xFF])));
        assert_eq!(parse_node(""), Ok(NodeId(Vec::new())));
        for wrong in ["0", "xy", "0a0", &"00".repeat(253)] {
            assert!(parse_node(wrong).is_err(), "{wrong}");
        }
    }
}
