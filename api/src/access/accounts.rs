//! Accounts and API keys, and the first admin's password. A node alone keeps them in `data_dir/api-accounts.json`, the
//! nodes of a cluster in their store; what a node had in its file before stays valid on that node.

use std::collections::BTreeMap;
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use nightjar_broker::Timestamp;
use nightjar_broker::meta::MetaStore;
use parking_lot::Mutex;
use serde::{Deserialize, Serialize};

use super::everywhere::{Values, commit};
use super::secret::{self, digest_of, same};
use super::{Principal, Role};

/// The account that is always there.
const ADMIN: &str = "admin";
/// Accounts and keys, each.
const MAX: usize = 1000;
/// The file of accounts.
const FILE: &str = "api-accounts.json";
/// The file that holds the first admin's password, alone.
const PASSWORD_FILE: &str = "admin-password";
/// Shortest password that may be set.
const MIN_PASSWORD: usize = 8;
/// Longest: hashing more gains nothing and costs time.
const MAX_PASSWORD: usize = 256;

/// Why accounts were not read or changed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum AccessError {
    /// The system has no random numbers.
    #[error("the system gave no random numbers")]
    Random,
    /// A file could not be read.
    #[error("{path}: {why}; mend or remove it")]
    Read {
        /// Which.
        path: String,
        /// Why.
        why: String,
    },
    /// A file could not be written.
    #[error("{path}: {why}")]
    Write {
        /// Which.
        path: String,
        /// Why.
        why: String,
    },
    /// The name is taken.
    #[error("{0} exists already")]
    Exists(String),
    /// There is none of this name.
    #[error("there is no {0}")]
    Unknown(String),
    /// The name is not fit.
    #[error("expected a name of 1 to 64 letters, digits, `-`, `_`, `.` or `@`")]
    Name,
    /// The password is not fit.
    #[error("expected a password of {MIN_PASSWORD} to {MAX_PASSWORD} bytes")]
    Password,
    /// Too many of them.
    #[error("expected at most {0}")]
    TooMany(usize),
    /// The admin account must stay.
    #[error("the account `admin` stays, and stays an admin")]
    LastAdmin,
    /// The cluster cannot be told.
    #[error("no majority of the cluster took the change in time; it may still come about")]
    NoMajority,
    /// The configuration says it.
    #[error("the password of `admin` is set by api.admin_password; change it there and reload")]
    Configured,
}

/// A person's account.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Account {
    /// Name.
    pub username: String,
    /// What it may do.
    pub role: Role,
    /// Free text.
    #[serde(default)]
    pub description: String,
    /// `argon2id$...`
    password_hash: String,
}

/// A key for programs.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct ApiKey {
    /// Name, for people.
    pub name: String,
    /// The user name of basic authentication.
    pub key: String,
    /// What it may do.
    pub role: Role,
    /// Free text.
    #[serde(default)]
    pub description: String,
    /// When it was made.
    pub created_at: Timestamp,
    /// When it ends.
    pub expires_at: Option<Timestamp>,
    /// SHA-256 of the secret.
    secret_digest: [u8; 32],
}

#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Stored {
    #[serde(default)]
    accounts: BTreeMap<String, Account>,
    #[serde(default)]
    api_keys: BTreeMap<String, ApiKey>,
}

/// All accounts and keys of a node.
#[derive(Debug)]
pub struct Accounts {
    dir: PathBuf,
    stored: Mutex<Stored>,
    /// Digest of the admin's password, as long as no hash of one is stored.
    first: Mutex<Option<[u8; 32]>>,
    /// Accounts of the cluster, by name.
    shared: Values,
    /// API keys of the cluster, by key.
    shared_keys: Values,
}

