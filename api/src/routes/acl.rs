//! Authorization: may X do Y, which sources there are.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use axum::Json as Answer;
use axum::extract::State;
use axum::http::StatusCode;
use nightjar_broker::access::{Action, ClientInfo, Protocol, Verdict};
use nightjar_broker::acl::{DenyAction, NoMatch};
use nightjar_mqtt::{ProtocolVersion, TopicFilter, TopicName};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::{App, qos};
use crate::error::{ApiError, CommonErrors};
use crate::extract::Json;

/// What is to be done.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum What {
    /// PUBLISH.
    Publish,
    /// SUBSCRIBE.
    Subscribe,
}

/// May X do Y?
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Question {
    /// User name.
    username: Option<String>,
    /// Client identifier. With neither user name nor address given, those of a connected client of this name are
    /// taken.
    clientid: Option<String>,
    /// Address.
    ip_address: Option<String>,
    /// Listener, such as `tcp:default`.
    listener: Option<String>,
    // `publish` or `subscribe`.
    #[schema(inline)]
    action: What,
    /// Topic name, or of a subscription the topic filter.
    topic: String,
    /// QoS.
    #[serde(default)]
    #[schema(maximum = 2)]
    qos: u8,
    /// Retain flag of the PUBLISH.
    #[serde(default)]
    retain: bool,
}

/// Yes or no, and why.
#[derive(Debug, Serialize, ToSchema)]
pub struct Reply {
    /// Yes or no.
    allowed: bool,
    /// `allow`, `deny`, or `allow_checked`: the subscription is granted, each delivery is checked against a deny rule.
    result: String,
    /// What decides, and which rule.
    reason: String,
}

/// May X do Y?
#[utoipa::path(post, path = "/acl/test", tag = "acl", request_body = Question, responses((status = 200, body = Reply), CommonErrors))]
pub async fn test(
    State(shared): App,
    Json(question): Json<Question>,
) -> Result<Answer<Reply>, ApiError> {
    let qos = qos(question.qos)?;
    let bad = |error: nightjar_mqtt::TopicError| ApiError::bad_request(format!("topic: {error}"));
    let filter;
    let action = match question.action {
        What::Publish => {
            TopicName::new(&*question.topic).map_err(bad)?;
            Action::Publish {
                topic: &question.topic,
                qos,
                retain: question.retain,
            }
        }
        What::Subscribe => {
            filter = TopicFilter::new(&*question.topic).map_err(bad)?;
            Action::Subscribe {
                filter: filter.routing_filter(),
                qos,
            }
        }
    };
    let address: IpAddr = match &question.ip_address {
        None => Ipv4Addr::LOCALHOST.into(),
        Some(text) => text.parse().map_err(|_| {
            ApiError::bad_request(format!("ip_address: expected an address, got {text:?}"))
        })?,
    };
    let connected = question
        .clientid
        .as_deref()
        .filter(|_| question.username.is_none() && question.ip_address.is_none())
        .and_then(|id| shared.broker.client(id));
    let info = match connected {
        Some(handle) => (*handle.info()).clone(),
        None => ClientInfo {
            username: question.username.as_deref().map(Into::into),
            ..ClientInfo::new(
                question.clientid.as_deref().unwrap_or(""),
                SocketAddr::new(address, 0),
                question.listener.as_deref().unwrap_or("tcp:default"),
                Protocol::Mqtt(ProtocolVersion::V5),
            )
        },
    };
    let explained = shared.broker.acl().explain(&info, action).await;
    Ok(Answer(Reply {
        allowed: explained.verdict.allowed(),
        result: match explained.verdict {
            Verdict::Allow => "allow",
            Verdict::AllowChecked => "allow_checked",
            _ => "deny",
        }
        .to_owned(),
        reason: explained.reason,
    }))
}

/// A link of a chain.
#[derive(Debug, Serialize, ToSchema)]
pub struct Link {
    /// Kind and place.
    name: String,
    /// Kind.
    kind: String,
}

/// Authorization as it is configured.
#[derive(Debug, Serialize, ToSchema)]
pub struct AclView {
    /// Sources in the order they are asked.
    sources: Vec<Link>,
    /// `allow` or `deny`.
    no_match: String,
    /// `ignore` or `disconnect`.
    deny_action: String,
    /// Verdicts that each client's cache holds.
    cache_size: u16,
    /// Seconds a verdict is kept.
    cache_ttl: u64,
}

fn links(of: Vec<(String, String)>) -> Vec<Link> {
    of.into_iter()
        .map(|(name, kind)| Link { name, kind })
        .collect()
}

/// Authorization sources and settings
#[utoipa::path(get, path = "/acl", tag = "acl", responses((status = 200, body = AclView), CommonErrors))]
pub async fn show(State(shared): App) -> Answer<AclView> {
    let settings = shared.broker.acl().settings();
    Answer(AclView {
        sources: links(shared.host.policies().sources),
        no_match: match settings.no_match {
            NoMatch::Allow => "allow",
            NoMatch::Deny => "deny",
        }
        .to_owned(),
        deny_action: match settings.deny_action {
            DenyAction::Ignore => "ignore",
            DenyAction::Disconnect => "disconnect",
        }
        .to_owned(),
        cache_size: settings.cache_size,
        cache_ttl: settings.cache_ttl.as_secs(),
    })
}

/// What was read again.
#[derive(Debug, Serialize, ToSchema)]
pub struct Reloaded {
    /// What is broken; what was in force stays.
    errors: Vec<String>,
}

/// Read the rules' files again
#[utoipa::path(post, path = "/acl/reload", tag = "acl", responses((status = 200, body = Reloaded), CommonErrors))]
pub async fn reload(State(shared): App) -> Result<Answer<Reloaded>, ApiError> {
    let errors = shared
        .blocking(|shared| shared.broker.acl().reload())
        .await?;
    Ok(Answer(Reloaded { errors }))
}

/// Void every client's cache of verdicts
#[utoipa::path(delete, path = "/acl/cache", tag = "acl", responses((status = 204), CommonErrors))]
pub async fn clear_cache(State(shared): App) -> StatusCode {
    shared.broker.acl().invalidate();
    StatusCode::NO_CONTENT
}

/// Authentication as it is configured.
#[derive(Debug, Serialize, ToSchema)]
pub struct AuthView {
    /// Authenticators in the order they are asked.
    chain: Vec<Link>,
    /// Are clients without a user name let in? `null`: those of this machine, as long as no authenticator is
    /// configured.
    allow_anonymous: Option<bool>,
}

/// Authenticators
#[utoipa::path(get, path = "/auth", tag = "acl", responses((status = 200, body = AuthView), CommonErrors))]
pub async fn auth(State(shared): App) -> Answer<AuthView> {
    let policies = shared.host.policies();
    Answer(AuthView {
        chain: links(policies.chain),
        allow_anonymous: policies.allow_anonymous,
    })
}
