//! Who may connect, publish and subscribe: the traits that the gateway asks and that connectors, files and the
//! builtin sources implement.
//!
//! Both traits stand off the message path: an [`Authenticator`] is asked once a CONNECT, an [`Authorizer`] once for
//! each (client, action, topic) that the per-client cache of [`crate::acl`] does not hold.

use std::future::Future;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;

use nightjar_mqtt::{ProtocolVersion, QoS, ReasonCode};

use crate::time::Timestamp;

/// A boxed future of the access traits. They are asked off the message path, so the allocation does not matter.
pub type BoxFuture<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// The protocol a client speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Protocol {
    /// MQTT of this version.
    Mqtt(ProtocolVersion),
    /// MQTT-SN 1.2.
    MqttSn,
}

/// What is known of a client while it is connected: made at CONNECT, shared by everything that judges or lists it.
#[derive(Debug, Clone)]
pub struct ClientInfo {
    /// Client identifier, assigned by the server if the client sent none.
    pub client_id: Arc<str>,
    /// User name of CONNECT, or of the client certificate or PROXY header where the listener says so.
    pub username: Option<Arc<str>>,
    /// Address of the client: the socket's peer, or what a trusted proxy said of it.
    pub peer: SocketAddr,
    /// True if the socket's own peer and the forwarded address, if any, are loopback addresses and no forwarding
    /// header or PROXY header was needed to know it.
    pub loopback: bool,
    /// Name of the listener, such as `tcp:default`.
    pub listener: Arc<str>,
    /// Protocol and version.
    pub protocol: Protocol,
    /// Common name of the verified client certificate.
    pub cert_common_name: Option<Arc<str>>,
    /// Distinguished name of the verified client certificate, RFC 4514 form.
    pub cert_subject: Option<Arc<str>>,
    /// Superusers skip authorization.
    pub superuser: bool,
    /// Rules that came with the credentials (JWT claim, HTTP answer); `None` if none came. Tried before the sources.
    pub rules: Option<Arc<crate::acl::RuleSet>>,
    /// Alternative names of the verified client certificate.
    pub cert_names: Option<Arc<CertNames>>,
    /// When what the client came with (a token) is good no more: then its connection ends. [`Timestamp::NEVER`] of most.
    pub expires_at: Timestamp,
}

impl ClientInfo {
    /// A client of which no more is known than this: without user name, certificate, rules and rights, and on this
    /// machine if its address is.
    #[must_use]
    pub fn new(
        client_id: impl Into<Arc<str>>,
        peer: SocketAddr,
        listener: impl Into<Arc<str>>,
        protocol: Protocol,
    ) -> Self {
        Self {
            client_id: client_id.into(),
            username: None,
            peer,
            loopback: peer.ip().to_canonical().is_loopback(),
            listener: listener.into(),
            protocol,
            cert_common_name: None,
            cert_subject: None,
            superuser: false,
            rules: None,
            cert_names: None,
            expires_at: Timestamp::NEVER,
        }
    }
}

// With the two counts of its `Arc`: one byte more would take 32 of the allocator.
#[cfg(target_pointer_width = "64")]
const _: () = assert!(size_of::<ClientInfo>() + 16 <= 160);

/// Names of a certificate's subjectAltName (RFC 5280 section 4.2.1.6), as they stand there.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct CertNames {
    /// DNS names.
    pub dns: Vec<String>,
    /// E-mail addresses.
    pub email: Vec<String>,
    /// URIs.
    pub uri: Vec<String>,
}

/// The question to an [`Authenticator`].
#[derive(Debug)]
pub struct AuthRequest {
    /// The client as far as it is known; `superuser` and `rules` are not yet set.
    pub client: ClientInfo,
    /// The password of CONNECT. Never logged: its type has no `Debug` output of the content.
    pub password: Option<Secret>,
}

/// Bytes that never show in a log or an error.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(pub Box<[u8]>);

impl std::fmt::Debug for Secret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Secret(..)")
    }
}

/// What an authenticator grants.
#[derive(Debug, Clone, Default)]
pub struct Grant {
    /// Skips authorization.
    pub superuser: bool,
    /// Rules valid for this connection only.
    pub rules: Option<Arc<crate::acl::RuleSet>>,
    /// Takes the place of the user name of CONNECT (certificate, token).
    pub username: Option<Arc<str>>,
    /// When the grant ends (`exp` of a token).
    pub expires_at: Option<Timestamp>,
}

/// The answer of one authenticator.
#[derive(Debug, Clone)]
pub enum AuthAnswer {
    /// Let in; the chain stops.
    Allow(Grant),
    /// Known and refused (wrong password): the chain stops. The code goes to the client.
    Deny(ReasonCode),
    /// Not known here: the next one is asked.
    Ignore,
    /// The backend failed: the chain stops with Server unavailable (0x88, 3.x 0x03). The text goes to the log only.
    Unavailable(String),
}

