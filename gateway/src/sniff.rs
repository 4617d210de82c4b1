//! What a client that speaks the wrong protocol for a port seems to speak, for one clear log line.

use std::fmt;

/// A guess from the first bytes of a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Spoken {
    /// A TLS handshake record with a ClientHello.
    Tls,
    /// An MQTT CONNECT packet.
    Mqtt,
    /// An HTTP/1 request line.
    Http,
    /// A PROXY protocol header, version 1 or 2.
    Proxy,
}

impl Spoken {
    /// Number of protocols that are told apart.
    pub const COUNT: usize = 4;

    /// Guesses by the first bytes; `None` for anything else and for less than can be told from.
    #[must_use]
    pub fn guess(first: &[u8]) -> Option<Self> {
        const METHODS: [&[u8]; 7] = [
            b"GET ",
            b"POST ",
            b"PUT ",
            b"HEAD ",
            b"OPTIONS ",
            b"DELETE ",
            b"CONNECT ",
        ];
        match first {
            [0x16, 0x03, ..] => Some(Self::Tls),
            [0x0D, 0x0A, 0x0D, 0x0A, 0x00, ..] => Some(Self::Proxy),
            [0x10, ..] => Some(Self::Mqtt),
            _ if first.starts_with(b"PROXY ") => Some(Self::Proxy),
            _ if METHODS.iter().any(|method| first.starts_with(method)) => Some(Self::Http),
            _ => None,
        }
    }
}

impl fmt::Display for Spoken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Tls => "TLS",
            Self::Mqtt => "MQTT without TLS or WebSocket",
            Self::Http => "HTTP",
            Self::Proxy => "the PROXY protocol",
        })
    }
}
