//! emqx.conf of 2.x, 3.x and 4.x: `key = value`, with plugins/*.conf, loaded_plugins and acl.conf around it.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use toml::{Table, Value};

use super::convert::{Form, bind, truth};
use super::mosquitto::private_networks;
use super::plan::{At, Outcome, Plan};
use super::source::{self, Setting};
use super::{Beside, acl, emqx_auth, emqx_keys as keys};

/// A listener by what its lines say.
#[derive(Debug, Default)]
struct Listener {
    /// Kind here: tcp, tls, ws, wss.
    kind: &'static str,
    bind: Option<(String, At)>,
    zone: String,
    settings: Vec<(String, Setting)>,
}

/// Reads a configuration and what stands around it into the plan.
///
/// # Errors
/// A file that is named and cannot be read.
pub fn read(path: &Path, text: &str, beside: &Beside, plan: &mut Plan) -> Result<(), String> {
    let mut settings = source::equals(path, text);
    let plugins = loaded(path, beside, plan)?;
    for plugin in &plugins {
        for file in plugin_files(path, plugin) {
            settings.extend(source::equals(&file, &source::read(&file)?));
        }
    }
    if let Some(file) = &beside.env_file {
        overridden(
            &mut settings,
            source::variables(file, &source::read(file)?),
            plan,
        );
    }
    for setting in &mut settings {
        rename(setting);
    }
    let mut listeners: BTreeMap<String, Listener> = BTreeMap::new();
    let (mut auth, mut rest) = (Vec::new(), Vec::new());
    for setting in settings {
        match setting.key().split('.').next() {
            Some("listener") => listener(setting, &mut listeners, plan),
            Some("auth") => auth.push(setting),
            _ => rest.push(setting),
        }
    }
    let zones: BTreeSet<String> = listeners.values().map(|it| it.zone.clone()).collect();
    // EMQ X lets in who is not known where this is on, whatever the chain.
    for it in &rest {
        global(it, path, &listeners, &zones, plan);
    }
    emqx_auth::read(&auth, plan);
    place(listeners, path, plugins.contains("sn"), plan);
    Ok(())
}

/// Plugins that are loaded, without `emqx_` before their names.
fn loaded(path: &Path, beside: &Beside, plan: &mut Plan) -> Result<BTreeSet<String>, String> {
    let folder = path.parent().unwrap_or(Path::new("."));
    let places = [
        "loaded_plugins",
        "data/loaded_plugins",
        "../data/loaded_plugins",
    ];
    let found = beside
        .loaded_plugins
        .clone()
        .or_else(|| {
            places
                .map(|it| folder.join(it))
                .into_iter()
                .find(|it| it.exists())
        })
        .or_else(|| {
            Some(PathBuf::from("/var/lib/emqx/loaded_plugins"))
                .filter(|it| it.exists() && path.starts_with("/etc/emqx"))
        });
    let mut names = BTreeSet::new();
    if let Some(file) = found {
        for (setting, on) in source::plugins(&file, &source::read(&file)?) {
            let name = short(setting.key());
            plugin(&setting.at, &name, on, plan);
            if on {
                names.insert(name);
            }
        }
    } else {
        let at = At {
            file: path.to_owned(),
            line: 0,
            key: "loaded_plugins".into(),
        };
        plan.row(&at, Outcome::Approximated, "", "no such file: plugins/*.conf are not read, but for the retainer (--loaded-plugins names it)");
        names.insert("retainer".into());
    }
    if let Some(file) = &beside.env_file {
        for it in source::variables(file, &source::read(file)?) {
            if it.key() == "loaded_plugins" {
                for name in it.value.split(',').map(short) {
                    plugin(&it.at, &name, true, plan);
                    names.insert(name);
                }
            }
        }
    }
    Ok(names)
}

fn short(name: &str) -> String {
    let name = name.trim();
    name.strip_prefix("emqx_")
        .or_else(|| name.strip_prefix("emq_"))
        .unwrap_or(name)
        .to_owned()
}

