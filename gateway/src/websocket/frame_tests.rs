//! Tables and properties of the frame decoder.

use proptest::prelude::*;

use super::*;

const MASK: [u8; 4] = [0x37, 0xFA, 0x21, 0x3D];

/// A client's frame: first byte, masked payload, length in its shortest form.
fn client_frame(first: u8, payload: &[u8]) -> Vec<u8> {
    let mut frame = vec![first];
    match payload.len() {
        n @ 0..126 => frame.push(0x80 | n as u8),
        n @ 126..65536 => {
            frame.push(0x80 | 126);
            frame.extend_from_slice(&(n as u16).to_be_bytes());
        }
        n => {
            frame.push(0x80 | 127);
            frame.extend_from_slice(&(n as u64).to_be_bytes());
        }
    }
    frame.extend_from_slice(&MASK);
    frame.extend(
        payload
            .iter()
            .zip(MASK.iter().cycle())
            .map(|(byte, mask)| byte ^ mask),
    );
    frame
}

/// Feeds the bytes in pieces of `step` and joins what comes out.
fn run(bytes: &[u8], step: usize, max: u64) -> (Vec<u8>, Vec<Control>, Option<Refusal>) {
    let mut decoder = FrameDecoder::new(max);
    let (mut data, mut controls) = (Vec::new(), Vec::new());
    for piece in bytes.chunks(step.max(1)) {
        let mut piece = piece.to_vec();
        let (n, refusal) = decoder.decode(&mut piece, |control| controls.push(control));
        data.extend_from_slice(&piece[..n]);
        if refusal.is_some() {
            return (data, controls, refusal);
        }
    }
    (data, controls, None)
}

/// Name, input, payload, control frames, refusal.
type Row<'a> = (&'a str, Vec<u8>, &'a [u8], Vec<Control>, Option<Refusal>);

#[test]
fn frames_are_taken_or_refused_as_rfc_6455_says() {
    let f = client_frame;
    let unmasked = [0x82, 0x01, 0x00].to_vec();
    let long_ping = f(0x89, &[0; 126]);
    let rows: Vec<Row<'_>> = vec![
        ("one frame", f(0x82, b"abc"), b"abc", vec![], None),
        ("empty frame", f(0x82, b""), b"", vec![], None),
        (
            "two frames",
            [f(0x82, b"ab"), f(0x82, b"cd")].concat(),
            b"abcd",
            vec![],
            None,
        ),
        (
            "fragments",
            [f(0x02, b"ab"), f(0x00, b"cd"), f(0x80, b"e")].concat(),
            b"abcde",
            vec![],
            None,
        ),
        (
            "ping between fragments",
            [f(0x02, b"ab"), f(0x89, b"hi"), f(0x80, b"cd")].concat(),
            b"abcd",
            vec![Control::Ping(b"hi".to_vec())],
            None,
        ),
        ("pong", f(0x8A, b"x"), b"", vec![Control::Pong], None),
        (
            "close without code",
            f(0x88, b""),
            b"",
            vec![Control::Close(None)],
            None,
        ),
        (
            "close with code",
            f(0x88, &[0x03, 0xE9, b'b']),
            b"",
            vec![Control::Close(Some(1001))],
            None,
        ),
        (
            "close ends all",
            [f(0x88, b""), f(0x82, b"ab")].concat(),
            b"",
            vec![Control::Close(None)],
            None,
        ),
        (
            "close with half a code",
            f(0x88, &[3]),
            b"",
            vec![],
            Some(Refusal::Protocol),
        ),
        (
            "text",
            [f(0x82, b"ab"), f(0x81, b"cd")].concat(),
            b"ab",
            vec![],
            Some(Refusal::Text),
        ),
        (
            "text fragment",
            f(0x01, b"ab"),
            b"",
            vec![],
            Some(Refusal::Text),
        ),
        ("not masked", unmasked, b"", vec![], None),
        (
            "reserved bit",
            f(0xC2, b"ab"),
            b"",
            vec![],
            Some(Refusal::Protocol),
        ),
        (
            "reserved data opcode",
            f(0x83, b"ab"),
            b"",
            vec![],
            Some(Refusal::Protocol),
        ),
        (
            "reserved control opcode",
            f(0x8B, b"ab"),
            b"",
            vec![],
            Some(Refusal::Protocol),
        ),
        (
            "continuation of nothing",
            f(0x80, b"ab"),
            b"",
            vec![],
            Some(Refusal::Protocol),
        ),
        (
            "message in a message",
            [f(0x02, b"ab"), f(0x82, b"cd")].concat(),
            b"ab",
            vec![],
            Some(Refusal::Protocol),
        ),
        (
            "long control frame",
            long_ping,
            b"",
            vec![],
            Some(Refusal::Protocol),
        ),
        (
            "fragmented ping",
            f(0x09, b"ab"),
            b"",
            vec![],
            Some(Refusal::Protocol),
        ),
        (
            "too big",
            f(0x82, &[7; 1001]),
            b"",
            vec![],
            Some(Refusal::TooBig),
        ),
        (
            "too big in parts",
            [f(0x02, &[7; 600]), f(0x80, &[7; 401])].concat(),
            &[7; 600],
            vec![],
            Some(Refusal::TooBig),
        ),
        ("largest", f(0x82, &[7; 1000]), &[7; 1000], vec![], None),
    ];
    for (name, bytes, data, controls, refusal) in rows {
        for step in [1, 2, 3, 7, bytes.len()] {
            let got = run(&bytes, step, 1000);
            if name == "not masked" {
                // Its header is never complete in this form; six bytes of it are.
                let more = [bytes.clone(), vec![0; 6]].concat();
                assert_eq!(run(&more, step, 1000).2, Some(Refusal::Protocol));
                continue;
            }
            assert_eq!(
                (got.0.as_slice(), &got.1, got.2),
                (data, &controls, refusal),
                "{name}, pieces of {step}"
            );
        }
    }
}

