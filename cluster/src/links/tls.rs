//! Mutual TLS on links: a node is who has a certificate of the cluster's own authority.
//!
//! Nodes are dialed by the addresses that discovery finds, which certificates cannot all name: any certificate that
//! `ca_file` signed is one of a node. So the authority signs the nodes of one cluster and nothing else.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::SystemTime;

use parking_lot::Mutex;
use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::server::WebPkiClientVerifier;
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::{
    CertificateError, ClientConfig, DigitallySignedStruct, DistinguishedName, RootCertStore,
    ServerConfig, SignatureScheme,
};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_rustls::{TlsAcceptor, TlsConnector, client, server};

use super::handshake::HandshakeError;

/// The first octet of TLS: a record of a handshake.
pub(super) const RECORD: u8 = 22;
/// Fatal alert "handshake failure", for who speaks TLS to a node without it.
pub(super) const ALERT: [u8; 7] = [21, 3, 3, 0, 2, 2, 40];
pub(super) const ONLY_HERE: &str = "the node that was dialed has [cluster.tls], the one that dials it has not: all nodes have it or none";
pub(super) const ONLY_THERE: &str = "the node that dials has [cluster.tls], the one that is dialed has not: all nodes have it or none";

/// `[cluster.tls]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TlsFiles {
    /// `cert_file`: the certificate of this node, PEM, with what signed it up to the authority.
    pub cert_file: PathBuf,
    /// `key_file`: its key, PEM.
    pub key_file: PathBuf,
    /// `ca_file`: the authority of the cluster's nodes, PEM.
    pub ca_file: PathBuf,
}

impl TlsFiles {
    fn changed(&self) -> [Option<SystemTime>; 3] {
        [&self.cert_file, &self.key_file, &self.ca_file]
            .map(|path| path.metadata().and_then(|it| it.modified()).ok())
    }

    fn load(&self) -> Result<Configs, String> {
        let wrong = |key: &str, path: &Path, error: &dyn std::fmt::Display| {
            format!("cluster.tls.{key}: {}: {error}", path.display())
        };
        let read = |key: &str, path: &Path| {
            let certificates: Result<Vec<_>, _> = CertificateDer::pem_file_iter(path)
                .and_then(Iterator::collect)
                .map_err(|error| wrong(key, path, &error));
            certificates.and_then(|found: Vec<CertificateDer<'static>>| {
                if found.is_empty() {
                    return Err(wrong(
                        key,
                        path,
                        &"expected a certificate in PEM, found none",
                    ));
                }
                Ok(found)
            })
        };
        let chain = read("cert_file", &self.cert_file)?;
        let key = PrivateKeyDer::from_pem_file(&self.key_file)
            .map_err(|error| wrong("key_file", &self.key_file, &error))?;
        let mut roots = RootCertStore::empty();
        for certificate in read("ca_file", &self.ca_file)? {
            roots
                .add(certificate)
                .map_err(|error| wrong("ca_file", &self.ca_file, &error))?;
        }
        let roots = Arc::new(roots);
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let ca = |error: &dyn std::fmt::Display| wrong("ca_file", &self.ca_file, error);
        let of_server =
            WebPkiServerVerifier::builder_with_provider(roots.clone(), provider.clone())
                .build()
                .map_err(|error| ca(&error))?;
        let of_client = WebPkiClientVerifier::builder_with_provider(roots, provider.clone())
            .build()
            .map_err(|error| ca(&error))?;
        let own = |error: rustls::Error| wrong("cert_file", &self.cert_file, &error);
        let client = ClientConfig::builder_with_provider(provider.clone())
            .with_protocol_versions(&[&rustls::version::TLS13])
            .map_err(own)?
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(AnyName(of_server.clone())))
            .with_client_auth_cert(chain.clone(), key.clone_key())
            .map_err(own)?;
        let server = ServerConfig::builder_with_provider(provider)
            .with_protocol_versions(&[&rustls::version::TLS13])
            .map_err(own)?
            .with_client_cert_verifier(Arc::new(NodeOnly(of_client, AnyName(of_server))))
            .with_single_cert(chain, key)
            .map_err(own)?;
        Ok(Configs {
            client: Arc::new(client),
            server: Arc::new(server),
        })
    }
}

#[derive(Clone)]
struct Configs {
    client: Arc<ClientConfig>,
    server: Arc<ServerConfig>,
}

/// TLS of links. Files that changed are read again before the next link, so that a new certificate needs no restart.
pub(crate) struct Tls {
    files: TlsFiles,
    now: Mutex<(Configs, [Option<SystemTime>; 3])>,
}

