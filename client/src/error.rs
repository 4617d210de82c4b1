//! The one error type of this crate.
//!
//! Errors say who caused them and map to the exit codes scripts written for mosquitto_pub and
//! mosquitto_sub look at ([`Error::exit_code`]).

use std::io;
use std::path::PathBuf;
use std::time::Duration;

use nightjar_mqtt::ReasonCode;

use crate::session::SessionError;

/// Exit code of `sub` when `-W` ends it, the number Mosquitto gives "timed out".
pub const EXIT_TIMEOUT: u8 = 27;

/// What can go wrong between a command and a broker.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A flag, a URL or a value given by the user makes no sense.
    #[error("{0}")]
    Usage(String),
    /// A file named by the user cannot be read or holds something else than expected.
    #[error("{path}: {reason}")]
    File {
        /// The file as the user named it.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// The host name has no address.
    #[error("cannot resolve {host}: {source}")]
    Lookup {
        /// The name that was looked up.
        host: String,
        /// What the resolver said.
        source: io::Error,
    },
    /// No connection could be made.
    #[error("cannot connect to {address}: {source}")]
    Connect {
        /// Where to.
        address: String,
        /// What the operating system said.
        source: io::Error,
    },
    /// The TLS or WebSocket handshake failed.
    #[error("{stage} handshake with {address} failed: {source}")]
    Handshake {
        /// "TLS" or "WebSocket".
        stage: &'static str,
        /// The peer.
        address: String,
        /// Why it failed.
        source: io::Error,
    },
    /// The broker did not answer in time.
    #[error("no {what} from the broker within {after:?}")]
    Timeout {
        /// The packet that was awaited.
        what: &'static str,
        /// How long it was awaited.
        after: Duration,
    },
    /// The broker answered CONNECT with a refusal. The code is a 5.0 reason code, or a 3.x return
    /// code (1 to 5).
    #[error("connection refused by the broker: {text} (code {code})")]
    Refused {
        /// The number in CONNACK.
        code: u8,
        /// Its meaning.
        text: String,
    },
    /// The broker sent DISCONNECT (5.0 only).
    #[error("the broker closed the session: {0} (0x{code:02X})", code = u8::from(*.0))]
    Disconnected(ReasonCode),
    /// The connection ended without a DISCONNECT.
    #[error("connection lost: {0}")]
    Lost(io::Error),
    /// Something about the packets: a malformed one from the broker, or one this side may not send.
    #[error(transparent)]
    Session(#[from] SessionError),
    /// More messages arrived than the caller lets this side hold while it waits for an answer.
    #[error("more than {limit} messages arrived and nobody read them")]
    InboxFull {
        /// How many are held at most.
        limit: usize,
    },
    /// Reading or writing a file or a standard stream failed.
    #[error("{what}: {source}")]
    Io {
        /// What was being done.
        what: &'static str,
        /// What the operating system said.
        source: io::Error,
    },
}

impl Error {
    /// The exit code of `pub` and `sub` for this error.
    ///
    /// A refused CONNECT exits with the code in CONNACK (1 to 5 in 3.x, 128 and above in 5.0), as
    /// mosquitto_pub does; 1 stands for a wrong flag, an unknown host and no connection at all;
    /// 7 for a lost connection, 8 for TLS, 27 for a timeout.
    pub fn exit_code(&self) -> u8 {
        match self {
            Self::Refused { code, .. } => *code,
            Self::Disconnected(reason) => u8::from(*reason).max(1),
            Self::Lost(_) => 7,
            Self::Handshake { stage: "TLS", .. } => 8,
            Self::Timeout { .. } => EXIT_TIMEOUT,
            Self::Session(error) => error.exit_code(),
            _ => 1,
        }
    }

    /// True where trying again later can help: no answer, no route, a lost connection.
    pub fn is_transient(&self) -> bool {
        match self {
            Self::Connect { .. } | Self::Lost(_) | Self::Timeout { .. } => true,
            // Server unavailable in 3.x; unavailable, busy, connection rate exceeded in 5.0.
            Self::Refused { code, .. } => matches!(code, 3 | 0x88 | 0x89 | 0x9F),
            Self::Disconnected(reason) => matches!(
                reason,
                ReasonCode::ServerShuttingDown
                    | ReasonCode::ServerBusy
                    | ReasonCode::KeepAliveTimeout
            ),
            _ => false,
        }
    }
}

/// `std::result::Result` with this crate's error.
pub type Result<T> = std::result::Result<T, Error>;
