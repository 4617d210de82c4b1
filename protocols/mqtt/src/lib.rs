//! The MQTT codec of Nightjar: 3.1, 3.1.1 and 5.0, both directions, for brokers, clients and bridges alike.
//!
//! sans-IO: bytes in, packets out; packets in, bytes out. No socket, no runtime, no clock.
//!
//! - [`Decoder`] reads one packet from the start of a buffer, borrowing from it, and applies every rule of the three
//!   standards that can be judged from one packet; [`DecodeError`] says what was expected and what came, and which reason
//!   code to answer. What needs the connection's state (aliases, packet identifiers in use, quotas) is the caller's.
//! - [`Packet::encode`] writes any packet; [`packet::PublishHead`] and [`packet::encode_ack`] are the short ways for what
//!   a broker sends most.
//! - [`topic`] has the types, the rules and the plain matching of topic names and filters.
//!
//! ```
//! use nightjar_mqtt::{Decoded, Decoder, Packet, ProtocolVersion, ReasonCode, packet::Connack};
//!
//! let received = b"\x10\x0D\0\x04MQTT\x04\x02\0\x3C\0\x01c";
//! let Decoded::Packet { packet: Packet::Connect(connect), consumed } = Decoder::server(1024).decode(received)? else {
//!     panic!("the CONNECT is all there");
//! };
//! assert_eq!((connect.version, connect.client_id, consumed), (ProtocolVersion::V311, "c", received.len()));
//!
//! let mut answer = Vec::new();
//! Packet::Connack(Box::new(Connack::new(false, ReasonCode::Success))).encode(connect.version, &mut answer)?;
//! assert_eq!(answer, [0x20, 2, 0, 0]);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

#![forbid(unsafe_code)]

mod decoder;
mod error;
#[cfg(feature = "fuzzing")]
pub mod fuzzing;
pub mod packet;
mod packet_type;
mod qos;
mod reason;
pub mod topic;
mod version;
mod wire;

pub use decoder::{Decoded, Decoder, Role};
pub use error::{DecodeError, EncodeError};
pub use packet::Packet;
pub use packet_type::PacketType;
pub use qos::{InvalidQoS, QoS};
pub use reason::{ConnectReturnCode, InvalidReasonCode, ReasonCode};
pub use topic::{TopicError, TopicFilter, TopicName, validate_topic_filter, validate_topic_name};
pub use version::{BRIDGE_BIT, ProtocolVersion};
