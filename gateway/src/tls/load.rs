//! From PEM files to a rustls configuration, with errors an operator can act on.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::crypto::CryptoProvider;
use rustls::crypto::ring;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, CertificateRevocationListDer, PrivateKeyDer};
use rustls::server::{NoServerSessionStorage, WebPkiClientVerifier, danger::ClientCertVerifier};
use rustls::sign::CertifiedKey;
use rustls::{InconsistentKeys, RootCertStore, ServerConfig};
use x509_parser::prelude::{FromDer, X509Certificate};
use x509_parser::public_key::PublicKey;
use x509_parser::revocation_list::CertificateRevocationList;

use super::sni::SniResolver;
use super::{TlsSettings, Verify, generate};
use crate::error::GatewayError;

/// The smallest RSA modulus that is served, in bits.
const MIN_RSA_BITS: usize = 2048;
/// A certificate, key or list file is not read beyond this.
const MAX_FILE: u64 = 16 << 20;

/// Where a file comes from: its configuration key and path, for errors.
struct Source<'a> {
    key: String,
    path: &'a Path,
}

impl Source<'_> {
    fn fail(&self, reason: impl Into<String>) -> GatewayError {
        GatewayError::Certificate {
            key: self.key.clone(),
            path: self.path.to_owned(),
            reason: reason.into(),
        }
    }

    fn read(&self) -> Result<Vec<u8>, GatewayError> {
        let meta = std::fs::metadata(self.path).map_err(|error| self.fail(io_reason(&error)))?;
        if meta.is_dir() {
            return Err(self.fail("is a directory"));
        }
        if meta.len() > MAX_FILE {
            return Err(self.fail("is larger than 16 MiB"));
        }
        std::fs::read(self.path).map_err(|error| self.fail(io_reason(&error)))
    }
}

fn io_reason(error: &std::io::Error) -> String {
    match error.kind() {
        std::io::ErrorKind::NotFound => "no such file".to_owned(),
        std::io::ErrorKind::PermissionDenied => "not readable by this user".to_owned(),
        _ => error.to_string(),
    }
}

/// Loads everything the settings name. `before` is the configuration in force, whose session tickets stay valid as
/// long as no client certificates are checked: with those, a ticket would carry a judgement made by the old files.
pub(super) fn server_config(
    key: &str,
    settings: &TlsSettings,
    alpn: &[Vec<u8>],
    before: Option<&ServerConfig>,
) -> Result<ServerConfig, GatewayError> {
    let provider = Arc::new(ring::default_provider());
    let (cert_file, key_file) = own_files(key, settings)?;
    let main = certified_key(&provider, key, &cert_file, &key_file)?;
    let mut resolver = SniResolver::new(main);
    for (index, pair) in settings.sni.iter().enumerate() {
        let key = format!("{key}.sni[{index}]");
        let certified = certified_key(&provider, &key, &pair.cert_file, &pair.key_file)?;
        let source = Source {
            key: format!("{key}.cert_file"),
            path: &pair.cert_file,
        };
        resolver
            .add(certified)
            .map_err(|reason| source.fail(reason))?;
    }
    let verifier = client_verifier(&provider, key, settings)?;
    let builder = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| GatewayError::Setting {
            key: key.to_owned(),
            reason: error.to_string(),
        })?;
    let builder = match verifier {
        Some(verifier) => builder.with_client_cert_verifier(verifier),
        None => builder.with_no_client_auth(),
    };
    let mut config = builder.with_cert_resolver(Arc::new(resolver));
    config.alpn_protocols = alpn.to_vec();
    // Sessions resume by tickets alone: nothing is kept here for clients that are away.
    config.session_storage = Arc::new(NoServerSessionStorage {});
    config.ticketer = match before {
        Some(before) if settings.verify == Verify::None => before.ticketer.clone(),
        _ => ring::Ticketer::new().map_err(|error| GatewayError::Setting {
            key: key.to_owned(),
            reason: error.to_string(),
        })?,
    };
    // An MQTT client reconnects over one connection at a time: the second ticket of the default is never used.
    config.send_tls13_tickets = 1;
    Ok(config)
}

fn own_files(key: &str, settings: &TlsSettings) -> Result<(PathBuf, PathBuf), GatewayError> {
    let missing = |name: &str, other: &str| GatewayError::Setting {
        key: format!("{key}.{name}"),
        reason: format!("is needed because {other} is set"),
    };
    match (&settings.cert_file, &settings.key_file) {
        (Some(cert), Some(key)) => Ok((cert.clone(), key.clone())),
        (Some(_), None) => Err(missing("key_file", "cert_file")),
        (None, Some(_)) => Err(missing("cert_file", "key_file")),
        (None, None) => {
            let installed = generate::ensure(&settings.data_dir)?;
            Ok((installed.cert_file, installed.key_file))
        }
    }
}

