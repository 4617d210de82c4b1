//! mosquitto.conf, versions 1.x and 2.x.

use std::path::{Path, PathBuf};

use toml::Table;

use super::acl;
use super::convert::{Form, bind, truth};
use super::plan::{At, Outcome, Plan};
use super::source::{self, Setting};

/// Files that name one another end somewhere.
const MAX_INCLUDES: usize = 100;

/// A listener while its lines are read.
#[derive(Debug, Default)]
struct Listener {
    at: At,
    bind: String,
    websockets: bool,
    /// Keys of this listener: name here, value, where it stands.
    keys: Vec<(String, toml::Value, At)>,
    tls: bool,
}

/// Reads a configuration into the plan.
///
/// # Errors
/// A file that cannot be read.
pub fn read(path: &Path, text: &str, plan: &mut Plan) -> Result<(), String> {
    let mut settings = source::words(path, text);
    include(&mut settings, plan)?;
    let mut listeners: Vec<Listener> = Vec::new();
    let mut bridge = false;
    let mut anonymous = None;
    for it in &settings {
        let at = &it.at;
        let value = it.value.as_str();
        match it.key() {
            "connection" => {
                bridge = true;
                plan.unsupported(
                    at,
                    "bridges are not done here: let a client of both sides forward",
                );
            }
            _ if bridge && is_bridge(it.key()) => plan.unsupported(at, "part of a bridge"),
            "listener" | "port" => {
                bridge = false;
                let (port, host) = value.split_once(char::is_whitespace).unwrap_or((value, ""));
                let address = if host.is_empty() {
                    bind(port)
                } else {
                    bind(&format!("{}:{port}", host.trim()))
                };
                match address {
                    Some(_) if port == "0" => {
                        plan.unsupported(at, "Unix sockets are not listened on")
                    }
                    Some(bind) => listeners.push(Listener {
                        at: at.clone(),
                        bind,
                        ..Listener::default()
                    }),
                    None => plan.unsupported(at, "not a port with or without an address"),
                }
            }
            "allow_anonymous" => match truth(value) {
                Some(it) => {
                    anonymous = Some(it);
                    plan.mapped(at, "auth.allow_anonymous", it);
                }
                None => plan.unsupported(at, "neither true nor false"),
            },
            key if LISTENER_KEYS.contains(&key) => listener_key(it, &mut listeners, plan),
            _ => global(it, plan),
        }
    }
    if anonymous.is_none() {
        plan.set("auth.allow_anonymous", false);
    }
    place(listeners, path, plan);
    Ok(())
}

/// Puts the lines of `include_dir` in its place.
fn include(settings: &mut Vec<Setting>, plan: &mut Plan) -> Result<(), String> {
    let mut at = 0;
    let mut left = MAX_INCLUDES;
    while at < settings.len() {
        if settings[at].key() != "include_dir" {
            at += 1;
            continue;
        }
        let it = settings.remove(at);
        let folder = beside(&it.at.file, &it.value);
        let entries = std::fs::read_dir(&folder).map_err(|error| {
            format!(
                "{}:{}: {}: {error}",
                it.at.file.display(),
                it.at.line,
                folder.display()
            )
        })?;
        let mut files: Vec<PathBuf> = entries
            .filter_map(|entry| Some(entry.ok()?.path()))
            .filter(|path| path.extension().is_some_and(|end| end == "conf"))
            .collect();
        files.sort();
        plan.row(
            &it.at,
            Outcome::Mapped,
            "",
            &format!("{} files are read", files.len()),
        );
        let mut more = Vec::new();
        for file in files {
            left = left
                .checked_sub(1)
                .ok_or("more than 100 files are included: is one of them its own folder?")?;
            more.extend(source::words(&file, &source::read(&file)?));
        }
        settings.splice(at..at, more);
    }
    Ok(())
}

/// A file that a configuration names: from its own folder if it is not there as it is.
fn beside(config: &Path, name: &str) -> PathBuf {
    let path = PathBuf::from(name);
    if path.exists() {
        return path;
    }
    config.parent().map_or(path, |folder| folder.join(name))
}

/// Keys that belong to the listener before them.
const LISTENER_KEYS: &[&str] = &[
    "protocol",
    "bind_address",
    "bind_interface",
    "socket_domain",
    "max_connections",
    "mount_point",
    "maximum_qos",
    "max_qos",
    "max_topic_alias",
    "max_topic_alias_broker",
    "certfile",
    "keyfile",
    "cafile",
    "capath",
    "crlfile",
    "require_certificate",
    "use_identity_as_username",
    "use_subject_as_username",
    "use_username_as_clientid",
    "tls_version",
    "ciphers",
    "ciphers_tls1.3",
    "dhparamfile",
    "psk_hint",
    "tls_engine",
    "tls_keyform",
    "http_dir",
    "websockets_origin",
    "enable_proxy_protocol",
    "proxy_protocol_v2_require_tls",
    "disable_client_cert_date_checks",
];

