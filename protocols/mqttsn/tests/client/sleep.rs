//! Sleeping clients (section 6.14).

use super::*;

/// A client that went asleep for 60 s.
fn asleep(change: impl FnOnce(&mut Config)) -> Bench {
    let mut bench = Bench::with(change);
    bench.connect();
    let token = bench.client.sleep(bench.now, 60);
    bench.sends(&["04 18 003C"]);
    bench.hears("02 18");
    bench.done(token, None);
    assert_eq!(bench.client.state(), State::Asleep);
    assert_eq!(bench.client.poll_timeout(), None);
    bench
}

#[test]
fn asleep_nothing_is_heard() {
    let mut bench = asleep(|_| {});
    bench.hears("08 0C 21 0007 0001 78");
    bench.hears("02 18");
    bench.sends(&[]);
    bench.events(&[]);
    assert_eq!(
        (bench.client.state(), bench.client.counters().unheard),
        (State::Asleep, 2)
    );
}

#[test]
fn waking_takes_messages_until_pingresp_and_repeats_pingreq_only_in_silence() {
    let mut bench = asleep(|_| {});
    let token = bench.client.wake(bench.now);
    bench.sends(&["04 16 7331"]);
    assert_eq!(bench.client.state(), State::Awake);
    bench.waits(10);
    bench.sends(&["04 16 7331"]);
    bench.now += Duration::from_secs(9);
    bench.hears("08 0C 21 0007 0001 78");
    bench.sends(&["07 0D 0007 0001 00"]);
    bench.now += Duration::from_secs(9);
    bench.client.handle_timeout(bench.now);
    bench.sends(&[]);
    bench.hears("02 17");
    assert!(matches!(bench.client.poll_event(), Some(Event::Message(_))));
    bench.done(token, None);
    assert_eq!(
        (bench.client.state(), bench.client.counters().wakes),
        (State::Asleep, 1)
    );
}

#[test]
fn commands_wait_for_the_next_connect() {
    let mut bench = asleep(|_| {});
    let publish = bench.client.publish(
        bench.now,
        Topic::Predefined(7),
        QoS::AtLeastOnce,
        false,
        "x",
    );
    bench.sends(&[]);
    let options = ConnectOptions {
        clean_session: false,
        duration: 0,
        ..ConnectOptions::default()
    };
    let connect = bench.client.connect(bench.now, options);
    bench.sends(&["08 04 00 01 0000 7331"]);
    bench.hears("03 05 00");
    bench.done(connect, None);
    bench.sends(&["08 0C 21 0007 0013 78"]);
    bench.hears("07 0D 0007 0013 00");
    bench.done(publish, None);
}

#[test]
fn publishing_from_sleep_hears_its_answer_and_stays_asleep() {
    let mut bench = asleep(|config| config.publish_asleep = true);
    let publish = bench.client.publish(
        bench.now,
        Topic::Predefined(7),
        QoS::AtLeastOnce,
        false,
        "x",
    );
    bench.sends(&["08 0C 21 0007 0012 78"]);
    bench.hears("07 0D 0007 0012 00");
    bench.done(publish, None);
    assert_eq!(bench.client.state(), State::Asleep);
}

#[test]
fn qos_minus_1_goes_out_asleep() {
    let mut bench = asleep(|_| {});
    bench
        .client
        .publish(bench.now, Topic::Short(*b"te"), QoS::MinusOne, false, "x");
    bench.sends(&["08 0C 62 7465 0000 78"]);
    assert_eq!(bench.client.state(), State::Asleep);
}

#[test]
fn a_new_duration_and_a_last_disconnect_from_sleep() {
    let mut bench = asleep(|_| {});
    bench.client.publish(
        bench.now,
        Topic::Predefined(7),
        QoS::AtLeastOnce,
        false,
        "waits",
    );
    let longer = bench.client.sleep(bench.now, 3600);
    bench.sends(&["04 18 0E10"]);
    bench.hears("02 18");
    bench.done(longer, None);
    let last = bench.client.disconnect(bench.now);
    bench.sends(&["02 18"]);
    bench.hears("02 18");
    bench.done(last, None);
    assert_eq!(bench.client.state(), State::Disconnected);
}

#[test]
fn connecting_while_awake_leaves_the_flush() {
    let mut bench = asleep(|_| {});
    bench.client.wake(bench.now);
    bench.sends(&["04 16 7331"]);
    bench.connect();
    bench.hears("02 17");
    assert_eq!(
        (bench.client.state(), bench.client.counters().wakes),
        (State::Active, 0)
    );
}

#[test]
fn a_gateway_that_knows_no_session_ends_the_waking() {
    let mut bench = asleep(|_| {});
    bench.client.wake(bench.now);
    bench.hears("02 18");
    bench.events(&[Event::Disconnected { no_answer: false }]);
    assert_eq!(bench.client.state(), State::Disconnected);
}
