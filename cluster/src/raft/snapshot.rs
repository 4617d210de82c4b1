//! Snapshots of the whole replicated state: the nodes, then every group.

use std::io::{self, Write};
use std::path::{Path, PathBuf};

use bytes::Bytes;
use nightjar_broker::shard::{RetainedShard, SessionShard};

use super::SnapshotMeta;
use crate::error::Error;
use crate::files::Files;
use crate::frozen::FrozenGroup;
use crate::inner::Core;
use crate::member::Nodes;
use crate::meta::Meta;
use crate::snapshot::Summed;

const MAGIC: &[u8; 4] = b"NJRS";
const VERSION: u8 = 1;
/// Version of what a snapshot holds: 2 has the version of the protocol that the cluster uses.
const CONTENT: u8 = 2;
/// Magic, version, length of the meta data.
const HEAD: usize = 4 + 1 + 4;

pub(super) fn path(dir: &Path) -> PathBuf {
    dir.join("snapshot")
}

/// Everything that is replicated.
pub(crate) struct State {
    pub nodes: Nodes,
    pub sessions: Vec<SessionShard>,
    pub retained: Vec<RetainedShard>,
    pub meta: Meta,
}

/// Everything that is replicated, as it was at one entry of the log.
pub(super) struct FrozenState {
    nodes: Vec<u8>,
    sessions: u16,
    groups: Vec<FrozenGroup>,
}

impl FrozenState {
    /// The state of this node now. The caller is the only one who applies entries.
    pub fn of(core: &Core, nodes: &Nodes) -> io::Result<Self> {
        Ok(Self {
            nodes: postcard::to_allocvec(nodes).map_err(io::Error::other)?,
            sessions: core.groups.sessions,
            groups: core.freeze(),
        })
    }

    /// Writes it group by group: what is written is let go of. Before each `goes_on` is asked. How many bytes it took.
    fn write(
        &mut self,
        out: &mut Summed<'_>,
        goes_on: &dyn Fn() -> io::Result<()>,
    ) -> io::Result<u64> {
        let mut written = 1;
        let mut piece = |parts: &[Vec<u8>]| {
            goes_on()?;
            let len: usize = parts.iter().map(Vec::len).sum();
            written += 8 + len as u64;
            out.write_all(&(len as u64).to_le_bytes())?;
            let mut pieces = parts.iter().flat_map(|part| part.chunks(1 << 20));
            pieces.try_for_each(|piece| {
                goes_on()?;
                out.write_all(piece)
            })
        };
        piece(&[std::mem::take(&mut self.nodes)])?;
        piece(&[self.sessions.to_le_bytes().to_vec()])?;
        for group in self.groups.drain(..) {
            piece(&group.into_parts())?;
        }
        Ok(written)
    }
}

/// Reads what [`FrozenState::write`] wrote behind the version.
pub(super) fn decode(bytes: &[u8]) -> io::Result<State> {
    let bad = |what: String| io::Error::new(io::ErrorKind::InvalidData, what);
    let (&version, mut rest) = bytes
        .split_first()
        .ok_or_else(|| bad("the snapshot is empty".to_owned()))?;
    if !(1..=CONTENT).contains(&version) {
        return Err(bad(format!(
            "the snapshot is of version {version}; this program reads 1 to {CONTENT}"
        )));
    }
    let mut pieces = Vec::new();
    while let Some((len, behind)) = rest.split_at_checked(8) {
        let len = u64::from_le_bytes(len.try_into().map_err(io::Error::other)?);
        let (piece, behind) = usize::try_from(len)
            .ok()
            .and_then(|len| behind.split_at_checked(len))
            .ok_or_else(|| bad("the snapshot ends too early".to_owned()))?;
        pieces.push(piece);
        rest = behind;
    }
    let mut pieces = pieces.into_iter();
    let mut next = || {
        pieces
            .next()
            .ok_or_else(|| bad("the snapshot ends too early".to_owned()))
    };
    let mut nodes = next()?.to_vec();
    if version == 1 {
        // The version in use was not there: 0 stands for the first one.
        nodes.push(0);
    }
    let nodes = postcard::from_bytes(&nodes).map_err(io::Error::other)?;
    let count = u16::from_le_bytes(next()?.try_into().map_err(io::Error::other)?);
    let sessions = (0..count)
        .map(|_| SessionShard::decode(next()?).map_err(io::Error::other))
        .collect::<io::Result<Vec<_>>>()?;
    let mut left: Vec<&[u8]> = pieces.collect();
    let meta = left
        .pop()
        .ok_or_else(|| bad("the snapshot ends too early".to_owned()))?;
    let retained = left
        .into_iter()
        .map(|bytes| RetainedShard::decode(bytes).map_err(io::Error::other))
        .collect::<io::Result<Vec<_>>>()?;
    Ok(State {
        nodes,
        sessions,
        retained,
        meta: Meta::decode(meta).map_err(io::Error::other)?,
    })
}