fn plugin(at: &At, name: &str, on: bool, plan: &mut Plan) {
    if !on {
        plan.not_needed(at, "it is not loaded");
    } else if keys::PLUGINS_WITHIN.contains(&name) {
        plan.row(at, Outcome::Mapped, "", "part of this broker");
    } else {
        let what = match name {
            "rule_engine" => "rules that run on messages: let a client of the broker do it",
            "bridge_mqtt" | "bridge_kafka" => {
                "bridges to other brokers: let a client of both sides forward"
            }
            "web_hook" => "calls to a web service on events: subscribe to $SYS or ask the HTTP API",
            "delayed_publish" | "mod_delayed" => "delayed messages",
            "mod_rewrite" => "topic rewriting: see mountpoint for prefixes",
            "coap" | "lwm2m" | "stomp" | "exproto" => "this protocol is not spoken here",
            _ => "this plugin has no counterpart here",
        };
        plan.unsupported(at, what);
    }
}

fn plugin_files(path: &Path, name: &str) -> Vec<PathBuf> {
    let folder = path.parent().unwrap_or(Path::new("."));
    ["emqx", "emq"]
        .iter()
        .flat_map(|prefix| {
            [
                folder.join(format!("plugins/{prefix}_{name}.conf")),
                folder.join(format!("{prefix}_{name}.conf")),
            ]
        })
        .filter(|it| it.exists())
        .take(1)
        .collect()
}

/// Lays variables over the settings of files; names that only an image knows are read here.
fn overridden(settings: &mut Vec<Setting>, variables: Vec<Setting>, plan: &mut Plan) {
    let value = |name: &str| {
        variables
            .iter()
            .find(|it| it.key() == name)
            .map(|it| it.value.clone())
    };
    let host = value("host");
    for mut it in variables.clone() {
        match it.key() {
            "loaded_plugins" => continue,
            "host" => {
                plan.row(
                    &it.at,
                    Outcome::Mapped,
                    "node.name",
                    "the part behind the @",
                );
                continue;
            }
            "name" => {
                it.value = format!("{}@{}", it.value, host.as_deref().unwrap_or("127.0.0.1"));
                it.at.key = "node.name".into();
            }
            key if !it.at.key.contains('.')
                && !["allow_anonymous", "acl_nomatch", "acl_file"].contains(&key) =>
            {
                plan.unsupported(&it.at, "a variable of another image");
                continue;
            }
            _ => {}
        }
        settings.retain(|old| old.key() != it.key());
        settings.push(it);
    }
}

fn rename(setting: &mut Setting) {
    let key = setting.at.key.clone();
    if let Some((old, new)) = keys::RENAMED.iter().find(|(old, _)| key.starts_with(old)) {
        setting.at.key = key.replacen(old, new, 1);
    }
}

fn listener(it: Setting, listeners: &mut BTreeMap<String, Listener>, plan: &mut Plan) {
    let parts: Vec<&str> = it.at.key.splitn(4, '.').collect();
    let kind = match parts.get(1).copied() {
        Some("tcp") => "tcp",
        Some("ssl") => "tls",
        Some("ws" | "http") => "ws",
        Some("wss" | "https") => "wss",
        Some("api") => {
            return match parts.get(3) {
                None => plan.row(
                    &it.at,
                    Outcome::Approximated,
                    "api.bind",
                    "the HTTP API is at api.bind (18083), under /api/v1",
                ),
                Some(_) => plan.not_needed(&it.at, "the HTTP API is at api.bind"),
            };
        }
        Some("quic") => return plan.unsupported(&it.at, "QUIC is not spoken here"),
        Some("dtls" | "udp") => return plan.unsupported(&it.at, "DTLS is not spoken here"),
        _ => return plan.unsupported(&it.at, "no such kind of listener here"),
    };
    let Some(name) = parts.get(2) else {
        return plan.unsupported(&it.at, "a listener without a name");
    };
    let name = if *name == "external" { "default" } else { name };
    let entry = listeners
        .entry(format!("{kind}.{name}"))
        .or_insert_with(|| Listener {
            kind,
            zone: "external".into(),
            ..Listener::default()
        });
    match parts.get(3) {
        None => match bind(&it.value) {
            Some(address) => entry.bind = Some((address, it.at)),
            None => plan.unsupported(&it.at, "not a port with or without an address"),
        },
        Some(rest) => {
            if *rest == "zone" {
                entry.zone.clone_from(&it.value);
            }
            let rest = (*rest).to_owned();
            entry.settings.push((rest, it));
        }
    }
}

