//! [`Connection`] over a pipe in memory: the other end is a script of bytes.

use std::time::Duration;

use nightjar_client::{
    ConnectOptions, Connection, Error, Event, Message, ProtocolVersion, QoS, ReasonCode,
};
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex};
use tokio::time::Instant;

const CONNACK_311: &[u8] = &[0x20, 2, 0, 0];
const CONNACK_5: &[u8] = &[0x20, 3, 0, 0, 0];

/// The broker's end of a pipe.
struct Script(DuplexStream);

impl Script {
    async fn expect(&mut self, bytes: &[u8]) {
        let mut got = vec![0; bytes.len()];
        self.0.read_exact(&mut got).await.unwrap();
        assert_eq!(got, bytes, "got {got:02x?}, expected {bytes:02x?}");
    }

    async fn send(&mut self, bytes: &[u8]) {
        self.0.write_all(bytes).await.unwrap();
    }

    /// Reads a whole packet of under 128 bytes and returns it.
    async fn packet(&mut self) -> Vec<u8> {
        let mut packet = vec![0; 2];
        self.0.read_exact(&mut packet).await.unwrap();
        packet.resize(2 + usize::from(packet[1]), 0);
        self.0.read_exact(&mut packet[2..]).await.unwrap();
        packet
    }

    async fn closed(mut self) {
        assert_eq!(self.0.read(&mut [0; 64]).await.unwrap(), 0);
    }
}

fn options(version: ProtocolVersion) -> ConnectOptions {
    ConnectOptions::new("c").version(version)
}

async fn connected(options: ConnectOptions) -> (Connection, Script) {
    let (client, broker) = duplex(64 * 1024);
    let mut script = Script(broker);
    let connack = if options.version.is_v5() {
        CONNACK_5
    } else {
        CONNACK_311
    };
    let (connection, ()) = tokio::join!(Connection::open(client, options), async {
        assert_eq!(script.packet().await[0], 0x10);
        script.send(connack).await;
    });
    (connection.unwrap(), script)
}

#[tokio::test]
async fn connect_says_what_the_options_say() {
    let (client, broker) = duplex(1024);
    let mut script = Script(broker);
    let mut options = options(ProtocolVersion::V5)
        .clean_start(false)
        .credentials("u", "pw")
        .will(Message::new("w", "x").qos(QoS::AtLeastOnce).retain(true));
    options.keep_alive = 300;
    options.properties.session_expiry = Some(1);
    options.properties.receive_maximum = Some(9);
    let (connection, ()) = tokio::join!(Connection::open(client, options), async {
        script
            .expect(b"\x10\x24\0\x04MQTT\x05\xec\x01\x2c\x08\x11\0\0\0\x01\x21\0\x09\0\x01c\0\0\x01w\0\x01x\0\x01u\0\x02pw")
            .await;
        // Session present, receive maximum 3, assigned client identifier, server keep alive 20.
        script
            .send(b"\x20\x10\x01\0\x0d\x21\0\x03\x12\0\x04auto\x13\0\x14")
            .await;
    });
    let connection = connection.unwrap();
    assert!(connection.connected().session_present);
    assert_eq!(connection.client_id(), "auto");
    assert_eq!(connection.session().window(), 3);
    assert_eq!(connection.connected().server_keep_alive, Some(20));
}

#[tokio::test]
async fn a_refusal_exits_with_the_code_of_its_version() {
    for (version, connack, code) in [
        (ProtocolVersion::V311, &[0x20, 2, 0, 5][..], 5),
        (ProtocolVersion::V31, &[0x20, 2, 0, 2], 2),
        (ProtocolVersion::V5, &[0x20, 3, 0, 0x87, 0], 0x87),
    ] {
        let (client, broker) = duplex(1024);
        let mut script = Script(broker);
        let (result, ()) = tokio::join!(Connection::open(client, options(version)), async {
            script.packet().await;
            script.send(connack).await;
        });
        let error = result.unwrap_err();
        assert!(matches!(error, Error::Refused { .. }), "{error}");
        assert_eq!(error.exit_code(), code);
        assert!(!error.is_transient());
    }
}

