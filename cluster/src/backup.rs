//! Backups: the state of all groups at one point in one file, written while the store serves, and a directory made
//! from such a file.
//!
//! The file: magic, version, then pieces of kind (1), length (8), content, CRC-32 of all three: first the head (when
//! it was made, and the directory's `identity`), then one for each group (region, index, what the shard encoded) and
//! behind it the files of bodies that it refers to, in pieces (region, file, offset, bytes), last the end with the
//! number of pieces. Numbers are little endian.

use std::fs::{self, File, OpenOptions};
use std::io::{self, BufReader, BufWriter, Read, Write};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use nightjar_broker::Timestamp;
use nightjar_broker::shard::{RetainedShard, SessionShard};

use crate::bodies::{self, Source};
use crate::dir::{DataDir, Identity};
use crate::error::Error;
use crate::files::{DiskFiles, sync_dir};
use crate::frozen::FrozenGroup;
use crate::log::Groups;
use crate::mark::Mark;
use crate::meta::Meta;
use crate::snapshot;

const MAGIC: &[u8; 4] = b"NJBK";
const VERSION: u8 = 1;
const HEAD: u8 = 1;
const GROUP: u8 = 2;
const BODIES: u8 = 3;
const END: u8 = 255;
/// Files of bodies are copied in pieces of this size.
const PIECE: usize = 1 << 20;

/// The state of one group at the point of a backup.
#[derive(Debug)]
pub(crate) struct Part {
    pub group: u16,
    /// Index of the last entry in it, or of the one it stands in the middle of.
    pub index: u64,
    pub bytes: Vec<u8>,
    /// The files of bodies it refers to, as long as they were then.
    pub bodies: Vec<(u32, Source)>,
}

/// What a group gives for a [`Part`], under its lock.
#[derive(Debug)]
pub(crate) struct Cut {
    pub group: u16,
    pub index: u64,
    pub state: FrozenGroup,
    pub bodies: Vec<(u32, Source)>,
}

impl Cut {
    /// Encoded.
    pub fn into_part(self) -> Part {
        Part {
            group: self.group,
            index: self.index,
            bytes: self.state.into_parts().concat(),
            bodies: self.bodies,
        }
    }
}

/// What a backup holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Backup {
    /// The file.
    pub path: PathBuf,
    /// Its size in bytes.
    pub bytes: u64,
    /// When it was made.
    pub made: Timestamp,
    /// Whose data it is.
    pub identity: Identity,
    /// Durable sessions.
    pub sessions: usize,
    /// Messages in their queues.
    pub queued: usize,
    /// Retained messages.
    pub retained: usize,
    /// Named values of the meta group: users, bans, keys.
    pub values: usize,
}

/// Writes a backup: aside, and in its place only when it is whole and synced.
pub(crate) struct Writer {
    file: BufWriter<File>,
    aside: PathBuf,
    groups: Groups,
    pieces: u64,
    found: Backup,
}

impl Writer {
    pub fn create(
        path: &Path,
        identity: &Identity,
        groups: Groups,
        now: Timestamp,
    ) -> Result<Self, Error> {
        if path.exists() {
            let exists = io::Error::from(io::ErrorKind::AlreadyExists);
            return Err(Error::io(path, "a backup overwrites nothing")(exists));
        }
        let mut aside = path.as_os_str().to_owned();
        aside.push(".part");
        let aside = PathBuf::from(aside);
        let mut options = OpenOptions::new();
        options.write(true).create(true).truncate(true);
        // It holds messages and password hashes.
        #[cfg(unix)]
        std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
        let file = options
            .open(&aside)
            .map_err(Error::io(&aside, "cannot be made"))?;
        let mut writer = Self {
            file: BufWriter::with_capacity(1 << 20, file),
            aside,
            groups,
            pieces: 0,
            found: Backup {
                path: path.to_owned(),
                bytes: 0,
                made: now,
                identity: identity.clone(),
                sessions: 0,
                queued: 0,
                retained: 0,
                values: 0,
            },
        };
        let mut head = now.0.to_le_bytes().to_vec();
        head.extend_from_slice(identity.text().as_bytes());
        let mut start = MAGIC.to_vec();
        start.push(VERSION);
        writer.write(&start)?;
        writer.piece(HEAD, &[&head])?;
        Ok(writer)
    }

    fn write(&mut self, bytes: &[u8]) -> Result<(), Error> {
        self.found.bytes += bytes.len() as u64;
        self.file
            .write_all(bytes)
            .map_err(Error::io(&self.aside, "cannot be written"))
    }

