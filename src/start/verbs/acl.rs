//! `acl ...`: what clients may do, and the builtin rules.

use std::net::IpAddr;
use std::sync::Arc;

use nightjar_broker::admin::{AccessAdmin, AccessQuestion};
use nightjar_mqtt::QoS;
use serde::Deserialize;
use serde_json::{Value, json};

use super::args::{failed, read};
use crate::ctl::server::{CtlVerb, Registry, Rows, VerbFuture};
use crate::ctl::{CtlError, ErrorCode};
use crate::start::Node;

/// Rows of one page.
const PAGE: usize = 256;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Test {
    username: Option<String>,
    clientid: String,
    address: Option<IpAddr>,
    listener: Option<String>,
    #[serde(default)]
    qos: u8,
    #[serde(default)]
    retain: bool,
    subscribe: bool,
    topic: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Add {
    rule: String,
    at: Option<u32>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Remove {
    number: u32,
}

/// Adds the verbs.
pub fn add(registry: &mut Registry, node: &Arc<Node>) {
    let it = node.clone();
    registry.add_fn(
        "acl test",
        "say what a client may do, and why",
        move |args| {
            let it = it.clone();
            async move {
                let test = read::<Test>(args)?;
                let qos = QoS::from_bits(test.qos)
                    .ok_or_else(|| CtlError::new(ErrorCode::Usage, "expected qos 0 to 2"))?;
                let explanation = it
                    .explain(AccessQuestion {
                        username: test.username,
                        client_id: test.clientid,
                        address: test.address,
                        listener: test.listener,
                        subscribe: test.subscribe,
                        topic: test.topic,
                        qos,
                        retain: test.retain,
                    })
                    .await;
                let verdict = if explanation.verdict.allowed() {
                    "allow"
                } else {
                    "deny"
                };
                Ok(json!({ "verdict": verdict, "reason": explanation.reason }))
            }
        },
    );
    let it = node.clone();
    registry.add_fn("acl reload", "read the files of rules again", move |_| {
        let it = it.clone();
        async move {
            let reloaded = tokio::task::spawn_blocking(move || it.reload_rules()).await;
            let errors = reloaded.unwrap_or_else(|error| vec![error.to_string()]);
            Ok(json!({ "errors": errors }))
        }
    });
    let it = node.clone();
    registry.add_fn("acl cache-clean", "void cached verdicts", move |_| {
        it.clean_cache();
        async { Ok(json!({ "cleaned": true })) }
    });
    let it = node.clone();
    registry.add_fn("acl add", "add a builtin rule", move |args| {
        let it = it.clone();
        async move {
            let args = read::<Add>(args)?;
            let number = it.add_rule(&args.rule, args.at).await.map_err(failed)?;
            Ok(it.kept_answer(json!({ "number": number })))
        }
    });
    let it = node.clone();
    registry.add_fn("acl rm", "remove a builtin rule", move |args| {
        let it = it.clone();
        async move {
            let number = read::<Remove>(args)?.number;
            it.remove_rule(number).await.map_err(failed)?;
            Ok(json!({ "removed": number }))
        }
    });
    registry.add("acl list", "list builtin rules", List(node.clone()));
}

struct List(Arc<Node>);

impl CtlVerb for List {
    fn run<'a>(&'a self, _: Value, rows: &'a mut Rows<'_>) -> VerbFuture<'a> {
        Box::pin(async move {
            rows.columns(&["number", "rule"]).await?;
            let mut after = None;
            loop {
                let page = self.0.rules(after, PAGE);
                for (number, rule) in &page {
                    rows.row(&json!({ "number": number, "rule": rule })).await?;
                }
                match page.last() {
                    Some((last, _)) if page.len() == PAGE => after = Some(*last),
                    _ => return Ok(Value::Null),
                }
            }
        })
    }
}
