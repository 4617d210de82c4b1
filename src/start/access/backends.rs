//! From the words of the configuration to the settings of services, tokens and databases.

#[cfg(any(feature = "http", feature = "jwt", feature = "rows"))]
use std::sync::Arc;

#[cfg(any(feature = "http", feature = "jwt", feature = "rows"))]
use nightjar_broker::access::Authenticator;
#[cfg(any(feature = "http", feature = "rows"))]
use nightjar_broker::access::Authorizer;
#[cfg(any(feature = "tls", feature = "sql"))]
use nightjar_connectors::tls::TlsSettings;

#[cfg(any(feature = "http", feature = "jwt", feature = "rows"))]
use super::Entry;
#[cfg(any(feature = "http", feature = "jwt", feature = "rows"))]
use crate::config::{Problem, model};

#[cfg(any(feature = "http", feature = "rows"))]
type Auth = Result<Arc<dyn Authenticator>, Problem>;
#[cfg(any(feature = "http", feature = "rows"))]
type Acl = Result<Arc<dyn Authorizer>, Problem>;

#[cfg(any(feature = "tls", feature = "sql"))]
fn tls(tls: &model::ClientTls) -> TlsSettings {
    TlsSettings {
        verify: tls.verify,
        ca_file: tls.ca_file.clone(),
        cert_file: tls.cert_file.clone(),
        key_file: tls.key_file.clone(),
        server_name: tls.server_name.clone(),
    }
}

/// The files of `tls.*` with their keys.
#[cfg(any(feature = "tls", feature = "sql"))]
fn tls_files(tls: &model::ClientTls) -> Vec<(&'static str, &std::path::PathBuf)> {
    [
        ("tls.ca_file", &tls.ca_file),
        ("tls.cert_file", &tls.cert_file),
        ("tls.key_file", &tls.key_file),
    ]
    .into_iter()
    .filter_map(|(key, file)| Some((key, file.as_ref()?)))
    .collect()
}

#[cfg(feature = "http")]
mod http {
    use nightjar_connectors::http::{ContentType, HttpAcl, HttpAuth, HttpSettings, Method};

    use super::{Acl, Arc, Auth, Entry, model, tls, tls_files};

    fn settings(it: &model::HttpAuth) -> HttpSettings {
        let headers = it.headers.iter();
        let body = it.body.iter();
        HttpSettings {
            method: match it.method {
                model::HttpMethod::Post => Method::Post,
                model::HttpMethod::Get => Method::Get,
            },
            content_type: match it.content_type {
                model::ContentType::Form => ContentType::Form,
                model::ContentType::Json => ContentType::Json,
            },
            headers: headers
                .map(|(name, text)| (name.clone(), text.expose().to_owned()))
                .collect(),
            body: body
                .map(|(name, text)| (name.clone(), text.clone()))
                .collect(),
            timeout: it.timeout.get(),
            pool: usize::from(it.pool),
            tls: tls(&it.tls),
            ..HttpSettings::new(it.url.expose())
        }
    }

    pub fn http_auth(entry: &Entry<'_>, it: &model::HttpAuth) -> Auth {
        match HttpAuth::new(&settings(it)) {
            Ok(made) => Ok(Arc::new(made)),
            Err(error) => Err(entry.connector(error, &tls_files(&it.tls))),
        }
    }

    pub fn http_acl(entry: &Entry<'_>, it: &model::HttpAuth) -> Acl {
        match HttpAcl::new(&settings(it)) {
            Ok(made) => Ok(Arc::new(made)),
            Err(error) => Err(entry.connector(error, &tls_files(&it.tls))),
        }
    }
}
#[cfg(feature = "http")]
pub use http::{http_acl, http_auth};

#[cfg(feature = "jwt")]
mod jwt {
    use base64::Engine as _;
    use nightjar_connectors::ConnectorError;
    use nightjar_connectors::jwt::{Jwt, JwtSettings, Key, KeyProvider, KeySet, TokenFrom};

    use super::{Arc, Authenticator, Entry, Problem, model};

