//! What an import makes: a configuration, files beside it, and one row for each line of the source.

use std::path::{Path, PathBuf};

use toml::{Table, Value};

use crate::config;

/// What became of a line of the source.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// It means the same here.
    Mapped,
    /// What it does here differs a little: the note says how.
    Approximated,
    /// It is not done here.
    Unsupported,
    /// Nothing here needs it.
    NotNeeded,
}

/// A line of the source.
#[derive(Debug, Clone, Default)]
pub struct At {
    /// The file as it was named.
    pub file: PathBuf,
    /// Line, from 1; 0 is the file as a whole.
    pub line: usize,
    /// Key as it is written there.
    pub key: String,
}

/// One row of the table.
#[derive(Debug, Clone)]
pub struct Row {
    at: At,
    /// Key as it is written there.
    pub key: String,
    /// What became of it.
    pub outcome: Outcome,
    /// The key here, empty if there is none.
    pub target: String,
    /// What differs, or what to do.
    pub note: String,
}

impl Row {
    /// `file:line`.
    pub fn place(&self) -> String {
        if self.at.line == 0 {
            self.at.file.display().to_string()
        } else {
            format!("{}:{}", self.at.file.display(), self.at.line)
        }
    }
}

/// How many rows there are of each outcome.
#[derive(Debug, Default)]
pub struct Counts {
    /// See [`Outcome::Mapped`].
    pub mapped: usize,
    /// See [`Outcome::Approximated`].
    pub approximated: usize,
    /// See [`Outcome::Unsupported`].
    pub unsupported: usize,
    /// See [`Outcome::NotNeeded`].
    pub not_needed: usize,
}

/// The result of an import while it is made.
#[derive(Debug)]
pub struct Plan {
    /// Where the files will stand.
    place: PathBuf,
    table: Table,
    rows: Vec<Row>,
    files: Vec<(&'static str, String)>,
}

impl Plan {
    /// An empty plan for files that will stand in a directory.
    pub fn new(place: PathBuf) -> Self {
        Self {
            place,
            table: Table::new(),
            rows: Vec::new(),
            files: Vec::new(),
        }
    }

    /// The rows, in the order of the source.
    pub fn rows(&self) -> &[Row] {
        &self.rows
    }

    /// The files beside nightjar.toml.
    pub fn files(&self) -> impl Iterator<Item = (&'static str, &str)> {
        self.files.iter().map(|(name, text)| (*name, text.as_str()))
    }

    /// Rows by outcome.
    pub fn counts(&self) -> Counts {
        let mut counts = Counts::default();
        for row in &self.rows {
            match row.outcome {
                Outcome::Mapped => counts.mapped += 1,
                Outcome::Approximated => counts.approximated += 1,
                Outcome::Unsupported => counts.unsupported += 1,
                Outcome::NotNeeded => counts.not_needed += 1,
            }
        }
        counts
    }

    /// Sets a key, `listeners.tcp.default.bind`, without a row of its own.
    pub fn set(&mut self, path: &str, value: impl Into<Value>) {
        let mut table = &mut self.table;
        let mut parts = path.split('.').peekable();
        while let Some(part) = parts.next() {
            if parts.peek().is_none() {
                table.insert(part.to_owned(), value.into());
                return;
            }
            let below = table
                .entry(part)
                .or_insert_with(|| Value::Table(Table::new()));
            let Value::Table(next) = below else { return };
            table = next;
        }
    }

    /// The value of a key that was set.
    pub fn get(&self, path: &str) -> Option<&Value> {
        let mut parts = path.split('.');
        let mut value = self.table.get(parts.next()?)?;
        for part in parts {
            value = value.as_table()?.get(part)?;
        }
        Some(value)
    }

    fn remove(&mut self, path: &str) -> bool {
        let Some((above, name)) = path.rsplit_once('.') else {
            return self.table.remove(path).is_some();
        };
        let mut table = &mut self.table;
        for part in above.split('.') {
            let Some(Value::Table(next)) = table.get_mut(part) else {
                return false;
            };
            table = next;
        }
        table.remove(name).is_some()
    }

    /// Adds an entry to a list of tables: `auth.chain`, `acl.sources`, `listeners.mqttsn.default.predefined`.
    pub fn push(&mut self, path: &str, entry: Table) {
        let mut list = match self.get(path) {
            Some(Value::Array(list)) => list.clone(),
            _ => Vec::new(),
        };
        list.push(Value::Table(entry));
        self.set(path, Value::Array(list));
    }

    /// Adds a file beside nightjar.toml, or to the end of the one there is, and returns its path as the configuration
    /// names it.
    pub fn file(&mut self, name: &'static str, text: String) -> String {
        match self.files.iter_mut().find(|(known, _)| *known == name) {
            Some((_, before)) => before.push_str(&text),
            None => self.files.push((name, text)),
        }
        self.place.join(name).display().to_string()
    }

    /// A line that means the same here.
    pub fn mapped(&mut self, at: &At, path: &str, value: impl Into<Value>) {
        self.set(path, value);
        self.row(at, Outcome::Mapped, path, "");
    }

    /// A line that is set here with a difference.
    pub fn approximated(&mut self, at: &At, path: &str, value: impl Into<Value>, note: &str) {
        self.set(path, value);
        self.row(at, Outcome::Approximated, path, note);
    }

    /// A line that does nothing here.
    pub fn unsupported(&mut self, at: &At, note: &str) {
        self.row(at, Outcome::Unsupported, "", note);
    }

    /// A line that nothing here needs.
    pub fn not_needed(&mut self, at: &At, note: &str) {
        self.row(at, Outcome::NotNeeded, "", note);
    }

    /// Adds a row.
    pub fn row(&mut self, at: &At, outcome: Outcome, target: &str, note: &str) {
        self.rows.push(Row {
            key: at.key.clone(),
            at: at.clone(),
            outcome,
            target: target.to_owned(),
            note: note.to_owned(),
        });
    }

    /// Takes out what the configuration's own checks refuse, saying so in its rows, and returns the file's text.
    pub fn settle(&mut self, source: &Path) -> String {
        // Each turn removes at least one key, so this ends.
        loop {
            let text = self.text(source);
            let Err(problems) = config::parse(Path::new("nightjar.toml"), &text) else {
                return text;
            };
            let mut removed = false;
            for problem in problems {
                // An entry of a list stays: without it an authenticator would be missing, and others let in. The node
                // refuses to start until somebody has looked.
                let (path, listed) = match problem.key.split_once('[') {
                    Some((path, _)) => (path, true),
                    None => (problem.key.as_str(), false),
                };
                removed |= !listed && self.remove(path);
                for row in self.rows.iter_mut().filter(|row| row.target == path) {
                    row.outcome = Outcome::Unsupported;
                    row.note = format!("not taken here: {}", problem.message);
                    if !listed {
                        row.target.clear();
                    }
                }
            }
            if !removed {
                return text;
            }
        }
    }

    fn text(&self, source: &Path) -> String {
        let body = toml::to_string(&self.table)
            .expect("tables of texts, numbers and truth values have a form in TOML");
        let name = source.display();
        format!(
            "# Made by `nightjar import {name}`. What is not here has its default: etc/nightjar.toml names all keys.\n\n{body}"
        )
    }
}
