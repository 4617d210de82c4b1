//! Commands as processes: what they print, what they refuse, and their exit codes.

use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt;
use std::process::Stdio;

use crate::process::{Broker, Dir, Done, FREE_PORTS, command, pause, run, run_with, sets, until};

/// `nightjar check` with free ports and further settings.
fn check(dir: &Dir, settings: &[&str]) -> Done {
    let all: Vec<&str> = FREE_PORTS.iter().chain(settings).copied().collect();
    run(dir, &sets("check", &all))
}

/// Asserts that a command failed with this code, and that what it says holds all these parts and a next step.
fn refused(done: &Done, code: i32, parts: &[&str]) {
    assert_eq!(done.code, code, "{done:?}");
    for part in parts {
        assert!(done.err.contains(part), "{part:?} is not in\n{}", done.err);
    }
    assert!(done.err.contains("help: "), "no next step in\n{}", done.err);
    assert!(
        !done.err.contains('\u{1b}'),
        "colours without a terminal: {:?}",
        done.err
    );
}

#[test]
fn without_a_subcommand_help_is_printed() {
    let dir = Dir::new();
    let done = run(&dir, &[]);
    assert_eq!((done.code, done.err.as_str()), (0, ""));
    for word in [
        "serve",
        "check",
        "config",
        "certs",
        "ctl",
        "healthcheck",
        "pub",
        "sub",
        "bench",
        "version",
        "completions",
    ] {
        assert!(
            done.out
                .lines()
                .any(|line| line.trim_start().starts_with(word)),
            "{word}\n{}",
            done.out
        );
    }
    assert_eq!(run(&dir, &["dance"]).code, 2);
    assert_eq!(run(&dir, &["serve", "--colour"]).code, 2);
    assert_eq!(
        run(&dir, &["--version"]).out,
        format!("nightjar {}\n", env!("CARGO_PKG_VERSION"))
    );
}

#[test]
fn in_pub_sub_and_bench_h_is_the_host() {
    let dir = Dir::new();
    for arguments in [&["pub"][..], &["sub"], &["bench", "conn"]] {
        let help = run(&dir, &[arguments, &["--help"]].concat());
        assert_eq!(help.code, 0, "{help:?}");
        let host = help
            .out
            .lines()
            .find(|line| line.trim_start().starts_with("-h, --host"));
        assert!(host.is_some(), "{arguments:?}\n{}", help.out);
        assert!(!help.out.contains("-h, --help"), "{}", help.out);
    }
    assert!(
        run(&dir, &["check", "-h"])
            .out
            .contains("Usage: nightjar check")
    );
}

#[test]
fn version_and_completions_are_printed() {
    let dir = Dir::new();
    let version = run(&dir, &["version"]);
    assert!(
        version
            .out
            .starts_with(&format!("nightjar {}\n", env!("CARGO_PKG_VERSION"))),
        "{version:?}"
    );
    for line in ["transports ", "authenticators ", "acl sources "] {
        assert!(version.out.contains(&format!("\n{line}")), "{version:?}");
    }
    for (shell, part) in [
        ("bash", "_nightjar"),
        ("zsh", "#compdef nightjar"),
        ("fish", "complete -c nightjar"),
    ] {
        let done = run(&dir, &["completions", shell]);
        assert!(done.code == 0 && done.out.contains(part), "{shell}");
    }
}

