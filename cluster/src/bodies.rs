//! Bodies of queued messages that left memory: files of one group, written behind one another, read by place.
//!
//! They stand in the log too until a snapshot lets it go, so nothing here is synced before a snapshot that refers to
//! it; what no snapshot knows is removed when the directory is opened. A file is a header (magic, version, region,
//! number: 16 bytes) and records: length (4), CRC-32 (4), the message as the log encodes it. Numbers are little
//! endian.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use nightjar_broker::Message;
use nightjar_broker::shard::{Decoder, Encoder, Place};

use crate::error::Error;
use crate::files::sync_dir;

const MAGIC: &[u8; 4] = b"NJBD";
const VERSION: u8 = 1;
/// Bytes of a file's header.
pub(crate) const HEADER: u64 = 16;
const RECORD: usize = 8;
/// A file that is at least so long gets a successor.
const FULL: u64 = 32 << 20;
/// Records that follow each other are read together, up to so many bytes.
const RUN: u64 = 1 << 20;
/// Read with a record whose length is not known yet.
const GUESS: u64 = 512;

/// Name of the folder below the data directory.
pub(crate) const DIR: &str = "bodies";

pub(crate) fn file_name(region: u64, number: u32) -> String {
    format!("{region:04x}-{number:010}.bodies")
}

fn header(region: u64, number: u32) -> [u8; HEADER as usize] {
    let mut bytes = [0; HEADER as usize];
    bytes[..4].copy_from_slice(MAGIC);
    bytes[4] = VERSION;
    bytes[6..8].copy_from_slice(&(region as u16).to_le_bytes());
    bytes[8..12].copy_from_slice(&number.to_le_bytes());
    bytes
}

/// One open file of bodies.
#[derive(Debug)]
struct BodyFile {
    file: Arc<File>,
    len: u64,
    synced: u64,
    /// Made in this run.
    writable: bool,
}

/// A file of bodies that can be read while others write.
#[derive(Debug, Clone)]
pub(crate) struct Source {
    pub path: PathBuf,
    pub file: Arc<File>,
    /// Bytes that stand in it.
    pub len: u64,
}

/// The files of bodies of one group.
#[derive(Debug)]
pub(crate) struct Bodies {
    dir: PathBuf,
    region: u64,
    files: BTreeMap<u32, BodyFile>,
    next: u32,
    /// Written once in this run: an error that goes on is not repeated.
    complained: bool,
}

/// What is in the folder of one group: numbers and lengths.
pub(crate) fn list(dir: &Path, region: u64) -> Result<BTreeMap<u32, u64>, Error> {
    let prefix = format!("{region:04x}-");
    let mut found = BTreeMap::new();
    let entries = match fs::read_dir(dir) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(found),
        Err(error) => return Err(Error::io(dir, "cannot be read")(error)),
    };
    for entry in entries {
        let entry = entry.map_err(Error::io(dir, "cannot be read"))?;
        let name = entry.file_name();
        let number = name
            .to_str()
            .and_then(|name| name.strip_prefix(&prefix))
            .and_then(|rest| rest.strip_suffix(".bodies"))
            .and_then(|number| number.parse().ok());
        if let Some(number) = number {
            let meta = entry
                .metadata()
                .map_err(Error::io(entry.path(), "cannot be read"))?;
            found.insert(number, meta.len());
        }
    }
    Ok(found)
}

impl Bodies {
    /// Opens the files of a group that `needed` names; the others are removed.
    pub fn open(dir: &Path, region: u64, needed: &BTreeSet<u32>) -> Result<Self, Error> {
        fs::create_dir_all(dir).map_err(Error::io(dir, "cannot be created"))?;
        let mut bodies = Self {
            dir: dir.to_owned(),
            region,
            files: BTreeMap::new(),
            next: 1,
            complained: false,
        };
        for (number, len) in list(dir, region)? {
            bodies.next = bodies.next.max(number.saturating_add(1));
            let path = bodies.path(number);
            if !needed.contains(&number) {
                fs::remove_file(&path).map_err(Error::io(&path, "cannot be removed"))?;
                continue;
            }
            let file = File::open(&path).map_err(Error::io(&path, "cannot be opened"))?;
            let body = BodyFile {
                file: Arc::new(file),
                len,
                synced: len,
                writable: false,
            };
            bodies.files.insert(number, body);
        }
        Ok(bodies)
    }

