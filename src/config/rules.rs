//! Rules across keys: what each key allows by itself may still make no sense together.

use figment::value::Value;

use super::error::Problem;
use super::layer::Layer;
use super::model::{
    AclSource, Authenticator, CertAsUsername, Config, Discovery, Durability, HttpAuth,
    ProxyProtocol, SnAuth, StreamListener, Tls, Verify,
};
use super::read::join;
use super::schema::{self, Node};
use super::units::{BindAddr, Duration, OffOr};
use super::{Loaded, ValueRef, lookup};

/// Keys that must be set and are not: the address of a listener with a name of its own.
pub(super) fn unset(tree: &Value, layers: &[Layer]) -> Vec<Problem> {
    let mut problems = Vec::new();
    let Some(Node::Table(listeners)) = schema::root().get("listeners") else {
        return problems;
    };
    for (kind, node) in &listeners.entries {
        let (Node::Names(table), Some(names)) = (
            node,
            lookup(tree, &format!("listeners.{kind}")).and_then(Value::as_dict_ref),
        ) else {
            continue;
        };
        for (name, value) in names {
            let mut dict = value.as_dict_ref().cloned().unwrap_or_default();
            for missing in super::read::fill(table, &mut dict, "", false) {
                let path = format!("listeners.{kind}.{name}");
                let below = format!("{path}.");
                let origin = layers
                    .iter()
                    .rev()
                    .find_map(|layer| {
                        let first_key = || {
                            layer
                                .given
                                .range(below.clone()..)
                                .next()
                                .filter(|(given, _)| given.starts_with(&below))
                        };
                        layer
                            .given
                            .get(&path)
                            .or_else(|| first_key().map(|(_, origin)| origin))
                    })
                    .cloned()
                    .unwrap_or_default();
                problems.push(
                    Problem::new(origin, join(&path, &missing), "this key must be set")
                        .help(format!("only the listener called `default` has an address by itself; write {missing} = \"0.0.0.0:PORT\"")),
                );
            }
        }
    }
    problems
}

/// The walk over a whole configuration.
struct Rules<'a> {
    loaded: &'a Loaded,
    problems: Vec<Problem>,
}

impl Rules<'_> {
    fn problem(&mut self, key: &str, message: impl Into<String>, help: impl Into<String>) {
        let origin = self.loaded.origin(key);
        self.problems
            .push(Problem::new(origin, key, message).help(help));
    }

    fn require(&mut self, good: bool, key: &str, message: &str, help: &str) {
        if !good {
            self.problem(key, message, help);
        }
    }
}

/// Checks all rules.
pub(super) fn check(loaded: &Loaded) -> Vec<Problem> {
    let config = &loaded.config;
    let mut rules = Rules {
        loaded,
        problems: Vec::new(),
    };
    node(&mut rules, config);
    for listener in config.listeners.streams() {
        stream(&mut rules, &listener);
        mqtt(&mut rules, &join(&listener.key(), "mqtt"));
    }
    mqtt(&mut rules, "mqtt");
    for (name, _) in config.listeners.datagrams() {
        mqttsn(&mut rules, name);
        mqtt(&mut rules, &format!("listeners.mqttsn.{name}.mqtt"));
    }
    addresses(&mut rules, config);
    auth(&mut rules, config);
    cluster(&mut rules, config);
    rules.problems
}

fn node(rules: &mut Rules<'_>, config: &Config) {
    let name = &config.node.name;
    let good = !name.is_empty()
        && name.len() <= 255
        && !name.chars().any(|c| c.is_whitespace() || c.is_control());
    rules.require(
        good,
        "node.name",
        "a node's name has 1 to 255 characters and no spaces",
        "for example name = \"nightjar@10.0.0.1\"",
    );
    rules.require(
        config.limits.memory_high <= config.limits.memory_critical,
        "limits.memory_high",
        "memory_high is above memory_critical",
        "new connections are refused before publishers are paused: make memory_high the smaller one",
    );
    if let Err(error) = tracing_subscriber::EnvFilter::try_new(&config.log.level) {
        rules.problem(
            "log.level",
            format!("not a level: {error}"),
            "for example \"info\" or \"info,nightjar_gateway=debug\"",
        );
    }
    rules.require(
        config.limits.connect_packet_size <= config.limits.connect_memory,
        "limits.connect_memory",
        "connect_memory is smaller than connect_packet_size, the memory of one connection",
        "raise limits.connect_memory",
    );
}

