//! The stream against rustls' own buffered client, over pipes of odd sizes, and against nonsense.

use std::io::Write;

use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{ClientConfig, ClientConnection, RootCertStore, SupportedProtocolVersion};
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex};
use tokio_rustls::TlsConnector;

use super::super::generate::{self, PemPair, Purpose};
use super::*;

struct Ends {
    ca: PemPair,
    server: Arc<ServerConfig>,
}

impl Ends {
    fn new() -> Self {
        let ca = generate::ca("test", 2).unwrap();
        let pair = generate::issue(
            &ca,
            Purpose::Server,
            "localhost",
            &["localhost".to_owned()],
            2,
        )
        .unwrap();
        let chain = vec![CertificateDer::from_pem_slice(pair.certificate.as_bytes()).unwrap()];
        let key = PrivateKeyDer::from_pem_slice(pair.key.as_bytes()).unwrap();
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let server = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(chain, key)
            .unwrap();
        Self {
            ca,
            server: Arc::new(server),
        }
    }

    fn client(
        &self,
        version: &'static SupportedProtocolVersion,
        fragment: Option<usize>,
    ) -> Arc<ClientConfig> {
        let mut roots = RootCertStore::empty();
        roots
            .add(CertificateDer::from_pem_slice(self.ca.certificate.as_bytes()).unwrap())
            .unwrap();
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let mut config = ClientConfig::builder_with_provider(provider)
            .with_protocol_versions(&[version])
            .unwrap()
            .with_root_certificates(roots)
            .with_no_client_auth();
        config.max_fragment_size = fragment;
        Arc::new(config)
    }
}

fn name() -> ServerName<'static> {
    ServerName::try_from("localhost").unwrap()
}

type Client = tokio_rustls::client::TlsStream<DuplexStream>;

async fn connected(
    ends: &Ends,
    config: Arc<ClientConfig>,
    pipe: usize,
) -> (Client, TlsStream<DuplexStream>) {
    let (near, far) = duplex(pipe);
    let connector = TlsConnector::from(config);
    let (client, server) = tokio::join!(
        connector.connect(name(), near),
        TlsStream::accept(far, ends.server.clone())
    );
    (client.unwrap(), server.unwrap())
}

fn pattern(length: usize) -> Vec<u8> {
    (0..length).map(|n| (n * 13 + n / 257) as u8).collect()
}

fn holds_nothing<S>(stream: &TlsStream<S>) -> bool {
    stream.incoming.capacity() + stream.outgoing.capacity() + stream.plain.capacity() == 0
}

#[tokio::test]
async fn streams_pass_both_ways_through_pipes_and_buffers_of_any_size() {
    let ends = Ends::new();
    let sizes = [
        (1, 5, None),
        (37, 1, Some(32)),
        (600, 100, Some(100)),
        (4096, 70_000, None),
        (1 << 20, 3000, None),
    ];
    for version in [&rustls::version::TLS12, &rustls::version::TLS13] {
        for (pipe, room, fragment) in sizes {
            let data = pattern(if pipe < 100 { 3000 } else { 300_000 });
            let (client, mut server) = connected(&ends, ends.client(version, fragment), pipe).await;
            let (mut reader, mut writer) = tokio::io::split(client);
            let sender = async {
                writer.write_all(&data).await.unwrap();
                writer.shutdown().await.unwrap();
            };
            let echo = async {
                let mut buf = vec![0; room];
                loop {
                    let n = server.read(&mut buf).await.unwrap();
                    if n == 0 {
                        break;
                    }
                    server.write_all(&buf[..n]).await.unwrap();
                }
                server.flush().await.unwrap();
                assert!(holds_nothing(&server));
                server.shutdown().await.unwrap();
            };
            let mut back = Vec::new();
            let receiver = async { reader.read_to_end(&mut back).await.unwrap() };
            tokio::join!(sender, echo, receiver);
            assert!(back == data, "{version:?} pipe {pipe} room {room}");
        }
    }
}

