//! The floors: what the sockets alone cost, in an epoll loop that knows nothing of MQTT.
//!
//! The echo writes back what it reads on the same connection; an acknowledgement of TCP then travels for free with the
//! answer. The relay copies what a publisher's connection brings to the connections of its topic's subscribers, so that its
//! sockets do exactly what a broker's do. With QoS 1 it also answers each publication and takes the subscribers' answers, and
//! whoever says CONNECT to it, be it over WebSocket, is told that he is connected: it counts bytes for the one and looks at the
//! first of each packet for the other.

use crate::packet;
use mio::net::{TcpListener, TcpStream};
use mio::{Events, Interest, Poll, Token};
use std::collections::HashMap;
use std::io::{self, Read, Write};
use std::net::SocketAddr;
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;

/// The first bytes of a relay's client: whether it subscribes, its topic, and the length of the packets that it wants
/// acknowledged, 0 if none.
pub type Hello = [u8; 7];

/// The first byte of CONNECT, which no hello has.
const CONNECT: u8 = 0x10;
/// The header of a request to become a WebSocket whose value its answer depends on [RFC 6455, 4.2.2].
const KEY: &str = "Sec-WebSocket-Key: ";

/// Says hello to a relay.
pub fn hello(topic: usize, subscribes: bool, acknowledged: u32) -> Hello {
    let [.., high, low] = topic.to_be_bytes();
    let [a, b, c, d] = acknowledged.to_be_bytes();
    [u8::from(subscribes), high, low, a, b, c, d]
}

/// What a connection is.
#[derive(Clone, Copy)]
enum Role {
    /// Said nothing yet.
    New,
    /// Gets what comes for this topic.
    Subscriber([u8; 2]),
    /// Sends to this topic packets of this length; so many bytes came of the last one. Length 0: nothing is acknowledged.
    Publisher([u8; 2], u64, u64),
    /// Connected, and that is all.
    Idle,
    /// The same over WebSocket.
    WebSocket,
}

/// One connection. A client that left keeps its place: the process lives no longer than its run.
struct Client {
    stream: Option<TcpStream>,
    role: Role,
    /// What the socket did not take.
    unsent: Vec<u8>,
}

/// Listens on a free port, prints it, serves until killed.
pub fn serve(relay: bool) -> io::Result<()> {
    let mut poll = Poll::new()?;
    let mut listener = TcpListener::bind(SocketAddr::from(([127, 0, 0, 1], 0)))?;
    println!("{}", listener.local_addr()?.port());
    poll.registry()
        .register(&mut listener, Token(usize::MAX), Interest::READABLE)?;
    let mut clients: Vec<Client> = Vec::new();
    let mut subscribers: HashMap<[u8; 2], Vec<usize>> = HashMap::new();
    let mut events = Events::with_capacity(1024);
    let mut buffer = vec![0; 64 * 1024];
    loop {
        if let Err(error) = poll.poll(&mut events, None)
            && error.kind() != io::ErrorKind::Interrupted
        {
            return Err(error);
        }
        for event in &events {
            let id = event.token().0;
            if id == usize::MAX {
                while let Ok((mut stream, _)) = listener.accept() {
                    stream.set_nodelay(true)?;
                    let interest = Interest::READABLE | Interest::WRITABLE;
                    poll.registry()
                        .register(&mut stream, Token(clients.len()), interest)?;
                    clients.push(Client {
                        stream: Some(stream),
                        role: Role::New,
                        unsent: Vec::new(),
                    });
                }
                continue;
            }
            clients[id].flush();
            while let Some(stream) = &mut clients[id].stream {
                let read = match stream.read(&mut buffer) {
                    Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                    Ok(read) if read > 0 => read,
                    Ok(_) | Err(_) => {
                        clients[id].stream = None;
                        if let Role::Subscriber(topic) = clients[id].role
                            && let Some(ids) = subscribers.get_mut(&topic)
                        {
                            ids.retain(|other| *other != id);
                        }
                        break;
                    }
                };
                let mut bytes = &buffer[..read];
                match clients[id].role {
                    _ if !relay => clients[id].write(bytes),
                    Role::New => {
                        bytes = clients[id].enter(bytes);
                        if let Role::Subscriber(topic) = clients[id].role {
                            subscribers.entry(topic).or_default().push(id);
                        }
                    }
                    Role::WebSocket => clients[id].frames(bytes),
                    _ => {}
                }
                if let Role::Publisher(topic, ..) = clients[id].role
                    && !bytes.is_empty()
                {
                    for subscriber in subscribers.get(&topic).into_iter().flatten() {
                        clients[*subscriber].write(bytes);
                    }
                    clients[id].acknowledge(bytes.len() as u64);
                }
                // The end may have come together with the last bytes: it is told once.
                if read < buffer.len() && !event.is_read_closed() {
                    break;
                }
            }
        }
    }
}

