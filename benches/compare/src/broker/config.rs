//! The configuration each broker is started with: anonymous clients on one loopback port, nothing kept on disk for QoS 0
//! and clean sessions, queue limits above the generator's windows, everything else as its makers ship it.

use super::{Kind, Others, Plan, free_port};
use crate::options::Options;
use std::io;
use std::path::Path;
use std::process::Command;

/// Writes the files of one broker and says how to start it.
pub(super) fn plan(kind: &Kind, options: &Options, folder: &Path, port: u16) -> io::Result<Plan> {
    match kind {
        Kind::Nightjar => nightjar(&options.nightjar, folder, port, 0),
        Kind::NightjarOneWorker => nightjar(&options.nightjar, folder, port, 1),
        Kind::NightjarCluster => cluster(&options.nightjar, folder, port),
        Kind::Mosquitto => mosquitto(options, folder, port, false),
        Kind::MosquittoKept => mosquitto(options, folder, port, true),
        Kind::Nats => nats(&options.installed("nats-server")?, folder, port),
        Kind::RabbitMq => rabbitmq(folder, port),
        Kind::Rumqttd => rumqttd(&options.installed("rumqttd")?, folder, port),
        Kind::Rmqtt => rmqtt(
            &options.installed("rmqttd")?,
            &options.nightjar,
            folder,
            port,
        ),
        Kind::Echo | Kind::Relay => {
            let mut command = Command::new(std::env::current_exe()?);
            command.arg(kind.name());
            let version = format!("epoll {} of this program", kind.name());
            Ok(single(command, version, Others::default()))
        }
        Kind::Peer(name, line) => {
            let line = line.replace("{port}", &port.to_string());
            let mut words = line.split_whitespace();
            let mut command = Command::new(
                words
                    .next()
                    .ok_or_else(|| io::Error::other("--peer: empty command"))?,
            );
            command.args(words).current_dir(folder);
            Ok(single(command, name.clone(), Others::default()))
        }
    }
}

/// A broker of one process.
fn single(command: Command, version: String, other: Others) -> Plan {
    Plan {
        command,
        nodes: Vec::new(),
        version,
        other,
        after: None,
    }
}

fn nightjar(binary: &Path, folder: &Path, port: u16, workers: usize) -> io::Result<Plan> {
    let version = first_line(without_settings(binary).arg("version"))?;
    let other = Others {
        tls: Some(free_port()?),
        ws: Some(free_port()?),
        mqttsn: Some(free_port()?),
    };
    let command = node(binary, folder, port, workers, other, "")?;
    Ok(single(command, version, other))
}

/// Three nodes that find each other on loopback.
fn cluster(binary: &Path, folder: &Path, port: u16) -> io::Result<Plan> {
    let version = first_line(without_settings(binary).arg("version"))?;
    let links = [free_port()?, free_port()?, free_port()?];
    let ports = [port, free_port()?, free_port()?];
    let seeds = links.map(|link| format!("\"127.0.0.1:{link}\"")).join(", ");
    let mut commands = Vec::new();
    for (number, (link, port)) in links.into_iter().zip(ports).enumerate() {
        let folder = folder.join(format!("node{number}"));
        std::fs::create_dir_all(&folder)?;
        let text = format!(
            "\n[cluster]\ncookie = \"of this comparison alone\"\nbind = \"127.0.0.1:{link}\"\n\
             advertise = \"127.0.0.1:{link}\"\ndiscovery = \"static\"\nseeds = [{seeds}]\nexpect = 3\n"
        );
        let name = format!("n{number}@127.0.0.1");
        let mut command = node(binary, &folder, port, 0, Others::default(), &text)?;
        command.args(["--set", &format!("node.name={name}")]);
        commands.push((command, port));
    }
    let (command, _) = commands.remove(0);
    Ok(Plan {
        nodes: commands,
        ..single(command, version, Others::default())
    })
}

/// One node of Nightjar: its configuration file, with `more` at its end, and how to start it.
fn node(
    binary: &Path,
    folder: &Path,
    port: u16,
    workers: usize,
    other: Others,
    more: &str,
) -> io::Result<Command> {
    let file = folder.join("nightjar.toml");
    let data = folder.join("data");
    let mut text = format!(
        "[node]\ndata_dir = {data:?}\nworkers = {workers}\n\n[listeners.tcp.default]\nbind = \"127.0.0.1:{port}\"\n\n\
         [auth]\nallow_anonymous = true\n\n[acl]\nno_match = \"allow\"\n\n\
         [mqtt]\nmax_inflight = 1000\nmax_awaiting_rel = 1000\nmax_queue_len = 100000\nmax_queue_bytes = \"64MiB\"\n\n\
         [api]\nenable = false\n"
    );
    // A listener that has no part in this has a fixed port by default.
    for (listener, port) in [
        ("tls", other.tls),
        ("ws", other.ws),
        ("wss", None),
        ("mqttsn", other.mqttsn),
    ] {
        let set = match port {
            Some(port) => format!("bind = \"127.0.0.1:{port}\""),
            None => "enable = false".to_owned(),
        };
        text.push_str(&format!("\n[listeners.{listener}.default]\n{set}\n"));
        if listener == "mqttsn" && port.is_some() {
            // All sensors of this program have one address.
            text.push_str("new_sessions_per_source = \"1000000/s\"\n");
        }
    }
    text.push_str(more);
    std::fs::write(&file, text)?;
    let mut command = without_settings(binary);
    command
        .arg("serve")
        .arg("--config")
        .arg(file)
        .current_dir(folder);
    Ok(command)
}

