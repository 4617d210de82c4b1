//! `pub --sn`, `sub --sn` and `bench sn` as their users call them.

use std::sync::atomic::Ordering;
use std::time::Duration;

use clap::Parser;
use nightjar_client::bench::sn::{SnReport, run};
use nightjar_client::bench::{BenchArgs, BenchKind};
use nightjar_client::cli::{publish, subscribe};
use nightjar_client::{Error, PubArgs, SubArgs};
use nightjar_mqttsn::ReturnCode;

use crate::commands::Output;
use crate::sn_gateway::{Faults, Gateway};

#[derive(Parser)]
struct Pub {
    #[command(flatten)]
    args: PubArgs,
}

#[derive(Parser)]
struct Sub {
    #[command(flatten)]
    args: SubArgs,
}

#[derive(Parser)]
struct Bench {
    #[command(flatten)]
    args: BenchArgs,
}

fn arguments<'a>(port: &'a str, rest: &'a [&'a str]) -> impl Iterator<Item = &'a str> {
    let first = ["command", "--sn", "-h", "localhost", "-p", port, "--quiet"];
    first
        .into_iter()
        .chain(["--retry", "0.2"])
        .chain(rest.iter().copied())
}

async fn run_pub(port: &str, rest: &[&str], stdin: &[u8]) -> Result<u8, Error> {
    let command =
        Pub::try_parse_from(arguments(port, rest)).unwrap_or_else(|error| panic!("{error}"));
    publish(&command.args, stdin).await
}

/// Starts `sub`; it is subscribed once this returns, if the gateway grants it.
async fn start_sub(
    port: &str,
    rest: &[&str],
) -> (tokio::task::JoinHandle<Result<u8, Error>>, Output) {
    let command =
        Sub::try_parse_from(arguments(port, rest)).unwrap_or_else(|error| panic!("{error}"));
    let output = Output::default();
    let sink = output.clone();
    let task = tokio::spawn(async move { subscribe(&command.args, sink).await });
    tokio::time::sleep(Duration::from_millis(400)).await;
    (task, output)
}

#[tokio::test]
async fn every_qos_and_form_of_topic_arrives() {
    let gateway = Gateway::start(Faults::default());
    let port = gateway.port();
    for qos in ["0", "1", "2"] {
        let flags = [
            "-q",
            qos,
            "-t",
            "a/+",
            "--topic-id",
            "7",
            "--short-topic",
            "xy",
            "-v",
            "-C",
            "3",
            "-W",
            "10",
        ];
        let (sub, output) = start_sub(&port, &flags).await;
        for topic in [["-t", "a/b"], ["--topic-id", "7"], ["--short-topic", "xy"]] {
            let flags = [&topic[..], &["-q", qos, "-m", "hello"]].concat();
            assert_eq!(run_pub(&port, &flags, b"").await.unwrap(), 0);
        }
        assert_eq!(sub.await.unwrap().unwrap(), 0, "QoS {qos}");
        assert_eq!(output.text(), "a/b hello\n7 hello\nxy hello\n", "QoS {qos}");
    }
}

#[tokio::test]
async fn qos_minus_one_needs_no_connection() {
    let gateway = Gateway::start(Faults::default());
    let port = gateway.port();
    let flags = ["--topic-id", "9", "-C", "2", "-W", "10", "-F", "%t %p %q"];
    let (sub, output) = start_sub(&port, &flags).await;
    let flags = ["--topic-id", "9", "-q", "-1", "-m", "x", "--repeat", "2"];
    assert_eq!(run_pub(&port, &flags, b"").await.unwrap(), 0);
    assert_eq!(sub.await.unwrap().unwrap(), 0);
    assert_eq!(output.text(), "9 x 0\n9 x 0\n");
    assert_eq!(gateway.seen.connects.load(Ordering::Relaxed), 1);
}

