//! What the shards' state machines ask the broker to do, at once and after a batch.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;

use nightjar_mqtt::ProtocolVersion;

use super::Broker;
use crate::access::{ClientInfo, Protocol};
use crate::handle::{DropReason, SessionHandle, Signal};
use crate::metrics::Counter;
use crate::observe::Event;
use crate::publish::{Placed, PublishBatch, Published, find_group};
use crate::shard::{Effect, Queued, Restored, SessionEntry};
use crate::store::EffectSink;
use crate::time::Timestamp;

impl Broker {
    /// Gives what a member had not acknowledged to another one.
    pub(crate) fn hand_back(&self, handle: &Arc<SessionHandle>, deliveries: Vec<crate::Delivery>) {
        let mut batch = PublishBatch::default();
        for delivery in deliveries {
            if let Some(group) = delivery.group() {
                self.to_group(
                    &delivery.message,
                    group,
                    Some(handle),
                    &mut batch,
                    &mut Published::default(),
                );
            }
        }
        self.finish_batch(&mut batch);
    }

    /// `None`: a message has no member now that could take it, but will have one.
    fn hand_back_durable(&self, client_id: &str, shared: &[Queued]) -> Option<PublishBatch> {
        let gone = self.client(client_id);
        let mut batch = PublishBatch::default();
        for item in shared {
            let Some((message, group)) = item.clone().into_shared() else {
                continue;
            };
            let route = self.router.route(message.topic());
            let Some(found) = find_group(&route, &group.0, &group.1) else {
                self.metrics.dropped(DropReason::SessionEnded, 1);
                continue;
            };
            let published = &mut Published::default();
            match self.place(&message, &found, gone.as_ref(), &mut batch, published) {
                Placed::Taken => {}
                Placed::Nobody | Placed::Full if found.is_durable() => return None,
                Placed::Nobody | Placed::Full => self.metrics.dropped(DropReason::QueueFull, 1),
            }
        }
        Some(batch)
    }

    pub(crate) fn carry_out(&self, shard: u16, effect: Effect) {
        match effect {
            Effect::Will { message, duty, .. } => {
                self.metrics.count(Counter::WillsPublished);
                let mut batch = PublishBatch::default();
                let route = self.router.route(message.topic());
                self.publish(&message, &route, &mut batch);
                batch.owe_retained(shard, duty);
                self.fulfil(shard, duty, batch);
            }
            Effect::Ended {
                client_id,
                epoch,
                undelivered,
                ..
            } => {
                self.metrics.count(Counter::SessionsEnded);
                self.metrics.dropped(DropReason::SessionEnded, undelivered);
                self.journal().record(
                    &client_id,
                    Event::SessionEnded,
                    format_args!("with {undelivered} messages not delivered"),
                    Timestamp::now(),
                );
                let handle = self.client(&client_id);
                if handle.as_ref().is_none_or(|it| it.epoch() == epoch) {
                    self.kept.owners().ended(&client_id);
                }
                if let Some(handle) = handle
                    && handle.epoch() == epoch
                {
                    handle.signal(epoch, Signal::TakenOver);
                    self.remove(&handle);
                }
            }
            Effect::HandBack {
                client_id,
                shared,
                duty,
            } => {
                if !self.store.owes(shard, duty) {
                    return; // Another node does it, or did.
                }
                match self.hand_back_durable(&client_id, &shared) {
                    Some(batch) => self.fulfil(shard, duty, batch),
                    None => self.held.owe(
                        shard,
                        Effect::HandBack {
                            client_id,
                            shared,
                            duty,
                        },
                    ),
                }
            }
            _ => {}
        }
    }

    /// Commits what was done for a duty of a shard together with the end of that duty.
    fn fulfil(&self, shard: u16, duty: u64, mut batch: PublishBatch) {
        batch.entry(shard, SessionEntry::Fulfilled { duties: vec![duty] });
        let (_, stall) = self.finish_batch(&mut batch);
        if let Some(stall) = stall {
            stall.ignore();
        }
    }
}

impl EffectSink for Broker {
    fn effect(&self, shard: u16, effect: Effect) {
        match effect {
            Effect::RouteAdded(filter) => {
                let strategy = self.settings().shared_strategy;
                self.router.add_shard(&filter, strategy, shard);
            }
            Effect::RouteRemoved(filter) => self.router.remove_shard(&filter, shard),
            Effect::Dropped {
                client_id,
                reason,
                count,
            } => {
                self.drops().record(&client_id, None, None, reason, count);
                match self.client(&client_id) {
                    Some(handle) => self.count_drop(&handle, reason, count),
                    None => self.metrics.dropped(reason, count),
                }
            }
            Effect::Ready { .. } => {}
            effect => self.deferred.lock().push((shard, effect)),
        }
    }

    fn settled(&self) {
        for (client_id, epoch) in std::mem::take(&mut *self.moved_away.lock()) {
            self.forget(&client_id, epoch);
        }
        loop {
            let deferred = std::mem::take(&mut *self.deferred.lock());
            if deferred.is_empty() {
                return;
            }
            for (shard, effect) in deferred {
                self.carry_out(shard, effect);
            }
        }
    }

    fn moved(&self, client_id: &Arc<str>, epoch: u64) {
        self.moved_away.lock().push((client_id.clone(), epoch));
    }

    fn restore(&self, session: Restored) {
        if !session.durable {
            return; // Only a will is kept of it.
        }
        if self
            .client(&session.client_id)
            .is_some_and(|have| have.epoch() >= session.epoch)
        {
            return; // Its connection is here already.
        }
        let info = Arc::new(ClientInfo {
            username: session.owner.username.clone(),
            cert_subject: session.owner.certificate.clone(),
            ..ClientInfo::new(
                session.client_id.clone(),
                SocketAddr::new(Ipv4Addr::UNSPECIFIED.into(), 0),
                self.node.clone(),
                if session.supervision > 0 {
                    Protocol::MqttSn
                } else {
                    Protocol::Mqtt(ProtocolVersion::V5)
                },
            )
        });
        let shared = self.settings().queue.clone();
        let limits = if *shared == session.limits {
            shared
        } else {
            Arc::new(session.limits)
        };
        let handle = SessionHandle::new(info, true, session.epoch, limits);
        handle.detach(session.epoch);
        self.restore_routes(&handle, &session.subs);
        self.clients.insert(session.client_id, handle);
    }
}
