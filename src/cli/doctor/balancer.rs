//! A load balancer's configuration against keep alive, the listeners and the number of clients.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use super::{Finding, haproxy, nginx};
use crate::config::Config;
use crate::config::model::ProxyProtocol;
use crate::config::units;

/// One way through a balancer: from a port that clients use to nodes.
#[derive(Debug, PartialEq, Eq)]
pub struct Way {
    /// What it is called: `frontend mqtt -> backend mqtt_nodes`.
    pub name: String,
    /// Line of the time limit, or of the way itself.
    pub line: usize,
    /// How long it may be idle; `None` is for ever.
    pub idle: Option<Duration>,
    /// Which setting says so.
    pub because: String,
    /// Whether the PROXY protocol is sent.
    pub proxy_protocol: bool,
    /// Ports of the nodes behind it.
    pub ports: Vec<u16>,
}

/// What a balancer's file says.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Balancer {
    /// Its ways for MQTT.
    pub ways: Vec<Way>,
    /// Limits on connections: where they stand and what they are.
    pub connections: Vec<(String, u64)>,
}

/// Reads a file and holds it against the configuration.
///
/// # Errors
/// A file that cannot be read or is neither HAProxy's nor NGINX's.
pub fn look(
    path: &Path,
    config: &Config,
    keep_alive: Duration,
    connections: u64,
) -> Result<Vec<Finding>, String> {
    let text = std::fs::read_to_string(path).map_err(|error| {
        format!(
            "{}: {error}\n  help: name a haproxy.cfg or nginx.conf that this user may read",
            path.display()
        )
    })?;
    let found = if is_haproxy(&text) {
        haproxy::read(&text)
    } else if text.contains('{') && text.contains(';') {
        nginx::read(&text).map_err(|why| format!("{}: {why}", path.display()))?
    } else {
        return Err(format!(
            "{} is neither a haproxy.cfg nor an nginx.conf",
            path.display()
        ));
    };
    if found.ways.is_empty() {
        return Err(format!(
            "{}: no way from a port to servers was found\n  help: name the file that has it; includes are not followed",
            path.display()
        ));
    }
    Ok(judge(path, &found, config, keep_alive, connections))
}

/// HAProxy's sections stand alone on their lines, NGINX's directives end with a semicolon.
fn is_haproxy(text: &str) -> bool {
    let bare = || text.lines().filter_map(|line| line.split('#').next());
    let section = |line: &str| {
        matches!(
            line.split_whitespace().next(),
            Some("frontend" | "backend" | "listen")
        )
    };
    bare().any(section) && !bare().any(|line| line.contains(';'))
}

fn judge(
    path: &Path,
    found: &Balancer,
    config: &Config,
    keep_alive: Duration,
    connections: u64,
) -> Vec<Finding> {
    let mut findings = Vec::new();
    let multiplier = config.mqtt.keep_alive_multiplier.max(1.0);
    let needed = keep_alive.mul_f64(multiplier);
    let ports = ports(config);
    for way in &found.ways {
        let what = format!("{}:{} {}", path.display(), way.line, way.name);
        match way.idle {
            Some(idle) if idle < needed => {
                let longest = Duration::from_secs(idle.div_f64(multiplier).as_secs());
                let note = format!(
                    "{} cuts clients that are quiet for longer: with it keep alive may be {} at most. Raise it, or tell 5.0 \
                     clients with mqtt.server_keep_alive = \"{}\"",
                    way.because,
                    written(longest),
                    written(longest)
                );
                findings
                    .push(Finding::new(what.as_str(), written(idle), note).wants(written(needed)));
            }
            Some(idle) => findings.push(Finding::new(
                what.as_str(),
                written(idle),
                format!("{} and keep alive", way.because),
            )),
            None => findings.push(Finding::new(what.as_str(), "for ever", "no time limit")),
        }
        for port in &way.ports {
            let Some((key, speaks)) = ports.get(port) else {
                continue;
            };
            match (way.proxy_protocol, speaks) {
                (true, ProxyProtocol::Off) => {
                    let note = "the balancer sends the PROXY protocol and the listener does not read it: every client is refused";
                    findings.push(
                        Finding::new(what.as_str(), "PROXY sent", note)
                            .wants(format!("{key}.proxy_protocol = \"optional\"")),
                    );
                }
                (false, ProxyProtocol::Required) => {
                    let note = "the listener asks for the PROXY protocol and the balancer does not send it: every client is refused";
                    findings.push(
                        Finding::new(what.as_str(), "no PROXY", note)
                            .wants("send-proxy-v2, or proxy_protocol on"),
                    );
                }
                _ => {}
            }
        }
    }
    for (what, limit) in &found.connections {
        let finding = Finding::new(
            format!("{} {what}", path.display()),
            limit.to_string(),
            "connections the balancer accepts",
        );
        findings.push(if *limit < connections {
            finding.wants(connections.to_string())
        } else {
            finding
        });
    }
    findings
}

