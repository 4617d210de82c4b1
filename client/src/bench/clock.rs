//! Time and what a bench message carries: when it was sent, by whom, as which.

use std::time::{Instant, SystemTime, UNIX_EPOCH};

/// Payload bytes that hold the time; shorter payloads have no latency.
pub const STAMP: usize = 8;
/// Payload bytes that also hold publisher and sequence; shorter payloads cannot show loss.
pub const SEQUENCED: usize = 16;
/// Bits of the sequence in the second word; the publisher's index is above.
const SEQUENCE_BITS: u32 = 40;

/// Nanoseconds since 1970 that never go back: comparable between processes of one machine, and steady
/// within one.
#[derive(Debug, Clone, Copy)]
pub struct Clock {
    start: Instant,
    unix: u64,
}

impl Default for Clock {
    /// Reads the system's clock once.
    fn default() -> Self {
        let unix = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .unwrap_or_default();
        Self {
            start: Instant::now(),
            unix: u64::try_from(unix.as_nanos()).unwrap_or(u64::MAX),
        }
    }
}

impl Clock {
    /// Now.
    #[inline]
    pub fn now(&self) -> u64 {
        // 2^64 ns last until the year 2554.
        self.unix + self.start.elapsed().as_nanos() as u64
    }

    /// The moment of a reading, for timers.
    pub fn instant(&self, at: u64) -> tokio::time::Instant {
        let since = std::time::Duration::from_nanos(at.saturating_sub(self.unix));
        tokio::time::Instant::from_std(self.start + since)
    }
}

/// The start of a bench payload.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stamp {
    /// When it was sent, [`Clock::now`].
    pub time: u64,
    /// Publisher and sequence, where the payload has room for them.
    pub source: Option<Source>,
}

/// Which message it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Source {
    /// The publisher's index, below 2^24.
    pub publisher: u32,
    /// Counts from 0 for each publisher.
    pub sequence: u64,
}

/// Writes a stamp over the start of `payload`, as much of it as there is room for.
#[inline]
pub fn write_stamp(payload: &mut [u8], time: u64, publisher: u32, sequence: u64) {
    if payload.len() >= STAMP {
        payload[..STAMP].copy_from_slice(&time.to_be_bytes());
    }
    if payload.len() >= SEQUENCED {
        let word = u64::from(publisher) << SEQUENCE_BITS | sequence;
        payload[STAMP..SEQUENCED].copy_from_slice(&word.to_be_bytes());
    }
}

/// Reads the stamp of a payload; `None` where it is too short.
#[inline]
pub fn read_stamp(payload: &[u8]) -> Option<Stamp> {
    let word = |bytes: &[u8; 8]| u64::from_be_bytes(*bytes);
    let (time, rest) = payload.split_first_chunk()?;
    let source = rest.first_chunk().map(|bytes| {
        let word = word(bytes);
        Source {
            publisher: (word >> SEQUENCE_BITS) as u32,
            sequence: word & ((1 << SEQUENCE_BITS) - 1),
        }
    });
    Some(Stamp {
        time: word(time),
        source,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stamp_is_read_as_written_when_there_is_room() {
        let mut payload = [0; 20];
        write_stamp(&mut payload, 7, 0xAB_CDEF, 12_345);
        let source = Source {
            publisher: 0xAB_CDEF,
            sequence: 12_345,
        };
        assert_eq!(
            read_stamp(&payload),
            Some(Stamp {
                time: 7,
                source: Some(source)
            })
        );
        let mut short = [0; 15];
        write_stamp(&mut short, 9, 1, 1);
        assert_eq!(
            read_stamp(&short),
            Some(Stamp {
                time: 9,
                source: None
            })
        );
        write_stamp(&mut short[..7], 9, 1, 1);
        assert_eq!(read_stamp(&short[..7]), None);
    }

    #[test]
    fn readings_and_moments_agree() {
        let clock = Clock::default();
        let now = clock.now();
        assert!(clock.now() >= now);
        let later = clock.instant(now + 1_000_000_000);
        let wait = later - clock.instant(now);
        assert_eq!(wait, std::time::Duration::from_secs(1));
    }
}
