//! haproxy.cfg, as far as it decides how long a quiet client lives and how many there may be.

use std::collections::BTreeMap;
use std::time::Duration;

use super::balancer::{Balancer, Way};

/// A section while it is read; `listen` is frontend and backend in one.
#[derive(Debug, Clone, Default)]
struct Section {
    kind: String,
    name: String,
    line: usize,
    /// Time limits by name, with their lines.
    timeouts: BTreeMap<String, (Duration, usize)>,
    backends: Vec<String>,
    ports: Vec<u16>,
    proxy_protocol: bool,
    maxconn: Option<u64>,
}

/// Reads a file. What it does not know it passes over.
pub fn read(text: &str) -> Balancer {
    let mut sections: Vec<Section> = Vec::new();
    let mut defaults = Section::default();
    for (number, line) in text.lines().enumerate() {
        let line = line.split('#').next().unwrap_or_default();
        let words: Vec<&str> = line.split_whitespace().collect();
        match words[..] {
            [
                "global" | "defaults" | "resolvers" | "peers" | "userlist" | "cache" | "program"
                | "mailers" | "ring",
                ..,
            ]
            | ["frontend" | "backend" | "listen", _, ..] => {
                let kind = words[0].to_owned();
                // Sections take what the defaults before them say.
                let mut section = if matches!(words[0], "frontend" | "backend" | "listen") {
                    Section {
                        timeouts: defaults.timeouts.clone(),
                        ..Section::default()
                    }
                } else {
                    Section::default()
                };
                section.kind = kind;
                section.name = words.get(1).copied().unwrap_or_default().to_owned();
                section.line = number + 1;
                sections.push(section);
            }
            ["timeout", name, value, ..] => {
                if let (Some(section), Some(time)) = (sections.last_mut(), time(value)) {
                    section.timeouts.insert(name.to_owned(), (time, number + 1));
                }
            }
            ["default_backend" | "use_backend", name, ..] => {
                if let Some(section) = sections.last_mut() {
                    section.backends.push(name.to_owned());
                }
            }
            ["maxconn", count, ..] => {
                if let Some(section) = sections.last_mut() {
                    section.maxconn = count.parse().ok();
                }
            }
            ["server", _, address, ref options @ ..] => {
                if let Some(section) = sections.last_mut() {
                    section.ports.extend(
                        address
                            .rsplit(':')
                            .next()
                            .and_then(|port| port.parse::<u16>().ok()),
                    );
                    section.proxy_protocol |=
                        options.iter().any(|word| word.starts_with("send-proxy"));
                }
            }
            _ => {}
        }
        if let Some(section) = sections.last()
            && section.kind == "defaults"
        {
            defaults = section.clone();
        }
    }
    let mut found = Balancer::default();
    for section in &sections {
        if let Some(count) = section.maxconn {
            found.connections.push((
                format!("{} {} maxconn", section.kind, section.name).replace("  ", " "),
                count,
            ));
        }
        if section.kind == "frontend" || section.kind == "listen" {
            ways(section, &sections, &mut found.ways);
        }
    }
    found
}

fn ways(front: &Section, sections: &[Section], out: &mut Vec<Way>) {
    let mut backs: Vec<&Section> = sections
        .iter()
        .filter(|it| it.kind == "backend" && front.backends.contains(&it.name))
        .collect();
    if front.kind == "listen" && !front.ports.is_empty() {
        backs.push(front);
    }
    for back in backs {
        // Once both sides are connected, `timeout tunnel` stands for the other two.
        let tunnel = back
            .timeouts
            .get("tunnel")
            .map(|it| ("timeout tunnel", *it));
        let client = front
            .timeouts
            .get("client")
            .map(|it| ("timeout client", *it));
        let server = back
            .timeouts
            .get("server")
            .map(|it| ("timeout server", *it));
        let shortest = [client, server]
            .into_iter()
            .flatten()
            .min_by_key(|(_, (time, _))| *time);
        let limit = tunnel.or(shortest);
        let name = if front.line == back.line {
            format!("listen {}", front.name)
        } else {
            format!("{} {} -> backend {}", front.kind, front.name, back.name)
        };
        out.push(Way {
            name,
            line: limit.map_or(front.line, |(_, (_, line))| line),
            idle: limit.map(|(_, (time, _))| time),
            because: limit.map_or_else(String::new, |(name, _)| name.to_owned()),
            proxy_protocol: back.proxy_protocol,
            ports: back.ports.clone(),
        });
    }
}

/// `600s`, `1h`; a number alone is milliseconds.
fn time(text: &str) -> Option<Duration> {
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let (number, unit) = text.split_at(digits);
    let number: u64 = number.parse().ok()?;
    let seconds = |each: u64| number.checked_mul(each).map(Duration::from_secs);
    match unit {
        "us" => Some(Duration::from_micros(number)),
        "" | "ms" => Some(Duration::from_millis(number)),
        "s" => seconds(1),
        "m" => seconds(60),
        "h" => seconds(3600),
        "d" => seconds(86_400),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tunnel_stands_for_client_and_server() {
        let text = "defaults\n timeout client 10s\n timeout server 20s\nfrontend f\n bind *:1\n default_backend b\n\
                    backend b\n server s h:1883 send-proxy-v2\n";
        let found = read(text);
        assert_eq!(
            (found.ways[0].idle, found.ways[0].line),
            (Some(Duration::from_secs(10)), 2)
        );
        assert!(found.ways[0].proxy_protocol);
        assert_eq!(found.ways[0].ports, [1883]);
        let found = read(&text.replace(
            "backend b\n server",
            "backend b\n timeout tunnel 1h\n server",
        ));
        assert_eq!(found.ways[0].idle, Some(Duration::from_secs(3600)));
        assert_eq!(found.ways[0].because, "timeout tunnel");
    }

    #[test]
    fn numbers_alone_are_milliseconds() {
        assert_eq!(time("30000"), Some(Duration::from_secs(30)));
        assert_eq!(time("50s"), Some(Duration::from_secs(50)));
        assert_eq!(time("1h"), Some(Duration::from_secs(3600)));
        assert_eq!(time("soon"), None);
        assert_eq!(time("99999999999999999999d"), None);
    }
}
