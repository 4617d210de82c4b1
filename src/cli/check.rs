//! `nightjar check`: everything that can be known without starting.
//!
//! Beyond the configuration itself: addresses can be bound, certificates and keys exist and belong together, the files
//! of users and rules are right, the system's limits suffice. What it opens it closes again; it writes nothing that stays.

use std::net::{SocketAddr, TcpListener, UdpSocket};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use nightjar_broker::Kept;
use nightjar_gateway::GatewayError;
use nightjar_gateway::tls::{self, TlsServer, TlsSettings};

use super::{exit, version};
use crate::config::model::{Tls, Verify};
use crate::config::{self, ConfigErrors, Loaded, Options, Problem};
use crate::ctl::{Client, SOCKET};
use crate::start::access;

/// File descriptors the process needs beside those of clients.
const OWN_FILES: u64 = 256;

/// Runs the command.
pub fn run(options: &Options) -> ExitCode {
    let (loaded, mut problems) = match config::read(options) {
        Ok(read) => read,
        Err(errors) => return exit::fail(exit::USAGE, errors),
    };
    let mut notes: Vec<String> = version::warnings(&loaded)
        .iter()
        .map(Problem::to_string)
        .collect();
    check_addresses(&loaded, &mut problems, &mut notes);
    check_certificates(&loaded, &mut problems);
    // Files of users and rules, keys, kinds that are not compiled in; nothing is asked over the network.
    if let Err(more) = access::load(&loaded, &access::Hashing::default(), &Kept::default()) {
        problems.extend(more);
    }
    check_directories(&loaded, &mut problems);
    check_limits(&loaded, &mut problems);
    let count = problems.len();
    if count > 0 {
        let plural = if count == 1 { "problem" } else { "problems" };
        exit::error(ConfigErrors(problems));
        anstream::eprintln!("{count} {plural}: a node with this configuration would not start");
        return ExitCode::from(exit::USAGE);
    }
    let file = loaded.file.as_ref().map_or_else(
        || "no file, defaults".to_owned(),
        |path| path.display().to_string(),
    );
    let notes: String = notes.iter().map(|note| format!("note: {note}\n")).collect();
    exit::print(&format!("{notes}configuration is right ({file})\n"))
}

/// A problem of a key of this configuration.
fn problem(loaded: &Loaded, key: &str, message: impl Into<String>) -> Problem {
    Problem::new(loaded.origin(key), key, message)
}

/// Binds each address for a moment.
fn check_addresses(loaded: &Loaded, problems: &mut Vec<Problem>, notes: &mut Vec<String>) {
    let config = &loaded.config;
    if Client::connect(&config.node.data_dir.join(SOCKET)).is_ok() {
        notes.push(
            "a node runs with this data_dir and holds its ports, so they were not tried".into(),
        );
        return;
    }
    let mut tcp: Vec<(String, SocketAddr)> = config
        .listeners
        .streams()
        .map(|it| (format!("{}.bind", it.key()), it.stream.bind.get()))
        .collect();
    let mut udp: Vec<(String, SocketAddr)> = config
        .listeners
        .datagrams()
        .map(|(name, it)| (format!("listeners.mqttsn.{name}.bind"), it.bind.get()))
        .collect();
    if config.api.enable {
        tcp.push(("api.bind".into(), config.api.bind.get()));
    }
    if config.cluster.opens_links() {
        tcp.push(("cluster.bind".into(), config.cluster.bind.get()));
        udp.push((
            "cluster.gossip_bind".into(),
            config.cluster.gossip_bind.get(),
        ));
    }
    // Where nothing will listen, nothing needs to be free.
    tcp.retain(|(key, _)| !version::without_effect(key));
    udp.retain(|(key, _)| !version::without_effect(key));
    // All are held until the last is tried: two keys with one address are found too.
    let mut held_tcp = Vec::new();
    let mut held_udp = Vec::new();
    for (key, address) in tcp {
        match TcpListener::bind(address) {
            Ok(socket) => held_tcp.push(socket),
            Err(error) => problems.push(bind_problem(loaded, &key, address, &error)),
        }
    }
    for (key, address) in udp {
        match UdpSocket::bind(address) {
            Ok(socket) => held_udp.push(socket),
            Err(error) => problems.push(bind_problem(loaded, &key, address, &error)),
        }
    }
}

fn bind_problem(
    loaded: &Loaded,
    key: &str,
    address: SocketAddr,
    error: &std::io::Error,
) -> Problem {
    let help = match error.kind() {
        std::io::ErrorKind::AddrInUse => {
            format!(
                "another program has this port (`ss -lntup` names it): stop it, or choose another with {key}"
            )
        }
        std::io::ErrorKind::PermissionDenied => {
            "ports below 1024 need root or CAP_NET_BIND_SERVICE".to_owned()
        }
        std::io::ErrorKind::AddrNotAvailable => {
            "this machine has no such address (`ip address` lists them)".to_owned()
        }
        _ => format!("choose another address with {key}"),
    };
    problem(loaded, key, format!("cannot listen on {address}: {error}")).help(help)
}

