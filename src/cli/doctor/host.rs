//! Limits of the system: open files, queues of the network, buffers of UDP, connection tracking.

use std::fmt::Write as _;
use std::path::Path;

use super::Finding;
use crate::config::Config;

/// Files the process needs beside those of clients.
const OWN_FILES: u64 = 1024;
/// Connections of one client in the tables of a firewall, and room for those that just ended.
const TRACKED: u64 = 2;

/// A kernel setting that should be at least so much.
#[derive(Debug)]
pub struct Need {
    /// Its name as sysctl has it.
    pub name: &'static str,
    /// What it should be at least.
    pub at_least: u64,
    /// Why.
    pub why: &'static str,
}

/// The kernel settings that a node with this configuration wants for so many clients.
pub fn needs(config: &Config, connections: u64) -> Vec<Need> {
    let files = (connections + OWN_FILES).next_power_of_two().max(1 << 20);
    let backlog = config
        .listeners
        .streams()
        .map(|it| u64::from(it.stream.backlog))
        .max()
        .unwrap_or(0);
    let mut needs = vec![
        Need {
            name: "fs.nr_open",
            at_least: files,
            why: "open files that one process may be allowed: every client is one",
        },
        Need {
            name: "fs.file-max",
            at_least: files * 2,
            why: "open files of the whole system",
        },
        Need {
            name: "net.core.somaxconn",
            at_least: backlog.max(4096),
            why: "cuts the backlog of listeners: when many clients come back at once, what does not fit waits a second or more",
        },
        Need {
            name: "net.ipv4.tcp_max_syn_backlog",
            at_least: 16_384,
            why: "connections whose handshake is under way",
        },
        Need {
            name: "net.core.netdev_max_backlog",
            at_least: 16_384,
            why: "packets that wait for the kernel between the network card and the sockets",
        },
    ];
    if config.listeners.datagrams().next().is_some() {
        needs.push(Need {
            name: "net.core.rmem_max",
            at_least: 8 << 20,
            why: "receive buffer of the MQTT-SN socket: all sensors share it, and what does not fit is lost",
        });
        needs.push(Need {
            name: "net.core.wmem_max",
            at_least: 4 << 20,
            why: "send buffer of the MQTT-SN socket",
        });
    }
    needs.push(Need {
        name: "net.netfilter.nf_conntrack_max",
        at_least: (connections * TRACKED).max(262_144),
        why: "connections that a stateful firewall follows: above it new clients are dropped without a word",
    });
    needs
}

/// Looks at the limits below a /proc.
pub fn look(proc: &Path, needs: &[Need], connections: u64) -> Vec<Finding> {
    let mut findings = vec![open_files(proc, connections)];
    for need in needs {
        let path = proc.join("sys").join(need.name.replace('.', "/"));
        // A setting that is not there belongs to a part of the kernel that is not in use, as connection tracking.
        let Ok(text) = std::fs::read_to_string(path) else {
            continue;
        };
        let value = text.trim();
        let finding = Finding::new(need.name, value, need.why);
        let enough = value.parse::<u64>().is_ok_and(|it| it >= need.at_least);
        findings.push(if enough {
            finding
        } else {
            finding.wants(need.at_least.to_string())
        });
    }
    findings
}

fn open_files(proc: &Path, connections: u64) -> Finding {
    let text = std::fs::read_to_string(proc.join("self/limits")).unwrap_or_default();
    let hard = text
        .lines()
        .find(|line| line.starts_with("Max open files"))
        .and_then(|line| line.split_whitespace().nth(4))
        .unwrap_or("unknown");
    let wanted = connections + OWN_FILES;
    let note = "hard limit of open files of this user; in a unit LimitNOFILE=1048576, in Docker --ulimit nofile=1048576, \
                in /etc/security/limits.conf `nightjar hard nofile 1048576`";
    let finding = Finding::new("open files", hard, note);
    let enough = hard == "unlimited" || hard.parse::<u64>().is_ok_and(|it| it >= wanted);
    if enough {
        finding
    } else {
        finding.wants(wanted.to_string())
    }
}

/// The settings as a file for /etc/sysctl.d.
pub fn sysctl_file(needs: &[Need], connections: u64) -> String {
    let mut out = format!(
        "# Kernel settings for a Nightjar node with {connections} clients; `nightjar doctor --write FILE` makes this file.\n\
         # Apply: sysctl --system. What is higher on your system may stay: take its line out.\n"
    );
    for need in needs {
        let _ = write!(out, "\n# {}.\n", need.why);
        // Without the module its settings do not exist: a minus lets sysctl pass over them.
        let optional = if need.name.contains("conntrack") {
            "-"
        } else {
            ""
        };
        let _ = writeln!(out, "{optional}{} = {}", need.name, need.at_least);
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A /proc with these files.
    fn proc(files: &[(&str, &str)]) -> std::path::PathBuf {
        static NUMBER: std::sync::atomic::AtomicU32 = std::sync::atomic::AtomicU32::new(0);
        let number = NUMBER.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        let root =
            std::env::temp_dir().join(format!("nightjar-doctor-{}-{number}", std::process::id()));
        for (name, text) in files {
            let path = root.join(name);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, text).unwrap();
        }
        root
    }

    const NEED: Need = Need {
        name: "net.core.somaxconn",
        at_least: 4096,
        why: "why",
    };

    #[test]
    fn what_is_less_than_needed_is_lacking() {
        let limits = "Limit  Soft Limit  Hard Limit  Units\nMax open files            1024                 20000                files\n";
        let root = proc(&[("self/limits", limits), ("sys/net/core/somaxconn", "128\n")]);
        let found = look(&root, &[NEED], 50_000);
        let told: Vec<(&str, &str, &str)> = found
            .iter()
            .map(|it| (it.what.as_str(), it.is.as_str(), it.wanted.as_str()))
            .collect();
        assert_eq!(
            told,
            [
                ("open files", "20000", "51024"),
                ("net.core.somaxconn", "128", "4096")
            ]
        );
        std::fs::remove_dir_all(root).unwrap();
    }

    #[test]
    fn what_suffices_or_does_not_exist_is_not() {
        let limits = "Max open files  1024  1048576  files\n";
        let root = proc(&[
            ("self/limits", limits),
            ("sys/net/core/somaxconn", "4096\n"),
        ]);
        let absent = Need {
            name: "net.netfilter.nf_conntrack_max",
            at_least: 1,
            why: "why",
        };
        let found = look(&root, &[NEED, absent], 50_000);
        assert_eq!(found.len(), 2);
        assert!(found.iter().all(|it| !it.lacking()));
        std::fs::remove_dir_all(root).unwrap();
    }
}
