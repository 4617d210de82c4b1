//! What is wrong with a configuration, and where each value came from.

use std::fmt;
use std::path::PathBuf;

/// Who gave a value.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum Origin {
    /// Nobody: the built-in default.
    #[default]
    Default,
    /// The configuration file.
    File {
        /// Path as it was given.
        path: PathBuf,
        /// Line, from 1.
        line: usize,
        /// Column in characters, from 1.
        column: usize,
    },
    /// An environment variable.
    Env(String),
    /// A file named by an environment variable with `_FILE` at its end.
    EnvFile {
        /// The variable.
        name: String,
        /// The file.
        path: PathBuf,
    },
    /// `--set KEY=VALUE`; the value is not kept because it may be a secret.
    Set(String),
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Default => f.write_str("default"),
            Self::File { path, line, column } => write!(f, "{}:{line}:{column}", path.display()),
            Self::Env(name) => write!(f, "environment {name}"),
            Self::EnvFile { name, path } => {
                write!(f, "environment {name} (file {})", path.display())
            }
            Self::Set(key) => write!(f, "--set {key}"),
        }
    }
}

/// One thing that is wrong: where, which key, what, and what to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// Where it was written.
    pub origin: Origin,
    /// Path of the key; empty if it is not about one key.
    pub key: String,
    /// What is wrong.
    pub message: String,
    /// The next step to take.
    pub help: String,
}

impl Problem {
    /// A problem of one key.
    pub fn new(origin: Origin, key: impl Into<String>, message: impl Into<String>) -> Self {
        Self {
            origin,
            key: key.into(),
            message: message.into(),
            help: String::new(),
        }
    }

    /// The same with the next step to take.
    #[must_use]
    pub fn help(mut self, help: impl Into<String>) -> Self {
        self.help = help.into();
        self
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.origin != Origin::Default {
            write!(f, "{}: ", self.origin)?;
        }
        // --set has said the key already.
        let said = matches!(&self.origin, Origin::Set(key) if *key == self.key);
        if !self.key.is_empty() && !said {
            write!(f, "{}: ", self.key)?;
        }
        f.write_str(&self.message)?;
        if !self.help.is_empty() {
            write!(f, "\n  help: {}", self.help)?;
        }
        Ok(())
    }
}

/// All problems of a configuration, in the order of the layers.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{}", list(.0))]
pub struct ConfigErrors(pub Vec<Problem>);

/// One problem a paragraph.
fn list(problems: &[Problem]) -> String {
    problems
        .iter()
        .map(|problem| format!("error: {problem}"))
        .collect::<Vec<_>>()
        .join("\n")
}
