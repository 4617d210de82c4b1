//! The calls that scripts for EMQX make most, under `/api/v5`: lists by page, fields under the same names.

use axum::Json as Answer;
use axum::Router;
use axum::extract::State;
use axum::routing::{delete, get, post};
use serde::{Deserialize, Serialize};

use super::clients::{ClientView, ClientsQuery, SubscriptionView, SubscriptionsQuery};
use super::list::MAX;
use super::topics::TopicView;
use super::{App, access, bans, clients, login, nodes, publish, retained, stats, status};
use crate::error::ApiError;
use crate::extract::Query;
use crate::shared::Shared;
use std::sync::Arc;

/// Entries that pages may reach: lists beyond are for cursors.
const REACH: usize = 10_000;

/// The routes.
pub fn router() -> Router<Arc<Shared>> {
    Router::new()
        .route("/api/v5/login", post(login::login))
        .route("/api/v5/status", get(status::text))
        .route("/api/v5/nodes", get(all_nodes))
        .route("/api/v5/nodes/{name}", get(nodes::node))
        .route("/api/v5/stats", get(all_stats))
        .route("/api/v5/metrics", get(all_metrics))
        .route("/api/v5/prometheus/stats", get(stats::prometheus))
        .route("/api/v5/clients", get(list_clients))
        .route(
            "/api/v5/clients/{clientid}",
            get(clients::one).delete(clients::kick),
        )
        .route("/api/v5/clients/kickout/bulk", post(clients::kick_bulk))
        .route(
            "/api/v5/clients/{clientid}/subscriptions",
            get(subscriptions_of),
        )
        .route("/api/v5/subscriptions", get(list_subscriptions))
        .route("/api/v5/topics", get(list_topics))
        .route("/api/v5/publish", post(publish::publish))
        .route("/api/v5/publish/bulk", post(publish::bulk))
        .route("/api/v5/banned", get(list_bans).post(bans::add))
        .route("/api/v5/banned/{as}/{who}", delete(bans::remove))
        .route(
            "/api/v5/mqtt/retainer/message/{topic}",
            get(retained::one).delete(retained::remove),
        )
        .route("/api/v5/api_key", get(access::keys).post(access::add_key))
}

/// A list by page.
#[derive(Serialize)]
struct Paged<T> {
    data: Vec<T>,
    meta: PageMeta,
}

#[derive(Serialize)]
struct PageMeta {
    page: usize,
    limit: usize,
    count: usize,
    hasnext: bool,
}

/// `?page=1&limit=100`, and what else a list takes.
#[derive(Deserialize)]
struct PageOnly {
    page: Option<usize>,
    limit: Option<usize>,
}

impl PageOnly {
    /// The page and its length; how many entries lie before its end.
    fn check(&self) -> Result<(usize, usize, usize), ApiError> {
        let (page, limit) = (self.page.unwrap_or(1), self.limit.unwrap_or(100));
        if page == 0 || !(1..=MAX * 10).contains(&limit) {
            return Err(ApiError::bad_request(
                "expected page of at least 1, limit of 1 to 10000",
            ));
        }
        let reach = page.saturating_mul(limit);
        if reach > REACH {
            return Err(ApiError::bad_request(format!(
                "page * limit: expected at most {REACH}; /api/v1 has cursors for longer lists"
            )));
        }
        Ok((page, limit, reach))
    }
}

fn paged<T>(rows: Vec<T>, more: bool, page: usize, limit: usize, count: usize) -> Answer<Paged<T>> {
    let data: Vec<T> = rows
        .into_iter()
        .skip((page - 1) * limit)
        .take(limit)
        .collect();
    Answer(Paged {
        data,
        meta: PageMeta {
            page,
            limit,
            count,
            hasnext: more,
        },
    })
}

/// The query of clients with a page.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ClientsPage {
    page: Option<usize>,
    limit: Option<usize>,
    node: Option<String>,
    clientid: Option<String>,
    username: Option<String>,
    like_clientid: Option<String>,
    like_username: Option<String>,
    ip_address: Option<String>,
    conn_state: Option<clients::ConnState>,
}

