//! Passwords as tables keep them: a hash in hexadecimal, a salt in another column, the function in the configuration.

use ring::digest;
use subtle::ConstantTimeEq;

use super::hash::{HashError, PasswordHash};

/// `password_hash`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum HashKind {
    /// The password itself.
    Plain,
    /// MD5.
    Md5,
    /// SHA-1.
    Sha,
    /// SHA-256, the default.
    #[default]
    Sha256,
    /// SHA-512.
    Sha512,
    /// bcrypt, which keeps its own salt.
    Bcrypt,
    /// PBKDF2 with the salt of its column.
    Pbkdf2,
    /// Argon2 in PHC form, which keeps its own salt.
    Argon2,
}

/// `salt`: where the salt stands when the password is hashed once.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum SaltPlace {
    /// Nowhere.
    #[default]
    None,
    /// In front of the password.
    Prefix,
    /// Behind it.
    Suffix,
}

/// `pbkdf2_prf`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Pbkdf2Prf {
    /// HMAC-SHA-1.
    Sha1,
    /// HMAC-SHA-256.
    #[default]
    Sha256,
    /// HMAC-SHA-512.
    Sha512,
}

/// How a table keeps passwords.
#[derive(Debug, Clone, Copy)]
pub struct HashSettings {
    /// `password_hash`.
    pub kind: HashKind,
    /// `salt`.
    pub salt: SaltPlace,
    /// `pbkdf2_prf`.
    pub pbkdf2_prf: Pbkdf2Prf,
    /// `pbkdf2_iterations`.
    pub pbkdf2_iterations: u32,
    /// `pbkdf2_length`: bytes of a hash, at least 16.
    pub pbkdf2_length: u16,
}

impl Default for HashSettings {
    fn default() -> Self {
        Self {
            kind: HashKind::Sha256,
            salt: SaltPlace::None,
            pbkdf2_prf: Pbkdf2Prf::Sha256,
            pbkdf2_iterations: 4096,
            pbkdf2_length: 32,
        }
    }
}

impl HashSettings {
    /// The hash of a row.
    ///
    /// # Errors
    /// [`HashError`] if the column does not hold such a hash.
    pub fn hash(&self, password: &str, salt: &str) -> Result<PasswordHash, HashError> {
        let function = match self.kind {
            HashKind::Bcrypt | HashKind::Argon2 => return PasswordHash::parse(password),
            HashKind::Pbkdf2 => {
                let length = usize::from(self.pbkdf2_length);
                let hash = hex(password).filter(|hash| hash.len() == length && length >= 16);
                let hash = hash.ok_or(HashError::Part(
                    "as many hexadecimal bytes as pbkdf2_length says, at least 16,",
                ))?;
                let (prf, rounds) = (&self.pbkdf2_prf, self.pbkdf2_iterations);
                return PasswordHash::pbkdf2_column(prf, rounds, salt.as_bytes(), hash);
            }
            HashKind::Plain => Function::Plain,
            HashKind::Md5 => Function::Md5,
            HashKind::Sha => Function::Ring(&digest::SHA1_FOR_LEGACY_USE_ONLY),
            HashKind::Sha256 => Function::Ring(&digest::SHA256),
            HashKind::Sha512 => Function::Ring(&digest::SHA512),
        };
        let hash = match function.length() {
            None => password.as_bytes().to_vec(),
            Some(length) => hex(password)
                .filter(|hash| hash.len() == length)
                .ok_or(HashError::Part("the hexadecimal digits of password_hash"))?,
        };
        // The salt of a row that is not hashed with it is an ordinary column.
        let salt = match self.salt {
            SaltPlace::None => "",
            SaltPlace::Prefix | SaltPlace::Suffix => salt,
        };
        let text = format!("{:?} {:?} {salt:?} {password}", self.kind, self.salt);
        let column = Column {
            function,
            place: self.salt,
            salt: salt.as_bytes().to_vec(),
            hash,
            blank: false,
        };
        Ok(PasswordHash::column(text, column))
    }
}

