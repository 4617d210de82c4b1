//! The text forms of password hashes.

use std::fmt;
use std::num::NonZeroU32;

use argon2::{Algorithm, Argon2, Params, Version};
use ring::rand::{SecureRandom, SystemRandom};
use ring::{digest, pbkdf2};
use subtle::ConstantTimeEq;

use crate::encoding::{base64_bytes, base64_unpadded};
use crate::scram;

/// Bounds on what a hash may ask for, so that a row of a table cannot stop the node: 1 GiB, and some seconds.
const MAX_ARGON2_KIB: u32 = 1 << 20;
const MAX_ARGON2_PASSES: u32 = 64;
const MAX_ARGON2_LANES: u32 = 64;
const MAX_BCRYPT_COST: u32 = 16;
const MAX_ITERATIONS: u32 = 10_000_000;

/// What Nightjar makes: 19 MiB, 2 passes, 1 lane (OWASP's first choice), 16 bytes of salt, 32 of hash.
const OWN_KIB: u32 = 19_456;
const OWN_PASSES: u32 = 2;

/// Why a text is not a password hash.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum HashError {
    /// No form that is known. The text is not repeated: it may be a password.
    #[error(
        "expected a password hash: $argon2id$, $2b$ (bcrypt), $pbkdf2-sha256$, $pbkdf2-sha512$, $6$ or $7$ \
         (mosquitto_passwd) or SCRAM-SHA-256$"
    )]
    Form,
    /// A known form with a wrong part.
    #[error("expected {0} in the password hash")]
    Part(&'static str),
    /// The hash asks for more than is allowed.
    #[error("expected {name} of at most {limit} in the password hash, got {got}")]
    Cost {
        /// What there is too much of.
        name: &'static str,
        /// The bound.
        limit: u32,
        /// What was asked for.
        got: u32,
    },
    /// The system has no random numbers.
    #[error("the system gave no random numbers")]
    Random,
}

/// A stored password hash, ready to be checked against. Its `Debug` shows the form only.
#[derive(Clone, PartialEq, Eq)]
pub struct PasswordHash {
    text: Box<str>,
    form: Form,
}

#[derive(Clone, PartialEq, Eq)]
enum Form {
    Argon2 {
        algorithm: Algorithm,
        version: Version,
        kib: u32,
        passes: u32,
        lanes: u32,
        salt: Vec<u8>,
        hash: Vec<u8>,
    },
    Bcrypt {
        /// Up to and with the cost: `$2b$12$`.
        head: Box<str>,
    },
    Pbkdf2 {
        prf: Prf,
        iterations: NonZeroU32,
        salt: Vec<u8>,
        hash: Vec<u8>,
    },
    /// `$6$` of mosquitto_passwd: SHA-512 of password and salt, once.
    SaltedSha512 {
        salt: Vec<u8>,
        hash: Vec<u8>,
    },
    Scram(nightjar_broker::auth::ScramKeys),
    /// A column of a table.
    #[cfg(feature = "rows")]
    Column(super::Column),
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Prf {
    Sha1,
    Sha256,
    Sha512,
}

impl Prf {
    fn algorithm(self) -> pbkdf2::Algorithm {
        match self {
            Self::Sha1 => pbkdf2::PBKDF2_HMAC_SHA1,
            Self::Sha256 => pbkdf2::PBKDF2_HMAC_SHA256,
            Self::Sha512 => pbkdf2::PBKDF2_HMAC_SHA512,
        }
    }
}

impl PasswordHash {
    /// Reads the text form of a hash.
    ///
    /// # Errors
    /// [`HashError`] if it is none, is damaged, or asks for too much memory or time.
    pub fn parse(text: &str) -> Result<Self, HashError> {
        let form = if let Some(keys) = text.strip_prefix("SCRAM-SHA-256$") {
            Form::Scram(scram::parse_keys(keys).ok_or(HashError::Part(
                "SCRAM-SHA-256$<iterations>:<salt>$<stored key>:<server key> with at least 4096 iterations",
            ))?)
        } else {
            let mut parts = text.strip_prefix('$').ok_or(HashError::Form)?.split('$');
            let name = parts.next().unwrap_or("");
            let parts: Vec<&str> = parts.collect();
            match name {
                "argon2id" | "argon2i" | "argon2d" => argon2_form(name, &parts)?,
                "2a" | "2b" | "2x" | "2y" => bcrypt_form(name, text, &parts)?,
                "pbkdf2" | "pbkdf2-sha1" => pbkdf2_form(Prf::Sha1, &parts)?,
                "pbkdf2-sha256" => pbkdf2_form(Prf::Sha256, &parts)?,
                "pbkdf2-sha512" | "7" => pbkdf2_form(Prf::Sha512, &parts)?,
                "6" => match parts.as_slice() {
                    [salt, hash] => Form::SaltedSha512 {
                        salt: bytes(salt)?,
                        hash: bytes(hash)?,
                    },
                    _ => return Err(HashError::Part("$6$<salt>$<hash>")),
                },
                _ => return Err(HashError::Form),
            }
        };
        Ok(Self {
            text: text.into(),
            form,
        })
    }

