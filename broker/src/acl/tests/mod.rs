//! Tests of rules and sources as a whole.

mod grammar;
mod model;
mod random_text;
mod sources;
mod verdicts;

use std::sync::Arc;

use nightjar_mqtt::{ProtocolVersion, QoS};

use crate::access::{Action, ClientInfo, Protocol};

/// Client `dev1` of user `ann` from 10.0.0.7, without certificate.
pub(crate) fn client() -> ClientInfo {
    ClientInfo {
        username: Some("ann".into()),
        ..ClientInfo::new(
            "dev1",
            "10.0.0.7:50000".parse().expect("an address"),
            "tcp:default",
            Protocol::Mqtt(ProtocolVersion::V5),
        )
    }
}

/// A client described in words: `user=bob client=x ip=::1 cn=c dn=d listener=tls:a`; a lone `user` takes the name away.
fn described(words: &str) -> ClientInfo {
    let mut client = client();
    for word in words.split_whitespace() {
        let (key, value) = word.split_once('=').unwrap_or((word, ""));
        let text = || Some(Arc::from(value));
        match key {
            "user" if word == "user" => client.username = None,
            "user" => client.username = text(),
            "client" => client.client_id = value.into(),
            "ip" => {
                let ip: std::net::IpAddr = value.parse().expect("an address");
                client.peer = (ip, 50000).into();
                client.loopback = ip.is_loopback();
            }
            "cn" => client.cert_common_name = text(),
            "dn" => client.cert_subject = text(),
            "listener" => client.listener = value.into(),
            _ => panic!("unknown word {word}"),
        }
    }
    client
}

/// An action in words: `pub a/b`, `pub1r a/b` (QoS 1, retained), `sub2 a/#`.
fn action(words: &str) -> Action<'_> {
    let (what, topic) = words.split_once(' ').expect("a verb and a topic");
    let qos = match what.as_bytes().get(3) {
        Some(b'1') => QoS::AtLeastOnce,
        Some(b'2') => QoS::ExactlyOnce,
        _ => QoS::AtMostOnce,
    };
    if what.starts_with("pub") {
        Action::Publish {
            topic,
            qos,
            retain: what.ends_with('r'),
        }
    } else {
        Action::Subscribe { filter: topic, qos }
    }
}
