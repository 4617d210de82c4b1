//! `pub` and `sub` as their users call them.

use std::io::Write;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use clap::error::ErrorKind;
use clap::{CommandFactory, Parser};
use nightjar_client::cli::{publish, subscribe};
use nightjar_client::{BenchArgs, Error, PubArgs, ReasonCode, SubArgs};
use parking_lot::Mutex;

use crate::broker::{Broker, Faults};
use crate::mosquitto::Mosquitto;

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

/// Output that can be looked at while it grows.
#[derive(Clone, Default)]
pub(crate) struct Output(Arc<Mutex<Vec<u8>>>);

impl Write for Output {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

impl Output {
    pub(crate) fn text(&self) -> String {
        String::from_utf8(self.0.lock().clone()).unwrap()
    }
}

fn arguments<'a>(port: &'a str, rest: &'a [&'a str]) -> impl Iterator<Item = &'a str> {
    ["command", "-h", "127.0.0.1", "-p", port, "--quiet"]
        .into_iter()
        .chain(rest.iter().copied())
}

async fn run_pub(port: &str, rest: &[&str], stdin: &[u8]) -> Result<u8, Error> {
    let command =
        Pub::try_parse_from(arguments(port, rest)).unwrap_or_else(|error| panic!("{error}"));
    publish(&command.args, stdin).await
}

/// Starts `sub`; it is subscribed once this returns, if the broker grants it.
async fn start_sub(
    port: &str,
    rest: &[&str],
) -> (tokio::task::JoinHandle<Result<u8, Error>>, Output) {
    let command =
        Sub::try_parse_from(arguments(port, rest)).unwrap_or_else(|error| panic!("{error}"));
    let output = Output::default();
    let sink = output.clone();
    let task = tokio::spawn(async move { subscribe(&command.args, sink).await });
    tokio::time::sleep(Duration::from_millis(300)).await;
    (task, output)
}

/// The test broker, and Mosquitto where it is installed.
fn brokers(test: &str) -> (Broker, Vec<(String, Option<Mosquitto>)>) {
    let broker = Broker::start(Faults::default());
    let mut ports = vec![(broker.port(), None)];
    if let Some(mosquitto) = Mosquitto::start(test) {
        ports.push((mosquitto.port.to_string(), Some(mosquitto)));
    }
    (broker, ports)
}

#[tokio::test]
async fn every_version_and_qos_arrives() {
    let (_broker, brokers) = brokers("every_version_and_qos_arrives");
    for (port, _mosquitto) in &brokers {
        for version in ["31", "311", "5"] {
            for qos in ["0", "1", "2"] {
                let flags = [
                    "-V", version, "-q", qos, "-t", "a/+", "-v", "-C", "2", "-W", "10",
                ];
                let (sub, output) = start_sub(port, &flags).await;
                for flags in [["-t", "a/b", "-m", "hello"], ["-t", "a/c", "-m", "-1"]] {
                    let flags = [&["-V", version, "-q", qos][..], &flags].concat();
                    assert_eq!(run_pub(port, &flags, b"").await.unwrap(), 0);
                }
                assert_eq!(
                    sub.await.unwrap().unwrap(),
                    0,
                    "version {version}, QoS {qos}"
                );
                assert_eq!(
                    output.text(),
                    "a/b hello\na/c -1\n",
                    "version {version}, QoS {qos}"
                );
            }
        }
    }
}

#[tokio::test]
async fn every_source_of_a_payload() {
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), "from a file").unwrap();
    let path = file.path().to_str().unwrap();
    let (_broker, brokers) = brokers("every_source_of_a_payload");
    for (port, _mosquitto) in &brokers {
        let (sub, output) =
            start_sub(port, &["-t", "t", "-C", "8", "-W", "10", "-F", "%l:%p"]).await;
        for (flags, stdin) in [
            (&["-f", path][..], &b""[..]),
            (&["-s"], b"all of\nstdin"),
            (&["-l", "-q", "1"], b"one\ntwo\n\nlast"),
            (&["-n"], b""),
            (&["-m", "again", "-q", "2"], b""),
        ] {
            let flags = [&["-t", "t"][..], flags].concat();
            assert_eq!(run_pub(port, &flags, stdin).await.unwrap(), 0);
        }
        assert_eq!(sub.await.unwrap().unwrap(), 0);
        let expected = "11:from a file\n12:all of\nstdin\n3:one\n3:two\n0:\n4:last\n0:\n5:again\n";
        assert_eq!(output.text(), expected);
    }
}

