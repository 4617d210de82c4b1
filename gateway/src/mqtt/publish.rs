//! PUBLISH of a client: topic, permission, message, session.

use std::time::Instant;

use nightjar_broker::access::{Action, Verdict};
use nightjar_broker::acl::{Check, DenyAction, Judged};
use nightjar_broker::observe::Event;
use nightjar_broker::session::Admission;
use nightjar_broker::settings::Leniency;
use nightjar_broker::{Allowed, Counter, Message, PublishBatch, Timestamp};
use nightjar_mqtt::packet::Publish;
use nightjar_mqtt::topic::levels;
use nightjar_mqtt::{QoS, ReasonCode, TopicName};

use super::connection::Connection;
use super::end::End;
use super::incoming::{Waiting, WaitingPacket};
use super::message;

/// A PUBLISH that waits for a verdict.
pub struct WaitingPublish {
    message: Message,
    id: u16,
}

impl Connection {
    #[inline]
    pub(super) fn on_publish(
        &mut self,
        publish: &Publish<'_>,
        batch: &mut PublishBatch,
        now: Timestamp,
    ) -> Result<(), End> {
        let id = publish.packet_id.unwrap_or(0);
        if publish.qos > self.terms.settings.max_qos {
            return Err(End::protocol(
                ReasonCode::QoSNotSupported,
                "QoS above mqtt.max_qos [MQTT-3.2.2-11]",
            ));
        }
        if publish.retain && !self.terms.settings.retain_available {
            return Err(End::protocol(
                ReasonCode::RetainNotSupported,
                "retain, and mqtt.retain_available = false [MQTT-3.2.2-14]",
            ));
        }
        if publish.dup && !self.tolerated && publish.qos == QoS::AtMostOnce {
            self.tolerate("DUP with QoS 0");
        }
        let slot = match self.topic_slot(publish)? {
            Ok(slot) => slot,
            Err(code) => return self.refuse(publish, code, batch, now),
        };
        if self.session.is_repeat(publish.qos, id) {
            self.session.repeat(id);
            return Ok(());
        }
        let generation = self.session.broker().acl().generation();
        let allowed = self.topics.get(slot).allowed.is_some_and(|allowed| {
            allowed.generation == generation
                && allowed.qos == publish.qos
                && allowed.retain == publish.retain
                && allowed.until > now
        });
        if !allowed {
            let topic = self.topics.get(slot).name.clone();
            if topic.starts_with("$SYS/") {
                self.session
                    .broker()
                    .metrics()
                    .count(Counter::PublishSysRefused);
                return self.refuse(publish, ReasonCode::NotAuthorized, batch, now);
            }
            let action = Action::Publish {
                topic: &topic,
                qos: publish.qos,
                retain: publish.retain,
            };
            let broker = self.session.broker();
            match broker.acl().check(
                &self.terms.info,
                &mut self.terms.acl,
                action,
                Instant::now(),
            ) {
                Check::Now(Verdict::Deny) => {
                    self.session
                        .broker()
                        .metrics()
                        .count(Counter::PublishDenied);
                    self.note_denied("publish to", &topic, now);
                    return self.denied(publish, batch, now);
                }
                Check::Now(_) => {
                    if broker.acl().settings().cache_size > 0 {
                        let (qos, retain, until) = (publish.qos, publish.retain, now.plus_secs(1));
                        self.topics.get(slot).allowed = Some(Allowed {
                            generation,
                            qos,
                            retain,
                            until,
                        });
                    }
                }
                Check::Later(judged) => {
                    let message = self.message(publish, topic, now);
                    self.waiting = Some(Box::new(Waiting {
                        judged,
                        packet: WaitingPacket::Publish(WaitingPublish { message, id }),
                    }));
                    return Ok(());
                }
            }
        }
        let name = self.topics.get(slot).name.clone();
        let message = self.message(publish, name, now);
        let route = &self.topics.get(slot).route;
        self.session
            .publish(&message, route, id, Admission::Admitted, batch)?;
        Ok(())
    }

    fn message(&self, publish: &Publish<'_>, topic: TopicName, now: Timestamp) -> Message {
        message::of_publish(
            publish,
            topic,
            &self.terms.client_id,
            self.terms.settings.message_expiry,
            now,
        )
    }

