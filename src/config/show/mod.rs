//! The configuration as text: the effective one, one key explained, the reference file, a JSON schema.

mod entries;
mod explain;
mod json;
mod print;
mod reference;

pub use entries::{Entry, entries};
pub use explain::explain;
pub use json::json_schema;
pub use print::print;
pub use reference::reference;

use figment::value::Value;

use super::schema::Ty;
use super::units::{REDACTED, without_password};

/// A value as TOML, secrets left out.
fn toml_text(ty: Option<&Ty>, value: &Value) -> String {
    if ty.is_some_and(Ty::is_secret) && !matches!(value, Value::Dict(..) | Value::Array(..)) {
        return format!("\"{REDACTED}\"");
    }
    let inner = match ty {
        Some(Ty::List(inner) | Ty::Map(inner)) => Some(*inner),
        other => other,
    };
    match value {
        Value::String(_, text) if matches!(ty, Some(Ty::Url)) => quote(&without_password(text)),
        Value::String(_, text) => quote(text),
        Value::Char(_, c) => quote(&c.to_string()),
        Value::Bool(_, value) => value.to_string(),
        Value::Num(_, number) => match (number.to_i128(), number.to_f64()) {
            (Some(whole), _) => whole.to_string(),
            (None, Some(float)) => format!("{float:?}"),
            (None, None) => number.to_u128().unwrap_or_default().to_string(),
        },
        Value::Empty(..) => "\"\"".into(),
        Value::Array(_, list) => {
            let all: Vec<String> = list.iter().map(|value| toml_text(inner, value)).collect();
            format!("[{}]", all.join(", "))
        }
        Value::Dict(_, dict) if dict.is_empty() => "{}".into(),
        Value::Dict(_, dict) => {
            let all: Vec<String> = dict
                .iter()
                .map(|(name, value)| format!("{} = {}", bare(name), toml_text(inner, value)))
                .collect();
            format!("{{ {} }}", all.join(", "))
        }
    }
}

/// A text as a TOML string.
fn quote(text: &str) -> String {
    toml::Value::String(text.to_owned()).to_string()
}

/// A key as TOML writes it.
fn bare(name: &str) -> String {
    let plain = !name.is_empty()
        && name
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || b == b'_' || b == b'-');
    if plain { name.to_owned() } else { quote(name) }
}

/// A path as a TOML header writes it: without the indexes of arrays.
fn plain(path: &str) -> String {
    let mut out = String::new();
    let mut inside = false;
    for c in path.chars() {
        match c {
            '[' => inside = true,
            ']' => inside = false,
            c if !inside => out.push(c),
            _ => {}
        }
    }
    out
}
