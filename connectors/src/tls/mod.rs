//! TLS towards servers that are asked.

#[cfg(feature = "tls")]
mod connect;

use std::path::PathBuf;

#[cfg(feature = "tls")]
pub(crate) use connect::Tls;

/// The `tls.*` keys of a backend.
#[derive(Debug, Clone)]
pub struct TlsSettings {
    /// `tls.verify`: checks the server's certificate and name.
    pub verify: bool,
    /// `tls.ca_file`: who may sign the server's certificate; the system's authorities if unset.
    pub ca_file: Option<PathBuf>,
    /// `tls.cert_file`: our own certificate, where the server asks for one.
    pub cert_file: Option<PathBuf>,
    /// `tls.key_file`: its private key.
    pub key_file: Option<PathBuf>,
    /// `tls.server_name`: the name the certificate must have; the host of the address if unset.
    pub server_name: Option<String>,
}

impl Default for TlsSettings {
    fn default() -> Self {
        Self {
            verify: true,
            ca_file: None,
            cert_file: None,
            key_file: None,
            server_name: None,
        }
    }
}
