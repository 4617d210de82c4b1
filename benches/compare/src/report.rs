//! Medians, ratios and the text that is kept.

use crate::broker::{Broker, Kind};
use crate::idle::Idle;
use crate::load::Outcome;
use crate::options::Options;
use crate::rounds::PACED;
use crate::table::COLUMNS;
use crate::workload::{Drive, Workload};
use std::fmt::Write as _;
use std::io;
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

/// What the head says of the columns.
const LEGEND: &[(&str, &str)] = &[
    (
        "us CPU",
        "user + system time of the broker's processes per delivered message",
    ),
    (
        "ratios",
        "this broker's cost by mosquitto's, by the cheapest other broker's (of equal guarantee), by the floors'; /self: nightjar by one worker, three nodes by one",
    ),
    (
        "p50, p99",
        "from the publisher's write to the subscriber's read; when saturated, mostly the queueing of the windows",
    ),
    (
        "half",
        "the same at half of the rate that the broker just delivered: p50, p99, p99.9",
    ),
    (
        "MB",
        "resident memory (PSS) at the end of the measured time",
    ),
    (
        "payload",
        "256 bytes if the name says nothing else, MQTT 3.1.1, clean sessions, loopback TCP",
    ),
];

struct Run {
    workload: String,
    broker: String,
    round: usize,
    outcome: Outcome,
}

/// All results, and their text.
pub struct Report {
    /// Names, and what an acknowledgement for a kept session means.
    brokers: Vec<(String, &'static str)>,
    /// Name and value of what the head says.
    facts: Vec<(String, String)>,
    versions: Vec<(String, String)>,
    /// In the order of their rows.
    workloads: Vec<Workload>,
    runs: Vec<Run>,
    /// Workload, broker and why there is no figure.
    missing: Vec<(String, String, String)>,
    /// Workload and broker of each run that failed.
    failures: Vec<(String, String)>,
    idle: Vec<(String, Idle)>,
    counts: Vec<usize>,
    rounds_done: usize,
    rounds: usize,
    measured: Duration,
    half: usize,
    out: Option<PathBuf>,
}

impl Report {
    /// Nothing is run yet.
    pub fn new(options: &Options) -> Self {
        let first_line = |program: &str, args: &[&str]| {
            let output = Command::new(program).args(args).output().ok()?;
            String::from_utf8_lossy(&output.stdout)
                .lines()
                .next()
                .map(|line| line.trim().to_owned())
        };
        let cpu = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
        let cpu = cpu
            .lines()
            .find_map(|line| line.strip_prefix("model name")?.split(':').nth(1))
            .unwrap_or("?")
            .trim();
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        let known = |found: Option<String>| found.unwrap_or_else(|| "unknown".to_owned());
        let mut facts = vec![
            (
                "date",
                known(first_line("date", &["-u", "+%Y-%m-%d %H:%M UTC"])),
            ),
            ("kernel", known(first_line("uname", &["-sr"]))),
            (
                "cpu",
                format!("{cpu}, {cores} cores shared with the generator"),
            ),
            ("rustc", known(first_line("rustc", &["--version"]))),
        ];
        facts.extend(options.note.clone().map(|note| ("note", note)));
        Self {
            brokers: Vec::new(),
            facts: facts
                .into_iter()
                .map(|(name, value)| (name.to_owned(), value))
                .collect(),
            versions: Vec::new(),
            workloads: Vec::new(),
            runs: Vec::new(),
            missing: Vec::new(),
            failures: Vec::new(),
            idle: Vec::new(),
            counts: options.idle.clone(),
            rounds_done: 0,
            rounds: options.rounds,
            measured: options.measured,
            half: options.half,
            out: options.out.clone(),
        }
    }

    /// A broker takes part.
    pub fn knows(&mut self, broker: &Broker) {
        let name = broker.kind.name().to_owned();
        if !self.brokers.iter().any(|(known, _)| *known == name) {
            self.versions.push((name.clone(), broker.version.clone()));
            self.brokers.push((name, broker.kind.promise()));
        }
    }

    /// Keeps one run.
    pub fn add(&mut self, workload: &Workload, kind: &Kind, round: usize, outcome: Outcome) {
        self.has(workload);
        self.runs.push(Run {
            workload: workload.name.clone(),
            broker: kind.name().to_owned(),
            round,
            outcome,
        });
    }