/// One link of the authentication chain.
pub trait Authenticator: Send + Sync {
    /// Kind and place, for logs and metrics: `file users`.
    fn name(&self) -> &str;
    /// Judges a CONNECT. Errors are answers: [`AuthAnswer::Unavailable`].
    fn authenticate<'a>(&'a self, request: &'a AuthRequest) -> BoxFuture<'a, AuthAnswer>;
    /// After this time the chain stops waiting and answers Server unavailable. `None` for one that bounds its own time:
    /// waiting for the password hash of others must not count as a slow backend.
    fn time_limit(&self) -> Option<std::time::Duration> {
        Some(std::time::Duration::from_secs(5))
    }
    /// Reads its file again, if it has one. On an error, whose text is returned, what was in force stays so.
    fn reload(&self) -> Result<(), String> {
        Ok(())
    }
}

/// One step of an enhanced authentication exchange (MQTT 5.0 section 4.12).
#[derive(Debug, Clone)]
pub enum ExchangeStep {
    /// Send AUTH 0x18 with this data and wait for the client's.
    Continue(Vec<u8>),
    /// Done: send this data with CONNACK (or AUTH 0x00 when re-authenticating).
    Success {
        /// Authentication Data of the final packet.
        data: Option<Vec<u8>>,
        /// What is granted.
        grant: Grant,
    },
    /// Refused with this code.
    Fail(ReasonCode),
}

/// A running exchange of one client.
pub trait Exchange: Send {
    /// Takes the client's Authentication Data and says what comes next.
    fn step<'a>(&'a mut self, data: &'a [u8]) -> BoxFuture<'a, ExchangeStep>;
}

/// An enhanced authentication method, found by the Authentication Method property.
pub trait ExchangeMethod: Send + Sync {
    /// The Authentication Method it serves, such as `SCRAM-SHA-256`.
    fn method(&self) -> &str;
    /// Begins an exchange for a client.
    fn begin(&self, client: &ClientInfo) -> Box<dyn Exchange>;
}

/// What a client wants to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Action<'a> {
    /// PUBLISH, or the will at CONNECT.
    Publish {
        /// Topic name.
        topic: &'a str,
        /// QoS of the message.
        qos: QoS,
        /// Retain flag of the message.
        retain: bool,
    },
    /// One topic filter of SUBSCRIBE; of a shared subscription the part behind `$share/name/`.
    Subscribe {
        /// Topic filter.
        filter: &'a str,
        /// Requested maximum QoS.
        qos: QoS,
    },
}

impl<'a> Action<'a> {
    /// The topic name, or of a subscription the topic filter.
    pub fn topic(self) -> &'a str {
        match self {
            Self::Publish { topic, .. } => topic,
            Self::Subscribe { filter, .. } => filter,
        }
    }
}

/// Verdict of an authorization source.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// Allowed.
    Allow,
    /// Denied.
    Deny,
    /// A subscription is allowed, but an earlier deny rule overlaps it: each delivery is checked by
    /// [`Authorizer::may_deliver`].
    AllowChecked,
    /// No rule of this source speaks of it: the next source is asked.
    NoMatch,
    /// As [`Verdict::NoMatch`], but a deny rule overlaps the asked filter: if a later source allows the subscription,
    /// it is [`Verdict::AllowChecked`].
    NoMatchChecked,
}

impl Verdict {
    /// True if the action may be done, with or without checks of each delivery.
    pub fn allowed(self) -> bool {
        matches!(self, Self::Allow | Self::AllowChecked)
    }
}

/// The answer of a source: at once, or after asking a database.
pub enum Answer<'a> {
    /// Known now.
    Now(Verdict),
    /// To be awaited; `Err` is the text for the log, and counts as deny.
    Later(BoxFuture<'a, Result<Verdict, String>>),
}

/// One authorization source.
pub trait Authorizer: Send + Sync {
    /// Kind and place, for logs and `acl test`: `file etc/acl.conf`.
    fn name(&self) -> &str;
    /// Judges one action of one client.
    fn authorize<'a>(&'a self, client: &'a ClientInfo, action: Action<'a>) -> Answer<'a>;
    /// After [`Verdict::AllowChecked`] or [`Verdict::NoMatchChecked`] for a subscription of `filter` with `qos`: may a
    /// message of this topic go to this client? [`Verdict::NoMatch`] asks the next source.
    ///
    /// A source that asks a database answers from what it fetched for the subscription, and denies without it.
    fn may_deliver(&self, client: &ClientInfo, filter: &str, qos: QoS, topic: &str) -> Verdict;
    /// Says in words which rule decides, for `acl test`: `None` if no rule matches.
    fn explain(&self, client: &ClientInfo, action: Action<'_>) -> Option<String>;
    /// Reads its file again, if it has one. On an error, whose text is returned, what was in force stays so.
    fn reload(&self) -> Result<(), String> {
        Ok(())
    }
}
