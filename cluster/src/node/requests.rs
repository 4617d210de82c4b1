//! What nodes ask of each other, and the answers.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use nightjar_broker::{Completion, Ticket};
use openraft::ReadPolicy;
use openraft::async_runtime::watch::WatchReceiver;
use openraft::errors::ClientWriteError;
use openraft::impls::ProgressResponder;
use openraft::impls::leader_id_adv::LeaderId;
use serde::{Deserialize, Serialize};

use super::operate::{Known, Load};
use super::{ClusterNode, Phase};
use crate::links::{Answer, Answers, Hello, Lane, Link, Local, kind};
use crate::member::{NodeEntry, parts};
use crate::raft::{Proposal, Rpc, answer};
use tokio::time::Instant;

/// A request. Its encoding begins with a byte that says whether consensus is meant: its answers are its own.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) enum Request {
    /// A number for a new node.
    Join {
        name: String,
        address: String,
        nonce: u64,
        groups: (u16, u16),
    },
    /// A new incarnation.
    Register {
        number: u64,
        nonce: u64,
        address: String,
        grace: u32,
        now: u64,
    },
    /// The lease goes on.
    Lease { number: u64, incarnation: u64 },
    /// The node stops.
    Down { number: u64, incarnation: u64 },
    /// The node leaves for good.
    Leave { number: u64 },
    /// A node that is down is removed for good, by name or number.
    ForceLeave { node: String },
    /// How is it there?
    Load,
    /// Sends so many clients elsewhere, so many each second.
    Shed { count: u64, rate: u32 },
    /// Commits the entry at which the nodes compare what they hold.
    Verify { nonce: u64 },
    /// What is held there at that entry, and known of routes.
    Known { nonce: u64 },
    /// There is no link to these nodes, which are up.
    Unreached { number: u64, nodes: Vec<u64> },
    /// The newest version that all nodes speak is to be used.
    Raise,
    /// Answered when all that was submitted there before is kept: a client that was there connects here.
    Settle,
    /// Commits an entry of a kind that comes with the next version.
    #[cfg(feature = "next-protocol")]
    Mark { nonce: u64 },
}

/// An answer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum Reply {
    Ok,
    Joined {
        number: u64,
        cluster: String,
    },
    /// Ask the leader.
    NotLeader,
    /// There is no such incarnation any more.
    Expired,
    /// No, and why.
    Refused(String),
    /// Not now.
    Later(String),
    Load(Load),
    Known(Known),
}

/// How long a CONNECT waits for the node that its client was at.
const CATCH_UP: Duration = Duration::from_millis(500);

const NO_LEADER: &str = "there is no leader: no majority of the voters is reachable";

/// Addresses of nodes that dialed, at most.
const HEARD: usize = 256;

const RAFT: u8 = 0;
const NODE: u8 = 1;
const HOST: u8 = 2;

/// The request that carries a message of consensus.
pub(crate) fn raft_request(rpc: &Rpc) -> Result<Vec<u8>, String> {
    postcard::to_extend(rpc, vec![RAFT]).map_err(|error| error.to_string())
}

/// Asks another node.
pub(super) async fn ask(
    link: &Link,
    request: &Request,
    patience: Duration,
) -> Result<Reply, String> {
    let body = postcard::to_extend(request, vec![NODE]).map_err(|error| error.to_string())?;
    let answer = link
        .request(Lane::Control, &body, patience)
        .await
        .map_err(|error| format!("{}: {error}", link.address))?;
    postcard::from_bytes(&answer).map_err(|error| error.to_string())
}

impl ClusterNode {
    /// Asks the leader, which may be this node.
    pub(super) async fn ask_leader(
        self: &Arc<Self>,
        request: Request,
        patience: Duration,
    ) -> Result<Reply, String> {
        let leader = self.leader().ok_or_else(|| NO_LEADER.to_owned())?;
        if leader == self.member().number() {
            return Ok(self.serve(request).await);
        }
        let link = self
            .links()
            .and_then(|links| links.to(leader))
            .ok_or_else(|| format!("there is no link to the leader, node {leader}"))?;
        ask(&link, &request, patience).await
    }

