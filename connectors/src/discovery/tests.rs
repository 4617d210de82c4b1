//! Discovery against servers that answer as etcd and Kubernetes do. Real ones: `tests/cluster/discovery.py`.

use std::sync::Arc;

use parking_lot::Mutex;
use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

use super::*;

/// Answers each request with what `answer` makes of its head and body, and keeps what was asked.
async fn server(
    answer: impl Fn(&str, &str) -> (u16, String) + Send + Sync + 'static,
) -> (String, Arc<Mutex<Vec<String>>>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let asked: Arc<Mutex<Vec<String>>> = Arc::default();
    let noted = asked.clone();
    tokio::spawn(async move {
        loop {
            let Ok((mut stream, _)) = listener.accept().await else {
                return;
            };
            let mut request = Vec::new();
            let (head, body) = loop {
                let mut piece = [0; 4096];
                let len = stream.read(&mut piece).await.unwrap();
                assert!(len > 0, "cut off");
                request.extend_from_slice(&piece[..len]);
                let text = String::from_utf8(request.clone()).unwrap();
                let Some((head, body)) = text.split_once("\r\n\r\n") else {
                    continue;
                };
                let wanted = head
                    .lines()
                    .find_map(|line| {
                        line.to_lowercase()
                            .strip_prefix("content-length: ")?
                            .parse()
                            .ok()
                    })
                    .unwrap_or(0);
                if body.len() >= wanted {
                    break (head.to_owned(), body.to_owned());
                }
            };
            noted.lock().push(head.clone());
            let (status, text) = answer(&head, &body);
            let out = format!(
                "HTTP/1.1 {status} x\r\ncontent-length: {}\r\nconnection: close\r\n\r\n{text}",
                text.len()
            );
            stream.write_all(out.as_bytes()).await.unwrap();
        }
    });
    (url, asked)
}

fn etcd(servers: Vec<String>, user: Option<(String, String)>) -> Etcd {
    Etcd::new(EtcdSettings {
        servers,
        prefix: "/nightjar/".to_owned(),
        cluster: "c".to_owned(),
        node: "a".to_owned(),
        user,
        ttl: Duration::from_secs(60),
        ca_file: None,
    })
}

#[tokio::test]
async fn a_lease_that_is_over_is_taken_anew_and_the_next_server_is_asked() {
    let over = Arc::new(std::sync::atomic::AtomicBool::new(false));
    let flag = over.clone();
    let (url, asked) = server(move |head, body| {
        let said = match head.split(' ').nth(1).unwrap() {
            "/v3/auth/authenticate" => {
                assert_eq!(body, r#"{"name":"u","password":"p"}"#);
                json!({ "token": "secret" })
            }
            "/v3/lease/grant" => json!({ "ID": "77", "TTL": "60" }),
            "/v3/lease/keepalive" if flag.load(std::sync::atomic::Ordering::SeqCst) => {
                json!({ "result": { "ID": "77" } })
            }
            "/v3/lease/keepalive" => json!({ "result": { "ID": "77", "TTL": "60" } }),
            // "10.0.0.1:5369", what is no address, and what is no base64.
            "/v3/kv/range" => json!({ "kvs": [
                { "value": "MTAuMC4wLjE6NTM2OQ==" }, { "value": "eA==" }, { "value": "?" }, {}
            ] }),
            _ => json!({}),
        };
        (200, said.to_string())
    })
    .await;
    let user = Some(("u".to_owned(), "p".to_owned()));
    let etcd = etcd(vec!["http://127.0.0.1:1".to_owned(), url], user);
    let grants = || {
        let asked = asked.lock();
        asked
            .iter()
            .filter(|head| head.contains("/lease/grant"))
            .count()
    };
    for expected in [1, 1] {
        let found = etcd.find("10.0.0.1:5369").await.unwrap();
        assert_eq!(found, ["10.0.0.1:5369"]);
        assert_eq!(grants(), expected);
    }
    over.store(true, std::sync::atomic::Ordering::SeqCst);
    etcd.find("10.0.0.1:5369").await.unwrap();
    assert_eq!(grants(), 2);
    let with_token = |head: &&String| head.to_lowercase().contains("authorization: secret");
    let all = asked.lock().clone();
    let open = all.iter().filter(|head| !head.contains("/auth/"));
    assert!(open.clone().count() > 0 && open.clone().filter(with_token).count() == open.count());
}

#[tokio::test]
async fn what_a_server_refuses_is_told_in_words() {
    let (url, _) = server(|_, _| (403, "{\"message\":\"no\u{7}t you\"}".to_owned())).await;
    let error = etcd(vec![url.clone()], None).find("a:1").await.unwrap_err();
    assert!(
        error.contains("answers 403: {\"message\":\"not you\"}"),
        "{error}"
    );
    let error = etcd(Vec::new(), None).find("a:1").await.unwrap_err();
    assert!(error.contains("no server is named"), "{error}");
    let token = std::env::temp_dir().join(format!("nightjar-k8s-token-{}", std::process::id()));
    let mut settings = KubernetesSettings {
        api: url,
        service: "nightjar".to_owned(),
        namespace: Some("default".to_owned()),
        token_file: token.clone(),
        ca_file: token.clone(),
        port: 5369,
    };
    let error = Kubernetes::new(settings.clone()).find().await.unwrap_err();
    assert!(error.contains(&token.display().to_string()), "{error}");
    std::fs::write(&token, "the token\n").unwrap();
    let error = Kubernetes::new(settings.clone()).find().await.unwrap_err();
    assert!(error.contains("answers 403"), "{error}");
    settings.namespace = None;
    let error = Kubernetes::new(settings).find().await.unwrap_err();
    assert!(error.contains("namespace"), "{error}");
    std::fs::remove_file(token).unwrap();
}
