//! Alarms.

use std::collections::BTreeMap;

use axum::Json as Answer;
use axum::extract::State;
use axum::http::StatusCode;
use nightjar_broker::Timestamp;
use nightjar_broker::observe::Alarm;
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use super::App;
use super::list::{List, decode, limit};
use crate::error::{ApiError, CommonErrors};
use crate::extract::Query;
use crate::shared::Shared;

/// An alarm.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct AlarmView {
    /// `high_memory`, `certificate_expiry/tls:default`, ...
    pub name: String,
    /// What is wrong, and what to do.
    pub message: String,
    /// Figures.
    pub details: BTreeMap<String, String>,
    /// The node.
    pub node: String,
    /// Since when.
    pub activate_at: String,
    /// Until when, if it is over.
    pub deactivate_at: Option<String>,
    /// Milliseconds it lasted, or lasts so far.
    pub duration: u64,
    /// Is it raised?
    pub activated: bool,
}

impl Shared {
    /// An alarm as lists show it.
    pub fn alarm_view(&self, alarm: Alarm) -> AlarmView {
        let until = alarm.deactivated_at.unwrap_or_else(Timestamp::now);
        AlarmView {
            duration: until.since(alarm.activated_at),
            name: alarm.name,
            message: alarm.message,
            details: alarm.details.into_iter().collect(),
            node: self.broker.node().to_string(),
            activate_at: alarm.activated_at.to_rfc3339(),
            deactivate_at: alarm.deactivated_at.map(Timestamp::to_rfc3339),
            activated: alarm.deactivated_at.is_none(),
        }
    }
}

/// Which alarms.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct AlarmsQuery {
    /// `true`: those that are raised; `false`: those that are over; left out: all.
    activated: Option<bool>,
    /// Entries of the page, 1 to 1000.
    limit: Option<usize>,
    /// `meta.cursor` of the page before.
    cursor: Option<String>,
}

/// Alarms: those that are raised, then those that are over, newest first
#[utoipa::path(get, path = "/alarms", tag = "alarms", params(AlarmsQuery), responses((status = 200, body = List<AlarmView>), CommonErrors))]
pub async fn list(
    State(shared): App,
    Query(query): Query<AlarmsQuery>,
) -> Result<Answer<List<AlarmView>>, ApiError> {
    let limit = limit(query.limit)?;
    let from: usize = decode(query.cursor.as_deref())?.unwrap_or(0);
    let alarms = shared.broker.alarms();
    let mut all = Vec::new();
    if query.activated != Some(false) {
        all.extend(alarms.active());
    }
    if query.activated != Some(true) {
        all.extend(alarms.history());
    }
    let count = all.len();
    let rows: Vec<_> = all
        .into_iter()
        .skip(from)
        .take(limit)
        .map(|alarm| shared.alarm_view(alarm))
        .collect();
    let end = from.saturating_add(rows.len());
    let mut list = List::new(rows, (end < count).then_some(&end));
    list.meta.count = Some(count as u64);
    Ok(Answer(list))
}

/// Forget the alarms that are over
#[utoipa::path(delete, path = "/alarms", tag = "alarms", responses((status = 204), CommonErrors))]
pub async fn clear(State(shared): App) -> StatusCode {
    shared.broker.alarms().forget_history();
    StatusCode::NO_CONTENT
}
