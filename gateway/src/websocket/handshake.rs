//! The HTTP upgrade to WebSocket: who is let in, and what the others are answered.

use std::fmt;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;

use super::http::{Head, HeadError, HttpInfo, MAX_HEAD, read_head};
use crate::sniff::Spoken;

/// `path` of a WebSocket listener.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum WsPath {
    /// Not set: `/mqtt`, and in lenient mode `/` and `/ws` too.
    #[default]
    Default,
    /// Set by the user: this one only.
    Exact(String),
}

impl WsPath {
    /// Checks that it can be asked for.
    pub(crate) fn validate(&self) -> Result<(), String> {
        match self {
            Self::Exact(path) if !path.starts_with('/') || path.contains(['?', '#', ' ']) => Err(
                format!("`{path}` must begin with `/` and hold no `?`, `#` or space"),
            ),
            Self::Exact(path) if path == "/status" => {
                Err("`/status` answers health checks".to_owned())
            }
            _ => Ok(()),
        }
    }

    fn matches(&self, path: &str, lenient: bool) -> bool {
        match self {
            Self::Default => path == "/mqtt" || (lenient && matches!(path, "/" | "/ws")),
            Self::Exact(exact) => path == exact,
        }
    }
}

/// WebSocket settings of one listener.
#[derive(Debug, Clone)]
pub struct WsSettings {
    /// The path clients ask for.
    pub path: WsPath,
    /// `mqtt.client_leniency`: more paths by default, and a query behind the path.
    pub lenient: bool,
    /// Origins that browsers may come from, such as `https://example.com`; `None` checks nothing.
    pub allowed_origins: Option<Vec<String>>,
    /// With `allowed_origins`: clients that send no Origin (all but browsers) are served.
    pub allow_origin_absence: bool,
    /// Longest message of a client in bytes. Payload is streamed, so this bounds nonsense, not memory; a frame may
    /// hold many MQTT packets.
    pub max_message: u64,
}

impl Default for WsSettings {
    fn default() -> Self {
        Self {
            path: WsPath::Default,
            lenient: true,
            allowed_origins: None,
            allow_origin_absence: true,
            max_message: 512 << 20,
        }
    }
}

/// What `GET /status` answers.
#[derive(Debug, Clone)]
pub struct StatusAnswer {
    /// 200 or 503.
    pub healthy: bool,
    /// The body: `Node NAME is started` and `nightjar is running` on two lines.
    pub text: String,
}

/// Asked at each `GET /status`; must not block.
pub type StatusSource = Arc<dyn Fn() -> StatusAnswer + Send + Sync>;

/// Why a connection did not become a WebSocket.
#[derive(Debug)]
pub enum WsFailure {
    /// The socket failed.
    Io(io::Error),
    /// The peer closed first; true if it had sent nothing.
    Closed(bool),
    /// It was answered with this HTTP status. 200: a health check that got what it wanted.
    Answered(u16),
    /// It speaks something else.
    Spoken(Spoken),
    /// It speaks nothing known.
    Garbage,
}

impl fmt::Display for WsFailure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Io(error) => write!(f, "{error}"),
            Self::Closed(_) => f.write_str("closed before the websocket handshake was complete"),
            Self::Answered(status) => write!(f, "http request answered with {status}"),
            Self::Spoken(spoken) => write!(f, "client speaks {spoken}"),
            Self::Garbage => f.write_str("not an http request"),
        }
    }
}

/// A WebSocket that was agreed on.
#[derive(Debug)]
pub struct Upgraded {
    /// What the request said.
    pub info: HttpInfo,
    /// Bytes behind the request: the first frames of a client in a hurry.
    pub rest: Vec<u8>,
    /// The client's address by forwarding headers, if `trusted` was given and they said one.
    pub client: Option<std::net::SocketAddr>,
}

