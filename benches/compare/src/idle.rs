//! Resident memory of idle clients.

use crate::broker::{Broker, Kind, pause};
use crate::clients::{GROUP, join_group};
use crate::options::Options;
use crate::packet;
use crate::process;
use crate::storm::number;
use crate::workload::Transport;
use std::io::{self, BufRead, BufReader};
use std::net::TcpStream;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

/// Resident bytes of a broker without clients and with each count of them.
pub struct Idle {
    /// Before the first client.
    pub empty: u64,
    /// One for each count asked for; ends where the broker or the machine refused more.
    pub with: Vec<(usize, u64)>,
}

/// Connects clients with one QoS 0 subscription each, to topics of their own, and reads the broker's memory at `counts`.
pub fn measure(broker: &Broker, counts: &[usize]) -> io::Result<Idle> {
    settle();
    let mut idle = Idle {
        empty: process::resident(&broker.pids)?,
        with: Vec::new(),
    };
    let mut clients: Vec<TcpStream> = Vec::new();
    for &count in counts {
        while clients.len() < count {
            let group = GROUP.min(count - clients.len());
            match join_group(broker, clients.len(), group, packet::topic) {
                Ok(group) => clients.extend(group),
                Err(error) => {
                    eprintln!(
                        "idle: {}: {} clients, then: {error}",
                        broker.kind.name(),
                        clients.len()
                    );
                    return Ok(idle);
                }
            }
        }
        settle();
        idle.with.push((count, process::resident(&broker.pids)?));
    }
    Ok(idle)
}

/// The same with clients of `nightjar bench sub` over a transport that this program does not speak.
pub fn measure_by_bench(
    broker: &Broker,
    options: &Options,
    transport: Transport,
) -> io::Result<Idle> {
    settle();
    let mut idle = Idle {
        empty: process::resident(&broker.pids)?,
        with: Vec::new(),
    };
    let port = broker.port(transport).unwrap_or_default().to_string();
    let mut holders: Vec<Holder> = Vec::new();
    let mut held = 0;
    for &count in &options.idle {
        let more = (count - held).to_string();
        let mut command = Command::new(&options.nightjar);
        command
            .args(["bench", "sub", "-V", "4", "-h", "127.0.0.1", "-p", &port])
            .args(["-i", "0", "-t", "idle/%i", "-k", "3600", "-c", &more])
            .args(["-n", &held.to_string()]);
        command.arg(match transport {
            Transport::Tls => "-S",
            Transport::Tcp | Transport::Ws => "--ws",
        });
        let mut child = command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()?;
        let out = child.stdout.take();
        holders.push(Holder(child));
        let all = format!("connected {more}/{more} ");
        let lines = out.map(BufReader::new).into_iter().flat_map(BufRead::lines);
        let mut there = false;
        for line in lines.take(120) {
            if line?.contains(&all) {
                there = true;
                break;
            }
        }
        if !there {
            eprintln!("idle: {}: fewer than {count} clients", broker.kind.name());
            break;
        }
        held = count;
        settle();
        idle.with.push((count, process::resident(&broker.pids)?));
    }
    Ok(idle)
}

/// MQTT-SN sensors of `nightjar bench sn` that have connected, subscribed and gone to sleep, a fresh broker for each count.
pub fn measure_asleep(options: &Options, in_turn: bool) -> io::Result<Idle> {
    let mut idle = Idle {
        empty: 0,
        with: Vec::new(),
    };
    for &count in &options.idle {
        let broker = Broker::start(&Kind::Nightjar, options)?;
        settle();
        idle.empty = process::resident(&broker.pids)?;
        let port = broker.other.mqttsn.unwrap_or_default().to_string();
        let pid = broker.pids.first().copied().unwrap_or_default().to_string();
        let mut command = Command::new(&options.nightjar);
        command
            .args(["bench", "sn", "-h", "127.0.0.1", "-p", &port, "--pid", &pid])
            .args(["--forwarders", "64", "--short-topic", "ab", "-k", "3600"])
            .args(["--sleep", "3600", "--rest", "1", "--json", "-c"])
            .arg(count.to_string());
        if in_turn {
            command.arg("--drowsy");
        }
        let output = command.stdin(Stdio::null()).output()?;
        let text = String::from_utf8_lossy(&output.stdout);
        let each = number(&text, "bytes_per_asleep").ok_or_else(|| {
            let error = String::from_utf8_lossy(&output.stderr);
            io::Error::other(format!("nightjar bench sn said: {text}{error}"))
        })?;
        idle.with
            .push((count, idle.empty + (each * count as f64) as u64));
    }
    Ok(idle)
}

/// Clients of another process, until dropped.
struct Holder(Child);

impl Drop for Holder {
    fn drop(&mut self) {
        let _killed = self.0.kill();
        let _status = self.0.wait();
    }
}

/// Lets a broker finish what it does after a CONNECT and its allocator give back what it will.
fn settle() {
    pause(Duration::from_secs(1));
}
