//! From a message to everybody who wants it: the straight line between decode and push.

mod forwarded;

use std::sync::Arc;
use std::task::Waker;

use nightjar_mqtt::QoS;
use smallvec::SmallVec;

use crate::broker::Broker;
use crate::delivery::Delivery;
use crate::handle::{DropReason, PushOutcome, Pushed, SessionHandle};
use crate::mesh::Forward;
use crate::message::Message;
use crate::metrics::Counter;
use crate::router::{Group, Member, Route, Target, Turn};
use crate::run::Run;
use crate::shard::{Enqueue, RetainedEntry, SessionEntry};
use crate::store::Batches;
use crate::subscription::{SubOptions, Subscription};
use crate::ticket::{Completion, Progress, Ticket};

/// What publishes of one read batch leave to do at its end: receivers to wake, entries to submit, queues that ask
/// the publisher to wait.
#[derive(Debug, Default)]
pub struct PublishBatch {
    wakers: SmallVec<[Waker; 8]>,
    entries: Batches,
    /// What the store keeps, in order.
    retained: Vec<RetainedEntry>,
    tickets: SmallVec<[Ticket; 2]>,
    stall: Option<Stall>,
    forwards: Vec<(u64, Vec<Forward>)>,
    /// What was published last and nobody was given yet.
    pub(crate) run: Run,
}

/// A wait for slow receivers.
#[derive(Debug)]
pub struct Stall {
    completion: Arc<Completion>,
    handles: SmallVec<[Arc<SessionHandle>; 1]>,
    shards: SmallVec<[u16; 1]>,
}

impl Stall {
    /// Done when every receiver has room again.
    #[must_use]
    pub fn ticket(&self) -> Ticket {
        Ticket::on(self.completion.clone())
    }

    /// Nobody waits: a message of the broker itself is not held up.
    pub(crate) fn ignore(&self) {
        self.completion.finish();
    }

    /// Waited long enough: from here the queue policy decides.
    pub fn give_up(&self, broker: &Broker) {
        for handle in &self.handles {
            handle.give_up();
        }
        for shard in &self.shards {
            broker.store().give_up(*shard, &self.completion);
        }
        self.completion.finish();
    }
}

/// What became of one publish.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Published {
    /// Somebody wanted it.
    pub matched: bool,
    /// A queue under the policy `reject` was full.
    pub rejected: bool,
}

/// Did a member of a shared subscription get the message?
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Placed {
    /// One did, or will when it is committed.
    Taken,
    /// No member is known.
    Nobody,
    /// None of those that are known took it.
    Full,
}

impl PublishBatch {
    /// Acknowledgements of this batch wait for this, too. They are never sent if it failed, be it long ago.
    pub(crate) fn wait_for(&mut self, ticket: Ticket) {
        if ticket.poll(None) != Progress::Done {
            self.tickets.push(ticket);
        }
    }

    /// Should the publisher stop here until receivers have room?
    #[must_use]
    #[inline]
    pub const fn is_stalled(&self) -> bool {
        self.stall.is_some()
    }