fn stream(rules: &mut Rules<'_>, listener: &StreamListener<'_>) {
    let path = listener.key();
    let at = |name: &str| join(&path, name);
    let stream = listener.stream;
    let proxied = stream.proxy_protocol != ProxyProtocol::Off;
    rules.require(
        !proxied || !stream.trusted_proxies.is_empty(),
        &at("proxy_protocol"),
        "no proxy is trusted, so no PROXY header would be believed",
        "name the proxies: trusted_proxies = [\"10.0.0.5\"]",
    );
    let certificate = proxied || listener.tls.is_some_and(|tls| tls.verify == Verify::Peer);
    rules.require(
        stream.cert_as_username == CertAsUsername::Off || certificate,
        &at("cert_as_username"),
        "no client certificate is asked for on this listener",
        "set verify = \"peer\" with a ca_file, or proxy_protocol behind a proxy that ends TLS",
    );
    mountpoint(rules, &at("mountpoint"), &stream.mountpoint);
    positive(rules, &at("handshake_timeout"), stream.handshake_timeout);
    positive(rules, &at("proxy_timeout"), stream.proxy_timeout);
    if let Some(tls) = listener.tls {
        tls_files(rules, &path, tls);
    }
}

fn tls_files(rules: &mut Rules<'_>, path: &str, tls: &Tls) {
    let at = |name: &str| join(path, name);
    rules.require(
        tls.cert_file.is_none() || tls.key_file.is_some(),
        &at("cert_file"),
        "cert_file is set and key_file is not",
        "set key_file to the private key of this certificate, or remove both for a generated one",
    );
    rules.require(
        tls.key_file.is_none() || tls.cert_file.is_some(),
        &at("key_file"),
        "key_file is set and cert_file is not",
        "set cert_file to the certificate of this key, or remove both for a generated one",
    );
    rules.require(
        tls.verify == Verify::None || tls.ca_file.is_some(),
        &at("verify"),
        "client certificates cannot be checked without ca_file",
        "set ca_file to the certificates that sign your clients' (`nightjar certs ca` makes one)",
    );
    rules.require(
        !tls.fail_if_no_peer_cert || tls.verify == Verify::Peer,
        &at("fail_if_no_peer_cert"),
        "no client certificate is asked for",
        "set verify = \"peer\"",
    );
    rules.require(
        tls.crl_file.is_none() || tls.verify == Verify::Peer,
        &at("crl_file"),
        "no client certificate is asked for, so none can be revoked",
        "set verify = \"peer\"",
    );
}

fn mountpoint(rules: &mut Rules<'_>, key: &str, text: &str) {
    let good = !text.contains(['+', '#', '\0']) && text.len() <= 1024;
    rules.require(
        good,
        key,
        "a mountpoint is a part of a topic name: no +, no #",
        "for example mountpoint = \"tenant1/\"",
    );
}

fn positive(rules: &mut Rules<'_>, key: &str, value: Duration) {
    rules.require(
        !value.get().is_zero(),
        key,
        "a time of 0 would end everything at once",
        "for example \"15s\"",
    );
}

/// Rules of `[mqtt]`, or of a listener's overrides: `path` names the table.
fn mqtt(rules: &mut Rules<'_>, path: &str) {
    let at = |name: &str| join(path, name);
    let text = |rules: &Rules<'_>, key: &str| {
        rules
            .loaded
            .value(key)
            .and_then(|value| value.as_str().map(str::to_owned))
    };
    let duration = |rules: &Rules<'_>, name: &str| {
        text(rules, &at(name)).and_then(|text| text.parse::<Duration>().ok())
    };
    for name in ["connect_timeout", "retry_interval", "backpressure_timeout"] {
        if let Some(value) = duration(rules, name) {
            positive(rules, &at(name), value);
        }
    }
    for (name, most) in [
        ("server_keep_alive", 65535),
        ("message_expiry", u64::from(u32::MAX)),
    ] {
        if let Some(value) = duration(rules, name) {
            let value = value.get();
            let whole = value.subsec_nanos() == 0 && (1..=most).contains(&value.as_secs());
            rules.require(
                whole,
                &at(name),
                &format!("expected whole seconds, 1 to {most}"),
                "the protocol counts it in seconds",
            );
        }
    }
    for name in ["session_expiry_3x", "max_session_expiry"] {
        if let Some(value) = duration(rules, name) {
            let fits = value.get().as_secs() <= u64::from(u32::MAX);
            rules.require(
                fits,
                &at(name),
                "longer than the protocol can say",
                "at most 4294967295s, which means for ever",
            );
        }
    }
    let size = text(rules, &at("max_packet_size"))
        .and_then(|text| text.parse::<super::units::ByteSize>().ok());
    if let Some(size) = size {
        // The fixed header's remaining length has four bytes of seven bits.
        let good = (64..=268_435_460).contains(&size.get());
        rules.require(
            good,
            &at("max_packet_size"),
            "expected 64B to 256MiB",
            "268435460 bytes is the largest packet of MQTT",
        );
    }
}

