//! What fuzz targets and the bounded runs of the unit tests assert of parsers of what servers and clients send. Not part
//! of the crate's interface.

#[cfg(feature = "http")]
pub use crate::http::fuzz_answer as http_answer;
#[cfg(feature = "ldap")]
pub use crate::ldap::fuzz_answer as ldap_answer;
#[cfg(feature = "mongodb")]
pub use crate::mongodb::fuzz_answer as mongodb_answer;

/// Any bytes as a key set: keys or an error; no key of it is a secret.
#[cfg(feature = "jwt")]
pub fn jwks(bytes: &[u8]) {
    if let Ok(keys) = crate::jwt::KeySet::jwks(bytes) {
        let shown = format!("{keys:?}");
        assert!(
            !shown.contains("kind: \"secret\""),
            "a key set that is served has no secrets"
        );
    }
}

/// Any text as a token for a key that has signed none: nobody is let in, whatever it claims.
#[cfg(feature = "jwt")]
pub fn token(text: &str) {
    use std::sync::Arc;
    use std::task::{Context, Poll, Waker};

    use nightjar_broker::access::{
        AuthAnswer, AuthRequest, Authenticator, ClientInfo, Protocol, Secret,
    };

    use crate::jwt::{Jwt, JwtSettings, Key, KeySet};

    let key = Key::secret(b"a secret that has signed nothing").expect("long enough");
    let jwt = Jwt::new(
        JwtSettings::default(),
        Arc::new(Arc::new(KeySet::new(vec![key]))),
    );
    let mqtt = Protocol::Mqtt(nightjar_mqtt::ProtocolVersion::V5);
    let request = AuthRequest {
        client: ClientInfo::new("dev1", ([10, 0, 0, 7], 50000).into(), "tcp:default", mqtt),
        password: Some(Secret(text.as_bytes().into())),
    };
    let mut answer = jwt.authenticate(&request);
    match answer
        .as_mut()
        .poll(&mut Context::from_waker(Waker::noop()))
    {
        Poll::Ready(AuthAnswer::Deny(_) | AuthAnswer::Ignore) => {}
        other => panic!("{other:?} for {text:?}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::Noise;

    /// Changed copies of these, the same ones each time.
    fn changed(good: &[&[u8]], rounds: usize, mut check: impl FnMut(&[u8])) {
        let mut noise = Noise::new(23);
        for round in 0..rounds {
            let mut bytes = good[round % good.len()].to_vec();
            check(&bytes);
            for _ in 0..=noise.below(4) {
                let at = noise.below(bytes.len());
                match noise.below(4) {
                    0 => bytes.truncate(at.max(1)),
                    1 => bytes.insert(at, noise.byte()),
                    2 => bytes[at] = b"{}[]\",:.-"[noise.below(9)],
                    _ => bytes[at] = noise.byte(),
                }
            }
            check(&bytes);
        }
    }

    #[test]
    #[cfg(feature = "http")]
    fn answers_of_web_services() {
        let good: [&[u8]; 4] = [
            br#"{"result":"allow","is_superuser":false,"acl":[{"permission":"allow","action":"publish","topic":"a/#"}]}"#,
            br#"{"result":"deny"}"#,
            b"ignore",
            br#"{"result":"allow","acl":{"pub":["a"],"sub":["b/+"],"all":[]}}"#,
        ];
        changed(&good, 50_000, |bytes| {
            for (status, json) in [
                (200, true),
                (200, false),
                (204, false),
                (403, true),
                (302, true),
                (500, true),
            ] {
                http_answer(status, json, bytes);
            }
        });
    }

    #[test]
    #[cfg(feature = "jwt")]
    fn key_sets() {
        let good: [&[u8]; 2] = [
            br#"{"keys":[{"kty":"EC","crv":"P-256","kid":"a","x":"MKBCTNIcKUSDii11ySs3526iDZ8AiTo7Tu6KPAqv7D4","y":"4Etl6SRW2YiLUrN5vfvVHuhp7x8PxltmWWlbbM4IFyM"}]}"#,
            br#"{"keys":[{"kty":"oct","k":"c2VjcmV0"},{"kty":"OKP","crv":"Ed25519","x":"11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"}]}"#,
        ];
        changed(&good, 50_000, jwks);
    }

    #[test]
    #[cfg(feature = "jwt")]
    fn tokens() {
        let good: [&[u8]; 3] = [
            b"eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiJhbm4ifQ.AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA",
            b"eyJhbGciOiJub25lIn0.eyJzdWIiOiJhbm4ifQ.",
            b"eyJhbGciOiJSUzI1NiIsImtpZCI6ImEifQ.e30.AAAA",
        ];
        changed(&good, 50_000, |bytes| {
            token(&String::from_utf8_lossy(bytes))
        });
    }
}
