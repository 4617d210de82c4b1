//! A TLS stream that holds no buffer while it is idle.
//!
//! rustls' buffered connection keeps 4 KiB for each client and reads 4 KiB with each system call. Here its unbuffered
//! one works in a scratch buffer of the thread: a read takes up to 64 KiB of records at once, and only what is left
//! over (an incomplete record, plaintext the caller had no room for, ciphertext the socket did not take) is kept with
//! the connection, until it is used.

use std::cell::RefCell;
use std::future::poll_fn;
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use rustls::ServerConfig;
use rustls::server::UnbufferedServerConnection;
use rustls::unbuffered::{ConnectionState, EncodeError, EncryptError, UnbufferedStatus};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// Ciphertext taken by one read, and plaintext taken by one write: four full records.
const BATCH: usize = 64 * 1024;
/// Most ciphertext that may wait for its rest: a handshake message of the largest size that rustls takes, with the
/// records around it.
const MAX_INCOMING: usize = 96 * 1024;
/// Most handshake answers and alerts that wait for a peer that does not read.
const MAX_OUTGOING: usize = 2 * BATCH;
/// More than a record adds to its 16 KiB of plaintext.
const RECORD_OVERHEAD: usize = 64;
/// Slices of a vectored write are joined up to this size, so that a header and its payload are one record.
const GATHER: usize = 16 * 1024;

thread_local! {
    static SCRATCH: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
    static GATHERED: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
}

/// The server's side of a TLS connection over `S`.
pub struct TlsStream<S> {
    io: S,
    conn: UnbufferedServerConnection,
    /// Ciphertext whose rest has not come, or that was not looked at because the caller's buffer was full.
    incoming: Vec<u8>,
    /// Plaintext that the caller's buffer had no room for, taken up to `plain_pos`.
    plain: Vec<u8>,
    plain_pos: usize,
    /// Ciphertext that the socket did not take, written up to `outgoing_pos`.
    outgoing: Vec<u8>,
    outgoing_pos: usize,
    /// `incoming` may hold whole records.
    unprocessed: bool,
    peer_closed: bool,
    close_sent: bool,
    failed: Option<rustls::Error>,
}

