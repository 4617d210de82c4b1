//! The bulk that comes over a link, applied apart from its reader: a lease is not read behind 100,000 routes.

use std::future::Future;
use std::io;
use std::sync::Arc;

use bytes::Bytes;
use parking_lot::Mutex;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

use super::lanes::{PORTION, WINDOW};
use super::listen::unreadable;
use super::{Answers, Hello, Local, kind};

/// A frame this large that is not of messages lets others have their turn when it is applied.
const LARGE: usize = 1024;

/// What is applied, and what the other side knows of that.
struct Credit {
    counts: Mutex<Counts>,
    answers: Answers,
}

#[derive(Default)]
struct Counts {
    /// Bytes that came and are not applied.
    waiting: u64,
    applied: u64,
    told: u64,
}

impl Credit {
    fn add(&self, cost: u64) {
        let mut counts = self.counts.lock();
        counts.applied += cost;
        if counts.applied - counts.told >= WINDOW / 4 {
            counts.told = counts.applied;
            let body = counts.applied.to_le_bytes().to_vec();
            self.answers.send(kind::CREDIT, body);
        }
    }
}

struct Ended(JoinHandle<io::Result<()>>);

impl Drop for Ended {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// The way to the task that applies.
pub(super) struct Apart {
    frames: mpsc::UnboundedSender<(u8, Bytes, u64)>,
    credit: Arc<Credit>,
}

impl Apart {
    /// Begins the task; it goes with the future that says how it ended.
    pub fn begin(
        local: Arc<dyn Local>,
        remote: Hello,
        answers: Answers,
    ) -> (Self, impl Future<Output = io::Result<()>>) {
        // Bounded by what the other side may send before it is applied.
        let (frames, mut waiting) = mpsc::unbounded_channel::<(u8, Bytes, u64)>();
        let credit = Arc::new(Credit {
            counts: Mutex::default(),
            answers: answers.clone(),
        });
        let it = credit.clone();
        let mut task = Ended(tokio::spawn(async move {
            let mut since = 0;
            while let Some((kind, body, cost)) = waiting.recv().await {
                let len = body.len();
                if !local.received(&remote, kind, body, &answers) {
                    return Err(unreadable(&remote, kind));
                }
                it.counts.lock().waiting -= cost;
                it.add(cost);
                since += len;
                // A frame of messages costs little more than its bytes; routes and their like do.
                let costs = len >= LARGE && !matches!(kind, kind::FORWARD | kind::FORWARD_QOS0);
                if costs || since >= PORTION {
                    since = 0;
                    tokio::task::yield_now().await;
                }
            }
            Ok(())
        }));
        let ended = async move { (&mut task.0).await.map_err(io::Error::other)? };
        (Self { frames, credit }, ended)
    }

    /// A frame is to be applied behind those before it.
    pub fn take(&self, kind: u8, body: Bytes, cost: u64) -> io::Result<()> {
        {
            let mut counts = self.credit.counts.lock();
            counts.waiting += cost;
            if counts.waiting > 2 * WINDOW {
                return Err(io::Error::new(
                    io::ErrorKind::InvalidData,
                    "more was sent than there is room for",
                ));
            }
        }
        // Its end is the end of the link.
        let _ = self.frames.send((kind, body, cost));
        Ok(())
    }

    /// Something needs not be applied.
    pub fn credit(&self, cost: u64) {
        self.credit.add(cost);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU64, Ordering};
    use std::time::{Duration, Instant};

    use parking_lot::Condvar;
    use tokio::io::AsyncWriteExt;
    use tokio::net::{TcpListener, TcpStream};
    use tokio::time::{sleep, timeout};

    use super::*;
    use crate::links::handshake::{self, tests::hello};
    use crate::links::{Answer, Cookie, Lane, Link, Links, VERSIONS, listen};

    /// Applies nothing before its gate is open; answers requests.
    struct Gate {
        instance: u64,
        open: Mutex<bool>,
        opened: Condvar,
        applied: Mutex<Vec<u64>>,
        begun: AtomicU64,
    }

    impl Gate {
        fn new(instance: u64) -> Arc<Self> {
            Arc::new(Self {
                instance,
                open: Mutex::new(false),
                opened: Condvar::new(),
                applied: Mutex::default(),
                begun: AtomicU64::new(0),
            })
        }

        fn open(&self) {
            *self.open.lock() = true;
            self.opened.notify_all();
        }
    }

    /// Opens a gate when the test ends, however it does: a runtime waits for what its threads do.
    struct Opens(Arc<Gate>);

