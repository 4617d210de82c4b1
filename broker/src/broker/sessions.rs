//! Sessions of this node: how a connection gets one, what it has in the router, how it ends.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use nightjar_mqtt::{ReasonCode, TopicFilter};

use super::Broker;
use crate::access::ClientInfo;
use crate::auth::Owner;
use crate::handle::{DropReason, SessionHandle, Signal};
use crate::metrics::Counter;
use crate::observe::Event;
use crate::publish::{PublishBatch, Published};
use crate::session::Session;
use crate::settings::QueueLimits;
use crate::shard::{Close, CloseKind, Open, SessionEntry, Supervision, Will};
use crate::store::OpenReply;
use crate::subscription::Subscription;
use crate::ticket::{Progress, Ticket};
use crate::time::Timestamp;

/// What a front-end asks when a client connects.
#[derive(Debug, Clone)]
pub struct OpenRequest {
    /// Who.
    pub info: Arc<ClientInfo>,
    /// Clean Start (3.x: clean session).
    pub clean_start: bool,
    /// Session Expiry Interval in seconds, capped by the caller; `u32::MAX` never expires.
    pub expiry: u32,
    /// Will.
    pub will: Option<Box<Will>>,
    /// Limits of the session's queue.
    pub queue: Arc<QueueLimits>,
    /// min(max_inflight, the client's receive maximum).
    pub window: u16,
    /// QoS 2 messages taken whose PUBREL may be open.
    pub max_awaiting_rel: usize,
    /// Receive Maximum announced to the client; a 3.x client has none.
    pub receive_maximum: Option<u16>,
    /// Unacknowledged packets are sent again after so many milliseconds while the connection lives; 5.0 forbids that
    /// [MQTT-4.4.0-1].
    pub retry_interval_ms: Option<u64>,
    /// The front-end watches this client itself (MQTT-SN).
    pub supervision: Option<Supervision>,
}

/// A client identifier with the Open it waited for.
pub(super) type Abandoned = (Arc<str>, Ticket, OpenReply);

/// Somebody waits for an Open; dropped before it is answered, the broker looks after it.
struct Waiting<'a> {
    broker: &'a Broker,
    open: Option<Abandoned>,
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        if let Some(open) = self.open.take() {
            self.broker.abandoned.lock().push(open);
        }
    }
}

/// What the session keeps of whose it is; nothing of an anonymous client.
fn owner(info: &ClientInfo) -> Option<Box<Owner>> {
    let owner = Owner::from(info);
    (owner != Owner::default()).then(|| Box::new(owner))
}

/// Epochs of sessions that no shard records lie above this, so that they never meet a shard's.
pub(super) const UNRECORDED: u64 = 1 << 62;

