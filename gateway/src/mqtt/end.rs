//! How a connection ends: what the client is told, what becomes of the will, what is counted.

use std::borrow::Cow;

use nightjar_broker::Counter;
use nightjar_broker::session::SessionError;
use nightjar_broker::shard::CloseKind;
use nightjar_mqtt::{DecodeError, ReasonCode};

/// The end of a connection.
#[derive(Debug)]
pub struct End {
    /// DISCONNECT is sent with this code to 5.0 clients.
    pub tell: Option<ReasonCode>,
    /// What becomes of session and will.
    pub kind: CloseKind,
    /// Session Expiry Interval of the client's DISCONNECT.
    pub expiry: Option<u32>,
    /// What is counted.
    pub counter: Counter,
    /// Why, for the debug line.
    pub why: Cow<'static, str>,
    /// The stream is broken: nothing can be sent on it any more.
    pub broken: bool,
}

impl End {
    /// The client said DISCONNECT.
    pub const fn by_client(kind: CloseKind, expiry: Option<u32>) -> Self {
        Self {
            tell: None,
            kind,
            expiry,
            counter: Counter::DisconnectsNormal,
            why: Cow::Borrowed("DISCONNECT of the client"),
            broken: false,
        }
    }

    /// The stream ended or broke.
    pub fn abrupt(why: impl Into<Cow<'static, str>>) -> Self {
        Self {
            tell: None,
            kind: CloseKind::Abnormal,
            expiry: None,
            counter: Counter::DisconnectsAbrupt,
            why: why.into(),
            broken: false,
        }
    }

    /// The stream failed.
    pub fn broken(error: &std::io::Error) -> Self {
        Self {
            broken: true,
            ..Self::abrupt(error.to_string())
        }
    }

    /// The client broke the protocol.
    pub fn protocol(code: ReasonCode, why: impl Into<Cow<'static, str>>) -> Self {
        Self {
            tell: Some(code),
            kind: CloseKind::Abnormal,
            expiry: None,
            counter: Counter::DisconnectsProtocol,
            why: why.into(),
            broken: false,
        }
    }

    /// The server ends it.
    pub fn by_server(
        code: ReasonCode,
        counter: Counter,
        why: impl Into<Cow<'static, str>>,
    ) -> Self {
        Self {
            tell: Some(code),
            kind: CloseKind::Abnormal,
            expiry: None,
            counter,
            why: why.into(),
            broken: false,
        }
    }
}

impl From<DecodeError> for End {
    fn from(error: DecodeError) -> Self {
        Self::protocol(error.reason_code(), error.to_string())
    }
}

impl From<SessionError> for End {
    fn from(error: SessionError) -> Self {
        Self::protocol(error.reason_code(), error.to_string())
    }
}
