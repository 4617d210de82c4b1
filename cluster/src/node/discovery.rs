//! Where other nodes may be.

use std::net::SocketAddr;
use std::sync::Arc;

use super::ClusterNode;

impl ClusterNode {
    /// What to tell others when links are accepted on all addresses: the one this machine uses towards a seed.
    pub(super) async fn guess_address(&self, bound: SocketAddr) -> String {
        if !bound.ip().is_unspecified() {
            return bound.to_string();
        }
        let towards = self.settings.seeds.iter().chain(&self.settings.towards);
        for seed in towards {
            let Ok(found) = tokio::net::lookup_host(seed).await else {
                continue;
            };
            for address in found.filter(|address| address.is_ipv4() == bound.is_ipv4()) {
                let any = SocketAddr::new(bound.ip(), 0);
                let Ok(socket) = tokio::net::UdpSocket::bind(any).await else {
                    continue;
                };
                // Nothing is sent: the system only picks the address it would send from.
                if socket.connect(address).await.is_ok()
                    && let Ok(own) = socket.local_addr()
                {
                    return SocketAddr::new(own.ip(), bound.port()).to_string();
                }
            }
        }
        tracing::warn!(
            "cluster.advertise is not set and cluster.bind names no address: other nodes are told 127.0.0.1, which they \
             reach only on this machine"
        );
        format!("127.0.0.1:{}", bound.port())
    }

    /// Asks whoever may know where other nodes are.
    pub(super) async fn discover(&self) {
        let Some(discovery) = &self.settings.discovery else {
            return;
        };
        let lost = match discovery.find(&self.own_address()).await {
            Ok(found) => {
                *self.found.lock() = found;
                None
            }
            Err(error) => Some(error),
        };
        let mut last = self.lost.lock();
        if *last != lost {
            match &lost {
                Some(error) => tracing::warn!(%error, "discovery finds no nodes"),
                None => tracing::info!("discovery finds nodes again"),
            }
            *last = lost;
        }
    }

    /// Sees to it that there is a link to every address that is known.
    pub(super) fn dial_all(self: &Arc<Self>) {
        let Some(links) = self.links() else { return };
        let mut wanted: Vec<String> = self.settings.seeds.clone();
        wanted.extend(self.added.lock().iter().cloned());
        wanted.extend(self.found.lock().iter().cloned());
        let here = self.member().number();
        {
            let nodes = self.member().nodes.read();
            let others = nodes.nodes.iter().filter(|(number, _)| **number != here);
            wanted.extend(others.map(|(_, node)| node.address.clone()));
        }
        // Who dialed this node is told by its address too, so that both sides can ask.
        wanted.extend(self.heard_of());
        let own = self.own_address();
        wanted.sort_unstable();
        wanted.dedup();
        links.retain(|address| wanted.iter().any(|have| have == address));
        for address in wanted.iter().filter(|address| **address != own) {
            links.dial(address);
        }
    }
}
