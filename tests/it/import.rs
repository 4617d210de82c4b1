//! `nightjar import`: the deployments people have, imported and run.

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::PathBuf;
use std::time::Duration;

use crate::process::{Broker, Dir, Done, run};

fn fixture(name: &str) -> String {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR"))
        .join("tests/import")
        .join(name);
    path.to_str().expect("the path is UTF-8").to_owned()
}

/// Outcome, key here and note of each key, with the line where it stands.
struct Table(BTreeMap<String, (String, String, String, String)>);

impl Table {
    fn has(&self, key: &str, outcome: &str, becomes: &str) {
        let Some((got, target, note, place)) = self.0.get(key) else {
            panic!("{key} is not in the table: {:?}", self.0.keys());
        };
        assert_eq!(
            (got.as_str(), target.as_str()),
            (outcome, becomes),
            "{key} at {place}: {note}"
        );
    }

    fn place(&self, key: &str) -> &str {
        &self.0[key].3
    }
}

/// Imports a fixture into `etc/` of the directory, where `serve` looks.
fn import(dir: &Dir, name: &str, more: &[&str]) -> (Done, Table) {
    let file = fixture(name);
    let out = dir.path().join("etc");
    let out = out.to_str().expect("the path is UTF-8");
    let mut arguments = vec!["import", &file, "--out", out, "--output", "ndjson"];
    arguments.extend(more);
    let done = run(dir, &arguments);
    let rows = done.out.lines().map(|line| {
        let row: serde_json::Value = serde_json::from_str(line).expect("each line is JSON");
        let field = |name: &str| row[name].as_str().expect("it is a text").to_owned();
        (
            field("key"),
            (
                field("outcome"),
                field("becomes"),
                field("note"),
                field("source"),
            ),
        )
    });
    let table = Table(rows.collect());
    (done, table)
}

/// A node with a cookie and manual discovery serves once somebody said `cluster init`, as docs/cluster.md tells.
#[allow(clippy::disallowed_methods, reason = "a test may wait on a thread")]
fn first_of_a_cluster(dir: &Dir, sets: &[&str]) -> Broker {
    std::thread::scope(|scope| {
        scope.spawn(|| {
            for _ in 0..200 {
                let init = ["ctl", "--data-dir", "data", "cluster", "init"];
                if run(dir, &init).code == 0 {
                    return;
                }
                std::thread::sleep(Duration::from_millis(50));
            }
        });
        Broker::start(dir, sets)
    })
}

fn config(dir: &Dir) -> toml::Table {
    let text =
        std::fs::read_to_string(dir.path().join("etc/nightjar.toml")).expect("it was written");
    text.parse().expect("it is TOML")
}

/// A key of the imported configuration, as TOML writes its value.
#[track_caller]
fn assert_is(config: &toml::Table, path: &str, want: &str) {
    assert_eq!(
        value(config, path).map(ToString::to_string).as_deref(),
        Some(want),
        "{path}"
    );
}

fn value<'t>(table: &'t toml::Table, path: &str) -> Option<&'t toml::Value> {
    let mut parts = path.split('.');
    let mut value = table.get(parts.next()?)?;
    for part in parts {
        value = match part.parse::<usize>() {
            Ok(index) => value.as_array()?.get(index)?,
            Err(_) => value.as_table()?.get(part)?,
        };
    }
    Some(value)
}

/// CONNACK's return code of an MQTT 3.1.1 client.
fn connect(address: &str, client: &str, user: Option<(&str, &str)>) -> (TcpStream, u8) {
    let mut stream = TcpStream::connect(address).expect("it listens");
    stream
        .set_read_timeout(Some(Duration::from_secs(20)))
        .expect("a time limit can be set");
    let text = |text: &str| {
        let length = u16::try_from(text.len()).expect("short");
        [&length.to_be_bytes()[..], text.as_bytes()].concat()
    };
    let flags = if user.is_some() { 0xC2 } else { 0x02 };
    let mut body = [&text("MQTT")[..], &[4, flags, 0, 60], &text(client)].concat();
    if let Some((name, password)) = user {
        body.extend(text(name));
        body.extend(text(password));
    }
    let length = u8::try_from(body.len()).expect("short");
    stream
        .write_all(&[&[0x10, length][..], &body].concat())
        .expect("it reads");
    let mut answer = [0; 4];
    stream.read_exact(&mut answer).expect("CONNACK");
    assert_eq!(answer[..2], [0x20, 2]);
    (stream, answer[3])
}