/// The listeners of the configuration by port. A file with none of its own has the defaults, which may not be those of
/// the nodes: only what is set counts as known.
fn ports(config: &Config) -> BTreeMap<u16, (String, ProxyProtocol)> {
    config
        .listeners
        .streams()
        .map(|it| {
            (
                it.stream.bind.get().port(),
                (it.key(), it.stream.proxy_protocol),
            )
        })
        .collect()
}

fn written(time: Duration) -> String {
    // Whole seconds are what these limits are in.
    format!("{}s", time.as_secs())
        .parse::<units::Duration>()
        .map_or_else(|_| format!("{time:?}"), |it| it.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn findings(text: &str, settings: &[&str], keep_alive: u64) -> Vec<(String, String)> {
        let options = crate::config::Options {
            set: settings.iter().map(|it| (*it).to_owned()).collect(),
            file: Some("/dev/null".into()),
            ..Default::default()
        };
        let (loaded, _) = crate::config::read(&options).unwrap();
        let found = if is_haproxy(text) {
            haproxy::read(text)
        } else {
            nginx::read(text).unwrap()
        };
        judge(
            Path::new("f"),
            &found,
            &loaded.config,
            Duration::from_secs(keep_alive),
            1000,
        )
        .into_iter()
        .filter(Finding::lacking)
        .map(|it| (it.is, it.wanted))
        .collect()
    }

    const OLD: &str = "listen mqtts\n  bind *:8883 ssl crt x\n  mode tcp\n  maxconn 50000\n  timeout client 600s\n  default_backend nodes\n\
                       backend nodes\n  mode tcp\n  timeout server 50s\n  server n1 192.168.0.2:1883 check inter 10000\n";

    #[test]
    fn a_server_timeout_below_keep_alive_is_found() {
        assert_eq!(
            findings(OLD, &[], 60),
            [("50s".to_owned(), "1m30s".to_owned())]
        );
        assert_eq!(findings(OLD, &[], 33), []);
    }

    #[test]
    fn proxy_protocol_on_one_side_alone_is_found() {
        let sends = OLD
            .replace("check", "check send-proxy-v2")
            .replace("50s", "1h");
        assert_eq!(findings(&sends, &[], 60)[0].0, "PROXY sent");
        let both = [
            "listeners.tcp.default.proxy_protocol=required",
            "listeners.tcp.default.trusted_proxies=[\"10.0.0.0/8\"]",
        ];
        assert_eq!(findings(&sends, &both, 60), []);
        assert_eq!(
            findings(&OLD.replace("50s", "1h"), &both, 60)[0].0,
            "no PROXY"
        );
    }

    #[test]
    fn the_files_of_etc_lack_nothing() {
        let settings = [
            "listeners.tcp.default.proxy_protocol=optional",
            "listeners.tcp.default.trusted_proxies=[\"10.0.0.0/8\"]",
        ];
        for file in ["etc/haproxy.cfg", "etc/nginx.conf"] {
            let text =
                std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(file)).unwrap();
            assert_eq!(findings(&text, &settings, 60), [], "{file}");
        }
    }
}
