//! The topic ids of one client (MQTT-SN section 6.5): one map, whichever side registered.

use foldhash::fast::RandomState;
use hashbrown::HashMap;
use nightjar_mqtt::TopicName;

/// Octets of topic names that one client may register.
const MAX_BYTES: usize = 256 << 10;
/// From so many topics on a table finds them by name.
const INDEXED: usize = 16;

#[derive(Debug, Clone)]
struct Entry {
    id: u16,
    name: TopicName,
    /// The client knows it: it asked for it, or said REGACK.
    known: bool,
    used: u32,
}

/// The map; its names are those the client uses, without a mountpoint.
#[derive(Debug, Default)]
pub(super) struct Topics {
    /// By id.
    entries: Vec<Entry>,
    by_name: Option<Box<HashMap<TopicName, u16, RandomState>>>,
    last: u16,
    clock: u32,
    bytes: usize,
}

/// No room for another topic.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Full;

impl Topics {
    fn position(&self, id: u16) -> Result<usize, usize> {
        self.entries.binary_search_by_key(&id, |entry| entry.id)
    }

    pub fn name(&self, id: u16) -> Option<&TopicName> {
        self.position(id).ok().map(|at| &self.entries[at].name)
    }

    /// The id of a name, and whether the client knows it.
    pub fn find(&self, name: &str) -> Option<(u16, bool)> {
        if let Some(by_name) = &self.by_name {
            let id = *by_name.get(name)?;
            let at = self.position(id).ok()?;
            return Some((id, self.entries[at].known));
        }
        let entry = self
            .entries
            .iter()
            .find(|entry| entry.name.as_str() == name)?;
        Some((entry.id, entry.known))
    }

    /// Notes that an id is used, for the choice of the one to give away.
    pub fn touch(&mut self, id: u16) {
        self.clock = self.clock.wrapping_add(1);
        if let Ok(at) = self.position(id) {
            self.entries[at].used = self.clock;
        }
    }

    pub fn known(&mut self, id: u16) {
        if let Ok(at) = self.position(id) {
            self.entries[at].known = true;
        }
    }

    /// A new id for a name that has none.
    pub fn insert(&mut self, name: TopicName, known: bool, max: usize) -> Result<u16, Full> {
        if self.entries.len() >= max.min(65_534) || self.bytes + name.len() > MAX_BYTES {
            return Err(Full);
        }
        let mut id = self.last;
        let at = loop {
            // 0x0000 and 0xFFFF are reserved.
            id = if id >= 0xFFFE { 1 } else { id + 1 };
            if let Err(at) = self.position(id) {
                break at;
            }
        };
        self.put(at, id, name, known);
        Ok(id)
    }

    /// Gives the id of one topic to another; false if even so there is no room.
    pub fn replace(&mut self, id: u16, name: TopicName) -> bool {
        self.remove(id);
        match self.position(id) {
            Err(at) if self.bytes + name.len() <= MAX_BYTES => {
                self.put(at, id, name, false);
                true
            }
            _ => false,
        }
    }

    /// As it was stored.
    pub fn restore(&mut self, id: u16, name: TopicName) {
        self.remove(id);
        if let Err(at) = self.position(id) {
            self.put(at, id, name, true);
        }
    }

    fn put(&mut self, at: usize, id: u16, name: TopicName, known: bool) {
        self.last = id;
        self.clock = self.clock.wrapping_add(1);
        self.bytes += name.len();
        if let Some(by_name) = &mut self.by_name {
            by_name.insert(name.clone(), id);
        }
        // Most clients have one topic or two.
        if self.entries.len() < 4 {
            self.entries.reserve_exact(1);
        }
        self.entries.insert(
            at,
            Entry {
                id,
                name,
                known,
                used: self.clock,
            },
        );
        if self.by_name.is_none() && self.entries.len() > INDEXED {
            let names = self.entries.iter();
            self.by_name = Some(Box::new(
                names.map(|entry| (entry.name.clone(), entry.id)).collect(),
            ));
        }
    }

    pub fn remove(&mut self, id: u16) -> Option<TopicName> {
        let entry = self.entries.remove(self.position(id).ok()?);
        self.bytes -= entry.name.len();
        if let Some(by_name) = &mut self.by_name {
            by_name.remove(&entry.name);
        }
        Some(entry.name)
    }

    /// The id that was not used for longest.
    pub fn oldest(&self) -> Option<u16> {
        self.entries
            .iter()
            .max_by_key(|entry| self.clock.wrapping_sub(entry.used))
            .map(|entry| entry.id)
    }

    pub fn iter(&self) -> impl Iterator<Item = (u16, &TopicName)> {
        self.entries.iter().map(|entry| (entry.id, &entry.name))
    }

    #[cfg(test)]
    pub const fn len(&self) -> usize {
        self.entries.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(text: impl AsRef<str>) -> TopicName {
        TopicName::new(text.as_ref()).unwrap()
    }

    #[test]
    fn ids_are_found_both_ways_and_never_reserved() {
        let mut topics = Topics {
            last: 0xFFFD,
            ..Topics::default()
        };
        let ids: Vec<u16> = (0..40)
            .map(|n| {
                topics
                    .insert(name(format!("t/{n}")), n % 2 == 0, 100)
                    .unwrap()
            })
            .collect();
        assert_eq!(ids[..3], [0xFFFE, 1, 2]);
        for (n, id) in ids.iter().enumerate() {
            assert_eq!(topics.find(&format!("t/{n}")), Some((*id, n % 2 == 0)));
            assert_eq!(topics.name(*id).unwrap().as_str(), format!("t/{n}"));
        }
        assert_eq!(topics.remove(2).unwrap().as_str(), "t/2");
        assert_eq!((topics.find("t/2"), topics.name(2)), (None, None));
    }

    #[test]
    fn the_map_is_full_by_number_and_by_octets() {
        let mut topics = Topics::default();
        assert_eq!(topics.insert(name("a"), true, 2), Ok(1));
        assert_eq!(topics.insert(name("b"), true, 2), Ok(2));
        assert_eq!(topics.insert(name("c"), true, 2), Err(Full));
        topics.touch(1);
        assert_eq!(topics.oldest(), Some(2));
        topics.remove(2);
        assert_eq!(topics.insert(name("c"), true, 2), Ok(3));
        let long = name("x".repeat(60_000));
        let taken =
            (0..10).filter(|n| topics.insert(name(format!("{n}{long}")), true, 100).is_ok());
        assert_eq!(taken.count(), 4);
    }
}
