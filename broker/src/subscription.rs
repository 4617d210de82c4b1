//! What a subscriber asked for with a topic filter.

use nightjar_mqtt::QoS;

/// Retain Handling of a subscription [MQTT-3.3.1-9..-11].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum RetainHandling {
    /// 0: send retained messages at each SUBSCRIBE.
    #[default]
    Always,
    /// 1: send them only if the subscription did not exist.
    IfNew,
    /// 2: do not send them.
    Never,
}

/// Subscription options in one byte: QoS, No Local, Retain As Published, Retain Handling, and whether each delivery
/// must be checked against a deny rule that overlaps the filter.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct SubOptions(u8);

impl SubOptions {
    const NO_LOCAL: u8 = 1 << 2;
    const RETAIN_AS_PUBLISHED: u8 = 1 << 3;
    const CHECKED: u8 = 1 << 6;

    /// Options with this granted QoS and nothing else set.
    #[must_use]
    pub const fn new(qos: QoS) -> Self {
        Self(qos as u8)
    }

    /// From the byte of [`Self::bits`]; bits that have no meaning are dropped.
    #[must_use]
    pub const fn from_bits(bits: u8) -> Self {
        Self(bits & 0x7f)
    }

    /// The byte, for logs of the durable backend.
    #[must_use]
    pub const fn bits(self) -> u8 {
        self.0
    }

    /// Sets No Local.
    #[must_use]
    pub const fn with_no_local(self, on: bool) -> Self {
        self.with(Self::NO_LOCAL, on)
    }

    /// Sets Retain As Published.
    #[must_use]
    pub const fn with_retain_as_published(self, on: bool) -> Self {
        self.with(Self::RETAIN_AS_PUBLISHED, on)
    }

    /// Sets Retain Handling.
    #[must_use]
    pub const fn with_retain_handling(self, handling: RetainHandling) -> Self {
        Self(self.0 & !0x30 | (handling as u8) << 4)
    }

    /// Sets the per-delivery check.
    #[must_use]
    pub const fn with_checked(self, on: bool) -> Self {
        self.with(Self::CHECKED, on)
    }

    const fn with(self, bit: u8, on: bool) -> Self {
        if on {
            Self(self.0 | bit)
        } else {
            Self(self.0 & !bit)
        }
    }

    /// Granted QoS.
    #[must_use]
    #[inline]
    pub const fn qos(self) -> QoS {
        match self.0 & 3 {
            0 => QoS::AtMostOnce,
            1 => QoS::AtLeastOnce,
            _ => QoS::ExactlyOnce,
        }
    }

    /// No Local: not the subscriber's own messages [MQTT-3.8.3-3].
    #[must_use]
    #[inline]
    pub const fn no_local(self) -> bool {
        self.0 & Self::NO_LOCAL != 0
    }

    /// Retain As Published [MQTT-3.3.1-13].
    #[must_use]
    #[inline]
    pub const fn retain_as_published(self) -> bool {
        self.0 & Self::RETAIN_AS_PUBLISHED != 0
    }

    /// Retain Handling.
    #[must_use]
    pub const fn retain_handling(self) -> RetainHandling {
        match self.0 >> 4 & 3 {
            0 => RetainHandling::Always,
            1 => RetainHandling::IfNew,
            _ => RetainHandling::Never,
        }
    }

    /// Must each delivery be checked against a deny rule?
    #[must_use]
    #[inline]
    pub const fn checked(self) -> bool {
        self.0 & Self::CHECKED != 0
    }
}

/// A subscription of one session: options and Subscription Identifier (0: none).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Subscription {
    /// Options.
    pub options: SubOptions,
    /// Subscription Identifier, 1 to 268,435,455; 0 means none.
    pub id: u32,
}