    /// The publisher's cache entry for the topic of this PUBLISH. The inner error refuses the message only.
    #[inline]
    fn topic_slot(&mut self, publish: &Publish<'_>) -> Result<Result<usize, ReasonCode>, End> {
        let aliased;
        let topic = match publish.properties.topic_alias {
            None => publish.topic,
            Some(alias) => {
                let max = self.terms.settings.max_topic_alias;
                let aliases = self.aliases.get_or_insert_default();
                let result = if publish.topic.is_empty() {
                    aliases.get(alias, max).map(Some)
                } else {
                    aliases.set(alias, max, publish.topic).map(|()| None)
                };
                aliased = result.map_err(|code| {
                    End::protocol(
                        code,
                        format!("topic alias {alias}, announced maximum {max} [MQTT-3.3.2-9]"),
                    )
                })?;
                aliased.as_ref().map_or(publish.topic, TopicName::as_str)
            }
        };
        let mounted;
        let topic = match &self.terms.mountpoint {
            None => topic,
            Some(mountpoint) => {
                mounted = format!("{mountpoint}{topic}");
                &mounted
            }
        };
        let broker = self.session.broker();
        if let Some(slot) = self.topics.find(broker, topic) {
            return Ok(Ok(slot));
        }
        if levels(topic) > self.terms.settings.max_topic_levels
            || topic.len() > nightjar_mqtt::topic::MAX_TOPIC_LEN
        {
            return Ok(Err(ReasonCode::TopicNameInvalid));
        }
        Ok(Ok(self
            .topics
            .insert(broker, TopicName::from_validated(topic))))
    }

    /// A message that is not published: 5.0 is told by the acknowledgement; 3.x sees a plain one.
    fn refuse(
        &mut self,
        publish: &Publish<'_>,
        code: ReasonCode,
        batch: &mut PublishBatch,
        now: Timestamp,
    ) -> Result<(), End> {
        let message = self.message(publish, TopicName::from_validated("refused"), now);
        self.refuse_message(&message, publish.packet_id.unwrap_or(0), code, batch)
    }

    fn refuse_message(
        &mut self,
        message: &Message,
        id: u16,
        code: ReasonCode,
        batch: &mut PublishBatch,
    ) -> Result<(), End> {
        let route = nightjar_broker::router::Route::default();
        self.session
            .publish(message, &route, id, Admission::Refused(code), batch)?;
        Ok(())
    }

    fn denied(
        &mut self,
        publish: &Publish<'_>,
        batch: &mut PublishBatch,
        now: Timestamp,
    ) -> Result<(), End> {
        self.check_deny_action(publish.topic)?;
        self.refuse(publish, ReasonCode::NotAuthorized, batch, now)
    }

    /// Notes what was not authorized, for the client's timeline.
    pub(super) fn note_denied(&self, what: &str, topic: &str, now: Timestamp) {
        let text = format_args!("not authorized to {what} {topic}");
        self.session
            .broker()
            .journal()
            .record(&self.terms.client_id, Event::Denied, text, now);
    }

    fn check_deny_action(&self, topic: &str) -> Result<(), End> {
        if self.session.broker().acl().settings().deny_action == DenyAction::Disconnect {
            return Err(End::protocol(
                ReasonCode::NotAuthorized,
                format!("not authorized to publish to {topic}"),
            ));
        }
        Ok(())
    }

    /// The verdict on a PUBLISH came.
    pub(super) fn judged_publish(
        &mut self,
        waiting: WaitingPublish,
        judged: Judged,
        now: Timestamp,
    ) -> Result<(), End> {
        let WaitingPublish { message, id } = waiting;
        let topic = message.topic().clone();
        let broker = self.session.broker().clone();
        let action = Action::Publish {
            topic: &topic,
            qos: message.qos(),
            retain: message.retain(),
        };
        broker
            .acl()
            .remember(&mut self.terms.acl, action, judged, Instant::now());
        let mut batch = PublishBatch::default();
        if judged.verdict.allowed() {
            let slot = match self.topics.find(&broker, &topic) {
                Some(slot) => slot,
                None => self.topics.insert(&broker, topic),
            };
            let route = &self.topics.get(slot).route;
            self.session
                .publish(&message, route, id, Admission::Admitted, &mut batch)?;
        } else {
            broker.metrics().count(Counter::PublishDenied);
            self.note_denied("publish to", &topic, now);
            self.check_deny_action(&topic)?;
            self.refuse_message(&message, id, ReasonCode::NotAuthorized, &mut batch)?;
        }
        self.session.finish_batch(&mut batch, now);
        Ok(())
    }

    /// Counts harmless illegal behaviour, and names it in the log once.
    fn tolerate(&mut self, what: &str) {
        if self.terms.settings.leniency == Leniency::Lenient {
            self.session.broker().metrics().count(Counter::Tolerated);
            if !std::mem::replace(&mut self.tolerated, true) {
                tracing::info!(
                    client_id = &*self.terms.client_id,
                    "{what}: served (mqtt.client_leniency)"
                );
            }
        }
    }
}
