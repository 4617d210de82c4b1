//! The authorization sources in their order, and the question a connection asks them.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use arc_swap::ArcSwap;
use nightjar_mqtt::QoS;

use super::cache::{AccessCache, Limits, Question};
use super::file::words;
use super::filter::overlaps;
use crate::access::{Action, Answer, Authorizer, BoxFuture, ClientInfo, Verdict};

/// `acl.no_match`: the verdict where sources are configured and none matches.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum NoMatch {
    /// Allowed.
    Allow,
    /// Denied, the default.
    #[default]
    Deny,
}

/// `acl.deny_action`: what a denied publish does to a client whose protocol has no way to say so.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum DenyAction {
    /// The message is dropped and acknowledged, the default.
    #[default]
    Ignore,
    /// The connection is closed.
    Disconnect,
}

/// The `[acl]` table but its sources.
#[derive(Debug, Clone, Copy)]
pub struct AclSettings {
    /// `acl.no_match`.
    pub no_match: NoMatch,
    /// `acl.deny_action`.
    pub deny_action: DenyAction,
    /// `acl.cache_size`: verdicts kept for a client, 0 for none.
    pub cache_size: u16,
    /// `acl.cache_ttl`: how long one is kept, zero for not at all.
    pub cache_ttl: Duration,
}

impl Default for AclSettings {
    fn default() -> Self {
        Self {
            no_match: NoMatch::Deny,
            deny_action: DenyAction::Ignore,
            cache_size: 32,
            cache_ttl: Duration::from_secs(60),
        }
    }
}

/// All authorization sources. One for the process, shared by every connection.
///
/// The order: superusers may do everything; then the rules that came with the client's credentials; then the sources;
/// then `acl.no_match`. Where neither sources nor such rules exist, everything is allowed but a subscription that
/// reaches `$SYS/#` from other than a loopback address.
pub struct AclSources {
    state: ArcSwap<State>,
    /// Counts changes; caches of an older generation are void.
    generation: AtomicU64,
    /// Sources that failed to answer, each counted as a deny.
    failures: AtomicU64,
    /// Second since `started` of the last log line on a failure, plus one; 0 before the first.
    logged: AtomicU64,
    started: Instant,
}

struct State {
    settings: AclSettings,
    sources: Vec<Arc<dyn Authorizer>>,
}

/// The answer of [`AclSources::check`]. The verdict is never [`Verdict::NoMatch`] or [`Verdict::NoMatchChecked`].
pub enum Check {
    /// Known now.
    Now(Verdict),
    /// A source has to be waited for. Give the result to [`AclSources::remember`], so that it is asked once.
    Later(BoxFuture<'static, Judged>),
}

impl fmt::Debug for Check {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Now(verdict) => f.debug_tuple("Now").field(verdict).finish(),
            Self::Later(_) => f.write_str("Later(..)"),
        }
    }
}

/// A verdict that was waited for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Judged {
    /// The verdict.
    pub verdict: Verdict,
    generation: u64,
    /// A failure is not remembered: the source may be back with the next packet.
    failed: bool,
}

impl Judged {
    /// Did a source fail to answer? Then the verdict is deny, and may be another one later.
    #[must_use]
    pub const fn is_failure(&self) -> bool {
        self.failed
    }
}

/// A verdict in words, for `acl test`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Explanation {
    /// The verdict.
    pub verdict: Verdict,
    /// What decided, and which rule.
    pub reason: String,
}

impl fmt::Display for Explanation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let verdict = if self.verdict.allowed() {
            "allow"
        } else {
            "deny"
        };
        write!(f, "{verdict}: {}", self.reason)
    }
}

/// What the sources say together.
enum Outcome {
    Decided(Verdict),
    /// This source has to be waited for; a deny rule of an earlier one overlaps or not.
    Wait(usize, bool),
}

