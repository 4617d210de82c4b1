//! REGISTER, PUBLISH both ways, SUBSCRIBE.

use super::*;
use nightjar_mqttsn::ReturnCode;
use nightjar_mqttsn::client::Received;

fn received(topic: Topic, qos: QoS, dup: bool, data: &str) -> Event {
    Event::Message(Received {
        topic,
        qos,
        retain: false,
        dup,
        data: data.into(),
    })
}

#[test]
fn a_name_is_registered_before_its_first_publish_only() {
    let mut bench = Bench::connected();
    let first = bench.publish("a/b", QoS::AtMostOnce, "x");
    let second = bench.publish("a/b", QoS::AtMostOnce, "y");
    bench.sends(&["09 0A 0000 0011 612F62"]);
    bench.hears("07 0B 0005 0011 00");
    bench.sends(&["08 0C 00 0005 0000 78", "08 0C 00 0005 0000 79"]);
    bench.events(&[
        Event::Done {
            token: first,
            topic_id: None,
        },
        Event::Done {
            token: second,
            topic_id: None,
        },
    ]);
}

#[test]
fn dup_is_set_on_repeats_of_publish_and_subscribe_only() {
    let mut bench = Bench::connected();
    let publish =
        bench
            .client
            .publish(bench.now, Topic::Short(*b"te"), QoS::ExactlyOnce, true, "x");
    bench.sends(&["08 0C 52 7465 0011 78"]);
    bench.waits(10);
    bench.sends(&["08 0C D2 7465 0011 78"]);
    bench.hears("04 0F 0011");
    bench.sends(&["04 10 0011"]);
    bench.waits(10);
    bench.sends(&["04 10 0011"]);
    bench.hears("04 0F 0011");
    bench.sends(&["04 10 0011"]);
    bench.hears("04 0E 0011");
    bench.done(publish, None);
    let subscribe = bench
        .client
        .subscribe(bench.now, Topic::Name("a/#".into()), QoS::AtLeastOnce);
    bench.sends(&["08 12 20 0012 612F23"]);
    bench.waits(10);
    bench.sends(&["08 12 A0 0012 612F23"]);
    bench.hears("08 13 20 0000 0012 00");
    bench.done(subscribe, Some(0));
    assert_eq!(bench.client.topic_id("a/#"), None);
    assert_eq!(bench.client.counters().repeats, 3);
}

#[test]
fn answers_with_another_msg_id_are_not_taken() {
    let mut bench = Bench::connected();
    let register = bench.client.register(bench.now, "a");
    bench.sends(&["07 0A 0000 0011 61"]);
    for stray in [
        "07 0B 0005 0099 00",
        "07 0D 0005 0011 00",
        "08 13 00 0005 0011 00",
        "04 15 0011",
        "04 0E 0011",
    ] {
        bench.hears(stray);
    }
    bench.events(&[]);
    bench.hears("07 0B 0006 0011 00");
    bench.done(register, Some(6));
    assert_eq!(bench.client.topic_id("a"), Some(6));
}

#[test]
fn an_id_that_the_gateway_forgot_is_registered_again() {
    let mut bench = Bench::connected();
    bench.client.register(bench.now, "a");
    bench.hears("07 0B 0005 0011 00");
    bench.client.poll_event();
    bench.client.poll_transmit();
    let token = bench.publish("a", QoS::AtLeastOnce, "x");
    bench.sends(&["08 0C 20 0005 0012 78"]);
    bench.hears("07 0D 0005 0012 02");
    bench.sends(&["07 0A 0000 0013 61"]);
    bench.hears("07 0B 0009 0013 00");
    bench.sends(&["08 0C 20 0009 0014 78"]);
    bench.hears("07 0D 0009 0014 00");
    bench.done(token, None);
}

#[test]
fn refusals_name_their_command_or_their_topic() {
    let mut bench = Bench::connected();
    let predefined = bench.client.publish(
        bench.now,
        Topic::Predefined(7),
        QoS::AtLeastOnce,
        false,
        "x",
    );
    bench.hears("07 0D 0007 0011 02");
    bench.events(&[Event::Refused {
        token: predefined,
        code: ReturnCode::INVALID_TOPIC_ID,
    }]);
    let wildcard = bench.client.register(bench.now, "#");
    bench.hears("07 0B 0000 0012 03");
    bench.events(&[Event::Refused {
        token: wildcard,
        code: ReturnCode::NOT_SUPPORTED,
    }]);
    let unanswered =
        bench
            .client
            .publish(bench.now, Topic::Predefined(7), QoS::AtMostOnce, false, "x");
    bench.done(unanswered, None);
    bench.hears("07 0D 0007 0000 03");
    bench.events(&[Event::PublishRefused {
        topic_id: 7,
        code: ReturnCode::NOT_SUPPORTED,
    }]);
}

