//! The tasks of a node.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use bytes::Bytes;
use nightjar_broker::Timestamp;
use nightjar_mqtt::ReasonCode;
use openraft::async_runtime::watch::WatchReceiver;
use openraft::errors::Fatal;
use tokio::sync::mpsc;

use super::requests::{Reply, Request, ask};
use super::{AGAIN, ClusterNode, LEASE, Phase, RENEW, random};
use crate::links::{Link, kind};
use crate::member::{Change, Event};
use crate::raft::Proposal;
use tokio::time::Instant;

/// The pulse of a node.
const TICK: Duration = Duration::from_millis(100);
/// A proposal that is not applied after so long is sent again.
const RESEND: Duration = Duration::from_secs(2);
/// As [`RESEND`], behind a change of the leader or of the link to it. One that was elected just now refuses what comes before
/// a majority has confirmed it, and says so to nobody.
const RESEND_SOON: Duration = Duration::from_millis(200);
/// Pauses between two rounds of discovery: while this node looks for a cluster, and later.
const DISCOVER: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(10));
/// So often nodes ask each other how they are.
const LOADS: Duration = Duration::from_secs(1);
/// So often the durable mark follows the log.
const MARK: Duration = Duration::from_secs(1);
/// A disk may have no room for so long before others serve this node's clients.
const FULL: Duration = Duration::from_secs(1);
/// A request about this node's own life may take so long.
const PATIENCE: Duration = Duration::from_secs(3);

/// Forms, joins, registers, renews the lease, leads.
pub(super) async fn drive(node: Arc<ClusterNode>) {
    let mut ticks = tokio::time::interval(TICK);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let mut count = 0u64;
    loop {
        ticks.tick().await;
        if count.is_multiple_of(5) {
            node.dial_all();
        }
        if count.is_multiple_of(10)
            && let Some(links) = node.links()
        {
            for link in links.all() {
                node.tell_applied(&link);
            }
        }
        count += 1;
        if let Some(links) = node.links() {
            node.routes.catch_up(links, &node.member().nodes.read());
        }
        match node.phase() {
            Phase::Left => continue,
            Phase::Alone => node.form_or_join().await,
            Phase::Starting | Phase::Serving => {
                node.watch_leader();
                node.keep_lease();
                node.look_at_links();
                node.lead();
            }
        }
    }
}

/// What may take its time, apart from [`drive`], which keeps the lease: names that are looked up, a disk that syncs.
pub(super) async fn upkeep(node: Arc<ClusterNode>) {
    let discovery = async {
        loop {
            node.discover().await;
            let pause = match node.phase() {
                Phase::Alone => DISCOVER.0,
                _ => DISCOVER.1,
            };
            tokio::time::sleep(pause).await;
        }
    };
    let mark = async {
        loop {
            tokio::time::sleep(MARK).await;
            let log = node.log.clone();
            // The sync may take long.
            let _ = tokio::task::spawn_blocking(move || log.note_mark()).await;
        }
    };
    let loads = async {
        loop {
            tokio::time::sleep(LOADS).await;
            node.ask_loads().await;
            node.keep_lead_elsewhere().await;
        }
    };
    tokio::join!(discovery, mark, loads);
}

