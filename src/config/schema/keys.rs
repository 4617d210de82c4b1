//! The keys themselves: one line of data for each, grouped in sections that [`super::tree`] puts together.
//!
//! Adding a key is adding it here and to the typed tree in [`crate::config::model`]; unknown-key detection, defaults,
//! `config explain`, `config default` and etc/nightjar.toml follow from this table, and tests compare the two.

use super::Ty::{self, *};
use super::{Apply, Default::*, Key};

/// Any whole number that a 32-bit counter holds.
const COUNT: Ty = Int(0, u32::MAX as i64);
/// As [`COUNT`], at least one.
const SOME: Ty = Int(1, u32::MAX as i64);

const fn now(name: &'static str, ty: Ty, default: super::Default, doc: &'static str) -> Key {
    Key {
        name,
        ty,
        default,
        doc,
        apply: Apply::Now,
    }
}

const fn restart(name: &'static str, ty: Ty, default: super::Default, doc: &'static str) -> Key {
    Key {
        name,
        ty,
        default,
        doc,
        apply: Apply::Restart,
    }
}

pub(super) const TOP: &[Key] = &[restart(
    "durability",
    Word(&["sync", "async", "memory"]),
    Is("\"sync\""),
    "What an acknowledgement of a QoS 1 or 2 message for a durable session promises.\n\
     \"sync\": it is on disk before it is acknowledged; nothing acknowledged is lost by kill -9 or power loss.\n\
     \"async\": written at once, synced every 100 ms; a crash of the machine loses up to the last 100 ms, kill -9 nothing.\n\
     \"memory\": kept in memory only; every restart or crash loses all sessions, queues and retained messages.",
)];

pub(super) const NODE: &[Key] = &[
    restart(
        "name",
        Text,
        Is("\"nightjar@127.0.0.1\""),
        "Name of this node, unique in its cluster and the same after a restart.",
    ),
    restart(
        "data_dir",
        Path,
        Is("\"data\""),
        "Directory of everything this node keeps: messages, generated certificates, the ctl socket.",
    ),
    restart(
        "workers",
        Int(0, 1024),
        Is("0"),
        "Worker threads that serve clients; 0 is one for each core.",
    ),
    now(
        "sys_interval",
        Off(&Duration),
        Is("\"1m\""),
        "Time between two publications of $SYS/#; \"off\" publishes none.",
    ),
    now(
        "will_restart_grace",
        Duration,
        Is("\"10s\""),
        "After a shutdown or restart of this node, a will waits this long and is cancelled when its client comes back.",
    ),
    restart(
        "recovery",
        Word(&["strict", "accept_loss"]),
        Is("\"strict\""),
        "What a start does with a damaged log. \"strict\": it refuses and names file and place.\n\
         \"accept_loss\": it keeps what stands before the damage, puts the rest aside and says what is lost.",
    ),
];

pub(super) const BIND_TCP: Key = restart(
    "bind",
    Addr,
    Named("\"0.0.0.0:1883\""),
    "Address and port of plain MQTT; port 0 takes a free one.",
);
pub(super) const BIND_TLS: Key = restart(
    "bind",
    Addr,
    Named("\"0.0.0.0:8883\""),
    "Address and port of MQTT over TLS; port 0 takes a free one.",
);
pub(super) const BIND_WS: Key = restart(
    "bind",
    Addr,
    Named("\"0.0.0.0:8083\""),
    "Address and port of MQTT over WebSocket; port 0 takes a free one.",
);
pub(super) const BIND_WSS: Key = restart(
    "bind",
    Addr,
    Named("\"0.0.0.0:8084\""),
    "Address and port of MQTT over secure WebSocket; port 0 takes a free one.",
);
pub(super) const BIND_SN: Key = restart(
    "bind",
    Addr,
    Named("\"0.0.0.0:1884\""),
    "UDP address and port of MQTT-SN; port 0 takes a free one.",
);