impl Tls {
    /// Reads the files.
    pub fn open(files: TlsFiles) -> Result<Self, String> {
        let changed = files.changed();
        let configs = files.load()?;
        Ok(Self {
            files,
            now: Mutex::new((configs, changed)),
        })
    }

    fn configs(&self) -> Configs {
        let changed = self.files.changed();
        let mut now = self.now.lock();
        if now.1 != changed {
            now.1 = changed;
            match self.files.load() {
                Ok(configs) => now.0 = configs,
                Err(error) => {
                    tracing::error!(%error, "links go on with the certificate they had");
                }
            }
        }
        now.0.clone()
    }

    /// The side that dialed.
    pub async fn connect<S: AsyncRead + AsyncWrite + Unpin>(
        &self,
        stream: S,
    ) -> Result<client::TlsStream<S>, HandshakeError> {
        TlsConnector::from(self.configs().client)
            .connect(name_of_nodes(), stream)
            .await
            .map_err(of_io)
    }

    /// The side that accepted.
    pub async fn accept<S: AsyncRead + AsyncWrite + Unpin>(
        &self,
        stream: S,
    ) -> Result<server::TlsStream<S>, HandshakeError> {
        TlsAcceptor::from(self.configs().server)
            .accept(stream)
            .await
            .map_err(of_io)
    }
}

/// Says in words what an error of TLS means; other errors stay what they are.
pub(super) fn of_io(error: io::Error) -> HandshakeError {
    let Some(tls) = error
        .get_ref()
        .and_then(|error| error.downcast_ref::<rustls::Error>())
    else {
        return HandshakeError::Io(error);
    };
    match tls {
        // Another authority may have the same name.
        rustls::Error::InvalidCertificate(
            CertificateError::UnknownIssuer | CertificateError::BadSignature,
        ) => HandshakeError::Here(format!(
            "the other node's certificate is not signed by cluster.tls.ca_file ({tls})"
        )),
        rustls::Error::InvalidCertificate(_) => {
            HandshakeError::Here(format!("the other node's certificate: {tls}"))
        }
        rustls::Error::NoCertificatesPresented => {
            HandshakeError::Here("the other node has no certificate".to_owned())
        }
        rustls::Error::AlertReceived(rustls::AlertDescription::HandshakeFailure) => {
            HandshakeError::There(format!("{ONLY_THERE}, or no common cipher ({tls})"))
        }
        rustls::Error::AlertReceived(
            rustls::AlertDescription::UnknownCA | rustls::AlertDescription::DecryptError,
        ) => HandshakeError::There(format!(
            "this node's certificate is not signed by the cluster.tls.ca_file of the other node ({tls})"
        )),
        rustls::Error::AlertReceived(_) => {
            HandshakeError::There(format!("this node's certificate: {tls}"))
        }
        rustls::Error::InvalidMessage(_) => HandshakeError::Here(format!(
            "{ONLY_HERE} if what answers is a node at all ({tls})"
        )),
        _ => HandshakeError::Here(format!("TLS: {tls}")),
    }
}

/// Checks all of a certificate but the name: see the module.
#[derive(Debug)]
struct AnyName(Arc<WebPkiServerVerifier>);

impl ServerCertVerifier for AnyName {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        // The name is looked at last, when all else is right.
        match self
            .0
            .verify_server_cert(end_entity, intermediates, server_name, ocsp_response, now)
        {
            Err(rustls::Error::InvalidCertificate(
                CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. },
            )) => Ok(ServerCertVerified::assertion()),
            verdict => verdict,
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.0.verify_tls12_signature(message, cert, signed)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.0.verify_tls13_signature(message, cert, signed)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.supported_verify_schemes()
    }
}

/// A node's certificate is one of a server and of a client: those of MQTT clients link nothing.
#[derive(Debug)]
struct NodeOnly(Arc<dyn ClientCertVerifier>, AnyName);

impl ClientCertVerifier for NodeOnly {
    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        self.0.root_hint_subjects()
    }

    fn verify_client_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, rustls::Error> {
        let verified = self.0.verify_client_cert(end_entity, intermediates, now)?;
        self.1
            .verify_server_cert(end_entity, intermediates, &name_of_nodes(), &[], now)?;
        Ok(verified)
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.0.verify_tls12_signature(message, cert, signed)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.0.verify_tls13_signature(message, cert, signed)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.supported_verify_schemes()
    }
}

/// What nodes are called in TLS; nobody compares it.
fn name_of_nodes() -> ServerName<'static> {
    ServerName::try_from("node").expect("a plain word is a DNS name")
}

#[cfg(test)]
#[path = "tls_tests.rs"]
mod tests;
