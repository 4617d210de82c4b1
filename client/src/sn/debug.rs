//! `-d`: one line for each message, in the manner of the MQTT one.

use nightjar_mqttsn::{FilterOrId, Frame, Message, PublishTopic};

/// Prints a datagram to stdout.
pub(super) fn print(client_id: &str, verb: &str, datagram: &[u8]) {
    println!("Client {client_id} {verb} {}", describe(datagram));
}

fn describe(datagram: &[u8]) -> String {
    match Frame::decode(datagram) {
        Ok(frame) => message(&frame.message),
        Err(error) => format!("{} octets that are no message: {error}", datagram.len()),
    }
}

fn filter(topic: &FilterOrId<'_>) -> String {
    match topic {
        FilterOrId::Name(name) => format!("'{name}'"),
        FilterOrId::Predefined(id) => format!("predefined {id}"),
        FilterOrId::Short(name) => format!("short '{}'", String::from_utf8_lossy(name)),
    }
}

fn message(message: &Message<'_>) -> String {
    let name = message.msg_type().name();
    let detail = match message {
        Message::Connect(connect) => format!(
            "c{}, w{}, k{}",
            u8::from(connect.clean_session),
            u8::from(connect.will),
            connect.duration
        ),
        Message::Register(register) => format!(
            "id {}, m{}, '{}'",
            register.topic_id, register.msg_id, register.topic_name
        ),
        Message::RegAck(ack) => {
            format!("id {}, m{}, {}", ack.topic_id, ack.msg_id, ack.return_code)
        }
        Message::PubAck(ack) => {
            format!("id {}, m{}, {}", ack.topic_id, ack.msg_id, ack.return_code)
        }
        Message::Publish(publish) => {
            let topic = match publish.topic {
                PublishTopic::Normal(id) => format!("id {id}"),
                PublishTopic::Predefined(id) => format!("predefined {id}"),
                PublishTopic::Short(name) => format!("short '{}'", String::from_utf8_lossy(&name)),
            };
            format!(
                "d{}, q{}, r{}, m{}, {topic}, ... ({} bytes)",
                u8::from(publish.dup),
                publish.qos.level(),
                u8::from(publish.retain),
                publish.msg_id,
                publish.data.len()
            )
        }
        Message::Subscribe(subscribe) => format!(
            "m{}, q{}, {}",
            subscribe.msg_id,
            subscribe.qos.level(),
            filter(&subscribe.topic)
        ),
        Message::Unsubscribe(unsubscribe) => {
            format!("m{}, {}", unsubscribe.msg_id, filter(&unsubscribe.topic))
        }
        Message::SubAck(ack) => format!(
            "id {}, m{}, q{}, {}",
            ack.topic_id,
            ack.msg_id,
            ack.qos.level(),
            ack.return_code
        ),
        Message::ConnAck { return_code }
        | Message::WillTopicResp { return_code }
        | Message::WillMsgResp { return_code } => return_code.to_string(),
        Message::Disconnect {
            duration: Some(duration),
        } => format!("{duration} s"),
        Message::PingReq {
            client_id: Some(client_id),
        } => format!("'{client_id}'"),
        other => match other.msg_id() {
            Some(msg_id) => format!("m{msg_id}"),
            None => return name.to_owned(),
        },
    };
    format!("{name} ({detail})")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_has_what_the_message_says() {
        for (datagram, line) in [
            (
                &b"\x09\x0C\xE2\x61\x62\x00\x00hi"[..],
                "PUBLISH (d1, q-1, r0, m0, short 'ab', ... (2 bytes))",
            ),
            (b"\x04\x18\x00\x3C", "DISCONNECT (60 s)"),
            (b"\x02\x18", "DISCONNECT"),
            (b"\x03\x05\x03", "CONNACK (rejected: not supported)"),
            (b"\x04\x10\x00\x07", "PUBREL (m7)"),
            (b"\x07\x12\x20\x00\x07a#", "SUBSCRIBE (m7, q1, 'a#')"),
        ] {
            assert_eq!(describe(datagram), line);
        }
        assert!(describe(b"\x03\x03").contains("no message"));
    }
}
