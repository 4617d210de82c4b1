//! Random texts and password hashes.

use argon2::{Algorithm, Argon2, Params, Version};
use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD_NO_PAD, URL_SAFE_NO_PAD};
use ring::digest;
use ring::rand::{SecureRandom, SystemRandom};
use subtle::ConstantTimeEq;

use super::AccessError;

/// Argon2id with 19 MiB and 2 passes, OWASP's first choice.
const KIB: u32 = 19_456;
const PASSES: u32 = 2;

fn random<const N: usize>() -> Result<[u8; N], AccessError> {
    let mut bytes = [0; N];
    SystemRandom::new()
        .fill(&mut bytes)
        .map_err(|_| AccessError::Random)?;
    Ok(bytes)
}

/// A random text of 256 bits that is safe in URLs and headers.
///
/// # Errors
/// [`AccessError::Random`] if the system has no random numbers.
pub fn random_token() -> Result<String, AccessError> {
    Ok(URL_SAFE_NO_PAD.encode(random::<32>()?))
}

/// A password for people to type once: 24 characters, 142 bits.
///
/// # Errors
/// [`AccessError::Random`] if the system has no random numbers.
pub fn random_password() -> Result<String, AccessError> {
    // Neither of the pairs that look alike: 57 letters and digits.
    const LETTERS: &[u8] = b"23456789ABCDEFGHJKLMNPQRSTUVWXYZabcdefghijkmnopqrstuvwxyz";
    let mut text = String::with_capacity(24);
    while text.len() < 24 {
        for byte in random::<32>()? {
            // Bytes that would make some letters more likely are thrown away.
            let at = usize::from(byte);
            if at < 256 / LETTERS.len() * LETTERS.len() && text.len() < 24 {
                text.push(char::from(LETTERS[at % LETTERS.len()]));
            }
        }
    }
    Ok(text)
}

/// SHA-256, for secrets that are random themselves.
pub fn digest_of(secret: &str) -> [u8; 32] {
    let mut out = [0; 32];
    out.copy_from_slice(digest::digest(&digest::SHA256, secret.as_bytes()).as_ref());
    out
}

/// Are both the same, in a time that does not say where they differ?
pub fn same(a: &[u8], b: &[u8]) -> bool {
    a.ct_eq(b).into()
}

/// The hash of a password: `argon2id$<salt>$<hash>`. Takes tens of milliseconds: call it off the workers.
///
/// # Errors
/// [`AccessError::Random`] if the system has no random numbers.
pub fn hash_password(password: &str) -> Result<String, AccessError> {
    let salt = random::<16>()?;
    let hash = argon(password, &salt);
    Ok(format!(
        "argon2id${}${}",
        STANDARD_NO_PAD.encode(salt),
        STANDARD_NO_PAD.encode(hash)
    ))
}

/// Does a password have this hash? Takes as long as making it.
pub fn check_password(password: &str, hash: &str) -> bool {
    let mut parts = hash.split('$');
    let (Some("argon2id"), Some(salt), Some(hash), None) =
        (parts.next(), parts.next(), parts.next(), parts.next())
    else {
        return false;
    };
    let (Ok(salt), Ok(hash)) = (STANDARD_NO_PAD.decode(salt), STANDARD_NO_PAD.decode(hash)) else {
        return false;
    };
    same(&argon(password, &salt), &hash)
}

fn argon(password: &str, salt: &[u8]) -> [u8; 32] {
    let params = Params::new(KIB, PASSES, 1, Some(32)).expect("within Argon2's bounds");
    let mut out = [0; 32];
    let done = Argon2::new(Algorithm::Argon2id, Version::V0x13, params).hash_password_into(
        password.as_bytes(),
        salt,
        &mut out,
    );
    if done.is_err() {
        // A salt too short of a file that was written by hand: equal to no hash.
        return [0; 32];
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_password_is_known_by_its_hash_alone() {
        let hash = hash_password("correct horse").unwrap();
        assert!(check_password("correct horse", &hash));
        assert!(!check_password("correct horsE", &hash));
        for broken in ["", "argon2id", "argon2id$$", "argon2id$a$b", "x$y$z"] {
            assert!(!check_password("", broken), "{broken}");
        }
        let password = random_password().unwrap();
        assert_eq!(password.len(), 24);
        assert_ne!(password, random_password().unwrap());
        assert!(random_token().unwrap().len() >= 43);
    }
}
