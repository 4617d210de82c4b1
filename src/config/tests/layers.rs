//! Layers over each other, and who gave a value.

use std::io::Write;

use super::{right, wrong};
use crate::config::diff::Changes;
use crate::config::model::{
    AclSource, Authenticator, Durability, ProxyProtocol, QueuePolicy, SharedStrategy,
};
use crate::config::units::OffOr;
use crate::config::{Origin, diff, explain, missing_features, print};

#[test]
fn without_any_layer_every_key_has_the_default_of_the_contract() {
    let config = right("", &[], &[]).config;
    assert_eq!(config.durability, Durability::Sync);
    assert_eq!(
        (config.node.name.as_str(), config.node.data_dir.to_str()),
        ("nightjar@127.0.0.1", Some("data"))
    );
    let listening: Vec<String> = config
        .listeners
        .streams()
        .map(|it| format!("{}:{}={}", it.kind.word(), it.name, it.stream.bind))
        .chain(
            config
                .listeners
                .datagrams()
                .map(|(name, it)| format!("mqttsn:{name}={}", it.bind)),
        )
        .collect();
    assert_eq!(
        listening.join(" "),
        "tcp:default=0.0.0.0:1883 tls:default=0.0.0.0:8883 ws:default=0.0.0.0:8083 wss:default=0.0.0.0:8084 \
         mqttsn:default=0.0.0.0:1884"
    );
    assert_eq!(config.api.bind.to_string(), "0.0.0.0:18083");
    let mqtt = &config.mqtt;
    assert_eq!(mqtt.max_packet_size.get(), 1 << 20);
    assert_eq!(
        (mqtt.max_topic_levels, mqtt.max_topic_alias, mqtt.max_qos),
        (128, 32, 2)
    );
    assert_eq!(
        (
            mqtt.max_inflight,
            mqtt.receive_maximum,
            mqtt.max_awaiting_rel
        ),
        (32, 100, 100)
    );
    assert_eq!(
        (mqtt.server_keep_alive, mqtt.retry_interval),
        (OffOr::Off, OffOr::Off)
    );
    assert_eq!(mqtt.session_expiry_3x.to_string(), "2h");
    assert_eq!(mqtt.max_session_expiry.to_string(), "30d");
    assert_eq!(
        (mqtt.max_queue_len, mqtt.max_queue_bytes.get()),
        (1000, 8 << 20)
    );
    assert_eq!(
        (mqtt.queue_policy, mqtt.shared_strategy),
        (QueuePolicy::DropOldest, SharedStrategy::RoundRobin)
    );
    assert!((mqtt.keep_alive_multiplier - 1.5).abs() < f64::EPSILON);
    assert_eq!(config.auth.allow_anonymous, None);
    assert_eq!(
        (
            config.acl.cache_size,
            config.acl.cache_ttl.to_string().as_str()
        ),
        (32, "1m")
    );
    let sn = &config.listeners.mqttsn["default"];
    assert_eq!(
        (
            sn.max_datagram,
            sn.max_retries,
            sn.max_topics,
            sn.buffer_messages
        ),
        (1200, 4, 4096, 1000)
    );
    assert_eq!(
        (sn.session_expiry.to_string(), sn.buffer_bytes.to_string()),
        ("7d".into(), "256KiB".into())
    );
    assert!(!config.cluster.opens_links());
}

#[test]
fn each_layer_wins_over_the_one_below_and_is_named() {
    let file = "[mqtt]\nmax_qos = 1\nmax_inflight = 10\nmax_topic_levels = 9\n";
    let environment = [
        ("NIGHTJAR_MQTT__MAX_INFLIGHT", "11"),
        ("NIGHTJAR_MQTT__MAX_TOPIC_LEVELS", "8"),
    ];
    let loaded = right(
        file,
        &environment,
        &["mqtt.max_topic_levels=7", "mqtt.max_topic_levels=6"],
    );
    let mqtt = &loaded.config.mqtt;
    assert_eq!(
        (mqtt.max_qos, mqtt.max_inflight, mqtt.max_topic_levels),
        (1, 11, 6)
    );
    let shown = |path: &str| loaded.origin(path).to_string();
    assert_eq!(shown("mqtt.max_qos"), "nightjar.toml:2:11");
    assert_eq!(
        shown("mqtt.max_inflight"),
        "environment NIGHTJAR_MQTT__MAX_INFLIGHT"
    );
    assert_eq!(
        shown("mqtt.max_topic_levels"),
        "--set mqtt.max_topic_levels"
    );
    assert_eq!(loaded.origin("mqtt.receive_maximum"), Origin::Default);
    let text = explain("mqtt.max_qos", &loaded).unwrap();
    for line in [
        "type     whole number 0 to 2",
        "default  2",
        "value    1",
        "from     nightjar.toml:2:11",
    ] {
        assert!(text.contains(line), "{text}");
    }
    assert!(print(&loaded, true).contains("max_qos = 1  # nightjar.toml:2:11"));
}

