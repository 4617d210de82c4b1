//! Reads the log's files without the engine, to tell a torn end from damage.
//!
//! At a crash only what was not synced can be missing: the last batch of the last file (with `async`, the last few).
//! Anything else that does not check is damage, and so is a batch that does not check with a whole one behind it. The
//! engine would cut the log off there without a word.
//!
//! A file is a header (magic, version, in version 2 the alignment) and batches: length and kind (8 bytes, big endian),
//! offset of the footer (8), entries with their CRC-32, footer with its CRC-32, in version 2 XOR the file's number.
//! The engine writes version 2, but a file whose header a crash cut off it goes on with as version 1.

use std::fs;
use std::path::{Path, PathBuf};

use crate::error::Error;

const MAGIC: &[u8] = b"RAFT-LOG-FILE-HEADER-9986AB3E47F320B394C8E84916EB0ED5";
const BATCH_HEADER: usize = 16;
const SUM: usize = 4;

/// One file of the log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct LogFile {
    pub path: PathBuf,
    pub number: u64,
    /// Of the queue that holds what was moved out of purged files.
    pub rewrite: bool,
    /// Too short for a header, which is synced before anything is written behind it: what a rotation left that found no
    /// room on the disk. The engine goes on with the file before it.
    pub hollow: bool,
}

/// What a file holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Scan {
    /// Whole batches from the beginning.
    pub batches: u64,
    /// Where they end.
    pub end: u64,
    /// Bytes behind that end which are not zero: a torn batch.
    pub torn: bool,
    /// What is wrong at `end`, if it is not just the end.
    pub damage: Option<String>,
}

/// The files of a log in order, and the first number that is missing between two of one queue.
pub(crate) fn files(dir: &Path) -> Result<Vec<LogFile>, Error> {
    let mut found = Vec::new();
    let entries = match fs::read_dir(dir) {
        Ok(entries) => entries,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(found),
        Err(error) => return Err(Error::io(dir, "cannot be read")(error)),
    };
    for entry in entries {
        let path = entry.map_err(Error::io(dir, "cannot be read"))?.path();
        let Some(name) = path.file_name().and_then(|name| name.to_str()) else {
            continue;
        };
        let Some((number, kind)) = name.split_once('.') else {
            continue;
        };
        let (Ok(number), true) = (number.parse(), matches!(kind, "raftlog" | "rewrite")) else {
            continue;
        };
        let rewrite = kind == "rewrite";
        let len = fs::metadata(&path).map_err(Error::io(&path, "cannot be read"))?;
        found.push(LogFile {
            path,
            number,
            rewrite,
            hollow: len.len() < (MAGIC.len() + 8) as u64,
        });
    }
    found.sort_by_key(|file| (file.rewrite, file.number));
    if let Some(pair) = found
        .windows(2)
        .find(|pair| pair[0].rewrite == pair[1].rewrite && pair[0].number + 1 != pair[1].number)
    {
        return Err(Error::Damaged {
            path: pair[1].path.clone(),
            offset: 0,
            what: format!(
                "the file before it, number {}, is missing",
                pair[1].number - 1
            ),
        });
    }
    Ok(found)
}

/// Is this the last file of its queue that may hold anything?
pub(crate) fn is_last(files: &[LogFile], at: usize) -> bool {
    files[at + 1..]
        .iter()
        .filter(|next| next.rewrite == files[at].rewrite)
        .all(|next| next.hollow)
}

/// Takes a batch: its offset, its entries, its footer.
pub(crate) type EachBatch<'a> = dyn FnMut(u64, &[u8], &[u8]) + 'a;

/// Reads one file; `each` sees every whole batch: its offset, its entries, its footer.
pub(crate) fn scan(file: &LogFile, last: bool, each: &mut EachBatch<'_>) -> Result<Scan, Error> {
    let bytes = fs::read(&file.path).map_err(Error::io(&file.path, "cannot be read"))?;
    let mut scan = Scan {
        batches: 0,
        end: 0,
        torn: false,
        damage: None,
    };
    let header = header(&bytes, file.number);
    let header_ok = header.is_some();
    // Without a header, what may stand behind it is looked for as in a whole file.
    let (mut at, signature) = header.unwrap_or((0, file.number as u32));
    if header_ok {
        while let Some((len, entries, footer)) = batch(&bytes[at..], signature) {
            each(at as u64, entries, footer);
            scan.batches += 1;
            at += len;
        }
    }
    scan.end = at as u64;
    let rest = &bytes[at..];
    scan.torn = rest.iter().any(|byte| *byte != 0);
    if !last {
        if !rest.is_empty() || !header_ok {
            scan.damage = Some(if header_ok {
                "a batch in the middle of the log does not check".to_owned()
            } else {
                "the header of the file does not check".to_owned()
            });
        }
        return Ok(scan);
    }
    // A whole batch behind: what lies before it was synced.
    let behind = (1..rest.len().saturating_sub(BATCH_HEADER))
        .find(|ahead| batch(&rest[*ahead..], signature).is_some());
    if let Some(ahead) = behind {
        scan.damage = Some(format!(
            "a batch does not check, and there is a whole one behind it at byte {}",
            at + ahead
        ));
    }
    Ok(scan)
}