    /// Nothing left to do?
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.wakers.is_empty()
            && self.entries.is_empty()
            && self.retained.is_empty()
            && self.tickets.is_empty()
            && self.forwards.is_empty()
            && self.stall.is_none()
            && self.run.is_empty()
    }

    /// Says whether more packets of the same read stand behind the one that is handled next: then its message may be
    /// gathered with those of them that go to the same receivers.
    #[inline]
    pub const fn expect_more(&mut self, more: bool) {
        self.run.grows = more;
    }

    /// Wakes a receiver when the batch ends.
    #[inline]
    pub(crate) fn wake(&mut self, waker: Option<Waker>) {
        if let Some(waker) = waker {
            self.wakers.push(waker);
        }
    }

    pub(crate) fn entry(&mut self, shard: u16, entry: SessionEntry) {
        match self.entries.iter_mut().find(|(have, _)| *have == shard) {
            Some((_, entries)) => entries.push(entry),
            None => self.entries.push((shard, vec![entry])),
        }
    }

    /// Puts entries of the publisher's own session before all others of its shard. They are committed together with
    /// what it published: a QoS 2 packet id is never taken without its message, nor a message without its id.
    pub(crate) fn prepend(&mut self, shard: u16, mut own: Vec<SessionEntry>) {
        match self.entries.iter_mut().find(|(have, _)| *have == shard) {
            Some((_, entries)) => {
                own.append(entries);
                *entries = own;
            }
            None => self.entries.push((shard, own)),
        }
    }

    /// Says whose connection all of it is of.
    pub(crate) fn sign(&mut self, client_id: &Arc<str>, epoch: u64) {
        for (_, entries) in &mut self.entries {
            let by = SessionEntry::By {
                client_id: client_id.clone(),
                epoch,
                count: entries.len() as u64,
            };
            entries.insert(0, by);
        }
        self.sign_retained(client_id, epoch);
    }

    /// As [`Self::sign`], of what is kept alone.
    pub(crate) fn sign_retained(&mut self, client_id: &Arc<str>, epoch: u64) {
        for entry in &mut self.retained {
            if let RetainedEntry::Set(message) = entry {
                *entry = RetainedEntry::SetBy {
                    client_id: client_id.clone(),
                    epoch,
                    message: message.clone(),
                };
            }
        }
    }

    /// Says whose duty is done by what is kept: a will that comes late replaces nothing newer.
    pub(crate) fn owe_retained(&mut self, shard: u16, duty: u64) {
        for entry in &mut self.retained {
            if let RetainedEntry::Set(message) = entry {
                *entry = RetainedEntry::SetDue {
                    shard,
                    duty,
                    message: message.clone(),
                };
            }
        }
    }

    /// Is something of it on its way to other nodes, or held for a shared subscription whose members move?
    pub(crate) fn goes_elsewhere(&self) -> bool {
        !self.forwards.is_empty() || !self.tickets.is_empty()
    }

    /// Messages of QoS 0 that it gives to shards.
    pub(crate) fn unacknowledged(&self) -> usize {
        let entries = self.entries.iter().flat_map(|(_, entries)| entries);
        entries
            .filter(|entry| matches!(entry, SessionEntry::Enqueue(it) if it.message.qos() == QoS::AtMostOnce))
            .count()
    }

    pub(crate) fn forward(&mut self, node: u64, forward: Forward) {
        match self.forwards.iter_mut().find(|(have, _)| *have == node) {
            Some((_, forwards)) => forwards.push(forward),
            None => self.forwards.push((node, vec![forward])),
        }
    }

    fn entries_per_shard(&self) -> SmallVec<[(u16, usize); 4]> {
        let counts = self.entries.iter();
        counts
            .map(|(shard, entries)| (*shard, entries.len()))
            .collect()
    }

    fn stalled_on(&mut self) -> &mut Stall {
        self.stall.get_or_insert_with(|| Stall {
            completion: Completion::new(1),
            handles: SmallVec::new(),
            shards: SmallVec::new(),
        })
    }
}

impl Broker {
    /// Publishes a message to everybody its route names. What is left to do is in `batch`: call
    /// [`Self::finish_batch`] before anything waits.
    pub fn publish(&self, message: &Message, route: &Route, batch: &mut PublishBatch) -> Published {
        self.finish_run(batch);
        if message.retain() {
            self.retain(message, batch);
        }
        let mut published = Published::default();
        let rejects = self.rejects();
        let before = if rejects {
            batch.entries_per_shard()
        } else {
            SmallVec::new()
        };
        match route.lists() {
            [] => self.metrics().count(Counter::MessagesUnmatched),
            [only] => {
                for target in only.as_slice() {
                    self.to_target(message, target, batch, &mut published);
                }
            }
            _ => self.to_merged(message, route, batch, &mut published),
        }
        if rejects {
            for (shard, entries) in &batch.entries {
                let ahead = before
                    .iter()
                    .find(|(have, _)| have == shard)
                    .map_or(0, |(_, count)| *count);
                for (at, entry) in entries.iter().enumerate().skip(ahead) {
                    published.rejected |= self.store().is_full(*shard, entry, at);
                }
            }
        }
        published
    }

    /// Ends a batch: submits what goes to shards, wakes the receivers. The ticket is done when everything the batch
    /// published is committed; the stall, if there is one, asks the publisher to wait.
    pub fn finish_batch(&self, batch: &mut PublishBatch) -> (Ticket, Option<Stall>) {
        self.finish_run(batch);
        for entry in std::mem::take(&mut batch.retained) {
            let ticket = self.store().retain(entry);
            batch.wait_for(ticket);
        }
        self.submit_entries(batch);
        self.finish_elsewhere(batch)
    }

