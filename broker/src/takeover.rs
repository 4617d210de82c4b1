//! Two devices with one client identifier push each other out for ever: named in the log once, not with each takeover.

use std::net::SocketAddr;
use std::sync::Arc;

use foldhash::fast::RandomState;
use hashbrown::HashMap;

use crate::sync::Mutex;
use crate::time::Timestamp;

/// Takeovers of one client identifier within [`WINDOW_SECS`] that make a loop.
const LOOP: u32 = 3;
/// Seconds without a takeover after which a client identifier is forgotten.
const WINDOW_SECS: u64 = 60;
/// Client identifiers watched at a time.
const WATCHED: usize = 1024;

#[derive(Debug)]
struct Watch {
    count: u32,
    last: Timestamp,
}

/// Recent takeovers.
#[derive(Debug, Default)]
pub struct Takeovers(Mutex<HashMap<Arc<str>, Watch, RandomState>>);

impl Takeovers {
    /// A takeover happened. True if it makes a loop that was not yet named.
    pub fn note(
        &self,
        client_id: &Arc<str>,
        old: SocketAddr,
        new: SocketAddr,
        now: Timestamp,
    ) -> bool {
        let mut watched = self.0.lock();
        if watched.len() >= WATCHED && !watched.contains_key(client_id) {
            watched.retain(|_, watch| now.since(watch.last) < WINDOW_SECS * 1000);
            if watched.len() >= WATCHED {
                return false;
            }
        }
        let watch = watched.entry(client_id.clone()).or_insert(Watch {
            count: 0,
            last: now,
        });
        if now.since(watch.last) >= WINDOW_SECS * 1000 {
            watch.count = 0;
        }
        watch.count = watch.count.saturating_add(1);
        watch.last = now;
        let named = watch.count == LOOP;
        if named {
            tracing::warn!(
                client_id = &**client_id,
                %old,
                %new,
                "two clients use one client identifier and push each other out: give each its own"
            );
        }
        named
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_loop_is_named_once_until_it_was_quiet_for_a_minute() {
        let takeovers = Takeovers::default();
        let id: Arc<str> = "device".into();
        let address: SocketAddr = ([127, 0, 0, 1], 1).into();
        let note = |seconds| takeovers.note(&id, address, address, Timestamp(seconds * 1000));
        let named: Vec<u64> = (0..20).filter(|&second| note(second)).collect();
        assert_eq!(named, [2]);
        assert!(!note(100) && !note(101) && note(102));
    }
}
