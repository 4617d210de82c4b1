//! Readers of the wire's data types. Each takes the name of the field it reads, for the error.

use nom::bytes::complete::take;
use nom::error::{ErrorKind, ParseError};
use nom::multi::length_data;
use nom::number::complete::{be_u8, be_u16, be_u32};
use nom::{IResult, Parser};

use crate::DecodeError;

/// What a reader returns: the rest of the input and the value.
pub(crate) type Parsed<'a, T> = IResult<&'a [u8], T, DecodeError>;

impl<'a> ParseError<&'a [u8]> for DecodeError {
    fn from_error_kind(_: &'a [u8], _: ErrorKind) -> Self {
        Self::Truncated { field: "packet" }
    }

    fn append(_: &'a [u8], _: ErrorKind, other: Self) -> Self {
        other
    }
}

/// Makes a nom error of ours; nom's other kinds (recoverable, incomplete) have no use here.
#[cold]
pub(crate) fn fail(error: DecodeError) -> nom::Err<DecodeError> {
    nom::Err::Error(error)
}

/// The error inside a nom error.
#[cold]
pub(crate) fn unwrap_error(error: nom::Err<DecodeError>) -> DecodeError {
    match error {
        nom::Err::Error(error) | nom::Err::Failure(error) => error,
        // Only nom's streaming readers return it, and none is used.
        nom::Err::Incomplete(_) => DecodeError::Truncated { field: "packet" },
    }
}

/// Names the field in which a reader met the end.
fn truncated(field: &'static str) -> impl Fn(nom::Err<()>) -> nom::Err<DecodeError> {
    move |_| fail(DecodeError::Truncated { field })
}

/// One byte.
pub(crate) fn byte<'a>(input: &'a [u8], field: &'static str) -> Parsed<'a, u8> {
    be_u8(input).map_err(truncated(field))
}

/// Two byte integer (section 1.5.2).
pub(crate) fn two_bytes<'a>(input: &'a [u8], field: &'static str) -> Parsed<'a, u16> {
    be_u16(input).map_err(truncated(field))
}

/// Four byte integer (section 1.5.3).
pub(crate) fn four_bytes<'a>(input: &'a [u8], field: &'static str) -> Parsed<'a, u32> {
    be_u32(input).map_err(truncated(field))
}

/// Binary data (section 1.5.6): two bytes of length, then the bytes.
pub(crate) fn binary<'a>(input: &'a [u8], field: &'static str) -> Parsed<'a, &'a [u8]> {
    length_data(be_u16).parse(input).map_err(truncated(field))
}

/// UTF-8 encoded string (section 1.5.4), checked for U+0000.
pub(crate) fn string<'a>(input: &'a [u8], field: &'static str) -> Parsed<'a, &'a str> {
    let (rest, bytes) = binary(input, field)?;
    if bytes.contains(&0) {
        return Err(fail(DecodeError::NullCharacter { field }));
    }
    utf8(bytes, field).map(|text| (rest, text)).map_err(fail)
}

/// UTF-8 string pair (section 1.5.7).
pub(crate) fn pair<'a>(input: &'a [u8], field: &'static str) -> Parsed<'a, (&'a str, &'a str)> {
    (|input| string(input, field), |input| string(input, field)).parse(input)
}

/// The bytes as a string, U+0000 not looked for.
#[inline]
pub(crate) fn utf8<'a>(bytes: &'a [u8], field: &'static str) -> Result<&'a str, DecodeError> {
    str::from_utf8(bytes).map_err(|error| {
        // A string has at most 65,535 bytes.
        let at = u32::try_from(error.valid_up_to()).unwrap_or(u32::MAX);
        DecodeError::InvalidUtf8 { field, at }
    })
}

/// Variable byte integer (section 1.5.5), in its shortest form [MQTT-1.5.5-1]: only 5.0 has them here.
#[inline]
pub(crate) fn variable<'a>(input: &'a [u8], field: &'static str) -> Parsed<'a, u32> {
    let mut value = 0;
    for (at, &byte) in input.iter().take(4).enumerate() {
        value |= u32::from(byte & 0x7F) << (7 * at);
        if byte == 0 && at > 0 {
            return Err(fail(DecodeError::VariableByteInteger { field }));
        }
        if byte & 0x80 == 0 {
            return Ok((&input[at + 1..], value));
        }
    }
    Err(fail(if input.len() < 4 {
        DecodeError::Truncated { field }
    } else {
        DecodeError::VariableByteInteger { field }
    }))
}

/// A property section (section 2.2.2): its length, then the bytes that hold the properties.
pub(crate) fn property_section<'a>(input: &'a [u8]) -> Parsed<'a, &'a [u8]> {
    let (input, length) = variable(input, "property length")?;
    take(length)(input).map_err(truncated("properties"))
}
