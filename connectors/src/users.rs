//! What the kinds that keep users themselves share: judging a login in a way that does not tell who exists.

use std::sync::{Arc, LazyLock};

use nightjar_broker::access::{AuthAnswer, AuthRequest, Grant};
#[cfg(any(feature = "file", feature = "builtin"))]
use nightjar_broker::{access::ClientInfo, auth::UserKind};
use nightjar_mqtt::ReasonCode;

use crate::password::{HashPool, PasswordHash};

/// A user that is known.
#[derive(Clone)]
pub(crate) struct Login {
    pub hash: Arc<PasswordHash>,
    pub superuser: bool,
}

/// What a client is known by; `None` if it has no user name.
#[cfg(any(feature = "file", feature = "builtin"))]
pub(crate) fn name(kind: UserKind, client: &ClientInfo) -> Option<&str> {
    match kind {
        UserKind::Username => client.username.as_deref(),
        UserKind::ClientId => Some(&client.client_id),
    }
}

/// Checks the password of a CONNECT; one without a password has the empty one. A user that is not known is checked
/// against `stand_in` and ignored.
pub(crate) async fn judge(
    pool: &HashPool,
    login: Option<Login>,
    stand_in: Arc<PasswordHash>,
    request: &AuthRequest,
) -> AuthAnswer {
    let password = request.password.as_ref().map_or(&[][..], |p| &p.0);
    let hash = login.as_ref().map_or(&stand_in, |login| &login.hash);
    match (pool.verify(hash, password).await, login) {
        (Err(error), _) => AuthAnswer::Unavailable(error.to_string()),
        (Ok(_), None) => AuthAnswer::Ignore,
        (Ok(false), Some(_)) => AuthAnswer::Deny(ReasonCode::BadUserNameOrPassword),
        (Ok(true), Some(login)) => AuthAnswer::Allow(Grant {
            superuser: login.superuser,
            ..Grant::default()
        }),
    }
}

/// The stand-in where there is no user to take the cost from: that of new hashes.
pub(crate) fn own_stand_in() -> Arc<PasswordHash> {
    static OWN: LazyLock<Arc<PasswordHash>> = LazyLock::new(|| {
        let salt_and_hash = format!("{}${}", "A".repeat(22), "A".repeat(43));
        let text = format!("$argon2id$v=19$m=19456,t=2,p=1${salt_and_hash}");
        Arc::new(PasswordHash::parse(&text).expect("the form of hash_password"))
    });
    Arc::clone(&OWN)
}
