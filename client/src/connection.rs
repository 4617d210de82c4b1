//! One client on one connection: [`Session`] driven over a [`Transport`].
//!
//! There is no background task. Packets are read, acknowledged and pinged for while a method of
//! [`Connection`] is awaited; a program that only listens awaits [`Connection::next_event`] in a loop.
//! Every method is cancel safe but for [`Connection::close`]: a dropped future loses no packet.

use std::collections::VecDeque;
use std::future::poll_fn;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::{Buf, BytesMut};
use nightjar_mqtt::packet::SubscriptionOptions;
use nightjar_mqtt::{Decoded, Decoder, QoS, ReasonCode};
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt, ReadBuf};
use tokio::time::{Instant, sleep_until, timeout};

use crate::error::{Error, Result};
use crate::message::Message;
use crate::options::ConnectOptions;
use crate::session::{Connected, Event, Session, SessionError};
use crate::transport::{Dialer, Transport};

/// Free space kept in the read buffer.
const READ_CHUNK: usize = 8 * 1024;
/// A read buffer that a large packet made longer than this is given back.
const READ_KEEP: usize = 64 * 1024;
/// Unsent bytes after which [`Connection::send`] waits for the socket.
const WRITE_HIGH: usize = 64 * 1024;

/// A connected MQTT client.
#[derive(Debug)]
pub struct Connection {
    transport: Transport,
    session: Session,
    options: ConnectOptions,
    decoder: Decoder,
    read: BytesMut,
    write: Vec<u8>,
    /// Bytes of `write` that are sent already.
    written: usize,
    events: VecDeque<Event>,
    keep_alive: Option<Duration>,
    last_sent: Instant,
    /// When the PINGREQ without an answer was sent.
    pinged: Option<Instant>,
}

impl Connection {
    /// Dials and performs CONNECT.
    ///
    /// # Errors
    /// Those of [`Dialer::dial`] and of [`Connection::open`].
    pub async fn connect(dialer: &Dialer, options: ConnectOptions) -> Result<Self> {
        Self::open(dialer.dial().await?, options).await
    }

    /// Performs CONNECT on a connected transport with a new session.
    ///
    /// # Errors
    /// [`Error::Refused`] with the code in CONNACK, [`Error::Timeout`] where none comes,
    /// [`Error::Lost`] where the broker closes.
    pub async fn open(transport: impl Into<Transport>, options: ConnectOptions) -> Result<Self> {
        let session = Session::new(&options);
        let resumed = Self::resume(transport, options, session).await;
        resumed.map_err(|failed| failed.0)
    }

    /// Performs CONNECT and goes on with the session of an earlier connection
    /// ([`Connection::into_session`]): where the broker has it too, unacknowledged packets are sent
    /// again; where it has not, [`Connection::take_orphans`] has the messages.
    ///
    /// # Errors
    /// As [`Connection::open`], with the session for another attempt.
    pub async fn resume(
        transport: impl Into<Transport>,
        options: ConnectOptions,
        session: Session,
    ) -> std::result::Result<Self, Box<(Error, Session)>> {
        let max = options.properties.maximum_packet_size.unwrap_or(u32::MAX);
        let mut this = Self {
            transport: transport.into(),
            decoder: Decoder::client(options.version, max),
            session,
            read: BytesMut::new(),
            write: Vec::new(),
            written: 0,
            events: VecDeque::new(),
            keep_alive: None,
            last_sent: Instant::now(),
            pinged: None,
            options,
        };
        match this.handshake().await {
            Ok(()) => Ok(this),
            Err(error) => Err(Box::new((error, this.session))),
        }
    }

    async fn handshake(&mut self) -> Result<()> {
        self.session.connect(&self.options, &mut self.write)?;
        let connected = self
            .answer("CONNACK", |event| match event {
                Event::Connected(connected) => Some(connected.clone()),
                _ => None,
            })
            .await?;
        if connected.reason.is_error() {
            return Err(refused(&connected, self.options.version.is_v5()));
        }
        let keep_alive = connected
            .server_keep_alive
            .unwrap_or(self.options.keep_alive);
        self.keep_alive = (keep_alive > 0).then(|| Duration::from_secs(keep_alive.into()));
        if connected.session_present {
            self.session.resend(&mut self.write)?;
        }
        Ok(())
    }

