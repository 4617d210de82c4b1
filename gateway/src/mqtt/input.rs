//! What arrived and is not yet decoded, and client identifiers that the server assigns.

use std::hash::{BuildHasher, RandomState};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// Assigns client identifiers: unique for this process and, by the random key, between processes.
#[derive(Debug, Default)]
pub struct ClientIds {
    key: RandomState,
    next: AtomicU64,
}

impl ClientIds {
    /// A new client identifier: 23 characters at most, letters and digits [MQTT-3.1.3-6].
    pub fn assign(&self) -> Arc<str> {
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        let (a, b) = (self.key.hash_one((number, 0u8)), number);
        format!("nj{a:016x}{:05x}", b & 0xf_ffff).into()
    }
}

/// Bytes that were read and not yet handled: the part of a packet, or whole packets that a pause holds up.
#[derive(Debug, Default)]
pub struct Leftover {
    bytes: Vec<u8>,
    paused: bool,
}

impl Leftover {
    /// What came behind CONNECT, to be handled first.
    pub fn behind_connect(bytes: Vec<u8>) -> Self {
        Self {
            paused: !bytes.is_empty(),
            bytes,
        }
    }

    /// Nothing left?
    pub const fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }

    /// May it hold whole packets?
    pub const fn is_paused(&self) -> bool {
        self.paused
    }

    /// Takes the bytes out.
    pub fn take(&mut self) -> Vec<u8> {
        self.paused = false;
        std::mem::take(&mut self.bytes)
    }

    /// Keeps what of a read was not consumed.
    pub fn keep_rest(&mut self, rest: &[u8], paused: bool) {
        debug_assert!(self.bytes.is_empty());
        if !rest.is_empty() {
            self.bytes = rest.to_vec();
            self.paused = paused;
        }
    }

    /// Puts a buffer back without its consumed part.
    pub fn put_back(&mut self, mut buffer: Vec<u8>, consumed: usize, paused: bool) {
        debug_assert!(self.bytes.is_empty());
        if consumed < buffer.len() {
            buffer.drain(..consumed);
            if buffer.capacity() > 4096 && buffer.len() * 4 < buffer.capacity() {
                buffer.shrink_to(buffer.len() * 2);
            }
            self.bytes = buffer;
            self.paused = paused;
        }
    }
}
