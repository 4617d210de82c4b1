//! The PROXY protocol on every kind of listener, and what pretends to be it.

use std::time::Duration;

use nightjar_gateway::listener::{ProxyMode, Refused};
use nightjar_gateway::{ListenerKind, ListenerSettings};
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;

use crate::clients::{Tls, echoed, pattern, read_to_end, websocket};
use crate::node::{Node, settings};

const V1: &[u8] = b"PROXY TCP4 192.0.2.1 198.51.100.2 5000 1883\r\n";
const MQTT: &[u8] = b"\x10\x0C\x00\x04MQTT\x04\x02\x00\x3C\x00\x00";

fn v2(command: u8, tlvs: &[u8]) -> Vec<u8> {
    let mut bytes = b"\r\n\r\n\0\r\nQUIT\n".to_vec();
    bytes.extend_from_slice(&[command, 0x11]);
    bytes.extend_from_slice(&(12 + tlvs.len() as u16).to_be_bytes());
    bytes.extend_from_slice(&[192, 0, 2, 1, 198, 51, 100, 2, 0x13, 0x88, 0x07, 0x5B]);
    bytes.extend_from_slice(tlvs);
    bytes
}

/// TLVs of a proxy that verified a client's certificate: unique id `q1`, CN `meter-7`.
fn tls_tlvs() -> Vec<u8> {
    let cn = b"\x22\x00\x07meter-7";
    let mut bytes = b"\x05\x00\x02q1\x20".to_vec();
    bytes.extend_from_slice(&(5 + cn.len() as u16).to_be_bytes());
    bytes.extend_from_slice(&[7, 0, 0, 0, 0]);
    bytes.extend_from_slice(cn);
    bytes
}

fn behind(kind: ListenerKind, mode: ProxyMode, trusted: &str) -> ListenerSettings {
    let mut settings = settings(kind);
    settings.proxy.mode = mode;
    settings.proxy.trusted = vec![trusted.parse().unwrap()];
    settings.proxy.timeout = Duration::from_millis(300);
    settings
}

#[tokio::test(flavor = "multi_thread")]
async fn one_port_serves_proxied_and_direct_clients() {
    let mut node = Node::start(behind(
        ListenerKind::Tcp,
        ProxyMode::Optional,
        "127.0.0.0/8",
    ));
    for header in [
        V1.to_vec(),
        v2(0x21, &[]),
        v2(0x21, &tls_tlvs()),
        Vec::new(),
    ] {
        let mut client = TcpStream::connect(node.address()).await.unwrap();
        // One write: the header must not swallow what follows it.
        echoed_after(&mut client, &header).await;
        let seen = node.next().await;
        if header.is_empty() {
            assert_eq!(
                (seen.peer, seen.proxied),
                (client.local_addr().unwrap(), false)
            );
        } else {
            assert_eq!(
                (seen.peer.to_string().as_str(), seen.proxied),
                ("192.0.2.1:5000", true)
            );
            assert_eq!(seen.local.to_string(), "198.51.100.2:1883");
        }
        if header.windows(7).any(|bytes| bytes == b"meter-7") {
            let identity = seen.identity.unwrap();
            assert_eq!(
                (identity.common_name.as_deref(), identity.via_proxy),
                (Some("meter-7"), true)
            );
            assert_eq!(seen.unique_id.as_deref(), Some(&b"q1"[..]));
        } else {
            assert!(seen.identity.is_none());
        }
        // The loopback rule does not hold where proxies are.
        assert!(!seen.loopback);
    }
}

