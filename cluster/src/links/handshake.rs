//! How a link begins: both sides say who they are and prove that they hold the cookie, without sending it.

use std::io;
use std::time::Duration;

use ring::hmac;
use ring::rand::{SecureRandom, SystemRandom};
use serde::{Deserialize, Serialize};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

use super::frame::{Seal, same};
use super::{Hello, tls};

/// Oldest and newest version of the protocol that a node speaks.
pub(super) type Versions = (u16, u16);

const MAGIC: &[u8; 4] = b"NJLK";
/// The largest message before a node has proved itself.
const MAX: usize = 4096;
/// How long a handshake may take.
pub(super) const TIMEOUT: Duration = Duration::from_secs(5);
/// Clocks of nodes may differ by so many milliseconds: entries carry the time of the node that made them.
const CLOCKS: u64 = 10_000;

/// The shared secret; empty where TLS alone says who is a node.
#[derive(Clone)]
pub(crate) struct Cookie(hmac::Key);

impl Cookie {
    pub fn new(secret: &str) -> Self {
        Self(hmac::Key::new(hmac::HMAC_SHA256, secret.as_bytes()))
    }

    /// A secret that need not be text.
    pub fn of_octets(secret: &[u8]) -> Self {
        Self(hmac::Key::new(hmac::HMAC_SHA256, secret))
    }

    /// The code of a datagram.
    pub fn sign(&self, bytes: &[u8]) -> [u8; 32] {
        self.derive("datagram", &[bytes, &[]])
    }

    /// The key of one direction of a link; TLS has its own.
    fn seal(&self, what: &str, hellos: &[&[u8]; 2], encrypted: bool) -> Seal {
        if encrypted {
            return Seal::of_tls();
        }
        Seal::new(&self.derive(what, hellos))
    }

    fn derive(&self, what: &str, hellos: &[&[u8]; 2]) -> [u8; 32] {
        let mut context = hmac::Context::with_key(&self.0);
        context.update(what.as_bytes());
        for hello in hellos {
            context.update(&(hello.len() as u64).to_le_bytes());
            context.update(hello);
        }
        let mut out = [0; 32];
        out.copy_from_slice(context.sign().as_ref());
        out
    }
}

#[derive(Serialize, Deserialize)]
enum Step {
    /// The one who dialed.
    Hello(Hello),
    /// The other one, with its proof.
    Challenge(Hello, [u8; 32]),
    /// The proof of the one who dialed.
    Proof([u8; 32]),
    /// The link is up.
    Welcome,
    /// It will not be, because of this.
    Refuse(String),
}