#[tokio::test]
async fn slices_are_joined_into_one_record_and_none_is_lost() {
    let ends = Ends::new();
    let (mut client, mut server) =
        connected(&ends, ends.client(&rustls::version::TLS13, None), 1 << 20).await;
    let parts = [
        pattern(10),
        Vec::new(),
        pattern(5000),
        pattern(20_000),
        pattern(40_000),
    ];
    let all = parts.concat();
    let mut done = 0;
    while done < all.len() {
        let mut skip = done;
        let slices: Vec<IoSlice<'_>> = parts
            .iter()
            .map(|part| {
                let cut = skip.min(part.len());
                skip -= cut;
                IoSlice::new(&part[cut..])
            })
            .collect();
        let n = poll_fn(|cx| Pin::new(&mut server).poll_write_vectored(cx, &slices))
            .await
            .unwrap();
        assert!(n > 0);
        if done == 0 {
            assert_eq!(n, GATHER);
        }
        done += n;
    }
    server.flush().await.unwrap();
    let mut back = vec![0; all.len()];
    client.read_exact(&mut back).await.unwrap();
    assert!(back == all);
}

#[tokio::test]
async fn key_updates_of_either_side_do_not_break_the_stream() {
    let ends = Ends::new();
    let (mut client, mut server) =
        connected(&ends, ends.client(&rustls::version::TLS13, None), 1 << 16).await;
    for round in 0..20u8 {
        client.get_mut().1.refresh_traffic_keys().unwrap();
        client.write_all(&[round]).await.unwrap();
        client.flush().await.unwrap();
        assert_eq!(server.read_u8().await.unwrap(), round);
        server.write_all(&[round]).await.unwrap();
        server.flush().await.unwrap();
        assert_eq!(client.read_u8().await.unwrap(), round);
        assert!(holds_nothing(&server));
    }
}

#[tokio::test]
async fn a_peer_that_does_not_read_holds_at_most_one_batch() {
    let ends = Ends::new();
    let (_client, mut server) =
        connected(&ends, ends.client(&rustls::version::TLS13, None), 4096).await;
    let data = pattern(BATCH * 2);
    let mut taken = 0;
    loop {
        let write = poll_fn(|cx| Pin::new(&mut server).poll_write(cx, &data));
        match tokio::time::timeout(std::time::Duration::from_millis(50), write).await {
            Ok(n) => taken += n.unwrap(),
            Err(_) => break,
        }
    }
    assert_eq!(taken, BATCH);
    assert!(server.outgoing.len() <= BATCH + 1024);
}

#[tokio::test]
async fn a_changed_record_is_refused_with_an_alert() {
    let ends = Ends::new();
    let (client, mut server) =
        connected(&ends, ends.client(&rustls::version::TLS13, None), 1 << 16).await;
    let (mut pipe, mut session) = client.into_inner();
    session.writer().write_all(b"good").unwrap();
    session.writer().write_all(b"bad").unwrap();
    let mut records = Vec::new();
    while session.wants_write() {
        session.write_tls(&mut records).unwrap();
    }
    *records.last_mut().unwrap() ^= 1;
    pipe.write_all(&records).await.unwrap();
    let mut buf = [0; 100];
    assert_eq!(server.read(&mut buf).await.unwrap(), 4);
    let error = server.read(&mut buf).await.unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::InvalidData);
    assert!(error.get_ref().unwrap().is::<rustls::Error>());
    drop(server);
    let mut alert = Vec::new();
    pipe.read_to_end(&mut alert).await.unwrap();
    session.read_tls(&mut alert.as_slice()).unwrap();
    assert!(matches!(
        session.process_new_packets(),
        Err(rustls::Error::AlertReceived(_))
    ));
}

#[tokio::test]
async fn an_end_without_close_notify_is_an_end() {
    let ends = Ends::new();
    for version in [&rustls::version::TLS12, &rustls::version::TLS13] {
        let (client, mut server) = connected(&ends, ends.client(version, None), 1 << 16).await;
        drop(client.into_inner());
        assert_eq!(server.read(&mut [0; 10]).await.unwrap(), 0);
        assert_eq!(server.read(&mut [0; 10]).await.unwrap(), 0);
    }
}

