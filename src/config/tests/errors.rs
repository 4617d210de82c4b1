//! What a user sees when something is wrong: place, key, what, and the next step.

use super::{read_all, wrong};
use crate::config::{Options, load};

/// Text of the file, and lines that the error must have.
const FILES: &[(&str, &[&str])] = &[
    (
        "[mqtt]\nmax_qoss = 1\n",
        &[
            "error: nightjar.toml:2:1: mqtt.max_qoss: unknown key",
            "help: did you mean `mqtt.max_qos`?",
        ],
    ),
    (
        "[mqtt]\n  max_qos = 3\n",
        &["nightjar.toml:2:13: mqtt.max_qos: expected whole number 0 to 2, found 3"],
    ),
    (
        "[mqtt]\nmax_qos = \"1\"\n",
        &["nightjar.toml:2:11: mqtt.max_qos: expected whole number 0 to 2, found a text"],
    ),
    (
        "[mqtt]\nmax_qos = 1.5\n",
        &["mqtt.max_qos: expected whole number 0 to 2, found the number 1.5"],
    ),
    (
        "[mqtt]\nqueue_qos0 = 1\n",
        &["mqtt.queue_qos0: expected true or false, found the number 1"],
    ),
    (
        "[mqtt]\nconnect_timeout = 15\n",
        &["expected a duration with a unit, such as \"15s\", found the number 15"],
    ),
    (
        "[mqtt]\nconnect_timeout = \"15 apples\"\n",
        &["expected a duration such as \"15s\"", "found \"15 apples\""],
    ),
    (
        "[mqtt]\nconnect_timeout = \"0s\"\n",
        &["nightjar.toml:2:19: mqtt.connect_timeout: a time of 0 would end everything at once"],
    ),
    (
        "[mqtt]\nserver_keep_alive = \"500ms\"\n",
        &["mqtt.server_keep_alive: expected whole seconds, 1 to 65535"],
    ),
    (
        "[mqtt]\nmax_session_expiry = \"50000d\"\n",
        &["mqtt.max_session_expiry: longer than the protocol can say"],
    ),
    (
        "[mqtt]\nmax_packet_size = \"1GiB\"\n",
        &["mqtt.max_packet_size: expected 64B to 256MiB"],
    ),
    (
        "[mqtt]\nmax_subscriptions = 0\n",
        &["mqtt.max_subscriptions: expected \"off\", or whole number, at least 1, found 0"],
    ),
    (
        "[mqtt]\nmax_subscriptions = \"of\"\n",
        &["expected \"off\", or whole number, at least 1, found a text"],
    ),
    (
        "[mqtt]\nqueue_policy = \"drop\"\n",
        &["expected one of \"drop_oldest\", \"drop_newest\", \"reject\", found \"drop\""],
    ),
    (
        "[mqtt]\nkeep_alive_multiplier = 0.5\n",
        &["mqtt.keep_alive_multiplier: expected number 1 to 10, found 0.5"],
    ),
    (
        "mqtt = 5\n",
        &[
            "nightjar.toml:1:8: mqtt: expected a table, found the number 5",
            "help: write [mqtt], and its keys below it",
        ],
    ),
    (
        "[node]\nname = \"a\"\ndurability = \"memory\"\n",
        &[
            "nightjar.toml:3:1: node.durability: unknown key",
            "help: `durability` is a top-level key: write it before the first [table]",
        ],
    ),
    (
        "max_qos = 1\n",
        &["nightjar.toml:1:1: max_qos: unknown key", "did you mean `"],
    ),
    (
        "[mqtt]\nbind = \"1883\"\n",
        &[
            "mqtt.bind: unknown key",
            "did you mean `listeners.tcp.<name>.bind`?",
        ],
    ),
    (
        "[colours]\n",
        &[
            "colours: unknown key",
            "`nightjar config default` lists all keys",
        ],
    ),
    (
        "[listeners.tpc.default]\n",
        &[
            "nightjar.toml:1:12: listeners.tpc: unknown key",
            "did you mean `listeners.tcp`?",
        ],
    ),
    (
        "[listeners.tcp]\nbind = \"1883\"\n",
        &[
            "nightjar.toml:2:1: listeners.tcp.bind: expected the table of a listener",
            "[listeners.tcp.default]",
        ],
    ),
    (
        "[listeners.tcp.Lab]\nbind = \"1\"\n",
        &["listeners.tcp.Lab: a listener's name is made of a-z"],
    ),
    (
        "[listeners.tcp.lab]\nbacklog = 5\n",
        &["nightjar.toml:1:1: listeners.tcp.lab.bind: this key must be set"],
    ),
    (
        "[listeners.tcp.default]\nbind = \"elsewhere:1883\"\n",
        &[
            "expected an address and port such as \"0.0.0.0:1883\"",
            "found \"elsewhere:1883\"",
        ],
    ),
    (
        "[listeners.tcp.default]\nbind = 70000\n",
        &["listeners.tcp.default.bind: expected an address and port"],
    ),
    (
        "[listeners.tcp.default.mqtt]\nmax_qos = 9\n",
        &["nightjar.toml:2:11: listeners.tcp.default.mqtt.max_qos: expected whole number 0 to 2"],
    ),
    (
        "[listeners.tcp.default.mqtt]\nmessage_expiry = \"1ms\"\n",
        &["listeners.tcp.default.mqtt.message_expiry: expected whole seconds"],
    ),
    (
        "[listeners.tcp.lab]\nbind = \"127.0.0.1:8883\"\n",
        &[
            "nightjar.toml:2:8: listeners.tcp.lab.bind: 127.0.0.1:8883 is taken by listeners.tls.default.bind (0.0.0.0:8883)",
        ],
    ),
    (
        "[api]\nbind = \"1883\"\n",
        &[
            "nightjar.toml:2:8: api.bind: 0.0.0.0:1883 is taken by listeners.tcp.default.bind (0.0.0.0:1883)",
        ],
    ),
    (
        "[listeners.tcp.default]\nproxy_protocol = \"required\"\n",
        &[
            "listeners.tcp.default.proxy_protocol: no proxy is trusted",
            "trusted_proxies = [",
        ],
    ),
    (
        "[listeners.tcp.default]\ntrusted_proxies = [\"10.0.0.0/8\", \"10.0.0.1/8\"]\n",
        &[
            "nightjar.toml:2:34: listeners.tcp.default.trusted_proxies[1]: \"10.0.0.1/8\" has bits set behind its prefix",
        ],
    ),
    (
        "[listeners.tcp.default]\ncert_as_username = \"cn\"\n",
        &["no client certificate is asked for on this listener"],
    ),
    (
        "[listeners.tcp.default]\nmountpoint = \"a/#\"\n",
        &["a mountpoint is a part of a topic name"],
    ),
    (
        "[listeners.tls.default]\ncert_file = \"a\"\n",
        &[
            "nightjar.toml:2:13: listeners.tls.default.cert_file: cert_file is set and key_file is not",
        ],
    ),
    (
        "[listeners.tls.default]\nkey_file = \"a\"\n",
        &["key_file is set and cert_file is not"],
    ),
    (
        "[listeners.tls.default]\nverify = \"peer\"\n",
        &["client certificates cannot be checked without ca_file"],
    ),
    (
        "[listeners.tls.default]\nfail_if_no_peer_cert = true\n",
        &["listeners.tls.default.fail_if_no_peer_cert: no client certificate is asked for"],
    ),
    (
        "[[listeners.tls.default.sni]]\ncert_file = \"a\"\n",
        &["nightjar.toml:1:1: listeners.tls.default.sni[0].key_file: this key must be set"],
    ),
    (
        "[listeners.ws.default]\npath = \"mqtt\"\n",
        &["expected a path that begins with /, found \"mqtt\""],
    ),
    (
        "[listeners.mqttsn.default]\nmulticast = [\"10.0.0.1:1884\"]\n",
        &["listeners.mqttsn.default.multicast[0]: not a multicast or broadcast address"],
    ),
    (
        "[listeners.mqttsn.default]\nauth = \"trusted\"\n",
        &["\"trusted\" admits trusted_sources only, and there are none"],
    ),
    (
        "[listeners.mqttsn.default]\nadvertise_interval = \"100000s\"\n",
        &["advertise_interval: expected 1s to 65535s"],
    ),
    (
        "[listeners.mqttsn.default]\npredefined = [{id = 1, topic = \"a\"}, {id = 1, topic = \"b\"}, {id = 2, topic = \"+\"}]\n",
        &[
            "predefined[1].id: this id is defined twice",
            "predefined[2].topic: a topic name is not empty",
        ],
    ),
    (
        "[listeners.mqttsn.default]\npredefined = [{topic = \"a\"}]\n",
        &["listeners.mqttsn.default.predefined[0].id: this key must be set"],
    ),
    (
        "[[auth.chain]]\npath = \"users\"\n",
        &[
            "nightjar.toml:1:1: auth.chain[0]: the key `kind` is missing",
            "one of builtin, file, http",
        ],
    ),
    (
        "[[auth.chain]]\nkind = \"mysq\"\n",
        &[
            "nightjar.toml:2:8: auth.chain[0].kind: unknown kind \"mysq\"",
            "did you mean \"mysql\"?",
        ],
    ),
    (
        "[[auth.chain]]\nkind = 5\n",
        &["auth.chain[0].kind: expected a text, found the number 5"],
    ),
    (
        "[[auth.chain]]\nkind = \"file\"\n",
        &[
            "nightjar.toml:1:1: auth.chain[0].path: this key must be set",
            "for example path = \"etc/users\"",
        ],
    ),
    (
        "[[auth.chain]]\nkind = \"file\"\npath = \"a\"\nquery = \"x\"\n",
        &["nightjar.toml:4:1: auth.chain[0].query: unknown key"],
    ),
    (
        "[[auth.chain]]\nkind = \"http\"\nurl = \"example.org\"\n",
        &["auth.chain[0].url: expected an address that begins with http"],
    ),
    (
        "[[acl.sources]]\nkind = \"http\"\nurl = \"http://127.0.0.1\"\n[acl.sources.tls]\nca_file = \"a\"\n",
        &["nightjar.toml:3:7: acl.sources[0].url: the address is not https"],
    ),
    (
        "[[auth.chain]]\nkind = \"jwt\"\n",
        &["auth.chain[0]: a jwt entry needs exactly one of secret, public_key_file and jwks_url"],
    ),
    (
        "[auth.chain]\nkind = \"file\"\n",
        &[
            "auth.chain: expected an array of tables, found a table",
            "help: write [[auth.chain]]",
        ],
    ),
    (
        "[auth]\nchain = [5]\n",
        &["auth.chain[0]: expected a table, found the number 5"],
    ),
    (
        "[limits]\nmemory_high = \"90%\"\n",
        &["limits.memory_high: memory_high is above memory_critical"],
    ),
    (
        "[limits]\nmemory_high = \"900%\"\n",
        &["expected a share such as \"70%\", found \"900%\""],
    ),
    (
        "[limits.client]\nmessages = \"100\"\n",
        &["expected \"off\", or a rate such as \"1000/s\", found \"100\""],
    ),
    (
        "[log]\nlevel = \"info,=\"\n",
        &["nightjar.toml:2:9: log.level: not a level"],
    ),
    (
        "[cluster]\ndiscovery = \"dns\"\n",
        &[
            "cluster.discovery: links between nodes open only with a secret",
            "cluster.discovery: \"dns\" needs cluster.dns.name",
        ],
    ),
    (
        "[cluster]\ncookie = \"x\"\nreplicas = 2\n",
        &["cluster.replicas: an even number of copies"],
    ),
    (
        "[cluster]\ncookie = \"\"\n",
        &["cluster.cookie: an empty cookie protects nothing"],
    ),
    (
        "[cluster.tls]\ncert_file = \"a\"\n",
        &["cluster.tls.cert_file: [cluster.tls] needs cert_file, key_file and ca_file"],
    ),
    (
        "[cluster]\nseeds = [\"10.0.0.1\"]\n",
        &["cluster.seeds[0]: expected a host and port such as \"10.0.0.1:5369\""],
    ),
    (
        "[node]\nname = \"a b\"\n",
        &["node.name: a node's name has 1 to 255 characters and no spaces"],
    ),
    ("[node\n", &["error: nightjar.toml:1:"]),
    ("[node]\nname = nightjar\n", &["error: nightjar.toml:2:8: "]),
    (
        "[node]\nname = \"ä\"\nworkers = \"ü\" # ü\n",
        &["nightjar.toml:3:11: node.workers: expected whole number 0 to 1024"],
    ),
    (
        "[node]\nname = 1979-05-27\n",
        &["node.name: expected text, found a date or time"],
    ),
];

