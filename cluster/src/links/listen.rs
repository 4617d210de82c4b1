//! Links that other nodes dial.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

use bytes::Bytes;
use tokio::io::{AsyncWriteExt, BufReader};
use tokio::sync::Semaphore;
use tokio::time::timeout;

use super::apart::Apart;
use super::handshake::{self, HandshakeError};
use super::lanes::{Lane, Lanes, Pieces, cost};
use super::link::SILENCE;
use super::{Hello, Links, kind, tls};
use crate::ground::{Halves, Listener, Stream};

/// Handshakes at once.
const HANDSHAKES: usize = 64;
/// Requests of one link at once.
const REQUESTS: usize = 256;

/// Sends back on a link that another node dialed.
#[derive(Debug, Clone)]
pub(crate) struct Answers(Arc<Lanes>);

impl Answers {
    /// Sends a frame; lost if the link is down.
    pub fn send(&self, kind: u8, body: Vec<u8>) {
        // The other side asks again on its next link.
        let _ = self.0.push(Lane::Control, kind, Bytes::from(body));
    }
}

/// Accepts links until dropped.
pub(crate) async fn listen(mut listener: Box<dyn Listener>, links: Arc<Links>) {
    let handshakes = Arc::new(Semaphore::new(HANDSHAKES));
    loop {
        let (stream, peer) = match listener.accept().await {
            Ok(accepted) => accepted,
            Err(error) => {
                tracing::warn!(%error, "a link cannot be accepted");
                tokio::time::sleep(std::time::Duration::from_millis(100)).await;
                continue;
            }
        };
        let Ok(permit) = handshakes.clone().try_acquire_owned() else {
            links.count_refused();
            continue;
        };
        let links = links.clone();
        tokio::spawn(async move {
            match serve(stream, &links, permit).await {
                Err(HandshakeError::Myself) | Ok(()) => {}
                Err(error) => {
                    let counts = !matches!(&error, HandshakeError::Io(error)
                        if error.kind() != io::ErrorKind::InvalidData);
                    if counts {
                        links.count_refused();
                        log_refusal(peer, &error);
                    }
                }
            }
        });
    }
}

fn log_refusal(peer: SocketAddr, error: &HandshakeError) {
    tracing::warn!(%peer, %error, "a link was refused");
}

async fn serve(
    mut stream: Box<dyn Stream>,
    links: &Arc<Links>,
    permit: tokio::sync::OwnedSemaphorePermit,
) -> Result<(), HandshakeError> {
    let mut identity = links.identity.subscribe();
    let (hello, versions) = (links.local.hello(), links.local.versions());
    let greet = async {
        // What comes first tells whether the other side means TLS.
        let mut first = [0; 1];
        let encrypts = stream.peek(&mut first).await? == 1 && first[0] == tls::RECORD;
        match &links.tls {
            None if encrypts => {
                let _ = stream.write_all(&tls::ALERT).await;
                Err(HandshakeError::Here(tls::ONLY_THERE.to_owned()))
            }
            None => {
                let opened =
                    handshake::accept(&mut stream, &links.cookie, hello, versions, false).await?;
                Ok((stream.split(), opened))
            }
            Some(_) if !encrypts => {
                handshake::tell(&mut stream, versions, tls::ONLY_HERE).await;
                Err(HandshakeError::Here(tls::ONLY_HERE.to_owned()))
            }
            Some(tls) => {
                let mut stream = tls.accept(stream).await?;
                let opened =
                    handshake::accept(&mut stream, &links.cookie, hello, versions, true).await?;
                let (reading, writing) = tokio::io::split(stream);
                Ok((Halves::new(reading, writing), opened))
            }
        }
    };
    let (halves, opened) = timeout(handshake::TIMEOUT, greet)
        .await
        .map_err(|_| io::Error::from(io::ErrorKind::TimedOut))??;
    drop(permit);
    let remote = opened.remote;
    links.local.accepted(&remote);
    let Halves { reading, writing } = halves;
    let lanes = Lanes::new();
    let answers = Answers(lanes.clone());
    let write = lanes.write(opened.sealing, writing, false);
    let mut opening = opened.opening;
    let permits = Arc::new(Semaphore::new(REQUESTS));
    let (apart, applying) = Apart::begin(links.local.clone(), remote.clone(), answers.clone());
    let read = async {
        let mut reading = BufReader::with_capacity(64 << 10, reading);
        let mut pieces = Pieces::default();
        loop {
            let (lane, wire) = timeout(SILENCE, opening.take(&mut reading))
                .await
                .map_err(|_| io::Error::from(io::ErrorKind::TimedOut))??;
            let (kind, body) = match lane {
                kind::LOG | kind::BULK => match pieces.take(lane, &wire)? {
                    Some(whole) => whole,
                    None => {
                        if lane == kind::BULK {
                            apart.credit(cost(&wire));
                        }
                        continue;
                    }
                },
                kind => (kind, wire.clone()),
            };
            match kind {
                kind::PING => answers.send(kind::PONG, Vec::new()),
                kind::REQUEST => {
                    if lane == kind::BULK {
                        apart.credit(cost(&wire));
                    }
                    let Some(id) = body.first_chunk::<8>().copied() else {
                        return Err(io::Error::from(io::ErrorKind::InvalidData));
                    };
                    let permit = permits.clone().acquire_owned().await;
                    let (answers, local) = (answers.clone(), links.local.clone());
                    let answer = local.request(remote.clone(), body.slice(8..));
                    tokio::spawn(async move {
                        let mut out = id.to_vec();
                        out.extend_from_slice(&answer.await);
                        answers.send(kind::RESPONSE, out);
                        drop(permit);
                    });
                }
                kind if lane == kind::BULK => apart.take(kind, body, cost(&wire))?,
                kind => {
                    if !links.local.received(&remote, kind, body, &answers) {
                        return Err(unreadable(&remote, kind));
                    }
                }
            }
        }
    };
    let result: io::Result<()> = tokio::select! {
        result = write => result,
        result = read => result,
        result = applying => result,
        _ = identity.changed() => Ok(()),
    };
    lanes.close();
    Ok(result?)
}