#[test]
fn qos_minus_1_needs_no_connection_but_a_topic_without_registration() {
    let mut bench = Bench::new();
    let token = bench
        .client
        .publish(bench.now, Topic::Predefined(7), QoS::MinusOne, false, "x");
    bench.sends(&["08 0C 61 0007 0000 78"]);
    bench.done(token, None);
    let token = bench.publish("a", QoS::MinusOne, "x");
    bench.sends(&[]);
    bench.events(&[Event::Refused {
        token,
        code: ReturnCode::INVALID_TOPIC_ID,
    }]);
    assert_eq!(bench.client.poll_timeout(), None);
}

#[test]
fn messages_are_answered_by_their_qos_and_qos_2_comes_once() {
    let mut bench = Bench::connected();
    bench.hears("09 0A 0005 0001 612F62");
    bench.sends(&["07 0B 0005 0001 00"]);
    let topic = || Topic::Name("a/b".into());
    bench.hears("08 0C 00 0005 0000 78");
    bench.sends(&[]);
    bench.hears("08 0C 20 0005 0002 79");
    bench.sends(&["07 0D 0005 0002 00"]);
    bench.hears("08 0C 40 0005 0003 7A");
    bench.hears("08 0C C0 0005 0003 7A");
    bench.hears("04 10 0003");
    bench.hears("04 10 0003");
    bench.sends(&["04 0F 0003", "04 0F 0003", "04 0E 0003", "04 0E 0003"]);
    // A copy that the network held up, and a message that uses the MsgId again.
    bench.hears("08 0C 40 0005 0003 7A");
    bench.hears("08 0C 40 0005 0003 7B");
    bench.sends(&["04 0F 0003", "04 0F 0003"]);
    bench.events(&[
        received(topic(), QoS::AtMostOnce, false, "x"),
        received(topic(), QoS::AtLeastOnce, false, "y"),
        received(topic(), QoS::ExactlyOnce, false, "z"),
        received(topic(), QoS::ExactlyOnce, false, "{"),
    ]);
    assert_eq!(bench.client.counters().duplicates, 2);
}

#[test]
fn predefined_and_short_topics_of_messages_need_no_registration_and_others_do() {
    let mut bench = Bench::connected();
    bench.hears("08 0C 01 0005 0000 78");
    bench.hears("08 0C 02 7465 0000 78");
    bench.events(&[
        received(Topic::Predefined(5), QoS::AtMostOnce, false, "x"),
        received(Topic::Short(*b"te"), QoS::AtMostOnce, false, "x"),
    ]);
    bench.sends(&[]);
    bench.hears("08 0C 00 0005 0000 78");
    bench.hears("08 0C 20 0005 0007 78");
    bench.sends(&["07 0D 0005 0000 02", "07 0D 0005 0007 02"]);
    bench.events(&[]);
    assert_eq!(bench.client.counters().unknown_topics, 2);
}

#[test]
fn a_client_that_refuses_registrations_learns_no_id() {
    let mut bench = Bench::with(|config| config.register_code = ReturnCode::CONGESTION);
    bench.connect();
    bench.hears("07 0A 0005 0001 61");
    bench.sends(&["07 0B 0005 0001 01"]);
    assert_eq!(bench.client.topic_id("a"), None);
}

#[test]
fn an_id_given_to_another_name_stands_for_the_new_one_alone() {
    let mut bench = Bench::connected();
    bench.hears("07 0A 0005 0001 61");
    bench.hears("07 0A 0005 0002 62");
    assert_eq!(
        (bench.client.topic_id("a"), bench.client.topic_id("b")),
        (None, Some(5))
    );
    bench.hears("07 0A 0006 0003 62");
    assert_eq!(bench.client.topic_id("b"), Some(6));
    bench.client.forget_topics();
    assert_eq!(bench.client.topic_id("b"), None);
}

#[test]
fn unsubscribe_names_a_topic_each_way() {
    let mut bench = Bench::connected();
    for (topic, datagram, answer) in [
        (Topic::Name("a".into()), "06 14 00 0011 61", "04 15 0011"),
        (Topic::Predefined(7), "07 14 01 0012 0007", "04 15 0012"),
        (Topic::Short(*b"te"), "07 14 02 0013 7465", "04 15 0013"),
    ] {
        let token = bench.client.unsubscribe(bench.now, topic);
        bench.sends(&[datagram]);
        bench.hears(answer);
        bench.done(token, None);
    }
}

#[test]
fn msg_ids_skip_zero() {
    let mut bench = Bench::with(|config| config.first_msg_id = 0xFFFE);
    bench.connect();
    bench
        .client
        .publish(bench.now, Topic::Predefined(7), QoS::AtLeastOnce, false, "");
    bench.sends(&["07 0C 21 0007 FFFF"]);
    bench.hears("07 0D 0007 FFFF 00");
    bench
        .client
        .publish(bench.now, Topic::Predefined(7), QoS::AtLeastOnce, false, "");
    bench.sends(&["07 0C 21 0007 0001"]);
}
