//! HTTP on the WebSocket ports.

use std::net::SocketAddr;

use nightjar_gateway::ListenerKind;
use nightjar_gateway::listener::Refused;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;

use crate::clients::{Tls, read_to_end, websocket};
use crate::node::{Node, settings};

async fn get(address: SocketAddr, request: &str) -> String {
    let mut client = TcpStream::connect(address).await.unwrap();
    client.write_all(request.as_bytes()).await.unwrap();
    String::from_utf8(read_to_end(&mut client).await).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn status_is_a_health_check_on_both_kinds() {
    let request = "GET /status HTTP/1.1\r\nHost: x\r\n\r\n";
    let body = "\r\n\r\nNode test is started\nnightjar is running\n";
    let node = Node::start(settings(ListenerKind::Ws));
    let answer = get(node.address(), request).await;
    assert!(
        answer.starts_with("HTTP/1.1 200 OK\r\n") && answer.ends_with(body),
        "{answer}"
    );
    let secure = Node::start(settings(ListenerKind::Wss));
    let mut client = Tls::from_file(&secure.ca_file())
        .connect(secure.address(), "localhost")
        .await
        .unwrap();
    client.write_all(request.as_bytes()).await.unwrap();
    let answer = String::from_utf8(read_to_end(&mut client).await).unwrap();
    assert!(answer.ends_with(body), "{answer}");
    for node in [node, secure] {
        let state = node.state();
        crate::node::until(
            || state.counters().health_checks() == 1,
            || "not counted".into(),
        )
        .await;
        assert_eq!(node.refused(Refused::Http), 0);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_endless_request_head_is_answered_and_not_kept() {
    let node = Node::start(settings(ListenerKind::Ws));
    let mut client = TcpStream::connect(node.address()).await.unwrap();
    client
        .write_all(b"GET /mqtt HTTP/1.1\r\nX: ")
        .await
        .unwrap();
    let (mut reader, mut writer) = client.split();
    let flood = async {
        let junk = [b'a'; 4096];
        let mut sent = 0usize;
        while let Ok(()) = writer.write_all(&junk).await {
            sent += junk.len();
            if sent > 64 << 20 {
                break;
            }
        }
        sent
    };
    let (answer, sent) = tokio::join!(read_to_end(&mut reader), flood);
    assert!(
        answer.starts_with(b"HTTP/1.1 431 "),
        "{}",
        String::from_utf8_lossy(&answer)
    );
    // Socket buffers take some megabytes; a server that read on would have taken everything.
    assert!(sent < 32 << 20, "{sent}");
    node.wait_refused(Refused::Http, 1).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn forwarding_headers_count_only_from_trusted_proxies() {
    let client = "192.0.2.7, 203.0.113.5";
    let mut trusting = settings(ListenerKind::Ws);
    trusting.proxy.trusted = vec!["127.0.0.0/8".parse().unwrap()];
    for (listener, proxied) in [(settings(ListenerKind::Ws), false), (trusting, true)] {
        let mut node = Node::start(listener);
        let tcp = TcpStream::connect(node.address()).await.unwrap();
        let own = tcp.local_addr().unwrap();
        let headers = [("X-Forwarded-For", client), ("X-Forwarded-Port", "4711")];
        let _stream = websocket(tcp, "/mqtt", &headers).await.unwrap();
        let seen = node.next().await;
        let expected = if proxied {
            "203.0.113.5:4711".parse().unwrap()
        } else {
            own
        };
        assert_eq!((seen.peer, seen.proxied), (expected, proxied));
        // Whoever wrote the header, this is not somebody on this machine.
        assert!(!seen.loopback);
        assert!(seen.http.unwrap().forwarded);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn headers_that_contradict_each_other_are_refused() {
    let mut listener = settings(ListenerKind::Ws);
    listener.proxy.trusted = vec!["127.0.0.1".parse().unwrap()];
    let node = Node::start(listener);
    let tcp = TcpStream::connect(node.address()).await.unwrap();
    let headers = [
        ("X-Forwarded-For", "192.0.2.7"),
        ("Forwarded", "for=127.0.0.1"),
    ];
    assert!(websocket(tcp, "/mqtt", &headers).await.is_err());
    node.wait_refused(Refused::Http, 1).await;
}