#[tokio::test(start_paused = true)]
async fn a_broker_that_says_nothing_times_out() {
    let (client, _broker) = duplex(1024);
    let start = Instant::now();
    let error = Connection::open(client, options(ProtocolVersion::V5))
        .await
        .unwrap_err();
    assert!(matches!(error, Error::Timeout { .. }), "{error}");
    assert_eq!(start.elapsed().as_secs(), 30);
}

#[tokio::test]
async fn qos_2_in_both_directions_at_once() {
    let (mut client, mut script) = connected(options(ProtocolVersion::V311)).await;
    let message = Message::new("t", "p").qos(QoS::ExactlyOnce);
    let (reason, ()) = tokio::join!(client.publish(message), async {
        script.expect(b"\x34\x06\0\x01t\0\x01p").await;
        // A message of our own comes in between, byte by byte.
        for byte in b"\x34\x06\0\x01u\0\x07q\x50\x02\0\x01" {
            script.send(&[*byte]).await;
            tokio::task::yield_now().await;
        }
        script.expect(b"\x50\x02\0\x07\x62\x02\0\x01").await;
        script.send(b"\x62\x02\0\x07\x70\x02\0\x01").await;
    });
    assert_eq!(reason.unwrap(), ReasonCode::Success);
    let received = client.next_message().await.unwrap();
    assert_eq!(
        (received.topic.as_str(), &received.payload[..]),
        ("u", &b"q"[..])
    );
    client.disconnect().await.unwrap();
    script.expect(b"\x70\x02\0\x07\xe0\0").await;
    script.closed().await;
}

#[tokio::test]
async fn the_window_holds_messages_back_until_an_acknowledgement() {
    let mut options = options(ProtocolVersion::V311);
    options.max_inflight = 2;
    let (mut client, mut script) = connected(options).await;
    let message = || Message::new("t", "").qos(QoS::AtLeastOnce);
    client.send(message()).await.unwrap();
    client.send(message()).await.unwrap();
    let (third, ()) = tokio::join!(client.send(message()), async {
        script
            .expect(b"\x32\x05\0\x01t\0\x01\x32\x05\0\x01t\0\x02")
            .await;
        let more = tokio::time::timeout(Duration::from_millis(50), script.packet()).await;
        assert!(more.is_err(), "sent beyond the window: {more:02x?}");
        script.send(b"\x40\x02\0\x02").await;
    });
    assert_eq!(third.unwrap(), Some(3));
    let reason = ReasonCode::Success;
    assert_eq!(
        client.next_event().await.unwrap(),
        Event::Published {
            packet_id: 2,
            reason
        }
    );
}

#[tokio::test(start_paused = true)]
async fn an_idle_client_pings_and_a_silent_broker_is_lost() {
    let (mut client, mut script) = connected(options(ProtocolVersion::V311)).await;
    let start = Instant::now();
    let (error, ()) = tokio::join!(
        async {
            loop {
                match client.next_event().await {
                    Ok(Event::Pong) => assert_eq!(start.elapsed().as_secs(), 60),
                    Ok(other) => panic!("{other:?}"),
                    Err(error) => return error,
                }
            }
        },
        async {
            script.expect(b"\xc0\0").await;
            script.send(b"\xd0\0").await;
            script.expect(b"\xc0\0").await;
        }
    );
    assert!(matches!(error, Error::Lost(_)), "{error}");
    assert!(error.is_transient());
    // Two pings a keep alive apart, and one more without an answer to the second.
    assert_eq!(start.elapsed().as_secs(), 180);
}

#[tokio::test]
async fn a_malformed_packet_is_answered_in_5_0_and_ends_the_connection() {
    for (bytes, reason) in [
        (&b"\x36\x06\0\x01t\0\x01\0"[..], 0x81),  // QoS 3
        (b"\xc0\0", 0x82),                        // PINGREQ from a broker
        (b"\x30\x07\0\x01t\x03\x23\0\x01", 0x94), // an alias we did not allow
    ] {
        let (mut client, mut script) = connected(options(ProtocolVersion::V5)).await;
        script.send(bytes).await;
        let error = client.next_event().await.unwrap_err();
        assert!(matches!(error, Error::Session(_)), "{error}");
        assert_eq!(error.exit_code(), 2);
        drop(client);
        script.expect(&[0xe0, 1, reason]).await;
        script.closed().await;
    }
}

