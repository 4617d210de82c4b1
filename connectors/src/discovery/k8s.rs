//! By Kubernetes: the addresses behind a headless service, ready or not, because pods become ready when they have found
//! each other.

use std::collections::BTreeSet;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;

use serde_json::Value;

use super::{MOST, ask};

/// The port of the service that is that of links.
const PORT: &str = "link";

/// `[cluster.k8s]`.
#[derive(Debug, Clone)]
pub struct KubernetesSettings {
    /// `api`: address of the API.
    pub api: String,
    /// `service`: the headless service.
    pub service: String,
    /// `namespace`; unset: what stands in the file `namespace` beside the token.
    pub namespace: Option<String>,
    /// `token_file`: the token of the service account.
    pub token_file: PathBuf,
    /// `ca_file`: who signs the API's certificate.
    pub ca_file: PathBuf,
    /// The port of links where the service has none called `link`.
    pub port: u16,
}

/// Asks the API of Kubernetes.
#[derive(Debug)]
pub struct Kubernetes(KubernetesSettings);

impl Kubernetes {
    /// Nothing is asked yet.
    #[must_use]
    pub const fn new(settings: KubernetesSettings) -> Self {
        Self(settings)
    }

    /// Addresses of the pods, as `host:port`.
    ///
    /// # Errors
    /// In words: a file that cannot be read, or what the API said.
    pub async fn find(&self) -> Result<Vec<String>, String> {
        let settings = &self.0;
        let token = read(&settings.token_file)?;
        let namespace = match &settings.namespace {
            Some(namespace) => namespace.clone(),
            None => read(&settings.token_file.with_file_name("namespace"))?,
        };
        let url = format!(
            "{}/api/v1/namespaces/{namespace}/endpoints/{}",
            settings.api.trim_end_matches('/'),
            settings.service
        );
        let bearer = format!("Bearer {token}");
        let ca_file = Some(settings.ca_file.clone());
        let answer = ask(&url, Some(&bearer), ca_file, None)
            .await
            .map_err(|error| format!("kubernetes: {error}"))?;
        Ok(addresses(&answer, settings.port))
    }
}

fn read(path: &std::path::Path) -> Result<String, String> {
    // Some lines in memory of the pod.
    match std::fs::read_to_string(path) {
        Ok(text) => Ok(text.trim().to_owned()),
        Err(error) => Err(format!("kubernetes: {}: {error}", path.display())),
    }
}

fn addresses(answer: &Value, port: u16) -> Vec<String> {
    let list = |value: &Value| value.as_array().cloned().unwrap_or_default();
    let mut all = BTreeSet::new();
    for subset in list(&answer["subsets"]) {
        let named = list(&subset["ports"])
            .into_iter()
            .find(|it| it["name"] == PORT)
            .and_then(|it| u16::try_from(it["port"].as_u64()?).ok());
        for kind in ["addresses", "notReadyAddresses"] {
            all.extend(list(&subset[kind]).into_iter().filter_map(|it| {
                let ip: IpAddr = it["ip"].as_str()?.parse().ok()?;
                Some(SocketAddr::new(ip, named.unwrap_or(port)).to_string())
            }));
        }
    }
    all.into_iter().take(MOST).collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn pods_are_found_before_they_are_ready_and_nonsense_is_passed_over() {
        let answer = json!({ "subsets": [
            { "addresses": [{ "ip": "10.0.0.1" }, { "ip": "none" }, {}],
              "notReadyAddresses": [{ "ip": "fd00::2" }],
              "ports": [{ "name": "mqtt", "port": 1883 }, { "name": "link", "port": 5370 }] },
            { "addresses": [{ "ip": "10.0.0.3" }], "ports": [{ "name": "link", "port": 70000 }] },
            {},
        ]});
        let found = addresses(&answer, 5369);
        assert_eq!(found, ["10.0.0.1:5370", "10.0.0.3:5369", "[fd00::2]:5370"]);
        for nonsense in [json!(null), json!([]), json!({ "subsets": 3 })] {
            assert!(addresses(&nonsense, 1).is_empty());
        }
    }
}
