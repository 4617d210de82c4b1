//! What is looked at for alarms, and what is told of them: `$SYS/brokers/<node>/alarms/activate` and `.../deactivate`.

use std::collections::BTreeMap;
use std::path::Path;

use nightjar_broker::{Counter, DropReason, MemoryLevel, Timestamp};
use serde_json::json;

use super::Node;

/// Share of `max_connections` from which a listener's alarm is raised, and below which it is over.
const NEAR_LIMIT: (f64, f64) = (0.9, 0.8);
/// Days before a certificate's end from which its alarm is raised.
const CERTIFICATE_DAYS: i64 = 30;
/// Share of free bytes on the disk of the data directory below which its alarm is raised.
const DISK_FREE: f64 = 0.1;
/// Milliseconds between looks.
const EVERY: u64 = 5000;
/// Milliseconds without a further drop after which that alarm is over.
const CALM: u64 = 60_000;

/// How alarms of nodes that are down begin.
const NODE_DOWN: &str = "cluster_node_down/";
/// Looks in a row after which a split is one.
const SPLIT_LOOKS: u32 = 2;

/// What the last look saw.
#[derive(Debug, Default)]
pub struct Watch {
    looked: Timestamp,
    counts: BTreeMap<&'static str, (u64, Timestamp)>,
    /// Looks in a row that found the cluster split.
    split: u32,
}

impl Watch {
    /// Looks, if it is time to, and publishes what changed.
    pub fn tick(&mut self, node: &Node, now: Timestamp) {
        if now.since(self.looked) >= EVERY {
            self.looked = now;
            self.look(node, now);
        }
        tell(node, now);
    }

    fn look(&mut self, node: &Node, now: Timestamp) {
        memory(node, now);
        self.drops(node, now);
        self.authenticators(node, now);
        listeners(node, now);
        disk(node, now);
        self.cluster(node, now);
    }

    /// Nodes that are down; and whether this one is cut off from others that are not.
    fn cluster(&mut self, node: &Node, now: Timestamp) {
        let Some(status) = node.cluster.as_ref().map(|it| it.status()) else {
            return;
        };
        let alarms = node.broker.alarms();
        let others = || status.nodes.iter().filter(|it| it.number != status.number);
        for raised in alarms.active() {
            let gone = |name: &str| others().all(|it| it.name != name);
            if raised.name.strip_prefix(NODE_DOWN).is_some_and(gone) {
                alarms.set(false, &raised.name, Default::default, now);
            }
        }
        for other in others() {
            let text = || {
                let text = format!(
                    "the node {} is down: start it, or `nightjar ctl cluster force-leave {}` if it does not come back",
                    other.name, other.name
                );
                (text, vec![("address".into(), other.address.clone())])
            };
            alarms.set(!other.up, &format!("{NODE_DOWN}{}", other.name), text, now);
        }
        let nodes = others().map(|it| (it.name.as_str(), it.up, it.link.as_str()));
        // A node that is in no cluster yet, or left it, is cut off from none.
        let serving = status.number == 0 || matches!(status.state, "serving" | "left");
        let split = split(serving, status.problem.as_deref(), nodes);
        // Links that are made anew are no split.
        self.split = split.as_ref().map_or(0, |_| self.split.saturating_add(1));
        let raise = self.split >= SPLIT_LOOKS;
        let told = || (split.unwrap_or_default(), Vec::new());
        alarms.set(raise, "cluster_split", told, now);
    }

    /// Did a counter grow lately? `None`: it never did since the start.
    fn grew(&mut self, name: &'static str, count: u64, now: Timestamp) -> Option<bool> {
        let (last, at) = self.counts.entry(name).or_insert((0, Timestamp::default()));
        if count > *last {
            (*last, *at) = (count, now);
        }
        (at.0 > 0).then(|| now.since(*at) < CALM)
    }