    /// Keeps why a run did not end; [`Self::gives_up`] says whether it is tried again.
    pub fn failed(&mut self, workload: &Workload, kind: &Kind, error: &io::Error) {
        self.failures
            .push((workload.name.clone(), kind.name().to_owned()));
        self.miss(workload, kind, format!("failed: {error}"));
    }

    /// Keeps why a run is not made; nothing is said where there is no reason to say.
    pub fn not_run(&mut self, workload: &Workload, kind: &Kind, why: &str) {
        if !why.is_empty() {
            self.miss(workload, kind, format!("not run: {why}"));
        }
    }

    fn miss(&mut self, workload: &Workload, kind: &Kind, why: String) {
        self.has(workload);
        let miss = (workload.name.clone(), kind.name().to_owned(), why);
        if !self.missing.contains(&miss) {
            self.missing.push(miss);
        }
    }

    fn has(&mut self, workload: &Workload) {
        if !self.workloads.contains(workload) {
            self.workloads.push(workload.clone());
        }
    }

    /// Whether a run of a peer is not tried again, because one of an earlier round failed: that may have cost a minute.
    /// Connects are tried once more, for a peer may hang once and not again.
    pub fn gives_up(&self, workload: &Workload, kind: &Kind) -> bool {
        let tries = match workload.drive {
            Drive::Connect(..) => 2,
            _ => 1,
        };
        let failed =
            (self.failures.iter()).filter(|(name, of)| *name == workload.name && of == kind.name());
        !kind.name().starts_with("nightjar") && failed.count() >= tries
    }

    /// A round has ended.
    pub fn round_is_done(&mut self, round: usize) {
        self.rounds_done = round + 1;
    }

    /// Keeps one broker's idle memory, or says why there is none.
    pub fn idle(&mut self, name: &str, idle: io::Result<Idle>) {
        match idle {
            Ok(idle) => self.idle.push((name.to_owned(), idle)),
            Err(error) => eprintln!("idle: {name}: {error}"),
        }
    }

    /// The head, the tables of the workloads, and the one of idle clients.
    pub fn text(&self) -> String {
        let mut text =
            String::from("nightjar-compare: what a delivered message costs each broker\n\n");
        let mut facts = self.facts.clone();
        let mut fact = |name: &str, value: String| facts.push((name.to_owned(), value));
        let half = if self.half < self.rounds {
            format!("; latency at half of the rate in {} of them", self.half)
        } else {
            String::new()
        };
        fact(
            "method",
            format!(
                "{} rounds in turns, {:?} each ({:?} paced), medians of the column runs; ratios within a round{half}",
                self.rounds_done.max(1),
                self.measured,
                self.measured * PACED
            ),
        );
        for (name, value) in LEGEND {
            fact(name, (*value).to_owned());
        }
        for (name, value) in facts.iter().chain(&self.versions) {
            push(&mut text, format_args!("{name:<12} {value}"));
        }
        text.push('\n');
        for workload in &self.workloads {
            self.print(&mut text, workload);
        }
        self.print_idle(&mut text);
        text
    }

    fn print(&self, text: &mut String, workload: &Workload) {
        push(text, format_args!("{}", workload.name));
        let heads: String = (COLUMNS.iter())
            .map(|(name, width)| format!(" {name:>width$}"))
            .collect();
        push(text, format_args!("  {:<12}{heads}", "broker"));
        for (broker, promise) in &self.brokers {
            let runs = self.of(workload, broker);
            let misses = (self.missing.iter())
                .filter(|(name, of, _)| *name == workload.name && of == broker);
            for (_, _, why) in misses {
                push(text, format_args!("  {broker:<12} {why}"));
            }
            if runs.is_empty() {
                continue;
            }
            let mid = |value: &dyn Fn(&Outcome) -> f64| {
                median(runs.iter().map(|run| value(&run.outcome)).collect())
            };
            let costs = runs.iter().map(|run| cost(&run.outcome));
            let halves: Vec<[f64; 3]> = runs.iter().filter_map(|run| run.outcome.half).collect();
            let equal = |other: &str| {
                !workload.kept
                    || (self.brokers.iter())
                        .any(|(name, promise)| name == other && promise.starts_with("synced"))
            };
            let smaller = match broker.as_str() {
                "nightjar" => "nightjar-1w",
                "nightjar-3n" => "nightjar",
                _ => "",
            };
            let values = [
                format!("{:.3}", mid(&cost)),
                format!("{:.3}", costs.fold(f64::INFINITY, f64::min)),
                self.ratio(workload, &runs, |other| other.starts_with("mosquitto")),
                self.ratio(workload, &runs, |other| {
                    !["echo", "relay", broker.as_str()].contains(&other)
                        && !other.starts_with("nightjar")
                        && equal(other)
                }),
                self.ratio(workload, &runs, |other| other == "echo"),
                self.ratio(workload, &runs, |other| other == "relay"),
                self.ratio(workload, &runs, |other| other == smaller),
                format!("{:.0}", mid(&|o| o.delivered as f64 / o.wall.as_secs_f64())),
                format!(
                    "{:.2}",
                    mid(&|o| o.cpu.as_secs_f64() / o.wall.as_secs_f64())
                ),
                format!("{:.0}", mid(&|o| o.p50)),
                format!("{:.0}", mid(&|o| o.p99)),
                format!("{:.0}", mid(&|o| o.p999)),
                halved(&halves),
                format!("{:.1}", mid(&|o| o.resident as f64 / 1e6)),
                format!("{}", runs.iter().map(|run| run.outcome.lost).sum::<u64>()),
                format!("{}", runs.len()),
            ];
            let cells: String = (values.iter().zip(COLUMNS))
                .map(|(value, (_, width))| format!(" {value:>width$}"))
                .collect();
            let promise = if workload.kept { *promise } else { "" };
            let line = format!("  {broker:<12}{cells}  {promise}");
            push(text, format_args!("{}", line.trim_end()));
        }
        text.push('\n');
    }