impl AclSources {
    /// The sources in the order they are asked.
    pub fn new(settings: AclSettings, sources: Vec<Arc<dyn Authorizer>>) -> Self {
        Self {
            state: ArcSwap::from_pointee(State { settings, sources }),
            generation: AtomicU64::new(0),
            failures: AtomicU64::new(0),
            logged: AtomicU64::new(0),
            started: Instant::now(),
        }
    }

    /// Puts other settings and sources in force, for every client at once.
    pub fn replace(&self, settings: AclSettings, sources: Vec<Arc<dyn Authorizer>>) {
        self.state.store(Arc::new(State { settings, sources }));
        self.invalidate();
    }

    /// Voids what every client's cache holds (`acl cache-clean`).
    pub fn invalidate(&self) {
        // After the change it announces: who sees the new generation sees the new rules.
        self.generation.fetch_add(1, Ordering::Release);
    }

    /// Lets every source read its file again. Returns the errors; a source with an error keeps what it had.
    pub fn reload(&self) -> Vec<String> {
        let state = self.state.load_full();
        let errors = state
            .sources
            .iter()
            .filter_map(|source| source.reload().err());
        let errors = errors.collect();
        self.invalidate();
        errors
    }

    /// The names of the sources, in the order they are asked.
    pub fn names(&self) -> Vec<String> {
        let state = self.state.load();
        let names = state.sources.iter().map(|source| source.name().to_owned());
        names.collect()
    }

    /// The settings in force.
    pub fn settings(&self) -> AclSettings {
        self.state.load().settings
    }

    /// The generation of rules in force, counted up with each change; a subscription granted under an older one may
    /// have to be judged anew.
    pub fn generation(&self) -> u64 {
        self.generation.load(Ordering::Acquire)
    }

    /// Times a source failed to answer, which denies.
    pub fn failures(&self) -> u64 {
        self.failures.load(Ordering::Relaxed)
    }

    /// May this client do this? Answers from the client's cache where it can.
    #[inline]
    pub fn check(
        self: &Arc<Self>,
        client: &Arc<ClientInfo>,
        cache: &mut AccessCache,
        action: Action<'_>,
        now: Instant,
    ) -> Check {
        if client.superuser {
            return Check::Now(Verdict::Allow);
        }
        let generation = self.generation();
        match cache.get(Question::action(action), generation, now) {
            Some(verdict) => Check::Now(verdict),
            None => self.ask(client, cache, action, generation, now),
        }
    }

    #[cold]
    fn ask(
        self: &Arc<Self>,
        client: &Arc<ClientInfo>,
        cache: &mut AccessCache,
        action: Action<'_>,
        generation: u64,
        now: Instant,
    ) -> Check {
        let state = self.state.load();
        match state.first(client, action, 0, false) {
            Outcome::Decided(verdict) => {
                // A SUBSCRIBE is asked once and answered fast: it would only push out topics that are published to.
                if let Action::Publish { .. } = action {
                    let limits = state.settings.limits();
                    cache.put(Question::action(action), verdict, generation, limits, now);
                }
                Check::Now(verdict)
            }
            Outcome::Wait(from, overlap) => {
                let state = Arc::clone(&state);
                let sources = Arc::clone(self);
                let client = Arc::clone(client);
                let action = OwnedAction::from(action);
                Check::Later(Box::pin(async move {
                    let (verdict, failed) = sources
                        .wait(&state, &client, action.borrow(), from, overlap)
                        .await;
                    Judged {
                        verdict,
                        generation,
                        failed,
                    }
                }))
            }
        }
    }

    /// Goes on from the source that has to be waited for. True in the second place if a source failed.
    async fn wait(
        &self,
        state: &State,
        client: &ClientInfo,
        action: Action<'_>,
        mut from: usize,
        mut overlap: bool,
    ) -> (Verdict, bool) {
        loop {
            let source = &state.sources[from];
            let verdict = match source.authorize(client, action) {
                Answer::Now(verdict) => verdict,
                Answer::Later(answer) => match answer.await {
                    Ok(verdict) => verdict,
                    Err(error) => {
                        self.failed(source.name(), &error);
                        return (Verdict::Deny, true);
                    }
                },
            };
            if let Some(verdict) = take(verdict, &mut overlap) {
                return (verdict, false);
            }
            match state.first(client, action, from + 1, overlap) {
                Outcome::Decided(verdict) => return (verdict, false),
                Outcome::Wait(next, o) => (from, overlap) = (next, o),
            }
        }
    }

