//! What is acknowledged, and what must not be.

use std::sync::Arc;
use std::task::Waker;
use std::time::{Duration, Instant};

use nightjar_broker::session::{Admission, SessionError};
use nightjar_broker::shard::Effect;
use nightjar_broker::{
    Completion, EffectSink, Forward, Interest, Mesh, Message, MessageHead, Progress, Session,
    Ticket, Timestamp, Transmit,
};
use nightjar_mqtt::{QoS, ReasonCode, TopicFilter};

use crate::kit::*;
use crate::node::*;

fn of_qos(qos: QoS, topic: &str, payload: &str) -> Message {
    let head = MessageHead {
        qos,
        ..message(topic, payload).head().clone()
    };
    Message::new(head, payload.as_bytes())
}

fn publish_by(node: &Node, session: &mut Session, message: &Message, id: u16) {
    let route = node.broker.router().route(message.topic());
    let mut batch = Session::new_batch();
    session
        .publish(message, &route, id, Admission::Admitted, &mut batch)
        .unwrap();
    session.finish_batch(&mut batch, Timestamp::now());
}

/// The first answer of a session, or why there is none.
fn answer(session: &mut Session) -> Result<Transmit, SessionError> {
    let begin = Instant::now();
    loop {
        if let Some(transmit) = session.next_transmit(Timestamp::now(), Waker::noop())? {
            return Ok(transmit);
        }
        assert!(begin.elapsed() < Duration::from_secs(30), "no answer");
        std::thread::sleep(Duration::from_millis(1));
    }
}

#[test]
fn what_is_refused_at_once_is_never_acknowledged() {
    let dir = Dir::new("refused");
    let node = Node::start(&dir);
    let (mut sub, _) = node.connect("sub", 3600, None);
    sub.subscribe(1, vec![qos1("a")], vec![ReasonCode::GrantedQoS1]);
    drain(&mut sub);
    let (mut publisher, _) = node.connect("pub", 0, None);
    node.store.close();
    publish_by(&node, &mut publisher, &message("a", "one"), 1);
    let refused = answer(&mut publisher);
    assert!(
        matches!(refused, Err(SessionError::NotCommitted(_))),
        "{refused:?}"
    );
}

#[test]
fn what_an_overtaken_connection_left_unread_is_not_taken_beside_its_repeat() {
    let dir = Dir::new("overtaken");
    let node = Node::start(&dir);
    let (mut sub, _) = node.connect("sub", 3600, None);
    sub.subscribe(1, vec![qos1("a")], vec![ReasonCode::GrantedQoS1]);
    drain(&mut sub);
    sub.close(
        nightjar_broker::shard::CloseKind::Normal,
        None,
        Timestamp::now(),
    );
    let (mut old, _) = node.connect("pub", 3600, None);
    let (mut new, present) = node.connect("pub", 3600, None);
    assert!(present);
    let twice = of_qos(QoS::ExactlyOnce, "a", "once");
    publish_by(&node, &mut old, &twice, 7);
    let refused = answer(&mut old);
    assert!(
        matches!(
            refused,
            Err(SessionError::NotCommitted(ReasonCode::SessionTakenOver))
        ),
        "{refused:?}"
    );
    // The client sends it again by its new connection.
    publish_by(&node, &mut new, &twice, 7);
    assert!(matches!(
        answer(&mut new),
        Ok(Transmit::Ack { id: 7, reason, .. }) if !reason.is_error()
    ));
    assert_eq!(queue(&node.store, "sub"), ["once"]);
}