    /// See [`nightjar_broker::Mesh::settled`].
    pub(super) fn settle(&self, client_id: &str) -> Ticket {
        let here = self.member().number();
        let node = self.store.connection(client_id).map(|(_, node)| node);
        let Some(node) = node.filter(|node| *node != here) else {
            return Ticket::DONE;
        };
        let Some(link) = self.links().and_then(|links| links.to(node)) else {
            return Ticket::DONE;
        };
        let done = Completion::new(1);
        let told = done.clone();
        tokio::spawn(async move {
            // Without an answer its connection is taken over as of a node that died.
            let _ = ask(&link, &Request::Settle, CATCH_UP).await;
            told.complete(Ok(()));
        });
        Ticket::on(done)
    }

    /// Asks another node what only the program around it knows, such as its load.
    ///
    /// # Errors
    /// In words: no link, no answer in time, or the node does not know it.
    pub async fn ask_host(
        &self,
        number: u64,
        question: &[u8],
        patience: Duration,
    ) -> Result<Vec<u8>, String> {
        let link = self
            .links()
            .and_then(|links| links.to(number))
            .ok_or_else(|| format!("there is no link to node {number}"))?;
        let body = [&[HOST], question].concat();
        let answer = link
            .request(Lane::Log, &body, patience)
            .await
            .map_err(|error| format!("{}: {error}", link.address))?;
        postcard::from_bytes::<Result<Vec<u8>, String>>(&answer)
            .map_err(|error| error.to_string())?
    }

    /// Says who answers what [`Self::ask_host`] of other nodes asks; `None` for what it does not know. It must not
    /// block. Said once.
    pub fn answer_hosts(&self, answer: impl Fn(&[u8]) -> Option<Vec<u8>> + Send + Sync + 'static) {
        let _ = self.host.set(Box::new(answer));
    }

    /// Number of the leader that this node knows.
    pub(super) fn leader(&self) -> Option<u64> {
        self.leader_and_term().0
    }

    /// The leader that this node knows, and the term of consensus.
    pub(super) fn leader_and_term(&self) -> (Option<u64>, u64) {
        let Some(raft) = self.raft() else {
            return (None, 0);
        };
        let metrics = raft.metrics();
        let metrics = metrics.borrow_watched();
        // What ended knows no leader, whatever it knew last.
        let leader = metrics
            .current_leader
            .filter(|_| metrics.running_state.is_ok());
        (leader, metrics.current_term)
    }

    /// Was an entry of this term applied here?
    pub(super) fn has_applied_of(&self, term: u64) -> bool {
        self.raft().is_some_and(|raft| {
            let metrics = raft.metrics();
            let applied = metrics.borrow_watched().last_applied;
            applied.is_some_and(|id| id.leader_id.term == term)
        })
    }

    /// Commits an entry about nodes.
    pub(super) async fn commit(&self, entry: &NodeEntry) -> Result<(), String> {
        self.commit_as(None, entry).await
    }

    /// As [`Self::commit`], in this term of this node or not at all: what was decided by what a term knows.
    pub(super) async fn commit_in(&self, term: u64, entry: &NodeEntry) -> Result<(), String> {
        self.commit_as(Some(term), entry).await
    }

    async fn commit_as(&self, term: Option<u64>, entry: &NodeEntry) -> Result<(), String> {
        let raft = self
            .raft()
            .ok_or_else(|| "consensus does not run".to_owned())?;
        self.may_write(entry)?;
        let proposal = Proposal {
            origin: 0,
            incarnation: 0,
            sequence: 0,
            body: parts::of_nodes(entry),
        };
        let (responder, done) = ProgressResponder::complete_only();
        let mut write = raft.write(proposal).responder(responder);
        if let Some(term) = term {
            write = write.with_leader(LeaderId {
                term,
                node_id: self.member().number(),
            });
        }
        write.await.map_err(|error| error.to_string())?;
        match done.await {
            Ok(Ok(_)) => Ok(()),
            // Nobody leads, or somebody else does: it is asked again.
            Ok(Err(ClientWriteError::ForwardToLeader(_))) => Err(NO_LEADER.to_owned()),
            Ok(Err(error)) => Err(error.to_string()),
            Err(_) => Err("consensus ended".to_owned()),
        }
    }

