//! By DNS: addresses of a name, or services with their ports.

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use ring::rand::{SecureRandom, SystemRandom};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpStream, UdpSocket};
use tokio::time::timeout;

use super::wire::{self, Answer, Record};
use super::{Discovery, Finding};

/// How long a server may take.
const PATIENCE: Duration = Duration::from_secs(2);
/// Nodes that are taken from one answer.
const MOST: usize = 1000;

/// The kind of record that names the nodes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DnsRecord {
    /// A and AAAA: addresses, all with this port.
    Address(u16),
    /// SRV: names and ports.
    Service,
}

/// Asks DNS.
#[derive(Debug, Clone)]
pub struct Dns {
    /// The name that is asked.
    pub name: String,
    /// For what.
    pub record: DnsRecord,
    /// Who is asked; empty: the system's servers.
    pub servers: Vec<SocketAddr>,
}

impl Discovery for Dns {
    fn find<'a>(&'a self, _own: &'a str) -> Finding<'a> {
        Box::pin(self.ask())
    }
}

impl Dns {
    async fn ask(&self) -> Result<Vec<String>, String> {
        match self.record {
            DnsRecord::Address(port) => {
                let found = self.addresses(&self.name, port).await?;
                Ok(found.into_iter().collect())
            }
            DnsRecord::Service => {
                let mut all = BTreeSet::new();
                for record in self.records(&self.name, wire::SRV).await? {
                    if let Record::Service { port, target } = record {
                        match self.addresses(&target, port).await {
                            Ok(found) => all.extend(found),
                            Err(error) => tracing::debug!(%error, "a service without an address"),
                        }
                    }
                }
                Ok(all.into_iter().take(MOST).collect())
            }
        }
    }

    async fn addresses(&self, name: &str, port: u16) -> Result<BTreeSet<String>, String> {
        let spelled = |ip: IpAddr| SocketAddr::new(ip, port).to_string();
        if self.servers.is_empty() {
            // The system knows more ways than DNS: hosts files, search lists.
            let found = tokio::net::lookup_host((name, port)).await;
            let found = found.map_err(|error| format!("{name:?} is not found: {error}"))?;
            return Ok(found.take(MOST).map(|at| spelled(at.ip())).collect());
        }
        let mut all = BTreeSet::new();
        let mut failed = None;
        for kind in [wire::A, wire::AAAA] {
            match self.records(name, kind).await {
                Ok(records) => all.extend(records.into_iter().filter_map(|it| match it {
                    Record::Address(ip) => Some(spelled(ip)),
                    Record::Service { .. } => None,
                })),
                Err(error) => failed = Some(error),
            }
        }
        match failed {
            Some(error) if all.is_empty() => Err(error),
            _ => Ok(all),
        }
    }

    async fn records(&self, name: &str, kind: u16) -> Result<Vec<Record>, String> {
        let (servers, search) = if self.servers.is_empty() {
            // Some lines of a local file.
            let conf = std::fs::read_to_string("/etc/resolv.conf");
            let conf = conf.map_err(|error| format!("/etc/resolv.conf: {error}"))?;
            resolv_conf(&conf)
        } else {
            (self.servers.clone(), Vec::new())
        };
        let names = std::iter::once(name.to_owned()).chain(
            search
                .iter()
                .filter(|_| !name.ends_with('.'))
                .map(|domain| format!("{name}.{domain}")),
        );
        let mut last = format!("{name:?}: no server of DNS is known");
        for name in names {
            for server in &servers {
                match exchange(*server, &name, kind).await {
                    Ok(found) if found.code == 0 && !found.records.is_empty() => {
                        return Ok(found.records);
                    }
                    Ok(found) => {
                        last = match found.code {
                            0 => format!("{name:?} has no such record at {server}"),
                            3 => format!("{name:?} does not exist at {server}"),
                            code => format!("{name:?}: {server} answers with error {code}"),
                        };
                        if matches!(found.code, 0 | 3) {
                            break; // The servers know the same.
                        }
                    }
                    Err(error) => last = format!("{name:?}: {server}: {error}"),
                }
            }
        }
        Err(last)
    }
}

