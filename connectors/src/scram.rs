//! SCRAM-SHA-256 (RFC 5802, RFC 7677) as an enhanced authentication method of MQTT 5.0.
//!
//! The server keeps salted keys, never a password, and proves to the client that it knows them. Three messages: client
//! first, server first (AUTH 0x18), client final, server final (CONNACK). Channel binding is not offered. User names
//! and passwords are prepared by SASLprep (RFC 4013), as RFC 5802 section 2.2 asks; what it refuses is taken as it is, as
//! PostgreSQL does, so that a password of any bytes works where both sides do the same.

use std::num::NonZeroU32;
use std::sync::Arc;

use nightjar_broker::access::{
    BoxFuture, ClientInfo, Exchange, ExchangeMethod, ExchangeStep, Grant,
};
use nightjar_broker::auth::ScramKeys;
use nightjar_mqtt::ReasonCode;
use ring::rand::{SecureRandom, SystemRandom};
use ring::{digest, hmac, pbkdf2};
use subtle::ConstantTimeEq;

use crate::ConnectorError;
use crate::encoding::{base64_bytes, base64_text};

/// The Authentication Method.
pub const METHOD: &str = "SCRAM-SHA-256";

/// RFC 7677 section 4.
const MIN_ITERATIONS: u32 = 4096;
const MAX_ITERATIONS: u32 = 10_000_000;
/// A client's message is a name, a nonce and a proof; more than this is nonsense.
const MAX_MESSAGE: usize = 4096;

/// Where SCRAM keys of users are found: a users file, the builtin users.
pub trait KeySource: Send + Sync {
    /// The keys of a user and whether it is a superuser; `None` if there is no such user or it has no such keys.
    fn scram_keys(&self, username: &str) -> Option<(ScramKeys, bool)>;
}

/// `kind = "scram"`: the method over one or more sources of keys, asked in order.
pub struct ScramMethod {
    shared: Arc<Shared>,
}

struct Shared {
    sources: Vec<Arc<dyn KeySource>>,
    /// Makes salts for users that do not exist, the same each time, so that they look like those that do.
    secret: hmac::Key,
    iterations: u32,
}

impl ScramMethod {
    /// The method. `iterations` is what the exchange shows for users that do not exist: the number most users have.
    ///
    /// # Errors
    /// [`ConnectorError::Setting`] if `iterations` is out of bounds or the system has no random numbers.
    pub fn new(sources: Vec<Arc<dyn KeySource>>, iterations: u32) -> Result<Self, ConnectorError> {
        let setting = |problem| ConnectorError::Setting {
            key: "auth.chain.iterations",
            problem,
        };
        if !(MIN_ITERATIONS..=MAX_ITERATIONS).contains(&iterations) {
            return Err(setting(format!(
                "expected {MIN_ITERATIONS} to {MAX_ITERATIONS}, got {iterations}"
            )));
        }
        let secret = hmac::Key::generate(hmac::HMAC_SHA256, &SystemRandom::new())
            .map_err(|_| setting("the system gave no random numbers".to_owned()))?;
        Ok(Self {
            shared: Arc::new(Shared {
                sources,
                secret,
                iterations,
            }),
        })
    }
}

impl ExchangeMethod for ScramMethod {
    fn method(&self) -> &str {
        METHOD
    }

    fn begin(&self, _: &ClientInfo) -> Box<dyn Exchange> {
        Box::new(ScramExchange {
            shared: Arc::clone(&self.shared),
            state: State::First,
        })
    }
}

struct ScramExchange {
    shared: Arc<Shared>,
    state: State,
}

enum State {
    First,
    Final(Box<Pending>),
    Over,
}

/// What server first has promised.
struct Pending {
    username: Arc<str>,
    keys: ScramKeys,
    /// False for a user that does not exist: its proof fails whatever it is.
    known: bool,
    superuser: bool,
    /// The GS2 header, which the final message repeats.
    header: String,
    nonce: String,
    /// Client first bare, comma, server first: the beginning of what is signed.
    signed: String,
}

impl Exchange for ScramExchange {
    fn step<'a>(&'a mut self, data: &'a [u8]) -> BoxFuture<'a, ExchangeStep> {
        // Two HMACs: nothing to wait for, and not worth a thread.
        let step = self.take(data).unwrap_or_else(ExchangeStep::Fail);
        Box::pin(std::future::ready(step))
    }
}

const REFUSED: ReasonCode = ReasonCode::NotAuthorized;