    /// Messages of the resumed session that were in flight when the broker forgot it. They are not
    /// sent again by themselves: whether that may duplicate them is the caller's to decide.
    pub fn take_orphans(&mut self) -> Vec<Message> {
        self.session.take_orphans()
    }

    /// What the broker said in CONNACK.
    pub fn connected(&self) -> &Connected {
        self.session
            .server()
            .expect("open returns a connection only after CONNACK")
    }

    /// The client identifier in use: the one given, or the one the broker chose.
    pub fn client_id(&self) -> &str {
        let assigned = self.connected().assigned_client_id.as_deref();
        assigned.unwrap_or(&self.options.client_id)
    }

    /// The protocol state.
    pub fn session(&self) -> &Session {
        &self.session
    }

    /// The byte stream, for addresses and socket options.
    pub fn transport(&self) -> &Transport {
        &self.transport
    }

    /// Drops the network connection without DISCONNECT and keeps the session for
    /// [`Connection::resume`].
    pub fn into_session(self) -> Session {
        self.session
    }

    /// Drops protocol and session and keeps the byte stream, for tests that go on with raw bytes.
    pub fn into_transport(self) -> Transport {
        self.transport
    }

    /// The next event. Acknowledgements and pings happen meanwhile.
    ///
    /// # Errors
    /// [`Error::Lost`] at the end of the connection and where PINGRESP stays away,
    /// [`Error::Session`] for packets the broker may not send: a 5.0 broker was told, and the
    /// connection has to be dropped.
    pub async fn next_event(&mut self) -> Result<Event> {
        loop {
            if let Some(event) = self.events.pop_front() {
                return Ok(event);
            }
            self.drive().await?;
        }
    }

    /// The next message; other events are passed over.
    ///
    /// # Errors
    /// As [`Connection::next_event`], and [`Error::Disconnected`] where the broker says goodbye.
    pub async fn next_message(&mut self) -> Result<Message> {
        loop {
            match self.next_event().await? {
                Event::Message(message) => return Ok(message),
                Event::Disconnected { reason, .. } => return Err(Error::Disconnected(reason)),
                _ => {}
            }
        }
    }

    /// The next message, or `None` after `wait` without one.
    ///
    /// # Errors
    /// As [`Connection::next_message`].
    pub async fn message_within(&mut self, wait: Duration) -> Result<Option<Message>> {
        match timeout(wait, self.next_message()).await {
            Ok(message) => message.map(Some),
            Err(_) => Ok(None),
        }
    }

    /// Publishes and waits until the message is done: written with QoS 0, acknowledged with QoS 1 and
    /// 2. Returns the broker's reason code; below 0x80 it took the message.
    ///
    /// # Errors
    /// As [`Connection::send`], and [`Error::Timeout`].
    pub async fn publish(&mut self, message: Message) -> Result<ReasonCode> {
        let Some(wanted) = self.send(message).await? else {
            self.flush().await?;
            return Ok(ReasonCode::Success);
        };
        self.answer("acknowledgement", |event| match event {
            Event::Published { packet_id, reason } if *packet_id == wanted => Some(*reason),
            _ => None,
        })
        .await
    }

    /// Hands a message over to be sent, waiting only for room: in the window with QoS 1 and 2, in the
    /// write buffer with QoS 0. [`Event::Published`] comes later, with the packet identifier returned.
    ///
    /// # Errors
    /// What the broker announced not to take, [`Error::InboxFull`] where too many events arrive
    /// meanwhile, and the end of the connection.
    pub async fn send(&mut self, message: Message) -> Result<Option<u16>> {
        while self.pending_bytes() >= WRITE_HIGH
            || (message.qos != QoS::AtMostOnce && !self.session.can_publish())
        {
            self.drive().await?;
            self.check_inbox()?;
        }
        Ok(self.session.publish(message, &mut self.write)?)
    }

    /// Subscribes and waits for SUBACK. Returns its reason code for each filter.
    ///
    /// # Errors
    /// [`Error::Timeout`], and the end of the connection. Refusals are in the reason codes.
    pub async fn subscribe(
        &mut self,
        filters: &[(&str, SubscriptionOptions)],
    ) -> Result<Vec<ReasonCode>> {
        self.subscribe_with(filters, None, &[]).await
    }

