//! A broker on the store: what clients find after the process died.

use std::task::Waker;
use std::time::Duration;

use nightjar_broker::shard::{CloseKind, Effect, RetainedEntry, SessionEntry, Will};
use nightjar_broker::{
    Admission, DurableStore, Progress, PublishBatch, Session, Timestamp, Transmit,
};
use nightjar_cluster::{MetaEntry, NodeStore};
use nightjar_mqtt::{QoS, ReasonCode};

use crate::kit::*;
use crate::node::*;

#[test]
fn a_client_finds_its_session_and_its_queue_after_kill_9() {
    let (dir, after) = (Dir::new("session"), Dir::new("session-after"));
    let node = Node::start(&dir);
    let (mut session, present) = node.connect("sub", 3600, None);
    assert!(!present);
    session.subscribe(1, vec![qos1("a/+")], vec![ReasonCode::GrantedQoS1]);
    let sent = drain(&mut session);
    assert!(
        matches!(sent[..], [Transmit::Suback { id: 1, .. }]),
        "{sent:?}"
    );
    node.publish("a/1", "sent and not acknowledged");
    node.publish("a/1", "sent and acknowledged");
    let sent = drain(&mut session);
    assert_eq!(publishes(&sent).len(), 2);
    let Transmit::Publish { id, .. } = sent[1] else {
        panic!("{sent:?}")
    };
    assert!(session.puback(id));
    let mut batch = PublishBatch::default();
    session.finish_batch(&mut batch, Timestamp::now());
    drain(&mut session);
    session.close(CloseKind::Normal, None, Timestamp::now());
    for number in 0..50 {
        node.publish("a/2", &format!("offline {number}"));
    }
    killed(&node, &after);

    let node = Node::start(&after);
    let recovered = node.store.recovered();
    assert_eq!((recovered.sessions, recovered.queued), (1, 51));
    // Routed before anybody connects.
    node.publish("a/3", "after the restart");
    let (mut session, present) = node.connect("sub", 3600, None);
    assert!(present);
    let first = publishes(&drain(&mut session));
    assert_eq!(first.len(), 10, "the window");
    assert_eq!(first[0], ("sent and not acknowledged".to_owned(), true));
    assert_eq!(first[1].0, "offline 0");
    assert_eq!(queue(&node.store, "sub").len(), 52);
    assert_eq!(queue(&node.store, "sub")[51], "after the restart");
}

#[test]
fn what_a_connected_client_may_have_seen_comes_again_with_dup() {
    let (dir, after) = (Dir::new("dup"), Dir::new("dup-after"));
    let node = Node::start(&dir);
    let (mut session, _) = node.connect("sub", 3600, None);
    session.subscribe(1, vec![qos1("a")], vec![ReasonCode::GrantedQoS1]);
    drain(&mut session);
    node.publish("a", "one");
    assert_eq!(publishes(&drain(&mut session)), [("one".to_owned(), false)]);
    killed(&node, &after);
    let node = Node::start(&after);
    let (mut session, present) = node.connect("sub", 3600, None);
    assert!(present);
    assert_eq!(publishes(&drain(&mut session)), [("one".to_owned(), true)]);
    node.publish("a", "two");
    assert_eq!(publishes(&drain(&mut session)), [("two".to_owned(), false)]);
}

#[test]
fn qos_2_is_published_once_across_kill_9() {
    let (dir, after) = (Dir::new("qos2"), Dir::new("qos2-after"));
    let node = Node::start(&dir);
    let (mut sub, _) = node.connect("sub", 3600, None);
    sub.subscribe(1, vec![qos1("a")], vec![ReasonCode::GrantedQoS1]);
    drain(&mut sub);
    let (mut publisher, _) = node.connect("pub", 3600, None);
    let mut batch = PublishBatch::default();
    let head = nightjar_broker::MessageHead {
        qos: QoS::ExactlyOnce,
        ..message("a", "").head().clone()
    };
    let exactly = nightjar_broker::Message::new(head, b"exactly once");
    let route = node.broker.router().route("a");
    publisher
        .publish(&exactly, &route, 7, Admission::Admitted, &mut batch)
        .unwrap();
    publisher.finish_batch(&mut batch, Timestamp::now());
    let sent = drain(&mut publisher);
    assert!(
        matches!(sent[..], [Transmit::Ack { id: 7, .. }]),
        "PUBREC: {sent:?}"
    );
    killed(&node, &after);

    let node = Node::start(&after);
    let (mut publisher, present) = node.connect("pub", 3600, None);
    assert!(present);
    assert!(
        publisher.is_repeat(QoS::ExactlyOnce, 7),
        "the id is still taken"
    );
    publisher.pubrel(7);
    publisher.finish_batch(&mut PublishBatch::default(), Timestamp::now());
    let sent = drain(&mut publisher);
    assert!(
        matches!(
            sent[..],
            [Transmit::Ack {
                id: 7,
                reason: ReasonCode::Success,
                ..
            }]
        ),
        "PUBCOMP: {sent:?}"
    );
    assert!(!publisher.is_repeat(QoS::ExactlyOnce, 7));
    assert_eq!(queue(&node.store, "sub"), ["exactly once"]);
}

