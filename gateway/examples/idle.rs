//! How much memory an idle connection holds: `cargo run --release --example idle -- tcp|tls|ws|wss [COUNT]`.
//!
//! The clients live in a child process, so that only the listener's side is measured. The connection's task is the
//! smallest there can be: it waits for a byte.

use std::future::poll_fn;
use std::io::{BufRead, BufReader, Read, Write};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use nightjar_gateway::websocket::StatusAnswer;
use nightjar_gateway::{Accepted, ListenerKind, ListenerSettings, Listeners, Workers};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use tokio::io::AsyncReadExt;
use tokio::net::TcpStream;

type Outcome<T> = Result<T, Box<dyn std::error::Error>>;

fn main() -> Outcome<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let kind = match arguments.first().map(String::as_str) {
        Some("tls") => ListenerKind::Tls,
        Some("ws") => ListenerKind::Ws,
        Some("wss") => ListenerKind::Wss,
        _ => ListenerKind::Tcp,
    };
    let count: usize = arguments.get(1).map_or(Ok(10_000), |text| text.parse())?;
    match arguments.get(2) {
        Some(address) => clients(
            kind,
            count,
            address.parse()?,
            arguments.get(3).map(String::as_str),
        ),
        None => server(kind, count),
    }
}

fn resident() -> Outcome<usize> {
    let statm = std::fs::read_to_string("/proc/self/statm")?;
    Ok(statm.split(' ').nth(1).unwrap_or("0").parse::<usize>()? * 4096)
}

/// User and system time of this process in seconds.
fn cpu() -> Outcome<f64> {
    let stat = std::fs::read_to_string("/proc/self/stat")?;
    let fields: Vec<&str> = stat
        .rsplit(')')
        .next()
        .unwrap_or("")
        .split_whitespace()
        .collect();
    let ticks = |index: usize| {
        fields
            .get(index)
            .and_then(|text| text.parse::<f64>().ok())
            .unwrap_or(0.0)
    };
    Ok((ticks(11) + ticks(12)) / 100.0)
}

fn server(kind: ListenerKind, count: usize) -> Outcome<()> {
    let workers = Workers::start(0)?;
    let dir = std::env::temp_dir().join(format!("nightjar-idle-{}", std::process::id()));
    let mut settings: ListenerSettings = ListenerSettings::new(kind, "idle");
    settings.bind = vec!["127.0.0.1:0".parse()?];
    settings.tls.data_dir = dir.clone();
    settings.max_handshakes = count;
    let status = Arc::new(|| StatusAnswer {
        healthy: true,
        text: String::new(),
    });
    let bound = Listeners::bind(vec![settings], &(status as _))?;
    let address = bound.addresses()[0].1;
    let listeners = bound.start(&workers, |accepted: Accepted| async move {
        let Accepted {
            mut transport,
            listener,
            slot,
            ..
        } = accepted;
        drop(slot);
        loop {
            // The buffer must not be part of the task while it waits.
            let read = poll_fn(|cx| transport.poll_read(cx, &mut [0; 512])).await;
            if !matches!(read, Ok(n) if n > 0) {
                break;
            }
        }
        drop(listener);
    });
    let (memory, time) = (resident()?, cpu()?);
    let mut child = Command::new(std::env::current_exe()?)
        .args([kind.as_str(), &count.to_string(), &address.to_string()])
        .arg(dir.join("certs/ca.crt"))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()?;
    let mut line = String::new();
    BufReader::new(child.stdout.take().ok_or("no stdout")?).read_line(&mut line)?;
    #[allow(clippy::disallowed_methods, reason = "this thread is no worker")]
    std::thread::sleep(Duration::from_secs(2));
    let connections = listeners.status()[0].state.counters().connections();
    println!(
        "{kind}: {connections} connections, {} bytes each, {:.1} us CPU each to connect",
        resident()?.saturating_sub(memory) / connections.max(1),
        (cpu()? - time) * 1e6 / connections.max(1) as f64
    );
    drop(child.stdin.take());
    child.wait()?;
    workers.stop(Duration::from_secs(5));
    std::fs::remove_dir_all(dir).ok();
    Ok(())
}

fn clients(
    kind: ListenerKind,
    count: usize,
    address: std::net::SocketAddr,
    ca: Option<&str>,
) -> Outcome<()> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    let kept = runtime.block_on(async {
        let mut kept: Vec<Box<dyn Send>> = Vec::new();
        let connector = match ca.filter(|_| kind.is_tls()) {
            Some(ca) => {
                let mut roots = rustls::RootCertStore::empty();
                roots.add(CertificateDer::from_pem_file(ca)?)?;
                let config = rustls::ClientConfig::builder()
                    .with_root_certificates(roots)
                    .with_no_client_auth();
                Some(tokio_rustls::TlsConnector::from(Arc::new(config)))
            }
            None => None,
        };
        for _ in 0..count {
            let tcp = TcpStream::connect(address).await?;
            match (&connector, kind.is_websocket()) {
                (None, false) => kept.push(Box::new(tcp)),
                (None, true) => kept.push(Box::new(websocket(tcp).await?)),
                (Some(connector), websocket_too) => {
                    let mut tls = connector
                        .connect(ServerName::try_from("localhost")?, tcp)
                        .await?;
                    if websocket_too {
                        kept.push(Box::new(websocket(tls).await?));
                    } else {
                        // Takes in the session ticket.
                        let _ = tokio::time::timeout(Duration::from_millis(1), tls.read_u8()).await;
                        kept.push(Box::new(tls));
                    }
                }
            }
        }
        Outcome::Ok(kept)
    })?;
    println!("ready");
    std::io::stdout().flush()?;
    std::io::stdin().read_to_end(&mut Vec::new())?;
    drop(kept);
    Ok(())
}

async fn websocket<S>(io: S) -> Outcome<tokio_tungstenite::WebSocketStream<S>>
where
    S: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin,
{
    let (stream, _) = tokio_tungstenite::client_async("ws://localhost/mqtt", io).await?;
    Ok(stream)
}
