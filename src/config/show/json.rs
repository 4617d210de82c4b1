//! `config schema`.

use serde_json::{Map, json};

use crate::config::schema::{self, Default, Node, Table, Ty};

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