    fn piece(&mut self, kind: u8, content: &[&[u8]]) -> Result<(), Error> {
        let len: usize = content.iter().map(|bytes| bytes.len()).sum();
        let mut sum = crc32fast::Hasher::new();
        let mut start = vec![kind];
        start.extend_from_slice(&(len as u64).to_le_bytes());
        for bytes in [&start[..]].iter().chain(content) {
            sum.update(bytes);
            self.write(bytes)?;
        }
        self.pieces += 1;
        self.write(&sum.finalize().to_le_bytes())
    }

    pub fn part(&mut self, part: &Part) -> Result<(), Error> {
        // What cannot be read again is found now, not when it is needed.
        count(&mut self.found, self.groups, part).map_err(|what| Error::Backup {
            path: self.aside.clone(),
            offset: self.found.bytes,
            what,
        })?;
        let mut head = (self.groups.region(part.group) as u16)
            .to_le_bytes()
            .to_vec();
        head.extend_from_slice(&part.index.max(1).to_le_bytes());
        self.piece(GROUP, &[&head, &part.bytes])?;
        let mut bytes = vec![0; PIECE];
        for (number, source) in &part.bodies {
            let mut at = 0;
            while at < source.len {
                let len = (source.len - at).min(PIECE as u64) as usize;
                source
                    .file
                    .read_exact_at(&mut bytes[..len], at)
                    .map_err(Error::io(&source.path, "cannot be read"))?;
                let mut head = (self.groups.region(part.group) as u16)
                    .to_le_bytes()
                    .to_vec();
                head.extend_from_slice(&number.to_le_bytes());
                head.extend_from_slice(&at.to_le_bytes());
                self.piece(BODIES, &[&head, &bytes[..len]])?;
                at += len as u64;
            }
        }
        Ok(())
    }

    pub fn finish(mut self) -> Result<Backup, Error> {
        let pieces = self.pieces;
        self.piece(END, &[&pieces.to_le_bytes()])?;
        let cannot = |what| Error::io(self.aside.clone(), what);
        self.file.flush().map_err(cannot("cannot be written"))?;
        self.file
            .get_ref()
            .sync_all()
            .map_err(cannot("cannot be synced"))?;
        let path = self.found.path.clone();
        fs::rename(&self.aside, &path).map_err(Error::io(&path, "cannot be put in place"))?;
        if let Some(dir) = path.parent().filter(|dir| !dir.as_os_str().is_empty()) {
            sync_dir(dir).map_err(Error::io(dir, "cannot be synced"))?;
        }
        Ok(self.found.clone())
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        // Nothing is there any more if it was finished.
        let _ = fs::remove_file(&self.aside);
    }
}

/// Adds what a part holds; says what is wrong with it.
fn count(found: &mut Backup, groups: Groups, part: &Part) -> Result<(), String> {
    let name = groups.name(part.group);
    let wrong = |error| format!("the state of {name} {error}");
    if part.group < groups.sessions {
        let shard = SessionShard::decode(&part.bytes).map_err(wrong)?;
        found.sessions += shard.sessions();
        found.queued += shard.queued();
    } else if part.group < groups.meta() {
        found.retained += RetainedShard::decode(&part.bytes).map_err(wrong)?.len();
    } else {
        found.values += Meta::decode(&part.bytes).map_err(wrong)?.0.len();
    }
    Ok(())
}

