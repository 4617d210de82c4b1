//! Two ends of a link that meet over TLS.

use std::path::Path;

use rcgen::{BasicConstraints, CertificateParams, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use super::*;
use crate::links::VERSIONS;
use crate::links::frame::Seal;
use crate::links::handshake::tests::hello;
use crate::links::handshake::{self, Cookie};

/// An authority.
struct Ca(Issuer<'static, KeyPair>, String);

impl Ca {
    fn new() -> Self {
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().unwrap();
        let pem = params.self_signed(&key).unwrap().pem();
        Self(Issuer::new(params, key), pem)
    }

    /// Files of a node that trusts `trusted`.
    fn node(&self, dir: &Path, name: &str, trusted: &Self) -> TlsFiles {
        use ExtendedKeyUsagePurpose::{ClientAuth, ServerAuth};
        self.issue(dir, name, trusted, vec![ServerAuth, ClientAuth])
    }

    fn issue(
        &self,
        dir: &Path,
        name: &str,
        trusted: &Self,
        usages: Vec<ExtendedKeyUsagePurpose>,
    ) -> TlsFiles {
        let mut params = CertificateParams::new(vec![name.to_owned()]).unwrap();
        params.extended_key_usages = usages;
        let key = KeyPair::generate().unwrap();
        let certificate = params.signed_by(&key, &self.0).unwrap();
        let write = |suffix: &str, content: String| {
            let path = dir.join(format!("{name}.{suffix}"));
            std::fs::write(&path, content).unwrap();
            path
        };
        TlsFiles {
            cert_file: write("crt", certificate.pem()),
            key_file: write("key", key.serialize_pem()),
            ca_file: write("ca", trusted.1.clone()),
        }
    }
}

struct Dir(PathBuf);

impl Dir {
    fn new(name: &str) -> Self {
        let dir = std::env::temp_dir().join(format!("nightjar-{name}-{}", std::process::id()));
        let _ = std::fs::remove_dir_all(&dir);
        std::fs::create_dir_all(&dir).unwrap();
        Self(dir)
    }
}

impl Drop for Dir {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// What each side says, `None` if it has a link; frames go both ways over a link.
async fn meet(dialer: (&Tls, &str), accepter: (&Tls, &str)) -> [Option<String>; 2] {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let dialing = async {
        let stream = TcpStream::connect(address).await.unwrap();
        let mut stream = dialer.0.connect(stream).await?;
        let cookie = Cookie::new(dialer.1);
        let mut opened =
            handshake::dial(&mut stream, &cookie, hello("a", 1), VERSIONS, true).await?;
        let mut out = Vec::new();
        opened.sealing.put(&mut out, 7, b"", b"there");
        stream.write_all(&out).await?;
        stream.flush().await?;
        assert_eq!(&opened.opening.take(&mut stream).await?.1[..], b"back");
        Ok::<_, HandshakeError>(())
    };
    let accepting = async {
        let (stream, _) = listener.accept().await.unwrap();
        let mut stream = accepter.0.accept(stream).await?;
        let cookie = Cookie::new(accepter.1);
        let mut opened =
            handshake::accept(&mut stream, &cookie, hello("b", 2), VERSIONS, true).await?;
        assert_eq!(&opened.opening.take(&mut stream).await?.1[..], b"there");
        let mut out = Vec::new();
        opened.sealing.put(&mut out, 7, b"", b"back");
        stream.write_all(&out).await?;
        stream.flush().await?;
        Ok::<_, HandshakeError>(())
    };
    let (dialed, accepted) = tokio::join!(dialing, accepting);
    [dialed, accepted].map(|end| end.err().map(|error| error.to_string()))
}

fn says(said: Option<&String>, reason: &str) {
    let said = said.map_or("a link", String::as_str);
    assert!(said.contains(reason), "{said:?} instead of {reason:?}");
}

#[tokio::test]
async fn nodes_of_one_authority_link_and_others_are_told_why_not() {
    let dir = Dir::new("links-tls");
    let (ours, theirs) = (Ca::new(), Ca::new());
    let a = Tls::open(ours.node(&dir.0, "a", &ours)).unwrap();
    let b = Tls::open(ours.node(&dir.0, "b", &ours)).unwrap();
    assert_eq!(meet((&a, ""), (&b, "")).await, [None, None]);
    assert_eq!(meet((&a, "both"), (&b, "both")).await, [None, None]);
    for said in meet((&a, "one"), (&b, "two")).await {
        says(said.as_ref(), "cluster.cookie differs");
    }
    // A node of another authority, dialed and dialing.
    let strange = Tls::open(theirs.node(&dir.0, "strange", &theirs)).unwrap();
    for (dialer, accepter) in [(&a, &strange), (&strange, &a)] {
        let [dialed, accepted] = meet((dialer, ""), (accepter, "")).await;
        says(
            dialed.as_ref(),
            "refused here: the other node's certificate is not signed",
        );
        says(
            accepted.as_ref(),
            "refused there: this node's certificate is not signed",
        );
    }
    // One that trusts this cluster and is not trusted: its word comes after its own handshake.
    let guest = Tls::open(theirs.node(&dir.0, "guest", &ours)).unwrap();
    let [dialed, accepted] = meet((&guest, ""), (&a, "")).await;
    says(
        dialed.as_ref(),
        "refused there: this node's certificate is not signed",
    );
    says(
        accepted.as_ref(),
        "refused here: the other node's certificate is not signed",
    );
    // The certificate of an MQTT client of the same authority is not one of a node.
    let client = ours.issue(
        &dir.0,
        "client",
        &ours,
        vec![ExtendedKeyUsagePurpose::ClientAuth],
    );
    let client = Tls::open(client).unwrap();
    let [dialed, accepted] = meet((&client, ""), (&a, "")).await;
    says(dialed.as_ref(), "refused there: this node's certificate");
    says(
        accepted.as_ref(),
        "refused here: the other node's certificate",
    );
}

#[tokio::test]
async fn a_certificate_that_changed_is_used_for_the_next_link() {
    let dir = Dir::new("links-renew");
    let (old, new) = (Ca::new(), Ca::new());
    let a = Tls::open(old.node(&dir.0, "a", &old)).unwrap();
    let b = Tls::open(old.node(&dir.0, "b", &old)).unwrap();
    assert_eq!(meet((&a, ""), (&b, "")).await, [None, None]);
    // Times of files are coarse.
    let late = SystemTime::now() + std::time::Duration::from_secs(5);
    for (tls, name) in [(&a, "a"), (&b, "b")] {
        let files = new.node(&dir.0, name, &new);
        for path in [&files.cert_file, &files.key_file, &files.ca_file] {
            let file = std::fs::File::options().append(true).open(path).unwrap();
            file.set_modified(late).unwrap();
        }
        assert_eq!(tls.files, files);
    }
    assert_eq!(meet((&a, ""), (&b, "")).await, [None, None]);
    std::fs::write(&a.files.key_file, "no key").unwrap();
    assert_eq!(
        meet((&a, ""), (&b, "")).await,
        [None, None],
        "the last good one stays"
    );
}

#[test]
fn files_that_are_wrong_are_named() {
    let dir = Dir::new("links-files");
    let ca = Ca::new();
    let good = ca.node(&dir.0, "a", &ca);
    let missing = dir.0.join("missing");
    for (key, files) in [
        (
            "cert_file",
            TlsFiles {
                cert_file: missing.clone(),
                ..good.clone()
            },
        ),
        (
            "key_file",
            TlsFiles {
                key_file: missing.clone(),
                ..good.clone()
            },
        ),
        (
            "ca_file",
            TlsFiles {
                ca_file: missing,
                ..good
            },
        ),
    ] {
        let error = Tls::open(files).err().unwrap();
        assert!(
            error.starts_with(&format!("cluster.tls.{key}: ")),
            "{error}"
        );
        assert!(error.contains("missing"), "{error}");
    }
}

#[tokio::test]
async fn noise_and_plain_greetings_end_a_connection_with_tls() {
    let dir = Dir::new("links-noise");
    let ca = Ca::new();
    let tls = Tls::open(ca.node(&dir.0, "a", &ca)).unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    for noise in [
        &b"\x16\x03\x01\xff\xff"[..],
        b"NJLK\x01\0\x01\0",
        b"\x16\x03\x01\0\x02\x01\x02",
    ] {
        let mut stream = TcpStream::connect(address).await.unwrap();
        stream.write_all(noise).await.unwrap();
        stream.shutdown().await.unwrap();
        let (accepted, _) = listener.accept().await.unwrap();
        assert!(tls.accept(accepted).await.is_err(), "{noise:?}");
        let mut rest = Vec::new();
        let _ = stream.read_to_end(&mut rest).await;
    }
    // Frames below TLS carry no code of their own.
    let mut out = Vec::new();
    Seal::of_tls().put(&mut out, 1, b"", b"abc");
    assert_eq!(out, b"\x04\0\0\0\x01abc");
}