#[test]
fn a_wrong_file_is_named_with_line_column_key_and_help() {
    for (text, expected) in FILES {
        let shown = wrong(text, &[], &[]);
        for part in *expected {
            assert!(
                shown.contains(part),
                "--- in\n{text}--- expected\n{part}\n--- found\n{shown}"
            );
        }
        for paragraph in shown.split("\nerror: ") {
            assert!(
                paragraph.contains("\n  help: "),
                "no next step in\n{paragraph}"
            );
        }
    }
}

/// Variable, value, and a part of the error.
const VARIABLES: &[(&str, &str, &str)] = &[
    (
        "NIGHTJAR_MQTT__MAX_QOS",
        "3",
        "environment NIGHTJAR_MQTT__MAX_QOS: mqtt.max_qos: expected whole number 0 to 2, found 3",
    ),
    (
        "NIGHTJAR_MQTT__MAX_QOS",
        "one",
        "expected whole number 0 to 2, found a text that is no TOML value",
    ),
    (
        "NIGHTJAR_MQTT__MAX_QOS",
        "\"1\"",
        "expected whole number 0 to 2, found a text",
    ),
    (
        "NIGHTJAR_MQTT__MAX_QOSS",
        "1",
        "did you mean NIGHTJAR_MQTT__MAX_QOS?",
    ),
    (
        "NIGHTJAR_MQTT_MAX_QOS",
        "1",
        "did you mean NIGHTJAR_MQTT__MAX_QOS? Two underscores stand between the parts of a key",
    ),
    (
        "NIGHTJAR_LISTENERS_TCP_DEFAULT_BIND",
        "1",
        "did you mean NIGHTJAR_LISTENERS__TCP__DEFAULT__BIND?",
    ),
    (
        "NIGHTJAR_ADMIN_PASSWORD",
        "x",
        "did you mean NIGHTJAR_API__ADMIN_PASSWORD?",
    ),
    (
        "NIGHTJAR_ADMIN_PASSWORD_FILE",
        "x",
        "did you mean NIGHTJAR_API__ADMIN_PASSWORD?",
    ),
    (
        "NIGHTJAR_COLOUR",
        "x",
        "`nightjar config default` lists all keys",
    ),
    ("NIGHTJAR_", "x", "no such key"),
    ("NIGHTJAR_MQTT__MAX_QOS__X", "1", "no such key"),
    (
        "NIGHTJAR_LISTENERS__TCP__DEFAULT",
        "x",
        "expected a table or array in TOML",
    ),
    (
        "NIGHTJAR_LISTENERS__TCP__LAB__ENABLE",
        "true",
        "environment NIGHTJAR_LISTENERS__TCP__LAB__ENABLE: listeners.tcp.lab.bind: this key must be set",
    ),
    (
        "NIGHTJAR_LISTENERS__TCP__DEFAULT__ENABLE",
        "yes",
        "expected true or false",
    ),
    (
        "NIGHTJAR_AUTH__CHAIN",
        "[{kind=\"file\"}]",
        "auth.chain[0].path: this key must be set",
    ),
    (
        "NIGHTJAR_AUTH__CHAIN",
        "file",
        "found a text that is no TOML value",
    ),
    ("NIGHTJAR_MQTT__CONNECT_TIMEOUT", "15", "with a unit"),
    (
        "NIGHTJAR_MQTT__MAX_SUBSCRIPTIONS",
        "no",
        "expected \"off\", or whole number, at least 1",
    ),
];