/// What a backup holds, one after the other.
enum Piece<'a> {
    /// The state of a group.
    Group(&'a Part),
    /// A piece of a file of bodies: region, number, offset, bytes.
    Bodies(u64, u32, u64, &'a [u8]),
}

/// Reads a backup from its beginning to its end; every part goes to `each`.
fn read(
    path: &Path,
    mut each: impl FnMut(Groups, Piece<'_>) -> Result<(), Error>,
) -> Result<Backup, Error> {
    let file = File::open(path).map_err(Error::io(path, "cannot be opened"))?;
    let size = file
        .metadata()
        .map_err(Error::io(path, "cannot be read"))?
        .len();
    let mut from = Pieces {
        file: BufReader::with_capacity(1 << 20, file),
        path,
        at: 0,
        size,
    };
    let start = from.take(MAGIC.len() + 1)?;
    if start[..4] != MAGIC[..] {
        return Err(from.wrong(0, "it does not begin as a backup of Nightjar does"));
    }
    if start[4] != VERSION {
        return Err(from.wrong(
            4,
            &format!(
                "it is of format {}; this program reads format {VERSION}",
                start[4]
            ),
        ));
    }
    let (kind, head) = from.piece()?;
    let text = head
        .split_at_checked(8)
        .and_then(|(at, text)| Some((at.try_into().ok()?, std::str::from_utf8(text).ok()?)));
    let (Some((made, text)), HEAD) = (text, kind) else {
        return Err(from.wrong(5, "its head makes no sense"));
    };
    let identity = Identity::parse(path, text)?;
    let groups = Groups {
        sessions: identity.session_groups,
        retained: identity.retained_groups,
    };
    let mut found = Backup {
        path: path.to_owned(),
        bytes: size,
        made: Timestamp(u64::from_le_bytes(made)),
        identity,
        sessions: 0,
        queued: 0,
        retained: 0,
        values: 0,
    };
    let mut seen = vec![false; groups.count()];
    let mut pieces = 1u64;
    loop {
        let begin = from.at;
        let (kind, mut content) = from.piece()?;
        if kind == END {
            if content[..] != pieces.to_le_bytes()[..] || seen.contains(&false) {
                return Err(from.wrong(begin, "parts of it are missing"));
            }
            break;
        }
        pieces += 1;
        if kind == BODIES && content.len() > 14 {
            let number = |from: usize, to: usize| {
                let bytes = content[from..to].iter().rev();
                bytes.fold(0u64, |number, byte| number << 8 | u64::from(*byte))
            };
            let piece = Piece::Bodies(
                number(0, 2),
                number(2, 6) as u32,
                number(6, 14),
                &content[14..],
            );
            each(groups, piece)?;
            continue;
        }
        if kind != GROUP || content.len() < 10 {
            return Err(from.wrong(begin, "a part of an unknown kind"));
        }
        let region = u64::from(u16::from_le_bytes([content[0], content[1]]));
        let index = content[2..10].iter().rev();
        let index = index.fold(0u64, |index, byte| index << 8 | u64::from(*byte));
        let group = (0..groups.count() as u16)
            .find(|group| groups.region(*group) == region)
            .filter(|group| !std::mem::replace(&mut seen[usize::from(*group)], true));
        let Some(group) = group else {
            return Err(from.wrong(begin, "a part of a group that it should not have"));
        };
        content.drain(..10);
        let part = Part {
            group,
            index,
            bytes: content,
            bodies: Vec::new(),
        };
        count(&mut found, groups, &part).map_err(|what| from.wrong(begin, &what))?;
        each(groups, Piece::Group(&part))?;
    }
    if from.at != size {
        return Err(from.wrong(from.at, "something follows its end"));
    }
    Ok(found)
}

struct Pieces<'a> {
    file: BufReader<File>,
    path: &'a Path,
    at: u64,
    size: u64,
}

impl Pieces<'_> {
    fn wrong(&self, offset: u64, what: &str) -> Error {
        Error::Backup {
            path: self.path.to_owned(),
            offset,
            what: what.to_owned(),
        }
    }

    fn take(&mut self, len: usize) -> Result<Vec<u8>, Error> {
        if len as u64 > self.size - self.at {
            return Err(self.wrong(self.at, "it ends too early"));
        }
        let mut bytes = vec![0; len];
        self.file
            .read_exact(&mut bytes)
            .map_err(Error::io(self.path, "cannot be read"))?;
        self.at += len as u64;
        Ok(bytes)
    }

    fn piece(&mut self) -> Result<(u8, Vec<u8>), Error> {
        let begin = self.at;
        let start = self.take(9)?;
        let len = start[1..].iter().rev();
        let len = len.fold(0u64, |len, byte| len << 8 | u64::from(*byte));
        let len =
            usize::try_from(len).map_err(|_| self.wrong(begin, "its length makes no sense"))?;
        let content = self.take(len)?;
        let sum = self.take(4)?;
        let mut hasher = crc32fast::Hasher::new();
        hasher.update(&start);
        hasher.update(&content);
        if hasher.finalize().to_le_bytes()[..] != sum[..] {
            return Err(self.wrong(begin, "a checksum is wrong"));
        }
        Ok((start[0], content))
    }
}

/// Reads a whole backup and says what it holds.
///
/// # Errors
/// It cannot be read, is damaged or of a newer format; file and offset are named.
pub fn inspect(path: &Path) -> Result<Backup, Error> {
    read(path, |_, _| Ok(()))
}

/// What a restore may do.
#[derive(Debug, Clone, Default)]
pub struct RestoreOptions {
    /// Name of the node that will run on the directory: a backup of another one is refused.
    pub node: String,
    /// Give that name to the data, whichever node it was of.
    pub rename: bool,
    /// Replace the data that stands in the directory; it is moved aside.
    pub replace: bool,
}

/// What a restore did.
#[derive(Debug, Clone)]
pub struct Restored {
    /// What the backup holds.
    pub backup: Backup,
    /// Where the data went that stood there before.
    pub aside: Option<PathBuf>,
}

