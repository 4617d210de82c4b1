//! nginx.conf, as far as it decides how long a quiet client lives.

use std::time::Duration;

use super::balancer::{Balancer, Way};

/// Blocks in blocks: more than any configuration has.
const MAX_DEPTH: usize = 32;
/// What NGINX takes when the file does not say.
const STREAM_DEFAULT: Duration = Duration::from_secs(600);
const HTTP_DEFAULT: Duration = Duration::from_secs(60);

/// A directive with what stands in its block.
#[derive(Debug, Default)]
struct Directive {
    words: Vec<String>,
    line: usize,
    block: Vec<Directive>,
}

impl Directive {
    fn name(&self) -> &str {
        self.words.first().map_or("", String::as_str)
    }

    fn find(&self, name: &str) -> Option<&Self> {
        self.block.iter().find(|it| it.name() == name)
    }
}

/// Reads a file; includes are not followed.
///
/// # Errors
/// A file whose blocks do not fit together.
pub fn read(text: &str) -> Result<Balancer, String> {
    let root = parse(text)?;
    let mut found = Balancer::default();
    for part in &root.block {
        for server in part.block.iter().filter(|it| it.name() == "server") {
            match part.name() {
                "stream" => stream(part, server, &mut found.ways),
                "http" => http(part, server, &mut found.ways),
                _ => {}
            }
        }
    }
    Ok(found)
}

fn stream(part: &Directive, server: &Directive, ways: &mut Vec<Way>) {
    let Some(pass) = server.find("proxy_pass") else {
        return;
    };
    let udp = server
        .find("listen")
        .is_some_and(|it| it.words.iter().any(|word| word == "udp"));
    // A datagram client that was forgotten is simply let through again.
    if udp {
        return;
    }
    let limit = server
        .find("proxy_timeout")
        .or_else(|| part.find("proxy_timeout"));
    let protocol = server
        .find("proxy_protocol")
        .or_else(|| part.find("proxy_protocol"));
    ways.push(Way {
        name: format!(
            "stream {} -> {}",
            listens(server),
            pass.words.get(1).map_or("", String::as_str)
        ),
        line: limit.map_or(server.line, |it| it.line),
        idle: Some(idle(limit).unwrap_or(STREAM_DEFAULT)),
        because: because(limit, "proxy_timeout"),
        proxy_protocol: protocol.is_some_and(|it| it.words.get(1).is_some_and(|word| word == "on")),
        ports: ports(part, pass),
    });
}

fn http(part: &Directive, server: &Directive, ways: &mut Vec<Way>) {
    for location in server.block.iter().filter(|it| it.name() == "location") {
        let Some(pass) = location.find("proxy_pass") else {
            continue;
        };
        let limit = [location, server, part]
            .into_iter()
            .find_map(|it| it.find("proxy_read_timeout"));
        ways.push(Way {
            name: format!(
                "http {} -> {}",
                listens(server),
                pass.words.get(1).map_or("", String::as_str)
            ),
            line: limit.map_or(location.line, |it| it.line),
            idle: Some(idle(limit).unwrap_or(HTTP_DEFAULT)),
            because: because(limit, "proxy_read_timeout"),
            proxy_protocol: false,
            ports: ports(part, pass),
        });
    }
}

/// Where a server listens, in words.
fn listens(server: &Directive) -> String {
    let listens: Vec<&str> = server
        .block
        .iter()
        .filter(|it| it.name() == "listen")
        .filter_map(|it| it.words.get(1))
        .map(String::as_str)
        .collect();
    listens.join(", ")
}

/// The time that a directive sets.
fn idle(limit: Option<&Directive>) -> Option<Duration> {
    time(limit?.words.get(1)?)
}

/// Where an idle time comes from.
fn because(limit: Option<&Directive>, name: &str) -> String {
    if limit.is_some() {
        name.to_owned()
    } else {
        format!("the default of {name}")
    }
}

/// Ports of the servers that `proxy_pass` names, itself or by an upstream.
fn ports(part: &Directive, pass: &Directive) -> Vec<u16> {
    let target = pass.words.get(1).map_or("", String::as_str);
    let target = target
        .trim_start_matches("http://")
        .trim_start_matches("https://")
        .trim_end_matches('/');
    let port = |address: &str| {
        address
            .rsplit(':')
            .next()
            .and_then(|port| port.parse::<u16>().ok())
    };
    match part
        .block
        .iter()
        .find(|it| it.name() == "upstream" && it.words.get(1).is_some_and(|name| name == target))
    {
        Some(upstream) => upstream
            .block
            .iter()
            .filter(|it| it.name() == "server")
            .filter_map(|it| port(it.words.get(1)?))
            .collect(),
        None => port(target).into_iter().collect(),
    }
}

