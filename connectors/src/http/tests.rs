//! Against a server of our own on loopback that says what a test wants it to.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use nightjar_broker::access::{
    Action, Answer, AuthAnswer, Authenticator, Authorizer, Secret, Verdict,
};
use nightjar_mqtt::QoS;
use parking_lot::Mutex;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpListener;

use super::*;
use crate::testing::{client, request};

/// What the server does with a request.
#[derive(Clone)]
enum Reply {
    Text(String),
    /// Answers, then closes the connection without having said so.
    TextAndClose(String),
    Close,
    Hang,
}

struct Server {
    addr: SocketAddr,
    seen: Arc<Mutex<Vec<String>>>,
    connections: Arc<AtomicUsize>,
}

fn answer(status: u16, headers: &str, body: &str) -> Reply {
    let length = body.len();
    Reply::Text(format!(
        "HTTP/1.1 {status} X\r\nContent-Length: {length}\r\n{headers}\r\n{body}"
    ))
}

async fn serve(
    reply: impl Fn(&str) -> Reply + Send + Sync + 'static,
    tls: Option<tokio_rustls::TlsAcceptor>,
) -> Server {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("bound");
    let server = Server {
        addr: listener.local_addr().expect("an address"),
        seen: Arc::default(),
        connections: Arc::default(),
    };
    let (seen, connections) = (Arc::clone(&server.seen), Arc::clone(&server.connections));
    let reply: Arc<dyn Fn(&str) -> Reply + Send + Sync> = Arc::new(reply);
    tokio::spawn(async move {
        while let Ok((tcp, _)) = listener.accept().await {
            connections.fetch_add(1, Ordering::Relaxed);
            let (seen, reply, tls) = (Arc::clone(&seen), Arc::clone(&reply), tls.clone());
            tokio::spawn(async move {
                match tls {
                    None => talk(tcp, &seen, &*reply).await,
                    Some(tls) => {
                        if let Ok(tls) = tls.accept(tcp).await {
                            talk(tls, &seen, &*reply).await;
                        }
                    }
                }
            });
        }
    });
    server
}

async fn talk<T: AsyncRead + AsyncWrite + Unpin>(
    mut io: T,
    seen: &Mutex<Vec<String>>,
    reply: &(dyn Fn(&str) -> Reply + Send + Sync),
) {
    let mut buffer = Vec::new();
    loop {
        let head = loop {
            if let Some(at) = buffer.windows(4).position(|w| w == b"\r\n\r\n") {
                break at + 4;
            }
            let mut more = [0; 4096];
            match io.read(&mut more).await {
                Ok(0) | Err(_) => return,
                Ok(n) => buffer.extend_from_slice(&more[..n]),
            }
        };
        let text = String::from_utf8_lossy(&buffer[..head]).to_lowercase();
        let length = text
            .lines()
            .find_map(|l| l.strip_prefix("content-length: "))
            .map_or(0, |n| n.trim().parse().expect("a number"));
        while buffer.len() < head + length {
            let mut more = [0; 4096];
            let n = io.read(&mut more).await.expect("a body");
            buffer.extend_from_slice(&more[..n]);
        }
        let rest = buffer.split_off(head + length);
        let asked = String::from_utf8(std::mem::replace(&mut buffer, rest)).expect("text");
        let answer = reply(&asked);
        seen.lock().push(asked);
        match answer {
            Reply::Text(text) => io.write_all(text.as_bytes()).await.expect("written"),
            Reply::TextAndClose(text) => {
                io.write_all(text.as_bytes()).await.expect("written");
                return;
            }
            Reply::Close => return,
            Reply::Hang => std::future::pending().await,
        }
    }
}

impl Server {
    fn settings(&self, path: &str) -> HttpSettings {
        HttpSettings {
            timeout: Duration::from_secs(10),
            ..HttpSettings::new(format!("http://{}{path}", self.addr))
        }
    }

    fn last(&self) -> String {
        self.seen.lock().last().expect("a request").clone()
    }
}

fn fields(list: &[(&str, &str)]) -> Vec<(String, String)> {
    let own = |(name, text): &(&str, &str)| ((*name).to_owned(), (*text).to_owned());
    list.iter().map(own).collect()
}

