//! The sections of [`super::keys`] put together as the tree that a configuration file has.

use std::sync::LazyLock;

use super::{Default, Key, backends, keys};

/// A place in the tree.
#[derive(Debug)]
pub enum Node {
    /// A value.
    Leaf(Key),
    /// A table with fixed keys.
    Table(Table),
    /// A table of tables under names the user chooses: `listeners.tcp.<name>`.
    Names(Table),
    /// An array of tables.
    List(Table),
    /// An array of tables whose keys depend on their `kind`.
    Kinds(Vec<(&'static str, Table)>),
}

/// Keys of a table, in the order of the reference file.
#[derive(Debug, Default)]
pub struct Table {
    /// What the table is for; empty where the name says it.
    pub doc: &'static str,
    /// Names and what stands under them.
    pub entries: Vec<(&'static str, Node)>,
}

impl Table {
    /// What stands under a name.
    pub fn get(&self, name: &str) -> Option<&Node> {
        self.entries
            .iter()
            .find(|(known, _)| *known == name)
            .map(|(_, node)| node)
    }

    fn of(sections: &[&[Key]]) -> Self {
        let mut table = Self::default();
        for key in sections.iter().copied().flatten() {
            table.add(key.name, *key);
        }
        table
    }

    fn add(&mut self, path: &'static str, key: Key) {
        let Some((first, rest)) = path.split_once('.') else {
            self.entries.push((path, Node::Leaf(key)));
            return;
        };
        if self.get(first).is_none() {
            self.entries.push((first, Node::Table(Self::default())));
        }
        let below = self.entries.iter_mut().find(|(name, _)| *name == first);
        if let Some((_, Node::Table(table))) = below {
            table.add(rest, key);
        }
    }

    fn with(mut self, name: &'static str, node: Node) -> Self {
        self.entries.push((name, node));
        self
    }

    fn about(mut self, doc: &'static str) -> Self {
        self.doc = doc;
        self
    }
}

/// The keys of `[mqtt]` as overrides of a listener: unset means what `[mqtt]` says.
fn overrides() -> Table {
    let mut table = Table::of(&[keys::MQTT])
        .about("Any key of [mqtt], for the clients of this listener alone.");
    for (_, node) in &mut table.entries {
        if let Node::Leaf(key) = node {
            key.default = Default::Unset(key.default.text());
        }
    }
    table
}

/// One kind of stream listener.
fn listener(bind: Key, sections: &[&[Key]], tls: bool, doc: &'static str) -> Node {
    let first = [bind, keys::ENABLE_LISTENER];
    let all: Vec<&[Key]> = std::iter::once(first.as_slice())
        .chain(sections.iter().copied())
        .collect();
    let mut table = Table::of(&all).about(doc);
    if tls {
        let sni = Table::of(&[keys::SNI])
            .about("More certificates, chosen by the name a client asks for.");
        table = table.with("sni", Node::List(sni));
    }
    Node::Names(table.with("mqtt", Node::Table(overrides())))
}

fn kinds(kinds: &[backends::Kind]) -> Node {
    Node::Kinds(
        kinds
            .iter()
            .map(|(name, sections)| (*name, Table::of(sections)))
            .collect(),
    )
}

fn build() -> Table {
    let sn = [keys::BIND_SN, keys::ENABLE_LISTENER];
    let mqttsn = Table::of(&[&sn, keys::SN])
        .about("MQTT-SN 1.2 over UDP.")
        .with(
            "predefined",
            Node::List(
                Table::of(&[keys::PREDEFINED])
                    .about("Topic ids known without REGISTER, to all clients or some."),
            ),
        )
        .with("mqtt", Node::Table(overrides()));
    let listeners = Table::default()
        .with(
            "tcp",
            listener(
                keys::BIND_TCP,
                &[keys::STREAM],
                false,
                "MQTT over TCP. Any number of listeners: the last part is a name of your choice.",
            ),
        )
        .with(
            "tls",
            listener(
                keys::BIND_TLS,
                &[keys::STREAM, keys::TLS],
                true,
                "MQTT over TLS.",
            ),
        )
        .with(
            "ws",
            listener(
                keys::BIND_WS,
                &[keys::STREAM, keys::WS],
                false,
                "MQTT over WebSocket.",
            ),
        )
        .with(
            "wss",
            listener(
                keys::BIND_WSS,
                &[keys::STREAM, keys::TLS, keys::WS],
                true,
                "MQTT over secure WebSocket.",
            ),
        )
        .with("mqttsn", Node::Names(mqttsn));
    let limits = Table::of(&[keys::LIMITS])
        .with(
            "client",
            Node::Table(Table::of(&[keys::BUCKET]).about("Limits of each client id.")),
        )
        .with(
            "user",
            Node::Table(
                Table::of(&[keys::BUCKET])
                    .about("Limits of each user name, all its clients together."),
            ),
        )
        .with(
            "address",
            Node::Table(
                Table::of(&[keys::BUCKET])
                    .about("Limits of each address, all its clients together."),
            ),
        )
        .with("flapping", Node::Table(Table::of(&[keys::FLAPPING])));
    let cluster = Table::of(&[keys::CLUSTER])
        .about("A node without these settings is a cluster of one and serves at once.")
        .with(
            "tls",
            Node::Table(
                Table::of(&[keys::CLUSTER_TLS])
                    .about("Mutual TLS between nodes, in place of the cookie."),
            ),
        )
        .with(
            "dns",
            Node::Table(Table::of(&[keys::CLUSTER_DNS]).about("For discovery = \"dns\".")),
        )
        .with(
            "etcd",
            Node::Table(Table::of(&[keys::CLUSTER_ETCD]).about("For discovery = \"etcd\".")),
        )
        .with(
            "k8s",
            Node::Table(Table::of(&[keys::CLUSTER_K8S]).about("For discovery = \"k8s\".")),
        )
        .with(
            "mcast",
            Node::Table(Table::of(&[keys::CLUSTER_MCAST]).about("For discovery = \"mcast\".")),
        );
    Table::of(&[keys::TOP])
        .with("node", Node::Table(Table::of(&[keys::NODE])))
        .with("listeners", Node::Table(listeners))
        .with(
            "auth",
            Node::Table(
                Table::of(&[keys::AUTH])
                    .about("Who may connect. Without any authenticator, clients from loopback addresses alone.")
                    .with("chain", kinds(backends::AUTH_KINDS)),
            ),
        )
        .with(
            "acl",
            Node::Table(
                Table::of(&[keys::ACL])
                    .about("What clients may publish and subscribe to. Without any source: everything but $SYS/#.")
                    .with("sources", kinds(backends::ACL_KINDS)),
            ),
        )
        .with("mqtt", Node::Table(Table::of(&[keys::MQTT]).about("MQTT 3.1, 3.1.1 and 5.0; a listener may override each key.")))
        .with("retained", Node::Table(Table::of(&[keys::RETAINED])))
        .with("limits", Node::Table(limits))
        .with("log", Node::Table(Table::of(&[keys::LOG])))
        .with("metrics", Node::Table(Table::of(&[keys::METRICS])))
        .with("cluster", Node::Table(cluster))
        .with("api", Node::Table(Table::of(&[keys::API]).about("Dashboard, HTTP API, metrics.")))
}

/// The whole tree.
pub fn root() -> &'static Table {
    static ROOT: LazyLock<Table> = LazyLock::new(build);
    &ROOT
}

/// Every leaf with its path: `listeners.tcp.<name>.bind`, `auth.chain[mysql].server`, `predefined[].id`.
pub fn leaves() -> Vec<(String, &'static Key)> {
    fn walk(table: &'static Table, path: &str, out: &mut Vec<(String, &'static Key)>) {
        for (name, node) in &table.entries {
            let here = if path.is_empty() {
                (*name).to_owned()
            } else {
                format!("{path}.{name}")
            };
            match node {
                Node::Leaf(key) => out.push((here, key)),
                Node::Table(below) => walk(below, &here, out),
                Node::Names(below) => walk(below, &format!("{here}.<name>"), out),
                Node::List(below) => walk(below, &format!("{here}[]"), out),
                Node::Kinds(kinds) => {
                    for (kind, below) in kinds {
                        walk(below, &format!("{here}[{kind}]"), out);
                    }
                }
            }
        }
    }
    let mut out = Vec::new();
    walk(root(), "", &mut out);
    out
}

/// The place a path names. A user's own names stand for themselves (`listeners.tcp.lab.bind`), an element of an array
/// is `[]`, a number in brackets (`predefined[0]`), or a kind (`auth.chain[mysql]`).
pub fn find(path: &str) -> Option<Place> {
    let mut table = Some(root());
    let mut found = None;
    let mut parts = path.split('.');
    while let Some(part) = parts.next() {
        let (name, index) = match part.split_once('[') {
            Some((name, index)) => (name, Some(index.strip_suffix(']')?)),
            None => (part, None),
        };
        let node = table?.get(name)?;
        (found, table) = match (node, index) {
            (Node::Leaf(key), None) => (Some(Place::Leaf(key)), None),
            (Node::Table(below), None) => (Some(Place::Table(below)), Some(below)),
            (Node::Names(below), None) => {
                found = Some(Place::Table(below));
                // The next part is the user's name for one of them.
                (found, parts.next().map(|_| below))
            }
            (Node::List(below), _) => (Some(Place::Table(below)), Some(below)),
            (Node::Kinds(kinds), Some(kind)) => {
                let below = &kinds.iter().find(|(name, _)| *name == kind)?.1;
                (Some(Place::Table(below)), Some(below))
            }
            (Node::Kinds(kinds), None) => (Some(Place::Kinds(kinds)), None),
            (_, Some(_)) => return None,
        };
    }
    found
}

/// What [`find`] found.
#[derive(Debug, Clone, Copy)]
pub enum Place {
    /// A key.
    Leaf(&'static Key),
    /// A table of keys.
    Table(&'static Table),
    /// An array of tables by kind.
    Kinds(&'static [(&'static str, Table)]),
}
