//! MQTT in WebSocket frames, as a byte stream.
//!
//! Section 6 of MQTT 5.0: binary frames, sub-protocol `mqtt`, packets split or joined over frames as
//! the sender likes. Buffers are kept small: tungstenite's defaults hold 134 KB for each connection.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::{Buf, Bytes};
use futures_util::{Sink, Stream};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;
use tokio_tungstenite::tungstenite::handshake::client::Response;
use tokio_tungstenite::tungstenite::http::HeaderValue;
use tokio_tungstenite::tungstenite::http::header::SEC_WEBSOCKET_PROTOCOL;
use tokio_tungstenite::tungstenite::protocol::WebSocketConfig;
use tokio_tungstenite::tungstenite::{Error as WsError, Message};

use crate::endpoint::Endpoint;

/// The sub-protocol asked for [MQTT-6.0.0-3].
pub const SUBPROTOCOL: &str = "mqtt";

/// Bytes of the read buffer of a connection.
const READ_BUFFER: usize = 1024;
/// The largest frame taken from a broker: an MQTT packet is at most 256 MiB.
const MAX_FRAME: usize = 256 * 1024 * 1024 + 5;
/// The largest frame sent; longer writes become several frames.
const MAX_WRITE: usize = 64 * 1024;

/// A WebSocket connection read and written as bytes.
#[derive(Debug)]
pub struct WebSocket<S> {
    inner: WebSocketStream<S>,
    /// What is left of the last frame.
    rest: Bytes,
}

impl<S: AsyncRead + AsyncWrite + Unpin> WebSocket<S> {
    /// Performs the client's handshake on a connected stream.
    ///
    /// # Errors
    /// What the HTTP exchange failed with; also a broker that chooses no sub-protocol or another one
    /// [MQTT-6.0.0-4].
    pub async fn connect(endpoint: &Endpoint, stream: S) -> io::Result<Self> {
        let scheme = if endpoint.scheme.is_tls() {
            "wss"
        } else {
            "ws"
        };
        let url = format!("{scheme}://{}{}", endpoint.authority(), endpoint.path);
        let mut request = url.into_client_request().map_err(to_io)?;
        request.headers_mut().insert(
            SEC_WEBSOCKET_PROTOCOL,
            HeaderValue::from_static(SUBPROTOCOL),
        );
        let config = WebSocketConfig::default()
            .read_buffer_size(READ_BUFFER)
            .write_buffer_size(0)
            .max_message_size(Some(MAX_FRAME))
            .max_frame_size(Some(MAX_FRAME));
        let (inner, response) =
            tokio_tungstenite::client_async_with_config(request, stream, Some(config))
                .await
                .map_err(to_io)?;
        check_subprotocol(&response)?;
        Ok(Self {
            inner,
            rest: Bytes::new(),
        })
    }

    /// The stream underneath.
    pub fn get_ref(&self) -> &S {
        self.inner.get_ref()
    }
}

fn check_subprotocol(response: &Response) -> io::Result<()> {
    match response.headers().get(SEC_WEBSOCKET_PROTOCOL) {
        Some(chosen) if chosen.as_bytes() == SUBPROTOCOL.as_bytes() => Ok(()),
        chosen => Err(io::Error::new(
            io::ErrorKind::InvalidData,
            format!("expected the sub-protocol {SUBPROTOCOL}, got {chosen:?}"),
        )),
    }
}

fn to_io(error: WsError) -> io::Error {
    match error {
        WsError::Io(error) => error,
        WsError::ConnectionClosed | WsError::AlreadyClosed => io::ErrorKind::UnexpectedEof.into(),
        WsError::Http(response) => io::Error::new(
            io::ErrorKind::InvalidData,
            format!("the server answered HTTP {}", response.status()),
        ),
        other => io::Error::new(io::ErrorKind::InvalidData, other.to_string()),
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncRead for WebSocket<S> {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        while this.rest.is_empty() {
            match ready!(Pin::new(&mut this.inner).poll_next(cx)) {
                Some(Ok(Message::Binary(bytes))) => this.rest = bytes,
                Some(Ok(Message::Text(_))) => {
                    return Poll::Ready(Err(io::Error::new(
                        io::ErrorKind::InvalidData,
                        "the broker sent a text frame",
                    )));
                }
                Some(Ok(Message::Close(_))) | None => return Poll::Ready(Ok(())),
                Some(Ok(_)) => {}
                Some(Err(error)) => return Poll::Ready(Err(to_io(error))),
            }
        }
        let taken = this.rest.len().min(buf.remaining());
        buf.put_slice(&this.rest[..taken]);
        this.rest.advance(taken);
        if this.rest.is_empty() {
            this.rest = Bytes::new();
        }
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncWrite for WebSocket<S> {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        let inner = &mut self.get_mut().inner;
        ready!(Pin::new(&mut *inner).poll_ready(cx)).map_err(to_io)?;
        let length = buf.len().min(MAX_WRITE);
        let frame = Message::Binary(Bytes::copy_from_slice(&buf[..length]));
        Pin::new(inner).start_send(frame).map_err(to_io)?;
        Poll::Ready(Ok(length))
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().inner)
            .poll_flush(cx)
            .map_err(to_io)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match ready!(Pin::new(&mut self.get_mut().inner).poll_close(cx)) {
            Ok(()) | Err(WsError::ConnectionClosed | WsError::AlreadyClosed) => Poll::Ready(Ok(())),
            Err(error) => Poll::Ready(Err(to_io(error))),
        }
    }
}
