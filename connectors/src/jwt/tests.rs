//! Tokens of another implementation, tokens of our own, and tokens that must not hold.

use std::sync::LazyLock;
use std::task::{Context, Poll, Waker};

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use nightjar_broker::access::{Action, Verdict};
use nightjar_mqtt::QoS;
use ring::hmac;
use serde_json::json;

use super::*;
use crate::testing::request;

static VECTORS: LazyLock<Value> = LazyLock::new(|| {
    let text = include_str!("../../tests/jwt-vectors.json");
    serde_json::from_str(text).expect("JSON")
});

const NOW: f64 = 1_800_000_000.0;

fn text<'a>(value: &'a Value, name: &str) -> &'a str {
    value[name].as_str().expect("a string")
}

fn pem(name: &str) -> Key {
    Key::pem(text(&VECTORS["keys"], name)).expect("a key")
}

fn jwt(claims: &[(&str, &str)], keys: Vec<Key>) -> Jwt {
    let claims = claims.iter().copied();
    let settings = JwtSettings::default().require(claims).expect("valid");
    Jwt::new(settings, Arc::new(Arc::new(KeySet::new(keys))))
}

fn ask(jwt: &Jwt, token: &str) -> AuthAnswer {
    let request = request(Some("ann"), Some(token));
    let mut answer = Box::pin(jwt.judge(&request, NOW));
    match answer
        .as_mut()
        .poll(&mut Context::from_waker(Waker::noop()))
    {
        Poll::Ready(answer) => answer,
        Poll::Pending => panic!("nothing to wait for"),
    }
}

fn allowed(jwt: &Jwt, token: &str) -> bool {
    matches!(ask(jwt, token), AuthAnswer::Allow(_))
}

fn ignored(jwt: &Jwt, token: &str) -> bool {
    matches!(ask(jwt, token), AuthAnswer::Ignore)
}

/// A token of our own, signed by a secret.
fn hs256(secret: &[u8], header: &Value, claims: &Value) -> String {
    let part = |value: &Value| URL_SAFE_NO_PAD.encode(value.to_string());
    let signed = format!("{}.{}", part(header), part(claims));
    let tag = hmac::sign(
        &hmac::Key::new(hmac::HMAC_SHA256, secret),
        signed.as_bytes(),
    );
    format!("{signed}.{}", URL_SAFE_NO_PAD.encode(tag))
}

fn claims_token(claims: &Value) -> String {
    hs256(b"secret", &json!({"alg": "HS256", "typ": "JWT"}), claims)
}

fn secret() -> Vec<Key> {
    vec![Key::secret(b"secret").expect("a secret")]
}

#[test]
fn tokens_of_another_implementation_hold_under_their_key_alone() {
    let set = KeySet::jwks(VECTORS["jwks"].to_string().as_bytes()).expect("a set");
    let by_set = Jwt::new(JwtSettings::default(), Arc::new(Arc::new(set)));
    let names = ["rsa", "rsa-pkcs1", "p256", "p384", "ed"];
    let mut seen = 0;
    for vector in VECTORS["tokens"].as_array().expect("a list") {
        let (key, token) = (text(vector, "key"), text(vector, "token"));
        assert!(allowed(&by_set, token), "{vector}");
        for name in names {
            let one = jwt(&[], vec![pem(name)]);
            let same = name == key || (name, key) == ("rsa-pkcs1", "rsa");
            assert_eq!(allowed(&one, token), same, "{name} {vector}");
        }
        // All of them together, without key ids.
        assert!(
            allowed(&jwt(&[], names.map(pem).to_vec()), token),
            "{vector}"
        );
        for at in [5, token.len() / 2, token.len() - 5] {
            let mut bytes = token.as_bytes().to_vec();
            bytes[at] = if bytes[at] == b'A' { b'B' } else { b'A' };
            let changed = String::from_utf8(bytes).expect("ASCII");
            assert!(!allowed(&by_set, &changed), "{vector} {at}");
        }
        seen += 1;
    }
    assert_eq!(seen, 9);
}

