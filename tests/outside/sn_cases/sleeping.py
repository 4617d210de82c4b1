"""Sleeping clients (section 6.14)."""

import time

import sn_client as sn
from harness import case, check, expect, quiet, receives
from sn_client import Will


def asleep(t, topic=None, qos=1, listener="default", duration=60, clean=False, **options):
    """A sleeper with a subscription."""
    c = t.connected(listener=listener, clean=clean, **options)
    c.subscribe(topic or t.topic(), qos=qos)
    c.sleep(duration)
    return c


@case("6.14-1", "5.4.21-2")
def nothing_is_sent_to_a_sleeper(t):
    c = asleep(t, qos=2)
    m = t.mqtt()
    for qos in (0, 1, 2):
        m.publish(t.topic(), b"%d" % qos, qos)
    quiet(c, 1)
    check([one.data for one in c.wake()] == [b"0", b"1", b"2"], "the buffer")


@case("6.14-2")
def a_clean_session_sleeps_too(t):
    c = asleep(t, clean=True)
    t.mqtt().publish(t.topic(), b"x", 1)
    check([one.data for one in c.wake()] == [b"x"], "the buffer")
    t.mqtt("m2").publish(t.topic(), b"y", 1)
    quiet(c)
    check([one.data for one in c.wake()] == [b"y"], "the buffer")


@case("6.14-3")
def an_empty_buffer_is_pingresp_at_once(t):
    c = asleep(t)
    for _ in range(3):
        begin = time.monotonic()
        c.send(sn.pingreq(t.id("c")))
        expect(c, sn.PINGRESP)
        check(time.monotonic() - begin < 1, "late")
    quiet(c)


@case("6.14-4", "6.13-5")
def a_repeated_pingreq_neither_restarts_nor_doubles_the_flush(t):
    c, m = asleep(t), t.mqtt()
    for i in range(3):
        m.publish(t.topic(), b"%d" % i, 1)
    c.send(sn.pingreq(t.id("c")))
    first = expect(c, sn.PUBLISH)
    c.send(sn.pingreq(t.id("c")))
    quiet(c)
    c._handle(first)
    for i in (1, 2):
        got = expect(c, sn.PUBLISH)
        check(got.data == b"%d" % i and not got.dup, got)
        c.send(sn.pingreq(t.id("c")))
        c._handle(got)
    expect(c, sn.PINGRESP)
    # A repeat that arrives after the flush is a wake of its own with nothing to send.
    for _ in range(2):
        if c.next_message(0.3) is None:
            break


@case("6.14-5", slow=True)
def pingreq_restarts_the_sleep_timer(t):
    """2 s and half of it: without restarts lost after 3 s; with a PINGREQ each 1.5 s alive after 6 s."""
    watch = t.watcher(t.topic("will"))
    c = asleep(t, duration=2, will=Will(t.topic("will"), b"gone"))
    for _ in range(4):
        time.sleep(1.5)
        c.wake()
    check(not watch.messages(0.2), "lost")
    watch.expect(t.topic("will"), b"gone")


@case("6.14-6", slow=True)
def a_new_duration_replaces_the_old_one(t):
    watch = t.watcher(t.topic("will"))
    c = asleep(t, duration=1, will=Will(t.topic("will"), b"gone"))
    c.sleep(60)
    time.sleep(3)
    check(not watch.messages(0.2), "the old duration counted")
    c.sleep(1)
    watch.expect(t.topic("will"), b"gone")


@case("6.14-7", slow=True)
def disconnect_of_a_sleeper_ends_sleep_without_a_will(t):
    watch = t.watcher(t.topic("will"))
    c = asleep(t, duration=1, will=Will(t.topic("will"), b"gone"))
    c.disconnect()
    time.sleep(2.5)
    check(not watch.messages(), "a will")
    c.send(sn.pingreq())
    expect(c, sn.DISCONNECT)


@case("6.14-7")
def connect_of_a_sleeper_makes_it_active(t):
    c = asleep(t)
    c.connect(clean=False, duration=61)
    t.mqtt().publish(t.topic(), b"at once", 1)
    receives(c, t.topic(), b"at once")


@case("6.14-2")
def arrivals_during_the_flush_come_before_pingresp(t):
    c, m = asleep(t), t.mqtt()
    m.publish(t.topic(), b"0", 1)
    c.send(sn.pingreq(t.id("c")))
    first = expect(c, sn.PUBLISH)
    m.publish(t.topic(), b"1", 1)
    c._handle(first)
    second = expect(c, sn.PUBLISH)
    check(second.data == b"1", second)
    c._handle(second)
    expect(c, sn.PINGRESP)


@case("6.14-2")
def a_new_topic_is_registered_while_awake(t):
    c, m = asleep(t, t.topic("#")), t.mqtt()
    for qos in (0, 1, 2):
        m.publish(t.topic(f"new/{qos}"), b"%d" % qos, qos)
    got = [(one.topic, one.data) for one in c.wake()]
    check(got == [(t.topic(f"new/{qos}"), b"%d" % qos) for qos in (0, 1, 2)], got)