fn is_bridge(key: &str) -> bool {
    key.starts_with("bridge_")
        || key.starts_with("remote_")
        || key.starts_with("local_")
        || key.starts_with("notification")
        || [
            "address",
            "addresses",
            "topic",
            "try_private",
            "start_type",
            "restart_timeout",
            "round_robin",
            "threshold",
            "idle_timeout",
            "keepalive_interval",
            "cleansession",
            "username",
            "password",
            "clientid",
        ]
        .contains(&key)
}

fn listener_key(it: &Setting, listeners: &mut Vec<Listener>, plan: &mut Plan) {
    let at = &it.at;
    if listeners.is_empty() {
        // Before any listener these keys are about the default one.
        listeners.push(Listener {
            at: at.clone(),
            bind: "0.0.0.0:1883".into(),
            ..Listener::default()
        });
    }
    let Some(listener) = listeners.last_mut() else {
        return;
    };
    let mut key = |name: &str, value: toml::Value| {
        listener.keys.push((name.to_owned(), value, at.clone()));
    };
    let on = truth(&it.value);
    match it.key() {
        "protocol" if it.value == "websockets" => {
            listener.websockets = true;
            plan.row(at, Outcome::Mapped, "listeners.ws", "");
        }
        "protocol" if it.value == "mqtt" => plan.row(at, Outcome::Mapped, "listeners.tcp", ""),
        "bind_address" => match bind(&format!(
            "{}:{}",
            it.value,
            listener.bind.rsplit(':').next().unwrap_or("1883")
        )) {
            Some(address) => {
                listener.bind = address;
                plan.row(at, Outcome::Mapped, "bind", "");
            }
            None => plan.unsupported(at, "not an address"),
        },
        "max_connections" if it.value == "-1" => plan.row(
            at,
            Outcome::Mapped,
            "max_connections",
            "no limit is the default",
        ),
        "max_connections" => match Form::Int.apply(&it.value) {
            Some(value) => key("max_connections", value),
            None => plan.unsupported(at, "not a number"),
        },
        "mount_point" => key("mountpoint", it.value.as_str().into()),
        "maximum_qos" | "max_qos" => match Form::Int.apply(&it.value) {
            Some(value) => key("mqtt.max_qos", value),
            None => plan.unsupported(at, "not a number"),
        },
        "max_topic_alias" => match Form::Int.apply(&it.value) {
            Some(value) => key("mqtt.max_topic_alias", value),
            None => plan.unsupported(at, "not a number"),
        },
        "certfile" => {
            listener.tls = true;
            listener.keys.push((
                "cert_file".into(),
                beside(&at.file, &it.value).display().to_string().into(),
                at.clone(),
            ));
        }
        "keyfile" => key(
            "key_file",
            beside(&at.file, &it.value).display().to_string().into(),
        ),
        "cafile" => key(
            "ca_file",
            beside(&at.file, &it.value).display().to_string().into(),
        ),
        "crlfile" => key(
            "crl_file",
            beside(&at.file, &it.value).display().to_string().into(),
        ),
        "require_certificate" if on == Some(true) => {
            key("verify", "peer".into());
            key("fail_if_no_peer_cert", true.into());
        }
        "use_identity_as_username" if on == Some(true) => key("cert_as_username", "cn".into()),
        "use_subject_as_username" if on == Some(true) => key("cert_as_username", "dn".into()),
        "websockets_origin" => {
            let origins = listener
                .keys
                .iter()
                .find(|(name, ..)| name == "allowed_origins");
            let mut list = origins
                .and_then(|(_, value, _)| value.as_array().cloned())
                .unwrap_or_default();
            list.push(it.value.as_str().into());
            listener.keys.retain(|(name, ..)| name != "allowed_origins");
            listener
                .keys
                .push(("allowed_origins".into(), list.into(), at.clone()));
        }
        "enable_proxy_protocol" => {
            key("proxy_protocol", "required".into());
            key("trusted_proxies", private_networks());
        }
        "tls_version" | "ciphers" | "ciphers_tls1.3" | "dhparamfile" => {
            plan.not_needed(at, "TLS 1.2 and 1.3 with their safe ciphers, nothing older");
        }
        "socket_domain" | "max_topic_alias_broker" => plan.not_needed(at, "done by itself"),
        _ if on == Some(false) => plan.not_needed(at, "off is how it is here"),
        "capath" => plan.unsupported(at, "put the certificates into one file: ca_file"),
        _ => plan.unsupported(at, "not done here"),
    }
}

