//! What a connected client sends: REGISTER, PUBLISH, SUBSCRIBE, UNSUBSCRIBE, the will updates and its acknowledgements.

use std::borrow::Cow;
use std::sync::atomic::Ordering;
use std::time::Instant;

use nightjar_broker::access::{Action, Verdict};
use nightjar_broker::acl::{Check, DenyAction, Judged};
use nightjar_broker::filter_index::is_wild;
use nightjar_broker::observe::Event;
use nightjar_broker::router::Route;
use nightjar_broker::session::Admission;
use nightjar_broker::{
    Allowed, Counter, Message as BrokerMessage, MessageHead, PublishBatch, RetainHandling,
    SubOptions, Subscription,
};
use nightjar_mqtt::topic::{levels, split_shared};
use nightjar_mqtt::{ReasonCode, TopicFilter, TopicName};
use nightjar_mqttsn::{
    FilterOrId, Message, PubAck, Publish, PublishTopic, QoS, RegAck, Register, ReturnCode, SubAck,
    Subscribe, Unsubscribe,
};

use super::counters::Counted;
use super::front;
use super::gateway::Cx;
use super::link::Link;
use super::live::{Answer, Judging, Live, Over, Waiting};
use super::topics::Full;

impl Live {
    /// One message of the client. CONNECT and PINGREQ with a client id are handled before.
    pub fn receive(
        &mut self,
        link: &mut Link,
        cx: &mut Cx<'_>,
        message: Message<'_>,
        datagram: &[u8],
    ) -> Result<(), Over> {
        let after_will = match message {
            // What only answers may come before CONNACK is there: what waited for the client follows it.
            Message::PubAck(_)
            | Message::PubRec { .. }
            | Message::PubComp { .. }
            | Message::RegAck(_)
            | Message::PingResp => self.after_will,
            _ => std::mem::replace(&mut self.after_will, false),
        };
        match message {
            Message::PubAck(ack) => self.on_puback(link, cx, ack),
            Message::PubRec { msg_id } => self.on_pubrec(link, cx, msg_id),
            Message::PubComp { msg_id } => self.on_pubcomp(link, cx, msg_id),
            Message::RegAck(ack) => self.on_regack(link, cx, ack),
            Message::PingResp => {}
            Message::PingReq { .. } => match &mut self.awake {
                // Exactly one PINGRESP, at the end of the flush.
                Some(awake) => awake.flush = true,
                None => link.answer(cx, Message::PingResp),
            },
            Message::Disconnect { duration } => {
                return Err(match duration {
                    None | Some(0) => Over::Left,
                    Some(seconds) => Over::Sleeps(seconds),
                });
            }
            // CONNACK was lost.
            Message::WillTopic(_) | Message::WillMsg { .. } if after_will => {
                self.after_will = true;
                link.answer(
                    cx,
                    Message::ConnAck {
                        return_code: ReturnCode::ACCEPTED,
                    },
                );
            }
            _ if self.waiting.is_some() => self.hold(cx, datagram),
            Message::Publish(publish) => {
                return self.on_publish(link, cx, &publish, datagram.len());
            }
            _ if !self.may_bring(0, datagram.len())
                && let Some(answer) = congested(&message) =>
            {
                cx.count(Counted::OverRate);
                link.answer(cx, answer);
            }
            Message::Register(register) => self.on_register(link, cx, register),
            Message::PubRel { msg_id } => {
                if let Some(taken) = &mut self.taken {
                    taken.release(msg_id, cx.now);
                }
                self.session.pubrel(msg_id);
                let mut batch = PublishBatch::default();
                self.session.finish_batch(&mut batch, cx.now);
            }
            Message::Subscribe(subscribe) => self.on_subscribe(link, cx, &subscribe, datagram),
            Message::Unsubscribe(unsubscribe) => self.on_unsubscribe(link, cx, unsubscribe),
            Message::WillTopicUpd(will) => self.on_will_topic_upd(link, cx, will),
            Message::WillMsgUpd { will_msg } => self.on_will_msg_upd(link, cx, will_msg),
            _ => cx.count(Counted::OutOfState),
        }
        Ok(())
    }

