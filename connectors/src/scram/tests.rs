//! The example of RFC 7677, a client of our own, and messages that must fail.

use super::*;

struct Users(Vec<(&'static str, ScramKeys, bool)>);

impl KeySource for Users {
    fn scram_keys(&self, username: &str) -> Option<(ScramKeys, bool)> {
        let mut users = self.0.iter();
        users
            .find(|(name, ..)| *name == username)
            .map(|(_, keys, superuser)| (keys.clone(), *superuser))
    }
}

fn shared() -> Shared {
    let salt = base64_bytes("W22ZaJ0SNY7soEsUEjb6gQ==").expect("base64");
    let pencil = derive(b"pencil", &salt, 4096).expect("in bounds");
    let root = derive(b"root,=pw", b"0123456789abcdef", 5000).expect("in bounds");
    let users = Users(vec![("user", pencil, false), ("r=o,t", root, true)]);
    Shared {
        sources: vec![Arc::new(users)],
        secret: hmac::Key::new(hmac::HMAC_SHA256, b"secret"),
        iterations: 4096,
    }
}

/// RFC 7677 section 3.
#[test]
fn the_example_of_the_rfc_passes() {
    let shared = shared();
    let client_first = "n,,n=user,r=rOprNGfwEbeRWgbNEkqO";
    let random = "%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0";
    let (pending, answer) = first(client_first, random, &shared).expect("accepted");
    assert_eq!(
        answer,
        "r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096"
    );
    let client_final = "c=biws,r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,\
                        p=dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ=";
    match last(client_final, pending) {
        Ok(ExchangeStep::Success { data, grant }) => {
            let expected = b"v=6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4=";
            assert_eq!(data.as_deref(), Some(&expected[..]));
            assert_eq!(grant.username.as_deref(), Some("user"));
        }
        other => panic!("{other:?}"),
    }
}

/// A client: its first message, and the last one to a server's first.
fn answer(first_bare: &str, header: &str, server_first: &str, password: &str) -> String {
    let attribute = |name: &str| {
        let found = server_first.split(',').find_map(|a| a.strip_prefix(name));
        found.expect("an attribute").to_owned()
    };
    let salt = base64_bytes(&attribute("s=")).expect("base64");
    let rounds = NonZeroU32::new(attribute("i=").parse().expect("a number")).expect("not 0");
    let mut salted = [0; 32];
    let algorithm = pbkdf2::PBKDF2_HMAC_SHA256;
    pbkdf2::derive(algorithm, rounds, &salt, password.as_bytes(), &mut salted);
    let client_key = sign(&salted, b"Client Key");
    let bare = format!("c={},r={}", base64_text(header.as_bytes()), attribute("r="));
    let message = format!("{first_bare},{server_first},{bare}");
    let signature = sign(&sha256(&client_key), message.as_bytes());
    let proof: Vec<u8> = client_key
        .iter()
        .zip(signature)
        .map(|(a, b)| a ^ b)
        .collect();
    format!("{bare},p={}", base64_text(&proof))
}

fn step(exchange: &mut dyn Exchange, data: &str) -> ExchangeStep {
    let waker = std::task::Waker::noop();
    let mut step = exchange.step(data.as_bytes());
    match step
        .as_mut()
        .poll(&mut std::task::Context::from_waker(waker))
    {
        std::task::Poll::Ready(step) => step,
        std::task::Poll::Pending => panic!("nothing to wait for"),
    }
}

fn begin() -> Box<dyn Exchange> {
    Box::new(ScramExchange {
        shared: Arc::new(shared()),
        state: State::First,
    })
}

/// Runs a whole exchange; `Ok` is the grant.
fn login(header: &str, bare: &str, password: &str) -> Result<Grant, ReasonCode> {
    let mut exchange = begin();
    let server_first = match step(&mut *exchange, &format!("{header}{bare}")) {
        ExchangeStep::Continue(data) => String::from_utf8(data).expect("text"),
        ExchangeStep::Fail(code) => return Err(code),
        other => panic!("{other:?}"),
    };
    match step(
        &mut *exchange,
        &answer(bare, header, &server_first, password),
    ) {
        ExchangeStep::Success { grant, .. } => Ok(grant),
        ExchangeStep::Fail(code) => Err(code),
        other => panic!("{other:?}"),
    }
}

#[test]
fn right_passwords_get_in_and_others_do_not() {
    let grant = login("n,,", "n=user,r=abc", "pencil").expect("right");
    assert!(!grant.superuser);
    let grant = login("y,,", "n=r=3Do=2Ct,r=abc", "root,=pw").expect("right");
    assert!(grant.superuser);
    assert_eq!(grant.username.as_deref(), Some("r=o,t"));
    assert!(login("n,a=user,", "n=user,r=abc", "pencil").is_ok());
    for (header, bare, password) in [
        ("n,,", "n=user,r=abc", "pencil2"),
        ("n,,", "n=user,r=abc", ""),
        ("n,,", "n=nobody,r=abc", "pencil"),
        ("n,,", "n=nobody,r=abc", ""),
        ("n,a=root,", "n=user,r=abc", "pencil"),
        ("p=tls-unique,,", "n=user,r=abc", "pencil"),
        ("n,,", "m=ext,n=user,r=abc", "pencil"),
        ("n,,", "n=user", "pencil"),
        ("n,,", "n=user,r=", "pencil"),
        ("n,,", "n=,r=abc", "pencil"),
        ("n,,", "n=us=er,r=abc", "pencil"),
        ("n,,", "n=us=2cer,r=abc", "pencil"),
        ("", "", ""),
        ("n", "", ""),
    ] {
        assert_eq!(
            login(header, bare, password).err(),
            Some(REFUSED),
            "{header}{bare}"
        );
    }
}

#[test]
fn unknown_users_look_like_known_ones() {
    let ask = |name: &str, shared: &Shared| {
        let (_, answer) = first(&format!("n,,n={name},r=x"), "y", shared).expect("answered");
        answer
    };
    let shared = shared();
    let (one, again) = (ask("nobody", &shared), ask("nobody", &shared));
    assert_eq!(one, again);
    assert_ne!(one, ask("nobody2", &shared));
    assert_eq!(one.len(), ask("user", &shared).len());
}

#[test]
fn a_final_message_must_fit_its_exchange() {
    let header = "n,,";
    let bare = "n=user,r=abc";
    let fresh = || {
        let mut exchange = begin();
        match step(&mut *exchange, &format!("{header}{bare}")) {
            ExchangeStep::Continue(data) => (exchange, String::from_utf8(data).expect("text")),
            other => panic!("{other:?}"),
        }
    };
    let (mut first_one, challenge) = fresh();
    let good = answer(bare, header, &challenge, "pencil");
    // Replayed into another exchange.
    let (mut other, _) = fresh();
    assert!(matches!(step(&mut *other, &good), ExchangeStep::Fail(_)));
    // A failed exchange does not go on.
    assert!(matches!(step(&mut *other, &good), ExchangeStep::Fail(_)));
    for change in [
        |text: &str| text.replace("c=biws", "c=eSws"),
        |text: &str| text.replace("r=abc", "r=abd"),
        |text: &str| text.replace(",p=", ",x=1,p="),
        |text: &str| text[..text.len() - 8].to_owned(),
        |text: &str| format!("{text},p={}", "A".repeat(5000)),
    ] {
        let (mut exchange, challenge) = fresh();
        let changed = change(&answer(bare, header, &challenge, "pencil"));
        assert!(
            matches!(step(&mut *exchange, &changed), ExchangeStep::Fail(_)),
            "{changed}"
        );
    }
    assert!(matches!(
        step(&mut *first_one, &good),
        ExchangeStep::Success { .. }
    ));
    assert!(matches!(
        step(&mut *first_one, &good),
        ExchangeStep::Fail(_)
    ));
}

#[test]
fn keys_read_back_as_they_were_written() {
    let keys = new_keys(b"x", 4096).expect("in bounds");
    let text = keys_text(&keys);
    let behind = text.strip_prefix("SCRAM-SHA-256$").expect("the method");
    assert_eq!(parse_keys(behind), Some(keys));
    assert!(new_keys(b"x", 4095).is_err());
    for bad in [
        "",
        "4096",
        "4096:AAAA$A:A",
        "1:AAAAAAAAAAAA$A:B",
        &behind[..behind.len() - 4],
    ] {
        assert_eq!(parse_keys(bad), None, "{bad}");
    }
}
