//! The cluster in `/metrics`.

use std::fmt::Write as _;

use nightjar_cluster::ClusterNode;

/// A name, its kind, what it is, and its samples: labels and value.
type Metric<'a> = (&'a str, &'a str, &'a str, Vec<(String, u64)>);

/// Digests stand in 48 bits, which a sample holds exactly.
const EXACT: u64 = (1 << 48) - 1;

/// Writes what this node sees of its cluster.
pub fn metrics(node: &ClusterNode, out: &mut String) {
    let status = node.status();
    let one = |value: u64| vec![(String::new(), value)];
    let each = |value: &dyn Fn(&nightjar_cluster::NodeStatus) -> Option<u64>| {
        let nodes = status.nodes.iter();
        nodes
            .filter_map(|node| Some((label(&node.name), value(node)?)))
            .collect::<Vec<_>>()
    };
    let name_of = |number: u64| {
        let node = status.nodes.iter().find(|node| node.number == number);
        node.map_or_else(|| number.to_string(), |node| node.name.clone())
    };
    let routes = |value: &dyn Fn(&nightjar_cluster::RouteStatus) -> Option<u64>| {
        let routes = status.routes.iter();
        routes
            .filter_map(|it| Some((label(&name_of(it.node)), value(it)?)))
            .collect::<Vec<_>>()
    };
    let all: [Metric<'_>; 19] = [
        (
            "serving",
            "gauge",
            "1 if this node serves in its cluster.",
            one(u64::from(status.state == "serving")),
        ),
        (
            "quorum",
            "gauge",
            "1 if a majority of the voters is up.",
            one(u64::from(status.quorum)),
        ),
        (
            "draining",
            "gauge",
            "1 if this node sends its clients elsewhere.",
            one(u64::from(status.draining)),
        ),
        (
            "leads",
            "gauge",
            "1 if this node leads.",
            one(u64::from(
                status.number != 0 && status.leader == Some(status.number),
            )),
        ),
        ("term", "counter", "Term of consensus.", one(status.term)),
        (
            "log_last",
            "counter",
            "Last entry of the log.",
            one(status.last),
        ),
        (
            "log_applied",
            "counter",
            "Last entry applied here.",
            one(status.applied),
        ),
        (
            "lease_milliseconds",
            "gauge",
            "Time until the lease of this node ends.",
            one(status.lease.unwrap_or(0)),
        ),
        (
            "node_up",
            "gauge",
            "1 if the lease of a node holds.",
            each(&|node| Some(u64::from(node.up))),
        ),
        (
            "node_votes",
            "gauge",
            "1 if a node votes.",
            each(&|node| Some(u64::from(matches!(node.role, "leader" | "voter")))),
        ),
        (
            "node_clients",
            "gauge",
            "Connections of a node, as last heard.",
            each(&|node| node.clients),
        ),
        (
            "node_lag_entries",
            "gauge",
            "Entries of the log that a node lacks; known to the leader alone.",
            each(&|node| node.lag),
        ),
        (
            "node_lease_milliseconds",
            "gauge",
            "Time until the lease of a node ends; known to the leader alone.",
            each(&|node| node.lease),
        ),
        (
            "link_queued_bytes",
            "gauge",
            "Bytes that wait for a node.",
            each(&|node| Some(node.queued as u64)),
        ),
        (
            "route_filters",
            "gauge",
            "Filters that a node wants, as known here.",
            routes(&|it| Some(it.filters as u64)),
        ),
        (
            "route_digest",
            "gauge",
            "Digest of them, the same on every node that knows the same.",
            routes(&|it| Some(u64::from_str_radix(&it.digest, 16).ok()? & EXACT)),
        ),
        (
            "subacks_waiting",
            "gauge",
            "SUBACKs that wait for other nodes.",
            one(status.waiting as u64),
        ),
        (
            "dropped_total",
            "counter",
            "Messages of QoS 0 that had no link to their node, or a full one.",
            one(status.dropped),
        ),
        (
            "links_refused_total",
            "counter",
            "Links that were refused, and frames that were not what they should be.",
            one(status.refused),
        ),
    ];
    for (name, kind, about, samples) in all {
        if samples.is_empty() {
            continue;
        }
        let name = format!("nightjar_cluster_{name}");
        // Writing to a String cannot fail.
        let _ = writeln!(out, "# HELP {name} {about}\n# TYPE {name} {kind}");
        for (labels, value) in samples {
            let _ = writeln!(out, "{name}{labels} {value}");
        }
    }
}

fn label(name: &str) -> String {
    let escaped = name
        .replace('\\', "\\\\")
        .replace('"', "\\\"")
        .replace('\n', "\\n");
    format!("{{peer=\"{escaped}\"}}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_nodes_stand_in_labels_whatever_they_are() {
        assert_eq!(label("a\"b\\c\nd"), "{peer=\"a\\\"b\\\\c\\nd\"}");
    }
}