    /// Puts a verdict that was waited for into the client's cache.
    pub fn remember(
        &self,
        cache: &mut AccessCache,
        action: Action<'_>,
        judged: Judged,
        now: Instant,
    ) {
        // A verdict of rules no longer in force must not void what newer ones put there.
        if !judged.failed && judged.generation == self.generation() {
            let limits = self.state.load().settings.limits();
            cache.put(
                Question::action(action),
                judged.verdict,
                judged.generation,
                limits,
                now,
            );
        }
    }

    /// After [`Verdict::AllowChecked`] for a subscription of `filter` (without `$share/name/`) with `qos`: may a
    /// message of this topic go to the client?
    #[inline]
    pub fn may_deliver(
        &self,
        client: &ClientInfo,
        cache: &mut AccessCache,
        filter: &str,
        qos: QoS,
        topic: &str,
        now: Instant,
    ) -> bool {
        if client.superuser {
            return true;
        }
        let generation = self.generation();
        let question = Question::delivery(filter, qos, topic);
        if let Some(verdict) = cache.get(question, generation, now) {
            return verdict.allowed();
        }
        let state = self.state.load();
        let own = client
            .rules
            .iter()
            .map(|rules| rules.may_deliver(client, filter, qos, topic));
        let sources = state
            .sources
            .iter()
            .map(|source| source.may_deliver(client, filter, qos, topic));
        let verdict = own
            .chain(sources)
            .find(|verdict| !matches!(verdict, Verdict::NoMatch | Verdict::NoMatchChecked))
            // Then the subscription was granted by `acl.no_match`.
            .unwrap_or(Verdict::Allow);
        cache.put(question, verdict, generation, state.settings.limits(), now);
        verdict.allowed()
    }

    /// Says in words what decides on an action, asking every source that has a say.
    pub async fn explain(&self, client: &ClientInfo, action: Action<'_>) -> Explanation {
        let allow = |reason: &str| Explanation {
            verdict: Verdict::Allow,
            reason: reason.to_owned(),
        };
        if client.superuser {
            return allow("the client is a superuser");
        }
        let state = self.state.load_full();
        let mut overlap = false;
        let mut notes = Vec::new();
        if let Some(rules) = &client.rules {
            let decision = rules.decide(client, action);
            notes.extend(words(&decision, "rules of the credentials"));
            if let Some(verdict) = take(decision.verdict, &mut overlap) {
                let reason = notes.join("; ");
                return Explanation { verdict, reason };
            }
        }
        for source in &state.sources {
            let answer = match source.authorize(client, action) {
                Answer::Now(verdict) => Ok(verdict),
                Answer::Later(answer) => answer.await,
            };
            let verdict = match answer {
                Ok(verdict) => verdict,
                Err(error) => {
                    return Explanation {
                        verdict: Verdict::Deny,
                        reason: format!("{} failed: {error}", source.name()),
                    };
                }
            };
            let decided = take(verdict, &mut overlap);
            if decided.is_some() || verdict == Verdict::NoMatchChecked {
                let note = source.explain(client, action);
                notes.push(note.unwrap_or_else(|| source.name().to_owned()));
            }
            if let Some(verdict) = decided {
                let reason = notes.join("; ");
                return Explanation { verdict, reason };
            }
        }
        let (verdict, reason) = state.otherwise(client, action, overlap);
        notes.insert(0, reason.to_owned());
        Explanation {
            verdict,
            reason: notes.join("; "),
        }
    }

