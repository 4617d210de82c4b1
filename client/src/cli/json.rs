//! A received message as JSON: `%j` and `%J` of `sub`.

use std::borrow::Cow;

use jiff::Zoned;
use serde::Serialize;
use serde::ser::{SerializeMap, Serializer};
use serde_json::value::RawValue;

use crate::cli::format::Fields;

/// How the payload goes into the JSON text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Payload {
    /// As a string, `null` when empty; bytes that are not UTF-8 become U+FFFD.
    Quoted,
    /// As it is: it has to be JSON itself.
    Raw,
}

/// The payload is not JSON.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the payload is not valid JSON")]
pub struct NotJson;

#[derive(Serialize)]
struct Object<'a> {
    tst: String,
    topic: &'a str,
    qos: u8,
    retain: u8,
    payloadlen: usize,
    #[serde(skip_serializing_if = "Option::is_none")]
    mid: Option<u16>,
    #[serde(skip_serializing_if = "Option::is_none")]
    properties: Option<Properties<'a>>,
    payload: Value<'a>,
}

#[derive(Serialize)]
#[serde(untagged)]
enum Value<'a> {
    Text(Option<Cow<'a, str>>),
    Raw(&'a RawValue),
}

#[derive(Serialize)]
#[serde(rename_all = "kebab-case")]
struct Properties<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    subscription_identifier: Option<Identifiers<'a>>,
    #[serde(skip_serializing_if = "Pairs::is_empty")]
    user_properties: Pairs<'a>,
    #[serde(skip_serializing_if = "Option::is_none")]
    content_type: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    response_topic: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    correlation_data: Option<Cow<'a, str>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    payload_format_indicator: Option<u8>,
    #[serde(skip_serializing_if = "Option::is_none")]
    message_expiry_interval: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    topic_alias: Option<u16>,
}

/// One identifier is a number, several are a list.
#[derive(Serialize)]
#[serde(untagged)]
enum Identifiers<'a> {
    One(u32),
    Many(&'a [u32]),
}

/// An object that may repeat a key, as user properties do.
struct Pairs<'a>(&'a [(String, String)]);

impl Pairs<'_> {
    fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl Serialize for Pairs<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(Some(self.0.len()))?;
        for (key, value) in self.0 {
            map.serialize_entry(key, value)?;
        }
        map.end()
    }
}

/// Appends one message as a JSON object.
///
/// # Errors
/// [`NotJson`] with [`Payload::Raw`] where the payload is not JSON; nothing is appended then.
pub fn write(
    out: &mut Vec<u8>,
    fields: &Fields<'_>,
    now: &Zoned,
    payload: Payload,
    pretty: bool,
) -> Result<(), NotJson> {
    let payload = match payload {
        Payload::Quoted if fields.payload.is_empty() => Value::Text(None),
        Payload::Quoted => Value::Text(Some(String::from_utf8_lossy(fields.payload))),
        Payload::Raw => Value::Raw(serde_json::from_slice(fields.payload).map_err(|_| NotJson)?),
    };
    let properties = Properties {
        subscription_identifier: match fields.subscription_ids {
            [] => None,
            [one] => Some(Identifiers::One(*one)),
            many => Some(Identifiers::Many(many)),
        },
        user_properties: Pairs(fields.user_properties),
        content_type: fields.content_type,
        response_topic: fields.response_topic,
        correlation_data: fields.correlation_data.map(String::from_utf8_lossy),
        payload_format_indicator: fields.payload_format,
        message_expiry_interval: fields.message_expiry,
        topic_alias: fields.topic_alias,
    };
    let has_properties = properties.subscription_identifier.is_some()
        || !properties.user_properties.is_empty()
        || properties.content_type.is_some()
        || properties.response_topic.is_some()
        || properties.correlation_data.is_some()
        || properties.payload_format_indicator.is_some()
        || properties.message_expiry_interval.is_some()
        || properties.topic_alias.is_some();
    let object = Object {
        tst: now.strftime("%Y-%m-%dT%H:%M:%S.%6f%z").to_string(),
        topic: fields.topic,
        qos: fields.qos,
        retain: u8::from(fields.retain),
        payloadlen: fields.payload.len(),
        mid: (fields.qos > 0).then_some(fields.packet_id),
        properties: has_properties.then_some(properties),
        payload,
    };
    let written = if pretty {
        serde_json::to_writer_pretty(out, &object)
    } else {
        serde_json::to_writer(out, &object)
    };
    written.expect("keys are strings and a Vec takes every byte");
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(fields: &Fields<'_>, payload: Payload, pretty: bool) -> Result<String, NotJson> {
        let now: Zoned = "2026-11-20T10:58:35.052884+01:00[+01:00]".parse().unwrap();
        let mut out = Vec::new();
        write(&mut out, fields, &now, payload, pretty)?;
        Ok(String::from_utf8(out).unwrap())
    }

    #[test]
    fn keys_come_in_mosquittos_order() {
        let user = [
            ("k".to_owned(), "v".to_owned()),
            ("k".to_owned(), "w".to_owned()),
        ];
        let fields = Fields {
            topic: "a",
            payload: b"he\"llo",
            qos: 1,
            packet_id: 1,
            content_type: Some("text/plain"),
            correlation_data: Some(b"cd"),
            message_expiry: Some(77),
            payload_format: Some(1),
            response_topic: Some("r/t"),
            subscription_ids: &[5],
            user_properties: &user,
            ..Fields::default()
        };
        assert_eq!(
            line(&fields, Payload::Quoted, false).unwrap(),
            concat!(
                r#"{"tst":"2026-11-20T10:58:35.052884+0100","topic":"a","qos":1,"retain":0,"payloadlen":6,"mid":1,"#,
                r#""properties":{"subscription-identifier":5,"user-properties":{"k":"v","k":"w"},"#,
                r#""content-type":"text/plain","response-topic":"r/t","correlation-data":"cd","#,
                r#""payload-format-indicator":1,"message-expiry-interval":77},"payload":"he\"llo"}"#
            )
        );
    }

    #[test]
    fn an_empty_payload_is_null() {
        let json = line(
            &Fields {
                topic: "a",
                ..Fields::default()
            },
            Payload::Quoted,
            false,
        )
        .unwrap();
        assert!(
            json.ends_with(r#""payloadlen":0,"payload":null}"#),
            "{json}"
        );
    }

    #[test]
    fn raw_payloads_have_to_be_json() {
        let good = Fields {
            topic: "a",
            payload: br#"{"b": 1.50}"#,
            ..Fields::default()
        };
        let json = line(&good, Payload::Raw, false).unwrap();
        assert!(json.ends_with(r#""payload":{"b": 1.50}}"#), "{json}");
        let bad = Fields {
            topic: "a",
            payload: b"{",
            ..Fields::default()
        };
        assert_eq!(line(&bad, Payload::Raw, false), Err(NotJson));
    }

    #[test]
    fn pretty_output_has_one_key_a_line() {
        let json = line(
            &Fields {
                topic: "a",
                ..Fields::default()
            },
            Payload::Quoted,
            true,
        )
        .unwrap();
        assert!(json.contains("\n  \"topic\": \"a\",\n"), "{json}");
    }
}
