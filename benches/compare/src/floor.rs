//! The floors: what the sockets alone cost, in an epoll loop that knows nothing of MQTT.
//!
//! The echo writes back what it reads on the same connection; an acknowledgement of TCP then travels for free with the
//! answer. The relay copies what a publisher's connection brings to the connections of its topic's subscribers, so that its
//! sockets do exactly what a broker's do.

use mio::net::{TcpListener, TcpStream};
use mio::{Events, Interest, Poll, Token};
use std::collections::HashMap;
use std::io::{self, Read, Write};
use std::net::SocketAddr;

/// The first bytes of a relay's client: whether it subscribes, and its topic.
pub type Hello = [u8; 3];

/// Says hello to a relay.
pub fn hello(topic: usize, subscribes: bool) -> Hello {
    let [.., high, low] = topic.to_be_bytes();
    [u8::from(subscribes), high, low]
}

/// One connection. A client that left keeps its place and its closed socket: the process lives no longer than its run.
struct Client {
    stream: TcpStream,
    hello: Option<Hello>,
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
                        stream,
                        hello: None,
                        unsent: Vec::new(),
                    });
                }
                continue;
            }
            clients[id].flush();
            loop {
                let read = match clients[id].stream.read(&mut buffer) {
                    Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                    Ok(read) if read > 0 => read,
                    Ok(_) | Err(_) => {
                        if let Some([1, topic @ ..]) = clients[id].hello
                            && let Some(ids) = subscribers.get_mut(&topic)
                        {
                            ids.retain(|other| *other != id);
                        }
                        break;
                    }
                };
                let mut bytes = &buffer[..read];
                if !relay {
                    clients[id].write(bytes);
                } else {
                    if clients[id].hello.is_none()
                        && let Some((hello, rest)) = bytes.split_first_chunk()
                    {
                        bytes = rest;
                        clients[id].hello = Some(*hello);
                        if let [1, topic @ ..] = *hello {
                            subscribers.entry(topic).or_default().push(id);
                        }
                    }
                    if let (Some([0, topic @ ..]), false) = (clients[id].hello, bytes.is_empty()) {
                        for subscriber in subscribers.get(&topic).into_iter().flatten() {
                            clients[*subscriber].write(bytes);
                        }
                    }
                }
                if read < buffer.len() {
                    break;
                }
            }
        }
    }
}

impl Client {
    fn write(&mut self, bytes: &[u8]) {
        if !self.unsent.is_empty() {
            self.unsent.extend_from_slice(bytes);
            return;
        }
        match self.stream.write(bytes) {
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
