//! Where a broker is: scheme, host, port and path, from flags or from a URL.

use std::fmt;

use crate::error::{Error, Result};

/// The default path of MQTT over WebSocket.
pub const WEBSOCKET_PATH: &str = "/mqtt";

/// How packets travel. The protocol is part of it: a scheme of MQTT-SN joins this list.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Scheme {
    /// `mqtt://`: MQTT over TCP.
    Mqtt,
    /// `mqtts://`: MQTT over TLS.
    Mqtts,
    /// `ws://`: MQTT in binary WebSocket frames.
    Ws,
    /// `wss://`: the same over TLS.
    Wss,
}

impl Scheme {
    /// The scheme by its name in a URL. `tcp` and `ssl` are accepted for `mqtt` and `mqtts`.
    pub fn from_name(name: &str) -> Option<Self> {
        Some(match name {
            "mqtt" | "tcp" => Self::Mqtt,
            "mqtts" | "ssl" | "tls" => Self::Mqtts,
            "ws" => Self::Ws,
            "wss" => Self::Wss,
            _ => return None,
        })
    }

    /// The scheme's name in a URL.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Mqtt => "mqtt",
            Self::Mqtts => "mqtts",
            Self::Ws => "ws",
            Self::Wss => "wss",
        }
    }

    /// The port when none is given: Nightjar's listeners, 1883, 8883, 8083, 8084.
    pub const fn default_port(self) -> u16 {
        match self {
            Self::Mqtt => 1883,
            Self::Mqtts => 8883,
            Self::Ws => 8083,
            Self::Wss => 8084,
        }
    }

    /// True where TLS is part of it.
    pub const fn is_tls(self) -> bool {
        matches!(self, Self::Mqtts | Self::Wss)
    }

    /// True where WebSocket frames are part of it.
    pub const fn is_websocket(self) -> bool {
        matches!(self, Self::Ws | Self::Wss)
    }

    /// The scheme with or without TLS and WebSocket.
    pub const fn from_parts(tls: bool, websocket: bool) -> Self {
        match (tls, websocket) {
            (false, false) => Self::Mqtt,
            (true, false) => Self::Mqtts,
            (false, true) => Self::Ws,
            (true, true) => Self::Wss,
        }
    }
}

/// The address of a broker.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Endpoint {
    /// How packets travel.
    pub scheme: Scheme,
    /// A name or an address, IPv6 without brackets.
    pub host: String,
    /// The port.
    pub port: u16,
    /// The path of a WebSocket request; unused elsewhere.
    pub path: String,
}

impl Endpoint {
    /// An endpoint with the scheme's default port and path.
    pub fn new(scheme: Scheme, host: impl Into<String>) -> Self {
        Self {
            scheme,
            host: host.into(),
            port: scheme.default_port(),
            path: WEBSOCKET_PATH.to_owned(),
        }
    }

    /// The same endpoint with another port.
    pub fn port(mut self, port: u16) -> Self {
        self.port = port;
        self
    }

    /// Host and port as a URL writes them, IPv6 in brackets.
    pub fn authority(&self) -> String {
        if self.host.contains(':') {
            format!("[{}]:{}", self.host, self.port)
        } else {
            format!("{}:{}", self.host, self.port)
        }
    }
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}://{}", self.scheme.as_str(), self.authority())?;
        if self.scheme.is_websocket() {
            f.write_str(&self.path)?;
        }
        Ok(())
    }
}

/// What a URL says: an endpoint, and for `-L` also credentials and a topic.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Url {
    /// Scheme, host, port and WebSocket path.
    pub endpoint: Endpoint,
    /// User name, percent-decoded.
    pub username: Option<String>,
    /// Password, percent-decoded.
    pub password: Option<String>,
    /// What follows the host in `mqtt://` and `mqtts://`, without its slash. In `ws://` and `wss://`
    /// that is the request path instead.
    pub topic: Option<String>,
}

