//! Keys that tokens are verified with: a secret, a PEM file, a JSON Web Key Set (RFC 7517).

use ring::{hmac, signature};
use serde_json::Value;

use super::der::{self, PublicKey};
use crate::ConnectorError;
use crate::encoding::{base64_bytes, base64_url};

/// Keys of a set beyond this are not read: a token without key id is tried with each.
const MAX_KEYS: usize = 64;

/// A signature algorithm (RFC 7518 section 3.1, RFC 8037).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(missing_docs, reason = "the names are the registry's")]
pub enum Algorithm {
    Hs256,
    Hs384,
    Hs512,
    Rs256,
    Rs384,
    Rs512,
    Ps256,
    Ps384,
    Ps512,
    Es256,
    Es384,
    EdDsa,
}

impl Algorithm {
    /// The algorithm of this name; `none` is none.
    pub fn by_name(name: &str) -> Option<Self> {
        Some(match name {
            "HS256" => Self::Hs256,
            "HS384" => Self::Hs384,
            "HS512" => Self::Hs512,
            "RS256" => Self::Rs256,
            "RS384" => Self::Rs384,
            "RS512" => Self::Rs512,
            "PS256" => Self::Ps256,
            "PS384" => Self::Ps384,
            "PS512" => Self::Ps512,
            "ES256" => Self::Es256,
            "ES384" => Self::Es384,
            "EdDSA" => Self::EdDsa,
            _ => return None,
        })
    }
}

/// A key that verifies.
#[derive(Clone)]
pub struct Key {
    id: Option<String>,
    /// The one algorithm it is for, where its source says so.
    algorithm: Option<Algorithm>,
    material: Material,
}

#[derive(Clone)]
enum Material {
    Secret(Vec<u8>),
    Rsa { n: Vec<u8>, e: Vec<u8> },
    P256(Vec<u8>),
    P384(Vec<u8>),
    Ed25519(Vec<u8>),
}

impl std::fmt::Debug for Key {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let kind = match self.material {
            Material::Secret(_) => "secret",
            Material::Rsa { .. } => "RSA",
            Material::P256(_) => "P-256",
            Material::P384(_) => "P-384",
            Material::Ed25519(_) => "Ed25519",
        };
        f.debug_struct("Key")
            .field("id", &self.id)
            .field("kind", &kind)
            .finish_non_exhaustive()
    }
}

impl Key {
    /// An HMAC secret.
    ///
    /// # Errors
    /// [`ConnectorError::Setting`] if it is empty: everybody could sign.
    pub fn secret(secret: &[u8]) -> Result<Self, ConnectorError> {
        if secret.is_empty() {
            return Err(ConnectorError::Setting {
                key: "auth.chain.secret",
                problem: "expected a secret, got an empty one".to_owned(),
            });
        }
        Ok(Self::of(Material::Secret(secret.to_vec())))
    }

    /// A public key in PEM: `BEGIN PUBLIC KEY` or `BEGIN RSA PUBLIC KEY`.
    ///
    /// # Errors
    /// [`ConnectorError::Setting`] if it is neither, of an unknown kind, or RSA of less than 2048 bits.
    pub fn pem(text: &str) -> Result<Self, ConnectorError> {
        let setting = |problem: &str| ConnectorError::Setting {
            key: "auth.chain.public_key_file",
            problem: problem.to_owned(),
        };
        let body = |label: &str| {
            let begin = format!("-----BEGIN {label}-----");
            let end = format!("-----END {label}-----");
            let (_, behind) = text.split_once(&begin)?;
            let (body, _) = behind.split_once(&end)?;
            base64_bytes(&body.split_ascii_whitespace().collect::<String>())
        };
        if text.contains("PRIVATE KEY-----") {
            return Err(setting("expected a public key, got a private one"));
        }
        let spki = body("PUBLIC KEY");
        let rsa = body("RSA PUBLIC KEY");
        let key = match (&spki, &rsa) {
            (Some(der), _) => der::public_key(der),
            (None, Some(der)) => der::rsa_public_key(der),
            (None, None) => {
                return Err(setting(
                    "expected -----BEGIN PUBLIC KEY----- or -----BEGIN RSA PUBLIC KEY-----",
                ));
            }
        };
        let material = match key {
            None => return Err(setting("expected a key of RSA, P-256, P-384 or Ed25519")),
            Some(PublicKey::Rsa { n, e }) => Material::Rsa {
                n: n.to_vec(),
                e: e.to_vec(),
            },
            Some(PublicKey::P256(point)) => Material::P256(point.to_vec()),
            Some(PublicKey::P384(point)) => Material::P384(point.to_vec()),
            Some(PublicKey::Ed25519(point)) => Material::Ed25519(point.to_vec()),
        };
        material.check().map_err(|problem| setting(&problem))?;
        Ok(Self::of(material))
    }