    fn on_register(&mut self, link: &Link, cx: &mut Cx<'_>, register: Register<'_>) {
        let refused = |code| {
            Message::RegAck(RegAck {
                topic_id: 0,
                msg_id: register.msg_id,
                return_code: code,
            })
        };
        // A name with wildcards is not a topic name.
        let name = TopicName::new(register.topic_name);
        let max_levels = self.settings.max_topic_levels;
        let Some(name) = name.ok().filter(|name| levels(name) <= max_levels) else {
            link.answer(cx, refused(ReturnCode::NOT_SUPPORTED));
            return;
        };
        let msg_id = register.msg_id;
        let (topic_id, ticket) = match self.client_id_of(cx, name) {
            Ok(given) => given,
            Err(Full) => {
                cx.count(Counted::RegistryFull);
                link.answer(cx, refused(ReturnCode::CONGESTION));
                return;
            }
        };
        self.owe(ticket, Answer::RegAck { topic_id, msg_id });
    }

    /// The id of a name that the client asked for: the same whenever it asks.
    fn client_id_of(
        &mut self,
        cx: &Cx<'_>,
        name: TopicName,
    ) -> Result<(u16, nightjar_broker::Ticket), Full> {
        if let Some((id, _)) = self.topics.find(&name) {
            self.topics.known(id);
            self.topics.touch(id);
            return Ok((id, nightjar_broker::Ticket::DONE));
        }
        let id = self
            .topics
            .insert(name.clone(), true, cx.settings().max_topics)?;
        let ticket = self.keep(|out| front::topic(out, id, &name));
        Ok((id, ticket))
    }

    /// The topic of a PUBLISH, as the client knows it.
    fn topic_of(&mut self, cx: &Cx<'_>, topic: PublishTopic) -> Option<TopicName> {
        match topic {
            PublishTopic::Normal(id) => {
                let name = self.topics.name(id)?.clone();
                self.topics.touch(id);
                Some(name)
            }
            PublishTopic::Predefined(id) => {
                let predefined = cx.settings().predefined.load();
                let name = predefined.topic(self.session.handle().client_id(), id)?;
                TopicName::new(name.as_ref()).ok()
            }
            PublishTopic::Short(octets) => {
                short(&octets).and_then(|name| TopicName::new(name).ok())
            }
        }
    }

    /// Takes what came from the buckets of `[limits]`; false if one of them is empty, and nothing is taken then.
    fn may_bring(&self, messages: u64, octets: usize) -> bool {
        let allowance = self.allowance.as_ref();
        allowance.is_none_or(|it| it.admit(messages, octets as u64, Instant::now()))
    }

