//! The data directory: whose it is, and the lock against a second process.

use std::collections::hash_map::RandomState;
use std::fs::{self, File, OpenOptions, TryLockError};
use std::hash::{BuildHasher, Hasher};
use std::path::{Path, PathBuf};

use crate::error::Error;
use crate::files::{Files, sync_dir};

/// Format of the directory as a whole.
pub(crate) const FORMAT: u32 = 1;

const TITLE: &str = "nightjar data directory";

/// Whose a data directory is, as its file `identity` says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Identity {
    /// Format of the directory.
    pub format: u32,
    /// Id of the cluster, 32 hexadecimal digits, made with the directory.
    pub cluster: String,
    /// Name of the node.
    pub node: String,
    /// Groups of sessions.
    pub session_groups: u16,
    /// Groups of retained messages.
    pub retained_groups: u16,
}

impl Identity {
    pub(crate) fn new(node: &str, session_groups: u16, retained_groups: u16) -> Self {
        // Ids must differ between clusters; they are no secret.
        let word = || RandomState::new().build_hasher().finish();
        Self {
            format: FORMAT,
            cluster: format!("{:016x}{:016x}", word(), word()),
            node: node.to_owned(),
            session_groups,
            retained_groups,
        }
    }

    pub(crate) fn text(&self) -> String {
        format!(
            "{TITLE}\nformat {}\ncluster {}\nnode {}\nsession-groups {}\nretained-groups {}\n",
            self.format, self.cluster, self.node, self.session_groups, self.retained_groups
        )
    }

    pub(crate) fn parse(path: &Path, text: &str) -> Result<Self, Error> {
        let damaged = |line: usize, what: &str| Error::Damaged {
            path: path.to_owned(),
            offset: text
                .split_inclusive('\n')
                .take(line)
                .map(|l| l.len() as u64)
                .sum(),
            what: what.to_owned(),
        };
        let mut lines = text.lines();
        if lines.next() != Some(TITLE) {
            return Err(damaged(0, "the first line is not that of a data directory"));
        }
        let mut values = Vec::new();
        for (at, key) in [
            "format",
            "cluster",
            "node",
            "session-groups",
            "retained-groups",
        ]
        .into_iter()
        .enumerate()
        {
            let value = lines
                .next()
                .and_then(|line| line.strip_prefix(key))
                .and_then(|rest| rest.strip_prefix(' '))
                .ok_or_else(|| damaged(at + 1, &format!("the line {key:?} is missing")))?;
            if key == "format" {
                let found = value
                    .parse()
                    .map_err(|_| damaged(1, "the format is not a number"))?;
                if found > FORMAT {
                    return Err(Error::Format {
                        dir: path.parent().unwrap_or(path).to_owned(),
                        found,
                        supported: FORMAT,
                    });
                }
            }
            values.push(value);
        }
        let number = |at: usize| {
            values[at]
                .parse()
                .map_err(|_| damaged(at + 1, "not a number"))
        };
        Ok(Self {
            format: FORMAT,
            cluster: values[1].to_owned(),
            node: values[2].to_owned(),
            session_groups: number(3)?,
            retained_groups: number(4)?,
        })
    }

    pub(crate) fn write(&self, dir: &Path, files: &dyn Files) -> Result<(), Error> {
        let file = dir.join("identity");
        files
            .replace(&file, self.text().as_bytes())
            .map_err(Error::io(file, "cannot be written"))?;
        sync_dir(dir).map_err(Error::io(dir, "cannot be synced"))
    }

    /// Reads the identity of a data directory; `None` if it has none.
    ///
    /// # Errors
    /// Unreadable, damaged, or of a newer format.
    pub fn read(dir: &Path) -> Result<Option<Self>, Error> {
        let path = dir.join("identity");
        match fs::read_to_string(&path) {
            Ok(text) => Self::parse(&path, &text).map(Some),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(Error::io(path, "cannot be read")(error)),
        }
    }
}

/// An opened data directory, locked as long as this lives.
#[derive(Debug)]
pub(crate) struct DataDir {
    pub path: PathBuf,
    pub identity: Identity,
    /// Nothing was here before.
    pub fresh: bool,
    _lock: File,
}

