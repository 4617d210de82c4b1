//! What the HTTP API asks of this node: [`nightjar_api::Host`] over [`Node`].

mod cluster;
mod listeners;
mod others;
mod sensors;

use std::sync::Arc;

use nightjar_api::{
    Ban, BanSubject, ConfigEntry, ConfigView, Host, HostError, HostFuture, ListenerView, NewUser,
    NodeSummary, Policies, Settings, UserView,
};
use nightjar_broker::Timestamp;
use nightjar_broker::access::{BoxFuture, Secret};
use nightjar_broker::admin::{AccessAdmin, AdminError, UserChange};
use nightjar_broker::auth::UserKind;
use nightjar_broker::bans::{Ban as BrokerBan, BanKind};
use serde_json::{Map, Value, json};

use super::Node;
use crate::config::{self, Origin};

pub use others::{Told, answer as answer_others};

pub use listeners::{
    Certificates, list as listeners_of, start as start_listener, stop as stop_listener,
};

/// Bytes of an answer of `ctl --url` that may be on their way before its verb waits.
const ANSWER: usize = 64 * 1024;

/// The node as the HTTP API sees it.
pub struct NodeHost(pub Arc<Node>);

impl From<AdminError> for Failed {
    fn from(error: AdminError) -> Self {
        let text = error.to_string();
        Self(match error {
            AdminError::NotFound(_) => HostError::NotFound(text),
            AdminError::Exists(_) => HostError::Conflict(text),
            AdminError::Invalid(_) => HostError::Invalid(text),
            _ => HostError::Unavailable(text),
        })
    }
}

/// Turns the broker's errors into the API's.
struct Failed(HostError);

impl From<Failed> for HostError {
    fn from(failed: Failed) -> Self {
        failed.0
    }
}

fn failed(error: AdminError) -> HostError {
    Failed::from(error).into()
}

fn kind(text: &str) -> Result<UserKind, HostError> {
    match text {
        "username" => Ok(UserKind::Username),
        "clientid" => Ok(UserKind::ClientId),
        other => Err(HostError::Invalid(format!(
            "kind: expected username or clientid, got {other:?}"
        ))),
    }
}

const fn ban_kind(subject: BanSubject) -> BanKind {
    match subject {
        BanSubject::ClientId => BanKind::ClientId,
        BanSubject::Username => BanKind::Username,
        BanSubject::PeerHost => BanKind::Address,
    }
}

/// A name such as `file users`: its kind is the first word.
fn link(name: String) -> (String, String) {
    let kind = name.split(' ').next().unwrap_or_default().to_owned();
    (name, kind)
}

impl Host for NodeHost {
    fn version(&self) -> &str {
        env!("CARGO_PKG_VERSION")
    }

    fn durability(&self) -> String {
        json!(self.0.loaded.lock().config.durability)
            .as_str()
            .unwrap_or_default()
            .to_owned()
    }