#[tokio::test]
async fn a_sleeper_gets_what_waited_for_it() {
    let gateway = Gateway::start(Faults::default());
    let port = gateway.port();
    let flags = [
        "-t", "a/#", "-q", "1", "--sleep", "1", "-C", "3", "-W", "20",
    ];
    let (sub, output) = start_sub(&port, &flags).await;
    for text in ["one", "two", "three"] {
        run_pub(&port, &["-t", "a/b", "-q", "1", "-m", text], b"")
            .await
            .unwrap();
        tokio::time::sleep(Duration::from_millis(500)).await;
    }
    assert_eq!(sub.await.unwrap().unwrap(), 0);
    assert_eq!(output.text(), "one\ntwo\nthree\n");
    assert_eq!(gateway.seen.sleeps.load(Ordering::Relaxed), 1);
    assert!(gateway.seen.wakes.load(Ordering::Relaxed) >= 1);
}

#[tokio::test]
async fn lines_survive_loss_and_a_lost_connection() {
    let gateway = Gateway::start(Faults {
        deaf_every: Some(3),
        hang_up_at: Some(3),
        ..Faults::default()
    });
    let port = gateway.port();
    let flags = [
        "-t",
        "t",
        "-q",
        "1",
        "-C",
        "4",
        "-W",
        "20",
        "-k",
        "0",
        "--retries",
        "20",
    ];
    let (sub, output) = start_sub(&port, &flags).await;
    tokio::time::sleep(Duration::from_secs(1)).await;
    let flags = ["-t", "t", "-q", "1", "-l", "--retries", "20"];
    let lines = b"1\n2\n3\n4\n";
    assert_eq!(run_pub(&port, &flags, lines).await.unwrap(), 0);
    assert_eq!(sub.await.unwrap().unwrap(), 0);
    let text = output.text();
    let mut seen: Vec<&str> = text.lines().collect();
    seen.dedup();
    assert_eq!(seen, ["1", "2", "3", "4"]);
}

#[tokio::test]
async fn the_will_and_a_node_behind_a_forwarder() {
    let gateway = Gateway::start(Faults::default());
    let port = gateway.port();
    let flags = [
        "-t",
        "t",
        "-q",
        "1",
        "-m",
        "x",
        "--will-topic",
        "w",
        "--will-payload",
        "gone",
        "--node",
        "00ff",
    ];
    assert_eq!(run_pub(&port, &flags, b"").await.unwrap(), 0);
    let wills = gateway.seen.wills.lock().clone();
    assert_eq!(wills, [("w".to_owned(), b"gone".to_vec())]);
}

#[tokio::test]
async fn refusals_become_exit_codes() {
    for code in [ReturnCode::CONGESTION, ReturnCode::NOT_SUPPORTED] {
        let gateway = Gateway::start(Faults {
            refuse: Some(code),
            ..Faults::default()
        });
        let error = run_pub(&gateway.port(), &["-t", "t", "-m", "x"], b"")
            .await
            .unwrap_err();
        assert_eq!(error.exit_code(), code.0, "{error}");
    }
    let gateway = Gateway::start(Faults {
        deny: Some("no"),
        ..Faults::default()
    });
    let port = gateway.port();
    for qos in ["0", "1", "2"] {
        let flags = ["-t", "no/t", "-q", qos, "-m", "x"];
        assert_eq!(run_pub(&port, &flags, b"").await.unwrap(), 3, "QoS {qos}");
    }
    let (sub, _) = start_sub(&port, &["-t", "no/t"]).await;
    assert_eq!(sub.await.unwrap().unwrap(), 3);
}

#[tokio::test]
async fn nobody_there_is_told_at_once_and_silence_after_the_repeats() {
    let silent = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
    let port = silent.local_addr().unwrap().port().to_string();
    let flags = ["-t", "t", "-m", "x", "--retries", "2"];
    let error = run_pub(&port, &flags, b"").await.unwrap_err();
    assert_eq!(error.exit_code(), 27, "{error}");
    drop(silent);
    for flags in [
        &["-t", "t", "-m", "x"][..],
        &["--topic-id", "1", "-q", "-1", "-m", "x"],
    ] {
        let error = run_pub(&port, flags, b"").await.unwrap_err();
        assert!(matches!(error, Error::Connect { .. }), "{error}");
    }
}

