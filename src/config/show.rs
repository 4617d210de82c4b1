//! The configuration as text: the effective one, one key explained, the reference file, a JSON schema.

use std::collections::HashSet;
use std::fmt::Write as _;

use figment::value::Value;
use serde_json::{Map, json};

use super::error::Origin;
use super::read::join;
use super::schema::{self, Apply, Default, Key, Node, Place, Table, Ty};
use super::sources;
use super::units::REDACTED;
use super::{Loaded, ValueRef, suggest};

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

/// An address with the password of its user replaced.
fn without_password(url: &str) -> String {
    let Some((scheme, rest)) = url.split_once("://") else {
        return url.to_owned();
    };
    let end = rest.find(['/', '?', '#']).unwrap_or(rest.len());
    let (authority, path) = rest.split_at(end);
    match authority.rsplit_once('@') {
        Some((user, host)) => {
            let user = user.split_once(':').map_or(user, |(user, _)| user);
            format!("{scheme}://{user}:{REDACTED}@{host}{path}")
        }
        None => url.to_owned(),
    }
}

/// The effective configuration as TOML, without secrets; with `origins`, each line says who gave its value.
pub fn print(loaded: &Loaded, origins: bool) -> String {
    let mut printer = Printer {
        loaded,
        origins,
        out: String::new(),
    };
    printer.table(schema::root(), &loaded.tree, "", "");
    printer.out
}

struct Printer<'a> {
    loaded: &'a Loaded,
    origins: bool,
    out: String,
}

impl Printer<'_> {
    /// Writes a table: its own values first, as TOML demands, then the tables below it.
    fn table(&mut self, table: &'static Table, value: &Value, path: &str, header: &str) {
        let Some(dict) = value.as_dict_ref() else {
            return;
        };
        let mut lines = String::new();
        for (name, node) in &table.entries {
            if let (Node::Leaf(key), Some(value)) = (node, dict.get(*name)) {
                self.line(&mut lines, name, Some(&key.ty), value, &join(path, name));
            }
        }
        if let Some(kind) = dict.get("kind") {
            let mut first = String::new();
            self.line(&mut first, "kind", None, kind, &join(path, "kind"));
            lines.insert_str(0, &first);
        }
        let empty = lines.is_empty();
        if !header.is_empty() && (!empty || header.starts_with("[[")) {
            if !self.out.is_empty() {
                self.out.push('\n');
            }
            self.out.push_str(header);
            self.out.push('\n');
        }
        self.out.push_str(&lines);
        for (name, node) in &table.entries {
            let (here, Some(value)) = (join(path, name), dict.get(*name)) else {
                continue;
            };
            match node {
                Node::Leaf(_) => {}
                Node::Table(below) => {
                    self.table(below, value, &here, &format!("[{}]", plain(&here)))
                }
                Node::Names(below) => {
                    for (name, value) in value.as_dict_ref().into_iter().flatten() {
                        let here = join(&here, name);
                        self.table(below, value, &here, &format!("[{}]", plain(&here)));
                    }
                }
                Node::List(below) => {
                    for (index, value) in
                        value.as_array_ref().unwrap_or_default().iter().enumerate()
                    {
                        self.table(
                            below,
                            value,
                            &format!("{here}[{index}]"),
                            &format!("[[{}]]", plain(&here)),
                        );
                    }
                }
                Node::Kinds(kinds) => {
                    for (index, value) in
                        value.as_array_ref().unwrap_or_default().iter().enumerate()
                    {
                        let kind = value
                            .as_dict_ref()
                            .and_then(|dict| dict.get("kind"))
                            .and_then(Value::as_str);
                        if let Some((_, below)) = kinds.iter().find(|(name, _)| Some(*name) == kind)
                        {
                            self.table(
                                below,
                                value,
                                &format!("{here}[{index}]"),
                                &format!("[[{}]]", plain(&here)),
                            );
                        }
                    }
                }
            }
        }
    }

    fn line(&self, lines: &mut String, name: &str, ty: Option<&Ty>, value: &Value, path: &str) {
        let text = toml_text(ty, value);
        let origin = self.loaded.origin(path);
        // Writing to a String cannot fail.
        let _ = match (self.origins, origin) {
            (false, _) | (true, Origin::Default) => writeln!(lines, "{name} = {text}"),
            (true, origin) => writeln!(lines, "{name} = {text}  # {origin}"),
        };
    }
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

/// The reference file, etc/nightjar.toml: every key as a comment, with its meaning and its default.
pub fn reference() -> String {
    let mut writer = Reference {
        out: HEAD.to_owned(),
        told: HashSet::new(),
    };
    writer.table(schema::root(), "", "");
    writer.out
}

/// The first lines of the reference file.
const HEAD: &str = "\
# Configuration of Nightjar. Every key is here with its default; no file is needed to start.
#
# To set a key, remove the # before it and before the [table] it stands in.
# `# example` marks a key that has no default, `# must be set` one that its table needs.
#
# The same keys can be given by the environment and on the command line, which win over this file:
#   NIGHTJAR_MQTT__MAX_QOS=1           two underscores between the parts; with _FILE at its end, a variable names
#                                      a file that holds the value (a Docker or Kubernetes secret)
#   nightjar serve --set mqtt.max_qos=1
# `nightjar config explain KEY` says what a key is, what it is now and who set it; `nightjar check` checks everything.
# Durations are written 500ms, 15s, 1m, 2h, 30d; sizes 64KB (64,000 bytes), 1MiB (1,048,576); \"off\" is no limit.
#
# In Docker: mount this file at /etc/nightjar/nightjar.toml and a volume at /var/lib/nightjar.
# Behind HAProxy (send-proxy-v2) or NGINX stream (proxy_protocol on): set proxy_protocol and trusted_proxies below.
";

