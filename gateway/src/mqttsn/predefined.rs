//! Predefined topic ids (MQTT-SN section 6.7): known to both ends beforehand, in a number space of their own.

use std::borrow::Cow;

use foldhash::fast::RandomState;
use hashbrown::HashMap;

/// One predefined topic of the configuration.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PredefinedTopic {
    /// Topic id.
    pub id: u16,
    /// Topic name; `${clientid}` is replaced.
    pub topic: String,
    /// Client ids it is for, `*` standing for any characters; `None` is all.
    pub clients: Option<String>,
}

/// The predefined topics of a listener. An entry for some clients goes before one for all.
#[derive(Debug, Default)]
pub struct Predefined {
    /// Entries with a pattern first.
    entries: Vec<PredefinedTopic>,
    by_id: HashMap<u16, Vec<usize>, RandomState>,
    by_name: HashMap<String, Vec<usize>, RandomState>,
    templates: Vec<usize>,
}

const CLIENT_ID: &str = "${clientid}";

impl Predefined {
    /// A table of these topics.
    #[must_use]
    pub fn new(mut entries: Vec<PredefinedTopic>) -> Self {
        entries.sort_by_key(|entry| entry.clients.is_none());
        let mut table = Self::default();
        for (at, entry) in entries.iter().enumerate() {
            table.by_id.entry(entry.id).or_default().push(at);
            if entry.topic.contains(CLIENT_ID) {
                table.templates.push(at);
            } else {
                table
                    .by_name
                    .entry(entry.topic.clone())
                    .or_default()
                    .push(at);
            }
        }
        table.entries = entries;
        table
    }

    /// All of them, those with a pattern first.
    #[must_use]
    pub fn entries(&self) -> &[PredefinedTopic] {
        &self.entries
    }

    /// The topic name that an id stands for, for this client.
    #[must_use]
    pub fn topic(&self, client_id: &str, id: u16) -> Option<Cow<'_, str>> {
        let entry = self.by_id.get(&id)?.iter().find_map(|&at| {
            let entry = &self.entries[at];
            is_for(entry, client_id).then_some(entry)
        })?;
        name(entry, client_id)
    }

    /// The id that stands for a topic name, for this client.
    #[must_use]
    pub fn id(&self, client_id: &str, topic: &str) -> Option<u16> {
        let named = self.by_name.get(topic).into_iter().flatten();
        named
            .chain(&self.templates)
            .map(|&at| &self.entries[at])
            .find(|entry| {
                is_for(entry, client_id)
                    && name(entry, client_id).as_deref() == Some(topic)
                    // Another entry may take the number for this client.
                    && self.topic(client_id, entry.id).as_deref() == Some(topic)
            })
            .map(|entry| entry.id)
    }
}

fn is_for(entry: &PredefinedTopic, client_id: &str) -> bool {
    entry
        .clients
        .as_deref()
        .is_none_or(|pattern| matches(pattern, client_id))
}

/// The name of an entry; a client id that would break it makes it unknown.
fn name<'a>(entry: &'a PredefinedTopic, client_id: &str) -> Option<Cow<'a, str>> {
    if !entry.topic.contains(CLIENT_ID) {
        return Some(Cow::Borrowed(&entry.topic));
    }
    if client_id.is_empty() || client_id.contains(['/', '+', '#', '\0']) {
        return None;
    }
    Some(Cow::Owned(entry.topic.replace(CLIENT_ID, client_id)))
}

/// Does the text match the pattern, in which `*` stands for any characters?
fn matches(pattern: &str, text: &str) -> bool {
    let (mut p, mut t) = (pattern.as_bytes(), text.as_bytes());
    let mut star: Option<(&[u8], &[u8])> = None;
    loop {
        match (p.first(), t.first()) {
            (Some(b'*'), _) => {
                p = &p[1..];
                star = Some((p, t));
            }
            (Some(a), Some(b)) if a == b => {
                p = &p[1..];
                t = &t[1..];
            }
            (None, None) => return true,
            _ => match star {
                // One character more for the star.
                Some((after, from)) if !from.is_empty() => {
                    star = Some((after, &from[1..]));
                    (p, t) = (after, &from[1..]);
                }
                _ => return false,
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(id: u16, topic: &str, clients: Option<&str>) -> PredefinedTopic {
        PredefinedTopic {
            id,
            topic: topic.to_owned(),
            clients: clients.map(str::to_owned),
        }
    }

    #[test]
    fn patterns_match_any_characters() {
        let rows = [
            ("meter-*", "meter-7", true),
            ("meter-*", "meter", false),
            ("*", "", true),
            ("a*b*c", "axxbyyc", true),
            ("a*b*c", "axxbyy", false),
            ("*ab", "aab", true),
            ("a", "a", true),
            ("a", "b", false),
            ("", "a", false),
        ];
        for (pattern, text, expected) in rows {
            assert_eq!(matches(pattern, text), expected, "{pattern} {text}");
        }
    }

    #[test]
    fn a_pattern_goes_before_the_rest_both_ways() {
        let table = Predefined::new(vec![
            entry(1, "all", None),
            entry(1, "meters/${clientid}", Some("meter-*")),
            entry(2, "both", None),
        ]);
        assert_eq!(table.topic("pump", 1).as_deref(), Some("all"));
        assert_eq!(table.topic("meter-7", 1).as_deref(), Some("meters/meter-7"));
        assert_eq!(table.topic("meter-7", 3), None);
        assert_eq!(table.id("pump", "all"), Some(1));
        // For a meter the number means another topic, so the topic has none.
        assert_eq!(table.id("meter-7", "all"), None);
        assert_eq!(table.id("meter-7", "meters/meter-7"), Some(1));
        assert_eq!(table.id("pump", "meters/pump"), None);
        assert_eq!(table.id("meter-7", "both"), Some(2));
        // What would add levels to the topic.
        assert_eq!(table.topic("meter-/#", 1), None);
    }
}
