//! The broker of one node: clients, router, store, access and metrics in one place that every front-end shares.

mod effects;
mod retained;
mod sessions;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, AtomicUsize, Ordering};

use arc_swap::ArcSwap;
use dashmap::DashMap;
use foldhash::fast::RandomState;
use nightjar_mqtt::{QoS, ReasonCode, TopicFilter, TopicName};
use parking_lot::Mutex;

use crate::acl::AclSources;
use crate::auth::AuthChain;
use crate::bans::Ban;
use crate::handle::{DropReason, SessionHandle, Signal};
use crate::held::HeldMessages;
use crate::kept::Kept;
use crate::limits::Limits;
use crate::mesh::{Interest, Mesh, Meshed};
use crate::message::{Message, MessageHead};
use crate::metrics::{Counter, Metrics};
use crate::observe::{Alarms, DropLedger, Event, Journal, Latencies, Observe, Tracer};
use crate::router::Router;
use crate::settings::{MqttSettings, QueuePolicy, RetainedSettings};
use crate::shard::{Effect, RetainedShard};
use crate::store::DurableStore;
use crate::takeover::Takeovers;
use crate::ticket::Ticket;
use crate::time::Timestamp;

pub use sessions::OpenRequest;
use sessions::{Abandoned, UNRECORDED};

/// How full memory is, against `limits.memory_high` and `limits.memory_critical`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum MemoryLevel {
    /// Enough is free.
    Normal,
    /// New connections are refused (0x89, 3.x 0x03).
    High,
    /// Publishers are paused too.
    Critical,
}

/// What stands behind all front-ends of one node.
pub struct Broker {
    router: Router,
    store: Arc<dyn DurableStore>,
    clients: DashMap<Arc<str>, Arc<SessionHandle>, RandomState>,
    connected: AtomicUsize,
    /// Subscriptions of all sessions, and those in shared groups among them.
    subscriptions: [AtomicUsize; 2],
    metrics: Metrics,
    settings: ArcSwap<MqttSettings>,
    /// `queue.policy` of the settings is `reject`: asked for each message.
    rejects: AtomicBool,
    retained: ArcSwap<RetainedSettings>,
    acl: Arc<AclSources>,
    auth: AuthChain,
    kept: Kept,
    limits: Limits,
    next_epoch: AtomicU64,
    memory: AtomicU8,
    takeovers: Takeovers,
    meshed: Meshed,
    pub(crate) held: HeldMessages,
    /// Retained `$SYS` messages: this node's own, and not worth a log.
    sys: Mutex<RetainedShard>,
    deferred: Mutex<Vec<(u16, Effect)>>,
    /// Opens that nobody waits for any more.
    abandoned: Mutex<Vec<Abandoned>>,
    observe: Observe,
    /// Sessions that went to another node, with the last epoch that may have been here.
    moved_away: Mutex<Vec<(Arc<str>, u64)>>,
    node: Arc<str>,
    started: Timestamp,
}

impl std::fmt::Debug for Broker {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Broker")
            .field("node", &self.node)
            .field("clients", &self.clients.len())
            .finish_non_exhaustive()
    }
}

/// What a broker is built from.
pub struct Parts {
    /// Name of the node.
    pub node: Arc<str>,
    /// The durable backend.
    pub store: Arc<dyn DurableStore>,
    /// Settings of MQTT.
    pub settings: MqttSettings,
    /// Settings of the retained store.
    pub retained: RetainedSettings,
    /// Authorization.
    pub acl: Arc<AclSources>,
    /// Authentication.
    pub auth: AuthChain,
    /// Builtin users and rules, bans.
    pub kept: Kept,
}

impl Broker {
    /// A broker. The caller makes it the store's [`EffectSink`](crate::EffectSink).
    #[must_use]
    pub fn new(parts: Parts) -> Arc<Self> {
        let broker = Arc::new(Self {
            router: Router::new(),
            store: parts.store,
            clients: DashMap::with_hasher(RandomState::default()),
            connected: AtomicUsize::new(0),
            subscriptions: Default::default(),
            metrics: Metrics::default(),
            rejects: AtomicBool::new(parts.settings.queue.policy == QueuePolicy::Reject),
            settings: ArcSwap::from_pointee(parts.settings),
            retained: ArcSwap::from_pointee(parts.retained),
            acl: parts.acl,
            auth: parts.auth,
            kept: parts.kept,
            limits: Limits::default(),
            next_epoch: AtomicU64::new(UNRECORDED),
            memory: AtomicU8::new(0),
            takeovers: Takeovers::default(),
            meshed: Meshed::default(),
            held: HeldMessages::default(),
            sys: Mutex::default(),
            deferred: Mutex::new(Vec::new()),
            abandoned: Mutex::default(),
            observe: Observe::default(),
            moved_away: Mutex::new(Vec::new()),
            node: parts.node,
            started: Timestamp::now(),
        });
        let acl = broker.acl.clone();
        broker.kept.rules().on_change(move || acl.invalidate());
        let weak = Arc::downgrade(&broker);
        broker.kept.bans().on_ban(move |ban| {
            if let Some(broker) = weak.upgrade() {
                broker.enforce(ban);
            }
        });
        broker
    }

