//! Tables and a bounded fuzz run of the PROXY parser.

use super::*;

/// A version 2 header: version and command, family, and everything behind the length.
pub(crate) fn v2(command: u8, family: u8, body: &[u8]) -> Vec<u8> {
    let mut bytes = SIGNATURE.to_vec();
    bytes.extend_from_slice(&[command, family]);
    bytes.extend_from_slice(&(body.len() as u16).to_be_bytes());
    bytes.extend_from_slice(body);
    bytes
}

fn tlv(kind: u8, value: &[u8]) -> Vec<u8> {
    let mut bytes = vec![kind];
    bytes.extend_from_slice(&(value.len() as u16).to_be_bytes());
    bytes.extend_from_slice(value);
    bytes
}

/// 192.0.2.1:5000 to 198.51.100.2:1883.
const TCP4: [u8; 12] = [192, 0, 2, 1, 198, 51, 100, 2, 0x13, 0x88, 0x07, 0x5B];

fn tcp6() -> Vec<u8> {
    let mut body = [0u8; 36];
    body[..4].copy_from_slice(&[0x20, 0x01, 0x0D, 0xB8]);
    body[15] = 1;
    body[31] = 1;
    body[32..].copy_from_slice(&[0x13, 0x88, 0x07, 0x5B]);
    body.to_vec()
}

fn with_checksum(mut bytes: Vec<u8>) -> Vec<u8> {
    let at = bytes.len() - 4;
    let sum = crc32c(&bytes, at..at + 4);
    bytes[at..].copy_from_slice(&sum.to_be_bytes());
    bytes
}

fn ssl(client: u8, verify: u32, subs: &[u8]) -> Vec<u8> {
    let mut value = vec![client];
    value.extend_from_slice(&verify.to_be_bytes());
    value.extend_from_slice(subs);
    tlv(0x20, &value)
}

fn header(bytes: &[u8]) -> ProxyHeader {
    match parse(bytes) {
        Ok(Parsed::Header(header, length)) => {
            assert_eq!(length, bytes.len());
            *header
        }
        other => panic!("{other:?} for {bytes:?}"),
    }
}

#[test]
fn good_headers_say_who_the_client_is() {
    let rows: Vec<(&str, Vec<u8>, Option<&str>, bool)> = vec![
        (
            "v1 tcp4",
            b"PROXY TCP4 192.0.2.1 198.51.100.2 5000 1883\r\n".to_vec(),
            Some("192.0.2.1:5000"),
            false,
        ),
        (
            "v1 tcp6",
            b"PROXY TCP6 2001:db8::1 ::1 5000 1883\r\n".to_vec(),
            Some("[2001:db8::1]:5000"),
            false,
        ),
        (
            "v1 mapped",
            b"PROXY TCP6 ::ffff:192.0.2.1 ::1 5000 1883\r\n".to_vec(),
            Some("192.0.2.1:5000"),
            false,
        ),
        ("v1 unknown", b"PROXY UNKNOWN\r\n".to_vec(), None, false),
        (
            "v1 unknown with more",
            b"PROXY UNKNOWN ffff:: :: 1 2 three\r\n".to_vec(),
            None,
            false,
        ),
        (
            "v2 tcp4",
            v2(0x21, 0x11, &TCP4),
            Some("192.0.2.1:5000"),
            false,
        ),
        (
            "v2 tcp6",
            v2(0x21, 0x21, &tcp6()),
            Some("[2001:db8::1]:5000"),
            false,
        ),
        ("v2 unspecified", v2(0x21, 0x00, &[]), None, false),
        ("v2 unix", v2(0x21, 0x31, &[0; 216]), None, false),
        ("v2 local", v2(0x20, 0x00, &[]), None, true),
        ("v2 local with addresses", v2(0x20, 0x11, &TCP4), None, true),
        (
            "v2 local with anything",
            v2(0x20, 0x77, &[9; 33]),
            None,
            true,
        ),
        (
            "v2 unknown tlv",
            v2(0x21, 0x11, &[&TCP4[..], &tlv(0xEA, b"vpce-1")].concat()),
            Some("192.0.2.1:5000"),
            false,
        ),
        (
            "v2 checksum",
            with_checksum(v2(0x21, 0x11, &[&TCP4[..], &tlv(0x03, &[0; 4])].concat())),
            Some("192.0.2.1:5000"),
            false,
        ),
    ];
    for (name, bytes, source, local) in rows {
        let got = header(&bytes);
        assert_eq!(
            got.source.map(|address| address.to_string()).as_deref(),
            source,
            "{name}"
        );
        assert_eq!(got.local, local, "{name}");
        // In pieces and with MQTT behind it, the same.
        for cut in 0..bytes.len() {
            assert_eq!(
                parse(&bytes[..cut]),
                Ok(Parsed::Incomplete),
                "{name} cut at {cut}"
            );
        }
        let more = [&bytes[..], &[0x10, 0x0C, 0x00, 0x04]].concat();
        assert_eq!(
            parse(&more),
            Ok(Parsed::Header(Box::new(got), bytes.len())),
            "{name}"
        );
    }
}