/// Why there is no link.
#[derive(Debug, thiserror::Error)]
pub(crate) enum HandshakeError {
    #[error("{0}")]
    Io(#[from] io::Error),
    /// This side refuses.
    #[error("refused here: {0}")]
    Here(String),
    /// The other side refuses.
    #[error("refused there: {0}")]
    There(String),
    /// The other side is this process.
    #[error("it is this node itself")]
    Myself,
}

/// A link that is up.
pub(super) struct Opened {
    pub remote: Hello,
    /// What the other node speaks.
    pub speaks: Versions,
    pub sealing: Seal,
    pub opening: Seal,
}

/// What a greeting needs of a connection.
pub(super) trait Stream: AsyncRead + AsyncWrite + Unpin {}

impl<T: AsyncRead + AsyncWrite + Unpin> Stream for T {}

async fn send(
    stream: &mut impl Stream,
    mine: Versions,
    step: &Step,
) -> Result<Vec<u8>, HandshakeError> {
    let body = postcard::to_allocvec(step).map_err(io::Error::other)?;
    let mut out = MAGIC.to_vec();
    out.extend_from_slice(&mine.0.to_le_bytes());
    out.extend_from_slice(&mine.1.to_le_bytes());
    out.extend_from_slice(&(body.len() as u32).to_le_bytes());
    out.extend_from_slice(&body);
    stream.write_all(&out).await.map_err(tls::of_io)?;
    stream.flush().await.map_err(tls::of_io)?;
    Ok(body)
}

async fn receive(
    stream: &mut impl Stream,
    mine: Versions,
) -> Result<(Step, Vec<u8>, Versions), HandshakeError> {
    let mut head = [0; 12];
    // The other side's verdict on this node's certificate comes with the first octets.
    stream.read_exact(&mut head).await.map_err(tls::of_io)?;
    if head[..4] != MAGIC[..] {
        return Err(HandshakeError::Here(
            "what came is not the beginning of a link between nodes".to_owned(),
        ));
    }
    let (min, max) = (
        u16::from_le_bytes([head[4], head[5]]),
        u16::from_le_bytes([head[6], head[7]]),
    );
    if max < mine.0 || min > mine.1 {
        return Err(HandshakeError::Here(format!(
            "the other node speaks versions {min} to {max} of the link protocol, this one {} to {}: {} needs a newer build; \
             upgrade one step at a time",
            mine.0,
            mine.1,
            if max < mine.0 {
                "the other node"
            } else {
                "this node"
            }
        )));
    }
    let len = u32::from_le_bytes([head[8], head[9], head[10], head[11]]) as usize;
    if len > MAX {
        return Err(HandshakeError::Here(format!("a greeting of {len} bytes")));
    }
    let mut body = vec![0; len];
    stream.read_exact(&mut body).await?;
    let step = postcard::from_bytes(&body)
        .map_err(|_| HandshakeError::Here("a greeting that cannot be read".to_owned()))?;
    if let Step::Refuse(reason) = step {
        return Err(HandshakeError::There(reason));
    }
    Ok((step, body, (min, max)))
}

async fn refuse(stream: &mut impl Stream, mine: Versions, error: HandshakeError) -> HandshakeError {
    if let HandshakeError::Here(reason) = &error {
        tell(stream, mine, reason).await;
    }
    error
}

/// Tells the other side why there will be no link.
pub(super) async fn tell(stream: &mut impl Stream, mine: Versions, reason: &str) {
    // It is worth trying; the connection ends whether it arrives or not.
    let _ = send(stream, mine, &Step::Refuse(reason.to_owned())).await;
}

const COOKIE: &str = "cluster.cookie differs: the two nodes do not hold the same cookie";

/// May these two be linked?
fn check(mine: &Hello, theirs: &Hello) -> Result<(), HandshakeError> {
    let no = |reason: String| Err(HandshakeError::Here(reason));
    if mine.instance == theirs.instance {
        return Err(HandshakeError::Myself);
    }
    if mine.cluster != theirs.cluster {
        return no(format!(
            "cluster.name differs: {:?} here, {:?} at node {:?}",
            mine.cluster, theirs.cluster, theirs.node
        ));
    }
    if mine.node == theirs.node {
        return no(format!(
            "node.name {:?} is that of two nodes; each needs its own",
            mine.node
        ));
    }
    if !mine.cluster_id.is_empty()
        && !theirs.cluster_id.is_empty()
        && mine.cluster_id != theirs.cluster_id
    {
        return no(format!(
            "node {:?} belongs to another cluster ({}, here {}); a node changes its cluster with an empty data directory",
            theirs.node, theirs.cluster_id, mine.cluster_id
        ));
    }
    if mine.time.abs_diff(theirs.time) > CLOCKS {
        return no(format!(
            "the clocks of {:?} and {:?} differ by {} s; at most {} s are allowed, synchronize them",
            mine.node,
            theirs.node,
            mine.time.abs_diff(theirs.time) / 1000,
            CLOCKS / 1000
        ));
    }
    Ok(())
}

fn fresh(mut hello: Hello) -> Result<Hello, HandshakeError> {
    SystemRandom::new()
        .fill(&mut hello.nonce)
        .map_err(|_| io::Error::other("no random numbers"))?;
    Ok(hello)
}

/// The side that dialed.
pub(super) async fn dial(
    stream: &mut impl Stream,
    cookie: &Cookie,
    hello: Hello,
    versions: Versions,
    encrypted: bool,
) -> Result<Opened, HandshakeError> {
    let mine = fresh(hello)?;
    let first = send(stream, versions, &Step::Hello(mine.clone())).await?;
    let (step, _, speaks) = receive(stream, versions).await?;
    let Step::Challenge(theirs, proof) = step else {
        return Err(HandshakeError::Here("a greeting out of turn".to_owned()));
    };
    let second = postcard::to_allocvec(&theirs).map_err(io::Error::other)?;
    let hellos = [&first[..], &second[..]];
    let checked = if same(&cookie.derive("accept", &hellos), &proof) {
        check(&mine, &theirs)
    } else {
        Err(HandshakeError::Here(COOKIE.to_owned()))
    };
    if let Err(error) = checked {
        return Err(refuse(stream, versions, error).await);
    }
    send(
        stream,
        versions,
        &Step::Proof(cookie.derive("dial", &hellos)),
    )
    .await?;
    match receive(stream, versions).await? {
        (Step::Welcome, ..) => Ok(Opened {
            remote: theirs,
            speaks,
            sealing: cookie.seal("from dialer", &hellos, encrypted),
            opening: cookie.seal("from accepter", &hellos, encrypted),
        }),
        _ => Err(HandshakeError::Here("a greeting out of turn".to_owned())),
    }
}

/// The side that accepted.
pub(super) async fn accept(
    stream: &mut impl Stream,
    cookie: &Cookie,
    hello: Hello,
    versions: Versions,
    encrypted: bool,
) -> Result<Opened, HandshakeError> {
    match accepting(stream, cookie, hello, versions, encrypted).await {
        Err(error) => Err(refuse(stream, versions, error).await),
        opened => opened,
    }
}

async fn accepting(
    stream: &mut impl Stream,
    cookie: &Cookie,
    hello: Hello,
    versions: Versions,
    encrypted: bool,
) -> Result<Opened, HandshakeError> {
    let out_of_turn = || HandshakeError::Here("a greeting out of turn".to_owned());
    let (step, first, speaks) = receive(stream, versions).await?;
    let Step::Hello(theirs) = step else {
        return Err(out_of_turn());
    };
    let mine = fresh(hello)?;
    let second = postcard::to_allocvec(&mine).map_err(io::Error::other)?;
    let hellos = [&first[..], &second[..]];
    let proof = cookie.derive("accept", &hellos);
    send(stream, versions, &Step::Challenge(mine.clone(), proof)).await?;
    let (Step::Proof(proof), ..) = receive(stream, versions).await? else {
        return Err(out_of_turn());
    };
    if !same(&cookie.derive("dial", &hellos), &proof) {
        return Err(HandshakeError::Here(COOKIE.to_owned()));
    }
    check(&mine, &theirs)?;
    send(stream, versions, &Step::Welcome).await?;
    Ok(Opened {
        remote: theirs,
        speaks,
        sealing: cookie.seal("from accepter", &hellos, encrypted),
        opening: cookie.seal("from dialer", &hellos, encrypted),
    })
}

#[cfg(test)]
pub(super) mod tests {
    use tokio::net::{TcpListener, TcpStream};

