//! What traces write, moved from memory into files below `data_dir/trace`.

use std::fs::File;
use std::io::{Read, Seek, SeekFrom, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::PathBuf;
use std::sync::Arc;

use nightjar_broker::Timestamp;
use nightjar_broker::observe::{Trace, TraceSubject};

use crate::error::ApiError;
use crate::shared::Shared;

/// How long a trace lasts where nothing is said, milliseconds.
pub const DEFAULT_TIME: u64 = 600_000;
/// How long at most.
pub const MAX_TIME: u64 = 86_400_000;
/// Bytes after which it stops where nothing is said.
pub const DEFAULT_SIZE: u64 = 16 << 20;
/// Bytes at most.
pub const MAX_SIZE: u64 = 256 << 20;

/// Writes what traces gathered, and forgets those that are over for long.
pub async fn tick(shared: &Arc<Shared>, now: Timestamp) {
    let tracer = shared.broker.tracer();
    let all = tracer.list();
    if all.is_empty() {
        return;
    }
    tracer.refresh(now);
    let _ = shared
        .walk(move |shared| {
            for trace in all {
                shared.flush_trace(&trace);
            }
        })
        .await;
}

impl Shared {
    fn trace_path(&self, name: &str) -> PathBuf {
        self.data_dir.join("trace").join(format!("{name}.log"))
    }

    /// Starts a trace with an empty file.
    ///
    /// # Errors
    /// The name is not fit or taken, or the file cannot be made.
    pub fn start_trace(
        &self,
        name: &str,
        subject: TraceSubject,
        time: u64,
        size: u64,
    ) -> Result<Arc<Trace>, ApiError> {
        let plain = |b: u8| b.is_ascii_alphanumeric() || b == b'-' || b == b'_';
        if !(1..=64).contains(&name.len()) || !name.bytes().all(plain) {
            return Err(ApiError::bad_request(
                "name: expected 1 to 64 letters, digits, `-` or `_`",
            ));
        }
        let now = Timestamp::now();
        let trace = self
            .broker
            .tracer()
            .start(name, subject, now, now.plus_millis(time), size)?;
        let path = self.trace_path(name);
        let made = path
            .parent()
            .map_or(Ok(()), std::fs::create_dir_all)
            .and_then(|()| {
                File::options()
                    .write(true)
                    .create(true)
                    .truncate(true)
                    .mode(0o600)
                    .open(&path)
            });
        if let Err(error) = made {
            self.broker.tracer().remove(name);
            return Err(ApiError::internal(format!("{}: {error}", path.display())));
        }
        Ok(trace)
    }

    /// Writes what a trace gathered.
    pub fn flush_trace(&self, trace: &Trace) {
        let text = trace.take();
        if text.is_empty() {
            return;
        }
        let path = self.trace_path(&trace.name);
        let written = File::options()
            .append(true)
            .open(&path)
            .and_then(|mut file| file.write_all(text.as_bytes()));
        if let Err(error) = written {
            tracing::error!("{}: {error}; the trace stops", path.display());
            trace.stop();
        }
    }

    /// Forgets a trace and its file.
    pub fn remove_trace(&self, name: &str) {
        if self.broker.tracer().remove(name).is_some()
            && let Err(error) = std::fs::remove_file(self.trace_path(name))
        {
            tracing::warn!("{}: {error}", self.trace_path(name).display());
        }
    }

    /// At most `most` bytes of what a trace wrote, from a position on, ended at a whole character.
    ///
    /// # Errors
    /// The file cannot be read.
    pub fn read_trace(&self, trace: &Trace, from: u64, most: u64) -> Result<Vec<u8>, ApiError> {
        self.flush_trace(trace);
        let path = self.trace_path(&trace.name);
        let read = || -> std::io::Result<Vec<u8>> {
            let mut file = File::open(&path)?;
            file.seek(SeekFrom::Start(from))?;
            let mut bytes = Vec::new();
            file.take(most).read_to_end(&mut bytes)?;
            Ok(bytes)
        };
        let mut bytes = read().map_err(|error| match error.kind() {
            // Removed since it was found.
            std::io::ErrorKind::NotFound => {
                ApiError::not_found(format!("there is no trace {:?}", trace.name))
            }
            _ => ApiError::internal(format!("{}: {error}", path.display())),
        })?;
        if let Err(error) = std::str::from_utf8(&bytes)
            && error.error_len().is_none()
        {
            bytes.truncate(error.valid_up_to());
        }
        Ok(bytes)
    }
}