/// Makes a data directory from a backup. The whole backup is checked first; the directory appears whole or not at
/// all.
///
/// # Errors
/// The backup is damaged, of another node (but see [`RestoreOptions::rename`]) or, if data stands there, of another
/// cluster; the directory is in use, holds something else, or data and may not be replaced. Nothing is changed then.
pub fn restore(file: &Path, dir: &Path, options: &RestoreOptions) -> Result<Restored, Error> {
    let backup = inspect(file)?;
    let foreign = |what, found: &str, expected: &str| Error::Foreign {
        dir: file.to_owned(),
        what,
        found: found.to_owned(),
        expected: expected.to_owned(),
    };
    if backup.identity.node != options.node && !options.rename {
        return Err(foreign("node", &backup.identity.node, &options.node));
    }
    // Held until the end: no node starts on it meanwhile.
    let mut old = None;
    if dir.exists() {
        if let Some(found) = Identity::read(dir)? {
            let locked = DataDir::open(dir, &found, None, &DiskFiles)?;
            if found.cluster != backup.identity.cluster {
                return Err(foreign("cluster", &backup.identity.cluster, &found.cluster));
            }
            if !options.replace {
                return Err(Error::Occupied {
                    dir: dir.to_owned(),
                    node: found.node,
                });
            }
            old = Some(locked);
        } else {
            crate::dir::refuse_foreign(dir)?;
        }
    }
    let fresh = beside(dir, "restoring");
    if fresh.exists() {
        fs::remove_dir_all(&fresh).map_err(Error::io(&fresh, "cannot be removed"))?;
    }
    fill(file, &fresh, &backup, options)?;
    let mut aside = None;
    if old.is_some() {
        let path = (0..)
            .map(|number| beside(dir, &format!("before-restore-{number}")))
            .find(|path| !path.exists())
            .expect("there is always another number");
        fs::rename(dir, &path).map_err(Error::io(dir, "cannot be moved aside"))?;
        aside = Some(path);
    } else if dir.exists() {
        fs::remove_dir_all(dir).map_err(Error::io(dir, "cannot be removed"))?;
    }
    fs::rename(&fresh, dir).map_err(Error::io(&fresh, "cannot be put in place"))?;
    if let Some(parent) = dir.parent().filter(|dir| !dir.as_os_str().is_empty()) {
        sync_dir(parent).map_err(Error::io(parent, "cannot be synced"))?;
    }
    Ok(Restored { backup, aside })
}

/// A name beside the directory.
fn beside(dir: &Path, suffix: &str) -> PathBuf {
    let mut name = dir.file_name().unwrap_or_default().to_owned();
    name.push(".");
    name.push(suffix);
    dir.with_file_name(name)
}

/// Writes a directory as a clean end leaves it: snapshots of all groups, a mark that knows them, an empty log.
fn fill(file: &Path, dir: &Path, backup: &Backup, options: &RestoreOptions) -> Result<(), Error> {
    let snapshots = dir.join("snapshots");
    let bodies = dir.join(bodies::DIR);
    for sub in [dir.join("log"), snapshots.clone(), bodies.clone()] {
        fs::create_dir_all(&sub).map_err(Error::io(sub, "cannot be created"))?;
    }
    let mut mark = Mark {
        alive: backup.made,
        ..Mark::default()
    };
    let mut open: Option<(PathBuf, File)> = None;
    read(file, |groups, piece| {
        let part = match piece {
            Piece::Group(part) => part,
            Piece::Bodies(region, number, offset, bytes) => {
                let path = bodies.join(bodies::file_name(region, number));
                return copy_piece(&mut open, path, offset, bytes);
            }
        };
        mark.indexes.resize(groups.count(), 0);
        mark.indexes[usize::from(part.group)] = part.index;
        snapshot::write(
            &snapshots,
            &DiskFiles,
            groups,
            part.group,
            part.index,
            &[&part.bytes],
        )
    })?;
    close_piece(&mut open)?;
    mark.write(&dir.join("mark"), &DiskFiles, true)?;
    let mut identity = backup.identity.clone();
    options.node.clone_into(&mut identity.node);
    identity.write(dir, &DiskFiles)?;
    for path in [dir.join("log"), bodies, dir.to_owned()] {
        sync_dir(&path).map_err(Error::io(path, "cannot be synced"))?;
    }
    Ok(())
}

/// Writes a piece of a file of bodies; a file that is done is synced.
fn copy_piece(
    open: &mut Option<(PathBuf, File)>,
    path: PathBuf,
    offset: u64,
    bytes: &[u8],
) -> Result<(), Error> {
    if open.as_ref().is_none_or(|(have, _)| *have != path) {
        close_piece(open)?;
        let file = File::create(&path).map_err(Error::io(&path, "cannot be made"))?;
        *open = Some((path, file));
    }
    if let Some((path, file)) = open {
        file.write_all_at(bytes, offset)
            .map_err(Error::io(&*path, "cannot be written"))?;
    }
    Ok(())
}

fn close_piece(open: &mut Option<(PathBuf, File)>) -> Result<(), Error> {
    match open.take() {
        Some((path, file)) => file.sync_all().map_err(Error::io(path, "cannot be synced")),
        None => Ok(()),
    }
}
