//! `host:port` of the configuration, and what is connected there.

use crate::ConnectorError;

/// A connection, with TLS or without.
#[cfg(any(feature = "redis", feature = "mongodb", feature = "ldap"))]
pub(crate) trait Stream:
    tokio::io::AsyncRead + tokio::io::AsyncWrite + Send + Unpin
{
}
#[cfg(any(feature = "redis", feature = "mongodb", feature = "ldap"))]
impl<T: tokio::io::AsyncRead + tokio::io::AsyncWrite + Send + Unpin> Stream for T {}

/// Host and port; an IPv6 address stands in brackets, which are taken off.
pub(crate) fn host_and_port(server: &str) -> Result<(&str, u16), ConnectorError> {
    let wrong = || ConnectorError::Setting {
        key: "server",
        problem: format!("expected host:port, got {server:?}"),
    };
    let (host, port) = server.rsplit_once(':').ok_or_else(wrong)?;
    let port = port.parse().map_err(|_| wrong())?;
    let host = match host.strip_prefix('[') {
        Some(v6) => v6.strip_suffix(']').ok_or_else(wrong)?,
        None if host.contains(':') => return Err(wrong()),
        None => host,
    };
    if host.is_empty() {
        return Err(wrong());
    }
    Ok((host, port))
}

/// The host alone.
#[cfg(any(feature = "redis", feature = "mongodb", feature = "ldap"))]
pub(crate) fn host(server: &str) -> Result<&str, ConnectorError> {
    host_and_port(server).map(|(host, _)| host)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_host_and_port() {
        assert_eq!(host_and_port("db:3306").expect("valid"), ("db", 3306));
        assert_eq!(host_and_port("[::1]:6379").expect("valid"), ("::1", 6379));
        for bad in ["", "db", "db:", ":1", "db:99999", "::1:1", "[::1:1", "db:x"] {
            assert!(host_and_port(bad).is_err(), "{bad}");
        }
    }
}
