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

use std::path::PathBuf;
use std::time::Duration;

/// The keys of a `kind = "http"` table.
#[derive(Debug, Clone)]
pub struct HttpSettings {
    /// `url`: placeholders may stand in path and query.
    pub url: String,
    /// `method`, POST by default.
    pub method: Method,
    /// `headers`, without placeholders. A Content-Type of `application/json` sends `body` as JSON, otherwise it is a form.
    pub headers: Vec<(String, String)>,
    /// `body`: names and texts with placeholders. With GET they are added to the query.
    pub body: Vec<(String, String)>,
    /// `timeout` of a whole request, waiting for a connection included.
    pub timeout: Duration,
    /// `pool`: connections at once.
    pub pool: usize,
    /// `ca_file`: who may sign the server's certificate; the system's authorities if unset.
    pub ca_file: Option<PathBuf>,
}

impl HttpSettings {
    /// The defaults with this URL: POST of a form, 5 s, 32 connections.
    pub fn new(url: impl Into<String>) -> Self {
        Self {
            url: url.into(),
            method: Method::Post,
            headers: Vec::new(),
            body: Vec::new(),
            timeout: Duration::from_secs(5),
            pool: 32,
            ca_file: None,
        }
    }
}

#[cfg(test)]
mod tests;
