//! Builtin users, builtin rules and bans: made by ctl, in force at once, there after a restart.

use std::process::Stdio;

use nightjar_client::ReasonCode;

use crate::access::{configured, publish, scram};
use crate::process::{Broker, Dir, Done, command, run, until};

const CONFIG: &str = "[[auth.chain]]\nkind = \"builtin\"\n[[auth.chain]]\nkind = \"builtin\"\nuser_id = \"clientid\"\n\
    [[auth.chain]]\nkind = \"scram\"\n[[acl.sources]]\nkind = \"builtin\"\n[acl]\nno_match = \"allow\"\n";

const ANN: &[&str] = &["-u", "ann", "-P", "secret"];

fn ctl(dir: &Dir, args: &[&str]) -> Done {
    run(dir, &[&["ctl", "--yes"], args].concat())
}

#[test]
fn users_made_by_ctl_log_in_by_password_and_scram_and_are_there_after_a_restart() {
    let dir = configured(CONFIG);
    let broker = Broker::start(&dir, &[]);
    let code = |broker: &Broker, login: &[&str]| publish(&dir, broker, "mqttv5", login, "a");
    assert_eq!(code(&broker, ANN), 0x86, "nobody knows her yet");
    let done = ctl(&dir, &["users", "add", "ann", "--password", "secret"]);
    assert_eq!(done.code, 0, "{done:?}");
    let done = ctl(&dir, &["users", "add", "ann", "--password", "other"]);
    assert!(done.code == 4 && done.err.contains("already"), "{done:?}");
    let done = ctl(
        &dir,
        &["users", "add", "meter-7", "--clientid", "--password", "m7"],
    );
    assert_eq!(done.code, 0, "{done:?}");
    let meter = ["-i", "meter-7", "-P", "m7", "-u", "x"];
    let all = |broker: &Broker| {
        assert_eq!(code(broker, ANN), 0);
        assert_eq!(code(broker, &["-u", "ann", "-P", "guess"]), 0x86);
        assert_eq!(code(broker, &meter), 0);
        let address = broker.address("tcp:default");
        assert_eq!(scram(address, "ann", b"secret").0, ReasonCode::Success);
        assert_eq!(scram(address, "ann", b"guess").0, ReasonCode::NotAuthorized);
    };
    all(&broker);
    let listed = ctl(&dir, &["users", "list", "--output", "json"]);
    assert!(
        listed.out.contains("\"ann\"") && !listed.out.contains("argon2"),
        "{listed:?}"
    );
    broker.signal("TERM");
    assert_eq!(broker.wait().0, 0);
    let broker = Broker::start(&dir, &[]);
    all(&broker);
    // A new password is in force at once, though the old one was verified a moment ago.
    let done = ctl(&dir, &["users", "passwd", "ann", "--password", "fresh"]);
    assert_eq!(done.code, 0, "{done:?}");
    assert_eq!(code(&broker, ANN), 0x86);
    assert_eq!(code(&broker, &["-u", "ann", "-P", "fresh"]), 0);
    assert_eq!(ctl(&dir, &["users", "rm", "ann"]).code, 0);
    assert_eq!(ctl(&dir, &["users", "rm", "ann"]).code, 3);
    assert_eq!(code(&broker, &["-u", "ann", "-P", "fresh"]), 0x86);
}

