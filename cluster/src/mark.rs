//! The durable mark: up to which entry of each group something was acknowledged, kept apart from the log so that a
//! log that lost its end is noticed.
//!
//! Two slots are written in turn, so that one is whole after a crash while the other was written.

use std::path::Path;

use nightjar_broker::Timestamp;

use crate::error::Error;
use crate::files::Files;

const MAGIC: &[u8; 4] = b"NJMK";
const VERSION: u8 = 1;
const SLOT: u64 = 4096;

/// The content of a mark.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Mark {
    /// Rises with each write.
    pub sequence: u64,
    /// When the node was last known to live.
    pub alive: Timestamp,
    /// It ran without syncing each batch: a torn end may be longer than one batch.
    pub relaxed: bool,
    /// Last synced entry of each group, in the order of groups.
    pub indexes: Vec<u64>,
}

impl Mark {
    fn encode(&self) -> Vec<u8> {
        let mut out = MAGIC.to_vec();
        out.push(VERSION);
        out.push(u8::from(self.relaxed));
        out.extend_from_slice(&(self.indexes.len() as u16).to_le_bytes());
        out.extend_from_slice(&self.sequence.to_le_bytes());
        out.extend_from_slice(&self.alive.0.to_le_bytes());
        for index in &self.indexes {
            out.extend_from_slice(&index.to_le_bytes());
        }
        let sum = crc32fast::hash(&out);
        out.extend_from_slice(&sum.to_le_bytes());
        out
    }

    fn decode(bytes: &[u8]) -> Option<Self> {
        let head = bytes.get(..24)?;
        if head[..4] != MAGIC[..] || head[4] != VERSION {
            return None;
        }
        let count = usize::from(u16::from_le_bytes(head[6..8].try_into().ok()?));
        let body = bytes.get(..24 + count * 8)?;
        let sum = bytes.get(body.len()..body.len() + 4)?;
        if crc32fast::hash(body).to_le_bytes()[..] != *sum {
            return None;
        }
        let word = |at: usize| Some(u64::from_le_bytes(body.get(at..at + 8)?.try_into().ok()?));
        Some(Self {
            relaxed: head[5] & 1 != 0,
            sequence: word(8)?,
            alive: Timestamp(word(16)?),
            indexes: (0..count)
                .map(|at| word(24 + at * 8))
                .collect::<Option<_>>()?,
        })
    }

    /// Reads the newest whole slot; `None` if there is no file.
    pub fn read(path: &Path) -> Result<Option<Self>, Error> {
        let bytes = match std::fs::read(path) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(Error::io(path, "cannot be read")(error)),
        };
        let slots = [Some(&bytes[..]), bytes.get(SLOT as usize..)];
        let newest = slots
            .into_iter()
            .flatten()
            .filter_map(Self::decode)
            .max_by_key(|mark| mark.sequence);
        match newest {
            Some(mark) => Ok(Some(mark)),
            None => Err(Error::Damaged {
                path: path.to_owned(),
                offset: 0,
                what: "neither of its two copies of the durable mark is whole".to_owned(),
            }),
        }
    }

    /// Writes the next slot.
    pub fn write(&mut self, path: &Path, files: &dyn Files, sync: bool) -> Result<(), Error> {
        self.sequence += 1;
        files
            .overwrite(path, self.sequence % 2 * SLOT, &self.encode(), sync)
            .map_err(Error::io(path, "the durable mark cannot be written"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mark_is_read_as_written_and_damage_is_seen() {
        let mark = Mark {
            sequence: 7,
            alive: Timestamp(9),
            relaxed: true,
            indexes: vec![1, u64::MAX, 3],
        };
        let bytes = mark.encode();
        assert_eq!(Mark::decode(&bytes), Some(mark));
        for at in 0..bytes.len() {
            let mut damaged = bytes.clone();
            damaged[at] ^= 0x10;
            assert_eq!(Mark::decode(&damaged), None, "byte {at}");
            assert_eq!(Mark::decode(&bytes[..at]), None);
        }
    }
}