    impl Drop for Opens {
        fn drop(&mut self) {
            self.0.open();
        }
    }

    impl Local for Gate {
        fn hello(&self) -> Hello {
            hello(&format!("node{}", self.instance), self.instance)
        }

        fn connected(&self, _: &Arc<Link>, _: &Hello) {}

        fn accepted(&self, _: &Hello) {}

        fn replied(&self, _: &Hello, _: u8, _: &[u8]) {}

        fn request(self: Arc<Self>, _: Hello, body: Bytes) -> Answer {
            Box::pin(async move { body.to_vec() })
        }

        #[allow(
            clippy::disallowed_methods,
            reason = "a test of what others do meanwhile"
        )]
        fn received(&self, _: &Hello, _: u8, body: Bytes, _: &Answers) -> bool {
            self.begun.fetch_add(1, Ordering::SeqCst);
            // Others go on: a thread of the runtime that stands still may be the one that hears the network.
            tokio::task::block_in_place(|| {
                let mut open = self.open.lock();
                while !*open {
                    self.opened.wait(&mut open);
                }
            });
            let number = body.first_chunk::<8>().map(|it| u64::from_le_bytes(*it));
            self.applied.lock().extend(number);
            number.is_some()
        }
    }

    async fn until(what: &str, mut holds: impl FnMut() -> bool) {
        let end = Instant::now() + Duration::from_secs(60);
        while !holds() {
            assert!(Instant::now() < end, "never: {what}");
            sleep(Duration::from_millis(5)).await;
        }
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 4)]
    async fn a_lease_is_renewed_while_the_other_side_applies_no_routes_at_all() {
        const FRAMES: u64 = 2000;
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let there = Gate::new(2);
        let _opens = Opens(there.clone());
        let listening = tokio::spawn(listen(
            Box::new(listener),
            Links::new(
                there.clone(),
                Arc::new(crate::ground::System),
                Cookie::new("c"),
                None,
            ),
        ));
        let here = Links::new(
            Gate::new(1),
            Arc::new(crate::ground::System),
            Cookie::new("c"),
            None,
        );
        here.dial(&address);
        until("the link is up", || here.all()[0].remote().is_some()).await;
        let link = here.all().remove(0);
        for number in 0..FRAMES {
            let mut body = vec![0; 16 << 10];
            body[..8].copy_from_slice(&number.to_le_bytes());
            assert!(link.send(kind::ROUTES, body.into()));
        }
        until("the first is being applied", || {
            there.begun.load(Ordering::SeqCst) == 1
        })
        .await;
        for _ in 0..3 {
            let asked = link.request(Lane::Control, b"lease", Duration::from_secs(30));
            assert_eq!(asked.await.as_deref(), Ok(&b"lease"[..]));
        }
        assert!(there.applied.lock().is_empty());
        // What waits does so here: the other side has no more than it has room for.
        assert!(link.queued() as u64 > FRAMES * (16 << 10) - 2 * WINDOW);
        there.open();
        until("all are applied", || {
            there.applied.lock().len() as u64 == FRAMES
        })
        .await;
        assert!(there.applied.lock().iter().copied().eq(0..FRAMES), "order");
        assert_eq!((link.life(), link.queued()), (1, 0));
        here.stop();
        listening.abort();
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn whoever_sends_more_than_there_is_room_for_loses_its_link() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let there = Gate::new(2);
        let _opens = Opens(there.clone());
        let links = Links::new(
            there.clone(),
            Arc::new(crate::ground::System),
            Cookie::new("c"),
            None,
        );
        let listening = tokio::spawn(listen(Box::new(listener), links.clone()));
        let mut stream = TcpStream::connect(address).await.unwrap();
        let opened = handshake::dial(
            &mut stream,
            &Cookie::new("c"),
            hello("a", 1),
            VERSIONS,
            false,
        )
        .await;
        let mut opened = opened.unwrap();
        let mut out = Vec::new();
        for _ in 0..=2 * WINDOW / PORTION as u64 {
            let head = [kind::ROUTES, 1];
            let body = vec![0; PORTION];
            opened.sealing.put(&mut out, kind::BULK, &head, &body);
        }
        // It may be cut off while it still sends.
        let _ = stream.write_all(&out).await;
        let ends = async { while opened.opening.take(&mut stream).await.is_ok() {} };
        timeout(Duration::from_secs(30), ends).await.unwrap();
        until("it is counted", || {
            links.refused.load(Ordering::Relaxed) == 1
        })
        .await;
        there.open();
        listening.abort();
    }
}