    /// As [`Self::finish_batch`], but for what goes to shards, which stays in the batch: other nodes, and sessions that no
    /// shard keeps. The ticket is done when that arrived.
    pub(crate) fn finish_elsewhere(&self, batch: &mut PublishBatch) -> (Ticket, Option<Stall>) {
        self.finish_run(batch);
        if !batch.forwards.is_empty() {
            self.send_forwards(batch);
        }
        for waker in batch.wakers.drain(..) {
            waker.wake();
        }
        let ticket = join(&mut batch.tickets);
        (ticket, batch.stall.take())
    }

    fn send_forwards(&self, batch: &mut PublishBatch) {
        let Some(mesh) = self.mesh() else { return };
        for (node, forwards) in std::mem::take(&mut batch.forwards) {
            let ticket = mesh.forward(node, forwards);
            batch.wait_for(ticket);
        }
    }

    fn submit_entries(&self, batch: &mut PublishBatch) {
        if batch.entries.is_empty() {
            return;
        }
        let entries = std::mem::take(&mut batch.entries);
        let completion = batch
            .stall
            .as_ref()
            .map_or_else(|| Completion::new(1), |stall| stall.completion.clone());
        let mut shards: SmallVec<[u16; 1]> = SmallVec::new();
        let ticket = self
            .store()
            .submit_all(entries, &completion, &mut |shard| shards.push(shard));
        if !shards.is_empty() {
            let stall = batch.stall.get_or_insert_with(|| Stall {
                completion,
                handles: SmallVec::new(),
                shards: SmallVec::new(),
            });
            stall.shards.extend(shards);
        }
        batch.wait_for(ticket);
    }

    pub(crate) fn retain(&self, message: &Message, batch: &mut PublishBatch) {
        if !self.may_retain(message) {
            self.metrics().count(Counter::RetainedRefused);
            return;
        }
        batch.retained.extend(self.keep_retained(message));
    }

    pub(crate) fn to_target(
        &self,
        message: &Message,
        target: &Target,
        batch: &mut PublishBatch,
        published: &mut Published,
    ) {
        match target {
            Target::Session {
                options,
                id,
                handle,
            } => {
                self.to_session(message, handle, *options, *id, None, batch, published);
            }
            Target::Shard(shard) => to_shard(message, *shard, batch, published),
            Target::Node { acknowledged, node } => {
                to_node(message, *node, *acknowledged, batch, published);
            }
            Target::Group(group) => self.to_group(message, group, None, batch, published),
        }
    }

