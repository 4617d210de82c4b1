//! Reason codes of 5.0 and their counterparts in 3.x.

use std::fmt;

/// A reason code of MQTT 5.0 (section 2.4). Below 0x80: success; from 0x80: failure.
///
/// Three meanings share 0x00; see [`ReasonCode::NORMAL_DISCONNECTION`] and [`ReasonCode::GRANTED_QOS_0`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum ReasonCode {
    /// Done; in DISCONNECT "Normal disconnection", in SUBACK "Granted QoS 0".
    Success = 0x00,
    /// SUBACK: the subscription was accepted with maximum QoS 1.
    GrantedQoS1 = 0x01,
    /// SUBACK: the subscription was accepted with maximum QoS 2.
    GrantedQoS2 = 0x02,
    /// DISCONNECT: the client leaves and wants its will published.
    DisconnectWithWill = 0x04,
    /// PUBACK, PUBREC: accepted, nobody subscribes.
    NoMatchingSubscribers = 0x10,
    /// UNSUBACK: there was nothing to remove.
    NoSubscriptionExisted = 0x11,
    /// AUTH: go on with another step.
    ContinueAuthentication = 0x18,
    /// AUTH: start a re-authentication.
    ReAuthenticate = 0x19,
    /// The sender does not say what went wrong.
    UnspecifiedError = 0x80,
    /// The packet could not be parsed.
    MalformedPacket = 0x81,
    /// The packet is well formed and not allowed here.
    ProtocolError = 0x82,
    /// Valid, but not accepted by this receiver.
    ImplementationSpecificError = 0x83,
    /// CONNACK: the protocol level is unknown.
    UnsupportedProtocolVersion = 0x84,
    /// CONNACK: valid UTF-8, but not allowed by the server.
    ClientIdentifierNotValid = 0x85,
    /// CONNACK: the credentials were not accepted.
    BadUserNameOrPassword = 0x86,
    /// The client may not do this.
    NotAuthorized = 0x87,
    /// CONNACK: the server cannot serve now.
    ServerUnavailable = 0x88,
    /// Overloaded; try again later.
    ServerBusy = 0x89,
    /// CONNACK: the client is banned.
    Banned = 0x8A,
    /// DISCONNECT: the server ends.
    ServerShuttingDown = 0x8B,
    /// The authentication method is unknown or has changed.
    BadAuthenticationMethod = 0x8C,
    /// DISCONNECT: no packet for 1.5 times the keep alive.
    KeepAliveTimeout = 0x8D,
    /// DISCONNECT: another connection uses this client identifier.
    SessionTakenOver = 0x8E,
    /// A topic filter is well formed and not accepted.
    TopicFilterInvalid = 0x8F,
    /// A topic name is well formed and not accepted.
    TopicNameInvalid = 0x90,
    /// The packet identifier is in use already.
    PacketIdentifierInUse = 0x91,
    /// PUBREL, PUBCOMP: no such packet identifier.
    PacketIdentifierNotFound = 0x92,
    /// DISCONNECT: more unacknowledged PUBLISH than allowed.
    ReceiveMaximumExceeded = 0x93,
    /// DISCONNECT: alias 0, above the maximum, or unknown.
    TopicAliasInvalid = 0x94,
    /// Larger than the receiver's maximum packet size.
    PacketTooLarge = 0x95,
    /// DISCONNECT: too many messages in a time.
    MessageRateTooHigh = 0x96,
    /// A limit of the implementation was reached.
    QuotaExceeded = 0x97,
    /// DISCONNECT: an operator closed the connection.
    AdministrativeAction = 0x98,
    /// The payload is not what its format indicator says.
    PayloadFormatInvalid = 0x99,
    /// The server has no retained messages.
    RetainNotSupported = 0x9A,
    /// A QoS above the announced maximum.
    QoSNotSupported = 0x9B,
    /// Use another server for a while.
    UseAnotherServer = 0x9C,
    /// Use another server from now on.
    ServerMoved = 0x9D,
    /// The server has no shared subscriptions.
    SharedSubscriptionsNotSupported = 0x9E,
    /// Too many connections in a time.
    ConnectionRateExceeded = 0x9F,
    /// DISCONNECT: the time allowed for this connection is over.
    MaximumConnectTime = 0xA0,
    /// The server has no subscription identifiers.
    SubscriptionIdentifiersNotSupported = 0xA1,
    /// The server has no wildcard subscriptions.
    WildcardSubscriptionsNotSupported = 0xA2,
}