/// The program without the settings of this shell, which are no part of the comparison.
fn without_settings(binary: &Path) -> Command {
    let mut command = Command::new(binary);
    for (name, _) in std::env::vars_os() {
        if name.to_string_lossy().starts_with("NIGHTJAR_") {
            command.env_remove(name);
        }
    }
    command
}

fn mosquitto(options: &Options, folder: &Path, port: u16, kept: bool) -> io::Result<Plan> {
    let binary = options.installed("mosquitto")?;
    // It prints its version with the usage and exits with an error.
    let version = first_line(Command::new(&binary).arg("-h"))?;
    let file = folder.join("mosquitto.conf");
    let (tls, ws) = (free_port()?, free_port()?);
    let mut text = format!(
        "listener {port} 127.0.0.1\nlistener {ws} 127.0.0.1\nprotocol websockets\n\
         allow_anonymous true\nlog_type error\n\
         max_inflight_messages 0\nmax_queued_messages 100000\nuser root\n"
    );
    text.push_str(&if kept {
        format!(
            "persistence true\npersistence_location {}/\n",
            folder.display()
        )
    } else {
        "persistence false\n".to_owned()
    });
    // The same kind of key as Nightjar's own certificate.
    let certified = certificate(&options.nightjar, folder).is_ok();
    if certified {
        text.push_str(&format!(
            "listener {tls} 127.0.0.1\ncertfile {0}/server.crt\nkeyfile {0}/server.key\n",
            folder.display()
        ));
    }
    std::fs::write(&file, text)?;
    let mut command = Command::new(binary);
    command.arg("-c").arg(file);
    let other = Others {
        tls: certified.then_some(tls),
        ws: Some(ws),
        mqttsn: None,
    };
    Ok(single(command, version, other))
}

/// A certificate authority and a server certificate for 127.0.0.1 in a folder.
fn certificate(nightjar: &Path, folder: &Path) -> io::Result<()> {
    for words in [&["ca"][..], &["server", "localhost", "127.0.0.1"]] {
        let made = without_settings(nightjar)
            .arg("certs")
            .args(words)
            .arg("--out")
            .arg(folder)
            .output()?;
        if !made.status.success() {
            return Err(io::Error::other(
                String::from_utf8_lossy(&made.stderr).into_owned(),
            ));
        }
    }
    Ok(())
}

fn nats(binary: &Path, folder: &Path, port: u16) -> io::Result<Plan> {
    let version = first_line(Command::new(binary).arg("--version"))?;
    let file = folder.join("nats.conf");
    let client_port = free_port()?;
    let text = format!(
        "server_name: compare\nlisten: 127.0.0.1:{client_port}\n\
         jetstream {{ store_dir: {:?} }}\nmqtt {{ host: 127.0.0.1, port: {port}, max_ack_pending: 1000 }}\n",
        folder.join("jetstream")
    );
    std::fs::write(&file, text)?;
    let mut command = Command::new(binary);
    command.arg("-c").arg(file);
    Ok(single(command, version, Others::default()))
}

fn rabbitmq(folder: &Path, port: u16) -> io::Result<Plan> {
    let binary = Path::new("/usr/lib/rabbitmq/bin/rabbitmq-server");
    if !binary.exists() {
        return Err(io::Error::other("rabbitmq-server is not installed"));
    }
    let version = first_line(Command::new("dpkg-query").args(["-W", "rabbitmq-server"]))?;
    let (amqp_port, epmd_port) = (free_port()?, free_port()?);
    let text = format!(
        "listeners.tcp.1 = 127.0.0.1:{amqp_port}\nmqtt.listeners.tcp.1 = 127.0.0.1:{port}\nmqtt.allow_anonymous = true\n\
         mqtt.prefetch = 1000\nlog.console = false\nlog.file = false\n"
    );
    std::fs::write(folder.join("rabbitmq.conf"), text)?;
    std::fs::write(folder.join("enabled_plugins"), "[rabbitmq_mqtt].\n")?;
    let mut command = Command::new(binary);
    command
        .env("RABBITMQ_NODENAME", format!("compare{port}@localhost"))
        .env("RABBITMQ_CONFIG_FILE", folder.join("rabbitmq"))
        .env(
            "RABBITMQ_ENABLED_PLUGINS_FILE",
            folder.join("enabled_plugins"),
        )
        .env("RABBITMQ_MNESIA_BASE", folder.join("mnesia"))
        .env("RABBITMQ_LOG_BASE", folder.join("log"))
        .env("RABBITMQ_PID_FILE", folder.join("pid"))
        .env("RABBITMQ_DIST_PORT", free_port()?.to_string())
        .env("RABBITMQ_CONF_ENV_FILE", folder.join("none"))
        .env("HOME", folder)
        .env("ERL_EPMD_PORT", epmd_port.to_string())
        .env("ERL_EPMD_ADDRESS", "127.0.0.1")
        .env("ERL_EPMD_RELAXED_COMMAND_CHECK", "1");
    // Erlang's port mapper detaches itself and would outlive the node.
    let mut after = Command::new("epmd");
    after.args(["-port", &epmd_port.to_string(), "-kill"]);
    Ok(Plan {
        after: Some(after),
        ..single(command, version, Others::default())
    })
}

