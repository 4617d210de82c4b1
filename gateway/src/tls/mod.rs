//! TLS 1.2 and 1.3 of the listeners, by rustls.
//!
//! [`TlsServer`] holds the configuration in force behind an atomic pointer, so that certificates are replaced without
//! touching connections. `load` turns files into that configuration with errors that name key and file,
//! [`generate`] makes the certificate of an installation that has none, [`identity`] reads who a client is from its
//! certificate, [`stream`] is the encrypted stream itself.

pub mod generate;
pub mod identity;
mod load;
mod sni;
pub mod stream;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use arc_swap::ArcSwap;
use parking_lot::Mutex;
use rustls::ServerConfig;

use crate::error::GatewayError;
pub use identity::PeerIdentity;
pub use stream::TlsStream;

/// `verify`: what is asked of a client's certificate.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Verify {
    /// None is asked for.
    #[default]
    None,
    /// One is asked for and must be signed by `ca_file`.
    Peer,
}

/// A further certificate, served to clients that ask for one of its names by SNI.
#[derive(Debug, Clone)]
pub struct SniCertificate {
    /// Certificate chain, PEM.
    pub cert_file: PathBuf,
    /// Its private key, PEM.
    pub key_file: PathBuf,
}

/// TLS settings of one listener.
#[derive(Debug, Clone)]
pub struct TlsSettings {
    /// Certificate chain in PEM, the server's own first. Neither this nor `key_file`: the certificate of this
    /// installation, made at first start in `data_dir/certs`.
    pub cert_file: Option<PathBuf>,
    /// Private key in PEM (PKCS#8, PKCS#1 or SEC1).
    pub key_file: Option<PathBuf>,
    /// Certificates in PEM that sign clients' certificates.
    pub ca_file: Option<PathBuf>,
    /// Whether clients show a certificate.
    pub verify: Verify,
    /// With [`Verify::Peer`]: refuse a client that shows none.
    pub fail_if_no_peer_cert: bool,
    /// Revocation lists in PEM or DER. A certificate of a CA that no list is for counts as not revoked.
    pub crl_file: Option<PathBuf>,
    /// Further certificates by name.
    pub sni: Vec<SniCertificate>,
    /// Where the certificate of this installation lies.
    pub data_dir: PathBuf,
    /// How often the files are looked at for changes; `None`: only at reload.
    pub watch: Option<Duration>,
}

impl Default for TlsSettings {
    fn default() -> Self {
        Self {
            cert_file: None,
            key_file: None,
            ca_file: None,
            verify: Verify::None,
            fail_if_no_peer_cert: false,
            crl_file: None,
            sni: Vec::new(),
            data_dir: PathBuf::from("data"),
            watch: Some(Duration::from_secs(10)),
        }
    }
}

impl TlsSettings {
    /// The files whose change means a reload.
    fn files(&self) -> Vec<&Path> {
        let single = [
            &self.cert_file,
            &self.key_file,
            &self.ca_file,
            &self.crl_file,
        ];
        let sni = self
            .sni
            .iter()
            .flat_map(|pair| [pair.cert_file.as_path(), pair.key_file.as_path()]);
        single
            .into_iter()
            .filter_map(|file| file.as_deref())
            .chain(sni)
            .collect()
    }
}

/// Modification time and length of each file; `None` if it is not there.
type Stamps = Vec<Option<(SystemTime, u64)>>;

/// The TLS side of one listener: the configuration in force and how to load it anew.
#[derive(Debug)]
pub struct TlsServer {
    key: String,
    settings: TlsSettings,
    alpn: Vec<Vec<u8>>,
    config: ArcSwap<ServerConfig>,
    stamps: Mutex<Stamps>,
}

/// Protocol names agreed on MQTT listeners.
pub const ALPN_MQTT: &[&[u8]] = &[b"mqtt", b"x-amzn-mqtt-ca"];
/// Protocol name agreed on secure WebSocket listeners.
pub const ALPN_HTTP: &[&[u8]] = &[b"http/1.1"];

impl TlsServer {
    /// Loads certificates. `key` is the listener's configuration key, such as `listeners.tls.default`.
    ///
    /// # Errors
    /// [`GatewayError::Certificate`] and [`GatewayError::Setting`] naming key and file, [`GatewayError::Generate`].
    pub fn load(key: &str, settings: &TlsSettings, alpn: &[&[u8]]) -> Result<Self, GatewayError> {
        let alpn: Vec<Vec<u8>> = alpn.iter().map(|name| name.to_vec()).collect();
        let stamps = stamps(settings);
        let config = load::server_config(key, settings, &alpn, None)?;
        Ok(Self {
            key: key.to_owned(),
            settings: settings.clone(),
            alpn,
            config: ArcSwap::from_pointee(config),
            stamps: Mutex::new(stamps),
        })
    }

    /// The configuration for the next handshake.
    #[must_use]
    pub fn config(&self) -> Arc<ServerConfig> {
        self.config.load_full()
    }

    /// The settings it was made from.
    #[must_use]
    pub fn settings(&self) -> &TlsSettings {
        &self.settings
    }

    /// Loads the files again; running connections keep what they agreed. Reads files: call it where that may block.
    ///
    /// # Errors
    /// As [`TlsServer::load`]; the configuration in force stays.
    pub fn reload(&self) -> Result<(), GatewayError> {
        // Stamps first: a change while the files are read is seen by the next look.
        *self.stamps.lock() = stamps(&self.settings);
        let before = self.config();
        let config = load::server_config(&self.key, &self.settings, &self.alpn, Some(&before))?;
        self.config.store(Arc::new(config));
        Ok(())
    }

    /// True if a file has changed since it was last loaded or tried.
    #[must_use]
    pub fn changed(&self) -> bool {
        stamps(&self.settings) != *self.stamps.lock()
    }
}

fn stamps(settings: &TlsSettings) -> Stamps {
    let stamp = |file: &Path| {
        let meta = std::fs::metadata(file).ok()?;
        Some((meta.modified().ok()?, meta.len()))
    };
    settings.files().into_iter().map(stamp).collect()
}
