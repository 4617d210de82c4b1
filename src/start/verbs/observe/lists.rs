//! Lists, page by page: a long one needs no memory.

use std::sync::Arc;

use nightjar_mqtt::{TopicFilter, TopicName};
use serde::Deserialize;
use serde_json::{Value, json};

use super::{api, refused, walk};
use crate::ctl::server::{CtlVerb, Registry, Rows, VerbFuture};
use crate::ctl::{CtlError, ErrorCode};
use crate::start::Node;
use crate::start::verbs::args::read;

/// Rows of one page.
const PAGE: usize = 1000;

/// Adds the verbs.
pub fn add(registry: &mut Registry, node: &Arc<Node>) {
    registry.add("clients list", "list clients", Clients(node.clone()));
    registry.add("subs list", "list subscriptions", Subs(node.clone()));
    registry.add("topics list", "list topic filters", Topics(node.clone()));
    registry.add(
        "topics match",
        "list the subscriptions that match a topic name",
        Match(node.clone()),
    );
    registry.add(
        "retained list",
        "list retained messages",
        Retained(node.clone()),
    );
    registry.add("listeners list", "list listeners", Listeners(node.clone()));
    registry.add("alarms list", "list alarms", Alarms(node.clone()));
    registry.add(
        "metrics prometheus",
        "show what is counted in Prometheus' text format",
        Prometheus(node.clone()),
    );
    registry.add("trace list", "list traces", Traces(node.clone()));
}

struct Clients(Arc<Node>);

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ClientsArgs {
    like: Option<String>,
    user: Option<String>,
    #[serde(default)]
    connected: bool,
    limit: Option<usize>,
}

impl CtlVerb for Clients {
    fn run<'a>(&'a self, args: Value, rows: &'a mut Rows<'_>) -> VerbFuture<'a> {
        Box::pin(async move {
            let args = Arc::new(read::<ClientsArgs>(args)?);
            rows.columns(&[
                "clientid",
                "username",
                "connected",
                "ip_address",
                "port",
                "proto_name",
                "proto_ver",
                "keepalive",
                "subscriptions_cnt",
                "mqueue_len",
                "connected_at",
            ])
            .await?;
            let mut left = args.limit.unwrap_or(usize::MAX);
            let mut after: Option<String> = None;
            while left > 0 {
                let (args, from) = (args.clone(), after.take());
                let most = left.min(PAGE);
                let (page, last) = walk(&self.0, move |shared| {
                    let page = shared.broker.page_clients(from.as_deref(), most, |handle| {
                        args.like
                            .as_deref()
                            .is_none_or(|part| handle.client_id().contains(part))
                            && (!args.connected || handle.is_connected())
                            && args
                                .user
                                .as_deref()
                                .is_none_or(|user| handle.info().username.as_deref() == Some(user))
                    });
                    let last = page.rows.last().filter(|_| page.more);
                    let last = last.map(|handle| handle.client_id().to_string());
                    let views: Vec<Value> = page
                        .rows
                        .iter()
                        .map(|handle| json!(shared.client_view(handle)))
                        .collect();
                    (views, last)
                })
                .await?;
                left -= page.len();
                for row in page {
                    rows.row(&row).await?;
                }
                after = last;
                if after.is_none() {
                    break;
                }
            }
            Ok(Value::Null)
        })
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct SubsArgs {
    client: Option<String>,
    topic: Option<String>,
    limit: Option<usize>,
}

struct Subs(Arc<Node>);

/// Subscriptions that a filter wants, page by page.
async fn subscriptions(
    node: &Arc<Node>,
    rows: &mut Rows<'_>,
    only: Option<String>,
    limit: Option<usize>,
    wants: impl Fn(&TopicFilter) -> bool + Send + Sync + Clone + 'static,
) -> Result<Value, CtlError> {
    rows.columns(&["clientid", "topic", "qos", "nl", "rap", "rh", "durable"])
        .await?;
    let mut left = limit.unwrap_or(usize::MAX);
    let mut after: Option<(String, String)> = None;
    while left > 0 {
        let (only, from, wants) = (only.clone(), after.take(), wants.clone());
        let most = left.min(PAGE);
        let (page, last) = walk(node, move |shared| {
            let from = from.as_ref().map(|(id, filter)| (&**id, &**filter));
            let page = shared.broker.page_subscriptions(
                only.as_deref(),
                None,
                from,
                most,
                |_, filter, _| wants(filter),
            );
            let last = page.rows.last().filter(|_| page.more);
            let last = last.map(|row| (row.client_id.to_string(), row.filter.to_string()));
            let views: Vec<Value> = page
                .rows
                .iter()
                .map(|row| json!(shared.subscription_view(row)))
                .collect();
            (views, last)
        })
        .await?;
        left -= page.len();
        for row in page {
            rows.row(&row).await?;
        }
        after = last;
        if after.is_none() {
            break;
        }
    }
    Ok(Value::Null)
}

impl CtlVerb for Subs {
    fn run<'a>(&'a self, args: Value, rows: &'a mut Rows<'_>) -> VerbFuture<'a> {
        Box::pin(async move {
            let args = read::<SubsArgs>(args)?;
            let topic = args.topic;
            subscriptions(&self.0, rows, args.client, args.limit, move |filter| {
                topic
                    .as_deref()
                    .is_none_or(|wanted| wanted == filter.as_str())
            })
            .await
        })
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Topic {
    topic: String,
}