impl Url {
    /// Parses `scheme://[username[:password]@]host[:port][/topic-or-path]`.
    ///
    /// # Errors
    /// [`Error::Usage`] naming the part that is wrong.
    pub fn parse(url: &str) -> Result<Self> {
        let bad = |what: &str| Error::Usage(format!("{url}: {what}"));
        let (scheme, rest) = url
            .split_once("://")
            .ok_or_else(|| bad("expected mqtt://, mqtts://, ws:// or wss://"))?;
        let scheme = Scheme::from_name(scheme)
            .ok_or_else(|| bad("unknown scheme; expected mqtt, mqtts, ws or wss"))?;
        let (authority, tail) = match rest.find('/') {
            Some(at) => (&rest[..at], Some(&rest[at..])),
            None => (rest, None),
        };
        let (userinfo, host_port) = match authority.rsplit_once('@') {
            Some((userinfo, host_port)) => (Some(userinfo), host_port),
            None => (None, authority),
        };
        let (username, password) = match userinfo {
            None => (None, None),
            Some(userinfo) => {
                let (name, password) = match userinfo.split_once(':') {
                    Some((name, password)) => (name, Some(password)),
                    None => (userinfo, None),
                };
                let decode = |text| percent_decode(text).ok_or_else(|| bad("bad percent escape"));
                (Some(decode(name)?), password.map(decode).transpose()?)
            }
        };
        let (host, port) = if let Some(bracketed) = host_port.strip_prefix('[') {
            let (host, after) = bracketed
                .split_once(']')
                .ok_or_else(|| bad("missing ] after the IPv6 address"))?;
            (host, after.strip_prefix(':'))
        } else {
            match host_port.rsplit_once(':') {
                Some((host, port)) => (host, Some(port)),
                None => (host_port, None),
            }
        };
        if host.is_empty() {
            return Err(bad("the host is missing"));
        }
        let mut endpoint = Endpoint::new(scheme, host);
        if let Some(port) = port {
            endpoint.port = port.parse().map_err(|_| bad("the port is not a number"))?;
        }
        let mut topic = None;
        match tail {
            Some(path) if scheme.is_websocket() => endpoint.path = path.to_owned(),
            Some(path) if path.len() > 1 => topic = Some(path[1..].to_owned()),
            _ => {}
        }
        Ok(Self {
            endpoint,
            username,
            password,
            topic,
        })
    }
}

/// Replaces `%41` by `A`; `None` where the two digits are missing or the result is not UTF-8.
fn percent_decode(text: &str) -> Option<String> {
    let mut bytes = text.bytes();
    let mut decoded = Vec::with_capacity(text.len());
    while let Some(byte) = bytes.next() {
        if byte == b'%' {
            let high = (bytes.next()? as char).to_digit(16)?;
            let low = (bytes.next()? as char).to_digit(16)?;
            decoded.push(u8::try_from(high * 16 + low).ok()?);
        } else {
            decoded.push(byte);
        }
    }
    String::from_utf8(decoded).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn url_with_everything() {
        let url = Url::parse("mqtts://us%40er:p%3Aw@broker.example:9883/a/b").unwrap();
        assert_eq!(url.endpoint.scheme, Scheme::Mqtts);
        assert_eq!(url.endpoint.host, "broker.example");
        assert_eq!(url.endpoint.port, 9883);
        assert_eq!(url.username.as_deref(), Some("us@er"));
        assert_eq!(url.password.as_deref(), Some("p:w"));
        assert_eq!(url.topic.as_deref(), Some("a/b"));
    }

    #[test]
    fn default_ports_follow_the_scheme() {
        for (url, port) in [
            ("mqtt://h", 1883),
            ("mqtts://h/", 8883),
            ("ws://h", 8083),
            ("wss://h/mqtt", 8084),
        ] {
            assert_eq!(Url::parse(url).unwrap().endpoint.port, port, "{url}");
        }
    }

    #[test]
    fn websocket_tail_is_the_path_and_not_a_topic() {
        let url = Url::parse("ws://h:80/x/y?z=1").unwrap();
        assert_eq!(url.endpoint.path, "/x/y?z=1");
        assert_eq!(url.topic, None);
        assert_eq!(url.endpoint.to_string(), "ws://h:80/x/y?z=1");
        assert_eq!(Url::parse("ws://h").unwrap().endpoint.path, WEBSOCKET_PATH);
    }

    #[test]
    fn ipv6_keeps_its_colons() {
        let url = Url::parse("mqtt://[::1]:2883/t").unwrap();
        assert_eq!(url.endpoint.host, "::1");
        assert_eq!(url.endpoint.port, 2883);
        assert_eq!(url.endpoint.to_string(), "mqtt://[::1]:2883");
        assert_eq!(Url::parse("mqtt://[::1]").unwrap().endpoint.port, 1883);
    }

    #[test]
    fn wrong_urls_are_refused() {
        for url in [
            "broker:1883",
            "http://h",
            "mqtt://",
            "mqtt://:1883",
            "mqtt://h:port",
            "mqtt://h:70000",
            "mqtt://[::1:1883",
            "mqtt://u%4@h",
            "mqtt://u%ff@h",
        ] {
            assert!(Url::parse(url).is_err(), "{url} was accepted");
        }
    }
}
