//! Commands and answers without a server; `tests/databases.rs` has the real one.

use super::*;
use crate::testing::client;

fn command(text: &str) -> Command {
    Command::parse(text).expect(text)
}

#[test]
fn values_are_arguments_whatever_they_hold() {
    let mut client = client();
    client.username = Some("a b\"\r\nDEL x".into());
    let table = [
        (
            "HMGET mqtt_user:${username} password salt",
            vec!["HMGET", "mqtt_user:a b\"\r\nDEL x", "password", "salt"],
        ),
        (
            "  HGETALL\tmqtt_acl:%u ",
            vec!["HGETALL", "mqtt_acl:a b\"\r\nDEL x"],
        ),
        ("GET \"a b\":'c d'", vec!["GET", "a b:c d"]),
        ("GET \"\"", vec!["GET", ""]),
        (
            "GET k:${clientid}:${peerhost}",
            vec!["GET", "k:dev1:10.0.0.7"],
        ),
    ];
    for (text, expected) in table {
        assert_eq!(
            command(text).arguments(&client).expect(text),
            expected,
            "{text}"
        );
    }
    client.username = None;
    assert_eq!(
        command("HGETALL mqtt_acl:${username}").arguments(&client),
        None
    );
    for bad in ["", "  ", "GET \"x", "${username} x", "GET ${user}", "%u"] {
        assert!(Command::parse(bad).is_err(), "{bad}");
    }
    let sent = resp::encode(&["GET".to_owned(), "a\r\nb".to_owned()]);
    assert_eq!(sent, b"*2\r\n$3\r\nGET\r\n$4\r\na\r\nb\r\n");
}

#[test]
fn users_are_read_from_either_command() {
    let texts = |list: &[Option<&str>]| list.iter().map(|t| t.map(str::to_owned)).collect();
    let hmget = command("HMGET u:${username} salt password is_superuser");
    let hgetall = command("hgetall u:${username}");
    let other = command("EVALSHA abc 1 ${username}");
    let row = |password: Option<&str>, salt: &str, superuser| {
        Found::User(UserRow {
            password: password.map(str::to_owned),
            salt: salt.to_owned(),
            superuser,
        })
    };
    let table = [
        (
            &hmget,
            texts(&[Some("s"), Some("p"), Some("1")]),
            row(Some("p"), "s", true),
        ),
        (
            &hmget,
            texts(&[None, Some("p"), None]),
            row(Some("p"), "", false),
        ),
        (
            &hmget,
            texts(&[Some("s"), None, None]),
            row(None, "s", false),
        ),
        (&hmget, texts(&[None, None, None]), Found::Nobody),
        (&hmget, texts(&[]), Found::Nobody),
        (
            &hgetall,
            texts(&[
                Some("x"),
                Some("y"),
                Some("is_superuser"),
                Some("true"),
                Some("password"),
                Some("p"),
            ]),
            row(Some("p"), "", true),
        ),
        (&hgetall, texts(&[]), Found::Nobody),
        (
            &hgetall,
            texts(&[Some("x"), Some("y"), Some("odd")]),
            Found::Nobody,
        ),
        (
            &other,
            texts(&[Some("p"), Some("s"), Some("0")]),
            row(Some("p"), "s", false),
        ),
    ];
    for (at, (command, values, expected)) in table.into_iter().enumerate() {
        assert_eq!(user(command, values), expected, "row {at}");
    }
}

#[test]
fn topics_become_rules_or_an_error() {
    let texts = |list: &[&str]| -> Vec<Option<String>> {
        list.iter().map(|t| Some((*t).to_owned())).collect()
    };
    let found = rules(&texts(&["a/#", "1", "b", "publish", "eq c/#", "all"])).expect("valid");
    let words: Vec<String> = found.iter().map(ToString::to_string).collect();
    assert_eq!(
        words,
        [
            "{allow, all, subscribe, [\"a/#\"]}.",
            "{allow, all, publish, [\"b\"]}.",
            "{allow, all, all, [{eq, \"c/#\"}]}.",
        ]
    );
    assert!(rules(&[]).expect("no rules").is_empty());
    for bad in [&["a"][..], &["a", "4"], &["a/#/b", "1"], &["", "1"]] {
        assert!(rules(&texts(bad)).is_err(), "{bad:?}");
    }
}

#[tokio::test]
async fn answers_are_read_and_nonsense_is_an_error() {
    let text = |text: &str| Value::Text(text.as_bytes().to_vec());
    let table = [
        ("+OK\r\n", Some(text("OK"))),
        ("-ERR no\r\n", Some(Value::Error("ERR no".to_owned()))),
        (":-5\r\n", Some(Value::Integer(-5))),
        ("$-1\r\n", Some(Value::Nil)),
        ("$4\r\na\r\nb\r\n", Some(text("a\r\nb"))),
        ("*-1\r\n", Some(Value::Nil)),
        ("*0\r\n", Some(Value::Array(Vec::new()))),
        (
            "*3\r\n$1\r\nx\r\n$-1\r\n:1\r\n",
            Some(Value::Array(vec![text("x"), Value::Nil, Value::Integer(1)])),
        ),
        ("", None),
        ("+OK", None),
        ("+OK\n", None),
        ("\r\n", None),
        ("!x\r\n", None),
        ("$5\r\nab\r\n", None),
        ("$2\r\nabcd", None),
        ("$99999999999\r\n", None),
        ("$-2\r\n", None),
        ("*2\r\n+a\r\n", None),
        ("*1\r\n*1\r\n+a\r\n", None),
        ("*16777216\r\n+a\r\n", None),
        (":x\r\n", None),
    ];
    for (bytes, expected) in table {
        let got = resp::read(&mut bytes.as_bytes()).await.ok();
        assert_eq!(got, expected, "{bytes:?}");
    }
    let endless = vec![b'+'; 1 << 20];
    assert!(resp::read(&mut &endless[..]).await.is_err());
}
