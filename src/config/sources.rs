//! The three written layers: file, environment, `--set`.

use std::collections::BTreeMap;
use std::ops::Range;
use std::path::{Path, PathBuf};

use figment::value::Value;
use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::error::{Origin, Problem};
use super::layer::Layer;
use super::read::{Reader, check_name, join};
use super::schema::{self, Node, Table, Ty};
use super::suggest;

/// What every variable of ours begins with.
pub const PREFIX: &str = "NIGHTJAR_";

/// Most syntax errors shown of one file: behind the first few, errors are echoes of the earlier ones.
const MAX_SYNTAX_ERRORS: usize = 5;

/// Where the file is looked for when none is named.
pub const SEARCH: [&str; 2] = ["etc/nightjar.toml", "/etc/nightjar/nightjar.toml"];

/// A layer, or what is wrong with it.
type Read = Result<Layer, Vec<Problem>>;

/// Line and column, both from 1, of a byte of a text.
fn line_column(text: &str, offset: usize) -> (usize, usize) {
    let before = text.get(..offset).unwrap_or(text);
    let line_start = before.rfind('\n').map_or(0, |at| at + 1);
    (
        before.matches('\n').count() + 1,
        before[line_start..].chars().count() + 1,
    )
}

/// Reads a configuration file.
pub fn file(path: &Path) -> Read {
    let whole = |message: String| {
        let origin = Origin::File {
            path: path.to_owned(),
            line: 1,
            column: 1,
        };
        vec![Problem::new(origin, "", message).help(
            "check the path and its permissions, or leave out --config to start with defaults",
        )]
    };
    let bytes = std::fs::read(path)
        .map_err(|error| whole(format!("cannot read the configuration file: {error}")))?;
    let text = String::from_utf8(bytes).map_err(|error| {
        let good = String::from_utf8_lossy(&error.as_bytes()[..error.utf8_error().valid_up_to()])
            .into_owned();
        let (line, column) = line_column(&good, good.len());
        let origin = Origin::File {
            path: path.to_owned(),
            line,
            column,
        };
        vec![Problem::new(origin, "", "the file is not UTF-8").help("save it as UTF-8")]
    })?;
    parse_file(path, text.strip_prefix('\u{feff}').unwrap_or(&text))
}

/// Reads the text of a configuration file.
pub fn parse_file(path: &Path, text: &str) -> Read {
    let place = |span: Range<usize>| {
        let (line, column) = line_column(text, span.start);
        Origin::File {
            path: path.to_owned(),
            line,
            column,
        }
    };
    let (document, errors) = DeTable::parse_recoverable(text);
    if !errors.is_empty() {
        // What could be recovered of a broken file says nothing certain: only the syntax is reported.
        return Err(errors
            .iter()
            .take(MAX_SYNTAX_ERRORS)
            .map(|error| {
                let origin = place(error.span().unwrap_or(0..0));
                Problem::new(origin, "", error.message())
                    .help("the file is TOML; texts are in quotes: name = \"value\"")
            })
            .collect());
    }
    let mut reader = Reader::new(&place);
    reader.layer.data = reader.table(schema::root(), "", document.get_ref());
    if reader.problems.is_empty() {
        Ok(reader.layer)
    } else {
        Err(reader.problems)
    }
}

/// The data directory in a file that may have any number of faults.
pub fn data_dir(path: &Path) -> Option<PathBuf> {
    let text = std::fs::read_to_string(path).ok()?;
    let (document, _) = DeTable::parse_recoverable(&text);
    let node = document.get_ref().get("node")?.get_ref().as_table()?;
    node.get("data_dir")?.get_ref().as_str().map(PathBuf::from)
}

