//! Codec of MQTT-SN 1.2 (14 November 2013), the MQTT of sensor networks, over datagrams.
//!
//! Bytes in, messages out: no socket, no clock, no allocation in decoding. A datagram holds one [`Frame`]: a
//! [`Message`], bare or wrapped by a forwarder ([`Encapsulation`]). Decoded messages borrow from the datagram.
//!
//! ```
//! use nightjar_mqttsn::{Frame, Message, PublishTopic, QoS};
//!
//! // PUBLISH, QoS 0, predefined topic id 7, data "21".
//! let frame = Frame::decode(&[9, 0x0C, 0x01, 0, 7, 0, 0, b'2', b'1'])?;
//! let Message::Publish(publish) = frame.message else { panic!("a PUBLISH was sent") };
//! assert_eq!(publish.topic, PublishTopic::Predefined(7));
//! assert_eq!((publish.qos, publish.data), (QoS::AtMostOnce, &b"21"[..]));
//!
//! let mut answer = Vec::new();
//! Frame::from(Message::PingResp).encode(&mut answer)?;
//! assert_eq!(answer, [2, 0x17]);
//! # Ok::<(), nightjar_mqttsn::Error>(())
//! ```
//!
//! # What decoding refuses and what it passes on
//!
//! Refused, with an [`Error`] and without any effect, is what has no one meaning: a Length field that is not the size of the
//! datagram, a reserved message type, a variable part of the wrong size, the reserved TopicIdType, text that is not UTF-8,
//! an encapsulation inside an encapsulation. Passed on is what a gateway can answer with a return code: client
//! identifiers of any length, an unknown ProtocolId, topic ids 0x0000 and 0xFFFF, QoS -1 outside PUBLISH, empty and invalid
//! topic names, reserved return codes. Bits that a message does not use are ignored when decoding, as the standard has
//! it ("not used", section 5.4), and are 0 when encoding.
//!
//! The layouts are fixed but for one field at the end, so slice patterns state them exactly and no parser library is used.
#![forbid(unsafe_code)]

mod classify;
pub mod client;
mod error;
mod flags;
mod frame;
mod header;
mod message;
mod types;

pub use classify::{Dialect, classify};
pub use error::{Error, Expected};
pub use flags::{Flags, QoS, TopicIdType};
pub use frame::{Encapsulation, Frame};
pub use header::MAX_MESSAGE_LEN;
pub use message::{
    Advertise, Connect, GwInfo, Message, PubAck, Publish, RegAck, Register, SubAck, Subscribe,
    Unsubscribe, WillTopic,
};
pub use types::{FilterOrId, MsgType, PROTOCOL_ID, PublishTopic, ReturnCode};