/// Return code of SUBACK for one filter.
fn subscribe(stream: &mut TcpStream, filter: &str) -> u8 {
    let length = u8::try_from(filter.len()).expect("short");
    let body = [&[0, 7, 0, length][..], filter.as_bytes(), &[0]].concat();
    let size = u8::try_from(body.len()).expect("short");
    stream
        .write_all(&[&[0x82, size][..], &body].concat())
        .expect("it reads");
    let mut answer = [0; 5];
    stream.read_exact(&mut answer).expect("SUBACK");
    answer[4]
}

#[test]
fn mosquitto_with_users_rules_and_a_bridge() {
    let dir = Dir::new();
    let (done, table) = import(&dir, "mosquitto/mosquitto.conf", &[]);
    assert_eq!(done.code, 0, "{done:?}");
    table.has("max_inflight_messages", "mapped", "mqtt.max_inflight");
    table.has(
        "persistent_client_expiration",
        "mapped",
        "mqtt.session_expiry_3x",
    );
    table.has("message_size_limit", "approximated", "mqtt.max_packet_size");
    table.has("acl_file", "approximated", "acl.sources");
    table.has("password_file", "mapped", "auth.chain");
    table.has("connection", "unsupported", "");
    table.has("address", "unsupported", "");
    table.has("persistence_location", "unsupported", "");
    table.has("pid_file", "not needed", "");
    assert!(
        table.place("max_keepalive").ends_with("mosquitto.conf:19"),
        "{}",
        table.place("max_keepalive")
    );
    let config = config(&dir);
    let is = |path: &str, want: &str| assert_is(&config, path, want);
    is("listeners.tcp.default.max_connections", "500");
    is("listeners.ws.default.bind", "\"127.0.0.1:8083\"");
    is("listeners.tls.default.enable", "false");
    is("mqtt.max_queue_len", "4294967295");
    is("mqtt.session_expiry_3x", "\"14d\"");
    is("auth.allow_anonymous", "false");
    is("log.level", "\"info\"");
    // A second import does not write over the first.
    let (again, _) = import(&dir, "mosquitto/mosquitto.conf", &[]);
    assert_eq!(again.code, 4, "{again:?}");

    let broker = Broker::start(&dir, &[]);
    let tcp = broker.address("tcp:default");
    assert_eq!(
        connect(tcp, "p", Some(("pump", "water"))).1,
        0,
        "the right password"
    );
    assert_eq!(
        connect(tcp, "p", Some(("pump", "fire"))).1,
        4,
        "a wrong password"
    );
    assert_eq!(connect(tcp, "p", None).1, 5, "no user name");
    let (mut pump, _) = connect(tcp, "p", Some(("pump", "water")));
    assert_eq!(subscribe(&mut pump, "pumps/a/level"), 0);
    assert_eq!(
        subscribe(&mut pump, "pumps/secret"),
        0x80,
        "denied before it is allowed"
    );
    assert_eq!(
        subscribe(&mut pump, "devices/pump/command"),
        0,
        "a pattern with %u"
    );
    assert_eq!(subscribe(&mut pump, "devices/other/command"), 0x80);
    assert_eq!(
        subscribe(&mut pump, "public/news"),
        0x80,
        "for clients without a user name alone"
    );
    let (mut reader, _) = connect(tcp, "r", Some(("reader", "look")));
    assert_eq!(subscribe(&mut reader, "pumps/+/level"), 0);
    assert_eq!(subscribe(&mut reader, "pumps/#"), 0x80);

    // The same rules with anonymous clients let in: theirs are the rules before the first user.
    drop(broker);
    let broker = Broker::start(&dir, &["auth.allow_anonymous=true"]);
    let (mut nobody, code) = connect(broker.address("tcp:default"), "n", None);
    assert_eq!(code, 0);
    assert_eq!(subscribe(&mut nobody, "public/news"), 0);
    assert_eq!(subscribe(&mut nobody, "pumps/a/level"), 0x80);
}

