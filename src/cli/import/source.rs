//! Files as lists of settings: `key = value` lines, `key value` lines, plugin lists, variables.

use std::path::Path;

use super::plan::At;

/// A key and its value with their place.
#[derive(Debug, Clone)]
pub struct Setting {
    /// Where it stands.
    pub at: At,
    /// The value, without quotes around it.
    pub value: String,
}

impl Setting {
    /// The key.
    pub fn key(&self) -> &str {
        &self.at.key
    }
}

/// Reads a file as text.
///
/// # Errors
/// What the system says, with the next step.
pub fn read(path: &Path) -> Result<String, String> {
    let bytes = std::fs::read(path).map_err(|error| {
        format!(
            "{}: {error}\n  help: name a file that this user may read",
            path.display()
        )
    })?;
    String::from_utf8(bytes).map_err(|_| {
        format!(
            "{} is not a text file in UTF-8\n  help: name the configuration file itself",
            path.display()
        )
    })
}

fn setting(path: &Path, number: usize, key: &str, value: &str) -> Setting {
    Setting {
        at: At {
            file: path.to_owned(),
            line: number + 1,
            key: key.trim().to_owned(),
        },
        value: unquoted(value.trim()).to_owned(),
    }
}

fn unquoted(text: &str) -> &str {
    text.strip_prefix('"')
        .and_then(|text| text.strip_suffix('"'))
        .unwrap_or(text)
}

fn lines(text: &str) -> impl Iterator<Item = (usize, &str)> {
    text.lines()
        .map(str::trim)
        .enumerate()
        .filter(|(_, line)| !line.is_empty() && !line.starts_with('#') && !line.starts_with('%'))
}

/// `key = value`; a line without `=` is a setting without a value.
pub fn equals(path: &Path, text: &str) -> Vec<Setting> {
    lines(text)
        .map(|(number, line)| {
            let (key, value) = line.split_once('=').unwrap_or((line, ""));
            setting(path, number, key, value)
        })
        .collect()
}

/// `key value`.
pub fn words(path: &Path, text: &str) -> Vec<Setting> {
    lines(text)
        .map(|(number, line)| {
            let (key, value) = line.split_once(char::is_whitespace).unwrap_or((line, ""));
            setting(path, number, key, value)
        })
        .collect()
}

/// `{emqx_auth_mysql,true}.` of 4.x or `emqx_auth_mysql.` of older ones: names and whether they are loaded.
pub fn plugins(path: &Path, text: &str) -> Vec<(Setting, bool)> {
    lines(text)
        .map(|(number, line)| {
            let line = line.trim_end_matches('.').trim_matches(['{', '}']);
            let (name, loaded) = line.split_once(',').unwrap_or((line, "true"));
            (setting(path, number, name, ""), loaded.trim() == "true")
        })
        .collect()
}

/// Variables such as `EMQX_LISTENER__TCP__EXTERNAL=1883` as the keys they stand for.
pub fn variables(path: &Path, text: &str) -> Vec<Setting> {
    equals(path, text)
        .into_iter()
        .map(|mut it| {
            if let Some(name) = it.at.key.strip_prefix("EMQX_") {
                let name = name.to_lowercase().replace("__", ".");
                it.at.key = match name.as_str() {
                    "node_name" => "node.name".to_owned(),
                    "node_cookie" => "node.cookie".to_owned(),
                    "cluster.discovery_strategy" => "cluster.discovery".to_owned(),
                    _ => name,
                };
            }
            it
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn plugin_lists_of_both_forms() {
        let text = "%% comment\n{emqx_management,true}.\n{emqx_modules, false}.\nemq_dashboard.\n";
        let found: Vec<(String, bool)> = plugins(Path::new("p"), text)
            .into_iter()
            .map(|(setting, loaded)| (setting.at.key, loaded))
            .collect();
        let want = [
            ("emqx_management".to_owned(), true),
            ("emqx_modules".to_owned(), false),
            ("emq_dashboard".to_owned(), true),
        ];
        assert_eq!(found, want);
    }

    #[test]
    fn variables_are_keys() {
        let text = "EMQX_LISTENER__TCP__EXTERNAL__PROXY_PROTOCOL=on\nEMQX_NODE_NAME=a@b\n";
        let keys: Vec<String> = variables(Path::new("e"), text)
            .into_iter()
            .map(|it| it.at.key)
            .collect();
        assert_eq!(keys, ["listener.tcp.external.proxy_protocol", "node.name"]);
    }

    #[test]
    fn lines_are_counted_from_one_and_quotes_taken_off() {
        let found = equals(Path::new("f"), "# one\n\n a.b = \"c = d\" \n");
        assert_eq!(
            (found[0].at.line, found[0].key(), found[0].value.as_str()),
            (3, "a.b", "c = d")
        );
    }
}
