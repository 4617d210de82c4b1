//! The server under each runtime shape.

use crate::connection::{Connection, Flush};
use crate::router::Router;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use tokio::net::{TcpSocket, TcpStream};
use tokio::runtime::{Builder, Runtime};
use tokio::sync::mpsc;

/// Which runtime carries the connections.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Model {
    /// One work-stealing runtime.
    Multi,
    /// One current-thread runtime per worker; a connection stays on the worker it was handed to, round robin.
    Pinned,
}

/// One configuration under test.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Shape {
    /// The runtime.
    pub model: Model,
    /// Threads that run connections.
    pub workers: usize,
    /// When wakes leave.
    pub flush: Flush,
}

impl Shape {
    /// Reads the command line's three words.
    pub fn parse(model: &str, workers: &str, flush: &str) -> Option<Self> {
        let model = match model {
            "multi" => Model::Multi,
            "pinned" => Model::Pinned,
            _ => return None,
        };
        let flush = match flush {
            "eager" => Flush::Eager,
            "deferred" => Flush::Deferred,
            "batched" => Flush::Batched,
            _ => return None,
        };
        Some(Self {
            model,
            workers: workers.parse().ok().filter(|n| (1..=64).contains(n))?,
            flush,
        })
    }

    /// The words that [`Shape::parse`] reads.
    pub fn words(self) -> [String; 3] {
        let model = if self.model == Model::Multi {
            "multi"
        } else {
            "pinned"
        };
        let flush = match self.flush {
            Flush::Eager => "eager",
            Flush::Deferred => "deferred",
            Flush::Batched => "batched",
        };
        [model.to_owned(), self.workers.to_string(), flush.to_owned()]
    }
}

/// Listens on a free port, prints it, and serves until killed.
pub fn run(shape: Shape) -> io::Result<()> {
    let router = Arc::new(Router::default());
    match shape.model {
        Model::Multi => {
            let runtime = Builder::new_multi_thread()
                .worker_threads(shape.workers)
                .enable_io()
                .build()?;
            // The acceptor is a spawned task: the thread in block_on is no worker and would cost a hop per accept.
            runtime.block_on(async {
                let accepting = tokio::spawn(accept(move |stream| {
                    tokio::spawn(Connection::new(stream, Arc::clone(&router), shape.flush).run());
                    Ok(())
                }));
                accepting.await.map_err(io::Error::other)?
            })
        }
        Model::Pinned => {
            let mut handoff = Vec::new();
            for _ in 1..shape.workers {
                let (sender, mut receiver) = mpsc::unbounded_channel::<std::net::TcpStream>();
                let (router, runtime) = (Arc::clone(&router), current_thread()?);
                std::thread::Builder::new()
                    .name("worker".to_owned())
                    .spawn(move || {
                        runtime.block_on(async {
                            while let Some(stream) = receiver.recv().await {
                                if let Ok(stream) = TcpStream::from_std(stream) {
                                    tokio::spawn(
                                        Connection::new(stream, Arc::clone(&router), shape.flush)
                                            .run(),
                                    );
                                }
                            }
                        });
                    })?;
                handoff.push(sender);
            }
            let mut turn = 0;
            current_thread()?.block_on(accept(move |stream| {
                turn = (turn + 1) % (handoff.len() + 1);
                if turn == 0 {
                    tokio::spawn(Connection::new(stream, Arc::clone(&router), shape.flush).run());
                    Ok(())
                } else {
                    handoff[turn - 1]
                        .send(stream.into_std()?)
                        .map_err(io::Error::other)
                }
            }))
        }
    }
}

fn current_thread() -> io::Result<Runtime> {
    Builder::new_current_thread().enable_io().build()
}

async fn accept(mut serve: impl FnMut(TcpStream) -> io::Result<()>) -> io::Result<()> {
    let socket = TcpSocket::new_v4()?;
    socket.bind(SocketAddr::from(([127, 0, 0, 1], 0)))?;
    // A short backlog overflows when thousands connect at once, and each overflow costs a client a second.
    let listener = socket.listen(4096)?;
    println!("{}", listener.local_addr()?.port());
    loop {
        let (stream, _) = listener.accept().await?;
        stream.set_nodelay(true)?;
        serve(stream)?;
    }
}
