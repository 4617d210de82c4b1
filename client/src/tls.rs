//! TLS of the client: which roots it trusts, which certificate it shows.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{Resumption, WebPkiServerVerifier, verify_server_name};
use rustls::crypto::{CryptoProvider, ring, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::server::ParsedCertificate;
use rustls::{
    CertificateError, ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme,
    SupportedProtocolVersion,
};

use crate::error::{Error, Result};

/// Where systems keep their certificate bundle; the first that exists is read.
const SYSTEM_BUNDLES: [&str; 4] = [
    "/etc/ssl/certs/ca-certificates.crt",
    "/etc/pki/tls/certs/ca-bundle.crt",
    "/etc/ssl/ca-bundle.pem",
    "/etc/ssl/cert.pem",
];

/// How to speak TLS with a broker.
#[derive(Debug, Clone, Default)]
pub struct TlsOptions {
    /// A PEM file of trusted certificates.
    pub cafile: Option<PathBuf>,
    /// A directory of such files (`.crt` and `.pem` are read).
    pub capath: Option<PathBuf>,
    /// The client's certificate chain, PEM.
    pub cert: Option<PathBuf>,
    /// The client's private key, PEM.
    pub key: Option<PathBuf>,
    /// Do not check the host name. Without `cafile` and `capath` the chain is not checked either.
    pub insecure: bool,
    /// Exactly this version; both 1.2 and 1.3 without it.
    pub version: Option<TlsVersion>,
    /// The protocol to ask for by ALPN.
    pub alpn: Option<String>,
}

/// A version of TLS.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TlsVersion {
    /// TLS 1.2.
    Tls12,
    /// TLS 1.3.
    Tls13,
}

impl TlsOptions {
    /// Builds the configuration all connections of a command share.
    ///
    /// Sessions are not resumed: each connection shows the full handshake, and nothing is kept for a
    /// second one.
    ///
    /// # Errors
    /// [`Error::File`] naming the file that cannot be read or holds no certificate or key.
    pub fn client_config(&self) -> Result<Arc<ClientConfig>> {
        let provider = Arc::new(ring::default_provider());
        let versions: &[&SupportedProtocolVersion] = match self.version {
            None => rustls::ALL_VERSIONS,
            Some(TlsVersion::Tls12) => &[&rustls::version::TLS12],
            Some(TlsVersion::Tls13) => &[&rustls::version::TLS13],
        };
        let builder = ClientConfig::builder_with_provider(Arc::clone(&provider))
            .with_protocol_versions(versions)
            .expect("the ring provider has cipher suites for 1.2 and 1.3");
        let has_roots = self.cafile.is_some() || self.capath.is_some();
        let builder = if self.insecure && !has_roots {
            builder
                .dangerous()
                .with_custom_certificate_verifier(Arc::new(NoVerifier(provider)))
        } else {
            let (roots, given) = self.roots()?;
            let inner =
                WebPkiServerVerifier::builder_with_provider(Arc::new(roots), Arc::clone(&provider))
                    .build()
                    .map_err(|error| Error::Usage(format!("no trusted certificates: {error}")))?;
            builder
                .dangerous()
                .with_custom_certificate_verifier(Arc::new(TrustVerifier {
                    inner,
                    given,
                    any_name: self.insecure,
                }))
        };
        let mut config = match (&self.cert, &self.key) {
            (None, None) => builder.with_no_client_auth(),
            (Some(cert), Some(key)) => {
                let chain = read_certificates(cert)?;
                if chain.is_empty() {
                    return Err(file_error(cert, "holds no certificate"));
                }
                let key_der =
                    PrivateKeyDer::from_pem_file(key).map_err(|error| file_error(key, error))?;
                builder
                    .with_client_auth_cert(chain, key_der)
                    .map_err(|error| file_error(key, error))?
            }
            _ => return Err(Error::Usage("--cert and --key belong together".to_owned())),
        };
        config.resumption = Resumption::disabled();
        config.alpn_protocols = self
            .alpn
            .iter()
            .map(|name| name.clone().into_bytes())
            .collect();
        Ok(Arc::new(config))
    }

