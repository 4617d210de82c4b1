//! What a client's connection reads from and writes to: one enum over the four kinds of stream, so that the path of
//! a packet has no dynamic dispatch.
//!
//! The methods are poll functions because a connection waits for several things at once and reads into its worker's
//! shared scratch buffer, which no future may borrow over a wait.

use std::io::{self, IoSlice};
use std::net::SocketAddr;
use std::pin::Pin;
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, DuplexStream, ReadBuf};
use tokio::net::TcpStream;

use crate::tls::TlsStream;
use crate::websocket::WsStream;

/// A connected stream to a client. The larger kinds are boxed: most clients are plain TCP, and the connection's task
/// is as large as its largest variant.
#[derive(Debug)]
pub enum Transport {
    /// MQTT on plain TCP.
    Tcp(TcpStream),
    /// MQTT over TLS.
    Tls(Box<TlsStream<TcpStream>>),
    /// MQTT over WebSocket.
    Ws(Box<WsStream<TcpStream>>),
    /// MQTT over secure WebSocket.
    Wss(Box<WsStream<TlsStream<TcpStream>>>),
    /// A pipe within the process, for tests and benches.
    Memory(Box<DuplexStream>),
}

/// Runs the same call on whichever stream it is.
macro_rules! each {
    ($self:ident, $io:ident => $socket:expr, $ws:ident => $websocket:expr) => {
        match $self {
            Transport::Tcp($io) => $socket,
            Transport::Tls($io) => {
                let $io = &mut **$io;
                $socket
            }
            Transport::Memory($io) => {
                let $io = &mut **$io;
                $socket
            }
            Transport::Ws($ws) => $websocket,
            Transport::Wss($ws) => $websocket,
        }
    };
}

impl Transport {
    /// Reads what is there, at most `scratch.len()` bytes. 0 means that the peer has closed (or that `scratch` is
    /// empty, which no caller should ask).
    ///
    /// # Errors
    /// Those of the socket; `InvalidData` for TLS and WebSocket errors of the peer. All of them end the connection.
    pub fn poll_read(
        &mut self,
        cx: &mut Context<'_>,
        scratch: &mut [u8],
    ) -> Poll<io::Result<usize>> {
        each!(self, io => {
            let mut buf = ReadBuf::new(scratch);
            match Pin::new(io).poll_read(cx, &mut buf) {
                Poll::Ready(Ok(())) => Poll::Ready(Ok(buf.filled().len())),
                Poll::Ready(Err(error)) => Poll::Ready(Err(error)),
                Poll::Pending => Poll::Pending,
            }
        }, ws => ws.poll_read(cx, scratch))
    }

    /// Writes a part of `buf` and says how much was taken; over WebSocket all of `buf` goes into one binary frame.
    /// What was not taken must be offered again first. TLS may hold taken bytes until [`Transport::poll_flush`].
    ///
    /// # Errors
    /// Those of the socket, `BrokenPipe` if the stream was closed.
    pub fn poll_write(&mut self, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        each!(self, io => Pin::new(io).poll_write(cx, buf), ws => ws.poll_write(cx, buf))
    }

    /// As [`Transport::poll_write`] over several slices in one system call (TCP, WS) or record (TLS).
    ///
    /// # Errors
    /// As [`Transport::poll_write`].
    pub fn poll_write_vectored(
        &mut self,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        each!(self, io => Pin::new(io).poll_write_vectored(cx, bufs), ws => ws.poll_write_vectored(cx, bufs))
    }

    /// Moves everything that was taken to the system. Nothing to do for TCP; must be driven to its end for the others.
    ///
    /// # Errors
    /// Those of the socket.
    pub fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        each!(self, io => Pin::new(io).poll_flush(cx), ws => ws.poll_flush(cx))
    }

    /// Closes the sending side in the stream's own way: Close frame, TLS close_notify, FIN.
    ///
    /// # Errors
    /// Those of the socket.
    pub fn poll_shutdown(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        each!(self, io => Pin::new(io).poll_shutdown(cx), ws => ws.poll_shutdown(cx))
    }

    /// [`Transport::poll_shutdown`] as a future.
    ///
    /// # Errors
    /// Those of the socket.
    pub async fn shutdown(&mut self) -> io::Result<()> {
        std::future::poll_fn(|cx| self.poll_shutdown(cx)).await
    }

    /// The socket's peer: a proxy's address where one stands between.
    ///
    /// # Errors
    /// `NotConnected` if the peer is gone; `Unsupported` for [`Transport::Memory`].
    pub fn peer_addr(&self) -> io::Result<SocketAddr> {
        self.socket()
            .map_or(Err(io::ErrorKind::Unsupported.into()), TcpStream::peer_addr)
    }

    /// The local address of the socket.
    ///
    /// # Errors
    /// As [`Transport::peer_addr`].
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        self.socket().map_or(
            Err(io::ErrorKind::Unsupported.into()),
            TcpStream::local_addr,
        )
    }

    /// The TCP socket below; `None` for [`Transport::Memory`].
    #[must_use]
    pub fn socket(&self) -> Option<&TcpStream> {
        match self {
            Self::Tcp(tcp) => Some(tcp),
            Self::Tls(tls) => Some(tls.get_ref()),
            Self::Ws(ws) => Some(ws.get_ref()),
            Self::Wss(ws) => Some(ws.get_ref().get_ref()),
            Self::Memory(_) => None,
        }
    }
}
