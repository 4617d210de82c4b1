//! Several sources, caches, the default rule, and reload.

use std::future::{Future, ready};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

use nightjar_mqtt::QoS;

use super::{action, client, described};
use crate::access::{Action, Answer, Authorizer, ClientInfo, Verdict};
use crate::acl::{AccessCache, AclSettings, AclSources, Check, FileSource, NoMatch, RuleSet};

/// Rules that count how often they are asked, and answer now or later.
struct Counting {
    rules: RuleSet,
    asked: AtomicUsize,
    later: bool,
    fails: bool,
}

fn source(rules: &str) -> Arc<Counting> {
    Arc::new(Counting {
        rules: RuleSet::parse(rules, "test").expect(rules),
        asked: AtomicUsize::new(0),
        later: false,
        fails: false,
    })
}

fn later(rules: &str) -> Arc<Counting> {
    let mut source = source(rules);
    Arc::get_mut(&mut source).expect("new").later = true;
    source
}

impl Authorizer for Counting {
    fn name(&self) -> &str {
        "counting"
    }

    fn authorize<'a>(&'a self, client: &'a ClientInfo, action: Action<'a>) -> Answer<'a> {
        self.asked.fetch_add(1, Ordering::Relaxed);
        let verdict = self.rules.judge(client, action);
        if self.fails {
            Answer::Later(Box::pin(ready(Err("down".to_owned()))))
        } else if self.later {
            Answer::Later(Box::pin(ready(Ok(verdict))))
        } else {
            Answer::Now(verdict)
        }
    }

    fn may_deliver(&self, client: &ClientInfo, filter: &str, qos: QoS, topic: &str) -> Verdict {
        self.asked.fetch_add(1, Ordering::Relaxed);
        self.rules.may_deliver(client, filter, qos, topic)
    }

    fn explain(&self, _: &ClientInfo, _: Action<'_>) -> Option<String> {
        Some("counting: a rule".to_owned())
    }
}

/// These futures are ready at the first poll.
fn now<T>(future: impl Future<Output = T>) -> T {
    match Box::pin(future)
        .as_mut()
        .poll(&mut Context::from_waker(Waker::noop()))
    {
        Poll::Ready(value) => value,
        Poll::Pending => panic!("not ready"),
    }
}

fn sources(no_match: NoMatch, list: &[&Arc<Counting>]) -> Arc<AclSources> {
    let settings = AclSettings {
        no_match,
        ..AclSettings::default()
    };
    let list = list
        .iter()
        .map(|s| Arc::clone(s) as Arc<dyn Authorizer>)
        .collect();
    Arc::new(AclSources::new(settings, list))
}

fn verdict(sources: &Arc<AclSources>, client: ClientInfo, asked: &str) -> Verdict {
    let mut cache = AccessCache::new();
    match sources.check(&Arc::new(client), &mut cache, action(asked), Instant::now()) {
        Check::Now(verdict) => verdict,
        Check::Later(later) => now(later).verdict,
    }
}

#[test]
fn without_sources_only_sys_from_afar_is_denied() {
    let none = sources(NoMatch::Deny, &[]);
    let table = [
        ("", "pub a", Verdict::Allow),
        ("", "sub #", Verdict::Allow),
        ("", "sub $SYS/#", Verdict::Deny),
        ("", "sub $SYS/broker/+", Verdict::Deny),
        ("", "sub $SYS", Verdict::Deny),
        ("", "sub $other/#", Verdict::Allow),
        ("ip=127.0.0.1", "sub $SYS/#", Verdict::Allow),
        ("ip=::1", "sub $SYS/#", Verdict::Allow),
    ];
    for (who, asked, expected) in table {
        assert_eq!(
            verdict(&none, described(who), asked),
            expected,
            "{who} {asked}"
        );
    }
}

#[test]
fn sources_are_asked_in_order_and_no_match_ends_them() {
    let first = source("{allow, all, publish, [\"a\"]}. {deny, all, publish, [\"b\"]}.");
    let second = later("{deny, all, publish, [\"a\"]}. {allow, all, publish, [\"b\", \"c\"]}.");
    for (no_match, nothing) in [
        (NoMatch::Deny, Verdict::Deny),
        (NoMatch::Allow, Verdict::Allow),
    ] {
        let both = sources(no_match, &[&first, &second]);
        assert_eq!(verdict(&both, client(), "pub a"), Verdict::Allow);
        assert_eq!(verdict(&both, client(), "pub b"), Verdict::Deny);
        assert_eq!(verdict(&both, client(), "pub c"), Verdict::Allow);
        assert_eq!(verdict(&both, client(), "pub d"), nothing);
        // A source that has to be waited for between others.
        let three = sources(no_match, &[&second, &first, &second]);
        assert_eq!(verdict(&three, client(), "pub a"), Verdict::Deny);
        assert_eq!(verdict(&three, client(), "pub d"), nothing);
    }
}

