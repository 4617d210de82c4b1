//! `[auth]` with its chain, and `[acl]` with its sources.

use std::collections::BTreeMap;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::config::units::{Duration, HttpUrl, OffOr, Secret};

/// `[auth]`.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Auth {
    /// Clients without a user name; unset: from loopback while the chain is empty.
    pub allow_anonymous: Option<bool>,
    /// Clients with a user name that nobody knows.
    pub fallthrough_anonymous: bool,
    /// A client id belongs to its first user.
    pub bind_client_id: bool,
    /// Memory of verified passwords.
    pub cache_ttl: OffOr<Duration>,
    /// Authenticators in order.
    pub chain: Vec<Authenticator>,
}

/// One entry of `[[auth.chain]]`.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "lowercase")]
pub enum Authenticator {
    /// Users managed by ctl, API and dashboard.
    Builtin(BuiltinAuth),
    /// A file of users and hashes.
    File(FileAuth),
    /// A web service.
    Http(HttpAuth),
    /// Signed tokens.
    Jwt(Box<JwtAuth>),
    /// MySQL or MariaDB.
    MySql(Box<SqlAuth>),
    /// PostgreSQL.
    Postgres(Box<SqlAuth>),
    /// Redis.
    Redis(Box<RedisAuth>),
    /// MongoDB.
    MongoDb(Box<MongoAuth>),
    /// A directory.
    Ldap(Box<LdapAuth>),
    /// Client certificates.
    X509(X509Auth),
    /// SCRAM by 5.0 enhanced authentication.
    Scram(ScramAuth),
}

impl Authenticator {
    /// The word in `kind`.
    pub const fn kind(&self) -> &'static str {
        match self {
            Self::Builtin(_) => "builtin",
            Self::File(_) => "file",
            Self::Http(_) => "http",
            Self::Jwt(_) => "jwt",
            Self::MySql(_) => "mysql",
            Self::Postgres(_) => "postgres",
            Self::Redis(_) => "redis",
            Self::MongoDb(_) => "mongodb",
            Self::Ldap(_) => "ldap",
            Self::X509(_) => "x509",
            Self::Scram(_) => "scram",
        }
    }

    /// False if the entry is left out.
    pub const fn enable(&self) -> bool {
        match self {
            Self::Builtin(it) => it.enable,
            Self::File(it) => it.enable,
            Self::Http(it) => it.enable,
            Self::Jwt(it) => it.enable,
            Self::MySql(it) | Self::Postgres(it) => it.enable,
            Self::Redis(it) => it.enable,
            Self::MongoDb(it) => it.enable,
            Self::Ldap(it) => it.enable,
            Self::X509(it) => it.enable,
            Self::Scram(it) => it.enable,
        }
    }
}

/// What a user is known by, or what a certificate field is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum UserId {
    /// User name of CONNECT.
    Username,
    /// Client identifier.
    ClientId,
}

/// How stored passwords are hashed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum PasswordHash {
    /// Not hashed.
    Plain,
    /// MD5.
    Md5,
    /// SHA-1.
    Sha,
    /// SHA-256.
    Sha256,
    /// SHA-512.
    Sha512,
    /// bcrypt.
    Bcrypt,
    /// PBKDF2.
    Pbkdf2,
    /// Argon2 in PHC form.
    Argon2,
}

/// Where the salt stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Salt {
    /// No salt.
    None,
    /// Before the password.
    Prefix,
    /// After the password.
    Suffix,
}

/// Pseudo-random function of PBKDF2.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Pbkdf2Prf {
    /// HMAC-SHA-1.
    Sha1,
    /// HMAC-SHA-256.
    Sha256,
    /// HMAC-SHA-512.
    Sha512,
}

/// Form of a stored password.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub struct Hashing {
    /// Function.
    pub password_hash: PasswordHash,
    /// Salt.
    pub salt: Salt,
    /// PBKDF2's function.
    pub pbkdf2_prf: Pbkdf2Prf,
    /// PBKDF2's iterations.
    pub pbkdf2_iterations: u32,
    /// PBKDF2's output, bytes.
    pub pbkdf2_length: u16,
}

/// TLS towards a server we ask.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ClientTls {
    /// Switch.
    pub enable: bool,
    /// Check the server's certificate and name.
    pub verify: bool,
    /// Signers; unset: the public ones.
    pub ca_file: Option<PathBuf>,
    /// Our certificate.
    pub cert_file: Option<PathBuf>,
    /// Our key.
    pub key_file: Option<PathBuf>,
    /// Name expected; unset: the host's.
    pub server_name: Option<String>,
}

/// `kind = "builtin"`.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BuiltinAuth {
    /// Switch.
    pub enable: bool,
    /// Key of a user.
    pub user_id: UserId,
}

