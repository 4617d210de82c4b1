//! Who connects: the clients of a workload, before they are driven.

use crate::broker::Broker;
use crate::packet;
use crate::workload::Workload;
use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

/// Numbers of idle clients begin here.
const IDLE: usize = 50_000;
/// Clients connected together: less than any broker's accept backlog.
pub const GROUP: usize = 64;
/// How long a broker may take to get to know all filters, or all idle clients.
const PATIENCE: Duration = Duration::from_secs(40);

/// Topic and role of each client, in no particular order: a broker that spreads connections over threads by arrival
/// must meet pairs on one thread and across two, as in life.
pub fn plan(workload: &Workload) -> Vec<(usize, bool)> {
    let mut plan = Vec::new();
    for topic in 0..workload.topics {
        plan.extend((0..workload.publishers).map(|_| (topic, false)));
        plan.extend((0..workload.subscribers).map(|_| (topic, true)));
    }
    let mut seed = 0x9e37_79b9_7f4a_7c15_u64;
    for last in (1..plan.len()).rev() {
        seed = seed
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        plan.swap(last, (seed >> 33) as usize % (last + 1));
    }
    plan
}

/// The filter of a topic's subscribers.
pub fn filter(workload: &Workload, topic: usize) -> String {
    let name = packet::topic(topic);
    if workload.shared {
        format!("$share/group/{name}")
    } else {
        name
    }
}

/// Clients that are only there: idle ones, and a hundred that hold filters which the topics pass by.
pub fn beside(broker: &Broker, workload: &Workload) -> io::Result<Vec<TcpStream>> {
    let mut clients = Vec::new();
    let begin = Instant::now();
    while clients.len() < workload.idle {
        if begin.elapsed() > PATIENCE {
            return Err(io::Error::other(format!(
                "{} idle clients took it more than {PATIENCE:?}",
                workload.idle
            )));
        }
        let (first, count) = (clients.len(), GROUP.min(workload.idle - clients.len()));
        let filter = |number| format!("idle/{:05}", number - IDLE);
        clients.extend(join_group(broker, IDLE + first, count, filter)?);
    }
    let filters = workload.filters;
    let names: Vec<String> = (0..filters)
        .map(|number| match number % 4 {
            0 => format!("compare/{number:06}/+"),
            1 => format!("+/{number:06}/state/#"),
            2 => format!("compare/+/d{number:06}"),
            _ => format!("+/+/e{number:06}/#"),
        })
        .collect();
    let each = filters.div_ceil(100).max(1);
    let begin = Instant::now();
    for (number, names) in names.chunks(each).enumerate() {
        let mut stream = enter(broker, &format!("compare-beside-{number:05}"))?;
        for names in names.chunks(100) {
            if begin.elapsed() > PATIENCE {
                return Err(io::Error::other(format!(
                    "{filters} filters took it more than {PATIENCE:?}"
                )));
            }
            let names: Vec<&str> = names.iter().map(String::as_str).collect();
            stream.write_all(&packet::subscribe(&names, 0))?;
            let head = if names.len() + 2 > 127 { 3 } else { 2 };
            let mut answer = vec![0; head + 2 + names.len()];
            stream.read_exact(&mut answer)?;
            if answer[0] != packet::SUBACK << 4 || answer.contains(&0x80) {
                return Err(io::Error::other("filters were refused"));
            }
        }
        clients.push(stream);
    }
    Ok(clients)
}

/// Connects one client with a clean session and waits for the answer.
pub fn enter(broker: &Broker, client_id: &str) -> io::Result<TcpStream> {
    enter_with(broker.address, client_id, true)
}

/// Ends the session that a broker keeps of a client.
pub fn forget(broker: &Broker, client_id: &str) -> io::Result<()> {
    enter_with(broker.subscribers, client_id, true)?.write_all(&packet::DISCONNECT)
}

/// Name of a client whose session is kept.
pub fn kept(number: usize) -> String {
    format!("compare-kept-{number:05}")
}

/// Connects one client to a session that the broker keeps, new and with one subscription.
pub fn join_kept(broker: &Broker, number: usize, filter: &str, qos: u8) -> io::Result<TcpStream> {
    forget(broker, &kept(number))?;
    let mut stream = enter_with(broker.subscribers, &kept(number), false)?;
    subscribe(&mut stream, filter, qos)?;
    Ok(stream)
}

fn enter_with(address: SocketAddr, client_id: &str, clean: bool) -> io::Result<TcpStream> {
    let mut stream = TcpStream::connect(address)?;
    stream.set_read_timeout(Some(Duration::from_secs(20)))?;
    stream.write_all(&packet::connect_with(client_id, clean))?;
    let mut answer = [0; 4];
    stream.read_exact(&mut answer)?;
    if answer != [packet::CONNACK << 4, 2, 0, 0] {
        return Err(io::Error::other(format!(
            "CONNECT was answered with {answer:?}"
        )));
    }
    Ok(stream)
}

/// Connects one client, with a subscription if asked for, and waits for the answers.
pub fn join(
    broker: &Broker,
    number: usize,
    filter: Option<&str>,
    qos: u8,
) -> io::Result<TcpStream> {
    let address = match filter {
        Some(_) => broker.subscribers,
        None => broker.address,
    };
    let mut stream = enter_with(address, &format!("compare-{number:05}"), true)?;
    if let Some(filter) = filter {
        subscribe(&mut stream, filter, qos)?;
    }
    Ok(stream)
}

/// Connects clients together, each with one QoS 0 subscription of its own.
pub fn join_group(
    broker: &Broker,
    first: usize,
    count: usize,
    filter: impl Fn(usize) -> String,
) -> io::Result<Vec<TcpStream>> {
    let mut group = (0..count)
        .map(|_| TcpStream::connect(broker.address))
        .collect::<io::Result<Vec<_>>>()?;
    for (offset, stream) in group.iter_mut().enumerate() {
        stream.set_read_timeout(Some(Duration::from_secs(20)))?;
        stream.write_all(&packet::connect(&format!("compare-{:05}", first + offset)))?;
    }
    for (offset, stream) in group.iter_mut().enumerate() {
        let mut answer = [0; 4];
        stream.read_exact(&mut answer)?;
        if answer != [packet::CONNACK << 4, 2, 0, 0] {
            return Err(io::Error::other(format!(
                "CONNECT was answered with {answer:?}"
            )));
        }
        stream.write_all(&packet::subscribe(&[&filter(first + offset)], 0))?;
    }
    for stream in &mut group {
        stream.read_exact(&mut [0; 5])?;
    }
    Ok(group)
}

fn subscribe(stream: &mut TcpStream, filter: &str, qos: u8) -> io::Result<()> {
    stream.write_all(&packet::subscribe(&[filter], qos))?;
    let mut answer = [0; 5];
    stream.read_exact(&mut answer)?;
    if answer != [packet::SUBACK << 4, 3, 0, 1, qos] {
        return Err(io::Error::other(format!(
            "SUBSCRIBE was answered with {answer:?}"
        )));
    }
    Ok(())
}
