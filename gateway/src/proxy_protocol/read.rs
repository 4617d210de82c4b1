//! Taking a header off a socket without taking a byte of what follows it.

use std::io;

use tokio::io::AsyncReadExt;
use tokio::net::TcpStream;

use super::parse::{Parsed, ProxyError, ProxyHeader, parse};

/// How much is looked at before it is known to belong to the header: a version 1 line, or a version 2 header with
/// addresses and the usual TLVs.
const LOOK: usize = 256;

/// What stood at the beginning of a connection.
#[derive(Debug)]
pub enum Outcome {
    /// A header, now consumed.
    Header(Box<ProxyHeader>),
    /// Something else, nothing of it consumed.
    NotProxy,
    /// The peer closed; true if it had sent nothing (a port check).
    Closed(bool),
}

/// Why no header could be read.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// The socket failed.
    #[error("{0}")]
    Io(#[from] io::Error),
    /// The bytes are no proper header.
    #[error("{0}")]
    Header(#[from] ProxyError),
    /// Bytes that began as a header, came in pieces, and then were none.
    #[error("PROXY header is malformed")]
    Broken,
}

/// Reads a header. It peeks, and consumes only bytes that are known to belong to the header, so that the stream can be
/// handed on whatever comes.
///
/// # Errors
/// [`ReadError`]. There is no time limit in here; memory is at most [`super::parse::MAX_V2`].
pub async fn read_header(socket: &mut TcpStream) -> Result<Outcome, ReadError> {
    let mut taken = Vec::new();
    loop {
        let mut look = [0; LOOK];
        let n = socket.peek(&mut look).await?;
        if n == 0 {
            return Ok(Outcome::Closed(taken.is_empty()));
        }
        let before = taken.len();
        taken.extend_from_slice(&look[..n]);
        match parse(&taken)? {
            Parsed::Incomplete => consume(socket, n).await?,
            Parsed::Header(header, length) => {
                consume(socket, length - before).await?;
                return Ok(Outcome::Header(header));
            }
            Parsed::NotProxy if before == 0 => return Ok(Outcome::NotProxy),
            Parsed::NotProxy => return Err(ReadError::Broken),
        }
    }
}

/// True if a connection begins as a header does; nothing is consumed. For peers whose headers are not believed, which
/// need not be waited for.
///
/// # Errors
/// Those of the socket.
pub async fn begins_as_header(socket: &TcpStream) -> io::Result<bool> {
    let mut look = [0; 16];
    let n = socket.peek(&mut look).await?;
    Ok(n > 0 && !matches!(parse(&look[..n]), Ok(Parsed::NotProxy)))
}

/// Takes off bytes that were seen, so this does not wait.
async fn consume(socket: &mut TcpStream, count: usize) -> io::Result<()> {
    let mut sink = [0; LOOK];
    socket.read_exact(&mut sink[..count]).await.map(|_| ())
}