fn place(listeners: BTreeMap<String, Listener>, path: &Path, sn: bool, plan: &mut Plan) {
    let mut kinds = BTreeSet::new();
    for (name, it) in listeners {
        let Some((address, at)) = it.bind else {
            for (_, setting) in &it.settings {
                plan.not_needed(
                    &setting.at,
                    "its listener has no address and does not start",
                );
            }
            continue;
        };
        if name.ends_with(".default") {
            kinds.insert(it.kind);
        }
        let table = format!("listeners.{name}");
        plan.mapped(&at, &format!("{table}.bind"), address);
        for (key, setting) in it.settings {
            listener_key(&table, &key, &setting, path, plan);
        }
    }
    for kind in ["tcp", "tls", "ws", "wss"] {
        if !kinds.contains(kind) {
            plan.set(&format!("listeners.{kind}.default.enable"), false);
        }
    }
    if !sn {
        plan.set("listeners.mqttsn.default.enable", false);
    }
}

/// `keyfile`, `certfile` or `cacertfile` of the listener at `table`.
pub fn certificate_file(table: &str, key: &str, it: &Setting, config: &Path, plan: &mut Plan) {
    let file = named_file(config, &it.value);
    let name = match key {
        "keyfile" => "key_file",
        "certfile" => "cert_file",
        _ => "ca_file",
    };
    if file.exists() {
        let whole = std::path::absolute(&file).unwrap_or(file);
        plan.mapped(
            &it.at,
            &format!("{table}.{name}"),
            whole.display().to_string(),
        );
    } else {
        plan.row(
            &it.at,
            Outcome::Approximated,
            "",
            "no such file here: a certificate is made at first start until you name one",
        );
    }
}

/// A file that the configuration names: as it is, from EMQ X's own folder, or beside the configuration.
pub fn named_file(config: &Path, name: &str) -> PathBuf {
    let path = PathBuf::from(name);
    let folder = config.parent().unwrap_or(Path::new("."));
    let root = folder.parent().unwrap_or(folder);
    let short = path
        .file_name()
        .map_or_else(|| path.clone(), |file| folder.join(file));
    [path.clone(), root.join(name), folder.join(name), short]
        .into_iter()
        .find(|it| it.exists())
        .unwrap_or(path)
}

fn listener_key(table: &str, key: &str, it: &Setting, config: &Path, plan: &mut Plan) {
    let at = &it.at;
    let target = |name: &str| format!("{table}.{name}");
    if let Some((_, name, form)) = keys::LISTENER.iter().find(|(there, ..)| *there == key) {
        return match form.apply(&it.value) {
            Some(value) => plan.mapped(at, &target(name), value),
            None => plan.unsupported(at, "not a value of this key here"),
        };
    }
    match key {
        "proxy_protocol" if truth(&it.value) == Some(true) => {
            plan.set(&target("proxy_protocol"), "optional");
            plan.approximated(
                at,
                &target("trusted_proxies"),
                private_networks(),
                "headers are believed from private networks alone, and clients without one are served too: name your proxies",
            );
        }
        "proxy_protocol" => plan.row(at, Outcome::Mapped, &target("proxy_protocol"), ""),
        "certfile" | "keyfile" | "cacertfile" => certificate_file(table, key, it, config, plan),
        "check_origins" => {
            let list: Vec<Value> = it
                .value
                .split(',')
                .map(|origin| origin.trim().into())
                .collect();
            plan.mapped(at, &target("allowed_origins"), list);
        }
        "allow_origin_absence" => match truth(&it.value) {
            Some(value) => plan.mapped(at, &target("allow_origin_absence"), value),
            None => plan.unsupported(at, "neither true nor false"),
        },
        "check_origin_enable" => plan.not_needed(at, "origins are checked where some are named"),
        _ if key.starts_with("access.") && it.value == "allow all" => {
            plan.row(at, Outcome::Mapped, "", "it is so here")
        }
        _ if key.starts_with("access.") => plan.unsupported(
            at,
            "a rule does it: {deny, {ipaddr, \"...\"}, all}; or a firewall",
        ),
        "peer_cert_as_clientid" => plan.unsupported(
            at,
            "see kind = \"x509\" with as = \"clientid\" in [[auth.chain]]",
        ),
        "rate_limit" => plan.unsupported(at, "see limits.client.bytes"),
        _ if keys::LISTENER_NOT_NEEDED
            .iter()
            .any(|it| key == *it || key.starts_with(&format!("{it}."))) =>
        {
            plan.not_needed(at, "done by itself");
        }
        _ => plan.unsupported(at, "not done here"),
    }
}

