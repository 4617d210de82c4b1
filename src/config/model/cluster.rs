//! `[cluster]`: links to other nodes.

use std::net::SocketAddr;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::config::units::{BindAddr, Duration, HttpUrl, OffOr, Secret};

/// `[cluster]`.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Cluster {
    /// Name of the cluster.
    pub name: String,
    /// TCP address of links.
    pub bind: BindAddr,
    /// Host and port told to others.
    pub advertise: Option<String>,
    /// Where clients reach this node.
    pub server_reference: Option<String>,
    /// UDP address of gossip.
    pub gossip_bind: BindAddr,
    /// How nodes find each other.
    pub discovery: Discovery,
    /// Nodes to ask first, host and port.
    pub seeds: Vec<String>,
    /// Nodes needed to form a new cluster.
    pub expect: Option<u16>,
    /// Shared secret.
    pub cookie: Option<Secret>,
    /// When a node that is down is replaced.
    pub autoclean: OffOr<Duration>,
    /// Groups of the durable state.
    pub shards: u16,
    /// Copies of a shard.
    pub replicas: u8,
    /// Mutual TLS.
    pub tls: ClusterTls,
    /// `discovery = "dns"`.
    pub dns: ClusterDns,
    /// `discovery = "etcd"`.
    pub etcd: ClusterEtcd,
    /// `discovery = "k8s"`.
    pub k8s: ClusterK8s,
    /// `discovery = "mcast"`.
    pub mcast: ClusterMcast,
}

impl Cluster {
    /// True if links and gossip open: a cookie or `[cluster.tls]` is there to protect them.
    pub const fn opens_links(&self) -> bool {
        self.cookie.is_some() || self.tls.cert_file.is_some()
    }
}

/// How nodes find each other.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Discovery {
    /// By command.
    Manual,
    /// By `seeds`.
    Static,
    /// By multicast.
    Mcast,
    /// By DNS.
    Dns,
    /// By etcd.
    Etcd,
    /// By Kubernetes.
    K8s,
}

/// `[cluster.tls]`.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ClusterTls {
    /// Certificate of this node.
    pub cert_file: Option<PathBuf>,
    /// Its key.
    pub key_file: Option<PathBuf>,
    /// Signers of nodes.
    pub ca_file: Option<PathBuf>,
}

/// `[cluster.dns]`.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ClusterDns {
    /// Name asked.
    pub name: Option<String>,
    /// Kind of record.
    pub record: DnsRecord,
    /// Who is asked; empty: the system's servers.
    pub servers: Vec<SocketAddr>,
}

/// Kind of DNS record.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum DnsRecord {
    /// Addresses.
    A,
    /// Services with ports.
    Srv,
}

/// `[cluster.etcd]`.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ClusterEtcd {
    /// Servers.
    pub servers: Vec<HttpUrl>,
    /// Prefix of keys.
    pub prefix: String,
    /// User.
    pub username: Option<String>,
    /// Password.
    pub password: Option<Secret>,
    /// Lifetime of a key.
    pub ttl: Duration,
    /// Signers of the servers.
    pub ca_file: Option<PathBuf>,
}

/// `[cluster.k8s]`.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ClusterK8s {
    /// Address of the API.
    pub api: HttpUrl,
    /// Headless service.
    pub service: String,
    /// Namespace; unset: the pod's.
    pub namespace: Option<String>,
    /// Token.
    pub token_file: PathBuf,
    /// Signers of the API.
    pub ca_file: PathBuf,
}

/// `[cluster.mcast]`.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ClusterMcast {
    /// Group.
    pub group: SocketAddr,
    /// Hops.
    pub ttl: u8,
    /// Interface.
    pub interface: Option<String>,
}
