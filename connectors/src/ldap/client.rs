//! A small client of directories: a bounded pool of connections, one operation at a time on each.

use parking_lot::Mutex;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::{Semaphore, SemaphorePermit};

use super::LdapSettings;
use super::ber;
use super::message::{self, Answer, Entry, Scope};
use crate::ConnectorError;
use crate::address::Stream;
use crate::tls::Tls;

/// Entries and references that are read of one answer; two entries are asked for.
const MAX_PARTS: usize = 64;

pub(super) struct Client {
    server: String,
    name: String,
    tls: Option<Tls>,
    start_tls: bool,
    slots: Semaphore,
    idle: Mutex<Vec<Connection>>,
}

/// One connection. What it may see depends on who bound last: it is asked for nothing without a bind before.
pub(super) struct Connection {
    stream: Box<dyn Stream>,
    last: i32,
}

/// Why an exchange failed: by the connection, where another may do better, or by what the server said.
pub(super) type Failure = std::io::Error;

impl Client {
    pub fn new(settings: &LdapSettings) -> Result<Self, ConnectorError> {
        let host = crate::address::host(&settings.server)?;
        let tls = settings.tls.as_ref().map(|tls| Tls::new(tls, host));
        Ok(Self {
            server: settings.server.clone(),
            name: format!("ldap {}", settings.server),
            tls: tls.transpose()?,
            start_tls: settings.start_tls,
            slots: Semaphore::new(settings.pool.clamp(1, 1024)),
            idle: Mutex::default(),
        })
    }

    pub fn name(&self) -> &str {
        &self.name
    }

    /// Waits until another connection may be used.
    pub async fn slot(&self) -> Option<SemaphorePermit<'_>> {
        self.slots.acquire().await.ok()
    }

    /// A connection that was kept. The server may have closed it.
    pub fn kept(&self) -> Option<Connection> {
        self.idle.lock().pop()
    }

    /// Keeps a connection whose answers were read to their end.
    pub fn keep(&self, connection: Connection) {
        self.idle.lock().push(connection);
    }

    /// A new connection.
    pub async fn connect(&self) -> Result<Connection, Failure> {
        let mut tcp = TcpStream::connect(&self.server).await?;
        tcp.set_nodelay(true)?;
        let stream: Box<dyn Stream> = match &self.tls {
            None => Box::new(tcp),
            Some(tls) => {
                if self.start_tls {
                    // Nothing is read ahead: what follows the answer belongs to TLS.
                    exchange(&mut tcp, &message::start_tls(1)).await?;
                    match receive(&mut tcp, 1).await? {
                        Answer::Done(message::SUCCESS, _) => {}
                        other => return Err(said("StartTLS", &other)),
                    }
                }
                Box::new(tls.connect(tcp).await?)
            }
        };
        Ok(Connection { stream, last: 1 })
    }
}

impl Connection {
    fn next(&mut self) -> i32 {
        self.last = self.last.checked_add(1).unwrap_or(1);
        self.last
    }

    /// A simple bind; its code.
    pub async fn bind(&mut self, name: &str, password: &[u8]) -> Result<i32, Failure> {
        let id = self.next();
        exchange(&mut self.stream, &message::bind(id, name, password)).await?;
        match receive(&mut self.stream, id).await? {
            Answer::Done(code, _) => Ok(code),
            other => Err(said("bind", &other)),
        }
    }

    /// A bind that must be granted.
    pub async fn bind_as(&mut self, name: &str, password: &[u8]) -> Result<(), Failure> {
        let id = self.next();
        exchange(&mut self.stream, &message::bind(id, name, password)).await?;
        match receive(&mut self.stream, id).await? {
            Answer::Done(message::SUCCESS, _) => Ok(()),
            other => Err(said(&format!("bind as {name:?}"), &other)),
        }
    }

    /// The entries that a search finds, two at most.
    pub async fn search(
        &mut self,
        base: &str,
        scope: Scope,
        filter: &[u8],
        attributes: &[&str],
    ) -> Result<Vec<Entry>, Failure> {
        let id = self.next();
        let question = message::search(id, base, scope, filter, attributes);
        exchange(&mut self.stream, &question).await?;
        let mut entries = Vec::new();
        for _ in 0..MAX_PARTS {
            match receive(&mut self.stream, id).await? {
                Answer::Entry(entry) => entries.push(entry),
                Answer::Reference => {}
                Answer::Done(message::SUCCESS | message::SIZE_LIMIT, _) => return Ok(entries),
                Answer::Done(message::NO_SUCH_OBJECT, _) if scope == Scope::Base => {
                    return Ok(entries);
                }
                other => return Err(said("search", &other)),
            }
        }
        Err(Failure::other("search: expected at most two entries"))
    }
}

fn said(operation: &str, answer: &Answer) -> Failure {
    Failure::other(match answer {
        Answer::Done(code, text) if text.is_empty() => {
            format!("{operation}: the directory answered with code {code}")
        }
        Answer::Done(code, text) => {
            format!("{operation}: the directory answered with code {code}: {text}")
        }
        _ => format!("{operation}: expected its end"),
    })
}

async fn exchange(stream: &mut (impl Stream + ?Sized), question: &[u8]) -> Result<(), Failure> {
    stream.write_all(question).await?;
    stream.flush().await
}

/// Reads one message, which must answer this number.
async fn receive(stream: &mut (impl Stream + ?Sized), id: i32) -> Result<Answer, Failure> {
    let wrong = |problem: &str| Failure::other(problem.to_owned());
    let mut head = [0; 2];
    stream.read_exact(&mut head).await?;
    if head[0] != ber::SEQUENCE {
        return Err(wrong("expected an LDAP message"));
    }
    let length = match usize::from(head[1]) {
        short @ 0..0x80 => short,
        long => {
            let mut bytes = [0; 4];
            let bytes = bytes
                .get_mut(..long & 0x7f)
                .ok_or_else(|| wrong("expected an LDAP message of at most 1 MiB"))?;
            stream.read_exact(bytes).await?;
            ber::length(bytes).map_err(wrong)?
        }
    };
    if length > message::MAX_MESSAGE {
        return Err(wrong("expected an LDAP message of at most 1 MiB"));
    }
    // The length comes from the other side: room is made as bytes come.
    let mut content = Vec::new();
    let limit = u64::try_from(length).unwrap_or(u64::MAX);
    (&mut *stream).take(limit).read_to_end(&mut content).await?;
    if content.len() < length {
        return Err(std::io::ErrorKind::UnexpectedEof.into());
    }
    match message::answer(&content).map_err(wrong)? {
        (got, answer) if got == id => Ok(answer),
        // Number 0: a notice of disconnection.
        (0, _) => Err(wrong("the directory ended the connection")),
        _ => Err(wrong("expected the answer to another LDAP message")),
    }
}