#[test]
fn emqx_2_1_one_node_of_two() {
    let dir = Dir::new();
    let (done, table) = import(&dir, "emqx-2.1/emqx.conf", &[]);
    assert_eq!(done.code, 0, "{done:?}");
    table.has("node.name", "mapped", "node.name");
    table.has("node.cookie", "mapped", "cluster.cookie");
    table.has("node.process_limit", "not needed", "");
    table.has("zone.external.max_inflight", "mapped", "mqtt.max_inflight");
    table.has(
        "zone.external.retry_interval",
        "mapped",
        "mqtt.retry_interval",
    );
    table.has(
        "listener.http.external",
        "mapped",
        "listeners.ws.default.bind",
    );
    table.has(
        "listener.https.external",
        "mapped",
        "listeners.wss.default.bind",
    );
    table.has("acl_file", "mapped", "acl.sources");
    table.has("emq_dashboard", "mapped", "");
    let config = config(&dir);
    let is = |path: &str, want: &str| assert_is(&config, path, want);
    is("node.name", "\"emqx1@192.168.0.10\"");
    is("listeners.tcp.internal.bind", "\"127.0.0.1:11883\"");
    is("listeners.tcp.internal.max_connections", "1024");
    is("mqtt.max_packet_size", "\"64KiB\"");
    is("mqtt.max_queue_len", "4294967295");
    is("acl.no_match", "\"allow\"");
    is("auth.fallthrough_anonymous", "true");
    is("node.sys_interval", "\"60s\"");

    let links = [
        "listeners.tcp.internal.bind=127.0.0.1:0",
        "cluster.bind=127.0.0.1:0",
        "cluster.gossip_bind=127.0.0.1:0",
    ];
    let broker = first_of_a_cluster(&dir, &links);
    let (mut client, code) = connect(
        broker.address("tcp:internal"),
        "c",
        Some(("nobody", "knows")),
    );
    assert_eq!(code, 0, "who is not known is let in, as there");
    assert_eq!(subscribe(&mut client, "any/thing"), 0);
    assert_eq!(subscribe(&mut client, "#"), 0, "from this machine");
}

#[test]
fn emqx_3_1_with_five_ports_and_mqtt_sn() {
    let dir = Dir::new();
    let (done, table) = import(&dir, "emqx-3.1/emqx.conf", &[]);
    assert_eq!(done.code, 0, "{done:?}");
    table.has("node.cookie", "approximated", "");
    table.has(
        "flapping_detect_policy",
        "mapped",
        "limits.flapping.connects",
    );
    table.has(
        "zone.external.keepalive_backoff",
        "mapped",
        "mqtt.keep_alive_multiplier",
    );
    table.has(
        "zone.external.rate_limit.conn_messages_in",
        "mapped",
        "limits.client.messages",
    );
    table.has(
        "zone.internal.max_inflight",
        "mapped",
        "listeners.tcp.internal.mqtt.max_inflight",
    );
    table.has("zone.internal.enable_acl", "unsupported", "");
    table.has(
        "listener.ssl.external.handshake_timeout",
        "mapped",
        "listeners.tls.default.handshake_timeout",
    );
    table.has("listener.ssl.external.certfile", "approximated", "");
    table.has("listener.ssl.external.acceptors", "not needed", "");
    table.has("emqx_rule_engine", "unsupported", "");
    table.has(
        "mqtt.sn.predefined.topic.1",
        "mapped",
        "listeners.mqttsn.default.predefined",
    );
    table.has(
        "retainer.max_retained_messages",
        "mapped",
        "retained.max_messages",
    );
    assert!(
        table
            .place("mqtt.sn.gateway_id")
            .ends_with("emqx_sn.conf:3"),
        "{}",
        table.place("mqtt.sn.gateway_id")
    );
    let config = config(&dir);
    let is = |path: &str, want: &str| assert_is(&config, path, want);
    is("mqtt.keep_alive_multiplier", "1.5");
    is("mqtt.max_topic_levels", "65535");
    is("limits.client.messages", "\"10/1m\"");
    is("listeners.tls.default.max_connect_rate", "\"2500/s\"");
    is("listeners.mqttsn.default.predefined.0.id", "1");
    is("retained.max_messages", "\"off\"");
    let broker = Broker::start(&dir, &["listeners.tcp.internal.bind=127.0.0.1:0"]);
    for kind in [
        "tcp:default",
        "tcp:internal",
        "tls:default",
        "ws:default",
        "wss:default",
    ] {
        assert!(broker.addresses().contains_key(kind), "{kind}");
    }
    assert_eq!(connect(broker.address("tcp:default"), "c", None).1, 0);
}

