//! The configuration: four layers, one schema, one typed tree.
//!
//! Defaults, the file, the environment (`NIGHTJAR_` and `__` between parts) and `--set` are laid over each other by
//! figment, in this order. Every layer is checked against [`schema`] by itself before that, so that a problem is
//! reported where it was written, with line and column, and all of them at once. [`Loaded`] remembers who gave which
//! value: one owner for each key.

mod diff;
mod error;
mod layer;
pub mod model;
mod read;
mod rules;
pub mod schema;
mod show;
mod sources;
mod suggest;
#[cfg(test)]
mod tests;
pub mod units;

use std::collections::BTreeSet;
use std::path::PathBuf;

use figment::value::{Dict, Value};
use figment::{Figment, Profile, Provider};

pub use diff::diff;
pub use error::{ConfigErrors, Origin, Problem};
pub use model::Config;
pub use rules::missing_features;
pub use show::{Entry, entries, explain, json_schema, print, reference};

use layer::Layer;

/// Where the configuration comes from.
#[derive(Clone, Default)]
pub struct Options {
    /// `--config`: this file, which must exist; else the first of the usual places, if any exists.
    pub file: Option<PathBuf>,
    /// `--set`, in order; later ones win.
    pub set: Vec<String>,
    /// The environment; [`Options::with_environment`] takes the process's own.
    pub environment: Vec<(String, String)>,
}

impl std::fmt::Debug for Options {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // What is set may be a secret.
        f.debug_struct("Options")
            .field("file", &self.file)
            .finish_non_exhaustive()
    }
}

impl Options {
    /// These options with the variables of this process. Names and values that are not UTF-8 are no settings of ours.
    #[must_use]
    pub fn with_environment(mut self) -> Self {
        self.environment = std::env::vars_os()
            .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)))
            .filter(|(name, _)| name.starts_with(sources::PREFIX))
            .collect();
        self
    }

    /// The file that is read.
    fn path(&self) -> Option<PathBuf> {
        let usual = || {
            sources::SEARCH
                .into_iter()
                .map(PathBuf::from)
                .find(|path| path.exists())
        };
        self.file.clone().or_else(usual)
    }
}

/// A configuration and where each of its values came from.
pub struct Loaded {
    /// The typed tree.
    pub config: Config,
    /// The file that was read.
    pub file: Option<PathBuf>,
    /// What it was read with, to read it again at a reload.
    pub options: Options,
    /// The merged values, secrets included: never printed as they are.
    tree: Value,
    /// Tags of the merged values, by layer.
    figment: Figment,
    /// The layers, by their number.
    layers: Vec<Layer>,
}

impl std::fmt::Debug for Loaded {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Loaded")
            .field("file", &self.file)
            .field("config", &self.config)
            .finish_non_exhaustive()
    }
}

impl Loaded {
    /// Who gave the value at a path such as `auth.chain[0].path`.
    pub fn origin(&self, path: &str) -> Origin {
        let exact = |path: &str| {
            let value = lookup(&self.tree, path)?;
            let number: usize = self.figment.get_metadata(value.tag())?.name.parse().ok()?;
            self.layers.get(number)?.given.get(path).cloned()
        };
        // An element of a list of values was written where the list was.
        let above = || {
            path.rfind(['.', '['])
                .and_then(|at| path.get(..at))
                .filter(|above| matches!(schema::find(above), Some(schema::Place::Leaf(_))))
        };
        exact(path)
            .or_else(|| above().and_then(exact))
            .unwrap_or_default()
    }

    /// Paths of everything that a layer sets, whatever its value.
    pub fn set_keys(&self) -> BTreeSet<&str> {
        self.layers
            .iter()
            .flat_map(|layer| layer.given.keys())
            .map(String::as_str)
            .collect()
    }

    /// The merged value at a path. It may be a secret.
    fn value(&self, path: &str) -> Option<&Value> {
        lookup(&self.tree, path)
    }
}

/// Walks down a path of names and `[index]`.
fn lookup<'v>(tree: &'v Value, path: &str) -> Option<&'v Value> {
    let mut value = tree;
    for part in path.split('.') {
        let mut pieces = part.split('[');
        let name = pieces.next()?;
        value = value.as_dict_ref()?.get(name)?;
        for index in pieces {
            let index: usize = index.strip_suffix(']')?.parse().ok()?;
            value = value.as_array_ref()?.get(index)?;
        }
    }
    Some(value)
}

