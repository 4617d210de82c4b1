//! Flags of `bench`: emqtt_bench's where they exist, and ours for what it has not.

use std::net::IpAddr;
use std::time::Duration;

use clap::builder::BoolishValueParser;
use nightjar_mqtt::{ProtocolVersion, QoS};

use crate::bench::sn::SnBench;
use crate::cli::args::{TlsArgs, parse_qos, parse_version};

/// Measure a broker under load (flags of emqtt_bench)
#[derive(Debug, Clone, clap::Args)]
#[command(
    disable_help_flag = true,
    disable_help_subcommand = true,
    subcommand_required = true
)]
pub struct BenchArgs {
    /// Print help
    #[arg(long, action = clap::ArgAction::HelpLong)]
    help: Option<bool>,
    /// What to measure
    #[command(subcommand)]
    pub kind: BenchKind,
}

/// MQTT or MQTT-SN.
#[allow(clippy::large_enum_variant, reason = "one of it in a program")]
#[derive(Debug, Clone, clap::Subcommand)]
pub enum BenchKind {
    /// MQTT
    #[command(flatten)]
    Mqtt(BenchCommand),
    /// MQTT-SN sensors: connect, register, publish, sleep and wake
    Sn(Box<SnBench>),
}

impl BenchKind {
    /// The command, where it is one of MQTT.
    pub fn mqtt(&self) -> Option<&BenchCommand> {
        match self {
            Self::Mqtt(command) => Some(command),
            Self::Sn(_) => None,
        }
    }
}

/// The kinds of load.
#[derive(Debug, Clone, clap::Subcommand)]
pub enum BenchCommand {
    /// Open connections and hold them
    Conn(ConnBench),
    /// Clients that publish
    Pub(PubBench),
    /// Clients that subscribe and receive
    Sub(SubBench),
    /// Pairs of one publisher and one subscriber each; -c counts pairs
    Pair(PairBench),
    /// Publishers and subscribers on one topic: fan-out, or with --publishers 100 -c 1 fan-in
    Fanout(FanoutBench),
}

impl BenchCommand {
    /// The flags every kind has.
    pub fn common(&self) -> &CommonArgs {
        match self {
            Self::Conn(bench) => &bench.common,
            Self::Pub(bench) => &bench.common,
            Self::Sub(bench) => &bench.common,
            Self::Pair(bench) => &bench.common,
            Self::Fanout(bench) => &bench.common,
        }
    }

    /// The flags of publishing, where it publishes.
    pub fn publish(&self) -> Option<&PublishArgs> {
        match self {
            Self::Conn(_) | Self::Sub(_) => None,
            Self::Pub(bench) => Some(&bench.publish),
            Self::Pair(bench) => Some(&bench.publish),
            Self::Fanout(bench) => Some(&bench.publish),
        }
    }

    /// The kind's name on the command line.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Conn(_) => "conn",
            Self::Pub(_) => "pub",
            Self::Sub(_) => "sub",
            Self::Pair(_) => "pair",
            Self::Fanout(_) => "fanout",
        }
    }
}

