//! The rules of a file as an authorization source.

use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use arc_swap::ArcSwap;
use nightjar_mqtt::QoS;

use super::parse::SyntaxErrors;
use super::set::{Decision, RuleSet};
use crate::access::{Action, Answer, Authorizer, ClientInfo, Verdict};

/// Larger files are refused: nobody writes so many rules, but a wrong path may name a log.
const MAX_FILE: u64 = 64 << 20;

/// Why a rules file is not used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum AclError {
    /// The file cannot be read, or is no UTF-8 text.
    #[error("{}: {source}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system says.
        source: std::io::Error,
    },
    /// The file is larger than 64 MiB.
    #[error("{}: expected a rules file of at most 64 MiB", path.display())]
    TooLarge {
        /// The file.
        path: PathBuf,
    },
    /// The file has mistakes.
    #[error(transparent)]
    Syntax(#[from] SyntaxErrors),
}

/// `kind = "file"`: the rules of an `acl.conf`.
pub struct FileSource {
    path: PathBuf,
    name: String,
    rules: ArcSwap<RuleSet>,
}

impl FileSource {
    /// Reads the file.
    ///
    /// # Errors
    /// [`AclError`] if it cannot be read or has mistakes.
    pub fn load(path: impl Into<PathBuf>) -> Result<Self, AclError> {
        let path = path.into();
        let rules = read(&path)?;
        Ok(Self {
            name: format!("file {}", path.display()),
            rules: ArcSwap::from_pointee(rules),
            path,
        })
    }

    /// Reads the file again; on an error the old rules stay in force. Caches must be told:
    /// [`super::AclSources::reload`] does both.
    ///
    /// # Errors
    /// As [`Self::load`].
    pub fn reload_file(&self) -> Result<(), AclError> {
        self.rules.store(Arc::new(read(&self.path)?));
        Ok(())
    }

    /// The rules now in force.
    pub fn rules(&self) -> Arc<RuleSet> {
        self.rules.load_full()
    }
}

fn read(path: &Path) -> Result<RuleSet, AclError> {
    let failed = |source| AclError::Read {
        path: path.to_owned(),
        source,
    };
    let file = std::fs::File::open(path).map_err(failed)?;
    let mut text = String::new();
    file.take(MAX_FILE + 1)
        .read_to_string(&mut text)
        .map_err(failed)?;
    if text.len() as u64 > MAX_FILE {
        return Err(AclError::TooLarge {
            path: path.to_owned(),
        });
    }
    Ok(RuleSet::parse(&text, &path.display().to_string())?)
}

impl Authorizer for FileSource {
    fn name(&self) -> &str {
        &self.name
    }

    fn authorize<'a>(&'a self, client: &'a ClientInfo, action: Action<'a>) -> Answer<'a> {
        Answer::Now(self.rules.load().judge(client, action))
    }

    fn may_deliver(&self, client: &ClientInfo, filter: &str, qos: QoS, topic: &str) -> Verdict {
        self.rules.load().may_deliver(client, filter, qos, topic)
    }

    fn explain(&self, client: &ClientInfo, action: Action<'_>) -> Option<String> {
        let rules = self.rules.load();
        words(&rules.decide(client, action), &self.name)
    }

    fn reload(&self) -> Result<(), String> {
        self.reload_file().map_err(|error| error.to_string())
    }
}

/// A decision in words, `None` if no rule has a part in it.
pub(super) fn words(decision: &Decision<'_>, source: &str) -> Option<String> {
    let place = |line: u32| match line {
        0 => source.to_owned(),
        line => format!("{source}:{line}"),
    };
    let overlap = decision.overlap.map(|rule| {
        format!(
            "each delivery is checked, because of {}: {rule}",
            place(rule.line)
        )
    });
    match (decision.rule, overlap) {
        (Some(rule), None) => Some(format!("{}: {rule}", place(rule.line))),
        (Some(rule), Some(overlap)) if decision.verdict.allowed() => {
            Some(format!("{}: {rule}; {overlap}", place(rule.line)))
        }
        (Some(rule), Some(_)) => Some(format!("{}: {rule}", place(rule.line))),
        (None, overlap) => overlap,
    }
}