    /// `None` if the entry names no key.
    pub fn jwt(
        entry: &Entry<'_>,
        it: &model::JwtAuth,
    ) -> Result<Option<Arc<dyn Authenticator>>, Problem> {
        let own = |key: Result<Key, ConnectorError>| -> Result<Arc<dyn KeyProvider>, Problem> {
            let key = key.map_err(|error| entry.connector(error, &[]))?;
            Ok(Arc::new(Arc::new(KeySet::new(vec![key]))))
        };
        let keys = match (&it.secret, &it.public_key_file, &it.jwks_url) {
            (Some(secret), ..) if it.secret_base64 => {
                let bytes = base64::engine::general_purpose::STANDARD.decode(secret.expose());
                let bytes = bytes.map_err(|_| {
                    entry
                        .problem("secret", "expected base64, because secret_base64 is set")
                        .help("write it as `base64` prints it, or remove secret_base64")
                })?;
                own(Key::secret(&bytes))?
            }
            (Some(secret), ..) => own(Key::secret(secret.expose().as_bytes()))?,
            (None, Some(path), _) => {
                let text = std::fs::read_to_string(path).map_err(|error| {
                    entry.unreadable(path, &error, &[("public_key_file", path)])
                })?;
                own(Key::pem(&text))?
            }
            (None, None, Some(url)) => key_set(entry, it, url)?,
            (None, None, None) => return Ok(None),
        };
        let mut settings = JwtSettings::default();
        settings.from = match it.from {
            model::TokenField::Password => TokenFrom::Password,
            model::TokenField::Username => TokenFrom::Username,
        };
        settings.acl_claim.clone_from(&it.acl_claim);
        settings.leeway = u32::try_from(it.leeway.get().as_secs()).unwrap_or(u32::MAX);
        let claims = it.claims.iter();
        let settings = settings
            .require(claims.map(|(name, text)| (&**name, &**text)))
            .map_err(|error| entry.connector(error, &[]))?;
        Ok(Some(Arc::new(Jwt::new(settings, keys))))
    }

    #[cfg(feature = "http")]
    fn key_set(
        entry: &Entry<'_>,
        it: &model::JwtAuth,
        url: &crate::config::units::HttpUrl,
    ) -> Result<Arc<dyn KeyProvider>, Problem> {
        use nightjar_connectors::http::{HttpSettings, JwksUrl};
        let settings = HttpSettings {
            timeout: it.timeout.get(),
            tls: super::tls(&it.tls),
            ..HttpSettings::new(url.expose())
        };
        match JwksUrl::new(&settings, it.jwks_refresh.get()) {
            Ok(keys) => Ok(Arc::new(keys)),
            Err(ConnectorError::Setting {
                key: "url",
                problem,
            }) => {
                let problem = problem.split(", got ").next().unwrap_or_default();
                Err(entry
                    .problem("jwks_url", problem)
                    .help("for example \"https://idp.example.org/jwks.json\""))
            }
            Err(error) => Err(entry.connector(error, &super::tls_files(&it.tls))),
        }
    }

    #[cfg(not(feature = "http"))]
    fn key_set(
        entry: &Entry<'_>,
        _: &model::JwtAuth,
        _: &crate::config::units::HttpUrl,
    ) -> Result<Arc<dyn KeyProvider>, Problem> {
        Err(entry
            .problem(
                "jwks_url",
                "keys by address are not compiled into this program (cargo feature `http`)",
            )
            .help("use public_key_file, or a program built with it"))
    }
}
#[cfg(feature = "jwt")]
pub use jwt::jwt;

#[cfg(any(feature = "redis", feature = "sql", feature = "mongodb"))]
fn hashing(it: &model::Hashing) -> nightjar_connectors::password::HashSettings {
    use nightjar_connectors::password::{HashKind, HashSettings, Pbkdf2Prf, SaltPlace};
    HashSettings {
        kind: match it.password_hash {
            model::PasswordHash::Plain => HashKind::Plain,
            model::PasswordHash::Md5 => HashKind::Md5,
            model::PasswordHash::Sha => HashKind::Sha,
            model::PasswordHash::Sha256 => HashKind::Sha256,
            model::PasswordHash::Sha512 => HashKind::Sha512,
            model::PasswordHash::Bcrypt => HashKind::Bcrypt,
            model::PasswordHash::Pbkdf2 => HashKind::Pbkdf2,
            model::PasswordHash::Argon2 => HashKind::Argon2,
        },
        salt: match it.salt {
            model::Salt::None => SaltPlace::None,
            model::Salt::Prefix => SaltPlace::Prefix,
            model::Salt::Suffix => SaltPlace::Suffix,
        },
        pbkdf2_prf: match it.pbkdf2_prf {
            model::Pbkdf2Prf::Sha1 => Pbkdf2Prf::Sha1,
            model::Pbkdf2Prf::Sha256 => Pbkdf2Prf::Sha256,
            model::Pbkdf2Prf::Sha512 => Pbkdf2Prf::Sha512,
        },
        pbkdf2_iterations: it.pbkdf2_iterations,
        pbkdf2_length: it.pbkdf2_length,
    }
}

