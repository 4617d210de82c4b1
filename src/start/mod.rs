//! Building, running and stopping a node.
//!
//! Nothing is half started: configuration, ACL files, certificates and all sockets come first, the ready line last.

pub mod access;
pub mod admin;
mod alarms;
mod api;
mod discovery;
mod memory;
mod notify;
mod reload;
mod sensors;
mod settings;
mod store;
mod sys;
mod verbs;

use std::fs;
use std::io::{self, IsTerminal};
use std::path::Path;
use std::process::ExitCode;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use nightjar_broker::access::BoxFuture;
use nightjar_broker::acl::AclSources;
use nightjar_broker::auth::{AuthChain, Timer};
use nightjar_broker::{Broker, Kept, MemoryLevel, Parts, Timestamp};
use nightjar_cluster::{ClusterNode, Phase};
use nightjar_gateway::mqtt::{ConnectLimits, ListenerMqtt, MqttFrontend};
use nightjar_gateway::mqttsn::{Relay, SnListeners};
use nightjar_gateway::websocket::handshake::{StatusAnswer, StatusSource};
use nightjar_gateway::{Listeners, Workers};
use nightjar_mqtt::ReasonCode;
use parking_lot::Mutex;
use serde_json::json;
use tokio::signal::unix::{Signal as UnixSignal, SignalKind, signal};
use tracing_subscriber::EnvFilter;

use crate::cli::exit;
use crate::config::model::{Config, LogFormat};
use crate::config::{ConfigErrors, Loaded};
use crate::ctl::{CtlServer, Registry, SOCKET};

pub use settings::acl as acl_settings;
use store::Store;

/// How long clients have to leave when the node stops.
const DRAIN: Duration = Duration::from_secs(3);
/// How often wills, expiry and memory are looked at.
const TICK: Duration = Duration::from_millis(200);

/// A running node.
pub struct Node {
    /// The manager of this service, told how it is.
    notify: notify::Notify,
    /// What it runs with; a reload replaces it.
    pub loaded: Mutex<Loaded>,
    /// The broker.
    pub broker: Arc<Broker>,
    /// What it keeps its durable state in.
    pub store: Arc<Store>,
    /// Its listeners.
    pub listeners: Listeners<ListenerMqtt>,
    /// Its MQTT-SN listeners.
    pub sensors: SnListeners,
    /// Changes the log level at run time.
    log: reload::LogLevel,
    /// The log filter in force.
    level: Mutex<String>,
    /// What the HTTP API has; there also while its port is closed.
    pub api: OnceLock<Arc<nightjar_api::Shared>>,
    /// The verbs of `ctl`, for those who ask by URL.
    registry: OnceLock<Arc<Registry>>,
    /// What certificates' files said.
    certificates: api::Certificates,
    stopping: AtomicBool,
    /// Its place in a cluster.
    cluster: Option<Arc<ClusterNode>>,
    /// What the other nodes of it said last of their load.
    told: api::Told,
    /// Checks passwords, whatever the authenticators are.
    hashing: access::Hashing,
}

/// Lets time pass for authentication.
struct TokioTimer;

impl Timer for TokioTimer {
    fn sleep(&self, time: Duration) -> BoxFuture<'static, ()> {
        Box::pin(tokio::time::sleep(time))
    }
}

/// What a node is for.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum Role {
    /// Clients connect to it.
    #[default]
    Broker,
    /// It votes in its cluster and takes no clients: the third voice beside two brokers.
    Witness,
}

/// Runs a node until SIGTERM or SIGINT.
pub fn serve(mut loaded: Loaded, role: Role) -> ExitCode {
    if role == Role::Witness {
        if !loaded.config.cluster.opens_links() {
            return exit::fail(
                exit::USAGE,
                "a witness is one of a cluster: set cluster.cookie or [cluster.tls]",
            );
        }
        loaded.config.listeners.clear();
    }
    let begun = Instant::now();
    let log = match start_log(&loaded.config) {
        Ok(log) => log,
        Err(error) => return exit::fail(exit::USAGE, error),
    };
    raise_file_limit();
    let workers = match Workers::start(loaded.config.node.workers) {
        Ok(workers) => workers,
        Err(error) => return exit::fail(exit::FAILED, error),
    };
    let code = workers.block_on(run(loaded, log, workers.clone(), begun, role));
    workers.stop(Duration::from_secs(1));
    code
}