    pub(super) async fn serve(self: &Arc<Self>, request: Request) -> Reply {
        match request {
            Request::Load => return Reply::Load(self.load()),
            Request::Known { nonce } => return Reply::Known(self.known(nonce)),
            Request::Shed { count, rate } => {
                self.begin_shed(count, rate);
                return Reply::Ok;
            }
            Request::Settle => {
                return match self.core().settled().wait().await {
                    Ok(()) => Reply::Ok,
                    Err(code) => Reply::Later(format!("{code:?}")),
                };
            }
            _ => {}
        }
        let leads = self.leader() == Some(self.member().number()) && self.member().number() != 0;
        if !leads {
            return Reply::NotLeader;
        }
        let done = |result: Result<(), String>| match result {
            Ok(()) => Reply::Ok,
            Err(what) => Reply::Later(what),
        };
        match request {
            Request::Join {
                name,
                address,
                nonce,
                groups,
            } => self.admit_node(name, address, nonce, groups).await,
            Request::Register {
                number,
                nonce,
                address,
                grace,
                now,
            } => {
                let (known, forming) = {
                    let nodes = self.member().nodes.read();
                    (nodes.nodes.contains_key(&number), nodes.nodes.is_empty())
                };
                if forming {
                    return Reply::Later("the cluster is being formed".to_owned());
                }
                if !known {
                    return Reply::Refused(format!(
                        "node {number} was removed from the cluster; it comes back with an empty data directory, under a \
                         new number"
                    ));
                }
                let received = Instant::now();
                let entry = NodeEntry::Up {
                    number,
                    nonce,
                    address,
                    grace,
                    now,
                };
                // Before it is up: it must never be so without having been heard of.
                self.leases.lock().note(number, received);
                done(self.commit(&entry).await)
            }
            Request::Lease {
                number,
                incarnation,
            } => self.renew_lease(number, incarnation).await,
            Request::Down {
                number,
                incarnation,
            } => {
                let now = nightjar_broker::Timestamp::now().0;
                let entry = NodeEntry::Down {
                    number,
                    incarnation,
                    now,
                };
                done(self.commit(&entry).await)
            }
            Request::Unreached { number, nodes } => {
                self.note_unreached(number, &nodes);
                Reply::Ok
            }
            Request::Leave { number } => self.remove_node(number).await,
            Request::ForceLeave { node } => self.force_leave(&node).await,
            Request::Verify { nonce } => done(self.mark_for_digests(nonce).await),
            Request::Raise => self.raise().await,
            #[cfg(feature = "next-protocol")]
            Request::Mark { nonce } => match self.commit(&NodeEntry::Mark { nonce }).await {
                Ok(()) => Reply::Ok,
                Err(what) => Reply::Refused(what),
            },
            Request::Load | Request::Known { .. } | Request::Shed { .. } | Request::Settle => {
                Reply::Ok
            }
        }
    }

    async fn renew_lease(&self, number: u64, incarnation: u64) -> Reply {
        let received = Instant::now();
        let Some(term) = self.leases.lock().term() else {
            return Reply::NotLeader;
        };
        if !self.is_incarnation(number, incarnation) {
            return Reply::Expired;
        }
        let Some(raft) = self.raft() else {
            return Reply::NotLeader;
        };
        // A leader that was deposed grants nothing: a majority must still follow it after the request came. And what
        // earlier leaders left in the log may end this incarnation: it is looked at when all of that is applied.
        let read = match raft.get_read_linearizer(ReadPolicy::ReadIndex).await {
            Ok(read) => read,
            Err(error) => return Reply::Later(error.to_string()),
        };
        if let Err(error) = read.await_ready(&raft).await {
            return Reply::Later(error.to_string());
        }
        let mut leases = self.leases.lock();
        let is_up = self.is_incarnation(number, incarnation);
        match leases.grant(term, (number, incarnation), received, is_up) {
            None => Reply::NotLeader,
            Some(true) => Reply::Ok,
            Some(false) => Reply::Expired,
        }
    }