/// A public key taken for an HMAC secret, `none`, and a key used by an algorithm it is not for.
#[test]
fn the_token_does_not_choose_how_it_is_verified() {
    let public = text(&VECTORS["keys"], "rsa");
    let claims = json!({"sub": "ann"});
    let rsa = jwt(&[], vec![pem("rsa")]);
    let forged = hs256(public.as_bytes(), &json!({"alg": "HS256"}), &claims);
    assert!(matches!(ask(&rsa, &forged), AuthAnswer::Deny(_)));
    let part = |value: &Value| URL_SAFE_NO_PAD.encode(value.to_string());
    for alg in ["none", "None", "NONE", "HS255", "", "RS1"] {
        let unsigned = format!("{}.{}.", part(&json!({"alg": alg})), part(&claims));
        assert!(matches!(ask(&rsa, &unsigned), AuthAnswer::Deny(_)), "{alg}");
        assert!(!allowed(&jwt(&[], secret()), &unsigned), "{alg}");
    }
    let critical = hs256(
        b"secret",
        &json!({"alg": "HS256", "crit": ["x"], "x": 1}),
        &claims,
    );
    assert!(!allowed(&jwt(&[], secret()), &critical));
    let good = hs256(b"secret", &json!({"alg": "HS256"}), &claims);
    assert!(allowed(&jwt(&[], secret()), &good));
    // Another algorithm's name over the same signature.
    let renamed = good.replacen(
        &part(&json!({"alg": "HS256"})),
        &part(&json!({"alg": "HS512"})),
        1,
    );
    assert!(!allowed(&jwt(&[], secret()), &renamed));
}

#[test]
fn expired_and_future_tokens_do_not_hold() {
    let now = NOW as u64;
    let table = [
        (json!({}), true),
        (json!({"exp": now + 1}), true),
        (json!({"exp": now}), false),
        (json!({"exp": now - 1}), false),
        (json!({"exp": NOW + 0.5}), true),
        (json!({"exp": "never"}), false),
        (json!({"exp": null}), false),
        (json!({"exp": -1}), false),
        (json!({"exp": 0}), false),
        (json!({"nbf": now}), true),
        (json!({"nbf": now + 1}), false),
        (json!({"iat": now}), true),
        (json!({"iat": now + 60}), false),
        (json!({"iat": [now]}), false),
    ];
    let strict = jwt(&[], secret());
    for (claims, expected) in &table {
        assert_eq!(
            allowed(&strict, &claims_token(claims)),
            *expected,
            "{claims}"
        );
    }
    let settings = JwtSettings {
        leeway: 5,
        ..JwtSettings::default()
    };
    let lenient = Jwt::new(settings, Arc::new(Arc::new(KeySet::new(secret()))));
    assert!(allowed(
        &lenient,
        &claims_token(&json!({"exp": now - 4, "nbf": now + 5}))
    ));
    assert!(!allowed(&lenient, &claims_token(&json!({"exp": now - 5}))));
    assert!(!allowed(&lenient, &claims_token(&json!({"nbf": now + 6}))));
}

#[test]
fn claims_must_be_what_the_client_says_of_itself() {
    let strict = jwt(
        &[("sub", "${username}"), ("id", "%c"), ("aud", "mqtt")],
        secret(),
    );
    let good = json!({"sub": "ann", "id": "dev1", "aud": ["x", "mqtt"]});
    let table = [
        (json!({}), true),
        (json!({"aud": "mqtt"}), true),
        (json!({"sub": "bob"}), false),
        (json!({"sub": ["bob", "x"]}), false),
        (json!({"sub": null}), false),
        (json!({"sub": {"ann": 1}}), false),
        (json!({"id": "dev2"}), false),
        (json!({"aud": "mqtt2"}), false),
        (json!({"aud": []}), false),
    ];
    for (change, expected) in table {
        let mut claims = good.clone();
        let change = change.as_object().expect("an object").clone();
        claims.as_object_mut().expect("an object").extend(change);
        assert_eq!(
            allowed(&strict, &claims_token(&claims)),
            expected,
            "{claims}"
        );
    }
    assert!(!allowed(&strict, &claims_token(&json!({"sub": "ann"}))));
    // A client without the value cannot match a token without the claim.
    let by_cert = jwt(&[("cn", "${cert_cn}")], secret());
    assert!(!allowed(&by_cert, &claims_token(&json!({"cn": ""}))));
    assert!(JwtSettings::default().require([("a", "${nope}")]).is_err());
}

