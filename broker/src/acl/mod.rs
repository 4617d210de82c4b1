//! Authorization: the rules of `acl.conf`, the ordered sources, and each client's cache of verdicts.
//!
//! [`RuleSet`] parses and compiles rules; [`FileSource`] serves those of a file; [`AclSources`] asks all configured
//! sources in order and is what a connection calls, through its own [`AccessCache`].

mod builtin;
mod cache;
mod file;
mod filter;
mod index;
mod parse;
mod pattern;
mod rule;
mod set;
mod sources;
mod term;
#[cfg(test)]
pub(crate) mod tests;

pub use builtin::{BuiltinRules, BuiltinSource, RuleError};
pub use cache::AccessCache;
pub use file::{AclError, FileSource};
pub use filter::{covers, overlaps};
pub use parse::{SyntaxError, SyntaxErrors};
pub use pattern::{MAX_LEVELS, PatternError, Placeholder, TopicPattern};
pub use rule::{Cidr, Permission, Rule, RuleAction, Who};
pub use set::{Decision, MAX_RULES, RuleSet};
pub use sources::{AclSettings, AclSources, Check, DenyAction, Explanation, Judged, NoMatch};
