//! Why a connector cannot be set up.

use std::path::PathBuf;

/// A mistake in a connector's settings or files, found at start or reload.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ConnectorError {
    /// A file cannot be read.
    #[error("{}: {source}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system says.
        source: std::io::Error,
    },
    /// A line of a file is wrong.
    #[error("{}:{line}: {problem}", path.display())]
    Line {
        /// The file.
        path: PathBuf,
        /// Line, from 1.
        line: usize,
        /// Expected and got. Never repeats what may be a secret.
        problem: String,
    },
    /// A setting is wrong.
    #[error("{key}: {problem}")]
    Setting {
        /// The key, as in the configuration.
        key: &'static str,
        /// Expected and got.
        problem: String,
    },
}
