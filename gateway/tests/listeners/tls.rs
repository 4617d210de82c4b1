//! Certificates: whose are taken, how they change, and what is said when they cannot be used.

use std::path::PathBuf;
use std::time::Duration;

use nightjar_gateway::listener::Refused;
use nightjar_gateway::tls::generate::{self, PemPair, Purpose};
use nightjar_gateway::tls::{SniCertificate, Verify};
use nightjar_gateway::{ListenerKind, ListenerSettings, Listeners};
use rustls::HandshakeKind;
use tokio::io::AsyncReadExt;

use crate::clients::{Tls, echoed};
use crate::node::{Node, TempDir, settings, status};

struct Pki {
    dir: TempDir,
    ca: PemPair,
}

impl Pki {
    fn new() -> Self {
        Self {
            dir: TempDir::new(),
            ca: generate::ca("test CA", 30).unwrap(),
        }
    }

    fn server(&self, names: &[&str]) -> PemPair {
        let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
        generate::issue(&self.ca, Purpose::Server, &names[0], &names, 30).unwrap()
    }

    fn client(&self, name: &str) -> PemPair {
        generate::issue(&self.ca, Purpose::Client, name, &[], 30).unwrap()
    }

    fn write(&self, name: &str, pair: &PemPair) -> (PathBuf, PathBuf) {
        let cert = self.dir.file(&format!("{name}.crt"), &pair.certificate);
        (cert, self.dir.file(&format!("{name}.key"), &pair.key))
    }

    /// A listener with a certificate for localhost.
    fn listener(&self) -> ListenerSettings {
        let (cert, key) = self.write("server", &self.server(&["localhost"]));
        let mut listener = settings(ListenerKind::Tls);
        listener.tls.cert_file = Some(cert);
        listener.tls.key_file = Some(key);
        listener
    }

    /// The same, asking clients for certificates of this CA.
    fn mutual(&self, required: bool) -> ListenerSettings {
        let mut listener = self.listener();
        listener.tls.verify = Verify::Peer;
        listener.tls.fail_if_no_peer_cert = required;
        listener.tls.ca_file = Some(self.dir.file("ca.crt", &self.ca.certificate));
        listener
    }

    fn tls(&self, client: Option<&PemPair>) -> Tls {
        Tls::new(&self.ca.certificate, client, rustls::ALL_VERSIONS)
    }
}

/// True if the server takes the client: in TLS 1.3 a refusal comes only after the client's own handshake.
async fn served(tls: &Tls, node: &Node) -> bool {
    let Ok(mut stream) = tls.connect(node.address(), "localhost").await else {
        return false;
    };
    use tokio::io::AsyncWriteExt;
    if stream.write_all(b"x").await.is_err() || stream.flush().await.is_err() {
        return false;
    }
    matches!(stream.read_u8().await, Ok(b'x'))
}

#[tokio::test(flavor = "multi_thread")]
async fn clients_are_known_by_their_certificates_and_strangers_stay_out() {
    let pki = Pki::new();
    let other = Pki::new();
    let mut node = Node::start(pki.mutual(true));
    let meter = pki.client("meter-7");
    for version in [&rustls::version::TLS12, &rustls::version::TLS13] {
        let tls = Tls::new(&pki.ca.certificate, Some(&meter), &[version]);
        for resumed in [false, true] {
            let mut stream = tls.connect(node.address(), "localhost").await.unwrap();
            echoed(&mut stream, b"hello").await;
            let kind = stream.get_ref().1.handshake_kind();
            assert_eq!(kind == Some(HandshakeKind::Resumed), resumed, "{kind:?}");
            // A resumed session keeps who the client is.
            let identity = node.next().await.identity.unwrap();
            assert_eq!(identity.common_name.as_deref(), Some("meter-7"));
            assert_eq!(identity.subject.as_deref(), Some("CN=meter-7"));
            assert!(!identity.via_proxy);
        }
    }
    let stranger = other.client("meter-7");
    for (count, tls) in [(1, pki.tls(None)), (2, pki.tls(Some(&stranger)))] {
        assert!(!served(&tls, &node).await);
        node.wait_refused(Refused::Tls, count).await;
    }
    assert!(node.seen.try_recv().is_err());
    // Not required: served without an identity, but a stranger's certificate is still refused.
    let mut node = Node::start(pki.mutual(false));
    assert!(served(&pki.tls(None), &node).await);
    assert!(node.next().await.identity.is_none());
    assert!(!served(&pki.tls(Some(&stranger)), &node).await);
}

