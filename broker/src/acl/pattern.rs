//! Topics of a rule: filters, literal filters, and placeholders that a client's own values fill.

use std::cell::{Cell, OnceCell};
use std::fmt;
use std::net::IpAddr;

use nightjar_mqtt::topic::{TopicError, validate_topic_filter};

use super::filter::{PatternLevel, covers_levels, overlaps_levels};
use super::rule::Quoted;
use crate::access::ClientInfo;

/// A value of the client that a topic may hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Placeholder {
    /// `${username}`, `%u`.
    Username,
    /// `${clientid}`, `%c`.
    ClientId,
    /// `${peerhost}`, `%a`: the client's address without port.
    PeerHost,
    /// `${cert_cn}`, `%C`: common name of the client certificate.
    CertCommonName,
    /// `${cert_dn}`, `%d`: distinguished name of the client certificate.
    CertSubject,
}

impl Placeholder {
    /// Every placeholder with its long name and its letter.
    pub const NAMES: [(Self, &'static str, char); 5] = [
        (Self::Username, "username", 'u'),
        (Self::ClientId, "clientid", 'c'),
        (Self::PeerHost, "peerhost", 'a'),
        (Self::CertCommonName, "cert_cn", 'C'),
        (Self::CertSubject, "cert_dn", 'd'),
    ];

    /// The placeholder of this name (`username` of `${username}`).
    pub fn by_name(name: &str) -> Option<Self> {
        let mut names = Self::NAMES.iter();
        names.find(|(_, n, _)| *n == name).map(|(p, _, _)| *p)
    }

    /// The placeholder of this letter (`u` of `%u`).
    pub fn by_letter(letter: char) -> Option<Self> {
        let mut names = Self::NAMES.iter();
        names.find(|(_, _, l)| *l == letter).map(|(p, _, _)| *p)
    }

    fn bit(self) -> u8 {
        1 << (self as u8)
    }
}

/// Why a text is not a topic of a rule.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum PatternError {
    /// It is not a valid topic filter.
    #[error(transparent)]
    Filter(#[from] TopicError),
    /// `${name}` with a name that does not exist.
    #[error(
        "expected ${{username}}, ${{clientid}}, ${{peerhost}}, ${{cert_cn}} or ${{cert_dn}}, got ${{{0}}}"
    )]
    UnknownPlaceholder(String),
    /// `${` without `}`.
    #[error("expected '}}' after '${{'")]
    Unclosed,
    /// More levels than [`MAX_LEVELS`].
    #[error("expected at most {MAX_LEVELS} levels, got {0}")]
    TooDeep(usize),
}

/// Levels a topic of a rule may have: the walk over them recurses, and rules may come from a token or a table.
pub const MAX_LEVELS: usize = 256;

