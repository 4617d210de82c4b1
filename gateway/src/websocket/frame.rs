//! Frames of RFC 6455 section 5 without I/O: a decoder that works in the caller's buffer, and headers to write.

use std::fmt;

/// Longest header a client may send: two bytes, eight of length, four of mask.
const MAX_CLIENT_HEADER: usize = 14;
/// Longest header the server writes: two bytes and eight of length.
pub const MAX_SERVER_HEADER: usize = 10;
/// Longest payload of a control frame, RFC 6455 section 5.5.
pub const MAX_CONTROL_PAYLOAD: usize = 125;

const CONTINUATION: u8 = 0x0;
const TEXT: u8 = 0x1;
const BINARY: u8 = 0x2;
const CLOSE: u8 = 0x8;
const PING: u8 = 0x9;
const PONG: u8 = 0xA;

/// Why the server ends a WebSocket.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refusal {
    /// A text frame: MQTT is carried in binary frames [MQTT-6.0.0-1].
    Text,
    /// A frame without mask, with a reserved bit or opcode, or out of order.
    Protocol,
    /// A frame or fragmented message above the limit.
    TooBig,
}

impl Refusal {
    /// The status code of the Close frame, RFC 6455 section 7.4.
    #[must_use]
    pub fn code(self) -> u16 {
        match self {
            Self::Text => 1003,
            Self::Protocol => 1002,
            Self::TooBig => 1009,
        }
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Text => "websocket text frame (MQTT needs binary frames)",
            Self::Protocol => "websocket protocol error",
            Self::TooBig => "websocket frame above the limit",
        })
    }
}

impl std::error::Error for Refusal {}

/// A complete control frame of the peer.
#[derive(Debug, PartialEq, Eq)]
pub enum Control {
    /// To be answered by a Pong with the same payload.
    Ping(Vec<u8>),
    /// No answer is due.
    Pong,
    /// The peer closes; nothing of it is read any more. The code, if it gave one.
    Close(Option<u16>),
}

/// Decodes a client's frames in place. Its memory is fixed but for a control frame in progress (at most 125 bytes).
#[derive(Debug)]
pub struct FrameDecoder {
    /// Payload bytes of the current frame still to come.
    left: u64,
    /// Payload bytes of the fragmented message so far.
    message: u64,
    max_message: u64,
    control: Vec<u8>,
    header: [u8; MAX_CLIENT_HEADER],
    have: u8,
    /// The mask, turned so that its first byte belongs to the next payload byte.
    mask: [u8; 4],
    opcode: u8,
    in_frame: bool,
    /// A data message has begun whose last frame has not come.
    fragmented: bool,
    closed: bool,
}

impl FrameDecoder {
    /// A decoder at the start of a connection. `max_message` limits one message, over all of its frames, in bytes.
    #[must_use]
    pub fn new(max_message: u64) -> Self {
        Self {
            left: 0,
            message: 0,
            max_message,
            control: Vec::new(),
            header: [0; MAX_CLIENT_HEADER],
            have: 0,
            mask: [0; 4],
            opcode: CONTINUATION,
            in_frame: false,
            fragmented: false,
            closed: false,
        }
    }

    /// Takes what was read into `buf` and leaves the payload, unmasked and joined, at its front: the returned number
    /// of bytes. Control frames go to `on_control` in order. A refusal comes with the payload that preceded it; the
    /// decoder must not be used after it. Bytes behind a Close frame are ignored.
    pub fn decode(
        &mut self,
        buf: &mut [u8],
        mut on_control: impl FnMut(Control),
    ) -> (usize, Option<Refusal>) {
        let mut out = 0;
        let mut pos = 0;
        while pos < buf.len() && !self.closed {
            if !self.in_frame {
                self.header[usize::from(self.have)] = buf[pos];
                self.have += 1;
                pos += 1;
                if usize::from(self.have) == self.header_len() {
                    if let Err(refusal) = self.begin_frame() {
                        return (out, Some(refusal));
                    }
                } else {
                    continue;
                }
            }
            let rest = buf.len() - pos;
            // `left` may exceed what usize holds on small machines; the smaller of both does not.
            let n = usize::try_from(self.left).map_or(rest, |left| left.min(rest));
            if self.opcode < CLOSE {
                buf.copy_within(pos..pos + n, out);
                unmask(&mut buf[out..out + n], self.mask);
                out += n;
            } else {
                let from = self.control.len();
                self.control.extend_from_slice(&buf[pos..pos + n]);
                unmask(&mut self.control[from..], self.mask);
            }
            self.mask.rotate_left(n % 4);
            self.left -= n as u64;
            pos += n;
            if self.left == 0 {
                self.in_frame = false;
                self.have = 0;
                if self.opcode >= CLOSE
                    && let Err(refusal) = self.end_control(&mut on_control)
                {
                    return (out, Some(refusal));
                }
            }
        }
        (out, None)
    }

