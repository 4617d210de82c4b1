//! Lines of traces: what messages say, never what their data holds.

use std::fmt;

use nightjar_mqttsn::{FilterOrId, Message, PublishTopic, WillTopic};

use super::gateway::Cx;
use super::live::Live;
use super::path::Path;
use super::uplink::short;

impl Cx<'_> {
    /// Writes a line for a message of the client of this go; `topic` as the broker knows it.
    #[cold]
    pub fn trace_received(&self, path: &Path, message: &Message<'_>, topic: Option<&str>) {
        self.trace("received", path, message, topic);
    }

    /// Writes a line for a message to that client.
    #[cold]
    pub fn trace_sent(&mut self, path: &Path, message: &Message<'_>) {
        let about = self.about.take();
        self.trace("sent", path, message, about.as_deref());
    }

    fn trace(&self, way: &str, path: &Path, message: &Message<'_>, topic: Option<&str>) {
        let Some(client_id) = &self.traced else {
            return;
        };
        let name = message.msg_type().name();
        let topic = topic.or_else(|| named(message));
        let says = Says(message, topic);
        let text = format_args!("{name} {way}{says}");
        let tracer = self.gateway.broker().tracer();
        tracer.line(client_id, Some(path.peer), topic, text, self.now);
    }
}

impl Live {
    /// The topic of a PUBLISH as the broker knows it, for a trace.
    pub fn topic_for_trace(&self, cx: &Cx<'_>, topic: PublishTopic) -> Option<String> {
        let name = match topic {
            PublishTopic::Normal(id) => self.topics.name(id)?.as_str().to_owned(),
            PublishTopic::Predefined(id) => {
                let predefined = cx.settings().predefined.load();
                let client_id = self.session.handle().client_id();
                predefined.topic(client_id, id)?.into_owned()
            }
            PublishTopic::Short(octets) => short(&octets)?.to_owned(),
        };
        Some(self.mounted(&name).unwrap_or(name))
    }
}

/// The name or filter that a message itself has.
const fn named<'a>(message: &Message<'a>) -> Option<&'a str> {
    match message {
        Message::Register(register) => Some(register.topic_name),
        Message::Subscribe(subscribe) => filter_of(&subscribe.topic),
        Message::Unsubscribe(unsubscribe) => filter_of(&unsubscribe.topic),
        Message::WillTopic(Some(WillTopic { topic, .. }))
        | Message::WillTopicUpd(Some(WillTopic { topic, .. })) => Some(topic),
        _ => None,
    }
}

const fn filter_of<'a>(topic: &FilterOrId<'a>) -> Option<&'a str> {
    match topic {
        FilterOrId::Name(name) => Some(name),
        FilterOrId::Predefined(_) | FilterOrId::Short(_) => None,
    }
}

/// What a message says behind its name.
struct Says<'a>(&'a Message<'a>, Option<&'a str>);

impl fmt::Display for Says<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(topic) = self.1 {
            write!(f, ": {topic}")?;
        }
        match self.0 {
            Message::Connect(connect) => write!(
                f,
                ": CleanSession {}, Will {}, keep alive {} s",
                connect.clean_session, connect.will, connect.duration
            ),
            Message::Publish(publish) => write!(
                f,
                ", topic {:?}, QoS {}, retain {}, {} bytes, MsgId {}, DUP {}",
                publish.topic,
                publish.qos.level(),
                publish.retain,
                publish.data.len(),
                publish.msg_id,
                publish.dup
            ),
            Message::Register(it) => write!(f, ", topic id {}, MsgId {}", it.topic_id, it.msg_id),
            Message::RegAck(it) => write!(
                f,
                ": topic id {}, MsgId {}, {}",
                it.topic_id, it.msg_id, it.return_code
            ),
            Message::PubAck(it) => write!(
                f,
                ": topic id {}, MsgId {}, {}",
                it.topic_id, it.msg_id, it.return_code
            ),
            Message::Subscribe(it) => write!(f, ", QoS {}, MsgId {}", it.qos.level(), it.msg_id),
            Message::SubAck(it) => write!(
                f,
                ": topic id {}, QoS {}, MsgId {}, {}",
                it.topic_id,
                it.qos.level(),
                it.msg_id,
                it.return_code
            ),
            Message::PubRec { msg_id }
            | Message::PubRel { msg_id }
            | Message::PubComp { msg_id }
            | Message::UnsubAck { msg_id } => write!(f, ": MsgId {msg_id}"),
            Message::ConnAck { return_code }
            | Message::WillTopicResp { return_code }
            | Message::WillMsgResp { return_code } => write!(f, ": {return_code}"),
            Message::Disconnect {
                duration: Some(seconds),
            } => write!(f, ": for {seconds} s"),
            _ => Ok(()),
        }
    }
}