/// Borrowing views of a figment value.
trait ValueRef {
    /// The table, if it is one.
    fn as_dict_ref(&self) -> Option<&Dict>;
    /// The array, if it is one.
    fn as_array_ref(&self) -> Option<&[Value]>;
}

impl ValueRef for Value {
    fn as_dict_ref(&self) -> Option<&Dict> {
        match self {
            Self::Dict(_, dict) => Some(dict),
            _ => None,
        }
    }

    fn as_array_ref(&self) -> Option<&[Value]> {
        match self {
            Self::Array(_, list) => Some(list),
            _ => None,
        }
    }
}

/// Reads all layers; keys that contradict each other come back beside the result, for commands that show the
/// configuration whatever its faults.
///
/// # Errors
/// Everything in a layer that does not fit the schema.
pub fn read(options: &Options) -> Result<(Loaded, Vec<Problem>), ConfigErrors> {
    let mut problems = Vec::new();
    let mut written = Vec::new();
    let file = options.path();
    if let Some(path) = &file {
        match sources::file(path) {
            Ok(layer) => written.push(layer),
            Err(more) => problems.extend(more),
        }
    }
    let (layers, more) = sources::environment(options.environment.iter().cloned());
    written.extend(layers);
    problems.extend(more);
    for argument in &options.set {
        match sources::set(argument) {
            Ok(layer) => written.push(layer),
            Err(more) => problems.extend(more),
        }
    }
    if !problems.is_empty() {
        return Err(ConfigErrors(problems));
    }
    merge(options.clone(), file, written)
}

/// Checks the text of a file by itself: no other layer, nothing opened.
///
/// # Errors
/// Everything that is wrong with it.
pub fn parse(path: &std::path::Path, text: &str) -> Result<(), Vec<Problem>> {
    let layer = sources::parse_file(path, text)?;
    match merge(Options::default(), Some(path.to_owned()), vec![layer]) {
        Ok((_, problems)) if problems.is_empty() => Ok(()),
        Ok((_, problems)) => Err(problems),
        Err(ConfigErrors(problems)) => Err(problems),
    }
}

/// Lays the layers over each other and gives the result its types.
fn merge(
    options: Options,
    file: Option<PathBuf>,
    written: Vec<Layer>,
) -> Result<(Loaded, Vec<Problem>), ConfigErrors> {
    let mut layers = vec![sources::defaults(&written)];
    layers.extend(written);
    let mut figment = Figment::new();
    for (number, layer) in layers.iter_mut().enumerate() {
        layer.number = number;
        figment = figment.merge(&*layer);
    }
    let internal = |error: figment::Error| {
        let key = error.path.join(".");
        ConfigErrors(vec![
            Problem::new(Origin::Default, key, error.to_string())
                .help("this is a fault of the schema: please report it"),
        ])
    };
    let mut data = figment.data().map_err(internal)?;
    let tree = Value::from(data.remove(&Profile::Default).unwrap_or_default());
    let problems = rules::unset(&tree, &layers);
    if !problems.is_empty() {
        return Err(ConfigErrors(problems));
    }
    let config: Config = tree.deserialize().map_err(internal)?;
    let loaded = Loaded {
        config,
        file,
        options,
        tree,
        figment,
        layers,
    };
    let problems = rules::check(&loaded);
    Ok((loaded, problems))
}

/// The data directory, also when the configuration is broken: a command that asks a running node must find it while
/// its file is being edited.
pub fn data_dir(options: &Options) -> PathBuf {
    if let Ok((loaded, _)) = read(options) {
        return loaded.config.node.data_dir;
    }
    let set = options
        .set
        .iter()
        .rev()
        .find_map(|argument| argument.strip_prefix("node.data_dir="));
    let variable = || {
        let name = sources::variable("node.data_dir");
        options
            .environment
            .iter()
            .find(|(known, _)| *known == name)
            .map(|(_, value)| value.as_str())
    };
    let file = || sources::data_dir(&options.path()?);
    set.or_else(variable)
        .map(PathBuf::from)
        .or_else(file)
        .unwrap_or_else(|| PathBuf::from("data"))
}

/// Reads and checks the configuration.
///
/// # Errors
/// Everything that is wrong with it.
pub fn load(options: &Options) -> Result<Loaded, ConfigErrors> {
    let (loaded, problems) = read(options)?;
    if problems.is_empty() {
        Ok(loaded)
    } else {
        Err(ConfigErrors(problems))
    }
}
