//! What a full TLS 1.3 handshake costs the server with each provider, in memory: no sockets, one thread.
//!
//!     nightjar certs ca --out /tmp/tls && nightjar certs server localhost --out /tmp/tls
//!     cargo run --release -- /tmp/tls 2000
//!
//! The client is ring's for both. Processor time of the thread inside of the server's calls, in turns; the least and the median
//! of ten turns, so that a busy machine moves them little. Besides: sealing and opening 16 KiB records.

#![forbid(unsafe_code)]

use rustix::time::{ClockId, clock_gettime};
use rustls::crypto::{CryptoProvider, aws_lc_rs, ring};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{ClientConfig, ClientConnection, RootCertStore, ServerConfig, ServerConnection};
use std::error::Error;
use std::io::{Read, Write};
use std::path::Path;
use std::sync::Arc;

type Result<T> = std::result::Result<T, Box<dyn Error>>;

const TURNS: usize = 10;

fn main() -> Result<()> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let [folder, count] = args.as_slice() else {
        return Err("usage: nightjar-tls-providers FOLDER HANDSHAKES".into());
    };
    let (folder, count) = (Path::new(folder), count.parse::<usize>()?);
    let client = client(folder)?;
    let servers = [
        ("ring", server(folder, ring::default_provider())?),
        ("aws-lc-rs", server(folder, aws_lc_rs::default_provider())?),
    ];
    let mut shakes = vec![Vec::new(); servers.len()];
    let mut bulks = vec![Vec::new(); servers.len()];
    for _ in 0..TURNS {
        for (at, (_, server)) in servers.iter().enumerate() {
            let mut spent = 0;
            for _ in 0..count / TURNS {
                spent += handshake(&client, server)?.0;
            }
            shakes[at].push(spent as f64 / (count / TURNS) as f64 / 1e3);
            bulks[at].push(bulk(&client, server)?);
        }
    }
    for (at, (name, _)) in servers.iter().enumerate() {
        for (what, values) in [
            ("us for a handshake", &mut shakes[at]),
            ("ns for a KiB received", &mut bulks[at]),
        ] {
            values.sort_by(f64::total_cmp);
            println!(
                "{name:<10} {:8.1} least {:8.1} median  {what}",
                values[0],
                values[values.len() / 2]
            );
        }
    }
    Ok(())
}

fn client(folder: &Path) -> Result<Arc<ClientConfig>> {
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_file(folder.join("ca.crt"))?)?;
    let mut config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()?
        .with_root_certificates(roots)
        .with_no_client_auth();
    config.resumption = rustls::client::Resumption::disabled();
    Ok(Arc::new(config))
}

fn server(folder: &Path, provider: CryptoProvider) -> Result<Arc<ServerConfig>> {
    let chain = CertificateDer::pem_file_iter(folder.join("server.crt"))?
        .collect::<std::result::Result<Vec<_>, _>>()?;
    let key = PrivateKeyDer::from_pem_file(folder.join("server.key"))?;
    let config = ServerConfig::builder_with_provider(Arc::new(provider))
        .with_safe_default_protocol_versions()?
        .with_no_client_auth()
        .with_single_cert(chain, key)?;
    Ok(Arc::new(config))
}

/// Nanoseconds of the server, and both ends.
fn handshake(
    client: &Arc<ClientConfig>,
    server: &Arc<ServerConfig>,
) -> Result<(u64, ClientConnection, ServerConnection)> {
    let mut spent = 0;
    let mut client = ClientConnection::new(client.clone(), ServerName::try_from("localhost")?)?;
    let begin = now();
    let mut server = ServerConnection::new(server.clone())?;
    spent += now() - begin;
    let mut bytes = Vec::new();
    while client.is_handshaking() || server.is_handshaking() || server.wants_write() {
        bytes.clear();
        while client.wants_write() {
            client.write_tls(&mut bytes)?;
        }
        let mut unread = bytes.as_slice();
        let mut answer = Vec::new();
        let begin = now();
        while !unread.is_empty() {
            server.read_tls(&mut unread)?;
            server.process_new_packets()?;
        }
        while server.wants_write() {
            server.write_tls(&mut answer)?;
        }
        spent += now() - begin;
        let mut unread = answer.as_slice();
        while !unread.is_empty() {
            client.read_tls(&mut unread)?;
            client.process_new_packets()?;
        }
    }
    Ok((spent, client, server))
}

/// Nanoseconds of the server for each KiB that it receives in full records.
fn bulk(client: &Arc<ClientConfig>, server: &Arc<ServerConfig>) -> Result<f64> {
    let (_, mut client, mut server) = handshake(client, server)?;
    let (mut wire, mut plain, mut spent) = (Vec::new(), vec![0; 16 * 1024], 0);
    for _ in 0..500 {
        client.writer().write_all(&plain)?;
        wire.clear();
        while client.wants_write() {
            client.write_tls(&mut wire)?;
        }
        let mut unread = wire.as_slice();
        let begin = now();
        let mut got = 0;
        while !unread.is_empty() {
            server.read_tls(&mut unread)?;
            server.process_new_packets()?;
        }
        while got < plain.len() {
            let rest = &mut plain[got..];
            got += server.reader().read(rest)?;
        }
        spent += now() - begin;
    }
    Ok(spent as f64 / (500.0 * 16.0))
}

/// Processor time of this thread.
fn now() -> u64 {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    time.tv_sec as u64 * 1_000_000_000 + time.tv_nsec as u64
}
