//! Who a client is by its certificate.

use std::fmt::Write;

use nightjar_broker::access::CertNames;
use rustls::pki_types::CertificateDer;
use x509_parser::asn1_rs::{Oid, ToDer, oid};
use x509_parser::extensions::GeneralName;
use x509_parser::prelude::{FromDer, X509Certificate};
use x509_parser::x509::{AttributeTypeAndValue, X509Name};

/// What a verified client certificate, or a trusted proxy that verified one, says of the client.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct PeerIdentity {
    /// The first common name (CN) of the subject.
    pub common_name: Option<String>,
    /// The subject as RFC 4514 writes it, `CN=meter-7,O=Example`. `None` when only a proxy saw the certificate.
    pub subject: Option<String>,
    /// DNS names, e-mail addresses and URIs of the subjectAltName.
    pub alternative_names: CertNames,
    /// True if a proxy verified the certificate and told of it in its PROXY header.
    pub via_proxy: bool,
}

impl PeerIdentity {
    /// Reads a certificate; `None` if it cannot be parsed, which a verified one can.
    #[must_use]
    pub fn from_certificate(der: &CertificateDer<'_>) -> Option<Self> {
        let (_, certificate) = X509Certificate::from_der(der).ok()?;
        let subject = certificate.subject();
        let common_name = subject.iter_common_name().find_map(value_text);
        let alternative = certificate.subject_alternative_name().ok().flatten();
        let names = alternative
            .map(|extension| extension.value.general_names.as_slice())
            .unwrap_or_default();
        let mut alternative_names = CertNames::default();
        for name in names {
            match name {
                GeneralName::DNSName(text) => alternative_names.dns.push((*text).to_owned()),
                GeneralName::RFC822Name(text) => alternative_names.email.push((*text).to_owned()),
                GeneralName::URI(text) => alternative_names.uri.push((*text).to_owned()),
                _ => {}
            }
        }
        Some(Self {
            common_name,
            subject: Some(rfc4514(subject)),
            alternative_names,
            via_proxy: false,
        })
    }
}

/// Short names of attribute types: those of RFC 4514 section 3, and the further ones that OpenSSL writes.
const SHORT_NAMES: &[(Oid<'static>, &str)] = &[
    (oid!(2.5.4.3), "CN"),
    (oid!(2.5.4.7), "L"),
    (oid!(2.5.4.8), "ST"),
    (oid!(2.5.4.10), "O"),
    (oid!(2.5.4.11), "OU"),
    (oid!(2.5.4.6), "C"),
    (oid!(2.5.4.9), "STREET"),
    (oid!(0.9.2342.19200300.100.1.25), "DC"),
    (oid!(0.9.2342.19200300.100.1.1), "UID"),
    (oid!(2.5.4.5), "serialNumber"),
    (oid!(2.5.4.4), "SN"),
    (oid!(2.5.4.42), "GN"),
    (oid!(2.5.4.12), "title"),
    (oid!(1.2.840.113549.1.9.1), "emailAddress"),
];

/// The text of an attribute whose type is a character string.
fn value_text(attribute: &AttributeTypeAndValue<'_>) -> Option<String> {
    attribute.as_str().map(str::to_owned).ok().or_else(|| {
        // BMPString, which old authorities used: UTF-16 in network order.
        let value = attribute.attr_value();
        if value.tag().0 != 30 {
            return None;
        }
        let (pairs, rest) = value.data.as_chunks::<2>();
        let units = pairs.iter().map(|pair| u16::from_be_bytes(*pair));
        let text: Result<String, _> = char::decode_utf16(units).collect();
        text.ok().filter(|_| rest.is_empty())
    })
}

/// A distinguished name in the form of RFC 4514: the last RDN first, `,` between, values escaped.
fn rfc4514(name: &X509Name<'_>) -> String {
    let rdns: Vec<_> = name.iter_rdn().collect();
    let mut text = String::new();
    for (index, rdn) in rdns.iter().rev().enumerate() {
        if index > 0 {
            text.push(',');
        }
        for (index, attribute) in rdn.iter().enumerate() {
            if index > 0 {
                text.push('+');
            }
            write_attribute(&mut text, attribute);
        }
    }
    text
}

fn write_attribute(text: &mut String, attribute: &AttributeTypeAndValue<'_>) {
    let short = SHORT_NAMES
        .iter()
        .find(|(oid, _)| oid == attribute.attr_type());
    match (short, value_text(attribute)) {
        (Some((_, name)), Some(value)) => {
            text.push_str(name);
            text.push('=');
            escape(text, &value);
        }
        _ => {
            // Section 2.4: any other type or value as dotted OID and the hexadecimal form of the DER value.
            text.push_str(&attribute.attr_type().to_id_string());
            text.push_str("=#");
            // Encoding again what was just decoded cannot fail; if it did, the empty value matches nobody.
            for byte in attribute.attr_value().to_der_vec().unwrap_or_default() {
                // Writing to a String cannot fail.
                let _ = write!(text, "{byte:02x}");
            }
        }
    }
}

/// Section 2.4: what must be escaped, and where.
fn escape(text: &mut String, value: &str) {
    let last = value.chars().count().saturating_sub(1);
    for (index, character) in value.chars().enumerate() {
        match character {
            '"' | '+' | ',' | ';' | '<' | '>' | '\\' => {
                text.push('\\');
                text.push(character);
            }
            ' ' if index == 0 || index == last => text.push_str("\\ "),
            '#' if index == 0 => text.push_str("\\#"),
            '\0'..='\x1F' | '\x7F' => {
                let _ = write!(text, "\\{:02X}", character as u32);
            }
            _ => text.push(character),
        }
    }
}

#[cfg(test)]
#[path = "identity_tests.rs"]
mod tests;
