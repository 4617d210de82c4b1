//! `kind = "ldap"`: users of a directory (LDAPv3, RFC 4511).
//!
//! Either the entry of a user is searched by a filter and its name bound with the client's password (`method = "bind"`)
//! or its `userPassword` compared here (`method = "hash"`); or the name is made from a template (`user_dn`) and bound at
//! once. A client's values are octets of the encoded question, never a part of a filter's text.
//!
//! An empty password never reaches the directory: a bind with one is granted to everybody (RFC 4513 section 5.1.2).

mod ber;
mod client;
mod filter;
mod message;

use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use nightjar_broker::access::{AuthAnswer, AuthRequest, Authenticator, BoxFuture, Grant};
use nightjar_mqtt::ReasonCode;

use crate::ConnectorError;
use crate::password::{HashPool, PasswordHash, directory_hash};
use crate::rows::Guard;
use crate::template::{Template, Values, long_names};
use crate::tls::TlsSettings;
use crate::users::{self, Login};
use client::{Client, Connection, Failure};
use filter::{Filter, escape_name};
use message::{Entry, Scope};

/// Values of `userPassword` that are tried.
const MAX_HASHES: usize = 8;

/// `method`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum LdapMethod {
    /// The directory judges the password.
    #[default]
    Bind,
    /// Nightjar compares it with what `password_attribute` holds.
    Hash,
}

/// Where a directory is and how users are found.
#[derive(Clone)]
pub struct LdapSettings {
    /// `server`: host and port.
    pub server: String,
    /// `bind_dn`: who searches; anonymous if unset.
    pub bind_dn: Option<String>,
    /// `bind_password`.
    pub bind_password: Option<String>,
    /// `user_dn`: the name of a user's entry, with placeholders; nothing is searched then.
    pub user_dn: Option<String>,
    /// `base_dn`: below which entry users are searched.
    pub base_dn: Option<String>,
    /// `filter`: what finds a user.
    pub filter: String,
    /// `method`.
    pub method: LdapMethod,
    /// `password_attribute`, for [`LdapMethod::Hash`].
    pub password_attribute: String,
    /// `superuser_attribute`: `TRUE`, `1` or `yes` makes a superuser.
    pub superuser_attribute: String,
    /// `timeout`: for a whole login.
    pub timeout: Duration,
    /// `pool`: connections at once.
    pub pool: usize,
    /// `tls`, where it is enabled.
    pub tls: Option<TlsSettings>,
    /// `starttls`: the connection begins without TLS and changes to it.
    pub start_tls: bool,
}

impl LdapSettings {
    /// The defaults with this server and base: anonymous search by user name, judged by bind.
    pub fn new(server: impl Into<String>, base_dn: impl Into<String>) -> Self {
        Self {
            server: server.into(),
            bind_dn: None,
            bind_password: None,
            user_dn: None,
            base_dn: Some(base_dn.into()),
            filter: "(uid=${username})".to_owned(),
            method: LdapMethod::Bind,
            password_attribute: "userPassword".to_owned(),
            superuser_attribute: "isSuperuser".to_owned(),
            timeout: Duration::from_secs(5),
            pool: 8,
            tls: None,
            start_tls: false,
        }
    }
}

/// Authenticates users of a directory.
pub struct Ldap {
    client: Client,
    guard: Guard,
    pool: Arc<HashPool>,
    /// Who searches, and with what password.
    service: (String, String),
    find: Find,
    method: LdapMethod,
    password_attribute: String,
    superuser_attribute: String,
    /// What users that do not exist are checked against: of the kind of the last one that did.
    stand_in: ArcSwap<PasswordHash>,
}

enum Find {
    /// The name is made.
    Name(Template),
    /// It is searched.
    Search { base: String, filter: Filter },
}

/// What the directory says of a login.
enum Judged {
    /// Bound as the user.
    Granted { superuser: bool },
    /// Known, and not bound.
    Refused,
    /// Not known.
    Nobody,
    /// To be judged by its values of `password_attribute`.
    Entry(Entry),
}