    fn on_publish(
        &mut self,
        link: &Link,
        cx: &mut Cx<'_>,
        publish: &Publish<'_>,
        octets: usize,
    ) -> Result<(), Over> {
        let silent = publish.qos == QoS::MinusOne;
        let qos = publish.qos.to_mqtt().unwrap_or_default();
        let msg_id = publish.msg_id;
        let Some(topic) = self.topic_of(cx, publish.topic) else {
            cx.count(Counted::UnknownTopics);
            self.refuse(link, cx, publish, ReturnCode::INVALID_TOPIC_ID);
            return Ok(());
        };
        if publish.qos == QoS::ExactlyOnce {
            let hash = cx.gateway.hash(publish.data) ^ u64::from(publish.topic.raw());
            let taken = self.taken.get_or_insert_default();
            if taken.is_late_copy(publish, hash, cx.now) {
                link.answer(cx, Message::PubRec { msg_id });
                return Ok(());
            }
            taken.put(msg_id, hash);
        }
        if self.session.is_repeat(qos, msg_id) {
            self.note_ack(msg_id, publish.topic.raw());
            self.session.repeat(msg_id);
            self.session
                .finish_batch(&mut PublishBatch::default(), cx.now);
            return Ok(());
        }
        // Reading cannot pause here, as it does for MQTT: the client is told to wait.
        if !self.may_bring(1, octets) {
            cx.count(Counted::OverRate);
            self.refuse(link, cx, publish, ReturnCode::CONGESTION);
            return Ok(());
        }
        if self.session.is_paused() {
            self.refuse(link, cx, publish, ReturnCode::CONGESTION);
            return Ok(());
        }
        if qos > self.settings.max_qos || publish.retain && !self.settings.retain_available {
            self.refuse(link, cx, publish, ReturnCode::NOT_SUPPORTED);
            return Ok(());
        }
        let full = match self.mounted(&topic) {
            None => topic,
            Some(mounted) => TopicName::from_validated(mounted),
        };
        if levels(&full) > self.settings.max_topic_levels {
            self.refuse(link, cx, publish, ReturnCode::NOT_SUPPORTED);
            return Ok(());
        }
        let broker = self.session.broker().clone();
        let slot = match self.cache.find(&broker, &full) {
            Some(slot) => slot,
            None => self.cache.insert(&broker, full.clone()),
        };
        let generation = broker.acl().generation();
        let allowed = self.cache.get(slot).allowed.is_some_and(|allowed| {
            allowed.generation == generation
                && allowed.qos == qos
                && allowed.retain == publish.retain
                && allowed.until > cx.now
        });
        let head = MessageHead {
            topic: full.clone(),
            qos,
            retain: publish.retain,
            publisher: Some(self.session.handle().client_id().clone()),
            received_at: cx.now,
            expires_at: self
                .settings
                .message_expiry
                .map(|seconds| cx.now.plus_secs(u64::from(seconds))),
            properties: None,
        };
        let message = BrokerMessage::new(head, publish.data);
        if !allowed {
            if full.starts_with("$SYS/") {
                broker.metrics().count(Counter::PublishSysRefused);
                self.refuse(link, cx, publish, ReturnCode::NOT_SUPPORTED);
                return Ok(());
            }
            let action = Action::Publish {
                topic: &full,
                qos,
                retain: publish.retain,
            };
            match broker
                .acl()
                .check(&self.info, &mut self.acl, action, Instant::now())
            {
                Check::Now(Verdict::Deny) => {
                    self.refuse(link, cx, publish, ReturnCode::NOT_SUPPORTED);
                    return self.denied(cx, &full, silent);
                }
                Check::Now(_) => {
                    if broker.acl().settings().cache_size > 0 {
                        self.cache.get(slot).allowed = Some(Allowed {
                            generation,
                            qos,
                            retain: publish.retain,
                            until: cx.now.plus_secs(1),
                        });
                    }
                }
                Check::Later(judged) => {
                    let what = Judging::Publish {
                        message,
                        msg_id,
                        raw: publish.topic.raw(),
                        silent,
                    };
                    self.waiting = Some(Box::new(Waiting { judged, what }));
                    return Ok(());
                }
            }
        }
        self.admit(
            link,
            cx,
            &message,
            slot,
            msg_id,
            publish.topic.raw(),
            silent,
        );
        Ok(())
    }

    /// A PUBLISH was refused by a rule: that is counted, and ends the connection where `acl.deny_action` says so. Of
    /// QoS -1 nothing is said.
    fn denied(&self, cx: &Cx<'_>, topic: &str, silent: bool) -> Result<(), Over> {
        let broker = self.session.broker();
        broker.metrics().count(Counter::PublishDenied);
        let client_id = self.session.handle().client_id();
        let text = format_args!("not authorized to publish to {topic}");
        broker
            .journal()
            .record(client_id, Event::Denied, text, cx.now);
        if !silent && broker.acl().settings().deny_action == DenyAction::Disconnect {
            return Err(Over::Closed(ReasonCode::NotAuthorized));
        }
        Ok(())
    }

