"""Updating the will (section 6.4), and what a will is when it fires."""

import sn_client as sn
from harness import case, check, expect
from sn_client import Will


def lose(client):
    """Goes silent: keep alive is 1 s in these cases."""
    client.close()


@case("6.4-1", slow=True)
def the_topic_update_keeps_the_message(t):
    """QoS and retain are new too."""
    watch = t.watcher(t.topic("#"))
    c = t.connected(duration=1, will=Will(t.topic("old"), b"message"))
    c.update_will_topic(Will(t.topic("new"), b"", qos=2, retain=True))
    lose(c)
    got = watch.expect(t.topic("new"), b"message")
    check(got.qos == 2, got)
    late = t.watcher(t.topic("new"), who="late")
    check(late.message().retain, "not retained")


@case("6.4-2", slow=True)
def the_message_update_keeps_the_topic(t):
    watch = t.watcher(t.topic("#"))
    c = t.connected(duration=1, will=Will(t.topic("will"), b"old", qos=1))
    c.update_will_message(b"new")
    c.update_will_message(b"newest")
    lose(c)
    check(watch.expect(t.topic("will"), b"newest").qos == 1, "QoS")
    check(not watch.messages(), "more than one will")


@case("6.4-3", "5.4.22-2", slow=True)
def an_empty_topic_update_deletes_both(t):
    watch, marker = t.watcher(t.topic("will")), t.watcher(t.topic("marker"), who="marker")
    c = t.connected("c", duration=1, will=Will(t.topic("will"), b"gone"))
    c.update_will_topic(None)
    other = t.connected("o", duration=1, will=Will(t.topic("marker"), b"later"))
    lose(c)
    lose(other)
    marker.expect(t.topic("marker"), b"later")
    check(not watch.messages(), "the deleted will fired")


@case("6.4-4", "6.13-5")
def updates_are_answered_each_time(t):
    c = t.connected(will=Will(t.topic("will"), b"gone"))
    for _ in range(3):
        c.send(sn.will_topic(Will(t.topic("next"), b"", qos=1), sn.WILLTOPICUPD))
        check(expect(c, sn.WILLTOPICRESP).code == 0, "code")
        c.send(sn.pack(sn.WILLMSGUPD, b"m"))
        check(expect(c, sn.WILLMSGRESP).code == 0, "code")
    for _ in range(2):
        c.send(sn.will_topic(None, sn.WILLTOPICUPD))
        check(expect(c, sn.WILLTOPICRESP).code == 0, "code")


@case("6.4-1", slow=True)
def an_update_stays_over_connect_with_will_0(t):
    watch = t.watcher(t.topic("#"))
    c = t.connected(clean=False, will=Will(t.topic("old"), b"old"))
    c.update_will_topic(Will(t.topic("new"), b""))
    c.update_will_message(b"new")
    c.disconnect()
    c.connect(clean=False, duration=1)
    lose(c)
    watch.expect(t.topic("new"), b"new")


@case("5.3.4-5")
def qos_minus_one_is_refused_in_a_will(t):
    c = t.client()
    c.send(sn.connect(t.id("c"), will=True))
    expect(c, sn.WILLTOPICREQ)
    c.send(sn.pack(sn.WILLTOPIC, b"\x60" + t.topic("will").encode()))
    message = c.next_message(5)
    if message is not None and message.type == sn.WILLMSGREQ:
        c.send(sn.pack(sn.WILLMSG, b"x"))
        message = c.next_message(5)
    check(message is not None and message.type == sn.CONNACK and message.code == sn.NOT_SUPPORTED, message)
    c = t.connected("d", will=Will(t.topic("will"), b"gone"))
    c.send(sn.pack(sn.WILLTOPICUPD, b"\x60" + t.topic("will").encode()))
    check(expect(c, sn.WILLTOPICRESP).code == sn.NOT_SUPPORTED, "code")


@case("6.11-3", slow=True)
def a_will_of_any_octets_and_of_none(t):
    watch = t.watcher(t.topic("#"))
    lose(t.connected("a", duration=1, will=Will(t.topic("a"), bytes(range(256)))))
    lose(t.connected("b", duration=1, will=Will(t.topic("b"), b"")))
    got = sorted((p.topic, p.payload) for p in (watch.message(), watch.message()))
    check(got == [(t.topic("a"), bytes(range(256))), (t.topic("b"), b"")], got)
