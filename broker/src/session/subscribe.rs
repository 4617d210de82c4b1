//! SUBSCRIBE and UNSUBSCRIBE, and the retained messages that a new subscription brings.

use std::task::Waker;

use nightjar_mqtt::{QoS, ReasonCode, TopicFilter};

use super::{Owed, OwedPacket, Session};
use crate::delivery::Delivery;
use crate::observe::Event;
use crate::publish::PublishBatch;
use crate::shard::{Enqueue, SessionEntry};
use crate::store::RetainedCursor;
use crate::subscription::{RetainHandling, Subscription};
use crate::ticket::{Completion, Progress, Ticket};
use crate::time::Timestamp;

/// Topics that a read of retained messages looks at before others have their turn: less than a millisecond.
const RETAINED_PART: usize = 512;

/// What one portion may take of the queue of a durable session: one part of so many. A queue that is half full when a
/// portion is submitted takes that one and the next, which waits for it to empty.
const QUEUE_PART: usize = 4;

/// Topics that are looked at when a connection ends before it has read all.
const LAST_READ: usize = 8192;

/// A read of retained messages that waits until the subscription is in force everywhere.
#[derive(Debug)]
pub(super) struct RetainedRead {
    /// Done when it may go on.
    ticket: Ticket,
    /// A part of it was read.
    began: bool,
    cursor: RetainedCursor,
    filter: TopicFilter,
    sub: Subscription,
}

impl Session {
    /// SUBSCRIBE: what the front-end granted, and all codes of the SUBACK. The SUBACK leaves after the subscriptions
    /// are committed and routed. The caller finished its batch before.
    pub fn subscribe(
        &mut self,
        id: u16,
        granted: Vec<(TopicFilter, Subscription)>,
        codes: Vec<ReasonCode>,
    ) {
        let mut reads = Vec::new();
        for (filter, sub) in &granted {
            let old = self
                .handle
                .with_subs(|subs| subs.insert(filter.clone(), *sub));
            if old.is_none() {
                self.broker.subscription_added(filter);
            }
            self.broker.journal().record(
                self.handle.client_id(),
                Event::Subscribed,
                format_args!("{filter} with QoS {}", sub.options.qos().bits()),
                Timestamp::now(),
            );
            self.broker
                .route_subscription(&self.handle, filter, *sub, old);
            let wanted = match sub.options.retain_handling() {
                RetainHandling::Always => true,
                RetainHandling::IfNew => old.is_none(),
                RetainHandling::Never => false,
            };
            if wanted && filter.shared().is_none() {
                reads.push((filter.clone(), *sub));
            }
        }
        let granted_is_empty = granted.is_empty();
        let mut ticket = Ticket::DONE;
        if self.durable && !granted.is_empty() {
            let client_id = self.handle.client_id().clone();
            let shard = self.broker.store().shard_of(&client_id);
            let entry = SessionEntry::Subscribe {
                client_id,
                epoch: self.epoch,
                subs: granted,
            };
            ticket = self.broker.store().submit(shard, vec![entry], None).ticket;
        }
        if !granted_is_empty {
            ticket = Ticket::all([ticket, self.broker.announced()]);
        }
        // SUBACK waits for the read of retained messages: what is published behind it comes live only, not again as
        // a retained message.
        if !reads.is_empty() {
            ticket = Ticket::all([ticket, self.broker.store().retained_barrier()]);
        }
        self.owed.push_back(Owed {
            transmit: OwedPacket::Suback { id, codes },
            ticket: ticket.clone(),
            open: false,
        });
        for (filter, sub) in reads {
            let ticket = ticket.clone();
            self.reads.push(RetainedRead {
                ticket,
                began: false,
                cursor: RetainedCursor::default(),
                filter,
                sub,
            });
        }
    }

    /// UNSUBSCRIBE: removes subscriptions; UNSUBACK says for each whether it existed.
    pub fn unsubscribe(&mut self, id: u16, filters: Vec<TopicFilter>) {
        let mut codes = Vec::with_capacity(filters.len());
        let mut removed = Vec::new();
        for filter in filters {
            if let Some(sub) = self.handle.with_subs(|subs| subs.remove(&filter)) {
                self.broker.subscription_removed(&filter);
                self.broker.unroute_subscription(&self.handle, &filter, sub);
                self.broker.journal().record(
                    self.handle.client_id(),
                    Event::Unsubscribed,
                    &filter,
                    Timestamp::now(),
                );
                codes.push(ReasonCode::Success);
                removed.push(filter);
            } else {
                codes.push(ReasonCode::NoSubscriptionExisted);
            }
        }
        let mut ticket = Ticket::DONE;
        if self.durable && !removed.is_empty() {
            let client_id = self.handle.client_id().clone();
            let shard = self.broker.store().shard_of(&client_id);
            let entry = SessionEntry::Unsubscribe {
                client_id,
                epoch: self.epoch,
                filters: removed,
            };
            ticket = self.broker.store().submit(shard, vec![entry], None).ticket;
        }
        self.owed.push_back(Owed {
            transmit: OwedPacket::Unsuback { id, codes },
            ticket,
            open: false,
        });
    }