impl ScramExchange {
    fn take(&mut self, data: &[u8]) -> Result<ExchangeStep, ReasonCode> {
        let state = std::mem::replace(&mut self.state, State::Over);
        let text = std::str::from_utf8(data).map_err(|_| REFUSED)?;
        if text.len() > MAX_MESSAGE || text.contains('\0') {
            return Err(REFUSED);
        }
        match state {
            State::First => {
                let mut random = [0; 18];
                SystemRandom::new()
                    .fill(&mut random)
                    .map_err(|_| ReasonCode::ServerUnavailable)?;
                let (pending, answer) = first(text, &base64_text(&random), &self.shared)?;
                self.state = State::Final(Box::new(pending));
                Ok(ExchangeStep::Continue(answer.into_bytes()))
            }
            State::Final(pending) => last(text, *pending),
            State::Over => Err(REFUSED),
        }
    }
}

/// `n,,n=user,r=nonce`
fn first(text: &str, random: &str, shared: &Shared) -> Result<(Pending, String), ReasonCode> {
    let mut parts = text.splitn(3, ',');
    let (flag, authzid, bare) = match (parts.next(), parts.next(), parts.next()) {
        (Some(flag), Some(authzid), Some(bare)) => (flag, authzid, bare),
        _ => return Err(REFUSED),
    };
    // "p=" asks for channel binding, which is not offered.
    if !matches!(flag, "n" | "y") {
        return Err(REFUSED);
    }
    let header = &text[..text.len() - bare.len()];
    let mut attributes = bare.split(',');
    // "m=" in front announces an extension that must be understood.
    let username = attributes.next().and_then(|a| a.strip_prefix("n="));
    let username = username.and_then(unescape).ok_or(REFUSED)?;
    let username = prepare(&username).into_owned();
    let nonce = attributes.next().and_then(|a| a.strip_prefix("r="));
    let printable = |nonce: &&str| !nonce.is_empty() && nonce.bytes().all(|b| b.is_ascii_graphic());
    let nonce = nonce.filter(printable).ok_or(REFUSED)?;
    // Nobody acts for somebody else here.
    let other = authzid.strip_prefix("a=").map(unescape);
    if !(authzid.is_empty()
        || other
            .flatten()
            .is_some_and(|other| prepare(&other) == username))
    {
        return Err(REFUSED);
    }
    let found = shared.sources.iter().find_map(|s| s.scram_keys(&username));
    let known = found.is_some();
    let (keys, superuser) = found.unwrap_or_else(|| (shared.made_up(&username), false));
    let nonce = format!("{nonce}{random}");
    let answer = format!(
        "r={nonce},s={},i={}",
        base64_text(&keys.salt),
        keys.iterations
    );
    let pending = Pending {
        username: username.into(),
        keys,
        known,
        superuser,
        header: header.to_owned(),
        nonce,
        signed: format!("{bare},{answer}"),
    };
    Ok((pending, answer))
}

/// `c=biws,r=nonce,p=proof`
fn last(text: &str, pending: Pending) -> Result<ExchangeStep, ReasonCode> {
    let (signed, proof) = text.rsplit_once(",p=").ok_or(REFUSED)?;
    let mut attributes = signed.split(',');
    let binding = attributes.next().and_then(|a| a.strip_prefix("c="));
    let nonce = attributes.next().and_then(|a| a.strip_prefix("r="));
    let bound = binding.and_then(base64_bytes);
    if bound.as_deref() != Some(pending.header.as_bytes()) || nonce != Some(&*pending.nonce) {
        return Err(REFUSED);
    }
    let proof = base64_bytes(proof)
        .filter(|p| p.len() == 32)
        .ok_or(REFUSED)?;
    let message = format!("{},{signed}", pending.signed);
    let signature = sign(&pending.keys.stored_key, message.as_bytes());
    let mut client_key = [0; 32];
    for (out, (a, b)) in client_key.iter_mut().zip(proof.iter().zip(signature)) {
        *out = a ^ b;
    }
    let right = sha256(&client_key).ct_eq(&pending.keys.stored_key);
    if !bool::from(right) || !pending.known {
        return Err(REFUSED);
    }
    let server = sign(&pending.keys.server_key, message.as_bytes());
    Ok(ExchangeStep::Success {
        data: Some(format!("v={}", base64_text(&server)).into_bytes()),
        grant: Grant {
            superuser: pending.superuser,
            rules: None,
            username: Some(pending.username),
            expires_at: None,
        },
    })
}

impl Shared {
    fn made_up(&self, username: &str) -> ScramKeys {
        let salt = hmac::sign(&self.secret, username.as_bytes());
        ScramKeys {
            salt: salt.as_ref()[..16].to_vec(),
            iterations: self.iterations,
            stored_key: [0; 32],
            server_key: [0; 32],
        }
    }
}