#[test]
fn config_prints_the_reference_the_effective_values_and_their_origin() {
    let dir = Dir::new();
    let reference = run(&dir, &["config", "default"]).out;
    assert!(
        reference.contains("\n#durability = \"sync\"\n")
            && reference.contains("\n#[listeners.tcp.default]\n")
    );
    // The file in ./etc is found without being named, and commented as it is it changes nothing.
    let plain = run(&dir, &["config", "print"]).out;
    dir.write("etc/nightjar.toml", &reference);
    assert_eq!(run(&dir, &["config", "print"]).out, plain);
    dir.write(
        "etc/nightjar.toml",
        "[mqtt]\nmax_qos = 1\nmax_inflight = 5\n[api]\nadmin_password = \"hunter2\"\n",
    );
    let variables = [
        ("NIGHTJAR_MQTT__MAX_INFLIGHT", "6"),
        ("NIGHTJAR_PORT_1883_TCP", "tcp://10.0.0.1:1883"),
    ];
    let done = run_with(
        &dir,
        &variables,
        &["config", "print", "--origin", "--set", "log.level=debug"],
    );
    assert_eq!((done.code, done.err.as_str()), (0, ""));
    for line in [
        "max_qos = 1  # etc/nightjar.toml:2:11",
        "max_inflight = 6  # environment NIGHTJAR_MQTT__MAX_INFLIGHT",
        "level = \"debug\"  # --set log.level",
        "admin_password = \"******\"  # etc/nightjar.toml:5:18",
        "receive_maximum = 100\n",
    ] {
        assert!(done.out.contains(line), "{line}\n{}", done.out);
    }
    assert!(!done.out.contains("hunter2"));
    // --config names another file, before or behind the subcommand.
    let other = dir.write("other.toml", "[mqtt]\nmax_qos = 0\n");
    let other = other.to_str().expect("a UTF-8 path");
    for arguments in [
        ["--config", other, "config", "print"],
        ["config", "print", "--config", other],
    ] {
        assert!(run(&dir, &arguments).out.contains("max_qos = 0\n"));
    }
}

#[test]
fn config_explains_a_key_and_finds_the_one_that_was_meant() {
    let dir = Dir::new();
    dir.write(
        "etc/nightjar.toml",
        "[listeners.tcp.lab]\nbind = \"127.0.0.1:1999\"\n",
    );
    let done = run(&dir, &["config", "explain", "listeners.tcp.lab.bind"]);
    for line in [
        "value    \"127.0.0.1:1999\"",
        "from     etc/nightjar.toml:2:8",
        "needs a restart",
        "NIGHTJAR_LISTENERS__TCP__LAB__BIND",
    ] {
        assert!(done.out.contains(line), "{line}\n{}", done.out);
    }
    let table = run(&dir, &["config", "explain", "mqtt"]);
    assert!(
        table.out.contains("max_qos ") && table.out.contains("Highest QoS."),
        "{table:?}"
    );
    refused(
        &run(&dir, &["config", "explain", "mqtt.max_qoss"]),
        3,
        &["mqtt.max_qoss: no such key", "did you mean `mqtt.max_qos`?"],
    );
    refused(
        &run(&dir, &["config", "explain", "listeners.tcp.lab.bnid"]),
        3,
        &["did you mean `listeners.tcp.lab.bind`?"],
    );
    let idle = run(&dir, &["config", "explain", "cluster.gossip_bind"]);
    assert!(
        idle.out.contains("this build does not act on it"),
        "{idle:?}"
    );
    refused(
        &run(&dir, &["config", "explain", "colours"]),
        3,
        &["`nightjar config default` lists all keys"],
    );
    let schema: serde_json::Value =
        serde_json::from_str(&run(&dir, &["config", "schema"]).out).expect("JSON");
    assert_eq!(
        schema["properties"]["mqtt"]["properties"]["max_qos"]["maximum"],
        2
    );
}

