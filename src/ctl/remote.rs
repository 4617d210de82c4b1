//! `ctl --url`: the same conversation over the HTTP API.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use base64::Engine as _;
use serde_json::Value;

use super::protocol::{CtlError, ErrorCode, MAX_LINE, Reply, Request};

/// Longest silence of a node before it counts as unreachable.
const PATIENCE: Duration = Duration::from_secs(30);
/// Lines of a response's head.
const MAX_HEAD: usize = 100;

/// A node by the URL of its HTTP API.
pub struct Remote {
    host: String,
    path: String,
    authorization: String,
}

impl Remote {
    /// The node at `http://host:port`, and a token or `key:secret`.
    ///
    /// # Errors
    /// [`ErrorCode::Usage`] if the URL is none of ours.
    pub fn new(url: &str, token: &str) -> Result<Self, CtlError> {
        let rest = url.strip_prefix("http://").ok_or_else(|| {
            CtlError::new(
                ErrorCode::Usage,
                format!("--url: expected http://HOST:PORT, got {url:?}"),
            )
            .help("the port speaks HTTP; where it is behind a proxy with TLS, go through a tunnel")
        })?;
        let (host, path) = rest.split_once('/').unwrap_or((rest, ""));
        let plain = |text: &str| text.chars().all(|c| c.is_ascii_graphic());
        if host.is_empty() || !plain(rest) || !plain(token) {
            let text = "--url, --token: expected printable characters without spaces";
            return Err(CtlError::new(ErrorCode::Usage, text));
        }
        let port = host.rsplit_once(':').map(|(_, port)| port);
        let host = if port.is_some_and(|port| port.parse::<u16>().is_ok()) {
            host.to_owned()
        } else {
            format!("{host}:18083")
        };
        let authorization = if token.contains(':') {
            let coded = base64::engine::general_purpose::STANDARD.encode(token);
            format!("Basic {coded}")
        } else {
            format!("Bearer {token}")
        };
        Ok(Self {
            host,
            path: path.trim_end_matches('/').to_owned(),
            authorization,
        })
    }

    /// Asks for a verb, as [`super::Client::call`] does. `follows`: its answer may be silent for any time.
    ///
    /// # Errors
    /// What the node answers, or [`ErrorCode::Unreachable`].
    pub fn call(
        &self,
        verb: &str,
        args: Value,
        follows: bool,
        mut each: impl FnMut(Reply),
    ) -> Result<Value, CtlError> {
        let request = Request {
            verb: verb.to_owned(),
            args,
        };
        let body = serde_json::to_vec(&request)
            .map_err(|error| CtlError::new(ErrorCode::Usage, error.to_string()))?;
        let lost = |error: std::io::Error| {
            let text = format!("no node answers at {}: {error}", self.host);
            CtlError::new(ErrorCode::Unreachable, text)
        };
        let mut stream = TcpStream::connect(&self.host).map_err(lost)?;
        let patience = (!follows).then_some(PATIENCE);
        stream.set_read_timeout(patience).map_err(lost)?;
        stream.set_write_timeout(Some(PATIENCE)).map_err(lost)?;
        let prefix = if self.path.is_empty() {
            String::new()
        } else {
            format!("/{}", self.path)
        };
        let head = format!(
            "POST {prefix}/api/v1/ctl HTTP/1.0\r\nhost: {}\r\nauthorization: {}\r\ncontent-type: application/json\r\n\
             content-length: {}\r\nconnection: close\r\n\r\n",
            self.host,
            self.authorization,
            body.len()
        );
        stream.write_all(head.as_bytes()).map_err(lost)?;
        stream.write_all(&body).map_err(lost)?;
        let mut reader = BufReader::new(stream);
        let status = read_head(&mut reader).map_err(lost)?;
        if status != 200 {
            return Err(refused(status, &mut reader));
        }
        let mut line = Vec::new();
        loop {
            line.clear();
            let limit = MAX_LINE as u64 + 1;
            (&mut reader)
                .take(limit)
                .read_until(b'\n', &mut line)
                .map_err(lost)?;
            if line.last() != Some(&b'\n') {
                let text = "the node's answer is cut off";
                return Err(CtlError::new(ErrorCode::Unreachable, text));
            }
            let reply = serde_json::from_slice(&line).map_err(|error| {
                let text = format!("the answer is not understood: {error}");
                CtlError::new(ErrorCode::Failed, text)
                    .help("the versions of the command and of the node should be the same")
            })?;
            match reply {
                Reply::End(value) => return Ok(value),
                Reply::Error(error) => return Err(error),
                reply => each(reply),
            }
        }
    }
}

/// The status of a response; its head is read.
fn read_head(reader: &mut impl BufRead) -> std::io::Result<u16> {
    let wrong = || std::io::Error::new(std::io::ErrorKind::InvalidData, "that is no HTTP");
    let mut line = String::new();
    reader.take(4096).read_line(&mut line)?;
    let status = line
        .strip_prefix("HTTP/1.")
        .and_then(|rest| rest.split(' ').nth(1))
        .and_then(|status| status.trim().parse().ok())
        .ok_or_else(wrong)?;
    for _ in 0..MAX_HEAD {
        line.clear();
        reader.take(16 * 1024).read_line(&mut line)?;
        if line.trim_end().is_empty() {
            return Ok(status);
        }
    }
    Err(wrong())
}

/// What a status other than 200 means.
fn refused(status: u16, reader: &mut impl Read) -> CtlError {
    let mut body = Vec::new();
    let _ = reader.take(64 * 1024).read_to_end(&mut body);
    let message = serde_json::from_slice::<Value>(&body)
        .ok()
        .and_then(|value| value["message"].as_str().map(str::to_owned))
        .unwrap_or_else(|| format!("the node answered with status {status}"));
    let code = match status {
        401 | 403 | 429 => ErrorCode::Refused,
        404 => ErrorCode::NotFound,
        400 | 413 => ErrorCode::Usage,
        _ => ErrorCode::Failed,
    };
    CtlError::new(code, message)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_and_tokens_are_checked_before_anything_is_sent() {
        let remote = Remote::new("http://h/base/", "key:secret").unwrap();
        assert_eq!((&*remote.host, &*remote.path), ("h:18083", "base"));
        assert!(remote.authorization.starts_with("Basic "));
        for (url, token) in [
            ("https://h", "t"),
            ("h:1", "t"),
            ("http://", "t"),
            ("http://h\r\nx: y", "t"),
            ("http://h", "t\r\nx: y"),
        ] {
            assert_eq!(
                Remote::new(url, token).err().map(|error| error.code),
                Some(ErrorCode::Usage),
                "{url} {token}"
            );
        }
    }

    #[test]
    fn a_head_that_is_no_http_or_has_no_end_is_an_error() {
        let read = |text: &str| read_head(&mut text.as_bytes());
        assert_eq!(read("HTTP/1.1 200 OK\r\na: b\r\n\r\nbody").unwrap(), 200);
        assert!(read("SSH-2.0\r\n").is_err());
        assert!(read(&format!("HTTP/1.1 200 OK\r\n{}", "a: b\r\n".repeat(200))).is_err());
    }
}
