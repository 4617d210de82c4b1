//! Time per packet of what every message passes: decode, encode.

use divan::Bencher;
use divan::counter::BytesCount;
use nightjar_mqtt::packet::{AckKind, PublishHead, encode_ack};
use nightjar_mqtt::{Decoded, Decoder, Packet, ProtocolVersion, QoS, ReasonCode};

const TOPIC: &str = "site/12/line/4/temperature";
const PAYLOADS: [usize; 2] = [100, 1024];
const MAX: u32 = 1 << 20;

fn main() {
    divan::main();
}

fn head(qos: QoS) -> PublishHead<'static> {
    PublishHead {
        qos,
        topic: TOPIC,
        packet_id: Some(77),
        ..PublishHead::default()
    }
}

fn frame(version: ProtocolVersion, head: &PublishHead<'_>, payload: usize) -> Vec<u8> {
    let mut out = Vec::new();
    head.encode_with(version, &vec![b'x'; payload], &mut out)
        .expect("a legal packet");
    out
}

fn decode(bencher: Bencher<'_, '_>, version: ProtocolVersion, bytes: &[u8]) {
    let decoder = Decoder::server(MAX).with_version(version);
    bencher
        .counter(BytesCount::of_slice(bytes))
        .bench_local(|| {
            // What a connection does: look at the packet, take its parts.
            match divan::black_box(&decoder).decode(divan::black_box(bytes)) {
                Ok(Decoded::Packet {
                    packet: Packet::Publish(publish),
                    consumed,
                }) => divan::black_box(publish.topic.len() + publish.payload.len() + consumed),
                Ok(Decoded::Packet { consumed, .. }) => consumed,
                other => panic!("{other:?}"),
            }
        });
}

#[divan::bench(args = PAYLOADS)]
fn decode_v311_qos0(bencher: Bencher<'_, '_>, payload: usize) {
    let version = ProtocolVersion::V311;
    decode(
        bencher,
        version,
        &frame(version, &head(QoS::AtMostOnce), payload),
    );
}

#[divan::bench(args = PAYLOADS)]
fn decode_v5_qos1(bencher: Bencher<'_, '_>, payload: usize) {
    let version = ProtocolVersion::V5;
    decode(
        bencher,
        version,
        &frame(version, &head(QoS::AtLeastOnce), payload),
    );
}

#[divan::bench]
fn decode_v5_alias_expiry(bencher: Bencher<'_, '_>) {
    let head = PublishHead {
        topic_alias: Some(3),
        message_expiry_interval: Some(60),
        ..head(QoS::AtLeastOnce)
    };
    decode(
        bencher,
        ProtocolVersion::V5,
        &frame(ProtocolVersion::V5, &head, 100),
    );
}

#[divan::bench]
fn decode_v5_user_property(bencher: Bencher<'_, '_>) {
    let head = PublishHead {
        forwarded: b"\x26\0\x03key\0\x05value",
        ..head(QoS::AtLeastOnce)
    };
    decode(
        bencher,
        ProtocolVersion::V5,
        &frame(ProtocolVersion::V5, &head, 100),
    );
}

#[divan::bench]
fn decode_puback(bencher: Bencher<'_, '_>) {
    decode(bencher, ProtocolVersion::V5, &[0x40, 2, 0, 77]);
}

fn encode(
    bencher: Bencher<'_, '_>,
    version: ProtocolVersion,
    head: &PublishHead<'_>,
    payload: usize,
) {
    let payload = vec![b'x'; payload];
    let mut out = Vec::with_capacity(4096);
    bencher
        .counter(BytesCount::of_slice(&payload))
        .bench_local(|| {
            out.clear();
            divan::black_box(head)
                .encode_with(
                    divan::black_box(version),
                    divan::black_box(&payload),
                    &mut out,
                )
                .expect("a legal packet");
            divan::black_box(out.len())
        });
}

#[divan::bench(args = PAYLOADS)]
fn encode_v311_qos0(bencher: Bencher<'_, '_>, payload: usize) {
    encode(
        bencher,
        ProtocolVersion::V311,
        &head(QoS::AtMostOnce),
        payload,
    );
}

#[divan::bench(args = PAYLOADS)]
fn encode_v5_qos1(bencher: Bencher<'_, '_>, payload: usize) {
    encode(
        bencher,
        ProtocolVersion::V5,
        &head(QoS::AtLeastOnce),
        payload,
    );
}

#[divan::bench]
fn encode_v5_properties(bencher: Bencher<'_, '_>) {
    let head = PublishHead {
        topic_alias: Some(3),
        message_expiry_interval: Some(60),
        subscription_identifiers: &[7],
        forwarded: b"\x26\0\x03key\0\x05value",
        ..head(QoS::AtLeastOnce)
    };
    encode(bencher, ProtocolVersion::V5, &head, 100);
}

#[divan::bench]
fn encode_puback(bencher: Bencher<'_, '_>) {
    let mut out = Vec::with_capacity(64);
    bencher.bench_local(|| {
        out.clear();
        encode_ack(
            &mut out,
            divan::black_box(AckKind::Puback),
            divan::black_box(ProtocolVersion::V5),
            divan::black_box(77),
            divan::black_box(ReasonCode::Success),
        );
        divan::black_box(out.len())
    });
}
