//! The compact form of a signed token (RFC 7515), and the times it is good for.

use nightjar_broker::Timestamp;
use serde_json::{Map, Value};

use super::keys::{Algorithm, KeySet};
use crate::encoding::base64_url;

/// Longer tokens are refused before anything is decoded.
const MAX_TOKEN: usize = 16 << 10;

/// Why a token does not let its bearer in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum TokenError {
    /// Not three parts, or the first is no token's header.
    #[error("not a token")]
    NotAToken,
    /// Longer than 16 KiB.
    #[error("expected a token of at most 16 KiB")]
    TooLong,
    /// Its parts are not what they must be.
    #[error("malformed token")]
    Malformed,
    /// `alg` is unknown or `none`, or `crit` asks for something unknown.
    #[error("token with an unsupported algorithm or extension")]
    Unsupported,
    /// Its key id is none of ours.
    #[error("token of an unknown key")]
    UnknownKey,
    /// No key of its algorithm verifies it.
    #[error("token with a wrong signature")]
    Signature,
    /// `exp` has passed.
    #[error("expired token")]
    Expired,
    /// `nbf` or `iat` is in the future.
    #[error("token of the future")]
    TooEarly,
    /// A claim is not what the configuration asks for.
    #[error("token with a claim that does not fit")]
    Claim,
}

/// A token whose header was read, and nothing believed yet.
pub(super) struct Token<'a> {
    algorithm: Algorithm,
    key_id: Option<String>,
    /// Header, dot, payload: what is signed.
    signed: &'a str,
    payload: &'a str,
    signature: Vec<u8>,
}

impl<'a> Token<'a> {
    pub fn parse(text: &'a str) -> Result<Self, TokenError> {
        let mut parts = text.split('.');
        let (Some(header), Some(payload), Some(signature), None) =
            (parts.next(), parts.next(), parts.next(), parts.next())
        else {
            return Err(TokenError::NotAToken);
        };
        if text.len() > MAX_TOKEN {
            // A password may hold two dots by chance, but not this many characters.
            return Err(TokenError::TooLong);
        }
        let header = base64_url(header).ok_or(TokenError::NotAToken)?;
        let Ok(Value::Object(header)) = serde_json::from_slice(&header) else {
            return Err(TokenError::NotAToken);
        };
        let Some(Value::String(algorithm)) = header.get("alg") else {
            return Err(TokenError::NotAToken);
        };
        // An extension that must be understood (RFC 7515 section 4.1.11); we have none.
        if header.contains_key("crit") {
            return Err(TokenError::Unsupported);
        }
        Ok(Self {
            algorithm: Algorithm::by_name(algorithm).ok_or(TokenError::Unsupported)?,
            key_id: match header.get("kid") {
                None => None,
                Some(Value::String(id)) => Some(id.clone()),
                Some(_) => return Err(TokenError::Malformed),
            },
            signed: &text[..text.len() - signature.len() - 1],
            payload,
            signature: base64_url(signature).ok_or(TokenError::Malformed)?,
        })
    }

    pub fn key_id(&self) -> Option<&str> {
        self.key_id.as_deref()
    }

    /// The claims, once a key has signed them.
    pub fn verify(&self, keys: &KeySet) -> Result<Map<String, Value>, TokenError> {
        let mut candidates = keys.candidates(self.key_id()).peekable();
        if candidates.peek().is_none() {
            return Err(TokenError::UnknownKey);
        }
        let signed = self.signed.as_bytes();
        if !candidates.any(|key| key.verifies(self.algorithm, signed, &self.signature)) {
            return Err(TokenError::Signature);
        }
        let payload = base64_url(self.payload).ok_or(TokenError::Malformed)?;
        match serde_json::from_slice(&payload) {
            Ok(Value::Object(claims)) => Ok(claims),
            _ => Err(TokenError::Malformed),
        }
    }
}

/// `exp`, `nbf`, `iat`, where they are given (RFC 7519 section 4.1). Times in seconds since 1970.
pub(super) fn check_times(
    claims: &Map<String, Value>,
    now: f64,
    leeway: f64,
) -> Result<(), TokenError> {
    let time = |name| match claims.get(name) {
        None => Ok(None),
        Some(Value::Number(number)) => Ok(number.as_f64()),
        Some(_) => Err(TokenError::Malformed),
    };
    if time("exp")?.is_some_and(|exp| exp + leeway <= now) {
        return Err(TokenError::Expired);
    }
    for name in ["nbf", "iat"] {
        if time(name)?.is_some_and(|time| time - leeway > now) {
            return Err(TokenError::TooEarly);
        }
    }
    Ok(())
}

/// When a token with `exp` is good no more, clocks' differences granted.
pub(super) fn ends(claims: &Map<String, Value>, leeway: f64) -> Option<Timestamp> {
    let end = claims.get("exp")?.as_f64()? + leeway;
    // A float to an integer saturates: what lies beyond the end of time never comes.
    Some(Timestamp((end.max(0.0) * 1000.0) as u64))
}