/// Networks that are nobody's public address: where a proxy is likely to be.
pub fn private_networks() -> toml::Value {
    [
        "127.0.0.0/8",
        "10.0.0.0/8",
        "172.16.0.0/12",
        "192.168.0.0/16",
    ]
    .map(toml::Value::from)
    .to_vec()
    .into()
}

/// Gives each listener its table; transports without one are switched off.
fn place(mut listeners: Vec<Listener>, path: &Path, plan: &mut Plan) {
    if listeners.is_empty() {
        let at = At {
            file: path.to_owned(),
            line: 0,
            key: "(no listener)".into(),
        };
        plan.approximated(
            &at,
            "listeners.tcp.default.bind",
            "127.0.0.1:1883",
            "Mosquitto 2 without a listener serves this machine alone",
        );
    }
    let mut taken: Vec<String> = Vec::new();
    for listener in &mut listeners {
        let kind = match (listener.websockets, listener.tls) {
            (false, false) => "tcp",
            (false, true) => "tls",
            (true, false) => "ws",
            (true, true) => "wss",
        };
        let first = !taken.iter().any(|it| it == kind);
        let port = listener.bind.rsplit(':').next().unwrap_or_default();
        let name = if first {
            "default".to_owned()
        } else {
            format!("port{port}")
        };
        taken.push(kind.to_owned());
        let table = format!("listeners.{kind}.{name}");
        let bind = listener.bind.clone();
        plan.mapped(&listener.at, &format!("{table}.bind"), bind);
        for (key, value, at) in listener.keys.drain(..) {
            let path = format!("{table}.{key}");
            if key == "trusted_proxies" {
                plan.approximated(
                    &at,
                    &path,
                    value,
                    "headers are believed from private networks alone: name your proxies",
                );
            } else {
                plan.mapped(&at, &path, value);
            }
        }
    }
    let none = listeners.is_empty();
    for kind in ["tcp", "tls", "ws", "wss", "mqttsn"] {
        let there = taken.iter().any(|it| it == kind) || (none && kind == "tcp");
        if !there {
            plan.set(&format!("listeners.{kind}.default.enable"), false);
        }
    }
}

/// Keys that are the same with another name.
const SAME: &[(&str, &str, Form)] = &[
    (
        "max_inflight_messages",
        "mqtt.max_inflight",
        Form::IntMax(65_535),
    ),
    (
        "max_queued_messages",
        "mqtt.max_queue_len",
        Form::IntMax(4_294_967_295),
    ),
    ("max_packet_size", "mqtt.max_packet_size", Form::Size),
    ("max_keepalive", "mqtt.server_keep_alive", Form::TimeOff),
    ("queue_qos0_messages", "mqtt.queue_qos0", Form::Bool),
    ("retain_available", "mqtt.retain_available", Form::Bool),
    ("sys_interval", "node.sys_interval", Form::TimeOff),
    ("max_queued_bytes", "mqtt.max_queue_bytes", Form::Size),
];