/// A value of `userPassword` (RFC 2307 section 5.3): `{SSHA}` and its like with the salt behind the hash, `{SHA}` and its
/// like without one, `{CRYPT}`, `{BCRYPT}` and `{ARGON2}` with a hash that names its own form, and the password itself.
///
/// # Errors
/// [`HashError`] if the scheme is not known or its hash damaged.
#[cfg(feature = "ldap")]
pub(crate) fn directory_hash(value: &[u8]) -> Result<PasswordHash, HashError> {
    let text = String::from_utf8_lossy(value);
    let plain = |function, salt: &[u8], hash: &[u8], place| {
        let column = Column {
            function,
            place,
            salt: salt.to_vec(),
            hash: hash.to_vec(),
            blank: false,
        };
        PasswordHash::column(format!("directory {text}"), column)
    };
    let Some((scheme, rest)) = text.strip_prefix('{').and_then(|it| it.split_once('}')) else {
        return Ok(plain(Function::Plain, &[], value, SaltPlace::None));
    };
    let scheme = scheme.to_ascii_uppercase();
    let (function, salted) = match &*scheme {
        // `$6$` and others of crypt(3) look like what mosquitto_passwd writes and are not.
        "CRYPT" | "BCRYPT" | "BLF-CRYPT" | "ARGON2" => {
            return if rest.starts_with("$2") || rest.starts_with("$argon2") {
                PasswordHash::parse(rest)
            } else {
                Err(HashError::Part("bcrypt or Argon2 behind the {SCHEME}"))
            };
        }
        "MD5" => (Function::Md5, false),
        "SMD5" => (Function::Md5, true),
        "SHA" => (Function::Ring(&digest::SHA1_FOR_LEGACY_USE_ONLY), false),
        "SSHA" => (Function::Ring(&digest::SHA1_FOR_LEGACY_USE_ONLY), true),
        "SHA256" => (Function::Ring(&digest::SHA256), false),
        "SSHA256" => (Function::Ring(&digest::SHA256), true),
        "SHA384" => (Function::Ring(&digest::SHA384), false),
        "SSHA384" => (Function::Ring(&digest::SHA384), true),
        "SHA512" => (Function::Ring(&digest::SHA512), false),
        "SSHA512" => (Function::Ring(&digest::SHA512), true),
        _ => return Err(HashError::Part("a known {SCHEME}")),
    };
    let bytes = crate::encoding::base64_bytes(rest);
    let length = function.length().unwrap_or_default();
    match bytes.as_deref().and_then(|it| it.split_at_checked(length)) {
        Some((hash, salt)) if salted || salt.is_empty() => {
            Ok(plain(function, salt, hash, SaltPlace::Suffix))
        }
        _ => Err(HashError::Part(
            "base64 of hash and salt behind the {SCHEME}",
        )),
    }
}

/// A hash of one round, or none.
#[derive(Clone)]
pub(crate) struct Column {
    function: Function,
    place: SaltPlace,
    salt: Vec<u8>,
    hash: Vec<u8>,
    /// Fits no password, whatever the comparison says.
    blank: bool,
}

#[derive(Clone, Copy)]
enum Function {
    Plain,
    Md5,
    Ring(&'static digest::Algorithm),
}

impl PartialEq for Column {
    fn eq(&self, other: &Self) -> bool {
        self.function.length() == other.function.length()
            && (self.place, self.blank) == (other.place, other.blank)
            && (&self.salt, &self.hash) == (&other.salt, &other.hash)
    }
}

impl Eq for Column {}

impl Function {
    /// Bytes of its result; `None` if it is the password.
    fn length(self) -> Option<usize> {
        match self {
            Self::Plain => None,
            Self::Md5 => Some(16),
            Self::Ring(algorithm) => Some(algorithm.output_len()),
        }
    }

    fn of(self, text: &[u8]) -> Vec<u8> {
        match self {
            Self::Plain => text.to_vec(),
            Self::Md5 => <md5::Md5 as md5::Digest>::digest(text).to_vec(),
            Self::Ring(algorithm) => digest::digest(algorithm, text).as_ref().to_vec(),
        }
    }
}

impl Column {
    pub fn verify(&self, password: &[u8]) -> bool {
        let salted = match self.place {
            SaltPlace::None => password.to_vec(),
            SaltPlace::Prefix => [&self.salt, password].concat(),
            SaltPlace::Suffix => [password, &self.salt].concat(),
        };
        bool::from(self.function.of(&salted).ct_eq(&self.hash)) && !self.blank
    }

