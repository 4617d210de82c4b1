//! The lines of JSON that `ctl` and a node exchange.
//!
//! A request is one line, `{"verb":"status","args":{}}`. The answer is any number of `{"row":...}` lines, each one
//! entry of a list, and one last line: `{"end":...}` with the verb's result, or `{"error":{...}}`. Before the first
//! row there may be `{"columns":["clientid","node"]}`, the order in which a table shows them. Several requests may
//! follow each other on one connection.

use serde::{Deserialize, Serialize};
use serde_json::Value;

/// Longest line either side accepts, bytes.
pub const MAX_LINE: usize = 1 << 20;

/// A question to a node.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Request {
    /// What to do: `status`, `clients list`.
    pub verb: String,
    /// Its arguments, an object.
    #[serde(default)]
    pub args: Value,
}

/// One line of an answer.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Reply {
    /// Order of the fields of what follows, for tables.
    Columns(Vec<String>),
    /// One entry of a list.
    Row(Value),
    /// The end, with the result.
    End(Value),
    /// The end, with what went wrong.
    Error(CtlError),
}

/// Why a command did not do what was asked.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[error("{message}")]
pub struct CtlError {
    /// Its kind, which decides the exit code.
    pub code: ErrorCode,
    /// What is wrong.
    pub message: String,
    /// The next step to take.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub help: String,
}

impl CtlError {
    /// An error of this kind.
    pub fn new(code: ErrorCode, message: impl Into<String>) -> Self {
        Self {
            code,
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

/// Kinds of [`CtlError`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum ErrorCode {
    /// It was tried and failed.
    Failed,
    /// The question makes no sense.
    Usage,
    /// What it is about does not exist.
    NotFound,
    /// Not allowed, or not in this state.
    Refused,
    /// No node answers.
    Unreachable,
    /// The node is there and not well.
    Unhealthy,
}

impl ErrorCode {
    /// Exit code of the command.
    pub const fn exit_code(self) -> u8 {
        match self {
            Self::Failed => 1,
            Self::Usage => 2,
            Self::NotFound => 3,
            Self::Refused => 4,
            Self::Unreachable => 5,
            Self::Unhealthy => 6,
        }
    }
}
