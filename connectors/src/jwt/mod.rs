//! `kind = "jwt"`: JSON Web Tokens (RFC 7519) as password or user name.
//!
//! Signatures by HMAC (HS256, HS384, HS512), RSA (RS256..RS512, PS256..PS512), ECDSA (ES256, ES384) and Ed25519 (EdDSA).
//! Which of them a token may use follows from the key, never from the token alone: a public key cannot be taken for an
//! HMAC secret. A text that is no token is ignored, and the next authenticator asked; a token that does not hold is
//! denied.

mod der;
mod keys;
mod token;

use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use nightjar_broker::access::{AuthAnswer, AuthRequest, Authenticator, BoxFuture, Grant};
use nightjar_mqtt::ReasonCode;
use serde_json::{Map, Value};

pub use keys::{Algorithm, Key, KeySet};
pub use token::TokenError;

use crate::ConnectorError;
use crate::rules_json;
use crate::template::{Template, Values};

/// Which part of CONNECT holds the token.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum TokenFrom {
    /// `from = "password"`, the default.
    #[default]
    Password,
    /// `from = "username"`.
    Username,
}

/// What a token has to fulfil beside its signature.
#[derive(Debug, Clone)]
pub struct JwtSettings {
    /// Where the token is.
    pub from: TokenFrom,
    /// `acl_claim`: the claim that holds rules for the connection.
    pub acl_claim: String,
    /// How far clocks may differ, in seconds; holds for `exp`, `nbf` and `iat`.
    pub leeway: u32,
    claims: Vec<(String, Template)>,
}

impl Default for JwtSettings {
    fn default() -> Self {
        Self {
            from: TokenFrom::Password,
            acl_claim: "acl".to_owned(),
            leeway: 0,
            claims: Vec::new(),
        }
    }
}

impl JwtSettings {
    /// Requires claims to equal a text with placeholders, as in `sub = "${username}"`; a claim that is a list has to
    /// hold it (`aud`).
    ///
    /// # Errors
    /// [`ConnectorError::Setting`] if a placeholder is unknown.
    pub fn require<'a>(
        mut self,
        claims: impl IntoIterator<Item = (&'a str, &'a str)>,
    ) -> Result<Self, ConnectorError> {
        self.claims = claims
            .into_iter()
            .map(|(name, text)| Ok((name.to_owned(), Template::client(text)?)))
            .collect::<Result<_, String>>()
            .map_err(|problem| ConnectorError::Setting {
                key: "auth.chain.claims",
                problem,
            })?;
        Ok(self)
    }
}

/// Where keys come from.
pub trait KeyProvider: Send + Sync {
    /// The keys in force; with a key id that is none of them, a provider may look for new ones first. `Err` is the text
    /// for the log where there are no keys to judge by.
    fn keys<'a>(&'a self, key_id: Option<&'a str>) -> BoxFuture<'a, Result<Arc<KeySet>, String>>;
}

/// Keys of the configuration: a secret, or public keys of a file.
impl KeyProvider for Arc<KeySet> {
    fn keys<'a>(&'a self, _: Option<&'a str>) -> BoxFuture<'a, Result<Arc<KeySet>, String>> {
        Box::pin(std::future::ready(Ok(Self::clone(self))))
    }
}

/// Authenticates by tokens.
pub struct Jwt {
    settings: JwtSettings,
    keys: Arc<dyn KeyProvider>,
}

impl Jwt {
    /// An authenticator that takes tokens signed by any of the provider's keys.
    pub fn new(settings: JwtSettings, keys: Arc<dyn KeyProvider>) -> Self {
        Self { settings, keys }
    }

    async fn judge(&self, request: &AuthRequest, now: f64) -> AuthAnswer {
        let text = match self.settings.from {
            TokenFrom::Username => request.client.username.as_deref(),
            TokenFrom::Password => request
                .password
                .as_ref()
                .and_then(|password| std::str::from_utf8(&password.0).ok()),
        };
        let token = match text.map(token::Token::parse) {
            None | Some(Err(TokenError::NotAToken)) => return AuthAnswer::Ignore,
            Some(Err(error)) => return denied(&error),
            Some(Ok(token)) => token,
        };
        let keys = match self.keys.keys(token.key_id()).await {
            Ok(keys) => keys,
            Err(error) => return AuthAnswer::Unavailable(error),
        };
        let claims = match token.verify(&keys) {
            Ok(claims) => claims,
            // Signed by somebody else: the next authenticator may know whom.
            Err(TokenError::UnknownKey) => return AuthAnswer::Ignore,
            Err(error) => return denied(&error),
        };
        match self.grant(&claims, request, now) {
            Ok(grant) => AuthAnswer::Allow(grant),
            Err(error) => denied(&error),
        }
    }

    fn grant(
        &self,
        claims: &Map<String, Value>,
        request: &AuthRequest,
        now: f64,
    ) -> Result<Grant, TokenError> {
        token::check_times(claims, now, f64::from(self.settings.leeway))?;
        let values = Values::of(&request.client);
        for (name, template) in &self.settings.claims {
            let wanted = template.render(&values).ok_or(TokenError::Claim)?;
            if !claims.get(name).is_some_and(|claim| holds(claim, &wanted)) {
                return Err(TokenError::Claim);
            }
        }
        let superuser = match claims.get("is_superuser") {
            None => false,
            Some(claim) => rules_json::truth(claim).ok_or(TokenError::Malformed)?,
        };
        let rules = match claims.get(&self.settings.acl_claim) {
            None | Some(Value::Null) => None,
            Some(acl) => Some(rules_json::rules(acl).map_err(|_| TokenError::Malformed)?),
        };
        Ok(Grant {
            superuser,
            rules: rules.map(Arc::new),
            username: None,
            expires_at: token::ends(claims, f64::from(self.settings.leeway)),
        })
    }
}

/// The token itself never goes to a log.
fn denied(error: &TokenError) -> AuthAnswer {
    tracing::debug!(%error, "token refused");
    AuthAnswer::Deny(ReasonCode::BadUserNameOrPassword)
}

fn holds(claim: &Value, wanted: &str) -> bool {
    match claim {
        Value::String(text) => text == wanted,
        Value::Number(number) => number.to_string() == wanted,
        Value::Bool(truth) => (if *truth { "true" } else { "false" }) == wanted,
        Value::Array(any) => any.iter().any(|one| one.as_str() == Some(wanted)),
        Value::Null | Value::Object(_) => false,
    }
}

impl Authenticator for Jwt {
    fn name(&self) -> &str {
        "jwt"
    }

    fn authenticate<'a>(&'a self, request: &'a AuthRequest) -> BoxFuture<'a, AuthAnswer> {
        let now = SystemTime::now().duration_since(UNIX_EPOCH);
        // A clock before 1970 makes every token one of the future.
        let now = now.map_or(0.0, |since| since.as_secs_f64());
        Box::pin(self.judge(request, now))
    }
}

#[cfg(test)]
mod tests;
