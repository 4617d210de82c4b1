//! Random inputs that look like packets: a small generator and changes of valid ones.

use super::seeds::Seed;

/// A small, fast pseudo-random generator (xorshift64*), seeded so that a failing run repeats.
#[derive(Debug, Clone)]
pub struct Rng(u64);

impl Rng {
    /// A generator that always gives the same numbers for the same seed.
    pub const fn new(seed: u64) -> Self {
        Self(seed | 1)
    }

    /// The next number.
    pub const fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_F491_4F6C_DD1D)
    }

    /// A number below `end`, which must be above 0.
    pub const fn below(&mut self, end: usize) -> usize {
        (self.next() >> 33) as usize % end
    }

    /// A byte.
    pub const fn byte(&mut self) -> u8 {
        (self.next() >> 56) as u8
    }
}

/// Bytes that mean something in some packet: identifiers, limits, separators, broken UTF-8.
const INTERESTING: [u8; 32] = [
    0x00, 0x01, 0x02, 0x03, 0x04, 0x05, 0x08, 0x09, 0x0B, 0x11, 0x15, 0x16, 0x1F, 0x21, 0x23, 0x24,
    0x26, 0x27, b'#', b'+', b'/', b'$', 0x7F, 0x80, 0x81, 0x82, 0x90, 0xC0, 0xC3, 0xED, 0xF4, 0xFF,
];

/// Makes inputs from seeds.
#[derive(Debug)]
pub struct Mutator {
    rng: Rng,
    seeds: Vec<Seed>,
    input: Vec<u8>,
}

impl Mutator {
    /// A mutator over these seeds, of which there must be one.
    pub fn new(seed: u64, seeds: Vec<Seed>) -> Self {
        assert!(!seeds.is_empty());
        Self {
            rng: Rng::new(seed),
            seeds,
            input: Vec::new(),
        }
    }

    /// The generator, for choices of the caller's own.
    pub const fn rng(&mut self) -> &mut Rng {
        &mut self.rng
    }

    /// The next input for a decoding target: a settings byte and a stream of one or two packets, changed in zero to three
    /// places, its remaining length mostly put right again.
    pub fn stream(&mut self) -> &[u8] {
        let rng = &mut self.rng;
        let seed = &self.seeds[rng.below(self.seeds.len())];
        self.input.clear();
        // Mostly the settings that fit the seed.
        self.input.push(if rng.below(8) == 0 {
            rng.byte()
        } else {
            seed.settings | rng.byte() & 0b100
        });
        self.input.extend_from_slice(&seed.bytes);
        for _ in 0..rng.below(4) {
            change(rng, &mut self.input, &self.seeds);
        }
        if rng.below(8) != 0 {
            mend_length(&mut self.input[1..]);
        }
        if rng.below(8) == 0 {
            let next = &self.seeds[rng.below(self.seeds.len())];
            self.input.extend_from_slice(&next.bytes);
        }
        &self.input
    }

    /// The next input without a shape: up to `max` bytes, every eighth of them interesting.
    pub fn bytes(&mut self, max: usize) -> &[u8] {
        let rng = &mut self.rng;
        self.input.clear();
        for _ in 0..rng.below(max + 1) {
            let byte = if rng.below(8) == 0 {
                INTERESTING[rng.below(INTERESTING.len())]
            } else {
                rng.byte()
            };
            self.input.push(byte);
        }
        &self.input
    }

    /// The next input for the topic target: a filter of up to six levels and a name made to match it, one of them changed
    /// in one place every second time.
    pub fn topics(&mut self) -> &[u8] {
        const LEVELS: [&str; 10] = ["a", "b", "", "+", "+", "$", "$SYS", "$share", "é", "#"];
        const CHANGES: [&str; 8] = ["a", "/", "+", "#", "$", "\0", "$share/g/", "/#"];
        let rng = &mut self.rng;
        let (mut filter, mut name) = (String::new(), String::new());
        if rng.below(4) == 0 {
            filter.push_str("$share/g/");
        }
        for level in 0..1 + rng.below(6) {
            let part = LEVELS[rng.below(LEVELS.len())];
            let separator = if level == 0 { "" } else { "/" };
            filter.push_str(separator);
            filter.push_str(part);
            if part == "#" {
                // Stands for what was before, or for more.
                name.push_str(
                    ["", "/a", "/a/b", "/"][rng.below(4)].trim_start_matches(if level == 0 {
                        "/"
                    } else {
                        ""
                    }),
                );
                break;
            }
            name.push_str(separator);
            name.push_str(if part == "+" {
                LEVELS[rng.below(3)]
            } else {
                part
            });
        }
        if rng.below(2) == 0 {
            let text = if rng.below(2) == 0 {
                &mut filter
            } else {
                &mut name
            };
            let at = text.floor_char_boundary(rng.below(text.len() + 1));
            text.insert_str(at, CHANGES[rng.below(CHANGES.len())]);
        }
        self.input.clear();
        self.input.push(filter.len() as u8);
        self.input.extend_from_slice(filter.as_bytes());
        self.input.extend_from_slice(name.as_bytes());
        &self.input
    }
}

/// Changes one place behind the settings byte.
fn change(rng: &mut Rng, input: &mut Vec<u8>, seeds: &[Seed]) {
    if input.len() < 2 {
        input.push(rng.byte());
        return;
    }
    let at = 1 + rng.below(input.len() - 1);
    match rng.below(8) {
        0 => input[at] ^= 1 << rng.below(8),
        1 => input[at] = rng.byte(),
        2 => input[at] = INTERESTING[rng.below(INTERESTING.len())],
        3 => input.insert(at, INTERESTING[rng.below(INTERESTING.len())]),
        4 => {
            input.remove(at);
        }
        5 => input.truncate(at),
        6 => {
            // Doubles a piece: properties come twice this way.
            let end = (at + 1 + rng.below(12)).min(input.len());
            let piece = input[at..end].to_vec();
            input.splice(at..at, piece);
        }
        _ => {
            let other = &seeds[rng.below(seeds.len())].bytes;
            let from = rng.below(other.len());
            let end = (from + 1 + rng.below(16)).min(other.len());
            input.splice(at..at, other[from..end].iter().copied());
        }
    }
}

/// Makes the remaining length tell the truth, if it can with as many bytes as it has.
fn mend_length(packet: &mut [u8]) {
    let length = packet.len();
    match packet {
        [_, one, ..] if *one < 0x80 && length - 2 < 0x80 => *one = (length - 2) as u8,
        [_, one, two, ..] if *one >= 0x80 && (0x80..0x4000).contains(&(length - 3)) => {
            *one = (length - 3) as u8 | 0x80;
            *two = ((length - 3) >> 7) as u8;
        }
        _ => {}
    }
}