#[tokio::test]
async fn repeat_publishes_again_after_its_delay() {
    let broker = Broker::start(Faults::default());
    let (sub, output) = start_sub(&broker.port(), &["-t", "t", "-C", "3", "-W", "10"]).await;
    let start = std::time::Instant::now();
    let flags = [
        "-t",
        "t",
        "-m",
        "x",
        "--repeat",
        "3",
        "--repeat-delay",
        "0.1",
    ];
    assert_eq!(run_pub(&broker.port(), &flags, b"").await.unwrap(), 0);
    assert!(start.elapsed() >= Duration::from_millis(200));
    assert_eq!(sub.await.unwrap().unwrap(), 0);
    assert_eq!(output.text(), "x\nx\nx\n");
}

#[tokio::test]
async fn properties_of_5_0_travel_and_print() {
    let (_broker, brokers) = brokers("properties_of_5_0_travel_and_print");
    for (port, _mosquitto) in &brokers {
        let flags = [
            "-V",
            "5",
            "-t",
            "t",
            "-C",
            "1",
            "-W",
            "10",
            "-F",
            "%C|%P|%t|%q",
        ];
        let (sub, output) = start_sub(port, &flags).await;
        let flags = [
            "-t",
            "t",
            "-m",
            "x",
            "-D",
            "publish",
            "content-type",
            "text/plain",
            "-D",
            "publish",
            "user-property",
            "k",
            "v",
        ];
        assert_eq!(run_pub(port, &flags, b"").await.unwrap(), 0);
        assert_eq!(sub.await.unwrap().unwrap(), 0);
        assert_eq!(output.text(), "text/plain|k:v|t|0\n");
    }
}

#[tokio::test]
async fn filters_out_and_ends() {
    let broker = Broker::start(Faults::default());
    let port = broker.port();
    let flags = ["-t", "#", "-T", "a/#", "-C", "1", "-W", "10", "-N", "-v"];
    let (sub, output) = start_sub(&port, &flags).await;
    run_pub(&port, &["-t", "a/x", "-m", "no"], b"")
        .await
        .unwrap();
    run_pub(&port, &["-t", "b", "-m", "yes"], b"")
        .await
        .unwrap();
    assert_eq!(sub.await.unwrap().unwrap(), 0);
    assert_eq!(output.text(), "b yes");
    // -W without a message is exit code 27, -E ends at once.
    let (sub, _) = start_sub(&port, &["-t", "x", "-W", "1"]).await;
    assert_eq!(sub.await.unwrap().unwrap(), 27);
    let (sub, _) = start_sub(&port, &["-t", "x", "-E"]).await;
    assert_eq!(sub.await.unwrap().unwrap(), 0);
    let (sub, _) = start_sub(&port, &["-U", "x"]).await;
    assert_eq!(sub.await.unwrap().unwrap(), 0);
}

#[tokio::test]
async fn retained_messages_are_shown_hidden_and_removed() {
    let Some(mosquitto) = Mosquitto::start("retained_messages_are_shown_hidden_and_removed") else {
        return;
    };
    let port = mosquitto.port.to_string();
    for (topic, payload) in [("r/1", "one"), ("r/2", "two"), ("r/keep", "kept")] {
        run_pub(&port, &["-t", topic, "-m", payload, "-r", "-q", "1"], b"")
            .await
            .unwrap();
    }
    let show = async |flags: &[&str]| {
        let (sub, output) = start_sub(
            &port,
            &[&["-t", "r/#", "-W", "2", "-F", "%t %r"], flags].concat(),
        )
        .await;
        run_pub(&port, &["-t", "r/live", "-m", "x"], b"")
            .await
            .unwrap();
        let code = sub.await.unwrap().unwrap();
        let text = output.text();
        let mut lines: Vec<String> = text.lines().map(str::to_owned).collect();
        lines.sort();
        (code, lines)
    };
    assert_eq!(
        show(&["-C", "4"]).await,
        (
            0,
            ["r/1 1", "r/2 1", "r/keep 1", "r/live 0"]
                .map(String::from)
                .into()
        )
    );
    assert_eq!(
        show(&["-R", "-C", "1"]).await,
        (0, vec!["r/live 0".to_owned()])
    );
    let only = ["r/1 1", "r/2 1", "r/keep 1"].map(String::from);
    assert_eq!(show(&["--retained-only"]).await, (0, only.into()));
    let cleared = show(&["--remove-retained", "--retained-only", "-T", "r/keep"]).await;
    assert_eq!(cleared, (0, ["r/1 1", "r/2 1"].map(String::from).into()));
    assert_eq!(
        show(&["--retained-only"]).await,
        (0, vec!["r/keep 1".to_owned()])
    );
}