    /// Ends the connections that a ban speaks of.
    fn enforce(&self, ban: &Ban) {
        let mut ended = 0;
        for entry in &self.clients {
            let handle = entry.value();
            if handle.is_connected() && ban.speaks_of(&handle.info()) {
                // 0x8A is a code of CONNACK only (5.0 section 3.14.2.1).
                let code = ReasonCode::AdministrativeAction;
                handle.signal(handle.epoch(), Signal::Close(code));
                ended += 1;
            }
        }
        self.metrics.add(Counter::DisconnectsBanned, ended);
        tracing::info!(kind = %ban.kind, who = ban.who, by = ban.by, reason = ban.reason, ended, "banned");
    }

    /// Rates of clients, users and addresses.
    #[must_use]
    pub const fn limits(&self) -> &Limits {
        &self.limits
    }

    /// Builtin users and rules, bans.
    #[must_use]
    pub const fn kept(&self) -> &Kept {
        &self.kept
    }

    /// The router.
    #[must_use]
    pub const fn router(&self) -> &Router {
        &self.router
    }

    /// The durable backend.
    #[must_use]
    pub fn store(&self) -> &dyn DurableStore {
        &*self.store
    }

    /// This node is one of a cluster. Call it before the store is started and the first client comes.
    pub fn set_mesh(&self, mesh: Arc<dyn Mesh>) {
        self.meshed.set(mesh);
    }

    pub(crate) fn mesh(&self) -> Option<&Arc<dyn Mesh>> {
        self.meshed.get()
    }

    /// Done when every node of the cluster knows the subscriptions that were routed before.
    pub(crate) fn announced(&self) -> Ticket {
        self.mesh().map_or(Ticket::DONE, |mesh| mesh.announced())
    }

    /// What another node wants of a filter (`$share/...` in full).
    pub fn set_interest(&self, node: u64, filter: &TopicFilter, interest: Interest) {
        let here = self.mesh().map_or(0, |mesh| mesh.node());
        let strategy = self.settings().shared_strategy;
        self.router.set_node(filter, strategy, node, here, interest);
    }

    /// The server reference for a client that is sent away with this code; `None` with other codes, and where no other
    /// node takes clients.
    #[must_use]
    pub fn server_reference(&self, code: ReasonCode) -> Option<String> {
        matches!(code, ReasonCode::UseAnotherServer | ReasonCode::ServerMoved)
            .then(|| self.elsewhere())
            .flatten()
    }

    /// Where clients of this node may go instead.
    #[must_use]
    pub fn elsewhere(&self) -> Option<String> {
        self.mesh()?.elsewhere()
    }

    /// This node takes no clients, though it works: it drains, or is a witness of its cluster.
    #[must_use]
    pub fn is_closed(&self) -> bool {
        self.mesh().is_some_and(|mesh| mesh.is_closed())
    }

    /// Closes all connections of this node with this code.
    pub fn close_all(&self, code: ReasonCode) {
        for client in self.clients() {
            client.signal(client.epoch(), Signal::Close(code));
        }
    }

    /// Counters.
    #[must_use]
    pub const fn metrics(&self) -> &Metrics {
        &self.metrics
    }

    /// What the last days of clients were like.
    #[must_use]
    pub const fn journal(&self) -> &Journal {
        &self.observe.journal
    }

    /// What was dropped last, for whom and why.
    #[must_use]
    pub const fn drops(&self) -> &DropLedger {
        &self.observe.drops
    }

    /// Traces that operators started.
    #[must_use]
    pub const fn tracer(&self) -> &Tracer {
        &self.observe.tracer
    }

    /// What needs an operator's attention.
    #[must_use]
    pub const fn alarms(&self) -> &Alarms {
        &self.observe.alarms
    }

    /// How long things take.
    #[must_use]
    pub const fn latencies(&self) -> &Latencies {
        &self.observe.latencies
    }

    /// Settings of MQTT.
    #[must_use]
    pub fn settings(&self) -> arc_swap::Guard<Arc<MqttSettings>> {
        self.settings.load()
    }

    /// Is a message refused whose receiver's queue is full?
    #[inline]
    pub(crate) fn rejects(&self) -> bool {
        self.rejects.load(Ordering::Relaxed)
    }

    /// Puts new settings in force; sessions opened before keep theirs.
    pub fn set_settings(&self, settings: MqttSettings, retained: RetainedSettings) {
        let rejects = settings.queue.policy == QueuePolicy::Reject;
        self.settings.store(Arc::new(settings));
        self.rejects.store(rejects, Ordering::Relaxed);
        self.retained.store(Arc::new(retained));
    }