struct Reference {
    out: String,
    /// Keys explained already: listeners and databases share many.
    told: HashSet<(&'static str, &'static str)>,
}

impl Reference {
    fn table(&mut self, table: &'static Table, path: &str, header: &str) {
        let has_leaf = table
            .entries
            .iter()
            .any(|(_, node)| matches!(node, Node::Leaf(_)));
        if has_leaf || header.starts_with("#[[") {
            self.out.push('\n');
            self.doc(table.doc);
            if !header.is_empty() {
                self.out.push_str(header);
                self.out.push('\n');
            }
        }
        if let Some((_, kind)) = path
            .strip_suffix(']')
            .and_then(|path| path.rsplit_once('['))
        {
            let _ = writeln!(self.out, "#kind = \"{kind}\"");
        }
        self.leaves(table);
        for (name, node) in &table.entries {
            let here = join(path, name);
            match node {
                Node::Leaf(_) => {}
                Node::Table(below) => {
                    // The overrides of a listener are the keys of [mqtt]: said once, not repeated five times.
                    if *name == "mqtt" && path.starts_with("listeners.") {
                        self.overrides(below, &here);
                    } else {
                        self.table(below, &here, &format!("#[{}]", plain(&here)));
                    }
                }
                Node::Names(below) => {
                    let here = join(&here, "default");
                    self.table(below, &here, &format!("#[{here}]"));
                }
                Node::List(below) => self.table(below, &here, &format!("#[[{}]]", plain(&here))),
                Node::Kinds(kinds) => {
                    for (kind, below) in kinds {
                        self.table(below, &format!("{here}[{kind}]"), &format!("#[[{here}]]"));
                    }
                }
            }
        }
    }

    fn overrides(&mut self, table: &'static Table, path: &str) {
        self.out.push('\n');
        if self.told.insert(("mqtt", table.doc)) {
            self.doc(table.doc);
        }
        let _ = writeln!(self.out, "#[{path}]");
        if let Some(Node::Leaf(key)) = table.get("max_packet_size") {
            let _ = writeln!(
                self.out,
                "#max_packet_size = {}  # example",
                key.default.text()
            );
        }
    }

    fn leaves(&mut self, table: &'static Table) {
        for (name, node) in &table.entries {
            let Node::Leaf(key) = node else { continue };
            if self.told.insert((name, key.doc)) {
                self.doc(key.doc);
            }
            let note = match key.default {
                Default::Is(_) | Default::Named(_) => "",
                Default::Unset(_) => "  # example",
                Default::Required(_) => "  # must be set",
            };
            let _ = writeln!(self.out, "#{name} = {}{note}", key.default.text());
        }
    }

    fn doc(&mut self, text: &str) {
        for line in text.lines() {
            let _ = writeln!(self.out, "# {line}");
        }
    }
}

/// A JSON schema (draft 2020-12) of the configuration file, for editors.
pub fn json_schema() -> serde_json::Value {
    let mut schema = table_schema(schema::root(), None);
    schema["$schema"] = json!("https://json-schema.org/draft/2020-12/schema");
    schema["title"] = json!("nightjar.toml");
    schema
}

fn table_schema(table: &'static Table, kind: Option<&str>) -> serde_json::Value {
    let mut properties = Map::new();
    let mut required = Vec::new();
    if let Some(kind) = kind {
        properties.insert("kind".into(), json!({ "const": kind }));
        required.push("kind".to_owned());
    }
    for (name, node) in &table.entries {
        let schema = match node {
            Node::Leaf(key) => {
                if matches!(key.default, Default::Required(_)) {
                    required.push((*name).to_owned());
                }
                let mut schema = type_schema(&key.ty);
                schema["description"] = json!(key.doc);
                schema
            }
            Node::Table(below) => table_schema(below, None),
            Node::Names(below) => {
                json!({ "type": "object", "additionalProperties": table_schema(below, None) })
            }
            Node::List(below) => json!({ "type": "array", "items": table_schema(below, None) }),
            Node::Kinds(kinds) => {
                let all: Vec<_> = kinds
                    .iter()
                    .map(|(kind, below)| table_schema(below, Some(kind)))
                    .collect();
                json!({ "type": "array", "items": { "oneOf": all } })
            }
        };
        properties.insert((*name).to_owned(), schema);
    }
    let mut schema =
        json!({ "type": "object", "properties": properties, "additionalProperties": false });
    if !required.is_empty() {
        schema["required"] = json!(required);
    }
    schema
}

fn type_schema(ty: &Ty) -> serde_json::Value {
    match ty {
        Ty::Bool => json!({ "type": "boolean" }),
        Ty::Int(low, high) => json!({ "type": "integer", "minimum": low, "maximum": high }),
        Ty::Float(low, high) => json!({ "type": "number", "minimum": low, "maximum": high }),
        Ty::Word(words) => json!({ "enum": words }),
        Ty::Off(inner) => json!({ "anyOf": [{ "const": "off" }, type_schema(inner)] }),
        Ty::List(inner) => json!({ "type": "array", "items": type_schema(inner) }),
        Ty::Map(inner) => json!({ "type": "object", "additionalProperties": type_schema(inner) }),
        Ty::Size | Ty::Addr => json!({ "type": ["string", "integer"] }),
        _ => json!({ "type": "string" }),
    }
}
