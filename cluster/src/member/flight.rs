//! Proposals of this node on their way: sent again to each new leader until they are applied here.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use nightjar_mqtt::ReasonCode;

use super::parts;
use crate::inner::Core;
use crate::log::HEAD;
use crate::pending::{GroupPending, Submission};
use crate::raft::Proposal;

/// Proposals on their way at once; what comes meanwhile gathers into the next one.
const WINDOW: usize = 8;

struct Item {
    proposal: Proposal,
    submissions: Vec<(u16, Vec<Submission>)>,
}

/// Proposals of this incarnation that are not applied yet.
#[derive(Default)]
pub(crate) struct Flight {
    /// 0 while this node is not up.
    pub incarnation: u64,
    last: u64,
    items: VecDeque<Item>,
}

impl Flight {
    pub fn begin(&mut self, incarnation: u64) {
        self.incarnation = incarnation;
        self.last = 0;
    }

    /// Lets go of everything; what waits for it.
    pub fn clear(&mut self) -> Vec<(u16, Vec<Submission>)> {
        self.incarnation = 0;
        self.items
            .drain(..)
            .flat_map(|item| item.submissions)
            .collect()
    }

    fn is_full(&self) -> bool {
        self.incarnation == 0 || self.items.len() >= WINDOW
    }

    /// The first sequence that is not applied; `None` if all are.
    pub fn first(&self) -> Option<u64> {
        self.items.front().map(|item| item.proposal.sequence)
    }

    /// Proposals behind `sequence`.
    pub fn behind(&self, sequence: u64) -> Vec<Proposal> {
        let items = self.items.iter().map(|item| &item.proposal);
        items
            .filter(|proposal| proposal.sequence > sequence)
            .cloned()
            .collect()
    }

    /// Takes what waits for a proposal that is applied now, if it is of this life.
    pub fn take(&mut self, proposal: &Proposal) -> Option<Vec<(u16, Vec<Submission>)>> {
        let ours =
            self.incarnation == proposal.incarnation && self.first() == Some(proposal.sequence);
        if !ours {
            return None;
        }
        self.items.pop_front().map(|item| item.submissions)
    }
}

/// The thread that makes proposals of what connections submit.
pub(crate) fn run(core: &Core) {
    let Some(member) = &core.member else { return };
    loop {
        let round = {
            let mut pending = core.pending.lock();
            pending.launching = false;
            loop {
                if !pending.is_empty() && !member.flight.lock().is_full() {
                    break;
                }
                if pending.stop {
                    let busy = !pending.is_empty() || member.flight.lock().first().is_some();
                    if pending.fenced || !busy {
                        return;
                    }
                }
                core.wake.wait(&mut pending);
            }
            pending.launching = true;
            pending.take()
        };
        launch(core, round);
    }
}

/// As [`run`] where there are no threads.
pub(crate) async fn run_as_task(core: Arc<Core>) {
    let Some(member) = &core.member else { return };
    loop {
        tokio::time::sleep(Duration::from_millis(1)).await;
        let round = {
            let mut pending = core.pending.lock();
            if pending.is_empty() || member.flight.lock().is_full() {
                if pending.stop {
                    return;
                }
                continue;
            }
            pending.take()
        };
        launch(&core, round);
    }
}

fn launch(core: &Core, round: Vec<(u16, GroupPending)>) {
    let Some(member) = &core.member else { return };
    let mut body = Vec::new();
    let mut submissions = Vec::with_capacity(round.len());
    for (group, pending) in round {
        // The front of the bytes is for a log of one node.
        if let Some(bytes) = pending.bytes.get(HEAD..)
            && !bytes.is_empty()
        {
            parts::put(&mut body, group, bytes);
        }
        submissions.push((group, pending.submissions));
    }
    let origin = member.number();
    let refused = {
        let mut flight = member.flight.lock();
        if flight.incarnation == 0 {
            Some(submissions)
        } else {
            flight.last += 1;
            let proposal = Proposal {
                origin,
                incarnation: flight.incarnation,
                sequence: flight.last,
                body: Bytes::from(body),
            };
            flight.items.push_back(Item {
                proposal,
                submissions,
            });
            None
        }
    };
    match refused {
        None => member.ready.notify_one(),
        Some(submissions) => {
            for (group, submissions) in submissions {
                for submission in submissions {
                    core.refused(group, &submission);
                    submission.refuse(ReasonCode::ServerUnavailable);
                }
            }
        }
    }
}
