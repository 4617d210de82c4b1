//! A query of the configuration, its placeholders turned into parameters.

use nightjar_broker::access::ClientInfo;
use nightjar_broker::acl::Placeholder;

use crate::ConnectorError;

/// How a database writes parameters.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Style {
    /// `?` (MySQL).
    Question,
    /// `$1`, `$2` (PostgreSQL).
    Dollar,
}

/// A statement to prepare and what its parameters are.
#[derive(Debug, PartialEq, Eq)]
pub struct Query {
    pub(super) sql: String,
    values: Vec<Placeholder>,
}

impl Query {
    /// `${username}` and `%u`, in quotes of their own (`'%u'`) or without, become parameters. Inside a longer string there
    /// is no parameter, so a placeholder there is a mistake.
    pub(super) fn parse(text: &str, style: Style) -> Result<Self, ConnectorError> {
        let wrong = |problem: String| ConnectorError::Setting {
            key: "query",
            problem,
        };
        let mut query = Self {
            sql: String::new(),
            values: Vec::new(),
        };
        let mut rest = text;
        while let Some(first) = rest.chars().next() {
            if let quote @ ('\'' | '"' | '`') = first {
                let end = quoted(rest, quote)
                    .ok_or_else(|| wrong(format!("expected a closing {quote} in the query")))?;
                let inside = &rest[1..end - 1];
                match placeholder(inside).map_err(wrong)? {
                    Some((value, "")) if quote != '`' => query.push(value, style),
                    _ if inside.contains("${") => {
                        let hint =
                            "a placeholder alone in its quotes or outside of them (use CONCAT)";
                        return Err(wrong(format!("expected {hint}, got {}", &rest[..end])));
                    }
                    _ => query.sql.push_str(&rest[..end]),
                }
                rest = &rest[end..];
                continue;
            }
            // `10%c` is a remainder, `like a%` a pattern; the short form is one where it stands by itself.
            let before = |c: char| c.is_alphanumeric() || matches!(c, '_' | ')' | '%');
            let behind = |c: char| c.is_alphanumeric() || matches!(c, '_' | '%');
            let alone = |after: &str| !query.sql.ends_with(before) && !after.starts_with(behind);
            match placeholder(rest).map_err(wrong)? {
                Some((value, after)) if first == '$' || alone(after) => {
                    query.push(value, style);
                    rest = after;
                }
                _ => {
                    query.sql.push(first);
                    rest = &rest[first.len_utf8()..];
                }
            }
        }
        Ok(query)
    }

    fn push(&mut self, value: Placeholder, style: Style) {
        self.values.push(value);
        match style {
            Style::Question => self.sql.push('?'),
            Style::Dollar => self.sql.push_str(&format!("${}", self.values.len())),
        }
    }

    /// The parameters for a client; `None` where it has no such value.
    pub(super) fn parameters(&self, client: &ClientInfo) -> Vec<Option<String>> {
        let text = |value: &Option<std::sync::Arc<str>>| value.as_deref().map(str::to_owned);
        let value = |value: &Placeholder| match value {
            Placeholder::Username => text(&client.username),
            Placeholder::ClientId => Some(client.client_id.to_string()),
            Placeholder::PeerHost => Some(client.peer.ip().to_canonical().to_string()),
            Placeholder::CertCommonName => text(&client.cert_common_name),
            Placeholder::CertSubject => text(&client.cert_subject),
        };
        self.values.iter().map(value).collect()
    }
}

/// A placeholder at the front, and what follows it.
fn placeholder(text: &str) -> Result<Option<(Placeholder, &str)>, String> {
    if let Some(after) = text.strip_prefix("${") {
        let (name, rest) = after
            .split_once('}')
            .ok_or_else(|| "expected '}' after '${' in the query".to_owned())?;
        return match Placeholder::by_name(name) {
            Some(value) => Ok(Some((value, rest))),
            None => {
                let names: Vec<String> = Placeholder::NAMES
                    .iter()
                    .map(|(_, name, _)| format!("${{{name}}}"))
                    .collect();
                Err(format!("expected {}, got ${{{name}}}", names.join(", ")))
            }
        };
    }
    let letter = text
        .strip_prefix('%')
        .and_then(|after| after.chars().next());
    Ok(letter
        .and_then(Placeholder::by_letter)
        .map(|value| (value, &text[2..])))
}

/// Where a quoted text at the front ends: behind its closing quote. A doubled quote stands for itself, and so does one
/// behind a backslash, as MySQL has it; with PostgreSQL a string that ends in a backslash is refused by this, not let
/// through.
fn quoted(text: &str, quote: char) -> Option<usize> {
    let mut chars = text.char_indices().skip(1).peekable();
    while let Some((at, c)) = chars.next() {
        if c == '\\' {
            chars.next();
        } else if c == quote && chars.next_if(|(_, next)| *next == quote).is_none() {
            return Some(at + quote.len_utf8());
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn placeholders_become_parameters_and_nothing_else_does() {
        let table = [
            (
                "select password, salt, is_superuser from mqtt_user where username = ${username} limit 1",
                "select password, salt, is_superuser from mqtt_user where username = ? limit 1",
                1,
            ),
            (
                "select password from mqtt_user where username = '%u' limit 1",
                "select password from mqtt_user where username = ? limit 1",
                1,
            ),
            (
                "select 1 where ipaddr = '%a' or username = '%u' or username = '$all' or clientid = '%c'",
                "select 1 where ipaddr = ? or username = ? or username = '$all' or clientid = ?",
                3,
            ),
            (
                "select '${clientid}','it''s',\"%u\"",
                "select ?,'it''s',?",
                2,
            ),
            ("select 'a\\'%u' where x=%C", "select 'a\\'%u' where x=?", 1),
            (
                "select concat('dev-', ${cert_dn})",
                "select concat('dev-', ?)",
                1,
            ),
            (
                "select 10%c, a%u, (1)%c, %ux, 'a%', '%user'",
                "select 10%c, a%u, (1)%c, %ux, 'a%', '%user'",
                0,
            ),
            ("select `%u` from t", "select `%u` from t", 0),
            ("", "", 0),
        ];
        for (text, expected, count) in table {
            let query = Query::parse(text, Style::Question).expect(text);
            assert_eq!(
                (query.sql.as_str(), query.values.len()),
                (expected, count),
                "{text}"
            );
        }
        let query = Query::parse("a = ${username} and b = '%c'", Style::Dollar).expect("valid");
        assert_eq!(query.sql, "a = $1 and b = $2");
        for bad in [
            "select ${user}",
            "select ${username",
            "select 'x",
            "select 'x-${username}'",
            "select '${username} '",
            "select '${nope}'",
        ] {
            assert!(Query::parse(bad, Style::Question).is_err(), "{bad}");
        }
    }

    #[test]
    fn parameters_are_the_clients_values_as_they_are() {
        let mut client = crate::testing::client();
        client.username = Some("' or 1=1 --".into());
        let text = "${username} ${clientid} ${peerhost} ${cert_cn}";
        let query = Query::parse(text, Style::Dollar).expect("valid");
        let expected = [Some("' or 1=1 --"), Some("dev1"), Some("10.0.0.7"), None];
        let got = query.parameters(&client);
        assert_eq!(
            got.iter().map(Option::as_deref).collect::<Vec<_>>(),
            expected
        );
    }
}
