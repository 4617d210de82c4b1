"""Authentication and authorization of MQTT-SN clients: the same chain and rules as for MQTT."""

import sn_client as sn
from harness import case, check, expect, judge, quiet, receives, refused


@case("6.2-5", profile="auth")
def the_chain_gets_the_credentials_of_the_listener(t):
    c = t.client("allowed")
    c.connect()
    asked = [form for form in judge().asked if form.get("clientid") == t.id("allowed")]
    check(len(asked) == 1, asked)
    check((asked[0].get("username"), asked[0].get("password")) == (t.id("allowed"), "from-listener"), asked)


@case("6.2-4", profile="auth")
def repeats_of_connect_ask_the_chain_once(t):
    c = t.client("allowed")
    for _ in range(3):
        c.send(sn.connect(t.id("allowed")))
    check(expect(c, sn.CONNACK).code == 0, "CONNACK")
    c.idle(0.3)
    c.ping()
    asked = [form for form in judge().asked if form.get("clientid") == t.id("allowed")]
    check(len(asked) == 1, asked)


@case("6.2-5", profile="auth")
def a_denied_client_is_a_stranger(t):
    c = t.client("denied")
    refused(sn.NOT_SUPPORTED, c.connect)
    c.send(sn.subscribe(t.topic(), 1))
    expect(c, sn.DISCONNECT)


@case("6.2-5", profile="auth")
def a_denied_connect_takes_nothing_from_the_session(t):
    """The session of a client that was let in stays with it when another source is denied under its id."""
    c = t.client("allowed")
    c.connect(clean=False)
    c.subscribe(t.topic(), qos=1)
    refused(sn.CONGESTION, t.client("other", host=2, client_id="broken-" + t.id("x")).connect)
    peer = t.client("pub", client_id="allowed-pub-" + t.id("p"), host=3)
    peer.connect()
    peer.publish(t.topic(), b"x", qos=1)
    receives(c, t.topic(), b"x")


@case("6.9-3")
def rules_apply_to_each_kind_of_topic(t):
    """Topic 1004 is `denied/pre`."""
    c = t.connected()
    refused(sn.NOT_SUPPORTED, c.publish, sn.Predefined(1004), b"x", qos=1)
    refused(sn.NOT_SUPPORTED, c.subscribe, sn.Predefined(1004), qos=1)
    c.ping()


@case("6.9-3")
def messages_that_a_rule_hides_do_not_come(t):
    """`#` is allowed, and the deliveries of denied topics are too: rules are about what is asked for. Publishing is not."""
    c = t.connected()
    c.register("denied/t")
    c.send(sn.publish(c.ids.get("denied/t", 0) or c.register("denied/t"), b"x"))
    check(expect(c, sn.PUBACK).code == sn.NOT_SUPPORTED, "code")
    quiet(c)


@case("4.1-1")
def a_mountpoint_goes_before_all_topics(t):
    """site/${clientid}/ here."""
    prefix = f"site/{t.id('c')}/"
    watch, c = t.watcher(prefix + "#"), t.connected(listener="mounted")
    c.publish("up", b"up", qos=1)
    watch.expect(prefix + "up", b"up")
    c.subscribe("+", qos=1)
    t.mqtt().publish(prefix + "down", b"down", 1)
    receives(c, "down", b"down")


@case("6.6-5", "6.9-3", profile="auth")
def rules_that_cannot_be_asked_are_congestion(t):
    """The service fails for shaky/*: nothing is let through, and the client may try again later."""
    c = t.client("allowed")
    c.connect()
    topic_id = c.register("shaky/t")
    for qos, msg_id in ((0, 0), (1, 5), (2, 6)):
        c.send(sn.publish(topic_id, b"x", qos=qos, msg_id=msg_id))
        puback = expect(c, sn.PUBACK)
        check((puback.code, puback.msg_id) == (sn.CONGESTION, msg_id), puback)
    refused(sn.CONGESTION, c.subscribe, "shaky/t")
    c.publish(t.topic(), b"x", qos=1)
