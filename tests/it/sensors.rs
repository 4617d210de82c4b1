//! The program's own MQTT-SN client against the program's own gateway.

use std::process::{Child, Stdio};

use crate::process::{Broker, Dir, command, pause, run};

/// Host and port flags for a listener.
fn place<'a>(broker: &'a Broker, listener: &str) -> [&'a str; 4] {
    let (host, port) = broker
        .address(listener)
        .rsplit_once(':')
        .expect("an address has a port");
    ["-h", host, "-p", port]
}

fn start(dir: &Dir, arguments: &[&str]) -> Child {
    command(dir, arguments)
        .stdout(Stdio::piped())
        .spawn()
        .expect("the program can be started")
}

/// Publishes until the subscriber ends; its output.
fn publish_until_it_ends(dir: &Dir, mut sub: Child, arguments: &[&str]) -> String {
    for _ in 0..100 {
        let done = run(dir, arguments);
        assert_eq!(done.code, 0, "{done:?}");
        for _ in 0..10 {
            if sub.try_wait().expect("it is our child").is_some() {
                let output = sub.wait_with_output().expect("it has ended");
                assert!(output.status.success(), "{:?}", output.status);
                return String::from_utf8(output.stdout).expect("text");
            }
            pause();
        }
    }
    let _ = sub.kill();
    panic!("the subscriber got nothing");
}

#[test]
fn pub_and_sub_speak_mqtt_sn_to_one_another_and_to_mqtt() {
    let dir = Dir::new();
    let broker = Broker::start(
        &dir,
        &[
            "listeners.mqttsn.default.qos_minus_one=true",
            "listeners.mqttsn.default.predefined=[{id=7,topic=\"pre/seven\"}]",
        ],
    );
    let (sn, tcp) = (
        place(&broker, "mqttsn:default"),
        place(&broker, "tcp:default"),
    );
    let ends = ["-C", "1", "-W", "20"];
    // MQTT-SN to MQTT.
    for (topic, rest) in [
        ("up/t", &["-t", "up/t", "-q", "2"][..]),
        ("pre/seven", &["--topic-id", "7", "-q", "1"]),
        ("pre/seven", &["--topic-id", "7", "-q", "-1"]),
        ("ab", &["--short-topic", "ab"]),
    ] {
        let sub = [&["sub"], &tcp[..], &ends, &["-t", topic]].concat();
        let publish = [&["pub", "--sn"], &sn[..], rest, &["-m", "21"]].concat();
        let sub = start(&dir, &sub);
        assert_eq!(
            publish_until_it_ends(&dir, sub, &publish),
            "21\n",
            "{topic}"
        );
    }
    // MQTT to MQTT-SN, awake and asleep.
    for (topic, rest) in [
        ("down/t", &["-t", "down/+", "-q", "2"][..]),
        ("down/s", &["-t", "down/s", "-q", "1", "--sleep", "1"]),
        ("pre/seven", &["--topic-id", "7", "-q", "1"]),
    ] {
        let sub = [&["sub", "--sn"], &sn[..], &ends, rest].concat();
        let publish = [&["pub"], &tcp[..], &["-q", "1", "-t", topic, "-m", "on"]].concat();
        let sub = start(&dir, &sub);
        assert_eq!(
            publish_until_it_ends(&dir, sub, &publish),
            "on\n",
            "{topic}"
        );
    }
}

#[test]
fn bench_sn_counts_what_arrives_and_what_the_gateway_uses() {
    let dir = Dir::new();
    let broker = Broker::start(&dir, &["listeners.mqttsn.default.buffer_messages=100"]);
    let sn = place(&broker, "mqttsn:default");
    let mqtt = place(&broker, "tcp:default");
    let pid = broker.pid().to_string();
    for sockets in [&[][..], &["--forwarders", "3"]] {
        let arguments = [
            &["bench", "sn", "--json"][..],
            &sn,
            &["--mqtt-port", mqtt[3], "--pid", &pid, "-c", "30", "-q", "1"],
            &[
                "-I", "0", "-L", "600", "--sleep", "60", "--cycles", "2", "--down", "5",
            ],
            sockets,
        ]
        .concat();
        let done = run(&dir, &arguments);
        assert_eq!(done.code, 0, "{done:?}");
        let report: serde_json::Value = serde_json::from_str(&done.out).expect("JSON");
        assert_eq!(report["connections"]["connected"], 30, "{report}");
        assert_eq!(report["published"]["acknowledged"], 600, "{report}");
        assert_eq!(report["arrived"]["messages"], 600, "{report}");
        for cycle in report["cycles"].as_array().expect("cycles") {
            assert_eq!(cycle["received"], 150, "{report}");
            assert_eq!(cycle["woken"], 30, "{report}");
        }
        assert!(
            report["server"]["cpu_us_per_message"].is_number(),
            "{report}"
        );
    }
}

#[test]
fn bench_sn_lets_a_drowsy_fleet_sleep_one_by_one() {
    let dir = Dir::new();
    let broker = Broker::start(&dir, &[]);
    let (sn, mqtt) = (
        place(&broker, "mqttsn:default"),
        place(&broker, "tcp:default"),
    );
    let arguments = [
        &["bench", "sn", "--json"][..],
        &sn,
        &[
            "--mqtt-port",
            mqtt[3],
            "-c",
            "30",
            "--sleep",
            "60",
            "--drowsy",
            "--down",
            "2",
        ],
    ]
    .concat();
    let done = run(&dir, &arguments);
    assert_eq!(done.code, 0, "{done:?}");
    let report: serde_json::Value = serde_json::from_str(&done.out).expect("JSON");
    assert_eq!(report["connections"]["connected"], 30, "{report}");
    assert_eq!(report["cycles"][0]["received"], 60, "{report}");
    assert_eq!(report["cycles"][0]["woken"], 30, "{report}");
}