#[test]
fn a_length_of_64_bits_is_refused_before_anything_is_kept() {
    for length in [u64::MAX, 1 << 63, 1001] {
        let mut frame = vec![0x82, 0xFF];
        frame.extend_from_slice(&length.to_be_bytes());
        frame.extend_from_slice(&MASK);
        assert_eq!(run(&frame, 3, 1000).2, Some(Refusal::TooBig));
    }
    // Fragments whose sum would wrap around.
    let mut decoder = FrameDecoder::new(u64::MAX - 1);
    let (mut first, mut second) = (client_frame(0x02, b"ab"), vec![0x80, 0xFF]);
    second.extend_from_slice(&u64::MAX.to_be_bytes());
    second.extend_from_slice(&MASK);
    assert_eq!(decoder.decode(&mut first, |_| {}).1, None);
    assert_eq!(decoder.decode(&mut second, |_| {}).1, Some(Refusal::TooBig));
}

#[test]
fn server_headers_have_the_shortest_length_form() {
    let mut header = [0; MAX_SERVER_HEADER];
    for (length, expected) in [
        (0u64, &[0x82, 0][..]),
        (125, &[0x82, 125]),
        (126, &[0x82, 126, 0, 126]),
        (65535, &[0x82, 126, 0xFF, 0xFF]),
        (65536, &[0x82, 127, 0, 0, 0, 0, 0, 1, 0, 0]),
    ] {
        let n = binary_header(length, &mut header);
        assert_eq!(&header[..usize::from(n)], expected);
    }
    assert_eq!(close(1003), [0x88, 2, 0x03, 0xEB]);
    assert_eq!(pong(b"ab"), [0x8A, 2, b'a', b'b']);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2000, ..ProptestConfig::default() })]

    /// However a byte stream is cut into frames and reads, it comes out whole.
    #[test]
    fn any_cut_gives_the_same_stream(
        parts in prop::collection::vec((prop::collection::vec(any::<u8>(), 0..300), any::<bool>(), any::<bool>()), 0..12),
        step in 1usize..80,
    ) {
        let (mut bytes, mut expected, mut pings, mut open) = (Vec::new(), Vec::new(), 0, false);
        for (payload, last, ping) in parts {
            let opcode = if open { 0x00 } else { 0x02 };
            bytes.extend(client_frame(if last { 0x80 | opcode } else { opcode }, &payload));
            open = !last;
            expected.extend(payload);
            if ping {
                bytes.extend(client_frame(0x89, b"p"));
                pings += 1;
            }
        }
        let (data, controls, refusal) = run(&bytes, step, u64::MAX);
        prop_assert_eq!(refusal, None);
        prop_assert_eq!(data, expected);
        prop_assert_eq!(controls.len(), pings);
    }

    /// Any bytes: no panic, never more data than input, and the same outcome however they are cut.
    #[test]
    fn any_bytes_are_survived(bytes in prop::collection::vec(any::<u8>(), 0..400), step in 1usize..40) {
        let whole = run(&bytes, bytes.len(), 4096);
        prop_assert!(whole.0.len() <= bytes.len());
        prop_assert_eq!(run(&bytes, step, 4096), whole);
    }

    #[test]
    fn unmasking_twice_is_nothing(data in prop::collection::vec(any::<u8>(), 0..70), mask in any::<[u8; 4]>()) {
        let mut twice = data.clone();
        unmask(&mut twice, mask);
        for (index, byte) in twice.iter().enumerate() {
            prop_assert_eq!(*byte, data[index] ^ mask[index % 4]);
        }
        unmask(&mut twice, mask);
        prop_assert_eq!(twice, data);
    }
}
