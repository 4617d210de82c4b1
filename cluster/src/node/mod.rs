//! A node of a cluster: forming, joining, leases, consensus, and the broker's way to the other nodes.
//!
//! The state machine of the cluster decides who is up; this module renews this node's lease, proposes the end of
//! those that are silent when it leads, and keeps clients out while the node may not serve.

mod backup;
mod discovery;
mod driver;
mod form;
mod lead;
mod lease;
mod operate;
mod reach;
mod requests;
mod status;
mod version;

use std::collections::{BTreeSet, HashMap};
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicU16, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use bytes::Bytes;
use nightjar_broker::{Broker, Forward, Interest, Mesh, Ticket, Timestamp};
use nightjar_mqtt::TopicFilter;
use parking_lot::{Mutex, RwLock};
use raft_engine::env::FileSystem;
use ring::rand::{SecureRandom, SystemRandom};
use tokio::sync::watch;
use tokio::task::JoinHandle;

use lease::{LEASE, Lease, Leases, RENEW};
pub(crate) use operate::Digests;
pub use operate::{Move, Verdict};
pub use status::{NodeStatus, Status};

use crate::config::{Disk, StoreConfig};
use crate::discovery::Discovery;
use crate::error::Error;
use crate::files::Files;
use crate::ground::{Ground, Later, System};
use crate::links::{Cookie, Hello, Links, Tls, TlsFiles, listen};
use crate::member::{MemberIdentity, Opened};
use crate::raft::{Incoming, LogStore, Raft};
use crate::routes::{Forwards, Routes};
use crate::store::NodeStore;
use tokio::time::Instant;

pub(crate) use requests::raft_request;

/// Consensus may take so long to end.
const SHUTDOWN: Duration = Duration::from_secs(5);
/// A question that failed is asked again after so long.
const AGAIN: Duration = Duration::from_millis(200);

/// Settings of a node in a cluster.
#[derive(Debug, Clone)]
pub struct ClusterSettings {
    /// `cluster.name`: nodes of another name are refused.
    pub name: String,
    /// `node.name`.
    pub node: String,
    /// Where links are accepted.
    pub bind: SocketAddr,
    /// Host and port told to the other nodes; `None`: found out.
    pub advertise: Option<String>,
    /// The shared secret; empty: none, [`Self::tls`] says who is a node.
    pub cookie: String,
    /// Mutual TLS on links.
    pub tls: Option<TlsFiles>,
    /// Addresses to dial first, host and port.
    pub seeds: Vec<String>,
    /// How other nodes are found beside [`Self::seeds`].
    pub discovery: Option<Arc<dyn Discovery>>,
    /// A name and port towards which this node finds out its own address.
    pub towards: Option<String>,
    /// Where MQTT clients reach this node, for those that other nodes send away; `None`: the host of its links and
    /// [`ClusterNode::set_client_port`].
    pub reference: Option<String>,
    /// It votes and takes no clients.
    pub witness: bool,
    /// A new cluster forms when so many nodes have found each other.
    pub expect: Option<u16>,
    /// Voters of consensus, the others learn.
    pub replicas: usize,
    /// A voter that is down for so long is replaced.
    pub autoclean: Option<Duration>,
    /// Bytes of log after which a snapshot is taken.
    pub log_limit: u64,
}

/// How far a node is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Phase {
    /// In no cluster: waits for `cluster init`, `cluster.expect` nodes or somebody to join.
    Alone,
    /// In a cluster, and not up there.
    Starting,
    /// Serves.
    Serving,
    /// It left for good.
    Left,
}

impl Phase {
    /// In a word.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Alone => "forming",
            Self::Starting => "starting",
            Self::Serving => "serving",
            Self::Left => "left",
        }
    }
}

/// Takes what the gateways of a node send, by the node's number; must not block.
pub type Gateways = Box<dyn Fn(u64, Bytes) + Send + Sync>;

/// Answers a question of another node's program.
type HostAnswer = Box<dyn Fn(&[u8]) -> Option<Vec<u8>> + Send + Sync>;