    /// A hash that a table keeps in columns of its own.
    #[cfg(feature = "rows")]
    pub(super) fn column(text: String, column: super::Column) -> Self {
        Self {
            text: text.into(),
            form: Form::Column(column),
        }
    }

    /// One of PBKDF2 that a table keeps in columns of its own.
    #[cfg(feature = "rows")]
    pub(super) fn pbkdf2_column(
        prf: &super::Pbkdf2Prf,
        iterations: u32,
        salt: &[u8],
        hash: Vec<u8>,
    ) -> Result<Self, HashError> {
        let (prf, name) = match prf {
            super::Pbkdf2Prf::Sha1 => (Prf::Sha1, "pbkdf2-sha1"),
            super::Pbkdf2Prf::Sha256 => (Prf::Sha256, "pbkdf2-sha256"),
            super::Pbkdf2Prf::Sha512 => (Prf::Sha512, "pbkdf2-sha512"),
        };
        bounded("PBKDF2 iterations", iterations, MAX_ITERATIONS)?;
        let (shown, hashed) = (base64_unpadded(salt), base64_unpadded(&hash));
        Ok(Self {
            text: format!("${name}${iterations}${shown}${hashed}").into(),
            form: Form::Pbkdf2 {
                prf,
                iterations: NonZeroU32::new(iterations)
                    .ok_or(HashError::Part("a number of PBKDF2 iterations"))?,
                salt: salt.to_vec(),
                hash,
            },
        })
    }

    /// True if checking takes no longer than comparing: not worth a thread.
    pub(crate) fn is_cheap(&self) -> bool {
        match &self.form {
            Form::SaltedSha512 { .. } => true,
            #[cfg(feature = "rows")]
            Form::Column(_) => true,
            _ => false,
        }
    }

    /// True if checking the other costs the same.
    #[cfg(feature = "rows")]
    pub(crate) fn costs_like(&self, other: &Self) -> bool {
        match (&self.form, &other.form) {
            (Form::Bcrypt { head: a }, Form::Bcrypt { head: b }) => a == b,
            (
                Form::Argon2 {
                    kib: a,
                    passes: b,
                    lanes: c,
                    ..
                },
                Form::Argon2 {
                    kib: x,
                    passes: y,
                    lanes: z,
                    ..
                },
            ) => (a, b, c) == (x, y, z),
            (Form::Pbkdf2 { iterations: a, .. }, Form::Pbkdf2 { iterations: b, .. }) => a == b,
            _ => false,
        }
    }

    /// The text form.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// The keys, if this is a SCRAM-SHA-256 entry.
    pub fn scram_keys(&self) -> Option<&nightjar_broker::auth::ScramKeys> {
        match &self.form {
            Form::Scram(keys) => Some(keys),
            _ => None,
        }
    }