impl ReasonCode {
    /// 0x00 as DISCONNECT names it: close without publishing the will.
    pub const NORMAL_DISCONNECTION: Self = Self::Success;
    /// 0x00 as SUBACK names it.
    pub const GRANTED_QOS_0: Self = Self::Success;

    /// Every reason code, ascending.
    pub const ALL: [Self; 43] = [
        Self::Success,
        Self::GrantedQoS1,
        Self::GrantedQoS2,
        Self::DisconnectWithWill,
        Self::NoMatchingSubscribers,
        Self::NoSubscriptionExisted,
        Self::ContinueAuthentication,
        Self::ReAuthenticate,
        Self::UnspecifiedError,
        Self::MalformedPacket,
        Self::ProtocolError,
        Self::ImplementationSpecificError,
        Self::UnsupportedProtocolVersion,
        Self::ClientIdentifierNotValid,
        Self::BadUserNameOrPassword,
        Self::NotAuthorized,
        Self::ServerUnavailable,
        Self::ServerBusy,
        Self::Banned,
        Self::ServerShuttingDown,
        Self::BadAuthenticationMethod,
        Self::KeepAliveTimeout,
        Self::SessionTakenOver,
        Self::TopicFilterInvalid,
        Self::TopicNameInvalid,
        Self::PacketIdentifierInUse,
        Self::PacketIdentifierNotFound,
        Self::ReceiveMaximumExceeded,
        Self::TopicAliasInvalid,
        Self::PacketTooLarge,
        Self::MessageRateTooHigh,
        Self::QuotaExceeded,
        Self::AdministrativeAction,
        Self::PayloadFormatInvalid,
        Self::RetainNotSupported,
        Self::QoSNotSupported,
        Self::UseAnotherServer,
        Self::ServerMoved,
        Self::SharedSubscriptionsNotSupported,
        Self::ConnectionRateExceeded,
        Self::MaximumConnectTime,
        Self::SubscriptionIdentifiersNotSupported,
        Self::WildcardSubscriptionsNotSupported,
    ];

    /// The reason code with this number, `None` if 5.0 does not define it.
    pub const fn from_u8(value: u8) -> Option<Self> {
        Some(match value {
            0x00 => Self::Success,
            0x01 => Self::GrantedQoS1,
            0x02 => Self::GrantedQoS2,
            0x04 => Self::DisconnectWithWill,
            0x10 => Self::NoMatchingSubscribers,
            0x11 => Self::NoSubscriptionExisted,
            0x18 => Self::ContinueAuthentication,
            0x19 => Self::ReAuthenticate,
            0x80 => Self::UnspecifiedError,
            0x81 => Self::MalformedPacket,
            0x82 => Self::ProtocolError,
            0x83 => Self::ImplementationSpecificError,
            0x84 => Self::UnsupportedProtocolVersion,
            0x85 => Self::ClientIdentifierNotValid,
            0x86 => Self::BadUserNameOrPassword,
            0x87 => Self::NotAuthorized,
            0x88 => Self::ServerUnavailable,
            0x89 => Self::ServerBusy,
            0x8A => Self::Banned,
            0x8B => Self::ServerShuttingDown,
            0x8C => Self::BadAuthenticationMethod,
            0x8D => Self::KeepAliveTimeout,
            0x8E => Self::SessionTakenOver,
            0x8F => Self::TopicFilterInvalid,
            0x90 => Self::TopicNameInvalid,
            0x91 => Self::PacketIdentifierInUse,
            0x92 => Self::PacketIdentifierNotFound,
            0x93 => Self::ReceiveMaximumExceeded,
            0x94 => Self::TopicAliasInvalid,
            0x95 => Self::PacketTooLarge,
            0x96 => Self::MessageRateTooHigh,
            0x97 => Self::QuotaExceeded,
            0x98 => Self::AdministrativeAction,
            0x99 => Self::PayloadFormatInvalid,
            0x9A => Self::RetainNotSupported,
            0x9B => Self::QoSNotSupported,
            0x9C => Self::UseAnotherServer,
            0x9D => Self::ServerMoved,
            0x9E => Self::SharedSubscriptionsNotSupported,
            0x9F => Self::ConnectionRateExceeded,
            0xA0 => Self::MaximumConnectTime,
            0xA1 => Self::SubscriptionIdentifiersNotSupported,
            0xA2 => Self::WildcardSubscriptionsNotSupported,
            _ => return None,
        })
    }

