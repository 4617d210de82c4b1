//! Consensus over the links: its messages, asked and answered.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use openraft::OptionalSend;
use openraft::errors::{NetworkError, RPCError, ReplicationClosed, StreamingError, Unreachable};
use openraft::network::{RPCOption, RaftNetworkFactory, RaftNetworkV2};
use openraft::raft::{
    AppendEntriesRequest, AppendEntriesResponse, SnapshotResponse, TransferLeaderRequest,
    TransferLeaderResponse, VoteRequest, VoteResponse,
};
use parking_lot::Mutex;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::{Peer, Raft, Snapshot, SnapshotMeta, Types, Vote};
use crate::links::{Lane, LinkError, Links};

/// Size of a piece of a snapshot on its way.
const PIECE: usize = 1 << 20;
/// Patience for entries.
const APPEND: Duration = Duration::from_secs(3);
/// A snapshot on its way is given up if nothing comes for so long.
const PATIENCE: Duration = Duration::from_secs(10);

/// A message of consensus.
#[derive(Serialize, Deserialize)]
pub(crate) enum Rpc {
    Append(AppendEntriesRequest<Types>),
    Vote(VoteRequest<Types>),
    PreVote(VoteRequest<Types>),
    Transfer(TransferLeaderRequest<Types>),
    Snapshot(Piece),
}

impl Rpc {
    /// How urgent it is. Heartbeats and votes keep a leader, and leases with it; entries may be many.
    fn lane(&self) -> Lane {
        match self {
            Self::Append(request) if !request.entries.is_empty() => Lane::Log,
            Self::Append(_) | Self::Vote(_) | Self::PreVote(_) | Self::Transfer(_) => Lane::Control,
            Self::Snapshot(_) => Lane::Bulk,
        }
    }
}

/// A piece of a snapshot.
#[derive(Serialize, Deserialize)]
pub(crate) struct Piece {
    vote: Vote,
    meta: SnapshotMeta,
    offset: u64,
    last: bool,
    #[serde(with = "serde_bytes")]
    bytes: Vec<u8>,
}

/// An answer, or in words why there is none.
type Said<T> = Result<T, String>;

#[derive(Serialize, Deserialize)]
enum PieceAnswer {
    More,
    Done(SnapshotResponse<Types>),
}

/// Snapshots that are coming in, by what they are of.
#[derive(Default)]
pub(crate) struct Incoming(Mutex<Option<(SnapshotMeta, Vec<u8>)>>);

/// Answers a message of consensus.
pub(crate) async fn answer(raft: &Raft, incoming: &Incoming, rpc: Rpc) -> Vec<u8> {
    fn said<T: Serialize, E: std::fmt::Display>(result: Result<T, E>) -> Vec<u8> {
        let said: Said<T> = result.map_err(|error| error.to_string());
        postcard::to_allocvec(&said).unwrap_or_default()
    }
    match rpc {
        Rpc::Append(request) => said(raft.append_entries(request).await),
        Rpc::Vote(request) => said(raft.vote(request).await),
        Rpc::PreVote(request) => said(raft.pre_vote(request).await),
        Rpc::Transfer(request) => said(raft.handle_transfer_leader(request).await),
        Rpc::Snapshot(piece) => said(take_piece(raft, incoming, piece).await),
    }
}

async fn take_piece(raft: &Raft, incoming: &Incoming, piece: Piece) -> Said<PieceAnswer> {
    let data = {
        let mut slot = incoming.0.lock();
        if piece.offset == 0 {
            *slot = Some((piece.meta.clone(), Vec::new()));
        }
        let Some((meta, data)) = slot.as_mut() else {
            return Err("no snapshot is coming in".to_owned());
        };
        if *meta != piece.meta || data.len() as u64 != piece.offset {
            return Err("a piece of another snapshot, or out of turn".to_owned());
        }
        data.extend_from_slice(&piece.bytes);
        if !piece.last {
            return Ok(PieceAnswer::More);
        }
        slot.take().map(|(_, data)| data).unwrap_or_default()
    };
    let snapshot = Snapshot {
        meta: piece.meta,
        snapshot: Bytes::from(data),
    };
    raft.install_full_snapshot(piece.vote, snapshot)
        .await
        .map(PieceAnswer::Done)
        .map_err(|error| error.to_string())
}

/// How this node reaches the others.
#[derive(Clone)]
pub(crate) struct Network {
    links: Arc<Links>,
}

