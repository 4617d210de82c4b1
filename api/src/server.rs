//! The port: accepts connections, bounds them, and gives requests to the routes.

use std::convert::Infallible;
use std::future::Future;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::TcpListener;
use tokio::sync::{Semaphore, watch};
use tower_service::Service;

use crate::access::Peer;
use crate::shared::Shared;

/// Longest body of a request, bytes.
pub const MAX_BODY: usize = 2 << 20;
/// Connections at a time; more wait in the system's backlog.
const MAX_CONNECTIONS: usize = 1024;
/// Time for the head of a request; a connection kept alive between requests ends after it, too.
const HEAD_TIME: Duration = Duration::from_secs(30);

/// Why the port could not be opened.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ServerError {
    /// The address could not be bound.
    #[error(
        "api.bind: {address}: {why}; free the port, or set another one (api.enable = false serves none)"
    )]
    Bind {
        /// The address.
        address: SocketAddr,
        /// What the system says.
        why: std::io::Error,
    },
}

/// The open port.
#[derive(Debug)]
pub struct Server {
    listener: TcpListener,
    address: SocketAddr,
}

impl Server {
    /// Opens the port; connections wait until [`Self::run`].
    ///
    /// # Errors
    /// [`ServerError::Bind`].
    pub async fn bind(address: SocketAddr) -> Result<Self, ServerError> {
        let fail = |why| ServerError::Bind { address, why };
        let listener = TcpListener::bind(address).await.map_err(fail)?;
        let address = listener.local_addr().map_err(fail)?;
        Ok(Self { listener, address })
    }

    /// Where it listens.
    #[must_use]
    pub const fn address(&self) -> SocketAddr {
        self.address
    }

    /// Serves until `stop` says true.
    pub async fn run(self, shared: Arc<Shared>, mut stop: watch::Receiver<bool>) {
        let router = crate::routes::router(&shared);
        let places = Arc::new(Semaphore::new(MAX_CONNECTIONS));
        loop {
            let Ok(place) = places.clone().acquire_owned().await else {
                return;
            };
            let accepted = tokio::select! {
                accepted = self.listener.accept() => accepted,
                _ = stop.wait_for(|stop| *stop) => return,
            };
            match accepted {
                Ok((stream, peer)) => {
                    let _ = stream.set_nodelay(true);
                    let connection = serve(TokioIo::new(stream), peer, router.clone());
                    tokio::spawn(async move {
                        connection.await;
                        drop(place);
                    });
                }
                Err(error) => {
                    // Out of file descriptors, most likely: it may pass.
                    tracing::warn!(%error, "the HTTP port cannot accept");
                    tokio::time::sleep(Duration::from_millis(500)).await;
                }
            }
        }
    }
}

fn serve(
    stream: TokioIo<tokio::net::TcpStream>,
    peer: SocketAddr,
    router: Router,
) -> impl Future<Output = ()> + Send {
    let service = service_fn(move |mut request: hyper::Request<Incoming>| {
        let mut router = router.clone();
        request.extensions_mut().insert(Peer(peer));
        async move { Ok::<_, Infallible>(answer(router.call(request.map(Body::new)).await)) }
    });
    async move {
        let connection = http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(HEAD_TIME)
            .max_buf_size(64 * 1024)
            .serve_connection(stream, service)
            .with_upgrades();
        if let Err(error) = connection.await {
            tracing::debug!(%peer, "HTTP connection ended: {error}");
        }
    }
}

/// A router never fails.
fn answer<T>(result: Result<T, Infallible>) -> T {
    match result {
        Ok(response) => response,
        Err(never) => match never {},
    }
}
