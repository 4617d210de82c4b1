//! The part of HOCON that emqx.conf of 5.x is written in, as settings with whole paths.
//!
//! `a.b { c = 1 }` becomes `a.b.c`; elements of a list have their number as a part: `authentication.0.backend`. Comments,
//! quoted and triple-quoted texts, lists and objects are read; substitutions (`${a}`) are left as they are.

use std::path::Path;

use super::plan::At;
use super::source::Setting;

/// Objects in objects: more than any configuration has.
const MAX_DEPTH: usize = 64;

/// Reads a file.
///
/// # Errors
/// A place where the text is not HOCON.
pub fn parse(path: &Path, text: &str) -> Result<Vec<Setting>, String> {
    let mut parser = Parser {
        path,
        rest: text,
        line: 1,
        out: Vec::new(),
    };
    parser.object("", 0, true)?;
    // What stands later wins.
    let mut seen = std::collections::HashSet::new();
    let mut out: Vec<Setting> = parser
        .out
        .into_iter()
        .rev()
        .filter(|it| seen.insert(it.at.key.clone()))
        .collect();
    out.reverse();
    Ok(out)
}

struct Parser<'a> {
    path: &'a Path,
    rest: &'a str,
    line: usize,
    out: Vec<Setting>,
}

impl<'a> Parser<'a> {
    fn wrong(&self, what: &str) -> String {
        format!(
            "{}:{}: {what}\n  help: is this emqx.conf of 5.x? --from says what it is",
            self.path.display(),
            self.line
        )
    }

