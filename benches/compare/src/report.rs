//! Medians, ratios and the text that is kept.

use crate::broker::{Broker, Kind};
use crate::idle::Idle;
use crate::load::Outcome;
use crate::options::Options;
use crate::picture::{self, Bars};
use crate::workload::Workload;
use std::fmt::Write as _;
use std::io;
use std::path::PathBuf;
use std::process::Command;

struct Run {
    workload: String,
    broker: String,
    round: usize,
    outcome: Outcome,
}

/// All results, and their text as far as it is printed.
pub struct Report {
    /// Names, and what an acknowledgement for a kept session means.
    brokers: Vec<(String, &'static str)>,
    runs: Vec<Run>,
    failures: Vec<(String, String)>,
    idle: Vec<(String, Idle)>,
    text: String,
    out: Option<PathBuf>,
    picture: Option<PathBuf>,
    bars: Vec<Bars>,
}

impl Report {
    /// Prints the head: what was run where.
    pub fn new(options: &Options, brokers: &[Broker]) -> Self {
        let mut text =
            String::from("nightjar-compare: what a delivered message costs each broker\n\n");
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
        let facts = [
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
            (
                "method",
                format!(
                    "{} rounds in turns, {:?} each, medians; ratios within a round",
                    options.rounds, options.measured
                ),
            ),
            (
                "us CPU",
                "user + system time of the broker's processes per delivered message".to_owned(),
            ),
            (
                "ratios",
                "this broker's cost by mosquitto's, by the cheapest other broker's, by the floors', by its own with one worker thread; below 1 is cheaper".to_owned(),
            ),
            (
                "p50, p99",
                "from the publisher's write to the subscriber's read; when saturated, mostly the queueing of the windows".to_owned(),
            ),
            (
                "half",
                "the same at half of the rate that the broker just delivered: p50, p99, p99.9"
                    .to_owned(),
            ),
            (
                "MB",
                "resident memory (PSS) at the end of the measured time".to_owned(),
            ),
            (
                "payload",
                "256 bytes if the name says nothing else, MQTT 3.1.1, clean sessions, loopback TCP"
                    .to_owned(),
            ),
        ];
        for (name, value) in facts.iter().map(|(name, value)| (*name, value.as_str())) {
            push(&mut text, format_args!("{name:<12} {value}"));
        }
        for broker in brokers {
            push(
                &mut text,
                format_args!("{:<12} {}", broker.kind.name(), broker.version),
            );
        }
        text.push('\n');
        print!("{text}");
        Self {
            brokers: brokers
                .iter()
                .map(|broker| (broker.kind.name().to_owned(), broker.kind.promise()))
                .collect(),
            runs: Vec::new(),
            failures: Vec::new(),
            idle: Vec::new(),
            text,
            out: options.out.clone(),
            picture: options.picture.clone(),
            bars: Vec::new(),
        }
    }

    /// Keeps one run.
    pub fn add(&mut self, workload: &Workload, kind: &Kind, round: usize, outcome: Outcome) {
        self.runs.push(Run {
            workload: workload.name.clone(),
            broker: kind.name().to_owned(),
            round,
            outcome,
        });
    }

    /// Keeps that a run did not end.
    pub fn failed(&mut self, workload: &Workload, kind: &Kind) {
        self.failures
            .push((workload.name.clone(), kind.name().to_owned()));
    }

    /// Keeps one broker's idle memory.
    pub fn idle(&mut self, name: &str, idle: Idle) {
        self.idle.push((name.to_owned(), idle));
    }

