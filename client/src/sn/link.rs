//! A client model on a UDP socket.
//!
//! As with [`Connection`](crate::Connection) there is no background task: messages are answered, repeated and kept alive
//! while a method is awaited. Every method is cancel safe: what a dropped future took in stays.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::{Duration, Instant};

use nightjar_mqttsn::ReturnCode;
use nightjar_mqttsn::client::{Client, Event, Token};
use tokio::net::UdpSocket;
use tokio::time::sleep_until;

use crate::error::{Error, Result};
use crate::sn::args::SnTarget;
use crate::sn::debug;

/// The largest datagram UDP can bring.
const MAX_DATAGRAM: usize = 65_535;

/// How long a host may take to say that nobody listens on the port, where no answer is waited for.
const REFUSAL: Duration = Duration::from_millis(100);

/// One client on one socket.
#[derive(Debug)]
pub struct Link {
    socket: UdpSocket,
    /// The gateway's address in use, then those not tried.
    addresses: Vec<SocketAddr>,
    bind: Option<IpAddr>,
    client: Client,
    client_id: String,
    debug: bool,
    /// Taken from the client and not sent.
    unsent: Option<Vec<u8>>,
    /// Sent last; sent again to the next address when nobody listens on this one.
    last_sent: Vec<u8>,
    /// The gateway was heard.
    heard: bool,
    buffer: Vec<u8>,
}

impl Link {
    /// A socket towards the gateway. Nothing is sent.
    ///
    /// # Errors
    /// [`Error::Lookup`] and [`Error::Connect`].
    pub async fn open(target: &SnTarget) -> Result<Self> {
        let failed = |source| Error::Lookup {
            host: target.host.clone(),
            source,
        };
        let found = tokio::net::lookup_host((target.host.as_str(), target.port)).await;
        let mut addresses: Vec<SocketAddr> = found.map_err(failed)?.collect();
        addresses.retain(|address| {
            target
                .bind
                .is_none_or(|bind| bind.is_ipv4() == address.is_ipv4())
        });
        let Some(&first) = addresses.first() else {
            return Err(failed(io::Error::new(
                io::ErrorKind::NotFound,
                "no address of the family asked for",
            )));
        };
        Ok(Self {
            socket: socket_to(first, target.bind).await?,
            addresses,
            bind: target.bind,
            client: Client::new(target.config.clone()),
            client_id: target.config.client_id.clone(),
            debug: target.debug,
            unsent: None,
            last_sent: Vec::new(),
            heard: false,
            buffer: vec![0; MAX_DATAGRAM],
        })
    }

    /// The client, to be given commands.
    pub fn client(&mut self) -> &mut Client {
        &mut self.client
    }

    /// The next event; sends, repeats and answers what is due meanwhile.
    ///
    /// # Errors
    /// [`Error::Connect`] where nobody listens, [`Error::Io`] where a datagram is too long for UDP.
    pub async fn next_event(&mut self) -> Result<Event> {
        loop {
            self.flush().await?;
            if let Some(event) = self.client.poll_event() {
                return Ok(event);
            }
            let due = self.client.poll_timeout();
            tokio::select! {
                received = self.socket.recv(&mut self.buffer) => match received {
                    Ok(length) => self.handle(length),
                    Err(error) => self.failed(error).await?,
                },
                () = sleep_until(due.unwrap_or_else(Instant::now).into()), if due.is_some() => {
                    self.client.handle_timeout(Instant::now());
                }
            }
        }
    }

    /// Waits for the end of one command; other events are passed to `other`. The id or the refusal.
    ///
    /// # Errors
    /// Those of [`Link::next_event`]; [`Error::Timeout`] and [`Error::Lost`] where the connection ends before.
    pub async fn finish(
        &mut self,
        wanted: Token,
        mut other: impl FnMut(Event),
    ) -> Result<std::result::Result<Option<u16>, ReturnCode>> {
        loop {
            match self.next_event().await? {
                Event::Done { token, topic_id } if token == wanted => return Ok(Ok(topic_id)),
                Event::Refused { token, code } if token == wanted => return Ok(Err(code)),
                Event::Disconnected { no_answer } => return Err(self.lost(no_answer)),
                event => other(event),
            }
        }
    }

