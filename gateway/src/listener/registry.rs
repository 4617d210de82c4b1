//! All listeners of a node: bound together, started, stopped and looked at by name.

use std::collections::BTreeMap;
use std::future::Future;
use std::net::{SocketAddr, TcpListener};
use std::sync::{Arc, Weak};
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::watch;
use tokio::task::JoinHandle;

use super::bind::bind_all;
use super::settings::ListenerSettings;
use super::state::ListenerState;
use super::{Accepted, accept};
use crate::error::GatewayError;
use crate::websocket::StatusSource;
use crate::workers::Workers;

/// Listeners whose sockets are bound and whose certificates are loaded. Clients that connect wait in the backlog.
#[derive(Debug)]
pub struct BoundListeners<M = ()> {
    listeners: Vec<(Arc<ListenerState<M>>, Vec<TcpListener>)>,
}

/// The running and the stopped listeners of a node.
pub struct Listeners<M = ()> {
    starter: Starter<M>,
    entries: Mutex<BTreeMap<Arc<str>, Entry<M>>>,
}

impl<M> std::fmt::Debug for Listeners<M> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_list().entries(self.entries.lock().keys()).finish()
    }
}

type Starter<M> = Box<dyn Fn(&Arc<ListenerState<M>>, Vec<TcpListener>) -> Running + Send + Sync>;

struct Entry<M> {
    state: Arc<ListenerState<M>>,
    /// Where it listened last: a free port that was taken once is asked for again.
    addresses: Vec<SocketAddr>,
    running: Option<Running>,
}

struct Running {
    stop: watch::Sender<bool>,
    tasks: Vec<JoinHandle<()>>,
}

/// What [`Listeners::status`] tells of one listener.
#[derive(Debug)]
pub struct ListenerStatus<M = ()> {
    /// `tcp:default`.
    pub name: Arc<str>,
    /// Whether it accepts.
    pub running: bool,
    /// The addresses it is, or was last, bound to.
    pub addresses: Vec<SocketAddr>,
    /// Settings and counters.
    pub state: Arc<ListenerState<M>>,
}

impl<M: Send + Sync + 'static> Listeners<M> {
    /// Checks all settings, loads all certificates and binds all sockets. `status` answers `GET /status` on WebSocket
    /// ports.
    ///
    /// # Errors
    /// The first thing that is wrong, with its configuration key; nothing is bound then.
    pub fn bind(
        settings: Vec<ListenerSettings<M>>,
        status: &StatusSource,
    ) -> Result<BoundListeners<M>, GatewayError> {
        let mut states = Vec::with_capacity(settings.len());
        for settings in settings {
            states.push(Arc::new(ListenerState::new(settings, status.clone())?));
        }
        let bound = bind_all(
            &states
                .iter()
                .map(|state| state.settings())
                .collect::<Vec<_>>(),
        )?;
        Ok(BoundListeners {
            listeners: states.into_iter().zip(bound).collect(),
        })
    }

    /// Stops a listener: its sockets are closed when this returns. Connections it accepted live on.
    ///
    /// # Errors
    /// [`GatewayError::UnknownListener`]. Stopping a stopped one is no error.
    pub async fn stop(&self, name: &str) -> Result<(), GatewayError> {
        let running = {
            let mut entries = self.entries.lock();
            let entry = entries
                .get_mut(name)
                .ok_or_else(|| GatewayError::UnknownListener(name.to_owned()))?;
            entry.running.take()
        };
        if let Some(running) = running {
            running.stop().await;
            tracing::info!(listener = name, "listener stopped");
        }
        Ok(())
    }

    /// Stops all listeners.
    pub async fn stop_all(&self) {
        let all: Vec<_> = self
            .entries
            .lock()
            .values_mut()
            .filter_map(|entry| entry.running.take())
            .collect();
        for running in all {
            running.stop().await;
        }
    }

    /// Starts a stopped listener at its former addresses and returns them.
    ///
    /// # Errors
    /// [`GatewayError::UnknownListener`], [`GatewayError::AlreadyRunning`], [`GatewayError::Bind`].
    pub fn start(&self, name: &str) -> Result<Vec<SocketAddr>, GatewayError>
    where
        M: Clone,
    {
        let mut entries = self.entries.lock();
        let entry = entries
            .get_mut(name)
            .ok_or_else(|| GatewayError::UnknownListener(name.to_owned()))?;
        if entry.running.is_some() {
            return Err(GatewayError::AlreadyRunning(name.to_owned()));
        }
        let mut settings = entry.state.settings().clone();
        settings.bind.clone_from(&entry.addresses);
        let sockets = bind_all(&[&settings])?.pop().unwrap_or_default();
        entry.running = Some((self.starter)(&entry.state, sockets));
        tracing::info!(listener = name, "listener started");
        Ok(entry.addresses.clone())
    }

    /// All listeners, by name.
    #[must_use]
    pub fn status(&self) -> Vec<ListenerStatus<M>> {
        let entries = self.entries.lock();
        let status = |(name, entry): (&Arc<str>, &Entry<M>)| ListenerStatus {
            name: name.clone(),
            running: entry.running.is_some(),
            addresses: entry.addresses.clone(),
            state: entry.state.clone(),
        };
        entries.iter().map(status).collect()
    }

    /// Loads the certificates of all TLS listeners again. Reads files: call it where that may block. Returns the
    /// names of the listeners reloaded, and the errors of those that keep their old ones.
    #[must_use]
    pub fn reload_certificates(&self) -> (Vec<Arc<str>>, Vec<GatewayError>) {
        let states: Vec<_> = self
            .entries
            .lock()
            .values()
            .map(|entry| entry.state.clone())
            .collect();
        let (mut done, mut failed) = (Vec::new(), Vec::new());
        for state in states {
            match state.tls().map(|tls| tls.reload()) {
                Some(Ok(())) => done.push(state.name().clone()),
                Some(Err(error)) => failed.push(error),
                None => {}
            }
        }
        (done, failed)
    }
}