impl ClusterNode {
    /// Is the lease over, does it have to be renewed, may the node serve?
    fn keep_lease(self: &Arc<Self>) {
        let member = self.member();
        let number = member.number();
        let now = Instant::now();
        let up = member.flight.lock().incarnation;
        if let Some(what) = self.log_trouble() {
            self.set_problem(what);
            if up != 0 {
                self.give_up(number, up);
            }
            self.set_phase(Phase::Starting);
            return;
        }
        let mut lease = self.lease.lock();
        if up != 0 && lease.is_over(now) {
            drop(lease);
            self.set_problem("the lease of this node is over: no majority confirmed it in time");
            self.fence();
            return;
        }
        if up == 0 {
            self.set_phase(Phase::Starting);
            let due = lease
                .asked
                .is_none_or(|asked| asked + Duration::from_millis(500) <= now);
            if !due || self.leaving.load(Ordering::Acquire) {
                return;
            }
            let cut_off = self.still_cut_off();
            if !cut_off.is_empty() {
                drop(lease);
                self.set_problem(format!(
                    "there is no link to nodes that serve, {cut_off:?}: they and this one would wait for each other"
                ));
                return;
            }
            lease.asked = Some(now);
            if lease.nonce == 0 {
                lease.nonce = random();
            }
            member.nonce.store(lease.nonce, Ordering::Release);
            let request = Request::Register {
                number,
                nonce: lease.nonce,
                address: self.own_address(),
                grace: self.store.grace,
                now: Timestamp::now().0,
            };
            drop(lease);
            let node = self.clone();
            tokio::spawn(async move {
                match node.ask_leader(request, PATIENCE).await {
                    // Counted from when it was asked for: the leader counts from when it heard of it.
                    Ok(Reply::Ok) => node.note_granted(now),
                    Ok(Reply::Refused(what) | Reply::Later(what)) => node.set_problem(what),
                    Ok(other) => node.set_problem(format!("not up yet: {other:?}")),
                    Err(what) => node.set_problem(what),
                }
            });
            return;
        }
        let leader = self.leader();
        if lease.is_due(now, leader) {
            lease.renewed = Some((now, leader));
            lease.asking += 1;
            drop(lease);
            let node = self.clone();
            tokio::spawn(async move {
                let request = Request::Lease {
                    number,
                    incarnation: up,
                };
                let answer = node.ask_leader(request, LEASE).await;
                node.lease.lock().asking -= 1;
                match answer {
                    Ok(Reply::Ok) => {
                        // One that came for an earlier incarnation says nothing of this one.
                        if node.member().flight.lock().incarnation == up {
                            node.note_granted(now);
                        }
                    }
                    Ok(Reply::Expired) => {
                        if node.member().flight.lock().incarnation == up {
                            node.set_problem("the cluster lets the lease of this node end");
                            // It acts no more: others need not wait until its lease would have been over.
                            node.give_up(number, up);
                        }
                    }
                    // Whoever leads next is asked as soon as it is known: an election takes most of a lease. The lease
                    // says how long that may go on.
                    Ok(_) | Err(_) => {
                        let mut lease = node.lease.lock();
                        // Unless another question went meanwhile.
                        if lease.renewed == Some((now, leader)) {
                            let soon = Instant::now() + AGAIN;
                            lease.renewed = soon.checked_sub(RENEW).map(|at| (at, leader));
                        }
                    }
                }
            });
        } else {
            drop(lease);
        }
        let holds = self.lease.lock().holds(now);
        if holds
            && !member.serving.load(Ordering::Acquire)
            && self.routes.knows_all(number, &member.nodes.read())
        {
            member.serving.store(true, Ordering::Release);
            *self.problem.lock() = None;
            tracing::info!(number, incarnation = up, "this node serves in the cluster");
            self.set_phase(Phase::Serving);
        }
    }

    /// Why this node cannot write its log, in words. Its lease must not go on: others would wait for it.
    pub(super) fn log_trouble(&self) -> Option<String> {
        if self.log.full_for().is_some_and(|full| full >= FULL) {
            return Some(
                "the disk is full: make room in the data directory; this node goes on by itself then"
                    .to_owned(),
            );
        }
        let ended = self.raft().and_then(|raft| {
            let metrics = raft.metrics();
            let state = metrics.borrow_watched().running_state.clone();
            state.err()
        });
        // A snapshot beside the log, say.
        if let Some(Fatal::StorageError(error)) = &ended {
            self.log.fail(&error.to_string());
        }
        if let Some(what) = self.log.failed() {
            return Some(format!(
                "the disk failed: {what}; other nodes serve the clients of this one: see to its disk, then restart it"
            ));
        }
        Some(format!(
            "consensus has ended: {}; restart this node",
            ended?
        ))
    }

