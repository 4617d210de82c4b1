//! `kind = "x509"`: a verified client certificate is the login, and names the user or the client.

use std::future::ready;

use nightjar_broker::access::{AuthAnswer, AuthRequest, Authenticator, BoxFuture, Grant};
use nightjar_broker::auth::UserKind;
use nightjar_mqtt::ReasonCode;

/// Which name of the certificate counts.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum CertName {
    /// `cn`: the common name.
    #[default]
    CommonName,
    /// `dn`: the distinguished name, as RFC 4514 writes it.
    DistinguishedName,
    /// `san_dns`: a DNS name of the subjectAltName.
    DnsName,
    /// `san_email`: an e-mail address of the subjectAltName.
    Email,
    /// `san_uri`: a URI of the subjectAltName.
    Uri,
}

/// Lets in whoever has a certificate that the listener verified; clients without one are ignored.
///
/// The certificate's name must be the user name of CONNECT, and becomes it where CONNECT has none; or it must be the
/// client identifier. Of several alternative names of one kind any may be the one, and the first becomes the user name
/// where CONNECT has none.
#[derive(Debug)]
pub struct X509 {
    field: CertName,
    identifies: UserKind,
}

impl X509 {
    /// The authenticator: `field` of the certificate `as` user name or client identifier.
    pub fn new(field: CertName, identifies: UserKind) -> Self {
        Self { field, identifies }
    }

    fn judge(&self, request: &AuthRequest) -> AuthAnswer {
        let client = &request.client;
        let single: Option<&str> = match self.field {
            CertName::CommonName => client.cert_common_name.as_deref(),
            CertName::DistinguishedName => client.cert_subject.as_deref(),
            _ => None,
        };
        let several = client.cert_names.as_deref().map(|names| match self.field {
            CertName::DnsName => names.dns.as_slice(),
            CertName::Email => names.email.as_slice(),
            CertName::Uri => names.uri.as_slice(),
            CertName::CommonName | CertName::DistinguishedName => &[],
        });
        let several = several.unwrap_or_default().iter().map(String::as_str);
        let mut names = single
            .into_iter()
            .chain(several)
            .filter(|name| !name.is_empty());
        let mut rest = names.clone();
        let Some(first) = names.next() else {
            return AuthAnswer::Ignore;
        };
        let username = match self.identifies {
            UserKind::Username => match client.username.as_deref() {
                Some(said) if !rest.any(|name| name == said) => {
                    return AuthAnswer::Deny(ReasonCode::BadUserNameOrPassword);
                }
                Some(_) => client.username.clone(),
                None => Some(first.into()),
            },
            UserKind::ClientId => {
                if !rest.any(|name| name == &*client.client_id) {
                    return AuthAnswer::Deny(ReasonCode::ClientIdentifierNotValid);
                }
                None
            }
        };
        AuthAnswer::Allow(Grant {
            username,
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
    fn the_certificate_names_user_or_client() {
        use CertName::{CommonName, DistinguishedName};
        use UserKind::{ClientId, Username};
        let allow = |name: &'static str| format!("allow {name}");
        let bad_user = || "deny BadUserNameOrPassword".to_owned();
        let bad_client = || "deny ClientIdentifierNotValid".to_owned();
        let ignore = || "ignore".to_owned();
        // Field, as, common name, user name of CONNECT; the client identifier is dev1.
        let table = [
            (CommonName, Username, Some("box"), None, allow("box")),
            (CommonName, Username, Some("box"), Some("box"), allow("box")),
            (CommonName, Username, Some("box"), Some("ann"), bad_user()),
            (CommonName, Username, Some("box"), Some(""), bad_user()),
            (CommonName, Username, None, Some("ann"), ignore()),
            (CommonName, Username, Some(""), Some(""), ignore()),
            (
                DistinguishedName,
                Username,
                Some("box"),
                None,
                allow("CN=box,O=x"),
            ),
            (CommonName, ClientId, Some("dev1"), Some("ann"), allow("-")),
            (
                CommonName,
                ClientId,
                Some("dev2"),
                Some("dev2"),
                bad_client(),
            ),
            (CommonName, ClientId, None, Some("ann"), ignore()),
        ];
        for (row, (field, identifies, cn, user, expected)) in table.into_iter().enumerate() {
            let mut client = client();
            client.username = user.map(Into::into);
            client.cert_common_name = cn.map(Into::into);
            client.cert_subject = cn.map(|cn| format!("CN={cn},O=x").into());
            let got = match X509::new(field, identifies).judge(&AuthRequest {
                client,
                password: None,
            }) {
                AuthAnswer::Allow(grant) => {
                    format!("allow {}", grant.username.as_deref().unwrap_or("-"))
                }
                AuthAnswer::Deny(code) => format!("deny {code:?}"),
                AuthAnswer::Ignore => ignore(),
                AuthAnswer::Unavailable(error) => error,
            };
            assert_eq!(got, expected, "row {row}");
        }
    }
}