#[test]
fn check_accepts_what_is_right() {
    let dir = Dir::new();
    let done = check(&dir, &[]);
    assert_eq!((done.code, done.err.as_str()), (0, ""), "{done:?}");
    assert!(
        done.out
            .ends_with("configuration is right (no file, defaults)\n"),
        "{done:?}"
    );
    assert_eq!(
        std::fs::read_dir(dir.path()).expect("it is there").count(),
        0,
        "check leaves nothing behind"
    );
    // A closed pipe is no error.
    let mut child = command(&dir, &["config", "default"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("starts");
    drop(child.stdout.take());
    assert!(child.wait().expect("ends").success());
}

#[test]
fn check_and_serve_refuse_a_wrong_configuration_with_all_its_problems() {
    let dir = Dir::new();
    dir.write(
        "etc/nightjar.toml",
        "[mqtt]\nmax_qos = 7\nqueue_polic = \"drop_oldest\"\n",
    );
    for arguments in [["check"], ["serve"]] {
        let done = run_with(&dir, &[("NIGHTJAR_MQTT_MAX_QOS", "1")], &arguments);
        refused(
            &done,
            2,
            &[
                "error: etc/nightjar.toml:2:11: mqtt.max_qos: expected whole number 0 to 2, found 7\n",
                "error: etc/nightjar.toml:3:1: mqtt.queue_polic: unknown key\n  help: did you mean `mqtt.queue_policy`?",
                "error: environment NIGHTJAR_MQTT_MAX_QOS: no such key\n  help: did you mean NIGHTJAR_MQTT__MAX_QOS?",
            ],
        );
        assert_eq!(done.err.matches("error: ").count(), 3, "{}", done.err);
        assert_eq!(done.out, "");
    }
    let missing = run(&dir, &["serve", "--config", "nowhere.toml"]);
    refused(
        &missing,
        2,
        &["nowhere.toml", "cannot read the configuration file"],
    );
}

// A program with every kind has none to name; the words of the problem are also a table of the configuration's tests.
#[cfg(not(feature = "ldap"))]
#[test]
fn a_kind_that_is_not_compiled_in_is_named_with_its_feature() {
    let dir = Dir::new();
    let file = dir.write(
        "etc/nightjar.toml",
        "[[auth.chain]]\nkind = \"ldap\"\nbase_dn = \"ou=devices\"\n",
    );
    refused(
        &check(&dir, &[]),
        2,
        &[
            "etc/nightjar.toml:1:1: auth.chain[0]: kind \"ldap\" is not compiled into this program (cargo feature `ldap`)",
        ],
    );
    refused(
        &run(&dir, &sets("serve", &FREE_PORTS)),
        2,
        &["cargo feature `ldap`"],
    );
    std::fs::remove_file(file).expect("it is there");
}

#[test]
fn a_port_in_use_is_named_with_its_key_and_nothing_starts() {
    let dir = Dir::new();
    let taken = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let address = taken.local_addr().expect("it has one").to_string();
    let setting = format!("listeners.ws.default.bind={address}");
    let done = check(&dir, &[&setting]);
    refused(
        &done,
        2,
        &[
            "--set listeners.ws.default.bind: cannot listen on",
            &address,
            "another program has this port",
        ],
    );
    let all: Vec<&str> = FREE_PORTS
        .iter()
        .copied()
        .chain([setting.as_str()])
        .collect();
    let done = run(&dir, &sets("serve", &all));
    assert_eq!(done.code, 2, "{done:?}");
    assert!(
        done.err.contains("listeners.ws.default.bind") && done.err.contains("in use"),
        "{done:?}"
    );
    assert!(!done.out.contains("ready"), "{done:?}");
    for left in ["data/ctl.sock", "data/listeners.json"] {
        assert!(!dir.path().join(left).exists(), "{left} is left behind");
    }
}

#[test]
fn certificates_are_made_shown_and_checked() {
    let dir = Dir::new();
    let certs =
        |arguments: &[&str]| run(&dir, &[&["certs"], arguments, &["--out", "certs"]].concat());
    let early = certs(&["server", "localhost"]);
    refused(
        &early,
        2,
        &["cannot read certs/ca.crt", "nightjar certs ca"],
    );
    assert_eq!(
        certs(&["ca", "--cn", "Test CA"]).out,
        "certs/ca.crt\ncerts/ca.key\n"
    );
    assert_eq!(
        certs(&["server", "localhost", "127.0.0.1"]).out,
        "certs/server.crt\ncerts/server.key\n"
    );
    assert_eq!(
        certs(&["client", "meter-1"]).out,
        "certs/meter-1.crt\ncerts/meter-1.key\n"
    );
    for name in ["ca.key", "server.key", "meter-1.key"] {
        let mode = std::fs::metadata(dir.path().join("certs").join(name))
            .expect("it is there")
            .permissions()
            .mode();
        assert_eq!(mode & 0o777, 0o600, "{name}");
    }
    refused(
        &certs(&["server", "localhost"]),
        4,
        &["certs/server.crt exists", "--force"],
    );
    assert_eq!(
        certs(&["server", "localhost", "127.0.0.1", "--force"]).code,
        0
    );
    refused(
        &certs(&["client", "../meter"]),
        2,
        &["cannot be the name of a file"],
    );
    refused(
        &certs(&["server", "not a name\u{e9}"]),
        2,
        &["names are DNS names or IP addresses"],
    );
    assert_eq!(certs(&["ca", "--days", "0", "--force"]).code, 2);

    let shown = run(&dir, &["certs", "show", "certs/server.crt"]).out;
    for part in [
        "CN=localhost",
        "CN=Test CA",
        "localhost, 127.0.0.1",
        "ECDSA 256 bits",
        "days left",
        "authority    no",
    ] {
        assert!(shown.contains(part), "{part}\n{shown}");
    }
    assert!(
        run(&dir, &["certs", "show", "certs/ca.crt"])
            .out
            .contains("authority    yes")
    );
    let key = run(&dir, &["certs", "show", "certs/server.key"]);
    assert_eq!(key.out, "private key  (its content is not shown)\n");
    dir.write("empty.pem", "nothing\n");
    refused(
        &run(&dir, &["certs", "show", "empty.pem"]),
        1,
        &["no PEM block"],
    );
    assert_eq!(run(&dir, &["certs", "show", "nowhere.pem"]).code, 3);

    let tls = |cert: &str, key: &str| {
        format!(
            "[listeners.tls.default]\ncert_file = \"certs/{cert}\"\nkey_file = \"certs/{key}\"\nca_file = \"certs/ca.crt\"\nverify = \"peer\"\n"
        )
    };
    dir.write("etc/nightjar.toml", &tls("server.crt", "server.key"));
    let good = check(&dir, &[]);
    assert_eq!(good.code, 0, "{good:?}");
    for (cert, key, parts) in [
        ("server.crt", "ca.key", ["etc/nightjar.toml:", "certs/"]),
        (
            "gone.crt",
            "server.key",
            [
                "etc/nightjar.toml:2:13: listeners.tls.default.cert_file",
                "certs/gone.crt",
            ],
        ),
        (
            "server.crt",
            "ca.crt",
            [
                "etc/nightjar.toml:3:12: listeners.tls.default.key_file",
                "certs/ca.crt",
            ],
        ),
    ] {
        dir.write("etc/nightjar.toml", &tls(cert, key));
        refused(&check(&dir, &[]), 2, &parts);
        let serve = run(&dir, &sets("serve", &FREE_PORTS));
        assert!(
            serve.code == 2 && serve.err.contains("listeners.tls.default"),
            "{serve:?}"
        );
        assert!(!serve.out.contains("ready"), "{serve:?}");
    }
}

#[test]
fn check_names_the_place_of_a_mistake_in_an_acl_file() {
    let dir = Dir::new();
    dir.write(
        "etc/nightjar.toml",
        "[[acl.sources]]\nkind = \"file\"\npath = \"etc/acl.conf\"\n",
    );
    refused(
        &check(&dir, &[]),
        2,
        &["etc/nightjar.toml:3:8: acl.sources[0].path", "etc/acl.conf"],
    );
    dir.write(
        "etc/acl.conf",
        "{allow, all, subscribe, [\"a/#\"]}.\n{alow, all}.\n",
    );
    refused(
        &check(&dir, &[]),
        2,
        &["error: etc/acl.conf:2:2: acl.sources[0].path: expected"],
    );
    dir.write(
        "etc/acl.conf",
        "{allow, all, subscribe, [\"a/#\"]}.\n{deny, all}.\n",
    );
    assert_eq!(check(&dir, &[]).code, 0);
}

#[test]
fn check_compares_promises_with_the_limits_of_the_system() {
    let dir = Dir::new();
    let done = check(&dir, &["listeners.tcp.default.max_connections=4000000000"]);
    refused(
        &done,
        2,
        &[
            "listeners.tcp.default.max_connections: the listeners promise 4000000000 connections",
            "LimitNOFILE",
        ],
    );
    dir.write("data", "a file where the directory should be");
    refused(
        &check(&dir, &[]),
        2,
        &["node.data_dir: data: data is not a directory"],
    );
}

#[test]
fn without_a_node_ctl_is_unreachable_and_healthcheck_unhealthy() {
    let dir = Dir::new();
    refused(
        &run(&dir, &["ctl", "status"]),
        5,
        &["no node answers at data/ctl.sock", "nightjar serve"],
    );
    refused(
        &run(&dir, &["ctl", "--socket", "else.sock", "status"]),
        5,
        &["else.sock"],
    );
    refused(&run(&dir, &["healthcheck"]), 6, &["no node answers"]);
    assert_eq!(run(&dir, &["ctl"]).code, 2);
    // A broken file does not hide where the node would be.
    dir.write(
        "etc/nightjar.toml",
        "[node]\ndata_dir = \"elsewhere\"\n[mqtt]\nmax_qos = 9\n[api\n",
    );
    refused(&run(&dir, &["ctl", "status"]), 5, &["elsewhere/ctl.sock"]);
    assert_eq!(run(&dir, &["ctl", "--data-dir", "data", "status"]).code, 5);
}

#[test]
fn a_node_answers_ctl_until_it_is_told_to_stop() {
    let dir = Dir::new();
    let broker = Broker::start(&dir, &["node.name=test@127.0.0.1"]);
    let listeners: serde_json::Value = serde_json::from_slice(
        &std::fs::read(dir.path().join("data/listeners.json")).expect("it is there"),
    )
    .expect("JSON");
    for (name, address) in broker.addresses() {
        assert_eq!(listeners[name], address.as_str());
        assert!(!address.ends_with(":0"), "{name}={address}");
    }
    for form in ["table", "json", "ndjson"] {
        let done = run(&dir, &["ctl", "status", "--output", form]);
        assert_eq!((done.code, done.err.as_str()), (0, ""), "{done:?}");
        assert!(done.out.contains("test@127.0.0.1"), "{done:?}");
        if form != "table" {
            let status: serde_json::Value = serde_json::from_str(&done.out).expect("JSON");
            assert_eq!(status["ready"], true);
        }
    }
    assert_eq!(run(&dir, &["healthcheck"]).out, "healthy\n");
    assert_eq!(run(&dir, &["ctl", "--data-dir", "data", "status"]).code, 0);
    // The configuration of a running node is right although its ports are taken.
    let tcp = format!(
        "listeners.tcp.default.bind={}",
        broker.address("tcp:default")
    );
    let checked = run(&dir, &["check", "--set", &tcp]);
    assert!(
        checked.code == 0 && checked.out.contains("a node runs with this data_dir"),
        "{checked:?}"
    );
    let second = run(&dir, &sets("serve", &FREE_PORTS));
    assert!(
        second.code == 2
            && second.err.contains("another node runs with this data_dir")
            && second.err.contains("help: stop that node")
            && !second.err.contains("chown"),
        "{second:?}"
    );
    assert_eq!(
        run(&dir, &["healthcheck"]).code,
        0,
        "the refused one took nothing away"
    );
    broker.signal("TERM");
    let (code, err) = broker.wait();
    assert_eq!(code, 0, "{err}");
    assert!(!dir.path().join("data/ctl.sock").exists());
}

#[test]
fn a_killed_node_leaves_nothing_that_keeps_the_next_from_starting() {
    let dir = Dir::new();
    let broker = Broker::start(&dir, &[]);
    broker.signal("KILL");
    assert_eq!(broker.wait().0, -1);
    assert!(
        dir.path().join("data/ctl.sock").exists(),
        "it had no time to remove it"
    );
    assert_eq!(run(&dir, &["ctl", "status"]).code, 5);
    let next = Broker::start(&dir, &[]);
    assert_eq!(run(&dir, &["healthcheck"]).code, 0);
    drop(next);
}

#[test]
fn a_reload_says_what_it_applied_and_what_needs_a_restart() {
    let dir = Dir::new();
    dir.write("etc/nightjar.toml", "");
    let broker = Broker::start(&dir, &[]);
    dir.write(
        "etc/nightjar.toml",
        "[mqtt]\nmax_inflight = 7\n[node]\nworkers = 3\n",
    );
    let done = run(&dir, &["ctl", "reload", "--output", "json"]);
    let reloaded: serde_json::Value =
        serde_json::from_str(&done.out).unwrap_or_else(|_| panic!("{done:?}"));
    assert_eq!(
        reloaded["applied"],
        serde_json::json!(["mqtt.max_inflight"]),
        "{reloaded}"
    );
    assert_eq!(
        reloaded["needs_restart"],
        serde_json::json!(["node.workers"]),
        "{reloaded}"
    );
    // A broken file changes nothing and is named.
    dir.write("etc/nightjar.toml", "[mqtt]\nmax_inflight = \"many\"\n");
    let done = run(&dir, &["ctl", "reload", "--output", "json"]);
    assert!(
        done.code == 1 && done.out.contains("etc/nightjar.toml:2:16"),
        "{done:?}"
    );
    broker.signal("HUP");
    pause();
    assert_eq!(
        run(&dir, &["healthcheck"]).code,
        0,
        "SIGHUP reloads and does not end"
    );
}

#[test]
fn pub_and_sub_carry_a_message_through_a_node() {
    let dir = Dir::new();
    let broker = Broker::start(&dir, &[]);
    let (host, port) = broker
        .address("tcp:default")
        .rsplit_once(':')
        .expect("address:port");
    let mut sub = command(
        &dir,
        &[
            "sub", "-h", host, "-p", port, "-t", "a/#", "-C", "1", "-W", "15", "-v",
        ],
    )
    .stdout(Stdio::piped())
    .stderr(Stdio::piped())
    .spawn()
    .expect("starts");
    // Retained, so that it does not matter who comes first.
    let done = run(
        &dir,
        &[
            "pub", "-h", host, "-p", port, "-t", "a/b", "-m", "hello", "-q", "1", "-r",
        ],
    );
    assert_eq!(done.code, 0, "{done:?}");
    until("the subscriber ends", || {
        sub.try_wait().expect("it is our child").is_some()
    });
    let output = sub.wait_with_output().expect("it ended");
    assert_eq!(
        String::from_utf8_lossy(&output.stdout),
        "a/b hello\n",
        "{output:?}"
    );
    assert!(output.status.success());
}

#[test]
fn keys_without_effect_in_this_build_are_told() {
    let dir = Dir::new();
    let done = check(&dir, &["cluster.gossip_bind=127.0.0.1:0"]);
    let told = done
        .out
        .contains("cluster.gossip_bind: is set, and this build does not act on it")
        || done
            .out
            .contains("--set cluster.gossip_bind: is set, and this build does not act on it");
    assert!(done.code == 0 && told, "{done:?}");
    assert!(!done.out.contains("mqtt.max"), "{done:?}");
}

#[test]
fn a_node_told_to_stop_as_soon_as_it_listens_ends_in_order() {
    let dir = Dir::new();
    let listeners = dir.path().join("data/listeners.json");
    let mut node = command(&dir, &sets("serve", &FREE_PORTS))
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .expect("the program can be started");
    until("the list of listeners", || listeners.exists());
    let told = std::process::Command::new("kill")
        .args(["-TERM", &node.id().to_string()])
        .status();
    assert!(told.expect("kill can be started").success());
    let ended = node.wait().expect("it is our child");
    assert_eq!(ended.code(), Some(0), "{ended}");
    assert!(!dir.path().join("data/ctl.sock").exists());
}

#[test]
fn init_writes_files_to_begin_with_and_leaves_what_is_there() {
    let dir = Dir::new();
    let done = run(&dir, &["init"]);
    assert_eq!(done.code, 0, "{done:?}");
    assert!(done.out.contains("wrote etc/nightjar.toml"), "{}", done.out);
    let file = dir.path().join("etc/nightjar.toml");
    let text = std::fs::read_to_string(&file).expect("it was written");
    assert_eq!(text, run(&dir, &["config", "default"]).out);
    let tested = ["acl", "test", "--user", "ann", "publish", "a/b"];
    let sources = r#"acl.sources=[{kind="file",path="etc/acl.conf"}]"#;
    let done = run(&dir, &[&["--set", sources][..], &tested].concat());
    assert!(done.code == 0 || done.code == 4, "{done:?}");
    std::fs::write(&file, "[mqtt]\nmax_qos = 1\n").expect("it can be written");
    let again = run(&dir, &["init"]);
    assert!(
        again.code == 0 && again.out.contains("left as it is"),
        "{again:?}"
    );
    let kept = std::fs::read_to_string(&file).expect("it is there");
    assert_eq!(kept, "[mqtt]\nmax_qos = 1\n");
    // `serve` looks there too.
    let explained = run(&dir, &["config", "explain", "mqtt.max_qos"]);
    assert!(explained.out.contains("nightjar.toml"), "{explained:?}");
    // A folder that cannot be made is a clear error.
    let refused = run(&dir, &["init", "etc/nightjar.toml/below"]);
    assert!(
        refused.code == 1 && refused.err.contains("etc/nightjar.toml/below"),
        "{refused:?}"
    );
}
