//! The body of the fuzz target, run over a fixed amount of pseudo-random input.
//!
//! The crate forbids unsafe code, so an access past the datagram could only be a panic; none may occur.

use nightjar_mqttsn::{Error, Frame, classify};

use crate::examples::{EXAMPLES, long_form};

/// xorshift64*: the same inputs on every run.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_F491_4F6C_DD1D)
    }

    fn below(&mut self, limit: usize) -> usize {
        (self.next() % limit as u64) as usize
    }
}

/// The invariants of one datagram; true if it is a frame.
fn check(datagram: &[u8], scratch: &mut Vec<u8>) -> bool {
    classify(datagram);
    let frame = match Frame::decode(datagram) {
        Ok(frame) => frame,
        Err(error) => {
            assert!(Error::REASONS.contains(&error.reason()));
            assert!(!matches!(error, Error::TooLong { .. }));
            return false;
        }
    };
    scratch.clear();
    // Only the node id of a 3-octet Length can be too long for the encoder.
    if frame.encapsulation.is_some_and(|e| e.node_id.len() > 252) {
        assert!(frame.encode(scratch).is_err());
        return true;
    }
    frame.encode(scratch).expect("it came in a datagram");
    assert!(
        scratch.len() <= datagram.len(),
        "the shortest form is not longer than what came"
    );
    assert_eq!(scratch.len(), frame.encoded_len());
    assert_eq!(Frame::decode(scratch), Ok(frame));
    true
}

#[test]
fn a_million_random_datagrams_do_no_harm() {
    let mut random = Random(0x9E37_79B9_7F4A_7C15);
    let mut scratch = Vec::new();
    let mut datagram = Vec::new();
    let mut frames = 0;
    for round in 0..1_200_000u32 {
        datagram.clear();
        match round % 3 {
            // Bytes without sense, the Length often right.
            0 => {
                let size = random.below(48);
                datagram.extend((0..size).map(|_| random.next() as u8));
                if random.below(4) > 0 && size > 1 {
                    datagram[0] = size as u8;
                    datagram[1] &= 0x1F;
                }
            }
            // An example with some octets changed.
            1 => {
                let (_, _, bytes) = EXAMPLES[random.below(EXAMPLES.len())];
                datagram.extend_from_slice(bytes);
                for _ in 0..random.below(4) {
                    let at = random.below(datagram.len());
                    datagram[at] = random.next() as u8;
                }
            }
            // An example in the other form, in an encapsulation, cut or lengthened.
            _ => {
                let (_, _, bytes) = EXAMPLES[random.below(EXAMPLES.len())];
                if random.below(2) == 0 {
                    let node = random.below(5);
                    datagram.extend_from_slice(&[3 + node as u8, 0xFE, random.next() as u8]);
                    datagram.extend((0..node).map(|_| random.next() as u8));
                }
                datagram.extend_from_slice(&long_form(bytes));
                let size = datagram.len() + 2 - random.below(5).min(datagram.len());
                datagram.resize(size, random.next() as u8);
            }
        }
        frames += u32::from(check(&datagram, &mut scratch));
    }
    assert!(
        frames > 200_000,
        "the input reaches the messages: {frames} frames"
    );
}

#[test]
fn every_datagram_of_up_to_three_octets_does_no_harm() {
    let mut scratch = Vec::new();
    check(&[], &mut scratch);
    for a in 0..=255u8 {
        check(&[a], &mut scratch);
        for b in 0..=255u8 {
            check(&[a, b], &mut scratch);
            for c in [0, 1, 2, 3, 4, 0x7F, 0x80, 0xC3, 0xFE, 0xFF] {
                check(&[a, b, c], &mut scratch);
            }
        }
    }
}

#[test]
fn a_datagram_of_65535_octets_does_no_harm() {
    let mut scratch = Vec::new();
    let mut datagram = vec![b'a'; 65535];
    datagram[..3].copy_from_slice(&[0x01, 0xFF, 0xFF]);
    for msg_type in 0..=255u8 {
        datagram[3] = msg_type;
        check(&datagram, &mut scratch);
    }
    // A node id longer than the encoder writes, with a message behind it.
    datagram[1..4].copy_from_slice(&[0x01, 0x40, 0xFE]);
    datagram.truncate(0x140);
    datagram.extend_from_slice(&[2, 0x17]);
    assert!(check(&datagram, &mut scratch));
}