    /// Overlapping filters: each session gets the message once [MQTT-3.3.4-2..-5], each shard one entry, each group
    /// counts on its own.
    fn to_merged(
        &self,
        message: &Message,
        route: &Route,
        batch: &mut PublishBatch,
        published: &mut Published,
    ) {
        struct Hit<'a> {
            handle: &'a Arc<SessionHandle>,
            options: SubOptions,
            ids: SmallVec<[u32; 2]>,
        }
        let mut hits: Vec<Hit<'_>> = Vec::with_capacity(route.len());
        let mut shards: SmallVec<[u16; 4]> = SmallVec::new();
        let mut nodes: SmallVec<[(u64, bool); 4]> = SmallVec::new();
        for target in route.lists().iter().flat_map(|list| list.as_slice()) {
            match target {
                Target::Session {
                    options,
                    id,
                    handle,
                } => hits.push(Hit {
                    handle,
                    options: *options,
                    ids: (*id != 0).then_some(*id).into_iter().collect(),
                }),
                Target::Shard(shard) => shards.push(*shard),
                Target::Node { acknowledged, node } => {
                    match nodes.iter_mut().find(|(have, _)| have == node) {
                        Some((_, any)) => *any |= *acknowledged,
                        None => nodes.push((*node, *acknowledged)),
                    }
                }
                Target::Group(group) => self.to_group(message, group, None, batch, published),
            }
        }
        hits.sort_by_key(|hit| Arc::as_ptr(hit.handle));
        hits.dedup_by(|next, kept| {
            if !Arc::ptr_eq(next.handle, kept.handle) {
                return false;
            }
            let (a, b) = (kept.options, next.options);
            kept.options = SubOptions::new(a.qos().max(b.qos()))
                .with_no_local(a.no_local() && b.no_local())
                .with_retain_as_published(a.retain_as_published() || b.retain_as_published())
                .with_checked(a.checked() && b.checked());
            kept.ids.append(&mut next.ids);
            true
        });
        for hit in hits {
            let (first, more) = hit
                .ids
                .split_first()
                .map_or((0, &[][..]), |(first, more)| (*first, more));
            self.to_session(
                message,
                hit.handle,
                hit.options,
                first,
                Some(more),
                batch,
                published,
            );
        }
        for (node, acknowledged) in nodes {
            to_node(message, node, acknowledged, batch, published);
        }
        shards.sort_unstable();
        shards.dedup();
        for shard in shards {
            to_shard(message, shard, batch, published);
        }
    }

    #[allow(
        clippy::too_many_arguments,
        reason = "the hot path passes what it has, without building a struct"
    )]
    #[inline]
    fn to_session(
        &self,
        message: &Message,
        handle: &Arc<SessionHandle>,
        options: SubOptions,
        id: u32,
        more_ids: Option<&[u32]>,
        batch: &mut PublishBatch,
        published: &mut Published,
    ) {
        if options.no_local() && message.is_from(handle.client_id()) {
            return;
        }
        published.matched = true;
        let qos = options.qos().min(message.qos());
        if qos != QoS::AtMostOnce && handle.is_durable() {
            return; // Its shard delivers it.
        }
        let mut delivery = Delivery::new(
            message.clone(),
            qos,
            options.retain_as_published() && message.retain(),
            id,
        );
        delivery.checked = options.checked();
        if let Some(more @ [_, ..]) = more_ids {
            delivery.extra_mut().more_ids = more.to_vec();
        }
        self.push(message, handle, delivery, batch, published);
    }

    fn push(
        &self,
        message: &Message,
        handle: &Arc<SessionHandle>,
        delivery: Delivery,
        batch: &mut PublishBatch,
        published: &mut Published,
    ) -> bool {
        let mut pushed = handle.push(delivery);
        batch.wake(pushed.waker.take());
        self.note_pushed(message, handle, &pushed, batch, published)
    }

    /// What follows from a push; whether the message was queued.
    #[inline]
    pub(crate) fn note_pushed(
        &self,
        message: &Message,
        handle: &Arc<SessionHandle>,
        pushed: &Pushed,
        batch: &mut PublishBatch,
        published: &mut Published,
    ) -> bool {
        match pushed.outcome {
            PushOutcome::Queued => true,
            PushOutcome::Pressed => {
                let stall = batch.stalled_on();
                if handle.stall(&stall.completion) {
                    stall.handles.push(handle.clone());
                } else if stall.handles.is_empty() && stall.shards.is_empty() {
                    batch.stall = None;
                }
                true
            }
            PushOutcome::DroppedOldest(reason) => {
                self.count_drop(handle, reason, 1);
                self.drops()
                    .record(handle.client_id(), pushed.victim.as_ref(), None, reason, 1);
                true
            }
            PushOutcome::Dropped(reason) => {
                self.drop_of(handle, message, reason);
                false
            }
            PushOutcome::Rejected => {
                self.drop_of(handle, message, DropReason::QueueFull);
                published.rejected = true;
                false
            }
            PushOutcome::Closed => false,
        }
    }

    /// Gives a message to one member of a shared subscription; `not` is a member whose session just ended.
    pub(crate) fn to_group(
        &self,
        message: &Message,
        group: &Arc<Group>,
        not: Option<&Arc<SessionHandle>>,
        batch: &mut PublishBatch,
        published: &mut Published,
    ) {
        match self.place(message, group, not, batch, published) {
            Placed::Taken => {}
            Placed::Nobody if group.is_durable() => {
                published.matched = true;
                self.hold_or_drop(message, group, DropReason::SessionEnded, batch);
            }
            Placed::Nobody => {}
            Placed::Full => self.hold_or_drop(message, group, DropReason::QueueFull, batch),
        }
    }

    /// As [`Self::to_group`]; whether somebody takes it.
    pub(crate) fn place(
        &self,
        message: &Message,
        group: &Arc<Group>,
        not: Option<&Arc<SessionHandle>>,
        batch: &mut PublishBatch,
        published: &mut Published,
    ) -> Placed {
        match group.pick(message) {
            None => return Placed::Nobody,
            Some(Turn::Member(member)) => {
                published.matched = true;
                if !self.to_members(message, group, &member, not, batch, published) {
                    let Some(node) = group.another_node() else {
                        return Placed::Full;
                    };
                    batch.forward(node, for_group(message, group, 0));
                }
            }
            Some(Turn::Node(node)) => {
                published.matched = true;
                batch.forward(node, for_group(message, group, 0));
            }
        }
        Placed::Taken
    }

    /// Gives a message to this member of the node, or to another one of it.
    fn to_members(
        &self,
        message: &Message,
        group: &Arc<Group>,
        member: &Member,
        not: Option<&Arc<SessionHandle>>,
        batch: &mut PublishBatch,
        published: &mut Published,
    ) -> bool {
        let skip = |member: &Member| not.is_some_and(|not| Arc::ptr_eq(not, &member.handle));
        if !skip(member)
            && member.handle.is_connected()
            && self.to_member(message, group, member, batch, published)
        {
            return true;
        }
        for other in group.others(&member.handle) {
            if !skip(&other) && self.to_member(message, group, &other, batch, published) {
                return true;
            }
        }
        false
    }

    fn to_member(
        &self,
        message: &Message,
        group: &Arc<Group>,
        member: &Member,
        batch: &mut PublishBatch,
        published: &mut Published,
    ) -> bool {
        let Subscription { options, id } = member.sub;
        let qos = options.qos().min(message.qos());
        let retain = options.retain_as_published() && message.retain();
        let handle = &member.handle;
        if qos != QoS::AtMostOnce && handle.is_durable() {
            let shard = self.store().shard_of(handle.client_id());
            batch.entry(
                shard,
                SessionEntry::Enqueue(Box::new(Enqueue {
                    client_id: handle.client_id().clone(),
                    message: message.clone(),
                    qos,
                    retain,
                    sub_id: id,
                    checked: options.checked(),
                    group: Some((group.name().into(), group.filter().clone())),
                })),
            );
            group.chosen(handle);
            return true;
        }
        let mut delivery = Delivery::new(message.clone(), qos, retain, id);
        delivery.checked = options.checked();
        if qos != QoS::AtMostOnce {
            delivery.extra_mut().group = Some(group.clone());
        }
        let taken = self.push(message, handle, delivery, batch, published);
        if taken {
            group.chosen(handle);
        }
        taken
    }

    /// Publishes a message of the broker itself (will, `$SYS`, API) by the same way.
    pub fn publish_now(&self, message: &Message) -> (Published, Ticket) {
        let route = self.router().route(message.topic());
        let mut batch = PublishBatch::default();
        let published = self.publish(message, &route, &mut batch);
        let (ticket, stall) = self.finish_batch(&mut batch);
        if let Some(stall) = stall {
            stall.completion.finish();
        }
        (published, ticket)
    }
}