/// `kind = "file"`.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FileAuth {
    /// Switch.
    pub enable: bool,
    /// The file.
    pub path: PathBuf,
    /// Key of a user.
    pub user_id: UserId,
}

/// How a web service is asked, for authentication and authorization.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct HttpAuth {
    /// Switch.
    pub enable: bool,
    /// Address.
    pub url: HttpUrl,
    /// Method.
    pub method: HttpMethod,
    /// Form of the body.
    pub content_type: ContentType,
    /// Headers added.
    pub headers: BTreeMap<String, Secret>,
    /// Time for one question.
    pub timeout: Duration,
    /// Connections.
    pub pool: u16,
    /// Fields sent.
    pub body: BTreeMap<String, String>,
    /// TLS; `https` needs no switch.
    pub tls: ClientTls,
}

/// Method of a question.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum HttpMethod {
    /// POST.
    Post,
    /// GET.
    Get,
}

/// Form of a body.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ContentType {
    /// `application/x-www-form-urlencoded`.
    Form,
    /// `application/json`.
    Json,
}

/// `kind = "jwt"`.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct JwtAuth {
    /// Switch.
    pub enable: bool,
    /// HMAC key.
    pub secret: Option<Secret>,
    /// The key is in base64.
    pub secret_base64: bool,
    /// Public key.
    pub public_key_file: Option<PathBuf>,
    /// Key set.
    pub jwks_url: Option<HttpUrl>,
    /// Time between two reads of the key set.
    pub jwks_refresh: Duration,
    /// Where the token is.
    pub from: TokenField,
    /// Claims required.
    pub claims: BTreeMap<String, String>,
    /// Claim with rules.
    pub acl_claim: String,
    /// Difference of clocks.
    pub leeway: Duration,
    /// Time for one read of the key set.
    pub timeout: Duration,
    /// TLS towards the key set.
    pub tls: ClientTls,
}

/// Field of CONNECT that holds a token.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum TokenField {
    /// Password.
    Password,
    /// User name.
    Username,
}

/// `kind = "mysql"` and `kind = "postgres"` of the chain.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct SqlAuth {
    /// Switch.
    pub enable: bool,
    /// Where the database is.
    #[serde(flatten)]
    pub server: SqlServer,
    /// Question.
    pub query: String,
    /// Form of a password.
    #[serde(flatten)]
    pub hashing: Hashing,
}

/// Where an SQL database is.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct SqlServer {
    /// Host and port.
    pub server: String,
    /// Database.
    pub database: String,
    /// User.
    pub username: String,
    /// Password.
    pub password: Option<Secret>,
    /// Time for one question.
    pub timeout: Duration,
    /// Connections.
    pub pool: u16,
    /// TLS.
    pub tls: ClientTls,
}

/// `kind = "redis"` of the chain.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct RedisAuth {
    /// Switch.
    pub enable: bool,
    /// Where Redis is.
    #[serde(flatten)]
    pub server: RedisServer,
    /// Question.
    pub command: String,
    /// Form of a password.
    #[serde(flatten)]
    pub hashing: Hashing,
}

/// Where Redis is.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct RedisServer {
    /// Host and port.
    pub server: String,
    /// Number of the database.
    pub database: u16,
    /// User.
    pub username: Option<String>,
    /// Password.
    pub password: Option<Secret>,
    /// Time for one question.
    pub timeout: Duration,
    /// Connections.
    pub pool: u16,
    /// TLS.
    pub tls: ClientTls,
}

/// `kind = "mongodb"` of the chain.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct MongoAuth {
    /// Switch.
    pub enable: bool,
    /// Where MongoDB is.
    #[serde(flatten)]
    pub server: MongoServer,
    /// Collection of users.
    pub collection: String,
    /// Fields that must match.
    pub filter: BTreeMap<String, String>,
    /// Field of the hash.
    pub password_field: String,
    /// Field of the salt.
    pub salt_field: String,
    /// Field that makes a superuser.
    pub superuser_field: String,
    /// Form of a password.
    #[serde(flatten)]
    pub hashing: Hashing,
}

/// Where MongoDB is.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct MongoServer {
    /// Host and port.
    pub server: String,
    /// Replica set.
    pub replica_set: Option<String>,
    /// Database.
    pub database: String,
    /// User.
    pub username: Option<String>,
    /// Password.
    pub password: Option<Secret>,
    /// Database that knows the user.
    pub auth_source: String,
    /// Time for one question.
    pub timeout: Duration,
    /// Connections.
    pub pool: u16,
    /// TLS.
    pub tls: ClientTls,
}