    fn is_incarnation(&self, number: u64, incarnation: u64) -> bool {
        let nodes = self.member().nodes.read();
        nodes
            .nodes
            .get(&number)
            .is_some_and(|node| node.up && node.incarnation == incarnation)
    }
}

impl Local for ClusterNode {
    fn hello(&self) -> Hello {
        self.make_hello()
    }

    fn versions(&self) -> (u16, u16) {
        self.versions_now()
    }

    fn connected(&self, link: &Arc<Link>, remote: &Hello) {
        if remote.number != 0 {
            self.routes.connected(link, &self.member().nodes.read());
            self.forwards.connected(link, remote.number);
            self.tell_applied(link);
        }
        self.member().ready.notify_one();
    }

    fn accepted(&self, remote: &Hello) {
        let mut heard = self.heard.lock();
        if heard.len() < HEARD || heard.contains_key(&remote.address) {
            heard.insert(remote.address.clone(), Instant::now());
        }
    }

    fn replied(&self, remote: &Hello, kind: u8, body: &[u8]) {
        let member = self.member();
        match kind {
            kind::ROUTES_ACK => {
                self.routes
                    .acked(member.number(), remote.number, body, &member.nodes.read());
            }
            kind::FORWARD_ACK => self.forwards.acked(remote.number, body),
            _ => {}
        }
    }

    fn request(self: Arc<Self>, from: Hello, body: Bytes) -> Answer {
        Box::pin(async move {
            let refused = |what: String| {
                let said: Result<(), String> = Err(what);
                postcard::to_allocvec(&said).unwrap_or_default()
            };
            match body.split_first() {
                Some((&RAFT, rpc)) => {
                    let Some(raft) = self.raft() else {
                        return refused("this node is in no cluster yet".to_owned());
                    };
                    match postcard::from_bytes(rpc) {
                        // What ended says so in the log each time it is asked.
                        Ok(_) if self.log.failed().is_some() => {
                            refused("the disk of this node failed".to_owned())
                        }
                        Ok(rpc) => answer(&raft, &self.incoming, rpc).await,
                        Err(error) => refused(error.to_string()),
                    }
                }
                Some((&NODE, request)) => {
                    let reply = match postcard::from_bytes(request) {
                        Ok(request) => self.serve(request).await,
                        Err(error) => Reply::Refused(format!(
                            "a request of node {:?} cannot be read: {error}",
                            from.node
                        )),
                    };
                    postcard::to_allocvec(&reply).unwrap_or_default()
                }
                // Whoever has the cookie of the cluster may know what this node tells of itself.
                Some((&HOST, question)) => {
                    let answer = self.host.get().and_then(|host| host(question));
                    let told = answer.ok_or_else(|| "this node does not know that".to_owned());
                    postcard::to_allocvec(&told).unwrap_or_default()
                }
                _ => refused("an empty request".to_owned()),
            }
        })
    }

    fn received(&self, from: &Hello, kind: u8, body: Bytes, answers: &Answers) -> bool {
        if from.number == 0 || self.phase() == Phase::Left {
            return true;
        }
        let Some(broker) = self.broker() else {
            return true;
        };
        match kind {
            kind::PROPOSE => match postcard::from_bytes::<Proposal>(&body) {
                Ok(proposal) => {
                    self.take_proposal(proposal);
                    true
                }
                Err(_) => false,
            },
            kind::ROUTES => self.routes.received(&broker, from.number, &body, answers),
            kind::FORWARD | kind::FORWARD_QOS0 => {
                let incarnation = self.member().flight.lock().incarnation;
                let way = (from.number, incarnation);
                self.forwards.received(&broker, way, kind, &body, answers)
            }
            kind::GATEWAY => {
                if let Some(gateways) = self.gateways.get() {
                    gateways(from.number, body);
                }
                true
            }
            kind::APPLIED => match body.first_chunk::<8>() {
                Some(index) => {
                    let index = u64::from_le_bytes(*index);
                    self.member().note_other(from.number, index);
                    true
                }
                None => false,
            },
            _ => false,
        }
    }
}
