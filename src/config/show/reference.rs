//! `config default`, which is etc/nightjar.toml.

use std::collections::HashSet;
use std::fmt::Write as _;

use super::plain;
use crate::config::read::join;
use crate::config::schema::{self, Default, Node, Table};

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