    pub fn blank(&mut self) {
        self.blank = true;
    }
}

/// Bytes of hexadecimal digits in either case.
fn hex(text: &str) -> Option<Vec<u8>> {
    let digit = |c: u8| {
        char::from(c)
            .to_digit(16)
            .and_then(|d| u8::try_from(d).ok())
    };
    let (pairs, []) = text.as_bytes().as_chunks::<2>() else {
        return None;
    };
    pairs
        .iter()
        .map(|[high, low]| Some(digit(*high)? << 4 | digit(*low)?))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings(kind: HashKind, salt: SaltPlace) -> HashSettings {
        HashSettings {
            kind,
            salt,
            ..HashSettings::default()
        }
    }

    /// The password is "public", the salt "salt"; made by Python's hashlib and bcrypt.
    #[test]
    fn columns_fit_their_password_only() {
        use HashKind::{Bcrypt, Md5, Plain, Sha, Sha256, Sha512};
        use SaltPlace::{None, Prefix, Suffix};
        let sha512 = "d32997e9747b65a3ecf65b82533a4c843c4e16dd30cf371e8c81ab60a341de00\
                      051da422d41ff29c55695f233a1e06fac8b79aeb0a4d91ae5d3d18c8e09b8c73";
        let sha256 = "efa1f375d76194fa51a3556a97e641e61685f914d446979da50a551a4333ffd7";
        let bcrypt = "$2b$04$CfU/UGA0T9q6zIZblYj24upoJoSHkXnXraW5wc0j3NZqZTfl2blNO";
        let prefixed = "f2ef7f9aedb2c3b5040bc16691a1177758a92ad91e1ee77770215a332bf6099f";
        let table = [
            (settings(Plain, None), "public"),
            (settings(Md5, None), "4c9184f37cff01bcdc32dc486ec36961"),
            (settings(Md5, None), "4C9184F37CFF01BCDC32DC486EC36961"),
            (settings(Md5, Suffix), "b8fe9a6d76f4fa94adda07a7833e6402"),
            (
                settings(Sha, None),
                "61c9b2b17db77a27841bbeeabff923448b0f6388",
            ),
            (settings(Sha256, None), sha256),
            (settings(Sha256, Prefix), prefixed),
            (settings(Sha512, None), sha512),
            (settings(Bcrypt, None), bcrypt),
            (
                settings(HashKind::Pbkdf2, None),
                "232c42ada7adef7a6e1d2e1393c85aa578a948e3e5a16777fa67d70f1caf8cb4",
            ),
            (
                HashSettings {
                    kind: HashKind::Pbkdf2,
                    pbkdf2_prf: Pbkdf2Prf::Sha1,
                    pbkdf2_iterations: 1000,
                    pbkdf2_length: 20,
                    ..HashSettings::default()
                },
                "f67ae9572c90d4f194d4be093a31f8c2d0e8accb",
            ),
        ];
        for (settings, password) in table {
            let hash = settings.hash(password, "salt").expect(password);
            assert!(hash.verify(b"public"), "{settings:?}");
            for wrong in ["", "Public", "public ", "salt", "saltpublic", "publicsalt"] {
                assert!(!hash.verify(wrong.as_bytes()), "{settings:?} {wrong}");
            }
            assert!(!hash.stand_in().verify(b"public"), "{settings:?}");
            assert!(!format!("{hash:?}").contains(password));
        }
    }

    #[test]
    fn columns_of_another_form_are_refused() {
        let sha256 = settings(HashKind::Sha256, SaltPlace::None);
        for bad in [
            "",
            "public",
            "4c9184f37cff01bcdc32dc486ec36961",
            &"g".repeat(64),
            "\u{e9}",
        ] {
            assert!(sha256.hash(bad, "").is_err(), "{bad}");
        }
        let pbkdf2 = settings(HashKind::Pbkdf2, SaltPlace::None);
        assert!(pbkdf2.hash(&"ab".repeat(31), "").is_err());
        let short = HashSettings {
            pbkdf2_length: 1,
            ..pbkdf2
        };
        assert!(
            short.hash("ab", "").is_err(),
            "one byte fits many passwords"
        );
        let bcrypt = settings(HashKind::Bcrypt, SaltPlace::None);
        assert!(bcrypt.hash("public", "").is_err());
    }
}
