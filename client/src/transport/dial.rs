//! Making a connection: name, source address, TCP, then TLS and WebSocket as the scheme says.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use tokio::net::{TcpSocket, TcpStream};
use tokio_rustls::TlsConnector;

use crate::endpoint::Endpoint;
use crate::error::{Error, Result};
use crate::tls::TlsOptions;
use crate::transport::{Transport, WebSocket};

/// How long a connection with all its handshakes may take.
pub const DIAL_TIMEOUT: Duration = Duration::from_secs(30);

/// Makes connections to one endpoint; everything they share is built once.
#[derive(Debug, Clone)]
pub struct Dialer {
    endpoint: Endpoint,
    tls: Option<(Arc<ClientConfig>, ServerName<'static>)>,
    source: Option<IpAddr>,
}

impl Dialer {
    /// A dialer for `endpoint`; `tls` is used where the scheme has TLS.
    ///
    /// # Errors
    /// [`Error::File`] for certificates that cannot be read, [`Error::Usage`] for a host name that
    /// TLS cannot check.
    pub fn new(endpoint: Endpoint, tls: &TlsOptions) -> Result<Self> {
        let tls = if endpoint.scheme.is_tls() {
            let name = ServerName::try_from(endpoint.host.clone())
                .map_err(|error| Error::Usage(format!("{}: {error}", endpoint.host)))?;
            Some((tls.client_config()?, name))
        } else {
            None
        };
        Ok(Self {
            endpoint,
            tls,
            source: None,
        })
    }

    /// Connections leave from this local address.
    pub fn source(mut self, source: Option<IpAddr>) -> Self {
        self.source = source;
        self
    }

    /// The endpoint dialed.
    pub fn endpoint(&self) -> &Endpoint {
        &self.endpoint
    }

    /// The addresses of the endpoint's host.
    ///
    /// # Errors
    /// [`Error::Lookup`], also where the name has no address.
    pub async fn resolve(&self) -> Result<Vec<SocketAddr>> {
        let host = self.endpoint.host.as_str();
        let failed = |source| Error::Lookup {
            host: host.to_owned(),
            source,
        };
        let found = tokio::net::lookup_host((host, self.endpoint.port)).await;
        let addresses: Vec<_> = found.map_err(failed)?.collect();
        if addresses.is_empty() {
            return Err(failed(io::Error::new(
                io::ErrorKind::NotFound,
                "no address",
            )));
        }
        Ok(addresses)
    }

    /// Resolves the name and connects to its addresses in turn until one answers.
    ///
    /// # Errors
    /// [`Error::Lookup`], or the error of the last address tried.
    pub async fn dial(&self) -> Result<Transport> {
        let mut last = None;
        for address in self.resolve().await? {
            if self
                .source
                .is_some_and(|source| source.is_ipv4() != address.is_ipv4())
            {
                continue;
            }
            match self.dial_address(address, self.source).await {
                Ok(transport) => return Ok(transport),
                Err(error) => last = Some(error),
            }
        }
        Err(last.unwrap_or_else(|| {
            Error::Usage(format!(
                "{} has no address of the same family as the source address",
                self.endpoint.host
            ))
        }))
    }

    /// Connects to one address from a given source.
    ///
    /// # Errors
    /// [`Error::Connect`], [`Error::Handshake`] or, after 30 s, [`Error::Timeout`].
    pub async fn dial_address(
        &self,
        address: SocketAddr,
        source: Option<IpAddr>,
    ) -> Result<Transport> {
        match tokio::time::timeout(DIAL_TIMEOUT, self.handshakes(address, source)).await {
            Ok(result) => result,
            Err(_) => Err(Error::Timeout {
                what: "connection",
                after: DIAL_TIMEOUT,
            }),
        }
    }

    async fn handshakes(&self, address: SocketAddr, source: Option<IpAddr>) -> Result<Transport> {
        let tcp = connect_tcp(address, source)
            .await
            .map_err(|source| Error::Connect {
                address: address.to_string(),
                source,
            })?;
        let failed = |stage| {
            move |source| Error::Handshake {
                stage,
                address: address.to_string(),
                source,
            }
        };
        let websocket = self.endpoint.scheme.is_websocket();
        let Some((config, name)) = &self.tls else {
            if !websocket {
                return Ok(Transport::Tcp(tcp));
            }
            let ws = WebSocket::connect(&self.endpoint, tcp).await;
            return Ok(Transport::Ws(Box::new(ws.map_err(failed("WebSocket"))?)));
        };
        let tls = TlsConnector::from(Arc::clone(config))
            .connect(name.clone(), tcp)
            .await
            .map_err(failed("TLS"))?;
        if !websocket {
            return Ok(Transport::Tls(Box::new(tls)));
        }
        let ws = WebSocket::connect(&self.endpoint, tls).await;
        Ok(Transport::Wss(Box::new(ws.map_err(failed("WebSocket"))?)))
    }
}

async fn connect_tcp(address: SocketAddr, source: Option<IpAddr>) -> io::Result<TcpStream> {
    let socket = if address.is_ipv4() {
        TcpSocket::new_v4()?
    } else {
        TcpSocket::new_v6()?
    };
    if let Some(source) = source {
        // Without this a port in TIME_WAIT towards another broker would count as taken.
        socket.set_reuseaddr(true)?;
        socket.bind(SocketAddr::new(source, 0))?;
    }
    // Packets are written together by this crate; Nagle's algorithm would only add its delay.
    socket.set_nodelay(true)?;
    socket.connect(address).await
}
