//! The error type of the gateway.

use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;

/// What can fail when listeners are prepared, started or reloaded. Each text names the configuration key, so that the
/// operator knows what to change.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum GatewayError {
    /// A listener's address could not be bound.
    #[error("{key}: cannot listen on {address}: {}", bind_reason(.source))]
    Bind {
        /// Configuration key, such as `listeners.tcp.default.bind`.
        key: String,
        /// The address asked for.
        address: SocketAddr,
        /// What the system said.
        source: io::Error,
    },
    /// A setting is not usable.
    #[error("{key}: {reason}")]
    Setting {
        /// Configuration key.
        key: String,
        /// What is wrong and what would be right.
        reason: String,
    },
    /// A certificate, key or revocation list could not be used.
    #[error("{key}: {}: {reason}", path.display())]
    Certificate {
        /// Configuration key, such as `listeners.tls.default.cert_file`.
        key: String,
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// The certificate of this installation could not be made or stored.
    #[error("cannot make the certificate of this installation in {}: {reason}", path.display())]
    Generate {
        /// The file or directory.
        path: PathBuf,
        /// What failed.
        reason: String,
    },
    /// No listener has this name.
    #[error("no listener is named {0}")]
    UnknownListener(String),
    /// The listener runs already.
    #[error("listener {0} is running")]
    AlreadyRunning(String),
    /// Threads or runtimes could not be made.
    #[error("cannot start the workers: {0}")]
    Workers(#[source] io::Error),
}

/// The two reasons an operator meets, in words; the system's own text for the rest.
fn bind_reason(error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::AddrInUse => "the port is in use by another process".to_owned(),
        io::ErrorKind::AddrNotAvailable => "this machine has no such address".to_owned(),
        io::ErrorKind::PermissionDenied => {
            "not permitted (ports below 1024 need CAP_NET_BIND_SERVICE)".to_owned()
        }
        _ => error.to_string(),
    }
}
