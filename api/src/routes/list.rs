//! Lists by cursor.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::Serialize;
use serde::de::DeserializeOwned;
use utoipa::ToSchema;

use crate::error::ApiError;

/// Entries of a page where nobody says otherwise.
const DEFAULT: usize = 100;
/// Most entries of a page.
pub const MAX: usize = 1000;

/// A page of a list.
#[derive(Debug, Serialize, ToSchema)]
pub struct List<T> {
    /// Its entries.
    pub data: Vec<T>,
    /// Where it goes on.
    pub meta: Meta,
}

/// Where a list goes on.
#[derive(Debug, Serialize, ToSchema)]
pub struct Meta {
    /// Pass this as `cursor` to get the next page; `null` on the last one.
    pub cursor: Option<String>,
    /// Is there a next page?
    pub hasnext: bool,
    /// Number of all entries, where it is known without counting them.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub count: Option<u64>,
}

/// Everything there is, in one page.
#[derive(Debug, Serialize, ToSchema)]
pub struct Data<T> {
    /// The entries.
    pub data: Vec<T>,
}

impl<T> List<T> {
    /// A page, and the key of its last entry if more lie behind it.
    pub fn new(data: Vec<T>, next: Option<&impl Serialize>) -> Self {
        Self {
            data,
            meta: Meta {
                cursor: next.map(encode),
                hasnext: next.is_some(),
                count: None,
            },
        }
    }

    /// A page of a list that is at hand as a whole and sorted by `key`.
    pub fn cut<K: Serialize + DeserializeOwned + Ord>(
        all: Vec<T>,
        limit: usize,
        cursor: Option<&str>,
        key: impl Fn(&T) -> K,
    ) -> Result<Self, ApiError> {
        let after: Option<K> = decode(cursor)?;
        let count = all.len() as u64;
        let mut rows: Vec<T> = all
            .into_iter()
            .filter(|row| after.as_ref().is_none_or(|after| key(row) > *after))
            .take(limit + 1)
            .collect();
        let more = rows.len() > limit;
        rows.truncate(limit);
        let next = rows.last().filter(|_| more).map(&key);
        let mut list = Self::new(rows, next.as_ref());
        list.meta.count = Some(count);
        Ok(list)
    }
}

/// The number of entries asked for.
pub fn limit(asked: Option<usize>) -> Result<usize, ApiError> {
    match asked {
        None => Ok(DEFAULT),
        Some(limit @ 1..=MAX) => Ok(limit),
        Some(other) => Err(ApiError::bad_request(format!(
            "limit: expected 1 to {MAX}, got {other}"
        ))),
    }
}

/// A cursor of a key.
fn encode(key: &impl Serialize) -> String {
    URL_SAFE_NO_PAD.encode(serde_json::to_vec(key).unwrap_or_default())
}

/// The key of a cursor.
pub fn decode<K: DeserializeOwned>(cursor: Option<&str>) -> Result<Option<K>, ApiError> {
    let Some(cursor) = cursor.filter(|cursor| !cursor.is_empty()) else {
        return Ok(None);
    };
    URL_SAFE_NO_PAD
        .decode(cursor)
        .ok()
        .and_then(|bytes| serde_json::from_slice(&bytes).ok())
        .map(Some)
        .ok_or_else(|| {
            ApiError::bad_request("cursor: expected meta.cursor of the page before, unchanged")
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pages_follow_each_other_without_gap() {
        let all: Vec<u32> = (0..25).collect();
        let mut seen = Vec::new();
        let mut cursor: Option<String> = None;
        loop {
            let page = List::cut(all.clone(), 10, cursor.as_deref(), |n| *n).unwrap();
            seen.extend(page.data);
            assert_eq!(page.meta.count, Some(25));
            if !page.meta.hasnext {
                assert_eq!(page.meta.cursor, None);
                break;
            }
            cursor = page.meta.cursor;
        }
        assert_eq!(seen, all);
    }

    #[test]
    fn a_cursor_of_another_making_is_refused() {
        for wrong in ["%", "bm90IGpzb24", "IjEi", "MQ=="] {
            assert!(decode::<u32>(Some(wrong)).is_err(), "{wrong}");
        }
        assert_eq!(decode::<u32>(Some("")).unwrap(), None);
        assert!(limit(Some(0)).is_err() && limit(Some(1001)).is_err());
    }
}