    fn print_idle(&self, text: &mut String) {
        if self.idle.is_empty() {
            return;
        }
        text.push_str(
            "idle: resident memory (PSS, MB) with N clients, one QoS 0 subscription each; bytes for each client between the \
             smallest N and this one, for sleepers between none and this one\n",
        );
        let heads: String = (self.counts.iter())
            .map(|count| format!(" {:>8}", format!("N={count}")))
            .chain((self.counts.iter()).map(|count| format!(" {:>9}", format!("each@{count}"))))
            .collect();
        push(
            text,
            format_args!("  {:<20} {:>8}{heads}", "broker", "empty"),
        );
        for (broker, idle) in &self.idle {
            let megabytes = |bytes: u64| format!("{:.1}", bytes as f64 / 1e6);
            let at = |count: &usize| {
                (idle.with.iter())
                    .find(|(with, _)| with == count)
                    .map(|(_, bytes)| *bytes)
            };
            let mut line = format!("  {broker:<20} {:>8}", megabytes(idle.empty));
            for count in &self.counts {
                let cell = at(count).map_or("-".to_owned(), megabytes);
                line.push_str(&format!(" {cell:>8}"));
            }
            let asleep = broker.contains("-sn-");
            let base = match idle.with.first() {
                Some((count, bytes)) if !asleep => (*count, *bytes),
                _ => (0, idle.empty),
            };
            for count in &self.counts {
                let cell = match at(count) {
                    Some(bytes) if *count > base.0 => {
                        let each = bytes.saturating_sub(base.1) as f64 / (count - base.0) as f64;
                        format!("{each:.0}")
                    }
                    _ => "-".to_owned(),
                };
                line.push_str(&format!(" {cell:>9}"));
            }
            push(text, format_args!("{line}"));
        }
    }

    /// Writes the text where `--out` says, whole or not at all.
    pub fn save(&self) -> io::Result<()> {
        let Some(out) = &self.out else { return Ok(()) };
        let fresh = out.with_extension("txt.new");
        std::fs::write(&fresh, self.text())?;
        std::fs::rename(&fresh, out)
    }

    fn of(&self, workload: &Workload, broker: &str) -> Vec<&Run> {
        self.runs
            .iter()
            .filter(|run| run.workload == workload.name && run.broker == broker)
            .collect()
    }

