//! `kind = "http"`: a service decides who may connect, publish and subscribe.
//!
//! The service is asked once a CONNECT, or once for each action the client's cache does not know. Its answer:
//!
//! | status | body | means |
//! |---|---|---|
//! | 200 | `{"result": "allow" \| "deny" \| "ignore", "is_superuser": .., "acl": ..}` | that |
//! | 200 | `ignore` / `deny` | the next authenticator or source / refused |
//! | 200, 204 | anything else that is no JSON | allowed |
//! | 4xx | | refused |
//! | others, no answer, nonsense | | the backend failed |
//!
//! Redirects are not followed. Whatever a client calls itself stays a value: it is percent-encoded in URL and form,
//! escaped in JSON, and has no place in headers.

mod auth;
mod client;
#[cfg(feature = "jwt")]
mod jwks;
mod question;

pub use auth::{HttpAcl, HttpAuth};
pub use client::{HttpClient, HttpError, Method};
#[cfg(feature = "jwt")]
pub use jwks::JwksUrl;
#[cfg(any(test, feature = "fuzzing"))]
#[doc(hidden)]
pub use question::fuzz_answer;

use std::time::Duration;

use crate::tls::TlsSettings;

/// The form of a POST's body.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum ContentType {
    /// `application/x-www-form-urlencoded`.
    #[default]
    Form,
    /// `application/json`: an object of strings.
    Json,
}

/// The keys of a `kind = "http"` table.
#[derive(Debug, Clone)]
pub struct HttpSettings {
    /// `url`: placeholders may stand in path and query.
    pub url: String,
    /// `method`, POST by default.
    pub method: Method,
    /// `content_type` of the body.
    pub content_type: ContentType,
    /// `headers`, without placeholders.
    pub headers: Vec<(String, String)>,
    /// `body`: names and texts with placeholders. With GET they are added to the query.
    pub body: Vec<(String, String)>,
    /// `timeout` of a whole request, waiting for a connection included.
    pub timeout: Duration,
    /// `pool`: connections at once.
    pub pool: usize,
    /// `tls`, for `https`.
    pub tls: TlsSettings,
}

impl HttpSettings {
    /// The defaults with this URL: POST of a form, 5 s, 8 connections.
    pub fn new(url: impl Into<String>) -> Self {
        Self {
            url: url.into(),
            method: Method::Post,
            content_type: ContentType::Form,
            headers: Vec::new(),
            body: Vec::new(),
            timeout: Duration::from_secs(5),
            pool: 8,
            tls: TlsSettings::default(),
        }
    }
}

#[cfg(test)]
mod tests;
