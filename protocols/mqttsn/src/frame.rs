//! What one datagram holds: a message, bare or in a forwarder encapsulation (section 5.5).

use crate::error::{Error, Expected};
use crate::header::Header;
use crate::message::Message;
use crate::types::MsgType;

/// Radius: the low two bits of the Ctrl octet; the others are reserved.
const RADIUS: u8 = 0b11;

/// What a forwarder adds in front of a message.
///
/// The Length field of an encapsulation covers only itself up to the node id. The standard gives it 1 octet; the 3-octet
/// form is accepted as well, but never sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Encapsulation<'a> {
    /// Broadcast radius, 0-3, of use only from gateway to forwarder; 0 is the whole network. Of a larger number only the
    /// low two bits are sent.
    pub radius: u8,
    /// WirelessNodeId: names the node for this forwarder only, 0 to 252 octets.
    pub node_id: &'a [u8],
}

impl<'a> Encapsulation<'a> {
    /// Longest node id that the 1-octet Length leaves room for.
    pub const MAX_NODE_ID_LEN: usize = 252;

    /// Octets in front of the message.
    pub const fn encoded_len(&self) -> usize {
        3 + self.node_id.len()
    }

    fn decode(header: Header, datagram: &'a [u8]) -> Result<(Encapsulation<'a>, &'a [u8]), Error> {
        let Some((outer, inner)) = datagram.split_at_checked(header.length) else {
            return Err(Error::Truncated {
                expected: header.length,
                got: datagram.len(),
            });
        };
        let [ctrl, node_id @ ..] = &outer[header.header_len..] else {
            return Err(Error::VariablePart {
                message: MsgType::Encapsulated,
                expected: Expected::AtLeast(1),
                got: 0,
            });
        };
        Ok((
            Encapsulation {
                radius: ctrl & RADIUS,
                node_id,
            },
            inner,
        ))
    }

    fn encode(&self, out: &mut Vec<u8>) -> Result<(), Error> {
        let length = self.encoded_len();
        let Ok(octet) = u8::try_from(length) else {
            return Err(Error::TooLong {
                message: MsgType::Encapsulated,
                expected: 255,
                got: length,
            });
        };
        out.extend_from_slice(&[octet, MsgType::Encapsulated.code(), self.radius & RADIUS]);
        out.extend_from_slice(self.node_id);
        Ok(())
    }
}

/// The content of one datagram.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Frame<'a> {
    /// Present if a forwarder stands between; the answer goes back with the same node id.
    pub encapsulation: Option<Encapsulation<'a>>,
    /// The message.
    pub message: Message<'a>,
}

impl<'a> Frame<'a> {
    /// Reads a datagram. The message's Length must be the size of the datagram, or of what follows the encapsulation.
    ///
    /// # Errors
    /// Any [`Error`] but [`Error::TooLong`]. Nothing is to change because of such a datagram but a counter.
    pub fn decode(datagram: &'a [u8]) -> Result<Frame<'a>, Error> {
        let header = Header::read(datagram)?;
        if header.msg_type != MsgType::Encapsulated.code() {
            return Ok(Frame {
                encapsulation: None,
                message: Message::decode(datagram)?,
            });
        }
        let (encapsulation, inner) = Encapsulation::decode(header, datagram)?;
        Ok(Frame {
            encapsulation: Some(encapsulation),
            message: Message::decode(inner)?,
        })
    }

    /// Appends the datagram to `out`, with the shortest Length form.
    ///
    /// # Errors
    /// [`Error::TooLong`]; `out` is then as before.
    pub fn encode(&self, out: &mut Vec<u8>) -> Result<(), Error> {
        let start = out.len();
        if let Some(encapsulation) = &self.encapsulation {
            encapsulation.encode(out)?;
        }
        self.message
            .encode(out)
            .inspect_err(|_| out.truncate(start))
    }

    /// Octets that [`Frame::encode`] appends.
    pub fn encoded_len(&self) -> usize {
        self.encapsulation.map_or(0, |e| e.encoded_len()) + self.message.encoded_len()
    }
}

impl<'a> From<Message<'a>> for Frame<'a> {
    fn from(message: Message<'a>) -> Frame<'a> {
        Frame {
            encapsulation: None,
            message,
        }
    }
}