fn parse(text: &str) -> Result<Directive, String> {
    let mut stack = vec![Directive::default()];
    let mut words: Vec<String> = Vec::new();
    let (mut line, mut begin) = (1, 1);
    let mut chars = text.chars().peekable();
    while let Some(c) = chars.next() {
        match c {
            '\n' => line += 1,
            '#' => while chars.next_if(|c| *c != '\n').is_some() {},
            ';' | '{' => {
                let directive = Directive {
                    words: std::mem::take(&mut words),
                    line: begin,
                    block: Vec::new(),
                };
                if c == '{' {
                    if stack.len() > MAX_DEPTH {
                        return Err(format!("line {line}: blocks are nested too deeply"));
                    }
                    stack.push(directive);
                } else if let Some(above) = stack.last_mut() {
                    above.block.push(directive);
                }
            }
            '}' => {
                let done = stack.pop();
                match (done, stack.last_mut()) {
                    (Some(done), Some(above)) => above.block.push(done),
                    _ => return Err(format!("line {line}: a }} that closes nothing")),
                }
            }
            c if c.is_whitespace() => {}
            quote @ ('"' | '\'') => {
                let mut word = String::new();
                for c in chars.by_ref() {
                    line += usize::from(c == '\n');
                    if c == quote {
                        break;
                    }
                    word.push(c);
                }
                words.push(word);
            }
            c => {
                if words.is_empty() {
                    begin = line;
                }
                let mut word = String::from(c);
                // `${name}` is one word.
                while let Some(c) = chars.next_if(|c| {
                    !c.is_whitespace() && !matches!(c, ';' | '{' | '}')
                        || word.ends_with('$') && *c == '{'
                }) {
                    word.push(c);
                    if c == '{' {
                        while let Some(c) = chars.next_if(|c| *c != '}' && *c != '\n') {
                            word.push(c);
                        }
                        word.extend(chars.next_if_eq(&'}'));
                    }
                }
                words.push(word);
            }
        }
    }
    if !words.is_empty() {
        return Err("the last directive has no ; at its end".to_owned());
    }
    match (stack.pop(), stack.is_empty()) {
        (Some(root), true) => Ok(root),
        _ => Err("a block is not closed".to_owned()),
    }
}

/// `150s`, `1h`, `1h 30m` is not read; a number alone is seconds.
fn time(text: &str) -> Option<Duration> {
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let (number, unit) = text.split_at(digits);
    let number: u64 = number.parse().ok()?;
    let seconds = |each: u64| number.checked_mul(each).map(Duration::from_secs);
    match unit {
        "ms" => Some(Duration::from_millis(number)),
        "" | "s" => seconds(1),
        "m" => seconds(60),
        "h" => seconds(3600),
        "d" => seconds(86_400),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "events {}\nstream {\n upstream u { least_conn; server a:1883; server b:1883 weight=1; }\n\
                        server { listen 1883; proxy_pass u; proxy_timeout 150s; proxy_protocol on; }\n\
                        server { listen 1884 udp; proxy_pass u; proxy_timeout 1s; }\n}\n\
                        http { server { listen 8083; location / { proxy_pass http://h:8083; } } }\n";

    #[test]
    fn limits_are_those_of_the_block_or_the_default() {
        let found = read(TEXT).unwrap();
        let told: Vec<(u64, bool, &[u16], usize)> = found
            .ways
            .iter()
            .map(|it| {
                (
                    it.idle.unwrap().as_secs(),
                    it.proxy_protocol,
                    &it.ports[..],
                    it.line,
                )
            })
            .collect();
        assert_eq!(
            told,
            [
                (150, true, &[1883, 1883][..], 4),
                (60, false, &[8083][..], 7)
            ]
        );
    }

    #[test]
    fn blocks_that_do_not_fit_are_errors() {
        assert!(read("stream { server {").is_err());
        assert!(read("}").unwrap_err().contains("line 1"));
        assert!(read(&"a {".repeat(100)).unwrap_err().contains("too deeply"));
        let _ = read("a ${b} \"c;d\" 'e").unwrap_err();
    }
}
