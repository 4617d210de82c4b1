//! Running a plan: threads, phases, the line each second, the end.

use std::io::IsTerminal;
use std::net::{IpAddr, SocketAddr};
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::thread::JoinHandle;
use std::time::Duration;

use indicatif::{ProgressBar, ProgressStyle};
use tokio::net::TcpStream;
use tokio::sync::Semaphore;
use tokio::time::{Instant, MissedTickBehavior, interval, sleep, timeout};

use crate::bench::args::BenchCommand;
use crate::bench::client;
use crate::bench::limits::{check_files, check_ports, local_ports, raise_file_limit};
use crate::bench::plan::{Kind, Phase, Plan, Run, Worker};
use crate::bench::report::{Measured, Report, Usage};
use crate::bench::stats::Totals;
use crate::cli::interrupted;
use crate::error::{Error, Result};
use crate::tls::TlsOptions;
use crate::transport::Dialer;

/// Connects under way at once, of all threads together. Mosquitto listens with a backlog of 100: what
/// does not fit waits a second for its SYN to be sent again.
const CONNECTING: usize = 64;
/// Time for an address to answer before the next one of the same name is tried.
const PROBE: Duration = Duration::from_secs(2);
/// How often phases are looked after.
const TICK: Duration = Duration::from_millis(20);
/// Without any arrival for this long, what is missing is lost.
const QUIET: Duration = Duration::from_secs(1);
/// Waiting for what is missing ends here in any case.
const DRAIN: Duration = Duration::from_secs(10);
/// Time for all clients to disconnect.
const STOP: Duration = Duration::from_secs(5);

/// Runs a command to its report.
///
/// # Errors
/// Flags, limits and names that do not allow the run to begin. What goes wrong later is counted.
pub fn run(command: &BenchCommand) -> Result<Report> {
    let mut plan = Plan::new(command)?;
    let common = command.common();
    let usage = |error: crate::bench::limits::LimitError| Error::Usage(error.to_string());
    check_files(plan.clients.into(), raise_file_limit()).map_err(usage)?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|source| Error::Io {
            what: "cannot start",
            source,
        })?;
    let tls = TlsOptions {
        // Like emqtt_bench: a load generator checks certificates only when it is given some.
        insecure: common.tls.insecure
            || (common.tls.cafile.is_none()
                && common.tls.capath.is_none()
                && !common.tls.tls_use_os_certs),
        ..common.tls.options()
    };
    runtime.block_on(async {
        for endpoint in Plan::endpoints(common) {
            let dialer = Dialer::new(endpoint, &tls)?;
            let address = reachable(&dialer, plan.sources.first().copied()).await?;
            plan.targets.push((dialer, address));
        }
        // Without a source address each broker address has its own set of local ports.
        let sets = if plan.sources.is_empty() {
            plan.targets.len()
        } else {
            plan.sources.len()
        };
        check_ports(plan.clients.into(), sets as u64, local_ports()).map_err(usage)?;
        let threads = common.threads.map_or_else(default_threads, usize::from);
        Runner::new(command, plan, threads)?.run().await
    })
}

/// The address of a name that answers: "localhost" is often two, with a broker behind one of them.
async fn reachable(dialer: &Dialer, source: Option<IpAddr>) -> Result<SocketAddr> {
    let mut addresses = dialer.resolve().await?;
    addresses.retain(|address| source.is_none_or(|source| source.is_ipv4() == address.is_ipv4()));
    let Some(&first) = addresses.first() else {
        let host = &dialer.endpoint().host;
        return Err(Error::Usage(format!(
            "{host} has no address of the same family as --ifaddr"
        )));
    };
    if addresses.len() > 1 {
        for &address in &addresses {
            if let Ok(Ok(_)) = timeout(PROBE, TcpStream::connect(address)).await {
                return Ok(address);
            }
        }
    }
    // Where none answers, the clients will count it.
    Ok(first)
}

fn default_threads() -> usize {
    std::thread::available_parallelism().map_or(1, |cores| (cores.get() / 2).max(1))
}

struct Runner<'a> {
    command: &'a BenchCommand,
    run: Arc<Run>,
    workers: Vec<Arc<Worker>>,
    threads: Vec<JoinHandle<()>>,
    stop: tokio::sync::watch::Sender<bool>,
    progress: Option<ProgressBar>,
    lines: bool,
    started: Instant,
    shown: (Instant, Totals),
}

