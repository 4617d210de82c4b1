//! Binding, starting and stopping, and the limits before MQTT.

use std::net::{Ipv6Addr, SocketAddr, TcpListener as StdListener};
use std::time::{Duration, Instant};

use nightjar_gateway::listener::{ListenerSettings, ProxyMode, Refused, resolve_bind};
use nightjar_gateway::{GatewayError, ListenerKind, Listeners};
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;

use crate::clients::{echoed, read_to_end};
use crate::node::{Node, settings, status};

#[tokio::test(flavor = "multi_thread")]
async fn a_port_in_use_names_key_and_address_and_leaves_nothing_bound() {
    let holder = StdListener::bind("127.0.0.1:0").unwrap();
    let taken = holder.local_addr().unwrap();
    let free = StdListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap();
    let mut first = settings(ListenerKind::Tcp);
    first.bind = vec![free];
    let mut second = settings(ListenerKind::Ws);
    second.name = "extra".into();
    second.bind = vec![taken];
    let error = Listeners::bind(vec![first, second], &status()).unwrap_err();
    assert_eq!(
        error.to_string(),
        format!(
            "listeners.ws.extra.bind: cannot listen on {taken}: the port is in use by another process"
        )
    );
    // The first one was let go.
    StdListener::bind(free).unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn settings_that_cannot_work_are_refused_by_key() {
    let refused = |listener: ListenerSettings| match Listeners::bind(vec![listener], &status()) {
        Err(GatewayError::Setting { key, .. }) => key,
        other => panic!("{other:?}"),
    };
    let with = |kind, change: &dyn Fn(&mut ListenerSettings)| {
        let mut listener = settings(kind);
        change(&mut listener);
        refused(listener)
    };
    use ListenerKind::{Tcp, Tls, Ws};
    assert_eq!(with(Tcp, &|l| l.bind.clear()), "listeners.tcp.default.bind");
    assert_eq!(
        with(Tcp, &|l| l.proxy.mode = ProxyMode::Required),
        "listeners.tcp.default.trusted_proxies"
    );
    assert_eq!(
        with(Tcp, &|l| l.max_connections = Some(0)),
        "listeners.tcp.default.max_connections"
    );
    assert_eq!(
        with(Tcp, &|l| l.backlog = 0),
        "listeners.tcp.default.backlog"
    );
    assert_eq!(
        with(Ws, &|l| l.websocket.path = exact("mqtt")),
        "listeners.ws.default.path"
    );
    assert_eq!(
        with(Ws, &|l| l.websocket.path = exact("/status")),
        "listeners.ws.default.path"
    );
    assert_eq!(
        with(Tls, &|l| l.tls.cert_file = Some("x".into())),
        "listeners.tls.default.key_file"
    );
    let mut twin = settings(Ws);
    let mut one = settings(Tcp);
    one.bind = vec!["127.0.0.1:47123".parse().unwrap()];
    twin.bind = one.bind.clone();
    let error = Listeners::bind(vec![one, twin], &status())
        .unwrap_err()
        .to_string();
    assert_eq!(
        error,
        "listeners.ws.default.bind: 127.0.0.1:47123 is also the address of listeners.tcp.default.bind"
    );
}

fn exact(path: &str) -> nightjar_gateway::websocket::WsPath {
    nightjar_gateway::websocket::WsPath::Exact(path.into())
}

#[test]
fn bind_values_have_the_forms_people_write() {
    let one = |text: &str| resolve_bind(text).map(|found| found[0].to_string());
    assert_eq!(one("0.0.0.0:1883").as_deref(), Ok("0.0.0.0:1883"));
    assert_eq!(one("[::]:1883").as_deref(), Ok("[::]:1883"));
    assert_eq!(one(":1883").as_deref(), Ok("0.0.0.0:1883"));
    assert_eq!(one("1883").as_deref(), Ok("0.0.0.0:1883"));
    assert!(
        resolve_bind("localhost:1883")
            .unwrap()
            .iter()
            .all(|address| address.ip().is_loopback())
    );
    for text in ["", "0.0.0.0", "0.0.0.0:99999", "127.0.0.1:", "[::1]"] {
        assert!(resolve_bind(text).is_err(), "{text}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn both_address_families_listen_on_one_port() {
    if StdListener::bind((Ipv6Addr::LOCALHOST, 0)).is_err() {
        eprintln!("skipped: this machine has no IPv6 loopback");
        return;
    }
    let port = StdListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap()
        .port();
    let mut both = settings(ListenerKind::Tcp);
    both.bind = vec![
        SocketAddr::from(([0, 0, 0, 0], port)),
        SocketAddr::from((Ipv6Addr::UNSPECIFIED, port)),
    ];
    let mut node = Node::start(both);
    for target in ["127.0.0.1", "::1"] {
        let mut client = TcpStream::connect((target, port)).await.unwrap();
        echoed(&mut client, b"x").await;
        assert_eq!(node.next().await.peer.ip().to_string(), target);
    }
    // Alone, the IPv6 address takes IPv4 clients, and shows them as such.
    let mut dual = settings(ListenerKind::Tcp);
    dual.bind = vec![SocketAddr::from((Ipv6Addr::UNSPECIFIED, 0))];
    let mut node = Node::start(dual);
    let mut client = TcpStream::connect(("127.0.0.1", node.address().port()))
        .await
        .unwrap();
    echoed(&mut client, b"x").await;
    let seen = node.next().await;
    assert_eq!(
        (seen.peer.ip().to_string().as_str(), seen.loopback),
        ("127.0.0.1", true)
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn listeners_stop_and_start_by_name_and_connections_live_on() {
    let node = Node::start(settings(ListenerKind::Tcp));
    let mut client = TcpStream::connect(node.address()).await.unwrap();
    echoed(&mut client, b"before").await;
    node.listeners.stop("tcp:default").await.unwrap();
    assert!(!node.listeners.status()[0].running);
    assert!(TcpStream::connect(node.address()).await.is_err());
    echoed(&mut client, b"still there").await;
    assert_eq!(
        node.listeners.start("tcp:default").unwrap(),
        [node.address()]
    );
    assert!(matches!(
        node.listeners.start("tcp:default"),
        Err(GatewayError::AlreadyRunning(_))
    ));
    let mut second = TcpStream::connect(node.address()).await.unwrap();
    echoed(&mut second, b"again").await;
    assert!(matches!(
        node.listeners.stop("tcp:none").await,
        Err(GatewayError::UnknownListener(_))
    ));
    node.listeners.stop_all().await;
    node.listeners.stop_all().await;
    assert!(TcpStream::connect(node.address()).await.is_err());
}

#[tokio::test(flavor = "multi_thread")]
async fn connections_above_the_limit_are_closed_and_counted() {
    let mut limited = settings(ListenerKind::Tcp);
    limited.max_connections = Some(2);
    let node = Node::start(limited);
    let mut kept = Vec::new();
    for _ in 0..2 {
        let mut client = TcpStream::connect(node.address()).await.unwrap();
        echoed(&mut client, b"in").await;
        kept.push(client);
    }
    let mut third = TcpStream::connect(node.address()).await.unwrap();
    assert_eq!(read_to_end(&mut third).await, b"");
    node.wait_refused(Refused::MaxConnections, 1).await;
    kept.pop();
    node.wait_connections(1).await;
    let mut fourth = TcpStream::connect(node.address()).await.unwrap();
    echoed(&mut fourth, b"in").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn connects_above_the_rate_are_closed_and_counted() {
    let mut limited = settings(ListenerKind::Tcp);
    limited.max_connect_rate = Some(20);
    let mut node = Node::start(limited);
    let begun = Instant::now();
    for _ in 0..200 {
        drop(TcpStream::connect(node.address()).await.unwrap());
    }
    let state = node.state();
    crate::node::until(
        || state.counters().accepted() == 200,
        || "not all accepted".into(),
    )
    .await;
    let allowed = 200 - node.refused(Refused::ConnectRate);
    let most = 20 + 20 * (begun.elapsed().as_secs() + 1);
    assert!((20..=most).contains(&allowed), "{allowed}");
    for _ in 0..allowed {
        node.next().await;
    }
    tokio::time::sleep(Duration::from_millis(200)).await;
    let mut later = TcpStream::connect(node.address()).await.unwrap();
    echoed(&mut later, b"in").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_handshake_that_drips_is_ended_in_time_and_takes_no_place_for_ever() {
    for kind in [ListenerKind::Tls, ListenerKind::Ws, ListenerKind::Wss] {
        let mut limited = settings(kind);
        limited.handshake_timeout = Duration::from_millis(400);
        limited.max_handshakes = 3;
        let node = Node::start(limited);
        let first: &[u8] = if kind == ListenerKind::Ws {
            b"GET /mqtt HTTP/1.1\r\n"
        } else {
            &[0x16, 3, 1, 2, 0]
        };
        let begun = Instant::now();
        let mut slow = Vec::new();
        for _ in 0..3 {
            let mut client = TcpStream::connect(node.address()).await.unwrap();
            client.write_all(first).await.unwrap();
            slow.push(client);
        }
        let state = node.state();
        crate::node::until(
            || state.counters().handshakes() == 3,
            || format!("{:?}", state.counters()),
        )
        .await;
        let mut fourth = TcpStream::connect(node.address()).await.unwrap();
        assert_eq!(read_to_end(&mut fourth).await, b"");
        assert_eq!(node.refused(Refused::MaxHandshakes), 1, "{kind}");
        // One byte each 50 ms does not keep it alive.
        let mut dripped = 0;
        while begun.elapsed() < Duration::from_secs(5) && slow[0].write_all(b"a").await.is_ok() {
            dripped += 1;
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        assert!(
            begun.elapsed() < Duration::from_secs(4),
            "{kind}: {dripped} bytes"
        );
        node.wait_refused(Refused::HandshakeTimeout, 3).await;
        node.wait_connections(0).await;
        assert_eq!(node.state().counters().handshakes(), 0);
    }
}

/// Resident memory of this process in bytes.
fn resident() -> usize {
    let statm = std::fs::read_to_string("/proc/self/statm").unwrap();
    statm.split(' ').nth(1).unwrap().parse::<usize>().unwrap() * 4096
}

#[cfg(target_os = "linux")]
#[tokio::test(flavor = "multi_thread")]
async fn what_has_not_finished_its_handshake_holds_little_memory() {
    const CLIENTS: usize = 300;
    for (kind, sent) in [
        (
            ListenerKind::Ws,
            [b"GET /mqtt HTTP/1.1\r\nX: ".to_vec(), vec![b'a'; 7000]].concat(),
        ),
        // A record that announces 16 KiB, and most of it.
        (
            ListenerKind::Tls,
            [vec![0x16, 3, 1, 0x40, 0, 1, 0, 0x3F, 0xF0], vec![0; 15_000]].concat(),
        ),
    ] {
        let node = Node::start(settings(kind));
        let before = resident();
        let mut clients = Vec::new();
        for _ in 0..CLIENTS {
            let mut client = TcpStream::connect(node.address()).await.unwrap();
            client.write_all(&sent).await.unwrap();
            clients.push(client);
        }
        let state = node.state();
        crate::node::until(
            || state.counters().handshakes() == CLIENTS,
            || format!("{:?}", state.counters()),
        )
        .await;
        tokio::time::sleep(Duration::from_millis(300)).await;
        let each = resident().saturating_sub(before) / CLIENTS;
        // The clients' own sockets live in this process too.
        assert!(each < 64 * 1024, "{kind}: {each} bytes a connection");
        assert_eq!(state.counters().handshakes(), CLIENTS);
    }
}

/// Set in the process that runs with few file descriptors.
const FEW_FILES: &str = "NIGHTJAR_TEST_FEW_FILES";

#[cfg(target_os = "linux")]
#[test]
fn used_up_file_descriptors_are_counted_and_survived() {
    let this = std::env::current_exe().unwrap();
    let output = std::process::Command::new("sh")
        .args([
            "-c",
            "ulimit -n 60 && exec \"$0\" --exact limits::in_a_process_with_few_files --nocapture",
        ])
        .arg(this)
        .env(FEW_FILES, "1")
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(
        output.status.success() && said.contains("survived"),
        "{said}{}",
        String::from_utf8_lossy(&output.stderr)
    );
}

/// The other half of the test before; in any other process it has nothing to prove.
#[tokio::test(flavor = "multi_thread")]
async fn in_a_process_with_few_files() {
    if std::env::var_os(FEW_FILES).is_none() {
        return;
    }
    let node = Node::start(settings(ListenerKind::Tcp));
    let state = node.state();
    let mut clients = Vec::new();
    while let Ok(client) = TcpStream::connect(node.address()).await {
        clients.push(client);
        tokio::time::sleep(Duration::from_millis(2)).await;
        assert!(clients.len() < 60);
    }
    // The last one of them waits in the backlog, or the next one will.
    if state.counters().accept_errors() == 0 {
        clients.pop();
        clients.push(TcpStream::connect(node.address()).await.unwrap());
    }
    crate::node::until(
        || state.counters().accept_errors() > 0,
        || format!("{:?}", state.counters()),
    )
    .await;
    let errors = state.counters().accept_errors();
    tokio::time::sleep(Duration::from_millis(500)).await;
    // It pauses between attempts instead of spinning.
    assert!(
        state.counters().accept_errors() - errors < 60,
        "{:?}",
        state.counters()
    );
    clients.drain(..clients.len() / 2);
    let mut last = clients.pop().unwrap();
    echoed(&mut last, b"served after all").await;
    println!("survived");
}