#[tokio::test]
async fn refusals_become_exit_codes() {
    for (version, reason, code) in [
        ("311", ReasonCode::NotAuthorized, 5),
        ("5", ReasonCode::NotAuthorized, 135),
        ("5", ReasonCode::Banned, 138),
    ] {
        let broker = Broker::start(Faults {
            refuse: Some(reason),
            ..Faults::default()
        });
        let flags = ["-V", version, "-t", "t", "-m", "x"];
        let error = run_pub(&broker.port(), &flags, b"").await.unwrap_err();
        assert_eq!(error.exit_code(), code, "{error}");
    }
    let denied = Broker::start(Faults {
        deny: Some(ReasonCode::NotAuthorized),
        ..Faults::default()
    });
    let (sub, _) = start_sub(&denied.port(), &["-V", "5", "-t", "t"]).await;
    assert_eq!(sub.await.unwrap().unwrap(), 135);
    let rejected = Broker::start(Faults {
        reject: Some(ReasonCode::QuotaExceeded),
        ..Faults::default()
    });
    let flags = ["-V", "5", "-q", "1", "-t", "t", "-m", "x"];
    assert_eq!(run_pub(&rejected.port(), &flags, b"").await.unwrap(), 151);
    let nobody = run_pub("1", &["-t", "t", "-m", "x"], b"")
        .await
        .unwrap_err();
    assert_eq!(nobody.exit_code(), 1, "{nobody}");
}

#[tokio::test]
async fn lines_survive_a_lost_connection() {
    let broker = Broker::start(Faults {
        hang_up_at: Some(3),
        ..Faults::default()
    });
    let (sub, output) = start_sub(
        &broker.port(),
        &["-t", "t", "-q", "1", "-C", "6", "-W", "20"],
    )
    .await;
    let lines: Vec<u8> = (1..=6)
        .flat_map(|n| format!("line {n}\n").into_bytes())
        .collect();
    // Each connection ends with its third PUBLISH: lines 1 and 2 go over the first, 3 and 4 over the
    // second, 5 and 6 over the third.
    let flags = ["-t", "t", "-l", "-q", "1", "-M", "1"];
    assert_eq!(run_pub(&broker.port(), &flags, &lines).await.unwrap(), 0);
    assert_eq!(broker.shared.accepted.load(Ordering::Relaxed), 1 + 3);
    assert_eq!(sub.await.unwrap().unwrap(), 0);
    let expected: Vec<String> = (1..=6).map(|n| format!("line {n}")).collect();
    assert_eq!(output.text().lines().collect::<Vec<_>>(), expected);
}

#[tokio::test]
async fn wrong_flags_are_refused_before_anything_is_sent() {
    let broker = Broker::start(Faults::default());
    for flags in [
        &["-t", "a/#", "-m", "x"][..],
        &["-m", "x"],
        &["-t", "t", "-m", "x", "-c"],
        &["-t", "t", "-m", "x", "-P", "secret"],
        &[
            "-t",
            "t",
            "-m",
            "x",
            "-V",
            "311",
            "-D",
            "publish",
            "content-type",
            "x",
        ],
        &[
            "-t",
            "t",
            "-m",
            "x",
            "-D",
            "publish",
            "no-such-property",
            "x",
        ],
    ] {
        let error = run_pub(&broker.port(), flags, b"").await.unwrap_err();
        assert!(matches!(error, Error::Usage(_)), "{flags:?}: {error}");
        assert_eq!(error.exit_code(), 1);
    }
    assert_eq!(broker.shared.accepted.load(Ordering::Relaxed), 0);
    for flags in [
        &["-t", "t"][..],
        &["-t", "t", "-m", "x", "-n"],
        &["-t", "t", "-m", "x", "-q", "3"],
        &["-t", "t", "-m", "x", "-V", "6"],
        &["-t", "t", "-m", "x", "-i", "a", "-I", "b"],
        &["-t", "t", "-m", "x", "--will-payload", "y"],
        &["-t", "t", "-m", "x", "-L", "mqtt://h/t"],
    ] {
        assert!(
            Pub::try_parse_from(arguments("1883", flags)).is_err(),
            "{flags:?}"
        );
    }
}