/// Reads the request, checks and answers it. `trusted` is `Some` if the peer is a trusted proxy, and tells whether an
/// address is one.
///
/// # Errors
/// [`WsFailure`]; whatever HTTP answer was due has been sent.
pub async fn accept<S, T>(
    io: &mut S,
    settings: &WsSettings,
    status: &StatusSource,
    trusted: Option<T>,
) -> Result<Upgraded, WsFailure>
where
    S: AsyncRead + AsyncWrite + Unpin,
    T: Fn(std::net::IpAddr) -> bool,
{
    let (mut buf, end) = match read_head(io).await {
        Ok(read) => read,
        Err(HeadError::Io(error)) => return Err(WsFailure::Io(error)),
        Err(HeadError::Closed(silent)) => return Err(WsFailure::Closed(silent)),
        Err(HeadError::Spoken(spoken)) => return Err(WsFailure::Spoken(spoken)),
        Err(HeadError::Garbage) => return Err(WsFailure::Garbage),
        Err(HeadError::TooLong) => return Err(refuse(io, &Refused::plain(431)).await),
    };
    let judged = judge(&buf[..end], settings, status, trusted);
    let (info, client, answer) = match judged {
        Ok(agreed) => agreed,
        Err(refused) => return Err(refuse(io, &refused).await),
    };
    io.write_all(answer.as_bytes())
        .await
        .map_err(WsFailure::Io)?;
    io.flush().await.map_err(WsFailure::Io)?;
    buf.drain(..end);
    buf.shrink_to_fit();
    Ok(Upgraded {
        info,
        rest: buf,
        client,
    })
}

/// An HTTP answer other than 101.
#[derive(Debug, PartialEq, Eq)]
struct Refused {
    status: u16,
    header: &'static str,
    body: String,
    head_only: bool,
}

impl Refused {
    fn plain(status: u16) -> Self {
        Self::with(status, "", format!("{status} {}\n", reason(status)))
    }

    fn with(status: u16, header: &'static str, body: impl Into<String>) -> Self {
        Self {
            status,
            header,
            body: body.into(),
            head_only: false,
        }
    }
}

fn reason(status: u16) -> &'static str {
    match status {
        200 => "OK",
        400 => "Bad Request",
        403 => "Forbidden",
        404 => "Not Found",
        405 => "Method Not Allowed",
        426 => "Upgrade Required",
        431 => "Request Header Fields Too Large",
        503 => "Service Unavailable",
        505 => "HTTP Version Not Supported",
        _ => "Error",
    }
}

type Agreed = (HttpInfo, Option<std::net::SocketAddr>, String);

/// Decides on a request: the answer that agrees, or the one that refuses.
fn judge<T: Fn(std::net::IpAddr) -> bool>(
    bytes: &[u8],
    settings: &WsSettings,
    status: &StatusSource,
    trusted: Option<T>,
) -> Result<Agreed, Refused> {
    let head = Head::parse(bytes).map_err(Refused::plain)?;
    if !matches!(head.method, "GET" | "HEAD") {
        return Err(Refused::with(
            405,
            "Allow: GET\r\n",
            "405 Method Not Allowed\n",
        ));
    }
    if head.path == "/status" {
        let answer = status();
        let mut refused = Refused::with(if answer.healthy { 200 } else { 503 }, "", answer.text);
        refused.head_only = head.method == "HEAD";
        return Err(refused);
    }
    let known = settings.path.matches(head.path, settings.lenient)
        && (settings.lenient || head.query.is_none());
    if !known {
        return Err(Refused::plain(404));
    }
    if head.method != "GET" {
        return Err(Refused::with(405, "Allow: GET\r\n", ""));
    }
    check_upgrade(&head)?;
    check_origin(&head, settings)?;
    let subprotocol = choose_subprotocol(&head)?;
    let key = head
        .value("sec-websocket-key")
        .filter(|key| is_nonce(key))
        .ok_or_else(|| Refused::plain(400))?;
    let client = match trusted {
        Some(trusted) => head
            .forwarded_for(trusted)
            .map_err(|_| Refused::plain(400))?,
        None => None,
    };
    let accept = derive_accept_key(key.as_bytes());
    let mut answer = format!(
        "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
         Sec-WebSocket-Accept: {accept}\r\n"
    );
    if let Some(subprotocol) = subprotocol {
        answer.push_str("Sec-WebSocket-Protocol: ");
        answer.push_str(subprotocol);
        answer.push_str("\r\n");
    }
    answer.push_str("\r\n");
    let text = |name: &str| head.value(name).map(str::to_owned);
    let info = HttpInfo {
        path: head.path.to_owned(),
        query: head.query.map(str::to_owned),
        subprotocol: subprotocol.map(str::to_owned),
        host: text("host"),
        origin: text("origin"),
        user_agent: text("user-agent"),
        forwarded: head.has_forwarding(),
    };
    Ok((info, client, answer))
}

