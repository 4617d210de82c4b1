//! The HTTP/1.1 request head of a WebSocket handshake: reading it within limits, and what it says of the client.

use std::io;
use std::net::{IpAddr, SocketAddr};

use tokio::io::{AsyncRead, AsyncReadExt};

use crate::sniff::Spoken;

/// Longest request head that is read, in bytes.
pub const MAX_HEAD: usize = 8 * 1024;
/// Most header lines.
pub const MAX_HEADERS: usize = 64;

/// What the HTTP request of a WebSocket client said; kept by the connection for as long as it wants.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct HttpInfo {
    /// Path without the query.
    pub path: String,
    /// What followed `?`.
    pub query: Option<String>,
    /// The sub-protocol agreed on; `None` if the client asked for none.
    pub subprotocol: Option<String>,
    /// `Host`.
    pub host: Option<String>,
    /// `Origin`.
    pub origin: Option<String>,
    /// `User-Agent`.
    pub user_agent: Option<String>,
    /// True if any forwarding header was there, believed or not.
    pub forwarded: bool,
}

/// Without the query, in which people put tokens.
impl std::fmt::Debug for HttpInfo {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("HttpInfo")
            .field("path", &self.path)
            .field("subprotocol", &self.subprotocol)
            .field("host", &self.host)
            .field("origin", &self.origin)
            .field("user_agent", &self.user_agent)
            .field("forwarded", &self.forwarded)
            .finish_non_exhaustive()
    }
}

/// Why no request head was read.
#[derive(Debug)]
pub enum HeadError {
    /// The socket failed.
    Io(io::Error),
    /// The peer closed; true if it had sent nothing.
    Closed(bool),
    /// Longer than [`MAX_HEAD`].
    TooLong,
    /// Not HTTP at all.
    Spoken(Spoken),
    /// Neither HTTP nor anything known.
    Garbage,
}

/// Reads up to the empty line. Returns everything read and where the head ends.
///
/// # Errors
/// As the enum says. Memory is at most [`MAX_HEAD`].
pub async fn read_head<S: AsyncRead + Unpin>(io: &mut S) -> Result<(Vec<u8>, usize), HeadError> {
    let mut buf = Vec::with_capacity(1024);
    loop {
        let from = buf.len().saturating_sub(3);
        if buf.len() == MAX_HEAD {
            return Err(HeadError::TooLong);
        }
        let room = (MAX_HEAD - buf.len()) as u64;
        let n = (&mut *io)
            .take(room)
            .read_buf(&mut buf)
            .await
            .map_err(HeadError::Io)?;
        if n == 0 {
            return Err(HeadError::Closed(buf.is_empty()));
        }
        if from == 0 && !buf[0].is_ascii_alphabetic() {
            return Err(Spoken::guess(&buf).map_or(HeadError::Garbage, HeadError::Spoken));
        }
        if let Some(at) = find(&buf[from..], b"\r\n\r\n") {
            return Ok((buf, from + at + 4));
        }
    }
}

fn find(haystack: &[u8], needle: &[u8]) -> Option<usize> {
    haystack
        .windows(needle.len())
        .position(|window| window == needle)
}

/// `X-Forwarded-For` and `Forwarded` name different clients: one of them was written by the client itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Disagreement;

/// A parsed head: the request line and header lines that borrow from what was read.
#[derive(Debug)]
pub struct Head<'b> {
    /// Request method.
    pub method: &'b str,
    /// Path without query, scheme and host.
    pub path: &'b str,
    /// What followed `?`.
    pub query: Option<&'b str>,
    /// 1 for HTTP/1.1.
    pub minor: u8,
    headers: Vec<(&'b str, &'b str)>,
}

