//! The command's side of `ctl`: blocking, because a command does one thing and ends.

use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

use serde_json::Value;

use super::protocol::{CtlError, ErrorCode, MAX_LINE, Reply, Request};

/// Longest silence of a node before it counts as unreachable.
const PATIENCE: Duration = Duration::from_secs(30);

/// A conversation with a node.
pub struct Client {
    stream: BufReader<UnixStream>,
}

impl Client {
    /// Connects to a node's socket.
    ///
    /// # Errors
    /// [`ErrorCode::Unreachable`] if none listens there, [`ErrorCode::Refused`] if this user may not.
    pub fn connect(path: &Path) -> Result<Self, CtlError> {
        let stream = UnixStream::connect(path).map_err(|error| {
            let shown = path.display();
            if error.kind() == std::io::ErrorKind::PermissionDenied {
                CtlError::new(ErrorCode::Refused, format!("{shown}: {error}"))
                    .help("run this as the user that the node runs as, or with sudo")
            } else {
                CtlError::new(ErrorCode::Unreachable, format!("no node answers at {shown}: {error}"))
                    .help("start it with `nightjar serve`, or name it with --config, --data-dir or --socket")
            }
        })?;
        let lost = |error: std::io::Error| CtlError::new(ErrorCode::Unreachable, error.to_string());
        stream.set_read_timeout(Some(PATIENCE)).map_err(lost)?;
        stream.set_write_timeout(Some(PATIENCE)).map_err(lost)?;
        Ok(Self {
            stream: BufReader::new(stream),
        })
    }

    /// Waits for as long as it takes: what is followed may be silent.
    ///
    /// # Errors
    /// The system does not let it.
    pub fn wait_for_ever(&self) -> Result<(), CtlError> {
        let stream = self.stream.get_ref();
        stream
            .set_read_timeout(None)
            .map_err(|error| CtlError::new(ErrorCode::Unreachable, error.to_string()))
    }

    /// Asks for a verb. Columns and rows go to `each` as they come; the result is returned.
    ///
    /// # Errors
    /// What the node answers, or [`ErrorCode::Unreachable`] if it stops answering.
    pub fn call(
        &mut self,
        verb: &str,
        args: Value,
        mut each: impl FnMut(Reply),
    ) -> Result<Value, CtlError> {
        let lost = |error: std::io::Error| {
            CtlError::new(
                ErrorCode::Unreachable,
                format!("the node stopped answering: {error}"),
            )
            .help("look at its log; it may be stopping")
        };
        let request = Request {
            verb: verb.to_owned(),
            args,
        };
        let mut line = serde_json::to_vec(&request)
            .map_err(|error| CtlError::new(ErrorCode::Usage, error.to_string()))?;
        line.push(b'\n');
        self.stream.get_mut().write_all(&line).map_err(lost)?;
        loop {
            line.clear();
            let limit = MAX_LINE as u64 + 1;
            (&mut self.stream)
                .take(limit)
                .read_until(b'\n', &mut line)
                .map_err(lost)?;
            if line.last() != Some(&b'\n') {
                let error =
                    std::io::Error::new(std::io::ErrorKind::UnexpectedEof, "its answer is cut off");
                return Err(lost(error));
            }
            let reply = serde_json::from_slice(&line).map_err(|error| {
                CtlError::new(
                    ErrorCode::Failed,
                    format!("the answer is not understood: {error}"),
                )
                .help("`nightjar version` of the command and of the node should be the same")
            })?;
            match reply {
                Reply::End(value) => return Ok(value),
                Reply::Error(error) => return Err(error),
                reply => each(reply),
            }
        }
    }
}