#[test]
fn values_of_the_environment_are_read_by_the_type_of_their_key() {
    let environment = [
        ("NIGHTJAR_DURABILITY", "memory"),
        ("NIGHTJAR_NODE__NAME", "true"),
        ("NIGHTJAR_API__ADMIN_PASSWORD", "[1, \"2\"] = #x"),
        ("NIGHTJAR_LISTENERS__TCP__DEFAULT__BIND", "127.0.0.1:0"),
        ("NIGHTJAR_LISTENERS__TCP__LAB_2__BIND", "1999"),
        ("NIGHTJAR_LISTENERS__WS__DEFAULT__ENABLE", "false"),
        ("NIGHTJAR_LISTENERS__TLS__DEFAULT__MAX_CONNECTIONS", "off"),
        ("NIGHTJAR_LISTENERS__WSS__DEFAULT__MAX_CONNECTIONS", "500"),
        (
            "NIGHTJAR_LISTENERS__WSS__DEFAULT__MAX_CONNECT_RATE",
            "100/s",
        ),
        (
            "NIGHTJAR_LISTENERS__TCP__DEFAULT__TRUSTED_PROXIES",
            "['10.0.0.0/8', \"::1\"]",
        ),
        ("NIGHTJAR_MQTT__KEEP_ALIVE_MULTIPLIER", "2"),
        ("NIGHTJAR_MQTT__MESSAGE_EXPIRY", "1h"),
        ("NIGHTJAR_AUTH__ALLOW_ANONYMOUS", "true"),
        (
            "NIGHTJAR_AUTH__CHAIN",
            "[{kind=\"file\",path=\"users\"}, {kind=\"jwt\", secret=\"s\", claims={sub=\"${username}\"}}]",
        ),
        (
            "NIGHTJAR_LISTENERS__MQTTSN__DEFAULT",
            "{gateway_id = 9, predefined = [{id = 7, topic = \"x/y\"}]}",
        ),
    ];
    let config = right("", &environment, &[]).config;
    assert_eq!(config.durability, Durability::Memory);
    assert_eq!(config.node.name, "true");
    assert_eq!(
        config.api.admin_password.unwrap().expose(),
        "[1, \"2\"] = #x"
    );
    assert_eq!(
        config.listeners.tcp["default"].stream.bind.to_string(),
        "127.0.0.1:0"
    );
    assert_eq!(
        config.listeners.tcp["lab_2"].stream.bind.to_string(),
        "0.0.0.0:1999"
    );
    assert!(!config.listeners.ws["default"].stream.enable);
    assert_eq!(
        config.listeners.wss["default"].stream.max_connections,
        OffOr::On(500)
    );
    assert_eq!(
        config.listeners.tcp["default"].stream.trusted_proxies.len(),
        2
    );
    assert!((config.mqtt.keep_alive_multiplier - 2.0).abs() < f64::EPSILON);
    assert_eq!(config.auth.allow_anonymous, Some(true));
    let kinds: Vec<&str> = config.auth.chain.iter().map(Authenticator::kind).collect();
    assert_eq!(kinds, ["file", "jwt"]);
    let sn = &config.listeners.mqttsn["default"];
    assert_eq!(
        (sn.gateway_id, sn.predefined[0].id, sn.bind.to_string()),
        (9, 7, "0.0.0.0:1884".into())
    );
}

