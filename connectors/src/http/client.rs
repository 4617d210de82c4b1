//! A small HTTP/1.1 client: one server, a bounded pool of kept connections, a limit on time and on the answer's size.

use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use http_body_util::{BodyExt, Full, Limited};
use hyper::client::conn::http1;
use hyper::header::{CONTENT_TYPE, HOST, HeaderMap, HeaderName, HeaderValue};
use hyper::{Request, StatusCode};
use hyper_util::rt::TokioIo;
use parking_lot::Mutex;
use tokio::net::TcpStream;
use tokio::sync::Semaphore;

use super::HttpSettings;
use crate::ConnectorError;
use crate::breaker::Breaker;
use crate::tls::Tls;

/// Larger answers are refused: a verdict is a few words, a key set some kilobytes.
const MAX_ANSWER: usize = 256 << 10;
/// A kept connection that nobody used for so long is closed: servers mostly keep them for a minute or more.
const KEEP: Duration = Duration::from_secs(30);

/// The method of requests.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Method {
    /// GET: what is asked stands in the query.
    Get,
    /// POST: what is asked stands in the body.
    #[default]
    Post,
}

/// Why there is no answer. Never repeats what was sent.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum HttpError {
    /// The server failed several times in a row and is left alone for some seconds.
    #[error("not asked: the server failed several times in a row")]
    Open,
    /// No answer in time.
    #[error("no answer in time")]
    Timeout,
    /// No connection.
    #[error("cannot connect: {0}")]
    Connect(#[source] std::io::Error),
    /// The connection broke, or the answer is no HTTP.
    #[error("{0}")]
    Http(#[source] hyper::Error),
    /// The answer is longer than 256 KiB, or broke off.
    #[error("expected a whole answer of at most 256 KiB: {0}")]
    Answer(String),
    /// The answer's status or body is not one that is understood.
    #[error("{0}")]
    Nonsense(String),
}

/// An answer.
#[derive(Debug)]
pub(super) struct Answer {
    pub status: StatusCode,
    pub json: bool,
    pub body: Bytes,
}

/// A client of one server.
pub struct HttpClient {
    server: Arc<Server>,
    timeout: Duration,
    headers: HeaderMap,
    slots: Semaphore,
    idle: Mutex<Vec<(Sender, Instant)>>,
    breaker: Breaker,
}

type Sender = http1::SendRequest<Full<Bytes>>;

struct Server {
    /// Host as it is connected to: an IPv6 address without brackets.
    host: String,
    port: u16,
    tls: Option<Tls>,
}

/// An URL cut in two: what is connected to, and what is asked for.
pub(super) struct Url<'a> {
    pub https: bool,
    pub authority: &'a str,
    pub host: &'a str,
    pub port: u16,
    /// Path and query, from the slash on; may be empty.
    pub target: &'a str,
}

impl<'a> Url<'a> {
    pub fn parse(url: &'a str) -> Result<Self, ConnectorError> {
        let wrong = |problem: &str| ConnectorError::Setting {
            key: "url",
            problem: format!("expected {problem}, got {url:?}"),
        };
        let (https, rest) = match url.split_once("://") {
            Some(("http", rest)) => (false, rest),
            Some(("https", rest)) => (true, rest),
            _ => return Err(wrong("http:// or https://")),
        };
        let end = rest.find(['/', '?', '#']).unwrap_or(rest.len());
        let (authority, target) = rest.split_at(end);
        let plain = |b: u8| b.is_ascii_alphanumeric() || b"-._:[]".contains(&b);
        if authority.is_empty() || !authority.bytes().all(plain) {
            return Err(wrong("host or host:port without user and placeholders"));
        }
        if target.contains('#') || target.bytes().any(|b| b <= b' ' || b >= 0x7F) {
            return Err(wrong("a path and query of printable ASCII without '#'"));
        }
        let (host, port) = match authority.strip_prefix('[').and_then(|a| a.split_once(']')) {
            Some((host, "")) => (host, None),
            Some((host, port)) => (
                host,
                Some(
                    port.strip_prefix(':')
                        .ok_or_else(|| wrong("[address]:port"))?,
                ),
            ),
            None => match authority.split_once(':') {
                Some((host, port)) => (host, Some(port)),
                None => (authority, None),
            },
        };
        let port = match port.map(str::parse) {
            None => {
                if https {
                    443
                } else {
                    80
                }
            }
            Some(Ok(port)) => port,
            Some(Err(_)) => return Err(wrong("a port of 1 to 65535")),
        };
        if host.is_empty() {
            return Err(wrong("a host"));
        }
        Ok(Self {
            https,
            authority,
            host,
            port,
            target,
        })
    }
}

impl HttpClient {
    /// A client for the server of this URL. Nothing is connected yet.
    ///
    /// # Errors
    /// [`ConnectorError`] if URL, headers or authorities are wrong.
    pub fn new(settings: &HttpSettings) -> Result<Self, ConnectorError> {
        let url = Url::parse(&settings.url)?;
        let tls = match url.https {
            true => Some(Tls::new(&settings.tls, url.host)?),
            false => None,
        };
        let wrong = |problem: String| ConnectorError::Setting {
            key: "headers",
            problem,
        };
        let mut headers = HeaderMap::new();
        for (name, value) in &settings.headers {
            if value.contains("${") {
                return Err(wrong(format!("expected no placeholder in header {name}")));
            }
            let parsed: HeaderName = name
                .parse()
                .map_err(|_| wrong(format!("expected a header's name, got {name:?}")))?;
            // The value may be a secret.
            let mut value = HeaderValue::from_str(value)
                .map_err(|_| wrong(format!("expected a value of printable text for {name}")))?;
            value.set_sensitive(true);
            headers.append(parsed, value);
        }
        if !headers.contains_key(HOST) {
            let host = HeaderValue::from_str(url.authority);
            headers.insert(HOST, host.map_err(|error| wrong(error.to_string()))?);
        }
        Ok(Self {
            server: Arc::new(Server {
                host: url.host.to_owned(),
                port: url.port,
                tls,
            }),
            timeout: settings.timeout,
            headers,
            slots: Semaphore::new(settings.pool.clamp(1, 1024)),
            idle: Mutex::default(),
            breaker: Breaker::default(),
        })
    }

