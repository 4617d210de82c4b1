//! The HTTP service as authenticator and as authorization source.

use std::sync::Arc;
use std::time::Duration;

use nightjar_broker::access::{
    Action, Answer, AuthAnswer, AuthRequest, Authenticator, Authorizer, BoxFuture, ClientInfo,
    Grant, Verdict,
};
use nightjar_mqtt::{QoS, ReasonCode};
use serde_json::{Map, Value};

use super::HttpSettings;
use super::client::Url;
use super::question::{Failed, Question, Said};
use crate::ConnectorError;
use crate::rules_json;
use crate::template::{Template, Values};

/// `kind = "http"` of `[[auth.chain]]`.
pub struct HttpAuth {
    name: String,
    question: Question,
}

impl HttpAuth {
    /// The authenticator. Without `body` it sends `clientid`, `username` and `password`.
    ///
    /// # Errors
    /// [`ConnectorError`] if a setting is wrong.
    pub fn new(settings: &HttpSettings) -> Result<Self, ConnectorError> {
        let mut settings = settings.clone();
        default_body(&mut settings, &["clientid", "username", "password"]);
        Ok(Self {
            name: name(&settings)?,
            question: Question::new(&settings, Template::login)?,
        })
    }

    async fn judge(&self, request: &AuthRequest) -> AuthAnswer {
        let bad = AuthAnswer::Deny(ReasonCode::BadUserNameOrPassword);
        let mut values = Values::of(&request.client);
        if let Some(password) = &request.password {
            match std::str::from_utf8(&password.0) {
                Ok(password) => values.password = Some(password),
                // There is no way to write it that the service could not take for another one.
                Err(_) => return bad,
            }
        }
        match self.question.ask(&values).await {
            Ok(Said::Ignore) => AuthAnswer::Ignore,
            Ok(Said::Deny(403)) => AuthAnswer::Deny(ReasonCode::NotAuthorized),
            Ok(Said::Deny(429)) => AuthAnswer::Deny(ReasonCode::Banned),
            Ok(Said::Deny(_)) | Err(Failed::Refused) => bad,
            Ok(Said::Allow(fields)) => match grant(&fields.unwrap_or_default()) {
                Ok(grant) => AuthAnswer::Allow(grant),
                Err(error) => AuthAnswer::Unavailable(error),
            },
            Err(Failed::Backend(error)) => AuthAnswer::Unavailable(error.to_string()),
        }
    }
}

pub(super) fn grant(fields: &Map<String, Value>) -> Result<Grant, String> {
    let superuser = match fields.get("is_superuser") {
        None => false,
        Some(value) => {
            rules_json::truth(value).ok_or("expected is_superuser to be true or false")?
        }
    };
    let rules = match fields.get("acl") {
        None | Some(Value::Null) => None,
        Some(acl) => Some(Arc::new(rules_json::rules(acl)?)),
    };
    Ok(Grant {
        superuser,
        rules,
        username: None,
        expires_at: None,
    })
}

impl Authenticator for HttpAuth {
    fn name(&self) -> &str {
        &self.name
    }

    fn authenticate<'a>(&'a self, request: &'a AuthRequest) -> BoxFuture<'a, AuthAnswer> {
        Box::pin(self.judge(request))
    }

    /// Each request has the configured time.
    fn time_limit(&self) -> Option<Duration> {
        None
    }
}

/// `kind = "http"` of `[[acl.sources]]`.
///
/// The service judges an asked filter as a whole: it cannot say that only a part of it is denied.
pub struct HttpAcl {
    name: String,
    question: Question,
}

impl HttpAcl {
    /// The source. Without `body` it sends `clientid`, `username`, `peerhost`, `action`, `topic`, `qos` and `retain`.
    ///
    /// # Errors
    /// [`ConnectorError`] if a setting is wrong.
    pub fn new(settings: &HttpSettings) -> Result<Self, ConnectorError> {
        let mut settings = settings.clone();
        let names = [
            "clientid", "username", "peerhost", "action", "topic", "qos", "retain",
        ];
        default_body(&mut settings, &names);
        Ok(Self {
            name: name(&settings)?,
            question: Question::new(&settings, Template::action)?,
        })
    }

    async fn judge(&self, client: &ClientInfo, action: Action<'_>) -> Result<Verdict, String> {
        let mut values = Values::of(client);
        values.action = Some(action);
        match self.question.ask(&values).await {
            Ok(Said::Allow(_)) => Ok(Verdict::Allow),
            Ok(Said::Deny(_)) | Err(Failed::Refused) => Ok(Verdict::Deny),
            Ok(Said::Ignore) => Ok(Verdict::NoMatch),
            Err(Failed::Backend(error)) => Err(error.to_string()),
        }
    }
}

impl Authorizer for HttpAcl {
    fn name(&self) -> &str {
        &self.name
    }

    fn authorize<'a>(&'a self, client: &'a ClientInfo, action: Action<'a>) -> Answer<'a> {
        Answer::Later(Box::pin(self.judge(client, action)))
    }

    /// It has no say in single deliveries: other sources' rules decide, which can only take topics away.
    fn may_deliver(&self, _: &ClientInfo, _: &str, _: QoS, _: &str) -> Verdict {
        Verdict::NoMatch
    }

    fn explain(&self, _: &ClientInfo, _: Action<'_>) -> Option<String> {
        Some(format!("{}: the service's answer", self.name))
    }
}

/// Host and port are enough to know it by; a path may hold a secret.
fn name(settings: &HttpSettings) -> Result<String, ConnectorError> {
    Ok(format!("http {}", Url::parse(&settings.url)?.authority))
}

/// What is sent where neither body nor URL say anything.
fn default_body(settings: &mut HttpSettings, names: &[&str]) {
    if settings.body.is_empty() && !settings.url.contains("${") {
        let field = |name: &&str| ((*name).to_owned(), format!("${{{name}}}"));
        settings.body = names.iter().map(field).collect();
    }
}