#[test]
fn a_variable_may_name_a_file_unless_it_is_a_key_itself() {
    let path = std::env::temp_dir().join(format!("nightjar-secret-{}", std::process::id()));
    let mut file = std::fs::File::create(&path).unwrap();
    file.write_all(b"two\nlines \n\n").unwrap();
    let name = path.to_str().unwrap();
    let environment = [
        ("NIGHTJAR_CLUSTER__COOKIE_FILE", name),
        ("NIGHTJAR_LISTENERS__TLS__DEFAULT__CERT_FILE", name),
        ("NIGHTJAR_LISTENERS__TLS__DEFAULT__KEY_FILE", name),
    ];
    let loaded = right("", &environment, &[]);
    // One final newline goes, and no more than one.
    assert_eq!(
        loaded.config.cluster.cookie.as_ref().unwrap().expose(),
        "two\nlines \n"
    );
    assert_eq!(
        loaded.config.listeners.tls["default"]
            .tls
            .cert_file
            .as_deref(),
        Some(path.as_path())
    );
    assert_eq!(
        loaded.origin("cluster.cookie").to_string(),
        format!("environment NIGHTJAR_CLUSTER__COOKIE_FILE (file {name})")
    );
    std::fs::remove_file(&path).unwrap();
    let gone = wrong("", &environment[..1], &[]);
    assert!(
        gone.contains("NIGHTJAR_CLUSTER__COOKIE_FILE") && gone.contains("cannot read the file"),
        "{gone}"
    );
    let both = wrong(
        "",
        &[
            ("NIGHTJAR_API__ADMIN_PASSWORD", "a"),
            ("NIGHTJAR_API__ADMIN_PASSWORD_FILE", "/proc/self/comm"),
        ],
        &[],
    );
    assert!(
        both.contains("NIGHTJAR_API__ADMIN_PASSWORD sets the same key"),
        "{both}"
    );
}

#[test]
fn names_that_kubernetes_and_docker_inject_are_no_settings() {
    let injected = [
        ("NIGHTJAR_PORT", "tcp://10.0.0.1:1883"),
        ("NIGHTJAR_PORT_1883_TCP", "tcp://10.0.0.1:1883"),
        ("NIGHTJAR_PORT_1884_UDP_ADDR", "10.0.0.1"),
        ("NIGHTJAR_SERVICE_HOST", "10.0.0.1"),
        ("NIGHTJAR_SERVICE_PORT", "1883"),
        ("NIGHTJAR_SERVICE_PORT_MQTT", "1883"),
        ("NIGHTJAR_HEADLESS_SERVICE_HOST", "10.0.0.1"),
        ("NIGHTJAR_HEADLESS_PORT", "tcp://10.0.0.1:1883"),
        ("NIGHTJAR_HEADLESS_PORT_1883_TCP_PROTO", "tcp"),
        ("NIGHTJAR_NAME", "/web/nightjar"),
        ("NIGHTJAR_ENV_PATH", "/bin"),
        ("NIGHTJARX_MQTT__MAX_QOS", "9"),
    ];
    let loaded = right("", &injected, &[]);
    assert_eq!(print(&loaded, true), print(&right("", &[], &[]), false));
}

#[test]
fn listeners_take_defaults_names_and_overrides() {
    let file = "[listeners.tcp.default]\nenable = false\n[listeners.tcp.lab]\nbind = \"127.0.0.1:0\"\n\
                proxy_protocol = \"optional\"\ntrusted_proxies = [\"10.0.0.0/8\"]\n\
                [listeners.tcp.lab.mqtt]\nmax_qos = 0\nclient_leniency = \"strict\"\n";
    let loaded = right(file, &[], &[]);
    let config = &loaded.config;
    let names: Vec<String> = config.listeners.streams().map(|it| it.key()).collect();
    assert_eq!(
        names,
        ["tcp.lab", "tls.default", "ws.default", "wss.default"]
            .map(|name| format!("listeners.{name}"))
    );
    let lab = &config.listeners.tcp["lab"].stream;
    assert_eq!(
        (lab.backlog, lab.proxy_protocol),
        (1024, ProxyProtocol::Optional)
    );
    let mqtt = config.mqtt.with(&lab.mqtt);
    assert_eq!((mqtt.max_qos, mqtt.max_inflight), (0, 32));
    assert_eq!(config.mqtt.max_qos, 2);
}

