//! The worker's shared buffers: one to read into, one to write from. A connection borrows them for the length of one
//! poll and keeps only what is left over.

use std::cell::RefCell;

/// Bytes read at a time.
pub const READ_BYTES: usize = 64 * 1024;
/// Bytes after which a filled write buffer is written.
pub const WRITE_BYTES: usize = 64 * 1024;
/// A write buffer that grew beyond this (a large message) is let go.
const KEEP_BYTES: usize = 256 * 1024;

thread_local! {
    static READ: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
    static WRITE: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
}

/// Runs `f` with the worker's read buffer.
pub fn with_read<T>(f: impl FnOnce(&mut [u8]) -> T) -> T {
    READ.with(|buffer| {
        let mut buffer = buffer.borrow_mut();
        if buffer.is_empty() {
            buffer.resize(READ_BYTES, 0);
        }
        f(&mut buffer)
    })
}

/// Runs `f` with the worker's write buffer, empty.
pub fn with_write<T>(f: impl FnOnce(&mut Vec<u8>) -> T) -> T {
    WRITE.with(|buffer| {
        let mut buffer = buffer.borrow_mut();
        buffer.clear();
        if buffer.capacity() == 0 || buffer.capacity() > KEEP_BYTES {
            *buffer = Vec::with_capacity(WRITE_BYTES + 4096);
        }
        f(&mut buffer)
    })
}
