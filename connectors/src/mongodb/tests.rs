use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::bson::Writer;
use super::client::documents;
use super::*;
use crate::testing::{Noise, client};

/// An answer of the server to question `id`.
fn answer(id: i32, document: Writer) -> Vec<u8> {
    let mut out = message::command(7, document);
    out[8..12].copy_from_slice(&id.to_le_bytes());
    out
}

fn ok() -> Writer {
    Writer::default().number("ok", 1)
}

/// A find's answer with these documents.
fn found(documents: Vec<Writer>) -> Writer {
    let list = documents
        .into_iter()
        .enumerate()
        .fold(Writer::default(), |all, (at, document)| {
            all.document(&at.to_string(), document)
        });
    ok().document(
        "cursor",
        Writer::default().array("firstBatch", list).number("id", 0),
    )
}

fn ann() -> Writer {
    Writer::default()
        .text("password", "hash")
        .text("salt", "salt")
        .truth("is_superuser", true)
}

/// A server that answers each question with the next of these, and then hangs up.
async fn script(answers: Vec<Vec<u8>>) -> String {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0")
        .await
        .expect("bound");
    let address = listener.local_addr().expect("an address").to_string();
    tokio::spawn(async move {
        let (mut tcp, _) = listener.accept().await.expect("a client");
        let mut question = [0; 4096];
        for answer in answers {
            if tcp.read(&mut question).await.unwrap_or(0) == 0 {
                return;
            }
            let _ = tcp.write_all(&answer).await;
        }
    });
    address
}

fn by_username() -> BTreeMap<String, String> {
    [("username".to_owned(), "%u".to_owned())].into()
}

fn users(settings: &MongoSettings) -> MongoUsers {
    let fields = ["password", "salt", "is_superuser"];
    MongoUsers::new(settings, "mqtt_user", &by_username(), fields).expect("valid")
}

#[tokio::test]
async fn answers_decide() {
    let row = UserRow {
        password: Some("hash".to_owned()),
        salt: "salt".to_owned(),
        superuser: true,
    };
    let hello = || answer(1, ok());
    let refused = Writer::default()
        .number("ok", 0)
        .text("errmsg", "not\r\nauthorized")
        .number("code", 13);
    let strange = found(vec![Writer::default().truth("password", true)]);
    let mut optional = answer(2, found(Vec::new()));
    // A flag that must be understood, and one that need not.
    let mut unknown = optional.clone();
    unknown[16..20].copy_from_slice(&0x40_i32.to_le_bytes());
    optional[16..20].copy_from_slice(&0x1_0000_i32.to_le_bytes());
    let mut half = answer(2, found(vec![ann()]));
    half.truncate(30);
    let error = |text: &str| Err(text.to_owned());
    let table = [
        (
            vec![hello(), answer(2, found(vec![ann()]))],
            Ok(Found::User(row)),
        ),
        (
            vec![hello(), answer(2, found(Vec::new()))],
            Ok(Found::Nobody),
        ),
        (
            vec![hello(), answer(2, refused)],
            error("notauthorized (code 13)"),
        ),
        (
            vec![hello(), answer(2, strange)],
            error("expected a text in field \"password\""),
        ),
        (
            vec![hello(), answer(2, ok())],
            error("expected a cursor with its first batch as answer"),
        ),
        (
            vec![hello(), answer(9, ok())],
            error("expected the answer to another question"),
        ),
        (vec![hello(), optional], Ok(Found::Nobody)),
        (
            vec![hello(), unknown],
            error("expected a whole answer by OP_MSG"),
        ),
        (vec![hello(), half], error("unexpected end of file")),
        (vec![hello()], error("unexpected end of file")),
        (
            vec![b"HTTP/1.1 400 Bad Request".to_vec()],
            error("expected a MongoDB message of 21 bytes to 16 MiB"),
        ),
    ];
    for (row, (answers, expected)) in table.into_iter().enumerate() {
        let server = script(answers).await;
        let got = users(&MongoSettings::new(server)).find(&client()).await;
        match (got, expected) {
            // The system's words for a connection that ended differ.
            (Err(got), Err(expected)) if expected.contains("end of file") => {
                assert!(!got.is_empty(), "row {row}");
            }
            (got, expected) => assert_eq!(got, expected, "row {row}"),
        }
    }
}