/// A topic filter of a rule.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TopicPattern {
    text: Box<str>,
    /// Written as `{eq, F}`.
    eq: bool,
    /// Compared as text only. `{eq, F}` without wildcards is the same as `F` and is treated so, because a denied topic
    /// must not leak through a wider subscription.
    literal: bool,
    levels: Box<[Level]>,
    /// Bits of the placeholders it holds.
    uses: u8,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Level {
    Plus,
    Hash,
    Text(Box<str>),
    Template(Box<[Part]>),
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Part {
    Text(Box<str>),
    Value(Placeholder),
}

impl TopicPattern {
    /// Reads a filter with placeholders. `${name}` may stand anywhere, `%u` and its like only as a whole level, because
    /// a percent sign is an ordinary character elsewhere.
    ///
    /// # Errors
    /// [`PatternError`] if it is no valid filter or a placeholder is unknown.
    pub fn filter(text: &str) -> Result<Self, PatternError> {
        Self::new(text, false)
    }

    /// Reads a literal filter, `{eq, F}`: it matches a subscription of this very text, not what the text matches.
    ///
    /// # Errors
    /// As [`Self::filter`].
    pub fn literal(text: &str) -> Result<Self, PatternError> {
        Self::new(text, true)
    }

    fn new(text: &str, eq: bool) -> Result<Self, PatternError> {
        let depth = nightjar_mqtt::topic::levels(text);
        if depth > MAX_LEVELS {
            return Err(PatternError::TooDeep(depth));
        }
        let levels = text.split('/').map(level).collect::<Result<Box<_>, _>>()?;
        // Placeholders hold `$`, `{`, `}` and `%` only, so the check of wildcards and length sees through them.
        validate_topic_filter(text)?;
        let mut uses = 0;
        for level in &levels {
            if let Level::Template(parts) = level {
                for part in parts {
                    if let Part::Value(value) = part {
                        uses |= value.bit();
                    }
                }
            }
        }
        let wild = levels
            .iter()
            .any(|l| matches!(l, Level::Plus | Level::Hash));
        Ok(Self {
            text: text.into(),
            eq,
            literal: eq && wild,
            levels,
            uses,
        })
    }

    /// The text as written.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// True if it is compared as text only.
    pub(super) fn is_literal(&self) -> bool {
        self.literal
    }

    pub(super) fn levels(&self) -> &[Level] {
        &self.levels
    }

    pub(super) fn has_placeholder(&self) -> bool {
        self.uses != 0
    }

    /// True if it matches all of the asked filter or topic name.
    pub(super) fn covers(&self, asked: &str, subject: &Subject<'_>) -> bool {
        if !self.usable(subject) {
            return false;
        }
        if self.literal {
            return self.reads(asked, subject);
        }
        covers_levels(self.resolved(subject), asked)
    }

    /// True if it matches at least one topic that the asked filter matches.
    pub(super) fn overlaps(&self, asked: &str, subject: &Subject<'_>) -> bool {
        !self.literal && self.usable(subject) && overlaps_levels(self.resolved(subject), asked)
    }

    fn resolved<'s, 'c>(
        &'s self,
        subject: &'s Subject<'c>,
    ) -> impl Iterator<Item = Resolved<'s, 'c>> {
        self.levels
            .iter()
            .map(move |level| Resolved { level, subject })
    }

    /// The placeholders have values that cannot widen the pattern.
    fn usable(&self, subject: &Subject<'_>) -> bool {
        if self.uses == 0 {
            return true;
        }
        self.uses & !subject.usable() == 0 && !self.begins_with_foreign_dollar(subject)
    }

    /// A value in front that begins with `$` would turn `${clientid}/#` into `$SYS/#` at the client's will.
    fn begins_with_foreign_dollar(&self, subject: &Subject<'_>) -> bool {
        let Some(Level::Template(parts)) = self.levels.first() else {
            return false;
        };
        for part in parts {
            match part {
                Part::Text(_) => return false,
                Part::Value(value) => match subject.value(*value) {
                    Some("") => {}
                    Some(value) => return value.starts_with('$'),
                    None => return true,
                },
            }
        }
        false
    }

    fn reads(&self, asked: &str, subject: &Subject<'_>) -> bool {
        let mut asked = asked.split('/');
        self.levels.iter().all(|level| {
            asked.next().is_some_and(|text| match level {
                Level::Plus => text == "+",
                Level::Hash => text == "#",
                level => Resolved { level, subject }.is_text(text),
            })
        }) && asked.next().is_none()
    }
}

impl fmt::Display for TopicPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.eq {
            write!(f, "{{eq, {}}}", Quoted(&self.text))
        } else {
            write!(f, "{}", Quoted(&self.text))
        }
    }
}