    /// The error that a lost connection is.
    pub fn lost(&self, no_answer: bool) -> Error {
        if no_answer {
            Error::Timeout {
                what: "answer",
                after: self.client.patience(),
            }
        } else {
            Error::Lost(io::Error::new(
                io::ErrorKind::ConnectionReset,
                "the gateway sent DISCONNECT",
            ))
        }
    }

    /// Sends everything that the client has to send.
    ///
    /// # Errors
    /// As [`Link::next_event`].
    pub async fn flush(&mut self) -> Result<()> {
        loop {
            if self.unsent.is_none() {
                self.unsent = self.client.poll_transmit();
            }
            let Some(datagram) = &self.unsent else {
                return Ok(());
            };
            match self.socket.send(datagram).await {
                Ok(_) => {
                    if self.debug {
                        debug::print(&self.client_id, "sending", datagram);
                    }
                    self.last_sent = self.unsent.take().unwrap_or_default();
                }
                // The refusal of what was sent before; this one is still to go.
                Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => {
                    self.failed(error).await?;
                }
                Err(source) => {
                    return Err(Error::Io {
                        what: "cannot send the datagram",
                        source,
                    });
                }
            }
        }
    }

    /// Sends everything, and gives the host a moment to say that nobody listens: for what has no answer.
    ///
    /// # Errors
    /// As [`Link::next_event`].
    pub async fn flush_unanswered(&mut self) -> Result<()> {
        self.flush().await?;
        let until = tokio::time::Instant::now() + REFUSAL;
        loop {
            tokio::select! {
                received = self.socket.recv(&mut self.buffer) => match received {
                    Ok(length) => self.handle(length),
                    Err(error) => self.failed(error).await?,
                },
                () = sleep_until(until) => return Ok(()),
            }
        }
    }

    fn handle(&mut self, length: usize) {
        self.heard = true;
        let datagram = &self.buffer[..length];
        if self.debug {
            debug::print(&self.client_id, "received", datagram);
        }
        // What is no message changes nothing; `--debug` shows it.
        let _ = self.client.handle_datagram(Instant::now(), datagram);
    }

    /// Nobody listens on the port: the next address of the name, or the end. Once the gateway was heard it may be
    /// restarting, and repeats go on.
    async fn failed(&mut self, source: io::Error) -> Result<()> {
        if source.kind() != io::ErrorKind::ConnectionRefused {
            return Err(Error::Io {
                what: "cannot receive",
                source,
            });
        }
        if self.heard {
            return Ok(());
        }
        let address = self.addresses.remove(0);
        let Some(&next) = self.addresses.first() else {
            return Err(Error::Connect {
                address: format!("udp://{address}"),
                source,
            });
        };
        self.socket = socket_to(next, self.bind).await?;
        if self.unsent.is_none() && !self.last_sent.is_empty() {
            self.unsent = Some(std::mem::take(&mut self.last_sent));
        }
        Ok(())
    }
}

/// A socket that hears one gateway only.
async fn socket_to(address: SocketAddr, bind: Option<IpAddr>) -> Result<UdpSocket> {
    let any = if address.is_ipv4() {
        IpAddr::V4(Ipv4Addr::UNSPECIFIED)
    } else {
        IpAddr::V6(Ipv6Addr::UNSPECIFIED)
    };
    let failed = |source| Error::Connect {
        address: format!("udp://{address}"),
        source,
    };
    let socket = UdpSocket::bind((bind.unwrap_or(any), 0))
        .await
        .map_err(failed)?;
    socket.connect(address).await.map_err(failed)?;
    Ok(socket)
}