pub(super) const ENABLE_LISTENER: Key = restart(
    "enable",
    Bool,
    Is("true"),
    "false switches this listener off; the ones called `default` exist unless switched off.",
);

pub(super) const STREAM: &[Key] = &[
    restart(
        "max_connections",
        Off(&SOME),
        Is("\"off\""),
        "Clients at once on this listener; more are closed and counted. \"off\": as many as the file limit allows.",
    ),
    restart(
        "max_connect_rate",
        Off(&Rate),
        Is("\"off\""),
        "New connections in a time, as \"1000/s\"; more are closed and counted.",
    ),
    restart(
        "max_handshakes",
        SOME,
        Is("4096"),
        "Connections at once that have not sent CONNECT yet, TLS and WebSocket handshakes included.",
    ),
    restart(
        "handshake_timeout",
        Duration,
        Is("\"15s\""),
        "Time from accepting a connection to the end of its PROXY, TLS and WebSocket handshakes.",
    ),
    restart(
        "backlog",
        Int(1, 65535),
        Is("1024"),
        "Connections the system holds before they are accepted (also limited by net.core.somaxconn).",
    ),
    restart(
        "proxy_protocol",
        Word(&["off", "required", "optional"]),
        Is("\"off\""),
        "PROXY protocol v1 and v2 in front of MQTT, from trusted_proxies only. \"optional\" also serves direct clients\non the same port. HAProxy: send-proxy-v2; NGINX stream: proxy_protocol on.",
    ),
    restart(
        "proxy_timeout",
        Duration,
        Is("\"3s\""),
        "Time for the PROXY header to arrive.",
    ),
    restart(
        "trusted_proxies",
        List(&Cidr),
        Is("[]"),
        "Addresses of proxies whose PROXY or X-Forwarded-For header is believed, as [\"10.0.0.0/8\"].",
    ),
    restart(
        "cert_as_username",
        Word(&["off", "cn", "dn"]),
        Is("\"off\""),
        "Takes the user name from the client certificate (or from the PROXY header's): its common name or its whole subject.",
    ),
    restart(
        "mountpoint",
        Text,
        Is("\"\""),
        "Prefix put before all topics of this listener's clients; ${clientid} and ${username} are replaced.",
    ),
];

pub(super) const TLS: &[Key] = &[
    restart(
        "cert_file",
        Path,
        Unset("\"etc/certs/server.crt\""),
        "Certificate chain, PEM. Unset: a certificate made for this installation at first start.",
    ),
    restart(
        "key_file",
        Path,
        Unset("\"etc/certs/server.key\""),
        "Private key of cert_file, PEM.",
    ),
    restart(
        "ca_file",
        Path,
        Unset("\"etc/certs/ca.crt\""),
        "Certificates that sign client certificates, PEM; needed by verify = \"peer\".",
    ),
    restart(
        "verify",
        Word(&["none", "peer"]),
        Is("\"none\""),
        "\"peer\" asks clients for a certificate and checks it.",
    ),
    restart(
        "fail_if_no_peer_cert",
        Bool,
        Is("false"),
        "With verify = \"peer\": true refuses clients without a certificate.",
    ),
    restart(
        "crl_file",
        Path,
        Unset("\"etc/certs/clients.crl\""),
        "Revoked client certificates, PEM.",
    ),
];

pub(super) const SNI: &[Key] = &[
    restart(
        "cert_file",
        Path,
        Required("\"etc/certs/other.crt\""),
        "Certificate chain, PEM; its names decide which clients get it.",
    ),
    restart(
        "key_file",
        Path,
        Required("\"etc/certs/other.key\""),
        "Private key of cert_file, PEM.",
    ),
];

pub(super) const WS: &[Key] = &[
    restart(
        "path",
        HttpPath,
        Unset("\"/mqtt\""),
        "Path of the WebSocket, exactly. Unset: /mqtt, and with client_leniency = \"lenient\" also / and /ws.",
    ),
    restart(
        "allowed_origins",
        List(&Text),
        Is("[]"),
        "Origins of browser pages that may connect, as [\"https://example.org\"]; empty: any.",
    ),
    now(
        "allow_origin_absence",
        Bool,
        Is("true"),
        "With allowed_origins: serves clients that send no Origin, which are all but browsers.",
    ),
];

