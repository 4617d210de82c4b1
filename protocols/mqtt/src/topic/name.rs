//! Topic names: what PUBLISH carries.

use std::sync::Arc;

use super::{TopicError, topic_type, validate_common};

/// A valid topic name: 1 to 65,535 bytes, no U+0000, no wildcard. Cloning counts a reference.
///
/// ```
/// use nightjar_mqtt::TopicName;
/// let name = TopicName::new("sport/tennis")?;
/// assert_eq!(name, "sport/tennis");
/// assert!(TopicName::new("sport/#").is_err());
/// # Ok::<(), nightjar_mqtt::TopicError>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TopicName(Arc<str>);

topic_type!(TopicName);

impl TopicName {
    /// Checks the text and takes it over.
    ///
    /// # Errors
    /// As [`validate_topic_name`].
    pub fn new(text: impl AsRef<str> + Into<Arc<str>>) -> Result<Self, TopicError> {
        validate_topic_name(text.as_ref())?;
        Ok(Self(text.into()))
    }

    /// Takes over a text that the decoder has checked already.
    ///
    /// An invalid text breaks no memory safety; it only makes a name that matches no subscription. Debug builds check.
    pub fn from_validated(text: impl AsRef<str> + Into<Arc<str>>) -> Self {
        debug_assert_eq!(validate_topic_name(text.as_ref()), Ok(()));
        Self(text.into())
    }
}

/// Checks a topic name.
///
/// # Errors
/// [`TopicError`] if it is empty, longer than 65,535 bytes [MQTT-4.7.3-3], holds U+0000 [MQTT-4.7.3-2] or a wildcard
/// [MQTT-3.3.2-2].
#[inline]
pub fn validate_topic_name(topic: &str) -> Result<(), TopicError> {
    validate_common(topic)?;
    if is_plain(topic.as_bytes()) {
        Ok(())
    } else {
        Err(first_error(topic))
    }
}

/// True if no byte is U+0000 or a wildcard. Every PUBLISH comes through here: blocks of a fixed size and no early exit
/// let the compiler compare 16 bytes at once, and the last block may overlap the one before.
#[inline]
pub(crate) fn is_plain(bytes: &[u8]) -> bool {
    let bad = |block: &[u8]| {
        block
            .iter()
            .fold(false, |bad, &b| bad | (b == 0) | (b == b'+') | (b == b'#'))
    };
    match bytes.last_chunk::<16>() {
        Some(last) => !bytes
            .as_chunks::<16>()
            .0
            .iter()
            .fold(bad(last), |any, block| any | bad(block)),
        None => match bytes.last_chunk::<8>() {
            Some(last) => !(bad(last) | bytes.first_chunk::<8>().is_some_and(|first| bad(first))),
            None => !bytes.iter().any(|b| matches!(b, 0 | b'+' | b'#')),
        },
    }
}

#[cold]
fn first_error(topic: &str) -> TopicError {
    match topic.bytes().position(|b| matches!(b, 0 | b'+' | b'#')) {
        Some(at) if topic.as_bytes()[at] == 0 => TopicError::Null(at),
        Some(at) => TopicError::WildcardInName(at),
        None => TopicError::Empty,
    }
}
