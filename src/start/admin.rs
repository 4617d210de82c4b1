//! Users, rules and bans of the running node, for ctl and the HTTP API.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;

use nightjar_broker::access::{Action, BoxFuture, ClientInfo, Protocol, Secret};
use nightjar_broker::acl::{AclSources, Explanation};
use nightjar_broker::admin::{AccessAdmin, AccessQuestion, AdminError, UserChange, UserView};
use nightjar_broker::auth::{Refusal, User, UserKind, UserStore};
use nightjar_broker::bans::{Ban, BanKind};
use nightjar_broker::{Counter, Timestamp};
use nightjar_gateway::listener::Refused;
use nightjar_mqtt::ProtocolVersion;
use serde_json::{Value, json};

use super::Node;
use crate::config::model::{Authenticator, Config};

impl AccessAdmin for Node {
    fn users(&self, kind: UserKind, after: Option<&str>, limit: usize) -> Vec<UserView> {
        let users = self.broker.kept().users().list(kind, after, limit);
        users.iter().map(|user| view(user)).collect()
    }

    fn user(&self, kind: UserKind, name: &str) -> Option<UserView> {
        let user = self.broker.kept().users().find(kind, name)?;
        Some(view(&user))
    }

    fn add_user(&self, change: UserChange) -> BoxFuture<'_, Result<(), AdminError>> {
        Box::pin(async move {
            if self.user(change.kind, &change.name).is_some() {
                return Err(AdminError::Exists(named(change.kind, &change.name)));
            }
            let password = change
                .password
                .ok_or_else(|| AdminError::Invalid("expected a password, got none".to_owned()))?;
            let superuser = change.superuser.unwrap_or(false);
            let user = self
                .made(change.kind, change.name, password, superuser)
                .await?;
            Ok(self.broker.kept().users().put(user).await?)
        })
    }

    fn change_user(&self, change: UserChange) -> BoxFuture<'_, Result<(), AdminError>> {
        Box::pin(async move {
            let users = self.broker.kept().users();
            let old = users
                .find(change.kind, &change.name)
                .ok_or_else(|| AdminError::NotFound(named(change.kind, &change.name)))?;
            let superuser = change.superuser.unwrap_or(old.superuser);
            let user = match change.password {
                Some(password) => {
                    self.made(change.kind, change.name, password, superuser)
                        .await?
                }
                None => User {
                    superuser,
                    ..User::clone(&old)
                },
            };
            Ok(users.put(user).await?)
        })
    }

    fn remove_user<'a>(
        &'a self,
        kind: UserKind,
        name: &'a str,
    ) -> BoxFuture<'a, Result<(), AdminError>> {
        Box::pin(async move {
            let removed = self.broker.kept().users().remove(kind, name).await?;
            let missing = || AdminError::NotFound(named(kind, name));
            removed.then_some(()).ok_or_else(missing)
        })
    }

    fn rules(&self, after: Option<u32>, limit: usize) -> Vec<(u32, String)> {
        self.broker.kept().rules().list(after, limit)
    }

    fn add_rule<'a>(
        &'a self,
        rule: &'a str,
        at: Option<u32>,
    ) -> BoxFuture<'a, Result<u32, AdminError>> {
        Box::pin(async move { Ok(self.broker.kept().rules().add(rule, at).await?) })
    }

    fn remove_rule(&self, number: u32) -> BoxFuture<'_, Result<(), AdminError>> {
        Box::pin(async move {
            let removed = self.broker.kept().rules().remove(number).await?;
            let missing = || AdminError::NotFound(format!("rule {number}"));
            removed.then_some(()).ok_or_else(missing)
        })
    }

    fn bans(&self, after: Option<(BanKind, &str)>, limit: usize) -> Vec<Arc<Ban>> {
        self.broker
            .kept()
            .bans()
            .list(after, limit, Timestamp::now())
    }

    fn add_ban(&self, ban: Ban) -> BoxFuture<'_, Result<(), AdminError>> {
        Box::pin(async move { Ok(self.broker.kept().bans().add(ban).await?) })
    }

    fn remove_ban<'a>(
        &'a self,
        kind: BanKind,
        who: &'a str,
    ) -> BoxFuture<'a, Result<(), AdminError>> {
        Box::pin(async move {
            let removed = self.broker.kept().bans().remove(kind, who).await?;
            let missing = || AdminError::NotFound(format!("ban of {kind} {who:?}"));
            removed.then_some(()).ok_or_else(missing)
        })
    }

    fn explain(&self, question: AccessQuestion) -> BoxFuture<'_, Explanation> {
        Box::pin(async move {
            let superuser = self.is_builtin_superuser(&question);
            explain(self.broker.acl(), &question, superuser).await
        })
    }

    fn clean_cache(&self) {
        self.broker.acl().invalidate();
    }

    fn reload_rules(&self) -> Vec<String> {
        self.broker.acl().reload()
    }
}