impl Network {
    pub fn new(links: Arc<Links>) -> Self {
        Self { links }
    }
}

/// How it reaches one of them.
pub(crate) struct Way {
    links: Arc<Links>,
    target: u64,
}

impl RaftNetworkFactory<Types> for Network {
    type Network = Way;

    async fn new_client(&mut self, target: u64, node: &Peer) -> Way {
        self.links.dial(&node.address);
        Way {
            links: self.links.clone(),
            target,
        }
    }
}

impl Way {
    async fn ask<T: DeserializeOwned>(
        &self,
        rpc: &Rpc,
        patience: Duration,
    ) -> Result<T, RPCError<Types>> {
        let broken = |what: String| RPCError::Network(NetworkError::from_string(what));
        let link = self
            .links
            .to(self.target)
            .ok_or_else(|| RPCError::Unreachable(Unreachable::new(&LinkError::Down)))?;
        let body = crate::node::raft_request(rpc).map_err(broken)?;
        let answer =
            link.request(rpc.lane(), &body, patience)
                .await
                .map_err(|error| match error {
                    LinkError::Down => RPCError::Unreachable(Unreachable::new(&error)),
                    LinkError::Timeout => broken(error.to_string()),
                })?;
        let said: Said<T> =
            postcard::from_bytes(&answer).map_err(|error| broken(error.to_string()))?;
        said.map_err(|what| RPCError::Unreachable(Unreachable::from_string(what)))
    }
}

impl RaftNetworkV2<Types> for Way {
    type SnapshotData = Bytes;

    async fn append_entries(
        &mut self,
        rpc: AppendEntriesRequest<Types>,
        _option: RPCOption,
    ) -> Result<AppendEntriesResponse<Types>, RPCError<Types>> {
        // Longer than a sync takes on a busy disk: sending again what is on its way helps nobody.
        self.ask(&Rpc::Append(rpc), APPEND).await
    }

    async fn vote(
        &mut self,
        rpc: VoteRequest<Types>,
        option: RPCOption,
    ) -> Result<VoteResponse<Types>, RPCError<Types>> {
        self.ask(&Rpc::Vote(rpc), option.hard_ttl()).await
    }

    async fn pre_vote(
        &mut self,
        rpc: VoteRequest<Types>,
        option: RPCOption,
    ) -> Result<VoteResponse<Types>, RPCError<Types>> {
        self.ask(&Rpc::PreVote(rpc), option.hard_ttl()).await
    }

    async fn full_snapshot(
        &mut self,
        vote: Vote,
        snapshot: Snapshot,
        cancel: impl Future<Output = ReplicationClosed> + OptionalSend + 'static,
        _option: RPCOption,
    ) -> Result<SnapshotResponse<Types>, StreamingError<Types>> {
        let send = async {
            let data = snapshot.snapshot;
            let mut offset = 0;
            loop {
                let end = (offset + PIECE).min(data.len());
                let last = end == data.len();
                let piece = Rpc::Snapshot(Piece {
                    vote,
                    meta: snapshot.meta.clone(),
                    offset: offset as u64,
                    last,
                    bytes: data[offset..end].to_vec(),
                });
                // The last piece is answered when the other node has it on its disk.
                let patience = if last { PATIENCE * 6 } else { PATIENCE };
                match self.ask(&piece, patience).await? {
                    PieceAnswer::Done(response) => return Ok(response),
                    PieceAnswer::More if last => {
                        let what = "the snapshot was not taken";
                        return Err(RPCError::Network(NetworkError::from_string(what)));
                    }
                    PieceAnswer::More => offset = end,
                }
            }
        };
        tokio::select! {
            sent = send => sent.map_err(|error: RPCError<Types>| match error {
                RPCError::Timeout(error) => StreamingError::Timeout(error),
                RPCError::Unreachable(error) => StreamingError::Unreachable(error),
                RPCError::Network(error) => StreamingError::Network(error),
                RPCError::RemoteError(error) => match error.source {},
            }),
            closed = cancel => Err(StreamingError::Closed(closed)),
        }
    }

    async fn transfer_leader(
        &mut self,
        rpc: TransferLeaderRequest<Types>,
        option: RPCOption,
    ) -> Result<TransferLeaderResponse<Types>, RPCError<Types>> {
        self.ask(&Rpc::Transfer(rpc), option.hard_ttl()).await
    }
}
