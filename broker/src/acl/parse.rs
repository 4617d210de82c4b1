//! From the text of `acl.conf` to rules, with errors that name line and column.

use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

use super::pattern::TopicPattern;
use super::rule::{Cidr, Permission, Rule, RuleAction, Who};
use super::term::{Fail, Term, Value, blank, form};

/// After so many errors the rest of a file is not read: the reader has enough to do.
const MAX_ERRORS: usize = 20;

/// One mistake in a rules file.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{file}:{line}:{column}: expected {expected}, got {got}")]
pub struct SyntaxError {
    /// Name of the file, as it was given.
    pub file: String,
    /// Line, from 1.
    pub line: u32,
    /// Column in characters, from 1.
    pub column: u32,
    /// What would have been right.
    pub expected: String,
    /// What stands there.
    pub got: String,
}

/// The mistakes of a rules file, first ones first, one a line when displayed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SyntaxErrors(pub Vec<SyntaxError>);

impl std::error::Error for SyntaxErrors {}

impl fmt::Display for SyntaxErrors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, error) in self.0.iter().enumerate() {
            let newline = if i == 0 { "" } else { "\n" };
            write!(f, "{newline}{error}")?;
        }
        Ok(())
    }
}

/// A mistake at a place: bytes from it to the end of the text.
struct Mistake {
    left: usize,
    expected: String,
    /// What stands there, if the text at the place does not say it itself.
    got: Option<String>,
}

impl From<Fail> for Mistake {
    fn from(fail: Fail) -> Self {
        Self {
            left: fail.left,
            expected: fail.expected.to_owned(),
            got: None,
        }
    }
}

fn expected<T>(term: &Term, expected: impl Into<String>) -> Result<T, Mistake> {
    Err(Mistake {
        left: term.left,
        expected: expected.into(),
        got: None,
    })
}

/// Reads all rules of a text; `file` only names it in errors.
pub(super) fn rules(text: &str, file: &str) -> Result<Vec<Rule>, SyntaxErrors> {
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let mut lines = Lines::new(text);
    let mut rules = Vec::new();
    let mut errors = Vec::new();
    let mut rest = blank(text);
    while !rest.is_empty() && errors.len() < MAX_ERRORS {
        let start = rest.len();
        let mistake = match form(rest) {
            Ok((after, term)) => {
                rest = blank(after);
                match rule(&term) {
                    Ok(mut rule) => {
                        rule.line = lines.locate(start).0;
                        rules.push(rule);
                        continue;
                    }
                    Err(mistake) => mistake,
                }
            }
            Err(nom::Err::Error(fail) | nom::Err::Failure(fail)) => {
                // Never before the failure, so that every round consumes something.
                let stopped = fail.left.min(start.saturating_sub(1));
                rest = next_rule(text, stopped);
                fail.into()
            }
            Err(nom::Err::Incomplete(_)) => Mistake {
                left: 0,
                expected: "a whole rule".to_owned(),
                got: None,
            },
        };
        let (line, column) = lines.locate(mistake.left);
        errors.push(SyntaxError {
            file: file.to_owned(),
            line,
            column,
            expected: mistake.expected,
            got: mistake.got.unwrap_or_else(|| token(text, mistake.left)),
        });
    }
    if errors.is_empty() {
        Ok(rules)
    } else {
        Err(SyntaxErrors(errors))
    }
}

/// Where to go on after a mistake: the next line that begins a rule.
fn next_rule(text: &str, left: usize) -> &str {
    let rest = tail(text, left);
    let mut search = rest;
    while let Some(newline) = search.find('\n') {
        search = &search[newline + 1..];
        let begins = search
            .trim_start()
            .strip_prefix('{')
            .map(str::trim_start)
            .is_some_and(|rule| rule.starts_with("allow") || rule.starts_with("deny"));
        if begins {
            return blank(search);
        }
    }
    ""
}

/// The last `left` bytes, or a little less where that would split a character.
fn tail(text: &str, left: usize) -> &str {
    let at = text.len().saturating_sub(left);
    &text[text.ceil_char_boundary(at)..]
}

/// The word that stands at a place, for "got".
fn token(text: &str, left: usize) -> String {
    let rest = tail(text, left);
    let Some(first) = rest.chars().next() else {
        return "the end of the file".to_owned();
    };
    if first == '\n' || first == '\r' {
        return "the end of the line".to_owned();
    }
    let word = |c: char| c.is_alphanumeric() || matches!(c, '_' | '@' | '-');
    let end = if word(first) {
        rest.find(|c| !word(c)).unwrap_or(rest.len())
    } else if first == '"' {
        let closing = rest[1..].find(['"', '\n']);
        closing.map_or(rest.len(), |at| {
            at + 1 + usize::from(rest[1 + at..].starts_with('"'))
        })
    } else {
        first.len_utf8()
    };
    let token = &rest[..end];
    match token.char_indices().nth(40) {
        Some((cut, _)) => format!("`{}...`", &token[..cut]),
        None => format!("`{token}`"),
    }
}

