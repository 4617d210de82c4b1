//! One client, one message, one listener; explanations, metrics, log level, the admin's password.

use std::sync::Arc;

use nightjar_mqtt::{QoS, ReasonCode, TopicName};
use serde::Deserialize;
use serde_json::{Value, json};

use super::lists::retained;
use super::{api, failed, refused, walk};
use crate::ctl::{CtlError, ErrorCode, Registry};
use crate::start::Node;
use crate::start::api as host;
use crate::start::verbs::args::read;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Client {
    id: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Topic {
    topic: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Name {
    name: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Level {
    level: Option<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Password {
    password: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct NoArgs {}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Question {
    from: Option<String>,
    to: String,
    topic: String,
    #[serde(default)]
    qos: u8,
}

/// Adds the verbs.
pub fn add(registry: &mut Registry, node: &Arc<Node>) {
    let it = node.clone();
    registry.add_fn("clients show", "show a client", move |args| {
        let it = it.clone();
        async move { show(&it, &read::<Client>(args)?.id) }
    });
    let it = node.clone();
    registry.add_fn("clients kick", "disconnect a client", move |args| {
        let it = it.clone();
        async move {
            let id = read::<Client>(args)?.id;
            if it.broker.kick(&id, ReasonCode::AdministrativeAction) {
                return Ok(json!({ "kicked": id }));
            }
            let text = format!("the client {id:?} is not connected");
            Err(CtlError::new(ErrorCode::NotFound, text))
        }
    });
    let it = node.clone();
    registry.add_fn("retained get", "show a retained message", move |args| {
        let it = it.clone();
        async move { retained(&it, read::<Topic>(args)?.topic).await }
    });
    let it = node.clone();
    registry.add_fn("retained rm", "forget a retained message", move |args| {
        let it = it.clone();
        async move { forget(&it, read::<Topic>(args)?.topic).await }
    });
    let it = node.clone();
    registry.add_fn("listeners start", "start a listener", move |args| {
        let it = it.clone();
        async move {
            let name = read::<Name>(args)?.name;
            host::start_listener(&it, &name).map_err(failed)?;
            Ok(json!({ "started": name }))
        }
    });
    let it = node.clone();
    registry.add_fn("listeners stop", "stop a listener", move |args| {
        let it = it.clone();
        async move {
            let name = read::<Name>(args)?.name;
            host::stop_listener(&it, &name).await.map_err(failed)?;
            Ok(json!({ "stopped": name }))
        }
    });
    let it = node.clone();
    registry.add_fn("log level", "show or set the log filter", move |args| {
        let it = it.clone();
        async move {
            if let Some(level) = read::<Level>(args)?.level {
                it.set_log_level(&level)
                    .map_err(|error| CtlError::new(ErrorCode::Usage, format!("level: {error}")))?;
            }
            Ok(json!({ "level": it.log_level() }))
        }
    });
    let it = node.clone();
    registry.add_fn("explain", "why a message arrives, or not", move |args| {
        let it = it.clone();
        async move { explain(&it, read(args)?).await }
    });
    let it = node.clone();
    registry.add_fn("metrics", "show what is counted", move |args| {
        let it = it.clone();
        async move {
            let _: NoArgs = read(args)?;
            Ok(metrics(&it))
        }
    });
    let it = node.clone();
    registry.add_fn("alarms clear", "forget alarms that are over", move |_| {
        it.broker.alarms().forget_history();
        async { Ok(json!({ "cleared": true })) }
    });
    let it = node.clone();
    registry.add_fn("admin passwd", "set the password of admin", move |args| {
        let it = it.clone();
        async move {
            let password = read::<Password>(args)?.password;
            let done = walk(&it, move |shared| shared.set_admin_password(&password)).await?;
            done.map_err(|error| refused(&error))?;
            Ok(json!({ "changed": "admin" }))
        }
    });
}

fn show(node: &Node, id: &str) -> Result<Value, CtlError> {
    let shared = api(node)?;
    let timeline = shared.timeline(id);
    match node.broker.client(id) {
        Some(handle) => {
            let mut view = json!(shared.client_view(&handle));
            let lines: Vec<String> = timeline.iter().map(ToString::to_string).collect();
            view["timeline"] = json!(lines);
            Ok(view)
        }
        None => {
            let last = timeline.first().map_or_else(String::new, |last| {
                format!("; the last that is known of it: {last}")
            });
            let text = format!("there is no session of the client {id:?}{last}");
            Err(CtlError::new(ErrorCode::NotFound, text))
        }
    }
}

async fn forget(node: &Arc<Node>, topic: String) -> Result<Value, CtlError> {
    let found = topic.clone();
    walk(node, move |shared| shared.retained_full(&found).map(drop))
        .await?
        .map_err(|error| refused(&error))?;
    let name = TopicName::new(topic.as_str())
        .map_err(|error| CtlError::new(ErrorCode::Usage, format!("topic: {error}")))?;
    let ticket = node.broker.forget_retained(&name);
    ticket.wait().await.map_err(|code| {
        let text = format!("the durable store did not take it (0x{:02X})", code.code());
        CtlError::new(ErrorCode::Failed, text)
    })?;
    Ok(json!({ "removed": topic }))
}

async fn explain(node: &Node, question: Question) -> Result<Value, CtlError> {
    let qos = QoS::try_from(question.qos)
        .map_err(|error| CtlError::new(ErrorCode::Usage, format!("qos: {error}")))?;
    TopicName::new(question.topic.as_str())
        .map_err(|error| CtlError::new(ErrorCode::Usage, format!("topic: {error}")))?;
    let explained = node
        .broker
        .explain(question.from.as_deref(), &question.to, &question.topic, qos)
        .await;
    let delivered = match explained.delivered() {
        Some(true) => "yes",
        Some(false) => "no",
        None => "maybe",
    };
    let steps: serde_json::Map<String, Value> = explained
        .steps
        .iter()
        .enumerate()
        .map(|(at, step)| {
            let mark = match step.ok {
                Some(true) => "ok",
                Some(false) => "NO",
                None => "?",
            };
            let name = format!("{} {}", at + 1, step.check);
            (name, json!({ "ok": mark, "text": step.text }))
        })
        .collect();
    Ok(json!({ "delivered": delivered, "summary": explained.summary(), "steps": steps }))
}

fn metrics(node: &Node) -> Value {
    let counters = nightjar_broker::Counter::ALL.iter().map(|counter| {
        (
            counter.name().to_owned(),
            json!(node.broker.metrics().get(*counter)),
        )
    });
    Value::Object(counters.collect())
}
