//! The one table of configuration keys: name, type, default, meaning, and whether a reload applies it.
//!
//! Everything that speaks of keys is made from it: reading (types, unknown keys, nearest names), defaults,
//! `nightjar config default | explain | schema`, and etc/nightjar.toml.

mod backends;
mod keys;
mod tree;
mod ty;

pub use tree::{Node, Place, Table, find, leaves, root};
pub use ty::Ty;

/// One key of the configuration.
#[derive(Debug, Clone, Copy)]
pub struct Key {
    /// Name inside its section; a dot means a table below it (`tls.ca_file`).
    pub name: &'static str,
    /// What its value looks like.
    pub ty: Ty,
    /// Its value when nobody sets it.
    pub default: Default,
    /// Its meaning, for users. Lines are separated by `\n`.
    pub doc: &'static str,
    /// Whether a reload applies a change.
    pub apply: Apply,
}

/// The value of a key that nobody sets, as TOML.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Default {
    /// This value.
    Is(&'static str),
    /// No value; what that means is said in the key's text. Holds an example.
    Unset(&'static str),
    /// Must be set. Holds an example.
    Required(&'static str),
    /// This value in the table called `default`; must be set in others.
    Named(&'static str),
}

impl Default {
    /// The default, or the example of a key that has none.
    pub const fn text(&self) -> &'static str {
        match self {
            Self::Is(text) | Self::Unset(text) | Self::Required(text) | Self::Named(text) => text,
        }
    }
}

/// When a changed key takes effect.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Apply {
    /// By SIGHUP or `ctl reload`.
    Now,
    /// At the next start.
    Restart,
}
