//! Certificates made here: the one of an installation at its first start, and those of `nightjar certs`.

use std::fs::{self, OpenOptions};
use std::io::{self, Write};
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use parking_lot::Mutex;
use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose,
};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use x509_parser::prelude::{FromDer, X509Certificate};

use crate::error::GatewayError;

/// Validity of an installation's CA in days.
const CA_DAYS: u32 = 3650;
/// Validity of its server certificate: browsers and phones refuse more than 825 days.
const SERVER_DAYS: u32 = 820;
/// A server certificate with less left than this is renewed at start and reload.
const RENEW_DAYS: u32 = 60;

/// A certificate and its private key, both PEM.
#[derive(Clone)]
pub struct PemPair {
    /// The certificate.
    pub certificate: String,
    /// The private key, PKCS#8. Secret.
    pub key: String,
}

impl std::fmt::Debug for PemPair {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("PemPair")
            .field("certificate", &self.certificate)
            .finish_non_exhaustive()
    }
}

/// What a certificate is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Purpose {
    /// A server's, for the names and addresses given.
    Server,
    /// A client's; its common name may become the user name.
    Client,
    /// A node's of a cluster, which is both to the other nodes.
    Node,
}

/// The files of an installation's own certificate.
#[derive(Debug, Clone)]
pub struct Installed {
    /// The CA that clients trust (`mosquitto_pub --cafile`).
    pub ca_file: PathBuf,
    /// The server's certificate.
    pub cert_file: PathBuf,
    /// Its key, mode 0600.
    pub key_file: PathBuf,
}

/// Makes a certificate authority (ECDSA P-256).
///
/// # Errors
/// What the generator says, in words.
pub fn ca(common_name: &str, days: u32) -> Result<PemPair, String> {
    let mut params = CertificateParams::default();
    params
        .distinguished_name
        .push(DnType::CommonName, common_name);
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![
        KeyUsagePurpose::KeyCertSign,
        KeyUsagePurpose::CrlSign,
        KeyUsagePurpose::DigitalSignature,
    ];
    set_validity(&mut params, days);
    let key = KeyPair::generate().map_err(|error| error.to_string())?;
    let certificate = params
        .self_signed(&key)
        .map_err(|error| error.to_string())?;
    Ok(PemPair {
        certificate: certificate.pem(),
        key: key.serialize_pem(),
    })
}

/// Makes a certificate (ECDSA P-256) signed by `ca`. `names` are DNS names and IP addresses for the subjectAltName.
///
/// # Errors
/// What the generator says, in words: a name that is none, a CA that cannot be read.
pub fn issue(
    ca: &PemPair,
    purpose: Purpose,
    common_name: &str,
    names: &[String],
    days: u32,
) -> Result<PemPair, String> {
    let authority_key = KeyPair::from_pem(&ca.key).map_err(|error| error.to_string())?;
    let authority = Issuer::from_ca_cert_pem(&ca.certificate, authority_key)
        .map_err(|error| error.to_string())?;
    let mut params = CertificateParams::new(names.to_vec()).map_err(|error| error.to_string())?;
    params
        .distinguished_name
        .push(DnType::CommonName, common_name);
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages = match purpose {
        Purpose::Server => vec![ExtendedKeyUsagePurpose::ServerAuth],
        Purpose::Client => vec![ExtendedKeyUsagePurpose::ClientAuth],
        Purpose::Node => vec![
            ExtendedKeyUsagePurpose::ServerAuth,
            ExtendedKeyUsagePurpose::ClientAuth,
        ],
    };
    params.use_authority_key_identifier_extension = true;
    set_validity(&mut params, days);
    let key = KeyPair::generate().map_err(|error| error.to_string())?;
    let certificate = params
        .signed_by(&key, &authority)
        .map_err(|error| error.to_string())?;
    Ok(PemPair {
        certificate: certificate.pem(),
        key: key.serialize_pem(),
    })
}

fn set_validity(params: &mut CertificateParams, days: u32) {
    let day = Duration::from_secs(24 * 3600);
    let now = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default();
    // A day back: clocks of small devices are late.
    let epoch = rcgen::date_time_ymd(1970, 1, 1);
    params.not_before = epoch + now.saturating_sub(day);
    params.not_after = epoch + now + day * days;
}

/// Two listeners of one process must not make the files at the same time.
static MAKING: Mutex<()> = Mutex::new(());