pub(super) const SN: &[Key] = &[
    restart(
        "max_connections",
        Off(&SOME),
        Is("\"off\""),
        "Sessions at once on this listener, sleeping ones included.",
    ),
    restart(
        "mountpoint",
        Text,
        Is("\"\""),
        "Prefix put before all topics of this listener's clients; ${clientid} is replaced.",
    ),
    restart(
        "gateway_id",
        Int(1, 255),
        Is("1"),
        "Gateway id told in ADVERTISE and GWINFO.",
    ),
    restart(
        "advertise_interval",
        Off(&Duration),
        Is("\"15m\""),
        "Time between two ADVERTISE messages to the multicast groups.",
    ),
    restart(
        "multicast",
        List(&Socket),
        Is("[]"),
        "Multicast groups or broadcast addresses for discovery, as [\"225.1.1.1:1884\"].",
    ),
    restart(
        "multicast_ttl",
        Int(0, 255),
        Is("1"),
        "Networks a multicast message may cross.",
    ),
    restart(
        "max_datagram",
        Int(16, 65507),
        Is("1200"),
        "Largest datagram sent, bytes; any size is received. 802.15.4: 60; LoRaWAN: 51.",
    ),
    restart(
        "retry_interval",
        Duration,
        Is("\"10s\""),
        "Time before an unanswered message is sent again; doubles up to 60 s.",
    ),
    restart(
        "max_retries",
        Int(0, 255),
        Is("4"),
        "Repeats before a client counts as lost.",
    ),
    restart(
        "session_expiry",
        Duration,
        Is("\"7d\""),
        "How long the session of a lost or disconnected client (CleanSession=0) is kept.",
    ),
    restart(
        "max_topics",
        Int(1, 65534),
        Is("4096"),
        "Topic ids of one client.",
    ),
    restart(
        "wake_limit",
        COUNT,
        Is("0"),
        "Messages sent at one wake of a sleeper; 0: all.",
    ),
    restart(
        "publish_asleep",
        Bool,
        Is("true"),
        "Accepts PUBLISH from a sleeping client without a CONNECT before it.",
    ),
    restart(
        "strict_client_id",
        Bool,
        Is("false"),
        "Refuses client ids longer than the 23 characters of the standard.",
    ),
    restart(
        "qos_minus_one",
        Bool,
        Is("false"),
        "Accepts PUBLISH with QoS -1, which needs no connection; the ACL decides on its topics.",
    ),
    restart(
        "qos_minus_one_rate",
        Off(&Rate),
        Is("\"1000/s\""),
        "QoS -1 messages accepted on this listener.",
    ),
    restart(
        "auth",
        Word(&["chain", "trusted", "off"]),
        Is("\"chain\""),
        "Who may connect: \"chain\" asks auth.chain with username and password below; \"trusted\" admits trusted_sources\nonly; \"off\" admits everyone.",
    ),
    restart(
        "username",
        Text,
        Unset("\"${clientid}\""),
        "User name given to auth.chain; ${clientid} and ${peerhost} are replaced.",
    ),
    restart(
        "password",
        Secret,
        Unset("\"secret\""),
        "Password given to auth.chain; ${clientid} and ${peerhost} are replaced.",
    ),
    restart(
        "trusted_sources",
        List(&Cidr),
        Is("[]"),
        "Addresses of balancers and NATs: limited by address and port, never by address alone, and never banned.",
    ),
    restart(
        "address_change",
        Word(&["never", "same_ip", "same_prefix", "validated"]),
        Is("\"validated\""),
        "When a session follows its client to another address; \"validated\": after the client has answered there.",
    ),
    restart(
        "new_sessions_per_source",
        Off(&Rate),
        Is("\"1000/s\""),
        "New sessions from one address.",
    ),
    restart(
        "replies_to_strangers_per_source",
        Off(&Rate),
        Is("\"10/s\""),
        "Answers to one address that belongs to no session.",
    ),
    restart(
        "buffer_messages",
        SOME,
        Is("1000"),
        "Messages kept for a sleeping client.",
    ),
    restart(
        "buffer_bytes",
        Size,
        Is("\"256KiB\""),
        "Bytes kept for a sleeping client.",
    ),
];

