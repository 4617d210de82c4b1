//! Texts of the configuration with placeholders for a client's own values.

use std::borrow::Cow;

use nightjar_broker::access::ClientInfo;

/// A text with placeholders.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Template(Vec<Part>);

#[derive(Debug, Clone, PartialEq, Eq)]
enum Part {
    Text(Box<str>),
    Value(Var),
}

/// What a placeholder may name. The first five are a client's; the others belong to the question that is asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Var {
    Username,
    ClientId,
    PeerHost,
    CertCommonName,
    CertSubject,
    Password,
    Topic,
    Action,
    Qos,
    Retain,
}

const NAMES: [(Var, &str, char); 10] = [
    (Var::Username, "username", 'u'),
    (Var::ClientId, "clientid", 'c'),
    (Var::PeerHost, "peerhost", 'a'),
    (Var::CertCommonName, "cert_cn", 'C'),
    (Var::CertSubject, "cert_dn", 'd'),
    (Var::Password, "password", 'P'),
    (Var::Topic, "topic", 't'),
    (Var::Action, "action", 'A'),
    (Var::Qos, "qos", 'q'),
    (Var::Retain, "retain", 'r'),
];

/// How many of [`NAMES`] are known where a client connects without a password in play, with one, and with an action.
const CLIENT: usize = 5;

impl Template {
    /// A text with the placeholders of a client: `${username}`, `${clientid}`, `${peerhost}`, `${cert_cn}`,
    /// `${cert_dn}`; or one of `%u %c %a %C %d` as the whole text.
    ///
    /// # Errors
    /// Expected and got, if a placeholder is unknown or not closed.
    #[cfg(any(
        feature = "jwt",
        feature = "redis",
        feature = "mongodb",
        feature = "ldap"
    ))]
    pub fn client(text: &str) -> Result<Self, String> {
        Self::with(text, &NAMES[..CLIENT])
    }

    /// As [`Self::client`], and the password.
    #[cfg(feature = "http")]
    pub(crate) fn login(text: &str) -> Result<Self, String> {
        Self::with(text, &NAMES[..CLIENT + 1])
    }

    /// As [`Self::client`], and what describes an action.
    #[cfg(feature = "http")]
    pub(crate) fn action(text: &str) -> Result<Self, String> {
        let names: Vec<_> = NAMES
            .iter()
            .filter(|n| n.0 != Var::Password)
            .copied()
            .collect();
        Self::with(text, &names)
    }

    fn with(text: &str, names: &[(Var, &str, char)]) -> Result<Self, String> {
        let mut chars = text.chars();
        if let (Some('%'), Some(letter), None) = (chars.next(), chars.next(), chars.next())
            && let Some((name, ..)) = names.iter().find(|(.., short)| *short == letter)
        {
            return Ok(Self(vec![Part::Value(*name)]));
        }
        let mut parts = Vec::new();
        let mut rest = text;
        while let Some(at) = rest.find("${") {
            let (name, after) = rest[at + 2..]
                .split_once('}')
                .ok_or_else(|| format!("expected '}}' after '${{' in {text:?}"))?;
            let Some((value, ..)) = names.iter().find(|(_, long, _)| *long == name) else {
                let known: Vec<String> = names.iter().map(|n| format!("${{{}}}", n.1)).collect();
                return Err(format!("expected {}, got ${{{name}}}", known.join(", ")));
            };
            if at > 0 {
                parts.push(Part::Text(rest[..at].into()));
            }
            parts.push(Part::Value(*value));
            rest = after;
        }
        if !rest.is_empty() {
            parts.push(Part::Text(rest.into()));
        }
        Ok(Self(parts))
    }

    /// The text with its values; `None` if one is missing.
    #[cfg(any(
        feature = "jwt",
        feature = "redis",
        feature = "mongodb",
        feature = "ldap"
    ))]
    pub(crate) fn render(&self, values: &Values<'_>) -> Option<String> {
        self.render_escaped(values, |value, text| text.push_str(value))
    }

    /// As [`Self::render`], each value changed on its way in so that it stays a value.
    #[cfg(any(
        feature = "jwt",
        feature = "redis",
        feature = "mongodb",
        feature = "ldap"
    ))]
    pub(crate) fn render_escaped(
        &self,
        values: &Values<'_>,
        escape: impl Fn(&str, &mut String),
    ) -> Option<String> {
        let mut text = String::new();
        for part in &self.0 {
            match part {
                Part::Text(part) => text.push_str(part),
                Part::Value(name) => escape(&values.get(*name)?, &mut text),
            }
        }
        Some(text)
    }

    /// The text with its values, each changed on its way in so that it stays a value. A missing one is empty.
    #[cfg(feature = "http")]
    pub(crate) fn render_encoded(
        &self,
        values: &Values<'_>,
        encode: impl Fn(&str, &mut String),
    ) -> String {
        let mut text = String::new();
        for part in &self.0 {
            match part {
                Part::Text(part) => text.push_str(part),
                Part::Value(name) => encode(&values.get(*name).unwrap_or_default(), &mut text),
            }
        }
        text
    }
}

