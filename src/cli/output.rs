//! Answers of a node as a table, as JSON, or as one JSON object a line.

use serde_json::{Map, Value};

/// Form of an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Format {
    /// For people.
    Table,
    /// One JSON document.
    Json,
    /// One JSON object a line.
    Ndjson,
}

/// Gathers an answer and writes it.
#[derive(Debug)]
pub struct Output {
    format: Format,
    columns: Vec<String>,
    rows: Vec<Value>,
}

impl Output {
    /// An answer in this form.
    pub const fn new(format: Format) -> Self {
        Self {
            format,
            columns: Vec::new(),
            rows: Vec::new(),
        }
    }

    /// The order of the fields in a table.
    pub fn columns(&mut self, columns: Vec<String>) {
        self.columns = columns;
    }

    /// Takes an entry. Returns what can be written at once, so that a long list needs no memory as lines.
    pub fn row(&mut self, row: Value) -> Option<String> {
        if self.format == Format::Ndjson {
            return Some(format!("{row}\n"));
        }
        self.rows.push(row);
        None
    }

    /// The rest of the answer.
    pub fn end(self, end: Value) -> String {
        let list = !self.columns.is_empty() || !self.rows.is_empty();
        match self.format {
            Format::Json if list => format!("{:#}\n", Value::from(self.rows)),
            Format::Json => format!("{end:#}\n"),
            Format::Ndjson if end.is_null() || list => String::new(),
            Format::Ndjson => format!("{end}\n"),
            Format::Table => {
                let mut out = String::new();
                if list {
                    out.push_str(&table(&self.columns, &self.rows));
                }
                if let Value::Object(fields) = &end {
                    out.push_str(&pairs(fields));
                } else if !end.is_null() {
                    out.push_str(&cell(&end));
                    out.push('\n');
                }
                out
            }
        }
    }
}

/// A value in one cell. Control characters of a client's making do not reach the terminal.
fn cell(value: &Value) -> String {
    let text = match value {
        Value::Null => "-".to_owned(),
        Value::String(text) => text.clone(),
        Value::Array(list) if list.is_empty() => "-".to_owned(),
        Value::Array(list) => list.iter().map(cell).collect::<Vec<_>>().join(", "),
        Value::Object(fields) => fields
            .iter()
            .map(|(name, value)| format!("{name}={}", cell(value)))
            .collect::<Vec<_>>()
            .join(" "),
        other => other.to_string(),
    };
    text.chars()
        .map(|c| if c.is_control() { '\u{fffd}' } else { c })
        .collect()
}

/// Fields one a line, names in one column. A field that holds objects by name has a line for each of them.
fn pairs(fields: &Map<String, Value>) -> String {
    let mut lines: Vec<(String, String)> = Vec::new();
    for (name, value) in fields {
        match value {
            Value::Object(inner) if inner.values().any(Value::is_object) => {
                let width = widest(inner.keys());
                for (at, (key, value)) in inner.iter().enumerate() {
                    let label = if at == 0 { name.clone() } else { String::new() };
                    lines.push((label, format!("{key:width$}  {}", cell(value))));
                }
            }
            value => lines.push((name.clone(), cell(value))),
        }
    }
    let width = widest(lines.iter().map(|(name, _)| name));
    lines
        .iter()
        .map(|(name, text)| format!("{name:width$}  {text}\n"))
        .collect()
}

/// Characters of the longest name.
fn widest<'a>(names: impl Iterator<Item = &'a String>) -> usize {
    names.map(|name| name.chars().count()).max().unwrap_or(0)
}

/// Rows under a line of names. Without columns, those of the first row.
fn table(columns: &[String], rows: &[Value]) -> String {
    let first = || {
        rows.first()
            .and_then(Value::as_object)
            .map(|row| row.keys().cloned().collect::<Vec<_>>())
    };
    let columns = if columns.is_empty() {
        first().unwrap_or_default()
    } else {
        columns.to_vec()
    };
    let mut lines: Vec<Vec<String>> =
        vec![columns.iter().map(|name| name.to_uppercase()).collect()];
    for row in rows {
        lines.push(
            columns
                .iter()
                .map(|name| cell(row.get(name).unwrap_or(&Value::Null)))
                .collect(),
        );
    }
    let width = |column: usize| {
        lines
            .iter()
            .map(|line| line[column].chars().count())
            .max()
            .unwrap_or(0)
    };
    let widths: Vec<usize> = (0..columns.len()).map(width).collect();
    let mut out = String::new();
    for line in &lines {
        let padded: Vec<String> = line
            .iter()
            .zip(&widths)
            .map(|(cell, width)| format!("{cell:width$}"))
            .collect();
        out.push_str(padded.join("  ").trim_end());
        out.push('\n');
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn listed(format: Format) -> String {
        let mut output = Output::new(format);
        output.columns(vec!["name".into(), "count".into()]);
        let mut text = String::new();
        for row in [
            json!({ "name": "a", "count": 1 }),
            json!({ "name": "longer\u{1b}[2J", "count": null }),
        ] {
            text.extend(output.row(row));
        }
        text + &output.end(Value::Null)
    }

    #[test]
    fn a_list_has_three_forms() {
        assert_eq!(
            listed(Format::Table),
            "NAME        COUNT\na           1\nlonger\u{fffd}[2J  -\n"
        );
        assert_eq!(listed(Format::Ndjson).lines().count(), 2);
        let parsed: Value = serde_json::from_str(&listed(Format::Json)).unwrap();
        assert_eq!(parsed[0]["count"], 1);
    }

    #[test]
    fn one_answer_is_shown_field_by_field() {
        let end =
            json!({ "node": "a", "ready": true, "listeners": { "tcp:default": "127.0.0.1:1" } });
        let text = Output::new(Format::Table).end(end.clone());
        assert_eq!(
            text,
            "listeners  tcp:default=127.0.0.1:1\nnode       a\nready      true\n"
        );
        let parsed: Value =
            serde_json::from_str(&Output::new(Format::Ndjson).end(end.clone())).unwrap();
        assert_eq!(parsed, end);
    }

    #[test]
    fn objects_by_name_have_a_line_each() {
        let end = json!({ "listeners": { "tcp:default": { "running": true }, "ws:a": { "running": false } }, "node": "a" });
        let text = Output::new(Format::Table).end(end);
        assert_eq!(
            text,
            "listeners  tcp:default  running=true\n           ws:a         running=false\nnode       a\n"
        );
    }

    #[test]
    fn an_empty_list_is_an_empty_document() {
        let mut output = Output::new(Format::Json);
        output.columns(vec!["name".into()]);
        assert_eq!(output.end(Value::Null), "[]\n");
    }
}