    /// Others need not wait for the end of this node's lease.
    fn give_up(self: &Arc<Self>, number: u64, incarnation: u64) {
        self.fence();
        let node = self.clone();
        tokio::spawn(async move {
            let request = Request::Down {
                number,
                incarnation,
            };
            // If it does not succeed the lease ends by itself.
            if node.log.failed().is_some() {
                let _ = tokio::time::timeout(LEASE, node.tell_whoever_leads(&request)).await;
                return;
            }
            let _ = tokio::time::timeout(PATIENCE, node.ask_leader(request, PATIENCE)).await;
            node.keep_lead_elsewhere().await;
        });
    }

    /// Asks all until the one that leads has done it: without a disk this node has no part in consensus, and does not hear
    /// who leads next.
    async fn tell_whoever_leads(&self, request: &Request) {
        loop {
            for link in self.links().map(|links| links.all()).unwrap_or_default() {
                if let Ok(Reply::Ok) = ask(&link, request, RENEW).await {
                    return;
                }
            }
            tokio::time::sleep(AGAIN).await;
        }
    }

    /// The lease that was asked for at this time is granted.
    fn note_granted(&self, asked: Instant) {
        let mut lease = self.lease.lock();
        lease.granted(asked);
        self.member().set_lease(lease.until);
    }

    /// This node may not act for the cluster: nothing is acknowledged, clients go elsewhere.
    pub(super) fn fence(&self) {
        self.note_cut_off();
        self.core().fence();
        self.routes.fence();
        self.forwards.fence();
        self.member().set_lease(None);
        // What the log says of the incarnation that ended is history.
        self.member().nonce.store(0, Ordering::Release);
        self.lease.lock().end();
        if let Some(broker) = self.broker() {
            broker.close_all(ReasonCode::UseAnotherServer);
        }
        if self.phase() == Phase::Serving {
            self.set_phase(Phase::Starting);
        }
    }

    /// Follows who leads. This node begins to when the first entry of its term is applied: what leaders before it did for
    /// the duties of shards stands before that one, and is not done once more.
    fn watch_leader(&self) {
        let number = self.member().number();
        let (leader, term) = self.leader_and_term();
        let led = self.member().leads();
        let leads = number != 0 && leader == Some(number) && (led || self.has_applied_of(term));
        let begins = {
            let mut leases = self.leases.lock();
            leases.follow(leads, led, term, Instant::now())
        };
        if begins {
            tracing::info!(term, "this node leads the cluster");
        }
        if leads != led {
            self.core().lead(leads);
        }
    }

    /// The node stops: others need not wait for its lease.
    pub(super) async fn goodbye(self: &ClusterNode) {
        self.leaving.store(true, Ordering::Release);
        let member = self.member();
        let incarnation = member.flight.lock().incarnation;
        let number = member.number();
        let Some(leader) = self.leader().filter(|_| incarnation != 0) else {
            return;
        };
        let request = Request::Down {
            number,
            incarnation,
        };
        if leader == number {
            let entry = crate::member::NodeEntry::Down {
                number,
                incarnation,
                now: Timestamp::now().0,
            };
            // If it does not succeed the lease ends by itself.
            let _ = tokio::time::timeout(PATIENCE, self.commit(&entry)).await;
        } else if let Some(link) = self.links().and_then(|links| links.to(leader)) {
            let _ = ask(&link, &request, PATIENCE).await;
        }
    }

    /// Tells a node how far this one has applied the log.
    pub(super) fn tell_applied(&self, link: &Link) {
        let applied = self.member().applied.load(Ordering::Acquire);
        link.send(
            kind::APPLIED,
            Bytes::copy_from_slice(&applied.to_le_bytes()),
        );
    }

    /// A proposal of another node, for this one as the leader.
    pub(super) fn take_proposal(&self, proposal: Proposal) {
        if let Some(raft) = self.raft() {
            let queue = self.proposals.get_or_init(|| inbox(raft));
            // Whoever sent it sends it again if it gets lost.
            let _ = queue.send(proposal);
        }
    }
}

