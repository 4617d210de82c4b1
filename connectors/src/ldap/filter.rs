//! Search filters (RFC 4515) and names of entries (RFC 4514) with placeholders.
//!
//! A filter is read once, before any value is known; a client's values are put into its encoded form as octets. So
//! nothing that a client calls itself is ever read as a filter.

use super::ber;
use crate::ConnectorError;
use crate::template::{Template, Values, long_names};

/// Nesting of a configured filter.
const MAX_DEPTH: usize = 16;

/// A filter, ready for values.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Filter {
    And(Vec<Self>),
    Or(Vec<Self>),
    Not(Box<Self>),
    /// Equality, greater or equal, less or equal, approximate: the tag, the attribute, the value.
    Compare(u8, Box<str>, Text),
    Present(Box<str>),
    /// Attribute; the first part, those in between, the last part.
    Substrings(Box<str>, Option<Text>, Vec<Text>, Option<Text>),
}

/// An assertion value: octets and placeholders.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Text(Vec<Piece>);

#[derive(Debug, Clone, PartialEq, Eq)]
enum Piece {
    Octets(Vec<u8>),
    Value(Template),
}

const EQUAL: u8 = 0xa3;
const SUBSTRINGS: u8 = 0xa4;
const GREATER: u8 = 0xa5;
const LESS: u8 = 0xa6;
const PRESENT: u8 = 0x87;
const APPROXIMATE: u8 = 0xa8;

impl Filter {
    /// Reads the text of a filter.
    pub fn parse(text: &str) -> Result<Self, ConnectorError> {
        let wrong = |problem: String| ConnectorError::Setting {
            key: "filter",
            problem,
        };
        let long = long_names(text);
        let (filter, rest) = Self::one(&long, 0).map_err(wrong)?;
        if !rest.is_empty() {
            return Err(wrong(format!(
                "expected the end of the filter, got {rest:?}"
            )));
        }
        Ok(filter)
    }

    fn one(text: &str, depth: usize) -> Result<(Self, &str), String> {
        if depth > MAX_DEPTH {
            return Err(format!(
                "expected at most {MAX_DEPTH} filters within each other"
            ));
        }
        let Some(inner) = text.strip_prefix('(') else {
            return Err(format!(
                "expected a filter as (uid=${{username}}), got {text:?}"
            ));
        };
        let closed = |text: &'_ str| format!("expected ')' in the filter, got {text:?}");
        if let Some(list) = inner.strip_prefix(['&', '|']) {
            let mut filters = Vec::new();
            let mut rest = list;
            while rest.starts_with('(') {
                let (filter, after) = Self::one(rest, depth + 1)?;
                filters.push(filter);
                rest = after;
            }
            let rest = rest.strip_prefix(')').ok_or_else(|| closed(rest))?;
            let filter = match inner.starts_with('&') {
                true => Self::And(filters),
                false => Self::Or(filters),
            };
            return Ok((filter, rest));
        }
        if let Some(not) = inner.strip_prefix('!') {
            let (filter, rest) = Self::one(not, depth + 1)?;
            let rest = rest.strip_prefix(')').ok_or_else(|| closed(rest))?;
            return Ok((Self::Not(Box::new(filter)), rest));
        }
        let (item, rest) = inner.split_once(')').ok_or_else(|| closed(""))?;
        Ok((Self::item(item)?, rest))
    }

    /// `attribute=value` and its like. A parenthesis within the value is written `\28` or `\29`.
    fn item(item: &str) -> Result<Self, String> {
        let wrong = || format!("expected attribute=value, got {item:?}");
        let (name, value) = item.split_once('=').ok_or_else(wrong)?;
        let (name, tag) = match name.strip_suffix(['>', '<', '~']) {
            Some(short) if name.ends_with('>') => (short, GREATER),
            Some(short) if name.ends_with('<') => (short, LESS),
            Some(short) => (short, APPROXIMATE),
            None => (name, EQUAL),
        };
        if !attribute(name) {
            return Err(wrong());
        }
        if tag != EQUAL {
            return Ok(Self::Compare(tag, name.into(), Text::parse(value)?));
        }
        let parts: Vec<&str> = value.split('*').collect();
        Ok(match parts.as_slice() {
            [value] => Self::Compare(EQUAL, name.into(), Text::parse(value)?),
            ["", ""] => Self::Present(name.into()),
            [first, between @ .., last] => {
                if between.iter().any(|part| part.is_empty()) {
                    return Err(wrong());
                }
                let ends = |text: &str| match text {
                    "" => Ok(None),
                    text => Text::parse(text).map(Some),
                };
                let between = between.iter().map(|text| Text::parse(text));
                Self::Substrings(
                    name.into(),
                    ends(first)?,
                    between.collect::<Result<_, _>>()?,
                    ends(last)?,
                )
            }
            [] => return Err(wrong()),
        })
    }

    /// Appends the encoded filter with a client's values; `None` if one is missing or empty.
    pub fn put(&self, out: &mut Vec<u8>, values: &Values<'_>) -> Option<()> {
        let mut inner = Vec::new();
        let tag = match self {
            Self::And(filters) | Self::Or(filters) => {
                for filter in filters {
                    filter.put(&mut inner, values)?;
                }
                if matches!(self, Self::And(_)) {
                    0xa0
                } else {
                    0xa1
                }
            }
            Self::Not(filter) => {
                filter.put(&mut inner, values)?;
                0xa2
            }
            Self::Compare(tag, name, text) => {
                ber::put(&mut inner, ber::OCTETS, name.as_bytes());
                ber::put(&mut inner, ber::OCTETS, &text.octets(values)?);
                *tag
            }
            Self::Present(name) => {
                inner.extend_from_slice(name.as_bytes());
                PRESENT
            }
            Self::Substrings(name, first, between, last) => {
                ber::put(&mut inner, ber::OCTETS, name.as_bytes());
                let mut parts = Vec::new();
                if let Some(text) = first {
                    ber::put(&mut parts, 0x80, &text.octets(values)?);
                }
                for text in between {
                    ber::put(&mut parts, 0x81, &text.octets(values)?);
                }
                if let Some(text) = last {
                    ber::put(&mut parts, 0x82, &text.octets(values)?);
                }
                ber::put(&mut inner, ber::SEQUENCE, &parts);
                SUBSTRINGS
            }
        };
        ber::put(out, tag, &inner);
        Some(())
    }
}