/// In these commands -h is the host; help is --help, at every level.
#[test]
fn flags_do_not_clash_and_help_is_long() {
    #[derive(Parser)]
    enum All {
        Pub(PubArgs),
        Sub(SubArgs),
        Bench(BenchArgs),
    }
    All::command().debug_assert();
    for line in [
        "all pub -h host -t t -m x",
        "all sub -h host -t t",
        "all bench conn -h host",
        "all bench pub -h host -t t -C false -S true --ws -r true -w",
        "all bench sub -h host -t t -n 5 -k 60 -x 10 -V 4 -u u -P p",
        "all bench pair -h host -F 10 -I 0 -L 5 --ifaddr 127.0.0.1,127.0.0.2",
        "all bench sn -h host -c 5 -q -1 --topic-id 3 --sleep 60 --cycles 2 --forwarders 2",
        "all pub --sn -h host --short-topic ab -q -1 -m x",
        "all sub --sn -h host --topic-id 1 --topic-id 2 --sleep 60",
        "all bench fanout -h host --publishers 3 --rate 10 --warmup 1 --duration 2s",
    ] {
        let parsed = All::try_parse_from(line.split(' '));
        assert!(parsed.is_ok(), "{line}: {}", parsed.err().unwrap());
    }
    for line in [
        "all pub --help",
        "all sub --help",
        "all bench --help",
        "all bench pair --help",
    ] {
        let error = All::try_parse_from(line.split(' ')).err().unwrap();
        assert_eq!(error.kind(), ErrorKind::DisplayHelp, "{line}: {error}");
    }
}

#[tokio::test]
async fn a_url_names_broker_and_topic() {
    let broker = Broker::start(Faults::default());
    let (sub, output) = start_sub(&broker.port(), &["-t", "a/b", "-C", "1", "-W", "10"]).await;
    let url = format!("mqtt://{}/a/b", broker.address);
    let command = Pub::try_parse_from(["command", "-L", &url, "-m", "x"]).unwrap();
    assert_eq!(publish(&command.args, &b""[..]).await.unwrap(), 0);
    assert_eq!(sub.await.unwrap().unwrap(), 0);
    assert_eq!(output.text(), "x\n");
}

/// The same messages through mosquitto_sub and through ours print the same.
#[tokio::test]
async fn formats_print_what_mosquitto_sub_prints() {
    let test = "formats_print_what_mosquitto_sub_prints";
    let Some(mosquitto) = Mosquitto::start(test) else {
        return;
    };
    if Command::new("mosquitto_sub")
        .arg("--version")
        .output()
        .is_err()
    {
        println!("skipped: {test}: mosquitto_sub is not installed");
        return;
    }
    let port = mosquitto.port.to_string();
    let format = "%t|%12t|%-12t|%.2t|%p|%l|%05l|%-5l|%m|%q|%r|%x|%X|%C|%R|%D|%E|%F|%P|%S|%%|@@|\\\\|\\t|@Y-@m-@d|%8p|%-8p|%08p";
    let common = [
        "-V", "5", "-t", "t/#", "-q", "1", "-C", "3", "-W", "10", "-F", format,
    ];
    let identifier = ["-D", "subscribe", "subscription-identifier", "7"];
    let theirs = Command::new("mosquitto_sub")
        .args(["-h", "127.0.0.1", "-p", &port])
        .args(common)
        .args(identifier)
        .stdout(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    let (sub, output) = start_sub(&port, &[&common[..], &identifier].concat()).await;
    for flags in [
        &["-t", "t/one", "-m", "hello", "-q", "1"][..],
        &["-t", "t/two", "-n"],
        &[
            "-t",
            "t/three",
            "-m",
            "x",
            "-V",
            "5",
            "-D",
            "publish",
            "content-type",
            "text/plain",
            "-D",
            "publish",
            "response-topic",
            "r/t",
            "-D",
            "publish",
            "correlation-data",
            "cd",
            "-D",
            "publish",
            "message-expiry-interval",
            "77",
            "-D",
            "publish",
            "payload-format-indicator",
            "1",
            "-D",
            "publish",
            "user-property",
            "k",
            "v",
            "-D",
            "publish",
            "user-property",
            "l",
            "w",
        ],
    ] {
        assert_eq!(run_pub(&port, flags, b"").await.unwrap(), 0);
    }
    assert_eq!(sub.await.unwrap().unwrap(), 0);
    let theirs = theirs.wait_with_output().unwrap();
    assert_eq!(output.text(), String::from_utf8(theirs.stdout).unwrap());
}