    /// Median over the rounds of this broker's cost by that of the cheapest of some others in the same round.
    fn ratio(&self, workload: &Workload, runs: &[&Run], others: impl Fn(&str) -> bool) -> String {
        let peers: Vec<&Run> = self
            .runs
            .iter()
            .filter(|run| run.workload == workload.name && others(&run.broker))
            .collect();
        let ratios: Vec<f64> = runs
            .iter()
            .filter_map(|run| {
                let same = peers.iter().filter(|peer| peer.round == run.round);
                let cheapest = same
                    .map(|peer| cost(&peer.outcome))
                    .min_by(f64::total_cmp)?;
                Some(cost(&run.outcome) / cheapest)
            })
            .collect();
        if ratios.is_empty() {
            "-".to_owned()
        } else {
            format!("{:.2}", median(ratios))
        }
    }
}

/// CPU microseconds per delivered message.
fn cost(outcome: &Outcome) -> f64 {
    outcome.cpu.as_secs_f64() * 1e6 / outcome.delivered as f64
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(f64::NAN)
}

/// p50, p99 and p99.9 at half the rate, medians of the rounds.
fn halved(runs: &[[f64; 3]]) -> String {
    if runs.is_empty() {
        return "-".to_owned();
    }
    let [p50, p99, p999] =
        [0, 1, 2].map(|at| median(runs.iter().map(|run| run[at]).collect::<Vec<_>>()));
    format!("{p50:.0}/{p99:.0}/{p999:.0}")
}

fn push(text: &mut String, line: std::fmt::Arguments<'_>) {
    text.write_fmt(line)
        .expect("writing to a String cannot fail");
    text.push('\n');
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::table::Results;
    use crate::workload::{self, Transport};

    fn outcome(cpu: u64) -> Outcome {
        Outcome {
            delivered: 1000,
            wall: Duration::from_secs(1),
            cpu: Duration::from_millis(cpu),
            p50: 1.0,
            p99: 2.0,
            p999: 3.0,
            half: None,
            resident: 1 << 20,
            lost: 0,
        }
    }

    fn report() -> Report {
        let mut report = Report::new(&Options::parse(&[]).expect("no option is needed"));
        for kind in [Kind::Nightjar, Kind::Mosquitto, Kind::Rumqttd] {
            report
                .brokers
                .push((kind.name().to_owned(), kind.promise()));
        }
        report
    }

    fn connects() -> Workload {
        let tcp = |workload: &Workload| matches!(workload.drive, Drive::Connect(Transport::Tcp, _));
        workload::all()
            .into_iter()
            .find(tcp)
            .expect("a row of connects")
    }

    #[test]
    fn a_peer_that_hangs_has_no_figure_in_that_round() {
        let (mut report, row) = (report(), connects());
        let hung = io::Error::other("nightjar bench conn took more than 60s");
        for (round, cost) in [(0, 10), (1, 30)] {
            report.add(&row, &Kind::Nightjar, round, outcome(cost));
            report.add(&row, &Kind::Mosquitto, round, outcome(100));
        }
        report.failed(&row, &Kind::Rumqttd, &hung);
        assert!(!report.gives_up(&row, &Kind::Rumqttd), "tried once more");
        report.add(&row, &Kind::Rumqttd, 1, outcome(20));
        let results = Results::read(&report.text());
        let table = results.table("connect-tcp").expect("its table");
        let peer = table.row("rumqttd").expect("its row");
        assert_eq!(peer.number(table, "us CPU"), Some(20.0));
        assert_eq!(peer.text(table, "runs"), Some("1"));
        let own = table.row("nightjar").expect("its row");
        assert_eq!(
            own.text(table, "/best"),
            Some("1.50"),
            "the later of two rounds"
        );
    }

    #[test]
    fn a_peer_that_hangs_always_has_a_reason_and_no_figures() {
        let (mut report, row) = (report(), connects());
        report.add(&row, &Kind::Nightjar, 0, outcome(10));
        let hung = io::Error::other("nightjar bench conn took more than 60s");
        report.failed(&row, &Kind::Rumqttd, &hung);
        report.failed(&row, &Kind::Rumqttd, &hung);
        assert!(report.gives_up(&row, &Kind::Rumqttd));
        assert!(!report.gives_up(&row, &Kind::Mosquitto));
        let results = Results::read(&report.text());
        let table = results.table("connect-tcp").expect("its table");
        let peer = table.row("rumqttd").expect("its row");
        assert_eq!(peer.number(table, "us CPU"), None);
        assert_eq!(peer.tail, "failed: nightjar bench conn took more than 60s");
        let own = table.row("nightjar").expect("its row");
        assert_eq!(own.text(table, "/best"), None);
    }

    #[test]
    fn a_row_of_messages_is_tried_once() {
        let mut report = report();
        let row = workload::all().remove(0);
        report.failed(&row, &Kind::Rumqttd, &io::Error::other("closed"));
        assert!(report.gives_up(&row, &Kind::Rumqttd));
        report.failed(&row, &Kind::Nightjar, &io::Error::other("closed"));
        assert!(!report.gives_up(&row, &Kind::Nightjar));
    }
}