#[test]
fn a_wrong_variable_is_named_with_key_and_help() {
    for (name, value, expected) in VARIABLES {
        let shown = wrong("", &[(name, value)], &[]);
        assert!(
            shown.contains(expected) && shown.contains("help: "),
            "{name}={value}\n--- expected\n{expected}\n--- found\n{shown}"
        );
        assert!(shown.contains(name), "{shown}");
    }
}

#[test]
fn a_wrong_argument_of_set_is_named_with_help() {
    for (argument, expected) in [
        (
            "mqtt.max_qos=3",
            "error: --set mqtt.max_qos: expected whole number 0 to 2, found 3",
        ),
        ("mqtt.max_qos", "expected KEY=VALUE"),
        ("max_qos=1", "did you mean `"),
        (
            "mqtt.max_qoss=1",
            "--set mqtt.max_qoss: unknown key\n  help: did you mean `mqtt.max_qos`?",
        ),
        ("=1", "unknown key"),
        ("auth.chain[0].path=x", "unknown key"),
        ("listeners.tcp.a__b.bind=1", "unknown key"),
    ] {
        let shown = wrong("", &[], &[argument]);
        assert!(
            shown.contains(expected) && shown.contains("help: "),
            "{argument}\n{shown}"
        );
    }
}

#[test]
fn all_problems_of_all_layers_are_reported_at_once() {
    let shown = wrong(
        "[mqtt]\nmax_qos = 5\nmax_qoss = 1\n[colours]\n",
        &[("NIGHTJAR_MQTT__MAX_INFLIGHT", "0")],
        &["mqtt.max_inflight=-1", "nonsense=1"],
    );
    assert_eq!(shown.matches("error: ").count(), 6, "{shown}");
    let order: Vec<usize> = [
        "nightjar.toml:2",
        "environment NIGHTJAR_",
        "--set mqtt.max_inflight",
    ]
    .iter()
    .map(|part| shown.find(part).unwrap())
    .collect();
    assert!(order.is_sorted(), "{shown}");
}