async fn run(
    loaded: Loaded,
    log: reload::LogLevel,
    workers: Workers,
    begun: Instant,
    role: Role,
) -> ExitCode {
    let hashing = access::Hashing::default();
    let kept = Kept::default();
    let (chain, sources) = match access::load(&loaded, &hashing, &kept) {
        Ok(access) => access,
        Err(problems) => return exit::fail(exit::USAGE, ConfigErrors(problems)),
    };
    let config = &loaded.config;
    let data_dir = config.node.data_dir.clone();
    let path = data_dir.join(SOCKET);
    let ctl = match fs::create_dir_all(&data_dir).and_then(|()| CtlServer::bind(&path)) {
        Ok(ctl) => ctl,
        Err(error) => {
            return exit::fail(exit::USAGE, data_dir_error(&data_dir, &error));
        }
    };
    let store = match Store::open(config, role == Role::Witness) {
        Ok(store) => Arc::new(store),
        Err(error) => return exit::fail(exit::FAILED, error),
    };
    kept.open(store.meta());
    let broker = Broker::new(Parts {
        node: config.node.name.as_str().into(),
        store: store.shared(),
        settings: settings::mqtt(config, &config.mqtt),
        retained: settings::retained(config),
        acl: Arc::new(AclSources::new(settings::acl(config), sources)),
        auth: AuthChain::new(
            settings::auth(config),
            chain.links,
            chain.methods,
            Arc::new(TokioTimer),
        ),
        kept,
    });
    broker.limits().set(settings::limits(config));
    let server = match config.api.enable {
        true => match nightjar_api::Server::bind(config.api.bind.get()).await {
            Ok(server) => Some(server),
            Err(error) => return exit::fail(exit::USAGE, error),
        },
        false => None,
    };
    let bound = match Listeners::bind(settings::listeners(config), &status(&broker, &store)) {
        Ok(bound) => bound,
        Err(error) => return exit::fail(exit::USAGE, error),
    };
    let sensors = match SnListeners::bind(sensors::listeners(config), workers.count()) {
        Ok(sensors) => sensors,
        Err(error) => return exit::fail(exit::USAGE, error),
    };
    if let Err(error) = store.start(&broker).await {
        return exit::fail(exit::FAILED, error);
    }
    // Before anything says that this node serves: who is told so may stop it at once.
    let signals = match Signals::handle() {
        Ok(signals) => signals,
        Err(error) => {
            return exit::fail(
                exit::FAILED,
                format!("the system does not let this process handle signals: {error}"),
            );
        }
    };
    let mut addresses = bound.addresses();
    if let Some(cluster) = store.cluster() {
        let tcp = addresses.iter().find(|(name, _)| name.starts_with("tcp:"));
        if let Some((_, address)) = tcp {
            cluster.set_client_port(address.port());
        }
    }
    addresses.extend(sensors.addresses());
    warnings(&loaded);
    let limits = ConnectLimits {
        packet: u32::try_from(config.limits.connect_packet_size.get()).unwrap_or(u32::MAX),
        memory: config.limits.connect_memory.as_usize(),
    };
    let frontend = MqttFrontend::new(broker.clone(), limits);
    let listeners = bound.start(&workers, move |accepted| frontend.clone().serve(accepted));
    let between = store
        .cluster()
        .map(|cluster| -> Arc<dyn Relay> { Arc::new(sensors::Between(cluster)) });
    let sensors = match sensors.start(&workers, &broker, between.as_ref()) {
        Ok(sensors) => sensors,
        Err(error) => return exit::fail(exit::FAILED, error),
    };
    let mut ready: Vec<(String, String)> = addresses
        .iter()
        .map(|(name, address)| (name.to_string(), address.to_string()))
        .collect();
    let api_address = server.as_ref().map(nightjar_api::Server::address);
    ready.extend(api_address.map(|address| ("api".to_owned(), address.to_string())));
    if let Err(error) = write_listeners(&data_dir, &ready) {
        return exit::fail(
            exit::FAILED,
            format!("{}: {error}", data_dir.join("listeners.json").display()),
        );
    }
    let level = loaded.config.log.level.clone();
    let cluster = store.cluster();
    let node = Arc::new(Node {
        notify: notify::Notify::from_environment(),
        loaded: Mutex::new(loaded),
        broker,
        store: store.clone(),
        cluster: cluster.clone(),
        listeners,
        sensors,
        log,
        level: Mutex::new(level),
        api: OnceLock::new(),
        registry: OnceLock::new(),
        certificates: api::Certificates::default(),
        stopping: AtomicBool::new(false),
        told: api::Told::default(),
        hashing,
    });
    if let Some(cluster) = &cluster {
        let node = Arc::downgrade(&node);
        cluster.set_gateways(Box::new(move |from, octets| {
            if let Some(node) = node.upgrade() {
                node.sensors.relayed(from, &octets);
            }
        }));
    }
    let (stop_api, api_stopped) = tokio::sync::watch::channel(false);
    let http = match open_api(&node, &data_dir) {
        Ok(shared) => server.map(|server| workers.spawn(server.run(shared, api_stopped))),
        Err(error) => return exit::fail(exit::FAILED, error),
    };
    let registry = Arc::new(verbs::registry(&node));
    let _ = node.registry.set(registry.clone());
    let ctl = tokio::spawn(ctl.run(registry));
    let upkeep = workers.spawn(upkeep(node.clone()));
    let look = workers.spawn(look(node.clone()));
    let line: String = ready
        .iter()
        .map(|(name, address)| format!(" {name}={address}"))
        .collect();
    let ready = async {
        if let Some(cluster) = &cluster {
            // Until then clients are told that the server is unavailable.
            cluster.until(Phase::Serving).await;
        }
        println!("nightjar ready:{line}");
        node.notify.ready();
        tracing::info!("ready after {} ms", begun.elapsed().as_millis());
        std::future::pending().await
    };
    let code = tokio::select! {
        code = until_stopped(&node, signals) => code,
        code = ready => code,
    };
    node.notify.stopping();
    node.stopping.store(true, Ordering::Relaxed);
    stop(&node).await;
    let _ = stop_api.send(true);
    if let Some(http) = http {
        let _ = http.await;
    }
    if let Some(cluster) = &cluster {
        cluster.stop().await;
    }
    // The last closes of connections are committed before the process ends.
    let _ = tokio::task::spawn_blocking(move || store.close()).await;
    upkeep.abort();
    look.abort();
    ctl.abort();
    let _ = ctl.await;
    let _ = fs::remove_file(path);
    code
}