/// The name of a SASL message: `=2C` is a comma, `=3D` an equals sign, and no other `=` may stand.
fn unescape(name: &str) -> Option<String> {
    let mut parts = name.split('=');
    let mut text = parts.next()?.to_owned();
    for part in parts {
        let (c, rest) = match part.split_at_checked(2)? {
            ("2C", rest) => (',', rest),
            ("3D", rest) => ('=', rest),
            _ => return None,
        };
        text.push(c);
        text.push_str(rest);
    }
    (!text.is_empty()).then_some(text)
}

/// The text by SASLprep; as it is where SASLprep refuses it.
fn prepare(text: &str) -> std::borrow::Cow<'_, str> {
    stringprep::saslprep(text).unwrap_or(std::borrow::Cow::Borrowed(text))
}

/// The keys of a password; `None` if the iterations are out of bounds. Slow on purpose.
pub fn derive(password: &[u8], salt: &[u8], iterations: u32) -> Option<ScramKeys> {
    let salted = salted(password, salt, iterations)?;
    Some(ScramKeys {
        salt: salt.to_vec(),
        iterations,
        stored_key: sha256(&sign(&salted, b"Client Key")),
        server_key: sign(&salted, b"Server Key"),
    })
}

/// SaltedPassword of RFC 5802 section 3; `None` if the iterations are out of bounds. Slow on purpose.
pub(crate) fn salted(password: &[u8], salt: &[u8], iterations: u32) -> Option<[u8; 32]> {
    let rounds = NonZeroU32::new(iterations).filter(|n| n.get() <= MAX_ITERATIONS)?;
    let prepared = std::str::from_utf8(password).ok().map(prepare);
    let password = prepared.as_deref().map_or(password, str::as_bytes);
    let mut salted = [0; 32];
    pbkdf2::derive(
        pbkdf2::PBKDF2_HMAC_SHA256,
        rounds,
        salt,
        password,
        &mut salted,
    );
    Some(salted)
}

/// Makes the keys of a new password with 16 bytes of salt.
///
/// # Errors
/// [`ConnectorError::Setting`] if the iterations are out of bounds or the system has no random numbers.
pub fn new_keys(password: &[u8], iterations: u32) -> Result<ScramKeys, ConnectorError> {
    let mut salt = [0; 16];
    SystemRandom::new()
        .fill(&mut salt)
        .ok()
        .filter(|()| iterations >= MIN_ITERATIONS)
        .and_then(|()| derive(password, &salt, iterations))
        .ok_or_else(|| ConnectorError::Setting {
            key: "iterations",
            problem: format!("expected {MIN_ITERATIONS} to {MAX_ITERATIONS}, got {iterations}"),
        })
}

/// The text of keys, as a users file and PostgreSQL hold it: `SCRAM-SHA-256$4096:<salt>$<stored key>:<server key>`.
pub fn keys_text(keys: &ScramKeys) -> String {
    format!(
        "{METHOD}${}:{}${}:{}",
        keys.iterations,
        base64_text(&keys.salt),
        base64_text(&keys.stored_key),
        base64_text(&keys.server_key)
    )
}

/// The keys of the text behind `SCRAM-SHA-256$`; `None` if it is damaged or has less than 4096 iterations.
pub fn parse_keys(text: &str) -> Option<ScramKeys> {
    let (cost, keys) = text.split_once('$')?;
    let (iterations, salt) = cost.split_once(':')?;
    let (stored, server) = keys.split_once(':')?;
    let iterations = iterations.parse().ok()?;
    let key = |text| base64_bytes(text).and_then(|bytes| bytes.try_into().ok());
    let salt = base64_bytes(salt).filter(|salt| salt.len() >= 8)?;
    (MIN_ITERATIONS..=MAX_ITERATIONS)
        .contains(&iterations)
        .then_some(ScramKeys {
            salt,
            iterations,
            stored_key: key(stored)?,
            server_key: key(server)?,
        })
}

pub(crate) fn sign(key: &[u8; 32], message: &[u8]) -> [u8; 32] {
    let tag = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, key), message);
    let mut out = [0; 32];
    out.copy_from_slice(tag.as_ref());
    out
}

pub(crate) fn sha256(bytes: &[u8]) -> [u8; 32] {
    let mut out = [0; 32];
    out.copy_from_slice(digest::digest(&digest::SHA256, bytes).as_ref());
    out
}

#[cfg(test)]
mod tests;