    /// Reads on for the first subscription in force that asks for retained messages, unless what was read before still
    /// waits: a filter that matches a million topics takes neither the worker nor memory for itself. QoS 0 and
    /// transient deliveries go out directly; QoS 1/2 of a durable session take a place in its queue, and what comes
    /// behind them waits until that queue is less than half full.
    pub(super) fn read_retained(&mut self, now: Timestamp, waker: &Waker) {
        if self.outbound.has_retained() {
            return;
        }
        let ready = self.reads.iter().enumerate().find_map(|(at, read)| {
            let progress = read.ticket.poll(Some(waker));
            (progress != Progress::Pending).then_some((at, progress))
        });
        let Some((at, progress)) = ready else {
            return;
        };
        let mut read = self.reads.remove(at);
        if self.reads.is_empty() {
            self.reads = Vec::new();
        }
        if matches!(progress, Progress::Failed(_)) {
            waker.wake_by_ref(); // It ends here; another one may be ready.
            return;
        }
        let budget = if self.durable {
            let room = self.broker.settings().queue.max_len / QUEUE_PART;
            RETAINED_PART.min(room)
        } else {
            RETAINED_PART
        };
        let (entries, over) = self.read_part(&mut read, budget, now);
        read.began = true;
        read.ticket = Ticket::DONE;
        if !entries.is_empty() {
            let store = self.broker.store();
            let stall = Completion::new(1);
            let shard = store.shard_of(self.handle.client_id());
            let submitted = store.submit(shard, entries, Some(&stall));
            let emptied = submitted.stalled.then(|| Ticket::on(stall));
            read.ticket = Ticket::all([submitted.ticket].into_iter().chain(emptied));
        }
        if !over {
            // Others have their turn first, among the filters as among the connections.
            self.reads.push(read);
        }
        if !self.reads.is_empty() && !self.outbound.has_retained() {
            waker.wake_by_ref();
        }
    }

    /// Reads on, looking at so many topics at most. What goes through the session's queue, and whether the read is over.
    fn read_part(
        &mut self,
        read: &mut RetainedRead,
        budget: usize,
        now: Timestamp,
    ) -> (Vec<SessionEntry>, bool) {
        let (sub, client_id) = (read.sub, self.handle.client_id().clone());
        let (durable, outbound) = (self.durable, &mut self.outbound);
        let mut entries = Vec::new();
        let over = self.broker.read_retained_part(
            &read.filter,
            &mut read.cursor,
            budget,
            now,
            &mut |message| {
                if sub.options.no_local()
                    && message.head().publisher.as_deref() == Some(&*client_id)
                {
                    return;
                }
                let qos = sub.options.qos().min(message.qos());
                if durable && qos != QoS::AtMostOnce {
                    entries.push(SessionEntry::Enqueue(Box::new(Enqueue {
                        client_id: client_id.clone(),
                        message: message.clone(),
                        qos,
                        retain: true,
                        sub_id: sub.id,
                        checked: sub.options.checked(),
                        group: None,
                    })));
                } else {
                    let mut delivery = Delivery::new(message.clone(), qos, true, sub.id);
                    delivery.checked = sub.options.checked();
                    outbound.queue_retained(delivery);
                }
            },
        );
        (entries, over)
    }

    /// Reads on for a front-end that asks for no messages now, so that what is retained has its place in the queue of a
    /// session that stays.
    pub fn read_ahead(&mut self, now: Timestamp, waker: &Waker) {
        if !self.reads.is_empty() {
            self.read_retained(now, waker);
        }
    }

    /// The connection ends before its subscriptions brought all that is retained: a session that stays gets the rest, as
    /// far as its queue would take it.
    pub(super) fn finish_reads(&mut self, now: Timestamp) {
        if !self.durable {
            return;
        }
        let mut room = self.broker.settings().queue.max_len.min(LAST_READ);
        for mut read in std::mem::take(&mut self.reads) {
            match read.ticket.poll(None) {
                Progress::Done => {}
                Progress::Pending if read.began => {}
                // Not in force, SUBACK was not sent; or it was refused.
                Progress::Pending | Progress::Failed(_) => continue,
            }
            let mut over = false;
            while !over && room > 0 {
                let part = RETAINED_PART.min(room);
                room -= part;
                let entries;
                (entries, over) = self.read_part(&mut read, part, now);
                if !entries.is_empty() {
                    let store = self.broker.store();
                    let shard = store.shard_of(self.handle.client_id());
                    let _ = store.submit(shard, entries, None);
                }
            }
        }
    }

    /// Publishes outside of a connection's read batch (a verdict that was waited for).
    #[must_use]
    pub fn new_batch() -> PublishBatch {
        PublishBatch::default()
    }
}
