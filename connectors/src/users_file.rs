//! `kind = "file"`: users and their password hashes in a file.
//!
//! One user a line: `name:hash`, or `name:hash:superuser`. The hash is any of [`PasswordHash`], so a file of
//! mosquitto_passwd is taken as it is. Lines that begin with `#` are comments. A user with a SCRAM-SHA-256 entry can log
//! in with a password as well as by the enhanced method.

use std::collections::HashMap;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use arc_swap::ArcSwap;
use nightjar_broker::access::{AuthAnswer, AuthRequest, Authenticator, BoxFuture};
use nightjar_broker::auth::{ScramKeys, UserKind};

use crate::ConnectorError;
use crate::password::{HashPool, PasswordHash};
use crate::scram::KeySource;
use crate::users::{self, Login};

/// Larger files are refused: some 1.5 million users.
const MAX_FILE: u64 = 256 << 20;

/// The users of a file.
pub struct UsersFile {
    path: PathBuf,
    name: String,
    kind: UserKind,
    users: ArcSwap<Users>,
    pool: Arc<HashPool>,
}

struct Users {
    by_name: HashMap<Box<str>, Login>,
    /// What users that do not exist are checked against.
    stand_in: Arc<PasswordHash>,
}

impl UsersFile {
    /// Reads the file, whose names are user names or client identifiers.
    ///
    /// # Errors
    /// [`ConnectorError`] if it cannot be read or a line is wrong.
    pub fn load(
        path: impl Into<PathBuf>,
        kind: UserKind,
        pool: Arc<HashPool>,
    ) -> Result<Self, ConnectorError> {
        let path = path.into();
        Ok(Self {
            name: format!("file {}", path.display()),
            users: ArcSwap::from_pointee(read(&path)?),
            path,
            kind,
            pool,
        })
    }

    /// Reads the file again; on an error the old users stay.
    ///
    /// # Errors
    /// As [`Self::load`].
    pub fn reload_file(&self) -> Result<(), ConnectorError> {
        self.users.store(Arc::new(read(&self.path)?));
        Ok(())
    }

    /// Number of users.
    pub fn len(&self) -> usize {
        self.users.load().by_name.len()
    }

    /// True if the file names no user.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

fn read(path: &Path) -> Result<Users, ConnectorError> {
    let failed = |source| ConnectorError::Read {
        path: path.to_owned(),
        source,
    };
    let mut text = String::new();
    let file = std::fs::File::open(path).map_err(failed)?;
    file.take(MAX_FILE + 1)
        .read_to_string(&mut text)
        .map_err(failed)?;
    if text.len() as u64 > MAX_FILE {
        return Err(failed(std::io::Error::other("expected at most 256 MiB")));
    }
    parse(&text).map_err(|(line, problem)| ConnectorError::Line {
        path: path.to_owned(),
        line,
        problem,
    })
}

/// Reads the lines; an error is the line's number, from 1, and what is wrong.
fn parse(text: &str) -> Result<Users, (usize, String)> {
    let mut by_name = HashMap::new();
    let mut first: Option<Arc<PasswordHash>> = None;
    for (at, line) in text.lines().enumerate() {
        let wrong = |problem: String| (at + 1, problem);
        let line = line.trim_end();
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        let Some((name, hash)) = line.split_once(':').filter(|(name, _)| !name.is_empty()) else {
            return Err(wrong(
                "expected name:hash or name:hash:superuser".to_owned(),
            ));
        };
        let (hash, superuser) = match hash.strip_suffix(":superuser") {
            Some(hash) => (hash, true),
            None => (hash, false),
        };
        let hash = PasswordHash::parse(hash).map_err(|error| wrong(error.to_string()))?;
        let hash = Arc::new(hash);
        first.get_or_insert_with(|| Arc::clone(&hash));
        let login = Login { hash, superuser };
        if by_name.insert(name.into(), login).is_some() {
            return Err(wrong(format!(
                "expected each user once, got {name:?} again"
            )));
        }
    }
    let stand_in = first.map_or_else(users::own_stand_in, |hash| Arc::new(hash.stand_in()));
    Ok(Users { by_name, stand_in })
}

impl Authenticator for UsersFile {
    fn name(&self) -> &str {
        &self.name
    }

    fn authenticate<'a>(&'a self, request: &'a AuthRequest) -> BoxFuture<'a, AuthAnswer> {
        let users = self.users.load();
        let Some(name) = users::name(self.kind, &request.client) else {
            return Box::pin(std::future::ready(AuthAnswer::Ignore));
        };
        let login = users.by_name.get(name).cloned();
        let stand_in = Arc::clone(&users.stand_in);
        Box::pin(users::judge(&self.pool, login, stand_in, request))
    }

    /// Nothing to wait for but the hashing of others, which is bounded.
    fn time_limit(&self) -> Option<std::time::Duration> {
        None
    }

    fn reload(&self) -> Result<(), String> {
        self.reload_file().map_err(|error| error.to_string())
    }
}

impl KeySource for UsersFile {
    fn scram_keys(&self, username: &str) -> Option<(ScramKeys, bool)> {
        if self.kind != UserKind::Username {
            return None;
        }
        let users = self.users.load();
        let login = users.by_name.get(username)?;
        Some((login.hash.scram_keys()?.clone(), login.superuser))
    }
}

#[cfg(test)]
mod tests;
