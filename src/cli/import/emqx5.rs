//! emqx.conf of 5.x: the basic keys of its HOCON.

use std::collections::BTreeMap;
use std::path::Path;

use toml::{Table, Value};

use super::convert::Form::{self, *};
use super::convert::{bind, placeholders, time, truth};
use super::emqx::{certificate_file, named_file};
use super::mosquitto::private_networks;
use super::plan::{At, Outcome, Plan};
use super::source::Setting;
use super::{acl, hocon};

/// Keys with one meaning: name there, name here, form of the value.
const SAME: &[(&str, &str, Form)] = &[
    ("node.name", "node.name", Text),
    ("cluster.name", "cluster.name", Text),
    ("cluster.autoclean", "cluster.autoclean", TimeOff),
    (
        "cluster.discovery_strategy",
        "cluster.discovery",
        Word(&[
            ("manual", "manual"),
            ("static", "static"),
            ("mcast", "mcast"),
            ("dns", "dns"),
            ("etcd", "etcd"),
            ("k8s", "k8s"),
        ]),
    ),
    ("cluster.dns.name", "cluster.dns.name", Text),
    (
        "cluster.dns.record_type",
        "cluster.dns.record",
        Word(&[("a", "a"), ("srv", "srv")]),
    ),
    ("cluster.k8s.service_name", "cluster.k8s.service", Text),
    ("cluster.k8s.namespace", "cluster.k8s.namespace", Text),
    ("cluster.k8s.apiserver", "cluster.k8s.api", Text),
    (
        "authorization.no_match",
        "acl.no_match",
        Word(&[("allow", "allow"), ("deny", "deny")]),
    ),
    (
        "authorization.deny_action",
        "acl.deny_action",
        Word(&[("ignore", "ignore"), ("disconnect", "disconnect")]),
    ),
    ("authorization.cache.max_size", "acl.cache_size", Int),
    ("authorization.cache.ttl", "acl.cache_ttl", Time),
    ("mqtt.max_packet_size", "mqtt.max_packet_size", Size),
    ("mqtt.max_clientid_len", "mqtt.max_client_id_len", Int),
    ("mqtt.max_topic_levels", "mqtt.max_topic_levels", Int),
    ("mqtt.max_topic_alias", "mqtt.max_topic_alias", Int),
    ("mqtt.max_qos_allowed", "mqtt.max_qos", Int),
    ("mqtt.retain_available", "mqtt.retain_available", Bool),
    (
        "mqtt.wildcard_subscription",
        "mqtt.wildcard_subscription",
        Bool,
    ),
    ("mqtt.shared_subscription", "mqtt.shared_subscription", Bool),
    ("mqtt.idle_timeout", "mqtt.connect_timeout", Time),
    ("mqtt.server_keepalive", "mqtt.server_keep_alive", TimeOff),
    ("mqtt.max_subscriptions", "mqtt.max_subscriptions", IntOff),
    ("mqtt.max_inflight", "mqtt.max_inflight", Int),
    ("mqtt.retry_interval", "mqtt.retry_interval", TimeOff),
    ("mqtt.max_awaiting_rel", "mqtt.max_awaiting_rel", Int),
    (
        "mqtt.session_expiry_interval",
        "mqtt.session_expiry_3x",
        Time,
    ),
    (
        "mqtt.message_expiry_interval",
        "mqtt.message_expiry",
        TimeOff,
    ),
    (
        "mqtt.max_mqueue_len",
        "mqtt.max_queue_len",
        IntMax(4_294_967_295),
    ),
    ("mqtt.mqueue_store_qos0", "mqtt.queue_qos0", Bool),
    (
        "mqtt.shared_subscription_strategy",
        "mqtt.shared_strategy",
        Word(&[
            ("random", "random"),
            ("round_robin", "round_robin"),
            ("round_robin_per_group", "round_robin"),
            ("sticky", "sticky"),
            ("local", "local"),
            ("hash_clientid", "hash_client_id"),
            ("hash_topic", "hash_topic"),
        ]),
    ),
    ("retainer.max_payload_size", "retained.max_payload", Size),
    ("retainer.msg_expiry_interval", "retained.expiry", TimeOff),
    (
        "retainer.backend.max_retained_messages",
        "retained.max_messages",
        IntOff,
    ),
    ("flapping_detect.enable", "limits.flapping.enable", Bool),
    ("flapping_detect.max_count", "limits.flapping.connects", Int),
    (
        "flapping_detect.window_time",
        "limits.flapping.window",
        Time,
    ),
    ("flapping_detect.ban_time", "limits.flapping.ban", Time),
    ("dashboard.listeners.http.bind", "api.bind", Bind),
    ("sys_topics.sys_msg_interval", "node.sys_interval", TimeOff),
    (
        "gateway.mqttsn.gateway_id",
        "listeners.mqttsn.default.gateway_id",
        Int,
    ),
    (
        "gateway.mqttsn.enable_qos3",
        "listeners.mqttsn.default.qos_minus_one",
        Bool,
    ),
    (
        "gateway.mqttsn.mountpoint",
        "listeners.mqttsn.default.mountpoint",
        Text,
    ),
    (
        "gateway.mqttsn.listeners.udp.default.bind",
        "listeners.mqttsn.default.bind",
        Bind,
    ),
    ("log.console.level", "log.level", Word(LEVELS)),
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

/// What has no counterpart, by the beginning of the key.
const UNSUPPORTED: &[(&str, &str)] = &[
    ("listeners.quic.", "QUIC is not spoken here"),
    (
        "bridges.",
        "bridges are not done here: let a client of both sides forward",
    ),
    ("connectors.", "data bridges are not done here"),
    ("actions.", "data bridges are not done here"),
    ("sources.", "data bridges are not done here"),
    ("rule_engine.", "there is no rule engine here"),
    ("delayed.", "delayed messages are not done here"),
    (
        "rewrite.",
        "topic rewriting is not done here; see mountpoint for prefixes",
    ),
    ("auto_subscribe.", "clients subscribe themselves"),
    ("exhook.", "there are no hooks here"),
    ("gateway.mqttsn.listeners.dtls.", "DTLS is not spoken here"),
    ("gateway.", "this protocol is not spoken here"),
    (
        "mqtt.ignore_loop_deliver",
        "not done here (5.0 clients have No Local)",
    ),
    ("mqtt.upgrade_qos", "not done here"),
    ("mqtt.use_username_as_clientid", "not done here"),
    ("mqtt.mqueue_priorities", "topics have no priorities here"),
];

/// What nothing here needs, by the beginning of the key.
const NOT_NEEDED: &[&str] = &[
    "node.",
    "cluster.",
    "rpc.",
    "log.",
    "sysmon.",
    "prometheus.",
    "telemetry.",
    "dashboard.",
    "api_key.",
    "broker.",
    "sys_topics.",
    "force_gc.",
    "force_shutdown.",
    "conn_congestion.",
    "overload_protection.",
    "crl_cache.",
    "alarm.",
    "retainer.",
    "mqtt.",
    "durable_",
    "authorization.cache.",
    "license.",
    "stats.",
    "gateway.mqttsn.",
    "limiter.",
    "psk_authentication.",
    "slow_subs.",
    "flapping_detect.",
];

/// Reads a configuration into the plan.
///
/// # Errors
/// A text that is not HOCON.
pub fn read(path: &Path, text: &str, plan: &mut Plan) -> Result<(), String> {
    let settings = hocon::parse(path, text)?;
    let mut lists: BTreeMap<(&str, &str), Vec<&Setting>> = BTreeMap::new();
    let mut sn = false;
    let mut chain = false;
    for it in &settings {
        let parts: Vec<&str> = it.key().splitn(3, '.').collect();
        match parts[..] {
            ["authentication", number, _] if number.parse::<usize>().is_ok() => {
                chain = true;
                lists
                    .entry(("authentication", number))
                    .or_default()
                    .push(it);
            }
            ["authorization", "sources", rest] => {
                let number = rest.split('.').next().unwrap_or_default();
                lists.entry(("authorization", number)).or_default().push(it);
            }
            ["listeners", "tcp" | "ssl" | "ws" | "wss", _] => listener(it, path, plan),
            _ => {
                sn |= it.key().starts_with("gateway.mqttsn.");
                global(it, &mut lists, plan);
            }
        }
    }
    for ((what, _), entry) in &lists {
        match *what {
            "authentication" => authenticator(entry, plan),
            "authorization" => source(entry, path, plan),
            _ => predefined(entry, plan),
        }
    }
    if !chain {
        let at = At {
            file: path.to_owned(),
            line: 0,
            key: "authentication".into(),
        };
        plan.approximated(
            &at,
            "auth.allow_anonymous",
            true,
            "EMQX without authenticators lets everybody in",
        );
    }
    if !sn {
        plan.set("listeners.mqttsn.default.enable", false);
    }
    Ok(())
}

fn global<'s>(
    it: &'s Setting,
    lists: &mut BTreeMap<(&'s str, &'s str), Vec<&'s Setting>>,
    plan: &mut Plan,
) {
    let at = &it.at;
    let value = it.value.as_str();
    if let Some((_, path, form)) = SAME.iter().find(|(there, ..)| *there == it.key()) {
        return match form.apply(value) {
            Some(value) => plan.mapped(at, path, value),
            None => plan.unsupported(at, "not a value of this key here"),
        };
    }
    match it.key() {
        "node.cookie" if value == "emqxsecretcookie" => {
            plan.row(
                at,
                Outcome::Approximated,
                "",
                "the default of EMQX is known to everybody: set cluster.cookie before nodes join",
            );
        }
        "node.cookie" => plan.mapped(at, "cluster.cookie", value),
        "authentication" | "authorization.sources" if value.is_empty() => {
            plan.row(at, Outcome::Mapped, "", "none")
        }
        "authorization.cache.enable" => match truth(value) {
            Some(false) => plan.mapped(at, "acl.cache_size", 0),
            _ => plan.row(at, Outcome::Mapped, "acl.cache_size", ""),
        },
        "mqtt.keepalive_multiplier" => match value.parse::<f64>() {
            Ok(number) => plan.mapped(at, "mqtt.keep_alive_multiplier", number),
            Err(_) => plan.unsupported(at, "not a number"),
        },
        "log.file.path" | "log.file.default.path" => plan.mapped(at, "log.file", value),
        "dashboard.default_username" | "dashboard.default_password" => {
            plan.row(
                at,
                Outcome::Approximated,
                "",
                "the user is admin; its password is made at first start: data_dir/admin-password",
            );
        }
        "include" => plan.unsupported(at, "import that file too, or put it in place"),
        key => {
            if key.starts_with("cluster.static.seeds.") {
                return seed(it, plan);
            }
            if let Some(rest) = key.strip_prefix("gateway.mqttsn.predefined.") {
                let number = rest.split('.').next().unwrap_or_default();
                lists.entry(("predefined", number)).or_default().push(it);
                return;
            }
            let off = truth(value) == Some(false) || value.is_empty() || value == "disabled";
            if let Some((_, why)) = UNSUPPORTED.iter().find(|(start, _)| key.starts_with(start))
                && !off
                && !key.starts_with("gateway.mqttsn.idle")
            {
                return plan.unsupported(at, why);
            }
            if off || NOT_NEEDED.iter().any(|start| key.starts_with(start)) {
                plan.not_needed(at, "nothing here depends on it");
            } else {
                plan.unsupported(at, "not done here");
            }
        }
    }
}