#[tokio::test]
async fn a_member_of_another_replica_set_is_refused() {
    for (hello, expected) in [
        (ok().text("setName", "other"), "got one of \"other\""),
        (ok(), "got a server of none"),
    ] {
        let settings = MongoSettings {
            replica_set: Some("rs0".to_owned()),
            ..MongoSettings::new(script(vec![answer(1, hello)]).await)
        };
        let got = users(&settings).find(&client()).await.expect_err("refused");
        assert!(got.contains(expected), "{got}");
    }
}

#[test]
fn lists_become_rules() {
    let list = |topics: &[&str]| {
        topics
            .iter()
            .enumerate()
            .fold(Writer::default(), |all, (at, topic)| {
                all.text(&at.to_string(), topic)
            })
    };
    let document = Writer::default()
        .array("publish", list(&["a/%c", "b"]))
        .array("subscribe", list(&["eq c/#"]))
        .text("pubsub", "d/+");
    let answer = found(vec![document]).finish();
    let got = documents(&answer, rules).expect("rules").concat();
    let got: Vec<String> = got.iter().map(ToString::to_string).collect();
    assert_eq!(
        got,
        [
            "{allow, all, publish, [\"a/%c\"]}.",
            "{allow, all, publish, [\"b\"]}.",
            "{allow, all, subscribe, [{eq, \"c/#\"}]}.",
            "{allow, all, all, [\"d/+\"]}.",
        ]
    );
    for bad in [
        Writer::default().number("publish", 1),
        Writer::default().array("pubsub", Writer::default().number("0", 1)),
        Writer::default().text("subscribe", "a/#/b"),
    ] {
        assert!(documents(&found(vec![bad]).finish(), rules).is_err());
    }
}

#[test]
fn settings_that_cannot_work_are_refused() {
    let settings = MongoSettings::new("127.0.0.1:27017");
    for (key, text) in [
        ("$where", "%u"),
        ("", "%u"),
        ("a\0b", "%u"),
        ("username", "${nobody}"),
    ] {
        let filter = [(key.to_owned(), text.to_owned())].into();
        assert!(
            MongoRules::new(&settings, "mqtt_acl", &filter).is_err(),
            "{key:?}"
        );
    }
    assert!(MongoRules::new(&settings, "mqtt_acl", &BTreeMap::new()).is_err());
    for (username, password) in [(Some("a"), None), (None, Some("b")), (Some(""), Some("b"))] {
        let settings = MongoSettings {
            username: username.map(str::to_owned),
            password: password.map(str::to_owned),
            ..settings.clone()
        };
        assert!(MongoRules::new(&settings, "mqtt_acl", &by_username()).is_err());
    }
}

/// Whatever a server sends is an answer or an error: bounded, without a panic.
#[test]
fn nonsense_is_an_error() {
    let inner = ann()
        .number("n", 5)
        .bytes("b", b"bytes")
        .document("login", Writer::default().text("password", "x"));
    let whole = answer(2, found(vec![inner]));
    let bytes = &whole[4..];
    assert!(message::answer(2, bytes).is_ok());
    for at in 0..bytes.len() {
        assert!(message::answer(2, &bytes[..at]).is_err(), "cut at {at}");
    }
    let mut noise = Noise::new(11);
    let (mut right, mut wrong) = (0, 0);
    for _ in 0..200_000 {
        let mut bytes = bytes.to_vec();
        for _ in 0..=noise.below(4) {
            // Behind the header, which would only be refused.
            let at = 12 + noise.below(bytes.len() - 12);
            bytes[at] = noise.byte();
        }
        match fuzz_answer(&bytes) {
            true => right += 1,
            false => wrong += 1,
        }
    }
    assert!(right > 1000 && wrong > 1000, "{right} {wrong}");
}