pub(super) const PREDEFINED: &[Key] = &[
    now(
        "id",
        Int(1, 65534),
        Required("1001"),
        "Predefined topic id.",
    ),
    now(
        "topic",
        Text,
        Required("\"a/b\""),
        "Its topic name; ${clientid} is replaced.",
    ),
    now(
        "clients",
        Text,
        Unset("\"meter-*\""),
        "Client ids it is for, `*` stands for any characters; unset: all.",
    ),
];

pub(super) const MQTT: &[Key] = &[
    now(
        "max_packet_size",
        Size,
        Is("\"1MiB\""),
        "Largest packet accepted, told to 5.0 clients.",
    ),
    now(
        "max_client_id_len",
        Int(1, 65535),
        Is("65535"),
        "Longest client id, bytes.",
    ),
    now(
        "max_topic_levels",
        Int(1, 65535),
        Is("128"),
        "Levels of a topic name or filter.",
    ),
    now(
        "max_topic_alias",
        Int(0, 65535),
        Is("32"),
        "Topic aliases of a 5.0 client; their topics hold at most 64 KiB a connection.",
    ),
    now("max_qos", Int(0, 2), Is("2"), "Highest QoS."),
    now(
        "retain_available",
        Bool,
        Is("true"),
        "Retained messages are accepted.",
    ),
    now(
        "wildcard_subscription",
        Bool,
        Is("true"),
        "Topic filters may hold + and #.",
    ),
    now(
        "shared_subscription",
        Bool,
        Is("true"),
        "$share/group/filter may be subscribed to.",
    ),
    now(
        "subscription_identifiers",
        Bool,
        Is("true"),
        "5.0 clients may use subscription identifiers.",
    ),
    now(
        "connect_timeout",
        Duration,
        Is("\"15s\""),
        "Time from accepting a connection to its CONNECT.",
    ),
    now(
        "keep_alive_multiplier",
        Float(1.0, 10.0),
        Is("1.5"),
        "A client is closed after this many keep alive times without a packet.",
    ),
    now(
        "server_keep_alive",
        Off(&Duration),
        Is("\"off\""),
        "Longest keep alive of a 5.0 client, whole seconds.",
    ),
    now(
        "max_inflight",
        Int(1, 65535),
        Is("32"),
        "QoS 1 and 2 messages sent to a client and not yet acknowledged.",
    ),
    now(
        "receive_maximum",
        Int(1, 65535),
        Is("100"),
        "QoS 1 and 2 messages a 5.0 client may have unacknowledged with us.",
    ),
    now(
        "retry_interval",
        Off(&Duration),
        Is("\"off\""),
        "3.x clients: unacknowledged messages are sent again after this time. 5.0 forbids it; a reconnect always resends.",
    ),
    now(
        "max_awaiting_rel",
        Int(1, 65535),
        Is("100"),
        "QoS 2 messages of a client that wait for PUBREL.",
    ),
    now(
        "session_expiry_3x",
        Duration,
        Is("\"2h\""),
        "How long the session of a disconnected 3.x client with clean session 0 is kept.",
    ),
    now(
        "max_session_expiry",
        Duration,
        Is("\"30d\""),
        "Longest session expiry of a 5.0 client.",
    ),
    now(
        "max_queue_len",
        SOME,
        Is("1000"),
        "Messages that wait for one session.",
    ),
    now(
        "max_queue_bytes",
        Size,
        Is("\"8MiB\""),
        "Bytes that wait for one session.",
    ),
    now(
        "queue_policy",
        Word(&["drop_oldest", "drop_newest", "reject"]),
        Is("\"drop_oldest\""),
        "What a full queue does: drops its oldest message (QoS 0 first), drops the new one, or rejects it (5.0: 0x97 to the\npublisher). Every drop is counted.",
    ),
    now(
        "queue_qos0",
        Bool,
        Is("true"),
        "Keeps QoS 0 messages for offline sessions, in memory.",
    ),
    now(
        "max_subscriptions",
        Off(&SOME),
        Is("\"off\""),
        "Subscriptions of one session.",
    ),
    now(
        "message_expiry",
        Off(&Duration),
        Is("\"off\""),
        "Longest message expiry; also given to messages that have none.",
    ),
    now(
        "client_leniency",
        Word(&["lenient", "strict"]),
        Is("\"lenient\""),
        "\"lenient\" serves harmless deviations of 3.x clients (DUP on a first send, DUP with QoS 0).",
    ),
    now(
        "shared_strategy",
        Word(&[
            "round_robin",
            "random",
            "sticky",
            "local",
            "hash_client_id",
            "hash_topic",
        ]),
        Is("\"round_robin\""),
        "Which member of a shared subscription gets a message.",
    ),
    now(
        "backpressure_timeout",
        Duration,
        Is("\"5s\""),
        "Longest stall of a publisher into a filling queue before queue_policy applies.",
    ),
];