    fn take(&mut self, bytes: usize) -> &'a str {
        let (taken, rest) = self.rest.split_at(bytes);
        self.line += taken.matches('\n').count();
        self.rest = rest;
        taken
    }

    /// White space, commas and comments.
    fn skip(&mut self) {
        loop {
            let blank = self.rest.len()
                - self
                    .rest
                    .trim_start_matches(|c: char| c.is_whitespace() || c == ',')
                    .len();
            self.take(blank);
            if !self.rest.starts_with('#') && !self.rest.starts_with("//") {
                return;
            }
            let end = self.rest.find('\n').unwrap_or(self.rest.len());
            self.take(end);
        }
    }

    /// Blanks within a line.
    fn blanks(&mut self) {
        let count = self.rest.len() - self.rest.trim_start_matches([' ', '\t', '\r']).len();
        self.take(count);
    }

    fn object(&mut self, path: &str, depth: usize, whole_file: bool) -> Result<(), String> {
        if depth > MAX_DEPTH {
            return Err(self.wrong("objects are nested too deeply"));
        }
        loop {
            self.skip();
            if self.rest.is_empty() {
                return if whole_file {
                    Ok(())
                } else {
                    Err(self.wrong("an object is not closed"))
                };
            }
            if self.rest.starts_with('}') {
                if whole_file {
                    return Err(self.wrong("a } that closes nothing"));
                }
                self.take(1);
                return Ok(());
            }
            let line = self.line;
            let key = self.key()?;
            let full = if path.is_empty() {
                key.clone()
            } else {
                format!("{path}.{key}")
            };
            self.blanks();
            if let Some(sign) = [":", "="]
                .into_iter()
                .find(|sign| self.rest.starts_with(sign))
            {
                self.take(sign.len());
                self.skip();
            } else {
                self.skip();
                if key == "include" {
                    let value = self.text()?;
                    self.push(line, "include", value);
                    continue;
                }
                if !self.rest.starts_with('{') {
                    return Err(self.wrong(&format!("expected = or {{ behind {key}")));
                }
            }
            self.value(&full, line, depth)?;
        }
    }

    fn key(&mut self) -> Result<String, String> {
        if self.rest.starts_with('"') {
            return self.text();
        }
        let end = self
            .rest
            .find(|c: char| {
                c.is_whitespace() || matches!(c, '=' | ':' | '{' | '}' | '[' | ']' | ',')
            })
            .unwrap_or(self.rest.len());
        if end == 0 {
            return Err(self.wrong("expected a key"));
        }
        Ok(self.take(end).to_owned())
    }

    fn value(&mut self, path: &str, line: usize, depth: usize) -> Result<(), String> {
        if self.rest.starts_with('{') {
            self.take(1);
            return self.object(path, depth + 1, false);
        }
        if self.rest.starts_with('[') {
            if depth > MAX_DEPTH {
                return Err(self.wrong("lists are nested too deeply"));
            }
            self.take(1);
            for number in 0.. {
                self.skip();
                if self.rest.starts_with(']') {
                    self.take(1);
                    if number == 0 {
                        self.push(line, path, String::new());
                    }
                    return Ok(());
                }
                if self.rest.is_empty() {
                    return Err(self.wrong("a list is not closed"));
                }
                let line = self.line;
                self.value(&format!("{path}.{number}"), line, depth + 1)?;
            }
            return Ok(());
        }
        let text = self.text()?;
        self.push(line, path, text);
        Ok(())
    }

    /// A text: in three quotes, in quotes, or bare to the end of the line.
    fn text(&mut self) -> Result<String, String> {
        if let Some(inner) = self.rest.strip_prefix("\"\"\"") {
            let end = inner
                .find("\"\"\"")
                .ok_or_else(|| self.wrong("a text in three quotes is not closed"))?;
            let text = inner[..end].to_owned();
            self.take(end + 6);
            return Ok(text);
        }
        if self.rest.starts_with('"') {
            let mut out = String::new();
            let mut chars = self.rest.char_indices().skip(1);
            while let Some((at, c)) = chars.next() {
                match c {
                    '"' => {
                        self.take(at + 1);
                        return Ok(out);
                    }
                    '\\' => match chars.next() {
                        Some((_, 'n')) => out.push('\n'),
                        Some((_, 't')) => out.push('\t'),
                        Some((_, other)) => out.push(other),
                        None => break,
                    },
                    '\n' => break,
                    other => out.push(other),
                }
            }
            return Err(self.wrong("a text in quotes is not closed"));
        }
        let end = self
            .rest
            .find(['\n', ',', '}', ']', '#', '{'])
            .unwrap_or(self.rest.len());
        let text = self.take(end).trim().to_owned();
        if text.is_empty() {
            return Err(self.wrong("expected a value"));
        }
        Ok(text)
    }

    fn push(&mut self, line: usize, key: &str, value: String) {
        self.out.push(Setting {
            at: At {
                file: self.path.to_owned(),
                line,
                key: key.to_owned(),
            },
            value,
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<Vec<(String, String, usize)>, String> {
        let found = parse(Path::new("e"), text)?;
        Ok(found
            .into_iter()
            .map(|it| (it.at.key, it.value, it.at.line))
            .collect())
    }

    #[test]
    fn objects_lists_texts_and_comments() {
        let text = "# c\nnode { name = \"a@b\", cookie: x }\nlisteners.tcp.default {\n  bind = \"0.0.0.0:1883\" // c\n}\n\
                    authentication = [\n  { mechanism = password_based\n    query = \"\"\"select 'x'\"\"\" }\n]\nempty = []\nn.a = 1\nn { a = 2 }\n";
        let want = [
            ("node.name", "a@b", 2),
            ("node.cookie", "x", 2),
            ("listeners.tcp.default.bind", "0.0.0.0:1883", 4),
            ("authentication.0.mechanism", "password_based", 7),
            ("authentication.0.query", "select 'x'", 8),
            ("empty", "", 10),
            ("n.a", "2", 12),
        ]
        .map(|(key, value, line)| (key.to_owned(), value.to_owned(), line));
        assert_eq!(read(text).unwrap(), want);
    }

    #[test]
    fn broken_texts_are_errors_with_their_line() {
        for (text, told) in [
            ("a {\n b = 1\n", "e:3: an object is not closed"),
            ("a = \"x\n", "e:1: a text in quotes is not closed"),
            ("a = [1, 2", "e:1: a list is not closed"),
            ("\n}", "e:2: a } that closes nothing"),
            ("a b", "e:1: expected ="),
            ("= 1", "e:1: expected a key"),
        ] {
            let error = read(text).unwrap_err();
            assert!(error.starts_with(told), "{text:?}: {error}");
        }
        let deep = "a {".repeat(1000);
        assert!(read(&deep).unwrap_err().contains("too deeply"));
        let deep = format!("a = {}", "[".repeat(100_000));
        assert!(read(&deep).unwrap_err().contains("too deeply"));
    }
}
