//! Who may connect and what they may do: `[[auth.chain]]` and `[[acl.sources]]` made into what the broker asks.
//!
//! Files and keys are read here, nothing is connected: the same code serves start, reload and `check`. Every mistake
//! becomes a [`Problem`] of its key, and all of them come back at once.

mod backends;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use nightjar_broker::Kept;
use nightjar_broker::access::{Authenticator, Authorizer, ExchangeMethod};
use nightjar_broker::acl::{AclError, BuiltinSource, FileSource};
use nightjar_broker::auth::UserKind;
use nightjar_connectors::ConnectorError;
#[cfg(feature = "password")]
use nightjar_connectors::password::HashPool;
use nightjar_connectors::scram::{KeySource, ScramMethod};
use nightjar_connectors::x509::{CertName, X509};

use crate::cli::version::KINDS;
use crate::config::model::{self, AclSource, CertField, ScramAuth, UserId, X509Auth};
use crate::config::{Loaded, Origin, Problem, missing_features};

/// The threads that check passwords. One for the process, whatever the chain is: that is their bound.
#[derive(Default)]
pub struct Hashing {
    /// `auth.cache_ttl` it was made with, and the pool.
    #[cfg(feature = "password")]
    pool: parking_lot::Mutex<Option<(std::time::Duration, Arc<HashPool>)>>,
}

impl Hashing {
    /// The pool; another one if `auth.cache_ttl` is another.
    #[cfg(feature = "password")]
    fn pool(&self, loaded: &Loaded) -> Arc<HashPool> {
        let wanted = loaded.config.auth.cache_ttl.get();
        let wanted = wanted.map_or(std::time::Duration::ZERO, |ttl| ttl.get());
        let mut pool = self.pool.lock();
        match &*pool {
            Some((ttl, pool)) if *ttl == wanted => Arc::clone(pool),
            _ => {
                let new = Arc::new(HashPool::for_this_machine(wanted));
                *pool = Some((wanted, Arc::clone(&new)));
                new
            }
        }
    }
}

/// `[[auth.chain]]`, ready to be asked.
#[derive(Default)]
pub struct Chain {
    /// Authenticators in order.
    pub links: Vec<Arc<dyn Authenticator>>,
    /// Methods of enhanced authentication.
    pub methods: Vec<Arc<dyn ExchangeMethod>>,
    /// Users with SCRAM keys among the links.
    keys: Vec<Arc<dyn KeySource>>,
}