fn seed(it: &Setting, plan: &mut Plan) {
    let host = it.value.rsplit('@').next().unwrap_or_default();
    let mut seeds = plan
        .get("cluster.seeds")
        .and_then(Value::as_array)
        .cloned()
        .unwrap_or_default();
    seeds.push(format!("{host}:5369").into());
    plan.set("cluster.expect", i64::try_from(seeds.len()).unwrap_or(1));
    plan.approximated(&it.at, "cluster.seeds", seeds, "by host and port 5369");
}

fn listener(it: &Setting, config: &Path, plan: &mut Plan) {
    let at = &it.at;
    let parts: Vec<&str> = it.key().splitn(4, '.').collect();
    let [_, kind, name, rest] = parts[..] else {
        return plan.unsupported(at, "not a key of a listener");
    };
    let kind = if kind == "ssl" { "tls" } else { kind };
    let table = format!("listeners.{kind}.{name}");
    let target = |name: &str| format!("{table}.{name}");
    let on = truth(&it.value);
    let rest = rest.strip_prefix("ssl_options.").unwrap_or(rest);
    match rest {
        "bind" => match bind(&it.value) {
            Some(address) => plan.mapped(at, &target("bind"), address),
            None => plan.unsupported(at, "not a port with or without an address"),
        },
        "enable" | "enabled" => match on {
            Some(on) => plan.mapped(at, &target("enable"), on),
            None => plan.unsupported(at, "neither true nor false"),
        },
        "max_connections" => match IntOff.apply(&it.value) {
            Some(value) => plan.mapped(at, &target("max_connections"), value),
            None => plan.unsupported(at, "not a number"),
        },
        "max_conn_rate" => match it
            .value
            .contains('/')
            .then(|| it.value.as_str().into())
            .or_else(|| PerSecond.apply(&it.value))
        {
            Some(value) => plan.mapped(at, &target("max_connect_rate"), value),
            None => plan.unsupported(at, "not a rate"),
        },
        "proxy_protocol" if on == Some(true) => {
            plan.set(&target("proxy_protocol"), "optional");
            plan.approximated(at, &target("trusted_proxies"), private_networks(),
                "headers are believed from private networks alone, and clients without one are served too: name your proxies");
        }
        "proxy_protocol_timeout" => match time(&it.value) {
            Some(time) => plan.mapped(at, &target("proxy_timeout"), time),
            None => plan.unsupported(at, "not a time"),
        },
        "mountpoint" if it.value.is_empty() => plan.not_needed(at, "empty"),
        "mountpoint" => plan.mapped(at, &target("mountpoint"), it.value.as_str()),
        "websocket.mqtt_path" => plan.mapped(at, &target("path"), it.value.as_str()),
        "verify" => {
            match Word(&[("verify_peer", "peer"), ("verify_none", "none")]).apply(&it.value) {
                Some(value) => plan.mapped(at, &target("verify"), value),
                None => plan.unsupported(at, "not a value of this key here"),
            }
        }
        "fail_if_no_peer_cert" => match on {
            Some(on) => plan.mapped(at, &target("fail_if_no_peer_cert"), on),
            None => plan.unsupported(at, "neither true nor false"),
        },
        "certfile" | "keyfile" | "cacertfile" => certificate_file(&table, rest, it, config, plan),
        _ if rest.starts_with("access_rules.") && it.value == "allow all" => {
            plan.row(at, Outcome::Mapped, "", "it is so here")
        }
        _ if rest.starts_with("access_rules.") => plan.unsupported(
            at,
            "a rule does it: {deny, {ipaddr, \"...\"}, all}; or a firewall",
        ),
        "enable_authn" if on == Some(false) => {
            plan.unsupported(at, "authentication is the same for all listeners")
        }
        _ if rest.starts_with("authentication") => {
            plan.unsupported(at, "authentication is the same for all listeners")
        }
        _ => plan.not_needed(at, "done by itself"),
    }
}

