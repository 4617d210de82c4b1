//! The flags `pub` and `sub` share: mosquitto's names for the broker, the session and TLS.

use std::net::IpAddr;
use std::path::PathBuf;

use bytes::Bytes;
use nightjar_mqtt::{ProtocolVersion, QoS};

use crate::cli::properties::{Properties, PropertyArgs};
use crate::endpoint::{Endpoint, Scheme, Url};
use crate::error::{Error, Result};
use crate::message::Message;
use crate::options::ConnectOptions;
use crate::tls::{TlsOptions, TlsVersion};
use crate::transport::Dialer;

/// Where the broker is, who we are, and how to connect.
#[derive(Debug, Clone, clap::Args)]
pub struct ConnectArgs {
    /// Host of the broker
    #[arg(short = 'h', long, default_value = "localhost", conflicts_with = "url")]
    pub host: String,
    /// Port of the broker; 1883, TLS 8883, WebSocket 8083, secure WebSocket 8084, MQTT-SN 1884
    #[arg(short, long, conflicts_with = "url")]
    pub port: Option<u16>,
    /// Broker, credentials and topic, or WebSocket path, in one.
    #[arg(
        short = 'L',
        long,
        help = "Broker and topic as mqtt(s)://[user[:password]@]host[:port]/topic, or the broker as \
                ws(s)://[user[:password]@]host[:port]/path"
    )]
    pub url: Option<String>,
    /// Send from this local address
    #[arg(short = 'A', value_name = "ADDRESS")]
    pub bind: Option<IpAddr>,
    /// Client identifier
    #[arg(short, long, conflicts_with = "id_prefix")]
    pub id: Option<String>,
    /// Client identifier: this and the process id
    #[arg(short = 'I', long)]
    pub id_prefix: Option<String>,
    /// User name
    #[arg(short, long)]
    pub username: Option<String>,
    /// Password
    #[arg(short = 'P', long = "pw", allow_hyphen_values = true)]
    pub password: Option<String>,
    /// MQTT version: 3 or 31, 4 or 311, 5 (also mqttv31, mqttv311, mqttv5) [default: 311]
    #[arg(short = 'V', long = "protocol-version", value_name = "VERSION", value_parser = parse_version)]
    pub version: Option<ProtocolVersion>,
    /// Keep alive in seconds, 0 for none
    #[arg(short, long, default_value_t = 60)]
    pub keepalive: u16,
    /// Keep the session (no clean session); needs --id
    #[arg(short = 'c', long)]
    pub disable_clean_session: bool,
    /// Seconds the session lives after the connection (5.0); -1 or ∞: for ever
    #[arg(short = 'x', value_name = "SECONDS", value_parser = parse_expiry, allow_hyphen_values = true)]
    pub session_expiry: Option<u32>,
    /// QoS 1 and 2 messages in flight at most
    #[arg(short = 'M', value_name = "COUNT", default_value_t = crate::options::DEFAULT_MAX_INFLIGHT)]
    pub max_inflight: u16,
    /// Topic of the will
    #[arg(long)]
    pub will_topic: Option<String>,
    /// Payload of the will
    #[arg(long, allow_hyphen_values = true, requires = "will_topic")]
    pub will_payload: Option<String>,
    /// QoS of the will
    #[arg(long, value_parser = parse_qos, default_value = "0")]
    pub will_qos: QoS,
    /// Retain the will
    #[arg(long, requires = "will_topic")]
    pub will_retain: bool,
    /// Use MQTT over WebSocket
    #[arg(long)]
    pub ws: bool,
    /// Path of the WebSocket request; implies --ws
    #[arg(long, value_name = "PATH")]
    pub ws_path: Option<String>,
    /// Security of the connection
    #[command(flatten)]
    pub tls: TlsArgs,
    /// Properties of 5.0
    #[command(flatten)]
    pub properties: PropertyArgs,
    /// Accepted for habit: delays of small packets are always off
    #[arg(long)]
    pub nodelay: bool,
    /// Print each packet
    #[arg(short, long)]
    pub debug: bool,
    /// Print no errors
    #[arg(long)]
    pub quiet: bool,
}