/// A node of a cluster.
pub struct ClusterNode {
    settings: ClusterSettings,
    ground: Arc<dyn Ground>,
    files: Arc<dyn Files>,
    store: Arc<NodeStore>,
    links: OnceLock<Arc<Links>>,
    address: OnceLock<String>,
    raft: RwLock<Option<Raft>>,
    log: LogStore,
    opened: Mutex<Option<Opened>>,
    has_data: bool,
    identity: RwLock<Option<MemberIdentity>>,
    broker: RwLock<Option<Arc<Broker>>>,
    routes: Routes,
    forwards: Forwards,
    incoming: Incoming,
    lease: Mutex<Lease>,
    leases: Mutex<Leases>,
    /// Nodes and incarnations of which the log says already that they are silent.
    silent: Mutex<BTreeSet<(u64, u64)>>,
    /// Addresses that discovery found last.
    found: Mutex<Vec<String>>,
    /// Why it found none, in words.
    lost: Mutex<Option<String>>,
    reach: Mutex<reach::Reach>,
    /// Addresses of `cluster join`.
    added: Mutex<BTreeSet<String>>,
    /// Addresses of nodes that dialed this one, and when.
    heard: Mutex<HashMap<String, Instant>>,
    init: AtomicBool,
    leaving: AtomicBool,
    /// Its clients go elsewhere.
    draining: AtomicBool,
    /// Loads of the other nodes.
    loads: Mutex<HashMap<u64, operate::Heard>>,
    client_port: AtomicU16,
    /// One of these at a time.
    busy: AtomicBool,
    /// Why it is not further, in words.
    problem: Mutex<Option<String>>,
    phase: watch::Sender<Phase>,
    instance: u64,
    /// Who takes what gateways of other nodes send.
    gateways: OnceLock<Gateways>,
    /// Proposals of other nodes, while this one leads.
    proposals: OnceLock<tokio::sync::mpsc::UnboundedSender<crate::raft::Proposal>>,
    /// Log bytes at which the next snapshot is due.
    snapshot_at: Mutex<u64>,
    tasks: Mutex<Vec<JoinHandle<()>>>,
    /// Answers what is not of the cluster.
    host: OnceLock<HostAnswer>,
    /// The version of the protocol that its cluster uses, as far as this node knows.
    used: AtomicU16,
}

impl std::fmt::Debug for ClusterNode {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ClusterNode")
            .field("node", &self.settings.node)
            .field("phase", &*self.phase.borrow())
            .finish_non_exhaustive()
    }
}

fn random() -> u64 {
    let mut bytes = [0; 8];
    match SystemRandom::new().fill(&mut bytes) {
        Ok(()) => u64::from_le_bytes(bytes).max(1),
        // It must differ from others of this cluster, and is no secret.
        Err(_) => Timestamp::now().0 ^ u64::from(std::process::id()) << 48,
    }
}

impl ClusterNode {
    /// Opens the data directory of a node of a cluster.
    ///
    /// # Errors
    /// As [`NodeStore::open`]; a directory of a node that left; a log that lost its end.
    pub fn open(
        config: &StoreConfig,
        settings: ClusterSettings,
    ) -> Result<(Arc<NodeStore>, Arc<Self>), Error> {
        Self::open_on(config, settings, Arc::new(System), &Disk::default())
    }

