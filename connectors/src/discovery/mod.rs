//! Finding the nodes of a cluster by asking servers over HTTP: etcd, Kubernetes. What comes back are addresses to dial;
//! who answers there proves itself by the link.

mod etcd;
mod k8s;

pub use etcd::{Etcd, EtcdSettings};
pub use k8s::{Kubernetes, KubernetesSettings};

use std::path::PathBuf;
use std::time::Duration;

use serde_json::Value;

use crate::http::{HttpClient, HttpSettings};
use crate::tls::TlsSettings;

/// How long a server may take.
const PATIENCE: Duration = Duration::from_secs(3);
/// Nodes that are taken from one answer.
const MOST: usize = 1000;

/// Asks once: what the server says, or in words why it says nothing. Certificates and tokens are read anew each time,
/// because their files change while the node runs.
async fn ask(
    url: &str,
    token: Option<&str>,
    ca_file: Option<PathBuf>,
    body: Option<Value>,
) -> Result<Value, String> {
    let shown = url.split_once("://").map_or(url, |(_, rest)| rest);
    let mut settings = HttpSettings::new(url);
    settings.timeout = PATIENCE;
    settings.pool = 1;
    settings.tls = TlsSettings {
        ca_file,
        ..TlsSettings::default()
    };
    let header = token.map(|token| ("Authorization".to_owned(), token.to_owned()));
    settings.headers.extend(header);
    let words = |error: &dyn std::fmt::Display| format!("{shown}: {error}");
    let client = HttpClient::new(&settings).map_err(|error| words(&error))?;
    let body = body.map(|body| body.to_string().into_bytes());
    let (status, answer) = client
        .fetch(&settings.url, body)
        .await
        .map_err(|error| words(&error))?;
    if !(200..300).contains(&status) {
        let said = String::from_utf8_lossy(&answer);
        let said: String = said.chars().filter(|c| !c.is_control()).take(200).collect();
        return Err(format!("{shown}: answers {status}: {said}"));
    }
    serde_json::from_slice(&answer).map_err(|error| words(&error))
}

#[cfg(test)]
mod tests;
