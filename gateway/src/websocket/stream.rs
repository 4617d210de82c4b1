//! A WebSocket as a byte stream over any socket.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::frame::{self, Control, FrameDecoder, MAX_SERVER_HEADER, Refusal};

/// Slices one vectored write takes besides the frame header; more are left for the next call.
const MAX_SLICES: usize = 15;

/// The server's side of a WebSocket whose handshake is done.
///
/// Reading gives the payload of binary frames as one stream; Ping and Close are answered on the way. Each write
/// becomes one binary frame of all bytes offered. If the socket takes only a part, the frame stays open and the
/// bytes offered next continue it, so a caller must offer the bytes that were not taken again, first and unchanged,
/// as with any socket.
#[derive(Debug)]
pub struct WsStream<S> {
    io: S,
    decoder: FrameDecoder,
    /// Bytes that came behind the HTTP request, not yet decoded.
    prefix: Vec<u8>,
    /// Payload bytes the open outgoing frame still needs.
    out_left: u64,
    out_header: [u8; MAX_SERVER_HEADER],
    out_header_pos: u8,
    out_header_len: u8,
    closing: Closing,
    peer_closed: bool,
    failed: Option<Refusal>,
    /// A control frame being written, and how much of it is.
    control: Vec<u8>,
    control_pos: usize,
    /// Payload of the last Ping not yet answered; RFC 6455 section 5.5.3 lets the last one stand for all.
    ping: Option<Vec<u8>>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Closing {
    Open,
    Due(u16),
    Sent,
}

impl<S: AsyncRead + AsyncWrite + Unpin> WsStream<S> {
    /// Takes over a socket after the handshake. `prefix` is what was read of it behind the HTTP request;
    /// `max_message` limits one message of the client in bytes.
    #[must_use]
    pub fn new(io: S, prefix: Vec<u8>, max_message: u64) -> Self {
        Self {
            io,
            decoder: FrameDecoder::new(max_message),
            prefix,
            out_left: 0,
            out_header: [0; MAX_SERVER_HEADER],
            out_header_pos: 0,
            out_header_len: 0,
            closing: Closing::Open,
            peer_closed: false,
            failed: None,
            control: Vec::new(),
            control_pos: 0,
            ping: None,
        }
    }

    /// The socket below.
    pub fn get_ref(&self) -> &S {
        &self.io
    }

    /// Reads payload into `scratch`; 0 when the peer has closed.
    ///
    /// # Errors
    /// `InvalidData` with a [`Refusal`] inside for text frames and protocol errors; the Close frame was queued and
    /// tried once. Errors of the socket as they are.
    pub fn poll_read(
        &mut self,
        cx: &mut Context<'_>,
        scratch: &mut [u8],
    ) -> Poll<io::Result<usize>> {
        if scratch.is_empty() {
            return Poll::Ready(Ok(0));
        }
        loop {
            if let Poll::Ready(Err(error)) = self.poll_control(cx) {
                return Poll::Ready(Err(error));
            }
            if let Some(refusal) = self.failed {
                return Poll::Ready(Err(io::Error::new(io::ErrorKind::InvalidData, refusal)));
            }
            if self.peer_closed {
                return Poll::Ready(Ok(0));
            }
            let read = if self.prefix.is_empty() {
                let mut buf = ReadBuf::new(scratch);
                ready!(Pin::new(&mut self.io).poll_read(cx, &mut buf))?;
                buf.filled().len()
            } else {
                let n = self.prefix.len().min(scratch.len());
                scratch[..n].copy_from_slice(&self.prefix[..n]);
                self.prefix.drain(..n);
                if self.prefix.is_empty() {
                    self.prefix = Vec::new();
                }
                n
            };
            if read == 0 {
                self.peer_closed = true;
                return Poll::Ready(Ok(0));
            }
            let data = self.decode(&mut scratch[..read]);
            if data > 0 {
                // What a control frame made due is written now; if the socket is full, the next call tries again.
                if let Poll::Ready(Err(error)) = self.poll_control(cx) {
                    tracing::trace!(%error, "websocket control frame not sent");
                }
                return Poll::Ready(Ok(data));
            }
        }
    }

    fn decode(&mut self, input: &mut [u8]) -> usize {
        let Self {
            decoder,
            ping,
            peer_closed,
            closing,
            ..
        } = self;
        let (data, refusal) = decoder.decode(input, |control| match control {
            Control::Ping(payload) => *ping = Some(payload),
            Control::Pong => {}
            Control::Close(code) => {
                *peer_closed = true;
                if *closing == Closing::Open {
                    *closing = Closing::Due(code.unwrap_or(1000));
                }
            }
        });
        if let Some(refusal) = refusal {
            self.failed = Some(refusal);
            if self.closing == Closing::Open {
                self.closing = Closing::Due(refusal.code());
            }
        }
        data
    }