    fn drops(&mut self, node: &Node, now: Timestamp) {
        let broker = &node.broker;
        let count = broker.metrics().get(Counter::DroppedQueueFull);
        if let Some(lately) = self.grew("queue", count, now) {
            broker.alarms().set(
                lately,
                "queue_drops",
                || {
                    let worst = broker
                        .drops()
                        .list(1, |drop| drop.reason == DropReason::QueueFull);
                    let whose = worst.first().map_or_else(String::new, |drop| {
                        format!(", the last for {}", drop.client_id)
                    });
                    (
                        format!(
                            "QoS 1/2 messages are dropped because queues are full{whose}; \
                             see `nightjar ctl explain` and mqtt.max_queue_len"
                        ),
                        vec![("dropped".into(), count.to_string())],
                    )
                },
                now,
            );
        }
    }

    fn authenticators(&mut self, node: &Node, now: Timestamp) {
        use nightjar_broker::auth::Refusal;
        let broker = &node.broker;
        let counters = broker.auth().counters();
        let failed = counters.refused(Refusal::Unavailable) + counters.refused(Refusal::TimedOut);
        if let Some(lately) = self.grew("auth", failed, now) {
            broker.alarms().set(
                lately,
                "authenticator_down",
                || {
                    (
                        "an authenticator's backend fails or does not answer: clients are refused (0x88); \
                         the log names it"
                            .to_owned(),
                        vec![("refused".into(), failed.to_string())],
                    )
                },
                now,
            );
        }
        let failed = broker.acl().failures();
        if let Some(lately) = self.grew("acl", failed, now) {
            broker.alarms().set(
                lately,
                "authorizer_down",
                || {
                    (
                        "an authorization source fails or does not answer: what it would judge is denied; \
                         the log names it"
                            .to_owned(),
                        vec![("denied".into(), failed.to_string())],
                    )
                },
                now,
            );
        }
    }
}

/// How the cluster is split as seen from here: this node has no majority, or no link to nodes (name, up, link) that the
/// cluster counts as up.
fn split<'a>(
    serving: bool,
    problem: Option<&str>,
    others: impl Iterator<Item = (&'a str, bool, &'a str)>,
) -> Option<String> {
    let away: Vec<String> = others
        .filter(|(_, up, link)| *up && *link != "up")
        .map(|(name, _, link)| format!("{name} ({link})"))
        .collect();
    let away = away.join(", ");
    if !serving {
        let why = problem.unwrap_or("no majority of the voters is reachable");
        let links = if away.is_empty() {
            String::new()
        } else {
            format!("; it has no link to {away}")
        };
        return Some(format!(
            "this node is cut off from the cluster and serves no clients: {why}{links}"
        ));
    }
    (!away.is_empty()).then(|| {
        format!(
            "this node has no link to {away}, which others reach: look at the network between them"
        )
    })
}

fn memory(node: &Node, now: Timestamp) {
    let broker = &node.broker;
    let level = broker.memory();
    broker.alarms().set(
        level != MemoryLevel::Normal,
        "high_memory",
        || {
            let text = match level {
                MemoryLevel::Critical => {
                    "memory is above limits.memory_critical: publishers wait, connections are refused"
                }
                _ => "memory is above limits.memory_high: new connections are refused",
            };
            let resident = super::memory::resident().unwrap_or(0);
            (text.to_owned(), vec![("resident".into(), resident.to_string())])
        },
        now,
    );
}

fn listeners(node: &Node, now: Timestamp) {
    let alarms = node.broker.alarms();
    let raised: Vec<String> = alarms
        .active()
        .into_iter()
        .map(|alarm| alarm.name)
        .collect();
    for listener in super::api::listeners_of(node) {
        let name = format!("listener_limit/{}", listener.id);
        let near = listener.max_connections.is_some_and(|max| {
            let share = listener.current_connections as f64 / max.max(1) as f64;
            let mark = if raised.contains(&name) {
                NEAR_LIMIT.1
            } else {
                NEAR_LIMIT.0
            };
            share >= mark
        });
        let connections = listener.current_connections;
        let max = listener.max_connections.unwrap_or(0);
        alarms.set(
            near,
            &name,
            || {
                (
                    format!(
                        "{} has {connections} of at most {max} connections (max_connections)",
                        listener.id
                    ),
                    vec![
                        ("connections".into(), connections.to_string()),
                        ("max_connections".into(), max.to_string()),
                    ],
                )
            },
            now,
        );
        if let Some(tls) = &listener.tls
            && let Some(left) = tls.expires_in
        {
            alarms.set(
                left < CERTIFICATE_DAYS * 86_400,
                &format!("certificate_expiry/{}", listener.id),
                || {
                    let text = if left < 0 {
                        format!("the certificate of {} has ended", listener.id)
                    } else {
                        format!(
                            "the certificate of {} ends in {} days",
                            listener.id,
                            left / 86_400
                        )
                    };
                    (
                        format!("{text}: put a new one at {} and reload", tls.file),
                        vec![
                            ("file".into(), tls.file.clone()),
                            (
                                "not_after".into(),
                                tls.not_after.clone().unwrap_or_default(),
                            ),
                        ],
                    )
                },
                now,
            );
        }
    }
}

