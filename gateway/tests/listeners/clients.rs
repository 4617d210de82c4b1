//! Clients: TLS by rustls, WebSocket by tungstenite, the rest by hand.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use nightjar_gateway::tls::generate::PemPair;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{ClientConfig, RootCertStore, SupportedProtocolVersion};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Error;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;

/// A TLS client's side.
pub struct Tls {
    pub config: Arc<ClientConfig>,
}

impl Tls {
    pub fn new(
        ca: &str,
        client: Option<&PemPair>,
        versions: &[&'static SupportedProtocolVersion],
    ) -> Self {
        let mut roots = RootCertStore::empty();
        roots
            .add(CertificateDer::from_pem_slice(ca.as_bytes()).unwrap())
            .unwrap();
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let builder = ClientConfig::builder_with_provider(provider)
            .with_protocol_versions(versions)
            .unwrap()
            .with_root_certificates(roots);
        let config = match client {
            Some(pair) => {
                let chain =
                    vec![CertificateDer::from_pem_slice(pair.certificate.as_bytes()).unwrap()];
                let key = PrivateKeyDer::from_pem_slice(pair.key.as_bytes()).unwrap();
                builder.with_client_auth_cert(chain, key).unwrap()
            }
            None => builder.with_no_client_auth(),
        };
        Self {
            config: Arc::new(config),
        }
    }

    pub fn from_file(ca_file: &Path) -> Self {
        Self::new(
            &std::fs::read_to_string(ca_file).unwrap(),
            None,
            rustls::ALL_VERSIONS,
        )
    }

    pub fn alpn(mut self, names: &[&[u8]]) -> Self {
        let mut config = ClientConfig::clone(&self.config);
        config.alpn_protocols = names.iter().map(|name| name.to_vec()).collect();
        self.config = Arc::new(config);
        self
    }

    pub async fn connect(
        &self,
        address: SocketAddr,
        name: &str,
    ) -> std::io::Result<TlsStream<TcpStream>> {
        let tcp = TcpStream::connect(address).await?;
        self.over(tcp, name).await
    }

    pub async fn over(&self, tcp: TcpStream, name: &str) -> std::io::Result<TlsStream<TcpStream>> {
        let name = ServerName::try_from(name.to_owned()).unwrap();
        TlsConnector::from(self.config.clone())
            .connect(name, tcp)
            .await
    }
}

/// A WebSocket handshake over any stream, with further headers.
pub async fn websocket<S: AsyncRead + AsyncWrite + Unpin>(
    io: S,
    path: &str,
    headers: &[(&'static str, &str)],
) -> Result<WebSocketStream<S>, Error> {
    let mut request = format!("ws://localhost{path}").into_client_request()?;
    for (name, value) in headers {
        request.headers_mut().append(*name, value.parse().unwrap());
    }
    tokio_tungstenite::client_async(request, io)
        .await
        .map(|(stream, _)| stream)
}

/// Sends bytes and reads as many back.
pub async fn echoed<S: AsyncRead + AsyncWrite + Unpin>(io: &mut S, data: &[u8]) {
    let mut back = vec![0; data.len()];
    let (mut reader, mut writer) = tokio::io::split(io);
    let work = async {
        tokio::join!(
            async {
                writer.write_all(data).await.unwrap();
                writer.flush().await.unwrap();
            },
            async { reader.read_exact(&mut back).await.unwrap() }
        )
    };
    tokio::time::timeout(Duration::from_secs(10), work)
        .await
        .expect("no echo");
    assert!(back == data, "the echo of {} bytes differs", data.len());
}

/// Reads to the end; a reset counts as one.
pub async fn read_to_end<S: AsyncRead + Unpin>(io: &mut S) -> Vec<u8> {
    let mut all = Vec::new();
    let _ = tokio::time::timeout(Duration::from_secs(10), io.read_to_end(&mut all))
        .await
        .expect("not closed");
    all
}

pub fn pattern(length: usize) -> Vec<u8> {
    (0..length).map(|n| (n * 31 + n / 251) as u8).collect()
}