    /// Checks a password. Slow on purpose: call it by [`super::HashPool`].
    pub fn verify(&self, password: &[u8]) -> bool {
        match &self.form {
            Form::Argon2 {
                algorithm,
                version,
                kib,
                passes,
                lanes,
                salt,
                hash,
            } => {
                let Ok(params) = Params::new(*kib, *passes, *lanes, Some(hash.len())) else {
                    return false;
                };
                let mut out = vec![0; hash.len()];
                Argon2::new(*algorithm, *version, params)
                    .hash_password_into(password, salt, &mut out)
                    .is_ok()
                    && bool::from(out.ct_eq(hash))
            }
            Form::Bcrypt { .. } => bcrypt::verify(password, &self.text).unwrap_or(false),
            Form::Pbkdf2 {
                prf,
                iterations,
                salt,
                hash,
            } => pbkdf2::verify(prf.algorithm(), *iterations, salt, password, hash).is_ok(),
            Form::SaltedSha512 { salt, hash } => {
                let mut context = digest::Context::new(&digest::SHA512);
                context.update(password);
                context.update(salt);
                context.finish().as_ref().ct_eq(hash).into()
            }
            Form::Scram(keys) => {
                let own = scram::derive(password, &keys.salt, keys.iterations);
                own.is_some_and(|own| own.stored_key.ct_eq(&keys.stored_key).into())
            }
            #[cfg(feature = "rows")]
            Form::Column(column) => column.verify(password),
        }
    }

    /// A hash that costs the same to check and that no password fits: what an unknown user is checked against, so that
    /// time does not tell who exists.
    pub fn stand_in(&self) -> Self {
        let mut form = self.form.clone();
        match &mut form {
            Form::Argon2 { hash, .. }
            | Form::Pbkdf2 { hash, .. }
            | Form::SaltedSha512 { hash, .. } => hash.fill(0),
            Form::Scram(keys) => {
                keys.stored_key = [0; 32];
                keys.server_key = [0; 32];
            }
            #[cfg(feature = "rows")]
            Form::Column(column) => column.blank(),
            Form::Bcrypt { head } => {
                // 22 characters of salt and 31 of a hash of zeros, which bcrypt writes as dots.
                return Self {
                    text: format!("{head}{}", ".".repeat(53)).into(),
                    form,
                };
            }
        }
        Self {
            text: "stand-in".into(),
            form,
        }
    }
}

impl fmt::Debug for PasswordHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self.form {
            Form::Argon2 { .. } => "PasswordHash(argon2)",
            Form::Bcrypt { .. } => "PasswordHash(bcrypt)",
            Form::Pbkdf2 { .. } => "PasswordHash(pbkdf2)",
            Form::SaltedSha512 { .. } => "PasswordHash(salted SHA-512)",
            Form::Scram(_) => "PasswordHash(SCRAM-SHA-256)",
            #[cfg(feature = "rows")]
            Form::Column(_) => "PasswordHash(column)",
        })
    }
}

/// Makes the hash of a new password: Argon2id with 19 MiB, 2 passes, 1 lane. Slow on purpose.
///
/// # Errors
/// [`HashError::Random`] if the system has no random numbers.
pub fn hash_password(password: &[u8]) -> Result<PasswordHash, HashError> {
    let mut salt = [0; 16];
    let random = SystemRandom::new();
    random.fill(&mut salt).map_err(|_| HashError::Random)?;
    let params = Params::new(OWN_KIB, OWN_PASSES, 1, Some(32)).expect("within Argon2's bounds");
    let mut hash = vec![0; 32];
    Argon2::new(Algorithm::Argon2id, Version::V0x13, params)
        .hash_password_into(password, &salt, &mut hash)
        .map_err(|_| HashError::Part("a password of less than 4 GiB"))?;
    let (salt, hash) = (base64_unpadded(&salt), base64_unpadded(&hash));
    PasswordHash::parse(&format!(
        "$argon2id$v=19$m={OWN_KIB},t={OWN_PASSES},p=1${salt}${hash}"
    ))
}