pub(super) const AUTH: &[Key] = &[
    now(
        "allow_anonymous",
        Bool,
        Unset("false"),
        "Clients without a user name that no authenticator knows. Unset: from loopback addresses while auth.chain is empty,\nelse refused.",
    ),
    now(
        "fallthrough_anonymous",
        Bool,
        Is("false"),
        "true lets in clients with a user name that no authenticator knows.",
    ),
    now(
        "bind_client_id",
        Bool,
        Is("false"),
        "true: a client id belongs to the user (or certificate) that used it first; others are refused while its session lives.",
    ),
    now(
        "cache_ttl",
        Off(&Duration),
        Is("\"10m\""),
        "How long a verified password is remembered, as a keyed hash.",
    ),
];

pub(super) const ACL: &[Key] = &[
    now(
        "no_match",
        Word(&["deny", "allow"]),
        Is("\"deny\""),
        "Verdict when no rule of any source matches.",
    ),
    now(
        "deny_action",
        Word(&["ignore", "disconnect"]),
        Is("\"ignore\""),
        "What happens to a client that publishes what it may not: the message is dropped, or the client disconnected.",
    ),
    now(
        "cache_size",
        Int(0, 65535),
        Is("32"),
        "Verdicts remembered for each client; 0: none.",
    ),
    now(
        "cache_ttl",
        Duration,
        Is("\"1m\""),
        "How long a verdict is remembered.",
    ),
];

pub(super) const RETAINED: &[Key] = &[
    now(
        "max_messages",
        Off(&SOME),
        Is("\"off\""),
        "Retained messages kept; more are refused and counted.",
    ),
    now(
        "max_payload",
        Size,
        Is("\"1MiB\""),
        "Largest payload kept; larger ones are delivered and not kept.",
    ),
    now(
        "expiry",
        Off(&Duration),
        Is("\"off\""),
        "How long a retained message without an expiry of its own is kept.",
    ),
];

pub(super) const LIMITS: &[Key] = &[
    now(
        "memory_high",
        Percent,
        Is("\"70%\""),
        "Share of the memory (of the machine or the container) above which new connections are refused.",
    ),
    now(
        "memory_critical",
        Percent,
        Is("\"85%\""),
        "Share above which publishers are paused.",
    ),
    restart(
        "connect_packet_size",
        Size,
        Is("\"384KiB\""),
        "Largest CONNECT; also the memory of one connection before it.",
    ),
    restart(
        "connect_memory",
        Size,
        Is("\"256MiB\""),
        "Memory of all connections before their CONNECT.",
    ),
    restart(
        "queue_memory",
        Size,
        Is("\"256MiB\""),
        "Memory for messages that wait for durable sessions; beyond it they wait on the disk.",
    ),
];

