//! The Flags octet (section 5.3.4) and what it holds.

/// Quality of service, with the fourth value that MQTT-SN adds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum QoS {
    /// -1: a PUBLISH without connection, registration or answer (section 6.8).
    MinusOne,
    /// 0.
    AtMostOnce,
    /// 1.
    AtLeastOnce,
    /// 2.
    ExactlyOnce,
}

impl QoS {
    const fn from_bits(bits: u8) -> QoS {
        match bits & 0b11 {
            0b00 => QoS::AtMostOnce,
            0b01 => QoS::AtLeastOnce,
            0b10 => QoS::ExactlyOnce,
            _ => QoS::MinusOne,
        }
    }

    const fn bits(self) -> u8 {
        match self {
            QoS::AtMostOnce => 0b00,
            QoS::AtLeastOnce => 0b01,
            QoS::ExactlyOnce => 0b10,
            QoS::MinusOne => 0b11,
        }
    }

    /// -1 to 2.
    pub const fn level(self) -> i8 {
        match self {
            QoS::MinusOne => -1,
            QoS::AtMostOnce => 0,
            QoS::AtLeastOnce => 1,
            QoS::ExactlyOnce => 2,
        }
    }

    /// The QoS of MQTT; `None` for -1, which MQTT has not.
    pub const fn to_mqtt(self) -> Option<nightjar_mqtt::QoS> {
        match self {
            QoS::MinusOne => None,
            QoS::AtMostOnce => Some(nightjar_mqtt::QoS::AtMostOnce),
            QoS::AtLeastOnce => Some(nightjar_mqtt::QoS::AtLeastOnce),
            QoS::ExactlyOnce => Some(nightjar_mqtt::QoS::ExactlyOnce),
        }
    }

    /// The value for a level of -1 to 2.
    pub const fn from_level(level: i8) -> Option<QoS> {
        match level {
            -1 => Some(QoS::MinusOne),
            0 => Some(QoS::AtMostOnce),
            1 => Some(QoS::AtLeastOnce),
            2 => Some(QoS::ExactlyOnce),
            _ => None,
        }
    }
}

impl From<nightjar_mqtt::QoS> for QoS {
    fn from(qos: nightjar_mqtt::QoS) -> QoS {
        match qos {
            nightjar_mqtt::QoS::AtMostOnce => QoS::AtMostOnce,
            nightjar_mqtt::QoS::AtLeastOnce => QoS::AtLeastOnce,
            nightjar_mqtt::QoS::ExactlyOnce => QoS::ExactlyOnce,
        }
    }
}

/// How the topic of a message is written (bits 1-0).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum TopicIdType {
    /// 0b00: a normal topic id; in SUBSCRIBE and UNSUBSCRIBE a topic name.
    Normal,
    /// 0b01: a predefined topic id.
    Predefined,
    /// 0b10: a short topic name.
    ShortName,
    /// 0b11.
    Reserved,
}

/// The Flags octet as it is on the wire. Each message uses some of it; the messages' own types hold only those parts, so
/// this type is for those who look at raw datagrams.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct Flags(pub u8);

impl Flags {
    const DUP: u8 = 0x80;
    const RETAIN: u8 = 0x10;
    const WILL: u8 = 0x08;
    const CLEAN_SESSION: u8 = 0x04;

    /// DUP, bit 7: sent before.
    pub const fn dup(self) -> bool {
        self.0 & Self::DUP != 0
    }

    /// QoS, bits 6-5.
    pub const fn qos(self) -> QoS {
        QoS::from_bits(self.0 >> 5)
    }

    /// Retain, bit 4.
    pub const fn retain(self) -> bool {
        self.0 & Self::RETAIN != 0
    }

    /// Will, bit 3: CONNECT asks to be prompted for a will.
    pub const fn will(self) -> bool {
        self.0 & Self::WILL != 0
    }

    /// CleanSession, bit 2.
    pub const fn clean_session(self) -> bool {
        self.0 & Self::CLEAN_SESSION != 0
    }

    /// TopicIdType, bits 1-0.
    pub const fn topic_id_type(self) -> TopicIdType {
        match self.0 & 0b11 {
            0b00 => TopicIdType::Normal,
            0b01 => TopicIdType::Predefined,
            0b10 => TopicIdType::ShortName,
            _ => TopicIdType::Reserved,
        }
    }

    /// With DUP set to this.
    pub const fn with_dup(self, dup: bool) -> Flags {
        self.with(Self::DUP, dup)
    }

    /// With this QoS.
    pub const fn with_qos(self, qos: QoS) -> Flags {
        Flags(self.0 & !0x60 | qos.bits() << 5)
    }

    /// With Retain set to this.
    pub const fn with_retain(self, retain: bool) -> Flags {
        self.with(Self::RETAIN, retain)
    }

    /// With Will set to this.
    pub const fn with_will(self, will: bool) -> Flags {
        self.with(Self::WILL, will)
    }

    /// With CleanSession set to this.
    pub const fn with_clean_session(self, clean_session: bool) -> Flags {
        self.with(Self::CLEAN_SESSION, clean_session)
    }

    /// With this TopicIdType.
    pub const fn with_topic_id_type(self, topic_id_type: TopicIdType) -> Flags {
        let bits = match topic_id_type {
            TopicIdType::Normal => 0b00,
            TopicIdType::Predefined => 0b01,
            TopicIdType::ShortName => 0b10,
            TopicIdType::Reserved => 0b11,
        };
        Flags(self.0 & !0b11 | bits)
    }

    const fn with(self, bit: u8, on: bool) -> Flags {
        Flags(if on { self.0 | bit } else { self.0 & !bit })
    }
}
