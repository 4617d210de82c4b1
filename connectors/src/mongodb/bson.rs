//! As much of BSON as the commands need that are asked here: documents are written value by value, and read in place.

/// What is wrong with an answer; the text goes to the log.
pub(super) type Wrong = &'static str;

const SHORT: Wrong = "expected a BSON document, got a part of one";

/// A document that is being written.
#[derive(Debug, Default)]
pub(super) struct Writer(Vec<u8>);

impl Writer {
    /// A key: what holds U+0000 would be another one, and no key here comes from a client.
    fn key(&mut self, kind: u8, key: &str) {
        self.0.push(kind);
        self.0.extend(key.bytes().filter(|byte| *byte != 0));
        self.0.push(0);
    }

    pub fn text(mut self, key: &str, text: &str) -> Self {
        self.key(0x02, key);
        let size = i32::try_from(text.len() + 1).unwrap_or(i32::MAX);
        self.0.extend(size.to_le_bytes());
        self.0.extend(text.as_bytes());
        self.0.push(0);
        self
    }

    pub fn number(mut self, key: &str, number: i32) -> Self {
        self.key(0x10, key);
        self.0.extend(number.to_le_bytes());
        self
    }

    pub fn truth(mut self, key: &str, truth: bool) -> Self {
        self.key(0x08, key);
        self.0.push(u8::from(truth));
        self
    }

    pub fn bytes(mut self, key: &str, bytes: &[u8]) -> Self {
        self.key(0x05, key);
        let size = i32::try_from(bytes.len()).unwrap_or(i32::MAX);
        self.0.extend(size.to_le_bytes());
        self.0.push(0);
        self.0.extend(bytes);
        self
    }

    pub fn document(mut self, key: &str, inner: Self) -> Self {
        self.key(0x03, key);
        self.0.extend(inner.finish());
        self
    }

    /// A list, whose keys are its numbers.
    #[cfg(test)]
    pub fn array(mut self, key: &str, inner: Self) -> Self {
        self.key(0x04, key);
        self.0.extend(inner.finish());
        self
    }

    /// The document with its length and end.
    pub fn finish(self) -> Vec<u8> {
        let size = i32::try_from(self.0.len() + 5).unwrap_or(i32::MAX);
        let mut out = size.to_le_bytes().to_vec();
        out.extend(self.0);
        out.push(0);
        out
    }
}

/// A document or array, its elements not yet read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Document<'a>(&'a [u8]);

/// A value.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Value<'a> {
    Text(&'a str),
    Integer(i64),
    Double(f64),
    Truth(bool),
    Bytes(&'a [u8]),
    Document(Document<'a>),
    Array(Document<'a>),
    Null,
    /// A kind that nothing here asks for.
    Other,
}

impl<'a> Document<'a> {
    /// The document at the front, and what follows it.
    pub fn read(bytes: &'a [u8]) -> Result<(Self, &'a [u8]), Wrong> {
        let mut rest = bytes;
        let size = usize::try_from(int32(&mut rest)?).map_err(|_| SHORT)?;
        let (document, rest) = bytes.split_at_checked(size).ok_or(SHORT)?;
        match document.get(4..) {
            Some([elements @ .., 0]) => Ok((Self(elements), rest)),
            _ => Err(SHORT),
        }
    }

    /// The document as bytes of its own.
    pub fn whole(self) -> Vec<u8> {
        Writer(self.0.to_vec()).finish()
    }

    /// The value of a key; the first of several.
    pub fn get(self, key: &str) -> Result<Option<Value<'a>>, Wrong> {
        let mut elements = self;
        while let Some((own, value)) = elements.next()? {
            if own == key.as_bytes() {
                return Ok(Some(value));
            }
        }
        Ok(None)
    }

    /// The value at the end of a path, `login.password`.
    pub fn at(self, path: &str) -> Result<Option<Value<'a>>, Wrong> {
        match path.split_once('.') {
            None => self.get(path),
            Some((key, rest)) => match self.get(key)? {
                Some(Value::Document(inner)) => inner.at(rest),
                _ => Ok(None),
            },
        }
    }

    /// Takes the next element off.
    pub fn next(&mut self) -> Result<Option<(&'a [u8], Value<'a>)>, Wrong> {
        let Some((kind, rest)) = self.0.split_first() else {
            return Ok(None);
        };
        let mut rest = rest;
        let key = c_string(&mut rest)?;
        let value = match kind {
            0x01 => Value::Double(f64::from_le_bytes(array(&mut rest)?)),
            0x02 => Value::Text(string(&mut rest)?),
            0x03 | 0x04 => {
                let (inner, after) = Self::read(rest)?;
                rest = after;
                if *kind == 0x03 {
                    Value::Document(inner)
                } else {
                    Value::Array(inner)
                }
            }
            0x05 => {
                let size = length(&mut rest)?;
                take(&mut rest, 1)?;
                Value::Bytes(take(&mut rest, size)?)
            }
            0x06 | 0x0a => Value::Null,
            0x08 => Value::Truth(take(&mut rest, 1)? != [0]),
            0x10 => Value::Integer(int32(&mut rest)?.into()),
            0x12 => Value::Integer(i64::from_le_bytes(array(&mut rest)?)),
            0x07 => skip(&mut rest, 12)?,
            0x09 | 0x11 => skip(&mut rest, 8)?,
            0x13 => skip(&mut rest, 16)?,
            0x7f | 0xff => Value::Other,
            0x0b => {
                c_string(&mut rest)?;
                c_string(&mut rest)?;
                Value::Other
            }
            0x0d | 0x0e => {
                string(&mut rest)?;
                Value::Other
            }
            _ => return Err("expected a kind of BSON value that is known"),
        };
        self.0 = rest;
        Ok(Some((key, value)))
    }
}

fn take<'a>(rest: &mut &'a [u8], size: usize) -> Result<&'a [u8], Wrong> {
    let (taken, after) = rest.split_at_checked(size).ok_or(SHORT)?;
    *rest = after;
    Ok(taken)
}

fn skip(rest: &mut &[u8], size: usize) -> Result<Value<'static>, Wrong> {
    take(rest, size).map(|_| Value::Other)
}

fn array<const N: usize>(rest: &mut &[u8]) -> Result<[u8; N], Wrong> {
    take(rest, N)?.try_into().map_err(|_| SHORT)
}

fn int32(rest: &mut &[u8]) -> Result<i32, Wrong> {
    array(rest).map(i32::from_le_bytes)
}

fn length(rest: &mut &[u8]) -> Result<usize, Wrong> {
    usize::try_from(int32(rest)?).map_err(|_| SHORT)
}

fn string<'a>(rest: &mut &'a [u8]) -> Result<&'a str, Wrong> {
    let size = length(rest)?;
    let Some((0, text)) = take(rest, size)?.split_last() else {
        return Err("expected a BSON text that ends in zero");
    };
    std::str::from_utf8(text).map_err(|_| "expected a BSON text in UTF-8")
}

fn c_string<'a>(rest: &mut &'a [u8]) -> Result<&'a [u8], Wrong> {
    let end = rest.iter().position(|byte| *byte == 0).ok_or(SHORT)?;
    let text = take(rest, end)?;
    take(rest, 1)?;
    Ok(text)
}
