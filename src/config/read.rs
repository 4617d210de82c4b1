//! Checks a parsed value against the schema and turns it into a value of a layer.
//!
//! One walk serves the file, environment variables and `--set`: they differ only in where a value was written. The walk
//! goes on after a problem, so that a user sees all of them at once.

use std::ops::Range;

use figment::value::{Dict, Value};
use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::error::{Origin, Problem};
use super::layer::Layer;
use super::schema::{self, Node, Table, Ty};
use super::suggest;

/// Longest name of a listener.
const MAX_NAME: usize = 64;

/// The walk over one source.
pub struct Reader<'a> {
    /// Says where a span of the source is.
    pub place: &'a dyn Fn(Range<usize>) -> Origin,
    /// What is wrong so far.
    pub problems: Vec<Problem>,
    /// What was written so far.
    pub layer: Layer,
}

impl<'a> Reader<'a> {
    /// A walk that has seen nothing yet.
    pub fn new(place: &'a dyn Fn(Range<usize>) -> Origin) -> Self {
        Self {
            place,
            problems: Vec::new(),
            layer: Layer::default(),
        }
    }

    fn problem(
        &mut self,
        span: Range<usize>,
        key: &str,
        message: impl Into<String>,
        help: impl Into<String>,
    ) {
        let origin = (self.place)(span);
        self.problems
            .push(Problem::new(origin, key, message).help(help));
    }

    fn give(&mut self, path: &str, span: Range<usize>) {
        let origin = (self.place)(span);
        self.layer.given.insert(path.to_owned(), origin);
    }

    /// Reads a table. Keys that are not set stay unset here; an element of an array gets its defaults at once, because
    /// no lower layer can hold them.
    pub fn table(&mut self, table: &'static Table, path: &str, written: &DeTable<'_>) -> Dict {
        let mut dict = Dict::new();
        for (name, value) in written {
            let text: &str = name.get_ref();
            let here = join(path, text);
            match table.get(text) {
                Some(node) => {
                    if let Some(value) = self.node(node, &here, value) {
                        dict.insert(text.to_owned(), value);
                    }
                }
                None => {
                    let help = unknown_help(table, path, text);
                    self.problem(name.span(), &here, "unknown key", help);
                }
            }
        }
        dict
    }

    /// Reads what stands under one name.
    pub fn node(
        &mut self,
        node: &'static Node,
        path: &str,
        value: &Spanned<DeValue<'_>>,
    ) -> Option<Value> {
        match node {
            Node::Leaf(key) => {
                let read = self.value(&key.ty, path, value)?;
                self.give(path, value.span());
                Some(read)
            }
            Node::Table(table) => {
                let written = self.expect_table(path, value)?;
                Some(Value::from(self.table(table, path, written)))
            }
            Node::Names(table) => {
                let written = self.expect_table(path, value)?;
                let mut dict = Dict::new();
                for (name, value) in written {
                    let text: &str = name.get_ref();
                    let here = join(path, text);
                    if let Err(why) = check_name(text) {
                        let help = unknown_help(table, path, text);
                        self.problem(name.span(), &here, why, help);
                        continue;
                    }
                    if !value.get_ref().is_table() && table.get(text).is_some() {
                        let help = format!(
                            "a listener has a name of your choice: [{path}.default], then {text} = ... below it"
                        );
                        self.problem(name.span(), &here, "expected the table of a listener", help);
                        continue;
                    }
                    if let Some(below) = self.listener(table, &here, value) {
                        dict.insert(text.to_owned(), below);
                    }
                }
                Some(Value::from(dict))
            }
            Node::List(table) => {
                let elements = self.expect_tables(path, value)?;
                self.give(path, value.span());
                Some(Value::from(
                    elements
                        .into_iter()
                        .map(|(here, span, written)| self.element(table, &here, span, written))
                        .collect::<Vec<_>>(),
                ))
            }
            Node::Kinds(kinds) => {
                let elements = self.expect_tables(path, value)?;
                self.give(path, value.span());
                let mut list = Vec::new();
                for (here, span, written) in elements {
                    if let Some(read) = self.kind(kinds, &here, span, written) {
                        list.push(read);
                    }
                }
                Some(Value::from(list))
            }
        }
    }