#[test]
fn a_transient_session_touches_no_log() {
    let dir = Dir::new("transient");
    let node = Node::start(&dir);
    node.store.snapshot().unwrap();
    let before = log_entries(&dir);
    let (mut session, present) = node.connect("clean", 0, None);
    assert!(!present);
    session.subscribe(1, vec![qos1("a")], vec![ReasonCode::GrantedQoS1]);
    node.publish("a", "x");
    drain(&mut session);
    session.close(CloseKind::Normal, None, Timestamp::now());
    assert_eq!(log_entries(&dir), before);
    // A will must be kept: that is an entry.
    let will = Will {
        message: message("w", "gone"),
        delay: 0,
        expiry: None,
    };
    let (_session, _) = node.connect("willing", 0, Some(Box::new(will)));
    assert_ne!(log_entries(&dir), before);
}

fn log_entries(dir: &std::path::Path) -> usize {
    let mut count = 0;
    nightjar_cluster::dump(dir, &mut |line| {
        count += usize::from(line.contains(" entry "))
    })
    .unwrap();
    count
}

#[test]
fn a_will_fires_once_after_the_node_died_unless_the_client_returns() {
    let (dir, after) = (Dir::new("will"), Dir::new("will-after"));
    let will = |text: &str| {
        Some(Box::new(Will {
            message: message("will", text),
            delay: 0,
            expiry: None,
        }))
    };
    let node = Node::start(&dir);
    let (mut sub, _) = node.connect("sub", 3600, None);
    sub.subscribe(1, vec![qos1("will")], vec![ReasonCode::GrantedQoS1]);
    drain(&mut sub);
    let _gone = node.connect("gone", 0, will("of gone"));
    let _back = node.connect("back", 60, will("of back"));
    killed(&node, &after);

    let node = Node::start(&after);
    assert_eq!(queue(&node.store, "sub"), [] as [&str; 0]);
    let (mut back, present) = node.connect("back", 60, None);
    assert!(present);
    // The grace of a restart passes.
    node.broker.tick(Timestamp::now().plus_secs(12));
    let expect = |node: &Node, expected: &[&str]| {
        let started = std::time::Instant::now();
        while queue(&node.store, "sub") != expected {
            assert!(
                started.elapsed() < Duration::from_secs(5),
                "{:?}",
                queue(&node.store, "sub")
            );
            std::thread::sleep(Duration::from_millis(5));
        }
    };
    expect(&node, &["of gone"]);
    back.close(CloseKind::Normal, None, Timestamp::now());
    node.store.close();
    // Nothing fires twice.
    let node = Node::start(&after);
    node.broker.tick(Timestamp::now().plus_secs(60));
    std::thread::sleep(Duration::from_millis(100));
    expect(&node, &["of gone"]);
}

#[test]
fn a_will_whose_publish_was_cut_off_is_published_at_the_start() {
    let dir = Dir::new("duty");
    let store = NodeStore::open(&config(&dir)).unwrap();
    // Nobody carries out the effect: as if the node died right after it.
    let heard = started(&store);
    let mut open_will = open_of("dying", 0);
    open_will.will = Some(Box::new(Will {
        message: message("will", "late"),
        delay: 0,
        expiry: None,
    }));
    let epoch = open(&store, open_will).epoch;
    let close = nightjar_broker::shard::Close {
        client_id: "dying".into(),
        epoch,
        kind: CloseKind::Abnormal,
        expiry: None,
        now: Timestamp::now(),
    };
    let shard = store.shard_of("dying");
    wait(
        &store
            .submit(shard, vec![SessionEntry::Close(close)], None)
            .ticket,
    );
    let wills = |heard: &Heard| {
        let heard = heard.0.lock();
        heard
            .0
            .iter()
            .filter_map(|effect| match effect {
                Effect::Will { duty, .. } => Some(*duty),
                _ => None,
            })
            .collect::<Vec<_>>()
    };
    assert_eq!(wills(&heard).len(), 1);
    drop(store);
    let store = NodeStore::open(&config(&dir)).unwrap();
    let heard = started(&store);
    let duties = wills(&heard);
    assert_eq!(duties.len(), 1, "still owed");
    wait(
        &store
            .submit(shard, vec![SessionEntry::Fulfilled { duties }], None)
            .ticket,
    );
    drop(store);
    let store = NodeStore::open(&config(&dir)).unwrap();
    assert_eq!(wills(&started(&store)), [] as [u64; 0]);
}

