//! Types of values: what a user may write, checked by the same parsers that the typed tree uses.

use std::net::SocketAddr;

use super::super::units;

/// The type of a key's value.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Ty {
    /// `true` or `false`.
    Bool,
    /// A whole number in this range, ends included.
    Int(i64, i64),
    /// A number in this range, ends included.
    Float(f64, f64),
    /// Any text.
    Text,
    /// Text that is never shown.
    Secret,
    /// A file or directory, relative to the working directory.
    Path,
    /// `http://` or `https://` address.
    Url,
    /// Path of an HTTP request: begins with `/`.
    HttpPath,
    /// One of these words.
    Word(&'static [&'static str]),
    /// [`units::Duration`].
    Duration,
    /// [`units::ByteSize`].
    Size,
    /// [`units::Rate`].
    Rate,
    /// [`units::ByteRate`].
    ByteRate,
    /// [`units::Percent`].
    Percent,
    /// [`units::BindAddr`].
    Addr,
    /// IP address and port of a peer or group.
    Socket,
    /// Host name or address, and port.
    HostPort,
    /// [`units::Cidr`].
    Cidr,
    /// The word `off`, or this.
    Off(&'static Ty),
    /// An array of these.
    List(&'static Ty),
    /// A table of these under names the user chooses.
    Map(&'static Ty),
}

impl Ty {
    /// True if a value holds nothing that may be shown.
    pub fn is_secret(&self) -> bool {
        match self {
            Self::Secret => true,
            Self::Off(inner) | Self::List(inner) | Self::Map(inner) => inner.is_secret(),
            _ => false,
        }
    }

    /// True if the value is written as TOML text; such a value of the environment is taken as it is.
    pub fn is_text(&self) -> bool {
        match self {
            Self::Bool | Self::Int(..) | Self::Float(..) | Self::List(_) | Self::Map(_) => false,
            Self::Off(inner) => inner.is_text(),
            _ => true,
        }
    }

    /// In words, for `config explain` and errors: `integer 0 to 2`.
    pub fn words(&self) -> String {
        match self {
            Self::Bool => "true or false".into(),
            Self::Int(low, high) if *high == i64::from(u32::MAX) => {
                format!("whole number, at least {low}")
            }
            Self::Int(low, high) => format!("whole number {low} to {high}"),
            Self::Float(low, high) => format!("number {low} to {high}"),
            Self::Text => "text".into(),
            Self::Secret => "secret text".into(),
            Self::Path => "path".into(),
            Self::Url => "http or https address".into(),
            Self::HttpPath => "path that begins with /".into(),
            Self::Word(words) => words
                .iter()
                .map(|word| format!("\"{word}\""))
                .collect::<Vec<_>>()
                .join(", "),
            Self::Duration => "duration, such as \"15s\", \"1m\", \"2h\", \"30d\"".into(),
            Self::Size => "size, such as \"1MiB\", \"64KB\"".into(),
            Self::Rate => "rate, such as \"1000/s\"".into(),
            Self::ByteRate => "rate of bytes, such as \"100KB/s\"".into(),
            Self::Percent => "share, such as \"70%\"".into(),
            Self::Addr => "address and port, such as \"0.0.0.0:1883\"".into(),
            Self::Socket => "IP address and port, such as \"225.1.1.1:1884\"".into(),
            Self::HostPort => "host and port, such as \"10.0.0.1:5369\"".into(),
            Self::Cidr => "address block, such as \"10.0.0.0/8\"".into(),
            Self::Off(inner) => format!("\"off\", or {}", inner.words()),
            Self::List(inner) => format!("array of: {}", inner.words()),
            Self::Map(inner) => format!("table of: {}", inner.words()),
        }
    }

    /// Checks the text of a value of a text type.
    ///
    /// # Errors
    /// What was expected and what was found; nothing of the text for a secret.
    pub fn check_text(&self, text: &str) -> Result<(), String> {
        match self {
            Self::Word(words) if words.contains(&text) => Ok(()),
            Self::Word(_) => Err(format!("expected one of {}, found {text:?}", self.words())),
            Self::Duration => text.parse::<units::Duration>().map(drop),
            Self::Size => text.parse::<units::ByteSize>().map(drop),
            Self::Rate => text.parse::<units::Rate>().map(drop),
            Self::ByteRate => text.parse::<units::ByteRate>().map(drop),
            Self::Percent => text.parse::<units::Percent>().map(drop),
            Self::Addr => text.parse::<units::BindAddr>().map(drop),
            Self::Cidr => text.parse::<units::Cidr>().map(drop),
            Self::Socket => text.parse::<SocketAddr>().map(drop).map_err(|_| {
                format!(
                    "expected an IP address and port such as \"225.1.1.1:1884\", found {text:?}"
                )
            }),
            Self::HostPort => check_host_port(text),
            Self::HttpPath if text.starts_with('/') => Ok(()),
            Self::HttpPath => Err(format!(
                "expected a path that begins with /, found {text:?}"
            )),
            Self::Url => check_url(text),
            Self::Path if text.is_empty() => Err("expected a path, found an empty text".into()),
            Self::Off(_) if text == "off" => Ok(()),
            Self::Off(inner) if inner.is_text() => inner
                .check_text(text)
                .map_err(|problem| problem.replacen("expected ", "expected \"off\", or ", 1)),
            Self::Text | Self::Secret | Self::Path => Ok(()),
            Self::Off(_)
            | Self::Bool
            | Self::Int(..)
            | Self::Float(..)
            | Self::List(_)
            | Self::Map(_) => Err(format!(
                "expected {}, found the text {text:?}",
                self.words()
            )),
        }
    }
}

/// Host (name, IPv4, or IPv6 in brackets), a colon, a port.
fn check_host_port(text: &str) -> Result<(), String> {
    let good = text.rsplit_once(':').is_some_and(|(host, port)| {
        let bracketed = host
            .strip_prefix('[')
            .and_then(|host| host.strip_suffix(']'));
        let host_is_good = match bracketed {
            Some(inner) => inner.parse::<std::net::Ipv6Addr>().is_ok(),
            None => {
                !host.is_empty()
                    && host
                        .chars()
                        .all(|c| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_'))
            }
        };
        host_is_good && port.parse::<u16>().is_ok_and(|port| port != 0)
    });
    if good {
        Ok(())
    } else {
        Err(format!(
            "expected a host and port such as \"10.0.0.1:5369\", found {text:?}"
        ))
    }
}

/// Scheme and host present; the rest is the HTTP client's matter. A password inside is not repeated.
fn check_url(text: &str) -> Result<(), String> {
    let rest = text
        .strip_prefix("http://")
        .or_else(|| text.strip_prefix("https://"));
    match rest {
        Some(rest)
            if !rest.is_empty()
                && !rest.starts_with('/')
                && !rest.contains(char::is_whitespace) =>
        {
            Ok(())
        }
        _ => Err("expected an address that begins with http:// or https://".into()),
    }
}
