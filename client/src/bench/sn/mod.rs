//! `bench sn`: sensors that speak MQTT-SN.
//!
//! A sensor is a [`Client`](nightjar_mqttsn::client::Client), which needs neither task nor thread: a few threads
//! (`worker`) poll all sockets and one heap of timers each. All sensors go through the same phases ([`stats::Phase`]) in
//! step; [`run`] leads them on. `watch` is an MQTT client beside them that counts what arrives and feeds sleepers.

pub mod args;
pub mod report;
mod sensor;
pub mod stats;
mod watch;
mod worker;

use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use tokio::time::sleep;

use crate::bench::limits::{check_files, raise_file_limit};
use crate::bench::report::Usage;
use crate::cli::args::PublishQos;
use crate::cli::interrupted;
use crate::error::{Error, Result};

pub use args::SnBench;
pub use report::SnReport;
use report::{Cycle, Measured};
use stats::{Phase, Shared, Totals};
use watch::Watch;
use worker::Worker;

/// How often phases are looked after.
const TICK: Duration = Duration::from_millis(5);
/// Without any arrival for this long, what is missing is lost.
const QUIET: Duration = Duration::from_secs(1);

/// Runs the bench to its report.
///
/// # Errors
/// Flags, limits and names that do not allow the run to begin. What goes wrong later is counted.
pub fn run(bench: &SnBench) -> Result<SnReport> {
    let sockets = if bench.forwarders == 0 {
        bench.count
    } else {
        bench.forwarders
    };
    check_files(sockets.into(), raise_file_limit())
        .map_err(|error| Error::Usage(error.to_string()))?;
    if bench.qos == PublishQos::MinusOne && bench.topic_id.is_none() && bench.short_topic.is_none()
    {
        return Err(Error::Usage(
            "QoS -1 has no connection that could register a name: give --topic-id or --short-topic"
                .to_owned(),
        ));
    }
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|source| Error::Io {
            what: "cannot start",
            source,
        })?;
    runtime.block_on(async {
        let failed = |source| Error::Lookup {
            host: bench.host.clone(),
            source,
        };
        let found = tokio::net::lookup_host((bench.host.as_str(), bench.port)).await;
        let mut addresses: Vec<SocketAddr> = found.map_err(failed)?.collect();
        // A gateway bound to all IPv4 addresses is the usual one, and UDP does not say which of them is there.
        addresses.sort_by_key(|address| !address.is_ipv4());
        if let Some(first) = bench.ifaddr.first() {
            addresses.retain(|address| address.is_ipv4() == first.is_ipv4());
        }
        let Some(&address) = addresses.first() else {
            return Err(failed(std::io::ErrorKind::NotFound.into()));
        };
        Run::new(bench, address).await?.run().await
    })
}

struct Run<'a> {
    bench: &'a SnBench,
    shared: Arc<Shared>,
    threads: Vec<std::thread::JoinHandle<()>>,
    watch: Option<Watch>,
    address: SocketAddr,
    stopped: bool,
}

impl<'a> Run<'a> {
    async fn new(bench: &'a SnBench, address: SocketAddr) -> Result<Self> {
        let threads = bench.threads.map_or_else(
            || std::thread::available_parallelism().map_or(1, |cores| (cores.get() / 2).max(1)),
            usize::from,
        );
        let shared = Arc::new(Shared::new(bench.clone(), address, threads));
        let mut handles = Vec::with_capacity(threads);
        for index in 0..threads {
            let mut worker = Worker::new(Arc::clone(&shared), index)?;
            let handle = std::thread::Builder::new()
                .name(format!("bench-sn-{index}"))
                .spawn(move || worker.run());
            handles.push(handle.map_err(|source| Error::Io {
                what: "cannot start a thread",
                source,
            })?);
        }
        let watch = match bench.mqtt_port {
            Some(port) => Some(Watch::start(Arc::clone(&shared), port).await?),
            None => None,
        };
        Ok(Self {
            bench,
            shared,
            threads: handles,
            watch,
            address,
            stopped: false,
        })
    }

    fn totals(&self) -> Totals {
        self.shared.totals()
    }

    fn server(&self) -> Usage {
        self.bench
            .pid
            .map(|pid| Usage::of(&pid.to_string()))
            .unwrap_or_default()
    }

    fn say(&self, line: &str) {
        if !self.bench.quiet && !self.bench.json {
            eprintln!("{line}");
        }
    }

    /// Until all sensors are through a phase, a signal comes, or nothing moves for as long as a request is repeated.
    async fn phase(&mut self, phase: Phase) -> Duration {
        let begun = Instant::now();
        if self.stopped && phase != Phase::Stop {
            return Duration::ZERO;
        }
        self.shared.enter(phase);
        let patience = self.bench.retry * (self.bench.retries + 2) + Duration::from_secs(5);
        let mut interrupt = pin!(interrupted());
        let mut moved = (Instant::now(), 0);
        while !self.shared.is_through() {
            let heard = self.totals().heard;
            if heard != moved.1 {
                moved = (Instant::now(), heard);
            } else if moved.0.elapsed() > patience {
                break;
            }
            tokio::select! {
                () = sleep(TICK) => {}
                () = &mut interrupt => {
                    self.stopped = true;
                    break;
                }
            }
        }
        begun.elapsed()
    }