/// The text with `%u` and the other short forms written out: where a percent sign has no other use, they may stand within
/// a longer text.
#[cfg(any(feature = "redis", feature = "mongodb", feature = "ldap"))]
pub(crate) fn long_names(text: &str) -> String {
    NAMES[..CLIENT]
        .iter()
        .fold(text.to_owned(), |text, (_, name, letter)| {
            text.replace(&format!("%{letter}"), &format!("${{{name}}}"))
        })
}

/// What placeholders stand for in one question.
#[derive(Clone, Copy)]
pub(crate) struct Values<'a> {
    client: &'a ClientInfo,
    #[cfg(feature = "http")]
    pub password: Option<&'a str>,
    #[cfg(feature = "http")]
    pub action: Option<nightjar_broker::access::Action<'a>>,
}

impl<'a> Values<'a> {
    pub fn of(client: &'a ClientInfo) -> Self {
        Self {
            client,
            #[cfg(feature = "http")]
            password: None,
            #[cfg(feature = "http")]
            action: None,
        }
    }

    fn get(&self, name: Var) -> Option<Cow<'a, str>> {
        let client = self.client;
        Some(match name {
            Var::Username => client.username.as_deref()?.into(),
            Var::ClientId => (&*client.client_id).into(),
            Var::PeerHost => client.peer.ip().to_canonical().to_string().into(),
            Var::CertCommonName => client.cert_common_name.as_deref()?.into(),
            Var::CertSubject => client.cert_subject.as_deref()?.into(),
            #[cfg(feature = "http")]
            Var::Password => self.password?.into(),
            #[cfg(feature = "http")]
            Var::Topic | Var::Action | Var::Qos | Var::Retain => self.of_action(name)?,
            #[cfg(not(feature = "http"))]
            Var::Password | Var::Topic | Var::Action | Var::Qos | Var::Retain => return None,
        })
    }

    #[cfg(feature = "http")]
    fn of_action(&self, name: Var) -> Option<Cow<'a, str>> {
        use nightjar_broker::access::Action;
        let action = self.action?;
        let (qos, retain, word) = match action {
            Action::Publish { qos, retain, .. } => (qos, retain, "publish"),
            Action::Subscribe { qos, .. } => (qos, false, "subscribe"),
        };
        Some(match name {
            Var::Topic => action.topic().into(),
            Var::Action => word.into(),
            Var::Qos => qos.bits().to_string().into(),
            _ => (if retain { "true" } else { "false" }).into(),
        })
    }
}

#[cfg(all(
    test,
    any(
        feature = "jwt",
        feature = "redis",
        feature = "mongodb",
        feature = "ldap"
    )
))]
mod tests {
    use super::*;

    #[test]
    fn placeholders_are_filled_and_unknown_ones_named() {
        let client = crate::testing::client();
        let values = Values::of(&client);
        let table = [
            ("plain", Some("plain")),
            ("", Some("")),
            ("${username}", Some("ann")),
            ("a-${clientid}-${peerhost}", Some("a-dev1-10.0.0.7")),
            ("%u", Some("ann")),
            ("%c", Some("dev1")),
            ("x%u", Some("x%u")),
            ("${cert_cn}", None),
        ];
        for (text, expected) in table {
            let template = Template::client(text).expect(text);
            assert_eq!(template.render(&values).as_deref(), expected, "{text}");
        }
        for bad in ["${user}", "${username", "${password}", "${topic}", "${}"] {
            assert!(Template::client(bad).is_err(), "{bad}");
        }
    }
}
