//! Payloads from standard input and files, with a limit on their size.

use std::io;
use std::path::Path;

use bytes::Bytes;
use tokio::io::{AsyncBufRead, AsyncBufReadExt, AsyncRead, AsyncReadExt};

use crate::error::{Error, Result};

/// The largest payload an MQTT packet can hold.
pub const MAX_PAYLOAD: usize = 268_435_455;

/// Reads lines without their `\n`. Cancel safe: a line half read stays.
#[derive(Debug)]
pub struct Lines<R> {
    reader: R,
    line: Vec<u8>,
    limit: usize,
}

impl<R: AsyncBufRead + Unpin> Lines<R> {
    /// Lines of `reader`, at most [`MAX_PAYLOAD`] bytes each.
    pub fn new(reader: R) -> Self {
        Self {
            reader,
            line: Vec::new(),
            limit: MAX_PAYLOAD,
        }
    }

    /// The next line, `None` at the end. A last line without `\n` counts, an empty one does not.
    ///
    /// # Errors
    /// [`Error::Io`] for a failed read and a line too long.
    pub async fn next(&mut self) -> Result<Option<Bytes>> {
        loop {
            let available = self.reader.fill_buf().await.map_err(stdin_error)?;
            if available.is_empty() {
                let last = std::mem::take(&mut self.line);
                return Ok((!last.is_empty()).then(|| Bytes::from(last)));
            }
            let end = available.iter().position(|&byte| byte == b'\n');
            let part = &available[..end.unwrap_or(available.len())];
            if self.line.len() + part.len() > self.limit {
                return Err(too_large());
            }
            self.line.extend_from_slice(part);
            let used = part.len() + usize::from(end.is_some());
            self.reader.consume(used);
            if end.is_some() {
                return Ok(Some(Bytes::from(std::mem::take(&mut self.line))));
            }
        }
    }
}

fn stdin_error(source: io::Error) -> Error {
    Error::Io {
        what: "cannot read standard input",
        source,
    }
}

fn too_large() -> Error {
    stdin_error(io::Error::new(
        io::ErrorKind::InvalidData,
        format!("more than {MAX_PAYLOAD} bytes do not fit into an MQTT packet"),
    ))
}

/// Everything up to the end of the input.
///
/// # Errors
/// [`Error::Io`] for a failed read and for more than [`MAX_PAYLOAD`] bytes.
pub async fn read_all(reader: impl AsyncRead + Unpin) -> Result<Bytes> {
    let mut payload = Vec::new();
    let limit = MAX_PAYLOAD as u64 + 1;
    reader
        .take(limit)
        .read_to_end(&mut payload)
        .await
        .map_err(stdin_error)?;
    if payload.len() > MAX_PAYLOAD {
        return Err(too_large());
    }
    Ok(Bytes::from(payload))
}

/// A whole file.
///
/// # Errors
/// [`Error::File`] naming it.
pub async fn read_file(path: &Path) -> Result<Bytes> {
    let failed = |reason: String| Error::File {
        path: path.to_owned(),
        reason,
    };
    let file = tokio::fs::File::open(path)
        .await
        .map_err(|error| failed(error.to_string()))?;
    read_all(file)
        .await
        .map_err(|error| failed(error.to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn lines(input: &[u8]) -> Vec<Bytes> {
        let mut lines = Lines::new(tokio::io::BufReader::with_capacity(4, input));
        let mut all = Vec::new();
        while let Some(line) = lines.next().await.unwrap() {
            all.push(line);
        }
        all
    }

    #[tokio::test]
    async fn lines_lose_their_newline_and_nothing_else() {
        assert_eq!(
            lines(b"one\n\nlonger line\r\nlast").await,
            ["one", "", "longer line\r", "last"]
        );
        assert_eq!(lines(b"one\n").await, ["one"]);
        assert!(lines(b"").await.is_empty());
    }

    #[tokio::test]
    async fn a_line_without_end_is_refused_at_the_limit() {
        let mut lines = Lines::new(&[b'x'; 100][..]);
        lines.limit = 99;
        assert!(lines.next().await.is_err());
    }
}
