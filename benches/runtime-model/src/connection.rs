//! The task of one client: read, decode, route; drain its own outbox, encode, write once.

use crate::outbox::Outbox;
use crate::router::{Cached, Router};
use std::cell::RefCell;
use std::future::poll_fn;
use std::io;
use std::pin::Pin;
use std::sync::{Arc, LazyLock};
use std::task::{Context, Poll, Waker};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;

/// A number of the environment, for the record of these two limits.
fn limit(name: &str, usual: usize) -> usize {
    let set = std::env::var(name).ok().and_then(|text| text.parse().ok());
    set.filter(|number| *number > 0).unwrap_or(usual)
}

/// Bytes of one read and of one write.
static SCRATCH: LazyLock<usize> = LazyLock::new(|| limit("MODEL_BYTES", 64 * 1024));
/// Reads and writes of one connection before its task yields to the others of the worker.
static TURNS: LazyLock<usize> = LazyLock::new(|| limit("MODEL_TURNS", 4));

/// Buffers shared by all connections of a worker thread.
struct Scratch {
    read: Box<[u8]>,
    write: Vec<u8>,
    taken: Vec<Arc<[u8]>>,
    wakes: Vec<Waker>,
    batch: Vec<Arc<[u8]>>,
}

thread_local! {
    static SCRATCH_BUFFERS: RefCell<Scratch> = RefCell::new(Scratch {
        read: vec![0; *SCRATCH].into_boxed_slice(),
        write: Vec::with_capacity(*SCRATCH + 4096),
        taken: Vec::with_capacity(1024),
        wakes: Vec::with_capacity(1024),
        batch: Vec::with_capacity(1024),
    });
}

/// When a publisher wakes the subscribers it pushed to.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Flush {
    /// At the push.
    Eager,
    /// Once per read batch, after all frames of it are routed.
    Deferred,
    /// As deferred, and the pushes too: a run of messages to the same targets is pushed under one lock per target.
    Batched,
}

/// One client.
pub struct Connection {
    stream: TcpStream,
    router: Arc<Router>,
    flush: Flush,
    outbox: Arc<Outbox>,
    cache: Cached,
    /// The channel of the hello frame and whether this client subscribes to it.
    hello: Option<(u32, bool)>,
    partial: Vec<u8>,
    unsent: Vec<u8>,
    sent: usize,
}

impl Connection {
    /// Wraps an accepted stream.
    pub fn new(stream: TcpStream, router: Arc<Router>, flush: Flush) -> Self {
        Self {
            stream,
            router,
            flush,
            outbox: Arc::default(),
            cache: Cached::default(),
            hello: None,
            partial: Vec::new(),
            unsent: Vec::new(),
            sent: 0,
        }
    }

    /// Serves the client until it leaves.
    pub async fn run(mut self) {
        let _ended: io::Result<()> = poll_fn(|cx| self.poll(cx)).await;
        if let Some((channel, true)) = self.hello {
            self.router.unsubscribe(channel, &self.outbox);
        }
    }

    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        SCRATCH_BUFFERS.with_borrow_mut(|scratch| {
            let reading = self.poll_read(cx, scratch)?;
            let writing = self.poll_write(cx, scratch)?;
            match (reading, writing) {
                (Poll::Ready(false), _) => return Poll::Ready(Ok(())),
                (Poll::Ready(true), _) | (_, Poll::Ready(())) => cx.waker().wake_by_ref(),
                (Poll::Pending, Poll::Pending) => {}
            }
            Poll::Pending
        })
    }

    /// Ready(true): more may be readable, the turn is over. Ready(false): the peer closed. Pending: the socket is
    /// empty and the waker registered.
    fn poll_read(&mut self, cx: &mut Context<'_>, scratch: &mut Scratch) -> io::Result<Poll<bool>> {
        for _ in 0..*TURNS {
            let start = self.partial.len();
            scratch.read[..start].copy_from_slice(&self.partial);
            let mut buf = ReadBuf::new(&mut scratch.read[start..]);
            match Pin::new(&mut self.stream).poll_read(cx, &mut buf) {
                Poll::Pending => return Ok(Poll::Pending),
                Poll::Ready(result) => result?,
            }
            let read = buf.filled().len();
            if read == 0 {
                return Ok(Poll::Ready(false));
            }
            self.partial.clear();
            let filled = start + read;
            let mut at = 0;
            while let Some(head) = scratch.read[at..filled].first_chunk::<4>() {
                let length = u32::from_be_bytes(*head) as usize;
                if length > *SCRATCH / 2 {
                    return Err(io::ErrorKind::InvalidData.into());
                }
                let end = at + 4 + length;
                if end > filled {
                    break;
                }
                self.frame(
                    &scratch.read[at + 4..end],
                    &mut scratch.wakes,
                    &mut scratch.batch,
                )?;
                at = end;
            }
            self.partial.extend_from_slice(&scratch.read[at..filled]);
            if let (false, Some((channel, _))) = (scratch.batch.is_empty(), self.hello) {
                for outbox in self.router.targets(channel, &mut self.cache) {
                    scratch.wakes.extend(outbox.push_all(&scratch.batch));
                }
                scratch.batch.clear();
            }
            scratch.wakes.drain(..).for_each(Waker::wake);
        }
        Ok(Poll::Ready(true))
    }

    fn frame(
        &mut self,
        frame: &[u8],
        wakes: &mut Vec<Waker>,
        batch: &mut Vec<Arc<[u8]>>,
    ) -> io::Result<()> {
        let Some((channel, _)) = self.hello else {
            let &[kind, a, b, c, d] = frame else {
                return Err(io::ErrorKind::InvalidData.into());
            };
            let channel = u32::from_be_bytes([a, b, c, d]);
            self.hello = Some((channel, kind == b'S'));
            if kind == b'S' {
                self.router.subscribe(channel, Arc::clone(&self.outbox));
            }
            return Ok(());
        };
        let message: Arc<[u8]> = Arc::from(frame);
        if self.flush == Flush::Batched {
            batch.push(message);
            return Ok(());
        }
        for outbox in self.router.targets(channel, &mut self.cache) {
            if let Some(waker) = outbox.push(Arc::clone(&message)) {
                match self.flush {
                    Flush::Eager => waker.wake(),
                    Flush::Deferred | Flush::Batched => wakes.push(waker),
                }
            }
        }
        Ok(())
    }

    /// Ready: more is queued, the turn is over. Pending: the outbox is empty and armed, or the socket full.
    fn poll_write(&mut self, cx: &mut Context<'_>, scratch: &mut Scratch) -> io::Result<Poll<()>> {
        for _ in 0..*TURNS {
            while self.sent < self.unsent.len() {
                match Pin::new(&mut self.stream).poll_write(cx, &self.unsent[self.sent..]) {
                    Poll::Pending => return Ok(Poll::Pending),
                    Poll::Ready(written) => self.sent += written?,
                }
            }
            if self.sent > 0 {
                self.unsent = Vec::new();
                self.sent = 0;
            }
            scratch.write.clear();
            let empty =
                self.outbox
                    .drain(&mut scratch.write, *SCRATCH, &mut scratch.taken, cx.waker());
            let mut at = 0;
            while at < scratch.write.len() {
                match Pin::new(&mut self.stream).poll_write(cx, &scratch.write[at..]) {
                    Poll::Pending => {
                        self.unsent.extend_from_slice(&scratch.write[at..]);
                        return Ok(Poll::Pending);
                    }
                    Poll::Ready(written) => at += written?,
                }
            }
            if empty {
                return Ok(Poll::Pending);
            }
        }
        Ok(Poll::Ready(()))
    }
}