fn level(text: &str) -> Result<Level, PatternError> {
    match text {
        "+" => return Ok(Level::Plus),
        "#" => return Ok(Level::Hash),
        _ => {}
    }
    let mut chars = text.chars();
    if let (Some('%'), Some(letter), None) = (chars.next(), chars.next(), chars.next())
        && let Some(value) = Placeholder::by_letter(letter)
    {
        return Ok(Level::Template([Part::Value(value)].into()));
    }
    let mut parts = Vec::new();
    let mut rest = text;
    while let Some(at) = rest.find("${") {
        let (name, after) = rest[at + 2..]
            .split_once('}')
            .ok_or(PatternError::Unclosed)?;
        let value = Placeholder::by_name(name)
            .ok_or_else(|| PatternError::UnknownPlaceholder(name.to_owned()))?;
        if at > 0 {
            parts.push(Part::Text(rest[..at].into()));
        }
        parts.push(Part::Value(value));
        rest = after;
    }
    if parts.is_empty() {
        return Ok(Level::Text(text.into()));
    }
    if !rest.is_empty() {
        parts.push(Part::Text(rest.into()));
    }
    Ok(Level::Template(parts.into()))
}

/// A client with what rules ask of it, worked out once for each question.
pub(super) struct Subject<'a> {
    pub client: &'a ClientInfo,
    pub peer: IpAddr,
    peerhost: OnceCell<String>,
    usable: Cell<Option<u8>>,
}

impl<'a> Subject<'a> {
    pub fn new(client: &'a ClientInfo) -> Self {
        Self {
            client,
            peer: client.peer.ip().to_canonical(),
            peerhost: OnceCell::new(),
            usable: Cell::new(None),
        }
    }

    /// The value of a placeholder, `None` if the client has none.
    pub fn value(&self, placeholder: Placeholder) -> Option<&str> {
        match placeholder {
            Placeholder::Username => self.client.username.as_deref(),
            Placeholder::ClientId => Some(&self.client.client_id),
            Placeholder::PeerHost => Some(self.peerhost.get_or_init(|| self.peer.to_string())),
            Placeholder::CertCommonName => self.client.cert_common_name.as_deref(),
            Placeholder::CertSubject => self.client.cert_subject.as_deref(),
        }
    }

    /// Bits of the placeholders whose values are there and hold no `+`, `#`, `/` or U+0000.
    fn usable(&self) -> u8 {
        if let Some(bits) = self.usable.get() {
            return bits;
        }
        let clean = |value: &str| !value.bytes().any(|b| matches!(b, b'+' | b'#' | b'/' | 0));
        let bits = Placeholder::NAMES
            .iter()
            .filter(|(p, _, _)| match p {
                Placeholder::PeerHost => true,
                p => self.value(*p).is_some_and(clean),
            })
            .fold(0, |bits, (p, _, _)| bits | p.bit());
        self.usable.set(Some(bits));
        bits
    }
}

/// A level of a pattern with the client whose values fill it.
#[derive(Clone, Copy)]
struct Resolved<'s, 'c> {
    level: &'s Level,
    subject: &'s Subject<'c>,
}

impl PatternLevel for Resolved<'_, '_> {
    fn is_plus(self) -> bool {
        matches!(self.level, Level::Plus)
    }

    fn is_hash(self) -> bool {
        matches!(self.level, Level::Hash)
    }

    fn is_text(self, text: &str) -> bool {
        match self.level {
            Level::Text(own) => **own == *text,
            Level::Template(parts) => {
                let mut rest = text;
                for part in parts {
                    let part = match part {
                        Part::Text(part) => part,
                        Part::Value(value) => match self.subject.value(*value) {
                            Some(value) => value,
                            None => return false,
                        },
                    };
                    match rest.strip_prefix(part) {
                        Some(after) => rest = after,
                        None => return false,
                    }
                }
                rest.is_empty()
            }
            Level::Plus | Level::Hash => false,
        }
    }

    fn is_dollar(self) -> bool {
        match self.level {
            Level::Text(text) => text.starts_with('$'),
            // A value in front never begins with `$` here: `usable` said so.
            Level::Template(parts) => {
                matches!(parts.first(), Some(Part::Text(text)) if text.starts_with('$'))
            }
            Level::Plus | Level::Hash => false,
        }
    }
}