#[tokio::test]
async fn flags_without_a_place_in_mqtt_sn_are_refused() {
    for flags in [
        &["-t", "t", "-m", "x", "-u", "me"][..],
        &["-t", "t", "-m", "x", "--ws"],
        &["-t", "t", "-m", "x", "-V", "5"],
        &["-t", "t", "-m", "x", "--insecure"],
        &["-t", "t", "-m", "x", "--topic-id", "1"],
        &["-t", "t", "-m", "x", "-q", "-1"],
        &["-m", "x"],
        &["-t", "a/+", "-m", "x"],
    ] {
        let error = run_pub("1", flags, b"").await.unwrap_err();
        assert!(matches!(error, Error::Usage(_)), "{flags:?}: {error}");
    }
    let without = ["command", "-t", "t", "-m", "x", "--topic-id", "1"];
    assert!(
        Pub::try_parse_from(without).is_err(),
        "--topic-id is of --sn"
    );
    let command = Pub::try_parse_from(["command", "-t", "t", "-m", "x", "-q", "-1"]).unwrap();
    let error = publish(&command.args, &b""[..]).await.unwrap_err();
    assert!(matches!(error, Error::Usage(_)), "{error}");
}

fn bench(gateway: &Gateway, line: &str) -> SnReport {
    let line = format!("bench sn {line} -h 127.0.0.1 -p {} --quiet", gateway.port());
    let command = Bench::try_parse_from(line.split(' ')).unwrap_or_else(|error| panic!("{error}"));
    let BenchKind::Sn(bench) = &command.args.kind else {
        panic!("another bench");
    };
    run(bench).unwrap_or_else(|error| panic!("{error}"))
}

#[test]
fn bench_counts_connects_and_messages_of_each_qos() {
    let gateway = Gateway::start(Faults::default());
    for (qos, more) in [
        ("0", "-I 1"),
        ("1", "-I 0"),
        ("2", "-I 0"),
        ("0", "--rate 2000"),
    ] {
        for sockets in ["", " --forwarders 3"] {
            let line = format!("-c 20 -q {qos} {more} -L 400{sockets}");
            let report = bench(&gateway, &line);
            assert!(!report.has_failed(), "{line}: {report:#?}");
            assert_eq!(report.connections.connected, 20, "{line}");
            assert_eq!(report.published.messages, 400, "{line}");
            let acknowledged = if qos == "0" { 0 } else { 400 };
            assert_eq!(report.published.acknowledged, acknowledged, "{line}");
            assert!(report.text().contains("20 connected"), "{}", report.text());
        }
    }
    let report = bench(&gateway, "-c 5 -q -1 --topic-id 3 -I 1 -L 50");
    assert_eq!(report.connections.connected, 0);
    assert_eq!(report.published.messages, 50);
    assert!(!report.has_failed(), "{report:#?}");
}

#[test]
fn bench_sleeps_and_wakes() {
    let gateway = Gateway::start(Faults::default());
    let report = bench(&gateway, "-c 30 --sleep 60 --cycles 2");
    assert!(!report.has_failed(), "{report:#?}");
    assert_eq!(report.published.messages, 0);
    let woken: Vec<u64> = report.cycles.iter().map(|cycle| cycle.woken).collect();
    assert_eq!(woken, [30, 30]);
    assert_eq!(report.wake_latency.unwrap().count, 60);
}

#[test]
fn bench_tells_refusals_and_repeats() {
    let deaf = Gateway::start(Faults {
        deaf_every: Some(4),
        ..Faults::default()
    });
    let report = bench(&deaf, "-c 10 -q 1 -I 0 -L 100 --retry 0.1 --retries 20");
    assert!(report.repeats >= 30, "{report:#?}");
    assert_eq!(report.published.acknowledged, 100);
    assert!(!report.has_failed(), "{report:#?}");
    let refusing = Gateway::start(Faults {
        refuse: Some(ReturnCode::CONGESTION),
        ..Faults::default()
    });
    let report = bench(&refusing, "-c 4 -L 10 --duration 1");
    assert!(report.has_failed(), "{report:#?}");
    assert_eq!(report.connections.failed, 4);
    assert!(
        report.errors.keys().any(|text| text.contains("congestion")),
        "{report:#?}"
    );
}