impl<'b> Head<'b> {
    /// Parses a complete head.
    ///
    /// # Errors
    /// The HTTP status to answer: 400, 431 for too many headers, 505 for a version other than 1.x.
    pub fn parse(bytes: &'b [u8]) -> Result<Self, u16> {
        let mut space = [httparse::EMPTY_HEADER; MAX_HEADERS];
        let mut request = httparse::Request::new(&mut space);
        match request.parse(bytes) {
            Ok(httparse::Status::Complete(_)) => {}
            Ok(httparse::Status::Partial) => return Err(400),
            Err(httparse::Error::TooManyHeaders) => return Err(431),
            Err(httparse::Error::Version) => return Err(505),
            Err(_) => return Err(400),
        }
        let (Some(method), Some(target), Some(minor)) =
            (request.method, request.path, request.version)
        else {
            return Err(400);
        };
        // A proxy may use the absolute form (RFC 9112 section 3.2.2).
        let target = match target.split_once("://") {
            Some((scheme, rest)) if !scheme.contains('/') => {
                rest.find('/').map_or("/", |at| &rest[at..])
            }
            _ => target,
        };
        let (path, query) = match target.split_once('?') {
            Some((path, query)) => (path, Some(query)),
            None => (target, None),
        };
        let mut headers = Vec::with_capacity(request.headers.len());
        for header in request.headers.iter() {
            // Values that matter here are text; another's bytes outside UTF-8 are none of ours.
            headers.push((
                header.name,
                std::str::from_utf8(header.value).unwrap_or_default().trim(),
            ));
        }
        Ok(Self {
            method,
            path,
            query,
            minor,
            headers,
        })
    }

    /// All values of a header, in order.
    pub fn values<'s>(&'s self, name: &'s str) -> impl Iterator<Item = &'b str> + 's {
        self.headers
            .iter()
            .filter(move |header| header.0.eq_ignore_ascii_case(name))
            .map(|header| header.1)
    }

    /// The first value of a header.
    #[must_use]
    pub fn value(&self, name: &str) -> Option<&'b str> {
        self.headers
            .iter()
            .find(|header| header.0.eq_ignore_ascii_case(name))
            .map(|header| header.1)
    }

    /// The elements of a header that is a list, over all of its lines.
    pub fn list<'s>(&'s self, name: &'s str) -> impl Iterator<Item = &'b str> + 's {
        self.values(name)
            .flat_map(|value| value.split(','))
            .map(str::trim)
            .filter(|item| !item.is_empty())
    }

    /// True if any forwarding header is there.
    #[must_use]
    pub fn has_forwarding(&self) -> bool {
        ["x-forwarded-for", "forwarded", "x-real-ip"]
            .iter()
            .any(|name| self.value(name).is_some())
    }

    /// The client's address by `X-Forwarded-For` (with `X-Forwarded-Port`) or `Forwarded` (RFC 7239): the last hop
    /// that is not itself a trusted proxy. `None` if they say nothing usable.
    ///
    /// # Errors
    /// [`Disagreement`] of the two.
    pub fn forwarded_for(
        &self,
        trusted: impl Fn(IpAddr) -> bool,
    ) -> Result<Option<SocketAddr>, Disagreement> {
        let by_list = |hops: Vec<Option<SocketAddr>>| {
            let mut found = None;
            for hop in hops.into_iter().rev() {
                // A hop that hides itself (`unknown`, `_name`) ends what can be known.
                let Some(hop) = hop else { break };
                found = Some(hop);
                if !trusted(hop.ip()) {
                    break;
                }
            }
            found
        };
        let x_forwarded = by_list(self.list("x-forwarded-for").map(parse_node).collect());
        let forwarded = by_list(self.list("forwarded").map(forwarded_element).collect());
        let mut found = match (x_forwarded, forwarded) {
            (Some(x), Some(f)) if x.ip() != f.ip() => return Err(Disagreement),
            (Some(x), Some(f)) => Some(if x.port() == 0 { f } else { x }),
            (x, f) => x.or(f),
        };
        let port = self
            .value("x-forwarded-port")
            .and_then(|port| port.parse().ok());
        if let (Some(address), Some(port)) = (&mut found, port)
            && address.port() == 0
        {
            address.set_port(port);
        }
        Ok(found)
    }
}

/// The `for=` of one element of `Forwarded`.
fn forwarded_element(element: &str) -> Option<SocketAddr> {
    let pair = element.split(';').filter_map(|pair| pair.split_once('='));
    let (_, node) = pair
        .into_iter()
        .find(|(name, _)| name.trim().eq_ignore_ascii_case("for"))?;
    parse_node(node.trim().trim_matches('"'))
}

