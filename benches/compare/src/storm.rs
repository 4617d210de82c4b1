//! What comes all at once: connects, and the retained messages of a wide subscription.

use crate::broker::Broker;
use crate::clients::enter;
use crate::load::Outcome;
use crate::options::Options;
use crate::packet::{self, Template};
use crate::process;
use crate::workload::Transport;
use std::io::{self, Read, Write};
use std::net::TcpStream;
use std::process::Command;
use std::time::{Duration, Instant};

/// Without a delivery for so long, what is missing counts as lost.
const PATIENCE: Duration = Duration::from_secs(3);
/// How long all connects of a row may take; a broker that hangs has no figure in this round.
const LONGEST: Duration = Duration::from_secs(60);

/// Clients of `nightjar bench conn` connect as fast as they are answered, stay for a moment and leave.
pub fn connect(
    broker: &Broker,
    options: &Options,
    transport: Transport,
    count: usize,
) -> io::Result<Outcome> {
    let port = broker
        .port(transport)
        .ok_or_else(|| io::Error::other("no listener of this transport"))?;
    let (before, begin) = (process::cpu(&broker.pids)?, Instant::now());
    let mut command = Command::new(&options.nightjar);
    command
        .args(["bench", "conn", "-V", "4", "-h", "127.0.0.1", "-p"])
        .arg(port.to_string())
        .args(["-i", "0", "--duration", "0.5", "--json", "--quiet", "-c"])
        .arg(count.to_string());
    match transport {
        Transport::Tcp => {}
        Transport::Tls => {
            command.arg("-S");
        }
        Transport::Ws => {
            command.arg("--ws");
        }
    }
    let output = process::output(&mut command, LONGEST)
        .map_err(|error| io::Error::new(error.kind(), format!("nightjar bench conn {error}")))?;
    // Closing is part of it.
    crate::broker::pause(Duration::from_millis(200));
    let cpu = process::cpu(&broker.pids)?.saturating_sub(before);
    let text = String::from_utf8_lossy(&output.stdout);
    let number = |key: &str| number(&text, key);
    let (Some(connected), Some(rate), Some(p50), Some(p99), Some(p999)) = (
        number("connected"),
        number("per_second"),
        number("p50_us"),
        number("p99_us"),
        number("p999_us"),
    ) else {
        return Err(io::Error::other(format!(
            "nightjar bench conn said: {text}{}",
            String::from_utf8_lossy(&output.stderr)
        )));
    };
    if connected < 1.0 {
        return Err(io::Error::other("nobody could connect"));
    }
    let wall = if rate > 0.0 {
        Duration::from_secs_f64(connected / rate)
    } else {
        begin.elapsed()
    };
    Ok(Outcome {
        delivered: connected as u64,
        wall,
        cpu,
        p50,
        p99,
        p999,
        half: None,
        resident: process::resident(&broker.pids)?,
        lost: count as u64 - connected as u64,
    })
}

/// The number behind the first key of this name in JSON text.
pub fn number(text: &str, key: &str) -> Option<f64> {
    let at = text.find(&format!("\"{key}\":"))?;
    let rest = text[at..].split_once(':')?.1.trim_start();
    let end = rest.find([',', '\n', '}'])?;
    rest[..end].trim().parse().ok()
}

/// Retained messages are published once; then a client subscribes to all of them.
pub fn retained(broker: &Broker, count: usize, payload: usize) -> io::Result<Outcome> {
    let mut publisher = enter(broker, "compare-retained")?;
    let mut bytes = Vec::new();
    for number in 0..count {
        let topic = format!("retained/{:03}/{number:06}", number % 500);
        Template::new(&topic, 0, true, payload).write(&mut bytes, 0, 0);
        if bytes.len() > 64 * 1024 {
            publisher.write_all(&bytes)?;
            bytes.clear();
        }
    }
    bytes.extend_from_slice(&packet::PINGREQ);
    publisher.write_all(&bytes)?;
    read_until(&mut publisher, packet::PINGRESP, 1)?;
    let mut subscriber = enter(broker, "compare-storm")?;
    let (before, begin) = (process::cpu(&broker.pids)?, Instant::now());
    subscriber.write_all(&packet::subscribe(&["retained/#"], 0))?;
    let got = read_until(&mut subscriber, packet::PUBLISH, count as u64)?;
    let (wall, cpu) = (
        begin.elapsed(),
        process::cpu(&broker.pids)?.saturating_sub(before),
    );
    if got == 0 {
        return Err(io::Error::other("no retained message came"));
    }
    subscriber.write_all(&packet::DISCONNECT)?;
    Ok(Outcome {
        delivered: got,
        wall,
        cpu,
        p50: 0.0,
        p99: 0.0,
        p999: 0.0,
        half: None,
        resident: process::resident(&broker.pids)?,
        lost: count as u64 - got,
    })
}

/// Reads until so many packets of a type came or nothing comes any more; how many came.
fn read_until(stream: &mut TcpStream, kind: u8, wanted: u64) -> io::Result<u64> {
    stream.set_read_timeout(Some(PATIENCE))?;
    let mut buffer = vec![0; 256 * 1024];
    let (mut filled, mut got) = (0, 0);
    while got < wanted {
        let read = match stream.read(&mut buffer[filled..]) {
            Ok(0) => return Err(io::Error::other("the broker closed a connection")),
            Ok(read) => read,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
            Err(error) => return Err(error),
        };
        filled += read;
        let mut at = 0;
        while let Some(found) = packet::next(&buffer[at..filled]) {
            at += found.length;
            got += u64::from(found.kind == kind);
        }
        buffer.copy_within(at..filled, 0);
        filled -= at;
    }
    Ok(got)
}
