//! What strangers and sources may do, and how often.

use std::net::SocketAddr;

use nightjar_broker::Timestamp;
use nightjar_mqttsn::{GwInfo, Message};
use parking_lot::Mutex;

use super::bucket::Buckets;
use super::counters::Counted;
use super::gateway::{Gateway, Turn};
use super::path::Path;

impl Gateway {
    /// May this source begin another session now?
    pub(super) fn admits_session(&self, path: &Path, now: Timestamp) -> bool {
        self.take(
            &self.new_sessions,
            self.settings().new_sessions_per_source,
            path,
            now,
        )
    }

    pub(super) fn admits_reply(&self, path: &Path, now: Timestamp) -> bool {
        let rate = self.settings().replies_to_strangers_per_source;
        self.take(&self.replies, rate, path, now)
    }

    fn take(
        &self,
        buckets: &Mutex<Buckets>,
        rate: Option<f64>,
        path: &Path,
        now: Timestamp,
    ) -> bool {
        let Some(rate) = rate else { return true };
        let address = path.peer.ip();
        let port = self.settings().trusts(address).then_some(path.peer.port());
        buckets.lock().take(address, port, rate, now)
    }

    pub(super) fn admits_minus_one(&self, now: Timestamp) -> bool {
        self.settings().qos_minus_one
            && self
                .settings()
                .qos_minus_one_rate
                .is_none_or(|rate| self.minus_one.lock().take(rate, now))
    }

    /// Tells somebody who is not known that it is not connected, but not too often.
    pub(super) fn stranger(&self, now: Timestamp, turn: &mut Turn, path: &Path) {
        if self.admits_reply(path, now) {
            self.counters().count(Counted::StrangersAnswered);
            turn.out.push(path, Message::Disconnect { duration: None });
        } else {
            self.counters().count(Counted::StrangersLimited);
        }
    }

    /// SEARCHGW (section 6.1): GWINFO where it came from, or to the group it was sent to.
    pub(super) fn search(
        &self,
        now: Timestamp,
        turn: &mut Turn,
        from: Path,
        group: Option<SocketAddr>,
    ) {
        if !self.admits_reply(&from, now) {
            self.counters().count(Counted::StrangersLimited);
            return;
        }
        self.counters().count(Counted::Searches);
        let answer = Message::GwInfo(GwInfo {
            gw_id: self.settings().gateway_id,
            gw_add: &[],
        });
        let to = match group {
            Some(group) => Path {
                peer: group,
                local: None,
                ..from
            },
            None => from,
        };
        turn.out.push(&to, answer);
    }
}
