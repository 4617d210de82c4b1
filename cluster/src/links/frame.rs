//! Frames: length, kind, content, code. Below TLS, which has codes of its own, there is none.

use std::io;

use bytes::Bytes;
use ring::hmac;
use tokio::io::{AsyncRead, AsyncReadExt};

/// Bytes of the code behind a frame.
const TAG: usize = 16;
/// The largest frame, put together: a round of all connections of a node, or a piece of a log.
pub(super) const MAX: usize = 512 << 20;
/// The largest frame on its way: a portion of a lane, and what is around it.
const WIRE: usize = 128 << 10;

/// One direction of a link: its key and how many frames went.
pub(super) struct Seal {
    /// `None`: TLS protects the link.
    key: Option<hmac::Key>,
    count: u64,
}

impl Seal {
    pub fn new(key: &[u8]) -> Self {
        Self {
            key: Some(hmac::Key::new(hmac::HMAC_SHA256, key)),
            count: 0,
        }
    }

    /// For a link that TLS protects.
    pub const fn of_tls() -> Self {
        Self {
            key: None,
            count: 0,
        }
    }

    const fn tag_len(&self) -> usize {
        if self.key.is_some() { TAG } else { 0 }
    }

    fn tag(&mut self, kind: u8, head: &[u8], body: &[u8]) -> Option<hmac::Tag> {
        let mut context = hmac::Context::with_key(self.key.as_ref()?);
        context.update(&self.count.to_le_bytes());
        context.update(&[kind]);
        context.update(head);
        context.update(body);
        self.count += 1;
        Some(context.sign())
    }

    /// Appends a frame, whose content is `head` and `body`.
    pub fn put(&mut self, out: &mut Vec<u8>, kind: u8, head: &[u8], body: &[u8]) {
        let len = head.len() + body.len() + 1 + self.tag_len();
        out.extend_from_slice(&(len as u32).to_le_bytes());
        out.push(kind);
        out.extend_from_slice(head);
        out.extend_from_slice(body);
        if let Some(tag) = self.tag(kind, head, body) {
            out.extend_from_slice(&tag.as_ref()[..TAG]);
        }
    }

    /// Reads a frame. A wrong code ends the link.
    pub async fn take(&mut self, from: &mut (impl AsyncRead + Unpin)) -> io::Result<(u8, Bytes)> {
        let len = from.read_u32_le().await? as usize;
        let code = self.tag_len();
        if !(1 + code..=WIRE).contains(&len) {
            return Err(io::Error::new(
                io::ErrorKind::InvalidData,
                format!("a frame of {len} bytes"),
            ));
        }
        // Memory grows with what comes, not with what is announced.
        let mut bytes = Vec::with_capacity(len.min(64 << 10));
        let read = from.take(len as u64).read_to_end(&mut bytes).await?;
        if read < len {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        let kind = bytes[0];
        let tag = self.tag(kind, &[], &bytes[1..len - code]);
        if tag.is_some_and(|tag| !same(&tag.as_ref()[..TAG], &bytes[len - code..])) {
            return Err(io::Error::new(
                io::ErrorKind::InvalidData,
                "a frame whose code is wrong: it was changed on its way, or forged",
            ));
        }
        let bytes = Bytes::from(bytes);
        Ok((kind, bytes.slice(1..len - code)))
    }
}

/// Compares codes in a time that does not tell where they differ.
pub(crate) fn same(a: &[u8], b: &[u8]) -> bool {
    a.len() == b.len() && a.iter().zip(b).fold(0, |diff, (a, b)| diff | (a ^ b)) == 0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_frame_is_read_as_put_and_any_change_is_seen() {
        let mut bytes = Vec::new();
        let mut seal = Seal::new(b"key");
        seal.put(&mut bytes, 3, b"con", b"tent");
        seal.put(&mut bytes, 4, b"", b"");
        let mut from = &bytes[..];
        let mut open = Seal::new(b"key");
        assert_eq!(
            open.take(&mut from).await.unwrap(),
            (3, Bytes::from("content"))
        );
        assert_eq!(open.take(&mut from).await.unwrap(), (4, Bytes::new()));
        for at in 0..bytes.len() {
            let mut forged = bytes.clone();
            forged[at] ^= 1;
            let mut from = &forged[..];
            let mut open = Seal::new(b"key");
            let first = open.take(&mut from).await;
            let second = open.take(&mut from).await;
            assert!(first.is_err() || second.is_err(), "byte {at}");
        }
        // The second frame in the place of the first: a repeat or a gap.
        let mut from = &bytes[28..];
        assert!(Seal::new(b"key").take(&mut from).await.is_err());
    }
}