/// A frame that is not what it should be.
pub(super) fn unreadable(remote: &Hello, kind: u8) -> io::Error {
    let what = format!(
        "node {:?} sent a frame of kind {kind} that cannot be read",
        remote.node
    );
    io::Error::new(io::ErrorKind::InvalidData, what)
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::Ordering;
    use std::time::{Duration, Instant};

    use bytes::Bytes;
    use tokio::net::{TcpListener, TcpStream};

    use super::*;
    use crate::ground::System;
    use crate::links::handshake::tests::hello;
    use crate::links::{Answer, Cookie, Link, Local, VERSIONS};

    /// Reads frames of kind 3 and no others.
    struct Picky;

    impl Local for Picky {
        fn hello(&self) -> Hello {
            hello("b", 2)
        }

        fn connected(&self, _: &Arc<Link>, _: &Hello) {}

        fn accepted(&self, _: &Hello) {}

        fn replied(&self, _: &Hello, _: u8, _: &[u8]) {}

        fn request(self: Arc<Self>, _: Hello, body: Bytes) -> Answer {
            Box::pin(async move { body.to_vec() })
        }

        fn received(&self, _: &Hello, kind: u8, _: Bytes, answers: &Answers) -> bool {
            answers.send(kind, b"taken".to_vec());
            kind == 3
        }
    }

    #[tokio::test]
    async fn a_frame_that_cannot_be_read_ends_its_link_and_is_counted() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let links = Links::new(Arc::new(Picky), Arc::new(System), Cookie::new("c"), None);
        let listening = tokio::spawn(listen(Box::new(listener), links.clone()));
        for (kind, body, refused) in [
            (3, &b"good"[..], 0),
            (9, b"strange", 1),
            (kind::REQUEST, b"short", 2),
        ] {
            let mut stream = TcpStream::connect(address).await.unwrap();
            let cookie = Cookie::new("c");
            let opened =
                handshake::dial(&mut stream, &cookie, hello("a", 1), VERSIONS, false).await;
            let mut opened = opened.unwrap();
            let mut out = Vec::new();
            opened.sealing.put(&mut out, kind, b"", body);
            opened.sealing.put(&mut out, kind::PING, b"", b"");
            stream.write_all(&out).await.unwrap();
            let ends = async {
                loop {
                    match opened.opening.take(&mut stream).await {
                        Ok((kind::PONG, _)) => return false,
                        Ok(_) => {}
                        Err(_) => return true,
                    }
                }
            };
            let ended = timeout(Duration::from_secs(10), ends).await.unwrap();
            assert_eq!(ended, refused > 0, "kind {kind}");
            let until = Instant::now() + Duration::from_secs(10);
            while links.refused.load(Ordering::Relaxed) != refused {
                assert!(Instant::now() < until, "kind {kind} is not counted");
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        }
        listening.abort();
    }
}