impl Broker {
    /// Opens a session for a connection: waits until what must be kept of it is committed. `present` of the result
    /// is Session Present. A connection that another one overtook meanwhile gets
    /// [`ReasonCode::SessionTakenOver`].
    ///
    /// # Errors
    /// The reason code for CONNACK.
    pub async fn open(
        self: &Arc<Self>,
        request: OpenRequest,
        now: Timestamp,
    ) -> Result<(Session, bool), ReasonCode> {
        let interruptions = self.store.interruptions();
        if !self.store.is_serving() {
            return Err(ReasonCode::ServerUnavailable);
        }
        if self.is_closed() {
            return Err(ReasonCode::UseAnotherServer);
        }
        let info = request.info.clone();
        if let Some(mesh) = self.mesh() {
            mesh.settled(&info.client_id).wait().await?;
        }
        let (ticket, reply) = self.store.open(Open {
            client_id: info.client_id.clone(),
            clean_start: request.clean_start,
            expiry: request.expiry,
            will: request.will.clone(),
            limits: (*request.queue).clone(),
            window: request.window,
            supervision: request.supervision,
            node: 0,
            owner: owner(&info),
            now,
        });
        // A client that goes, or whose time is over, while this waits has opened its session all the same.
        let mut waiting = Waiting {
            broker: self,
            open: Some((info.client_id.clone(), ticket.clone(), reply.clone())),
        };
        let done = ticket.wait().await;
        waiting.open = None;
        done?;
        let opened = reply.take().ok_or(ReasonCode::ServerUnavailable)?;
        let epoch = if opened.recorded {
            opened.epoch
        } else {
            self.next_epoch.fetch_add(1, Ordering::Relaxed)
        };
        let handle = self.own(&request, opened.durable, epoch)?;
        if opened.recorded && !self.store.is_owner(&info.client_id, epoch) {
            // Another node took the session while this one made its handle.
            self.forget(&info.client_id, epoch);
            return Err(ReasonCode::SessionTakenOver);
        }
        self.metrics.count(if opened.present {
            Counter::SessionsResumed
        } else {
            Counter::SessionsCreated
        });
        self.connected.fetch_add(1, Ordering::Relaxed);
        let present = opened.present;
        handle.update_facts(|facts| {
            if !present || facts.created_at.0 == 0 {
                facts.created_at = now;
            }
            facts.connected_at = now;
            facts.expiry = request.expiry;
            facts.window = request.window;
            facts.clean_start = request.clean_start;
        });
        self.journal().record(
            &info.client_id,
            Event::Connected,
            format_args!(
                "{} from {} on {}{}",
                if present {
                    "session resumed"
                } else {
                    "new session"
                },
                info.peer,
                info.listener,
                info.username
                    .as_deref()
                    .map_or_else(String::new, |name| format!(", user {name}")),
            ),
            now,
        );
        if opened.durable {
            self.restore_routes(&handle, &opened.subs);
            self.store
                .stream(&info.client_id, epoch, opened.before, &handle);
        }
        let life = (epoch, interruptions);
        let session = Session::new(self.clone(), handle, &request, &opened, life, now);
        Ok((session, present))
    }

    /// Makes the connection of `epoch` the owner of the client id on this node.
    fn own(
        &self,
        request: &OpenRequest,
        durable: bool,
        epoch: u64,
    ) -> Result<Arc<SessionHandle>, ReasonCode> {
        let info = &request.info;
        if let Some(old) = self.client(&info.client_id)
            && old.is_connected()
        {
            let now = Timestamp::now();
            self.takeovers
                .note(&info.client_id, old.info().peer, info.peer, now);
            self.journal().record(
                &info.client_id,
                Event::TakenOver,
                format_args!(
                    "the connection from {} was taken over by one from {}",
                    old.info().peer,
                    info.peer
                ),
                now,
            );
        }
        let mut displaced = None;
        let mut overtaken = false;
        let handle = match self.clients.entry(info.client_id.clone()) {
            dashmap::Entry::Vacant(entry) => {
                let handle =
                    SessionHandle::new(info.clone(), durable, epoch, request.queue.clone());
                entry.insert(handle.clone());
                handle
            }
            dashmap::Entry::Occupied(mut entry) => {
                let old = entry.get().clone();
                if old.is_durable() && durable {
                    overtaken = old.epoch() > epoch;
                    old
                } else if old.epoch() < UNRECORDED && epoch < UNRECORDED && old.epoch() > epoch {
                    // Both are known to the shard, and it gave the client to the other one last.
                    overtaken = true;
                    old
                } else {
                    let handle =
                        SessionHandle::new(info.clone(), durable, epoch, request.queue.clone());
                    displaced = Some(entry.insert(handle.clone()));
                    handle
                }
            }
        };
        if overtaken {
            return Err(ReasonCode::SessionTakenOver);
        }
        if let Some(old) = displaced {
            old.signal(old.epoch(), Signal::TakenOver);
            self.end_handle(&old);
        } else if handle.epoch() != epoch
            && !handle.attach(info.clone(), epoch, request.queue.clone())
        {
            return Err(ReasonCode::SessionTakenOver);
        }
        Ok(handle)
    }

    /// Puts a resumed session's subscriptions into the router where they are missing (after a restart, or when the
    /// session comes from another node).
    pub(super) fn restore_routes(
        &self,
        handle: &Arc<SessionHandle>,
        subs: &[(TopicFilter, Subscription)],
    ) {
        for (filter, sub) in subs {
            let old = handle.with_subs(|table| table.insert(filter.clone(), *sub));
            if old.is_none() {
                self.subscription_added(filter);
            }
            if old != Some(*sub) {
                self.route_subscription(handle, filter, *sub, old);
            }
        }
    }

