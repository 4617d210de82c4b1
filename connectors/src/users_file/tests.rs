//! Users of a file: who gets in, what it costs, and what a mistake does.

use nightjar_mqtt::ReasonCode;

use super::*;
use crate::testing::request;

const MINUTES: std::time::Duration = std::time::Duration::from_secs(600);

/// A file of its own for each test.
struct Folder(PathBuf);

impl Folder {
    fn new(test: &str) -> Self {
        let name = format!("nightjar-users-{test}-{}", std::process::id());
        let path = std::env::temp_dir().join(name);
        std::fs::create_dir_all(&path).expect("a directory");
        Self(path)
    }

    fn write(&self, text: &str) -> PathBuf {
        let path = self.0.join("users");
        std::fs::write(&path, text).expect("written");
        path
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

fn hash(password: &str) -> String {
    // Cheap, so that tests are quick: 4 KiB, 1 pass.
    use argon2::{Algorithm, Argon2, Params, Version};
    let params = Params::new(32, 1, 1, Some(32)).expect("valid");
    let mut out = [0; 32];
    Argon2::new(Algorithm::Argon2id, Version::V0x13, params)
        .hash_password_into(password.as_bytes(), b"saltsaltsaltsalt", &mut out)
        .expect("hashed");
    let text = crate::encoding::base64_unpadded;
    format!(
        "$argon2id$v=19$m=32,t=1,p=1${}${}",
        text(b"saltsaltsaltsalt"),
        text(&out)
    )
}

/// `Ok(superuser)`, ignored as `Err(None)`, denied as `Err(code)`.
async fn login(
    users: &UsersFile,
    name: Option<&str>,
    password: Option<&str>,
) -> Result<bool, Option<ReasonCode>> {
    match users.authenticate(&request(name, password)).await {
        AuthAnswer::Allow(grant) => Ok(grant.superuser),
        AuthAnswer::Deny(code) => Err(Some(code)),
        AuthAnswer::Ignore => Err(None),
        AuthAnswer::Unavailable(error) => panic!("{error}"),
    }
}

const BAD: Result<bool, Option<ReasonCode>> = Err(Some(ReasonCode::BadUserNameOrPassword));
const IGNORED: Result<bool, Option<ReasonCode>> = Err(None);

#[tokio::test]
async fn right_passwords_get_in_and_others_do_not() {
    let folder = Folder::new("login");
    let scram = crate::scram::new_keys(b"scram-pw", 4096).expect("keys");
    let text = format!(
        "# users\n\nann:{}\r\nroot:{}:superuser\nbox:{}\n",
        hash("secret"),
        hash("toor"),
        crate::scram::keys_text(&scram)
    );
    let pool = Arc::new(HashPool::new(1, 64, MINUTES));
    let users =
        UsersFile::load(folder.write(&text), UserKind::Username, Arc::clone(&pool)).expect("valid");
    assert_eq!(users.len(), 3);
    let table = [
        (Some("ann"), Some("secret"), Ok(false)),
        (Some("ann"), Some("secret "), BAD),
        (Some("ann"), Some(""), BAD),
        (Some("ann"), None, BAD),
        (Some("root"), Some("toor"), Ok(true)),
        (Some("root"), Some("secret"), BAD),
        (Some("box"), Some("scram-pw"), Ok(false)),
        (Some("box"), Some("pw"), BAD),
        (Some("Ann"), Some("secret"), IGNORED),
        (Some("nobody"), Some("secret"), IGNORED),
        (Some(""), Some("secret"), IGNORED),
        (Some("# users"), Some(""), IGNORED),
        (None, Some("secret"), IGNORED),
    ];
    for (name, password, expected) in table {
        assert_eq!(
            login(&users, name, password).await,
            expected,
            "{name:?} {password:?}"
        );
    }
    assert_eq!(users.scram_keys("box"), Some((scram, false)));
    assert_eq!(users.scram_keys("ann"), None);
}

#[tokio::test]
async fn an_unknown_user_costs_what_a_wrong_password_costs() {
    let folder = Folder::new("cost");
    let pool = Arc::new(HashPool::new(1, 64, MINUTES));
    let path = folder.write(&format!("ann:{}\n", hash("secret")));
    let users = UsersFile::load(path, UserKind::Username, Arc::clone(&pool)).expect("valid");
    for (i, name) in ["ann", "nobody", "ann", "nobody"].into_iter().enumerate() {
        let _ = login(&users, Some(name), Some("wrong")).await;
        assert_eq!(pool.checked(), i as u64 + 1, "{name}");
    }
    // The hash unknown users are checked against has the parameters of the file's own.
    let stand_in = &users.users.load().stand_in;
    assert_eq!(format!("{stand_in:?}"), "PasswordHash(argon2)");
    assert_ne!(stand_in.text(), hash("secret"));
}

#[tokio::test]
async fn a_full_queue_is_unavailable_for_known_and_unknown_alike() {
    let folder = Folder::new("full");
    let path = folder.write(&format!("ann:{}\n", hash("secret")));
    let users = UsersFile::load(
        path,
        UserKind::Username,
        Arc::new(HashPool::new(1, 0, MINUTES)),
    )
    .expect("valid");
    for name in ["ann", "nobody"] {
        let answer = users
            .authenticate(&request(Some(name), Some("secret")))
            .await;
        assert!(
            matches!(answer, AuthAnswer::Unavailable(_)),
            "{name} {answer:?}"
        );
    }
}

#[tokio::test]
async fn a_mistake_names_its_line_and_leaves_the_old_users() {
    let folder = Folder::new("reload");
    let path = folder.write(&format!("ann:{}\n", hash("secret")));
    let users = UsersFile::load(
        &path,
        UserKind::Username,
        Arc::new(HashPool::new(1, 64, MINUTES)),
    )
    .expect("valid");
    let good = hash("x");
    let table = [
        (
            "ann:plain-password\n".to_owned(),
            ":1: expected a password hash",
        ),
        (format!("a:{good}\n\nb\n"), ":3: expected name:hash"),
        (format!("a:{good}\n:{good}\n"), ":2: expected name:hash"),
        (
            format!("a:{good}\na:{good}\n"),
            ":2: expected each user once, got \"a\" again",
        ),
    ];
    for (text, expected) in table {
        folder.write(&text);
        let error = Authenticator::reload(&users).expect_err(expected);
        assert!(error.contains(expected), "{error}");
        assert!(
            !error.contains("plain-password") && !error.contains(&good),
            "{error}"
        );
        assert_eq!(login(&users, Some("ann"), Some("secret")).await, Ok(false));
    }
    folder.write(&format!("bob:{good}\n"));
    Authenticator::reload(&users).expect("valid");
    assert_eq!(login(&users, Some("ann"), Some("secret")).await, IGNORED);
    assert_eq!(login(&users, Some("bob"), Some("x")).await, Ok(false));
    assert!(
        UsersFile::load(
            folder.0.join("none"),
            UserKind::Username,
            Arc::new(HashPool::new(1, 1, MINUTES))
        )
        .is_err()
    );
}

/// 10,000 wrong passwords at once: none gets in, the queue holds, and the right one gets in afterwards.
#[tokio::test]
async fn a_storm_of_wrong_passwords_is_bounded_and_lets_nobody_in() {
    let folder = Folder::new("storm");
    let pool = Arc::new(HashPool::new(1, 100, MINUTES));
    let path = folder.write(&format!("ann:{}\n", hash("secret")));
    let users =
        Arc::new(UsersFile::load(path, UserKind::Username, Arc::clone(&pool)).expect("valid"));
    let mut tasks = tokio::task::JoinSet::new();
    for i in 0..10_000 {
        let users = Arc::clone(&users);
        tasks.spawn(async move {
            let password = format!("guess-{i}");
            users
                .authenticate(&request(Some("ann"), Some(&password)))
                .await
        });
    }
    let (mut denied, mut unavailable) = (0, 0);
    while let Some(answer) = tasks.join_next().await {
        assert!(pool.waiting() <= 100);
        match answer.expect("no panic") {
            AuthAnswer::Deny(_) => denied += 1,
            AuthAnswer::Unavailable(_) => unavailable += 1,
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(denied + unavailable, 10_000);
    assert!(unavailable > 0 && denied >= 100, "{denied} {unavailable}");
    assert_eq!(login(&users, Some("ann"), Some("secret")).await, Ok(false));
}