struct Match(Arc<Node>);

impl CtlVerb for Match {
    fn run<'a>(&'a self, args: Value, rows: &'a mut Rows<'_>) -> VerbFuture<'a> {
        Box::pin(async move {
            let args = read::<Topic>(args)?;
            let topic = TopicName::new(args.topic)
                .map_err(|error| CtlError::new(ErrorCode::Usage, format!("topic: {error}")))?;
            subscriptions(&self.0, rows, None, None, move |filter| {
                nightjar_mqtt::topic::matches(filter.routing_filter(), &topic)
            })
            .await
        })
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Limit {
    limit: Option<usize>,
}

struct Topics(Arc<Node>);

impl CtlVerb for Topics {
    fn run<'a>(&'a self, args: Value, rows: &'a mut Rows<'_>) -> VerbFuture<'a> {
        Box::pin(async move {
            let args = read::<Limit>(args)?;
            rows.columns(&["topic", "subscribers"]).await?;
            let mut left = args.limit.unwrap_or(usize::MAX);
            let mut after: Option<String> = None;
            while left > 0 {
                let (from, most) = (after.take(), left.min(PAGE));
                let page = walk(&self.0, move |shared| {
                    shared.broker.page_topics(from.as_deref(), most)
                })
                .await?;
                left -= page.rows.len();
                after = page
                    .rows
                    .last()
                    .filter(|_| page.more)
                    .map(|row| row.filter.clone());
                for row in page.rows {
                    rows.row(&json!({ "topic": row.filter, "subscribers": row.subscribers }))
                        .await?;
                }
                if after.is_none() {
                    break;
                }
            }
            Ok(Value::Null)
        })
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RetainedArgs {
    filter: String,
    limit: Option<usize>,
}

struct Retained(Arc<Node>);

impl CtlVerb for Retained {
    fn run<'a>(&'a self, args: Value, rows: &'a mut Rows<'_>) -> VerbFuture<'a> {
        Box::pin(async move {
            let args = read::<RetainedArgs>(args)?;
            let filter = TopicFilter::new(args.filter)
                .map_err(|error| CtlError::new(ErrorCode::Usage, format!("filter: {error}")))?;
            rows.columns(&[
                "topic",
                "qos",
                "payload_size",
                "publish_at",
                "expires_at",
                "from_clientid",
            ])
            .await?;
            let mut left = args.limit.unwrap_or(usize::MAX);
            let mut after: Option<String> = None;
            while left > 0 {
                let (from, most, filter) = (after.take(), left.min(PAGE), filter.clone());
                let (page, more) = walk(&self.0, move |shared| {
                    shared.page_retained(&filter, from.as_deref(), most)
                })
                .await?;
                left -= page.len();
                after = page.last().filter(|_| more).map(|row| row.topic.clone());
                for row in page {
                    rows.row(&row).await?;
                }
                if after.is_none() {
                    break;
                }
            }
            Ok(Value::Null)
        })
    }
}

struct Listeners(Arc<Node>);

impl CtlVerb for Listeners {
    fn run<'a>(&'a self, _: Value, rows: &'a mut Rows<'_>) -> VerbFuture<'a> {
        Box::pin(async move {
            rows.columns(&[
                "id",
                "running",
                "bind",
                "current_connections",
                "max_connections",
                "accepted",
            ])
            .await?;
            for listener in walk(&self.0, |shared| shared.host.listeners()).await? {
                rows.row(&listener).await?;
            }
            Ok(Value::Null)
        })
    }
}

struct Alarms(Arc<Node>);

impl CtlVerb for Alarms {
    fn run<'a>(&'a self, _: Value, rows: &'a mut Rows<'_>) -> VerbFuture<'a> {
        Box::pin(async move {
            rows.columns(&[
                "name",
                "activated",
                "activate_at",
                "deactivate_at",
                "message",
            ])
            .await?;
            let shared = api(&self.0)?;
            let alarms = self.0.broker.alarms();
            for alarm in alarms.active().into_iter().chain(alarms.history()) {
                rows.row(&shared.alarm_view(alarm)).await?;
            }
            Ok(Value::Null)
        })
    }
}

struct Traces(Arc<Node>);

impl CtlVerb for Traces {
    fn run<'a>(&'a self, _: Value, rows: &'a mut Rows<'_>) -> VerbFuture<'a> {
        Box::pin(async move {
            rows.columns(&["name", "type", "value", "status", "end_at", "log_size"])
                .await?;
            for trace in self.0.broker.tracer().list() {
                rows.row(&nightjar_api::trace_view(&trace)).await?;
            }
            Ok(Value::Null)
        })
    }
}

struct Prometheus(Arc<Node>);

impl CtlVerb for Prometheus {
    fn run<'a>(&'a self, _: Value, rows: &'a mut Rows<'_>) -> VerbFuture<'a> {
        Box::pin(async move {
            rows.columns(&["line"]).await?;
            for line in api(&self.0)?.prometheus().lines() {
                rows.row(&json!({ "line": line })).await?;
            }
            Ok(Value::Null)
        })
    }
}

/// One retained message with its payload, as text where it is text.
pub async fn retained(node: &Arc<Node>, topic: String) -> Result<Value, CtlError> {
    let found = walk(node, move |shared| shared.retained_full(&topic)).await?;
    found
        .map(|message| json!(message))
        .map_err(|error| refused(&error))
}
