//! What the gateway keeps with a session, so that it is there after a restart and on another node: topic ids, the offset of
//! MsgIds, what was on the air.
//!
//! The octets are a log of small changes behind a version; now and then it is written anew.

use nightjar_mqtt::TopicName;

use super::live::Air;
use super::topics::Topics;

const VERSION: u8 = 1;
const HEAD: u8 = b'H';
const TOPIC: u8 = b'T';
const GONE: u8 = b'X';
const AIR: u8 = b'A';
const UNSURE: u8 = b'U';

/// What was found.
#[derive(Debug)]
pub(super) struct Kept {
    pub offset: u16,
    pub clean: bool,
    pub topics: Topics,
    /// What was on the air when the connection ended, if it could say so.
    pub air: Air,
}

impl Kept {
    pub fn new(offset: u16, clean: bool) -> Self {
        Self {
            offset,
            clean,
            topics: Topics::default(),
            air: Air::Known(None),
        }
    }
}

/// The head: always first.
pub(super) fn head(out: &mut Vec<u8>, offset: u16, clean: bool) {
    out.extend_from_slice(&[VERSION, HEAD]);
    out.extend_from_slice(&offset.to_be_bytes());
    out.push(u8::from(clean));
}

pub(super) fn topic(out: &mut Vec<u8>, id: u16, name: &str) {
    out.push(TOPIC);
    out.extend_from_slice(&id.to_be_bytes());
    let len = u16::try_from(name.len()).expect("a topic name has at most 65,535 octets");
    out.extend_from_slice(&len.to_be_bytes());
    out.extend_from_slice(name.as_bytes());
}

pub(super) fn gone(out: &mut Vec<u8>, id: u16) {
    out.push(GONE);
    out.extend_from_slice(&id.to_be_bytes());
}

pub(super) fn air(out: &mut Vec<u8>, air: Air) {
    match air {
        Air::Unknown => out.push(UNSURE),
        Air::Known(packet_id) => {
            out.push(AIR);
            out.extend_from_slice(&packet_id.unwrap_or(0).to_be_bytes());
        }
    }
}

/// Everything anew.
pub(super) fn whole(offset: u16, clean: bool, topics: &Topics, now: Air) -> Vec<u8> {
    let mut out = Vec::new();
    head(&mut out, offset, clean);
    for (id, name) in topics.iter() {
        topic(&mut out, id, name);
    }
    if now != Air::Known(None) {
        air(&mut out, now);
    }
    out
}

/// Reads the octets; `None` if there are none, or of another version: then the client's topics are unknown and it is told
/// so, id by id.
pub(super) fn read(octets: &[u8]) -> Option<Kept> {
    let [VERSION, HEAD, o0, o1, clean, rest @ ..] = octets else {
        return None;
    };
    let mut kept = Kept::new(u16::from_be_bytes([*o0, *o1]), *clean != 0);
    let mut rest = rest;
    loop {
        match rest {
            [TOPIC, i0, i1, l0, l1, tail @ ..] => {
                let len = usize::from(u16::from_be_bytes([*l0, *l1]));
                let (name, tail) = tail.split_at_checked(len)?;
                let name = TopicName::new(std::str::from_utf8(name).ok()?).ok()?;
                kept.topics.restore(u16::from_be_bytes([*i0, *i1]), name);
                rest = tail;
            }
            [GONE, i0, i1, tail @ ..] => {
                kept.topics.remove(u16::from_be_bytes([*i0, *i1]));
                rest = tail;
            }
            [AIR, p0, p1, tail @ ..] => {
                let id = u16::from_be_bytes([*p0, *p1]);
                kept.air = Air::Known((id != 0).then_some(id));
                rest = tail;
            }
            [UNSURE, tail @ ..] => {
                kept.air = Air::Unknown;
                rest = tail;
            }
            [] => return Some(kept),
            _ => return None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn changes_read_back_as_one_state() {
        let mut octets = Vec::new();
        head(&mut octets, 500, true);
        topic(&mut octets, 1, "a/b");
        topic(&mut octets, 2, "c");
        gone(&mut octets, 1);
        air(&mut octets, Air::Known(Some(9)));
        air(&mut octets, Air::Unknown);
        air(&mut octets, Air::Known(None));
        topic(&mut octets, 7, "a/b");
        let kept = read(&octets).unwrap();
        assert_eq!(
            (kept.offset, kept.clean, kept.air),
            (500, true, Air::Known(None))
        );
        let topics: Vec<_> = kept
            .topics
            .iter()
            .map(|(id, name)| (id, name.as_str()))
            .collect();
        assert_eq!(topics, [(2, "c"), (7, "a/b")]);
        for now in [Air::Known(Some(3)), Air::Unknown] {
            let kept = read(&whole(500, true, &kept.topics, now)).unwrap();
            assert_eq!((kept.air, kept.topics.len()), (now, 2));
        }
        let again = whole(500, true, &kept.topics, Air::Known(Some(3)));
        for end in 0..again.len() {
            // Damage is never a panic.
            let _ = read(&again[..end]);
        }
        assert!(read(&[2, HEAD, 0, 0, 0]).is_none());
    }
}