pub(super) const BUCKET: &[Key] = &[
    now(
        "messages",
        Off(&Rate),
        Is("\"off\""),
        "Messages published, as \"100/s\"; above it reading pauses, nothing is lost.",
    ),
    now(
        "bytes",
        Off(&ByteRate),
        Is("\"off\""),
        "Bytes received, as \"100KB/s\"; above it reading pauses, nothing is lost.",
    ),
    now(
        "connects",
        Off(&Rate),
        Is("\"off\""),
        "Connections opened, as \"10/s\"; above it they are refused.",
    ),
];

pub(super) const FLAPPING: &[Key] = &[
    now(
        "enable",
        Bool,
        Is("false"),
        "Bans clients that connect and disconnect too often.",
    ),
    now(
        "connects",
        SOME,
        Is("15"),
        "Connections that make a ban ...",
    ),
    now(
        "window",
        Duration,
        Is("\"1m\""),
        "... when they come in this time.",
    ),
    now("ban", Duration, Is("\"5m\""), "Length of the ban."),
];

pub(super) const LOG: &[Key] = &[
    now(
        "level",
        Text,
        Is("\"info\""),
        "error, warn, info, debug or trace; or by module: \"info,nightjar_gateway=debug\".",
    ),
    restart(
        "format",
        Word(&["text", "json"]),
        Is("\"text\""),
        "Form of a line.",
    ),
    restart(
        "file",
        Path,
        Unset("\"/var/log/nightjar/nightjar.log\""),
        "File to write to; unset: standard error.",
    ),
];

pub(super) const METRICS: &[Key] = &[now(
    "emqx_names",
    Bool,
    Is("false"),
    "Also writes the emqx_* metric names that existing dashboards read.",
)];

pub(super) const CLUSTER: &[Key] = &[
    restart(
        "name",
        Text,
        Is("\"nightjar\""),
        "Name of the cluster; nodes of another name are refused.",
    ),
    restart(
        "bind",
        Addr,
        Is("\"0.0.0.0:5369\""),
        "TCP address of links between nodes; opened only with cluster.cookie or [cluster.tls].",
    ),
    restart(
        "advertise",
        HostPort,
        Unset("\"10.0.0.1:5369\""),
        "Address told to other nodes; unset: the address of the interface that reaches them.",
    ),
    restart(
        "server_reference",
        HostPort,
        Unset("\"mqtt1.example.com:1883\""),
        "What clients of 5.0 are told that other nodes send here (Server Reference).\n\
         Unset: the host of cluster.advertise and the port of the first TCP listener.",
    ),
    restart(
        "gossip_bind",
        Addr,
        Is("\"0.0.0.0:4369\""),
        "UDP address of gossip between nodes.",
    ),
    restart(
        "discovery",
        Word(&["manual", "static", "mcast", "dns", "etcd", "k8s"]),
        Is("\"manual\""),
        "How nodes find each other; manual: `nightjar ctl cluster join`.",
    ),
    restart(
        "seeds",
        List(&HostPort),
        Is("[]"),
        "Nodes to ask first, as [\"10.0.0.1:5369\"].",
    ),
    restart(
        "expect",
        Int(1, 1000),
        Unset("3"),
        "Number of nodes that must have found each other before a new cluster forms.",
    ),
    restart(
        "cookie",
        Secret,
        Unset("\"a long random text\""),
        "Secret that all nodes share; protects links and gossip.",
    ),
    restart(
        "autoclean",
        Off(&Duration),
        Is("\"5m\""),
        "A node that is down this long is replaced as a replica.",
    ),
    restart(
        "shards",
        Int(1, 1024),
        Is("16"),
        "Groups that share the durable state; fixed when the cluster is made.",
    ),
    restart(
        "replicas",
        Int(1, 7),
        Is("3"),
        "Copies of each shard, odd; fewer while there are fewer nodes.",
    ),
];