/// Loads certificates as a listener does.
fn check_certificates(loaded: &Loaded, problems: &mut Vec<Problem>) {
    for listener in loaded.config.listeners.streams() {
        let Some(tls) = listener.tls else { continue };
        let key = listener.key();
        if let Err(problem) = check_tls(loaded, &key, tls) {
            problems.push(problem);
        }
    }
    let cluster = &loaded.config.cluster.tls;
    for (name, file) in [
        ("cert_file", &cluster.cert_file),
        ("key_file", &cluster.key_file),
        ("ca_file", &cluster.ca_file),
    ] {
        if let Some(path) = file
            && let Err(error) = std::fs::File::open(path)
        {
            let key = format!("cluster.tls.{name}");
            problems.push(
                problem(
                    loaded,
                    &key,
                    format!("cannot read {}: {error}", path.display()),
                )
                .help("name a PEM file that this user may read"),
            );
        }
    }
}

fn check_tls(loaded: &Loaded, key: &str, tls: &Tls) -> Result<(), Problem> {
    // A certificate that the start would make is made in a directory that goes away again.
    let scratch = Scratch::new();
    let settings = TlsSettings {
        cert_file: tls.cert_file.clone(),
        key_file: tls.key_file.clone(),
        ca_file: tls.ca_file.clone(),
        verify: match tls.verify {
            Verify::None => tls::Verify::None,
            Verify::Peer => tls::Verify::Peer,
        },
        fail_if_no_peer_cert: tls.fail_if_no_peer_cert,
        crl_file: tls.crl_file.clone(),
        sni: tls
            .sni
            .iter()
            .map(|pair| tls::SniCertificate {
                cert_file: pair.cert_file.clone(),
                key_file: pair.key_file.clone(),
            })
            .collect(),
        data_dir: scratch.0.clone(),
        ..TlsSettings::default()
    };
    match TlsServer::load(key, &settings, &[]) {
        Ok(_) => Ok(()),
        Err(error) => Err(gateway_problem(loaded, error)),
    }
}

/// What a listener that cannot start says, with the place of its key and the next step; for `serve` too.
pub fn gateway_problem(loaded: &Loaded, error: GatewayError) -> Problem {
    let help = "`nightjar certs show FILE` says what a file holds; `nightjar certs server` makes a certificate";
    match error {
        GatewayError::Bind {
            key,
            address,
            source,
        } => bind_problem(loaded, &key, address, &source),
        GatewayError::Certificate { key, path, reason } => {
            problem(loaded, &key, format!("{}: {reason}", path.display())).help(help)
        }
        GatewayError::Setting { key, reason } => {
            let explain = format!("`nightjar config explain {key}` says what it may be");
            problem(loaded, &key, reason).help(explain)
        }
        other => problem(loaded, "node.data_dir", other.to_string())
            .help("look at its permissions and free space"),
    }
}

/// A directory for the time of one check.
struct Scratch(PathBuf);

impl Scratch {
    fn new() -> Self {
        Self(std::env::temp_dir().join(format!("nightjar-check-{}", std::process::id())))
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        // It exists only if a certificate was made; a leftover in the temporary directory harms nobody.
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// Directories that are written to.
fn check_directories(loaded: &Loaded, problems: &mut Vec<Problem>) {
    let data_dir = &loaded.config.node.data_dir;
    if let Err(why) = writable(data_dir) {
        problems.push(
            problem(
                loaded,
                "node.data_dir",
                format!("{}: {why}", data_dir.display()),
            )
            .help("name a directory that this user may write to"),
        );
    }
    if let Some(file) = &loaded.config.log.file {
        let parent = file
            .parent()
            .filter(|parent| !parent.as_os_str().is_empty())
            .unwrap_or(Path::new("."));
        if let Err(why) = writable(parent) {
            problems.push(
                problem(loaded, "log.file", format!("{}: {why}", parent.display()))
                    .help("name a file in a directory that this user may write to"),
            );
        }
    }
}

/// Whether a directory can be written to, or made.
fn writable(path: &Path) -> Result<(), String> {
    let mut nearest = path;
    while !nearest.exists() {
        nearest = match nearest.parent() {
            Some(parent) if !parent.as_os_str().is_empty() => parent,
            _ => Path::new("."),
        };
    }
    if !nearest.is_dir() {
        return Err(format!("{} is not a directory", nearest.display()));
    }
    let probe = nearest.join(format!(".nightjar-check-{}", std::process::id()));
    std::fs::File::create_new(&probe).map_err(|error| error.to_string())?;
    std::fs::remove_file(&probe).map_err(|error| error.to_string())
}

/// Open files that the system allows against the clients that the listeners promise.
fn check_limits(loaded: &Loaded, problems: &mut Vec<Problem>) {
    let Some(hard) = hard_file_limit() else {
        return;
    };
    let promised: Vec<(String, u64)> = loaded
        .config
        .listeners
        .streams()
        .filter_map(|it| {
            Some((
                format!("{}.max_connections", it.key()),
                u64::from(it.stream.max_connections.get()?),
            ))
        })
        .collect();
    let total: u64 = promised.iter().map(|(_, count)| count).sum();
    if let Some((key, _)) = promised.iter().max_by_key(|(_, count)| *count)
        && total + OWN_FILES > hard
    {
        let message = format!(
            "the listeners promise {total} connections, and this process may open {hard} files"
        );
        problems
            .push(problem(loaded, key, message).help(
                "raise the limit (LimitNOFILE=1048576, ulimit -Hn) or lower max_connections",
            ));
    }
}

/// The hard limit of open files of this process; `None` where there is none or the system does not tell.
fn hard_file_limit() -> Option<u64> {
    let limits = std::fs::read_to_string("/proc/self/limits").ok()?;
    let line = limits
        .lines()
        .find(|line| line.starts_with("Max open files"))?;
    line.split_whitespace().nth(4)?.parse().ok()
}
