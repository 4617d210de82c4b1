//! A command of the configuration: words with placeholders.

use nightjar_broker::access::ClientInfo;

use crate::ConnectorError;
use crate::template::{Template, Values, long_names};

/// A command, cut into arguments before any value is known.
#[derive(Debug)]
pub(super) struct Command {
    words: Vec<String>,
    arguments: Vec<Template>,
}

impl Command {
    /// Words are parted by blanks; `"` and `'` keep blanks in a word.
    pub fn parse(text: &str) -> Result<Self, ConnectorError> {
        let wrong = |problem: String| ConnectorError::Setting {
            key: "command",
            problem,
        };
        let mut words: Vec<String> = Vec::new();
        let mut chars = text.chars().peekable();
        while chars.next_if(|c| c.is_whitespace()).is_some() || chars.peek().is_some() {
            let Some(first) = chars.next_if(|c| !c.is_whitespace()) else {
                continue;
            };
            let mut word = String::new();
            let mut quote = match first {
                '"' | '\'' => Some(first),
                plain => {
                    word.push(plain);
                    None
                }
            };
            while let Some(c) = chars.next_if(|c| quote.is_some() || !c.is_whitespace()) {
                match (quote, c) {
                    (Some(open), c) if open == c => quote = None,
                    (None, '"' | '\'') => quote = Some(c),
                    (_, c) => word.push(c),
                }
            }
            if quote.is_some() {
                return Err(wrong(format!("expected a closing quote in {text:?}")));
            }
            words.push(word);
        }
        if words.first().is_none_or(|name| name.contains(['$', '%'])) {
            return Err(wrong(format!(
                "expected a command such as HGETALL, got {text:?}"
            )));
        }
        let arguments = words
            .iter()
            // `mqtt_user:%u` as people have it.
            .map(|word| Template::client(&long_names(word)))
            .collect::<Result<_, _>>()
            .map_err(wrong)?;
        Ok(Self { words, arguments })
    }

    /// The arguments for a client; `None` if it lacks a value.
    pub fn arguments(&self, client: &ClientInfo) -> Option<Vec<String>> {
        let values = Values::of(client);
        self.arguments.iter().map(|a| a.render(&values)).collect()
    }

    pub fn is(&self, name: &str) -> bool {
        self.words
            .first()
            .is_some_and(|own| own.eq_ignore_ascii_case(name))
    }

    /// The fields that an HMGET asks for.
    pub fn fields(&self) -> Option<Vec<String>> {
        self.is("HMGET")
            .then(|| self.words.get(2..).unwrap_or_default().to_vec())
    }
}
