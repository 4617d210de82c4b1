//! The message header: Length in its two forms, and MsgType (section 5.2).

use crate::error::Error;
use crate::types::MsgType;

/// Largest message, header included, in octets: the most that the 3-octet Length can say.
pub const MAX_MESSAGE_LEN: usize = 65535;

/// First octet of the 3-octet form. A message of 1 octet cannot be, so the value is free.
const LONG_FORM: u8 = 0x01;

/// A header as it was read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Header {
    /// Octets of the header: 2, or 4 with the 3-octet Length.
    pub header_len: usize,
    /// The Length field, not less than `header_len`.
    pub length: usize,
    /// The MsgType octet.
    pub msg_type: u8,
}

impl Header {
    /// Reads the header at the start of the bytes. Both forms are accepted whatever the size of the message.
    pub fn read(bytes: &[u8]) -> Result<Header, Error> {
        let header = match *bytes {
            [] => {
                return Err(Error::HeaderTruncated {
                    expected: 2,
                    got: 0,
                });
            }
            [LONG_FORM, high, low, msg_type, ..] => Header {
                header_len: 4,
                length: usize::from(u16::from_be_bytes([high, low])),
                msg_type,
            },
            [LONG_FORM, ..] => {
                return Err(Error::HeaderTruncated {
                    expected: 4,
                    got: bytes.len(),
                });
            }
            [length, msg_type, ..] => Header {
                header_len: 2,
                length: usize::from(length),
                msg_type,
            },
            [_] => {
                return Err(Error::HeaderTruncated {
                    expected: 2,
                    got: 1,
                });
            }
        };
        if header.length < header.header_len {
            return Err(Error::LengthTooSmall {
                expected: header.header_len,
                got: header.length,
            });
        }
        Ok(header)
    }
}

/// Octets of a message with this variable part, in the shortest form.
pub(crate) const fn message_len(variable_part: usize) -> usize {
    if variable_part <= 253 {
        variable_part + 2
    } else {
        variable_part + 4
    }
}

/// Appends a header in the shortest form for a variable part of this size.
pub(crate) fn write(
    message: MsgType,
    variable_part: usize,
    out: &mut Vec<u8>,
) -> Result<(), Error> {
    let length = message_len(variable_part);
    if let Ok(short) = u8::try_from(length) {
        out.extend_from_slice(&[short, message.code()]);
    } else {
        let long = u16::try_from(length).map_err(|_| Error::TooLong {
            message,
            expected: MAX_MESSAGE_LEN,
            got: length,
        })?;
        out.push(LONG_FORM);
        out.extend_from_slice(&long.to_be_bytes());
        out.push(message.code());
    }
    Ok(())
}