/// TLS flags. Any of them turns TLS on.
#[derive(Debug, Clone, Default, clap::Args)]
pub struct TlsArgs {
    /// Trust the certificates in this PEM file
    #[arg(long, value_name = "FILE")]
    pub cafile: Option<PathBuf>,
    /// Trust the certificates (.crt, .pem) in this directory
    #[arg(long, value_name = "DIR")]
    pub capath: Option<PathBuf>,
    /// Our certificate chain, PEM
    #[arg(long, alias = "certfile", value_name = "FILE", requires = "key")]
    pub cert: Option<PathBuf>,
    /// Our private key, PEM
    #[arg(long, alias = "keyfile", value_name = "FILE", requires = "cert")]
    pub key: Option<PathBuf>,
    /// Do not check the host name; without --cafile and --capath check no certificate at all
    #[arg(long)]
    pub insecure: bool,
    /// Trust the certificates of the operating system (the default)
    #[arg(long)]
    pub tls_use_os_certs: bool,
    /// Only this version: tlsv1.2 or tlsv1.3
    #[arg(long, value_name = "VERSION", value_parser = parse_tls_version)]
    pub tls_version: Option<TlsVersion>,
    /// Protocol to ask for by ALPN
    #[arg(long, value_name = "PROTOCOL")]
    pub tls_alpn: Option<String>,
}

impl TlsArgs {
    /// True where a flag asks for TLS.
    pub fn is_set(&self) -> bool {
        self.cafile.is_some()
            || self.capath.is_some()
            || self.cert.is_some()
            || self.insecure
            || self.tls_use_os_certs
            || self.tls_version.is_some()
            || self.tls_alpn.is_some()
    }

    /// The options for the transport.
    pub fn options(&self) -> TlsOptions {
        TlsOptions {
            cafile: self.cafile.clone(),
            capath: self.capath.clone(),
            cert: self.cert.clone(),
            key: self.key.clone(),
            insecure: self.insecure,
            version: self.tls_version,
            alpn: self.tls_alpn.clone(),
        }
    }
}

/// Flags turned into what the connection takes.
#[derive(Debug)]
pub struct Target {
    /// Makes the transport.
    pub dialer: Dialer,
    /// What CONNECT says.
    pub options: ConnectOptions,
    /// `-D` properties of other packets.
    pub properties: Properties,
    /// The topic of `-L`.
    pub topic: Option<String>,
}

impl ConnectArgs {
    /// Checks the flags against each other and builds the target.
    ///
    /// # Errors
    /// [`Error::Usage`] and [`Error::File`].
    pub fn target(&self) -> Result<Target> {
        let properties = self.properties.parse()?;
        let version = match self.version {
            None if !self.properties.is_empty() => ProtocolVersion::V5,
            None => ProtocolVersion::V311,
            Some(version) if !version.is_v5() && !self.properties.is_empty() => {
                return Err(Error::Usage(format!(
                    "--property needs MQTT 5, not {version}"
                )));
            }
            Some(version) => version,
        };
        let Url {
            endpoint,
            username,
            password,
            topic,
        } = self.address()?;
        let mut options = ConnectOptions::new(self.client_id(version)?).version(version);
        options.clean_start = !self.disable_clean_session;
        options.keep_alive = self.keepalive;
        options.max_inflight = self.max_inflight.max(1);
        options.username = username;
        options.password = password.map(String::into_bytes);
        if options.password.is_some() && options.username.is_none() && !version.is_v5() {
            return Err(Error::Usage(format!(
                "MQTT {version} has no password without a user name (-u)"
            )));
        }
        options.properties = properties.connect.clone();
        if let Some(expiry) = self.session_expiry {
            options.properties.session_expiry = Some(expiry);
        } else if version.is_v5()
            && self.disable_clean_session
            && options.properties.session_expiry.is_none()
        {
            options.properties.session_expiry = Some(u32::MAX);
        }
        options.will = self.will_topic.as_ref().map(|topic| Message {
            topic: topic.clone(),
            payload: Bytes::from(self.will_payload.clone().unwrap_or_default()),
            qos: self.will_qos,
            retain: self.will_retain,
            properties: properties.will.clone(),
            ..Message::default()
        });
        Ok(Target {
            dialer: Dialer::new(endpoint, &self.tls.options())?.source(self.bind),
            options,
            properties,
            topic,
        })
    }

    /// What the URL says, or the flags in its place; flags for credentials win.
    fn address(&self) -> Result<Url> {
        let mut url = match &self.url {
            Some(url) => Url::parse(url)?,
            None => {
                let tls = self.tls.is_set() || self.port == Some(Scheme::Mqtts.default_port());
                let scheme = Scheme::from_parts(tls, self.ws || self.ws_path.is_some());
                let mut endpoint = Endpoint::new(scheme, self.host.clone());
                endpoint.port = self.port.unwrap_or(endpoint.port);
                Url {
                    endpoint,
                    username: None,
                    password: None,
                    topic: None,
                }
            }
        };
        if let Some(path) = &self.ws_path {
            url.endpoint.path.clone_from(path);
        }
        url.username = self.username.clone().or(url.username);
        url.password = self.password.clone().or(url.password);
        Ok(url)
    }

