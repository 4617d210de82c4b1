"""Rates of `[limits]`, `acl.deny_action`, `auth.bind_client_id`: what they are for MQTT clients they are here, with the answers
that MQTT-SN has. Each profile says its limits in harness.py."""

import time

import sn_client as sn
from harness import case, check, expect, listener, quiet, receives, refused, running, until
from sn_client import Predefined, Will


@case("6.6-5", profile="rates", slow=True)
def publishing_faster_than_the_rate_is_congestion(t):
    """limits.client.messages is 6/120s here, with another one after 20 s: refused whatever the QoS, and nothing of it is
    published."""
    watch, c = t.watcher(t.topic("#")), t.connected()
    topic_id = c.register(t.topic())
    for i in range(6):
        c.publish(t.topic(), b"%d" % i, qos=i % 3)
        if i % 3 == 0:
            c.ping()  # what is sent without an answer is taken before the next
    for qos, msg_id in ((0, 0), (1, 501), (2, 502)):
        c.send(sn.publish(topic_id, b"beyond", qos=qos, msg_id=msg_id))
        puback = expect(c, sn.PUBACK)
        check((puback.code, puback.msg_id, puback.topic_id) == (sn.CONGESTION, msg_id, topic_id), puback)
    c.ping()
    for i in range(6):
        watch.expect(t.topic(), b"%d" % i)
    until("another message", lambda: accepted(c.publish, t.topic(), b"later", qos=1), 60)
    watch.expect(t.topic(), b"later")
    check(not watch.messages(), "what was refused came")


@case("6.6-3", "6.6-5", profile="rates")
def a_repeat_of_what_was_taken_is_no_message_beyond_the_rate(t):
    c = t.connected()
    topic_id = c.register(t.topic())
    c.send(sn.publish(topic_id, b"two", qos=2, msg_id=77))
    expect(c, sn.PUBREC)
    for i in range(5):
        c.publish(t.topic(), b"%d" % i, qos=1)
    refused(sn.CONGESTION, c.publish, t.topic(), b"beyond", qos=1)
    c.send(sn.publish(topic_id, b"two", qos=2, dup=True, msg_id=77))
    check(expect(c, sn.PUBREC).msg_id == 77, "PUBREC")
    c.send(sn.with_msg_id(sn.PUBREL, 77))
    check(expect(c, sn.PUBCOMP).msg_id == 77, "PUBCOMP")


@case("6.6-5", "6.9-3", "6.4-4", profile="rates")
def more_bytes_than_the_rate_are_congestion(t):
    """limits.client.bytes is 3000/600s here: every request that an answer can refuse is refused, the others are served."""
    c = t.connected(will=Will(t.topic("will"), b"w"))
    c.publish(t.topic(), bytes(1000), qos=1)
    c.publish(t.topic(), bytes(5000), qos=1)  # it is let in, and what it takes beyond is owed
    refused(sn.CONGESTION, c.publish, t.topic(), b"x", qos=1)
    refused(sn.CONGESTION, c.register, t.topic("new"))
    refused(sn.CONGESTION, c.subscribe, t.topic("new"), qos=1)
    refused(sn.CONGESTION, c.update_will_topic, Will(t.topic("other"), b"w"))
    refused(sn.CONGESTION, c.update_will_message, b"other")
    c.unsubscribe(t.topic("new"))
    c.ping()
    c.sleep(30)
    check(c.wake() == [], "a message")
    c.disconnect()


@case("6.6-5", profile="rates")
def a_sleeper_that_publishes_too_fast_hears_congestion_and_sleeps_on(t):
    c = t.connected(clean=False)
    topic_id = c.register(t.topic())
    c.sleep(60)
    for i in range(6):
        c.send(sn.publish(topic_id, b"%d" % i, qos=1, msg_id=i + 1))
        check(expect(c, sn.PUBACK).code == sn.ACCEPTED, i)
    c.send(sn.publish(topic_id, b"beyond", qos=1, msg_id=9))
    check(expect(c, sn.PUBACK).code == sn.CONGESTION, "code")
    check(c.wake() == [], "a message")


@case("6.2-5", profile="rates")
def connecting_faster_than_the_rate_of_a_client_is_congestion(t):
    """limits.client.connects is 3/120s here. Copies of a CONNECT are not counted, and the connection that is there stays."""
    c = t.client()
    for _ in range(2):
        c.connect(clean=False)
        c.disconnect()
    c.connect(clean=False)
    for _ in range(5):
        c.send(sn.connect(t.id("c"), clean=False))
        check(expect(c, sn.CONNACK).code == sn.ACCEPTED, "a copy")
    c.subscribe(t.topic(), qos=1)
    c.send(sn.connect(t.id("c"), clean=True))
    check(expect(c, sn.CONNACK).code == sn.CONGESTION, "CONNACK")
    t.mqtt().publish(t.topic(), b"still there", 1)
    receives(c, t.topic(), b"still there")
    t.client("other").connect()