async fn list_clients(
    State(shared): App,
    Query(query): Query<ClientsPage>,
) -> Result<Answer<Paged<ClientView>>, ApiError> {
    let page = PageOnly {
        page: query.page,
        limit: query.limit,
    };
    let (page, limit, reach) = page.check()?;
    let own = query
        .node
        .is_none_or(|node| *node == **shared.broker.node());
    let filter = ClientsQuery {
        clientid: query.clientid,
        username: query.username,
        like_clientid: query.like_clientid,
        like_username: query.like_username,
        ip_address: query.ip_address,
        conn_state: query.conn_state,
        ..ClientsQuery::default()
    }
    .filter()?;
    shared
        .walk(move |shared| {
            let wants = |handle: &_| own && filter.wants(handle);
            let found = shared.broker.page_clients(None, reach, wants);
            let count = shared.broker.count_clients(wants);
            let rows: Vec<_> = found.rows.iter().map(|it| shared.client_view(it)).collect();
            paged(rows, found.more, page, limit, count)
        })
        .await
}

async fn subscriptions_of(
    state: App,
    path: crate::extract::Path<String>,
) -> Result<Answer<Vec<SubscriptionView>>, ApiError> {
    let Answer(list) = clients::subscriptions_of(state, path).await?;
    Ok(Answer(list.data))
}

/// The query of subscriptions with a page.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct SubscriptionsPage {
    page: Option<usize>,
    limit: Option<usize>,
    node: Option<String>,
    clientid: Option<String>,
    topic: Option<String>,
    match_topic: Option<String>,
    qos: Option<u8>,
    share_group: Option<String>,
}

async fn list_subscriptions(
    State(shared): App,
    Query(query): Query<SubscriptionsPage>,
) -> Result<Answer<Paged<SubscriptionView>>, ApiError> {
    let page = PageOnly {
        page: query.page,
        limit: query.limit,
    };
    let (page, limit, reach) = page.check()?;
    let own = query
        .node
        .is_none_or(|node| *node == **shared.broker.node());
    let filter = SubscriptionsQuery {
        clientid: query.clientid,
        topic: query.topic,
        match_topic: query.match_topic,
        qos: query.qos,
        share_group: query.share_group,
        ..SubscriptionsQuery::default()
    };
    shared
        .walk(move |shared| {
            let found = shared.broker.page_subscriptions(
                filter.clientid.as_deref(),
                filter.topic.as_deref(),
                None,
                reach,
                |_, topic, sub| own && filter.wants(topic, sub),
            );
            let rows: Vec<_> = found
                .rows
                .iter()
                .map(|row| shared.subscription_view(row))
                .collect();
            let count = if found.more {
                shared.broker.subscriptions().0
            } else {
                rows.len()
            };
            paged(rows, found.more, page, limit, count)
        })
        .await
}

async fn list_topics(
    State(shared): App,
    Query(query): Query<PageOnly>,
) -> Result<Answer<Paged<TopicView>>, ApiError> {
    let (page, limit, reach) = query.check()?;
    shared
        .walk(move |shared| {
            let found = shared.broker.page_topics(None, reach);
            let rows: Vec<_> = found
                .rows
                .into_iter()
                .map(|row| TopicView {
                    topic: row.filter,
                    node: shared.broker.node().to_string(),
                    subscribers: row.subscribers,
                })
                .collect();
            let count = shared.broker.router().filters();
            paged(rows, found.more, page, limit, count)
        })
        .await
}

async fn list_bans(
    State(shared): App,
    Query(query): Query<PageOnly>,
) -> Result<Answer<Paged<bans::BanView>>, ApiError> {
    let (page, limit, reach) = query.check()?;
    let mut all = shared.host.bans().await?;
    all.sort_by(|a, b| (a.subject, &a.who).cmp(&(b.subject, &b.who)));
    let count = all.len();
    let rows: Vec<_> = all.into_iter().map(bans::view).collect();
    Ok(paged(rows, count > reach, page, limit, count))
}

/// Lists without `data` around them, as that API has them.
async fn all_nodes(State(shared): App) -> Answer<Vec<serde_json::Value>> {
    Answer(shared.all_nodes().await)
}

async fn all_stats(State(shared): App) -> Answer<Vec<serde_json::Value>> {
    let mut stats = serde_json::to_value(shared.stats()).unwrap_or_default();
    stats["node"] = shared.broker.node().to_string().into();
    Answer(vec![stats])
}

async fn all_metrics(State(shared): App) -> Answer<Vec<serde_json::Value>> {
    let metrics = shared.broker.metrics();
    let mut all = serde_json::Map::new();
    all.insert("node".into(), shared.broker.node().to_string().into());
    for counter in nightjar_broker::Counter::ALL {
        let name = counter.name().replace('_', ".");
        all.insert(name, metrics.get(*counter).into());
    }
    Answer(vec![all.into()])
}
