//! What simulated nodes stand on: turmoil's sockets, and tasks that stand still while their node is paused.

use std::cell::Cell;
use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use nightjar_cluster::{Ground, Halves, Later, Listener, Stream};
use parking_lot::Mutex;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::task::JoinHandle;
use turmoil::net::{TcpListener, TcpStream};

use crate::disk::Dice;

/// Stands in front of everything that a node does: while it is shut, nothing of it is polled.
#[derive(Default)]
pub struct Gate {
    shut: AtomicBool,
    waiting: Mutex<Vec<Waker>>,
}

impl Gate {
    pub fn shut(&self) {
        self.shut.store(true, Ordering::Release);
    }

    pub fn open(&self) {
        self.shut.store(false, Ordering::Release);
        let waiting = std::mem::take(&mut *self.waiting.lock());
        waiting.into_iter().for_each(Waker::wake);
    }

    pub fn is_shut(&self) -> bool {
        self.shut.load(Ordering::Acquire)
    }

    fn poll(&self, cx: &Context<'_>) -> Poll<()> {
        if self.is_shut() {
            self.waiting.lock().push(cx.waker().clone());
            return Poll::Pending;
        }
        Poll::Ready(())
    }

    /// A future that is polled only while the gate is open.
    pub fn behind<F: Future>(
        self: &Arc<Self>,
        future: F,
    ) -> impl Future<Output = F::Output> + use<F> {
        let gate = self.clone();
        let mut future = Box::pin(future);
        std::future::poll_fn(move |cx| {
            std::task::ready!(gate.poll(cx));
            future.as_mut().poll(cx)
        })
    }
}

/// The ground of one life of one node.
pub struct Simulated {
    pub gate: Arc<Gate>,
    pub dice: Mutex<Dice>,
    /// The slowest write in milliseconds.
    pub slowest: Arc<AtomicU64>,
}

impl Ground for Simulated {
    fn bind(&self, at: SocketAddr) -> Later<'static, io::Result<(SocketAddr, Box<dyn Listener>)>> {
        let gate = self.gate.clone();
        Box::pin(async move {
            let listener = TcpListener::bind(at).await?;
            let bound = listener.local_addr()?;
            let listener: Box<dyn Listener> = Box::new(Gated(listener, gate));
            Ok((bound, listener))
        })
    }

    fn connect(&self, to: &str) -> Later<'static, io::Result<Box<dyn Stream>>> {
        let (to, gate) = (to.to_owned(), self.gate.clone());
        Box::pin(async move {
            let (host, port) = to.rsplit_once(':').unwrap();
            let stream = TcpStream::connect((host, port.parse().unwrap())).await?;
            let stream: Box<dyn Stream> = Box::new(Gated(stream, gate));
            Ok(stream)
        })
    }

    fn run(&self, task: Later<'static, ()>) -> JoinHandle<()> {
        tokio::spawn(self.gate.behind(task))
    }

    fn write_takes(&self) -> Option<Duration> {
        let slowest = self.slowest.load(Ordering::Relaxed);
        Some(Duration::from_millis(self.dice.lock().below(slowest + 1)))
    }
}

/// A socket of a node.
struct Gated<T>(T, Arc<Gate>);

impl Listener for Gated<TcpListener> {
    fn accept(&mut self) -> Later<'_, io::Result<(Box<dyn Stream>, SocketAddr)>> {
        Box::pin(async move {
            let (stream, peer) = self.0.accept().await?;
            let stream: Box<dyn Stream> = Box::new(Gated(stream, self.1.clone()));
            Ok((stream, peer))
        })
    }
}

impl Stream for Gated<TcpStream> {
    fn peek<'a>(&'a mut self, into: &'a mut [u8]) -> Later<'a, io::Result<usize>> {
        Box::pin(self.0.peek(into))
    }

    fn split(self: Box<Self>) -> Halves {
        let Self(stream, gate) = *self;
        let (reading, writing) = stream.into_split();
        Halves::new(Gated(reading, gate.clone()), Gated(writing, gate))
    }
}

impl<T: AsyncRead + Unpin> AsyncRead for Gated<T> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        std::task::ready!(self.1.poll(cx));
        Pin::new(&mut self.0).poll_read(cx, buf)
    }
}

impl<T: AsyncWrite + Unpin> AsyncWrite for Gated<T> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        std::task::ready!(self.1.poll(cx));
        Pin::new(&mut self.0).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        std::task::ready!(self.1.poll(cx));
        Pin::new(&mut self.0).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_shutdown(cx)
    }
}

thread_local! {
    /// Panics of this thread, which tasks would swallow.
    pub static PANICS: Cell<u32> = const { Cell::new(0) };
}

/// Milliseconds since the simulation began.
pub fn now() -> u64 {
    turmoil::sim_elapsed().map_or(0, |it| it.as_millis() as u64)
}
