//! Runs all shapes in turns and prints the tables.

use crate::connection::Flush;
use crate::load::{self, Drive, Outcome, Workload};
use crate::server::{Model, Shape};
use std::io::{self, BufRead, BufReader};
use std::net::{SocketAddr, TcpStream};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

const WORKLOADS: [Workload; 6] = [
    Workload {
        name: "pairs 50, saturated",
        channels: 50,
        publishers: 1,
        subscribers: 1,
        drive: Drive::Saturate {
            window: 160,
            batch: 20,
        },
    },
    Workload {
        name: "fan-in 100->1, saturated",
        channels: 1,
        publishers: 100,
        subscribers: 1,
        drive: Drive::Saturate {
            window: 4000,
            batch: 20,
        },
    },
    Workload {
        name: "fan-out 1->500, backlog",
        channels: 1,
        publishers: 1,
        subscribers: 500,
        drive: Drive::Saturate {
            window: 160,
            batch: 20,
        },
    },
    Workload {
        name: "pairs 50, paced 8000/s",
        channels: 50,
        publishers: 1,
        subscribers: 1,
        drive: Drive::Pace { per_second: 8000 },
    },
    Workload {
        name: "fan-in 100->1, paced 8000/s",
        channels: 1,
        publishers: 100,
        subscribers: 1,
        drive: Drive::Pace { per_second: 8000 },
    },
    Workload {
        name: "fan-out 1->500, paced 40/s",
        channels: 1,
        publishers: 1,
        subscribers: 500,
        drive: Drive::Pace { per_second: 40 },
    },
];

const IDLE_CLIENTS: u32 = 5000;

/// Options of `run`.
pub struct Options {
    rounds: usize,
    measured: Duration,
    only: Option<String>,
}

impl Options {
    /// Reads `--rounds`, `--secs` and `--only`.
    pub fn parse(words: &[&str]) -> Option<Self> {
        let mut options = Self {
            rounds: 5,
            measured: Duration::from_secs(1),
            only: None,
        };
        for pair in words.chunks(2) {
            match *pair {
                ["--rounds", n] => options.rounds = n.parse().ok().filter(|n| *n > 0)?,
                ["--secs", s] => {
                    options.measured = Duration::try_from_secs_f64(s.parse().ok()?).ok()?
                }
                ["--only", name] => options.only = Some(name.to_owned()),
                _ => return None,
            }
        }
        Some(options)
    }
}

/// A started server, ended with this value.
struct Server {
    child: Child,
    port: u16,
}

impl Server {
    fn start(shape: Shape) -> io::Result<Self> {
        let mut child = Command::new(std::env::current_exe()?)
            .arg("server")
            .args(shape.words())
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()?;
        let out = child
            .stdout
            .take()
            .ok_or_else(|| io::Error::other("no stdout of the server"))?;
        let mut line = String::new();
        BufReader::new(out).read_line(&mut line)?;
        let port = line.trim().parse().map_err(io::Error::other)?;
        Ok(Self { child, port })
    }

    fn resident(&self) -> io::Result<u64> {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.child.id()))?;
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
        line.and_then(|line| line.split_whitespace().next()?.parse::<u64>().ok())
            .map(|kib| kib * 1024)
            .ok_or_else(|| io::Error::other("no VmRSS"))
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // Both fail only when the child is gone already.
        let _killed = self.child.kill();
        let _status = self.child.wait();
    }
}

/// Resident bytes per idle connection.
fn idle(shape: Shape) -> io::Result<f64> {
    let server = Server::start(shape)?;
    let address = SocketAddr::from(([127, 0, 0, 1], server.port));
    let connect = |count: u32| {
        (0..count)
            .map(|_| TcpStream::connect(address))
            .collect::<io::Result<Vec<_>>>()
    };
    // The first ones pay for the runtime's own growth.
    let _warm = connect(500)?;
    load::pause(Duration::from_millis(300));
    let before = server.resident()?;
    let _clients = connect(IDLE_CLIENTS)?;
    load::pause(Duration::from_millis(500));
    Ok(server.resident()?.saturating_sub(before) as f64 / f64::from(IDLE_CLIENTS))
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(f64::NAN)
}

/// Runs everything and prints it.
pub fn run(options: &Options) -> io::Result<()> {
    let mut shapes = Vec::new();
    for flush in [Flush::Eager, Flush::Deferred, Flush::Batched] {
        for model in [Model::Multi, Model::Pinned] {
            shapes.extend([1, 2].map(|workers| Shape {
                model,
                workers,
                flush,
            }));
        }
    }
    for workload in &WORKLOADS {
        if options
            .only
            .as_ref()
            .is_some_and(|only| !workload.name.contains(only.as_str()))
        {
            continue;
        }
        let mut outcomes: Vec<Vec<Outcome>> = shapes.iter().map(|_| Vec::new()).collect();
        for round in 0..options.rounds {
            for turn in 0..shapes.len() {
                // Each round starts at another shape, so that a slow moment of the machine hits them in turn.
                let which = (turn + round) % shapes.len();
                let server = Server::start(shapes[which])?;
                let warm = Duration::from_millis(250);
                let outcome = load::run(
                    server.port,
                    server.child.id(),
                    workload,
                    warm,
                    options.measured,
                )?;
                outcomes[which].push(outcome);
            }
        }
        print(workload, &shapes, &outcomes);
    }
    if options.only.is_none() {
        println!("resident bytes per idle connection ({IDLE_CLIENTS} connections)");
        for shape in shapes
            .into_iter()
            .filter(|shape| shape.flush == Flush::Deferred)
        {
            println!("  {:<20} {:>8.0}", shape.words().join(" "), idle(shape)?);
        }
    }
    Ok(())
}

fn print(workload: &Workload, shapes: &[Shape], outcomes: &[Vec<Outcome>]) {
    let cpu = |outcome: &Outcome| outcome.cpu.as_secs_f64() * 1e6 / outcome.delivered as f64;
    let base: Vec<f64> = outcomes
        .first()
        .map(|runs| runs.iter().map(cpu).collect())
        .unwrap_or_default();
    println!("{}", workload.name);
    println!(
        "  {:<20} {:>10} {:>8} {:>8} {:>12} {:>9} {:>10}",
        "shape", "us CPU/msg", "min", "ratio", "delivered/s", "cores", "p99 us"
    );
    for (shape, runs) in shapes.iter().zip(outcomes) {
        let each: Vec<f64> = runs.iter().map(cpu).collect();
        // The ratio is taken within a round and only then the median: a slow round slows both sides.
        let ratios = each
            .iter()
            .zip(&base)
            .map(|(mine, base)| mine / base)
            .collect();
        let rate = |run: &Outcome| run.delivered as f64 / run.wall.as_secs_f64();
        let cores = |run: &Outcome| run.cpu.as_secs_f64() / run.wall.as_secs_f64();
        println!(
            "  {:<20} {:>10.3} {:>8.3} {:>8.2} {:>12.0} {:>9.2} {:>10.0}",
            shape.words().join(" "),
            median(each.clone()),
            each.iter().copied().fold(f64::INFINITY, f64::min),
            median(ratios),
            median(runs.iter().map(rate).collect()),
            median(runs.iter().map(cores).collect()),
            median(runs.iter().map(|run| run.p99_us).collect()),
        );
    }
    println!();
}