    /// Asks for an URL of this server, whatever the answer's status; a body of JSON is sent by POST, none by GET.
    ///
    /// # Errors
    /// [`HttpError`].
    pub async fn fetch(&self, url: &str, body: Option<Vec<u8>>) -> Result<(u16, Bytes), HttpError> {
        let target = Url::parse(url).map(|url| url.target.to_owned());
        let target = target.map_err(|error| HttpError::Nonsense(error.to_string()))?;
        let target = if target.is_empty() { "/" } else { &target };
        let body = body.map(|body| ("application/json", body));
        self.ask(target, body, |answer| {
            Ok((answer.status.as_u16(), answer.body.clone()))
        })
        .await
    }

    /// Asks, within the time limit; a body is sent by POST, none by GET. `judge` says whether an answer makes sense: one
    /// that does not counts as a failure of the server.
    pub(super) async fn ask<T>(
        &self,
        target: &str,
        body: Option<(&'static str, Vec<u8>)>,
        judge: impl FnOnce(&Answer) -> Result<T, String>,
    ) -> Result<T, HttpError> {
        if !self.breaker.allows(Instant::now()) {
            return Err(HttpError::Open);
        }
        let answer = match tokio::time::timeout(self.timeout, self.exchange(target, body)).await {
            Ok(answer) => answer,
            Err(_) => Err(HttpError::Timeout),
        };
        let judged = answer.and_then(|answer| judge(&answer).map_err(HttpError::Nonsense));
        match &judged {
            Ok(_) => self.breaker.succeeded(),
            Err(_) => self.breaker.failed(Instant::now()),
        }
        judged
    }

    async fn exchange(
        &self,
        target: &str,
        body: Option<(&'static str, Vec<u8>)>,
    ) -> Result<Answer, HttpError> {
        let _slot = self.slots.acquire().await;
        let mut request = Request::new(Full::new(Bytes::new()));
        *request.uri_mut() = target
            .parse()
            .map_err(|_| HttpError::Nonsense("the URL does not fit a request".to_owned()))?;
        *request.headers_mut() = self.headers.clone();
        if let Some((kind, body)) = body {
            *request.method_mut() = hyper::Method::POST;
            *request.body_mut() = Full::new(body.into());
            let kind = HeaderValue::from_static(kind);
            request.headers_mut().insert(CONTENT_TYPE, kind);
        }
        loop {
            let (mut sender, kept) = match self.kept() {
                Some(sender) => (sender, true),
                None => (self.server.connect().await?, false),
            };
            if sender.ready().await.is_err() && kept {
                continue;
            }
            match sender.try_send_request(request).await {
                Ok(response) => {
                    let answer = read(response).await?;
                    self.keep(sender);
                    return Ok(answer);
                }
                // The server closed a kept connection before anything was sent: once more on another.
                Err(mut error) => match error.take_message() {
                    Some(unsent) if kept => request = unsent,
                    _ => return Err(HttpError::Http(error.into_error())),
                },
            }
        }
    }

    fn kept(&self) -> Option<Sender> {
        let mut idle = self.idle.lock();
        let now = Instant::now();
        idle.retain(|(sender, since)| !sender.is_closed() && now - *since < KEEP);
        idle.pop().map(|(sender, _)| sender)
    }

    fn keep(&self, sender: Sender) {
        if !sender.is_closed() {
            // As many as there are slots at most: each came out of one.
            self.idle.lock().push((sender, Instant::now()));
        }
    }
}

async fn read(response: hyper::Response<hyper::body::Incoming>) -> Result<Answer, HttpError> {
    let status = response.status();
    let kind = response.headers().get(CONTENT_TYPE);
    let json = kind.is_some_and(|kind| kind.as_bytes().starts_with(b"application/json"));
    let body = Limited::new(response.into_body(), MAX_ANSWER)
        .collect()
        .await;
    let body = body.map_err(|error| HttpError::Answer(error.to_string()))?;
    Ok(Answer {
        status,
        json,
        body: body.to_bytes(),
    })
}

impl Server {
    async fn connect(&self) -> Result<Sender, HttpError> {
        let tcp = TcpStream::connect((self.host.as_str(), self.port))
            .await
            .map_err(HttpError::Connect)?;
        // A request is one write; without this a kept connection waits for the peer's delayed acknowledgement.
        tcp.set_nodelay(true).map_err(HttpError::Connect)?;
        match &self.tls {
            None => handshake(TokioIo::new(tcp)).await,
            Some(tls) => {
                let tls = tls.connect(tcp).await.map_err(HttpError::Connect)?;
                handshake(TokioIo::new(tls)).await
            }
        }
    }
}

async fn handshake<T>(io: T) -> Result<Sender, HttpError>
where
    T: hyper::rt::Read + hyper::rt::Write + Send + Unpin + 'static,
{
    let (sender, connection) = http1::handshake(io).await.map_err(HttpError::Http)?;
    // Ends when the sender is dropped or the server closes; errors reach the sender.
    tokio::spawn(connection);
    Ok(sender)
}