@case("6.14-2", "5.4.14-2")
def qos_2_in_the_flush(t):
    c, m = asleep(t, qos=2), t.mqtt()
    for i in range(3):
        m.publish(t.topic(), b"%d" % i, 2)
    check([one.data for one in c.wake()] == [b"0", b"1", b"2"], "the buffer")


@case("6.13-3", "6.14-2", slow=True)
def a_flush_that_is_not_answered_is_given_up_and_kept(t):
    """retry_interval 1 s, and three times that until a silent client is left alone: no PINGRESP, no will, the messages
    stay."""
    watch = t.watcher(t.topic("will"))
    c, m = asleep(t, listener="quick", will=Will(t.topic("will"), b"gone")), t.mqtt()
    for i in range(3):
        m.publish(t.topic(), b"%d" % i, 1)
    c.send(sn.pingreq(t.id("c")))
    for _ in range(2):
        check(expect(c, sn.PUBLISH, 6).data == b"0", "another message")
    end = time.monotonic() + 6
    while (message := c.next_message(end - time.monotonic())) is not None:
        check(message.type == sn.PUBLISH and message.data == b"0", message)
    check([one.data for one in c.wake()] == [b"0", b"1", b"2"], "the buffer")
    check(not watch.messages(0.2), "a will")


@case("6.14-2", "6.14-9")
def to_sleep_from_awake(t):
    """DISCONNECT(duration) in the middle of a flush: asleep again, the rest stays."""
    c, m = asleep(t), t.mqtt()
    for i in range(3):
        m.publish(t.topic(), b"%d" % i, 1)
    c.send(sn.pingreq(t.id("c")))
    first = expect(c, sn.PUBLISH)
    c._handle(first)
    expect(c, sn.PUBLISH)
    c.send(sn.disconnect(50))
    expect(c, sn.DISCONNECT)
    quiet(c)
    check([one.data for one in c.wake()] == [b"1", b"2"], "the rest")


@case("6.14-2")
def a_wake_has_a_portion_where_it_is_limited(t):
    """wake_limit is 3 here."""
    c, m = asleep(t, listener="portion"), t.mqtt()
    for i in range(7):
        m.publish(t.topic(), b"%d" % i, 1)
    portions = [[int(one.data) for one in c.wake()] for _ in range(3)]
    check(portions == [[0, 1, 2], [3, 4, 5], [6]], portions)


@case("6.14-1")
def publish_of_a_sleeper_without_connect(t):
    """publish_asleep: taken, answered, and the client sleeps on."""
    watch, c = t.watcher(t.topic("up")), t.connected(clean=False)
    up = c.register(t.topic("up"))
    c.subscribe(t.topic(), qos=1)
    c.sleep(60)
    t.mqtt().publish(t.topic(), b"kept", 1)
    c.send(sn.publish(up, b"zero"))
    watch.expect(t.topic("up"), b"zero")
    c.send(sn.publish(up, b"one", qos=1, msg_id=9))
    check(expect(c, sn.PUBACK).code == 0, "PUBACK")
    watch.expect(t.topic("up"), b"one")
    quiet(c)
    check([one.data for one in c.wake()] == [b"kept"], "the buffer")


@case("6.14-1", "6.12-3")
def publish_of_a_sleeper_where_it_is_off_gets_disconnect(t):
    c = t.connected(listener="polite", clean=False)
    up = c.register(t.topic("up"))
    c.sleep(60)
    c.send(sn.publish(up, b"x", qos=1, msg_id=9))
    expect(c, sn.DISCONNECT)


@case("5.4.19-2")
def pingreq_without_client_id_wakes_by_the_address(t):
    c = asleep(t)
    t.mqtt().publish(t.topic(), b"x", 1)
    c.send(sn.pingreq())
    got = expect(c, sn.PUBLISH)
    check(got.data == b"x", got)
    c._handle(got)
    expect(c, sn.PINGRESP)


@case("6.14-1")
def a_duration_of_0_is_a_disconnect(t):
    c = t.connected(clean=False)
    c.send(sn.disconnect(0))
    check(expect(c, sn.DISCONNECT).duration is None, "a duration")
    c.send(sn.pingreq())
    expect(c, sn.DISCONNECT)


@case("6.14-8", "7.2-2", slow=True)
def tolerance_is_half_below_a_minute(t):
    """4 s: alive at 5.5 s, lost at 6."""
    watch = t.watcher(t.topic("will"))
    asleep(t, duration=4, will=Will(t.topic("will"), b"gone"))
    begin = time.monotonic()
    watch.expect(t.topic("will"), b"gone")
    took = time.monotonic() - begin
    check(5.4 < took < 8, f"{took:.2f} s")


@case("7.2-2", slow=True)
def tolerance_is_a_tenth_above_a_minute(t):
    """61 s: lost between 67 and 70 s, of a keep alive."""
    watch = t.watcher(t.topic("will"))
    t.connected(duration=61, will=Will(t.topic("will"), b"gone"))
    begin = time.monotonic()
    watch.expect(t.topic("will"), b"gone", timeout=90)
    took = time.monotonic() - begin
    check(66 < took < 71, f"{took:.2f} s")