#[test]
fn emqx_4_4_cluster_with_mysql_and_variables() {
    let dir = Dir::new();
    let env = fixture("emqx-4.4/conf.cluster.env");
    let (done, table) = import(&dir, "emqx-4.4/emqx.conf", &["--env-file", &env]);
    assert_eq!(done.code, 0, "{done:?}");
    table.has("cluster.static.seeds", "approximated", "cluster.seeds");
    table.has("cluster.discovery", "mapped", "cluster.discovery");
    table.has(
        "listener.tcp.external.proxy_protocol",
        "approximated",
        "listeners.tcp.default.trusted_proxies",
    );
    table.has("auth.mysql.auth_query", "mapped", "auth.chain");
    table.has("auth.mysql.super_query", "approximated", "auth.chain");
    table.has("auth.mysql.acl_query", "mapped", "acl.sources");
    table.has("emqx_modules", "not needed", "");
    table.has("emqx_telemetry", "mapped", "");
    table.has("emqx_rule_engine", "unsupported", "");
    table.has("module.rewrite.pub.rule.1", "unsupported", "");
    let config = config(&dir);
    let is = |path: &str, want: &str| assert_is(&config, path, want);
    is("node.name", "\"emqx@node1.emqx.io\"");
    is(
        "cluster.seeds",
        "[\"node1.emqx.io:5369\", \"node2.emqx.io:5369\"]",
    );
    is("listeners.tcp.default.proxy_protocol", "\"optional\"");
    is(
        "auth.chain.0.query",
        "\"select password, is_superuser from mqtt_user where username = ${username} limit 1\"",
    );
    is("auth.chain.0.password_hash", "\"sha256\"");
    is("acl.sources.1.acl_row_order", "\"reverse\"");
    is("limits.client.bytes", "\"100KiB/10s\"");
    is("listeners.tls.default.enable", "false");
    // One of its nodes alone, without the cluster of the variables.
    let dir = Dir::new();
    let (done, _) = import(&dir, "emqx-4.4/emqx.conf", &[]);
    assert_eq!(done.code, 0, "{done:?}");
    let broker = Broker::start(
        &dir,
        &["auth.chain=[{kind=\"mysql\",server=\"127.0.0.1:1\",password=\"x\",timeout=\"1s\"}]"],
    );
    let (_, code) = connect(
        broker.address("tcp:default"),
        "c",
        Some(("someone", "secret")),
    );
    assert_eq!(
        code, 3,
        "a database that is not there is `server unavailable`"
    );
}

#[test]
fn emqx_5_basic_keys() {
    let dir = Dir::new();
    let (done, table) = import(&dir, "emqx-5/emqx.conf", &[]);
    assert_eq!(done.code, 0, "{done:?}");
    table.has(
        "listeners.ssl.default.bind",
        "mapped",
        "listeners.tls.default.bind",
    );
    table.has("listeners.quic.default.enable", "unsupported", "");
    table.has("authentication.0.query", "mapped", "auth.chain");
    table.has("authorization.sources.0.path", "mapped", "acl.sources");
    table.has(
        "gateway.mqttsn.predefined.0.id",
        "mapped",
        "listeners.mqttsn.default.predefined",
    );
    table.has("rule_engine.rules.r1.sql", "unsupported", "");
    table.has("delayed.enable", "unsupported", "");
    assert!(
        table.place("mqtt.max_inflight").ends_with("emqx.conf:20"),
        "{}",
        table.place("mqtt.max_inflight")
    );
    let config = config(&dir);
    let is = |path: &str, want: &str| assert_is(&config, path, want);
    is("auth.chain.0.kind", "\"postgres\"");
    is("auth.chain.0.salt", "\"suffix\"");
    is("acl.deny_action", "\"disconnect\"");
    is("acl.cache_ttl", "\"2m\"");
    is("mqtt.retry_interval", "\"off\"");
    is("listeners.wss.default.enable", "false");
    is("listeners.mqttsn.default.gateway_id", "7");
    let links = [
        "cluster.bind=127.0.0.1:0",
        "cluster.gossip_bind=127.0.0.1:0",
    ];
    let broker = first_of_a_cluster(&dir, &links);
    assert!(!broker.addresses().contains_key("wss:default"));
}

