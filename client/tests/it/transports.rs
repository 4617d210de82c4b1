//! TLS and WebSocket against servers made in the test.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use futures_util::{Sink, Stream};
use nightjar_client::{
    ConnectOptions, Connection, Dialer, Endpoint, Error, Message, ProtocolVersion, QoS, Scheme,
    TlsOptions, Transport,
};
use rcgen::{CertificateParams, CertifiedIssuer, KeyPair};
use rustls::ServerConfig;
use rustls::pki_types::{PrivateKeyDer, pem::PemObject};
use rustls::server::WebPkiClientVerifier;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Message as Frame;
use tokio_tungstenite::tungstenite::handshake::server::{Request, Response};

use crate::broker::{Shared, serve};

/// Certificates of a small authority, as files.
struct Pki {
    dir: tempfile::TempDir,
    server: Arc<ServerConfig>,
}

impl Pki {
    /// `names` are those of the server's certificate; with `clients` the server asks for one.
    fn new(names: &[&str], clients: bool) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
        let authority = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
        std::fs::write(dir.path().join("ca.crt"), authority.pem()).unwrap();
        let sign = |names: &[&str]| {
            let names: Vec<String> = names.iter().map(|&name| name.to_owned()).collect();
            let key = KeyPair::generate().unwrap();
            let params = CertificateParams::new(names).unwrap();
            (params.signed_by(&key, &authority).unwrap(), key)
        };
        let (certificate, key) = sign(&["client"]);
        std::fs::write(dir.path().join("client.crt"), certificate.pem()).unwrap();
        std::fs::write(dir.path().join("client.key"), key.serialize_pem()).unwrap();
        let (certificate, key) = sign(names);
        let mut roots = rustls::RootCertStore::empty();
        roots.add(authority.der().clone()).unwrap();
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let builder = ServerConfig::builder_with_provider(Arc::clone(&provider))
            .with_safe_default_protocol_versions()
            .unwrap();
        let builder = if clients {
            let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider);
            builder.with_client_cert_verifier(verifier.build().unwrap())
        } else {
            builder.with_no_client_auth()
        };
        let key = PrivateKeyDer::from_pem_slice(key.serialize_pem().as_bytes()).unwrap();
        let server = builder
            .with_single_cert(vec![certificate.der().clone()], key)
            .unwrap();
        Self {
            dir,
            server: Arc::new(server),
        }
    }

    fn file(&self, name: &str) -> Option<PathBuf> {
        Some(self.dir.path().join(name))
    }
}

/// Serves connections with optional TLS and WebSocket.
async fn listen(tls: Option<Arc<ServerConfig>>, websocket: bool) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let shared = Arc::new(Shared::default());
    tokio::spawn(async move {
        loop {
            let (tcp, _) = listener.accept().await.unwrap();
            let (tls, shared) = (tls.clone(), Arc::clone(&shared));
            tokio::spawn(async move {
                match tls {
                    None if websocket => serve(upgrade(tcp).await, shared).await,
                    None => serve(tcp, shared).await,
                    Some(config) => {
                        let Ok(stream) = TlsAcceptor::from(config).accept(tcp).await else {
                            return;
                        };
                        if websocket {
                            serve(upgrade(stream).await, shared).await;
                        } else {
                            serve(stream, shared).await;
                        }
                    }
                }
            });
        }
    });
    address
}

/// The server's side of MQTT over WebSocket, in frames of three bytes to show that borders do not
/// matter.
struct Frames<S> {
    inner: WebSocketStream<S>,
    rest: Bytes,
}

async fn upgrade<S: AsyncRead + AsyncWrite + Unpin>(stream: S) -> Frames<S> {
    #[allow(clippy::result_large_err, reason = "the signature is tungstenite's")]
    let check = |request: &Request, mut response: Response| {
        assert_eq!(request.uri().path(), "/some/path");
        let protocol = request.headers()["sec-websocket-protocol"].clone();
        assert_eq!(protocol, "mqtt");
        response
            .headers_mut()
            .insert("sec-websocket-protocol", protocol);
        Ok(response)
    };
    let inner = tokio_tungstenite::accept_hdr_async(stream, check)
        .await
        .unwrap();
    Frames {
        inner,
        rest: Bytes::new(),
    }
}

