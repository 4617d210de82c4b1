//! What the nodes of a cluster tell each other of their load, when somebody looks.

use std::time::{Duration, Instant};

use parking_lot::Mutex;
use serde_json::Value;
use tokio::task::JoinSet;

use crate::start::Node;

/// The question.
const LOAD: &[u8] = b"load";
/// Time for an answer. Whoever looks waits for it.
const PATIENCE: Duration = Duration::from_millis(500);
/// So long answers hold for other pages.
const FRESH: Duration = Duration::from_millis(800);

/// The last answers, and when they came.
pub type Told = Mutex<Option<(Instant, Vec<Value>)>>;

/// Answers what other nodes ask this one.
pub fn answer(node: &Node) {
    let (Some(cluster), Some(shared)) = (&node.cluster, node.api.get()) else {
        return;
    };
    let shared = std::sync::Arc::downgrade(shared);
    cluster.answer_hosts(move |question| {
        let shared = shared.upgrade().filter(|_| question == LOAD)?;
        Some(shared.node_told())
    });
}

/// What the other nodes say of themselves.
pub async fn told(node: &Node) -> Vec<Value> {
    let Some(cluster) = &node.cluster else {
        return Vec::new();
    };
    if let Some((at, told)) = &*node.told.lock()
        && at.elapsed() < FRESH
    {
        return told.clone();
    }
    let mut asked = JoinSet::new();
    let status = cluster.status();
    for other in status.nodes.iter().filter(|it| it.number != status.number) {
        let (cluster, number) = (cluster.clone(), other.number);
        asked.spawn(async move { cluster.ask_host(number, LOAD, PATIENCE).await });
    }
    let mut told = Vec::new();
    while let Some(answer) = asked.join_next().await {
        if let Ok(Ok(answer)) = answer
            && let Ok(value @ Value::Object(_)) = serde_json::from_slice(&answer)
        {
            told.push(value);
        }
    }
    *node.told.lock() = Some((Instant::now(), told.clone()));
    told
}
