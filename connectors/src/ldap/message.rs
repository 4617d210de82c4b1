//! LDAP messages (RFC 4511): the questions that are asked, and their answers.

use super::ber::{self, Reader, Wrong};

/// The longest answer: an entry with the few attributes that are asked for.
pub(super) const MAX_MESSAGE: usize = 1 << 20;

const BIND: u8 = 0x60;
const BIND_ANSWER: u8 = 0x61;
const SEARCH: u8 = 0x63;
const ENTRY: u8 = 0x64;
const SEARCH_DONE: u8 = 0x65;
const REFERENCE: u8 = 0x73;
const EXTENDED: u8 = 0x77;
const EXTENDED_ANSWER: u8 = 0x78;
const START_TLS: &[u8] = b"1.3.6.1.4.1.1466.20037";

/// RFC 4511 section 4.1.9.
pub(super) const SUCCESS: i32 = 0;
pub(super) const SIZE_LIMIT: i32 = 4;
pub(super) const NO_SUCH_OBJECT: i32 = 32;
pub(super) const INVALID_NAME: i32 = 34;
pub(super) const INAPPROPRIATE_AUTHENTICATION: i32 = 48;
pub(super) const INVALID_CREDENTIALS: i32 = 49;

/// An entry that a search found.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Entry {
    pub name: String,
    /// Attributes with their values.
    pub attributes: Vec<(String, Vec<Vec<u8>>)>,
}

impl Entry {
    /// The values of an attribute, whose name is compared without regard to case and options.
    pub fn values(&self, name: &str) -> &[Vec<u8>] {
        let plain = |text: &str| {
            text.split(';')
                .next()
                .unwrap_or_default()
                .to_ascii_lowercase()
        };
        let wanted = plain(name);
        self.attributes
            .iter()
            .find(|(own, _)| plain(own) == wanted)
            .map_or(&[], |(_, values)| values)
    }
}

/// One message of the server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Answer {
    Entry(Entry),
    /// Another server that may know: it is not asked.
    Reference,
    /// How an operation ended: the code, and what the server says of it.
    Done(i32, String),
}

/// The whole message of one operation.
fn message(id: i32, operation: impl FnOnce(&mut Vec<u8>)) -> Vec<u8> {
    let mut out = Vec::new();
    ber::put_with(&mut out, ber::SEQUENCE, |out| {
        ber::put_number(out, ber::INTEGER, id);
        operation(out);
    });
    out
}

/// A simple bind.
pub(super) fn bind(id: i32, name: &str, password: &[u8]) -> Vec<u8> {
    message(id, |out| {
        ber::put_with(out, BIND, |out| {
            ber::put_number(out, ber::INTEGER, 3);
            ber::put(out, ber::OCTETS, name.as_bytes());
            ber::put(out, 0x80, password);
        });
    })
}

/// How much of the tree is searched.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Scope {
    /// The entry itself.
    Base = 0,
    /// Everything below, and itself.
    Subtree = 2,
}

/// A search for at most two entries: a second one is a mistake that has to be told.
pub(super) fn search(
    id: i32,
    base: &str,
    scope: Scope,
    filter: &[u8],
    attributes: &[&str],
) -> Vec<u8> {
    message(id, |out| {
        ber::put_with(out, SEARCH, |out| {
            ber::put(out, ber::OCTETS, base.as_bytes());
            ber::put_number(out, ber::ENUMERATED, scope as i32);
            // Aliases are followed.
            ber::put_number(out, ber::ENUMERATED, 3);
            ber::put_number(out, ber::INTEGER, 2);
            ber::put_number(out, ber::INTEGER, 0);
            ber::put(out, ber::BOOLEAN, &[0]);
            out.extend_from_slice(filter);
            ber::put_with(out, ber::SEQUENCE, |out| {
                for name in attributes {
                    ber::put(out, ber::OCTETS, name.as_bytes());
                }
            });
        });
    })
}

/// The request to go on with TLS (section 4.14).
pub(super) fn start_tls(id: i32) -> Vec<u8> {
    message(id, |out| {
        ber::put_with(out, EXTENDED, |out| ber::put(out, 0x80, START_TLS));
    })
}

/// Reads the content of a message, which is what stands within its SEQUENCE: its number and what it says.
pub(super) fn answer(content: &[u8]) -> Result<(i32, Answer), Wrong> {
    let mut reader = Reader(content);
    let id = reader.number(ber::INTEGER)?;
    let (tag, operation) = reader.next()?.ok_or("expected an LDAP operation")?;
    let mut operation = Reader(operation);
    let answer = match tag {
        BIND_ANSWER | SEARCH_DONE | EXTENDED_ANSWER => {
            let code = operation.number(ber::ENUMERATED)?;
            operation.expect(ber::OCTETS)?;
            let text = String::from_utf8_lossy(operation.expect(ber::OCTETS)?);
            // It goes to a log line.
            let text = text.chars().filter(|c| !c.is_control()).take(200);
            Answer::Done(code, text.collect())
        }
        REFERENCE => Answer::Reference,
        ENTRY => {
            let name = text(operation.expect(ber::OCTETS)?)?;
            let mut attributes = Vec::new();
            let mut list = Reader(operation.expect(ber::SEQUENCE)?);
            while let Some((tag, attribute)) = list.next()? {
                if tag != ber::SEQUENCE {
                    return Err("expected an attribute");
                }
                let mut attribute = Reader(attribute);
                let name = text(attribute.expect(ber::OCTETS)?)?;
                let mut values = Vec::new();
                let mut set = Reader(attribute.expect(ber::SET)?);
                while let Some((tag, value)) = set.next()? {
                    if tag != ber::OCTETS {
                        return Err("expected an attribute's value");
                    }
                    values.push(value.to_vec());
                }
                attributes.push((name, values));
            }
            Answer::Entry(Entry { name, attributes })
        }
        _ => return Err("expected an answer to a bind, search or extended operation"),
    };
    Ok((id, answer))
}

fn text(bytes: &[u8]) -> Result<String, Wrong> {
    String::from_utf8(bytes.to_vec()).map_err(|_| "expected a name in UTF-8")
}
