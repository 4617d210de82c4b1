//! Authenticators and rules of the configuration, as clients of a running node meet them.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use nightjar_client::{ConnectOptions, Event, ProtocolVersion, ReasonCode, Session};
use nightjar_connectors::scram;
use nightjar_mqtt::{Decoded, Decoder};
use ring::{digest, hmac, pbkdf2};

use crate::process::{Broker, Dir, FREE_PORTS, run, sets, until};

/// User `ann` with the password `secret`, as mosquitto_passwd writes it.
const ANN: &str = "ann:$7$101$r0YACPYEg6iatc0I$aZG1elPlN397o8vbuilpF3E7p0vmKxwQlXG88EyX+Un2RSA0XoBJmaWhbt59owqJYduKU5SGWY11T/+Oc+ovZQ==\n";

/// A directory with this configuration.
pub fn configured(text: &str) -> Dir {
    let dir = Dir::new();
    dir.write("etc/nightjar.toml", text);
    dir
}

const USERS_FILE: &str = "[[auth.chain]]\nkind = \"file\"\npath = \"etc/users\"\n";

/// The exit code of a QoS 1 publish: 0, or the code with which CONNECT or the message was refused.
pub fn publish(dir: &Dir, broker: &Broker, version: &str, login: &[&str], topic: &str) -> i32 {
    let (host, port) = broker
        .address("tcp:default")
        .rsplit_once(':')
        .expect("address:port");
    let common = [
        "pub", "-h", host, "-p", port, "-q", "1", "-m", "x", "-V", version, "-t", topic,
    ];
    run(dir, &[&common[..], login].concat()).code
}

const RIGHT: &[&str] = &["-u", "ann", "-P", "secret"];
const WRONG: &[&str] = &["-u", "ann", "-P", "guess"];
const UNKNOWN: &[&str] = &["-u", "bob", "-P", "secret"];

#[test]
fn a_users_file_decides_who_connects_and_a_rules_file_what_they_do() {
    let dir = configured(&format!(
        "{USERS_FILE}[[acl.sources]]\nkind = \"file\"\npath = \"etc/acl.conf\"\n"
    ));
    dir.write("etc/users", ANN);
    dir.write(
        "etc/acl.conf",
        "{allow, {user, \"ann\"}, publish, [\"open/#\"]}.\n{deny, all}.\n",
    );
    let broker = Broker::start(&dir, &[]);
    // Version, wrong password or unknown user, no user name, topic without permission.
    for (version, bad, anonymous, denied) in [("mqttv5", 0x86, 0x87, 0x87), ("mqttv311", 4, 5, 0)] {
        let code = |login, topic| publish(&dir, &broker, version, login, topic);
        assert_eq!(code(RIGHT, "open/a"), 0, "{version}");
        assert_eq!(code(WRONG, "open/a"), bad, "{version}");
        assert_eq!(code(UNKNOWN, "open/a"), bad, "{version}");
        assert_eq!(code(&[], "open/a"), anonymous, "{version}");
        assert_eq!(code(RIGHT, "closed/a"), denied, "{version}");
    }
}

