//! `ban ...`: clients, users and addresses that may not connect.

use std::sync::Arc;

use nightjar_broker::Timestamp;
use nightjar_broker::admin::AccessAdmin;
use nightjar_broker::bans::{Ban, BanKind};
use serde::Deserialize;
use serde_json::{Value, json};

use super::args::{failed, read};
use crate::ctl::server::{CtlVerb, Registry, Rows, VerbFuture};
use crate::start::Node;

/// Rows of one page.
const PAGE: usize = 256;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Args {
    kind: BanKind,
    who: String,
    /// `None` for good.
    seconds: Option<u64>,
    #[serde(default)]
    reason: String,
}

/// Adds the verbs.
pub fn add(registry: &mut Registry, node: &Arc<Node>) {
    let it = node.clone();
    registry.add_fn(
        "ban add",
        "ban a client, a user or an address",
        move |args| {
            let it = it.clone();
            async move {
                let args = read::<Args>(args)?;
                let now = Timestamp::now();
                let ban = Ban {
                    kind: args.kind,
                    who: args.who.clone(),
                    reason: args.reason,
                    by: "ctl".to_owned(),
                    at: now,
                    until: args
                        .seconds
                        .map_or(Timestamp::NEVER, |time| now.plus_secs(time)),
                };
                it.add_ban(ban).await.map_err(failed)?;
                Ok(it.kept_answer(json!({ "banned": args.who })))
            }
        },
    );
    let it = node.clone();
    registry.add_fn("ban rm", "lift a ban", move |args| {
        let it = it.clone();
        async move {
            let args = read::<Args>(args)?;
            it.remove_ban(args.kind, &args.who).await.map_err(failed)?;
            Ok(json!({ "lifted": args.who }))
        }
    });
    registry.add("ban list", "list the bans in force", List(node.clone()));
}

struct List(Arc<Node>);

impl CtlVerb for List {
    fn run<'a>(&'a self, _: Value, rows: &'a mut Rows<'_>) -> VerbFuture<'a> {
        Box::pin(async move {
            rows.columns(&["kind", "who", "left", "reason", "by"])
                .await?;
            let mut after: Option<Arc<Ban>> = None;
            loop {
                let cursor = after.as_deref().map(|ban| (ban.kind, ban.who.as_str()));
                let page = self.0.bans(cursor, PAGE);
                let now = Timestamp::now();
                for ban in &page {
                    let left = (ban.until != Timestamp::NEVER)
                        .then(|| format!("{}s", ban.until.since(now).div_ceil(1000)));
                    let row = json!({
                        "kind": ban.kind, "who": ban.who, "left": left, "reason": ban.reason, "by": ban.by,
                    });
                    rows.row(&row).await?;
                }
                match page.last() {
                    Some(last) if page.len() == PAGE => after = Some(last.clone()),
                    _ => return Ok(Value::Null),
                }
            }
        })
    }
}