impl Ldap {
    /// Users of this directory. Nothing is connected yet.
    ///
    /// # Errors
    /// [`ConnectorError`] if a setting is wrong.
    pub fn new(settings: &LdapSettings, pool: Arc<HashPool>) -> Result<Self, ConnectorError> {
        let wrong = |key: &'static str, problem: &str| ConnectorError::Setting {
            key,
            problem: problem.to_owned(),
        };
        let service = match (&settings.bind_dn, &settings.bind_password) {
            (None, None) => (String::new(), String::new()),
            (Some(name), Some(password)) if !name.is_empty() && !password.is_empty() => {
                (name.clone(), password.clone())
            }
            // A name without a password would be bound as nobody.
            (_, None) => return Err(wrong("bind_password", "expected the password of bind_dn")),
            _ => {
                return Err(wrong(
                    "bind_dn",
                    "expected a name and its password in bind_password",
                ));
            }
        };
        let find = match (&settings.user_dn, &settings.base_dn) {
            (Some(name), _) => {
                if settings.method == LdapMethod::Hash && service.0.is_empty() {
                    let problem = "expected bind_dn, which reads password_attribute of that name";
                    return Err(wrong("user_dn", problem));
                }
                let template = Template::client(&long_names(name));
                Find::Name(template.map_err(|problem| wrong("user_dn", &problem))?)
            }
            (None, Some(base)) => Find::Search {
                base: base.clone(),
                filter: Filter::parse(&settings.filter)?,
            },
            (None, None) => {
                return Err(wrong(
                    "base_dn",
                    "expected base_dn to search below, or user_dn",
                ));
            }
        };
        if settings.start_tls && settings.tls.is_none() {
            return Err(wrong("starttls", "expected tls.enable = true beside it"));
        }
        Ok(Self {
            client: Client::new(settings)?,
            guard: Guard::new(settings.timeout),
            pool,
            service,
            find,
            method: settings.method,
            password_attribute: settings.password_attribute.clone(),
            superuser_attribute: settings.superuser_attribute.clone(),
            stand_in: ArcSwap::from_pointee(
                directory_hash(b"{SSHA}AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA")
                    .expect("base64 of a hash and four bytes of salt")
                    .stand_in(),
            ),
        })
    }

    async fn judge(&self, request: &AuthRequest) -> AuthAnswer {
        let values = Values::of(&request.client);
        let password = request.password.as_ref().map_or(&[][..], |p| &p.0);
        let mut encoded = Vec::new();
        let asked = match &self.find {
            Find::Name(template) => entry_name(template, &values),
            Find::Search { base, filter } => {
                filter.put(&mut encoded, &values).map(|()| base.clone())
            }
        };
        let Some(name) = asked else {
            return AuthAnswer::Ignore;
        };
        if password.is_empty() && matches!(self.find, Find::Name(_)) {
            return AuthAnswer::Deny(ReasonCode::BadUserNameOrPassword);
        }
        let question = self.question(&name, &encoded, password);
        match self.guard.wait(question).await {
            Err(error) => AuthAnswer::Unavailable(error),
            Ok(Judged::Granted { superuser }) => AuthAnswer::Allow(Grant {
                superuser,
                ..Grant::default()
            }),
            Ok(Judged::Refused) => AuthAnswer::Deny(ReasonCode::BadUserNameOrPassword),
            Ok(Judged::Nobody) if self.method == LdapMethod::Bind => AuthAnswer::Ignore,
            Ok(Judged::Nobody) => {
                users::judge(&self.pool, None, self.stand_in.load_full(), request).await
            }
            Ok(Judged::Entry(entry)) => self.compare(&entry, request).await,
        }
    }

    /// Asks on a kept connection, and once more on a new one where that fails: the server may have closed it, and
    /// everything here may be asked twice.
    async fn question(&self, name: &str, filter: &[u8], password: &[u8]) -> Result<Judged, String> {
        let _slot = self.client.slot().await;
        if let Some(mut connection) = self.client.kept()
            && let Ok(judged) = self.ask(&mut connection, name, filter, password).await
        {
            self.client.keep(connection);
            return Ok(judged);
        }
        let connection = self.client.connect().await;
        let mut connection = connection.map_err(|error| error.to_string())?;
        let judged = self.ask(&mut connection, name, filter, password).await;
        let judged = judged.map_err(|error| error.to_string())?;
        self.client.keep(connection);
        Ok(judged)
    }

    async fn ask(
        &self,
        connection: &mut Connection,
        name: &str,
        filter: &[u8],
        password: &[u8],
    ) -> Result<Judged, Failure> {
        let mut wanted = vec![&*self.superuser_attribute];
        if self.method == LdapMethod::Hash {
            wanted.push(&self.password_attribute);
        }
        let own = || {
            let mut any = Vec::new();
            ber::put(&mut any, 0x87, b"objectClass");
            any
        };
        let entry = match &self.find {
            Find::Name(_) if self.method == LdapMethod::Bind => {
                let judged = self.bind(connection, name, password).await?;
                if !matches!(judged, Judged::Granted { .. }) {
                    return Ok(judged);
                }
                let found = connection
                    .search(name, Scope::Base, &own(), &wanted)
                    .await?;
                let superuser = found.first().is_some_and(|entry| self.is_superuser(entry));
                return Ok(Judged::Granted { superuser });
            }
            Find::Name(_) => {
                self.bind_service(connection).await?;
                connection
                    .search(name, Scope::Base, &own(), &wanted)
                    .await?
            }
            Find::Search { .. } => {
                self.bind_service(connection).await?;
                connection
                    .search(name, Scope::Subtree, filter, &wanted)
                    .await?
            }
        };
        let entry = match <[Entry; 1]>::try_from(entry) {
            Ok([entry]) => entry,
            Err(several) if several.len() > 1 => {
                return Err(Failure::other(
                    "expected the filter to find one entry, got several",
                ));
            }
            Err(_) => {
                if self.method == LdapMethod::Bind && !password.is_empty() {
                    // As many questions as for a user that exists.
                    connection
                        .bind(&format!("cn=nobody,{name}"), password)
                        .await?;
                }
                return Ok(Judged::Nobody);
            }
        };
        if self.method == LdapMethod::Hash {
            return Ok(Judged::Entry(entry));
        }
        if password.is_empty() {
            return Ok(Judged::Refused);
        }
        let superuser = self.is_superuser(&entry);
        Ok(match self.bind(connection, &entry.name, password).await? {
            Judged::Granted { .. } => Judged::Granted { superuser },
            // It was there a moment ago.
            _ => Judged::Refused,
        })
    }

    async fn bind_service(&self, connection: &mut Connection) -> Result<(), Failure> {
        let (name, password) = &self.service;
        connection.bind_as(name, password.as_bytes()).await
    }

    async fn bind(
        &self,
        connection: &mut Connection,
        name: &str,
        password: &[u8],
    ) -> Result<Judged, Failure> {
        match connection.bind(name, password).await? {
            message::SUCCESS => Ok(Judged::Granted { superuser: false }),
            message::INVALID_CREDENTIALS | message::INAPPROPRIATE_AUTHENTICATION => {
                Ok(Judged::Refused)
            }
            message::NO_SUCH_OBJECT | message::INVALID_NAME => Ok(Judged::Nobody),
            code => Err(Failure::other(format!(
                "bind: the directory answered with code {code}"
            ))),
        }
    }

    fn is_superuser(&self, entry: &Entry) -> bool {
        entry.values(&self.superuser_attribute).iter().any(|value| {
            let value = value.to_ascii_lowercase();
            matches!(&*value, b"true" | b"1" | b"yes")
        })
    }

    async fn compare(&self, entry: &Entry, request: &AuthRequest) -> AuthAnswer {
        let superuser = self.is_superuser(entry);
        let values = entry.values(&self.password_attribute);
        let mut answer = AuthAnswer::Deny(ReasonCode::BadUserNameOrPassword);
        for value in values.iter().take(MAX_HASHES) {
            let hash = match directory_hash(value) {
                Ok(hash) => Arc::new(hash),
                Err(error) => {
                    let problem = format!("{}: {error}", self.password_attribute);
                    return AuthAnswer::Unavailable(problem);
                }
            };
            if !hash.is_cheap() && !hash.costs_like(&self.stand_in.load()) {
                self.stand_in.store(Arc::new(hash.stand_in()));
            }
            let stand_in = self.stand_in.load_full();
            let login = Some(Login { hash, superuser });
            answer = users::judge(&self.pool, login, stand_in, request).await;
            if !matches!(answer, AuthAnswer::Deny(_)) {
                break;
            }
        }
        answer
    }
}

