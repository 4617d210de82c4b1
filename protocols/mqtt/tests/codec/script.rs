//! Packets as text, so that a table row reads like the standard.
//!
//! `82 * 0001 [ 0B05 ] "a/b" 01`: hex bytes; `*` the remaining length, counted; `[ ]` a property section with its length,
//! counted; `"a/b"` a string with its length; `'a/b'` bytes without; `41^300` a byte 300 times.

use nightjar_mqtt::ProtocolVersion::{V5, V31, V311};
use nightjar_mqtt::{DecodeError, Decoded, Decoder, Packet};

/// The limit of the decoders below.
pub const MAX: u32 = 1 << 20;
/// A server before CONNECT.
pub const NEW: Decoder = Decoder::server(MAX);
/// Servers and clients by version.
pub const S31: Decoder = Decoder::server(MAX).with_version(V31);
pub const S311: Decoder = Decoder::server(MAX).with_version(V311);
pub const S5: Decoder = Decoder::server(MAX).with_version(V5);
pub const C31: Decoder = Decoder::client(V31, MAX);
pub const C311: Decoder = Decoder::client(V311, MAX);
pub const C5: Decoder = Decoder::client(V5, MAX);

/// The same decoder without leniency.
pub const fn strict(mut decoder: Decoder) -> Decoder {
    decoder.lenient = false;
    decoder
}

/// A packet that must come out, whole, and go back to the same bytes.
pub type Both<'a> = (&'a str, Decoder, &'a str, Packet<'a>);

/// A packet that must be refused with this error, and a 5.0 peer be told this reason code.
pub type Refused<'a> = (&'a str, Decoder, &'a str, DecodeError, u8);

/// Checks that each row decodes to its packet.
pub fn decodes(rows: &[Both<'_>]) {
    for (name, decoder, script, packet) in rows {
        let bytes = bytes(script);
        let expected = Decoded::Packet {
            packet: packet.clone(),
            consumed: bytes.len(),
        };
        assert_eq!(decoder.decode(&bytes), Ok(expected), "{name}");
    }
}

/// Checks that each row decodes to its packet and the packet encodes to the row's bytes.
pub fn both_ways(rows: &[Both<'_>]) {
    decodes(rows);
    for (name, decoder, script, packet) in rows {
        let mut out = Vec::new();
        packet
            .encode(decoder.version.unwrap_or(V5), &mut out)
            .expect(name);
        assert_eq!(out, bytes(script), "{name}");
    }
}

/// Checks that each row is refused as it says.
pub fn refused(rows: &[Refused<'_>]) {
    for (name, decoder, script, error, code) in rows {
        let bytes = bytes(script);
        assert_eq!(decoder.decode(&bytes), Err(*error), "{name}");
        assert_eq!(error.reason_code().code(), *code, "{name}");
    }
}

/// The bytes of a script.
pub fn bytes(script: &str) -> Vec<u8> {
    let mut out = Vec::new();
    let mut length_at = None;
    let mut section_at = None;
    let mut rest = script.trim_start();
    while !rest.is_empty() {
        let end = match rest.as_bytes()[0] {
            quote @ (b'"' | b'\'') => {
                let end = 1 + rest[1..].find(quote as char).expect("a closing quote");
                let text = &rest[1..end];
                if quote == b'"' {
                    out.extend_from_slice(
                        &u16::try_from(text.len())
                            .expect("a short string")
                            .to_be_bytes(),
                    );
                }
                out.extend_from_slice(text.as_bytes());
                end + 1
            }
            _ => {
                let end = rest.find(char::is_whitespace).unwrap_or(rest.len());
                match &rest[..end] {
                    "*" => length_at = Some(out.len()),
                    "[" => section_at = Some(out.len()),
                    "]" => put_length(&mut out, section_at.take().expect("an open section")),
                    hex => put_hex(&mut out, hex),
                }
                end
            }
        };
        rest = rest[end..].trim_start();
    }
    if let Some(at) = length_at {
        put_length(&mut out, at);
    }
    out
}

/// Puts the length of what follows `at` before it.
fn put_length(out: &mut Vec<u8>, at: usize) {
    let mut length = out.len() - at;
    let mut bytes = Vec::new();
    loop {
        let more = if length > 127 { 0x80 } else { 0 };
        bytes.push((length % 128) as u8 | more);
        length /= 128;
        if more == 0 {
            break;
        }
    }
    out.splice(at..at, bytes);
}

fn put_hex(out: &mut Vec<u8>, token: &str) {
    let (hex, times) = match token.split_once('^') {
        Some((hex, times)) => (hex, times.parse().expect("a number")),
        None => (token, 1),
    };
    assert!(hex.len().is_multiple_of(2), "half a byte in {token:?}");
    for _ in 0..times {
        for at in (0..hex.len()).step_by(2) {
            out.push(u8::from_str_radix(&hex[at..at + 2], 16).expect("hex"));
        }
    }
}

#[test]
fn scripts_become_bytes() {
    assert_eq!(
        bytes("82 * 0001 [ 0B05 ] \"a b\" 01"),
        b"\x82\x0b\x00\x01\x02\x0b\x05\x00\x03a b\x01"
    );
    assert_eq!(
        bytes("30 * 41^128"),
        [&[0x30, 0x80, 0x01][..], &[0x41; 128]].concat()
    );
    assert_eq!(bytes("'xy' 00FF"), b"xy\x00\xff");
}