/// Flags of every kind.
#[derive(Debug, Clone, clap::Args)]
pub struct CommonArgs {
    /// Print help
    #[arg(long, action = clap::ArgAction::HelpLong)]
    help: Option<bool>,
    /// Broker, or several separated by commas: clients take turns
    #[arg(short = 'h', long, default_value = "localhost", value_delimiter = ',')]
    pub host: Vec<String>,
    /// Port of the broker; 1883, TLS 8883, WebSocket 8083, secure WebSocket 8084
    #[arg(short, long)]
    pub port: Option<u16>,
    /// MQTT version: 3, 4 or 5
    #[arg(short = 'V', long, value_parser = parse_version, default_value = "5")]
    pub version: ProtocolVersion,
    /// Clients (pair: pairs; fanout: subscribers)
    #[arg(short, long, default_value_t = 200, value_parser = clap::value_parser!(u32).range(1..))]
    pub count: u32,
    /// Number of the first client
    #[arg(short = 'n', long, default_value_t = 0)]
    pub startnumber: u32,
    /// Milliseconds between two connects; 0: as fast as they are answered
    #[arg(short, long, default_value_t = 10)]
    pub interval: u64,
    /// Connects each second, in place of --interval
    #[arg(short = 'R', long, value_parser = clap::value_parser!(u64).range(1..))]
    pub connrate: Option<u64>,
    /// User name; %i is the client's number
    #[arg(short, long)]
    pub username: Option<String>,
    /// Password
    #[arg(short = 'P', long, allow_hyphen_values = true)]
    pub password: Option<String>,
    /// Keep alive in seconds
    #[arg(short, long, default_value_t = 300)]
    pub keepalive: u16,
    /// Clean session
    #[arg(short = 'C', long, default_value = "true", num_args = 0..=1, default_missing_value = "true", value_parser = BoolishValueParser::new())]
    pub clean: bool,
    /// Session expiry in seconds (5.0)
    #[arg(short = 'x', long, default_value_t = 0)]
    pub expiry: u32,
    /// Use TLS; without --cafile the certificate is not checked
    #[arg(short = 'S', long, default_value = "false", num_args = 0..=1, default_missing_value = "true", value_parser = BoolishValueParser::new())]
    pub ssl: bool,
    /// Certificates of TLS
    #[command(flatten)]
    pub tls: TlsArgs,
    /// Use MQTT over WebSocket
    #[arg(long, default_value = "false", num_args = 0..=1, default_missing_value = "true", value_parser = BoolishValueParser::new())]
    pub ws: bool,
    /// Path of the WebSocket request
    #[arg(long, value_name = "PATH", default_value = crate::endpoint::WEBSOCKET_PATH)]
    pub ws_path: String,
    /// Local addresses, separated by commas: clients take turns. One address has about 28,000 ports
    #[arg(long, value_name = "ADDRESS", value_delimiter = ',')]
    pub ifaddr: Vec<IpAddr>,
    /// Start of the client identifiers
    #[arg(long)]
    pub prefix: Option<String>,
    /// Client identifiers are prefix and number only
    #[arg(long, num_args = 0..=1, default_missing_value = "true", default_value = "false", value_parser = BoolishValueParser::new())]
    pub shortids: bool,
    /// Seconds to run once all clients are there; without it until Ctrl-C
    #[arg(long, value_name = "SECONDS", value_parser = parse_seconds)]
    pub duration: Option<Duration>,
    /// Threads that drive clients [default: half of the cores]
    #[arg(long, value_parser = clap::value_parser!(u16).range(1..=256))]
    pub threads: Option<u16>,
    /// Print the result as one JSON object, and nothing else on stdout
    #[arg(long)]
    pub json: bool,
    /// No line each second
    #[arg(long)]
    pub quiet: bool,
}

/// Flags of what publishes.
#[derive(Debug, Clone, clap::Args)]
pub struct PublishArgs {
    /// Milliseconds between two messages of a client; 0: as fast as window and broker allow
    #[arg(short = 'I', long = "interval_of_msg", default_value_t = 1000.0, value_parser = parse_interval)]
    pub interval_of_msg: f64,
    /// Messages each second of all clients together, in place of -I
    #[arg(long, value_name = "MESSAGES", value_parser = parse_rate)]
    pub rate: Option<f64>,
    /// Payload bytes; 8 hold the time, 16 also the sequence
    #[arg(short, long, default_value_t = 256, value_parser = clap::value_parser!(u32).range(0..=268_000_000))]
    pub size: u32,
    /// QoS
    #[arg(short, long, value_parser = parse_qos, default_value = "0")]
    pub qos: QoS,
    /// Retain the messages
    #[arg(short, long, default_value = "false", num_args = 0..=1, default_missing_value = "true", value_parser = BoolishValueParser::new())]
    pub retain: bool,
    /// Messages of all clients together; 0: no limit
    #[arg(short = 'L', long, default_value_t = 0)]
    pub limit: u64,
    /// Messages of a client on their way: QoS 1 and 2 without acknowledgement, in pair and fanout also
    /// not yet received; 0: no limit but the broker's
    #[arg(short = 'F', long, alias = "inflight", default_value_t = 100)]
    pub window: u16,
    /// Seconds before latencies and rates count
    #[arg(long, value_name = "SECONDS", default_value = "0", value_parser = parse_seconds)]
    pub warmup: Duration,
}

