//! PUBLISH with QoS -1 (MQTT-SN section 6.8): messages without a connection.

use std::collections::VecDeque;
use std::net::IpAddr;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Instant;

use foldhash::fast::RandomState;
use hashbrown::HashMap;
use nightjar_broker::access::{Action, BoxFuture, ClientInfo, Protocol};
use nightjar_broker::acl::{AccessCache, Check, Judged};
use nightjar_broker::{Counter, Message as BrokerMessage, MessageHead, Timestamp};
use nightjar_mqtt::TopicName;
use nightjar_mqtt::topic::levels;
use nightjar_mqttsn::{Publish, PublishTopic};

use super::connect::mountpoint;
use super::counters::Counted;
use super::gateway::{Gateway, Turn};
use super::path::Path;
use super::uplink::short;

/// Messages that wait for a verdict.
const MAX_WAITING: usize = 1024;
/// Source addresses of which verdicts are remembered.
const MAX_SOURCES: usize = 1024;

/// What is remembered of senders without a session.
#[derive(Default)]
pub(super) struct Strays {
    sources: HashMap<IpAddr, (Arc<ClientInfo>, AccessCache), RandomState>,
    waiting: VecDeque<(BoxFuture<'static, Judged>, BrokerMessage, IpAddr)>,
}

impl Gateway {
    /// A message of QoS -1 whose rate is admitted. `id` is the client asleep at this address, if there is one.
    pub(super) fn stray(
        &self,
        now: Timestamp,
        from: &Path,
        id: Option<Arc<str>>,
        publish: &Publish<'_>,
        turn: &mut Turn,
    ) {
        if !self.admits_stray(from, publish) {
            self.counters().count(Counted::OverRate);
            self.counters().count(Counted::MinusOneRefused);
            return;
        }
        let Some(message) = self.stray_message(now, from, id.as_deref(), publish) else {
            self.counters().count(Counted::MinusOneRefused);
            return;
        };
        let topic = message.topic().clone();
        let tracer = self.broker().tracer();
        if tracer.is_active() {
            let client_id = id.as_deref().unwrap_or_default();
            let text = format_args!(
                "PUBLISH received: {topic}, QoS -1, {} bytes",
                publish.data.len()
            );
            tracer.line(client_id, Some(from.peer), Some(&topic), text, now);
        }
        let action = Action::Publish {
            topic: &topic,
            qos: message.qos(),
            retain: message.retain(),
        };
        let (strays, _) = self.strays();
        let mut strays = strays.lock();
        if strays.sources.len() >= MAX_SOURCES && !strays.sources.contains_key(&from.peer.ip()) {
            strays.sources.clear();
        }
        let (info, cache) = strays
            .sources
            .entry(from.peer.ip())
            .or_insert_with(|| (self.stray_info(from, None), AccessCache::new()));
        let acl = self.broker().acl();
        let check = match id {
            None => acl.check(info, cache, action, Instant::now()),
            Some(id) => {
                let info = self.stray_info(from, Some(id));
                acl.check(&info, &mut AccessCache::new(), action, Instant::now())
            }
        };
        match check {
            Check::Now(verdict) => {
                drop(strays);
                self.publish_stray(&message, verdict.allowed(), turn);
            }
            Check::Later(judged) if strays.waiting.len() < MAX_WAITING => {
                strays.waiting.push_back((judged, message, from.peer.ip()));
                drop(strays);
                self.poll_strays(turn);
            }
            Check::Later(_) => self.counters().count(Counted::Busy),
        }
    }

    /// May its address publish one more message, by `limits.address`?
    fn admits_stray(&self, from: &Path, publish: &Publish<'_>) -> bool {
        let address = from.peer.ip();
        if self.settings().trusts(address) {
            return true;
        }
        let now = Instant::now();
        let allowance = self.broker().limits().address_allowance(address, now);
        allowance.is_none_or(|it| it.admit(1, publish.data.len() as u64, now))
    }

    fn stray_info(&self, from: &Path, id: Option<Arc<str>>) -> Arc<ClientInfo> {
        Arc::new(ClientInfo::new(
            id.unwrap_or_else(|| "".into()),
            from.peer,
            self.settings().name.clone(),
            Protocol::MqttSn,
        ))
    }

    /// The message, if its topic may stand in a PUBLISH without a connection: predefined or short.
    fn stray_message(
        &self,
        now: Timestamp,
        from: &Path,
        id: Option<&str>,
        publish: &Publish<'_>,
    ) -> Option<BrokerMessage> {
        let settings = self.settings().mqtt.load();
        let predefined = self.settings().predefined.load();
        let name = match &publish.topic {
            PublishTopic::Normal(_) => return None,
            PublishTopic::Predefined(number) => predefined
                .topic(id.unwrap_or_default(), *number)?
                .into_owned(),
            PublishTopic::Short(octets) => short(octets)?.to_owned(),
        };
        let name = match &self.settings().mountpoint {
            None => name,
            Some(_) => {
                let info = self.stray_info(from, id.map(Into::into));
                let prefix = mountpoint(self.settings(), &info).unwrap_or_default();
                format!("{prefix}{name}")
            }
        };
        let topic = TopicName::new(name).ok()?;
        if topic.starts_with("$SYS/")
            || levels(&topic) > settings.max_topic_levels
            || publish.retain && !settings.retain_available
        {
            return None;
        }
        let head = MessageHead {
            topic,
            qos: nightjar_mqtt::QoS::AtMostOnce,
            retain: publish.retain,
            publisher: id.map(Into::into),
            received_at: now,
            expires_at: settings
                .message_expiry
                .map(|seconds| now.plus_secs(u64::from(seconds))),
            properties: None,
        };
        Some(BrokerMessage::new(head, publish.data))
    }

    fn publish_stray(&self, message: &BrokerMessage, allowed: bool, turn: &mut Turn) {
        let metrics = self.broker().metrics();
        if !allowed {
            metrics.count(Counter::PublishDenied);
            self.counters().count(Counted::MinusOneRefused);
            return;
        }
        self.counters().count(Counted::MinusOne);
        metrics.count(Counter::MessagesReceived);
        let route = self.broker().router().route(message.topic());
        self.broker().publish(message, &route, &mut turn.batch);
    }

    /// Goes on with messages whose verdict is there; they keep their order.
    pub(super) fn poll_strays(&self, turn: &mut Turn) {
        let (strays, waker) = self.strays();
        let mut done = Vec::new();
        {
            let mut strays = strays.lock();
            let mut task = Context::from_waker(waker);
            while let Some((judged, ..)) = strays.waiting.front_mut() {
                let Poll::Ready(judged) = judged.as_mut().poll(&mut task) else {
                    break;
                };
                let Some((_, message, source)) = strays.waiting.pop_front() else {
                    break;
                };
                let action = Action::Publish {
                    topic: message.topic(),
                    qos: message.qos(),
                    retain: message.retain(),
                };
                if let Some((_, cache)) = strays.sources.get_mut(&source) {
                    let acl = self.broker().acl();
                    acl.remember(cache, action, judged, Instant::now());
                }
                done.push((message, judged.verdict.allowed()));
            }
        }
        for (message, allowed) in done {
            self.publish_stray(&message, allowed, turn);
        }
    }
}