/// Finds or makes the certificate of this installation in `data_dir/certs`: `ca.crt`, `ca.key`, `server.crt`,
/// `server.key`. A server certificate that is about to expire is renewed with the same CA.
///
/// # Errors
/// [`GatewayError::Generate`] naming the file.
pub fn ensure(data_dir: &Path) -> Result<Installed, GatewayError> {
    let _one_at_a_time = MAKING.lock();
    let dir = data_dir.join("certs");
    let installed = Installed {
        ca_file: dir.join("ca.crt"),
        cert_file: dir.join("server.crt"),
        key_file: dir.join("server.key"),
    };
    if installed.key_file.exists() && !expires_soon(&installed.cert_file) {
        return Ok(installed);
    }
    let fail = |path: &Path, reason: String| GatewayError::Generate {
        path: path.to_owned(),
        reason,
    };
    fs::create_dir_all(&dir).map_err(|error| fail(&dir, error.to_string()))?;
    let ca_key_file = dir.join("ca.key");
    let authority = match (
        fs::read_to_string(&installed.ca_file),
        fs::read_to_string(&ca_key_file),
    ) {
        (Ok(certificate), Ok(key)) => PemPair { certificate, key },
        _ => {
            let made = ca(&format!("Nightjar CA of {}", host_name()), CA_DAYS)
                .map_err(|reason| fail(&dir, reason))?;
            write_private(&ca_key_file, made.key.as_bytes())
                .map_err(|error| fail(&ca_key_file, error.to_string()))?;
            write_public(&installed.ca_file, made.certificate.as_bytes())
                .map_err(|error| fail(&installed.ca_file, error.to_string()))?;
            made
        }
    };
    let names = own_names();
    let pair = issue(&authority, Purpose::Server, &names[0], &names, SERVER_DAYS)
        .map_err(|reason| fail(&installed.cert_file, reason))?;
    // The key first: a crash between the two leaves a certificate that does not match or is missing, and the next
    // start makes both anew only in the second case, so the old certificate goes before.
    let _ = fs::remove_file(&installed.cert_file);
    write_private(&installed.key_file, pair.key.as_bytes())
        .map_err(|error| fail(&installed.key_file, error.to_string()))?;
    write_public(&installed.cert_file, pair.certificate.as_bytes())
        .map_err(|error| fail(&installed.cert_file, error.to_string()))?;
    tracing::info!(ca = %installed.ca_file.display(), names = names.join(", "),
        "made a certificate for this installation; clients verify it with this CA file");
    Ok(installed)
}

/// True if the certificate is missing, unreadable, or ends within [`RENEW_DAYS`].
fn expires_soon(cert_file: &Path) -> bool {
    let Ok(pem) = fs::read(cert_file) else {
        return true;
    };
    let Ok(der) = CertificateDer::from_pem_slice(&pem) else {
        return true;
    };
    let Ok((_, certificate)) = X509Certificate::from_der(&der) else {
        return true;
    };
    let left = certificate.validity().time_to_expiration();
    left.is_none_or(|left| left.whole_days() < i64::from(RENEW_DAYS))
}

/// Names and addresses a client on this machine or its network is likely to use.
fn own_names() -> Vec<String> {
    let mut names = vec!["localhost".to_owned()];
    let host = host_name();
    let is_dns = |name: &str| {
        name.bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'.')
    };
    if host != names[0] && host.parse::<IpAddr>().is_err() && is_dns(&host) {
        names.push(host);
    }
    names.extend(["127.0.0.1".to_owned(), "::1".to_owned()]);
    names
}

fn host_name() -> String {
    let name = fs::read_to_string("/proc/sys/kernel/hostname")
        .ok()
        .or_else(|| std::env::var("HOSTNAME").ok());
    name.map(|name| name.trim().to_owned())
        .filter(|name| !name.is_empty())
        .unwrap_or_else(|| "localhost".to_owned())
}

/// Writes a secret so that it is never readable by others and never half there: a new file of mode 0600, then a
/// rename.
///
/// # Errors
/// Those of the file system.
pub fn write_private(path: &Path, content: &[u8]) -> io::Result<()> {
    write_file(path, content, 0o600)
}

/// Writes a file for all to read, by a new file and a rename.
///
/// # Errors
/// Those of the file system.
pub fn write_public(path: &Path, content: &[u8]) -> io::Result<()> {
    write_file(path, content, 0o644)
}

fn write_file(path: &Path, content: &[u8], mode: u32) -> io::Result<()> {
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(format!(".{}.new", std::process::id()));
    let fresh = path.with_file_name(name);
    let _ = fs::remove_file(&fresh);
    let mut options = OpenOptions::new();
    options.write(true).create_new(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, mode);
    #[cfg(not(unix))]
    let _ = mode;
    let mut file = options.open(&fresh)?;
    file.write_all(content)?;
    file.sync_all()?;
    fs::rename(&fresh, path)
}
