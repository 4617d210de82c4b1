//! Why did a client get a message, or not? The checks of the message's way, one after the other, against what is in
//! force now and what was noted lately.

use std::sync::Arc;

use nightjar_mqtt::{QoS, TopicFilter};

use crate::access::{Action, ClientInfo, Verdict};
use crate::broker::Broker;
use crate::handle::SessionHandle;
use crate::subscription::Subscription;

/// One check.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ExplainStep {
    /// What was looked at: `publisher`, `publish_acl`, `session`, `subscription`, `subscribe_acl`, `no_local`,
    /// `share_group`, `queue`, `drops`, `retained`.
    pub check: &'static str,
    /// Does it let the message pass? `None`: it may or may not.
    pub ok: Option<bool>,
    /// In words.
    pub text: String,
}

/// The whole answer.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Explained {
    /// The checks in their order.
    pub steps: Vec<ExplainStep>,
}

impl Explained {
    fn step(&mut self, check: &'static str, ok: Option<bool>, text: impl Into<String>) {
        self.steps.push(ExplainStep {
            check,
            ok,
            text: text.into(),
        });
    }

    /// `Some(true)`: the message reaches the client; `Some(false)`: it does not; `None`: it depends.
    #[must_use]
    pub fn delivered(&self) -> Option<bool> {
        if self.steps.iter().any(|step| step.ok == Some(false)) {
            return Some(false);
        }
        self.steps
            .iter()
            .all(|step| step.ok == Some(true))
            .then_some(true)
    }

    /// The check that decides, in words.
    #[must_use]
    pub fn summary(&self) -> String {
        let deciding = |ok| self.steps.iter().find(|step| step.ok == ok);
        match (self.delivered(), deciding(Some(false)), deciding(None)) {
            (Some(false), Some(step), _) => format!("not delivered: {}", step.text),
            (None, _, Some(step)) => format!("depends: {}", step.text),
            _ => "delivered: nothing stands in its way now".to_owned(),
        }
    }
}

impl Broker {
    /// Says why a message of `topic` from `from` does or does not reach `to`. `qos` is that of the PUBLISH.
    pub async fn explain(&self, from: Option<&str>, to: &str, topic: &str, qos: QoS) -> Explained {
        let mut out = Explained::default();
        if let Some(from) = from {
            self.explain_publisher(&mut out, from, topic, qos).await;
        }
        let Some(handle) = self.client(to) else {
            out.step(
                "session",
                Some(false),
                format!("{to} has no session on this node{}", self.last_words(to)),
            );
            return out;
        };
        let queue = handle.queue_state();
        out.step(
            "session",
            Some(true),
            if queue.connected {
                format!("{to} is connected from {}", handle.info().peer)
            } else {
                format!(
                    "{to} is offline and its session waits{}",
                    self.last_words(to)
                )
            },
        );
        let matching: Vec<(TopicFilter, Subscription)> = handle
            .subscriptions()
            .into_iter()
            .filter(|(filter, _)| nightjar_mqtt::topic::matches(filter.routing_filter(), topic))
            .collect();
        if matching.is_empty() {
            let near = nearest(&handle, topic);
            out.step(
                "subscription",
                Some(false),
                format!("no subscription of {to} matches {topic}{near}"),
            );
            return out;
        }
        let granted = matching.iter().map(|(_, sub)| sub.options.qos()).max();
        let qos = granted.unwrap_or(QoS::AtMostOnce).min(qos);
        for (filter, sub) in &matching {
            self.explain_subscription(&mut out, &handle, from, topic, filter, *sub)
                .await;
        }
        if !queue.connected && qos == QoS::AtMostOnce {
            out.step(
                "offline",
                None,
                "QoS 0 for an offline client is kept only with mqtt.queue_qos0 = true",
            );
        }
        self.explain_queue(&mut out, &handle, qos);
        self.explain_drops(&mut out, to, topic);
        out
    }

    async fn explain_publisher(&self, out: &mut Explained, from: &str, topic: &str, qos: QoS) {
        let Some(publisher) = self.client(from) else {
            out.step(
                "publisher",
                None,
                format!(
                    "{from} has no session on this node{}",
                    self.last_words(from)
                ),
            );
            return;
        };
        let info = publisher.info();
        if publisher.is_connected() {
            out.step(
                "publisher",
                Some(true),
                format!("{from} is connected from {}", info.peer),
            );
        } else {
            out.step(
                "publisher",
                Some(false),
                format!("{from} is offline{}", self.last_words(from)),
            );
        }
        let action = Action::Publish {
            topic,
            qos,
            retain: false,
        };
        let (ok, text) = self.verdict_words(&info, action, None).await;
        out.step(
            "publish_acl",
            ok,
            format!("{from} publishing to {topic}: {text}"),
        );
    }