@case("6.2-5", profile="rates")
def connecting_faster_than_the_rate_of_an_address_is_congestion(t):
    """limits.address.connects is 16/120s here."""
    for i in range(16):
        t.connected(f"c{i}", host=5)
    refused(sn.CONGESTION, t.client("c16", host=5).connect)
    t.connected("c17", host=6)
    # Behind a NAT that is known an address says nothing of its clients.
    for i in range(18):
        t.connected(f"n{i}", listener="nat", host=5)


@case("6.8-2", "6.8-3", profile="rates")
def qos_minus_one_beyond_the_rate_of_its_address_is_silent_and_not_routed(t):
    """limits.address.messages is 12/120s here."""
    watch, stranger = t.watcher("zz"), t.stranger()
    for i in range(20):
        stranger.send(sn.publish(sn.Short(b"zz"), b"%d" % i, qos=-1))
    for i in range(12):
        watch.expect("zz", b"%d" % i)
    check(not watch.messages() and stranger.receive() is None, "beyond the rate")


@case("5.4.13-2", "6.12-3", profile="rates")
def deny_action_disconnect_ends_the_connection_after_a_refused_publish(t):
    """PUBACK 3, DISCONNECT, and the will: to the client it is no clean end. The session stays."""
    watch = t.watcher(t.topic("will"))
    for qos in (0, 1, 2):
        c = t.connected(f"c{qos}", clean=False, will=Will(t.topic("will"), b"gone %d" % qos, 1))
        topic_id = c.register("denied/t")
        c.send(sn.publish(topic_id, b"x", qos=qos, msg_id=qos))
        puback = expect(c, sn.PUBACK)
        check((puback.code, puback.msg_id) == (sn.NOT_SUPPORTED, qos), puback)
        expect(c, sn.DISCONNECT)
        watch.expect(t.topic("will"), b"gone %d" % qos)
        c.send(sn.publish(topic_id, b"x", qos=1, msg_id=9))
        expect(c, sn.DISCONNECT)  # a stranger now
        c.connect(clean=False)


@case("6.9-3", "6.8-2", profile="rates")
def deny_action_disconnect_is_about_publishing_only(t):
    """Not a refused subscription, and of QoS -1 nothing is said. Topic 1004 is `denied/pre`."""
    c = t.connected()
    refused(sn.NOT_SUPPORTED, c.subscribe, "denied/t")
    c.send(sn.publish(Predefined(1004), b"x", qos=-1))
    quiet(c)
    c.ping()


@case("5.4.13-2", profile="rates")
def deny_action_disconnect_ends_a_sleeper_that_publishes(t):
    watch = t.watcher(t.topic("will"))
    c = t.connected(clean=False, will=Will(t.topic("will"), b"gone", 1))
    topic_id = c.register("denied/t")
    c.sleep(60)
    c.send(sn.publish(topic_id, b"x", qos=1, msg_id=5))
    check(expect(c, sn.PUBACK).code == sn.NOT_SUPPORTED, "PUBACK")
    expect(c, sn.DISCONNECT)
    watch.expect(t.topic("will"), b"gone")


@case("6.2-5", profile="rates")
def a_client_id_stays_with_the_user_of_its_session(t):
    """auth.bind_client_id: the listeners `ann` and `eve` have these user names."""
    c = t.connected(listener="ann", clean=False)
    c.subscribe(t.topic(), qos=1)
    thief = t.client(listener="eve", host=2)
    refused(sn.NOT_SUPPORTED, thief.connect)
    refused(sn.NOT_SUPPORTED, thief.connect, clean=False, will=Will(t.topic("will"), b"w"))
    c.sleep(60)
    t.mqtt().publish(t.topic(), b"for ann", 1)
    refused(sn.NOT_SUPPORTED, thief.connect, clean=False)
    thief.send(sn.pingreq(t.id("c")))
    expect(thief, sn.DISCONNECT)
    got = c.wake()
    check([one.data for one in got] == [b"for ann"], got)
    c.disconnect()
    refused(sn.NOT_SUPPORTED, thief.connect, clean=False)
    c.connect(clean=True)
    c.disconnect()
    # The clean session ended, and with it whose it was.
    until("the session is free", lambda: accepted(thief.connect))


def accepted(action, *words, **options):
    try:
        action(*words, **options)
    except sn.Refused:
        time.sleep(0.5)
        return False
    return True


@case("6.2-5", profile="own", slow=True)
def a_client_id_stays_with_its_user_over_a_restart(t):
    from exact import sn_port

    ports = {name: sn_port() for name in ("ann", "eve")}
    text = "".join(listener(name, f'username = "{name}"\n', bind=f"127.0.0.1:{port}") for name, port in ports.items())
    with running(t.binary, text + "[auth]\nbind_client_id = true\n") as broker:
        c = t.connected(listener="ann", broker=broker, clean=False)
        c.subscribe(t.topic(), qos=1)
        c.sleep(600)
        t.mqtt(broker=broker).publish(t.topic(), b"for ann", 1)
        broker.kill()
        broker.start()
        thief = t.client(listener="eve", broker=broker, host=2)
        refused(sn.NOT_SUPPORTED, thief.connect, clean=False)
        thief.send(sn.pingreq(t.id("c")))
        expect(thief, sn.DISCONNECT)
        got = c.wake()
        check([one.data for one in got] == [b"for ann"], got)