#[test]
fn a_message_for_a_shared_subscription_is_held_while_its_members_move() {
    let dir = Dir::new("moving");
    let node = Node::start(&dir);
    // As another node's member looks from here while nobody says where it is.
    let moving = TopicFilter::new("$share/team/s/#").unwrap();
    node.broker.effect(0, Effect::RouteAdded(moving));
    let (published, ticket) = node.broker.publish_now(&message("s/1", "one"));
    assert!(published.matched);
    node.broker.tick(Timestamp::now());
    assert_eq!(ticket.poll(None), Progress::Pending);
    let (published, _) =
        node.broker
            .publish_now(&of_qos(QoS::AtMostOnce, "s/1", "nobody waits for it"));
    assert!(published.matched, "it is counted as dropped");

    let (mut member, _) = node.connect("member", 3600, None);
    member.subscribe(
        1,
        vec![qos1("$share/team/s/#")],
        vec![ReasonCode::GrantedQoS1],
    );
    drain(&mut member);
    node.broker.tick(Timestamp::now());
    assert_eq!(wait(&ticket), Progress::Done);
    let got = publishes(&drain(&mut member));
    assert_eq!(got, [("one".to_owned(), false)]);

    // With its last member the group goes, and nobody is waited for.
    let (mut other, _) = node.connect("other", 3600, None);
    let gone = TopicFilter::new("$share/gone/g").unwrap();
    node.broker.effect(1, Effect::RouteAdded(gone.clone()));
    let (_, held) = node.broker.publish_now(&message("g", "two"));
    assert_eq!(held.poll(None), Progress::Pending);
    node.broker.effect(1, Effect::RouteRemoved(gone));
    node.broker.tick(Timestamp::now());
    assert_eq!(wait(&held), Progress::Done);
    let (published, _) = node.broker.publish_now(&message("g", "three"));
    assert!(!published.matched);
    other.close(
        nightjar_broker::shard::CloseKind::Normal,
        None,
        Timestamp::now(),
    );
}

/// Another node, which has what is sent to it when the test says so.
struct Far {
    sent: parking_lot::Mutex<Vec<Arc<Completion>>>,
}

impl Mesh for Far {
    fn node(&self) -> u64 {
        1
    }

    fn announce(&self, _: &TopicFilter, _: Interest) {}

    fn announced(&self) -> Ticket {
        Ticket::DONE
    }

    fn forward(&self, _: u64, _: Vec<Forward>) -> Ticket {
        let done = Completion::new(1);
        self.sent.lock().push(done.clone());
        Ticket::on(done)
    }
}

#[test]
fn a_packet_id_of_qos_2_is_not_kept_before_other_nodes_have_its_message() {
    let dir = Dir::new("elsewhere");
    let node = Node::start(&dir);
    let far = Arc::new(Far {
        sent: parking_lot::Mutex::default(),
    });
    node.broker.set_mesh(far.clone());
    let (mut sub, _) = node.connect("sub", 3600, None);
    sub.subscribe(1, vec![qos1("a")], vec![ReasonCode::GrantedQoS1]);
    drain(&mut sub);
    let close = nightjar_broker::shard::CloseKind::Normal;
    sub.close(close, None, Timestamp::now());
    let wanted = Interest {
        members: 1,
        acknowledged: 1,
    };
    let there = TopicFilter::new("a").unwrap();
    node.broker.set_interest(2, &there, wanted);

    // The connection ends while the other node does not have the message.
    let (mut session, _) = node.connect("pub", 3600, None);
    let message = of_qos(QoS::ExactlyOnce, "a", "once");
    publish_by(&node, &mut session, &message, 7);
    let early = session.next_transmit(Timestamp::now(), Waker::noop());
    assert!(matches!(early, Ok(None)), "{early:?}");
    session.close(close, None, Timestamp::now());
    assert_eq!(queue(&node.store, "sub"), [""; 0]);

    // Its client sends it again, and what is behind it waits for it.
    let (mut session, present) = node.connect("pub", 3600, None);
    assert!(present && !session.is_repeat(QoS::ExactlyOnce, 7));
    publish_by(&node, &mut session, &message, 7);
    publish_by(
        &node,
        &mut session,
        &of_qos(QoS::AtLeastOnce, "a", "behind"),
        8,
    );
    assert_eq!(far.sent.lock().len(), 3);
    far.sent.lock()[2].complete(Ok(()));
    let early = session.next_transmit(Timestamp::now(), Waker::noop());
    assert!(matches!(early, Ok(None)), "{early:?}");
    assert_eq!(queue(&node.store, "sub"), [""; 0]);
    far.sent.lock()[1].complete(Ok(()));
    for id in [7, 8] {
        let got = answer(&mut session);
        assert!(
            matches!(got, Ok(Transmit::Ack { id: it, reason, .. }) if it == id && !reason.is_error()),
            "{got:?}"
        );
    }
    assert_eq!(queue(&node.store, "sub"), ["once", "behind"]);
    assert!(session.is_repeat(QoS::ExactlyOnce, 7));
}
