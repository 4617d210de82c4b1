//! Snapshot files: the whole state of a group at one log index.

use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use crate::error::Error;
use crate::files::Files;
use crate::log::Groups;

const MAGIC: &[u8; 4] = b"NJSN";
const VERSION: u8 = 1;
const HEAD: usize = 4 + 1 + 2 + 8;

/// A snapshot found on the disk.
#[derive(Debug)]
pub(crate) struct Found {
    pub path: PathBuf,
    pub index: u64,
}

fn name(groups: Groups, group: u16, index: u64) -> String {
    format!("{:04x}-{index:020}.snapshot", groups.region(group))
}

/// Writes to a file that ends with a checksum of all that is before.
pub(crate) struct Summed<'a> {
    to: &'a mut dyn Write,
    sum: crc32fast::Hasher,
}

impl<'a> Summed<'a> {
    pub fn new(to: &'a mut dyn Write) -> Self {
        Self {
            to,
            sum: crc32fast::Hasher::new(),
        }
    }

    pub fn write_all(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.sum.update(bytes);
        self.to.write_all(bytes)
    }

    pub fn finish(self) -> io::Result<()> {
        self.to.write_all(&self.sum.finalize().to_le_bytes())
    }
}

/// Writes the snapshot of a group and removes the older ones. `state` is what the shard encoded, in parts.
pub(crate) fn write(
    dir: &Path,
    files: &dyn Files,
    groups: Groups,
    group: u16,
    index: u64,
    state: &[impl AsRef<[u8]>],
) -> Result<(), Error> {
    let mut head = Vec::with_capacity(HEAD);
    head.extend_from_slice(MAGIC);
    head.push(VERSION);
    head.extend_from_slice(&(groups.region(group) as u16).to_le_bytes());
    head.extend_from_slice(&index.to_le_bytes());
    let path = dir.join(name(groups, group, index));
    files
        .replace_by(&path, &mut |to| {
            let mut to = Summed::new(to);
            to.write_all(&head)?;
            state
                .iter()
                .try_for_each(|part| to.write_all(part.as_ref()))?;
            to.finish()
        })
        .map_err(Error::io(&path, "the snapshot cannot be written"))?;
    for old in find(dir, groups, group)? {
        if old.index < index {
            files
                .remove(&old.path)
                .map_err(Error::io(&old.path, "cannot be removed"))?;
        }
    }
    Ok(())
}

/// The snapshots of a group, newest first.
pub(crate) fn find(dir: &Path, groups: Groups, group: u16) -> Result<Vec<Found>, Error> {
    let prefix = format!("{:04x}-", groups.region(group));
    let mut found = Vec::new();
    let entries = fs::read_dir(dir).map_err(Error::io(dir, "cannot be read"))?;
    for entry in entries {
        let path = entry.map_err(Error::io(dir, "cannot be read"))?.path();
        let index = path
            .file_name()
            .and_then(|name| name.to_str())
            .and_then(|name| name.strip_prefix(&prefix))
            .and_then(|rest| rest.strip_suffix(".snapshot"))
            .and_then(|index| index.parse().ok());
        if let Some(index) = index {
            found.push(Found { path, index });
        }
    }
    found.sort_by_key(|found| std::cmp::Reverse(found.index));
    Ok(found)
}

/// Reads a snapshot: the bytes that the shard encoded.
pub(crate) fn read(found: &Found, groups: Groups, group: u16) -> Result<Vec<u8>, Error> {
    let mut bytes = fs::read(&found.path).map_err(Error::io(&found.path, "cannot be read"))?;
    let damaged = |offset: usize, what: &str| Error::Damaged {
        path: found.path.clone(),
        offset: offset as u64,
        what: what.to_owned(),
    };
    if bytes.len() < HEAD + 4 || bytes[..4] != MAGIC[..] {
        return Err(damaged(0, "this is not a whole snapshot"));
    }
    if bytes[4] != VERSION {
        return Err(damaged(
            4,
            "the snapshot is of a format that this program does not read",
        ));
    }
    let at = bytes.len() - 4;
    if crc32fast::hash(&bytes[..at]).to_le_bytes()[..] != bytes[at..] {
        return Err(damaged(HEAD, "the checksum of the snapshot is wrong"));
    }
    let region = (groups.region(group) as u16).to_le_bytes();
    if bytes[5..7] != region[..] || bytes[7..HEAD] != found.index.to_le_bytes()[..] {
        return Err(damaged(
            5,
            "the snapshot is of another group or index than its name",
        ));
    }
    bytes.truncate(at);
    bytes.drain(..HEAD);
    Ok(bytes)
}