/// Calls `each` with the entries and the footer of every whole batch of a file, up to the first that is not whole.
/// Nothing is said about what is behind it: [`scan`] did that.
pub(crate) fn batches(
    file: &LogFile,
    mut each: impl FnMut(&[u8], &[u8]) -> Result<(), Error>,
) -> Result<(), Error> {
    let bytes = fs::read(&file.path).map_err(Error::io(&file.path, "cannot be read"))?;
    let Some((mut at, signature)) = header(&bytes, file.number) else {
        return Ok(());
    };
    while let Some((len, entries, footer)) = batch(&bytes[at..], signature) {
        each(entries, footer)?;
        at += len;
    }
    Ok(())
}

/// The length of the header and the signature of the file's batches.
fn header(bytes: &[u8], number: u64) -> Option<(usize, u32)> {
    let rest = bytes.strip_prefix(MAGIC)?;
    let version = u64::from_be_bytes(rest.get(..8)?.try_into().ok()?);
    match version {
        1 => Some((MAGIC.len() + 8, 0)),
        2 if rest.len() >= 16 => Some((MAGIC.len() + 16, number as u32)),
        _ => None,
    }
}

/// The batch at the beginning of `bytes`, if it is whole: its length, its entries, its footer.
fn batch(bytes: &[u8], signature: u32) -> Option<(usize, &[u8], &[u8])> {
    let word = |at: usize| -> Option<u64> {
        Some(u64::from_be_bytes(bytes.get(at..at + 8)?.try_into().ok()?))
    };
    let head = word(0)?;
    if head & 0xff > 1 {
        return None;
    }
    let len = usize::try_from(head >> 8).ok()?;
    let footer_at = usize::try_from(word(8)?).ok()?;
    if footer_at < BATCH_HEADER || footer_at + SUM >= len || len > bytes.len() {
        return None;
    }
    let footer = checked(&bytes[footer_at..len], signature)?;
    let entries = if footer_at == BATCH_HEADER {
        &[]
    } else {
        checked(&bytes[BATCH_HEADER..footer_at], 0)?
    };
    Some((len, entries, footer))
}

fn checked(bytes: &[u8], signature: u32) -> Option<&[u8]> {
    let (body, sum) = bytes.split_at_checked(bytes.len().checked_sub(SUM)?)?;
    let sum = u32::from_le_bytes(sum.try_into().ok()?) ^ signature;
    (crc32fast::hash(body) == sum).then_some(body)
}

/// One item of a batch's footer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Item<'a> {
    /// An entry of a group: region, index, its bytes with their head.
    Entry(u64, u64, &'a [u8]),
    /// Entries of the region before this index are gone.
    Compact(u64, u64),
    /// Anything else.
    Other(u64),
}

/// Takes a batch apart; `None` at the first thing that makes no sense.
pub(crate) fn items<'a>(entries: &'a [u8], footer: &[u8]) -> Option<Vec<Item<'a>>> {
    let mut from = footer;
    let mut items = Vec::new();
    let mut offset = 0;
    for _ in 0..number(&mut from)? {
        let region = number(&mut from)?;
        match byte(&mut from)? {
            1 => {
                let count = number(&mut from)?;
                let first = if count > 0 { number(&mut from)? } else { 0 };
                for index in (first..).take(usize::try_from(count).ok()?) {
                    let end = usize::try_from(number(&mut from)?).ok()?;
                    let entry = entries.get(offset..end)?;
                    items.push(Item::Entry(region, index, bytes_value(entry)?));
                    offset = end;
                }
            }
            2 => match byte(&mut from)? {
                2 => items.push(Item::Compact(region, number(&mut from)?)),
                _ => items.push(Item::Other(region)),
            },
            3 => {
                let op = byte(&mut from)?;
                let mut skip = || {
                    let len = usize::try_from(number(&mut from)?).ok()?;
                    from = from.get(len..)?;
                    Some(())
                };
                skip()?;
                if op == 1 {
                    skip()?;
                }
                items.push(Item::Other(region));
            }
            _ => return None,
        }
    }
    Some(items)
}

/// The bytes of a protobuf `BytesValue`.
fn bytes_value(mut entry: &[u8]) -> Option<&[u8]> {
    if entry.is_empty() {
        return Some(entry);
    }
    if byte(&mut entry)? != 0x0a {
        return None;
    }
    let len = usize::try_from(number(&mut entry)?).ok()?;
    (entry.len() == len).then_some(entry)
}

fn byte(from: &mut &[u8]) -> Option<u8> {
    let (first, rest) = from.split_first()?;
    *from = rest;
    Some(*first)
}

fn number(from: &mut &[u8]) -> Option<u64> {
    let mut value = 0u64;
    for shift in (0..64).step_by(7) {
        let next = byte(from)?;
        value |= u64::from(next & 0x7f) << shift;
        if next & 0x80 == 0 {
            return Some(value);
        }
    }
    None
}
