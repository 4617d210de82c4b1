//! `config print`.

use std::fmt::Write as _;

use figment::value::Value;

use super::{plain, toml_text};
use crate::config::error::Origin;
use crate::config::read::join;
use crate::config::schema::{self, Node, Table, Ty};
use crate::config::{Loaded, ValueRef};

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
