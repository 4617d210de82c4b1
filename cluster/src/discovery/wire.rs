//! Questions and answers of DNS ([RFC 1035] section 4, SRV: [RFC 2782]), as far as finding nodes needs them.
//!
//! [RFC 1035]: https://www.rfc-editor.org/rfc/rfc1035
//! [RFC 2782]: https://www.rfc-editor.org/rfc/rfc2782

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// Kinds of records.
pub(super) const A: u16 = 1;
pub(super) const AAAA: u16 = 28;
pub(super) const SRV: u16 = 33;
const OPT: u16 = 41;
const INTERNET: u16 = 1;
/// Octets of an answer over UDP that this side takes: what crosses most networks in one piece.
pub(super) const UDP: usize = 1232;
/// The longest name, in octets.
const NAME: usize = 255;

/// What was found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Record {
    Address(IpAddr),
    Service { port: u16, target: String },
}

/// An answer that fits the question.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Answer {
    /// The server cut it: the same over TCP is whole.
    pub cut: bool,
    /// 0: no error, 3: there is no such name.
    pub code: u8,
    pub records: Vec<Record>,
}

/// A question.
pub(super) fn question(id: u16, name: &str, kind: u16) -> Result<Vec<u8>, String> {
    let mut out = id.to_be_bytes().to_vec();
    // Recursion desired; one question, one additional record.
    out.extend_from_slice(&[1, 0, 0, 1, 0, 0, 0, 0, 0, 1]);
    let begin = out.len();
    for label in name.trim_end_matches('.').split('.') {
        if label.is_empty() || label.len() > 63 || !label.is_ascii() {
            return Err(format!("{name:?} is not a name that DNS knows"));
        }
        out.push(label.len() as u8);
        out.extend_from_slice(label.as_bytes());
    }
    out.push(0);
    if out.len() - begin > NAME {
        return Err(format!("{name:?} is longer than a name of DNS may be"));
    }
    out.extend_from_slice(&kind.to_be_bytes());
    out.extend_from_slice(&INTERNET.to_be_bytes());
    // EDNS(0), RFC 6891: root, OPT, size, nothing else.
    out.push(0);
    out.extend_from_slice(&OPT.to_be_bytes());
    out.extend_from_slice(&(UDP as u16).to_be_bytes());
    out.extend_from_slice(&[0; 6]);
    Ok(out)
}

struct Reader<'a> {
    all: &'a [u8],
    at: usize,
}

impl<'a> Reader<'a> {
    fn take(&mut self, len: usize) -> Option<&'a [u8]> {
        let bytes = self.all.get(self.at..self.at.checked_add(len)?)?;
        self.at += len;
        Some(bytes)
    }

    fn u8(&mut self) -> Option<u8> {
        self.take(1).map(|bytes| bytes[0])
    }

    fn u16(&mut self) -> Option<u16> {
        self.take(2)
            .map(|bytes| u16::from_be_bytes([bytes[0], bytes[1]]))
    }

    /// A name, lower case, without the last dot.
    fn name(&mut self) -> Option<String> {
        let mut name = String::new();
        let mut back = None;
        let mut jumps = 0;
        loop {
            let len = self.u8()?;
            match len {
                0 => break,
                1..=63 => {
                    let label = self.take(usize::from(len))?;
                    if !name.is_empty() {
                        name.push('.');
                    }
                    for byte in label {
                        // What is no text of a host is shown as what it is not.
                        let c = if byte.is_ascii_graphic() { *byte } else { b'?' };
                        name.push(char::from(c.to_ascii_lowercase()));
                    }
                    if name.len() > NAME {
                        return None;
                    }
                }
                192.. => {
                    let low = self.u8()?;
                    back.get_or_insert(self.at);
                    jumps += 1;
                    if jumps > 32 {
                        return None;
                    }
                    self.at = usize::from(len & 63) << 8 | usize::from(low);
                }
                _ => return None,
            }
        }
        if let Some(back) = back {
            self.at = back;
        }
        Some(name)
    }
}

/// Reads an answer. `None`: not one to this question, or none at all.
pub(super) fn answer(bytes: &[u8], id: u16, name: &str, kind: u16) -> Option<Answer> {
    let mut from = Reader { all: bytes, at: 0 };
    let (found, flags) = (from.u16()?, from.u16()?);
    let (questions, answers) = (from.u16()?, from.u16()?);
    from.take(4)?;
    if found != id || flags & 0x8000 == 0 || questions != 1 {
        return None;
    }
    let asked = from.name()?;
    if asked != name.trim_end_matches('.').to_ascii_lowercase()
        || from.u16()? != kind
        || from.u16()? != INTERNET
    {
        return None;
    }
    let mut records = Vec::new();
    let cut = flags & 0x0200 != 0;
    for _ in 0..answers {
        match record(&mut from, kind) {
            Some(found) => records.extend(found),
            // What a cut answer leaves out comes over TCP.
            None if cut => break,
            None => return None,
        }
    }
    Some(Answer {
        cut,
        code: (flags & 15) as u8,
        records,
    })
}