/// What a name stands for.
#[derive(Clone, Copy)]
enum Target {
    /// A key, or a table or array given whole.
    Node(&'static Node),
    /// A listener given whole.
    Listener(&'static Table),
}

/// The place in the schema that the parts of a name lead to.
fn resolve(parts: &[String]) -> Result<Target, Missed> {
    let mut table = schema::root();
    let mut path = String::new();
    let mut parts = parts.iter();
    while let Some(part) = parts.next() {
        let Some(node) = table.get(part) else {
            return Err(Missed {
                table,
                path,
                part: part.clone(),
            });
        };
        path = join(&path, part);
        let below = match node {
            Node::Table(below) => below,
            Node::Names(below) => {
                // The next part is the user's own name.
                let Some(name) = parts.next() else {
                    return Ok(Target::Node(node));
                };
                if check_name(name).is_err() {
                    return Err(Missed {
                        table: below,
                        path,
                        part: name.clone(),
                    });
                }
                path = join(&path, name);
                if parts.len() == 0 {
                    return Ok(Target::Listener(below));
                }
                below
            }
            Node::Leaf(_) | Node::List(_) | Node::Kinds(_) => match parts.next() {
                None => return Ok(Target::Node(node)),
                Some(part) => {
                    static EMPTY: Table = Table {
                        doc: "",
                        entries: Vec::new(),
                    };
                    return Err(Missed {
                        table: &EMPTY,
                        path,
                        part: part.clone(),
                    });
                }
            },
        };
        if parts.len() == 0 {
            return Ok(Target::Node(node));
        }
        table = below;
    }
    Err(Missed {
        table,
        path,
        part: String::new(),
    })
}

/// Where a name left the schema.
struct Missed {
    table: &'static Table,
    path: String,
    part: String,
}

impl Missed {
    /// The path that was meant, perhaps.
    fn nearest(&self) -> Option<String> {
        suggest::nearest(
            &self.part,
            self.table.entries.iter().map(|(known, _)| *known),
        )
        .map(|near| join(&self.path, near))
    }
}

/// Reads a text by the type of the key it is for.
fn text_value(target: Target, parts: &[String], text: &str, origin: &Origin) -> Read {
    let path = parts.join(".");
    let wrong = |message: String, help: String| {
        vec![Problem::new(origin.clone(), path.clone(), message).help(help)]
    };
    let place = |_: Range<usize>| origin.clone();
    let mut reader = Reader::new(&place);
    let ty = match target {
        Target::Node(Node::Leaf(key)) => Some(key.ty),
        _ => None,
    };
    let off = text == "off" && matches!(ty, Some(Ty::Off(_)));
    let value = if off || ty.is_some_and(|ty| ty.is_text()) {
        let string = Spanned::new(0..0, DeValue::String(text.into()));
        match target {
            Target::Node(node) => reader.node(node, &path, &string),
            Target::Listener(_) => None,
        }
    } else {
        let parsed = DeValue::parse(text.trim()).map_err(|error| {
            let expected =
                ty.map_or_else(|| "a table or array in TOML".to_owned(), |ty| ty.words());
            wrong(
                format!(
                    "expected {expected}, found a text that is no TOML value ({})",
                    error.message().trim()
                ),
                format!("`nightjar config explain {path}` says what it may be"),
            )
        })?;
        match target {
            Target::Node(node) => reader.node(node, &path, &parsed),
            Target::Listener(table) => reader.listener(table, &path, &parsed),
        }
    };
    let Some(value) = value.filter(|_| reader.problems.is_empty()) else {
        return Err(reader.problems);
    };
    let mut layer = reader.layer;
    layer.insert(parts, value);
    Ok(layer)
}

/// True for names that Kubernetes (services) and Docker (links) put into the environment of a container that is called
/// like us. They are no settings, and nobody can take them away.
fn injected(rest: &str, value: &str) -> bool {
    let has_port_number = || {
        rest.split_once("PORT_").is_some_and(|(_, tail)| {
            let mut words = tail.split('_');
            words
                .next()
                .is_some_and(|port| !port.is_empty() && port.bytes().all(|b| b.is_ascii_digit()))
                && words
                    .next()
                    .is_some_and(|protocol| matches!(protocol, "TCP" | "UDP" | "SCTP"))
        })
    };
    rest == "PORT"
        || rest.starts_with("PORT_")
        || rest.starts_with("SERVICE_HOST")
        || rest.starts_with("SERVICE_PORT")
        || rest.ends_with("_SERVICE_HOST")
        || rest.contains("_SERVICE_PORT")
        || (rest.ends_with("_PORT") && value.contains("://"))
        || has_port_number()
        || (rest == "NAME" && value.starts_with('/'))
        || rest.starts_with("ENV_")
}

/// The variable of a key: `NIGHTJAR_MQTT__MAX_QOS`.
pub fn variable(path: &str) -> String {
    format!("{PREFIX}{}", path.replace('.', "__").to_ascii_uppercase())
}

/// Reads the variables that are ours, one layer each, in the order of their names.
pub fn environment(
    variables: impl IntoIterator<Item = (String, String)>,
) -> (Vec<Layer>, Vec<Problem>) {
    let ours: BTreeMap<String, String> = variables
        .into_iter()
        .filter(|(name, _)| name.starts_with(PREFIX))
        .collect();
    let mut layers: Vec<(usize, Layer)> = Vec::new();
    let mut problems = Vec::new();
    let mut by_path: BTreeMap<String, String> = BTreeMap::new();
    for (name, value) in ours {
        let rest = &name[PREFIX.len()..];
        let split = |rest: &str| {
            rest.to_ascii_lowercase()
                .split("__")
                .map(str::to_owned)
                .collect::<Vec<_>>()
        };
        let parts = split(rest);
        let (parts, node, value, origin) = match resolve(&parts) {
            Ok(node) => (parts, node, value, Origin::Env(name.clone())),
            Err(missed) => {
                // A name that is a key itself, such as ..CERT_FILE, was found above.
                let cut = rest
                    .strip_suffix("_FILE")
                    .map(split)
                    .and_then(|parts| Some((resolve(&parts).ok()?, parts)));
                let Some((node, parts)) = cut else {
                    if !injected(rest, &value) {
                        problems.push(unknown_variable(&name, rest, &missed));
                    }
                    continue;
                };
                let path = PathBuf::from(value);
                let origin = Origin::EnvFile {
                    name: name.clone(),
                    path: path.clone(),
                };
                match std::fs::read_to_string(&path) {
                    Ok(text) => {
                        let text = text
                            .strip_suffix('\n')
                            .map(|text| text.strip_suffix('\r').unwrap_or(text))
                            .unwrap_or(&text);
                        (parts, node, text.to_owned(), origin)
                    }
                    Err(error) => {
                        let problem = Problem::new(
                            origin,
                            parts.join("."),
                            format!("cannot read the file: {error}"),
                        );
                        problems.push(problem.help("name a file that this process may read"));
                        continue;
                    }
                }
            }
        };
        let path = parts.join(".");
        if let Some(other) = by_path.insert(path.clone(), name.clone()) {
            let problem = Problem::new(origin, path, format!("{other} sets the same key"));
            problems.push(problem.help("remove one of the two variables"));
            continue;
        }
        match text_value(node, &parts, &value, &origin) {
            Ok(layer) => layers.push((parts.len(), layer)),
            Err(more) => problems.extend(more),
        }
    }
    // A table given whole comes before a key of it given alone.
    layers.sort_by_key(|(depth, _)| *depth);
    (
        layers.into_iter().map(|(_, layer)| layer).collect(),
        problems,
    )
}

/// The problem of a variable that is no key.
fn unknown_variable(name: &str, rest: &str, missed: &Missed) -> Problem {
    let flat = |path: &str| path.replace(['.'], "_").to_ascii_uppercase();
    let leaves = schema::leaves();
    let meant = missed.nearest().or_else(|| {
        let rest = rest.replace("__", "_").to_ascii_uppercase();
        let rest = rest.strip_suffix("_FILE").unwrap_or(&rest).to_owned();
        let concrete = |path: &str| path.replace("<name>", "default");
        let all: Vec<String> = leaves
            .iter()
            .map(|(path, _)| concrete(path))
            .filter(|path| !path.contains('['))
            .collect();
        all.iter()
            .find(|path| flat(path) == rest)
            .or_else(|| {
                all.iter().find(|path| {
                    path.rsplit('.')
                        .next()
                        .is_some_and(|last| last.to_ascii_uppercase() == rest)
                })
            })
            .cloned()
    });
    let help = match meant {
        Some(path) => format!("did you mean {}? Two underscores stand between the parts of a key", variable(&path)),
        None => "`nightjar config default` lists all keys; two underscores stand between the parts of a key".into(),
    };
    Problem::new(Origin::Env(name.to_owned()), "", "no such key").help(help)
}

/// Reads one `KEY=VALUE` of `--set`.
pub fn set(argument: &str) -> Read {
    let Some((key, value)) = argument.split_once('=') else {
        let problem = Problem::new(
            Origin::Set(argument.chars().take(64).collect()),
            "",
            "expected KEY=VALUE",
        );
        return Err(vec![problem.help(
            "for example --set listeners.tcp.default.bind=127.0.0.1:1883",
        )]);
    };
    let key = key.trim();
    let origin = Origin::Set(key.to_owned());
    let parts: Vec<String> = key.split('.').map(str::to_owned).collect();
    match resolve(&parts) {
        Ok(node) => text_value(node, &parts, value, &origin),
        Err(missed) => {
            let elsewhere = || {
                let leaves = schema::leaves();
                let last = parts.last().cloned().unwrap_or_default();
                leaves
                    .iter()
                    .map(|(path, _)| path.clone())
                    .find(|path| path.rsplit('.').next() == Some(last.as_str()))
            };
            let help = match missed.nearest().or_else(elsewhere) {
                Some(path) => format!("did you mean `{path}`?"),
                None => "`nightjar config default` lists all keys".into(),
            };
            Err(vec![Problem::new(origin, "", "unknown key").help(help)])
        }
    }
}

/// The layer of defaults, for all the listeners that any of the other layers names.
pub fn defaults(written: &[Layer]) -> Layer {
    let mut layer = Layer::default();
    super::read::fill(schema::root(), &mut layer.data, "", false);
    let Some(Node::Table(listeners)) = schema::root().get("listeners") else {
        return layer;
    };
    for (kind, node) in &listeners.entries {
        let Node::Names(table) = node else { continue };
        let mut names: Vec<String> = written
            .iter()
            .flat_map(|layer| layer.names(&["listeners", kind]))
            .collect();
        names.push("default".into());
        for name in names {
            let mut dict = figment::value::Dict::new();
            super::read::fill(table, &mut dict, "", name == "default");
            layer.insert(
                &["listeners".into(), (*kind).into(), name],
                Value::from(dict),
            );
        }
    }
    layer
}