/// A name or a number with its options: `userPassword`, `2.5.4.3`, `cn;lang-de`.
fn attribute(name: &str) -> bool {
    !name.is_empty()
        && name
            .bytes()
            .all(|c| c.is_ascii_alphanumeric() || matches!(c, b'-' | b'.' | b';'))
}

impl Text {
    fn parse(text: &str) -> Result<Self, String> {
        let mut pieces = Vec::new();
        let mut rest = text;
        while let Some(at) = rest.find("${") {
            let end = rest[at..]
                .find('}')
                .ok_or_else(|| format!("expected '}}' after '${{' in {text:?}"))?;
            if at > 0 {
                pieces.push(Piece::Octets(unescape(&rest[..at])?));
            }
            let name = &rest[at..=at + end];
            pieces.push(Piece::Value(Template::client(name)?));
            rest = &rest[at + end + 1..];
        }
        if !rest.is_empty() {
            pieces.push(Piece::Octets(unescape(rest)?));
        }
        Ok(Self(pieces))
    }

    fn octets(&self, values: &Values<'_>) -> Option<Vec<u8>> {
        let mut octets = Vec::new();
        for piece in &self.0 {
            match piece {
                Piece::Octets(own) => octets.extend_from_slice(own),
                Piece::Value(template) => {
                    let value = template.render(values).filter(|it| !it.is_empty())?;
                    octets.extend_from_slice(value.as_bytes());
                }
            }
        }
        Some(octets)
    }
}

/// A literal of a filter: `\2a` is an asterisk.
fn unescape(text: &str) -> Result<Vec<u8>, String> {
    let mut octets = Vec::new();
    let mut bytes = text.bytes();
    let digit = |byte: Option<u8>| {
        let digit = byte.and_then(|byte| char::from(byte).to_digit(16));
        digit.and_then(|digit| u8::try_from(digit).ok())
    };
    while let Some(byte) = bytes.next() {
        match byte {
            b'\\' => match (digit(bytes.next()), digit(bytes.next())) {
                (Some(high), Some(low)) => octets.push(high << 4 | low),
                _ => {
                    return Err(format!(
                        "expected two hexadecimal digits after \\ in {text:?}"
                    ));
                }
            },
            b'(' | 0 => {
                return Err(format!(
                    "expected \\28 for '(' and \\00 for NUL in {text:?}"
                ));
            }
            byte => octets.push(byte),
        }
    }
    Ok(octets)
}

