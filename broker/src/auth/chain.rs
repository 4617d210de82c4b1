//! The chain: authenticators in order, then the anonymous rule.

use std::fmt;
use std::future::poll_fn;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::Poll;
use std::time::{Duration, Instant};

use arc_swap::ArcSwap;
use nightjar_mqtt::ReasonCode;

use super::counters::AuthCounters;
use crate::access::{
    AuthAnswer, AuthRequest, Authenticator, BoxFuture, ClientInfo, Exchange, ExchangeMethod, Grant,
};

/// The `[auth]` table but its chain.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct AuthSettings {
    /// `auth.allow_anonymous`. `None` (unset): from loopback addresses without a chain, nobody with one.
    pub allow_anonymous: Option<bool>,
    /// `auth.fallthrough_anonymous`: lets in a user name that no authenticator of the chain knows. The trap of older
    /// brokers; `allow_anonymous = false` closes it.
    pub fallthrough_anonymous: bool,
    /// `auth.bind_client_id`: a session's client identifier stays with its user. See [`AuthChain::may_take_over`].
    pub bind_client_id: bool,
}

/// Lets time pass for the chain's time limits: the runtime belongs to the gateway.
pub trait Timer: Send + Sync {
    /// A future that is ready after this time.
    fn sleep(&self, time: Duration) -> BoxFuture<'static, ()>;
}

/// Why a CONNECT was refused, for counters and logs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[repr(u8)]
#[non_exhaustive]
pub enum Refusal {
    /// An authenticator knows the user and refuses: a wrong password mostly.
    Denied,
    /// No authenticator knows the user name. The client cannot tell it from [`Refusal::Denied`].
    UnknownUser,
    /// No user name, and anonymous clients are not let in.
    Anonymous,
    /// A backend failed.
    Unavailable,
    /// A backend did not answer in its time.
    TimedOut,
    /// The Authentication Method is not configured.
    UnknownMethod,
    /// The client identifier belongs to the session of another user.
    BoundClientId,
}

impl Refusal {
    /// Every reason, in the order of their numbers.
    pub const ALL: [Self; 7] = [
        Self::Denied,
        Self::UnknownUser,
        Self::Anonymous,
        Self::Unavailable,
        Self::TimedOut,
        Self::UnknownMethod,
        Self::BoundClientId,
    ];

    /// The reason's label in metrics.
    pub fn label(self) -> &'static str {
        match self {
            Self::Denied => "denied",
            Self::UnknownUser => "unknown_user",
            Self::Anonymous => "anonymous",
            Self::Unavailable => "unavailable",
            Self::TimedOut => "timeout",
            Self::UnknownMethod => "unknown_method",
            Self::BoundClientId => "bound_client_id",
        }
    }
}

/// A refused CONNECT.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Refused {
    /// The code of CONNACK in 5.0; of 3.x the gateway makes the nearest one.
    pub code: ReasonCode,
    /// Why, for the log: the client is told the code only.
    pub reason: Refusal,
}

impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self.reason {
            Refusal::Denied => "an authenticator refused the credentials",
            Refusal::UnknownUser => "no authenticator knows the user name",
            Refusal::Anonymous => {
                "anonymous clients are not let in; set auth.allow_anonymous = true, or configure an authenticator \
                 ([[auth.chain]]) and send a user name"
            }
            Refusal::Unavailable => "an authenticator's backend failed",
            Refusal::TimedOut => "an authenticator's backend did not answer in time",
            Refusal::UnknownMethod => "the authentication method is not configured",
            Refusal::BoundClientId => {
                "the client identifier belongs to another user's session (auth.bind_client_id)"
            }
        })
    }
}

/// To whom a session belongs, kept with the session for `auth.bind_client_id`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Owner {
    /// The user name the session was made with.
    pub username: Option<Arc<str>>,
    /// The distinguished name of the certificate it was made with.
    pub certificate: Option<Arc<str>>,
}

impl From<&ClientInfo> for Owner {
    fn from(client: &ClientInfo) -> Self {
        Self {
            username: client.username.clone(),
            certificate: client.cert_subject.clone(),
        }
    }
}