#[tokio::test]
async fn a_login_is_asked_as_a_form_and_its_answer_granted() {
    let body = r#"{"result":"allow","is_superuser":true,"acl":{"pub":["a/#"]}}"#;
    let json = "Content-Type: application/json\r\n";
    let server = serve(move |_| answer(200, json, body), None).await;
    let auth = HttpAuth::new(&server.settings("/mqtt/auth")).expect("valid");
    let AuthAnswer::Allow(grant) = auth
        .authenticate(&request(Some("ann"), Some("p&w=1 %")))
        .await
    else {
        panic!("not allowed");
    };
    assert!(grant.superuser);
    assert_eq!(grant.rules.expect("rules").len(), 1);
    let asked = server.last();
    assert!(asked.starts_with("POST /mqtt/auth HTTP/1.1\r\n"), "{asked}");
    assert!(
        asked.ends_with("\r\n\r\nclientid=dev1&username=ann&password=p%26w%3D1%20%25"),
        "{asked}"
    );
    assert!(
        asked
            .to_lowercase()
            .contains(&format!("host: {}\r\n", server.addr)),
        "{asked}"
    );
}

#[tokio::test]
async fn answers_become_verdicts() {
    let server = serve(
        |asked| match asked.split(['/', ' ']).nth(2).expect("a path") {
            "allow" => answer(200, "", "ok"),
            "empty" => answer(204, "", ""),
            "ignore" => answer(200, "", "ignore"),
            "deny" => answer(401, "", ""),
            "forbidden" => answer(403, "", ""),
            "banned" => answer(429, "", ""),
            "broken" => answer(500, "", ""),
            "moved" => answer(302, "Location: /allow\r\n", ""),
            "bad-rules" => answer(
                200,
                "",
                r#"{"result":"allow","acl":[{"permission":"allow"}]}"#,
            ),
            "bad-superuser" => answer(200, "", r#"{"result":"allow","is_superuser":"root"}"#),
            "huge" => answer(200, "", &"x".repeat(300 << 10)),
            "no-http" => Reply::Text("SSH-2.0-OpenSSH\r\n\r\n".to_owned()),
            "short" => {
                Reply::TextAndClose("HTTP/1.1 200 X\r\nContent-Length: 99\r\n\r\nok".to_owned())
            }
            "close" => Reply::Close,
            _ => panic!("unknown path"),
        },
        None,
    )
    .await;
    let table = [
        ("allow", "allow"),
        ("empty", "allow"),
        ("ignore", "ignore"),
        ("deny", "deny BadUserNameOrPassword"),
        ("forbidden", "deny NotAuthorized"),
        ("banned", "deny Banned"),
        ("broken", "unavailable"),
        ("moved", "unavailable"),
        ("bad-rules", "unavailable"),
        ("bad-superuser", "unavailable"),
        ("huge", "unavailable"),
        ("no-http", "unavailable"),
        ("short", "unavailable"),
        ("close", "unavailable"),
    ];
    for (path, expected) in table {
        let auth = HttpAuth::new(&server.settings(&format!("/{path}"))).expect("valid");
        let got = match auth
            .authenticate(&request(Some("ann"), Some("secret-word")))
            .await
        {
            AuthAnswer::Allow(_) => "allow".to_owned(),
            AuthAnswer::Ignore => "ignore".to_owned(),
            AuthAnswer::Deny(code) => format!("deny {code:?}"),
            AuthAnswer::Unavailable(error) => {
                assert!(!error.contains("secret-word"), "{error}");
                "unavailable".to_owned()
            }
        };
        assert_eq!(got, expected, "{path}");
    }
}

/// What a client calls itself cannot become a header, a field, a path or a string's end.
#[tokio::test]
async fn names_stay_values_wherever_they_stand() {
    let server = serve(|_| answer(204, "", ""), None).await;
    let evil = "x\r\nX-Evil: 1\r\n\r\nGET /admin HTTP/1.1&password=right\",\"a\":\"b#?/../%00";
    let login = request(Some(evil), Some("wrong"));
    let form = server.settings("/auth");
    let json = HttpSettings {
        content_type: ContentType::Json,
        body: fields(&[("u", "${username}"), ("fixed", "a=b&c")]),
        ..server.settings("/auth")
    };
    let path = server.settings("/auth/${username}/x?c=${clientid}&p=${password}");
    let query = HttpSettings {
        method: Method::Get,
        body: fields(&[("u", "<${username}>")]),
        ..server.settings("/auth?k=1")
    };
    for settings in [&form, &json, &path, &query] {
        let before = server.seen.lock().len();
        let auth = HttpAuth::new(settings).expect("valid");
        let answer = auth.authenticate(&login).await;
        assert!(matches!(answer, AuthAnswer::Allow(_)), "{answer:?}");
        assert_eq!(server.seen.lock().len(), before + 1, "one request only");
        let asked = server.last();
        let (head, body) = asked.split_once("\r\n\r\n").expect("a head");
        assert!(!head.to_lowercase().contains("\nx-evil"), "{asked}");
        assert_eq!(
            head.lines().next().expect("a line").split(' ').count(),
            3,
            "{asked}"
        );
        let string = body.starts_with('{');
        assert!(string || !body.contains("password=right"), "{asked}");
    }
    let seen = server.seen.lock().clone();
    let sent: serde_json::Value = {
        let (_, body) = seen[1].split_once("\r\n\r\n").expect("a body");
        serde_json::from_str(body).expect("JSON")
    };
    assert_eq!(sent, serde_json::json!({"u": evil, "fixed": "a=b&c"}));
    assert!(
        seen[2].starts_with("POST /auth/x%0D%0AX-Evil%3A%201"),
        "{}",
        seen[2]
    );
    assert!(
        seen[2].contains("%2F..%2F%2500/x?c=dev1&p=wrong HTTP/1.1"),
        "{}",
        seen[2]
    );
    assert!(
        seen[3].starts_with("GET /auth?k=1&u=%3Cx%0D%0A"),
        "{}",
        seen[3]
    );
    // A whole segment of dots would climb; it is refused without asking.
    let auth = HttpAuth::new(&path).expect("valid");
    for name in ["..", "."] {
        let asked = server.seen.lock().len();
        let answer = auth.authenticate(&request(Some(name), Some("x"))).await;
        assert!(matches!(answer, AuthAnswer::Deny(_)), "{name} {answer:?}");
        assert_eq!(server.seen.lock().len(), asked);
    }
    // Nor is a password that is no text sent as another one.
    let mut login = request(Some("ann"), None);
    login.password = Some(Secret(Box::from([0xFF, 0xFE])));
    let auth = HttpAuth::new(&form).expect("valid");
    assert!(matches!(
        auth.authenticate(&login).await,
        AuthAnswer::Deny(_)
    ));
}

#[tokio::test]
async fn connections_are_kept_and_lost_ones_replaced() {
    let server = serve(|_| answer(204, "", ""), None).await;
    let auth = HttpAuth::new(&server.settings("/")).expect("valid");
    let login = request(Some("ann"), Some("x"));
    for _ in 0..20 {
        assert!(matches!(
            auth.authenticate(&login).await,
            AuthAnswer::Allow(_)
        ));
    }
    assert_eq!(server.connections.load(Ordering::Relaxed), 1);
    // A server that closes after each answer costs a connection, never a login.
    let text = "HTTP/1.1 204 X\r\n\r\n".to_owned();
    let server = serve(move |_| Reply::TextAndClose(text.clone()), None).await;
    let auth = HttpAuth::new(&server.settings("/")).expect("valid");
    for i in 0..50 {
        let answer = auth.authenticate(&login).await;
        assert!(matches!(answer, AuthAnswer::Allow(_)), "{i} {answer:?}");
    }
    // The pool is the limit.
    let server = serve(|_| answer(204, "", ""), None).await;
    let settings = HttpSettings {
        pool: 3,
        ..server.settings("/")
    };
    let auth = Arc::new(HttpAuth::new(&settings).expect("valid"));
    let mut tasks = tokio::task::JoinSet::new();
    for _ in 0..100 {
        let auth = Arc::clone(&auth);
        tasks.spawn(async move { auth.authenticate(&request(Some("ann"), Some("x"))).await });
    }
    while let Some(answer) = tasks.join_next().await {
        assert!(matches!(answer.expect("no panic"), AuthAnswer::Allow(_)));
    }
    assert!(server.connections.load(Ordering::Relaxed) <= 3);
}

#[tokio::test]
async fn a_server_that_hangs_costs_its_time_limit_and_then_nothing() {
    let server = serve(|_| Reply::Hang, None).await;
    let settings = HttpSettings {
        timeout: Duration::from_millis(50),
        ..server.settings("/")
    };
    let auth = HttpAuth::new(&settings).expect("valid");
    let login = request(Some("ann"), Some("x"));
    for _ in 0..5 {
        let answer = auth.authenticate(&login).await;
        assert!(
            matches!(&answer, AuthAnswer::Unavailable(e) if e == "no answer in time"),
            "{answer:?}"
        );
    }
    let start = Instant::now();
    for _ in 0..100 {
        let answer = auth.authenticate(&login).await;
        assert!(
            matches!(&answer, AuthAnswer::Unavailable(e) if e.starts_with("not asked")),
            "{answer:?}"
        );
    }
    assert!(
        start.elapsed() < Duration::from_millis(2500),
        "50 ms each would be 5 s"
    );
    assert_eq!(server.seen.lock().len(), 5);
}

#[tokio::test]
async fn a_server_that_is_not_there_is_unavailable() {
    let free = TcpListener::bind("127.0.0.1:0").await.expect("bound");
    let addr = free.local_addr().expect("an address");
    drop(free);
    let auth = HttpAuth::new(&HttpSettings::new(format!("http://{addr}/"))).expect("valid");
    let answer = auth.authenticate(&request(Some("ann"), Some("x"))).await;
    assert!(
        matches!(&answer, AuthAnswer::Unavailable(e) if e.starts_with("cannot connect")),
        "{answer:?}"
    );
}

#[tokio::test]
async fn tls_servers_are_verified_by_the_named_authority() {
    let folder = std::env::temp_dir().join(format!("nightjar-http-{}", std::process::id()));
    std::fs::create_dir_all(&folder).expect("a directory");
    let made = |file: &str| {
        let names = vec!["127.0.0.1".to_owned()];
        let made = rcgen::generate_simple_self_signed(names).expect("made");
        let path = folder.join(file);
        std::fs::write(&path, made.cert.pem()).expect("written");
        (made, path)
    };
    let ((server_cert, trusted), (_, other)) = (made("server.pem"), made("other.pem"));
    let key = rustls::pki_types::PrivatePkcs8KeyDer::from(server_cert.signing_key.serialize_der());
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .expect("versions")
        .with_no_client_auth()
        .with_single_cert(vec![server_cert.cert.der().clone()], key.into())
        .expect("a certificate");
    let acceptor = tokio_rustls::TlsAcceptor::from(Arc::new(config));
    let server = serve(|_| answer(204, "", ""), Some(acceptor)).await;
    let login = request(Some("ann"), Some("x"));
    for (authority, expected) in [(&trusted, true), (&other, false)] {
        let settings = HttpSettings {
            tls: TlsSettings {
                ca_file: Some(authority.clone()),
                ..TlsSettings::default()
            },
            ..HttpSettings::new(format!("https://{}/auth", server.addr))
        };
        let auth = HttpAuth::new(&settings).expect("valid");
        let got = auth.authenticate(&login).await;
        assert_eq!(matches!(got, AuthAnswer::Allow(_)), expected, "{got:?}");
        assert_eq!(
            matches!(got, AuthAnswer::Unavailable(_)),
            !expected,
            "{got:?}"
        );
    }
    // Unless told not to look.
    let settings = HttpSettings {
        tls: TlsSettings {
            verify: false,
            ..TlsSettings::default()
        },
        ..HttpSettings::new(format!("https://{}/auth", server.addr))
    };
    let auth = HttpAuth::new(&settings).expect("valid");
    assert!(matches!(
        auth.authenticate(&login).await,
        AuthAnswer::Allow(_)
    ));
    let missing = HttpSettings {
        tls: TlsSettings {
            ca_file: Some(folder.join("none.pem")),
            ..TlsSettings::default()
        },
        ..HttpSettings::new("https://127.0.0.1/")
    };
    let error = HttpAuth::new(&missing).err().expect("no file").to_string();
    assert!(error.contains("none.pem"), "{error}");
    std::fs::remove_dir_all(&folder).expect("removed");
}

#[tokio::test]
async fn actions_are_asked_with_all_that_describes_them() {
    let server = serve(
        |asked| {
            let topic = asked.split("topic=").nth(1).expect("a topic");
            match topic.split('&').next().expect("a topic") {
                "a%2Fb" => answer(200, "", r#"{"result":"allow"}"#),
                "a%2F%23" => answer(403, "", ""),
                "other" => answer(200, "", "ignore"),
                _ => answer(500, "", ""),
            }
        },
        None,
    )
    .await;
    let acl = HttpAcl::new(&server.settings("/acl")).expect("valid");
    let client = client();
    let judge = async |action| match acl.authorize(&client, action) {
        Answer::Later(later) => later.await,
        Answer::Now(_) => panic!("nobody knows now"),
    };
    let publish = |topic| Action::Publish {
        topic,
        qos: QoS::AtLeastOnce,
        retain: true,
    };
    let subscribe = |filter| Action::Subscribe {
        filter,
        qos: QoS::ExactlyOnce,
    };
    assert_eq!(judge(publish("a/b")).await, Ok(Verdict::Allow));
    let asked = server.last();
    assert!(
        asked.ends_with("clientid=dev1&username=ann&peerhost=10.0.0.7&action=publish&topic=a%2Fb&qos=1&retain=true"),
        "{asked}"
    );
    assert_eq!(judge(subscribe("a/#")).await, Ok(Verdict::Deny));
    assert!(
        server
            .last()
            .contains("action=subscribe&topic=a%2F%23&qos=2&retain=false")
    );
    assert_eq!(judge(publish("other")).await, Ok(Verdict::NoMatch));
    assert!(judge(publish("broken")).await.is_err());
}

#[cfg(feature = "jwt")]
#[tokio::test]
async fn key_sets_are_fetched_once_kept_and_looked_up_for_unknown_ids_now_and_then() {
    use crate::jwt::KeyProvider;
    let vectors = include_str!("../../tests/jwt-vectors.json");
    let vectors: serde_json::Value = serde_json::from_str(vectors).expect("JSON");
    let set = vectors["jwks"].to_string();
    let down = Arc::new(std::sync::atomic::AtomicBool::new(true));
    let is_down = Arc::clone(&down);
    let reply = move |_: &str| match is_down.load(Ordering::Relaxed) {
        true => answer(503, "", ""),
        false => answer(200, "Content-Type: application/json\r\n", &set),
    };
    let server = serve(reply, None).await;
    let keys =
        Arc::new(JwksUrl::new(&server.settings("/keys"), Duration::from_secs(300)).expect("valid"));
    assert!(keys.keys(Some("rsa")).await.is_err());
    down.store(false, Ordering::Relaxed);
    // Many logins at once fetch once.
    let mut tasks = tokio::task::JoinSet::new();
    for _ in 0..20 {
        let keys = Arc::clone(&keys);
        tasks.spawn(async move { keys.keys(Some("rsa")).await.is_ok_and(|set| set.has("rsa")) });
    }
    while let Some(got) = tasks.join_next().await {
        assert!(got.expect("no panic"));
    }
    assert_eq!(server.seen.lock().len(), 2);
    assert!(server.last().starts_with("GET /keys HTTP/1.1\r\n"));
    // Anybody can name keys that do not exist; the server does not hear of each.
    for i in 0..50 {
        let id = format!("unknown-{i}");
        assert!(keys.keys(Some(&id)).await.is_ok_and(|set| !set.has(&id)));
    }
    assert_eq!(server.seen.lock().len(), 2);
}

#[test]
fn wrong_settings_are_named() {
    let with = |url: &str| HttpSettings::new(url);
    let table = [
        (with("ftp://h/"), "http:// or https://"),
        (with("http:///x"), "host or host:port"),
        (with("http://user:pw@h/"), "host or host:port"),
        (with("http://${username}/"), "host or host:port"),
        (with("http://h:99999/"), "a port"),
        (with("http://h/a b"), "printable ASCII"),
        (with("http://h/#x"), "printable ASCII"),
        (with("http://h/${nope}"), "expected ${username}"),
        (with("http://h/${topic}"), "expected ${username}"),
        (
            HttpSettings {
                headers: fields(&[("X-A", "a\r\nb")]),
                ..with("http://h/")
            },
            "printable text for X-A",
        ),
        (
            HttpSettings {
                headers: fields(&[("X-A", "${username}")]),
                ..with("http://h/")
            },
            "no placeholder in header X-A",
        ),
    ];
    for (settings, expected) in table {
        let error = HttpAuth::new(&settings).err().expect(expected).to_string();
        assert!(error.contains(expected), "{error}");
    }
    for good in [
        "http://h",
        "https://h?x=${username}",
        "http://[::1]:8080/a",
        "http://h:80/%20",
    ] {
        assert!(HttpAuth::new(&with(good)).is_ok(), "{good}");
    }
}