/// Turns places into lines and columns; places mostly come in order, so it goes on where it was.
struct Lines<'a> {
    text: &'a str,
    at: usize,
    line: u32,
}

impl<'a> Lines<'a> {
    fn new(text: &'a str) -> Self {
        Self {
            text,
            at: 0,
            line: 1,
        }
    }

    fn locate(&mut self, left: usize) -> (u32, u32) {
        let target = self.text.len().saturating_sub(left);
        if target < self.at {
            *self = Self::new(self.text);
        }
        while let Some(newline) = self.text[self.at..].find('\n') {
            if self.at + newline >= target {
                break;
            }
            self.at += newline + 1;
            self.line += 1;
        }
        let end = self.text.floor_char_boundary(target.max(self.at));
        let column = self.text[self.at..end].chars().count();
        (
            self.line,
            u32::try_from(column).unwrap_or(u32::MAX).saturating_add(1),
        )
    }
}

fn rule(term: &Term) -> Result<Rule, Mistake> {
    let Value::Tuple(items) = &term.value else {
        return expected(term, "a rule such as `{allow, all}.`");
    };
    let (Some(permission), 2..=4) = (items.first(), items.len()) else {
        return expected(term, "a rule of 2 to 4 parts: {allow, who, action, topics}");
    };
    Ok(Rule {
        permission: match &permission.value {
            Value::Atom(name) if name == "allow" => Permission::Allow,
            Value::Atom(name) if name == "deny" => Permission::Deny,
            _ => return expected(permission, "allow or deny"),
        },
        who: who(&items[1])?,
        action: items.get(2).map_or(Ok(RuleAction::ALL), action)?,
        topics: items.get(3).map(topics).transpose()?,
        line: 0,
    })
}

const WHO: &str = "all, {user, _}, {username, {re, _}}, {client, _}, {clientid, {re, _}}, {ipaddr, _}, {ipaddrs, _}, \
                   {listener, _}, {'and', _} or {'or', _}";

fn who(term: &Term) -> Result<Who, Mistake> {
    let (name, of) = match &term.value {
        Value::Atom(name) if name == "all" => return Ok(Who::All),
        Value::Tuple(items) => match items.as_slice() {
            [
                Term {
                    value: Value::Atom(name),
                    ..
                },
                of,
            ] => (name.as_str(), of),
            _ => return expected(term, WHO),
        },
        _ => return expected(term, WHO),
    };
    match name {
        "user" | "username" => named(of, Who::User, Who::UserRegex),
        "client" | "clientid" => named(of, Who::Client, Who::ClientRegex),
        "ipaddr" => Ok(Who::Addresses(vec![network(of)?])),
        "ipaddrs" => Ok(Who::Addresses(
            list(of, "a list of addresses", 1)?
                .iter()
                .map(network)
                .collect::<Result<_, _>>()?,
        )),
        "listener" => match &of.value {
            Value::Text(name) | Value::Atom(name) => Ok(Who::Listener(name.as_str().into())),
            _ => expected(of, "a listener's name such as \"tcp:default\""),
        },
        "and" => Ok(Who::And(everyone(of)?)),
        "or" => Ok(Who::Or(everyone(of)?)),
        _ => expected(term, WHO),
    }
}

fn everyone(term: &Term) -> Result<Vec<Who>, Mistake> {
    let all = list(term, "a list of at least one who", 1)?;
    all.iter().map(who).collect()
}

/// What follows `user` or `client`: a string, `all`, or `{re, string}`.
fn named(
    term: &Term,
    exact: fn(Box<str>) -> Who,
    regex: fn(regex_lite::Regex) -> Who,
) -> Result<Who, Mistake> {
    match &term.value {
        Value::Text(name) => return Ok(exact(name.as_str().into())),
        // A form of older files, where it means everyone.
        Value::Atom(name) if name == "all" => return Ok(Who::All),
        Value::Tuple(items) => {
            if let [re, source] = items.as_slice()
                && re.value == Value::Atom("re".to_owned())
                && let Value::Text(text) = &source.value
            {
                return regex_lite::Regex::new(text)
                    .map(regex)
                    .map_err(|error| Mistake {
                        left: source.left,
                        expected: "a regular expression".to_owned(),
                        got: Some(format!("{text:?} ({error})")),
                    });
            }
        }
        _ => {}
    }
    expected(term, "a string or {re, \"expression\"}")
}