    pub fn path(&self, number: u32) -> PathBuf {
        self.dir.join(file_name(self.region, number))
    }

    /// Bytes of all files.
    pub fn bytes(&self) -> u64 {
        self.files.values().map(|file| file.len).sum()
    }

    /// A file, to be read without any lock.
    pub fn source(&self, number: u32) -> Result<Source, Error> {
        let path = self.path(number);
        match self.files.get(&number) {
            Some(file) => Ok(Source {
                path,
                file: file.file.clone(),
                len: file.len,
            }),
            None => Err(Error::Damaged {
                path,
                offset: 0,
                what: "the file is missing".to_owned(),
            }),
        }
    }

    /// Writes messages behind one another; where each stands. Nothing is kept of it if it fails.
    pub fn append(&mut self, messages: &[&Message]) -> Result<Vec<Place>, Error> {
        let mut places = Vec::with_capacity(messages.len());
        let mut bytes = Vec::new();
        let mut at = 0;
        while at < messages.len() {
            let number = self.current()?;
            let path = self.path(number);
            let file = self.files.get_mut(&number).expect("it was just opened");
            bytes.clear();
            while at < messages.len() && file.len + (bytes.len() as u64) < FULL {
                let offset = file.len + bytes.len() as u64;
                places.push(Place {
                    file: number,
                    offset: u32::try_from(offset).expect("a file ends long before 4 GiB"),
                });
                let begin = bytes.len();
                bytes.extend_from_slice(&[0; RECORD]);
                Encoder(&mut bytes).message(messages[at]);
                let (head, body) = bytes[begin..].split_at_mut(RECORD);
                let len = u32::try_from(body.len()).expect("a message is smaller than 4 GiB");
                head[..4].copy_from_slice(&len.to_le_bytes());
                head[4..].copy_from_slice(&crc32fast::hash(body).to_le_bytes());
                at += 1;
            }
            file.file
                .write_all_at(&bytes, file.len)
                .map_err(Error::io(path, "cannot be written"))?;
            file.len += bytes.len() as u64;
        }
        self.complained = false;
        Ok(places)
    }

    /// Is it the first failure since something worked?
    pub fn complains(&mut self) -> bool {
        !std::mem::replace(&mut self.complained, true)
    }

    /// The file that is written to.
    fn current(&mut self) -> Result<u32, Error> {
        let last = self.files.last_key_value();
        // What an earlier run wrote stays as it is.
        if let Some((number, file)) = last
            && file.writable
            && file.len < FULL
        {
            return Ok(*number);
        }
        let number = self.next;
        let path = self.path(number);
        let cannot = |what| Error::io(path.clone(), what);
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .create_new(true)
            .open(&path)
            .map_err(cannot("cannot be made"))?;
        self.next = number
            .checked_add(1)
            .ok_or_else(|| Error::Log("no numbers are left for files of bodies".to_owned()))?;
        file.write_all_at(&header(self.region, number), 0)
            .map_err(cannot("cannot be written"))?;
        let body = BodyFile {
            file: Arc::new(file),
            len: HEADER,
            synced: 0,
            writable: true,
        };
        self.files.insert(number, body);
        Ok(number)
    }

    /// What is to be synced before a snapshot that refers to it may be written: each file with its length now.
    pub fn unsynced(&self) -> Vec<(u32, Source)> {
        self.files
            .iter()
            .filter(|(_, file)| file.synced < file.len)
            .map(|(number, file)| {
                let source = Source {
                    path: self.path(*number),
                    file: file.file.clone(),
                    len: file.len,
                };
                (*number, source)
            })
            .collect()
    }

    /// That was done.
    pub fn note_synced(&mut self, number: u32, len: u64) {
        if let Some(file) = self.files.get_mut(&number) {
            file.synced = file.synced.max(len);
        }
    }

    /// Ends the file that is written to if nothing in it is needed, so that it goes with the others.
    pub fn retire(&mut self, needed: &BTreeSet<u32>) {
        if let Some((number, file)) = self.files.iter_mut().next_back()
            && !needed.contains(number)
        {
            file.writable = false;
        }
    }

    /// The number the next file will have.
    pub const fn next(&self) -> u32 {
        self.next
    }

