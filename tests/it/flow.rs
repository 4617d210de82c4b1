//! Flow control over real sockets, with packets written by hand.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use crate::process::{Broker, Dir};

fn connect(address: &str, client_id: &str, clean: bool) -> TcpStream {
    let mut stream = TcpStream::connect(address).expect("the broker listens");
    stream
        .set_read_timeout(Some(Duration::from_secs(20)))
        .expect("a time limit can be set");
    let mut packet = vec![
        0x10,
        12 + client_id.len() as u8,
        0,
        4,
        b'M',
        b'Q',
        b'T',
        b'T',
        4,
    ];
    packet.extend([if clean { 2 } else { 0 }, 0, 0, 0, client_id.len() as u8]);
    packet.extend(client_id.as_bytes());
    stream.write_all(&packet).expect("CONNECT is sent");
    let mut connack = [0; 4];
    stream.read_exact(&mut connack).expect("CONNACK comes");
    assert_eq!((connack[0], connack[3]), (0x20, 0));
    stream
}

/// One write holds more publishes than may be unacknowledged at a time, and each acknowledgement waits for the disk:
/// reading stops and must go on by itself, for nothing more comes from the client.
#[test]
fn a_burst_beyond_the_window_of_a_durable_receiver_is_acknowledged_whole() {
    const COUNT: u16 = 3000;
    let dir = Dir::new();
    let broker = Broker::start(&dir, &["mqtt.max_queue_len=5000"]);
    let address = broker.address("tcp:default");
    let mut subscriber = connect(address, "durable", false);
    subscriber
        .write_all(&[0x82, 6, 0, 1, 0, 1, b't', 1])
        .expect("SUBSCRIBE is sent");
    let mut suback = [0; 5];
    subscriber.read_exact(&mut suback).expect("SUBACK comes");
    drop(subscriber);
    let mut publisher = connect(address, "publisher", true);
    let burst: Vec<u8> = (1..=COUNT)
        .flat_map(|id| [0x32, 6, 0, 1, b't', (id >> 8) as u8, id as u8, b'x'])
        .collect();
    publisher.write_all(&burst).expect("the burst is sent");
    for id in 1..=COUNT {
        let mut puback = [0; 4];
        publisher
            .read_exact(&mut puback)
            .unwrap_or_else(|error| panic!("PUBACK of {id}: {error}"));
        assert_eq!(puback, [0x40, 2, (id >> 8) as u8, id as u8]);
    }
}
