"""SUBSCRIBE and UNSUBSCRIBE (section 6.9), shared subscriptions, granted QoS."""

import sn_client as sn
from harness import case, check, expect, quiet, receives, refused
from sn_client import Predefined, Short


@case("6.9-1", "5.4.16-2")
def suback_has_the_id_of_a_topic_name(t):
    c = t.connected()
    suback = c.subscribe(t.topic(), qos=1)
    check(suback.topic_id not in (0, 0xFFFF) and suback.qos == 1, suback)
    t.mqtt().publish(t.topic(), b"x", 1)
    got = expect(c, sn.PUBLISH)
    check(got.topic == suback.topic_id, got)
    c._handle(got)


@case("6.9-2", "5.4.16-2")
def suback_of_a_filter_has_id_0(t):
    c = t.connected()
    for filter_of in (t.topic("+"), t.topic("#"), "+/" + t.name):
        for qos in (0, 1, 2):
            suback = c.subscribe(filter_of, qos=qos)
            check((suback.topic_id, suback.qos) == (0, qos), suback)


@case("6.9-4", "6.13-5")
def a_repeated_subscribe_gets_the_same_suback(t):
    c = t.connected()
    answers = []
    for dup in (False, True, True):
        c.send(sn.subscribe(t.topic(), 31, qos=1, dup=dup))
        suback = expect(c, sn.SUBACK)
        answers.append((suback.topic_id, suback.msg_id, suback.qos, suback.code))
    check(len(set(answers)) == 1, answers)
    t.mqtt().publish(t.topic(), b"once", 1)
    receives(c, t.topic(), b"once")
    c.idle(0.3)
    check(not c.inbox, "twice")


@case("6.9-3")
def filters_that_are_no_filter_are_refused(t):
    c = t.connected()
    for filter_of in ("a/#/b", "a+", "#a", ""):
        refused(sn.NOT_SUPPORTED, c.subscribe, filter_of)


@case("6.9-5")
def unsubscribe_by_each_kind_of_topic(t):
    c, m = t.connected(), t.mqtt()
    c.subscribe(t.topic(), qos=1)
    c.subscribe(t.topic("#"), qos=1)
    c.subscribe(Predefined(1002), qos=1)
    c.subscribe(Short(b"us"), qos=1)
    for topic in (t.topic(), t.topic("#"), Predefined(1002), Short(b"us")):
        c.unsubscribe(topic)
    for topic in (t.topic(), f"pre/of/{t.id('c')}", "us"):
        m.publish(topic, b"nobody", 1)
    quiet(c)
    # UNSUBACK always: of what was never there, of an unknown id, and again.
    for topic in (t.topic("never"), Predefined(4711), Short(b"zz"), t.topic()):
        c.unsubscribe(topic)


@case("6.9-1")
def a_second_subscribe_changes_the_qos(t):
    c, m = t.connected(), t.mqtt()
    c.subscribe(t.topic(), qos=0)
    c.subscribe(t.topic(), qos=2)
    m.publish(t.topic(), b"x", 2)
    check(receives(c, t.topic(), b"x").qos == 2, "QoS")


@case("6.9-1")
def shared_subscriptions_take_turns(t):
    a, b, m = t.connected("a"), t.connected("b"), t.mqtt()
    for c in (a, b):
        check(c.subscribe(f"$share/{t.name}/{t.topic()}", qos=1).topic_id == 0, "an id of a shared subscription")
    for i in range(10):
        m.publish(t.topic(), b"%d" % i, 1)
    got = []
    for c in (a, b):
        c.idle(0.7)
        got.append(sorted(int(one.data) for one in c.inbox))
    check(sorted(got[0] + got[1]) == list(range(10)), got)
    check(all(got), f"one got all: {got}")


@case("6.10-1")
def the_retained_message_follows_suback(t):
    t.mqtt().publish(t.topic("a"), b"kept", 1, retain=True)
    c = t.connected()
    c.subscribe(t.topic("+"), qos=1)
    got = receives(c, t.topic("a"), b"kept")
    check(got.retain, "retain flag")


@case("6.9-1")
def qos_is_the_lower_of_publish_and_subscription(t):
    c, m = t.connected(), t.mqtt()
    c.subscribe(t.topic("0"), qos=0)
    c.subscribe(t.topic("2"), qos=2)
    m.publish(t.topic("0"), b"x", 2)
    check(receives(c, t.topic("0"), b"x").qos == 0, "QoS")
    m.publish(t.topic("2"), b"x", 1)
    check(receives(c, t.topic("2"), b"x").qos == 1, "QoS")
