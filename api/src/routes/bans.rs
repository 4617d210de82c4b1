//! Bans.

use axum::extract::State;
use axum::http::StatusCode;
use axum::{Extension, Json as Answer};
use nightjar_broker::Timestamp;
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use super::App;
use super::access::time;
use super::list::{List, limit};
use crate::access::Principal;
use crate::error::{ApiError, CommonErrors};
use crate::extract::{Json, Path, Query};
use crate::host::{Ban, BanSubject};

/// A ban.
#[derive(Debug, Serialize, ToSchema)]
pub struct BanView {
    /// `clientid`, `username`, `peerhost`.
    #[serde(rename = "as")]
    pub subject: String,
    /// Whom.
    pub who: String,
    /// Who banned.
    pub by: String,
    /// Why.
    pub reason: String,
    /// Since when.
    pub at: String,
    /// Until when, or `infinity`.
    pub until: String,
}

/// A ban as lists show it.
pub fn view(ban: Ban) -> BanView {
    BanView {
        subject: ban.subject.as_str().to_owned(),
        who: ban.who,
        by: ban.by,
        reason: ban.reason,
        at: ban.at.to_rfc3339(),
        until: ban
            .until
            .map_or_else(|| "infinity".to_owned(), Timestamp::to_rfc3339),
    }
}

/// Somebody to be banned.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct NewBan {
    /// `clientid`, `username`, `peerhost`.
    #[serde(rename = "as")]
    subject: BanSubject,
    /// Client identifier, user name, or address or prefix (`10.0.0.0/8`).
    who: String,
    /// Why.
    #[serde(default)]
    reason: String,
    /// Until when, RFC 3339, or `infinity`.
    until: Option<String>,
    /// For how long: `90s`, `15m`, `1h`, `7d`.
    #[serde(rename = "for")]
    duration: Option<String>,
}

/// A page.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct BansQuery {
    /// Entries of the page, 1 to 1000.
    limit: Option<usize>,
    /// `meta.cursor` of the page before.
    cursor: Option<String>,
}

/// Bans
#[utoipa::path(get, path = "/banned", tag = "banned", params(BansQuery), responses((status = 200, body = List<BanView>), CommonErrors))]
pub async fn list(
    State(shared): App,
    Query(query): Query<BansQuery>,
) -> Result<Answer<List<BanView>>, ApiError> {
    let limit = limit(query.limit)?;
    let mut all = shared.host.bans().await?;
    all.sort_by(|a, b| (a.subject, &a.who).cmp(&(b.subject, &b.who)));
    let all: Vec<BanView> = all.into_iter().map(view).collect();
    List::cut(all, limit, query.cursor.as_deref(), |ban| {
        (ban.subject.clone(), ban.who.clone())
    })
    .map(Answer)
}

/// Ban a client identifier, a user name, an address or a prefix
#[utoipa::path(post, path = "/banned", tag = "banned", request_body = NewBan, responses((status = 201, body = BanView), CommonErrors))]
pub async fn add(
    State(shared): App,
    Extension(who): Extension<Principal>,
    Json(new): Json<NewBan>,
) -> Result<(StatusCode, Answer<BanView>), ApiError> {
    let now = Timestamp::now();
    let until = match (&new.until, &new.duration) {
        (Some(_), Some(_)) => {
            return Err(ApiError::bad_request("expected `until` or `for`, not both"));
        }
        (Some(text), None) if text == "infinity" => None,
        (Some(text), None) => Some(time("until", text)?),
        (None, Some(text)) => Some(now.plus_millis(duration("for", text)?)),
        (None, None) => None,
    };
    if until.is_some_and(|until| until <= now) {
        return Err(ApiError::bad_request("until: expected a time to come"));
    }
    if new.who.is_empty() || new.who.len() > 65_535 {
        return Err(ApiError::bad_request("who: expected 1 to 65535 bytes"));
    }
    let ban = Ban {
        subject: new.subject,
        who: new.who,
        by: who.name,
        reason: new.reason.chars().take(256).collect(),
        at: now,
        until,
    };
    shared.host.ban(ban.clone()).await?;
    Ok((StatusCode::CREATED, Answer(view(ban))))
}

/// Lift a ban; `/` in a prefix is written `%2F`
#[utoipa::path(delete, path = "/banned/{as}/{who}", tag = "banned",
    params(("as" = inline(BanSubject), Path), ("who" = String, Path)), responses((status = 204), CommonErrors))]
pub async fn remove(
    State(shared): App,
    Path((subject, who)): Path<(BanSubject, String)>,
) -> Result<StatusCode, ApiError> {
    shared.host.unban(subject, &who).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// A length of time of a request, in milliseconds: a number and `s`, `m`, `h` or `d`.
pub fn duration(field: &str, text: &str) -> Result<u64, ApiError> {
    let wrong = || {
        ApiError::bad_request(format!(
            "{field}: expected a time such as 90s, 15m, 1h or 7d, got {text:?}"
        ))
    };
    let unit = match text.as_bytes().last() {
        Some(b's') => 1000,
        Some(b'm') => 60_000,
        Some(b'h') => 3_600_000,
        Some(b'd') => 86_400_000,
        _ => return Err(wrong()),
    };
    let number = &text[..text.len() - 1];
    if number.is_empty() || !number.bytes().all(|b| b.is_ascii_digit()) {
        return Err(wrong());
    }
    let number: u64 = number.parse().map_err(|_| wrong())?;
    // A hundred years.
    number
        .checked_mul(unit)
        .filter(|ms| (1..=3_155_760_000_000).contains(ms))
        .ok_or_else(wrong)
}

#[cfg(test)]
mod tests {
    #[test]
    fn lengths_of_time_have_a_unit() {
        for (text, ms) in [
            ("90s", 90_000),
            ("15m", 900_000),
            ("1h", 3_600_000),
            ("7d", 604_800_000),
        ] {
            assert_eq!(super::duration("for", text).unwrap(), ms);
        }
        for wrong in [
            "",
            "5",
            "h",
            "-1h",
            "1.5h",
            "0s",
            "99999999999999999999d",
            "36526d",
            "1é",
        ] {
            assert!(super::duration("for", wrong).is_err(), "{wrong}");
        }
    }
}