    /// Publishes a message that may be published.
    #[allow(
        clippy::too_many_arguments,
        reason = "the hot path passes what it has, without building a struct"
    )]
    fn admit(
        &mut self,
        link: &Link,
        cx: &mut Cx<'_>,
        message: &BrokerMessage,
        slot: usize,
        msg_id: u16,
        raw: u16,
        silent: bool,
    ) {
        let broker = self.session.broker();
        broker.metrics().count(Counter::MessagesReceived);
        self.session
            .handle()
            .counts
            .received
            .fetch_add(1, Ordering::Relaxed);
        if silent {
            cx.count(Counted::MinusOne);
        }
        let route: &Route = &self.cache.get(slot).route;
        let admitted = Admission::Admitted;
        if message.qos() == nightjar_mqtt::QoS::AtMostOnce {
            // Nothing is acknowledged: it goes with the read batch.
            let _ = self
                .session
                .publish(message, route, 0, admitted, &mut cx.turn.batch);
            self.cache.trim();
            return;
        }
        let mut batch = PublishBatch::default();
        let taken = self
            .session
            .publish(message, route, msg_id, admitted, &mut batch);
        self.cache.trim();
        self.session.finish_batch(&mut batch, cx.now);
        match taken {
            Ok(()) => self.note_ack(msg_id, raw),
            // Too many exchanges of QoS 2 are open.
            Err(_) => link.answer(cx, puback(raw, msg_id, ReturnCode::CONGESTION)),
        }
    }

    /// A PUBLISH that is not taken: PUBACK whatever its QoS, but for -1.
    fn refuse(&mut self, link: &Link, cx: &mut Cx<'_>, publish: &Publish<'_>, code: ReturnCode) {
        if publish.qos == QoS::MinusOne {
            cx.count(Counted::MinusOneRefused);
        } else {
            link.answer(cx, puback(publish.topic.raw(), publish.msg_id, code));
        }
    }

    fn on_subscribe(
        &mut self,
        link: &Link,
        cx: &mut Cx<'_>,
        subscribe: &Subscribe<'_>,
        datagram: &[u8],
    ) {
        let asked = self.asked(cx, subscribe);
        let (filter, topic_id, name) = match asked {
            Ok(asked) => asked,
            Err(code) => {
                link.answer(cx, suback_refused(subscribe.msg_id, code));
                return;
            }
        };
        let Some(qos) = subscribe.qos.to_mqtt() else {
            let refused = suback_refused(subscribe.msg_id, ReturnCode::NOT_SUPPORTED);
            link.answer(cx, refused);
            return;
        };
        let qos = qos.min(self.settings.max_qos);
        // A repeat brings the retained messages no second time.
        let this = (subscribe.msg_id, cx.gateway.hash(datagram));
        let again = subscribe.dup || self.last_subscribe == this;
        self.last_subscribe = this;
        self.muted.clear();
        let what = Judging::Subscribe {
            msg_id: subscribe.msg_id,
            topic_id,
            name,
            qos,
            again,
            filter: filter.clone(),
        };
        let action = Action::Subscribe {
            filter: filter.routing_filter(),
            qos,
        };
        let broker = self.session.broker().clone();
        match broker
            .acl()
            .check(&self.info, &mut self.acl, action, Instant::now())
        {
            Check::Now(verdict) => self.subscribe(link, cx, what, verdict),
            Check::Later(judged) => {
                self.waiting = Some(Box::new(Waiting { judged, what }));
            }
        }
    }

    /// The filter of a SUBSCRIBE with the mountpoint, the topic id of its SUBACK as far as it is known, and the name
    /// that is to get one.
    fn asked(
        &mut self,
        cx: &Cx<'_>,
        subscribe: &Subscribe<'_>,
    ) -> Result<(TopicFilter, u16, Option<TopicName>), ReturnCode> {
        let (text, topic_id, named) = self.resolve(cx, &subscribe.topic)?;
        let shared = split_shared(&text).ok().flatten();
        let inner = shared.as_ref().map_or(&*text, |shared| shared.filter);
        let settings = &self.settings;
        let unsupported = shared.is_some() && !settings.shared_subscription
            || is_wild(inner) && !settings.wildcard_subscription
            || levels(inner) > settings.max_topic_levels;
        if unsupported {
            return Err(ReturnCode::NOT_SUPPORTED);
        }
        let name = if named && shared.is_none() && !is_wild(&text) {
            Some(TopicName::new(&*text).map_err(|_| ReturnCode::NOT_SUPPORTED)?)
        } else {
            None
        };
        let filter = self.filter(&text).ok_or(ReturnCode::NOT_SUPPORTED)?;
        Ok((filter, topic_id, name))
    }

    fn filter(&self, text: &str) -> Option<TopicFilter> {
        let mounted: Cow<'_, str> = match (&self.mountpoint, split_shared(text)) {
            (None, _) => Cow::Borrowed(text),
            (Some(mountpoint), Ok(Some(shared))) => Cow::Owned(format!(
                "$share/{}/{mountpoint}{}",
                shared.group, shared.filter
            )),
            (Some(mountpoint), _) => Cow::Owned(format!("{mountpoint}{text}")),
        };
        TopicFilter::new(mounted).ok()
    }

    /// The text of a filter, its topic id if the type says one, and whether it was given as a name.
    fn resolve<'a>(
        &self,
        cx: &Cx<'_>,
        topic: &FilterOrId<'a>,
    ) -> Result<(Cow<'a, str>, u16, bool), ReturnCode> {
        match *topic {
            FilterOrId::Name(name) => Ok((Cow::Borrowed(name), 0, true)),
            FilterOrId::Predefined(id) => {
                let predefined = cx.settings().predefined.load();
                let name = predefined.topic(self.session.handle().client_id(), id);
                name.map(|name| (Cow::Owned(name.into_owned()), id, false))
                    .ok_or(ReturnCode::INVALID_TOPIC_ID)
            }
            FilterOrId::Short(octets) => short(&octets)
                .map(|name| (Cow::Owned(name.to_owned()), 0, false))
                .ok_or(ReturnCode::NOT_SUPPORTED),
        }
    }

    /// The verdict on a SUBSCRIBE is there.
    fn subscribe(&mut self, link: &Link, cx: &mut Cx<'_>, asked: Judging, verdict: Verdict) {
        let Judging::Subscribe {
            msg_id,
            mut topic_id,
            name,
            filter,
            qos,
            again,
        } = asked
        else {
            return;
        };
        let broker = self.session.broker();
        if !verdict.allowed() {
            broker.metrics().count(Counter::SubscribeDenied);
            link.answer(cx, suback_refused(msg_id, ReturnCode::NOT_SUPPORTED));
            return;
        }
        let handle = self.session.handle();
        let (new, have) = handle.with_subs(|subs| (subs.get(&filter).is_none(), subs.len()));
        if new
            && self
                .settings
                .max_subscriptions
                .is_some_and(|max| have >= max)
        {
            link.answer(cx, suback_refused(msg_id, ReturnCode::CONGESTION));
            return;
        }
        if let Some(name) = name {
            // The id is in the log before the subscription: whatever comes by it has its id.
            match self.client_id_of(cx, name) {
                Ok((id, _)) => topic_id = id,
                Err(Full) => {
                    cx.count(Counted::RegistryFull);
                    link.answer(cx, suback_refused(msg_id, ReturnCode::CONGESTION));
                    return;
                }
            }
        } else {
            // The offset of MsgIds must be kept before the first message of QoS 1 can come.
            self.keep_head();
        }
        let handling = if again {
            RetainHandling::IfNew
        } else {
            RetainHandling::Always
        };
        let options = SubOptions::new(qos)
            .with_retain_handling(handling)
            .with_checked(verdict == Verdict::AllowChecked);
        let open = &mut self.pending.get_or_insert_default().subscribing;
        open.retain(|(open, _)| *open != msg_id);
        open.push_back((msg_id, topic_id));
        self.session.subscribe(
            msg_id,
            vec![(filter, Subscription { options, id: 0 })],
            vec![ReasonCode::granted(qos)],
        );
    }

    fn on_unsubscribe(&mut self, link: &Link, cx: &mut Cx<'_>, unsubscribe: Unsubscribe<'_>) {
        let msg_id = unsubscribe.msg_id;
        let filter = self
            .resolve(cx, &unsubscribe.topic)
            .ok()
            .and_then(|(text, ..)| self.filter(&text));
        match filter {
            Some(filter) => self.session.unsubscribe(msg_id, vec![filter]),
            // UNSUBACK has no return code: nothing was subscribed by that.
            None => link.answer(cx, Message::UnsubAck { msg_id }),
        }
    }

    /// The verdict on a message that waited for it.
    pub fn judged(
        &mut self,
        link: &mut Link,
        cx: &mut Cx<'_>,
        what: Judging,
        judged: Judged,
    ) -> Result<(), Over> {
        let broker = self.session.broker().clone();
        let now = Instant::now();
        match what {
            Judging::Publish {
                message,
                msg_id,
                raw,
                silent,
            } => {
                let topic = message.topic().clone();
                let action = Action::Publish {
                    topic: &topic,
                    qos: message.qos(),
                    retain: message.retain(),
                };
                broker.acl().remember(&mut self.acl, action, judged, now);
                if judged.verdict.allowed() {
                    let slot = match self.cache.find(&broker, &topic) {
                        Some(slot) => slot,
                        None => self.cache.insert(&broker, topic.clone()),
                    };
                    self.admit(link, cx, &message, slot, msg_id, raw, silent);
                } else {
                    if silent {
                        cx.count(Counted::MinusOneRefused);
                    } else {
                        link.answer(cx, puback(raw, msg_id, refusal(judged)));
                    }
                    // Rules that could not be asked denied nothing.
                    if judged.is_failure() {
                        broker.metrics().count(Counter::PublishDenied);
                    } else {
                        self.denied(cx, &topic, silent)?;
                    }
                }
            }
            Judging::Subscribe { msg_id, .. } if judged.is_failure() => {
                link.answer(cx, suback_refused(msg_id, refusal(judged)));
            }
            Judging::Subscribe { .. } => self.subscribe(link, cx, what, judged.verdict),
            Judging::WillTopic(_) if judged.is_failure() => {
                let return_code = refusal(judged);
                link.answer(cx, Message::WillTopicResp { return_code });
            }
            Judging::WillTopic(will) => self.set_will_topic(link, cx, will, judged.verdict),
        }
        Ok(())
    }
}