#[test]
fn what_is_no_token_is_for_the_next_authenticator() {
    let one = jwt(&[], secret());
    for other in [
        "",
        "hunter2",
        "a.b",
        "a.b.c",
        "a.b.c.d",
        "e30.e30.",
        "W10.e30.",
        "...",
        "\u{1F980}..",
    ] {
        assert!(ignored(&one, other), "{other}");
    }
    let claims = json!({"sub": "ann"});
    // A key id that is none of ours: some other issuer's.
    let set = KeySet::jwks(VECTORS["jwks"].to_string().as_bytes()).expect("a set");
    let by_set = Jwt::new(JwtSettings::default(), Arc::new(Arc::new(set)));
    let foreign = hs256(b"x", &json!({"alg": "HS256", "kid": "theirs"}), &claims);
    assert!(ignored(&by_set, &foreign));
    let huge = format!("{}.{}", claims_token(&claims), "A".repeat(20_000));
    assert!(!allowed(&one, &huge));
    let long = claims_token(&json!({"sub": "A".repeat(20_000)}));
    assert!(matches!(ask(&one, &long), AuthAnswer::Deny(_)));
    let none = request(Some("ann"), None);
    let mut answer = Box::pin(one.judge(&none, NOW));
    let answer = answer
        .as_mut()
        .poll(&mut Context::from_waker(Waker::noop()));
    assert!(matches!(answer, Poll::Ready(AuthAnswer::Ignore)));
}

#[test]
fn superuser_and_rules_come_with_the_token() {
    let one = jwt(&[], secret());
    let grant = |claims: Value| match ask(&one, &claims_token(&claims)) {
        AuthAnswer::Allow(grant) => Some(grant),
        _ => None,
    };
    let plain = grant(json!({})).expect("allowed");
    assert!(!plain.superuser && plain.rules.is_none());
    assert!(
        grant(json!({"is_superuser": true}))
            .expect("allowed")
            .superuser
    );
    assert!(
        !grant(json!({"is_superuser": false}))
            .expect("allowed")
            .superuser
    );
    let rules = grant(json!({"acl": {"pub": ["up/${clientid}"]}}))
        .expect("allowed")
        .rules;
    let rules = rules.expect("rules");
    let publish = |topic| {
        let action = Action::Publish {
            topic,
            qos: QoS::AtMostOnce,
            retain: false,
        };
        rules.judge(&crate::testing::client(), action)
    };
    assert_eq!(publish("up/dev1"), Verdict::Allow);
    assert_eq!(publish("up/dev2"), Verdict::NoMatch);
    // What cannot be understood must not be guessed.
    assert!(grant(json!({"is_superuser": "yes"})).is_none());
    assert!(grant(json!({"acl": {"publish": ["a/#/b"]}})).is_none());
    assert!(grant(json!({"acl": "all"})).is_none());
}

#[test]
fn bad_keys_are_refused_with_a_reason() {
    let table = [
        ("", "expected -----BEGIN PUBLIC KEY-----"),
        (
            "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----",
            "got a private one",
        ),
        (
            "-----BEGIN PUBLIC KEY-----\nAAAA\n-----END PUBLIC KEY-----",
            "expected a key of RSA",
        ),
        (
            text(&VECTORS["keys"], "rsa-1024"),
            "RSA of 2048 to 8192 bits, got 1024",
        ),
    ];
    for (pem, expected) in table {
        let error = Key::pem(pem).expect_err(expected).to_string();
        assert!(error.contains(expected), "{error}");
    }
    assert!(Key::secret(b"").is_err());
    for bad in [
        "",
        "[]",
        "{}",
        r#"{"keys":[]}"#,
        r#"{"keys":[{"kty":"oct","k":"AAAA"}]}"#,
        r#"{"keys":[{"kty":"EC","crv":"P-256","x":"AA","y":"AA"}]}"#,
    ] {
        assert!(KeySet::jwks(bad.as_bytes()).is_err(), "{bad}");
    }
}

/// Every prefix and every changed byte of a key file: no panic, and never a key from a shorter text.
#[test]
fn damaged_key_files_do_not_break_the_reader() {
    for name in ["rsa", "p256", "ed"] {
        let text = text(&VECTORS["keys"], name);
        let body: String = text.lines().filter(|l| !l.starts_with('-')).collect();
        let good = crate::encoding::base64_bytes(&body).expect("base64");
        assert!(der::public_key(&good).is_some());
        for end in 0..good.len() {
            assert_eq!(der::public_key(&good[..end]), None, "{name} {end}");
        }
        for at in 0..good.len() {
            for value in [0, 0x7F, 0x80, 0x81, 0x82, 0xFF] {
                let mut changed = good.clone();
                changed[at] = value;
                let _ = der::public_key(&changed);
            }
        }
    }
}