fn argon2_form(name: &str, parts: &[&str]) -> Result<Form, HashError> {
    let algorithm = match name {
        "argon2id" => Algorithm::Argon2id,
        "argon2i" => Algorithm::Argon2i,
        _ => Algorithm::Argon2d,
    };
    let (version, parts) = match parts {
        [version, rest @ ..] if version.starts_with("v=") => match *version {
            "v=19" => (Version::V0x13, rest),
            "v=16" => (Version::V0x10, rest),
            _ => return Err(HashError::Part("v=19 or v=16")),
        },
        rest => (Version::V0x10, rest),
    };
    let [params, salt, hash] = parts else {
        return Err(HashError::Part("$v=19$m=..,t=..,p=..$<salt>$<hash>"));
    };
    let (mut kib, mut passes, mut lanes) = (None, None, None);
    for param in params.split(',') {
        let wrong = HashError::Part("parameters m, t and p with numbers");
        let (key, value) = param.split_once('=').ok_or(wrong.clone())?;
        let value = number(value).ok_or(wrong.clone())?;
        match key {
            "m" => kib = Some(bounded("argon2 memory in KiB", value, MAX_ARGON2_KIB)?),
            "t" => passes = Some(bounded("argon2 passes", value, MAX_ARGON2_PASSES)?),
            "p" => lanes = Some(bounded("argon2 lanes", value, MAX_ARGON2_LANES)?),
            _ => return Err(wrong),
        }
    }
    let (Some(kib), Some(passes), Some(lanes)) = (kib, passes, lanes) else {
        return Err(HashError::Part("parameters m, t and p with numbers"));
    };
    let (salt, hash) = (bytes(salt)?, bytes(hash)?);
    if Params::new(kib, passes, lanes, Some(hash.len())).is_err() || salt.len() < 8 {
        return Err(HashError::Part(
            "parameters, salt and hash that Argon2 allows",
        ));
    }
    Ok(Form::Argon2 {
        algorithm,
        version,
        kib,
        passes,
        lanes,
        salt,
        hash,
    })
}

fn bcrypt_form(name: &str, text: &str, parts: &[&str]) -> Result<Form, HashError> {
    let [cost, salted] = parts else {
        return Err(HashError::Part("$2b$<cost>$<salt and hash>"));
    };
    let alphabet = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'/');
    let number = number(cost).filter(|_| cost.len() == 2);
    match number {
        Some(cost @ 4..) => bounded("bcrypt cost", cost, MAX_BCRYPT_COST)?,
        _ => return Err(HashError::Part("a bcrypt cost of two digits from 04")),
    };
    // The library has the last word: not every such text is one it reads.
    if salted.len() != 53
        || !salted.bytes().all(alphabet)
        || text.parse::<bcrypt::HashParts>().is_err()
    {
        return Err(HashError::Part("53 characters of bcrypt salt and hash"));
    }
    Ok(Form::Bcrypt {
        head: format!("${name}${cost}$").into(),
    })
}

/// `$i=<n>,l=<len>$<salt>$<hash>` (PHC), or `$<n>$<salt>$<hash>` (passlib, mosquitto_passwd).
fn pbkdf2_form(prf: Prf, parts: &[&str]) -> Result<Form, HashError> {
    let [params, salt, hash] = parts else {
        return Err(HashError::Part("$<iterations>$<salt>$<hash>"));
    };
    let iterations = params
        .split(',')
        .find_map(|param| param.strip_prefix("i="))
        .unwrap_or(params);
    let iterations = number(iterations)
        .and_then(NonZeroU32::new)
        .ok_or(HashError::Part("a number of PBKDF2 iterations"))?;
    bounded("PBKDF2 iterations", iterations.get(), MAX_ITERATIONS)?;
    let hash = bytes(hash)?;
    // A hash cut short would fit many passwords.
    if hash.len() < 16 || hash.len() > 64 {
        return Err(HashError::Part("a PBKDF2 hash of 16 to 64 bytes"));
    }
    Ok(Form::Pbkdf2 {
        prf,
        iterations,
        salt: bytes(salt)?,
        hash,
    })
}

fn bytes(text: &str) -> Result<Vec<u8>, HashError> {
    // passlib writes '.' for '+'.
    match base64_bytes(&text.replace('.', "+")) {
        Some(bytes) if !bytes.is_empty() => Ok(bytes),
        _ => Err(HashError::Part("salt and hash in base64")),
    }
}

fn number(text: &str) -> Option<u32> {
    let digits = text.bytes().all(|b| b.is_ascii_digit());
    digits.then(|| text.parse().ok()).flatten()
}

