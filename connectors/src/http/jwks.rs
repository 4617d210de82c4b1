//! Keys of tokens by URL: `jwks_url`.

use std::sync::Arc;
use std::time::{Duration, Instant};

use nightjar_broker::access::BoxFuture;
use parking_lot::Mutex;
use tokio::sync::Mutex as AsyncMutex;

use super::client::{Answer, HttpClient, Url};
use super::{HttpSettings, Method};
use crate::ConnectorError;
use crate::jwt::{KeyProvider, KeySet};

/// An unknown key id, which anybody can send, makes the set be fetched no more often than this.
const RETRY: Duration = Duration::from_secs(10);

/// A JSON Web Key Set that is served by HTTP. It is fetched with the first login, again when they are older than
/// `refresh`, and when a token names a key that is not in it. While the server fails, the keys last fetched stay in force.
pub struct JwksUrl {
    client: HttpClient,
    target: String,
    refresh: Duration,
    state: Mutex<State>,
    /// One fetch at a time; others wait for it.
    fetching: AsyncMutex<()>,
}

#[derive(Default)]
struct State {
    keys: Option<Arc<KeySet>>,
    fetched: Option<Instant>,
    tried: Option<Instant>,
}

impl JwksUrl {
    /// The key set at `settings.url`; only URL, headers, timeout and TLS count.
    ///
    /// # Errors
    /// [`ConnectorError`] if a setting is wrong.
    pub fn new(settings: &HttpSettings, refresh: Duration) -> Result<Self, ConnectorError> {
        let settings = HttpSettings {
            method: Method::Get,
            ..settings.clone()
        };
        let target = match Url::parse(&settings.url)?.target {
            "" => "/".to_owned(),
            target => target.to_owned(),
        };
        Ok(Self {
            client: HttpClient::new(&settings)?,
            target,
            refresh,
            state: Mutex::default(),
            fetching: AsyncMutex::new(()),
        })
    }

    /// The keys, if they will do for this token without asking the server.
    fn known(&self, key_id: Option<&str>, now: Instant) -> Option<Arc<KeySet>> {
        let state = self.state.lock();
        let keys = state.keys.as_ref()?;
        let since = |then: Option<Instant>| then.map(|then| now.saturating_duration_since(then));
        let fresh = since(state.fetched).is_some_and(|age| age < self.refresh);
        let has = key_id.is_none_or(|id| keys.has(id));
        let just_tried = since(state.tried).is_some_and(|age| age < RETRY);
        ((fresh && has) || just_tried).then(|| Arc::clone(keys))
    }

    async fn get(&self, key_id: Option<&str>) -> Result<Arc<KeySet>, String> {
        if let Some(keys) = self.known(key_id, Instant::now()) {
            return Ok(keys);
        }
        let _one = self.fetching.lock().await;
        // Somebody else may have fetched meanwhile.
        if let Some(keys) = self.known(key_id, Instant::now()) {
            return Ok(keys);
        }
        let fetched = self.client.ask(&self.target, None, understand).await;
        let mut state = self.state.lock();
        let now = Instant::now();
        state.tried = Some(now);
        match fetched {
            Ok(keys) => {
                let keys = Arc::new(keys);
                state.keys = Some(Arc::clone(&keys));
                state.fetched = Some(now);
                Ok(keys)
            }
            Err(error) => match &state.keys {
                Some(keys) => {
                    tracing::warn!(%error, "key set not fetched: the last one stays in force");
                    Ok(Arc::clone(keys))
                }
                None => Err(format!("key set: {error}")),
            },
        }
    }
}

fn understand(answer: &Answer) -> Result<KeySet, String> {
    match answer.status.as_u16() {
        200 => KeySet::jwks(&answer.body),
        status => Err(format!("expected status 200, got {status}")),
    }
}

impl KeyProvider for JwksUrl {
    fn keys<'a>(&'a self, key_id: Option<&'a str>) -> BoxFuture<'a, Result<Arc<KeySet>, String>> {
        Box::pin(self.get(key_id))
    }
}
