//! Requests and their answers.

use std::net::IpAddr;

use super::*;

const UPGRADE: &str = "Host: x\r\nUpgrade: websocket\r\nConnection: keep-alive, Upgrade\r\n\
    Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n";

fn status() -> StatusSource {
    Arc::new(|| StatusAnswer {
        healthy: true,
        text: "Node n1 is started\nnightjar is running\n".into(),
    })
}

/// Sends a request (in two pieces) and returns the outcome and the whole answer.
async fn ask(
    settings: &WsSettings,
    status: &StatusSource,
    request: &str,
) -> (Result<Upgraded, WsFailure>, String) {
    let (mut client, mut server) = tokio::io::duplex(64 * 1024);
    let (first, second) = request.as_bytes().split_at(request.len() / 2);
    client.write_all(first).await.unwrap();
    client.write_all(second).await.unwrap();
    client.shutdown().await.unwrap();
    let outcome = accept(&mut server, settings, status, None::<fn(IpAddr) -> bool>).await;
    drop(server);
    let mut answer = String::new();
    client.read_to_string(&mut answer).await.unwrap();
    (outcome, answer)
}

fn request(path: &str, more: &str) -> String {
    format!("GET {path} HTTP/1.1\r\n{UPGRADE}{more}\r\n")
}

#[tokio::test]
async fn paths_are_exact_when_set_and_forgiving_by_default() {
    let default = WsSettings::default();
    let strict = WsSettings {
        lenient: false,
        ..WsSettings::default()
    };
    let set = WsSettings {
        path: WsPath::Exact("/iot/mqtt".into()),
        ..WsSettings::default()
    };
    let rows = [
        (&default, "/mqtt", 101),
        (&default, "/", 101),
        (&default, "/ws", 101),
        (&default, "/mqtt?token=1", 101),
        (&default, "/mqtt/", 404),
        (&default, "/MQTT", 404),
        (&default, "/other", 404),
        (&strict, "/mqtt", 101),
        (&strict, "/", 404),
        (&strict, "/ws", 404),
        (&strict, "/mqtt?a=b", 404),
        (&set, "/iot/mqtt", 101),
        (&set, "/mqtt", 404),
        (&set, "/", 404),
        (&set, "/iot", 404),
    ];
    for (settings, path, expected) in rows {
        let (outcome, answer) = ask(settings, &status(), &request(path, "")).await;
        assert!(
            answer.starts_with(&format!("HTTP/1.1 {expected} ")),
            "{path}: {answer}"
        );
        match outcome {
            Ok(upgraded) => assert_eq!(upgraded.info.path, path.split('?').next().unwrap()),
            Err(WsFailure::Answered(code)) => assert_eq!(code, expected),
            Err(other) => panic!("{other}"),
        }
    }
}

#[tokio::test]
async fn the_chosen_subprotocol_is_echoed_exactly() {
    let rows = [
        ("", Some(None)),
        ("Sec-WebSocket-Protocol: mqtt\r\n", Some(Some("mqtt"))),
        (
            "Sec-WebSocket-Protocol: mqttv3.1\r\n",
            Some(Some("mqttv3.1")),
        ),
        (
            "Sec-WebSocket-Protocol: mqttv3.1.1\r\n",
            Some(Some("mqttv3.1.1")),
        ),
        ("Sec-WebSocket-Protocol: mqtt-v5\r\n", Some(Some("mqtt-v5"))),
        ("Sec-WebSocket-Protocol: MQTT\r\n", Some(Some("MQTT"))),
        (
            "Sec-WebSocket-Protocol: mqttv3.1, mqtt\r\n",
            Some(Some("mqttv3.1")),
        ),
        ("Sec-WebSocket-Protocol: chat, mqtt\r\n", Some(Some("mqtt"))),
        (
            "Sec-WebSocket-Protocol: chat\r\nSec-WebSocket-Protocol: mqtt\r\n",
            Some(Some("mqtt")),
        ),
        ("Sec-WebSocket-Protocol: chat\r\n", None),
        ("Sec-WebSocket-Protocol: mqttx\r\n", None),
        ("Sec-WebSocket-Protocol: mqtt-\r\n", None),
    ];
    for (header, expected) in rows {
        let (outcome, answer) =
            ask(&WsSettings::default(), &status(), &request("/mqtt", header)).await;
        let echoed = answer
            .lines()
            .find_map(|line| line.strip_prefix("Sec-WebSocket-Protocol: "));
        match expected {
            Some(name) => {
                assert_eq!(
                    outcome.unwrap().info.subprotocol.as_deref(),
                    name,
                    "{header}"
                );
                assert_eq!(echoed, name, "{header}");
                // The example of RFC 6455 section 1.3.
                assert!(answer.contains("Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n"));
            }
            None => assert!(
                answer.starts_with("HTTP/1.1 400 ") && outcome.is_err(),
                "{header}"
            ),
        }
    }
}

