//! The request that puts a question, and what an answer means.

use serde_json::{Map, Value};

use super::client::{Answer, HttpClient, Method, Url};
use super::{ContentType, HttpError, HttpSettings};
use crate::ConnectorError;
use crate::template::{Template, Values};

const FORM: &str = "application/x-www-form-urlencoded";
const JSON: &str = "application/json";

/// A service and how it is asked.
pub(super) struct Question {
    client: HttpClient,
    target: Template,
    fields: Vec<(String, Template)>,
    shape: Shape,
}

enum Shape {
    Query,
    Form,
    Json,
}

/// What the service said.
#[derive(Debug)]
pub(super) enum Said {
    Allow(Option<Map<String, Value>>),
    Deny(u16),
    Ignore,
}

/// Why there is no answer: ours to refuse, or the backend's failure.
pub(super) enum Failed {
    /// The client's own values do not fit an URL's path.
    Refused,
    Backend(HttpError),
}

impl Question {
    pub fn new(
        settings: &HttpSettings,
        template: fn(&str) -> Result<Template, String>,
    ) -> Result<Self, ConnectorError> {
        let setting = |key| move |problem| ConnectorError::Setting { key, problem };
        let client = HttpClient::new(settings)?;
        let url = Url::parse(&settings.url)?;
        let target = match url.target {
            target if target.starts_with('/') => target.to_owned(),
            query => format!("/{query}"),
        };
        let shape = match (settings.method, settings.content_type) {
            (Method::Get, _) => Shape::Query,
            (Method::Post, ContentType::Form) => Shape::Form,
            (Method::Post, ContentType::Json) => Shape::Json,
        };
        let fields = settings
            .body
            .iter()
            .map(|(name, text)| Ok((name.clone(), template(text)?)))
            .collect::<Result<_, _>>()
            .map_err(setting("body"))?;
        Ok(Self {
            client,
            target: template(&target).map_err(setting("url"))?,
            fields,
            shape,
        })
    }

    pub async fn ask(&self, values: &Values<'_>) -> Result<Said, Failed> {
        let mut target = self.target.render_encoded(values, percent);
        // "." is an ordinary character of a name, but a segment of its own would climb out of the service's path.
        let path = target.split('?').next().unwrap_or("");
        if path.split('/').any(|segment| matches!(segment, "." | "..")) {
            return Err(Failed::Refused);
        }
        let body = match self.shape {
            Shape::Query => {
                if !self.fields.is_empty() {
                    target.push(if target.contains('?') { '&' } else { '?' });
                    target.push_str(&self.form(values));
                }
                None
            }
            Shape::Form => Some((FORM, self.form(values).into_bytes())),
            Shape::Json => {
                let fields = self.fields.iter().map(|(name, template)| {
                    let text = template.render_encoded(values, |value, out| out.push_str(value));
                    (name.clone(), Value::String(text))
                });
                let object = Value::Object(fields.collect());
                Some((JSON, object.to_string().into_bytes()))
            }
        };
        let said = self.client.ask(&target, body, understand).await;
        said.map_err(Failed::Backend)
    }

    fn form(&self, values: &Values<'_>) -> String {
        let mut form = String::new();
        for (name, template) in &self.fields {
            if !form.is_empty() {
                form.push('&');
            }
            percent(name, &mut form);
            form.push('=');
            // The text around placeholders is encoded as well: it is no part of the form's own signs.
            let text = template.render_encoded(values, |value, out| out.push_str(value));
            percent(&text, &mut form);
        }
        form
    }
}

/// Percent-encodes all but the unreserved characters of RFC 3986 section 2.3.
fn percent(text: &str, out: &mut String) {
    const HEX: &[u8; 16] = b"0123456789ABCDEF";
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            out.push(char::from(byte));
        } else {
            out.push('%');
            out.push(char::from(HEX[usize::from(byte >> 4)]));
            out.push(char::from(HEX[usize::from(byte & 15)]));
        }
    }
}