async fn exchange(server: SocketAddr, name: &str, kind: u16) -> Result<Answer, String> {
    let mut id = [0; 2];
    SystemRandom::new()
        .fill(&mut id)
        .map_err(|_| "no random numbers".to_owned())?;
    let id = u16::from_be_bytes(id);
    let question = wire::question(id, name, kind)?;
    let asked = timeout(PATIENCE, over_udp(server, &question, id, name, kind));
    let answer = asked
        .await
        .map_err(|_| format!("no answer within {} s", PATIENCE.as_secs()))?
        .map_err(|error| error.to_string())?;
    if !answer.cut {
        return Ok(answer);
    }
    let whole = timeout(PATIENCE, over_tcp(server, &question))
        .await
        .map_err(|_| "no answer over TCP in time".to_owned())?
        .map_err(|error| error.to_string())?;
    wire::answer(&whole, id, name, kind).ok_or_else(|| "an answer that cannot be read".to_owned())
}

async fn over_udp(
    server: SocketAddr,
    question: &[u8],
    id: u16,
    name: &str,
    kind: u16,
) -> std::io::Result<Answer> {
    let any: IpAddr = match server {
        SocketAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
        SocketAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
    };
    let socket = UdpSocket::bind((any, 0)).await?;
    // Only what comes from there is heard.
    socket.connect(server).await?;
    socket.send(question).await?;
    let mut buffer = [0; wire::UDP];
    loop {
        let len = socket.recv(&mut buffer).await?;
        // What does not fit the question was not sent for it.
        if let Some(answer) = wire::answer(&buffer[..len], id, name, kind) {
            return Ok(answer);
        }
    }
}

async fn over_tcp(server: SocketAddr, question: &[u8]) -> std::io::Result<Vec<u8>> {
    let mut stream = TcpStream::connect(server).await?;
    let mut out = (question.len() as u16).to_be_bytes().to_vec();
    out.extend_from_slice(question);
    stream.write_all(&out).await?;
    let len = stream.read_u16().await?;
    let mut answer = vec![0; usize::from(len)];
    stream.read_exact(&mut answer).await?;
    Ok(answer)
}

/// Servers and search list of the system.
fn resolv_conf(text: &str) -> (Vec<SocketAddr>, Vec<String>) {
    let (mut servers, mut search) = (Vec::new(), Vec::new());
    for line in text.lines() {
        let mut words = line.split_whitespace();
        match words.next() {
            Some("nameserver") => {
                let address = words.next().and_then(|word| word.parse().ok());
                servers.extend(address.map(|ip: IpAddr| SocketAddr::new(ip, 53)));
            }
            Some("search" | "domain") => search = words.map(str::to_owned).collect(),
            _ => {}
        }
    }
    (servers, search)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_system_file_names_servers_and_search_list() {
        let text = "# a comment\nnameserver 10.0.0.2\nnameserver ::1\nsearch a.example b.example\nnameserver nonsense\n";
        let (servers, search) = resolv_conf(text);
        assert_eq!(
            servers,
            ["10.0.0.2:53".parse().unwrap(), "[::1]:53".parse().unwrap()]
        );
        assert_eq!(search, ["a.example", "b.example"]);
    }

    #[tokio::test]
    async fn a_server_that_is_silent_is_named() {
        let silent = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        let server = silent.local_addr().unwrap();
        let dns = Dns {
            name: "nodes.example".to_owned(),
            record: DnsRecord::Service,
            servers: vec![server],
        };
        let error = dns.find("").await.unwrap_err();
        assert!(error.contains(&server.to_string()), "{error}");
        assert!(error.contains("no answer"), "{error}");
    }
}