    /// As [`Self::open`], on another ground and another disk.
    ///
    /// # Errors
    /// As [`Self::open`].
    pub fn open_on<F: FileSystem + 'static>(
        config: &StoreConfig,
        settings: ClusterSettings,
        ground: Arc<dyn Ground>,
        disk: &Disk<F>,
    ) -> Result<(Arc<NodeStore>, Arc<Self>), Error> {
        let (store, opened) = NodeStore::open_member(config, &ground, disk)?;
        let store = Arc::new(store);
        let used = AtomicU16::new(opened.used);
        let phase = if opened.identity.is_some() {
            Phase::Starting
        } else {
            Phase::Alone
        };
        let node = Self {
            settings,
            ground,
            files: disk.files.clone(),
            store: store.clone(),
            links: OnceLock::new(),
            address: OnceLock::new(),
            raft: RwLock::new(None),
            log: opened.log.clone(),
            has_data: opened.has_data,
            identity: RwLock::new(opened.identity.clone()),
            opened: Mutex::new(Some(opened)),
            broker: RwLock::new(None),
            routes: Routes::default(),
            forwards: Forwards::default(),
            incoming: Incoming::default(),
            lease: Mutex::default(),
            leases: Mutex::default(),
            silent: Mutex::default(),
            found: Mutex::default(),
            lost: Mutex::default(),
            reach: Mutex::default(),
            added: Mutex::default(),
            heard: Mutex::default(),
            init: AtomicBool::new(false),
            leaving: AtomicBool::new(false),
            draining: AtomicBool::new(false),
            loads: Mutex::default(),
            client_port: AtomicU16::new(0),
            busy: AtomicBool::new(false),
            problem: Mutex::default(),
            phase: watch::Sender::new(phase),
            instance: random(),
            gateways: OnceLock::new(),
            proposals: OnceLock::new(),
            snapshot_at: Mutex::new(0),
            tasks: Mutex::default(),
            host: OnceLock::new(),
            used,
        };
        Ok((store, Arc::new(node)))
    }

    /// Opens the links and begins to form, join or come back. `broker` must have this as its mesh, and no client yet:
    /// clients may come when [`Self::until`] says that it serves.
    ///
    /// # Errors
    /// The address cannot be bound, or the log of consensus cannot be opened.
    pub async fn start(self: &Arc<Self>, broker: Arc<Broker>) -> Result<SocketAddr, Error> {
        let tls = self.settings.tls.clone().map(Tls::open).transpose();
        let tls = tls.map_err(Error::Log)?;
        let bind = self.settings.bind;
        let bound = self.ground.bind(bind).await;
        let (address, listener) =
            bound.map_err(|error| Error::Log(format!("cluster.bind {bind}: {error}")))?;
        let told = match &self.settings.advertise {
            Some(told) => told.clone(),
            None => self.guess_address(address).await,
        };
        let _ = self.address.set(told);
        *self.broker.write() = Some(broker.clone());
        self.store.start_member(broker);
        let local: Arc<dyn crate::links::Local> = self.clone();
        let links = Links::new(
            local,
            self.ground.clone(),
            Cookie::new(&self.settings.cookie),
            tls,
        );
        let _ = self.links.set(links.clone());
        let run = |task: Later<'static, ()>| self.ground.run(task);
        let mut tasks = vec![run(Box::pin(listen(listener, links)))];
        let events = {
            let mut opened = self.opened.lock();
            opened.as_mut().map(|opened| {
                let (_, closed) = tokio::sync::mpsc::unbounded_channel();
                std::mem::replace(&mut opened.events, closed)
            })
        };
        if let Some(events) = events {
            tasks.push(run(Box::pin(driver::events(self.clone(), events))));
        }
        tasks.push(run(Box::pin(driver::propose(self.clone()))));
        tasks.push(run(Box::pin(driver::upkeep(self.clone()))));
        tasks.push(run(Box::pin(driver::drive(self.clone()))));
        self.tasks.lock().extend(tasks);
        let number = self.identity.read().as_ref().map(|it| it.number);
        if let Some(number) = number {
            self.start_raft(number).await?;
        }
        Ok(address)
    }

    /// Waits until the node is in this phase.
    pub async fn until(&self, phase: Phase) {
        // The sender lives as long as this.
        let _ = self.phase.subscribe().wait_for(|have| *have == phase).await;
    }

    /// Sends octets to the gateways of one node, or of all others that are up; to how many they went. They may get lost,
    /// and do where much waits already.
    pub fn to_gateways(&self, to: Option<u64>, octets: &Bytes) -> usize {
        let Some(links) = self.links() else { return 0 };
        let nodes: Vec<u64> = match to {
            Some(node) => vec![node],
            None => self.member().nodes.read().up().collect(),
        };
        nodes
            .into_iter()
            .filter_map(|node| links.to(node))
            .filter(|link| {
                !link.is_crowded() && link.send(crate::links::kind::GATEWAY, octets.clone())
            })
            .count()
    }

    /// Who takes what the gateways of other nodes send. Once; later calls change nothing.
    pub fn set_gateways(&self, gateways: Gateways) {
        let _ = self.gateways.set(gateways);
    }

    /// How far the node is.
    #[must_use]
    pub fn phase(&self) -> Phase {
        *self.phase.borrow()
    }

    /// Why it does not serve, in words for an operator.
    #[must_use]
    pub fn problem(&self) -> Option<String> {
        self.problem.lock().clone()
    }

    /// Says goodbye to the cluster and ends the links. Clients are gone already.
    pub async fn stop(&self) {
        // What connections left behind is committed first, if there is a majority to do it.
        let until = Instant::now() + Duration::from_secs(3);
        while Instant::now() < until && !self.core().is_idle() {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        self.goodbye().await;
        if let Some(discovery) = &self.settings.discovery {
            let _ = tokio::time::timeout(Duration::from_secs(1), discovery.stop()).await;
        }
        let raft = self.raft.read().clone();
        if let Some(raft) = raft
            && !matches!(
                // A disk without room may hold it up; what a kill leaves is enough for the next start.
                tokio::time::timeout(SHUTDOWN, raft.shutdown()).await,
                Ok(Ok(()))
            )
        {
            tracing::error!("consensus ended badly");
        }
        for task in self.tasks.lock().drain(..) {
            task.abort();
        }
        if let Some(links) = self.links.get() {
            links.stop();
        }
        self.store.core.fence();
        self.log.note_mark();
        *self.raft.write() = None;
        *self.broker.write() = None;
    }

    fn core(&self) -> &crate::inner::Core {
        &self.store.core
    }

    fn member(&self) -> &crate::member::Member {
        self.core()
            .member
            .as_ref()
            .expect("the store of a cluster's node is a member's")
    }

    fn links(&self) -> Option<&Arc<Links>> {
        self.links.get()
    }

    fn broker(&self) -> Option<Arc<Broker>> {
        self.broker.read().clone()
    }

    fn raft(&self) -> Option<Raft> {
        self.raft.read().clone()
    }

    fn own_address(&self) -> String {
        self.address.get().cloned().unwrap_or_default()
    }

    fn set_phase(&self, phase: Phase) {
        self.phase.send_if_modified(|have| {
            let differs = *have != phase;
            *have = phase;
            differs
        });
    }

    fn set_problem(&self, problem: impl Into<String>) {
        let problem = problem.into();
        let mut have = self.problem.lock();
        if have.as_ref() != Some(&problem) {
            tracing::warn!("cluster: {problem}");
            *have = Some(problem);
        }
    }

    fn make_hello(&self) -> Hello {
        let identity = self.identity.read().clone();
        Hello {
            cluster: self.settings.name.clone(),
            node: self.settings.node.clone(),
            instance: self.instance,
            number: identity.as_ref().map_or(0, |it| it.number),
            cluster_id: identity.map_or_else(String::new, |it| it.cluster),
            address: self.own_address(),
            expect: self.settings.expect.unwrap_or(0),
            has_data: self.has_data,
            groups: (self.core().groups.sessions, self.core().groups.retained),
            time: Timestamp::now().0,
            nonce: [0; 32],
        }
    }
}