fn other(error: impl std::error::Error + Send + Sync + 'static) -> std::io::Error {
    std::io::Error::other(error)
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncRead for Frames<S> {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<std::io::Result<()>> {
        let this = self.get_mut();
        while this.rest.is_empty() {
            match ready!(Pin::new(&mut this.inner).poll_next(cx)) {
                Some(Ok(Frame::Binary(bytes))) => this.rest = bytes,
                Some(Ok(_)) => {}
                Some(Err(_)) | None => return Poll::Ready(Ok(())),
            }
        }
        let part = this.rest.split_to(this.rest.len().min(buf.remaining()));
        buf.put_slice(&part);
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncWrite for Frames<S> {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<std::io::Result<usize>> {
        let inner = &mut self.get_mut().inner;
        ready!(Pin::new(&mut *inner).poll_ready(cx)).map_err(other)?;
        let part = &buf[..buf.len().min(3)];
        Pin::new(inner)
            .start_send(Frame::Binary(Bytes::copy_from_slice(part)))
            .map_err(other)?;
        Poll::Ready(Ok(part.len()))
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.get_mut().inner)
            .poll_flush(cx)
            .map_err(other)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.get_mut().inner)
            .poll_close(cx)
            .map_err(other)
    }
}

async fn connect(
    scheme: Scheme,
    address: SocketAddr,
    tls: &TlsOptions,
) -> Result<Connection, Error> {
    let mut endpoint = Endpoint::new(scheme, "127.0.0.1").port(address.port());
    endpoint.path = "/some/path".to_owned();
    let options = ConnectOptions::new("c").version(ProtocolVersion::V5);
    Connection::connect(&Dialer::new(endpoint, tls)?, options).await
}

/// A message of 100 kB there and back.
async fn echo(mut client: Connection) {
    client.subscribe_qos("t", QoS::AtLeastOnce).await.unwrap();
    let payload: Vec<u8> = (0..100_000u32).map(|n| n as u8).collect();
    let message = Message::new("t", payload.clone()).qos(QoS::AtLeastOnce);
    assert!(!client.publish(message).await.unwrap().is_error());
    assert_eq!(client.next_message().await.unwrap().payload, payload);
    client.disconnect().await.unwrap();
}

#[tokio::test]
async fn websocket_carries_packets_over_any_frames() {
    let client = connect(Scheme::Ws, listen(None, true).await, &TlsOptions::default())
        .await
        .unwrap();
    assert!(matches!(client.transport(), Transport::Ws(_)));
    echo(client).await;
}

#[tokio::test]
async fn tls_and_secure_websocket_with_a_trusted_authority() {
    let pki = Pki::new(&["127.0.0.1"], false);
    let tls = TlsOptions {
        cafile: pki.file("ca.crt"),
        ..TlsOptions::default()
    };
    let address = listen(Some(Arc::clone(&pki.server)), false).await;
    echo(connect(Scheme::Mqtts, address, &tls).await.unwrap()).await;
    let address = listen(Some(Arc::clone(&pki.server)), true).await;
    echo(connect(Scheme::Wss, address, &tls).await.unwrap()).await;
    let tls = TlsOptions {
        capath: Some(pki.dir.path().to_owned()),
        ..TlsOptions::default()
    };
    echo(connect(Scheme::Wss, address, &tls).await.unwrap()).await;
}

#[tokio::test]
async fn certificates_are_checked_unless_told_otherwise() {
    let pki = Pki::new(&["elsewhere.example"], false);
    let stranger = Pki::new(&["127.0.0.1"], false);
    let address = listen(Some(Arc::clone(&pki.server)), false).await;
    let attempt = async |cafile: Option<PathBuf>, insecure| {
        let tls = TlsOptions {
            cafile,
            insecure,
            ..TlsOptions::default()
        };
        connect(Scheme::Mqtts, address, &tls).await
    };
    // Wrong name, unknown authority: refused as TLS errors.
    for cafile in [pki.file("ca.crt"), stranger.file("ca.crt")] {
        let error = attempt(cafile, false).await.unwrap_err();
        assert!(
            matches!(error, Error::Handshake { stage: "TLS", .. }),
            "{error}"
        );
        assert_eq!(error.exit_code(), 8);
    }
    // --insecure with an authority forgives the name, not the authority.
    assert!(attempt(stranger.file("ca.crt"), true).await.is_err());
    echo(attempt(pki.file("ca.crt"), true).await.unwrap()).await;
    // Without one it forgives all.
    echo(attempt(None, true).await.unwrap()).await;
}

#[tokio::test]
async fn a_self_signed_certificate_is_its_own_authority() {
    let dir = tempfile::tempdir().unwrap();
    let listen_with = async |names: &[&str], file: &str| {
        let names: Vec<String> = names.iter().map(|&name| name.to_owned()).collect();
        let mut params = CertificateParams::new(names).unwrap();
        // As `openssl req -x509` makes it.
        params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
        let key = KeyPair::generate().unwrap();
        let certificate = params.self_signed(&key).unwrap();
        std::fs::write(dir.path().join(file), certificate.pem()).unwrap();
        let key = PrivateKeyDer::from_pem_slice(key.serialize_pem().as_bytes()).unwrap();
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let server = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(vec![certificate.der().clone()], key)
            .unwrap();
        listen(Some(Arc::new(server)), false).await
    };
    let right = listen_with(&["127.0.0.1"], "right.crt").await;
    let wrong = listen_with(&["elsewhere.example"], "wrong.crt").await;
    let attempt = async |address, file: &str, insecure| {
        let tls = TlsOptions {
            cafile: Some(dir.path().join(file)),
            insecure,
            ..TlsOptions::default()
        };
        connect(Scheme::Mqtts, address, &tls).await
    };
    echo(attempt(right, "right.crt", false).await.unwrap()).await;
    assert!(
        attempt(right, "wrong.crt", false).await.is_err(),
        "another certificate is trusted"
    );
    assert!(
        attempt(wrong, "wrong.crt", false).await.is_err(),
        "its name is not ours"
    );
    echo(attempt(wrong, "wrong.crt", true).await.unwrap()).await;
}

#[tokio::test]
async fn a_client_certificate_is_shown() {
    let pki = Pki::new(&["127.0.0.1"], true);
    let address = listen(Some(Arc::clone(&pki.server)), false).await;
    let mut tls = TlsOptions {
        cafile: pki.file("ca.crt"),
        ..TlsOptions::default()
    };
    assert!(connect(Scheme::Mqtts, address, &tls).await.is_err());
    tls.cert = pki.file("client.crt");
    tls.key = pki.file("client.key");
    echo(connect(Scheme::Mqtts, address, &tls).await.unwrap()).await;
}

#[tokio::test]
async fn files_that_are_wrong_are_named() {
    let pki = Pki::new(&["127.0.0.1"], false);
    let address = "127.0.0.1:1".parse().unwrap();
    for tls in [
        TlsOptions {
            cafile: Some("/nonexistent/ca.crt".into()),
            ..TlsOptions::default()
        },
        TlsOptions {
            cafile: pki.file("client.key"),
            ..TlsOptions::default()
        },
        TlsOptions {
            cafile: pki.file("ca.crt"),
            cert: pki.file("client.crt"),
            key: pki.file("client.crt"),
            ..TlsOptions::default()
        },
    ] {
        let error = connect(Scheme::Mqtts, address, &tls).await.unwrap_err();
        assert!(matches!(error, Error::File { .. }), "{error}");
    }
}
