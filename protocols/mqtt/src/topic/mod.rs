//! Topic names and topic filters: validation, matching, shared subscriptions.
//!
//! [`TopicName`] and [`TopicFilter`] are checked once, when they are made; who holds one need not check again.
//! The functions on `&str` are for callers that borrow from a packet and allocate nothing.
//!
//! How many levels a topic may have is a setting of the broker, not of the protocol: see [`levels`].

mod filter;
mod name;

pub use filter::{
    SharedFilter, TopicFilter, is_shared, matches, split_shared, validate_topic_filter,
};
pub(crate) use name::is_plain;
pub use name::{TopicName, validate_topic_name};

/// The longest topic name or filter in bytes of UTF-8: the length field has two bytes.
pub const MAX_TOPIC_LEN: usize = 65_535;

/// Why a string is not a topic name or topic filter.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum TopicError {
    /// It has no character [MQTT-4.7.3-1].
    #[error("expected at least one character, got an empty string")]
    Empty,
    /// It is longer than [`MAX_TOPIC_LEN`] bytes [MQTT-4.7.3-3].
    #[error("expected at most 65535 bytes, got {0}")]
    TooLong(usize),
    /// It holds U+0000 [MQTT-4.7.3-2], at this byte.
    #[error("expected no U+0000, got one at byte {0}")]
    Null(usize),
    /// A topic name holds `+` or `#` [MQTT-3.3.2-2], at this byte.
    #[error("expected a topic name without wildcards, got one at byte {0}")]
    WildcardInName(usize),
    /// `#` is not alone in the last level [MQTT-4.7.1-1]; its byte.
    #[error("expected '#' alone in the last level, got it at byte {0}")]
    MultiLevelWildcard(usize),
    /// `+` does not fill its level [MQTT-4.7.1-2]; its byte.
    #[error("expected '+' alone in its level, got it at byte {0}")]
    SingleLevelWildcard(usize),
    /// `$share/` has no share name [MQTT-4.8.2-1].
    #[error("expected $share/<name>/<filter>, got an empty share name")]
    EmptyShareName,
    /// The share name holds `+` or `#` [MQTT-4.8.2-2].
    #[error("expected a share name without wildcards, got one")]
    WildcardInShareName,
    /// Nothing follows the share name [MQTT-4.8.2-2].
    #[error("expected $share/<name>/<filter>, got no filter")]
    EmptySharedFilter,
}

/// Number of levels: `a/b` has 2, `/a` has 2, `a` has 1. A shared filter counts as it stands: split it first.
#[inline]
pub fn levels(topic: &str) -> usize {
    topic.bytes().filter(|&b| b == b'/').count() + 1
}

/// Checks that names and filters share: length and U+0000.
#[inline]
fn validate_common(topic: &str) -> Result<(), TopicError> {
    if topic.is_empty() {
        return Err(TopicError::Empty);
    }
    if topic.len() > MAX_TOPIC_LEN {
        return Err(TopicError::TooLong(topic.len()));
    }
    Ok(())
}

/// Implements what both topic types share: they are an `Arc<str>` with a promise.
macro_rules! topic_type {
    ($type:ident) => {
        impl $type {
            /// The text.
            #[inline]
            pub fn as_str(&self) -> &str {
                &self.0
            }

            /// The shared text itself, for a holder that wants to keep the allocation and drop the type.
            #[inline]
            pub fn as_arc(&self) -> &std::sync::Arc<str> {
                &self.0
            }
        }

        impl std::ops::Deref for $type {
            type Target = str;

            #[inline]
            fn deref(&self) -> &str {
                &self.0
            }
        }

        impl AsRef<str> for $type {
            #[inline]
            fn as_ref(&self) -> &str {
                &self.0
            }
        }

        impl std::borrow::Borrow<str> for $type {
            #[inline]
            fn borrow(&self) -> &str {
                &self.0
            }
        }

        impl std::fmt::Display for $type {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl std::str::FromStr for $type {
            type Err = $crate::topic::TopicError;

            fn from_str(text: &str) -> Result<Self, Self::Err> {
                Self::new(text)
            }
        }

        impl TryFrom<&str> for $type {
            type Error = $crate::topic::TopicError;

            fn try_from(text: &str) -> Result<Self, Self::Error> {
                Self::new(text)
            }
        }

        impl TryFrom<String> for $type {
            type Error = $crate::topic::TopicError;

            fn try_from(text: String) -> Result<Self, Self::Error> {
                Self::new(text)
            }
        }

        impl PartialEq<str> for $type {
            fn eq(&self, other: &str) -> bool {
                &*self.0 == other
            }
        }

        impl PartialEq<&str> for $type {
            fn eq(&self, other: &&str) -> bool {
                &*self.0 == *other
            }
        }
    };
}
use topic_type;
