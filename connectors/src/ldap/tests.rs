use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::message::answer;
use super::*;
use crate::testing::{Noise, request};

/// What a directory would say: a message with this number and operation.
fn message(id: u8, operation: u8, content: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    ber::put_with(&mut out, ber::SEQUENCE, |out| {
        ber::put(out, ber::INTEGER, &[id]);
        ber::put(out, operation, content);
    });
    out
}

fn done(id: u8, operation: u8, code: u8) -> Vec<u8> {
    message(id, operation, &[10, 1, code, 4, 0, 4, 0])
}

fn entry(id: u8, name: &str, attribute: &str, value: &[u8]) -> Vec<u8> {
    let mut content = Vec::new();
    ber::put(&mut content, ber::OCTETS, name.as_bytes());
    ber::put_with(&mut content, ber::SEQUENCE, |out| {
        ber::put_with(out, ber::SEQUENCE, |out| {
            ber::put(out, ber::OCTETS, attribute.as_bytes());
            ber::put_with(out, ber::SET, |out| ber::put(out, ber::OCTETS, value));
        });
    });
    message(id, 0x64, &content)
}

fn settings(server: &str) -> LdapSettings {
    LdapSettings {
        timeout: Duration::from_secs(2),
        ..LdapSettings::new(server, "dc=x")
    }
}

fn directory(settings: &LdapSettings) -> Result<Ldap, ConnectorError> {
    Ldap::new(settings, Arc::new(HashPool::new(1, 8, Duration::ZERO)))
}

fn word(answer: AuthAnswer) -> String {
    match answer {
        AuthAnswer::Allow(grant) if grant.superuser => "superuser".to_owned(),
        AuthAnswer::Allow(_) => "allow".to_owned(),
        AuthAnswer::Deny(_) => "deny".to_owned(),
        AuthAnswer::Ignore => "ignore".to_owned(),
        AuthAnswer::Unavailable(error) => error,
    }
}

/// A server that answers each question with the next of these, and then hangs up.
async fn script(answers: Vec<Vec<u8>>) -> String {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0")
        .await
        .expect("bound");
    let address = listener.local_addr().expect("an address").to_string();
    tokio::spawn(async move {
        let (mut tcp, _) = listener.accept().await.expect("a client");
        let mut question = [0; 4096];
        for answer in answers {
            if tcp.read(&mut question).await.unwrap_or(0) == 0 {
                return;
            }
            let _ = tcp.write_all(&answer).await;
        }
    });
    address
}

#[tokio::test]
async fn answers_decide() {
    let ann = |id| entry(id, "uid=ann,dc=x", "isSuperuser", b"TRUE");
    let bound = done(2, 0x61, 0);
    let found = || [ann(3), done(3, 0x65, 0)].concat();
    let two = [ann(3), ann(3), done(3, 0x65, 4)].concat();
    let table: [(&str, Vec<Vec<u8>>, &str); 13] = [
        (
            "right",
            vec![bound.clone(), found(), done(4, 0x61, 0)],
            "superuser",
        ),
        (
            "wrong",
            vec![bound.clone(), found(), done(4, 0x61, 49)],
            "deny",
        ),
        (
            "locked",
            vec![bound.clone(), found(), done(4, 0x61, 53)],
            "bind: the directory answered with code 53",
        ),
        (
            "unknown",
            vec![bound.clone(), done(3, 0x65, 0), done(4, 0x61, 49)],
            "ignore",
        ),
        (
            "two",
            vec![bound.clone(), two],
            "expected the filter to find one entry, got several",
        ),
        (
            "no base",
            vec![bound.clone(), done(3, 0x65, 32)],
            "search: the directory answered with code 32",
        ),
        (
            "no rights",
            vec![done(2, 0x61, 48)],
            "bind as \"\": the directory answered with code 48",
        ),
        (
            "an entry instead",
            vec![ann(2)],
            "bind as \"\": expected its end",
        ),
        (
            "another's",
            vec![done(9, 0x61, 0)],
            "expected the answer to another LDAP message",
        ),
        (
            "a notice",
            vec![done(0, 0x78, 52)],
            "the directory ended the connection",
        ),
        (
            "no LDAP",
            vec![b"HTTP/1.1 400".to_vec()],
            "expected an LDAP message",
        ),
        (
            "too long",
            vec![vec![0x30, 0x84, 0x7f, 0, 0, 0]],
            "expected an LDAP message of at most 1 MiB",
        ),
        ("silence", vec![Vec::new(), Vec::new()], "no answer in time"),
    ];
    for (name, answers, expected) in table {
        let server = script(answers).await;
        let ldap = directory(&settings(&server)).expect("valid");
        let got = word(
            ldap.authenticate(&request(Some("ann"), Some("secret")))
                .await,
        );
        assert_eq!(got, expected, "{name}");
    }
}