    /// Hands a SUBSCRIBE over without waiting; [`Event::Subscribed`] comes with this packet
    /// identifier.
    ///
    /// # Errors
    /// As [`Session::subscribe`].
    pub fn send_subscribe(
        &mut self,
        filters: &[(&str, SubscriptionOptions)],
        identifier: Option<u32>,
        user_properties: &[(String, String)],
    ) -> Result<u16> {
        Ok(self
            .session
            .subscribe(filters, identifier, user_properties, &mut self.write)?)
    }

    /// Hands an UNSUBSCRIBE over without waiting; [`Event::Unsubscribed`] comes with this packet
    /// identifier.
    ///
    /// # Errors
    /// As [`Session::unsubscribe`].
    pub fn send_unsubscribe(
        &mut self,
        filters: &[&str],
        user_properties: &[(String, String)],
    ) -> Result<u16> {
        Ok(self
            .session
            .unsubscribe(filters, user_properties, &mut self.write)?)
    }

    /// True where [`Connection::next_event`] has an answer without waiting.
    pub fn has_event(&self) -> bool {
        !self.events.is_empty()
    }

    /// [`Connection::subscribe`] with the properties of 5.0.
    ///
    /// # Errors
    /// As [`Connection::subscribe`].
    pub async fn subscribe_with(
        &mut self,
        filters: &[(&str, SubscriptionOptions)],
        identifier: Option<u32>,
        user_properties: &[(String, String)],
    ) -> Result<Vec<ReasonCode>> {
        let wanted = self.send_subscribe(filters, identifier, user_properties)?;
        self.answer("SUBACK", |event| match event {
            Event::Subscribed { packet_id, reasons } if *packet_id == wanted => {
                Some(std::mem::take(reasons))
            }
            _ => None,
        })
        .await
    }

    /// Subscribes to one filter with a QoS.
    ///
    /// # Errors
    /// As [`Connection::subscribe`].
    pub async fn subscribe_qos(&mut self, filter: &str, qos: QoS) -> Result<ReasonCode> {
        let options = SubscriptionOptions {
            qos,
            ..SubscriptionOptions::default()
        };
        let reasons = self.subscribe(&[(filter, options)]).await?;
        Ok(reasons
            .first()
            .copied()
            .unwrap_or(ReasonCode::ProtocolError))
    }

    /// Unsubscribes and waits for UNSUBACK. Returns its reason codes, none in 3.x.
    ///
    /// # Errors
    /// As [`Connection::subscribe`].
    pub async fn unsubscribe(&mut self, filters: &[&str]) -> Result<Vec<ReasonCode>> {
        self.unsubscribe_with(filters, &[]).await
    }

    /// [`Connection::unsubscribe`] with user properties.
    ///
    /// # Errors
    /// As [`Connection::subscribe`].
    pub async fn unsubscribe_with(
        &mut self,
        filters: &[&str],
        user_properties: &[(String, String)],
    ) -> Result<Vec<ReasonCode>> {
        let wanted = self.send_unsubscribe(filters, user_properties)?;
        self.answer("UNSUBACK", |event| match event {
            Event::Unsubscribed { packet_id, reasons } if *packet_id == wanted => {
                Some(std::mem::take(reasons))
            }
            _ => None,
        })
        .await
    }

    /// Acknowledges a message where the options leave that to the caller.
    ///
    /// # Errors
    /// As [`Session::acknowledge`]; sent with the next await.
    pub fn acknowledge(&mut self, packet_id: u16, reason: ReasonCode) -> Result<()> {
        Ok(self
            .session
            .acknowledge(packet_id, reason, &mut self.write)?)
    }

    /// Sends PINGREQ and waits for PINGRESP.
    ///
    /// # Errors
    /// [`Error::Timeout`], and the end of the connection.
    pub async fn ping(&mut self) -> Result<()> {
        self.session.ping(&mut self.write)?;
        self.answer("PINGRESP", |event| match event {
            Event::Pong => Some(()),
            _ => None,
        })
        .await
    }

    /// Sends a step of enhanced authentication; the answer comes as [`Event::Auth`].
    ///
    /// # Errors
    /// As [`Session::auth`].
    pub async fn auth(
        &mut self,
        reason: ReasonCode,
        method: &str,
        data: Option<&[u8]>,
    ) -> Result<()> {
        self.session.auth(reason, method, data, &mut self.write)?;
        self.flush().await
    }

