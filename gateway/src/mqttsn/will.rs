//! The will: made of WILLTOPIC and WILLMSG, changed by WILLTOPICUPD and WILLMSGUPD (MQTT-SN sections 6.3 and 6.4).

use std::time::Instant;

use nightjar_broker::access::{Action, Verdict};
use nightjar_broker::acl::Check;
use nightjar_broker::shard::Will;
use nightjar_broker::{Message as BrokerMessage, MessageHead};
use nightjar_mqtt::TopicName;
use nightjar_mqtt::topic::levels;
use nightjar_mqttsn::{Message, ReturnCode, WillTopic};

use super::gateway::Cx;
use super::link::Link;
use super::live::{Answer, Judging, Live, Waiting};

impl Live {
    /// WILLTOPICUPD.
    pub fn on_will_topic_upd(&mut self, link: &Link, cx: &mut Cx<'_>, upd: Option<WillTopic<'_>>) {
        let refused = Message::WillTopicResp {
            return_code: ReturnCode::NOT_SUPPORTED,
        };
        let Some(upd) = upd else {
            self.will = None;
            let ticket = self.session.set_will(None);
            self.owe(ticket, Answer::WillTopicResp);
            return;
        };
        let payload = self
            .will
            .as_ref()
            .map_or(&[][..], |will| will.message.payload());
        let Some(will) = self.make_will(cx, &upd, payload) else {
            link.answer(cx, refused);
            return;
        };
        let will = Box::new(will);
        let broker = self.session.broker().clone();
        let action = will_action(&will);
        match broker
            .acl()
            .check(&self.info, &mut self.acl, action, Instant::now())
        {
            Check::Now(verdict) => self.set_will_topic(link, cx, will, verdict),
            Check::Later(judged) => {
                let what = Judging::WillTopic(will);
                self.waiting = Some(Box::new(Waiting { judged, what }));
            }
        }
    }

    /// WILLTOPICUPD is judged.
    pub fn set_will_topic(
        &mut self,
        link: &Link,
        cx: &mut Cx<'_>,
        will: Box<Will>,
        verdict: Verdict,
    ) {
        if !verdict.allowed() {
            let return_code = ReturnCode::NOT_SUPPORTED;
            link.answer(cx, Message::WillTopicResp { return_code });
            return;
        }
        let ticket = self.session.set_will(Some(will.clone()));
        self.will = Some(will);
        self.owe(ticket, Answer::WillTopicResp);
    }

    /// WILLMSGUPD.
    pub fn on_will_msg_upd(&mut self, link: &Link, cx: &mut Cx<'_>, will_msg: &[u8]) {
        let Some(old) = &self.will else {
            let return_code = ReturnCode::NOT_SUPPORTED;
            link.answer(cx, Message::WillMsgResp { return_code });
            return;
        };
        let will = Box::new(Will {
            message: BrokerMessage::new(old.message.head().clone(), will_msg),
            ..*old.clone()
        });
        let ticket = self.session.set_will(Some(will.clone()));
        self.will = Some(will);
        self.owe(ticket, Answer::WillMsgResp);
    }

    fn make_will(&self, cx: &Cx<'_>, asked: &WillTopic<'_>, payload: &[u8]) -> Option<Will> {
        make_will(
            cx,
            &self.settings,
            self.mountpoint.as_deref(),
            self.session.handle().client_id(),
            asked,
            payload,
        )
    }
}

/// The will of WILLTOPIC and WILLMSG; `None` if it cannot be served.
pub(super) fn make_will(
    cx: &Cx<'_>,
    settings: &nightjar_broker::settings::MqttSettings,
    mountpoint: Option<&str>,
    client_id: &std::sync::Arc<str>,
    asked: &WillTopic<'_>,
    payload: &[u8],
) -> Option<Will> {
    let qos = asked.qos.to_mqtt()?;
    let topic = match mountpoint {
        Some(mountpoint) => TopicName::new(format!("{mountpoint}{}", asked.topic)),
        None => TopicName::new(asked.topic),
    };
    let topic = topic.ok()?;
    if qos > settings.max_qos
        || asked.retain && !settings.retain_available
        || levels(&topic) > settings.max_topic_levels
        || topic.starts_with("$SYS/")
    {
        return None;
    }
    let head = MessageHead {
        topic,
        qos,
        retain: asked.retain,
        publisher: Some(client_id.clone()),
        received_at: cx.now,
        expires_at: None,
        properties: None,
    };
    Some(Will {
        message: BrokerMessage::new(head, payload),
        delay: 0,
        expiry: settings.message_expiry,
    })
}

pub(super) fn will_action(will: &Will) -> Action<'_> {
    Action::Publish {
        topic: will.message.topic(),
        qos: will.message.qos(),
        retain: will.message.retain(),
    }
}
