//! SUBSCRIBE of a client: each filter is judged, then all are granted at once.

use std::borrow::Cow;
use std::time::Instant;

use nightjar_broker::access::{Action, Verdict};
use nightjar_broker::acl::{Check, Judged};
use nightjar_broker::filter_index::is_wild;
use nightjar_broker::{Counter, RetainHandling, SubOptions, Subscription};
use nightjar_mqtt::packet::{self, Subscribe};
use nightjar_mqtt::topic::{levels, split_shared};
use nightjar_mqtt::{ReasonCode, TopicFilter};

use super::connection::Connection;
use super::end::End;
use super::incoming::{Waiting, WaitingPacket};

/// A SUBSCRIBE of which `next` is to be judged.
pub struct WaitingSubscribe {
    id: u16,
    asked: Vec<Asked>,
    codes: Vec<ReasonCode>,
    granted: Vec<(TopicFilter, Subscription)>,
}

#[derive(Debug, Clone)]
struct Asked {
    filter: TopicFilter,
    sub: Subscription,
    refused: Option<ReasonCode>,
}

impl Connection {
    /// A filter with the listener's mountpoint, behind `$share/name/` of a shared subscription.
    pub(super) fn mounted<'a>(&self, filter: &'a str) -> Cow<'a, str> {
        let Some(mountpoint) = &self.terms.mountpoint else {
            return Cow::Borrowed(filter);
        };
        match split_shared(filter) {
            Ok(Some(shared)) => Cow::Owned(format!(
                "$share/{}/{mountpoint}{}",
                shared.group, shared.filter
            )),
            _ => Cow::Owned(format!("{mountpoint}{filter}")),
        }
    }

    pub(super) fn on_subscribe(&mut self, subscribe: &Subscribe<'_>) -> Result<(), End> {
        let settings = &self.terms.settings;
        let id = subscribe.properties.subscription_identifier.unwrap_or(0);
        if id != 0 && !settings.subscription_identifiers {
            return Err(End::protocol(
                ReasonCode::SubscriptionIdentifiersNotSupported,
                "subscription identifier, and mqtt.subscription_identifiers = false",
            ));
        }
        let mut asked = Vec::with_capacity(subscribe.subscriptions.len());
        for subscription in &subscribe.subscriptions {
            asked.push(self.asked(subscription, id)?);
        }
        let waiting = WaitingSubscribe {
            id: subscribe.packet_id,
            codes: Vec::with_capacity(asked.len()),
            granted: Vec::with_capacity(asked.len()),
            asked,
        };
        self.judge(waiting)
    }

    fn asked(&self, subscription: &packet::Subscription<'_>, id: u32) -> Result<Asked, End> {
        let settings = &self.terms.settings;
        let v5 = self.terms.version.is_v5();
        let mut refused = None;
        let mut unsupported = |code: ReasonCode, key: &'static str| {
            if v5 {
                return Err(End::protocol(code, format!("{key} = false")));
            }
            refused = Some(code);
            Ok(())
        };
        let shared = split_shared(subscription.filter).ok().flatten();
        if shared.is_some() && !settings.shared_subscription {
            unsupported(
                ReasonCode::SharedSubscriptionsNotSupported,
                "mqtt.shared_subscription",
            )?;
        }
        let inner = shared.map_or(subscription.filter, |shared| shared.filter);
        if is_wild(inner) && !settings.wildcard_subscription {
            unsupported(
                ReasonCode::WildcardSubscriptionsNotSupported,
                "mqtt.wildcard_subscription",
            )?;
        }
        if levels(inner) > settings.max_topic_levels {
            refused = Some(ReasonCode::TopicFilterInvalid);
        }
        let options = &subscription.options;
        let handling = match options.retain_handling {
            packet::RetainHandling::Send => RetainHandling::Always,
            packet::RetainHandling::SendIfNew => RetainHandling::IfNew,
            packet::RetainHandling::DoNotSend => RetainHandling::Never,
        };
        let sub = Subscription {
            options: SubOptions::new(options.qos.min(settings.max_qos))
                .with_no_local(options.no_local)
                .with_retain_as_published(options.retain_as_published)
                .with_retain_handling(handling),
            id,
        };
        let filter = TopicFilter::new(self.mounted(subscription.filter));
        let filter = filter
            .map_err(|error| End::protocol(ReasonCode::TopicFilterInvalid, error.to_string()))?;
        Ok(Asked {
            filter,
            sub,
            refused,
        })
    }

    /// Judges the filters that are not yet judged, and grants all when the last one is.
    fn judge(&mut self, mut waiting: WaitingSubscribe) -> Result<(), End> {
        let broker = self.session.broker().clone();
        while let Some(asked) = waiting.asked.get(waiting.codes.len()).cloned() {
            if let Some(code) = asked.refused {
                waiting.codes.push(code);
                continue;
            }
            let action = Action::Subscribe {
                filter: asked.filter.routing_filter(),
                qos: asked.sub.options.qos(),
            };
            match broker.acl().check(
                &self.terms.info,
                &mut self.terms.acl,
                action,
                Instant::now(),
            ) {
                Check::Now(verdict) => self.admit(&mut waiting, asked, verdict),
                Check::Later(judged) => {
                    let packet = WaitingPacket::Subscribe(waiting);
                    self.waiting = Some(Box::new(Waiting { judged, packet }));
                    return Ok(());
                }
            }
        }
        let WaitingSubscribe {
            id, codes, granted, ..
        } = waiting;
        self.session.subscribe(id, granted, codes);
        Ok(())
    }

    fn admit(&mut self, waiting: &mut WaitingSubscribe, asked: Asked, verdict: Verdict) {
        let metrics = self.session.broker().metrics();
        if !verdict.allowed() {
            metrics.count(Counter::SubscribeDenied);
            self.note_denied(
                "subscribe to",
                &asked.filter,
                nightjar_broker::Timestamp::now(),
            );
            waiting.codes.push(ReasonCode::NotAuthorized);
            return;
        }
        let handle = self.session.handle();
        let new = handle.with_subs(|subs| (subs.get(&asked.filter).is_none(), subs.len()));
        let new_here = waiting
            .granted
            .iter()
            .filter(|(filter, _)| *filter != asked.filter)
            .count();
        if let (Some(max), (true, have)) = (self.terms.settings.max_subscriptions, new)
            && have + new_here >= max
        {
            waiting.codes.push(ReasonCode::QuotaExceeded);
            return;
        }
        let mut sub = asked.sub;
        sub.options = sub.options.with_checked(verdict == Verdict::AllowChecked);
        waiting.codes.push(ReasonCode::granted(sub.options.qos()));
        waiting.granted.push((asked.filter, sub));
    }

    /// The verdict on one filter of a SUBSCRIBE came.
    pub(super) fn judged_subscribe(
        &mut self,
        mut waiting: WaitingSubscribe,
        judged: Judged,
    ) -> Result<(), End> {
        if let Some(asked) = waiting.asked.get(waiting.codes.len()).cloned() {
            let broker = self.session.broker().clone();
            let action = Action::Subscribe {
                filter: asked.filter.routing_filter(),
                qos: asked.sub.options.qos(),
            };
            broker
                .acl()
                .remember(&mut self.terms.acl, action, judged, Instant::now());
            self.admit(&mut waiting, asked, judged.verdict);
        }
        self.judge(waiting)
    }
}