/// All of authentication: one for the process, shared by every connection.
///
/// Authenticators are asked in order. Allow, deny and unavailable end the chain; ignore asks the next. Where all
/// ignore, a CONNECT without user name falls to the anonymous rule, one with a user name is refused with 0x86 as a
/// wrong password is.
///
/// Without any authenticator nobody judges user names: the anonymous rule holds for every CONNECT, and a user name is
/// what the client says it is.
pub struct AuthChain {
    state: ArcSwap<State>,
    timer: Arc<dyn Timer>,
    counters: AuthCounters,
    /// Second of the last log line on a failing backend, plus one; 0 before the first.
    logged: AtomicU64,
    started: Instant,
}

struct State {
    settings: AuthSettings,
    links: Vec<Arc<dyn Authenticator>>,
    methods: Vec<Arc<dyn ExchangeMethod>>,
}

impl AuthChain {
    /// The authenticators in the order they are asked, and the enhanced methods.
    pub fn new(
        settings: AuthSettings,
        links: Vec<Arc<dyn Authenticator>>,
        methods: Vec<Arc<dyn ExchangeMethod>>,
        timer: Arc<dyn Timer>,
    ) -> Self {
        Self {
            state: ArcSwap::from_pointee(State {
                settings,
                links,
                methods,
            }),
            timer,
            counters: AuthCounters::default(),
            logged: AtomicU64::new(0),
            started: Instant::now(),
        }
    }

    /// Puts other settings and authenticators in force for what comes; a running authentication ends with the old ones.
    pub fn replace(
        &self,
        settings: AuthSettings,
        links: Vec<Arc<dyn Authenticator>>,
        methods: Vec<Arc<dyn ExchangeMethod>>,
    ) {
        self.state.store(Arc::new(State {
            settings,
            links,
            methods,
        }));
    }

    /// Lets every authenticator read its file again. Returns the errors; one with an error keeps what it had.
    pub fn reload(&self) -> Vec<String> {
        let state = self.state.load_full();
        let errors = state.links.iter().filter_map(|link| link.reload().err());
        errors.collect()
    }

    /// The settings in force.
    pub fn settings(&self) -> AuthSettings {
        self.state.load().settings
    }

    /// The names of the authenticators, in the order they are asked.
    pub fn names(&self) -> Vec<String> {
        let state = self.state.load();
        let names = state.links.iter().map(|link| link.name().to_owned());
        names.collect()
    }

    /// Counters by reason.
    pub fn counters(&self) -> &AuthCounters {
        &self.counters
    }

    /// Judges a CONNECT and completes what is known of its client.
    ///
    /// # Errors
    /// [`Refused`] with the code for CONNACK.
    pub async fn authenticate(&self, request: AuthRequest) -> Result<ClientInfo, Refused> {
        let state = self.state.load_full();
        for link in &state.links {
            let (reason, error) = match self.ask(&**link, &request).await {
                Some(AuthAnswer::Allow(grant)) => return Ok(self.accept(request.client, grant)),
                Some(AuthAnswer::Deny(code)) => return Err(self.refuse(code, Refusal::Denied)),
                Some(AuthAnswer::Ignore) => continue,
                Some(AuthAnswer::Unavailable(error)) => (Refusal::Unavailable, error),
                None => (Refusal::TimedOut, "no answer in time".to_owned()),
            };
            self.log_failure(link.name(), &error);
            return Err(self.refuse(ReasonCode::ServerUnavailable, reason));
        }
        let named = request.client.username.is_some();
        if state.admits(&request.client) {
            self.counters.count_anonymous();
            Ok(request.client)
        } else if named && !state.links.is_empty() {
            Err(self.refuse(ReasonCode::BadUserNameOrPassword, Refusal::UnknownUser))
        } else {
            Err(self.refuse(ReasonCode::NotAuthorized, Refusal::Anonymous))
        }
    }

