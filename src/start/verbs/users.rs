//! `users ...`: builtin users.

use std::sync::Arc;

use nightjar_broker::access::Secret;
use nightjar_broker::admin::{AccessAdmin, UserChange};
use nightjar_broker::auth::UserKind;
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
    #[serde(default)]
    kind: UserKind,
    #[serde(default)]
    name: String,
    password: Option<String>,
    superuser: Option<bool>,
}

impl Args {
    fn change(self) -> UserChange {
        UserChange {
            kind: self.kind,
            name: self.name,
            password: self.password.map(|text| Secret(text.into_bytes().into())),
            superuser: self.superuser,
        }
    }
}

/// Adds the verbs.
pub fn add(registry: &mut Registry, node: &Arc<Node>) {
    let it = node.clone();
    registry.add_fn("users add", "add a builtin user", move |args| {
        let it = it.clone();
        async move {
            let change = read::<Args>(args)?.change();
            let name = change.name.clone();
            it.add_user(change).await.map_err(failed)?;
            Ok(it.kept_answer(json!({ "added": name })))
        }
    });
    let it = node.clone();
    registry.add_fn("users passwd", "change a builtin user", move |args| {
        let it = it.clone();
        async move {
            let change = read::<Args>(args)?.change();
            let name = change.name.clone();
            it.change_user(change).await.map_err(failed)?;
            Ok(it.kept_answer(json!({ "changed": name })))
        }
    });
    let it = node.clone();
    registry.add_fn("users rm", "remove a builtin user", move |args| {
        let it = it.clone();
        async move {
            let args = read::<Args>(args)?;
            it.remove_user(args.kind, &args.name)
                .await
                .map_err(failed)?;
            Ok(json!({ "removed": args.name }))
        }
    });
    registry.add("users list", "list builtin users", List(node.clone()));
}

struct List(Arc<Node>);

impl CtlVerb for List {
    fn run<'a>(&'a self, args: Value, rows: &'a mut Rows<'_>) -> VerbFuture<'a> {
        Box::pin(async move {
            let kind = read::<Args>(args)?.kind;
            rows.columns(&["name", "superuser", "scram"]).await?;
            let mut after: Option<String> = None;
            loop {
                let page = self.0.users(kind, after.as_deref(), PAGE);
                for user in &page {
                    let row = json!({ "name": user.name, "superuser": user.superuser, "scram": user.scram });
                    rows.row(&row).await?;
                }
                match page.last() {
                    Some(last) if page.len() == PAGE => after = Some(last.name.clone()),
                    _ => return Ok(Value::Null),
                }
            }
        })
    }
}

impl Node {
    /// An answer that says so where what was set ends with the process.
    pub(super) fn kept_answer(&self, mut answer: Value) -> Value {
        let survives = self
            .broker
            .kept()
            .meta()
            .is_some_and(|meta| meta.survives());
        if !survives {
            answer["note"] = json!("kept until the node stops (durability = \"memory\")");
        }
        answer
    }
}