    /// Prints the table of a workload.
    pub fn print(&mut self, workload: &Workload) {
        let mut table = String::new();
        let mut bars = Bars {
            workload: workload.name.clone(),
            costs: Vec::new(),
        };
        push(&mut table, format_args!("{}", workload.name));
        push(
            &mut table,
            format_args!(
                "  {:<12} {:>9} {:>8} {:>11} {:>7} {:>7} {:>7} {:>6} {:>12} {:>6} {:>9} {:>9} {:>9} {:>22} {:>7} {:>6}",
                "broker",
                "us CPU",
                "min",
                "/mosquitto",
                "/best",
                "/echo",
                "/relay",
                "/1w",
                "delivered/s",
                "cores",
                "p50 us",
                "p99 us",
                "p99.9 us",
                "half us",
                "MB",
                "lost"
            ),
        );
        for (broker, promise) in &self.brokers {
            let runs = self.of(workload, broker);
            let failures = self
                .failures
                .iter()
                .filter(|(name, of)| *name == workload.name && of == broker)
                .count();
            if runs.is_empty() {
                if failures > 0 {
                    push(
                        &mut table,
                        format_args!("  {broker:<12} failed in all {failures} rounds"),
                    );
                }
                continue;
            }
            let outcomes = || runs.iter().map(|run| &run.outcome);
            let costs: Vec<f64> = outcomes().map(cost).collect();
            if !matches!(broker.as_str(), "echo" | "relay" | "nightjar-1w") {
                bars.costs.push((broker.clone(), median(costs.clone())));
            }
            push(
                &mut table,
                format_args!(
                    "  {:<12} {:>9.3} {:>8.3} {:>11} {:>7} {:>7} {:>7} {:>6} {:>12.0} {:>6.2} {:>9.0} {:>9.0} {:>9.0} {:>22} {:>7.1} {:>6}{}{}",
                    broker,
                    median(costs.clone()),
                    costs.iter().copied().fold(f64::INFINITY, f64::min),
                    self.ratio(workload, &runs, |other| other.starts_with("mosquitto")),
                    self.ratio(workload, &runs, |other| {
                        !["echo", "relay", broker.as_str()].contains(&other)
                            && !other.starts_with("nightjar")
                    }),
                    self.ratio(workload, &runs, |other| other == "echo"),
                    self.ratio(workload, &runs, |other| other == "relay"),
                    self.ratio(workload, &runs, |other| broker == "nightjar"
                        && other == "nightjar-1w"),
                    median(
                        outcomes()
                            .map(|o| o.delivered as f64 / o.wall.as_secs_f64())
                            .collect()
                    ),
                    median(
                        outcomes()
                            .map(|o| o.cpu.as_secs_f64() / o.wall.as_secs_f64())
                            .collect()
                    ),
                    median(outcomes().map(|o| o.p50).collect()),
                    median(outcomes().map(|o| o.p99).collect()),
                    median(outcomes().map(|o| o.p999).collect()),
                    half(&outcomes().filter_map(|o| o.half).collect::<Vec<_>>()),
                    median(outcomes().map(|o| o.resident as f64 / 1e6).collect()),
                    outcomes().map(|o| o.lost).sum::<u64>(),
                    if workload.kept {
                        format!("  {promise}")
                    } else {
                        String::new()
                    },
                    if failures > 0 {
                        format!("  ({failures} rounds failed)")
                    } else {
                        String::new()
                    },
                ),
            );
        }
        self.bars.push(bars);
        table.push('\n');
        print!("{table}");
        self.text.push_str(&table);
    }

    /// Prints the idle memory of all brokers.
    pub fn print_idle(&mut self, counts: &[usize]) {
        let mut table = String::from(
            "idle: resident memory (PSS) with N clients, one QoS 0 subscription each\n",
        );
        let heads: Vec<String> = counts
            .iter()
            .map(|count| format!("{:>14}", format!("N={count}")))
            .collect();
        push(
            &mut table,
            format_args!(
                "  {:<14} {:>10}{}   bytes per client, N against the smallest N",
                "broker",
                "empty MB",
                heads.concat()
            ),
        );
        for (broker, idle) in &self.idle {
            let megabytes = |bytes: u64| bytes as f64 / 1e6;
            let mut cells = String::new();
            for (_, bytes) in &idle.with {
                cells.push_str(&format!("{:>11.1} MB", megabytes(*bytes)));
            }
            let mut per_client = String::new();
            if let Some((base, at_base)) = idle.with.first() {
                for (count, bytes) in idle.with.iter().skip(1) {
                    let each = bytes.saturating_sub(*at_base) as f64 / (count - base).max(1) as f64;
                    per_client.push_str(&format!("  {count}: {each:.0}"));
                }
            }
            push(
                &mut table,
                format_args!(
                    "  {broker:<14} {:>10.1}{cells} {per_client}",
                    megabytes(idle.empty)
                ),
            );
        }
        print!("{table}");
        self.text.push_str(&table);
    }

    /// Writes the text and the picture where `--out` and `--picture` say.
    pub fn save(&self) -> io::Result<()> {
        if let Some(out) = &self.out {
            std::fs::write(out, &self.text)?;
        }
        match &self.picture {
            Some(file) => std::fs::write(file, picture::draw(&self.bars)),
            None => Ok(()),
        }
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
fn half(runs: &[[f64; 3]]) -> String {
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