#[test]
fn a_signed_token_is_a_login_and_brings_its_rules() {
    let dir = configured(
        "[[auth.chain]]\nkind = \"jwt\"\nsecret = \"topsecret\"\nclaims = { sub = \"${username}\" }\n",
    );
    let broker = Broker::start(&dir, &[]);
    let token = |key: &[u8], claims: &str| {
        let head = URL_SAFE_NO_PAD.encode(r#"{"alg":"HS256"}"#);
        let signed = format!("{head}.{}", URL_SAFE_NO_PAD.encode(claims));
        let tag = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, key), signed.as_bytes());
        format!("{signed}.{}", URL_SAFE_NO_PAD.encode(tag))
    };
    let code = |user: &str, token: &str, topic: &str| {
        publish(&dir, &broker, "mqttv5", &["-u", user, "-P", token], topic)
    };
    let good = token(
        b"topsecret",
        r#"{"sub":"ann","exp":9999999999,"acl":{"pub":["open/#"]}}"#,
    );
    assert_eq!(code("ann", &good, "open/a"), 0);
    assert_eq!(code("ann", &good, "closed/a"), 0x87);
    assert_eq!(code("bob", &good, "open/a"), 0x86, "claim of another user");
    let old = token(b"topsecret", r#"{"sub":"ann","exp":1}"#);
    assert_eq!(code("ann", &old, "open/a"), 0x86, "expired");
    let forged = token(b"guess", r#"{"sub":"ann"}"#);
    assert_eq!(code("ann", &forged, "open/a"), 0x86, "signed by another");
}

/// A client that answers the server's SCRAM challenge; the outcome is the reason of CONNACK and its data.
pub fn scram(address: &str, user: &str, password: &[u8]) -> (ReasonCode, Option<Vec<u8>>) {
    let bare = format!("n={user},r=fyko+d2lbbFgONRv9qkxdawL");
    let mut options = ConnectOptions::new("scram-client");
    options.version = ProtocolVersion::V5;
    options.properties.authentication_method = Some(scram::METHOD.to_owned());
    options.properties.authentication_data = Some(format!("n,,{bare}").into_bytes());
    let mut session = Session::new(&options);
    let mut out = Vec::new();
    session.connect(&options, &mut out).expect("fits");
    let mut stream = TcpStream::connect(address).expect("the broker listens");
    stream
        .set_read_timeout(Some(Duration::from_secs(15)))
        .expect("a time above zero");
    let decoder = Decoder::client(options.version, 1 << 20);
    let mut got: Vec<u8> = Vec::new();
    loop {
        stream
            .write_all(&std::mem::take(&mut out))
            .expect("it takes all");
        let event = loop {
            if let Decoded::Packet { packet, consumed } = decoder.decode(&got).expect("packets") {
                let event = session.handle(packet, &mut out).expect("legal");
                got.drain(..consumed);
                break event;
            }
            let mut chunk = [0; 1024];
            let count = stream.read(&mut chunk).expect("an answer in time");
            assert!(count > 0, "closed without an answer");
            got.extend_from_slice(&chunk[..count]);
        };
        match event {
            Some(Event::Connected(connected)) => {
                return (connected.reason, connected.authentication_data.clone());
            }
            Some(Event::Auth {
                reason: ReasonCode::ContinueAuthentication,
                data: Some(data),
                ..
            }) => {
                let challenge = String::from_utf8(data).expect("text");
                let answer = prove(&bare, &challenge, password);
                session
                    .auth(
                        ReasonCode::ContinueAuthentication,
                        scram::METHOD,
                        Some(answer.as_bytes()),
                        &mut out,
                    )
                    .expect("fits");
            }
            other => panic!("unexpected {other:?}"),
        }
    }
}

/// The client's final message, RFC 5802 section 3.
fn prove(bare: &str, challenge: &str, password: &[u8]) -> String {
    let field = |name: &str| {
        let mut fields = challenge.split(',');
        fields
            .find_map(|field| field.strip_prefix(name))
            .expect("it is there")
    };
    let salt = STANDARD.decode(field("s=")).expect("base64");
    let mut salted = [0; 32];
    let rounds = field("i=").parse().expect("a number above zero");
    pbkdf2::derive(
        pbkdf2::PBKDF2_HMAC_SHA256,
        rounds,
        &salt,
        password,
        &mut salted,
    );
    let sign = |key: &[u8], text: &[u8]| hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, key), text);
    let key = sign(&salted, b"Client Key");
    let stored = digest::digest(&digest::SHA256, key.as_ref());
    let last = format!("c=biws,r={}", field("r="));
    let signature = sign(
        stored.as_ref(),
        format!("{bare},{challenge},{last}").as_bytes(),
    );
    let proof: Vec<u8> = key
        .as_ref()
        .iter()
        .zip(signature.as_ref())
        .map(|(a, b)| a ^ b)
        .collect();
    format!("{last},p={}", STANDARD.encode(proof))
}

#[test]
fn scram_takes_its_keys_from_the_users_file() {
    // The file may stand behind it.
    let dir = configured(&format!("[[auth.chain]]\nkind = \"scram\"\n{USERS_FILE}"));
    let keys = scram::new_keys(b"pencil", 4096).expect("enough iterations");
    dir.write(
        "etc/users",
        &format!("{ANN}joe:{}\n", scram::keys_text(&keys)),
    );
    let broker = Broker::start(&dir, &[]);
    let address = broker.address("tcp:default");
    let (reason, data) = scram(address, "joe", b"pencil");
    assert_eq!(reason, ReasonCode::Success);
    assert!(data.is_some_and(|data| data.starts_with(b"v=")));
    assert_eq!(scram(address, "joe", b"pen").0, ReasonCode::NotAuthorized);
    // Her hash is none that SCRAM can use, and nobody is told so.
    assert_eq!(
        scram(address, "ann", b"secret").0,
        ReasonCode::NotAuthorized
    );
    // The same keys serve a plain login.
    let login = ["-u", "joe", "-P", "pencil"];
    assert_eq!(publish(&dir, &broker, "mqttv5", &login, "a"), 0);
}

