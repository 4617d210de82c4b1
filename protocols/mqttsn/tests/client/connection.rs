//! CONNECT, will, keep alive, DISCONNECT.

use super::*;
use nightjar_mqttsn::ReturnCode;

#[test]
fn each_step_of_the_will_handshake_is_repeated_until_answered() {
    let mut bench = Bench::new();
    let options = ConnectOptions {
        prompt_will: true,
        will: Some(will()),
        ..ConnectOptions::default()
    };
    let token = bench.client.connect(bench.now, options);
    bench.sends(&["08 04 0C 01 003C 7331"]);
    bench.waits(10);
    bench.sends(&["08 04 0C 01 003C 7331"]);
    bench.hears("02 06");
    bench.sends(&["04 07 30 77"]);
    bench.waits(10);
    bench.sends(&["04 07 30 77"]);
    bench.hears("02 08");
    bench.sends(&["04 09 6279"]);
    bench.hears("02 06");
    bench.sends(&["04 07 30 77"]);
    bench.waits(10);
    bench.sends(&["04 09 6279"]);
    bench.hears("03 05 00");
    bench.done(token, None);
    assert_eq!(bench.client.state(), State::Active);
}

#[test]
fn the_empty_willtopic_deletes_the_will() {
    let mut bench = Bench::new();
    bench.client.connect(
        bench.now,
        ConnectOptions {
            prompt_will: true,
            ..ConnectOptions::default()
        },
    );
    bench.sends(&["08 04 0C 01 003C 7331"]);
    bench.hears("02 06");
    bench.sends(&["02 07"]);
}

#[test]
fn a_refused_connect_leaves_the_client_disconnected() {
    let mut bench = Bench::new();
    let token = bench.client.connect(bench.now, ConnectOptions::default());
    bench.hears("03 05 01");
    bench.events(&[Event::Refused {
        token,
        code: ReturnCode::CONGESTION,
    }]);
    assert_eq!(bench.client.state(), State::Disconnected);
    assert_eq!(bench.client.poll_timeout(), None);
}

#[test]
fn a_gateway_that_does_not_answer_is_given_up_after_n_retry() {
    let mut bench = Bench::connected();
    bench.client.ping(bench.now);
    bench.sends(&["02 16"]);
    for _ in 0..4 {
        bench.waits(10);
        bench.sends(&["02 16"]);
    }
    bench.waits(10);
    bench.sends(&[]);
    bench.events(&[Event::Disconnected { no_answer: true }]);
    assert_eq!(
        (bench.client.state(), bench.client.poll_timeout()),
        (State::Disconnected, None)
    );
}

#[test]
fn keep_alive_pings_when_nothing_else_was_sent() {
    let mut bench = Bench::new();
    bench.client.connect(
        bench.now,
        ConnectOptions {
            duration: 100,
            ..ConnectOptions::default()
        },
    );
    bench.sends(&["08 04 04 01 0064 7331"]);
    bench.hears("03 05 00");
    bench.client.poll_event();
    bench.now += Duration::from_secs(30);
    bench.hears("02 16");
    bench.sends(&["02 17"]);
    bench.waits(80);
    bench.sends(&["02 16"]);
    bench.hears("02 17");
    bench.events(&[]);
    bench.waits(80);
    bench.sends(&["02 16"]);
}

#[test]
fn what_was_cut_off_goes_on_after_a_reconnect_with_the_session() {
    let mut bench = Bench::connected();
    let first = bench.client.publish(
        bench.now,
        Topic::Predefined(7),
        QoS::ExactlyOnce,
        false,
        "x",
    );
    let second = bench.client.publish(
        bench.now,
        Topic::Predefined(7),
        QoS::AtLeastOnce,
        false,
        "y",
    );
    bench.sends(&["08 0C 41 0007 0011 78"]);
    bench.hears("02 18");
    bench.events(&[Event::Disconnected { no_answer: false }]);
    let options = ConnectOptions {
        clean_session: false,
        duration: 0,
        ..ConnectOptions::default()
    };
    let token = bench.client.connect(bench.now, options);
    bench.sends(&["08 04 00 01 0000 7331"]);
    bench.hears("03 05 00");
    bench.done(token, None);
    bench.sends(&["08 0C C1 0007 0011 78"]);
    bench.hears("04 0F 0011");
    bench.sends(&["04 10 0011"]);
    bench.hears("04 0E 0011");
    bench.done(first, None);
    bench.sends(&["08 0C 21 0007 0013 79"]);
    bench.hears("07 0D 0007 0013 00");
    bench.done(second, None);
    assert!(bench.client.is_idle());
}

#[test]
fn a_clean_reconnect_starts_over_what_was_cut_off() {
    let mut bench = Bench::connected();
    bench.publish("a", QoS::AtLeastOnce, "x");
    bench.sends(&["07 0A 0000 0011 61"]);
    bench.hears("07 0B 0005 0011 00");
    bench.sends(&["08 0C 20 0005 0012 78"]);
    bench.hears("02 18");
    bench.events(&[Event::Disconnected { no_answer: false }]);
    bench.connect();
    bench.sends(&["07 0A 0000 0014 61"]);
}

#[test]
fn disconnect_waits_for_its_answer() {
    let mut bench = Bench::connected();
    let token = bench.client.disconnect(bench.now);
    bench.sends(&["02 18"]);
    assert_eq!(bench.client.state(), State::Active);
    bench.hears("02 18");
    bench.done(token, None);
    assert_eq!(bench.client.state(), State::Disconnected);
}

#[test]
fn will_updates_are_answered_one_by_one() {
    let mut bench = Bench::connected();
    let topic = bench.client.update_will_topic(bench.now, Some(will()));
    let message = bench.client.update_will_message(bench.now, "gone");
    let gone = bench.client.update_will_topic(bench.now, None);
    bench.sends(&["04 1A 30 77"]);
    bench.hears("03 1B 00");
    bench.done(topic, None);
    bench.sends(&["06 1C 676F6E65"]);
    bench.hears("03 1D 03");
    bench.events(&[Event::Refused {
        token: message,
        code: ReturnCode::NOT_SUPPORTED,
    }]);
    bench.sends(&["02 1A"]);
    bench.hears("03 1B 00");
    bench.done(gone, None);
}

#[test]
fn behind_a_forwarder_everything_is_encapsulated() {
    let mut bench = Bench::with(|config| config.node_id = Some(vec![0xAB]));
    let token = bench.client.connect(bench.now, ConnectOptions::default());
    bench.sends(&["04 FE 00 AB 08 04 04 01 003C 7331"]);
    bench.hears("03 05 00");
    bench.hears("04 FE 00 AC 03 05 00");
    bench.events(&[]);
    bench.hears("04 FE 00 AB 03 05 00");
    bench.done(token, None);
    assert_eq!(bench.client.counters().unheard, 2);
}

#[test]
fn what_no_datagram_can_hold_is_refused_at_once() {
    let mut bench = Bench::connected();
    let data = vec![0; 65_536];
    let token = bench.client.publish(
        bench.now,
        Topic::Predefined(1),
        QoS::AtLeastOnce,
        false,
        data,
    );
    bench.sends(&[]);
    bench.events(&[Event::Refused {
        token,
        code: ReturnCode::NOT_SUPPORTED,
    }]);
    assert!(bench.client.is_idle());
}