#[tokio::test(flavor = "multi_thread")]
async fn revoked_certificates_are_refused_and_the_list_is_reloaded() {
    let pki = Pki::new();
    let (good, bad) = (pki.client("good"), pki.client("bad"));
    let mut listener = pki.mutual(true);
    listener.tls.crl_file = Some(pki.dir.file("list.crl", &revocation_list(&pki.ca, &[])));
    let node = Node::start(listener);
    assert!(served(&pki.tls(Some(&bad)), &node).await);
    let session = pki.tls(Some(&bad));
    assert!(served(&session, &node).await);
    pki.dir.file("list.crl", &revocation_list(&pki.ca, &[&bad]));
    let (done, failed) = node.listeners.reload_certificates();
    assert_eq!((done.len(), failed.len()), (1, 0));
    assert!(!served(&pki.tls(Some(&bad)), &node).await);
    // Not by the ticket of an earlier session either.
    assert!(!served(&session, &node).await);
    assert!(served(&pki.tls(Some(&good)), &node).await);
}

fn revocation_list(ca: &PemPair, revoked: &[&PemPair]) -> String {
    use rcgen::{
        CertificateRevocationListParams, Issuer, KeyIdMethod, KeyPair, RevokedCertParams,
        SerialNumber,
    };
    use rustls::pki_types::CertificateDer;
    use rustls::pki_types::pem::PemObject;
    use x509_parser::prelude::{FromDer, X509Certificate};
    let issuer =
        Issuer::from_ca_cert_pem(&ca.certificate, KeyPair::from_pem(&ca.key).unwrap()).unwrap();
    let revoked_certs = revoked.iter().map(|pair| {
        let der = CertificateDer::from_pem_slice(pair.certificate.as_bytes()).unwrap();
        let (_, certificate) = X509Certificate::from_der(&der).unwrap();
        RevokedCertParams {
            serial_number: SerialNumber::from_slice(certificate.raw_serial()),
            revocation_time: rcgen::date_time_ymd(2024, 1, 1),
            reason_code: None,
            invalidity_date: None,
        }
    });
    let params = CertificateRevocationListParams {
        this_update: rcgen::date_time_ymd(2024, 1, 1),
        next_update: rcgen::date_time_ymd(2100, 1, 1),
        crl_number: SerialNumber::from(1),
        issuing_distribution_point: None,
        revoked_certs: revoked_certs.collect(),
        key_identifier_method: KeyIdMethod::Sha256,
    };
    params.signed_by(&issuer).unwrap().pem().unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn the_asked_name_chooses_the_certificate() {
    let pki = Pki::new();
    let mut listener = pki.listener();
    for (file, name) in [("one", "one.example"), ("wild", "*.wild.example")] {
        let (cert_file, key_file) = pki.write(file, &pki.server(&[name]));
        listener.tls.sni.push(SniCertificate {
            cert_file,
            key_file,
        });
    }
    let node = Node::start(listener);
    let tls = pki.tls(None);
    for name in ["localhost", "one.example", "ONE.example", "a.wild.example"] {
        assert!(tls.connect(node.address(), name).await.is_ok(), "{name}");
    }
    for name in ["wild.example", "a.b.wild.example", "two.example"] {
        assert!(tls.connect(node.address(), name).await.is_err(), "{name}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn alpn_agrees_on_mqtt_names() {
    let pki = Pki::new();
    let node = Node::start(pki.listener());
    for (offered, agreed) in [
        (&[b"mqtt".as_slice()][..], Some("mqtt")),
        (&[b"x-amzn-mqtt-ca"], Some("x-amzn-mqtt-ca")),
        (&[b"h2", b"mqtt"], Some("mqtt")),
        (&[], None),
    ] {
        let stream = pki
            .tls(None)
            .alpn(offered)
            .connect(node.address(), "localhost")
            .await
            .unwrap();
        assert_eq!(
            stream.get_ref().1.alpn_protocol(),
            agreed.map(str::as_bytes)
        );
    }
    assert!(
        pki.tls(None)
            .alpn(&[b"h2"])
            .connect(node.address(), "localhost")
            .await
            .is_err()
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn changed_files_are_taken_up_and_connections_live_on() {
    let pki = Pki::new();
    let mut listener = pki.listener();
    listener.tls.watch = Some(Duration::from_millis(50));
    let node = Node::start(listener);
    let tls = pki.tls(None);
    let mut old = tls.connect(node.address(), "localhost").await.unwrap();
    echoed(&mut old, b"before").await;
    let serving = async |name: &str| pki.tls(None).connect(node.address(), name).await.is_ok();
    assert!(!serving("renewed.example").await);
    // A broken file: the old certificate stays in force.
    let renewed = pki.server(&["localhost", "renewed.example"]);
    pki.dir
        .file("server.crt", "-----BEGIN CERTIFICATE-----\nbroken");
    tokio::time::sleep(Duration::from_millis(200)).await;
    assert!(serving("localhost").await);
    // Certificate first, key later: in between they do not match.
    pki.dir.file("server.crt", &renewed.certificate);
    tokio::time::sleep(Duration::from_millis(200)).await;
    assert!(serving("localhost").await);
    pki.dir.file("server.key", &renewed.key);
    for _ in 0..100 {
        if serving("renewed.example").await {
            break;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    assert!(serving("renewed.example").await);
    echoed(&mut old, b"the same connection").await;
    // Sessions of before the change resume.
    let mut resumed = tls.connect(node.address(), "localhost").await.unwrap();
    assert_eq!(
        resumed.get_ref().1.handshake_kind(),
        Some(HandshakeKind::Resumed)
    );
    echoed(&mut resumed, b"again").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn files_that_cannot_be_used_are_named_with_their_key() {
    let pki = Pki::new();
    let good = pki.server(&["localhost"]);
    let (cert, key) = pki.write("good", &good);
    let (_, other_key) = pki.write("other", &pki.server(&["localhost"]));
    let empty = pki.dir.file("empty", "");
    let locked = pki.dir.file(
        "locked",
        "-----BEGIN ENCRYPTED PRIVATE KEY-----\nAA==\n-----END ENCRYPTED PRIVATE KEY-----\n",
    );
    let weak = |name: &str| {
        PathBuf::from(env!("CARGO_MANIFEST_DIR"))
            .join("tests/listeners/fixtures")
            .join(name)
    };
    let missing = pki.dir.path().join("missing");
    let rows = [
        (&missing, &key, "cert_file", "no such file"),
        (&cert, &missing, "key_file", "no such file"),
        (&empty, &key, "cert_file", "holds no certificate"),
        (&cert, &empty, "key_file", "holds no private key"),
        (&cert, &cert, "key_file", "holds no private key"),
        (&cert, &locked, "key_file", "encrypted"),
        (
            &cert,
            &other_key,
            "key_file",
            "is not the key of the certificate in",
        ),
        (
            &weak("rsa1024.crt"),
            &weak("rsa1024.key"),
            "cert_file",
            "RSA key of 1024 bits, too weak",
        ),
        (
            &pki.dir.path().to_owned(),
            &key,
            "cert_file",
            "is a directory",
        ),
    ];
    for (cert_file, key_file, name, reason) in rows {
        let mut listener = settings(ListenerKind::Tls);
        listener.tls.cert_file = Some(cert_file.clone());
        listener.tls.key_file = Some(key_file.clone());
        let blamed = if name == "cert_file" {
            cert_file
        } else {
            key_file
        };
        let error = Listeners::bind(vec![listener], &status())
            .unwrap_err()
            .to_string();
        let begin = format!("listeners.tls.default.{name}: {}: ", blamed.display());
        assert!(
            error.starts_with(&begin) && error.contains(reason),
            "{error}"
        );
    }
    let mut listener = pki.mutual(true);
    listener.tls.ca_file = None;
    let error = Listeners::bind(vec![listener], &status())
        .unwrap_err()
        .to_string();
    assert_eq!(
        error,
        "listeners.tls.default.ca_file: is needed because verify = \"peer\""
    );
    let mut listener = pki.mutual(true);
    listener.tls.crl_file = Some(cert);
    let error = Listeners::bind(vec![listener], &status())
        .unwrap_err()
        .to_string();
    assert!(
        error.starts_with("listeners.tls.default.crl_file: ")
            && error.contains("no revocation list"),
        "{error}"
    );
}

#[cfg(unix)]
#[tokio::test(flavor = "multi_thread")]
async fn the_certificate_of_an_installation_is_made_once_and_its_keys_are_private() {
    use std::os::unix::fs::PermissionsExt;
    let dir = TempDir::new();
    let first = generate::ensure(dir.path()).unwrap();
    let read = || {
        let files = [&first.ca_file, &first.cert_file, &first.key_file];
        files.map(|file| std::fs::read(file).unwrap())
    };
    let before = read();
    generate::ensure(dir.path()).unwrap();
    assert_eq!(read(), before);
    for key in ["server.key", "ca.key"] {
        let mode = std::fs::metadata(dir.path().join("certs").join(key))
            .unwrap()
            .permissions()
            .mode();
        assert_eq!(mode & 0o777, 0o600, "{key}");
    }
    // A lost certificate is made anew by the same CA, which clients already trust.
    std::fs::remove_file(&first.cert_file).unwrap();
    generate::ensure(dir.path()).unwrap();
    let after = read();
    assert_eq!(after[0], before[0]);
    assert_ne!(after[1], before[1]);
    assert_eq!(
        std::fs::read_dir(dir.path().join("certs")).unwrap().count(),
        4
    );
}