#[test]
fn expiry_counts_through_the_time_the_node_was_down() {
    let (dir, after) = (Dir::new("expiry"), Dir::new("expiry-after"));
    let node = Node::start(&dir);
    let _short = node.connect("short", 1, None);
    let _long = node.connect("long", 3600, None);
    killed(&node, &after);
    std::thread::sleep(Duration::from_millis(1300));
    let node = Node::start(&after);
    let (_session, present) = node.connect("short", 1, None);
    assert!(!present, "its second passed while the node was down");
    let (_session, present) = node.connect("long", 3600, None);
    assert!(present);
}

#[test]
fn retained_messages_and_named_values_survive_snapshots_and_restarts() {
    let dir = Dir::new("retained");
    let store = NodeStore::open(&config(&dir)).unwrap();
    started(&store);
    for round in 0..6 {
        for number in 0..200 {
            let head = nightjar_broker::MessageHead {
                retain: true,
                ..message(&format!("r/{number}"), "").head().clone()
            };
            let text = if number % 10 == 9 && round > 2 {
                String::new()
            } else {
                format!("{round} {number} {}", "y".repeat(60))
            };
            let set = nightjar_broker::Message::new(head, text.as_bytes());
            let ticket = store.retain(RetainedEntry::Set(set));
            if number == 199 {
                wait(&ticket);
            }
        }
        let barrier = store.retained_barrier();
        wait(&barrier);
        wait(&store.put_meta(MetaEntry::Put {
            key: format!("ban/{round}"),
            value: vec![round],
        }));
        store.snapshot().unwrap();
    }
    wait(&store.put_meta(MetaEntry::Delete {
        key: "ban/0".to_owned(),
    }));
    let files = std::fs::read_dir(dir.join("log")).unwrap().count();
    assert!(
        files < 8,
        "{files} files: the log before the snapshots goes"
    );
    drop(store);
    let store = NodeStore::open(&config(&dir)).unwrap();
    let mut found = 0;
    store.read_retained("r/+", Timestamp(2), &mut |message| {
        assert!(message.payload().starts_with(b"5 "));
        found += 1;
    });
    assert_eq!(found, 180);
    assert_eq!(store.retained_size().0, 180);
    assert_eq!(store.meta("ban/0"), None);
    assert_eq!(store.meta_under("ban/").len(), 5);
    assert!(
        store.recovered().replayed < 10,
        "snapshots spare the replay"
    );
}

#[test]
fn an_empty_directory_is_ready_quickly() {
    let dir = Dir::new("empty");
    let begun = std::time::Instant::now();
    let store = NodeStore::open(&config(&dir)).unwrap();
    started(&store);
    assert!(store.recovered().fresh);
    // 300 ms on an idle machine; others build beside this test.
    assert!(
        begun.elapsed() < Duration::from_secs(3),
        "{:?}",
        begun.elapsed()
    );
}

#[test]
fn async_loses_nothing_to_kill_9_and_syncs_in_time() {
    let dir = Dir::new("async");
    let sim = crate::disk::SimDisk::new();
    let mut settings = config(&dir);
    settings.durability = nightjar_cluster::Durability::Async;
    let store = NodeStore::open_on(&settings, &sim.disk()).unwrap();
    started(&store);
    subscriber(&store, "sub", "a");
    std::thread::sleep(Duration::from_millis(300));
    let before = sim.0.syncs.load(std::sync::atomic::Ordering::Relaxed);
    for number in 0..100 {
        assert_eq!(
            wait(&publish(&store, "sub", "a", &number.to_string())),
            Progress::Done
        );
    }
    let during = sim.0.syncs.load(std::sync::atomic::Ordering::Relaxed) - before;
    assert!(during < 50, "{during} syncs for 100 commits");
    let after = Dir::new("async-after");
    copy(&dir, &after);
    std::thread::sleep(Duration::from_millis(300));
    let later = sim.0.syncs.load(std::sync::atomic::Ordering::Relaxed) - before;
    assert!(later > 0, "the end is synced without more traffic");
    let power = Dir::new("async-power");
    sim.crash(&dir, &power, &mut crate::disk::Dice::new(3));
    for place in [&after, &power] {
        settings.dir = place.to_path_buf();
        let store = NodeStore::open(&settings).unwrap();
        assert_eq!(queue(&store, "sub").len(), 100);
    }
}