impl<S: std::fmt::Debug> std::fmt::Debug for TlsStream<S> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("TlsStream")
            .field("io", &self.io)
            .field("version", &self.conn.protocol_version())
            .finish_non_exhaustive()
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> TlsStream<S> {
    /// Runs the handshake. There is no time limit in here; memory is bounded by what one handshake message may be.
    ///
    /// # Errors
    /// `InvalidData` with a [`rustls::Error`] inside if TLS fails (the alert was sent), `UnexpectedEof` if the peer
    /// closed, errors of the socket.
    pub async fn accept(io: S, config: Arc<ServerConfig>) -> io::Result<Self> {
        let mut stream = Self {
            io,
            conn: UnbufferedServerConnection::new(config).map_err(invalid)?,
            incoming: Vec::new(),
            plain: Vec::new(),
            plain_pos: 0,
            outgoing: Vec::new(),
            outgoing_pos: 0,
            unprocessed: false,
            peer_closed: false,
            close_sent: false,
            failed: None,
        };
        poll_fn(|cx| stream.poll_handshake(cx)).await?;
        Ok(stream)
    }

    fn poll_handshake(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        loop {
            let sent = self.poll_send(cx)?;
            let done = self.failed.is_none() && !self.conn.is_handshaking();
            // What is left in TLS 1.3 are session tickets, which may go with what is read or written next; in TLS 1.2
            // the client waits for it.
            let version = self.conn.protocol_version();
            if done && (sent.is_ready() || version == Some(rustls::ProtocolVersion::TLSv1_3)) {
                return Poll::Ready(Ok(()));
            }
            if done || self.failed.is_some() {
                ready!(sent);
            }
            if let Some(error) = self.failed.clone() {
                return Poll::Ready(Err(invalid(error)));
            }
            if self.peer_closed {
                return Poll::Ready(Err(io::ErrorKind::UnexpectedEof.into()));
            }
            // Read even if the socket takes nothing now: a client may write before it reads on. What of its first
            // data comes with its last handshake message waits in `plain`.
            ready!(self.poll_fill(cx, &mut []))?;
        }
    }

    /// The socket below.
    pub fn get_ref(&self) -> &S {
        &self.io
    }

    /// What was agreed on: version, ALPN, the peer's certificates.
    pub fn connection(&self) -> &UnbufferedServerConnection {
        &self.conn
    }

    /// Reads plaintext into `out`; 0 when the peer has closed, with or without close_notify: MQTT packets have their
    /// own lengths, so a cut is seen there.
    ///
    /// # Errors
    /// `InvalidData` with a [`rustls::Error`] inside for bad records, errors of the socket.
    pub fn poll_read_plain(
        &mut self,
        cx: &mut Context<'_>,
        out: &mut [u8],
    ) -> Poll<io::Result<usize>> {
        if out.is_empty() {
            return Poll::Ready(Ok(0));
        }
        loop {
            if self.plain_pos < self.plain.len() {
                let rest = &self.plain[self.plain_pos..];
                let n = rest.len().min(out.len());
                out[..n].copy_from_slice(&rest[..n]);
                self.plain_pos += n;
                if self.plain_pos == self.plain.len() {
                    (self.plain, self.plain_pos) = (Vec::new(), 0);
                }
                return Poll::Ready(Ok(n));
            }
            // Alerts and key updates; if the socket is full they wait, and reading goes on.
            if let Poll::Ready(Err(error)) = self.poll_send(cx) {
                return Poll::Ready(Err(error));
            }
            if let Some(error) = self.failed.clone() {
                return Poll::Ready(Err(invalid(error)));
            }
            if self.peer_closed {
                return Poll::Ready(Ok(0));
            }
            let n = ready!(self.poll_fill(cx, out))?;
            if n > 0 {
                return Poll::Ready(Ok(n));
            }
        }
    }

    /// Takes in what is there: first what waits, else one read of the socket. The plaintext goes to `out`, the rest
    /// to `plain`; returns what went to `out`.
    fn poll_fill(&mut self, cx: &mut Context<'_>, out: &mut [u8]) -> Poll<io::Result<usize>> {
        if self.unprocessed {
            let mut incoming = std::mem::take(&mut self.incoming);
            let (used, n) = self.process(&mut incoming, out);
            self.incoming = incoming.split_off(used);
            return Poll::Ready(self.check_outgoing().map(|()| n));
        }
        if self.incoming.len() > MAX_INCOMING {
            return Poll::Ready(Err(io::ErrorKind::InvalidData.into()));
        }
        SCRATCH.with_borrow_mut(|scratch| {
            let start = self.incoming.len();
            if scratch.len() < start + BATCH {
                scratch.resize(start + BATCH, 0);
            }
            let mut buf = ReadBuf::new(&mut scratch[start..start + BATCH]);
            ready!(Pin::new(&mut self.io).poll_read(cx, &mut buf))?;
            let read = buf.filled().len();
            if read == 0 {
                self.peer_closed = true;
                return Poll::Ready(Ok(0));
            }
            scratch[..start].copy_from_slice(&self.incoming);
            self.incoming = Vec::new();
            let input = &mut scratch[..start + read];
            let (used, n) = self.process(input, out);
            if used < input.len() && !self.peer_closed {
                self.incoming = input[used..].to_vec();
            }
            Poll::Ready(self.check_outgoing().map(|()| n))
        })
    }

    /// Works through records until there is nothing whole left or `out` is full. Returns what of `input` is done with
    /// and what was put into `out`. What is not done with must be given again unchanged, with more behind it.
    fn process(&mut self, input: &mut [u8], out: &mut [u8]) -> (usize, usize) {
        let (mut used, mut filled) = (0, 0);
        self.unprocessed = false;
        loop {
            if !self.plain.is_empty() || (filled > 0 && filled == out.len()) {
                self.unprocessed = used < input.len();
                return (used, filled);
            }
            let UnbufferedStatus { discard, state, .. } =
                self.conn.process_tls_records(&mut input[used..]);
            used += discard;
            match state {
                Ok(ConnectionState::ReadTraffic(mut traffic)) => {
                    while let Some(record) = traffic.next_record() {
                        let record = match record {
                            Ok(record) => record,
                            Err(error) => {
                                self.failed = Some(error);
                                return (used, filled);
                            }
                        };
                        used += record.discard;
                        let fits = record.payload.len().min(out.len() - filled);
                        out[filled..filled + fits].copy_from_slice(&record.payload[..fits]);
                        filled += fits;
                        self.plain.extend_from_slice(&record.payload[fits..]);
                    }
                }
                Ok(ConnectionState::EncodeTlsData(mut data)) => {
                    append(&mut self.outgoing, |space| data.encode(space));
                }
                Ok(ConnectionState::TransmitTlsData(data)) => data.done(),
                Ok(ConnectionState::PeerClosed | ConnectionState::Closed) => {
                    self.peer_closed = true;
                    return (used, filled);
                }
                Ok(ConnectionState::BlockedHandshake | ConnectionState::WriteTraffic(_)) => {
                    return (used, filled);
                }
                // Early data, which is not offered, or a state of a later rustls.
                Ok(_) => {
                    self.failed = Some(rustls::Error::General("unexpected TLS state".to_owned()));
                    return (used, filled);
                }
                Err(error) => {
                    self.failed = Some(error);
                    self.take_alert(&mut input[used..]);
                    return (used, filled);
                }
            }
        }
    }

    /// After an error: takes what tells the peer of it, and nothing else. rustls must not see `input` again after
    /// that, whose next bytes it has already refused.
    fn take_alert(&mut self, input: &mut [u8]) {
        while self.conn.wants_write() {
            let Ok(ConnectionState::EncodeTlsData(mut data)) =
                self.conn.process_tls_records(input).state
            else {
                return;
            };
            append(&mut self.outgoing, |space| data.encode(space));
        }
    }

    fn check_outgoing(&self) -> io::Result<()> {
        if self.outgoing.len() - self.outgoing_pos > MAX_OUTGOING {
            return Err(io::Error::new(
                io::ErrorKind::InvalidData,
                "TLS peer asks and does not read",
            ));
        }
        Ok(())
    }

    /// Writes what waits.
    fn poll_send(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while self.outgoing_pos < self.outgoing.len() {
            let n =
                ready!(Pin::new(&mut self.io).poll_write(cx, &self.outgoing[self.outgoing_pos..]))?;
            if n == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            self.outgoing_pos += n;
        }
        if self.outgoing_pos > 0 {
            (self.outgoing, self.outgoing_pos) = (Vec::new(), 0);
        }
        Poll::Ready(Ok(()))
    }

    /// Lets rustls write into `scratch`, which it does only in its state for traffic; records that wait are worked
    /// through on the way. Returns the length written.
    fn seal(
        &mut self,
        scratch: &mut [u8],
        what: impl FnOnce(
            &mut rustls::unbuffered::WriteTraffic<'_, rustls::server::ServerConnectionData>,
            &mut [u8],
        ) -> Result<usize, EncryptError>,
    ) -> io::Result<usize> {
        let mut incoming = std::mem::take(&mut self.incoming);
        let mut used = 0;
        let result = loop {
            let UnbufferedStatus { discard, state, .. } =
                self.conn.process_tls_records(&mut incoming[used..]);
            used += discard;
            match state {
                Ok(ConnectionState::WriteTraffic(mut traffic)) => {
                    break what(&mut traffic, scratch)
                        .map_err(|error| io::Error::other(error.to_string()));
                }
                Ok(ConnectionState::ReadTraffic(mut traffic)) => {
                    while let Some(Ok(record)) = traffic.next_record() {
                        used += record.discard;
                        self.plain.extend_from_slice(record.payload);
                    }
                }
                Ok(ConnectionState::EncodeTlsData(mut data)) => {
                    append(&mut self.outgoing, |space| data.encode(space));
                }
                Ok(ConnectionState::TransmitTlsData(data)) => data.done(),
                Ok(ConnectionState::PeerClosed) => self.peer_closed = true,
                Ok(_) => break Err(io::ErrorKind::BrokenPipe.into()),
                Err(error) => {
                    self.failed = Some(error.clone());
                    self.take_alert(&mut incoming[used..]);
                    break Err(invalid(error));
                }
            }
        };
        self.incoming = incoming.split_off(used);
        result
    }

    /// Encrypts and writes; what the socket does not take waits for [`TlsStream::poll_flush_sealed`].
    fn poll_write_plain(&mut self, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        // At most one batch waits: a slow reader is felt by the writer.
        ready!(self.poll_send(cx))?;
        if self.close_sent || self.failed.is_some() {
            return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into()));
        }
        let buf = &buf[..buf.len().min(BATCH)];
        if buf.is_empty() {
            return Poll::Ready(Ok(0));
        }
        SCRATCH.with_borrow_mut(|scratch| {
            let room = buf.len() + (buf.len() / (16 * 1024) + 2) * RECORD_OVERHEAD;
            if scratch.len() < room {
                scratch.resize(room.max(BATCH), 0);
            }
            let sealed = self.seal(scratch, |traffic, space| traffic.encrypt(buf, space))?;
            let sealed = &scratch[..sealed];
            // Something that had to go first (a key update) waits: then this waits behind it.
            let mut from = 0;
            if self.outgoing.is_empty() {
                match Pin::new(&mut self.io).poll_write(cx, sealed) {
                    Poll::Ready(Ok(n)) => from = n,
                    Poll::Ready(Err(error)) => return Poll::Ready(Err(error)),
                    Poll::Pending => {}
                }
            }
            self.outgoing.extend_from_slice(&sealed[from..]);
            Poll::Ready(Ok(buf.len()))
        })
    }

    fn poll_flush_sealed(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.poll_send(cx))?;
        Pin::new(&mut self.io).poll_flush(cx)
    }
}