fn bounded(name: &'static str, got: u32, limit: u32) -> Result<u32, HashError> {
    if got > limit {
        return Err(HashError::Cost { name, limit, got });
    }
    Ok(got)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Made by mosquitto_passwd, passlib, the argon2 tool, Python's bcrypt and hashlib: see `tests/vectors.py`.
    const VECTORS: &str = include_str!("../../tests/password-vectors.txt");

    #[test]
    fn hashes_of_other_programs_fit_their_password_only() {
        let mut forms = Vec::new();
        for line in VECTORS
            .lines()
            .filter(|l| !l.is_empty() && !l.starts_with('#'))
        {
            let (password, text) = line.rsplit_once(' ').expect("password and hash");
            let hash = PasswordHash::parse(text).unwrap_or_else(|e| panic!("{text}: {e}"));
            assert!(hash.verify(password.as_bytes()), "{text}");
            for wrong in ["", "x", &password[1..], &format!("{password}1")] {
                assert!(!hash.verify(wrong.as_bytes()), "{text} {wrong}");
            }
            let stand_in = hash.stand_in();
            assert!(!stand_in.verify(password.as_bytes()), "{text}");
            // It is computed, not refused for its form: that would be quick.
            if text.starts_with("$2") {
                bcrypt::verify("x", stand_in.text()).expect("a bcrypt hash");
            }
            assert!(!format!("{hash:?}").contains(text));
            forms.push(format!("{hash:?}"));
        }
        forms.sort_unstable();
        forms.dedup();
        assert_eq!(forms.len(), 5, "{forms:?}");
    }

    #[test]
    fn own_hashes_are_argon2id_with_a_salt_of_their_own() {
        let one = hash_password(b"secret").expect("hashed");
        let two = hash_password(b"secret").expect("hashed");
        assert_ne!(one.text(), two.text());
        assert!(one.text().starts_with("$argon2id$v=19$m=19456,t=2,p=1$"));
        assert!(one.verify(b"secret") && !one.verify(b"Secret"));
    }

    #[test]
    fn damaged_and_costly_hashes_are_refused() {
        let table = [
            ("", "expected a password hash"),
            ("hunter2", "expected a password hash"),
            ("$1$abc$def", "expected a password hash"),
            ("$6$only", "$6$<salt>$<hash>"),
            ("$6$!!$AAAA", "base64"),
            ("$7$0$AAAA$AAAAAAAAAAAAAAAAAAAAAAAAAAAA", "iterations"),
            ("$7$+1$AAAA$AAAAAAAAAAAAAAAAAAAAAAAAAAAA", "iterations"),
            (
                "$7$99999999$AAAA$AAAAAAAAAAAAAAAAAAAAAAAAAAAA",
                "of at most 10000000 in the password hash, got 99999999",
            ),
            ("$7$1000$AAAA$AAAA", "16 to 64 bytes"),
            (
                "$argon2id$v=19$m=4194304,t=1,p=1$AAAAAAAAAAAA$AAAAAAAAAAAAAAAA",
                "of at most 1048576 in the password hash, got 4194304",
            ),
            (
                "$argon2id$v=19$m=64,t=1000,p=1$AAAAAAAAAAAA$AAAAAAAAAAAAAAAA",
                "of at most 64 in the password hash, got 1000",
            ),
            (
                "$argon2id$v=18$m=64,t=1,p=1$AAAAAAAAAAAA$AAAAAAAAAAAAAAAA",
                "v=19",
            ),
            (
                "$argon2id$v=19$m=64,t=1$AAAAAAAAAAAA$AAAAAAAAAAAAAAAA",
                "m, t and p",
            ),
            (
                "$2b$31$......................ZZZZZZZZZZZZZZZZZZZZZZZZZZZZZZZ",
                "of at most 16 in the password hash, got 31",
            ),
            ("$2b$10$short", "53 characters"),
            ("SCRAM-SHA-256$1:AAAA$AAAA:AAAA", "at least 4096 iterations"),
        ];
        for (text, expected) in table {
            let error = PasswordHash::parse(text).expect_err(text).to_string();
            assert!(error.contains(expected), "{text}: {error}");
            assert!(text.is_empty() || !error.contains(text), "{error}");
        }
    }
}