#[cfg(feature = "redis")]
mod redis {
    use nightjar_connectors::password::HashPool;
    use nightjar_connectors::redis::{RedisRules, RedisSettings, RedisUsers};
    use nightjar_connectors::rows::{RowsAcl, RowsAuth};

    use super::{Acl, Arc, Auth, Entry, hashing, model, tls, tls_files};

    fn settings(it: &model::RedisServer) -> RedisSettings {
        RedisSettings {
            server: it.server.clone(),
            database: it.database,
            username: it.username.clone(),
            password: it.password.as_ref().map(|text| text.expose().to_owned()),
            pool: usize::from(it.pool),
            tls: it.tls.enable.then(|| tls(&it.tls)),
        }
    }

    pub fn redis_auth(entry: &Entry<'_>, it: &model::RedisAuth, pool: Arc<HashPool>) -> Auth {
        let limit = it.server.timeout.get();
        match RedisUsers::new(&settings(&it.server), &it.command) {
            Ok(users) => Ok(Arc::new(RowsAuth::new(
                users,
                hashing(&it.hashing),
                limit,
                pool,
            ))),
            Err(error) => Err(entry.connector(error, &tls_files(&it.server.tls))),
        }
    }

    pub fn redis_acl(entry: &Entry<'_>, it: &model::RedisAcl) -> Acl {
        match RedisRules::new(&settings(&it.server), &it.command) {
            Ok(rules) => Ok(Arc::new(RowsAcl::new(rules, it.server.timeout.get()))),
            Err(error) => Err(entry.connector(error, &tls_files(&it.server.tls))),
        }
    }
}
#[cfg(feature = "redis")]
pub use redis::{redis_acl, redis_auth};

#[cfg(feature = "mongodb")]
mod mongodb {
    use nightjar_connectors::mongodb::{MongoRules, MongoSettings, MongoUsers};
    use nightjar_connectors::password::HashPool;
    use nightjar_connectors::rows::{RowsAcl, RowsAuth};

    use super::{Acl, Arc, Auth, Entry, hashing, model, tls, tls_files};

    fn settings(it: &model::MongoServer) -> MongoSettings {
        MongoSettings {
            server: it.server.clone(),
            replica_set: it.replica_set.clone(),
            database: it.database.clone(),
            username: it.username.clone(),
            password: it.password.as_ref().map(|text| text.expose().to_owned()),
            auth_source: it.auth_source.clone(),
            pool: usize::from(it.pool),
            tls: it.tls.enable.then(|| tls(&it.tls)),
        }
    }

    pub fn mongodb_auth(entry: &Entry<'_>, it: &model::MongoAuth, pool: Arc<HashPool>) -> Auth {
        let fields = [&it.password_field, &it.salt_field, &it.superuser_field];
        let fields = fields.map(String::as_str);
        let settings = settings(&it.server);
        match MongoUsers::new(&settings, &it.collection, &it.filter, fields) {
            Ok(users) => Ok(Arc::new(RowsAuth::new(
                users,
                hashing(&it.hashing),
                it.server.timeout.get(),
                pool,
            ))),
            Err(error) => Err(entry.connector(error, &tls_files(&it.server.tls))),
        }
    }

    pub fn mongodb_acl(entry: &Entry<'_>, it: &model::MongoAcl) -> Acl {
        match MongoRules::new(&settings(&it.server), &it.collection, &it.filter) {
            Ok(rules) => Ok(Arc::new(RowsAcl::new(rules, it.server.timeout.get()))),
            Err(error) => Err(entry.connector(error, &tls_files(&it.server.tls))),
        }
    }
}
#[cfg(feature = "mongodb")]
pub use mongodb::{mongodb_acl, mongodb_auth};

#[cfg(feature = "ldap")]
mod ldap {
    use nightjar_connectors::ldap::{Ldap, LdapMethod, LdapSettings};
    use nightjar_connectors::password::HashPool;

    use super::{Arc, Auth, Entry, model, tls, tls_files};

    pub fn ldap_auth(entry: &Entry<'_>, it: &model::LdapAuth, pool: Arc<HashPool>) -> Auth {
        let settings = LdapSettings {
            server: it.server.clone(),
            bind_dn: it.bind_dn.clone(),
            bind_password: it
                .bind_password
                .as_ref()
                .map(|text| text.expose().to_owned()),
            user_dn: it.user_dn.clone(),
            base_dn: it.base_dn.clone(),
            filter: it.filter.clone(),
            method: match it.method {
                model::LdapMethod::Bind => LdapMethod::Bind,
                model::LdapMethod::Hash => LdapMethod::Hash,
            },
            password_attribute: it.password_attribute.clone(),
            superuser_attribute: it.superuser_attribute.clone(),
            timeout: it.timeout.get(),
            pool: usize::from(it.pool),
            tls: it.tls.enable.then(|| tls(&it.tls)),
            start_tls: it.starttls,
        };
        match Ldap::new(&settings, pool) {
            Ok(made) => Ok(Arc::new(made)),
            Err(error) => Err(entry.connector(error, &tls_files(&it.tls))),
        }
    }
}
#[cfg(feature = "ldap")]
pub use ldap::ldap_auth;

