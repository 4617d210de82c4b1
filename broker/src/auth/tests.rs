//! The chain's semantics as a table, its time limits, and who may take over a session.

use std::future::{pending, ready};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use nightjar_mqtt::ReasonCode;

use super::{AuthChain, AuthSettings, Owner, Refusal, Refused, Timer};
use crate::access::{
    AuthAnswer, AuthRequest, Authenticator, BoxFuture, ClientInfo, Exchange, ExchangeMethod,
    ExchangeStep, Grant, Secret,
};
use crate::acl::tests::client;

/// One that gives a fixed answer; `None` never answers.
struct Fixed {
    answer: Option<AuthAnswer>,
    limited: bool,
    asked: AtomicUsize,
}

fn link(answer: Option<AuthAnswer>) -> Arc<Fixed> {
    Arc::new(Fixed {
        answer,
        limited: true,
        asked: AtomicUsize::new(0),
    })
}

impl Authenticator for Fixed {
    fn name(&self) -> &str {
        "fixed"
    }

    fn authenticate<'a>(&'a self, request: &'a AuthRequest) -> BoxFuture<'a, AuthAnswer> {
        assert!(!format!("{request:?}").contains("hunter2"));
        self.asked.fetch_add(1, Ordering::Relaxed);
        match self.answer.clone() {
            Some(answer) => Box::pin(ready(answer)),
            None => Box::pin(pending()),
        }
    }

    fn time_limit(&self) -> Option<Duration> {
        self.limited.then_some(Duration::from_secs(5))
    }
}

/// A timer whose time is over when it is first looked at.
struct AtOnce;

impl Timer for AtOnce {
    fn sleep(&self, time: Duration) -> BoxFuture<'static, ()> {
        assert_eq!(time, Duration::from_secs(5));
        Box::pin(ready(()))
    }
}

fn allow() -> Option<AuthAnswer> {
    Some(AuthAnswer::Allow(Grant::default()))
}

fn deny() -> Option<AuthAnswer> {
    Some(AuthAnswer::Deny(ReasonCode::BadUserNameOrPassword))
}

fn ignore() -> Option<AuthAnswer> {
    Some(AuthAnswer::Ignore)
}

fn down() -> Option<AuthAnswer> {
    Some(AuthAnswer::Unavailable("no route".to_owned()))
}

fn chain(settings: AuthSettings, links: &[Arc<Fixed>]) -> AuthChain {
    let links = links
        .iter()
        .map(|l| Arc::clone(l) as Arc<dyn Authenticator>);
    AuthChain::new(settings, links.collect(), Vec::new(), Arc::new(AtOnce))
}

fn now<T>(future: impl Future<Output = T>) -> T {
    match Box::pin(future)
        .as_mut()
        .poll(&mut Context::from_waker(Waker::noop()))
    {
        Poll::Ready(value) => value,
        Poll::Pending => panic!("not ready"),
    }
}

fn connect(chain: &AuthChain, named: bool, loopback: bool) -> Result<ClientInfo, Refused> {
    let client = ClientInfo {
        username: named.then(|| "ann".into()),
        loopback,
        ..client()
    };
    now(chain.authenticate(AuthRequest {
        client,
        password: Some(Secret(Box::from(*b"hunter2"))),
    }))
}

type Code = Result<(), ReasonCode>;
const OK: Code = Ok(());
const BAD_USER: Code = Err(ReasonCode::BadUserNameOrPassword);
const NOT_AUTHORIZED: Code = Err(ReasonCode::NotAuthorized);
const UNAVAILABLE: Code = Err(ReasonCode::ServerUnavailable);

fn settings(allow_anonymous: Option<bool>, fallthrough_anonymous: bool) -> AuthSettings {
    AuthSettings {
        allow_anonymous,
        fallthrough_anonymous,
        bind_client_id: false,
    }
}

#[test]
fn answers_allow_deny_ignore_and_unavailable_do_what_they_say() {
    // The links' answers; the code; how many links were asked.
    let table = [
        (vec![allow()], OK, 1),
        (vec![deny(), allow()], BAD_USER, 1),
        (vec![ignore(), allow()], OK, 2),
        (vec![allow(), deny()], OK, 1),
        (vec![down(), allow()], UNAVAILABLE, 1),
        (vec![ignore(), down(), allow()], UNAVAILABLE, 2),
        (vec![None, allow()], UNAVAILABLE, 1),
        (vec![ignore(), ignore()], BAD_USER, 2),
        (
            vec![Some(AuthAnswer::Deny(ReasonCode::Banned))],
            Err(ReasonCode::Banned),
            1,
        ),
    ];
    for (row, (answers, expected, asked)) in table.into_iter().enumerate() {
        let links: Vec<_> = answers.into_iter().map(link).collect();
        let chain = chain(AuthSettings::default(), &links);
        let got = connect(&chain, true, true).map(drop).map_err(|r| r.code);
        assert_eq!(got, expected, "row {row}");
        let sum: usize = links.iter().map(|l| l.asked.load(Ordering::Relaxed)).sum();
        assert_eq!(sum, asked, "row {row}");
    }
}

