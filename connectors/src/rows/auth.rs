//! Users in rows.

use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use nightjar_broker::access::{AuthAnswer, AuthRequest, Authenticator, BoxFuture, ClientInfo};
use nightjar_mqtt::ReasonCode;

use super::Guard;
use crate::password::{HashKind, HashPool, HashSettings, PasswordHash};
use crate::users::{self, Login};

/// What a table knows of a user.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct UserRow {
    /// The column `password`; without one nobody gets in by this row.
    pub password: Option<String>,
    /// The column `salt`; empty if there is none.
    pub salt: String,
    /// The column `is_superuser`.
    pub superuser: bool,
}

impl std::fmt::Debug for UserRow {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("UserRow")
            .field("superuser", &self.superuser)
            .finish_non_exhaustive()
    }
}

/// What a question for a user finds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Found {
    /// The question needs a value that the client does not have, such as a user name.
    NotAsked,
    /// There is no such user.
    Nobody,
    /// The first row.
    User(UserRow),
}

/// Where users are looked up.
pub trait UserRows: Send + Sync {
    /// Kind and place: `mysql 127.0.0.1:3306/mqtt`.
    fn name(&self) -> &str;
    /// Looks a client's user up. `Err` is the text for the log, without values.
    fn find<'a>(&'a self, client: &'a ClientInfo) -> BoxFuture<'a, Result<Found, String>>;
}

/// Authenticates users of a database.
pub struct RowsAuth<S> {
    rows: S,
    hashing: HashSettings,
    guard: Guard,
    pool: Arc<HashPool>,
    /// What users that do not exist are checked against: of the kind of the last one that did.
    stand_in: ArcSwap<PasswordHash>,
}

impl<S: UserRows> RowsAuth<S> {
    /// Users of these rows, whose passwords are kept this way; `limit` is the time for one question.
    pub fn new(rows: S, hashing: HashSettings, limit: Duration, pool: Arc<HashPool>) -> Self {
        Self {
            rows,
            hashing,
            guard: Guard::new(limit),
            pool,
            stand_in: ArcSwap::new(first_stand_in(&hashing)),
        }
    }

    async fn judge(&self, request: &AuthRequest) -> AuthAnswer {
        let found = self.guard.wait(self.rows.find(&request.client)).await;
        let row = match found {
            Err(error) => return AuthAnswer::Unavailable(error),
            Ok(Found::NotAsked) => return AuthAnswer::Ignore,
            Ok(Found::Nobody) => None,
            Ok(Found::User(row)) => Some(row),
        };
        let login = match row {
            None => None,
            Some(row) => {
                let Some(password) = &row.password else {
                    return AuthAnswer::Deny(ReasonCode::BadUserNameOrPassword);
                };
                match self.hashing.hash(password, &row.salt) {
                    Ok(hash) => Some(Login {
                        hash: Arc::new(hash),
                        superuser: row.superuser,
                    }),
                    Err(error) => return AuthAnswer::Unavailable(format!("a user's row: {error}")),
                }
            }
        };
        if let Some(login) = &login
            && !login.hash.is_cheap()
            && !login.hash.costs_like(&self.stand_in.load())
        {
            self.stand_in.store(Arc::new(login.hash.stand_in()));
        }
        let stand_in = self.stand_in.load_full();
        users::judge(&self.pool, login, stand_in, request).await
    }
}

/// Before any user is known: the usual cost of the configured kind.
fn first_stand_in(hashing: &HashSettings) -> Arc<PasswordHash> {
    let text = match hashing.kind {
        HashKind::Argon2 => return users::own_stand_in(),
        HashKind::Bcrypt => format!("$2b$10${}", ".".repeat(53)),
        HashKind::Plain => String::new(),
        HashKind::Md5 => "0".repeat(32),
        HashKind::Sha => "0".repeat(40),
        HashKind::Sha256 => "0".repeat(64),
        HashKind::Sha512 => "0".repeat(128),
        HashKind::Pbkdf2 => "00".repeat(usize::from(hashing.pbkdf2_length)),
    };
    match hashing.hash(&text, "") {
        Ok(hash) => Arc::new(hash.stand_in()),
        // Wrong settings for PBKDF2: every row fails with the same error, and no time tells anything.
        Err(_) => users::own_stand_in(),
    }
}