fn mqttsn(rules: &mut Rules<'_>, name: &str) {
    let path = format!("listeners.mqttsn.{name}");
    let at = |name: &str| join(&path, name);
    let Some(listener) = rules.loaded.config.listeners.mqttsn.get(name) else {
        return;
    };
    mountpoint(rules, &at("mountpoint"), &listener.mountpoint);
    positive(rules, &at("retry_interval"), listener.retry_interval);
    if let OffOr::On(interval) = listener.advertise_interval {
        let good = (1..=65535).contains(&interval.get().as_secs());
        rules.require(
            good,
            &at("advertise_interval"),
            "expected 1s to 65535s",
            "ADVERTISE tells it as 16 bits of seconds",
        );
    }
    for (index, group) in listener.multicast.iter().enumerate() {
        let broadcast = matches!(group.ip(), std::net::IpAddr::V4(v4) if v4.octets()[3] == 255);
        rules.require(
            (group.ip().is_multicast() || broadcast) && group.port() != 0,
            &at(&format!("multicast[{index}]")),
            "not a multicast or broadcast address with a port",
            "for example \"225.1.1.1:1884\" or \"[ff02::1]:1884\"",
        );
    }
    rules.require(
        listener.auth != SnAuth::Trusted || !listener.trusted_sources.is_empty(),
        &at("auth"),
        "\"trusted\" admits trusted_sources only, and there are none",
        "for example trusted_sources = [\"10.0.0.0/8\"]",
    );
    rules.require(
        listener.password.is_none() || listener.username.is_some(),
        &at("password"),
        "a password needs a user name",
        "set username, for example \"${clientid}\"",
    );
    let mut seen = std::collections::BTreeSet::new();
    for (index, entry) in listener.predefined.iter().enumerate() {
        let here = at(&format!("predefined[{index}]"));
        let topic = !entry.topic.is_empty()
            && entry.topic.len() <= 65535
            && !entry.topic.contains(['+', '#', '\0']);
        rules.require(
            topic,
            &join(&here, "topic"),
            "a topic name is not empty and has no + and no #",
            "for example \"sensors/temperature\"",
        );
        let new = seen.insert((entry.id, entry.clients.clone()));
        rules.require(
            new,
            &join(&here, "id"),
            "this id is defined twice for the same clients",
            "give each topic an id of its own",
        );
    }
}

/// No two sockets of one transport on one address.
fn addresses(rules: &mut Rules<'_>, config: &Config) {
    let mut tcp: Vec<(String, BindAddr)> = config
        .listeners
        .streams()
        .map(|listener| (join(&listener.key(), "bind"), listener.stream.bind))
        .collect();
    let mut udp: Vec<(String, BindAddr)> = config
        .listeners
        .datagrams()
        .map(|(name, it)| (format!("listeners.mqttsn.{name}.bind"), it.bind))
        .collect();
    if config.api.enable {
        tcp.push(("api.bind".into(), config.api.bind));
    }
    if config.cluster.opens_links() {
        tcp.push(("cluster.bind".into(), config.cluster.bind));
        udp.push(("cluster.gossip_bind".into(), config.cluster.gossip_bind));
    }
    for sockets in [tcp, udp] {
        for (index, this) in sockets.iter().enumerate() {
            if let Some(earlier) = sockets[..index]
                .iter()
                .find(|earlier| earlier.1.clashes(this.1))
            {
                // The one that a user wrote is the one to change.
                let (wrong, other) = match rules.loaded.origin(&this.0) {
                    super::Origin::Default => (earlier, this),
                    _ => (this, earlier),
                };
                let message = format!("{} is taken by {} ({})", wrong.1, other.0, other.1);
                rules.problem(
                    &wrong.0,
                    message,
                    "choose another port, or switch one of the two off",
                );
            }
        }
    }
}

fn auth(rules: &mut Rules<'_>, config: &Config) {
    for (index, entry) in config.auth.chain.iter().enumerate() {
        let path = format!("auth.chain[{index}]");
        if let Authenticator::Http(http) = entry {
            https(rules, &path, http);
        }
        if let Authenticator::Jwt(jwt) = entry {
            let keys = usize::from(jwt.secret.is_some())
                + usize::from(jwt.public_key_file.is_some())
                + usize::from(jwt.jwks_url.is_some());
            rules.require(
                keys == 1,
                &path,
                "a jwt entry needs exactly one of secret, public_key_file and jwks_url",
                "a second key is a second entry",
            );
        }
    }
    for (index, entry) in config.acl.sources.iter().enumerate() {
        if let AclSource::Http(http) = entry {
            https(rules, &format!("acl.sources[{index}]"), http);
        }
    }
}

