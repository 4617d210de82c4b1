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
        Kind::Mosquitto => mosquitto(&options.nightjar, folder, port, false),
        Kind::MosquittoKept => mosquitto(&options.nightjar, folder, port, true),
        Kind::Nats => nats(folder, port),
        Kind::RabbitMq => rabbitmq(folder, port),
        Kind::Rumqttd => rumqttd(folder, port),
        Kind::Echo | Kind::Relay => {
            let mut command = Command::new(std::env::current_exe()?);
            command.arg(kind.name());
            Ok(Plan {
                command,
                version: format!("epoll {} of this program", kind.name()),
                other: Others::default(),
                after: None,
            })
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
            Ok(Plan {
                command,
                version: name.clone(),
                other: Others::default(),
                after: None,
            })
        }
    }
}

fn nightjar(binary: &Path, folder: &Path, port: u16, workers: usize) -> io::Result<Plan> {
    let version = first_line(Command::new(binary).arg("version"))?;
    let file = folder.join("nightjar.toml");
    let data = folder.join("data");
    let (tls, ws) = (free_port()?, free_port()?);
    let mut text = format!(
        "[node]\ndata_dir = {data:?}\nworkers = {workers}\n\n[listeners.tcp.default]\nbind = \"127.0.0.1:{port}\"\n\n\
         [listeners.tls.default]\nbind = \"127.0.0.1:{tls}\"\n\n[listeners.ws.default]\nbind = \"127.0.0.1:{ws}\"\n\n\
         [auth]\nallow_anonymous = true\n\n[acl]\nno_match = \"allow\"\n\n\
         [mqtt]\nmax_inflight = 1000\nmax_awaiting_rel = 1000\nmax_queue_len = 100000\nmax_queue_bytes = \"64MiB\"\n\n\
         [api]\nenable = false\n"
    );
    // The other listeners have fixed ports by default and no part in this.
    for listener in ["wss", "mqttsn"] {
        text.push_str(&format!(
            "\n[listeners.{listener}.default]\nenable = false\n"
        ));
    }
    std::fs::write(&file, text)?;
    let mut command = Command::new(binary);
    command
        .arg("serve")
        .arg("--config")
        .arg(file)
        .current_dir(folder);
    // Settings of this shell are no part of the comparison.
    for (name, _) in std::env::vars_os() {
        if name.to_string_lossy().starts_with("NIGHTJAR_") {
            command.env_remove(name);
        }
    }
    Ok(Plan {
        command,
        version,
        other: Others {
            tls: Some(tls),
            ws: Some(ws),
        },
        after: None,
    })
}

fn mosquitto(nightjar: &Path, folder: &Path, port: u16, kept: bool) -> io::Result<Plan> {
    let binary = installed("mosquitto")?;
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
    let certified = certificate(nightjar, folder).is_ok();
    if certified {
        text.push_str(&format!(
            "listener {tls} 127.0.0.1\ncertfile {0}/server.crt\nkeyfile {0}/server.key\n",
            folder.display()
        ));
    }
    std::fs::write(&file, text)?;
    let mut command = Command::new(binary);
    command.arg("-c").arg(file);
    Ok(Plan {
        command,
        version,
        other: Others {
            tls: certified.then_some(tls),
            ws: Some(ws),
        },
        after: None,
    })
}

/// A certificate authority and a server certificate for 127.0.0.1 in a folder.
fn certificate(nightjar: &Path, folder: &Path) -> io::Result<()> {
    for words in [&["ca"][..], &["server", "localhost", "127.0.0.1"]] {
        let made = Command::new(nightjar)
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

fn nats(folder: &Path, port: u16) -> io::Result<Plan> {
    let binary = installed("nats-server")?;
    let version = first_line(Command::new(&binary).arg("--version"))?;
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
    Ok(Plan {
        command,
        version,
        other: Others::default(),
        after: None,
    })
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
        command,
        version,
        other: Others::default(),
        after: Some(after),
    })
}

fn rumqttd(folder: &Path, port: u16) -> io::Result<Plan> {
    let binary = installed("rumqttd")?;
    let version = first_line(Command::new(&binary).arg("--version"))?;
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
    Ok(Plan {
        command,
        version,
        other: Others::default(),
        after: None,
    })
}

/// The path of a program, looked for in PATH, the system's folders and cargo's.
fn installed(name: &str) -> io::Result<std::path::PathBuf> {
    let mut folders: Vec<_> = std::env::var_os("PATH")
        .iter()
        .flat_map(std::env::split_paths)
        .collect();
    folders.extend(["/usr/sbin", "/usr/local/sbin"].map(Into::into));
    if let Some(home) = std::env::var_os("HOME") {
        folders.push(Path::new(&home).join(".cargo/bin"));
    }
    let found = folders
        .into_iter()
        .map(|folder| folder.join(name))
        .find(|path| path.is_file());
    found.ok_or_else(|| io::Error::other(format!("{name} is not installed")))
}

/// The first line a program prints, on whichever stream.
fn first_line(command: &mut Command) -> io::Result<String> {
    let output = command.output()?;
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
