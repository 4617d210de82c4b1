//! The choice of a certificate by the name a client asks for.

use std::collections::HashMap;
use std::sync::Arc;

use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use x509_parser::extensions::GeneralName;
use x509_parser::prelude::{FromDer, X509Certificate};

/// Serves the certificate that holds the asked name, else the main one. Names come from the certificates themselves.
#[derive(Debug)]
pub(super) struct SniResolver {
    main: Arc<CertifiedKey>,
    /// By lower-case name; a wildcard is kept by what follows its first label, `.example.com`.
    names: HashMap<String, Arc<CertifiedKey>>,
}

impl SniResolver {
    pub(super) fn new(main: CertifiedKey) -> Self {
        Self {
            main: Arc::new(main),
            names: HashMap::new(),
        }
    }

    /// Adds a certificate under its DNS names; an earlier one keeps a name both have.
    pub(super) fn add(&mut self, certified: CertifiedKey) -> Result<(), String> {
        let names = dns_names(&certified)?;
        if names.is_empty() {
            return Err("has no DNS name (subjectAltName) to be chosen by".to_owned());
        }
        let certified = Arc::new(certified);
        for name in names {
            let name = name.strip_prefix('*').map_or(name.clone(), str::to_owned);
            self.names.entry(name).or_insert_with(|| certified.clone());
        }
        Ok(())
    }

    fn find(&self, name: &str) -> &Arc<CertifiedKey> {
        if self.names.is_empty() {
            return &self.main;
        }
        let name = name.to_ascii_lowercase();
        let exact = self.names.get(&name);
        let wildcard = || name.find('.').and_then(|dot| self.names.get(&name[dot..]));
        exact.or_else(wildcard).unwrap_or(&self.main)
    }
}

impl ResolvesServerCert for SniResolver {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(
            hello
                .server_name()
                .map_or(&self.main, |name| self.find(name))
                .clone(),
        )
    }
}

fn dns_names(certified: &CertifiedKey) -> Result<Vec<String>, String> {
    let der = certified
        .end_entity_cert()
        .map_err(|error| error.to_string())?;
    let (_, parsed) = X509Certificate::from_der(der).map_err(|error| error.to_string())?;
    let alternative = parsed
        .subject_alternative_name()
        .map_err(|error| error.to_string())?;
    let names = alternative
        .map(|extension| extension.value.general_names.as_slice())
        .unwrap_or_default();
    Ok(names
        .iter()
        .filter_map(|name| match name {
            GeneralName::DNSName(name) => Some(name.to_ascii_lowercase()),
            _ => None,
        })
        .collect())
}
