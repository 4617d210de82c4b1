//! By multicast: nodes of one network call each other.

use std::collections::HashMap;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::{Duration, Instant};

use nightjar_broker::Timestamp;
use parking_lot::Mutex;
use serde::{Deserialize, Serialize};
use socket2::{Domain, Protocol, Socket, Type};
use tokio::net::UdpSocket;

use super::{Discovery, Finding};
use crate::links::{Cookie, same};

const MAGIC: &[u8; 5] = b"NJMC\x01";
/// The longest call, in octets.
const LONGEST: usize = 1024;
/// Octets of the code behind a call.
const CODE: usize = 32;
/// Who was not heard for so long is not dialed any more.
const FORGET: Duration = Duration::from_secs(60);
/// Addresses that are kept at once.
const MOST: usize = 1000;
/// A call that is older, by the clocks of both, is a repeat.
const OLD: u64 = 30_000;
/// Calls in the first time and later, at least so far apart.
const PAUSE: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(10));
/// So many calls come at the first pace.
const EAGER: u32 = 30;
/// Datagrams that are read in one round.
const ROUND: usize = 2000;

#[derive(Serialize, Deserialize)]
struct Call {
    cluster: String,
    address: String,
    time: u64,
}

/// Calls and listens in a multicast group.
pub struct Mcast {
    cluster: String,
    group: SocketAddr,
    ttl: u8,
    interface: Option<String>,
    key: Cookie,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    socket: Option<UdpSocket>,
    heard: HashMap<String, Instant>,
    called: Option<Instant>,
    calls: u32,
    refused: u64,
}

impl std::fmt::Debug for Mcast {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Mcast")
            .field("group", &self.group)
            .finish_non_exhaustive()
    }
}

impl Mcast {
    /// Calls in `group`, `ttl` networks far, through an interface (its name or one of its addresses). Only calls are
    /// heard that carry the code of `secret`: the cookie, or where nodes have TLS alone their authority, which keeps
    /// clusters apart.
    #[must_use]
    pub fn new(
        cluster: &str,
        group: SocketAddr,
        ttl: u8,
        interface: Option<String>,
        secret: &[u8],
    ) -> Self {
        Self {
            cluster: cluster.to_owned(),
            group,
            ttl,
            interface,
            key: Cookie::of_octets(secret),
            state: Mutex::default(),
        }
    }

    fn open(&self) -> io::Result<UdpSocket> {
        let domain = Domain::for_address(self.group);
        let socket = Socket::new(domain, Type::DGRAM, Some(Protocol::UDP))?;
        // Several nodes of one machine listen.
        socket.set_reuse_address(true)?;
        socket.set_nonblocking(true)?;
        socket.bind(&self.group.into())?;
        let interface = self.interface.as_deref();
        let address = interface.and_then(|name| name.parse::<IpAddr>().ok());
        if let (Some(name), None) = (interface, address) {
            socket.bind_device(Some(name.as_bytes()))?;
        }
        match self.group.ip() {
            IpAddr::V4(group) => {
                let through = match address {
                    Some(IpAddr::V4(through)) => through,
                    _ => Ipv4Addr::UNSPECIFIED,
                };
                socket.join_multicast_v4(&group, &through)?;
                socket.set_multicast_if_v4(&through)?;
                socket.set_multicast_ttl_v4(u32::from(self.ttl))?;
                socket.set_multicast_loop_v4(true)?;
            }
            IpAddr::V6(group) => {
                join_v6(&socket, &group)?;
                socket.set_multicast_hops_v6(u32::from(self.ttl))?;
                socket.set_multicast_loop_v6(true)?;
            }
        }
        UdpSocket::from_std(socket.into())
    }

    fn call(&self, own: &str, now: u64) -> Vec<u8> {
        let mut out = MAGIC.to_vec();
        let call = Call {
            cluster: self.cluster.clone(),
            address: own.to_owned(),
            time: now,
        };
        out.extend(postcard::to_allocvec(&call).expect("plain data is always encoded"));
        let code = self.key.sign(&out);
        out.extend_from_slice(&code);
        out
    }