/// `kind = "ldap"`.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LdapAuth {
    /// Switch.
    pub enable: bool,
    /// Host and port.
    pub server: String,
    /// Name used to search.
    pub bind_dn: Option<String>,
    /// Its password.
    pub bind_password: Option<Secret>,
    /// Name of a user's entry.
    pub user_dn: Option<String>,
    /// Where users are searched.
    pub base_dn: Option<String>,
    /// Filter of a user.
    pub filter: String,
    /// How the password is judged.
    pub method: LdapMethod,
    /// Attribute of the hash.
    pub password_attribute: String,
    /// Attribute that makes a superuser.
    pub superuser_attribute: String,
    /// Changes to TLS on a connection that begins without.
    pub starttls: bool,
    /// Time for one question.
    pub timeout: Duration,
    /// Connections.
    pub pool: u16,
    /// TLS.
    pub tls: ClientTls,
}

/// How LDAP judges a password.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LdapMethod {
    /// By binding with it.
    Bind,
    /// By comparing its hash.
    Hash,
}

/// `kind = "x509"`.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct X509Auth {
    /// Switch.
    pub enable: bool,
    /// Field of the certificate.
    pub field: CertField,
    /// What it must be.
    #[serde(rename = "as")]
    pub identifies: UserId,
}

/// Field of a client certificate.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum CertField {
    /// Common name.
    Cn,
    /// Whole subject.
    Dn,
    /// DNS name.
    SanDns,
    /// E-mail address.
    SanEmail,
    /// URI.
    SanUri,
}

/// `kind = "scram"`.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ScramAuth {
    /// Switch.
    pub enable: bool,
    /// Hash function: `sha256`.
    pub algorithm: String,
    /// Iterations of new passwords.
    pub iterations: u32,
}

/// `[acl]`.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Acl {
    /// Verdict without a matching rule.
    pub no_match: NoMatch,
    /// What happens on a denied publish.
    pub deny_action: DenyAction,
    /// Verdicts remembered for a client.
    pub cache_size: u16,
    /// How long.
    pub cache_ttl: Duration,
    /// Sources in order.
    pub sources: Vec<AclSource>,
}

/// Verdict without a matching rule.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum NoMatch {
    /// Denied.
    Deny,
    /// Allowed.
    Allow,
}

/// What happens on a denied publish.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum DenyAction {
    /// The message is dropped.
    Ignore,
    /// The client is disconnected.
    Disconnect,
}

/// One entry of `[[acl.sources]]`.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "lowercase")]
pub enum AclSource {
    /// A file of rules.
    File(FileAcl),
    /// Rules managed by ctl, API and dashboard.
    Builtin(BuiltinAcl),
    /// A web service.
    Http(HttpAuth),
    /// MySQL or MariaDB.
    MySql(Box<SqlAcl>),
    /// PostgreSQL.
    Postgres(Box<SqlAcl>),
    /// Redis.
    Redis(Box<RedisAcl>),
    /// MongoDB.
    MongoDb(Box<MongoAcl>),
}

impl AclSource {
    /// The word in `kind`.
    pub const fn kind(&self) -> &'static str {
        match self {
            Self::File(_) => "file",
            Self::Builtin(_) => "builtin",
            Self::Http(_) => "http",
            Self::MySql(_) => "mysql",
            Self::Postgres(_) => "postgres",
            Self::Redis(_) => "redis",
            Self::MongoDb(_) => "mongodb",
        }
    }

    /// False if the entry is left out.
    pub const fn enable(&self) -> bool {
        match self {
            Self::File(it) => it.enable,
            Self::Builtin(it) => it.enable,
            Self::Http(it) => it.enable,
            Self::MySql(it) | Self::Postgres(it) => it.enable,
            Self::Redis(it) => it.enable,
            Self::MongoDb(it) => it.enable,
        }
    }
}

/// `kind = "file"` of the sources.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FileAcl {
    /// Switch.
    pub enable: bool,
    /// The file.
    pub path: PathBuf,
}

/// `kind = "builtin"` of the sources.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BuiltinAcl {
    /// Switch.
    pub enable: bool,
}

/// `kind = "mysql"` and `kind = "postgres"` of the sources.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct SqlAcl {
    /// Switch.
    pub enable: bool,
    /// Where the database is.
    #[serde(flatten)]
    pub server: SqlServer,
    /// Question.
    pub query: String,
    /// Order in which rows are tried.
    pub acl_row_order: RowOrder,
}

/// Order in which rows are tried.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum RowOrder {
    /// As they come.
    Forward,
    /// Last first.
    Reverse,
}

/// `kind = "redis"` of the sources.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct RedisAcl {
    /// Switch.
    pub enable: bool,
    /// Where Redis is.
    #[serde(flatten)]
    pub server: RedisServer,
    /// Question.
    pub command: String,
}

/// `kind = "mongodb"` of the sources.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct MongoAcl {
    /// Switch.
    pub enable: bool,
    /// Where MongoDB is.
    #[serde(flatten)]
    pub server: MongoServer,
    /// Collection of rules.
    pub collection: String,
    /// Fields that must match.
    pub filter: BTreeMap<String, String>,
}