impl<M: Send + Sync + 'static> BoundListeners<M> {
    /// The actual addresses, in the order of the settings: `("tcp:default", 127.0.0.1:41883)`.
    #[must_use]
    pub fn addresses(&self) -> Vec<(Arc<str>, SocketAddr)> {
        let mut all = Vec::new();
        for (state, sockets) in &self.listeners {
            all.extend(
                local_addresses(sockets)
                    .into_iter()
                    .map(|address| (state.name().clone(), address)),
            );
        }
        all
    }

    /// Begins to accept. `handler` is called for each connection that came through its handshake, on a worker, and
    /// the future it returns is the connection's task; the call itself must not block.
    pub fn start<F, Fut>(self, workers: &Workers, handler: F) -> Listeners<M>
    where
        F: Fn(Accepted<M>) -> Fut + Clone + Send + Sync + 'static,
        Fut: Future<Output = ()> + Send + 'static,
    {
        let workers = workers.clone();
        let starter: Starter<M> = Box::new(move |state, sockets| {
            let (stop, stopped) = watch::channel(false);
            let mut tasks = Vec::with_capacity(sockets.len() + 1);
            for socket in sockets {
                let run = accept::run(state.clone(), socket, handler.clone(), stopped.clone());
                tasks.push(workers.spawn(run));
            }
            if let Some(period) = state.tls().and_then(|tls| tls.settings().watch) {
                tasks.push(workers.spawn(watch_certificates(
                    Arc::downgrade(state),
                    period,
                    stopped,
                )));
            }
            Running { stop, tasks }
        });
        let mut entries = BTreeMap::new();
        for (state, sockets) in self.listeners {
            let addresses = local_addresses(&sockets);
            let running = Some(starter(&state, sockets));
            entries.insert(
                state.name().clone(),
                Entry {
                    state,
                    addresses,
                    running,
                },
            );
        }
        Listeners {
            starter,
            entries: Mutex::new(entries),
        }
    }
}

impl Running {
    async fn stop(self) {
        self.stop.send_replace(true);
        for task in self.tasks {
            // An error means that the task was cancelled with its runtime, and so ended as well.
            let _ = task.await;
        }
    }
}

fn local_addresses(sockets: &[TcpListener]) -> Vec<SocketAddr> {
    // A bound socket has an address; were it not so, the listener would only be missing in a list.
    sockets
        .iter()
        .filter_map(|socket| socket.local_addr().ok())
        .collect()
}

/// Reloads certificates when their files change.
async fn watch_certificates<M: Send + Sync + 'static>(
    state: Weak<ListenerState<M>>,
    period: Duration,
    mut stop: watch::Receiver<bool>,
) {
    loop {
        tokio::select! {
            _ = stop.wait_for(|stop| *stop) => return,
            () = tokio::time::sleep(period) => {}
        }
        let Some(state) = state.upgrade() else { return };
        let looked = tokio::task::spawn_blocking(move || {
            let Some(tls) = state.tls().filter(|tls| tls.changed()) else {
                return;
            };
            match tls.reload() {
                Ok(()) => tracing::info!(listener = &**state.name(), "certificates reloaded"),
                Err(error) => {
                    tracing::error!(
                        listener = &**state.name(),
                        "{error}; the old certificates stay in force"
                    );
                }
            }
        });
        if looked.await.is_err() {
            return;
        }
    }
}