    /// Reads one listener.
    pub fn listener(
        &mut self,
        table: &'static Table,
        path: &str,
        value: &Spanned<DeValue<'_>>,
    ) -> Option<Value> {
        let written = self.expect_table(path, value)?;
        self.give(path, value.span());
        Some(Value::from(self.table(table, path, written)))
    }

    /// Reads an element of an array of tables by kind.
    fn kind(
        &mut self,
        kinds: &'static [(&'static str, Table)],
        path: &str,
        span: Range<usize>,
        written: &DeTable<'_>,
    ) -> Option<Value> {
        let names = || kinds.iter().map(|(name, _)| *name);
        let all = names().collect::<Vec<_>>().join(", ");
        let Some(value) = written.get("kind") else {
            self.problem(
                span,
                path,
                "the key `kind` is missing",
                format!("write kind = \"...\", one of {all}"),
            );
            return None;
        };
        let Some(kind) = value.get_ref().as_str() else {
            self.problem(
                value.span(),
                &join(path, "kind"),
                format!("expected a text, found {}", describe(value.get_ref())),
                format!("one of {all}"),
            );
            return None;
        };
        let Some((_, table)) = kinds.iter().find(|(name, _)| *name == kind) else {
            let help = match suggest::nearest(kind, names()) {
                Some(near) => format!("did you mean {near:?}? Known: {all}"),
                None => format!("one of {all}"),
            };
            self.problem(
                value.span(),
                &join(path, "kind"),
                format!("unknown kind {kind:?}"),
                help,
            );
            return None;
        };
        let mut rest = written.clone();
        rest.remove("kind");
        let Value::Dict(tag, mut dict) = self.element(table, path, span, &rest) else {
            return None;
        };
        dict.insert("kind".into(), Value::from(kind));
        Some(Value::Dict(tag, dict))
    }

    /// Reads an element of an array of tables and gives it its defaults.
    fn element(
        &mut self,
        table: &'static Table,
        path: &str,
        span: Range<usize>,
        written: &DeTable<'_>,
    ) -> Value {
        self.give(path, span.clone());
        let mut dict = self.table(table, path, written);
        for missing in fill(table, &mut dict, "", false) {
            // A key that was written with a wrong value has been reported already.
            if !written.contains_key(missing.as_str()) {
                self.problem(
                    span.clone(),
                    &join(path, &missing),
                    "this key must be set",
                    example(table, &missing),
                );
            }
        }
        Value::from(dict)
    }

    fn expect_table<'v, 'i>(
        &mut self,
        path: &str,
        value: &'v Spanned<DeValue<'i>>,
    ) -> Option<&'v DeTable<'i>> {
        let table = value.get_ref().as_table();
        if table.is_none() {
            let message = format!("expected a table, found {}", describe(value.get_ref()));
            self.problem(
                value.span(),
                path,
                message,
                format!("write [{path}], and its keys below it"),
            );
        }
        table
    }

    fn expect_tables<'v, 'i>(
        &mut self,
        path: &str,
        value: &'v Spanned<DeValue<'i>>,
    ) -> Option<Vec<(String, Range<usize>, &'v DeTable<'i>)>> {
        let help = format!("write [[{path}]], and the keys of one entry below it");
        let Some(array) = value.get_ref().as_array() else {
            self.problem(
                value.span(),
                path,
                format!(
                    "expected an array of tables, found {}",
                    describe(value.get_ref())
                ),
                help,
            );
            return None;
        };
        let mut tables = Vec::new();
        for (index, element) in array.iter().enumerate() {
            let here = format!("{path}[{index}]");
            match element.get_ref().as_table() {
                Some(table) => tables.push((here, element.span(), table)),
                None => self.problem(
                    element.span(),
                    &here,
                    format!("expected a table, found {}", describe(element.get_ref())),
                    help.clone(),
                ),
            }
        }
        Some(tables)
    }

    /// Reads a value of a type.
    fn value(&mut self, ty: &Ty, path: &str, value: &Spanned<DeValue<'_>>) -> Option<Value> {
        match (ty, value.get_ref()) {
            (Ty::List(inner), DeValue::Array(array)) => {
                let mut list = Vec::new();
                for (index, element) in array.iter().enumerate() {
                    list.push(self.value(inner, &format!("{path}[{index}]"), element)?);
                }
                Some(Value::from(list))
            }
            (Ty::Map(inner), DeValue::Table(table)) => {
                let mut dict = Dict::new();
                for (name, element) in table {
                    let read = self.value(inner, &join(path, name.get_ref()), element)?;
                    dict.insert(name.get_ref().to_string(), read);
                }
                Some(Value::from(dict))
            }
            (ty, found) => match scalar(ty, found) {
                Ok(read) => Some(read),
                Err(message) => {
                    self.problem(
                        value.span(),
                        path,
                        message,
                        format!(
                            "`nightjar config explain {}` says what it may be",
                            generic(path)
                        ),
                    );
                    None
                }
            },
        }
    }
}