    /// Length of the header as far as its first bytes tell.
    fn header_len(&self) -> usize {
        // A frame without mask is refused as soon as that is seen: its header is shorter.
        if self.have < 2 || self.header[1] & 0x80 == 0 {
            return 2;
        }
        match self.header[1] & 0x7F {
            126 => 8,
            127 => 14,
            _ => 6,
        }
    }

    fn begin_frame(&mut self) -> Result<(), Refusal> {
        let h = &self.header;
        let fin = h[0] & 0x80 != 0;
        let masked = h[1] & 0x80 != 0;
        self.opcode = h[0] & 0x0F;
        // Reserved bits belong to extensions, and none was agreed.
        if h[0] & 0x70 != 0 || !masked {
            return Err(Refusal::Protocol);
        }
        let (length, mask_at) = match h[1] & 0x7F {
            126 => (u64::from(u16::from_be_bytes([h[2], h[3]])), 4),
            127 => (
                u64::from_be_bytes([h[2], h[3], h[4], h[5], h[6], h[7], h[8], h[9]]),
                10,
            ),
            short => (u64::from(short), 2),
        };
        self.mask = [h[mask_at], h[mask_at + 1], h[mask_at + 2], h[mask_at + 3]];
        match self.opcode {
            TEXT => return Err(Refusal::Text),
            BINARY if self.fragmented => return Err(Refusal::Protocol),
            CONTINUATION if !self.fragmented => return Err(Refusal::Protocol),
            BINARY | CONTINUATION => {
                self.message = if self.opcode == BINARY {
                    length
                } else {
                    self.message.saturating_add(length)
                };
                if self.message > self.max_message {
                    return Err(Refusal::TooBig);
                }
                self.fragmented = !fin;
            }
            CLOSE | PING | PONG => {
                if !fin || length > MAX_CONTROL_PAYLOAD as u64 {
                    return Err(Refusal::Protocol);
                }
            }
            _ => return Err(Refusal::Protocol),
        }
        self.left = length;
        self.in_frame = true;
        Ok(())
    }

    fn end_control(&mut self, on_control: &mut impl FnMut(Control)) -> Result<(), Refusal> {
        let payload = std::mem::take(&mut self.control);
        match self.opcode {
            PING => on_control(Control::Ping(payload)),
            PONG => on_control(Control::Pong),
            _ => {
                let code = match payload.as_slice() {
                    [] => None,
                    [high, low, ..] => Some(u16::from_be_bytes([*high, *low])),
                    [_] => return Err(Refusal::Protocol),
                };
                self.closed = true;
                on_control(Control::Close(code));
            }
        }
        Ok(())
    }
}

/// Applies or removes a mask; `mask[0]` belongs to `data[0]`.
pub fn unmask(data: &mut [u8], mask: [u8; 4]) {
    let [a, b, c, d] = mask;
    let wide = u64::from_ne_bytes([a, b, c, d, a, b, c, d]);
    let (chunks, rest) = data.as_chunks_mut::<8>();
    for chunk in chunks {
        *chunk = (u64::from_ne_bytes(*chunk) ^ wide).to_ne_bytes();
    }
    for (byte, mask) in rest.iter_mut().zip(mask.iter().cycle()) {
        *byte ^= mask;
    }
}

/// Writes the header of an unmasked, final binary frame and returns its length.
pub fn binary_header(length: u64, header: &mut [u8; MAX_SERVER_HEADER]) -> u8 {
    header[0] = 0x80 | BINARY;
    if length < 126 {
        header[1] = length as u8;
        2
    } else if let Ok(length) = u16::try_from(length) {
        header[1] = 126;
        header[2..4].copy_from_slice(&length.to_be_bytes());
        4
    } else {
        header[1] = 127;
        header[2..10].copy_from_slice(&length.to_be_bytes());
        10
    }
}

/// The Pong frame for a Ping's payload, which is at most [`MAX_CONTROL_PAYLOAD`] bytes.
#[must_use]
pub fn pong(payload: &[u8]) -> Vec<u8> {
    let payload = &payload[..payload.len().min(MAX_CONTROL_PAYLOAD)];
    let mut frame = Vec::with_capacity(2 + payload.len());
    frame.extend_from_slice(&[0x80 | PONG, payload.len() as u8]);
    frame.extend_from_slice(payload);
    frame
}

/// A Close frame with a status code.
#[must_use]
pub fn close(code: u16) -> Vec<u8> {
    let [high, low] = code.to_be_bytes();
    vec![0x80 | CLOSE, 2, high, low]
}

#[cfg(test)]
#[path = "frame_tests.rs"]
mod tests;