    /// Begins an enhanced authentication: a CONNECT with an Authentication Method is judged by the method alone.
    ///
    /// After [`crate::access::ExchangeStep::Success`] give the grant to [`Self::accept`], after a failure the code to
    /// [`Self::refuse`].
    ///
    /// # Errors
    /// [`Refused`] with Bad authentication method (0x8C) if it is not configured [MQTT-4.12.0-1].
    pub fn exchange(
        &self,
        method: &str,
        client: &ClientInfo,
    ) -> Result<Box<dyn Exchange>, Refused> {
        let state = self.state.load();
        match state.methods.iter().find(|known| known.method() == method) {
            Some(method) => Ok(method.begin(client)),
            None => Err(self.refuse(ReasonCode::BadAuthenticationMethod, Refusal::UnknownMethod)),
        }
    }

    /// Counts a client as authenticated and completes what is known of it.
    pub fn accept(&self, mut client: ClientInfo, grant: Grant) -> ClientInfo {
        self.counters.count_authenticated();
        client.superuser = grant.superuser;
        client.rules = grant.rules;
        client.expires_at = grant.expires_at.unwrap_or(crate::time::Timestamp::NEVER);
        if grant.username.is_some() {
            client.username = grant.username;
        }
        client
    }

    /// Counts a refusal.
    pub fn refuse(&self, code: ReasonCode, reason: Refusal) -> Refused {
        self.counters.count_refused(reason);
        Refused { code, reason }
    }

    /// May this authenticated client take over the session of this owner? Always, unless `auth.bind_client_id` is set
    /// and user name or certificate differ. Ask where the take-over is decided, under the lock that decides it.
    ///
    /// # Errors
    /// [`Refused`] with Not authorized (0x87).
    pub fn may_take_over(&self, owner: &Owner, client: &ClientInfo) -> Result<(), Refused> {
        if self.settings().bind_client_id && *owner != Owner::from(client) {
            return Err(self.refuse(ReasonCode::NotAuthorized, Refusal::BoundClientId));
        }
        Ok(())
    }

    /// Another owner holds a client identifier while it opens its session.
    pub(crate) fn not_the_owner(&self, owner: &Owner, client: &ClientInfo) -> Refused {
        tracing::debug!(
            client_id = &*client.client_id,
            ?owner,
            "another user opens this client identifier"
        );
        self.refuse(ReasonCode::NotAuthorized, Refusal::BoundClientId)
    }

    /// The link's answer, `None` if its time is over.
    async fn ask(&self, link: &dyn Authenticator, request: &AuthRequest) -> Option<AuthAnswer> {
        let mut answer = link.authenticate(request);
        let Some(limit) = link.time_limit() else {
            return Some(answer.await);
        };
        let mut over: Option<BoxFuture<'static, ()>> = None;
        poll_fn(|cx| {
            if let Poll::Ready(answer) = answer.as_mut().poll(cx) {
                return Poll::Ready(Some(answer));
            }
            // Most answers are ready at once: no timer for those.
            let over = over.get_or_insert_with(|| self.timer.sleep(limit));
            over.as_mut().poll(cx).map(|()| None)
        })
        .await
    }

    fn log_failure(&self, link: &str, error: &str) {
        let now = self.started.elapsed().as_secs() + 1;
        let last = self.logged.load(Ordering::Relaxed);
        if (last == 0 || now >= last + 10)
            && self
                .logged
                .compare_exchange(last, now, Ordering::Relaxed, Ordering::Relaxed)
                .is_ok()
        {
            let failures = self.counters.refused(Refusal::Unavailable)
                + self.counters.refused(Refusal::TimedOut)
                + 1;
            tracing::warn!(
                authenticator = link,
                error,
                failures,
                "authentication backend failed: clients are told Server unavailable"
            );
        }
    }
}

impl State {
    /// The anonymous rule, for a client that no authenticator spoke of.
    fn admits(&self, client: &ClientInfo) -> bool {
        match (self.links.is_empty(), client.username.is_some()) {
            (true, _) => self.settings.allow_anonymous.unwrap_or(client.loopback),
            (false, false) => self.settings.allow_anonymous == Some(true),
            (false, true) => {
                self.settings.fallthrough_anonymous && self.settings.allow_anonymous != Some(false)
            }
        }
    }
}
