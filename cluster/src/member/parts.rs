//! The body of a proposal: entries by group.

use bytes::Bytes;

use crate::member::NodeEntry;

/// In the place of a group: an entry about nodes.
pub(crate) const NODES: u16 = u16::MAX;

/// Appends the entries of one group; `bytes` begin with their format.
pub(crate) fn put(out: &mut Vec<u8>, group: u16, bytes: &[u8]) {
    out.extend_from_slice(&group.to_le_bytes());
    out.extend_from_slice(&(bytes.len() as u32).to_le_bytes());
    out.extend_from_slice(bytes);
}

/// A body with one entry about nodes.
pub(crate) fn of_nodes(entry: &NodeEntry) -> Bytes {
    let mut out = Vec::new();
    let bytes = postcard::to_allocvec(entry).expect("plain data of small size is always encoded");
    put(&mut out, NODES, &bytes);
    Bytes::from(out)
}

/// The parts of a body; `None` in the place of what is cut off.
pub(crate) fn parts(mut body: &[u8]) -> impl Iterator<Item = Option<(u16, &[u8])>> {
    std::iter::from_fn(move || {
        if body.is_empty() {
            return None;
        }
        let part = body.split_at_checked(6).and_then(|(head, rest)| {
            let group = u16::from_le_bytes([head[0], head[1]]);
            let len = u32::from_le_bytes([head[2], head[3], head[4], head[5]]) as usize;
            let (bytes, rest) = rest.split_at_checked(len)?;
            Some((group, bytes, rest))
        });
        let Some((group, bytes, rest)) = part else {
            body = &[];
            return Some(None);
        };
        body = rest;
        Some(Some((group, bytes)))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_come_back_as_put_and_a_cut_is_seen() {
        let mut out = Vec::new();
        put(&mut out, 3, b"abc");
        put(&mut out, NODES, b"");
        let found: Vec<_> = parts(&out).collect();
        assert_eq!(found, [Some((3, &b"abc"[..])), Some((NODES, &b""[..]))]);
        for at in 1..out.len() {
            let cut: Vec<_> = parts(&out[..at]).collect();
            assert!(at == 9 || cut.last() == Some(&None), "cut at {at}: {cut:?}");
        }
    }
}