impl Client {
    /// Takes the first bytes of a connection; returns what follows them.
    fn enter<'b>(&mut self, bytes: &'b [u8]) -> &'b [u8] {
        if bytes.first() == Some(&CONNECT) {
            self.role = Role::Idle;
            self.write(&packet::CONNECTED);
        } else if bytes.starts_with(b"GET ") {
            self.role = Role::WebSocket;
            let request = String::from_utf8_lossy(bytes);
            let value = |line: &str| {
                let (name, value) = line.split_at_checked(KEY.len())?;
                name.eq_ignore_ascii_case(KEY).then(|| value.to_owned())
            };
            let key = request.lines().find_map(value).unwrap_or_default();
            let accept = derive_accept_key(key.as_bytes());
            let answer = format!(
                "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
                 Sec-WebSocket-Accept: {accept}\r\nSec-WebSocket-Protocol: mqtt\r\n\r\n"
            );
            self.write(answer.as_bytes());
        } else if let Some((hello, rest)) = bytes.split_first_chunk() {
            let [subscribes, high, low, length @ ..]: Hello = *hello;
            self.role = match subscribes {
                0 => Role::Publisher([high, low], u32::from_be_bytes(length).into(), 0),
                _ => Role::Subscriber([high, low]),
            };
            return rest;
        }
        &[]
    }

    /// Answers CONNECT and the frame Close; frames of up to 125 bytes that come whole.
    fn frames(&mut self, mut bytes: &[u8]) {
        while let [kind, length, rest @ ..] = bytes {
            let Some(([mask, ..], body)) = rest.split_first_chunk::<4>() else {
                return;
            };
            let Some((payload, next)) = body.split_at_checked(usize::from(length & 0x7f)) else {
                return;
            };
            if kind & 0xf == 8 {
                self.write(&[0x88, 0]);
            } else if payload.first().map(|byte| byte ^ mask) == Some(CONNECT) {
                let [a, b, c, d] = packet::CONNECTED;
                self.write(&[0x82, 4, a, b, c, d]);
            }
            bytes = next;
        }
    }

    /// Answers each packet of which the last byte came.
    fn acknowledge(&mut self, read: u64) {
        let Role::Publisher(_, length @ 1.., came) = &mut self.role else {
            return;
        };
        let whole = (*came + read) / *length;
        *came = (*came + read) % *length;
        let answer = packet::ack(packet::PUBACK, [0, 1]);
        match whole {
            0 => {}
            1 => self.write(&answer),
            _ => self.write(&answer.repeat(whole as usize)),
        }
    }

    fn write(&mut self, bytes: &[u8]) {
        let Some(stream) = &mut self.stream else {
            return;
        };
        if !self.unsent.is_empty() {
            self.unsent.extend_from_slice(bytes);
            return;
        }
        match stream.write(bytes) {
            Ok(written) if written == bytes.len() => {}
            Ok(written) => self.unsent.extend_from_slice(&bytes[written..]),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                self.unsent.extend_from_slice(bytes)
            }
            Err(_) => {}
        }
    }

    fn flush(&mut self) {
        if !self.unsent.is_empty() {
            let unsent = std::mem::take(&mut self.unsent);
            self.write(&unsent);
        }
    }
}