/// The settings of one entry of a list by what follows its number.
fn by_name<'s>(entry: &[&'s Setting], parts: usize) -> BTreeMap<&'s str, &'s Setting> {
    entry
        .iter()
        .filter_map(|it| Some((it.key().splitn(parts + 1, '.').nth(parts)?, *it)))
        .collect()
}

fn truthy(fields: &BTreeMap<&str, &Setting>, key: &str) -> bool {
    fields
        .get(key)
        .is_none_or(|it| truth(&it.value) != Some(false))
}

fn all(entry: &[&Setting], outcome: Outcome, target: &str, note: &str, plan: &mut Plan) {
    for it in entry {
        plan.row(&it.at, outcome, target, note);
    }
}

fn authenticator(entry: &[&Setting], plan: &mut Plan) {
    let fields = by_name(entry, 2);
    let value = |key: &str| fields.get(key).map(|it| it.value.as_str());
    let kind = match (value("mechanism"), value("backend")) {
        (Some("jwt"), _) => "jwt",
        (Some("scram"), _) => {
            return all(
                entry,
                Outcome::Unsupported,
                "",
                "see kind = \"scram\" in [[auth.chain]]",
                plan,
            );
        }
        (_, Some("built_in_database")) => {
            let note = "users of EMQX's own database are not read: `nightjar ctl users add NAME --password P`";
            return all(entry, Outcome::Unsupported, "", note, plan);
        }
        (_, Some("mysql")) => "mysql",
        (_, Some("postgresql")) => "postgres",
        (_, Some("redis")) => "redis",
        (_, Some("http")) => "http",
        _ => {
            return all(
                entry,
                Outcome::Unsupported,
                "",
                "no such authenticator here, or one to be set by hand",
                plan,
            );
        }
    };
    let mut link = database(kind, &fields, "auth.chain", plan);
    for (key, it) in &fields {
        let text = it.value.as_str();
        let known = match *key {
            "query" => link
                .insert("query".into(), placeholders(text).into())
                .is_none(),
            "cmd" => link
                .insert("command".into(), placeholders(text).into())
                .is_none(),
            "password_hash_algorithm.name" => {
                link.insert("password_hash".into(), text.into()).is_none()
            }
            "password_hash_algorithm.salt_position" => {
                let salt = if text == "disable" { "none" } else { text };
                link.insert("salt".into(), salt.into()).is_none()
            }
            "password_hash_algorithm.mac_fun" => {
                link.insert("pbkdf2_prf".into(), text.into()).is_none()
            }
            "password_hash_algorithm.iterations" | "password_hash_algorithm.dk_length" => {
                match text.parse::<i64>() {
                    Ok(number) => {
                        let name = if key.ends_with("iterations") {
                            "pbkdf2_iterations"
                        } else {
                            "pbkdf2_length"
                        };
                        link.insert(name.into(), number.into()).is_none()
                    }
                    Err(_) => false,
                }
            }
            "secret" if kind == "jwt" => link.insert("secret".into(), text.into()).is_none(),
            "from" => link.insert("from".into(), text.into()).is_none(),
            "secret_base64_encoded" => link
                .insert("secret_base64".into(), (truth(text) == Some(true)).into())
                .is_none(),
            "public_key" => link.insert("public_key_file".into(), text.into()).is_none(),
            "endpoint" => link.insert("jwks_url".into(), text.into()).is_none(),
            key if key.starts_with("verify_claims.") => {
                let claims = link
                    .entry("claims")
                    .or_insert_with(|| Value::Table(Table::new()));
                if let Value::Table(claims) = claims {
                    claims.insert(
                        key["verify_claims.".len()..].to_owned(),
                        placeholders(text).into(),
                    );
                }
                true
            }
            _ => continue,
        };
        let outcome = if known {
            Outcome::Mapped
        } else {
            Outcome::Unsupported
        };
        plan.row(
            &it.at,
            outcome,
            "auth.chain",
            if known {
                ""
            } else {
                "not a value of this key here"
            },
        );
    }
    if !truthy(&fields, "enable") {
        link.insert("enable".into(), false.into());
    }
    plan.push("auth.chain", link);
}