fn global(
    it: &Setting,
    config: &Path,
    listeners: &BTreeMap<String, Listener>,
    zones: &BTreeSet<String>,
    plan: &mut Plan,
) {
    let at = &it.at;
    let value = it.value.as_str();
    if let Some((_, path, form)) = keys::SAME.iter().find(|(there, ..)| *there == it.key()) {
        return match form.apply(value) {
            Some(value) => plan.mapped(at, path, value),
            None => plan.unsupported(at, "not a value of this key here"),
        };
    }
    match it.key() {
        "node.name" => plan.mapped(at, "node.name", value),
        "node.cookie" if value == "emqxsecretcookie" || value == "emq_dist_cookie" => {
            plan.row(
                at,
                Outcome::Approximated,
                "",
                "the default of EMQ X is known to everybody: set cluster.cookie before nodes join",
            );
        }
        "node.cookie" => plan.mapped(at, "cluster.cookie", value),
        "allow_anonymous" => match truth(value) {
            Some(on) => {
                plan.mapped(at, "auth.allow_anonymous", on);
                // There, a user whom no authenticator knows is let in too.
                plan.set("auth.fallthrough_anonymous", on);
            }
            None => plan.unsupported(at, "neither true nor false"),
        },
        "acl_file" => acl::emqx(at, &named_file(config, value), plan),
        "enable_acl_cache" => match truth(value) {
            Some(true) => plan.row(at, Outcome::Mapped, "acl.cache_size", ""),
            Some(false) => plan.mapped(at, "acl.cache_size", 0),
            None => plan.unsupported(at, "neither on nor off"),
        },
        "flapping_detect_policy" => {
            let parts: Vec<&str> = value.split(',').map(str::trim).collect();
            if let [count, window, ban] = parts[..]
                && let (Some(count), Some(window), Some(ban)) = (
                    Form::Int.apply(count),
                    Form::Time.apply(window),
                    Form::Time.apply(ban),
                )
            {
                plan.set("limits.flapping.window", window);
                plan.set("limits.flapping.ban", ban);
                plan.mapped(at, "limits.flapping.connects", count);
            } else {
                plan.unsupported(at, "expected a number, a time and a time");
            }
        }
        "cluster.discovery" => match Form::Word(DISCOVERY).apply(value) {
            Some(word) => plan.mapped(at, "cluster.discovery", word),
            None => plan.unsupported(at, "no such way of discovery here"),
        },
        "cluster.static.seeds" => {
            let seeds: Vec<Value> = value
                .split(',')
                .filter_map(|seed| Some(format!("{}:5369", seed.trim().rsplit('@').next()?).into()))
                .collect();
            plan.set("cluster.expect", i64::try_from(seeds.len()).unwrap_or(1));
            plan.approximated(
                at,
                "cluster.seeds",
                seeds,
                "nodes are found by host and port 5369; cluster.expect of them form the cluster",
            );
        }
        "cluster.mcast.addr" => plan.approximated(
            at,
            "cluster.mcast.group",
            format!("{value}:4370"),
            "with one port",
        ),
        "cluster.mcast.iface" => {
            plan.not_needed(at, "the system chooses; see cluster.mcast.interface")
        }
        "cluster.etcd.server" => {
            let list: Vec<Value> = value.split(',').map(|it| it.trim().into()).collect();
            plan.mapped(at, "cluster.etcd.servers", list);
        }
        "cluster.k8s.apiserver" => plan.mapped(at, "cluster.k8s.api", value),
        "log.level" | "log.console.level" | "log.primary_log_level" => {
            match Form::Word(LEVELS).apply(value) {
                Some(level) => plan.mapped(at, "log.level", level),
                None => plan.unsupported(at, "no such level here"),
            }
        }
        "dashboard.default_user.login" | "dashboard.default_user.password" => {
            plan.row(
                at,
                Outcome::Approximated,
                "",
                "the user is admin; its password is made at first start: data_dir/admin-password",
            );
        }
        "log.to" if value == "console" => {
            plan.row(at, Outcome::Mapped, "", "standard error is the default")
        }
        key if key.starts_with("zone.") => zone(it, listeners, zones, plan),
        key if key.starts_with("mqtt.sn.predefined.topic.") => {
            let id = key.rsplit('.').next().and_then(|id| id.parse::<i64>().ok());
            match id {
                Some(0) => plan.not_needed(at, "id 0 is reserved"),
                Some(id) => {
                    let mut entry = Table::new();
                    entry.insert("id".into(), id.into());
                    entry.insert("topic".into(), value.into());
                    plan.push("listeners.mqttsn.default.predefined", entry);
                    plan.row(
                        at,
                        Outcome::Mapped,
                        "listeners.mqttsn.default.predefined",
                        "",
                    );
                }
                None => plan.unsupported(at, "not a topic id"),
            }
        }
        "mqtt.ignore_loop_deliver" | "mqtt.use_username_as_clientid"
            if truth(value) == Some(true) =>
        {
            plan.unsupported(at, "not done here (5.0 clients have No Local)");
        }
        "mqtt.ignore_loop_deliver" | "mqtt.use_username_as_clientid" => {
            plan.not_needed(at, "off is how it is here")
        }
        key if key.starts_with("bridge.") => plan.unsupported(
            at,
            "bridges are not done here: let a client of both sides forward",
        ),
        key if key.starts_with("module.rewrite") || key.starts_with("rewrite.") => plan
            .unsupported(
                at,
                "topic rewriting is not done here; see mountpoint for prefixes",
            ),
        key if key.starts_with("rule_engine.") => {
            plan.unsupported(at, "there is no rule engine here")
        }
        key if key.starts_with("module.delayed") || key.starts_with("delayed.") => {
            plan.unsupported(at, "delayed messages are not done here")
        }
        key if key.starts_with("module.subscription") || key.starts_with("subscription.") => {
            plan.unsupported(at, "clients subscribe themselves")
        }
        key if key.starts_with("module.presence") || key.starts_with("presence.") => {
            plan.not_needed(at, "events of clients stand in $SYS")
        }
        key => match keys::NOT_NEEDED
            .iter()
            .find(|(start, _)| key.starts_with(start))
        {
            Some((_, why)) => plan.not_needed(at, why),
            None => plan.unsupported(at, "not done here"),
        },
    }
}