    pub(crate) fn client_id(&self, version: ProtocolVersion) -> Result<String> {
        if let Some(id) = &self.id {
            return Ok(id.clone());
        }
        if let Some(prefix) = &self.id_prefix {
            return Ok(format!("{prefix}{}", std::process::id()));
        }
        if self.disable_clean_session {
            return Err(Error::Usage(
                "a kept session (-c) needs a client identifier (-i)".to_owned(),
            ));
        }
        // 5.0 brokers choose one; 3.x ones need not take an empty identifier.
        Ok(if version.is_v5() {
            String::new()
        } else {
            format!("nj-{}", random_text(18))
        })
    }
}

/// Letters and digits that differ each time; not for secrets.
pub(crate) fn random_text(length: usize) -> String {
    const ALPHABET: &[u8; 62] = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";
    let mut random = 0u64;
    (0..length)
        .map(|index| {
            if index % 8 == 0 {
                random = random_number();
            }
            let letter = ALPHABET[(random % 62) as usize];
            random /= 62;
            char::from(letter)
        })
        .collect()
}

/// A number that differs each time; not for secrets.
pub(crate) fn random_number() -> u64 {
    use std::hash::{BuildHasher, Hasher};
    // The standard library seeds each process from the system and counts its hashers up.
    std::collections::hash_map::RandomState::new()
        .build_hasher()
        .finish()
}

/// `-V`: 3, 31, 4, 311, 5 and mosquitto's long names.
pub fn parse_version(text: &str) -> std::result::Result<ProtocolVersion, String> {
    match text.to_ascii_lowercase().as_str() {
        "3" | "31" | "3.1" | "mqttv31" => Ok(ProtocolVersion::V31),
        "4" | "311" | "3.1.1" | "mqttv311" => Ok(ProtocolVersion::V311),
        "5" | "50" | "5.0" | "mqttv5" => Ok(ProtocolVersion::V5),
        _ => Err("expected 3 or 31, 4 or 311, 5 (or mqttv31, mqttv311, mqttv5)".to_owned()),
    }
}

/// `-q`: 0, 1 or 2.
pub fn parse_qos(text: &str) -> std::result::Result<QoS, String> {
    text.parse::<u8>()
        .ok()
        .and_then(QoS::from_bits)
        .ok_or_else(|| "expected 0, 1 or 2".to_owned())
}

/// `-q` of `pub`: a QoS of MQTT, or the -1 of MQTT-SN.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PublishQos {
    /// -1: without a connection, never answered.
    MinusOne,
    /// 0, 1 or 2.
    Connected(QoS),
}

impl PublishQos {
    /// The QoS for MQTT.
    ///
    /// # Errors
    /// [`Error::Usage`] for -1.
    pub fn to_mqtt(self) -> Result<QoS> {
        match self {
            Self::Connected(qos) => Ok(qos),
            Self::MinusOne => Err(Error::Usage(
                "QoS -1 is of MQTT-SN: it needs --sn".to_owned(),
            )),
        }
    }

    /// The QoS for MQTT-SN.
    pub fn to_sn(self) -> nightjar_mqttsn::QoS {
        match self {
            Self::MinusOne => nightjar_mqttsn::QoS::MinusOne,
            Self::Connected(qos) => qos.into(),
        }
    }
}

/// `-q` of `pub`: -1, 0, 1 or 2.
pub fn parse_publish_qos(text: &str) -> std::result::Result<PublishQos, String> {
    match text {
        "-1" => Ok(PublishQos::MinusOne),
        _ => parse_qos(text)
            .map(PublishQos::Connected)
            .map_err(|_| "expected 0, 1 or 2, or -1 with --sn".to_owned()),
    }
}

/// `-x`: seconds, or for ever.
fn parse_expiry(text: &str) -> std::result::Result<u32, String> {
    match text {
        "-1" | "∞" => Ok(u32::MAX),
        _ => text
            .parse()
            .map_err(|_| "expected seconds (0 to 4294967295), -1 or ∞".to_owned()),
    }
}

fn parse_tls_version(text: &str) -> std::result::Result<TlsVersion, String> {
    match text {
        "tlsv1.2" => Ok(TlsVersion::Tls12),
        "tlsv1.3" => Ok(TlsVersion::Tls13),
        _ => Err("expected tlsv1.2 or tlsv1.3; older versions are broken".to_owned()),
    }
}
