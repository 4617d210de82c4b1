//! `bench` counts what really happened: against a broker that loses and repeats on demand.

use std::sync::atomic::Ordering;

use clap::Parser;
use nightjar_client::bench::{BenchArgs, Report, runner};
use nightjar_mqtt::ReasonCode;

use crate::broker::{Broker, Faults};
use crate::mosquitto::Mosquitto;

#[derive(Parser)]
struct Bench {
    #[command(flatten)]
    args: BenchArgs,
}

fn run(port: &str, line: &str) -> Report {
    let line = format!("bench {line} -h 127.0.0.1 -p {port} --quiet -i 0");
    let command = Bench::try_parse_from(line.split(' ')).unwrap_or_else(|error| panic!("{error}"));
    runner::run(command.args.kind.mqtt().unwrap()).unwrap_or_else(|error| panic!("{error}"))
}

#[test]
fn pairs_of_every_version_and_qos_lose_nothing() {
    let broker = Broker::start(Faults::default());
    let mosquitto = Mosquitto::start("pairs_of_every_version_and_qos_lose_nothing");
    let mut ports = vec![broker.port()];
    ports.extend(mosquitto.iter().map(|mosquitto| mosquitto.port.to_string()));
    for port in &ports {
        for version in [3, 4, 5] {
            for qos in [0, 1, 2] {
                let line = format!("pair -c 10 -V {version} -q {qos} -I 0 -L 2000 --window 10");
                let report = run(port, &line);
                assert!(!report.has_failed(), "{line}: {report:#?}");
                assert_eq!(report.published.messages, 2000);
                assert_eq!(report.received.messages, 2000);
                assert_eq!(report.received.lost, 0);
                assert_eq!(report.latency.unwrap().count, 2000);
                let acknowledged = if qos > 0 { 2000 } else { 0 };
                assert_eq!(report.published.acknowledged, acknowledged);
            }
        }
    }
}

#[test]
fn lost_deliveries_are_counted_exactly() {
    let faults = Faults {
        drop_every: Some(7),
        ..Faults::default()
    };
    let broker = Broker::start(faults);
    let report = run(&broker.port(), "pair -c 5 -q 1 -I 0 -L 1000");
    let dropped = broker.shared.dropped.load(Ordering::Relaxed);
    assert_eq!(dropped, 1000 / 7);
    assert_eq!(report.received.expected, Some(1000));
    assert_eq!(report.received.lost, dropped);
    assert!(report.has_failed(), "QoS 1 messages were lost");
    // The same with QoS 0 is no failure, and still told.
    let report = run(&broker.port(), "fanout -c 4 -q 0 -I 0 -L 100");
    assert_eq!(report.received.expected, Some(400));
    let dropped = broker.shared.dropped.load(Ordering::Relaxed) - dropped;
    assert_eq!(report.received.lost, dropped);
    assert!(dropped > 0 && !report.has_failed());
}

#[test]
fn repeated_deliveries_do_not_hide_lost_ones() {
    let faults = Faults {
        drop_every: Some(10),
        repeat_every: Some(3),
        ..Faults::default()
    };
    let broker = Broker::start(faults);
    let report = run(&broker.port(), "pair -c 2 -q 0 -I 0 -L 300");
    let dropped = broker.shared.dropped.load(Ordering::Relaxed);
    assert_eq!(report.received.lost, dropped);
    // Every 30th was dropped and so not repeated.
    assert_eq!(report.received.repeated, 300 / 3 - 300 / 30);
}

#[test]
fn fanout_and_fan_in_reach_everyone() {
    let broker = Broker::start(Faults::default());
    let report = run(&broker.port(), "fanout -c 20 -I 0 -L 100 --window 10");
    assert_eq!(report.received.messages, 2000);
    assert_eq!((report.received.lost, report.received.repeated), (0, 0));
    let report = run(
        &broker.port(),
        "fanout -c 1 --publishers 30 -q 1 -I 0 -L 900 --threads 2",
    );
    assert_eq!(report.received.messages, 900);
    assert_eq!((report.received.lost, report.received.repeated), (0, 0));
    assert_eq!(report.connections.connected, 31);
    assert_eq!(broker.shared.goodbyes.load(Ordering::Relaxed), 21 + 31);
}

#[test]
fn a_rate_is_kept() {
    let broker = Broker::start(Faults::default());
    let report = run(&broker.port(), "pair -c 20 --rate 500 --duration 2");
    assert!(
        (900..=1020).contains(&report.published.messages),
        "{:#?}",
        report.published
    );
    assert_eq!(report.received.lost, 0);
}