#[tokio::test]
async fn what_is_no_proper_upgrade_has_its_status() {
    let without = |line: &str| request("/mqtt", "").replace(line, "");
    let long = format!("X: {}\r\n", "a".repeat(MAX_HEAD));
    let rows = [
        (
            "plain GET",
            "GET /mqtt HTTP/1.1\r\nHost: x\r\n\r\n".to_owned(),
            426,
        ),
        (
            "HTTP/1.0",
            request("/mqtt", "").replace("HTTP/1.1", "HTTP/1.0"),
            426,
        ),
        (
            "no Connection",
            without("Connection: keep-alive, Upgrade\r\n"),
            426,
        ),
        (
            "old version",
            request("/mqtt", "").replace("Version: 13", "Version: 8"),
            426,
        ),
        (
            "no key",
            without("Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"),
            400,
        ),
        (
            "short key",
            request("/mqtt", "").replace("dGhlIHNhbXBsZSBub25jZQ==", "abc="),
            400,
        ),
        ("POST", request("/mqtt", "").replace("GET ", "POST "), 405),
        ("HEAD", request("/mqtt", "").replace("GET ", "HEAD "), 405),
        (
            "header with a space",
            request("/mqtt", "Bad Header: 1\r\n"),
            400,
        ),
        ("folded nonsense", request("/mqtt", ": 1\r\n"), 400),
        ("large", request("/mqtt", &long), 431),
        ("many", request("/mqtt", &"A: b\r\n".repeat(70)), 431),
        (
            "unknown page",
            "GET /favicon.ico HTTP/1.1\r\nHost: x\r\n\r\n".to_owned(),
            404,
        ),
    ];
    for (name, request, expected) in rows {
        let (outcome, answer) = ask(&WsSettings::default(), &status(), &request).await;
        assert!(
            answer.starts_with(&format!("HTTP/1.1 {expected} ")),
            "{name}: {answer}"
        );
        assert!(
            matches!(outcome, Err(WsFailure::Answered(code)) if code == expected),
            "{name}"
        );
        let body = answer.split_once("\r\n\r\n").unwrap().1;
        assert!(
            answer.contains(&format!("Content-Length: {}\r\n", body.len())),
            "{name}: {answer}"
        );
    }
}

#[tokio::test]
async fn origins_are_checked_when_listed() {
    let listed = WsSettings {
        allowed_origins: Some(vec!["https://example.com".into()]),
        ..WsSettings::default()
    };
    let browsers_only = WsSettings {
        allow_origin_absence: false,
        ..listed.clone()
    };
    let rows = [
        (
            &WsSettings::default(),
            "Origin: https://evil.example\r\n",
            101,
        ),
        (&listed, "Origin: https://example.com\r\n", 101),
        (&listed, "Origin: HTTPS://Example.com\r\n", 101),
        (&listed, "Origin: https://example.com.evil\r\n", 403),
        (&listed, "Origin: http://example.com\r\n", 403),
        (&listed, "", 101),
        (&browsers_only, "", 403),
    ];
    for (settings, header, expected) in rows {
        let (_, answer) = ask(settings, &status(), &request("/mqtt", header)).await;
        assert!(
            answer.starts_with(&format!("HTTP/1.1 {expected} ")),
            "{header}: {answer}"
        );
    }
}

#[tokio::test]
async fn status_answers_balancers() {
    let ask = async |source: &StatusSource, method: &str| {
        let request = format!("{method} /status HTTP/1.1\r\nHost: x\r\n\r\n");
        ask(&WsSettings::default(), source, &request).await.1
    };
    let up = ask(&status(), "GET").await;
    assert!(up.starts_with("HTTP/1.1 200 OK\r\n"));
    assert!(up.ends_with("\r\n\r\nNode n1 is started\nnightjar is running\n"));
    assert!(ask(&status(), "HEAD").await.ends_with("\r\n\r\n"));
    let down: StatusSource = Arc::new(|| StatusAnswer {
        healthy: false,
        text: "starting\n".into(),
    });
    assert!(ask(&down, "GET").await.starts_with("HTTP/1.1 503 "));
}

#[tokio::test]
async fn other_protocols_and_silence_are_told_apart() {
    let outcome = async |bytes: &[u8]| {
        let (mut client, mut server) = tokio::io::duplex(4096);
        client.write_all(bytes).await.unwrap();
        client.shutdown().await.unwrap();
        accept(
            &mut server,
            &WsSettings::default(),
            &status(),
            None::<fn(IpAddr) -> bool>,
        )
        .await
        .unwrap_err()
    };
    assert!(matches!(outcome(b"").await, WsFailure::Closed(true)));
    assert!(matches!(
        outcome(b"GET / HT").await,
        WsFailure::Closed(false)
    ));
    assert!(matches!(
        outcome(&[0x16, 3, 1, 2, 0]).await,
        WsFailure::Spoken(Spoken::Tls)
    ));
    assert!(matches!(
        outcome(&[0x10, 12, 0, 4]).await,
        WsFailure::Spoken(Spoken::Mqtt)
    ));
    assert!(matches!(outcome(&[0xFF, 0xFE]).await, WsFailure::Garbage));
}

#[tokio::test]
async fn frames_behind_the_request_are_kept() {
    let (outcome, _) = ask(
        &WsSettings::default(),
        &status(),
        &(request("/mqtt", "") + "early"),
    )
    .await;
    assert_eq!(outcome.unwrap().rest, b"early");
}
