//! The wire's data types (section 1.5): readers made with nom, writers over a [`write::Sink`], and the properties made
//! of both.

pub(crate) mod property;
pub(crate) mod read;
pub(crate) mod write;

/// The largest value of a variable byte integer, and so of a remaining length (section 1.5.5).
pub(crate) const MAX_VARIABLE: u32 = 268_435_455;
