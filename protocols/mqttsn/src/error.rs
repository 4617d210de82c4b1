//! Why a datagram is not a message, or a message cannot become a datagram.

use crate::types::MsgType;

/// What the size of a variable part should have been, in octets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Expected {
    /// Exactly this many.
    Exactly(usize),
    /// This many or more.
    AtLeast(usize),
    /// One of the two.
    Either(usize, usize),
}

impl std::fmt::Display for Expected {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Expected::Exactly(n) => write!(f, "{n}"),
            Expected::AtLeast(n) => write!(f, "at least {n}"),
            Expected::Either(a, b) => write!(f, "{a} or {b}"),
        }
    }
}

/// An MQTT-SN codec error. Decoding errors are the sender's fault and a repeat of the same bytes fails again; encoding
/// errors are the caller's.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The datagram ends within the header (section 5.2).
    #[error("header needs {expected} octets, the datagram has {got}")]
    HeaderTruncated {
        /// Octets of a header of this form.
        expected: usize,
        /// Octets in the datagram.
        got: usize,
    },
    /// The Length field is smaller than the header it is part of (section 5.2.1).
    #[error("Length is {got}, less than the {expected} octets of the header")]
    LengthTooSmall {
        /// Octets of a header of this form.
        expected: usize,
        /// Value of the Length field.
        got: usize,
    },
    /// The Length field promises more octets than the datagram has.
    #[error("Length is {expected}, the datagram has only {got} octets")]
    Truncated {
        /// Value of the Length field.
        expected: usize,
        /// Octets in the datagram.
        got: usize,
    },
    /// Octets follow the message: a datagram holds one message (section 5.1).
    #[error("Length is {expected}, the datagram has {got} octets")]
    TrailingBytes {
        /// Value of the Length field.
        expected: usize,
        /// Octets in the datagram.
        got: usize,
    },
    /// A MsgType that section 5.2.2 reserves.
    #[error("message type {got:#04x} is reserved")]
    ReservedMsgType {
        /// The MsgType octet.
        got: u8,
    },
    /// The variable part has not the size that this message type asks for.
    #[error("variable part of {message} has {got} octets, expected {expected}")]
    VariablePart {
        /// The message type.
        message: MsgType,
        /// Size by the standard.
        expected: Expected,
        /// Size found.
        got: usize,
    },
    /// The topic at the end of a SUBSCRIBE or UNSUBSCRIBE is a predefined id or a short name and not 2 octets long.
    #[error("topic of {message} has {got} octets, expected {expected}")]
    TopicSize {
        /// The message type.
        message: MsgType,
        /// Always 2.
        expected: usize,
        /// Octets found.
        got: usize,
    },
    /// TopicIdType 0b11 (section 5.3.4), which says nothing about how to read the topic.
    #[error("TopicIdType of {message} is 0b11, expected 0b00 to 0b10")]
    ReservedTopicIdType {
        /// The message type.
        message: MsgType,
    },
    /// A text field is not UTF-8.
    #[error(
        "{field} of {message} is not UTF-8: expected a character at octet {valid_up_to}, got {got:#04x}"
    )]
    NotUtf8 {
        /// The message type.
        message: MsgType,
        /// The standard's name of the field.
        field: &'static str,
        /// Octets of the field that are UTF-8.
        valid_up_to: usize,
        /// The octet that is not.
        got: u8,
    },
    /// A forwarder encapsulation where a bare message is expected: inside another encapsulation, or in
    /// [`Message::decode`](crate::Message::decode).
    #[error("expected a message, got a forwarder encapsulation")]
    NestedEncapsulation,
    /// The message to encode is longer than the Length field can say.
    #[error("{message} of {got} octets, at most {expected} can be encoded")]
    TooLong {
        /// The message type.
        message: MsgType,
        /// The limit, [`MAX_MESSAGE_LEN`](crate::MAX_MESSAGE_LEN) or that of an encapsulation's node id.
        expected: usize,
        /// Octets that the message would have.
        got: usize,
    },
}

impl Error {
    /// A short label for a counter of refused datagrams; the same for all errors of one kind, stable between releases.
    pub fn reason(&self) -> &'static str {
        match self {
            Error::HeaderTruncated { .. } => "header_truncated",
            Error::LengthTooSmall { .. } => "length_too_small",
            Error::Truncated { .. } => "truncated",
            Error::TrailingBytes { .. } => "trailing_bytes",
            Error::ReservedMsgType { .. } => "reserved_type",
            Error::VariablePart { .. } => "variable_part",
            Error::TopicSize { .. } => "topic_size",
            Error::ReservedTopicIdType { .. } => "topic_id_type",
            Error::NotUtf8 { .. } => "not_utf8",
            Error::NestedEncapsulation => "nested_encapsulation",
            Error::TooLong { .. } => "too_long",
        }
    }

    /// Every label that [`Error::reason`] gives, so that counters can be laid out beforehand.
    pub const REASONS: [&'static str; 11] = [
        "header_truncated",
        "length_too_small",
        "truncated",
        "trailing_bytes",
        "reserved_type",
        "variable_part",
        "topic_size",
        "topic_id_type",
        "not_utf8",
        "nested_encapsulation",
        "too_long",
    ];

    /// The message type, as far as the datagram got to say it.
    pub fn message(&self) -> Option<MsgType> {
        match *self {
            Error::VariablePart { message, .. }
            | Error::TopicSize { message, .. }
            | Error::ReservedTopicIdType { message }
            | Error::NotUtf8 { message, .. }
            | Error::TooLong { message, .. } => Some(message),
            Error::NestedEncapsulation => Some(MsgType::Encapsulated),
            _ => None,
        }
    }
}
