//! What each packet of a connected client does.

use std::sync::atomic::Ordering;
use std::task::{Context, Poll};

use nightjar_broker::access::BoxFuture;
use nightjar_broker::acl::Judged;
use nightjar_broker::shard::CloseKind;
use nightjar_broker::{Counter, Direction, PacketTally, PublishBatch, Timestamp};
use nightjar_mqtt::packet::{Auth, AuthProperties, Disconnect, encode_pingresp};
use nightjar_mqtt::{Decoded, Packet, PacketType, ReasonCode, TopicFilter};

use super::connection::{Connection, Reauthentication};
use super::end::End;
use super::publish::WaitingPublish;
use super::subscribe::WaitingSubscribe;

/// A packet that waits for a verdict: nothing behind it is handled before.
pub struct Waiting {
    pub(super) judged: BoxFuture<'static, Judged>,
    pub(super) packet: WaitingPacket,
}

/// Which packet.
pub enum WaitingPacket {
    /// A PUBLISH.
    Publish(WaitingPublish),
    /// A SUBSCRIBE, at one of its filters.
    Subscribe(WaitingSubscribe),
}

impl Connection {
    /// Handles the whole packets in `bytes`; how many bytes they took.
    pub(super) fn process(&mut self, bytes: &[u8], now: Timestamp) -> Result<usize, End> {
        let decoder = self.decoder();
        let mut batch = PublishBatch::default();
        let mut at = 0;
        let (mut packets, mut messages) = (0, 0);
        let mut tally = PacketTally::default();
        let traced = self.session.broker().tracer().is_active();
        let mut result = Ok(());
        while at < bytes.len()
            && self.waiting.is_none()
            && !self.is_stepping()
            && !batch.is_stalled()
            && !self.session.is_paused()
            && self.throttled_until().is_none()
        {
            match decoder.decode(&bytes[at..]) {
                Ok(Decoded::Packet { packet, consumed }) => {
                    at += consumed;
                    packets += 1;
                    tally.count(packet.packet_type());
                    if traced {
                        self.trace_received(&packet, now);
                    }
                    if let Some(throttle) = &mut self.terms.throttle
                        && throttle.charge(
                            u64::from(matches!(packet, Packet::Publish(_))),
                            consumed as u64,
                        )
                    {
                        self.session.broker().metrics().count(Counter::RatePauses);
                    }
                    if let Packet::Publish(publish) = &packet {
                        messages += 1;
                        batch.expect_more(at < bytes.len());
                        result = self.on_publish(publish, &mut batch, now);
                    } else {
                        if !batch.is_empty() {
                            self.session.finish_batch(&mut batch, now);
                        }
                        result = self.on_packet(packet);
                    }
                    if result.is_err() {
                        break;
                    }
                }
                Ok(Decoded::Incomplete { .. }) => break,
                Err(error) => {
                    result = Err(error.into());
                    break;
                }
            }
        }
        self.session.finish_batch(&mut batch, now);
        self.topics.trim();
        let metrics = self.session.broker().metrics();
        metrics.add(Counter::PacketsReceived, packets);
        metrics.add(Counter::MessagesReceived, messages);
        metrics.add_packets(Direction::Received, &tally);
        let counts = &self.session.handle().counts;
        counts
            .packets_received
            .fetch_add(packets, Ordering::Relaxed);
        if messages > 0 {
            counts.received.fetch_add(messages, Ordering::Relaxed);
        }
        result.map(|()| at)
    }

    fn on_packet(&mut self, packet: Packet<'_>) -> Result<(), End> {
        match packet {
            Packet::Puback(ack) => {
                self.session.puback(ack.packet_id);
            }
            Packet::Pubrec(ack) => self.session.pubrec(ack.packet_id, ack.reason),
            Packet::Pubrel(ack) => self.session.pubrel(ack.packet_id),
            Packet::Pubcomp(ack) => {
                self.session.pubcomp(ack.packet_id);
            }
            Packet::Subscribe(subscribe) => return self.on_subscribe(&subscribe),
            Packet::Unsubscribe(unsubscribe) => {
                self.on_unsubscribe(unsubscribe.packet_id, &unsubscribe.filters)
            }
            Packet::Pingreq => {
                encode_pingresp(&mut self.output);
                let metrics = self.session.broker().metrics();
                metrics.count(Counter::PacketsSent);
                let mut tally = PacketTally::default();
                tally.count(PacketType::Pingresp);
                metrics.add_packets(Direction::Sent, &tally);
            }
            Packet::Disconnect(disconnect) => return Err(self.on_disconnect(&disconnect)),
            Packet::Auth(auth) => return self.on_auth(&auth),
            Packet::Publish(_)
            | Packet::Connect(_)
            | Packet::Connack(_)
            | Packet::Suback(_)
            | Packet::Unsuback(_)
            | Packet::Pingresp => {
                // The decoder refuses what a client may not send; PUBLISH has its own way.
                return Err(End::protocol(
                    ReasonCode::ProtocolError,
                    "a packet that only a server may send",
                ));
            }
        }
        Ok(())
    }

