//! `trace start | tail | stop | rm`.

use std::sync::Arc;
use std::time::Duration;

use nightjar_broker::Timestamp;
use nightjar_broker::observe::{Trace, TraceSubject};
use nightjar_mqtt::TopicFilter;
use serde::Deserialize;
use serde_json::{Value, json};

use super::{refused, walk};
use crate::ctl::server::{CtlVerb, Rows, VerbFuture};
use crate::ctl::{CtlError, ErrorCode, Registry};
use crate::start::Node;
use crate::start::verbs::args::read;

/// How often a followed trace is looked at.
const LOOK: Duration = Duration::from_millis(200);
/// Bytes taken at a time.
const CHUNK: u64 = 256 * 1024;
/// Bytes after which a trace stops.
const SIZE: u64 = 16 << 20;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Start {
    client: Option<String>,
    topic: Option<String>,
    address: Option<std::net::IpAddr>,
    name: Option<String>,
    seconds: u64,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Name {
    name: String,
    #[serde(default)]
    once: bool,
}

/// Adds the verbs.
pub fn add(registry: &mut Registry, node: &Arc<Node>) {
    let it = node.clone();
    registry.add_fn("trace start", "follow packets", move |args| {
        let it = it.clone();
        async move { start(&it, read(args)?).await }
    });
    registry.add(
        "trace tail",
        "print what a trace writes",
        Tail(node.clone()),
    );
    let it = node.clone();
    registry.add_fn("trace stop", "stop a trace", move |args| {
        let it = it.clone();
        async move {
            let trace = find(&it, &read::<Name>(args)?.name)?;
            trace.stop();
            it.broker.tracer().refresh(Timestamp::now());
            Ok(json!({ "stopped": trace.name }))
        }
    });
    let it = node.clone();
    registry.add_fn("trace rm", "remove a trace", move |args| {
        let it = it.clone();
        async move {
            let name = find(&it, &read::<Name>(args)?.name)?.name.clone();
            let removed = name.clone();
            walk(&it, move |shared| shared.remove_trace(&removed)).await?;
            Ok(json!({ "removed": name }))
        }
    });
}

fn find(node: &Node, name: &str) -> Result<Arc<Trace>, CtlError> {
    node.broker.tracer().find(name).ok_or_else(|| {
        CtlError::new(ErrorCode::NotFound, format!("there is no trace {name:?}"))
            .help("`nightjar ctl trace list` shows them")
    })
}

async fn start(node: &Arc<Node>, args: Start) -> Result<Value, CtlError> {
    let subject = match (args.client, args.topic, args.address) {
        (Some(id), None, None) => TraceSubject::Client(id.into()),
        (None, Some(filter), None) => TraceSubject::Topic(
            TopicFilter::new(filter)
                .map_err(|error| CtlError::new(ErrorCode::Usage, format!("topic: {error}")))?,
        ),
        (None, None, Some(address)) => TraceSubject::Address(address.to_canonical()),
        _ => {
            let text = "expected one of client, topic, address";
            return Err(CtlError::new(ErrorCode::Usage, text));
        }
    };
    if !(1..=86_400).contains(&args.seconds) {
        let text = "for: expected 1s to 1d";
        return Err(CtlError::new(ErrorCode::Usage, text));
    }
    let name = args.name.unwrap_or_else(|| {
        let plain = |c: char| if c.is_ascii_alphanumeric() { c } else { '-' };
        let value: String = subject.to_string().chars().map(plain).take(40).collect();
        format!("{}-{value}", subject.kind())
    });
    let time = args.seconds * 1000;
    let trace = walk(node, move |shared| {
        shared.start_trace(&name, subject, time, SIZE)
    })
    .await?
    .map_err(|error| refused(&error))?;
    Ok(json!(nightjar_api::trace_view(&trace)))
}

struct Tail(Arc<Node>);

impl CtlVerb for Tail {
    fn run<'a>(&'a self, args: Value, rows: &'a mut Rows<'_>) -> VerbFuture<'a> {
        Box::pin(async move {
            let args = read::<Name>(args)?;
            let trace = find(&self.0, &args.name)?;
            rows.columns(&["line"]).await?;
            let mut at = 0;
            let mut rest = String::new();
            loop {
                let over = !trace.is_running(Timestamp::now());
                let (it, from) = (trace.clone(), at);
                let bytes = walk(&self.0, move |shared| shared.read_trace(&it, from, CHUNK))
                    .await?
                    .map_err(|error| refused(&error))?;
                at += bytes.len() as u64;
                rest.push_str(&String::from_utf8_lossy(&bytes));
                while let Some(end) = rest.find('\n') {
                    let line: String = rest.drain(..=end).collect();
                    rows.row(&json!({ "line": line.trim_end() })).await?;
                }
                rows.flush().await?;
                if bytes.is_empty() {
                    if over || args.once {
                        return Ok(Value::Null);
                    }
                    tokio::time::sleep(LOOK).await;
                }
            }
        })
    }
}