/// What all connectors share; rows for every field are added here, but for those its caller knows.
fn database(kind: &str, fields: &BTreeMap<&str, &Setting>, list: &str, plan: &mut Plan) -> Table {
    let mut link: Table = [("kind".to_owned(), Value::from(kind))]
        .into_iter()
        .collect();
    for (key, it) in fields {
        let text = it.value.as_str();
        let pair: Option<(&str, Value)> = match *key {
            "server" => Some(("server", text.into())),
            "database" if kind == "redis" => {
                text.parse::<i64>().ok().map(|it| ("database", it.into()))
            }
            "database" => Some(("database", text.into())),
            "username" => Some(("username", text.into())),
            "password" => Some(("password", text.into())),
            "pool_size" => text.parse::<i64>().ok().map(|it| ("pool", it.into())),
            "url" => Some(("url", placeholders(text).into())),
            "method" => Some(("method", text.to_lowercase().into())),
            "request_timeout" => time(text).map(|it| ("timeout", it.into())),
            "mechanism" | "backend" | "enable" | "type" | "redis_type" | "ssl.enable"
            | "use_jwks" | "algorithm" => {
                let outcome = if *key == "redis_type" && text != "single" {
                    Outcome::Unsupported
                } else {
                    Outcome::Mapped
                };
                plan.row(
                    &it.at,
                    outcome,
                    list,
                    if outcome == Outcome::Unsupported {
                        "one server, not a cluster and not sentinels"
                    } else {
                        ""
                    },
                );
                if *key == "ssl.enable" && truth(text) == Some(true) {
                    let tls: Table = [("enable".to_owned(), Value::from(true))]
                        .into_iter()
                        .collect();
                    link.insert("tls".into(), Value::Table(tls));
                }
                continue;
            }
            key if key.starts_with("body.") || key.starts_with("headers.") => {
                let (table, name) = key.split_once('.').unwrap_or((key, ""));
                let below = link
                    .entry(table)
                    .or_insert_with(|| Value::Table(Table::new()));
                if let Value::Table(below) = below {
                    below.insert(name.to_owned(), placeholders(text).into());
                }
                plan.row(&it.at, Outcome::Mapped, list, "");
                continue;
            }
            key if key.starts_with("query")
                || key.starts_with("cmd")
                || key.starts_with("password_hash")
                || key.starts_with("verify_claims")
                || [
                    "secret",
                    "from",
                    "secret_base64_encoded",
                    "public_key",
                    "endpoint",
                    "path",
                ]
                .contains(&key) =>
            {
                continue;
            }
            key if key.starts_with("ssl.") => {
                plan.row(
                    &it.at,
                    Outcome::Unsupported,
                    list,
                    "set the files of [auth.chain.tls] by hand",
                );
                continue;
            }
            _ => {
                plan.not_needed(&it.at, "nothing here depends on it");
                continue;
            }
        };
        match pair {
            Some((name, value)) => {
                link.insert(name.to_owned(), value);
                plan.row(&it.at, Outcome::Mapped, list, "");
            }
            None => plan.row(
                &it.at,
                Outcome::Unsupported,
                list,
                "not a value of this key here",
            ),
        }
    }
    link
}