    fn on_disconnect(&self, disconnect: &Disconnect<'_>) -> End {
        let expiry = disconnect.properties.session_expiry_interval;
        if expiry.is_some_and(|expiry| expiry > 0) && self.terms.expiry == 0 {
            return End::protocol(
                ReasonCode::ProtocolError,
                "DISCONNECT with a session expiry although CONNECT had 0 [MQTT-3.14.2-2]",
            );
        }
        let kind = if disconnect.reason == ReasonCode::NORMAL_DISCONNECTION {
            CloseKind::Normal
        } else {
            CloseKind::Abnormal
        };
        End::by_client(
            kind,
            expiry.map(|expiry| expiry.min(self.terms.settings.max_session_expiry)),
        )
    }

    fn on_unsubscribe(&mut self, id: u16, filters: &[&str]) {
        let filters = filters
            .iter()
            .map(|filter| TopicFilter::from_validated(self.mounted(filter)))
            .collect();
        self.session.unsubscribe(id, filters);
    }

    /// AUTH in a live connection begins or continues a re-authentication [MQTT-4.12.1-1].
    fn on_auth(&mut self, auth: &Auth<'_>) -> Result<(), End> {
        let method = auth.properties.authentication_method;
        let Some(own) = self.terms.auth_method.as_deref() else {
            return Err(End::protocol(
                ReasonCode::ProtocolError,
                "AUTH although CONNECT had no Authentication Method [MQTT-4.12.0-1]",
            ));
        };
        if method != Some(own) {
            return Err(End::protocol(
                ReasonCode::ProtocolError,
                "AUTH with another method [MQTT-4.12.1-1]",
            ));
        }
        let pending = self.reauthentication.take().map(|pending| *pending);
        let mut exchange = match (auth.reason, pending) {
            (ReasonCode::ReAuthenticate, None) => {
                let refused = self.session.broker().auth().exchange(own, &self.terms.info);
                refused.map_err(|refused| End::protocol(refused.code, refused.to_string()))?
            }
            (ReasonCode::ContinueAuthentication, Some(Reauthentication::Exchange(it))) => it,
            _ => return Err(End::protocol(ReasonCode::ProtocolError, "AUTH out of turn")),
        };
        let data = auth
            .properties
            .authentication_data
            .unwrap_or_default()
            .to_vec();
        let step = Box::pin(async move {
            let step = exchange.step(&data).await;
            (step, exchange)
        });
        self.reauthentication = Some(Box::new(Reauthentication::Step(step)));
        Ok(())
    }

    /// Goes on with a packet whose verdict is there.
    pub(super) fn poll_waiting(&mut self, cx: &mut Context<'_>, now: Timestamp) -> Result<(), End> {
        self.poll_reauthentication(cx)?;
        while let Some(waiting) = &mut self.waiting {
            let Poll::Ready(judged) = waiting.judged.as_mut().poll(cx) else {
                return Ok(());
            };
            let Some(waiting) = self.waiting.take() else {
                return Ok(());
            };
            match waiting.packet {
                WaitingPacket::Publish(publish) => self.judged_publish(publish, judged, now)?,
                WaitingPacket::Subscribe(subscribe) => self.judged_subscribe(subscribe, judged)?,
            }
        }
        Ok(())
    }

    fn poll_reauthentication(&mut self, cx: &mut Context<'_>) -> Result<(), End> {
        use nightjar_broker::access::ExchangeStep;
        let Some(Reauthentication::Step(step)) = self.reauthentication.as_deref_mut() else {
            return Ok(());
        };
        let Poll::Ready((step, exchange)) = step.as_mut().poll(cx) else {
            return Ok(());
        };
        self.reauthentication = None;
        let (reason, data) = match step {
            ExchangeStep::Continue(data) => {
                let pending = Reauthentication::Exchange(exchange);
                self.reauthentication = Some(Box::new(pending));
                (ReasonCode::ContinueAuthentication, Some(data))
            }
            ExchangeStep::Success { data, grant } => {
                let info = nightjar_broker::access::ClientInfo::clone(&self.terms.info);
                self.terms.info = self.session.broker().auth().accept(info, grant).into();
                self.terms.acl.clear();
                (ReasonCode::Success, data)
            }
            ExchangeStep::Fail(code) => {
                return Err(End::protocol(code, "re-authentication failed"));
            }
        };
        let auth = Packet::Auth(Auth {
            reason,
            properties: AuthProperties {
                authentication_method: self.terms.auth_method.as_deref(),
                authentication_data: data.as_deref(),
                ..AuthProperties::default()
            },
        });
        auth.encode(self.terms.version, &mut self.output)
            .map_err(|error| {
                End::by_server(
                    ReasonCode::UnspecifiedError,
                    Counter::DisconnectsServer,
                    error.to_string(),
                )
            })
    }
}