fn global(it: &Setting, plan: &mut Plan) {
    let at = &it.at;
    let value = it.value.as_str();
    if let Some((_, path, form)) = SAME.iter().find(|(key, ..)| *key == it.key()) {
        return match form.apply(value) {
            Some(_) if it.key() == "max_queued_bytes" && value == "0" => {
                plan.not_needed(at, "the default here is 8 MiB a session")
            }
            Some(value) => plan.mapped(at, path, value),
            None => plan.unsupported(at, "not a value of this key"),
        };
    }
    match it.key() {
        "password_file" => users(it, plan),
        "acl_file" => acl::mosquitto(at, &beside(&at.file, value), plan),
        "persistence" => match truth(value) {
            Some(true) => plan.mapped(at, "durability", "sync"),
            Some(false) => plan.mapped(at, "durability", "memory"),
            None => plan.unsupported(at, "neither true nor false"),
        },
        "persistence_location" => plan.unsupported(
            at,
            "what is stored there is not read; set node.data_dir to where new data shall stand",
        ),
        "persistence_file" | "autosave_interval" | "autosave_on_changes" => {
            plan.not_needed(at, "everything is written before it is acknowledged");
        }
        "persistent_client_expiration" => {
            let days = |unit: char, days: u64| {
                let number: u64 = value.strip_suffix(unit)?.parse().ok()?;
                Some(format!("{}d", number.checked_mul(days)?))
            };
            let found = [('h', 0), ('d', 1), ('w', 7), ('m', 30), ('y', 365)]
                .into_iter()
                .find_map(|(unit, count)| {
                    if count == 0 {
                        value.ends_with('h').then(|| value.to_owned())
                    } else {
                        days(unit, count)
                    }
                });
            match found {
                Some(time) => plan.mapped(at, "mqtt.session_expiry_3x", time),
                None => plan.unsupported(at, "not a time such as 2m, 14d or 1y"),
            }
        }
        "message_size_limit" => match Form::SizeOff.apply(value) {
            Some(size) if size.as_str() != Some("off") => {
                plan.approximated(
                    at,
                    "mqtt.max_packet_size",
                    size,
                    "the limit counts the whole packet here, topic included",
                );
            }
            Some(_) => plan.not_needed(at, "no limit beside mqtt.max_packet_size"),
            None => plan.unsupported(at, "not a size"),
        },
        "log_dest" => match value.split_once(char::is_whitespace) {
            Some(("file", file)) => plan.mapped(at, "log.file", file.trim()),
            _ if value == "stderr" || value == "stdout" => {
                plan.row(at, Outcome::Mapped, "", "standard error is the default")
            }
            _ if value == "syslog" => {
                plan.approximated(at, "log.format", "text", "the journal has it under systemd")
            }
            _ => plan.unsupported(at, "the log goes to standard error or a file"),
        },
        "log_type" => {
            let level = match value {
                "error" => "error",
                "warning" => "warn",
                "notice" | "information" => "info",
                "none" => return plan.unsupported(at, "errors are always logged"),
                _ => "debug",
            };
            // Several lines add up: the finest of them decides.
            let order = ["error", "warn", "info", "debug"];
            let rank = |word: &str| order.iter().position(|it| *it == word);
            let old = plan
                .get("log.level")
                .and_then(toml::Value::as_str)
                .map(str::to_owned);
            if old.as_deref().and_then(rank) < rank(level) {
                plan.mapped(at, "log.level", level);
            } else {
                plan.row(
                    at,
                    Outcome::Mapped,
                    "log.level",
                    "a finer one is asked for too",
                );
            }
        }
        "per_listener_settings" if truth(value) == Some(true) => {
            plan.row(at, Outcome::Approximated, "auth", "users and rules hold for all listeners here; {listener, \"tcp:default\"} in acl.conf tells them apart");
        }
        "allow_zero_length_clientid" | "allow_duplicate_messages" if truth(value) == Some(true) => {
            plan.row(at, Outcome::Mapped, "", "it is so here");
        }
        "pid_file"
        | "user"
        | "log_timestamp"
        | "log_timestamp_format"
        | "connection_messages"
        | "set_tcp_nodelay"
        | "check_retain_source"
        | "per_listener_settings"
        | "upgrade_outgoing_qos"
        | "websockets_log_level"
        | "websockets_headers_size"
        | "retry_interval"
        | "store_clean_interval"
        | "packet_buffer_size"
        | "packet_max_inflight" => {
            if it.key() == "upgrade_outgoing_qos" && truth(value) == Some(true) {
                return plan.unsupported(
                    at,
                    "a message never gets a higher QoS than it was published with",
                );
            }
            plan.not_needed(at, "nothing here depends on it");
        }
        "plugin" | "auth_plugin" | "global_plugin" => plan.unsupported(
            at,
            "plugins of Mosquitto do not run here; see [[auth.chain]] and [[acl.sources]]",
        ),
        key if key.starts_with("auth_opt_") || key.starts_with("plugin_opt_") => {
            plan.unsupported(at, "belongs to a plugin")
        }
        "psk_file" => {
            plan.unsupported(at, "TLS with pre-shared keys is not done: use certificates")
        }
        "memory_limit" => plan.unsupported(
            at,
            "see limits.memory_high, a share of the machine's or container's memory",
        ),
        "clientid_prefixes" => plan.unsupported(
            at,
            "a rule does it: {allow, {clientid, {re, \"^prefix\"}}, all}",
        ),
        _ => plan.unsupported(at, "not done here"),
    }
}

/// Takes the users' file over: its hashes are known here.
fn users(it: &Setting, plan: &mut Plan) {
    let path = beside(&it.at.file, &it.value);
    match source::read(&path) {
        Ok(text) => {
            let path = plan.file("users", text);
            let mut entry = Table::new();
            entry.insert("kind".into(), "file".into());
            entry.insert("path".into(), path.into());
            plan.push("auth.chain", entry);
            plan.row(
                &it.at,
                Outcome::Mapped,
                "auth.chain",
                "the file is taken over as it is",
            );
        }
        Err(why) => plan.unsupported(&it.at, &why),
    }
}