/// Proposals of other nodes, in the order in which they came.
fn inbox(raft: crate::raft::Raft) -> mpsc::UnboundedSender<Proposal> {
    let (sender, mut proposals) = mpsc::unbounded_channel();
    tokio::spawn(async move {
        while let Some(proposal) = proposals.recv().await {
            if raft.client_write_ff(proposal, None).await.is_err() {
                return;
            }
        }
    });
    sender
}

/// How long the first proposal has waited.
struct Stuck {
    first: u64,
    since: Instant,
    patience: Duration,
    /// When proposals began to go where they go now.
    changed: Instant,
}

impl Stuck {
    fn new(now: Instant) -> Self {
        Self {
            first: 0,
            since: now,
            patience: RESEND,
            changed: now,
        }
    }

    /// Nothing waits.
    fn clear(&mut self) {
        self.first = 0;
    }

    /// Another leader, or another link to it: all that waits goes there now.
    fn change(&mut self, now: Instant) {
        self.changed = now;
        self.clear();
    }

    /// Is it to be sent again? Each time later than before: a leader that is slow only gets slower by repeats.
    fn is_too_long(&mut self, first: u64, now: Instant) -> bool {
        if self.first != first {
            self.first = first;
            self.since = now;
            let is_new = now.saturating_duration_since(self.changed) < RESEND;
            self.patience = if is_new { RESEND_SOON } else { RESEND };
            return false;
        }
        let long = now.saturating_duration_since(self.since) >= self.patience;
        if long {
            self.since = now;
            self.patience *= 2;
        }
        long
    }
}

/// Sends this node's proposals to the leader, and again to the next one.
pub(super) async fn propose(node: Arc<ClusterNode>) {
    let member = node.member();
    let mut target = (None, 0, 0);
    let mut sent = 0;
    let mut stuck = Stuck::new(Instant::now());
    let mut incarnation = 0;
    loop {
        let _ = tokio::time::timeout(Duration::from_millis(100), member.ready.notified()).await;
        let (now_incarnation, first) = {
            let flight = member.flight.lock();
            (flight.incarnation, flight.first())
        };
        let Some(first) = first else {
            stuck.clear();
            continue;
        };
        if now_incarnation != incarnation {
            incarnation = now_incarnation;
            sent = 0;
        }
        let (leader, term) = node.leader_and_term();
        let link = leader.and_then(|leader| node.links()?.to(leader));
        // What went before on another link, or in another term, may not have arrived.
        let now_target = (leader, term, link.as_ref().map_or(0, |link| link.life()));
        if now_target != target {
            target = now_target;
            sent = 0;
            stuck.change(Instant::now());
        }
        if stuck.is_too_long(first, Instant::now()) {
            sent = 0;
        }
        let (Some(leader), Some(raft)) = (leader, node.raft()) else {
            continue;
        };
        let proposals = member.flight.lock().behind(sent);
        for proposal in proposals {
            let sequence = proposal.sequence;
            let gone = if leader == member.number() {
                raft.client_write_ff(proposal, None).await.is_ok()
            } else {
                match (&link, postcard::to_allocvec(&proposal)) {
                    (Some(link), Ok(body)) => link.send(kind::PROPOSE, body.into()),
                    _ => false,
                }
            };
            if !gone {
                sent = 0;
                break;
            }
            sent = sequence;
        }
    }
}

/// What the state machine tells.
pub(super) async fn events(node: Arc<ClusterNode>, mut events: mpsc::UnboundedReceiver<Event>) {
    while let Some(event) = events.recv().await {
        match event {
            Event::Fenced => node.fence_after_change(),
            Event::Subscribed { origin, index } => {
                if let Some(link) = node.links().and_then(|links| links.to(origin)) {
                    link.send(kind::APPLIED, Bytes::copy_from_slice(&index.to_le_bytes()));
                }
            }
            Event::Nodes(change) => node.changed(change),
        }
    }
}