const DISCOVERY: &[(&str, &str)] = &[
    ("manual", "manual"),
    ("static", "static"),
    ("mcast", "mcast"),
    ("dns", "dns"),
    ("etcd", "etcd"),
    ("k8s", "k8s"),
];

const LEVELS: &[(&str, &str)] = &[
    ("debug", "debug"),
    ("info", "info"),
    ("notice", "info"),
    ("warning", "warn"),
    ("error", "error"),
    ("critical", "error"),
    ("alert", "error"),
    ("emergency", "error"),
];

/// A key of a zone: the external zone is everybody's `[mqtt]`, another one that of the listeners that name it.
fn zone(
    it: &Setting,
    listeners: &BTreeMap<String, Listener>,
    zones: &BTreeSet<String>,
    plan: &mut Plan,
) {
    let at = &it.at;
    let mut parts = it.key().splitn(3, '.').skip(1);
    let (Some(zone), Some(key)) = (parts.next(), parts.next()) else {
        return plan.unsupported(at, "not a key of a zone");
    };
    if !zones.contains(zone) {
        return plan.not_needed(at, "no listener has this zone");
    }
    let external = zone == "external";
    let value = it.value.as_str();
    let (name, value) = match (key, keys::ZONE.iter().find(|(there, ..)| *there == key)) {
        (_, Some((_, name, form))) => match form.apply(value) {
            Some(value) => (*name, value),
            None => return plan.unsupported(at, "not a value of this key here"),
        },
        ("keepalive_backoff", _) => match value.parse::<f64>() {
            // There, a client has twice this share of its keep alive.
            Ok(share) => ("keep_alive_multiplier", (share * 2.0).into()),
            Err(_) => return plan.unsupported(at, "not a number"),
        },
        (_, None) => return zone_rest(it, key, external, plan),
    };
    if external {
        return plan.mapped(at, &format!("mqtt.{name}"), value);
    }
    for (table, _) in listeners
        .iter()
        .filter(|(_, it)| it.zone == zone && it.bind.is_some())
    {
        plan.mapped(at, &format!("listeners.{table}.mqtt.{name}"), value.clone());
    }
}

