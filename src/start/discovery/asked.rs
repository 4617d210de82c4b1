//! What is asked over HTTP.

use std::pin::Pin;
use std::sync::Arc;

use nightjar_cluster::{Discovery, Finding};
use nightjar_connectors::discovery::{Etcd, EtcdSettings, Kubernetes, KubernetesSettings};

use crate::config::model::Config;

#[derive(Debug)]
struct ByEtcd(Etcd);

impl Discovery for ByEtcd {
    fn find<'a>(&'a self, own: &'a str) -> Finding<'a> {
        Box::pin(self.0.find(own))
    }

    fn stop(&self) -> Pin<Box<dyn Future<Output = ()> + Send + '_>> {
        Box::pin(self.0.stop())
    }
}

#[derive(Debug)]
struct ByKubernetes(Kubernetes);

impl Discovery for ByKubernetes {
    fn find<'a>(&'a self, _own: &'a str) -> Finding<'a> {
        Box::pin(self.0.find())
    }
}

/// `[cluster.etcd]`.
pub fn etcd(config: &Config) -> Arc<dyn Discovery> {
    let etcd = &config.cluster.etcd;
    let user = etcd.username.clone().map(|name| {
        let password = etcd.password.as_ref();
        let password = password.map_or_else(String::new, |it| it.expose().to_owned());
        (name, password)
    });
    Arc::new(ByEtcd(Etcd::new(EtcdSettings {
        servers: etcd
            .servers
            .iter()
            .map(|server| server.expose().to_owned())
            .collect(),
        prefix: etcd.prefix.clone(),
        cluster: config.cluster.name.clone(),
        node: config.node.name.to_string(),
        user,
        ttl: etcd.ttl.get(),
        ca_file: etcd.ca_file.clone(),
    })))
}

/// `[cluster.k8s]`.
pub fn kubernetes(config: &Config, port: u16) -> Arc<dyn Discovery> {
    let k8s = &config.cluster.k8s;
    Arc::new(ByKubernetes(Kubernetes::new(KubernetesSettings {
        api: k8s.api.expose().to_owned(),
        service: k8s.service.clone(),
        namespace: k8s.namespace.clone(),
        token_file: k8s.token_file.clone(),
        ca_file: k8s.ca_file.clone(),
        port,
    })))
}