    /// Authorization.
    #[must_use]
    pub const fn acl(&self) -> &Arc<AclSources> {
        &self.acl
    }

    /// Authentication.
    #[must_use]
    pub const fn auth(&self) -> &AuthChain {
        &self.auth
    }

    /// Name of this node.
    #[must_use]
    pub const fn node(&self) -> &Arc<str> {
        &self.node
    }

    /// When it was started.
    #[must_use]
    pub const fn started(&self) -> Timestamp {
        self.started
    }

    /// How full memory is.
    #[must_use]
    #[inline]
    pub fn memory(&self) -> MemoryLevel {
        match self.memory.load(Ordering::Relaxed) {
            0 => MemoryLevel::Normal,
            1 => MemoryLevel::High,
            _ => MemoryLevel::Critical,
        }
    }

    /// Says how full memory is; measured outside. Returns what it was.
    pub fn set_memory(&self, level: MemoryLevel) -> MemoryLevel {
        let old = self.memory();
        self.memory.store(level as u8, Ordering::Relaxed);
        old
    }

    /// Connected clients.
    #[must_use]
    pub fn connected(&self) -> usize {
        self.connected.load(Ordering::Relaxed)
    }

    /// Subscriptions on this node, and those in shared groups among them.
    #[must_use]
    pub fn subscriptions(&self) -> (usize, usize) {
        let [all, shared] = &self.subscriptions;
        (all.load(Ordering::Relaxed), shared.load(Ordering::Relaxed))
    }

    /// Counts a subscription that came into a session's table.
    pub(crate) fn subscription_added(&self, filter: &TopicFilter) {
        let [all, shared] = &self.subscriptions;
        all.fetch_add(1, Ordering::Relaxed);
        if filter.shared().is_some() {
            shared.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Counts a subscription that went out of a session's table.
    pub(crate) fn subscription_removed(&self, filter: &TopicFilter) {
        let [all, shared] = &self.subscriptions;
        all.fetch_sub(1, Ordering::Relaxed);
        if filter.shared().is_some() {
            shared.fetch_sub(1, Ordering::Relaxed);
        }
    }

    /// Sessions on this node, connected or not.
    #[must_use]
    pub fn sessions(&self) -> usize {
        self.clients.len()
    }

    /// The session of a client.
    #[must_use]
    pub fn client(&self, client_id: &str) -> Option<Arc<SessionHandle>> {
        self.clients
            .get(client_id)
            .map(|entry| entry.value().clone())
    }

    /// All sessions of this node.
    #[must_use]
    pub fn clients(&self) -> Vec<Arc<SessionHandle>> {
        self.clients
            .iter()
            .map(|entry| entry.value().clone())
            .collect()
    }

    /// Asks the connection of a client to close with this code.
    pub fn kick(&self, client_id: &str, code: ReasonCode) -> bool {
        let Some(handle) = self.client(client_id) else {
            return false;
        };
        handle.signal(handle.epoch(), Signal::Close(code));
        let connected = handle.is_connected();
        if connected {
            self.journal().record(
                client_id,
                Event::Kicked,
                format_args!("asked to leave with 0x{:02X}", code.code()),
                Timestamp::now(),
            );
        }
        connected
    }

    /// Counts one dropped delivery and notes it.
    pub(crate) fn drop_of(&self, handle: &SessionHandle, message: &Message, reason: DropReason) {
        self.count_drop(handle, reason, 1);
        let publisher = message.head().publisher.as_ref();
        self.drops().record(
            handle.client_id(),
            Some(message.topic()),
            publisher,
            reason,
            1,
        );
    }

    /// Counts dropped deliveries for the broker and for the session.
    pub(crate) fn count_drop(&self, handle: &SessionHandle, reason: DropReason, count: u64) {
        self.metrics.dropped(reason, count);
        handle
            .dropped
            .fetch_add(u32::try_from(count).unwrap_or(u32::MAX), Ordering::Relaxed);
    }

    /// Time passed: wills, expiry and retained messages that are due.
    pub fn tick(&self, now: Timestamp) {
        self.close_abandoned(now);
        self.observe.drops.refill(now);
        self.retry_held();
        self.store.tick(now);
        self.kept.bans().tick(now);
        self.limits.sweep(std::time::Instant::now());
    }

    /// Publishes a message of the broker itself.
    pub fn publish_own(&self, topic: &str, payload: &[u8], retain: bool, now: Timestamp) {
        let message = Message::new(
            MessageHead {
                topic: TopicName::from_validated(topic),
                qos: QoS::AtMostOnce,
                retain,
                publisher: None,
                received_at: now,
                expires_at: None,
                properties: None,
            },
            payload,
        );
        self.publish_now(&message);
    }
}
