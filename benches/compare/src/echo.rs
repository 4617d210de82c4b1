//! The floor: an epoll loop that writes back what it reads and knows nothing of MQTT.

use mio::net::{TcpListener, TcpStream};
use mio::{Events, Interest, Poll, Token};
use std::io::{self, Read, Write};
use std::net::SocketAddr;

/// Listens on a free port, prints it, serves until killed.
pub fn serve() -> io::Result<()> {
    let mut poll = Poll::new()?;
    let mut listener = TcpListener::bind(SocketAddr::from(([127, 0, 0, 1], 0)))?;
    println!("{}", listener.local_addr()?.port());
    poll.registry()
        .register(&mut listener, Token(usize::MAX), Interest::READABLE)?;
    let mut clients: Vec<TcpStream> = Vec::new();
    let mut events = Events::with_capacity(1024);
    let mut buffer = vec![0; 64 * 1024];
    loop {
        if let Err(error) = poll.poll(&mut events, None)
            && error.kind() != io::ErrorKind::Interrupted
        {
            return Err(error);
        }
        for event in &events {
            if event.token() == Token(usize::MAX) {
                while let Ok((mut client, _)) = listener.accept() {
                    client.set_nodelay(true)?;
                    poll.registry().register(
                        &mut client,
                        Token(clients.len()),
                        Interest::READABLE,
                    )?;
                    clients.push(client);
                }
            } else {
                echo(&mut clients[event.token().0], &mut buffer);
            }
        }
    }
}

/// One turn of one client. Its windows are far smaller than a socket buffer, so a write never comes short; a client
/// that left is kept as a closed socket, the process is short-lived.
fn echo(client: &mut TcpStream, buffer: &mut [u8]) {
    while let Ok(read) = client.read(buffer) {
        if read == 0 || client.write_all(&buffer[..read]).is_err() || read < buffer.len() {
            return;
        }
    }
}
