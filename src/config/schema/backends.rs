//! The keys of authenticators (`[[auth.chain]]`) and authorization sources (`[[acl.sources]]`), by kind.
//!
//! Databases have the same connection keys in both places; only the question they are asked differs.

use super::Ty::{self, *};
use super::{Apply, Default::*, Key};

/// A key of a backend: all of them are applied by a reload, which opens new connections and closes the old ones.
const fn key(name: &'static str, ty: Ty, default: super::Default, doc: &'static str) -> Key {
    Key {
        name,
        ty,
        default,
        doc,
        apply: Apply::Now,
    }
}

/// One kind: its name and sections.
pub(super) type Kind = (&'static str, &'static [&'static [Key]]);

const ENABLE: Key = key("enable", Bool, Is("true"), "false leaves this entry out.");
const USER_ID: Key = key(
    "user_id",
    Word(&["username", "clientid"]),
    Is("\"username\""),
    "What a user is known by.",
);
const TIMEOUT: Key = key(
    "timeout",
    Duration,
    Is("\"5s\""),
    "Time for one question, waiting for a connection included.",
);
const POOL: Key = key("pool", Int(1, 1024), Is("8"), "Connections to the server.");
const HASHES: Ty = Word(&[
    "plain", "md5", "sha", "sha256", "sha512", "bcrypt", "pbkdf2", "argon2",
]);

const COMMON: &[Key] = &[ENABLE];

const TLS: &[Key] = &[
    key("tls.enable", Bool, Is("false"), "Speaks TLS to the server."),
    key(
        "tls.verify",
        Bool,
        Is("true"),
        "Checks the server's certificate and name.",
    ),
    key(
        "tls.ca_file",
        Path,
        Unset("\"etc/certs/db-ca.crt\""),
        "Certificates that sign the server's, PEM; unset: the public ones.",
    ),
    key(
        "tls.cert_file",
        Path,
        Unset("\"etc/certs/db-client.crt\""),
        "Our own certificate, PEM, where the server asks for one.",
    ),
    key(
        "tls.key_file",
        Path,
        Unset("\"etc/certs/db-client.key\""),
        "Its private key, PEM.",
    ),
    key(
        "tls.server_name",
        Text,
        Unset("\"db.example.org\""),
        "Name the server's certificate must have; unset: the host of its address.",
    ),
];

const HASH: &[Key] = &[
    key(
        "password_hash",
        HASHES,
        Is("\"sha256\""),
        "How stored passwords are hashed; bcrypt, pbkdf2 and argon2 keep their own salt.",
    ),
    key(
        "salt",
        Word(&["none", "prefix", "suffix"]),
        Is("\"none\""),
        "Where the salt stands when the password is hashed.",
    ),
    key(
        "pbkdf2_prf",
        Word(&["sha1", "sha256", "sha512"]),
        Is("\"sha256\""),
        "Pseudo-random function of pbkdf2.",
    ),
    key(
        "pbkdf2_iterations",
        Int(1, 100_000_000),
        Is("4096"),
        "Iterations of pbkdf2.",
    ),
    key(
        "pbkdf2_length",
        Int(16, 512),
        Is("32"),
        "Bytes of a pbkdf2 hash.",
    ),
];

const HTTP: &[Key] = &[
    key(
        "url",
        Url,
        Required("\"http://127.0.0.1:8080/mqtt/auth\""),
        "Address asked; 200 or 204 allows, 4xx denies, anything else is an error.",
    ),
    key(
        "method",
        Word(&["post", "get"]),
        Is("\"post\""),
        "Method; with get the body's fields are the query.",
    ),
    key(
        "content_type",
        Word(&["form", "json"]),
        Is("\"form\""),
        "Form of the body.",
    ),
    key(
        "headers",
        Map(&Secret),
        Is("{}"),
        "Headers added, as { Authorization = \"Bearer ...\" }.",
    ),
    TIMEOUT,
    POOL,
];

const SQL_MYSQL: &[Key] = &[
    key(
        "server",
        HostPort,
        Is("\"127.0.0.1:3306\""),
        "Host and port of MySQL or MariaDB.",
    ),
    key("database", Text, Is("\"mqtt\""), "Database."),
    key("username", Text, Is("\"root\""), "User name."),
    key("password", Secret, Unset("\"secret\""), "Password."),
    TIMEOUT,
    POOL,
];

const SQL_POSTGRES: &[Key] = &[
    key(
        "server",
        HostPort,
        Is("\"127.0.0.1:5432\""),
        "Host and port of PostgreSQL.",
    ),
    key("database", Text, Is("\"mqtt\""), "Database."),
    key("username", Text, Is("\"postgres\""), "User name."),
    key("password", Secret, Unset("\"secret\""), "Password."),
    TIMEOUT,
    POOL,
];

const REDIS: &[Key] = &[
    key(
        "server",
        HostPort,
        Is("\"127.0.0.1:6379\""),
        "Host and port of Redis.",
    ),
    key(
        "database",
        Int(0, 65535),
        Is("0"),
        "Number of the database.",
    ),
    key("username", Text, Unset("\"default\""), "User name."),
    key("password", Secret, Unset("\"secret\""), "Password."),
    TIMEOUT,
    POOL,
];

const MONGODB: &[Key] = &[
    key(
        "server",
        HostPort,
        Is("\"127.0.0.1:27017\""),
        "Host and port of MongoDB.",
    ),
    key(
        "replica_set",
        Text,
        Unset("\"rs0\""),
        "Name of the replica set.",
    ),
    key("database", Text, Is("\"mqtt\""), "Database."),
    key("username", Text, Unset("\"mqtt\""), "User name."),
    key("password", Secret, Unset("\"secret\""), "Password."),
    key(
        "auth_source",
        Text,
        Is("\"admin\""),
        "Database that knows the user.",
    ),
    TIMEOUT,
    POOL,
];

const AUTH_QUERY: &[Key] = &[key(
    "query",
    Text,
    Is(
        "\"select password, salt, is_superuser from mqtt_user where username = ${username} limit 1\"",
    ),
    "Question; placeholders are bound as parameters.",
)];

const ACL_QUERY: &[Key] = &[
    key(
        "query",
        Text,
        Is(
            "\"select allow, ipaddr, username, clientid, access, topic from mqtt_acl where ipaddr = ${peerhost} or username = ${username} or username = '$all' or clientid = ${clientid}\"",
        ),
        "Question; placeholders are bound as parameters.",
    ),
    key(
        "acl_row_order",
        Word(&["forward", "reverse"]),
        Is("\"forward\""),
        "\"reverse\" tries the last row first, as EMQ X before 4.4 did.",
    ),
];

/// Kinds of `[[auth.chain]]`.
pub(super) const AUTH_KINDS: &[Kind] = &[
    ("builtin", &[COMMON, &[USER_ID]]),
    (
        "file",
        &[
            COMMON,
            &[
                key(
                    "path",
                    Path,
                    Required("\"etc/users\""),
                    "File of users and hashes, one a line; Mosquitto's $6$ and $7$ are accepted.",
                ),
                USER_ID,
            ],
        ],
    ),
    (
        "http",
        &[
            COMMON,
            HTTP,
            &[key(
                "body",
                Map(&Text),
                Is(
                    "{ clientid = \"${clientid}\", username = \"${username}\", password = \"${password}\" }",
                ),
                "Fields sent.",
            )],
            TLS,
        ],
    ),
    (
        "jwt",
        &[
            COMMON,
            &[
                key(
                    "secret",
                    Secret,
                    Unset("\"secret\""),
                    "Key of HS256, HS384 and HS512. One of secret, public_key_file and jwks_url is needed.",
                ),
                key(
                    "secret_base64",
                    Bool,
                    Is("false"),
                    "secret is written in base64.",
                ),
                key(
                    "public_key_file",
                    Path,
                    Unset("\"etc/certs/jwt.pem\""),
                    "Public key of RS*, PS* and ES* algorithms, PEM.",
                ),
                key(
                    "jwks_url",
                    Url,
                    Unset("\"https://idp.example.org/jwks.json\""),
                    "Address of the key set.",
                ),
                key(
                    "jwks_refresh",
                    Duration,
                    Is("\"5m\""),
                    "Time between two reads of the key set.",
                ),
                key(
                    "from",
                    Word(&["password", "username"]),
                    Is("\"password\""),
                    "Field of CONNECT that holds the token.",
                ),
                key(
                    "claims",
                    Map(&Text),
                    Is("{}"),
                    "Claims that must have these values, as { sub = \"${username}\" }.",
                ),
                key(
                    "acl_claim",
                    Text,
                    Is("\"acl\""),
                    "Claim that holds rules of this connection.",
                ),
                key(
                    "leeway",
                    Duration,
                    Is("\"0s\""),
                    "Difference of clocks allowed in exp, nbf and iat.",
                ),
                TIMEOUT,
            ],
            TLS,
        ],
    ),
    ("mysql", &[COMMON, SQL_MYSQL, AUTH_QUERY, HASH, TLS]),
    ("postgres", &[COMMON, SQL_POSTGRES, AUTH_QUERY, HASH, TLS]),
    (
        "redis",
        &[
            COMMON,
            REDIS,
            &[key(
                "command",
                Text,
                Is("\"HMGET mqtt_user:${username} password salt is_superuser\""),
                "Command; placeholders are bound as arguments.",
            )],
            HASH,
            TLS,
        ],
    ),
    (
        "mongodb",
        &[
            COMMON,
            MONGODB,
            &[
                key(
                    "collection",
                    Text,
                    Is("\"mqtt_user\""),
                    "Collection of users.",
                ),
                key(
                    "filter",
                    Map(&Text),
                    Is("{ username = \"${username}\" }"),
                    "Fields that a document must have.",
                ),
                key(
                    "password_field",
                    Text,
                    Is("\"password\""),
                    "Field of the hash.",
                ),
                key("salt_field", Text, Is("\"salt\""), "Field of the salt."),
                key(
                    "superuser_field",
                    Text,
                    Is("\"is_superuser\""),
                    "Field that makes a superuser.",
                ),
            ],
            HASH,
            TLS,
        ],
    ),
    (
        "ldap",
        &[
            COMMON,
            &[
                key(
                    "server",
                    HostPort,
                    Is("\"127.0.0.1:389\""),
                    "Host and port of the directory.",
                ),
                key(
                    "bind_dn",
                    Text,
                    Unset("\"cn=admin,dc=example,dc=org\""),
                    "Name used to search; unset: anonymous.",
                ),
                key(
                    "bind_password",
                    Secret,
                    Unset("\"secret\""),
                    "Its password.",
                ),
                key(
                    "user_dn",
                    Text,
                    Unset("\"uid=${username},ou=devices,dc=example,dc=org\""),
                    "Name of a user's entry, bound without a search; placeholders are escaped. This or base_dn is needed.",
                ),
                key(
                    "base_dn",
                    Text,
                    Unset("\"ou=devices,dc=example,dc=org\""),
                    "Entry below which users are searched.",
                ),
                key(
                    "filter",
                    Text,
                    Is("\"(uid=${username})\""),
                    "Filter that finds a user; placeholders are values, whatever they hold.",
                ),
                key(
                    "method",
                    Word(&["bind", "hash"]),
                    Is("\"bind\""),
                    "Binds with the client's password, or compares it with password_attribute.",
                ),
                key(
                    "password_attribute",
                    Text,
                    Is("\"userPassword\""),
                    "Attribute of the hash.",
                ),
                key(
                    "superuser_attribute",
                    Text,
                    Is("\"isSuperuser\""),
                    "Attribute that makes a superuser: TRUE, 1 or yes.",
                ),
                key(
                    "starttls",
                    Bool,
                    Is("false"),
                    "Begins without TLS and changes to it (StartTLS); with tls.enable.",
                ),
                TIMEOUT,
                POOL,
            ],
            TLS,
        ],
    ),
    (
        "x509",
        &[
            COMMON,
            &[
                key(
                    "field",
                    Word(&["cn", "dn", "san_dns", "san_email", "san_uri"]),
                    Is("\"cn\""),
                    "Field of the verified client certificate ...",
                ),
                key(
                    "as",
                    Word(&["username", "clientid"]),
                    Is("\"username\""),
                    "... that must be this of CONNECT, or becomes it where CONNECT has none.",
                ),
            ],
        ],
    ),
    (
        "scram",
        &[
            COMMON,
            &[
                key(
                    "algorithm",
                    Word(&["sha256"]),
                    Is("\"sha256\""),
                    "Method of 5.0 enhanced authentication: SCRAM-SHA-256.",
                ),
                key(
                    "iterations",
                    Int(4096, 10_000_000),
                    Is("4096"),
                    "Iterations for passwords set from now on.",
                ),
            ],
        ],
    ),
];

/// Kinds of `[[acl.sources]]`.
pub(super) const ACL_KINDS: &[Kind] = &[
    (
        "file",
        &[
            COMMON,
            &[key(
                "path",
                Path,
                Required("\"etc/acl.conf\""),
                "File of rules, one a line, first match wins.",
            )],
        ],
    ),
    ("builtin", &[COMMON]),
    (
        "http",
        &[
            COMMON,
            HTTP,
            &[key(
                "body",
                Map(&Text),
                Is(
                    "{ clientid = \"${clientid}\", username = \"${username}\", peerhost = \"${peerhost}\", action = \"${action}\", topic = \"${topic}\", qos = \"${qos}\", retain = \"${retain}\" }",
                ),
                "Fields sent.",
            )],
            TLS,
        ],
    ),
    ("mysql", &[COMMON, SQL_MYSQL, ACL_QUERY, TLS]),
    ("postgres", &[COMMON, SQL_POSTGRES, ACL_QUERY, TLS]),
    (
        "redis",
        &[
            COMMON,
            REDIS,
            &[key(
                "command",
                Text,
                Is("\"HGETALL mqtt_acl:${username}\""),
                "Command; placeholders are bound as arguments.",
            )],
            TLS,
        ],
    ),
    (
        "mongodb",
        &[
            COMMON,
            MONGODB,
            &[
                key(
                    "collection",
                    Text,
                    Is("\"mqtt_acl\""),
                    "Collection of rules, with lists publish, subscribe and pubsub.",
                ),
                key(
                    "filter",
                    Map(&Text),
                    Is("{ username = \"${username}\" }"),
                    "Fields that a document must have.",
                ),
            ],
            TLS,
        ],
    ),
];