    /// The number on the wire.
    #[inline]
    pub const fn code(self) -> u8 {
        self as u8
    }

    /// True from 0x80 on: the operation failed.
    #[inline]
    pub const fn is_error(self) -> bool {
        self.code() >= 0x80
    }

    /// The name the standard gives, as in "Malformed Packet".
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Success => "Success",
            Self::GrantedQoS1 => "Granted QoS 1",
            Self::GrantedQoS2 => "Granted QoS 2",
            Self::DisconnectWithWill => "Disconnect with Will Message",
            Self::NoMatchingSubscribers => "No matching subscribers",
            Self::NoSubscriptionExisted => "No subscription existed",
            Self::ContinueAuthentication => "Continue authentication",
            Self::ReAuthenticate => "Re-authenticate",
            Self::UnspecifiedError => "Unspecified error",
            Self::MalformedPacket => "Malformed Packet",
            Self::ProtocolError => "Protocol Error",
            Self::ImplementationSpecificError => "Implementation specific error",
            Self::UnsupportedProtocolVersion => "Unsupported Protocol Version",
            Self::ClientIdentifierNotValid => "Client Identifier not valid",
            Self::BadUserNameOrPassword => "Bad User Name or Password",
            Self::NotAuthorized => "Not authorized",
            Self::ServerUnavailable => "Server unavailable",
            Self::ServerBusy => "Server busy",
            Self::Banned => "Banned",
            Self::ServerShuttingDown => "Server shutting down",
            Self::BadAuthenticationMethod => "Bad authentication method",
            Self::KeepAliveTimeout => "Keep Alive timeout",
            Self::SessionTakenOver => "Session taken over",
            Self::TopicFilterInvalid => "Topic Filter invalid",
            Self::TopicNameInvalid => "Topic Name invalid",
            Self::PacketIdentifierInUse => "Packet Identifier in use",
            Self::PacketIdentifierNotFound => "Packet Identifier not found",
            Self::ReceiveMaximumExceeded => "Receive Maximum exceeded",
            Self::TopicAliasInvalid => "Topic Alias invalid",
            Self::PacketTooLarge => "Packet too large",
            Self::MessageRateTooHigh => "Message rate too high",
            Self::QuotaExceeded => "Quota exceeded",
            Self::AdministrativeAction => "Administrative action",
            Self::PayloadFormatInvalid => "Payload format invalid",
            Self::RetainNotSupported => "Retain not supported",
            Self::QoSNotSupported => "QoS not supported",
            Self::UseAnotherServer => "Use another server",
            Self::ServerMoved => "Server moved",
            Self::SharedSubscriptionsNotSupported => "Shared Subscriptions not supported",
            Self::ConnectionRateExceeded => "Connection rate exceeded",
            Self::MaximumConnectTime => "Maximum connect time",
            Self::SubscriptionIdentifiersNotSupported => "Subscription Identifiers not supported",
            Self::WildcardSubscriptionsNotSupported => "Wildcard Subscriptions not supported",
        }
    }

    /// The CONNACK return code of 3.1 and 3.1.1 that says this best.
    ///
    /// 3.x knows only six codes. What has none is 0x03, "server unavailable", which tells a client to try again
    /// later; what a retry cannot mend is 0x05.
    pub const fn connect_return_code(self) -> ConnectReturnCode {
        match self {
            Self::UnsupportedProtocolVersion => ConnectReturnCode::UnacceptableProtocolVersion,
            Self::ClientIdentifierNotValid => ConnectReturnCode::IdentifierRejected,
            Self::BadUserNameOrPassword => ConnectReturnCode::BadUserNameOrPassword,
            Self::NotAuthorized
            | Self::Banned
            | Self::BadAuthenticationMethod
            | Self::TopicNameInvalid
            | Self::PacketTooLarge
            | Self::RetainNotSupported
            | Self::QoSNotSupported => ConnectReturnCode::NotAuthorized,
            code if code.is_error() => ConnectReturnCode::ServerUnavailable,
            _ => ConnectReturnCode::Accepted,
        }
    }

    /// The reason code of a granted QoS in SUBACK.
    #[inline]
    pub const fn granted(qos: crate::QoS) -> Self {
        match qos {
            crate::QoS::AtMostOnce => Self::Success,
            crate::QoS::AtLeastOnce => Self::GrantedQoS1,
            crate::QoS::ExactlyOnce => Self::GrantedQoS2,
        }
    }
}