    /// Waits until all that was handed over is written.
    ///
    /// # Errors
    /// The end of the connection.
    pub async fn flush(&mut self) -> Result<()> {
        while self.pending_bytes() > 0 {
            self.drive().await?;
            self.check_inbox()?;
        }
        Ok(())
    }

    /// Waits until no QoS 1 or 2 message is in flight. Events stay to be read.
    ///
    /// # Errors
    /// [`Error::Timeout`] where no acknowledgement comes for the time of the options, and the end of
    /// the connection.
    pub async fn drain(&mut self) -> Result<()> {
        let after = self.options.timeout;
        let mut before = usize::MAX;
        let mut deadline = Instant::now() + after;
        loop {
            let left = usize::from(self.session.inflight()) + self.pending_bytes();
            if left == 0 {
                return Ok(());
            }
            if left < before {
                deadline = Instant::now() + after;
            }
            before = left;
            match tokio::time::timeout_at(deadline, self.drive()).await {
                Ok(result) => result?,
                Err(_) => {
                    let what = "acknowledgement";
                    return Err(Error::Timeout { what, after });
                }
            }
            self.check_inbox()?;
        }
    }

    /// Sends DISCONNECT and closes.
    ///
    /// # Errors
    /// The end of the connection before DISCONNECT was written.
    pub async fn disconnect(self) -> Result<()> {
        self.close(ReasonCode::NORMAL_DISCONNECTION, None, &[])
            .await
    }

    /// [`Connection::disconnect`] with reason and properties of 5.0.
    ///
    /// # Errors
    /// As [`Connection::disconnect`].
    pub async fn close(
        mut self,
        reason: ReasonCode,
        session_expiry: Option<u32>,
        user_properties: &[(String, String)],
    ) -> Result<()> {
        self.session
            .disconnect(reason, session_expiry, user_properties, &mut self.write)?;
        let wait = self.options.timeout;
        let write = async {
            self.transport
                .write_all(&self.write[self.written..])
                .await?;
            self.transport.flush().await?;
            // The broker may have closed already; DISCONNECT is out, that is what counts.
            let _ = self.transport.shutdown().await;
            io::Result::Ok(())
        };
        match timeout(wait, write).await {
            Ok(result) => result.map_err(Error::Lost),
            Err(_) => Err(Error::Timeout {
                what: "room to send DISCONNECT",
                after: wait,
            }),
        }
    }

    fn pending_bytes(&self) -> usize {
        self.write.len() - self.written
    }

    fn check_inbox(&self) -> Result<()> {
        if self.events.len() > self.options.inbox {
            return Err(Error::InboxFull {
                limit: self.options.inbox,
            });
        }
        Ok(())
    }

    /// Drives until an event is the wanted one; all others are kept for [`Connection::next_event`].
    async fn answer<T>(
        &mut self,
        what: &'static str,
        mut wanted: impl FnMut(&mut Event) -> Option<T>,
    ) -> Result<T> {
        let after = self.options.timeout;
        let deadline = Instant::now() + after;
        let mut seen = 0;
        loop {
            while let Some(event) = self.events.get_mut(seen) {
                if let Some(answer) = wanted(event) {
                    self.events.remove(seen);
                    return Ok(answer);
                }
                if let Event::Disconnected { reason, .. } = *event {
                    return Err(Error::Disconnected(reason));
                }
                seen += 1;
            }
            self.check_inbox()?;
            match tokio::time::timeout_at(deadline, self.drive()).await {
                Ok(result) => result?,
                Err(_) => return Err(Error::Timeout { what, after }),
            }
        }
    }

    /// One round: write what is there, read what comes, or ping when it is time. Returns once
    /// something happened.
    async fn drive(&mut self) -> Result<()> {
        let wake = self.keep_alive.map(|keep_alive| match self.pinged {
            Some(pinged) => pinged + keep_alive,
            None => self.last_sent + keep_alive,
        });
        let io = poll_fn(|cx| self.poll_io(cx));
        let moved = match wake {
            None => Some(io.await),
            Some(wake) => tokio::select! {
                biased;
                moved = io => Some(moved),
                () = sleep_until(wake) => None,
            },
        };
        match moved {
            Some(Ok(())) => match self.decode() {
                Ok(()) => Ok(()),
                Err(error) => {
                    self.farewell(&error).await;
                    Err(error.into())
                }
            },
            Some(Err(error)) => Err(Error::Lost(error)),
            None if self.pinged.is_some() => Err(Error::Lost(io::Error::new(
                io::ErrorKind::TimedOut,
                "no answer to PINGREQ",
            ))),
            None => {
                self.session.ping(&mut self.write)?;
                self.pinged = Some(Instant::now());
                Ok(())
            }
        }
    }