/// One record; the inner `None` is one of another kind, such as the CNAME on the way.
fn record(from: &mut Reader<'_>, kind: u16) -> Option<Option<Record>> {
    from.name()?;
    let (found, class) = (from.u16()?, from.u16()?);
    from.take(4)?;
    let len = usize::from(from.u16()?);
    let end = from.at.checked_add(len)?;
    if end > from.all.len() {
        return None;
    }
    let record = match (found, class, len) {
        (A, INTERNET, 4) if kind == A => {
            let octets: [u8; 4] = from.take(4)?.try_into().ok()?;
            Some(Record::Address(Ipv4Addr::from(octets).into()))
        }
        (AAAA, INTERNET, 16) if kind == AAAA => {
            let octets: [u8; 16] = from.take(16)?.try_into().ok()?;
            Some(Record::Address(Ipv6Addr::from(octets).into()))
        }
        (SRV, INTERNET, 7..) if kind == SRV => {
            // Priority and weight mean nothing here: every node is asked.
            from.take(4)?;
            let port = from.u16()?;
            let target = from.name()?;
            (!target.is_empty()).then_some(Record::Service { port, target })
        }
        _ => None,
    };
    from.at = end;
    Some(record)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// An answer with a pointer to the question's name, as servers write it.
    fn reply(question: &[u8], flags: u16, records: &[(u16, Vec<u8>)]) -> Vec<u8> {
        let mut out = question[..2].to_vec();
        out.extend_from_slice(&flags.to_be_bytes());
        out.extend_from_slice(&[0, 1]);
        out.extend_from_slice(&(records.len() as u16).to_be_bytes());
        out.extend_from_slice(&[0, 0, 0, 0]);
        out.extend_from_slice(&question[12..question.len() - 11]);
        for (kind, data) in records {
            out.extend_from_slice(&[0xC0, 12]);
            out.extend_from_slice(&kind.to_be_bytes());
            out.extend_from_slice(&[0, 1, 0, 0, 0, 5]);
            out.extend_from_slice(&(data.len() as u16).to_be_bytes());
            out.extend_from_slice(data);
        }
        out
    }

    #[test]
    fn addresses_and_services_are_read_and_others_passed_over() {
        let asked = question(7, "Nodes.example.", A).unwrap();
        let bytes = reply(
            &asked,
            0x8180,
            &[(5, vec![0xC0, 12]), (A, vec![10, 0, 0, 1])],
        );
        let found = answer(&bytes, 7, "nodes.example", A).unwrap();
        assert_eq!(
            found.records,
            [Record::Address("10.0.0.1".parse().unwrap())]
        );
        assert_eq!((found.cut, found.code), (false, 0));
        assert_eq!(answer(&bytes, 8, "nodes.example", A), None, "another id");
        assert_eq!(answer(&bytes, 7, "other.example", A), None, "another name");
        assert_eq!(answer(&asked, 7, "nodes.example", A), None, "a question");
        let asked = question(7, "_nightjar._tcp.example", SRV).unwrap();
        let mut data = vec![0, 0, 0, 0, 0x14, 0xF9, 2];
        data.extend_from_slice(b"n1\xC0\x1b");
        let bytes = reply(&asked, 0x8380, &[(SRV, data)]);
        let found = answer(&bytes, 7, "_nightjar._tcp.example", SRV).unwrap();
        let service = Record::Service {
            port: 5369,
            target: "n1.example".to_owned(),
        };
        assert_eq!(found.records, [service]);
        assert!(found.cut);
    }

    #[test]
    fn a_name_that_points_at_itself_ends() {
        let asked = question(1, "a", A).unwrap();
        let mut bytes = reply(&asked, 0x8180, &[(A, vec![1, 2, 3, 4])]);
        let at = bytes.len() - 16;
        bytes[at..at + 2].copy_from_slice(&[0xC0, at as u8]);
        assert_eq!(answer(&bytes, 1, "a", A), None);
    }

    #[test]
    fn names_that_are_none_are_refused() {
        for name in [
            "",
            ".",
            "a..b",
            &"x".repeat(64),
            &"x.".repeat(130),
            "ö.example",
        ] {
            assert!(question(1, name, A).is_err(), "{name:?}");
        }
    }

    proptest! {
        #[test]
        fn no_octets_end_the_reader(mut bytes in proptest::collection::vec(any::<u8>(), 0..300), cut in any::<bool>()) {
            let asked = question(7, "a.b", SRV).unwrap();
            if cut && bytes.len() > asked.len() {
                bytes[..asked.len() - 11].copy_from_slice(&asked[..asked.len() - 11]);
                bytes[2] |= 0x80;
            }
            let _ = answer(&bytes, 7, "a.b", SRV);
        }
    }
}