impl DataDir {
    pub fn log(&self) -> PathBuf {
        self.path.join("log")
    }

    pub fn snapshots(&self) -> PathBuf {
        self.path.join("snapshots")
    }

    pub fn bodies(&self) -> PathBuf {
        self.path.join(crate::bodies::DIR)
    }

    pub fn mark(&self) -> PathBuf {
        self.path.join("mark")
    }

    /// Opens or makes the directory. `wanted` is what this node is configured as; its cluster id counts only if
    /// `cluster` is given.
    pub fn open(
        path: &Path,
        wanted: &Identity,
        cluster: Option<&str>,
        files: &dyn Files,
    ) -> Result<Self, Error> {
        fs::create_dir_all(path).map_err(Error::io(path, "cannot be created"))?;
        let found = Identity::read(path)?;
        if found.is_none() {
            refuse_foreign(path)?;
        }
        let lock_path = path.join("lock");
        let lock = OpenOptions::new()
            .create(true)
            .truncate(false)
            .write(true)
            .open(&lock_path)
            .map_err(Error::io(&lock_path, "cannot be opened"))?;
        match patiently(
            || lock.try_lock(),
            |done| matches!(done, Err(TryLockError::WouldBlock)),
        ) {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                return Err(Error::InUse {
                    dir: path.to_owned(),
                    lock: lock_path,
                });
            }
            Err(TryLockError::Error(error)) => {
                return Err(Error::io(lock_path, "cannot be locked")(error));
            }
        }
        let fresh = found.is_none();
        let identity = match found {
            Some(found) => {
                agree(path, &found, wanted, cluster)?;
                found
            }
            None => {
                let mut identity = wanted.clone();
                if let Some(cluster) = cluster {
                    cluster.clone_into(&mut identity.cluster);
                }
                for sub in ["log", "snapshots"] {
                    let sub = path.join(sub);
                    fs::create_dir_all(&sub).map_err(Error::io(sub, "cannot be created"))?;
                }
                identity.write(path, files)?;
                identity
            }
        };
        Ok(Self {
            path: path.to_owned(),
            identity,
            fresh,
            _lock: lock,
        })
    }
}

/// Tries again for half a second: a process that was just started by another one has its locks until it has become
/// another program, and one that was killed until its last thread is gone.
pub(crate) fn patiently<T>(mut attempt: impl FnMut() -> T, again: impl Fn(&T) -> bool) -> T {
    for _ in 0..50 {
        let done = attempt();
        if !again(&done) {
            return done;
        }
        pause();
    }
    attempt()
}

#[allow(
    clippy::disallowed_methods,
    reason = "a directory is opened before anything is served"
)]
fn pause() {
    std::thread::sleep(std::time::Duration::from_millis(10));
}

/// A directory without an identity may hold only what an interrupted first start leaves.
pub(crate) fn refuse_foreign(dir: &Path) -> Result<(), Error> {
    let entries = fs::read_dir(dir).map_err(Error::io(dir, "cannot be read"))?;
    for entry in entries {
        let entry = entry.map_err(Error::io(dir, "cannot be read"))?;
        let name = entry.file_name().to_string_lossy().into_owned();
        let left_over = match name.as_str() {
            "lost+found" | "lock" | "identity.tmp" => true,
            "log" | "snapshots" | "bodies" => fs::read_dir(entry.path())
                .map_err(Error::io(entry.path(), "cannot be read"))?
                .next()
                .is_none(),
            _ => false,
        };
        if !left_over {
            return Err(Error::NotOurs {
                dir: dir.to_owned(),
                found: name,
            });
        }
    }
    Ok(())
}

fn agree(
    dir: &Path,
    found: &Identity,
    wanted: &Identity,
    cluster: Option<&str>,
) -> Result<(), Error> {
    let differs = |what, found: String, expected: String| {
        Err(Error::Foreign {
            dir: dir.to_owned(),
            what,
            found,
            expected,
        })
    };
    if found.node != wanted.node {
        return differs("node", found.node.clone(), wanted.node.clone());
    }
    if let Some(cluster) = cluster
        && found.cluster != cluster
    {
        return differs("cluster", found.cluster.clone(), cluster.to_owned());
    }
    Ok(())
}