impl<'a> Runner<'a> {
    fn new(command: &'a BenchCommand, plan: Plan, threads: usize) -> Result<Self> {
        let common = command.common();
        let run = Arc::new(Run::new(plan));
        let workers: Vec<_> = (0..threads).map(|_| Arc::new(Worker::default())).collect();
        let (stop, stopped) = tokio::sync::watch::channel(false);
        let permits = Arc::new(Semaphore::new(CONNECTING));
        let mut handles = Vec::with_capacity(threads);
        let start = run.clock.now();
        for (index, worker) in workers.iter().enumerate() {
            let thread = Thread {
                run: Arc::clone(&run),
                worker: Arc::clone(worker),
                permits: Arc::clone(&permits),
                stopped: stopped.clone(),
                index,
                threads,
                start,
            };
            let handle = std::thread::Builder::new()
                .name(format!("bench-{index}"))
                .spawn(move || thread.main())
                .map_err(|source| Error::Io {
                    what: "cannot start a thread",
                    source,
                })?;
            handles.push(handle);
        }
        let terminal = std::io::stderr().is_terminal() && !common.quiet;
        let progress = terminal.then(|| {
            let style = ProgressStyle::with_template("{spinner} {elapsed_precise} {msg}");
            let bar = ProgressBar::new_spinner();
            bar.with_style(style.unwrap_or_else(|_| ProgressStyle::default_spinner()))
        });
        let now = Instant::now();
        Ok(Self {
            command,
            run,
            workers,
            threads: handles,
            stop,
            progress,
            lines: !terminal && !common.quiet && !common.json,
            started: now,
            shown: (now, Totals::default()),
        })
    }

    fn totals(&self) -> Totals {
        Totals::of(self.workers.iter().map(|worker| &worker.stats))
    }

    fn record(&self, on: bool) {
        for worker in &self.workers {
            worker.stats.recording.store(on, Ordering::Relaxed);
        }
    }

    async fn run(mut self) -> Result<Report> {
        let before = Usage::now();
        let mut interrupt = pin!(interrupted());
        let mut stopped = false;
        if !self.run.plan.wait {
            self.record(self.warmup().is_zero());
            self.run.enter(Phase::Running, &self.workers);
        }
        let clients = u64::from(self.run.plan.clients);
        let mut ticks = interval(TICK);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        while !stopped && self.totals().settled < clients {
            // Threads end only at the end: one that ended before has failed and was reported.
            stopped = self.threads.iter().any(JoinHandle::is_finished);
            tokio::select! {
                _ = ticks.tick() => self.show(),
                () = &mut interrupt => stopped = true,
            }
        }
        let connect_time = self.started.elapsed();
        let settled = Usage::now();
        if let Kind::Fanout { .. } = self.run.plan.kind {
            self.run.set_fan(self.totals().subscribed);
        }
        if self.run.plan.wait {
            self.record(self.warmup().is_zero());
            self.run.enter(Phase::Running, &self.workers);
        }
        let mut begin = (Instant::now(), self.totals(), settled);
        if !stopped && !self.warmup().is_zero() {
            stopped = self.hold(&mut interrupt, Some(self.warmup())).await;
            self.record(true);
            begin = (Instant::now(), self.totals(), Usage::now());
        }
        if !stopped {
            self.hold(&mut interrupt, self.command.common().duration)
                .await;
        }
        let end = (Instant::now(), self.totals(), Usage::now());
        self.run.enter(Phase::Draining, &self.workers);
        self.drain().await;
        self.run.enter(Phase::Stopping, &self.workers);
        self.finish().await;
        if let Some(progress) = &self.progress {
            progress.finish_and_clear();
        }
        let totals = self.totals();
        Ok(Report::new(
            self.command,
            &self.run,
            &self.workers,
            Measured {
                connect_time,
                measured: end.0 - begin.0,
                begin: begin.1,
                end: end.1,
                totals,
                memory: settled.memory.saturating_sub(before.memory),
                cpu: end.2.cpu.saturating_sub(begin.2.cpu),
            },
        ))
    }

    fn warmup(&self) -> Duration {
        self.command
            .publish()
            .map_or(Duration::ZERO, |publish| publish.warmup)
    }