#[test]
fn the_anonymous_rule() {
    // allow_anonymous, fallthrough_anonymous, a chain that ignores, user name, loopback, code
    let (yes, no) = (Some(true), Some(false));
    let table = [
        // Without a chain: loopback only, unless the setting says otherwise.
        (None, false, false, false, true, OK),
        (None, false, false, true, true, OK),
        (None, false, false, false, false, NOT_AUTHORIZED),
        (None, false, false, true, false, NOT_AUTHORIZED),
        (yes, false, false, false, false, OK),
        (yes, false, false, true, false, OK),
        (no, false, false, false, true, NOT_AUTHORIZED),
        (no, false, false, true, true, NOT_AUTHORIZED),
        // With one: unset is false, loopback or not.
        (None, false, true, false, true, NOT_AUTHORIZED),
        (no, false, true, false, true, NOT_AUTHORIZED),
        (yes, false, true, false, false, OK),
        // A user name that nobody knows.
        (None, false, true, true, true, BAD_USER),
        (yes, false, true, true, true, BAD_USER),
        (no, false, true, true, true, BAD_USER),
        (None, true, true, true, false, OK),
        (yes, true, true, true, false, OK),
        (no, true, true, true, false, BAD_USER),
        // The switch is for user names alone.
        (None, true, true, false, false, NOT_AUTHORIZED),
    ];
    for (row, (allow, fallthrough, chained, named, loopback, expected)) in
        table.into_iter().enumerate()
    {
        let links = if chained {
            vec![link(ignore())]
        } else {
            vec![]
        };
        let chain = chain(settings(allow, fallthrough), &links);
        let got = connect(&chain, named, loopback);
        if let Ok(client) = &got {
            assert!(!client.superuser && client.rules.is_none());
        }
        assert_eq!(got.map(drop).map_err(|r| r.code), expected, "row {row}");
    }
}

#[test]
fn a_link_that_bounds_itself_is_waited_for() {
    let mut slow = link(None);
    Arc::get_mut(&mut slow).expect("new").limited = false;
    let chain = chain(AuthSettings::default(), &[slow]);
    let request = AuthRequest {
        client: client(),
        password: None,
    };
    let mut asked = Box::pin(chain.authenticate(request));
    let mut context = Context::from_waker(Waker::noop());
    assert!(asked.as_mut().poll(&mut context).is_pending());
}

#[test]
fn a_grant_completes_the_client() {
    let grant = Grant {
        superuser: true,
        rules: Some(Arc::default()),
        username: Some("from-certificate".into()),
        expires_at: None,
    };
    let chain = chain(
        AuthSettings::default(),
        &[link(Some(AuthAnswer::Allow(grant)))],
    );
    let client = connect(&chain, true, false).expect("allowed");
    assert_eq!(client.username.as_deref(), Some("from-certificate"));
    assert!(client.superuser && client.rules.is_some());
}

#[test]
fn refusals_are_counted_by_reason() {
    let chain = chain(AuthSettings::default(), &[link(ignore())]);
    for _ in 0..3 {
        connect(&chain, true, true).expect_err("unknown");
    }
    connect(&chain, false, true).expect_err("anonymous");
    chain.replace(AuthSettings::default(), vec![link(None)], Vec::new());
    connect(&chain, true, true).expect_err("slow");
    chain.replace(AuthSettings::default(), vec![link(down())], Vec::new());
    connect(&chain, true, true).expect_err("down");
    chain.replace(AuthSettings::default(), vec![link(deny())], Vec::new());
    connect(&chain, true, true).expect_err("wrong password");
    chain.replace(AuthSettings::default(), vec![link(allow())], Vec::new());
    connect(&chain, true, true).expect("right");
    chain.replace(settings(Some(true), false), Vec::new(), Vec::new());
    connect(&chain, false, false).expect("anonymous");
    let counters = chain.counters();
    let refused: Vec<u64> = Refusal::ALL.iter().map(|r| counters.refused(*r)).collect();
    assert_eq!(refused, [1, 3, 1, 1, 1, 0, 0]);
    assert_eq!((counters.authenticated(), counters.anonymous()), (1, 1));
}

#[test]
fn a_bound_client_id_stays_with_its_user_and_certificate() {
    let with = |user: Option<&str>, cert: Option<&str>| ClientInfo {
        username: user.map(Into::into),
        cert_subject: cert.map(Into::into),
        ..client()
    };
    let clients = [
        with(Some("ann"), None),
        with(Some("bob"), None),
        with(None, None),
        with(Some("ann"), Some("CN=ann")),
        with(Some("ann"), Some("CN=bob")),
    ];
    for bind in [true, false] {
        let settings = AuthSettings {
            bind_client_id: bind,
            ..AuthSettings::default()
        };
        let chain = chain(settings, &[]);
        for (i, first) in clients.iter().enumerate() {
            for (j, second) in clients.iter().enumerate() {
                let got = chain.may_take_over(&Owner::from(first), second);
                assert_eq!(got.is_ok(), !bind || i == j, "{i} {j} {bind}");
                if let Err(refused) = got {
                    assert_eq!(refused.code, ReasonCode::NotAuthorized);
                }
            }
        }
    }
}

#[test]
fn enhanced_authentication_goes_by_the_methods_name() {
    struct Echo;
    impl Exchange for Echo {
        fn step<'a>(&'a mut self, data: &'a [u8]) -> BoxFuture<'a, ExchangeStep> {
            Box::pin(ready(ExchangeStep::Continue(data.to_vec())))
        }
    }
    impl ExchangeMethod for Echo {
        fn method(&self) -> &str {
            "ECHO"
        }
        fn begin(&self, _: &ClientInfo) -> Box<dyn Exchange> {
            Box::new(Self)
        }
    }
    let chain = AuthChain::new(
        AuthSettings::default(),
        Vec::new(),
        vec![Arc::new(Echo)],
        Arc::new(AtOnce),
    );
    let mut exchange = chain.exchange("ECHO", &client()).expect("known");
    assert!(matches!(now(exchange.step(b"x")), ExchangeStep::Continue(data) if data == b"x"));
    for unknown in ["echo", "", "SCRAM-SHA-256"] {
        let refused = chain.exchange(unknown, &client()).err().expect("unknown");
        assert_eq!(refused.code, ReasonCode::BadAuthenticationMethod);
    }
}