/// A client that goes while its Open waits for the disk: the session is not left connected to nobody.
#[test]
fn an_open_that_nobody_waits_for_is_closed_again() {
    let dir = Dir::new("abandoned");
    let node = Node::start(&dir);
    for round in 0..20 {
        let client_id = format!("gone-{round}");
        let request = Node::request(&client_id, 3600, None, None);
        let mut future = Box::pin(node.broker.open(request, Timestamp::now()));
        let mut context = std::task::Context::from_waker(Waker::noop());
        let first = future.as_mut().poll(&mut context);
        assert!(first.is_pending(), "the disk was faster than this thread");
        drop(future);
    }
    let begun = std::time::Instant::now();
    loop {
        node.broker.tick(Timestamp::now());
        let found = node.store.restored();
        if found.len() == 20 && found.iter().all(|session| !session.connected) {
            break;
        }
        assert!(
            begun.elapsed() < Duration::from_secs(20),
            "still connected: {found:?}"
        );
        std::thread::sleep(Duration::from_millis(5));
    }
    let (_session, present) = node.connect("gone-3", 3600, None);
    assert!(present);
    assert!(
        node.store
            .restored()
            .iter()
            .any(|session| session.connected)
    );
}

#[test]
fn a_session_knows_its_user_after_a_restart() {
    let (dir, after) = (Dir::new("owner"), Dir::new("owner-after"));
    let node = Node::start(&dir);
    for (client_id, user) in [("of-alice", Some("alice")), ("of-nobody", None)] {
        let request = Node::request(client_id, 3600, None, user);
        block_on(node.broker.open(request, Timestamp::now())).unwrap();
    }
    killed(&node, &after);
    let check = |node: &Node| {
        let user = |client_id: &str| {
            node.broker
                .client(client_id)
                .unwrap()
                .info()
                .username
                .clone()
        };
        assert_eq!(user("of-alice").as_deref(), Some("alice"));
        assert_eq!(user("of-nobody"), None);
    };
    let node = Node::start(&after);
    check(&node);
    // From a snapshot too.
    node.store.snapshot().unwrap();
    let third = Dir::new("owner-third");
    killed(&node, &third);
    check(&Node::start(&third));
}

/// Transient clients do not wait for the disk: nothing they do is written, but in the two cases where a durable record
/// must go, or a will must be kept.
#[test]
fn transient_clients_write_nothing_but_in_two_cases() {
    let dir = Dir::new("transient");
    let node = Node::start(&dir);
    let settled = |node: &Node| {
        // Whatever was submitted is written before this is.
        wait(&node.store.put_meta(MetaEntry::Delete {
            key: "nothing".to_owned(),
        }));
        node.store.entries()
    };
    let before = settled(&node);
    for round in 0..50 {
        let (mut sub, _) = node.connect("transient-sub", 0, None);
        sub.subscribe(1, vec![qos1("t/#")], vec![ReasonCode::GrantedQoS1]);
        assert_eq!(drain_now(&mut sub), 1, "SUBACK waits for nothing");
        let (mut publisher, _) = node.connect("transient-pub", 0, None);
        for number in 0..20 {
            let text = format!("{round} {number}");
            let (_, ticket) = node.broker.publish_now(&message("t/1", &text));
            assert_eq!(
                ticket.poll(None),
                Progress::Done,
                "PUBACK waits for nothing"
            );
        }
        assert!(drain_now(&mut sub) > 0);
        sub.close(CloseKind::Normal, None, Timestamp::now());
        publisher.close(CloseKind::Abnormal, None, Timestamp::now());
    }
    // One for each question of `settled`, and nothing else.
    assert_eq!(settled(&node), before + 1);

    // A durable record must go.
    let (mut session, _) = node.connect("both", 3600, None);
    session.close(CloseKind::Normal, None, Timestamp::now());
    // Groups are applied by threads of their own: that of the session may be behind the one that `settled` asks.
    let end = std::time::Instant::now() + Duration::from_secs(20);
    while node.store.restored().iter().any(|it| it.connected) {
        assert!(std::time::Instant::now() < end, "its end is not applied");
        std::thread::yield_now();
    }
    let before = settled(&node);
    let mut request = Node::request("both", 0, None, None);
    request.clean_start = true;
    let (session, present) = block_on(node.broker.open(request, Timestamp::now())).unwrap();
    assert!(!present);
    assert_eq!(settled(&node), before + 2, "its CONNECT is written");
    drop(session);

    // A will must be kept.
    let before = settled(&node);
    let will = Some(Box::new(Will {
        message: message("will", "late"),
        delay: 0,
        expiry: None,
    }));
    let (_session, _) = node.connect("with-will", 0, will);
    assert_eq!(settled(&node), before + 2, "its CONNECT is written");
}

/// What a session sends at once.
fn drain_now(session: &mut Session) -> usize {
    let mut count = 0;
    while session
        .next_transmit(Timestamp::now(), Waker::noop())
        .unwrap()
        .is_some()
    {
        count += 1;
    }
    count
}