/// A client's value within the name of an entry: everything but letters, digits and a few marks is written by its
/// octets, so that it stays one value (RFC 4514 section 2.4).
pub(super) fn escape_name(value: &str, out: &mut String) {
    use std::fmt::Write as _;
    for byte in value.bytes() {
        if byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.' | b'@') {
            out.push(char::from(byte));
        } else {
            // Writing to a text cannot fail.
            let _ = write!(out, "\\{byte:02X}");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn encoded(text: &str, user: &str) -> Option<Vec<u8>> {
        let mut client = crate::testing::client();
        client.username = Some(user.into());
        let mut out = Vec::new();
        let filter = Filter::parse(text).expect(text);
        filter.put(&mut out, &Values::of(&client)).map(|()| out)
    }

    #[test]
    fn filters_become_their_encoding() {
        let table: [(&str, &[u8]); 7] = [
            ("(uid=${username})", b"\xa3\x0a\x04\x03uid\x04\x03ann"),
            ("(uid=%u)", b"\xa3\x0a\x04\x03uid\x04\x03ann"),
            ("(uid=*)", b"\x87\x03uid"),
            (
                "(&(a=b)(!(c>=1)))",
                b"\xa0\x12\xa3\x06\x04\x01a\x04\x01b\xa2\x08\xa5\x06\x04\x01c\x04\x011",
            ),
            (
                "(|(a~=b)(a<=\\2a))",
                b"\xa1\x10\xa8\x06\x04\x01a\x04\x01b\xa6\x06\x04\x01a\x04\x01*",
            ),
            (
                "(cn=a*${clientid}*z)",
                b"\xa4\x12\x04\x02cn\x30\x0c\x80\x01a\x81\x04dev1\x82\x01z",
            ),
            ("(cn=*x)", b"\xa4\x09\x04\x02cn\x30\x03\x82\x01x"),
        ];
        for (text, expected) in table {
            assert_eq!(encoded(text, "ann").as_deref(), Some(expected), "{text}");
        }
        for bad in [
            "",
            "uid=x",
            "(uid=x",
            "(uid)",
            "(=x)",
            "(u id=x)",
            "(uid=x))",
            "(uid=\\2)",
            "(uid=(x)",
            "(a=b**c)",
            "(uid=${user})",
            "(uid=${username)",
            "(&(a=b)",
            "(!a=b)",
            "(a:=b)",
        ] {
            assert!(Filter::parse(bad).is_err(), "{bad}");
        }
        let deep = format!("{}(a=b){}", "(!".repeat(40), ")".repeat(40));
        assert!(Filter::parse(&deep).is_err());
    }

    #[test]
    fn a_value_is_one_octet_string_whatever_it_holds() {
        for evil in [
            "*",
            "ann*",
            "*)(uid=*",
            "ann)(|(uid=*",
            "\\2a",
            "a\0b",
            "(",
            "é",
            "ann\r\n",
        ] {
            let size = u8::try_from(evil.len()).expect("short");
            let mut expected = vec![0xa3, size + 7, 4, 3];
            expected.extend_from_slice(b"uid\x04");
            expected.push(size);
            expected.extend_from_slice(evil.as_bytes());
            assert_eq!(
                encoded("(uid=${username})", evil),
                Some(expected),
                "{evil:?}"
            );
        }
        // An empty value would make `(uid=*${username}*)` fit everyone.
        assert_eq!(encoded("(uid=*${username}*)", ""), None);
    }

    #[test]
    fn a_value_within_a_name_stays_one_value() {
        let table = [
            ("ann", "ann"),
            ("a.b-c_d@e", "a.b-c_d@e"),
            ("ann,ou=admins", "ann\\2Cou\\3Dadmins"),
            (" #+\"\\<>;\0", "\\20\\23\\2B\\22\\5C\\3C\\3E\\3B\\00"),
            ("é", "\\C3\\A9"),
        ];
        for (value, expected) in table {
            let mut out = String::new();
            escape_name(value, &mut out);
            assert_eq!(out, expected);
        }
    }
}