/// A value that holds no others.
///
/// # Errors
/// What was expected and what was found.
pub fn scalar(ty: &Ty, found: &DeValue<'_>) -> Result<Value, String> {
    let wrong = |found: &DeValue<'_>| {
        Err(format!(
            "expected {}, found {}",
            ty.words(),
            describe(found)
        ))
    };
    match (ty, found) {
        (Ty::Bool, DeValue::Boolean(value)) => Ok(Value::from(*value)),
        (Ty::Off(_), DeValue::String(text)) if text == "off" => Ok(Value::from("off")),
        (Ty::Off(inner), found) if !inner.is_text() => scalar(inner, found)
            .map_err(|message| message.replacen("expected ", "expected \"off\", or ", 1)),
        (Ty::Int(low, high), DeValue::Integer(number)) => {
            match i64::from_str_radix(number.as_str(), number.radix()) {
                Ok(value) if (*low..=*high).contains(&value) => Ok(Value::from(value)),
                _ => Err(format!("expected {}, found {number}", ty.words())),
            }
        }
        (Ty::Float(low, high), DeValue::Integer(_) | DeValue::Float(_)) => {
            let text = match found {
                DeValue::Integer(number) => number.as_str(),
                DeValue::Float(number) => number.as_str(),
                _ => "",
            };
            match text.parse::<f64>() {
                Ok(value) if (*low..=*high).contains(&value) => Ok(Value::from(value)),
                _ => Err(format!("expected {}, found {text}", ty.words())),
            }
        }
        // A size without a unit is bytes, an address without a host is a port: both are natural as numbers.
        (Ty::Size | Ty::Addr, DeValue::Integer(number)) => {
            let text = number.to_string();
            ty.check_text(&text).map(|()| Value::from(text))
        }
        (ty, DeValue::String(text)) if ty.is_text() => {
            ty.check_text(text).map(|()| Value::from(text.as_ref()))
        }
        (Ty::Duration, DeValue::Integer(number))
        | (Ty::Off(Ty::Duration), DeValue::Integer(number)) => Err(format!(
            "expected a duration with a unit, such as \"{number}s\", found the number {number}"
        )),
        (ty, DeValue::String(_)) if ty.is_secret() => Err(format!("expected {}", ty.words())),
        (_, found) => wrong(found),
    }
}

/// A value in words, short. Never the text of a string, which may be a secret in the wrong place.
fn describe(value: &DeValue<'_>) -> String {
    match value {
        DeValue::String(_) => "a text".into(),
        DeValue::Integer(number) => format!("the number {number}"),
        DeValue::Float(number) => format!("the number {}", number.as_str()),
        DeValue::Boolean(value) => value.to_string(),
        DeValue::Datetime(_) => "a date or time".into(),
        DeValue::Array(_) => "an array".into(),
        DeValue::Table(_) => "a table".into(),
    }
}