#[test]
fn a_reload_takes_new_users_and_keeps_the_old_ones_when_the_file_is_broken() {
    let dir = configured(USERS_FILE);
    dir.write("etc/users", ANN);
    let broker = Broker::start(&dir, &[]);
    let code = |login| publish(&dir, &broker, "mqttv5", login, "a");
    assert_eq!((code(RIGHT), code(UNKNOWN)), (0, 0x86));
    dir.write("etc/users", &format!("{ANN}bob:secret\n"));
    let done = run(&dir, &["ctl", "reload", "--output", "json"]);
    assert_eq!(done.code, 1, "{done:?}");
    assert!(
        done.out.contains("etc/users:2") && done.out.contains("auth.chain[0].path"),
        "{done:?}"
    );
    assert!(!done.out.contains("secret"), "{done:?}");
    assert_eq!((code(RIGHT), code(UNKNOWN), code(&[])), (0, 0x86, 0x87));
    // A kind this program lacks, or a filter that cannot be, keeps the chain too.
    dir.write(
        "etc/nightjar.toml",
        "[[auth.chain]]\nkind = \"mongodb\"\nfilter = { \"$where\" = \"1\" }\n",
    );
    let done = run(&dir, &["ctl", "reload"]);
    let problem = match cfg!(feature = "mongodb") {
        true => "auth.chain[0].filter: ",
        false => "cargo feature `mongodb`",
    };
    assert!(done.code == 1 && done.out.contains(problem), "{done:?}");
    assert_eq!((code(RIGHT), code(&[])), (0, 0x87));
    // And by SIGHUP: bob comes, ann goes, though her password was verified a moment ago.
    dir.write("etc/nightjar.toml", USERS_FILE);
    dir.write("etc/users", &ANN.replace("ann:", "bob:"));
    broker.signal("HUP");
    until("bob is let in", || code(UNKNOWN) == 0);
    assert_eq!(code(RIGHT), 0x86);
}

#[test]
fn check_and_serve_name_what_is_wrong_with_authenticators_and_sources() {
    let dir = configured(
        "[[auth.chain]]\nkind = \"file\"\npath = \"etc/none\"\n\
         [[auth.chain]]\nkind = \"file\"\npath = \"etc/users\"\n\
         [[auth.chain]]\nkind = \"jwt\"\npublic_key_file = \"etc/key.pem\"\n\
         [[auth.chain]]\nkind = \"http\"\nurl = \"http://127.0.0.1:1/${pass}\"\n\
         [[auth.chain]]\nkind = \"redis\"\ncommand = \"HGETALL ${nobody}\"\n\
         [[auth.chain]]\nkind = \"x509\"\nfield = \"san_dns\"\nenable = false\n\
         [[auth.chain]]\nkind = \"file\"\npath = \"etc/none\"\nenable = false\n\
         [[acl.sources]]\nkind = \"postgres\"\nquery = \"select ${nobody}\"\n",
    );
    dir.write("etc/users", "ann\n");
    dir.write("etc/key.pem", "no key\n");
    for command in ["check", "serve"] {
        let done = run(&dir, &sets(command, &FREE_PORTS));
        assert_eq!(done.code, 2, "{done:?}");
        for part in [
            "error: etc/nightjar.toml:3:8: auth.chain[0].path: cannot read etc/none",
            "error: etc/users:1:1: auth.chain[1].path: expected name:hash",
            "error: etc/nightjar.toml:9:19: auth.chain[2].public_key_file: ",
            "error: etc/nightjar.toml:12:7: auth.chain[3].url: ",
            "error: etc/nightjar.toml:15:11: auth.chain[4].command: ",
            "error: etc/nightjar.toml:26:9: acl.sources[0].query: ",
        ] {
            assert!(done.err.contains(part), "{part:?} is not in\n{}", done.err);
        }
        assert_eq!(done.err.matches("error: ").count(), 6, "{}", done.err);
        assert_eq!(done.err.matches("help: ").count(), 6, "{}", done.err);
    }
    // SCRAM without keys would let nobody in.
    dir.write("etc/nightjar.toml", "[[auth.chain]]\nkind = \"scram\"\n");
    let done = run(&dir, &sets("check", &FREE_PORTS));
    assert!(
        done.code == 2 && done.err.contains("auth.chain[0]: no entry"),
        "{done:?}"
    );
    // What is right passes without a server to ask.
    dir.write("etc/users", ANN);
    dir.write(
        "etc/nightjar.toml",
        &format!(
            "{USERS_FILE}[[auth.chain]]\nkind = \"http\"\nurl = \"http://127.0.0.1:1/auth\"\n\
             [[auth.chain]]\nkind = \"jwt\"\njwks_url = \"https://127.0.0.1:1/keys\"\n\
             [[auth.chain]]\nkind = \"mysql\"\n[[auth.chain]]\nkind = \"postgres\"\n\
             [[auth.chain]]\nkind = \"redis\"\n[[auth.chain]]\nkind = \"x509\"\n\
             [[auth.chain]]\nkind = \"scram\"\n[[acl.sources]]\nkind = \"http\"\nurl = \"http://127.0.0.1:1/acl\"\n\
             [[acl.sources]]\nkind = \"mysql\"\n[[acl.sources]]\nkind = \"postgres\"\n[[acl.sources]]\nkind = \"redis\"\n"
        ),
    );
    let done = run(&dir, &sets("check", &FREE_PORTS));
    assert_eq!((done.code, done.err.as_str()), (0, ""), "{done:?}");
}
