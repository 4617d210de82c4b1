//! Each key with its value and who gave it, for the HTTP API and its settings page.

use figment::value::Value;

use super::toml_text;
use crate::config::error::Origin;
use crate::config::read::join;
use crate::config::schema::{self, Apply, Default, Key, Node, Table, Ty};
use crate::config::units::{REDACTED, without_password};
use crate::config::{Loaded, ValueRef};

/// One key of the configuration in force.
#[derive(Debug, Clone)]
pub struct Entry {
    /// Its path: `mqtt.max_qos`, `auth.chain[0].path`.
    pub path: String,
    /// Its place in the schema.
    pub key: &'static Key,
    /// Its value, secrets left out; `None` if it is not set.
    pub value: Option<serde_json::Value>,
    /// Who gave it.
    pub origin: Origin,
}

impl Entry {
    /// Its default as TOML, if it has one.
    pub fn default(&self) -> Option<&'static str> {
        match self.key.default {
            Default::Is(text) | Default::Named(text) if !self.key.ty.is_secret() => Some(text),
            _ => None,
        }
    }

    /// Does a reload apply a change?
    pub fn at_once(&self) -> bool {
        self.key.apply == Apply::Now
    }
}

/// All keys in the order of the reference file.
pub fn entries(loaded: &Loaded) -> Vec<Entry> {
    let mut out = Vec::new();
    table(schema::root(), Some(&loaded.tree), "", loaded, &mut out);
    out
}

fn table(
    of: &'static Table,
    value: Option<&Value>,
    path: &str,
    loaded: &Loaded,
    out: &mut Vec<Entry>,
) {
    let dict = value.and_then(ValueRef::as_dict_ref);
    for (name, node) in &of.entries {
        let here = join(path, name);
        let value = dict.and_then(|dict| dict.get(*name));
        match node {
            Node::Leaf(key) => out.push(Entry {
                origin: loaded.origin(&here),
                value: value.map(|value| shown(&key.ty, value)),
                path: here,
                key,
            }),
            Node::Table(below) => table(below, value, &here, loaded, out),
            Node::Names(below) => {
                for (name, value) in value.and_then(ValueRef::as_dict_ref).into_iter().flatten() {
                    table(below, Some(value), &join(&here, name), loaded, out);
                }
            }
            Node::List(below) => {
                let list = value.and_then(ValueRef::as_array_ref).unwrap_or_default();
                for (at, value) in list.iter().enumerate() {
                    table(below, Some(value), &format!("{here}[{at}]"), loaded, out);
                }
            }
            Node::Kinds(kinds) => {
                let list = value.and_then(ValueRef::as_array_ref).unwrap_or_default();
                for (at, value) in list.iter().enumerate() {
                    let kind = value
                        .as_dict_ref()
                        .and_then(|dict| dict.get("kind"))
                        .and_then(Value::as_str);
                    if let Some((_, below)) = kinds.iter().find(|(name, _)| Some(*name) == kind) {
                        table(below, Some(value), &format!("{here}[{at}]"), loaded, out);
                    }
                }
            }
        }
    }
}

/// A value without what must not be shown.
fn shown(ty: &Ty, value: &Value) -> serde_json::Value {
    if ty.is_secret() {
        return REDACTED.into();
    }
    match value {
        Value::String(_, text) if matches!(ty, Ty::Url) => without_password(text).into(),
        Value::Array(..) | Value::Dict(..) => toml_text(Some(ty), value).into(),
        value => serde_json::to_value(value).unwrap_or_default(),
    }
}