impl ClusterNode {
    /// This node's incarnation was ended by the cluster; a new one may have begun since.
    fn fence_after_change(&self) {
        let again = self.member().flight.lock().incarnation != 0;
        if again {
            // The entry that ended the last incarnation began the next: the store did its part already.
            if let Some(broker) = self.broker() {
                broker.close_all(ReasonCode::UseAnotherServer);
            }
            return;
        }
        self.set_problem("the cluster took this node for dead");
        self.fence();
    }

    fn changed(&self, change: Change) {
        let member = self.member();
        let here = member.number();
        let (gone, incarnation) = match &change {
            Change::Up { number, .. }
                if *number == here && member.flight.lock().incarnation != 0 =>
            {
                let incarnation = member.flight.lock().incarnation;
                if let Some(links) = self.links() {
                    self.routes.begin(links, incarnation, &member.nodes.read());
                }
                (None, 0)
            }
            Change::Up { number, .. } if *number != here => {
                let nodes = member.nodes.read();
                let now = nodes.nodes.get(number).map_or(0, |node| node.incarnation);
                // It must not serve before it knows what was subscribed to while nobody waited for it.
                if let Some(link) = self.links().and_then(|links| links.to(*number)) {
                    self.routes.connected(&link, &nodes);
                }
                (Some(*number), now.saturating_sub(1))
            }
            Change::Down {
                number,
                incarnation,
                ..
            } => (Some(*number), *incarnation),
            Change::Removed { number, .. } => (Some(*number), u64::MAX),
            Change::Raised { version } => {
                tracing::info!(version, "the cluster uses a newer version of its protocol");
                self.note_version(*version);
                (None, 0)
            }
            Change::Up { .. } | Change::Added | Change::None => (None, 0),
        };
        if let (Some(number), Some(broker)) = (gone.filter(|it| *it != here), self.broker()) {
            self.routes.forget(&broker, number, incarnation);
            let (groups, done) = self.forwards.forget(number, incarnation);
            let ticket = broker.hand_back_forwards(groups);
            tokio::spawn(async move {
                // The publishers of what goes to another member wait for that one.
                let result = ticket.wait().await;
                for done in done {
                    done.complete(result);
                }
            });
        }
        if matches!(&change, Change::Removed { number, .. } if *number == here) {
            self.left();
        }
        self.routes.settle(here, &member.nodes.read());
        member.release_held();
        member.ready.notify_one();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn repeats_of_a_proposal_come_ever_later() {
        let begin = Instant::now();
        let mut stuck = Stuck::new(begin - RESEND);
        let mut sent = Vec::new();
        for tenth in 0..600 {
            let now = begin + Duration::from_millis(100 * tenth);
            if stuck.is_too_long(7, now) {
                sent.push(tenth);
            }
        }
        assert_eq!(sent, [20, 60, 140, 300]);
        assert!(
            !stuck.is_too_long(8, begin + Duration::from_secs(60)),
            "another one waits anew"
        );
    }

    #[test]
    fn what_goes_to_a_leader_that_was_just_elected_goes_again_soon() {
        let begin = Instant::now();
        let at = |tenth: u64| begin + Duration::from_millis(100 * tenth);
        let mut stuck = Stuck::new(begin);
        let mut sent = Vec::new();
        for tenth in 0..300 {
            if tenth == 100 {
                stuck.change(at(tenth));
            }
            if stuck.is_too_long(7, at(tenth)) {
                sent.push(tenth);
            }
        }
        assert_eq!(sent, [2, 6, 14, 30, 62, 102, 106, 114, 130, 162, 226]);
        // One that comes when the leader has been there for a while.
        assert!(!stuck.is_too_long(8, at(300)) && !stuck.is_too_long(8, at(319)));
        assert!(stuck.is_too_long(8, at(320)));
    }
}