/// `bench conn`
#[derive(Debug, Clone, clap::Args)]
#[command(disable_help_flag = true)]
pub struct ConnBench {
    /// Flags of every kind
    #[command(flatten)]
    pub common: CommonArgs,
}

/// `bench pub`
#[derive(Debug, Clone, clap::Args)]
#[command(disable_help_flag = true)]
pub struct PubBench {
    /// Flags of every kind
    #[command(flatten)]
    pub common: CommonArgs,
    /// Topic; %c is the client identifier, %u the user name, %i the client's number. May be repeated:
    /// a client takes turns
    #[arg(short, long, required = true)]
    pub topic: Vec<String>,
    /// Flags of publishing
    #[command(flatten)]
    pub publish: PublishArgs,
    /// Payload in place of --size, without time and sequence
    #[arg(short, long, allow_hyphen_values = true)]
    pub message: Option<String>,
    /// Publish only when all clients are connected
    #[arg(short, long, default_value = "false", num_args = 0..=1, default_missing_value = "true", value_parser = BoolishValueParser::new())]
    pub wait_before_publishing: bool,
}

/// `bench sub`
#[derive(Debug, Clone, clap::Args)]
#[command(disable_help_flag = true)]
pub struct SubBench {
    /// Flags of every kind
    #[command(flatten)]
    pub common: CommonArgs,
    /// Topic filter; %c is the client identifier, %u the user name, %i the client's number. May be
    /// repeated
    #[arg(short, long, required = true)]
    pub topic: Vec<String>,
    /// QoS
    #[arg(short, long, value_parser = parse_qos, default_value = "0")]
    pub qos: QoS,
}

/// `bench pair`
#[derive(Debug, Clone, clap::Args)]
#[command(disable_help_flag = true)]
pub struct PairBench {
    /// Flags of every kind
    #[command(flatten)]
    pub common: CommonArgs,
    /// Topic; %i, the pair's number, has to be in it
    #[arg(short, long, default_value = "nightjar/bench/pair/%i")]
    pub topic: String,
    /// Flags of publishing
    #[command(flatten)]
    pub publish: PublishArgs,
}

/// `bench fanout`
#[derive(Debug, Clone, clap::Args)]
#[command(disable_help_flag = true)]
pub struct FanoutBench {
    /// Flags of every kind
    #[command(flatten)]
    pub common: CommonArgs,
    /// Topic, the same for all
    #[arg(short, long, default_value = "nightjar/bench/fanout")]
    pub topic: String,
    /// Publishers
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..))]
    pub publishers: u32,
    /// Flags of publishing
    #[command(flatten)]
    pub publish: PublishArgs,
}

pub(crate) fn parse_seconds(text: &str) -> Result<Duration, String> {
    let seconds = text.strip_suffix('s').unwrap_or(text).parse::<f64>().ok();
    seconds
        .and_then(|seconds| Duration::try_from_secs_f64(seconds).ok())
        .ok_or_else(|| "expected seconds, 0 or more".to_owned())
}

pub(crate) fn parse_interval(text: &str) -> Result<f64, String> {
    let interval = text
        .parse()
        .ok()
        .filter(|ms| (0.0..=86_400_000.0).contains(ms));
    interval.ok_or_else(|| "expected milliseconds, 0 to a day".to_owned())
}

pub(crate) fn parse_rate(text: &str) -> Result<f64, String> {
    let rate = text
        .parse()
        .ok()
        .filter(|rate| (0.001..=1e9).contains(rate));
    rate.ok_or_else(|| "expected messages each second, 0.001 or more".to_owned())
}