#[cfg(feature = "sql")]
mod sql {
    use nightjar_connectors::ConnectorError;
    use nightjar_connectors::password::HashPool;
    use nightjar_connectors::rows::{RowsAcl, RowsAuth};
    use nightjar_connectors::sql::{Database, RowOrder, SqlRules, SqlSettings, SqlUsers};

    use super::{Acl, Arc, Auth, Entry, Problem, hashing, model, tls, tls_files};

    fn settings(entry: &Entry<'_>, it: &model::SqlServer) -> Result<SqlSettings, Problem> {
        if it.tls.enable {
            if it.tls.server_name.is_some() {
                return Err(entry
                    .problem(
                        "tls.server_name",
                        "of databases the certificate must name the host of server",
                    )
                    .help("write that name in server, and remove tls.server_name"));
            }
            // The driver reads them with the first question only.
            let files = tls_files(&it.tls);
            for (_, file) in &files {
                if let Err(error) = std::fs::File::open(file) {
                    return Err(entry.unreadable(file, &error, &files));
                }
            }
        }
        Ok(SqlSettings {
            server: it.server.clone(),
            database: it.database.clone(),
            username: it.username.clone(),
            password: it.password.as_ref().map(|text| text.expose().to_owned()),
            timeout: it.timeout.get(),
            pool: u32::from(it.pool),
            tls: it.tls.enable.then(|| tls(&it.tls)),
        })
    }

    type New<D> = fn(&SqlSettings) -> Result<D, ConnectorError>;

    fn users<D: Database + 'static>(
        entry: &Entry<'_>,
        it: &model::SqlAuth,
        pool: Arc<HashPool>,
        new: New<D>,
    ) -> Auth {
        let settings = settings(entry, &it.server)?;
        match new(&settings).and_then(|database| SqlUsers::new(database, &it.query)) {
            Ok(users) => Ok(Arc::new(RowsAuth::new(
                users,
                hashing(&it.hashing),
                settings.timeout,
                pool,
            ))),
            Err(error) => Err(entry.connector(error, &[])),
        }
    }

    fn rules<D: Database + 'static>(entry: &Entry<'_>, it: &model::SqlAcl, new: New<D>) -> Acl {
        let settings = settings(entry, &it.server)?;
        let order = match it.acl_row_order {
            model::RowOrder::Forward => RowOrder::Forward,
            model::RowOrder::Reverse => RowOrder::Reverse,
        };
        match new(&settings).and_then(|database| SqlRules::new(database, &it.query, order)) {
            Ok(rules) => Ok(Arc::new(RowsAcl::new(rules, settings.timeout))),
            Err(error) => Err(entry.connector(error, &[])),
        }
    }

    #[cfg(feature = "mysql")]
    mod mysql {
        use super::*;
        use nightjar_connectors::sql::MySql;

        pub fn mysql_auth(entry: &Entry<'_>, it: &model::SqlAuth, pool: Arc<HashPool>) -> Auth {
            users(entry, it, pool, MySql::new)
        }

        pub fn mysql_acl(entry: &Entry<'_>, it: &model::SqlAcl) -> Acl {
            rules(entry, it, MySql::new)
        }
    }
    #[cfg(feature = "mysql")]
    pub use mysql::{mysql_acl, mysql_auth};

    #[cfg(feature = "postgres")]
    mod postgres {
        use super::*;
        use nightjar_connectors::sql::Postgres;

        pub fn postgres_auth(entry: &Entry<'_>, it: &model::SqlAuth, pool: Arc<HashPool>) -> Auth {
            users(entry, it, pool, Postgres::new)
        }

        pub fn postgres_acl(entry: &Entry<'_>, it: &model::SqlAcl) -> Acl {
            rules(entry, it, Postgres::new)
        }
    }
    #[cfg(feature = "postgres")]
    pub use postgres::{postgres_acl, postgres_auth};
}
#[cfg(feature = "mysql")]
pub use sql::{mysql_acl, mysql_auth};
#[cfg(feature = "postgres")]
pub use sql::{postgres_acl, postgres_auth};