/// Lets rustls encode behind what is in `buf`, giving it the room it asks for.
fn append(buf: &mut Vec<u8>, mut encode: impl FnMut(&mut [u8]) -> Result<usize, EncodeError>) {
    let start = buf.len();
    let mut room = 0;
    loop {
        buf.resize(start + room, 0);
        match encode(&mut buf[start..]) {
            Ok(n) => {
                buf.truncate(start + n);
                return;
            }
            Err(EncodeError::InsufficientSize(size)) if size.required_size > room => {
                room = size.required_size
            }
            // Encoded before: not of this call, which is the first for its data.
            Err(_) => {
                buf.truncate(start);
                return;
            }
        }
    }
}

fn invalid(error: rustls::Error) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, error)
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncRead for TlsStream<S> {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let n = ready!(
            self.get_mut()
                .poll_read_plain(cx, buf.initialize_unfilled())
        )?;
        buf.advance(n);
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncWrite for TlsStream<S> {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.get_mut().poll_write_plain(cx, buf)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let stream = self.get_mut();
        let mut parts = bufs.iter().filter(|buf| !buf.is_empty());
        match (parts.next(), parts.next()) {
            (None, _) => Poll::Ready(Ok(0)),
            (Some(only), None) => stream.poll_write_plain(cx, only),
            (Some(first), Some(_)) if first.len() >= GATHER => stream.poll_write_plain(cx, first),
            _ => GATHERED.with_borrow_mut(|gathered| {
                gathered.clear();
                for buf in bufs {
                    let room = GATHER - gathered.len();
                    gathered.extend_from_slice(&buf[..buf.len().min(room)]);
                }
                stream.poll_write_plain(cx, gathered)
            }),
        }
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.get_mut().poll_flush_sealed(cx)
    }

    /// Sends close_notify and closes the socket's sending side.
    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let stream = self.get_mut();
        if !stream.close_sent && stream.failed.is_none() {
            stream.close_sent = true;
            let mut alert = [0; 128];
            // If it cannot be sent any more, the end of the socket says the same.
            if let Ok(n) = stream.seal(&mut alert, |traffic, space| {
                traffic.queue_close_notify(space)
            }) {
                stream.outgoing.extend_from_slice(&alert[..n]);
            }
        }
        ready!(stream.poll_send(cx))?;
        Pin::new(&mut stream.io).poll_shutdown(cx)
    }
}

#[cfg(test)]
#[path = "stream_tests.rs"]
mod tests;