/// The name of a client's entry; `None` if a value is missing, or empty, which makes the name of another entry.
fn entry_name(template: &Template, values: &Values<'_>) -> Option<String> {
    let empty = std::cell::Cell::new(false);
    let name = template.render_escaped(values, |value, name| {
        empty.set(empty.get() || value.is_empty());
        escape_name(value, name);
    });
    name.filter(|_| !empty.get())
}

impl Authenticator for Ldap {
    fn name(&self) -> &str {
        self.client.name()
    }

    fn authenticate<'a>(&'a self, request: &'a AuthRequest) -> BoxFuture<'a, AuthAnswer> {
        Box::pin(self.judge(request))
    }

    /// The question has a limit of its own, and the hashing of others must not count.
    fn time_limit(&self) -> Option<Duration> {
        None
    }
}

/// Any bytes as the content of a message: an answer or an error, never more than was sent.
#[cfg(any(test, feature = "fuzzing"))]
#[doc(hidden)]
pub fn fuzz_answer(bytes: &[u8]) {
    if let Ok((_, message::Answer::Entry(entry))) = message::answer(bytes) {
        let values = entry.attributes.iter().flat_map(|(_, values)| values);
        let size: usize = values.map(Vec::len).sum();
        assert!(size <= bytes.len(), "more than was sent");
        for value in entry.values("userPassword") {
            let _ = directory_hash(value);
        }
    }
}

#[cfg(test)]
mod tests;
