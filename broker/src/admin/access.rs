//! `AccessAdmin`: what ctl, the HTTP API and the dashboard do with users, rules and bans, in one place.

use crate::access::{BoxFuture, Secret};
use crate::acl::{Explanation, RuleError};
use crate::auth::{StoreError, UserKind};
use crate::bans::{Ban, BanError, BanKind};

/// What is shown of a builtin user: never a hash.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UserView {
    /// By what the user is known.
    pub kind: UserKind,
    /// User name or client identifier.
    pub name: String,
    /// Skips authorization.
    pub superuser: bool,
    /// True if the user can log in by SCRAM-SHA-256 too.
    pub scram: bool,
}

/// A user to be made or changed.
#[derive(Debug, Clone)]
pub struct UserChange {
    /// By what the user is known.
    pub kind: UserKind,
    /// User name or client identifier.
    pub name: String,
    /// The password; a change without one keeps the old one.
    pub password: Option<Secret>,
    /// Skips authorization; a change without it keeps what it was.
    pub superuser: Option<bool>,
}

/// The question "may X do Y?".
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AccessQuestion {
    /// User name, if the client has one.
    pub username: Option<String>,
    /// Client identifier.
    pub client_id: String,
    /// Address of the client; loopback if it is not given.
    pub address: Option<std::net::IpAddr>,
    /// Listener such as `tcp:default`; that one if it is not given.
    pub listener: Option<String>,
    /// True for SUBSCRIBE, false for PUBLISH.
    pub subscribe: bool,
    /// Topic name or filter.
    pub topic: String,
    /// Quality of service, 0 to 2.
    pub qos: nightjar_mqtt::QoS,
    /// Retain flag of a PUBLISH.
    pub retain: bool,
}

/// Why something was not done.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum AdminError {
    /// What it is about does not exist.
    #[error("there is no {0}")]
    NotFound(String),
    /// What is to be made exists.
    #[error("there is {0} already")]
    Exists(String),
    /// The request makes no sense: expected and got.
    #[error("{0}")]
    Invalid(String),
    /// The backend cannot commit now; a retry may help.
    #[error("{0}")]
    Unavailable(String),
}

impl From<StoreError> for AdminError {
    fn from(error: StoreError) -> Self {
        match error {
            StoreError::Name(_) => Self::Invalid(error.to_string()),
            StoreError::Unavailable(_) => Self::Unavailable(error.to_string()),
        }
    }
}

impl From<RuleError> for AdminError {
    fn from(error: RuleError) -> Self {
        match error {
            RuleError::Taken(number) => Self::Exists(format!("a rule {number}")),
            RuleError::Unavailable(_) => Self::Unavailable(error.to_string()),
            error => Self::Invalid(error.to_string()),
        }
    }
}

impl From<BanError> for AdminError {
    fn from(error: BanError) -> Self {
        match error {
            BanError::Unavailable(_) => Self::Unavailable(error.to_string()),
            error => Self::Invalid(error.to_string()),
        }
    }
}

/// Users, rules and bans of a running node. Lists are pages behind a cursor; writes are committed when they return.
pub trait AccessAdmin: Send + Sync {
    /// Builtin users of a kind behind a name, in the order of names.
    fn users(&self, kind: UserKind, after: Option<&str>, limit: usize) -> Vec<UserView>;

    /// A builtin user.
    fn user(&self, kind: UserKind, name: &str) -> Option<UserView>;

    /// Makes a user. Its password is hashed off the workers.
    ///
    /// # Errors
    /// [`AdminError::Exists`], [`AdminError::Invalid`] (no password, or a name that cannot be), [`AdminError::Unavailable`].
    fn add_user(&self, user: UserChange) -> BoxFuture<'_, Result<(), AdminError>>;

    /// Changes password or superuser flag of a user.
    ///
    /// # Errors
    /// [`AdminError::NotFound`], [`AdminError::Invalid`], [`AdminError::Unavailable`].
    fn change_user(&self, user: UserChange) -> BoxFuture<'_, Result<(), AdminError>>;

    /// Removes a user; connections that are open stay.
    ///
    /// # Errors
    /// [`AdminError::NotFound`], [`AdminError::Unavailable`].
    fn remove_user<'a>(
        &'a self,
        kind: UserKind,
        name: &'a str,
    ) -> BoxFuture<'a, Result<(), AdminError>>;

    /// Builtin rules with their numbers, in order, behind a number.
    fn rules(&self, after: Option<u32>, limit: usize) -> Vec<(u32, String)>;

    /// Adds a rule of the grammar of `acl.conf`, at a number or behind the last one; its number.
    ///
    /// # Errors
    /// [`AdminError`].
    fn add_rule<'a>(
        &'a self,
        rule: &'a str,
        at: Option<u32>,
    ) -> BoxFuture<'a, Result<u32, AdminError>>;

    /// Removes a rule by its number.
    ///
    /// # Errors
    /// [`AdminError`].
    fn remove_rule(&self, number: u32) -> BoxFuture<'_, Result<(), AdminError>>;

    /// Bans in force behind a cursor, in the order of kind and name.
    fn bans(&self, after: Option<(BanKind, &str)>, limit: usize) -> Vec<std::sync::Arc<Ban>>;

    /// Bans, and ends the connections it speaks of; replaces a ban of the same kind and name.
    ///
    /// # Errors
    /// [`AdminError`].
    fn add_ban(&self, ban: Ban) -> BoxFuture<'_, Result<(), AdminError>>;

    /// Lifts a ban.
    ///
    /// # Errors
    /// [`AdminError`].
    fn remove_ban<'a>(
        &'a self,
        kind: BanKind,
        who: &'a str,
    ) -> BoxFuture<'a, Result<(), AdminError>>;

    /// Says whether an action would be allowed now, and what decides.
    fn explain(&self, question: AccessQuestion) -> BoxFuture<'_, Explanation>;

    /// Voids the verdicts that clients' caches hold.
    fn clean_cache(&self);

    /// Lets the sources of rules read their files again; the errors, each naming its file.
    fn reload_rules(&self) -> Vec<String>;
}
