//! Random numbers: MsgIds and jitter.

use std::hash::BuildHasher;

/// Random numbers that a client cannot foresee, or those of a seed for tests.
pub(super) enum Random {
    Keyed {
        key: std::hash::RandomState,
        next: u64,
    },
    Seeded(u64),
}

impl Random {
    pub fn next(&mut self) -> u64 {
        match self {
            Self::Keyed { key, next } => {
                *next += 1;
                key.hash_one(*next)
            }
            Self::Seeded(state) => {
                *state = state.wrapping_add(0x9E37_79B9_7F4A_7C15);
                let mut z = *state;
                z = (z ^ z >> 30).wrapping_mul(0xBF58_476D_1CE4_E5B9);
                z = (z ^ z >> 27).wrapping_mul(0x94D0_49BB_1331_11EB);
                z ^ z >> 31
            }
        }
    }
}
