//! What changed between two configurations, and what of it a reload can apply.

use std::collections::BTreeSet;

use figment::value::Value;

use super::schema::{self, Apply, Place};
use super::{Loaded, ValueRef, read::join};

/// Keys that differ.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Changes {
    /// Applied by a reload.
    pub now: Vec<String>,
    /// Applied at the next start.
    pub restart: Vec<String>,
}

/// Compares two configurations. A listener that came or went is one entry, `listeners.tcp.lab`; so is an array of
/// tables, `auth.chain`.
pub fn diff(old: &Loaded, new: &Loaded) -> Changes {
    let mut changes = Changes::default();
    walk(&old.tree, &new.tree, "", &mut changes);
    changes
}

fn walk(old: &Value, new: &Value, path: &str, changes: &mut Changes) {
    let (Some(a), Some(b)) = (old.as_dict_ref(), new.as_dict_ref()) else {
        return;
    };
    let names: BTreeSet<&String> = a.keys().chain(b.keys()).collect();
    for name in names {
        let here = join(path, name);
        let (a, b) = (a.get(name), b.get(name));
        if same(a, b) {
            continue;
        }
        match (schema::find(&here), a, b) {
            (Some(Place::Table(_)), Some(a @ Value::Dict(..)), Some(b @ Value::Dict(..))) => {
                walk(a, b, &here, changes)
            }
            (Some(Place::Leaf(key)), ..) if key.apply == Apply::Now => changes.now.push(here),
            // Authenticators and sources.
            (Some(Place::Kinds(_)), ..) => changes.now.push(here),
            _ => changes.restart.push(here),
        }
    }
}

/// Equality of values without figment's tags.
fn same(a: Option<&Value>, b: Option<&Value>) -> bool {
    match (a, b) {
        (None, None) => true,
        (Some(Value::Dict(_, a)), Some(Value::Dict(_, b))) => {
            a.len() == b.len() && a.iter().all(|(name, value)| same(Some(value), b.get(name)))
        }
        (Some(Value::Array(_, a)), Some(Value::Array(_, b))) => {
            a.len() == b.len() && a.iter().zip(b).all(|(a, b)| same(Some(a), Some(b)))
        }
        (Some(a), Some(b)) => a == b,
        _ => false,
    }
}