#[tokio::test]
async fn a_goodbye_of_the_broker_tells_why() {
    let (mut client, mut script) = connected(options(ProtocolVersion::V5)).await;
    script.send(b"\xe0\x01\x8e").await;
    drop(script);
    let error = client.next_message().await.unwrap_err();
    assert!(
        matches!(error, Error::Disconnected(ReasonCode::SessionTakenOver)),
        "{error}"
    );
    assert!(!error.is_transient());
    assert!(matches!(
        client.next_event().await.unwrap_err(),
        Error::Lost(_)
    ));
}

#[tokio::test]
async fn a_flood_while_waiting_fills_a_bounded_inbox() {
    let mut options = options(ProtocolVersion::V311);
    options.inbox = 100;
    let (mut client, mut script) = connected(options).await;
    let (result, ()) = tokio::join!(client.subscribe_qos("t", QoS::AtMostOnce), async {
        script.packet().await;
        script.send(&b"\x30\x03\0\x01t".repeat(1000)).await;
    });
    assert!(matches!(
        result.unwrap_err(),
        Error::InboxFull { limit: 100 }
    ));
}

#[tokio::test]
async fn events_before_an_answer_keep_their_order() {
    let (mut client, mut script) = connected(options(ProtocolVersion::V311)).await;
    let (granted, ()) = tokio::join!(client.subscribe_qos("#", QoS::AtLeastOnce), async {
        script.expect(b"\x82\x06\0\x01\0\x01#\x01").await;
        script
            .send(b"\x30\x04\0\x01t1\x30\x04\0\x01t2\x90\x03\0\x01\x01\x30\x04\0\x01t3")
            .await;
    });
    assert_eq!(granted.unwrap(), ReasonCode::GrantedQoS1);
    for expected in ["1", "2", "3"] {
        assert_eq!(client.next_message().await.unwrap().payload, expected);
    }
    assert_eq!(
        client
            .message_within(Duration::from_millis(10))
            .await
            .unwrap(),
        None
    );
}

#[tokio::test]
async fn a_resumed_connection_sends_again_what_was_not_acknowledged() {
    let options = options(ProtocolVersion::V311).clean_start(false);
    let (mut client, mut script) = connected(options.clone()).await;
    client
        .send(Message::new("t", "p").qos(QoS::AtLeastOnce))
        .await
        .unwrap();
    client.flush().await.unwrap();
    script.expect(b"\x32\x06\0\x01t\0\x01p").await;
    let session = client.into_session();
    let (end, broker) = duplex(1024);
    let mut script = Script(broker);
    let (client, ()) = tokio::join!(
        async {
            let mut client = Connection::resume(end, options, session).await.unwrap();
            client.drain().await.unwrap();
            client
        },
        async {
            script.packet().await;
            script.send(b"\x20\x02\x01\0").await;
            script.expect(b"\x3a\x06\0\x01t\0\x01p").await;
            script.send(b"\x40\x02\0\x01").await;
        }
    );
    assert_eq!(client.session().inflight(), 0);
}

#[tokio::test]
async fn large_messages_pass_a_narrow_pipe() {
    let (client, broker) = duplex(1000);
    let mut script = Script(broker);
    let payload = vec![7u8; 300_000];
    let (connection, ()) = tokio::join!(
        Connection::open(client, options(ProtocolVersion::V311)),
        async {
            script.packet().await;
            script.send(CONNACK_311).await;
        }
    );
    let mut connection = connection.unwrap();
    let (echo, ()) = tokio::join!(
        async {
            connection
                .publish(Message::new("t", payload.clone()))
                .await
                .unwrap();
            connection.next_message().await.unwrap()
        },
        async {
            let mut packet = vec![0; 1 + 3 + 3 + payload.len()];
            script.0.read_exact(&mut packet).await.unwrap();
            script.send(&packet).await;
        }
    );
    assert_eq!(echo.payload, payload);
}