    /// Takes files away that nothing refers to, among those before `below`. Their paths, to be removed.
    pub fn forget(&mut self, below: u32, needed: &BTreeSet<u32>) -> Vec<PathBuf> {
        let written = self.files.last_key_value();
        let written = written.filter(|(_, file)| file.writable).map(|(it, _)| *it);
        let gone: Vec<u32> = self
            .files
            .range(..below)
            .map(|(number, _)| *number)
            .filter(|number| !needed.contains(number) && Some(*number) != written)
            .collect();
        for number in &gone {
            self.files.remove(number);
        }
        gone.into_iter().map(|number| self.path(number)).collect()
    }
}

/// Syncs files and their names.
pub(crate) fn sync(dir: &Path, files: &[(u32, Source)]) -> Result<(), Error> {
    for (_, source) in files {
        source
            .file
            .sync_data()
            .map_err(Error::io(&source.path, "cannot be synced"))?;
    }
    if files.is_empty() {
        return Ok(());
    }
    sync_dir(dir).map_err(Error::io(dir, "cannot be synced"))
}

impl Source {
    fn damaged(&self, offset: u64, what: &str) -> Error {
        Error::Damaged {
            path: self.path.clone(),
            offset,
            what: what.to_owned(),
        }
    }

    /// Is it the file that its name says?
    pub fn check_header(&self, region: u64, number: u32) -> Result<(), Error> {
        let mut bytes = [0; HEADER as usize];
        let read = self.file.read_exact_at(&mut bytes, 0);
        if read.is_err() || bytes != header(region, number) {
            return Err(self.damaged(0, "the header of the file does not check"));
        }
        Ok(())
    }

    /// Reads the messages at some offsets, in rising order, with what each is thought to cost. A damaged one does not
    /// hide the others.
    pub fn read(&self, wanted: &[(u32, u32)]) -> Vec<Result<Message, Error>> {
        let mut found = Vec::with_capacity(wanted.len());
        let mut bytes = Vec::new();
        let mut from = 0u64;
        for (at, (offset, cost)) in wanted.iter().enumerate() {
            let offset = u64::from(*offset);
            let begin = offset.wrapping_sub(from);
            if from > offset || begin + RECORD as u64 > bytes.len() as u64 {
                // This one and those close behind it.
                let end = wanted[at..]
                    .iter()
                    .map(|(offset, cost)| u64::from(*offset) + u64::from(*cost) + GUESS)
                    .take_while(|end| *end - offset <= RUN)
                    .last()
                    .unwrap_or(offset + u64::from(*cost) + GUESS);
                match self.bytes(offset, end - offset) {
                    Ok(read) => (bytes, from) = (read, offset),
                    Err(error) => {
                        found.push(Err(error));
                        continue;
                    }
                }
            }
            found.push(self.record(offset, &bytes[(offset - from) as usize..]));
        }
        found
    }

    /// Up to `len` bytes, as far as the file goes.
    fn bytes(&self, offset: u64, len: u64) -> Result<Vec<u8>, Error> {
        let len = len.min(self.len.saturating_sub(offset));
        let mut bytes = vec![0; len as usize];
        match self.file.read_exact_at(&mut bytes, offset) {
            Ok(()) => Ok(bytes),
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => {
                Err(self.damaged(offset, "the file ends before the message does"))
            }
            Err(error) => Err(Error::io(&self.path, "cannot be read")(error)),
        }
    }

    /// The record that begins in these bytes; what they do not hold of it is read.
    fn record(&self, offset: u64, bytes: &[u8]) -> Result<Message, Error> {
        let head = bytes
            .get(..RECORD)
            .ok_or_else(|| self.damaged(offset, "the file ends before the message does"))?;
        let word =
            |at: usize| u32::from_le_bytes([head[at], head[at + 1], head[at + 2], head[at + 3]]);
        let (len, sum) = (word(0) as usize, word(4));
        let longer;
        let body = match bytes.get(RECORD..RECORD + len) {
            Some(body) => body,
            None => {
                if offset + (RECORD + len) as u64 > self.len {
                    return Err(self.damaged(offset, "a message ends behind the end of the file"));
                }
                longer = self.bytes(offset + RECORD as u64, len as u64)?;
                &longer[..]
            }
        };
        if crc32fast::hash(body) != sum {
            return Err(self.damaged(offset, "the checksum of a message is wrong"));
        }
        let mut from = Decoder(body);
        match from.message() {
            Ok(message) if from.is_empty() => Ok(message),
            Ok(_) => Err(self.damaged(offset, "something follows a message")),
            Err(error) => Err(self.damaged(offset, &format!("a message {error}"))),
        }
    }
}
