//! MQTT over WebSocket (RFC 6455, MQTT 5.0 section 6): the server's half, written for MQTT's use of it.
//!
//! MQTT sees a WebSocket as a byte stream [MQTT-6.0.0-2], so nothing is ever collected into messages: [`frame`]
//! unmasks payload in place, in the caller's buffer, as it arrives, and [`stream`] writes the caller's bytes behind a
//! frame header of at most ten bytes. An idle connection holds no buffer at all; a general WebSocket library keeps
//! between 1 KiB and 134 KB for it. [`handshake`] is the HTTP/1.1 upgrade with its checks, [`http`] the request head.

pub mod frame;
pub mod handshake;
pub mod http;
pub mod stream;

pub use handshake::{StatusAnswer, StatusSource, WsPath, WsSettings};
pub use http::HttpInfo;
pub use stream::WsStream;
