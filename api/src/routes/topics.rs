//! Topic filters, as a list and as a tree.

use axum::Json as Answer;
use axum::extract::State;
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use super::App;
use super::list::{List, decode, limit};
use crate::error::{ApiError, CommonErrors};
use crate::extract::Query;

/// A topic filter that somebody subscribes to.
#[derive(Serialize, ToSchema)]
pub struct TopicView {
    /// Topic filter, `$share/...` in full.
    pub topic: String,
    /// The node.
    pub node: String,
    /// Subscriptions to exactly this filter.
    pub subscribers: usize,
}

/// A level of the tree of topic filters.
#[derive(Serialize, ToSchema)]
pub struct TreeView {
    /// The level.
    level: String,
    /// The filter up to here.
    topic: String,
    /// Subscriptions to exactly this filter.
    subscribers: usize,
    /// Is there anything below?
    children: bool,
    /// Subscriptions at or below this level.
    total: usize,
}

/// Which topics.
#[derive(Debug, Default, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct TopicsQuery {
    /// Entries of the page, 1 to 1000.
    pub limit: Option<usize>,
    /// `meta.cursor` of the page before.
    pub cursor: Option<String>,
    /// Exactly this topic filter.
    pub topic: Option<String>,
}

/// Distinct topic filters, in their order
#[utoipa::path(get, path = "/topics", tag = "subscriptions", params(TopicsQuery),
    responses((status = 200, body = List<TopicView>), CommonErrors))]
pub async fn list(
    State(shared): App,
    Query(query): Query<TopicsQuery>,
) -> Result<Answer<List<TopicView>>, ApiError> {
    let limit = limit(query.limit)?;
    let after: Option<String> = decode(query.cursor.as_deref())?;
    let node = shared.broker.node().to_string();
    let (rows, next) = shared
        .walk(move |shared| {
            if let Some(topic) = query.topic {
                let subscribers = shared.broker.subscribers_of(&topic);
                let row = (subscribers > 0).then_some((topic, subscribers));
                return (row.into_iter().collect(), None);
            }
            let page = shared.broker.page_topics(after.as_deref(), limit);
            let next = page
                .rows
                .last()
                .filter(|_| page.more)
                .map(|last| last.filter.clone());
            let rows: Vec<_> = page
                .rows
                .into_iter()
                .map(|row| (row.filter, row.subscribers))
                .collect();
            (rows, next)
        })
        .await?;
    let view = |(topic, subscribers)| TopicView {
        topic,
        node: node.clone(),
        subscribers,
    };
    let rows = rows.into_iter().map(view).collect();
    Ok(Answer(List::new(rows, next.as_ref())))
}

/// Which part of the tree.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct TreeQuery {
    /// Entries of the page, 1 to 1000.
    limit: Option<usize>,
    /// `meta.cursor` of the page before.
    cursor: Option<String>,
    /// The levels above; left out: the first levels.
    prefix: Option<String>,
}

/// The levels right below a prefix of the tree of topic filters
#[utoipa::path(get, path = "/topics/tree", tag = "subscriptions", params(TreeQuery),
    responses((status = 200, body = List<TreeView>), CommonErrors))]
pub async fn tree(
    State(shared): App,
    Query(query): Query<TreeQuery>,
) -> Result<Answer<List<TreeView>>, ApiError> {
    let limit = limit(query.limit)?;
    let after: Option<String> = decode(query.cursor.as_deref())?;
    let prefix = query.prefix.clone();
    let page = shared
        .walk(move |shared| {
            shared
                .broker
                .page_tree(query.prefix.as_deref(), after.as_deref(), limit)
        })
        .await?;
    let next = page
        .rows
        .last()
        .filter(|_| page.more)
        .map(|last| last.0.clone());
    let view = |(level, row): (String, nightjar_broker::admin::TreeRow)| TreeView {
        topic: match &prefix {
            Some(prefix) => format!("{prefix}/{level}"),
            None => level.clone(),
        },
        level,
        subscribers: row.subscribers,
        children: row.total > row.subscribers,
        total: row.total,
    };
    let rows = page.rows.into_iter().map(view).collect();
    Ok(Answer(List::new(rows, next.as_ref())))
}