/// A source of rules that cannot be asked now may be asked later.
pub(super) const fn refusal(judged: Judged) -> ReturnCode {
    if judged.is_failure() {
        ReturnCode::CONGESTION
    } else {
        ReturnCode::NOT_SUPPORTED
    }
}

/// The answer to a request that comes faster than it may, if its answer can say so.
fn congested(message: &Message<'_>) -> Option<Message<'static>> {
    let return_code = ReturnCode::CONGESTION;
    match message {
        Message::Register(register) => Some(Message::RegAck(RegAck {
            topic_id: 0,
            msg_id: register.msg_id,
            return_code,
        })),
        Message::Subscribe(subscribe) => Some(suback_refused(subscribe.msg_id, return_code)),
        Message::WillTopicUpd(_) => Some(Message::WillTopicResp { return_code }),
        Message::WillMsgUpd { .. } => Some(Message::WillMsgResp { return_code }),
        _ => None,
    }
}

/// A short topic name that is text.
pub(super) fn short(octets: &[u8; 2]) -> Option<&str> {
    std::str::from_utf8(octets).ok()
}

fn puback(topic_id: u16, msg_id: u16, return_code: ReturnCode) -> Message<'static> {
    Message::PubAck(PubAck {
        topic_id,
        msg_id,
        return_code,
    })
}

fn suback_refused(msg_id: u16, return_code: ReturnCode) -> Message<'static> {
    Message::SubAck(SubAck {
        qos: QoS::AtMostOnce,
        topic_id: 0,
        msg_id,
        return_code,
    })
}
