//! How the nodes of a cluster find each other, from the configuration.

#[cfg(feature = "http")]
mod asked;

use std::sync::Arc;

use nightjar_cluster::{Discovery, Dns, DnsRecord, Mcast};

use crate::config::model::{self, Config};

/// What `cluster.discovery` asks for beside the seeds.
pub fn of(config: &Config) -> Option<Arc<dyn Discovery>> {
    let cluster = &config.cluster;
    let port = cluster.bind.get().port();
    match cluster.discovery {
        model::Discovery::Manual | model::Discovery::Static => None,
        model::Discovery::Dns => Some(Arc::new(Dns {
            name: cluster.dns.name.clone()?,
            record: match cluster.dns.record {
                model::DnsRecord::A => DnsRecord::Address(port),
                model::DnsRecord::Srv => DnsRecord::Service,
            },
            servers: cluster.dns.servers.clone(),
        })),
        model::Discovery::Mcast => {
            let mcast = &cluster.mcast;
            let secret = match (&cluster.cookie, &cluster.tls.ca_file) {
                (Some(cookie), _) => cookie.expose().as_bytes().to_vec(),
                // It is no secret; it keeps clusters of one network apart. Who answers proves itself by TLS.
                (None, Some(path)) => std::fs::read(path).unwrap_or_default(),
                (None, None) => Vec::new(),
            };
            let interface = mcast.interface.clone();
            let (name, group, ttl) = (&cluster.name, mcast.group, mcast.ttl);
            Some(Arc::new(Mcast::new(name, group, ttl, interface, &secret)))
        }
        #[cfg(feature = "http")]
        model::Discovery::Etcd => Some(asked::etcd(config)),
        #[cfg(feature = "http")]
        model::Discovery::K8s => Some(asked::kubernetes(config, port)),
        // The configuration was refused.
        #[cfg(not(feature = "http"))]
        model::Discovery::Etcd | model::Discovery::K8s => None,
    }
}

/// Towards what this node finds out its own address.
pub fn towards(config: &Config) -> Option<String> {
    let cluster = &config.cluster;
    let of_url = |url: &str| {
        let (scheme, rest) = url.split_once("://")?;
        let authority = rest.split(['/', '?', '#']).next()?;
        let port = if scheme == "https" { 443 } else { 80 };
        let has_port = authority
            .rsplit_once(':')
            .is_some_and(|(_, port)| port.parse::<u16>().is_ok());
        Some(if has_port {
            authority.to_owned()
        } else {
            format!("{authority}:{port}")
        })
    };
    match cluster.discovery {
        model::Discovery::Manual | model::Discovery::Static => None,
        model::Discovery::Dns => {
            let name = cluster.dns.name.as_ref()?;
            match cluster.dns.servers.first() {
                Some(server) => Some(server.to_string()),
                None => Some(format!("{name}:{}", cluster.bind.get().port())),
            }
        }
        model::Discovery::Mcast => Some(cluster.mcast.group.to_string()),
        model::Discovery::Etcd => of_url(cluster.etcd.servers.first()?.expose()),
        model::Discovery::K8s => of_url(cluster.k8s.api.expose()),
    }
}