/// An address with or without port: `10.0.0.1`, `10.0.0.1:99`, `::1`, `[::1]`, `[::1]:99`.
fn parse_node(text: &str) -> Option<SocketAddr> {
    let address = if let Ok(address) = text.parse::<SocketAddr>() {
        address
    } else {
        let bare = text
            .strip_prefix('[')
            .and_then(|rest| rest.strip_suffix(']'))
            .unwrap_or(text);
        SocketAddr::new(bare.parse().ok()?, 0)
    };
    Some(SocketAddr::new(address.ip().to_canonical(), address.port()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn forwarded(headers: &str) -> Result<Option<String>, Disagreement> {
        let text = format!("GET / HTTP/1.1\r\n{headers}\r\n");
        let head = Head::parse(text.as_bytes()).unwrap();
        let trusted = |address: IpAddr| address.to_string().starts_with("10.");
        head.forwarded_for(trusted)
            .map(|found| found.map(|address| address.to_string()))
    }

    #[test]
    fn the_client_is_the_last_hop_that_is_no_trusted_proxy() {
        let rows: &[(&str, Result<Option<&str>, Disagreement>)] = &[
            ("", Ok(None)),
            ("X-Forwarded-For: 192.0.2.7\r\n", Ok(Some("192.0.2.7:0"))),
            (
                "X-Forwarded-For: 192.0.2.7\r\nX-Forwarded-Port: 5555\r\n",
                Ok(Some("192.0.2.7:5555")),
            ),
            // What the client itself put in front is not believed.
            (
                "X-Forwarded-For: 127.0.0.1, 192.0.2.7, 10.0.0.3\r\n",
                Ok(Some("192.0.2.7:0")),
            ),
            (
                "X-Forwarded-For: 127.0.0.1\r\nX-Forwarded-For: 192.0.2.7\r\n",
                Ok(Some("192.0.2.7:0")),
            ),
            (
                "X-Forwarded-For: 10.0.0.1, 10.0.0.2\r\n",
                Ok(Some("10.0.0.1:0")),
            ),
            ("X-Forwarded-For: 192.0.2.7, unknown\r\n", Ok(None)),
            ("X-Forwarded-For: nonsense\r\n", Ok(None)),
            (
                "Forwarded: for=192.0.2.60;proto=https;by=10.0.0.1\r\n",
                Ok(Some("192.0.2.60:0")),
            ),
            (
                "Forwarded: For=\"[2001:db8::17]:4711\"\r\n",
                Ok(Some("[2001:db8::17]:4711")),
            ),
            (
                "Forwarded: for=_hidden, for=192.0.2.9\r\n",
                Ok(Some("192.0.2.9:0")),
            ),
            ("Forwarded: for=192.0.2.9, for=_hidden\r\n", Ok(None)),
            (
                "Forwarded: for=192.0.2.9\r\nX-Forwarded-For: 192.0.2.9\r\n",
                Ok(Some("192.0.2.9:0")),
            ),
            (
                "Forwarded: for=127.0.0.1\r\nX-Forwarded-For: 192.0.2.9\r\n",
                Err(Disagreement),
            ),
            (
                "X-Forwarded-For: ::ffff:192.0.2.1\r\n",
                Ok(Some("192.0.2.1:0")),
            ),
        ];
        for (headers, expected) in rows {
            let expected = expected.map(|address| address.map(str::to_owned));
            assert_eq!(forwarded(headers), expected, "{headers}");
        }
    }

    #[test]
    fn targets_are_split_and_bad_heads_have_their_status() {
        let parse = |line: &str| {
            let text = format!("{line}\r\nHost: x\r\n\r\n");
            Head::parse(text.as_bytes())
                .map(|head| (head.path.to_owned(), head.query.map(str::to_owned)))
        };
        let some = |text: &str| Some(text.to_owned());
        assert_eq!(
            parse("GET /mqtt?a=b?c HTTP/1.1"),
            Ok(("/mqtt".into(), some("a=b?c")))
        );
        assert_eq!(
            parse("GET http://h:80/mqtt HTTP/1.1"),
            Ok(("/mqtt".into(), None))
        );
        assert_eq!(parse("GET http://h HTTP/1.1"), Ok(("/".into(), None)));
        assert_eq!(parse("GET /mqtt HTTP/2.0"), Err(505));
        assert_eq!(parse("GET /mqtt"), Err(400));
        let many = "GET / HTTP/1.1\r\n".to_owned() + &"a: b\r\n".repeat(MAX_HEADERS + 1) + "\r\n";
        assert_eq!(Head::parse(many.as_bytes()).unwrap_err(), 431);
    }
}
