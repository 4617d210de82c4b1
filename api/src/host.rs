//! What the API asks of the node that is not the broker's: listeners, configuration, users, bans, the cluster.

use std::collections::BTreeMap;

use nightjar_broker::Timestamp;
use nightjar_broker::access::BoxFuture;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use utoipa::ToSchema;

/// A boxed answer of the node.
pub type HostFuture<'a, T> = BoxFuture<'a, Result<T, HostError>>;

/// Why the node did not do it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum HostError {
    /// It does not exist.
    #[error("{0}")]
    NotFound(String),
    /// What was asked for makes no sense.
    #[error("{0}")]
    Invalid(String),
    /// It exists already, or is not in the state for it.
    #[error("{0}")]
    Conflict(String),
    /// Not now, or not in this configuration.
    #[error("{0}")]
    Unavailable(String),
    /// It was tried and failed.
    #[error("{0}")]
    Failed(String),
}

/// Settings that a reload may change.
#[derive(Debug, Clone, Default)]
pub struct Settings {
    /// `/metrics` needs a token.
    pub metrics_auth: bool,
    /// `/metrics` has the `emqx_*` names too.
    pub emqx_names: bool,
    /// `api.admin_password`.
    pub admin_password: Option<String>,
}

/// The certificate of a TLS listener.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct TlsView {
    /// Subject, RFC 4514 form.
    pub subject: String,
    /// Issuer.
    pub issuer: String,
    /// Begin of its validity.
    pub not_before: Option<String>,
    /// End of its validity.
    pub not_after: Option<String>,
    /// Seconds until it ends; negative when it has.
    pub expires_in: Option<i64>,
    /// Names it is for.
    pub names: Vec<String>,
    /// Its file.
    pub file: String,
}

/// One listener.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct ListenerView {
    /// `tcp:default`.
    pub id: String,
    /// `tcp`, `tls`, `ws`, `wss`, `mqttsn`.
    #[serde(rename = "type")]
    pub kind: String,
    /// Addresses it is, or was last, bound to.
    pub bind: Vec<String>,
    /// Does it accept?
    pub running: bool,
    /// Is it enabled in the configuration?
    pub enable: bool,
    /// Connections there are, those in their handshake included.
    pub current_connections: u64,
    /// Most connections at a time.
    pub max_connections: Option<u64>,
    /// Connections in their handshake.
    pub handshakes: u64,
    /// All connections ever accepted from the system.
    pub accepted: u64,
    /// Times the system could not give a connection.
    pub accept_errors: u64,
    /// Health checks of balancers.
    pub health_checks: u64,
    /// Connections refused, by reason.
    pub refused: BTreeMap<String, u64>,
    /// Path of a WebSocket listener.
    pub path: Option<String>,
    /// `off`, `optional`, `required`.
    pub proxy_protocol: String,
    /// Certificate, if it ends TLS.
    pub tls: Option<TlsView>,
}

/// One key of the configuration.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct ConfigEntry {
    /// `mqtt.max_qos`.
    pub key: String,
    /// Its value; of a secret `"******"`.
    pub value: Value,
    /// `default`, `file`, `environment`, `set`.
    pub origin: String,
    /// File, line and column, or the variable.
    #[serde(rename = "where")]
    pub place: Option<String>,
    /// Its default.
    pub default: Option<String>,
    /// Is it a secret?
    pub secret: bool,
    /// `now`: a reload applies a change; `restart`: the next start does.
    pub apply: String,
    /// What its value looks like.
    #[serde(rename = "type")]
    pub kind: String,
    /// Its meaning.
    pub doc: String,
}

/// The configuration in force.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct ConfigView {
    /// The file that was read.
    pub file: Option<String>,
    /// All keys.
    pub data: Vec<ConfigEntry>,
}

/// Who judges clients: authenticators and authorization sources in their order.
#[derive(Debug, Clone, Default)]
pub struct Policies {
    /// Authenticators: name and kind.
    pub chain: Vec<(String, String)>,
    /// Authorization sources: name and kind.
    pub sources: Vec<(String, String)>,
    /// `auth.allow_anonymous`.
    pub allow_anonymous: Option<bool>,
}

/// A builtin user.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct UserView {
    /// User name or client identifier.
    pub user_id: String,
    /// `username` or `clientid`.
    pub kind: String,
    /// Skips authorization.
    pub is_superuser: bool,
}

/// A user to be made or changed.
#[derive(Debug, Clone)]
pub struct NewUser {
    /// User name or client identifier.
    pub user_id: String,
    /// `username` or `clientid`.
    pub kind: String,
    /// Password; `None` keeps the one there is.
    pub password: Option<String>,
    /// Skips authorization; `None` keeps what there is.
    pub is_superuser: Option<bool>,
}