fn rumqttd(binary: &Path, folder: &Path, port: u16) -> io::Result<Plan> {
    let version = first_line(Command::new(binary).arg("--version"))?;
    let file = folder.join("rumqttd.toml");
    let text = format!(
        "id = 0\n\n[router]\nid = 0\nmax_connections = 20000\nmax_outgoing_packet_count = 200\n\
         max_segment_size = 104857600\nmax_segment_count = 10\n\n[v4.1]\nname = \"v4-1\"\nlisten = \"127.0.0.1:{port}\"\n\
         next_connection_delay_ms = 0\n\n[v4.1.connections]\nconnection_timeout_ms = 60000\nmax_payload_size = 20480\n\
         max_inflight_count = 1000\ndynamic_filters = true\n"
    );
    std::fs::write(&file, text)?;
    let mut command = Command::new(binary);
    command.arg("-c").arg(file).arg("-q");
    Ok(single(command, version, Others::default()))
}

/// With its access rules replaced by none, retained messages and shared subscriptions in memory, busy checks off (they
/// refuse clients of a machine that a generator keeps busy) and no limit of handshakes, rates or queues below the generator's.
fn rmqtt(binary: &Path, nightjar: &Path, folder: &Path, port: u16) -> io::Result<Plan> {
    let version = first_line(Command::new(binary).arg("--version"))?;
    let (tls, ws, rpc) = (free_port()?, free_port()?, free_port()?);
    let listener = "allow_anonymous = true\nmax_packet_size = \"1M\"\nbacklog = 4096\nnodelay = true\nmax_handshaking_limit = 100000\n\
         max_inflight = 1000\nmax_mqueue_len = 100000\nmqueue_rate_limit = \"1000000,1s\"\nmax_subscriptions = 0\n";
    let certified = certificate(nightjar, folder).is_ok();
    let mut text = format!(
        "[node]\nid = 1\nbusy.check_enable = false\n\n[rpc]\nserver_addr = \"127.0.0.1:{rpc}\"\n\n\
         [log]\nto = \"off\"\nlevel = \"error\"\n\n[plugins]\ndir = {:?}\n\n\
         [listener.tcp.external]\naddr = \"127.0.0.1:{port}\"\n{listener}\n\
         [listener.ws.external]\naddr = \"127.0.0.1:{ws}\"\n{listener}\n",
        folder.join("plugins")
    );
    if certified {
        text.push_str(&format!(
            "[listener.tls.external]\naddr = \"127.0.0.1:{tls}\"\n{listener}cert = \"{0}/server.crt\"\nkey = \"{0}/server.key\"\n",
            folder.display()
        ));
    }
    let plugins = folder.join("plugins");
    std::fs::create_dir_all(&plugins)?;
    std::fs::write(
        plugins.join("rmqtt-acl.toml"),
        "rules = [[\"allow\", \"all\"]]\n",
    )?;
    std::fs::write(
        plugins.join("rmqtt-retainer.toml"),
        "storage.type = \"ram\"\nmax_retained_messages = 0\nmax_payload_size = \"1MB\"\n",
    )?;
    let file = folder.join("rmqtt.toml");
    std::fs::write(&file, text)?;
    let mut command = Command::new(binary);
    command.arg("-f").arg(file).current_dir(folder);
    let other = Others {
        tls: certified.then_some(tls),
        ws: Some(ws),
        mqttsn: None,
    };
    Ok(single(command, version, other))
}

/// Says which program it was.
pub fn cannot_start(command: &Command, error: &io::Error) -> io::Error {
    let program = command.get_program().display();
    io::Error::new(error.kind(), format!("cannot start {program}: {error}"))
}

/// The first line a program prints, on whichever stream.
fn first_line(command: &mut Command) -> io::Result<String> {
    let output = command
        .output()
        .map_err(|error| cannot_start(command, &error))?;
    let text = if output.stdout.is_empty() {
        output.stderr
    } else {
        output.stdout
    };
    Ok(String::from_utf8_lossy(&text)
        .lines()
        .next()
        .unwrap_or("no version")
        .trim()
        .replace('\t', " "))
}