fn network(term: &Term) -> Result<Cidr, Mistake> {
    let Value::Text(text) = &term.value else {
        return expected(
            term,
            "an address or network as a string, such as \"10.0.0.0/8\"",
        );
    };
    Cidr::parse(text).ok_or_else(|| Mistake {
        left: term.left,
        expected: match text
            .split_once('/')
            .map(|(addr, _)| IpAddr::from_str(addr).is_ok())
        {
            Some(true) => {
                "a prefix length of 0 to 32 for IPv4 or 0 to 128 for IPv6 behind '/'".to_owned()
            }
            _ => "an IPv4 or IPv6 address or network".to_owned(),
        },
        got: Some(format!("{text:?}")),
    })
}

const ACTION: &str = "publish, subscribe, pubsub, all, or one of them with options such as {publish, [{qos, 1}, {retain, false}]}";

fn action(term: &Term) -> Result<RuleAction, Mistake> {
    let (name, options) = match &term.value {
        Value::Atom(name) => (name.as_str(), None),
        Value::Tuple(items) => match items.as_slice() {
            [
                Term {
                    value: Value::Atom(name),
                    ..
                },
                options,
            ] => (name.as_str(), Some(options)),
            _ => return expected(term, ACTION),
        },
        _ => return expected(term, ACTION),
    };
    let mut action = match name {
        "publish" => RuleAction::PUBLISH,
        "subscribe" => RuleAction::SUBSCRIBE,
        "pubsub" | "all" => RuleAction::ALL,
        _ => return expected(term, ACTION),
    };
    if let Some(options) = options {
        // A single option may stand without its list.
        let options = match &options.value {
            Value::Tuple(_) => std::slice::from_ref(options),
            _ => list(options, "a list of options", 0)?,
        };
        for term in options {
            option(term, &mut action)?;
        }
    }
    Ok(action)
}

fn option(term: &Term, action: &mut RuleAction) -> Result<(), Mistake> {
    let wanted = if action.publish {
        "{qos, 0..2} or {retain, true or false}"
    } else {
        "{qos, 0..2}"
    };
    let Value::Tuple(items) = &term.value else {
        return expected(term, wanted);
    };
    let [
        Term {
            value: Value::Atom(name),
            ..
        },
        value,
    ] = items.as_slice()
    else {
        return expected(term, wanted);
    };
    match name.as_str() {
        "qos" => action.qos = qos(value)?,
        "retain" if action.publish => {
            action.retain = match &value.value {
                Value::Atom(name) if name == "true" => Some(true),
                Value::Atom(name) if name == "false" => Some(false),
                Value::Atom(name) if name == "all" => None,
                _ => return expected(value, "true, false or all"),
            }
        }
        _ => return expected(term, wanted),
    }
    Ok(())
}

fn qos(term: &Term) -> Result<[bool; 3], Mistake> {
    let levels = match &term.value {
        Value::Atom(name) if name == "all" => return Ok([true; 3]),
        Value::List(_) => list(term, "a list of at least one QoS", 1)?,
        _ => std::slice::from_ref(term),
    };
    let mut set = [false; 3];
    for level in levels {
        match level.value {
            Value::Integer(0) => set[0] = true,
            Value::Integer(1) => set[1] = true,
            Value::Integer(2) => set[2] = true,
            _ => return expected(level, "QoS 0, 1 or 2"),
        }
    }
    Ok(set)
}

fn topics(term: &Term) -> Result<Vec<TopicPattern>, Mistake> {
    let topics = match &term.value {
        Value::List(_) => list(term, "a list of at least one topic", 1)?,
        // A single topic may stand without its list.
        _ => std::slice::from_ref(term),
    };
    topics.iter().map(topic).collect()
}

fn topic(term: &Term) -> Result<TopicPattern, Mistake> {
    let (term, text, literal) = match &term.value {
        Value::Text(text) => (term, text, false),
        Value::Tuple(items) => match items.as_slice() {
            [
                Term {
                    value: Value::Atom(eq),
                    ..
                },
                of,
            ] if eq == "eq" => match &of.value {
                Value::Text(text) => (of, text, true),
                _ => return expected(of, "a topic filter as a string"),
            },
            _ => return expected(term, "a topic filter or {eq, \"filter\"}"),
        },
        _ => return expected(term, "a topic filter as a string or {eq, \"filter\"}"),
    };
    let parsed = if literal {
        TopicPattern::literal(text)
    } else {
        TopicPattern::filter(text)
    };
    parsed.map_err(|error| Mistake {
        left: term.left,
        expected: "a topic filter".to_owned(),
        got: Some(format!("{text:?} ({error})")),
    })
}

fn list<'t>(term: &'t Term, wanted: &str, least: usize) -> Result<&'t [Term], Mistake> {
    match &term.value {
        Value::List(items) if items.len() >= least => Ok(items),
        _ => expected(term, wanted),
    }
}
