//! By etcd, through the JSON gateway of its version 3: each node keeps a key with its address that outlives it by `ttl`.

use std::path::PathBuf;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use parking_lot::Mutex;
use serde_json::{Value, json};

use super::{MOST, ask};

/// `[cluster.etcd]`.
#[derive(Clone)]
pub struct EtcdSettings {
    /// `servers`: asked in turn until one answers.
    pub servers: Vec<String>,
    /// `prefix` of the keys.
    pub prefix: String,
    /// `cluster.name`: nodes of other clusters are below another key.
    pub cluster: String,
    /// `node.name`.
    pub node: String,
    /// `username` and `password`, where etcd asks for them.
    pub user: Option<(String, String)>,
    /// `ttl`: how long a key outlives its node.
    pub ttl: Duration,
    /// `ca_file`: who signs the servers' certificates; the system's authorities if unset.
    pub ca_file: Option<PathBuf>,
}

impl std::fmt::Debug for EtcdSettings {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("EtcdSettings")
            .field("servers", &self.servers.len())
            .field("prefix", &self.prefix)
            .finish_non_exhaustive()
    }
}

/// A node's place in etcd.
#[derive(Debug)]
pub struct Etcd {
    settings: EtcdSettings,
    /// The lease of this node's key, and the address that stands there.
    lease: Mutex<Option<(String, String)>>,
}

impl Etcd {
    /// Nothing is asked yet.
    #[must_use]
    pub fn new(settings: EtcdSettings) -> Self {
        Self {
            settings,
            lease: Mutex::new(None),
        }
    }

    /// Keeps this node's key and reads those of all. Addresses are `host:port`.
    ///
    /// # Errors
    /// In words: which server, and what it said.
    pub async fn find(&self, own: &str) -> Result<Vec<String>, String> {
        let mut last = "no server is named".to_owned();
        for server in &self.settings.servers {
            match self.find_at(server, own).await {
                Ok(found) => return Ok(found),
                Err(error) => last = error,
            }
        }
        Err(format!("etcd: {last}"))
    }

    /// Takes this node's key back.
    pub async fn stop(&self) {
        let lease = self.lease.lock().take();
        let (Some((lease, _)), Some(server)) = (lease, self.settings.servers.first()) else {
            return;
        };
        let revoked = async {
            let token = self.token(server).await?;
            let body = json!({ "ID": lease });
            self.call(server, "/v3/lease/revoke", token.as_deref(), body)
                .await
        };
        if let Err(error) = revoked.await {
            tracing::debug!(%error, "this node's key in etcd ends by itself");
        }
    }

    fn directory(&self) -> String {
        let prefix = self.settings.prefix.trim_end_matches('/');
        format!("{prefix}/{}/nodes/", self.settings.cluster)
    }

    async fn call(
        &self,
        server: &str,
        path: &str,
        token: Option<&str>,
        body: Value,
    ) -> Result<Value, String> {
        let url = format!("{}{path}", server.trim_end_matches('/'));
        ask(&url, token, self.settings.ca_file.clone(), Some(body)).await
    }

    async fn token(&self, server: &str) -> Result<Option<String>, String> {
        let Some((name, password)) = &self.settings.user else {
            return Ok(None);
        };
        let body = json!({ "name": name, "password": password });
        let answer = self
            .call(server, "/v3/auth/authenticate", None, body)
            .await?;
        let token = answer["token"].as_str();
        token
            .map(|token| Some(token.to_owned()))
            .ok_or_else(|| "expected a token, got none".to_owned())
    }

    async fn find_at(&self, server: &str, own: &str) -> Result<Vec<String>, String> {
        let token = self.token(server).await?;
        let token = token.as_deref();
        self.keep(server, token, own).await?;
        let directory = self.directory();
        let mut end = directory.clone().into_bytes();
        // All keys that begin so: up to the next text of the same length.
        if let Some(last) = end.last_mut() {
            *last += 1;
        }
        let body = json!({
            "key": STANDARD.encode(&directory),
            "range_end": STANDARD.encode(end),
            "limit": MOST,
        });
        let answer = self.call(server, "/v3/kv/range", token, body).await?;
        let found = answer["kvs"].as_array().into_iter().flatten();
        Ok(found
            .filter_map(|kv| STANDARD.decode(kv["value"].as_str()?).ok())
            .filter_map(|value| String::from_utf8(value).ok())
            .filter(|address| is_address(address))
            .take(MOST)
            .collect())
    }

    /// Sees to it that this node's key stands there and goes on.
    async fn keep(&self, server: &str, token: Option<&str>, own: &str) -> Result<(), String> {
        let have = self.lease.lock().clone();
        if let Some((lease, address)) = have
            && address == own
        {
            let body = json!({ "ID": lease });
            let answer = self
                .call(server, "/v3/lease/keepalive", token, body)
                .await?;
            // Without a TTL the lease is over.
            if number(&answer["result"]["TTL"]) > 0 {
                return Ok(());
            }
        }
        let ttl = self.settings.ttl.as_secs().max(5);
        let granted = self
            .call(server, "/v3/lease/grant", token, json!({ "TTL": ttl }))
            .await?;
        let lease = granted["ID"]
            .as_str()
            .ok_or_else(|| "expected a lease, got none".to_owned())?;
        let key = format!("{}{}", self.directory(), self.settings.node);
        let body = json!({
            "key": STANDARD.encode(key),
            "value": STANDARD.encode(own),
            "lease": lease,
        });
        self.call(server, "/v3/kv/put", token, body).await?;
        *self.lease.lock() = Some((lease.to_owned(), own.to_owned()));
        Ok(())
    }
}

/// The gateway writes large numbers as text.
fn number(value: &Value) -> i64 {
    value
        .as_i64()
        .or_else(|| value.as_str()?.parse().ok())
        .unwrap_or(0)
}

fn is_address(text: &str) -> bool {
    text.rsplit_once(':')
        .is_some_and(|(host, port)| !host.is_empty() && port.parse::<u16>().is_ok())
}
