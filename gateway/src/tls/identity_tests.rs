//! Subjects of certificates made for the purpose.

use rcgen::{
    CertificateParams, CustomExtension, DistinguishedName, DnType, DnValue, KeyPair, SanType,
};

use super::*;

fn identity(name: DistinguishedName, alternative: Vec<SanType>) -> PeerIdentity {
    let mut params = CertificateParams::default();
    params.distinguished_name = name;
    params.subject_alt_names = alternative;
    let certificate = params.self_signed(&KeyPair::generate().unwrap()).unwrap();
    PeerIdentity::from_certificate(certificate.der()).unwrap()
}

fn name(parts: &[(DnType, &str)]) -> DistinguishedName {
    let mut name = DistinguishedName::new();
    for (kind, value) in parts {
        name.push(kind.clone(), *value);
    }
    name
}

#[test]
fn subjects_are_written_as_rfc_4514_says() {
    let cn = DnType::CommonName;
    let rows = [
        (name(&[(cn.clone(), "meter-7")]), "CN=meter-7"),
        (
            name(&[
                (DnType::CountryName, "DE"),
                (DnType::OrganizationName, "Example"),
                (DnType::OrganizationalUnitName, "Lab"),
                (cn.clone(), "a b"),
            ]),
            "CN=a b,OU=Lab,O=Example,C=DE",
        ),
        (
            name(&[(cn.clone(), "a,b+c\"d\\e<f>g;h=i")]),
            r#"CN=a\,b\+c\"d\\e\<f\>g\;h=i"#,
        ),
        (
            name(&[(cn.clone(), " lead and trail ")]),
            r"CN=\ lead and trail\ ",
        ),
        (name(&[(cn.clone(), " ")]), r"CN=\ "),
        (name(&[(cn.clone(), "#hash")]), r"CN=\#hash"),
        (name(&[(cn, "Zähler\u{0}\n")]), r"CN=Zähler\00\0A"),
        (
            name(&[(
                DnType::CustomDnType(vec![0, 9, 2342, 19200300, 100, 1, 25]),
                "example",
            )]),
            "DC=example",
        ),
        (
            name(&[(
                DnType::CustomDnType(vec![1, 2, 840, 113549, 1, 9, 1]),
                "a@b",
            )]),
            "emailAddress=a@b",
        ),
        (
            name(&[(DnType::CustomDnType(vec![1, 3, 6, 1, 4, 1, 9999]), "hi")]),
            "1.3.6.1.4.1.9999=#0c026869",
        ),
        (DistinguishedName::new(), ""),
    ];
    for (subject, expected) in rows {
        assert_eq!(
            identity(subject, Vec::new()).subject.as_deref(),
            Some(expected)
        );
    }
}

#[test]
fn old_string_types_are_read() {
    let mut subject = DistinguishedName::new();
    subject.push(
        DnType::CommonName,
        DnValue::BmpString("Zähler".try_into().unwrap()),
    );
    let identity = identity(subject, Vec::new());
    assert_eq!(identity.common_name.as_deref(), Some("Zähler"));
    assert_eq!(identity.subject.as_deref(), Some("CN=Zähler"));
}

#[test]
fn names_of_the_subject_alternative_name_are_kept() {
    let alternative = vec![
        SanType::DnsName("meter-7.example".try_into().unwrap()),
        SanType::Rfc822Name("meter@example".try_into().unwrap()),
        SanType::IpAddress("192.0.2.1".parse().unwrap()),
        SanType::URI("urn:meter:7".try_into().unwrap()),
    ];
    let identity = identity(name(&[(DnType::OrganizationName, "Example")]), alternative);
    let names = identity.alternative_names;
    assert_eq!(names.dns, ["meter-7.example"]);
    assert_eq!(names.email, ["meter@example"]);
    assert_eq!(names.uri, ["urn:meter:7"]);
    assert_eq!(identity.common_name, None);
}

#[test]
fn what_is_no_certificate_is_nobody() {
    assert_eq!(
        PeerIdentity::from_certificate(&CertificateDer::from(vec![0x30, 3, 1, 2, 3])),
        None
    );
    let mut params = CertificateParams::default();
    let nonsense = CustomExtension::from_oid_content(&[2, 5, 29, 17], vec![0xFF, 0xFF]);
    params.custom_extensions.push(nonsense);
    let certificate = params.self_signed(&KeyPair::generate().unwrap()).unwrap();
    let identity = PeerIdentity::from_certificate(certificate.der()).unwrap();
    assert_eq!(identity.alternative_names, CertNames::default());
}