impl<S: UserRows> Authenticator for RowsAuth<S> {
    fn name(&self) -> &str {
        self.rows.name()
    }

    fn authenticate<'a>(&'a self, request: &'a AuthRequest) -> BoxFuture<'a, AuthAnswer> {
        Box::pin(self.judge(request))
    }

    /// The question has a limit of its own, and the hashing of others must not count.
    fn time_limit(&self) -> Option<Duration> {
        None
    }
}

#[cfg(test)]
mod tests {
    use parking_lot::Mutex;

    use super::*;
    use crate::testing::request;

    struct Table(Mutex<Result<Found, String>>);

    impl UserRows for Table {
        fn name(&self) -> &str {
            "table"
        }

        fn find<'a>(&'a self, _: &'a ClientInfo) -> BoxFuture<'a, Result<Found, String>> {
            Box::pin(std::future::ready(self.0.lock().clone()))
        }
    }

    fn user(password: Option<&str>, superuser: bool) -> Result<Found, String> {
        Ok(Found::User(UserRow {
            password: password.map(str::to_owned),
            salt: String::new(),
            superuser,
        }))
    }

    #[tokio::test]
    async fn rows_become_answers() {
        let sha = "efa1f375d76194fa51a3556a97e641e61685f914d446979da50a551a4333ffd7";
        let pool = Arc::new(HashPool::new(1, 8, Duration::ZERO));
        let table = Table(Mutex::new(Ok(Found::Nobody)));
        let limit = Duration::from_secs(5);
        let auth = RowsAuth::new(table, HashSettings::default(), limit, pool);
        let table = [
            (user(Some(sha), false), "public", "allow false"),
            (user(Some(sha), true), "public", "allow true"),
            (user(Some(sha), true), "private", "deny"),
            (user(Some(sha), true), sha, "deny"),
            (user(None, true), "", "deny"),
            (user(Some(""), true), "", "unavailable"),
            (Ok(Found::Nobody), "public", "ignore"),
            (Ok(Found::NotAsked), "public", "ignore"),
            (Err("down".to_owned()), "public", "unavailable"),
        ];
        for (found, password, expected) in table {
            *auth.rows.0.lock() = found.clone();
            let got = match auth
                .authenticate(&request(Some("ann"), Some(password)))
                .await
            {
                AuthAnswer::Allow(grant) => format!("allow {}", grant.superuser),
                AuthAnswer::Deny(_) => "deny".to_owned(),
                AuthAnswer::Ignore => "ignore".to_owned(),
                AuthAnswer::Unavailable(_) => "unavailable".to_owned(),
            };
            assert_eq!(got, expected, "{found:?} {password}");
        }
    }

    #[tokio::test]
    async fn an_unknown_user_costs_what_the_tables_own_do() {
        let pool = Arc::new(HashPool::new(1, 8, Duration::ZERO));
        let hash = "$2b$04$CfU/UGA0T9q6zIZblYj24upoJoSHkXnXraW5wc0j3NZqZTfl2blNO";
        let hashing = HashSettings {
            kind: HashKind::Bcrypt,
            ..HashSettings::default()
        };
        let table = Table(Mutex::new(user(Some(hash), false)));
        let limit = Duration::from_secs(5);
        let auth = RowsAuth::new(table, hashing, limit, Arc::clone(&pool));
        let login = request(Some("ann"), Some("wrong"));
        assert!(matches!(
            auth.authenticate(&login).await,
            AuthAnswer::Deny(_)
        ));
        *auth.rows.0.lock() = Ok(Found::Nobody);
        assert!(matches!(
            auth.authenticate(&login).await,
            AuthAnswer::Ignore
        ));
        assert_eq!(pool.checked(), 2);
        assert!(auth.stand_in.load().text().starts_with("$2b$04$"));
    }
}