    /// Lets the load run for a time, until the limit of messages, until nobody is connected, or until
    /// a signal; true where the run is to end before its time.
    async fn hold(
        &mut self,
        interrupt: &mut (impl Future<Output = ()> + Unpin),
        duration: Option<Duration>,
    ) -> bool {
        let until = duration.map(|duration| Instant::now() + duration);
        let mut ticks = interval(TICK);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            let now = Instant::now();
            if until.is_some_and(|until| now >= until) {
                return false;
            }
            let totals = self.totals();
            let limit = self.command.publish().map_or(0, |publish| publish.limit);
            if totals.ended >= totals.connected || (limit > 0 && totals.published >= limit) {
                return true;
            }
            let wake = until.unwrap_or(now + TICK).min(now + TICK);
            tokio::select! {
                () = tokio::time::sleep_until(wake) => self.show(),
                () = &mut *interrupt => return true,
            }
        }
    }

    /// Waits for acknowledgements and deliveries that are on their way.
    async fn drain(&mut self) {
        let until = Instant::now() + DRAIN;
        let mut moved = Instant::now();
        let mut before = self.totals();
        while Instant::now() < until {
            let totals = self.totals();
            if !Report::is_missing(&self.run, &totals) || totals.ended >= totals.connected {
                return;
            }
            if (totals.received, totals.acknowledged) != (before.received, before.acknowledged) {
                moved = Instant::now();
                before = totals;
            }
            if moved.elapsed() > QUIET {
                return;
            }
            sleep(TICK).await;
            self.show();
        }
    }

    /// Waits for every client's DISCONNECT, then ends the threads.
    async fn finish(&mut self) {
        let all_ended = async {
            while {
                let totals = self.totals();
                totals.ended + totals.connect_failed < totals.settled
            } {
                sleep(TICK).await;
            }
        };
        // Clients that take longer are dropped with their thread.
        let _ = timeout(STOP, all_ended).await;
        // The receivers live as long as the threads.
        let _ = self.stop.send(true);
        for thread in self.threads.drain(..) {
            // A panic in a thread was printed by it; the counters say what it left undone.
            let _ = thread.join();
        }
    }

    /// Once a second: a line, or the progress bar's message.
    fn show(&mut self) {
        let (last, before) = self.shown;
        let seconds = last.elapsed().as_secs_f64();
        if seconds < 1.0 {
            return;
        }
        let totals = self.totals();
        self.shown = (Instant::now(), totals);
        let rate = |now: u64, then: u64| ((now - then) as f64 / seconds).round() as u64;
        let mut line = format!(
            "connected {}/{}",
            totals.connected.saturating_sub(totals.disconnected),
            self.run.plan.clients
        );
        if totals.connect_failed > 0 {
            line += &format!(" failed {}", totals.connect_failed);
        }
        if self.run.plan.publish.is_some() {
            line += &format!(
                " pub {} {}/s",
                totals.published,
                rate(totals.published, before.published)
            );
        }
        if totals.subscribed > 0 {
            line += &format!(
                " recv {} {}/s",
                totals.received,
                rate(totals.received, before.received)
            );
        }
        match &self.progress {
            Some(progress) => {
                progress.set_message(line);
                progress.tick();
            }
            None if self.lines => println!("{:.0}s {line}", self.started.elapsed().as_secs_f64()),
            None => {}
        }
    }
}

/// What a worker's thread needs.
struct Thread {
    run: Arc<Run>,
    worker: Arc<Worker>,
    permits: Arc<Semaphore>,
    stopped: tokio::sync::watch::Receiver<bool>,
    index: usize,
    threads: usize,
    /// When the first connect is due.
    start: u64,
}

impl Thread {
    fn main(mut self) {
        let runtime = match tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
        {
            Ok(runtime) => runtime,
            Err(error) => {
                self.worker
                    .stats
                    .error(format!("cannot start a thread: {error}"));
                for _ in self.clients() {
                    self.worker.stats.connect_failed.add(1);
                    self.worker.stats.settled.add(1);
                }
                return;
            }
        };
        runtime.block_on(async {
            for number in self.clients() {
                let due = self.start + u64::from(number) * self.run.plan.connect_interval;
                if self.run.plan.connect_interval > 0 {
                    tokio::time::sleep_until(self.run.clock.instant(due)).await;
                }
                let permit = Arc::clone(&self.permits).acquire_owned().await;
                if self.run.phase() >= Phase::Draining {
                    // Interrupted while connecting: the rest is neither failed nor connected.
                    break;
                }
                let (run, worker) = (Arc::clone(&self.run), Arc::clone(&self.worker));
                tokio::spawn(client::run(run, worker, number, permit.ok()));
            }
            // An error means that the runner is gone: time to stop as well.
            let _ = self.stopped.wait_for(|stopped| *stopped).await;
        });
        runtime.shutdown_background();
    }

    fn clients(&self) -> impl Iterator<Item = u32> + use<> {
        let (run, index, threads) = (Arc::clone(&self.run), self.index, self.threads);
        (0..self.run.plan.clients).filter(move |&number| run.plan.worker(number, threads) == index)
    }
}