    use super::*;
    use crate::links::VERSIONS;

    pub(in crate::links) fn hello(node: &str, instance: u64) -> Hello {
        Hello {
            cluster: "nightjar".to_owned(),
            node: node.to_owned(),
            instance,
            number: 0,
            cluster_id: String::new(),
            address: "127.0.0.1:1".to_owned(),
            expect: 0,
            has_data: false,
            groups: (16, 4),
            time: 1000,
            nonce: [0; 32],
        }
    }

    /// What each side says: `None` if it has a link.
    async fn meet(dialer: (Hello, &str), accepter: (Hello, &str)) -> [Option<String>; 2] {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let dialing = async {
            let mut stream = TcpStream::connect(address).await.unwrap();
            let opened = dial(
                &mut stream,
                &Cookie::new(dialer.1),
                dialer.0,
                VERSIONS,
                false,
            )
            .await;
            opened.err().map(|error| error.to_string())
        };
        let accepting = async {
            let (mut stream, _) = listener.accept().await.unwrap();
            let opened = accept(
                &mut stream,
                &Cookie::new(accepter.1),
                accepter.0,
                VERSIONS,
                false,
            )
            .await;
            opened.err().map(|error| error.to_string())
        };
        let (dialed, accepted) = tokio::join!(dialing, accepting);
        [dialed, accepted]
    }