/// The authenticators.
///
/// # Errors
/// Every entry that cannot be used, and kinds that are not compiled in.
pub fn chain(
    loaded: &Loaded,
    #[cfg_attr(
        not(feature = "password"),
        expect(unused_variables, reason = "no kind of this build hashes")
    )]
    hashing: &Hashing,
    #[cfg_attr(
        not(feature = "builtin"),
        expect(unused_variables, reason = "no builtin users in this build")
    )]
    kept: &Kept,
) -> Result<Chain, Vec<Problem>> {
    use model::Authenticator as Kind;
    let mut problems = missing(loaded, "auth.");
    let mut chain = Chain::default();
    let mut scram: Option<(Entry<'_>, &ScramAuth)> = None;
    for (at, it) in loaded.config.auth.chain.iter().enumerate() {
        if !it.enable() {
            continue;
        }
        let entry = Entry::new(loaded, format!("auth.chain[{at}]"));
        let made = match it {
            #[cfg(feature = "file")]
            Kind::File(it) => users_file(&entry, it, hashing.pool(loaded), &mut chain.keys),
            #[cfg(feature = "builtin")]
            Kind::Builtin(it) => {
                use nightjar_connectors::builtin::{Builtin, BuiltinKeys};
                let kind = user_kind(it.user_id);
                if kind == UserKind::Username {
                    chain.keys.push(Arc::new(BuiltinKeys(kept.users().clone())));
                }
                let users = kept.users().clone();
                Ok(Arc::new(Builtin::new(users, kind, hashing.pool(loaded))) as _)
            }
            #[cfg(feature = "http")]
            Kind::Http(it) => backends::http_auth(&entry, it),
            #[cfg(feature = "jwt")]
            Kind::Jwt(it) => match backends::jwt(&entry, it) {
                Ok(Some(made)) => Ok(made),
                // The rules of the configuration have named it.
                Ok(None) => continue,
                Err(problem) => Err(problem),
            },
            #[cfg(feature = "mysql")]
            Kind::MySql(it) => backends::mysql_auth(&entry, it, hashing.pool(loaded)),
            #[cfg(feature = "postgres")]
            Kind::Postgres(it) => backends::postgres_auth(&entry, it, hashing.pool(loaded)),
            #[cfg(feature = "redis")]
            Kind::Redis(it) => backends::redis_auth(&entry, it, hashing.pool(loaded)),
            #[cfg(feature = "mongodb")]
            Kind::MongoDb(it) => backends::mongodb_auth(&entry, it, hashing.pool(loaded)),
            #[cfg(feature = "ldap")]
            Kind::Ldap(it) => backends::ldap_auth(&entry, it, hashing.pool(loaded)),
            Kind::X509(it) => Ok(x509(it)),
            Kind::Scram(it) if scram.is_none() => {
                scram = Some((entry, it));
                continue;
            }
            Kind::Scram(_) => Err(entry
                .problem("", "there is a scram entry already")
                .help("one entry serves all users of the chain: remove this one")),
            // Not compiled in, which is among the problems.
            #[allow(unreachable_patterns, reason = "a build with every kind has none left")]
            _ => continue,
        };
        match made {
            Ok(link) => chain.links.push(link),
            Err(problem) => problems.push(problem),
        }
    }
    // Its users may stand behind it in the chain; and if their file is broken, that is what has to be said.
    if let Some((entry, it)) = scram
        && problems.is_empty()
    {
        match scram_method(&entry, it, &chain.keys) {
            Ok(method) => chain.methods.push(method),
            Err(problem) => problems.push(problem),
        }
    }
    if problems.is_empty() {
        Ok(chain)
    } else {
        Err(problems)
    }
}

/// `[[acl.sources]]`, in order.
pub type Sources = Vec<Arc<dyn Authorizer>>;

/// The authorization sources.
///
/// # Errors
/// As [`chain`].
pub fn sources(loaded: &Loaded, kept: &Kept) -> Result<Sources, Vec<Problem>> {
    let mut problems = missing(loaded, "acl.");
    let mut sources = Sources::new();
    for (at, it) in loaded.config.acl.sources.iter().enumerate() {
        if !it.enable() {
            continue;
        }
        let entry = Entry::new(loaded, format!("acl.sources[{at}]"));
        let made: Result<Arc<dyn Authorizer>, Problem> = match it {
            AclSource::File(it) => match FileSource::load(&it.path) {
                Ok(source) => Ok(Arc::new(source)),
                Err(error) => {
                    problems.extend(entry.acl_file(error));
                    continue;
                }
            },
            AclSource::Builtin(_) => Ok(Arc::new(BuiltinSource(kept.rules().clone()))),
            #[cfg(feature = "http")]
            AclSource::Http(it) => backends::http_acl(&entry, it),
            #[cfg(feature = "mysql")]
            AclSource::MySql(it) => backends::mysql_acl(&entry, it),
            #[cfg(feature = "postgres")]
            AclSource::Postgres(it) => backends::postgres_acl(&entry, it),
            #[cfg(feature = "redis")]
            AclSource::Redis(it) => backends::redis_acl(&entry, it),
            #[cfg(feature = "mongodb")]
            AclSource::MongoDb(it) => backends::mongodb_acl(&entry, it),
            // Not compiled in, which is among the problems.
            #[allow(unreachable_patterns, reason = "a build with every kind has none left")]
            _ => continue,
        };
        match made {
            Ok(source) => sources.push(source),
            Err(problem) => problems.push(problem),
        }
    }
    if problems.is_empty() {
        Ok(sources)
    } else {
        Err(problems)
    }
}

/// Chain and sources with all problems of both, for the start.
///
/// # Errors
/// As [`chain`].
pub fn load(
    loaded: &Loaded,
    hashing: &Hashing,
    kept: &Kept,
) -> Result<(Chain, Sources), Vec<Problem>> {
    match (chain(loaded, hashing, kept), sources(loaded, kept)) {
        (Ok(chain), Ok(sources)) => Ok((chain, sources)),
        (chain, sources) => {
            let problems = [chain.err(), sources.err()];
            Err(problems.into_iter().flatten().flatten().collect())
        }
    }
}

/// Kinds of one of the two lists that this build does not have.
fn missing(loaded: &Loaded, list: &str) -> Vec<Problem> {
    let mut problems = missing_features(loaded, KINDS);
    problems.retain(|problem| problem.key.starts_with(list));
    problems
}

/// By what users of an entry are known.
pub const fn user_kind(id: UserId) -> UserKind {
    match id {
        UserId::Username => UserKind::Username,
        UserId::ClientId => UserKind::ClientId,
    }
}

#[cfg(feature = "file")]
fn users_file(
    entry: &Entry<'_>,
    it: &model::FileAuth,
    pool: Arc<HashPool>,
    keys: &mut Vec<Arc<dyn KeySource>>,
) -> Result<Arc<dyn Authenticator>, Problem> {
    use nightjar_connectors::users_file::UsersFile;
    let users = UsersFile::load(&it.path, user_kind(it.user_id), pool);
    let users = Arc::new(users.map_err(|error| entry.connector(error, &[("path", &it.path)]))?);
    // SCRAM speaks of user names only.
    if it.user_id == UserId::Username {
        keys.push(users.clone());
    }
    Ok(users)
}

fn x509(it: &X509Auth) -> Arc<dyn Authenticator> {
    let field = match it.field {
        CertField::Cn => CertName::CommonName,
        CertField::Dn => CertName::DistinguishedName,
        CertField::SanDns => CertName::DnsName,
        CertField::SanEmail => CertName::Email,
        CertField::SanUri => CertName::Uri,
    };
    Arc::new(X509::new(field, user_kind(it.identifies)))
}

fn scram_method(
    entry: &Entry<'_>,
    it: &ScramAuth,
    keys: &[Arc<dyn KeySource>],
) -> Result<Arc<dyn ExchangeMethod>, Problem> {
    if keys.is_empty() {
        return Err(entry
            .problem("", "no entry of the chain has users with SCRAM keys")
            .help("add an entry of kind = \"file\" or \"builtin\" with user_id = \"username\""));
    }
    match ScramMethod::new(keys.to_vec(), it.iterations) {
        Ok(method) => Ok(Arc::new(method)),
        Err(error) => Err(entry.connector(error, &[])),
    }
}

/// One entry of a list, for what is wrong with it.
struct Entry<'a> {
    loaded: &'a Loaded,
    key: String,
}