    /// One key of a JSON Web Key Set; `None` if it is for encryption or of a kind that is not known, `Err` if damaged.
    fn jwk(jwk: &Value) -> Option<Result<Self, String>> {
        let text = |name: &str| jwk.get(name).and_then(Value::as_str);
        let bytes = |name: &str| text(name).and_then(base64_url);
        if text("use").is_some_and(|purpose| purpose != "sig") {
            return None;
        }
        let algorithm = match text("alg") {
            None => None,
            Some(name) => Some(Algorithm::by_name(name)?),
        };
        // A coordinate is as long as its field (RFC 7518 section 6.2.1.2).
        let point = |size: usize| {
            let (x, y) = (bytes("x")?, bytes("y")?);
            let sized = x.len() == size && y.len() == size;
            sized.then(|| [&[4][..], &x, &y].concat())
        };
        let material = match (text("kty")?, text("crv")) {
            // A secret in a set that is served by URL is a secret no longer.
            ("RSA", _) => bytes("n")
                .zip(bytes("e"))
                .map(|(n, e)| Material::Rsa { n, e }),
            ("EC", Some("P-256")) => point(32).map(Material::P256),
            ("EC", Some("P-384")) => point(48).map(Material::P384),
            ("OKP", Some("Ed25519")) => bytes("x").map(Material::Ed25519),
            _ => return None,
        };
        let id = text("kid").map(str::to_owned);
        let checked = material
            .ok_or_else(|| "a damaged key".to_owned())
            .and_then(|material| material.check().map(|()| material));
        Some(match checked {
            Ok(material) => Ok(Self {
                id,
                algorithm,
                material,
            }),
            Err(problem) => Err(format!("key {id:?}: {problem}")),
        })
    }

    fn of(material: Material) -> Self {
        Self {
            id: None,
            algorithm: None,
            material,
        }
    }

    /// True if this key can be used by the algorithm and has signed the message.
    pub(super) fn verifies(&self, algorithm: Algorithm, message: &[u8], signed: &[u8]) -> bool {
        use Algorithm as A;
        if self.algorithm.is_some_and(|only| only != algorithm) {
            return false;
        }
        let by = |with: &'static dyn signature::VerificationAlgorithm, key: &[u8]| {
            signature::UnparsedPublicKey::new(with, key)
                .verify(message, signed)
                .is_ok()
        };
        match (&self.material, algorithm) {
            (Material::Secret(secret), A::Hs256 | A::Hs384 | A::Hs512) => {
                let with = match algorithm {
                    A::Hs256 => hmac::HMAC_SHA256,
                    A::Hs384 => hmac::HMAC_SHA384,
                    _ => hmac::HMAC_SHA512,
                };
                hmac::verify(&hmac::Key::new(with, secret), message, signed).is_ok()
            }
            (Material::Rsa { n, e }, _) => {
                let with = match algorithm {
                    A::Rs256 => &signature::RSA_PKCS1_2048_8192_SHA256,
                    A::Rs384 => &signature::RSA_PKCS1_2048_8192_SHA384,
                    A::Rs512 => &signature::RSA_PKCS1_2048_8192_SHA512,
                    A::Ps256 => &signature::RSA_PSS_2048_8192_SHA256,
                    A::Ps384 => &signature::RSA_PSS_2048_8192_SHA384,
                    A::Ps512 => &signature::RSA_PSS_2048_8192_SHA512,
                    _ => return false,
                };
                signature::RsaPublicKeyComponents { n, e }
                    .verify(with, message, signed)
                    .is_ok()
            }
            (Material::P256(key), A::Es256) => by(&signature::ECDSA_P256_SHA256_FIXED, key),
            (Material::P384(key), A::Es384) => by(&signature::ECDSA_P384_SHA384_FIXED, key),
            (Material::Ed25519(key), A::EdDsa) => by(&signature::ED25519, key),
            _ => false,
        }
    }
}

impl Material {
    fn check(&self) -> Result<(), String> {
        match self {
            Self::Rsa { n, e } => {
                let leading = n.first().map_or(0, |first| first.leading_zeros() as usize);
                let bits = n.len() * 8 - leading;
                if !(2048..=8192).contains(&bits) || e.is_empty() {
                    return Err(format!("expected RSA of 2048 to 8192 bits, got {bits}"));
                }
                Ok(())
            }
            Self::P256(point) if point.len() != 65 || point[0] != 4 => {
                Err("expected an uncompressed P-256 point".to_owned())
            }
            Self::P384(point) if point.len() != 97 || point[0] != 4 => {
                Err("expected an uncompressed P-384 point".to_owned())
            }
            Self::Ed25519(point) if point.len() != 32 => {
                Err("expected an Ed25519 key of 32 bytes".to_owned())
            }
            _ => Ok(()),
        }
    }
}

/// The keys that tokens may be signed with.
#[derive(Debug, Clone, Default)]
pub struct KeySet(Vec<Key>);

impl KeySet {
    /// A set of these keys.
    pub fn new(keys: Vec<Key>) -> Self {
        Self(keys)
    }

    /// Reads a JSON Web Key Set. Keys for encryption and of unknown kinds are left out, as RFC 7517 section 5 asks.
    ///
    /// # Errors
    /// What is wrong, if it is no set, a key is damaged, or none is left.
    pub fn jwks(text: &[u8]) -> Result<Self, String> {
        let set: Value = serde_json::from_slice(text).map_err(|error| error.to_string())?;
        let keys = set.get("keys").and_then(Value::as_array);
        let keys = keys.ok_or("expected a JSON object with a list \"keys\"")?;
        let keys = keys.iter().filter_map(Key::jwk).take(MAX_KEYS);
        let keys = keys.collect::<Result<Vec<Key>, String>>()?;
        if keys.is_empty() {
            return Err("expected at least one key for signatures".to_owned());
        }
        Ok(Self(keys))
    }

    /// True if a key has this id.
    pub fn has(&self, id: &str) -> bool {
        self.0.iter().any(|key| key.id.as_deref() == Some(id))
    }

    /// The keys a token may be signed with: those of its key id and those without one; all if it names none.
    pub(super) fn candidates<'a>(&'a self, id: Option<&'a str>) -> impl Iterator<Item = &'a Key> {
        self.0.iter().filter(move |key| match (&key.id, id) {
            (Some(own), Some(id)) => own == id,
            _ => true,
        })
    }
}