/// A small generator of its own, so that a failing input can be named by its number.
struct Random(u64);

impl Random {
    fn below(&mut self, limit: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 % limit.max(1) as u64) as usize
    }
}

/// Client hellos with bytes changed, doubled, removed and cut, whole and in fragments: an error, never a panic, and
/// nothing above the bounds is kept.
#[tokio::test]
async fn fuzz_client_hellos() {
    let ends = Ends::new();
    let hello = |version, fragment| {
        let mut session = ClientConnection::new(ends.client(version, fragment), name()).unwrap();
        let mut bytes = Vec::new();
        while session.wants_write() {
            session.write_tls(&mut bytes).unwrap();
        }
        bytes
    };
    let seeds = [
        hello(&rustls::version::TLS12, None),
        hello(&rustls::version::TLS13, None),
        hello(&rustls::version::TLS13, Some(40)),
    ];
    let mut random = Random(0x1234_5678_9ABC_DEF1);
    for number in 0..20_000u32 {
        let mut bytes = seeds[random.below(seeds.len())].clone();
        for _ in 0..1 + random.below(5) {
            let at = random.below(bytes.len() - 1);
            match random.below(5) {
                0 | 1 => bytes[at] = random.below(256) as u8,
                2 if bytes.len() > 2 => drop(bytes.remove(at)),
                3 => bytes.insert(at, bytes[at]),
                _ => bytes.truncate(at + 2),
            }
        }
        let (mut near, far) = duplex(1 << 16);
        let cut = random.below(bytes.len());
        let accept = TlsStream::accept(far, ends.server.clone());
        let send = async {
            near.write_all(&bytes[..cut]).await.unwrap();
            tokio::task::yield_now().await;
            // The server may have closed at the first half.
            let _ = near.write_all(&bytes[cut..]).await;
            let _ = near.shutdown().await;
            let mut answer = Vec::new();
            let _ = near.read_to_end(&mut answer).await;
        };
        let (accepted, ()) = tokio::join!(accept, send);
        assert!(accepted.is_err(), "input {number} completed a handshake");
    }
}

/// Bytes behind a good handshake: whatever they are, the stream ends with an error or the end, and never panics when
/// it writes in between.
#[tokio::test]
async fn fuzz_records_after_the_handshake() {
    let ends = Ends::new();
    let mut random = Random(0xFEDC_BA98_7654_3211);
    for version in [&rustls::version::TLS12, &rustls::version::TLS13] {
        let config = ends.client(version, Some(64));
        for _ in 0..300 {
            let (client, mut server) = connected(&ends, config.clone(), 1 << 18).await;
            let (mut pipe, mut session) = client.into_inner();
            session
                .writer()
                .write_all(&pattern(random.below(3000)))
                .unwrap();
            let mut bytes = Vec::new();
            while session.wants_write() {
                session.write_tls(&mut bytes).unwrap();
            }
            bytes.extend((0..random.below(200)).map(|_| random.below(256) as u8));
            if !bytes.is_empty() && random.below(3) > 0 {
                let at = random.below(bytes.len());
                bytes[at] ^= 1 << random.below(8);
            }
            let mut buf = vec![0; 1 + random.below(500)];
            for piece in bytes.chunks(1 + random.below(bytes.len())) {
                pipe.write_all(piece).await.unwrap();
                let read =
                    tokio::time::timeout(std::time::Duration::ZERO, server.read(&mut buf)).await;
                let _ = server.write_all(b"answer").await;
                if matches!(read, Ok(Err(_))) {
                    break;
                }
            }
            pipe.shutdown().await.unwrap();
            while matches!(server.read(&mut buf).await, Ok(n) if n > 0) {}
            let _ = server.shutdown().await;
            assert!(server.incoming.len() <= MAX_INCOMING);
        }
    }
}