/// The signals that this process handles.
struct Signals {
    terminate: UnixSignal,
    interrupt: UnixSignal,
    hangup: UnixSignal,
}

impl Signals {
    /// From here on a signal is kept for [`until_stopped`] and does not end the process.
    fn handle() -> io::Result<Self> {
        Ok(Self {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
            hangup: signal(SignalKind::hangup())?,
        })
    }
}

/// Waits for SIGTERM or SIGINT; SIGHUP reloads.
async fn until_stopped(node: &Arc<Node>, mut signals: Signals) -> ExitCode {
    loop {
        tokio::select! {
            _ = signals.terminate.recv() => return ExitCode::SUCCESS,
            _ = signals.interrupt.recv() => return ExitCode::SUCCESS,
            _ = signals.hangup.recv() => {
                let node = node.clone();
                // Reading files may block.
                let _ = tokio::task::spawn_blocking(move || node.reload()).await;
            }
        }
    }
}

/// No new connections; 0x8B or 0x9C to the clients there are; wills wait for the restart.
async fn stop(node: &Node) {
    tracing::info!("stopping");
    node.listeners.stop_all().await;
    // 0x9C with a server reference where another node takes clients.
    let code = match node.broker.elsewhere() {
        Some(_) => ReasonCode::UseAnotherServer,
        None => ReasonCode::ServerShuttingDown,
    };
    node.broker.close_all(code);
    let deadline = Instant::now() + DRAIN;
    while node.broker.connected() > 0 && Instant::now() < deadline {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    // Last: sensors have their DISCONNECT by now.
    node.sensors.stop_all().await;
}

/// What operators look at: alarms, the points of charts, what traces wrote. Apart from [`upkeep`], because it waits for
/// lists that are walked.
async fn look(node: Arc<Node>) {
    let mut every = tokio::time::interval(Duration::from_secs(1));
    every.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let mut watch = alarms::Watch::default();
    loop {
        every.tick().await;
        let now = Timestamp::now();
        watch.tick(&node, now);
        if let Some(api) = node.api.get() {
            api.tick(now).await;
        }
    }
}

/// What happens with time: wills, expiry, `$SYS`, memory levels.
async fn upkeep(node: Arc<Node>) {
    let mut every = tokio::time::interval(TICK);
    every.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let total = memory::total();
    let mut sys_due = Instant::now() + Duration::from_secs(1);
    loop {
        every.tick().await;
        node.notify.alive();
        let now = Timestamp::now();
        node.broker.tick(now);
        let (sys, high, critical) = {
            let loaded = node.loaded.lock();
            let limits = &loaded.config.limits;
            (
                loaded.config.node.sys_interval.get(),
                limits.memory_high.fraction(),
                limits.memory_critical.fraction(),
            )
        };
        if let Some(interval) = sys
            && sys_due <= Instant::now()
        {
            sys::publish(&node.broker, now);
            sys_due = Instant::now() + interval.get();
        }
        if let (Some(total), Some(resident)) = (total, memory::resident()) {
            let level = memory::level(resident, total, high, critical);
            let old = node.broker.set_memory(level);
            if level > old {
                tracing::warn!(
                    resident,
                    total,
                    "memory is {}",
                    if level == MemoryLevel::Critical {
                        "critical: publishers are paused (limits.memory_critical)"
                    } else {
                        "high: new connections are refused (limits.memory_high)"
                    }
                );
            } else if level < old {
                tracing::info!(resident, total, "memory is {level:?} again");
            }
        }
    }
}

fn status(broker: &Arc<Broker>, store: &Arc<Store>) -> StatusSource {
    let (node, broker, store) = (broker.node().clone(), broker.clone(), store.clone());
    Arc::new(move || StatusAnswer {
        healthy: broker.store().is_serving() && !broker.is_closed() && store.failure().is_none(),
        text: format!("Node {node} is started\nnightjar is running\n"),
    })
}

/// Opens what the HTTP API keeps; the admin's first password is shown where it was made.
fn open_api(node: &Arc<Node>, data_dir: &Path) -> Result<Arc<nightjar_api::Shared>, String> {
    let host = Arc::new(api::NodeHost(node.clone()));
    let cluster = node.cluster.as_ref().map(|_| node.store.meta());
    let (shared, made) = nightjar_api::Shared::open(node.broker.clone(), host, data_dir, cluster)
        .map_err(|error| error.to_string())?;
    if let Some(password) = made {
        eprintln!(
            "the dashboard's user is admin, the password {password} (kept in {}; change it with \
             `nightjar ctl admin passwd`)",
            data_dir.join("admin-password").display()
        );
    }
    let _ = node.api.set(shared.clone());
    api::answer_others(node);
    Ok(shared)
}

impl Node {
    /// Is the node on its way out?
    pub fn is_stopping(&self) -> bool {
        self.stopping.load(Ordering::Relaxed)
    }

    /// The log filter in force.
    pub fn log_level(&self) -> String {
        self.level.lock().clone()
    }

    /// Puts another log filter in force.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn set_log_level(&self, level: &str) -> Result<(), String> {
        (self.log)(level)?;
        *self.level.lock() = level.to_owned();
        tracing::info!("the log filter is now {level}");
        Ok(())
    }

    fn status(&self) -> serde_json::Value {
        let broker = &self.broker;
        let listeners: serde_json::Map<String, serde_json::Value> = self
            .listeners
            .status()
            .into_iter()
            .map(|listener| {
                let addresses: Vec<String> = listener.addresses.iter().map(ToString::to_string).collect();
                let connections = listener.state.counters().connections();
                let value = json!({ "running": listener.running, "addresses": addresses, "connections": connections });
                (listener.name.to_string(), value)
            })
            .chain(self.sensors.status().into_iter().map(|listener| {
                let addresses = vec![listener.address.to_string()];
                let sessions = listener.gateway.sessions();
                let value = json!({ "running": listener.running, "addresses": addresses, "connections": sessions });
                (listener.name.to_string(), value)
            }))
            .collect();
        json!({
            "node": &**broker.node(),
            "version": env!("CARGO_PKG_VERSION"),
            "ready": broker.store().is_serving() && self.store.failure().is_none(),
            "state": self.cluster.as_ref().map_or("running", |it| it.phase().name()),
            "problem": match &self.cluster {
                Some(cluster) => cluster.problem(),
                None => self.store.failure().map(str::to_owned),
            },
            "uptime": Timestamp::now().since(broker.started()) / 1000,
            "durability": self.loaded.lock().config.durability,
            "connections": broker.connected(),
            "sessions": broker.sessions(),
            "retained": broker.store().retained_size().0,
            "refused": self.refused(),
            "listeners": listeners,
        })
    }
}