#[test]
fn builtin_rules_are_in_force_at_once_and_explained() {
    let dir = configured(&format!("{CONFIG}[auth]\nallow_anonymous = true\n"));
    let broker = Broker::start(&dir, &[]);
    let code = |broker: &Broker, topic| publish(&dir, broker, "mqttv5", &[], topic);
    assert_eq!(code(&broker, "closed/a"), 0);
    let done = ctl(
        &dir,
        &["acl", "add", "{deny, all, publish, [\"closed/#\"]}"],
    );
    assert!(done.code == 0 && done.out.contains("10"), "{done:?}");
    assert_eq!(
        (code(&broker, "closed/a"), code(&broker, "open/a")),
        (0x87, 0)
    );
    let done = ctl(&dir, &["acl", "add", "{allow, everyone}."]);
    assert!(
        done.code == 2 && done.err.contains("expected all"),
        "{done:?}"
    );
    let done = ctl(
        &dir,
        &["acl", "test", "--user", "bob", "publish", "closed/x"],
    );
    assert!(
        done.out.contains("deny") && done.out.contains("builtin rules:10"),
        "{done:?}"
    );
    let done = ctl(
        &dir,
        &["acl", "test", "--user", "bob", "subscribe", "closed/x"],
    );
    assert!(
        done.out.contains("allow") && done.out.contains("acl.no_match"),
        "{done:?}"
    );
    broker.signal("TERM");
    assert_eq!(broker.wait().0, 0);
    let broker = Broker::start(&dir, &[]);
    assert_eq!(
        (code(&broker, "closed/a"), code(&broker, "open/a")),
        (0x87, 0)
    );
    let listed = ctl(&dir, &["acl", "list"]);
    assert!(
        listed.out.contains("{deny, all, publish, [\"closed/#\"]}."),
        "{listed:?}"
    );
    assert_eq!(ctl(&dir, &["acl", "rm", "10"]).code, 0);
    assert_eq!(code(&broker, "closed/a"), 0);
    assert_eq!(ctl(&dir, &["acl", "rm", "10"]).code, 3);
}

#[test]
fn a_ban_keeps_out_ends_connections_and_ends_itself() {
    let dir = configured("[auth]\nallow_anonymous = true\n");
    let broker = Broker::start(&dir, &[]);
    let code = |broker: &Broker, version, id| publish(&dir, broker, version, &["-i", id], "a");
    assert_eq!(code(&broker, "mqttv5", "bad"), 0);
    let (_, port) = broker
        .address("tcp:default")
        .rsplit_once(':')
        .expect("address:port");
    let mut subscriber = command(
        &dir,
        &["sub", "-p", port, "-i", "bad", "-t", "a", "-V", "mqttv5"],
    )
    .stdout(Stdio::null())
    .stderr(Stdio::null())
    .spawn()
    .expect("the program can be started");
    until("the subscriber is connected", || {
        let status = ctl(&dir, &["status", "--output", "json"]);
        status.out.contains("\"connections\": 1,")
    });
    let done = ctl(
        &dir,
        &[
            "ban", "add", "--client", "bad", "--for", "3s", "--reason", "noise",
        ],
    );
    assert_eq!(done.code, 0, "{done:?}");
    until("its connection ended", || {
        subscriber.try_wait().expect("it is our child").is_some()
    });
    assert_eq!(code(&broker, "mqttv5", "bad"), 0x8A);
    assert_eq!(code(&broker, "mqttv311", "bad"), 5);
    assert_eq!(code(&broker, "mqttv5", "good"), 0);
    let listed = ctl(&dir, &["ban", "list"]);
    assert!(
        listed.out.contains("noise") && listed.out.contains("bad"),
        "{listed:?}"
    );
    until("the ban is over", || code(&broker, "mqttv5", "bad") == 0);
    // A network, for good, over a restart.
    assert_eq!(
        ctl(&dir, &["ban", "add", "--address", "127.0.0.0/8"]).code,
        0
    );
    assert_eq!(ctl(&dir, &["ban", "add", "--address", "nowhere"]).code, 2);
    assert_eq!(code(&broker, "mqttv5", "good"), 0x8A);
    broker.signal("TERM");
    assert_eq!(broker.wait().0, 0);
    let broker = Broker::start(&dir, &[]);
    assert_eq!(code(&broker, "mqttv5", "good"), 0x8A);
    assert_eq!(
        ctl(&dir, &["ban", "rm", "--address", "127.0.0.0/8"]).code,
        0
    );
    assert_eq!(
        ctl(&dir, &["ban", "rm", "--address", "127.0.0.0/8"]).code,
        3
    );
    assert_eq!(code(&broker, "mqttv5", "good"), 0);
}
