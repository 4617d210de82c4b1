"""PUBLISH in both directions (sections 5.4.12 to 5.4.14, 6.6, 6.8, 6.10)."""

import sn_client as sn
from harness import case, check, expect, quiet, receives, refused
from sn_client import Predefined, Short


@case("6.6-1")
def qos_0_has_no_answer(t):
    c, watch = t.connected(), t.watcher(t.topic())
    c.publish(t.topic(), b"x")
    watch.expect(t.topic(), b"x")
    quiet(c)


@case("6.6-2")
def qos_1_gets_puback(t):
    c, watch = t.connected(), t.watcher(t.topic())
    c.publish(t.topic(), b"x", qos=1)
    watch.expect(t.topic(), b"x")
    puback = c.received(sn.PUBACK)[0]
    check(puback.topic_id == c.ids[t.topic()], puback)


@case("6.6-2")
def qos_1_without_a_subscriber_gets_puback_too(t):
    t.connected().publish(t.topic(), b"x", qos=1)


@case("6.6-3", "5.4.14-2")
def qos_2_up_and_down(t):
    c, watch = t.connected(), t.watcher(t.topic("up"))
    c.subscribe(t.topic("down"), qos=2)
    c.publish(t.topic("up"), b"up", qos=2)
    check(watch.expect(t.topic("up"), b"up").qos == 2, "QoS")
    t.mqtt().publish(t.topic("down"), b"down", 2)
    got = expect(c, sn.PUBLISH)
    c.send(sn.with_msg_id(sn.PUBREC, got.msg_id))
    check(expect(c, sn.PUBREL).msg_id == got.msg_id, "MsgId")
    c.send(sn.with_msg_id(sn.PUBCOMP, got.msg_id))
    c.ping()


@case("5.4.14-2", "6.13-1", slow=True)
def pubrel_is_repeated_until_pubcomp(t):
    c = t.connected(listener="quick")
    c.subscribe(t.topic(), qos=2)
    t.mqtt().publish(t.topic(), b"down", 2)
    got = expect(c, sn.PUBLISH)
    c.send(sn.with_msg_id(sn.PUBREC, got.msg_id))
    for _ in range(3):
        check(expect(c, sn.PUBREL, 6).msg_id == got.msg_id, "MsgId")
    c.send(sn.with_msg_id(sn.PUBCOMP, got.msg_id))
    quiet(c, 1.5)
    c.ping()


@case("6.6-4")
def an_unknown_id_is_invalid_whatever_the_qos(t):
    c = t.connected()
    for qos, msg_id in ((0, 0), (1, 7), (2, 8)):
        for topic in (4711, 0, 0xFFFF):
            c.send(sn.publish(topic, b"x", qos=qos, msg_id=msg_id))
            puback = expect(c, sn.PUBACK)
            check((puback.code, puback.topic_id, puback.msg_id) == (sn.INVALID_TOPIC_ID, topic, msg_id), puback)


@case("6.13-5")
def a_repeated_qos_1_publish_is_acknowledged_again(t):
    c = t.connected()
    topic_id = c.register(t.topic())
    for dup in (False, True, True):
        c.send(sn.publish(topic_id, b"x", qos=1, dup=dup, msg_id=5))
        check(expect(c, sn.PUBACK).code == 0, "PUBACK")


@case("6.13-5")
def a_pubrel_of_nothing_gets_pubcomp(t):
    c = t.connected()
    c.send(sn.with_msg_id(sn.PUBREL, 4242))
    check(expect(c, sn.PUBCOMP).msg_id == 4242, "MsgId")


@case("6.6-1")
def retained_up_and_down(t):
    c = t.connected()
    c.publish(t.topic(), b"kept", qos=1, retain=True)
    late = t.connected("late")
    late.subscribe(t.topic(), qos=1)
    got = receives(late, t.topic(), b"kept")
    check(got.retain, "retain flag")
    c.publish(t.topic(), b"", qos=1, retain=True)
    later = t.connected("later")
    later.subscribe(t.topic(), qos=1)
    quiet(later)


@case("5.4.12-2")
def empty_and_long_payloads(t):
    c, watch = t.connected(), t.watcher(t.topic())
    c.publish(t.topic(), b"", qos=1)
    watch.expect(t.topic(), b"")
    for size in (240, 248, 249, 250, 1100):
        c.publish(t.topic(), bytes(size), qos=1)
        watch.expect(t.topic(), bytes(size))
    c.subscribe(t.topic("down"), qos=1)
    m = t.mqtt()
    for size in (0, 247, 248, 249, 1100):
        m.publish(t.topic("down"), bytes(size), 1)
        receives(c, t.topic("down"), bytes(size))


@case("6.10-5")
def a_message_too_long_for_the_client_is_dropped_and_the_next_comes(t):
    c, m = t.connected(), t.mqtt()
    c.subscribe(t.topic(), qos=1)
    m.publish(t.topic(), bytes(1300), 1)
    m.publish(t.topic(), b"short", 1)
    receives(c, t.topic(), b"short")


