//! Messages as bytes.

use super::{CodecError, Decoder, Encoder, Result};
use crate::message::{Message, MessageHead, MessageProperties};

impl Encoder<'_> {
    /// A message.
    pub fn message(&mut self, message: &Message) {
        let head = message.head();
        self.u8(head.qos as u8
            | u8::from(head.retain) << 2
            | u8::from(head.publisher.is_some()) << 3
            | u8::from(head.expires_at.is_some()) << 4
            | u8::from(head.properties.is_some()) << 5);
        self.text(&head.topic);
        self.time(head.received_at);
        if let Some(publisher) = &head.publisher {
            self.text(publisher);
        }
        if let Some(at) = head.expires_at {
            self.time(at);
        }
        if let Some(properties) = &head.properties {
            self.properties(properties);
        }
        self.bytes(message.payload());
    }

    fn properties(&mut self, properties: &MessageProperties) {
        self.u8(u8::from(properties.payload_format.is_some())
            | u8::from(properties.content_type.is_some()) << 1
            | u8::from(properties.response_topic.is_some()) << 2
            | u8::from(properties.correlation_data.is_some()) << 3);
        if let Some(format) = properties.payload_format {
            self.u8(format);
        }
        if let Some(text) = &properties.content_type {
            self.text(text);
        }
        if let Some(text) = &properties.response_topic {
            self.text(text);
        }
        if let Some(data) = &properties.correlation_data {
            self.bytes(data);
        }
        self.len(properties.user_properties.len());
        for (name, value) in &properties.user_properties {
            self.text(name);
            self.text(value);
        }
    }
}

impl Decoder<'_> {
    /// A message.
    ///
    /// # Errors
    /// [`CodecError`].
    pub fn message(&mut self) -> Result<Message> {
        self.message_like(None)
    }

    /// A message; topic and publisher are shared with `before` where they are the same, as they mostly are in a batch.
    ///
    /// # Errors
    /// [`CodecError`].
    pub fn message_like(&mut self, before: Option<&Message>) -> Result<Message> {
        let bits = self.u8("message")?;
        if bits & 0xc0 != 0 {
            return Err(CodecError::Invalid("message"));
        }
        let topic = match before.map(Message::topic) {
            Some(same) if self.skip(same) => same.clone(),
            _ => self.topic()?,
        };
        let received_at = self.time("time of a message")?;
        let publisher = if bits & 8 != 0 {
            match before.and_then(|it| it.head().publisher.as_ref()) {
                Some(same) if self.skip(same) => Some(same.clone()),
                _ => Some(self.client_id()?),
            }
        } else {
            None
        };
        let expires_at = if bits & 0x10 != 0 {
            Some(self.time("message expiry")?)
        } else {
            None
        };
        let properties = if bits & 0x20 != 0 {
            Some(Box::new(self.properties()?))
        } else {
            None
        };
        let head = MessageHead {
            topic,
            qos: Self::qos(bits & 3)?,
            retain: bits & 4 != 0,
            publisher,
            received_at,
            expires_at,
            properties,
        };
        Ok(Message::new(head, self.bytes("payload")?))
    }

    /// Passes over a text if it is this one.
    fn skip(&mut self, text: &str) -> bool {
        let mut ahead = Decoder(self.0);
        let same = ahead.bytes("text").is_ok_and(|it| it == text.as_bytes());
        if same {
            self.0 = ahead.0;
        }
        same
    }

    fn properties(&mut self) -> Result<MessageProperties> {
        let bits = self.u8("properties")?;
        if bits & 0xf0 != 0 {
            return Err(CodecError::Invalid("properties"));
        }
        let mut properties = MessageProperties::default();
        if bits & 1 != 0 {
            properties.payload_format = Some(self.u8("payload format")?);
        }
        if bits & 2 != 0 {
            properties.content_type = Some(self.text("content type")?.into());
        }
        if bits & 4 != 0 {
            properties.response_topic = Some(self.text("response topic")?.into());
        }
        if bits & 8 != 0 {
            properties.correlation_data = Some(self.bytes("correlation data")?.into());
        }
        for _ in 0..self.count("user properties")? {
            let name = self.text("user property")?.into();
            let value = self.text("user property")?.into();
            properties.user_properties.push((name, value));
        }
        Ok(properties)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use nightjar_mqtt::{QoS, TopicName};

    use super::*;
    use crate::time::Timestamp;

    fn message(topic: &str, publisher: Option<&str>, payload: &[u8]) -> Message {
        let head = MessageHead {
            topic: TopicName::new(topic).unwrap(),
            qos: QoS::AtLeastOnce,
            retain: false,
            publisher: publisher.map(Arc::from),
            received_at: Timestamp(5),
            expires_at: None,
            properties: None,
        };
        Message::new(head, payload)
    }

    #[test]
    fn a_batch_shares_topics_and_publishers_and_reads_as_one_by_one() {
        let messages = [
            message("a/b", Some("one"), b"1"),
            message("a/b", Some("one"), b"2"),
            message("a/b", Some("two"), b"3"),
            message("a/bc", Some("two"), b"4"),
            message("a/b", None, b"5"),
            message("a", Some("two"), b""),
        ];
        let mut bytes = Vec::new();
        for message in &messages {
            Encoder(&mut bytes).message(message);
        }
        let mut from = Decoder(&bytes);
        let mut read: Vec<Message> = Vec::new();
        while !from.is_empty() {
            let next = from.message_like(read.last()).unwrap();
            read.push(next);
        }
        assert_eq!(read, messages);
        let shared = |a: &Message, b: &Message| a.topic().as_ptr() == b.topic().as_ptr();
        assert!(shared(&read[0], &read[1]) && shared(&read[1], &read[2]));
        for len in 0..bytes.len() {
            let mut from = Decoder(&bytes[..len]);
            let mut read: Option<Message> = None;
            let mut count = 0;
            while let Ok(next) = from.message_like(read.as_ref()) {
                assert_eq!(next, messages[count]);
                read = Some(next);
                count += 1;
            }
            assert!(count < messages.len(), "{len} bytes");
        }
    }
}
