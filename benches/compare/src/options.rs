//! The command line.

use crate::broker::Kind;
use crate::workload;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// What the program is told.
pub const USAGE: &str = "\
usage: nightjar-compare [options]
  --nightjar PATH      the nightjar binary (target/release/nightjar)
  --brokers A,B        only these: nightjar, nightjar-1w, nightjar-3n, mosquitto, mosquitto-p, nats,
                       rabbitmq, rumqttd, rmqtt, echo, relay (default: all installed)
  --peers DIR          a folder where brokers are looked for before PATH
  --peer NAME=COMMAND  one more broker; {port} in COMMAND becomes its port; may be given several times
  --only A,B           only workloads whose name contains one of these words or, where it ends with a colon, is it; or idle
  --rounds N           rounds in turns, medians are printed (5)
  --secs S             measured seconds of each run (2)
  --half N             rounds that also measure the latency at half of the rate (all)
  --minutes M          begins no round that would not end within so many minutes, judged by the longest one (off)
  --idle N,N           client counts of the idle memory table (1000,5000,10000,15000)
  --out FILE           also write the tables there, anew after each row and round
  --note TEXT          a line for the head of the tables
       nightjar-compare insert RESULTS PAGE...
                       writes the tables of a results file where a page has
                       <!-- compare: KIND FILE --> and <!-- end of compare -->, KIND one of: summary, full, idle
       nightjar-compare check PAGE...
                       fails where a page says something else than the file that it names
       nightjar-compare draw RESULTS PICTURE
                       the summary as SVG";

/// What can be run, in the order of the tables.
const KINDS: [Kind; 11] = [
    Kind::Nightjar,
    Kind::NightjarOneWorker,
    Kind::NightjarCluster,
    Kind::Mosquitto,
    Kind::MosquittoKept,
    Kind::Nats,
    Kind::RabbitMq,
    Kind::Rumqttd,
    Kind::Rmqtt,
    Kind::Echo,
    Kind::Relay,
];

/// A row's name without its description, which says "idle" also where no idle clients are measured.
fn row_name(name: &str) -> &str {
    name.split(':').next().unwrap_or(name)
}

/// Does a word of `--only` mean this row?
fn meant(word: &str, row: &str) -> bool {
    match word.strip_suffix(':') {
        Some(whole) => row == whole,
        None => row.contains(word),
    }
}

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
    /// Rounds that measure latency at half of the rate.
    pub half: usize,
    /// Time after which no round begins that would end later.
    pub limit: Option<Duration>,
    /// A line for the head.
    pub note: Option<String>,
    folder: Option<PathBuf>,
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
            half: usize::MAX,
            limit: None,
            note: None,
            folder: None,
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
                "--note" => options.note = Some(value.to_owned()),
                "--peers" => options.folder = Some(PathBuf::from(value)),
                "--half" => options.half = value.parse().map_err(|_| wrong())?,
                "--minutes" => {
                    let minutes: f64 = value.parse().map_err(|_| wrong())?;
                    let limit = Duration::try_from_secs_f64(minutes * 60.0);
                    options.limit = Some(limit.map_err(|_| wrong())?);
                }
                _ => return Err(USAGE.to_owned()),
            }
        }
        options.check_names()?;
        Ok(options)
    }

    /// A name that nothing has would leave its part of the tables empty without a word.
    fn check_names(&self) -> Result<(), String> {
        for name in self.chosen.iter().flatten() {
            let is_peer = self.peers.iter().any(|(peer, _)| peer == name);
            if !is_peer && KINDS.iter().all(|kind| kind.name() != name) {
                return Err(format!("--brokers: no broker is named {name:?}\n{USAGE}"));
            }
        }
        let rows = workload::all();
        for word in &self.only {
            if !meant(word, "idle") && !rows.iter().any(|row| meant(word, row_name(&row.name))) {
                return Err(format!("--only: no row's name has {word:?}\n{USAGE}"));
            }
        }
        Ok(())
    }

    /// The brokers to try, in the order of the tables.
    pub fn brokers(&self) -> Vec<Kind> {
        let mut kinds = KINDS.to_vec();
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
        let name = row_name(name);
        self.only.is_empty() || self.only.iter().any(|word| meant(word, name))
    }

    /// The path of a broker: in the folder of `--peers`, in PATH, the system's folders and cargo's.
    pub fn installed(&self, name: &str) -> io::Result<PathBuf> {
        let mut folders: Vec<PathBuf> = self.folder.iter().cloned().collect();
        folders.extend(
            std::env::var_os("PATH")
                .iter()
                .flat_map(std::env::split_paths),
        );
        folders.extend(["/usr/sbin", "/usr/local/sbin"].map(Into::into));
        if let Some(home) = std::env::var_os("HOME") {
            folders.push(Path::new(&home).join(".cargo/bin"));
        }
        let found = folders
            .into_iter()
            .map(|folder| folder.join(name))
            .find(|path| path.is_file());
        found.ok_or_else(|| io::Error::other(format!("{name} is not installed")))
    }
}

#[cfg(test)]
mod tests {
    use super::Options;

    fn refusal(words: &[&str]) -> String {
        Options::parse(words).err().unwrap_or_default()
    }

    #[test]
    fn a_name_that_nothing_has_is_refused() {
        assert!(refusal(&["--brokers", "nightjar,nosuch"]).contains("\"nosuch\""));
        assert!(refusal(&["--only", "pairs,nosuch"]).contains("\"nosuch\""));
        assert!(refusal(&["--only", "pair:"]).contains("\"pair:\""));
    }

    #[test]
    fn names_of_rows_peers_and_the_idle_table_are_taken() {
        let words = ["--brokers", "relay,mine", "--peer", "mine=true {port}"];
        assert_eq!(refusal(&words), "");
        assert_eq!(refusal(&["--only", "pairs-50,shared:,idle"]), "");
    }
}