    fn failed(&self, source: &str, error: &str) {
        let failures = self.failures.fetch_add(1, Ordering::Relaxed) + 1;
        let now = self.started.elapsed().as_secs() + 1;
        let last = self.logged.load(Ordering::Relaxed);
        let due = last == 0 || now >= last + 10;
        if due
            && self
                .logged
                .compare_exchange(last, now, Ordering::Relaxed, Ordering::Relaxed)
                .is_ok()
        {
            tracing::warn!(
                source,
                error,
                failures,
                "authorization source failed: denied"
            );
        }
    }
}

impl AclSettings {
    fn limits(&self) -> Limits {
        Limits {
            size: self.cache_size,
            ttl: self.cache_ttl,
        }
    }
}

/// The final verdict of a source's own, `None` if the next one is to be asked.
fn take(verdict: Verdict, overlap: &mut bool) -> Option<Verdict> {
    match verdict {
        Verdict::Deny => Some(Verdict::Deny),
        Verdict::Allow if !*overlap => Some(Verdict::Allow),
        Verdict::Allow | Verdict::AllowChecked => Some(Verdict::AllowChecked),
        Verdict::NoMatch => None,
        Verdict::NoMatchChecked => {
            *overlap = true;
            None
        }
    }
}

impl State {
    /// Asks from a source on, until one decides or has to be waited for. The rules of the credentials come before
    /// source 0.
    fn first(
        &self,
        client: &ClientInfo,
        action: Action<'_>,
        from: usize,
        mut overlap: bool,
    ) -> Outcome {
        if from == 0
            && let Some(rules) = &client.rules
            && let Some(verdict) = take(rules.judge(client, action), &mut overlap)
        {
            return Outcome::Decided(verdict);
        }
        for (at, source) in self.sources.iter().enumerate().skip(from) {
            match source.authorize(client, action) {
                Answer::Now(verdict) => {
                    if let Some(verdict) = take(verdict, &mut overlap) {
                        return Outcome::Decided(verdict);
                    }
                }
                Answer::Later(_) => return Outcome::Wait(at, overlap),
            }
        }
        Outcome::Decided(self.otherwise(client, action, overlap).0)
    }

    /// The verdict where nothing matched, and why.
    fn otherwise(
        &self,
        client: &ClientInfo,
        action: Action<'_>,
        overlap: bool,
    ) -> (Verdict, &'static str) {
        if self.sources.is_empty() && client.rules.is_none() {
            return match action {
                Action::Subscribe { filter, .. }
                    if !client.loopback && overlaps("$SYS/#", filter) =>
                {
                    (
                        Verdict::Deny,
                        "no source is configured, and $SYS is read from loopback addresses only",
                    )
                }
                _ => (Verdict::Allow, "no source is configured"),
            };
        }
        match self.settings.no_match {
            NoMatch::Deny => (Verdict::Deny, "no rule matches, and acl.no_match is deny"),
            NoMatch::Allow if overlap => (
                Verdict::AllowChecked,
                "no rule matches, and acl.no_match is allow",
            ),
            NoMatch::Allow => (Verdict::Allow, "no rule matches, and acl.no_match is allow"),
        }
    }
}

/// An action that outlives the packet it came with.
enum OwnedAction {
    Publish {
        topic: Box<str>,
        qos: QoS,
        retain: bool,
    },
    Subscribe {
        filter: Box<str>,
        qos: QoS,
    },
}

impl From<Action<'_>> for OwnedAction {
    fn from(action: Action<'_>) -> Self {
        match action {
            Action::Publish { topic, qos, retain } => Self::Publish {
                topic: topic.into(),
                qos,
                retain,
            },
            Action::Subscribe { filter, qos } => Self::Subscribe {
                filter: filter.into(),
                qos,
            },
        }
    }
}

impl OwnedAction {
    fn borrow(&self) -> Action<'_> {
        match self {
            Self::Publish { topic, qos, retain } => Action::Publish {
                topic,
                qos: *qos,
                retain: *retain,
            },
            Self::Subscribe { filter, qos } => Action::Subscribe { filter, qos: *qos },
        }
    }
}
