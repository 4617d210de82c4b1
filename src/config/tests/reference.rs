//! The schema against the typed tree, and etc/nightjar.toml against the schema.

use std::collections::BTreeSet;
use std::path::Path;

use figment::value::Value;

use super::right;
use crate::config::read::scalar;
use crate::config::schema::{self, Default, Ty};
use crate::config::{ValueRef, json_schema, reference, sources};

/// The reference file with every key switched on: `#key = ...` and `#[table]` lose their mark, texts keep it.
fn uncommented() -> String {
    let mut out = String::new();
    for line in reference().lines() {
        let setting = line
            .strip_prefix('#')
            .filter(|rest| !rest.starts_with(' ') && !rest.is_empty());
        out.push_str(setting.unwrap_or(line));
        out.push('\n');
    }
    out
}

/// Paths of all values in a tree; arrays of tables by the `kind` of each, other arrays are one value.
fn paths(value: &Value, path: &str, out: &mut BTreeSet<String>) {
    let tables =
        |list: &[Value]| !list.is_empty() && list.iter().all(|value| value.as_dict_ref().is_some());
    match value {
        Value::Empty(..) => {}
        Value::Dict(_, dict) if !matches!(schema::find(path), Some(schema::Place::Leaf(_))) => {
            for (name, value) in dict {
                let below = if path.is_empty() {
                    name.clone()
                } else {
                    format!("{path}.{name}")
                };
                if name != "kind" {
                    paths(value, &below, out);
                }
            }
        }
        Value::Array(_, list) if tables(list) => {
            for value in list {
                let kind = value
                    .as_dict_ref()
                    .and_then(|dict| dict.get("kind"))
                    .and_then(Value::as_str);
                paths(value, &format!("{path}[{}]", kind.unwrap_or_default()), out);
            }
        }
        _ => {
            out.insert(path.to_owned());
        }
    }
}

#[test]
fn every_default_and_example_of_the_schema_fits_its_type() {
    fn fits(ty: &Ty, value: &toml::de::DeValue<'_>) -> bool {
        match (ty, value.as_array(), value.as_table()) {
            (Ty::List(inner), Some(list), _) => {
                list.iter().all(|value| fits(inner, value.get_ref()))
            }
            (Ty::Map(inner), _, Some(table)) => {
                table.values().all(|value| fits(inner, value.get_ref()))
            }
            _ => scalar(ty, value).is_ok(),
        }
    }
    let leaves = schema::leaves();
    assert!(leaves.len() > 300, "{}", leaves.len());
    for (path, key) in leaves {
        let value = toml::de::DeValue::parse(key.default.text()).unwrap();
        assert!(
            fits(&key.ty, value.get_ref()),
            "{path} = {}",
            key.default.text()
        );
        assert!(
            !key.doc.is_empty() && !key.doc.contains("  "),
            "{path}: {:?}",
            key.doc
        );
        assert!(
            key.doc.ends_with(['.', ';']) || key.doc.ends_with("..."),
            "{path}: {:?}",
            key.doc
        );
    }
}

#[test]
fn the_reference_file_holds_every_key_and_parses_when_uncommented() {
    let text = uncommented();
    let layer = sources::parse_file(Path::new("etc/nightjar.toml"), &text)
        .unwrap_or_else(|problems| panic!("{problems:#?}"));
    let mut found = BTreeSet::new();
    paths(&Value::from(layer.data), "", &mut found);
    for (path, _) in schema::leaves() {
        // The overrides of listeners are the keys of [mqtt], said once.
        let repeated = path.starts_with("listeners.") && path.contains(".mqtt.");
        assert!(
            repeated || found.contains(&path.replace("<name>", "default")),
            "{path} is missing"
        );
    }
}

#[test]
fn the_file_in_etc_is_the_reference_file() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("etc/nightjar.toml");
    let file = std::fs::read_to_string(&path).unwrap();
    assert!(
        file == reference(),
        "etc/nightjar.toml is not what the schema says: run `nightjar config default > etc/nightjar.toml`"
    );
    // Switched on as it is, it changes nothing.
    let loaded = right(&file, &[], &[]);
    assert_eq!(
        crate::config::print(&loaded, false),
        crate::config::print(&right("", &[], &[]), false)
    );
}

#[test]
fn the_typed_tree_has_exactly_the_keys_of_the_schema() {
    // Everything is set, so that no key hides in an Option.
    let layer = sources::parse_file(Path::new("all.toml"), &uncommented()).unwrap();
    let (loaded, _) = crate::config::merge(crate::config::Options::default(), None, vec![layer])
        .unwrap_or_else(|errors| panic!("{errors}"));
    let typed = Value::serialize(&loaded.config).unwrap();
    let (mut in_schema, mut in_types) = (BTreeSet::new(), BTreeSet::new());
    paths(&loaded.tree, "", &mut in_schema);
    paths(&typed, "", &mut in_types);
    assert_eq!(
        in_schema.difference(&in_types).collect::<Vec<_>>(),
        Vec::<&String>::new(),
        "only in the schema"
    );
    assert_eq!(
        in_types.difference(&in_schema).collect::<Vec<_>>(),
        Vec::<&String>::new(),
        "only in the types"
    );
}

#[test]
fn defaults_that_depend_on_the_name_are_addresses_of_listeners_alone() {
    for (path, key) in schema::leaves() {
        let named = matches!(key.default, Default::Named(_));
        assert_eq!(
            named,
            path.starts_with("listeners.") && path.ends_with(".<name>.bind"),
            "{path}"
        );
    }
}

#[test]
fn the_json_schema_knows_every_key() {
    let schema = json_schema();
    for (path, _) in schema::leaves() {
        let mut place = &schema;
        for part in path.split('.') {
            if part == "<name>" {
                place = &place["additionalProperties"];
                continue;
            }
            let (name, index) = part
                .split_once('[')
                .map_or((part, None), |(name, index)| (name, Some(index)));
            place = &place["properties"][name];
            place = match index.map(|index| index.trim_end_matches(']')) {
                None => place,
                Some("") => &place["items"],
                Some(kind) => {
                    let all = place["items"]["oneOf"].as_array().unwrap();
                    all.iter()
                        .find(|one| one["properties"]["kind"]["const"] == kind)
                        .unwrap()
                }
            };
        }
        assert!(place["description"].is_string(), "{path}");
    }
}