#[test]
fn tlvs_tell_of_tls_and_ids() {
    let subs = [
        tlv(0x21, b"TLSv1.3"),
        tlv(0x22, b"meter-7"),
        tlv(0x23, b"AES"),
    ]
    .concat();
    let body = [
        &TCP4[..],
        &tlv(0x02, b"mqtt.example"),
        &tlv(0x05, b"id-1"),
        &tlv(0x04, b"...."),
    ]
    .concat();
    let got = header(&v2(0x21, 0x11, &[&body[..], &ssl(0x07, 0, &subs)].concat()));
    assert_eq!(got.authority.as_deref(), Some("mqtt.example"));
    assert_eq!(got.unique_id.as_deref(), Some(&b"id-1"[..]));
    let tls = got.tls.unwrap();
    assert_eq!(
        (
            tls.verified,
            tls.common_name.as_deref(),
            tls.version.as_deref()
        ),
        (true, Some("meter-7"), Some("TLSv1.3"))
    );
    // Verification failed; no certificate in this connection or session; no TLS at all.
    let told = |client, verify| {
        header(&v2(
            0x21,
            0x11,
            &[&TCP4[..], &ssl(client, verify, &subs)].concat(),
        ))
        .tls
    };
    assert_eq!(told(0x07, 1).map(|tls| tls.verified), Some(false));
    assert_eq!(told(0x01, 0).map(|tls| tls.verified), Some(false));
    assert_eq!(told(0x05, 0).map(|tls| tls.verified), Some(true));
    assert_eq!(told(0x00, 0), None);
}

#[test]
fn bad_headers_are_refused_by_kind() {
    let long_line = [b"PROXY TCP4 ".to_vec(), vec![b'1'; 100]].concat();
    let rows: Vec<(&str, Vec<u8>, ProxyError)> = vec![
        (
            "bare line feed",
            b"PROXY TCP4 1.2.3.4 5.6.7.8 1 2\n".to_vec(),
            ProxyError::V1,
        ),
        ("no addresses", b"PROXY TCP4\r\n".to_vec(), ProxyError::V1),
        (
            "family",
            b"PROXY UDP4 1.2.3.4 5.6.7.8 1 2\r\n".to_vec(),
            ProxyError::V1,
        ),
        (
            "two spaces",
            b"PROXY TCP4  1.2.3.4 5.6.7.8 1 2\r\n".to_vec(),
            ProxyError::V1,
        ),
        (
            "a word more",
            b"PROXY TCP4 1.2.3.4 5.6.7.8 1 2 3\r\n".to_vec(),
            ProxyError::V1,
        ),
        (
            "host name",
            b"PROXY TCP4 host 5.6.7.8 1 2\r\n".to_vec(),
            ProxyError::V1,
        ),
        (
            "families mixed",
            b"PROXY TCP4 ::1 5.6.7.8 1 2\r\n".to_vec(),
            ProxyError::V1,
        ),
        (
            "port",
            b"PROXY TCP4 1.2.3.4 5.6.7.8 65536 2\r\n".to_vec(),
            ProxyError::V1,
        ),
        (
            "signed port",
            b"PROXY TCP4 1.2.3.4 5.6.7.8 +1 2\r\n".to_vec(),
            ProxyError::V1,
        ),
        (
            "zero before a port",
            b"PROXY TCP4 1.2.3.4 5.6.7.8 01 2\r\n".to_vec(),
            ProxyError::V1,
        ),
        (
            "not text",
            b"PROXY TCP4 \xFF 5.6.7.8 1 2\r\n".to_vec(),
            ProxyError::V1,
        ),
        ("line without end", long_line, ProxyError::TooLong),
        (
            "version 1 in binary",
            v2(0x11, 0x11, &TCP4),
            ProxyError::Unknown,
        ),
        ("command", v2(0x22, 0x11, &TCP4), ProxyError::Unknown),
        (
            "family in binary",
            v2(0x21, 0x41, &TCP4),
            ProxyError::Unknown,
        ),
        ("addresses cut", v2(0x21, 0x11, &TCP4[..11]), ProxyError::V2),
        ("ipv6 addresses cut", v2(0x21, 0x21, &TCP4), ProxyError::V2),
        (
            "tlv header cut",
            v2(0x21, 0x11, &[&TCP4[..], &[5, 0]].concat()),
            ProxyError::V2,
        ),
        (
            "tlv value cut",
            v2(0x21, 0x11, &[&TCP4[..], &[5, 0, 9, 1]].concat()),
            ProxyError::V2,
        ),
        (
            "ssl cut",
            v2(0x21, 0x11, &[&TCP4[..], &tlv(0x20, &[1, 0])].concat()),
            ProxyError::V2,
        ),
        (
            "unique id too long",
            v2(0x21, 0x11, &[&TCP4[..], &tlv(5, &[1; 129])].concat()),
            ProxyError::V2,
        ),
        (
            "control character in a name",
            v2(0x21, 0x11, &[&TCP4[..], &tlv(2, b"a\nb")].concat()),
            ProxyError::V2,
        ),
        (
            "checksum",
            v2(0x21, 0x11, &[&TCP4[..], &tlv(3, &[1; 4])].concat()),
            ProxyError::Checksum,
        ),
        (
            "two checksums",
            {
                let body = [&TCP4[..], &tlv(3, &[0; 4])].concat();
                let sum = with_checksum(v2(0x21, 0x11, &body));
                let twice = [&body[..12], &sum[sum.len() - 7..], &tlv(3, &[0; 4])].concat();
                let mut bytes = v2(0x21, 0x11, &twice);
                let first = crc32c(&bytes, 31..35);
                bytes[31..35].copy_from_slice(&first.to_be_bytes());
                bytes
            },
            ProxyError::V2,
        ),
        (
            "huge",
            v2(0x21, 0x11, &[0; MAX_V2])[..16].to_vec(),
            ProxyError::TooLong,
        ),
    ];
    for (name, bytes, error) in rows {
        assert_eq!(parse(&bytes), Err(error), "{name}");
    }
}