/// Puts a snapshot in the place of the last one, synced.
pub(super) fn write(
    dir: &Path,
    files: &dyn Files,
    meta: &SnapshotMeta,
    data: &[u8],
) -> io::Result<()> {
    put(dir, files, meta, &mut |to| to.write_all(data))
}

/// As [`write`], of a state that is encoded meanwhile; the size of it. `goes_on` is asked often.
pub(super) fn write_frozen(
    dir: &Path,
    files: &dyn Files,
    meta: &SnapshotMeta,
    mut state: FrozenState,
    goes_on: &dyn Fn() -> io::Result<()>,
) -> io::Result<u64> {
    let mut written = 0;
    put(dir, files, meta, &mut |to| {
        to.write_all(&[CONTENT])?;
        written = state.write(to, goes_on)?;
        Ok(())
    })?;
    Ok(written)
}

fn put(
    dir: &Path,
    files: &dyn Files,
    meta: &SnapshotMeta,
    data: &mut dyn FnMut(&mut Summed<'_>) -> io::Result<()>,
) -> io::Result<()> {
    let meta = postcard::to_allocvec(meta).map_err(io::Error::other)?;
    let mut head = Vec::with_capacity(HEAD + meta.len());
    head.extend_from_slice(MAGIC);
    head.push(VERSION);
    head.extend_from_slice(&(meta.len() as u32).to_le_bytes());
    head.extend_from_slice(&meta);
    let path = path(dir);
    let mut fill = |to: &mut dyn Write| {
        let mut to = Summed::new(to);
        to.write_all(&head)?;
        data(&mut to)?;
        to.finish()
    };
    files.replace_by(&path, &mut fill).map_err(|error| {
        let said = format!("{} cannot be written: {error}", path.display());
        io::Error::new(error.kind(), said)
    })
}

/// Bytes of the snapshot in a directory; 0: there is none.
pub(crate) fn size(dir: &Path) -> u64 {
    std::fs::metadata(path(dir)).map_or(0, |file| file.len())
}

/// The snapshot in a directory, if there is one.
pub(super) fn read(dir: &Path) -> io::Result<Option<(SnapshotMeta, Bytes)>> {
    let path = path(dir);
    let bytes = match std::fs::read(&path) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error),
    };
    let bad = |what: &str| {
        io::Error::new(
            io::ErrorKind::InvalidData,
            format!("{}: {what}", path.display()),
        )
    };
    let body = bytes.len().checked_sub(4).ok_or_else(|| bad("too short"))?;
    if crc32fast::hash(&bytes[..body]).to_le_bytes()[..] != bytes[body..] {
        return Err(bad("the checksum of the snapshot is wrong"));
    }
    if bytes.get(..4) != Some(&MAGIC[..]) || bytes.get(4) != Some(&VERSION) {
        return Err(bad("not a snapshot that this program reads"));
    }
    let len = bytes
        .get(5..HEAD)
        .and_then(|len| len.try_into().ok())
        .map_or(0, u32::from_le_bytes) as usize;
    let meta = bytes[..body]
        .get(HEAD..HEAD + len)
        .ok_or_else(|| bad("too short"))?;
    let meta = postcard::from_bytes(meta).map_err(|error| bad(&error.to_string()))?;
    let data = Bytes::from(bytes).slice(HEAD + len..body);
    Ok(Some((meta, data)))
}

/// The state in the snapshot of a directory, and what it stands for.
pub(crate) fn load(dir: &Path) -> Result<Option<(SnapshotMeta, State)>, Error> {
    let error = |error| Error::io(path(dir), "cannot be read")(error);
    let Some((meta, data)) = read(dir).map_err(error)? else {
        return Ok(None);
    };
    let state = decode(&data).map_err(|error| Error::io(path(dir), "cannot be read")(error))?;
    Ok(Some((meta, state)))
}