    fn failure(&self) -> Option<&'static str> {
        self.0.store.failure()
    }

    fn problem(&self) -> Option<String> {
        self.0.cluster.as_ref()?.problem()
    }

    fn is_stopping(&self) -> bool {
        self.0.is_stopping()
    }

    fn settings(&self) -> Settings {
        let loaded = self.0.loaded.lock();
        let config = &loaded.config;
        Settings {
            metrics_auth: config.api.metrics_auth,
            emqx_names: config.metrics.emqx_names,
            admin_password: config
                .api
                .admin_password
                .as_ref()
                .map(|secret| secret.expose().to_owned()),
        }
    }

    fn listeners(&self) -> Vec<ListenerView> {
        listeners::list(&self.0)
    }

    fn start_listener<'a>(&'a self, id: &'a str) -> HostFuture<'a, ()> {
        Box::pin(async move { listeners::start(&self.0, id) })
    }

    fn stop_listener<'a>(&'a self, id: &'a str) -> HostFuture<'a, ()> {
        Box::pin(listeners::stop(&self.0, id))
    }

    fn config(&self) -> ConfigView {
        let loaded = self.0.loaded.lock();
        let entry = |entry: config::Entry| {
            let (origin, place) = match &entry.origin {
                Origin::Default => ("default", None),
                Origin::File { path, line, column } => {
                    ("file", Some(format!("{}:{line}:{column}", path.display())))
                }
                Origin::Env(name) => ("environment", Some(name.clone())),
                Origin::EnvFile { name, path } => {
                    ("environment", Some(format!("{name} ({})", path.display())))
                }
                Origin::Set(key) => ("set", Some(format!("--set {key}"))),
            };
            ConfigEntry {
                origin: origin.to_owned(),
                place,
                default: entry.default().map(str::to_owned),
                secret: entry.key.ty.is_secret(),
                apply: if entry.at_once() { "now" } else { "restart" }.to_owned(),
                kind: entry.key.ty.words(),
                doc: entry.key.doc.to_owned(),
                value: entry.value.unwrap_or(Value::Null),
                key: entry.path,
            }
        };
        ConfigView {
            file: loaded.file.as_ref().map(|path| path.display().to_string()),
            data: config::entries(&loaded).into_iter().map(entry).collect(),
        }
    }

    fn reload(&self) -> HostFuture<'_, Value> {
        Box::pin(async move {
            let node = self.0.clone();
            tokio::task::spawn_blocking(move || node.reload())
                .await
                .map_err(|error| HostError::Failed(error.to_string()))
        })
    }

    fn log_level(&self) -> String {
        self.0.log_level()
    }

    fn set_log_level(&self, level: &str) -> Result<(), HostError> {
        self.0
            .set_log_level(level)
            .map_err(|error| HostError::Invalid(format!("level: {error}")))
    }

    fn policies(&self) -> Policies {
        let broker = &self.0.broker;
        Policies {
            chain: broker.auth().names().into_iter().map(link).collect(),
            sources: broker.acl().names().into_iter().map(link).collect(),
            allow_anonymous: self.0.loaded.lock().config.auth.allow_anonymous,
        }
    }

    fn users<'a>(
        &'a self,
        of: &'a str,
        after: Option<&'a str>,
        limit: usize,
    ) -> HostFuture<'a, Vec<UserView>> {
        Box::pin(async move {
            let users = AccessAdmin::users(&*self.0, kind(of)?, after, limit);
            let view = |user: nightjar_broker::admin::UserView| UserView {
                user_id: user.name,
                kind: of.to_owned(),
                is_superuser: user.superuser,
            };
            Ok(users.into_iter().map(view).collect())
        })
    }

    fn put_user(&self, user: NewUser, fresh: bool) -> HostFuture<'_, ()> {
        Box::pin(async move {
            let change = UserChange {
                kind: kind(&user.kind)?,
                name: user.user_id,
                password: user.password.map(|text| Secret(text.into_bytes().into())),
                superuser: user.is_superuser,
            };
            if fresh {
                self.0.add_user(change).await.map_err(failed)
            } else {
                self.0.change_user(change).await.map_err(failed)
            }
        })
    }

    fn remove_user<'a>(&'a self, of: &'a str, user_id: &'a str) -> HostFuture<'a, ()> {
        Box::pin(async move {
            AccessAdmin::remove_user(&*self.0, kind(of)?, user_id)
                .await
                .map_err(failed)
        })
    }

    fn bans(&self) -> HostFuture<'_, Vec<Ban>> {
        Box::pin(async move {
            let bans = AccessAdmin::bans(&*self.0, None, usize::MAX);
            let view = |ban: &BrokerBan| Ban {
                subject: match ban.kind {
                    BanKind::ClientId => BanSubject::ClientId,
                    BanKind::Username => BanSubject::Username,
                    BanKind::Address => BanSubject::PeerHost,
                },
                who: ban.who.clone(),
                by: ban.by.clone(),
                reason: ban.reason.clone(),
                at: ban.at,
                until: (ban.until != Timestamp::NEVER).then_some(ban.until),
            };
            Ok(bans.iter().map(|ban| view(ban)).collect())
        })
    }

    fn ban(&self, ban: Ban) -> HostFuture<'_, ()> {
        Box::pin(async move {
            let ban = BrokerBan {
                kind: ban_kind(ban.subject),
                who: ban.who,
                reason: ban.reason,
                by: ban.by,
                at: ban.at,
                until: ban.until.unwrap_or(Timestamp::NEVER),
            };
            self.0.add_ban(ban).await.map_err(failed)
        })
    }

    fn unban<'a>(&'a self, subject: BanSubject, who: &'a str) -> HostFuture<'a, ()> {
        Box::pin(async move {
            self.0
                .remove_ban(ban_kind(subject), who)
                .await
                .map_err(failed)
        })
    }

    fn nodes(&self) -> Vec<NodeSummary> {
        let state = |running: bool| if running { "running" } else { "stopped" }.to_owned();
        let mut own = NodeSummary {
            node: self.0.broker.node().to_string(),
            status: state(!self.0.is_stopping()),
            address: None,
        };
        let mut others = Vec::new();
        for node in self.0.cluster.iter().flat_map(|it| it.status().nodes) {
            if node.name == own.node {
                own.address = Some(node.address);
            } else {
                others.push(NodeSummary {
                    node: node.name,
                    status: state(node.up),
                    address: Some(node.address),
                });
            }
        }
        others.insert(0, own);
        others
    }

    fn others(&self) -> BoxFuture<'_, Vec<Value>> {
        Box::pin(others::told(&self.0))
    }

    fn cluster(&self) -> Map<String, Value> {
        let status = self.0.cluster.as_ref().map(|it| json!(it.status()));
        let Some(Value::Object(mut fields)) = status else {
            let name = self.0.loaded.lock().config.cluster.name.clone();
            return Map::from_iter([("name".to_owned(), json!(name))]);
        };
        // `self` and `nodes` are fields of the API's own; what is known of each node stands in `members`.
        fields.remove("node");
        if let Some(members) = fields.remove("nodes") {
            fields.insert("members".into(), members);
        }
        fields
    }

    fn extra_metrics(&self, out: &mut String) {
        sensors::metrics(&self.0, out);
        if let Some(node) = &self.0.cluster {
            cluster::metrics(node, out);
        }
    }

    fn mqttsn(&self, what: &str, client_id: Option<&str>) -> Option<Vec<Value>> {
        sensors::list(&self.0, what, client_id)
    }

    fn mqttsn_client(&self, client_id: &str) -> Option<Value> {
        sensors::client(&self.0, client_id)
    }

    fn ctl(&self, request: Vec<u8>) -> tokio::io::DuplexStream {
        let (ours, theirs) = tokio::io::duplex(ANSWER);
        if let Some(registry) = self.0.registry.get() {
            let registry = registry.clone();
            tokio::spawn(async move { registry.answer_over(&request, ours).await });
        }
        theirs
    }
}
