//! Protocol versions and the level byte of CONNECT.

use std::fmt;

/// Bit of the level byte that bridges of 3.1 and 3.1.1 set to say "I am a bridge".
///
/// It is not in any standard; Mosquitto and others send it, and 5.0 never carries it.
pub const BRIDGE_BIT: u8 = 0x80;

/// A version of MQTT, named by its protocol level.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum ProtocolVersion {
    /// MQTT 3.1: name `MQIsdp`, level 3.
    V31 = 3,
    /// MQTT 3.1.1: name `MQTT`, level 4.
    V311 = 4,
    /// MQTT 5.0: name `MQTT`, level 5.
    V5 = 5,
}

impl ProtocolVersion {
    /// Every version, oldest first.
    pub const ALL: [Self; 3] = [Self::V31, Self::V311, Self::V5];

    /// The protocol level as CONNECT carries it, without the bridge bit.
    #[inline]
    pub const fn level(self) -> u8 {
        self as u8
    }

    /// The protocol name as CONNECT carries it.
    pub const fn protocol_name(self) -> &'static str {
        match self {
            Self::V31 => "MQIsdp",
            Self::V311 | Self::V5 => "MQTT",
        }
    }

    /// True for 5.0, the only version with properties and reason codes.
    #[inline]
    pub const fn is_v5(self) -> bool {
        matches!(self, Self::V5)
    }

    /// The version for a level byte without the bridge bit, if there is one.
    pub const fn from_level(level: u8) -> Option<Self> {
        match level {
            3 => Some(Self::V31),
            4 => Some(Self::V311),
            5 => Some(Self::V5),
            _ => None,
        }
    }
}

impl fmt::Display for ProtocolVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::V31 => "3.1",
            Self::V311 => "3.1.1",
            Self::V5 => "5.0",
        })
    }
}
