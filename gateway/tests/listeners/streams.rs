//! The same bytes through all four kinds of listener.

use futures_util::{SinkExt, StreamExt};
use nightjar_gateway::ListenerKind;
use nightjar_gateway::listener::Refused;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use tokio_tungstenite::tungstenite::Message;

use crate::clients::{Tls, echoed, pattern, read_to_end, websocket};
use crate::node::{Node, settings};

#[tokio::test(flavor = "multi_thread")]
async fn tcp_echoes_and_counts_its_connections() {
    let mut node = Node::start(settings(ListenerKind::Tcp));
    let mut client = TcpStream::connect(node.address()).await.unwrap();
    let seen = node.next().await;
    assert_eq!(seen.peer, client.local_addr().unwrap());
    assert_eq!(seen.local, node.address());
    assert!(seen.loopback && !seen.proxied && seen.nodelay && seen.http.is_none());
    for length in [1, 2, 1000, 300_000] {
        echoed(&mut client, &pattern(length)).await;
    }
    assert_eq!(node.state().counters().connections(), 1);
    drop(client);
    node.wait_connections(0).await;
    assert_eq!(
        (
            node.state().counters().accepted(),
            node.state().counters().handshakes()
        ),
        (1, 0)
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn tls_echoes_in_both_versions_with_the_certificate_made_at_first_start() {
    let mut node = Node::start(settings(ListenerKind::Tls));
    let ca = std::fs::read_to_string(node.ca_file()).unwrap();
    for version in [&rustls::version::TLS12, &rustls::version::TLS13] {
        let tls = Tls::new(&ca, None, &[version]);
        for name in ["localhost", "127.0.0.1", "::1"] {
            let mut client = tls.connect(node.address(), name).await.unwrap();
            assert_eq!(client.get_ref().1.protocol_version(), Some(version.version));
            echoed(&mut client, &pattern(100_000)).await;
            let seen = node.next().await;
            assert!(seen.loopback && seen.identity.is_none() && seen.nodelay);
        }
    }
    node.wait_connections(0).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn websocket_joins_what_frames_split() {
    // A buffer of 7 bytes: frames, headers and masks fall anywhere in it.
    let mut node = Node::with_scratch(vec![settings(ListenerKind::Ws)], 7).unwrap();
    let tcp = TcpStream::connect(node.address()).await.unwrap();
    let mut client = websocket(tcp, "/mqtt", &[("Sec-WebSocket-Protocol", "mqtt")])
        .await
        .unwrap();
    let seen = node.next().await;
    assert_eq!(seen.http.unwrap().subprotocol.as_deref(), Some("mqtt"));
    let data = pattern(5000);
    let mut from = 0;
    for length in [1, 0, 124, 125, 126, 127, 1, 1, 2000, 495, 2000] {
        client
            .feed(Message::Binary(data[from..from + length].to_vec().into()))
            .await
            .unwrap();
        from += length;
    }
    client.flush().await.unwrap();
    let mut back = Vec::new();
    while back.len() < data.len() {
        match client.next().await.unwrap().unwrap() {
            Message::Binary(part) => back.extend_from_slice(&part),
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(back, data);
}

#[tokio::test(flavor = "multi_thread")]
async fn secure_websocket_carries_large_messages_answers_ping_and_closes_in_order() {
    let mut node = Node::start(settings(ListenerKind::Wss));
    let tls = Tls::from_file(&node.ca_file()).alpn(&[b"http/1.1"]);
    let stream = tls.connect(node.address(), "localhost").await.unwrap();
    assert_eq!(stream.get_ref().1.alpn_protocol(), Some(&b"http/1.1"[..]));
    let mut client = websocket(stream, "/ws", &[("Sec-WebSocket-Protocol", "mqttv3.1")])
        .await
        .unwrap();
    assert!(node.next().await.loopback);
    let data = pattern(200_000);
    client
        .send(Message::Binary(data.clone().into()))
        .await
        .unwrap();
    client
        .send(Message::Ping("are you there".into()))
        .await
        .unwrap();
    let (mut back, mut pong) = (Vec::new(), false);
    while back.len() < data.len() || !pong {
        match client.next().await.unwrap().unwrap() {
            Message::Binary(part) => back.extend_from_slice(&part),
            Message::Pong(payload) => pong = payload == "are you there",
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(back, data);
    client.close(None).await.unwrap();
    assert!(matches!(client.next().await, Some(Ok(Message::Close(_)))));
    node.wait_connections(0).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn text_frames_end_the_connection_with_1003() {
    let node = Node::start(settings(ListenerKind::Ws));
    let tcp = TcpStream::connect(node.address()).await.unwrap();
    let mut client = websocket(tcp, "/", &[]).await.unwrap();
    client.send(Message::Text("hello".into())).await.unwrap();
    match client.next().await.unwrap().unwrap() {
        Message::Close(Some(frame)) => assert_eq!(u16::from(frame.code), 1003),
        other => panic!("{other:?}"),
    }
    node.wait_connections(0).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn another_protocol_on_a_port_is_counted_and_closed() {
    let tls_hello = [0x16, 3, 1, 0, 5, 1, 0, 0, 1, 3];
    let mqtt = b"\x10\x0C\x00\x04MQTT\x04\x02\x00\x3C\x00\x00";
    let rows: [(ListenerKind, &[u8]); 5] = [
        (ListenerKind::Tls, mqtt),
        (ListenerKind::Tls, b"GET / HTTP/1.1\r\n\r\n"),
        (ListenerKind::Wss, mqtt),
        (ListenerKind::Ws, mqtt),
        (ListenerKind::Ws, &tls_hello),
    ];
    for (kind, bytes) in rows {
        let node = Node::start(settings(kind));
        let mut client = TcpStream::connect(node.address()).await.unwrap();
        client.write_all(bytes).await.unwrap();
        assert_eq!(read_to_end(&mut client).await, b"", "{kind}");
        node.wait_refused(Refused::WrongProtocol, 1).await;
        node.wait_connections(0).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_port_check_is_silent_on_every_kind_with_a_handshake() {
    for kind in [ListenerKind::Tls, ListenerKind::Ws, ListenerKind::Wss] {
        let node = Node::start(settings(kind));
        drop(TcpStream::connect(node.address()).await.unwrap());
        let state = node.state();
        crate::node::until(
            || state.counters().health_checks() == 1,
            || format!("{kind}"),
        )
        .await;
        for reason in Refused::ALL {
            assert_eq!(node.refused(reason), 0, "{kind} {reason:?}");
        }
    }
}
