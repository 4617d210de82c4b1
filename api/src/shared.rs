//! What all routes share.

use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};

use bytes::Bytes;
use nightjar_broker::meta::MetaStore;
use nightjar_broker::{Broker, Timestamp};
use tokio::sync::Semaphore;

use crate::access::{AccessError, Accounts, Audit, Limiter, Tokens, Values};
use crate::error::ApiError;
use crate::history::History;
use crate::host::Host;
use crate::process::Process;

/// Walks over all clients at a time, so that lists never take more than one core.
const WALKS: usize = 1;

/// The state of the API of one node.
pub struct Shared {
    /// The broker.
    pub broker: Arc<Broker>,
    /// The node around it.
    pub host: Arc<dyn Host>,
    /// Accounts and keys.
    pub accounts: Accounts,
    /// Who changed what.
    pub audit: Audit,
    pub(crate) data_dir: PathBuf,
    pub(crate) tokens: Tokens,
    pub(crate) limiter: Limiter,
    pub(crate) history: History,
    pub(crate) process: Process,
    /// The OpenAPI description, made when somebody first asks for it: its parts take 4 MB while they are put together, which
    /// few brokers ever need.
    openapi: OnceLock<Bytes>,
    walks: Arc<Semaphore>,
}

impl std::fmt::Debug for Shared {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Shared")
            .field("data_dir", &self.data_dir)
            .finish_non_exhaustive()
    }
}

impl Shared {
    /// The API of a node; `cluster` is where the nodes of a cluster keep what all of them know. The second is the admin's first password where one was made just now, to be shown once.
    ///
    /// # Errors
    /// The accounts could not be read or made.
    pub fn open(
        broker: Arc<Broker>,
        host: Arc<dyn Host>,
        data_dir: &Path,
        cluster: Option<Arc<dyn MetaStore>>,
    ) -> Result<(Arc<Self>, Option<String>), AccessError> {
        let configured = host.settings().admin_password.is_some();
        let (accounts, made) = Accounts::open(data_dir, configured, cluster.clone())?;
        let shared = Self {
            history: History::new(),
            process: Process::default(),
            accounts,
            audit: Audit::open(data_dir),
            tokens: Tokens::new(Values::new(cluster, "api/token/")),
            limiter: Limiter::default(),
            data_dir: data_dir.to_owned(),
            openapi: OnceLock::new(),
            walks: Arc::new(Semaphore::new(WALKS)),
            broker,
            host,
        };
        Ok((Arc::new(shared), made))
    }

    /// The OpenAPI description as JSON.
    pub(crate) async fn openapi(self: &Arc<Self>) -> Result<Bytes, ApiError> {
        if let Some(made) = self.openapi.get() {
            return Ok(made.clone());
        }
        self.walk(|shared| {
            let made = || {
                let json = crate::routes::openapi().to_json();
                json.unwrap_or_else(|error| format!("{{\"error\":\"{error}\"}}"))
                    .into()
            };
            shared.openapi.get_or_init(made).clone()
        })
        .await
    }

    /// Does something that walks over all clients, off the workers and one at a time.
    ///
    /// # Errors
    /// It panicked.
    pub async fn walk<T: Send + 'static>(
        self: &Arc<Self>,
        work: impl FnOnce(&Self) -> T + Send + 'static,
    ) -> Result<T, ApiError> {
        let place = self.walks.clone().acquire_owned().await;
        let shared = self.clone();
        let done = tokio::task::spawn_blocking(move || {
            let done = work(&shared);
            drop(place);
            done
        });
        done.await
            .map_err(|error| ApiError::internal(error.to_string()))
    }

    /// Does something that blocks, such as hashing a password.
    pub(crate) async fn blocking<T: Send + 'static>(
        self: &Arc<Self>,
        work: impl FnOnce(&Self) -> T + Send + 'static,
    ) -> Result<T, ApiError> {
        self.walk(work).await
    }

    /// `/metrics` as text.
    #[must_use]
    pub fn prometheus(&self) -> String {
        crate::metrics::render(self)
    }

    /// Sets the password of `admin` and ends its tokens. Hashes: call it off the workers.
    ///
    /// # Errors
    /// It is too short, set by the configuration, or could not be written.
    pub fn set_admin_password(&self, password: &str) -> Result<(), ApiError> {
        let configured = self.host.settings().admin_password.is_some();
        self.accounts.set_password("admin", password, configured)?;
        self.tokens.revoke_all_of("admin")?;
        Ok(())
    }

    /// Time passed: figures for the charts, what traces wrote. Called once a second.
    pub async fn tick(self: &Arc<Self>, now: Timestamp) {
        if self.history.is_due(now) {
            let _ = self.walk(move |shared| shared.sample(now)).await;
        }
        crate::traces::tick(self, now).await;
    }
}

/// A time as lists show it; `null` for one that is not known.
pub(crate) fn when(at: Timestamp) -> Option<String> {
    (at.0 > 0).then(|| at.to_rfc3339())
}