    /// Puts one subscription into the router.
    pub(crate) fn route_subscription(
        &self,
        handle: &Arc<SessionHandle>,
        filter: &TopicFilter,
        sub: Subscription,
        old: Option<Subscription>,
    ) {
        let durable = handle.is_durable();
        self.meshed.change(filter, durable, old, Some(sub));
        match filter.shared() {
            Some(shared) => {
                let inner = TopicFilter::from_validated(shared.filter);
                let strategy = self.settings().shared_strategy;
                self.router
                    .join_group(&inner, shared.group, strategy, handle, sub);
            }
            None => self.router.subscribe(filter, handle, sub, old.is_some()),
        }
    }

    /// Takes one subscription out of the router.
    pub(crate) fn unroute_subscription(
        &self,
        handle: &Arc<SessionHandle>,
        filter: &TopicFilter,
        sub: Subscription,
    ) {
        let durable = handle.is_durable();
        self.meshed.change(filter, durable, Some(sub), None);
        match filter.shared() {
            Some(shared) => {
                let inner = TopicFilter::from_validated(shared.filter);
                self.router.leave_group(&inner, shared.group, handle);
            }
            None => self.router.unsubscribe(filter, handle),
        }
    }

    /// A connection is over; its session may stay.
    pub(crate) fn disconnected(&self) {
        self.connected.fetch_sub(1, Ordering::Relaxed);
    }

    /// Ends a session on this node and removes it from the client table, unless another took its place.
    pub(crate) fn remove(&self, handle: &Arc<SessionHandle>) {
        self.clients
            .remove_if(handle.client_id(), |_, have| Arc::ptr_eq(have, handle));
        self.end_handle(handle);
    }

    /// Takes a session out of the router; what it had queued from shared subscriptions goes to other members. May be
    /// called more than once.
    fn end_handle(&self, handle: &Arc<SessionHandle>) {
        let queued = handle.close();
        for (filter, sub) in handle.with_subs(std::mem::take).take() {
            self.subscription_removed(&filter);
            self.unroute_subscription(handle, &filter, sub);
        }
        let mut batch = PublishBatch::default();
        let mut lost = 0;
        for delivery in queued {
            match delivery.group() {
                Some(group) if delivery.durable().is_none() => {
                    self.to_group(
                        &delivery.message,
                        group,
                        Some(handle),
                        &mut batch,
                        &mut Published::default(),
                    );
                }
                _ => lost += 1,
            }
        }
        self.metrics.dropped(DropReason::SessionEnded, lost);
        self.finish_batch(&mut batch);
    }

    /// Lets go of a session that is elsewhere now; what it had queued in memory ends here.
    pub(super) fn forget(&self, client_id: &str, epoch: u64) {
        let gone = self
            .clients
            .remove_if(client_id, |_, have| have.epoch() <= epoch);
        if let Some((_, handle)) = gone {
            handle.signal(handle.epoch(), Signal::TakenOver);
            self.end_handle(&handle);
        }
    }

    /// Closes the sessions that were opened for connections which were gone by then. Without a CONNACK there was no
    /// connection: no will is due.
    pub(super) fn close_abandoned(&self, now: Timestamp) {
        let mut decided = Vec::new();
        self.abandoned.lock().retain(|(client_id, ticket, reply)| {
            let progress = ticket.poll(None);
            if progress == Progress::Done {
                decided.push((client_id.clone(), reply.clone()));
            }
            progress == Progress::Pending
        });
        for (client_id, reply) in decided {
            let Some(opened) = reply.take().filter(|opened| opened.recorded) else {
                continue;
            };
            // The connection it took the session from does not own it any more.
            if let Some(handle) = self.client(&client_id)
                && handle.epoch() < opened.epoch
                && handle.is_connected()
            {
                handle.signal(handle.epoch(), Signal::TakenOver);
            }
            let shard = self.store.shard_of(&client_id);
            let close = SessionEntry::Close(Close {
                client_id,
                epoch: opened.epoch,
                kind: CloseKind::Normal,
                expiry: None,
                now,
            });
            self.store.submit(shard, vec![close], None);
        }
    }
}