#[test]
fn rules_of_the_credentials_come_first_and_close_the_default() {
    let own = |rules| {
        let rules = RuleSet::parse(rules, "own").expect(rules);
        ClientInfo {
            rules: Some(Arc::new(rules)),
            ..client()
        }
    };
    let rules = "{allow, all, publish, [\"mine\"]}. {deny, all, publish, [\"not\"]}.";
    let some = sources(
        NoMatch::Deny,
        &[&source("{deny, all, publish, [\"mine\"]}. {allow, all}.")],
    );
    assert_eq!(verdict(&some, own(rules), "pub mine"), Verdict::Allow);
    assert_eq!(verdict(&some, own(rules), "pub not"), Verdict::Deny);
    assert_eq!(verdict(&some, own(rules), "pub other"), Verdict::Allow);
    let none = sources(NoMatch::Deny, &[]);
    assert_eq!(verdict(&none, own(rules), "pub mine"), Verdict::Allow);
    assert_eq!(verdict(&none, own(rules), "pub other"), Verdict::Deny);
}

#[test]
fn superusers_skip_everything() {
    let nothing = sources(NoMatch::Deny, &[&source("{deny, all}.")]);
    let root = ClientInfo {
        superuser: true,
        ..client()
    };
    assert_eq!(verdict(&nothing, root.clone(), "pub a"), Verdict::Allow);
    assert_eq!(
        verdict(&sources(NoMatch::Deny, &[]), root.clone(), "sub $SYS/#"),
        Verdict::Allow
    );
    let mut cache = AccessCache::new();
    assert!(nothing.may_deliver(&root, &mut cache, "#", QoS::AtMostOnce, "a", Instant::now()));
}

#[test]
fn a_deny_that_overlaps_holds_over_all_sources() {
    let deny = source("{deny, all, subscribe, [\"secret/#\"]}.");
    let allow = source("{allow, all, subscribe, [\"#\"]}. {deny, all}.");
    let wait = later("{deny, all, subscribe, [\"secret/#\"]}.");
    for first in [&deny, &wait] {
        for (rest, no_match) in [(vec![&allow], NoMatch::Deny), (vec![], NoMatch::Allow)] {
            let list: Vec<_> = [first].into_iter().chain(rest).collect();
            let all = sources(no_match, &list);
            assert_eq!(verdict(&all, client(), "sub #"), Verdict::AllowChecked);
            let mut cache = AccessCache::new();
            for _ in 0..2 {
                let mut may = |topic| {
                    let qos = QoS::AtMostOnce;
                    all.may_deliver(&client(), &mut cache, "#", qos, topic, Instant::now())
                };
                assert!(!may("secret/x"));
                assert!(may("open/x"));
            }
        }
    }
}

#[test]
fn a_failing_source_denies_is_counted_and_not_remembered() {
    let mut down = source("{allow, all}.");
    Arc::get_mut(&mut down).expect("new").fails = true;
    let all = sources(NoMatch::Allow, &[&down]);
    let client = Arc::new(client());
    let mut cache = AccessCache::new();
    for n in 1..=3 {
        let at = Instant::now();
        let Check::Later(later) = all.check(&client, &mut cache, action("pub a"), at) else {
            panic!("answered at once");
        };
        let judged = now(later);
        assert_eq!(judged.verdict, Verdict::Deny);
        all.remember(&mut cache, action("pub a"), judged, at);
        assert!(cache.is_empty());
        assert_eq!(all.failures(), n);
    }
}

#[test]
fn verdicts_are_asked_once_until_ttl_or_change() {
    let rules = source("{allow, all}.");
    let all = sources(NoMatch::Deny, &[&rules]);
    let client = Arc::new(client());
    let mut cache = AccessCache::new();
    let start = Instant::now();
    let mut ask = |at: Instant| {
        for _ in 0..10 {
            let answer = all.check(&client, &mut cache, action("pub a"), at);
            assert!(matches!(answer, Check::Now(Verdict::Allow)));
        }
        rules.asked.load(Ordering::Relaxed)
    };
    assert_eq!(ask(start), 1);
    assert_eq!(ask(start + Duration::from_secs(59)), 1);
    assert_eq!(ask(start + Duration::from_secs(61)), 2);
    all.invalidate();
    assert_eq!(ask(start + Duration::from_secs(62)), 3);
    // Many topics stay bounded.
    for i in 0..1000 {
        let topic = format!("t/{i}");
        let publish = Action::Publish {
            topic: &topic,
            qos: QoS::AtMostOnce,
            retain: false,
        };
        all.check(&client, &mut cache, publish, start);
    }
    assert_eq!(cache.len(), 32);
}