    async fn refused(dialer: (Hello, &str), accepter: (Hello, &str), reason: &str) {
        for said in meet(dialer, accepter).await {
            let said = said.unwrap_or_default();
            assert!(said.contains(reason), "{said:?} instead of {reason:?}");
        }
    }

    #[tokio::test]
    async fn nodes_with_one_cookie_link_and_others_are_told_why_not() {
        let linked = meet((hello("a", 1), "c"), (hello("b", 2), "c")).await;
        assert_eq!(linked, [None, None]);
        let (a, b) = (hello("a", 1), hello("b", 2));
        refused(
            (a.clone(), "one"),
            (b.clone(), "two"),
            "cluster.cookie differs",
        )
        .await;
        refused((a.clone(), "c"), (hello("a", 2), "c"), "node.name \"a\"").await;
        let mut other = b.clone();
        other.cluster = "elsewhere".to_owned();
        refused((a.clone(), "c"), (other, "c"), "cluster.name differs").await;
        let mut late = b.clone();
        late.time += CLOCKS + 1;
        refused((a.clone(), "c"), (late, "c"), "clocks").await;
        let (mut one, mut two) = (a, b);
        one.cluster_id = "1".to_owned();
        two.cluster_id = "2".to_owned();
        refused((one, "c"), (two, "c"), "another cluster").await;
    }

    #[tokio::test]
    async fn builds_that_share_no_version_are_told_whose_is_too_old() {
        for (dials, accepts, told) in [
            ((1, 2), (1, 1), [None, None]),
            ((1, 1), (1, 2), [None, None]),
            // The cluster of the one who is dialed uses 2.
            (
                (1, 1),
                (2, 2),
                [Some("this node needs"), Some("the other node needs")],
            ),
            (
                (2, 2),
                (1, 1),
                [Some("the other node needs"), Some("this node needs")],
            ),
        ] {
            let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
            let address = listener.local_addr().unwrap();
            let cookie = Cookie::new("c");
            let dialing = async {
                let mut stream = TcpStream::connect(address).await.unwrap();
                dial(&mut stream, &cookie, hello("a", 1), dials, false).await
            };
            let accepting = async {
                let (mut stream, _) = listener.accept().await.unwrap();
                accept(&mut stream, &cookie, hello("b", 2), accepts, false).await
            };
            let (dialed, accepted) = tokio::join!(dialing, accepting);
            for (opened, other, told) in [(dialed, accepts, told[0]), (accepted, dials, told[1])] {
                match (opened, told) {
                    (Ok(opened), None) => assert_eq!(opened.speaks, other),
                    (Err(error), Some(told)) => {
                        let error = error.to_string();
                        assert!(error.contains(told), "{error:?} instead of {told:?}");
                    }
                    (opened, _) => panic!("{dials:?}, {accepts:?}: linked {}", opened.is_ok()),
                }
            }
        }
    }

    #[tokio::test]
    async fn what_is_no_greeting_ends_the_connection() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        for (noise, told) in [
            (&b"GET / HTTP/1.1\r\n\r\n"[..], "not the beginning"),
            (b"NJLK\x01\0\x01\0\xff\xff\xff\xff", "a greeting of"),
            (b"NJLK\x01\0\x01\0\x02\0\0\0\x09\x09", "cannot be read"),
            (
                b"NJLK\x09\0\x0a\0\x01\0\0\0x",
                "speaks versions 9 to 10 of the link protocol",
            ),
        ] {
            let mut stream = TcpStream::connect(address).await.unwrap();
            stream.write_all(noise).await.unwrap();
            let (mut accepted, _) = listener.accept().await.unwrap();
            let opened = accept(
                &mut accepted,
                &Cookie::new("c"),
                hello("b", 2),
                VERSIONS,
                false,
            )
            .await;
            let here = opened.err().map(|error| error.to_string());
            assert!(here.is_some_and(|here| here.contains(told)), "{told}");
            // The other side hears the same.
            drop(accepted);
            let mut reply = Vec::new();
            let _ = stream.read_to_end(&mut reply).await;
            assert!(String::from_utf8_lossy(&reply).contains(told), "{told}");
        }
    }
}