#[tokio::test]
async fn an_empty_password_or_name_is_bound_by_nobody() {
    // What it would say if it were asked: a bind without a password is granted to everybody.
    let found = || [entry(3, "uid=ann,dc=x", "a", b"b"), done(3, 0x65, 0)].concat();
    for password in [None, Some("")] {
        let server = script(vec![done(2, 0x61, 0), found(), done(4, 0x61, 0)]).await;
        let searched = directory(&settings(&server)).expect("valid");
        let got = word(searched.authenticate(&request(Some("ann"), password)).await);
        assert_eq!(got, "deny");
    }
    let made = LdapSettings {
        user_dn: Some("uid=%u,dc=x".to_owned()),
        ..settings("127.0.0.1:1")
    };
    let made = directory(&made).expect("valid");
    let table = [
        (Some("ann"), Some(""), "deny"),
        (Some("ann"), None, "deny"),
        (Some(""), Some("secret"), "ignore"),
        (None, Some("secret"), "ignore"),
    ];
    for (name, password, expected) in table {
        let got = word(made.authenticate(&request(name, password)).await);
        assert_eq!(got, expected, "{name:?} {password:?}");
    }
}

#[test]
fn settings_that_let_everybody_in_or_nobody_are_refused() {
    let with = |change: fn(&mut LdapSettings)| {
        let mut settings = settings("127.0.0.1:389");
        change(&mut settings);
        match directory(&settings) {
            Ok(_) => "fine".to_owned(),
            Err(error) => error
                .to_string()
                .split(':')
                .next()
                .unwrap_or_default()
                .to_owned(),
        }
    };
    assert_eq!(with(|_| {}), "fine");
    assert_eq!(
        with(|it| it.bind_dn = Some("cn=a".to_owned())),
        "bind_password"
    );
    assert_eq!(
        with(|it| it.bind_password = Some("a".to_owned())),
        "bind_dn"
    );
    let empty = |it: &mut LdapSettings| {
        it.bind_dn = Some("cn=a".to_owned());
        it.bind_password = Some(String::new());
    };
    assert_eq!(with(empty), "bind_dn");
    assert_eq!(with(|it| it.base_dn = None), "base_dn");
    assert_eq!(with(|it| it.filter = "uid=x".to_owned()), "filter");
    assert_eq!(
        with(|it| it.user_dn = Some("uid=${nobody}".to_owned())),
        "user_dn"
    );
    assert_eq!(with(|it| it.start_tls = true), "starttls");
    assert_eq!(with(|it| it.server = "ldap://x".to_owned()), "server");
}

#[test]
fn hashes_of_a_directory_are_compared() {
    // Made by slappasswd -s secret, with -h of each scheme, and by hand for the last ones.
    let table: [(&[u8], bool); 6] = [
        (b"secret", true),
        (b"{SHA}5en6G6MezRroT3XKqkdPOmY/BfQ=", true),
        (b"{MD5}Xr4ilOzQ4PCOq3aQ0qbuaQ==", true),
        (b"{sha}AAAAG6MezRroT3XKqkdPOmY/BfQ=", false),
        (b"{SSHA}5en6G6MezRroT3XKqkdPOmY/BfQAAAAA", false),
        (
            b"{SHA256}K7gNU3sdo+OL0wNhqoVWhr3g6s1xYv72ol/pe/Unols=",
            true,
        ),
    ];
    for (value, right) in table {
        let hash = directory_hash(value).expect("a scheme that is known");
        assert_eq!(
            hash.verify(b"secret"),
            right,
            "{}",
            String::from_utf8_lossy(value)
        );
        assert!(!hash.verify(b"guess"));
        assert!(!hash.stand_in().verify(b"secret"));
    }
    for bad in [
        "{X}a",
        "{SHA}",
        "{SHA}QQ==",
        "{SSHA}?",
        "{CRYPT}$6$abc$def",
        "{CRYPT}xx",
    ] {
        assert!(directory_hash(bad.as_bytes()).is_err(), "{bad}");
    }
}

/// Whatever a directory sends is an answer or an error: bounded, without a panic.
#[test]
fn nonsense_is_an_error() {
    let good = [
        entry(
            3,
            "uid=ann,dc=x",
            "userPassword",
            b"{SHA}5en6G6MezRroT3XKqkdPOmY/BfQ=",
        ),
        done(3, 0x65, 0),
    ];
    for whole in good {
        let content = &whole[2..];
        assert!(answer(content).is_ok());
        for at in 0..content.len() {
            assert!(answer(&content[..at]).is_err(), "cut at {at}");
        }
        let mut noise = Noise::new(7);
        for _ in 0..200_000 {
            let mut bytes = content.to_vec();
            for _ in 0..=noise.below(4) {
                let at = noise.below(bytes.len());
                bytes[at] = noise.byte();
            }
            bytes.truncate(noise.below(bytes.len() + 1));
            fuzz_answer(&bytes);
        }
    }
}