pub(crate) fn find_group(
    route: &Route,
    name: &str,
    filter: &nightjar_mqtt::TopicFilter,
) -> Option<Arc<Group>> {
    let targets = route.lists().iter().flat_map(|list| list.as_slice());
    targets
        .filter_map(|target| match target {
            Target::Group(group) => Some(group),
            _ => None,
        })
        .find(|group| group.name() == name && group.filter() == filter)
        .cloned()
}

fn for_group(message: &Message, group: &Group, hops: u8) -> Forward {
    Forward {
        message: message.clone(),
        group: Some((group.name().into(), group.filter().clone())),
        hops,
    }
}

/// Forwards a message to a node once, whatever the number of subscribers there. What a node says of itself under
/// names that all nodes use stays with it.
fn to_node(
    message: &Message,
    node: u64,
    acknowledged: bool,
    batch: &mut PublishBatch,
    published: &mut Published,
) {
    if !acknowledged && message.qos() != QoS::AtMostOnce {
        return;
    }
    let topic = message.topic();
    if topic.starts_with("$SYS/") && !topic.starts_with("$SYS/brokers/") {
        return;
    }
    published.matched = true;
    batch.forward(
        node,
        Forward {
            message: message.clone(),
            group: None,
            hops: 0,
        },
    );
}

fn to_shard(message: &Message, shard: u16, batch: &mut PublishBatch, published: &mut Published) {
    published.matched = true;
    if message.qos() != QoS::AtMostOnce {
        batch.entry(shard, SessionEntry::Publish(message.clone()));
    }
}

fn join(tickets: &mut SmallVec<[Ticket; 2]>) -> Ticket {
    match tickets.len() {
        0 => Ticket::DONE,
        1 => tickets.pop().unwrap_or_default(),
        _ => Ticket::all(tickets.drain(..)),
    }
}