    async fn explain_subscription(
        &self,
        out: &mut Explained,
        handle: &Arc<SessionHandle>,
        from: Option<&str>,
        topic: &str,
        filter: &TopicFilter,
        sub: Subscription,
    ) {
        let to = handle.client_id();
        out.step(
            "subscription",
            Some(true),
            format!("{filter} matches, granted QoS {}", sub.options.qos().bits()),
        );
        let inner = filter.routing_filter();
        let action = Action::Subscribe {
            filter: inner,
            qos: sub.options.qos(),
        };
        let info = handle.info();
        let (ok, text) = self.verdict_words(&info, action, Some(topic)).await;
        out.step(
            "subscribe_acl",
            ok,
            format!("{to} subscribing to {inner}: {text}"),
        );
        if sub.options.no_local() && from == Some(&**to) {
            out.step(
                "no_local",
                Some(false),
                "the subscription is No Local: a client's own messages do not come back",
            );
        }
        if let Some(shared) = filter.shared() {
            let members: Vec<String> = self
                .group_members(shared.group, shared.filter)
                .into_iter()
                .map(|member| member.to_string())
                .collect();
            let others = members.len().saturating_sub(1);
            out.step(
                "share_group",
                if others == 0 { Some(true) } else { None },
                format!(
                    "shared group {} has {} members ({}), each message goes to one of them (mqtt.shared_strategy)",
                    shared.group,
                    members.len(),
                    first_few(&members),
                ),
            );
        }
    }

    /// A verdict with its reason; of a subscription that is checked at each delivery, what it means for `topic`.
    async fn verdict_words(
        &self,
        info: &ClientInfo,
        action: Action<'_>,
        topic: Option<&str>,
    ) -> (Option<bool>, String) {
        let explained = self.acl().explain(info, action).await;
        if explained.verdict == Verdict::AllowChecked
            && let (Some(topic), Action::Subscribe { filter, qos }) = (topic, action)
        {
            let mut cache = crate::acl::AccessCache::new();
            let may = self.acl().may_deliver(
                info,
                &mut cache,
                filter,
                qos,
                topic,
                std::time::Instant::now(),
            );
            let text = if may {
                format!("{explained}, and no deny rule speaks of {topic}")
            } else {
                format!("{explained}, but a deny rule speaks of {topic}: it is not delivered")
            };
            return (Some(may), text);
        }
        (Some(explained.verdict.allowed()), explained.to_string())
    }

    fn explain_queue(&self, out: &mut Explained, handle: &Arc<SessionHandle>, qos: QoS) {
        let to = handle.client_id();
        let queue = handle.queue_state();
        let stored = if handle.is_durable() && qos != QoS::AtMostOnce {
            self.store().queue_len(to).map_or(0, |(len, _)| len)
        } else {
            0
        };
        let len = queue.len.max(stored);
        let full = len >= queue.max_len || queue.bytes >= queue.max_bytes;
        let waits = queue.connected && queue.inflight > 0 && len > 0;
        out.step(
            "queue",
            if full { None } else { Some(true) },
            format!(
                "{len} of {} messages wait, {} of {} bytes, {} unacknowledged{}",
                queue.max_len,
                queue.bytes,
                queue.max_bytes,
                queue.inflight,
                if full {
                    ": the queue is full, mqtt.queue_policy decides what is dropped"
                } else if waits {
                    ": messages wait for acknowledgements of the client"
                } else {
                    ""
                }
            ),
        );
    }

    fn explain_drops(&self, out: &mut Explained, to: &str, topic: &str) {
        let drops = self.drops().list(5, |drop| {
            *drop.client_id == *to
                && drop
                    .topic
                    .as_ref()
                    .is_none_or(|dropped| dropped.as_str() == topic)
        });
        for drop in drops {
            out.step(
                "drops",
                None,
                format!(
                    "{} {} dropped for {to} up to {}: {}",
                    drop.count,
                    if drop.topic.is_some() {
                        "of this topic were"
                    } else {
                        "messages were"
                    },
                    drop.at.to_rfc3339(),
                    drop.reason.as_str()
                ),
            );
        }
    }

    /// The last thing known of a client that is not there, as the end of a sentence.
    fn last_words(&self, client_id: &str) -> String {
        self.journal()
            .of(client_id, 1)
            .first()
            .map_or_else(String::new, |last| {
                format!(
                    " (last: {} at {}, {})",
                    last.event.as_str(),
                    last.at.to_rfc3339(),
                    last.text
                )
            })
    }

    /// Client identifiers of the members of a shared group on this node.
    #[must_use]
    pub fn group_members(&self, group: &str, filter: &str) -> Vec<Arc<str>> {
        let wanted = |handle: &Arc<SessionHandle>| {
            handle.with_subs(|subs| {
                subs.iter().any(|(have, _)| {
                    have.shared()
                        .is_some_and(|shared| shared.group == group && shared.filter == filter)
                })
            })
        };
        self.clients()
            .iter()
            .filter(|handle| wanted(handle))
            .map(|handle| handle.client_id().clone())
            .collect()
    }
}

fn first_few(names: &[String]) -> String {
    let mut text = names.iter().take(5).cloned().collect::<Vec<_>>().join(", ");
    if names.len() > 5 {
        text.push_str(", ...");
    }
    text
}

/// The subscription that shares most levels with a topic, for a slip of the pen.
fn nearest(handle: &SessionHandle, topic: &str) -> String {
    let common = |filter: &str| {
        filter
            .split('/')
            .zip(topic.split('/'))
            .take_while(|(a, b)| a.eq_ignore_ascii_case(b) || *a == "+")
            .count()
    };
    let subs = handle.subscriptions();
    match subs
        .iter()
        .max_by_key(|(filter, _)| common(filter.routing_filter()))
    {
        None => ": it has none at all".to_owned(),
        Some((filter, _)) => format!("; the nearest of {} is {filter}", subs.len()),
    }
}