#[test]
fn every_kind_of_authenticator_and_source_is_parsed_in_full() {
    let file = r#"
[[auth.chain]]
kind = "mysql"
server = "db.example.org:3307"
username = "mqtt"
password = "geheim"
password_hash = "pbkdf2"
salt = "suffix"
[auth.chain.tls]
enable = true
ca_file = "db-ca.crt"
[[auth.chain]]
kind = "builtin"
user_id = "clientid"
[[auth.chain]]
kind = "ldap"
base_dn = "ou=devices"
enable = false
[[acl.sources]]
kind = "file"
path = "etc/acl.conf"
[[acl.sources]]
kind = "postgres"
acl_row_order = "reverse"
"#;
    let loaded = right(file, &[], &[]);
    let Authenticator::MySql(sql) = &loaded.config.auth.chain[0] else {
        panic!("{:?}", loaded.config.auth)
    };
    assert_eq!(
        (
            sql.server.server.as_str(),
            sql.server.database.as_str(),
            sql.server.pool
        ),
        ("db.example.org:3307", "mqtt", 8)
    );
    assert!(
        sql.query
            .starts_with("select password, salt, is_superuser from mqtt_user")
    );
    assert!(sql.server.tls.enable && sql.server.tls.verify);
    let AclSource::Postgres(acl) = &loaded.config.acl.sources[1] else {
        panic!("{:?}", loaded.config.acl)
    };
    assert_eq!(acl.server.server, "127.0.0.1:5432");
    assert_eq!(
        loaded.origin("auth.chain[0].server").to_string(),
        "nightjar.toml:4:10"
    );
    assert_eq!(loaded.origin("auth.chain[0].database"), Origin::Default);
    // An entry that is switched off needs nothing compiled in.
    let missing = missing_features(&loaded, &[("auth", "builtin"), ("acl", "file")]);
    let keys: Vec<&str> = missing.iter().map(|problem| problem.key.as_str()).collect();
    assert_eq!(keys, ["auth.chain[0]", "acl.sources[1]"]);
    assert!(
        missing[0].to_string().contains("cargo feature `mysql`"),
        "{}",
        missing[0]
    );
    let text = explain("auth.chain[0].password_hash", &loaded).unwrap();
    assert!(text.contains("value    \"pbkdf2\""), "{text}");
}

#[test]
fn secrets_are_shown_nowhere() {
    let file = r#"
[api]
admin_password = "hunter2"
[cluster]
cookie = "hunter2"
[cluster.etcd]
servers = ["http://user:hunter2@127.0.0.1:2379"]
[[auth.chain]]
kind = "http"
url = "https://user:hunter2@example.org/auth"
headers = { Authorization = "Bearer hunter2" }
[[auth.chain]]
kind = "jwt"
secret = "hunter2"
[[auth.chain]]
kind = "redis"
password = "hunter2"
[listeners.mqttsn.default]
username = "${clientid}"
password = "hunter2"
"#;
    let loaded = right(file, &[], &["cluster.cookie=hunter2"]);
    let mut shown = print(&loaded, true)
        + &format!("{loaded:?}")
        + &serde_json::to_string(&loaded.config.cluster.cookie).unwrap();
    for key in [
        "api.admin_password",
        "cluster.cookie",
        "auth.chain[0].headers",
        "auth.chain[0].url",
        "auth.chain[1].secret",
    ] {
        shown += &explain(key, &loaded).unwrap();
    }
    assert!(shown.contains("******"), "{shown}");
    for line in shown.lines() {
        assert!(!line.contains("hunter2"), "{line}");
    }
    // Neither are they repeated by an error.
    let problems = wrong(
        "[api]\nadmin_password = 5\n[cluster]\ncookie = [\"hunter2\"]\nexpect = \"hunter2\"",
        &[("NIGHTJAR_CLUSTER__SEEDS", "hunter2")],
        &["auth.chain=hunter2"],
    );
    assert!(!problems.contains("hunter2"), "{problems}");
}

#[test]
fn a_reload_knows_what_it_can_apply() {
    let base = "[[auth.chain]]\nkind = \"builtin\"\n";
    let old = right(base, &[], &[]);
    assert_eq!(
        diff(&old, &right(base, &[], &["mqtt.max_qos=2"])),
        Changes::default()
    );
    let file = "[mqtt]\nmax_qos = 1\n[node]\nworkers = 2\n[log]\nlevel = \"debug\"\n[listeners.tcp.default]\nbind = \"1999\"\n\
                [listeners.tls.default]\ncert_file = \"a\"\nkey_file = \"b\"\nsni = [{cert_file = \"c\", key_file = \"d\"}]\n[listeners.tcp.lab]\nbind = \"2000\"\n\
                [api]\nadmin_password = \"new\"\n[listeners.ws.default.mqtt]\nmax_inflight = 3\n";
    let changes = diff(&old, &right(file, &[], &[]));
    let expected = Changes {
        now: [
            "api.admin_password",
            "auth.chain",
            "listeners.ws.default.mqtt.max_inflight",
            "log.level",
            "mqtt.max_qos",
        ]
        .map(str::to_owned)
        .to_vec(),
        restart: [
            "listeners.tcp.default.bind",
            "listeners.tcp.lab",
            "listeners.tls.default.cert_file",
            "listeners.tls.default.key_file",
            "listeners.tls.default.sni",
            "node.workers",
        ]
        .map(str::to_owned)
        .to_vec(),
    };
    assert_eq!(changes, expected);
    let backwards = diff(&right(file, &[], &[]), &old);
    assert_eq!(backwards, expected);
}
