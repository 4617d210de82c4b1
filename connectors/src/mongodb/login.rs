//! The client's side of SCRAM-SHA-256 (RFC 5802, RFC 7677), as MongoDB asks for it.

use ring::rand::{SecureRandom, SystemRandom};
use subtle::ConstantTimeEq;

use crate::encoding::{base64_bytes, base64_text, base64_unpadded};
use crate::scram;

/// A server may not ask for more: some seconds of work.
const MAX_ITERATIONS: u32 = 1_000_000;
const MIN_ITERATIONS: u32 = 4096;

/// A login whose first message was sent.
pub(super) struct Login {
    bare: String,
    nonce: String,
}

/// What the server's first message asks for.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Challenge {
    pub salt: Vec<u8>,
    pub iterations: u32,
    nonce: String,
    signed: String,
}

impl Login {
    /// Begins; the second is the first message.
    pub fn begin(username: &str) -> Result<(Self, String), String> {
        let mut random = [0; 24];
        SystemRandom::new()
            .fill(&mut random)
            .map_err(|_| "the system gave no random numbers".to_owned())?;
        Ok(Self::with_nonce(username, base64_unpadded(&random)))
    }

    fn with_nonce(username: &str, nonce: String) -> (Self, String) {
        let name = username.replace('=', "=3D").replace(',', "=2C");
        let bare = format!("n={name},r={nonce}");
        let first = format!("n,,{bare}");
        (Self { bare, nonce }, first)
    }

    /// Reads `r=nonce,s=salt,i=iterations`.
    pub fn challenge(&self, message: &[u8]) -> Result<Challenge, String> {
        let wrong = || "expected a challenge of SCRAM-SHA-256".to_owned();
        let text = std::str::from_utf8(message).map_err(|_| wrong())?;
        let mut parts = text.split(',');
        let mut part = |name: &str| parts.next().and_then(|part| part.strip_prefix(name));
        let nonce = part("r=").filter(|it| it.starts_with(&self.nonce) && *it != self.nonce);
        let nonce = nonce.ok_or_else(wrong)?.to_owned();
        let salt = part("s=").and_then(base64_bytes).ok_or_else(wrong)?;
        let iterations = part("i=").and_then(|it| it.parse().ok());
        let iterations = iterations
            .filter(|it| (MIN_ITERATIONS..=MAX_ITERATIONS).contains(it))
            .ok_or_else(|| {
                format!("expected {MIN_ITERATIONS} to {MAX_ITERATIONS} iterations of SCRAM-SHA-256")
            })?;
        Ok(Challenge {
            salt,
            iterations,
            nonce,
            signed: text.to_owned(),
        })
    }

    /// The last message, and what the server must prove then.
    pub fn answer(&self, challenge: &Challenge, salted: &[u8; 32]) -> (String, String) {
        let without_proof = format!("c=biws,r={}", challenge.nonce);
        let signed = format!("{},{},{without_proof}", self.bare, challenge.signed);
        let client_key = scram::sign(salted, b"Client Key");
        let signature = scram::sign(&scram::sha256(&client_key), signed.as_bytes());
        let mut proof = client_key;
        for (byte, other) in proof.iter_mut().zip(signature) {
            *byte ^= other;
        }
        let server = scram::sign(&scram::sign(salted, b"Server Key"), signed.as_bytes());
        (
            format!("{without_proof},p={}", base64_text(&proof)),
            format!("v={}", base64_text(&server)),
        )
    }
}

/// True if the server knows the password too.
pub(super) fn proven(expected: &str, message: &[u8]) -> bool {
    message.ct_eq(expected.as_bytes()).into()
}

/// The password, salted. Slow on purpose.
pub(super) fn salted(password: &str, salt: &[u8], iterations: u32) -> Option<[u8; 32]> {
    scram::salted(password.as_bytes(), salt, iterations)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// RFC 7677 section 3.
    #[test]
    fn the_example_of_the_rfc() {
        let (login, first) = Login::with_nonce("user", "rOprNGfwEbeRWgbNEkqO".to_owned());
        assert_eq!(first, "n,,n=user,r=rOprNGfwEbeRWgbNEkqO");
        let nonce = "rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0";
        let challenge = login
            .challenge(format!("r={nonce},s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096").as_bytes())
            .expect("valid");
        let salted = salted("pencil", &challenge.salt, challenge.iterations).expect("in bounds");
        let (last, server) = login.answer(&challenge, &salted);
        let proof = "dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ=";
        assert_eq!(last, format!("c=biws,r={nonce},p={proof}"));
        assert!(proven(
            &server,
            b"v=6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4="
        ));
        assert!(!proven(
            &server,
            b"v=6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G5="
        ));
        for bad in [
            "",
            "e=other-error",
            "r=,s=,i=",
            "r=rOprNGfwEbeRWgbNEkqO,s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096",
            "r=other,s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096",
            "r=rOprNGfwEbeRWgbNEkqOx,s=*,i=4096",
            "r=rOprNGfwEbeRWgbNEkqOx,s=QQ==,i=1",
            "r=rOprNGfwEbeRWgbNEkqOx,s=QQ==,i=4000000000",
        ] {
            assert!(login.challenge(bad.as_bytes()).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_name_with_marks_of_the_message_is_escaped() {
        let (_, first) = Login::with_nonce("a,b=c", "x".to_owned());
        assert_eq!(first, "n,,n=a=2Cb=3Dc,r=x");
    }
}
