//! `kind = "builtin"`: users that Nightjar keeps itself, by user name or client identifier.

use std::sync::Arc;

use nightjar_broker::access::{AuthAnswer, AuthRequest, Authenticator, BoxFuture};
use nightjar_broker::auth::{ScramKeys, StoreError, User, UserKind, UserStore};

use crate::ConnectorError;
use crate::password::{HashPool, PasswordHash, hash_password};
use crate::scram::{self, KeySource};
use crate::users::{self, Login};

/// Authenticates the users of a [`UserStore`].
pub struct Builtin {
    store: Arc<dyn UserStore>,
    kind: UserKind,
    pool: Arc<HashPool>,
}

impl Builtin {
    /// The users of one kind in a store.
    pub fn new(store: Arc<dyn UserStore>, kind: UserKind, pool: Arc<HashPool>) -> Self {
        Self { store, kind, pool }
    }
}

impl Authenticator for Builtin {
    fn name(&self) -> &str {
        match self.kind {
            UserKind::Username => "builtin by username",
            UserKind::ClientId => "builtin by clientid",
        }
    }

    fn authenticate<'a>(&'a self, request: &'a AuthRequest) -> BoxFuture<'a, AuthAnswer> {
        let Some(name) = users::name(self.kind, &request.client) else {
            return Box::pin(std::future::ready(AuthAnswer::Ignore));
        };
        let login = match self.store.find(self.kind, name) {
            None => None,
            Some(user) => match PasswordHash::parse(&user.password_hash) {
                Ok(hash) => Some(Login {
                    hash: Arc::new(hash),
                    superuser: user.superuser,
                }),
                Err(error) => {
                    let answer = AuthAnswer::Unavailable(format!("a stored user: {error}"));
                    return Box::pin(std::future::ready(answer));
                }
            },
        };
        Box::pin(users::judge(
            &self.pool,
            login,
            users::own_stand_in(),
            request,
        ))
    }

    /// Nothing to wait for but the hashing of others, which is bounded.
    fn time_limit(&self) -> Option<std::time::Duration> {
        None
    }
}

/// Builtin users as a source of SCRAM keys.
pub struct BuiltinKeys(pub Arc<dyn UserStore>);

impl KeySource for BuiltinKeys {
    fn scram_keys(&self, username: &str) -> Option<(ScramKeys, bool)> {
        let user = self.0.find(UserKind::Username, username)?;
        Some((user.scram.clone()?, user.superuser))
    }
}

/// Makes a user of a new password: an Argon2id hash, and SCRAM keys where the name is a user name. Takes tens of
/// milliseconds of a core: call it off the workers.
///
/// # Errors
/// [`ConnectorError::Setting`] if the name is empty or too long, the iterations are less than 4096, or the system has no random numbers.
pub fn new_user(
    kind: UserKind,
    name: &str,
    password: &[u8],
    superuser: bool,
    scram_iterations: u32,
) -> Result<User, ConnectorError> {
    let setting = |key, problem| ConnectorError::Setting { key, problem };
    if name.is_empty() || name.len() > usize::from(u16::MAX) {
        let error = StoreError::Name(name.len());
        return Err(setting("username", error.to_string()));
    }
    let hash = hash_password(password).map_err(|error| setting("password", error.to_string()))?;
    let scram = match kind {
        UserKind::Username => Some(scram::new_keys(password, scram_iterations)?),
        UserKind::ClientId => None,
    };
    Ok(User {
        kind,
        name: name.to_owned(),
        password_hash: hash.text().to_owned(),
        superuser,
        scram,
    })
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use parking_lot::Mutex;

    use super::*;
    use crate::testing::request;

    #[derive(Default)]
    struct Memory(Mutex<BTreeMap<(UserKind, String), Arc<User>>>);

    impl UserStore for Memory {
        fn find(&self, kind: UserKind, name: &str) -> Option<Arc<User>> {
            self.0.lock().get(&(kind, name.to_owned())).cloned()
        }

        fn list(&self, kind: UserKind, after: Option<&str>, limit: usize) -> Vec<Arc<User>> {
            let users = self.0.lock();
            let behind = |user: &&Arc<User>| user.kind == kind && Some(&*user.name) > after;
            users.values().filter(behind).take(limit).cloned().collect()
        }

        fn put(&self, user: User) -> BoxFuture<'_, Result<(), StoreError>> {
            let key = (user.kind, user.name.clone());
            self.0.lock().insert(key, Arc::new(user));
            Box::pin(std::future::ready(Ok(())))
        }

        fn remove<'a>(
            &'a self,
            kind: UserKind,
            name: &'a str,
        ) -> BoxFuture<'a, Result<bool, StoreError>> {
            let removed = self.0.lock().remove(&(kind, name.to_owned())).is_some();
            Box::pin(std::future::ready(Ok(removed)))
        }
    }

    #[tokio::test]
    async fn users_by_name_and_by_client_id_get_in_with_their_password() {
        let store = Arc::new(Memory::default());
        let by_name = new_user(UserKind::Username, "ann", b"secret", true, 4096).expect("made");
        assert!(!format!("{by_name:?}").contains("argon2"));
        store.put(by_name).await.expect("kept");
        // The client of `request` is dev1.
        let by_id = new_user(UserKind::ClientId, "dev1", b"device", false, 4096).expect("made");
        store.put(by_id).await.expect("kept");
        let pool = Arc::new(HashPool::new(1, 8, std::time::Duration::ZERO));
        let names = Builtin::new(store.clone(), UserKind::Username, Arc::clone(&pool));
        let ids = Builtin::new(store.clone(), UserKind::ClientId, pool);
        let ask = async |who: &Builtin, user, password| match who
            .authenticate(&request(user, password))
            .await
        {
            AuthAnswer::Allow(grant) => Some(Ok(grant.superuser)),
            AuthAnswer::Deny(code) => Some(Err(code)),
            AuthAnswer::Ignore => None,
            AuthAnswer::Unavailable(error) => panic!("{error}"),
        };
        let bad = Some(Err(nightjar_mqtt::ReasonCode::BadUserNameOrPassword));
        assert_eq!(
            ask(&names, Some("ann"), Some("secret")).await,
            Some(Ok(true))
        );
        assert_eq!(ask(&names, Some("ann"), Some("device")).await, bad);
        assert_eq!(ask(&names, Some("bob"), Some("secret")).await, None);
        assert_eq!(ask(&names, None, Some("secret")).await, None);
        assert_eq!(
            ask(&ids, Some("bob"), Some("device")).await,
            Some(Ok(false))
        );
        assert_eq!(ask(&ids, None, Some("secret")).await, bad);
        let keys = BuiltinKeys(store.clone());
        assert!(
            keys.scram_keys("ann")
                .is_some_and(|(_, superuser)| superuser)
        );
        assert!(keys.scram_keys("dev1").is_none());
        assert_eq!(store.remove(UserKind::Username, "ann").await, Ok(true));
        assert_eq!(ask(&names, Some("ann"), Some("secret")).await, None);
        assert!(new_user(UserKind::Username, "", b"x", false, 4096).is_err());
    }
}