impl<'a> Entry<'a> {
    const fn new(loaded: &'a Loaded, key: String) -> Self {
        Self { loaded, key }
    }

    /// A problem of a key of this entry, or of the whole with an empty name.
    fn problem(&self, name: &str, message: impl Into<String>) -> Problem {
        let key = match name {
            "" => self.key.clone(),
            name => format!("{}.{name}", self.key),
        };
        Problem::new(self.loaded.origin(&key), key, message)
    }

    /// A file that cannot be read; `files` says which key named which.
    fn unreadable(
        &self,
        path: &Path,
        error: &std::io::Error,
        files: &[(&str, &PathBuf)],
    ) -> Problem {
        let named = files.iter().find(|(_, file)| file.as_path() == path);
        let message = format!("cannot read {}: {error}", path.display());
        self.problem(named.map_or("", |(name, _)| name), message)
            .help("name a file that this user may read")
    }

    /// What a connector says.
    fn connector(&self, error: ConnectorError, files: &[(&str, &PathBuf)]) -> Problem {
        match error {
            ConnectorError::Read { path, source } => self.unreadable(&path, &source, files),
            ConnectorError::Line {
                path,
                line,
                problem,
            } => {
                let place = Origin::File {
                    path,
                    line,
                    column: 1,
                };
                Problem::new(place, format!("{}.path", self.key), problem).help(
                    "one user a line, as name:hash; `mosquitto_passwd` and `htpasswd -B` write such files",
                )
            }
            ConnectorError::Setting { key, problem } => {
                let name = key.strip_prefix("auth.chain.").unwrap_or(key);
                // Whatever an address holds beside the host may be secret.
                let problem = match name {
                    "url" => problem.split(", got ").next().unwrap_or_default(),
                    _ => &*problem,
                };
                let help = format!("`nightjar config explain {}` says what it may be", self.key);
                self.problem(name, problem).help(help)
            }
            other => self
                .problem("", other.to_string())
                .help("correct this entry, or leave it out by enable = false"),
        }
    }

    /// What is wrong with a file of rules: each mistake where it stands.
    fn acl_file(&self, error: AclError) -> Vec<Problem> {
        let key = format!("{}.path", self.key);
        match error {
            AclError::Syntax(errors) => errors
                .0
                .into_iter()
                .map(|error| {
                    let place = Origin::File {
                        path: PathBuf::from(error.file),
                        line: error.line as usize,
                        column: error.column as usize,
                    };
                    let message = format!("expected {}, got {}", error.expected, error.got);
                    Problem::new(place, key.clone(), message).help(
                        "one rule a line, as {allow, {user, \"dashboard\"}, subscribe, [\"$SYS/#\"]}.",
                    )
                })
                .collect(),
            AclError::Read { path, source } => {
                vec![self.unreadable(&path, &source, &[("path", &path)])]
            }
            other => {
                let problem = self.problem("path", other.to_string());
                vec![problem.help("name a file of rules")]
            }
        }
    }
}