impl Accounts {
    /// Reads the accounts of a node; `shared` is where those of its cluster are. Where there is no admin yet, a password is made, written to `admin-password`
    /// (mode 0600) and returned, to be shown once.
    ///
    /// # Errors
    /// [`AccessError::Read`], [`AccessError::Write`], [`AccessError::Random`].
    pub fn open(
        dir: &Path,
        configured: bool,
        shared: Option<Arc<dyn MetaStore>>,
    ) -> Result<(Self, Option<String>), AccessError> {
        let shared_keys = Values::new(shared.clone(), "api/key/");
        let shared = Values::new(shared, "api/account/");
        let path = dir.join(FILE);
        let stored: Stored = match std::fs::read(&path) {
            Ok(bytes) => serde_json::from_slice(&bytes).map_err(|why| read_error(&path, &why))?,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Stored::default(),
            Err(error) => return Err(read_error(&path, &error)),
        };
        let mut made = None;
        let mut first = None;
        let known = stored.accounts.contains_key(ADMIN) || shared.get::<Account>(ADMIN).is_some();
        if !known {
            let path = dir.join(PASSWORD_FILE);
            first = match std::fs::read_to_string(&path) {
                Ok(text) if !text.trim().is_empty() => Some(text.trim().to_owned()),
                Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                    return Err(read_error(&path, &error));
                }
                _ if configured => None,
                _ => {
                    let password = secret::random_password()?;
                    write(&path, format!("{password}\n").as_bytes())?;
                    made = Some(password.clone());
                    Some(password)
                }
            };
        }
        let accounts = Self {
            dir: dir.to_owned(),
            stored: Mutex::new(stored),
            first: Mutex::new(first.as_deref().map(digest_of)),
            shared,
            shared_keys,
        };
        Ok((accounts, made))
    }

    /// Who has this name and password? Takes tens of milliseconds, for a name that does not exist too: call it off
    /// the workers.
    #[must_use]
    pub fn login(&self, name: &str, password: &str, configured: Option<&str>) -> Option<Principal> {
        let of_all = self.shared.get::<Account>(name);
        if name == ADMIN && of_all.is_some() {
            // It was set on another node.
            self.forget_first();
        }
        let found = of_all.or_else(|| self.stored.lock().accounts.get(name).cloned());
        let admin = || {
            Some(Principal {
                name: ADMIN.to_owned(),
                role: Role::Admin,
                is_key: false,
            })
        };
        if name == ADMIN
            && let Some(known) = configured.map(digest_of).or(*self.first.lock())
        {
            if same(&digest_of(password), &known) {
                return admin();
            }
            if configured.is_some() || found.is_none() {
                return None;
            }
        }
        match found {
            Some(account) if password.len() <= MAX_PASSWORD => {
                secret::check_password(password, &account.password_hash).then_some(Principal {
                    name: account.username,
                    role: account.role,
                    is_key: false,
                })
            }
            _ => {
                // As slow as for a name that exists.
                secret::check_password(password.get(..8).unwrap_or(""), STAND_IN);
                None
            }
        }
    }

    /// Whose key and secret are these?
    #[must_use]
    pub fn key(&self, key: &str, secret: &str, now: Timestamp) -> Option<Principal> {
        let digest = digest_of(secret);
        let own = || {
            let stored = self.stored.lock();
            stored.api_keys.values().find(|it| it.key == key).cloned()
        };
        self.shared_keys
            .get::<ApiKey>(key)
            .or_else(own)
            .filter(|known| same(&known.secret_digest, &digest))
            .filter(|known| known.expires_at.is_none_or(|at| at > now))
            .map(|known| Principal {
                name: known.name,
                role: known.role,
                is_key: true,
            })
    }

    /// The role an account has now; `None` if it is gone.
    #[must_use]
    pub fn role_of(&self, name: &str) -> Option<Role> {
        if name == ADMIN {
            return Some(Role::Admin);
        }
        self.account(name).map(|it| it.role)
    }

    /// All accounts, `admin` among them.
    #[must_use]
    pub fn list(&self) -> Vec<(String, Role, String)> {
        let mut accounts = self.stored.lock().accounts.clone();
        accounts.extend(self.shared.all::<Account>());
        let mut all: Vec<_> = accounts
            .values()
            .map(|it| (it.username.clone(), it.role, it.description.clone()))
            .collect();
        if !accounts.contains_key(ADMIN) {
            all.insert(0, (ADMIN.into(), Role::Admin, String::new()));
        }
        all
    }

    /// Adds an account. Hashes the password: call it off the workers.
    ///
    /// # Errors
    /// [`AccessError::Exists`], [`AccessError::Name`], [`AccessError::Password`], [`AccessError::TooMany`], or that
    /// it could not be written.
    pub fn add(
        &self,
        name: &str,
        password: &str,
        role: Role,
        description: &str,
    ) -> Result<(), AccessError> {
        check_name(name)?;
        check_length(password)?;
        let password_hash = secret::hash_password(password)?;
        if name == ADMIN || self.account(name).is_some() {
            return Err(AccessError::Exists(format!("the account {name}")));
        }
        if self.list().len() > MAX {
            return Err(AccessError::TooMany(MAX));
        }
        let account = Account {
            username: name.to_owned(),
            role,
            description: description.chars().take(256).collect(),
            password_hash,
        };
        self.put(account)
    }

    /// One account.
    fn account(&self, name: &str) -> Option<Account> {
        let own = || self.stored.lock().accounts.get(name).cloned();
        self.shared.get(name).or_else(own)
    }

    /// Keeps an account, where accounts are kept.
    fn put(&self, account: Account) -> Result<(), AccessError> {
        if self.shared.is_shared() {
            return commit(self.shared.set(&account.username, &account));
        }
        let mut stored = self.stored.lock();
        stored.accounts.insert(account.username.clone(), account);
        self.save(&stored)
    }

    /// The admin's first password is none any more.
    fn forget_first(&self) {
        if self.first.lock().take().is_some() {
            // It opens nothing: that it lies around is all there is to it.
            let _ = std::fs::remove_file(self.dir.join(PASSWORD_FILE));
        }
    }

    /// Changes role or description of an account. Call it off the workers, as all that changes something.
    ///
    /// # Errors
    /// [`AccessError::Unknown`], [`AccessError::LastAdmin`], or that it could not be written.
    pub fn change(
        &self,
        name: &str,
        role: Option<Role>,
        description: Option<&str>,
    ) -> Result<(), AccessError> {
        if name == ADMIN && role.is_some_and(|role| role != Role::Admin) {
            return Err(AccessError::LastAdmin);
        }
        let mut account = self
            .account(name)
            .ok_or_else(|| AccessError::Unknown(format!("account {name} that can be changed")))?;
        if let Some(role) = role {
            account.role = role;
        }
        if let Some(description) = description {
            account.description = description.chars().take(256).collect();
        }
        self.put(account)
    }

    /// Sets a password. Hashes it: call it off the workers.
    ///
    /// # Errors
    /// [`AccessError::Unknown`], [`AccessError::Password`], [`AccessError::Configured`], or that it could not be
    /// written.
    pub fn set_password(
        &self,
        name: &str,
        password: &str,
        configured: bool,
    ) -> Result<(), AccessError> {
        check_length(password)?;
        if name == ADMIN && configured {
            return Err(AccessError::Configured);
        }
        let password_hash = secret::hash_password(password)?;
        let account = match self.account(name) {
            Some(account) => Account {
                password_hash,
                ..account
            },
            None if name == ADMIN => Account {
                username: name.to_owned(),
                role: Role::Admin,
                description: String::new(),
                password_hash,
            },
            None => return Err(AccessError::Unknown(format!("account {name}"))),
        };
        self.put(account)?;
        if name == ADMIN {
            // The first password is no longer one, and should not lie around.
            *self.first.lock() = None;
            let path = self.dir.join(PASSWORD_FILE);
            match std::fs::remove_file(&path) {
                Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                    return Err(write_error(&path, &error));
                }
                _ => {}
            }
        }
        Ok(())
    }

    /// Removes an account.
    ///
    /// # Errors
    /// [`AccessError::Unknown`], [`AccessError::LastAdmin`], or that it could not be written.
    pub fn remove(&self, name: &str) -> Result<(), AccessError> {
        if name == ADMIN {
            return Err(AccessError::LastAdmin);
        }
        self.account(name)
            .ok_or_else(|| AccessError::Unknown(format!("account {name}")))?;
        let mut stored = self.stored.lock();
        if stored.accounts.remove(name).is_some() {
            self.save(&stored)?;
        }
        drop(stored);
        commit(self.shared.remove(name))
    }

    /// All API keys.
    #[must_use]
    pub fn keys(&self) -> Vec<ApiKey> {
        let mut keys = self.stored.lock().api_keys.clone();
        let shared = self.shared_keys.all::<ApiKey>().into_iter();
        keys.extend(shared.map(|(_, key)| (key.name.clone(), key)));
        keys.into_values().collect()
    }

    /// Makes a key; the secret is returned and never again.
    ///
    /// # Errors
    /// [`AccessError::Exists`], [`AccessError::Name`], [`AccessError::TooMany`], or that it could not be written.
    pub fn add_key(
        &self,
        name: &str,
        role: Role,
        description: &str,
        expires_at: Option<Timestamp>,
        now: Timestamp,
    ) -> Result<(ApiKey, String), AccessError> {
        check_name(name)?;
        let key: String = secret::random_token()?.chars().take(16).collect();
        let secret = secret::random_token()?;
        let known = self.keys();
        if known.iter().any(|it| it.name == name) {
            return Err(AccessError::Exists(format!("the API key {name}")));
        }
        if known.len() >= MAX {
            return Err(AccessError::TooMany(MAX));
        }
        let made = ApiKey {
            name: name.to_owned(),
            key,
            role,
            description: description.chars().take(256).collect(),
            created_at: now,
            expires_at,
            secret_digest: digest_of(&secret),
        };
        if self.shared_keys.is_shared() {
            commit(self.shared_keys.set(&made.key, &made))?;
            return Ok((made, secret));
        }
        let mut stored = self.stored.lock();
        stored.api_keys.insert(name.to_owned(), made.clone());
        self.save(&stored)?;
        Ok((made, secret))
    }

    /// Removes a key.
    ///
    /// # Errors
    /// [`AccessError::Unknown`], or that it could not be written.
    pub fn remove_key(&self, name: &str) -> Result<(), AccessError> {
        let found = self.keys().into_iter().find(|it| it.name == name);
        let key = found.ok_or_else(|| AccessError::Unknown(format!("API key {name}")))?;
        let mut stored = self.stored.lock();
        if stored.api_keys.remove(name).is_some() {
            self.save(&stored)?;
        }
        drop(stored);
        commit(self.shared_keys.remove(&key.key))
    }

    fn save(&self, stored: &Stored) -> Result<(), AccessError> {
        let path = self.dir.join(FILE);
        let bytes = serde_json::to_vec_pretty(stored).map_err(|why| write_error(&path, &why))?;
        write(&path, &bytes)
    }
}

