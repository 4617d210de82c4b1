//! What a client says in CONNECT, and how it behaves.

use std::time::Duration;

use nightjar_mqtt::ProtocolVersion;
use nightjar_mqtt::packet::{Connect, ConnectProperties};

use crate::message::{Message, borrow};
use crate::session::Tracer;

/// Messages in flight towards the broker when the caller sets nothing, as Mosquitto's tools do it.
pub const DEFAULT_MAX_INFLIGHT: u16 = 20;

/// Everything a connection is opened with.
#[derive(Debug, Clone)]
pub struct ConnectOptions {
    /// The version to speak.
    pub version: ProtocolVersion,
    /// The client identifier, perhaps empty.
    pub client_id: String,
    /// Clean Start; Clean Session in 3.x.
    pub clean_start: bool,
    /// Keep alive in seconds, 0 turns it off.
    pub keep_alive: u16,
    /// The user name.
    pub username: Option<String>,
    /// The password; without a user name only in 5.0.
    pub password: Option<Vec<u8>>,
    /// The will.
    pub will: Option<Message>,
    /// 5.0: the properties.
    pub properties: ConnectionProperties,
    /// QoS 1 and 2 messages sent and not acknowledged at most; the broker's receive maximum counts
    /// too.
    pub max_inflight: u16,
    /// Acknowledge messages as they arrive. Otherwise the caller does it for each.
    pub auto_ack: bool,
    /// How long the broker may take to answer CONNECT, SUBSCRIBE, UNSUBSCRIBE and a PUBLISH.
    pub timeout: Duration,
    /// Events held while a call waits for its answer; beyond it the call fails.
    pub inbox: usize,
    /// Sees every packet, for debug output.
    pub tracer: Option<Tracer>,
}

/// The 5.0 properties of CONNECT, owned. `None` is not sent.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ConnectionProperties {
    /// Seconds the session lives after the connection.
    pub session_expiry: Option<u32>,
    /// QoS 1 and 2 messages this side handles at once.
    pub receive_maximum: Option<u16>,
    /// The largest packet this side accepts, in bytes.
    pub maximum_packet_size: Option<u32>,
    /// The highest topic alias this side accepts.
    pub topic_alias_maximum: Option<u16>,
    /// Ask for response information.
    pub request_response_information: Option<bool>,
    /// Ask for reason strings and user properties on failures.
    pub request_problem_information: Option<bool>,
    /// User properties in order.
    pub user_properties: Vec<(String, String)>,
    /// The method of enhanced authentication.
    pub authentication_method: Option<String>,
    /// Data of that method.
    pub authentication_data: Option<Vec<u8>>,
}

impl ConnectOptions {
    /// MQTT 3.1.1, clean session, keep alive 60 s, acknowledgements sent at once.
    pub fn new(client_id: impl Into<String>) -> Self {
        Self {
            version: ProtocolVersion::V311,
            client_id: client_id.into(),
            clean_start: true,
            keep_alive: 60,
            username: None,
            password: None,
            will: None,
            properties: ConnectionProperties::default(),
            max_inflight: DEFAULT_MAX_INFLIGHT,
            auto_ack: true,
            timeout: Duration::from_secs(30),
            inbox: 10_000,
            tracer: None,
        }
    }

    /// The same with another version.
    pub fn version(mut self, version: ProtocolVersion) -> Self {
        self.version = version;
        self
    }

    /// The same with Clean Start as given.
    pub fn clean_start(mut self, clean_start: bool) -> Self {
        self.clean_start = clean_start;
        self
    }

    /// The same with a will.
    pub fn will(mut self, will: Message) -> Self {
        self.will = Some(will);
        self
    }

    /// The same with credentials.
    pub fn credentials(
        mut self,
        username: impl Into<String>,
        password: impl Into<Vec<u8>>,
    ) -> Self {
        self.username = Some(username.into());
        self.password = Some(password.into());
        self
    }

    /// The CONNECT packet.
    pub(crate) fn to_connect(&self) -> Connect<'_> {
        let properties = &self.properties;
        Connect {
            version: self.version,
            bridge: false,
            clean_start: self.clean_start,
            keep_alive: self.keep_alive,
            client_id: &self.client_id,
            will: self.will.as_ref().map(Message::to_will),
            username: self.username.as_deref(),
            password: self.password.as_deref(),
            properties: ConnectProperties {
                session_expiry_interval: properties.session_expiry,
                receive_maximum: properties.receive_maximum,
                maximum_packet_size: properties.maximum_packet_size,
                topic_alias_maximum: properties.topic_alias_maximum,
                request_response_information: properties.request_response_information,
                request_problem_information: properties.request_problem_information,
                user_properties: borrow(&properties.user_properties),
                authentication_method: properties.authentication_method.as_deref(),
                authentication_data: properties.authentication_data.as_deref(),
            },
        }
    }
}
