//! As much of BER (X.690) as LDAP needs: definite lengths, tags of one byte.

/// A value that does not fit what was expected; the text goes to the log.
pub(super) type Wrong = &'static str;

/// Tag of a BOOLEAN.
pub(super) const BOOLEAN: u8 = 0x01;
/// Tag of an INTEGER.
pub(super) const INTEGER: u8 = 0x02;
/// Tag of an OCTET STRING.
pub(super) const OCTETS: u8 = 0x04;
/// Tag of an ENUMERATED.
pub(super) const ENUMERATED: u8 = 0x0a;
/// Tag of a SEQUENCE.
pub(super) const SEQUENCE: u8 = 0x30;
/// Tag of a SET.
pub(super) const SET: u8 = 0x31;

/// Appends a value.
pub(super) fn put(out: &mut Vec<u8>, tag: u8, content: &[u8]) {
    out.push(tag);
    match u8::try_from(content.len()) {
        Ok(short) if short < 0x80 => out.push(short),
        _ => {
            let length = content.len().to_be_bytes();
            let zeros = length.iter().take_while(|byte| **byte == 0).count();
            // At most eight bytes.
            out.push(0x80 | u8::try_from(length.len() - zeros).unwrap_or(8));
            out.extend_from_slice(&length[zeros..]);
        }
    }
    out.extend_from_slice(content);
}

/// Appends a value whose content is written by `fill`.
pub(super) fn put_with(out: &mut Vec<u8>, tag: u8, fill: impl FnOnce(&mut Vec<u8>)) {
    let mut content = Vec::new();
    fill(&mut content);
    put(out, tag, &content);
}

/// Appends an INTEGER or ENUMERATED.
pub(super) fn put_number(out: &mut Vec<u8>, tag: u8, number: i32) {
    let bytes = number.to_be_bytes();
    // The shortest form: no first byte that only repeats the sign of the second.
    let mut from = 0;
    while from < 3
        && ((bytes[from] == 0 && bytes[from + 1] < 0x80)
            || (bytes[from] == 0xff && bytes[from + 1] >= 0x80))
    {
        from += 1;
    }
    put(out, tag, &bytes[from..]);
}

/// Bytes that are read value by value.
#[derive(Debug, Clone, Copy)]
pub(super) struct Reader<'a>(pub &'a [u8]);

impl<'a> Reader<'a> {
    /// The next value's tag and content; `None` at the end.
    pub fn next(&mut self) -> Result<Option<(u8, &'a [u8])>, Wrong> {
        const SHORT: Wrong = "expected a BER value, got less";
        let Some((tag, rest)) = self.0.split_first() else {
            return Ok(None);
        };
        if tag & 0x1f == 0x1f {
            return Err("expected a BER tag of one byte");
        }
        let (first, rest) = rest.split_first().ok_or(SHORT)?;
        let (length, rest) = match usize::from(*first) {
            short @ 0..0x80 => (short, rest),
            0x80 => return Err("expected a BER value of definite length"),
            long => {
                let (bytes, rest) = rest.split_at_checked(long & 0x7f).ok_or(SHORT)?;
                (length(bytes)?, rest)
            }
        };
        let (content, rest) = rest.split_at_checked(length).ok_or(SHORT)?;
        self.0 = rest;
        Ok(Some((*tag, content)))
    }

    /// The content of the next value, which must have this tag.
    pub fn expect(&mut self, tag: u8) -> Result<&'a [u8], Wrong> {
        match self.next()? {
            Some((got, content)) if got == tag => Ok(content),
            _ => Err("expected another BER tag"),
        }
    }

    /// The next value as a number.
    pub fn number(&mut self, tag: u8) -> Result<i32, Wrong> {
        let content = self.expect(tag)?;
        let (first, rest) = content.split_first().ok_or("expected a number, got none")?;
        if content.len() > 4 {
            return Err("expected a number of at most four bytes");
        }
        // The first byte has the sign.
        let first = i32::from(i8::from_be_bytes([*first]));
        Ok(rest
            .iter()
            .fold(first, |sum, byte| (sum << 8) | i32::from(*byte)))
    }
}

/// The length in these bytes.
pub(super) fn length(bytes: &[u8]) -> Result<usize, Wrong> {
    if bytes.is_empty() || bytes.len() > 4 {
        return Err("expected a BER length of one to four bytes");
    }
    Ok(bytes
        .iter()
        .fold(0, |sum, byte| (sum << 8) | usize::from(*byte)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_have_their_shortest_form_and_come_back() {
        let table: [(i32, &[u8]); 8] = [
            (0, &[0]),
            (127, &[127]),
            (128, &[0, 128]),
            (-1, &[255]),
            (-128, &[128]),
            (-129, &[255, 127]),
            (65_536, &[1, 0, 0]),
            (i32::MAX, &[127, 255, 255, 255]),
        ];
        for (number, bytes) in table {
            let mut out = Vec::new();
            put_number(&mut out, INTEGER, number);
            assert_eq!(&out[2..], bytes, "{number}");
            assert_eq!(Reader(&out).number(INTEGER), Ok(number));
        }
    }

    #[test]
    fn lengths_are_definite_and_within_what_is_there() {
        for size in [0, 1, 127, 128, 255, 256, 70_000] {
            let mut out = Vec::new();
            put(&mut out, OCTETS, &vec![7; size]);
            let mut reader = Reader(&out);
            assert_eq!(reader.expect(OCTETS).map(<[u8]>::len), Ok(size));
            assert_eq!(reader.next(), Ok(None));
            assert!(Reader(&out[..out.len() - 1]).next().is_err(), "{size}");
        }
        let bad: [&[u8]; 6] = [
            &[4],
            &[4, 0x80, 0, 0],
            &[4, 0x85, 0, 0, 0, 0, 0],
            &[4, 0x84, 255, 255, 255, 255],
            &[0x1f, 0x81, 0],
            &[4, 2, 0],
        ];
        for bytes in bad {
            assert!(Reader(bytes).next().is_err(), "{bytes:?}");
        }
    }
}