/// Whoever sets up TLS for a web service means https.
fn https(rules: &mut Rules<'_>, path: &str, http: &HttpAuth) {
    let tls = &http.tls;
    let wants_tls = tls.enable || tls.ca_file.is_some() || tls.cert_file.is_some();
    rules.require(
        !wants_tls || http.url.expose().starts_with("https://"),
        &join(path, "url"),
        "the address is not https, so the settings in tls would have no effect",
        "write https://..., or remove the tls keys",
    );
}

fn cluster(rules: &mut Rules<'_>, config: &Config) {
    let cluster = &config.cluster;
    let wanted = [
        (cluster.discovery != Discovery::Manual, "cluster.discovery"),
        (!cluster.seeds.is_empty(), "cluster.seeds"),
        (cluster.expect.is_some(), "cluster.expect"),
    ];
    if let (false, Some((_, key))) = (
        cluster.opens_links(),
        wanted.into_iter().find(|(set, _)| *set),
    ) {
        rules.problem(
            key,
            "links between nodes open only with a secret or certificates",
            "set cluster.cookie to the same long random text on all nodes, or fill in [cluster.tls]",
        );
    }
    rules.require(
        cluster.discovery != Discovery::Static || !cluster.seeds.is_empty(),
        "cluster.discovery",
        "\"static\" needs cluster.seeds",
        "for example seeds = [\"10.0.0.1:5369\"]",
    );
    rules.require(
        cluster.discovery != Discovery::Dns || cluster.dns.name.is_some(),
        "cluster.discovery",
        "\"dns\" needs cluster.dns.name",
        "for example name = \"nightjar.default.svc\" in [cluster.dns]",
    );
    rules.require(
        cluster.discovery != Discovery::Etcd || !cluster.etcd.servers.is_empty(),
        "cluster.discovery",
        "\"etcd\" needs cluster.etcd.servers",
        "for example servers = [\"http://127.0.0.1:2379\"] in [cluster.etcd]",
    );
    rules.require(
        cluster.replicas % 2 == 1,
        "cluster.replicas",
        "an even number of copies survives no more losses than one copy less",
        "use 1, 3, 5 or 7",
    );
    let files = [
        &cluster.tls.cert_file,
        &cluster.tls.key_file,
        &cluster.tls.ca_file,
    ];
    let set = files.iter().filter(|file| file.is_some()).count();
    if set != 0 && set != 3 {
        let key = [
            "cluster.tls.cert_file",
            "cluster.tls.key_file",
            "cluster.tls.ca_file",
        ]
        .into_iter()
        .zip(files)
        .find(|(_, file)| file.is_some())
        .map_or("cluster.tls", |(key, _)| key);
        rules.problem(
            key,
            "[cluster.tls] needs cert_file, key_file and ca_file",
            "set all three, or none and a cookie",
        );
    }
    not_in_this_build(rules, config);
    let cookie = cluster
        .cookie
        .as_ref()
        .is_none_or(|cookie| !cookie.expose().is_empty());
    rules.require(
        cookie,
        "cluster.cookie",
        "an empty cookie protects nothing",
        "use a long random text, the same on all nodes",
    );
}

/// What a cluster needs and this build does not have: better refused than half done.
fn not_in_this_build(rules: &mut Rules<'_>, config: &Config) {
    let cluster = &config.cluster;
    if !cluster.opens_links() {
        return;
    }
    let found = !matches!(cluster.discovery, Discovery::Etcd | Discovery::K8s);
    rules.require(
        found || cfg!(feature = "http"),
        "cluster.discovery",
        "this program was built without the feature http",
        "build it with --features http, or use discovery = \"dns\"",
    );
    rules.require(
        config.durability == Durability::Sync,
        "durability",
        "nodes of a cluster vote on what stands in their logs, so each must be synced",
        "use durability = \"sync\", or no cluster.cookie",
    );
}

/// Authenticators and sources that this program was built without, named with the cargo feature they come with.
/// `built` says which kinds are there: `("auth", "file")`, `("acl", "file")`.
pub fn missing_features(loaded: &Loaded, built: &[(&str, &str)]) -> Vec<Problem> {
    let config = &loaded.config;
    let chain = config
        .auth
        .chain
        .iter()
        .enumerate()
        .filter(|(_, it)| it.enable())
        .map(|(index, it)| ("auth", format!("auth.chain[{index}]"), it.kind()));
    let sources = config
        .acl
        .sources
        .iter()
        .enumerate()
        .filter(|(_, it)| it.enable())
        .map(|(index, it)| ("acl", format!("acl.sources[{index}]"), it.kind()));
    chain
        .chain(sources)
        .filter(|(place, _, kind)| !built.contains(&(*place, *kind)))
        .map(|(_, path, kind)| {
            Problem::new(loaded.origin(&path), path, format!("kind {kind:?} is not compiled into this program (cargo feature `{kind}`)"))
                .help("`nightjar version` lists what is; remove the entry, or use a program built with it")
        })
        .collect()
}