/// Free and all bytes of the disk that holds a directory.
fn space(dir: &Path) -> Option<(u64, u64)> {
    let stat = rustix::fs::statvfs(dir).ok()?;
    Some((
        stat.f_bavail.checked_mul(stat.f_frsize)?,
        stat.f_blocks.checked_mul(stat.f_frsize)?,
    ))
}

fn disk(node: &Node, now: Timestamp) {
    let dir = node.loaded.lock().config.node.data_dir.clone();
    let Some((free, all)) = space(&dir) else {
        return;
    };
    node.broker.alarms().set(
        all > 0 && (free as f64) < all as f64 * DISK_FREE,
        "low_disk",
        || {
            (
                format!(
                    "the disk of {} has {} MiB left of {}: free some, or the durable store will refuse messages",
                    dir.display(),
                    free >> 20,
                    all >> 20
                ),
                vec![
                    ("free".into(), free.to_string()),
                    ("total".into(), all.to_string()),
                ],
            )
        },
        now,
    );
}

/// Publishes what changed since the last time.
fn tell(node: &Node, now: Timestamp) {
    for alarm in node.broker.alarms().take_changes() {
        let over = alarm.deactivated_at.is_some();
        let details: BTreeMap<_, _> = alarm.details.into_iter().collect();
        let body = json!({
            "name": alarm.name,
            "message": alarm.message,
            "details": details,
            "activate_at": alarm.activated_at.to_rfc3339(),
            "deactivate_at": alarm.deactivated_at.map(Timestamp::to_rfc3339),
            "activated": !over,
        });
        let what = if over { "deactivate" } else { "activate" };
        let topic = format!("$SYS/brokers/{}/alarms/{what}", node.broker.node());
        node.broker
            .publish_own(&topic, body.to_string().as_bytes(), false, now);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cluster_is_split_where_a_node_that_is_up_is_not_reached() {
        let told = |serving, nodes: &[(&str, bool, &str)]| {
            split(serving, None, nodes.iter().map(|(a, b, c)| (*a, *b, *c)))
        };
        assert_eq!(told(true, &[]), None);
        assert_eq!(told(true, &[("b", true, "up"), ("c", false, "down")]), None);
        let text = told(true, &[("b", true, "refused"), ("c", true, "up")]).unwrap();
        assert!(text.contains("no link to b (refused), which"), "{text}");
        let text = told(false, &[("b", true, "down")]).unwrap();
        assert!(text.contains("serves no clients") && text.contains("no link to b (down)"));
        assert!(
            !told(false, &[("b", false, "down")])
                .unwrap()
                .contains("link")
        );
    }

    #[test]
    fn a_counter_that_grows_counts_as_lately_for_a_minute() {
        let mut watch = Watch::default();
        assert_eq!(watch.grew("x", 0, Timestamp(1)), None);
        assert_eq!(watch.grew("x", 1, Timestamp(1000)), Some(true));
        assert_eq!(watch.grew("x", 1, Timestamp(60_999)), Some(true));
        assert_eq!(watch.grew("x", 1, Timestamp(61_000)), Some(false));
        assert!(space(Path::new("/")).is_some_and(|(free, all)| free <= all));
    }
}