/// What to do about a data directory that cannot be written to: in containers it is often a folder of somebody else.
fn data_dir_error(data_dir: &Path, error: &io::Error) -> String {
    let whole = std::path::absolute(data_dir).unwrap_or_else(|_| data_dir.to_owned());
    if error.kind() == io::ErrorKind::AddrInUse {
        return format!(
            "node.data_dir: {}: {error}\n  help: stop that node, or name another directory",
            whole.display()
        );
    }
    let user = rustix::process::geteuid().as_raw();
    let group = rustix::process::getegid().as_raw();
    format!(
        "node.data_dir: cannot write to {}: {error}\n  help: give it to the user this process runs as \
         (chown -R {user}:{group}), mount a volume that can be written to, or name another directory",
        whole.display()
    )
}

/// Writes where the listeners are, whole or not at all.
fn write_listeners(data_dir: &Path, ready: &[(String, String)]) -> io::Result<()> {
    let map: serde_json::Map<String, serde_json::Value> = ready
        .iter()
        .map(|(name, address)| (name.clone(), json!(address)))
        .collect();
    let path = data_dir.join("listeners.json");
    let fresh = data_dir.join("listeners.json.new");
    fs::write(&fresh, serde_json::to_vec(&map)?)?;
    fs::rename(fresh, path)
}

