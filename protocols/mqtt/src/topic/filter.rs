//! Topic filters: what SUBSCRIBE carries, and how they match.

use std::sync::Arc;

use super::{TopicError, topic_type, validate_common};

/// The prefix of a shared subscription (section 4.8.2 of 5.0).
const SHARE_PREFIX: &str = "$share/";

/// A valid topic filter, shared (`$share/group/filter`) or not. Cloning counts a reference.
///
/// ```
/// use nightjar_mqtt::TopicFilter;
/// let filter = TopicFilter::new("$share/workers/sport/+")?;
/// let shared = filter.shared().expect("a shared filter");
/// assert_eq!((shared.group, shared.filter), ("workers", "sport/+"));
/// assert!(TopicFilter::new("sport/te+nnis").is_err());
/// # Ok::<(), nightjar_mqtt::TopicError>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TopicFilter(Arc<str>);

topic_type!(TopicFilter);

impl TopicFilter {
    /// Checks the text and takes it over.
    ///
    /// # Errors
    /// As [`validate_topic_filter`].
    pub fn new(text: impl AsRef<str> + Into<Arc<str>>) -> Result<Self, TopicError> {
        validate_topic_filter(text.as_ref())?;
        Ok(Self(text.into()))
    }

    /// Takes over a text that the decoder has checked already.
    ///
    /// An invalid text breaks no memory safety; it only makes a filter that matches no topic. Debug builds check.
    pub fn from_validated(text: impl AsRef<str> + Into<Arc<str>>) -> Self {
        debug_assert_eq!(validate_topic_filter(text.as_ref()), Ok(()));
        Self(text.into())
    }

    /// The two halves of a shared filter, `None` if this one is not shared.
    pub fn shared(&self) -> Option<SharedFilter<'_>> {
        split_shared(&self.0).ok().flatten()
    }

    /// The filter that topics are matched against: without `$share/group/`.
    pub fn routing_filter(&self) -> &str {
        self.shared().map_or(&self.0, |shared| shared.filter)
    }

    /// True if it holds `+` or `#`.
    pub fn has_wildcard(&self) -> bool {
        self.0.bytes().any(|b| matches!(b, b'+' | b'#'))
    }

    /// True if this filter, without `$share/group/`, matches the topic name. See [`matches()`].
    pub fn matches(&self, topic: &str) -> bool {
        matches(self.routing_filter(), topic)
    }
}

/// A shared subscription's filter, split.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct SharedFilter<'a> {
    /// The share name: sessions with the same name and filter share the messages.
    pub group: &'a str,
    /// The topic filter.
    pub filter: &'a str,
}

/// True if the filter begins with `$share/`.
#[inline]
pub fn is_shared(filter: &str) -> bool {
    filter.starts_with(SHARE_PREFIX)
}

/// Splits `$share/group/filter`; `Ok(None)` for a filter that does not begin with `$share/`.
///
/// The filter half is not checked for its wildcards; [`validate_topic_filter`] does that.
///
/// # Errors
/// The share name is empty [MQTT-4.8.2-1], holds a wildcard, or no filter follows [MQTT-4.8.2-2].
pub fn split_shared(filter: &str) -> Result<Option<SharedFilter<'_>>, TopicError> {
    let Some(rest) = filter.strip_prefix(SHARE_PREFIX) else {
        return Ok(None);
    };
    let (group, filter) = rest.split_once('/').unwrap_or((rest, ""));
    if group.is_empty() {
        return Err(TopicError::EmptyShareName);
    }
    if group.bytes().any(|b| matches!(b, b'+' | b'#')) {
        return Err(TopicError::WildcardInShareName);
    }
    if filter.is_empty() {
        return Err(TopicError::EmptySharedFilter);
    }
    Ok(Some(SharedFilter { group, filter }))
}

/// Checks a topic filter, shared or not.
///
/// # Errors
/// [`TopicError`] if it is empty, longer than 65,535 bytes, holds U+0000, a misplaced wildcard [MQTT-4.7.1-1]
/// [MQTT-4.7.1-2], or is `$share/` without name or filter.
pub fn validate_topic_filter(filter: &str) -> Result<(), TopicError> {
    validate_common(filter)?;
    if let Some(at) = filter.bytes().position(|b| b == 0) {
        return Err(TopicError::Null(at));
    }
    let start = match split_shared(filter)? {
        Some(shared) => filter.len() - shared.filter.len(),
        None => 0,
    };
    let bytes = filter.as_bytes();
    for (at, byte) in bytes.iter().enumerate().skip(start) {
        let first = at == start || bytes[at - 1] == b'/';
        let next = bytes.get(at + 1);
        match byte {
            b'#' if !first || next.is_some() => return Err(TopicError::MultiLevelWildcard(at)),
            b'+' if !first || next.is_some_and(|&b| b != b'/') => {
                return Err(TopicError::SingleLevelWildcard(at));
            }
            _ => {}
        }
    }
    Ok(())
}

/// True if the filter matches the topic name (section 4.7). Both must be valid, the filter without `$share/group/`.
///
/// This is the plain definition, level by level: the oracle for the router, and right where one filter meets one
/// topic. A filter that begins with a wildcard matches no topic that begins with `$` [MQTT-4.7.2-1].
pub fn matches(filter: &str, topic: &str) -> bool {
    if topic.starts_with('$') && filter.starts_with(['+', '#']) {
        return false;
    }
    let mut levels = topic.split('/');
    for wanted in filter.split('/') {
        match (wanted, levels.next()) {
            // "sport/#" matches "sport" too, so the topic may have ended here.
            ("#", _) => return true,
            ("+", Some(_)) => {}
            (wanted, Some(level)) if wanted == level => {}
            _ => return false,
        }
    }
    levels.next().is_none()
}
