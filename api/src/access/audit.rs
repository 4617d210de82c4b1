//! Who changed what: the last changes in memory, all of them in the log and in `data_dir/audit.log`.

use std::collections::VecDeque;
use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};

use parking_lot::Mutex;
use serde::Serialize;
use serde_json::Value;
use utoipa::ToSchema;

/// Entries kept in memory.
const KEPT: usize = 1000;
/// Bytes after which the file is moved to `audit.log.1`.
const FILE_MAX: u64 = 8 << 20;
/// Bytes of a body that are kept.
pub const BODY_MAX: usize = 4096;

/// One change.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct AuditEntry {
    /// Number of the entry, growing.
    #[serde(skip)]
    pub id: u64,
    /// When.
    pub at: String,
    /// Account or key.
    pub who: String,
    /// Its role.
    pub role: String,
    /// Address it came from.
    pub from: String,
    /// HTTP method.
    pub method: String,
    /// Path.
    pub path: String,
    /// Status of the answer.
    pub status: u16,
    /// Body of the request without secrets; `null` if it was none, or large.
    pub body: Value,
}

/// The audit log of a node.
#[derive(Debug)]
pub struct Audit {
    path: PathBuf,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    entries: VecDeque<AuditEntry>,
    next: u64,
    file: Option<File>,
    size: u64,
}

impl Audit {
    /// The audit log of a data directory.
    #[must_use]
    pub fn open(dir: &Path) -> Self {
        Self {
            path: dir.join("audit.log"),
            state: Mutex::new(State {
                entries: VecDeque::new(),
                next: 1,
                file: None,
                size: 0,
            }),
        }
    }

    /// Notes a change. Writes a file: call it where that may block.
    pub fn record(&self, mut entry: AuditEntry) {
        tracing::info!(
            who = entry.who,
            from = entry.from,
            status = entry.status,
            "audit: {} {}",
            entry.method,
            entry.path
        );
        let mut state = self.state.lock();
        entry.id = state.next;
        state.next += 1;
        if let Err(error) = state.write(&self.path, &entry) {
            tracing::error!(
                "{}: {error}; the change is in this log only",
                self.path.display()
            );
            state.file = None;
        }
        state.entries.push_back(entry);
        if state.entries.len() > KEPT {
            state.entries.pop_front();
        }
    }

    /// The last changes before an entry, newest first.
    #[must_use]
    pub fn list(&self, before: Option<u64>, limit: usize) -> Vec<AuditEntry> {
        let state = self.state.lock();
        state
            .entries
            .iter()
            .rev()
            .filter(|entry| before.is_none_or(|before| entry.id < before))
            .take(limit)
            .cloned()
            .collect()
    }
}

impl State {
    fn write(&mut self, path: &Path, entry: &AuditEntry) -> std::io::Result<()> {
        use std::os::unix::fs::OpenOptionsExt;
        if self.size > FILE_MAX {
            self.file = None;
            std::fs::rename(path, path.with_extension("log.1"))?;
        }
        let file = match &mut self.file {
            Some(file) => file,
            None => {
                let file = File::options()
                    .create(true)
                    .append(true)
                    .mode(0o600)
                    .open(path)?;
                self.size = file.metadata()?.len();
                self.file.insert(file)
            }
        };
        let mut line = serde_json::to_vec(entry)?;
        line.push(b'\n');
        file.write_all(&line)?;
        self.size += line.len() as u64;
        Ok(())
    }
}

/// A body without what must not be kept: secrets, and payloads.
#[must_use]
pub fn redacted(bytes: &[u8]) -> Value {
    if bytes.len() > BODY_MAX {
        return Value::Null;
    }
    let mut value = serde_json::from_slice(bytes).unwrap_or(Value::Null);
    redact(&mut value);
    value
}

fn redact(value: &mut Value) {
    const SECRET: [&str; 7] = [
        "password",
        "old_password",
        "new_password",
        "secret",
        "token",
        "payload",
        "correlation_data",
    ];
    match value {
        Value::Object(fields) => {
            for (name, value) in fields {
                if SECRET.contains(&&*name.to_ascii_lowercase()) {
                    *value = Value::String("******".into());
                } else {
                    redact(value);
                }
            }
        }
        Value::Array(list) => list.iter_mut().for_each(redact),
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_secret_stays_in_a_kept_body() {
        let body =
            br#"{"username":"a","Password":"p1","list":[{"secret":{"x":"p2"}}],"payload":"p3"}"#;
        let text = redacted(body).to_string();
        assert!(text.contains("\"a\"") && !text.contains("p1"), "{text}");
        assert!(!text.contains("p2") && !text.contains("p3"), "{text}");
        assert_eq!(redacted(b"password=p"), Value::Null);
        assert_eq!(redacted(&vec![b'1'; BODY_MAX + 1]), Value::Null);
    }
}