#[test]
fn sub_counts_what_pub_of_another_process_sends() {
    let faults = Faults {
        drop_every: Some(10),
        ..Faults::default()
    };
    let broker = Broker::start(faults);
    let port = broker.port();
    let subscriber = std::thread::spawn({
        let port = port.clone();
        move || run(&port, "sub -c 3 -t b/%i -q 1 --duration 3")
    });
    while broker.shared.accepted.load(Ordering::Relaxed) < 3 {
        std::thread::yield_now();
    }
    #[allow(
        clippy::disallowed_methods,
        reason = "SUBSCRIBE follows CONNECT at once"
    )]
    std::thread::sleep(std::time::Duration::from_millis(300));
    let sent = run(&port, "pub -c 3 -t b/%i -q 1 -I 1 -L 300 -w");
    assert_eq!(sent.published.acknowledged, 300);
    assert_eq!(sent.ack_latency.unwrap().count, 300);
    let report = subscriber.join().unwrap();
    assert_eq!(report.received.messages, 270);
    assert_eq!(report.latency.unwrap().count, 270);
    // Only what is missing between two received ones can be known here.
    assert!(
        (24..=30).contains(&report.received.lost),
        "{:#?}",
        report.received
    );
}

#[test]
fn connections_that_fail_are_counted_with_their_reason() {
    let broker = Broker::start(Faults {
        refuse: Some(ReasonCode::NotAuthorized),
        ..Faults::default()
    });
    let report = run(&broker.port(), "conn -c 5 --duration 1");
    assert_eq!(
        (report.connections.connected, report.connections.failed),
        (0, 5)
    );
    assert_eq!(report.errors["refused: Not authorized (0x87)"], 5);
    assert!(report.has_failed());
    let nobody = run("1", "conn -c 2 --duration 1");
    assert_eq!(nobody.connections.failed, 2);
    assert!(
        nobody.errors.keys().any(|error| error.contains("refused")),
        "{:?}",
        nobody.errors
    );
}

#[test]
fn lost_connections_and_missing_acknowledgements_are_counted() {
    let broker = Broker::start(Faults {
        hang_up_at: Some(5),
        ..Faults::default()
    });
    let report = run(&broker.port(), "pub -c 3 -t x -q 0 -I 10 --duration 10");
    assert_eq!(report.connections.lost, 3);
    assert!(report.has_failed());
    let broker = Broker::start(Faults {
        mute: true,
        ..Faults::default()
    });
    let report = run(
        &broker.port(),
        "pub -c 2 -t x -q 1 -I 0 --window 4 --duration 1 -w",
    );
    assert_eq!(report.published.messages, 8);
    assert_eq!(report.published.unacknowledged, 8);
    assert!(report.has_failed());
    let broker = Broker::start(Faults {
        reject: Some(ReasonCode::QuotaExceeded),
        ..Faults::default()
    });
    let report = run(&broker.port(), "pub -c 1 -t x -q 1 -I 0 -L 10");
    assert_eq!(report.published.refused, 10);
}

#[test]
fn clients_leave_from_several_addresses() {
    let broker = Broker::start(Faults::default());
    let report = run(
        &broker.port(),
        "conn -c 10 --ifaddr 127.0.0.1,127.0.0.2 --duration 0.1",
    );
    assert_eq!(report.connections.connected, 10, "{report:#?}");
    let wrong = run(
        &broker.port(),
        "conn -c 2 --ifaddr 192.0.2.1 --duration 0.1",
    );
    assert_eq!(wrong.connections.failed, 2);
}

#[test]
fn more_clients_than_files_are_not_promised() {
    let line = "bench conn -c 4000000 -h 127.0.0.1 -p 1";
    let command = Bench::try_parse_from(line.split(' ')).unwrap();
    let error = runner::run(command.args.kind.mqtt().unwrap())
        .unwrap_err()
        .to_string();
    assert!(error.contains("clients"), "{error}");
}

#[test]
fn json_has_the_figures_by_name() {
    let broker = Broker::start(Faults::default());
    let report = run(&broker.port(), "pair -c 2 -I 0 -L 50 --json");
    let json = serde_json::to_value(&report).unwrap();
    assert_eq!(json["command"], "pair");
    assert_eq!(json["received"]["messages"], 50);
    assert!(
        json["latency"]["p999_us"].as_f64().unwrap() >= json["latency"]["p50_us"].as_f64().unwrap()
    );
    let text = report.text();
    assert!(text.contains("p99.9") && text.contains("0 lost"), "{text}");
}

#[test]
fn an_idle_client_stays_small() {
    let broker = Broker::start(Faults::default());
    let report = run(&broker.port(), "conn -c 500 --duration 0.1");
    assert_eq!(report.connections.connected, 500);
    // The broker of the test is in the same process and takes its share too.
    assert!(
        report.generator.bytes_per_client < 20 * 1024,
        "{:#?}",
        report.generator
    );
}
