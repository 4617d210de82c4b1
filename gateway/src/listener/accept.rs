//! The accept loop of one socket.

use std::future::Future;
use std::io;
use std::net::{SocketAddr, TcpListener as StdListener};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

use super::Accepted;
use super::handshake::{self, Admitted};
use super::state::ListenerState;
use crate::transport::Transport;

/// First and longest pause after the system could not give a connection.
const PAUSE: (Duration, Duration) = (Duration::from_millis(10), Duration::from_secs(1));

/// Accepts until told to stop, then closes the socket.
pub(super) async fn run<M, F, Fut>(
    state: Arc<ListenerState<M>>,
    socket: StdListener,
    handler: F,
    mut stop: watch::Receiver<bool>,
) where
    M: Send + Sync + 'static,
    F: Fn(Accepted<M>) -> Fut + Clone + Send + Sync + 'static,
    Fut: Future<Output = ()> + Send + 'static,
{
    let (listener, local) =
        match TcpListener::from_std(socket).and_then(|l| l.local_addr().map(|local| (l, local))) {
            Ok(ready) => ready,
            Err(error) => {
                tracing::error!(listener = &**state.name(), %error, "listener cannot be polled");
                return;
            }
        };
    let mut pause = PAUSE.0;
    loop {
        let accepted = tokio::select! {
            // An error means that the listener's owner is gone: the same as stop.
            _ = stop.wait_for(|stop| *stop) => break,
            accepted = listener.accept() => accepted,
        };
        match accepted {
            Ok((socket, peer)) => {
                pause = PAUSE.0;
                admit(&state, socket, peer, local, &handler);
            }
            Err(error) if concerns_one_connection(&error) => {}
            Err(error) => {
                state.counters.accept_errors.fetch_add(1, Ordering::Relaxed);
                if let Some(more) = state.warn.allow() {
                    tracing::warn!(listener = &**state.name(), %error, more,
                        "cannot accept connections; trying again (file limit? see LimitNOFILE, ulimit -n)");
                }
                tokio::select! {
                    _ = stop.wait_for(|stop| *stop) => break,
                    () = tokio::time::sleep(pause) => pause = (pause * 2).min(PAUSE.1),
                }
            }
        }
    }
}

/// Errors of a connection that was gone before it was accepted; the next one may be fine.
fn concerns_one_connection(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::ConnectionAborted
            | io::ErrorKind::ConnectionReset
            | io::ErrorKind::ConnectionRefused
            | io::ErrorKind::Interrupted
            | io::ErrorKind::TimedOut
            | io::ErrorKind::NetworkUnreachable
            | io::ErrorKind::HostUnreachable
            | io::ErrorKind::NetworkDown
    )
}

fn admit<M, F, Fut>(
    state: &Arc<ListenerState<M>>,
    socket: TcpStream,
    peer: SocketAddr,
    local: SocketAddr,
    handler: &F,
) where
    M: Send + Sync + 'static,
    F: Fn(Accepted<M>) -> Fut + Clone + Send + Sync + 'static,
    Fut: Future<Output = ()> + Send + 'static,
{
    let accepted_at = Instant::now();
    // A dual-stack socket shows IPv4 clients as `::ffff:a.b.c.d`.
    let peer = SocketAddr::new(peer.ip().to_canonical(), peer.port());
    let (listener, slot) = match state.admit(accepted_at) {
        Ok(admitted) => admitted,
        Err(reason) => {
            state.refuse(reason, peer, &"limit of the listener");
            return;
        }
    };
    // Linux has it from the listening socket.
    #[cfg(not(target_os = "linux"))]
    let _ = socket.set_nodelay(true);
    if state.is_direct() {
        let accepted = Accepted {
            transport: Transport::Tcp(socket),
            peer,
            local,
            loopback: peer.ip().is_loopback(),
            proxied: false,
            health_check: false,
            listener,
            slot,
            identity: None,
            http: None,
            proxy: None,
            accepted_at,
        };
        tokio::spawn(handler(accepted));
        return;
    }
    let admitted = Admitted {
        socket,
        peer,
        local,
        accepted_at,
        listener,
        slot,
    };
    let handler = handler.clone();
    // A task of its own that ends with the handshake, so that nothing of it burdens the connection's task.
    tokio::spawn(async move {
        if let Some(accepted) = handshake::run(admitted).await {
            tokio::spawn(handler(accepted));
        }
    });
}