/// What an operator should know before trouble comes.
fn warnings(loaded: &Loaded) {
    let config = &loaded.config;
    if config.auth.allow_anonymous.is_none() && config.auth.chain.is_empty() {
        tracing::info!(
            "no authenticator is configured: only clients of this machine are let in \
             (auth.allow_anonymous = true lets in everybody)"
        );
        let proxied = config
            .listeners
            .streams()
            .any(|it| it.stream.proxy_protocol != crate::config::model::ProxyProtocol::Off);
        if proxied {
            tracing::warn!(
                "a listener with proxy_protocol admits nobody without an authenticator or auth.allow_anonymous"
            );
        }
    }
}

/// The level as asked for; consensus, which tells each attempt to reach a node, speaks only if it is named.
fn filter_of(level: &str) -> String {
    if level.contains("openraft") {
        return level.to_owned();
    }
    format!("{level},openraft=error")
}

/// Starts the log on stderr or to `log.file`; its level can change later.
fn start_log(config: &Config) -> Result<reload::LogLevel, String> {
    let filter = EnvFilter::try_new(filter_of(&config.log.level))
        .map_err(|error| format!("log.level: {error}"))?;
    let (filter, handle) = tracing_subscriber::reload::Layer::new(filter);
    let writer: tracing_subscriber::fmt::writer::BoxMakeWriter = match &config.log.file {
        None => tracing_subscriber::fmt::writer::BoxMakeWriter::new(io::stderr),
        Some(path) => {
            let file = fs::File::options()
                .create(true)
                .append(true)
                .open(path)
                .map_err(|error| format!("log.file: {}: {error}", path.display()))?;
            tracing_subscriber::fmt::writer::BoxMakeWriter::new(Arc::new(file))
        }
    };
    let colour = config.log.file.is_none() && io::stderr().is_terminal();
    let text = tracing_subscriber::fmt::layer()
        .with_writer(writer)
        .with_ansi(colour);
    use tracing_subscriber::prelude::*;
    let registry = tracing_subscriber::registry().with(filter);
    match config.log.format {
        LogFormat::Text => registry.with(text).init(),
        LogFormat::Json => registry.with(text.json()).init(),
    }
    Ok(Box::new(move |level: &str| {
        let filter = EnvFilter::try_new(filter_of(level)).map_err(|error| error.to_string())?;
        handle.reload(filter).map_err(|error| error.to_string())
    }))
}

/// Every client takes a file descriptor: the soft limit goes up to the hard one.
fn raise_file_limit() {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let limit = getrlimit(Resource::Nofile);
    if limit.current != limit.maximum {
        let raised = Rlimit {
            current: limit.maximum,
            maximum: limit.maximum,
        };
        if let Err(error) = setrlimit(Resource::Nofile, raised) {
            tracing::warn!(
                "the limit of open files stays at {:?}: {error}",
                limit.current
            );
        }
    }
}