fn source(entry: &[&Setting], config: &Path, plan: &mut Plan) {
    let fields = by_name(entry, 3);
    let value = |key: &str| fields.get(key).map(|it| it.value.as_str());
    if !truthy(&fields, "enable") {
        return all(entry, Outcome::NotNeeded, "", "switched off", plan);
    }
    match value("type") {
        Some("file") => {
            for (key, it) in &fields {
                if *key == "path" {
                    acl::emqx(&it.at, &named_file(config, &it.value), plan);
                } else {
                    plan.row(&it.at, Outcome::Mapped, "acl.sources", "");
                }
            }
        }
        Some(kind @ ("mysql" | "postgresql" | "redis" | "http")) => {
            let kind = if kind == "postgresql" {
                "postgres"
            } else {
                kind
            };
            let mut link = database(kind, &fields, "acl.sources", plan);
            for (key, name) in [("query", "query"), ("cmd", "command")] {
                if let Some(it) = fields.get(key) {
                    link.insert(name.into(), placeholders(&it.value).into());
                    let note = "columns here: allow, ipaddr, username, clientid, access, topic; EMQX 5 reads permission, action, topic";
                    plan.row(
                        &it.at,
                        Outcome::Approximated,
                        "acl.sources",
                        if key == "query" { note } else { "" },
                    );
                }
            }
            plan.push("acl.sources", link);
        }
        _ => all(
            entry,
            Outcome::Unsupported,
            "",
            "no such source of rules here",
            plan,
        ),
    }
}

fn predefined(entry: &[&Setting], plan: &mut Plan) {
    let fields = by_name(entry, 4);
    let id = fields.get("id").and_then(|it| it.value.parse::<i64>().ok());
    match (id, fields.get("topic")) {
        (Some(id), Some(topic)) => {
            let mut table = Table::new();
            table.insert("id".into(), id.into());
            table.insert("topic".into(), topic.value.as_str().into());
            plan.push("listeners.mqttsn.default.predefined", table);
            all(
                entry,
                Outcome::Mapped,
                "listeners.mqttsn.default.predefined",
                "",
                plan,
            );
        }
        _ => all(
            entry,
            Outcome::Unsupported,
            "",
            "an id and a topic belong together",
            plan,
        ),
    }
}