    /// The address that a call tells; `None` if it is not one of this cluster, or a repeat.
    fn read(&self, bytes: &[u8], now: u64) -> Option<String> {
        let (signed, code) = bytes.split_at_checked(bytes.len().checked_sub(CODE)?)?;
        let body = signed.strip_prefix(MAGIC)?;
        if !same(&self.key.sign(signed), code) {
            return None;
        }
        let call: Call = postcard::from_bytes(body).ok()?;
        let fits = call.cluster == self.cluster && call.time.abs_diff(now) <= OLD;
        let (_, port) = call.address.rsplit_once(':')?;
        (fits && port.parse::<u16>().is_ok()).then_some(call.address)
    }

    fn round(&self, own: &str) -> Result<Vec<String>, String> {
        let words = |error: io::Error| format!("multicast group {}: {error}", self.group);
        let mut state = self.state.lock();
        let state = &mut *state;
        let now = Timestamp::now().0;
        if state.socket.is_none() {
            state.socket = Some(self.open().map_err(words)?);
        }
        let Some(socket) = &state.socket else {
            return Ok(Vec::new());
        };
        let mut buffer = [0; LONGEST];
        for _ in 0..ROUND {
            let Ok((len, from)) = socket.try_recv_from(&mut buffer) else {
                break;
            };
            let Some(address) = self.read(&buffer[..len], now) else {
                state.refused += 1;
                tracing::debug!(%from, refused = state.refused, "a call that is not one of this cluster");
                continue;
            };
            if state.heard.len() < MOST || state.heard.contains_key(&address) {
                state.heard.insert(address, Instant::now());
            }
        }
        state.heard.retain(|_, at| at.elapsed() < FORGET);
        let pause = if state.calls < EAGER {
            PAUSE.0
        } else {
            PAUSE.1
        };
        let mut sent = Ok(0);
        if state.called.is_none_or(|at| at.elapsed() >= pause) {
            state.called = Some(Instant::now());
            state.calls = state.calls.saturating_add(1);
            sent = socket.try_send_to(&self.call(own, now), self.group);
        }
        match sent {
            // The socket learns in a moment that it may send.
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                state.called = None;
                Ok(state.heard.keys().cloned().collect())
            }
            Err(error) => {
                state.socket = None;
                Err(words(error))
            }
            Ok(_) => Ok(state.heard.keys().cloned().collect()),
        }
    }
}

fn join_v6(socket: &Socket, group: &Ipv6Addr) -> io::Result<()> {
    // The interface is that of `bind_device`, or the system's choice.
    socket.join_multicast_v6(group, 0)
}

impl Discovery for Mcast {
    fn find<'a>(&'a self, own: &'a str) -> Finding<'a> {
        Box::pin(async move { self.round(own) })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn mcast(cluster: &str, secret: &[u8]) -> Mcast {
        // On loopback: nothing leaves this machine.
        let interface = Some("127.0.0.1".to_owned());
        let port = 20_000 + (std::process::id() % 20_000) as u16;
        let group = SocketAddr::new(Ipv4Addr::new(239, 192, 83, 70).into(), port);
        Mcast::new(cluster, group, 0, interface, secret)
    }

    #[tokio::test]
    async fn nodes_of_one_cluster_hear_each_other_and_no_others() {
        let (a, b) = (mcast("c", b"one"), mcast("c", b"one"));
        let (other, forged) = (mcast("d", b"one"), mcast("c", b"two"));
        let mut found = Vec::new();
        for _ in 0..300 {
            found = a.find("10.0.0.1:5369").await.unwrap();
            b.find("10.0.0.2:5369").await.unwrap();
            other.find("10.0.0.3:5369").await.unwrap();
            forged.find("10.0.0.4:5369").await.unwrap();
            if found.len() == 2 && a.state.lock().refused >= 2 {
                break;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        found.sort_unstable();
        assert_eq!(found, ["10.0.0.1:5369", "10.0.0.2:5369"]);
    }

    #[test]
    fn a_call_that_was_changed_or_is_old_is_not_heard() {
        let mcast = mcast("c", b"one");
        let call = mcast.call("10.0.0.1:5369", 1_000_000);
        assert_eq!(
            mcast.read(&call, 1_010_000).as_deref(),
            Some("10.0.0.1:5369")
        );
        assert_eq!(mcast.read(&call, 1_000_000 + OLD + 1), None);
        for at in 0..call.len() {
            let mut changed = call.clone();
            changed[at] ^= 1;
            assert_eq!(mcast.read(&changed, 1_000_000), None, "octet {at}");
        }
    }

    proptest! {
        #[test]
        fn no_octets_end_the_reader(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            prop_assert_eq!(mcast("c", b"one").read(&bytes, 0), None);
        }
    }
}