/// A number that is no reason code of 5.0.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("expected a reason code, got 0x{0:02X}")]
pub struct InvalidReasonCode(pub u8);

impl TryFrom<u8> for ReasonCode {
    type Error = InvalidReasonCode;

    #[inline]
    fn try_from(value: u8) -> Result<Self, InvalidReasonCode> {
        Self::from_u8(value).ok_or(InvalidReasonCode(value))
    }
}

impl From<ReasonCode> for u8 {
    #[inline]
    fn from(code: ReasonCode) -> Self {
        code.code()
    }
}

impl fmt::Display for ReasonCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} (0x{:02X})", self.as_str(), self.code())
    }
}

/// A CONNACK return code of 3.1 and 3.1.1 (section 3.2.2.3 of 3.1.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum ConnectReturnCode {
    /// The connection is accepted.
    Accepted = 0,
    /// The server does not support the protocol level.
    UnacceptableProtocolVersion = 1,
    /// The client identifier is well formed and not allowed.
    IdentifierRejected = 2,
    /// The MQTT service is unavailable.
    ServerUnavailable = 3,
    /// The user name or password was not accepted.
    BadUserNameOrPassword = 4,
    /// The client may not connect.
    NotAuthorized = 5,
}

impl ConnectReturnCode {
    /// The return code with this number, `None` above 5: those are reserved.
    pub const fn from_u8(value: u8) -> Option<Self> {
        Some(match value {
            0 => Self::Accepted,
            1 => Self::UnacceptableProtocolVersion,
            2 => Self::IdentifierRejected,
            3 => Self::ServerUnavailable,
            4 => Self::BadUserNameOrPassword,
            5 => Self::NotAuthorized,
            _ => return None,
        })
    }

    /// The number on the wire.
    #[inline]
    pub const fn code(self) -> u8 {
        self as u8
    }

    /// The reason code of 5.0 with the same meaning; the inverse of [`ReasonCode::connect_return_code`].
    pub const fn reason_code(self) -> ReasonCode {
        match self {
            Self::Accepted => ReasonCode::Success,
            Self::UnacceptableProtocolVersion => ReasonCode::UnsupportedProtocolVersion,
            Self::IdentifierRejected => ReasonCode::ClientIdentifierNotValid,
            Self::ServerUnavailable => ReasonCode::ServerUnavailable,
            Self::BadUserNameOrPassword => ReasonCode::BadUserNameOrPassword,
            Self::NotAuthorized => ReasonCode::NotAuthorized,
        }
    }
}
