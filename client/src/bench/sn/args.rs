//! Flags of `bench sn`: those of the other kinds where they mean the same.

use std::net::IpAddr;
use std::time::Duration;

use clap::builder::BoolishValueParser;
use nightjar_mqtt::QoS;

use crate::bench::args::{parse_interval, parse_rate, parse_seconds};
use crate::cli::args::{PublishQos, parse_publish_qos, parse_qos};
use crate::sn::DEFAULT_PORT;

/// `bench sn`
#[derive(Debug, Clone, clap::Args)]
#[command(disable_help_flag = true)]
pub struct SnBench {
    /// Print help
    #[arg(long, action = clap::ArgAction::HelpLong)]
    help: Option<bool>,
    /// Gateway
    #[arg(short = 'h', long, default_value = "localhost")]
    pub host: String,
    /// UDP port of the gateway
    #[arg(short, long, default_value_t = DEFAULT_PORT)]
    pub port: u16,
    /// Sensors
    #[arg(short, long, default_value_t = 200, value_parser = clap::value_parser!(u32).range(1..16_777_216))]
    pub count: u32,
    /// Number of the first sensor
    #[arg(short = 'n', long, default_value_t = 0)]
    pub startnumber: u32,
    /// Start of the client identifiers
    #[arg(long, default_value = "sn")]
    pub prefix: String,
    /// Connects each second; without it as fast as they are answered
    #[arg(short = 'R', long, value_parser = clap::value_parser!(u64).range(1..))]
    pub connrate: Option<u64>,
    /// Keep alive in seconds
    #[arg(short, long, default_value_t = 300)]
    pub keepalive: u16,
    /// Clean session
    #[arg(short = 'C', long, default_value = "true", num_args = 0..=1, default_missing_value = "true", value_parser = BoolishValueParser::new())]
    pub clean: bool,
    /// Topic that a sensor publishes to; %i is its number, %c its client identifier
    #[arg(short, long, default_value = "nightjar/bench/sn/up/%i")]
    pub topic: String,
    /// Predefined topic id, in place of -t
    #[arg(long, value_name = "ID", conflicts_with_all = ["topic", "short_topic"])]
    pub topic_id: Option<u16>,
    /// Short topic name of two characters, in place of -t
    #[arg(long, value_name = "NAME", conflicts_with = "topic", value_parser = crate::sn::args::parse_short)]
    pub short_topic: Option<crate::sn::args::ShortTopic>,
    /// QoS: 0, 1, 2 or -1, which needs --topic-id or --short-topic and no connection
    #[arg(short, long, value_parser = parse_publish_qos, default_value = "0", allow_negative_numbers = true)]
    pub qos: PublishQos,
    /// Milliseconds between two messages of a sensor; 0: as fast as they are acknowledged, QoS 0 as fast as they leave
    #[arg(short = 'I', long = "interval_of_msg", default_value_t = 1000.0, value_parser = parse_interval)]
    pub interval_of_msg: f64,
    /// Messages each second of all sensors together, in place of -I
    #[arg(long, value_name = "MESSAGES", value_parser = parse_rate)]
    pub rate: Option<f64>,
    /// Payload bytes; 16 hold time and sequence
    #[arg(short, long, default_value_t = 32, value_parser = clap::value_parser!(u32).range(0..=65_000))]
    pub size: u32,
    /// Messages of all sensors together; 0: no limit
    #[arg(short = 'L', long, default_value_t = 0)]
    pub limit: u64,
    /// Seconds to publish; without it and without -L until Ctrl-C, or with --sleep not at all
    #[arg(long, value_name = "SECONDS", value_parser = parse_seconds)]
    pub duration: Option<Duration>,
    /// MQTT port of the same broker: a subscriber there counts what arrives, and sends what sleepers get
    #[arg(long, value_name = "PORT")]
    pub mqtt_port: Option<u16>,
    /// Sleep cycles: DISCONNECT with this duration in seconds, then PINGREQ of all sensors at once
    #[arg(long, value_name = "SECONDS", value_parser = clap::value_parser!(u16).range(1..))]
    pub sleep: Option<u16>,
    /// With --sleep: each sensor subscribes and falls asleep as soon as it is connected, as in a fleet that is seldom awake;
    /// without it all are connected at once before the first sleeps
    #[arg(long, requires = "sleep", conflicts_with_all = ["duration", "limit"])]
    pub drowsy: bool,
    /// Times that all sensors wake
    #[arg(long, default_value_t = 1, requires = "sleep")]
    pub cycles: u32,
    /// Messages for each sensor before it wakes
    #[arg(long, value_name = "MESSAGES", default_value_t = 0, requires_all = ["sleep", "mqtt_port"])]
    pub down: u32,
    /// QoS of those messages
    #[arg(long, value_parser = parse_qos, default_value = "1")]
    pub down_qos: QoS,
    /// Topic that a sensor subscribes to, with --sleep
    #[arg(long, default_value = "nightjar/bench/sn/down/%i")]
    pub down_topic: String,
    /// Seconds to stay asleep before the first wake, as for a look at the gateway's memory
    #[arg(long, value_name = "SECONDS", default_value = "0", value_parser = parse_seconds)]
    pub rest: Duration,
    /// Sensors share so many sockets, as nodes behind forwarders; 0: each has its own
    #[arg(long, value_name = "SOCKETS", default_value_t = 0)]
    pub forwarders: u32,
    /// Local addresses, separated by commas: sockets take turns
    #[arg(long, value_name = "ADDRESS", value_delimiter = ',')]
    pub ifaddr: Vec<IpAddr>,
    /// Process id of the gateway, if it runs on this machine: its memory and processor time
    #[arg(long)]
    pub pid: Option<u32>,
    /// Seconds without an answer after which a message is sent again
    #[arg(long, value_name = "SECONDS", default_value = "10", value_parser = parse_seconds)]
    pub retry: Duration,
    /// Repeats after which the gateway counts as gone
    #[arg(long, default_value_t = 4)]
    pub retries: u32,
    /// Threads that drive sensors [default: half of the cores]
    #[arg(long, value_parser = clap::value_parser!(u16).range(1..=256))]
    pub threads: Option<u16>,
    /// Print the result as one JSON object, and nothing else on stdout
    #[arg(long)]
    pub json: bool,
    /// No line for each phase
    #[arg(long)]
    pub quiet: bool,
}