    /// The trusted certificates, and those of `cafile` as they are.
    fn roots(&self) -> Result<(RootCertStore, Vec<CertificateDer<'static>>)> {
        let mut roots = RootCertStore::empty();
        let mut given = Vec::new();
        if let Some(cafile) = &self.cafile {
            given = read_certificates(cafile)?;
            if given.is_empty() {
                return Err(file_error(cafile, "holds no certificate"));
            }
            for certificate in &given {
                roots
                    .add(certificate.clone())
                    .map_err(|error| file_error(cafile, error))?;
            }
        }
        if let Some(capath) = &self.capath {
            let entries = std::fs::read_dir(capath).map_err(|error| file_error(capath, error))?;
            for entry in entries.flatten() {
                let path = entry.path();
                let suffix = path.extension().and_then(|suffix| suffix.to_str());
                if matches!(suffix, Some("crt" | "pem")) {
                    // A directory may hold old or foreign files; what does not parse is left out.
                    roots.add_parsable_certificates(read_certificates(&path).unwrap_or_default());
                }
            }
            if roots.is_empty() {
                return Err(file_error(
                    capath,
                    "holds no certificate in a .crt or .pem file",
                ));
            }
        }
        if self.cafile.is_none() && self.capath.is_none() {
            let bundle = std::env::var_os("SSL_CERT_FILE")
                .map(PathBuf::from)
                .or_else(|| {
                    SYSTEM_BUNDLES
                        .iter()
                        .map(PathBuf::from)
                        .find(|path| path.exists())
                });
            let Some(bundle) = bundle else {
                return Err(Error::Usage(
                    "this system has no certificate bundle; name one with --cafile".to_owned(),
                ));
            };
            roots.add_parsable_certificates(read_certificates(&bundle)?);
        }
        Ok((roots, given))
    }
}

fn file_error(path: &Path, reason: impl ToString) -> Error {
    Error::File {
        path: path.to_owned(),
        reason: reason.to_string(),
    }
}

fn read_certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>> {
    CertificateDer::pem_file_iter(path)
        .and_then(Iterator::collect)
        .map_err(|error| file_error(path, error))
}

/// The usual checks of chain, dates and name, with two ways out: a self-signed certificate that was
/// itself given as trusted, as `openssl req -x509` makes it, and `--insecure`.
#[derive(Debug)]
struct TrustVerifier {
    inner: Arc<WebPkiServerVerifier>,
    /// The certificates of `cafile`.
    given: Vec<CertificateDer<'static>>,
    any_name: bool,
}

impl ServerCertVerifier for TrustVerifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> std::result::Result<ServerCertVerified, rustls::Error> {
        let checked = self.inner.verify_server_cert(
            end_entity,
            intermediates,
            server_name,
            ocsp_response,
            now,
        );
        let accepted = Ok(ServerCertVerified::assertion());
        match checked {
            // The name is looked at last: chain and dates were right.
            Err(rustls::Error::InvalidCertificate(
                CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. },
            )) if self.any_name => accepted,
            // The dates are looked at first, so what remains is that an authority's certificate serves
            // as the server's own; trusted as it is, only its name is left to be checked.
            Err(rustls::Error::InvalidCertificate(CertificateError::Other(_)))
                if self.given.iter().any(|given| given == end_entity) =>
            {
                if !self.any_name {
                    verify_server_name(&ParsedCertificate::try_from(end_entity)?, server_name)?;
                }
                accepted
            }
            other => other,
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> std::result::Result<HandshakeSignatureValid, rustls::Error> {
        self.inner.verify_tls12_signature(message, cert, dss)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> std::result::Result<HandshakeSignatureValid, rustls::Error> {
        self.inner.verify_tls13_signature(message, cert, dss)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.inner.supported_verify_schemes()
    }
}

/// Accepts any certificate whose key the peer proves to hold.
#[derive(Debug)]
struct NoVerifier(Arc<CryptoProvider>);

impl ServerCertVerifier for NoVerifier {
    fn verify_server_cert(
        &self,
        _end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        _now: UnixTime,
    ) -> std::result::Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> std::result::Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls12_signature(
            message,
            cert,
            dss,
            &self.0.signature_verification_algorithms,
        )
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> std::result::Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(
            message,
            cert,
            dss,
            &self.0.signature_verification_algorithms,
        )
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}
