//! `config explain`.

use std::fmt::Write as _;

use super::toml_text;
use crate::config::schema::{self, Apply, Default, Key, Node, Place, Table};
use crate::config::{Loaded, sources, suggest};

/// What a key means, its default, its value now and who gave it. A table explains the keys in it.
///
/// # Errors
/// The path is no key; holds the nearest one.
pub fn explain(path: &str, loaded: &Loaded) -> Result<String, Option<String>> {
    // auth.chain[0] is whatever kind stands there.
    let kind = path.split_once('[').and_then(|(list, rest)| {
        let (index, tail) = rest.split_once(']')?;
        index.parse::<usize>().ok()?;
        let kind = loaded.value(&format!("{list}[{index}].kind"))?.as_str()?;
        Some(format!("{list}[{kind}]{tail}"))
    });
    let Some(place) = schema::find(kind.as_deref().unwrap_or(path)) else {
        let known = concrete_leaves(path);
        let last = |path: &str| path.rsplit('.').next().unwrap_or_default().to_owned();
        let near = suggest::nearest(path, known.iter().map(String::as_str)).map(str::to_owned);
        let same_name = || {
            known
                .iter()
                .find(|known| last(known) == last(path))
                .cloned()
        };
        return Err(near.or_else(same_name));
    };
    Ok(match place {
        Place::Leaf(key) => explain_key(path, key, loaded),
        Place::Table(table) => explain_table(path, table),
        Place::Kinds(kinds) => {
            let names: Vec<String> = kinds
                .iter()
                .map(|(name, _)| format!("  {path}[{name}]"))
                .collect();
            format!(
                "{path}\n  An array of tables; the keys of an entry depend on its kind:\n{}\n",
                names.join("\n")
            )
        }
    })
}

/// All keys, with the listener's name of this path in the place of `<name>`.
fn concrete_leaves(path: &str) -> Vec<String> {
    let name = path
        .strip_prefix("listeners.")
        .and_then(|rest| rest.split('.').nth(1))
        .unwrap_or("default");
    schema::leaves()
        .into_iter()
        .map(|(known, _)| known.replace("<name>", name))
        .collect()
}

fn explain_key(path: &str, key: &Key, loaded: &Loaded) -> String {
    let mut out = format!("{path}\n");
    for line in key.doc.lines() {
        let _ = writeln!(out, "  {line}");
    }
    let default = match key.default {
        Default::Is(text) => text.to_owned(),
        Default::Unset(example) if !key.ty.is_secret() => format!("unset (example: {example})"),
        Default::Unset(_) => "unset".to_owned(),
        Default::Required(example) => format!("none, must be set (example: {example})"),
        Default::Named(text) => {
            format!("{text} in the table called `default`, else it must be set")
        }
    };
    let _ = writeln!(out, "  type     {}", key.ty.words());
    let _ = writeln!(out, "  default  {default}");
    match loaded.value(path) {
        Some(value) => {
            let _ = writeln!(out, "  value    {}", toml_text(Some(&key.ty), value));
            let _ = writeln!(out, "  from     {}", loaded.origin(path));
        }
        None => out.push_str("  value    unset\n"),
    }
    let change = match key.apply {
        Apply::Now => "applied by a reload (SIGHUP or `nightjar ctl reload`)",
        Apply::Restart => "needs a restart",
    };
    let _ = writeln!(out, "  change   {change}");
    if !path.contains('[') {
        let _ = writeln!(
            out,
            "  set by   {} or --set {path}=...",
            sources::variable(path)
        );
    }
    out
}

fn explain_table(path: &str, table: &'static Table) -> String {
    let mut out = format!("{path}\n");
    if !table.doc.is_empty() {
        let _ = writeln!(out, "  {}", table.doc);
    }
    let width = table
        .entries
        .iter()
        .map(|(name, _)| name.len())
        .max()
        .unwrap_or(0);
    for (name, node) in &table.entries {
        let text = match node {
            Node::Leaf(key) => key.doc.lines().next().unwrap_or_default(),
            Node::Table(table) | Node::Names(table) | Node::List(table)
                if !table.doc.is_empty() =>
            {
                table.doc
            }
            Node::Table(_) | Node::Names(_) => "A table.",
            Node::List(_) | Node::Kinds(_) => "An array of tables.",
        };
        let _ = writeln!(out, "  {name:width$}  {text}");
    }
    out
}