fn zone_rest(it: &Setting, key: &str, external: bool, plan: &mut Plan) {
    let at = &it.at;
    let on = truth(&it.value);
    match key {
        "rate_limit.conn_messages_in" | "rate_limit.conn_bytes_in" if external => {
            let name = if key.ends_with("bytes_in") {
                "bytes"
            } else {
                "messages"
            };
            match Form::PerTime.apply(&it.value) {
                Some(value) => plan.mapped(at, &format!("limits.client.{name}"), value),
                None => plan.unsupported(at, "expected a number and a time"),
            }
        }
        "enable_flapping_detect" if external => match on {
            Some(on) => plan.mapped(at, "limits.flapping.enable", on),
            None => plan.unsupported(at, "neither on nor off"),
        },
        "acl_deny_action" if external => {
            match Form::Word(&[("ignore", "ignore"), ("disconnect", "disconnect")]).apply(&it.value)
            {
                Some(value) => plan.mapped(at, "acl.deny_action", value),
                None => plan.unsupported(at, "ignore or disconnect"),
            }
        }
        "allow_anonymous" | "bypass_auth_plugins" if on == Some(true) => {
            plan.unsupported(at, "authentication is the same for all listeners; on loopback, a rule with {listener, ...} allows");
        }
        "enable_acl" if on == Some(false) => {
            plan.unsupported(at, "rules hold on all listeners: {allow, {listener, \"tcp:internal\"}} as the first one is the same");
        }
        "mqueue_priorities" if it.value != "none" => {
            plan.unsupported(at, "topics have no priorities here")
        }
        "upgrade_qos" | "ignore_loop_deliver" | "use_username_as_clientid" if on == Some(true) => {
            plan.unsupported(at, "not done here")
        }
        "mountpoint" => plan.unsupported(at, "set mountpoint on the listeners"),
        "mqueue_default_priority"
        | "mqueue_priorities"
        | "enable_acl"
        | "enable_ban"
        | "enable_stats"
        | "force_gc_policy"
        | "force_shutdown_policy"
        | "await_rel_timeout"
        | "upgrade_qos"
        | "ignore_loop_deliver"
        | "use_username_as_clientid"
        | "strict_mode"
        | "response_information"
        | "conn_congestion.alarm"
        | "conn_congestion.min_alarm_sustain_duration"
        | "allow_anonymous"
        | "bypass_auth_plugins"
        | "enable_flapping_detect"
        | "acl_deny_action" => {
            plan.not_needed(at, "nothing here depends on it");
        }
        _ => plan.unsupported(at, "not done here"),
    }
}