    async fn run(mut self) -> Result<SnReport> {
        let before = self.server();
        let connect_time = self.phase(Phase::Connect).await;
        // Of the drowsy ones none is awake now.
        let connected = if self.bench.drowsy {
            Usage::default()
        } else {
            self.server()
        };
        self.say(&format!(
            "{} connected in {:.2} s",
            self.totals().connected,
            connect_time.as_secs_f64()
        ));
        let mut published = (
            Duration::ZERO,
            Totals::default(),
            Usage::default(),
            Usage::default(),
        );
        let publishes =
            self.bench.duration.is_some() || self.bench.limit > 0 || self.bench.sleep.is_none();
        if publishes && !self.stopped {
            published = self.publish().await;
        }
        let mut cycles = Vec::new();
        let mut asleep = Usage::default();
        if self.bench.sleep.is_some() && !self.stopped {
            self.phase(Phase::Subscribe).await;
            self.phase(Phase::Sleep).await;
            self.pause(self.bench.rest).await;
            asleep = self.server();
            self.say(&format!("{} asleep", self.totals().asleep));
            for _ in 0..self.bench.cycles {
                if self.stopped {
                    break;
                }
                let sent = match &mut self.watch {
                    Some(watch) => watch.feed(self.bench.down).await?,
                    None => 0,
                };
                let was = self.totals();
                let took = self.phase(Phase::Wake).await;
                let now = self.totals();
                let cycle = Cycle {
                    sent,
                    received: now.received - was.received,
                    woken: now.woken - was.woken,
                    seconds: took.as_secs_f64(),
                };
                self.say(&format!(
                    "{} woke in {:.2} s, {} of {} messages",
                    cycle.woken, cycle.seconds, cycle.received, cycle.sent
                ));
                cycles.push(cycle);
                // Workers take up the same phase again only after another one.
                self.phase(Phase::Idle).await;
            }
        }
        self.phase(Phase::Stop).await;
        self.shared.enter(Phase::End);
        for thread in self.threads.drain(..) {
            let _ = thread.join();
        }
        let watched = match self.watch.take() {
            Some(watch) => Some(watch.end().await),
            None => None,
        };
        let (seconds, during, server_begin, server_end) = published;
        Ok(SnReport::new(
            self.bench,
            &self.shared,
            Measured {
                address: self.address,
                connect_time,
                publish_time: seconds,
                published: during,
                watched,
                cycles,
                before,
                connected,
                asleep,
                server_cpu: server_end.cpu.saturating_sub(server_begin.cpu),
            },
        ))
    }

    /// Publishes for the time asked for or up to the limit, and waits for what is on its way.
    async fn publish(&mut self) -> (Duration, Totals, Usage, Usage) {
        let (begin, was, server_begin) = (Instant::now(), self.totals(), self.server());
        self.shared.enter(Phase::Publish);
        let until = self.bench.duration.map(|duration| begin + duration);
        let mut interrupt = pin!(interrupted());
        while until.is_none_or(|until| Instant::now() < until) && !self.shared.limit_reached() {
            tokio::select! {
                () = sleep(TICK) => {}
                () = &mut interrupt => {
                    self.stopped = true;
                    break;
                }
            }
        }
        let seconds = begin.elapsed();
        self.shared.enter(Phase::Drain);
        let mut quiet = (Instant::now(), self.totals().heard, self.watched());
        while !(self.shared.is_through() && self.has_all(&was)) {
            let now = (self.totals().heard, self.watched());
            if now != (quiet.1, quiet.2) {
                quiet = (Instant::now(), now.0, now.1);
            }
            // With all acknowledgements here, what does not arrive soon is lost; without, repeats may still bring it.
            let patience = if self.shared.is_through() {
                QUIET
            } else {
                self.bench.retry * (self.bench.retries + 2)
            };
            if quiet.0.elapsed() > patience {
                break;
            }
            sleep(TICK).await;
        }
        let during = self.totals().since(&was);
        self.say(&format!(
            "{} published in {:.2} s",
            during.published,
            seconds.as_secs_f64()
        ));
        (seconds, during, server_begin, self.server())
    }

    fn watched(&self) -> u64 {
        self.shared.watched.received.load(Ordering::Relaxed)
    }

    /// Whether nothing that could be counted is still on its way.
    fn has_all(&self, was: &Totals) -> bool {
        self.watch.is_none() || self.watched() >= self.totals().since(was).published
    }

    async fn pause(&mut self, time: Duration) {
        tokio::select! {
            () = sleep(time) => {}
            () = interrupted() => self.stopped = true,
        }
    }
}
