//! Wills, sleep and what the front-end keeps, of clients that a front-end supervises (MQTT-SN sections 6.3 and 6.14).

use nightjar_mqtt::{QoS, TopicName};

use super::*;
use crate::settings::QueueLimits;
use crate::{Message, MessageHead, Timestamp};

struct Node {
    shard: SessionShard,
    fired: Vec<String>,
}

fn will(text: &str) -> Box<Will> {
    let head = MessageHead {
        topic: TopicName::new("gone").unwrap(),
        qos: QoS::AtLeastOnce,
        retain: false,
        publisher: None,
        received_at: Timestamp(0),
        expires_at: None,
        properties: None,
    };
    Box::new(Will {
        message: Message::new(head, text.as_bytes()),
        delay: 0,
        expiry: None,
    })
}

impl Node {
    fn new() -> Self {
        Self {
            shard: SessionShard::default(),
            fired: Vec::new(),
        }
    }

    fn apply(&mut self, entry: SessionEntry) -> Reply {
        let mut effects = Vec::new();
        let reply = self.shard.apply(entry, &mut effects);
        for effect in effects {
            if let Effect::Will { message, .. } = effect {
                self.fired
                    .push(String::from_utf8(message.payload().to_vec()).unwrap());
            }
        }
        reply
    }

    fn open(&mut self, clean: bool, rule: WillRule, will: Option<Box<Will>>, at: u64) -> Opened {
        let open = Open {
            owner: None,
            node: 0,
            client_id: "c".into(),
            clean_start: clean,
            expiry: 1000,
            will,
            limits: QueueLimits::default(),
            window: 1,
            supervision: Some(Supervision {
                will: rule,
                seconds: 90,
            }),
            now: Timestamp(at * 1000),
        };
        match self.apply(SessionEntry::Open(Box::new(open))) {
            Reply::Opened(opened) => *opened,
            other => panic!("{other:?}"),
        }
    }

    fn close(&mut self, epoch: u64, kind: CloseKind, at: u64) {
        let close = Close {
            client_id: "c".into(),
            epoch,
            kind,
            expiry: None,
            now: Timestamp(at * 1000),
        };
        assert_eq!(self.apply(SessionEntry::Close(close)), Reply::None);
    }

    fn tick(&mut self, at: u64) {
        self.apply(SessionEntry::Tick {
            now: Timestamp(at * 1000),
        });
    }
}

#[test]
fn a_sleeper_that_does_not_wake_is_lost_once_and_its_session_stays() {
    let mut node = Node::new();
    let opened = node.open(true, WillRule::Replace, Some(will("w")), 0);
    node.close(opened.epoch, CloseKind::Park(60), 0);
    node.tick(59);
    assert!(node.fired.is_empty());
    assert_eq!(node.shard.parked("c").unwrap().seconds, 60);
    node.tick(60);
    assert_eq!(node.fired, ["w"]);
    assert_eq!(node.shard.parked("c"), None);
    node.tick(999);
    assert_eq!(node.fired, ["w"]);
    // The will was published, and is kept for the next connection (CleanSession 0, Will 0).
    let opened = node.open(false, WillRule::Keep, None, 999);
    assert!(opened.present && opened.will.is_some());
    node.close(opened.epoch, CloseKind::Abnormal, 999);
    assert_eq!(node.fired, ["w", "w"]);
    // Its end brings it no third time.
    node.tick(3000);
    assert_eq!(node.fired.len(), 2);
    assert_eq!(node.shard.sessions(), 0);
}

#[test]
fn a_connect_behind_the_loss_of_a_sleeper_finds_its_will_published() {
    for (rule, clean, next) in [
        (WillRule::Keep, false, None),
        (WillRule::Replace, false, Some(will("x"))),
        (WillRule::Replace, true, None),
        (WillRule::Wake, false, None),
    ] {
        let mut node = Node::new();
        let opened = node.open(true, WillRule::Replace, Some(will("w")), 0);
        node.close(opened.epoch, CloseKind::Park(60), 0);
        // No tick came between.
        let opened = node.open(clean, rule, next, 60);
        assert_eq!(node.fired, ["w"], "{rule:?}");
        assert_eq!((opened.present, opened.parked), (!clean, 0), "{rule:?}");
        node.tick(61);
        assert_eq!(node.fired, ["w"], "{rule:?}");
    }
}

#[test]
fn each_touch_begins_the_countdown_anew() {
    let mut node = Node::new();
    let opened = node.open(true, WillRule::Replace, Some(will("w")), 0);
    node.close(opened.epoch, CloseKind::Park(60), 0);
    for at in [50, 100, 150] {
        let touch = SessionEntry::Touch {
            client_id: "c".into(),
            epoch: opened.epoch,
            now: Timestamp(at * 1000),
        };
        assert_eq!(node.apply(touch), Reply::None);
        node.tick(at + 49);
        assert!(node.fired.is_empty(), "{at}");
    }
    node.tick(210);
    assert_eq!(node.fired, ["w"]);
}

#[test]
fn waking_keeps_will_and_countdown() {
    let mut node = Node::new();
    let opened = node.open(true, WillRule::Replace, Some(will("w")), 0);
    node.close(opened.epoch, CloseKind::Park(60), 0);
    let opened = node.open(false, WillRule::Wake, None, 30);
    assert_eq!((opened.present, opened.parked), (true, 60));
    node.tick(500);
    assert!(
        node.fired.is_empty(),
        "an open session is not lost by the shard"
    );
    node.close(opened.epoch, CloseKind::Park(opened.parked), 500);
    node.tick(561);
    assert_eq!(node.fired, ["w"]);
}