#[test]
fn a_verdict_waited_for_is_remembered_unless_rules_changed_meanwhile() {
    let rules = later("{allow, all}.");
    let all = sources(NoMatch::Deny, &[&rules]);
    let client = Arc::new(client());
    let mut cache = AccessCache::new();
    let at = Instant::now();
    for changed in [true, false] {
        let Check::Later(later) = all.check(&client, &mut cache, action("sub a/#"), at) else {
            panic!("answered at once");
        };
        let judged = now(later);
        if changed {
            all.invalidate();
        }
        all.remember(&mut cache, action("sub a/#"), judged, at);
        let known = matches!(
            all.check(&client, &mut cache, action("sub a/#"), at),
            Check::Now(Verdict::Allow)
        );
        assert_eq!(known, !changed);
    }
}

#[test]
fn a_broken_file_leaves_the_old_rules_in_force() {
    let dir = std::env::temp_dir().join(format!("nightjar-acl-{}", std::process::id()));
    std::fs::create_dir_all(&dir).expect("a directory");
    let path = dir.join("acl.conf");
    let write = |text: &str| std::fs::write(&path, text).expect("written");
    assert!(FileSource::load(&path).is_err());
    write("{allow, all, publish, [\"a\"]}.\n");
    let file = Arc::new(FileSource::load(&path).expect("valid"));
    let all = Arc::new(AclSources::new(AclSettings::default(), vec![file]));
    let client = Arc::new(client());
    let mut cache = AccessCache::new();
    let mut ask = |asked| all.check(&client, &mut cache, action(asked), Instant::now());
    assert!(matches!(ask("pub a"), Check::Now(Verdict::Allow)));

    write("{allow, all, publish, [\"b\"]}.\n{oops}.\n");
    let errors = all.reload();
    let expected = format!("{}:2:1: expected a rule", path.display());
    assert!(
        errors.len() == 1 && errors[0].starts_with(&expected),
        "{errors:?}"
    );
    assert!(matches!(ask("pub a"), Check::Now(Verdict::Allow)));
    assert!(matches!(ask("pub b"), Check::Now(Verdict::Deny)));

    write("{allow, all, publish, [\"b\"]}.\n");
    assert_eq!(all.reload(), Vec::<String>::new());
    assert!(matches!(ask("pub a"), Check::Now(Verdict::Deny)));
    assert!(matches!(ask("pub b"), Check::Now(Verdict::Allow)));
    std::fs::remove_dir_all(&dir).expect("removed");
}

#[test]
fn explanations_name_the_rule_that_decides() {
    let dir = std::env::temp_dir().join(format!("nightjar-acl-explain-{}", std::process::id()));
    std::fs::create_dir_all(&dir).expect("a directory");
    let path = dir.join("acl.conf");
    std::fs::write(
        &path,
        "{deny, all, subscribe, [\"s/#\"]}.\n\n{allow, {user, \"ann\"}}.\n",
    )
    .expect("written");
    let file = Arc::new(FileSource::load(&path).expect("valid"));
    let all = AclSources::new(AclSettings::default(), vec![file]);
    let name = path.display();
    let table = [
        (
            "",
            "pub a",
            format!("allow: file {name}:3: {{allow, {{user, \"ann\"}}}}."),
        ),
        (
            "",
            "sub s/x",
            format!("deny: file {name}:1: {{deny, all, subscribe, [\"s/#\"]}}."),
        ),
        (
            "",
            "sub #",
            format!(
                "allow: file {name}:3: {{allow, {{user, \"ann\"}}}}.; each delivery is checked, because of file \
                 {name}:1: {{deny, all, subscribe, [\"s/#\"]}}."
            ),
        ),
        (
            "user=bob",
            "pub a",
            "deny: no rule matches, and acl.no_match is deny".to_owned(),
        ),
    ];
    for (who, asked, expected) in table {
        let got = now(all.explain(&described(who), action(asked))).to_string();
        assert_eq!(got, expected);
    }
    let none = AclSources::new(AclSettings::default(), Vec::new());
    let got = now(none.explain(&client(), action("sub $SYS/#"))).to_string();
    assert_eq!(
        got,
        "deny: no source is configured, and $SYS is read from loopback addresses only"
    );
    std::fs::remove_dir_all(&dir).expect("removed");
}
