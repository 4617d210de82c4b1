//! Snapshots of the whole replicated state: the nodes, then every group.

use std::io;
use std::path::{Path, PathBuf};

use bytes::Bytes;
use nightjar_broker::shard::{RetainedShard, SessionShard};

use super::SnapshotMeta;
use crate::error::Error;
use crate::files::Files;
use crate::inner::Core;
use crate::member::Nodes;
use crate::meta::Meta;

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

/// Encodes the state of this node. The caller is the only one who applies entries.
pub(super) fn encode(core: &Core, nodes: &Nodes) -> io::Result<Bytes> {
    let mut out = vec![CONTENT];
    let mut piece = |bytes: &[u8]| {
        out.extend_from_slice(&(bytes.len() as u64).to_le_bytes());
        out.extend_from_slice(bytes);
    };
    piece(&postcard::to_allocvec(nodes).map_err(io::Error::other)?);
    piece(&core.groups.sessions.to_le_bytes());
    let mut bytes = Vec::new();
    for group in 0..core.groups.count() as u16 {
        bytes.clear();
        core.encode_group(group, &mut bytes);
        piece(&bytes);
    }
    Ok(Bytes::from(out))
}

/// Reads what [`encode`] wrote.
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
    let meta = postcard::to_allocvec(meta).map_err(io::Error::other)?;
    let mut bytes = Vec::with_capacity(HEAD + meta.len() + data.len() + 4);
    bytes.extend_from_slice(MAGIC);
    bytes.push(VERSION);
    bytes.extend_from_slice(&(meta.len() as u32).to_le_bytes());
    bytes.extend_from_slice(&meta);
    bytes.extend_from_slice(data);
    let sum = crc32fast::hash(&bytes);
    bytes.extend_from_slice(&sum.to_le_bytes());
    let path = path(dir);
    files.replace(&path, &bytes).map_err(|error| {
        let said = format!("{} cannot be written: {error}", path.display());
        io::Error::new(error.kind(), said)
    })
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