/// A hash that no password has, for names that do not exist.
const STAND_IN: &str =
    "argon2id$AAAAAAAAAAAAAAAAAAAAAA$AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA";

fn check_name(name: &str) -> Result<(), AccessError> {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_.@".contains(c);
    if (1..=64).contains(&name.len()) && name.chars().all(plain) {
        Ok(())
    } else {
        Err(AccessError::Name)
    }
}

fn check_length(password: &str) -> Result<(), AccessError> {
    if (MIN_PASSWORD..=MAX_PASSWORD).contains(&password.len()) {
        Ok(())
    } else {
        Err(AccessError::Password)
    }
}

fn read_error(path: &Path, why: &dyn std::fmt::Display) -> AccessError {
    AccessError::Read {
        path: path.display().to_string(),
        why: why.to_string(),
    }
}

fn write_error(path: &Path, why: &dyn std::fmt::Display) -> AccessError {
    AccessError::Write {
        path: path.display().to_string(),
        why: why.to_string(),
    }
}

/// Writes a file that only its owner may read, whole or not at all.
fn write(path: &Path, bytes: &[u8]) -> Result<(), AccessError> {
    let fresh = path.with_extension("new");
    let fail = |error: std::io::Error| write_error(path, &error);
    // One that a kill left behind may have other rights.
    match std::fs::remove_file(&fresh) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(fail(error)),
        _ => {}
    }
    let mut file = std::fs::File::options()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(&fresh)
        .map_err(fail)?;
    file.write_all(bytes).map_err(fail)?;
    file.sync_all().map_err(fail)?;
    std::fs::rename(&fresh, path).map_err(fail)
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Dir(PathBuf);

    impl Dir {
        fn new(name: &str) -> Self {
            let path = std::env::temp_dir().join(format!("nj-api-{name}-{}", std::process::id()));
            let _ = std::fs::remove_dir_all(&path);
            std::fs::create_dir_all(&path).unwrap();
            Self(path)
        }
    }

    impl Drop for Dir {
        fn drop(&mut self) {
            let _ = std::fs::remove_dir_all(&self.0);
        }
    }

    #[test]
    fn the_first_password_is_made_once_kept_alone_and_gone_after_a_change() {
        use std::os::unix::fs::PermissionsExt;
        let dir = Dir::new("first");
        let (accounts, made) = Accounts::open(&dir.0, false, None).unwrap();
        let made = made.unwrap();
        let file = dir.0.join(PASSWORD_FILE);
        assert_eq!(std::fs::read_to_string(&file).unwrap(), format!("{made}\n"));
        let mode = std::fs::metadata(&file).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        assert_eq!(
            accounts.login("admin", &made, None).unwrap().role,
            Role::Admin
        );
        assert!(accounts.login("admin", "wrong", None).is_none());
        let (again, none) = Accounts::open(&dir.0, false, None).unwrap();
        assert!(none.is_none() && again.login("admin", &made, None).is_some());
        again.set_password("admin", "another one", false).unwrap();
        assert!(!file.exists());
        assert!(again.login("admin", &made, None).is_none());
        let (third, none) = Accounts::open(&dir.0, false, None).unwrap();
        assert!(none.is_none() && third.login("admin", "another one", None).is_some());
    }

    #[test]
    fn nodes_of_a_cluster_know_the_same_accounts_and_keys() {
        let meta: Arc<nightjar_broker::meta::MemoryMeta> = Arc::default();
        let dirs = [Dir::new("one"), Dir::new("two")];
        let open = |at: usize| {
            let meta: Arc<dyn MetaStore> = meta.clone();
            Accounts::open(&dirs[at].0, false, Some(meta)).unwrap()
        };
        let ((one, _), (two, made)) = (open(0), open(1));
        one.add("eve", "password1", Role::Viewer, "").unwrap();
        assert!(two.login("eve", "password1", None).is_some());
        two.change("eve", Some(Role::Operator), Some("on call"))
            .unwrap();
        assert_eq!(one.role_of("eve"), Some(Role::Operator));
        assert!(one.list().iter().any(|(_, _, text)| text == "on call"));
        let now = Timestamp(1000);
        let (key, secret) = one.add_key("ci", Role::Viewer, "", None, now).unwrap();
        assert!(two.key(&key.key, &secret, now).is_some());
        assert!(matches!(
            two.add_key("ci", Role::Viewer, "", None, now),
            Err(AccessError::Exists(_))
        ));
        two.remove_key("ci").unwrap();
        assert!(one.key(&key.key, &secret, now).is_none());
        // Each node has a first password of its own, until one is set for all.
        let made = made.unwrap();
        assert!(two.login(ADMIN, &made, None).is_some());
        assert!(one.login(ADMIN, &made, None).is_none());
        one.set_password(ADMIN, "for all of us", false).unwrap();
        assert!(two.login(ADMIN, "for all of us", None).is_some());
        assert!(two.login(ADMIN, &made, None).is_none());
        assert!(!dirs[1].0.join(PASSWORD_FILE).exists());
        two.remove("eve").unwrap();
        assert!(one.login("eve", "password1", None).is_none());
        // Nothing of it stands in a file.
        assert!(!dirs[0].0.join(FILE).exists());
    }

    #[test]
    fn a_configured_password_wins_and_cannot_be_changed_here() {
        let dir = Dir::new("configured");
        let (accounts, made) = Accounts::open(&dir.0, true, None).unwrap();
        assert!(made.is_none() && !dir.0.join(PASSWORD_FILE).exists());
        assert!(
            accounts
                .login("admin", "from config", Some("from config"))
                .is_some()
        );
        assert!(accounts.login("admin", "", Some("from config")).is_none());
        assert!(accounts.login("admin", "", None).is_none());
        let refused = accounts.set_password("admin", "long enough", true);
        assert!(matches!(refused, Err(AccessError::Configured)));
    }

    #[test]
    fn accounts_and_keys_survive_and_keep_no_secret() {
        let dir = Dir::new("kept");
        let (accounts, _) = Accounts::open(&dir.0, false, None).unwrap();
        accounts.add("eve", "password1", Role::Viewer, "").unwrap();
        let again = accounts.add("eve", "password2", Role::Admin, "");
        assert!(matches!(again, Err(AccessError::Exists(_))));
        assert!(matches!(
            accounts.add("a/b", "password1", Role::Viewer, ""),
            Err(AccessError::Name)
        ));
        assert!(matches!(
            accounts.add("ok", "short", Role::Viewer, ""),
            Err(AccessError::Password)
        ));
        let now = Timestamp(1000);
        let (key, secret) = accounts
            .add_key("ci", Role::Operator, "", Some(Timestamp(2000)), now)
            .unwrap();
        let text = std::fs::read_to_string(dir.0.join(FILE)).unwrap();
        assert!(!text.contains("password1") && !text.contains(&secret));
        let (accounts, _) = Accounts::open(&dir.0, false, None).unwrap();
        assert_eq!(
            accounts.login("eve", "password1", None).unwrap().role,
            Role::Viewer
        );
        assert!(accounts.key(&key.key, &secret, now).is_some());
        assert!(accounts.key(&key.key, &secret, Timestamp(2000)).is_none());
        assert!(accounts.key(&key.key, "x", now).is_none());
        accounts.remove("eve").unwrap();
        assert!(matches!(
            accounts.remove("admin"),
            Err(AccessError::LastAdmin)
        ));
        assert!(accounts.login("eve", "password1", None).is_none());
    }
}
