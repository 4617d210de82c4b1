//! One layer of the configuration: values that fit the schema, and where each of them was written.
//!
//! Layers are merged by figment, whose tags say which layer a merged value came from; the exact place (line and column,
//! variable) is kept here beside it, because figment does not know spans.

use std::collections::BTreeMap;

use figment::value::{Dict, Map, Value};
use figment::{Metadata, Profile, Provider};

use super::error::Origin;

/// Values of one source.
#[derive(Debug, Default, Clone)]
pub struct Layer {
    /// Number of the layer, its name in figment's metadata.
    pub number: usize,
    /// The values.
    pub data: Dict,
    /// Paths that were written, with their place. A path below a written one that is missing here is a default.
    pub given: BTreeMap<String, Origin>,
}

impl Layer {
    /// Puts a value at a path of plain names, making the tables above it.
    pub fn insert(&mut self, path: &[String], value: Value) {
        let Some((last, above)) = path.split_last() else {
            return;
        };
        let mut table = &mut self.data;
        for name in above {
            let entry = table
                .entry(name.clone())
                .or_insert_with(|| Value::from(Dict::new()));
            if !matches!(entry, Value::Dict(..)) {
                *entry = Value::from(Dict::new());
            }
            let Value::Dict(_, below) = entry else {
                return;
            };
            table = below;
        }
        match (table.get_mut(last), value) {
            // A table given whole and a key of it given alone, as two variables may, add up.
            (Some(Value::Dict(_, old)), Value::Dict(_, new)) => old.extend(new),
            (_, value) => {
                table.insert(last.clone(), value);
            }
        }
    }

    /// Names under a table of the user's own names, such as `listeners.tcp`.
    pub fn names(&self, path: &[&str]) -> Vec<String> {
        let mut table = &self.data;
        for name in path {
            match table.get(*name) {
                Some(Value::Dict(_, below)) => table = below,
                _ => return Vec::new(),
            }
        }
        table.keys().cloned().collect()
    }
}

impl Provider for Layer {
    fn metadata(&self) -> Metadata {
        Metadata::named(self.number.to_string())
    }

    fn data(&self) -> figment::Result<Map<Profile, Dict>> {
        Ok(Map::from([(Profile::Default, self.data.clone())]))
    }
}