/// `a` and `b` as `a.b`.
pub fn join(path: &str, name: &str) -> String {
    if path.is_empty() {
        name.to_owned()
    } else {
        format!("{path}.{name}")
    }
}

/// A path that `config explain` takes: without indexes into lists of values.
fn generic(path: &str) -> &str {
    path.split_once('[').map_or(path, |(before, _)| before)
}

/// The name of a listener: it becomes part of environment variables, file names and metrics.
///
/// # Errors
/// What is wrong with it.
pub fn check_name(name: &str) -> Result<(), &'static str> {
    let good = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_' || c == '-';
    if name.is_empty() || name.len() > MAX_NAME || !name.chars().all(good) || name.contains("__") {
        return Err("a listener's name is made of a-z, 0-9, - and single _, at most 64");
    }
    Ok(())
}

/// What to do about an unknown key.
fn unknown_help(table: &'static Table, path: &str, name: &str) -> String {
    if let Some(near) = suggest::nearest(name, table.entries.iter().map(|(known, _)| *known)) {
        return format!("did you mean `{}`?", join(path, near));
    }
    if !path.is_empty()
        && schema::root()
            .get(name)
            .is_some_and(|node| matches!(node, Node::Leaf(_)))
    {
        return format!("`{name}` is a top-level key: write it before the first [table]");
    }
    let all = schema::leaves();
    let elsewhere = all
        .iter()
        .find(|(known, _)| known.rsplit('.').next() == Some(name));
    match elsewhere {
        Some((known, _)) => format!("did you mean `{known}`?"),
        None if path.is_empty() => "`nightjar config default` lists all keys".into(),
        None => format!(
            "`nightjar config explain {}` lists the keys here",
            generic(path)
        ),
    }
}

/// How to set a key, by its example.
fn example(table: &'static Table, path: &str) -> String {
    match table.get(path) {
        Some(Node::Leaf(key)) => format!("for example {path} = {}", key.default.text()),
        _ => String::new(),
    }
}

/// Gives a table's missing keys their defaults and returns the paths of those that have none and must be set.
/// `named_default` is true in the table called `default`.
pub fn fill(
    table: &'static Table,
    dict: &mut Dict,
    path: &str,
    named_default: bool,
) -> Vec<String> {
    let mut missing = Vec::new();
    for (name, node) in &table.entries {
        match node {
            Node::Leaf(key) => {
                if dict.contains_key(*name) {
                    continue;
                }
                match key.default {
                    schema::Default::Is(text) => {
                        dict.insert((*name).to_owned(), literal(&key.ty, text));
                    }
                    schema::Default::Named(text) if named_default => {
                        dict.insert((*name).to_owned(), literal(&key.ty, text));
                    }
                    schema::Default::Unset(_) => {}
                    schema::Default::Required(_) | schema::Default::Named(_) => {
                        missing.push(join(path, name))
                    }
                }
            }
            Node::Table(below) => {
                let entry = dict
                    .entry((*name).to_owned())
                    .or_insert_with(|| Value::from(Dict::new()));
                if let Value::Dict(_, inner) = entry {
                    missing.extend(fill(below, inner, &join(path, name), named_default));
                }
            }
            Node::Names(_) => {
                dict.entry((*name).to_owned())
                    .or_insert_with(|| Value::from(Dict::new()));
            }
            Node::List(_) | Node::Kinds(_) => {
                dict.entry((*name).to_owned())
                    .or_insert_with(|| Value::from(Vec::<Value>::new()));
            }
        }
    }
    missing
}

/// A value of the schema itself. A test reads every one of them.
fn literal(ty: &Ty, text: &'static str) -> Value {
    let parsed = DeValue::parse(text).expect("the schema's defaults are TOML: tested");
    let place = |_: Range<usize>| Origin::Default;
    let mut reader = Reader::new(&place);
    reader
        .value(ty, "", &parsed)
        .expect("the schema's defaults fit their types: tested")
}