#[test]
fn a_file_that_cannot_be_read_is_an_error_only_if_it_was_named() {
    let missing = Options {
        file: Some("/nonexistent/nightjar.toml".into()),
        ..Options::default()
    };
    let shown = load(&missing).unwrap_err().to_string();
    assert!(
        shown.contains("/nonexistent/nightjar.toml") && shown.contains("cannot read"),
        "{shown}"
    );
    let path = std::env::temp_dir().join(format!("nightjar-latin1-{}.toml", std::process::id()));
    std::fs::write(&path, b"[node]\nname = \"\xe4\"\n").unwrap();
    let shown = load(&Options {
        file: Some(path.clone()),
        ..Options::default()
    })
    .unwrap_err()
    .to_string();
    std::fs::remove_file(&path).unwrap();
    assert!(
        shown.contains(".toml:2:9: the file is not UTF-8"),
        "{shown}"
    );
}

#[test]
fn no_text_makes_the_reader_panic() {
    // Pieces of real files and of nonsense, put together by a small generator with a fixed seed.
    let reference = crate::config::reference().replace("\n#", "\n");
    let lines: Vec<&str> = reference.lines().collect();
    let junk = [
        "[[",
        "]]",
        "=",
        "\"",
        "{",
        "}",
        "'''",
        "\u{0}",
        "[listeners.tcp.x]",
        "kind = \"mysql\"",
        "-1",
        "é",
        "1e999",
        "off",
    ];
    let mut state: u64 = 0x9e37_79b9_7f4a_7c15;
    let mut next = |bound: usize| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        usize::try_from(state % bound as u64).unwrap()
    };
    let mut accepted = 0;
    for _ in 0..3000 {
        let mut text = String::new();
        for _ in 0..next(6) {
            let line = if next(4) == 0 {
                junk[next(junk.len())]
            } else {
                lines[next(lines.len())]
            };
            let cut = next(line.len() + 1);
            text.push_str(if next(5) == 0 && line.is_char_boundary(cut) {
                &line[..cut]
            } else {
                line
            });
            text.push(if next(8) == 0 { ' ' } else { '\n' });
        }
        let argument = text.replace('\n', " ");
        accepted += usize::from(
            read_all(
                &text,
                &[("NIGHTJAR_AUTH__CHAIN", &argument)],
                &[&argument, &format!("mqtt={argument}")],
            )
            .is_ok(),
        );
        accepted += usize::from(read_all(&text, &[], &[]).is_ok());
    }
    assert!(accepted > 100, "the generator makes nothing but nonsense");
}
