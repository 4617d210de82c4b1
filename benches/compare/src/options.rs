//! The command line.

use crate::broker::Kind;
use std::path::PathBuf;
use std::time::Duration;

const USAGE: &str = "\
usage: nightjar-compare [options]
  --nightjar PATH      the nightjar binary (target/release/nightjar)
  --brokers A,B        only these: nightjar, nightjar-1w, mosquitto, nats, rabbitmq, rumqttd,
                       echo, relay (default: all installed)
  --peer NAME=COMMAND  one more broker; {port} in COMMAND becomes its port; may be given several times
  --only A,B           only workloads whose name contains one of these words, or idle
  --rounds N           rounds in turns, medians are printed (5)
  --secs S             measured seconds of each run (2)
  --idle N,N           client counts of the idle memory table (1000,5000,10000,15000)
  --out FILE           also write the tables there
  --picture FILE       also draw the costs there, as SVG";

/// What to run.
pub struct Options {
    /// The nightjar binary.
    pub nightjar: PathBuf,
    /// Rounds of each workload.
    pub rounds: usize,
    /// Measured time of each run.
    pub measured: Duration,
    /// Client counts of the idle table, ascending.
    pub idle: Vec<usize>,
    /// Where the text goes besides stdout.
    pub out: Option<PathBuf>,
    /// Where the picture goes.
    pub picture: Option<PathBuf>,
    chosen: Option<Vec<String>>,
    only: Vec<String>,
    peers: Vec<(String, String)>,
}

impl Options {
    /// Reads the arguments; the error is for the user.
    pub fn parse(words: &[&str]) -> Result<Self, String> {
        let mut options = Self {
            nightjar: PathBuf::from("target/release/nightjar"),
            rounds: 5,
            measured: Duration::from_secs(2),
            idle: vec![1000, 5000, 10_000, 15_000],
            out: None,
            picture: None,
            chosen: None,
            only: Vec::new(),
            peers: Vec::new(),
        };
        let list = |text: &str| text.split(',').map(str::to_owned).collect::<Vec<_>>();
        for pair in words.chunks(2) {
            let &[flag, value] = pair else {
                return Err(USAGE.to_owned());
            };
            let wrong = || format!("{flag}: cannot use {value:?}\n{USAGE}");
            match flag {
                "--nightjar" => options.nightjar = PathBuf::from(value),
                "--brokers" => options.chosen = Some(list(value)),
                "--peer" => {
                    let (name, command) = value.split_once('=').ok_or_else(wrong)?;
                    options.peers.push((name.to_owned(), command.to_owned()));
                }
                "--only" => options.only = list(value),
                "--rounds" => {
                    options.rounds = value.parse().ok().filter(|n| *n > 0).ok_or_else(wrong)?
                }
                "--secs" => {
                    let seconds = value.parse().map_err(|_| wrong())?;
                    options.measured = Duration::try_from_secs_f64(seconds).map_err(|_| wrong())?;
                }
                "--idle" => {
                    options.idle = value
                        .split(',')
                        .map(str::parse)
                        .collect::<Result<_, _>>()
                        .map_err(|_| wrong())?;
                    options.idle.sort_unstable();
                }
                "--out" => options.out = Some(PathBuf::from(value)),
                "--picture" => options.picture = Some(PathBuf::from(value)),
                _ => return Err(USAGE.to_owned()),
            }
        }
        Ok(options)
    }

    /// The brokers to try, in the order of the tables.
    pub fn brokers(&self) -> Vec<Kind> {
        let mut kinds = vec![
            Kind::Nightjar,
            Kind::NightjarOneWorker,
            Kind::Mosquitto,
            Kind::MosquittoKept,
            Kind::Nats,
            Kind::RabbitMq,
            Kind::Rumqttd,
            Kind::Echo,
            Kind::Relay,
        ];
        kinds.retain(|kind| {
            self.chosen
                .as_ref()
                .is_none_or(|chosen| chosen.iter().any(|name| name == kind.name()))
        });
        kinds.extend(
            self.peers
                .iter()
                .map(|(name, command)| Kind::Peer(name.clone(), command.clone())),
        );
        kinds
    }

    /// Whether the user asked for this broker by name: then its absence is an error.
    pub fn named(&self, kind: &Kind) -> bool {
        matches!(kind, Kind::Peer(..)) || self.chosen.is_some()
    }

    /// Whether a workload is to be run.
    pub fn wants(&self, name: &str) -> bool {
        self.only.is_empty() || self.only.iter().any(|word| name.contains(word.as_str()))
    }
}
