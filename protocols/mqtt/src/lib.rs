//! The MQTT codec of Nightjar: 3.1, 3.1.1 and 5.0, both directions.
//!
//! sans-IO: bytes in, packets out, packets in, bytes out. No socket, no runtime, no clock.

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