fn understand(answer: &Answer) -> Result<Said, String> {
    let status = answer.status.as_u16();
    match status {
        204 => return Ok(Said::Allow(None)),
        200 => {}
        400..=499 => return Ok(Said::Deny(status)),
        _ => return Err(format!("expected status 200, 204 or 4xx, got {status}")),
    }
    let body = answer.body.trim_ascii();
    if !answer.json && !body.starts_with(b"{") {
        return Ok(match body {
            b"ignore" => Said::Ignore,
            b"deny" => Said::Deny(status),
            _ => Said::Allow(None),
        });
    }
    let wrong = || "expected a JSON object with \"result\": allow, deny or ignore".to_owned();
    let Ok(Value::Object(fields)) = serde_json::from_slice(body) else {
        return Err(wrong());
    };
    match fields.get("result").and_then(Value::as_str) {
        Some("allow") => Ok(Said::Allow(Some(fields))),
        Some("deny") => Ok(Said::Deny(status)),
        Some("ignore") => Ok(Said::Ignore),
        _ => Err(wrong()),
    }
}

/// Any answer: allow, deny, ignore or nonsense; only 200 and 204 allow, and what says deny never does.
#[cfg(any(test, feature = "fuzzing"))]
pub fn fuzz_answer(status: u16, json: bool, body: &[u8]) {
    let Ok(code) = hyper::StatusCode::from_u16(status) else {
        return;
    };
    let answer = Answer {
        status: code,
        json,
        body: body.to_vec().into(),
    };
    if let Ok(Said::Allow(fields)) = understand(&answer) {
        assert!(matches!(status, 200 | 204), "status {status} allows");
        if let Some(fields) = fields {
            let result = fields.get("result").and_then(Value::as_str);
            assert_eq!(result, Some("allow"));
            // Rights and rules, or an error; what is in force was written by the service.
            let _ = super::auth::grant(&fields);
        } else {
            assert!(status == 204 || !matches!(body.trim_ascii(), b"deny" | b"ignore"));
        }
    }
}

#[cfg(test)]
mod tests {
    use hyper::StatusCode;

    use super::*;

    #[test]
    fn every_answer_means_something_or_is_nonsense() {
        let judge = |status: u16, kind_json: bool, body: &str| {
            let answer = Answer {
                status: StatusCode::from_u16(status).expect("a status"),
                json: kind_json,
                body: body.to_owned().into(),
            };
            match understand(&answer) {
                Ok(Said::Allow(_)) => "allow",
                Ok(Said::Deny(_)) => "deny",
                Ok(Said::Ignore) => "ignore",
                Err(_) => "nonsense",
            }
        };
        let table = [
            (204, false, "", "allow"),
            (200, false, "", "allow"),
            (200, false, "OK", "allow"),
            (200, false, " ignore\r\n", "ignore"),
            (200, false, "deny", "deny"),
            (200, true, r#"{"result":"allow"}"#, "allow"),
            (200, true, r#"{"result":"deny"}"#, "deny"),
            (200, false, r#"{"result":"ignore","x":1}"#, "ignore"),
            (200, true, "", "nonsense"),
            (200, true, "{}", "nonsense"),
            (200, true, r#"{"result":"maybe"}"#, "nonsense"),
            (200, true, r#"{"result":true}"#, "nonsense"),
            (200, false, r#"{"result":"allow""#, "nonsense"),
            (200, true, "[]", "nonsense"),
            (200, true, &"[".repeat(100_000), "nonsense"),
            (400, false, "", "deny"),
            (401, true, r#"{"result":"allow"}"#, "deny"),
            (429, false, "", "deny"),
            (201, false, "", "nonsense"),
            (301, false, "", "nonsense"),
            (500, true, r#"{"result":"allow"}"#, "nonsense"),
            (503, false, "", "nonsense"),
        ];
        for (status, json, body, expected) in table {
            assert_eq!(
                judge(status, json, body),
                expected,
                "{status} {json} {body:.40}"
            );
        }
    }

    #[test]
    fn percent_encoding_leaves_no_sign_of_urls_or_forms() {
        let mut out = String::new();
        percent("a-Z_0.~ /?&=#%+\r\n\u{e9}\0", &mut out);
        assert_eq!(out, "a-Z_0.~%20%2F%3F%26%3D%23%25%2B%0D%0A%C3%A9%00");
    }
}
