//! `kind = "x509"`: a verified client certificate is the login, and names the user.

use std::future::ready;

use nightjar_broker::access::{AuthAnswer, AuthRequest, Authenticator, BoxFuture, Grant};

/// Which name of the certificate is the user name.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum CertName {
    /// `cn`: the common name.
    #[default]
    CommonName,
    /// `dn`: the distinguished name, as RFC 4514 writes it.
    DistinguishedName,
}

/// Lets in whoever has a certificate that the listener verified; others are ignored.
///
/// A user name in CONNECT gives way to the certificate's, or has to be the same.
#[derive(Debug, Default)]
pub struct X509 {
    name: CertName,
    /// Refuse a CONNECT whose user name differs; otherwise the certificate's name takes its place.
    must_match: bool,
}

impl X509 {
    /// The authenticator; with `must_match` a user name of CONNECT has to be the certificate's.
    pub fn new(name: CertName, must_match: bool) -> Self {
        Self { name, must_match }
    }

    fn judge(&self, request: &AuthRequest) -> AuthAnswer {
        let client = &request.client;
        let name = match self.name {
            CertName::CommonName => &client.cert_common_name,
            CertName::DistinguishedName => &client.cert_subject,
        };
        let Some(name) = name.as_ref().filter(|name| !name.is_empty()) else {
            return AuthAnswer::Ignore;
        };
        let said = client.username.as_ref();
        if self.must_match && said.is_some_and(|said| said != name) {
            return AuthAnswer::Deny(nightjar_mqtt::ReasonCode::BadUserNameOrPassword);
        }
        AuthAnswer::Allow(Grant {
            username: Some(name.clone()),
            ..Grant::default()
        })
    }
}

impl Authenticator for X509 {
    fn name(&self) -> &str {
        "x509"
    }

    fn authenticate<'a>(&'a self, request: &'a AuthRequest) -> BoxFuture<'a, AuthAnswer> {
        Box::pin(ready(self.judge(request)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::client;

    #[test]
    fn the_certificate_names_the_user() {
        // The rule; common name; user name of CONNECT; the user's name, or refused.
        let dn = "CN=box,O=x";
        let table = [
            (X509::default(), Some("box"), None, Ok(Some("box"))),
            (X509::default(), Some("box"), Some("ann"), Ok(Some("box"))),
            (
                X509::new(CertName::CommonName, true),
                Some("box"),
                Some("ann"),
                Err(()),
            ),
            (
                X509::new(CertName::CommonName, true),
                Some("box"),
                Some("box"),
                Ok(Some("box")),
            ),
            (
                X509::new(CertName::CommonName, true),
                Some("box"),
                None,
                Ok(Some("box")),
            ),
            (
                X509::new(CertName::DistinguishedName, false),
                Some("box"),
                None,
                Ok(Some(dn)),
            ),
            (X509::default(), None, Some("ann"), Ok(None)),
            (X509::default(), Some(""), Some("ann"), Ok(None)),
        ];
        for (row, (x509, cn, user, expected)) in table.into_iter().enumerate() {
            let mut client = client();
            client.username = user.map(Into::into);
            client.cert_common_name = cn.map(Into::into);
            client.cert_subject = cn.map(|_| dn.into());
            let answer = x509.judge(&AuthRequest {
                client,
                password: None,
            });
            let got = match answer {
                AuthAnswer::Allow(grant) => Ok(grant.username),
                AuthAnswer::Ignore => Ok(None),
                _ => Err(()),
            };
            assert_eq!(
                got.as_ref().map(|n| n.as_deref()),
                expected.as_ref().map(|n| *n),
                "{row}"
            );
        }
    }
}