    /// Writes bytes of the stream; see the type for how frames are formed.
    ///
    /// # Errors
    /// `BrokenPipe` after a Close frame was sent; errors of the socket as they are.
    pub fn poll_write(&mut self, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        self.poll_write_vectored(cx, &[IoSlice::new(buf)])
    }

    /// Writes the bytes of several slices as one frame.
    ///
    /// # Errors
    /// As [`WsStream::poll_write`].
    pub fn poll_write_vectored(
        &mut self,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let bufs = &bufs[..bufs.len().min(MAX_SLICES)];
        let offered: u64 = bufs.iter().map(|buf| buf.len() as u64).sum();
        if offered == 0 {
            return Poll::Ready(Ok(0));
        }
        if !self.frame_open() {
            ready!(self.poll_control(cx))?;
            if self.closing != Closing::Open {
                return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into()));
            }
            self.out_header_len = frame::binary_header(offered, &mut self.out_header);
            self.out_header_pos = 0;
            self.out_left = offered;
        }
        loop {
            let header_left = usize::from(self.out_header_len - self.out_header_pos);
            let written = match self.poll_write_frame(cx, bufs) {
                Poll::Ready(Ok(0)) => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                Poll::Ready(Ok(n)) => n,
                Poll::Ready(Err(error)) => return Poll::Ready(Err(error)),
                Poll::Pending => {
                    if self.out_header_pos == 0 && self.out_header_len > 0 {
                        // Nothing of this frame is out: the next call may frame more bytes together.
                        self.out_header_len = 0;
                        self.out_left = 0;
                    }
                    return Poll::Pending;
                }
            };
            let of_header = written.min(header_left);
            self.out_header_pos += of_header as u8;
            if self.out_header_pos == self.out_header_len {
                (self.out_header_pos, self.out_header_len) = (0, 0);
            }
            let of_payload = written - of_header;
            if of_payload > 0 {
                self.out_left -= of_payload as u64;
                return Poll::Ready(Ok(of_payload));
            }
        }
    }

    /// One write of what is left of the header, and of payload up to the frame's end.
    fn poll_write_frame(
        &mut self,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let header =
            &self.out_header[usize::from(self.out_header_pos)..usize::from(self.out_header_len)];
        let io = Pin::new(&mut self.io);
        if !io.is_write_vectored() && !header.is_empty() {
            return io.poll_write(cx, header);
        }
        let mut slices = [IoSlice::new(&[]); MAX_SLICES + 1];
        let mut used = 0;
        if !header.is_empty() {
            slices[0] = IoSlice::new(header);
            used = 1;
        }
        let mut left = usize::try_from(self.out_left).unwrap_or(usize::MAX);
        for buf in bufs {
            let part: &[u8] = &buf[..buf.len().min(left)];
            if part.is_empty() {
                continue;
            }
            left -= part.len();
            slices[used] = IoSlice::new(part);
            used += 1;
        }
        match &slices[..used] {
            [one] => io.poll_write(cx, one),
            several => io.poll_write_vectored(cx, several),
        }
    }

    fn frame_open(&self) -> bool {
        self.out_left > 0 || self.out_header_len > 0
    }

    /// Writes due control frames unless a data frame is open, whose end they wait for.
    fn poll_control(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.frame_open() {
            return Poll::Ready(Ok(()));
        }
        let mut wrote = false;
        loop {
            if self.control_pos < self.control.len() {
                let n = ready!(
                    Pin::new(&mut self.io).poll_write(cx, &self.control[self.control_pos..])
                )?;
                if n == 0 {
                    return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
                }
                self.control_pos += n;
                wrote = true;
            } else if let Some(payload) = self.ping.take() {
                self.control = frame::pong(&payload);
                self.control_pos = 0;
            } else if let Closing::Due(code) = self.closing {
                self.control = frame::close(code);
                self.control_pos = 0;
                self.closing = Closing::Sent;
            } else {
                self.control = Vec::new();
                self.control_pos = 0;
                if wrote {
                    return Pin::new(&mut self.io).poll_flush(cx);
                }
                return Poll::Ready(Ok(()));
            }
        }
    }

    /// Moves everything written, control frames included, to the system.
    ///
    /// # Errors
    /// Those of the socket.
    pub fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.poll_control(cx))?;
        Pin::new(&mut self.io).poll_flush(cx)
    }

    /// Sends a Close frame (1000) if none was sent, and closes the socket's sending side.
    ///
    /// # Errors
    /// Those of the socket.
    pub fn poll_shutdown(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.closing == Closing::Open {
            self.closing = Closing::Due(1000);
        }
        ready!(self.poll_control(cx))?;
        Pin::new(&mut self.io).poll_shutdown(cx)
    }
}

#[cfg(test)]
#[path = "stream_tests.rs"]
mod tests;