impl Mesh for ClusterNode {
    fn node(&self) -> u64 {
        self.member().number()
    }

    fn announce(&self, filter: &TopicFilter, interest: Interest) {
        if let Some(links) = self.links() {
            self.routes.announce(links, filter, interest);
        }
    }

    fn announced(&self) -> Ticket {
        let member = self.member();
        self.routes.announced(member.number(), &member.nodes.read())
    }

    fn forward(&self, node: u64, messages: Vec<Forward>) -> Ticket {
        let Some(links) = self.links() else {
            return Ticket::DONE;
        };
        let whom = (node, self.routes.incarnation_of(node));
        let sent = self.forwards.send(links, self.instance, whom, messages);
        match (sent, self.broker()) {
            (Ok(ticket), _) => ticket,
            // It went while the message was on its way to it: other members of its groups get it.
            (Err(back), Some(broker)) => broker.hand_back_forwards(back),
            (Err(_), None) => Ticket::DONE,
        }
    }

    fn settled(&self, client_id: &str) -> Ticket {
        self.settle(client_id)
    }

    fn elsewhere(&self) -> Option<String> {
        Self::elsewhere(self)
    }

    fn is_closed(&self) -> bool {
        Self::is_closed(self)
    }
}

impl ClusterNode {
    /// Forms a new cluster of this node alone; others join it.
    ///
    /// # Errors
    /// It is in a cluster already.
    pub fn form_now(&self) -> Result<(), String> {
        if let Some(identity) = &*self.identity.read() {
            return Err(format!(
                "this node is in cluster {} already, as number {}",
                identity.cluster, identity.number
            ));
        }
        self.init.store(true, Ordering::Release);
        Ok(())
    }

    /// Dials another node: whichever of the two is in no cluster joins that of the other.
    ///
    /// # Errors
    /// The address has no port.
    pub fn join(&self, address: &str) -> Result<(), String> {
        let port = address
            .rsplit_once(':')
            .map(|(_, port)| port.parse::<u16>());
        if !matches!(port, Some(Ok(_))) {
            return Err(format!(
                "{address:?} is not host:port; links are on 5369 unless cluster.bind says otherwise"
            ));
        }
        self.added.lock().insert(address.to_owned());
        Ok(())
    }
}