pub(super) const CLUSTER_TLS: &[Key] = &[
    restart(
        "cert_file",
        Path,
        Unset("\"etc/certs/node.crt\""),
        "Certificate of this node, PEM.",
    ),
    restart(
        "key_file",
        Path,
        Unset("\"etc/certs/node.key\""),
        "Its private key, PEM.",
    ),
    restart(
        "ca_file",
        Path,
        Unset("\"etc/certs/cluster-ca.crt\""),
        "Certificates that sign the nodes of this cluster, PEM.",
    ),
];

pub(super) const CLUSTER_DNS: &[Key] = &[
    restart(
        "name",
        Text,
        Unset("\"nightjar.default.svc\""),
        "Name whose records are the nodes.",
    ),
    restart(
        "record",
        Word(&["a", "srv"]),
        Is("\"a\""),
        "Kind of record: \"a\" has addresses (A and AAAA), the port is that of cluster.bind; \"srv\" names and ports.",
    ),
    restart(
        "servers",
        List(&Socket),
        Is("[]"),
        "Servers of DNS, as [\"127.0.0.1:8600\"]; empty: the system's.",
    ),
];

pub(super) const CLUSTER_ETCD: &[Key] = &[
    restart(
        "servers",
        List(&Url),
        Is("[]"),
        "Servers, as [\"http://127.0.0.1:2379\"].",
    ),
    restart(
        "prefix",
        Text,
        Is("\"/nightjar\""),
        "Prefix of the keys used.",
    ),
    restart("username", Text, Unset("\"nightjar\""), "User name."),
    restart("password", Secret, Unset("\"secret\""), "Password."),
    restart(
        "ttl",
        Duration,
        Is("\"1m\""),
        "How long a key outlives its node.",
    ),
    restart(
        "ca_file",
        Path,
        Unset("\"etc/certs/etcd-ca.crt\""),
        "Certificates that sign the servers', PEM.",
    ),
];

pub(super) const CLUSTER_K8S: &[Key] = &[
    restart(
        "api",
        Url,
        Is("\"https://kubernetes.default.svc\""),
        "Address of the Kubernetes API.",
    ),
    restart(
        "service",
        Text,
        Is("\"nightjar\""),
        "Headless service whose endpoints are the nodes.",
    ),
    restart(
        "namespace",
        Text,
        Unset("\"default\""),
        "Its namespace; unset: the pod's own.",
    ),
    restart(
        "token_file",
        Path,
        Is("\"/var/run/secrets/kubernetes.io/serviceaccount/token\""),
        "Token of the service account.",
    ),
    restart(
        "ca_file",
        Path,
        Is("\"/var/run/secrets/kubernetes.io/serviceaccount/ca.crt\""),
        "Certificates that sign the API's, PEM.",
    ),
];

pub(super) const CLUSTER_MCAST: &[Key] = &[
    restart(
        "group",
        Socket,
        Is("\"239.192.83.69:4370\""),
        "Multicast group nodes call each other on.",
    ),
    restart("ttl", Int(0, 255), Is("1"), "Networks a call may cross."),
    restart(
        "interface",
        Text,
        Unset("\"eth0\""),
        "Network interface; unset: the system's choice.",
    ),
];

pub(super) const API: &[Key] = &[
    restart(
        "enable",
        Bool,
        Is("true"),
        "Serves dashboard, HTTP API and metrics.",
    ),
    restart(
        "bind",
        Addr,
        Is("\"0.0.0.0:18083\""),
        "Address and port; port 0 takes a free one.",
    ),
    now(
        "admin_password",
        Secret,
        Unset("\"a long random text\""),
        "Password of the user `admin`. Unset: made at first start and written to data_dir/admin-password.",
    ),
    now(
        "metrics_auth",
        Bool,
        Is("false"),
        "true asks for a token at /metrics too.",
    ),
];