#[test]
fn disconnect_disarms_and_the_next_connection_arms_again() {
    let mut node = Node::new();
    let opened = node.open(true, WillRule::Replace, Some(will("w")), 0);
    node.close(opened.epoch, CloseKind::Disarmed, 0);
    node.tick(900);
    assert!(node.fired.is_empty());
    let opened = node.open(false, WillRule::Keep, None, 900);
    assert!(opened.will.is_some());
    node.close(opened.epoch, CloseKind::Disarmed, 900);
    node.tick(5000);
    assert!(node.fired.is_empty(), "also not at its end");
    assert_eq!(node.shard.sessions(), 0);
}

#[test]
fn a_new_connect_is_no_loss_of_the_old_one() {
    let mut node = Node::new();
    node.open(true, WillRule::Replace, Some(will("old")), 0);
    node.open(false, WillRule::Replace, Some(will("new")), 1);
    node.open(false, WillRule::Keep, None, 2);
    let opened = node.open(true, WillRule::Replace, None, 3);
    assert_eq!((opened.present, opened.will), (false, None));
    node.close(opened.epoch, CloseKind::Abnormal, 3);
    assert!(
        node.fired.is_empty(),
        "CleanSession wiped it: {:?}",
        node.fired
    );
}

#[test]
fn the_front_ends_octets_come_back_and_survive_a_snapshot() {
    let mut node = Node::new();
    let epoch = node.open(true, WillRule::Replace, Some(will("w")), 0).epoch;
    for (append, octets) in [(false, "ab"), (true, "cd")] {
        let front = SessionEntry::Front {
            client_id: "c".into(),
            epoch,
            append,
            octets: octets.as_bytes().into(),
        };
        node.apply(front);
    }
    node.apply(SessionEntry::SetWill {
        client_id: "c".into(),
        epoch,
        will: Some(will("changed")),
    });
    node.close(epoch, CloseKind::Park(60), 0);
    let mut bytes = Vec::new();
    node.shard.encode(&mut bytes);
    node.shard = SessionShard::decode(&bytes).unwrap();
    let mut again = Vec::new();
    node.shard.encode(&mut again);
    assert_eq!(bytes, again);
    let restored: Vec<_> = node.shard.restored().collect();
    assert_eq!((restored[0].supervision, restored[0].parked), (60, true));
    node.tick(60);
    assert_eq!(node.fired, ["changed"]);
    let opened = node.open(false, WillRule::Keep, None, 61);
    assert_eq!(&*opened.front, b"abcd");
    let opened = node.open(true, WillRule::Replace, None, 62);
    assert!(opened.front.is_empty(), "CleanSession wipes it");
}

#[test]
fn a_sleeper_whose_node_dies_while_it_is_awake_sleeps_on() {
    for kind in [CloseKind::Abnormal, CloseKind::Restart(0)] {
        for snapshot in [false, true] {
            let mut node = Node::new();
            let opened = node.open(true, WillRule::Replace, Some(will("w")), 0);
            assert!(!opened.cut);
            node.close(opened.epoch, CloseKind::Park(60), 0);
            let awake = node.open(false, WillRule::Wake, None, 50);
            assert_eq!((awake.parked, awake.cut), (60, false));
            node.tick(1000);
            assert!(node.fired.is_empty(), "no countdown while it is awake");
            match kind {
                CloseKind::Abnormal => {
                    let gone = SessionEntry::NodeGone {
                        node: 0,
                        kind,
                        now: Timestamp(1_000_000),
                    };
                    assert_eq!(node.apply(gone), Reply::None);
                }
                kind => node.close(awake.epoch, kind, 1000),
            }
            if snapshot {
                let mut bytes = Vec::new();
                node.shard.encode(&mut bytes);
                node.shard = SessionShard::decode(&bytes).unwrap();
            }
            assert!(node.fired.is_empty(), "{kind:?}");
            let parked = node.shard.parked("c").unwrap();
            assert_eq!(
                (parked.seconds, parked.lost_at),
                (60, Timestamp(1_060_000)),
                "{kind:?}"
            );
            let again = node.open(false, WillRule::Wake, None, 1050);
            assert_eq!((again.parked, again.cut), (60, true));
            assert_eq!(again.before, awake.epoch);
            // Its end here is in order: nothing is in doubt then.
            node.close(again.epoch, CloseKind::Park(60), 1050);
            let last = node.open(false, WillRule::Wake, None, 1051);
            assert_eq!((last.parked, last.cut), (60, false));
            // Wakes elsewhere before its node is taken for dead.
            let over = node.open(false, WillRule::Wake, None, 1052);
            assert_eq!((over.parked, over.cut), (60, true));
            node.close(over.epoch, CloseKind::Park(60), 1053);
            // What its gateway ends while it is awake is over.
            let ended = node.open(false, WillRule::Wake, None, 1100);
            node.close(ended.epoch, CloseKind::Abnormal, 1101);
            assert_eq!(node.fired, ["w"]);
            assert_eq!(node.shard.parked("c"), None);
        }
    }
}
