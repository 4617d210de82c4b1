//! The client's half of its topic map (section 7.3).

use std::collections::HashMap;

/// Names and normal ids, one to one.
#[derive(Debug, Default)]
pub(super) struct Topics {
    ids: HashMap<String, u16>,
    names: HashMap<u16, String>,
}

impl Topics {
    pub fn id(&self, name: &str) -> Option<u16> {
        self.ids.get(name).copied()
    }

    pub fn name(&self, id: u16) -> Option<&str> {
        self.names.get(&id).map(String::as_str)
    }

    /// Ties the two; what either was tied to before is forgotten.
    pub fn learn(&mut self, name: &str, id: u16) {
        if let Some(old) = self.ids.insert(name.to_owned(), id) {
            self.names.remove(&old);
        }
        if let Some(old) = self.names.insert(id, name.to_owned())
            && old != name
        {
            self.ids.remove(&old);
        }
    }

    pub fn forget(&mut self, id: u16) {
        if let Some(name) = self.names.remove(&id) {
            self.ids.remove(&name);
        }
    }
}