#[test]
fn other_protocols_are_no_header() {
    for bytes in [
        &b"\x10\x0C\x00\x04MQTT"[..],
        b"\x16\x03\x01",
        b"GET / HTTP/1.1\r\n",
        b"POST / HTTP",
        b"PROXX",
        b"\r\n\r\n\x01",
    ] {
        assert_eq!(parse(bytes), Ok(Parsed::NotProxy), "{bytes:?}");
    }
    assert_eq!(parse(b""), Ok(Parsed::Incomplete));
    assert_eq!(parse(b"P"), Ok(Parsed::Incomplete));
}

#[test]
fn the_checksum_is_castagnolis() {
    assert_eq!(crc32c(b"123456789", 0..0), 0xE306_9283);
}

/// A small generator of its own, so that a failing input can be named by its number.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    fn below(&mut self, limit: usize) -> usize {
        (self.next() % limit.max(1) as u64) as usize
    }
}

/// One million inputs: valid headers with bytes changed, removed, doubled and cut. Never a panic; what is complete
/// stays the same with more behind it and is incomplete with a byte less.
#[test]
fn fuzz_one_million_inputs() {
    let subs = [tlv(0x21, b"TLSv1.3"), tlv(0x22, b"meter-7")].concat();
    let seeds = [
        b"PROXY TCP4 192.0.2.1 198.51.100.2 5000 1883\r\n".to_vec(),
        b"PROXY TCP6 2001:db8::1 ::1 5000 1883\r\n".to_vec(),
        b"PROXY UNKNOWN\r\n".to_vec(),
        v2(0x21, 0x11, &TCP4),
        v2(0x21, 0x21, &tcp6()),
        v2(0x20, 0x00, &[]),
        v2(
            0x21,
            0x11,
            &[&TCP4[..], &tlv(5, b"id"), &ssl(7, 0, &subs)].concat(),
        ),
        with_checksum(v2(0x21, 0x11, &[&TCP4[..], &tlv(0x03, &[0; 4])].concat())),
    ];
    let mut random = Random(0x9E37_79B9_7F4A_7C15);
    let mut complete = 0u32;
    for number in 0..1_000_000u32 {
        let mut bytes = seeds[random.below(seeds.len())].clone();
        for _ in 0..random.below(4) {
            let at = random.below(bytes.len());
            match random.below(4) {
                0 => bytes[at] = random.next() as u8,
                1 => drop(bytes.remove(at)),
                2 => bytes.insert(at, bytes[at]),
                _ => bytes.truncate(at + 1),
            }
            if bytes.is_empty() {
                break;
            }
        }
        if let Ok(Parsed::Header(header, length)) = parse(&bytes) {
            complete += 1;
            assert!(length <= bytes.len(), "input {number}");
            assert_eq!(
                parse(&bytes[..length - 1]),
                Ok(Parsed::Incomplete),
                "input {number}: {bytes:?}"
            );
            bytes.truncate(length);
            bytes.push(0x10);
            assert_eq!(
                parse(&bytes),
                Ok(Parsed::Header(header, length)),
                "input {number}: {bytes:?}"
            );
        }
    }
    // The run would prove little if nearly all inputs were refused at their first bytes.
    assert!(complete > 200_000, "{complete}");
}