async fn echoed_after(client: &mut TcpStream, header: &[u8]) {
    let data = pattern(2000);
    client.write_all(&[header, MQTT].concat()).await.unwrap();
    let mut back = vec![0; MQTT.len()];
    tokio::io::AsyncReadExt::read_exact(client, &mut back)
        .await
        .unwrap();
    assert_eq!(back, MQTT);
    echoed(client, &data).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_header_in_single_bytes_is_a_header() {
    let mut node = Node::start(behind(ListenerKind::Tcp, ProxyMode::Required, "127.0.0.1"));
    for header in [V1.to_vec(), v2(0x21, &tls_tlvs())] {
        let mut client = TcpStream::connect(node.address()).await.unwrap();
        client.set_nodelay(true).unwrap();
        for byte in &header[..header.len() - 1] {
            client.write_all(&[*byte]).await.unwrap();
            tokio::time::sleep(Duration::from_micros(300)).await;
        }
        echoed_after(&mut client, &header[header.len() - 1..]).await;
        assert_eq!(node.next().await.peer.to_string(), "192.0.2.1:5000");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn headers_precede_tls_and_websocket() {
    let mut node = Node::start(behind(ListenerKind::Wss, ProxyMode::Required, "127.0.0.1"));
    let mut tcp = TcpStream::connect(node.address()).await.unwrap();
    tcp.write_all(&v2(0x21, &[])).await.unwrap();
    let tls = Tls::from_file(&node.ca_file())
        .over(tcp, "localhost")
        .await
        .unwrap();
    let _client = websocket(tls, "/mqtt", &[]).await.unwrap();
    let seen = node.next().await;
    assert_eq!(
        (seen.peer.to_string().as_str(), seen.loopback),
        ("192.0.2.1:5000", false)
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn local_and_port_checks_are_silent_and_a_client_behind_local_is_served() {
    let mut node = Node::start(behind(ListenerKind::Tcp, ProxyMode::Required, "127.0.0.1"));
    let mut client = TcpStream::connect(node.address()).await.unwrap();
    echoed_after(&mut client, &v2(0x20, &[])).await;
    let seen = node.next().await;
    assert!(seen.health_check && !seen.proxied && !seen.loopback);
    assert_eq!(seen.peer, client.local_addr().unwrap());
    drop(TcpStream::connect(node.address()).await.unwrap());
    let state = node.state();
    crate::node::until(
        || state.counters().health_checks() == 1,
        || "not counted".into(),
    )
    .await;
    for reason in Refused::ALL {
        assert_eq!(node.refused(reason), 0, "{reason:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn attacks_end_at_the_listener_and_are_counted() {
    let elsewhere = "10.0.0.0/8";
    let here = "127.0.0.0/8";
    let long = [b"PROXY TCP4 ".to_vec(), vec![b'1'; 300]].concat();
    let rows: Vec<(&str, ProxyMode, &str, Vec<u8>, Refused)> = vec![
        (
            "untrusted v1",
            ProxyMode::Optional,
            elsewhere,
            V1.to_vec(),
            Refused::ProxyUntrusted,
        ),
        (
            "untrusted v2",
            ProxyMode::Optional,
            elsewhere,
            v2(0x21, &[]),
            Refused::ProxyUntrusted,
        ),
        (
            "untrusted local",
            ProxyMode::Optional,
            elsewhere,
            v2(0x20, &[]),
            Refused::ProxyUntrusted,
        ),
        (
            "untrusted half",
            ProxyMode::Optional,
            elsewhere,
            b"PROX".to_vec(),
            Refused::ProxyUntrusted,
        ),
        (
            "untrusted, required",
            ProxyMode::Required,
            elsewhere,
            V1.to_vec(),
            Refused::ProxyUntrusted,
        ),
        (
            "untrusted direct, required",
            ProxyMode::Required,
            elsewhere,
            MQTT.to_vec(),
            Refused::ProxyUntrusted,
        ),
        (
            "no header, required",
            ProxyMode::Required,
            here,
            MQTT.to_vec(),
            Refused::ProxyHeader,
        ),
        (
            "silence",
            ProxyMode::Required,
            here,
            Vec::new(),
            Refused::ProxyHeader,
        ),
        (
            "half a header",
            ProxyMode::Required,
            here,
            V1[..20].to_vec(),
            Refused::ProxyHeader,
        ),
        (
            "half a header, optional",
            ProxyMode::Optional,
            here,
            v2(0x21, &[])[..20].to_vec(),
            Refused::ProxyHeader,
        ),
        (
            "malformed",
            ProxyMode::Optional,
            here,
            b"PROXY TCP4 x y 1 2\r\n".to_vec(),
            Refused::ProxyHeader,
        ),
        (
            "endless line",
            ProxyMode::Optional,
            here,
            long,
            Refused::ProxyHeader,
        ),
        (
            "wrong version",
            ProxyMode::Optional,
            here,
            v2(0x31, &[]),
            Refused::ProxyHeader,
        ),
        (
            "tlv beyond the end",
            ProxyMode::Optional,
            here,
            v2(0x21, &[5, 0, 9]),
            Refused::ProxyHeader,
        ),
    ];
    for (name, mode, trusted, bytes, reason) in rows {
        let mut node = Node::start(behind(ListenerKind::Tcp, mode, trusted));
        let mut client = TcpStream::connect(node.address()).await.unwrap();
        client.write_all(&bytes).await.unwrap();
        assert_eq!(read_to_end(&mut client).await, b"", "{name}");
        node.wait_refused(reason, 1).await;
        node.wait_connections(0).await;
        assert!(node.seen.try_recv().is_err(), "{name}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_header_on_a_port_without_proxies_is_just_a_strange_first_packet() {
    let mut node = Node::start(settings(ListenerKind::Tcp));
    let mut client = TcpStream::connect(node.address()).await.unwrap();
    echoed(&mut client, V1).await;
    let seen = node.next().await;
    assert_eq!(
        (seen.peer, seen.proxied),
        (client.local_addr().unwrap(), false)
    );
}