@case("6.10-5")
def a_topic_too_long_to_register_is_dropped_and_the_next_comes(t):
    c, m = t.connected(listener="small"), t.mqtt()
    c.subscribe(f"{t.number}/#", qos=1)
    m.publish(f"{t.number}/" + "x" * 80, b"", 1)
    m.publish(f"{t.number}/y", b"fits", 1)
    receives(c, f"{t.number}/y", b"fits")


@case("6.10-2")
def a_refused_register_mutes_that_topic_and_the_client_stays(t):
    c, m = t.connected(), t.mqtt()
    c.subscribe(t.topic("+"), qos=1)
    c.register_code = lambda name: sn.NOT_SUPPORTED if name.endswith("no") else sn.ACCEPTED
    m.publish(t.topic("no"), b"1", 1)
    m.publish(t.topic("yes"), b"2", 1)
    receives(c, t.topic("yes"), b"2")
    m.publish(t.topic("no"), b"3", 1)
    m.publish(t.topic("yes"), b"4", 1)
    receives(c, t.topic("yes"), b"4")
    asked = [one.topic_name for one in c.received(sn.REGISTER)]
    check(asked.count(t.topic("no")) == 1, asked)
    c.ping()


@case("6.10-3")
def puback_invalid_topic_id_registers_again_and_keeps_the_message(t):
    c, m = t.connected(), t.mqtt()
    c.subscribe(t.topic(), qos=1)
    c.forget_topics()
    m.publish(t.topic(), b"not lost", 1)
    receives(c, t.topic(), b"not lost")
    check(len(c.received(sn.REGISTER)) == 1, "REGISTER")
    c.ping()


@case("6.13-1", "6.10-1", slow=True)
def a_lost_regack_repeats_register_and_the_message_comes_once(t):
    c, m = t.connected(listener="quick"), t.mqtt()
    c.subscribe(t.topic("+"), qos=1)
    m.publish(t.topic("new"), b"x", 1)
    first = expect(c, sn.REGISTER)
    again = expect(c, sn.REGISTER, 4)
    check((first.topic_id, first.msg_id) == (again.topic_id, again.msg_id), (first, again))
    c._handle(again)
    receives(c, t.topic("new"), b"x")
    c.idle(0.3)
    check(not c.inbox, "twice")


@case("6.8-1", "6.8-2", "7.1-1")
def qos_minus_one_is_routed_where_it_is_allowed_and_never_answered(t):
    watch = t.watcher("pre/one")
    stranger = t.stranger("open")
    mark = f"minus {t.number}".encode()
    stranger.send(sn.publish(Predefined(1), mark, qos=-1))
    while (got := watch.message()).payload != mark:
        pass
    check(got.qos == 0, got)
    short = t.watcher("m1", who="short")
    stranger.send(sn.publish(Short(b"m1"), mark, qos=-1))
    short.expect("m1", mark)
    stranger.send(sn.publish(1, b"a normal id", qos=-1))
    stranger.send(sn.publish(Predefined(4711), b"unknown", qos=-1))
    check(stranger.receive() is None, "an answer")


@case("6.8-3")
def qos_minus_one_is_not_routed_where_it_is_off(t):
    watch = t.watcher("m2")
    stranger = t.stranger()
    stranger.send(sn.publish(Short(b"m2"), b"x", qos=-1))
    check(stranger.receive() is None, "an answer")
    check(not watch.messages(), "routed")


@case("6.8-1")
def qos_minus_one_of_a_connected_client(t):
    watch, c = t.watcher("m3"), t.connected(listener="open")
    c.publish(Short(b"m3"), b"x", qos=-1)
    watch.expect("m3", b"x")
    quiet(c)


@case("6.8-4")
def qos_minus_one_from_a_sleeper_does_not_wake_it(t):
    watch, c = t.watcher("m4"), t.connected(listener="open", clean=False)
    c.subscribe(t.topic(), qos=1)
    c.sleep(60)
    t.mqtt().publish(t.topic(), b"kept", 1)
    c.publish(Short(b"m4"), b"x", qos=-1)
    watch.expect("m4", b"x")
    quiet(c)
    check([one.data for one in c.wake()] == [b"kept"], "the buffer")


@case("6.8-1")
def qos_minus_one_has_a_rate_cap(t):
    """5 in a second here."""
    watch, stranger = t.watcher("m5"), t.stranger("capped")
    for i in range(60):
        stranger.send(sn.publish(Short(b"m5"), b"%d" % i, qos=-1))
    got = watch.messages(0.6)
    check(1 <= len(got) <= 20, f"{len(got)} of 60")


@case("5.3.4-5")
def qos_minus_one_is_refused_in_subscribe(t):
    c = t.connected()
    c.send(sn.pack(sn.SUBSCRIBE, b"\x60\x00\x07" + t.topic().encode()))
    suback = expect(c, sn.SUBACK)
    check((suback.code, suback.msg_id) == (sn.NOT_SUPPORTED, 7), suback)
    refused(sn.NOT_SUPPORTED, c.register, "#")