/// By what somebody is banned.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum BanSubject {
    /// Client identifier.
    ClientId,
    /// User name.
    Username,
    /// Address or prefix.
    PeerHost,
}

impl BanSubject {
    /// `clientid`, `username`, `peerhost`.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::ClientId => "clientid",
            Self::Username => "username",
            Self::PeerHost => "peerhost",
        }
    }

    /// The subject of this name.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        [Self::ClientId, Self::Username, Self::PeerHost]
            .into_iter()
            .find(|subject| subject.as_str() == text)
    }
}

/// A ban.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ban {
    /// By what.
    pub subject: BanSubject,
    /// Whom.
    pub who: String,
    /// Who banned.
    pub by: String,
    /// Why.
    pub reason: String,
    /// Since when.
    pub at: Timestamp,
    /// Until when; `None` for ever.
    pub until: Option<Timestamp>,
}

/// A node of the cluster, as the list shows it.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct NodeSummary {
    /// Its name.
    pub node: String,
    /// `running` or `stopped`.
    pub status: String,
    /// Where its links listen; `None` without a cluster.
    pub address: Option<String>,
}

/// The node around the broker.
pub trait Host: Send + Sync {
    /// Version of the program.
    fn version(&self) -> &str;

    /// `sync`, `async` or `memory`.
    fn durability(&self) -> String;

    /// Why it can acknowledge nothing any more, in a few words that anybody may read.
    fn failure(&self) -> Option<&'static str>;

    /// Why it does not serve, in words for an operator, if it is known better than that it waits for its cluster.
    fn problem(&self) -> Option<String>;

    /// True once the node is stopping: it is then neither ready nor well.
    fn is_stopping(&self) -> bool;

    /// Settings in force.
    fn settings(&self) -> Settings;

    /// All listeners, by name.
    fn listeners(&self) -> Vec<ListenerView>;

    /// Starts a stopped listener.
    fn start_listener<'a>(&'a self, id: &'a str) -> HostFuture<'a, ()>;

    /// Stops a listener; its connections live on.
    fn stop_listener<'a>(&'a self, id: &'a str) -> HostFuture<'a, ()>;

    /// The configuration and where each value comes from.
    fn config(&self) -> ConfigView;

    /// Reads configuration, rules and certificates again; what was applied and what was not.
    fn reload(&self) -> HostFuture<'_, Value>;

    /// The log filter in force.
    fn log_level(&self) -> String;

    /// Sets the log filter: `info`, or `info,nightjar_gateway=debug`.
    ///
    /// # Errors
    /// [`HostError::Invalid`] if it is none.
    fn set_log_level(&self, level: &str) -> Result<(), HostError>;

    /// Who judges clients.
    fn policies(&self) -> Policies;

    /// Builtin users of a kind behind a name; [`HostError::Unavailable`] where none are kept.
    fn users<'a>(
        &'a self,
        kind: &'a str,
        after: Option<&'a str>,
        limit: usize,
    ) -> HostFuture<'a, Vec<UserView>>;

    /// Makes or changes a builtin user. `fresh`: it must not exist; else it must.
    fn put_user(&self, user: NewUser, fresh: bool) -> HostFuture<'_, ()>;

    /// Removes a builtin user.
    fn remove_user<'a>(&'a self, kind: &'a str, user_id: &'a str) -> HostFuture<'a, ()>;

    /// All bans.
    fn bans(&self) -> HostFuture<'_, Vec<Ban>>;

    /// Bans somebody; one who is connected is asked to leave.
    fn ban(&self, ban: Ban) -> HostFuture<'_, ()>;

    /// Lifts a ban.
    fn unban<'a>(&'a self, subject: BanSubject, who: &'a str) -> HostFuture<'a, ()>;

    /// The nodes of the cluster, this one first.
    fn nodes(&self) -> Vec<NodeSummary>;

    /// What the other nodes say of themselves now, as `GET /nodes` shows a node; those that do not answer are left out.
    fn others(&self) -> BoxFuture<'_, Vec<Value>>;

    /// What else is known of the cluster, as fields of `GET /cluster`.
    fn cluster(&self) -> serde_json::Map<String, Value>;

    /// Further metrics, in Prometheus' text format.
    fn extra_metrics(&self, out: &mut String);

    /// What the MQTT-SN part shows under one of its names: `gateways`, `sleepers`, `topics`.
    fn mqttsn(&self, what: &str, client_id: Option<&str>) -> Option<Vec<Value>>;

    /// What the MQTT-SN part knows of a client.
    fn mqttsn_client(&self, client_id: &str) -> Option<Value>;

    /// Answers a request of `nightjar ctl --url`: lines of JSON, as the Unix socket gives them, as they come. Whoever
    /// drops the stream ends the verb.
    fn ctl(&self, request: Vec<u8>) -> tokio::io::DuplexStream;
}