#[test]
fn check_writes_nothing_and_tells_by_its_exit_code() {
    let dir = Dir::new();
    let (done, _) = import(&dir, "mosquitto/mosquitto.conf", &["--check"]);
    assert_eq!(done.code, 1, "bridges are not supported: {done:?}");
    assert!(!dir.path().join("etc").exists(), "something was written");
    let small = dir.write("mosquitto.conf", "listener 1883\nallow_anonymous true\n");
    let done = run(&dir, &["import", small.to_str().expect("UTF-8"), "--check"]);
    assert_eq!(done.code, 0, "{done:?}");
    assert!(
        done.out.contains("mosquitto.conf:1") && done.out.contains("listeners.tcp.default.bind"),
        "{}",
        done.out
    );
    assert!(
        done.err.contains("2 mapped, 0 approximated, 0 unsupported"),
        "{}",
        done.err
    );
}

#[test]
fn broken_files_are_errors_or_rows() {
    let dir = Dir::new();
    let done = run(&dir, &["import", "no-such.conf"]);
    assert_eq!(done.code, 2);
    assert!(
        done.err.contains("no-such.conf") && done.err.contains("help: "),
        "{}",
        done.err
    );
    let file = dir.write("emqx.conf", "node {\n name = x\n");
    let done = run(&dir, &["import", file.to_str().expect("UTF-8")]);
    assert_eq!(done.code, 2);
    assert!(done.err.contains("emqx.conf:3"), "{}", done.err);
    // Seeds without a secret would leave the links between nodes open: they are left out and said so.
    let file = dir.write(
        "alone/emqx.conf",
        "cluster.discovery = static\ncluster.static.seeds = a@h1,a@h2\n",
    );
    let done = run(&dir, &["import", file.to_str().expect("UTF-8"), "--check"]);
    assert_eq!(done.code, 1, "{done:?}");
    assert!(done.out.contains("only with a secret"), "{}", done.out);
    // A value that this broker refuses does not reach its file; rules that it cannot read deny everything.
    dir.write("acl.conf", "{allow, all}\n{deny, nobody.\n");
    let file = dir.write(
        "old/emqx.conf",
        "mqtt.max_qos_allowed = 7\nacl_file = ../acl.conf\nallow_anonymous = perhaps\n",
    );
    let out = dir.path().join("out");
    let out = out.to_str().expect("UTF-8");
    let done = run(
        &dir,
        &[
            "import",
            file.to_str().expect("UTF-8"),
            "--out",
            out,
            "--output",
            "ndjson",
        ],
    );
    assert_eq!(done.code, 0, "{done:?}");
    let outcome = |key: &str| {
        let line = done
            .out
            .lines()
            .find(|line| line.contains(&format!("\"key\":\"{key}\"")));
        line.unwrap_or_else(|| panic!("no {key} in {}", done.out))
            .contains("\"outcome\":\"unsupported\"")
    };
    assert!(
        outcome("mqtt.max_qos_allowed") && outcome("acl_file") && outcome("allow_anonymous"),
        "{}",
        done.out
    );
    let rules = std::fs::read_to_string(dir.path().join("out/acl.conf")).expect("it was written");
    assert!(rules.ends_with("{deny, all}.\n"), "{rules}");
    let check = run(
        &dir,
        &[
            "check",
            "--config",
            &format!("{out}/nightjar.toml"),
            "--set",
            "api.bind=127.0.0.1:0",
        ],
    );
    assert!(check.code == 0 || check.err.contains("in use"), "{check:?}");
}
