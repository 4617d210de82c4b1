//! What a node of a cluster stands on beside its disk: sockets, and whoever runs its work. [`System`] is the real one; a
//! simulation puts its own in the place, so that the links, leases and the log that are tested are those that serve.
//!
//! Connections are asked for one by one and halves of a connection are boxed anyway: nothing here costs a message
//! anything.

use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;

/// Something that comes later.
pub type Later<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// A connection between two nodes.
pub trait Stream: AsyncRead + AsyncWrite + Send + Unpin {
    /// Reads octets that stay to be read.
    fn peek<'a>(&'a mut self, into: &'a mut [u8]) -> Later<'a, io::Result<usize>>;

    /// Both directions by themselves.
    fn split(self: Box<Self>) -> Halves;
}

/// Both directions of a connection, whatever it is made of.
#[allow(missing_debug_implementations, reason = "two trait objects")]
pub struct Halves {
    /// What comes.
    pub reading: Box<dyn AsyncRead + Send + Unpin>,
    /// What goes.
    pub writing: Box<dyn AsyncWrite + Send + Unpin>,
}

impl Halves {
    /// Of two halves.
    pub fn new(
        reading: impl AsyncRead + Send + Unpin + 'static,
        writing: impl AsyncWrite + Send + Unpin + 'static,
    ) -> Self {
        Self {
            reading: Box::new(reading),
            writing: Box::new(writing),
        }
    }
}

/// Where other nodes dial.
pub trait Listener: Send {
    /// The next connection, and who dialed.
    fn accept(&mut self) -> Later<'_, io::Result<(Box<dyn Stream>, SocketAddr)>>;
}

/// What a node stands on.
pub trait Ground: Send + Sync + 'static {
    /// Listens for other nodes; the address is the one that was bound.
    fn bind(&self, at: SocketAddr) -> Later<'static, io::Result<(SocketAddr, Box<dyn Listener>)>>;

    /// Dials another node, host and port.
    fn connect(&self, to: &str) -> Later<'static, io::Result<Box<dyn Stream>>>;

    /// Runs a task that lives as long as the node.
    fn run(&self, task: Later<'static, ()>) -> JoinHandle<()>;

    /// `None`: the log and the proposals have threads. Else they are tasks, and a write takes so long.
    fn write_takes(&self) -> Option<Duration> {
        None
    }
}

/// The real sockets, tasks and threads.
#[derive(Debug, Clone, Copy, Default)]
pub struct System;

impl Ground for System {
    fn bind(&self, at: SocketAddr) -> Later<'static, io::Result<(SocketAddr, Box<dyn Listener>)>> {
        Box::pin(async move {
            let listener = TcpListener::bind(at).await?;
            let bound = listener.local_addr()?;
            let listener: Box<dyn Listener> = Box::new(listener);
            Ok((bound, listener))
        })
    }

    fn connect(&self, to: &str) -> Later<'static, io::Result<Box<dyn Stream>>> {
        let to = to.to_owned();
        Box::pin(async move {
            let stream = TcpStream::connect(to).await?;
            stream.set_nodelay(true)?;
            let stream: Box<dyn Stream> = Box::new(stream);
            Ok(stream)
        })
    }

    fn run(&self, task: Later<'static, ()>) -> JoinHandle<()> {
        tokio::spawn(task)
    }
}

impl Listener for TcpListener {
    fn accept(&mut self) -> Later<'_, io::Result<(Box<dyn Stream>, SocketAddr)>> {
        Box::pin(async move {
            let (stream, peer) = Self::accept(self).await?;
            // One that cannot be set up shows that when it is read.
            let _ = stream.set_nodelay(true);
            let stream: Box<dyn Stream> = Box::new(stream);
            Ok((stream, peer))
        })
    }
}

impl Stream for TcpStream {
    fn peek<'a>(&'a mut self, into: &'a mut [u8]) -> Later<'a, io::Result<usize>> {
        Box::pin(Self::peek(self, into))
    }

    fn split(self: Box<Self>) -> Halves {
        let (reading, writing) = self.into_split();
        Halves::new(reading, writing)
    }
}
