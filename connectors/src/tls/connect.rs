//! Connections by rustls.

use std::io::BufReader;
use std::path::Path;
use std::sync::Arc;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::CryptoProvider;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::{ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme};
use tokio_rustls::TlsConnector;

use super::TlsSettings;
use crate::ConnectorError;

/// Makes TLS connections to one server.
#[derive(Clone)]
pub(crate) struct Tls {
    connector: TlsConnector,
    name: ServerName<'static>,
    #[cfg(feature = "mongodb")]
    named: bool,
}

impl Tls {
    pub fn new(settings: &TlsSettings, host: &str) -> Result<Self, ConnectorError> {
        let name = settings.server_name.as_deref().unwrap_or(host).to_owned();
        let name = ServerName::try_from(name).map_err(|error| ConnectorError::Setting {
            key: "tls.server_name",
            problem: error.to_string(),
        })?;
        Ok(Self {
            connector: TlsConnector::from(Arc::new(config(settings)?)),
            name,
            #[cfg(feature = "mongodb")]
            named: settings.server_name.is_some(),
        })
    }

    /// The same for another host, whose name the certificate must have unless `tls.server_name` says which; `None` if it
    /// is no name.
    #[cfg(feature = "mongodb")]
    pub fn for_host(&self, host: &str) -> Option<Self> {
        let mut other = self.clone();
        if !self.named {
            other.name = ServerName::try_from(host.to_owned()).ok()?;
        }
        Some(other)
    }

    pub async fn connect(
        &self,
        tcp: tokio::net::TcpStream,
    ) -> std::io::Result<tokio_rustls::client::TlsStream<tokio::net::TcpStream>> {
        self.connector.connect(self.name.clone(), tcp).await
    }
}

fn config(settings: &TlsSettings) -> Result<ClientConfig, ConnectorError> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ClientConfig::builder_with_provider(Arc::clone(&provider))
        .with_safe_default_protocol_versions()
        .map_err(|error| wrong("tls", error))?;
    let config = if settings.verify {
        config.with_root_certificates(roots(settings.ca_file.as_deref())?)
    } else {
        config
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(Unverified(provider)))
    };
    match (&settings.cert_file, &settings.key_file) {
        (None, None) => Ok(config.with_no_client_auth()),
        (Some(cert), Some(key_file)) => {
            let chain = certificates(cert, "tls.cert_file")?;
            let key = PrivateKeyDer::from_pem_file(key_file)
                .map_err(|error| wrong("tls.key_file", named(key_file, error)))?;
            config
                .with_client_auth_cert(chain, key)
                .map_err(|error| wrong("tls.cert_file", named(cert, error)))
        }
        _ => Err(wrong(
            "tls.cert_file",
            "expected both cert_file and key_file, got one",
        )),
    }
}

fn roots(ca_file: Option<&Path>) -> Result<RootCertStore, ConnectorError> {
    let mut roots = RootCertStore::empty();
    match ca_file {
        Some(path) => {
            for cert in certificates(path, "tls.ca_file")? {
                roots
                    .add(cert)
                    .map_err(|error| wrong("tls.ca_file", named(path, error)))?;
            }
        }
        None => {
            let found = rustls_native_certs::load_native_certs();
            roots.add_parsable_certificates(found.certs);
        }
    }
    if roots.is_empty() {
        let problem = "expected certificate authorities; this system has none, name them";
        return Err(wrong("tls.ca_file", problem));
    }
    Ok(roots)
}

fn certificates(
    path: &Path,
    key: &'static str,
) -> Result<Vec<CertificateDer<'static>>, ConnectorError> {
    let read = |source| ConnectorError::Read {
        path: path.to_owned(),
        source,
    };
    let file = std::fs::File::open(path).map_err(read)?;
    let certs = CertificateDer::pem_reader_iter(BufReader::new(file));
    let certs: Vec<_> = certs
        .collect::<Result<_, _>>()
        .map_err(|error| wrong(key, named(path, error)))?;
    if certs.is_empty() {
        return Err(wrong(
            key,
            named(path, "expected a certificate in PEM, got none"),
        ));
    }
    Ok(certs)
}

fn named(path: &Path, error: impl std::fmt::Display) -> String {
    format!("{}: {error}", path.display())
}

fn wrong(key: &'static str, problem: impl std::fmt::Display) -> ConnectorError {
    ConnectorError::Setting {
        key,
        problem: problem.to_string(),
    }
}

/// `tls.verify = false`: whoever answers is taken for the server. Signatures are still checked, so that the handshake is
/// one.
#[derive(Debug)]
struct Unverified(Arc<CryptoProvider>);

impl ServerCertVerifier for Unverified {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.0.signature_verification_algorithms;
        rustls::crypto::verify_tls12_signature(message, cert, signed, algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.0.signature_verification_algorithms;
        rustls::crypto::verify_tls13_signature(message, cert, signed, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}
