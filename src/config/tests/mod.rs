//! Tests of the configuration: tables of what a user writes and what comes of it.

mod errors;
mod layers;
mod reference;

use std::path::Path;

use super::{ConfigErrors, Loaded, Options, Problem, merge, sources};

/// Reads a text as if it were the file `nightjar.toml`, with these variables and `--set` arguments.
pub(super) fn read_all(
    text: &str,
    environment: &[(&str, &str)],
    set: &[&str],
) -> Result<(Loaded, Vec<Problem>), ConfigErrors> {
    let mut problems = Vec::new();
    let mut layers = Vec::new();
    match sources::parse_file(Path::new("nightjar.toml"), text) {
        Ok(layer) => layers.push(layer),
        Err(more) => problems.extend(more),
    }
    let variables = environment
        .iter()
        .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
    let (more_layers, more) = sources::environment(variables);
    layers.extend(more_layers);
    problems.extend(more);
    for argument in set {
        match sources::set(argument) {
            Ok(layer) => layers.push(layer),
            Err(more) => problems.extend(more),
        }
    }
    if problems.is_empty() {
        merge(Options::default(), None, layers)
    } else {
        Err(ConfigErrors(problems))
    }
}

/// The same, which must be right.
pub(super) fn right(text: &str, environment: &[(&str, &str)], set: &[&str]) -> Loaded {
    match read_all(text, environment, set) {
        Ok((loaded, problems)) if problems.is_empty() => loaded,
        Ok((_, problems)) => panic!("{}", ConfigErrors(problems)),
        Err(errors) => panic!("{errors}"),
    }
}

/// The same, which must be wrong: all problems as a user sees them.
pub(super) fn wrong(text: &str, environment: &[(&str, &str)], set: &[&str]) -> String {
    match read_all(text, environment, set) {
        Ok((_, problems)) => {
            assert!(
                !problems.is_empty(),
                "accepted: {text} {environment:?} {set:?}"
            );
            ConfigErrors(problems).to_string()
        }
        Err(errors) => errors.to_string(),
    }
}