    /// Writes and reads as far as the transport goes; ready when either moved.
    fn poll_io(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut moved = false;
        while self.written < self.write.len() {
            match Pin::new(&mut self.transport).poll_write(cx, &self.write[self.written..]) {
                Poll::Ready(Ok(0)) => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                Poll::Ready(Ok(count)) => {
                    self.written += count;
                    self.last_sent = Instant::now();
                    moved = true;
                }
                Poll::Ready(Err(error)) => return self.poll_last_words(cx, error),
                Poll::Pending => break,
            }
        }
        if self.written == self.write.len() {
            self.write.clear();
            self.written = 0;
            // TLS and WebSocket may hold bytes of their own.
            if let Poll::Ready(Err(error)) = Pin::new(&mut self.transport).poll_flush(cx) {
                return self.poll_last_words(cx, error);
            }
        }
        match self.poll_read(cx) {
            Poll::Ready(Ok(0)) => Poll::Ready(Err(io::ErrorKind::UnexpectedEof.into())),
            Poll::Ready(Ok(_)) => Poll::Ready(Ok(())),
            Poll::Ready(Err(error)) => Poll::Ready(Err(error)),
            Poll::Pending if moved => Poll::Ready(Ok(())),
            Poll::Pending => Poll::Pending,
        }
    }

    /// After a failed write: a broker that closes has often said why, and it may still be read.
    fn poll_last_words(&mut self, cx: &mut Context<'_>, error: io::Error) -> Poll<io::Result<()>> {
        match self.poll_read(cx) {
            Poll::Ready(Ok(count)) if count > 0 => Poll::Ready(Ok(())),
            _ => Poll::Ready(Err(error)),
        }
    }

    fn poll_read(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<usize>> {
        if self.read.is_empty() && self.read.capacity() > READ_KEEP {
            self.read = BytesMut::new();
        }
        let filled = self.read.len();
        self.read.resize(filled + READ_CHUNK, 0);
        let mut buffer = ReadBuf::new(&mut self.read[filled..]);
        let polled = Pin::new(&mut self.transport).poll_read(cx, &mut buffer);
        let count = buffer.filled().len();
        self.read.truncate(filled + count);
        polled.map_ok(|()| count)
    }

    /// Takes every whole packet out of the read buffer.
    fn decode(&mut self) -> std::result::Result<(), SessionError> {
        while let Decoded::Packet { packet, consumed } = self.decoder.decode(&self.read)? {
            let event = self.session.handle(packet, &mut self.write)?;
            self.read.advance(consumed);
            if matches!(event, Some(Event::Pong)) {
                self.pinged = None;
            }
            self.events.extend(event);
        }
        Ok(())
    }

    /// Tells a 5.0 broker what it did wrong, if that gets through at once.
    async fn farewell(&mut self, error: &SessionError) {
        let (true, Some(reason)) = (self.options.version.is_v5(), error.reason_code()) else {
            return;
        };
        if self
            .session
            .disconnect(reason, None, &[], &mut self.write)
            .is_ok()
        {
            let write = async {
                self.transport
                    .write_all(&self.write[self.written..])
                    .await?;
                self.transport.flush().await
            };
            // The connection ends here whether it gets through or not.
            let _ = timeout(Duration::from_secs(1), write).await;
        }
    }
}

/// The error for a refusing CONNACK, with the code as the version counts.
fn refused(connected: &Connected, v5: bool) -> Error {
    let code = if v5 {
        connected.reason.code()
    } else {
        connected.reason.connect_return_code().code()
    };
    let mut text = connected.reason.as_str().to_owned();
    if let Some(reason) = &connected.reason_string {
        text = format!("{text}: {reason}");
    }
    Error::Refused { code, text }
}