fn certificates(source: &Source<'_>) -> Result<Vec<CertificateDer<'static>>, GatewayError> {
    let pem = source.read()?;
    let mut found = Vec::new();
    for item in CertificateDer::pem_slice_iter(&pem) {
        found.push(item.map_err(|error| source.fail(format!("is not valid PEM: {error}")))?);
    }
    if found.is_empty() {
        return Err(source.fail("holds no certificate (a block `-----BEGIN CERTIFICATE-----`)"));
    }
    Ok(found)
}

fn certified_key(
    provider: &CryptoProvider,
    key: &str,
    cert_file: &Path,
    key_file: &Path,
) -> Result<CertifiedKey, GatewayError> {
    let cert = Source {
        key: format!("{key}.cert_file"),
        path: cert_file,
    };
    let private = Source {
        key: format!("{key}.key_file"),
        path: key_file,
    };
    let chain = certificates(&cert)?;
    check_certificate(&cert, &chain[0])?;
    let pem = private.read()?;
    let der = PrivateKeyDer::from_pem_slice(&pem).map_err(|_| {
        let encrypted = pem.windows(9).any(|window| window == b"ENCRYPTED");
        private.fail(if encrypted {
            "is an encrypted key; store it without a passphrase, readable by this user only"
        } else {
            "holds no private key (a block `-----BEGIN PRIVATE KEY-----`, RSA or EC)"
        })
    })?;
    let signing = provider.key_provider.load_private_key(der).map_err(|_| {
        private.fail("is not a usable key: RSA from 2048 bits, ECDSA P-256 or P-384, or Ed25519")
    })?;
    let certified = CertifiedKey::new(chain, signing);
    match certified.keys_match() {
        // Unknown: the key type gives no public half to compare; the handshake would tell.
        Ok(()) | Err(rustls::Error::InconsistentKeys(InconsistentKeys::Unknown)) => Ok(certified),
        Err(rustls::Error::InconsistentKeys(_)) => Err(private.fail(format!(
            "is not the key of the certificate in {}",
            cert_file.display()
        ))),
        Err(error) => Err(cert.fail(error.to_string())),
    }
}

/// Refuses weak keys by name, and warns of times: an expired certificate is the clients' to refuse.
fn check_certificate(source: &Source<'_>, der: &CertificateDer<'_>) -> Result<(), GatewayError> {
    let (_, parsed) = X509Certificate::from_der(der)
        .map_err(|error| source.fail(format!("is not a certificate: {error}")))?;
    match parsed.public_key().parsed() {
        Ok(PublicKey::RSA(rsa)) => {
            let bits = rsa.modulus.iter().skip_while(|byte| **byte == 0).count() * 8;
            if bits < MIN_RSA_BITS {
                return Err(source.fail(format!(
                    "has an RSA key of {bits} bits, too weak: {MIN_RSA_BITS} bits or more, or ECDSA P-256"
                )));
            }
        }
        Ok(_) => {}
        Err(error) => {
            return Err(source.fail(format!("has a public key that cannot be read: {error}")));
        }
    }
    if !parsed.validity().is_valid() {
        tracing::warn!(key = source.key, file = %source.path.display(),
            "the certificate is expired or not yet valid; clients will refuse it");
    }
    Ok(())
}

fn client_verifier(
    provider: &Arc<CryptoProvider>,
    key: &str,
    settings: &TlsSettings,
) -> Result<Option<Arc<dyn ClientCertVerifier>>, GatewayError> {
    if settings.verify == Verify::None {
        return Ok(None);
    }
    let Some(ca_file) = &settings.ca_file else {
        return Err(GatewayError::Setting {
            key: format!("{key}.ca_file"),
            reason: "is needed because verify = \"peer\"".to_owned(),
        });
    };
    let ca = Source {
        key: format!("{key}.ca_file"),
        path: ca_file,
    };
    let mut roots = RootCertStore::empty();
    for der in certificates(&ca)? {
        roots.add(der).map_err(|error| {
            ca.fail(format!("holds a certificate that cannot be used: {error}"))
        })?;
    }
    let mut builder =
        WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider.clone());
    if !settings.fail_if_no_peer_cert {
        builder = builder.allow_unauthenticated();
    }
    let mut blamed = ca;
    if let Some(crl_file) = &settings.crl_file {
        let crl = Source {
            key: format!("{key}.crl_file"),
            path: crl_file,
        };
        builder = builder
            .with_crls(revocation_lists(&crl)?)
            .allow_unknown_revocation_status();
        blamed = crl;
    }
    builder
        .build()
        .map(Some)
        .map_err(|error| blamed.fail(error.to_string()))
}

fn revocation_lists(
    source: &Source<'_>,
) -> Result<Vec<CertificateRevocationListDer<'static>>, GatewayError> {
    let bytes = source.read()?;
    let mut found: Vec<CertificateRevocationListDer<'static>> = Vec::new();
    for item in CertificateRevocationListDer::pem_slice_iter(&bytes) {
        found.push(item.map_err(|error| source.fail(format!("is not valid PEM: {error}")))?);
    }
    if found.is_empty() {
        // A SEQUENCE: the list as such, without PEM around it.
        if bytes.first() != Some(&0x30) {
            return Err(source
                .fail("holds no revocation list (a block `-----BEGIN X509 CRL-----`, or DER)"));
        }
        found.push(bytes.into());
    }
    for der in &found {
        let (_, list) = CertificateRevocationList::from_der(der)
            .map_err(|error| source.fail(format!("is not a revocation list: {error}")))?;
        let due = list
            .next_update()
            .is_some_and(|time| time < x509_parser::time::ASN1Time::now());
        if due {
            tracing::warn!(key = source.key, file = %source.path.display(),
                "the revocation list is past its next update; it stays in force until it is replaced");
        }
    }
    Ok(found)
}