impl Node {
    /// Clients that did not get in and what was paused, by reason, since the start. Reasons that never occurred are left
    /// out.
    pub fn refused(&self) -> Value {
        let mut reasons: BTreeMap<&str, u64> = BTreeMap::new();
        let auth = self.broker.auth().counters();
        for reason in Refusal::ALL {
            *reasons.entry(reason.label()).or_default() += auth.refused(reason);
        }
        let metrics = self.broker.metrics();
        for (name, counter) in [
            ("banned", Counter::ConnectsBanned),
            ("connects_over_rate", Counter::ConnectsOverRate),
            ("connect_timeout", Counter::ConnectTimeouts),
            ("flapping_bans", Counter::FlappingBans),
            ("publish_denied", Counter::PublishDenied),
            ("publisher_rate_pauses", Counter::RatePauses),
            ("subscribe_denied", Counter::SubscribeDenied),
            ("token_expired", Counter::DisconnectsExpired),
        ] {
            *reasons.entry(name).or_default() += metrics.get(counter);
        }
        for listener in self.listeners.status() {
            for reason in Refused::ALL {
                let count = listener.state.counters().refused(reason);
                *reasons.entry(reason.as_str()).or_default() += count;
            }
        }
        reasons.retain(|_, count| *count > 0);
        json!(reasons)
    }
}

/// Asks the sources about a client that need not exist.
pub async fn explain(acl: &AclSources, question: &AccessQuestion, superuser: bool) -> Explanation {
    let address = question.address.unwrap_or(IpAddr::V4(Ipv4Addr::LOCALHOST));
    let listener = question.listener.as_deref().unwrap_or("tcp:default");
    let client = ClientInfo {
        username: question.username.as_deref().map(Into::into),
        superuser,
        ..ClientInfo::new(
            question.client_id.as_str(),
            SocketAddr::new(address, 0),
            listener,
            Protocol::Mqtt(ProtocolVersion::V5),
        )
    };
    let topic = question.topic.as_str();
    let action = if question.subscribe {
        // Of a shared subscription the rules speak of the filter behind its name.
        let shared = topic
            .strip_prefix("$share/")
            .and_then(|rest| rest.split_once('/'));
        Action::Subscribe {
            filter: shared.map_or(topic, |(_, filter)| filter),
            qos: question.qos,
        }
    } else {
        Action::Publish {
            topic,
            qos: question.qos,
            retain: question.retain,
        }
    };
    acl.explain(&client, action).await
}

impl Node {
    /// Is the client of a question a builtin user that skips authorization?
    fn is_builtin_superuser(&self, question: &AccessQuestion) -> bool {
        let loaded = self.loaded.lock();
        let chain = &loaded.config.auth.chain;
        let kinds = chain.iter().filter_map(|it| match it {
            Authenticator::Builtin(it) if it.enable => Some(super::access::user_kind(it.user_id)),
            _ => None,
        });
        let users = self.broker.kept().users();
        let mut found = kinds.filter_map(|kind| match kind {
            UserKind::Username => users.find(kind, question.username.as_deref()?),
            UserKind::ClientId => users.find(kind, &question.client_id),
        });
        found.next().is_some_and(|user| user.superuser)
    }

    /// A user with a new password, hashed on a thread of its own.
    async fn made(
        &self,
        kind: UserKind,
        name: String,
        password: Secret,
        superuser: bool,
    ) -> Result<User, AdminError> {
        let iterations = scram_iterations(&self.loaded.lock().config);
        let made = tokio::task::spawn_blocking(move || {
            hashed(kind, &name, &password, superuser, iterations)
        });
        made.await
            .unwrap_or_else(|error| Err(AdminError::Unavailable(error.to_string())))
    }
}

/// Iterations of new SCRAM keys: those of the chain's scram entry, or the least there may be.
fn scram_iterations(config: &Config) -> u32 {
    let mut chain = config.auth.chain.iter();
    let found = chain.find_map(|it| match it {
        Authenticator::Scram(it) => Some(it.iterations),
        _ => None,
    });
    found.unwrap_or(4096)
}

#[cfg(feature = "builtin")]
fn hashed(
    kind: UserKind,
    name: &str,
    password: &Secret,
    superuser: bool,
    iterations: u32,
) -> Result<User, AdminError> {
    nightjar_connectors::builtin::new_user(kind, name, &password.0, superuser, iterations)
        .map_err(|error| AdminError::Invalid(error.to_string()))
}

#[cfg(not(feature = "builtin"))]
fn hashed(_: UserKind, _: &str, _: &Secret, _: bool, _: u32) -> Result<User, AdminError> {
    let missing = "this program was built without the cargo feature `builtin`";
    Err(AdminError::Invalid(missing.to_owned()))
}

fn view(user: &User) -> UserView {
    UserView {
        kind: user.kind,
        name: user.name.clone(),
        superuser: user.superuser,
        scram: user.scram.is_some(),
    }
}

fn named(kind: UserKind, name: &str) -> String {
    match kind {
        UserKind::Username => format!("user {name:?}"),
        UserKind::ClientId => format!("client id {name:?}"),
    }
}