/// RFC 6455 section 4.2.1.
fn check_upgrade(head: &Head<'_>) -> Result<(), Refused> {
    let token =
        |name: &str, token: &str| head.list(name).any(|item| item.eq_ignore_ascii_case(token));
    if !token("upgrade", "websocket") || !token("connection", "upgrade") || head.minor == 0 {
        return Err(Refused::with(
            426,
            "Upgrade: websocket\r\nConnection: Upgrade\r\n",
            "426 Upgrade Required: MQTT over WebSocket is served here\n",
        ));
    }
    if head.value("sec-websocket-version") != Some("13") {
        return Err(Refused::with(
            426,
            "Sec-WebSocket-Version: 13\r\n",
            "426 Upgrade Required: WebSocket version 13\n",
        ));
    }
    Ok(())
}

fn check_origin(head: &Head<'_>, settings: &WsSettings) -> Result<(), Refused> {
    let Some(allowed) = &settings.allowed_origins else {
        return Ok(());
    };
    let fine = match head.value("origin") {
        Some(origin) => allowed.iter().any(|one| one.eq_ignore_ascii_case(origin)),
        None => settings.allow_origin_absence,
    };
    if fine {
        Ok(())
    } else {
        Err(Refused::plain(403))
    }
}

/// The first of the client's sub-protocols that is a name of MQTT; none asked for is fine, only others is not.
fn choose_subprotocol<'b>(head: &Head<'b>) -> Result<Option<&'b str>, Refused> {
    let mut any = false;
    for name in head.list("sec-websocket-protocol") {
        any = true;
        if is_mqtt_name(name) {
            return Ok(Some(name));
        }
    }
    if any {
        return Err(Refused::with(
            400,
            "",
            "400 Bad Request: the sub-protocol must be mqtt\n",
        ));
    }
    Ok(None)
}

/// `mqtt`, and the forms that clients in the field use with a version: `mqttv3.1`, `mqttv3.1.1`, `mqttv5`, `mqtt-v5`,
/// `mqtt-3.1.1`, `mqtt5`.
fn is_mqtt_name(name: &str) -> bool {
    let Some((mqtt, version)) = name.split_at_checked(4) else {
        return false;
    };
    let version = version.strip_prefix('-').unwrap_or(version);
    let version = version.strip_prefix(['v', 'V']).unwrap_or(version);
    let bare = name.len() == 4;
    mqtt.eq_ignore_ascii_case("mqtt")
        && (bare || matches!(version, "3" | "31" | "311" | "3.1" | "3.1.1" | "5" | "5.0"))
}

/// A key is 16 random bytes in base64: 22 characters and `==`.
fn is_nonce(key: &str) -> bool {
    let bytes = key.as_bytes();
    bytes.len() == 24
        && bytes.ends_with(b"==")
        && bytes[..22]
            .iter()
            .all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'+' | b'/'))
}

/// Sends the answer and closes so that it arrives: what the client still sends is read for a moment, because closing
/// a socket with unread data would take the answer back.
async fn refuse<S: AsyncRead + AsyncWrite + Unpin>(io: &mut S, refused: &Refused) -> WsFailure {
    let Refused {
        status,
        header,
        body,
        head_only,
    } = refused;
    let mut answer = format!(
        "HTTP/1.1 {status} {}\r\nContent-Type: text/plain; charset=utf-8\r\nContent-Length: {}\r\n",
        reason(*status),
        body.len()
    );
    answer.push_str(header);
    if !header.contains("Connection:") {
        answer.push_str("Connection: close\r\n");
    }
    answer.push_str("\r\n");
    if !head_only {
        answer.push_str(body);
    }
    let sent = async {
        io.write_all(answer.as_bytes()).await?;
        io.flush().await?;
        io.shutdown().await
    };
    if let Err(error) = sent.await {
        return WsFailure::Io(error);
    }
    let drained = async {
        let mut sink = [0; 512];
        let mut left = 8 * MAX_HEAD;
        while left > 0 {
            match io.read(&mut sink).await {
                Ok(n) if n > 0 => left = left.saturating_sub(n),
                _ => break,
            }
        }
    };
    // Out of time or not, the answer had its chance.
    let _ = tokio::time::timeout(Duration::from_secs(1), drained).await;
    WsFailure::Answered(*status)
}

#[cfg(test)]
#[path = "handshake_tests.rs"]
mod tests;
